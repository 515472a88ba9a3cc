/*-------------------------------------------------------------------------
 *
 * arrival_window.c
 *		Windows by arrival: which rows a windowed stream has in a batch.
 *
 * Each batch appends its rows to streamext_state.<w>; when the window fires, the rows
 * that have left are deleted.  Those of the window are read when somebody scans the
 * stream.  The rows of the window that fired last stay, for whoever looks from outside.
 *
 * In batches.  The window fires when the batch id is a multiple of the slide, and holds
 * the batches (id - length, id].
 *
 * In time.  Boundaries are first + n * slide (n = 0, 1, …), where first is the time of the
 * pipeline's first batch, or with batch_interval the start of that interval plus one slide.  The window
 * of a boundary b holds the batches with a time in (b - length, b].  A batch fires
 *
 *		its own time, where that is a boundary;
 *		else the earliest boundary since the last fired one whose window has rows;
 *		else, where all of those are empty and the last fired window was not, the latest one:
 *		so readers see once that it has become empty.
 *
 * The worker gives the batch that a boundary's timer causes exactly that time.  There is
 * such a timer as long as there are rows for a boundary to come.  With length = slide no
 * row is lost or repeated: what comes behind a fired boundary counts as later than it,
 * whatever the clock says.
 *
 *		length 10, slide 5        row at 3      row at 7
 *		boundaries         0 ......... 5 ............ 10 ....... 15 ....... 20
 *		fires              empty       {3}            {3, 7}     {7}        empty, the last
 *
 * For windows in time, streamext.window_batch has the time of each batch that has rows here.
 * What a window read and fired is decided anew in each attempt at a batch, from these
 * tables and the last boundary that was committed (step->last_emit).
 *
 * A window over a windowed stream gets that one's window when it fires, at the time of its
 * boundary.  It can fire without it, to become empty: it has a longer memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "state/arrival_window.h"

typedef struct Window
{
	const SxWindowSpec *spec;
	bool		fires;			/* in this attempt at the batch */
	TimestampTz boundary;		/* … in time: at this one */
	int64		first;			/* … with these batches; first > last: none */
	int64		last;
	bool		filled;			/* its rows are in step->output */
	int64		trimmed_in;		/* batch in which rows were deleted last */
	int64		trimmed_upto;	/* … up to this batch */
} Window;

static Window *
window_of(const SxStep *step)
{
	return step->private;
}

bool
sx_window_range(const SxStep *step, int64 *first, int64 *last)
{
	*first = window_of(step)->first;
	*last = window_of(step)->last;
	return window_of(step)->fires;
}

int64
sx_window_trimmed(const SxPipeline *pl, const SxStep *step)
{
	const Window *window = window_of(step);

	return window->trimmed_in == pl->batch_id + 1 ? window->trimmed_upto : 0;
}

/* ---------- times of batches ---------- */

/* A value from streamext.window_batch: $1 is the stream, $2 a time. */
static Datum
batch_value(const SxStep *step, const char *sql, TimestampTz time, bool *isnull)
{
	Oid			types[] = {REGCLASSOID, TIMESTAMPTZOID};
	Datum		values[] = {ObjectIdGetDatum(step->relid), TimestampTzGetDatum(time)};

	return sx_catalog_value(sql, 2, types, values, NULL, isnull);
}

static TimestampTz
batch_value_time(const SxStep *step, const char *sql, TimestampTz time, TimestampTz none)
{
	bool		isnull;
	Datum		value = batch_value(step, sql, time, &isnull);

	return isnull ? none : DatumGetTimestampTz(value);
}

/* Time of the first batch with rows after a time; DT_NOEND: there is none. */
static TimestampTz
first_rows_after(const SxStep *step, TimestampTz time)
{
	return batch_value_time(step, "SELECT min(batch_time) FROM streamext.window_batch "
							"WHERE relation = $1 AND batch_time > $2", time, DT_NOEND);
}

static TimestampTz
last_rows(const SxStep *step)
{
	return batch_value_time(step, "SELECT max(batch_time) FROM streamext.window_batch "
							"WHERE relation = $1 AND $2 IS NOT NULL", 0, DT_NOBEGIN);
}

static bool
window_has_rows(const SxStep *step, TimestampTz boundary)
{
	return first_rows_after(step, boundary - window_of(step)->spec->length) <= boundary;
}

static void
note_batch(SxPipeline *pl, const SxStep *step, TimestampTz time)
{
	Oid			types[] = {REGCLASSOID, INT8OID, TIMESTAMPTZOID};
	Datum		values[] = {
		ObjectIdGetDatum(step->relid), Int64GetDatum(pl->batch_id + 1), TimestampTzGetDatum(time)
	};

	sx_catalog_exec("INSERT INTO streamext.window_batch (relation, batch_id, batch_time) "
					"VALUES ($1, $2, $3)",
					3, types, values, NULL);
}

static void
collect_range(HeapTuple row, TupleDesc desc, void *arg)
{
	Window	   *window = arg;

	window->first = sx_row_int(row, desc, 1, 1);
	window->last = sx_row_int(row, desc, 2, 0);
}

