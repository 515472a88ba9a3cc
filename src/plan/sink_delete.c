/*-------------------------------------------------------------------------
 *
 * sink_delete.c
 *		Option delete_when of a sink of the connector table.
 *
 * Rows for which the condition holds delete the row of their key.  The condition names
 * columns of the query, or of what is in its FROM, as ORDER BY does; it becomes one more
 * column of the query that is stored, so it follows renames like the rest.
 *
 * A sink with a key that reads a stream of changes (stream_changes.c) has the condition
 * op = 'delete' by itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_operator.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
#include "utils/varlena.h"

#include "catalog/sx_catalog.h"
#include "compat.h"
#include "ddl/ddl.h"
#include "plan/plan_internal.h"
#include "plan/sink_delete.h"
#include "plan/stream_changes.h"
#include "plan/stream_def.h"

/* ---------- what the condition can name ---------- */

/* One entry of FROM as the parser has it. */
static ParseNamespaceItem *
namespace_item(Query *query, Index index, bool by_name, bool columns)
{
	RangeTblEntry *rte = rt_fetch(index, query->rtable);
	ParseNamespaceItem *item = palloc0(sizeof(ParseNamespaceItem));
	List	   *names;
	List	   *vars;
	ListCell   *lc;

	sx_expand_rte(rte, index, &names, &vars);
	item->p_names = rte->eref;
	item->p_rte = rte;
	item->p_rtindex = index;
	item->p_rel_visible = by_name;
	item->p_cols_visible = columns;
	item->p_lateral_ok = true;
	item->p_nscolumns = palloc0(sizeof(ParseNamespaceColumn) * Max(list_length(vars), 1));
	foreach(lc, vars)
	{
		ParseNamespaceColumn *column = &item->p_nscolumns[foreach_current_index(lc)];
		Var		   *var = lfirst(lc);

		if (!IsA(var, Var))
			continue;			/* dropped, or of a join that has no name of its own */
		column->p_varno = column->p_varnosyn = index;
		column->p_varattno = column->p_varattnosyn = foreach_current_index(lc) + 1;
		column->p_vartype = var->vartype;
		column->p_vartypmod = var->vartypmod;
		column->p_varcollid = var->varcollid;
	}
	return item;
}

static void
add_from(ParseState *pstate, Query *query, Node *node, bool by_name, bool columns)
{
	JoinExpr   *join = (JoinExpr *) node;
	bool		named;

	if (IsA(node, RangeTblRef))
	{
		pstate->p_namespace = lappend(pstate->p_namespace,
									  namespace_item(query, ((RangeTblRef *) node)->rtindex,
													 by_name, columns));
		return;
	}
	named = join->alias != NULL;
	pstate->p_namespace = lappend(pstate->p_namespace,
								  namespace_item(query, join->rtindex, named && by_name, columns));
	add_from(pstate, query, join->larg, by_name && !named, false);
	add_from(pstate, query, join->rarg, by_name && !named, false);
}

/* Columns of the output come first, as in ORDER BY. */
static Node *
output_column(ParseState *pstate, ColumnRef *ref)
{
	Query	   *query = pstate->p_ref_hook_state;
	ListCell   *lc;

	if (list_length(ref->fields) != 1 || !IsA(linitial(ref->fields), String))
		return NULL;
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!tle->resjunk && strcmp(tle->resname, strVal(linitial(ref->fields))) == 0)
			return copyObject((Node *) tle->expr);
	}
	return NULL;
}

/* ---------- the condition ---------- */

static Node *
parse_condition(const char *text)
{
	List	   *statements = raw_parser(text, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = (SelectStmt *) linitial_node(RawStmt, statements)->stmt;

	if (!IsA(select, SelectStmt) || list_length(select->targetList) != 1 ||
		select->fromClause != NIL || select->whereClause != NULL || select->op != SETOP_NONE ||
		select->groupClause != NIL || select->sortClause != NIL || select->limitCount != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("option \"delete_when\" is not a condition: \"%s\"", text),
				 errhint("Write a condition over columns of the query, as delete_when = 'value IS NULL'.")));
	return linitial_node(ResTarget, select->targetList)->val;
}

