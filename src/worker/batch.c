/*-------------------------------------------------------------------------
 *
 * batch.c
 *		One batch, in one transaction.
 *
 *		BEGIN
 *		  locks on the streams, views and tables
 *		  progress: batch_id n → n + 1, if batch_id and epoch are still ours
 *		  the sources fix their records (load)
 *		  every step, in order of creation
 *		  watermarks; steps that stand on the windows that these close; what they expire
 *		  positions, counters, dead letters, one row of history
 *		COMMIT
 *		the sources let go of the records (committed)
 *
 * The update of progress is the fence.  It locks the progress row until the end of the
 * batch; another holder's batch waits there, finds another batch_id or epoch, and
 * lets go (SX_BATCH_FENCED).
 *
 * An attempt that fails is rolled back whole.  If a record is to blame it is noted in
 * pl->dead, and the next attempt leaves it out and writes the dead letter; if not,
 * the error goes to the caller and the sources keep the records for a later try of
 * the same batch.  What was found out about bad records is kept in batch_context,
 * which an abort does not touch.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fdw/track.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/batch_internal.h"
#include "worker/errors_class.h"

/* Forgets the batch before: nothing is known yet about the records of this one. */
static void
forget_batch(SxPipeline *pl)
{
	MemoryContextReset(pl->batch_context);
	pl->conflicts = 0;
	pl->dead = NIL;
	for (int i = 0; i < pl->ninputs; i++)
	{
		pl->inputs[i].bad = NULL;
		pl->inputs[i].bad_for = NULL;
		pl->inputs[i].part_max = NULL;
		pl->inputs[i].nparts = 0;
	}
	for (int i = 0; i < pl->nsteps; i++)
		pl->steps[i].careful = false;
}

/* Late rows are found anew by each attempt. */
static void
forget_late_letters(SxPipeline *pl)
{
	ListCell   *lc;

	foreach(lc, pl->dead)
	{
		if (((SxDeadRecord *) lfirst(lc))->sqlerrcode == SX_ERRCODE_LATE)
			pl->dead = foreach_delete_current(pl->dead, lc);
	}
}

/* Makes the records of an input visible to scans, from the start. */
static void
begin_input(SxPipeline *pl, SxInput *input)
{
	SxSource   *source = input->source;
	MemoryContext old = MemoryContextSwitchTo(pl->batch_context);

	input->nparts = source->nparts;
	input->part_max = palloc(sizeof(TimestampTz) * Max(source->nparts, 1));
	for (int i = 0; i < source->nparts; i++)
		input->part_max[i] = source->parts[i].max_event_time;
	MemoryContextSwitchTo(old);

	input->rows = source->nrecords;
	input->tracked = 0;
	input->future_rows = 0;
	input->skew_limit = GetCurrentTimestamp() + source->stream->max_future_skew;
	input->probe_from = 0;
	input->probe_to = source->nrecords;
}

void
sx_load_inputs(SxPipeline *pl)
{
	for (int i = 0; i < pl->ninputs; i++)
	{
		SxSource   *source = pl->inputs[i].source;
		MemoryContext old = MemoryContextSwitchTo(source->context);

		source->ops->load(source, pl->snapshot);
		MemoryContextSwitchTo(old);
		begin_input(pl, &pl->inputs[i]);
	}
}

static void
count_rows(const SxPipeline *pl, SxBatchResult *result)
{
	result->rows = result->bytes = 0;
	for (int i = 0; i < pl->ninputs; i++)
	{
		result->rows += pl->inputs[i].source->nrecords;
		result->bytes += pl->inputs[i].source->nbytes;
	}
}

static void
run_steps(SxPipeline *pl)
{
	for (int i = 0; pl->end_watermark && i < pl->ninputs; i++)
		sx_track_rest(pl, &pl->inputs[i]);
	for (int i = 0; i < pl->nsteps && !pl->must_restart; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!pl->steps[i].after_closing)
			sx_step_apply(pl, &pl->steps[i]);
	}
	if (pl->must_restart)
		return;
	for (int i = 0; i < pl->ninputs; i++)
		sx_track_rest(pl, &pl->inputs[i]);
	for (int i = 0; i < pl->nsteps && !pl->must_restart; i++)
		sx_step_close(pl, &pl->steps[i]);
	if (pl->must_restart)
		return;
	for (int i = 0; i < pl->nsteps; i++)
		sx_step_finish(pl, &pl->steps[i]);
	for (int i = 0; i < pl->nsteps; i++)
		sx_step_late_letters(pl, &pl->steps[i]);
}

