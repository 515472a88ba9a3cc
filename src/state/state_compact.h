/*-------------------------------------------------------------------------
 *
 * state_compact.h
 *		Rows that go to the front of a state table that has become sparse.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_STATE_COMPACT_H
#define SX_STATE_COMPACT_H

#include "state/state_table.h"
#include "worker/batch.h"

/*
 * At the beginning of a batch, when nothing of the table was written or looked up yet.  If
 * there is much more room in it than its rows need, moves some of those at its end.  What it
 * writes is seen when it returns.  true: somebody vacuums the table, and can make it smaller
 * if nobody has a lock on it for SX_WAY_US after the transaction.
 *
 * Where several workers write to a table, each moves its own rows only.
 */
extern bool sx_state_compact(SxStateTable *table, const SxPipeline *pl);

/* VACUUM tries every 50 ms, for 5 s. */
#define SX_WAY_US		INT64CONST(80000)

/*
 * Before a row is replaced, in a table that had more room than its rows need: if it must leave
 * its page, it goes to the first behind the front that has room.  tid NULL: before one is
 * inserted.
 */
extern void sx_state_lead_on(SxStateTable *table, const ItemPointerData *tid);

static inline void
sx_state_lead(SxStateTable *table, const ItemPointerData *tid)
{
	if (table->leads)
		sx_state_lead_on(table, tid);
}

/* After a page was pruned: what is free in it, if that is much, can be found by others. */
extern void sx_state_note_room(SxStateTable *table, Buffer buffer);

#endif							/* SX_STATE_COMPACT_H */
