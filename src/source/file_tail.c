/*-------------------------------------------------------------------------
 *
 * file_tail.c
 *		Follows a file that grows and is rotated.
 *
 * The position names the file by its inode.  While it is open it does not matter how
 * it is called; after a restart it is looked for in the folder of the path.  Inodes are
 * given away again, and files overwritten, so the position also holds a CRC of the
 * last CHECK_BYTES before the offset: a file that has not got them there is another one.
 *
 * Rotation:
 *
 *		path ──> A                    we read A
 *		path ──> (none), A.1 = A      rename; the writer may still write to A
 *		path ──> B, empty             … and now as well
 *		path ──> B, with bytes        the writer has gone over to B: A is final.
 *		                              What is left in A is read, then B from 0
 *
 * The path is looked at before the size of A, so that nothing is added to A after the
 * size that we read up to.
 *
 * When we were away for long, there may have been files between A and the one at the
 * path: path = C, A.1 = B, A.2 = A.  They are known by their names, the path's with a
 * suffix as rotation gives it, and come in order of mtime.  Which of the rotated files were
 * read already, the position says: those older than "since", and those in "done", with
 * how far.  A file in "done" that has grown, as somebody was slow to let go of it, is
 * continued at the next rotation.
 *
 * A new pipeline begins with what the path names.  When that is nothing, it says so in its
 * position (inode 0), and all that appears later is read, though it be rotated by then.
 *
 * A folder that is read while files are renamed in it may hide one.  So it is believed
 * only when it has been at peace for SETTLED_US, and the path is the same before and
 * after; if it never is at peace, after PATIENCE_US.
 *
 * Loss of data: the file is not found, is shorter than the offset, has other bytes
 * before it, or a file in between was compressed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>
#include <fcntl.h>
#include <unistd.h>

#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "source/file_options.h"
#include "source/file_reader.h"
#include "source/file_tail.h"
#include "storage/fd.h"
#include "utils/timestamp.h"

#define CHECK_BYTES		256
#define FROM_BEGINNING	(DT_NOBEGIN + 1)	/* "since": no rotated file is done */
#define SETTLED_US		INT64CONST(100000)
#define PATIENCE_US		(INT64CONST(2) * USECS_PER_SEC)

void
sx_tail_init(SxTail *tail, const SxStream *stream, const char *position)
{
	tail->stream = stream;
	tail->path = sx_stream_option(stream, "path", NULL);
	tail->name = strrchr(tail->path, '/') + 1;
	tail->folder = pnstrdup(tail->path, Max(tail->name - 1 - tail->path, 1));
	tail->fd = -1;
	sx_tail_position_parse(&tail->at, position);
}

/* ----------------------------------------------------------------- what was read */

/* CRC of the bytes before an offset; false when they are not there. */
static bool
read_check(int fd, int64 offset, uint32 *check)
{
	char		bytes[CHECK_BYTES];
	ssize_t		len = Min(offset, CHECK_BYTES);
	pg_crc32c	crc;

	if (pread(fd, bytes, len, offset - len) != len)
		return false;
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, bytes, len);
	FIN_CRC32C(crc);
	*check = crc;
	return true;
}

/* Does the open file go on where the mark is? */
static bool
fits(int fd, const SxTailMark *mark)
{
	uint32		check;

	return mark->offset == 0 ||
		(read_check(fd, mark->offset, &check) && check == mark->check);
}

void
sx_tail_mark(SxTail *tail)
{
	if (!read_check(tail->fd, tail->at.mark.offset, &tail->at.mark.check))
		ereport(ERROR,
				(errcode(ERRCODE_IO_ERROR),
				 errmsg("file \"%s\" changed while it was read", tail->path)));
}

/* ----------------------------------------------------------------- open files */

/*
 * Outside of any transaction: closed by sx_tail_close() alone.  The path that the owner
 * named may be a link, but not what lies beside it.
 */
static int
open_file(const SxTail *tail, const char *path, struct stat *st)
{
	bool		named = strcmp(path, tail->path) == 0;
	int			fd = BasicOpenFile(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | PG_BINARY |
								   (named ? 0 : O_NOFOLLOW));

	if (fd < 0)
		return -1;
	if (fstat(fd, st) < 0 || !S_ISREG(st->st_mode))
	{
		close(fd);
		errno = EINVAL;
		return -1;
	}
	ReserveExternalFD();
	return fd;
}

static void
close_file(int fd)
{
	close(fd);
	ReleaseExternalFD();
}

void
sx_tail_close(SxTail *tail)
{
	if (tail->fd >= 0)
		close_file(tail->fd);
	tail->fd = -1;
}

