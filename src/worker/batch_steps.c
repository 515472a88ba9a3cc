/*-------------------------------------------------------------------------
 *
 * batch_steps.c
 *		Running the statements of a step within a batch.
 *
 * Each statement is prepared once and kept.  All of a batch run under one snapshot,
 * so that two views see the same state of a joined table; each sees what the earlier
 * ones wrote through the command counter.  The settings that decide how text is read
 * and shown are those of the session that created the step.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "fdw/ordinal.h"
#include "fdw/track.h"
#include "state/panes.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/plancache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "worker/batch_internal.h"

#define EXPIRE_ROWS		20000	/* that any batch may delete of a state table */

bool
sx_step_reads(const SxStep *step, const SxInput *input)
{
	return list_member_oid(step->plan->streams, input->source->stream->relid);
}

static void
set_if_different(const char *name, const char *value)
{
	if (value != NULL && strcmp(value, GetConfigOption(name, false, false)) != 0)
		(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
}

static void
apply_settings(const SxStep *step)
{
	set_if_different("TimeZone", step->timezone);
	set_if_different("DateStyle", step->datestyle);
	set_if_different("IntervalStyle", step->intervalstyle);
	set_if_different("search_path", step->search_path);
}

/* Prepares a statement of a step at its first use, and keeps it.  SPI is connected. */
static void
prepare_kept(SPIPlanPtr *plan, const char *sql, int nargs, Oid *types)
{
	SPIPlanPtr	prepared;

	if (*plan != NULL)
		return;
	prepared = SPI_prepare(sql, nargs, types);
	if (prepared == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	SPI_keepplan(prepared);
	*plan = prepared;
}

static void
connect_spi(void)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

/* Runs one statement of a step.  SPI stays connected. */
static void
run_connected(SxPipeline *pl, SPIPlanPtr *plan, const char *sql,
			  int nargs, Oid *types, Datum *values)
{
	int			rc;

	connect_spi();
	prepare_kept(plan, sql, nargs, types);
	rc = SPI_execute_snapshot(*plan, values, NULL, pl->snapshot, InvalidSnapshot,
							  false, true, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(rc));
}

/*
 * Runs a SELECT of a step, whose rows go to dest one by one, under the snapshot of
 * the batch and seeing what the batch has written so far.  Returns their number.
 */
int64
sx_step_select(SxPipeline *pl, SxStep *step, SPIPlanPtr *plan, const char *sql,
			   DestReceiver *dest)
{
	return sx_step_select_with(pl, step, plan, sql, 0, NULL, NULL, dest);
}

/* Arguments as a statement wants them; none is null. */
static ParamListInfo
make_params(int nargs, const Oid *types, const Datum *values)
{
	ParamListInfo params;

	if (nargs == 0)
		return NULL;
	params = makeParamList(nargs);
	for (int i = 0; i < nargs; i++)
	{
		params->params[i].value = values[i];
		params->params[i].isnull = false;
		params->params[i].pflags = PARAM_FLAG_CONST;
		params->params[i].ptype = types[i];
	}
	return params;
}

int64
sx_step_select_with(SxPipeline *pl, SxStep *step, SPIPlanPtr *plan, const char *sql,
					int nargs, Oid *types, Datum *values, DestReceiver *dest)
{
	SPIExecuteOptions options = {
		.params = make_params(nargs, types, values),.read_only = true,.dest = dest
	};
	int			nestlevel = NewGUCNestLevel();
	int64		processed;
	int			rc;

	apply_settings(step);
	connect_spi();
	prepare_kept(plan, sql, nargs, types);
	CommandCounterIncrement();
	PushCopiedSnapshot(pl->snapshot);
	UpdateActiveSnapshotCommandId();
	rc = SPI_execute_plan_extended(*plan, &options);
	if (rc < 0)
		elog(ERROR, "SPI_execute_plan_extended failed: %s", SPI_result_code_string(rc));
	PopActiveSnapshot();
	processed = (int64) SPI_processed;
	SPI_finish();
	AtEOXact_GUC(false, nestlevel);
	return processed;
}

/*
 * Settings and snapshot for what a step does besides its statements: sees what the
 * batch has written so far.
 */
int
sx_step_enter(SxPipeline *pl, const SxStep *step)
{
	int			nestlevel = NewGUCNestLevel();

	apply_settings(step);
	CommandCounterIncrement();
	PushCopiedSnapshot(pl->snapshot);
	UpdateActiveSnapshotCommandId();
	return nestlevel;
}

void
sx_step_leave(int nestlevel)
{
	PopActiveSnapshot();
	AtEOXact_GUC(false, nestlevel);
}

static bool
lock_relation(Oid relid, LOCKMODE mode, bool wait, Oid *busy)
{
	if (!OidIsValid(relid))
		return true;
	if (wait)
		LockRelationOid(relid, mode);
	else if (!ConditionalLockRelationOid(relid, mode))
	{
		*busy = relid;
		return false;
	}
	return true;
}

/* Locks what a prepared statement reads. */
static bool
lock_plan(SPIPlanPtr plan, bool wait, Oid *busy)
{
	ListCell   *lc;

	if (plan == NULL)
		return true;
	foreach(lc, SPI_plan_get_plan_sources(plan))
	{
		ListCell   *oid;

		foreach(oid, ((CachedPlanSource *) lfirst(lc))->relationOids)
		{
			if (!lock_relation(lfirst_oid(oid), AccessShareLock, wait, busy))
				return false;
		}
	}
	return true;
}

/*
 * A crash empties an unlogged table and leaves the position behind what was in it.  The
 * target of a sink was refused as such at its creation; it may have become one.
 */
static void
require_logged(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool		logged;

	if (!HeapTupleIsValid(tuple))
		return;
	logged = ((Form_pg_class) GETSTRUCT(tuple))->relpersistence == RELPERSISTENCE_PERMANENT;
	ReleaseSysCache(tuple);
	if (!logged)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table %s has become unlogged", sx_relation_label(relid)),
				 errhint("Rows would be lost after a crash that keeps the position: ALTER TABLE … SET LOGGED, then streamext.resume().")));
}

