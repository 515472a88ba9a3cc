/*-------------------------------------------------------------------------
 *
 * reduce.c
 *		Views whose node need not keep what can never be in the result again.
 *
 *		SELECT DISTINCT ON (k) … FROM s ORDER BY k, ts DESC		the last row of a key
 *		SELECT … FROM s ORDER BY x LIMIT 10
 *		SELECT … FROM (SELECT …, row_number() OVER (PARTITION BY k ORDER BY x) AS rn
 *		               FROM s) t WHERE rn <= 10
 *
 * These are recomputed (recompute.c) over a node with the rows of s.  A row that is behind the
 * last one of the result stays behind it, as more rows only push it back.  So in each batch,
 * before the rows of the touched keys are computed again, those of the node that are not
 * among the first ones are deleted (prune_sql): a key costs what its result has, and what the
 * batch brings, not what was ever there.  A key none of whose new rows is left then
 * (changed_sql) is as it was.  Rows that are behind others of their own batch do not even get
 * into the node (feed_sql).
 *
 * In the last example, the subquery is a view of its own with all ranks, over the node.  The
 * condition on the rank stands above it; cut.c finds it (sx_rank_condition) and hands it down.
 * The node is marked by an option that holds the condition on the rows that stay, over the
 * reader's columns as u: "u.rn <= 10"; "true" where the reader's rows say it themselves.  Such
 * a node has one reader.
 *
 * An order that leaves ties is made complete by the order of arrival, or what was
 * deleted might have been chosen.  rank() and dense_rank() keep all ties.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "plan/node.h"

#define ROW_COLUMN	"sx_row"

/* ---------- what ranks ---------- */

static bool
is_rank(Oid function)
{
	return function == F_ROW_NUMBER || function == F_RANK_ || function == F_DENSE_RANK_;
}

static bool
other_window_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, WindowFunc))
		return !is_rank(((WindowFunc *) node)->winfnoid);
	return expression_tree_walker(node, other_window_walker, context);
}

static bool
tie_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, WindowFunc))
		return ((WindowFunc *) node)->winfnoid != F_ROW_NUMBER;
	return expression_tree_walker(node, tie_walker, context);
}

/* Ranks over one window, of rows as they are. */
static bool
ranks_rows(Query *query)
{
	return query->hasWindowFuncs && list_length(query->windowClause) == 1 && !query->hasAggs &&
		query->groupClause == NIL && query->groupingSets == NIL && query->havingQual == NULL &&
		query->distinctClause == NIL && query->setOperations == NULL &&
		query->limitCount == NULL && query->limitOffset == NULL &&
		!expression_returns_set((Node *) query->targetList) &&
		!other_window_walker((Node *) query->targetList, NULL);
}

/* DISTINCT ON or LIMIT, of rows as they are. */
static bool
takes_first(Query *query)
{
	bool		on = query->distinctClause != NIL && query->hasDistinctOn;

	return (on != (query->limitCount != NULL)) && (on || query->distinctClause == NIL) &&
		query->limitOffset == NULL && query->sortClause != NIL && !query->hasAggs &&
		query->groupClause == NIL && query->groupingSets == NIL && query->havingQual == NULL &&
		!query->hasWindowFuncs && query->setOperations == NULL &&
		!expression_returns_set((Node *) query->targetList);
}

/* ---------- the condition on the rank ---------- */

/* Rows before the wanted ones must stay: their number is part of the rank. */
static const char *
upper_bound_operator(Oid operator)
{
	char	   *name = get_opname(operator);
	Oid			left;
	Oid			right;

	op_input_types(operator, &left, &right);
	if (left != INT8OID || get_func_namespace(get_opcode(operator)) != PG_CATALOG_NAMESPACE)
		return NULL;
	if (strcmp(name, "=") == 0 || strcmp(name, "<=") == 0)
		return "<=";
	return strcmp(name, "<") == 0 ? "<" : NULL;
}

