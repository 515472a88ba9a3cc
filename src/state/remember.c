/*-------------------------------------------------------------------------
 *
 * remember.c
 *		Results of regular expressions and of lower() and upper(), remembered.
 *
 * PostgreSQL keeps a regular expression compiled, but builds its automaton anew, state by
 * state, for each string that it is held against: some microseconds for a URL, many times
 * what decoding the whole record takes.  Streams repeat their strings, and a query often
 * writes the same expression in WHERE and in its output.  So the worker puts a call of
 *
 *		streamext.remember_text(function, arguments …)
 *
 * in the place of such a function (plan/remember.c), which looks among the results that this
 * process has seen before it calls.  The functions are immutable and strict, hence the result
 * is that of the call.
 *
 * The table has a fixed number of places, one for each number that the arguments hash to; a
 * new result takes the place of the old one.  Long ones are not kept.  A call site where
 * nothing repeats stops looking, and tries again from time to time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "compat.h"
#include "state/remember.h"

PG_FUNCTION_INFO_V1(sx_remember);

#define PLACES		32768		/* of the table; a power of two */
#define LONGEST		512			/* bytes of the arguments, and of the result */
#define MAX_ARGS	4

/* A call site looks while one of eight calls finds something. */
#define SAMPLE		4096
#define PAUSE		65536

static const SxRemembered remembered[] = {
	{F_SUBSTRING_TEXT_TEXT, TEXTOID, "remember_text"},
	{F_REGEXP_REPLACE_TEXT_TEXT_TEXT, TEXTOID, "remember_text"},
	{F_REGEXP_REPLACE_TEXT_TEXT_TEXT_TEXT, TEXTOID, "remember_text"},
	{F_REGEXP_SUBSTR_TEXT_TEXT, TEXTOID, "remember_text"},
	{F_REGEXP_MATCH_TEXT_TEXT, TEXTARRAYOID, "remember_texts"},
	{F_REGEXP_MATCH_TEXT_TEXT_TEXT, TEXTARRAYOID, "remember_texts"},
	{F_REGEXP_LIKE_TEXT_TEXT, BOOLOID, "remember_boolean"},
	{F_TEXTREGEXEQ, BOOLOID, "remember_boolean"},
	{F_TEXTREGEXNE, BOOLOID, "remember_boolean"},
	{F_TEXTICREGEXEQ, BOOLOID, "remember_boolean"},
	{F_TEXTICREGEXNE, BOOLOID, "remember_boolean"},
	{F_LOWER_TEXT, TEXTOID, "remember_text"},
	{F_UPPER_TEXT, TEXTOID, "remember_text"},
};

/* A place of the table. */
typedef struct Place
{
	Oid			function;		/* InvalidOid: nothing is here */
	Oid			collation;
	uint64		hash;
	uint16		arglen[MAX_ARGS];	/* of the bytes without headers */
	uint16		size;			/* of the memory at bytes */
	int16		result_len;		/* with its header; -1: the result is NULL */
	bool		boolean;		/* the result, where it is no pointer */
	char	   *bytes;			/* the result, then the arguments */
} Place;

/* What a call site knows. */
typedef struct Site
{
	const SxRemembered *what;
	FmgrInfo	function;
	int			nargs;
	int			calls;			/* of this sample, or of the pause */
	int			hits;
	bool		pausing;
} Site;

typedef struct Argument
{
	struct varlena *packed;
	const char *data;
	int			len;
} Argument;

static Place *places = NULL;
static MemoryContext place_context = NULL;

const SxRemembered *
sx_remembered(Oid function)
{
	for (int i = 0; i < lengthof(remembered); i++)
	{
		if (remembered[i].function == function)
			return &remembered[i];
	}
	return NULL;
}

/* ---------- the call site ---------- */

/* Whoever calls this by hand gets no further than by calling the function. */
static void
check_call(FunctionCallInfo fcinfo, Site *site, Oid function)
{
	Node	   *call = fcinfo->flinfo->fn_expr;

	site->what = sx_remembered(function);
	if (site->what == NULL || call == NULL || get_fn_expr_variadic(fcinfo->flinfo) ||
		exprType(call) != site->what->result)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("results of this function are not remembered")));
	fmgr_info_cxt(function, &site->function, fcinfo->flinfo->fn_mcxt);
	site->nargs = PG_NARGS() - 1;
	if (site->nargs != site->function.fn_nargs || site->nargs > MAX_ARGS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("wrong number of arguments")));
	for (int i = 1; i <= site->nargs; i++)
	{
		if (get_fn_expr_argtype(fcinfo->flinfo, i) != TEXTOID)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("argument %d is no text", i)));
	}
	if (sx_proc_aclcheck(function, GetUserId()) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(function));
}

static Site *
call_site(FunctionCallInfo fcinfo)
{
	Site	   *site = fcinfo->flinfo->fn_extra;

	if (site != NULL && site->what->function == PG_GETARG_OID(0))
		return site;
	site = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(Site));
	check_call(fcinfo, site, PG_GETARG_OID(0));
	fcinfo->flinfo->fn_extra = site;
	return site;
}

/* Is it worth looking?  Not where strings hardly ever come again. */
static bool
looks(Site *site)
{
	if (++site->calls < (site->pausing ? PAUSE : SAMPLE))
		return !site->pausing;
	site->pausing = !site->pausing && site->hits < SAMPLE / 8;
	site->calls = site->hits = 0;
	return !site->pausing;
}

