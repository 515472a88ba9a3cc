/*-------------------------------------------------------------------------
 *
 * lane_create.c
 *		Making lanes, and asking for them: back-fill of a late view or sink.
 *
 * A view or sink over a stream whose pipeline has processed some of it begins in a lane
 * that reads from the stream's start, as a new pipeline would.  Each source says whether
 * it can go back, and what of the past it does not hold any more; nothing of that is
 * passed over in silence.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "fdw/stream.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "source/source.h"
#include "worker/lane.h"
#include "worker/lane_internal.h"

/* ---------- questions ---------- */

int
sx_lane_of(int pipeline)
{
	Datum		values[] = {Int32GetDatum(pipeline)};
	bool		isnull;
	Datum		id = sx_catalog_value("SELECT lane_of FROM streamext.pipeline WHERE id = $1",
									  SX_ARGS(INT4OID), values, NULL, &isnull);

	return isnull ? 0 : DatumGetInt32(id);
}

List *
sx_lanes_of(int pipeline, const char *state)
{
	Datum		values[] = {
		Int32GetDatum(pipeline), state ? CStringGetTextDatum(state) : (Datum) 0
	};
	List	   *result = NIL;

	sx_catalog_rows("SELECT id FROM streamext.pipeline WHERE lane_of = $1 "
					"AND state = coalesce($2, state) ORDER BY id",
					SX_ARGS(INT4OID, TEXTOID), values, state ? "  " : " n",
					sx_collect_int, &result);
	return result;
}

static void
see_row(HeapTuple row, TupleDesc desc, void *arg)
{
	bool		isnull;

	*(bool *) arg = TransactionIdIsCurrentTransactionId(
														DatumGetTransactionId(SPI_getbinval(row, desc, 1, &isnull)));
}

bool
sx_lane_is_new(int lane)
{
	Datum		values[] = {Int32GetDatum(lane)};
	bool		result = false;

	sx_catalog_rows("SELECT xmin FROM streamext.pipeline WHERE id = $1",
					SX_ARGS(INT4OID), values, NULL, see_row, &result);
	return result;
}

