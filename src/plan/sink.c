/*-------------------------------------------------------------------------
 *
 * sink.c
 *		Sinks: those of the connectors table and null; the others are in sink/.
 *
 * A sink is a foreign table with the columns of its query and the options, and a
 * hidden view streamext_state.<sink>_q that holds the query (sink_create.c).  In each batch
 *
 *		table			INSERT INTO target SELECT … FROM the hidden view
 *		table, key		the same as an upsert, or a delete (sink_delete.c).  One statement may touch a row only
 *						once, so of several rows of a key the last one by order of
 *						arrival is taken, or by the query's own ORDER BY.
 *		null			the query is evaluated and its rows are thrown away
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "plan/plan_internal.h"
#include "plan/sink_columns.h"
#include "plan/sink_delete.h"
#include "sink/sink.h"

/* The last row of each key. */
static char *
last_rows_sql(Query *query, List *columns, const SxStepNames *names)
{
	Query	   *arrival = query->sortClause != NIL ? NULL :
		sx_query_with_arrival(query, names->owner);
	char	   *keys = sx_sink_key_names(columns, false);

	if (arrival == NULL)
		return psprintf("SELECT DISTINCT ON (%s) r.*\n"
						"FROM (SELECT d.*, pg_catalog.row_number() OVER () AS " SX_SINK_ROW " FROM %s d) r\n"
						"ORDER BY %s, " SX_SINK_ROW " DESC", keys, names->query, keys);
	return psprintf("SELECT DISTINCT ON (%s) r.*\n"
					"FROM (SELECT d.*, pg_catalog.row_number() OVER () AS " SX_SINK_ROW " FROM (\n%s\n) d (%s, %s, %s)) r\n"
					"ORDER BY %s, %s DESC, %s DESC, " SX_SINK_ROW " DESC",
					keys, sx_deparse(arrival),
					psprintf("%s%s", sx_sink_names(columns, false, ""),
							 sx_sink_deletes(query) ? ", " SX_DELETE_COLUMN : ""),
					SX_ARRIVAL_STREAM, SX_ARRIVAL_RECORD, keys,
					SX_ARRIVAL_STREAM, SX_ARRIVAL_RECORD);
}

/* Rows of one key: in the target t and among the last rows l. */
static char *
same_key_sql(List *columns)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	foreach(lc, columns)
	{
		SxSinkColumn *column = lfirst(lc);

		if (column->is_key)
			appendStringInfo(&sql, " AND %s",
							 sx_same_value_sql(column->target_type,
											   psprintf("t.%s", quote_identifier(column->target)),
											   psprintf("l.%s", quote_identifier(column->name)),
											   column->may_be_null));
	}
	return sql.data;
}

/* Where the rows to put come from; a key is deleted or put, never both. */
static char *
insert_rows_sql(Query *query, List *columns, const SxStepNames *names)
{
	char	   *last = last_rows_sql(query, columns, names);
	char	   *target = sx_sink_names(columns, true, "");
	char	   *values = sx_sink_names(columns, false, "l.");

	if (!sx_sink_deletes(query))
		return psprintf("INSERT INTO %s (%s)\nSELECT %s\nFROM (\n%s\n) l", names->state, target,
						values, last);
	return psprintf("WITH l AS MATERIALIZED (\n%s\n), gone AS (\n"
					"DELETE FROM %s t USING l WHERE l." SX_DELETE_COLUMN "%s\n)\n"
					"INSERT INTO %s (%s)\nSELECT %s\nFROM l\nWHERE l." SX_DELETE_COLUMN " IS NOT TRUE",
					last, names->state, same_key_sql(columns), names->state, target, values);
}

static char *
upsert_sql(Query *query, List *columns, const SxStepNames *names)
{
	StringInfoData sql;
	bool		first = true;
	ListCell   *lc;

	initStringInfo(&sql);
	appendStringInfo(&sql, "%s\nON CONFLICT (%s) DO ", insert_rows_sql(query, columns, names),
					 sx_sink_key_names(columns, true));
	foreach(lc, columns)
	{
		SxSinkColumn *column = lfirst(lc);
		const char *name = quote_identifier(column->target);

		if (column->is_key)
			continue;
		appendStringInfo(&sql, "%s\n    %s = excluded.%s", first ? "UPDATE SET" : ",",
						 name, name);
		first = false;
	}
	if (first)
		appendStringInfoString(&sql, "NOTHING");
	return sql.data;
}

SxStepPlan *
sx_build_sink_plan(Query *query, List *options, Oid target, const SxStepNames *names)
{
	SxStepPlan *plan = palloc0(sizeof(SxStepPlan));
	List	   *columns = sx_sink_columns(query);
	bool		keyed = sx_sink_mark_keys(columns, options);

	SxReads		reads = sx_query_reads(query, options);

	plan->name = names->step;
	plan->kind = SX_STEP_SINK;
	plan->streams = reads.streams;
	plan->reads = reads.derived;
	plan->options = options;
	plan->retention = -1;
	if (strcmp(sx_option(options, "connector"), "function") == 0)
	{
		sx_function_sink_plan(plan, names);
		return plan;
	}
	if (sx_sink_plan(plan, options, names->query))
		return plan;
	if (!sx_is_table_sink(options))
	{
		plan->strategy = SX_STRATEGY_SINK_NULL;
		plan->reason = "rows are computed and thrown away";
		plan->apply_sql = psprintf("SELECT pg_catalog.count(d.*)\nFROM %s d", names->query);
		return plan;
	}
	plan->strategy = SX_STRATEGY_SINK_TABLE;
	if (OidIsValid(target))
		sx_sink_match_target(columns, target);
	if (keyed)
	{
		plan->reason = sx_sink_deletes(query) ?
			psprintf("a key: the last row of each key in the batch replaces the one in the table, or deletes it: %s",
					 sx_option(options, "delete_when")) :
			"a key: the last row of each key in the batch replaces the one in the table";
		plan->apply_sql = upsert_sql(query, columns, names);
	}
	else
	{
		plan->reason = "no key: the rows of each batch are added";
		plan->apply_sql = psprintf("INSERT INTO %s (%s)\nSELECT %s\nFROM %s d", names->state,
								   sx_sink_names(columns, true, ""),
								   sx_sink_names(columns, false, "d."), names->query);
	}
	return plan;
}
