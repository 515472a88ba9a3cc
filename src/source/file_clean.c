/*-------------------------------------------------------------------------
 *
 * file_clean.c
 *		Deletes or moves files that were taken (option "clean").
 *
 * Removing a file cannot be rolled back, so it comes last and may be repeated:
 *
 *		batch N: row of file_taken, output           COMMIT (asynchronous, as a rule)
 *		later, in a poll:
 *		  which pending files has every pipeline taken whole that reads the stream?
 *		  flush the WAL: those commits are on disk
 *		  remove them, if size and mtime are what they were when they were taken
 *		  fsync the folders
 *		  DELETE their rows of file_taken            COMMIT
 *
 * A crash before the removal leaves file and row, one after it leaves the row alone:
 * whoever opens the source next finds the rows and goes on.  The row goes only when
 * the file is durably gone, for a file without a row would be taken again.  It must go
 * at some time, or the table would grow for ever; then the name is free for
 * another file.
 *
 * A row whose file is not there was cleaned by another pipeline, or just before a
 * crash: it goes too, unless the folder has not changed since the file was written.
 * That is what the empty folder looks like on which a file system is not mounted.
 *
 * In step() all this happens in the caller's transaction.  What that has taken already it
 * may still take back, so nothing is cleaned after a batch of the same transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "miscadmin.h"
#include "plan/plan.h"
#include "source/file_clean.h"
#include "source/file_options.h"
#include "source/file_reader.h"
#include "storage/fd.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/process.h"

#define PAUSE_MS		1000	/* between two runs */
#define MAX_PAUSE_MS	60000	/* … when nothing can be done */
#define MAX_FILES		1000	/* of a run */
#define MAX_SUFFIX		100000

struct SxFileCleaner
{
	SxFileList *list;
	int			pipeline;
	SxFileClean how;
	const char *archive;
	MemoryContext context;
	MemoryContext run_context;
	List	   *pending;		/* names, in the order in which they were taken */
	long		pause_ms;
	TimestampTz next_run;
	bool		warned;
	char		status[MAXPGPATH + 128];
};

/* One run. */
typedef struct CleanRun
{
	SxFileCleaner *cleaner;
	List	   *there;			/* names of pending files that exist */
	List	   *gone;			/* … that do not */
	List	   *approved;		/* SxFile: may be removed */
	List	   *done;			/* names whose rows may go */
	List	   *left;			/* names that are nobody's concern any more */
} CleanRun;

SxFileCleaner *
sx_file_cleaner_create(SxFileList *list, int pipeline)
{
	SxFileCleaner *cleaner = palloc0(sizeof(SxFileCleaner));

	cleaner->list = list;
	cleaner->pipeline = pipeline;
	cleaner->how = sx_file_clean(list->stream);
	cleaner->archive = sx_stream_option(list->stream, "archive_path", NULL);
	cleaner->context = CurrentMemoryContext;
	cleaner->run_context = AllocSetContextCreate(CurrentMemoryContext, "streamext file clean",
												 ALLOCSET_DEFAULT_SIZES);
	cleaner->pause_ms = PAUSE_MS;
	return cleaner;
}

void
sx_file_cleaner_add(SxFileCleaner *cleaner, const char *name)
{
	MemoryContext old = MemoryContextSwitchTo(cleaner->context);

	cleaner->pending = lappend(cleaner->pending, pstrdup(name));
	cleaner->pause_ms = PAUSE_MS;
	MemoryContextSwitchTo(old);
}

long
sx_file_cleaner_wait(const SxFileCleaner *cleaner)
{
	if (cleaner->pending == NIL)
		return -1;
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), cleaner->next_run);
}

const char *
sx_file_cleaner_status(const SxFileCleaner *cleaner)
{
	return cleaner->status[0] != '\0' ? cleaner->status : NULL;
}

/* It stays where it is for now. */
static void
set_failure(SxFileCleaner *cleaner, const char *what, const char *path)
{
	snprintf(cleaner->status, sizeof(cleaner->status), "could not %s \"%s\": %m", what, path);
	if (!cleaner->warned)
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("could not %s \"%s\" of stream %s: %m", what, path,
						cleaner->list->stream->label),
				 errdetail("It was taken and will not be read again.  Cleaning is tried again.")));
	cleaner->warned = true;
}

