/*-------------------------------------------------------------------------
 *
 * slots.c
 *		How many workers a pipeline has: option parallelism of its sources.
 *
 * Each worker is a slot of the pipeline, from 0, with a row of streamext.progress of its
 * own: its epoch and its batch counter.  There are as many workers as rows.  They are made
 * and deleted here, when a source joins the pipeline or its options are changed; by then
 * nobody runs a batch, as the change starts a new epoch of every slot.
 *
 * Which slot reads a partition follows from the partition's name alone (fdw/stream.c), so
 * positions stay where they are when the number changes.  Only files differ: each slot
 * has one position for all of its files.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "fdw/stream.h"
#include "plan/plan.h"
#include "source/source.h"
#include "utils/builtins.h"
#include "worker/lane.h"

int
sx_pipeline_slots(int pipeline)
{
	Datum		values[] = {Int32GetDatum(pipeline)};
	bool		isnull;

	return DatumGetInt32(sx_catalog_value("SELECT count(*)::integer FROM streamext.progress WHERE pipeline = $1",
										  SX_ARGS(INT4OID), values, NULL, &isnull));
}

static int
wanted_by(const SxStream *stream)
{
	return (int) sx_stream_option_int(stream, "parallelism", 1);
}

int
sx_slots_for_step(const List *streams)
{
	int			slots = 1;
	ListCell   *lc;

	foreach(lc, streams)
	{
		slots = Max(slots, wanted_by(sx_stream_load(lfirst_oid(lc))));
		slots = Max(slots, sx_pipeline_slots(sx_home_pipeline(lfirst_oid(lc))));
	}
	return slots;
}

/* ---------- what can be divided ---------- */

static void
check_source(const SxStream *stream)
{
	const char *why = "its connector has one position for all that it reads";

	if (stream->source->divides != NULL && stream->source->divides(stream, &why))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("stream %s cannot be divided among several workers: %s", stream->label, why),
			 errhint("Leave the option parallelism out, or put the stream into a pipeline of its own (option pipeline). Streams of connector file and kafka can be divided.")));
}

/* The number that the sources ask for, all of which can be divided so. */
static int
wanted_slots(int pipeline)
{
	int			slots = 1;
	List	   *sources = NIL;
	ListCell   *lc;

	foreach(lc, sx_pipeline_sources(pipeline))
	{
		sources = lappend(sources, sx_stream_load(lfirst_oid(lc)));
		slots = Max(slots, wanted_by(llast(sources)));
	}
	foreach(lc, slots > 1 ? sources : NIL)
		check_source(lfirst(lc));
	return slots;
}

static void
check_steps(int pipeline)
{
	Datum		values[] = {Int32GetDatum(pipeline)};
	List	   *steps = NIL;
	ListCell   *lc;

	sx_catalog_rows("SELECT relation FROM streamext.step WHERE pipeline = $1 ORDER BY seq",
					SX_ARGS(INT4OID), values, NULL, sx_collect_oid, &steps);
	foreach(lc, steps)
		sx_check_slots(lfirst_oid(lc));
}

void
sx_slots_check_step(int pipeline, Oid step)
{
	int			lane_of = sx_lane_of(pipeline);

	if (sx_pipeline_slots(lane_of != 0 ? lane_of : pipeline) > 1)
		sx_check_slots(step);
}

/* ---------- another number ---------- */

static bool
ask(const char *sql, int pipeline)
{
	Datum		values[] = {Int32GetDatum(pipeline)};

	return sx_catalog_exec(sql, SX_ARGS(INT4OID), values, NULL) > 0;
}

static void
refuse_change(const char *why, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("option \"parallelism\" cannot be changed now: %s", why),
			 errhint("%s", hint)));
}

