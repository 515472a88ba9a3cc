/*-------------------------------------------------------------------------
 *
 * step_ops.c
 *		What a step does in a batch, by its strategy.
 *
 * Views and most sinks are one statement.  A stream that is evaluated once puts its
 * query's rows where scans find them; a function sink does so, too, and calls its
 * function.  The sinks whose rows leave the database are in sink/.  Streams that keep state have operations of their own in state/.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "sink/sink.h"
#include "state/arrival_window.h"
#include "state/join.h"
#include "state/keyed.h"
#include "state/merge.h"
#include "state/recompute.h"
#include "state/session.h"
#include "state/statements.h"
#include "state/view_changes.h"
#include "utils/timestamp.h"
#include "worker/batch_internal.h"

static void
apply_statement(SxPipeline *pl, SxStep *step)
{
	step->rows = sx_step_execute(pl, step, &step->apply, step->plan->apply_sql, 0, NULL, NULL);
}

static void
open_rows(SxPipeline *pl, SxStep *step)
{
	sx_rows_open(step);
	sx_plan_check_columns(step->relid, step->plan->query);
}

static void
apply_rows(SxPipeline *pl, SxStep *step)
{
	step->rows = sx_rows_select(pl, step, &step->apply, step->plan->apply_sql);
}

static void
apply_function(SxPipeline *pl, SxStep *step)
{
	Oid			types[] = {INT8OID, TIMESTAMPTZOID};
	Datum		values[] = {
		Int64GetDatum(sx_step_delivery(pl, step)), TimestampTzGetDatum(pl->time)
	};

	apply_rows(pl, step);
	(void) sx_step_execute(pl, step, &step->call, step->plan->call_sql, 2, types, values);
}

static const SxStepOps statement_ops = {
	.apply = apply_statement
};

static const SxStepOps batch_ops = {
	.open = open_rows,
	.apply = apply_rows
};

static const SxStepOps function_ops = {
	.open = open_rows,
	.apply = apply_function
};

static const SxStepOps sink_ops = {
	.apply = sx_sink_apply
};

const SxStepOps *
sx_step_ops(SxStrategy strategy)
{
	switch (strategy)
	{
		case SX_STRATEGY_MERGE:
			return &sx_merge_ops;
		case SX_STRATEGY_APPEND:
		case SX_STRATEGY_SINK_TABLE:
		case SX_STRATEGY_SINK_NULL:
			return &statement_ops;
		case SX_STRATEGY_RETRACT:
		case SX_STRATEGY_DISTINCT:
			return &sx_statements_ops;
		case SX_STRATEGY_SINK_FUNCTION:
			return &function_ops;
		case SX_STRATEGY_SINK_FILE:
		case SX_STRATEGY_SINK_PRINT:
		case SX_STRATEGY_SINK_NOTIFY:
			return &sink_ops;
		case SX_STRATEGY_BATCH:
			return &batch_ops;
		case SX_STRATEGY_RECOMPUTE:
		case SX_STRATEGY_REDUCE:
			return &sx_recompute_ops;
		case SX_STRATEGY_SESSION:
			return &sx_session_ops;
		case SX_STRATEGY_JOIN:
			return &sx_join_ops;
		case SX_STRATEGY_WINDOW:
			return &sx_window_ops;
		case SX_STRATEGY_UPDATE_STATE:
			return &sx_update_state_ops;
		case SX_STRATEGY_MAP_WITH_STATE:
			return &sx_map_with_state_ops;
		case SX_STRATEGY_DEDUPLICATE:
			return &sx_deduplicate_ops;
		case SX_STRATEGY_CHANGES:
			return &sx_changes_ops;
	}
	elog(ERROR, "unknown strategy %d", (int) strategy);
}
