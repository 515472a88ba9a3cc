/*-------------------------------------------------------------------------
 *
 * slot_close.c
 *		Watermarks of a pipeline with several workers, its slots.
 *
 * Each slot commits, with its batches, the highest event time of its own partitions and
 * which of them are idle.  What follows from all of them is for slot 0 alone:
 *
 *		watermark of a stream := the lowest of all partitions in streamext.partition
 *		watermark of a view   := the lowest of its streams
 *		what these pass by retention is deleted
 *
 * in a transaction of its own, without records: a closing.  What is closed must not change
 * any more, so no batch may merge a row into a window that closes meanwhile:
 *
 *		batch of another slot		closing
 *		  fence					  fence
 *		  lock, shared			  lock, exclusive: no batch is half done
 *		  read the watermarks		  move the watermarks
 *		  merge, test lateness by them
 *		COMMIT					COMMIT
 *
 * The lock is the server's (class pg_extension, the pipeline's id, subid 1), whose queue is
 * fair: a closing waits for the batches that run and not for those that come later.  Slot
 * 0's own batches need none, as they come before or after.  Who waits for it holds the
 * batch's relations and its progress row, but no row of state.
 *
 * A partition that has no row yet holds the watermark back, like one that has given no
 * event time: its worker may just not have been started.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "worker/batch_internal.h"
#include "worker/process.h"

bool
sx_slots_have_time(const SxPipeline *pl)
{
	for (int i = 0; pl->slots > 1 && i < pl->ninputs; i++)
	{
		if (pl->inputs[i].source->stream->has_watermark)
			return true;
	}
	return false;
}

/* To the end of the transaction.  A batch may take longer than other locks are waited for. */
static void
lock_closing(const SxPipeline *pl, LOCKMODE mode)
{
	int			lock_timeout = LockTimeout;
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, pl->id, 1);
	PG_TRY();
	{
		LockTimeout = 0;
		(void) LockAcquire(&tag, mode, false, false);
	}
	PG_FINALLY();
	{
		LockTimeout = lock_timeout;
	}
	PG_END_TRY();
}

/* ---------- a batch of another slot ---------- */

static void
take_watermark(HeapTuple row, TupleDesc desc, void *arg)
{
	SxPipeline *pl = arg;
	Oid			relid = sx_row_oid(row, desc, 1);
	TimestampTz watermark = sx_row_time(row, desc, 2);
	SxStep	   *step = sx_find_step(pl, relid);

	if (step != NULL)
		step->watermark = watermark;
	for (int i = 0; i < pl->ninputs; i++)
	{
		if (pl->inputs[i].source->stream->relid == relid)
			pl->inputs[i].watermark = watermark;
	}
}

void
sx_slot_enter(SxPipeline *pl)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(pl->id)};

	if (pl->slot == 0 || !sx_slots_have_time(pl))
		return;
	lock_closing(pl, ShareLock);
	sx_catalog_rows("SELECT stream::oid, watermark FROM streamext.source WHERE pipeline = $1 "
					"UNION ALL "
					"SELECT p.relation::oid, p.watermark FROM streamext.step s "
					"JOIN streamext.step_progress p ON p.relation = s.relation AND p.slot = 0 "
					"WHERE s.pipeline = $1",
					lengthof(types), types, values, NULL, take_watermark, pl);
}

/* ---------- a closing ---------- */

typedef struct AllParts
{
	int64		n;
	int64		silent;			/* without an event time, and not idle */
	TimestampTz lowest;			/* of those that are not idle; DT_NOBEGIN: there are none */
} AllParts;

static void
read_parts(HeapTuple row, TupleDesc desc, void *arg)
{
	AllParts   *all = arg;

	all->n = sx_row_int(row, desc, 1, 0);
	all->silent = sx_row_int(row, desc, 2, 0);
	all->lowest = sx_row_time(row, desc, 3);
}

/* What the committed partitions of all slots say; never below what it was. */
static TimestampTz
watermark_of_all(const SxPipeline *pl, const SxInput *input)
{
	const SxSource *source = input->source;
	Oid			types[] = {INT4OID, REGCLASSOID};
	Datum		values[] = {Int32GetDatum(pl->id), ObjectIdGetDatum(source->stream->relid)};
	AllParts	all = {0, 0, DT_NOBEGIN};

	if (!source->stream->has_watermark || source->all_parts == 0)
		return input->watermark;
	sx_catalog_rows("SELECT count(*), count(*) FILTER (WHERE max_event_time IS NULL AND NOT idle), "
					"min(max_event_time) FILTER (WHERE NOT idle) "
					"FROM streamext.partition WHERE pipeline = $1 AND stream = $2",
					lengthof(types), types, values, NULL, read_parts, &all);
	if (all.n < source->all_parts || all.silent > 0 || all.lowest == DT_NOBEGIN)
		return input->watermark;
	return Max(input->watermark, all.lowest - source->stream->watermark_delay);
}

