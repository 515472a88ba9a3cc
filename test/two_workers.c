/*
 * two_workers.c: makes the scheduler start a second worker for a pipeline that has one.
 *
 * For test/t/305_two_workers.pl, which builds and loads it.  The slot of a worker is what
 * keeps a second one from being started.  hide_worker() lets the slot of a worker, which
 * does not notice, name a pipeline that does not exist, and wakes the scheduler.
 */
#include "postgres.h"

#include "fmgr.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "worker/shmem.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(hide_worker);

/* hide_worker(pid, size of streamext's shared memory): was it found? */
Datum
hide_worker(PG_FUNCTION_ARGS)
{
	int			pid = PG_GETARG_INT32(0);
	bool		found = false;
	SxShared   *shared;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("streamext", PG_GETARG_INT64(1), &found);
	LWLockRelease(AddinShmemInitLock);
	if (!found)
		elog(ERROR, "streamext is not preloaded");

	found = false;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->nslots; i++)
	{
		SxSlot	   *slot = &shared->slots[i];

		if (slot->kind == SX_PROCESS_WORKER && slot->status.pid == pid)
		{
			slot->pipeline = -1;
			found = true;
		}
		else if (slot->kind == SX_PROCESS_SCHEDULER && slot->proc != NULL)
		{
			slot->look = true;
			SetLatch(&slot->proc->procLatch);
		}
	}
	LWLockRelease(shared->lock);
	PG_RETURN_BOOL(found);
}
