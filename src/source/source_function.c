/*-------------------------------------------------------------------------
 *
 * source_function.c
 *		The connector 'function': rows that a function of the user's gives.
 *
 * The custom receiver: receiver.c has the contract, receiver_call.c the call.  A batch
 * is what one call gives.  It happens in poll, in a short transaction of its own (in
 * step() in the caller's); the rows are kept as tuples until their batch is committed,
 * so that a batch that is tried again has the very same.  The position is that of the
 * last row taken; when the function gives more than was asked for, the rest is left to
 * the next call.
 *
 * A function that gives no rows is called again after poll_interval, one that gave some
 * at once.  What it raises in poll is nobody's record: the worker tries again later,
 * from the committed position.
 *
 * Records are numbered for "offset", from 0; where the count stands is in the anchor.
 *
 * It is called as the stream's owner, whoever runs the pipeline or looks: nobody's rights
 * are lent to somebody else's function.
 *
 * An interactive SELECT calls the function with NULL for the position and shows what
 * the first batch of a new pipeline would have.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "source/receiver.h"
#include "source/source.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define PEEK_ROWS	INT64CONST(100000)
#define PEEK_BYTES	INT64CONST(16777216)

typedef struct FunctionSource
{
	SxSource	base;
	int64		poll_interval;	/* microseconds */
	TimestampTz call_at;		/* not before, when there were no rows */
	int64		next_row;		/* number of the first row that is not committed */

	/* the batch, or what will be one */
	MemoryContext batch;
	SxReceiver *receiver;
	SxReceived	rows;
	Datum	   *row_values;		/* of one row, while it is handed out */
	bool	   *row_isnull;
	bool		loaded;

	/* of reached_end */
	bool		end_wanted;
	bool		end_seen;		/* called since then, and there was nothing */
} FunctionSource;

static void
function_get_row(SxSource *source, int i, Datum *values, bool *isnull)
{
	FunctionSource *fs = (FunctionSource *) source;

	heap_deform_tuple(fs->rows.tuples[i], fs->receiver->desc, fs->row_values, fs->row_isnull);
	for (int a = 0; a < source->stream->natts; a++)
	{
		AttrNumber	attno = fs->receiver->columns[a];

		if (attno == 0)
			continue;
		values[a] = fs->row_values[attno - 1];
		isnull[a] = fs->row_isnull[attno - 1];
	}
}

static void
function_check(SxStream *stream)
{
	(void) sx_receiver_find(stream);
}

/* --------------------------------------------------------------------- open */

static SxSource *
function_open(SxStream *stream, int pipeline, SxPart *parts, int nparts)
{
	FunctionSource *fs = (FunctionSource *)
		sx_source_create(sizeof(FunctionSource), &sx_source_function, stream, pipeline,
						 parts, nparts);

	fs->poll_interval =
		sx_interval_option_usec("poll_interval",
								sx_stream_option(stream, "poll_interval", "1 second"));
	fs->call_at = DT_NOBEGIN;
	fs->next_row = sx_position_int(fs->base.parts[0].anchor, "next_row", 0);
	fs->batch = AllocSetContextCreate(CurrentMemoryContext, "streamext function batch",
									  ALLOCSET_DEFAULT_SIZES);
	fs->base.get_row = function_get_row;
	fs->base.check_rows = true;
	fs->base.retry_poll = true;
	return &fs->base;
}

/* --------------------------------------------------------------------- poll */

static void
forget_rows(FunctionSource *fs)
{
	MemoryContextReset(fs->batch);
	memset(&fs->rows, 0, sizeof(SxReceived));
	fs->base.records = NULL;
	fs->base.nrecords = 0;
	fs->base.nbytes = 0;
}

/* What a call from here gives, kept in fs->batch. */
static void
call_function(FunctionSource *fs, int64 max_rows, int64 max_bytes)
{
	SxStream   *stream = fs->base.stream;
	SxReceiveRequest request = {
		.user = stream->owner, .position = fs->base.parts[0].position,
		.max_rows = max_rows, .max_bytes = max_bytes
	};
	MemoryContext old;
	SxReceived	rows;

	forget_rows(fs);
	old = MemoryContextSwitchTo(fs->batch);
	fs->receiver = sx_receiver_find(stream);
	sx_receiver_call(stream, fs->receiver, &request, &rows);
	fs->rows = rows;
	fs->row_values = palloc(sizeof(Datum) * fs->receiver->desc->natts);
	fs->row_isnull = palloc(sizeof(bool) * fs->receiver->desc->natts);
	MemoryContextSwitchTo(old);
}

