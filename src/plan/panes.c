/*-------------------------------------------------------------------------
 *
 * panes.c
 *		Aggregates over a windowed stream, kept in panes.
 *
 * SELECT k, sum(v) FROM w GROUP BY k would read all rows of the window whenever it fires.
 * Instead the partial aggregates of each batch are kept in a table of their own, and
 * merged by twos into larger and larger panes: a pane of level n covers the 2^n batches
 * from a multiple of 2^n on.  Any range of batches is made of a few panes:
 *
 *		batches    3 4 5 6 7 8 9 10      level 0: 3   level 2: 4–7   level 1: 8–9   level 0: 10
 *
 * so a window is answered from O(log(length)) rows a key, and what a batch costs does not
 * grow with the length of the window.  No aggregate needs an inverse for that.
 *
 * The layout is that of a continuous view of the same query: partial aggregates as columns,
 * output and HAVING over them.  Where a query cannot be taken apart so, it runs over the
 * retained rows, and explain() says why.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "compat.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "parser/analyze.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "streamext.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "fdw/stream.h"
#include "plan/plan_internal.h"
#include "plan/stream_def.h"

#define LEVEL		"sx_level"
#define PANE		"sx_pane"
#define FEW_PANES	4			/* a window of fewer slides is as well read whole */

/* ---------- the windowed stream ---------- */

/* Length and slide of a windowed stream; NULL: it is none. */
static SxWindowSpec *
window_spec(Oid relid)
{
	SxStepPlan	plan = {0};
	Oid			query;
	char	   *json;

	if (!sx_is_stream_table(relid) || sx_relation_kind(relid) != SX_REL_DERIVED)
		return NULL;
	json = sx_step_options(relid, &query, NULL);
	plan.options = json == NULL ? NIL : sx_options_from_json(json);
	if (sx_option(plan.options, "window") == NULL)
		return NULL;
	sx_kind_window.plan(&plan, sx_view_query(query));
	return plan.window;
}

/* The one relation in FROM, as an index of the range table; 0: it is something else. */
static Index
only_relation(Query *query)
{
	Node	   *item;

	if (query->setOperations != NULL || list_length(query->jointree->fromlist) != 1)
		return 0;
	item = linitial(query->jointree->fromlist);
	if (!IsA(item, RangeTblRef) ||
		rt_fetch(((RangeTblRef *) item)->rtindex, query->rtable)->rtekind != RTE_RELATION)
		return 0;
	return ((RangeTblRef *) item)->rtindex;
}

static bool
reads_window(Query *query)
{
	SxReads		reads = sx_query_reads(query, NIL);
	ListCell   *lc;

	foreach(lc, reads.derived)
	{
		if (window_spec(lfirst_oid(lc)) != NULL)
			return true;
	}
	return false;
}

/* ---------- can it be done? ---------- */

static Form_pg_aggregate
aggregate_form(Oid aggregate, HeapTuple *tuple)
{
	*tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggregate));
	if (!HeapTupleIsValid(*tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", aggregate);
	return (Form_pg_aggregate) GETSTRUCT(*tuple);
}

/* Is the aggregate of its own results their combination, as max() of maxima is? */
static bool
is_its_own_merge(Oid aggregate)
{
	HeapTuple	tuple;
	Form_pg_aggregate form = aggregate_form(aggregate, &tuple);
	Oid		   *argtypes;
	int			nargs;
	bool		result;

	(void) get_func_signature(aggregate, &argtypes, &nargs);
	result = nargs == 1 && argtypes[0] == form->aggtranstype &&
		form->aggcombinefn == form->aggtransfn && func_strict(form->aggtransfn);
	ReleaseSysCache(tuple);
	return result;
}

/* Are its results, of type bigint, added? */
static bool
is_added_bigint(Oid aggregate)
{
	HeapTuple	tuple;
	Form_pg_aggregate form = aggregate_form(aggregate, &tuple);
	bool		result = form->aggcombinefn == F_INT8PL && form->aggtranstype == INT8OID;

	ReleaseSysCache(tuple);
	return result;
}

bool
sx_results_combine(Oid aggregate)
{
	return is_its_own_merge(aggregate) || is_added_bigint(aggregate);
}

typedef struct ProblemContext
{
	const char *problem;
} ProblemContext;

static bool
problem_walker(Node *node, ProblemContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var) && ((Var *) node)->varattno <= 0)
		context->problem = "it uses the whole row of the windowed stream";
	else if (IsA(node, GroupingFunc))
		context->problem = "it calls GROUPING()";
	else if (IsA(node, Aggref))
	{
		const Aggref *agg = (Aggref *) node;
		bool		plain = false;
		const char *problem = sx_aggregate_problem(agg, &plain);

		if (problem == NULL && plain && !sx_results_combine(agg->aggfnoid))
			problem = "has results that cannot be combined";
		if (problem != NULL)
			context->problem = psprintf("aggregate %s %s", get_func_name(agg->aggfnoid), problem);
	}
	return context->problem != NULL || expression_tree_walker(node, problem_walker, context);
}

