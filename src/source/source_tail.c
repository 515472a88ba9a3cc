/*-------------------------------------------------------------------------
 *
 * source_tail.c
 *		The connector 'file' with tail = on: a single growing file.
 *
 * file_tail.c knows which file is to be read and where it goes on, file_reader.c cuts it
 * into records.  A record is complete when its end is there; the last line of a file
 * that was rotated is a record without, too.
 *
 * poll() reads what is there into the buffer, up to the limits of a batch, and load()
 * freezes it.  So a load that is repeated has nothing to do, and a file that was rotated or
 * truncated meanwhile does not matter.  A batch has records of one file only.
 *
 * The position:
 *
 *		{"inode": i, "device": d, "offset": bytes, "check": CRC of the bytes before it,
 *		 "since": microseconds, "done": "inode:offset:crc …",	which rotated files were read
 *		 "losses": how often data was lost}
 *
 * It is committed with the records, and by itself (SX_POLL_POSITION) when the file at
 * hand is another one: what was there before might be deleted.
 *
 * The offset of a record is its first byte, the topic the name of the file as the path
 * has it, whatever it is called by now.
 *
 * There is no notification: two stat() and a read of 256 bytes every POLL_MS find out
 * what is new, outside of any transaction, on any file system.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "source/file_options.h"
#include "source/file_reader.h"
#include "source/file_tail.h"
#include "source/source_tail.h"
#include "utils/memutils.h"

#define POLL_MS			200
#define MISSING_MS		1000	/* while there is no file */
#define UNSETTLED_MS	20		/* while the folder is just changing */
#define UNSETTLED_TRIES	250		/* of a step() */

typedef struct TailSource
{
	SxSource	base;
	SxTail		tail;
	SxRecordBuffer *buffer;
	MemoryContext scratch;		/* of a poll */

	/* from poll */
	SxTailState state;
	bool		moved;			/* to another file, not committed yet */
	bool		more;			/* the batch's limits have ended the reading */
	bool		unsettled;		/* there is a next file, not known which */
	uint64		partial_inode;	/* this file has no more … */
	int64		partial_size;	/* … whole record at this size */
	int64		fruitless;		/* polls that found nothing */

	bool		loaded;

	/* reached_end: what was there when it was asked */
	bool		asked;
	bool		passed;			/* the file of then is done */
	uint64		goal_inode;
	int64		goal_size;
	int64		asked_at;		/* fruitless polls until then */

	SxTailPosition limit;		/* of a lane */
} TailSource;

static const SxSourceOps tail_ops;

SxSource *
sx_tail_open(SxStream *stream, int pipeline, SxPart *parts, int nparts)
{
	TailSource *ts;

	sx_file_check_rights(stream);
	ts = (TailSource *) sx_source_create(sizeof(TailSource), &tail_ops, stream,
										 pipeline, parts, nparts);
	sx_tail_init(&ts->tail, stream, ts->base.parts[0].position);
	ts->base.parts[0].topic = pstrdup(ts->tail.name);
	ts->buffer = sx_record_buffer_create();
	ts->scratch = AllocSetContextCreate(CurrentMemoryContext, "streamext tail poll",
										ALLOCSET_DEFAULT_SIZES);
	return &ts->base;
}

static void
tail_close(SxSource *source)
{
	sx_tail_close(&((TailSource *) source)->tail);
}

/* --------------------------------------------------------------------- poll */

/* How much of the file at hand the other pipeline has read; final: and will not any more. */
static int64
allowed_size(const TailSource *ts, bool *final)
{
	const SxTailPosition *limit = &ts->limit;
	uint64		inode = ts->tail.at.mark.inode;

	*final = inode != limit->mark.inode;
	if (!*final)
		return limit->mark.offset;
	for (int i = 0; i < limit->ndone; i++)
	{
		if (limit->done[i].inode == inode)
			return limit->done[i].offset;
	}
	/* it forgets the oldest ones */
	*final = limit->ndone == SX_TAIL_DONE;
	return *final ? PG_INT64_MAX : 0;
}

