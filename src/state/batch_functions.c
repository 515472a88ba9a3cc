/*-------------------------------------------------------------------------
 *
 * batch_functions.c
 *		What SQL can ask about the batch in progress.
 *
 * Inside a batch the answers come from sx_current, outside from the catalog, so
 * that a stream's query gives something sensible when it is tried interactively.
 * All are stable: constant within a statement, as a batch is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "catalog/sx_catalog.h"
#include "plan/plan.h"
#include "state/changes.h"
#include "worker/batch.h"

PG_FUNCTION_INFO_V1(sx_batch_id);
PG_FUNCTION_INFO_V1(sx_batch_time);
PG_FUNCTION_INFO_V1(sx_arrival);
PG_FUNCTION_INFO_V1(sx_timing_out);
PG_FUNCTION_INFO_V1(sx_watermark);
PG_FUNCTION_INFO_V1(sx_view_watermark);
PG_FUNCTION_INFO_V1(sx_view_time);
PG_FUNCTION_INFO_V1(sx_closed_before);
PG_FUNCTION_INFO_V1(sx_closed_by);

/* The counter moves when the batch commits, so the one in progress is the next. */
Datum
sx_batch_id(PG_FUNCTION_ARGS)
{
	if (sx_current == NULL)
		PG_RETURN_NULL();
	PG_RETURN_INT64(sx_current->batch_id + 1);
}

Datum
sx_batch_time(PG_FUNCTION_ARGS)
{
	if (sx_current == NULL)
		PG_RETURN_TIMESTAMPTZ(GetCurrentTransactionStartTimestamp());
	PG_RETURN_TIMESTAMPTZ(sx_current->time);
}

/*
 * Numbers of arrival have the batch in their upper half, counted over all pipelines by a
 * sequence: the batch ids of a step do not only grow, as it may move to another pipeline.
 */
#define ARRIVAL_BITS	27

int64
sx_last_arrival_before(SxPipeline *pl)
{
	if (pl->arrival_batch == 0)
		pl->arrival_batch = nextval_internal(get_relname_relid("arrival_seq",
															   get_namespace_oid("streamext", false)),
											 false);
	return pl->arrival_batch << ARRIVAL_BITS;
}

/*
 * Stable only by name, so that a node's query may call it: what matters is that it is
 * evaluated row by row, in the order in which rows arrive.
 */
Datum
sx_arrival(PG_FUNCTION_ARGS)
{
	SxStep	   *step;

	if (sx_current == NULL || sx_current->running_step < 0)
		PG_RETURN_NULL();
	step = &sx_current->steps[sx_current->running_step];
	if (++step->arrivals >= INT64CONST(1) << ARRIVAL_BITS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many rows in one batch"),
				 errhint("Set max_batch_rows of the stream to less.")));
	PG_RETURN_INT64(sx_last_arrival_before(sx_current) + step->arrivals);
}

/* Is a map_with_state function called because of a time-out or a timer? */
Datum
sx_timing_out(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(sx_current != NULL && sx_current->timing_out);
}

/* Watermark of one source stream, -infinity while there is none. */
static TimestampTz
source_watermark(Oid stream)
{
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(stream)};
	bool		isnull;
	Datum		watermark;

	for (int i = 0; sx_current != NULL && i < sx_current->ninputs; i++)
	{
		if (sx_current->inputs[i].source->stream->relid == stream)
			return sx_current->inputs[i].watermark;
	}
	watermark = sx_catalog_value("SELECT min(watermark) FROM streamext.source WHERE stream = $1",
								 1, types, values, NULL, &isnull);
	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(watermark);
}

/* watermark('s'): of a source, or the lowest of the sources of a derived stream */
Datum
sx_watermark(PG_FUNCTION_ARGS)
{
	text	   *name = PG_GETARG_TEXT_PP(0);
	Oid			relid = RangeVarGetRelid(makeRangeVarFromNameList(textToQualifiedNameList(name)),
										 NoLock, false);
	List	   *streams = sx_relation_streams(relid);
	TimestampTz lowest = DT_NOEND;
	ListCell   *lc;

	if (streams == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a stream", text_to_cstring(name)),
				 errhint("streamext.streams lists the streams.")));
	foreach(lc, streams)
	{
		TimestampTz watermark = source_watermark(lfirst_oid(lc));

		if (watermark < lowest)
			lowest = watermark;
	}
	PG_RETURN_TIMESTAMPTZ(lowest);
}

/*
 * view_watermark(state table): what the WHERE of a view with emit = 'final' compares
 * window ends with; NULL while there is none.  It is given the state table, not the
 * view, because a dump must be able to write the view's definition.
 */
Datum
sx_view_watermark(PG_FUNCTION_ARGS)
{
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {PG_GETARG_DATUM(0)};
	bool		isnull;
	Datum		watermark;

	watermark = sx_catalog_value("SELECT p.watermark FROM streamext.step_progress p "
								 "JOIN streamext.step s USING (relation) WHERE s.state = $1 AND p.slot = 0",
								 1, types, values, NULL, &isnull);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(watermark);
}

/* Batch time of the last batch of the view that keeps this state table. */
Datum
sx_view_time(PG_FUNCTION_ARGS)
{
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {PG_GETARG_DATUM(0)};
	bool		isnull;
	Datum		time;

	if (sx_current != NULL)
		PG_RETURN_TIMESTAMPTZ(sx_current->time);
	time = sx_catalog_value("SELECT max(g.batch_time) FROM streamext.progress g "
							"JOIN streamext.step s USING (pipeline) WHERE s.state = $1",
							1, types, values, NULL, &isnull);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(time);
}

/* The step of the running batch that keeps a state table. */
static const SxStep *
step_of_state(Oid state)
{
	const SxStep *step = sx_step_of_state(state);

	if (step == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("windows close inside a batch only"),
				 errhint("streamext.closed_before() and streamext.closed_by() belong to the maintenance of views.")));
	return step;
}

/* Windows of the view that end behind closed_before() and up to closed_by() close in this batch. */
Datum
sx_closed_before(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(step_of_state(PG_GETARG_OID(0))->watermark);
}

Datum
sx_closed_by(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(step_of_state(PG_GETARG_OID(0))->new_watermark);
}
