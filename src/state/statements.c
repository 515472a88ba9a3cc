/*-------------------------------------------------------------------------
 *
 * statements.c
 *		The batch of a step that is several statements: apply_sql, and then each of
 *		then_sql.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "state/statements.h"
#include "worker/batch_internal.h"

static void
apply_statements(SxPipeline *pl, SxStep *step)
{
	List	   *then = step->plan->then_sql;
	int64		rows;
	ListCell   *lc;

	if (step->then == NULL && then != NIL)
		step->then = MemoryContextAllocZero(pl->context, list_length(then) * sizeof(SPIPlanPtr));
	rows = sx_step_execute(pl, step, &step->apply, step->plan->apply_sql, 0, NULL, NULL);
	foreach(lc, then)
		rows += sx_step_execute(pl, step, &step->then[foreach_current_index(lc)], lfirst(lc),
								0, NULL, NULL);
	step->rows = rows;
}

const SxStepOps sx_statements_ops = {
	.apply = apply_statements
};
