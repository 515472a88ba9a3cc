/*-------------------------------------------------------------------------
 *
 * operate.c
 *		Operating functions: pause, resume, run, step, reset, wait, start_all.
 *
 * pause and resume change the pipeline's row; the scheduler and the worker are woken
 * when the caller commits.  Changing the row starts a new epoch, so after pause() has
 * committed no batch of an old worker can commit any more.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/sx_catalog.h"
#include "catalog/pg_type.h"
#include "fdw/stream.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "plan/state_spec.h"
#include "source/queue.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "worker/batch_internal.h"
#include "worker/batch.h"
#include "worker/lane.h"
#include "worker/worker.h"

#include "compat.h"

PG_FUNCTION_INFO_V1(sx_pause);
PG_FUNCTION_INFO_V1(sx_resume);
PG_FUNCTION_INFO_V1(sx_run);
PG_FUNCTION_INFO_V1(sx_start_all);
PG_FUNCTION_INFO_V1(sx_step);
PG_FUNCTION_INFO_V1(sx_reset);
PG_FUNCTION_INFO_V1(sx_detach);

static void
require_primary(void)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot operate pipelines during recovery"),
				 errhint("Connect to the primary.")));
	PreventCommandIfReadOnly("operating a pipeline");
}

/* The pipeline named by the first argument, which the caller must own. */
static int
pipeline_argument(FunctionCallInfo fcinfo)
{
	int			pipeline;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the name of the pipeline must not be null")));
	require_primary();
	sx_adopt_restored();
	pipeline = sx_pipeline_by_name(text_to_cstring(PG_GETARG_TEXT_PP(0)), false);
	sx_pipeline_check_owner(pipeline);
	return pipeline;
}

static void
set_row(int pipeline, const char *state, bool run_to_end)
{
	Oid			types[] = {INT4OID, TEXTOID, BOOLOID};
	Datum		values[] = {
		Int32GetDatum(pipeline), CStringGetTextDatum(state), BoolGetDatum(run_to_end)
	};

	sx_catalog_exec("UPDATE streamext.pipeline SET state = $2, run_to_end = $3, failures = 0, "
					"retry_at = NULL, error_sqlstate = NULL, error_message = NULL, error_at = NULL "
					"WHERE id = $1",
					3, types, values, NULL);
}

/*
 * Of some pipelines, in order of their ids.  First all rows, then all progress: see the
 * order of locks in worker/README.md.
 */
static void
set_state(const List *pipelines, const char *state, bool run_to_end)
{
	ListCell   *lc;

	foreach(lc, pipelines)
		set_row(lfirst_int(lc), state, run_to_end);
	foreach(lc, pipelines)
	{
		(void) sx_pipeline_new_epoch(lfirst_int(lc));
		sx_wake_pipeline_at_commit(lfirst_int(lc));
	}
	sx_wake_scheduler_at_commit();
}

/* A pipeline, and those of its lanes that are in this state. */
static List *
with_lanes(int pipeline, const char *state)
{
	return list_concat(list_make1_int(pipeline), sx_lanes_of(pipeline, state));
}

Datum
sx_pause(PG_FUNCTION_ARGS)
{
	set_state(with_lanes(pipeline_argument(fcinfo), "running"), "paused", false);
	PG_RETURN_VOID();
}

/* A lane that an error has stopped is resumed by its own name. */
Datum
sx_resume(PG_FUNCTION_ARGS)
{
	int			pipeline = pipeline_argument(fcinfo);

	sx_forget_errors(pipeline);
	set_state(with_lanes(pipeline, "paused"), "running", false);
	PG_RETURN_VOID();
}

/* A lane pauses when its pipeline does, as it is a part of that by then. */
Datum
sx_run(PG_FUNCTION_ARGS)
{
	set_state(with_lanes(pipeline_argument(fcinfo), "paused"), "running", true);
	PG_RETURN_VOID();
}

/* Starts every paused or stopped pipeline of the caller; returns how many. */
Datum
sx_start_all(PG_FUNCTION_ARGS)
{
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(GetUserId())};
	List	   *pipelines = NIL;

	require_primary();
	sx_adopt_restored();
	sx_catalog_rows("SELECT id FROM streamext.pipeline WHERE state <> 'running' "
					"AND pg_has_role($1, owner::oid, 'USAGE') ORDER BY id",
					1, types, values, NULL, sx_collect_int, &pipelines);
	set_state(pipelines, "running", false);
	PG_RETURN_INT32(list_length(pipelines));
}

/* ---------- step ---------- */