static SxPollResult
function_poll(SxSource *source, const SxPollRequest *req)
{
	FunctionSource *fs = (FunctionSource *) source;
	MemoryContext old = CurrentMemoryContext;
	bool		own = !IsTransactionState();

	if (fs->rows.n > 0)
		return SX_POLL_DATA;
	if (!req->to_end && (!fs->end_wanted || fs->end_seen) &&
		GetCurrentTimestamp() < fs->call_at)
		return SX_POLL_NOTHING;

	if (own)
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
	}
	call_function(fs, Max(req->max_rows, 1), Max(req->max_bytes, 1));
	if (own)
		CommitTransactionCommand();
	MemoryContextSwitchTo(old);

	if (fs->rows.n > 0)
		return SX_POLL_DATA;
	fs->call_at = GetCurrentTimestamp() + fs->poll_interval;
	fs->end_seen = fs->end_wanted;
	return SX_POLL_NOTHING;
}

/* -------------------------------------------------------------------- batch */

static void
make_records(FunctionSource *fs)
{
	SxSource   *source = &fs->base;
	int			n = fs->rows.n;
	SxRecord   *block = MemoryContextAllocHuge(fs->batch, sizeof(SxRecord) * Max(n, 1));

	source->records = MemoryContextAllocHuge(fs->batch, sizeof(SxRecord *) * Max(n, 1));
	memset(block, 0, sizeof(SxRecord) * n);
	for (int i = 0; i < n; i++)
	{
		block[i].size = sizeof(SxRecord);
		block[i].kind = SX_RECORD_DATA;
		block[i].value_len = -1;
		block[i].key_len = -1;
		block[i].offset = fs->next_row + i;
		source->records[i] = &block[i];
	}
	source->nrecords = n;
	source->nbytes = fs->rows.nbytes;
}

static void
function_load(SxSource *source, Snapshot snapshot)
{
	FunctionSource *fs = (FunctionSource *) source;
	SxPart	   *part = &source->parts[0];
	char		anchor[64];

	if (fs->loaded || fs->rows.n == 0)
		return;
	make_records(fs);
	snprintf(anchor, sizeof(anchor), "{\"next_row\": " INT64_FORMAT "}",
			 fs->next_row + fs->rows.n);
	sx_part_set(source, &part->anchor, anchor);
	sx_part_set(source, &part->new_position, fs->rows.position);
	part->rows = source->nrecords;
	fs->loaded = true;
}

static void
function_committed(SxSource *source)
{
	FunctionSource *fs = (FunctionSource *) source;

	fs->next_row += source->nrecords;
	fs->loaded = false;
	forget_rows(fs);
	sx_part_committed(&source->parts[0]);
}

/* ------------------------------------------------------------- the other ops */

static void
function_close(SxSource *source)
{
	/* All of it is memory, which goes with its context. */
}

static long
function_wait(SxSource *source, int *fd)
{
	FunctionSource *fs = (FunctionSource *) source;
	TimestampTz now = GetCurrentTimestamp();

	*fd = -1;
	if (fs->rows.n > 0 || fs->call_at <= now)
		return 0;
	return (long) ((fs->call_at - now + 999) / 1000);
}

/* Has the function, asked since the first call, given no rows? */
static bool
function_reached_end(SxSource *source)
{
	FunctionSource *fs = (FunctionSource *) source;

	if (fs->rows.n == 0 && fs->end_seen)
	{
		fs->end_wanted = fs->end_seen = false;
		return true;
	}
	fs->end_wanted = true;
	return false;
}

static void
function_peek(SxSource *source)
{
	FunctionSource *fs = (FunctionSource *) source;
	SxStream   *stream = source->stream;

	call_function(fs, sx_stream_option_int(stream, "max_batch_rows", PEEK_ROWS),
				  sx_stream_option_int(stream, "max_batch_bytes", PEEK_BYTES));
	make_records(fs);
}

const SxSourceOps sx_source_function = {
	.connector = "function",
	.open = function_open,
	.poll = function_poll,
	.load = function_load,
	.committed = function_committed,
	.close = function_close,
	.wait = function_wait,
	.reached_end = function_reached_end,
	.peek = function_peek,
	.check = function_check,
	.dead_value = sx_row_dead_value,
	.created = sx_receiver_bind,
	.restored = sx_receiver_bind_again
};
