/*-------------------------------------------------------------------------
 *
 * stream_changes_sql.c
 *		The statement of a stream of changes.
 *
 * The two versions of what v shows are its output expressions, and its HAVING, over the
 * rows that the batch has taken away from its state table and those that it has put
 * there (state/changes.c): so it does not matter by which strategy v is kept.  Rows that
 * are equal on both sides, byte by byte, cancel each other out.  What remains is put
 * together by the key of v's rows, when there is one: an update, instead of a delete and
 * an insert.
 *
 * With emit = 'final' a row appears when its window closes, which changes nothing in the
 * state table: then the rows are those whose window ended between the watermark
 * before the batch ($1) and that at its end ($2).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/ruleutils.h"
#include "utils/typcache.h"

#include "plan/node.h"
#include "plan/stream_changes_internal.h"

/* ---------- both versions of the answer ---------- */

/* What the view shows of rows of its state table, which come from the FROM item s. */
static char *
shown_sql(Oid view, const char *from, const char *where)
{
	Oid			state;
	SxLayout   *layout = sx_view_layout(view, &state);
	int			nestlevel = sx_pin_settings();
	List	   *context = deparse_context_for("s", state);
	int64		ttl = sx_changes_view_options(view)->state_ttl;
	StringInfoData sql;

	if (ttl > 0)
		where = psprintf("NOT %s", sx_forgotten_sql(ttl, "streamext.batch_time()"));
	initStringInfo(&sql);
	sx_append_output(&sql, layout, context);
	appendStringInfo(&sql, " FROM %s s", psprintf(from, sx_qualified_name(state)));
	if (layout->having != NULL || where != NULL)
		appendStringInfo(&sql, " WHERE %s%s%s", where != NULL ? where : "",
						 layout->having != NULL && where != NULL ? " AND " : "",
						 layout->having == NULL ? "" :
						 psprintf("(%s)", deparse_expression(layout->having, context, true, false)));
	AtEOXact_GUC(true, nestlevel);
	return sql.data;
}

/* The stream's query over that. */
static char *
version_sql(Query *query, const char *shown)
{
	Oid			types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	int			nestlevel = sx_pin_settings();
	Index		index = sx_changes_view_index(query);
	Query	   *rows = parse_analyze_fixedparams(linitial_node(RawStmt, pg_parse_query(shown)),
												 shown, types, 2, NULL);

	AtEOXact_GUC(true, nestlevel);
	query = copyObject(query);
	sx_rte_show(rt_fetch(index, query->rtable), rows);
	return sx_deparse(query);
}

/* Windows that close in this batch. */
static char *
closing_sql(Query *query, Oid view)
{
	SxLayout   *layout = sx_view_layout(view, NULL);
	char	   *start = psprintf("s.%s", quote_identifier(layout->window_column->name));

	return version_sql(query, shown_sql(view, "%s",
										psprintf("%s AND NOT (%s)",
												 sx_window_closed_sql(&layout->window, start, "$2"),
												 sx_window_closed_sql(&layout->window, start, "$1"))));
}

/* ---------- from two versions to changes ---------- */

static char *
no_old_values(Query *query)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!tle->resjunk)
			appendStringInfo(&sql, ", NULL::%s AS %s",
							 sx_type_sql(exprType((Node *) tle->expr), exprTypmod((Node *) tle->expr)),
							 quote_identifier(sx_changes_old_name(tle->resname)));
	}
	return sql.data;
}

/* Where rows are only ever added. */
static char *
inserts_sql(Query *query, const char *rows, List *order)
{
	return psprintf("SELECT 'insert'::pg_catalog.text AS op, %s%s\nFROM (\n%s\n) n%s%s",
					sx_names_sql(sx_changes_column_names(query), "n."), no_old_values(query), rows,
					order == NIL ? "" : "\nORDER BY ", sx_names_sql(order, "n."));
}

/* The rows of one version that the other one does not have, as often as it has them more. */
static char *
net_sql(const char *before, const char *after)
{
	return psprintf("SELECT u.*\n"
					"FROM (\n"
					"    SELECT u.*, pg_catalog.sum(sx_sign) OVER (PARTITION BY sx_image) AS sx_net,\n"
					"        pg_catalog.row_number() OVER (PARTITION BY sx_image, sx_sign) AS sx_nth\n"
					"    FROM (\n"
					"        SELECT q.*, streamext.row_image(q) AS sx_image, -1 AS sx_sign FROM (\n%s\n) q\n"
					"        UNION ALL\n"
					"        SELECT q.*, streamext.row_image(q), 1 FROM (\n%s\n) q\n"
					"    ) u\n"
					") u\n"
					"WHERE sx_nth <= sx_sign * sx_net", before, after);
}