/* Positions in errors are those in the condition, not in the statement. */
static void
point_into_condition(void *text)
{
	if (geterrposition() <= 0)
		return;
	internalerrposition(geterrposition());
	internalerrquery(text);
	errposition(0);
}

static Node *
analyse_condition(ParseState *pstate, const char *text)
{
	ErrorContextCallback context = {error_context_stack, point_into_condition, (void *) text};
	Node	   *condition;

	error_context_stack = &context;
	pstate->p_sourcetext = text;
	condition = transformExpr(pstate, parse_condition(text), EXPR_KIND_WHERE);
	condition = coerce_to_boolean(pstate, condition, "delete_when");
	assign_expr_collations(pstate, condition);
	error_context_stack = context.previous;
	if (pstate->p_hasSubLinks)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("option \"delete_when\" cannot have a subquery"),
				 errhint("Make it a column of a derived stream, and name that column.")));
	return condition;
}

/* Does each row of FROM that passes WHERE give one row? */
static bool
is_simple(const Query *query)
{
	return query->setOperations == NULL && !query->hasAggs && !query->hasWindowFuncs &&
		!query->hasTargetSRFs && query->groupClause == NIL && query->groupingSets == NIL &&
		query->havingQual == NULL && query->distinctClause == NIL &&
		query->limitCount == NULL && query->limitOffset == NULL;
}

/* SELECT d.* FROM (query) d */
static Query *
wrapped(Query *query)
{
	ParseState *pstate = make_parsestate(NULL);
	Query	   *outer = makeNode(Query);
	ParseNamespaceItem *item = addRangeTableEntryForSubquery(pstate, query, makeAlias("d", NIL),
															 false, true);

	addNSItemToQuery(pstate, item, true, true, true);
	outer->commandType = CMD_SELECT;
	outer->canSetTag = true;
	outer->targetList = expandNSItemAttrs(pstate, item, 0, true, -1);
	outer->rtable = pstate->p_rtable;
	outer->jointree = makeFromExpr(pstate->p_joinlist, NULL);
	return outer;
}

static void
add_column(Query *query, Node *condition)
{
	List	   *shown = NIL;
	List	   *junk = NIL;
	AttrNumber	last = 0;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		if (lfirst_node(TargetEntry, lc)->resjunk)
			junk = lappend(junk, lfirst(lc));
		else
			shown = lappend(shown, lfirst(lc));
	}
	shown = lappend(shown, makeTargetEntry((Expr *) condition, 0, pstrdup(SX_DELETE_COLUMN), false));
	query->targetList = list_concat(shown, junk);
	foreach(lc, query->targetList)
		lfirst_node(TargetEntry, lc)->resno = ++last;
}

Query *
sx_sink_delete_query(Query *query, List *options)
{
	const char *text = sx_option(options, "delete_when");
	ParseState *pstate;
	ListCell   *lc;

	if (text == NULL)
		return query;
	query = copyObject(query);
	if (!is_simple(query))
		query = wrapped(query);
	pstate = make_parsestate(NULL);
	pstate->p_rtable = query->rtable;
	sx_parse_permissions(pstate, query);
	foreach(lc, query->jointree->fromlist)
		add_from(pstate, query, lfirst(lc), true, true);
	pstate->p_pre_columnref_hook = output_column;
	pstate->p_ref_hook_state = query;
	add_column(query, analyse_condition(pstate, text));
	return sx_rewrite_clock(query);
}

/* ---------- over a stream of changes ---------- */

