/*-------------------------------------------------------------------------
 *
 * shmem.c
 *		Shared memory: processes, and databases in which they may run.
 *
 * Everything here is small, of fixed size and protected by one LWLock, which is
 * held for a walk over the slots and never across anything that can wait.  It is
 * always the last lock taken.  Nothing in it has to survive: after a crash the
 * postmaster makes it anew, empty, and the launcher finds out again.
 *
 * A PGPROC pointer in a slot is valid while the lock is held, because a process
 * clears it under the lock in before_shmem_exit, when its PGPROC is still its own.
 * So latches are set, and signals sent, under the lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "streamext.h"
#include "utils/timestamp.h"

#include "worker/shmem.h"

#define TRANCHE "streamext"

SxShared   *sx_shared = NULL;
SxSlot	   *sx_my_slot = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/*
 * One scheduler a database: there cannot be more of them than background workers.
 * One more slot is for the scout.
 */
static int
slots_needed(void)
{
	return sx_max_workers + max_worker_processes + 1;
}

static Size
marks_offset(void)
{
	return MAXALIGN(add_size(offsetof(SxShared, slots),
							 mul_size(slots_needed(), sizeof(SxSlot))));
}

static Size
shared_size(void)
{
	return add_size(marks_offset(),
					mul_size(max_worker_processes, sizeof(SxMark)));
}

static void
request_shared_memory(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche(TRANCHE, 1);
}

static void
make_shared_memory(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	sx_shared = ShmemInitStruct("streamext", shared_size(), &found);
	if (!found)
	{
		memset(sx_shared, 0, shared_size());
		sx_shared->lock = &GetNamedLWLockTranche(TRANCHE)->lock;
		sx_shared->nslots = slots_needed();
		sx_shared->nmarks = max_worker_processes;
		sx_shared->marks = (SxMark *) ((char *) sx_shared + marks_offset());
	}
	LWLockRelease(AddinShmemInitLock);
}

void
sx_shmem_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = make_shared_memory;
}

/* ----------------------------------------------------------------------
 * Slots.  Static functions here expect the lock to be held.
 * ----------------------------------------------------------------------
 */
static bool
slot_matches(const SxSlot *slot, SxProcessKind kind, Oid database, int pipeline)
{
	return slot->kind != SX_PROCESS_NONE &&
		(kind == SX_PROCESS_NONE || slot->kind == kind) &&
		(!OidIsValid(database) || slot->database == database) &&
		(pipeline == 0 || slot->pipeline == pipeline);
}

static void
slot_free(SxSlot *slot)
{
	slot->kind = SX_PROCESS_NONE;
	slot->proc = NULL;
	slot->generation++;
}

/* Frees slots whose process never came: its fork failed, or it died too early. */
static void
free_unattached(TimestampTz now)
{
	for (int i = 0; i < sx_shared->nslots; i++)
	{
		SxSlot	   *slot = &sx_shared->slots[i];

		if (slot->kind != SX_PROCESS_NONE && slot->proc == NULL &&
			TimestampDifferenceExceeds(slot->reserved_at, now,
									   SX_ATTACH_TIMEOUT_MS))
			slot_free(slot);
	}
}

static SxSlot *
find_slot(SxProcessKind kind, Oid database, int pipeline, int worker)
{
	for (int i = 0; i < sx_shared->nslots; i++)
	{
		if (slot_matches(&sx_shared->slots[i], kind, database, pipeline) &&
			sx_shared->slots[i].worker == worker)
			return &sx_shared->slots[i];
	}
	return NULL;
}

static int
count_slots(SxProcessKind kind, Oid database)
{
	int			n = 0;

	for (int i = 0; i < sx_shared->nslots; i++)
	{
		if (slot_matches(&sx_shared->slots[i], kind, database, 0))
			n++;
	}
	return n;
}

static SxSlot *
find_free_slot(void)
{
	for (int i = 0; i < sx_shared->nslots; i++)
	{
		if (sx_shared->slots[i].kind == SX_PROCESS_NONE)
			return &sx_shared->slots[i];
	}
	return NULL;
}

