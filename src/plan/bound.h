/*-------------------------------------------------------------------------
 *
 * bound.h
 *		What keeps state from growing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_BOUND_H
#define SX_BOUND_H

#include "plan/plan_internal.h"

/* layout: NULL for what is no view */

/* A phrase; NULL: nothing does. */
extern char *sx_bound(const SxStepPlan *plan, const SxLayout *layout);

/* … what is kept, then. */
extern char *sx_bound_text(const SxStepPlan *plan, const SxLayout *layout);

/* load.c: … of a registered view or stream. */
extern char *sx_step_bound(Oid relid);

/* WARNING about a view that was just made, of these nodes, when its state can only grow. */
extern void sx_warn_of_growth(const char *name, Query *query, const SxStepPlan *plan,
							  const SxLayout *layout, List *nodes);

#endif							/* SX_BOUND_H */
