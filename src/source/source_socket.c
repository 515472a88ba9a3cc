/*-------------------------------------------------------------------------
 *
 * source_socket.c
 *		The connector 'socket': records from a TCP server.
 *
 * A peer sends its records once, so what was received must not depend on a batch:
 *
 *	durable = on	(default) a process of its own receives them and commits them to the
 *				log (worker/receiver.c, socket_log.c).  This file is the other side:
 *				batches are cut off the log.  The position is the number of the last
 *				record processed: {"seq": n}.
 *	durable = off	the worker reads the socket itself (source_socket_direct.c).
 *
 * An idle log costs next to nothing: poll() compares the server's count of finished
 * transactions with that of its last fruitless look, and looks only when it differs.
 * The receiver wakes the worker when it has committed something.
 *
 * The connection is the receiver's; what it says about it is found in its slot, and is
 * shown as what is wrong with this source.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "compat.h"
#include "source/log_table.h"
#include "source/record_buffer.h"
#include "source/socket_client.h"
#include "source/socket_log.h"
#include "source/source.h"
#include "source/source_socket.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "worker/worker.h"

#define POLL_INTERVAL_MS	1000

typedef struct LogSource
{
	SxSource	base;
	Oid			log;
	SxRecordBuffer *buffer;

	int64		at;				/* committed */
	bool		has_position;
	uint64		looked;			/* transactions finished at the last fruitless look */
	bool		has_rows;		/* said the last poll */
	SxPollRequest req;

	/* the batch */
	bool		loaded;
	int64		behind;			/* number of its last record */

	int64		goal;			/* of reached_end; -1: none */
	int64		limit;			/* of a lane: the last record to be read */
	char		status[SX_STATUS_SIZE];
} LogSource;

/* --------------------------------------------------------------------- open */

static SxSource *
socket_open(SxStream *stream, int pipeline, SxPart *parts, int nparts)
{
	LogSource  *ls;

	if (!sx_stream_option_bool(stream, "durable", true))
		return sx_socket_open_direct(stream, pipeline, parts, nparts);
	ls = (LogSource *) sx_source_create(sizeof(LogSource), &sx_source_socket, stream,
										pipeline, parts, nparts);
	ls->log = sx_log_table_of(stream);
	ls->buffer = sx_record_buffer_create();
	ls->has_position = ls->base.parts[0].position != NULL;
	ls->at = sx_position_int(ls->base.parts[0].position, "seq", 0);
	ls->goal = -1;
	return &ls->base;
}

/* --------------------------------------------------------------------- poll */

/* Number of the last record in the log; in a short transaction, unless there is one. */
static int64
log_end(LogSource *ls)
{
	bool		own = !IsTransactionState();
	MemoryContext old = CurrentMemoryContext;
	Snapshot	snapshot;
	int64		end;

	if (own)
		StartTransactionCommand();
	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	end = sx_socket_log_end(ls->log, snapshot, ls->at);
	if (ls->base.limited)
		end = Min(end, ls->limit);
	UnregisterSnapshot(snapshot);
	if (own)
		CommitTransactionCommand();
	MemoryContextSwitchTo(old);
	return end;
}

static void
fetch_status(LogSource *ls)
{
	SxSource   *source = &ls->base;

	if (!sx_receiver_status(source->stream->relid, ls->status))
		strlcpy(ls->status, "waits for the receiver to start", sizeof(ls->status));
	source->status = ls->status[0] != '\0' ? ls->status : NULL;
}

static SxPollResult
socket_poll(SxSource *source, const SxPollRequest *req)
{
	LogSource  *ls = (LogSource *) source;
	uint64		finished;

	if (ls->loaded)
		return SX_POLL_DATA;
	ls->req = *req;
	ls->has_rows = true;
	if (!source->limited)
		fetch_status(ls);

	/* Read before the snapshot: what finishes in between makes us look again. */
	finished = sx_transam_variables->xactCompletionCount;
	if (finished != ls->looked)
	{
		if (log_end(ls) > ls->at)
			return SX_POLL_DATA;
		ls->looked = finished;
		source->parts[0].lag = 0;
	}
	ls->has_rows = false;
	return SX_POLL_NOTHING;
}

/* --------------------------------------------------------------------- load */

static void
show_records(LogSource *ls)
{
	SxSource   *source = &ls->base;

	sx_source_show(source, ls->buffer);
	source->parts[0].rows = ls->buffer->nrecords;
}

static void
forget_batch(LogSource *ls)
{
	sx_record_buffer_reset(ls->buffer);
	show_records(ls);
}

/*
 * Numbers are contiguous.  Where some are missing, they were trimmed while no step of
 * the pipeline read the stream; nothing else should be able to.
 */
