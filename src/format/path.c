/*-------------------------------------------------------------------------
 *
 * path.c
 *		Option "path" of a column: where its value stands in a JSON document.
 *
 * A small part of the SQL/JSON path language: "$" and then any number of
 *
 *		.name  ."any name"  ['any name']  ["any name"]  [0]
 *
 * A backslash in a quoted name stands for the character behind it.  "$" may be
 * left out in front of a name.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "format/path.h"

static void
path_error(const char *path)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\": \"%s\"", "path", path),
			 errhint("Write $.name, $.outer.inner, $.list[0] or $['any name'].")));
}

static SxPathStep *
make_step(char *key, int index)
{
	SxPathStep *step = palloc(sizeof(SxPathStep));

	step->key = key;
	step->index = index;
	return step;
}

/* A name in quotes; *pos stands on the first quote, then behind the last. */
static char *
quoted_name(const char *path, const char **pos)
{
	StringInfoData name;
	const char *p = *pos;
	char		quote = *p++;

	initStringInfo(&name);
	for (; *p != quote; p++)
	{
		if (*p == '\\')
			p++;
		if (*p == '\0')
			path_error(path);
		appendStringInfoChar(&name, *p);
	}
	*pos = p + 1;
	return name.data;
}

static char *
plain_name(const char *path, const char **pos)
{
	const char *start = *pos;

	*pos += strcspn(start, ".[]\"' \t\n");
	if (*pos == start)
		path_error(path);
	return pnstrdup(start, *pos - start);
}

/* What stands in brackets; *pos stands behind the opening one. */
static SxPathStep *
bracket_step(const char *path, const char **pos)
{
	SxPathStep *step;

	if (**pos == '\'' || **pos == '"')
		step = make_step(quoted_name(path, pos), 0);
	else
	{
		size_t		digits = strspn(*pos, "0123456789");

		if (digits == 0 || digits > 9)
			path_error(path);
		step = make_step(NULL, atoi(*pos));
		*pos += digits;
	}
	if (**pos != ']')
		path_error(path);
	(*pos)++;
	return step;
}

List *
sx_path_parse(const char *path)
{
	const char *p = path;
	List	   *steps = NIL;

	if (*p == '$')
		p++;
	else if (*p != '[')
		steps = list_make1(make_step(plain_name(path, &p), 0));

	while (*p != '\0')
	{
		SxPathStep *step;

		if (*p == '[')
		{
			p++;
			step = bracket_step(path, &p);
		}
		else if (*p == '.' && p[1] == '"')
		{
			p++;
			step = make_step(quoted_name(path, &p), 0);
		}
		else if (*p == '.')
		{
			p++;
			step = make_step(plain_name(path, &p), 0);
		}
		else
			path_error(path);
		steps = lappend(steps, step);
	}

	if (steps == NIL)
		path_error(path);
	return steps;
}
