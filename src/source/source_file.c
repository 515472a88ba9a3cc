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
 * The second form means that this file is to be continued.
 *
 * The offset of a record is its number in the file, from 1; blank lines and a header
 * are counted, so for formats of one line a record it is the number of the line.
 * The topic is the name of the file.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/sx_catalog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "source/file_list.h"
#include "source/file_reader.h"
#include "source/source.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/batch.h"

#define SCAN_INTERVAL_MS	1000

/* A file of the batch at hand. */
typedef struct BatchFile
{
	const char *name;
	int			first_record;	/* index of its first record in the batch */
	SxFilePosition at;			/* behind the batch */
	bool		begun;			/* by this batch: to be remembered */
	bool		ended;
} BatchFile;

typedef struct FileSource
{
	SxSource	base;
	SxFileList *list;
	SxRecordBuffer *buffer;

	/* committed */
	int64		ntaken;			/* files */
	char	   *current;		/* file taken in part, or NULL */
	SxFilePosition at;			/* … up to here */

	/* from poll */
	SxPollRequest req;
	TimestampTz scanned;
	int			next_waiting;	/* files of list->waiting before it are taken */

	/* the batch */
	bool		loaded;
	MemoryContext batch;
	BatchFile  *files;
	int			nfiles;
	int			capacity;
	int			nconsidered;	/* of list->waiting */

	int64		goal;			/* of reached_end, in files; -1: none */
} FileSource;

/* --------------------------------------------------------------------- open */

static void
file_check(SxStream *stream)
{
	const char *path = sx_stream_option(stream, "path", NULL);

	if (path == NULL || !is_absolute_path(path))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stream %s needs the option \"path\" with an absolute path",
						stream->label),
				 errhint("Give a directory of the server, as in path = '/data/in', or a pattern, as in path = '/data/in/*.json'.")));
	if (!has_privs_of_role(stream->owner, ROLE_PG_READ_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("owner of stream %s may not read files of the server",
						stream->label),
				 errhint("GRANT pg_read_server_files TO %s.",
						 quote_identifier(GetUserNameFromId(stream->owner, false)))));
}

static void
remember_taken(HeapTuple row, TupleDesc desc, void *arg)
{
	FileSource *fs = arg;
	SxFile		file = {
		.name = sx_row_text(row, desc, 1),
		.size = sx_row_int(row, desc, 2, 0),
		.mtime = sx_row_time(row, desc, 3)
	};

	sx_file_list_take(fs->list, &file);
}

static void
read_position(FileSource *fs)
{
	const char *position = fs->base.parts[0].position;

	fs->ntaken = sx_position_int(position, "files", 0);
	fs->at.offset = sx_position_int(position, "offset", -1);
	if (fs->at.offset < 0)
		return;
	fs->current = sx_position_field(position, "name");
	fs->at.line = sx_position_int(position, "line", 0);
	fs->at.size = sx_position_int(position, "size", 0);
}

static SxSource *
file_open(SxStream *stream, int pipeline, SxPart *parts, int nparts)
{
	FileSource *fs;
	Datum		values[] = {Int32GetDatum(pipeline), ObjectIdGetDatum(stream->relid)};
	Oid			types[] = {INT4OID, REGCLASSOID};

	file_check(stream);
	fs = (FileSource *) sx_source_create(sizeof(FileSource), &sx_source_file, stream,
										 pipeline, parts, nparts);
	fs->list = sx_file_list_create(stream);
	fs->buffer = sx_record_buffer_create();
	fs->batch = AllocSetContextCreate(CurrentMemoryContext, "streamext file batch",
									  ALLOCSET_DEFAULT_SIZES);
	fs->goal = -1;
	read_position(fs);
	if (pipeline > 0)
		sx_catalog_rows("SELECT name, size, mtime FROM streamext.file_taken "
						"WHERE pipeline = $1 AND stream = $2",
						2, types, values, NULL, remember_taken, fs);
	return &fs->base;
}

/* --------------------------------------------------------------------- poll */

static void
scan(FileSource *fs)
{
	SxSource   *source = &fs->base;
	int			nwaiting;
	char		end[64];

	sx_file_list_scan(fs->list, false);
	fs->next_waiting = 0;
	fs->scanned = GetCurrentTimestamp();

	nwaiting = fs->list->nwaiting;
	source->status = fs->list->status[0] ? fs->list->status : NULL;
	source->parts[0].lag = nwaiting > 0 || fs->current ? -1 : 0;
	snprintf(end, sizeof(end), "{\"files\": " INT64_FORMAT "}", fs->ntaken + nwaiting);
	sx_part_set(source, &source->parts[0].end, end);
}

static bool
something_waits(const FileSource *fs)
{
	return fs->current != NULL || fs->next_waiting < fs->list->nwaiting;
}

