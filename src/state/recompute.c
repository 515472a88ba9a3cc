/*-------------------------------------------------------------------------
 *
 * recompute.c
 *		The batch of a view that stands on nodes: rows of the touched keys are deleted
 *		and computed again (plan/recompute.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/datum.h"

#include "state/recompute.h"
#include "worker/batch_internal.h"

/* bigint[] in the transaction's memory; false: nothing was touched. */
static bool
touched_keys(SxPipeline *pl, SxStep *step, Datum *keys)
{
	return sx_step_value(pl, step, &step->own[SX_OWN_KEYS], step->plan->recompute->keys_sql,
						 keys);
}

static void
apply_recompute(SxPipeline *pl, SxStep *step)
{
	const SxRecompute *plan = step->plan->recompute;
	Oid			types[] = {INT8ARRAYOID};
	Datum		keys;
	int			nargs = plan->keyed ? 1 : 0;

	if (!touched_keys(pl, step, &keys))
		return;
	(void) sx_step_execute(pl, step, &step->own[SX_OWN_DELETE], plan->delete_sql, nargs, types, &keys);
	step->rows = sx_step_execute(pl, step, &step->own[SX_OWN_INSERT], plan->insert_sql, nargs,
								 types, &keys);
}

const SxStepOps sx_recompute_ops = {
	.apply = apply_recompute
};
