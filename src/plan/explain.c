/*-------------------------------------------------------------------------
 *
 * explain.c
 *		The maintenance plan in words.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"

#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "fdw/stream.h"
#include "plan/bound.h"
#include "plan/explain_nodes.h"
#include "plan/node.h"
#include "plan/plan_internal.h"
#include "plan/sink_delete.h"
#include "plan/stream_def.h"

PG_FUNCTION_INFO_V1(sx_explain);

char *
sx_streams_text(List *streams)
{
	StringInfoData text;
	ListCell   *lc;

	initStringInfo(&text);
	foreach(lc, streams)
	{
		SxStream   *stream = sx_stream_load(lfirst_oid(lc));

		appendStringInfo(&text, "%s%s", text.len > 0 ? ", " : "", stream->label);
		if (stream->has_watermark)
			appendStringInfo(&text, " (watermark %s)",
							 sx_length_text(stream->watermark_delay));
	}
	return text.data;
}

const char *
sx_strategy_name(SxStrategy strategy)
{
	switch (strategy)
	{
		case SX_STRATEGY_APPEND:
			return "append";
		case SX_STRATEGY_MERGE:
			return "merge";
		case SX_STRATEGY_RECOMPUTE:
			return "recompute";
		case SX_STRATEGY_REDUCE:
			return "reduce";
		case SX_STRATEGY_RETRACT:
			return "retract";
		case SX_STRATEGY_DISTINCT:
			return "distinct";
		case SX_STRATEGY_SESSION:
			return "session";
		case SX_STRATEGY_JOIN:
			return "join";
		case SX_STRATEGY_SINK_TABLE:
			return "table";
		case SX_STRATEGY_SINK_NULL:
			return "null";
		case SX_STRATEGY_SINK_FUNCTION:
			return "function";
		case SX_STRATEGY_BATCH:
			return "batch";
		case SX_STRATEGY_WINDOW:
			return "window";
		case SX_STRATEGY_UPDATE_STATE:
			return "update_state";
		case SX_STRATEGY_MAP_WITH_STATE:
			return "map_with_state";
		case SX_STRATEGY_DEDUPLICATE:
			return "deduplicate";
		case SX_STRATEGY_CHANGES:
			return "changes";
		case SX_STRATEGY_SINK_FILE:
			return "file";
		case SX_STRATEGY_SINK_PRINT:
			return "print";
		case SX_STRATEGY_SINK_NOTIFY:
			return "notify";
	}
	return NULL;
}

static void
explain_window(StringInfo text, const SxStepPlan *plan, const SxLayout *layout)
{
	if (plan->join_bound != NULL)
		appendStringInfo(text, "Bound: %s\n", plan->join_bound);
	else if (layout->windowed)
		appendStringInfo(text, "Window: column %s, %s\n",
						 quote_identifier(layout->window_column->name),
						 layout->window.calendar ? layout->window.calendar :
						 layout->session_end != NULL ? "end of the session" :
						 sx_length_text(layout->window.length));
	else
		appendStringInfoString(text, "Window: none over the event time, so every row is accepted\n");
	if (plan->emit == SX_EMIT_INTERVAL)
		appendStringInfo(text, "Emit: every %s\n", sx_length_text(plan->emit_interval));
	else
		appendStringInfo(text, "Emit: %s\n", sx_emit_name(plan->emit));
	if (layout->windowed)
		appendStringInfo(text, "Late rows: %s\nRetention: %s\n", sx_late_name(plan->late),
						 plan->retention < 0 ? "for ever" : sx_length_text(plan->retention));
}

static void
explain_sql(StringInfo text, const char *when, const char *sql)
{
	if (sql != NULL)
		appendStringInfo(text, "\n%s:\n%s\n", when, sql);
}

static void
explain_panes(StringInfo text, const SxStepPlan *plan)
{
	if (plan->panes == NULL)
		return;
	explain_sql(text, "Before that, each batch makes a pane ($1, $2 = batch before, batch)",
				plan->panes->add_sql);
	explain_sql(text, "… and two panes become a larger one ($1 = level, $2, $3 = the two)",
				plan->panes->merge_sql);
	explain_sql(text, "… and panes of batches that have left go ($1 = level, $2, $3 = panes)",
				plan->panes->trim_sql);
}

/* By which its rows are found again: columns, or an expression over the nodes. */
static void
explain_key(StringInfo text, const SxStepPlan *plan, const SxLayout *layout)
{
	StringInfoData key;
	ListCell   *lc;

	if (plan->recompute != NULL)
		appendStringInfo(text, "Key: %s\n", plan->recompute->keyed ? plan->recompute->key :
						 "none, all is computed again");
	if (layout == NULL || !sx_layout_is_merged(layout))
		return;
	initStringInfo(&key);
	foreach(lc, layout->columns)
	{
		SxStateColumn *column = lfirst(lc);

		if (column->kind == SX_COLUMN_KEY)
			appendStringInfo(&key, "%s%s", key.len == 0 ? "" : ", ", quote_identifier(column->name));
	}
	appendStringInfo(text, "Key: %s\n", key.len == 0 ? "none, there is one row" : key.data);
}

