/*-------------------------------------------------------------------------
 *
 * cut.c
 *		Cutting a query into nodes.
 *
 * Below, each part of FROM that is row by row over one stream, joins to tables
 * included, becomes a node that keeps its rows: just the columns that are asked for
 * above, of the rows that WHERE lets through.  A subquery that aggregates becomes a node,
 * which may be cut in turn.  What is left is a query over nodes alone.
 *
 *		SELECT k, percentile_cont(0.5) WITHIN GROUP (ORDER BY x)
 *		FROM s JOIN t USING (k) WHERE x > 0 GROUP BY k
 *
 * becomes a node (SELECT k, x FROM s JOIN t USING (k) WHERE x > 0), appended to, and
 * the aggregate over it.  So tables are read when a row arrives, never again: what a
 * later change of a table would do to the past, recomputing does not.
 *
 * Before that, CTEs and plain views over streams are put in the place where they are
 * read.  Set operations have a node for each branch.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_aggregate.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_clause.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"

#include "catalog/sx_catalog.h"
#include "compat.h"
#include "fdw/stream.h"
#include "plan/node.h"

static void cut_block(Query *query, SxNodeMaker *maker);

/* A part of FROM that becomes a node. */
typedef struct Leaf
{
	Node	   *subtree;		/* of the jointree */
	Bitmapset  *relids;			/* what is in it */
	bool		nullable;		/* no condition above may move into it */
	bool		alone;			/* it is the whole FROM */
	Query	   *query;			/* of the node */
	Index		varno;			/* of the node, above */
	List	   *wholes;			/* expressions that it computes, not only columns */
	const char *keep;			/* reduce.c: the rows that it must keep; NULL: all */
} Leaf;

static void
refuse(const char *message, const char *hint)
{
	SxRefusal	refusal;

	sx_refuse(&refusal, pstrdup(message), pstrdup(hint));
	sx_report_refusal(&refusal);
}

/* ---------- what is there ---------- */

typedef struct ViewContext
{
	List	   *seen;
	bool		changing;		/* views with emit = 'final' do not count */
} ViewContext;

/* A view's query names the view itself among its entries: seen ends that. */
static bool
view_walker(Node *node, ViewContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind != RTE_RELATION)
			return false;
		if (sx_relation_kind(rte->relid) == SX_REL_VIEW)
			return !context->changing || !sx_is_final_view(rte->relid);
		if (!sx_is_view(rte->relid) || list_member_oid(context->seen, rte->relid) ||
			sx_is_barrier(rte->relid))
			return false;
		context->seen = lappend_oid(context->seen, rte->relid);
		return view_walker((Node *) sx_view_query(rte->relid), context);
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, view_walker, context, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, view_walker, context);
}

/* Does it read a continuous view? */
bool
sx_reads_continuous_view(Node *node)
{
	ViewContext context = {NIL, false};

	return view_walker(node, &context);
}

bool
sx_reads_changing_view(Node *node)
{
	ViewContext context = {NIL, true};

	return view_walker(node, &context);
}

static bool
reads_node(Node *node)
{
	return sx_node_reads_stream(node) || sx_reads_continuous_view(node);
}

typedef struct RelidsContext
{
	Bitmapset  *relids;
} RelidsContext;

static bool
relids_walker(Node *node, RelidsContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblRef))
		context->relids = bms_add_member(context->relids, ((RangeTblRef *) node)->rtindex);
	if (IsA(node, JoinExpr) && ((JoinExpr *) node)->rtindex != 0)
		context->relids = bms_add_member(context->relids, ((JoinExpr *) node)->rtindex);
	if (IsA(node, Query) || IsA(node, SubLink))
		return false;
	return expression_tree_walker(node, relids_walker, context);
}

static Bitmapset *
relids_of(Node *subtree)
{
	RelidsContext context = {NULL};

	(void) relids_walker(subtree, &context);
	return context.relids;
}

static bool
subtree_reads_view(const Query *query, Node *subtree)
{
	Bitmapset  *relids = relids_of(subtree);
	int			i = -1;

	while ((i = bms_next_member(relids, i)) >= 0)
	{
		RangeTblEntry *rte = rt_fetch(i, query->rtable);

		if (sx_reads_changing_view((Node *) rte) ||
			sx_reads_changing_view((Node *) rte->subquery))
			return true;
	}
	return false;
}

