/*-------------------------------------------------------------------------
 *
 * rate.h
 *		How many rows the next batch of a pipeline may take.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_RATE_H
#define SX_RATE_H

#include "datatype/timestamp.h"
#include "worker/batch.h"

/* ---------- rate_pid.c: Spark's PIDRateEstimator ---------- */

typedef struct SxPid
{
	double		interval_ms;	/* of batches */
	double		kp;
	double		ki;
	double		kd;
	double		min_rate;

	bool		first;			/* no batch has counted yet */
	int64		latest_ms;
	double		latest_rate;	/* rows per second */
	double		latest_error;
} SxPid;

extern void sx_pid_init(SxPid *pid, double interval_ms, double kp, double ki,
						double kd, double min_rate);

/* A batch has ended at this time; false: that gives no new rate. */
extern bool sx_pid_batch(SxPid *pid, int64 at_ms, int64 elements,
						 int64 processing_ms, int64 scheduling_ms, double *rate);

/* ---------- rate_adaptive.c: batches no longer than a target ---------- */

typedef struct SxAdaptive
{
	double		target_us;
	double		max_rows;
	double		limit;			/* rows of the next batch; max_rows: no limit */

	/* weighted sums over the last batches, of rows n and duration t */
	double		w;
	double		n;
	double		t;
	double		nn;
	double		nt;
} SxAdaptive;

extern void sx_adaptive_init(SxAdaptive *adaptive, double target_us, double max_rows);

/* A batch of so many rows has taken so long. */
extern void sx_adaptive_batch(SxAdaptive *adaptive, double rows, double took_us);

/* ---------- rate.c: the controller of a pipeline ---------- */

typedef struct SxRate SxRate;

/* Values of a pipeline's options, as given; NULL: not given. */
typedef const char *(*SxRateOption) (void *arg, const char *name);

/* ERROR unless the options go together. */
extern void sx_rate_check_options(SxRateOption option, void *arg);

/* The names of the options of back-pressure, NULL behind the last. */
extern const char *const sx_rate_options[];

/* For a worker; in the current memory context.  step() has none. */
extern SxRate *sx_rate_open(const SxPipeline *pl);

/* When max_rate lets the next batch begin: a time not after clock means now. */
extern TimestampTz sx_rate_ready_at(SxRate *rate, TimestampTz clock);

/*
 * Sets what the inputs may take in the next poll (SxInput.allowed).  pl->rate may be
 * NULL: then it is max_batch_rows for each.
 */
extern void sx_rate_allow(SxPipeline *pl, TimestampTz clock);

/*
 * A batch has been committed.  due: when it should have begun, 0 for at once; began:
 * its poll.
 */
extern void sx_rate_batch(SxPipeline *pl, TimestampTz due, TimestampTz began,
						  TimestampTz ended, int64 rows);

/* For streamext.pipelines: rows per second, 0: no limit; milliseconds, 0: none. */
extern double sx_rate_limit(const SxRate *rate);
extern double sx_rate_target_ms(const SxRate *rate);
extern const char *sx_rate_reason(const SxRate *rate);

#endif							/* SX_RATE_H */
