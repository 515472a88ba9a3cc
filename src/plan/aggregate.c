/*-------------------------------------------------------------------------
 *
 * aggregate.c
 *		What is kept of an aggregate, and how its value is had from that.
 *
 *		count, min, max, sum(int), bool_and …	a plain column.  Without a final
 *			function the state is the result, and the combine function merges.
 *		sum(bigint), sum(numeric)	a plain column, merged with +.
 *		avg		sum and count, each a plain column that a sum() or count() of the
 *			same argument shares; divided just as the final function divides.
 *		other combinable aggregates	a stored state (state/partial.c).
 *
 * What cannot be merged is refused here by name.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_coerce.h"
#include "parser/parse_oper.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "plan/plan_internal.h"
#include "state/inner_agg.h"

/* ---------- what is not supported ---------- */

static void
refuse_aggregate(const Aggref *agg, const char *problem, const char *hint)
{
	SxRefusal	refusal;

	sx_refuse(&refusal,
			  psprintf("aggregate %s %s, which is not supported yet in a continuous view",
					   get_func_name(agg->aggfnoid), problem),
			  pstrdup(hint));
	sx_report_refusal(&refusal);
}

static void
check_aggregate(const Aggref *agg)
{
	if (AGGKIND_IS_ORDERED_SET(agg->aggkind))
		refuse_aggregate(agg, "is an ordered-set aggregate",
						 "Compute it per batch in a derived stream, or from a view that groups by the value and counts.");
	if (agg->aggdistinct != NIL)
		refuse_aggregate(agg, "with DISTINCT needs all values seen",
						 "Group by the value as well and count the rows of that view, or use an approximate count such as hll.");
	if (agg->aggorder != NIL)
		refuse_aggregate(agg, "with ORDER BY depends on all rows at once",
						 "Leave ORDER BY out where the order does not matter, or aggregate over the view that keeps the rows.");
	if (agg->aggdirectargs != NIL)
		refuse_aggregate(agg, "takes direct arguments",
						 "Compute it in a query that reads the view.");
}

/* ---------- kinds ---------- */

static bool
is_sum_of_large(Oid aggregate)
{
	return aggregate == F_SUM_INT8 || aggregate == F_SUM_NUMERIC ||
		aggregate == F_SUM_INTERVAL;
}

/* Is the state the result, so that a plain column can hold it? */
static bool
is_plain(const Aggref *agg)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(agg->aggfnoid));
	Form_pg_aggregate form;
	bool		plain;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", agg->aggfnoid);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	plain = !OidIsValid(form->aggfinalfn) && OidIsValid(form->aggcombinefn) &&
		form->aggtranstype != INTERNALOID &&
		(form->aggtranstype == agg->aggtype || IsPolymorphicType(form->aggtranstype)) &&
		(!OidIsValid(agg->inputcollid) || agg->inputcollid == agg->aggcollid);
	ReleaseSysCache(tuple);
	return plain;
}

static char *
start_value(Oid aggregate)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggregate));
	bool		isnull;
	Datum		value = SysCacheGetAttr(AGGFNOID, tuple, Anum_pg_aggregate_agginitval,
										&isnull);
	char	   *result = isnull ? NULL : TextDatumGetCString(value);

	ReleaseSysCache(tuple);
	return result;
}

/* ---------- columns ---------- */

/* The column for this aggregate, shared with an equal one. */
static SxStateColumn *
column_for(SxLayoutBuilder *builder, SxColumnKind kind, Aggref *agg, const char *suffix)
{
	SxStateColumn *column;
	ListCell   *lc;
	char	   *name;

	foreach(lc, builder->layout->columns)
	{
		column = lfirst(lc);
		if (OidIsValid(column->aggregate) && equal(column->expr, agg))
			return column;
	}
	if (builder->exact && suffix == NULL)
		name = pstrdup(builder->base);
	else
		name = psprintf("%s_%s", builder->base,
						suffix ? suffix : get_func_name(agg->aggfnoid));
	column = sx_layout_add(builder, kind, name, (Expr *) agg);
	column->aggregate = agg->aggfnoid;
	if (kind == SX_COLUMN_PLAIN)
		column->start = start_value(agg->aggfnoid);
	if (kind == SX_COLUMN_PARTIAL)
	{
		column->type = sx_agg_state_type();
		column->typmod = -1;
		column->collation = InvalidOid;
	}
	return column;
}

