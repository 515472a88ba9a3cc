/*-------------------------------------------------------------------------
 *
 * state_function.h
 *		Calling the user's function of a stream with keyed state.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_STATE_FUNCTION_H
#define SX_STATE_FUNCTION_H

#include "plan/state_spec.h"

typedef struct SxStateFunction SxStateFunction;

/* In the current context; runs as the current user, who must have EXECUTE. */
extern SxStateFunction *sx_state_function_open(const SxStateSpec *spec);
extern void sx_state_function_close(SxStateFunction *function);

/* After a call that failed within a subtransaction: as if newly opened. */
extern void sx_state_function_recover(SxStateFunction *function);

/* Arguments, from 0: the state, the keys, the values.  Not copied. */
extern void sx_state_function_set(SxStateFunction *function, int arg, Datum value, bool isnull);

/* update_state: the new state, good until the next call. */
extern Datum sx_state_function_value(SxStateFunction *function, bool *isnull);

/*
 * map_with_state: calls it; then each call of _next gives a row, as *values and
 * *nulls by columns of spec->result, good until the next.
 */
extern void sx_state_function_call(SxStateFunction *function);
extern bool sx_state_function_next(SxStateFunction *function, Datum **values, bool **nulls);

#endif							/* SX_STATE_FUNCTION_H */
