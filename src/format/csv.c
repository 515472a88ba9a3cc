/*-------------------------------------------------------------------------
 *
 * csv.c
 *		Format "csv": columns by position.
 *
 * The dialect is that of COPY … WITH (FORMAT csv): options delimiter, quote,
 * escape, null and header.  A quoted field may contain delimiters and line ends,
 * a quote in it is doubled; an unquoted empty field is NULL.
 *
 * A record is first cut into its fields, all of them, and only then converted:
 * a wrong number of fields makes the record bad as a whole, whatever its columns
 * hold.  Fields point into the record; only those with escapes are copied.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "format/csv.h"
#include "format/decode.h"

typedef struct CsvField
{
	const char *str;
	size_t		len;
	bool		quoted;
} CsvField;

typedef struct CsvDecoder
{
	SxDecoder	base;
	SxTranscoder coder;
	SxCsvDialect dialect;
	int			nfields;		/* data columns of the stream */
	CsvField   *fields;
	int		   *field_of;		/* by input */
} CsvDecoder;

void
sx_csv_dialect(const SxStream *stream, SxCsvDialect *dialect)
{
	dialect->delimiter = sx_char_option(stream, "delimiter", ',');
	dialect->quote = sx_char_option(stream, "quote", '"');
	dialect->escape = sx_char_option(stream, "escape", dialect->quote);
	dialect->null = sx_stream_option(stream, "null", "");
	dialect->null_len = strlen(dialect->null);
	if (dialect->delimiter == dialect->quote)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options \"delimiter\" and \"quote\" must differ")));
	if (strpbrk(dialect->null, "\r\n") != NULL ||
		strchr(dialect->null, dialect->delimiter) != NULL ||
		strchr(dialect->null, dialect->quote) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"null\" must not contain the delimiter, the quote or a line end")));
}

static SxDecoder *
csv_create(const SxStream *stream, const bool *needed)
{
	CsvDecoder *decoder = palloc0(sizeof(CsvDecoder));
	int			input = 0;

	sx_decoder_init(&decoder->base, stream, needed);
	sx_csv_dialect(stream, &decoder->dialect);
	sx_transcoder_init(&decoder->coder,
					   sx_encoding_option(stream, GetDatabaseEncoding()),
					   GetDatabaseEncoding());
	decoder->fields = palloc(Max(stream->natts, 1) * sizeof(CsvField));
	decoder->field_of = palloc(Max(stream->natts, 1) * sizeof(int));
	for (int i = 0; i < stream->natts; i++)
	{
		if (!sx_is_data_column(&stream->columns[i]))
			continue;
		if (needed[i])
			decoder->field_of[input++] = decoder->nfields;
		decoder->nfields++;
	}
	Assert(input == decoder->base.ninputs);
	return &decoder->base;
}

/*
 * Reads a quoted part; *pos stands behind the opening quote, then behind the
 * closing one.  out takes the text and moves on.  False: there is no closing
 * quote.
 */
static bool
read_quoted(const SxCsvDialect *dialect, const char **pos, const char *end, char **out)
{
	const char *p = *pos;

	while (p < end)
	{
		if (*p == dialect->escape && p + 1 < end &&
			(p[1] == dialect->quote || p[1] == dialect->escape))
		{
			*(*out)++ = p[1];
			p += 2;
		}
		else if (*p == dialect->quote)
		{
			*pos = p + 1;
			return true;
		}
		else
			*(*out)++ = *p++;
	}
	return false;
}

/*
 * A field in which a quote was met at "quote": like COPY, quotes may open and
 * close anywhere in a field.
 */
static bool
read_mixed_field(const SxCsvDialect *dialect, const char **pos, const char *quote,
				 const char *end, CsvField *field)
{
	char	   *out = palloc(end - *pos + 1);
	const char *p = quote;

	field->str = out;
	field->quoted = true;
	memcpy(out, *pos, quote - *pos);
	out += quote - *pos;
	while (p < end && *p != dialect->delimiter)
	{
		if (*p != dialect->quote)
			*out++ = *p++;
		else
		{
			p++;
			if (!read_quoted(dialect, &p, end, &out))
				return false;
		}
	}
	field->len = out - field->str;
	*pos = p;
	return true;
}

/* The usual quoted field: nothing escaped in it, nothing around the quotes. */
static bool
read_simple_quoted(const SxCsvDialect *dialect, const char **pos, const char *end,
				   CsvField *field)
{
	const char *start = *pos + 1;
	const char *p = start;

	while (p < end && *p != dialect->quote && *p != dialect->escape)
		p++;
	if (p == end || *p != dialect->quote ||
		(p + 1 < end && p[1] != dialect->delimiter))
		return false;
	field->str = start;
	field->len = p - start;
	field->quoted = true;
	*pos = p + 1;
	return true;
}

