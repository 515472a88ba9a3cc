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

/* For as long as the pipeline is open: step->private. */
typedef struct SxRecomputeStep
{
	int			misses;			/* comparisons in turn that saved little */
	int			pause;			/* batches that do not compare rows */
} SxRecomputeStep;

extern const SxStepOps sx_recompute_ops;

/*
 * recompute_difference.c: writes what is different between the stored rows of the keys
 * and those computed again.  False: nothing was written, all of them are to be replaced.
 */
extern bool sx_recompute_difference(SxPipeline *pl, SxStep *step, int nargs, Oid *types,
									Datum *keys);

#endif							/* SX_RECOMPUTE_H */
