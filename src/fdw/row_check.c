/*-------------------------------------------------------------------------
 *
 * row_check.c
 *		What a stream does not allow in its rows, for rows that nobody decodes.
 *
 * A decoder refuses NULL in a NOT NULL column, and infinity and NaN without
 * allow_special.  The same holds for rows that come as rows: from INSERT, where the
 * statement fails, and from functions and tables, where the record does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fdw/row_check.h"
#include "utils/date.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

bool
sx_value_is_special(Oid base_type, Datum value)
{
	switch (base_type)
	{
		case FLOAT4OID:
			return !isfinite(DatumGetFloat4(value));
		case FLOAT8OID:
			return !isfinite(DatumGetFloat8(value));
		case NUMERICOID:
			return numeric_is_nan(DatumGetNumeric(value)) ||
				numeric_is_inf(DatumGetNumeric(value));
		case DATEOID:
			return DATE_NOT_FINITE(DatumGetDateADT(value));
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return TIMESTAMP_NOT_FINITE(DatumGetTimestamp(value));
		default:
			return false;
	}
}

SxDecodeResult
sx_check_row(const SxStream *stream, const bool *needed, const Datum *values,
			 const bool *isnull, SxDecodeError *err)
{
	for (int i = 0; i < stream->natts; i++)
	{
		const SxColumn *column = &stream->columns[i];

		if (!needed[i])
			continue;
		if (isnull[i])
		{
			if (!column->notnull)
				continue;
			err->sqlerrcode = ERRCODE_NOT_NULL_VIOLATION;
			snprintf(err->message, sizeof(err->message),
					 "null value in column \"%s\" violates not-null constraint",
					 column->name);
			return SX_DECODE_BAD_COLUMN;
		}
		if (!stream->allow_special && sx_value_is_special(column->base_type, values[i]))
		{
			err->sqlerrcode = ERRCODE_INVALID_PARAMETER_VALUE;
			snprintf(err->message, sizeof(err->message),
					 "column \"%s\": infinity and NaN are refused unless the stream has allow_special = on",
					 column->name);
			return SX_DECODE_BAD_COLUMN;
		}
	}
	return SX_DECODE_OK;
}
