/*-------------------------------------------------------------------------
 *
 * file_limit.h
 *		How far a lane may read the files of a stream: as far as another pipeline has.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_FILE_LIMIT_H
#define SX_FILE_LIMIT_H

#include "source/file_list.h"

typedef struct SxFileLimit
{
	MemoryContext context;
	char	   *position;		/* of the other pipeline; NULL: it has not begun */
	SxFile	   *files;			/* that it has taken, by name */
	int			nfiles;
	int			room;
	char	   *current;		/* the one that it has taken in part; NULL: none */
	int64		offset;			/* … up to here */
} SxFileLimit;

extern SxFileLimit *sx_file_limit_create(void);

/* From the positions of the other pipeline; true: it is another limit than before. */
extern bool sx_file_limit_set(SxFileLimit *limit, int pipeline, Oid stream,
							  const char *position);

/* Leaves of the waiting files those that the other has taken; what it has in part, last. */
extern void sx_file_limit_filter(const SxFileLimit *limit, SxFileList *list);

/* The file as the other pipeline took it; NULL: it has not. */
extern const SxFile *sx_file_limit_find(const SxFileLimit *limit, const char *name);

/* Is this the file that the other one has taken in part? */
extern bool sx_file_limit_is_current(const SxFileLimit *limit, const char *name);

#endif							/* SX_FILE_LIMIT_H */
