/*-------------------------------------------------------------------------
 *
 * source_file.c
 *		The connector 'file': the files of a directory, each taken once.
 *
 * Option "path" is a directory, a pattern or a single file.  Files are taken in order
 * of mtime, then name (file_list.c), and cut into records by the format
 * (file_reader.c).
 *
 * What a batch takes is decided in load(): with max_files_per_batch, so many files at
 * most and each of them whole; without, files until the batch is full, the last one in
 * parts that end where a record ends.  An empty file is taken like any other, so it
 * may make a batch without records.
 *
 * What was taken is remembered in two places, both written by the transaction of the
 * batch: a row of streamext.file_taken per file, written with its first part, and the
 * position of the stream's one partition:
 *
 *		{"files": files taken, "name": the last of them}
 *		{"files": …, "name": …, "offset": bytes, "line": records, "size": bytes}
 *
 * The second form means that this file is to be continued.  With on_data_loss =
 * continue there is "losses" as well: files of which a part was lost.
 *
 * The offset of a record is its number in the file, from 1; blank lines and a header
 * are counted, so for formats of one line a record it is the number of the line.
 * The topic is the name of the file.
 *
 * A file that cannot be opened waits until it can be.  One that is gone before it was
 * begun was never there; one that is gone, or has become shorter, before it was taken whole
 * is a loss of data.
 *
 * With option "tail" this is another source, source_tail.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "source/file_options.h"
#include "source/file_taken.h"
#include "source/source_file.h"
#include "source/source_tail.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define SCAN_INTERVAL_MS	1000
#define IDLE_INTERVAL_MS	2500	/* after IDLE_SCANS that found nothing */
#define IDLE_SCANS			60

/* --------------------------------------------------------------------- open */

static void
remember_taken(const SxFile *file, void *arg)
{
	FileSource *fs = arg;

	if (!sx_slot_reads_file(fs->base.stream, file->name))
		return;
	sx_file_list_take(fs->list, file);
	if (fs->cleaner != NULL &&
		(fs->current == NULL || strcmp(fs->current, file->name) != 0))
		sx_file_cleaner_add(fs->cleaner, file->name);
}

static void
read_position(FileSource *fs)
{
	const char *position = fs->base.parts[0].position;

	fs->ntaken = sx_position_int(position, "files", 0);
	fs->losses = sx_position_int(position, "losses", 0);
	fs->at.offset = sx_position_int(position, "offset", -1);
	if (fs->at.offset < 0)
		return;
	fs->current = sx_position_field(position, "name");
	fs->at.line = sx_position_int(position, "line", 0);
	fs->at.size = sx_position_int(position, "size", 0);
}

/*
 * Each of several workers has one partition, of the files that are its own by the hash of
 * their names.
 */
static void
name_part(FileSource *fs)
{
	const SxStream *stream = fs->base.stream;

	fs->base.all_parts = Max(stream->slots, 1);
	fs->idle_timeout = sx_interval_option_usec("idle_timeout",
											   sx_stream_option(stream, "idle_timeout", "30 seconds"));
	if (stream->slot == 0)
		return;
	fs->base.parts[0].name = psprintf("%d", stream->slot);
}

static SxSource *
file_open(SxStream *stream, int pipeline, SxPart *parts, int nparts)
{
	FileSource *fs;

	if (sx_file_is_tail(stream))
		return sx_tail_open(stream, pipeline, parts, nparts);
	sx_file_check_rights(stream);
	fs = (FileSource *) sx_source_create(sizeof(FileSource), &sx_source_file, stream,
										 pipeline, parts, nparts);
	fs->list = sx_file_list_create(stream);
	fs->buffer = sx_record_buffer_create();
	fs->batch = AllocSetContextCreate(CurrentMemoryContext, "streamext file batch",
									  ALLOCSET_DEFAULT_SIZES);
	fs->goal = -1;
	name_part(fs);
	read_position(fs);
	if (pipeline > 0 && sx_file_clean(stream) != SX_CLEAN_OFF)
		fs->cleaner = sx_file_cleaner_create(fs->list, pipeline);
	if (pipeline > 0)
		sx_file_taken_read(pipeline, stream->relid, remember_taken, fs);
	return &fs->base;
}

/* --------------------------------------------------------------------- poll */

