/*-------------------------------------------------------------------------
 *
 * option_value.c
 *		Checks the value of an option against what the option takes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/varlena.h"

#include "ddl/option_value.h"
#include "ddl/span.h"
#include "fdw/stream.h"

/* The error for a value of the wrong shape; what: a sentence for the hint. */
static void
invalid_value(const SxOptionDef *def, const char *value, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 errmsg("invalid value for option \"%s\": \"%s\"", def->name, value),
			 errhint("%s", what)));
}

bool
sx_option_is_choice(const char *choices, const char *value)
{
	size_t		len = strlen(value);

	for (;;)
	{
		const char *end = strchrnul(choices, '|');

		if ((size_t) (end - choices) == len && strncmp(choices, value, len) == 0)
			return true;
		if (*end == '\0')
			return false;
		choices = end + 1;
	}
}

bool
sx_name_is_nearer(const char *name, const char *candidate, int *distance)
{
	int			found;

	if (strlen(name) > NAMEDATALEN)
		return false;			/* more than varstr_levenshtein takes */
	found = varstr_levenshtein_less_equal(name, strlen(name),
										  candidate, strlen(candidate),
										  1, 1, 1, *distance, true);
	if (found >= *distance)
		return false;
	*distance = found;
	return true;
}

static void
check_choice(const SxOptionDef *def, const char *value)
{
	StringInfoData list;

	if (sx_option_is_choice(def->choices, value))
		return;
	initStringInfo(&list);
	for (const char *p = def->choices; *p != '\0'; p++)
	{
		if (*p == '|')
			appendStringInfoString(&list, ", ");
		else
			appendStringInfoChar(&list, *p);
	}
	invalid_value(def, value, psprintf("Valid values are: %s.", list.data));
}

static void
check_int(const SxOptionDef *def, const char *value)
{
	char	   *end;
	long long	number;

	errno = 0;
	number = strtoll(value, &end, 10);
	if (errno != 0 || end == value || *end != '\0' ||
		number < def->min || number > def->max)
		invalid_value(def, value,
					  psprintf("Give a whole number from " INT64_FORMAT " to " INT64_FORMAT ".",
							   def->min, def->max));
}

/* Finite, and 0 or more, or above 0. */
static void
check_number(const SxOptionDef *def, const char *value, bool zero)
{
	char	   *end;
	double		number;

	errno = 0;
	number = strtod(value, &end);
	if (errno != 0 || end == value || *end != '\0' || !isfinite(number) ||
		number < 0 || (number == 0 && !zero))
		invalid_value(def, value, zero ? "Give a number of 0 or more, as '0.2'." :
					  "Give a number above 0, as '100'.");
}

static void
check_interval(const SxOptionDef *def, const char *value)
{
	if (sx_interval_option_usec(def->name, value) < def->min)
		invalid_value(def, value, def->min > 0 ?
					  "Give an interval above 0, as '5 seconds'." :
					  "Give an interval of 0 or more, as '5 seconds'.");
}

/* ERROR of the type's input function when it is none. */
static void
check_input(PGFunction input, const char *value, int typmod)
{
	DirectFunctionCall3(input, CStringGetDatum(value),
						ObjectIdGetDatum(InvalidOid), Int32GetDatum(typmod));
}

static void
check_start(const char *value)
{
	if (sx_option_is_choice("earliest|latest", value))
		return;
	if (value[0] == '{')
		DirectFunctionCall1(jsonb_in, CStringGetDatum(value));
	else if (strspn(value, "abcdefghijklmnopqrstuvwxyz") == strlen(value) &&
			 !sx_option_is_choice("now|today|yesterday|tomorrow", value))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"start\" cannot be \"%s\"", value),
				 errhint("Use earliest, latest, a timestamp, or offsets by partition as in '{\"0\": 42}'.")));
	else
		check_input(timestamptz_in, value, -1);
}

