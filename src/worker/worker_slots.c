/*-------------------------------------------------------------------------
 *
 * worker_slots.c
 *		What a worker does for being one of several of its pipeline.
 *
 * What follows from the commits of all of them is for slot 0: moving the watermarks
 * (slot_close.c), and saying that run() has come to its end.  The others wake it when they
 * have committed; nothing is polled.  It looks at once when it is at rest, and under load
 * now and then, as a closing waits for the batches of the others that run.
 *
 *		run()	slot n > 0, at its end: progress.at_end, wakes slot 0
 *				slot 0, at its end: all of the others are, too; closes windows; pauses
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "worker/pipeline_row.h"
#include "worker/process.h"
#include "worker/worker_slots.h"

#define CLOSE_MS		100		/* slot 0 at rest … */
#define CLOSE_BUSY_MS	1000	/* … and under load */

static bool wanted = true;		/* something was committed since slot 0 has looked */
static TimestampTz looked_at = 0;

void
sx_slots_woken(void)
{
	wanted = true;
}

void
sx_slots_tell(const SxPipeline *pl)
{
	if (pl->slots > 1 && pl->slot > 0)
		sx_status_tell_first();
	wanted = true;
}

long
sx_slots_wait(const SxPipeline *pl, TimestampTz now, bool busy)
{
	if (pl->slot > 0 || !wanted || !sx_slots_have_time(pl))
		return -1;
	return Max(0, (busy ? CLOSE_BUSY_MS : CLOSE_MS) -
			   TimestampDifferenceMilliseconds(looked_at, now));
}

/* Somebody who holds the progress row may have started another epoch: it is asked again. */
bool
sx_slots_look(SxPipeline *pl)
{
	SxBatchOutcome outcome = sx_slots_close(pl, true);

	looked_at = GetCurrentTimestamp();
	wanted = outcome == SX_BATCH_DONE || pl->closing_held;
	return outcome != SX_BATCH_FENCED;
}

static bool
ask_row(const SxPipeline *pl)
{
	MemoryContext caller = CurrentMemoryContext;
	bool		answer;

	sx_transaction_begin();
	answer = pl->slot > 0 ? sx_row_at_end(pl->id, pl->slot, pl->epoch) : sx_row_others_at_end(pl->id);
	sx_transaction_end();
	MemoryContextSwitchTo(caller);
	return answer;
}

SxSlotsEnd
sx_slots_at_end(SxPipeline *pl, bool run_to_end)
{
	bool		answer = pl->slots <= 1 || !run_to_end || ask_row(pl);

	if (pl->slots <= 1)
		return SX_SLOTS_ENDED;
	if (pl->slot > 0)
	{
		if (!answer)
			return SX_SLOTS_FENCED;
		sx_slots_tell(pl);
		return run_to_end ? SX_SLOTS_NOT_YET : SX_SLOTS_ENDED;
	}
	if (!answer)
		return SX_SLOTS_NOT_YET;
	do
	{
		if (!sx_slots_look(pl))
			return SX_SLOTS_FENCED;
		if (pl->closing_held)
			return SX_SLOTS_NOT_YET;
	} while (wanted);
	return SX_SLOTS_ENDED;
}