/* The same call of another aggregate: FILTER and the rest stay. */
static Aggref *
other_aggregate(const Aggref *agg, Oid function, Expr *arg)
{
	Aggref	   *other = copyObject((Aggref *) agg);

	other->aggfnoid = function;
	other->aggtype = get_func_rettype(function);
	other->aggcollid = InvalidOid;
	if (arg != NULL)
	{
		other->args = list_make1(makeTargetEntry(arg, 1, NULL, false));
		other->aggargtypes = list_make1_oid(exprType((Node *) arg));
	}
	return other;
}

/*
 * avg is its sum divided by its count.  numeric / numeric, double precision /
 * double precision and interval / double precision are what the final functions of
 * avg compute; sums of small integers are bigint and divided as numeric.
 */
static Node *
avg_to_state(SxLayoutBuilder *builder, const Aggref *agg, Oid sum_function, Oid divisor_type)
{
	Expr	   *arg = linitial_node(TargetEntry, agg->args)->expr;
	Aggref	   *sum;
	Node	   *total;
	Node	   *count;
	Node	   *zero = (Node *) makeConst(INT8OID, -1, InvalidOid, sizeof(int64),
										  Int64GetDatum(0), false, FLOAT8PASSBYVAL);

	if (agg->aggfnoid == F_AVG_FLOAT4)
		arg = (Expr *) coerce_to_target_type(NULL, (Node *) arg, FLOAT4OID, FLOAT8OID, -1,
											 COERCION_EXPLICIT, COERCE_EXPLICIT_CAST, -1);
	sum = other_aggregate(agg, sum_function, arg);
	total = (Node *) sx_state_var(builder->layout,
								  column_for(builder,
											 is_sum_of_large(sum_function) ? SX_COLUMN_SUM : SX_COLUMN_PLAIN,
											 sum, "sum"));
	if (exprType(total) == INT8OID)
		total = coerce_to_target_type(NULL, total, INT8OID, NUMERICOID, -1,
									  COERCION_EXPLICIT, COERCE_EXPLICIT_CAST, -1);
	count = (Node *) sx_state_var(builder->layout,
								  column_for(builder, SX_COLUMN_PLAIN,
											 other_aggregate(agg, F_COUNT_ANY,
															 linitial_node(TargetEntry, agg->args)->expr),
											 "count"));
	/* NULLIF(count, 0): no rows, no average */
	count = (Node *) make_op(NULL, list_make2(makeString("pg_catalog"), makeString("=")),
							 count, zero, NULL, -1);
	NodeSetTag(count, T_NullIfExpr);
	((OpExpr *) count)->opresulttype = INT8OID;
	count = coerce_to_target_type(NULL, count, INT8OID, divisor_type, -1,
								  COERCION_EXPLICIT, COERCE_EXPLICIT_CAST, -1);
	return (Node *) make_op(NULL, list_make2(makeString("pg_catalog"), makeString("/")),
							total, count, NULL, -1);
}

static Const *
aggregate_const(Oid aggregate)
{
	return makeConst(REGPROCEDUREOID, -1, InvalidOid, sizeof(Oid),
					 ObjectIdGetDatum(aggregate), false, true);
}

static Node *
partial_to_state(SxLayoutBuilder *builder, Aggref *agg)
{
	Oid			argtypes[] = {REGPROCEDUREOID, sx_agg_state_type(), ANYELEMENTOID};
	const char *problem = sx_inner_agg_problem(agg->aggfnoid);
	SxStateColumn *column;

	if (problem == NULL && OidIsValid(agg->inputcollid) &&
		agg->inputcollid != DEFAULT_COLLATION_OID)
		problem = "is used with a collation of its own";
	if (problem != NULL)
		refuse_aggregate(agg, problem,
						 "Compute it per batch in a derived stream, or in a query over a view that keeps the rows.");
	column = column_for(builder, SX_COLUMN_PARTIAL, agg, NULL);
	return (Node *) makeFuncExpr(sx_own_function("final_agg", 3, argtypes), agg->aggtype,
								 list_make3(aggregate_const(agg->aggfnoid),
											sx_state_var(builder->layout, column),
											makeNullConst(agg->aggtype, -1, agg->aggcollid)),
								 agg->aggcollid, InvalidOid, COERCE_EXPLICIT_CALL);
}

