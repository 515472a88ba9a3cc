/*-------------------------------------------------------------------------
 *
 * batch_rows.c
 *		Rows that streams and sinks have of their own in a batch.
 *
 * A derived stream that is no mere part of its readers' queries is evaluated once in
 * a batch; its rows go into a tuplestore, which spills to disk beyond work_mem, and
 * every scan of the stream reads them from there.  So do scans of a sink by the
 * function that it calls.
 *
 * A tuplestore belongs to the (sub)transaction that made it: an abort frees its memory
 * and files, and nobody may touch it afterwards.  So each attempt begins without
 * rows, each step makes its own, and before a commit they are ended.
 *
 * Bad records.  What fails for a step S is left out of S alone.  When S reads a stream
 * T, T's rows must then be made anew without those records, for S, and once more with
 * them for whoever comes next.  rows->on_behalf remembers for whom they were made.
 * Streams that keep state cannot be evaluated twice: a record that fails for S fails for
 * them too (sx_batch_bad_record).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "executor/executor.h"
#include "executor/tstoreReceiver.h"
#include "fdw/scan_rows.h"
#include "miscadmin.h"
#include "state/changes.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "worker/batch_internal.h"

struct SxRowScan
{
	SxRows	   *rows;
	int			pointer;
	TupleTableSlot *slot;
	MemoryContext context;		/* of the scan: a row that was spilled is read into it */
};

/* When the pipeline is opened: the columns. */
void
sx_rows_open(SxStep *step)
{
	Relation	rel = relation_open(step->relid, AccessShareLock);

	step->output.desc = CreateTupleDescCopy(RelationGetDescr(rel));
	step->output.on_behalf = -1;
	relation_close(rel, NoLock);
}

/* The step has no rows so far. */
void
sx_rows_begin(SxPipeline *pl, SxStep *step)
{
	MemoryContext old;

	step->output.context = AllocSetContextCreate(CurTransactionContext, "streamext rows",
												 ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(step->output.context);
	step->output.store = tuplestore_begin_heap(false, false, work_mem);
	tuplestore_set_eflags(step->output.store, EXEC_FLAG_REWIND);
	step->output.free_pointers = bms_make_singleton(0);
	step->output.on_behalf = pl->on_behalf;
	step->output.feeding = pl->feeding;
	MemoryContextSwitchTo(old);
}

void
sx_rows_put(SxStep *step, Datum *values, bool *isnull)
{
	tuplestore_putvalues(step->output.store, step->output.desc, values, isnull);
}

/* The rows of a SELECT are added to those of the step. */
int64
sx_rows_fill(SxPipeline *pl, SxStep *step, SPIPlanPtr *plan, const char *sql,
			 int nargs, Oid *types, Datum *values)
{
	DestReceiver *dest = CreateDestReceiver(DestTuplestore);
	int64		n;

	SetTuplestoreDestReceiverParams(dest, step->output.store, step->output.context,
									true, NULL, NULL);
	n = sx_step_select_with(pl, step, plan, sql, nargs, types, values, dest);
	dest->rDestroy(dest);
	return n;
}

/* … become those of the step. */
int64
sx_rows_select(SxPipeline *pl, SxStep *step, SPIPlanPtr *plan, const char *sql)
{
	sx_rows_begin(pl, step);
	return sx_rows_fill(pl, step, plan, sql, 0, NULL, NULL);
}

void
sx_rows_end(SxRows *rows)
{
	if (rows->store != NULL)
	{
		sx_scans_cut(rows);
		tuplestore_end(rows->store);
		MemoryContextDelete(rows->context);
	}
	rows->store = NULL;
	rows->free_pointers = NULL;
}

void
sx_rows_end_all(SxPipeline *pl)
{
	for (int i = 0; i < pl->nsteps; i++)
	{
		sx_rows_end(&pl->steps[i].output);
		sx_changes_end(&pl->steps[i]);
	}
	sx_scans_cut(NULL);
}

/* After an abort, which has freed them. */
void
sx_rows_forget_all(SxPipeline *pl)
{
	for (int i = 0; i < pl->nsteps; i++)
	{
		pl->steps[i].output.store = NULL;
		pl->steps[i].applied = false;
		sx_changes_forget(&pl->steps[i]);
	}
	sx_scans_cut(NULL);
}

/* ---------- scans ---------- */

SxRowScan *
sx_row_scan_begin(SxRows *rows)
{
	SxRowScan  *scan = palloc(sizeof(SxRowScan));
	MemoryContext old;

	scan->rows = rows;
	scan->context = CurrentMemoryContext;
	scan->slot = MakeSingleTupleTableSlot(rows->desc, &TTSOpsMinimalTuple);
	scan->pointer = bms_next_member(rows->free_pointers, -1);
	if (scan->pointer >= 0)
		rows->free_pointers = bms_del_member(rows->free_pointers, scan->pointer);
	else
	{
		old = MemoryContextSwitchTo(rows->context);
		scan->pointer = tuplestore_alloc_read_pointer(rows->store, EXEC_FLAG_REWIND);
		MemoryContextSwitchTo(old);
	}
	sx_row_scan_rescan(scan);
	return scan;
}

void
sx_row_scan_rescan(SxRowScan *scan)
{
	tuplestore_select_read_pointer(scan->rows->store, scan->pointer);
	tuplestore_rescan(scan->rows->store);
}

/* Gives the next row in slot, whose memory is good until the next call. */
bool
sx_row_scan_next(SxRowScan *scan, TupleTableSlot *slot)
{
	int			natts = scan->rows->desc->natts;
	MemoryContext old = MemoryContextSwitchTo(scan->context);
	bool		found;

	tuplestore_select_read_pointer(scan->rows->store, scan->pointer);
	found = tuplestore_gettupleslot(scan->rows->store, true, false, scan->slot);
	MemoryContextSwitchTo(old);
	if (!found)
		return false;
	slot_getallattrs(scan->slot);
	memcpy(slot->tts_values, scan->slot->tts_values, sizeof(Datum) * natts);
	memcpy(slot->tts_isnull, scan->slot->tts_isnull, sizeof(bool) * natts);
	return true;
}

void
sx_row_scan_end(SxRowScan *scan)
{
	MemoryContext old;

	if (scan->rows->store != NULL)
	{
		old = MemoryContextSwitchTo(scan->rows->context);
		scan->rows->free_pointers = bms_add_member(scan->rows->free_pointers, scan->pointer);
		MemoryContextSwitchTo(old);
	}
	ExecDropSingleTupleTableSlot(scan->slot);
	pfree(scan);
}