/* "u.rn <= 10" for such a condition; NULL: it is something else. */
static char *
bound_sql(OpExpr *op, const RangeTblEntry *rte, Index varno)
{
	Var		   *var = linitial(op->args);
	Const	   *bound = lsecond(op->args);
	const char *operator = upper_bound_operator(op->opno);
	TargetEntry *tle;

	if (operator == NULL || !IsA(var, Var) || !IsA(bound, Const) || bound->constisnull ||
		var->varno != varno || var->varlevelsup != 0 || var->varattno <= 0)
		return NULL;
	tle = get_tle_by_resno(rte->subquery->targetList, var->varattno);
	if (tle == NULL || !IsA(tle->expr, WindowFunc) ||
		!is_rank(((WindowFunc *) tle->expr)->winfnoid))
		return NULL;
	return psprintf("u.%s %s %s", quote_identifier(tle->resname), operator,
					OidOutputFunctionCall(bound->consttype == INT8OID ? F_INT8OUT :
										  bound->consttype == INT4OID ? F_INT4OUT : F_INT2OUT,
										  bound->constvalue));
}

char *
sx_rank_condition(Query *query, Index varno)
{
	RangeTblEntry *rte = rt_fetch(varno, query->rtable);
	ListCell   *lc;

	if (rte->rtekind != RTE_SUBQUERY || !ranks_rows(rte->subquery))
		return NULL;
	foreach(lc, make_ands_implicit((Expr *) query->jointree->quals))
	{
		OpExpr	   *op = lfirst(lc);
		Oid			turned;
		char	   *sql;

		if (!IsA(op, OpExpr) || list_length(op->args) != 2)
			continue;
		if (IsA(linitial(op->args), Const) && OidIsValid(turned = get_commutator(op->opno)))
		{
			op = copyObject(op);
			op->opno = turned;
			op->args = list_make2(lsecond(op->args), linitial(op->args));
		}
		sql = bound_sql(op, rte, varno);
		if (sql != NULL)
			return sql;
	}
	return NULL;
}

/* ---------- when the query is cut ---------- */

const char *
sx_reduces(Query *query, const char *rank_condition)
{
	if (query->jointree->quals != NULL || checkExprHasSubLink((Node *) query->targetList))
		return NULL;
	if (ranks_rows(query))
		return rank_condition;
	return takes_first(query) ? "true" : NULL;
}

/* Where the order of arrival is needed to make the order complete; NULL: nowhere. */
List	  **
sx_order_to_complete(Query *query)
{
	if (query->hasWindowFuncs)
		return tie_walker((Node *) query->targetList, NULL) ? NULL :
			&linitial_node(WindowClause, query->windowClause)->orderClause;
	return query->limitCount != NULL && query->limitOption == LIMIT_OPTION_WITH_TIES ? NULL :
		&query->sortClause;
}

/* ---------- the statement ---------- */

const char *
sx_kept_condition(List *refs)
{
	SxNodeRef  *ref = list_length(refs) == 1 ? linitial(refs) : NULL;
	char	   *json = ref == NULL ? NULL : sx_step_options(ref->view, NULL, NULL);

	return json == NULL ? NULL : sx_option(sx_options_from_json(json), SX_KEEP_OPTION);
}

/* The node's columns and the place of each row, for the keys in $1. */
static Query *
rows_with_place(const SxNodeRef *ref, const char *hash)
{
	Oid			types[] = {INT8ARRAYOID};
	Oid			state;
	SxLayout   *layout = sx_view_layout(ref->view, &state);
	char	   *sql;

	sql = psprintf("SELECT %s, s.ctid AS " ROW_COLUMN " FROM %s s%s",
				   sx_columns_sql(layout->columns, "s."), sx_qualified_name(state),
				   hash == NULL ? "" : psprintf(" WHERE %s = ANY ($1)", hash));
	return sx_parse(sql, types, 1);
}

/*
 * The reader's query over these rows in the node's place, and further columns: the rows' own,
 * from the one at this position on, named by the format.
 */