static const char *
column_problem(const Query *query)
{
	bool		any = false;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (tle->resname != NULL && (strcmp(tle->resname, LEVEL) == 0 || strcmp(tle->resname, PANE) == 0))
			return "a column has the name of one of the table of panes";
		any |= !tle->resjunk;
	}
	return any ? NULL : "it has no column";
}

static const char *
key_problem(const Query *query)
{
	ListCell   *lc;

	foreach(lc, query->groupClause)
	{
		if (!OidIsValid(lfirst_node(SortGroupClause, lc)->sortop))
			return "a column of GROUP BY has a type without an order";
	}
	return list_length(query->groupClause) > INDEX_MAX_KEYS ? "GROUP BY has too many columns" : NULL;
}

static const char *
clause_problem(Query *query)
{
	ProblemContext context = {NULL};

	if (!query->hasAggs && query->groupClause == NIL)
		return "it does not aggregate";
	if (query->hasSubLinks || query->cteList != NIL)
		return "it has a subquery";
	if (query->hasWindowFuncs || query->distinctClause != NIL || query->sortClause != NIL ||
		query->limitCount != NULL || query->limitOffset != NULL ||
		query->groupingSets != NIL || query->hasTargetSRFs || query->rowMarks != NIL)
		return "it has more clauses than WHERE, GROUP BY and HAVING";
	if (contain_mutable_functions((Node *) query->targetList) ||
		contain_mutable_functions((Node *) query->jointree) ||
		contain_mutable_functions(query->havingQual))
		return "it calls a function that is not IMMUTABLE";
	(void) problem_walker((Node *) query->targetList, &context);
	if (context.problem == NULL)
		(void) problem_walker((Node *) query->jointree, &context);
	if (context.problem == NULL)
		(void) problem_walker(query->havingQual, &context);
	if (context.problem == NULL)
		context.problem = column_problem(query);
	return context.problem != NULL ? context.problem : key_problem(query);
}

const char *
sx_panes_problem(Query *query, Oid *window)
{
	Index		index = only_relation(query);
	SxWindowSpec *spec = NULL;
	Query	   *flat;

	*window = InvalidOid;
	if (index > 0)
		spec = window_spec(rt_fetch(index, query->rtable)->relid);
	if (spec == NULL)
		return reads_window(query) ? "it does not read the windowed stream alone and directly" : NULL;
	*window = rt_fetch(index, query->rtable)->relid;
	if (spec->slide > 0 && spec->length / spec->slide < FEW_PANES)
		return "the window is not much longer than its slide";
	flat = copyObject(query);
	sx_flatten_group_exprs(flat);
	return clause_problem(flat);
}

/* ---------- SQL ---------- */

static char *
qualified_function(Oid function)
{
	return quote_qualified_identifier(get_namespace_name(get_func_namespace(function)),
									  get_func_name(function));
}

char *
sx_combined_column_sql(const SxStateColumn *column, const char *alias, const char *order)
{
	char	   *value = psprintf("%s.%s", alias, quote_identifier(column->name));
	char	   *merged;

	if (column->kind == SX_COLUMN_PARTIAL)
		return psprintf("streamext.combine_states(%s::regprocedure, %s%s)",
						quote_literal_cstr(format_procedure_qualified(column->aggregate)),
						value, order);
	if (column->kind == SX_COLUMN_SUM)
		return psprintf("pg_catalog.sum(%s)", value);
	if (is_added_bigint(column->aggregate))
		merged = psprintf("pg_catalog.sum(%s)::bigint", value);
	else
		merged = psprintf("%s(%s)", qualified_function(column->aggregate), value);
	if (column->start == NULL)
		return merged;
	return psprintf("COALESCE(%s, %s::%s)", merged, quote_literal_cstr(column->start),
					sx_type_sql(column->type, -1));
}

