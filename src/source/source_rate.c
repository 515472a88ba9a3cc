/*-------------------------------------------------------------------------
 *
 * source_rate.c
 *		The connector 'rate': numbered rows at a given pace, without any input.
 *
 * The columns are value bigint, from 0, and "timestamp" timestamptz.  What a batch
 * holds follows from the committed position and the time of the batch alone:
 *
 *	rows_per_second	(default 1) value v is due when (v + 1) / rate seconds have
 *				passed since the start, and has the time start + v / rate; a batch
 *				takes what is due and was not taken.  The start is the time of the
 *				first poll; it is committed by a transaction of its own before there
 *				is any row.  The position is {"value": next value, "from": v0,
 *				"start": time of v0, "rate": r}; when the option changes, the count
 *				starts anew at the next value.
 *	rows_per_batch	every batch has so many rows, all with the batch's time, as in
 *				Spark's rate-micro-batch; {"value": next value, "time": of the batch}.
 *
 * Rows have no bytes.  Their records are one array, made once and numbered anew for
 * each batch.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "source/source.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MAX_RATE		INT64CONST(1000000000)
#define BYTES_PER_ROW	16
#define MAX_WAIT_MS		1000

typedef struct RateSource
{
	SxSource	base;
	AttrNumber	value_attno;	/* 0: not declared */
	AttrNumber	time_attno;
	int64		per_batch;		/* 0: by rate */
	int64		rate;

	/* committed, or fixed by the first poll */
	int64		next;			/* value of the next row */
	int64		from;
	TimestampTz start;			/* DT_NOBEGIN: not polled yet */

	/* the batch */
	TimestampTz now;
	int64		nrows;
	bool		loaded;

	int64		goal;			/* of reached_end; -1: none */
	int64		limit;			/* of a lane: this value and higher ones are not read */
	const char *limit_position; /* NULL: the other pipeline has not begun */
	SxRecord   *block;
	int			capacity;		/* of block and base.records */
} RateSource;

/* ------------------------------------------------------------------ options */

static void
check_columns(RateSource *rs)
{
	SxStream   *stream = rs->base.stream;

	for (int i = 0; i < stream->natts; i++)
	{
		SxColumn   *column = &stream->columns[i];

		if (column->dropped || column->metadata != SX_META_NONE)
			continue;
		if (strcmp(column->name, "value") == 0 && column->type == INT8OID)
			rs->value_attno = column->attno;
		else if (strcmp(column->name, "timestamp") == 0 && column->type == TIMESTAMPTZOID)
			rs->time_attno = column->attno;
		else
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
					 errmsg("connector \"rate\" of stream %s has no column \"%s\" of type %s",
							stream->label, column->name, format_type_be(column->type)),
					 errhint("Declare the stream with (value bigint, \"timestamp\" timestamptz) and make other columns of them in a derived stream: CREATE STREAM … AS SELECT.")));
	}
}

static int64
positive_option(SxStream *stream, const char *name, int64 dflt)
{
	int64		value = sx_stream_option_int(stream, name, dflt);

	if (sx_stream_option(stream, name, NULL) != NULL && (value < 1 || value > MAX_RATE))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" of stream %s must be between 1 and " INT64_FORMAT,
						name, stream->label, MAX_RATE)));
	return value;
}

static void
read_options(RateSource *rs)
{
	SxStream   *stream = rs->base.stream;

	if (sx_stream_option(stream, "rows_per_second", NULL) != NULL &&
		sx_stream_option(stream, "rows_per_batch", NULL) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stream %s has both rows_per_second and rows_per_batch",
						stream->label),
				 errhint("Keep one of them.")));
	rs->per_batch = positive_option(stream, "rows_per_batch", 0);
	rs->rate = positive_option(stream, "rows_per_second", 1);
}

/* ---------------------------------------------------------------- positions */

static TimestampTz
position_time(const char *position, const char *field)
{
	char	   *text = sx_position_field(position, field);

	if (text == NULL)
		return DT_NOBEGIN;
	return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in,
												   CStringGetDatum(text),
												   ObjectIdGetDatum(InvalidOid),
												   Int32GetDatum(-1)));
}

