/*-------------------------------------------------------------------------
 *
 * rate_adaptive.c
 *		The default back-pressure: batches no longer than a target.
 *
 * A batch of n rows is taken to last t = a + b n: a is what it costs in any case, the
 * commit or a function that visits all state, b what a row costs.  Both are fitted
 * to the last batches, each weighing less the older it is.  When these are all of about
 * the same size nothing can be said about a, and it counts as 0.  A batch that takes
 * less than half or more than twice as long as the fit says is a new situation: what
 * was before is forgotten, so that a load that falls is noticed by one batch.
 *
 * The next batch gets the rows that fit into the target next to a.  Where a alone uses
 * up most of the target, batches cannot be short, and small ones would only waste
 * the time that there is: rows then get a quarter of a.
 *
 *	- The limit falls only when a batch was longer than the target.
 *	- It rises to at most GROWTH times the rows that a batch really had, so the first
 *	  batches are small (START_ROWS) and prove what larger ones may cost: three or
 *	  four of them lead to max_batch_rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "worker/rate.h"

#define START_ROWS		256
#define GROWTH			16
#define LATE_GROWTH		4		/* of batches longer than the target */
#define HEADROOM		0.9		/* of the target */
#define MEMORY			0.7		/* weight of a batch, relative to the next */
#define MIN_SPREAD		0.04	/* variance of n / mean squared: tells a from b */

void
sx_adaptive_init(SxAdaptive *adaptive, double target_us, double max_rows)
{
	memset(adaptive, 0, sizeof(SxAdaptive));
	adaptive->target_us = target_us;
	adaptive->max_rows = max_rows;
	adaptive->limit = Min(START_ROWS, max_rows);
}

/* The costs a and b, both at least 0. */
static void
fit(const SxAdaptive *ad, double *fixed, double *per_row)
{
	double		n = ad->n / ad->w;
	double		t = ad->t / ad->w;
	double		variance = ad->nn / ad->w - n * n;

	*fixed = 0;
	*per_row = t / n;
	if (variance < MIN_SPREAD * n * n)
		return;
	*per_row = Max((ad->nt / ad->w - n * t) / variance, 0);
	*fixed = t - *per_row * n;
	if (*fixed < 0)
	{
		*fixed = 0;
		*per_row = t / n;
	}
}

static void
learn(SxAdaptive *ad, double rows, double took)
{
	if (ad->w > 0)
	{
		double		fixed;
		double		per_row;
		double		expected;

		fit(ad, &fixed, &per_row);
		expected = fixed + per_row * rows;
		if (took < expected / 2 || took > expected * 2)
			ad->w = ad->n = ad->t = ad->nn = ad->nt = 0;
	}
	ad->w = ad->w * MEMORY + 1;
	ad->n = ad->n * MEMORY + rows;
	ad->t = ad->t * MEMORY + took;
	ad->nn = ad->nn * MEMORY + rows * rows;
	ad->nt = ad->nt * MEMORY + rows * took;
}

void
sx_adaptive_batch(SxAdaptive *ad, double rows, double took)
{
	double		fixed;
	double		per_row;
	double		budget;
	double		fitting;
	double		growth;

	if (rows < 1)
		return;
	learn(ad, rows, took);
	fit(ad, &fixed, &per_row);
	budget = Max(ad->target_us - fixed, fixed / 4) * HEADROOM;
	fitting = per_row > 0 ? budget / per_row : ad->max_rows;
	growth = rows * (took > ad->target_us ? LATE_GROWTH : GROWTH);

	if (fitting > ad->limit)
		ad->limit = Max(ad->limit, Min(fitting, growth));
	else if (took > ad->target_us)
		ad->limit = fitting;
	ad->limit = Min(Max(ad->limit, 1), ad->max_rows);
}
