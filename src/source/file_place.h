/*-------------------------------------------------------------------------
 *
 * file_place.h
 *		Where files of the server may be read and written.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_FILE_PLACE_H
#define SX_FILE_PLACE_H

/*
 * ERROR 42501 when the path, which may be a pattern, leads into the data directory, or
 * could.  To read there a superuser's stream is allowed (the log may be there), to write
 * or delete nobody's.  option is its name, for the message.
 */
extern void sx_file_check_place(const char *path, Oid owner, bool writes,
								const char *option);

#endif							/* SX_FILE_PLACE_H */
