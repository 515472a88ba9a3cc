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

typedef enum SxFileResult
{
	SX_FILE_MORE,				/* the buffer is full, the file goes on */
	SX_FILE_ENDED,				/* read to its end */
	SX_FILE_GONE,				/* it is not there */
	SX_FILE_UNREADABLE,			/* errno says why */
	SX_FILE_SHORTER				/* it has lost bytes that were to be read */
} SxFileResult;

/*
 * Appends records to the buffer, until it holds max_rows or max_bytes (0: no limit),
 * and moves the position.
 */
extern SxFileResult sx_file_read(const SxStream *stream, const char *path,
								 SxFilePosition *position, SxRecordBuffer *buffer,
								 int64 max_rows, int64 max_bytes);

/*
 * The same with a file that is open, up to position->size.  Flags: a last record
 * without its end is not taken, as it may still be being written; the offset of a
 * record is its first byte instead of its number.
 */
#define SX_FILE_GROWING			(1 << 0)
#define SX_FILE_BYTE_OFFSETS	(1 << 1)

extern SxFileResult sx_file_cut(const SxStream *stream, int fd, const char *path,
								SxFilePosition *position, SxRecordBuffer *buffer,
								int64 max_rows, int64 max_bytes, int flags);

/* The mtime that stat gave. */
struct stat;
extern TimestampTz sx_file_mtime(const struct stat *st);

#endif							/* SX_FILE_READER_H */
