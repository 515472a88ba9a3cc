/*-------------------------------------------------------------------------
 *
 * file_options.h
 *		The options of connector 'file', and what they decide.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_FILE_OPTIONS_H
#define SX_FILE_OPTIONS_H

#include "fdw/stream.h"

typedef enum SxFileClean
{
	SX_CLEAN_OFF,
	SX_CLEAN_DELETE,
	SX_CLEAN_ARCHIVE
} SxFileClean;

extern bool sx_file_is_tail(const SxStream *stream);
extern SxFileClean sx_file_clean(const SxStream *stream);

/* ERROR unless the options go together and the owner may do what they want. */
extern void sx_file_check(SxStream *stream);

/* ERROR unless the owner may (still) do what the options want. */
extern void sx_file_check_rights(const SxStream *stream);

/*
 * Bytes that were to be read are not there any more: an ERROR that stops the
 * pipeline, or a WARNING with on_data_loss = continue.  what: the primary message;
 * next: a clause that says how "continue" goes on.
 */
extern void sx_file_data_loss(const SxStream *stream, const char *what,
							  const char *next);

#endif							/* SX_FILE_OPTIONS_H */
