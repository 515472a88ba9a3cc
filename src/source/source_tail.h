/*-------------------------------------------------------------------------
 *
 * source_tail.h
 *		The connector 'file' with tail = on: a single growing file.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_SOURCE_TAIL_H
#define SX_SOURCE_TAIL_H

#include "source/source.h"

extern SxSource *sx_tail_open(SxStream *stream, int pipeline, SxPart *parts, int nparts);

/* For lanes: see SxSourceOps. */
extern bool sx_tail_lane_start(SxStream *stream, SxLaneStart *start);

#endif							/* SX_SOURCE_TAIL_H */
