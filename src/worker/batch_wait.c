/*-------------------------------------------------------------------------
 *
 * batch_wait.c
 *		What a batch does while somebody else holds what it needs.
 *
 * A relation that is locked, or a progress row that a transaction still open has
 * changed (pause(), resume(), DDL), may stay so for long.  The batch gives up what it
 * has, so that it is in nobody's way and half of no deadlock, and waits for that one
 * alone, without a time limit.  Meanwhile its status says for what.
 *
 * Each try of the lock ends after some seconds, so no transaction of ours gets old.
 * That is for a worker: a session that steps waits as any statement does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "fdw/stream.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/snapmgr.h"
#include "worker/batch_internal.h"
#include "worker/process.h"

#define FENCE_LOCK_MS	100		/* below every sensible deadlock_timeout */
#define ALONE_LOCK_MS	5000	/* with nothing of ours held */

typedef void (*LockFunc) (const SxPipeline *pl, Oid relid);

static void
say_in_status(const char *text)
{
	if (sx_my_slot != NULL)
		sx_status_text(text);
}

/* In a transaction of its own: true when the lock was to be had, for a moment. */
static bool
try_lock(const SxPipeline *pl, LockFunc lock, Oid relid)
{
	MemoryContext caller = CurrentMemoryContext;
	int			lock_timeout = LockTimeout;
	SxBatchTx	tx;
	volatile bool got = true;

	sx_tx_begin(&tx, pl, true);
	PG_TRY();
	{
		LockTimeout = ALONE_LOCK_MS;
		lock(pl, relid);
		LockTimeout = lock_timeout;
	}
	PG_CATCH();
	{
		int			code = geterrcode();

		LockTimeout = lock_timeout;
		if (code != ERRCODE_LOCK_NOT_AVAILABLE &&
			code != ERRCODE_T_R_DEADLOCK_DETECTED)
			PG_RE_THROW();
		MemoryContextSwitchTo(caller);
		FlushErrorState();
		got = false;
	}
	PG_END_TRY();
	sx_tx_abort(&tx);
	MemoryContextSwitchTo(caller);
	return got;
}

static void
wait_for(const SxPipeline *pl, LockFunc lock, Oid relid, const char *status)
{
	say_in_status(status);
	while (!try_lock(pl, lock, relid))
		CHECK_FOR_INTERRUPTS();
	say_in_status("");
}

static void
lock_relation(const SxPipeline *pl, Oid relid)
{
	LockRelationOid(relid, RowExclusiveLock);
}

static void
lock_progress(const SxPipeline *pl, Oid relid)
{
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(pl->id), Int32GetDatum(pl->slot)};

	sx_catalog_exec("SELECT FROM streamext.progress WHERE pipeline = $1 AND slot = $2 "
					"FOR NO KEY UPDATE",
					2, types, values, NULL);
}

/* The name of the relation, or its OID when it is gone. */
static char *
relation_label(const SxPipeline *pl, Oid relid)
{
	SxBatchTx	tx;
	char		label[NAMEDATALEN * 2 + 8];

	sx_tx_begin(&tx, pl, true);
	strlcpy(label, sx_relation_label(relid), sizeof(label));
	sx_tx_abort(&tx);
	return pstrdup(label);
}

/*
 * An error ends a batch of step() here already: a subtransaction that is left open would
 * outlive the statement, and the session with it be in an aborted transaction block.
 */
static Oid
lock_steps(SxBatchTx *tx, const SxPipeline *pl, bool own)
{
	volatile Oid busy = InvalidOid;

	PG_TRY();
	{
		busy = sx_steps_lock(pl, !own);
	}
	PG_CATCH();
	{
		if (!own)
			sx_tx_abort(tx);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return busy;
}

/* Opens the batch's transaction with all its locks. */
void
sx_begin_locked(SxBatchTx *tx, const SxPipeline *pl, bool own)
{
	for (;;)
	{
		Oid			busy;

		sx_tx_begin(tx, pl, own);
		busy = lock_steps(tx, pl, own);
		if (!OidIsValid(busy))
			return;
		sx_tx_abort(tx);
		wait_for(pl, lock_relation, busy,
				 psprintf("waits for a lock on %s", relation_label(pl, busy)));
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * The fence (sx_save_begin).  The batch has its relations locked by now, and whoever
 * holds the progress row may want one of them next: so it does not wait for long.
 */
bool
sx_pass_fence(SxPipeline *pl, bool positions_only, bool own)
{
	int			lock_timeout = LockTimeout;
	bool		mine;

	if (!own)
		return sx_save_begin(pl, positions_only);
	PG_TRY();
	{
		LockTimeout = FENCE_LOCK_MS;
		mine = sx_save_begin(pl, positions_only);
	}
	PG_FINALLY();
	{
		LockTimeout = lock_timeout;
	}
	PG_END_TRY();
	return mine;
}

/*
 * After an attempt that failed with this error, and its abort.  True: it was the fence
 * that somebody held, who has let go by now.
 */
bool
sx_fence_waited(const SxPipeline *pl, int sqlerrcode)
{
	if (sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
		sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED)
		return false;
	wait_for(pl, lock_progress, InvalidOid,
			 "waits for a transaction that has paused or changed the pipeline and is still open");
	return true;
}
