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
#include "fdw/shared.h"
#include "fdw/track.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/batch_internal.h"
#include "worker/errors_class.h"
#include "worker/lane.h"

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
	pl->retried = false;
	pl->timeouts = 0;
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
	sx_sharing_begin(pl, input);

	/* Dead letters move no watermark and no position. */
	if (input->live != NULL)
	{
		input->tracked = source->nrecords;
		input->nparts = 0;
	}
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
		pl->applying = i;
		if (!pl->steps[i].after_closing)
			sx_step_apply(pl, &pl->steps[i]);
	}
	pl->applying = -1;
	if (pl->must_restart)
		return;
	for (int i = 0; i < pl->ninputs; i++)
		sx_track_rest(pl, &pl->inputs[i]);
	for (int i = 0; i < pl->nsteps && !pl->must_restart; i++)
	{
		pl->applying = i;
		sx_step_close(pl, &pl->steps[i]);
	}
	pl->applying = -1;
	if (pl->must_restart)
		return;
	for (int i = 0; i < pl->nsteps; i++)
	{
		pl->applying = i;
		sx_step_finish(pl, &pl->steps[i]);
	}
	for (int i = 0; i < pl->nsteps; i++)
	{
		pl->applying = i;
		sx_step_late_letters(pl, &pl->steps[i]);
	}
	pl->applying = -1;
}

/* What the poll before has found, or the one within the batch that ends a lane. */
static bool
positions_only(const SxPipeline *pl)
{
	return pl->due == SX_DUE_POSITION;
}

/* Will a dead letter keep more of its record than the source has brought? */
static bool
lacks_content(const SxPipeline *pl)
{
	ListCell   *lc;

	foreach(lc, pl->dead)
	{
		const SxDeadRecord *dead = lfirst(lc);

		if (pl->inputs[dead->source].source->partial && sx_becomes_letter(pl, dead))
			return true;
	}
	return false;
}

static void
read_whole(SxPipeline *pl)
{
	for (int i = 0; i < pl->ninputs; i++)
	{
		SxSource   *source = pl->inputs[i].source;

		if (source->partial)
			source->ops->read_whole(source);
	}
}

/* The batch up to its commit. */
static SxBatchOutcome
attempt(SxPipeline *pl, bool own, SxBatchResult *result, TimestampTz started)
{
	instr_time	start;
	bool		mine;

	INSTR_TIME_SET_CURRENT(start);
	pl->arrival_batch = 0;
	pl->must_restart = pl->record_named = pl->timing_out = false;
	pl->on_behalf = pl->read_input = pl->applying = -1;
	pl->feeding = false;
	sx_rows_forget_all(pl);
	forget_late_letters(pl);
	sx_blamed_step = InvalidOid;
	PushActiveSnapshot(GetTransactionSnapshot());
	if (pl->merging)
		sx_lane_merge_begin(pl);
	mine = sx_pass_fence(pl, positions_only(pl), own);
	if (mine && pl->slots > 1)
		sx_slot_enter(pl);
	PopActiveSnapshot();
	if (!mine)
		return SX_BATCH_FENCED;

	/* Taken behind the fence, so that it sees what the last holder committed. */
	pl->snapshot = RegisterSnapshot(GetTransactionSnapshot());
	PushActiveSnapshot(pl->snapshot);
	if (pl->replay != NULL && !sx_replay_load(pl))
		return SX_BATCH_NOTHING;
	sx_current = pl;
	sx_load_inputs(pl);
	sx_idle_begin(pl);
	count_rows(pl, result);
	result->load_us = sx_elapsed_us(start);

	INSTR_TIME_SET_CURRENT(start);
	if (!positions_only(pl))
		run_steps(pl);
	result->steps_us = sx_elapsed_us(start);
	sx_current = NULL;

	if (!pl->must_restart)
	{
		sx_check_errors(pl);
		if (lacks_content(pl))
			return SX_BATCH_AGAIN;
		if (!positions_only(pl))
			result->dead_letters = sx_save_dead_letters(pl);
		if (pl->replay != NULL)
			sx_replay_save(pl);
		sx_save_positions(pl);
		if (!positions_only(pl))
			sx_save_batch(pl, result, started);
		if (pl->merging)
			sx_lane_merge_end(pl);
	}
	sx_rows_end_all(pl);
	sx_sharing_end(pl);
	PopActiveSnapshot();
	UnregisterSnapshot(pl->snapshot);
	pl->snapshot = NULL;
	return SX_BATCH_DONE;
}

/* The transaction is committed: what it decided is now so in memory too. */
static void
adopt(SxPipeline *pl)
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
	if (positions_only(pl))
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
		step->expired = step->new_expired;
		step->timer = step->new_timer;
		step->errors_from = step->new_errors_from;
		step->errors_now = step->new_errors_now;
		step->errors_before = step->new_errors_before;
	}
}

/*
 * Constraints have spoken before the commit.  A limit that is met there, as a queue of
 * notifications that a listener does not empty, is no record's.
 */
static void
blame_server(ErrorData *edata)
{
	if (edata->sqlerrcode == ERRCODE_PROGRAM_LIMIT_EXCEEDED)
		edata->sqlerrcode = ERRCODE_INSUFFICIENT_RESOURCES;
}

