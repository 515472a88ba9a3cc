/*-------------------------------------------------------------------------
 *
 * node_ref.c
 *		How a query reads a node: SELECT its columns FROM the view.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

#include "catalog/sx_catalog.h"
#include "plan/node.h"

Oid
sx_node_of(const RangeTblEntry *rte)
{
	Query	   *query = rte->subquery;
	FromExpr   *from;
	RangeTblEntry *inner;
	AttrNumber	attno = 0;
	ListCell   *lc;

	if (rte->rtekind != RTE_SUBQUERY || query->setOperations != NULL ||
		query->groupClause != NIL || query->distinctClause != NIL || query->hasAggs ||
		query->hasWindowFuncs || query->limitCount != NULL || query->limitOffset != NULL ||
		query->sortClause != NIL || query->cteList != NIL)
		return InvalidOid;
	from = query->jointree;
	if (from->quals != NULL || list_length(from->fromlist) != 1 ||
		!IsA(linitial(from->fromlist), RangeTblRef))
		return InvalidOid;
	inner = rt_fetch(linitial_node(RangeTblRef, from->fromlist)->rtindex, query->rtable);
	if (inner->rtekind != RTE_RELATION || sx_relation_kind(inner->relid) != SX_REL_VIEW ||
		sx_is_final_view(inner->relid))
		return InvalidOid;
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!IsA(tle->expr, Var) || ((Var *) tle->expr)->varattno != ++attno)
			return InvalidOid;
	}
	/* Columns of a view are never dropped: the next one would be there. */
	return get_attname(inner->relid, attno + 1, true) == NULL ? inner->relid : InvalidOid;
}

static char *
columns_of(Oid view)
{
	Relation	rel = table_open(view, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; i < desc->natts; i++)
		appendStringInfo(&sql, "%sc.%s", i == 0 ? "" : ", ",
						 quote_identifier(NameStr(TupleDescAttr(desc, i)->attname)));
	table_close(rel, NoLock);
	return sql.data;
}

Query *
sx_parse(const char *sql, const Oid *argtypes, int nargs)
{
	int			nestlevel = sx_pin_settings();
	Query	   *query;

	query = parse_analyze_fixedparams(linitial_node(RawStmt, pg_parse_query(sql)), sql,
									  argtypes, nargs, NULL);
	AtEOXact_GUC(true, nestlevel);
	return query;
}

Query *
sx_node_query_where(Oid view, const char *column_sql, const char *where_sql,
					const Oid *argtypes, int nargs)
{
	char	   *sql = psprintf("SELECT %s%s FROM %s c%s%s", columns_of(view), column_sql,
							   sx_qualified_name(view), where_sql[0] == '\0' ? "" : " WHERE ",
							   where_sql);

	return sx_parse(sql, argtypes, nargs);
}

Query *
sx_node_query(Oid view)
{
	return sx_node_query_where(view, "", "", NULL, 0);
}

void
sx_rte_show(RangeTblEntry *rte, Query *subquery)
{
	List	   *names = NIL;
	Alias	   *alias = rte->alias;
	Alias	   *eref = rte->eref;
	ListCell   *lc;

	foreach(lc, subquery->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		/* What only ORDER BY wants has no name. */
		if (!tle->resjunk)
			names = lappend(names, makeString(pstrdup(tle->resname)));
	}
	memset(rte, 0, sizeof(RangeTblEntry));
	rte->type = T_RangeTblEntry;
	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = subquery;
	rte->inFromCl = true;
	rte->eref = makeAlias(eref != NULL ? eref->aliasname : "c", names);
	rte->alias = makeAlias(alias != NULL ? alias->aliasname : rte->eref->aliasname, NIL);
}

/* ---------- joins ---------- */

static Index fix_join(Query *query, Node *node);

/* A join has the columns of its two sides, one after the other; no alias names them. */
static void
name_columns(Query *query, RangeTblEntry *join, Index side, List **positions)
{
	AttrNumber	attno = 0;
	ListCell   *lc;

	*positions = NIL;
	foreach(lc, rt_fetch(side, query->rtable)->eref->colnames)
	{
		join->eref->colnames = lappend(join->eref->colnames, copyObject(lfirst(lc)));
		join->joinaliasvars = lappend(join->joinaliasvars,
									  makeVar(side, ++attno, INT4OID, -1, InvalidOid, 0));
		*positions = lappend_int(*positions, attno);
	}
}

static Index
fix_join(Query *query, Node *node)
{
	JoinExpr   *join = (JoinExpr *) node;
	Index		left;
	Index		right;
	RangeTblEntry *rte;

	if (IsA(node, RangeTblRef))
		return ((RangeTblRef *) node)->rtindex;
	left = fix_join(query, join->larg);
	right = fix_join(query, join->rarg);
	join->usingClause = NIL;
	join->isNatural = false;
	join->alias = NULL;
	rte = rt_fetch(join->rtindex, query->rtable);
	rte->joinmergedcols = 0;
	rte->joinaliasvars = NIL;
	rte->alias = NULL;
	rte->eref = makeAlias("unnamed_join", NIL);
	name_columns(query, rte, left, &rte->joinleftcols);
	name_columns(query, rte, right, &rte->joinrightcols);
	return join->rtindex;
}

void
sx_fix_joins(Query *query)
{
	ListCell   *lc;

	foreach(lc, query->jointree->fromlist)
		(void) fix_join(query, lfirst(lc));
}

char *
sx_node_expr_sql(Oid view, Node *expr, const char *alias)
{
	int			nestlevel = sx_pin_settings();
	char	   *sql;

	sql = deparse_expression(expr, deparse_context_for(alias == NULL ? "s" : alias, view),
							 alias != NULL, false);
	AtEOXact_GUC(true, nestlevel);
	return sql;
}

char *
sx_node_key_sql(Oid view, List *key, const char *alias)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	foreach(lc, key)
		appendStringInfo(&sql, "%s%s", lc == list_head(key) ? "streamext.key_hash(" : ", ",
						 sx_node_expr_sql(view, lfirst(lc), alias));
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

void
sx_append_output(StringInfo sql, const SxLayout *layout, List *context)
{
	ListCell   *lc;

	foreach(lc, layout->output)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		appendStringInfo(sql, "%s%s AS %s", foreach_current_index(lc) == 0 ? "SELECT " : ", ",
						 deparse_expression((Node *) tle->expr, context, true, false),
						 quote_identifier(tle->resname));
	}
}

char *
sx_changes_sql(Oid view, const char *function)
{
	Oid			state;
	SxLayout   *layout = sx_view_layout(view, &state);
	const char *table = sx_qualified_name(state);
	int			nestlevel = sx_pin_settings();
	List	   *context = deparse_context_for("s", state);
	StringInfoData sql;

	initStringInfo(&sql);
	sx_append_output(&sql, layout, context);
	AtEOXact_GUC(true, nestlevel);
	if (function == NULL)
		appendStringInfo(&sql, " FROM %s s", table);
	else
		appendStringInfo(&sql, " FROM streamext.%s(NULL::%s) s", function, table);
	return sql.data;
}
