/*-------------------------------------------------------------------------
 *
 * launcher.c
 *		The one static background worker: keeps a scheduler in every database
 *		that is marked.
 *
 * It is connected to no database, so that it never stands in the way of DROP or
 * CREATE DATABASE; of the catalogs it can read pg_database only.  The marks come
 * from shared memory (marker.c).  It starts when recovery has ended, so a standby
 * has none until it is promoted.
 *
 * Schedulers are started at most once in a back-off that doubles with each one
 * that lives for a short time only, and that a change of the catalog, which is a
 * reason to hope, ends.
 *
 * In a data directory that is a copy of another one it starts nothing but the scout:
 * see home.c.
 *
 * streamext.enabled = off: every process sees SxShared.enabled in its loop and
 * leaves.  Who is still there at the next look is in a long batch or in a wait
 * for a lock, and gets SIGTERM.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "streamext.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "worker/process.h"

#define NAP_MS			10000
#define STOPPING_MS		300
#define SCOUT_RETRY_MS	2000
#define BACKOFF_MIN_MS	1000
#define BACKOFF_MAX_MS	60000
#define LONG_LIFE_MS	10000

/* What the launcher remembers of the scheduler of one database. */
typedef struct Ward
{
	Oid			database;
	TimestampTz last_start;
	int			backoff_ms;
} Ward;

static Ward *wards;				/* as many as there are marks */
static bool warned_no_process = false;

/* before_shmem_exit: nobody sets the latch of a process that is gone. */
static void
launcher_gone(int code, Datum arg)
{
	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	sx_shared->launcher = NULL;
	LWLockRelease(sx_shared->lock);
}

static void
launcher_begin(void)
{
	before_shmem_exit(launcher_gone, (Datum) 0);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	SetConfigOption("application_name", "streamext launcher",
					PGC_USERSET, PGC_S_OVERRIDE);

	wards = MemoryContextAllocZero(TopMemoryContext,
								   sx_shared->nmarks * sizeof(Ward));
	sx_home_open();
	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	sx_shared->launcher = MyProc;
	sx_shared->enabled = sx_enabled;
	sx_shared->scans_wanted++;
	LWLockRelease(sx_shared->lock);
}

static void
reload(void)
{
	if (!ConfigReloadPending)
		return;
	sx_process_reload();
	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	sx_shared->enabled = sx_enabled;
	sx_shared->scans_wanted++;
	LWLockRelease(sx_shared->lock);

	if (!sx_enabled)
		sx_slots_wake(SX_PROCESS_NONE, InvalidOid, 0, false);
}

/* Any database to read pg_db_role_setting in, "postgres" for preference. */
static Oid
database_for_scout(void)
{
	Oid			result = InvalidOid;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database db = (Form_pg_database) GETSTRUCT(tuple);
		bool		preferred = strcmp(NameStr(db->datname), "postgres") == 0;

		if (db->datallowconn && !db->datistemplate &&
			(preferred || !OidIsValid(result)))
			result = db->oid;
		if (preferred && result == db->oid)
			break;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	return result;
}

/* One warning, until a process could be started again. */
static void
warn_no_process(SxStarted started)
{
	if (started == SX_START_NO_PROCESS && !warned_no_process)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("out of background worker slots for streamext"),
				 errhint("Increase max_worker_processes: streamext needs one for the launcher, one per database and one per pipeline.")));
	warned_no_process = started == SX_START_NO_PROCESS;
	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	sx_shared->lacks_process = warned_no_process;
	LWLockRelease(sx_shared->lock);
}

static void
send_scout_if_wanted(TimestampTz now)
{
	static TimestampTz last_sent = 0;
	bool		wanted;
	Oid			database;

	LWLockAcquire(sx_shared->lock, LW_SHARED);
	wanted = sx_shared->scans_done < sx_shared->scans_wanted;
	LWLockRelease(sx_shared->lock);

	if (!wanted ||
		!TimestampDifferenceExceeds(last_sent, now, SCOUT_RETRY_MS) ||
		sx_slot_exists(SX_PROCESS_SCOUT, InvalidOid, 0, 0))
		return;
	last_sent = now;
	database = database_for_scout();
	if (OidIsValid(database))
		warn_no_process(sx_process_start(SX_PROCESS_SCOUT, database));
}

