/*-------------------------------------------------------------------------
 *
 * file_list.h
 *		The files behind a stream of connector 'file': taken, and waiting.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_FILE_LIST_H
#define SX_FILE_LIST_H

#include "datatype/timestamp.h"
#include "fdw/stream.h"
#include "utils/hsearch.h"

/* A regular file as the directory shows it, or as it was when it was taken. */
typedef struct SxFile
{
	const char *name;			/* hash key: in the directory; all of the path for a
								 * glob */
	int64		size;
	TimestampTz mtime;
	uint32		hash;			/* taken: of the name */
	bool		reported;		/* taken: its change was reported */
} SxFile;

typedef struct SxFileList
{
	SxStream   *stream;
	MemoryContext context;
	const char *path;			/* directory or pattern */
	bool		directory;		/* path is one, as far as we know */
	HTAB	   *taken;			/* SxFile by name */

	/* when to scan again */
	const char *watched;		/* folder whose mtime tells; NULL: there is no one folder */
	TimestampTz watched_mtime;	/* as the last scan saw it; DT_NOBEGIN: scan anyway */
	TimestampTz scanned;
	bool		again;			/* something could not be read: scan anyway */
	uint32		round;			/* of looking at taken files */
	bool		changed;		/* a change was seen since round 0 */
	char		changed_status[256];	/* about taken files, or "" */

	/* the last scan */
	MemoryContext scan_context;
	SxFile	   *waiting;		/* by mtime, then name */
	int			nwaiting;
	bool		complete;		/* nothing that is there was out of reach */
	char		status[256];	/* what is wrong, or "" */

	int			capacity;		/* of waiting */
} SxFileList;

/* In the current memory context. */
extern SxFileList *sx_file_list_create(SxStream *stream);

/* Notes that a file was taken, with the size and mtime of then. */
extern void sx_file_list_take(SxFileList *list, const SxFile *file);

/* The file of that name when it was taken, or NULL. */
extern SxFile *sx_file_list_taken(SxFileList *list, const char *name);

/* Forgets a taken file: one of that name would be taken again. */
extern void sx_file_list_forget(SxFileList *list, const char *name);

/*
 * Looks at the directory: sets waiting to the files that were not taken, and reports
 * those that changed since they were.  all: waiting holds every file, and nothing is
 * reported.  What cannot be read is said in status.
 */
extern void sx_file_list_scan(SxFileList *list, bool all);

/*
 * The same at a small price, for polling: looks for new names only where the folder
 * has changed, and at a few of the taken files.  False: waiting is what it was.
 */
extern bool sx_file_list_look(SxFileList *list);

/* What is wrong, or NULL. */
extern const char *sx_file_list_status(const SxFileList *list);

/* Palloc'd path of a file of the list. */
extern char *sx_file_list_path(const SxFileList *list, const char *name);

#endif							/* SX_FILE_LIST_H */
