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

/* The last batch whose rows were deleted in the batch in progress; 0: none were. */
extern int64 sx_window_trimmed(const SxPipeline *pl, const SxStep *step);

/* Until AtEOXact_GUC() with the result, indexes are taken wherever they can be. */
extern int	sx_prefer_index(void);

#endif							/* SX_ARRIVAL_WINDOW_H */
