/*-------------------------------------------------------------------------
 *
 * lane.c
 *		A lane at work: it follows another pipeline and is merged into it.
 *
 * A lane is a pipeline with a row, positions and a worker of its own, and batches like
 * any other.  What makes it a lane is that it never reads beyond the committed positions
 * of the pipeline it belongs to, here the shared one: each of its sources has these as
 * its limit.  lane_create.c makes lanes, README.md has the states.
 *
 *		turn of the lane's worker:
 *		  limits := committed positions of the shared pipeline
 *		  poll, batch                       … as long as a batch does not reach them
 *		  the last batch did: merge
 *
 *		merge, one transaction:
 *		  lock the relations of the lane's steps           as every batch
 *		  lock the lane's row of streamext.pipeline        held by somebody: not now
 *		  lock progress of the shared pipeline, then the lane's own
 *		                      the shared pipeline is between two batches from here on
 *		  limits := its positions, which cannot move
 *		  poll up to there, one batch
 *		  not there yet (the batch was full): COMMIT, an ordinary batch
 *		  there: the steps move over, the lane is deleted, the shared pipeline gets a new
 *		  epoch, so that its worker reads anew what it runs
 *		COMMIT
 *
 * So for each record it is one transaction that decides who processes it: what was
 * committed by the shared pipeline before the merge is the lane's, what comes after is
 * the shared pipeline's with the steps in it.  A crash leaves either the lane or the
 * merged pipeline.
 *
 * The shared pipeline waits for one batch of the lane, and for no more than what it has
 * read itself while the lane ran its last batch but one.
 *
 * Ids of lanes are higher than that of the pipeline they belong to, so "shared first"
 * and "in order of ids", which all others do, are the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "worker/batch_internal.h"
#include "worker/lane.h"
#include "worker/worker.h"

/* ---------- limits ---------- */

typedef struct PartList
{
	SxPart	   *parts;
	int			n;
} PartList;

static void
add_part(HeapTuple row, TupleDesc desc, void *arg)
{
	PartList   *list = arg;
	SxPart	   *part;

	list->parts = list->n == 0 ? palloc(sizeof(SxPart)) :
		repalloc(list->parts, sizeof(SxPart) * (list->n + 1));
	part = &list->parts[list->n++];
	memset(part, 0, sizeof(SxPart));
	part->name = sx_row_text(row, desc, 1);
	part->position = sx_row_text(row, desc, 2);
}

static void
limit_source(const SxPipeline *pl, SxSource *source)
{
	Oid			types[] = {INT4OID, REGCLASSOID};
	Datum		values[] = {
		Int32GetDatum(pl->lane_of), ObjectIdGetDatum(source->stream->relid)
	};
	PartList	list = {NULL, 0};
	MemoryContext old;

	sx_catalog_rows("SELECT partition, position::text FROM streamext.partition "
					"WHERE pipeline = $1 AND stream = $2 AND position IS NOT NULL "
					"ORDER BY length(partition), partition",
					lengthof(types), types, values, NULL, add_part, &list);
	old = MemoryContextSwitchTo(source->context);
	source->ops->limit(source, pl->lane_of, list.parts, list.n);
	MemoryContextSwitchTo(old);
}

void
sx_lane_limit(SxPipeline *pl)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "streamext lane",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);

	for (int i = 0; i < pl->ninputs; i++)
	{
		SxSource   *source = pl->inputs[i].source;

		if (source->ops->limit == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("stream %s cannot be read up to a given position any more",
							source->stream->label),
					 errdetail("Its options were changed while \"%s\" was catching up.", pl->name),
					 errhint("Change them back, or drop what reads the stream here and create it again.")));
		limit_source(pl, source);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}

bool
sx_lane_at_limit(const SxPipeline *pl)
{
	for (int i = 0; i < pl->ninputs; i++)
	{
		SxSource   *source = pl->inputs[i].source;

		if (!source->limited || !source->ops->at_limit(source))
			return false;
	}
	return true;
}

/* ---------- merging ---------- */

/* Whoever changes a pipeline locks its row before its progress: no waiting for that here. */
static bool
lock_row(int lane)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(lane)};

	return sx_catalog_exec("SELECT FROM streamext.pipeline WHERE id = $1 FOR UPDATE SKIP LOCKED",
						   lengthof(types), types, values, NULL) == 1;
}

