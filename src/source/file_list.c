/*-------------------------------------------------------------------------
 *
 * file_list.c
 *		The files behind a stream of connector 'file': taken, and waiting.
 *
 * A file is known by its name alone.  One that was taken is never taken again: when
 * its size or mtime is not what it was, that is reported, once per process, and
 * nothing else, because nobody can tell which of its records were seen before.
 *
 * Ignored are names that begin with "." or "_" (by convention files that are still
 * being written), everything but regular files, and names that are not valid in the
 * server's encoding, which could not be remembered.
 *
 * A scan looks at all names.  Files are waiting in order of mtime, then name; a file
 * that appears late with an older mtime simply comes first in the next scan.
 *
 * Polling must not cost a stat() per file.  The mtime of the folder changes when a name
 * comes or goes, so while it stays as it is nothing is read; when it was too young at the
 * last scan to tell (its clock ticks in milliseconds), or something could not be read,
 * names are read again, and always after RESCAN_US.  A scan asks for the state of new names
 * only.  Files that were taken are looked at in rounds, LOOK_FILES of them or so each
 * time: with 10,000 of them, a change is found within fifty polls.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <glob.h>
#include <sys/stat.h>

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "source/file_list.h"
#include "source/file_reader.h"
#include "storage/fd.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define LOOK_FILES		200
#define SETTLED_US		INT64CONST(100000)
#define RESCAN_US		(INT64CONST(30) * USECS_PER_SEC)

static uint32
name_hash(const void *key, Size keysize)
{
	const char *name = *(const char *const *) key;

	return DatumGetUInt32(hash_any((const unsigned char *) name, strlen(name)));
}

static int
name_match(const void *a, const void *b, Size keysize)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

SxFileList *
sx_file_list_create(SxStream *stream)
{
	SxFileList *list = palloc0(sizeof(SxFileList));
	HASHCTL		ctl = {
		.keysize = sizeof(char *),
		.entrysize = sizeof(SxFile),
		.hash = name_hash,
		.match = name_match,
		.hcxt = CurrentMemoryContext
	};

	list->stream = stream;
	list->path = sx_stream_option(stream, "path", NULL);
	list->directory = strpbrk(list->path, "*?[") == NULL;
	list->watched_mtime = DT_NOBEGIN;
	list->context = CurrentMemoryContext;
	list->scan_context = AllocSetContextCreate(CurrentMemoryContext,
											   "streamext file scan",
											   ALLOCSET_DEFAULT_SIZES);
	list->taken = hash_create("streamext files taken", 256, &ctl,
							  HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	return list;
}

void
sx_file_list_take(SxFileList *list, const SxFile *file)
{
	bool		found;
	SxFile	   *taken = hash_search(list->taken, &file->name, HASH_ENTER, &found);

	if (!found)
	{
		taken->name = MemoryContextStrdup(list->context, file->name);
		taken->hash = name_hash(&taken->name, 0);
	}
	taken->size = file->size;
	taken->mtime = file->mtime;
	taken->reported = false;
}

SxFile *
sx_file_list_taken(SxFileList *list, const char *name)
{
	return hash_search(list->taken, &name, HASH_FIND, NULL);
}

void
sx_file_list_forget(SxFileList *list, const char *name)
{
	SxFile	   *taken = sx_file_list_taken(list, name);
	char	   *own_name;

	if (taken == NULL)
		return;
	own_name = unconstify(char *, taken->name);
	hash_search(list->taken, &name, HASH_REMOVE, NULL);
	pfree(own_name);
	list->watched_mtime = DT_NOBEGIN;
}

char *
sx_file_list_path(const SxFileList *list, const char *name)
{
	return list->directory ? psprintf("%s/%s", list->path, name) : pstrdup(name);
}

/* A taken file is as it was, or its change is reported. */
static void
check_unchanged(SxFileList *list, SxFile *taken, const SxFile *now)
{
	if (taken->size == now->size && taken->mtime == now->mtime)
		return;
	list->changed = true;
	snprintf(list->changed_status, sizeof(list->changed_status),
			 "file \"%s\" has changed after it was taken", now->name);
	if (taken->reported)
		return;
	taken->reported = true;
	ereport(WARNING,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("file \"%s\" of stream %s has changed after it was taken",
					now->name, list->stream->label),
			 errdetail("It had " INT64_FORMAT " bytes and has " INT64_FORMAT "; what is new in it is not read.",
					   taken->size, now->size),
			 errhint("Write files under a name that begins with \".\" and rename them when they are complete; put new data into new files.")));
}

