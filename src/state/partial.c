/*-------------------------------------------------------------------------
 *
 * partial.c
 *		partial_agg, combine_agg and final_agg: any combinable aggregate in parts.
 *
 *		partial_agg('stddev(float8)', x)		the state over a batch, as bytea
 *		combine_agg('stddev(float8)', a, b)		of two states
 *		final_agg('stddev(float8)', a, NULL::float8)	the aggregate's result
 *
 * partial_agg is an aggregate whose transition function calls the inner
 * aggregate's with the very context that the executor gave it, under the executor's
 * rules for strict functions, starting values and memory (advance_transition_function
 * in nodeAgg.c).
 *
 * The other two are plain functions, because the maintenance SQL needs them in
 * ON CONFLICT DO UPDATE and in views.  Functions with internal states insist on an
 * aggregate context (AggCheckCallContext), so each call site keeps an AggState with
 * an expression context of its own, whose memory is the aggregate's and is reset
 * after each call.  A state read back is first combined into an empty one, as the
 * executor does it: a deserialised internal state is good as a right-hand side only.
 *
 * SQL NULL stands for a state that has seen no row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "nodes/execnodes.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"

#include "state/inner_agg.h"

PG_FUNCTION_INFO_V1(sx_partial_trans);
PG_FUNCTION_INFO_V1(sx_partial_final);
PG_FUNCTION_INFO_V1(sx_combine_agg);
PG_FUNCTION_INFO_V1(sx_combine_trans);
PG_FUNCTION_INFO_V1(sx_final_agg);

/* ---------- partial_agg ---------- */

/* Arguments of the SQL transition function before those of the inner aggregate. */
#define LEADING_ARGS	2		/* own state, aggregate */

typedef struct PartialState
{
	SxInnerAgg *agg;
	SxAggValue	state;
	bool		no_value;		/* strict, and no input to start from yet */
} PartialState;

/*
 * The types were fixed by the parser against "any", so they must be compared here:
 * a wrong one would be a crash.
 */
static void
check_argument_types(FunctionCallInfo fcinfo, const SxInnerAgg *agg)
{
	Oid		   *argtypes;
	int			nargs;

	(void) get_func_signature(agg->oid, &argtypes, &nargs);
	if (PG_NARGS() - LEADING_ARGS != nargs)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("%s takes %d arguments, not %d", format_procedure(agg->oid),
						nargs, PG_NARGS() - LEADING_ARGS)));
	for (int i = 0; i < nargs; i++)
	{
		Oid			given = get_fn_expr_argtype(fcinfo->flinfo, i + LEADING_ARGS);

		if (!IsBinaryCoercible(given, argtypes[i]))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("argument %d of %s is of type %s", i + 1,
							format_procedure(agg->oid), format_type_be(given))));
	}
}

static SxInnerAgg *
partial_agg_of_call(FunctionCallInfo fcinfo)
{
	SxInnerAgg *agg = fcinfo->flinfo->fn_extra;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the aggregate must not be NULL")));
	if (agg == NULL || agg->oid != PG_GETARG_OID(1))
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		agg = sx_inner_agg_load(PG_GETARG_OID(1), PG_GET_COLLATION());
		check_argument_types(fcinfo, agg);
		fcinfo->flinfo->fn_extra = agg;
		MemoryContextSwitchTo(old);
	}
	return agg;
}

static PartialState *
partial_begin(SxInnerAgg *agg, MemoryContext aggcontext)
{
	MemoryContext old = MemoryContextSwitchTo(aggcontext);
	PartialState *partial = palloc(sizeof(PartialState));

	partial->agg = agg;
	partial->state = sx_inner_agg_start(agg);
	partial->no_value = partial->state.isnull;
	MemoryContextSwitchTo(old);
	return partial;
}

/* Moves a new by-reference state into the aggregate's memory, frees the old one. */
static void
keep_state(PartialState *partial, Datum value, bool isnull, MemoryContext aggcontext)
{
	SxInnerAgg *agg = partial->agg;

	if (!agg->transbyval &&
		DatumGetPointer(value) != DatumGetPointer(partial->state.value))
	{
		if (!isnull)
		{
			MemoryContext old = MemoryContextSwitchTo(aggcontext);

			value = datumCopy(value, agg->transbyval, agg->translen);
			MemoryContextSwitchTo(old);
		}
		if (!partial->state.isnull)
			pfree(DatumGetPointer(partial->state.value));
	}
	partial->state.value = value;
	partial->state.isnull = isnull;
}

