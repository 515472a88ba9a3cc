/*-------------------------------------------------------------------------
 *
 * distinct.c
 *		Aggregates over different values: count(DISTINCT x) and its like.
 *
 * The different values of x in each group are a view of their own, a node that is merged
 * and has no aggregate:
 *
 *		SELECT k, x FROM s WHERE f GROUP BY k, x		for count(DISTINCT x) FILTER (WHERE f)
 *
 * What a batch adds there is what the aggregate has not seen yet.  The view that has the
 * aggregate is merged, too: first with what its other aggregates are over the batch, then,
 * for each such node, with what count(x) is over the rows that the batch has added there.
 *
 *		INSERT INTO streamext_state.v AS s (k, n) … ON CONFLICT (k) DO UPDATE SET n = s.n + excluded.n
 *		INSERT INTO streamext_state.v AS s (k, d)
 *		SELECT k, count(x) FROM streamext.new_rows(NULL::streamext_state.v_1) GROUP BY k
 *		ON CONFLICT (k) DO UPDATE SET d = s.d + excluded.d
 *
 * The stored query is the user's; that v_1 keeps the values is said in the aggregate's
 * FILTER, as streamext.kept_in('streamext_state.v_1_rows'), which is always true.  A
 * group has a row in all of these nodes or in the view before it, so that they forget
 * closed windows alike.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/sx_catalog.h"
#include "compat.h"
#include "plan/node.h"
#include "state/changes.h"

PG_FUNCTION_INFO_V1(sx_kept_in);

/* streamext.kept_in(view): the different values of this aggregate are kept there. */
Datum
sx_kept_in(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(true);
}

/* ---------- the mark ---------- */

