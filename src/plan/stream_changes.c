/*-------------------------------------------------------------------------
 *
 * stream_changes.c
 *		The changes of a continuous view as a stream.
 *
 *		CREATE STREAM c WITH (changes) AS SELECT k, n FROM v WHERE n > 10
 *
 * gives what a batch has changed in the answer to the query: op ('insert', 'update',
 * 'delete'), the query's columns as they are now, of a deleted row as they were, and
 * old_k, old_n, as they were before, NULL for an inserted row.  The query is stored
 * like any other, so it follows renames and DROP VIEW v needs CASCADE.
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

#include "access/relation.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/typcache.h"

#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "plan/node.h"
#include "plan/stream_changes.h"
#include "plan/stream_def.h"
#include "state/changes.h"

/* ---------- the query ---------- */

static void
refuse_query(const char *problem, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("a stream of changes %s", problem),
			 errhint("%s", hint)));
}

/* The range table index of the view; ERROR when the query is anything but a look at it. */
static Index
view_index(Query *query)
{
	List	   *from = query->jointree->fromlist;
	RangeTblEntry *rte;
	Index		index;

	if (query->setOperations != NULL || list_length(from) != 1 ||
		!IsA(linitial(from), RangeTblRef))
		refuse_query("is made from one continuous view",
					 "Write SELECT … FROM the view.");
	index = linitial_node(RangeTblRef, from)->rtindex;
	rte = rt_fetch(index, query->rtable);
	if (rte->rtekind != RTE_RELATION || sx_relation_kind(rte->relid) != SX_REL_VIEW)
		refuse_query("is made from a continuous view, by its name in FROM",
					 "Make the query a continuous view (CREATE MATERIALIZED VIEW), and the stream from that.");
	if (query->hasAggs || query->hasWindowFuncs || query->hasTargetSRFs || query->hasSubLinks ||
		query->groupClause != NIL || query->groupingSets != NIL || query->havingQual != NULL ||
		query->distinctClause != NIL || query->sortClause != NIL || query->limitCount != NULL ||
		query->limitOffset != NULL || query->cteList != NIL)
		refuse_query("has columns and WHERE, and nothing else",
					 "Put the rest into the continuous view, or into a stream that reads this one.");
	if (contain_volatile_functions((Node *) query) || sx_reads_batch((Node *) query->targetList) ||
		sx_reads_batch(query->jointree->quals))
		refuse_query("cannot call a function whose result differs from batch to batch",
					 "Call it in what reads the stream.");
	return index;
}

Oid
sx_changes_view(Query *query)
{
	return rt_fetch(view_index(query), query->rtable)->relid;
}

static SxViewOptions *
options_of(Oid view)
{
	return sx_view_options(sx_options_from_json(sx_step_options(view, NULL, NULL)));
}

static List *
column_names(Query *query)
{
	List	   *names = NIL;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		if (!lfirst_node(TargetEntry, lc)->resjunk)
			names = lappend(names, lfirst_node(TargetEntry, lc)->resname);
	}
	return names;
}

static char *
old_name(const char *name)
{
	return makeObjectName("old", name, NULL);
}

/* ---------- which rows are the same row ---------- */

typedef struct ChangeKey
{
	bool		known;			/* a row before and one after with this key are one row */
	List	   *columns;		/* names; NIL when there is only one row */
} ChangeKey;

/* Output columns of a merged view that are its keys; false: some are not among them. */
static bool
merge_key(const SxLayout *layout, List **attnos)
{
	AttrNumber	attno = 0;
	ListCell   *lc;

	foreach(lc, layout->columns)
	{
		AttrNumber	shown = 0;
		ListCell   *t;

		attno++;
		if (((SxStateColumn *) lfirst(lc))->kind != SX_COLUMN_KEY)
			continue;
		foreach(t, layout->output)
		{
			TargetEntry *tle = lfirst_node(TargetEntry, t);

			if (IsA(tle->expr, Var) && ((Var *) tle->expr)->varattno == attno)
				shown = tle->resno;
		}
		if (shown == 0)
			return false;
		*attnos = lappend_int(*attnos, shown);
	}
	return true;
}

/* … of a view over nodes: what its query groups by. */
static bool
query_key(Query *query, List **attnos)
{
	List	   *clauses = query->hasDistinctOn ? query->distinctClause : query->groupClause;
	ListCell   *lc;

	if (query->setOperations != NULL || query->groupingSets != NIL || query->hasTargetSRFs ||
		(clauses == NIL && !query->hasAggs))
		return false;
	foreach(lc, clauses)
	{
		TargetEntry *tle = get_sortgroupclause_tle(lfirst(lc), query->targetList);

		if (tle->resjunk)
			return false;
		*attnos = lappend_int(*attnos, tle->resno);
	}
	return true;
}

