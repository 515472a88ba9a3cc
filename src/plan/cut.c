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
 * read (cut_expand.c).  Set operations have a node for each branch.  Which part of FROM can
 * be a node is in cut_reads.c, how it becomes one in cut_leaf.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"

#include "compat.h"
#include "plan/cut_internal.h"

static void cut_block(Query *query, SxNodeMaker *maker);

/* ---------- finding the leaves ---------- */

static void
add_leaf(List **leaves, Node *subtree, bool nullable)
{
	SxLeaf	   *leaf = palloc0(sizeof(SxLeaf));

	leaf->subtree = subtree;
	leaf->relids = sx_relids_of(subtree);
	leaf->nullable = nullable;
	*leaves = lappend(*leaves, leaf);
}

/* A subquery that is no part of a leaf: a node of its own, or cut where it stands. */
static void
cut_entry(RangeTblEntry *rte, const char *rank_condition, SxNodeMaker *maker)
{
	if (rte->rtekind != RTE_SUBQUERY)
		sx_cut_refuse("a function that reads a stream is not supported in a continuous view",
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
	sx_cut_refuse("a table beside a join of streams or an aggregate is not supported in a continuous view",
				  "Join the table to a stream, in a subquery: FROM (SELECT … FROM stream JOIN table …) s JOIN …; it is read when the row arrives.");
}

/* A join of a stream to tables that is not row by row says itself why. */
static void
check_outer_join(Query *query, JoinExpr *join)
{
	SxRefusal	refusal = {NULL, NULL};

	if (join->jointype != JOIN_INNER &&
		(sx_subtree_streams(query, join->larg) == 0 || sx_subtree_streams(query, join->rarg) == 0) &&
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
	int			streams = sx_subtree_streams(query, node);
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

/* Can the condition be tested when the row arrives? */
static bool
belongs_to(Node *qual, const SxLeaf *leaf)
{
	Bitmapset  *used = pull_varnos(NULL, qual);

	return !leaf->nullable && !bms_is_empty(used) && bms_is_subset(used, leaf->relids) &&
		!contain_vars_of_level(qual, 1) && !sx_reads_node_in_sublink(qual);
}

/* Splits WHERE: what a leaf can test goes into it. */
static List *
move_conditions(Query *query, List *leaves, bool single)
{
	List	   *quals = make_ands_implicit((Expr *) query->jointree->quals);
	List	   *moved = NIL;
	List	   *kept = NIL;
	SxLeaf	   *leaf = leaves == NIL ? NULL : linitial(leaves);
	ListCell   *lc;

	foreach(lc, quals)
	{
		Node	   *qual = lfirst(lc);
		ListCell   *l;
		SxLeaf	   *found = NULL;

		foreach(l, leaves)
		{
			if (belongs_to(qual, lfirst(l)))
				found = lfirst(l);
		}
		/* A condition without columns, in a query with one leaf. */
		if (single && found == NULL && !contain_vars_of_level(qual, 1) &&
			!sx_reads_node_in_sublink(qual))
			found = leaf;
		if (found == NULL)
			kept = lappend(kept, qual);
		else
			moved = lappend(moved, list_make2(found, qual));
	}
	query->jointree->quals = (Node *) (kept == NIL ? NULL : make_ands_explicit(kept));
	return moved;
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

		if (!sx_reads_node((Node *) rte->subquery))
			sx_cut_refuse("a branch of a set operation that reads no stream is not supported in a continuous view",
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
		if (sx_reads_node(sublink->subselect))
			cut_block(castNode(Query, sublink->subselect), maker);
		else
			sx_cut_refuse("a subquery over a table beside a join of streams or an aggregate is not supported in a continuous view",
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
		sx_cut_refuse("FOR UPDATE and FOR SHARE are not supported over a stream",
					  "Leave the clause out: rows of a stream cannot be locked.");
	if (query->setOperations != NULL)
	{
		cut_branches(query, query->setOperations, maker);
		return;
	}
	/* from_streams() wants a query without WHERE's subqueries: it looks at FROM alone. */
	single = sx_subtree_streams(query, (Node *) query->jointree) == 1;
	if (single)
		add_leaf(&leaves, (Node *) query->jointree, false);
	else
	{
		flatten_joins(query);
		foreach(lc, query->jointree->fromlist)
			find_leaves(query, lfirst(lc), false, &leaves, maker);
	}
	if (!single && sx_session_call(query) != NULL)
		sx_cut_refuse("session windows over a join of streams, an aggregate or a continuous view are not supported",
					  "Group by session() over one stream, or over streams put together by UNION ALL; tables may be joined to it.");
	if (!single && (sx_reads_batch((Node *) query->targetList) || sx_reads_batch(query->havingQual) ||
					sx_reads_batch((Node *) query->jointree)))
		sx_cut_refuse("batch_id(), batch_time(), watermark() and now() are not supported above a join of streams, an aggregate or a continuous view",
					  "Its rows are computed again in other batches: call them in a subquery over one stream, FROM (SELECT …, streamext.batch_time() AS t FROM stream) s.");
	moved = move_conditions(query, leaves, single);
	if (single)
	{
		SxLeaf	   *leaf = linitial(leaves);

		/* The whole FROM, without what remains of WHERE. */
		leaf->alone = true;
		leaf->keep = sx_reduces(query, rank_condition);
		leaf->wholes = sx_key_expressions(query);
		leaf->subtree = (Node *) makeFromExpr(query->jointree->fromlist, NULL);
		query->jointree = makeFromExpr(list_make1(leaf->subtree), query->jointree->quals);
	}
	foreach(lc, leaves)
		sx_replace_leaf(query, lfirst(lc), moved, maker);
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
		sx_cut_refuse("ORDER BY is not supported in a continuous view",
					  "Order in the query that reads the view.");
	if ((query->limitCount != NULL || query->limitOffset != NULL) && query->sortClause == NIL)
		sx_cut_refuse("LIMIT and OFFSET without ORDER BY are not supported in a continuous view",
					  "Say which rows: ORDER BY … LIMIT n; or limit in the query that reads the view.");
	sx_expand_query(query, NULL);
	if (maker->options->emit == SX_EMIT_FINAL && close_subqueries(query, maker) &&
		sx_is_single_node(query))
		sx_check_view_query(query);
	else
		cut_block(query, maker);
	return query;
}
