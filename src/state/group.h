/*-------------------------------------------------------------------------
 *
 * group.h
 *		The batch of a view grouped by hand.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_GROUP_H
#define SX_GROUP_H

#include "executor/tuptable.h"
#include "nodes/parsenodes.h"
#include "state/split.h"

#define SX_MOST_GROUP_COLUMNS	32

typedef enum SxGroupKind
{
	SX_GROUP_KEY,
	SX_GROUP_COUNT,				/* of values, or of rows without an input */
	SX_GROUP_SUM,				/* of integers up to four bytes, as int8 */
	SX_GROUP_MIN,
	SX_GROUP_MAX
} SxGroupKind;

/* How values are compared and kept: all that is compared as bytes. */
typedef enum SxGroupForm
{
	SX_FORM_INTEGER,			/* by value, of so many bytes */
	SX_FORM_FIXED,				/* by reference, of so many bytes */
	SX_FORM_VARLENA
} SxGroupForm;

typedef struct SxGroupColumn
{
	SxGroupKind kind;
	Oid			type;			/* of the result */
	int			input;			/* number of its column in the input; 0: none */
	int			filter;			/* of a boolean in the input that lets rows in; 0: all */
	SxGroupForm form;			/* of the input, and of keys, minima and maxima */
	int			size;
} SxGroupColumn;

typedef struct SxGroupRule
{
	char	   *input_sql;		/* the rows that are grouped */
	int			ninput;			/* … their columns */
	int			ncolumns;		/* of a group, the keys before all others */
	SxGroupColumn columns[SX_MOST_GROUP_COLUMNS];
	int			nkeys;
	int			nresult;		/* of the result … */
	int			result[SX_MOST_GROUP_COLUMNS];	/* … and which of a group's each is, from 0 */
	List	   *quals;			/* over a group as INNER_VAR: groups that are no results */
	SxSplit    *split;			/* NULL; the first … */
	int			split_input;	/* … whose text is in this column of the input, from 1 */
} SxGroupRule;

/*
 * group_rule.c: from the query of a batch, which groups.  In that context; NULL: it does more than the
 * rule can say.
 */
extern SxGroupRule *sx_group_rule(const char *sql, MemoryContext context);

/* group_split.c: makes the text of it where a column is a piece of text, and says how it is split. */
extern SxSplit *sx_split_resolve(Query *query, Node **column);

typedef struct SxGroups SxGroups;
typedef struct SxGroup SxGroup;

/* In the current context; up to so much memory. */
extern SxGroups *sx_groups_create(const SxGroupRule *rule, TupleDesc input, Size memory);

/* Takes a row of the input. */
extern void sx_groups_take(SxGroups *groups, TupleTableSlot *slot);

/* There are no more rows in this pass; gives the number of groups. */
extern int	sx_groups_end_pass(SxGroups *groups);

/* The groups one after the other; NULL: the first.  They stay until sx_groups_next_pass(). */
extern SxGroup *sx_groups_after(const SxGroups *groups, const SxGroup *group);

/* Its columns.  What is by reference is part of the group. */
extern void sx_group_values(const SxGroupRule *rule, const SxGroup *group, Datum *values,
							bool *nulls);

/* Forgets the groups, and makes those that there was no room for; false: there are no more. */
extern bool sx_groups_next_pass(SxGroups *groups);

#endif							/* SX_GROUP_H */
