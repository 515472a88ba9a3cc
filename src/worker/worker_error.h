/*-------------------------------------------------------------------------
 *
 * worker_error.h
 *		The end of a pipeline's worker by an error.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_WORKER_ERROR_H
#define SX_WORKER_ERROR_H

#include "worker/batch.h"
#include "worker/pipeline_row.h"

/* How far the worker had come. */
typedef struct SxWorkerLife
{
	int			pipeline_id;
	int			slot;
	const SxPipeline *pl;		/* NULL: not open yet */
	const SxPipelineRow *row;	/* as this worker began with it; NULL: not read yet */
	bool		proven;			/* the start no longer counts as a failure */
	int64		held_epoch;		/* below 0: none */
} SxWorkerLife;

/*
 * worker.c: begins a transaction.  False: the extension is gone, and with it the catalog, or
 * of another version.
 */
extern bool sx_worker_begin(void);

/*
 * Called in the error's handler.  An error when the extension has just been dropped
 * is of no interest.  An error in here ends the process with status 1.
 */
extern void sx_worker_fail(const SxWorkerLife *life);

#endif							/* SX_WORKER_ERROR_H */
