/*-------------------------------------------------------------------------
 *
 * status.c
 *		SQL access to what a worker says about itself, and waiting for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/sx_catalog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "worker/batch.h"
#include "worker/lane.h"
#include "worker/worker.h"

#include "compat.h"

PG_FUNCTION_INFO_V1(sx_may_see);
PG_FUNCTION_INFO_V1(sx_worker_status_row);
PG_FUNCTION_INFO_V1(sx_wait);

#define WAIT_MS		10			/* between two looks */

/* What keeps the pipelines of this database from running; false: nothing does. */
static bool
why_idle(Datum *text)
{
	const char *version = sx_other_version();
	const char *reason = version == NULL ? sx_why_nothing_runs() :
		psprintf("the library of streamext is version %s, its objects here are version %s: "
				 "run ALTER EXTENSION streamext UPDATE, or restart the server", SX_VERSION, version);

	if (reason != NULL)
		*text = CStringGetTextDatum(reason);
	return reason != NULL;
}

/* May the current user see what belongs to this role? */
static bool
may_see(Oid owner)
{
	return has_privs_of_role(GetUserId(), owner) ||
		has_privs_of_role(GetUserId(), ROLE_PG_MONITOR);
}

Datum
sx_may_see(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(may_see(PG_GETARG_OID(0)));
}

/*
 * The views ask with the id of a pipeline that was found to be the reader's, but as the
 * reader calls the function, anybody can ask.
 */
static bool
may_see_pipeline(int pipeline)
{
	Datum		values[] = {Int32GetDatum(pipeline)};
	bool		isnull;
	Datum		owner = sx_catalog_value("SELECT owner::oid FROM streamext.pipeline WHERE id = $1",
										 SX_ARGS(INT4OID), values, NULL, &isnull);

	return !isnull && may_see(DatumGetObjectId(owner));
}

Datum
sx_worker_status_row(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[8];
	bool		nulls[8] = {true, true, true, true, true, true, true, true};
	SxWorkerStatus status;
	bool		visible;
	bool		other_version;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (desc->natts != lengthof(values))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("function streamext.worker_status is of another version than the library of streamext"),
				 errhint("Run ALTER EXTENSION streamext UPDATE.")));
	/* The catalog of another version is not read; what is said then is no secret. */
	other_version = sx_other_version() != NULL;
	visible = !other_version && may_see_pipeline(PG_GETARG_INT32(0));
	if (visible && sx_worker_status(PG_GETARG_INT32(0), PG_GETARG_INT32(1), &status))
	{
		memset(nulls, false, sizeof(nulls));
		values[0] = Int32GetDatum(status.pid);
		values[1] = TimestampTzGetDatum(status.started);
		values[2] = Float8GetDatum(status.rows_per_second);
		values[3] = Int64GetDatum(status.batches);
		values[4] = CStringGetTextDatum(status.status);
		nulls[4] = status.status[0] == '\0';
		values[5] = Float8GetDatum(status.rate_limit);
		nulls[5] = status.rate_limit <= 0;
		values[6] = Float8GetDatum(status.target_ms);
		nulls[6] = status.target_ms <= 0;
		values[7] = CStringGetTextDatum(status.rate_reason);
		nulls[7] = status.rate_reason[0] == '\0';
	}
	else if (visible || other_version)
		nulls[4] = !why_idle(&values[4]);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/*
 * A pipeline that run() has paused: is there anything new since?  The sources are asked
 * here, as nobody else reads them.
 */
static bool
nothing_new_in(int pipeline, int slot)
{
	SxPipeline *pl = sx_pipeline_open(pipeline, slot, CurrentMemoryContext, false);
	SxDue		due = SX_DUE_NOTHING;

	PG_TRY();
	{
		due = sx_pipeline_poll(pl, GetCurrentTimestamp(), true);
	}
	PG_FINALLY();
	{
		sx_pipeline_close(pl);
	}
	PG_END_TRY();
	return due != SX_DUE_BATCH;
}

static bool
nothing_new(int pipeline)
{
	for (int slot = sx_pipeline_slots(pipeline) - 1; slot >= 0; slot--)
	{
		if (!nothing_new_in(pipeline, slot))
			return false;
	}
	return true;
}

/*
 * True: run() has come to its end.  ERROR when the pipeline does not run.  A lane may have been
 * merged since the name was looked up, which is no error.
 */
