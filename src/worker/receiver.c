/*-------------------------------------------------------------------------
 *
 * receiver.c
 *		The process that brings what a socket sends into its stream's log.
 *
 * One for each stream of connector socket with durable = on that some running
 * pipeline reads; connected to the database as the stream's owner.  Batches are cut
 * off the log by the pipelines' workers, so a slow batch does not stop receiving.
 *
 *		connect ─▶ read what is there ─▶ commit it to the log ─▶ acknowledge, wake
 *		   ▲             │ up to 1 MB or 20,000 records, or what has come
 *		   └── back-off ─┘ in COLLECT_MS
 *
 * What counts as received is what has been committed, with a flushed WAL.  What was
 * read and is not committed when the process is killed is lost, unless the peer sends
 * it again: with ack = on it is told the number of the last record in the log, at once
 * when it has been connected and after each commit.
 *
 * An error, as a full disk, does not end the process: what was read is kept, nothing
 * more is read, and the same commit is tried again with a back-off.  The connection
 * stays open meanwhile.
 *
 * Trimming.  Every now and then the records that all pipelines have processed are
 * deleted.  When max_log_rows are not processed yet, nothing more is read, so that
 * TCP holds up the peer.
 *
 * Memory: the buffer (1 MB of values, 20,000 records and what one read brings more), a
 * record that is not complete, and what a transaction needs for a chunk of them.
 *
 * While it waits there is no transaction, snapshot or lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/sx_catalog.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "source/log_table.h"
#include "source/rights.h"
#include "source/socket_client.h"
#include "source/socket_log.h"
#include "source/source.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "worker/process.h"
#include "worker/receiver.h"
#include "worker/timetable.h"

#define COLLECT_ROWS	20000
#define COLLECT_BYTES	(1024 * 1024)
#define COLLECT_MS		50
#define TRIM_MS			1000
#define TRIM_MAX_MS		15000	/* while no pipeline moves on */
#define FULL_MS			200
#define LOOK_MS			1000
#define IDLE_MS			1000	/* between two looks at invalidations */
#define LOCK_TIMEOUT	"200ms" /* so that nobody's DDL gets a deadlock with us */
#define TRIM_ROWS		50000	/* of one transaction */
#define RETRY_MIN_MS	100
#define RETRY_MAX_MS	30000
#define DEFAULT_MAX_LOG	1000000

static Oid	stream_oid;
static SxStream *stream = NULL;
static Oid	log_oid;
static SxSocketClient *client = NULL;
static SxRecordBuffer *buffer;	/* read, and not committed */
static char *definition;		/* of the duty, as this process began with it */
static MemoryContext loop_context;

static bool maybe_changed = false;	/* look, but not more often than LOOK_MS */
static bool leaving = false;
static TimestampTz looked_at;

static TimestampTz collecting_since;	/* the buffer is not empty */
static TimestampTz last_commit = 0;
static TimestampTz retry_at = 0;	/* after an error: nothing before */
static int	retry_ms = RETRY_MIN_MS;
static char error_text[SX_STATUS_SIZE];

static int64 max_log_rows;
static List *pipelines = NIL;	/* ids of those that read the stream */
static int64 last_seq;			/* the log's last number */
static int64 done_seq;			/* processed by all, as of the last look */
static int64 trimmed_to = 1;	/* the lowest number that may be in the log */
static TimestampTz trim_at = 0; /* 0: there is nothing to trim */
static int	trim_ms = TRIM_MS;
static bool full = false;		/* nothing is read until the pipelines have moved on */
static char slowest[NAMEDATALEN];

/* ----------------------------------------------------------------------
 * The log.  All of this may throw; see fail().
 * ----------------------------------------------------------------------
 */
/* Each transaction that has written must be flushed when it ends. */
static void
begin(void)
{
	if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		SetConfigOption("synchronous_commit", "on", PGC_USERSET, PGC_S_OVERRIDE);
	sx_transaction_begin();
}

static void
end(void)
{
	sx_transaction_end();
	MemoryContextSwitchTo(loop_context);
}

/* Are there max_log_rows that some pipeline has not processed? */
static bool
is_full(void)
{
	return last_seq - Max(done_seq, trimmed_to - 1) >= max_log_rows;
}

static void
commit_records(void)
{
	int64		last;
	ListCell   *lc;

	begin();
	last = sx_socket_log_append(log_oid, buffer, last_seq);
	foreach(lc, pipelines)
		sx_wake_pipeline_at_commit(lfirst_int(lc));
	end();

	sx_record_buffer_reset(buffer);
	last_seq = last;
	last_commit = GetCurrentTimestamp();
	if (trim_at == 0)
	{
		trim_ms = TRIM_MS;
		trim_at = TimestampTzPlusMilliseconds(last_commit, trim_ms);
	}
	if (is_full())
		trim_at = last_commit;
}

/*
 * Finds out who reads the stream, and how far they are.  Not in the transaction that
 * touches the log: each would wait for locks while it holds others.  Gives the highest
 * position of all.
 */