/* A lane's: records end where the other pipeline has stopped reading. */
static void
limit_state(TailSource *ts, SxFilePosition *position)
{
	bool		final;

	if (!ts->base.limited)
		return;
	position->size = Min(position->size, allowed_size(ts, &final));
	ts->state = final && ts->state != SX_TAIL_WAIT ? SX_TAIL_FINAL : SX_TAIL_GROWS;
}

static void
read_records(TailSource *ts, int64 max_rows, int64 max_bytes)
{
	SxTail	   *tail = &ts->tail;
	SxTailMark *mark = &tail->at.mark;
	SxFilePosition position = {.offset = mark->offset, .size = tail->st.st_size};
	SxFileResult result;
	bool		final;

	ts->more = false;
	limit_state(ts, &position);
	final = ts->state == SX_TAIL_FINAL || ts->base.limited;
	if (position.offset >= position.size ||
		(!final && ts->partial_inode == mark->inode && ts->partial_size == position.size))
		return;
	result = sx_file_cut(ts->base.stream, tail->fd, tail->path, &position, ts->buffer,
						 max_rows, max_bytes,
						 SX_FILE_BYTE_OFFSETS | (final ? 0 : SX_FILE_GROWING));
	ts->more = result == SX_FILE_MORE;
	if (position.offset != mark->offset)
	{
		mark->offset = position.offset;
		sx_tail_mark(tail);
	}
	if (result == SX_FILE_ENDED && position.offset < position.size)
	{
		ts->partial_inode = mark->inode;
		ts->partial_size = position.size;
	}
}

/* From a file that was read to its end to the next one. */
static bool
go_on(TailSource *ts)
{
	uint64		inode = ts->tail.at.mark.inode;

	ts->unsettled = !sx_tail_next(&ts->tail);
	if (ts->unsettled)
		return false;
	ts->moved = true;
	ts->partial_inode = 0;
	if (ts->asked && inode == ts->goal_inode)
		ts->passed = true;
	return true;
}

/* Reads until there is something, or all was seen. */
static void
look_and_read(TailSource *ts, const SxPollRequest *req)
{
	int			tries = req->to_end ? UNSETTLED_TRIES : 0;

	ts->unsettled = false;
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		ts->state = sx_tail_look(&ts->tail, &ts->moved);
		if (ts->state == SX_TAIL_WAIT)
		{
			ts->unsettled = ts->tail.moving_since != 0;
			if (!ts->unsettled || tries-- <= 0)
				break;
			sx_nap(UNSETTLED_MS);
			continue;
		}
		read_records(ts, req->max_rows, req->max_bytes);
		if (ts->state != SX_TAIL_FINAL || ts->buffer->nrecords > 0 || ts->more)
			break;
		if (go_on(ts))
			continue;
		if (tries-- <= 0)
			break;
		sx_nap(UNSETTLED_MS);
	}
}

static SxPollResult
tail_poll(SxSource *source, const SxPollRequest *req)
{
	TailSource *ts = (TailSource *) source;
	MemoryContext old;

	if (ts->loaded)
		return SX_POLL_DATA;
	MemoryContextReset(ts->scratch);
	old = MemoryContextSwitchTo(ts->scratch);
	look_and_read(ts, req);
	MemoryContextSwitchTo(old);

	source->status = ts->tail.status[0] != '\0' ? ts->tail.status : NULL;
	source->parts[0].lag = ts->state == SX_TAIL_GROWS && !ts->more ? 0 : -1;
	if (ts->buffer->nrecords > 0)
		return SX_POLL_DATA;
	if (ts->moved)
		return SX_POLL_POSITION;
	if (!ts->unsettled && !ts->more)
		ts->fruitless++;
	return SX_POLL_NOTHING;
}

static long
tail_wait(SxSource *source, int *fd)
{
	TailSource *ts = (TailSource *) source;

	*fd = -1;
	if (ts->more)
		return 0;
	if (ts->unsettled)
		return UNSETTLED_MS;
	return ts->state == SX_TAIL_WAIT ? MISSING_MS : POLL_MS;
}

/* --------------------------------------------------------------------- load */

