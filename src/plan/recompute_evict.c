/*-------------------------------------------------------------------------
 *
 * recompute_evict.c
 *		What a view over nodes does not read again leaves them.
 *
 * A window that is closed is never computed again (recompute.c).  When the key of the view
 * has a window, the rows of the nodes whose window is closed go, and so do the rows from
 * which those were made, as far as the window can be followed down.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteManip.h"
#include "utils/guc.h"
#include "utils/ruleutils.h"

#include "catalog/sx_catalog.h"
#include "compat.h"
#include "plan/node.h"

/* The view's expression as one over what it reads; NULL when that is not one node. */
static Node *
expression_below(Query *query, Node *expr, const SxNodeRef *ref)
{
	List	   *output = NIL;
	Node	   *below;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		if (!lfirst_node(TargetEntry, lc)->resjunk)
			output = lappend(output, lfirst(lc));
	}
	below = sx_replace_by_output(expr, output);
	if (!ref->top || query->setOperations != NULL || contain_aggs_of_level(below, 0) ||
		contain_windowfuncs(below) || checkExprHasSubLink(below) ||
		!bms_equal(pull_varnos(NULL, below), bms_make_singleton(ref->varno)))
		return NULL;
	ChangeVarNodes(below, ref->varno, 1, 0);
	return below;
}

static char *
state_expr_sql(Node *expr, Oid state)
{
	int			nestlevel = sx_pin_settings();
	char	   *sql = deparse_expression(expr, deparse_context_for("s", state), true, false);

	AtEOXact_GUC(true, nestlevel);
	return sql;
}

/*
 * Rows of the node whose window, an expression over its columns, is closed are not
 * read again: they go, here and in what the node stands on.
 */
void
sx_recompute_evict(Oid view, Node *expr, const SxWindow *window, List *own_nodes)
{
	Oid			state;
	Oid			query_view;
	SxLayout   *layout = sx_view_layout(view, &state);
	Query	   *query;
	char	   *start;
	ListCell   *lc;

	if (!list_member_oid(own_nodes, view))
		return;
	start = state_expr_sql(sx_replace_by_output(expr, layout->output), state);
	sx_node_evict(view, sx_window_closed_sql(window, start, "$1"));

	/* Nodes with the different values of its groups begin with the same keys. */
	foreach(lc, sx_view_sets(view))
	{
		(void) sx_view_layout(lfirst_oid(lc), &state);
		start = state_expr_sql(sx_replace_by_output(expr, layout->output), state);
		sx_node_evict(lfirst_oid(lc), sx_window_closed_sql(window, start, "$1"));
	}

	(void) sx_step_options(view, &query_view, NULL);
	query = sx_view_query(query_view);
	foreach(lc, layout->strategy == SX_STRATEGY_RECOMPUTE ||
			layout->strategy == SX_STRATEGY_REDUCE ? sx_node_refs(query) : NIL)
	{
		SxNodeRef  *ref = lfirst(lc);
		Node	   *below = expression_below(query, expr, ref);

		if (below != NULL)
			sx_recompute_evict(ref->view, below, window, own_nodes);
	}
}