/* After an error: out of the batch, so that nothing takes this process for one. */
static void
leave_batch(SxPipeline *pl)
{
	sx_current = NULL;
	pl->snapshot = NULL;
	pl->on_behalf = -1;
	pl->feeding = false;
	sx_rows_forget_all(pl);
	sx_sharing_end(pl);
}

/*
 * A step took too long.  The server may have been busy, so it is tried once more; then a
 * record is looked for that takes as long alone.  A step that knows which record it is at
 * times each by itself.
 */
static bool
learn_from_timeout(SxPipeline *pl, int step, bool own)
{
	if (pl->timeouts < 2)
		return true;
	if (pl->steps[step].at_record && !pl->steps[step].careful)
		return pl->steps[step].careful = true;
	return sx_find_bad_records(pl, step, own) > 0;
}

/*
 * The step fails, and no record does: it may have been the state of a joined table, so it
 * has a second chance.
 */
static bool
try_again(SxPipeline *pl)
{
	bool		first = !pl->retried;

	pl->retried = true;
	return first;
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
	Oid			blamed = input >= 0 || pl->record_named ? InvalidOid : sx_blamed_step;
	int			applying = pl->applying;
	bool		learnt = false;

	if (own && sx_lost_conflict(pl, edata))
		return;
	pl->running_step = pl->decoding_input = pl->applying = -1;
	if (sx_step_timed_out(pl, applying, edata))
	{
		pl->timeouts++;
		learnt = step >= 0 && learn_from_timeout(pl, step, own);
	}
	else if (sx_error_class(edata->sqlerrcode) == SX_ERR_RECORD && step >= 0 &&
			 !pl->record_named)
	{
		if (pl->steps[step].at_record && !pl->steps[step].careful)
			learnt = pl->steps[step].careful = true;
		else if (input >= 0)
			learnt = sx_batch_bad_record(pl, &pl->inputs[input], pl->decoding_record,
										 step, edata->sqlerrcode, edata->message);
		if (!learnt || (list_length(pl->dead) > 10 && !pl->steps[step].at_record))
			learnt = sx_find_bad_records(pl, step, own) > 0 || learnt || try_again(pl);
	}
	sx_blamed_step = blamed;
	if (!learnt)
		sx_tx_rethrow(edata);
	sx_check_errors(pl);
}

/* One batch, after as many attempts as it takes. */
static SxBatchOutcome
run(SxPipeline *pl, bool own, SxBatchResult *result)
{
	TimestampTz started = GetCurrentTimestamp();
	MemoryContext caller = CurrentMemoryContext;

	for (;;)
	{
		SxBatchTx	tx;
		ErrorData  *volatile edata = NULL;
		volatile SxBatchOutcome outcome = SX_BATCH_DONE;
		volatile int step = -1;
		volatile bool at_fence = false;
		volatile bool at_commit = false;
		instr_time	commit;

		sx_begin_locked(&tx, pl, own);
		PG_TRY();
		{
			outcome = attempt(pl, own, result, started);
			if (outcome == SX_BATCH_DONE && !pl->must_restart)
			{
				INSTR_TIME_SET_CURRENT(commit);
				at_commit = true;
				sx_tx_commit(&tx);
				result->commit_us = sx_elapsed_us(commit);
			}
		}
		PG_CATCH();
		{
			MemoryContextSwitchTo(pl->batch_context);
			edata = CopyErrorData();
			FlushErrorState();
			sx_step_disarm();
			step = pl->running_step;
			at_fence = own && !at_commit && pl->snapshot == NULL;
		}
		PG_END_TRY();

		if (edata == NULL && outcome == SX_BATCH_DONE && !pl->must_restart)
			break;

		leave_batch(pl);
		sx_tx_abort(&tx);
		MemoryContextSwitchTo(caller);
		if (outcome == SX_BATCH_AGAIN)
		{
			read_whole(pl);
			forget_batch(pl);	/* its event times, too, which the next poll looks at */
		}
		if (outcome != SX_BATCH_DONE)
			return outcome;
		if (edata != NULL && at_commit)
			blame_server(edata);
		if (edata != NULL && !(at_fence && sx_fence_waited(pl, edata->sqlerrcode)))
			learn_from(pl, edata, step, own);
		CHECK_FOR_INTERRUPTS();
	}

	MemoryContextSwitchTo(caller);
	result->poll_us = pl->poll_us;
	pl->poll_us = 0;
	pl->last_commit_ms = result->commit_us / 1000.0;
	adopt(pl);
	result->batch_id = pl->batch_id;
	result->batch_time = pl->time;
	return SX_BATCH_DONE;
}

SxBatchOutcome
sx_batch_run(SxPipeline *pl, TimestampTz now, bool own, SxBatchResult *result)
{
	volatile SxBatchOutcome outcome;

	forget_batch(pl);
	pl->time = now;
	pl->merged = false;
	memset(result, 0, sizeof(SxBatchResult));
	if (pl->due != SX_DUE_LETTERS)
		return run(pl, own, result);

	sx_replay_begin(pl);
	PG_TRY();
	{
		outcome = run(pl, own, result);
	}
	PG_FINALLY();
	{
		sx_replay_end(pl);
	}
	PG_END_TRY();
	if (outcome == SX_BATCH_NOTHING)
		pl->letters = false;
	return outcome;
}