static bool
ran_to_end(const char *name, int pipeline, bool asked, bool *was_lane)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(pipeline)};
	bool		isnull;
	Datum		state = sx_catalog_value("SELECT CASE WHEN NOT EXISTS (SELECT FROM streamext.step s WHERE s.pipeline = p.id) "
										 "THEN 'idle: no view or sink reads its streams' "
										 "WHEN state = 'paused' AND run_to_end THEN 'ended' "
										 "ELSE state || coalesce(': ' || error_message, '') END "
										 "FROM streamext.pipeline p WHERE id = $1",
										 1, types, values, NULL, &isnull);
	const char *what = isnull ? "dropped" : text_to_cstring(DatumGetTextPP(state));

	if (isnull && sx_pipeline_by_name(name, false) != pipeline)
	{
		*was_lane = true;
		return false;
	}
	if (strcmp(what, "ended") == 0)
	{
		if (asked || nothing_new(pipeline))
			return true;
		what = "paused";
	}
	if (strncmp(what, "running", 7) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the pipeline of \"%s\" is %s", name, what),
				 errhint("Let it run: SELECT streamext.resume('…'), or streamext.step() to run a batch here.")));
	return false;
}

/* Nobody runs the pipeline that a lane has joined: then this is all there is to wait for. */
static bool
is_running(int pipeline)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(pipeline)};
	bool		isnull;
	Datum		running = sx_catalog_value("SELECT state = 'running' FROM streamext.pipeline WHERE id = $1",
										   1, types, values, NULL, &isnull);

	return !isnull && DatumGetBool(running);
}

#define MAX_SLOTS	64

/*
 * The workers of a pipeline answer one after the other, slot 0 at last: it closes what the
 * others have passed.  What they have answered once they need not be asked again.
 */
typedef struct Wait
{
	int			pipeline;
	int			slot;			/* that is being asked */
	SxEndRequest requests[MAX_SLOTS];
} Wait;

static bool
all_reached(int pipeline, Wait *wait)
{
	if (wait->pipeline != pipeline)
	{
		memset(wait, 0, sizeof(Wait));
		wait->pipeline = pipeline;
		wait->slot = Max(Min(sx_pipeline_slots(pipeline), MAX_SLOTS), 1) - 1;
	}
	/* all but slot 0 are asked at once */
	for (int slot = wait->slot - 1; slot > 0; slot--)
		(void) sx_worker_end_reached(pipeline, slot, &wait->requests[slot]);
	while (sx_worker_end_reached(pipeline, wait->slot, &wait->requests[wait->slot]))
	{
		if (wait->slot == 0)
			return true;
		wait->slot--;
	}
	return false;
}

/*
 * One look.  A view in a lane: false until that is merged, and from then on it is the
 * pipeline it has joined.
 */
static bool
is_over(const char *name, Wait *wait, bool *was_lane)
{
	int			pipeline = sx_pipeline_by_name(name, false);

	if (sx_lane_of(pipeline) != 0)
	{
		(void) ran_to_end(name, pipeline, true, was_lane);
		*was_lane = true;
		return false;
	}
	if (*was_lane && !is_running(pipeline))
		return true;
	return all_reached(pipeline, wait) ||
		ran_to_end(name, pipeline, wait->requests[wait->slot].pid != 0, was_lane);
}

/* A lane has the owner of what it joins, which it may do just now. */
static void
check_owner(const char *name)
{
	int			pipeline;
	int			lane_of;

	do
	{
		pipeline = sx_pipeline_by_name(name, false);
		lane_of = sx_lane_of(pipeline);
	} while (lane_of == 0 && sx_pipeline_by_name(name, false) != pipeline);
	sx_pipeline_check_owner(lane_of != 0 ? lane_of : pipeline);
}

/*
 * The worker is asked to note what its sources hold; it answers when that is
 * committed.  A worker that is replaced meanwhile is asked again.
 */
Datum
sx_wait(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Interval   *timeout = PG_GETARG_INTERVAL_P(1);
	TimestampTz until = DatumGetTimestampTz(
											DirectFunctionCall2(timestamptz_pl_interval,
																TimestampTzGetDatum(GetCurrentTimestamp()),
																IntervalPGetDatum(timeout)));
	Wait		wait = {0};
	bool		was_lane = false;

	check_owner(name);
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (is_over(name, &wait, &was_lane))
			PG_RETURN_BOOL(true);
		if (GetCurrentTimestamp() >= until)
			PG_RETURN_BOOL(false);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 WAIT_MS, SX_WAIT_EVENT("StreamextWait"));
		ResetLatch(MyLatch);
	}
}
