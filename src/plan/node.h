/*-------------------------------------------------------------------------
 *
 * node.h
 *		A continuous view made of nodes.
 *
 * What can be kept neither by adding rows nor by merging aggregates is cut (cut.c)
 * into hidden continuous views, the nodes, and a query over them.  Below is always a
 * node that is row by row or merged; what stands on others is recomputed by key
 * (recompute.c).  In the stored query a node appears as
 *
 *		(SELECT c.a, c.b, … FROM streamext_state.v_1_rows c) alias
 *
 * by which it is known again (sx_node_of): a user's own continuous view is a node in the
 * same way.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_NODE_H
#define SX_NODE_H

#include "lib/stringinfo.h"
#include "plan/plan_internal.h"

/* Who makes the nodes of one view. */
typedef struct SxNodeMaker
{
	const SxViewOptions *options;	/* of the view */
	const char *base;			/* nodes are base_1, base_2, … in streamext_state */
	bool		final;			/* the next one gives out closed windows */
	const char *pipeline;		/* name of the pipeline that the view is put into */
	List	   *nodes;			/* Oids of the hidden views made so far */
	List	   *queries;		/* … and what each of them shows, to make none twice */

	/* Of the next node: */
	const char *rank_condition; /* only its rows with these ranks are read; NULL: all */
	bool		unshared;		/* it has one reader, whatever others show */
	bool		arrival;		/* rows get a number of arrival: sides of a join */
} SxNodeMaker;

/* A place where the query reads a node. */
typedef struct SxNodeRef
{
	RangeTblEntry *rte;
	Query	   *query;			/* whose range table it is in */
	Index		varno;
	Oid			view;
	bool		top;			/* in FROM of the topmost query */
	bool		nullable;		/* an outer join extends it by NULLs */
	List	   *key;			/* its expressions over the view, as varno 1 */
	List	   *output;			/* of the view over its state table, once it was needed */
} SxNodeRef;

/* ---------- cut*.c ---------- */

/* Does the aggregate's result depend on the order of its rows? */
extern bool sx_sees_order(const Aggref *agg);

/* Is one query enough, kept by adding rows or merging aggregates? */
extern bool sx_is_single_node(Query *query);

/* The query over nodes, which it makes.  query is consumed.  ERROR when it cannot be kept. */
extern Query *sx_cut_query(Query *query, SxNodeMaker *maker);

/* ---------- create_node.c ---------- */

/* A hidden continuous view of the query; one made before when it is the same. */
extern Oid	sx_make_node(SxNodeMaker *maker, Query *query);

/* The values of an aggregate with DISTINCT are in there. */
extern void sx_node_is_set(Oid view);

/* ---------- distinct.c ---------- */

/* A query with SELECT DISTINCT as one with GROUP BY, where it is the same. */
extern Query *sx_distinct_as_group(Query *query);

/* Aggregates of which some are over different values, and which can be merged otherwise? */
extern bool sx_can_keep_distinct(Query *query);

/* Makes the nodes that keep the values; query is consumed. */
extern Query *sx_mark_distinct(Query *query, SxNodeMaker *maker);

/* These nodes; NIL: the query is none that sx_mark_distinct() gave. */
extern List *sx_distinct_sets(Query *query);

extern List *sx_view_sets(Oid view);

extern SxLayout *sx_distinct_layout(Query *query);
extern void sx_distinct_sql(SxStepPlan *plan, Query *query, const SxLayout *layout,
							const SxStepNames *names);
extern void sx_distinct_prepare(Query *query, const SxLayout *layout,
								const SxViewOptions *options, bool hidden);

/* ---------- retract.c ---------- */

/* GROUP BY over one node with aggregates that can be undone? */
extern bool sx_can_retract(Query *query);
extern SxLayout *sx_retract_layout(Query *query);
extern void sx_retract_sql(SxStepPlan *plan, Query *query, const SxLayout *layout,
						   const SxStepNames *names);

/* ---------- reduce.c ---------- */

/*
 * The condition above on the rank that the subquery computes, as SQL over its columns as u;
 * NULL: there is none.
 */
extern char *sx_rank_condition(Query *query, Index varno);

/*
 * Can the one node that the query stands on forget rows that are not among the first ones?
 * Which of the query's rows it must keep, as SQL over its columns as u; NULL: it cannot.
 */
extern const char *sx_reduces(Query *query, const char *rank_condition);

/* The clause of such a query that lacks the order of arrival; NULL: none does. */
extern List **sx_order_to_complete(Query *query);