static bool
view_key(Oid view, List **attnos)
{
	Oid			query_view;
	SxLayout   *layout = sx_view_layout(view, NULL);

	if (layout->strategy == SX_STRATEGY_MERGE)
		return merge_key(layout, attnos);
	if (layout->strategy == SX_STRATEGY_APPEND)
		return false;
	(void) sx_step_options(view, &query_view, NULL);
	return query_key(sx_view_query(query_view), attnos);
}

/* The view's key as columns of the stream's query; false when it does not show it whole. */
static bool
shown_key(Query *query, Index index, List *attnos, List **names)
{
	ListCell   *lc;

	foreach(lc, attnos)
	{
		const char *name = NULL;
		ListCell   *t;

		foreach(t, query->targetList)
		{
			TargetEntry *tle = lfirst_node(TargetEntry, t);

			if (!tle->resjunk && IsA(tle->expr, Var) && ((Var *) tle->expr)->varno == index &&
				((Var *) tle->expr)->varattno == lfirst_int(lc))
				name = tle->resname;
		}
		if (name == NULL)
			return false;
		*names = lappend(*names, pstrdup(name));
	}
	return true;
}

static void
check_key_order(List *columns)
{
	ListCell   *lc;

	foreach(lc, columns)
	{
		ColumnDef  *column = lfirst_node(ColumnDef, lc);
		Oid			type = column->typeName->typeOid;

		if (!OidIsValid(lookup_type_cache(type, TYPECACHE_LT_OPR)->lt_opr))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_FUNCTION),
					 errmsg("column \"%s\" of option \"key\" has type %s, which has no order",
							column->colname, format_type_be(type)),
					 errhint("Name other columns, or cast it in the query.")));
	}
}

static ChangeKey
change_key(Query *query, List *options)
{
	ChangeKey	key = {false, NIL};
	List	   *attnos = NIL;
	Index		index = view_index(query);

	if (sx_option(options, "key") != NULL)
	{
		List	   *columns = sx_columns_of_option(options, "key", sx_query_column_defs(query));
		ListCell   *lc;

		check_key_order(columns);
		foreach(lc, columns)
			key.columns = lappend(key.columns, lfirst_node(ColumnDef, lc)->colname);
		key.known = true;
	}
	else if (view_key(rt_fetch(index, query->rtable)->relid, &attnos))
	{
		key.known = shown_key(query, index, attnos, &key.columns);
		if (!key.known)
			key.columns = NIL;
	}
	return key;
}

bool
sx_changes_key(Query *query, List *options, List **columns)
{
	ChangeKey	key = change_key(query, options);

	*columns = key.columns;
	return key.known;
}

/* ---------- both versions of the answer ---------- */

/* What the view shows of rows of its state table, which come from the FROM item s. */
static char *
shown_sql(Oid view, const char *from, const char *where)
{
	Oid			state;
	SxLayout   *layout = sx_view_layout(view, &state);
	int			nestlevel = sx_pin_settings();
	List	   *context = deparse_context_for("s", state);
	int64		ttl = options_of(view)->state_ttl;
	StringInfoData sql;
	ListCell   *lc;

	if (ttl > 0)
		where = psprintf("NOT %s", sx_forgotten_sql(ttl, "streamext.batch_time()"));
	initStringInfo(&sql);
	foreach(lc, layout->output)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		appendStringInfo(&sql, "%s%s AS %s", sql.len == 0 ? "SELECT " : ", ",
						 deparse_expression((Node *) tle->expr, context, true, false),
						 quote_identifier(tle->resname));
	}
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
	Index		index = view_index(query);
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
list_sql(List *names, const char *prefix)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	foreach(lc, names)
		appendStringInfo(&sql, "%s%s%s", sql.len == 0 ? "" : ", ", prefix,
						 quote_identifier(lfirst(lc)));
	return sql.data;
}

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
							 quote_identifier(old_name(tle->resname)));
	}
	return sql.data;
}

/* Where rows are only ever added. */
static char *
inserts_sql(Query *query, const char *rows, List *order)
{
	return psprintf("SELECT 'insert'::pg_catalog.text AS op, %s%s\nFROM (\n%s\n) n%s%s",
					list_sql(column_names(query), "n."), no_old_values(query), rows,
					order == NIL ? "" : "\nORDER BY ", list_sql(order, "n."));
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
	return names == NIL ? "" : psprintf("%s, ", list_sql(names, prefix));
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
		const char *old_column = quote_identifier(old_name(lfirst(lc)));

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
					list_sql(names, "e."), old.data, before.data, then(key, "n."), net,
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
						 quote_identifier(lfirst(lc)), quote_identifier(old_name(lfirst(lc))));
		if (has_order(query, lfirst(lc)))
			order = lappend(order, lfirst(lc));
	}
	return psprintf("SELECT CASE WHEN e.sx_sign < 0 THEN 'delete' ELSE 'insert' END AS op,\n"
					"    %s%s\nFROM (\n%s\n) e\nORDER BY e.sx_sign%s%s",
					list_sql(names, "e."), old.data, net, order == NIL ? "" : ", ",
					list_sql(order, "e."));
}

