/*-------------------------------------------------------------------------
 *
 * worker.c
 *		The process that runs one pipeline, connected as the pipeline's owner.
 *
 *		look at the pipeline's row, if told to: leave when anything has changed
 *		poll the sources
 *		  something to do: one batch, in a transaction of its own
 *		  nothing: wait for a source, a timer or a wake-up
 *
 * While it polls and waits there is no transaction, snapshot or lock.
 *
 * It never follows a change in place: it leaves, and the scheduler starts another
 * one, which reads everything anew.  An error ends the process as well.  What the
 * error was goes into the pipeline's row, in a transaction of its own (worker_error.c);
 * the scheduler decides by that row alone.
 *
 * A look costs a query.  It happens at once when the catalog of pipelines was
 * changed (sx_must_look), and at most once in LOOK_MS after other hints that
 * something may have changed: invalidations, and each wake-up, as a queue's insert
 * and a change of the pipeline wake alike.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/sx_catalog.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "sink/sink.h"
#include "source/rights.h"
#include "streamext.h"
#include "state/state_compact.h"
#include "worker/batch.h"
#include "worker/lane.h"
#include "worker/pipeline_row.h"
#include "worker/process.h"
#include "worker/rate.h"
#include "worker/timetable.h"
#include "worker/worker_error.h"
#include "worker/worker_slots.h"

#define LOOK_MS			1000
#define PROVEN_MS		10000	/* a life in peace that proves it works */
#define END_NAP_MS		20
#define PATIENT_LOCK_MS	5000
#define OUTBOX_NAP_MS	100		/* while a sink is behind */
#define LANE_NAP_MS		1000	/* nobody tells a lane that its limit has moved */
#define LANE_RETRY_MS	100		/* the merge was not possible just now */
#define AHEAD_US		USECS_PER_MINUTE

static int	pipeline_id;
static int	my_slot;			/* which of the workers of the pipeline this is */
static SxPipeline *pl = NULL;
static SxPipelineRow *row = NULL;	/* as this worker began with it */
static MemoryContext loop_context;

static bool proven = false;		/* the start no longer counts as a failure */
static bool reported_idle = false;
static bool maybe_changed = false;	/* look, but not more often than LOOK_MS */
static TimestampTz looked_at;
static TimestampTz started_at;
static SxTimetable timetable;
static int64 held_epoch = -1;
static bool lane_is_near = false;	/* the last batch reached the limit of then */
static char *allowed_hosts;		/* streamext.allowed_hosts, as the sources know it */
static bool is_superuser;		/* … and whether it counts for them */

/* ----------------------------------------------------------------------
 * The pipeline's row
 * ----------------------------------------------------------------------
 */

/* False: the extension is gone, and with it the catalog, or of another version. */
bool
sx_worker_begin(void)
{
	sx_transaction_begin();
	if (sx_extension_usable())
		return true;
	sx_transaction_end();
	return false;
}

/* In good order: the start is not counted as a failure. */
static void
leave(void)
{
	if (pl != NULL)
		sx_pipeline_close(pl);
	if (!proven && sx_worker_begin())
	{
		sx_row_not_started(pipeline_id, my_slot);
		sx_transaction_end();
	}
	proc_exit(0);
}

/* The row in the given context; NULL: not to run. */
static SxPipelineRow *
read_row(MemoryContext context)
{
	SxPipelineRow *result;

	if (!sx_worker_begin())
		return NULL;
	MemoryContextSwitchTo(context);
	result = sx_pipeline_row(pipeline_id, my_slot);
	sx_transaction_end();
	MemoryContextSwitchTo(loop_context);
	return result;
}

/*
 * What the owner may do may have changed, too: 42501 stops the pipeline when something
 * that it needs was taken away.
 */
static void
check_rights(void)
{
	bool		same;

	if (!sx_worker_begin())
		leave();
	same = superuser() == is_superuser;
	for (int i = 0; same && i < pl->ninputs; i++)
		sx_stream_check_rights(pl->inputs[i].source->stream);
	sx_transaction_end();
	MemoryContextSwitchTo(loop_context);
	if (!same)
		leave();
}

static void
look(TimestampTz now)
{
	SxPipelineRow *current;

	maybe_changed = false;
	looked_at = now;
	current = read_row(loop_context);
	if (current == NULL || strcmp(current->definition, row->definition) != 0)
		leave();
	pl->letters |= current->letters && my_slot == 0;
	check_rights();
}