static Datum
call(FunctionCallInfo fcinfo, Site *site, Argument *args, bool *isnull)
{
	LOCAL_FCINFO(inner, MAX_ARGS);
	Datum		result;

	InitFunctionCallInfoData(*inner, &site->function, site->nargs, PG_GET_COLLATION(), NULL, NULL);
	for (int i = 0; i < site->nargs; i++)
	{
		inner->args[i].value = args == NULL ? PG_GETARG_DATUM(i + 1) : PointerGetDatum(args[i].packed);
		inner->args[i].isnull = false;
	}
	result = FunctionCallInvoke(inner);
	*isnull = inner->isnull;
	return result;
}

/* ---------- the table ---------- */

static void
make_table(void)
{
	if (places != NULL)
		return;
	place_context = AllocSetContextCreate(TopMemoryContext, "streamext remembered results",
										  ALLOCSET_DEFAULT_SIZES);
	places = MemoryContextAllocZero(place_context, sizeof(Place) * PLACES);
}

/* false: they are too long. */
static bool
read_arguments(FunctionCallInfo fcinfo, Site *site, Argument *args, uint64 *hash)
{
	int			total = 0;

	*hash = hash_combine64(site->what->function, PG_GET_COLLATION());
	for (int i = 0; i < site->nargs; i++)
	{
		args[i].packed = PG_GETARG_VARLENA_PP(i + 1);
		args[i].data = VARDATA_ANY(args[i].packed);
		args[i].len = VARSIZE_ANY_EXHDR(args[i].packed);
		total += args[i].len;
	}
	if (total > LONGEST)
		return false;
	for (int i = 0; i < site->nargs; i++)
		*hash = hash_combine64(*hash, hash_bytes_extended((const unsigned char *) args[i].data,
														  args[i].len, 0));
	return true;
}

static bool
is_there(const Place *place, const Site *site, Oid collation, const Argument *args, uint64 hash)
{
	const char *bytes = place->bytes + Max(place->result_len, 0);

	if (place->hash != hash || place->function != site->what->function ||
		place->collation != collation)
		return false;
	for (int i = 0; i < site->nargs; i++)
	{
		if (place->arglen[i] != args[i].len || memcmp(bytes, args[i].data, args[i].len) != 0)
			return false;
		bytes += args[i].len;
	}
	return true;
}

static Datum
result_of(const Place *place, const Site *site, bool *isnull)
{
	char	   *copy;

	*isnull = place->result_len < 0;
	if (*isnull)
		return (Datum) 0;
	if (site->what->result == BOOLOID)
		return BoolGetDatum(place->boolean);
	copy = palloc(place->result_len);
	memcpy(copy, place->bytes, place->result_len);
	return PointerGetDatum(copy);
}

static void
make_room(Place *place, int size)
{
	place->function = InvalidOid;
	if (place->size >= size && place->size <= 2 * size + 64)
		return;
	if (place->bytes != NULL)
		pfree(place->bytes);
	place->bytes = NULL;
	place->size = 0;
	place->bytes = MemoryContextAlloc(place_context, size);
	place->size = size;
}

static void
put(Place *place, const Site *site, Oid collation, const Argument *args, uint64 hash,
	Datum result, bool isnull)
{
	bool		pointer = site->what->result != BOOLOID;
	int			result_len = isnull ? -1 : pointer ? (int) VARSIZE_ANY(DatumGetPointer(result)) : 0;
	int			size = Max(result_len, 0);
	char	   *bytes;

	if (result_len > LONGEST)
		return;
	for (int i = 0; i < site->nargs; i++)
		size += args[i].len;
	make_room(place, Max(size, 1));
	bytes = place->bytes;
	if (pointer && !isnull)
		memcpy(bytes, DatumGetPointer(result), result_len);
	bytes += Max(result_len, 0);
	for (int i = 0; i < site->nargs; i++)
	{
		place->arglen[i] = args[i].len;
		memcpy(bytes, args[i].data, args[i].len);
		bytes += args[i].len;
	}
	place->result_len = result_len;
	place->boolean = !pointer && !isnull && DatumGetBool(result);
	place->hash = hash;
	place->collation = collation;
	place->function = site->what->function;
}

/* remember_*(function oid, VARIADIC "any") */
Datum
sx_remember(PG_FUNCTION_ARGS)
{
	Site	   *site = call_site(fcinfo);
	Argument	args[MAX_ARGS];
	uint64		hash;
	Place	   *place;
	Datum		result;
	bool		isnull;

	if (!looks(site))
		result = call(fcinfo, site, NULL, &isnull);
	else if (!read_arguments(fcinfo, site, args, &hash))
		result = call(fcinfo, site, args, &isnull);
	else
	{
		make_table();
		place = &places[hash & (PLACES - 1)];
		if (is_there(place, site, PG_GET_COLLATION(), args, hash))
		{
			site->hits++;
			result = result_of(place, site, &isnull);
		}
		else
		{
			result = call(fcinfo, site, args, &isnull);
			put(place, site, PG_GET_COLLATION(), args, hash, result, isnull);
		}
	}
	if (isnull)
		PG_RETURN_NULL();
	return result;
}
