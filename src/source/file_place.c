/*-------------------------------------------------------------------------
 *
 * file_place.c
 *		Where files of the server may be read and written.
 *
 * pg_read_server_files lets a role read any file that the server can, so these are no
 * fences between roles of the database.  They keep a stream from doing what its owner
 * never meant, led by people who can write to the folder that it watches:
 *
 *	symbolic links	in that folder are not followed (file_list.c, file_reader.c), or an
 *					upload could show what only the server may read
 *	pipes, devices	are no files (file_reader.c)
 *	".."			is refused: where it leads changes with what is before it
 *	the data directory	holds passwords and everybody's rows; and a stream that cleans up
 *					or writes there destroys the server
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "source/file_place.h"

/* Is path folder, or something in it? */
static bool
is_inside(const char *path, const char *folder)
{
	size_t		len = strlen(folder);

	return strncmp(path, folder, len) == 0 &&
		(path[len] == '\0' || path[len] == '/' || strcmp(folder, "/") == 0);
}

static bool
has_parent_reference(const char *path)
{
	for (const char *at = path; (at = strstr(at, "..")) != NULL; at += 2)
	{
		if ((at == path || at[-1] == '/') && (at[2] == '\0' || at[2] == '/'))
			return true;
	}
	return false;
}

/*
 * The longest part of the path that exists, without wildcards, as the file system knows
 * it.  *wild: a folder of the rest is given by a pattern.
 */
static void
known_part(const char *path, char *real, bool *wild)
{
	char		part[MAXPGPATH];
	char	   *pattern;
	char	   *slash;

	strlcpy(part, path, sizeof(part));
	pattern = strpbrk(part, "*?[");
	*wild = pattern != NULL && strchr(pattern, '/') != NULL;
	if (pattern != NULL)
		*pattern = '\0';
	while (realpath(part[0] == '\0' ? "/" : part, real) == NULL)
	{
		slash = strrchr(part, '/');
		if (slash == NULL)
		{
			strcpy(real, "/");
			return;
		}
		*slash = '\0';
	}
}

void
sx_file_check_place(const char *path, Oid owner, bool writes, const char *option)
{
	char		real[PATH_MAX];
	char		data[PATH_MAX];
	bool		wild;

	if (has_parent_reference(path))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" must not hold \"..\"", option),
				 errhint("Write the path that is meant.")));
	if (!writes && superuser_arg(owner))
		return;
	known_part(path, real, &wild);
	if (realpath(DataDir, data) == NULL)
		strlcpy(data, DataDir, sizeof(data));
	if (!is_inside(real, data) && !(wild && is_inside(data, real)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("option \"%s\" must not lead into the data directory of the server", option),
			 wild ?
			 errhint("Name a folder without wildcards, outside of it.") :
			 errhint("Name a folder outside of it.")));
}
