/*-------------------------------------------------------------------------
 *
 * fdw.c
 *		The foreign-data wrapper: planning of scans, and the table of callbacks.
 *
 * How many rows are expected depends on the size of the batches alone, as plans are kept
 * (worker/plan_size.c).  A condition is taken to let a third of the rows through, or
 * more: nothing is known of the values, and too few rows are the worse mistake.  A plan for
 * 50 rows hashes the stream instead of the table and sorts where it could group in
 * memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/sysattr.h"
#include "catalog/sx_catalog.h"
#include "commands/explain.h"
#include "fdw/scan.h"
#include "fdw/stream.h"
#include "foreign/fdwapi.h"
#include "nodes/makefuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/planmain.h"
#include "optimizer/restrictinfo.h"
#include "utils/rel.h"
#include "worker/plan_size.h"

#include "compat.h"

#define MIN_SELECTIVITY	(1.0 / 3)

PG_FUNCTION_INFO_V1(sx_fdw_handler);

static void
get_rel_size(PlannerInfo *root, RelOptInfo *baserel, Oid relid)
{
	baserel->tuples = sx_expected_rows();
	set_baserel_size_estimates(root, baserel);
	baserel->rows = Max(baserel->rows, rint(baserel->tuples * MIN_SELECTIVITY));
}

static void
get_paths(PlannerInfo *root, RelOptInfo *baserel, Oid relid)
{
	Cost		startup = baserel->baserestrictcost.startup;
	Cost		total = startup + baserel->tuples *
		(cpu_tuple_cost + baserel->baserestrictcost.per_tuple);

	add_path(baserel, (Path *)
			 sx_create_foreignscan_path(root, baserel, baserel->rows, startup, total,
										baserel->lateral_relids));
}

/* Columns that the query reads: only these are decoded. */
static List *
used_columns(RelOptInfo *baserel)
{
	Bitmapset  *attrs = NULL;
	List	   *result = NIL;
	ListCell   *lc;
	int			attno = -1;

	pull_varattnos((Node *) baserel->reltarget->exprs, baserel->relid, &attrs);
	foreach(lc, baserel->baserestrictinfo)
		pull_varattnos((Node *) ((RestrictInfo *) lfirst(lc))->clause,
					   baserel->relid, &attrs);
	while ((attno = bms_next_member(attrs, attno)) >= 0)
		result = lappend_int(result, attno + FirstLowInvalidHeapAttributeNumber);
	return result;
}

static ForeignScan *
get_plan(PlannerInfo *root, RelOptInfo *baserel, Oid relid, ForeignPath *path,
		 List *tlist, List *clauses, Plan *outer_plan)
{
	return make_foreignscan(tlist, extract_actual_clauses(clauses, false),
							baserel->relid, NIL, used_columns(baserel),
							NIL, NIL, outer_plan);
}

static void
begin_scan(ForeignScanState *node, int eflags)
{
	ForeignScan *plan = (ForeignScan *) node->ss.ps.plan;
	Bitmapset  *attrs = NULL;
	ListCell   *lc;

	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	foreach(lc, plan->fdw_private)
	{
		int			attno = lfirst_int(lc);

		if (attno == 0)			/* the whole row */
			attrs = bms_add_range(attrs, 1,
								  RelationGetDescr(node->ss.ss_currentRelation)->natts);
		else if (attno > 0)
			attrs = bms_add_member(attrs, attno);
	}
	node->fdw_state = sx_scan_begin(node->ss.ss_currentRelation, attrs);
}

static TupleTableSlot *
iterate_scan(ForeignScanState *node)
{
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;

	ExecClearTuple(slot);
	if (sx_scan_next(node->fdw_state, slot))
		ExecStoreVirtualTuple(slot);
	return slot;
}

static void
rescan(ForeignScanState *node)
{
	sx_scan_rescan(node->fdw_state);
}

static void
end_scan(ForeignScanState *node)
{
	if (node->fdw_state != NULL)
		sx_scan_end(node->fdw_state);
}

static void
explain_scan(ForeignScanState *node, ExplainState *es)
{
	SxStream   *stream = sx_stream_load(RelationGetRelid(node->ss.ss_currentRelation));
	const char *connector = sx_stream_option(stream, "connector", NULL);

	if (connector != NULL)
		ExplainPropertyText("Connector", connector, es);
}

Datum
sx_fdw_handler(PG_FUNCTION_ARGS)
{
	FdwRoutine *routine = makeNode(FdwRoutine);

	routine->GetForeignRelSize = get_rel_size;
	routine->GetForeignPaths = get_paths;
	routine->GetForeignPlan = get_plan;
	routine->BeginForeignScan = begin_scan;
	routine->IterateForeignScan = iterate_scan;
	routine->ReScanForeignScan = rescan;
	routine->EndForeignScan = end_scan;
	routine->ExplainForeignScan = explain_scan;

	routine->PlanForeignModify = sx_plan_insert;
	routine->BeginForeignModify = sx_begin_insert;
	routine->BeginForeignInsert = sx_begin_copy;
	routine->ExecForeignInsert = sx_insert;
	routine->ExecForeignBatchInsert = sx_insert_many;
	routine->GetForeignModifyBatchSize = sx_insert_batch_size;
	routine->EndForeignModify = sx_end_insert;
	routine->EndForeignInsert = sx_end_insert;
	routine->IsForeignRelUpdatable = sx_is_updatable;

	PG_RETURN_POINTER(routine);
}