static Expr *
mark_of(Oid view)
{
	static const Oid argtypes[] = {REGCLASSOID};
	Const	   *name = makeConst(REGCLASSOID, -1, InvalidOid, sizeof(Oid), ObjectIdGetDatum(view),
								 false, true);

	return (Expr *) makeFuncExpr(sx_own_function("kept_in", 1, argtypes), BOOLOID, list_make1(name),
								 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

/* The view that a call of kept_in() names; InvalidOid: it is no such call. */
Oid
sx_kept_in_view(Node *node)
{
	FuncExpr   *call = (FuncExpr *) node;
	Const	   *name;
	char	   *function;

	if (!IsA(node, FuncExpr) || list_length(call->args) != 1 || !IsA(linitial(call->args), Const))
		return InvalidOid;
	name = linitial_node(Const, call->args);
	function = get_func_name(call->funcid);
	if (name->consttype != REGCLASSOID || name->constisnull || function == NULL ||
		strcmp(function, "kept_in") != 0 ||
		get_func_namespace(call->funcid) != get_func_namespace(sx_own_function("batch_id", 0, NULL)))
		return InvalidOid;
	return DatumGetObjectId(name->constvalue);
}

/* Where the different values of an aggregate are kept; InvalidOid: it has no mark. */
static Oid
set_of(const Aggref *agg)
{
	ListCell   *lc;

	foreach(lc, make_ands_implicit(agg->aggfilter))
	{
		Oid			view = sx_kept_in_view(lfirst(lc));

		if (OidIsValid(view))
			return view;
	}
	return InvalidOid;
}

/* ---------- SELECT DISTINCT ---------- */

/* SELECT DISTINCT a, b is SELECT a, b GROUP BY a, b, where nothing else looks at rows. */
Query *
sx_distinct_as_group(Query *query)
{
	ListCell   *lc;

	if (query->distinctClause == NIL || query->hasDistinctOn || query->hasAggs ||
		query->groupClause != NIL || query->groupingSets != NIL || query->havingQual != NULL ||
		query->hasWindowFuncs || query->setOperations != NULL || query->limitCount != NULL ||
		query->limitOffset != NULL)
		return query;
	foreach(lc, query->distinctClause)
	{
		if (!OidIsValid(lfirst_node(SortGroupClause, lc)->sortop))
			return query;
	}
	query = copyObject(query);
	query->groupClause = query->distinctClause;
	query->distinctClause = NIL;
	return query;
}

/* ---------- can it be kept so? ---------- */

typedef struct DistinctContext
{
	int			nkeys;
	bool		found;			/* an aggregate with DISTINCT */
	const char *problem;
} DistinctContext;

/* A value that is there twice changes nothing. */
static bool
ignores_duplicates(const Aggref *agg)
{
	static const char *const names[] = {"min", "max", "bool_and", "bool_or", "every", "bit_and", "bit_or"};
	const char *name = get_func_name(agg->aggfnoid);

	for (int i = 0; i < lengthof(names); i++)
	{
		if (get_func_namespace(agg->aggfnoid) == PG_CATALOG_NAMESPACE &&
			strcmp(name, names[i]) == 0)
			return true;
	}
	return false;
}

static const char *
distinct_problem(const Aggref *agg, int nkeys)
{
	Aggref	   *plain = copyObject((Aggref *) agg);
	ListCell   *lc;

	plain->aggdistinct = NIL;
	/* A user's own that can be combined does not see the order, or says so falsely. */
	if (agg->aggorder != NIL ||
		(sx_sees_order(plain) && get_func_namespace(agg->aggfnoid) == PG_CATALOG_NAMESPACE))
		return "the result depends on the order of the values";
	if (nkeys + list_length(agg->args) > INDEX_MAX_KEYS)
		return "it has too many keys and arguments";
	if (checkExprHasSubLink((Node *) agg->args))
		return "a subquery is its argument";
	foreach(lc, agg->args)
	{
		if (get_typtype(exprType((Node *) lfirst_node(TargetEntry, lc)->expr)) == TYPTYPE_PSEUDO)
			return "no column can have the type of the values";
	}
	foreach(lc, agg->aggdistinct)
	{
		if (!OidIsValid(lfirst_node(SortGroupClause, lc)->sortop))
			return "the type of the values has no order";
	}
	return NULL;
}

/* The aggregates without DISTINCT, so that the others can judge whether they can be merged. */
static Node *
strip_mutator(Node *node, DistinctContext *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Aggref))
	{
		Aggref	   *agg = copyObject((Aggref *) node);

		if (agg->aggdistinct == NIL)
			return (Node *) agg;
		context->found = true;
		if (context->problem == NULL && AGGKIND_IS_ORDERED_SET(agg->aggkind))
			context->problem = "it is an ordered-set aggregate";
		if (context->problem == NULL)
			context->problem = distinct_problem(agg, context->nkeys);
		agg->aggdistinct = NIL;
		return (Node *) agg;
	}
	return expression_tree_mutator(node, strip_mutator, context);
}

static Query *
stripped(Query *query, DistinctContext *context)
{
	query = copyObject(query);
	sx_flatten_group_exprs(query);
	context->nkeys = list_length(query->groupClause);
	query->targetList = (List *) strip_mutator((Node *) query->targetList, context);
	query->havingQual = strip_mutator(query->havingQual, context);
	return query;
}

bool
sx_can_keep_distinct(Query *query)
{
	DistinctContext context = {0};

	if (!query->hasAggs || query->groupingSets != NIL || query->distinctClause != NIL ||
		sx_session_call(query) != NULL)
		return false;
	query = stripped(query, &context);
	return context.found && context.problem == NULL && sx_is_single_node(query);
}

/* ---------- making the nodes ---------- */

typedef struct MarkContext
{
	Query	   *query;
	SxNodeMaker *maker;
} MarkContext;