/* The batches in the window of the boundary that fires. */
static void
find_range(const SxStep *step, Window *window)
{
	Oid			types[] = {REGCLASSOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[] = {
		ObjectIdGetDatum(step->relid),
		TimestampTzGetDatum(window->boundary - window->spec->length),
		TimestampTzGetDatum(window->boundary)
	};

	sx_catalog_rows("SELECT min(batch_id), max(batch_id) FROM streamext.window_batch "
					"WHERE relation = $1 AND batch_time > $2 AND batch_time <= $3",
					3, types, values, NULL, collect_range, window);
}

/* ---------- boundaries ---------- */

static TimestampTz
first_boundary(const SxPipeline *pl, const Window *window)
{
	TimestampTz first = pl->first_batch_time == DT_NOBEGIN ? pl->time : pl->first_batch_time;

	return pl->batch_interval > 0 ? first - pl->batch_interval + window->spec->slide : first;
}

/* The first boundary at or after a time. */
static TimestampTz
boundary_from(const SxPipeline *pl, const Window *window, TimestampTz time)
{
	TimestampTz first = first_boundary(pl, window);
	int64		slide = window->spec->slide;

	return time <= first ? first : first + (time - first + slide - 1) / slide * slide;
}

static TimestampTz
boundary_after(const SxPipeline *pl, const Window *window, TimestampTz time)
{
	return boundary_from(pl, window, time + 1);
}

/* The boundary that comes after the last fired one. */
static TimestampTz
next_boundary(const SxPipeline *pl, const Window *window, TimestampTz last)
{
	return last == DT_NOBEGIN ? first_boundary(pl, window) : boundary_after(pl, window, last);
}

/*
 * The first boundary from this one on whose window has rows, as far as they are there now;
 * DT_NOEND: none.  With slide > length, rows can lie between two windows.
 */
static TimestampTz
boundary_with_rows(const SxPipeline *pl, const SxStep *step, TimestampTz boundary)
{
	Window	   *window = window_of(step);

	for (;;)
	{
		TimestampTz rows = first_rows_after(step, boundary - window->spec->length);

		if (rows == DT_NOEND)
			return DT_NOEND;
		boundary = Max(boundary, boundary_from(pl, window, rows));
		if (rows > boundary - window->spec->length)
			return boundary;
	}
}

/* Which boundary does a batch at this time fire?  DT_NOBEGIN: none. */
static TimestampTz
choose_boundary(const SxPipeline *pl, const SxStep *step, TimestampTz time)
{
	Window	   *window = window_of(step);
	TimestampTz next;
	TimestampTz with_rows;

	if (window->spec->slide == 0)
		return step->due ? time : DT_NOBEGIN;
	next = next_boundary(pl, window, step->last_emit);
	if (next > time)
		return DT_NOBEGIN;
	if (boundary_from(pl, window, time) == time)
		return time;
	with_rows = boundary_with_rows(pl, step, next);
	if (with_rows <= time)
		return with_rows;
	if (step->last_emit != DT_NOBEGIN && window_has_rows(step, step->last_emit))
		return boundary_from(pl, window, time) - window->spec->slide;
	return DT_NOBEGIN;
}

/* When a batch is due for the sake of this window. */
static TimestampTz
next_timer(const SxPipeline *pl, const SxStep *step, TimestampTz last)
{
	Window	   *window = window_of(step);
	TimestampTz next;

	if (window->spec->batches || window->spec->slide == 0 ||
		(pl->first_batch_time == DT_NOBEGIN && pl->time == DT_NOBEGIN))
		return DT_NOEND;
	next = next_boundary(pl, window, last);
	if (last != DT_NOBEGIN && window_has_rows(step, last))
		return next;
	return boundary_with_rows(pl, step, next);
}

/* ---------- what is read ---------- */

/* The boundary that fired in a windowed stream that this one stands on; DT_NOBEGIN: none. */
static TimestampTz
parent_boundary(SxPipeline *pl, const SxStep *step)
{
	ListCell   *lc;

	foreach(lc, step->plan->reads)
	{
		SxStep	   *stream = sx_find_step(pl, lfirst_oid(lc));
		TimestampTz boundary = DT_NOBEGIN;

		if (stream != NULL && stream->plan->window != NULL)
			boundary = window_of(stream)->boundary;
		else if (stream != NULL)
			boundary = parent_boundary(pl, stream);
		if (boundary != DT_NOBEGIN)
			return boundary;
	}
	return DT_NOBEGIN;
}

/*
 * The time of this batch's rows: never before those that are there, nor in a window that
 * has fired.
 */
static TimestampTz
time_of_rows(SxPipeline *pl, const SxStep *step)
{
	TimestampTz time = step->due ? parent_boundary(pl, step) : DT_NOBEGIN;

	if (time == DT_NOBEGIN)
		time = pl->time;
	time = Max(time, last_rows(step));
	if (step->last_emit != DT_NOBEGIN && time <= step->last_emit)
		time = step->last_emit + 1;
	return time;
}

static void
append_rows(SxPipeline *pl, SxStep *step)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(pl->batch_id + 1)};

	step->rows = sx_step_execute(pl, step, &step->apply, step->plan->apply_sql,
								 1, types, values);
}

