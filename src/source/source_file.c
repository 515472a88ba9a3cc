/*-------------------------------------------------------------------------
 *
 * source_file.c
 *		The connector 'file': the files of a directory, each taken once.
 *
 * Option "path" is a directory, a pattern or a single file.  Files are taken in order
 * of mtime, then name (file_list.c), and cut into records by the format
 * (file_reader.c).  What a batch takes of them is decided in load()
 * (source_file_batch.c).
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
			sx_file_log_gone(fs, path);
		else if (!readable)
			sx_file_leave_unreadable(fs, path);
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

/* ---------------------------------------------------------------- committed */

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
	sx_file_forget_batch(fs);
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

const SxSourceOps sx_source_file = {
	.connector = "file",
	.open = file_open,
	.poll = file_poll,
	.load = sx_file_load,
	.committed = file_committed,
	.close = file_close,
	.wait = file_wait,
	.reached_end = file_reached_end,
	.peek = sx_file_peek,
	.check = sx_file_check,
	.divides = file_divides,
	.record_topic = sx_file_record_topic,
	.lane_start = sx_file_lane_start,
	.limit = sx_file_limit,
	.at_limit = sx_file_at_limit
};
