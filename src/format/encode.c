/*-------------------------------------------------------------------------
 *
 * encode.c
 *		The value of a record from a row: INSERT into a stream.
 *
 * What is written here reads back as the same row through the format's decoder:
 * metadata columns are not part of the value, keys are those of option path,
 * times are in the stream's timestamp_format, texts in its encoding.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "format/csv.h"
#include "format/decode.h"
#include "format/path.h"

static bytea *
make_bytea(const char *data, size_t len)
{
	return (bytea *) cstring_to_text_with_len(data, len);
}

/* Text of the server's encoding as the bytes of a record. */
static bytea *
encode_string(const SxStream *stream, char *str, int dflt_encoding)
{
	int			encoding = sx_encoding_option(stream, dflt_encoding);
	char	   *converted = pg_server_to_any(str, strlen(str), encoding);

	return make_bytea(converted, strlen(converted));
}

/* The key that a column has in the JSON object. */
static const char *
json_key(const SxColumn *column)
{
	List	   *steps;
	SxPathStep *step;

	if (column->path == NULL)
		return column->name;
	steps = sx_path_parse(column->path);
	step = linitial(steps);
	if (list_length(steps) > 1 || step->key == NULL || strlen(step->key) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot write column \"%s\" to path \"%s\"", column->name, column->path),
				 errhint("Insert into a stream whose columns stand at the top level; use a jsonb column for what is nested.")));
	return step->key;
}

/* Is the column a time that the stream writes as a number? */
static bool
is_epoch_column(const SxColumn *column, SxTimeUnit unit)
{
	return unit != SX_TIME_ISO &&
		(column->type == TIMESTAMPTZOID || column->type == TIMESTAMPOID);
}

static Datum
epoch_number(Datum time, SxTimeUnit unit)
{
	Timestamp	timestamp = DatumGetTimestamp(time);
	int64		unit_usec = sx_time_unit_usec(unit);
	int64		usec;

	if (TIMESTAMP_NOT_FINITE(timestamp))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("cannot write an infinite timestamp as a number"),
				 errhint("Set option timestamp_format to iso.")));
	usec = timestamp + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	if (usec < 0)
		usec -= unit_usec - 1;
	return Int64GetDatum(usec / unit_usec);
}

/* One object, made by row_to_json() of a row that has only what is written. */
static bytea *
encode_json(const SxStream *stream, const Datum *values, const bool *isnull)
{
	SxTimeUnit	unit = sx_time_unit(sx_stream_option(stream, "timestamp_format", "iso"));
	TupleDesc	rowdesc = CreateTemplateTupleDesc(sx_count_data_columns(stream));
	Datum	   *row = palloc(stream->natts * sizeof(Datum));
	bool	   *row_isnull = palloc(stream->natts * sizeof(bool));
	int			n = 0;
	HeapTuple	tuple;
	Datum		json;

	for (int i = 0; i < stream->natts; i++)
	{
		const SxColumn *column = &stream->columns[i];
		bool		as_number = is_epoch_column(column, unit);

		if (!sx_is_data_column(column))
			continue;
		TupleDescInitEntry(rowdesc, n + 1, json_key(column),
						   as_number ? INT8OID : column->type,
						   as_number ? -1 : column->typmod, 0);
		row[n] = as_number && !isnull[i] ? epoch_number(values[i], unit) : values[i];
		row_isnull[n] = isnull[i];
		n++;
	}
	rowdesc = BlessTupleDesc(rowdesc);
	tuple = heap_form_tuple(rowdesc, row, row_isnull);
	json = DirectFunctionCall1(row_to_json, HeapTupleGetDatum(tuple));
	return encode_string(stream, TextDatumGetCString(json), PG_UTF8);
}

/* Dates and times are ISO whatever the session's DateStyle is. */
static char *
value_to_text(const SxColumn *column, Datum value)
{
	Oid			function;
	bool		isvarlena;

	if (column->type == DATEOID || column->type == TIMESTAMPOID ||
		column->type == TIMESTAMPTZOID)
		return JsonEncodeDateTime(palloc(MAXDATELEN + 1), value, column->type, NULL);
	getTypeOutputInfo(column->type, &function, &isvarlena);
	return OidOutputFunctionCall(function, value);
}

/* Would the text read back as something else without quotes? */
static bool
needs_quotes(const SxCsvDialect *dialect, const char *str)
{
	/* \. alone in a line ends the data of COPY */
	if (strcmp(str, dialect->null) == 0 || str[0] == '\0' || strcmp(str, "\\.") == 0)
		return true;
	for (const char *p = str; *p != '\0'; p++)
	{
		if (*p == dialect->delimiter || *p == dialect->quote || *p == dialect->escape ||
			*p == '\n' || *p == '\r')
			return true;
	}
	return false;
}

void
sx_csv_append_field(StringInfo line, const SxCsvDialect *dialect, const char *str)
{
	if (!needs_quotes(dialect, str))
	{
		appendStringInfoString(line, str);
		return;
	}
	appendStringInfoChar(line, dialect->quote);
	for (const char *p = str; *p != '\0'; p++)
	{
		if (*p == dialect->quote || *p == dialect->escape)
			appendStringInfoChar(line, dialect->escape);
		appendStringInfoChar(line, *p);
	}
	appendStringInfoChar(line, dialect->quote);
}

static bytea *
encode_csv(const SxStream *stream, const Datum *values, const bool *isnull)
{
	SxTimeUnit	unit = sx_time_unit(sx_stream_option(stream, "timestamp_format", "iso"));
	SxCsvDialect dialect;
	StringInfoData line;
	bool		first = true;

	sx_csv_dialect(stream, &dialect);
	initStringInfo(&line);
	for (int i = 0; i < stream->natts; i++)
	{
		const SxColumn *column = &stream->columns[i];

		if (!sx_is_data_column(column))
			continue;
		if (!first)
			appendStringInfoChar(&line, dialect.delimiter);
		first = false;
		if (isnull[i])
			appendStringInfoString(&line, dialect.null);
		else if (is_epoch_column(column, unit))
			appendStringInfo(&line, INT64_FORMAT,
							 DatumGetInt64(epoch_number(values[i], unit)));
		else
			sx_csv_append_field(&line, &dialect, value_to_text(column, values[i]));
	}
	return encode_string(stream, line.data, GetDatabaseEncoding());
}

/* Formats of one column. */
static bytea *
encode_single(const SxStream *stream, const Datum *values, const bool *isnull)
{
	const char *format = stream->format->name;
	const SxColumn *column = sx_single_column(stream, format);

	if (column == NULL || isnull[column->attno - 1])
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("cannot write NULL in format \"%s\"", format),
				 errhint("Give the stream's column a value, or use format json.")));
	if (stream->format == &sx_format_raw)
		return DatumGetByteaPCopy(values[column->attno - 1]);
	return encode_string(stream, value_to_text(column, values[column->attno - 1]),
						 GetDatabaseEncoding());
}

bytea *
sx_format_encode(const SxStream *stream, TupleDesc tupdesc, const Datum *values,
				 const bool *isnull)
{
	if (stream->format == &sx_format_json)
		return encode_json(stream, values, isnull);
	if (stream->format == &sx_format_csv)
		return encode_csv(stream, values, isnull);
	return encode_single(stream, values, isnull);
}
