/*-------------------------------------------------------------------------
 *
 * conflict.c
 *		A batch that lost against a transaction of somebody else: a deadlock, or a
 *		serialization failure.
 *
 * Workers look for a deadlock after a shorter wait than users do (process.c), so that
 * it is mostly the batch that is rolled back.  Its records are still in memory, so it
 * begins anew, after a nap of random length: whoever it collided with has the locks by
 * then, and two batches that collided do not do it again in step.  As on a shared wire
 * the range of the nap doubles with each loss, until few enough try at the same time.
 *
 * Leaving that to the back-off between the lives of a worker would starve a pipeline
 * whose tables are busy: it doubles with each failure, and each new life begins with
 * the same chance to lose.  Only a batch that loses MAX_CONFLICTS times gets there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "compat.h"
#include "miscadmin.h"
#include "storage/latch.h"

#include "worker/batch_internal.h"

#define MAX_CONFLICTS	20
#define FIRST_NAP_MS	10
#define LONGEST_NAP_MS	1000
#define BREATH_MS		100

static bool
is_conflict(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE;
}

/* Not for the latch, which stays set for the worker's loop. */
static void
nap(int ms)
{
	for (; ms > 0; ms -= BREATH_MS)
	{
		(void) WaitLatch(NULL, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(ms, BREATH_MS),
						 SX_WAIT_EVENT("StreamextConflict"));
		CHECK_FOR_INTERRUPTS();
	}
}

/* Called when the batch has been rolled back. */
bool
sx_lost_conflict(SxPipeline *pl, const ErrorData *edata)
{
	int			longest;

	if (!is_conflict(edata->sqlerrcode) || pl->conflicts >= MAX_CONFLICTS)
		return false;
	longest = Min(FIRST_NAP_MS << Min(pl->conflicts, 10), LONGEST_NAP_MS);
	pl->conflicts++;
	pl->running_step = pl->decoding_input = -1;
	ereport(DEBUG1,
			(errmsg_internal("a batch of pipeline \"%s\" begins anew: %s",
							 pl->name, edata->message)));

	nap((int) pg_prng_uint64_range(&pg_global_prng_state, 1, longest));
	return true;
}