/* Goes on at the pace that a position was made at. */
static void
adopt_pace(RateSource *rs, const char *position)
{
	rs->from = sx_position_int(position, "from", 0);
	rs->rate = sx_position_int(position, "rate", 1);
	rs->start = position_time(position, "start");
}

static void
read_position(RateSource *rs)
{
	const char *position = rs->base.parts[0].position;

	rs->start = DT_NOBEGIN;
	rs->next = sx_position_int(position, "value", 0);
	if (rs->per_batch > 0)
		return;

	/* At another rate the old start means nothing: the next poll makes a new one. */
	rs->from = rs->next;
	if (sx_position_int(position, "rate", 0) == rs->rate)
	{
		rs->from = sx_position_int(position, "from", 0);
		rs->start = position_time(position, "start");
	}
}

static char *
iso_time(TimestampTz time, char *buf)
{
	int			utc = 0;

	return JsonEncodeDateTime(buf, TimestampTzGetDatum(time), TIMESTAMPTZOID, &utc);
}

/* The position behind the batch. */
static void
set_new_position(RateSource *rs)
{
	char		time[MAXDATELEN + 1];
	char		text[256];
	int64		next = rs->next + rs->nrows;

	if (rs->per_batch > 0)
		snprintf(text, sizeof(text),
				 "{\"value\": " INT64_FORMAT ", \"time\": \"%s\"}",
				 next, iso_time(rs->now, time));
	else
		snprintf(text, sizeof(text),
				 "{\"value\": " INT64_FORMAT ", \"from\": " INT64_FORMAT
				 ", \"start\": \"%s\", \"rate\": " INT64_FORMAT "}",
				 next, rs->from, iso_time(rs->start, time), rs->rate);
	sx_part_set(&rs->base, &rs->base.parts[0].new_position, text);
}

/* --------------------------------------------------------------------- time */

/* The first value that is not due yet.  Seconds apart, against overflow. */
static int64
due_before(const RateSource *rs, TimestampTz now)
{
	int64		elapsed = now - rs->start;

	if (elapsed <= 0)
		return rs->from;
	return rs->from + elapsed / USECS_PER_SEC * rs->rate +
		elapsed % USECS_PER_SEC * rs->rate / USECS_PER_SEC;
}

static TimestampTz
time_of(const RateSource *rs, int64 value)
{
	int64		n = value - rs->from;

	if (rs->per_batch > 0)
		return rs->now;
	return rs->start + n / rs->rate * USECS_PER_SEC +
		n % rs->rate * USECS_PER_SEC / rs->rate;
}

/* ------------------------------------------------------------------ the ops */

static void
rate_get_row(SxSource *source, int i, Datum *values, bool *isnull)
{
	RateSource *rs = (RateSource *) source;
	int64		value = rs->block[i].offset;

	if (rs->value_attno > 0)
	{
		values[rs->value_attno - 1] = Int64GetDatum(value);
		isnull[rs->value_attno - 1] = false;
	}
	if (rs->time_attno > 0)
	{
		values[rs->time_attno - 1] = TimestampTzGetDatum(time_of(rs, value));
		isnull[rs->time_attno - 1] = false;
	}
}

static void
rate_check(SxStream *stream)
{
	RateSource	scratch = {.base.stream = stream};

	check_columns(&scratch);
	read_options(&scratch);
}

static SxSource *
rate_open(SxStream *stream, int pipeline, SxPart *parts, int nparts)
{
	RateSource *rs = (RateSource *)
		sx_source_create(sizeof(RateSource), &sx_source_rate, stream, pipeline,
						 parts, nparts);

	rs->goal = -1;
	check_columns(rs);
	read_options(rs);
	read_position(rs);
	rs->base.get_row = rate_get_row;
	return &rs->base;
}

/*
 * A lane makes the rows of another pipeline again, so it goes by that one's positions: its
 * start, and, once it gets there, the pace at which that one went on when the option was
 * changed.  Rows per batch get the time of the lane's batches.
 */
