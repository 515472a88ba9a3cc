/*-------------------------------------------------------------------------
 *
 * state_function_lookup.c
 *		The function that map_with_state or update_state names.
 *
 *		map_with_state	f(INOUT state S, k K, …, a A, …, OUT …), or the same as a set
 *		update_state	f(state S, k K, …, a A[], …) RETURNS S
 *
 * The arguments behind the state are the query's columns, keys first, in the order of
 * option key, then the others in the order of the query.  Types must be the columns',
 * or such that nothing has to be converted (text for varchar, int for a domain over
 * it).  The type of the state is whatever the function takes first, so the name must
 * fit one function only.
 *
 * Any form of function will do whose row has a column "state" of the type of the
 * first argument: INOUT, RETURNS TABLE (state …, …), a composite type.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"

#include "plan/plan_internal.h"
#include "plan/state_spec.h"

/* Column of the query behind argument arg, which is not the first. */
static ColumnDef *
argument_column(const SxStateSpec *spec, int arg)
{
	int			n = arg - 1;

	return sx_spec_column(spec, n < spec->nkeys ? spec->keys[n] : spec->values[n - spec->nkeys]);
}

/* Does the argument get an array of the values of its column? */
static bool
is_array_argument(const SxStateSpec *spec, int arg)
{
	return spec->strategy == SX_STRATEGY_UPDATE_STATE && arg > spec->nkeys;
}

/* "f(INOUT state S, k text, v integer, OUT …)": what is expected. */
static char *
expected_signature(const SxStateSpec *spec, const char *name)
{
	bool		map = spec->strategy == SX_STRATEGY_MAP_WITH_STATE;
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "%s(%sstate S", name, map ? "INOUT " : "");
	for (int i = 1; i <= spec->nkeys + spec->nvalues; i++)
	{
		ColumnDef  *column = argument_column(spec, i);

		appendStringInfo(&text, ", %s %s%s", quote_identifier(column->colname),
						 format_type_be(column->typeName->typeOid),
						 is_array_argument(spec, i) ? "[]" : "");
	}
	appendStringInfoString(&text, map ? ", OUT …)" : ") RETURNS S");
	return text.data;
}

static void
refuse(const SxStateSpec *spec, const char *name, char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_FUNCTION),
			 errmsg("%s", problem),
			 errdetail("Its arguments are the state, then the key columns, then the other columns of the query."),
			 errhint("CREATE FUNCTION %s …, where S is the type of the state.",
					 expected_signature(spec, name))));
}

/* ---------- which function ---------- */

static bool
is_pseudo(Oid type)
{
	return get_typtype(type) == TYPTYPE_PSEUDO;
}

static bool
argument_fits(const SxStateSpec *spec, int arg, Oid type)
{
	Oid			column = argument_column(spec, arg)->typeName->typeOid;

	if (is_pseudo(type))
		return false;
	if (!is_array_argument(spec, arg))
		return IsBinaryCoercible(column, type);
	type = get_element_type(type);
	return OidIsValid(type) && IsBinaryCoercible(column, type);
}

static bool
arguments_fit(const SxStateSpec *spec, const FuncCandidateList candidate)
{
	if (candidate->nargs != 1 + spec->nkeys + spec->nvalues ||
		is_pseudo(candidate->args[0]) ||
		get_func_prokind(candidate->oid) != PROKIND_FUNCTION)
		return false;
	for (int i = 1; i < candidate->nargs; i++)
	{
		if (!argument_fits(spec, i, candidate->args[i]))
			return false;
	}
	return true;
}

/* Arrays of arrays do not exist: their elements would have to be of one length. */
static void
refuse_array_values(const SxStateSpec *spec)
{
	for (int i = 0; i < spec->nvalues; i++)
	{
		ColumnDef  *column = sx_spec_column(spec, spec->values[i]);
		Oid			type = column->typeName->typeOid;

		if (OidIsValid(get_element_type(getBaseType(type))) ||
			!OidIsValid(get_array_type(type)))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" cannot be a value for update_state: there are no arrays of type %s",
							column->colname, format_type_be(type)),
					 errhint("Wrap it, for example to_jsonb(%s) or a composite type of your own.",
							 quote_identifier(column->colname))));
	}
}