/* Does this record of pl->dead fail for the step?  Late ones have not failed. */
static bool
failed_for(const SxPipeline *pl, const SxDeadRecord *dead, int step)
{
	if (dead->sqlerrcode == SX_ERRCODE_LATE)
		return false;
	return dead->step == step ||
		(dead->step < 0 && sx_step_reads(&pl->steps[step], &pl->inputs[dead->source]));
}

/*
 * A step that fails for more records than the circuit breaker allows is not served by
 * dead letters: whoever writes to the topic has changed what he writes.
 */
static void
check_max_errors_of(const SxPipeline *pl, int step)
{
	int64		rows = 0;
	int64		failed = 0;
	const char *first = NULL;
	ListCell   *lc;

	foreach(lc, pl->dead)
	{
		SxDeadRecord *dead = lfirst(lc);

		if (!failed_for(pl, dead, step))
			continue;
		if (failed++ == 0)
			first = dead->message;
	}
	for (int i = 0; i < pl->ninputs; i++)
	{
		if (sx_step_reads(&pl->steps[step], &pl->inputs[i]))
			rows += pl->inputs[i].source->nrecords;
	}
	if (failed > pl->max_errors || (rows >= 100 && failed >= rows))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many records of one batch failed in %s", pl->steps[step].plan->name),
				 errdetail("%lld of %lld records failed so far, the first with: %s",
						   (long long) failed, (long long) rows, first),
				 errhint("Mend the stream's columns or the query, or raise its option max_errors, then streamext.resume().")));
}

static void
check_max_errors(const SxPipeline *pl)
{
	for (int i = 0; i < pl->nsteps && pl->dead != NIL; i++)
		check_max_errors_of(pl, i);
}

/* The batch up to its commit; false: fenced. */
static bool
attempt(SxPipeline *pl, bool positions_only, SxBatchResult *result,
		TimestampTz started)
{
	instr_time	start;
	bool		mine;

	INSTR_TIME_SET_CURRENT(start);
	pl->must_restart = pl->record_named = pl->timing_out = false;
	pl->on_behalf = -1;
	sx_rows_forget_all(pl);
	forget_late_letters(pl);
	PushActiveSnapshot(GetTransactionSnapshot());
	mine = sx_save_begin(pl, positions_only);
	PopActiveSnapshot();
	if (!mine)
		return false;

	/* Taken behind the fence, so that it sees what the last holder committed. */
	pl->snapshot = RegisterSnapshot(GetTransactionSnapshot());
	PushActiveSnapshot(pl->snapshot);
	sx_current = pl;
	sx_load_inputs(pl);
	count_rows(pl, result);
	result->load_us = sx_elapsed_us(start);

	INSTR_TIME_SET_CURRENT(start);
	if (!positions_only)
		run_steps(pl);
	result->steps_us = sx_elapsed_us(start);
	sx_current = NULL;

	if (!pl->must_restart)
	{
		check_max_errors(pl);
		if (!positions_only)
			result->dead_letters = sx_save_dead_letters(pl);
		sx_save_positions(pl);
		if (!positions_only)
			sx_save_batch(pl, result, started);
	}
	sx_rows_end_all(pl);
	PopActiveSnapshot();
	UnregisterSnapshot(pl->snapshot);
	pl->snapshot = NULL;
	return true;
}

/* The transaction is committed: what it decided is now so in memory too. */
static void
adopt(SxPipeline *pl, bool positions_only)
{
	for (int i = 0; i < pl->ninputs; i++)
	{
		SxInput    *input = &pl->inputs[i];
		SxSource   *source = input->source;

		input->watermark = sx_input_new_watermark(input);
		for (int p = 0; p < input->nparts; p++)
		{
			SxPart	   *part = &source->parts[p];

			part->max_event_time = input->part_max[p];
			part->saved_lag = part->lag;
			part->saved_idle = part->idle;
		}
		source->ops->committed(source);
	}
	if (positions_only)
		return;
	pl->batch_id++;
	pl->batch_time = pl->time;
	if (pl->first_batch_time == DT_NOBEGIN)
		pl->first_batch_time = pl->time;
	for (int i = 0; i < pl->nsteps; i++)
	{
		SxStep	   *step = &pl->steps[i];

		step->watermark = step->new_watermark;
		step->pending = step->new_pending;
		step->last_emit = step->new_last_emit;
		step->timer = step->new_timer;
	}
}

