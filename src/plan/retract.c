/*-------------------------------------------------------------------------
 *
 * retract.c
 *		GROUP BY over a node: what the batch has changed there is added and taken away.
 *
 *		SELECT k, count(*) AS n, avg(m) AS a FROM v_1 GROUP BY k
 *
 * over a node whose rows change needs no look at the rows that did not: the view is merged,
 * like one over a stream, with the aggregates over the node's new rows less those over
 * its old rows.
 *
 *		INSERT INTO streamext_state.v AS s (k, n, a_sum, a_count, sx_rows)
 *		SELECT k, sum(n), … FROM (
 *		    SELECT k, count(*) AS n, … FROM streamext.new_rows(NULL::streamext_state.v_1) GROUP BY k
 *		    UNION ALL
 *		    SELECT k, - count(*), … FROM streamext.old_rows(NULL::streamext_state.v_1) GROUP BY k) d
 *		GROUP BY k
 *		ON CONFLICT (k) DO UPDATE SET n = s.n + excluded.n, …
 *		DELETE FROM streamext_state.v WHERE sx_rows = 0
 *
 * sx_rows is the number of rows in the group, which goes with the last of them.  This is exact
 * only for what is exactly undone by subtraction: count, and sum and avg of integers.  A sum
 * of numeric is not, as its scale is that of the widest number that is still in it; floating
 * point loses digits; min and max would need the rows.  Such views are recomputed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

#include "catalog/sx_catalog.h"
#include "compat.h"
#include "plan/node.h"

#define ROWS_COLUMN	"sx_rows"

/* ---------- can it be kept so? ---------- */

static bool
can_be_undone(const Aggref *agg)
{
	if (agg->aggkind != AGGKIND_NORMAL || agg->aggdistinct != NIL || agg->aggorder != NIL ||
		agg->agglevelsup != 0)
		return false;
	switch (agg->aggfnoid)
	{
		case F_COUNT_:
		case F_COUNT_ANY:
		case F_SUM_INT2:
		case F_SUM_INT4:
		case F_SUM_INT8:
		case F_AVG_INT2:
		case F_AVG_INT4:
		case F_AVG_INT8:
			return true;
		default:
			return false;
	}
}

static bool
lasting_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
		return !can_be_undone((Aggref *) node);
	if (IsA(node, GroupingFunc) || IsA(node, SubLink))
		return true;
	return expression_tree_walker(node, lasting_walker, context);
}

/* The one node in FROM; NULL: there is something else. */
static RangeTblEntry *
only_node(const Query *query)
{
	List	   *from = query->jointree->fromlist;
	RangeTblEntry *rte;

	if (query->setOperations != NULL || list_length(from) != 1 || !IsA(linitial(from), RangeTblRef))
		return NULL;
	rte = rt_fetch(linitial_node(RangeTblRef, from)->rtindex, query->rtable);
	return rte->rtekind == RTE_SUBQUERY && OidIsValid(sx_node_of(rte)) ? rte : NULL;
}

static bool
keys_have_order(const Query *query)
{
	ListCell   *lc;

	foreach(lc, query->groupClause)
	{
		if (!OidIsValid(lfirst_node(SortGroupClause, lc)->sortop))
			return false;
	}
	return list_length(query->groupClause) <= INDEX_MAX_KEYS;
}

/*
 * What a user's own view shows need not be what its batches change: nothing before a window
 * has closed, and rows go when their time has come.  Nodes of streamext's own lose only
 * rows that no batch can change any more.
 */
static bool
shows_its_state(Oid view)
{
	Oid			state;
	SxViewOptions *options = sx_view_options(sx_options_from_json(sx_step_options(view, NULL, &state)));

	return options->emit == SX_EMIT_CHANGES &&
		(options->retention < 0 || get_rel_namespace(view) == get_rel_namespace(state));
}