static void
add_column(Query *set, Expr *expr, const char *name, const SortGroupClause *clause)
{
	SortGroupClause *own = copyObject((SortGroupClause *) clause);
	AttrNumber	resno = list_length(set->targetList) + 1;
	TargetEntry *tle = makeTargetEntry(copyObject(expr), resno,
									   psprintf("%s_%d", name, resno), false);

	tle->ressortgroupref = own->tleSortGroupRef = resno;
	set->targetList = lappend(set->targetList, tle);
	set->groupClause = lappend(set->groupClause, own);
}

/* SELECT keys, arguments FROM … WHERE … AND filter GROUP BY all of them */
static Query *
set_query(Query *query, const Aggref *agg)
{
	Query	   *set = copyObject(query);
	ListCell   *lc;

	set->targetList = NIL;
	set->groupClause = NIL;
	set->havingQual = NULL;
	set->hasAggs = false;
	foreach(lc, query->groupClause)
		add_column(set, get_sortgroupclause_tle(lfirst(lc), query->targetList)->expr, "key",
				   lfirst(lc));
	foreach(lc, agg->aggdistinct)
		add_column(set, get_sortgroupclause_tle(lfirst(lc), agg->args)->expr, "value", lfirst(lc));
	if (agg->aggfilter != NULL)
		set->jointree->quals = make_and_qual(set->jointree->quals,
											 copyObject((Node *) agg->aggfilter));
	set->hasTargetSRFs = expression_returns_set((Node *) set->targetList);
	set->hasSubLinks = checkExprHasSubLink((Node *) set->targetList) ||
		checkExprHasSubLink((Node *) set->jointree);
	return set;
}

static Node *
mark_mutator(Node *node, MarkContext *context)
{
	Aggref	   *agg;
	Oid			set;

	if (node == NULL)
		return NULL;
	if (!IsA(node, Aggref))
		return expression_tree_mutator(node, mark_mutator, context);
	agg = copyObject((Aggref *) node);
	if (agg->aggdistinct == NIL)
		return (Node *) agg;
	if (ignores_duplicates(agg))
	{
		agg->aggdistinct = NIL;
		return (Node *) agg;
	}
	set = sx_make_node(context->maker, set_query(context->query, agg));
	sx_node_is_set(set);
	agg->aggfilter = (Expr *) make_and_qual((Node *) agg->aggfilter, (Node *) mark_of(set));
	return (Node *) agg;
}

Query *
sx_mark_distinct(Query *query, SxNodeMaker *maker)
{
	MarkContext context = {query, maker};

	sx_refuse_volatile(query);
	sx_flatten_group_exprs(query);
	query->targetList = (List *) mark_mutator((Node *) query->targetList, &context);
	query->havingQual = mark_mutator(query->havingQual, &context);
	return query;
}

/* ---------- what is kept where ---------- */

static bool
sets_walker(Node *node, List **sets)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
	{
		Oid			set = set_of((Aggref *) node);

		if (OidIsValid(set))
			*sets = list_append_unique_oid(*sets, set);
		return false;
	}
	return expression_tree_walker(node, sets_walker, sets);
}

List *
sx_distinct_sets(Query *query)
{
	List	   *sets = NIL;

	if (!query->hasAggs)
		return NIL;
	(void) sets_walker((Node *) query->targetList, &sets);
	(void) sets_walker(query->havingQual, &sets);
	return sets;
}

List *
sx_view_sets(Oid view)
{
	Oid			query_view;

	return sx_step_options(view, &query_view, NULL) == NULL ? NIL :
		sx_distinct_sets(sx_view_query(query_view));
}

SxLayout *
sx_distinct_layout(Query *query)
{
	DistinctContext context = {0};
	SxLayout   *layout = sx_layout_build(stripped(query, &context));

	layout->strategy = SX_STRATEGY_DISTINCT;
	layout->reason = "aggregates over different values: nodes keep the values of each group, and those that a batch adds are aggregated and merged by key";
	return layout;
}

static bool
is_aggregate(const SxStateColumn *column)
{
	return OidIsValid(column->aggregate);
}

