/*-------------------------------------------------------------------------
 *
 * map_with_state.h
 *		What the two files of map_with_state share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_MAP_WITH_STATE_H
#define SX_MAP_WITH_STATE_H

#include "state/keyed.h"

/* ---------- map_with_state.c ---------- */

/* Arguments behind the state: run->key and the record's values; NULL: none. */
extern void sx_map_set_arguments(SxKeyedRun *run, TupleTableSlot *slot);

/*
 * Calls the function with the state of the key, emits its rows, and with keep takes the
 * state and the timer that it gives.
 */
extern void sx_map_call(SxKeyedRun *run, SxKey *key, bool keep);

/* The columns of run->row behind the key. */
extern void sx_map_fill_row(SxKeyedRun *run, Datum state, bool has_updated, TimestampTz updated,
							bool has_timer, TimestampTz timer);

/* A timer goes into the table; see SxKeyedStep. */
extern void sx_map_note_timer(SxKeyedRun *run, TimestampTz timer);

/* ---------- map_due.c ---------- */

/* Keys that are due at the end of the batch. */
extern void sx_map_call_due(SxKeyedRun *run);

/* Of SxStepOps: when the next key is due. */
extern void sx_map_finish(SxPipeline *pl, SxStep *step);

/* When the oldest key times out; none is older than from. */
extern TimestampTz sx_map_next_timeout(SxStateTable *table, const SxStateSpec *spec,
									   TimestampTz from);

#endif							/* SX_MAP_WITH_STATE_H */
