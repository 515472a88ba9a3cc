/*-------------------------------------------------------------------------
 *
 * format.c
 *		The list of formats, and what they share.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "format/decode.h"

/* Longest input whose converted form can be palloc'd. */
#define MAX_TRANSCODE_LEN	(MaxAllocSize / MAX_CONVERSION_GROWTH - 1)

static const SxFormatOps *const formats[] = {
	&sx_format_json,
	&sx_format_csv,
	&sx_format_text,
	&sx_format_raw
};

const SxFormatOps *
sx_format_find(const char *name)
{
	for (int i = 0; i < lengthof(formats); i++)
	{
		if (strcmp(formats[i]->name, name) == 0)
			return formats[i];
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown format \"%s\"", name),
			 errhint("Valid formats are json, csv, text and raw.")));
}

/*
 * Fills err and returns result, so that a caller can return it in one go.  The
 * message is cut at a character's end: it will be stored as text.
 */
SxDecodeResult
sx_decode_error(SxDecodeError *err, SxDecodeResult result, int sqlerrcode,
				const char *fmt,...)
{
	char		message[2 * sizeof(err->message)];
	va_list		args;
	int			len;

	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);

	len = pg_mbcliplen(message, strlen(message), sizeof(err->message) - 1);
	memcpy(err->message, message, len);
	err->message[len] = '\0';
	err->sqlerrcode = sqlerrcode;
	return result;
}

/* A column whose values come from the record's value. */
bool
sx_is_data_column(const SxColumn *column)
{
	return !column->dropped && column->metadata == SX_META_NONE;
}

int
sx_count_data_columns(const SxStream *stream)
{
	int			n = 0;

	for (int i = 0; i < stream->natts; i++)
	{
		if (sx_is_data_column(&stream->columns[i]))
			n++;
	}
	return n;
}

void
sx_decoder_init(SxDecoder *decoder, const SxStream *stream, const bool *needed)
{
	decoder->stream = stream;
	decoder->inputs = palloc0(Max(stream->natts, 1) * sizeof(SxInput));
	for (int i = 0; i < stream->natts; i++)
	{
		const SxColumn *column = &stream->columns[i];

		if (needed[i] && sx_is_data_column(column))
			sx_input_init(&decoder->inputs[decoder->ninputs++], stream, column);
	}
}

/* A record without a value: all columns are NULL. */
SxDecodeResult
sx_decode_tombstone(SxDecoder *decoder, Datum *values, bool *isnull,
					SxDecodeError *err)
{
	for (int i = 0; i < decoder->ninputs; i++)
	{
		SxInput    *input = &decoder->inputs[i];
		int			att = input->column->attno - 1;
		SxDecodeResult result = sx_input_null(input, &values[att], &isnull[att], err);

		if (result != SX_DECODE_OK)
			return result;
	}
	return SX_DECODE_OK;
}

int
sx_encoding_option(const SxStream *stream, int dflt)
{
	const char *name = sx_stream_option(stream, "encoding", NULL);
	int			encoding;

	if (name == NULL)
		return dflt;
	encoding = pg_char_to_encoding(name);
	if (encoding < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\": \"%s\"", "encoding", name),
				 errhint("Write the name of an encoding that PostgreSQL knows, for example UTF8 or LATIN1.")));
	return encoding;
}

/*
 * As pg_any_to_server() decides: equal encodings are only verified, and
 * SQL_ASCII on either side means that nothing is converted.
 */
void
sx_transcoder_init(SxTranscoder *coder, int encoding, int target)
{
	coder->encoding = encoding;
	coder->target = target;
	coder->proc = InvalidOid;
	coder->verify = true;
	if (encoding == target || encoding == PG_SQL_ASCII || target == PG_SQL_ASCII)
		return;

	coder->proc = FindDefaultConversionProc(encoding, target);
	if (!OidIsValid(coder->proc))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("default conversion function for encoding \"%s\" to \"%s\" does not exist",
						pg_encoding_to_char(encoding), pg_encoding_to_char(target)),
				 errhint("Set option \"encoding\" to an encoding that can be converted.")));
}

/*
 * Converts and verifies; *str and *len then give the result, which is palloc'd
 * when it is not the input.  False: err is filled.
 */
bool
sx_transcode(const SxTranscoder *coder, const char **str, size_t *len,
			 SxDecodeError *err)
{
	int			done = *len;
	int			encoding = coder->encoding;

	if (*len > MAX_TRANSCODE_LEN)
	{
		sx_decode_error(err, SX_DECODE_BAD_RECORD, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
						"text of %zu bytes is too long", *len);
		return false;
	}

	/* SQL_ASCII is a name for "already in the server's encoding". */
	if (encoding == PG_SQL_ASCII)
		encoding = coder->target;
	if (coder->verify && !pg_verify_mbstr(encoding, *str, done, true))
	{
		sx_decode_error(err, SX_DECODE_BAD_RECORD, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
						"invalid byte sequence for encoding \"%s\"",
						pg_encoding_to_char(encoding));
		return false;
	}
	if (OidIsValid(coder->proc))
	{
		int			size = done * MAX_CONVERSION_GROWTH + 1;
		char	   *result = palloc(size);

		if (pg_do_encoding_conversion_buf(coder->proc, coder->encoding, coder->target,
										  (unsigned char *) *str, done,
										  (unsigned char *) result, size, true) != done)
		{
			sx_decode_error(err, SX_DECODE_BAD_RECORD, ERRCODE_UNTRANSLATABLE_CHARACTER,
							"a character of encoding \"%s\" has no equivalent in encoding \"%s\"",
							pg_encoding_to_char(coder->encoding),
							pg_encoding_to_char(coder->target));
			return false;
		}
		*str = result;
		*len = strlen(result);
	}
	return true;
}

/* An option that is one ASCII character. */
char
sx_char_option(const SxStream *stream, const char *name, char dflt)
{
	const char *value = sx_stream_option(stream, name, NULL);

	if (value == NULL)
		return dflt;
	if (strlen(value) != 1 || IS_HIGHBIT_SET(*value) || *value == '\n' || *value == '\r')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\": \"%s\"", name, value),
				 errhint("Write a single one-byte character that does not end a line.")));
	return *value;
}

/* The one column of formats that know no fields. */
const SxColumn *
sx_single_column(const SxStream *stream, const char *format)
{
	const SxColumn *found = NULL;

	for (int i = 0; i < stream->natts; i++)
	{
		if (!sx_is_data_column(&stream->columns[i]))
			continue;
		if (found != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
					 errmsg("stream %s has more than one column for format \"%s\"",
							stream->label, format),
					 errhint("Give one column, beside columns with the option metadata, or use format json or csv.")));
		found = &stream->columns[i];
	}
	return found;
}

/* Does UTF-8's byte order mark stand here?  It is no part of any record. */
bool
sx_has_bom(const char *buf, size_t len)
{
	return len >= SX_BOM_LEN && memcmp(buf, "\xEF\xBB\xBF", SX_BOM_LEN) == 0;
}

/* The line that begins at buf: see SxFormatOps.split. */
size_t
sx_split_line(const char *buf, size_t len, bool eof, int32 *rec_len)
{
	const char *newline = memchr(buf, '\n', len);
	size_t		line = newline != NULL ? newline - buf : len;

	if (newline == NULL && (!eof || len == 0))
		return 0;
	*rec_len = line;
	if (newline != NULL && line > 0 && buf[line - 1] == '\r')
		(*rec_len)--;
	return newline != NULL ? line + 1 : line;
}
