/*-------------------------------------------------------------------------
 *
 * recompute.h
 *		The batch of a view that stands on nodes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_RECOMPUTE_H
#define SX_RECOMPUTE_H

#include "worker/batch.h"

extern const SxStepOps sx_recompute_ops;

#endif							/* SX_RECOMPUTE_H */
