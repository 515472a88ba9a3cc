/*-------------------------------------------------------------------------
 *
 * input.c
 *		Column values from text.
 *
 * Each needed column has an SxInput, whose convert() is chosen once by the type:
 * a direct parser for the common types, else the type's input function.  A
 * direct parser knows the usual spelling only; what it does not recognise, right
 * or wrong, goes to the input function.  So there is one judge of what is valid
 * and one set of messages, PostgreSQL's own.
 *
 * An error must not cost a subtransaction, so errors of input functions are
 * caught without one.  That is sound for the functions listed in is_soft_type():
 * they take no locks, pins or other resources, and touch nothing but memory of
 * the current context.  Only errors about the data are caught.  Input functions
 * of other types just raise; the scan has noted which record it was.
 *
 * Domains are decoded as the type behind them, then checked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

#include "format/decode.h"

/* A number with a larger exponent would take thousands of digits. */
#define MAX_EXPONENT		1000
#define EXPONENT_MESSAGE	"column \"%s\": a number has an exponent beyond %d"

/* Longest float that is parsed directly. */
#define MAX_FLOAT_LEN		63

static bool
is_soft_type(Oid type)
{
	Oid			element = get_element_type(type);

	switch (OidIsValid(element) ? element : type)
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case NAMEOID:
		case CHAROID:
		case BYTEAOID:
		case JSONOID:
		case JSONBOID:
		case UUIDOID:
		case DATEOID:
		case TIMEOID:
		case TIMETZOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
		case INTERVALOID:
		case INETOID:
		case CIDROID:
		case MACADDROID:
			return true;
		default:
			return false;
	}
}

/* A domain's constraints raise, and may look at anything. */
bool
sx_column_is_soft(const SxColumn *column)
{
	return !column->dropped && column->type == column->base_type && is_soft_type(column->type);
}

/* Errors that say something about the data, not about the server. */
static bool
is_data_error(int sqlerrcode)
{
	int			category = ERRCODE_TO_CATEGORY(sqlerrcode);

	return category == ERRCODE_DATA_EXCEPTION ||
		category == ERRCODE_PROGRAM_LIMIT_EXCEEDED;
}

/*
 * Calls an input function of a soft type with a zero-terminated string.  False:
 * the data is wrong, err is filled.  Times without an offset are taken to be in
 * the stream's time zone, not in the session's.
 */
