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
 * A row before and a row after with one key are one row that was updated: the key is that
 * of the option, or that of v when the query shows it whole.  How the changes are computed
 * is in stream_changes_sql.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/typcache.h"

#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "plan/node.h"
#include "plan/stream_changes.h"
#include "plan/stream_changes_internal.h"
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
Index
sx_changes_view_index(Query *query)
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
	return rt_fetch(sx_changes_view_index(query), query->rtable)->relid;
}

SxViewOptions *
sx_changes_view_options(Oid view)
{
	return sx_view_options(sx_options_from_json(sx_step_options(view, NULL, NULL)));
}

List *
sx_changes_column_names(Query *query)
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

char *
sx_changes_old_name(const char *name)
{
	return makeObjectName("old", name, NULL);
}

/* ---------- which rows are the same row ---------- */

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

static SxChangeKey
change_key(Query *query, List *options)
{
	SxChangeKey key = {false, NIL};
	List	   *attnos = NIL;
	Index		index = sx_changes_view_index(query);

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
	SxChangeKey key = change_key(query, options);

	*columns = key.columns;
	return key.known;
}

/* ---------- definition ---------- */

static void
check_names(Query *query)
{
	List	   *taken = list_make5("op", "sx_image", "sx_sign", "sx_net", "sx_nth");
	List	   *names = sx_changes_column_names(query);
	ListCell   *lc;

	taken = lappend(lappend(lappend(taken, "sx_pair"), "sx_before"), "sx_after");
	foreach(lc, names)
		taken = lappend(taken, sx_changes_old_name(lfirst(lc)));
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
		lfirst_node(ColumnDef, lc)->colname = sx_changes_old_name(lfirst_node(ColumnDef, lc)->colname);
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
	if (sx_changes_view_options(sx_changes_view(def->query))->emit == SX_EMIT_INTERVAL &&
		!sx_reads_slide(&below).every)
		refuse_query("cannot be made from a view over a windowed stream with emit = interval",
					 "Leave emit out of the view.");
	if (sx_changes_view_options(sx_changes_view(def->query))->emit == SX_EMIT_FINAL &&
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
	if (sx_changes_view_options(view)->emit != SX_EMIT_FINAL)
		sx_changes_capture(state);
}

static char *
reason(const SxChangeKey *key, bool final, bool appends)
{
	if (final)
		return "a row is inserted when its window closes";
	if (appends)
		return "rows are only added to the view";
	if (!key->known)
		return "the net changes of each batch, as deletes and inserts: no key says which row before and after is the same";
	if (key->columns == NIL)
		return "the net change of the view's only row in each batch";
	return psprintf("the net change of each row (%s) in each batch", sx_names_sql(key->columns, ""));
}

static void
plan_changes(SxStepPlan *plan, Query *query)
{
	Oid			view = sx_changes_view(query);
	SxChangeKey key = change_key(query, plan->options);
	bool		final = sx_changes_view_options(view)->emit == SX_EMIT_FINAL;
	bool		appends = sx_view_layout(view, NULL)->strategy == SX_STRATEGY_APPEND;
	SxReads		reads = sx_view_reads(query);

	plan->streams = reads.streams;
	plan->reads = reads.derived;
	plan->changes_of = view;
	plan->end_watermark = plan->closing = final;
	plan->reason = reason(&key, final, appends);
	plan->apply_sql = sx_stream_changes_sql(query, view, &key, final, appends);
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
		sx_report_changed_columns(relid);
}