/* True: some watermark moves, or there is more to delete behind one. */
static bool
find_watermarks(SxPipeline *pl)
{
	bool		moves = false;

	for (int i = 0; i < pl->ninputs; i++)
	{
		SxInput    *input = &pl->inputs[i];

		input->moved_to = watermark_of_all(pl, input);
		moves |= input->moved_to > input->watermark;
	}
	for (int i = 0; i < pl->nsteps; i++)
	{
		const SxStep *step = &pl->steps[i];

		moves |= sx_step_new_watermark(pl, step) > step->watermark ||
			(step->plan->expire_sql != NULL && !step->expired && step->watermark != DT_NOBEGIN);
	}
	return moves;
}

static void
forget_watermarks(SxPipeline *pl)
{
	for (int i = 0; i < pl->ninputs; i++)
		pl->inputs[i].moved_to = DT_NOBEGIN;
}

/* The progress row, locked; pl->closing_held: somebody else has it. */
static bool
is_mine(SxPipeline *pl)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(pl->id)};
	bool		isnull;
	Datum		epoch = sx_catalog_value("SELECT epoch FROM streamext.progress WHERE pipeline = $1 "
										 "AND slot = 0 FOR NO KEY UPDATE SKIP LOCKED",
										 lengthof(types), types, values, NULL, &isnull);

	pl->closing_held = isnull;
	return !isnull && DatumGetInt64(epoch) == pl->epoch;
}

static void
save_step(const SxStep *step)
{
	Oid			types[] = {REGCLASSOID, TIMESTAMPTZOID};
	Datum		values[] = {
		ObjectIdGetDatum(step->relid), TimestampTzGetDatum(step->new_watermark)
	};

	if (step->new_watermark > step->watermark)
		sx_catalog_exec("UPDATE streamext.step_progress SET watermark = $2 "
						"WHERE relation = $1 AND slot = 0",
						lengthof(types), types, values, NULL);
}

/* False: the pipeline is not ours any more, or somebody holds its row. */
static bool
close_windows(SxPipeline *pl)
{
	bool		mine;

	PushActiveSnapshot(GetTransactionSnapshot());
	mine = is_mine(pl);
	if (mine)
		lock_closing(pl, ExclusiveLock);
	PopActiveSnapshot();
	if (!mine)
		return false;

	pl->time = GetCurrentTimestamp();
	pl->snapshot = RegisterSnapshot(GetTransactionSnapshot());
	PushActiveSnapshot(pl->snapshot);
	sx_current = pl;
	(void) find_watermarks(pl);
	for (int i = 0; i < pl->ninputs; i++)
	{
		pl->inputs[i].future_rows = 0;
		sx_save_watermark(pl, &pl->inputs[i]);
	}
	for (int i = 0; i < pl->nsteps; i++)
	{
		SxStep	   *step = &pl->steps[i];

		step->new_watermark = sx_step_new_watermark(pl, step);
		step->rows = 0;
		sx_step_finish(pl, step);
		save_step(step);
	}
	sx_current = NULL;
	PopActiveSnapshot();
	UnregisterSnapshot(pl->snapshot);
	pl->snapshot = NULL;
	return true;
}

/* The transaction is committed. */
static void
adopt(SxPipeline *pl)
{
	for (int i = 0; i < pl->ninputs; i++)
		pl->inputs[i].watermark = Max(pl->inputs[i].watermark, pl->inputs[i].moved_to);
	for (int i = 0; i < pl->nsteps; i++)
	{
		pl->steps[i].watermark = pl->steps[i].new_watermark;
		pl->steps[i].expired = pl->steps[i].new_expired;
	}
}

/* Would a closing move anything? */
static bool
is_due(SxPipeline *pl, bool own)
{
	bool		due;

	if (pl->slot != 0 || !sx_slots_have_time(pl))
		return false;
	if (own)
		sx_transaction_begin();
	due = find_watermarks(pl);
	if (own)
		sx_transaction_end();
	forget_watermarks(pl);
	return due;
}

/* After an error: as if nothing had been begun. */
static void
leave_closing(SxPipeline *pl)
{
	sx_current = NULL;
	pl->snapshot = NULL;
	pl->closing = false;
	forget_watermarks(pl);
}

SxBatchOutcome
sx_slots_close(SxPipeline *pl, bool own)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool mine = false;
	SxBatchTx	tx;

	pl->closing_held = false;
	if (!is_due(pl, own))
	{
		MemoryContextSwitchTo(caller);
		return SX_BATCH_NOTHING;
	}
	MemoryContextSwitchTo(caller);
	sx_begin_locked(&tx, pl, own);
	pl->closing = true;
	PG_TRY();
	{
		mine = close_windows(pl);
		if (mine)
			sx_tx_commit(&tx);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(pl->batch_context);
		edata = CopyErrorData();
		FlushErrorState();
		leave_closing(pl);
		sx_tx_abort(&tx);
		sx_tx_rethrow(edata);
	}
	PG_END_TRY();
	if (mine)
		adopt(pl);
	else
		sx_tx_abort(&tx);
	leave_closing(pl);
	MemoryContextSwitchTo(caller);
	return mine ? SX_BATCH_DONE : pl->closing_held ? SX_BATCH_NOTHING : SX_BATCH_FENCED;
}
