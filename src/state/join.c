/*-------------------------------------------------------------------------
 *
 * join.c
 *		The batch of a view that is a join of two streams: a list of statements, which
 *		plan/join_sql.c explains.
 *
 * They are planned once, mostly while the tables are empty, and have to be right for
 * tables of any size.  So the planner is told to look up partners by index, one by one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/guc.h"

#include "state/join.h"
#include "worker/batch_internal.h"

static int
pin_plans(void)
{
	static const char *const settings[][2] = {
		{"enable_hashjoin", "off"},
		{"enable_mergejoin", "off"},
		{"enable_seqscan", "off"},
		{"jit", "off"},
		{"plan_cache_mode", "force_generic_plan"}
	};
	int			nestlevel = NewGUCNestLevel();

	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	return nestlevel;
}

/* Have all of the statements nothing to do? */
static bool
is_idle(SxPipeline *pl, const SxStep *step)
{
	for (int i = 0; i < list_length(step->plan->join_sql); i++)
	{
		if (!sx_statement_is_idle(pl, step, step->own[SX_OWN_JOIN + i]))
			return false;
	}
	return true;
}

static void
apply_join(SxPipeline *pl, SxStep *step)
{
	Oid			types[] = {INT8OID};
	Datum		values[1];
	int			nestlevel;
	ListCell   *lc;

	Assert(list_length(step->plan->join_sql) <= SX_JOIN_STATEMENTS);
	if (is_idle(pl, step))
		return;
	values[0] = Int64GetDatum(sx_last_arrival_before(pl));
	nestlevel = pin_plans();
	foreach(lc, step->plan->join_sql)
	{
		int64		rows = sx_step_execute(pl, step, &step->own[SX_OWN_JOIN + foreach_current_index(lc)],
										   lfirst(lc), 1, types, values);

		step->rows += rows;
	}
	AtEOXact_GUC(false, nestlevel);
}

const SxStepOps sx_join_ops = {
	.apply = apply_join
};
