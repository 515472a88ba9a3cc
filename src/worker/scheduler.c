/*-------------------------------------------------------------------------
 *
 * scheduler.c
 *		One per database: keeps a worker for every pipeline that should run, and a
 *		receiver for every stream that needs one (receiver_duty.c).
 *
 * It reads the catalog when it is woken, by a commit that changed it or by a
 * worker's exit, and every few seconds.  In between it holds no transaction, no
 * snapshot and no lock.  It decides from the catalog and from the slots alone, so
 * a new scheduler goes on where the one before was killed.
 *
 * Between that it sends the outboxes of sinks (sink/sender.c), in slices short enough
 * that no start of a worker is held up.  A worker's commit that wakes it for the outbox
 * is no reason to read the catalog of pipelines.
 *
 * A worker that finds that it is not wanted any more leaves by itself.  The
 * scheduler only reminds it.
 *
 * Both the catalog's tables and this process belong to superusers.  So that they
 * cannot be mistaken for somebody else's of the same name, which may come into
 * being when the extension is dropped, the extension is locked while the catalog
 * is read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/sx_catalog.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "sink/sink.h"
#include "worker/pipeline_row.h"
#include "worker/process.h"
#include "worker/receiver.h"

#define NAP_MS			5000
#define BUSY_NAP_MS		500
#define LACK_MS			12000

/*
 * What kept pipelines from being started in the last cycle; said once.  Whether there
 * is a process of max_worker_processes left is found out only by asking for one, which
 * costs two updates of the pipeline's row: not more often than every LACK_MS.
 */
static SxStarted lacking = SX_STARTED;
static TimestampTz ask_again_at = 0;

typedef enum ExtensionState
{
	EXTENSION_LOCKED,			/* it is there until we commit */
	EXTENSION_BUSY,				/* somebody is about to drop it */
	EXTENSION_OTHER,			/* its objects are not of this library's version */
	EXTENSION_GONE
} ExtensionState;

/* Once in the life of the process. */
static void
warn_of_version(const char *version)
{
	static bool warned = false;

	if (!warned)
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pipelines do not run: the library of streamext is version %s, its objects in database \"%s\" are version %s",
						SX_VERSION, get_database_name(MyDatabaseId), version),
				 errhint("Run ALTER EXTENSION streamext UPDATE there, or restart the server if the newer library has been installed since its start.")));
	warned = true;
}

/* In a transaction */
static ExtensionState
lock_extension(void)
{
	Oid			extension = get_extension_oid("streamext", true);
	char	   *version;
	LOCKTAG		tag;

	if (!OidIsValid(extension))
		return EXTENSION_GONE;
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, extension, 0);
	if (LockAcquire(&tag, AccessShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return EXTENSION_BUSY;
	AcceptInvalidationMessages();
	if (get_extension_oid("streamext", true) != extension)
		return EXTENSION_GONE;
	version = sx_other_version();
	if (version == NULL)
		return EXTENSION_LOCKED;
	warn_of_version(version);
	return EXTENSION_OTHER;
}

/* Until woken; leaves when told to.  A cancel has nothing to cancel here. */
static void
nap(long ms)
{
	(void) WaitLatch(MyLatch,
					 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 ms, SX_WAIT_EVENT("StreamextSchedulerMain"));
	ResetLatch(MyLatch);
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
	sx_process_reload();
	if (sx_must_stop())
		proc_exit(0);
}

/* Begins a transaction with the extension locked; leaves when that is gone. */
static void
begin(void)
{
	for (;;)
	{
		ExtensionState state;

		sx_transaction_begin();
		state = lock_extension();
		if (state == EXTENSION_LOCKED)
			return;
		sx_transaction_end();
		if (state == EXTENSION_GONE)
		{
			(void) sx_unmark_when_dropped();
			proc_exit(0);
		}
		nap(state == EXTENSION_BUSY ? BUSY_NAP_MS : NAP_MS);
	}
}

void
sx_scheduler_begin(void)
{
	begin();
}

static List *
read_duties(MemoryContext context, List **receivers)
{
	List	   *duties;

	begin();
	MemoryContextSwitchTo(context);
	duties = sx_duties();
	*receivers = sx_receiver_duties();
	sx_transaction_end();
	MemoryContextSwitchTo(context);
	return duties;
}

static bool
has_duty(List *duties, const SxSlot *slot)
{
	ListCell   *lc;

	foreach(lc, duties)
	{
		const SxDuty *duty = lfirst(lc);

		if (duty->id == slot->pipeline && duty->slot == slot->worker)
			return true;
	}
	return false;
}

/* Workers whose pipeline is not to run have missed something: remind them. */
static void
remind_workers(List *duties)
{
	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < sx_shared->nslots; i++)
	{
		SxSlot	   *slot = &sx_shared->slots[i];

		if (slot->kind != SX_PROCESS_WORKER || slot->proc == NULL ||
			slot->database != MyDatabaseId || has_duty(duties, slot))
			continue;
		slot->look = true;
		SetLatch(&slot->proc->procLatch);
	}
	LWLockRelease(sx_shared->lock);
}

