/*-------------------------------------------------------------------------
 *
 * process.c
 *		Starting background workers, and what all of them do first.
 *
 * Who starts a process reserves its slot, registers it with the postmaster and
 * goes on; it neither waits nor keeps a handle.  The process attaches to its slot
 * before anything that can fail, so that its exit, however early, frees the slot
 * and wakes who has to start the next one.
 *
 * The session settings of a process do not depend on what somebody set for the
 * database or the role: they are forced, at the level above those.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "worker/process.h"

StaticAssertDecl(sizeof(SxStart) <= BGW_EXTRALEN,
				 "SxStart must fit into bgw_extra");

static const struct
{
	const char *type;
	const char *function;
}			programs[] =
{
	[SX_PROCESS_SCOUT] = {"streamext scout", "sx_scout_main"},
	[SX_PROCESS_SCHEDULER] = {"streamext scheduler", "sx_scheduler_main"},
	[SX_PROCESS_WORKER] = {"streamext worker", "sx_pipeline_main"},
	[SX_PROCESS_RECEIVER] = {"streamext receiver", "sx_receiver_main"}
};

/*
 * Settings of every process.  Lock waits end after a while, so that a batch gives
 * way to somebody who wants a table for long; the batch is tried again later.
 */
static const struct
{
	const char *name;
	const char *value;
}			settings[] =
{
	{"role", "none"},
	{"search_path", "pg_catalog, pg_temp"},
	{"DateStyle", "ISO"},
	{"IntervalStyle", "postgres"},
	{"TimeZone", "UTC"},
	{"extra_float_digits", "1"},
	{"bytea_output", "hex"},
	{"row_security", "on"},
	{"standard_conforming_strings", "on"},
	{"transform_null_equals", "off"},
	{"array_nulls", "on"},
	{"xmloption", "content"},
	{"exit_on_error", "off"},	/* an error is written down, not died of */
	{"restrict_nonsystem_relation_kind", ""},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"session_replication_role", "origin"},
	{"deadlock_timeout", "50ms"},	/* we try again: let it be us, not the user */
	{"jit", "off"},
	{"max_parallel_workers_per_gather", "0"},
	{"plan_cache_mode", "force_generic_plan"},
	{"statement_timeout", "0"},
	{"lock_timeout", "5s"},
	{"transaction_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"}
};

int			sx_deadlock_timeout;

/* Not every server knows every setting. */
static void
force_settings(void)
{
	sx_deadlock_timeout = DeadlockTimeout;
	for (int i = 0; i < lengthof(settings); i++)
	{
		if (GetConfigOption(settings[i].name, true, false) != NULL)
			SetConfigOption(settings[i].name, settings[i].value,
							PGC_SUSET, PGC_S_OVERRIDE);
	}
}

static bool
register_process(SxProcessKind kind, const SxStart *start, const char *name)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "streamext", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, programs[kind].function, BGW_MAXLEN);
	strlcpy(worker.bgw_type, programs[kind].type, BGW_MAXLEN);
	strlcpy(worker.bgw_name, name, BGW_MAXLEN);
	memcpy(worker.bgw_extra, start, sizeof(SxStart));
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

static SxStarted
reserve(SxProcessKind kind, Oid database, int pipeline, int worker, SxStart *start)
{
	memset(start, 0, sizeof(SxStart));
	start->database = database;
	start->pipeline = pipeline;
	start->worker = worker;
	switch (sx_slot_reserve(kind, database, pipeline, worker,
							&start->slot, &start->generation))
	{
		case SX_RESERVED:
			return SX_STARTED;
		case SX_RESERVE_BUSY:
			return SX_START_BUSY;
		case SX_RESERVE_FULL:
			break;
	}
	return SX_START_LIMIT;
}

SxStarted
sx_process_start(SxProcessKind kind, Oid database)
{
	SxStart		start;
	SxStarted	reserved = reserve(kind, database, 0, 0, &start);

	if (reserved != SX_STARTED)
		return reserved;
	if (register_process(kind, &start, programs[kind].type))
		return SX_STARTED;
	sx_slot_release(start.slot, start.generation);
	return SX_START_NO_PROCESS;
}

SxStarted
sx_worker_reserve(Oid database, int pipeline, int worker, SxStart *start)
{
	return reserve(SX_PROCESS_WORKER, database, pipeline, worker, start);
}

/* The slot is reserved; when this fails it is free again. */
bool
sx_worker_start(SxStart *start, Oid owner, const char *name)
{
	char		title[BGW_MAXLEN];

	start->owner = owner;
	if (start->worker == 0)
		snprintf(title, sizeof(title), "streamext: %s", name);
	else
		snprintf(title, sizeof(title), "streamext: %s (%d)", name, start->worker);
	if (register_process(SX_PROCESS_WORKER, start, title))
		return true;
	sx_slot_release(start->slot, start->generation);
	return false;
}

SxStarted
sx_receiver_start(Oid database, Oid stream, Oid owner, const char *name)
{
	SxStart		start;
	SxStarted	reserved = reserve(SX_PROCESS_RECEIVER, database, (int) stream, 0, &start);
	char		title[BGW_MAXLEN];

	if (reserved != SX_STARTED)
		return reserved;
	start.owner = owner;
	snprintf(title, sizeof(title), "streamext receiver: %s", name);
	if (register_process(SX_PROCESS_RECEIVER, &start, title))
		return SX_STARTED;
	sx_slot_release(start.slot, start.generation);
	return SX_START_NO_PROCESS;
}

/*
 * Signal handlers come before signals are unblocked: the default handler of
 * SIGTERM raises FATAL wherever the process happens to be.
 */
void
sx_process_begin(SxStart *start, const char *application_name)
{
	memcpy(start, MyBgworkerEntry->bgw_extra, sizeof(SxStart));

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	if (!sx_slot_attach(start->slot, start->generation))
		proc_exit(0);
	BackgroundWorkerUnblockSignals();

	BackgroundWorkerInitializeConnectionByOid(start->database, start->owner,
											  SX_BGWORKER_FLAGS);
	force_settings();
	SetConfigOption("application_name", application_name,
					PGC_USERSET, PGC_S_OVERRIDE);
	pgstat_report_activity(STATE_IDLE, NULL);
}

void
sx_process_reload(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
}

bool
sx_process_breathe(void)
{
	/* Between two rounds a cancel has nothing to cancel. */
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
	sx_process_reload();
	return sx_must_stop();
}

void
sx_transaction_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
sx_transaction_end(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	(void) pgstat_report_stat(false);
}

void
sx_process_wait(const int *fds, int nfds, long timeout)
{
	WaitEventSet *set;
	WaitEvent	event;

	if (nfds == 0)
	{
		/* a set that is there already */
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout >= 0 ? WL_TIMEOUT : 0),
						 timeout, SX_WAIT_EVENT("StreamextSource"));
		return;
	}
	set = sx_create_wait_event_set(SX_MAX_FDS + 2);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (int i = 0; i < nfds; i++)
		AddWaitEventToSet(set, WL_SOCKET_READABLE, fds[i], NULL, NULL);
	(void) WaitEventSetWait(set, timeout, &event, 1,
							SX_WAIT_EVENT("StreamextSource"));
	FreeWaitEventSet(set);
}

void
sx_process_log_error(ErrorData *edata)
{
	PG_TRY();
	{
		ReThrowError(edata);
	}
	PG_CATCH();
	{
		EmitErrorReport();
		FlushErrorState();
	}
	PG_END_TRY();
}
