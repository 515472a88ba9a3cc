/*-------------------------------------------------------------------------
 *
 * step_timeout.c
 *		How long a step may take: option step_timeout.
 *
 * A timer of our own cancels what runs, as statement_timeout would, which core arms for
 * statements of clients only; in step() that one stays the caller's.  The error is then
 * given a message of its own, by which it is told from a cancel by a user.
 *
 * The first time-out of a batch is followed by another attempt, as the server may have
 * been busy.  After the second, records are tried alone: one that takes that long by
 * itself is to blame, whatever it is that takes the time.  Waiting for a lock is not:
 * in a worker lock_timeout is shorter.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timeout.h"
#include "worker/batch_internal.h"
#include "worker/errors_class.h"

static TimeoutId timer = MAX_TIMEOUTS;	/* none is registered yet */
static volatile sig_atomic_t fired = false;

static void
handle_timeout(void)
{
	fired = true;
	InterruptPending = true;
	QueryCancelPending = true;
}

void
sx_step_arm(SxPipeline *pl)
{
	if (pl->step_timeout <= 0)
		return;
	if (timer == MAX_TIMEOUTS)
		timer = RegisterTimeout(USER_TIMEOUT, handle_timeout);
	fired = false;
	enable_timeout_after(timer, pl->step_timeout);
}

/* The step is through, or has failed; fired keeps what it was until the next one. */
void
sx_step_disarm(void)
{
	if (timer == MAX_TIMEOUTS)
		return;
	disable_timeout(timer, false);
	if (fired)
		QueryCancelPending = false;
}

/* Was it our timer?  Then the error gets a message that says so. */
bool
sx_step_timed_out(const SxPipeline *pl, int step, ErrorData *edata)
{
	if (edata->sqlerrcode != ERRCODE_QUERY_CANCELED || !fired)
		return false;
	edata->message = psprintf("%s took longer than step_timeout, %g seconds",
							  step >= 0 ? pl->steps[step].plan->name : "a step",
							  pl->step_timeout / 1000.0);
	edata->hint = pstrdup("Records that take so long alone are set aside. If none does, raise step_timeout or lower max_batch_rows.");
	return true;
}

bool
sx_is_records_fault(const SxPipeline *pl, int step, ErrorData *edata)
{
	return sx_error_class(edata->sqlerrcode) == SX_ERR_RECORD ||
		sx_step_timed_out(pl, step, edata);
}
