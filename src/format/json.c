/*-------------------------------------------------------------------------
 *
 * json.c
 *		Format "json": one object a record, columns by key or by path.
 *
 * json_simd.cpp finds the wanted values, this file makes Datums of them.  The
 * reader's buffers come from malloc, so a reset callback of the decoder's memory
 * context gives them back.
 *
 * A missing key, a path through something that is no object, and JSON null are
 * all NULL.  Strings go through the column's conversion from text, and so do
 * numbers, as they are written: "5" and 5 are the same for an integer column, and
 * nothing is rounded on the way to numeric.
 *
 * JSON is UTF-8 (or the stream's option encoding, converted first).  simdjson
 * verifies that, and that \u escapes make whole characters, so in a UTF-8
 * database nothing is left to verify.  In another one each value is converted by
 * itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "format/decode.h"
#include "format/json_simd.h"
#include "format/path.h"

typedef struct JsonDecoder
{
	SxDecoder	base;
	SxJsonReader *reader;
	SxJsonNode	root;
	int			nfields;
	SxJsonValue *fields;
	int		   *field_of;		/* by input: two columns may share a field */
	bool		convert_record; /* the records are not UTF-8 … */
	SxTranscoder record_coder;	/* … so: to UTF-8 */
	bool		convert_value;	/* the server's encoding is not UTF-8 … */
	SxTranscoder value_coder;	/* … so: from UTF-8 */
	MemoryContextCallback callback;
} JsonDecoder;

static void
destroy_reader(void *arg)
{
	sx_json_reader_destroy(((JsonDecoder *) arg)->reader);
}

static SxJsonNode *
make_node(const SxPathStep *step)
{
	SxJsonNode *node = palloc0(sizeof(SxJsonNode));

	if (step->key != NULL)
	{
		node->key = pg_server_to_any(step->key, strlen(step->key), PG_UTF8);
		node->key_len = strlen(node->key);
	}
	node->index = step->index;
	node->field = -1;
	return node;
}

static bool
same_step(const SxJsonNode *a, const SxJsonNode *b)
{
	if (a->key == NULL || b->key == NULL)
		return a->key == b->key && a->index == b->index;
	return strcmp(a->key, b->key) == 0;
}

/* The child of parent for this step, added when it is new. */
static SxJsonNode *
descend(SxJsonNode *parent, const SxPathStep *step)
{
	SxJsonNode *node = make_node(step);

	for (int i = 0; i < parent->nchildren; i++)
	{
		if (same_step(parent->children[i], node))
			return parent->children[i];
	}
	if (parent->nchildren == 0)
		parent->children = palloc(sizeof(SxJsonNode *));
	else
		parent->children = repalloc(parent->children,
									(parent->nchildren + 1) * sizeof(SxJsonNode *));
	parent->children[parent->nchildren++] = node;
	return node;
}

/* Puts a column into the tree of wanted values; returns its field. */
static int
add_column(JsonDecoder *decoder, const SxColumn *column)
{
	SxJsonNode *node = &decoder->root;

	if (column->path == NULL)
	{
		SxPathStep	step = {.key = column->name};

		node = descend(node, &step);
	}
	else
	{
		ListCell   *lc;

		foreach(lc, sx_path_parse(column->path))
			node = descend(node, lfirst(lc));
	}
	if (node->field < 0)
		node->field = decoder->nfields++;
	return node->field;
}

static void
init_encodings(JsonDecoder *decoder, const SxStream *stream)
{
	int			encoding = sx_encoding_option(stream, PG_UTF8);
	int			server = GetDatabaseEncoding();

	decoder->convert_record = encoding != PG_UTF8;
	sx_transcoder_init(&decoder->record_coder, encoding, PG_UTF8);
	decoder->convert_value = server != PG_UTF8 && server != PG_SQL_ASCII;
	sx_transcoder_init(&decoder->value_coder, PG_UTF8, server);
	decoder->value_coder.verify = false;
}

static SxDecoder *
json_create(const SxStream *stream, const bool *needed)
{
	JsonDecoder *decoder = palloc0(sizeof(JsonDecoder));
	bool		strict = sx_stream_option_bool(stream, "strict", false);

	sx_decoder_init(&decoder->base, stream, needed);
	init_encodings(decoder, stream);
	decoder->root.field = -1;
	decoder->field_of = palloc(Max(decoder->base.ninputs, 1) * sizeof(int));
	for (int i = 0; i < decoder->base.ninputs; i++)
		decoder->field_of[i] = add_column(decoder, decoder->base.inputs[i].column);
	decoder->fields = palloc(Max(decoder->nfields, 1) * sizeof(SxJsonValue));

	decoder->reader = sx_json_reader_create(&decoder->root, decoder->nfields, strict);
	if (decoder->reader == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	decoder->callback.func = destroy_reader;
	decoder->callback.arg = decoder;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &decoder->callback);
	return &decoder->base;
}

