/*-------------------------------------------------------------------------
 *
 * file.c
 *		Connector file as a sink: a file a batch, in a directory of the server.
 *
 * The name is prefix, batch id, suffix:
 *
 *		batch-000000000042.csv		what readers see
 *		.batch-000000000042.csv.tmp	while it is being written
 *
 * The id has at least twelve digits, so that names sort as the batches came, and it is the
 * last number of the name: a suffix has no digits, and a prefix does not end in one.
 * That also keeps the names of two sinks apart that write into one directory.
 *
 * A file is written under the name that begins with a dot, flushed, and renamed, and the
 * directory is flushed: readers never see half a file, and a file that they see stays.
 * If the sender dies before the delivery is noted as done, it is sent again.  Then the
 * file is there already, and left as it is when it holds the same bytes, so that no
 * reader takes it for a new one.  A file of that name with other contents is somebody
 * else's, or of another life of the pipeline, and is never overwritten.
 *
 * A process that was killed leaves the file with the dot behind; the next one deletes
 * those of its sink, by the exact form of the name, before it sends something.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "compat.h"
#include "ddl/ddl.h"
#include "format/write.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "source/file_place.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "worker/batch.h"

#include "sink/sink.h"

#define DEFAULT_PREFIX	"batch-"
#define ID_DIGITS		12
#define TEMP_SUFFIX		".tmp"
#define MAX_AFFIX		100		/* bytes; a file name holds 255 */
#define FILE_MODE		(S_IRUSR | S_IWUSR | S_IRGRP)
#define COMPARE_BLOCK	65536

/* A file that is being written; in SxDelivery.private. */
typedef struct OutFile
{
	File		fd;				/* -1: closed */
	off_t		size;
	char		temp[MAXPGPATH];
	char		name[MAXPGPATH];
} OutFile;

/* ---------- names ---------- */

static const char *
format_of(List *options)
{
	const char *format = sx_option(options, "format");

	return format != NULL ? format : "json";
}

static const char *
prefix_of(List *options)
{
	const char *prefix = sx_option(options, "prefix");

	return prefix != NULL ? prefix : DEFAULT_PREFIX;
}

static const char *
suffix_of(List *options)
{
	const char *suffix = sx_option(options, "suffix");
	const char *format = format_of(options);

	if (suffix != NULL)
		return suffix;
	if (strcmp(format, "text") == 0)
		return ".txt";
	return strcmp(format, "binary") == 0 ? ".bin" : psprintf(".%s", format);
}

/* Is this the name of a temporary file of a sink with that prefix and suffix? */
static bool
is_temp_name(const char *name, const char *prefix, const char *suffix)
{
	size_t		digits;

	if (*name++ != '.' || strncmp(name, prefix, strlen(prefix)) != 0)
		return false;
	name += strlen(prefix);
	digits = strspn(name, "0123456789");
	if (digits < ID_DIGITS || strncmp(name + digits, suffix, strlen(suffix)) != 0)
		return false;
	return strcmp(name + digits + strlen(suffix), TEMP_SUFFIX) == 0;
}

/* ---------- creation ---------- */

static void
check_affix(List *options, const char *option)
{
	const char *value = sx_option(options, option);
	bool		is_prefix = strcmp(option, "prefix") == 0;

	if (value == NULL)
		return;
	if (strchr(value, '/') != NULL || strlen(value) > MAX_AFFIX ||
		(is_prefix && value[0] == '.'))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\": \"%s\"", option, value),
				 errhint("It is a part of a file's name: no slash, at most %d bytes%s.", MAX_AFFIX,
						 is_prefix ? ", and no dot at the beginning" : "")));
	if (is_prefix ? value[0] != '\0' && isdigit((unsigned char) value[strlen(value) - 1]) :
		strpbrk(value, "0123456789") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\": \"%s\"", option, value),
				 is_prefix ?
				 errhint("The number of the batch follows: do not end in a digit.") :
				 errhint("The number of the batch is the last one of the name: use no digits.")));
}

