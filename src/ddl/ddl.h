/*-------------------------------------------------------------------------
 *
 * ddl.h
 *		CREATE / ALTER / DROP STREAM, and the options of streams.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_DDL_H
#define SX_DDL_H

#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"

/* From _PG_init: makes STREAM known to the lexer (postmaster only, preload). */
extern void sx_keyword_init(void);

/* From _PG_init: the ProcessUtility hook. */
extern void sx_utility_init(void);

/*
 * Does the statement at [location, location + len) of text say CREATE, ALTER or
 * DROP followed by the word STREAM?  len 0: to the end.  Skips white space and
 * comments as the lexer does.
 */
extern bool sx_says_stream(const char *text, int location, int len);

/* What an option list belongs to. */
typedef enum SxOptionTarget
{
	SX_OPT_SERVER = 1 << 0,
	SX_OPT_USER_MAPPING = 1 << 1,
	SX_OPT_SOURCE = 1 << 2,		/* a stream that reads */
	SX_OPT_SINK = 1 << 3,		/* CREATE STREAM … AS SELECT with a connector */
	SX_OPT_COLUMN = 1 << 4,
	SX_OPT_VIEW = 1 << 5,		/* CREATE MATERIALIZED VIEW */
	SX_OPT_DERIVED = 1 << 6		/* CREATE STREAM … AS SELECT without a connector */
} SxOptionTarget;

/*
 * Checks names and values of the options (DefElems whose arg is a String, or NULL
 * for a bare name = 'on').  ERROR for an unknown one names the nearest valid one
 * and lists all in the HINT.  connector may be NULL: any.
 */
extern void sx_options_validate(List *options, SxOptionTarget target,
								const char *connector);

/* Turns what the grammar gives in WITH (…) into DefElems with String args. */
extern List *sx_options_from_with(List *with);

/* Option by name, NULL when missing. */
extern const char *sx_option(List *options, const char *name);

#endif							/* SX_DDL_H */
