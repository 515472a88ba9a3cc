/*-------------------------------------------------------------------------
 *
 * cut_expand.c
 *		Before a query is cut: CTEs and views in the place where they are read.
 *
 * A CTE is put there as often as it is read, its columns of outer queries moved to the
 * new depth.  A plain view over streams that is not row by row is what its query is; a
 * continuous view is a node already.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/nodeFuncs.h"
#include "rewrite/rewriteManip.h"

#include "catalog/sx_catalog.h"
#include "compat.h"
#include "fdw/stream.h"
#include "plan/cut_internal.h"

typedef struct ExpandContext
{
	const SxLevel *level;
} ExpandContext;

static bool
expand_walker(Node *node, ExpandContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		sx_expand_query((Query *) node, context->level);
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
		sx_cut_refuse("WITH RECURSIVE is not supported in this continuous view",
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
			sx_blank_entry(rte);
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
			 sx_reads_node((Node *) sx_view_query(rte->relid)) &&
			 (sx_reads_continuous_view((Node *) rte) || !sx_is_row_wise(sx_view_query(rte->relid))))
		sx_rte_show(rte, plain_view_query(rte->relid));
}

void
sx_expand_query(Query *query, const SxLevel *parent)
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
			sx_expand_query(rte->subquery, &level);
	}
	(void) query_tree_walker(query, expand_walker, &context,
							 QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES);
	query->cteList = NIL;
}
