/*-------------------------------------------------------------------------
 *
 * max_join.c
 *		A join of rows with the highest of their group, as a rank.
 *
 *		SELECT … FROM (SELECT k, v, … FROM s) b
 *		         JOIN (SELECT k, max(v) AS m FROM s GROUP BY k) g ON b.k = g.k AND b.v = g.m
 *
 * is how the rows with the highest v of each k are often written.  As a join, all rows of s would
 * be kept, as each might be the highest one of its group.  It is the same as
 *
 *		SELECT … FROM (SELECT k, v, …, rank() OVER (PARTITION BY k ORDER BY v DESC) AS r FROM s) b
 *		WHERE b.r <= 1 AND b.k IS NOT NULL AND b.v IS NOT NULL
 *
 * and that forgets the rows that are not among the first (reduce.c).  Both sides must read the
 * same stream under the same condition, and the join must equate all keys of the group.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "compat.h"
#include "plan/cut_internal.h"
#include "plan/node.h"

#define RANK_COLUMN	"sx_rank"
#define INT8_LE_OPERATOR 414		/* <= (bigint, bigint), which has no name in pg_operator_d.h */

typedef struct MaxJoin
{
	Query	   *query;
	Index		rows;			/* varno of b … */
	Index		groups;			/* … and of g */
	Query	   *below;			/* SELECT … of b */
	Query	   *above;			/* … and of g */
	AttrNumber *partner;		/* column of b by column of g; 0: none */
	List	   *quals;			/* conditions that are not of the match */
} MaxJoin;

/* A query over one stream, row by row or with GROUP BY and nothing more. */
static bool
is_plain(Query *query)
{
	RangeTblRef *ref = list_length(query->jointree->fromlist) != 1 ? NULL :
		linitial(query->jointree->fromlist);

	return ref != NULL && IsA(ref, RangeTblRef) && query->setOperations == NULL &&
		rt_fetch(ref->rtindex, query->rtable)->rtekind == RTE_RELATION && ref->rtindex == 1 &&
		query->groupingSets == NIL && query->havingQual == NULL && query->distinctClause == NIL &&
		query->limitCount == NULL && query->limitOffset == NULL && query->sortClause == NIL &&
		!query->hasWindowFuncs && !query->hasSubLinks && !query->hasTargetSRFs &&
		query->rowMarks == NIL && query->cteList == NIL &&
		linitial_node(RangeTblEntry, query->rtable)->tablesample == NULL &&
		sx_subtree_streams(query, (Node *) query->jointree) == 1;
}

static bool
same_rows(Query *one, Query *other)
{
	return linitial_node(RangeTblEntry, one->rtable)->relid ==
		linitial_node(RangeTblEntry, other->rtable)->relid &&
		equal(one->jointree->quals, other->jointree->quals);
}

/* max() or min() and their like: the operator that puts their result first. */
static Oid
first_operator(Aggref *agg)
{
	HeapTuple	tuple;
	Oid			result;

	if (!IsA(agg, Aggref) || agg->aggfilter != NULL || agg->aggdistinct != NIL ||
		agg->aggorder != NIL || list_length(agg->args) != 1 || agg->aggkind != AGGKIND_NORMAL)
		return InvalidOid;
	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(agg->aggfnoid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", agg->aggfnoid);
	result = ((Form_pg_aggregate) GETSTRUCT(tuple))->aggsortop;
	ReleaseSysCache(tuple);
	return result;
}

/* Keys and one such aggregate, all of them shown? */
static bool
is_highest(Query *query)
{
	int			aggregates = 0;
	ListCell   *lc;

	if (!is_plain(query) || query->groupClause == NIL)
		return false;
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (tle->resjunk)
			return false;
		if (OidIsValid(first_operator((Aggref *) tle->expr)))
			aggregates++;
		else if (tle->ressortgroupref == 0)
			return false;
	}
	return aggregates == 1 && list_length(query->targetList) == list_length(query->groupClause) + 1;
}

static bool
is_row_by_row(Query *query)
{
	return is_plain(query) && !query->hasAggs && query->groupClause == NIL;
}

/* ---------- the match ---------- */

/* Values that are equal are the same, so one may be shown for the other. */
static bool
is_same_when_equal(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID || type == DATEOID ||
		type == TIMESTAMPOID || type == TIMESTAMPTZOID;
}

/* The operator by which a column of g is equal to itself. */
static Oid
equality_of(Query *above, TargetEntry *tle)
{
	Oid			first = first_operator((Aggref *) tle->expr);

	if (OidIsValid(first))
		return get_equality_op_for_ordering_op(first, NULL);
	return get_sortgroupref_clause(tle->ressortgroupref, above->groupClause)->eqop;
}