/* The keys, and the aggregates whose values are kept in this node; InvalidOid: in none. */
static SxLayout *
part_of(const SxLayout *layout, Oid set)
{
	SxLayout   *part = palloc(sizeof(SxLayout));
	ListCell   *lc;

	*part = *layout;
	part->columns = NIL;
	foreach(lc, layout->columns)
	{
		SxStateColumn *column = lfirst(lc);

		if (!is_aggregate(column) || set_of((Aggref *) column->expr) == set)
			part->columns = lappend(part->columns, column);
	}
	return part;
}

/* ---------- the statements ---------- */

/* Its arguments are the node's columns behind the keys. */
static Expr *
aggregate_over_set(const Aggref *agg, int nkeys)
{
	Aggref	   *over = copyObject((Aggref *) agg);
	ListCell   *lc;

	over->aggfilter = NULL;
	foreach(lc, over->args)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		Node	   *expr = (Node *) tle->expr;

		tle->expr = (Expr *) makeVar(1, nkeys + foreach_current_index(lc) + 1, exprType(expr),
									 exprTypmod(expr), exprCollation(expr), 0);
		tle->ressortgroupref = 0;
	}
	return (Expr *) over;
}

/* The same columns over the node's new rows, as varno 1. */
static SxLayout *
layout_over_set(const SxLayout *part, int nkeys)
{
	SxLayout   *over = palloc(sizeof(SxLayout));
	AttrNumber	attno = 0;
	ListCell   *lc;

	*over = *part;
	over->columns = NIL;
	over->windowed = false;		/* only rows in time are in the node */
	foreach(lc, part->columns)
	{
		SxStateColumn *column = palloc(sizeof(SxStateColumn));

		*column = *(SxStateColumn *) lfirst(lc);
		if (column->kind == SX_COLUMN_KEY)
			column->expr = (Expr *) makeVar(1, ++attno, column->type, column->typmod,
											column->collation, 0);
		else if (is_aggregate(column))
			column->expr = aggregate_over_set((Aggref *) column->expr, nkeys);
		over->columns = lappend(over->columns, column);
	}
	return over;
}

static char *
set_sql(Query *query, const SxLayout *layout, Oid set, const char *target)
{
	int			nkeys = list_length(query->groupClause);
	char	   *sql = psprintf("SELECT FROM (%s) c", sx_changes_sql(set, "new_rows"));
	Query	   *over = sx_parse(sql, NULL, 0);

	over->groupClause = copyObject(query->groupClause);
	return sx_merge_sql(over, layout_over_set(part_of(layout, set), nkeys), target, 0);
}

/* plan has been made as if the view were merged. */
void
sx_distinct_sql(SxStepPlan *plan, Query *query, const SxLayout *layout, const SxStepNames *names)
{
	const char *target = plan->emit == SX_EMIT_INTERVAL ? names->delta : names->state;
	ListCell   *lc;

	query = copyObject(query);
	sx_flatten_group_exprs(query);
	plan->apply_sql = sx_merge_sql(query, part_of(layout, InvalidOid), target, 0);
	foreach(lc, sx_distinct_sets(query))
		plan->then_sql = lappend(plan->then_sql, set_sql(query, layout, lfirst_oid(lc), target));
}

/* How long a hidden view keeps what late rows may change is said later: sx_node_retain(). */
void
sx_distinct_prepare(Query *query, const SxLayout *layout, const SxViewOptions *options, bool hidden)
{
	bool		closes = layout->windowed &&
		(options->late != SX_LATE_UPDATE || (options->retention >= 0 && !hidden));
	ListCell   *lc;

	foreach(lc, sx_distinct_sets(query))
	{
		Oid			state;

		(void) sx_view_layout(lfirst_oid(lc), &state);
		sx_changes_capture(state);
		if (closes)
			sx_node_retain(lfirst_oid(lc),
						   options->late == SX_LATE_UPDATE ? options->retention : 0);
	}
}
