/*-------------------------------------------------------------------------
 *
 * error_limit.c
 *		How many records may fail: the circuit breaker.
 *
 * A step that fails for more records than it is allowed to is not served by dead
 * letters: whoever writes to the topic has changed what he writes, or somebody has
 * changed the query.  There are three limits, all of a step: max_errors in a batch,
 * max_errors_per_hour, and all records of a batch of at least BATCH_OF_ALL.  When one
 * trips, the batch is rolled back with SX_ERRCODE_TOO_MANY_ERRORS, so that none of its
 * records becomes a letter, and sx_blamed_step tells who.
 *
 * The hour is a sliding one, kept as two numbers: failures since errors_from, less than
 * an hour ago, and those of the hour before that, of which a share still counts.
 *
 *		before = 40             now = 6
 *		|-----------------------|--------------->
 *		            <======= last hour ========>      6 + 40 · 1/2
 *
 * Time is the batches' own.  resume() forgets the failures, or it would be in vain.
 * Dead letters that are fed again have failed before: they do not count.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "utils/timestamp.h"
#include "worker/batch_internal.h"

#define BATCH_OF_ALL	100

/* Does this record of pl->dead fail for the step?  Late ones have not failed. */
bool
sx_failed_for(const SxPipeline *pl, const SxDeadRecord *dead, int step)
{
	if (dead->sqlerrcode == SX_ERRCODE_LATE)
		return false;
	return dead->step == step ||
		(dead->step < 0 && sx_step_reads(&pl->steps[step], &pl->inputs[dead->source]) &&
		 (pl->replay == NULL || bms_is_member(step, pl->replay->fed)));
}

/* Brings the two numbers of a step up to the time of the batch. */
static void
roll(SxStep *step, TimestampTz time)
{
	int64		hours = step->errors_from == DT_NOBEGIN ? 2 :
		Max(time - step->errors_from, 0) / USECS_PER_HOUR;

	step->new_errors_from = step->errors_from;
	step->new_errors_now = step->errors_now;
	step->new_errors_before = step->errors_before;
	if (hours == 0)
		return;
	step->new_errors_before = hours == 1 ? step->errors_now : 0;
	step->new_errors_now = 0;
	step->new_errors_from = hours == 1 ? step->errors_from + USECS_PER_HOUR : time;
}

static double
last_hour(const SxStep *step, TimestampTz time)
{
	double		passed = (double) Max(time - step->new_errors_from, 0) / USECS_PER_HOUR;

	return step->new_errors_now + step->new_errors_before * Max(1 - passed, 0);
}

/* Records of the step in this batch. */
static int64
count_rows(const SxPipeline *pl, const SxStep *step)
{
	int64		rows = 0;

	for (int i = 0; i < pl->ninputs; i++)
	{
		if (sx_step_reads(step, &pl->inputs[i]))
			rows += pl->inputs[i].source->nrecords;
	}
	return rows;
}

static void
check_step(SxPipeline *pl, SxStep *step)
{
	int64		rows = count_rows(pl, step);
	int64		failed = 0;
	int64		undecodable = 0;
	const char *first = NULL;
	bool		in_batch;
	ListCell   *lc;

	roll(step, pl->time);
	if (pl->replay != NULL)
		return;
	foreach(lc, pl->dead)
	{
		SxDeadRecord *dead = lfirst(lc);

		if (!sx_failed_for(pl, dead, step->index))
			continue;
		if (failed++ == 0)
			first = dead->message;
		undecodable += dead->step < 0;
	}
	if (failed == 0)
		return;
	step->new_errors_now += failed;

	in_batch = failed > pl->max_errors || (rows >= BATCH_OF_ALL && failed >= rows);
	if (!in_batch && last_hour(step, pl->time) <= pl->max_errors_hour)
		return;
	sx_blamed_step = undecodable == failed ? InvalidOid : step->relid;
	ereport(ERROR,
			(errcode(SX_ERRCODE_TOO_MANY_ERRORS),
			 in_batch ?
			 errmsg("too many records of one batch failed in %s", step->plan->name) :
			 errmsg("too many records failed in %s within an hour", step->plan->name),
			 errdetail("%lld of %lld records failed so far, the first with: %s",
					   (long long) failed, (long long) rows, first),
			 errhint("Mend the stream's columns or the query, or raise its option %s, then streamext.resume().",
					 in_batch ? "max_errors" : "max_errors_per_hour")));
}

void
sx_check_errors(SxPipeline *pl)
{
	for (int i = 0; i < pl->nsteps; i++)
		check_step(pl, &pl->steps[i]);
}

/* Of all steps of the pipeline: it is resumed. */
void
sx_forget_errors(int pipeline)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(pipeline)};

	sx_catalog_exec("UPDATE streamext.step_progress p "
					"SET errors_from = NULL, errors_now = 0, errors_before = 0 "
					"FROM streamext.step s WHERE s.relation = p.relation AND s.pipeline = $1 "
					"AND errors_from IS NOT NULL",
					1, types, values, NULL);
}