/* Looks at the files that were taken: all of them, or those of the next round. */
static void
check_taken(SxFileList *list, bool all)
{
	HASH_SEQ_STATUS seq;
	SxFile	   *taken;
	uint32		rounds = hash_get_num_entries(list->taken) / LOOK_FILES + 1;

	if (list->round >= rounds)
		list->round = 0;
	if (all || list->round == 0)
		list->changed = false;
	hash_seq_init(&seq, list->taken);
	while ((taken = hash_seq_search(&seq)) != NULL)
	{
		SxFile		now = {.name = taken->name};
		char		path[MAXPGPATH * 2];
		struct stat st;

		if (!all && taken->hash % rounds != list->round)
			continue;
		if (list->directory)
			snprintf(path, sizeof(path), "%s/%s", list->path, taken->name);
		else
			strlcpy(path, taken->name, sizeof(path));
		if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
			continue;
		now.size = st.st_size;
		now.mtime = sx_file_mtime(&st);
		check_unchanged(list, taken, &now);
	}
	list->round = all ? 0 : (list->round + 1) % rounds;
	if (list->round == 0 && !list->changed)
		list->changed_status[0] = '\0';
}

/* Something cannot be read at the moment. */
static void
set_unreadable(SxFileList *list, const char *path, int error)
{
	errno = error;
	snprintf(list->status, sizeof(list->status), "could not open \"%s\": %s",
			 path, strerror(error));
	list->again = true;
	list->complete = false;
}

/* What passes when somebody mends it; anything else is an ERROR. */
static bool
is_passing(int error)
{
	return error == EACCES || error == EPERM || error == ENOENT || error == ENOTDIR ||
		error == ESTALE;
}

static void
add_waiting(SxFileList *list, const SxFile *file)
{
	MemoryContext old = MemoryContextSwitchTo(list->scan_context);

	if (list->waiting == NULL)
	{
		list->capacity = 64;
		list->waiting = palloc(sizeof(SxFile) * list->capacity);
	}
	else if (list->nwaiting == list->capacity)
	{
		list->capacity *= 2;
		list->waiting = repalloc_huge(list->waiting, sizeof(SxFile) * list->capacity);
	}
	list->waiting[list->nwaiting] = *file;
	list->waiting[list->nwaiting++].name = pstrdup(file->name);
	MemoryContextSwitchTo(old);
}

/* Is it a name to look at?  Hidden ones are not, nor, unless all, those taken. */
static bool
is_wanted(SxFileList *list, const char *name, bool all)
{
	const char *slash = strrchr(name, '/');
	char		first = slash ? slash[1] : name[0];

	return first != '.' && first != '_' && sx_slot_reads_file(list->stream, name) &&
		(all || sx_file_list_taken(list, name) == NULL);
}

/* One wanted name of the directory, or path that the pattern matches. */
static void
consider(SxFileList *list, const char *name, const char *path)
{
	struct stat st;
	SxFile		file = {.name = name};

	/* the owner may have named a link; what somebody puts into the folder is not followed */
	if ((strcmp(path, list->path) == 0 ? stat(path, &st) : lstat(path, &st)) < 0)
	{
		if (errno == ENOENT)
			return;
		if (!is_passing(errno))
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not stat file \"%s\": %m", path)));
		set_unreadable(list, path, errno);
		return;
	}
	if (S_ISLNK(st.st_mode))
		snprintf(list->status, sizeof(list->status),
				 "\"%s\" is a symbolic link, which is not followed", path);
	if (!S_ISREG(st.st_mode))
		return;
	if (!pg_verifymbstr(name, strlen(name), true))
	{
		strlcpy(list->status, "a file name that is not valid in the server encoding is ignored",
				sizeof(list->status));
		return;
	}

	file.size = st.st_size;
	file.mtime = sx_file_mtime(&st);
	add_waiting(list, &file);
}

static void
scan_directory(SxFileList *list, bool all)
{
	DIR		   *dir = AllocateDir(list->path);
	struct dirent *de;

	if (dir == NULL && is_passing(errno))
	{
		set_unreadable(list, list->path, errno);
		return;
	}
	/* ReadDir raises what else went wrong in AllocateDir. */
	while ((de = ReadDir(dir, list->path)) != NULL)
	{
		char		path[MAXPGPATH * 2];

		if (!is_wanted(list, de->d_name, all))
			continue;
		snprintf(path, sizeof(path), "%s/%s", list->path, de->d_name);
		consider(list, de->d_name, path);
		CHECK_FOR_INTERRUPTS();
	}
	FreeDir(dir);
}

/* glob() has no argument to hand on. */
static int	glob_error;