static int64
look_at_readers(void)
{
	SxLogReaders readers;
	MemoryContext old;

	begin();
	sx_socket_log_readers(stream, &readers);
	old = MemoryContextSwitchTo(TopMemoryContext);
	list_free(pipelines);
	pipelines = list_copy(readers.pipelines);
	MemoryContextSwitchTo(old);
	if (readers.n > 0)
		strlcpy(slowest, readers.slowest, sizeof(slowest));
	end();

	if (readers.done > done_seq)
		trim_ms = TRIM_MS;
	done_seq = readers.done;	/* may go back: reset(), a new pipeline */
	return readers.highest;
}

/* Deletes what all have processed, and finds out whether there is room again. */
static void
trim_log(void)
{
	int64		left = trimmed_to;
	TimestampTz now;

	trim_ms = Min(trim_ms * 2, TRIM_MAX_MS);
	(void) look_at_readers();
	if (pipelines != NIL && done_seq > trimmed_to)
	{
		begin();
		left = sx_socket_log_trim(log_oid, trimmed_to, done_seq, TRIM_ROWS);
		end();
	}

	now = GetCurrentTimestamp();
	trimmed_to = left;
	full = pipelines != NIL && is_full();
	if (full)
		trim_at = TimestampTzPlusMilliseconds(now, FULL_MS);
	else if (pipelines != NIL && left < done_seq)
		trim_at = now;
	else
		trim_at = left >= last_seq ? 0 : TimestampTzPlusMilliseconds(now, trim_ms);
}

/* ----------------------------------------------------------------------
 * Beginning, looking and leaving
 * ----------------------------------------------------------------------
 */

/* In a transaction.  NULL: not to run any more. */
static SxReceiverDuty *
find_duty(void)
{
	if (!sx_extension_usable())
		return NULL;
	return sx_receiver_duty(sx_receiver_duties(), stream_oid);
}

/* What was read is brought home, if there is still a place for it. */
static void
leave(void)
{
	bool		exists;

	leaving = true;
	if (client != NULL && buffer->nrecords > 0)
	{
		begin();
		exists = get_rel_relkind(stream_oid) != '\0' && get_rel_relkind(log_oid) != '\0';
		end();
		if (exists)
		{
			commit_records();
			sx_socket_ack(client, last_seq);
		}
	}
	proc_exit(0);
}

static void
look(TimestampTz now)
{
	SxReceiverDuty *duty;
	bool		same;

	maybe_changed = false;
	looked_at = now;
	begin();
	duty = find_duty();
	same = duty != NULL && strcmp(duty->definition, definition) == 0;
	end();
	if (!same)
		leave();
	(void) look_at_readers();
}

/* Milliseconds until a look is due, -1: none is. */
static long
look_wait(TimestampTz now)
{
	if (!maybe_changed)
		return -1;
	return Max(0, LOOK_MS - TimestampDifferenceMilliseconds(looked_at, now));
}

static void
look_if_told(TimestampTz now)
{
	AcceptInvalidationMessages();
	if (sx_must_look() || look_wait(now) == 0)
		look(now);
}

static void
relation_changed(Datum arg, Oid relid)
{
	if (relid == stream_oid || relid == log_oid || !OidIsValid(relid))
		maybe_changed = true;
}

static void
object_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	maybe_changed = true;
}

static void
open_stream(void)
{
	SxReceiverDuty *duty;
	int64		highest;

	begin();
	duty = find_duty();
	if (duty == NULL)
		proc_exit(0);
	MemoryContextSwitchTo(TopMemoryContext);
	definition = pstrdup(duty->definition);
	stream = sx_stream_load(stream_oid);
	sx_stream_check_rights(stream);
	log_oid = sx_log_table_of(stream);
	max_log_rows = sx_stream_option_int(stream, "max_log_rows", DEFAULT_MAX_LOG);
	buffer = sx_record_buffer_create();
	end();

	/* After a restore the log may be empty and the positions not. */
	highest = look_at_readers();
	begin();
	last_seq = sx_socket_log_end(log_oid, GetActiveSnapshot(), highest);
	trimmed_to = sx_socket_log_start(log_oid, GetActiveSnapshot(), last_seq + 1);
	end();

	MemoryContextSwitchTo(TopMemoryContext);
	client = sx_socket_create(stream);
	MemoryContextSwitchTo(loop_context);
	looked_at = trim_at = GetCurrentTimestamp();
}

/* ----------------------------------------------------------------------
 * The loop
 * ----------------------------------------------------------------------
 */
static bool
buffer_is_full(void)
{
	return buffer->nrecords >= COLLECT_ROWS || buffer->nbytes >= COLLECT_BYTES;
}

/* Is the stream a source of a pipeline in which nothing reads it? */
static bool
is_unread(void)
{
	return pipelines == NIL;
}

static bool
may_read(void)
{
	return client->state == SX_CONN_OPEN && !full && retry_at == 0 && !buffer_is_full();
}

/*
 * A new connection has to wait for what came through the old one: the peer is told
 * first of all what is in the log.
 */
