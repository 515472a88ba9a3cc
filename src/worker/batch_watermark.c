/*-------------------------------------------------------------------------
 *
 * batch_watermark.c
 *		How far event time has come.
 *
 * partition	highest event time seen − delay
 * stream		the lowest of its partitions that are not idle; a partition that has
 *				never given an event time holds it back
 * view			the lowest of its streams
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

TimestampTz
sx_step_new_watermark(const SxPipeline *pl, const SxStep *step)
{
	TimestampTz lowest = DT_NOEND;

	if (!step->plan->windowed && !step->plan->end_watermark)
		return DT_NOBEGIN;
	for (int i = 0; i < pl->ninputs; i++)
	{
		const SxInput *input = &pl->inputs[i];

		if (step->plan->clock != NIL ?
			list_member_oid(step->plan->clock, input->source->stream->relid) :
			sx_step_reads(step, input))
			lowest = Min(lowest, sx_input_new_watermark(input));
	}
	return lowest == DT_NOEND ? step->watermark : Max(lowest, step->watermark);
}
