/*-------------------------------------------------------------------------
 *
 * session_evict.c
 *		Session windows: late rows, and the rows that the node below need not keep.
 *
 * A row is late when all its sessions are closed.  From rows (layout->from_rows) the node
 * keeps each row until its session closes: those within the bounds of a closing session
 * are its own, as what lives beside it came when it was closed, and they have gone.  Rows
 * that a batch has added to no live session go at once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/ruleutils.h"

#include "plan/node.h"
#include "plan/session_internal.h"

/* A condition: the session of d, with start and end, is stored and live (a condition on s). */
static char *
has_session_sql(const SxLayout *layout, const char *state, const char *live)
{
	return psprintf("EXISTS (SELECT FROM %s s WHERE s.%s <= d.sx_start AND s.%s >= d.sx_end AND %s%s)",
					state, sx_quoted(layout->session_start), sx_quoted(layout->session_end), live,
					sx_session_same_key_sql(layout, "s.", "d."));
}

char *
sx_session_late_sql(Query *query, const SxLayout *layout, const SxStepNames *names)
{
	Query	   *arrival = sx_query_with_arrival(sx_session_rows(query, layout, sx_session_key_columns(layout)),
												names->owner);

	if (arrival == NULL)
	{
		SxRefusal	refusal;

		sx_refuse(&refusal, "late = 'dead_letter' is not supported over these session windows",
				  "The record that a row comes from cannot be told when its rows are kept (an aggregate like array_agg or count(DISTINCT)), through a join of streams or through a derived stream that aggregates: use late = 'drop'.");
		sx_report_refusal(&refusal);
	}
	return psprintf("SELECT d.%s AS stream, d.%s AS record\nFROM (\n%s\n) d\nWHERE d.sx_end > d.sx_start\n"
					"GROUP BY 1, 2\nHAVING bool_and(streamext.is_late(d.sx_end) AND NOT %s)\nORDER BY 1, 2",
					SX_ARRIVAL_STREAM, SX_ARRIVAL_RECORD, sx_deparse(arrival),
					has_session_sql(layout, names->state,
									psprintf("NOT streamext.is_late(s.%s)", sx_quoted(layout->session_end))));
}

/* The rows of the node, as d: their place, keys, sx_start and sx_end. */
static char *
kept_rows_sql(Query *query, const SxLayout *layout, char **table)
{
	Query	   *rows = sx_session_rows(query, layout, sx_session_key_columns(layout));
	RangeTblRef *ref = linitial_node(RangeTblRef, rows->jointree->fromlist);
	Oid			state;
	SxLayout   *leaf = sx_view_layout(sx_node_of(rt_fetch(ref->rtindex, rows->rtable)), &state);
	StringInfoData columns;
	int			nestlevel;
	List	   *context;
	ListCell   *lc;

	initStringInfo(&columns);
	nestlevel = sx_pin_settings();
	context = deparse_context_for("c", state);
	foreach(lc, rows->targetList)
	{
		TargetEntry *tle = lfirst(lc);
		Node	   *expr = (Node *) tle->expr;

		ChangeVarNodes(expr, ref->rtindex, 1, 0);
		appendStringInfo(&columns, ", %s AS %s",
						 deparse_expression(sx_replace_by_output(expr, leaf->output), context, true, false),
						 quote_identifier(tle->resname));
	}
	AtEOXact_GUC(true, nestlevel);
	*table = sx_qualified_name(state);
	return psprintf("(SELECT c.ctid AS sx_place%s FROM %s c) d", columns.data, *table);
}

static const char *
bound_sql(const SxLayout *layout, const char *argument)
{
	return layout->window.type == TIMESTAMPOID ? psprintf("(%s AT TIME ZONE 'UTC')", argument) : argument;
}

/*
 * Rows of the node within a session that closes: they are its own, as what lives beside
 * it came when it was closed, and they have gone.
 */
char *
sx_session_evict_sql(Query *query, const SxLayout *layout, const char *state)
{
	char	   *table;
	char	   *rows = kept_rows_sql(query, layout, &table);
	const char *start = sx_quoted(layout->session_start);
	const char *end = sx_quoted(layout->session_end);

	return psprintf("DELETE FROM %s l\nWHERE l.ctid = ANY (ARRAY(\n"
					"    SELECT o.sx_place FROM %s s CROSS JOIN LATERAL (\n"
					"        SELECT d.sx_place FROM %s\n"
					"        WHERE d.sx_start >= s.%s AND d.sx_start <= s.%s AND d.sx_end <= s.%s%s OFFSET 0) o\n"
					"    WHERE s.%s <= %s AND s.%s > %s))",
					table, state, rows, start, end, end, sx_session_same_key_sql(layout, "d.", "s."),
					end, bound_sql(layout, "$1"), end, bound_sql(layout, "$2"));
}

/* Rows that the batch has added, but that are in no live session. */
char *
sx_session_forget_sql(Query *query, const SxLayout *layout, const char *state)
{
	Query	   *added = sx_session_rows(query, layout, sx_session_key_columns(layout));
	char	   *hash = sx_session_hash_sql(layout, "d.");
	char	   *table;
	char	   *rows = kept_rows_sql(query, layout, &table);
	const char *bound = bound_sql(layout, "$1");

	sx_session_read_changes(added);
	return psprintf("DELETE FROM %s l USING %s\n"
					"WHERE l.ctid = d.sx_place%s AND (d.sx_end <= %s) IS NOT FALSE\n    AND NOT %s",
					table, rows,
					hash == NULL ? "" :
					psprintf(" AND %s IN (\nSELECT %s FROM (\n%s\n) d WHERE (d.sx_end <= %s) IS NOT FALSE)",
							 hash, hash, sx_deparse(added), bound),
					bound,
					has_session_sql(layout, state, psprintf("s.%s > %s", sx_quoted(layout->session_end), bound)));
}