static void
explain_closed(StringInfo text, const SxStepPlan *plan)
{
	ListCell   *lc;

	appendStringInfoString(text, "Stands on: windows that close in");
	foreach(lc, plan->closed_views)
		appendStringInfo(text, "%s %s", lc == list_head(plan->closed_views) ? "" : ",",
						 sx_qualified_name(lfirst_oid(lc)));
	appendStringInfoChar(text, '\n');
}

char *
sx_explain_plan(const SxStepPlan *plan, const SxLayout *layout, const SxStepNames *names)
{
	StringInfoData text;
	ListCell   *lc;

	initStringInfo(&text);
	appendStringInfo(&text, "%s: %s\n",
					 plan->kind == SX_STEP_VIEW ? "View" :
					 plan->kind == SX_STEP_SINK ? "Sink" : "Stream", plan->name);
	appendStringInfo(&text, "Strategy: %s\n", sx_strategy_name(plan->strategy));
	appendStringInfo(&text, "Reason: %s\n", plan->reason);
	appendStringInfo(&text, "Reads: %s\n", sx_streams_text(plan->streams));
	if (plan->closed_views != NIL)
		explain_closed(&text, plan);
	if (plan->panes != NULL)
		appendStringInfo(&text, "Window: answered from panes in %s, aggregates of 1, 2, 4, … batches\n",
						 sx_qualified_name(plan->panes->table));
	else if (plan->no_panes != NULL)
		appendStringInfo(&text, "Window: its rows are read whenever it fires, not panes: %s\n",
						 plan->no_panes);
	if (layout != NULL)
		explain_window(&text, plan, layout);
	if (names->state != NULL && !plan->stateless)
		appendStringInfo(&text, "%s: %s\n",
						 plan->kind == SX_STEP_SINK ? "Target table" : "State table",
						 names->state);
	explain_key(&text, plan, layout);
	if (layout != NULL || (plan->kind == SX_STEP_STREAM && !plan->stateless && plan->strategy != SX_STRATEGY_CHANGES))
		appendStringInfo(&text, "Bounded by: %s\n", sx_bound_text(plan, layout));
	appendStringInfo(&text, "Query: %s\n", names->query);
	explain_sql(&text, plan->keeps_first ? "Each batch, as far as its reader takes them" : "Each batch",
				plan->apply_sql);
	foreach(lc, plan->then_sql)
		explain_sql(&text, "… and then", lfirst(lc));
	if (plan->recompute != NULL)
	{
		explain_sql(&text, "Each batch, into its node", plan->recompute->feed_sql);
		explain_sql(&text, plan->recompute->feed_sql == NULL ? "Each batch ($1 = the touched keys)" :
					"… and then ($1 = the touched keys)", plan->recompute->keys_sql);
		explain_sql(&text, "… and, when there are any, rows that cannot matter any more go",
					plan->recompute->prune_sql);
		explain_sql(&text, "… and what is left of $1 is ($2 = numbers of arrival up to it are old)", plan->recompute->changed_sql);
		explain_sql(&text, "… and, when there are any", plan->recompute->delete_sql);
		explain_sql(&text, "… and then", plan->recompute->insert_sql);
	}
	if (plan->session != NULL)
	{
		explain_sql(&text, "… and, when rows were late ($1 = boundary)", plan->session->forget_sql);
		explain_sql(&text, "When the watermark moves ($1, $2 = boundary now, before)", plan->session->evict_sql);
	}
	foreach(lc, plan->join_sql)
		explain_sql(&text, lc == list_head(plan->join_sql) ?
					"Each batch ($1 = rows with numbers up to it are old)" : "… and then", lfirst(lc));
	if (plan->window != NULL)
	{
		explain_sql(&text, "Read when it fires ($1, $2 = first and last batch)", plan->window->fill_sql);
		explain_sql(&text, "… and then ($1, $2 = batches that have left)", plan->window->trim_sql);
	}
	explain_panes(&text, plan);
	explain_sql(&text, "… and then ($1 = batch id, $2 = batch time)", plan->call_sql);
	explain_sql(&text, "Late rows become dead letters", plan->late_sql);
	explain_sql(&text, "At each emission", plan->emit_sql);
	explain_sql(&text, "… and then", plan->emit_clear_sql);
	explain_sql(&text, plan->state_ttl > 0 ? "At the end ($1 = batch time - state_ttl, $2 = so many rows)" :
				"When the watermark moves ($1 = watermark - retention, $2 = so many rows)",
				plan->expire_sql);
	text.data[text.len - 1] = '\0';
	return text.data;
}

