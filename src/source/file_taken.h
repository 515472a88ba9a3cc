/*-------------------------------------------------------------------------
 *
 * file_taken.h
 *		Rows of streamext.file_taken: the files that a stream has taken.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_FILE_TAKEN_H
#define SX_FILE_TAKEN_H

#include "source/file_list.h"

/* Calls each() for every file, in the order in which they were taken. */
typedef void (*SxFileFunc) (const SxFile *file, void *arg);

extern void sx_file_taken_read(int pipeline, Oid stream, SxFileFunc each, void *arg);

/* Adds files that the batch in progress begins; names are those of the list. */
extern void sx_file_taken_write(int pipeline, Oid stream, const SxFile *files, int n);

#endif							/* SX_FILE_TAKEN_H */
