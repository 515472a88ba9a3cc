/*-------------------------------------------------------------------------
 *
 * key_hash.c
 *		streamext.key_hash(…): one bigint for a key of any columns.
 *
 * Nodes that recompute by key address the rows of a key by this number: it is never
 * NULL, an index of it serves keys of any number of columns, of any length, NULL
 * among them.  Keys that share a number are recomputed together, which is more work
 * and never wrong.
 *
 * The hash of each argument is that of its type's default hash class, so values that
 * are equal across the types of such a class (integer and bigint) have the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(sx_key_hash);

static TypeCacheEntry *
hashed_type(FunctionCallInfo fcinfo, int arg)
{
	Oid			type = get_fn_expr_argtype(fcinfo->flinfo, arg);
	TypeCacheEntry *entry;

	if (!OidIsValid(type))
		elog(ERROR, "could not determine the type of argument %d of key_hash()", arg + 1);
	entry = lookup_type_cache(type, TYPECACHE_HASH_EXTENDED_PROC_FINFO);
	if (!OidIsValid(entry->hash_extended_proc_finfo.fn_oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("type %s cannot be hashed", format_type_be(type))));
	return entry;
}

static TypeCacheEntry **
argument_types(FunctionCallInfo fcinfo)
{
	TypeCacheEntry **types = fcinfo->flinfo->fn_extra;

	if (types == NULL)
	{
		types = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt,
								   sizeof(TypeCacheEntry *) * Max(PG_NARGS(), 1));
		for (int i = 0; i < PG_NARGS(); i++)
			types[i] = hashed_type(fcinfo, i);
		fcinfo->flinfo->fn_extra = types;
	}
	return types;
}

Datum
sx_key_hash(PG_FUNCTION_ARGS)
{
	TypeCacheEntry **types;
	uint64		hash = 0;

	if (get_fn_expr_variadic(fcinfo->flinfo))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key_hash() takes its columns one by one")));
	types = argument_types(fcinfo);
	for (int i = 0; i < PG_NARGS(); i++)
	{
		uint64		one = 0;

		if (!PG_ARGISNULL(i))
			one = DatumGetUInt64(FunctionCall2Coll(&types[i]->hash_extended_proc_finfo,
												   types[i]->typcollation, PG_GETARG_DATUM(i),
												   UInt64GetDatum(0)));
		hash = hash_combine64(hash, one);
	}
	PG_RETURN_INT64((int64) hash);
}
