/*-------------------------------------------------------------------------
 *
 * source_file_batch.c
 *		The connector 'file': what a batch takes of the files.
 *
 * With max_files_per_batch, so many files at most and each of them whole; without, files
 * until the batch is full, the last one in parts that end where a record ends.  An empty
 * file is taken like any other, so it may make a batch without records.
 *
 * The offset of a record is its number in the file, from 1; blank lines and a header
 * are counted, so for formats of one line a record it is the number of the line.
 * The topic is the name of the file.
 *
 * A file that cannot be opened waits until it can be.  One that is gone before it was
 * begun was never there; one that is gone, or has become shorter, before it was taken whole
 * is a loss of data.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "source/file_options.h"
#include "source/file_taken.h"
#include "source/source_file.h"
#include "utils/json.h"
#include "utils/memutils.h"

/* ----------------------------------------------------- files that are left out */

/* The file cannot be read now: says so and comes back to it. */
void
sx_file_leave_unreadable(FileSource *fs, const char *path)
{
	fs->list->again = true;
	snprintf(fs->status, sizeof(fs->status),
			 "could not open file \"%s\" for reading: %m", path);
}

void
sx_file_log_gone(const FileSource *fs, const char *path)
{
	ereport(LOG,
			(errmsg("file \"%s\" of stream %s was removed before it was read",
					path, fs->base.stream->label)));
}

/* ------------------------------------------------------------------ reading */

static BatchFile *
add_file(FileSource *fs, const char *name)
{
	BatchFile  *file;

	if (fs->nfiles == fs->capacity)
	{
		fs->capacity = Max(fs->capacity * 2, 16);
		fs->files = fs->files == NULL ?
			palloc(sizeof(BatchFile) * fs->capacity) :
			repalloc_huge(fs->files, sizeof(BatchFile) * fs->capacity);
	}
	file = &fs->files[fs->nfiles++];
	memset(file, 0, sizeof(BatchFile));
	file->name = pstrdup(name);
	file->first_record = fs->buffer->nrecords;
	return file;
}

/* Reads a file that the batch has room for. */
static SxFileResult
read_file(FileSource *fs, BatchFile *file)
{
	bool		whole = fs->req.max_files > 0;
	SxFileResult result;

	if (fs->limit != NULL)
		return sx_file_lane_read(fs, file);

	result = sx_file_read(fs->base.stream,
						  sx_file_list_path(fs->list, file->name),
						  &file->at, fs->buffer,
						  whole ? 0 : fs->req.max_rows,
						  whole ? 0 : fs->req.max_bytes);
	file->ended = result != SX_FILE_MORE;
	return result;
}

/* The rest of a file is lost: ERROR, or go on without it. */
static void
lose_rest(FileSource *fs, const BatchFile *file, const char *how)
{
	char	   *what = psprintf("file \"%s\" %s before it was read to its end",
								sx_file_list_path(fs->list, file->name), how);

	sx_file_data_loss(fs->base.stream, what, "the rest of the file is left out");
	fs->new_losses++;
}

static bool
batch_is_full(const FileSource *fs)
{
	return (fs->req.max_files > 0 && fs->nfiles >= fs->req.max_files) ||
		(fs->req.max_rows > 0 && fs->buffer->nrecords >= fs->req.max_rows) ||
		(fs->req.max_bytes > 0 && fs->buffer->nbytes >= fs->req.max_bytes) ||
		(fs->nfiles > 0 && !fs->files[fs->nfiles - 1].ended);
}

/* The file that earlier batches have begun. */
static void
read_current(FileSource *fs)
{
	BatchFile  *file = add_file(fs, fs->current);

	file->at = fs->at;
	switch (read_file(fs, file))
	{
		case SX_FILE_GONE:
			lose_rest(fs, file, "was removed");
			break;
		case SX_FILE_SHORTER:
			lose_rest(fs, file, "has become shorter");
			break;
		case SX_FILE_UNREADABLE:
			/* not a code that would stop the pipeline */
			ereport(ERROR,
					(errcode(ERRCODE_IO_ERROR),
					 errmsg("could not open file \"%s\" for reading: %m",
							sx_file_list_path(fs->list, file->name))));
			break;
		case SX_FILE_MORE:
		case SX_FILE_ENDED:
			break;
	}
}

