/*-------------------------------------------------------------------------
 *
 * rate.c
 *		Back-pressure: the controller that a worker holds for its pipeline.
 *
 *		sx_rate_ready_at ──> sx_rate_allow ──> poll, batch ──> sx_rate_batch
 *		     max_rate            rows of each input                what it took
 *
 * Three limits stand beside max_batch_rows, and the lowest holds:
 *
 *	adaptive	(backpressure = 'adaptive', the default) the rows that fit into
 *				target_latency, else batch_interval, else a second (rate_adaptive.c).
 *				Not with max_files_per_batch: such batches are whole files.
 *	pid			(backpressure = 'pid') Spark's estimator gives rows per second
 *				(rate_pid.c), batch_interval makes rows of a batch of them.  Until there
 *				is a rate, which is after two batches, the limit is the adaptive one.
 *	max_rate	a bucket of tokens, one a row, that fills at max_rate and holds what
 *				comes in a second, or in batch_interval if that is longer.  A batch
 *				takes what is in it.  What cannot be cut finer (a whole file, one row
 *				from each partition) leaves a debt, and the next batch waits until
 *				that is paid.
 *
 * Rows are those of all inputs together.  Each gets an equal share of them, but no
 * more than twice what it had in the batch before, if that was less than it might
 * have taken; what it leaves goes to the others.  Every input may take one row at
 * least, or it would never be read.
 *
 * All of it is in the worker's memory and begins anew with the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "fmgr.h"
#include "source/source.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/timestamp.h"
#include "worker/rate.h"

#define DEFAULT_TARGET_US	USECS_PER_SEC
#define FIRST_FILL_US		(USECS_PER_SEC / 10)	/* without a batch interval */
#define REST_US				(USECS_PER_SEC / 50)	/* of an empty bucket, at least */

typedef enum SxRateMode
{
	SX_RATE_OFF,
	SX_RATE_ADAPTIVE,
	SX_RATE_PID
} SxRateMode;

struct SxRate
{
	SxRateMode	mode;
	double		interval_us;	/* of batches; 0: as soon as there is data */
	double		target_us;		/* 0: none */

	SxPid		pid;
	double		pid_rate;		/* 0: none yet */

	SxAdaptive	adaptive;
	bool		was_too_long;	/* a batch was, and the limit has not gone since */
	int64		took_us;		/* the last batch */

	double		max_rate;		/* 0: none */
	double		tokens;			/* may be negative */
	TimestampTz filled_at;

	char		reason[64];
};

const char *const sx_rate_options[] = {
	"backpressure", "target_latency", "max_rate",
	"pid_proportional", "pid_integral", "pid_derived", "pid_min_rate", NULL
};

/* ---------- options ---------- */

static SxRateMode
mode_of(SxRateOption option, void *arg)
{
	const char *value = option(arg, "backpressure");

	if (value == NULL || strcmp(value, "adaptive") == 0)
		return SX_RATE_ADAPTIVE;
	return strcmp(value, "pid") == 0 ? SX_RATE_PID : SX_RATE_OFF;
}

static int64
interval_of(SxRateOption option, void *arg, const char *name)
{
	const char *value = option(arg, name);

	return value == NULL ? 0 : sx_interval_option_usec(name, value);
}

static double
number_of(SxRateOption option, void *arg, const char *name, double dflt)
{
	const char *value = option(arg, name);

	return value == NULL ? dflt :
		DatumGetFloat8(DirectFunctionCall1(float8in, CStringGetDatum(value)));
}

static void
refuse(const char *message, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg_internal("%s", message),
			 errhint("%s", hint)));
}

static void
check_pid_options(SxRateOption option, void *arg)
{
	if (interval_of(option, arg, "batch_interval") <= 0)
		refuse("backpressure = 'pid' needs a batch_interval",
			   "Give one, as batch_interval = '1 second', or leave backpressure at 'adaptive'.");
	if (option(arg, "max_files_per_batch") != NULL)
		refuse("backpressure = 'pid' cannot be used with max_files_per_batch",
			   "Leave one of them out: batches of whole files cannot be cut to a number of rows.");
}