/* 0: reads tables only; 1: row by row over one stream; -1: neither. */
static int
subtree_streams(Query *query, Node *subtree)
{
	SxRefusal	refusal = {NULL, NULL};

	return subtree_reads_view(query, subtree) ? -1 : sx_from_streams(query, subtree, &refusal);
}

bool
sx_is_single_node(Query *query)
{
	SxRefusal	refusal = {NULL, NULL};

	return !sx_reads_changing_view((Node *) query) && sx_can_keep_alone(query, &refusal);
}

/* What an entry was is out of reach. */
static void
blank_entry(RangeTblEntry *rte)
{
	Alias	   *eref = rte->eref;

	memset(rte, 0, sizeof(RangeTblEntry));
	rte->type = T_RangeTblEntry;
	rte->rtekind = RTE_RESULT;
	rte->eref = makeAlias(eref->aliasname, NIL);
}

/* ---------- CTEs and views in their place ---------- */

typedef struct ExpandContext
{
	const SxLevel *level;
} ExpandContext;

static void expand_query(Query *query, const SxLevel *parent);

static bool
expand_walker(Node *node, ExpandContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		expand_query((Query *) node, context->level);
		return false;
	}
	return expression_tree_walker(node, expand_walker, context);
}

static void
expand_cte(const SxLevel *level, RangeTblEntry *rte)
{
	const SxLevel *defined_at;
	CommonTableExpr *cte = sx_find_cte(level, rte, &defined_at);
	int			up = rte->ctelevelsup;
	Query	   *query;

	if (cte->cterecursive)
		refuse("WITH RECURSIVE is not supported in this continuous view",
			   "A recursive query over tables can be made a view of its own and be joined to the stream.");
	query = copyObject(castNode(Query, cte->ctequery));
	IncrementVarSublevelsUp((Node *) query, up, 1);
	rte->ctename = NULL;
	sx_rte_show(rte, query);
}

/* The query of a plain view, without the entries that stand for the view itself. */
static Query *
plain_view_query(Oid view)
{
	Query	   *query = sx_view_query(view);
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_RELATION && rte->relid == view)
			blank_entry(rte);
	}
	return query;
}

/* A plain view that is not row by row is what its query is. */
static void
expand_view(RangeTblEntry *rte)
{
	if (sx_relation_kind(rte->relid) == SX_REL_VIEW)
	{
		sx_join_check_reader(rte->relid);
		if (!sx_is_final_view(rte->relid))
			sx_rte_show(rte, sx_node_query(rte->relid));
	}
	else if (sx_relation_kind(rte->relid) == SX_REL_NONE && sx_is_view(rte->relid) &&
			 reads_node((Node *) sx_view_query(rte->relid)) &&
			 (sx_reads_continuous_view((Node *) rte) || !sx_is_row_wise(sx_view_query(rte->relid))))
		sx_rte_show(rte, plain_view_query(rte->relid));
}

static void
expand_query(Query *query, const SxLevel *parent)
{
	SxLevel		level = {query, parent};
	ExpandContext context = {&level};
	ListCell   *lc;

	sx_flatten_group_exprs(query);
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_CTE)
			expand_cte(&level, rte);
		else if (rte->rtekind == RTE_RELATION)
			expand_view(rte);
		if (rte->rtekind == RTE_SUBQUERY && !OidIsValid(sx_node_of(rte)))
			expand_query(rte->subquery, &level);
	}
	(void) query_tree_walker(query, expand_walker, &context,
							 QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES);
	query->cteList = NIL;
}

/* ---------- finding the leaves ---------- */

static void
add_leaf(List **leaves, Node *subtree, bool nullable)
{
	Leaf	   *leaf = palloc0(sizeof(Leaf));

	leaf->subtree = subtree;
	leaf->relids = relids_of(subtree);
	leaf->nullable = nullable;
	*leaves = lappend(*leaves, leaf);
}

/* A subquery that is no part of a leaf: a node of its own, or cut where it stands. */
static void
cut_entry(RangeTblEntry *rte, const char *rank_condition, SxNodeMaker *maker)
{
	if (rte->rtekind != RTE_SUBQUERY)
		refuse("a function that reads a stream is not supported in a continuous view",
			   "Call it in a derived stream, which is evaluated per batch: CREATE STREAM … AS SELECT … FROM f().");
	if (OidIsValid(sx_node_of(rte)))
		return;
	if (contain_vars_of_level((Node *) rte->subquery, 1))
		cut_block(rte->subquery, maker);
	else
	{
		maker->rank_condition = rank_condition;
		maker->unshared = rank_condition != NULL;
		sx_rte_show(rte, sx_node_query(sx_make_node(maker, rte->subquery)));
	}
}