static void
receive(TimestampTz now)
{
	bool		was_empty = buffer->nrecords == 0;

	if (is_unread())
		sx_socket_close(client);
	else if (was_empty || client->state != SX_CONN_CLOSED)
		(void) sx_socket_connect(client, now);
	if (was_empty)
		sx_socket_ack(client, last_seq);
	if (may_read())
		(void) sx_socket_read(client, buffer, COLLECT_ROWS, COLLECT_BYTES);
	if (was_empty && buffer->nrecords > 0)
		collecting_since = now;
}

/* Milliseconds until what was read is to be committed; -1: there is nothing. */
static long
commit_wait(TimestampTz now)
{
	if (buffer->nrecords == 0)
		return -1;
	if (buffer_is_full() || client->state != SX_CONN_OPEN)
		return 0;
	return Max(0, COLLECT_MS - Max(TimestampDifferenceMilliseconds(collecting_since, now),
								   TimestampDifferenceMilliseconds(last_commit, now)));
}

static void
publish_status(void)
{
	char		text[SX_STATUS_SIZE];

	if (error_text[0] != '\0')
		sx_status_text(error_text);
	else if (full)
	{
		snprintf(text, sizeof(text), "the log has max_log_rows and waits for pipeline \"%s\"",
				 slowest);
		sx_status_text(text);
	}
	else if (is_unread())
		sx_status_text("the receiver waits for a view or sink that reads the stream");
	else
		sx_status_text(client->status);
}

static long
until(TimestampTz now, TimestampTz at)
{
	return at == 0 ? -1 : TimestampDifferenceMilliseconds(now, at);
}

static void
wait_for_events(TimestampTz now)
{
	int			events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | WL_TIMEOUT;
	long		timeout = retry_at != 0 ? until(now, retry_at) :
	sx_sooner(commit_wait(now), until(now, trim_at));
	long		unsent = pgstat_report_stat(false);

	if (!is_unread() && (buffer->nrecords == 0 || client->state != SX_CONN_CLOSED))
		timeout = sx_sooner(timeout, sx_socket_wait(client, now));
	timeout = sx_sooner(timeout, IDLE_MS);
	timeout = sx_sooner(timeout, look_wait(now));
	if (unsent > 0)
		timeout = sx_sooner(timeout, unsent);
	if (may_read())
		events |= WL_SOCKET_READABLE;
	if (client->state == SX_CONN_CONNECTING || client->ack_waits)
		events |= WL_SOCKET_WRITEABLE;
	(void) WaitLatchOrSocket(MyLatch, events, client->fd < 0 ? PGINVALID_SOCKET : client->fd,
							 timeout, SX_WAIT_EVENT("StreamextReceiver"));
	ResetLatch(MyLatch);
}

static void
turn(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (retry_at != 0 && now >= retry_at)
		retry_at = 0;
	receive(now);
	if (retry_at == 0)
	{
		if (commit_wait(GetCurrentTimestamp()) == 0)
			commit_records();
		if (trim_at != 0 && GetCurrentTimestamp() >= trim_at)
			trim_log();
		error_text[0] = '\0';
		retry_ms = RETRY_MIN_MS;
	}
	sx_socket_ack(client, last_seq);
	publish_status();
	wait_for_events(GetCurrentTimestamp());
}

static void
run(void)
{
	if (stream == NULL)
		open_stream();
	for (;;)
	{
		MemoryContextReset(loop_context);

		if (sx_process_breathe())
			leave();
		look_if_told(GetCurrentTimestamp());
		turn();
	}
}

/* ----------------------------------------------------------------------
 * Errors
 * ----------------------------------------------------------------------
 */

/*
 * Called in the error's handler: logs it, unless it is the one before again, or a lock
 * that somebody else has.  What was read is kept for the next try.
 */
static void
fail(void)
{
	ErrorData  *edata;
	char		text[SX_STATUS_SIZE];

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(loop_context);
	edata = CopyErrorData();
	snprintf(text, sizeof(text), "receiver: %s", edata->message);
	if (strcmp(text, error_text) != 0 && edata->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		EmitErrorReport();
	AbortOutOfAnyTransaction();
	FlushErrorState();
	MemoryContextSwitchTo(loop_context);
	strlcpy(error_text, text, sizeof(error_text));
	sx_status_text(error_text);
	retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), retry_ms);
	retry_ms = Min(retry_ms * 2, RETRY_MAX_MS);
	maybe_changed = true;
	RESUME_INTERRUPTS();
}

void
sx_receiver_main(Datum arg)
{
	SxStart		start;

	sx_process_begin(&start, MyBgworkerEntry->bgw_name);
	stream_oid = (Oid) start.pipeline;
	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	loop_context = AllocSetContextCreate(TopMemoryContext, "streamext receiver",
										 ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(loop_context);
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, object_changed, (Datum) 0);
	for (;;)
	{
		PG_TRY();
		{
			run();
		}
		PG_CATCH();
		{
			fail();
		}
		PG_END_TRY();

		/* Without a stream there is nothing to keep: the scheduler starts anew. */
		if (client == NULL || leaving)
			proc_exit(1);
	}
}