/* Does the condition say that a column of g is that of b which it is made of? */
static bool
match_qual(MaxJoin *join, Node *qual)
{
	OpExpr	   *op = (OpExpr *) qual;
	Var		   *rows;
	Var		   *groups;
	TargetEntry *below;
	TargetEntry *above;
	Node	   *made_of;

	if (!IsA(qual, OpExpr) || list_length(op->args) != 2 || !IsA(linitial(op->args), Var) ||
		!IsA(lsecond(op->args), Var))
		return false;
	rows = linitial(op->args);
	groups = lsecond(op->args);
	if (rows->varno == join->groups)
	{
		rows = lsecond(op->args);
		groups = linitial(op->args);
	}
	if (rows->varno != join->rows || groups->varno != join->groups ||
		rows->varattno <= 0 || groups->varattno <= 0 || join->partner[groups->varattno] != 0 ||
		rows->vartype != groups->vartype || rows->varcollid != groups->varcollid)
		return false;
	below = get_tle_by_resno(join->below->targetList, rows->varattno);
	above = get_tle_by_resno(join->above->targetList, groups->varattno);
	made_of = OidIsValid(first_operator((Aggref *) above->expr)) ?
		(Node *) linitial_node(TargetEntry, ((Aggref *) above->expr)->args)->expr : (Node *) above->expr;
	if (op->opno != equality_of(join->above, above) || !equal(below->expr, made_of))
		return false;
	join->partner[groups->varattno] = rows->varattno;
	return true;
}

/* Columns of g, outside the match, whose value might look otherwise than that of b. */
static bool
shows_other_walker(Node *node, MaxJoin *join)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return (((Var *) node)->varno == join->groups && !is_same_when_equal(((Var *) node)->vartype)) ||
			((((Var *) node)->varno == join->groups || ((Var *) node)->varno == join->rows) &&
			 ((Var *) node)->varattno <= 0);
	return expression_tree_walker(node, shows_other_walker, join);
}

static bool
match_quals(MaxJoin *join, List *quals)
{
	ListCell   *lc;

	join->partner = palloc0(sizeof(AttrNumber) * (list_length(join->above->targetList) + 1));
	foreach(lc, quals)
	{
		if (!match_qual(join, lfirst(lc)))
			join->quals = lappend(join->quals, lfirst(lc));
	}
	for (int i = 1; i <= list_length(join->above->targetList); i++)
	{
		if (join->partner[i] == 0)
			return false;
	}
	return !shows_other_walker((Node *) join->quals, join) &&
		!shows_other_walker((Node *) join->query->targetList, join) &&
		!shows_other_walker(join->query->havingQual, join);
}

/* The two sides of an inner join and all its conditions; false: it is something else. */
static bool
sides(Query *query, Index *left, Index *right, List **quals)
{
	List	   *from = query->jointree->fromlist;
	JoinExpr   *join = from == NIL ? NULL : linitial(from);
	Node	   *l = NULL;
	Node	   *r = NULL;

	*quals = make_ands_implicit((Expr *) copyObject(query->jointree->quals));
	if (list_length(from) == 2)
	{
		l = linitial(from);
		r = lsecond(from);
	}
	else if (list_length(from) == 1 && IsA(join, JoinExpr) && join->jointype == JOIN_INNER)
	{
		l = join->larg;
		r = join->rarg;
		*quals = list_concat(*quals, make_ands_implicit((Expr *) copyObject(join->quals)));
	}
	if (l == NULL || !IsA(l, RangeTblRef) || !IsA(r, RangeTblRef))
		return false;
	*left = ((RangeTblRef *) l)->rtindex;
	*right = ((RangeTblRef *) r)->rtindex;
	return true;
}

/* What a side shows; a stream shows its columns. */
static Query *
shown_by(Query *query, Index varno)
{
	RangeTblEntry *rte = rt_fetch(varno, query->rtable);

	if (rte->rtekind == RTE_SUBQUERY && !rte->lateral && !OidIsValid(sx_node_of(rte)))
		return rte->subquery;
	if (rte->rtekind == RTE_RELATION && rte->tablesample == NULL)
		return sx_node_query(rte->relid);
	return NULL;
}

static bool
match_sides(MaxJoin *join, Index rows, Index groups, List *quals)
{
	join->rows = rows;
	join->groups = groups;
	join->quals = NIL;
	join->above = shown_by(join->query, groups);
	if (join->above == NULL || !is_highest(join->above))
		return false;
	join->below = shown_by(join->query, rows);
	return join->below != NULL && is_row_by_row(join->below) &&
		same_rows(join->below, join->above) && match_quals(join, quals);
}