void
sx_rate_check_options(SxRateOption option, void *arg)
{
	SxRateMode	mode = mode_of(option, arg);

	if (mode == SX_RATE_PID)
		check_pid_options(option, arg);
	for (int i = 0; sx_rate_options[i] != NULL && mode != SX_RATE_PID; i++)
	{
		const char *name = sx_rate_options[i];

		if (strncmp(name, "pid_", 4) == 0 && option(arg, name) != NULL)
			refuse(psprintf("option \"%s\" has no effect without backpressure = 'pid'", name),
				   "Give backpressure = 'pid' with it, or leave it out.");
	}
	if (option(arg, "target_latency") == NULL)
		return;
	if (mode != SX_RATE_ADAPTIVE)
		refuse("option \"target_latency\" has no effect unless backpressure is 'adaptive'",
			   "Leave one of the two out.");
	if (option(arg, "max_files_per_batch") != NULL)
		refuse("option \"target_latency\" has no effect with max_files_per_batch",
			   "Leave one of them out: batches of whole files cannot be cut to a number of rows.");
}

static const char *
pipeline_option(void *arg, const char *name)
{
	return sx_pipeline_option(arg, name);
}

static void
init_limits(SxRate *rate, const SxPipeline *pl, SxRateOption option, void *arg)
{
	if (rate->mode == SX_RATE_OFF)
		return;
	if (rate->mode == SX_RATE_PID)
		sx_pid_init(&rate->pid, rate->interval_us / 1000,
					number_of(option, arg, "pid_proportional", 1.0),
					number_of(option, arg, "pid_integral", 0.2),
					number_of(option, arg, "pid_derived", 0.0),
					number_of(option, arg, "pid_min_rate", 100));
	rate->target_us = interval_of(option, arg, "target_latency");
	if (rate->target_us <= 0)
		rate->target_us = rate->interval_us > 0 ? rate->interval_us : DEFAULT_TARGET_US;
	sx_adaptive_init(&rate->adaptive, rate->target_us,
					 (double) pl->max_rows * Max(pl->ninputs, 1));
}

SxRate *
sx_rate_open(const SxPipeline *pl)
{
	SxRate	   *rate = palloc0(sizeof(SxRate));
	void	   *arg = unconstify(SxPipeline *, pl);

	sx_rate_check_options(pipeline_option, arg);
	rate->mode = mode_of(pipeline_option, arg);
	if (rate->mode == SX_RATE_ADAPTIVE && pl->max_files > 0)
		rate->mode = SX_RATE_OFF;
	rate->interval_us = pl->batch_interval;
	init_limits(rate, pl, pipeline_option, arg);

	rate->max_rate = number_of(pipeline_option, arg, "max_rate", 0) / Max(pl->slots, 1);
	rate->filled_at = GetCurrentTimestamp();
	rate->tokens = rate->max_rate / USECS_PER_SEC *
		(rate->interval_us > 0 ? rate->interval_us : FIRST_FILL_US);
	rate->tokens = Max(rate->tokens, 1);
	return rate;
}

/* ---------- max_rate ---------- */

/* A clock that was set back fills nothing. */
static void
fill(SxRate *rate, TimestampTz clock)
{
	double		per_us = rate->max_rate / USECS_PER_SEC;
	double		capacity = per_us * Max(rate->interval_us, USECS_PER_SEC);

	if (clock > rate->filled_at)
		rate->tokens = Min(rate->tokens + per_us * (clock - rate->filled_at), capacity);
	rate->filled_at = clock;
}

/* An empty bucket is left alone for a while, for the sake of larger batches. */
TimestampTz
sx_rate_ready_at(SxRate *rate, TimestampTz clock)
{
	double		per_us = rate->max_rate / USECS_PER_SEC;

	if (rate->max_rate <= 0)
		return clock;
	fill(rate, clock);
	if (rate->tokens >= 1)
		return clock;
	return clock + (TimestampTz) ceil((Max(per_us * REST_US, 1) - rate->tokens) / per_us);
}

/* ---------- rows of the next batch ---------- */

/* Of all inputs together; infinity: no limit. */
static double
allowed_rows(const SxRate *rate)
{
	double		rows = get_float8_infinity();

	if (rate->pid_rate > 0)
		rows = rate->pid_rate * rate->interval_us / USECS_PER_SEC;
	else if (rate->adaptive.limit < rate->adaptive.max_rows)
		rows = rate->adaptive.limit;
	if (rate->max_rate > 0)
		rows = Min(rows, rate->tokens);
	return Max(rows, 1);
}

/* What an input may be expected to take, if it is allowed to. */
static double
demand(const SxPipeline *pl, const SxInput *input, double total)
{
	if (!input->had_less)
		return pl->max_rows;
	return Min(Max(2.0 * input->rows, total / (8 * pl->ninputs)), pl->max_rows);
}