static void
refuse_table_beside_nodes(void)
{
	refuse("a table beside a join of streams or an aggregate is not supported in a continuous view",
		   "Join the table to a stream, in a subquery: FROM (SELECT … FROM stream JOIN table …) s JOIN …; it is read when the row arrives.");
}

/* A join of a stream to tables that is not row by row says itself why. */
static void
check_outer_join(Query *query, JoinExpr *join)
{
	SxRefusal	refusal = {NULL, NULL};

	if (join->jointype != JOIN_INNER &&
		(subtree_streams(query, join->larg) == 0 || subtree_streams(query, join->rarg) == 0) &&
		sx_from_streams(query, (Node *) join, &refusal) < 0)
		sx_report_refusal(&refusal);
}

static void find_leaves(Query *query, Node *node, bool nullable, List **leaves,
						SxNodeMaker *maker);

static void
find_in_join(Query *query, JoinExpr *join, bool nullable, List **leaves, SxNodeMaker *maker)
{
	bool		left = nullable || join->jointype == JOIN_RIGHT || join->jointype == JOIN_FULL;
	bool		right = nullable || join->jointype == JOIN_LEFT || join->jointype == JOIN_FULL;

	find_leaves(query, join->larg, left, leaves, maker);
	find_leaves(query, join->rarg, right, leaves, maker);
}

static void
find_leaves(Query *query, Node *node, bool nullable, List **leaves, SxNodeMaker *maker)
{
	int			streams = subtree_streams(query, node);
	ListCell   *lc;

	if (streams < 0 && IsA(node, JoinExpr))
		check_outer_join(query, (JoinExpr *) node);
	if (streams == 0)
		refuse_table_beside_nodes();
	else if (streams == 1)
		add_leaf(leaves, node, nullable);
	else if (IsA(node, RangeTblRef))
	{
		Index		varno = ((RangeTblRef *) node)->rtindex;

		cut_entry(rt_fetch(varno, query->rtable),
				  nullable ? NULL : sx_rank_condition(query, varno), maker);
	}
	else if (IsA(node, JoinExpr))
		find_in_join(query, (JoinExpr *) node, nullable, leaves, maker);
	else
	{
		foreach(lc, castNode(FromExpr, node)->fromlist)
			find_leaves(query, lfirst(lc), nullable, leaves, maker);
	}
}

/* ---------- conditions ---------- */

static bool
sublink_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink) && reads_node(((SubLink *) node)->subselect))
		return true;
	return expression_tree_walker(node, sublink_walker, context);
}

static bool
reads_node_in_sublink(Node *node)
{
	return sublink_walker(node, NULL);
}

/* Can the condition be tested when the row arrives? */
static bool
belongs_to(Node *qual, const Leaf *leaf)
{
	Bitmapset  *used = pull_varnos(NULL, qual);

	return !leaf->nullable && !bms_is_empty(used) && bms_is_subset(used, leaf->relids) &&
		!contain_vars_of_level(qual, 1) && !reads_node_in_sublink(qual);
}

/* Splits WHERE: what a leaf can test goes into it. */
static List *
move_conditions(Query *query, List *leaves, bool single)
{
	List	   *quals = make_ands_implicit((Expr *) query->jointree->quals);
	List	   *moved = NIL;
	List	   *kept = NIL;
	Leaf	   *leaf = leaves == NIL ? NULL : linitial(leaves);
	ListCell   *lc;

	foreach(lc, quals)
	{
		Node	   *qual = lfirst(lc);
		ListCell   *l;
		Leaf	   *found = NULL;

		foreach(l, leaves)
		{
			if (belongs_to(qual, lfirst(l)))
				found = lfirst(l);
		}
		/* A condition without columns, in a query with one leaf. */
		if (single && found == NULL && !contain_vars_of_level(qual, 1) &&
			!reads_node_in_sublink(qual))
			found = leaf;
		if (found == NULL)
			kept = lappend(kept, qual);
		else
			moved = lappend(moved, list_make2(found, qual));
	}
	query->jointree->quals = (Node *) (kept == NIL ? NULL : make_ands_explicit(kept));
	return moved;
}

