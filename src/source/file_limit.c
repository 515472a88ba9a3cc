/*-------------------------------------------------------------------------
 *
 * file_limit.c
 *		How far a lane may read the files of a stream: as far as another pipeline has.
 *
 * The other pipeline's rows of file_taken say which files, with the sizes they had then:
 * a lane reads no more of them, though they have grown.  Its position says which of them it
 * has taken in part, and how far.  That file the lane reads last, so that it is in the
 * middle of it exactly when the other one is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "source/file_limit.h"
#include "source/file_taken.h"
#include "source/source.h"
#include "utils/memutils.h"

SxFileLimit *
sx_file_limit_create(void)
{
	SxFileLimit *limit = palloc0(sizeof(SxFileLimit));

	limit->context = AllocSetContextCreate(CurrentMemoryContext, "streamext file limit",
										   ALLOCSET_DEFAULT_SIZES);
	return limit;
}

static void
add_taken(const SxFile *file, void *arg)
{
	SxFileLimit *limit = arg;
	MemoryContext old = MemoryContextSwitchTo(limit->context);

	if (limit->nfiles == limit->room)
	{
		limit->room = Max(limit->room * 2, 64);
		limit->files = limit->files == NULL ? palloc(sizeof(SxFile) * limit->room) :
			repalloc_huge(limit->files, sizeof(SxFile) * limit->room);
	}
	limit->files[limit->nfiles] = *file;
	limit->files[limit->nfiles++].name = pstrdup(file->name);
	MemoryContextSwitchTo(old);
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const SxFile *) a)->name, ((const SxFile *) b)->name);
}

bool
sx_file_limit_set(SxFileLimit *limit, int pipeline, Oid stream, const char *position)
{
	MemoryContext old;

	if (position != NULL && limit->position != NULL && strcmp(position, limit->position) == 0)
		return false;

	MemoryContextReset(limit->context);
	limit->files = NULL;
	limit->nfiles = limit->room = 0;
	limit->current = NULL;
	sx_file_taken_read(pipeline, stream, add_taken, limit);
	if (limit->nfiles > 1)
		qsort(limit->files, limit->nfiles, sizeof(SxFile), by_name);

	old = MemoryContextSwitchTo(limit->context);
	limit->position = position ? pstrdup(position) : NULL;
	limit->offset = sx_position_int(position, "offset", -1);
	if (limit->offset >= 0)
		limit->current = sx_position_field(position, "name");
	MemoryContextSwitchTo(old);
	return true;
}

const SxFile *
sx_file_limit_find(const SxFileLimit *limit, const char *name)
{
	SxFile		key = {.name = name};

	return limit->nfiles == 0 ? NULL :
		bsearch(&key, limit->files, limit->nfiles, sizeof(SxFile), by_name);
}

bool
sx_file_limit_is_current(const SxFileLimit *limit, const char *name)
{
	return limit->current != NULL && name != NULL && strcmp(limit->current, name) == 0;
}

void
sx_file_limit_filter(const SxFileLimit *limit, SxFileList *list)
{
	SxFile		last = {.name = NULL};
	int			n = 0;

	for (int i = 0; i < list->nwaiting; i++)
	{
		if (sx_file_limit_is_current(limit, list->waiting[i].name))
			last = list->waiting[i];
		else if (sx_file_limit_find(limit, list->waiting[i].name) != NULL)
			list->waiting[n++] = list->waiting[i];
	}
	if (last.name != NULL)
		list->waiting[n++] = last;
	list->nwaiting = n;
}
