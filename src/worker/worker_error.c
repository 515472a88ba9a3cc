/*-------------------------------------------------------------------------
 *
 * worker_error.c
 *		What becomes of a pipeline when its worker ends with an error.
 *
 *		a step's own		it is detached, and the others go on without it (lane_detach.c)
 *		worth another try	the row gets the error; the scheduler starts the next worker, later
 *		anything else		the pipeline is stopped until somebody mends it
 *
 * The transaction in which it happened is over; what is written here has one of its own.
 * The same error again is not logged again, and what a record holds is not for the log.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "streamext.h"
#include "worker/errors_class.h"
#include "worker/lane.h"
#include "worker/process.h"
#include "worker/worker_error.h"

/* Of a lock that was not to be had the context says on what. */
static const char *
failure_message(const ErrorData *edata)
{
	if ((edata->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
		 edata->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED) || edata->context == NULL)
		return edata->message;
	return psprintf("%s %.*s", edata->message,
					(int) strcspn(edata->context, "\n"), edata->context);
}

/* The same failure as the one that the row tells of is not logged again. */
static bool
is_news(const SxWorkerLife *life, const ErrorData *edata)
{
	return life->row == NULL || life->proven ||
		life->row->error_message == NULL || life->row->error_sqlstate == NULL ||
		strcmp(life->row->error_sqlstate, unpack_sql_state(edata->sqlerrcode)) != 0 ||
		strcmp(life->row->error_message, failure_message(edata)) != 0;
}

/*
 * The statements of a worker have the names that tables, columns and functions had when it
 * opened the pipeline.  What it cannot find any more may be there under another name: the
 * next worker, which reads the catalogs anew, finds it or stops.
 */
static bool
may_be_renamed(const SxWorkerLife *life, int sqlerrcode)
{
	return life->proven && ERRCODE_TO_CATEGORY(sqlerrcode) ==
		ERRCODE_TO_CATEGORY(ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION);
}

/* By its class, unless a source says that its polls always are. */
static bool
is_worth_another_try(const SxWorkerLife *life, int sqlerrcode)
{
	if (may_be_renamed(life, sqlerrcode))
		return true;
	if (life->pl != NULL && life->pl->polled != NULL && life->pl->polled->retry_poll)
		return true;
	return sx_error_class(sqlerrcode) == SX_ERR_RETRY;
}

/*
 * What is said of a record may hold its data, which is not for the log: the pipeline's row
 * has it for its owner.
 */
static void
log_error(const SxWorkerLife *life, ErrorData *edata)
{
	if (sx_error_class(edata->sqlerrcode) != SX_ERR_RECORD &&
		edata->sqlerrcode != SX_ERRCODE_TOO_MANY_ERRORS)
	{
		sx_process_log_error(edata);
		return;
	}
	PG_TRY();
	{
		ereport(ERROR,
				(errcode(edata->sqlerrcode),
				 errmsg("records failed in pipeline \"%s\" with SQLSTATE %s",
						life->row != NULL ? life->row->name : "", unpack_sql_state(edata->sqlerrcode)),
				 errhint("SELECT error_message FROM streamext.pipelines tells more.")));
	}
	PG_CATCH();
	{
		EmitErrorReport();
		FlushErrorState();
	}
	PG_END_TRY();
}

/* A step that fails for itself goes its own way, and the others go on without it. */
static bool
detach_failed(const SxWorkerLife *life, ErrorData *edata)
{
	if (life->held_epoch < 0 || !OidIsValid(sx_blamed_step) ||
		is_worth_another_try(life, edata->sqlerrcode) ||
		!sx_lane_detach_failed(life->pipeline_id, life->slot, life->held_epoch, sx_blamed_step,
							   edata->sqlerrcode, edata->message))
		return false;
	if (is_news(life, edata))
		log_error(life, edata);
	ereport(LOG,
			(errmsg("pipeline \"%s\" goes on without what has failed", life->row->name),
			 errhint("Mend it; streamext.resume() lets it catch up and join again.")));
	if (!life->proven && sx_worker_begin())
	{
		sx_row_not_started(life->pipeline_id, life->slot);
		sx_transaction_end();
	}
	return true;
}

static void
record_failure(const SxWorkerLife *life, const ErrorData *edata)
{
	if (is_worth_another_try(life, edata->sqlerrcode))
		sx_row_failed(life->pipeline_id, life->slot, !life->proven, edata->sqlerrcode,
					  failure_message(edata));
	else
		sx_row_stopped(life->pipeline_id, edata->sqlerrcode, edata->message);
}

/*
 * Called in the error's handler.  An error when the extension has just been dropped
 * is of no interest.  An error in here ends the process with status 1.
 */
void
sx_worker_fail(const SxWorkerLife *life)
{
	ErrorData  *edata;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(TopMemoryContext);
	edata = CopyErrorData();
	AbortOutOfAnyTransaction();
	FlushErrorState();
	RESUME_INTERRUPTS();

	QueryCancelPending = false;
	if (detach_failed(life, edata) || !sx_worker_begin())
		return;
	if (is_news(life, edata))
		log_error(life, edata);
	record_failure(life, edata);
	sx_transaction_end();
}