static void
warn_of_gap(const LogSource *ls)
{
	int64		first = ls->buffer->nrecords > 0 ? ls->buffer->records[0]->offset : 0;

	if (ls->has_position && first > ls->at + 1)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("records " INT64_FORMAT " to " INT64_FORMAT " of stream %s are not in its log any more",
						ls->at + 1, first - 1, ls->base.stream->label),
				 errdetail("They were processed by all pipelines that had a view or sink on the stream then.")));
}

static void
socket_load(SxSource *source, Snapshot snapshot)
{
	LogSource  *ls = (LogSource *) source;
	SxPart	   *part = &source->parts[0];
	char		text[64];

	/* Where poll saw nothing there may be records by now, but no batch for them. */
	if (ls->loaded || !ls->has_rows)
		return;

	/* A load that failed half-way has left its records behind. */
	forget_batch(ls);
	ls->behind = sx_socket_log_read(ls->log, snapshot, ls->at,
									source->limited ? ls->limit : PG_INT64_MAX,
									ls->req.max_rows, ls->req.max_bytes, ls->buffer);
	warn_of_gap(ls);
	part->lag = sx_socket_log_end(ls->log, snapshot, ls->behind) - ls->behind;
	snprintf(text, sizeof(text), "{\"seq\": " INT64_FORMAT "}", ls->behind);
	sx_part_set(source, &part->new_position, text);
	snprintf(text, sizeof(text), "{\"seq\": " INT64_FORMAT "}", ls->behind + part->lag);
	sx_part_set(source, &part->end, text);
	show_records(ls);
	ls->loaded = true;
}

static void
socket_committed(SxSource *source)
{
	LogSource  *ls = (LogSource *) source;

	if (ls->loaded)
	{
		ls->at = ls->behind;
		ls->has_position = true;
	}
	ls->loaded = false;
	forget_batch(ls);
	sx_part_committed(&source->parts[0]);
}

/* ------------------------------------------------------------- the other ops */

/* Relations are open only within a call; the rest is memory. */
static void
socket_close(SxSource *source)
{
}

static long
socket_wait(SxSource *source, int *fd)
{
	LogSource  *ls = (LogSource *) source;

	*fd = -1;
	return ls->loaded ? 0 : POLL_INTERVAL_MS;
}

/* Has all been processed that was in the log at the first call? */
static bool
socket_reached_end(SxSource *source)
{
	LogSource  *ls = (LogSource *) source;

	if (ls->loaded)
		return false;
	if (ls->goal < 0)
		ls->goal = log_end(ls);
	if (ls->at < ls->goal)
		return false;
	ls->goal = -1;
	return true;
}

/* What some pipeline that reads the stream has not processed yet. */
static void
socket_peek(SxSource *source)
{
	LogSource  *ls = (LogSource *) source;
	SxLogReaders readers;

	sx_socket_log_readers(source->stream, &readers);
	(void) sx_socket_log_read(ls->log, GetActiveSnapshot(), readers.done, PG_INT64_MAX, 0, 0,
							  ls->buffer);
	show_records(ls);
}

/* -------------------------------------------------------------------- lanes */

static bool
socket_lane_start(SxStream *stream, SxLaneStart *start)
{
	int64		first;

	if (!sx_stream_option_bool(stream, "durable", true))
	{
		start->missing = psprintf("What %s has received is not kept: it has durable = off.",
								  stream->label);
		return false;
	}
	first = sx_socket_log_start(sx_log_table_of(stream), GetActiveSnapshot(),
								sx_position_int(start->shared, "seq", 0) + 1);
	start->position = psprintf("{\"seq\": " INT64_FORMAT "}", first - 1);
	if (first > 1)
		start->missing = psprintf("The log of %s begins with record " INT64_FORMAT
								  "; those before it were processed and deleted.",
								  stream->label, first);
	return true;
}

static void
socket_limit(SxSource *source, int pipeline, const SxPart *parts, int nparts)
{
	LogSource  *ls = (LogSource *) source;
	int64		limit = nparts > 0 ? sx_position_int(parts[0].position, "seq", 0) : 0;

	if (!source->limited || limit != ls->limit)
		ls->looked = 0;
	ls->limit = limit;
	source->limited = true;
}

static bool
socket_at_limit(SxSource *source)
{
	LogSource  *ls = (LogSource *) source;

	return (ls->loaded ? ls->behind : ls->at) == ls->limit;
}

const SxSourceOps sx_source_socket = {
	.connector = "socket",
	.open = socket_open,
	.poll = socket_poll,
	.load = socket_load,
	.committed = socket_committed,
	.close = socket_close,
	.wait = socket_wait,
	.reached_end = socket_reached_end,
	.peek = socket_peek,
	.check = sx_socket_check,
	.created = sx_socket_log_create,
	.lane_start = socket_lane_start,
	.limit = socket_limit,
	.at_limit = socket_at_limit
};
