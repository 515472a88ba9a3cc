/*-------------------------------------------------------------------------
 *
 * sql.c
 *		The maintenance SQL of continuous views.
 *
 * The user's query is changed as a tree and then written out by the server's own
 * ruleutils, with everything outside pg_catalog qualified; nothing is cut out of
 * its text.  What is put around it here is meant to be read: users see it in
 * streamext.explain().  For
 *
 *		SELECT tumble(ts, '1 minute') AS w, url, count(*) AS n, avg(ms) AS a
 *		FROM clicks GROUP BY 1, 2
 *
 * each batch runs
 *
 *		INSERT INTO streamext_state.hits AS s (w, url, n, a_sum, a_count)
 *		SELECT d.w, d.url, d.n, d.a_sum, d.a_count
 *		FROM (SELECT tumble(…), url, count(*), sum(ms), count(ms), count(*)
 *		      FROM clicks GROUP BY …) d (w, url, n, a_sum, a_count, rows)
 *		WHERE streamext.on_time(d.w + interval '1 minute', d.rows)
 *		ORDER BY d.w, d.url COLLATE "C"
 *		ON CONFLICT (w, url) DO UPDATE SET n = s.n + excluded.n, …
 *
 * Sorted keys keep two writers from waiting for each other in a circle.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_aggregate.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_namespace.h"
#include "compat.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "plan/plan_internal.h"

/* ---------- pieces ---------- */

char *
sx_type_sql(Oid type, int32 typmod)
{
	return format_type_extended(type, typmod,
								FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}

char *
sx_qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

/*
 * Until AtEOXact_GUC() with the result, what is deparsed or parsed means the same in
 * every session: names outside pg_catalog are qualified, constants are unambiguous
 * and complete.
 */
int
sx_pin_settings(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog"},
		{"DateStyle", "ISO, MDY"},
		{"IntervalStyle", "postgres"},
		{"extra_float_digits", "3"}
	};
	int			nestlevel = NewGUCNestLevel();

	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return nestlevel;
}

/* The query as text in which nothing depends on the session. */
char *
sx_deparse(Query *query)
{
	int			nestlevel = sx_pin_settings();
	char	   *sql;

	sql = pg_get_querydef(query, true);
	AtEOXact_GUC(true, nestlevel);
	return sql;
}

char *
sx_columns_sql(const List *columns, const char *prefix)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	foreach(lc, columns)
	{
		SxStateColumn *column = lfirst(lc);

		appendStringInfo(&sql, "%s%s%s", sql.len > 0 ? ", " : "", prefix,
						 quote_identifier(column->name));
	}
	return sql.data;
}

char *
sx_names_sql(const List *names, const char *prefix)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	foreach(lc, names)
		appendStringInfo(&sql, "%s%s%s", sql.len == 0 ? "" : ", ", prefix,
						 quote_identifier(lfirst(lc)));
	return sql.data;
}

static bool
is_key(const SxStateColumn *column)
{
	return column->kind == SX_COLUMN_KEY || column->kind == SX_COLUMN_ONLY;
}

static List *
key_columns(const SxLayout *layout)
{
	List	   *keys = NIL;
	ListCell   *lc;

	foreach(lc, layout->columns)
	{
		if (is_key(lfirst(lc)))
			keys = lappend(keys, lfirst(lc));
	}
	return keys;
}

/* ORDER BY the keys as their index has them. */
char *
sx_key_order_sql(const SxLayout *layout, const char *prefix)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	foreach(lc, key_columns(layout))
	{
		SxStateColumn *column = lfirst(lc);

		appendStringInfo(&sql, "%s%s%s%s", sql.len > 0 ? ", " : "", prefix,
						 quote_identifier(column->name),
						 sx_column_is_c(column) ? " COLLATE \"C\"" : "");
	}
	return sql.data;
}

/* ---------- merging ---------- */

/* The combine function's own operator, where it has a well-known one. */
static const char *
combine_operator(Oid function)
{
	switch (function)
	{
		case F_INT8PL:
		case F_FLOAT4PL:
		case F_FLOAT8PL:
		case F_CASH_PL:
		case F_INTERVAL_PL:
		case F_NUMERIC_ADD:
			return "+";
		default:
			return NULL;
	}
}

/* greatest() or least(), for max() and min() of the server itself */
static const char *
extreme_function(Oid aggregate)
{
	const char *name = get_func_name(aggregate);

	if (get_func_namespace(aggregate) != PG_CATALOG_NAMESPACE)
		return NULL;
	return strcmp(name, "max") == 0 ? "GREATEST" : strcmp(name, "min") == 0 ? "LEAST" : NULL;
}

