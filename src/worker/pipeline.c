/*-------------------------------------------------------------------------
 *
 * pipeline.c
 *		Opening a pipeline: its options, sources, positions and steps.
 *
 * A worker holds one SxPipeline for its life, step() one for a call.  Everything
 * lives in pl->context; the sources are closed when that context goes, on whatever
 * path.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/sx_catalog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "state/changes.h"
#include "portability/instr_time.h"
#include "source/rights.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/batch.h"
#include "worker/batch_internal.h"
#include "worker/lane.h"
#include "worker/rate.h"
#include "worker/timetable.h"

#define DEFAULT_MAX_ROWS	100000
#define DEFAULT_MAX_BYTES	(16 * 1024 * 1024)
#define DEFAULT_MAX_ERRORS	1000
#define DEFAULT_MAX_ERRORS_PER_HOUR	10000

SxPipeline *sx_current = NULL;
Oid			sx_blamed_step = InvalidOid;

static void
close_sources(void *arg)
{
	SxPipeline *pl = arg;

	for (int i = 0; i < pl->ninputs; i++)
	{
		SxInput    *input = &pl->inputs[i];
		SxSource   *source = input->live != NULL ? input->live : input->source;

		if (source != NULL)
			source->ops->close(source);
		pl->inputs[i].source = NULL;
	}
	if (sx_current == pl)
		sx_current = NULL;
}

/* ---------- steps ---------- */

static void
add_step(HeapTuple row, TupleDesc desc, void *arg)
{
	SxPipeline *pl = arg;
	SxStep	   *step;

	if (pl->nsteps % 8 == 0)
		pl->steps = pl->nsteps == 0 ? palloc(sizeof(SxStep) * 8) :
			repalloc(pl->steps, sizeof(SxStep) * (pl->nsteps + 8));
	step = &pl->steps[pl->nsteps];
	memset(step, 0, sizeof(SxStep));
	step->index = pl->nsteps++;
	step->relid = sx_row_oid(row, desc, 1);
	step->timezone = sx_row_text(row, desc, 2);
	step->datestyle = sx_row_text(row, desc, 3);
	step->intervalstyle = sx_row_text(row, desc, 4);
	step->search_path = sx_row_text(row, desc, 5);
	step->watermark = sx_row_time(row, desc, 6);
	step->last_emit = sx_row_time(row, desc, 7);
	step->pending = sx_row_bool(row, desc, 8);
	step->errors_from = sx_row_time(row, desc, 9);
	step->errors_now = sx_row_int(row, desc, 10, 0);
	step->errors_before = sx_row_int(row, desc, 11, 0);
	step->delivery_offset = sx_row_int(row, desc, 12, 0);
	step->panes_upto = step->panes_trimmed = -1;
	step->timer = step->new_timer = DT_NOEND;
}

/*
 * The streams with rows of their own behind views, sinks and windows, whose rows can be
 * read from outside: nobody reads others.
 */
