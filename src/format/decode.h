/*-------------------------------------------------------------------------
 *
 * decode.h
 *		What the formats share: errors, encodings, and column values from text.
 *
 * Private to this folder.  Every format begins its decoder with SxDecoder and
 * hands out a pointer to it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_DECODE_H
#define SX_DECODE_H

#include "fmgr.h"

#include "format/format.h"
#include "format/timestamp.h"

#define SX_BOM_LEN			3	/* of UTF-8's byte order mark */

typedef struct SxInput SxInput;

/* Text in the server's encoding, verified; not zero-terminated. */
typedef SxDecodeResult (*SxConvert) (SxInput *input, const char *str, size_t len,
									 Datum *value, SxDecodeError *err);

/* How the values of one column are made.  See input.c. */
struct SxInput
{
	const SxColumn *column;
	Oid			type;			/* behind domains */
	int32		typmod;
	bool		is_domain;
	bool		soft;			/* errors of infunc can be caught */
	bool		allow_special;
	SxConvert	convert;
	FmgrInfo	infunc;			/* of type */
	Oid			ioparam;
	SxTimeUnit	unit;			/* what a number means for a time */
	pg_tz	   *zone;			/* of times without an offset; NULL: UTC */
	pg_tz	   *session_zone;	/* the same, never NULL */
	void	   *domain_extra;	/* of domain_check() */
	MemoryContext context;		/* of the decoder */
};

/* From the encoding of the records to the server's. */
typedef struct SxTranscoder
{
	int			encoding;		/* of the input */
	int			target;
	Oid			proc;			/* conversion, or InvalidOid: only verify */
	bool		verify;
} SxTranscoder;

struct SxDecoder
{
	const SxStream *stream;
	SxInput    *inputs;			/* of the needed columns */
	int			ninputs;
};

/* format.c */
extern SxDecodeResult sx_decode_error(SxDecodeError *err, SxDecodeResult result,
									  int sqlerrcode, const char *fmt,...)
			pg_attribute_printf(4, 5);
extern void sx_decoder_init(SxDecoder *decoder, const SxStream *stream,
							const bool *needed);
extern SxDecodeResult sx_decode_tombstone(SxDecoder *decoder, Datum *values,
										  bool *isnull, SxDecodeError *err);
extern int	sx_encoding_option(const SxStream *stream, int dflt);
extern void sx_transcoder_init(SxTranscoder *coder, int encoding, int target);
extern bool sx_transcode(const SxTranscoder *coder, const char **str, size_t *len,
						 SxDecodeError *err);
extern char sx_char_option(const SxStream *stream, const char *name, char dflt);
extern bool sx_is_data_column(const SxColumn *column);
extern int	sx_count_data_columns(const SxStream *stream);
extern bool sx_has_bom(const char *buf, size_t len);
extern const SxColumn *sx_single_column(const SxStream *stream, const char *format);
extern size_t sx_split_line(const char *buf, size_t len, bool eof, int32 *rec_len);

/* input.c */
extern void sx_input_init(SxInput *input, const SxStream *stream,
						  const SxColumn *column);
extern SxDecodeResult sx_input_null(SxInput *input, Datum *value, bool *isnull,
									SxDecodeError *err);
extern SxDecodeResult sx_input_text(SxInput *input, const char *str, size_t len,
									Datum *value, bool *isnull, SxDecodeError *err);
extern SxDecodeResult sx_input_finish(SxInput *input, Datum *value, bool *isnull,
									  SxDecodeError *err);
extern SxDecodeResult sx_input_generic(SxInput *input, const char *str, size_t len,
									   Datum *value, SxDecodeError *err);
extern SxDecodeResult sx_input_special(SxInput *input, int sqlerrcode,
									   SxDecodeError *err);
extern bool sx_input_jsonb(SxInput *input, char *json, Datum *value,
						   SxDecodeError *err);
extern bool sx_is_number(const char *str, size_t len);

/* input_time.c */
extern void sx_input_init_time(SxInput *input, const SxStream *stream);
extern SxDecodeResult sx_convert_date(SxInput *input, const char *str, size_t len,
									  Datum *value, SxDecodeError *err);
extern SxDecodeResult sx_convert_timestamp(SxInput *input, const char *str, size_t len,
										   Datum *value, SxDecodeError *err);

/* container.c */
extern SxDecodeResult sx_input_container(SxInput *input, const char *json, size_t len,
										 Datum *value, bool *isnull,
										 SxDecodeError *err);

#endif							/* SX_DECODE_H */