static int
glob_failed(const char *path, int error)
{
	/* A directory that went away meanwhile is no failure. */
	if (error != ENOENT && error != ENOTDIR)
		glob_error = error;
	return glob_error != 0 && !is_passing(glob_error);
}

static void
scan_pattern(SxFileList *list, bool all)
{
	glob_t		found;
	int			rc;

	glob_error = 0;
	rc = glob(list->path, GLOB_NOSORT, glob_failed, &found);
	if (rc != 0 && rc != GLOB_NOMATCH)
	{
		errno = glob_error ? glob_error : ENOMEM;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read the directories of \"%s\": %m", list->path)));
	}
	if (rc == GLOB_NOMATCH)
		snprintf(list->status, sizeof(list->status), "no file matches \"%s\"", list->path);
	else
	{
		/* glob() allocates with malloc, and consider() may throw. */
		PG_TRY();
		{
			for (size_t i = 0; i < found.gl_pathc; i++)
			{
				if (is_wanted(list, found.gl_pathv[i], all))
					consider(list, found.gl_pathv[i], found.gl_pathv[i]);
			}
		}
		PG_FINALLY();
		{
			globfree(&found);
		}
		PG_END_TRY();
	}
	if (glob_error != 0)
		set_unreadable(list, list->path, glob_error);
}

static int
by_age(const void *a, const void *b)
{
	const SxFile *fa = a;
	const SxFile *fb = b;

	if (fa->mtime != fb->mtime)
		return fa->mtime < fb->mtime ? -1 : 1;
	return strcmp(fa->name, fb->name);
}

/* The folder whose mtime changes with each name that comes or goes, if it is one. */
static void
set_watched(SxFileList *list, bool is_pattern)
{
	const char *slash = strrchr(list->path, '/');
	MemoryContext old = MemoryContextSwitchTo(list->scan_context);

	if (list->directory)
		list->watched = list->path;
	else if (is_pattern && slash > list->path && strpbrk(list->path, "*?[") > slash)
		list->watched = pnstrdup(list->path, slash - list->path);
	MemoryContextSwitchTo(old);
}

/* Its mtime, DT_NOBEGIN when that may not be the last one of this tick. */
static TimestampTz
watched_mtime(const SxFileList *list)
{
	struct stat st;
	TimestampTz mtime;

	if (list->watched == NULL || stat(list->watched, &st) < 0)
		return DT_NOBEGIN;
	mtime = sx_file_mtime(&st);
	return GetCurrentTimestamp() - mtime < SETTLED_US ? DT_NOBEGIN : mtime;
}

/* Sets waiting. */
static void
scan_names(SxFileList *list, bool all)
{
	struct stat st;
	bool		exists = stat(list->path, &st) == 0;
	int			error = errno;
	bool		is_pattern = !exists && strpbrk(list->path, "*?[") != NULL;

	MemoryContextReset(list->scan_context);
	list->waiting = NULL;
	list->nwaiting = 0;
	list->watched = NULL;
	list->again = false;
	list->complete = exists || is_pattern;
	list->status[0] = '\0';
	list->scanned = GetCurrentTimestamp();
	if (exists)
		list->directory = S_ISDIR(st.st_mode);
	else if (is_pattern)
		list->directory = false;
	set_watched(list, is_pattern);
	list->watched_mtime = watched_mtime(list);

	if (exists && list->directory)
		scan_directory(list, all);
	else if (exists && is_wanted(list, list->path, all))
		consider(list, list->path, list->path);
	else if (exists)
		;						/* taken */
	else if (is_pattern)
		scan_pattern(list, all);
	else if (error == ENOENT || error == ENOTDIR)
		snprintf(list->status, sizeof(list->status),
				 "directory \"%s\" does not exist", list->path);
	else if (is_passing(error))
		set_unreadable(list, list->path, error);
	else
	{
		errno = error;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open \"%s\": %m", list->path)));
	}

	if (list->nwaiting > 1)
		qsort(list->waiting, list->nwaiting, sizeof(SxFile), by_age);
}

void
sx_file_list_scan(SxFileList *list, bool all)
{
	scan_names(list, all);
	if (!all)
		check_taken(list, true);
}

bool
sx_file_list_look(SxFileList *list)
{
	bool		unchanged = !list->again && list->watched_mtime != DT_NOBEGIN &&
		GetCurrentTimestamp() - list->scanned < RESCAN_US &&
		watched_mtime(list) == list->watched_mtime;

	if (!unchanged)
		scan_names(list, false);
	check_taken(list, false);
	return !unchanged;
}

const char *
sx_file_list_status(const SxFileList *list)
{
	if (list->status[0] != '\0')
		return list->status;
	return list->changed_status[0] != '\0' ? list->changed_status : NULL;
}