SxReserve
sx_slot_reserve(SxProcessKind kind, Oid database, int pipeline, int worker,
				int *slot, uint32 *generation)
{
	TimestampTz now = GetCurrentTimestamp();
	SxReserve	result = SX_RESERVED;
	SxSlot	   *free_slot;

	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	free_unattached(now);
	free_slot = find_free_slot();
	if (find_slot(kind, database, pipeline, worker) != NULL)
		result = SX_RESERVE_BUSY;
	else if (free_slot == NULL ||
			 (kind == SX_PROCESS_WORKER &&
			  count_slots(SX_PROCESS_WORKER, InvalidOid) >= sx_max_workers))
		result = SX_RESERVE_FULL;
	else
	{
		free_slot->kind = kind;
		free_slot->database = database;
		free_slot->pipeline = pipeline;
		free_slot->worker = worker;
		free_slot->reserved_at = now;
		free_slot->look = free_slot->send = false;
		memset(&free_slot->status, 0, sizeof(SxWorkerStatus));
		free_slot->ends_wanted = free_slot->ends_reached = 0;
		*slot = (int) (free_slot - sx_shared->slots);
		*generation = ++free_slot->generation;
	}
	LWLockRelease(sx_shared->lock);
	return result;
}

/* The process that the slot was reserved for could not be started. */
void
sx_slot_release(int slot, uint32 generation)
{
	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	if (sx_shared->slots[slot].generation == generation)
		slot_free(&sx_shared->slots[slot]);
	LWLockRelease(sx_shared->lock);
}

/* before_shmem_exit: tells who has to start a successor. */
static void
slot_detach(int code, Datum arg)
{
	SxProcessKind kind = sx_my_slot->kind;
	Oid			database = sx_my_slot->database;

	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	slot_free(sx_my_slot);
	LWLockRelease(sx_shared->lock);

	if (kind == SX_PROCESS_WORKER || kind == SX_PROCESS_RECEIVER)
		sx_slots_wake(SX_PROCESS_SCHEDULER, database, 0, true);
	else
		sx_launcher_wake(false);
}

/* False: too late, or nothing may run there now; the process has to go. */
bool
sx_slot_attach(int slot, uint32 generation)
{
	SxSlot	   *mine = &sx_shared->slots[slot];
	bool		valid;

	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	valid = mine->generation == generation;
	if (valid)
	{
		mine->proc = MyProc;
		mine->status.pid = MyProcPid;
		mine->status.started = GetCurrentTimestamp();
	}
	LWLockRelease(sx_shared->lock);
	if (!valid)
		return false;

	sx_my_slot = mine;
	before_shmem_exit(slot_detach, (Datum) 0);
	return !sx_must_stop();
}

bool
sx_slot_exists(SxProcessKind kind, Oid database, int pipeline, int worker)
{
	bool		found;

	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	free_unattached(GetCurrentTimestamp());
	found = find_slot(kind, database, pipeline, worker) != NULL;
	LWLockRelease(sx_shared->lock);
	return found;
}

void
sx_slots_wake(SxProcessKind kind, Oid database, int pipeline, bool look)
{
	LWLockAcquire(sx_shared->lock, look ? LW_EXCLUSIVE : LW_SHARED);
	for (int i = 0; i < sx_shared->nslots; i++)
	{
		SxSlot	   *slot = &sx_shared->slots[i];

		if (!slot_matches(slot, kind, database, pipeline))
			continue;
		if (look)
			slot->look = true;
		if (slot->proc)
			SetLatch(&slot->proc->procLatch);
	}
	LWLockRelease(sx_shared->lock);
}

/* The scheduler of a database shall look into the outbox. */
void
sx_sender_wake(Oid database)
{
	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < sx_shared->nslots; i++)
	{
		SxSlot	   *slot = &sx_shared->slots[i];

		if (!slot_matches(slot, SX_PROCESS_SCHEDULER, database, 0))
			continue;
		slot->send = true;
		if (slot->proc)
			SetLatch(&slot->proc->procLatch);
	}
	LWLockRelease(sx_shared->lock);
}

void
sx_launcher_wake(bool hurry)
{
	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	if (hurry)
		sx_shared->hurry = true;
	if (sx_shared->launcher)
		SetLatch(&sx_shared->launcher->procLatch);
	LWLockRelease(sx_shared->lock);
}

int
sx_slots_count(Oid database)
{
	int			n;

	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	free_unattached(GetCurrentTimestamp());
	n = count_slots(SX_PROCESS_NONE, database);
	LWLockRelease(sx_shared->lock);
	return n;
}

void
sx_slots_terminate(Oid database)
{
	LWLockAcquire(sx_shared->lock, LW_SHARED);
	for (int i = 0; i < sx_shared->nslots; i++)
	{
		SxSlot	   *slot = &sx_shared->slots[i];

		if (slot_matches(slot, SX_PROCESS_NONE, database, 0) && slot->proc)
			kill(slot->proc->pid, SIGTERM);
	}
	LWLockRelease(sx_shared->lock);
}

