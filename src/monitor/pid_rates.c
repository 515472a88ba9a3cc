/*-------------------------------------------------------------------------
 *
 * pid_rates.c
 *		streamext.pid_rates(): what the PID estimator answers to a series of batches.
 *
 * It is the very code that a worker runs with backpressure = 'pid' (rate_pid.c), so
 * that the rates can be checked without a load.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "worker/rate.h"

PG_FUNCTION_INFO_V1(sx_pid_rates);

/* By position; the first four are the series. */
static const char *const argument_names[] = {
	"at_ms", "elements", "processing_ms", "scheduling_ms", "batch_interval_ms",
	"kp", "ki", "kd", "min_rate"
};

#define NSERIES		4

typedef struct Rates
{
	int			n;
	double	   *rates;
	bool	   *none;			/* no new rate */
} Rates;

static void
check_no_null(FunctionCallInfo fcinfo)
{
	for (int i = 0; i < lengthof(argument_names); i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" of pid_rates must not be null", argument_names[i]),
					 i < NSERIES ? errhint("An empty series is ARRAY[]::bigint[].") :
					 errhint("Leave it out for its default, if it has one.")));
	}
}

/* The numbers of a series; *n: how many there are. */
static int64 *
series(FunctionCallInfo fcinfo, int arg, int *n)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(arg);

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("argument \"%s\" of pid_rates must have one dimension", argument_names[arg]),
				 errhint("Give an element a batch, in the order of the batches.")));
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" of pid_rates must not contain nulls", argument_names[arg]),
				 errhint("Give 0 for a batch without elements, or leave the batch out of all four arrays.")));
	*n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	return (int64 *) ARR_DATA_PTR(array);
}

static void
check_length(int arg, int n, int expected)
{
	if (n != expected)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("arguments \"%s\" and \"%s\" of pid_rates are of different lengths",
						argument_names[0], argument_names[arg]),
				 errdetail("They have %d and %d elements.", expected, n),
				 errhint("Give one element a batch in each of the four arrays.")));
}

/* A finite number, 0 or more, or above 0. */
static double
constant(FunctionCallInfo fcinfo, int arg, bool zero)
{
	double		value = PG_GETARG_FLOAT8(arg);

	if (!isfinite(value) || value < 0 || (value == 0 && !zero))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" of pid_rates cannot be %g", argument_names[arg], value),
				 zero ? errhint("Give a number of 0 or more.") :
				 errhint("Give a number above 0.")));
	return value;
}

static void
init_estimator(FunctionCallInfo fcinfo, SxPid *pid)
{
	int64		interval = PG_GETARG_INT64(4);

	if (interval <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" of pid_rates cannot be %lld",
						argument_names[4], (long long) interval),
				 errhint("Give the batch interval in milliseconds, above 0.")));
	sx_pid_init(pid, interval, constant(fcinfo, 5, true), constant(fcinfo, 6, true),
				constant(fcinfo, 7, true), constant(fcinfo, 8, false));
}

static Rates *
compute(FunctionCallInfo fcinfo)
{
	Rates	   *result = palloc(sizeof(Rates));
	int64	   *values[NSERIES];
	SxPid		pid;

	check_no_null(fcinfo);
	init_estimator(fcinfo, &pid);
	for (int i = 0; i < NSERIES; i++)
	{
		int			n;

		values[i] = series(fcinfo, i, &n);
		if (i == 0)
			result->n = n;
		check_length(i, n, result->n);
	}
	result->rates = palloc(sizeof(double) * Max(result->n, 1));
	result->none = palloc(sizeof(bool) * Max(result->n, 1));
	for (int i = 0; i < result->n; i++)
		result->none[i] = !sx_pid_batch(&pid, values[0][i], values[1][i], values[2][i],
										values[3][i], &result->rates[i]);
	return result;
}

Datum
sx_pid_rates(PG_FUNCTION_ARGS)
{
	FuncCallContext *context;
	Rates	   *result;
	uint64		i;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext old;

		context = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(context->multi_call_memory_ctx);
		context->user_fctx = compute(fcinfo);
		MemoryContextSwitchTo(old);
	}
	context = SRF_PERCALL_SETUP();
	result = context->user_fctx;
	i = context->call_cntr;
	if (i >= result->n)
		SRF_RETURN_DONE(context);
	if (result->none[i])
		SRF_RETURN_NEXT_NULL(context);
	SRF_RETURN_NEXT(context, Float8GetDatum(result->rates[i]));
}
