/*-------------------------------------------------------------------------
 *
 * file_reader.c
 *		Cuts a file into records.
 *
 * The format knows where a record ends (split); here is a window over the file that
 * moves on when no whole record is left in it, and grows when it does not hold one.
 * A format without split takes the file as one record.
 *
 * A file is read no further than its size when it was begun: what is appended while
 * we read would be cut in the middle of a record.  The file of a tail grows: there a
 * last record without its end is left for later.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/format.h"
#include "miscadmin.h"
#include "source/file_reader.h"
#include "storage/fd.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define WINDOW_SIZE		((Size) 256 * 1024)
#define MAX_RECORD		((Size) MaxAllocSize - 1024)

typedef struct Window
{
	const char *path;
	int			fd;
	char	   *data;
	Size		capacity;
	Size		begin;			/* first byte not consumed */
	Size		end;			/* first byte not read */
	int64		unread;			/* bytes of the file behind end */
	bool		growing;		/* what is behind them is not known yet */
} Window;

TimestampTz
sx_file_mtime(const struct stat *st)
{
	return time_t_to_timestamptz(st->st_mtim.tv_sec) + st->st_mtim.tv_nsec / 1000;
}

/* A descriptor, or -1 with errno set. */
static int
open_file(const SxStream *stream, const char *path, struct stat *st)
{
	/*
	 * O_NONBLOCK: what is a pipe by now must not hang us.  O_NOFOLLOW: who may write into
	 * the folder must not be able to show us other files.
	 */
	bool		named = strcmp(path, sx_stream_option(stream, "path", "")) == 0;
	int			fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | PG_BINARY |
									   (named ? 0 : O_NOFOLLOW));

	if (fd < 0)
	{
		if (errno == ELOOP)
			errno = EACCES;
		if (errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == EPERM)
			return -1;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\" for reading: %m", path)));
	}
	if (fstat(fd, st) < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", path)));
	if (!S_ISREG(st->st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a regular file", path)));
	return fd;
}

/* Makes room behind end: moves what is left to the front, or grows. */
static void
make_room(Window *win)
{
	if (win->begin > 0)
	{
		memmove(win->data, win->data + win->begin, win->end - win->begin);
		win->end -= win->begin;
		win->begin = 0;
	}
	if (win->end < win->capacity)
		return;
	if (win->capacity >= MAX_RECORD)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("file \"%s\" has a record longer than %zu bytes",
						win->path, MAX_RECORD)));
	win->capacity = Min(win->capacity * 2, MAX_RECORD);
	win->data = repalloc(win->data, win->capacity);
}

static void
read_more(Window *win)
{
	ssize_t		got;

	CHECK_FOR_INTERRUPTS();
	make_room(win);
	got = read(win->fd, win->data + win->end,
			   Min((int64) (win->capacity - win->end), win->unread));
	if (got < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\": %m", win->path)));
	win->end += got;
	win->unread = got == 0 ? 0 : win->unread - got;
}

/*
 * Bytes of the first record in the window with its separator, 0 at the end of the
 * file, or of what is whole in a growing one; reads on as needed.
 */
static Size
next_record(const SxStream *stream, Window *win, bool at_start, int32 *rec_len)
{
	for (;;)
	{
		Size		len = win->end - win->begin;
		bool		eof = win->unread == 0;
		Size		consumed = 0;

		if (len == 0 && eof)
			return 0;
		if (stream->format->split != NULL)
		{
			if (len > 0)
				consumed = stream->format->split(stream, win->data + win->begin, len,
												 at_start, eof && !win->growing, rec_len);
		}
		else if (eof)
			consumed = *rec_len = (int32) len;
		if (consumed > 0 || (eof && win->growing))
			return consumed;
		if (eof)
			elog(ERROR, "format \"%s\" does not consume the end of a file",
				 stream->format->name);
		read_more(win);
	}
}

static bool
is_full(const SxRecordBuffer *buffer, int64 max_rows, int64 max_bytes)
{
	return (max_rows > 0 && buffer->nrecords >= max_rows) ||
		(max_bytes > 0 && buffer->nbytes >= max_bytes);
}

SxFileResult
sx_file_cut(const SxStream *stream, int fd, const char *path, SxFilePosition *position,
			SxRecordBuffer *buffer, int64 max_rows, int64 max_bytes, int flags)
{
	Window		win = {
		.path = path,
		.fd = fd,
		.growing = (flags & SX_FILE_GROWING) != 0,
		.unread = Max(position->size - position->offset, 0)
	};
	bool		ended = false;

	win.capacity = Min(WINDOW_SIZE, (Size) win.unread + 1);
	win.data = palloc(win.capacity);
	if (lseek(win.fd, position->offset, SEEK_SET) < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not seek in file \"%s\": %m", path)));

	while (!ended && !is_full(buffer, max_rows, max_bytes))
	{
		int32		rec_len = -1;
		Size		consumed = next_record(stream, &win, position->offset == 0, &rec_len);

		if (consumed == 0)
		{
			ended = true;
			break;
		}
		position->line++;
		if (rec_len >= 0)
			sx_record_buffer_add(buffer, 0,
								 (flags & SX_FILE_BYTE_OFFSETS) ? position->offset : position->line,
								 win.data + win.begin, rec_len);
		win.begin += consumed;
		position->offset += consumed;
	}
	pfree(win.data);

	/* Full, but there may be nothing left: then do not come back for it. */
	if (position->offset >= position->size)
		return SX_FILE_ENDED;
	if (ended && !win.growing)
		return SX_FILE_SHORTER;
	return ended ? SX_FILE_ENDED : SX_FILE_MORE;
}

SxFileResult
sx_file_read(const SxStream *stream, const char *path, SxFilePosition *position,
			 SxRecordBuffer *buffer, int64 max_rows, int64 max_bytes)
{
	struct stat st;
	SxFileResult result;
	int			fd = open_file(stream, path, &st);

	if (fd < 0)
		return errno == EACCES || errno == EPERM ? SX_FILE_UNREADABLE : SX_FILE_GONE;
	if (position->size < 0)
	{
		position->size = st.st_size;
		position->mtime = sx_file_mtime(&st);
	}
	if (st.st_size < position->size)
		result = SX_FILE_SHORTER;
	else
		result = sx_file_cut(stream, fd, path, position, buffer, max_rows, max_bytes, 0);
	CloseTransientFile(fd);
	return result;
}
