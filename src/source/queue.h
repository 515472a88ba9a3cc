/*-------------------------------------------------------------------------
 *
 * queue.h
 *		The log table behind a stream of connector 'queue' or 'table'.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_QUEUE_H
#define SX_QUEUE_H

#include "executor/tuptable.h"
#include "fdw/stream.h"

/* Columns of the log that precede the stream's own, by attribute number. */
#define SX_QUEUE_SEQ			1
#define SX_QUEUE_XID			2
#define SX_QUEUE_WRITTEN_AT		3

/* Has the stream a log? */
extern bool sx_queue_has_log(const SxStream *stream);

/* Creates the log of a stream that has just been created. */
extern void sx_queue_create_log(Oid relid);

/*
 * Gives the log the columns that the stream has now; what was renamed has to be told
 * before, or it is taken for a column that went and another that came.
 */
extern void sx_queue_sync_log(const SxStream *stream);
extern void sx_queue_rename_column(const SxStream *stream, const char *from, const char *to);

/* queue_restored.c: the log and the positions in it come from another cluster. */
extern void sx_queue_restored(SxStream *stream);

/*
 * Where each column of the stream is in its log, by attno - 1; 0 for dropped and
 * metadata columns.  ERROR when the log lacks one.
 */
extern AttrNumber *sx_queue_columns(const SxStream *stream, TupleDesc log);

/*
 * Deletes the rows that all pipelines reading the stream have done with: those whose
 * transactions ended before any of their "done" snapshots.  In the transaction of a
 * batch; never waits for another pipeline that does the same.
 */
extern void sx_queue_trim(const SxStream *stream, Oid log);

/*
 * Rows of the stream's row type, in slots, go into the log.  The caller has checked that
 * the role may insert; no privilege on the log is needed.  The pipelines that read the
 * stream are woken when the transaction commits.  prepare looks up what a statement
 * needs; rows can be written between open and close.
 */
typedef struct SxQueueInsert SxQueueInsert;

extern SxQueueInsert *sx_queue_insert_prepare(const SxStream *stream);
extern void sx_queue_insert_open(SxQueueInsert *insert, int max_rows);
extern void sx_queue_insert(SxQueueInsert *insert, TupleTableSlot **slots, int n);
extern void sx_queue_insert_close(SxQueueInsert *insert);

/* The lane_start of sources with such a log. */
struct SxLaneStart;
extern bool sx_queue_lane_start(SxStream *stream, struct SxLaneStart *start);

#endif							/* SX_QUEUE_H */