void
sx_lane_lock_progress(int lane, int lane_of)
{
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(lane), Int32GetDatum(lane_of)};

	(void) sx_catalog_exec("SELECT FROM streamext.progress WHERE pipeline IN ($1, $2) "
						   "ORDER BY pipeline, slot FOR UPDATE",
						   lengthof(types), types, values, NULL);
}

/* Sources that a failed attempt has loaded say the same again. */
void
sx_lane_merge_begin(SxPipeline *pl)
{
	pl->merged = false;
	if (!lock_row(pl->id))
		pl->merging = false;
	else
	{
		sx_lane_lock_progress(pl->id, pl->lane_of);
		sx_lane_limit(pl);
		(void) sx_pipeline_poll(pl, pl->time, true);
	}
	if (pl->due == SX_DUE_NOTHING)
		pl->due = SX_DUE_POSITION;
}

typedef struct StreamWatermark
{
	Oid			stream;
	TimestampTz watermark;
} StreamWatermark;

static void
collect_watermark(HeapTuple row, TupleDesc desc, void *arg)
{
	List	  **list = arg;
	StreamWatermark *wm = palloc(sizeof(StreamWatermark));

	wm->stream = sx_row_oid(row, desc, 1);
	wm->watermark = sx_row_time(row, desc, 2);
	*list = lappend(*list, wm);
}

/* What the shared pipeline would give the step as its watermark; DT_NOBEGIN: none. */
static TimestampTz
shared_watermark(const SxStep *step, const List *shared)
{
	TimestampTz lowest = DT_NOEND;
	ListCell   *lc;

	foreach(lc, shared)
	{
		const StreamWatermark *wm = lfirst(lc);

		if (list_member_oid(step->plan->streams, wm->stream))
			lowest = Min(lowest, wm->watermark);
	}
	return lowest == DT_NOEND ? DT_NOBEGIN : lowest;
}

/*
 * The watermark of the shared pipeline stays what it is; that of a step is the highest of
 * both, as it never goes back.
 */
static void
raise_watermarks(const SxPipeline *pl)
{
	Oid			source_types[] = {INT4OID};
	Datum		source_values[] = {Int32GetDatum(pl->lane_of)};
	List	   *shared = NIL;

	sx_catalog_rows("SELECT stream, watermark FROM streamext.source WHERE pipeline = $1",
					lengthof(source_types), source_types, source_values, NULL,
					collect_watermark, &shared);
	for (int i = 0; i < pl->nsteps; i++)
	{
		const SxStep *step = &pl->steps[i];
		TimestampTz watermark = shared_watermark(step, shared);
		Oid			types[] = {REGCLASSOID, TIMESTAMPTZOID};
		Datum		values[] = {ObjectIdGetDatum(step->relid), TimestampTzGetDatum(watermark)};

		if (!(step->plan->windowed || step->plan->end_watermark) || watermark == DT_NOBEGIN)
			continue;
		sx_catalog_exec("UPDATE streamext.step_progress SET watermark = greatest(watermark, $2) "
						"WHERE relation = $1",
						lengthof(types), types, values, NULL);
	}
}

/*
 * Deliveries of a sink go on where they were: the first batch of the shared pipeline gets
 * a higher number than the last one here.
 */
static void
move_steps(const SxPipeline *pl)
{
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(pl->id), Int32GetDatum(pl->lane_of)};

	sx_catalog_exec("UPDATE streamext.step s SET pipeline = $2, "
					"delivery_offset = greatest(s.delivery_offset, "
					"                           s.delivery_offset + l.batch_id - g.batch_id) "
					"FROM streamext.progress l, streamext.progress g "
					"WHERE s.pipeline = $1 AND l.pipeline = $1 AND l.slot = 0 "
					"AND g.pipeline = $2 AND g.slot = 0",
					lengthof(types), types, values, NULL);
	sx_catalog_exec("UPDATE streamext.dead_letter SET pipeline = $2 WHERE pipeline = $1",
					lengthof(types), types, values, NULL);
	sx_catalog_exec("DELETE FROM streamext.pipeline WHERE id = $1 AND lane_of = $2",
					lengthof(types), types, values, NULL);
}

void
sx_lane_merge_end(SxPipeline *pl)
{
	if (!sx_lane_at_limit(pl))
		return;
	raise_watermarks(pl);
	move_steps(pl);
	(void) sx_pipeline_new_epoch(pl->lane_of);
	sx_wake_pipeline_at_commit(pl->lane_of);
	sx_wake_pipeline_at_commit(pl->id);
	sx_wake_scheduler_at_commit();
	pl->merged = true;
}
