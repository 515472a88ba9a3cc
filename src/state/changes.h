/*-------------------------------------------------------------------------
 *
 * changes.h
 *		What a batch has changed in a state table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_CHANGES_H
#define SX_CHANGES_H

#include "executor/tuptable.h"
#include "utils/relcache.h"
#include "worker/batch.h"

/* Steps that another one stands on: their changes are kept during a batch. */
extern void sx_changes_open(SxPipeline *pl);

/*
 * The changes live in the (sub)transaction that made them: end them before it commits,
 * forget them after it was aborted.
 */
extern void sx_changes_end(SxStep *step);
extern void sx_changes_forget(SxStep *step);

/* Makes the triggers that note what is written to a state table; none twice. */
extern void sx_changes_capture(Oid state);

/* Are these the only triggers of the table?  Then who writes to it may … */
extern bool sx_changes_triggers_only(Relation state);

/* … do without them, and note a row as it was, and as it is; NULL: there is none. */
extern void sx_changes_note(SxStep *step, TupleTableSlot *before, TupleTableSlot *after);

/* The step of the running batch that keeps this state table; NULL: none. */
extern SxStep *sx_step_of_state(Oid state);

#endif							/* SX_CHANGES_H */
