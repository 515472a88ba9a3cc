/*-------------------------------------------------------------------------
 *
 * source_socket_direct.c
 *		The connector 'socket' with durable = off: no log, no receiver.
 *
 * Whoever holds the pipeline is the client and reads what is there when it polls.  At
 * most once: what was received and not committed is lost with the process, and what
 * comes while nobody is connected is the peer's matter.  The position is nothing but a
 * count of the records so far, {"seq": n}.
 *
 * What has been received waits in one buffer, which becomes the batch; while it is
 * one, nothing is read.  It holds a batch's rows and bytes at most, so the peer is
 * held up by TCP.
 *
 * step() is a client for a moment: it connects, takes what comes until nothing has
 * come for QUIET_MS, and goes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "miscadmin.h"
#include "source/socket_client.h"
#include "source/source_socket.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#define QUIET_MS		300
#define TO_END_MS		5000
#define CONNECTING_MS	20		/* the worker cannot wait for a connection to come about */

typedef struct DirectSource
{
	SxSource	base;
	SxSocketClient *client;
	SxRecordBuffer *buffer;
	int64		count;			/* committed */
	bool		loaded;
	bool		asked;			/* reached_end: for the first time */
	int			goal;			/* … records that waited then */
} DirectSource;

static const SxSourceOps sx_source_socket_direct;

SxSource *
sx_socket_open_direct(SxStream *stream, int pipeline, SxPart *parts, int nparts)
{
	DirectSource *ds = (DirectSource *)
		sx_source_create(sizeof(DirectSource), &sx_source_socket_direct, stream, pipeline,
						 parts, nparts);

	ds->client = sx_socket_create(stream);
	ds->buffer = sx_record_buffer_create();
	ds->count = sx_position_int(ds->base.parts[0].position, "seq", 0);
	return &ds->base;
}

/* Dates and numbers what has just been received. */
static void
stamp_records(DirectSource *ds, int from)
{
	int64		now = sx_unix_ms(GetCurrentTimestamp());

	for (int i = from; i < ds->buffer->nrecords; i++)
	{
		SxRecord   *rec = ds->buffer->records[i];

		rec->offset = ds->count + 1 + i;
		rec->has_timestamp = true;
		rec->timestamp = now;
	}
}

static void
receive(DirectSource *ds, const SxPollRequest *req)
{
	int			before = ds->buffer->nrecords;

	if (sx_socket_connect(ds->client, GetCurrentTimestamp()))
		(void) sx_socket_read(ds->client, ds->buffer, (int) req->max_rows, req->max_bytes);
	stamp_records(ds, before);
	ds->base.status = ds->client->status[0] != '\0' ? ds->client->status : NULL;
}

/* For something to read, or to be connected. */
static void
wait_a_moment(const SxSocketClient *client, long ms)
{
	int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;

	if (client->state == SX_CONN_CLOSED)
		(void) WaitLatch(MyLatch, events, Min(ms, CONNECTING_MS),
						 SX_WAIT_EVENT("StreamextSocket"));
	else
		(void) WaitLatchOrSocket(MyLatch, events |
								 (client->state == SX_CONN_OPEN ? WL_SOCKET_READABLE :
								  WL_SOCKET_WRITEABLE),
								 client->fd, ms, SX_WAIT_EVENT("StreamextSocket"));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* step(): until the buffer is full, or the peer has been silent for a while. */
static void
receive_to_end(DirectSource *ds, const SxPollRequest *req)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until = TimestampTzPlusMilliseconds(now, TO_END_MS);
	TimestampTz quiet = until;

	for (;;)
	{
		int			before = ds->buffer->nrecords;

		receive(ds, req);
		now = GetCurrentTimestamp();
		if (ds->buffer->nrecords > before)
			quiet = TimestampTzPlusMilliseconds(now, QUIET_MS);
		else if (ds->client->state == SX_CONN_OPEN && quiet == until)
			quiet = Min(until, TimestampTzPlusMilliseconds(now, QUIET_MS));
		if (now >= until || now >= quiet || ds->buffer->nrecords >= req->max_rows ||
			ds->buffer->nbytes >= req->max_bytes)
			return;
		wait_a_moment(ds->client, TimestampDifferenceMilliseconds(now, Min(until, quiet)) + 1);
	}
}

static SxPollResult
direct_poll(SxSource *source, const SxPollRequest *req)
{
	DirectSource *ds = (DirectSource *) source;

	if (ds->loaded)
		return SX_POLL_DATA;
	if (req->to_end && ds->buffer->nrecords == 0)
		receive_to_end(ds, req);
	else
		receive(ds, req);
	source->parts[0].lag = 0;
	return ds->buffer->nrecords > 0 ? SX_POLL_DATA : SX_POLL_NOTHING;
}

static void
direct_load(SxSource *source, Snapshot snapshot)
{
	DirectSource *ds = (DirectSource *) source;
	char		text[64];

	if (ds->loaded)
		return;
	sx_source_show(source, ds->buffer);
	source->parts[0].rows = source->nrecords;
	if (source->nrecords > 0)
	{
		snprintf(text, sizeof(text), "{\"seq\": " INT64_FORMAT "}",
				 ds->count + source->nrecords);
		sx_part_set(source, &source->parts[0].new_position, text);
	}
	ds->loaded = true;
}

static void
direct_committed(SxSource *source)
{
	DirectSource *ds = (DirectSource *) source;

	if (ds->loaded)
	{
		ds->count += source->nrecords;
		ds->goal -= Min(ds->goal, source->nrecords);
		sx_record_buffer_reset(ds->buffer);
		source->records = NULL;
		source->nrecords = 0;
		source->nbytes = 0;
	}
	ds->loaded = false;
	sx_part_committed(&source->parts[0]);
}

static void
direct_close(SxSource *source)
{
	sx_socket_close(((DirectSource *) source)->client);
}

static long
direct_wait(SxSource *source, int *fd)
{
	DirectSource *ds = (DirectSource *) source;

	*fd = ds->client->state == SX_CONN_OPEN ? ds->client->fd : -1;
	if (ds->loaded || ds->buffer->nrecords > 0)
		return 0;
	if (ds->client->state == SX_CONN_CONNECTING)
		return CONNECTING_MS;
	return sx_socket_wait(ds->client, GetCurrentTimestamp());
}

/* What had been received at the first call; nobody knows what is on its way. */
static bool
direct_reached_end(SxSource *source)
{
	DirectSource *ds = (DirectSource *) source;

	if (!ds->asked)
		ds->goal = ds->buffer->nrecords;
	ds->asked = true;
	if (ds->goal > 0)
		return false;
	ds->asked = false;
	return true;
}

static void
direct_peek(SxSource *source)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("stream %s holds nothing outside a batch", source->stream->label),
			 errdetail("With durable = off its records go from the socket into a batch."),
			 errhint("Read a view or sink of it, or create the stream with durable = on.")));
}

static const SxSourceOps sx_source_socket_direct = {
	.connector = "socket",
	.open = sx_socket_open_direct,
	.poll = direct_poll,
	.load = direct_load,
	.committed = direct_committed,
	.close = direct_close,
	.wait = direct_wait,
	.reached_end = direct_reached_end,
	.peek = direct_peek
};
