/*-------------------------------------------------------------------------
 *
 * cut_reads.c
 *		What the parts of a query read, which decides where it is cut.
 *
 * A part of FROM reads tables only, or is row by row over one stream and so can become a
 * node as it is, or is neither and is cut further.  Continuous views count as what has no
 * rows that only arrive: but those with emit = 'final' give out each row once, and are read
 * as streams are.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"

#include "catalog/sx_catalog.h"
#include "compat.h"
#include "fdw/stream.h"
#include "plan/cut_internal.h"

void
sx_cut_refuse(const char *message, const char *hint)
{
	SxRefusal	refusal;

	sx_refuse(&refusal, pstrdup(message), pstrdup(hint));
	sx_report_refusal(&refusal);
}

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

bool
sx_reads_node(Node *node)
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

Bitmapset *
sx_relids_of(Node *subtree)
{
	RelidsContext context = {NULL};

	(void) relids_walker(subtree, &context);
	return context.relids;
}

static bool
subtree_reads_view(const Query *query, Node *subtree)
{
	Bitmapset  *relids = sx_relids_of(subtree);
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
int
sx_subtree_streams(Query *query, Node *subtree)
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
void
sx_blank_entry(RangeTblEntry *rte)
{
	Alias	   *eref = rte->eref;

	memset(rte, 0, sizeof(RangeTblEntry));
	rte->type = T_RangeTblEntry;
	rte->rtekind = RTE_RESULT;
	rte->eref = makeAlias(eref->aliasname, NIL);
}

static bool
sublink_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink) && sx_reads_node(((SubLink *) node)->subselect))
		return true;
	return expression_tree_walker(node, sublink_walker, context);
}

bool
sx_reads_node_in_sublink(Node *node)
{
	return sublink_walker(node, NULL);
}