static Oid
combine_function(Oid aggregate)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggregate));
	Oid			function;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", aggregate);
	function = ((Form_pg_aggregate) GETSTRUCT(tuple))->aggcombinefn;
	ReleaseSysCache(tuple);
	return function;
}

static char *
call_sql(Oid function, const char *a, const char *b)
{
	const char *operator = combine_operator(function);

	if (operator != NULL)
		return psprintf("%s %s %s", a, operator, b);
	return psprintf("%s(%s, %s)",
					quote_qualified_identifier(get_namespace_name(get_func_namespace(function)),
											   get_func_name(function)), a, b);
}

/*
 * The new value of an aggregate's column from its old one and the batch's.  A strict
 * combine function lets NULL, "no value yet", yield to the other side.
 */
static char *
merged_sql(const SxStateColumn *column)
{
	const char *name = quote_identifier(column->name);
	char	   *a = psprintf("s.%s", name);
	char	   *b = psprintf("excluded.%s", name);
	const char *extreme = extreme_function(column->aggregate);
	Oid			function;

	if (column->kind == SX_COLUMN_PARTIAL)
		return psprintf("streamext.combine_agg(%s::regprocedure, %s, %s)",
						quote_literal_cstr(format_procedure_qualified(column->aggregate)), a, b);
	if (extreme != NULL)
		return psprintf("%s(%s, %s)", extreme, a, b);
	if (column->kind == SX_COLUMN_SUM)
		return psprintf("COALESCE(%s + %s, %s, %s)", a, b, a, b);

	function = combine_function(column->aggregate);
	if (column->start != NULL || !func_strict(function))
		return call_sql(function, a, b);
	if (combine_operator(function) != NULL)
		return psprintf("COALESCE(%s, %s, %s)", call_sql(function, a, b), a, b);
	return psprintf("CASE WHEN %s IS NULL THEN %s WHEN %s IS NULL THEN %s ELSE %s END",
					a, b, b, a, call_sql(function, a, b));
}

char *
sx_forgotten_sql(int64 state_ttl, const char *now)
{
	return psprintf("s." SX_TOUCHED_COLUMN " <= %s - interval %s", now,
					quote_literal_cstr(sx_length_text(state_ttl)));
}

/* The new value where a group that is forgotten begins anew, gone or not. */
static char *
begun_anew_sql(const SxStateColumn *column, int64 state_ttl)
{
	return psprintf("CASE WHEN %s THEN excluded.%s ELSE %s END",
					sx_forgotten_sql(state_ttl, "streamext.batch_time()"),
					quote_identifier(column->name), merged_sql(column));
}

static char *
on_conflict_sql(const SxLayout *layout, int64 state_ttl)
{
	StringInfoData sql;
	bool		first = true;
	ListCell   *lc;

	initStringInfo(&sql);
	appendStringInfo(&sql, "ON CONFLICT (%s) DO ", sx_columns_sql(key_columns(layout), ""));
	foreach(lc, layout->columns)
	{
		SxStateColumn *column = lfirst(lc);

		if (is_key(column))
			continue;
		appendStringInfo(&sql, "%s\n    %s = %s", first ? "UPDATE SET" : ",",
						 quote_identifier(column->name),
						 state_ttl > 0 ? begun_anew_sql(column, state_ttl) : merged_sql(column));
		first = false;
	}
	if (state_ttl > 0)
	{
		appendStringInfo(&sql, "%s\n    " SX_TOUCHED_COLUMN " = excluded." SX_TOUCHED_COLUMN,
						 first ? "UPDATE SET" : ",");
		first = false;
	}
	if (first)
		appendStringInfoString(&sql, "NOTHING");
	return sql.data;
}

/*
 * The user's query with the keys and partial aggregates for its output, and the
 * number of rows behind, which lateness counts.
 */
Query *
sx_partial_query(Query *query, const SxLayout *layout)
{
	List	   *targets = NIL;
	AttrNumber	resno = 1;
	ListCell   *lc;

	query = copyObject(query);
	sx_flatten_group_exprs(query);
	foreach(lc, layout->columns)
	{
		SxStateColumn *column = lfirst(lc);
		Expr	   *expr = column->kind == SX_COLUMN_PARTIAL ?
			(Expr *) sx_partial_aggref(column) : copyObject(column->expr);
		TargetEntry *tle = makeTargetEntry(expr, resno++, column->name, false);

		tle->ressortgroupref = column->sortgroupref;
		targets = lappend(targets, tle);
	}
	if (layout->windowed)
		targets = lappend(targets, makeTargetEntry((Expr *) sx_count_rows(), resno,
												   "rows", false));
	query->targetList = targets;
	query->havingQual = NULL;
	query->hasAggs = true;
	query->hasTargetSRFs = expression_returns_set((Node *) targets);
	return query;
}

