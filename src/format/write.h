/*-------------------------------------------------------------------------
 *
 * write.h
 *		From the rows of a query to the bytes of a file.
 *
 * The counterpart of format.h.  What is written reads back as the same rows: through
 * a stream of connector file (text, csv, json), or by COPY (csv, binary).
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_WRITE_H
#define SX_WRITE_H

#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

typedef struct SxRowWriter SxRowWriter;

/*
 * ERROR when rows of these types cannot be written in that format, or when options
 * (delimiter, header, …) make no sense with it.
 */
extern void sx_row_writer_check(const char *format, List *options, List *types);

/* In the current context.  desc must be blessed. */
extern SxRowWriter *sx_row_writer_create(const char *format, List *options, TupleDesc desc);

/*
 * Append what stands before the first row, a row, and what stands behind the last one.
 * A row that cannot be written raises an error of class 22.
 */
extern void sx_row_writer_begin(SxRowWriter *writer, StringInfo out);
extern void sx_row_writer_row(SxRowWriter *writer, StringInfo out, TupleTableSlot *slot);
extern void sx_row_writer_end(SxRowWriter *writer, StringInfo out);

/* A row as JSON in one line.  desc must be blessed. */
extern char *sx_row_to_json_line(TupleDesc desc, TupleTableSlot *slot);

#endif							/* SX_WRITE_H */