/* The stream of changes that the query reads, and nothing else; NULL: it is none. */
static RangeTblEntry *
changes_in(Query *query, Query **changes, List **options)
{
	RangeTblEntry *rte;
	Oid			query_view;
	char	   *json;

	if (!is_simple(query) || list_length(query->jointree->fromlist) != 1 ||
		!IsA(linitial(query->jointree->fromlist), RangeTblRef))
		return NULL;
	rte = rt_fetch(linitial_node(RangeTblRef, query->jointree->fromlist)->rtindex, query->rtable);
	if (rte->rtekind != RTE_RELATION || sx_relation_kind(rte->relid) != SX_REL_DERIVED ||
		(json = sx_step_options(rte->relid, &query_view, NULL)) == NULL)
		return NULL;
	*options = sx_options_from_json(json);
	*changes = sx_view_query(query_view);
	return sx_option(*options, "changes") != NULL ? rte : NULL;
}

/* Names, in the stream, of the columns that the sink has for its key; NULL: no column. */
static List *
key_in_stream(Query *query, RangeTblEntry *rte, const char *key)
{
	List	   *names;
	List	   *result = NIL;
	ListCell   *lc;

	(void) SplitIdentifierString(pstrdup(key), ',', &names);
	foreach(lc, names)
	{
		ListCell   *t;

		foreach(t, query->targetList)
		{
			TargetEntry *tle = lfirst_node(TargetEntry, t);

			if (!tle->resjunk && strcmp(tle->resname, lfirst(lc)) == 0)
				result = lappend(result, makeString(!IsA(tle->expr, Var) ? "" :
													get_attname(rte->relid, ((Var *) tle->expr)->varattno, false)));
		}
	}
	return result;
}

/*
 * When a row's key in the sink can change while its key among the changes stays, its old
 * row would be left behind.
 */
static void
check_key(Query *query, RangeTblEntry *rte, Query *changes, List *options, const char *key)
{
	List	   *columns;
	List	   *wanted = NIL;
	List	   *given = key_in_stream(query, rte, key);
	ListCell   *lc;

	if (!sx_changes_key(changes, options, &columns))
		return;
	foreach(lc, columns)
		wanted = lappend(wanted, makeString(lfirst(lc)));
	if (list_difference(wanted, given) == NIL && list_difference(given, wanted) == NIL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the key of the sink is not the key by which stream %s tells rows apart",
					sx_qualified_name(rte->relid)),
			 errdetail("A row whose key in the sink changes would leave its old row behind."),
			 errhint("Give both the same: option \"key\" of the stream of changes, and of the sink.")));
}

List *
sx_sink_delete_options(Query *query, List *options)
{
	const char *key = sx_option(options, "key");
	Query	   *changes;
	List	   *changes_options;
	RangeTblEntry *rte;

	if (key == NULL)
	{
		if (sx_option(options, "delete_when") != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"delete_when\" needs option \"key\""),
					 errhint("Name the columns by which the row to delete is found.")));
		return options;
	}
	if (sx_option(options, "delete_when") != NULL ||
		(rte = changes_in(query, &changes, &changes_options)) == NULL)
		return options;
	check_key(query, rte, changes, changes_options, key);
	return lappend(options,
				   makeDefElem("delete_when",
							   (Node *) makeString(psprintf("%s.op = 'delete'",
															quote_identifier(rte->eref->aliasname))), -1));
}

/* ---------- maintenance SQL ---------- */

static Oid
operator_namespace(Oid operator)
{
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Oid			namespace;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	namespace = ((Form_pg_operator) GETSTRUCT(tuple))->oprnamespace;
	ReleaseSysCache(tuple);
	return namespace;
}

char *
sx_same_value_sql(Oid type, const char *a, const char *b, bool nulls)
{
	Oid			equal = lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr;
	char	   *same = psprintf("%s OPERATOR(%s.%s) %s", a,
								quote_identifier(get_namespace_name(operator_namespace(equal))),
								get_opname(equal), b);

	return nulls ? psprintf("(%s OR %s IS NULL AND %s IS NULL)", same, a, b) : same;
}
