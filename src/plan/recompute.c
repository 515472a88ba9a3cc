/*-------------------------------------------------------------------------
 *
 * recompute.c
 *		The maintenance SQL of a view over nodes.
 *
 * The view's state table has its rows and the number of the key that each belongs to
 * (state/key_hash.c).  For
 *
 *		SELECT k, percentile_cont(0.5) WITHIN GROUP (ORDER BY x) AS m FROM s GROUP BY k
 *
 * with a node v_1 that keeps k and x, each batch runs
 *
 *		SELECT pg_catalog.array_agg(DISTINCT …) of key_hash(k) FROM what the batch has changed in v_1
 *		DELETE FROM streamext_state.v WHERE sx_key = ANY ($1)
 *		INSERT INTO streamext_state.v (k, m, sx_key)
 *		SELECT k, percentile_cont(…), min(sx_key)
 *		FROM (SELECT …, key_hash(k) AS sx_key FROM v_1 WHERE key_hash(k) = ANY ($1)) s
 *		GROUP BY k
 *
 * An index on the same expression over the node's state table serves the condition.
 * Without a key everything is deleted and computed again, when a node has changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

#include "catalog/sx_catalog.h"
#include "compat.h"
#include "plan/node.h"
#include "state/changes.h"

#define KEY_COLUMN	"sx_key"

static bool
has_key(List *refs)
{
	return refs != NIL && ((SxNodeRef *) linitial(refs))->key != NIL;
}

/* streamext.key_hash(…) of a node's key, over alias */
static char *
hash_sql(const SxNodeRef *ref, const char *alias)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "streamext.key_hash(");
	foreach(lc, ref->key)
		appendStringInfo(&sql, "%s%s", lc == list_head(ref->key) ? "" : ", ",
						 sx_node_expr_sql(ref->view, lfirst(lc), alias));
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

/* ---------- which keys were touched ---------- */

/*
 * Which of the key's expressions is the window that decides what is late?  -1: the key
 * has none.
 */
static int
window_in_key(Query *query, const SxLayout *layout, List *refs)
{
	ListCell   *lc;

	if (!layout->windowed || query->setOperations != NULL)
		return -1;
	foreach(lc, refs)
	{
		SxNodeRef  *ref = lfirst(lc);
		ListCell   *t;
		ListCell   *k;

		foreach(t, query->targetList)
		{
			TargetEntry *tle = lfirst_node(TargetEntry, t);

			if (tle->resjunk || strcmp(tle->resname, layout->window_column->name) != 0)
				continue;
			foreach(k, ref->key)
			{
				Node	   *expr = copyObject(lfirst(k));

				ChangeVarNodes(expr, 1, ref->varno, 0);
				if (ref->top && equal(expr, tle->expr))
					return foreach_current_index(k);
			}
		}
	}
	return -1;
}

/* Is lateness for this window tested in the node already? */
static bool
key_has_window(const SxNodeRef *ref, const SxLayout *layout)
{
	ListCell   *lc;

	foreach(lc, ref->key)
	{
		Node	   *expr = sx_replace_by_output(lfirst(lc), layout->output);

		if (layout->windowed && equal(expr, sx_state_var((SxLayout *) layout,
														  layout->window_column)))
			return true;
	}
	return false;
}

/* Windows that are closed are not computed again: what touches them is late. */
static char *
on_time_sql(const SxNodeRef *ref, const SxLayout *layout, int window)
{
	Oid			state;

	if (window < 0 || key_has_window(ref, sx_view_layout(ref->view, &state)))
		return pstrdup("");
	return psprintf(" WHERE streamext.on_time(%s, 1)",
					sx_window_end_sql(&layout->window,
									  sx_node_expr_sql(ref->view, list_nth(ref->key, window), "c")));
}

static SxStrategy
strategy_of(const SxNodeRef *ref)
{
	Oid			state;

	return sx_view_layout(ref->view, &state)->strategy;
}

/*
 * A key of new rows alone gives nothing unless each inner side of the join has it.  One
 * other such side, rather one that aggregates, as that has fewer keys; NULL: there is none.
 *
 * A key that has gone from there in this batch is among the changes of that side.  Hence this
 * is for sides from which nothing ever goes within a step.
 */
static const SxNodeRef *
partner(Query *query, List *refs, const SxNodeRef *ref)
{
	const SxNodeRef *found = NULL;
	ListCell   *lc;

	if (!has_key(refs) || query->setOperations != NULL || query->groupingSets != NIL ||
		strategy_of(ref) != SX_STRATEGY_APPEND)
		return NULL;
	foreach(lc, refs)
	{
		SxNodeRef  *other = lfirst(lc);

		if (other == ref || !other->top || other->nullable ||
			(other->view == ref->view && equal(other->key, ref->key)))
			continue;
		if (found == NULL || strategy_of(found) == SX_STRATEGY_APPEND)
			found = other;
	}
	return found;
}