/* The columns of merged panes; keys: those to group by. */
static char *
merged_columns(const SxLayout *layout, char **keys)
{
	StringInfoData sql;
	StringInfoData group;
	ListCell   *lc;

	initStringInfo(&sql);
	initStringInfo(&group);
	foreach(lc, layout->columns)
	{
		SxStateColumn *column = lfirst(lc);
		const char *name = quote_identifier(column->name);

		appendStringInfo(&sql, "%s", lc == list_head(layout->columns) ? "" : ", ");
		if (column->kind == SX_COLUMN_ONLY)
			appendStringInfo(&sql, "1::smallint AS %s", name);
		else if (column->kind != SX_COLUMN_KEY)
			appendStringInfo(&sql, "%s AS %s",
							 sx_combined_column_sql(column, "p", " ORDER BY p." PANE " << p." LEVEL),
							 name);
		else
		{
			appendStringInfo(&sql, "p.%s", name);
			appendStringInfo(&group, "%sp.%s", group.len > 0 ? ", " : "", name);
		}
	}
	*keys = group.data;
	return sql.data;
}

static Param *
argument(int number)
{
	Param	   *param = makeNode(Param);

	param->paramkind = PARAM_EXTERN;
	param->paramid = number;
	param->paramtype = INT8OID;
	param->paramtypmod = -1;
	param->location = -1;
	return param;
}

static Node *
compare(const char *operator, Var *var, int number)
{
	return (Node *) make_op(NULL, list_make2(makeString("pg_catalog"), makeString(pstrdup(operator))),
							copyObject((Node *) var), (Node *) argument(number), NULL, -1);
}

/*
 * The partial aggregates of batches, from the rows that the window keeps: the query over
 * its state table, with the batch as one more key.
 */
static char *
batches_sql(Query *query, SxLayout *layout, Oid state)
{
	Query	   *partial = sx_partial_query(query, layout);
	Index		index = only_relation(partial);
	RangeTblEntry *rte = rt_fetch(index, partial->rtable);
	Var		   *batch = makeVar(index, get_attnum(state, SX_WINDOW_BATCH), INT8OID, -1,
								InvalidOid, 0);
	TargetEntry *tle = makeTargetEntry((Expr *) batch, list_length(partial->targetList) + 1,
									   PANE, false);
	SortGroupClause *clause = makeNode(SortGroupClause);
	ListCell   *lc;

	rte->relid = state;
	rte->relkind = get_rel_relkind(state);
	foreach(lc, partial->targetList)
		tle->ressortgroupref = Max(tle->ressortgroupref,
								   lfirst_node(TargetEntry, lc)->ressortgroupref);
	clause->tleSortGroupRef = ++tle->ressortgroupref;
	get_sort_group_operators(INT8OID, true, true, false, &clause->sortop, &clause->eqop,
							 NULL, &clause->hashable);
	partial->targetList = lappend(partial->targetList, tle);
	partial->groupClause = lappend(partial->groupClause, clause);
	partial->jointree->quals = make_and_qual(partial->jointree->quals,
											 make_and_qual(compare(">", batch, 1),
														   compare("<=", batch, 2)));
	return sx_deparse(partial);
}

/* The query, answered from the panes that make up the window. */
static char *
answer_sql(const SxPanes *panes, const SxLayout *layout, const char *table)
{
	char	   *keys;
	char	   *columns = merged_columns(layout, &keys);
	char	   *sql = psprintf("SELECT s.* FROM (SELECT %s FROM streamext.pane_cover(%s::regclass) c "
							   "CROSS JOIN LATERAL (SELECT * FROM %s t WHERE t.%s = c.level AND t.%s = c.pane OFFSET 0) p"
							   "%s%s) s", columns,
							   quote_literal_cstr(sx_qualified_name(panes->window)), table,
							   LEVEL, PANE, keys[0] == '\0' ? "" : " GROUP BY ", keys);
	RawStmt    *raw = linitial_node(RawStmt, pg_parse_query(sql));
	int			nestlevel = sx_pin_settings();
	Query	   *query = parse_analyze_fixedparams(raw, sql, NULL, 0, NULL);

	AtEOXact_GUC(true, nestlevel);
	query->targetList = copyObject(layout->output);
	query->jointree->quals = copyObject(layout->having);
	return sx_deparse(query);
}