/* ----------------------------------------------------------------------
 * Marks
 * ----------------------------------------------------------------------
 */
static SxMark *
find_mark(Oid database)
{
	for (int i = 0; i < sx_shared->nmarks; i++)
	{
		if (sx_shared->marks[i].database == database)
			return &sx_shared->marks[i];
	}
	return NULL;
}

/* False: no room.  The lock is held. */
static bool
mark_database(Oid database)
{
	SxMark	   *mark = find_mark(database);

	if (mark == NULL)
	{
		mark = find_mark(InvalidOid);
		if (mark == NULL)
			return false;
		mark->database = database;
		mark->held_until = 0;
	}
	mark->number = ++sx_shared->marks_made;
	return true;
}

bool
sx_mark_add(Oid database)
{
	bool		added;

	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	added = mark_database(database);
	LWLockRelease(sx_shared->lock);
	return added;
}

void
sx_mark_remove(Oid database)
{
	SxMark	   *mark;

	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	mark = find_mark(database);
	if (mark)
		mark->database = InvalidOid;
	LWLockRelease(sx_shared->lock);
}

bool
sx_mark_exists(Oid database)
{
	bool		found;

	LWLockAcquire(sx_shared->lock, LW_SHARED);
	found = find_mark(database) != NULL;
	LWLockRelease(sx_shared->lock);
	return found;
}

bool
sx_marks_any(void)
{
	bool		any = false;

	LWLockAcquire(sx_shared->lock, LW_SHARED);
	for (int i = 0; i < sx_shared->nmarks && !any; i++)
		any = OidIsValid(sx_shared->marks[i].database);
	LWLockRelease(sx_shared->lock);
	return any;
}

bool
sx_mark_held(Oid database)
{
	const SxMark *mark;
	bool		held;

	LWLockAcquire(sx_shared->lock, LW_SHARED);
	mark = find_mark(database);
	held = mark != NULL && mark->held_until > GetCurrentTimestamp();
	LWLockRelease(sx_shared->lock);
	return held;
}

/* Nothing of ours runs in the database for so long; 0 ends that. */
void
sx_mark_hold(Oid database, int ms)
{
	SxMark	   *mark;

	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	mark = find_mark(database);
	if (mark)
		mark->held_until = ms == 0 ? 0 :
			TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
	LWLockRelease(sx_shared->lock);
}

/*
 * These databases are marked, says a scout that began when marks_before marks
 * had been made: marks made since were committed later than what it saw.
 */
void
sx_marks_replace(const Oid *databases, int n, uint64 marks_before)
{
	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < sx_shared->nmarks; i++)
	{
		SxMark	   *mark = &sx_shared->marks[i];
		bool		found = mark->number > marks_before;

		for (int j = 0; j < n && !found; j++)
			found = databases[j] == mark->database;
		if (!found)
			mark->database = InvalidOid;
	}
	for (int j = 0; j < n; j++)
		(void) mark_database(databases[j]);
	LWLockRelease(sx_shared->lock);
}

/* ----------------------------------------------------------------------
 * What a process asks in its loop
 * ----------------------------------------------------------------------
 */

/* Turned off, no longer marked, or the database is wanted by somebody else. */
bool
sx_must_stop(void)
{
	bool		stop = true;
	SxMark	   *mark;

	LWLockAcquire(sx_shared->lock, LW_SHARED);
	if (sx_shared->enabled && sx_my_slot->kind == SX_PROCESS_SCOUT)
		stop = false;
	else if (sx_shared->enabled && sx_shared->home == SX_HOME_OURS)
	{
		mark = find_mark(sx_my_slot->database);
		stop = mark == NULL || mark->held_until > GetCurrentTimestamp();
	}
	LWLockRelease(sx_shared->lock);
	return stop;
}

/* Was this process told to read the catalog again?  Once for each telling. */
bool
sx_must_look(void)
{
	bool		look;

	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	look = sx_my_slot->look;
	sx_my_slot->look = false;
	LWLockRelease(sx_shared->lock);
	return look;
}

/* Likewise, to look into the outbox. */
bool
sx_must_send(void)
{
	bool		send;

	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	send = sx_my_slot->send;
	sx_my_slot->send = false;
	LWLockRelease(sx_shared->lock);
	return send;
}