/* Equal shares; who demands less than that leaves the rest to the others. */
static void
share_out(SxPipeline *pl, double total)
{
	double		left = total;
	int			open = pl->ninputs;
	bool		again = true;

	for (int i = 0; i < pl->ninputs; i++)
		pl->inputs[i].allowed = 0;
	while (again)
	{
		again = false;
		for (int i = 0; i < pl->ninputs; i++)
		{
			SxInput    *input = &pl->inputs[i];
			double		wanted = demand(pl, input, total);

			if (input->allowed > 0 || wanted > left / open)
				continue;
			input->allowed = (int64) Max(wanted, 1);
			left -= wanted;
			open--;
			again = true;
		}
	}
	for (int i = 0; i < pl->ninputs; i++)
	{
		SxInput    *input = &pl->inputs[i];

		if (input->allowed == 0)
			input->allowed = (int64) Max(left / open, 1);
		else if (open == 0)
			input->allowed += (int64) (left / pl->ninputs);
		input->allowed = Min(input->allowed, pl->max_rows);
	}
}

void
sx_rate_allow(SxPipeline *pl, TimestampTz clock)
{
	double		rows = get_float8_infinity();

	if (pl->rate != NULL)
	{
		fill(pl->rate, clock);
		rows = allowed_rows(pl->rate);
	}
	if (rows < (double) pl->max_rows * pl->ninputs)
	{
		share_out(pl, rows);
		return;
	}
	for (int i = 0; i < pl->ninputs; i++)
		pl->inputs[i].allowed = pl->max_rows;
}

/* ---------- what a batch took ---------- */

static void
adapt(SxRate *rate, int64 rows)
{
	SxAdaptive *ad = &rate->adaptive;
	double		before = ad->limit;

	if (rate->took_us <= 0)
		return;
	sx_adaptive_batch(ad, rows, rate->took_us);
	if (ad->limit < before)
		rate->was_too_long = true;
	else if (ad->limit >= ad->max_rows)
		rate->was_too_long = false;
}

/*
 * Milliseconds are rounded up: at the low rates that the estimator may have come down
 * to, batches of less than one would else count for nothing, and it would stay there.
 */
static void
estimate(SxRate *rate, TimestampTz due, TimestampTz began, TimestampTz ended, int64 rows)
{
	int64		late_us = due > 0 ? Max(began - due, 0) : 0;

	(void) sx_pid_batch(&rate->pid, sx_unix_ms(ended), rows,
						(rate->took_us + 999) / 1000, late_us / 1000, &rate->pid_rate);
}

void
sx_rate_batch(SxPipeline *pl, TimestampTz due, TimestampTz began, TimestampTz ended,
			  int64 rows)
{
	SxRate	   *rate = pl->rate;

	for (int i = 0; i < pl->ninputs; i++)
		pl->inputs[i].had_less = !sx_input_was_full(&pl->inputs[i]);

	rate->took_us = Max(ended - began, 0);
	if (rate->mode == SX_RATE_PID)
		estimate(rate, due, began, ended, rows);
	if (rate->mode != SX_RATE_OFF && rate->pid_rate <= 0)
		adapt(rate, rows);
	if (rate->max_rate > 0)
		rate->tokens -= rows;

	snprintf(rate->reason, sizeof(rate->reason), "adaptive: last batch took %.1f s",
			 rate->took_us / (double) USECS_PER_SEC);
}

/* ---------- what users see ---------- */

/* Of the estimator or the adaptive control; 0: none. */
static double
controlled_rate(const SxRate *rate)
{
	double		batch_us = rate->interval_us > 0 ? rate->interval_us : rate->target_us;

	if (rate->pid_rate > 0)
		return rate->pid_rate;
	if (rate->was_too_long)
		return rate->adaptive.limit / batch_us * USECS_PER_SEC;
	return 0;
}

static bool
max_rate_holds(const SxRate *rate)
{
	double		controlled = controlled_rate(rate);

	return rate->max_rate > 0 && (controlled <= 0 || rate->max_rate < controlled);
}

double
sx_rate_limit(const SxRate *rate)
{
	return max_rate_holds(rate) ? rate->max_rate : controlled_rate(rate);
}

double
sx_rate_target_ms(const SxRate *rate)
{
	return rate->target_us / 1000;
}

/* NULL: there is no limit. */
const char *
sx_rate_reason(const SxRate *rate)
{
	if (max_rate_holds(rate))
		return "max_rate";
	if (controlled_rate(rate) <= 0)
		return NULL;
	return rate->pid_rate > 0 ? "pid" : rate->reason;
}
