/*-------------------------------------------------------------------------
 *
 * create_internal.h
 *		What create.c, create_state.c and create_node.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_CREATE_INTERNAL_H
#define SX_CREATE_INTERNAL_H

#include "plan/node.h"

/* A view that is to be made, and the step that will keep it. */
typedef struct SxNewView
{
	RangeVar   *rel;
	const char *base;			/* of the names in streamext_state */
	SxViewOptions *options;
	const char *pipeline;		/* name, or NULL: that of its streams */
	SxReads		reads;
	bool		hidden;			/* a node */
} SxNewView;

/* ---------- create.c ---------- */

/* The objects of a view whose query needs no more nodes, and its step. */
extern Oid	sx_define_new_view(SxNewView *new, Query *query, SxStepPlan **plan,
							   SxLayout **layout);

/* ---------- create_state.c ---------- */

/*
 * Rows that come and go with every batch.  VACUUM leaves few line pointers of dead rows alone
 * otherwise, and does not give back an end that has one (state/state_compact.c).
 */
#define SX_CHURN_OPTIONS	"autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0, " \
							"vacuum_index_cleanup = on"

extern Oid	sx_create_state_table(const char *name, const SxLayout *layout, bool by_time,
								  Oid owner);

/* retention deletes by window, which only a leading key serves. */
extern void sx_index_window(const char *name, const SxLayout *layout);

/* state_ttl: the column that says when a group was touched last */
extern void sx_add_touched(const char *name);

/* ---------- create_node.c ---------- */

/* The query as it can be kept: over nodes, unless it can be kept alone.  query is consumed. */
extern Query *sx_cut_for(SxNewView *new, Query *query, SxNodeMaker *maker);

/* What the view's strategy needs of the nodes that it stands on. */
extern void sx_prepare_nodes(const SxStepPlan *plan, Query *query, SxLayout *layout,
							 const SxViewOptions *options, bool hidden, List *own_nodes);

/* DROP of the view takes its nodes along; the catalog knows whose they are. */
extern void sx_adopt_nodes(const SxNodeMaker *maker, Oid view);

#endif							/* SX_CREATE_INTERNAL_H */
