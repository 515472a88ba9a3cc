/*-------------------------------------------------------------------------
 *
 * group_rule.c
 *		When the rows of a batch can be grouped by hand, and by what rule.
 *
 * The query of a batch (rows_sql, plan/sql.c) is
 *
 *		SELECT d.key, d.n FROM (SELECT key, count(*) FROM … GROUP BY key) d(key, n)
 *		WHERE streamext.on_time(…)
 *
 * as parsed by the server.  The rule is the query without GROUP BY, whose columns are the
 * keys and the arguments of the aggregates, and what is done with each of them:
 *
 *		keys			of types whose values are equal when their bytes are
 *		aggregates		count, sum of integers that fit into four bytes, min and max of
 *						integers, dates and timestamps; with FILTER
 *
 * Everything in FROM and WHERE, and every expression, stays the executor's.  A key that is
 * a piece of a text is the text in the query (group_split.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "tcop/tcopprot.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/pg_locale.h"

#include "compat.h"
#include "plan/plan_internal.h"
#include "state/group.h"

/* ---------- types ---------- */

/* Is a value of the type equal to another one when, and only when, their bytes are? */
static bool
is_compared_as_bytes(Oid type, Oid collation)
{
	switch (type)
	{
		case BOOLOID:
		case CHAROID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case DATEOID:
		case TIMEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
		case UUIDOID:
		case BYTEAOID:
			return true;
		case TEXTOID:
		case VARCHAROID:
			return OidIsValid(collation) && get_collation_isdeterministic(collation);
		default:
			return type_is_enum(type);
	}
}

/* … and ordered as signed integers? */
static bool
is_integer(Oid type)
{
	switch (type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case DATEOID:
		case TIMEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return true;
		default:
			return false;
	}
}

static void
set_form(SxGroupColumn *column, Oid type)
{
	int16		len;
	bool		byval;

	get_typlenbyval(type, &len, &byval);
	column->form = byval ? SX_FORM_INTEGER : len > 0 ? SX_FORM_FIXED : SX_FORM_VARLENA;
	column->size = len;
}

/* ---------- columns ---------- */

typedef struct Making
{
	SxGroupRule *rule;
	Query	   *query;			/* that groups */
	List	   *targets;		/* of the input */
	int			grouped;		/* keys that GROUP BY names */
} Making;

/* The number of the input's column that is this expression. */
static int
input_of(Making *making, Expr *expr, bool may_share)
{
	ListCell   *lc;

	foreach(lc, making->targets)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (may_share && equal(tle->expr, expr))
			return tle->resno;
	}
	making->rule->ninput = list_length(making->targets) + 1;
	making->targets = lappend(making->targets,
							  makeTargetEntry(expr, making->rule->ninput,
											  psprintf("c%d", making->rule->ninput), false));
	return making->rule->ninput;
}

static bool
add_key(Making *making, TargetEntry *tle, SxGroupColumn *column)
{
	Oid			type = exprType((Node *) tle->expr);

	if (!is_compared_as_bytes(getBaseType(type), exprCollation((Node *) tle->expr)))
		return false;
	column->kind = SX_GROUP_KEY;
	column->type = type;
	set_form(column, type);
	column->input = input_of(making, tle->expr, false);
	return true;
}

static bool
set_kind(SxGroupColumn *column, const Aggref *agg, Oid argument)
{
	char	   *name;

	switch (agg->aggfnoid)
	{
		case F_COUNT_:
		case F_COUNT_ANY:
			column->kind = SX_GROUP_COUNT;
			return true;
		case F_SUM_INT2:
		case F_SUM_INT4:
			column->kind = SX_GROUP_SUM;
			return true;
	}
	if (agg->aggfnoid >= FirstGenbkiObjectId || !is_integer(argument) || argument != agg->aggtype)
		return false;
	name = get_func_name(agg->aggfnoid);
	column->kind = strcmp(name, "min") == 0 ? SX_GROUP_MIN : SX_GROUP_MAX;
	return column->kind == SX_GROUP_MIN || strcmp(name, "max") == 0;
}

static bool
add_aggregate(Making *making, const Aggref *agg, SxGroupColumn *column)
{
	Expr	   *argument = NULL;
	Oid			type = InvalidOid;

	if (agg->aggkind != AGGKIND_NORMAL || agg->aggdistinct != NIL || agg->aggorder != NIL ||
		agg->aggvariadic || agg->agglevelsup != 0 || list_length(agg->args) > 1)
		return false;
	if (agg->args != NIL)
	{
		argument = linitial_node(TargetEntry, agg->args)->expr;
		type = exprType((Node *) argument);
		if (get_typtype(type) == TYPTYPE_PSEUDO)
			return false;
		set_form(column, type);
	}
	column->type = agg->aggtype;
	if (!set_kind(column, agg, type))
		return false;
	if (argument != NULL)
		column->input = input_of(making, argument, !contain_volatile_functions((Node *) argument));
	if (agg->aggfilter != NULL)
		column->filter = input_of(making, agg->aggfilter, false);
	return true;
}

static bool
is_grouped(const Query *query, const TargetEntry *tle)
{
	ListCell   *lc;

	foreach(lc, query->groupClause)
	{
		if (lfirst_node(SortGroupClause, lc)->tleSortGroupRef == tle->ressortgroupref)
			return true;
	}
	return false;
}

