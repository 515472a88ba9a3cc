/*-------------------------------------------------------------------------
 *
 * stream_changes_internal.h
 *		What stream_changes.c and stream_changes_sql.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_STREAM_CHANGES_INTERNAL_H
#define SX_STREAM_CHANGES_INTERNAL_H

#include "plan/plan_internal.h"

typedef struct SxChangeKey
{
	bool		known;			/* a row before and one after with this key are one row */
	List	   *columns;		/* names; NIL when there is only one row */
} SxChangeKey;

/* ---------- stream_changes.c ---------- */

/* The range table index of the view; ERROR when the query is anything but a look at it. */
extern Index sx_changes_view_index(Query *query);
extern SxViewOptions *sx_changes_view_options(Oid view);

/* Names of the query's columns, and of one as it was before. */
extern List *sx_changes_column_names(Query *query);
extern char *sx_changes_old_name(const char *name);

/* ---------- stream_changes_sql.c ---------- */

/* final: v gives out closed windows; appends: rows are only added to it. */
extern char *sx_stream_changes_sql(Query *query, Oid view, const SxChangeKey *key,
								   bool final, bool appends);

#endif							/* SX_STREAM_CHANGES_INTERNAL_H */