static char *
in_folder(const SxTail *tail, const char *name)
{
	return psprintf("%s/%s", tail->folder, name);
}

/* Takes a file as the one to be read from a mark on. */
static void
take_file(SxTail *tail, int fd, const struct stat *st, int64 offset, uint32 check)
{
	sx_tail_close(tail);
	tail->fd = fd;
	tail->st = *st;
	tail->at.mark.inode = st->st_ino;
	tail->at.mark.offset = offset;
	tail->at.mark.check = check;
	tail->at.device = st->st_dev;
	tail->moving_since = 0;
}

/* ----------------------------------------------------------------- rotated files */

static bool
has_suffix(const char *name, const char *suffix)
{
	size_t		len = strlen(name);
	size_t		suffix_len = strlen(suffix);

	return len > suffix_len && strcmp(name + len - suffix_len, suffix) == 0;
}

static bool
is_compressed(const char *name)
{
	static const char *const suffixes[] = {".gz", ".bz2", ".xz", ".zst", ".lz4", ".Z", ".zip"};

	for (int i = 0; i < lengthof(suffixes); i++)
	{
		if (has_suffix(name, suffixes[i]))
			return true;
	}
	return false;
}

/* Is it what rotation makes of the path: app.log.1, app.log-20240131, app.log.old? */
static bool
is_rotated_name(const SxTail *tail, const char *name)
{
	size_t		len = strlen(tail->name);
	const char *suffix = name + len;

	if (strncmp(name, tail->name, len) != 0 || *suffix == '\0' || strchr(".-_", *suffix) == NULL)
		return false;
	return isdigit((unsigned char) suffix[1]) || strcmp(suffix + 1, "old") == 0;
}

typedef struct Rotated
{
	char	   *name;			/* NULL: none */
	struct stat st;
	TimestampTz mtime;
	int64		offset;			/* read from here */
	uint32		check;
} Rotated;

/*
 * Has the file been read before?  Then its mark; not when another file has got its
 * inode since.
 */
static const SxTailMark *
find_done(const SxTail *tail, const char *name, const struct stat *st)
{
	for (int i = 0; i < tail->at.ndone; i++)
	{
		const SxTailMark *mark = &tail->at.done[i];
		struct stat opened;
		int			fd;
		bool		same;

		if (mark->inode != st->st_ino || mark->offset > st->st_size)
			continue;
		fd = open_file(tail, in_folder(tail, name), &opened);
		if (fd < 0)
			continue;
		same = opened.st_ino == st->st_ino && fits(fd, mark);
		close_file(fd);
		if (same)
			return mark;
	}
	return NULL;
}

/* Is this rotated file still to be read?  Then from where. */
static bool
is_unread(const SxTail *tail, const char *name, Rotated *file)
{
	const SxTailMark *mark;

	file->mtime = sx_file_mtime(&file->st);
	file->offset = 0;
	file->check = 0;
	mark = find_done(tail, name, &file->st);
	if (mark != NULL)
	{
		file->offset = mark->offset;
		file->check = mark->check;
		return file->offset < file->st.st_size;
	}
	if (is_compressed(name))
		return file->mtime > tail->at.since;
	return file->mtime >= tail->at.since && file->st.st_size > 0;
}

/* What a look at the folder wants to know of each rotated file. */
typedef bool (*SeeFunc) (SxTail *tail, const char *name, const struct stat *st, void *arg);

/* Calls see() for the regular files, until it returns true. */
static bool
scan_folder(SxTail *tail, SeeFunc see, void *arg)
{
	DIR		   *dir = AllocateDir(tail->folder);
	struct dirent *de;
	bool		found = false;

	tail->blind = dir == NULL &&
		(errno == EACCES || errno == EPERM || errno == ENOENT || errno == ENOTDIR);
	if (tail->blind)
	{
		snprintf(tail->status, sizeof(tail->status), "could not open directory \"%s\": %m",
				 tail->folder);
		return false;
	}
	while (!found && (de = ReadDir(dir, tail->folder)) != NULL)
	{
		char	   *path = in_folder(tail, de->d_name);
		struct stat st;

		if (lstat(path, &st) == 0 && S_ISREG(st.st_mode))
			found = see(tail, de->d_name, &st, arg);
		pfree(path);
		CHECK_FOR_INTERRUPTS();
	}
	FreeDir(dir);
	return found;
}

