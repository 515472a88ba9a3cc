/*-------------------------------------------------------------------------
 *
 * state_function.c
 *		Calling the user's function of a stream with keyed state.
 *
 * The call is an expression of the executor, f($1, $2, …), whose parameters are set
 * before each evaluation.  So it is checked, prepared and evaluated as in any query:
 * privileges, hooks, collation, all languages, sets in both of their modes.
 *
 * What a call gives lives in memory that the next call resets.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "nodes/makefuncs.h"
#include "nodes/params.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/typcache.h"

#include "state/state_function.h"

struct SxStateFunction
{
	const SxStateSpec *spec;
	MemoryContext context;
	ParamListInfo params;
	EState	   *estate;
	ExprContext *econtext;
	ExprState  *expr;			/* of a function that gives one row or value */
	SetExprState *set;			/* … a set of rows */
	MemoryContext arguments;	/* … of its evaluated arguments */

	/* the rows of the last call */
	Tuplestorestate *rows;
	TupleTableSlot *slot;
	bool		pending;		/* the one row was not fetched yet */
	Datum	   *values;
	bool	   *nulls;
	Oid			row_type;		/* that was found to fit the last time */
	int32		row_typmod;
};

static Expr *
call_expression(const SxStateSpec *spec)
{
	List	   *args = NIL;
	FuncExpr   *call;

	for (int i = 0; i < spec->nargs; i++)
	{
		Param	   *param = makeNode(Param);

		param->paramkind = PARAM_EXTERN;
		param->paramid = i + 1;
		param->paramtype = spec->argtypes[i];
		param->paramtypmod = -1;
		param->paramcollid = get_typcollation(spec->argtypes[i]);
		param->location = -1;
		args = lappend(args, param);
	}
	call = makeFuncExpr(spec->function, spec->result_type, args,
						get_typcollation(spec->result_type), spec->collation,
						COERCE_EXPLICIT_CALL);
	call->funcretset = spec->retset;
	return (Expr *) call;
}

/* What the executor needs, made anew after an error. */
static void
prepare(SxStateFunction *function)
{
	MemoryContext old = MemoryContextSwitchTo(function->context);
	Expr	   *call = call_expression(function->spec);

	function->estate = CreateExecutorState();
	function->econtext = CreateExprContext(function->estate);
	function->econtext->ecxt_param_list_info = function->params;
	MemoryContextSwitchTo(function->estate->es_query_cxt);
	if (function->spec->retset)
		function->set = ExecInitTableFunctionResult(call, function->econtext, NULL);
	else
		function->expr = ExecInitExpr(call, NULL);
	function->rows = NULL;
	function->pending = false;
	MemoryContextSwitchTo(old);
}

SxStateFunction *
sx_state_function_open(const SxStateSpec *spec)
{
	SxStateFunction *function = palloc0(sizeof(SxStateFunction));

	function->spec = spec;
	function->context = CurrentMemoryContext;
	function->params = makeParamList(spec->nargs);
	for (int i = 0; i < spec->nargs; i++)
	{
		function->params->params[i].ptype = spec->argtypes[i];
		function->params->params[i].isnull = true;
	}
	if (spec->result != NULL)
	{
		function->values = palloc(sizeof(Datum) * spec->result->natts);
		function->nulls = palloc(sizeof(bool) * spec->result->natts);
	}
	if (spec->retset)
	{
		function->slot = MakeSingleTupleTableSlot(spec->result, &TTSOpsMinimalTuple);
		function->arguments = AllocSetContextCreate(function->context, "streamext arguments",
													ALLOCSET_SMALL_SIZES);
	}
	prepare(function);
	return function;
}

static void
forget_rows(SxStateFunction *function)
{
	if (function->rows == NULL)
		return;
	ExecClearTuple(function->slot);
	tuplestore_end(function->rows);
	function->rows = NULL;
}

void
sx_state_function_close(SxStateFunction *function)
{
	forget_rows(function);
	if (function->slot != NULL)
		ExecDropSingleTupleTableSlot(function->slot);
	FreeExecutorState(function->estate);
}

/*
 * What the function had registered with the executor belongs to the subtransaction
 * that is gone, and must not be run at an orderly end.
 */
void
sx_state_function_recover(SxStateFunction *function)
{
	MemoryContextDelete(function->estate->es_query_cxt);
	prepare(function);
}

void
sx_state_function_set(SxStateFunction *function, int arg, Datum value, bool isnull)
{
	function->params->params[arg].value = value;
	function->params->params[arg].isnull = isnull;
}

Datum
sx_state_function_value(SxStateFunction *function, bool *isnull)
{
	ReScanExprContext(function->econtext);
	return ExecEvalExprSwitchContext(function->expr, function->econtext, isnull);
}

/* ---------- rows ---------- */

/* A row that is none of the declared type would be taken apart wrongly. */
static void
check_row_type(SxStateFunction *function, HeapTupleHeader row)
{
	Oid			type = HeapTupleHeaderGetTypeId(row);
	int32		typmod = HeapTupleHeaderGetTypMod(row);
	TupleDesc	expected = function->spec->result;
	TupleDesc	desc;
	bool		fits;

	if (type == function->row_type && typmod == function->row_typmod)
		return;
	desc = lookup_rowtype_tupdesc(type, typmod);
	fits = desc->natts == expected->natts;
	for (int i = 0; fits && i < desc->natts; i++)
		fits = TupleDescAttr(desc, i)->attisdropped || TupleDescAttr(expected, i)->attisdropped ||
			TupleDescAttr(desc, i)->atttypid == TupleDescAttr(expected, i)->atttypid;
	ReleaseTupleDesc(desc);
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_SRF_PROTOCOL_VIOLATED),
				 errmsg("function %s returned a row of other columns than it declares",
						format_procedure(function->spec->function))));
	function->row_type = type;
	function->row_typmod = typmod;
}

static void
take_apart(SxStateFunction *function, Datum row)
{
	MemoryContext old = MemoryContextSwitchTo(function->econtext->ecxt_per_tuple_memory);
	HeapTupleHeader header = DatumGetHeapTupleHeader(row);
	HeapTupleData tuple;

	check_row_type(function, header);
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	heap_deform_tuple(&tuple, function->spec->result, function->values, function->nulls);
	MemoryContextSwitchTo(old);
}

void
sx_state_function_call(SxStateFunction *function)
{
	Datum		row;
	bool		isnull;

	forget_rows(function);
	ReScanExprContext(function->econtext);
	if (function->spec->retset)
	{
		MemoryContextReset(function->arguments);
		function->rows = ExecMakeTableFunctionResult(function->set, function->econtext,
													 function->arguments,
													 function->spec->result, false);
		return;
	}
	row = ExecEvalExprSwitchContext(function->expr, function->econtext, &isnull);
	if (isnull)					/* as a row of NULLs */
		memset(function->nulls, true, sizeof(bool) * function->spec->result->natts);
	else
		take_apart(function, row);
	function->pending = true;
}

bool
sx_state_function_next(SxStateFunction *function, Datum **values, bool **nulls)
{
	if (!function->spec->retset)
	{
		*values = function->values;
		*nulls = function->nulls;
		if (!function->pending)
			return false;
		function->pending = false;
		return true;
	}
	if (!tuplestore_gettupleslot(function->rows, true, false, function->slot))
		return false;
	slot_getallattrs(function->slot);
	*values = function->slot->tts_values;
	*nulls = function->slot->tts_isnull;
	return true;
}
