/*-------------------------------------------------------------------------
 *
 * socket_log.h
 *		The log behind a stream of connector 'socket': what was received and is
 *		not processed yet.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_SOCKET_LOG_H
#define SX_SOCKET_LOG_H

#include "fdw/stream.h"
#include "source/record_buffer.h"
#include "utils/snapshot.h"

extern void sx_socket_log_create(SxStream *stream);

/*
 * Appends the records, numbered from where the log ends or, if that is more, from
 * floor, and gives the number of the last one.  Needs an active snapshot.
 */
extern int64 sx_socket_log_append(Oid log, const SxRecordBuffer *records, int64 floor);

/* Number of the last record under the snapshot, at least floor. */
extern int64 sx_socket_log_end(Oid log, Snapshot snapshot, int64 floor);

/* Number of the first record under the snapshot, dflt when there is none. */
extern int64 sx_socket_log_start(Oid log, Snapshot snapshot, int64 dflt);

/*
 * Reads the records numbered above seq and up to upto, in order, until the batch is full
 * (0: no limit).  Gives the number of the last one, or seq when there is none.
 */
extern int64 sx_socket_log_read(Oid log, Snapshot snapshot, int64 seq, int64 upto,
								int64 max_rows, int64 max_bytes, SxRecordBuffer *records);

/* Who reads a stream. */
typedef struct SxLogReaders
{
	int			n;				/* pipelines with a step that reads it */
	int64		done;			/* all of them have processed up to here */
	int64		highest;		/* position of any pipeline, 0: none */
	char	   *slowest;		/* name of the pipeline that is at done */
	List	   *pipelines;		/* the ids of all */
} SxLogReaders;

/* Locks the views on the way, like planning a query of them does. */
extern void sx_socket_log_readers(const SxStream *stream, SxLogReaders *readers);

/*
 * Deletes the records below bound, beginning with number from; at most max.  Gives the
 * number from which there are records left.
 */
extern int64 sx_socket_log_trim(Oid log, int64 from, int64 bound, int max);

#endif							/* SX_SOCKET_LOG_H */