static void
partial_advance(PartialState *partial, FunctionCallInfo outer, MemoryContext aggcontext)
{
	SxInnerAgg *agg = partial->agg;
	LOCAL_FCINFO(fcinfo, FUNC_MAX_ARGS);
	Datum		value;

	InitFunctionCallInfoData(*fcinfo, &agg->trans, agg->nargs + 1, agg->collation,
							 outer->context, NULL);
	for (int i = 0; i < agg->nargs; i++)
	{
		fcinfo->args[i + 1] = outer->args[i + LEADING_ARGS];
		if (fcinfo->args[i + 1].isnull && agg->trans.fn_strict)
			return;
	}
	if (agg->trans.fn_strict && partial->no_value)
	{
		/* the first input is the state: same type, or binary coercible to it */
		partial->no_value = false;
		keep_state(partial, fcinfo->args[1].value, false, aggcontext);
		return;
	}
	if (agg->trans.fn_strict && partial->state.isnull)
		return;

	fcinfo->args[0].value = partial->state.value;
	fcinfo->args[0].isnull = partial->state.isnull;
	value = FunctionCallInvoke(fcinfo);
	keep_state(partial, value, fcinfo->isnull, aggcontext);
}

Datum
sx_partial_trans(PG_FUNCTION_ARGS)
{
	MemoryContext aggcontext;
	PartialState *partial;

	if (!AggCheckCallContext(fcinfo, &aggcontext))
		elog(ERROR, "partial_trans called in non-aggregate context");
	if (PG_ARGISNULL(0))
		partial = partial_begin(partial_agg_of_call(fcinfo), aggcontext);
	else
		partial = (PartialState *) PG_GETARG_POINTER(0);
	partial_advance(partial, fcinfo, aggcontext);
	PG_RETURN_POINTER(partial);
}

Datum
sx_partial_final(PG_FUNCTION_ARGS)
{
	PartialState *partial;

	if (!AggCheckCallContext(fcinfo, NULL))
		elog(ERROR, "partial_final called in non-aggregate context");
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	partial = (PartialState *) PG_GETARG_POINTER(0);
	PG_RETURN_BYTEA_P(sx_inner_agg_store(partial->agg, partial->state, fcinfo->context));
}

/* ---------- combine_agg, final_agg ---------- */

typedef struct Workbench
{
	SxInnerAgg *agg;
	AggState   *aggstate;
	ExprContext *econtext;
} Workbench;

static Workbench *
workbench_of_call(FunctionCallInfo fcinfo, Oid aggregate)
{
	Workbench  *bench = fcinfo->flinfo->fn_extra;

	if (bench == NULL || bench->agg->oid != aggregate)
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		bench = palloc(sizeof(Workbench));
		bench->agg = sx_inner_agg_load(aggregate, DEFAULT_COLLATION_OID);
		bench->econtext = CreateStandaloneExprContext();
		bench->aggstate = makeNode(AggState);
		bench->aggstate->curaggcontext = bench->econtext;
		fcinfo->flinfo->fn_extra = bench;
		MemoryContextSwitchTo(old);
	}
	return bench;
}

static inline MemoryContext
workbench_memory(Workbench *bench)
{
	return bench->econtext->ecxt_per_tuple_memory;
}

/* Ends a call: what the aggregate allocated or registered goes. */
static void
workbench_clear(Workbench *bench)
{
	ReScanExprContext(bench->econtext);
}

/* As advance_combine_function of nodeAgg.c, for states in the right memory. */
static SxAggValue
combine_values(Workbench *bench, SxAggValue a, SxAggValue b)
{
	SxInnerAgg *agg = bench->agg;
	LOCAL_FCINFO(fcinfo, 2);
	SxAggValue	result;

	if (agg->combine.fn_strict && b.isnull)
		return a;
	if (agg->combine.fn_strict && a.isnull)
		return b;
	InitFunctionCallInfoData(*fcinfo, &agg->combine, 2, agg->collation,
							 (Node *) bench->aggstate, NULL);
	fcinfo->args[0].value = a.value;
	fcinfo->args[0].isnull = a.isnull;
	fcinfo->args[1].value = b.value;
	fcinfo->args[1].isnull = b.isnull;
	result.value = FunctionCallInvoke(fcinfo);
	result.isnull = fcinfo->isnull;
	return result;
}

