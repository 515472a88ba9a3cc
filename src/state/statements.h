/*-------------------------------------------------------------------------
 *
 * statements.h
 *		The batch of a step that is several statements.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_STATEMENTS_H
#define SX_STATEMENTS_H

#include "worker/batch.h"

extern const SxStepOps sx_statements_ops;

#endif							/* SX_STATEMENTS_H */