/* ---------- the rank ---------- */

static SortGroupClause *
sort_by(MaxJoin *join, AttrNumber column, Oid equality, Oid first)
{
	SortGroupClause *clause = makeNode(SortGroupClause);
	TargetEntry *tle = get_tle_by_resno(join->below->targetList, join->partner[column]);
	bool		reverse;

	tle->ressortgroupref = tle->resno;
	clause->tleSortGroupRef = tle->resno;
	clause->eqop = equality;
	clause->sortop = first;
	clause->nulls_first = false;
	(void) get_equality_op_for_ordering_op(first, &reverse);
	sx_set_reverse(clause, reverse);
	return clause;
}

static void
add_rank(MaxJoin *join)
{
	WindowFunc *rank = makeNode(WindowFunc);
	WindowClause *window = makeNode(WindowClause);
	ListCell   *lc;

	foreach(lc, join->above->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		Oid			first = first_operator((Aggref *) tle->expr);

		if (OidIsValid(first))
			window->orderClause = list_make1(sort_by(join, tle->resno,
													 equality_of(join->above, tle), first));
		else
			window->partitionClause =
				lappend(window->partitionClause,
						sort_by(join, tle->resno, equality_of(join->above, tle),
								get_sortgroupref_clause(tle->ressortgroupref,
														join->above->groupClause)->sortop));
	}
	window->frameOptions = FRAMEOPTION_DEFAULTS;
	window->winref = 1;
	rank->winfnoid = F_RANK_;
	rank->wintype = INT8OID;
	rank->winref = 1;
	rank->location = -1;
	join->below->windowClause = list_make1(window);
	join->below->hasWindowFuncs = true;
	join->below->targetList =
		lappend(join->below->targetList,
				makeTargetEntry((Expr *) rank, list_length(join->below->targetList) + 1,
								pstrdup(RANK_COLUMN), false));
}

/* Columns of g as those of b. */
static Node *
rows_mutator(Node *node, MaxJoin *join)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varno == join->groups)
	{
		Var		   *var = copyObject((Var *) node);

		var->varno = var->varnosyn = join->rows;
		var->varattno = var->varattnosyn = join->partner[var->varattno];
		return (Node *) var;
	}
	return expression_tree_mutator(node, rows_mutator, join);
}

static List *
conditions(MaxJoin *join)
{
	TargetEntry *rank = llast_node(TargetEntry, join->below->targetList);
	List	   *quals = (List *) rows_mutator((Node *) join->quals, join);

	for (int i = 1; i <= list_length(join->above->targetList); i++)
	{
		NullTest   *test = makeNode(NullTest);

		test->arg = (Expr *) makeVarFromTargetEntry(join->rows,
													get_tle_by_resno(join->below->targetList,
																	 join->partner[i]));
		test->nulltesttype = IS_NOT_NULL;
		test->location = -1;
		quals = lappend(quals, test);
	}
	return lappend(quals,
				   make_opclause(INT8_LE_OPERATOR, BOOLOID, false,
								 (Expr *) makeVarFromTargetEntry(join->rows, rank),
								 (Expr *) makeConst(INT8OID, -1, InvalidOid, sizeof(int64),
													Int64GetDatum(1), false, FLOAT8PASSBYVAL),
								 InvalidOid, InvalidOid));
}

static void
replace_join(MaxJoin *join)
{
	Query	   *query = join->query;
	ListCell   *lc;

	add_rank(join);
	query->targetList = (List *) rows_mutator((Node *) query->targetList, join);
	query->havingQual = rows_mutator(query->havingQual, join);
	query->jointree = makeFromExpr(list_make1(makeNode(RangeTblRef)),
								   (Node *) make_ands_explicit(conditions(join)));
	linitial_node(RangeTblRef, query->jointree->fromlist)->rtindex = join->rows;
	sx_rte_show(rt_fetch(join->rows, query->rtable), join->below);
	sx_blank_entry(rt_fetch(join->groups, query->rtable));
	foreach(lc, query->rtable)
	{
		if (lfirst_node(RangeTblEntry, lc)->rtekind == RTE_JOIN)
			sx_blank_entry(lfirst(lc));
	}
}

bool
sx_max_join_as_rank(Query *query)
{
	MaxJoin		join = {query};
	Index		left;
	Index		right;
	List	   *quals;

	if (query->hasSubLinks || query->setOperations != NULL || !sides(query, &left, &right, &quals) ||
		(!match_sides(&join, left, right, quals) && !match_sides(&join, right, left, quals)))
		return false;
	replace_join(&join);
	return true;
}
