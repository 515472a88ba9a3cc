/*-------------------------------------------------------------------------
 *
 * file_reader.h
 *		Cuts a file into records.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_FILE_READER_H
#define SX_FILE_READER_H

#include "datatype/timestamp.h"
#include "fdw/stream.h"
#include "source/record_buffer.h"

/* How far a file has been read. */
typedef struct SxFilePosition
{
	int64		offset;			/* in bytes: a record begins here */
	int64		line;			/* records before it, blank lines included */
	int64		size;			/* read no further than this; -1: as large as it is
								 * when it is opened first, which sets size and
								 * mtime, unless the file is gone by then */
	TimestampTz mtime;
} SxFilePosition;

/*
 * Appends records to the buffer, until it holds max_rows or max_bytes (0: no limit).
 * Moves the position; returns true when the file has been read to its end.  ERROR when a
 * file that was begun is not there any more: the rest of it would be lost.
 */
extern bool sx_file_read(const SxStream *stream, const char *path,
						 SxFilePosition *position, SxRecordBuffer *buffer,
						 int64 max_rows, int64 max_bytes);

/* The mtime that stat gave. */
struct stat;
extern TimestampTz sx_file_mtime(const struct stat *st);

#endif							/* SX_FILE_READER_H */
