/*-------------------------------------------------------------------------
 *
 * timestamp.c
 *		Direct parsers for the common spellings of times, dates and UUIDs.
 *
 * timestamptz_in() splits its input into fields and looks words up; for the one
 * spelling that machines write this costs more than everything else that is done
 * to a record.  These parsers know fixed positions only.  They give exactly what
 * the input function gives for the same text, fraction rounding included.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "common/int.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "format/timestamp.h"

#define UNIX_EPOCH_USEC \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)
#define MAX_FRACTION_DIGITS 15

static const double power_of_ten[] = {
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7,
	1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15
};
static const int64 integer_power_of_ten[] = {1, 10, 100, 1000, 10000, 100000, 1000000};

SxTimeUnit
sx_time_unit(const char *name)
{
	if (strcmp(name, "iso") == 0)
		return SX_TIME_ISO;
	if (strcmp(name, "s") == 0)
		return SX_TIME_SECONDS;
	if (strcmp(name, "ms") == 0)
		return SX_TIME_MILLISECONDS;
	if (strcmp(name, "us") == 0)
		return SX_TIME_MICROSECONDS;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\": \"%s\"", "timestamp_format", name),
			 errhint("Valid values are iso, s, ms and us.")));
}

int64
sx_time_unit_usec(SxTimeUnit unit)
{
	switch (unit)
	{
		case SX_TIME_SECONDS:
			return USECS_PER_SEC;
		case SX_TIME_MILLISECONDS:
			return 1000;
		case SX_TIME_MICROSECONDS:
			return 1;
		case SX_TIME_ISO:
			break;
	}
	return 0;
}

static inline bool
digits(const char *str, int n, int *value)
{
	int			v = 0;

	for (int i = 0; i < n; i++)
	{
		unsigned	d = (unsigned char) str[i] - '0';

		if (d > 9)
			return false;
		v = v * 10 + d;
	}
	*value = v;
	return true;
}

/* Year 1 to 9999; the first ten characters must be readable. */
static bool
parse_ymd(const char *str, struct pg_tm *tm)
{
	return digits(str, 4, &tm->tm_year) && str[4] == '-' &&
		digits(str + 5, 2, &tm->tm_mon) && str[7] == '-' &&
		digits(str + 8, 2, &tm->tm_mday) &&
		tm->tm_year >= 1 && tm->tm_mon >= 1 && tm->tm_mon <= 12 && tm->tm_mday >= 1 &&
		tm->tm_mday <= day_tab[isleap(tm->tm_year)][tm->tm_mon - 1];
}

bool
sx_parse_date(const char *str, size_t len, DateADT *date)
{
	struct pg_tm tm;

	if (len != 10 || !parse_ymd(str, &tm))
		return false;
	*date = date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE;
	return true;
}

/*
 * The digits behind a decimal point, as microseconds, rounded as PostgreSQL does.
 * Returns how many characters were read, 0 when it is no number of digits that
 * fits.
 */
static size_t
parse_fraction(const char *str, size_t len, double scale, int64 *usec)
{
	int64		value = 0;
	size_t		n = 0;

	for (; n < len && str[n] >= '0' && str[n] <= '9'; n++)
	{
		if (n == MAX_FRACTION_DIGITS)
			return 0;
		value = value * 10 + (str[n] - '0');
	}
	if (n <= 6 && scale == USECS_PER_SEC)
		*usec = value * integer_power_of_ten[6 - n];	/* the same, exact */
	else
		*usec = (int64) rint(value / power_of_ten[n] * scale);
	return n;
}

/* HH:MM[:SS[.fraction]]; returns the characters read, 0 when it is none. */
static size_t
parse_time(const char *str, size_t len, struct pg_tm *tm, int64 *usec)
{
	size_t		n;

	tm->tm_sec = 0;
	*usec = 0;
	if (len < 5 || !digits(str, 2, &tm->tm_hour) || str[2] != ':' ||
		!digits(str + 3, 2, &tm->tm_min) || tm->tm_hour > 23 || tm->tm_min > 59)
		return 0;
	if (len < 8 || str[5] != ':')
		return 5;
	if (!digits(str + 6, 2, &tm->tm_sec) || tm->tm_sec > 59)
		return 0;
	if (len < 9 || str[8] != '.')
		return 8;
	n = parse_fraction(str + 9, len - 9, USECS_PER_SEC, usec);
	return n == 0 ? 0 : 9 + n;
}