Node *
sx_aggregate_to_state(SxLayoutBuilder *builder, Aggref *agg)
{
	check_aggregate(agg);
	switch (agg->aggfnoid)
	{
		case F_AVG_INT2:
			return avg_to_state(builder, agg, F_SUM_INT2, NUMERICOID);
		case F_AVG_INT4:
			return avg_to_state(builder, agg, F_SUM_INT4, NUMERICOID);
		case F_AVG_INT8:
			return avg_to_state(builder, agg, F_SUM_INT8, NUMERICOID);
		case F_AVG_NUMERIC:
			return avg_to_state(builder, agg, F_SUM_NUMERIC, NUMERICOID);
		case F_AVG_FLOAT4:
		case F_AVG_FLOAT8:
			return avg_to_state(builder, agg, F_SUM_FLOAT8, FLOAT8OID);
		case F_AVG_INTERVAL:
			return avg_to_state(builder, agg, F_SUM_INTERVAL, FLOAT8OID);
		default:
			break;
	}
	if (is_sum_of_large(agg->aggfnoid))
		return (Node *) sx_state_var(builder->layout,
									 column_for(builder, SX_COLUMN_SUM, agg, NULL));
	if (is_plain(agg))
		return (Node *) sx_state_var(builder->layout,
									 column_for(builder, SX_COLUMN_PLAIN, agg, NULL));
	return partial_to_state(builder, agg);
}

/* avg is made of a sum and a count. */
static bool
is_avg(Oid aggregate)
{
	return aggregate == F_AVG_INT2 || aggregate == F_AVG_INT4 || aggregate == F_AVG_INT8 ||
		aggregate == F_AVG_NUMERIC || aggregate == F_AVG_FLOAT4 ||
		aggregate == F_AVG_FLOAT8 || aggregate == F_AVG_INTERVAL;
}

const char *
sx_aggregate_problem(const Aggref *agg, bool *plain)
{
	if (AGGKIND_IS_ORDERED_SET(agg->aggkind) || agg->aggdistinct != NIL ||
		agg->aggorder != NIL || agg->aggdirectargs != NIL)
		return "looks at all rows at once (DISTINCT, ORDER BY or WITHIN GROUP)";
	if (is_avg(agg->aggfnoid) || is_sum_of_large(agg->aggfnoid))
		return NULL;
	*plain = is_plain(agg);
	if (*plain)
		return NULL;
	if (OidIsValid(agg->inputcollid) && agg->inputcollid != DEFAULT_COLLATION_OID)
		return "is used with a collation of its own";
	return sx_inner_agg_problem(agg->aggfnoid);
}

/* partial_agg(aggregate, arguments …) FILTER (…), in place of the aggregate */
Aggref *
sx_partial_aggref(SxStateColumn *column)
{
	static const Oid argtypes[] = {REGPROCEDUREOID, ANYOID};
	Aggref	   *agg = copyObject(castNode(Aggref, column->expr));
	ListCell   *lc;
	AttrNumber	resno = 1;

	foreach(lc, agg->args)
		lfirst_node(TargetEntry, lc)->resno = ++resno;
	agg->args = lcons(makeTargetEntry((Expr *) aggregate_const(agg->aggfnoid), 1, NULL, false),
					  agg->args);
	agg->aggargtypes = lcons_oid(REGPROCEDUREOID, agg->aggargtypes);
	agg->aggfnoid = sx_own_function("partial_agg", 2, argtypes);
	agg->aggtype = sx_agg_state_type();
	agg->aggcollid = InvalidOid;
	return agg;
}

/* count(*) */
Aggref *
sx_count_rows(void)
{
	Aggref	   *agg = makeNode(Aggref);

	agg->aggfnoid = F_COUNT_;
	agg->aggtype = INT8OID;
	agg->aggstar = true;
	agg->aggkind = AGGKIND_NORMAL;
	agg->aggsplit = AGGSPLIT_SIMPLE;
	agg->aggno = -1;
	agg->aggtransno = -1;
	agg->location = -1;
	return agg;
}
