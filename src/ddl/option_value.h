/*-------------------------------------------------------------------------
 *
 * option_value.h
 *		What an option takes, and the check of a value against it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_OPTION_VALUE_H
#define SX_OPTION_VALUE_H

typedef enum SxValueType
{
	SX_VALUE_TEXT,				/* anything but the empty string */
	SX_VALUE_BOOL,
	SX_VALUE_INT,				/* min to max */
	SX_VALUE_FACTOR,			/* a number, 0 or more */
	SX_VALUE_POSITIVE,			/* a number above 0 */
	SX_VALUE_INTERVAL,			/* without months, at least min microseconds */
	SX_VALUE_ENUM,				/* one of "choices", separated by | */
	SX_VALUE_CHAR,				/* one single-byte character */
	SX_VALUE_ENCODING,
	SX_VALUE_TIMEZONE,
	SX_VALUE_START,				/* earliest, latest, a timestamp or positions */
	SX_VALUE_PARTITIONS,		/* 0-7,9 */
	SX_VALUE_PARALLELISM,		/* 1 to 64 */
	SX_VALUE_EMIT,				/* changes, final or an interval */
	SX_VALUE_SPAN,				/* 3 batches, or an interval */
	SX_VALUE_LATER				/* not supported yet */
} SxValueType;

typedef struct SxOptionDef
{
	const char *name;
	int			targets;		/* of SxOptionTarget */
	int			connectors;		/* bits of options.c, 0: any */
	SxValueType type;
	const char *choices;
	int64		min;
	int64		max;
} SxOptionDef;

/* ERROR when value is none that the option takes. */
extern void sx_option_value_check(const SxOptionDef *def, const char *value);

/* Is value one of "a|b|c"? */
extern bool sx_option_is_choice(const char *choices, const char *value);

/*
 * Is candidate less than *distance edits away from a wrong name?  Then *distance
 * becomes what it is.
 */
extern bool sx_name_is_nearer(const char *name, const char *candidate, int *distance);

#endif							/* SX_OPTION_VALUE_H */
