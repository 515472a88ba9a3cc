/*-------------------------------------------------------------------------
 *
 * lane.h
 *		Lanes: steps that run beside the pipeline they belong to, until they have caught
 *		up with it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_LANE_H
#define SX_LANE_H

#include "nodes/pg_list.h"
#include "worker/batch.h"

/* ---------- lane_create.c: needs a transaction ---------- */

/* The pipeline that a lane is merged into; 0: it is no lane, or there is none. */
extern int	sx_lane_of(int pipeline);

/* Lanes of a pipeline, in order of their ids; in this state, or NULL: in any. */
extern List *sx_lanes_of(int pipeline, const char *state);

/* Was the lane made by this transaction?  Then steps may still be put into it. */
extern bool sx_lane_is_new(int lane);

/*
 * For a step that is to be made of these source streams: a lane of the pipeline that
 * reads them from the start.  0: none is needed, or (it says so by a NOTICE) possible;
 * then the step begins with the pipeline's next batch.
 */
extern int	sx_lane_for_backfill(int pipeline, const char *schema, const char *relname,
								 List *streams);

/*
 * Takes a step out of its pipeline into a lane that is stopped, together with all it
 * shares state with.  Returns the steps moved; NIL: that is impossible, why says the
 * reason.  sqlerrcode 0: no error, a user wants it.  Whoever calls it has a batch of the
 * pipeline neither running nor half done.
 */
extern List *sx_lane_detach(int pipeline, Oid failed, int sqlerrcode, const char *message,
							const char **why);

/*
 * For a worker, after an error: sx_lane_detach in a transaction of its own, if the
 * pipeline is still at this epoch.  False: the pipeline itself has to stop.
 */
extern bool sx_lane_detach_failed(int pipeline, int slot, int64 epoch, Oid failed, int sqlerrcode,
								  const char *message);

/* ---------- lane.c ---------- */

/* Locks the progress of a lane and of what it is merged into, in the order of all. */
extern void sx_lane_lock_progress(int lane, int lane_of);

/*
 * Lets the sources read up to where the other pipeline is now.  Needs a transaction; no
 * batch is loaded.
 */
extern void sx_lane_limit(SxPipeline *pl);

/* Has everything been read that the limits allow? */
extern bool sx_lane_at_limit(const SxPipeline *pl);

/*
 * Within the transaction of a batch with pl->merging: the first thing, and the last one
 * before the commit.  After the second, pl->merged says whether the lane is gone.
 */
extern void sx_lane_merge_begin(SxPipeline *pl);
extern void sx_lane_merge_end(SxPipeline *pl);

#endif							/* SX_LANE_H */
