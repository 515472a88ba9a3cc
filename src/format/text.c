/*-------------------------------------------------------------------------
 *
 * text.c
 *		Format "text": one column, which gets the record as it is.
 *
 * In files a record is a line without its line end; blank lines are records.
 * The column may have any type, values go through its conversion from text.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "format/decode.h"

typedef struct TextDecoder
{
	SxDecoder	base;
	SxTranscoder coder;
} TextDecoder;

static SxDecoder *
text_create(const SxStream *stream, const bool *needed)
{
	TextDecoder *decoder = palloc0(sizeof(TextDecoder));

	(void) sx_single_column(stream, "text");
	sx_decoder_init(&decoder->base, stream, needed);
	sx_transcoder_init(&decoder->coder,
					   sx_encoding_option(stream, GetDatabaseEncoding()),
					   GetDatabaseEncoding());
	return &decoder->base;
}

static SxDecodeResult
text_decode(SxDecoder *base, const SxRecord *rec, Datum *values, bool *isnull,
			SxDecodeError *err)
{
	TextDecoder *decoder = (TextDecoder *) base;
	const char *str = sx_record_value(rec);
	size_t		len = rec->value_len;
	int			att;

	if (str == NULL)
		return sx_decode_tombstone(base, values, isnull, err);
	if (!sx_transcode(&decoder->coder, &str, &len, err))
		return SX_DECODE_BAD_RECORD;
	if (base->ninputs == 0)
		return SX_DECODE_OK;
	att = base->inputs[0].column->attno - 1;
	return sx_input_text(&base->inputs[0], str, len, &values[att], &isnull[att], err);
}

static size_t
text_split(const SxStream *stream, const char *buf, size_t len, bool at_start,
		   bool eof, int32 *rec_len)
{
	if (at_start && sx_has_bom(buf, len))
	{
		*rec_len = -1;
		return SX_BOM_LEN;
	}
	return sx_split_line(buf, len, eof, rec_len);
}

const SxFormatOps sx_format_text = {
	.name = "text",
	.create = text_create,
	.decode = text_decode,
	.split = text_split
};
