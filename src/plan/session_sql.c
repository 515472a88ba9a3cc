/*-------------------------------------------------------------------------
 *
 * session_sql.c
 *		The maintenance SQL of session windows.
 *
 * For SELECT k, count(*) FROM s GROUP BY k, session(ts, '10 s') each batch runs
 *
 *		WITH i AS (		-- islands: sessions of the batch alone
 *			SELECT k, min(sx_start), max(sx_end), count(*), … FROM (rows, numbered) GROUP BY k, sx_island
 *		), old AS (		-- stored ones that they touch, if they are not closed
 *			DELETE FROM streamext_state.v s
 *			WHERE s is among those with key_hash(k) = key_hash(i.k),
 *				session_end >= i.session_start and session_start <= i.session_end
 *			RETURNING s.*
 *		)
 *		INSERT INTO streamext_state.v
 *		SELECT k, min(session_start), max(session_end), sum(n), …
 *		FROM (i UNION ALL old, numbered) GROUP BY k, sx_island
 *		WHERE on_time(…)
 *
 * One pass is enough: live sessions of a key never touch each other, so whatever a
 * merged session reaches, one of its islands reaches.  A session whose end has been
 * passed is never opened again; what would have extended it is a session of its own, and
 * late when that has ended, too.  Such a one is of the batch's rows alone, so counting
 * them counts late rows.
 *
 * From rows (layout->from_rows) the same statement merges bounds alone, and computes the
 * aggregates from the rows that the node below keeps.  Its rows go when their session is
 * closed (session_evict.c), so those within the bounds of a live session are its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

#include "catalog/sx_catalog.h"
#include "plan/node.h"
#include "plan/session_internal.h"
#include "state/changes.h"

/*
 * What stands in from, with start and end of a span, and the number of the session that
 * it belongs to among those of its key.
 */
static char *
numbered_sql(const SxLayout *layout, const char *from, const char *start, const char *end)
{
	char	   *keys = sx_columns_sql(sx_session_keys(layout), "r.");
	char	   *over = psprintf("%s%s%sORDER BY r.%s, r.%s", keys[0] == '\0' ? "" : "PARTITION BY ",
								keys, keys[0] == '\0' ? "" : " ", start, end);

	return psprintf("SELECT r.*, count(*) FILTER (WHERE r.sx_new) OVER (%s) AS sx_island\n"
					"FROM (SELECT r.*, (r.%s <= max(r.%s) OVER (%s ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) IS NOT TRUE AS sx_new\n"
					"FROM (\n%s\n) r) r", over, start, end, over, from);
}

/* Rows that are in a session; those without a time are counted. */
static char *
in_session_sql(const SxLayout *layout, const char *rows)
{
	if (!layout->windowed)
		return psprintf("SELECT r.* FROM (\n%s\n) r WHERE r.sx_end > r.sx_start", rows);
	return psprintf("SELECT r.* FROM (\n%s\n) r\n"
					"WHERE CASE WHEN r.sx_start IS NULL THEN streamext.on_time(NULL::timestamptz, 1) ELSE r.sx_end > r.sx_start END",
					rows);
}

/* ---------- grouping ---------- */

/* Groups the query by the keys among its columns, and by another of them. */
static void
group_by(Query *query, const Query *by, const SxLayout *layout, AttrNumber other, Oid other_type)
{
	SortGroupClause *clause = makeNode(SortGroupClause);
	TargetEntry *tle;
	ListCell   *lc;
	Index		last = 0;

	foreach(lc, sx_session_keys(layout))
	{
		SxStateColumn *column = lfirst(lc);
		ListCell   *c;

		foreach(c, by->groupClause)
		{
			if (lfirst_node(SortGroupClause, c)->tleSortGroupRef == column->sortgroupref)
				query->groupClause = lappend(query->groupClause, copyObject(lfirst(c)));
		}
		last = Max(last, column->sortgroupref);
	}
	tle = makeTargetEntry((Expr *) makeVar(1, other, other_type, -1, InvalidOid, 0),
						  list_length(query->targetList) + 1, "sx_group", false);
	clause->tleSortGroupRef = tle->ressortgroupref = last + 1;
	get_sort_group_operators(other_type, true, true, false, &clause->sortop, &clause->eqop,
							 NULL, &clause->hashable);
	query->targetList = lappend(query->targetList, tle);
	query->groupClause = lappend(query->groupClause, clause);
	query->hasAggs = true;
}