/* Workers connect as the owner, and there is no such role. */
static void
stop_without_owner(const SxDuty *duty)
{
	char	   *reason = psprintf("the owner of the pipeline, role with OID %u, does not exist",
								  duty->owner);

	ereport(WARNING,
			(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			 errmsg("pipeline \"%s\" was stopped", duty->name),
			 errdetail_internal("%s.", reason),
			 errhint("Give the streams and views of the pipeline to another role, then run streamext.resume().")));
	begin();
	sx_row_stopped(duty->id, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, reason);
	sx_transaction_end();
}

/* The server would not let the owner in now.  It goes on by itself when that is mended. */
static void
wait_for_owner(const SxDuty *duty)
{
	bool		news;

	begin();
	news = sx_row_waiting(duty->id, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
						  duty->obstacle);
	sx_transaction_end();
	if (news)
		ereport(WARNING,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("pipeline \"%s\" cannot run now", duty->name),
				 errdetail_internal("%s", duty->obstacle)));
}

/* No slot is free: says so once in the log, and in the pipeline's row. */
static void
report_lack(const SxDuty *duty, SxStarted what)
{
	const char *setting = what == SX_START_LIMIT ?
		"streamext.max_workers" : "max_worker_processes";
	char	   *reason = psprintf("waits for a free worker: increase %s", setting);

	if (lacking == SX_STARTED)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("out of workers for pipeline \"%s\"", duty->name),
				 errhint("Increase %s and restart the server.", setting)));
	lacking = what;
	begin();
	(void) sx_row_waiting(duty->id, ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, reason);
	sx_transaction_end();
}

/*
 * Starts the worker, unless it is there.  The row says so before: see
 * pipeline_row.c.  Must not throw between the reservation and the start; if it
 * does, the slot comes free by its time-out.
 */
static SxStarted
start_worker(const SxDuty *duty)
{
	SxStart		start;
	SxStarted	result = sx_worker_reserve(MyDatabaseId, duty->id, duty->slot, &start);
	bool		counted;

	if (result != SX_STARTED)
		return result;

	begin();
	counted = sx_row_starting(duty->id, duty->slot);
	sx_transaction_end();
	if (!counted)
	{
		sx_slot_release(start.slot, start.generation);
		return SX_START_BUSY;
	}
	if (sx_worker_start(&start, duty->owner, duty->name))
		return SX_STARTED;

	begin();
	sx_row_not_started(duty->id, duty->slot);
	sx_transaction_end();
	return SX_START_NO_PROCESS;
}

/* Gives the milliseconds until this pipeline has to be looked at again. */
static long
tend(const SxDuty *duty, TimestampTz now, SxStarted *lack)
{
	SxStarted	result;

	if (sx_slot_exists(SX_PROCESS_WORKER, MyDatabaseId, duty->id, duty->slot))
		return NAP_MS;
	if (duty->owner_name == NULL || duty->obstacle != NULL)
	{
		if (duty->owner_name == NULL)
			stop_without_owner(duty);
		else
			wait_for_owner(duty);
		return NAP_MS;
	}
	if (duty->retry_at > now)
		return TimestampDifferenceMilliseconds(now, duty->retry_at) + 1;

	result = *lack == SX_STARTED ? start_worker(duty) : *lack;
	if (result == SX_START_LIMIT || result == SX_START_NO_PROCESS)
	{
		report_lack(duty, result);
		*lack = result;
	}
	return NAP_MS;
}

static long
cycle(MemoryContext context)
{
	List	   *receivers;
	List	   *duties = read_duties(context, &receivers);
	TimestampTz now = GetCurrentTimestamp();
	SxStarted	lack = now < ask_again_at ? lacking : SX_STARTED;
	long		soonest = NAP_MS;
	ListCell   *lc;

	remind_workers(duties);
	foreach(lc, duties)
	{
		long		wanted = tend(lfirst(lc), now, &lack);

		soonest = Min(soonest, wanted);
		MemoryContextSwitchTo(context);
	}
	if (lack == SX_START_NO_PROCESS && now >= ask_again_at)
		ask_again_at = TimestampTzPlusMilliseconds(now, LACK_MS);
	lacking = lack;
	return Min(soonest, sx_receivers_tend(receivers, NAP_MS));
}

void
sx_scheduler_main(Datum arg)
{
	SxStart		start;
	MemoryContext context;
	TimestampTz look_at = 0;

	sx_process_begin(&start, "streamext scheduler");
	context = AllocSetContextCreate(TopMemoryContext, "streamext scheduler",
									ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		long		wanted;

		MemoryContextSwitchTo(context);
		if (sx_must_look() || now >= look_at)
			look_at = now + cycle(context) * 1000;
		MemoryContextReset(context);
		wanted = sx_sender_run();
		(void) pgstat_report_stat(true);
		nap(Min(wanted, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), look_at) + 1));
	}
}
