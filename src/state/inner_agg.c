/*-------------------------------------------------------------------------
 *
 * inner_agg.c
 *		Loading an aggregate's support functions; the stored form of its states.
 *
 * A stored state is a header and the bytes that the aggregate's own serialisation
 * function gave, or for a state of an ordinary type those of its send function:
 *
 *		"SX"  format version  flags  server major version  signature hash  bytes
 *		 2          1           1             2                  4
 *
 * Serialised internal states are promised to be readable by the same major version
 * only, and by the same aggregate.  The header makes sure of both: whatever does not
 * fit is an error that says to rebuild the view, never a wrong number.
 *
 * The hash guards against mistakes, not against malice: anybody can make an aggregate
 * whose signature has the hash of another one, and whose states hold what he likes.  But
 * only a superuser can make one with an internal state, so the flag says whether the
 * bytes come from such a one, and no others reach a deserialisation function.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "parser/parse_agg.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "state/inner_agg.h"

#define STATE_FORMAT	2
#define STATE_IS_NULL	0x01
#define STATE_IS_INTERNAL	0x02	/* serialised from type internal */
#define STATE_HEADER	10		/* bytes */

const char *
sx_inner_agg_problem(Oid aggregate)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggregate));
	Form_pg_aggregate form;
	const char *problem = NULL;

	if (!HeapTupleIsValid(tuple))
		return "is not an aggregate";
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	if (form->aggkind != AGGKIND_NORMAL)
		problem = "is an ordered-set aggregate";
	else if (!OidIsValid(form->aggcombinefn))
		problem = "has no combine function";
	else if (form->aggtranstype == INTERNALOID &&
			 (!OidIsValid(form->aggserialfn) || !OidIsValid(form->aggdeserialfn)))
		problem = "has no serialisation functions";
	else if (IsPolymorphicType(form->aggtranstype) || IsPolymorphicType(get_func_rettype(aggregate)))
		problem = "is polymorphic";
	else if (OidIsValid(get_func_variadictype(aggregate)) || get_func_nargs(aggregate) == 0)
		problem = "does not take a fixed list of arguments";
	ReleaseSysCache(tuple);
	return problem;
}

/* FNV-1a: a hash that no release of the server changes. */
static uint32
text_hash(uint32 hash, const char *s)
{
	for (; *s; s++)
		hash = (hash ^ (uint8) *s) * 16777619u;
	return hash;
}

static uint32
signature_hash(Oid aggregate, Oid transtype)
{
	uint32		hash = text_hash(2166136261u, format_procedure_qualified(aggregate));

	return text_hash(hash, format_type_be_qualified(transtype));
}

/* As nodeAgg.c: the caller may call the aggregate, its owner the functions. */
static void
check_permissions(Oid aggregate, const Oid *functions, int n)
{
	Oid			owner;
	HeapTuple	tuple;

	if (sx_proc_aclcheck(aggregate, GetUserId()) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_AGGREGATE, get_func_name(aggregate));

	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(aggregate));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", aggregate);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);

	for (int i = 0; i < n; i++)
	{
		if (OidIsValid(functions[i]) &&
			sx_proc_aclcheck(functions[i], owner) != ACLCHECK_OK)
			aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(functions[i]));
	}
}

static void
load_functions(SxInnerAgg *agg, Form_pg_aggregate form, Oid *argtypes)
{
	Expr	   *expr;
	Oid			stateonly[] = {form->aggtranstype};

	fmgr_info(form->aggtransfn, &agg->trans);
	build_aggregate_transfn_expr(argtypes, agg->nargs, 0, false, agg->transtype,
								 agg->collation, form->aggtransfn, InvalidOid,
								 &expr, NULL);
	fmgr_info_set_expr((Node *) expr, &agg->trans);

	fmgr_info(form->aggcombinefn, &agg->combine);
	build_aggregate_transfn_expr(stateonly, 1, 0, false, agg->transtype,
								 agg->collation, form->aggcombinefn, InvalidOid,
								 &expr, NULL);
	fmgr_info_set_expr((Node *) expr, &agg->combine);

	agg->has_final = OidIsValid(form->aggfinalfn);
	if (agg->has_final)
	{
		agg->final_nargs = form->aggfinalextra ? agg->nargs + 1 : 1;
		fmgr_info(form->aggfinalfn, &agg->final);
		build_aggregate_finalfn_expr(argtypes, agg->final_nargs, agg->transtype,
									 agg->resulttype, agg->collation,
									 form->aggfinalfn, &expr);
		fmgr_info_set_expr((Node *) expr, &agg->final);
	}
}

static void
load_serialisation(SxInnerAgg *agg, Form_pg_aggregate form)
{
	Oid			function;
	bool		isvarlena;

	if (agg->transtype == INTERNALOID)
	{
		fmgr_info(form->aggserialfn, &agg->serial);
		fmgr_info(form->aggdeserialfn, &agg->deserial);
		return;
	}
	getTypeBinaryOutputInfo(agg->transtype, &function, &isvarlena);
	fmgr_info(function, &agg->serial);
	getTypeBinaryInputInfo(agg->transtype, &function, &agg->deserial_ioparam);
	fmgr_info(function, &agg->deserial);
}