/* ---------- what is computed below ---------- */

/* Expressions by which the query groups: computed when the row arrives, as SRFs must be. */
static List *
key_expressions(Query *query)
{
	List	   *result = NIL;
	List	   *clauses = list_concat_copy(query->groupClause, query->distinctClause);
	ListCell   *lc;

	foreach(lc, query->windowClause)
		clauses = list_concat(clauses, lfirst_node(WindowClause, lc)->partitionClause);
	foreach(lc, clauses)
	{
		Node	   *expr = get_sortgroupclause_expr(lfirst(lc), query->targetList);

		if (!IsA(expr, Var) && !sx_is_session_call(expr) && !contain_aggs_of_level(expr, 0) && !contain_windowfuncs(expr) &&
			!checkExprHasSubLink(expr))
			result = list_append_unique(result, expr);
	}
	return result;
}

typedef struct ReplaceContext
{
	Query	   *query;
	Leaf	   *leaf;
	int			sublevels_up;
} ReplaceContext;

static char *
free_column_name(Leaf *leaf, const char *wanted)
{
	const char *name = wanted != NULL && strcmp(wanted, "?column?") != 0 ? wanted : "key";
	char	   *result = pstrdup(name);
	int			n = 1;
	ListCell   *lc;

restart:
	foreach(lc, leaf->query->targetList)
	{
		if (strcmp(lfirst_node(TargetEntry, lc)->resname, result) == 0)
		{
			result = psprintf("%s_%d", name, ++n);
			goto restart;
		}
	}
	return result;
}

/* The column of the node that has this expression, as seen from above. */
static Node *
leaf_column(ReplaceContext *context, Node *expr, const char *name)
{
	Leaf	   *leaf = context->leaf;
	TargetEntry *tle = tlist_member((Expr *) expr, leaf->query->targetList);
	Var		   *var;

	if (tle == NULL)
	{
		tle = makeTargetEntry(copyObject((Expr *) expr),
							  list_length(leaf->query->targetList) + 1,
							  free_column_name(leaf, name), false);
		leaf->query->targetList = lappend(leaf->query->targetList, tle);
	}
	var = makeVar(leaf->varno, tle->resno, exprType(expr), exprTypmod(expr),
				  exprCollation(expr), context->sublevels_up);
	return (Node *) var;
}

static const char *
name_of_key(Query *query, Node *expr)
{
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		if (equal(lfirst_node(TargetEntry, lc)->expr, expr))
			return lfirst_node(TargetEntry, lc)->resname;
	}
	return NULL;
}

static Node *
replace_var(Var *var, ReplaceContext *context)
{
	Var		   *below;

	if (var->varattno <= 0)
		refuse(var->varattno == 0 ? "a whole row of a stream is not supported here in a continuous view" :
			   "system columns of a stream are not supported in a continuous view",
			   "Name the columns.");
	below = copyObject(var);
	below->varlevelsup = 0;
	return leaf_column(context, (Node *) below,
					   get_rte_attribute_name(rt_fetch(var->varno, context->query->rtable),
											  var->varattno));
}

static Node *
replace_mutator(Node *node, ReplaceContext *context)
{
	if (node == NULL)
		return NULL;
	if (context->sublevels_up == 0 && list_member(context->leaf->wholes, node))
		return leaf_column(context, node, name_of_key(context->query, node));
	/* That of the batch in which the row came, not of one that computes it again. */
	if (context->sublevels_up == 0 && context->leaf->alone && sx_is_batch_function(node))
		return leaf_column(context, node, get_func_name(((FuncExpr *) node)->funcid));
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varlevelsup == context->sublevels_up &&
			bms_is_member(var->varno, context->leaf->relids))
			return replace_var(var, context);
		return copyObject(node);
	}
	if (IsA(node, Query))
	{
		Query	   *result;

		context->sublevels_up++;
		result = query_tree_mutator((Query *) node, replace_mutator, context, 0);
		context->sublevels_up--;
		return (Node *) result;
	}
	return expression_tree_mutator(node, replace_mutator, context);
}

