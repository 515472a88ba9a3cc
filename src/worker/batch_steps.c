/*-------------------------------------------------------------------------
 *
 * batch_steps.c
 *		A step within a batch: its operations, in their order.
 *
 *		apply		the batch's rows go into the view, sink or stream
 *		close		the watermark moves; a step that stands on closed windows is applied now
 *		finish		what the watermark has passed is deleted, timers are set
 *
 * The streams that a step reads have been applied before it.  They are made anew for a
 * step whose records are not those of the others: some are out for it, or it is fed
 * dead letters.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fdw/track.h"
#include "state/panes.h"
#include "utils/timestamp.h"
#include "worker/batch_internal.h"
#include "worker/plan_size.h"

#define EXPIRE_ROWS		20000	/* that any batch may delete of a state table */

bool
sx_step_reads(const SxStep *step, const SxInput *input)
{
	return list_member_oid(step->plan->streams, input->source->stream->relid);
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
	sx_fit_plan(pl, step);
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