/* Names of the objects that a statement would make. */
static SxStepNames *
future_names(CreateTableAsStmt *stmt)
{
	SxStepNames *names = palloc0(sizeof(SxStepNames));
	char	   *name = stmt->into->rel->relname;
	char	   *schema = get_namespace_name(RangeVarGetCreationNamespace(stmt->into->rel));

	names->step = quote_qualified_identifier(schema, name);
	sx_future_state_names(names, sx_state_base_name(schema, name));
	return names;
}

static char *
explain_sink(CreateTableAsStmt *stmt, Query *query, SxStepNames *names)
{
	List	   *options = stmt->into->options;
	const char *table = sx_option(options, "table");
	SxStepPlan *plan;

	names->state = table != NULL ? pstrdup(table) : NULL;
	if (table != NULL)
		options = sx_sink_delete_options(query, options);
	plan = sx_build_sink_plan(sx_sink_delete_query(query, options), options, InvalidOid, names);
	plan->name = names->step;
	return sx_explain_plan(plan, NULL, names);
}

char *
sx_plan_explain_query(CreateTableAsStmt *stmt, const char *query_string)
{
	Query	   *query = sx_created_query(stmt);
	SxStepNames *names = future_names(stmt);
	SxViewOptions *options;
	SxLayout   *layout;
	SxStepPlan *plan;

	if (sx_option(stmt->into->options, "connector") != NULL)
		return explain_sink(stmt, query, names);
	if (stmt->objtype != OBJECT_MATVIEW &&
		(stmt->into->options != NIL || !sx_is_row_wise(query)))
		return sx_explain_plan(sx_build_stream_plan(query, stmt->into->options, names),
							   NULL, names);
	if (stmt->objtype != OBJECT_MATVIEW)
		return psprintf("Stream: %s\nReads: %s\nQuery:\n%s", names->step,
						sx_streams_text(sx_query_streams(query)), sx_deparse(query));

	query = sx_distinct_as_group(query);
	if (!sx_is_single_node(query))
		return sx_explain_by_making(stmt, query_string);
	sx_check_view_query(query);
	options = sx_view_options(stmt->into->options);
	plan = sx_build_view_plan(query, options, names, &layout);
	return sx_explain_plan(plan, layout, names);
}

/* streamext.explain(name, sizes) */
Datum
sx_explain(PG_FUNCTION_ARGS)
{
	text	   *name = PG_GETARG_TEXT_PP(0);
	bool		sizes = PG_NARGS() > 1 && PG_GETARG_BOOL(1);
	Oid			relid = RangeVarGetRelid(makeRangeVarFromNameList(textToQualifiedNameList(name)),
										 NoLock, false);

	switch (sx_relation_kind(relid))
	{
		case SX_REL_NONE:
		case SX_REL_SOURCE:
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("\"%s\" has no query to explain", text_to_cstring(name)),
					 errhint("Give the name of a continuous view, a sink or a stream made by CREATE STREAM … AS SELECT; streamext.views lists them.")));
			break;
		default:
			break;
	}
	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_VIEW, get_rel_name(relid));
	PG_RETURN_TEXT_P(cstring_to_text(sx_explain_tree(relid, sizes)));
}
