/*-------------------------------------------------------------------------
 *
 * format.h
 *		The interface of a format: from the bytes of a record to column values.
 *
 * One decoder serves one scan: it knows which columns the query needs and
 * decodes no others.  decode() reports what is wrong with a record instead of
 * raising it where it can, because a bad record must cost as little as a good
 * one.  Input functions of PostgreSQL types may raise; the scan notes beforehand
 * which record is being decoded, so the batch learns whose fault it was.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_FORMAT_H
#define SX_FORMAT_H

#include "fdw/stream.h"
#include "source/record.h"

typedef struct SxDecoder SxDecoder; /* private to the format */

typedef enum SxDecodeResult
{
	SX_DECODE_OK = 0,
	SX_DECODE_BAD_RECORD,		/* undecodable: it fails for every step */
	SX_DECODE_BAD_COLUMN		/* one column: it fails for this step only */
} SxDecodeResult;

typedef struct SxDecodeError
{
	int			sqlerrcode;		/* ERRCODE_… */
	char		message[256];	/* lower case, no period; names the column */
} SxDecodeError;

typedef struct SxFormatOps
{
	const char *name;			/* value of option "format" */

	/*
	 * needed[attno - 1]: decode this column.  Metadata columns are never asked
	 * for here.  Everything lives in the context that is current at the call.
	 */
	SxDecoder  *(*create) (const SxStream *stream, const bool *needed);

	/*
	 * Fills values and isnull of the needed columns, leaves the others alone.
	 * By-reference values are palloc'd in the current context or point into the
	 * record, which outlives the tuple.  err is filled unless OK.
	 */
	SxDecodeResult (*decode) (SxDecoder *decoder, const SxRecord *rec,
							  Datum *values, bool *isnull, SxDecodeError *err);

	/*
	 * Finds the first record in [buf, buf + len): returns the bytes consumed,
	 * separator included, and sets *rec_len, the length of the record that begins
	 * at buf; 0 when the record is incomplete and eof is false.  *rec_len = -1:
	 * nothing here that counts as a record (a blank line of JSON, a CSV header).
	 * NULL for formats that need a source with its own framing.
	 */
	size_t		(*split) (const SxStream *stream, const char *buf, size_t len,
						  bool at_start, bool eof, int32 *rec_len);
} SxFormatOps;

/*
 * Can a column be decoded for somebody who may not want it?  What is wrong with its value
 * is reported then, never raised, and the same text is the same value for everybody.
 */
extern bool sx_column_is_soft(const SxColumn *column);

/* ERROR with the list of formats when the name is unknown. */
extern const SxFormatOps *sx_format_find(const char *name);

extern const SxFormatOps sx_format_json;
extern const SxFormatOps sx_format_csv;
extern const SxFormatOps sx_format_text;
extern const SxFormatOps sx_format_raw;

/*
 * Encodes a row for INSERT into a stream (kafka): one value of the format, as
 * palloc'd bytes.  ERROR where a format cannot be written.
 */
extern bytea *sx_format_encode(const SxStream *stream, TupleDesc tupdesc,
							   const Datum *values, const bool *isnull);

#endif							/* SX_FORMAT_H */
