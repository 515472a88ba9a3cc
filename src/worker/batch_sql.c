/*-------------------------------------------------------------------------
 *
 * batch_sql.c
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

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fdw/ordinal.h"
#include "fdw/track.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "worker/batch_internal.h"

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

static void
start_nothing(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
end_nothing(DestReceiver *self)
{
}

void
sx_receiver_init(DestReceiver *dest, bool (*receive) (TupleTableSlot *, DestReceiver *),
				 void (*startup) (DestReceiver *, int, TupleDesc),
				 void (*shutdown) (DestReceiver *))
{
	dest->receiveSlot = receive;
	dest->rStartup = startup != NULL ? startup : start_nothing;
	dest->rShutdown = shutdown != NULL ? shutdown : end_nothing;
	dest->rDestroy = end_nothing;
	dest->mydest = DestNone;
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
	int			nestlevel;
	int64		processed;

	if (sx_statement_is_idle(pl, step, *plan))
		return 0;
	nestlevel = NewGUCNestLevel();
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