static SxDecodeResult
bad_document(SxJsonStatus status, const char *detail, bool has_zero,
			 SxDecodeError *err)
{
	int			code = ERRCODE_INVALID_TEXT_REPRESENTATION;

	switch (status)
	{
		case SX_JSON_OUT_OF_MEMORY:
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory"),
					 errdetail("The JSON parser could not allocate its buffers.")));
			break;
		case SX_JSON_ENCODING:
			code = ERRCODE_CHARACTER_NOT_IN_REPERTOIRE;
			break;
		case SX_JSON_DUPLICATE:
			code = ERRCODE_DUPLICATE_JSON_OBJECT_KEY_VALUE;
			break;
		case SX_JSON_TOO_DEEP:
		case SX_JSON_TOO_LONG:
			code = ERRCODE_PROGRAM_LIMIT_EXCEEDED;
			break;
		default:
			if (has_zero)
				code = ERRCODE_CHARACTER_NOT_IN_REPERTOIRE;
			break;
	}
	return sx_decode_error(err, SX_DECODE_BAD_RECORD, code, "invalid JSON: %s",
						   has_zero ? "it contains a zero byte" : detail);
}

/* Text of a value in the server's encoding, which knows no zero byte. */
static bool
text_to_server(JsonDecoder *decoder, const SxInput *input, const SxJsonValue *field,
			   const char **str, size_t *len, SxDecodeError *err)
{
	if (field->unescaped && memchr(*str, '\0', *len) != NULL)
	{
		sx_decode_error(err, SX_DECODE_BAD_COLUMN, ERRCODE_UNTRANSLATABLE_CHARACTER,
						"column \"%s\": \\u0000 cannot be converted to text",
						input->column->name);
		return false;
	}
	return !decoder->convert_value || sx_transcode(&decoder->value_coder, str, len, err);
}

static SxDecodeResult
decode_field(JsonDecoder *decoder, SxInput *input, const SxJsonValue *field,
			 Datum *value, bool *isnull, SxDecodeError *err)
{
	bool		as_json = input->type == JSONBOID || input->type == JSONOID;
	const char *str = field->text;
	size_t		len = field->len;

	if (field->kind == SX_JSON_MISSING || field->kind == SX_JSON_NULL)
		return sx_input_null(input, value, isnull, err);
	if (as_json)
	{
		str = field->raw;
		len = field->raw_len;
	}
	if ((decoder->convert_value || field->unescaped) &&
		!text_to_server(decoder, input, field, &str, &len, err))
		return SX_DECODE_BAD_COLUMN;
	if (field->kind == SX_JSON_CONTAINER)
		return sx_input_container(input, str, len, value, isnull, err);
	return sx_input_text(input, str, len, value, isnull, err);
}

/*
 * The reader looks SX_RECORD_SLACK bytes past the end, which the record's owner
 * guarantees; a converted copy needs its own.
 */
static bool
record_to_utf8(JsonDecoder *decoder, const char **str, size_t *len, SxDecodeError *err)
{
	char	   *padded;

	if (!sx_transcode(&decoder->record_coder, str, len, err))
		return false;
	padded = palloc0(*len + SX_RECORD_SLACK);
	memcpy(padded, *str, *len);
	*str = padded;
	return true;
}

static SxDecodeResult
json_decode(SxDecoder *base, const SxRecord *rec, Datum *values, bool *isnull,
			SxDecodeError *err)
{
	JsonDecoder *decoder = (JsonDecoder *) base;
	const char *str = sx_record_value(rec);
	size_t		len = rec->value_len;
	SxJsonStatus status;
	const char *detail;

	if (str == NULL)
		return sx_decode_tombstone(base, values, isnull, err);
	if (decoder->convert_record && !record_to_utf8(decoder, &str, &len, err))
		return SX_DECODE_BAD_RECORD;
	if (sx_has_bom(str, len))
	{
		str += SX_BOM_LEN;
		len -= SX_BOM_LEN;
	}

	status = sx_json_read(decoder->reader, str, len, decoder->fields, &detail);
	if (status != SX_JSON_OK)
		return bad_document(status, detail, memchr(str, '\0', len) != NULL, err);

	for (int i = 0; i < base->ninputs; i++)
	{
		SxInput    *input = &base->inputs[i];
		int			att = input->column->attno - 1;
		SxDecodeResult result = decode_field(decoder, input,
											 &decoder->fields[decoder->field_of[i]],
											 &values[att], &isnull[att], err);

		if (result != SX_DECODE_OK)
			return result;
	}
	return SX_DECODE_OK;
}

static bool
is_blank(const char *str, int32 len)
{
	for (int32 i = 0; i < len; i++)
	{
		if (str[i] != ' ' && str[i] != '\t' && str[i] != '\r')
			return false;
	}
	return true;
}

/* Newline-separated objects; blank lines are no records. */
static size_t
json_split(const SxStream *stream, const char *buf, size_t len, bool at_start,
		   bool eof, int32 *rec_len)
{
	size_t		consumed = sx_split_line(buf, len, eof, rec_len);

	if (consumed > 0 && is_blank(buf, *rec_len))
		*rec_len = -1;
	return consumed;
}

const SxFormatOps sx_format_json = {
	.name = "json",
	.create = json_create,
	.decode = json_decode,
	.split = json_split
};