static Datum
read_streams(int pipeline)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(pipeline)};
	List	   *readers = NIL;
	List	   *streams = NIL;
	Datum	   *oids;
	int			n = 0;
	ListCell   *lc;

	sx_catalog_rows("SELECT relation FROM streamext.step WHERE pipeline = $1 "
					"AND (kind <> 'stream' OR strategy = 'window')",
					1, types, values, NULL, sx_collect_oid, &readers);
	foreach(lc, readers)
		streams = list_concat_unique_oid(streams,
										 sx_relation_reads(lfirst_oid(lc)).all_derived);
	oids = palloc(sizeof(Datum) * Max(list_length(streams), 1));
	foreach(lc, streams)
		oids[n++] = ObjectIdGetDatum(lfirst_oid(lc));
	return PointerGetDatum(construct_array(oids, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

/* Steps are registered with those of slot 0. */
static void
make_counters(SxPipeline *pl)
{
	Datum		values[] = {Int32GetDatum(pl->id), Int32GetDatum(pl->slot)};

	sx_catalog_exec("INSERT INTO streamext.step_progress (relation, slot) SELECT relation, $2 "
					"FROM streamext.step WHERE pipeline = $1 ON CONFLICT DO NOTHING",
					SX_ARGS(INT4OID, INT4OID), values, NULL);
}

static void
load_steps(SxPipeline *pl)
{
	Oid			types[] = {INT4OID, OIDARRAYOID, INT4OID};
	Datum		values[] = {
		Int32GetDatum(pl->id), read_streams(pl->id), Int32GetDatum(pl->slot)
	};

	if (pl->slot > 0)
		make_counters(pl);
	sx_catalog_rows("SELECT s.relation, s.settings->>'TimeZone', s.settings->>'DateStyle', "
					"s.settings->>'IntervalStyle', s.settings->>'search_path', "
					"p.watermark, p.last_emit, p.pending, p.errors_from, p.errors_now, p.errors_before, "
					"s.delivery_offset "
					"FROM streamext.step s LEFT JOIN streamext.step_progress p "
					"  ON p.relation = s.relation AND p.slot = $3 "
					"WHERE s.pipeline = $1 AND (s.kind <> 'stream' OR s.strategy = 'window') "
					"OR s.relation::oid = ANY ($2) "
					"ORDER BY s.seq",
					3, types, values, NULL, add_step, pl);
	for (int i = 0; i < pl->nsteps; i++)
	{
		sx_blamed_step = pl->steps[i].relid;
		pl->steps[i].plan = sx_plan_load(pl->steps[i].relid);
		pl->steps[i].ops = sx_step_ops(pl->steps[i].plan->strategy);
		pl->end_watermark |= pl->steps[i].plan->end_watermark;
		pl->every_interval |= pl->steps[i].ops->every_interval;
	}
	sx_blamed_step = InvalidOid;
}

/* After the sources, whose watermarks they may ask for. */
static void
open_steps(SxPipeline *pl)
{
	sx_changes_open(pl);
	sx_idle_open(pl);
	for (int i = 0; i < pl->nsteps; i++)
	{
		sx_blamed_step = pl->steps[i].relid;
		if (pl->steps[i].ops->open != NULL)
			pl->steps[i].ops->open(pl, &pl->steps[i]);
	}
	sx_blamed_step = InvalidOid;
}

static bool
read_by_a_step(const SxPipeline *pl, Oid stream)
{
	for (int i = 0; i < pl->nsteps; i++)
	{
		if (list_member_oid(pl->steps[i].plan->streams, stream))
			return true;
	}
	return false;
}

/* ---------- sources ---------- */

typedef struct PartList
{
	const SxStream *stream;
	SxPart	   *parts;
	int			n;
} PartList;

static void
add_part(HeapTuple row, TupleDesc desc, void *arg)
{
	PartList   *list = arg;
	SxPart	   *part;

	if (list->n % 8 == 0)
		list->parts = list->n == 0 ? palloc(sizeof(SxPart) * 8) :
			repalloc(list->parts, sizeof(SxPart) * (list->n + 8));
	if (!sx_slot_reads(list->stream, SPI_getvalue(row, desc, 1)))
		return;
	part = &list->parts[list->n++];
	memset(part, 0, sizeof(SxPart));
	part->name = sx_row_text(row, desc, 1);
	part->position = sx_row_text(row, desc, 2);
	part->max_event_time = sx_row_time(row, desc, 3);
	part->anchor = sx_row_text(row, desc, 4);
	part->idle = sx_row_bool(row, desc, 5);
	part->saved_idle = part->idle;
	part->lag = part->saved_lag = -1;
}

static SxSource *
open_source(SxPipeline *pl, Oid relid)
{
	Oid			types[] = {INT4OID, REGCLASSOID};
	Datum		values[] = {Int32GetDatum(pl->id), ObjectIdGetDatum(relid)};
	SxStream   *stream = sx_stream_load(relid);
	PartList	list = {stream, NULL, 0};

	stream->slot = pl->slot;
	stream->slots = pl->slots;
	sx_stream_check_rights(stream);
	sx_catalog_rows("SELECT partition, position::text, max_event_time, anchor::text, idle "
					"FROM streamext.partition WHERE pipeline = $1 AND stream = $2 "
					"ORDER BY length(partition), partition",
					2, types, values, NULL, add_part, &list);
	return stream->source->open(stream, pl->id, list.parts, list.n);
}

typedef struct SourceRow
{
	Oid			stream;
	TimestampTz watermark;
} SourceRow;

static void
add_source_row(HeapTuple row, TupleDesc desc, void *arg)
{
	List	  **list = arg;
	SourceRow  *source = palloc(sizeof(SourceRow));

	source->stream = sx_row_oid(row, desc, 1);
	source->watermark = sx_row_time(row, desc, 2);
	*list = lappend(*list, source);
}

/* Only streams that some step reads: nothing is made of the others. */
static void
open_sources(SxPipeline *pl)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(pl->id)};
	List	   *rows = NIL;
	ListCell   *lc;

	sx_catalog_rows("SELECT stream, watermark FROM streamext.source WHERE pipeline = $1 ORDER BY seq",
					1, types, values, NULL, add_source_row, &rows);
	pl->inputs = palloc0(sizeof(SxInput) * Max(list_length(rows), 1));
	foreach(lc, rows)
	{
		SourceRow  *row = lfirst(lc);
		SxInput    *input = &pl->inputs[pl->ninputs];

		if (!read_by_a_step(pl, row->stream))
			continue;
		input->watermark = row->watermark;
		input->divided = pl->slots > 1;
		input->moved_to = DT_NOBEGIN;
		input->index = pl->ninputs++;
		input->source = open_source(pl, row->stream);
	}
}