/* Numbers and ranges, separated by commas. */
static bool
is_partition_list(const char *p)
{
	for (;;)
	{
		char	   *end;
		long		first;
		long		last;

		if (!isdigit((unsigned char) *p))
			return false;
		first = last = strtol(p, &end, 10);
		if (*end == '-')
		{
			p = end + 1;
			if (!isdigit((unsigned char) *p))
				return false;
			last = strtol(p, &end, 10);
		}
		if (last < first || last > PG_INT32_MAX)
			return false;
		if (*end == '\0')
			return true;
		if (*end != ',')
			return false;
		p = end + 1;
		while (*p == ' ')
			p++;
	}
}

static void
check_parallelism(const SxOptionDef *def, const char *value)
{
	const SxOptionDef range = {.name = def->name, .min = 1, .max = 64};

	check_int(&range, value);
}

static void
check_emit(const SxOptionDef *def, const char *value)
{
	const SxOptionDef interval = {.name = def->name, .min = 1};

	if (sx_option_is_choice("changes|final", value))
		return;
	if (strpbrk(value, "0123456789") == NULL)
		invalid_value(def, value,
					  "Valid values are: changes, final, or an interval as '5 seconds'.");
	check_interval(&interval, value);
}

static void
check_timezone(const SxOptionDef *def, const char *value)
{
	if (pg_tzset(value) == NULL)
		invalid_value(def, value, "Give a time zone as pg_timezone_names shows it.");
}

static void
check_value(const SxOptionDef *def, const char *value)
{
	bool		boolean;

	switch (def->type)
	{
		case SX_VALUE_TEXT:
			/* what stands for NULL may well be nothing at all, as parts of a name */
			if (value[0] == '\0' && !sx_option_is_choice("null|prefix|suffix", def->name))
				invalid_value(def, value, "The value cannot be empty.");
			break;
		case SX_VALUE_BOOL:
			if (!parse_bool(value, &boolean))
				invalid_value(def, value, "Valid values are: on, off.");
			break;
		case SX_VALUE_INT:
			check_int(def, value);
			break;
		case SX_VALUE_FACTOR:
			check_number(def, value, true);
			break;
		case SX_VALUE_POSITIVE:
			check_number(def, value, false);
			break;
		case SX_VALUE_INTERVAL:
			check_interval(def, value);
			break;
		case SX_VALUE_ENUM:
			if (strcmp(def->name, "format") == 0 && !sx_option_is_choice(def->choices, value) &&
				sx_option_is_choice("avro|debezium|binary", value))
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("format \"%s\" is not supported yet", value),
						 errhint("Use json, csv, text or raw.")));
			check_choice(def, value);
			break;
		case SX_VALUE_CHAR:
			if (strlen(value) != 1 || value[0] == '\n' || value[0] == '\r')
				invalid_value(def, value, "Give one single-byte character.");
			break;
		case SX_VALUE_ENCODING:
			if (pg_char_to_encoding(value) < 0)
				invalid_value(def, value, "Give the name of an encoding, as 'UTF8' or 'LATIN1'.");
			break;
		case SX_VALUE_TIMEZONE:
			check_timezone(def, value);
			break;
		case SX_VALUE_START:
			check_start(value);
			break;
		case SX_VALUE_PARTITIONS:
			if (!is_partition_list(value))
				invalid_value(def, value, "Give numbers and ranges, as '0-7,9'.");
			break;
		case SX_VALUE_PARALLELISM:
			check_parallelism(def, value);
			break;
		case SX_VALUE_EMIT:
			check_emit(def, value);
			break;
		case SX_VALUE_SPAN:
			(void) sx_span_option(def->name, value);
			break;
		case SX_VALUE_LATER:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("option \"%s\" is not supported yet", def->name),
					 errhint("Leave it out.")));
			break;
	}
}

/* Names the option when an input function complains about its value. */
static void
name_option(void *arg)
{
	errcontext("option \"%s\"", (const char *) arg);
}

void
sx_option_value_check(const SxOptionDef *def, const char *value)
{
	ErrorContextCallback context = {
		.previous = error_context_stack,
		.callback = name_option,
		.arg = unconstify(char *, def->name)
	};

	if (def->type != SX_VALUE_START && def->type != SX_VALUE_INTERVAL &&
		def->type != SX_VALUE_SPAN)
	{
		check_value(def, value);
		return;
	}
	error_context_stack = &context;
	check_value(def, value);
	error_context_stack = context.previous;
}
