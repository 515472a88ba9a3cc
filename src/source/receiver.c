/*-------------------------------------------------------------------------
 *
 * receiver.c
 *		The function behind a stream of connector 'function'.
 *
 * The contract:
 *
 *		f(position jsonb, max_rows integer)
 *			RETURNS TABLE ("position" jsonb, a integer, b text, …)
 *
 * gives the rows behind a position (NULL: from the beginning), each with the position
 * where the next call begins after that row.  The position is the result column of
 * that name or, as POSITION is a word of SQL that has to be quoted, the first one.  The
 * stream's columns are found by name and must have exactly the stream's types.  Further
 * columns are left alone.
 *
 * The function is found by name when the stream is created.  Then the stream depends on
 * it (pg_depend), and that is how it is found afterwards: it may be renamed, replaced
 * and altered, but not dropped.  As it can change at any time, it is looked at anew
 * before each call.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/depend.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "source/receiver.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#define CONTRACT_HINT \
	"The contract is f(position jsonb, max_rows integer) RETURNS TABLE (\"position\" jsonb, …) with the stream's columns."

/* ------------------------------------------------------------ which function */

/* The function that the stream depends on, or InvalidOid. */
static Oid
bound_function(Oid stream)
{
	List	   *functions = sx_dependencies(RelationRelationId, stream, ProcedureRelationId,
											DEPENDENCY_NORMAL);

	return functions == NIL ? InvalidOid : linitial_oid(functions);
}

static Oid
function_by_name(const SxStream *stream)
{
	const char *option = sx_stream_option(stream, "function", "");
	List	   *name = textToQualifiedNameList(cstring_to_text(option));
	Oid			types[] = {JSONBOID, INT4OID};
	Oid			function = LookupFuncName(name, lengthof(types), types, true);

	if (OidIsValid(function))
		return function;
	if (FuncnameGetCandidates(name, -1, NIL, false, false, false, true) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s of stream %s does not take (jsonb, integer)",
						NameListToString(name), stream->label),
				 errhint(CONTRACT_HINT)));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_FUNCTION),
			 errmsg("function %s(jsonb, integer) does not exist", NameListToString(name)),
			 errhint(CONTRACT_HINT)));
}

/* Qualified and quoted, without arguments: what the option keeps. */
char *
sx_receiver_label(Oid function)
{
	return quote_qualified_identifier(get_namespace_name(get_func_namespace(function)),
									  get_func_name(function));
}

/* What the function sets while it runs (ALTER FUNCTION … SET), or NULL. */
static char *
function_setting(Oid function, const char *name)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	size_t		len = strlen(name);
	char	   *result = NULL;
	bool		isnull;
	Datum		settings;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	settings = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proconfig, &isnull);
	for (int i = 1; !isnull && result == NULL; i++)
	{
		Datum		element = array_get_element(settings, 1, &i, -1, -1, false,
												TYPALIGN_INT, &isnull);
		char	   *setting = isnull ? NULL : TextDatumGetCString(element);

		if (setting != NULL && strncmp(setting, name, len) == 0 && setting[len] == '=')
			result = pstrdup(setting + len + 1);
	}
	ReleaseSysCache(tuple);
	return result;
}

/* Milliseconds that a call may take, 0: for ever. */
static int
call_timeout(Oid function)
{
	char	   *setting = function_setting(function, "statement_timeout");
	int			timeout;

	if (setting != NULL && parse_int(setting, &timeout, GUC_UNIT_MS, NULL))
		return timeout;
	return StatementTimeout;
}

/* -------------------------------------------------------------- the contract */

static void
check_kind(const SxStream *stream, Oid function)
{
	const char *label = sx_receiver_label(function);

	if (get_func_prokind(function) != PROKIND_FUNCTION || !get_func_retset(function))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("function %s of stream %s does not return a set", label, stream->label),
				 errhint(CONTRACT_HINT)));
	if (func_strict(function))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("function %s of stream %s is strict", label, stream->label),
				 errdetail("Its position is NULL at first, so it would never be called."),
				 errhint("ALTER FUNCTION %s(jsonb, integer) CALLED ON NULL INPUT.", label)));
}

static TupleDesc
result_desc(const SxStream *stream, Oid function)
{
	Oid			type;
	TupleDesc	desc = NULL;

	switch (get_func_result_type(function, &type, &desc))
	{
		case TYPEFUNC_COMPOSITE:
		case TYPEFUNC_COMPOSITE_DOMAIN:
			return CreateTupleDescCopy(desc);
		default:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
					 errmsg("the result of function %s of stream %s has no columns",
							sx_receiver_label(function), stream->label),
					 errhint(CONTRACT_HINT)));
	}
}

