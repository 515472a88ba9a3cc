/*-------------------------------------------------------------------------
 *
 * pipeline_try.c
 *		Opens a pipeline without standing in the way of DDL.
 *
 * To open a pipeline many relations are opened in one transaction, in the order in which
 * queries name them, and DDL (DROP … CASCADE above all) locks them in another.  A worker
 * that waited for one of them while it holds others could be half of a deadlock, and the
 * one who finds it is whoever waited last, which may be the user.
 *
 * So it waits for PATIENCE only, gives up all its locks, and comes again.  Nobody who
 * waits for the worker waits long enough to look for a deadlock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "worker/batch.h"

#define PATIENCE	"100ms"

static void
set_patience(const char *value)
{
	SetConfigOption("lock_timeout", value, PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * In a transaction, which is over when the result is NULL: something is locked.  What is
 * opened lives in a context of its own in TopMemoryContext.
 */
SxPipeline *
sx_pipeline_try_open(int id, int slot)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "streamext pipeline opened",
												  ALLOCSET_SMALL_SIZES);
	char	   *before = MemoryContextStrdup(TopMemoryContext,
											 GetConfigOption("lock_timeout", false, false));
	SxPipeline *volatile pl = NULL;

	set_patience(PATIENCE);
	PG_TRY();
	{
		pl = sx_pipeline_open(id, slot, context, false);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE &&
			geterrcode() != ERRCODE_T_R_DEADLOCK_DETECTED)
			PG_RE_THROW();
		HOLD_INTERRUPTS();
		AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(TopMemoryContext);
		FlushErrorState();
		MemoryContextDelete(context);
		QueryCancelPending = false;
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	set_patience(before);
	pfree(before);
	return pl;
}