static bool
scout_awaited(void)
{
	bool		awaited;

	LWLockAcquire(sx_shared->lock, LW_SHARED);
	awaited = sx_shared->scans_done < sx_shared->scans_wanted;
	LWLockRelease(sx_shared->lock);
	return awaited;
}

/* Is it there, and may one connect?  A mark of a dropped database is removed. */
static bool
database_is_open(Oid database)
{
	HeapTuple	tuple;
	bool		open = false;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_database db = (Form_pg_database) GETSTRUCT(tuple);

		open = db->datallowconn && !db->datistemplate;
		ReleaseSysCache(tuple);
	}
	else
		sx_mark_remove(database);
	CommitTransactionCommand();
	return open;
}

/* The entry of mark number i, as fresh as the mark is. */
static Ward *
ward_of(int i, Oid database)
{
	Ward	   *ward = &wards[i];

	if (ward->database != database)
	{
		memset(ward, 0, sizeof(Ward));
		ward->database = database;
		ward->backoff_ms = BACKOFF_MIN_MS;
	}
	return ward;
}

/* Starts the scheduler of a marked database; gives when to look again. */
static long
tend(Ward *ward, TimestampTz now, bool hurry)
{
	long		waited = TimestampDifferenceMilliseconds(ward->last_start, now);

	if (sx_slot_exists(SX_PROCESS_SCHEDULER, ward->database, 0, 0))
		return NAP_MS;
	if (waited > LONG_LIFE_MS)
		ward->backoff_ms = BACKOFF_MIN_MS;
	if (!hurry && waited < ward->backoff_ms)
		return ward->backoff_ms - waited;
	if (!database_is_open(ward->database))
		return NAP_MS;

	ward->backoff_ms = hurry ? BACKOFF_MIN_MS :
		Min(ward->backoff_ms * 2, BACKOFF_MAX_MS);
	ward->last_start = now;
	warn_no_process(sx_process_start(SX_PROCESS_SCHEDULER, ward->database));
	return NAP_MS;
}

static long
tend_all(TimestampTz now)
{
	long		nap = NAP_MS;
	bool		hurry;

	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	hurry = sx_shared->hurry;
	sx_shared->hurry = false;
	LWLockRelease(sx_shared->lock);

	for (int i = 0; i < sx_shared->nmarks; i++)
	{
		Oid			database;
		TimestampTz held_until;
		long		wanted;

		LWLockAcquire(sx_shared->lock, LW_SHARED);
		database = sx_shared->marks[i].database;
		held_until = sx_shared->marks[i].held_until;
		LWLockRelease(sx_shared->lock);

		if (!OidIsValid(database))
			continue;
		if (held_until > now)
			wanted = TimestampDifferenceMilliseconds(now, held_until) + 1;
		else
			wanted = tend(ward_of(i, database), now, hurry);
		nap = Min(nap, wanted);
	}
	return nap;
}

/* While turned off: whoever has not left by itself after a moment is told to. */
static long
stop_all(TimestampTz since, TimestampTz now)
{
	long		left = STOPPING_MS - TimestampDifferenceMilliseconds(since, now);

	if (sx_slots_count(InvalidOid) == 0)
		return NAP_MS;
	if (left > 0)
		return left;
	sx_slots_terminate(InvalidOid);
	return STOPPING_MS;
}

static long
cycle(void)
{
	static TimestampTz off_since = 0;
	TimestampTz now = GetCurrentTimestamp();
	long		nap;

	if (!sx_enabled)
	{
		if (off_since == 0)
			off_since = now;
		return stop_all(off_since, now);
	}
	off_since = 0;
	send_scout_if_wanted(now);
	sx_home_tend(sx_marks_any(), !scout_awaited());
	nap = sx_home() == SX_HOME_OURS ? tend_all(now) : NAP_MS;
	return scout_awaited() ? Min(nap, SCOUT_RETRY_MS) : nap;
}

void
sx_launcher_main(Datum arg)
{
	long		nap;

	launcher_begin();
	for (;;)
	{
		/* A cancel has nothing to cancel here. */
		QueryCancelPending = false;
		CHECK_FOR_INTERRUPTS();
		reload();
		nap = cycle();
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 nap, SX_WAIT_EVENT("StreamextLauncherMain"));
		ResetLatch(MyLatch);
	}
}

void
sx_worker_init(void)
{
	BackgroundWorker worker;

	sx_shmem_init();
	sx_wake_init();
	sx_database_init();

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_library_name, "streamext", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "sx_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "streamext launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "streamext launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