SxPanes *
sx_panes_build(Query *query, Oid table, char **answer)
{
	SxPanes    *panes = palloc0(sizeof(SxPanes));
	SxLayout   *layout = sx_layout_build(query);
	const char *name = sx_qualified_name(table);
	char	   *names = sx_columns_sql(layout->columns, "");
	char	   *keys;
	char	   *merged = merged_columns(layout, &keys);
	Oid			state;

	layout->windowed = false;
	(void) sx_panes_problem(query, &panes->window);
	(void) sx_step_options(panes->window, NULL, &state);
	panes->table = table;
	panes->add_sql = psprintf("INSERT INTO %s (%s, %s, %s)\nSELECT 0, d.*\nFROM (\n%s\n) d",
							  name, LEVEL, names, PANE, batches_sql(query, layout, state));
	panes->merge_sql = psprintf("INSERT INTO %s (%s, %s, %s)\nSELECT $1, p.%s / 2, %s\nFROM %s p\n"
								"WHERE p.%s = $1 - 1 AND p.%s BETWEEN $2 AND $3\nGROUP BY p.%s / 2%s%s",
								name, LEVEL, PANE, names, PANE, merged, name, LEVEL, PANE, PANE,
								keys[0] == '\0' ? "" : ", ", keys);
	panes->trim_sql = psprintf("DELETE FROM %s\nWHERE %s = $1 AND %s > $2 AND %s <= $3", name,
							   LEVEL, PANE, PANE);
	panes->last_sql = psprintf("SELECT coalesce(pg_catalog.max(%s), 0) FROM %s WHERE %s = 0", PANE, name, LEVEL);
	panes->forget_sql = psprintf("DELETE FROM %s\nWHERE %s > 0 AND %s >= ($1 + 1) >> %s", name,
								 LEVEL, PANE, LEVEL);
	*answer = answer_sql(panes, layout, name);
	return panes;
}

/* ---------- creation ---------- */

/* The table of panes for a step whose objects are named after base; InvalidOid: none. */
Oid
sx_panes_create(const char *base, Query *query, Oid owner)
{
	Oid			window;
	const char *problem = sx_panes_problem(query, &window);
	char	   *name = makeObjectName(base, NULL, "panes");
	const char *qualified = quote_qualified_identifier(SX_STATE_SCHEMA, name);
	StringInfoData sql;
	ListCell   *lc;
	Oid			table;

	if (problem != NULL || !OidIsValid(window))
		return InvalidOid;
	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (%s integer NOT NULL, %s bigint NOT NULL",
					 qualified, LEVEL, PANE);
	foreach(lc, sx_layout_build(query)->columns)
		sx_append_column_sql(&sql, lfirst(lc));
	appendStringInfoString(&sql, ") WITH (autovacuum_vacuum_scale_factor = 0.02, "
						   "autovacuum_vacuum_cost_delay = 0)");
	sx_execute_ddl(sql.data);
	sx_execute_ddl(psprintf("ALTER TABLE %s REPLICA IDENTITY FULL", qualified));
	sx_execute_ddl(psprintf("CREATE INDEX ON %s (%s, %s)", qualified, LEVEL, PANE));
	table = get_relname_relid(name, get_namespace_oid(SX_STATE_SCHEMA, false));
	sx_give_to(table, owner);
	return table;
}

/* When the step is registered. */
void
sx_panes_created(Oid relid, Oid table)
{
	Oid			types[] = {REGCLASSOID, REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(relid), ObjectIdGetDatum(table)};

	if (!OidIsValid(table))
		return;
	sx_belongs_to(table, relid);
	sx_catalog_exec("UPDATE streamext.step SET panes = $2 WHERE relation = $1",
					2, types, values, NULL);
}

Oid
sx_panes_of(Oid relid)
{
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};
	bool		isnull;
	Datum		table = sx_catalog_value("SELECT panes::oid FROM streamext.step WHERE relation = $1",
										 1, types, values, NULL, &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(table);
}