static bool
something_waits(const FileSource *fs)
{
	return (fs->current != NULL && !sx_file_lane_is_blocked(fs)) ||
		fs->next_waiting < fs->list->nwaiting;
}

/* whole: whatever it costs, so that the answer is what is there now. */
static void
scan(FileSource *fs, bool whole)
{
	SxSource   *source = &fs->base;
	char		end[64];

	if (whole || fs->scanned == 0)
		sx_file_list_scan(fs->list, false);
	else if (!sx_file_list_look(fs->list))
	{
		fs->scanned = GetCurrentTimestamp();
		return;
	}
	if (fs->limit != NULL)
		sx_file_limit_filter(fs->limit, fs->list);
	fs->next_waiting = 0;
	fs->status[0] = '\0';
	fs->scanned = GetCurrentTimestamp();

	source->parts[0].lag = something_waits(fs) ? -1 : 0;
	snprintf(end, sizeof(end), "{\"files\": " INT64_FORMAT "}",
			 fs->ntaken + fs->list->nwaiting);
	sx_part_set(source, &source->parts[0].end, end);
}

/* The file cannot be read now: says so and comes back to it. */
static void
leave_unreadable(FileSource *fs, const char *path)
{
	fs->list->again = true;
	snprintf(fs->status, sizeof(fs->status),
			 "could not open file \"%s\" for reading: %m", path);
}

static void
log_gone(const FileSource *fs, const char *path)
{
	ereport(LOG,
			(errmsg("file \"%s\" of stream %s was removed before it was read",
					path, fs->base.stream->label)));
}

/* Leaves out the first files while they cannot be read: they make no batch. */
static void
skip_unreadable(FileSource *fs)
{
	while (fs->current == NULL && fs->next_waiting < fs->list->nwaiting)
	{
		char	   *path = sx_file_list_path(fs->list,
											 fs->list->waiting[fs->next_waiting].name);
		bool		readable = access(path, R_OK) == 0;

		if (!readable && errno == ENOENT)
			log_gone(fs, path);
		else if (!readable)
			leave_unreadable(fs, path);
		pfree(path);
		if (readable)
			break;
		fs->next_waiting++;
	}
}

static void
set_status(FileSource *fs)
{
	const char *status = sx_file_list_status(fs->list);

	if (fs->status[0] != '\0')
		status = fs->status;
	if (status == NULL && fs->cleaner != NULL)
		status = sx_file_cleaner_status(fs->cleaner);
	fs->base.status = status;
}

/* A folder in which nothing appears is looked at less often. */
static long
scan_interval(const FileSource *fs)
{
	return fs->idle_scans < IDLE_SCANS ? SCAN_INTERVAL_MS : IDLE_INTERVAL_MS;
}

/* A worker without files shall not hold back the watermark of the others for ever. */
static void
set_idle(FileSource *fs)
{
	TimestampTz now = GetCurrentTimestamp();

	if (fs->base.stream->slots <= 1)
		return;
	if (something_waits(fs))
		fs->ended_at = 0;
	else if (fs->ended_at == 0)
		fs->ended_at = now;
	fs->base.parts[0].idle = fs->ended_at != 0 && now - fs->ended_at >= fs->idle_timeout;
}

static SxPollResult
file_poll(SxSource *source, const SxPollRequest *req)
{
	FileSource *fs = (FileSource *) source;

	if (fs->loaded)
		return SX_POLL_DATA;
	fs->req = *req;
	if (fs->cleaner != NULL && fs->limit == NULL)
		sx_file_cleaner_run(fs->cleaner, !req->to_end);
	if (req->to_end || fs->scanned == 0 ||
		TimestampDifferenceExceeds(fs->scanned, GetCurrentTimestamp(),
								   scan_interval(fs)))
	{
		scan(fs, req->to_end);
		fs->idle_scans = something_waits(fs) ? 0 : fs->idle_scans + 1;
	}
	skip_unreadable(fs);
	set_status(fs);
	set_idle(fs);
	return something_waits(fs) ? SX_POLL_DATA : SX_POLL_NOTHING;
}

/* --------------------------------------------------------------------- load */

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
			log_gone(fs, path);
			break;
		case SX_FILE_UNREADABLE:
			fs->nfiles--;
			leave_unreadable(fs, path);
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

static void
forget_batch(FileSource *fs)
{
	MemoryContextReset(fs->batch);
	sx_record_buffer_reset(fs->buffer);
	fs->files = NULL;
	fs->nfiles = fs->capacity = 0;
	fs->base.records = NULL;
	fs->base.nrecords = 0;
	fs->base.nbytes = 0;
}

