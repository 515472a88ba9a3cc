/*-------------------------------------------------------------------------
 *
 * source_file_lane.c
 *		The connector 'file' in a lane: reads as far as another pipeline has.
 *
 * file_limit.c knows which files these are.  A lane cleans nothing: that is the other
 * pipeline's task, which waits for the lane.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "source/file_options.h"
#include "source/source_file.h"
#include "source/source_tail.h"

/* A file that a lane shares with another pipeline, which has got no further with it? */
bool
sx_file_lane_is_blocked(const FileSource *fs)
{
	if (fs->limit == NULL || fs->current == NULL)
		return false;
	if (sx_file_limit_is_current(fs->limit, fs->current))
		return fs->at.offset >= fs->limit->offset;
	return sx_file_limit_find(fs->limit, fs->current) == NULL;
}

/* Of the file as the other pipeline took it, a lane reads as much as that one has. */
static int64
size_in_lane(FileSource *fs, BatchFile *file)
{
	const SxFile *taken = sx_file_limit_find(fs->limit, file->name);

	if (taken != NULL && file->begun)
	{
		file->at.size = taken->size;
		file->at.mtime = taken->mtime;
	}
	return sx_file_limit_is_current(fs->limit, file->name) ? fs->limit->offset : file->at.size;
}

SxFileResult
sx_file_lane_read(FileSource *fs, BatchFile *file)
{
	bool		whole = fs->req.max_files > 0;
	SxFilePosition at = file->at;
	SxFileResult result;

	at.size = size_in_lane(fs, file);
	result = sx_file_read(fs->base.stream, sx_file_list_path(fs->list, file->name), &at,
						  fs->buffer, whole ? 0 : fs->req.max_rows, whole ? 0 : fs->req.max_bytes);
	file->at.offset = at.offset;
	file->at.line = at.line;
	file->ended = result != SX_FILE_MORE && at.size == file->at.size;
	return result;
}

/* -------------------------------------------------------------------- lanes */

bool
sx_file_lane_start(SxStream *stream, SxLaneStart *start)
{
	if (sx_file_is_tail(stream))
		return sx_tail_lane_start(stream, start);
	if (sx_file_clean(stream) != SX_CLEAN_OFF)
		start->missing = psprintf("Files that %s has taken and cleaned are not read again.",
								  stream->label);
	return true;
}

/* What waits is found anew when the limit is another one. */
void
sx_file_limit(SxSource *source, int pipeline, const SxPart *parts, int nparts)
{
	FileSource *fs = (FileSource *) source;

	if (fs->limit == NULL)
		fs->limit = sx_file_limit_create();
	if (sx_file_limit_set(fs->limit, pipeline, source->stream->relid,
						  nparts > 0 ? parts[0].position : NULL))
		fs->scanned = 0;
	source->limited = true;
}

/* What cannot be looked at now may hold files that the other pipeline has read. */
bool
sx_file_at_limit(SxSource *source)
{
	FileSource *fs = (FileSource *) source;
	int			next = fs->loaded ? fs->nconsidered : fs->next_waiting;
	BatchFile  *last = fs->nfiles > 0 ? &fs->files[fs->nfiles - 1] : NULL;
	const char *current = last == NULL ? fs->current : last->ended ? NULL : last->name;
	int64		offset = last == NULL ? fs->at.offset : last->at.offset;
	int64		ntaken = fs->ntaken;

	for (int i = 0; i < fs->nfiles; i++)
		ntaken += fs->files[i].begun;
	if (fs->scanned == 0 || !fs->list->complete || fs->list->again ||
		next < fs->list->nwaiting ||
		ntaken > sx_position_int(fs->limit->position, "files", 0))
		return false;
	if (fs->limit->current == NULL)
		return current == NULL;
	return sx_file_limit_is_current(fs->limit, current) && offset == fs->limit->offset;
}