/* ---------- options ---------- */

const char *
sx_pipeline_option(const SxPipeline *pl, const char *name)
{
	ListCell   *lc;

	for (int i = 0; i < pl->ninputs; i++)
	{
		const char *value = sx_stream_option(pl->inputs[i].source->stream, name, NULL);

		if (value != NULL)
			return value;
	}
	foreach(lc, pl->lane_streams)
	{
		const char *value = sx_stream_option(lfirst(lc), name, NULL);

		if (value != NULL)
			return value;
	}
	return NULL;
}

static const char *
pipeline_option(const SxPipeline *pl, const char *name, const char *dflt)
{
	const char *value = sx_pipeline_option(pl, name);

	return value != NULL ? value : dflt;
}

static int64
pipeline_option_int(const SxPipeline *pl, const char *name, int64 dflt)
{
	const char *value = pipeline_option(pl, name, NULL);

	return value == NULL ? dflt :
		DatumGetInt64(DirectFunctionCall1(int8in, CStringGetDatum(value)));
}

/* The options of a pipeline hold for its lanes, whatever streams these read. */
static void
load_lane_streams(SxPipeline *pl)
{
	ListCell   *lc;

	foreach(lc, sx_pipeline_sources(pl->lane_of))
		pl->lane_streams = lappend(pl->lane_streams, sx_stream_load(lfirst_oid(lc)));
}

static void
load_options(SxPipeline *pl)
{
	bool		sync;

	/* a lane that waited as the others do would not catch up with them */
	pl->batch_interval = pl->lane_of != 0 ? 0 :
		sx_interval_option_usec("batch_interval", pipeline_option(pl, "batch_interval", "0"));
	pl->max_rows = pipeline_option_int(pl, "max_batch_rows", DEFAULT_MAX_ROWS);
	pl->max_bytes = pipeline_option_int(pl, "max_batch_bytes", DEFAULT_MAX_BYTES);
	pl->max_files = (int) pipeline_option_int(pl, "max_files_per_batch", 0);
	pl->max_errors = pipeline_option_int(pl, "max_errors", DEFAULT_MAX_ERRORS);
	pl->max_errors_hour = pipeline_option_int(pl, "max_errors_per_hour",
											  DEFAULT_MAX_ERRORS_PER_HOUR);
	pl->step_timeout = (int) Min(sx_interval_option_usec("step_timeout",
														 pipeline_option(pl, "step_timeout", "10 minutes")) / 1000,
								 INT_MAX);
	pl->on_error = pstrdup(pipeline_option(pl, "on_error", "dead_letter"));
	if (!parse_bool(pipeline_option(pl, "synchronous_commit", "off"), &sync))
		sync = true;
	pl->async_commit = !sync;
}

/* ---------- the pipeline ---------- */