static TargetEntry *
target(Expr *expr, AttrNumber resno, const SxStateColumn *column)
{
	TargetEntry *tle = makeTargetEntry(expr, resno, pstrdup(column->name), false);

	if (column->kind == SX_COLUMN_KEY)
		tle->ressortgroupref = column->sortgroupref;
	return tle;
}

static Node *
key_var(const SxStateColumn *column, AttrNumber attno)
{
	return (Node *) makeVar(1, attno, column->type, exprTypmod((Node *) column->expr),
							column->collation, 0);
}

/*
 * Sessions of the batch alone: columns of the state table, and the number of rows.
 * bounds: no aggregates.
 */
static char *
islands_sql(Query *query, const SxLayout *layout, bool bounds)
{
	SxSessionColumns *rows = sx_session_key_columns(layout);
	List	   *targets = NIL;
	Query	   *from;
	Query	   *result;
	char	   *sql;
	AttrNumber	nrows;
	ListCell   *lc;

	foreach(lc, layout->columns)
	{
		SxStateColumn *column = lfirst(lc);
		AttrNumber	resno = list_length(targets) + 1;
		Expr	   *expr = column->kind == SX_COLUMN_PARTIAL ?
			(Expr *) sx_partial_aggref(column) : column->expr;

		if (column->kind == SX_COLUMN_KEY)
			targets = lappend(targets, target((Expr *) key_var(column, resno), resno, column));
		else if (column->kind == SX_COLUMN_SESSION)
			targets = lappend(targets, target(NULL, resno, column));
		else if (!bounds)
			targets = lappend(targets, target((Expr *) sx_session_arguments((Node *) expr, rows),
											  resno, column));
	}
	from = sx_session_rows(query, layout, rows);
	if (layout->from_rows)
		sx_session_read_changes(from);
	sql = numbered_sql(layout, in_session_sql(layout, sx_deparse(from)), "sx_start", "sx_end");
	nrows = list_length(rows->targets);

	/* start, end and count come as the parser makes them */
	result = sx_parse(psprintf("SELECT min(d.sx_start), max(d.sx_end), count(*) AS sx_rows FROM (\n%s\n) d", sql), NULL, 0);
	foreach(lc, targets)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->expr == NULL)
			tle->expr = copyObject(list_nth_node(TargetEntry, result->targetList,
												 strcmp(tle->resname, layout->session_start->name) == 0 ? 0 : 1)->expr);
	}
	targets = lappend(targets, makeTargetEntry(copyObject(lthird_node(TargetEntry, result->targetList)->expr),
											   list_length(targets) + 1, "sx_rows", false));
	result->targetList = targets;
	/* behind start and end: new, island */
	group_by(result, query, layout, nrows + 4, INT8OID);
	return sx_deparse(result);
}

/* ---------- merging ---------- */

/* Columns by which sessions are found: keys and bounds. */
static List *
bound_columns(const SxLayout *layout)
{
	return lappend(lappend(sx_session_keys(layout), layout->session_start), layout->session_end);
}

/*
 * Islands and the stored sessions that they touch, as i and old.  The subquery with OFFSET 0
 * is looked up by the index for each island, whatever the planner thinks of the table's size.
 */
static char *
touched_sql(Query *query, const SxLayout *layout, const char *state, const List *columns)
{
	char	   *hash = sx_session_hash_sql(layout, "x.");
	const char *start = sx_quoted(layout->session_start);
	const char *end = sx_quoted(layout->session_end);

	return psprintf("WITH i AS MATERIALIZED (\n%s\n), old AS (\n"
					"DELETE FROM %s s\nWHERE s.ctid = ANY (ARRAY(\n"
					"    SELECT o.ctid FROM i CROSS JOIN LATERAL (\n"
					"        SELECT x.ctid FROM %s x WHERE %sx.%s >= i.%s AND x.%s <= i.%s%s OFFSET 0) o))\n"
					"RETURNING %s\n)",
					islands_sql(query, layout, layout->from_rows), state, state,
					hash != NULL ? psprintf("%s = %s AND ", hash, sx_session_hash_sql(layout, "i.")) : "",
					end, start, start, end,
					layout->windowed ? psprintf(" AND NOT streamext.is_late(x.%s)", end) : "",
					sx_columns_sql(columns, "s."));
}