/* Milliseconds until a look is due, -1: none is. */
static long
look_wait(TimestampTz now)
{
	if (!maybe_changed)
		return -1;
	return Max(0, LOOK_MS - TimestampDifferenceMilliseconds(looked_at, now));
}

static void
look_if_told(TimestampTz now)
{
	if (MyLatch->is_set)
	{
		ResetLatch(MyLatch);
		maybe_changed = true;
		sx_slots_woken();
	}
	AcceptInvalidationMessages();
	if (sx_must_look() || look_wait(now) == 0)
		look(now);
}

static void
relation_changed(Datum arg, Oid relid)
{
	maybe_changed = true;
}

static void
object_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	maybe_changed = true;
}

/*
 * A batch that waits for a row gives up before whoever has the row, and may want one of
 * ours, looks for a deadlock and finds itself.  The next try is patient, or it might
 * never get its turn.
 */
static void
set_lock_timeout(bool patient)
{
	char		value[32];

	snprintf(value, sizeof(value), "%d",
			 patient ? PATIENT_LOCK_MS : Min(PATIENT_LOCK_MS, Max(sx_deadlock_timeout * 9 / 10, 1)));
	SetConfigOption("lock_timeout", value, PGC_SUSET, PGC_S_OVERRIDE);
}

/* A batch was done, or nothing has gone wrong for a while. */
static void
works(void)
{
	if (proven)
		return;
	set_lock_timeout(false);
	if (sx_worker_begin())
	{
		proven = sx_row_works(pipeline_id, my_slot);
		sx_transaction_end();
	}
	MemoryContextSwitchTo(loop_context);
}

/* run(): all that the sources held at its call has been processed. */
static void
leave_at_end(void)
{
	if (sx_worker_begin())
	{
		sx_row_reached_end(pipeline_id);
		if (pl->slots > 1)
			sx_wake_scheduler_at_commit();	/* and so the other workers */
		sx_transaction_end();
	}
	proven = true;
	leave();
}

/*
 * run() and wait() want to know when all is processed that the sources held when
 * they asked.  The sources note what they hold at the first call, so a question that
 * comes in the middle waits for the next round.  True while a round is open.
 */
static bool
check_end(void)
{
	static bool asking = false;
	static uint64 number;
	SxSlotsEnd	end;

	if (pl->lane_of != 0)
		return false;			/* its end is the merge */
	if (!asking)
	{
		number = sx_status_end_wanted();
		asking = number > 0 || row->run_to_end;
	}
	if (!asking || !sx_pipeline_reached_end(pl))
		return asking;
	asking = false;
	end = sx_slots_at_end(pl, row->run_to_end);
	if (end == SX_SLOTS_FENCED)
		leave();
	if (end == SX_SLOTS_NOT_YET && my_slot == 0)
		return false;			/* it is woken */
	/* run(): who waits shall find the pipeline paused, so that is the answer */
	if (row->run_to_end && my_slot == 0)
		leave_at_end();
	if (number > 0)
		sx_status_end_reached(number);
	return false;
}

/* ----------------------------------------------------------------------
 * Batches
 * ----------------------------------------------------------------------
 */
static void
report_running(void)
{
	char		activity[NAMEDATALEN * 2 + 64];

	snprintf(activity, sizeof(activity), "streamext batch " INT64_FORMAT " of %s",
			 pl->batch_id + 1, pl->name);
	pgstat_report_activity(STATE_RUNNING, activity);
	reported_idle = false;
}

static void
report_idle(void)
{
	if (!reported_idle)
		pgstat_report_activity(STATE_IDLE, NULL);
	reported_idle = true;
}

/* Was it a limit that ended the batch, so that more is waiting? */
static bool
was_full(const SxBatchResult *result)
{
	for (int i = 0; i < pl->ninputs; i++)
	{
		if (sx_input_was_full(&pl->inputs[i]))
			return true;
	}
	return result->bytes >= pl->max_bytes * 9 / 10 || pl->max_files > 0;
}

static void
publish_rate(void)
{
	sx_status_rate(sx_rate_limit(pl->rate), sx_rate_target_ms(pl->rate),
				   sx_rate_reason(pl->rate));
}

/*
 * A state table has an empty end, and whoever vacuums it now wants it for himself for a
 * moment, which under load would not come.
 */
static void
give_way(void)
{
	pl->gives_way = false;
	timetable.due = Max(timetable.due, GetCurrentTimestamp() + SX_WAY_US);
}