/* Z or ±HH[[:]MM] up to the end; *west: seconds to add to get UTC. */
static bool
parse_offset(const char *str, size_t len, int *west)
{
	int			hours;
	int			minutes = 0;

	*west = 0;
	if (len == 1 && (*str == 'Z' || *str == 'z'))
		return true;
	if (len < 3 || (*str != '+' && *str != '-') || !digits(str + 1, 2, &hours))
		return false;
	if (len == 5 && !digits(str + 3, 2, &minutes))
		return false;
	if (len == 6 && (str[3] != ':' || !digits(str + 4, 2, &minutes)))
		return false;
	if ((len != 3 && len != 5 && len != 6) || hours > MAX_TZDISP_HOUR || minutes > 59)
		return false;
	*west = (hours * MINS_PER_HOUR + minutes) * SECS_PER_MINUTE;
	if (*str == '+')
		*west = -*west;
	return true;
}

bool
sx_parse_timestamp(const char *str, size_t len, bool with_zone, pg_tz *zone,
				   Timestamp *timestamp)
{
	struct pg_tm tm;
	int64		usec;
	size_t		n;
	int			west = 0;

	if (len < 16 || !parse_ymd(str, &tm) ||
		(str[10] != 'T' && str[10] != ' ' && str[10] != 't'))
		return false;
	n = parse_time(str + 11, len - 11, &tm, &usec);
	if (n == 0)
		return false;
	n += 11;
	if (n < len)
	{
		if (!parse_offset(str + n, len - n, &west))
			return false;
		if (!with_zone)
			west = 0;
	}
	else if (with_zone && zone != NULL)
		west = DetermineTimeZoneOffset(&tm, zone);

	*timestamp = (int64) (date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) -
						  POSTGRES_EPOCH_JDATE) * USECS_PER_DAY +
		((tm.tm_hour * MINS_PER_HOUR + tm.tm_min) * SECS_PER_MINUTE + tm.tm_sec + west) *
		USECS_PER_SEC + usec;
	return true;
}

/* A number with an exponent, which some writers use for every large number. */
static bool
parse_scientific(const char *str, size_t len, SxTimeUnit unit, int64 *usec)
{
	char		buf[64];
	char	   *end;
	double		value;

	if (len >= sizeof(buf))
		return false;
	memcpy(buf, str, len);
	buf[len] = '\0';
	value = rint(strtod(buf, &end) * sx_time_unit_usec(unit));
	if (*end != '\0' || !FLOAT8_FITS_IN_INT64(value))
		return false;
	*usec = (int64) value;
	return true;
}

/* [-]digits[.digits], exactly. */
static bool
parse_decimal(const char *str, size_t len, SxTimeUnit unit, int64 *usec)
{
	bool		negative = len > 0 && str[0] == '-';
	size_t		start = negative ? 1 : 0;
	size_t		i = start;
	int64		value = 0;
	int64		fraction = 0;

	for (; i < len && str[i] >= '0' && str[i] <= '9'; i++)
	{
		if (i - start == 18)
			return false;
		value = value * 10 + (str[i] - '0');
	}
	if (i == start)
		return false;
	if (i < len && str[i] == '.')
	{
		size_t		n = parse_fraction(str + i + 1, len - i - 1,
									   (double) sx_time_unit_usec(unit), &fraction);

		if (n == 0)
			return false;
		i += 1 + n;
	}
	if (i != len ||
		pg_mul_s64_overflow(value, sx_time_unit_usec(unit), &value) ||
		pg_add_s64_overflow(value, fraction, &value))
		return false;
	*usec = negative ? -value : value;
	return true;
}

bool
sx_parse_epoch(const char *str, size_t len, SxTimeUnit unit, Timestamp *timestamp)
{
	int64		usec;

	if (!parse_decimal(str, len, unit, &usec) &&
		!parse_scientific(str, len, unit, &usec))
		return false;
	if (pg_sub_s64_overflow(usec, UNIX_EPOCH_USEC, timestamp))
		return false;
	return IS_VALID_TIMESTAMP(*timestamp);
}

static inline int
hex_digit(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool
sx_parse_uuid(const char *str, size_t len, pg_uuid_t *uuid)
{
	if (len != 36 || str[8] != '-' || str[13] != '-' || str[18] != '-' || str[23] != '-')
		return false;
	for (int i = 0; i < UUID_LEN; i++)
	{
		int			high;
		int			low;

		if (*str == '-')
			str++;
		high = hex_digit(str[0]);
		low = hex_digit(str[1]);
		if (high < 0 || low < 0)
			return false;
		uuid->data[i] = (unsigned char) (high << 4 | low);
		str += 2;
	}
	return true;
}
