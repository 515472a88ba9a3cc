/*-------------------------------------------------------------------------
 *
 * slots.c
 *		Steps of a pipeline with several workers, its slots.
 *
 * Each slot reads partitions of its own and commits alone, so a step may depend on one
 * record at a time only (rows that are added, or handed to a table), or keep what can be
 * added up: aggregates that are merged by key.
 *
 * Two slots that merged into one row would wait for each other's commits.  So the state
 * of such a view has a row a key and slot, and the view over it combines them:
 *
 *		query	SELECT url, count(*) AS n FROM clicks WHERE streamext.by_slot() GROUP BY 1
 *		state	(url, sx_slot, n), unique (url, sx_slot)
 *		view	SELECT s.url, s.n
 *				FROM (SELECT url, sum(n)::bigint AS n FROM state GROUP BY url) s
 *
 * by_slot() is the mark in the stored query, from which everything is derived again; it
 * is immutable and true, so the planner takes it away.  The slot stands in the index behind
 * the other keys.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/sx_catalog.h"
#include "plan/node.h"
#include "plan/plan_internal.h"
#include "worker/batch.h"

PG_FUNCTION_INFO_V1(sx_by_slot);
PG_FUNCTION_INFO_V1(sx_slot);

/* streamext.by_slot(): the state of this query has a row a key and slot. */
Datum
sx_by_slot(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(true);
}

/* streamext.slot(): which worker of its pipeline runs the batch */
Datum
sx_slot(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(sx_current == NULL ? 0 : sx_current->slot);
}

/* ---------- the mark ---------- */

static Expr *
call_of(const char *function, Oid type)
{
	return (Expr *) makeFuncExpr(sx_own_function(function, 0, NULL), type, NIL,
								 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

bool
sx_is_by_slot(const Query *query)
{
	ListCell   *lc;

	if (query->jointree == NULL)
		return false;
	foreach(lc, make_ands_implicit((Expr *) query->jointree->quals))
	{
		FuncExpr   *call = (FuncExpr *) lfirst(lc);

		if (IsA(call, FuncExpr) && call->args == NIL &&
			call->funcid == sx_own_function("by_slot", 0, NULL))
			return true;
	}
	return false;
}

/* A query whose result is kept by several workers, if it has to know. */
Query *
sx_mark_by_slot(Query *query)
{
	if (!sx_is_single_node(query) || sx_session_call(query) != NULL ||
		!(query->hasAggs || query->groupClause != NIL || query->havingQual != NULL))
		return query;
	query = copyObject(query);
	query->jointree->quals = make_and_qual(query->jointree->quals,
										   (Node *) call_of("by_slot", BOOLOID));
	return query;
}

/* ---------- the layout ---------- */

/* One more key, behind those of the query. */
void
sx_layout_add_slot(SxLayoutBuilder *builder)
{
	(void) sx_layout_add(builder, SX_COLUMN_KEY, "sx_slot", call_of("slot", INT4OID));
	builder->layout->by_slot = true;
	builder->layout->reason =
		"GROUP BY whose aggregates can be combined, kept by several workers: each merges what it reads into rows of its own, which the view combines";
}

bool
sx_is_slot(const Expr *expr)
{
	const FuncExpr *call = (const FuncExpr *) expr;

	return IsA(call, FuncExpr) && call->args == NIL &&
		call->funcid == sx_own_function("slot", 0, NULL);
}

/* Can results that several workers keep be added up?  ERROR when not. */
static void
check_combines(const SxStateColumn *column)
{
	SxRefusal	refusal;

	if (column->kind != SX_COLUMN_PLAIN || sx_results_combine(column->aggregate))
		return;
	sx_refuse(&refusal,
			  psprintf("aggregate %s cannot be kept by several workers",
					   get_func_name(column->aggregate)),
			  "Its results cannot be combined by calling it on them: leave the aggregate out, or the stream's option parallelism.");
	sx_report_refusal(&refusal);
}

/* What the view reads in place of its state table: its columns, combined over the slots. */
char *
sx_combined_state_sql(const SxLayout *layout, const char *state)
{
	StringInfoData sql;
	StringInfoData keys;
	ListCell   *lc;

	initStringInfo(&sql);
	initStringInfo(&keys);
	foreach(lc, layout->columns)
	{
		SxStateColumn *column = lfirst(lc);
		const char *name = quote_identifier(column->name);
		bool		key = column->kind == SX_COLUMN_KEY || column->kind == SX_COLUMN_ONLY;

		appendStringInfoString(&sql, lc == list_head(layout->columns) ? "" : ", ");
		if (key && sx_is_slot(column->expr))
			appendStringInfo(&sql, "NULL::integer AS %s", name);
		else if (key)
		{
			appendStringInfo(&sql, "r.%s", name);
			appendStringInfo(&keys, "%sr.%s", keys.len > 0 ? ", " : "", name);
		}
		else
		{
			check_combines(column);
			appendStringInfo(&sql, "%s AS %s", sx_combined_column_sql(column, "r", ""), name);
		}
	}
	return psprintf("(SELECT %s FROM %s r GROUP BY %s)", sql.data, state, keys.data);
}

/* ---------- what several workers can do ---------- */

#define NEEDS_OTHERS \
	"needs rows of other partitions, or keeps state that is not merged by key"
#define HINT_OTHERS \
	"Keep the aggregates that can be combined in a continuous view of their own and compute the rest when you read it; or leave the stream's option parallelism out."

static void
refuse_slots(const char *label, const char *problem, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s cannot be kept by several workers: it %s", label, problem),
			 errdetail("Its stream has the option parallelism, which divides the partitions among workers that commit alone."),
			 errhint("%s", hint)));
}