/* ----------------------------------------------------------------- what may go */

static void
see_position(HeapTuple row, TupleDesc desc, void *arg)
{
	bool		isnull;
	TransactionId xmin = DatumGetTransactionId(SPI_getbinval(row, desc, 1, &isnull));

	if (TransactionIdIsCurrentTransactionId(xmin))
		*(bool *) arg = true;
}

/* Has our own transaction run a batch with the stream, in any pipeline? */
static bool
batch_is_uncommitted(const SxFileCleaner *cleaner)
{
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(cleaner->list->stream->relid)};
	bool		found = false;

	sx_catalog_rows("SELECT xmin FROM streamext.partition WHERE stream = $1",
					lengthof(types), types, values, NULL, see_position, &found);
	return found;
}

static void
folder_of(const SxFileCleaner *cleaner, const char *name, char *folder)
{
	strlcpy(folder, cleaner->list->directory ? cleaner->list->path : name, MAXPGPATH);
	if (!cleaner->list->directory)
		get_parent_directory(folder);
}

/* Has the folder changed since the file was written? */
static bool
folder_is_newer(const SxFileCleaner *cleaner, const char *name)
{
	const SxFile *taken = sx_file_list_taken(cleaner->list, name);
	char		folder[MAXPGPATH];
	struct stat st;

	folder_of(cleaner, name, folder);
	return taken == NULL ||
		(stat(folder, &st) == 0 && sx_file_mtime(&st) >= taken->mtime);
}

static void
look_at_pending(CleanRun *run)
{
	ListCell   *lc;

	foreach(lc, run->cleaner->pending)
	{
		char	   *name = lfirst(lc);
		struct stat st;

		if (list_length(run->there) + list_length(run->gone) >= MAX_FILES)
			break;
		if (lstat(sx_file_list_path(run->cleaner->list, name), &st) == 0)
			run->there = lappend(run->there, pstrdup(name));
		else if (errno == ENOENT && folder_is_newer(run->cleaner, name))
			run->gone = lappend(run->gone, pstrdup(name));
	}
}