/* Conditions of the joins that remain, and the reference to the node in place of the leaf. */
static Node *
replace_in_from(Node *node, ReplaceContext *context)
{
	if (node == context->leaf->subtree)
	{
		RangeTblRef *ref = makeNode(RangeTblRef);

		ref->rtindex = context->leaf->varno;
		return (Node *) ref;
	}
	if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;

		join->larg = replace_in_from(join->larg, context);
		join->rarg = replace_in_from(join->rarg, context);
		join->quals = replace_mutator(join->quals, context);
	}
	else if (IsA(node, FromExpr))
	{
		FromExpr   *from = (FromExpr *) node;
		ListCell   *lc;

		foreach(lc, from->fromlist)
			lfirst(lc) = replace_in_from(lfirst(lc), context);
		from->quals = replace_mutator(from->quals, context);
	}
	return node;
}

static void
blank_entries(Query *query, const Bitmapset *relids, bool inside)
{
	Index		i = 0;
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		if (bms_is_member(++i, relids) == inside)
			blank_entry(lfirst_node(RangeTblEntry, lc));
	}
}

/* ---------- a leaf becomes a node ---------- */

static Query *
leaf_query(const Query *query, const Leaf *leaf, List *moved)
{
	Query	   *result = makeNode(Query);
	List	   *quals = NIL;
	ListCell   *lc;

	foreach(lc, moved)
	{
		if (linitial(lfirst(lc)) == leaf)
			quals = lappend(quals, copyObject(lsecond(lfirst(lc))));
	}
	result->commandType = CMD_SELECT;
	result->canSetTag = true;
	result->rtable = copyObject(query->rtable);
	sx_copy_perminfos(result, query);
	blank_entries(result, leaf->relids, false);
	result->jointree = makeFromExpr(IsA(leaf->subtree, FromExpr) ?
									copyObject(((FromExpr *) leaf->subtree)->fromlist) :
									list_make1(copyObject(leaf->subtree)),
									quals == NIL ? NULL : (Node *) make_ands_explicit(quals));
	return result;
}

/* ---------- aggregates that see the order of their rows ---------- */

/* Those of the server that do not; a user's own may be anything. */
bool
sx_sees_order(const Aggref *agg)
{
	static const char *const ordered[] = {
		"array_agg", "string_agg", "json_agg", "jsonb_agg", "json_object_agg",
		"jsonb_object_agg", "xmlagg"
	};
	const char *name = get_func_name(agg->aggfnoid);

	if (agg->aggkind != AGGKIND_NORMAL || agg->aggorder != NIL || agg->aggdistinct != NIL ||
		agg->aggstar)
		return false;
	if (get_func_namespace(agg->aggfnoid) != PG_CATALOG_NAMESPACE)
		return true;
	for (int i = 0; i < lengthof(ordered); i++)
	{
		if (strcmp(name, ordered[i]) == 0)
			return true;
	}
	return false;
}

static Node *
arrival_call(void)
{
	return (Node *) makeFuncExpr(sx_own_function("arrival", 0, NULL), INT8OID, NIL, InvalidOid,
								 InvalidOid, COERCE_EXPLICIT_CALL);
}

static SortGroupClause *
arrival_order(void)
{
	SortGroupClause *sort = makeNode(SortGroupClause);

	get_sort_group_operators(INT8OID, true, true, false, &sort->sortop, &sort->eqop, NULL,
							 &sort->hashable);
	return sort;
}

/* f(x) becomes f(x ORDER BY the row's arrival). */
static void
order_by_arrival(Aggref *agg, ReplaceContext *context)
{
	SortGroupClause *sort = arrival_order();
	TargetEntry *tle = makeTargetEntry((Expr *) leaf_column(context, arrival_call(), "arrival"),
									   list_length(agg->args) + 1, NULL, true);

	tle->ressortgroupref = sort->tleSortGroupRef = 1;
	agg->args = lappend(agg->args, tle);
	agg->aggorder = list_make1(sort);
}

static bool
order_walker(Node *node, ReplaceContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
	{
		if (sx_sees_order((Aggref *) node) && ((Aggref *) node)->agglevelsup == 0)
			order_by_arrival((Aggref *) node, context);
		return false;
	}
	return expression_tree_walker(node, order_walker, context);
}

/* Rows that the order leaves equal are taken as they came: reduce.c. */
static void
complete_order(Query *query, ReplaceContext *context)
{
	List	  **clause = sx_order_to_complete(query);
	SortGroupClause *sort;
	TargetEntry *tle;

	if (clause == NULL)
		return;
	tle = makeTargetEntry((Expr *) leaf_column(context, arrival_call(), "arrival"),
						  list_length(query->targetList) + 1, NULL, true);
	query->targetList = lappend(query->targetList, tle);
	sort = arrival_order();
	sort->tleSortGroupRef = assignSortGroupRef(tle, query->targetList);
	*clause = lappend(*clause, sort);
}