/* Makes the path canonical, in options as well. */
static char *
check_path(List *options)
{
	char	   *path = NULL;
	struct stat st;
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "path") != 0)
			continue;
		path = pstrdup(strVal(option->arg));
		canonicalize_path(path);
		option->arg = (Node *) makeString(path);
	}
	if (path == NULL || !is_absolute_path(path) || strlen(path) > MAXPGPATH - 2 * MAX_AFFIX - 64)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"path\" of a sink must be the absolute path of a directory"),
				 errhint("Give a directory of the server, as in path = '/data/out'.")));
	sx_file_check_place(path, GetUserId(), true, "path");
	if (stat(path, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not access directory \"%s\": %m", path),
				 errhint("Make it on the server; the user that the server runs as must be able to write there.")));
	if (!S_ISDIR(st.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a directory", path),
				 errhint("A sink writes a file per batch: give the directory that they go into.")));
	if (access(path, W_OK | X_OK) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write into directory \"%s\": %m", path),
				 errhint("The user that the server runs as must be able to write there.")));
	return path;
}

/* Two sinks with the same names would be in each other's way. */
static void
check_others(const char *path, List *options)
{
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[] = {
		CStringGetTextDatum(path), CStringGetTextDatum(prefix_of(options)),
		CStringGetTextDatum(suffix_of(options))
	};
	bool		isnull;
	Datum		other;

	other = sx_catalog_value("SELECT relation::text FROM streamext.step "
							 "WHERE kind = 'sink' AND strategy = 'file' AND options->>'path' = $1 "
							 "AND coalesce(options->>'prefix', '" DEFAULT_PREFIX "') = $2 "
							 "AND coalesce(options->>'suffix', CASE options->>'format' WHEN 'text' THEN '.txt' "
							 "  WHEN 'csv' THEN '.csv' WHEN 'binary' THEN '.bin' ELSE '.json' END) = $3",
							 lengthof(types), types, values, NULL, &isnull);
	if (!isnull)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("sink %s writes files of the same names into the same directory",
						TextDatumGetCString(other)),
				 errhint("Give another path, prefix or suffix.")));
}

static void
file_check(Query *query, List *options)
{
	List	   *types = NIL;
	char	   *path;
	ListCell   *lc;

	if (!has_privs_of_role(GetUserId(), ROLE_PG_WRITE_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to write files of the server"),
				 errhint("Ask for GRANT pg_write_server_files.")));
	check_affix(options, "prefix");
	check_affix(options, "suffix");
	path = check_path(options);
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!tle->resjunk)
			types = lappend_oid(types, exprType((Node *) tle->expr));
	}
	sx_row_writer_check(format_of(options), options, types);
	check_others(path, options);
}

static char *
file_describe(List *options)
{
	return psprintf("the rows of each batch become a file %s/%s%0*d%s, after the commit",
					sx_option(options, "path"), prefix_of(options), ID_DIGITS, 1,
					suffix_of(options));
}

/* ---------- in the batch ---------- */

static void
file_begin(SxSinkBatch *batch)
{
	batch->private = sx_row_writer_create(format_of(batch->options), batch->options,
										  batch->desc);
}

static void
file_row(SxSinkBatch *batch, TupleTableSlot *slot)
{
	if (batch->nrows == 1)
		sx_row_writer_begin(batch->private, &batch->buf);
	sx_row_writer_row(batch->private, &batch->buf, slot);
	sx_outbox_put(batch, false);
}

static void
file_end(SxSinkBatch *batch)
{
	if (batch->nrows == 0)
		return;
	sx_row_writer_end(batch->private, &batch->buf);
	sx_outbox_put(batch, true);
}

/* ---------- sending ---------- */

static void
file_allow(SxDelivery *delivery)
{
	if (!has_privs_of_role(delivery->owner, ROLE_PG_WRITE_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("owner of the sink may not write files of the server"),
				 errhint("GRANT pg_write_server_files TO %s.",
						 quote_identifier(GetUserNameFromId(delivery->owner, false)))));
}

/* What a sender that was killed has left in the directory. */
static void
delete_leftovers(SxDelivery *delivery)
{
	const char *path = sx_option(delivery->options, "path");
	const char *prefix = prefix_of(delivery->options);
	const char *suffix = suffix_of(delivery->options);
	DIR		   *dir = opendir(path);
	struct dirent *entry;
	char		name[MAXPGPATH];

	if (dir == NULL)
		return;					/* creating the file will tell what is wrong */
	while ((entry = readdir(dir)) != NULL)
	{
		if (!is_temp_name(entry->d_name, prefix, suffix))
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		(void) unlink(name);
	}
	closedir(dir);
}

