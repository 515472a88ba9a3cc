/*-------------------------------------------------------------------------
 *
 * log_table.h
 *		The table in which a stream keeps records until they are processed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_LOG_TABLE_H
#define SX_LOG_TABLE_H

#include "fdw/stream.h"

/*
 * Creates streamext_state.<stream>_log.  columns: as in CREATE TABLE; extra: further
 * statements, "%s" stands for the table, or NULL; comment: on the table.
 */
extern void sx_log_table_create(const SxStream *stream, const char *columns,
								const char *extra, const char *comment);

/*
 * Has the log the columns that streamext gave it, of these types, first of all?  The log
 * is its owner's, who may alter it, and rows are read and written without a parser that
 * would look at types.  ERROR: no.
 */
extern void sx_log_table_check(Oid log, TupleDesc desc, const Oid *types, int n);

/* The log of a stream; InvalidOid when it has none.  The second form: ERROR then. */
extern Oid	sx_log_table_find(Oid relid);
extern Oid	sx_log_table_of(const SxStream *stream);

/*
 * Deletes the rows whose ctid the statement gives, which locks them, as the log's owner.
 * Directly: no trigger that somebody has put on it runs.
 */
extern void sx_log_table_delete(Oid log, Oid owner, const char *sql, int nargs, const Oid *types,
								const Datum *values);

/* A statement of the log's DDL.  SPI is connected, in a trusted section. */
extern void sx_log_table_execute(const char *sql);

#endif							/* SX_LOG_TABLE_H */
