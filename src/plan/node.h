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
	bool		arrival;		/* rows get a number of arrival: sides of a join */
} SxNodeMaker;

/* ---------- cut.c ---------- */

/* Does the aggregate's result depend on the order of its rows? */
extern bool sx_sees_order(const Aggref *agg);

/* Is one query enough, kept by adding rows or merging aggregates? */
extern bool sx_is_single_node(Query *query);

/* The query over nodes, which it makes.  query is consumed.  ERROR when it cannot be kept. */
extern Query *sx_cut_query(Query *query, SxNodeMaker *maker);

/* ---------- create.c ---------- */

/* A hidden continuous view of the query; one made before when it is the same. */
extern Oid	sx_make_node(SxNodeMaker *maker, Query *query);

/* ---------- recompute.c ---------- */

/* The statements of a view over nodes. */
extern void sx_recompute_sql(SxStepPlan *plan, Query *query, const SxLayout *layout,
							 const SxStepNames *names);

/* The layout of its state table. */
extern SxLayout *sx_recompute_layout(Query *query);

/* Makes what the nodes need to be recomputed from: triggers, indexes, eviction. */
extern void sx_recompute_prepare(Query *query, const SxLayout *above,
								 const SxViewOptions *options, List *own_nodes);

/* What a node shows of the rows that the batch has changed, as a query. */
extern char *sx_changed_sql(Oid view);

/* ---------- load.c ---------- */

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

/* An expression over columns of the view (as varno 1) as SQL over alias, or bare columns. */
extern char *sx_node_expr_sql(Oid view, Node *expr, const char *alias);

/* streamext.key_hash(…) of such expressions. */
extern char *sx_node_key_sql(Oid view, List *key, const char *alias);

/* ---------- node_key.c ---------- */

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

/*
 * The places where the query reads nodes, with the key by which it falls into parts that do
 * not touch each other: recomputing the query over the rows of some keys gives its rows
 * for these keys.  No key (NIL): it must be recomputed whole.
 */
extern List *sx_node_refs(Query *query);

#endif							/* SX_NODE_H */