/* Is a window that the view has the node's, so that lateness is tested there? */
static bool
window_is_below(Query *query, Oid view)
{
	SxLayout   *layout = sx_layout_build(query);
	Oid			state;
	SxLayout   *below;
	Node	   *key;

	if (!layout->windowed)
		return true;
	below = sx_view_layout(view, &state);
	key = (Node *) layout->window_column->expr;
	return below->windowed && IsA(key, Var) &&
		equal(sx_replace_by_output(key, below->output), sx_state_var(below, below->window_column));
}

bool
sx_can_retract(Query *query)
{
	RangeTblEntry *node;

	query = sx_distinct_as_group(query);
	if ((!query->hasAggs && query->groupClause == NIL) || query->groupingSets != NIL ||
		query->distinctClause != NIL || query->hasWindowFuncs || query->limitCount != NULL ||
		query->limitOffset != NULL || query->hasSubLinks || (node = only_node(query)) == NULL)
		return false;
	if (lasting_walker((Node *) query->targetList, NULL) || lasting_walker(query->havingQual, NULL) ||
		expression_returns_set((Node *) query->targetList) || !keys_have_order(query) ||
		sx_reads_batch((Node *) query->targetList) || sx_reads_batch(query->havingQual) ||
		sx_reads_batch(query->jointree->quals))
		return false;
	query = copyObject(query);
	sx_flatten_group_exprs(query);
	return shows_its_state(sx_node_of(node)) && window_is_below(query, sx_node_of(node));
}

/* ---------- layout ---------- */

/* CASE WHEN count(x) > 0 THEN sum(x) END */
static Node *
sum_or_null(const Aggref *sum)
{
	Aggref	   *count = copyObject((Aggref *) sum);
	CaseExpr   *result = makeNode(CaseExpr);
	CaseWhen   *when = makeNode(CaseWhen);
	Node	   *zero = (Node *) makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(0),
										  false, FLOAT8PASSBYVAL);

	count->aggfnoid = F_COUNT_ANY;
	count->aggtype = INT8OID;
	count->aggcollid = InvalidOid;
	when->expr = (Expr *) make_op(NULL, list_make2(makeString("pg_catalog"), makeString(">")),
								  (Node *) count, zero, NULL, -1);
	when->result = (Expr *) copyObject((Aggref *) sum);
	when->location = -1;
	result->casetype = sum->aggtype;
	result->args = list_make1(when);
	result->defresult = (Expr *) makeNullConst(sum->aggtype, -1, InvalidOid);
	result->location = -1;
	return (Node *) result;
}

static Node *
sum_mutator(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Aggref))
	{
		Aggref	   *agg = (Aggref *) node;

		if (agg->aggfnoid == F_SUM_INT2 || agg->aggfnoid == F_SUM_INT4 || agg->aggfnoid == F_SUM_INT8)
			return sum_or_null(agg);
		return copyObject(node);
	}
	return expression_tree_mutator(node, sum_mutator, context);
}

/* The query as it is kept: a sum with the number of its values. */
static Query *
counted_query(Query *query)
{
	query = copyObject(sx_distinct_as_group(query));
	sx_flatten_group_exprs(query);
	query->targetList = (List *) sum_mutator((Node *) query->targetList, NULL);
	query->havingQual = sum_mutator(query->havingQual, NULL);
	return query;
}

SxLayout *
sx_retract_layout(Query *query)
{
	SxLayout   *layout = sx_layout_build(counted_query(query));
	SxLayoutBuilder builder = {layout, NIL, NULL, false};
	SxStateColumn *column;
	ListCell   *lc;

	layout->strategy = SX_STRATEGY_RETRACT;
	layout->reason = "aggregates that subtraction undoes: a node's new rows are added, its old ones taken away";
	foreach(lc, layout->columns)
		builder.names = lappend(builder.names, ((SxStateColumn *) lfirst(lc))->name);
	column = sx_layout_add(&builder, SX_COLUMN_PLAIN, ROWS_COLUMN, (Expr *) sx_count_rows());
	column->aggregate = F_COUNT_;
	column->start = pstrdup("0");
	return layout;
}

/* ---------- the statements ---------- */

