/*-------------------------------------------------------------------------
 *
 * scan.h
 *		The parts of the foreign-data wrapper that meet in fdw.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_SCAN_H
#define SX_SCAN_H

#include "nodes/execnodes.h"
#include "nodes/pathnodes.h"
#include "worker/batch.h"

/* scan.c */
typedef struct SxScan SxScan;

extern SxScan *sx_scan_begin(Relation rel, const Bitmapset *attrs);
extern bool sx_scan_next(SxScan *scan, TupleTableSlot *slot);
extern void sx_scan_rescan(SxScan *scan);
extern void sx_scan_end(SxScan *scan);

/* insert.c: callbacks of FdwRoutine */
extern List *sx_plan_insert(PlannerInfo *root, ModifyTable *plan,
							Index result_relation, int subplan_index);
extern void sx_begin_insert(ModifyTableState *mtstate, ResultRelInfo *rinfo,
							List *fdw_private, int subplan_index, int eflags);
extern void sx_begin_copy(ModifyTableState *mtstate, ResultRelInfo *rinfo);
extern TupleTableSlot *sx_insert(EState *estate, ResultRelInfo *rinfo,
								 TupleTableSlot *slot, TupleTableSlot *plan_slot);
extern TupleTableSlot **sx_insert_many(EState *estate, ResultRelInfo *rinfo,
									   TupleTableSlot **slots,
									   TupleTableSlot **plan_slots, int *nslots);
extern int	sx_insert_batch_size(ResultRelInfo *rinfo);
extern void sx_end_insert(EState *estate, ResultRelInfo *rinfo);
extern int	sx_is_updatable(Relation rel);

#endif							/* SX_SCAN_H */