SxInnerAgg *
sx_inner_agg_load(Oid aggregate, Oid collation)
{
	const char *problem = sx_inner_agg_problem(aggregate);
	SxInnerAgg *agg = palloc0(sizeof(SxInnerAgg));
	HeapTuple	tuple;
	Form_pg_aggregate form;
	Oid		   *argtypes;
	Datum		initval;

	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("states of %s cannot be stored, as it %s",
						format_procedure(aggregate), problem)));

	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggregate));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", aggregate);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	check_permissions(aggregate,
					  (Oid[]) {form->aggtransfn, form->aggcombinefn, form->aggfinalfn,
							   form->aggserialfn, form->aggdeserialfn}, 5);

	agg->oid = aggregate;
	agg->collation = collation;
	agg->resulttype = get_func_signature(aggregate, &argtypes, &agg->nargs);
	agg->transtype = form->aggtranstype;
	get_typlenbyval(agg->transtype, &agg->translen, &agg->transbyval);
	get_typlenbyval(agg->resulttype, &agg->resultlen, &agg->resultbyval);
	agg->hash = signature_hash(aggregate, agg->transtype);
	load_functions(agg, form, argtypes);
	load_serialisation(agg, form);

	initval = SysCacheGetAttr(AGGFNOID, tuple, Anum_pg_aggregate_agginitval,
							  &agg->init_is_null);
	if (!agg->init_is_null)
		agg->initval = TextDatumGetCString(initval);
	ReleaseSysCache(tuple);
	return agg;
}

SxAggValue
sx_inner_agg_start(const SxInnerAgg *agg)
{
	SxAggValue	state = {(Datum) 0, agg->init_is_null};

	if (!agg->init_is_null)
	{
		Oid			input;
		Oid			ioparam;

		getTypeInputInfo(agg->transtype, &input, &ioparam);
		state.value = OidInputFunctionCall(input, agg->initval, ioparam, -1);
	}
	return state;
}

/* One call of a support function with an aggregate context. */
static Datum
call_serialisation(FmgrInfo *function, Node *fcontext, int nargs, Datum arg)
{
	LOCAL_FCINFO(fcinfo, 2);
	Datum		result;

	InitFunctionCallInfoData(*fcinfo, function, nargs, InvalidOid, fcontext, NULL);
	fcinfo->args[0].value = arg;
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = (Datum) 0;
	fcinfo->args[1].isnull = false;
	result = FunctionCallInvoke(fcinfo);
	if (fcinfo->isnull)
		elog(ERROR, "function %u returned NULL", function->fn_oid);
	return result;
}

bytea *
sx_inner_agg_store(SxInnerAgg *agg, SxAggValue state, Node *fcontext)
{
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendbytes(&buf, "SX", 2);
	pq_sendint8(&buf, STATE_FORMAT);
	pq_sendint8(&buf, (state.isnull ? STATE_IS_NULL : 0) |
				(agg->transtype == INTERNALOID ? STATE_IS_INTERNAL : 0));
	pq_sendint16(&buf, PG_VERSION_NUM / 10000);
	pq_sendint32(&buf, agg->hash);
	if (!state.isnull)
	{
		bytea	   *bytes;

		if (agg->transtype == INTERNALOID)
			bytes = DatumGetByteaPP(call_serialisation(&agg->serial, fcontext, 1,
													   state.value));
		else
			bytes = SendFunctionCall(&agg->serial, state.value);
		pq_sendbytes(&buf, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	}
	return pq_endtypsend(&buf);
}

static void
state_mismatch(SxInnerAgg *agg, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("stored state of %s cannot be read", format_procedure(agg->oid)),
			 errdetail("%s", detail),
			 errhint("Rebuild the view: SELECT streamext.reset('name of the view').")));
}

SxAggValue
sx_inner_agg_restore(SxInnerAgg *agg, bytea *stored, Node *fcontext)
{
	SxAggValue	state = {(Datum) 0, false};
	StringInfoData buf;
	int			flags;

	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, VARDATA_ANY(stored), VARSIZE_ANY_EXHDR(stored));
	if (buf.len < STATE_HEADER || memcmp(pq_getmsgbytes(&buf, 2), "SX", 2) != 0 ||
		pq_getmsgbyte(&buf) != STATE_FORMAT)
		state_mismatch(agg, "It is not in the format of this version of streamext.");
	flags = pq_getmsgbyte(&buf);
	if (pq_getmsgint(&buf, 2) != PG_VERSION_NUM / 10000)
		state_mismatch(agg, "It was written by another major version of the server.");
	if (pq_getmsgint(&buf, 4) != agg->hash ||
		((flags & STATE_IS_INTERNAL) != 0) != (agg->transtype == INTERNALOID))
		state_mismatch(agg, "It was written by another aggregate.");

	if (flags & STATE_IS_NULL)
		state.isnull = true;
	else if (agg->transtype == INTERNALOID)
		state.value = call_serialisation(&agg->deserial, fcontext, 2,
										 PointerGetDatum(cstring_to_text_with_len(buf.data + STATE_HEADER,
																				  buf.len - STATE_HEADER)));
	else
		state.value = ReceiveFunctionCall(&agg->deserial, &buf,
										  agg->deserial_ioparam, -1);
	return state;
}
