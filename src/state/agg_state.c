/*-------------------------------------------------------------------------
 *
 * agg_state.c
 *		streamext.agg_state, the type of stored aggregate states.
 *
 * The serialisation functions of internal states trust what they are given: they are
 * out of reach of SQL, as nobody can make a value of type internal.  Our functions
 * that combine and finish stored states must be in everybody's reach, because a view
 * calls functions as its reader.  So their argument is of a type that cannot be made
 * either: there is no cast to it, no receive function, and its input function is for
 * superusers, who restore dumps.  Every other value comes from partial_agg() or
 * combine_agg(), which got it from the aggregate itself.
 *
 * On disk it is a varlena like bytea; inner_agg.c knows what is in it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "state/inner_agg.h"
#include "streamext.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#define TYPE_NAME	"agg_state"

PG_FUNCTION_INFO_V1(sx_agg_state_in);
PG_FUNCTION_INFO_V1(sx_agg_state_out);

Oid
sx_agg_state_type(void)
{
	Oid			schema = get_namespace_oid(SX_SCHEMA, false);
	Oid			type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
									   CStringGetDatum(TYPE_NAME), ObjectIdGetDatum(schema));

	if (!OidIsValid(type))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("type %s.%s does not exist", SX_SCHEMA, TYPE_NAME),
				 errhint("ALTER EXTENSION streamext UPDATE.")));
	return type;
}

Datum
sx_agg_state_in(PG_FUNCTION_ARGS)
{
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot accept a value of type %s.%s", SX_SCHEMA, TYPE_NAME),
				 errhint("States of aggregates are made by streamext. A dump that holds some is restored by a superuser.")));
	return byteain(fcinfo);
}

/* In hex whatever bytea_output says: a dump must not depend on it. */
Datum
sx_agg_state_out(PG_FUNCTION_ARGS)
{
	bytea	   *state = PG_GETARG_BYTEA_PP(0);
	char	   *text = palloc(2 * (size_t) VARSIZE_ANY_EXHDR(state) + 3);
	char	   *end = text;

	*end++ = '\\';
	*end++ = 'x';
	end += hex_encode(VARDATA_ANY(state), VARSIZE_ANY_EXHDR(state), end);
	*end = '\0';
	PG_RETURN_CSTRING(text);
}
