/*-------------------------------------------------------------------------
 *
 * cut_leaf.c
 *		A part of FROM becomes a node.
 *
 * The node has the columns that the query above asks for, the expressions by which that
 * groups, and what belongs to the batch in which a row came (batch_time() and its like).
 * Above, each of these becomes a column of the node, which takes the place of the leaf.
 *
 * An aggregate that sees the order of its rows gets the row's number of arrival as
 * the last thing to order by: a table gives its rows in any order.
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

#include "compat.h"
#include "plan/cut_internal.h"

/* ---------- what is computed below ---------- */

/* Expressions by which the query groups: computed when the row arrives, as SRFs must be. */
List *
sx_key_expressions(Query *query)
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
	SxLeaf	   *leaf;
	int			sublevels_up;
} ReplaceContext;

static char *
free_column_name(SxLeaf *leaf, const char *wanted)
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
	SxLeaf	   *leaf = context->leaf;
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
		sx_cut_refuse(var->varattno == 0 ? "a whole row of a stream is not supported here in a continuous view" :
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
			sx_blank_entry(lfirst_node(RangeTblEntry, lc));
	}
}

/* ---------- a leaf becomes a node ---------- */

static Query *
leaf_query(const Query *query, const SxLeaf *leaf, List *moved)
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
add_row_column(SxLeaf *leaf)
{
	if (leaf->query->targetList == NIL)
		leaf->query->targetList =
			list_make1(makeTargetEntry((Expr *) makeConst(INT4OID, -1, InvalidOid, sizeof(int32),
														  Int32GetDatum(1), false, true),
									   1, pstrdup("row"), false));
}

void
sx_replace_leaf(Query *query, SxLeaf *leaf, List *moved, SxNodeMaker *maker)
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
