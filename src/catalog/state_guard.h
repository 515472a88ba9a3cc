/*-------------------------------------------------------------------------
 *
 * state_guard.h
 *		The tables in streamext_state are written by streamext only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_STATE_GUARD_H
#define SX_STATE_GUARD_H

#include "nodes/nodes.h"

/* From _PG_init: the hook that sees what queries write. */
extern void sx_state_guard_init(void);

/* ERROR 42501 when the utility statement would change such a table. */
extern void sx_check_state_tables(const Node *stmt);

/*
 * Around a statement of ours outside a batch that runs with the owner's rights.  Pair
 * them, with the end in PG_FINALLY.
 */
extern void sx_state_writing_begin(void);
extern void sx_state_writing_end(void);

#endif							/* SX_STATE_GUARD_H */
