/*-------------------------------------------------------------------------
 *
 * raw.c
 *		Format "raw": one column of type bytea, which gets the record's bytes.
 *
 * Bytes have no line ends, so a source must bring its own framing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "format/decode.h"

static SxDecoder *
raw_create(const SxStream *stream, const bool *needed)
{
	SxDecoder  *decoder = palloc0(sizeof(SxDecoder));
	const SxColumn *column = sx_single_column(stream, "raw");

	if (column != NULL && column->base_type != BYTEAOID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("column \"%s\" must have type bytea for format \"%s\"",
						column->name, "raw"),
				 errhint("Use type bytea, or format text.")));
	sx_decoder_init(decoder, stream, needed);
	return decoder;
}

static SxDecodeResult
raw_decode(SxDecoder *decoder, const SxRecord *rec, Datum *values, bool *isnull,
		   SxDecodeError *err)
{
	const char *data = sx_record_value(rec);
	bytea	   *bytes;
	int			att;

	if (data == NULL)
		return sx_decode_tombstone(decoder, values, isnull, err);
	if (decoder->ninputs == 0)
		return SX_DECODE_OK;

	bytes = palloc(VARHDRSZ + rec->value_len);
	SET_VARSIZE(bytes, VARHDRSZ + rec->value_len);
	memcpy(VARDATA(bytes), data, rec->value_len);
	att = decoder->inputs[0].column->attno - 1;
	values[att] = PointerGetDatum(bytes);
	isnull[att] = false;
	return sx_input_finish(&decoder->inputs[0], &values[att], &isnull[att], err);
}

const SxFormatOps sx_format_raw = {
	.name = "raw",
	.create = raw_create,
	.decode = raw_decode
};