/* i and old merged: columns of the state table and sx_rows, those of the batch */
static char *
merged_sql(const SxLayout *layout, const List *columns)
{
	char	   *keys = sx_columns_sql(sx_session_keys(layout), "r.");
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	foreach(lc, columns)
	{
		SxStateColumn *column = lfirst(lc);

		if (column->kind == SX_COLUMN_KEY)
			appendStringInfo(&sql, "r.%s, ", sx_quoted(column));
		else if (column->kind == SX_COLUMN_SESSION)
			appendStringInfo(&sql, "%s(r.%s) AS %s, ", column == layout->session_start ? "min" : "max",
							 sx_quoted(column), sx_quoted(column));
		else
			appendStringInfo(&sql, "%s AS %s, ", sx_combined_column_sql(column, "r", ""), sx_quoted(column));
	}
	return psprintf("SELECT %ssum(r.sx_rows)::bigint AS sx_rows\nFROM (\n%s\n) r\nGROUP BY %s%sr.sx_island",
					sql.data,
					numbered_sql(layout,
								 psprintf("SELECT %s, i.sx_rows FROM i\nUNION ALL\nSELECT %s, 0 FROM old",
										  sx_columns_sql(columns, "i."), sx_columns_sql(columns, "old.")),
								 sx_quoted(layout->session_start), sx_quoted(layout->session_end)),
					keys, keys[0] == '\0' ? "" : ", ");
}

static char *
on_time_sql(const SxLayout *layout)
{
	return layout->windowed ? psprintf("\nWHERE streamext.on_time(m.%s, m.sx_rows)", sx_quoted(layout->session_end)) : "";
}

static char *
combine_sql(Query *query, const SxLayout *layout, const char *state)
{
	return psprintf("%s\nINSERT INTO %s (%s)\nSELECT %s\nFROM (\n%s\n) m%s",
					touched_sql(query, layout, state, layout->columns), state,
					sx_columns_sql(layout->columns, ""), sx_columns_sql(layout->columns, "m."),
					merged_sql(layout, layout->columns), on_time_sql(layout));
}

/* ---------- from rows ---------- */

/* m (the merged bounds), before it is known, for the parser */
static char *
stub_sql(const List *columns)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	foreach(lc, columns)
	{
		SxStateColumn *column = lfirst(lc);

		appendStringInfo(&sql, "%sNULL::%s%s AS %s", sql.len == 0 ? "WITH m AS (SELECT " : ", ",
						 sx_type_sql(column->type, -1),
						 OidIsValid(column->collation) ?
						 psprintf(" COLLATE %s", generate_collation_name(column->collation)) : "",
						 sx_quoted(column));
	}
	appendStringInfoString(&sql, ")");
	return sql.data;
}

/* Rows of the node that are in m's sessions, grouped by these: the state table's columns. */
static char *
values_sql(Query *query, const SxLayout *layout, const List *bounds)
{
	SxSessionColumns *rows = sx_session_key_columns(layout);
	List	   *targets = NIL;
	Query	   *result;
	AttrNumber	n;
	Oid			type = layout->session_start->type;
	ListCell   *lc;

	foreach(lc, layout->columns)
	{
		SxStateColumn *column = lfirst(lc);
		AttrNumber	resno = list_length(targets) + 1;

		if (column->kind == SX_COLUMN_KEY)
			targets = lappend(targets, target((Expr *) key_var(column, resno), resno, column));
		else if (column->kind == SX_COLUMN_SESSION)
			targets = lappend(targets, target(NULL, resno, column));
		else
			targets = lappend(targets, target((Expr *) sx_session_arguments((Node *) column->expr, rows),
											  resno, column));
	}
	n = list_length(rows->targets);
	result = sx_parse(psprintf("%s\nSELECT max(d.sx_session_end) FROM (\n"
							   "SELECT r.*, m.%s AS sx_session_start, m.%s AS sx_session_end FROM m CROSS JOIN LATERAL (\n"
							   "SELECT r.* FROM (\n%s\n) r\n"
							   "WHERE r.sx_start >= m.%s AND r.sx_start <= m.%s AND r.sx_end <= m.%s AND r.sx_end > r.sx_start%s OFFSET 0) r\n) d",
							   stub_sql(bounds), sx_quoted(layout->session_start), sx_quoted(layout->session_end),
							   sx_deparse(sx_session_rows(query, layout, rows)),
							   sx_quoted(layout->session_start), sx_quoted(layout->session_end), sx_quoted(layout->session_end),
							   sx_session_same_key_sql(layout, "r.", "m.")),
					  NULL, 0);
	foreach(lc, targets)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->expr == NULL)
			tle->expr = strcmp(tle->resname, layout->session_start->name) == 0 ?
				(Expr *) makeVar(1, n + 3, type, -1, InvalidOid, 0) :
				copyObject(linitial_node(TargetEntry, result->targetList)->expr);
	}
	result->cteList = NIL;
	result->targetList = targets;
	/* live sessions of a key differ in their start */
	group_by(result, query, layout, n + 3, type);
	return sx_deparse(result);
}