Datum
sx_lane_oids(const List *oids)
{
	Datum	   *datums = palloc(sizeof(Datum) * Max(list_length(oids), 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, oids)
		datums[n++] = ObjectIdGetDatum(lfirst_oid(lc));
	return PointerGetDatum(construct_array(datums, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

/* Where a pipeline is in a stream: of the first partition, NULL: nowhere yet. */
static char *
position_in(int pipeline, Oid stream)
{
	Datum		values[] = {Int32GetDatum(pipeline), ObjectIdGetDatum(stream)};
	bool		isnull;
	Datum		position = sx_catalog_value("SELECT position::text FROM streamext.partition "
											"WHERE pipeline = $1 AND stream = $2 "
											"AND position IS NOT NULL ORDER BY partition LIMIT 1",
											SX_ARGS(INT4OID, REGCLASSOID), values, NULL, &isnull);

	return isnull ? NULL : TextDatumGetCString(position);
}

static char *
pipeline_name(int pipeline)
{
	Datum		values[] = {Int32GetDatum(pipeline)};
	bool		isnull;

	return TextDatumGetCString(sx_catalog_value("SELECT name FROM streamext.pipeline WHERE id = $1",
												SX_ARGS(INT4OID), values, NULL, &isnull));
}

/* ---------- rows ---------- */

/* A pipeline beside another one.  lane_of 0: no lane. */
int
sx_lane_insert(int pipeline, int lane_of, const char *schema, const char *relname,
			   const char *lane_for)
{
	Datum		values[] = {
		Int32GetDatum(pipeline),
		CStringGetTextDatum(sx_unused_pipeline_name(schema, relname)),
		Int32GetDatum(lane_of), CStringGetTextDatum(lane_for)
	};
	bool		isnull;

	return DatumGetInt32(sx_catalog_value("INSERT INTO streamext.pipeline (name, owner, state, lane_of, lane_for) "
										  "SELECT $2, owner, CASE WHEN $4 = 'detached' THEN 'stopped' "
										  "                  WHEN state = 'paused' THEN 'paused' ELSE 'running' END, "
										  "nullif($3, 0), $4 FROM streamext.pipeline WHERE id = $1 RETURNING id",
										  SX_ARGS(INT4OID, TEXTOID, INT4OID, TEXTOID),
										  values, NULL, &isnull));
}

void
sx_lane_copy_sources(int pipeline, int lane, const List *streams, bool watermarks)
{
	Datum		values[] = {
		Int32GetDatum(pipeline), Int32GetDatum(lane), sx_lane_oids(streams), BoolGetDatum(watermarks)
	};

	sx_catalog_exec("INSERT INTO streamext.source (pipeline, stream, seq, watermark) "
					"SELECT $2, stream, seq, CASE WHEN $4 THEN watermark END FROM streamext.source "
					"WHERE pipeline = $1 AND stream::oid = ANY ($3)",
					SX_ARGS(INT4OID, INT4OID, OIDARRAYOID, BOOLOID), values, NULL);
}

/* ---------- back-fill ---------- */

/*
 * Batches delete what all readers of a log have processed.  The ones that run now do not
 * know of the lane yet; those that begin later do.
 */
static void
wait_for_batches(const List *streams)
{
	Datum		values[] = {sx_lane_oids(streams)};

	sx_catalog_exec("SELECT FROM streamext.progress WHERE pipeline IN "
					"(SELECT pipeline FROM streamext.source WHERE stream::oid = ANY ($1)) "
					"ORDER BY pipeline, slot FOR UPDATE",
					SX_ARGS(OIDARRAYOID), values, NULL);
}

/* Asks a source whether a lane can read it.  ops may lack what it needs. */
bool
sx_lane_ask_source(int pipeline, Oid relid, SxLaneStart *start)
{
	SxStream   *stream = sx_stream_load(relid);

	memset(start, 0, sizeof(SxLaneStart));
	start->shared = position_in(pipeline, relid);
	if (sx_pipeline_slots(pipeline) > 1 && stream->source == &sx_source_file)
	{
		start->missing = psprintf("Each of the workers of the pipeline is somewhere else in the files of %s.",
								  stream->label);
		return false;
	}
	if (stream->source->lane_start != NULL)
		return stream->source->lane_start(stream, start);
	start->missing = psprintf("What %s has given once cannot be asked for again.", stream->label);
	return false;
}

/* A position from which the lane begins, where a new pipeline would begin elsewhere. */
static void
insert_position(int lane, Oid stream, const char *position)
{
	Datum		values[] = {
		Int32GetDatum(lane), ObjectIdGetDatum(stream), CStringGetTextDatum(position)
	};

	sx_catalog_exec("INSERT INTO streamext.partition (pipeline, stream, partition, position) "
					"VALUES ($1, $2, '', $3::jsonb)",
					SX_ARGS(INT4OID, REGCLASSOID, TEXTOID), values, NULL);
}

int
sx_lane_for_backfill(int pipeline, const char *schema, const char *relname, List *streams)
{
	const char *label = quote_qualified_identifier(schema, relname);
	SxLaneStart *starts = palloc0(sizeof(SxLaneStart) * Max(list_length(streams), 1));
	bool		needed = false;
	int			lane;
	ListCell   *lc;

	wait_for_batches(streams);
	foreach(lc, streams)
		needed = needed || position_in(pipeline, lfirst_oid(lc)) != NULL;
	if (!needed)
		return 0;
	foreach(lc, streams)
	{
		SxLaneStart *start = &starts[foreach_current_index(lc)];

		if (sx_lane_ask_source(pipeline, lfirst_oid(lc), start))
			continue;
		ereport(NOTICE,
				(errmsg("%s begins with the next batch of its pipeline",
						label),
				 errdetail("%s", start->missing)));
		return 0;
	}

	lane = sx_lane_insert(pipeline, pipeline, schema, relname, "backfill");
	{
		Datum		values[] = {Int32GetDatum(lane)};

		sx_catalog_exec("INSERT INTO streamext.progress (pipeline) VALUES ($1)",
						SX_ARGS(INT4OID), values, NULL);
	}
	sx_lane_copy_sources(pipeline, lane, streams, false);
	ereport(NOTICE,
			(errmsg("%s reads the past in a pipeline of its own and joins \"%s\" when it has caught up",
					label, pipeline_name(pipeline)),
			 errhint("streamext.views shows how far it is; WITH (backfill = off) would have begun with the next batch.")));
	foreach(lc, streams)
	{
		const SxLaneStart *start = &starts[foreach_current_index(lc)];

		if (start->position != NULL)
			insert_position(lane, lfirst_oid(lc), start->position);
		if (start->missing != NULL)
			ereport(WARNING,
					(errmsg("%s does not see all of the past of %s",
							label, sx_relation_label(lfirst_oid(lc))),
					 errdetail("%s", start->missing)));
	}
	return lane;
}
