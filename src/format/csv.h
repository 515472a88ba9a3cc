/*-------------------------------------------------------------------------
 *
 * csv.h
 *		The dialect of a CSV stream, for reading and writing.
 *
 * Private to this folder.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_CSV_H
#define SX_CSV_H

#include "fdw/stream.h"
#include "lib/stringinfo.h"

typedef struct SxCsvDialect
{
	char		delimiter;
	char		quote;
	char		escape;			/* in front of a quote in a quoted field */
	const char *null;			/* an unquoted field like this is NULL */
	size_t		null_len;
} SxCsvDialect;

/* ERROR 22023 when the options contradict each other. */
extern void sx_csv_dialect(const SxStream *stream, SxCsvDialect *dialect);

/* Appends a value, in quotes if it would read back as something else without. */
extern void sx_csv_append_field(StringInfo line, const SxCsvDialect *dialect,
								const char *str);

#endif							/* SX_CSV_H */