/* The keys of what has changed in a node, as h */
static char *
touched_sql(Query *query, const SxLayout *layout, List *refs, const SxNodeRef *ref)
{
	const char *hash = has_key(refs) ? hash_sql(ref, "c") : "0::bigint";
	const char *on_time = on_time_sql(ref, layout, window_in_key(query, layout, refs));
	const SxNodeRef *other = partner(query, refs, ref);

	if (other == NULL)
		return psprintf("    SELECT %s AS h FROM (%s) c%s", hash,
						sx_changes_sql(ref->view, "changed_rows"), on_time);
	return psprintf("    SELECT n.h\n    FROM (SELECT DISTINCT %s AS h FROM (%s) c%s) n\n"
					"    WHERE EXISTS (SELECT FROM %s p WHERE %s = n.h)",
					hash, sx_changes_sql(ref->view, "new_rows"), on_time,
					sx_qualified_name(other->view), hash_sql(other, "p"));
}

/* bigint[], NULL when nothing was touched */
static char *
keys_sql(Query *query, const SxLayout *layout, List *refs)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT pg_catalog.array_agg(DISTINCT k.h)\nFROM (");
	foreach(lc, refs)
		appendStringInfo(&sql, "%s\n%s", lc == list_head(refs) ? "" : "\n    UNION ALL",
						 touched_sql(query, layout, refs, lfirst(lc)));
	appendStringInfoString(&sql, "\n) k");
	return sql.data;
}

/* ---------- the query for some keys ---------- */

/*
 * Each node is read for the keys in $1 alone, unless all are wanted, and gives the key's
 * number, but for the branches of a set operation, which compares their rows.
 */
static void
restrict_ref(SxNodeRef *ref, bool with_key, bool all)
{
	Oid			types[] = {INT8ARRAYOID};
	char	   *hash = hash_sql(ref, "c");
	Query	   *subquery = sx_node_query_where(ref->view,
											   with_key ? psprintf(", %s AS " KEY_COLUMN, hash) : "",
											   all ? "" : psprintf("%s = ANY ($1)", hash),
											   types, all ? 0 : 1);
	bool		lateral = ref->rte->lateral;

	sx_rte_show(ref->rte, subquery);
	ref->rte->lateral = lateral;
}

static Expr *
zero_key(void)
{
	return (Expr *) makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(0),
							  false, FLOAT8PASSBYVAL);
}

static Aggref *
min_of(Expr *arg)
{
	Aggref	   *agg = sx_count_rows();

	agg->aggfnoid = F_MIN_INT8;
	agg->aggstar = false;
	agg->aggargtypes = list_make1_oid(INT8OID);
	agg->args = list_make1(makeTargetEntry(arg, 1, NULL, false));
	return agg;
}

/* The key's number in a row of the topmost block: of a side that no outer join has emptied. */
static Expr *
key_of_row(List *refs)
{
	List	   *vars = NIL;
	CoalesceExpr *coalesce;
	ListCell   *lc;

	foreach(lc, refs)
	{
		SxNodeRef  *ref = lfirst(lc);

		if (ref->top)
			vars = lappend(vars, makeVar(ref->varno,
										 list_length(ref->rte->subquery->targetList),
										 INT8OID, -1, InvalidOid, 0));
	}
	if (vars == NIL)
		return zero_key();
	if (list_length(vars) == 1)
		return linitial(vars);
	coalesce = makeNode(CoalesceExpr);
	coalesce->coalescetype = INT8OID;
	coalesce->args = vars;
	coalesce->location = -1;
	return (Expr *) coalesce;
}

static void
add_key_column(Query *query, Expr *key)
{
	bool		grouped = query->hasAggs || query->groupClause != NIL ||
		query->groupingSets != NIL || query->havingQual != NULL;
	AttrNumber	last = 0;
	ListCell   *lc;
	List	   *junk = NIL;
	List	   *output = NIL;

	if (grouped && !IsA(key, Const))
		key = (Expr *) min_of(key);
	/* Junk entries go behind; nothing refers to them by number. */
	foreach(lc, query->targetList)
	{
		if (lfirst_node(TargetEntry, lc)->resjunk)
			junk = lappend(junk, lfirst(lc));
		else
			output = lappend(output, lfirst(lc));
	}
	output = lappend(output, makeTargetEntry(key, 0, pstrdup(KEY_COLUMN), false));
	query->targetList = list_concat(output, junk);
	foreach(lc, query->targetList)
		lfirst_node(TargetEntry, lc)->resno = ++last;
	if (grouped)
		query->hasAggs = true;
}

