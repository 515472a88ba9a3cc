/*-------------------------------------------------------------------------
 *
 * log_writer.h
 *		Writing rows straight into a stream's log, by the thousand.
 *
 * Neither privileges nor triggers of the log count: streamext alone writes it, for
 * whoever may write into the stream.  May throw; an abort frees everything.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_LOG_WRITER_H
#define SX_LOG_WRITER_H

#include "executor/executor.h"

typedef struct SxLogWriter
{
	Relation	log;
	int			chunk;			/* rows written at a time */
	EState	   *estate;
	ResultRelInfo *rinfo;
	TupleTableSlot **slots;		/* nslots of them made so far */
	int			nslots;
} SxLogWriter;

/* Fills the slot for row i, with ExecStoreVirtualTuple() at the end. */
typedef void (*SxFillLogRow) (TupleTableSlot *slot, int i, void *arg);

/* log: opened with RowExclusiveLock by the caller; max_rows: expected in one go. */
extern void sx_log_writer_open(SxLogWriter *writer, Relation log, int max_rows);
extern void sx_log_writer_close(SxLogWriter *writer);

/* What fill() allocates is freed with each chunk. */
extern void sx_log_writer_write(SxLogWriter *writer, int n, SxFillLogRow fill, void *arg);

#endif							/* SX_LOG_WRITER_H */