/*
 * Is it a column of a group that comes after all keys, in a list of all of them?  The number of
 * the worker is a key that GROUP BY need not name, as it is the same for all rows.
 */
static bool
add_column(Making *making, TargetEntry *tle)
{
	SxGroupRule *rule = making->rule;
	SxGroupColumn *column = &rule->columns[rule->ncolumns++];

	if (tle->resjunk)
		return false;
	if (is_grouped(making->query, tle) || sx_is_slot(tle->expr))
	{
		if (rule->nkeys != rule->ncolumns - 1)
			return false;
		rule->nkeys++;
		making->grouped += is_grouped(making->query, tle);
		return add_key(making, tle, column);
	}
	return IsA(tle->expr, Aggref) && add_aggregate(making, (Aggref *) tle->expr, column);
}

/* ---------- the query that groups ---------- */

static bool
only_groups(const Query *query)
{
	return query->commandType == CMD_SELECT && query->groupClause != NIL &&
		query->groupingSets == NIL && !query->hasWindowFuncs && query->havingQual == NULL &&
		query->distinctClause == NIL && query->sortClause == NIL &&
		query->limitOffset == NULL && query->limitCount == NULL && query->rowMarks == NIL &&
		query->setOperations == NULL && query->cteList == NIL &&
		list_length(query->targetList) <= SX_MOST_GROUP_COLUMNS;
}

static void
find_split(Making *making)
{
	ListCell   *lc;

	/* what differs each time would be asked once a text, not once a piece */
	if (contain_volatile_functions((Node *) making->query))
		return;
	foreach(lc, making->targets)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (tle->resno > making->rule->nkeys)
			break;
		making->rule->split = sx_split_resolve(making->query, (Node **) &tle->expr);
		if (making->rule->split != NULL)
		{
			making->rule->split_input = tle->resno;
			break;
		}
	}
}

static bool
take_groups(SxGroupRule *rule, Query *query)
{
	Making		making = {.rule = rule,.query = query};
	ListCell   *lc;

	if (!only_groups(query))
		return false;
	sx_flatten_group_exprs(query);
	foreach(lc, query->targetList)
	{
		if (!add_column(&making, lfirst_node(TargetEntry, lc)))
			return false;
	}
	if (making.grouped != list_length(query->groupClause))
		return false;
	query->targetList = making.targets;
	query->groupClause = NIL;
	sx_forget_group_exprs(query);
	query->hasAggs = false;
	query->hasTargetSRFs = expression_returns_set((Node *) making.targets);
	find_split(&making);
	rule->input_sql = sx_deparse(query);
	return true;
}

/* ---------- the query around it ---------- */

/* Var of the group: of its columns. */
static Node *
to_group(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = copyObject(castNode(Var, node));

		var->varno = INNER_VAR;
		return (Node *) var;
	}
	return expression_tree_mutator(node, to_group, context);
}

static Query *
query_around(const Query *outer)
{
	RangeTblRef *ref;

	if (outer->commandType != CMD_SELECT || outer->hasSubLinks || outer->hasAggs ||
		outer->hasTargetSRFs || outer->hasWindowFuncs || outer->groupClause != NIL ||
		outer->distinctClause != NIL || outer->sortClause != NIL || outer->limitCount != NULL ||
		outer->limitOffset != NULL || outer->setOperations != NULL || outer->cteList != NIL ||
		list_length(outer->jointree->fromlist) != 1)
		return NULL;
	ref = linitial(outer->jointree->fromlist);
	if (!IsA(ref, RangeTblRef) || rt_fetch(ref->rtindex, outer->rtable)->rtekind != RTE_SUBQUERY)
		return NULL;
	return rt_fetch(ref->rtindex, outer->rtable)->subquery;
}

static bool
take_result(SxGroupRule *rule, const Query *outer)
{
	ListCell   *lc;

	foreach(lc, outer->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		Var		   *var = (Var *) tle->expr;

		if (tle->resjunk || !IsA(var, Var) || var->varattno <= 0 ||
			rule->nresult == SX_MOST_GROUP_COLUMNS ||
			(rule->nresult < rule->nkeys && var->varattno != rule->nresult + 1))
			return false;
		rule->result[rule->nresult++] = var->varattno - 1;
	}
	if (rule->nresult < rule->nkeys)
		return false;
	if (outer->jointree->quals != NULL)
		rule->quals = make_ands_implicit((Expr *) to_group(outer->jointree->quals, NULL));
	return true;
}

SxGroupRule *
sx_group_rule(const char *sql, MemoryContext context)
{
	SxGroupRule rule = {0};
	Query	   *outer = parse_analyze_fixedparams(linitial_node(RawStmt, pg_parse_query(sql)), sql,
												  NULL, 0, NULL);
	Query	   *groups = query_around(outer);
	MemoryContext old;
	SxGroupRule *result;

	if (groups == NULL || !take_groups(&rule, groups) || !take_result(&rule, outer))
		return NULL;
	old = MemoryContextSwitchTo(context);
	result = palloc(sizeof(SxGroupRule));
	*result = rule;
	result->input_sql = pstrdup(rule.input_sql);
	result->quals = copyObject(rule.quals);
	if (rule.split != NULL)
		result->split = sx_split_copy(rule.split);
	MemoryContextSwitchTo(old);
	return result;
}