/*
 * Why a step cannot run in several workers; NULL: it can.  The hint says what to do
 * instead.
 */
static const char *
strategy_problem(const SxStepPlan *plan, const char **hint)
{
	switch (plan->strategy)
	{
		case SX_STRATEGY_APPEND:
		case SX_STRATEGY_MERGE:
		case SX_STRATEGY_SINK_TABLE:
		case SX_STRATEGY_SINK_NULL:
			return NULL;
		case SX_STRATEGY_SINK_FUNCTION:
			*hint = "Write into a table (connector = 'table'), and let something else look there.";
			return "calls a function once for all rows of a batch";
		case SX_STRATEGY_SINK_FILE:
		case SX_STRATEGY_SINK_PRINT:
		case SX_STRATEGY_SINK_NOTIFY:
			*hint = "Write into a table (connector = 'table').";
			return "numbers what it delivers by the batches of one worker";
		default:
			*hint = HINT_OTHERS;
			return NEEDS_OTHERS;
	}
}

static const char *
options_problem(const SxViewOptions *options, const char **hint)
{
	*hint = "Leave the option out.";
	if (options->emit == SX_EMIT_INTERVAL)
		return "publishes at intervals (option emit)";
	if (options->state_ttl > 0)
		return "forgets by the time of its last batch (option state_ttl)";
	return NULL;
}

static const char *
reads_problem(const SxStepPlan *plan, Query *query, const char **hint)
{
	*hint = "Aggregate in a continuous view, which adds up what the workers bring; or leave the stream's option parallelism out.";
	if (plan->reads != NIL)
		return "reads a stream that is evaluated once for the whole of a batch";
	if (plan->time_views != NIL || plan->closed_views != NIL || plan->end_watermark)
		return "stands on another continuous view";
	if (list_length(plan->streams) > 1)
		return "reads several streams, whose partitions belong to different workers";
	if (plan->kind == SX_STEP_SINK && !sx_is_row_wise(query))
		return "has a query that looks at more than one row of the batch";
	return NULL;
}

/* ERROR when a step cannot run in several workers. */
void
sx_check_slots(Oid relid)
{
	SxStepPlan *plan = sx_plan_load(relid);
	Query	   *query = sx_view_query(plan->query);
	const char *hint = NULL;
	const char *problem = strategy_problem(plan, &hint);

	if (problem == NULL && plan->kind == SX_STEP_VIEW)
		problem = options_problem(sx_view_options(sx_options_from_json(sx_step_options(relid, NULL, NULL))),
								  &hint);
	if (problem == NULL)
		problem = reads_problem(plan, query, &hint);
	if (problem == NULL && plan->strategy == SX_STRATEGY_MERGE && !sx_is_by_slot(query))
	{
		problem = "was made for one worker";
		hint = "Drop it and create it again afterwards.";
	}
	if (problem != NULL)
		refuse_slots(sx_relation_label(relid), problem, hint);
}

/* Before nodes are made, which would be refused by names that nobody has given. */
void
sx_check_query_slots(Query *query, const SxViewOptions *options, const char *relname)
{
	const char *hint;
	const char *problem = options_problem(options, &hint);

	if (problem != NULL)
		refuse_slots(quote_identifier(relname), problem, hint);
	if (!sx_is_single_node(sx_distinct_as_group(query)) || sx_session_call(query) != NULL)
		refuse_slots(quote_identifier(relname), NEEDS_OTHERS, HINT_OTHERS);
}