/* " rows", and a name that no column has */
static const char *
rows_name(const SxLayout *layout)
{
	const char *name = "rows";
	ListCell   *lc;

restart:
	foreach(lc, layout->columns)
	{
		if (strcmp(((SxStateColumn *) lfirst(lc))->name, name) == 0)
		{
			name = psprintf("%s_", name);
			goto restart;
		}
	}
	return name;
}

/* WHERE … on_time(…), or nothing when the view knows no lateness */
static char *
on_time_sql(const SxLayout *layout, const char *prefix, const char *rows)
{
	char	   *start;

	if (layout->on_time != NULL)
		return psprintf("WHERE streamext.on_time(%s, %s)\n", layout->on_time, rows);
	if (!layout->windowed)
		return pstrdup("");
	start = psprintf("%s%s", prefix, quote_identifier(layout->window_column->name));
	return psprintf("WHERE streamext.on_time(%s, %s)\n",
					sx_window_end_sql(&layout->window, start), rows);
}

/* What the batch has for each key, up to the end of a line. */
static char *
rows_sql(Query *query, const SxLayout *layout)
{
	const char *rows = quote_identifier(rows_name(layout));

	return psprintf("SELECT %s\nFROM (\n%s\n) d (%s%s%s)\n%s", sx_columns_sql(layout->columns, "d."),
					sx_deparse(sx_partial_query(query, layout)), sx_columns_sql(layout->columns, ""),
					layout->windowed ? ", " : "", layout->windowed ? rows : "",
					on_time_sql(layout, "d.", psprintf("d.%s", rows)));
}

char *
sx_merge_sql(Query *query, const SxLayout *layout, const char *target, int64 state_ttl)
{
	return psprintf("INSERT INTO %s AS s (%s)\n%sORDER BY %s\n%s",
					target, sx_columns_sql(layout->columns, ""), rows_sql(query, layout),
					sx_key_order_sql(layout, "d."), on_conflict_sql(layout, state_ttl));
}

/* The rows that a batch adds to a view without aggregates. */
char *
sx_added_rows_sql(const SxLayout *layout, const char *source)
{
	char	   *sql = psprintf("SELECT %s\nFROM %s d\n%s", sx_columns_sql(layout->columns, "d."),
							   source, on_time_sql(layout, "d.", "1"));

	sql[strlen(sql) - 1] = '\0';
	return sql;
}

static char *
append_sql(const SxLayout *layout, const char *target, const char *source)
{
	return psprintf("INSERT INTO %s (%s)\n%s", target, sx_columns_sql(layout->columns, ""),
					sx_added_rows_sql(layout, source));
}

/* Publishes what the delta table collected. */
static char *
publish_sql(const SxLayout *layout, const SxStepNames *names)
{
	char	   *columns = sx_columns_sql(layout->columns, "");

	if (layout->strategy == SX_STRATEGY_APPEND)
		return psprintf("INSERT INTO %s (%s)\nSELECT %s\nFROM %s", names->state, columns,
						columns, names->delta);
	return psprintf("INSERT INTO %s AS s (%s)\nSELECT %s\nFROM %s\nORDER BY %s\n%s",
					names->state, columns, columns, names->delta,
					sx_key_order_sql(layout, ""), on_conflict_sql(layout, 0));
}

/* The row that exists from the start when there is no GROUP BY; else NULL. */
char *
sx_start_row_sql(const SxLayout *layout, const char *state)
{
	StringInfoData values;
	ListCell   *lc;

	if (layout->strategy == SX_STRATEGY_APPEND ||
		((SxStateColumn *) linitial(layout->columns))->kind != SX_COLUMN_ONLY)
		return NULL;
	initStringInfo(&values);
	foreach(lc, layout->columns)
	{
		SxStateColumn *column = lfirst(lc);

		if (column->kind == SX_COLUMN_ONLY)
			appendStringInfoString(&values, "1");
		else if (column->kind == SX_COLUMN_KEY)
			appendStringInfoString(&values, ", 0");	/* the slot */
		else if (column->start == NULL)
			appendStringInfoString(&values, ", NULL");
		else
			appendStringInfo(&values, ", %s", quote_literal_cstr(column->start));
	}
	return psprintf("INSERT INTO %s (%s) VALUES (%s)", state,
					sx_columns_sql(layout->columns, ""), values.data);
}