/* A node must have a column, also when only rows are counted. */
static void
add_row_column(Leaf *leaf)
{
	if (leaf->query->targetList == NIL)
		leaf->query->targetList =
			list_make1(makeTargetEntry((Expr *) makeConst(INT4OID, -1, InvalidOid, sizeof(int32),
														  Int32GetDatum(1), false, true),
									   1, pstrdup("row"), false));
}

static void
replace_leaf(Query *query, Leaf *leaf, List *moved, SxNodeMaker *maker)
{
	ReplaceContext context = {query, leaf, 0};
	Oid			node;
	ListCell   *lc;

	/* Joins expect what they join before themselves: the node takes a place of the leaf. */
	leaf->query = leaf_query(query, leaf, moved);
	leaf->varno = bms_next_member(leaf->relids, -1);

	query->targetList = (List *) replace_mutator((Node *) query->targetList, &context);
	query->havingQual = replace_mutator(query->havingQual, &context);
	query->jointree = (FromExpr *) replace_in_from((Node *) query->jointree, &context);
	foreach(lc, query->rtable)
	{
		RangeTblEntry *other = lfirst(lc);

		if (other->rtekind != RTE_SUBQUERY || !other->lateral)
			continue;
		context.sublevels_up = 1;
		other->subquery = query_tree_mutator(other->subquery, replace_mutator, &context, 0);
		context.sublevels_up = 0;
	}
	if (leaf->alone)
	{
		(void) order_walker((Node *) query->targetList, &context);
		(void) order_walker(query->havingQual, &context);
	}
	if (leaf->keep != NULL)
		complete_order(query, &context);
	if (maker->arrival)
		(void) leaf_column(&context, arrival_call(), "sx_arrival");
	add_row_column(leaf);
	leaf->query->hasSubLinks = checkExprHasSubLink((Node *) leaf->query->targetList) ||
		checkExprHasSubLink((Node *) leaf->query->jointree);
	leaf->query->hasTargetSRFs = expression_returns_set((Node *) leaf->query->targetList);
	blank_entries(query, leaf->relids, true);
	maker->unshared = leaf->keep != NULL;
	node = sx_make_node(maker, leaf->query);
	if (leaf->keep != NULL)
		sx_node_keep(node, leaf->keep);
	sx_rte_show(rt_fetch(leaf->varno, query->rtable), sx_node_query(node));
}

/* ---------- blocks ---------- */

static void
cut_branches(Query *query, Node *node, SxNodeMaker *maker)
{
	if (IsA(node, SetOperationStmt))
	{
		cut_branches(query, ((SetOperationStmt *) node)->larg, maker);
		cut_branches(query, ((SetOperationStmt *) node)->rarg, maker);
	}
	else
	{
		RangeTblEntry *rte = rt_fetch(((RangeTblRef *) node)->rtindex, query->rtable);

		if (!reads_node((Node *) rte->subquery))
			refuse("a branch of a set operation that reads no stream is not supported in a continuous view",
				   "Add its rows in a view over the continuous view.");
		if (!OidIsValid(sx_node_of(rte)))
			sx_rte_show(rte, sx_node_query(sx_make_node(maker, rte->subquery)));
	}
}

static bool
cut_sublinks(Node *node, SxNodeMaker *maker)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
	{
		SubLink    *sublink = (SubLink *) node;

		(void) cut_sublinks(sublink->testexpr, maker);
		if (reads_node(sublink->subselect))
			cut_block(castNode(Query, sublink->subselect), maker);
		else
			refuse("a subquery over a table beside a join of streams or an aggregate is not supported in a continuous view",
				   "Use it in a subquery over one stream: FROM (SELECT … FROM stream WHERE …) s; it is evaluated when the row arrives.");
		return false;
	}
	return expression_tree_walker(node, cut_sublinks, maker);
}

static void
flatten_joins(Query *query)
{
	query->targetList = (List *) sx_flatten_join_alias_vars(query, (Node *) query->targetList);
	query->havingQual = sx_flatten_join_alias_vars(query, query->havingQual);
	query->jointree = (FromExpr *) sx_flatten_join_alias_vars(query, (Node *) query->jointree);
}

