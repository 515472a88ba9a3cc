/*-------------------------------------------------------------------------
 *
 * source_file.h
 *		What the files of the connector 'file' share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_SOURCE_FILE_H
#define SX_SOURCE_FILE_H

#include "source/file_clean.h"
#include "source/file_limit.h"
#include "source/file_list.h"
#include "source/file_reader.h"
#include "source/source.h"

/* A file of the batch at hand. */
typedef struct BatchFile
{
	const char *name;
	int			first_record;	/* index of its first record in the batch */
	SxFilePosition at;			/* behind the batch */
	bool		begun;			/* by this batch: to be remembered */
	bool		ended;
} BatchFile;

typedef struct FileSource
{
	SxSource	base;
	SxFileList *list;
	SxFileCleaner *cleaner;		/* NULL: clean = off */
	SxRecordBuffer *buffer;

	/* committed */
	int64		losses;			/* files lost in part */
	int64		ntaken;			/* files */
	char	   *current;		/* file taken in part, or NULL */
	SxFilePosition at;			/* … up to here */

	/* from poll */
	SxPollRequest req;
	TimestampTz scanned;
	int			idle_scans;		/* in a row that found nothing */
	int			next_waiting;	/* files of list->waiting before it are taken */

	/* the batch */
	bool		loaded;
	MemoryContext batch;
	BatchFile  *files;
	int			nfiles;
	int			capacity;
	int			nconsidered;	/* of list->waiting */
	int64		new_losses;
	char		status[MAXPGPATH + 128];	/* of a file that cannot be read, or "" */

	int64		goal;			/* of reached_end, in files; -1: none */
	SxFileLimit *limit;			/* of a lane; else NULL */

	/* of one of several workers */
	int64		idle_timeout;	/* microseconds */
	TimestampTz ended_at;		/* nothing has been waiting since; 0: something is */
} FileSource;

/* source_file_batch.c: what a batch takes; the first three are for SxSourceOps */
extern void sx_file_load(SxSource *source, Snapshot snapshot);
extern void sx_file_peek(SxSource *source);
extern const char *sx_file_record_topic(SxSource *source, int i);
extern void sx_file_forget_batch(FileSource *fs);
extern void sx_file_leave_unreadable(FileSource *fs, const char *path);
extern void sx_file_log_gone(const FileSource *fs, const char *path);

/* source_file_lane.c: for SxSourceOps, and reading as far as another pipeline has */
extern bool sx_file_lane_start(SxStream *stream, SxLaneStart *start);
extern void sx_file_limit(SxSource *source, int pipeline, const SxPart *parts, int nparts);
extern bool sx_file_at_limit(SxSource *source);
extern bool sx_file_lane_is_blocked(const FileSource *fs);
extern SxFileResult sx_file_lane_read(FileSource *fs, BatchFile *file);

#endif							/* SX_SOURCE_FILE_H */
