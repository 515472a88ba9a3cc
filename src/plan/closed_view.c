/*-------------------------------------------------------------------------
 *
 * closed_view.c
 *		Views that stand on closed windows.
 *
 * A continuous view with emit = 'final' gives out each row once, when its window closes,
 * and never takes it back.  So to another view it is a stream: the rows of a batch are those
 * of the windows that close at the batch's end.  What stands on it is kept as over a
 * stream, but runs when the watermark of that end is known (worker/batch.c), and closes
 * its own windows in the same batch: the view below hands on a watermark, the lowest event
 * time that it can still give out.
 *
 *		SELECT tumble(w, '1 minute'), max(n) FROM per_10_s GROUP BY 1
 *
 * The stored query names the view; in the statements its place is taken by
 *
 *		(SELECT … FROM streamext_state.per_10_s s
 *		 WHERE window closed by closed_by(state) AND NOT by closed_before(state))
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "catalog/sx_catalog.h"
#include "plan/node.h"
#include "plan/plan_internal.h"
#include "state/window.h"

bool
sx_is_final_view(Oid relid)
{
	char	   *json;

	if (sx_relation_kind(relid) != SX_REL_VIEW)
		return false;
	json = sx_step_options(relid, NULL, NULL);
	return json != NULL && sx_view_options(sx_options_from_json(json))->emit == SX_EMIT_FINAL;
}

List *
sx_final_views(Query *query)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, sx_query_reads(query, NIL).views)
	{
		if (sx_is_final_view(lfirst_oid(lc)))
			result = lappend_oid(result, lfirst_oid(lc));
	}
	return result;
}

/* ---------- reading ---------- */

static void
require_select(Oid view, Oid state)
{
	if (pg_class_aclcheck(state, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for the state table of %s", sx_qualified_name(view)),
				 errhint("A view over closed windows reads them in their state table: GRANT SELECT ON %s TO …",
						 sx_qualified_name(state))));
}

/* The rows that the view gives out in the batch. */
static Query *
closing_query(Oid view)
{
	Oid			state;
	SxLayout   *layout = sx_view_layout(view, &state);
	const char *table = sx_qualified_name(state);
	const char *literal = quote_literal_cstr(table);
	char	   *column = psprintf("s.%s", quote_identifier(layout->window_column->name));
	char	   *sql = psprintf("SELECT s.* FROM %s s WHERE %s AND NOT %s", table,
							   sx_window_closed_sql(&layout->window, column,
													psprintf("streamext.closed_by(%s::regclass)", literal)),
							   sx_window_closed_sql(&layout->window, column,
													psprintf("streamext.closed_before(%s::regclass)", literal)));
	int			nestlevel = sx_pin_settings();
	Query	   *query = parse_analyze_fixedparams(linitial_node(RawStmt, pg_parse_query(sql)), sql,
												  NULL, 0, NULL);

	AtEOXact_GUC(true, nestlevel);
	require_select(view, state);
	query->targetList = copyObject(layout->output);
	if (layout->having != NULL)
		query->jointree->quals = make_and_qual(query->jointree->quals, copyObject(layout->having));
	return query;
}

static bool
read_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_RELATION && sx_is_final_view(rte->relid))
			sx_rte_show(rte, closing_query(rte->relid));
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, read_walker, context, QTW_EXAMINE_RTES_AFTER);
	return expression_tree_walker(node, read_walker, context);
}

Query *
sx_read_closed(Query *query)
{
	query = copyObject(query);
	(void) read_walker((Node *) query, NULL);
	return query;
}

/* ---------- the watermark that is handed on ---------- */

/* date_trunc() of the watermark, in the zone of the window or the session */
static TimestampTz
truncated(const SxWindow *window, TimestampTz watermark)
{
	Datum		unit = CStringGetTextDatum(window->unit);

	if (window->type == TIMESTAMPOID)
		return DatumGetTimestamp(DirectFunctionCall2(timestamp_trunc, unit, TimestampGetDatum(watermark)));
	if (window->zone != NULL)
		return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_trunc_zone, unit,
													   TimestampTzGetDatum(watermark),
													   CStringGetTextDatum(window->zone)));
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_trunc, unit, TimestampTzGetDatum(watermark)));
}

/*
 * The lowest start of a window that has not ended by the watermark; where the column is the
 * end, the time just before the lowest one.
 */
TimestampTz
sx_output_watermark(const SxWindow *window, TimestampTz watermark)
{
	if (TIMESTAMP_NOT_FINITE(watermark) || window->is_end)
		return watermark;
	if (window->unit != NULL)
		return truncated(window, watermark);
	if (window->slide == 0)
		return watermark - window->length;
	return sx_window_start(watermark - window->length, window->slide, window->origin) + window->slide;
}
