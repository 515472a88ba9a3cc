/*-------------------------------------------------------------------------
 *
 * session_rows.c
 *		The rows that session windows are made of, and their keys, as SQL.
 *
 * Each row has the keys, then what the aggregates take, then its span: sx_start, and
 * sx_end, which is the gap later.  They are those of the user's query below its GROUP BY,
 * so its conditions and joins hold.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/tlist.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"

#include "plan/node.h"
#include "plan/session_internal.h"

List *
sx_session_keys(const SxLayout *layout)
{
	List	   *keys = NIL;
	ListCell   *lc;

	foreach(lc, layout->columns)
	{
		if (((SxStateColumn *) lfirst(lc))->kind == SX_COLUMN_KEY)
			keys = lappend(keys, lfirst(lc));
	}
	return keys;
}

/* streamext.key_hash(…) of the keys; 0 when none of them can be hashed */
char *
sx_session_hash_sql(const SxLayout *layout, const char *alias)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	foreach(lc, sx_session_keys(layout))
	{
		const SxStateColumn *key = lfirst(lc);

		if (sx_is_hashable(key->type, key->collation))
			appendStringInfo(&sql, "%s%s%s", sql.len > 0 ? ", " : "", alias, sx_quoted(key));
	}
	return sql.len == 0 ? NULL : psprintf("streamext.key_hash(%s)", sql.data);
}

/* " AND a = b" for every key, NULL being equal to NULL */
char *
sx_session_same_key_sql(const SxLayout *layout, const char *a, const char *b)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	if (sx_session_hash_sql(layout, a) != NULL)
		appendStringInfo(&sql, " AND %s = %s", sx_session_hash_sql(layout, a), sx_session_hash_sql(layout, b));
	foreach(lc, sx_session_keys(layout))
		appendStringInfo(&sql, " AND %s%s IS NOT DISTINCT FROM %s%s", a, sx_quoted(lfirst(lc)), b,
						 sx_quoted(lfirst(lc)));
	return sql.data;
}

/* ---------- rows ---------- */

/* The column of the rows that has this expression, as one of what is numbered (varno 1). */
static Node *
row_column(SxSessionColumns *rows, Node *expr)
{
	TargetEntry *tle = tlist_member((Expr *) expr, rows->targets);

	if (tle == NULL)
	{
		tle = makeTargetEntry(copyObject((Expr *) expr), list_length(rows->targets) + 1,
							  psprintf("sx_%d", list_length(rows->targets) + 1), false);
		rows->targets = lappend(rows->targets, tle);
	}
	return (Node *) makeVar(1, tle->resno, exprType(expr), exprTypmod(expr),
							exprCollation(expr), 0);
}

/* Direct arguments are made of keys. */
static Node *
direct_mutator(Node *node, SxSessionColumns *rows)
{
	if (node == NULL)
		return NULL;
	if (!IsA(node, List) && tlist_member((Expr *) node, rows->targets) != NULL)
		return row_column(rows, node);
	return expression_tree_mutator(node, direct_mutator, rows);
}

/* What an aggregate takes is computed with the rows, below. */
Node *
sx_session_arguments(Node *node, SxSessionColumns *rows)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Aggref))
	{
		Aggref	   *agg = copyObject((Aggref *) node);

		agg->args = (List *) sx_session_arguments((Node *) agg->args, rows);
		agg->aggfilter = (Expr *) sx_session_arguments((Node *) agg->aggfilter, rows);
		agg->aggdirectargs = (List *) direct_mutator((Node *) agg->aggdirectargs, rows);
		return (Node *) agg;
	}
	if (IsA(node, TargetEntry) || IsA(node, List))
		return expression_tree_mutator(node, sx_session_arguments, rows);
	if (IsA(node, Const))
		return copyObject(node);
	return row_column(rows, node);
}

SxSessionColumns *
sx_session_key_columns(const SxLayout *layout)
{
	SxSessionColumns *rows = palloc0(sizeof(SxSessionColumns));
	ListCell   *lc;

	foreach(lc, sx_session_keys(layout))
	{
		SxStateColumn *column = lfirst(lc);

		rows->targets = lappend(rows->targets,
								makeTargetEntry(copyObject(column->expr),
												list_length(rows->targets) + 1, column->name, false));
	}
	return rows;
}

/* The user's query with these columns, start and end for its output. */
Query *
sx_session_rows(Query *query, const SxLayout *layout, const SxSessionColumns *rows)
{
	FuncExpr   *session = (FuncExpr *) layout->session_start->expr;
	Node	   *start = linitial(session->args);
	Node	   *end = (Node *) make_op(NULL, list_make2(makeString("pg_catalog"), makeString("+")),
									   copyObject(start), copyObject(lsecond(session->args)), NULL, -1);
	AttrNumber	n = list_length(rows->targets);

	query = copyObject(query);
	sx_flatten_group_exprs(query);
	query->targetList = copyObject(rows->targets);
	query->targetList = lappend(query->targetList, makeTargetEntry(copyObject((Expr *) start), n + 1,
																   "sx_start", false));
	query->targetList = lappend(query->targetList, makeTargetEntry((Expr *) end, n + 2, "sx_end", false));
	query->groupClause = NIL;
	query->havingQual = NULL;
	query->sortClause = NIL;
	query->hasAggs = false;
	query->hasTargetSRFs = expression_returns_set((Node *) query->targetList);
	return query;
}

/* The node's rows that the batch has added, in place of all. */
void
sx_session_read_changes(Query *query)
{
	RangeTblRef *ref = linitial_node(RangeTblRef, query->jointree->fromlist);
	RangeTblEntry *rte = rt_fetch(ref->rtindex, query->rtable);

	sx_rte_show(rte, sx_parse(psprintf("SELECT c.* FROM (%s) c", sx_changes_sql(sx_node_of(rte), "changed_rows")), NULL, 0));
}
