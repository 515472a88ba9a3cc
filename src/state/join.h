/*-------------------------------------------------------------------------
 *
 * join.h
 *		The batch of a view that is a join of two streams.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_STATE_JOIN_H
#define SX_STATE_JOIN_H

#include "worker/batch.h"

extern const SxStepOps sx_join_ops;

#endif							/* SX_STATE_JOIN_H */
