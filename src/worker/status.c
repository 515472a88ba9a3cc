/*-------------------------------------------------------------------------
 *
 * status.c
 *		What a worker publishes about itself, in its slot.
 *
 * The rate is an average in which a row counts less the older it is: e times less
 * after AVERAGE_SECONDS.  It is brought up to date when rows come, and again by
 * who reads it, so that it falls to nothing while the worker sleeps.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/xlog.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "worker/process.h"

#define AVERAGE_SECONDS 5.0

static double
aged_rate(const SxSlot *slot, TimestampTz now)
{
	double		seconds = (double) (now - slot->rate_at) / USECS_PER_SEC;

	return slot->status.rows_per_second * exp(-Max(seconds, 0) / AVERAGE_SECONDS);
}

/* A batch of so many rows has been committed. */
void
sx_status_rows(int64 rows)
{
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	sx_my_slot->status.rows_per_second =
		aged_rate(sx_my_slot, now) + rows / AVERAGE_SECONDS;
	sx_my_slot->rate_at = now;
	sx_my_slot->status.batches++;
	LWLockRelease(sx_shared->lock);
}

/* What is wrong now, "" when nothing is. */
void
sx_status_text(const char *text)
{
	char	   *published = sx_my_slot->status.status;
	int			len = pg_mbcliplen(text, strlen(text),
								   sizeof(sx_my_slot->status.status) - 1);

	/* Only this process writes it, so it may read it without the lock. */
	if (strlen(published) == len && strncmp(published, text, len) == 0)
		return;
	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	memcpy(published, text, len);
	published[len] = '\0';
	LWLockRelease(sx_shared->lock);
}

/* Back-pressure; 0 and NULL where there is none. */
void
sx_status_rate(double limit, double target_ms, const char *reason)
{
	SxWorkerStatus *mine = &sx_my_slot->status;

	if (reason == NULL)
		reason = "";
	if (mine->rate_limit == limit && mine->target_ms == target_ms &&
		strcmp(mine->rate_reason, reason) == 0)
		return;
	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	mine->rate_limit = limit;
	mine->target_ms = target_ms;
	strlcpy(mine->rate_reason, reason, sizeof(mine->rate_reason));
	LWLockRelease(sx_shared->lock);
}

/* ----------------------------------------------------------------------
 * Asked by sessions of the same database
 * ----------------------------------------------------------------------
 */
static bool
lacks_scheduler(void)
{
	bool		lacks;

	LWLockAcquire(sx_shared->lock, LW_SHARED);
	lacks = sx_shared->lacks_process;
	LWLockRelease(sx_shared->lock);
	return lacks && !sx_slot_exists(SX_PROCESS_SCHEDULER, MyDatabaseId, 0, 0);
}

static bool
turned_off(void)
{
	bool		off;

	LWLockAcquire(sx_shared->lock, LW_SHARED);
	off = !sx_shared->enabled;
	LWLockRelease(sx_shared->lock);
	return off;
}

const char *
sx_why_nothing_runs(void)
{
	if (RecoveryInProgress())
		return "this server is a standby: pipelines run on the primary";
	if (sx_shared == NULL)
		return "streamext is not loaded: add it to shared_preload_libraries and restart the server";
	if (sx_home() == SX_HOME_COPY)
		return "this data directory is a copy, or was moved: streamext.adopt() lets pipelines run here";
	if (sx_home() == SX_HOME_UNKNOWN)
		return "the launcher of streamext has not started yet";
	if (turned_off())
		return "streamext.enabled is off";
	if (!sx_mark_exists(MyDatabaseId))
		return "streamext.enabled is not set for this database: run ALTER DATABASE … SET streamext.enabled = on, and reload";
	if (sx_mark_held(MyDatabaseId))
		return "waits for a command that needs the database for itself";
	if (lacks_scheduler())
		return "no background worker is free: increase max_worker_processes";
	return NULL;
}

/* The slot of a process of this database, NULL when none runs.  The lock is held. */
static SxSlot *
find_process(SxProcessKind kind, int pipeline, int worker)
{
	for (int i = 0; i < sx_shared->nslots; i++)
	{
		SxSlot	   *slot = &sx_shared->slots[i];

		if (slot->kind == kind && slot->proc != NULL &&
			slot->database == MyDatabaseId && slot->pipeline == pipeline &&
			slot->worker == worker)
			return slot;
	}
	return NULL;
}

static SxSlot *
find_worker(int pipeline, int worker)
{
	return find_process(SX_PROCESS_WORKER, pipeline, worker);
}

bool
sx_receiver_status(Oid stream, char *status)
{
	const SxSlot *slot;

	if (sx_shared == NULL)
		return false;

	LWLockAcquire(sx_shared->lock, LW_SHARED);
	slot = find_process(SX_PROCESS_RECEIVER, (int) stream, 0);
	if (slot != NULL)
		strlcpy(status, slot->status.status, SX_STATUS_SIZE);
	LWLockRelease(sx_shared->lock);
	return slot != NULL;
}

bool
sx_worker_status(int pipeline, int worker, SxWorkerStatus *status)
{
	TimestampTz now = GetCurrentTimestamp();
	const SxSlot *slot;

	if (sx_shared == NULL)
		return false;

	LWLockAcquire(sx_shared->lock, LW_SHARED);
	slot = find_worker(pipeline, worker);
	if (slot != NULL)
	{
		*status = slot->status;
		status->rows_per_second = aged_rate(slot, now);
	}
	LWLockRelease(sx_shared->lock);
	return slot != NULL;
}

/* Asks when the worker is not the one that was asked before. */
bool
sx_worker_end_reached(int pipeline, int worker, SxEndRequest *request)
{
	SxSlot	   *slot;
	bool		reached = false;

	if (sx_shared == NULL)
		return false;

	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	slot = find_worker(pipeline, worker);
	if (slot != NULL && slot->status.pid != request->pid)
	{
		request->pid = slot->status.pid;
		request->number = ++slot->ends_wanted;
		SetLatch(&slot->proc->procLatch);
	}
	else if (slot != NULL)
		reached = slot->ends_reached >= request->number;
	LWLockRelease(sx_shared->lock);
	return reached;
}

/* ----------------------------------------------------------------------
 * The worker's side of that
 * ----------------------------------------------------------------------
 */
uint64
sx_status_end_wanted(void)
{
	uint64		number;

	LWLockAcquire(sx_shared->lock, LW_SHARED);
	number = sx_my_slot->ends_wanted > sx_my_slot->ends_reached ?
		sx_my_slot->ends_wanted : 0;
	LWLockRelease(sx_shared->lock);
	return number;
}

void
sx_status_end_reached(uint64 number)
{
	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	sx_my_slot->ends_reached = number;
	LWLockRelease(sx_shared->lock);
}

void
sx_status_tell_first(void)
{
	SxSlot	   *slot;

	LWLockAcquire(sx_shared->lock, LW_SHARED);
	slot = find_worker(sx_my_slot->pipeline, 0);
	if (slot != NULL)
		SetLatch(&slot->proc->procLatch);
	LWLockRelease(sx_shared->lock);
}