/* Makes the query, in place, one over nodes. */
static void
cut_block(Query *query, SxNodeMaker *maker)
{
	List	   *leaves = NIL;
	List	   *moved;
	bool		single;
	const char *rank_condition = maker->rank_condition;
	ListCell   *lc;

	maker->rank_condition = NULL;
	if (query->rowMarks != NIL)
		refuse("FOR UPDATE and FOR SHARE are not supported over a stream",
			   "Leave the clause out: rows of a stream cannot be locked.");
	if (query->setOperations != NULL)
	{
		cut_branches(query, query->setOperations, maker);
		return;
	}
	/* from_streams() wants a query without WHERE's subqueries: it looks at FROM alone. */
	single = subtree_streams(query, (Node *) query->jointree) == 1;
	if (single)
		add_leaf(&leaves, (Node *) query->jointree, false);
	else
	{
		flatten_joins(query);
		foreach(lc, query->jointree->fromlist)
			find_leaves(query, lfirst(lc), false, &leaves, maker);
	}
	if (!single && sx_session_call(query) != NULL)
		refuse("session windows over a join of streams, an aggregate or a continuous view are not supported",
			   "Group by session() over one stream, or over streams put together by UNION ALL; tables may be joined to it.");
	if (!single && (sx_reads_batch((Node *) query->targetList) || sx_reads_batch(query->havingQual) ||
					sx_reads_batch((Node *) query->jointree)))
		refuse("batch_id(), batch_time(), watermark() and now() are not supported above a join of streams, an aggregate or a continuous view",
			   "Its rows are computed again in other batches: call them in a subquery over one stream, FROM (SELECT …, streamext.batch_time() AS t FROM stream) s.");
	moved = move_conditions(query, leaves, single);
	if (single)
	{
		Leaf	   *leaf = linitial(leaves);

		/* The whole FROM, without what remains of WHERE. */
		leaf->alone = true;
		leaf->keep = sx_reduces(query, rank_condition);
		leaf->wholes = key_expressions(query);
		leaf->subtree = (Node *) makeFromExpr(query->jointree->fromlist, NULL);
		query->jointree = makeFromExpr(list_make1(leaf->subtree), query->jointree->quals);
	}
	foreach(lc, leaves)
		replace_leaf(query, lfirst(lc), moved, maker);
	(void) cut_sublinks((Node *) query->targetList, maker);
	(void) cut_sublinks(query->havingQual, maker);
	(void) cut_sublinks((Node *) query->jointree, maker);
	sx_fix_joins(query);
	query->hasTargetSRFs = expression_returns_set((Node *) query->targetList);
}

/* ---------- windows over windows ---------- */

static bool
is_windowed(Query *query)
{
	return query->setOperations == NULL && sx_append_layout(query)->windowed;
}

/*
 * With emit = 'final', a query that has no window of its own yet, but is over subqueries
 * that have one, may have a window over theirs: then they give out closed windows.
 */
static bool
close_subqueries(Query *query, SxNodeMaker *maker)
{
	bool		any = false;
	ListCell   *lc;

	if (is_windowed(query))
		return false;
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind != RTE_SUBQUERY || contain_vars_of_level((Node *) rte->subquery, 1) ||
			!sx_is_single_node(rte->subquery) || !sx_layout_build(rte->subquery)->windowed ||
			sx_layout_build(rte->subquery)->strategy == SX_STRATEGY_APPEND)
			continue;
		maker->final = true;
		sx_rte_show(rte, sx_node_query(sx_make_node(maker, rte->subquery)));
		maker->final = false;
		any = true;
	}
	return any;
}

Query *
sx_cut_query(Query *query, SxNodeMaker *maker)
{
	sx_refuse_volatile(query);
	if (query->sortClause != NIL && query->limitCount == NULL && query->limitOffset == NULL &&
		!query->hasDistinctOn)
		refuse("ORDER BY is not supported in a continuous view",
			   "Order in the query that reads the view.");
	if ((query->limitCount != NULL || query->limitOffset != NULL) && query->sortClause == NIL)
		refuse("LIMIT and OFFSET without ORDER BY are not supported in a continuous view",
			   "Say which rows: ORDER BY … LIMIT n; or limit in the query that reads the view.");
	expand_query(query, NULL);
	if (maker->options->emit == SX_EMIT_FINAL && close_subqueries(query, maker) &&
		sx_is_single_node(query))
		sx_check_view_query(query);
	else
		cut_block(query, maker);
	return query;
}