static void
file_load(SxSource *source, Snapshot snapshot)
{
	FileSource *fs = (FileSource *) source;
	MemoryContext old;

	/* A load that failed half-way has left its records behind. */
	if (!fs->loaded)
		forget_batch(fs);

	old = MemoryContextSwitchTo(fs->batch);
	if (!fs->loaded)
		read_batch(fs);
	if (fs->nfiles > 0)
	{
		set_new_position(fs);
		write_taken(fs);
	}
	MemoryContextSwitchTo(old);

	source->records = fs->buffer->records;
	source->nrecords = fs->buffer->nrecords;
	source->nbytes = fs->buffer->nbytes;
	source->parts[0].rows = fs->buffer->nrecords;
	fs->loaded = true;
}

static void
file_committed(SxSource *source)
{
	FileSource *fs = (FileSource *) source;
	BatchFile  *last = fs->nfiles > 0 ? &fs->files[fs->nfiles - 1] : NULL;

	for (int i = 0; i < fs->nfiles; i++)
	{
		SxFile		file = {
			.name = fs->files[i].name,
			.size = fs->files[i].at.size,
			.mtime = fs->files[i].at.mtime
		};

		if (fs->files[i].begun)
		{
			sx_file_list_take(fs->list, &file);
			fs->ntaken++;
		}

		/* after a step() nothing is committed yet */
		if (fs->files[i].ended && fs->cleaner != NULL && !IsTransactionState())
			sx_file_cleaner_add(fs->cleaner, file.name);
	}
	if (fs->loaded)
		fs->next_waiting = fs->nconsidered;

	if (last != NULL)
	{
		sx_part_set(source, &fs->current, last->ended ? NULL : last->name);
		fs->at = last->at;
		fs->losses = fs->new_losses;
	}
	source->parts[0].lag = something_waits(fs) ? -1 : 0;
	fs->loaded = false;
	forget_batch(fs);
	sx_part_committed(&source->parts[0]);
}

/* ------------------------------------------------------------- the other ops */

static void
file_close(SxSource *source)
{
	/* Files are closed where they are read; the rest is memory. */
}

static long
file_wait(SxSource *source, int *fd)
{
	FileSource *fs = (FileSource *) source;

	long		clean = fs->cleaner ? sx_file_cleaner_wait(fs->cleaner) : -1;

	*fd = -1;
	if (something_waits(fs))
		return 0;
	return clean < 0 ? scan_interval(fs) : Min(clean, scan_interval(fs));
}

static bool
file_reached_end(SxSource *source)
{
	FileSource *fs = (FileSource *) source;

	if (fs->loaded)
		return false;
	if (fs->goal < 0)
	{
		scan(fs, true);
		fs->goal = fs->ntaken + fs->list->nwaiting;
	}
	if (something_waits(fs) && (fs->current != NULL || fs->ntaken < fs->goal))
		return false;
	fs->goal = -1;
	return true;
}

/* What is appended to is read in the order of one list. */
static bool
file_divides(const SxStream *stream, const char **why)
{
	*why = "with option tail it is read as one file";
	return !sx_file_is_tail(stream);
}

/* All files that are there, taken or not. */
static void
file_peek(SxSource *source)
{
	FileSource *fs = (FileSource *) source;
	MemoryContext old = MemoryContextSwitchTo(fs->batch);

	sx_file_list_scan(fs->list, true);
	read_batch(fs);
	MemoryContextSwitchTo(old);

	source->records = fs->buffer->records;
	source->nrecords = fs->buffer->nrecords;
	source->nbytes = fs->buffer->nbytes;
}

/* The last file that begins at or before the record. */
static const char *
file_record_topic(SxSource *source, int i)
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

const SxSourceOps sx_source_file = {
	.connector = "file",
	.open = file_open,
	.poll = file_poll,
	.load = file_load,
	.committed = file_committed,
	.close = file_close,
	.wait = file_wait,
	.reached_end = file_reached_end,
	.peek = file_peek,
	.check = sx_file_check,
	.divides = file_divides,
	.record_topic = file_record_topic,
	.lane_start = sx_file_lane_start,
	.limit = sx_file_limit,
	.at_limit = sx_file_at_limit
};