/*
 * An error ends a batch of step() here already: a subtransaction that is left open would
 * outlive the statement, and the session with it be in an aborted transaction block.
 */
static Oid
lock_steps(SxBatchTx *tx, const SxPipeline *pl, bool own)
{
	volatile Oid busy = InvalidOid;

	PG_TRY();
	{
		busy = sx_steps_lock(pl, !own);
	}
	PG_CATCH();
	{
		if (!own)
			sx_tx_abort(tx);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return busy;
}

/*
 * Opens the batch's transaction with all its locks.  One of our own is given up and
 * begun anew while somebody holds one of the relations: it waits for that one alone.
 */
static void
begin_locked(SxBatchTx *tx, const SxPipeline *pl, bool own)
{
	for (;;)
	{
		Oid			busy;

		sx_tx_begin(tx, pl, own);
		busy = lock_steps(tx, pl, own);
		if (!OidIsValid(busy))
			return;
		sx_tx_abort(tx);
		sx_tx_begin(tx, pl, own);
		LockRelationOid(busy, RowExclusiveLock);
		sx_tx_abort(tx);
		CHECK_FOR_INTERRUPTS();
	}
}

/* After an error: out of the batch, so that nothing takes this process for one. */
static void
leave_batch(SxPipeline *pl)
{
	sx_current = NULL;
	pl->snapshot = NULL;
	pl->on_behalf = -1;
	sx_rows_forget_all(pl);
}

/*
 * An attempt failed with this error.  Returns when another attempt makes sense,
 * because something new was learnt about its records, or because it was somebody else's
 * transaction that it failed for; throws otherwise.
 */
static void
learn_from(SxPipeline *pl, ErrorData *edata, int step, bool own)
{
	int			input = pl->decoding_input;
	bool		learnt = false;

	if (own && sx_lost_conflict(pl, edata))
		return;
	pl->running_step = pl->decoding_input = -1;
	if (sx_error_class(edata->sqlerrcode) == SX_ERR_RECORD && step >= 0 &&
		!pl->record_named)
	{
		if (pl->steps[step].at_record && !pl->steps[step].careful)
			learnt = pl->steps[step].careful = true;
		else if (input >= 0)
			learnt = sx_batch_bad_record(pl, &pl->inputs[input], pl->decoding_record,
										 step, edata->sqlerrcode, edata->message);
		if (!learnt || (list_length(pl->dead) > 10 && !pl->steps[step].at_record))
			learnt = sx_find_bad_records(pl, step, own) > 0 || learnt;
	}
	if (!learnt)
		sx_tx_rethrow(edata);
	check_max_errors(pl);
}

SxBatchOutcome
sx_batch_run(SxPipeline *pl, TimestampTz now, bool own, SxBatchResult *result)
{
	TimestampTz started = GetCurrentTimestamp();
	bool		positions_only = pl->due == SX_DUE_POSITION;
	MemoryContext caller = CurrentMemoryContext;

	forget_batch(pl);
	pl->time = now;
	memset(result, 0, sizeof(SxBatchResult));

	for (;;)
	{
		SxBatchTx	tx;
		ErrorData  *volatile edata = NULL;
		volatile bool mine = true;
		volatile int step = -1;
		instr_time	commit;

		begin_locked(&tx, pl, own);
		PG_TRY();
		{
			mine = attempt(pl, positions_only, result, started);
			if (mine && !pl->must_restart)
			{
				INSTR_TIME_SET_CURRENT(commit);
				sx_tx_commit(&tx);
				result->commit_us = sx_elapsed_us(commit);
			}
		}
		PG_CATCH();
		{
			MemoryContextSwitchTo(pl->batch_context);
			edata = CopyErrorData();
			FlushErrorState();
			step = pl->running_step;
		}
		PG_END_TRY();

		if (edata == NULL && mine && !pl->must_restart)
			break;

		leave_batch(pl);
		sx_tx_abort(&tx);
		MemoryContextSwitchTo(caller);
		if (!mine)
			return SX_BATCH_FENCED;
		if (edata != NULL)
			learn_from(pl, edata, step, own);
		CHECK_FOR_INTERRUPTS();
	}

	MemoryContextSwitchTo(caller);
	result->poll_us = pl->poll_us;
	pl->poll_us = 0;
	pl->last_commit_ms = result->commit_us / 1000.0;
	adopt(pl, positions_only);
	result->batch_id = pl->batch_id;
	result->batch_time = pl->time;
	return SX_BATCH_DONE;
}