static void
require_paused(int pipeline)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(pipeline)};
	bool		isnull;
	Datum		running = sx_catalog_value("SELECT state = 'running' FROM streamext.pipeline WHERE id = $1",
										   1, types, values, NULL, &isnull);

	if (DatumGetBool(running))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the pipeline is running"),
				 errhint("Pause it first: SELECT streamext.pause('…').")));
}

static void
put_result(ReturnSetInfo *rsinfo, const SxBatchResult *result)
{
	Datum		values[] = {
		Int64GetDatum(result->batch_id), TimestampTzGetDatum(result->batch_time),
		Int64GetDatum(result->rows), Int64GetDatum(result->bytes),
		Int64GetDatum(result->dead_letters)
	};
	bool		nulls[] = {false, false, false, false, false};

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static void
refuse_held(const SxPipeline *pl)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("pipeline \"%s\" is being run by another session", pl->name)));
}

/*
 * A lane's batch ends it if it can; so does a call that finds nothing to be done any
 * more.  Positions alone are committed on the way.
 */
static bool
step_lane(SxPipeline *pl, TimestampTz at, bool at_given, SxBatchResult *result)
{
	for (;;)
	{
		SxDue		due;
		SxBatchOutcome outcome;

		sx_lane_limit(pl);
		due = sx_pipeline_poll(pl, at, true);
		pl->merging = true;
		outcome = sx_batch_run(pl, at_given ? at : sx_pipeline_batch_time(pl, at), false, result);
		if (outcome == SX_BATCH_FENCED)
			refuse_held(pl);
		if (outcome == SX_BATCH_AGAIN)
			continue;
		if (pl->due == SX_DUE_BATCH)
			return true;
		if (pl->merged || due == SX_DUE_NOTHING)
			return false;
	}
}

/* Positions alone are committed on the way; the caller waits for a batch. */
static bool
step_pipeline(SxPipeline *pl, TimestampTz at, bool at_given, SxBatchResult *result)
{
	if (pl->lane_of != 0)
		return step_lane(pl, at, at_given, result);
	for (;;)
	{
		SxDue		due = sx_pipeline_poll(pl, at, true);
		TimestampTz time = at_given ? at : sx_pipeline_batch_time(pl, at);
		SxBatchOutcome outcome;

		if (due == SX_DUE_NOTHING)
			return false;
		outcome = sx_batch_run(pl, time, false, result);
		if (outcome == SX_BATCH_FENCED)
			refuse_held(pl);
		if (outcome == SX_BATCH_DONE && due != SX_DUE_POSITION)
			return true;
	}
}

/* One batch of one worker's share; then what all of them have done may close windows. */
static void
step_slot(int pipeline, int slot, ReturnSetInfo *rsinfo, TimestampTz at, bool at_given)
{
	SxPipeline *pl = sx_pipeline_open(pipeline, slot, CurrentMemoryContext, true);
	SxBatchResult result;

	PG_TRY();
	{
		if (step_pipeline(pl, at, at_given, &result))
			put_result(rsinfo, &result);
		if (slot == 0 && sx_slots_close(pl, false) == SX_BATCH_FENCED)
			refuse_held(pl);
	}
	PG_FINALLY();
	{
		sx_pipeline_close(pl);
	}
	PG_END_TRY();
}

Datum
sx_step(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			pipeline = pipeline_argument(fcinfo);
	TimestampTz at = PG_ARGISNULL(1) ? GetCurrentTimestamp() : PG_GETARG_TIMESTAMPTZ(1);
	int			lane_of;

	if (sx_current != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("streamext.step cannot be called inside a batch")));
	if (TIMESTAMP_NOT_FINITE(at))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the batch time must be finite")));
	sx_init_materialized_srf(fcinfo);
	require_paused(pipeline);
	lane_of = sx_lane_of(pipeline);
	if (lane_of != 0)
		sx_lane_lock_progress(pipeline, lane_of);

	/* slot 0 comes last: it closes what the others have passed */
	(void) sx_pipeline_new_epoch(pipeline);
	for (int slot = sx_pipeline_slots(pipeline) - 1; slot >= 0; slot--)
		step_slot(pipeline, slot, rsinfo, at, !PG_ARGISNULL(1));
	return (Datum) 0;
}

/* ---------- reset ---------- */

static void
empty_view(const SxStepPlan *plan)
{

	sx_exec_as(plan->owner, psprintf("DELETE FROM %s", sx_relation_label(plan->state)));
	if (plan->emit_clear_sql != NULL)
		sx_exec_as(plan->owner, plan->emit_clear_sql);
}

/*
 * Down to the rows that they had when they were created: those of a view over others come
 * from theirs, which are before it.
 */
