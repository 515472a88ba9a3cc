/*-------------------------------------------------------------------------
 *
 * panes.h
 *		Keeping the panes of an aggregate over a windowed stream.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_PANES_H
#define SX_PANES_H

#include "worker/batch.h"

/* Puts the batch in progress into the panes of a step: in each batch, before it is applied. */
extern void sx_panes_advance(SxPipeline *pl, SxStep *step);

#endif							/* SX_PANES_H */