static void
set_names(OutFile *file, const SxDelivery *delivery)
{
	const char *path = sx_option(delivery->options, "path");
	char		name[2 * MAX_AFFIX + 64];

	snprintf(name, sizeof(name), "%s%0*lld%s", prefix_of(delivery->options), ID_DIGITS,
			 (long long) delivery->number, suffix_of(delivery->options));
	snprintf(file->name, sizeof(file->name), "%s/%s", path, name);
	snprintf(file->temp, sizeof(file->temp), "%s/.%s" TEMP_SUFFIX, path, name);
}

static void
file_open(SxDelivery *delivery)
{
	OutFile    *file = MemoryContextAllocZero(delivery->context, sizeof(OutFile));
	mode_t		mask;

	if (delivery->first)
		delete_leftovers(delivery);
	set_names(file, delivery);

	/* Anything under that name, also a link that somebody has laid, goes. */
	(void) unlink(file->temp);
	mask = umask(S_IWGRP | S_IRWXO);
	file->fd = PathNameOpenFilePerm(file->temp, O_WRONLY | O_CREAT | O_EXCL | PG_BINARY,
									FILE_MODE);
	(void) umask(mask);
	delivery->private = file;
	if (file->fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", file->temp)));
}

static void
file_write(SxDelivery *delivery, const char *data, size_t len)
{
	OutFile    *file = delivery->private;

	while (len > 0)
	{
		ssize_t		written;

		errno = 0;
		written = FileWrite(file->fd, unconstify(char *, data), len, file->size,
							SX_WAIT_EVENT("StreamextFileWrite"));
		if (written <= 0)
		{
			if (errno == 0)
				errno = ENOSPC;
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not write file \"%s\": %m", file->temp)));
		}
		file->size += written;
		data += written;
		len -= written;
	}
}

/* Do both files hold the same bytes?  Both can be read, and are size bytes long. */
static bool
same_bytes(const char *a, const char *b)
{
	int			fds[2] = {open(a, O_RDONLY | PG_BINARY), open(b, O_RDONLY | O_NOFOLLOW | PG_BINARY)};
	char	   *blocks = malloc(2 * COMPARE_BLOCK);
	bool		same = fds[0] >= 0 && fds[1] >= 0 && blocks != NULL;

	while (same)
	{
		ssize_t		n = read(fds[0], blocks, COMPARE_BLOCK);

		same = n >= 0 && n == read(fds[1], blocks + COMPARE_BLOCK, COMPARE_BLOCK) &&
			memcmp(blocks, blocks + COMPARE_BLOCK, n) == 0;
		if (n <= 0)
			break;
	}
	free(blocks);
	for (int i = 0; i < 2; i++)
	{
		if (fds[i] >= 0)
			close(fds[i]);
	}
	return same;
}

/* Is the file there already, from a delivery that was not noted as done? */
static bool
has_arrived(const OutFile *file)
{
	struct stat st;

	if (lstat(file->name, &st) != 0)
		return false;
	if (S_ISREG(st.st_mode) && st.st_size == file->size && same_bytes(file->temp, file->name))
		return true;
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_FILE),
			 errmsg("file \"%s\" exists already, with other contents", file->name),
			 errhint("It is not overwritten: move it away, and it will be written at the next try.")));
}

static void
file_close(SxDelivery *delivery)
{
	OutFile    *file = delivery->private;

	if (FileSync(file->fd, SX_WAIT_EVENT("StreamextFileSync")) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not fsync file \"%s\": %m", file->temp)));
	FileClose(file->fd);
	file->fd = -1;
	if (has_arrived(file))
	{
		(void) unlink(file->temp);
		(void) fsync_fname_ext(file->name, false, false, ERROR);
	}
	else if (rename(file->temp, file->name) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not rename file \"%s\" to \"%s\": %m", file->temp, file->name)));

	/* Not fsync_fname(), whose failure would take the server down. */
	(void) fsync_fname_ext(sx_option(delivery->options, "path"), true, false, ERROR);
	pfree(file);
	delivery->private = NULL;
}

static void
file_abandon(SxDelivery *delivery)
{
	OutFile    *file = delivery->private;

	if (file->fd >= 0)
		FileClose(file->fd);
	(void) unlink(file->temp);
	pfree(file);
	delivery->private = NULL;
}

const SxSinkOps sx_sink_file = {
	.connector = "file",
	.strategy = SX_STRATEGY_SINK_FILE,
	.check = file_check,
	.describe = file_describe,
	.begin = file_begin,
	.row = file_row,
	.end = file_end,
	.allow = file_allow,
	.open = file_open,
	.write = file_write,
	.close = file_close,
	.abandon = file_abandon
};