/*
 * Where the rows themselves are compared, the number is added around the query.  (DISTINCT
 * can have it as a column more: what the key consists of is among its columns.)
 */
static char *
wrapped_sql(Query *query, List *refs)
{
	SxNodeRef  *first = linitial(refs);
	StringInfoData hash;
	ListCell   *lc;

	initStringInfo(&hash);
	foreach(lc, first->key)
	{
		TargetEntry *tle = get_tle_by_resno(query->targetList, castNode(Var, lfirst(lc))->varattno);

		appendStringInfo(&hash, "%su.%s", lc == list_head(first->key) ? "" : ", ",
						 quote_identifier(tle->resname));
	}
	return psprintf("SELECT u.*, %s AS " KEY_COLUMN "\nFROM (\n%s\n) u",
					first->key == NIL ? "0::bigint" :
					psprintf("streamext.key_hash(%s)", hash.data),
					sx_deparse(query));
}

/*
 * The rows of the touched keys, or of all, in the columns of the state table; only: a
 * condition on them, over u, or NULL.
 */
static char *
rows_sql(Query *query, bool all, const char *only)
{
	List	   *refs;
	bool		compared = query->setOperations != NULL;
	char	   *rows;
	ListCell   *lc;

	query = copyObject(query);
	refs = sx_node_refs(query);
	if (has_key(refs))
	{
		foreach(lc, refs)
			restrict_ref(lfirst(lc), !compared, all);
		foreach(lc, compared ? NIL : refs)
			sx_fix_joins(((SxNodeRef *) lfirst(lc))->query);
	}
	if (compared)
		return wrapped_sql(query, refs);
	add_key_column(query, has_key(refs) ? key_of_row(refs) : zero_key());
	rows = sx_deparse(query);
	return only == NULL ? rows : psprintf("SELECT u.*\nFROM (\n%s\n) u\nWHERE %s", rows, only);
}

static char *
insert_sql(const SxLayout *layout, const char *state, const char *rows)
{
	return psprintf("INSERT INTO %s (%s)\n%s", state, sx_columns_sql(layout->columns, ""), rows);
}

/* The key in each node, for people */
static char *
key_text(List *refs)
{
	StringInfoData text;
	List	   *seen = NIL;
	ListCell   *lc;

	initStringInfo(&text);
	foreach(lc, refs)
	{
		SxNodeRef  *ref = lfirst(lc);
		List	   *same = list_make2(list_make1_oid(ref->view), ref->key);
		ListCell   *k;

		if (list_member(seen, same))
			continue;
		seen = lappend(seen, same);
		appendStringInfo(&text, "%s(", text.len == 0 ? "" : " = ");
		foreach(k, ref->key)
			appendStringInfo(&text, "%s%s", k == list_head(ref->key) ? "" : ", ",
							 sx_node_expr_sql(ref->view, lfirst(k), "c"));
		appendStringInfo(&text, ") of %s", sx_qualified_name(ref->view));
	}
	return text.data;
}

void
sx_recompute_sql(SxStepPlan *plan, Query *query, const SxLayout *layout,
				 const SxStepNames *names)
{
	SxRecompute *recompute = palloc0(sizeof(SxRecompute));
	List	   *refs = sx_node_refs(query);
	const char *condition;
	const char *kept;
	const char *only;

	recompute->keys_sql = keys_sql(query, layout, refs);
	condition = has_key(refs) ? "\nWHERE " KEY_COLUMN " = ANY ($1)" : "";
	recompute->delete_sql = psprintf("DELETE FROM %s%s", names->state, condition);
	kept = sx_kept_condition(refs);
	if (kept != NULL)
		sx_reduce_sql(recompute, query, linitial(refs), kept,
					  has_key(refs) ? hash_sql(linitial(refs), "s") : NULL);
	/* What is reduced has no others. */
	only = kept == NULL ? plan->only : NULL;
	recompute->rows_sql = rows_sql(query, false, only);
	recompute->insert_sql = insert_sql(layout, names->state, recompute->rows_sql);
	recompute->stored_sql = psprintf("SELECT %s, s.ctid\nFROM %s s%s",
									 sx_columns_sql(layout->columns, "s."), names->state, condition);
	recompute->delete_these_sql = psprintf("DELETE FROM %s\nWHERE ctid = ANY ($1)", names->state);
	recompute->insert_these_sql =
		insert_sql(layout, names->state,
				   psprintf("SELECT %s\nFROM pg_catalog.unnest($1) r",
							sx_columns_sql(layout->columns, "r.")));
	recompute->keyed = has_key(refs);
	recompute->key = recompute->keyed ? key_text(refs) : NULL;
	plan->recompute = recompute;
	if (plan->retention >= 0 && layout->windowed)
		plan->expire_sql = sx_expire_windows_sql(layout, names->state);
	/* Nodes may have rows already: an aggregate without GROUP BY, a view of the user's. */
	plan->start_sql = insert_sql(layout, names->state, rows_sql(query, true, only));
}