/* A stored state as a state that can be worked on. */
static SxAggValue
restore(Workbench *bench, bytea *stored)
{
	SxAggValue	state = sx_inner_agg_restore(bench->agg, stored,
											 (Node *) bench->aggstate);

	if (bench->agg->transtype == INTERNALOID)
		state = combine_values(bench, sx_inner_agg_start(bench->agg), state);
	return state;
}

/* Combines the stored states in arguments a and b; the aggregate is argument function. */
static Datum
combine_stored(FunctionCallInfo fcinfo, int function, int a, int b)
{
	Workbench  *bench;
	MemoryContext caller = CurrentMemoryContext;
	SxAggValue	state;
	bytea	   *stored;

	if (PG_ARGISNULL(function) || (PG_ARGISNULL(a) && PG_ARGISNULL(b)))
		PG_RETURN_NULL();
	if (PG_ARGISNULL(a) || PG_ARGISNULL(b))
		PG_RETURN_DATUM(PG_GETARG_DATUM(PG_ARGISNULL(a) ? b : a));

	bench = workbench_of_call(fcinfo, PG_GETARG_OID(function));
	MemoryContextSwitchTo(workbench_memory(bench));
	state = restore(bench, PG_GETARG_BYTEA_PP(a));
	state = combine_values(bench, state,
						   sx_inner_agg_restore(bench->agg, PG_GETARG_BYTEA_PP(b),
												(Node *) bench->aggstate));
	stored = sx_inner_agg_store(bench->agg, state, (Node *) bench->aggstate);

	MemoryContextSwitchTo(caller);
	stored = (bytea *) DatumGetPointer(datumCopy(PointerGetDatum(stored), false, -1));
	workbench_clear(bench);
	PG_RETURN_BYTEA_P(stored);
}

Datum
sx_combine_agg(PG_FUNCTION_ARGS)
{
	return combine_stored(fcinfo, 0, 1, 2);
}

/* combine_states, the aggregate form of combine_agg */
Datum
sx_combine_trans(PG_FUNCTION_ARGS)
{
	return combine_stored(fcinfo, 1, 0, 2);
}

/* The aggregate's result for a state, in the workbench's memory. */
static SxAggValue
final_value(Workbench *bench, SxAggValue state)
{
	SxInnerAgg *agg = bench->agg;
	LOCAL_FCINFO(fcinfo, FUNC_MAX_ARGS);
	SxAggValue	result = {(Datum) 0, true};

	if (!agg->has_final)
		return state;
	if (agg->final.fn_strict && (state.isnull || agg->final_nargs > 1))
		return result;
	InitFunctionCallInfoData(*fcinfo, &agg->final, agg->final_nargs, agg->collation,
							 (Node *) bench->aggstate, NULL);
	fcinfo->args[0].value = state.value;
	fcinfo->args[0].isnull = state.isnull;
	for (int i = 1; i < agg->final_nargs; i++)
	{
		fcinfo->args[i].value = (Datum) 0;
		fcinfo->args[i].isnull = true;
	}
	result.value = FunctionCallInvoke(fcinfo);
	result.isnull = fcinfo->isnull;
	return result;
}

Datum
sx_final_agg(PG_FUNCTION_ARGS)
{
	Workbench  *bench;
	MemoryContext caller = CurrentMemoryContext;
	SxAggValue	result;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	bench = workbench_of_call(fcinfo, PG_GETARG_OID(0));
	if (get_fn_expr_argtype(fcinfo->flinfo, 2) != bench->agg->resulttype)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("%s returns %s, not %s", format_procedure(bench->agg->oid),
						format_type_be(bench->agg->resulttype),
						format_type_be(get_fn_expr_argtype(fcinfo->flinfo, 2)))));

	MemoryContextSwitchTo(workbench_memory(bench));
	if (PG_ARGISNULL(1))
		result = sx_inner_agg_start(bench->agg);
	else
		result = restore(bench, PG_GETARG_BYTEA_PP(1));
	result = final_value(bench, result);

	MemoryContextSwitchTo(caller);
	if (!result.isnull)
		result.value = datumCopy(result.value, bench->agg->resultbyval,
								 bench->agg->resultlen);
	workbench_clear(bench);
	if (result.isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result.value);
}
