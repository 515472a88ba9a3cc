/*-------------------------------------------------------------------------
 *
 * arrival_window.h
 *		Windowed streams in a batch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_ARRIVAL_WINDOW_H
#define SX_ARRIVAL_WINDOW_H

#include "worker/batch_internal.h"

extern const SxStepOps sx_window_ops;

/*
 * First and last batch of the window that fires in the batch in progress; false when
 * it does not fire.  first > last: it is empty.
 */
extern bool sx_window_range(const SxStep *step, int64 *first, int64 *last);

#endif							/* SX_ARRIVAL_WINDOW_H */