/* "a, b, " */
static char *
then(List *names, const char *prefix)
{
	return names == NIL ? "" : psprintf("%s, ", sx_names_sql(names, prefix));
}

/* Rows of one key, before and after, become one change. */
static char *
paired_sql(List *names, List *key, const char *net)
{
	StringInfoData before;
	StringInfoData old;
	ListCell   *lc;

	initStringInfo(&before);
	initStringInfo(&old);
	foreach(lc, names)
	{
		const char *name = quote_identifier(lfirst(lc));
		const char *old_column = quote_identifier(sx_changes_old_name(lfirst(lc)));

		appendStringInfo(&before, ",\n        pg_catalog.lag(d.%s) OVER w AS %s", name, old_column);
		appendStringInfo(&old, ",\n    CASE WHEN e.sx_sign < 0 THEN e.%s ELSE e.%s END AS %s",
						 name, old_column, old_column);
	}
	return psprintf("SELECT CASE WHEN e.sx_sign < 0 THEN 'delete' WHEN e.sx_before IS NULL THEN 'insert' ELSE 'update' END AS op,\n"
					"    %s%s\n"
					"FROM (\n"
					"    SELECT d.*, pg_catalog.lag(d.sx_sign) OVER w AS sx_before, pg_catalog.lead(d.sx_sign) OVER w AS sx_after%s\n"
					"    FROM (\n"
					"        SELECT n.*, pg_catalog.row_number() OVER (PARTITION BY %sn.sx_sign ORDER BY n.sx_image) AS sx_pair\n"
					"        FROM (\n%s\n) n\n"
					"    ) d\n"
					"    WINDOW w AS (PARTITION BY %sd.sx_pair ORDER BY d.sx_sign)\n"
					") e\n"
					"WHERE e.sx_sign > 0 OR e.sx_after IS NULL\n"
					"ORDER BY %se.sx_sign",
					sx_names_sql(names, "e."), old.data, before.data, then(key, "n."), net,
					then(key, "d."), then(key, "e."));
}

static bool
has_order(Query *query, const char *name)
{
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!tle->resjunk && strcmp(tle->resname, name) == 0)
			return OidIsValid(lookup_type_cache(exprType((Node *) tle->expr),
												TYPECACHE_LT_OPR)->lt_opr);
	}
	return false;
}

/* No key: all that went, then all that came. */
static char *
unpaired_sql(Query *query, List *names, const char *net)
{
	StringInfoData old;
	List	   *order = NIL;
	ListCell   *lc;

	initStringInfo(&old);
	foreach(lc, names)
	{
		appendStringInfo(&old, ",\n    CASE WHEN e.sx_sign < 0 THEN e.%s END AS %s",
						 quote_identifier(lfirst(lc)), quote_identifier(sx_changes_old_name(lfirst(lc))));
		if (has_order(query, lfirst(lc)))
			order = lappend(order, lfirst(lc));
	}
	return psprintf("SELECT CASE WHEN e.sx_sign < 0 THEN 'delete' ELSE 'insert' END AS op,\n"
					"    %s%s\nFROM (\n%s\n) e\nORDER BY e.sx_sign%s%s",
					sx_names_sql(names, "e."), old.data, net, order == NIL ? "" : ", ",
					sx_names_sql(order, "e."));
}

char *
sx_stream_changes_sql(Query *query, Oid view, const SxChangeKey *key, bool final, bool appends)
{
	List	   *names = sx_changes_column_names(query);
	char	   *net;

	if (final)
		return inserts_sql(query, closing_sql(query, view), key->columns);
	if (appends)
		return inserts_sql(query, version_sql(query, shown_sql(view, "streamext.new_rows(NULL::%s)", NULL)),
						   NIL);
	net = net_sql(version_sql(query, shown_sql(view, "streamext.old_rows(NULL::%s)", NULL)),
				  version_sql(query, shown_sql(view, "streamext.new_rows(NULL::%s)", NULL)));
	return key->known ? paired_sql(names, key->columns, net) : unpaired_sql(query, names, net);
}
