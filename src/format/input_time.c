/*-------------------------------------------------------------------------
 *
 * input_time.c
 *		Column values of the types date, timestamp and timestamptz from text.
 *
 * A time without an offset is in the stream's time zone (UTC unless option
 * timezone says otherwise), never in the session's: what a record means must not
 * depend on who reads it.  For the same reason "now" and its like are refused.
 * infinity would push a watermark to the end of time, so it is refused unless the
 * stream has allow_special = on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "format/decode.h"

/* Words that mean another time each time they are read. */
static bool
has_volatile_word(const char *str, size_t len)
{
	static const char *const words[] = {"now", "today", "tomorrow", "yesterday"};

	for (int w = 0; w < lengthof(words); w++)
	{
		size_t		n = strlen(words[w]);

		for (size_t i = 0; i + n <= len; i++)
		{
			if (pg_strncasecmp(str + i, words[w], n) == 0)
				return true;
		}
	}
	return false;
}

/* What the direct parsers do not know: other spellings, and all that is wrong. */
static SxDecodeResult
convert_datetime_slowly(SxInput *input, const char *str, size_t len, Datum *value,
						SxDecodeError *err)
{
	bool		finite;

	if (has_volatile_word(str, len))
		return sx_decode_error(err, SX_DECODE_BAD_COLUMN, ERRCODE_INVALID_DATETIME_FORMAT,
							   "column \"%s\": \"%.*s\" is not a fixed time",
							   input->column->name, (int) Min(len, 64), str);
	if (sx_input_generic(input, str, len, value, err) != SX_DECODE_OK)
	{
		if (input->unit == SX_TIME_ISO && input->type != DATEOID && sx_is_number(str, len))
			sx_decode_error(err, SX_DECODE_BAD_COLUMN, err->sqlerrcode,
							"column \"%s\": a number is no time unless option timestamp_format says s, ms or us",
							input->column->name);
		return SX_DECODE_BAD_COLUMN;
	}
	if (input->type == DATEOID)
		finite = !DATE_NOT_FINITE(DatumGetDateADT(*value));
	else
		finite = !TIMESTAMP_NOT_FINITE(DatumGetTimestamp(*value));
	if (!finite && !input->allow_special)
		return sx_input_special(input, ERRCODE_DATETIME_VALUE_OUT_OF_RANGE, err);
	return SX_DECODE_OK;
}

SxDecodeResult
sx_convert_date(SxInput *input, const char *str, size_t len, Datum *value,
			 SxDecodeError *err)
{
	DateADT		date;

	if (!sx_parse_date(str, len, &date))
		return convert_datetime_slowly(input, str, len, value, err);
	*value = DateADTGetDatum(date);
	return SX_DECODE_OK;
}

/* The time that a clock in the stream's time zone shows at an instant. */
static bool
local_timestamp(SxInput *input, Timestamp *timestamp)
{
	struct pg_tm tm;
	fsec_t		fsec;
	int			tz;

	return timestamp2tm(*timestamp, &tz, &tm, &fsec, NULL, input->zone) == 0 &&
		tm2timestamp(&tm, fsec, NULL, timestamp) == 0;
}

SxDecodeResult
sx_convert_timestamp(SxInput *input, const char *str, size_t len, Datum *value,
				  SxDecodeError *err)
{
	bool		with_zone = input->type == TIMESTAMPTZOID;
	Timestamp	timestamp;

	if (input->unit != SX_TIME_ISO && sx_is_number(str, len))
	{
		if (!sx_parse_epoch(str, len, input->unit, &timestamp) ||
			(!with_zone && input->zone != NULL && !local_timestamp(input, &timestamp)))
			return sx_decode_error(err, SX_DECODE_BAD_COLUMN,
								   ERRCODE_DATETIME_VALUE_OUT_OF_RANGE,
								   "column \"%s\": timestamp out of range: %.*s",
								   input->column->name, (int) Min(len, 64), str);
	}
	else if (!sx_parse_timestamp(str, len, with_zone, input->zone, &timestamp))
		return convert_datetime_slowly(input, str, len, value, err);

	*value = TimestampGetDatum(timestamp);
	if (input->typmod >= 0)
		*value = DirectFunctionCall2(with_zone ? timestamptz_scale : timestamp_scale,
									 *value, Int32GetDatum(input->typmod));
	return SX_DECODE_OK;
}

void
sx_input_init_time(SxInput *input, const SxStream *stream)
{
	const char *name = sx_stream_option(stream, "timezone", "UTC");

	input->unit = sx_time_unit(sx_stream_option(stream, "timestamp_format", "iso"));
	input->session_zone = pg_tzset(name);
	if (input->session_zone == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\": \"%s\"", "timezone", name),
				 errhint("Write the name of a time zone that pg_timezone_names shows.")));
	if (pg_strcasecmp(name, "UTC") != 0)
		input->zone = input->session_zone;
}
