/*-------------------------------------------------------------------------
 *
 * sink_columns.h
 *		What the files of the sinks table and null share: sink*.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_SINK_COLUMNS_H
#define SX_SINK_COLUMNS_H

#include "nodes/parsenodes.h"

/* The column that the statement of a sink with a key adds to those of the query. */
#define SX_SINK_ROW	"sx_row"

/* One column of the query and the column of the target that it goes into. */
typedef struct SxSinkColumn
{
	char	   *name;			/* of the query */
	char	   *target;
	AttrNumber	attno;			/* of the target; 0: not there yet */
	Oid			type;
	int32		typmod;
	Oid			target_type;
	bool		is_key;
	bool		may_be_null;
} SxSinkColumn;

/* Does the query have a column that says whether a row deletes? */
extern bool sx_sink_deletes(Query *query);

/* Of SxSinkColumn; each goes into a column of its own name until a target is matched. */
extern List *sx_sink_columns(Query *query);
extern SxSinkColumn *sx_sink_column(List *columns, const char *name);

/* Marks the columns of option key; false when there is none. */
extern bool sx_sink_mark_keys(List *columns, List *options);

/* Pairs the columns with those of the target, by position. */
extern void sx_sink_match_target(List *columns, Oid target);

/* "a, b": those of the target, or of the query, each behind the prefix */
extern char *sx_sink_names(List *columns, bool of_target, const char *prefix);

/* … and those of the keys alone */
extern char *sx_sink_key_names(List *columns, bool of_target);

extern bool sx_is_table_sink(List *options);

#endif							/* SX_SINK_COLUMNS_H */