SxLayout *
sx_recompute_layout(Query *query)
{
	SxLayout   *layout = sx_append_layout(query);
	SxLayoutBuilder builder = {layout, NIL, NULL, false};
	List	   *refs = sx_node_refs(query);
	bool		reduced = sx_kept_condition(refs) != NULL;

	layout->strategy = reduced ? SX_STRATEGY_REDUCE : SX_STRATEGY_RECOMPUTE;
	layout->reason = reduced ?
		"only the first rows of a key matter: they are computed again for the keys that a batch touches, and the node forgets the others" :
		has_key(refs) ?
		"its rows are computed again for the keys that a batch touches" :
		"no key divides its rows: they are computed again, all of them, in each batch that changes something";
	(void) sx_layout_add(&builder, SX_COLUMN_OUTPUT, KEY_COLUMN, zero_key());
	return layout;
}

/* ---------- what the nodes need ---------- */

/* An index over the node's state table for the condition on its key. */
static void
index_node(SxNodeRef *ref)
{
	SxTrusted	trusted;
	Oid			state;
	SxLayout   *layout = sx_view_layout(ref->view, &state);
	StringInfoData sql;
	int			nestlevel;
	List	   *context;
	ListCell   *lc;

	initStringInfo(&sql);
	nestlevel = sx_pin_settings();
	context = deparse_context_for("s", state);
	foreach(lc, ref->key)
	{
		Node	   *expr = sx_replace_by_output(lfirst(lc), layout->output);

		appendStringInfo(&sql, "%s%s", sql.len == 0 ? "" : ", ",
						 deparse_expression(expr, context, false, false));
	}
	AtEOXact_GUC(true, nestlevel);
	sx_trusted_begin(&trusted);
	sx_execute_ddl(psprintf("CREATE INDEX ON %s (streamext.key_hash(%s))",
							sx_qualified_name(state), sql.data));
	sx_trusted_end(&trusted);
}

static Node *
output_mutator(Node *node, List *output)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
		return copyObject((Node *) list_nth_node(TargetEntry, output,
												 ((Var *) node)->varattno - 1)->expr);
	return expression_tree_mutator(node, output_mutator, output);
}

/* An expression over the view's columns as one over its state table. */
Node *
sx_replace_by_output(Node *expr, List *output)
{
	return output_mutator(expr, output);
}

/* A window that is closed is never computed again, so the node can forget it. */
static void
bound_node(SxNodeRef *ref, const SxLayout *above, int window,
		   const SxViewOptions *options, List *own_nodes)
{
	Oid			state;
	bool		closes = options->late != SX_LATE_UPDATE || options->retention >= 0;

	if (!closes || !list_member_oid(own_nodes, ref->view))
		return;
	if (key_has_window(ref, sx_view_layout(ref->view, &state)))
		sx_node_retain(ref->view, options->late == SX_LATE_UPDATE ? options->retention : 0);
	else if (window >= 0 && options->late != SX_LATE_UPDATE)
		sx_recompute_evict(ref->view, list_nth(ref->key, window), &above->window, own_nodes);
}

void
sx_recompute_prepare(Query *query, const SxLayout *above, const SxViewOptions *options,
					 List *own_nodes)
{
	List	   *refs = sx_node_refs(query);
	List	   *indexed = NIL;
	int			window = window_in_key(query, above, refs);
	ListCell   *lc;

	foreach(lc, refs)
	{
		SxNodeRef  *ref = lfirst(lc);
		Oid			state;
		List	   *index = list_make2(list_make1_oid(ref->view), ref->key);

		(void) sx_view_layout(ref->view, &state);
		sx_changes_capture(state);
		if (above->strategy != SX_STRATEGY_RETRACT && ref->key != NIL && !list_member(indexed, index))
			index_node(ref);
		indexed = lappend(indexed, index);
		bound_node(ref, above, window, options, own_nodes);
	}
}