/* ---------- late rows ---------- */

/*
 * The rows all of whose windows are late, by stream and record: what becomes dead
 * letters.  is_late() counts nothing; apply_sql has counted the pairs.
 */
static char *
late_rows_sql(Query *query, const SxLayout *layout, Oid owner)
{
	const char *late = layout->on_time != NULL ? layout->on_time :
		sx_window_end_sql(&layout->window,
						  psprintf("d.%s", quote_identifier(layout->window_column->name)));
	Query	   *rows = copyObject(query);
	Query	   *arrival;

	sx_flatten_group_exprs(rows);
	if (layout->strategy != SX_STRATEGY_APPEND)
	{
		rows->targetList = list_make1(makeTargetEntry(layout->window_column->expr, 1,
													  layout->window_column->name, false));
		rows->groupClause = NIL;
		rows->groupingSets = NIL;
		rows->havingQual = NULL;
		rows->hasAggs = false;
		rows->hasTargetSRFs = expression_returns_set((Node *) rows->targetList);
	}
	arrival = sx_query_with_arrival(rows, owner);
	if (arrival == NULL)
		return NULL;
	return psprintf("SELECT d.%s AS stream, d.%s AS record\nFROM (\n%s\n) d\n"
					"GROUP BY 1, 2\nHAVING pg_catalog.bool_and(streamext.is_late(%s))\nORDER BY 1, 2",
					SX_ARRIVAL_STREAM, SX_ARRIVAL_RECORD, sx_deparse(arrival),
					late);
}

/*
 * In small steps: what a jump of the watermark expires is deleted by the batches that
 * follow, too, the oldest first.
 */
char *
sx_expire_sql(const char *table, const char *where, const char *order_by)
{
	return psprintf("DELETE FROM %s\nWHERE ctid = ANY (ARRAY(\n"
					"    SELECT s.ctid FROM %s s\n    WHERE %s%s\n    LIMIT $2))",
					table, table, where,
					order_by == NULL ? "" : psprintf("\n    ORDER BY %s", order_by));
}

char *
sx_expire_windows_sql(const SxLayout *layout, const char *table)
{
	char	   *window = psprintf("s.%s", quote_identifier(layout->window_column->name));

	return sx_expire_sql(table, sx_window_closed_sql(&layout->window, window, "$1"), window);
}

void
sx_view_sql(SxStepPlan *plan, Query *query, SxLayout *layout, const SxStepNames *names)
{
	const char *target = plan->emit == SX_EMIT_INTERVAL ? names->delta : names->state;

	if (layout->strategy == SX_STRATEGY_MERGE && plan->emit != SX_EMIT_INTERVAL)
	{
		plan->rows_sql = rows_sql(query, layout);
		plan->rows_sql[strlen(plan->rows_sql) - 1] = '\0';
	}
	if (layout->strategy != SX_STRATEGY_APPEND)
		plan->apply_sql = sx_merge_sql(query, layout, target, plan->state_ttl);
	else
		plan->apply_sql = append_sql(layout, target, names->query);
	if (plan->emit == SX_EMIT_INTERVAL)
	{
		plan->emit_sql = publish_sql(layout, names);
		plan->emit_clear_sql = psprintf("DELETE FROM %s", names->delta);
	}
	plan->start_sql = sx_start_row_sql(layout, names->state);
	if (plan->state_ttl > 0)
		plan->expire_sql = sx_expire_sql(names->state, "s." SX_TOUCHED_COLUMN " <= $1",
										 "s." SX_TOUCHED_COLUMN);
	else if (plan->retention >= 0)
		plan->expire_sql = sx_expire_windows_sql(layout, names->state);
	if (plan->late == SX_LATE_DEAD_LETTER && (layout->windowed || layout->on_time != NULL) &&
		plan->closed_views == NIL)
	{
		plan->late_sql = late_rows_sql(query, layout, names->owner);
		if (plan->late_sql == NULL)
		{
			SxRefusal	refusal;

			sx_refuse(&refusal, "late = 'dead_letter' is not supported yet over this query",
					  "The row that a result comes from cannot be told through a join of streams, a derived stream that aggregates, or one of another owner: use late = 'drop'.");
			sx_report_refusal(&refusal);
		}
	}
}