static void
set_position(TailSource *ts)
{
	SxPart	   *part = &ts->base.parts[0];
	char	   *text = sx_tail_position_text(&ts->tail.at);
	char	   *end = psprintf("{\"inode\": " UINT64_FORMAT ", \"size\": " INT64_FORMAT "}",
							   ts->tail.at.mark.inode, (int64) ts->tail.st.st_size);

	sx_part_set(&ts->base, &part->new_position, text);
	sx_part_set(&ts->base, &part->end, end);
	pfree(text);
	pfree(end);
}

static void
tail_load(SxSource *source, Snapshot snapshot)
{
	TailSource *ts = (TailSource *) source;

	if (ts->buffer->nrecords > 0 || ts->moved)
		set_position(ts);
	sx_source_show(source, ts->buffer);
	source->parts[0].rows = ts->buffer->nrecords;
	ts->loaded = true;
}

static void
tail_committed(SxSource *source)
{
	TailSource *ts = (TailSource *) source;

	sx_record_buffer_reset(ts->buffer);
	source->records = NULL;
	source->nrecords = 0;
	source->nbytes = 0;
	ts->loaded = false;
	ts->moved = false;
	sx_part_committed(&source->parts[0]);
}

/* ------------------------------------------------------------- the other ops */

static void
note_goal(TailSource *ts)
{
	struct stat st;
	bool		exists = stat(ts->tail.path, &st) == 0;

	ts->asked = true;
	ts->passed = false;
	ts->goal_inode = exists ? st.st_ino : 0;
	ts->goal_size = exists ? st.st_size : 0;
	ts->asked_at = ts->fruitless;
}

static bool
tail_reached_end(SxSource *source)
{
	TailSource *ts = (TailSource *) source;
	const SxTailMark *mark = &ts->tail.at.mark;

	if (!ts->asked)
		note_goal(ts);
	if (ts->loaded || ts->buffer->nrecords > 0 || ts->moved)
		return false;
	if (ts->fruitless == ts->asked_at && !ts->passed &&
		(mark->inode != ts->goal_inode || mark->offset < ts->goal_size))
		return false;
	ts->asked = false;
	return true;
}

/* What the path has now, not what was rotated. */
static void
tail_peek(SxSource *source)
{
	TailSource *ts = (TailSource *) source;
	bool		moved = false;

	ts->state = sx_tail_look(&ts->tail, &moved);
	if (ts->state != SX_TAIL_WAIT)
		read_records(ts, 0, 0);
	sx_source_show(source, ts->buffer);
}

/* -------------------------------------------------------------------- lanes */

/* From the start of the file that the other pipeline is in. */
bool
sx_tail_lane_start(SxStream *stream, SxLaneStart *start)
{
	SxTailPosition at = {0};

	sx_tail_position_parse(&at, start->shared);
	if (at.ndone > 0)
		start->missing = psprintf("%s has read files that were rotated since; the lane begins with the present one.",
								  stream->label);
	at.mark.offset = 0;
	at.mark.check = 0;
	start->position = sx_tail_position_text(&at);
	return true;
}

static void
tail_limit(SxSource *source, int pipeline, const SxPart *parts, int nparts)
{
	TailSource *ts = (TailSource *) source;
	int64		before = ts->limit.mark.offset;

	memset(&ts->limit, 0, sizeof(SxTailPosition));
	sx_tail_position_parse(&ts->limit, nparts > 0 ? parts[0].position : NULL);
	if (before != ts->limit.mark.offset)
		ts->partial_inode = 0;
	source->limited = true;
}

/* What was polled is in the buffer, and the position behind it. */
static bool
tail_at_limit(SxSource *source)
{
	TailSource *ts = (TailSource *) source;
	const SxTailMark *mark = &ts->tail.at.mark;

	return (ts->loaded || ts->buffer->nrecords == 0) &&
		mark->inode == ts->limit.mark.inode && mark->offset == ts->limit.mark.offset;
}

static const SxSourceOps tail_ops = {
	.connector = "file",
	.open = sx_tail_open,
	.poll = tail_poll,
	.load = tail_load,
	.committed = tail_committed,
	.close = tail_close,
	.wait = tail_wait,
	.reached_end = tail_reached_end,
	.peek = tail_peek,
	.check = sx_file_check,
	.lane_start = sx_tail_lane_start,
	.limit = tail_limit,
	.at_limit = tail_at_limit
};
