/*-------------------------------------------------------------------------
 *
 * window.c
 *		tumble(), hop(), cumulate() and the test for late rows.
 *
 * A window holds the times [start, start + size).  Windows are aligned to an
 * origin, 1970-01-01 00:00 UTC unless given, as in Spark and Flink.  All of it is
 * arithmetic on int64 microseconds, so timestamp and timestamptz share the code and
 * no result depends on TimeZone: a size of '1 day' is 24 hours.  Months have no
 * fixed length; date_trunc() serves for them.
 *
 * on_time() stands in the maintenance SQL of windowed views, once per group and
 * batch.  It reads the boundary of the running step and counts what it turns away,
 * which is why it is volatile: the planner must neither move nor repeat it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "compat.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/date.h"
#include "utils/timestamp.h"

#include "state/window.h"
#include "worker/batch.h"

/* 1970-01-01 00:00 on the time line of PostgreSQL, which counts from 2000. */
#define DEFAULT_ORIGIN \
	(-(int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

PG_FUNCTION_INFO_V1(sx_tumble);
PG_FUNCTION_INFO_V1(sx_tumble_date);
PG_FUNCTION_INFO_V1(sx_hop);
PG_FUNCTION_INFO_V1(sx_cumulate);
PG_FUNCTION_INFO_V1(sx_on_time);
PG_FUNCTION_INFO_V1(sx_is_late);

int64
sx_window_usec(const Interval *interval, const char *what)
{
	int64		days;
	int64		usec;

	if (interval->month != 0 || INTERVAL_NOT_FINITE(interval))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a window must have a fixed length", what),
				 errhint("Months and years vary: use date_trunc('month', …) for calendar windows.")));
	if (pg_mul_s64_overflow(interval->day, USECS_PER_DAY, &days) ||
		pg_add_s64_overflow(days, interval->time, &usec))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("interval out of range")));
	if (usec <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a window must be greater than zero", what)));
	return usec;
}

void
sx_hop_check(int64 slide, int64 size)
{
	if (slide > size)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("slide of a hopping window must not be larger than its size"),
				 errhint("hop(ts, slide, size) takes the slide first; rows between two windows would be lost.")));
}

void
sx_cumulate_check(int64 step, int64 size)
{
	if (step > size || size % step != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("size of a cumulating window must be a multiple of its step"),
				 errhint("cumulate(ts, step, size) takes the step first, for example cumulate(ts, '1 hour', '1 day').")));
}

TimestampTz
sx_window_default_origin(void)
{
	return DEFAULT_ORIGIN;
}

/*
 * How far ts lies behind the start of its window.  Remainders are taken first, as
 * ts - origin may not fit.
 */
static int64
offset_in_window(int64 ts, int64 size, int64 origin)
{
	int64		rest = (ts % size - origin % size) % size;

	return rest < 0 ? rest + size : rest;
}

Timestamp
sx_window_start(Timestamp ts, int64 size, Timestamp origin)
{
	Timestamp	start;

	if (TIMESTAMP_NOT_FINITE(origin))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("origin of a window must be finite")));
	if (TIMESTAMP_NOT_FINITE(ts))
		return ts;
	if (pg_sub_s64_overflow(ts, offset_in_window(ts, size, origin), &start) ||
		!IS_VALID_TIMESTAMP(start))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return start;
}

/* tumble(ts, size [, origin]): timestamptz and timestamp */
Datum
sx_tumble(PG_FUNCTION_ARGS)
{
	Timestamp	ts = PG_GETARG_TIMESTAMP(0);
	int64		size = sx_window_usec(PG_GETARG_INTERVAL_P(1), "size");
	Timestamp	origin = PG_NARGS() > 2 ? PG_GETARG_TIMESTAMP(2) : DEFAULT_ORIGIN;

	PG_RETURN_TIMESTAMP(sx_window_start(ts, size, origin));
}

/* tumble(date, size) → timestamp, whatever the time zone */
Datum
sx_tumble_date(PG_FUNCTION_ARGS)
{
	DateADT		date = PG_GETARG_DATEADT(0);
	int64		size = sx_window_usec(PG_GETARG_INTERVAL_P(1), "size");

	PG_RETURN_TIMESTAMP(sx_window_start(date2timestamp_opt_overflow(date, NULL), size,
									 DEFAULT_ORIGIN));
}

/* The windows of one row still to be returned. */
typedef struct HopState
{
	Timestamp	next;
	int64		slide;
	int64		left;
} HopState;

static HopState *
hop_begin(FunctionCallInfo fcinfo)
{
	HopState   *state = palloc(sizeof(HopState));
	Timestamp	ts = PG_GETARG_TIMESTAMP(0);
	int64		slide = sx_window_usec(PG_GETARG_INTERVAL_P(1), "slide");
	int64		size = sx_window_usec(PG_GETARG_INTERVAL_P(2), "size");
	Timestamp	origin = PG_NARGS() > 3 ? PG_GETARG_TIMESTAMP(3) : DEFAULT_ORIGIN;
	Timestamp	last;

	sx_hop_check(slide, size);
	last = sx_window_start(ts, slide, origin);
	state->slide = slide;
	state->left = 1;
	state->next = last;
	if (!TIMESTAMP_NOT_FINITE(ts))
	{
		int64		earlier = (size - 1 - (ts - last)) / slide;

		state->left += earlier;
		if (pg_sub_s64_overflow(last, earlier * slide, &state->next) ||
			!IS_VALID_TIMESTAMP(state->next))
			ereport(ERROR,
					(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
					 errmsg("timestamp out of range")));
	}
	return state;
}

