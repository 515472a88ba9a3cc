/*-------------------------------------------------------------------------
 *
 * group.h
 *		Groups made by the scan of a stream: when (group_plan.c) and how (group.c).
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_GROUP_H
#define SX_GROUP_H

#include "foreign/fdwapi.h"

/* group_plan.c */
extern void sx_group_paths(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input_rel,
						   RelOptInfo *output_rel, void *extra);
extern ForeignScan *sx_group_plan(ForeignPath *path, List *tlist, Plan *outer_plan);

/* group.c: the node stands on the scan, which it drives by itself */
extern void sx_group_begin(ForeignScanState *node);
extern TupleTableSlot *sx_group_next(ForeignScanState *node);
extern void sx_group_rescan(ForeignScanState *node);
extern void sx_group_end(ForeignScanState *node);

static inline bool
sx_is_group_scan(const ForeignScan *plan)
{
	return plan->scan.scanrelid == 0;
}

#endif							/* SX_GROUP_H */