static void
empty_views(List *views)
{
	List	   *plans = NIL;
	ListCell   *lc;

	foreach(lc, views)
		plans = lappend(plans, sx_plan_load(lfirst_oid(lc)));
	foreach(lc, plans)
		empty_view(lfirst(lc));
	foreach(lc, plans)
	{
		const SxStepPlan *plan = lfirst(lc);

		if (plan->start_sql != NULL)
			sx_exec_as(plan->owner, plan->start_sql);
	}
}

/* Empties what a stream keeps between batches. */
static void
empty_stream(Oid stream)
{
	SxStepPlan *plan = sx_plan_load(stream);
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(stream)};

	sx_exec_as(plan->owner, psprintf("DELETE FROM %s", sx_relation_label(plan->state)));
	sx_catalog_exec("DELETE FROM streamext.window_batch WHERE relation = $1",
					1, types, values, NULL);
	sx_initial_state_again(plan);
}

static void
empty_panes(Oid step)
{
	SxStepPlan *plan = sx_plan_load(step);

	sx_exec_as(plan->owner, psprintf("DELETE FROM %s", sx_relation_label(plan->panes->table)));
}

/* What was processed need not be in the log of a queue or socket any more. */
static void
warn_of_logs(int pipeline)
{
	ListCell   *lc;

	foreach(lc, sx_pipeline_sources(pipeline))
	{
		SxStream   *stream = sx_stream_load(lfirst_oid(lc));

		if (sx_queue_has_log(stream) || stream->source == &sx_source_socket)
			ereport(WARNING,
					(errmsg("rows of %s %s that were processed may be gone from its log",
							stream->source == &sx_source_queue ? "queue" : "stream",
							stream->label),
					 errdetail("They are not read again.")));
	}
}

/*
 * Back to the start: positions, watermarks and state are forgotten, so the views are
 * built anew from what the sources still hold.  Batch ids go on.
 */
Datum
sx_reset(PG_FUNCTION_ARGS)
{
	int			pipeline = pipeline_argument(fcinfo);
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(pipeline)};
	List	   *views = NIL;
	List	   *streams = NIL;
	List	   *panes = NIL;
	ListCell   *lc;

	if (sx_current != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("streamext.reset cannot be called inside a batch")));
	require_paused(pipeline);
	warn_of_logs(pipeline);
	(void) sx_pipeline_new_epoch(pipeline);
	sx_catalog_rows("SELECT relation FROM streamext.step WHERE pipeline = $1 AND kind = 'view' ORDER BY seq",
					1, types, values, NULL, sx_collect_oid, &views);
	empty_views(views);
	sx_catalog_rows("SELECT relation FROM streamext.step WHERE pipeline = $1 AND kind = 'stream' "
					"AND state IS NOT NULL",
					1, types, values, NULL, sx_collect_oid, &streams);
	foreach(lc, streams)
		empty_stream(lfirst_oid(lc));
	sx_catalog_rows("SELECT relation FROM streamext.step WHERE pipeline = $1 AND panes IS NOT NULL",
					1, types, values, NULL, sx_collect_oid, &panes);
	foreach(lc, panes)
		empty_panes(lfirst_oid(lc));
	sx_catalog_exec("DELETE FROM streamext.partition WHERE pipeline = $1",
					1, types, values, NULL);
	sx_catalog_exec("DELETE FROM streamext.file_taken WHERE pipeline = $1",
					1, types, values, NULL);
	sx_catalog_exec("UPDATE streamext.source SET watermark = NULL, future_rows = 0 WHERE pipeline = $1",
					1, types, values, NULL);
	sx_catalog_exec("UPDATE streamext.step_progress p SET watermark = NULL, rows = 0, late_rows = 0, "
					"null_time_rows = 0, last_emit = NULL, pending = false "
					"FROM streamext.step s WHERE s.relation = p.relation AND s.pipeline = $1",
					1, types, values, NULL);
	PG_RETURN_VOID();
}

/* ---------- detach ---------- */

/* Takes a view or sink out of its pipeline, as its failure would. */
Datum
sx_detach(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int			pipeline = pipeline_argument(fcinfo);
	Oid			relid = RangeVarGetRelid(makeRangeVarFromNameList(stringToQualifiedNameList(name)),
										 NoLock, true);
	const char *why;

	if (sx_current != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("streamext.detach cannot be called inside a batch")));
	if (!OidIsValid(relid) || sx_relation_kind(relid) == SX_REL_SOURCE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a view, sink or derived stream", name),
				 errhint("Name what shall be taken out of its pipeline.")));
	if (sx_lane_detach(pipeline, relid, 0, NULL, &why) == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("\"%s\" cannot be taken out of its pipeline", name),
				 errdetail("%s", why),
				 errhint("streamext.pause() stops the pipeline as a whole.")));
	PG_RETURN_VOID();
}
