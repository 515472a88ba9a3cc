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

static void
apply_session(SxPipeline *pl, SxStep *step)
{
	step->rows = sx_step_execute(pl, step, &step->apply, step->plan->apply_sql, 0, NULL, NULL);
	if (!pl->probing)
		sx_step_late_letters(pl, step);
}

/* Rows that are kept go with their session; those that were late have none. */
static void
finish_session(SxPipeline *pl, SxStep *step)
{
	const SxStepPlan *plan = step->plan;
	Oid			types[] = {TIMESTAMPTZOID};
	Datum		values[1];

	if (plan->session->evict_sql == NULL || step->new_watermark == DT_NOBEGIN ||
		(step->new_watermark == step->watermark && step->late_rows == 0))
		return;
	values[0] = TimestampTzGetDatum(step->new_watermark -
									(plan->late == SX_LATE_UPDATE ? plan->retention : 0));
	(void) sx_step_execute(pl, step, &step->own[SX_OWN_EVICT], plan->session->evict_sql,
						   1, types, values);
}

const SxStepOps sx_session_ops = {
	.apply = apply_session,
	.finish = finish_session
};
