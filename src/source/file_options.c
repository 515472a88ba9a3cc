/*-------------------------------------------------------------------------
 *
 * file_options.c
 *		The options of connector 'file', and what they decide.
 *
 * Whether options go together is checked when the stream is made or altered.  What
 * the owner may do is checked again whenever the source is opened, as a right can be
 * taken away.  Folders may come and go, so that they are there is not checked again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fnmatch.h>
#include <limits.h>
#include <sys/stat.h>

#include "catalog/pg_authid.h"
#include "format/format.h"
#include "miscadmin.h"
#include "source/file_options.h"
#include "source/file_place.h"
#include "utils/acl.h"
#include "utils/builtins.h"

bool
sx_file_is_tail(const SxStream *stream)
{
	return sx_stream_option_bool(stream, "tail", false);
}

SxFileClean
sx_file_clean(const SxStream *stream)
{
	const char *clean = sx_stream_option(stream, "clean", "off");

	if (strcmp(clean, "delete") == 0)
		return SX_CLEAN_DELETE;
	return strcmp(clean, "archive") == 0 ? SX_CLEAN_ARCHIVE : SX_CLEAN_OFF;
}

void
sx_file_data_loss(const SxStream *stream, const char *what, const char *next)
{
	bool		stop = strcmp(sx_stream_option(stream, "on_data_loss", "stop"), "stop") == 0;

	ereport(stop ? ERROR : WARNING,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("data loss: %s", what),
			 errdetail("Records that stream %s has not read may be lost.", stream->label),
			 stop ? errhint("Put the file back, or set on_data_loss = 'continue', and resume the pipeline; with \"continue\" %s.", next) :
			 errhint("As on_data_loss is 'continue', %s.", next)));
}

static void
require_role(const SxStream *stream, Oid role, const char *role_name, const char *what)
{
	if (has_privs_of_role(stream->owner, role))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("owner of stream %s may not %s files of the server", stream->label, what),
			 errhint("GRANT %s TO %s.", role_name,
					 quote_identifier(GetUserNameFromId(stream->owner, false)))));
}

void
sx_file_check_rights(const SxStream *stream)
{
	const char *path = sx_stream_option(stream, "path", "");
	const char *archive = sx_stream_option(stream, "archive_path", NULL);
	bool		cleans = sx_file_clean(stream) != SX_CLEAN_OFF;

	require_role(stream, ROLE_PG_READ_SERVER_FILES, "pg_read_server_files", "read");
	if (cleans)
		require_role(stream, ROLE_PG_WRITE_SERVER_FILES, "pg_write_server_files",
					 "delete or move");
	sx_file_check_place(path, stream->owner, cleans, "path");
	if (archive != NULL)
		sx_file_check_place(archive, stream->owner, true, "archive_path");
}

static void
refuse(const char *message, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s", message),
			 errhint("%s", hint)));
}

static void
check_tail(const SxStream *stream, const char *path)
{
	struct stat st;

	if (strpbrk(path, "*?[") != NULL || (stat(path, &st) == 0 && S_ISDIR(st.st_mode)))
		refuse("option \"tail\" needs a path that names one file",
			   "Give the file that grows, as in path = '/var/log/app.log'.");
	if (sx_file_clean(stream) != SX_CLEAN_OFF)
		refuse("a file that is followed by \"tail\" cannot be cleaned",
			   "Leave the option \"clean\" out.");
	if (sx_stream_option(stream, "max_files_per_batch", NULL) != NULL)
		refuse("option \"max_files_per_batch\" has no meaning with \"tail\"",
			   "Use max_batch_rows or max_batch_bytes.");
	if (stream->format->split == NULL)
		refuse(psprintf("format \"%s\" cannot be followed by \"tail\"", stream->format->name),
			   "It takes a file as one record; use text, csv or json.");
}

/* The folder, or pattern of folders, that files are taken from. */
static char *
watched_folder(const char *path)
{
	struct stat st;
	char	   *folder = pstrdup(path);
	bool		exists = stat(path, &st) == 0;

	if (exists ? !S_ISDIR(st.st_mode) : strpbrk(path, "*?[") != NULL)
	{
		char	   *slash = strrchr(folder, '/');

		slash[slash == folder ? 1 : 0] = '\0';
	}
	return folder;
}

/* The first part of a pattern that holds no wild-cards. */
static char *
plain_folder(const char *folder)
{
	char	   *plain = pstrdup(folder);
	char	   *wild;

	while ((wild = strpbrk(plain, "*?[")) != NULL)
	{
		*wild = '\0';
		wild = strrchr(plain, '/');
		wild[wild == plain ? 1 : 0] = '\0';
	}
	return plain;
}

/* Moved files must not be found again, and rename() works within a file system. */
static void
check_archive(const SxStream *stream, const char *path)
{
	const char *archive = sx_stream_option(stream, "archive_path", NULL);
	char		real_archive[PATH_MAX];
	char		real_folder[PATH_MAX];
	char	   *folder = watched_folder(path);
	struct stat st;
	struct stat watched;

	if (archive == NULL || !is_absolute_path(archive))
		refuse("clean = 'archive' needs the option \"archive_path\" with an absolute path",
			   "Give a directory of the server, as in archive_path = '/data/done'.");
	if (stat(archive, &st) < 0 || realpath(archive, real_archive) == NULL)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open directory \"%s\": %m", archive),
				 errhint("Create it first, with the right for the server's user to write to it.")));
	if (!S_ISDIR(st.st_mode))
		refuse(psprintf("\"%s\" is not a directory", archive),
			   "Name a directory in \"archive_path\".");
	if (realpath(folder, real_folder) == NULL)
		strlcpy(real_folder, folder, sizeof(real_folder));
	if (strcmp(real_folder, real_archive) == 0 ||
		fnmatch(folder, real_archive, FNM_PATHNAME) == 0 ||
		fnmatch(folder, archive, FNM_PATHNAME) == 0)
		refuse("\"archive_path\" is one of the directories that files are taken from",
			   "Name another one, so that they are not taken again.");
	if (stat(plain_folder(folder), &watched) == 0 && watched.st_dev != st.st_dev)
		refuse("\"archive_path\" is on another file system than \"path\"",
			   "Name a directory of the same file system, as files are moved by renaming them.");
}

void
sx_file_check(SxStream *stream)
{
	const char *path = sx_stream_option(stream, "path", NULL);

	if (path == NULL || !is_absolute_path(path))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stream %s needs the option \"path\" with an absolute path",
						stream->label),
				 errhint("Give a directory of the server, as in path = '/data/in', or a pattern, as in path = '/data/in/*.json'.")));
	sx_file_check_rights(stream);
	if (sx_file_is_tail(stream))
		check_tail(stream, path);
	if (sx_file_clean(stream) == SX_CLEAN_ARCHIVE)
		check_archive(stream, path);
	else if (sx_stream_option(stream, "archive_path", NULL) != NULL)
		refuse("option \"archive_path\" is for clean = 'archive'",
			   "Add clean = 'archive', or leave \"archive_path\" out.");
}
