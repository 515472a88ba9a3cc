/*-------------------------------------------------------------------------
 *
 * row_check.h
 *		What a stream does not allow in its rows, for rows that nobody decodes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_ROW_CHECK_H
#define SX_ROW_CHECK_H

#include "fdw/stream.h"
#include "format/format.h"

/* Infinity or NaN? */
extern bool sx_value_is_special(Oid base_type, Datum value);

/* Tests the needed columns of a row; err is filled unless OK. */
extern SxDecodeResult sx_check_row(const SxStream *stream, const bool *needed,
								   const Datum *values, const bool *isnull,
								   SxDecodeError *err);

#endif							/* SX_ROW_CHECK_H */
