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
 * The scan looks at all names each time.  Files are waiting in order of mtime, then
 * name; a file that appears late with an older mtime simply comes first in the next
 * scan.
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
	const char *name = MemoryContextStrdup(list->context, file->name);
	bool		found;
	SxFile	   *taken = hash_search(list->taken, &name, HASH_ENTER, &found);

	if (!found)
		list->ntaken++;
	taken->name = name;
	taken->size = file->size;
	taken->mtime = file->mtime;
	taken->reported = false;
}

SxFile *
sx_file_list_taken(SxFileList *list, const char *name)
{
	return hash_search(list->taken, &name, HASH_FIND, NULL);
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
	snprintf(list->status, sizeof(list->status),
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

/* One name of the directory, or one path that the pattern matches. */
static void
consider(SxFileList *list, const char *name, const char *path, bool all)
{
	const char *slash = strrchr(name, '/');
	char		first = slash ? slash[1] : name[0];
	struct stat st;
	SxFile		file = {.name = name};
	SxFile	   *taken;

	if (first == '.' || first == '_')
		return;
	if (stat(path, &st) < 0)
	{
		if (errno == ENOENT)
			return;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", path)));
	}
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
	taken = all ? NULL : sx_file_list_taken(list, name);
	if (taken == NULL)
		add_waiting(list, &file);
	else
		check_unchanged(list, taken, &file);
}

static void
scan_directory(SxFileList *list, bool all)
{
	DIR		   *dir = AllocateDir(list->path);
	struct dirent *de;

	/* ReadDir raises what went wrong in AllocateDir, too. */
	while ((de = ReadDir(dir, list->path)) != NULL)
	{
		char		path[MAXPGPATH * 2];

		snprintf(path, sizeof(path), "%s/%s", list->path, de->d_name);
		consider(list, de->d_name, path, all);
		CHECK_FOR_INTERRUPTS();
	}
	FreeDir(dir);
}

static int
glob_failed(const char *path, int error)
{
	/* A directory that went away meanwhile is no failure. */
	return error != ENOENT && error != ENOTDIR;
}

static void
scan_pattern(SxFileList *list, bool all)
{
	glob_t		found;
	int			rc = glob(list->path, GLOB_NOSORT, glob_failed, &found);

	if (rc == GLOB_NOMATCH)
		snprintf(list->status, sizeof(list->status), "no file matches \"%s\"", list->path);
	else if (rc != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read the directories of \"%s\": %m", list->path)));
	else
	{
		/* glob() allocates with malloc, and consider() may throw. */
		PG_TRY();
		{
			for (size_t i = 0; i < found.gl_pathc; i++)
				consider(list, found.gl_pathv[i], found.gl_pathv[i], all);
		}
		PG_FINALLY();
		{
			globfree(&found);
		}
		PG_END_TRY();
	}
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

void
sx_file_list_scan(SxFileList *list, bool all)
{
	struct stat st;

	MemoryContextReset(list->scan_context);
	list->waiting = NULL;
	list->nwaiting = 0;
	list->status[0] = '\0';

	if (stat(list->path, &st) == 0)
	{
		list->directory = S_ISDIR(st.st_mode);
		if (list->directory)
			scan_directory(list, all);
		else
			consider(list, list->path, list->path, all);
	}
	else if (errno != ENOENT && errno != ENOTDIR)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open \"%s\": %m", list->path)));
	else if (strpbrk(list->path, "*?[") != NULL)
	{
		list->directory = false;
		scan_pattern(list, all);
	}
	else
		snprintf(list->status, sizeof(list->status),
				 "directory \"%s\" does not exist", list->path);

	if (list->nwaiting > 1)
		qsort(list->waiting, list->nwaiting, sizeof(SxFile), by_age);
}