static void
load_pipeline_row(HeapTuple row, TupleDesc desc, void *arg)
{
	SxPipeline *pl = arg;

	pl->name = sx_row_text(row, desc, 1);
	pl->owner = sx_row_oid(row, desc, 2);
	pl->epoch = sx_row_int(row, desc, 3, 0);
	pl->batch_id = sx_row_int(row, desc, 4, 0);
	pl->batch_time = sx_row_time(row, desc, 5);
	pl->first_batch_time = sx_row_time(row, desc, 6);
	pl->lane_of = (int) sx_row_int(row, desc, 7, 0);
	pl->slots = (int) sx_row_int(row, desc, 8, 1);
}

SxPipeline *
sx_pipeline_open(int id, int slot, MemoryContext parent, bool take_over)
{
	MemoryContext context = AllocSetContextCreate(parent, "streamext pipeline",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SxPipeline *pl = palloc0(sizeof(SxPipeline));
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(id), Int32GetDatum(slot)};

	pl->id = id;
	pl->slot = slot;
	pl->context = context;
	pl->batch_context = AllocSetContextCreate(context, "streamext batch",
											  ALLOCSET_DEFAULT_SIZES);
	pl->running_step = pl->applying = -1;
	pl->decoding_input = pl->on_behalf = -1;
	pl->time = pl->batch_time = pl->first_batch_time = DT_NOBEGIN;
	callback->func = close_sources;
	callback->arg = pl;
	MemoryContextRegisterResetCallback(context, callback);

	if (take_over)
		(void) sx_pipeline_take(id, slot);
	sx_catalog_rows("SELECT p.name, p.owner, g.epoch, g.batch_id, g.batch_time, g.first_batch_time, p.lane_of, "
					" (SELECT count(*)::integer FROM streamext.progress o WHERE o.pipeline = p.id) "
					"FROM streamext.pipeline p JOIN streamext.progress g ON g.pipeline = p.id AND g.slot = $2 "
					"WHERE p.id = $1",
					2, types, values, NULL, load_pipeline_row, pl);
	if (pl->name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the pipeline does not exist any more")));
	load_steps(pl);
	open_sources(pl);
	if (pl->lane_of != 0)
		load_lane_streams(pl);
	load_options(pl);
	open_steps(pl);
	pl->letters = slot == 0 && sx_replay_waiting(id);
	MemoryContextSwitchTo(old);
	return pl;
}

static void
free_plan(SPIPlanPtr plan)
{
	if (plan != NULL)
		SPI_freeplan(plan);
}

void
sx_pipeline_close(SxPipeline *pl)
{
	for (int i = 0; i < pl->nsteps; i++)
	{
		free_plan(pl->steps[i].apply);
		free_plan(pl->steps[i].emit);
		free_plan(pl->steps[i].emit_clear);
		free_plan(pl->steps[i].expire);
		free_plan(pl->steps[i].late);
		free_plan(pl->steps[i].call);
		for (int p = 0; p < SX_OWN_PLANS; p++)
			free_plan(pl->steps[i].own[p]);
		for (int p = 0; pl->steps[i].then != NULL && p < list_length(pl->steps[i].plan->then_sql); p++)
			free_plan(pl->steps[i].then[p]);
	}
	MemoryContextDelete(pl->context);
}

/* ---------- polling ---------- */

/* When a batch is due for batch_interval alone, DT_NOEND: never. */
static TimestampTz
next_interval(const SxPipeline *pl)
{
	if (!pl->every_interval || pl->batch_interval <= 0)
		return DT_NOEND;
	return pl->batch_time == DT_NOBEGIN ? DT_NOBEGIN : pl->batch_time + pl->batch_interval;
}

/* Slot 0 moves the watermark, and has to know. */
static bool
idleness_changed(const SxSource *source)
{
	for (int i = 0; source->stream->has_watermark && i < source->nparts; i++)
	{
		if (source->parts[i].idle != source->parts[i].saved_idle)
			return true;
	}
	return false;
}

/*
 * Is there something to do that no record causes: a view to publish, a timer, or a
 * watermark that moves because a partition has become idle?
 */
static bool
timer_due(const SxPipeline *pl, TimestampTz now)
{
	for (int i = 0; i < pl->nsteps; i++)
	{
		const SxStep *step = &pl->steps[i];

		if (step->pending && now >= step->last_emit + step->plan->emit_interval)
			return true;
		if (now >= step->timer)
			return true;
	}
	if (now >= next_interval(pl))
		return true;
	for (int i = 0; i < pl->ninputs; i++)
	{
		if (sx_input_new_watermark(&pl->inputs[i]) > pl->inputs[i].watermark)
			return true;
		if (pl->inputs[i].divided && idleness_changed(pl->inputs[i].source))
			return true;
	}
	return false;
}

SxDue
sx_pipeline_poll(SxPipeline *pl, TimestampTz now, bool to_end)
{
	SxPollRequest req = {
		.now = now,
		.max_bytes = pl->max_bytes,
		.max_files = pl->max_files,
		.to_end = to_end
	};
	SxDue		due = SX_DUE_NOTHING;
	instr_time	start;

	if (pl->letters)
		return pl->due = SX_DUE_LETTERS;
	INSTR_TIME_SET_CURRENT(start);
	sx_rate_allow(pl, GetCurrentTimestamp());
	for (int i = 0; i < pl->ninputs; i++)
	{
		SxSource   *source = pl->inputs[i].source;
		MemoryContext old = MemoryContextSwitchTo(source->context);
		SxPollResult result;

		req.max_rows = pl->inputs[i].allowed;
		pl->polled = source;
		result = source->ops->poll(source, &req);
		pl->polled = NULL;
		MemoryContextSwitchTo(old);
		if (result == SX_POLL_DATA)
			due = SX_DUE_BATCH;
		else if (result == SX_POLL_POSITION && due == SX_DUE_NOTHING)
			due = SX_DUE_POSITION;
	}
	if (due == SX_DUE_NOTHING && (pl->batch_id > 0 || pl->every_interval || pl->slots > 1) &&
		timer_due(pl, now))
		due = SX_DUE_BATCH;
	pl->due = due;
	pl->poll_us += sx_elapsed_us(start);
	return due;
}

/* A timer that has passed already was missed: its batch is an ordinary, late one. */
TimestampTz
sx_pipeline_batch_time(const SxPipeline *pl, TimestampTz now)
{
	for (int i = 0; i < pl->nsteps; i++)
	{
		if (pl->steps[i].exact_timer && pl->steps[i].timer < now &&
			pl->steps[i].timer > pl->batch_time)
			now = pl->steps[i].timer;
	}
	return now;
}

/* Milliseconds until a time, rounded up; -1: there is none. */
static long
until(TimestampTz time)
{
	TimestampTz now = GetCurrentTimestamp();

	if (time == DT_NOEND)
		return -1;
	return time <= now ? 0 : (long) ((time - now) / 1000) + 1;
}

long
sx_pipeline_wait(SxPipeline *pl, int *fds, int *nfds)
{
	long		timeout = -1;
	int			room = *nfds;

	*nfds = 0;
	for (int i = 0; i < pl->ninputs; i++)
	{
		SxSource   *source = pl->inputs[i].source;
		int			fd = -1;
		long		ms = source->ops->wait(source, &fd);

		if (fd >= 0 && *nfds < room)
			fds[(*nfds)++] = fd;
		timeout = sx_sooner(timeout, ms);
	}
	timeout = sx_sooner(timeout, until(next_interval(pl)));
	for (int i = 0; i < pl->nsteps; i++)
	{
		const SxStep *step = &pl->steps[i];

		timeout = sx_sooner(timeout, until(step->timer));
		if (step->pending)
			timeout = sx_sooner(timeout, until(step->last_emit + step->plan->emit_interval));
	}
	return timeout;
}

bool
sx_pipeline_reached_end(SxPipeline *pl)
{
	bool		all = true;

	for (int i = 0; i < pl->ninputs; i++)
	{
		SxInput    *input = &pl->inputs[i];
		SxSource   *source = input->source;

		if (!input->end_reached)
			input->end_reached = source->ops->reached_end == NULL ||
				source->ops->reached_end(source);
		all = all && input->end_reached;
	}
	for (int i = 0; all && i < pl->ninputs; i++)
		pl->inputs[i].end_reached = false;
	return all;
}