static bool
call_softly(SxInput *input, FmgrInfo *infunc, Oid ioparam, int32 typmod,
			char *str, Datum *value, SxDecodeError *err)
{
	MemoryContext context = CurrentMemoryContext;
	pg_tz	   *saved_zone = session_timezone;
	uint32		saved_holdoff = InterruptHoldoffCount;
	volatile bool ok = true;

	PG_TRY();
	{
		session_timezone = input->session_zone;
		*value = InputFunctionCall(infunc, str, ioparam, typmod);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		session_timezone = saved_zone;
		MemoryContextSwitchTo(context);
		edata = CopyErrorData();
		if (!is_data_error(edata->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
		InterruptHoldoffCount = saved_holdoff;
		sx_decode_error(err, SX_DECODE_BAD_COLUMN, edata->sqlerrcode,
						"column \"%s\": %s", input->column->name, edata->message);
		FreeErrorData(edata);
		ok = false;
	}
	PG_END_TRY();

	session_timezone = saved_zone;
	return ok;
}

/* What the type's own input function makes of the text. */
SxDecodeResult
sx_input_generic(SxInput *input, const char *str, size_t len, Datum *value,
				SxDecodeError *err)
{
	char	   *copy = pnstrdup(str, len);

	if (!input->soft)
		*value = InputFunctionCall(&input->infunc, copy, input->ioparam, input->typmod);
	else if (!call_softly(input, &input->infunc, input->ioparam, input->typmod, copy,
						  value, err))
		return SX_DECODE_BAD_COLUMN;
	return SX_DECODE_OK;
}

/* An integer of up to 18 digits: all that cannot overflow. */
static bool
parse_integer(const char *str, size_t len, int64 *result)
{
	size_t		i = len > 0 && str[0] == '-' ? 1 : 0;
	int64		value = 0;

	if (len == i || len - i > 18)
		return false;
	for (size_t k = i; k < len; k++)
	{
		unsigned	d = (unsigned char) str[k] - '0';

		if (d > 9)
			return false;
		value = value * 10 + d;
	}
	*result = i ? -value : value;
	return true;
}

static SxDecodeResult
convert_int(SxInput *input, const char *str, size_t len, Datum *value,
			SxDecodeError *err)
{
	int64		number;

	if (parse_integer(str, len, &number))
	{
		switch (input->type)
		{
			case INT8OID:
				*value = Int64GetDatum(number);
				return SX_DECODE_OK;
			case INT4OID:
				*value = Int32GetDatum((int32) number);
				if (number >= PG_INT32_MIN && number <= PG_INT32_MAX)
					return SX_DECODE_OK;
				break;
			default:
				*value = Int16GetDatum((int16) number);
				if (number >= PG_INT16_MIN && number <= PG_INT16_MAX)
					return SX_DECODE_OK;
				break;
		}
	}
	return sx_input_generic(input, str, len, value, err);
}

SxDecodeResult
sx_input_special(SxInput *input, int sqlerrcode, SxDecodeError *err)
{
	return sx_decode_error(err, SX_DECODE_BAD_COLUMN, sqlerrcode,
						   "column \"%s\": infinity and NaN are refused unless the stream has allow_special = on",
						   input->column->name);
}

static SxDecodeResult
convert_float(SxInput *input, const char *str, size_t len, Datum *value,
			  SxDecodeError *err)
{
	bool		is_float8 = input->type == FLOAT8OID;
	double		number;

	if (is_float8 && len > 0 && len <= MAX_FLOAT_LEN && sx_is_number(str, len))
	{
		char		buf[MAX_FLOAT_LEN + 1];
		char	   *end;

		memcpy(buf, str, len);
		buf[len] = '\0';
		errno = 0;
		number = strtod(buf, &end);
		if (errno == 0 && *end == '\0')
		{
			*value = Float8GetDatum(number);
			return SX_DECODE_OK;
		}
	}
	if (sx_input_generic(input, str, len, value, err) != SX_DECODE_OK)
		return SX_DECODE_BAD_COLUMN;
	number = is_float8 ? DatumGetFloat8(*value) : DatumGetFloat4(*value);
	if ((isnan(number) || isinf(number)) && !input->allow_special)
		return sx_input_special(input, ERRCODE_INVALID_PARAMETER_VALUE, err);
	return SX_DECODE_OK;
}

static SxDecodeResult
convert_bool(SxInput *input, const char *str, size_t len, Datum *value,
			 SxDecodeError *err)
{
	bool		result;

	if (!parse_bool_with_len(str, len, &result))
		return sx_input_generic(input, str, len, value, err);
	*value = BoolGetDatum(result);
	return SX_DECODE_OK;
}

static SxDecodeResult
convert_text(SxInput *input, const char *str, size_t len, Datum *value,
			 SxDecodeError *err)
{
	*value = PointerGetDatum(cstring_to_text_with_len(str, len));
	return SX_DECODE_OK;
}

/* Made of what a decimal number is made of?  All that JSON allows, and more. */
bool
sx_is_number(const char *str, size_t len)
{
	size_t		i = len > 0 && str[0] == '-' ? 1 : 0;
	bool		digit = false;

	for (; i < len; i++)
	{
		if (str[i] >= '0' && str[i] <= '9')
			digit = true;
		else if (str[i] == 'e' || str[i] == 'E')
		{
			if (!digit)
				return false;
			digit = false;
			if (i + 1 < len && (str[i + 1] == '+' || str[i + 1] == '-'))
				i++;
		}
		else if (str[i] != '.')
			return false;
	}
	return digit;
}

static bool
is_exponent_absurd(const char *str, size_t len)
{
	size_t		i = 0;
	int			exponent = 0;

	while (i < len && str[i] != 'e' && str[i] != 'E')
		i++;
	for (i++; i < len && exponent <= MAX_EXPONENT; i++)
	{
		if (str[i] >= '0' && str[i] <= '9')
			exponent = exponent * 10 + (str[i] - '0');
	}
	return exponent > MAX_EXPONENT;
}

static SxDecodeResult
convert_numeric(SxInput *input, const char *str, size_t len, Datum *value,
				SxDecodeError *err)
{
	Numeric		number;

	if (is_exponent_absurd(str, len))
		return sx_decode_error(err, SX_DECODE_BAD_COLUMN, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
							   EXPONENT_MESSAGE, input->column->name, MAX_EXPONENT);
	if (sx_input_generic(input, str, len, value, err) != SX_DECODE_OK)
		return SX_DECODE_BAD_COLUMN;
	number = DatumGetNumeric(*value);
	if ((numeric_is_nan(number) || numeric_is_inf(number)) && !input->allow_special)
		return sx_input_special(input, ERRCODE_INVALID_PARAMETER_VALUE, err);
	return SX_DECODE_OK;
}

static SxDecodeResult
convert_uuid(SxInput *input, const char *str, size_t len, Datum *value,
			 SxDecodeError *err)
{
	pg_uuid_t  *uuid = palloc(sizeof(pg_uuid_t));

	if (!sx_parse_uuid(str, len, uuid))
		return sx_input_generic(input, str, len, value, err);
	*value = UUIDPGetDatum(uuid);
	return SX_DECODE_OK;
}

/* Does a number outside of strings have an exponent that makes it huge? */
static bool
has_absurd_number(const char *json, size_t len)
{
	bool		in_string = false;

	for (size_t i = 0; i < len; i++)
	{
		if (in_string && json[i] == '\\')
			i++;
		else if (json[i] == '"')
			in_string = !in_string;
		else if (!in_string && (json[i] == 'e' || json[i] == 'E'))
		{
			size_t		n = strspn(json + i + 1, "+-0123456789");

			if (is_exponent_absurd(json + i, n + 1))
				return true;
		}
	}
	return false;
}

/* Zero-terminated JSON as jsonb.  False: err is filled. */
bool
sx_input_jsonb(SxInput *input, char *json, Datum *value, SxDecodeError *err)
{
	FmgrInfo	jsonb_in;

	if (has_absurd_number(json, strlen(json)))
	{
		sx_decode_error(err, SX_DECODE_BAD_COLUMN, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
						EXPONENT_MESSAGE, input->column->name, MAX_EXPONENT);
		return false;
	}
	fmgr_info(F_JSONB_IN, &jsonb_in);
	return call_softly(input, &jsonb_in, JSONBOID, -1, json, value, err);
}

static SxDecodeResult
convert_jsonb(SxInput *input, const char *str, size_t len, Datum *value,
			  SxDecodeError *err)
{
	return sx_input_jsonb(input, pnstrdup(str, len), value, err) ?
		SX_DECODE_OK : SX_DECODE_BAD_COLUMN;
}

/*
 * A json text with escapes must be good as jsonb as well, which refuses \u0000:
 * json would accept it, and every later ->> on it would fail.
 */
static SxDecodeResult
convert_json(SxInput *input, const char *str, size_t len, Datum *value,
			 SxDecodeError *err)
{
	Datum		unused;

	if (memchr(str, '\\', len) != NULL &&
		!sx_input_jsonb(input, pnstrdup(str, len), &unused, err))
		return SX_DECODE_BAD_COLUMN;
	return sx_input_generic(input, str, len, value, err);
}

static SxConvert
choose_convert(const SxInput *input)
{
	switch (input->type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
			return convert_int;
		case FLOAT4OID:
		case FLOAT8OID:
			return convert_float;
		case BOOLOID:
			return convert_bool;
		case TEXTOID:
			return convert_text;
		case VARCHAROID:
			return input->typmod < 0 ? convert_text : sx_input_generic;
		case NUMERICOID:
			return convert_numeric;
		case DATEOID:
			return sx_convert_date;
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return sx_convert_timestamp;
		case UUIDOID:
			return convert_uuid;
		case JSONOID:
			return convert_json;
		case JSONBOID:
			return convert_jsonb;
		default:
			return sx_input_generic;
	}
}

void
sx_input_init(SxInput *input, const SxStream *stream, const SxColumn *column)
{
	Oid			function;

	memset(input, 0, sizeof(SxInput));
	input->column = column;
	input->context = CurrentMemoryContext;
	input->typmod = column->typmod;
	input->type = getBaseTypeAndTypmod(column->type, &input->typmod);
	input->is_domain = input->type != column->type;
	input->soft = is_soft_type(input->type);
	input->allow_special = stream->allow_special;
	sx_input_init_time(input, stream);
	input->convert = choose_convert(input);
	getTypeInputInfo(input->type, &function, &input->ioparam);
	fmgr_info(function, &input->infunc);
}

/* What is left to do with a value of the base type: domains, NOT NULL. */
SxDecodeResult
sx_input_finish(SxInput *input, Datum *value, bool *isnull, SxDecodeError *err)
{
	if (input->is_domain)
		domain_check(*value, *isnull, input->column->type, &input->domain_extra,
					 input->context);
	if (*isnull && input->column->notnull)
		return sx_decode_error(err, SX_DECODE_BAD_COLUMN, ERRCODE_NOT_NULL_VIOLATION,
							   "null value in column \"%s\" violates not-null constraint",
							   input->column->name);
	return SX_DECODE_OK;
}

SxDecodeResult
sx_input_null(SxInput *input, Datum *value, bool *isnull, SxDecodeError *err)
{
	*value = (Datum) 0;
	*isnull = true;
	return sx_input_finish(input, value, isnull, err);
}

SxDecodeResult
sx_input_text(SxInput *input, const char *str, size_t len, Datum *value,
			  bool *isnull, SxDecodeError *err)
{
	*isnull = false;
	if (input->convert(input, str, len, value, err) != SX_DECODE_OK)
		return SX_DECODE_BAD_COLUMN;
	return input->is_domain ? sx_input_finish(input, value, isnull, err) : SX_DECODE_OK;
}
