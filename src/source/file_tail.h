/*-------------------------------------------------------------------------
 *
 * file_tail.h
 *		Follows a file that grows and is rotated.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_FILE_TAIL_H
#define SX_FILE_TAIL_H

#include <sys/stat.h>

#include "datatype/timestamp.h"
#include "fdw/stream.h"

#define SX_TAIL_DONE	16		/* rotated files that are remembered */

/* A file, and how far it was read. */
typedef struct SxTailMark
{
	uint64		inode;			/* 0: none */
	int64		offset;
	uint32		check;			/* CRC of the bytes before offset */
} SxTailMark;

/* A position of the stream. */
typedef struct SxTailPosition
{
	SxTailMark	mark;
	uint64		device;
	TimestampTz since;			/* of the rotated files, those with an older mtime are
								 * done */
	SxTailMark	done[SX_TAIL_DONE]; /* … and these, up to there; newest first */
	int			ndone;
	int64		losses;
} SxTailPosition;

typedef struct SxTail
{
	const SxStream *stream;
	const char *path;
	char	   *folder;
	const char *name;			/* in the folder */
	int			fd;				/* of the file at at.mark; -1: not open */
	struct stat st;				/* of it, as of the last look */
	SxTailPosition at;
	TimestampTz moving_since;	/* wants to go on to the next file; 0: does not */
	bool		blind;			/* the folder cannot be read */
	char		status[MAXPGPATH + 128];	/* what is wrong, or "" */
} SxTail;

extern void sx_tail_init(SxTail *tail, const SxStream *stream, const char *position);
extern void sx_tail_close(SxTail *tail);

/* What is to be read, or why not. */
typedef enum SxTailState
{
	SX_TAIL_WAIT,				/* no file */
	SX_TAIL_GROWS,				/* up to st.st_size, more may come */
	SX_TAIL_FINAL				/* up to st.st_size and no further: it was rotated */
} SxTailState;

/*
 * Finds and opens the file if need be, and looks at it.  moved becomes true when at is
 * another place than it was.  Loss of data is an ERROR or leads to the start of the
 * new file.
 */
extern SxTailState sx_tail_look(SxTail *tail, bool *moved);

/* The bytes before at.mark.offset, as they are now: to be called when it has moved. */
extern void sx_tail_mark(SxTail *tail);

/*
 * The file is final and was read: goes on to the next one.  False when the folder is
 * just changing: try again soon.
 */
extern bool sx_tail_next(SxTail *tail);

/* A position from jsonb text, NULL for none, into one of zeros; and palloc'd text. */
extern void sx_tail_position_parse(SxTailPosition *position, const char *text);
extern char *sx_tail_position_text(const SxTailPosition *position);

#endif							/* SX_FILE_TAIL_H */