/* A SeeFunc: keeps the oldest file that was not read. */
static bool
see_oldest(SxTail *tail, const char *name, const struct stat *st, void *arg)
{
	Rotated    *oldest = arg;
	Rotated		file = {.st = *st};

	if (!is_rotated_name(tail, name) || st->st_ino == tail->at.mark.inode ||
		!is_unread(tail, name, &file))
		return false;
	if (oldest->name != NULL &&
		(oldest->mtime < file.mtime ||
		 (oldest->mtime == file.mtime && strcmp(oldest->name, name) < 0)))
		return false;
	*oldest = file;
	oldest->name = pstrdup(name);
	return false;
}

/* A SeeFunc: makes the rotated files that are there count as done. */
static bool
see_done(SxTail *tail, const char *name, const struct stat *st, void *arg)
{
	SxTailPosition *at = &tail->at;
	TimestampTz mtime = sx_file_mtime(st);

	if (!is_rotated_name(tail, name) || st->st_ino == at->mark.inode || mtime < at->since)
		return false;
	at->since = mtime + 1;
	return false;
}

/* A SeeFunc: is it the file that the position names? */
static bool
see_current(SxTail *tail, const char *name, const struct stat *st, void *arg)
{
	struct stat opened;
	int			fd;

	if (st->st_ino != tail->at.mark.inode || st->st_size < tail->at.mark.offset)
		return false;
	fd = open_file(tail, in_folder(tail, name), &opened);
	if (fd < 0)
		return false;
	if (opened.st_ino != tail->at.mark.inode || !fits(fd, &tail->at.mark))
	{
		close_file(fd);
		return false;
	}
	take_file(tail, fd, &opened, tail->at.mark.offset, tail->at.mark.check);
	return true;
}

/* ----------------------------------------------------------------- finding the file */

/* The path could not be opened, by errno. */
static void
set_unreadable(SxTail *tail)
{
	snprintf(tail->status, sizeof(tail->status),
			 errno == EINVAL ? "\"%s\" is not a regular file" :
			 errno == ENOENT ? "file \"%s\" does not exist" : "could not open file \"%s\": %m",
			 tail->path);
}

/* The path is to be read from its start. */
static bool
begin_path(SxTail *tail)
{
	struct stat st;
	int			fd = open_file(tail, tail->path, &st);

	if (fd < 0)
	{
		set_unreadable(tail);
		return false;
	}
	take_file(tail, fd, &st, 0, 0);
	return true;
}

/* The rotated files that are there now are none of ours. */
static bool
pass_rotated(SxTail *tail)
{
	tail->at.since = FROM_BEGINNING;
	tail->at.ndone = 0;
	(void) scan_folder(tail, see_done, NULL);
	if (tail->blind)
		tail->at.since = DT_NOBEGIN;
	return !tail->blind;
}

/* ERROR, or on to the start of what the path names; false when that is nothing. */
static bool
lose(SxTail *tail, const char *what)
{
	char	   *message = psprintf("file \"%s\" %s", tail->path, what);
	SxTailPosition before = tail->at;

	/* Not before there is a file to go on with. */
	if (!pass_rotated(tail) || !begin_path(tail))
	{
		tail->at = before;
		tail->moving_since = 0;
		return false;
	}
	sx_file_data_loss(tail->stream, message, "the file of that name is read from its start");
	pfree(message);
	tail->at.losses++;
	return true;
}

/* There is no file in the position. */
static bool
find_first(SxTail *tail, bool *moved)
{
	if (tail->at.since == DT_NOBEGIN)
	{
		if (!pass_rotated(tail))
			return false;
		*moved = true;
		return begin_path(tail);
	}
	if (access(tail->path, R_OK) == 0)
		return sx_tail_next(tail) && (*moved = true);
	set_unreadable(tail);
	tail->moving_since = 0;
	return false;
}

/* May the folder be believed?  To be asked before it is read. */
static bool
folder_settled(SxTail *tail)
{
	TimestampTz now = GetCurrentTimestamp();
	struct stat st;

	if (tail->moving_since == 0)
		tail->moving_since = now;
	return now - tail->moving_since > PATIENCE_US ||
		(stat(tail->folder, &st) == 0 && now - sx_file_mtime(&st) > SETTLED_US);
}

/* Opens the file of the position.  moved: at is new. */
static bool
find_file(SxTail *tail, bool *moved)
{
	struct stat st;
	bool		at_path = stat(tail->path, &st) == 0 && st.st_ino == tail->at.mark.inode;
	bool		settled;

	if (tail->at.mark.inode == 0)
		return find_first(tail, moved);
	if (at_path && st.st_size < tail->at.mark.offset)
		return lose(tail, "has become shorter") && (*moved = true);
	settled = folder_settled(tail);
	if ((at_path && see_current(tail, tail->name, &st, NULL)) ||
		scan_folder(tail, see_current, NULL))
		return true;
	if (tail->blind || !settled)
		return false;
	if (at_path)
		return lose(tail, "does not hold any more what was read from it") && (*moved = true);
	return lose(tail, "was replaced, and what it was before is not in its directory any more") &&
		(*moved = true);
}