static Datum
names_datum(const List *names)
{
	Datum	   *datums = palloc(sizeof(Datum) * Max(list_length(names), 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, names)
		datums[n++] = CStringGetTextDatum((char *) lfirst(lc));
	return PointerGetDatum(construct_array(datums, n, TEXTOID, -1, false, TYPALIGN_INT));
}

typedef struct Step
{
	int			pipeline;
	Oid			query;
} Step;

static void
collect_step(HeapTuple row, TupleDesc desc, void *arg)
{
	List	  **steps = arg;
	Step	   *step = palloc(sizeof(Step));

	step->pipeline = (int) sx_row_int(row, desc, 1, 0);
	step->query = sx_row_oid(row, desc, 2);
	*steps = lappend(*steps, step);
}

/* Other pipelines with a step that reads the stream, as an array of their ids. */
static Datum
other_readers(const SxFileCleaner *cleaner)
{
	Oid			stream = cleaner->list->stream->relid;
	Oid			types[] = {INT4OID, REGCLASSOID};
	Datum		values[] = {Int32GetDatum(cleaner->pipeline), ObjectIdGetDatum(stream)};
	List	   *steps = NIL;
	ListCell   *lc;
	Datum	   *ids;
	int			n = 0;

	sx_catalog_rows("SELECT p.pipeline, p.query FROM streamext.source s "
					"JOIN streamext.step p USING (pipeline) "
					"WHERE s.stream = $2 AND s.pipeline <> $1 ORDER BY 1",
					lengthof(types), types, values, NULL, collect_step, &steps);
	ids = palloc(sizeof(Datum) * Max(list_length(steps), 1));
	foreach(lc, steps)
	{
		Step	   *step = lfirst(lc);

		if ((n == 0 || DatumGetInt32(ids[n - 1]) != step->pipeline) &&
			get_rel_name(step->query) != NULL &&
			list_member_oid(sx_relation_streams(step->query), stream))
			ids[n++] = Int32GetDatum(step->pipeline);
	}
	return PointerGetDatum(construct_array(ids, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

static void
collect_approved(HeapTuple row, TupleDesc desc, void *arg)
{
	CleanRun   *run = arg;
	SxFile	   *file = palloc0(sizeof(SxFile));

	file->name = sx_row_text(row, desc, 1);
	file->size = sx_row_int(row, desc, 2, 0);
	file->mtime = sx_row_time(row, desc, 3);
	run->approved = lappend(run->approved, file);
}

/*
 * Locks our rows, so that a reset() waits or is seen.  A file that somebody has taken
 * in part is the one that its position names.
 */
static void
approve(CleanRun *run)
{
	const SxFileCleaner *cleaner = run->cleaner;
	Oid			types[] = {INT4OID, REGCLASSOID, TEXTARRAYOID, INT4ARRAYOID};
	Datum		values[] = {
		Int32GetDatum(cleaner->pipeline), ObjectIdGetDatum(cleaner->list->stream->relid),
		names_datum(run->there), other_readers(cleaner)
	};

	sx_catalog_rows("SELECT t.name, t.size, t.mtime FROM streamext.file_taken t "
					"WHERE t.pipeline = $1 AND t.stream = $2 AND t.name = ANY ($3) "
					"AND NOT EXISTS (SELECT FROM unnest($4) r(id) WHERE NOT EXISTS ("
					"SELECT FROM streamext.file_taken o WHERE o.pipeline = r.id AND o.stream = $2 "
					"AND o.name = t.name AND o.size = t.size AND o.mtime = t.mtime) "
					"OR EXISTS (SELECT FROM streamext.partition p WHERE p.pipeline = r.id AND p.stream = $2 "
					"AND p.position ? 'offset' AND p.position ->> 'name' = t.name)) "
					"FOR UPDATE OF t SKIP LOCKED",
					lengthof(types), types, values, NULL, collect_approved, run);
}

/*
 * End of the WAL that was inserted.  Where that is the start of a page, the function
 * gives what follows the header, which no flush will reach.
 */
static XLogRecPtr
wal_end(void)
{
	XLogRecPtr	end = GetXLogInsertRecPtr();

	if (XLogSegmentOffset(end, wal_segment_size) == SizeOfXLogLongPHD)
		return end - SizeOfXLogLongPHD;
	if (end % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		return end - SizeOfXLogShortPHD;
	return end;
}

/* ----------------------------------------------------------------- removing */

/* rename() that never overwrites; also on file systems that do not offer that. */
static int
move_file(const char *from, const char *to)
{
	struct stat st;

	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	if (lstat(to, &st) == 0)
	{
		errno = EEXIST;
		return -1;
	}
	return errno == ENOENT ? rename(from, to) : -1;
}

static int
archive_file(const SxFileCleaner *cleaner, const char *path)
{
	const char *name = strrchr(path, '/') + 1;
	char	   *to = psprintf("%s/%s", cleaner->archive, name);
	struct stat st;

	for (int suffix = 1; suffix < MAX_SUFFIX; suffix++)
	{
		if (move_file(path, to) == 0)
			return 0;
		if (errno == ENOENT && lstat(path, &st) < 0 && errno == ENOENT)
			return 0;			/* somebody else was faster */
		if (errno != EEXIST)
			return -1;
		to = psprintf("%s/%s.%d", cleaner->archive, name, suffix);
	}
	return -1;
}

/*
 * One that has changed since it was taken stays: what is new in it nobody has read.
 * The list reports it.
 */
static void
remove_file(CleanRun *run, const SxFile *file)
{
	SxFileCleaner *cleaner = run->cleaner;
	bool		archive = cleaner->how == SX_CLEAN_ARCHIVE;
	char	   *path = sx_file_list_path(cleaner->list, file->name);
	char	   *name = pstrdup(file->name);
	struct stat st;

	if (lstat(path, &st) == 0)
	{
		/* A link to a file is removed, not the file. */
		if (S_ISLNK(st.st_mode) && stat(path, &st) < 0)
			return;
		if (st.st_size != file->size || sx_file_mtime(&st) != file->mtime)
		{
			run->left = lappend(run->left, name);
			return;
		}
		if (archive ? archive_file(cleaner, path) < 0 : unlink(path) < 0 && errno != ENOENT)
		{
			set_failure(cleaner, archive ? "move file" : "delete file", path);
			return;
		}
		run->done = lappend(run->done, name);
	}
}

/* Makes removals durable.  Some file systems have no fsync for folders. */
static void
sync_folder(const char *folder)
{
	int			fd = OpenTransientFile(folder, O_RDONLY | PG_BINARY);

	if (fd < 0 || (pg_fsync(fd) != 0 && errno != EBADF && errno != EINVAL))
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not fsync directory \"%s\": %m", folder)));
	CloseTransientFile(fd);
}

static void
sync_folders(CleanRun *run)
{
	char		last[MAXPGPATH] = "";
	ListCell   *lc;

	/* What was moved must not be lost on the way. */
	if (run->cleaner->how == SX_CLEAN_ARCHIVE)
		sync_folder(run->cleaner->archive);
	foreach(lc, run->done)
	{
		char		folder[MAXPGPATH];

		folder_of(run->cleaner, lfirst(lc), folder);
		if (strcmp(folder, last) != 0)
			sync_folder(folder);
		strlcpy(last, folder, sizeof(last));
	}
}

static void
delete_rows(const CleanRun *run)
{
	const SxFileCleaner *cleaner = run->cleaner;
	Oid			types[] = {INT4OID, REGCLASSOID, TEXTARRAYOID};
	Datum		values[] = {
		Int32GetDatum(cleaner->pipeline), ObjectIdGetDatum(cleaner->list->stream->relid),
		names_datum(run->done)
	};

	sx_catalog_exec("DELETE FROM streamext.file_taken "
					"WHERE pipeline = $1 AND stream = $2 AND name = ANY ($3)",
					lengthof(types), types, values, NULL);
}

/* ----------------------------------------------------------------- a run */

static int
by_name(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

/* Takes names out of pending; forget: out of the files taken, too. */
static void
settle(CleanRun *run, List *names, bool forget)
{
	SxFileCleaner *cleaner = run->cleaner;
	ListCell   *lc;

	list_sort(names, by_name);
	foreach(lc, cleaner->pending)
	{
		char	   *name = lfirst(lc);

		if (names == NIL ||
			bsearch(lc, names->elements, list_length(names), sizeof(ListCell),
					(int (*) (const void *, const void *)) by_name) == NULL)
			continue;
		if (forget)
			sx_file_list_forget(cleaner->list, name);
		cleaner->pending = foreach_delete_current(cleaner->pending, lc);
		pfree(name);
	}
}

/* In a transaction. */
static void
clean(CleanRun *run)
{
	ListCell   *lc;

	if (batch_is_uncommitted(run->cleaner))
		return;
	look_at_pending(run);
	if (run->there != NIL)
		approve(run);
	if (run->approved != NIL)
	{
		XLogFlush(wal_end());
		foreach(lc, run->approved)
		{
			CHECK_FOR_INTERRUPTS();
			remove_file(run, lfirst(lc));
		}
		if (run->done != NIL)
			sync_folders(run);
	}
	run->done = list_concat(run->done, run->gone);
	if (run->done != NIL)
		delete_rows(run);
}

/* When to look again: soon if there was something to do, else less and less often. */
static void
set_pause(CleanRun *run)
{
	SxFileCleaner *cleaner = run->cleaner;
	bool		useful = run->done != NIL || run->left != NIL;

	cleaner->pause_ms = useful ? PAUSE_MS : Min(cleaner->pause_ms * 2, MAX_PAUSE_MS);
	cleaner->next_run = GetCurrentTimestamp();
	if (!useful || list_length(cleaner->pending) < MAX_FILES)
		cleaner->next_run += cleaner->pause_ms * INT64CONST(1000);
}

void
sx_file_cleaner_run(SxFileCleaner *cleaner, bool in_time)
{
	bool		own = !IsTransactionState();
	CleanRun	run = {.cleaner = cleaner};
	MemoryContext old = CurrentMemoryContext;

	if (cleaner->pending == NIL ||
		(in_time && cleaner->next_run > GetCurrentTimestamp()))
		return;

	cleaner->status[0] = '\0';
	if (own)
		sx_transaction_begin();
	MemoryContextSwitchTo(cleaner->run_context);
	clean(&run);
	if (own)
		sx_transaction_end();
	MemoryContextSwitchTo(cleaner->run_context);

	if (cleaner->status[0] == '\0')
		cleaner->warned = false;
	settle(&run, run.left, false);
	settle(&run, run.done, true);
	set_pause(&run);
	MemoryContextSwitchTo(old);
	MemoryContextReset(cleaner->run_context);
}
