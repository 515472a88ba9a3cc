/*-------------------------------------------------------------------------
 *
 * view_changes.c
 *		The batch of a stream of changes of a continuous view (plan/stream_changes.c).
 *
 * It runs behind the view, in order of creation, and reads what the view's step has
 * noted in this attempt.  It keeps nothing itself: which windows close follows from the
 * view's watermarks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/timestamp.h"

#include "plan/stream_changes.h"
#include "state/view_changes.h"
#include "worker/batch_internal.h"

static void
open_changes(SxPipeline *pl, SxStep *step)
{
	sx_rows_open(step);
	sx_changes_check_columns(step->relid, step->plan->query);
}

/* Rows whose window closes at the end of this batch. */
static void
fill_closing(SxPipeline *pl, SxStep *step)
{
	SxStep	   *view = sx_find_step(pl, step->plan->changes_of);
	TimestampTz after = sx_step_new_watermark(pl, view);
	Oid			types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[] = {TimestampTzGetDatum(view->watermark), TimestampTzGetDatum(after)};

	if (after > view->watermark)
		step->rows = sx_rows_fill(pl, step, &step->apply, step->plan->apply_sql, 2, types, values);
}

static void
apply_changes(SxPipeline *pl, SxStep *step)
{
	sx_rows_begin(pl, step);
	if (step->plan->closing)
		fill_closing(pl, step);
	else
		step->rows = sx_rows_fill(pl, step, &step->apply, step->plan->apply_sql, 0, NULL, NULL);
}

const SxStepOps sx_changes_ops = {
	.open = open_changes,
	.apply = apply_changes
};
