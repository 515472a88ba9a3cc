/*-------------------------------------------------------------------------
 *
 * session.c
 *		Session windows in a batch, and the functions that name them.
 *
 * One statement merges the batch's islands with the stored sessions that they touch
 * (plan/session_sql.c).  Which of its rows were late is asked right behind it: at the
 * end of the batch retention may have taken a session that had let its rows in.
 *
 * session(), session_start() and session_end() are names that the planner of
 * continuous views knows.  They have no value for a single row, so whoever calls them
 * elsewhere is told where they belong.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/timestamp.h"

#include "state/session.h"
#include "worker/batch_internal.h"

PG_FUNCTION_INFO_V1(sx_session);
PG_FUNCTION_INFO_V1(sx_session_bound);

Datum
sx_session(PG_FUNCTION_ARGS)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("session() is known in GROUP BY of a continuous view only"),
			 errhint("CREATE MATERIALIZED VIEW … AS SELECT key, session_start(), session_end(), count(*) FROM stream GROUP BY key, session(ts, gap).")));
	PG_RETURN_NULL();
}

/* session_start(), session_end() */
Datum
sx_session_bound(PG_FUNCTION_ARGS)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("session_start() and session_end() are known in a continuous view that groups by session() only"),
			 errhint("CREATE MATERIALIZED VIEW … AS SELECT key, session_start(), session_end(), count(*) FROM stream GROUP BY key, session(ts, gap).")));
	PG_RETURN_NULL();
}

/*
 * The first plan was made for empty tables.  As these grow, the statements are planned
 * again: whenever the number of batches has doubled.  (Analyzing the tables does it,
 * too, but that comes when autovacuum has time.)
 */
static void
plan_again(SxStep *step)
{
	SPIPlanPtr *plans[] = {&step->apply, &step->own[SX_OWN_EVICT], &step->own[SX_OWN_FORGET]};

	step->runs++;
	if ((step->runs & (step->runs - 1)) != 0)
		return;
	for (int i = 0; i < lengthof(plans); i++)
	{
		if (*plans[i] != NULL)
			SPI_freeplan(*plans[i]);
		*plans[i] = NULL;
	}
}

static void
apply_session(SxPipeline *pl, SxStep *step)
{
	plan_again(step);
	step->rows = sx_step_execute(pl, step, &step->apply, step->plan->apply_sql, 0, NULL, NULL);
	if (!pl->probing)
		sx_step_late_letters(pl, step);
}

/* Sessions that have ended by this are closed. */
static Datum
boundary(const SxStepPlan *plan, TimestampTz watermark)
{
	if (watermark == DT_NOBEGIN || plan->late != SX_LATE_UPDATE)
		return TimestampTzGetDatum(watermark);
	return TimestampTzGetDatum(watermark - plan->retention);
}

/* Rows that are kept go with their session; those that were late have none. */
static void
close_session(SxPipeline *pl, SxStep *step)
{
	const SxSession *session = step->plan->session;
	Oid			types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[] = {
		boundary(step->plan, step->new_watermark), boundary(step->plan, step->watermark)
	};

	if (session->evict_sql == NULL)
		return;
	if (step->late_rows + step->null_time_rows > 0)
		(void) sx_step_execute(pl, step, &step->own[SX_OWN_FORGET], session->forget_sql, 1,
							   types, &values[1]);
	if (step->new_watermark > step->watermark)
		(void) sx_step_execute(pl, step, &step->own[SX_OWN_EVICT], session->evict_sql, 2,
							   types, values);
}

const SxStepOps sx_session_ops = {
	.apply = apply_session,
	.close = close_session
};