static char *
ranked_sql(Query *query, Query *rows, int from, const char *name)
{
	SxNodeRef  *ref;
	List	   *junk = NIL;
	List	   *output = NIL;
	AttrNumber	resno = 0;
	ListCell   *lc;

	query = copyObject(query);
	ref = linitial(sx_node_refs(query));
	sx_rte_show(ref->rte, rows);
	foreach(lc, query->targetList)
	{
		if (lfirst_node(TargetEntry, lc)->resjunk)
			junk = lappend(junk, lfirst(lc));
		else
			output = lappend(output, lfirst(lc));
	}
	for_each_from(lc, rows->targetList, from)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		output = lappend(output, makeTargetEntry((Expr *) makeVarFromTargetEntry(ref->varno, tle), 0,
												 psprintf("%s%d", name, tle->resno), false));
	}
	query->targetList = list_concat(output, junk);
	foreach(lc, query->targetList)
		lfirst_node(TargetEntry, lc)->resno = ++resno;
	return sx_deparse(query);
}

/*
 * Of the rows that a batch brings, only those that are among the first ones there are put
 * into the node: others would be deleted in the same batch.
 */
static char *
feed_sql(Query *query, const SxNodeRef *ref, const char *kept)
{
	Oid			state;
	Oid			query_view;
	SxLayout   *layout = sx_view_layout(ref->view, &state);
	Query	   *rows;
	StringInfoData columns;

	if (layout->strategy != SX_STRATEGY_APPEND)
		return NULL;
	(void) sx_step_options(ref->view, &query_view, NULL);
	/* Numbers of arrival are given before anything is sorted, and once. */
	rows = sx_parse(psprintf("%s OFFSET 0", sx_added_rows_sql(layout, sx_qualified_name(query_view))),
					NULL, 0);
	initStringInfo(&columns);
	for (int i = 1; i <= list_length(layout->columns); i++)
		appendStringInfo(&columns, "%su." ROW_COLUMN "%d", i == 1 ? "" : ", ", i);
	return psprintf("INSERT INTO %s (%s)\nSELECT %s\nFROM (\n%s\n) u\nWHERE %s",
					sx_qualified_name(state), sx_columns_sql(layout->columns, ""), columns.data,
					ranked_sql(query, rows, 0, ROW_COLUMN), kept);
}

/* Places of the node's rows that the reader does not need; they are few, but for a first batch. */
static char *
places_sql(Query *query, const SxNodeRef *ref, Oid state, const char *kept, const char *hash)
{
	Query	   *rows = rows_with_place(ref, hash);
	int			place = list_length(rows->targetList);
	char	   *column = psprintf("u." ROW_COLUMN "%d", place);
	char	   *ranked = ranked_sql(query, rows, place - 1, ROW_COLUMN);

	if (query->hasWindowFuncs)
		return psprintf("SELECT %s\nFROM (\n%s\n) u\nWHERE NOT (%s)", column, ranked, kept);
	return psprintf("SELECT s.ctid FROM %s s%s\nEXCEPT\nSELECT %s\nFROM (\n%s\n) u\nWHERE %s",
					sx_qualified_name(state),
					hash == NULL ? "" : psprintf(" WHERE %s = ANY ($1)", hash), column, ranked, kept);
}

/*
 * Keys of rows of this batch that are still there, by their numbers, which are above $2;
 * NULL: they have none.
 */
static char *
changed_sql(const SxLayout *layout, Oid state, const char *hash)
{
	ListCell   *lc;

	foreach(lc, layout->columns)
	{
		SxStateColumn *column = lfirst(lc);

		if (IsA(column->expr, FuncExpr) &&
			((FuncExpr *) column->expr)->funcid == sx_own_function("arrival", 0, NULL))
			return psprintf("SELECT pg_catalog.array_agg(DISTINCT %s)\nFROM %s s\n"
							"WHERE %ss.%s > $2",
							hash == NULL ? "0::bigint" : hash, sx_qualified_name(state),
							hash == NULL ? "" : psprintf("%s = ANY ($1) AND ", hash),
							quote_identifier(column->name));
	}
	return NULL;
}

void
sx_reduce_sql(SxRecompute *recompute, Query *query, const SxNodeRef *ref, const char *kept,
			  const char *hash)
{
	Oid			state;
	SxLayout   *layout = sx_view_layout(ref->view, &state);

	recompute->prune_sql = psprintf("DELETE FROM %s\nWHERE ctid = ANY (ARRAY(\n%s))",
									sx_qualified_name(state), places_sql(query, ref, state, kept, hash));
	recompute->changed_sql = changed_sql(layout, state, hash);
	recompute->feed_sql = feed_sql(query, ref, kept);
}