static int64
allowed_before_limit(RateSource *rs)
{
	int64		stop = rs->limit;

	if (rs->limit_position == NULL)
		return 0;
	if (rs->per_batch == 0)
	{
		int64		pace_from = sx_position_int(rs->limit_position, "from", 0);

		if (rs->next == pace_from)
			adopt_pace(rs, rs->limit_position);
		else if (rs->next < pace_from)
			stop = Min(stop, pace_from);
	}
	return Max(stop - rs->next, 0);
}

static SxPollResult
poll_limited(RateSource *rs, const SxPollRequest *req)
{
	int64		most = rs->per_batch > 0 ? rs->per_batch : Max(req->max_rows, 1);

	rs->nrows = Min(allowed_before_limit(rs), most);
	rs->base.parts[0].lag = Max(rs->limit - rs->next - rs->nrows, 0);
	return rs->nrows > 0 ? SX_POLL_DATA : SX_POLL_NOTHING;
}

static SxPollResult
rate_poll(SxSource *source, const SxPollRequest *req)
{
	RateSource *rs = (RateSource *) source;
	int64		due;
	char		end[64];

	if (rs->loaded)
		return SX_POLL_DATA;
	rs->now = req->now;
	if (source->limited)
		return poll_limited(rs, req);
	if (rs->per_batch > 0)
	{
		rs->nrows = rs->per_batch;
		return SX_POLL_DATA;
	}

	rs->nrows = 0;
	if (TIMESTAMP_IS_NOBEGIN(rs->start))
	{
		rs->start = req->now;
		set_new_position(rs);
	}
	due = due_before(rs, req->now);
	if (due > rs->next)
		rs->nrows = Min(due - rs->next, Max(req->max_rows, 1));
	if (rs->nrows > 0)
	{
		source->parts[0].lag = due - rs->next - rs->nrows;
		snprintf(end, sizeof(end), "{\"value\": " INT64_FORMAT "}", due);
		sx_part_set(source, &source->parts[0].end, end);
		return SX_POLL_DATA;
	}
	return source->parts[0].new_position ? SX_POLL_POSITION : SX_POLL_NOTHING;
}

/* Room for n records; what is the same in every batch is written here. */
static void
reserve(RateSource *rs, int n)
{
	SxSource   *source = &rs->base;

	if (n <= rs->capacity)
		return;
	if (rs->block != NULL)
	{
		pfree(rs->block);
		pfree(source->records);
	}
	rs->capacity = 0;
	rs->block = MemoryContextAllocHuge(source->context,
									   sizeof(SxRecord) * n + SX_RECORD_SLACK);
	source->records = MemoryContextAllocHuge(source->context, sizeof(SxRecord *) * n);
	memset(rs->block, 0, sizeof(SxRecord) * n);
	for (int i = 0; i < n; i++)
	{
		SxRecord   *rec = &rs->block[i];

		rec->size = sizeof(SxRecord);
		rec->kind = SX_RECORD_DATA;
		rec->has_timestamp = true;
		rec->value_len = -1;
		rec->key_len = -1;
		source->records[i] = rec;
	}
	rs->capacity = n;
}

static void
rate_load(SxSource *source, Snapshot snapshot)
{
	RateSource *rs = (RateSource *) source;

	if (rs->loaded)
		return;
	reserve(rs, (int) rs->nrows);
	for (int i = 0; i < rs->nrows; i++)
	{
		rs->block[i].offset = rs->next + i;
		rs->block[i].timestamp = sx_unix_ms(time_of(rs, rs->next + i));
	}
	source->nrecords = (int) rs->nrows;
	source->nbytes = rs->nrows * BYTES_PER_ROW;
	source->parts[0].rows = rs->nrows;
	if (rs->nrows > 0)
		set_new_position(rs);
	rs->loaded = true;
}