/* The view's partial query over the rows that function gives, or all (NULL). */
static char *
partial_sql(Query *query, const SxLayout *layout, const char *function)
{
	SxLayout	counted = *layout;
	RangeTblEntry *rte;
	Oid			view;
	Oid			state;
	SxLayout   *below;
	char	   *rows;

	query = copyObject(query);
	rte = only_node(query);
	view = sx_node_of(rte);
	below = sx_view_layout(view, &state);
	rows = sx_changes_sql(view, function);
	if (below->having != NULL)
	{
		int			nestlevel = sx_pin_settings();

		rows = psprintf("%s WHERE %s", rows,
						deparse_expression(below->having, deparse_context_for("s", state), true, false));
		AtEOXact_GUC(true, nestlevel);
	}
	sx_rte_show(rte, sx_parse(rows, NULL, 0));
	counted.windowed = false;	/* lateness was tested below */
	return sx_deparse(sx_partial_query(query, &counted));
}

static bool
is_key(const SxStateColumn *column)
{
	return !OidIsValid(column->aggregate);
}

/* The columns of d: before and after what is put around an aggregate. */
static char *
columns_sql(const SxLayout *layout, const char *before, bool typed)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	foreach(lc, layout->columns)
	{
		SxStateColumn *column = lfirst(lc);
		const char *name = quote_identifier(column->name);

		if (sql.len > 0)
			appendStringInfoString(&sql, ", ");
		if (is_key(column))
			appendStringInfo(&sql, "d.%s", name);
		else if (typed)
			appendStringInfo(&sql, "%s(d.%s)::%s", before, name, sx_type_sql(column->type, -1));
		else
			appendStringInfo(&sql, "%s d.%s", before, name);
	}
	return sql.data;
}

static char *
list_sql(const SxLayout *layout, bool keys, const char *format, const char *separator)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	foreach(lc, layout->columns)
	{
		SxStateColumn *column = lfirst(lc);
		const char *name = quote_identifier(column->name);

		if (is_key(column) != keys)
			continue;
		if (sql.len > 0)
			appendStringInfoString(&sql, separator);
		for (const char *p = format; *p != '\0'; p++)
		{
			if (*p == '@')
				appendStringInfoString(&sql, name);
			else
				appendStringInfoChar(&sql, *p);
		}
	}
	return sql.data;
}

void
sx_retract_sql(SxStepPlan *plan, Query *query, const SxLayout *layout, const SxStepNames *names)
{
	char	   *columns = sx_columns_sql(layout->columns, "");
	char	   *rows;
	char	   *without;

	query = counted_query(query);
	without = partial_sql(query, layout, "old_rows");
	rows = psprintf("    SELECT * FROM (\n%s\n    ) d\n    UNION ALL\n    SELECT %s FROM (\n%s\n    ) d (%s)",
					partial_sql(query, layout, "new_rows"), columns_sql(layout, "-", false),
					without, columns);
	plan->apply_sql = psprintf("INSERT INTO %s AS s (%s)\nSELECT %s\nFROM (\n%s\n) d (%s)\nGROUP BY %s\n"
							   "HAVING %s\nORDER BY %s\nON CONFLICT (%s) DO UPDATE SET\n    %s",
							   names->state, columns, columns_sql(layout, "sum", true), rows, columns,
							   list_sql(layout, true, "d.@", ", "),
							   list_sql(layout, false, "sum(d.@) <> 0", " OR "),
							   sx_key_order_sql(layout, "d."), list_sql(layout, true, "@", ", "),
							   list_sql(layout, false,
										"@ = COALESCE(s.@, 0) + COALESCE(excluded.@, 0)", ",\n    "));
	if (query->groupClause != NIL)
		plan->then_sql = list_make1(psprintf("DELETE FROM %s\nWHERE " ROWS_COLUMN " = 0", names->state));
	/* The node may have rows already: an aggregate without GROUP BY, a view of the user's. */
	plan->start_sql = psprintf("INSERT INTO %s (%s)\n%s", names->state, columns,
							   partial_sql(query, layout, NULL));
	if (plan->retention >= 0 && layout->windowed)
		plan->expire_sql = sx_expire_windows_sql(layout, names->state);
}