/* What is in the middle of something belongs to the slot that has begun it. */
static void
check_change(int pipeline)
{
	if (!ask("SELECT FROM streamext.progress WHERE pipeline = $1 AND batch_id > 0 UNION ALL "
			 "SELECT FROM streamext.partition WHERE pipeline = $1 AND position IS NOT NULL", pipeline))
		return;
	if (ask("SELECT FROM streamext.pipeline WHERE id = $1 AND state = 'running'", pipeline))
		refuse_change("the pipeline is running", "Pause it: SELECT streamext.pause('…').");
	if (ask("SELECT FROM streamext.pipeline WHERE lane_of = $1", pipeline))
		refuse_change("a view or sink of the pipeline has not caught up with it",
					  "Wait until streamext.pipelines shows no pipeline with this one as lane_of.");
	if (ask("SELECT FROM streamext.partition WHERE pipeline = $1 "
			"AND jsonb_typeof(position) = 'object' AND position ? 'offset'", pipeline))
		refuse_change("a file has been read in part",
					  "Let it be read to its end first: SELECT streamext.run('…'), then streamext.wait('…').");
}

/*
 * Files: slot 0 has taken what all have.  The others begin to count anew; which files were
 * taken is known by name.
 */
static void
gather_files(int pipeline)
{
	Datum		values[] = {Int32GetDatum(pipeline)};

	sx_catalog_exec("WITH gone AS (DELETE FROM streamext.partition "
					"              WHERE pipeline = $1 AND jsonb_typeof(position) = 'object' RETURNING *) "
					"INSERT INTO streamext.partition (pipeline, stream, partition, position, max_event_time, lag, rows) "
					"SELECT pipeline, stream, '', jsonb_build_object('files', sum((position->>'files')::bigint), "
					"  'name', max(position->>'name'), "
					"  'losses', coalesce(sum((position->>'losses')::bigint), 0)), "
					"  max(max_event_time), sum(lag)::bigint, sum(rows)::bigint "
					"FROM gone GROUP BY pipeline, stream",
					SX_ARGS(INT4OID), values, NULL);
}

static void
set_slots(int pipeline, int slots)
{
	Datum		values[] = {Int32GetDatum(pipeline), Int32GetDatum(slots)};

	gather_files(pipeline);
	sx_catalog_exec("INSERT INTO streamext.progress (pipeline, slot) "
					"SELECT $1, s FROM generate_series(0, $2 - 1) s ON CONFLICT DO NOTHING",
					SX_ARGS(INT4OID, INT4OID), values, NULL);
	sx_catalog_exec("WITH gone AS (DELETE FROM streamext.step_progress p USING streamext.step s "
					"              WHERE s.relation = p.relation AND s.pipeline = $1 AND p.slot >= $2 RETURNING p.*) "
					"UPDATE streamext.step_progress p SET rows = p.rows + g.rows, "
					"  late_rows = p.late_rows + g.late_rows, null_time_rows = p.null_time_rows + g.null_time_rows, "
					"  dead_letters = p.dead_letters + g.dead_letters, skipped_rows = p.skipped_rows + g.skipped_rows "
					"FROM (SELECT relation, sum(rows)::bigint AS rows, sum(late_rows)::bigint AS late_rows, "
					"             sum(null_time_rows)::bigint AS null_time_rows, "
					"             sum(dead_letters)::bigint AS dead_letters, "
					"             sum(skipped_rows)::bigint AS skipped_rows FROM gone GROUP BY 1) g "
					"WHERE p.relation = g.relation AND p.slot = 0",
					SX_ARGS(INT4OID, INT4OID), values, NULL);
	sx_catalog_exec("DELETE FROM streamext.batch WHERE pipeline = $1 AND slot >= $2",
					SX_ARGS(INT4OID, INT4OID), values, NULL);
	sx_catalog_exec("DELETE FROM streamext.progress WHERE pipeline = $1 AND slot >= $2",
					SX_ARGS(INT4OID, INT4OID), values, NULL);
}

/* Whoever calls this starts a new epoch before its transaction ends. */
void
sx_slots_follow(int pipeline)
{
	int			slots;

	if (sx_lane_of(pipeline) != 0)
		return;
	slots = wanted_slots(pipeline);
	if (slots == sx_pipeline_slots(pipeline))
		return;
	(void) sx_pipeline_new_epoch(pipeline);
	check_change(pipeline);
	if (slots > 1)
		check_steps(pipeline);
	set_slots(pipeline, slots);
}
