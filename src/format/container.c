/*-------------------------------------------------------------------------
 *
 * container.c
 *		Column values from JSON objects and arrays.
 *
 *		json, jsonb			the text as it stands
 *		text types			the same, after a check that it is JSON
 *		arrays				a JSON array, nested ones for more dimensions, written
 *							as an array literal for array_in()
 *		composite types		a JSON object, by jsonb_populate_record()
 *
 * Anything else wants a scalar, and an object or array there is an error.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "format/decode.h"

static void append_array(StringInfo buf, JsonbContainer *array, char delimiter);

static void
append_quoted(StringInfo buf, const char *str, int len)
{
	appendStringInfoChar(buf, '"');
	for (int i = 0; i < len; i++)
	{
		if (str[i] == '"' || str[i] == '\\')
			appendStringInfoChar(buf, '\\');
		appendStringInfoChar(buf, str[i]);
	}
	appendStringInfoChar(buf, '"');
}

/* One element of an array literal. */
static void
append_element(StringInfo buf, JsonbValue *element, char delimiter)
{
	StringInfoData object;
	char	   *number;

	switch (element->type)
	{
		case jbvNull:
			appendStringInfoString(buf, "NULL");
			break;
		case jbvString:
			append_quoted(buf, element->val.string.val, element->val.string.len);
			break;
		case jbvNumeric:
			number = DatumGetCString(DirectFunctionCall1(numeric_out,
														 NumericGetDatum(element->val.numeric)));
			appendStringInfoString(buf, number);
			break;
		case jbvBool:
			appendStringInfoString(buf, element->val.boolean ? "true" : "false");
			break;
		default:
			Assert(element->type == jbvBinary);
			if (JsonContainerIsArray(element->val.binary.data))
				append_array(buf, element->val.binary.data, delimiter);
			else
			{
				initStringInfo(&object);
				JsonbToCString(&object, element->val.binary.data,
							   element->val.binary.len);
				append_quoted(buf, object.data, object.len);
			}
			break;
	}
}

static void
append_array(StringInfo buf, JsonbContainer *array, char delimiter)
{
	JsonbIterator *it = JsonbIteratorInit(array);
	JsonbValue	element;
	JsonbIteratorToken token;
	bool		first = true;

	check_stack_depth();
	appendStringInfoChar(buf, '{');
	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (!first)
			appendStringInfoChar(buf, delimiter);
		append_element(buf, &element, delimiter);
		first = false;
	}
	appendStringInfoChar(buf, '}');
}

static char
element_delimiter(Oid array_type)
{
	int16		typlen;
	bool		typbyval;
	char		typalign;
	char		delimiter;
	Oid			ioparam;
	Oid			function;

	get_type_io_data(get_element_type(array_type), IOFunc_input, &typlen, &typbyval,
					 &typalign, &delimiter, &ioparam, &function);
	return delimiter;
}

static SxDecodeResult
convert_array(SxInput *input, char *json, Datum *value, SxDecodeError *err)
{
	Datum		parsed;
	Jsonb	   *jsonb;
	StringInfoData literal;

	if (!sx_input_jsonb(input, json, &parsed, err))
		return SX_DECODE_BAD_COLUMN;
	jsonb = DatumGetJsonbP(parsed);
	if (get_typtype(get_element_type(input->type)) == TYPTYPE_COMPOSITE)
		return sx_decode_error(err, SX_DECODE_BAD_COLUMN, ERRCODE_INVALID_TEXT_REPRESENTATION,
							   "column \"%s\": an array of composite values cannot be read, use type jsonb",
							   input->column->name);
	if (!JB_ROOT_IS_ARRAY(jsonb))
		return sx_decode_error(err, SX_DECODE_BAD_COLUMN, ERRCODE_INVALID_TEXT_REPRESENTATION,
							   "column \"%s\": an object cannot become an array",
							   input->column->name);
	initStringInfo(&literal);
	append_array(&literal, &jsonb->root, element_delimiter(input->type));
	return input->convert(input, literal.data, literal.len, value, err);
}

static SxDecodeResult
convert_composite(SxInput *input, char *json, Datum *value, SxDecodeError *err)
{
	LOCAL_FCINFO(fcinfo, 2);
	FmgrInfo	populate;
	Datum		jsonb;
	List	   *args;

	if (!sx_input_jsonb(input, json, &jsonb, err))
		return SX_DECODE_BAD_COLUMN;
	if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(jsonb)))
		return sx_decode_error(err, SX_DECODE_BAD_COLUMN, ERRCODE_INVALID_TEXT_REPRESENTATION,
							   "column \"%s\": an array cannot become a value of type %s",
							   input->column->name, format_type_be(input->type));

	/* It takes the type of the result from the expression that calls it. */
	args = list_make2(makeNullConst(input->type, -1, InvalidOid),
					  makeNullConst(JSONBOID, -1, InvalidOid));
	fmgr_info(F_JSONB_POPULATE_RECORD, &populate);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_JSONB_POPULATE_RECORD, input->type, args,
											 InvalidOid, InvalidOid,
											 COERCE_EXPLICIT_CALL), &populate);
	InitFunctionCallInfoData(*fcinfo, &populate, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = (Datum) 0;
	fcinfo->args[0].isnull = true;
	fcinfo->args[1].value = jsonb;
	fcinfo->args[1].isnull = false;
	*value = FunctionCallInvoke(fcinfo);
	return SX_DECODE_OK;
}

static SxDecodeResult
convert_container(SxInput *input, char *json, size_t len, Datum *value,
				  SxDecodeError *err)
{
	Datum		unused;

	switch (input->type)
	{
		case JSONOID:
		case JSONBOID:
			return input->convert(input, json, len, value, err);
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			if (!sx_input_jsonb(input, json, &unused, err))
				return SX_DECODE_BAD_COLUMN;
			return input->convert(input, json, len, value, err);
		default:
			if (OidIsValid(get_element_type(input->type)))
				return convert_array(input, json, value, err);
			if (get_typtype(input->type) == TYPTYPE_COMPOSITE)
				return convert_composite(input, json, value, err);
			return sx_decode_error(err, SX_DECODE_BAD_COLUMN,
								   ERRCODE_INVALID_TEXT_REPRESENTATION,
								   "column \"%s\": an object or array cannot become a value of type %s",
								   input->column->name, format_type_be(input->type));
	}
}

/* json: an object or array, of which only the brackets have been checked. */
SxDecodeResult
sx_input_container(SxInput *input, const char *json, size_t len, Datum *value,
				   bool *isnull, SxDecodeError *err)
{
	SxDecodeResult result;

	*isnull = false;
	result = convert_container(input, pnstrdup(json, len), len, value, err);
	return result == SX_DECODE_OK ? sx_input_finish(input, value, isnull, err) : result;
}
