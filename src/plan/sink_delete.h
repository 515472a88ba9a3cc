/*-------------------------------------------------------------------------
 *
 * sink_delete.h
 *		Sinks whose rows delete others: option delete_when.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_SINK_DELETE_H
#define SX_SINK_DELETE_H

#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"

/* The last column of the stored query: does the row delete? */
#define SX_DELETE_COLUMN	"sx_delete"

/* The options with delete_when where it goes without saying; ERROR where it does not fit. */
extern List *sx_sink_delete_options(Query *query, List *options);

/* The query with that column, when the options have delete_when. */
extern Query *sx_sink_delete_query(Query *query, List *options);

/* SQL for "a and b are the same", of a type with equality; nulls: they may be NULL. */
extern char *sx_same_value_sql(Oid type, const char *a, const char *b, bool nulls);

#endif							/* SX_SINK_DELETE_H */