static SxPollResult
file_poll(SxSource *source, const SxPollRequest *req)
{
	FileSource *fs = (FileSource *) source;

	if (fs->loaded)
		return SX_POLL_DATA;
	fs->req = *req;
	if (req->to_end || fs->scanned == 0 ||
		TimestampDifferenceExceeds(fs->scanned, GetCurrentTimestamp(),
								   SCAN_INTERVAL_MS))
		scan(fs);
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
static void
read_file(FileSource *fs, BatchFile *file)
{
	bool		whole = fs->req.max_files > 0;

	file->ended = sx_file_read(fs->base.stream,
							   sx_file_list_path(fs->list, file->name),
							   &file->at, fs->buffer,
							   whole ? 0 : fs->req.max_rows,
							   whole ? 0 : fs->req.max_bytes);
}

static bool
batch_is_full(const FileSource *fs)
{
	return (fs->req.max_files > 0 && fs->nfiles >= fs->req.max_files) ||
		(fs->req.max_rows > 0 && fs->buffer->nrecords >= fs->req.max_rows) ||
		(fs->req.max_bytes > 0 && fs->buffer->nbytes >= fs->req.max_bytes) ||
		(fs->nfiles > 0 && !fs->files[fs->nfiles - 1].ended);
}

static void
read_batch(FileSource *fs)
{
	if (fs->current != NULL)
	{
		BatchFile  *file = add_file(fs, fs->current);

		file->at = fs->at;
		read_file(fs, file);
	}
	for (fs->nconsidered = fs->next_waiting;
		 fs->nconsidered < fs->list->nwaiting && !batch_is_full(fs);
		 fs->nconsidered++)
	{
		BatchFile  *file = add_file(fs, fs->list->waiting[fs->nconsidered].name);

		file->begun = true;
		file->at.size = -1;
		read_file(fs, file);
		if (file->at.size < 0)
			fs->nfiles--;		/* gone since the scan: it never was */
	}
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
	appendStringInfoChar(&buf, '}');
	sx_part_set(&fs->base, &fs->base.parts[0].new_position, buf.data);
}

/* Rows of streamext.file_taken for the files that this batch begins. */
static void
write_taken(FileSource *fs)
{
	Datum	   *names = palloc(sizeof(Datum) * fs->nfiles);
	Datum	   *sizes = palloc(sizeof(Datum) * fs->nfiles);
	Datum	   *mtimes = palloc(sizeof(Datum) * fs->nfiles);
	Oid			types[] = {INT4OID, REGCLASSOID, INT8OID,
	TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID};
	Datum		values[lengthof(types)];
	int			n = 0;

	for (int i = 0; i < fs->nfiles; i++)
	{
		const BatchFile *file = &fs->files[i];

		if (!file->begun)
			continue;
		names[n] = CStringGetTextDatum(file->name);
		sizes[n] = Int64GetDatum(file->at.size);
		mtimes[n++] = TimestampTzGetDatum(file->at.mtime);
	}
	if (n == 0)
		return;

	values[0] = Int32GetDatum(fs->base.pipeline);
	values[1] = ObjectIdGetDatum(fs->base.stream->relid);
	values[2] = Int64GetDatum(sx_current != NULL ? sx_current->batch_id + 1 : 0);
	values[3] = PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
	values[4] = PointerGetDatum(construct_array(sizes, n, INT8OID, sizeof(int64),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[5] = PointerGetDatum(construct_array(mtimes, n, TIMESTAMPTZOID, sizeof(int64),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	sx_catalog_exec("INSERT INTO streamext.file_taken "
					"(pipeline, stream, batch_id, name, size, mtime) "
					"SELECT $1, $2, $3, f.* FROM unnest($4, $5, $6) f",
					lengthof(types), types, values, NULL);
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

		if (!fs->files[i].begun)
			continue;
		sx_file_list_take(fs->list, &file);
		fs->ntaken++;
	}
	if (fs->loaded)
		fs->next_waiting = fs->nconsidered;

	if (last != NULL)
	{
		sx_part_set(source, &fs->current, last->ended ? NULL : last->name);
		fs->at = last->at;
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

	*fd = -1;
	return something_waits(fs) ? 0 : SCAN_INTERVAL_MS;
}

static bool
file_reached_end(SxSource *source)
{
	FileSource *fs = (FileSource *) source;

	if (fs->loaded)
		return false;
	if (fs->goal < 0)
	{
		scan(fs);
		fs->goal = fs->ntaken + fs->list->nwaiting;
	}
	if (something_waits(fs) && (fs->current != NULL || fs->ntaken < fs->goal))
		return false;
	fs->goal = -1;
	return true;
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
	.check = file_check,
	.record_topic = file_record_topic
};
