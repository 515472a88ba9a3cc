/*-------------------------------------------------------------------------
 *
 * batch_tx.c
 *		The transaction that a batch is.
 *
 * In a worker it is a top-level transaction.  In step() it is a subtransaction of the
 * caller's, run as the owner of the pipeline under security restrictions, so that
 * stepping somebody's pipeline gives them nothing of the caller's rights.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "worker/batch_internal.h"

/*
 * A deferred constraint would speak at the commit, when nobody knows any more which step
 * and record it is about.
 */
static void
make_constraints_immediate(void)
{
	ConstraintsSetStmt *set = makeNode(ConstraintsSetStmt);

	set->constraints = NIL;		/* all */
	set->deferred = false;
	AfterTriggerSetState(set);
}

void
sx_tx_begin(SxBatchTx *tx, const SxPipeline *pl, bool own)
{
	tx->own = own;
	tx->caller = CurrentMemoryContext;
	if (own)
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		make_constraints_immediate();
		return;
	}
	tx->owner = CurrentResourceOwner;
	GetUserIdAndSecContext(&tx->userid, &tx->sec_context);
	BeginInternalSubTransaction("streamext_batch");
	SetUserIdAndSecContext(pl->owner, tx->sec_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
}

void
sx_tx_commit(SxBatchTx *tx)
{
	if (tx->own)
		CommitTransactionCommand();
	else
	{
		SetUserIdAndSecContext(tx->userid, tx->sec_context);
		ReleaseCurrentSubTransaction();
		CurrentResourceOwner = tx->owner;
	}
	MemoryContextSwitchTo(tx->caller);
}

void
sx_tx_abort(SxBatchTx *tx)
{
	if (tx->own)
		AbortOutOfAnyTransaction();
	else
	{
		RollbackAndReleaseCurrentSubTransaction();
		CurrentResourceOwner = tx->owner;
	}
	MemoryContextSwitchTo(tx->caller);
}

static const char *
keep_string(const char *str)
{
	return str == NULL ? NULL : MemoryContextStrdup(ErrorContext, str);
}

/*
 * Throws an error that was copied within the batch.  ReThrowError() takes some of its
 * strings for constants and does not copy them, but CopyErrorData() has: they would go
 * with the batch's memory before the error is reported.
 */
void
sx_tx_rethrow(ErrorData *edata)
{
	edata->filename = keep_string(edata->filename);
	edata->funcname = keep_string(edata->funcname);
	edata->domain = keep_string(edata->domain);
	edata->context_domain = keep_string(edata->context_domain);
	edata->message_id = keep_string(edata->message_id);
	ReThrowError(edata);
}
