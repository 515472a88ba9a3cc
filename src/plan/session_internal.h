/*-------------------------------------------------------------------------
 *
 * session_internal.h
 *		What session_sql.c, session_rows.c and session_evict.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_SESSION_INTERNAL_H
#define SX_SESSION_INTERNAL_H

#include "plan/plan_internal.h"
#include "utils/builtins.h"

/* Argument columns of the rows, behind the keys. */
typedef struct SxSessionColumns
{
	List	   *targets;		/* of TargetEntry */
} SxSessionColumns;

static inline const char *
sx_quoted(const SxStateColumn *column)
{
	return quote_identifier(column->name);
}

/* ---------- session_rows.c ---------- */

/* Columns of the layout that are keys. */
extern List *sx_session_keys(const SxLayout *layout);

/* streamext.key_hash(…) of the keys; NULL when none of them can be hashed */
extern char *sx_session_hash_sql(const SxLayout *layout, const char *alias);

/* " AND a = b" for every key, NULL being equal to NULL */
extern char *sx_session_same_key_sql(const SxLayout *layout, const char *a, const char *b);

/* The keys alone; what aggregates take is added to them. */
extern SxSessionColumns *sx_session_key_columns(const SxLayout *layout);

/* What an aggregate takes is computed with the rows, below. */
extern Node *sx_session_arguments(Node *node, SxSessionColumns *rows);

/* The user's query with these columns, start and end for its output. */
extern Query *sx_session_rows(Query *query, const SxLayout *layout, const SxSessionColumns *rows);

/* The node's rows that the batch has added, in place of all. */
extern void sx_session_read_changes(Query *query);

/* ---------- session_evict.c ---------- */

/* The records that are late, with their streams. */
extern char *sx_session_late_sql(Query *query, const SxLayout *layout,
								 const SxStepNames *names);

/* Deletes rows of the node: of sessions that close, and of none that lives. */
extern char *sx_session_evict_sql(Query *query, const SxLayout *layout, const char *state);
extern char *sx_session_forget_sql(Query *query, const SxLayout *layout, const char *state);

#endif							/* SX_SESSION_INTERNAL_H */