/* ---------- one batch ---------- */

/* Guides the planner, which does not know how few rows a range of batches is. */
int
sx_prefer_index(void)
{
	int			nestlevel = NewGUCNestLevel();

	(void) set_config_option("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return nestlevel;
}

/* Deletes the rows of batches up to this one. */
static void
trim(SxPipeline *pl, SxStep *step, int64 upto)
{
	Window	   *window = window_of(step);
	bool		known = window->trimmed_in > 0;
	Oid			types[] = {INT8OID, INT8OID};
	Datum		values[] = {
		Int64GetDatum(known ? window->trimmed_upto : 0), Int64GetDatum(upto)
	};
	int			nestlevel;

	if (upto <= 0)
		return;
	nestlevel = sx_prefer_index();
	(void) sx_step_execute(pl, step, &step->own[SX_OWN_TRIM], window->spec->trim_sql,
						   2, types, values);
	AtEOXact_GUC(false, nestlevel);
	window->trimmed_in = pl->batch_id + 1;
	window->trimmed_upto = upto;
}

static void
apply_batches(SxPipeline *pl, SxStep *step)
{
	Window	   *window = window_of(step);
	int64		length = window->spec->length;
	int64		slide = window->spec->slide;
	int64		id = pl->batch_id + 1;
	int64		next = (id + slide - 1) / slide * slide;

	if (step->due && id > next - length)
		append_rows(pl, step);
	window->fires = id == next;
	window->first = id - length + 1;
	window->last = id;
	if (window->fires)
		trim(pl, step, id - length);
}

static void
trim_time(SxPipeline *pl, SxStep *step)
{
	Window	   *window = window_of(step);
	bool		isnull;
	Datum		upto = batch_value(step, "WITH gone AS (DELETE FROM streamext.window_batch "
								   "WHERE relation = $1 AND batch_time <= $2 RETURNING batch_id) "
								   "SELECT max(batch_id) FROM gone",
								   window->boundary - window->spec->length, &isnull);

	if (!isnull)
		trim(pl, step, DatumGetInt64(upto));
}

static void
apply_time(SxPipeline *pl, SxStep *step)
{
	Window	   *window = window_of(step);
	TimestampTz time = time_of_rows(pl, step);

	if (step->due && (window->spec->slide == 0 ||
					  time > boundary_from(pl, window, time) - window->spec->length))
	{
		append_rows(pl, step);
		if (step->rows > 0)
			note_batch(pl, step, time);
	}
	window->boundary = choose_boundary(pl, step, time);
	window->fires = window->boundary != DT_NOBEGIN;
	window->first = 1;
	window->last = 0;
	if (!window->fires)
		return;
	find_range(step, window);
	trim_time(pl, step);
}

static void
apply(SxPipeline *pl, SxStep *step)
{
	Window	   *window = window_of(step);

	window->boundary = DT_NOBEGIN;
	window->filled = false;
	if (window->trimmed_in > pl->batch_id)
		window->trimmed_in = 0; /* an attempt that was rolled back */
	sx_rows_begin(pl, step);
	if (window->spec->batches)
		apply_batches(pl, step);
	else
		apply_time(pl, step);
	step->due = window->fires;
}

/* Somebody scans the stream: its rows are needed now. */
static void
fill(SxPipeline *pl, SxStep *step)
{
	Window	   *window = window_of(step);
	Oid			types[] = {INT8OID, INT8OID};
	Datum		values[] = {Int64GetDatum(window->first), Int64GetDatum(window->last)};
	int			nestlevel;

	if (window->filled || !window->fires || window->first > window->last)
		return;
	window->filled = true;
	nestlevel = sx_prefer_index();
	(void) sx_rows_fill(pl, step, &step->own[SX_OWN_FILL], window->spec->fill_sql,
						2, types, values);
	AtEOXact_GUC(false, nestlevel);
}

static void
finish(SxPipeline *pl, SxStep *step)
{
	Window	   *window = window_of(step);

	if (window->boundary != DT_NOBEGIN)
		step->new_last_emit = window->boundary;
	step->new_timer = next_timer(pl, step, step->new_last_emit);
}

static void
open_window(SxPipeline *pl, SxStep *step)
{
	Window	   *window = MemoryContextAllocZero(pl->context, sizeof(Window));

	window->spec = step->plan->window;
	window->boundary = DT_NOBEGIN;
	step->private = window;
	step->exact_timer = true;
	sx_rows_open(step);
	sx_plan_check_columns(step->relid, step->plan->query);
	step->timer = step->new_timer = next_timer(pl, step, step->last_emit);
}

const SxStepOps sx_window_ops = {
	.open = open_window,
	.apply = apply,
	.fill = fill,
	.finish = finish,
	.always = true,
	.every_interval = true
};