static char *
changes_sql(Query *query, Oid view, const ChangeKey *key, bool final, bool appends)
{
	List	   *names = column_names(query);
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

/* ---------- definition ---------- */

static void
check_names(Query *query)
{
	List	   *taken = list_make5("op", "sx_image", "sx_sign", "sx_net", "sx_nth");
	List	   *names = column_names(query);
	ListCell   *lc;

	taken = lappend(lappend(lappend(taken, "sx_pair"), "sx_before"), "sx_after");
	foreach(lc, names)
		taken = lappend(taken, old_name(lfirst(lc)));
	foreach(lc, names)
	{
		ListCell   *t;

		foreach(t, taken)
		{
			if (strcmp(lfirst(t), lfirst(lc)) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_DUPLICATE_COLUMN),
						 errmsg("a stream of changes has a column \"%s\" of its own", (char *) lfirst(lc)),
						 errhint("Give the view's column another name in the query of the stream, with AS.")));
		}
	}
}

static List *
columns_of(Query *query)
{
	List	   *now = sx_query_column_defs(query);
	List	   *old = copyObject(now);
	ListCell   *lc;

	foreach(lc, old)
		lfirst_node(ColumnDef, lc)->colname = old_name(lfirst_node(ColumnDef, lc)->colname);
	return lcons(makeColumnDef("op", TEXTOID, -1, DEFAULT_COLLATION_OID), list_concat(now, old));
}

static void
define(SxStreamDef *def)
{
	SxReads		below = sx_relation_reads(sx_changes_view(def->query));
	bool		on = true;

	if (!parse_bool(sx_option(def->options, "changes"), &on) || !on)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"changes\" cannot be off"),
				 errhint("Leave it out.")));
	if (options_of(sx_changes_view(def->query))->emit == SX_EMIT_INTERVAL &&
		!sx_reads_slide(&below).every)
		refuse_query("cannot be made from a view over a windowed stream with emit = interval",
					 "Leave emit out of the view.");
	if (options_of(sx_changes_view(def->query))->emit == SX_EMIT_FINAL &&
		sx_view_layout(sx_changes_view(def->query), NULL)->window_column == NULL)
		refuse_query("cannot be made yet from a join with emit = 'final'",
					 "Leave emit out of the view.");
	check_names(def->query);
	(void) change_key(def->query, def->options);
	def->columns = columns_of(def->query);
}

/* The view's state table tells from now on what batches change there. */
static void
created(SxStreamDef *def, Oid none)
{
	Oid			view = sx_changes_view(def->query);
	Oid			state;

	(void) sx_view_layout(view, &state);
	if (options_of(view)->emit != SX_EMIT_FINAL)
		sx_changes_capture(state);
}

static char *
reason(const ChangeKey *key, bool final, bool appends)
{
	if (final)
		return "a row is inserted when its window closes";
	if (appends)
		return "rows are only added to the view";
	if (!key->known)
		return "the net changes of each batch, as deletes and inserts: no key says which row before and after is the same";
	if (key->columns == NIL)
		return "the net change of the view's only row in each batch";
	return psprintf("the net change of each row (%s) in each batch", list_sql(key->columns, ""));
}

static void
plan_changes(SxStepPlan *plan, Query *query)
{
	Oid			view = sx_changes_view(query);
	ChangeKey	key = change_key(query, plan->options);
	bool		final = options_of(view)->emit == SX_EMIT_FINAL;
	bool		appends = sx_view_layout(view, NULL)->strategy == SX_STRATEGY_APPEND;
	SxReads		reads = sx_view_reads(query);

	plan->streams = reads.streams;
	plan->reads = reads.derived;
	plan->changes_of = view;
	plan->end_watermark = plan->closing = final;
	plan->reason = reason(&key, final, appends);
	plan->apply_sql = changes_sql(query, view, &key, final, appends);
}

const SxStreamKind sx_kind_changes = {
	.option = "changes",
	.name = "changes",
	.strategy = SX_STRATEGY_CHANGES,
	.define = define,
	.created = created,
	.plan = plan_changes
};

/* ---------- when the pipeline is opened ---------- */

void
sx_changes_check_columns(Oid relid, Oid query_view)
{
	Relation	rel = relation_open(relid, AccessShareLock);
	List	   *columns = columns_of(sx_view_query(query_view));
	TupleDesc	desc = RelationGetDescr(rel);
	bool		fits = desc->natts == list_length(columns);

	for (int i = 0; fits && i < desc->natts; i++)
		fits = !TupleDescAttr(desc, i)->attisdropped &&
			TupleDescAttr(desc, i)->atttypid == list_nth_node(ColumnDef, columns, i)->typeName->typeOid;
	relation_close(rel, NoLock);
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the columns of stream %s are not those of its query any more",
						sx_qualified_name(relid)),
				 errhint("Drop the stream and create it again.")));
}