/* One that nobody has begun: what cannot be read now is left out of the batch. */
static void
read_waiting(FileSource *fs, const char *name)
{
	BatchFile  *file = add_file(fs, name);
	char	   *path = sx_file_list_path(fs->list, name);

	file->begun = true;
	file->at.size = -1;
	switch (read_file(fs, file))
	{
		case SX_FILE_GONE:
			fs->nfiles--;
			sx_file_log_gone(fs, path);
			break;
		case SX_FILE_UNREADABLE:
			fs->nfiles--;
			sx_file_leave_unreadable(fs, path);
			break;
		case SX_FILE_SHORTER:
			lose_rest(fs, file, "has become shorter");
			break;
		case SX_FILE_MORE:
		case SX_FILE_ENDED:
			break;
	}
}

static void
read_batch(FileSource *fs)
{
	fs->new_losses = fs->losses;
	if (fs->current != NULL && !sx_file_lane_is_blocked(fs))
		read_current(fs);
	for (fs->nconsidered = fs->next_waiting;
		 fs->nconsidered < fs->list->nwaiting && !batch_is_full(fs);
		 fs->nconsidered++)
		read_waiting(fs, fs->list->waiting[fs->nconsidered].name);
}

/* ------------------------------------------------------------ what was taken */

static void
set_new_position(FileSource *fs)
{
	BatchFile  *last = &fs->files[fs->nfiles - 1];
	int64		ntaken = fs->ntaken;
	StringInfoData buf;

	for (int i = 0; i < fs->nfiles; i++)
		ntaken += fs->files[i].begun;

	initStringInfo(&buf);
	appendStringInfo(&buf, "{\"files\": " INT64_FORMAT ", \"name\": ", ntaken);
	escape_json(&buf, last->name);
	if (!last->ended)
		appendStringInfo(&buf, ", \"offset\": " INT64_FORMAT ", \"line\": " INT64_FORMAT
						 ", \"size\": " INT64_FORMAT,
						 last->at.offset, last->at.line, last->at.size);
	if (fs->new_losses > 0)
		appendStringInfo(&buf, ", \"losses\": " INT64_FORMAT, fs->new_losses);
	appendStringInfoChar(&buf, '}');
	sx_part_set(&fs->base, &fs->base.parts[0].new_position, buf.data);
}

/* Remembers the files that this batch begins. */
static void
write_taken(const FileSource *fs)
{
	SxFile	   *begun = palloc(sizeof(SxFile) * fs->nfiles);
	int			n = 0;

	for (int i = 0; i < fs->nfiles; i++)
	{
		const BatchFile *file = &fs->files[i];

		if (file->begun)
			begun[n++] = (SxFile) {
				.name = file->name, .size = file->at.size, .mtime = file->at.mtime
			};
	}
	if (n > 0)
		sx_file_taken_write(fs->base.pipeline, fs->base.stream->relid, begun, n);
}

/* ------------------------------------------------------------ the operations */

void
sx_file_forget_batch(FileSource *fs)
{
	MemoryContextReset(fs->batch);
	sx_record_buffer_reset(fs->buffer);
	fs->files = NULL;
	fs->nfiles = fs->capacity = 0;
	fs->base.records = NULL;
	fs->base.nrecords = 0;
	fs->base.nbytes = 0;
}

void
sx_file_load(SxSource *source, Snapshot snapshot)
{
	FileSource *fs = (FileSource *) source;
	MemoryContext old;

	/* A load that failed half-way has left its records behind. */
	if (!fs->loaded)
		sx_file_forget_batch(fs);

	old = MemoryContextSwitchTo(fs->batch);
	if (!fs->loaded)
		read_batch(fs);
	if (fs->nfiles > 0)
	{
		set_new_position(fs);
		write_taken(fs);
	}
	MemoryContextSwitchTo(old);

	sx_source_show(source, fs->buffer);
	source->parts[0].rows = fs->buffer->nrecords;
	fs->loaded = true;
}

/* All files that are there, taken or not. */
void
sx_file_peek(SxSource *source)
{
	FileSource *fs = (FileSource *) source;
	MemoryContext old = MemoryContextSwitchTo(fs->batch);

	sx_file_list_scan(fs->list, true);
	read_batch(fs);
	MemoryContextSwitchTo(old);

	sx_source_show(source, fs->buffer);
}

/* The last file that begins at or before the record. */
const char *
sx_file_record_topic(SxSource *source, int i)
{
	FileSource *fs = (FileSource *) source;
	int			low = 0;
	int			high = fs->nfiles - 1;

	while (low < high)
	{
		int			middle = (low + high + 1) / 2;

		if (fs->files[middle].first_record <= i)
			low = middle;
		else
			high = middle - 1;
	}
	return fs->nfiles > 0 ? fs->files[low].name : NULL;
}