static AttrNumber
column_by_name(TupleDesc desc, const char *name)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && strcmp(NameStr(att->attname), name) == 0)
			return att->attnum;
	}
	return InvalidAttrNumber;
}

static AttrNumber
find_position(const SxStream *stream, Oid function, TupleDesc desc)
{
	AttrNumber	attno = column_by_name(desc, "position");

	for (int i = 0; attno == InvalidAttrNumber && i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped)
			attno = i + 1;
	}
	if (attno == InvalidAttrNumber || TupleDescAttr(desc, attno - 1)->atttypid != JSONBOID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("the result of function %s of stream %s has no position",
						sx_receiver_label(function), stream->label),
				 attno == InvalidAttrNumber ? 0 :
				 errdetail("Its column \"%s\" is of type %s.",
						   NameStr(TupleDescAttr(desc, attno - 1)->attname),
						   format_type_be(TupleDescAttr(desc, attno - 1)->atttypid)),
				 errhint("The position is the column \"position\", or else the first, of type jsonb: where the next call begins after that row.")));
	return attno;
}

/* The result column for a column of the stream. */
static AttrNumber
find_column(const SxStream *stream, const SxColumn *column, Oid function, TupleDesc desc)
{
	AttrNumber	attno = column_by_name(desc, column->name);
	const char *label = sx_receiver_label(function);
	Form_pg_attribute att;

	if (attno == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("the result of function %s has no column \"%s\" of stream %s",
						label, column->name, stream->label),
				 errhint("Columns are matched by name: add \"%s\" of type %s to the function's result, or leave it out of the stream.",
						 column->name, format_type_with_typemod(column->type, column->typmod))));
	att = TupleDescAttr(desc, attno - 1);
	if (att->atttypid != column->type ||
		(column->typmod >= 0 && column->typmod != att->atttypmod))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of stream %s is of type %s, but function %s gives %s",
						column->name, stream->label,
						format_type_with_typemod(column->type, column->typmod), label,
						format_type_with_typemod(att->atttypid, att->atttypmod)),
				 errhint("Declare the stream's column as %s.",
						 format_type_with_typemod(att->atttypid, att->atttypmod))));
	return attno;
}

SxReceiver *
sx_receiver_find(const SxStream *stream)
{
	SxReceiver *receiver = palloc0(sizeof(SxReceiver));
	Oid			function = bound_function(stream->relid);

	if (!OidIsValid(function))
		function = function_by_name(stream);
	receiver->function = function;
	receiver->timeout = call_timeout(function);
	check_kind(stream, function);
	receiver->desc = result_desc(stream, function);
	receiver->position = find_position(stream, function, receiver->desc);
	receiver->columns = palloc0(sizeof(AttrNumber) * Max(stream->natts, 1));
	for (int i = 0; i < stream->natts; i++)
	{
		const SxColumn *column = &stream->columns[i];

		if (!column->dropped && column->metadata == SX_META_NONE)
			receiver->columns[i] = find_column(stream, column, function, receiver->desc);
	}
	return receiver;
}

/* ------------------------------------------------------------------- binding */

/* Does the function say which search_path it wants, or does it need none? */
static bool
knows_its_names(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	bool		no_body;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	(void) SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosqlbody, &no_body);
	ReleaseSysCache(tuple);
	return !no_body || function_setting(function, "search_path") != NULL;
}

void
sx_receiver_bind_again(SxStream *stream)
{
	if (sx_dependencies(RelationRelationId, stream->relid, ProcedureRelationId,
						DEPENDENCY_NORMAL) == NIL)
		sx_depend(RelationRelationId, stream->relid, ProcedureRelationId,
				  sx_receiver_find(stream)->function, 0, DEPENDENCY_NORMAL);
}

void
sx_receiver_bind(SxStream *stream)
{
	SxReceiver *receiver = sx_receiver_find(stream);
	char	   *label = sx_receiver_label(receiver->function);

	if (sx_proc_aclcheck(receiver->function, GetUserId()) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(receiver->function));
	if (!knows_its_names(receiver->function))
		ereport(NOTICE,
				(errmsg("function %s sets no search_path", label),
				 errdetail("It is called with pg_catalog alone."),
				 errhint("Qualify the names in its body, or ALTER FUNCTION %s(jsonb, integer) SET search_path = ….",
						 label)));
	sx_stream_set_option(stream, "function", label);
	sx_depend(RelationRelationId, stream->relid, ProcedureRelationId, receiver->function, 0,
			  DEPENDENCY_NORMAL);
}
