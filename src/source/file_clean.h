/*-------------------------------------------------------------------------
 *
 * file_clean.h
 *		Deletes or moves files that were taken (option "clean").
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_FILE_CLEAN_H
#define SX_FILE_CLEAN_H

#include "source/file_list.h"

typedef struct SxFileCleaner SxFileCleaner;

/* In the current memory context. */
extern SxFileCleaner *sx_file_cleaner_create(SxFileList *list, int pipeline);

/* A file was taken whole by a transaction that is committed. */
extern void sx_file_cleaner_add(SxFileCleaner *cleaner, const char *name);

/*
 * Cleans what may be cleaned by now; in_time: only when that is worth a look.  Makes a
 * transaction where none is open.
 */
extern void sx_file_cleaner_run(SxFileCleaner *cleaner, bool in_time);

/* Milliseconds until the next run is worth while, -1: there is nothing to clean. */
extern long sx_file_cleaner_wait(const SxFileCleaner *cleaner);

/* What is wrong, or NULL. */
extern const char *sx_file_cleaner_status(const SxFileCleaner *cleaner);

#endif							/* SX_FILE_CLEAN_H */
