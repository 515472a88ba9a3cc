/*-------------------------------------------------------------------------
 *
 * lane_internal.h
 *		What lane_create.c and lane_detach.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_LANE_INTERNAL_H
#define SX_LANE_INTERNAL_H

#include "nodes/pg_list.h"
#include "source/source.h"

/* Oids as an array. */
extern Datum sx_lane_oids(const List *oids);

/*
 * The row of a pipeline beside another one, named after what it runs.  lane_of 0: no lane.
 * Returns its id; it has no progress yet.
 */
extern int	sx_lane_insert(int pipeline, int lane_of, const char *schema, const char *relname,
						   const char *lane_for);

/* Gives it these of the other one's source streams, with their watermarks or without. */
extern void sx_lane_copy_sources(int pipeline, int lane, const List *streams,
								 bool watermarks);

/* Can a lane of the pipeline read the stream?  False: start->missing says why not. */
extern bool sx_lane_ask_source(int pipeline, Oid relid, SxLaneStart *start);

#endif							/* SX_LANE_INTERNAL_H */