static HopState *cumulate_begin(FunctionCallInfo fcinfo);

/*
 * hop(ts, slide, size [, origin]): the starts of the windows that hold ts, oldest
 * first.  A NULL argument gives one NULL, so that such a row reaches on_time() and
 * is counted instead of vanishing.
 */
static Datum
next_window(FunctionCallInfo fcinfo, HopState *(*begin) (FunctionCallInfo fcinfo))
{
	FuncCallContext *funcctx;
	HopState   *state;
	Timestamp	start;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext old;
		bool		has_null = false;

		funcctx = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(funcctx->multi_call_memory_ctx);
		for (int i = 0; i < PG_NARGS(); i++)
			has_null |= PG_ARGISNULL(i);
		funcctx->user_fctx = has_null ? NULL : begin(fcinfo);
		MemoryContextSwitchTo(old);
	}

	funcctx = SRF_PERCALL_SETUP();
	state = funcctx->user_fctx;
	if (state == NULL)
	{
		if (funcctx->call_cntr == 0)
			SRF_RETURN_NEXT_NULL(funcctx);
		SRF_RETURN_DONE(funcctx);
	}
	if (state->left == 0)
		SRF_RETURN_DONE(funcctx);
	start = state->next;
	if (--state->left > 0)
		state->next += state->slide;
	SRF_RETURN_NEXT(funcctx, TimestampGetDatum(start));
}

Datum
sx_hop(PG_FUNCTION_ARGS)
{
	return next_window(fcinfo, hop_begin);
}

/* cumulate(ts, step, size [, origin]): the ends of the growing windows that hold ts */
Datum
sx_cumulate(PG_FUNCTION_ARGS)
{
	return next_window(fcinfo, cumulate_begin);
}

/* The ends of the windows: a step at a time, up to the end of the largest. */
static HopState *
cumulate_begin(FunctionCallInfo fcinfo)
{
	HopState   *state = palloc(sizeof(HopState));
	Timestamp	ts = PG_GETARG_TIMESTAMP(0);
	int64		step = sx_window_usec(PG_GETARG_INTERVAL_P(1), "step");
	int64		size = sx_window_usec(PG_GETARG_INTERVAL_P(2), "size");
	Timestamp	origin = PG_NARGS() > 3 ? PG_GETARG_TIMESTAMP(3) : DEFAULT_ORIGIN;
	Timestamp	start;
	Timestamp	last;

	sx_cumulate_check(step, size);
	start = sx_window_start(ts, size, origin);
	state->slide = step;
	state->left = 1;
	state->next = start;
	if (!TIMESTAMP_NOT_FINITE(ts))
	{
		int64		passed = (ts - start) / step;

		state->left = size / step - passed;
		if (pg_add_s64_overflow(start, size, &last) || !IS_VALID_TIMESTAMP(last))
			ereport(ERROR,
					(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
					 errmsg("timestamp out of range")));
		state->next = start + (passed + 1) * step;
	}
	return state;
}

/* Windows that end at or before this are closed for the step. */
static TimestampTz
late_boundary(const SxStep *step)
{
	const SxStepPlan *plan = step->plan;
	TimestampTz boundary;

	if (TIMESTAMP_NOT_FINITE(step->watermark))
		return DT_NOBEGIN;
	if (plan->late != SX_LATE_UPDATE)
		return step->watermark;
	if (plan->retention < 0 ||
		pg_sub_s64_overflow(step->watermark, plan->retention, &boundary))
		return DT_NOBEGIN;
	return boundary;
}

static SxStep *
running_step(void)
{
	if (sx_current == NULL || sx_current->running_step < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lateness is known inside a batch only"),
				 errhint("streamext.on_time() and streamext.is_late() belong to the maintenance of views.")));
	return &sx_current->steps[sx_current->running_step];
}

/*
 * on_time(window_end, rows): are these rows of one window in time for the running
 * step?  Times without zone are taken as UTC, as the watermark takes them.
 */
Datum
sx_on_time(PG_FUNCTION_ARGS)
{
	int64		rows = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT64(1);
	SxStep	   *step = running_step();

	if (PG_ARGISNULL(0))
	{
		step->null_time_rows += rows;
		PG_RETURN_BOOL(false);
	}
	if (PG_GETARG_TIMESTAMPTZ(0) <= late_boundary(step))
	{
		step->late_rows += rows;
		PG_RETURN_BOOL(false);
	}
	PG_RETURN_BOOL(true);
}

/* is_late(window_end): the same question, asked again without counting */
Datum
sx_is_late(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_GETARG_TIMESTAMPTZ(0) <= late_boundary(running_step()));
}