static char *
from_rows_sql(Query *query, const SxLayout *layout, const char *state)
{
	List	   *bounds = bound_columns(layout);

	return psprintf("%s, m AS MATERIALIZED (\nSELECT m.*\nFROM (\n%s\n) m%s\n)\nINSERT INTO %s (%s)\nSELECT %s\nFROM (\n%s\n) v",
					touched_sql(query, layout, state, bounds), merged_sql(layout, bounds),
					on_time_sql(layout), state, sx_columns_sql(layout->columns, ""),
					sx_columns_sql(layout->columns, "v."), values_sql(query, layout, bounds));
}

/* ---------- the step ---------- */

static bool
reads_node(Query *query)
{
	Node	   *from = linitial(query->jointree->fromlist);

	return list_length(query->jointree->fromlist) == 1 && IsA(from, RangeTblRef) &&
		OidIsValid(sx_node_of(rt_fetch(((RangeTblRef *) from)->rtindex, query->rtable)));
}

void
sx_session_sql(SxStepPlan *plan, Query *query, SxLayout *layout, const SxStepNames *names)
{
	SxSession  *session = palloc0(sizeof(SxSession));

	plan->session = session;
	if (layout->from_rows && !reads_node(query))
		return;					/* explained before it is made */
	if (plan->late == SX_LATE_DEAD_LETTER && layout->windowed && plan->closed_views == NIL)
		plan->late_sql = sx_session_late_sql(query, layout, names);
	plan->apply_sql = layout->from_rows ? from_rows_sql(query, layout, names->state) :
		combine_sql(query, layout, names->state);
	if (plan->retention >= 0)
		plan->expire_sql = psprintf("DELETE FROM %s\nWHERE %s", names->state,
									sx_window_closed_sql(&layout->window, sx_quoted(layout->session_end), "$1"));
	if (layout->from_rows && layout->windowed &&
		(plan->late != SX_LATE_UPDATE || plan->retention >= 0))
	{
		session->evict_sql = sx_session_evict_sql(query, layout, names->state);
		session->forget_sql = sx_session_forget_sql(query, layout, names->state);
	}
}

char *
sx_session_index_sql(const SxLayout *layout)
{
	char	   *hash = sx_session_hash_sql(layout, "");

	return psprintf("%s%s%s", hash != NULL ? hash : "", hash != NULL ? ", " : "",
					sx_quoted(layout->session_end));
}

/* Index of the node that keeps the rows: by key and time. */
void
sx_session_prepare(Query *query, SxLayout *layout)
{
	RangeTblRef *ref = linitial_node(RangeTblRef, query->jointree->fromlist);
	Oid			state;
	SxLayout   *leaf = sx_view_layout(sx_node_of(rt_fetch(ref->rtindex, query->rtable)), &state);
	Node	   *start = copyObject(linitial(((FuncExpr *) layout->session_start->expr)->args));
	StringInfoData keys;
	int			nestlevel = sx_pin_settings();
	List	   *context = deparse_context_for("c", state);
	const char *start_sql = NULL;
	ListCell   *lc;

	initStringInfo(&keys);
	ChangeVarNodes(start, ref->rtindex, 1, 0);
	if (IsA(start, Var))
		start_sql = deparse_expression(sx_replace_by_output(start, leaf->output), context, false, false);
	foreach(lc, sx_session_keys(layout))
	{
		const SxStateColumn *key = lfirst(lc);
		Node	   *expr = copyObject((Node *) key->expr);

		if (!sx_is_hashable(key->type, key->collation))
			continue;
		ChangeVarNodes(expr, ref->rtindex, 1, 0);
		appendStringInfo(&keys, "%s%s", keys.len > 0 ? ", " : "",
						 deparse_expression(sx_replace_by_output(expr, leaf->output), context, false, false));
	}
	AtEOXact_GUC(true, nestlevel);
	sx_changes_capture(state);
	if (keys.len > 0)
		sx_execute_ddl(psprintf("CREATE INDEX ON %s (streamext.key_hash(%s)%s%s)", sx_qualified_name(state),
								keys.data, start_sql != NULL ? ", " : "", start_sql != NULL ? start_sql : ""));
	else if (start_sql != NULL)
		sx_execute_ddl(psprintf("CREATE INDEX ON %s (%s)", sx_qualified_name(state), start_sql));
}
