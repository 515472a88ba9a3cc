/*-------------------------------------------------------------------------
 *
 * timestamp.h
 *		Direct parsers for the common spellings of times, dates and UUIDs.
 *
 * Each answers false for anything that it does not know or that is out of
 * range; the caller then asks the type's input function, which knows all
 * spellings and all error messages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_TIMESTAMP_H
#define SX_TIMESTAMP_H

#include "datatype/timestamp.h"
#include "pgtime.h"
#include "utils/date.h"
#include "utils/uuid.h"

/* What a number means as a time: option "timestamp_format". */
typedef enum SxTimeUnit
{
	SX_TIME_ISO = 0,			/* nothing: times are ISO 8601 texts */
	SX_TIME_SECONDS,
	SX_TIME_MILLISECONDS,
	SX_TIME_MICROSECONDS
} SxTimeUnit;

/* ERROR 22023 for an unknown name. */
extern SxTimeUnit sx_time_unit(const char *name);

/* Microseconds of one unit, 0 for SX_TIME_ISO. */
extern int64 sx_time_unit_usec(SxTimeUnit unit);

/* YYYY-MM-DD */
extern bool sx_parse_date(const char *str, size_t len, DateADT *date);

/*
 * YYYY-MM-DD, T or a blank, HH:MM[:SS[.fraction]], then nothing, Z or ±HH[[:]MM].
 * with_zone: the offset counts, a time without one is in zone (NULL: UTC).
 * Otherwise the offset is ignored, as timestamp_in() does.
 */
extern bool sx_parse_timestamp(const char *str, size_t len, bool with_zone,
							   pg_tz *zone, Timestamp *timestamp);

/* A decimal number of this unit since 1970. */
extern bool sx_parse_epoch(const char *str, size_t len, SxTimeUnit unit,
						   Timestamp *timestamp);

/* 8-4-4-4-12 hexadecimal digits */
extern bool sx_parse_uuid(const char *str, size_t len, pg_uuid_t *uuid);

#endif							/* SX_TIMESTAMP_H */
