/*-------------------------------------------------------------------------
 *
 * worker_slots.h
 *		What a worker does for being one of several of its pipeline.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_WORKER_SLOTS_H
#define SX_WORKER_SLOTS_H

#include "worker/batch.h"

/* This worker has committed something, or was woken: a watermark may have to be moved. */
extern void sx_slots_tell(const SxPipeline *pl);
extern void sx_slots_woken(void);

/* Milliseconds until slot 0 has to look; -1: nothing has happened.  busy: there is data. */
extern long sx_slots_wait(const SxPipeline *pl, TimestampTz now, bool busy);

/* Slot 0 looks, and moves what is to be moved.  False: fenced. */
extern bool sx_slots_look(SxPipeline *pl);

/*
 * This worker has processed what there was, for run() or for wait(), which asks each of
 * them.  Has the pipeline?  Closes what is to be closed by then.
 */
typedef enum SxSlotsEnd
{
	SX_SLOTS_ENDED,
	SX_SLOTS_NOT_YET,			/* of run(): slot 0 will say so, which is woken */
	SX_SLOTS_FENCED
} SxSlotsEnd;

extern SxSlotsEnd sx_slots_at_end(SxPipeline *pl, bool run_to_end);

#endif							/* SX_WORKER_SLOTS_H */
