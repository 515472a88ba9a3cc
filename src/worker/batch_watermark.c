/*-------------------------------------------------------------------------
 *
 * batch_watermark.c
 *		How far event time has come.
 *
 * partition	highest event time seen − delay
 * stream		the lowest of its partitions that are not idle; a partition that has
 *				never given an event time holds it back
 * view			the lowest of its streams; over views with emit = 'final', the lowest
 *				event time that these can still give out
 *
 * None of them ever goes back.  DT_NOBEGIN is "none yet": nothing is late then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"
#include "worker/batch_internal.h"

TimestampTz
sx_input_new_watermark(const SxInput *input)
{
	const SxSource *source = input->source;
	TimestampTz lowest = DT_NOEND;

	if (!source->stream->has_watermark)
		return DT_NOBEGIN;
	if (input->live != NULL)
		return input->watermark;	/* dead letters move none */
	if (input->divided)
		return Max(input->watermark, input->moved_to);	/* batches move none: slot_close.c */

	for (int i = 0; i < source->nparts; i++)
	{
		TimestampTz highest = input->part_max != NULL && i < input->nparts ?
			input->part_max[i] : source->parts[i].max_event_time;

		if (source->parts[i].idle)
			continue;
		if (highest == DT_NOBEGIN)
			return input->watermark;
		lowest = Min(lowest, highest - source->stream->watermark_delay);
	}
	return lowest == DT_NOEND ? input->watermark : Max(lowest, input->watermark);
}

/* Does the watermark of an input count for the step, not through a view? */
static bool
has_time_of(const SxStep *step, const SxInput *input)
{
	if (step->plan->clock != NIL)
		return list_member_oid(step->plan->clock, input->source->stream->relid);
	if (step->plan->kind != SX_STEP_VIEW)
		return sx_step_reads(step, input);
	return list_member_oid(step->plan->time_streams, input->source->stream->relid);
}

/* The lowest of what the step reads; DT_NOEND: that has none. */
static TimestampTz
lowest_below(SxPipeline *pl, const SxStep *step)
{
	TimestampTz lowest = DT_NOEND;
	ListCell   *lc;

	for (int i = 0; i < pl->ninputs; i++)
	{
		if (has_time_of(step, &pl->inputs[i]))
			lowest = Min(lowest, sx_input_new_watermark(&pl->inputs[i]));
	}
	foreach(lc, step->plan->clock != NIL ? NIL : step->plan->time_views)
	{
		const SxStep *below = sx_find_step(pl, lfirst_oid(lc));

		if (below == NULL)
			continue;
		lowest = Min(lowest, below->plan->closes == NULL ? lowest_below(pl, below) :
					 sx_handed_on(pl, below));
	}
	return lowest;
}

/* The watermark that a view with emit = 'final' hands on; its own is known. */
TimestampTz
sx_handed_on(SxPipeline *pl, const SxStep *step)
{
	int			nestlevel = sx_step_enter(pl, step);
	TimestampTz result = sx_output_watermark(step->plan->closes, step->new_watermark);

	sx_step_leave(nestlevel);
	return result;
}

TimestampTz
sx_step_new_watermark(SxPipeline *pl, const SxStep *step)
{
	TimestampTz lowest;

	if (!step->plan->windowed && !step->plan->end_watermark)
		return DT_NOBEGIN;
	lowest = lowest_below(pl, step);
	/* A row of the very time that is handed on would touch a session that ends there. */
	if (step->plan->session != NULL && step->plan->closed_views != NIL && !TIMESTAMP_NOT_FINITE(lowest))
		lowest--;
	return lowest == DT_NOEND ? step->watermark : Max(lowest, step->watermark);
}
