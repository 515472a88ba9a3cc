/*-------------------------------------------------------------------------
 *
 * batch_lock.c
 *		The locks of a batch on the relations of its steps.
 *
 * They are taken before the first statement, all of them or none: what a batch reads
 * and writes, and what its prepared statements read.  A relation that somebody else
 * holds is told to batch_wait.c, which waits for it with nothing of ours held.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "fdw/track.h"
#include "storage/lmgr.h"
#include "utils/plancache.h"
#include "utils/syscache.h"
#include "worker/batch_internal.h"

static bool
lock_relation(Oid relid, LOCKMODE mode, bool wait, Oid *busy)
{
	if (!OidIsValid(relid))
		return true;
	if (wait)
		LockRelationOid(relid, mode);
	else if (!ConditionalLockRelationOid(relid, mode))
	{
		*busy = relid;
		return false;
	}
	return true;
}

/* Locks what a prepared statement reads. */
static bool
lock_plan(SPIPlanPtr plan, bool wait, Oid *busy)
{
	ListCell   *lc;

	if (plan == NULL)
		return true;
	foreach(lc, SPI_plan_get_plan_sources(plan))
	{
		ListCell   *oid;

		foreach(oid, ((CachedPlanSource *) lfirst(lc))->relationOids)
		{
			if (!lock_relation(lfirst_oid(oid), AccessShareLock, wait, busy))
				return false;
		}
	}
	return true;
}

/*
 * A crash empties an unlogged table and leaves the position behind what was in it.  The
 * target of a sink was refused as such at its creation; it may have become one.
 */
static void
require_logged(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool		logged;

	if (!HeapTupleIsValid(tuple))
		return;
	logged = ((Form_pg_class) GETSTRUCT(tuple))->relpersistence == RELPERSISTENCE_PERMANENT;
	ReleaseSysCache(tuple);
	if (!logged)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table %s has become unlogged", sx_relation_label(relid)),
				 errhint("Rows would be lost after a crash that keeps the position: ALTER TABLE … SET LOGGED, then streamext.resume().")));
}

/*
 * DDL locks its relations first, and then the progress row, when the event trigger
 * tells the pipeline of the change.  A batch that locked them the other way round, or
 * waited for one relation while it holds another, would be one half of a deadlock.
 * A relation that is gone by now does no harm: the epoch has changed with it.
 */
Oid
sx_steps_lock(const SxPipeline *pl, bool wait)
{
	Oid			busy = InvalidOid;

	for (int i = 0; i < pl->ninputs; i++)
	{
		if (!lock_relation(pl->inputs[i].source->stream->relid, AccessShareLock,
						   wait, &busy))
			return busy;
	}
	for (int i = 0; i < pl->nsteps; i++)
	{
		const SxStep *step = &pl->steps[i];

		if (!lock_relation(step->relid, AccessShareLock, wait, &busy) ||
			!lock_relation(step->plan->query, AccessShareLock, wait, &busy) ||
			!lock_relation(step->plan->state, RowExclusiveLock, wait, &busy) ||
			!lock_plan(step->apply, wait, &busy))
			return busy;
		sx_blamed_step = step->relid;
		require_logged(step->plan->state);
		sx_blamed_step = InvalidOid;
	}
	return InvalidOid;
}
