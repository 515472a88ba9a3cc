/*-------------------------------------------------------------------------
 *
 * receiver_duty.c
 *		Which streams have to have a receiver, and starting them.
 *
 * A stream of connector socket with durable = on has a receiver while some pipeline
 * runs that has it among its sources, and has a view or sink.  The scheduler starts it;
 * a receiver that finds that it is not wanted any more leaves by itself.
 *
 * A receiver deals with errors and its peer's absence itself, so one that ends
 * without being told to was killed, or could not begin.  It is started again after
 * BACKOFF_MIN_MS, doubled with each short life up to BACKOFF_MAX_MS.  This is
 * remembered by the scheduler alone: what a receiver does cannot bring down a server
 * again and again, as a batch with a bad function could.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/sx_catalog.h"
#include "compat.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "worker/process.h"
#include "worker/receiver.h"

#define BACKOFF_MIN_MS	250
#define BACKOFF_MAX_MS	60000
#define LONG_LIFE_MS	10000

/* What the scheduler remembers of a stream's receiver. */
typedef struct Ward
{
	Oid			stream;
	TimestampTz last_start;
	int			backoff_ms;
	bool		warned;			/* of what keeps it from being started */
} Ward;

static List *wards = NIL;		/* in TopMemoryContext */

/* ----------------------------------------------------------------------
 * Duties
 * ----------------------------------------------------------------------
 */
static void
collect_duty(HeapTuple row, TupleDesc desc, void *arg)
{
	List	  **list = arg;
	SxReceiverDuty *duty;
	char	   *durable = sx_row_text(row, desc, 7);
	bool		wanted;

	if (durable != NULL && parse_bool(durable, &wanted) && !wanted)
		return;
	duty = palloc(sizeof(SxReceiverDuty));
	duty->stream = sx_row_oid(row, desc, 1);
	duty->name = sx_row_text(row, desc, 2);
	duty->owner = sx_row_oid(row, desc, 3);
	duty->owner_name = sx_row_text(row, desc, 4);
	duty->can_login = sx_row_bool(row, desc, 5);
	duty->definition = sx_row_text(row, desc, 6);
	*list = lappend(*list, duty);
}

SxReceiverDuty *
sx_receiver_duty(List *duties, Oid stream)
{
	ListCell   *lc;

	foreach(lc, duties)
	{
		SxReceiverDuty *duty = lfirst(lc);

		if (duty->stream == stream)
			return duty;
	}
	return NULL;
}

/*
 * What each step reads is not looked into: that would take locks, which is not for a
 * process that serves all streams.
 */
List *
sx_receiver_duties(void)
{
	List	   *duties = NIL;

	sx_catalog_rows("SELECT c.oid, c.relname::text, c.relowner, r.rolname::text, r.rolcanlogin, "
					" md5(concat_ws('|', c.relname, c.relnamespace, c.relowner, f.ftoptions, v.srvoptions)), "
					" (SELECT option_value FROM pg_options_to_table(f.ftoptions) WHERE option_name = 'durable') "
					"FROM pg_foreign_table f JOIN pg_class c ON c.oid = f.ftrelid "
					"JOIN pg_foreign_server v ON v.oid = f.ftserver "
					"LEFT JOIN pg_roles r ON r.oid = c.relowner "
					"WHERE 'connector=socket' = ANY (f.ftoptions) AND EXISTS ("
					" SELECT FROM streamext.source s "
					" JOIN streamext.pipeline p ON p.id = s.pipeline AND p.state = 'running' AND p.lane_of IS NULL "
					" JOIN streamext.step t ON t.pipeline = p.id AND t.kind <> 'stream' "
					" WHERE s.stream::oid = c.oid) "
					"ORDER BY c.oid",
					0, NULL, NULL, NULL, collect_duty, &duties);
	return duties;
}

/* ----------------------------------------------------------------------
 * The scheduler's part
 * ----------------------------------------------------------------------
 */
static Ward *
ward_of(Oid stream)
{
	MemoryContext old;
	Ward	   *ward;
	ListCell   *lc;

	foreach(lc, wards)
	{
		ward = lfirst(lc);
		if (ward->stream == stream)
			return ward;
	}
	old = MemoryContextSwitchTo(TopMemoryContext);
	ward = palloc0(sizeof(Ward));
	ward->stream = stream;
	ward->backoff_ms = BACKOFF_MIN_MS;
	wards = lappend(wards, ward);
	MemoryContextSwitchTo(old);
	return ward;
}

static void
forget_wards(List *duties)
{
	ListCell   *lc;

	foreach(lc, wards)
	{
		Ward	   *ward = lfirst(lc);

		if (sx_receiver_duty(duties, ward->stream) != NULL)
			continue;
		wards = foreach_delete_current(wards, lc);
		pfree(ward);
	}
}

/* Receivers whose stream needs none have missed something. */
static void
remind_receivers(List *duties)
{
	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < sx_shared->nslots; i++)
	{
		SxSlot	   *slot = &sx_shared->slots[i];

		if (slot->kind != SX_PROCESS_RECEIVER || slot->proc == NULL ||
			slot->database != MyDatabaseId ||
			sx_receiver_duty(duties, (Oid) slot->pipeline) != NULL)
			continue;
		slot->look = true;
		SetLatch(&slot->proc->procLatch);
	}
	LWLockRelease(sx_shared->lock);
}

/* Says once why the stream has no receiver. */
static void
warn(Ward *ward, const SxReceiverDuty *duty, const char *reason, const char *hint)
{
	if (!ward->warned)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("the receiver of stream \"%s\" cannot be started: %s",
						duty->name, reason),
				 errhint("%s", hint)));
	ward->warned = true;
}

/* Gives the milliseconds until this stream has to be looked at again. */
static long
tend(const SxReceiverDuty *duty, TimestampTz now, long nap)
{
	Ward	   *ward = ward_of(duty->stream);
	long		waited = TimestampDifferenceMilliseconds(ward->last_start, now);

	if (sx_slot_exists(SX_PROCESS_RECEIVER, MyDatabaseId, (int) duty->stream, 0))
		return nap;
	if (ward->last_start != 0 && waited > LONG_LIFE_MS)
		ward->backoff_ms = BACKOFF_MIN_MS;
	if (ward->last_start != 0 && waited < ward->backoff_ms)
		return ward->backoff_ms - waited;

	ward->backoff_ms = Min(ward->backoff_ms * 2, BACKOFF_MAX_MS);
	ward->last_start = now;
	if (duty->owner_name == NULL || (!duty->can_login && SX_OWNER_NEEDS_LOGIN))
		warn(ward, duty, "the owner of the stream does not exist or may not log in",
			 "Let it log in (ALTER ROLE … LOGIN), or give the stream to another role.");
	else if (sx_receiver_start(MyDatabaseId, duty->stream, duty->owner, duty->name) ==
			 SX_START_NO_PROCESS)
		warn(ward, duty, "out of background worker slots",
			 "Increase max_worker_processes and restart the server.");
	else
		ward->warned = false;
	return Min(nap, ward->backoff_ms);
}

long
sx_receivers_tend(List *duties, long nap)
{
	TimestampTz now = GetCurrentTimestamp();
	long		soonest = nap;
	ListCell   *lc;

	remind_receivers(duties);
	forget_wards(duties);
	foreach(lc, duties)
	{
		long		wanted = tend(lfirst(lc), now, nap);

		soonest = Min(soonest, wanted);
	}
	return soonest;
}