SxTailState
sx_tail_look(SxTail *tail, bool *moved)
{
	struct stat at_path;
	bool		rotated;

	tail->status[0] = '\0';
	if (tail->fd < 0 && !find_file(tail, moved))
		return SX_TAIL_WAIT;

	/* In this order: see the head of the file. */
	rotated = stat(tail->path, &at_path) == 0;
	if (!rotated)
		snprintf(tail->status, sizeof(tail->status), "file \"%s\" does not exist", tail->path);
	rotated = rotated && at_path.st_size > 0 && at_path.st_ino != tail->at.mark.inode;
	if (fstat(tail->fd, &tail->st) < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", tail->path)));

	if (tail->st.st_size < tail->at.mark.offset || !fits(tail->fd, &tail->at.mark))
	{
		const char *what = tail->st.st_size < tail->at.mark.offset ?
			"has become shorter" : "does not hold any more what was read from it";

		if (!lose(tail, what))
			return SX_TAIL_WAIT;
		*moved = true;
		return sx_tail_look(tail, moved);
	}
	return rotated ? SX_TAIL_FINAL : SX_TAIL_GROWS;
}

/* ----------------------------------------------------------------- the next file */

/* The file at hand is done. */
static void
note_done(SxTail *tail)
{
	SxTailPosition *at = &tail->at;
	int			keep = 0;

	if (at->mark.inode == 0)
		return;

	/* a mark of the same inode is outdated */
	for (int i = 0; i < at->ndone; i++)
	{
		if (at->done[i].inode != at->mark.inode)
			at->done[keep++] = at->done[i];
	}
	at->ndone = Min(keep, SX_TAIL_DONE - 1);
	memmove(&at->done[1], &at->done[0], sizeof(SxTailMark) * at->ndone);
	at->done[0] = at->mark;
	at->ndone++;
	at->since = Max(at->since, sx_file_mtime(&tail->st));
}

/* The path's file, from its start unless it was read already under another name. */
static bool
go_to_path(SxTail *tail, const struct stat *expected)
{
	const SxTailMark *mark = find_done(tail, tail->name, expected);
	struct stat st;
	int			fd = open_file(tail, tail->path, &st);

	if (fd < 0)
	{
		set_unreadable(tail);
		return false;
	}
	if (st.st_ino != expected->st_ino)
	{
		close_file(fd);
		return false;
	}
	note_done(tail);
	take_file(tail, fd, &st, mark ? mark->offset : 0, mark ? mark->check : 0);
	return true;
}

static bool
go_to_rotated(SxTail *tail, const Rotated *file)
{
	struct stat st;
	int			fd;

	if (is_compressed(file->name))
	{
		note_done(tail);
		return lose(tail, psprintf("was rotated, and \"%s\" was compressed before it was read",
								   file->name));
	}
	fd = open_file(tail, in_folder(tail, file->name), &st);
	if (fd < 0 && errno != ENOENT)
		ereport(ERROR,
				(errcode(ERRCODE_IO_ERROR),
				 errmsg("could not open file \"%s\": %m", in_folder(tail, file->name))));
	if (fd < 0)
		return false;
	if (st.st_ino != file->st.st_ino)
	{
		close_file(fd);
		return false;
	}
	note_done(tail);
	take_file(tail, fd, &st, file->offset, file->check);
	return true;
}

bool
sx_tail_next(SxTail *tail)
{
	struct stat before;
	struct stat after;
	Rotated		oldest = {.name = NULL};
	TimestampTz since = tail->at.since;

	if (!folder_settled(tail) || stat(tail->path, &before) < 0)
		return false;

	/* What is older than this one, was there before it. */
	if (tail->at.mark.inode != 0)
		tail->at.since = Max(since, sx_file_mtime(&tail->st));
	(void) scan_folder(tail, see_oldest, &oldest);
	tail->at.since = since;
	if (tail->blind)
		return false;

	if (stat(tail->path, &after) < 0 || after.st_ino != before.st_ino)
		return false;
	if (oldest.name != NULL && oldest.st.st_ino != after.st_ino)
		return go_to_rotated(tail, &oldest);
	return go_to_path(tail, &after);
}
