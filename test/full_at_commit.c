/*-------------------------------------------------------------------------
 *
 * full_at_commit.c
 *		A commit that fails as it does when the queue of NOTIFY is full.
 *
 * For t/097_notify_full.pl.  That queue holds 8 GB before PostgreSQL 17, so nobody fills
 * it; this raises the error of PreCommit_Notify at the same place, while a file exists.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "fmgr.h"
#include "utils/builtins.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(full_at_commit);

static bool armed = false;

static void
at_xact(XactEvent event, void *arg)
{
	bool		was_armed = armed;

	armed = false;
	if (event == XACT_EVENT_PRE_COMMIT && was_armed)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many notifications in the NOTIFY queue")));
}

/* Passes the number on; the transaction cannot commit if there is such a file. */
Datum
full_at_commit(PG_FUNCTION_ARGS)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(at_xact, NULL);
	registered = true;
	armed |= access(text_to_cstring(PG_GETARG_TEXT_PP(0)), F_OK) == 0;
	PG_RETURN_INT32(PG_GETARG_INT32(1));
}