/* *pos ends on the delimiter or at the end.  False: an open quote. */
static bool
read_field(const SxCsvDialect *dialect, const char **pos, const char *end,
		   CsvField *field)
{
	const char *p = *pos;

	if (p < end && *p == dialect->quote && read_simple_quoted(dialect, pos, end, field))
		return true;
	while (p < end && *p != dialect->delimiter && *p != dialect->quote)
		p++;
	if (p < end && *p == dialect->quote)
		return read_mixed_field(dialect, pos, p, end, field);
	field->str = *pos;
	field->len = p - *pos;
	field->quoted = false;
	*pos = p;
	return true;
}

/* Cuts the record into exactly nfields fields. */
static SxDecodeResult
read_fields(CsvDecoder *decoder, const char *str, size_t len, SxDecodeError *err)
{
	const SxCsvDialect *dialect = &decoder->dialect;
	const char *end = str + len;
	int			n = 0;

	for (;;)
	{
		CsvField	field;

		if (!read_field(dialect, &str, end, &field))
			return sx_decode_error(err, SX_DECODE_BAD_RECORD, ERRCODE_BAD_COPY_FILE_FORMAT,
								   "unterminated quoted CSV field");
		if (n < decoder->nfields)
			decoder->fields[n] = field;
		n++;
		if (str == end)
			break;
		str++;
	}
	if (n != decoder->nfields)
		return sx_decode_error(err, SX_DECODE_BAD_RECORD, ERRCODE_BAD_COPY_FILE_FORMAT,
							   "record has %d CSV fields, the stream has %d columns",
							   n, decoder->nfields);
	return SX_DECODE_OK;
}

static bool
is_null(const SxCsvDialect *dialect, const CsvField *field)
{
	return !field->quoted && field->len == dialect->null_len &&
		memcmp(field->str, dialect->null, field->len) == 0;
}

static SxDecodeResult
csv_decode(SxDecoder *base, const SxRecord *rec, Datum *values, bool *isnull,
		   SxDecodeError *err)
{
	CsvDecoder *decoder = (CsvDecoder *) base;
	const char *str = sx_record_value(rec);
	size_t		len = rec->value_len;

	if (str == NULL)
		return sx_decode_tombstone(base, values, isnull, err);
	if (!sx_transcode(&decoder->coder, &str, &len, err) ||
		read_fields(decoder, str, len, err) != SX_DECODE_OK)
		return SX_DECODE_BAD_RECORD;

	for (int i = 0; i < base->ninputs; i++)
	{
		SxInput    *input = &base->inputs[i];
		const CsvField *field = &decoder->fields[decoder->field_of[i]];
		int			att = input->column->attno - 1;
		SxDecodeResult result;

		if (is_null(&decoder->dialect, field))
			result = sx_input_null(input, &values[att], &isnull[att], err);
		else
			result = sx_input_text(input, field->str, field->len, &values[att],
								   &isnull[att], err);
		if (result != SX_DECODE_OK)
			return result;
	}
	return SX_DECODE_OK;
}

/*
 * Length of the record at buf without its line end: up to the first newline
 * that is outside quotes.  Sets *consumed, 0 when there is no such newline and
 * more input may come.
 */
static size_t
find_record_end(const SxStream *stream, const char *buf, size_t len, bool eof,
				size_t *consumed)
{
	char		quote = sx_char_option(stream, "quote", '"');
	char		escape = sx_char_option(stream, "escape", quote);
	bool		in_quote = false;
	size_t		i;

	for (i = 0; i < len; i++)
	{
		if (in_quote && buf[i] == escape && escape != quote)
			i++;
		else if (buf[i] == quote)
			in_quote = !in_quote;
		else if (buf[i] == '\n' && !in_quote)
		{
			*consumed = i + 1;
			return i > 0 && buf[i - 1] == '\r' ? i - 1 : i;
		}
	}
	*consumed = eof ? len : 0;
	return len;
}

/*
 * Blank lines are no records, except where a record is a single column: there it
 * is a NULL.
 */
static bool
counts_as_record(const SxStream *stream, size_t rec_len)
{
	return rec_len > 0 || sx_count_data_columns(stream) == 1;
}

static size_t
csv_split(const SxStream *stream, const char *buf, size_t len, bool at_start,
		  bool eof, int32 *rec_len)
{
	size_t		consumed;
	size_t		length;
	bool		header = at_start && sx_stream_option_bool(stream, "header", false);

	/* A byte order mark goes with the header, or by itself. */
	if (at_start && !header && sx_has_bom(buf, len))
	{
		*rec_len = -1;
		return SX_BOM_LEN;
	}
	length = find_record_end(stream, buf, len, eof, &consumed);
	*rec_len = header || !counts_as_record(stream, length) ? -1 : (int32) length;
	return consumed;
}

const SxFormatOps sx_format_csv = {
	.name = "csv",
	.create = csv_create,
	.decode = csv_decode,
	.split = csv_split
};