/* began: its poll. */
static void
run_batch(TimestampTz now, SxDue due, TimestampTz began)
{
	SxBatchResult result;
	TimestampTz was_due = timetable.due;
	TimestampTz time = sx_pipeline_batch_time(pl, now);
	SxBatchOutcome outcome;

	report_running();
	outcome = sx_batch_run(pl, time, true, &result);
	if (outcome == SX_BATCH_FENCED)
		leave();
	MemoryContextSwitchTo(loop_context);
	if (outcome == SX_BATCH_NOTHING || outcome == SX_BATCH_AGAIN)
		return;
	if (pl->merged)
		leave();
	due = pl->due;
	sx_slots_tell(pl);
	sx_timetable_after(&timetable, time, GetCurrentTimestamp());
	if (pl->batch_interval <= 0 && was_full(&result))
		timetable.due = 0;
	if (pl->gives_way)
		give_way();
	/* Autovacuum goes by these, and a worker under load never comes to rest. */
	(void) pgstat_report_stat(false);
	if (due == SX_DUE_BATCH)
	{
		sx_rate_batch(pl, was_due, began, GetCurrentTimestamp(), result.rows);
		publish_rate();
		sx_status_rows(result.rows);
		works();
	}
	else if (due == SX_DUE_LETTERS)
		works();
	(void) check_end();
}

/* ----------------------------------------------------------------------
 * Waiting
 * ----------------------------------------------------------------------
 */
/* What is wrong with a source at the moment. */
static void
publish_status(void)
{
	const char *text = NULL;

	for (int i = 0; i < pl->ninputs && text == NULL; i++)
		text = pl->inputs[i].source->status;
	if (text == NULL && pl->batch_time > GetCurrentTimestamp() + AHEAD_US)
		text = "the last batch time is ahead of the clock: windows in time and time-outs wait for it";
	sx_status_text(text ? text : "");
}

/*
 * Nothing to do: timers besides those of the sources, then sleep.  Not for long when
 * somebody waits for the end, which sources may have to ask somewhere else.
 */
static void
wait_for_sources(TimestampTz now, bool end_is_awaited)
{
	int			fds[SX_MAX_FDS];
	int			nfds = SX_MAX_FDS;
	long		timeout = sx_pipeline_wait(pl, fds, &nfds);
	long		unsent = pgstat_report_stat(false);
	long		peace = PROVEN_MS - TimestampDifferenceMilliseconds(started_at, now);

	report_idle();
	if (!proven && peace <= 0)
	{
		works();
		peace = PROVEN_MS;
	}
	timeout = sx_sooner(timeout, look_wait(now));
	timeout = sx_sooner(timeout, sx_slots_wait(pl, now, false));
	if (unsent > 0)
		timeout = sx_sooner(timeout, unsent);
	if (!proven)
		timeout = sx_sooner(timeout, peace);
	if (end_is_awaited)
		timeout = sx_sooner(timeout, END_NAP_MS);
	if (pl->lane_of != 0)
		timeout = sx_sooner(timeout, lane_is_near ? LANE_RETRY_MS : LANE_NAP_MS);
	sx_process_wait(fds, nfds, timeout);
	sx_timetable_skip(&timetable, GetCurrentTimestamp());
}

/*
 * batch_interval has not passed, or max_rate is used up: data that arrives is no
 * reason to wake.  Latches count in milliseconds; the rest of one is slept without.
 */
static void
wait_until(TimestampTz due, TimestampTz now)
{
	long		timeout = (due - now) / 1000;
	long		unsent;

	if (timeout == 0)
	{
		pg_usleep(due - now);
		return;
	}
	unsent = pgstat_report_stat(false);
	report_idle();
	timeout = sx_sooner(timeout, look_wait(now));
	if (unsent > 0)
		timeout = sx_sooner(timeout, unsent);
	sx_process_wait(NULL, 0, timeout);
}

/* ----------------------------------------------------------------------
 * A lane
 * ----------------------------------------------------------------------
 */

/* It reads as far as the pipeline has read that it belongs to, as of now. */
static void
follow(void)
{
	if (!sx_worker_begin())
		leave();
	sx_lane_limit(pl);
	sx_transaction_end();
	MemoryContextSwitchTo(loop_context);
}

/*
 * Near the limit, the next batch is the one that ends the lane; if that has not come to
 * pass, how near it was is seen from what it left.
 */
static SxDue
lane_turn(TimestampTz batch_time, TimestampTz now)
{
	SxDue		due;

	follow();
	due = sx_pipeline_poll(pl, batch_time, false);
	publish_status();
	if (due == SX_DUE_NOTHING && !sx_lane_at_limit(pl))
		return due;
	pl->merging = lane_is_near || due == SX_DUE_NOTHING;
	run_batch(batch_time, due, now);
	pl->merging = false;
	lane_is_near = sx_lane_at_limit(pl);
	return pl->due == SX_DUE_BATCH ? SX_DUE_BATCH : due;
}