/*
 * DDL locks its relations first, and then the progress row, when the event trigger
 * tells the pipeline of the change.  A batch that locked them the other way round, or
 * waited for one relation while it holds another, would be one half of a deadlock.
 * A relation that is gone by now does no harm: the epoch has changed with it.
 */
Oid
sx_steps_lock(const SxPipeline *pl, bool wait)
{
	Oid			busy = InvalidOid;

	for (int i = 0; i < pl->ninputs; i++)
	{
		if (!lock_relation(pl->inputs[i].source->stream->relid, AccessShareLock,
						   wait, &busy))
			return busy;
	}
	for (int i = 0; i < pl->nsteps; i++)
	{
		const SxStep *step = &pl->steps[i];

		if (!lock_relation(step->relid, AccessShareLock, wait, &busy) ||
			!lock_relation(step->plan->query, AccessShareLock, wait, &busy) ||
			!lock_relation(step->plan->state, RowExclusiveLock, wait, &busy) ||
			!lock_plan(step->apply, wait, &busy))
			return busy;
		sx_blamed_step = step->relid;
		require_logged(step->plan->state);
		sx_blamed_step = InvalidOid;
	}
	return InvalidOid;
}

/*
 * Rows that the statement wrote; that of a null sink writes none and returns their number.
 * What the function of a sink returns is nobody's business: it may be no row at all.
 */
