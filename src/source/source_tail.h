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

#endif							/* SX_SOURCE_TAIL_H */
