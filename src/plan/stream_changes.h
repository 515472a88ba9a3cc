/*-------------------------------------------------------------------------
 *
 * stream_changes.h
 *		Streams of the changes of a continuous view.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_STREAM_CHANGES_H
#define SX_STREAM_CHANGES_H

#include "nodes/parsenodes.h"

/* The view that the query of such a stream looks at; ERROR when it is no such query. */
extern Oid	sx_changes_view(Query *query);

/*
 * Which columns of the query make a row before and after the same one; false: none are
 * known.  NIL and true: there is only one row.
 */
extern bool sx_changes_key(Query *query, List *options, List **columns);

/* ERROR when the stream's columns are not those of its query any more. */
extern void sx_changes_check_columns(Oid relid, Oid query_view);

#endif							/* SX_STREAM_CHANGES_H */