static FuncCandidateList
choose(const SxStateSpec *spec, const char *name)
{
	FuncCandidateList candidates = FuncnameGetCandidates(stringToQualifiedNameList(name), -1,
														 NIL, false, false, false, true);
	FuncCandidateList chosen = NULL;

	if (candidates == NULL)
		refuse(spec, name, psprintf("function %s does not exist", name));
	for (FuncCandidateList c = candidates; c != NULL; c = c->next)
	{
		if (!arguments_fit(spec, c))
			continue;
		if (chosen != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_AMBIGUOUS_FUNCTION),
					 errmsg("more than one function %s fits: %s and %s", name,
							format_procedure(chosen->oid), format_procedure(c->oid)),
					 errhint("The type of the state is the function's first argument: give one of them another name.")));
		chosen = c;
	}
	if (chosen == NULL)
		refuse(spec, name, candidates->next != NULL ?
			   psprintf("no function %s fits the columns of the query", name) :
			   psprintf("function %s does not fit the columns of the query",
						format_procedure(candidates->oid)));
	return chosen;
}

/* ---------- what it gives ---------- */

static void
check_map_result(SxStateSpec *spec, const char *name)
{
	TypeFuncClass class = get_func_result_type(spec->function, &spec->result_type, &spec->result);
	int			nout = 0;

	spec->result_state = -1;
	for (int i = 0; class == TYPEFUNC_COMPOSITE && i < spec->result->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(spec->result, i);

		if (att->attisdropped)
			continue;
		if (strcmp(NameStr(att->attname), SX_STATE_COLUMN) == 0 &&
			att->atttypid == spec->state_type)
			spec->result_state = i;
		else
			nout++;
	}
	if (class == TYPEFUNC_COMPOSITE && spec->result_state < 0)
		refuse(spec, name, psprintf("function %s gives no column \"state\" of type %s",
									format_procedure(spec->function),
									format_type_be(spec->state_type)));
	if (nout == 0)
		refuse(spec, name, psprintf("function %s gives nothing but the state: it needs at least one OUT column",
									format_procedure(spec->function)));
}

static void
check_update_result(SxStateSpec *spec, const char *name)
{
	spec->result_type = get_func_rettype(spec->function);
	if (spec->retset || spec->result_type != spec->state_type)
		refuse(spec, name, psprintf("function %s does not return the new state: one value of type %s",
									format_procedure(spec->function),
									format_type_be(spec->state_type)));
}

/* The collation that the parser would call it with. */
static Oid
input_collation(const SxStateSpec *spec)
{
	Oid			result = get_typcollation(spec->state_type);

	for (int i = 1; i < spec->nargs; i++)
	{
		Oid			collation = argument_column(spec, i)->collOid;

		if (!OidIsValid(collation) || collation == result)
			continue;
		if (!OidIsValid(result) || result == DEFAULT_COLLATION_OID)
			result = collation;
		else if (collation != DEFAULT_COLLATION_OID)
			return InvalidOid;	/* they differ: it must not depend on one */
	}
	return result;
}

void
sx_find_state_function(SxStateSpec *spec, const char *option, const char *name)
{
	FuncCandidateList chosen;

	if (spec->strategy == SX_STRATEGY_UPDATE_STATE)
		refuse_array_values(spec);
	chosen = choose(spec, name);
	spec->function = chosen->oid;
	spec->nargs = chosen->nargs;
	spec->argtypes = palloc(sizeof(Oid) * chosen->nargs);
	memcpy(spec->argtypes, chosen->args, sizeof(Oid) * chosen->nargs);
	spec->state_type = chosen->args[0];
	spec->retset = get_func_retset(spec->function);
	spec->collation = input_collation(spec);

	if (func_strict(spec->function))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("function %s must not be STRICT", format_procedure(spec->function)),
				 errdetail("It is called with NULL for the state of a new key."),
				 errhint("ALTER FUNCTION %s CALLED ON NULL INPUT.", format_procedure(spec->function))));
	if (spec->strategy == SX_STRATEGY_MAP_WITH_STATE)
		check_map_result(spec, name);
	else
		check_update_result(spec, name);
}