/* The node forgets other rows of its reader than these. */
extern void sx_node_keep(Oid view, const char *condition);

/* … which was said of the one node that the query reads; NULL: nothing was. */
extern const char *sx_kept_condition(List *refs);

/* hash: of the key over the node's state table as s; NULL: there is no key, and no $1 */
extern void sx_reduce_sql(SxRecompute *recompute, Query *query, const SxNodeRef *ref,
						  const char *kept, const char *hash);

/* ---------- recompute.c ---------- */

/* The statements of a view over nodes. */
extern void sx_recompute_sql(SxStepPlan *plan, Query *query, const SxLayout *layout,
							 const SxStepNames *names);

/* The layout of its state table. */
extern SxLayout *sx_recompute_layout(Query *query);

/* Makes what the nodes need to be recomputed from: triggers, indexes, eviction. */
extern void sx_recompute_prepare(Query *query, const SxLayout *above,
								 const SxViewOptions *options, List *own_nodes);

/* ---------- recompute_evict.c ---------- */

/*
 * Rows of the node and of what it stands on go when their window is closed; expr: the
 * window, over the node's columns.  Nodes that are not the view's own are left alone.
 */
extern void sx_recompute_evict(Oid view, Node *expr, const SxWindow *window, List *own_nodes);

/* ---------- load.c ---------- */

/* The layout of the view with this stored query, by the strategy that it has. */
extern SxLayout *sx_layout_of(Query *query);

/* Columns of a merged view that are its keys, as integers; NIL: it is not merged. */
extern List *sx_view_key_columns(Oid view);

/* Its layout and state table */
extern SxLayout *sx_view_layout(Oid view, Oid *state);

/* ---------- join.c ---------- */

/* Is the query, before it is cut, a join of two streams that can be kept as one? */
extern bool sx_join_is_candidate(Query *query);

/* The query over nodes as a join of two; NULL: it is something else. */
extern struct SxJoin *sx_join_find(Query *query);

extern SxLayout *sx_join_layout(Query *query);
extern void sx_join_sql(SxStepPlan *plan, Query *query, const SxLayout *layout,
						const SxStepNames *names);
extern void sx_join_check_options(const SxViewOptions *options, Query *query);

/* ERROR when a continuous view cannot stand on this one. */
extern void sx_join_check_reader(Oid view);

/* Of the view's state table. */
extern void sx_join_index_state(const char *table, bool by_time);

/* A condition of the visible view with emit = final, as " AND …" */
extern char *sx_join_visible_sql(Query *query, const char *state);

/* Tells the nodes what they keep, and warns when that has no end. */
extern void sx_join_prepare(Query *query, const SxViewOptions *options, const char *view);

/* ---------- node_ref.c ---------- */

/* The view that a range table entry shows as it is; InvalidOid: it is something else. */
extern Oid	sx_node_of(const RangeTblEntry *rte);

/* A subquery that shows the view as it is. */
extern Query *sx_node_query(Oid view);

/* Makes it the range table entry of such a subquery. */
extern void sx_rte_show(RangeTblEntry *rte, Query *subquery);

/* After the columns of joined entries have changed: joins that name their own anew. */
extern void sx_fix_joins(Query *query);

/* A subquery over the view with a column more and a condition, both as SQL over "c". */
extern Query *sx_node_query_where(Oid view, const char *column_sql, const char *where_sql,
								  const Oid *argtypes, int nargs);

/* An analysed query from SQL in which all names are qualified. */
extern Query *sx_parse(const char *sql, const Oid *argtypes, int nargs);

/*
 * SELECT what the view shows FROM its state's rows that streamext.function, such as
 * old_rows, gives, or of all of them (NULL); without HAVING.
 */
extern char *sx_changes_sql(Oid view, const char *function);

/* "SELECT …": what a view with this layout shows of its state table, which context names. */
extern void sx_append_output(StringInfo sql, const SxLayout *layout, List *context);

/* An expression over columns of the view (as varno 1) as SQL over alias, or bare columns. */
extern char *sx_node_expr_sql(Oid view, Node *expr, const char *alias);

/* streamext.key_hash(…) of such expressions. */
extern char *sx_node_key_sql(Oid view, List *key, const char *alias);

/* ---------- node_key.c ---------- */

/*
 * The places where the query reads nodes, with the key by which it falls into parts that do
 * not touch each other: recomputing the query over the rows of some keys gives its rows
 * for these keys.  No key (NIL): it must be recomputed whole.
 */
extern List *sx_node_refs(Query *query);

#endif							/* SX_NODE_H */