/* ----------------------------------------------------------------------
 * The loop
 * ----------------------------------------------------------------------
 */
static void
turn(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz ready_at = Max(timetable.due, sx_rate_ready_at(pl->rate, now));
	TimestampTz batch_time = sx_timetable_batch_time(&timetable, now);
	SxDue		due;
	const char *status;

	if (sx_outbox_is_full(pl, &status))
	{
		sx_status_text(status);
		sx_process_wait(NULL, 0, OUTBOX_NAP_MS);
		return;
	}
	if (ready_at > now)
	{
		wait_until(ready_at, now);
		return;
	}

	if (pl->lane_of != 0)
	{
		if (lane_turn(batch_time, now) == SX_DUE_NOTHING)
			wait_for_sources(now, false);
		return;
	}
	due = sx_pipeline_poll(pl, batch_time, false);
	publish_status();
	if (sx_slots_wait(pl, now, due != SX_DUE_NOTHING) == 0 && !sx_slots_look(pl))
		leave();
	if (due != SX_DUE_NOTHING)
	{
		run_batch(batch_time, due, now);
		return;
	}
	wait_for_sources(now, check_end());
}

/*
 * Takes over in a transaction of its own: DDL locks its relations first and then the
 * progress row, so opening them while we hold that row would be one half of a
 * deadlock.  Whoever takes over or changes the pipeline in between starts another
 * epoch, and the worker that the scheduler starts next reads what is so then.
 */
static void
open_pipeline(void)
{
	allowed_hosts = MemoryContextStrdup(TopMemoryContext, sx_allowed_hosts);
	row = read_row(TopMemoryContext);
	if (row == NULL)
		leave();
	if (!sx_worker_begin())
		leave();
	held_epoch = sx_pipeline_take(pipeline_id, my_slot);
	sx_transaction_end();
	do
	{
		if (sx_process_breathe() || !sx_worker_begin())
			leave();
		is_superuser = superuser();
		pl = sx_pipeline_try_open(pipeline_id, my_slot);
	} while (pl == NULL);
	sx_transaction_end();
	MemoryContextSwitchTo(loop_context);
	if (pl->epoch != held_epoch)
		leave();

	MemoryContextSwitchTo(pl->context);
	pl->rate = sx_rate_open(pl);
	MemoryContextSwitchTo(loop_context);
	publish_rate();
	sx_timetable_begin(&timetable, pl->batch_interval, pl->batch_time, GetCurrentTimestamp());

	/* What may be lost in a crash is read again, unless the pipeline says no. */
	if (pl->async_commit)
		SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_OVERRIDE);
	else if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		SetConfigOption("synchronous_commit", "on", PGC_USERSET, PGC_S_OVERRIDE);

	/* Waiting for a lock must not look like a record that takes too long. */
	if (pl->step_timeout > 0 && pl->step_timeout / 2 < LockTimeout)
		SetConfigOption("lock_timeout", psprintf("%d", Max(pl->step_timeout / 2, 1)),
						PGC_SUSET, PGC_S_OVERRIDE);
}

static void
run_pipeline(void)
{
	started_at = looked_at = GetCurrentTimestamp();
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, object_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGOID, object_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, object_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMMEMROLE, object_changed, (Datum) 0);

	open_pipeline();
	set_lock_timeout(row->error_sqlstate != NULL && strcmp(row->error_sqlstate, "55P03") == 0);
	for (;;)
	{
		MemoryContextReset(loop_context);

		if (sx_process_breathe() || strcmp(allowed_hosts, sx_allowed_hosts) != 0)
			leave();
		look_if_told(GetCurrentTimestamp());
		turn();
	}
}

void
sx_pipeline_main(Datum arg)
{
	SxStart		start;

	sx_process_begin(&start, MyBgworkerEntry->bgw_name);
	pipeline_id = start.pipeline;
	my_slot = start.worker;
	loop_context = AllocSetContextCreate(TopMemoryContext, "streamext worker",
										 ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(loop_context);

	PG_TRY();
	{
		run_pipeline();
	}
	PG_CATCH();
	{
		SxWorkerLife life = {pipeline_id, my_slot, pl, row, proven, held_epoch};

		sx_worker_fail(&life);
	}
	PG_END_TRY();
	proc_exit(0);
}
