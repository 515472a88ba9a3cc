/*-------------------------------------------------------------------------
 *
 * view_changes.h
 *		The batch of a stream of changes of a continuous view.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_VIEW_CHANGES_H
#define SX_VIEW_CHANGES_H

#include "worker/batch.h"

extern const SxStepOps sx_changes_ops;

#endif							/* SX_VIEW_CHANGES_H */
