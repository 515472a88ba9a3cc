/*-------------------------------------------------------------------------
 *
 * span.c
 *		A length in batches or in time, as options window and slide take it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "ddl/span.h"
#include "fdw/stream.h"
#include "plan/plan_internal.h"

#define MAX_BATCHES		1000000000

/* Is this "N batches"?  Spaces around the words do not count. */
static bool
parse_batches(const char *value, int64 *n)
{
	char	   *end;

	errno = 0;
	*n = strtoll(value, &end, 10);
	if (end == value || errno != 0)
		return false;
	while (isspace((unsigned char) *end))
		end++;
	if (pg_strncasecmp(end, "batch", 5) != 0)
		return false;
	end += 5;
	if (pg_strncasecmp(end, "es", 2) == 0)
		end += 2;
	while (isspace((unsigned char) *end))
		end++;
	return *end == '\0';
}

/* Letters, or hh:mm:ss; a bare number would be seconds, which nobody sees. */
static bool
has_unit(const char *value)
{
	return strpbrk(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:") != NULL &&
		strcmp(value, "on") != 0;
}

SxSpan
sx_span_option(const char *option, const char *value)
{
	SxSpan		span;

	span.batches = parse_batches(value, &span.n);
	if (!span.batches && !has_unit(value))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" needs a unit, not \"%s\"", option, value),
				 errhint("Give a number of batches, as '3 batches', or an interval, as '30 seconds'.")));
	if (!span.batches)
		span.n = sx_interval_option_usec(option, value);
	if (span.batches && span.n > MAX_BATCHES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" must not be above %d batches, not \"%s\"", option, MAX_BATCHES, value)));
	if (span.n <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" must be above 0, not \"%s\"", option, value),
				 errhint("Give a number of batches, as '3 batches', or an interval, as '30 seconds'.")));
	return span;
}

char *
sx_span_text(SxSpan span)
{
	if (span.batches)
		return psprintf(span.n == 1 ? INT64_FORMAT " batch" : INT64_FORMAT " batches", span.n);
	return sx_length_text(span.n);
}
