/*-------------------------------------------------------------------------
 *
 * session.h
 *		The batch of a view over session windows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_SESSION_H
#define SX_SESSION_H

#include "worker/batch.h"

extern const SxStepOps sx_session_ops;

#endif							/* SX_SESSION_H */
