/*-------------------------------------------------------------------------
 *
 * rate_pid.c
 *		Spark Streaming's PIDRateEstimator, number by number.
 *
 *		rate of processing  p = elements / processing time
 *		error               e = latest rate - p
 *		historical error    h = scheduling delay * p / batch interval: the rate that it
 *							would take to catch up within one interval
 *		change of the error d = (e - latest e) / time since the latest batch
 *
 *		new rate            = max(latest rate - kp e - ki h - kd d, min_rate)
 *
 * Batches without elements, without processing time, or not behind the latest in time
 * change nothing and give no rate.  The first that counts sets the latest rate to p and
 * gives none either.
 *
 * The order of the operations is Spark's, and products are kept in volatile variables:
 * a compiler that fuses them with the subtraction would round once where the JVM
 * rounds twice.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "worker/rate.h"

void
sx_pid_init(SxPid *pid, double interval_ms, double kp, double ki, double kd,
			double min_rate)
{
	memset(pid, 0, sizeof(SxPid));
	pid->interval_ms = interval_ms;
	pid->kp = kp;
	pid->ki = ki;
	pid->kd = kd;
	pid->min_rate = min_rate;
	pid->first = true;
	pid->latest_ms = -1;
	pid->latest_rate = -1;
	pid->latest_error = -1;
}

bool
sx_pid_batch(SxPid *pid, int64 at_ms, int64 elements, int64 processing_ms,
			 int64 scheduling_ms, double *rate)
{
	double		seconds;
	double		processing_rate;
	double		error;
	double		historical_error;
	double		change;
	volatile double proportional;
	volatile double integral;
	volatile double derived;

	if (at_ms <= pid->latest_ms || elements <= 0 || processing_ms <= 0)
		return false;

	/* unsigned, as the largest bigint less -1 is no bigint */
	seconds = (double) ((uint64) at_ms - (uint64) pid->latest_ms) / 1000;
	processing_rate = (double) elements / processing_ms * 1000;
	error = pid->latest_rate - processing_rate;
	historical_error = scheduling_ms * processing_rate / pid->interval_ms;
	change = (error - pid->latest_error) / seconds;

	pid->latest_ms = at_ms;
	if (pid->first)
	{
		pid->first = false;
		pid->latest_rate = processing_rate;
		pid->latest_error = 0;
		return false;
	}

	proportional = pid->kp * error;
	integral = pid->ki * historical_error;
	derived = pid->kd * change;
	*rate = Max(pid->latest_rate - proportional - integral - derived, pid->min_rate);
	pid->latest_rate = *rate;
	pid->latest_error = error;
	return true;
}