static void
rate_committed(SxSource *source)
{
	RateSource *rs = (RateSource *) source;

	rs->next += rs->nrows;
	rs->nrows = 0;
	rs->loaded = false;
	source->nrecords = 0;
	source->nbytes = 0;
	sx_part_committed(&source->parts[0]);
}

static void
rate_close(SxSource *source)
{
	/* All of it is memory, which goes with its context. */
}

static long
rate_wait(SxSource *source, int *fd)
{
	RateSource *rs = (RateSource *) source;
	int64		due_in;

	*fd = -1;
	if (source->limited)
		return rs->loaded ? 0 : MAX_WAIT_MS;
	if (rs->per_batch > 0 || rs->loaded || TIMESTAMP_IS_NOBEGIN(rs->start))
		return 0;

	/* Value v is due where v + 1 would be dated; a microsecond for the rounding. */
	due_in = time_of(rs, rs->next + 1) + 1 - GetCurrentTimestamp();
	if (due_in <= 0)
		return 0;
	return (long) Min((due_in + 999) / 1000, MAX_WAIT_MS);
}

static bool
rate_reached_end(SxSource *source)
{
	RateSource *rs = (RateSource *) source;

	if (rs->goal < 0)
	{
		if (rs->per_batch > 0)
			rs->goal = rs->next + rs->per_batch;
		else
			rs->goal = TIMESTAMP_IS_NOBEGIN(rs->start) ? rs->next :
				due_before(rs, GetCurrentTimestamp());
	}
	if (rs->next < rs->goal)
		return false;
	rs->goal = -1;
	return true;
}

/* What is due now, had the stream just begun: rows_per_second or rows_per_batch. */
static void
rate_peek(SxSource *source)
{
	RateSource *rs = (RateSource *) source;

	rs->now = GetCurrentTimestamp();
	rs->start = rs->now;
	rs->nrows = rs->per_batch > 0 ? rs->per_batch : rs->rate;
	rate_load(source, NULL);
}

/* -------------------------------------------------------------------- lanes */

static bool
rate_lane_start(SxStream *stream, SxLaneStart *start)
{
	int64		from = sx_position_int(start->shared, "from", 0);

	if (sx_stream_option(stream, "rows_per_batch", NULL) != NULL)
		start->missing = psprintf("The values of %s are made again, with the times of other batches.",
								  stream->label);
	else if (from > 0)
	{
		start->missing = psprintf("The rows of %s before value " INT64_FORMAT " were made at another rate.",
								  stream->label, from);
		start->position = psprintf("{\"value\": " INT64_FORMAT ", \"from\": " INT64_FORMAT
								   ", \"start\": \"%s\", \"rate\": " INT64_FORMAT "}",
								   from, from, sx_position_field(start->shared, "start"),
								   sx_position_int(start->shared, "rate", 1));
	}
	return true;
}

static void
rate_limit(SxSource *source, int pipeline, const SxPart *parts, int nparts)
{
	RateSource *rs = (RateSource *) source;
	const char *own = source->parts[0].position;

	sx_part_set(source, unconstify(char **, &rs->limit_position),
				nparts > 0 ? parts[0].position : NULL);
	rs->limit = sx_position_int(rs->limit_position, "value", 0);

	/* What the option says by now is not what these rows were made at. */
	if (!source->limited && rs->per_batch == 0 && sx_position_field(own, "start") != NULL)
		adopt_pace(rs, own);
	source->limited = true;
}

static bool
rate_at_limit(SxSource *source)
{
	RateSource *rs = (RateSource *) source;

	return rs->next + (rs->loaded ? rs->nrows : 0) == rs->limit;
}

const SxSourceOps sx_source_rate = {
	.connector = "rate",
	.open = rate_open,
	.poll = rate_poll,
	.load = rate_load,
	.committed = rate_committed,
	.close = rate_close,
	.wait = rate_wait,
	.reached_end = rate_reached_end,
	.peek = rate_peek,
	.check = rate_check,
	.dead_value = sx_row_dead_value,
	.lane_start = rate_lane_start,
	.limit = rate_limit,
	.at_limit = rate_at_limit
};