static int64
rows_processed(void)
{
	bool		isnull;

	if (SPI_tuptable == NULL || SPI_processed == 0 ||
		SPI_gettypeid(SPI_tuptable->tupdesc, 1) != INT8OID)
		return (int64) SPI_processed;
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

int64
sx_step_execute(SxPipeline *pl, SxStep *step, SPIPlanPtr *plan, const char *sql,
				int nargs, Oid *types, Datum *values)
{
	int			nestlevel = NewGUCNestLevel();
	int64		processed;

	apply_settings(step);
	run_connected(pl, plan, sql, nargs, types, values);
	processed = rows_processed();
	SPI_finish();
	AtEOXact_GUC(false, nestlevel);
	return processed;
}

bool
sx_step_value(SxPipeline *pl, SxStep *step, SPIPlanPtr *plan, const char *sql,
			  int nargs, Oid *types, Datum *values, Datum *value)
{
	MemoryContext caller = CurrentMemoryContext;
	int			nestlevel = NewGUCNestLevel();
	bool		isnull = true;

	apply_settings(step);
	run_connected(pl, plan, sql, nargs, types, values);
	if (SPI_processed > 0)
	{
		Form_pg_attribute att = TupleDescAttr(SPI_tuptable->tupdesc, 0);
		Datum		first = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
										  &isnull);
		MemoryContext old = MemoryContextSwitchTo(caller);

		if (!isnull)
			*value = datumCopy(first, att->attbyval, att->attlen);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	AtEOXact_GUC(false, nestlevel);
	return !isnull;
}

SxStep *
sx_find_step(SxPipeline *pl, Oid relid)
{
	for (int i = 0; i < pl->nsteps; i++)
	{
		if (pl->steps[i].relid == relid)
			return &pl->steps[i];
	}
	return NULL;
}

/* The operations of a step, which may fail for one of its records. */
static void
run_operations(SxPipeline *pl, SxStep *step)
{
	pl->running_step = step->index;
	sx_blamed_step = step->relid;
	step->scans = 0;
	step->late_rows = step->null_time_rows = 0;
	step->late_told = false;
	step->rows = step->arrivals = 0;
	step->ops->apply(pl, step);
	sx_blamed_step = InvalidOid;
	step->applied = true;
	pl->running_step = -1;
}

static bool
has_bad_records(const SxPipeline *pl, const SxStep *step)
{
	for (int i = 0; i < pl->ninputs; i++)
	{
		if (pl->inputs[i].bad_for != NULL && pl->inputs[i].bad_for[step->index] != NULL)
			return true;
	}
	return false;
}

/* Dead letters are for some steps: what these read is evaluated with them. */
static bool
begin_feeding(SxPipeline *pl, const SxStep *step)
{
	bool		before = pl->feeding;

	if (pl->replay != NULL)
		pl->feeding = before || bms_is_member(step->index, pl->replay->fed);
	return before;
}

/*
 * The streams that a step reads must have rows without the records that are out for
 * this step, and with the dead letters that it is fed; see batch_rows.c.  Last ones first:
 * making the rows of one may make those of earlier ones anew, for it alone.
 */
static void
prepare_reads(SxPipeline *pl, SxStep *step, int on_behalf)
{
	bool		feeding = begin_feeding(pl, step);

	for (int i = step->plan->reads == NIL ? -1 : step->index - 1; i >= 0; i--)
	{
		SxStep	   *stream = &pl->steps[i];

		if (!list_member_oid(step->plan->reads, stream->relid) || !stream->plan->stateless ||
			(stream->output.on_behalf == on_behalf && stream->output.feeding == pl->feeding))
			continue;
		prepare_reads(pl, stream, on_behalf);
		sx_rows_end(&stream->output);
		pl->on_behalf = on_behalf;
		run_operations(pl, stream);
		pl->on_behalf = -1;
	}
	pl->feeding = feeding;
}

/* What reads a windowed stream is evaluated only in batches in which that fires. */
static bool
is_due(SxPipeline *pl, const SxStep *step)
{
	ListCell   *lc;

	foreach(lc, step->plan->reads)
	{
		SxStep	   *stream = sx_find_step(pl, lfirst_oid(lc));

		if (stream != NULL && !stream->due)
			return false;
	}
	return true;
}

/*
 * Publishes what was collected, when its interval has passed.  It is the step that does so:
 * who reads the view's changes stands behind it.
 */
static void
emit_pending(SxPipeline *pl, SxStep *step)
{
	step->new_pending = step->pending || step->rows > 0;
	step->new_last_emit = step->last_emit;
	if (!step->new_pending ||
		(step->last_emit != DT_NOBEGIN &&
		 pl->time < step->last_emit + step->plan->emit_interval))
		return;

	pl->running_step = step->index;
	sx_step_execute(pl, step, &step->emit, step->plan->emit_sql, 0, NULL, NULL);
	sx_step_execute(pl, step, &step->emit_clear, step->plan->emit_clear_sql,
					0, NULL, NULL);
	pl->running_step = -1;
	step->new_pending = false;
	step->new_last_emit = pl->time;
}

/* Panes take every batch; the step, as a rule, those in which there is something to read. */
static void
run_step(SxPipeline *pl, SxStep *step)
{
	sx_blamed_step = step->relid;
	if (step->plan->panes != NULL)
		sx_panes_advance(pl, step);
	if (step->due || step->ops->always)
		run_operations(pl, step);
	else
		step->rows = step->late_rows = step->null_time_rows = 0;
	if (step->plan->emit_sql != NULL)
		emit_pending(pl, step);
}

/* Puts this batch into the view, sink or stream. */
void
sx_step_apply(SxPipeline *pl, SxStep *step)
{
	sx_step_arm(pl);
	step->due = is_due(pl, step);
	if (step->due)
		prepare_reads(pl, step, has_bad_records(pl, step) ? step->index : -1);
	run_step(pl, step);
	sx_step_disarm();
}

/* Streams that a step reads, directly or not, before it. */
void
sx_step_apply_alone(SxPipeline *pl, SxStep *step)
{
	bool		feeding = begin_feeding(pl, step);
	ListCell   *lc;

	foreach(lc, step->plan->reads)
	{
		SxStep	   *stream = sx_find_step(pl, lfirst_oid(lc));

		if (stream != NULL && !stream->applied)
			sx_step_apply_alone(pl, stream);
	}
	pl->feeding = feeding;
	step->due = is_due(pl, step);
	run_step(pl, step);
}

/* Have the closed windows that the step reads no rows in this batch? */
static bool
nothing_closed(SxPipeline *pl, const SxStep *step)
{
	ListCell   *lc;

	foreach(lc, step->plan->closed_views)
	{
		SxStep	   *below = sx_find_step(pl, lfirst_oid(lc));

		if (below != NULL && below->new_watermark > below->watermark)
			return false;
	}
	return step->plan->closed_views != NIL && step->plan->time_streams == NIL &&
		list_length(step->plan->closed_views) == list_length(step->plan->time_views);
}

/*
 * The step's watermark at the end of the batch.  A step that stands on closed windows
 * takes its rows now, when it is known what has closed.
 */
void
sx_step_close(SxPipeline *pl, SxStep *step)
{
	if (step->after_closing && nothing_closed(pl, step))
	{
		step->due = step->applied = true;
		step->rows = step->late_rows = step->null_time_rows = 0;
		if (step->plan->emit_sql != NULL)
			emit_pending(pl, step);
	}
	else if (step->after_closing)
		sx_step_apply(pl, step);
	sx_blamed_step = step->relid;
	step->new_watermark = sx_step_new_watermark(pl, step);
	if (step->ops->close != NULL)
		step->ops->close(pl, step);
}

static int64
rows_brought(const SxPipeline *pl, const SxStep *step)
{
	int64		rows = 0;

	for (int i = 0; i < pl->ninputs; i++)
		rows += pl->inputs[i].rows;
	return Max(rows, step->rows);
}

/*
 * Deletes what the watermark has passed by retention, or batch time by state_ttl.  However
 * far it has jumped, a batch deletes no more than some rows, or twice what it has brought,
 * so that in the long run more goes than comes; what is left is for the next ones.
 */
static void
expire(SxPipeline *pl, SxStep *step)
{
	Oid			types[] = {TIMESTAMPTZOID, INT8OID};
	int64		most = Max(EXPIRE_ROWS, 2 * rows_brought(pl, step));
	bool		by_time = step->plan->state_ttl > 0;
	Datum		values[] = {
		TimestampTzGetDatum(by_time ? pl->time - step->plan->state_ttl :
							step->new_watermark - step->plan->retention),
		Int64GetDatum(most)
	};

	step->new_expired = step->expired;
	if (step->plan->expire_sql == NULL || (pl->slots > 1 && !pl->closing) ||
		(!by_time && (step->new_watermark == DT_NOBEGIN ||
					  (step->expired && step->new_watermark == step->watermark))))
		return;
	step->new_expired = sx_step_execute(pl, step, &step->expire, step->plan->expire_sql,
										2, types, values) < most;
}

/* What the end of a batch brings: the watermark has moved. */
void
sx_step_finish(SxPipeline *pl, SxStep *step)
{
	sx_blamed_step = step->relid;
	if (step->plan->emit_sql == NULL)
	{
		step->new_pending = step->pending;
		step->new_last_emit = step->last_emit;
	}

	expire(pl, step);

	step->new_timer = step->timer;
	if (step->ops->finish != NULL)
		step->ops->finish(pl, step);
	sx_blamed_step = InvalidOid;
}

/* late = 'dead_letter': rows all of whose windows were late become letters. */
void
sx_step_late_letters(SxPipeline *pl, SxStep *step)
{
	int			nestlevel;

	if (step->late_rows == 0 || step->plan->late_sql == NULL || step->late_told)
		return;
	step->late_told = true;

	nestlevel = NewGUCNestLevel();
	apply_settings(step);
	pl->running_step = step->index;
	run_connected(pl, &step->late, step->plan->late_sql, 0, NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Oid			stream = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
															SPI_tuptable->tupdesc, 1, &isnull));
		ItemPointer tid = (ItemPointer) DatumGetPointer(SPI_getbinval(SPI_tuptable->vals[i],
																	  SPI_tuptable->tupdesc, 2, &isnull));

		for (int s = 0; s < pl->ninputs; s++)
		{
			if (pl->inputs[s].source->stream->relid == stream)
				sx_note_dead(pl, s, sx_tid_to_ordinal(tid), step->index,
							 SX_ERRCODE_LATE, "the row is late for all its windows");
		}
	}
	SPI_finish();
	pl->running_step = -1;
	AtEOXact_GUC(false, nestlevel);
}
