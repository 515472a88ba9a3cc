/*-------------------------------------------------------------------------
 *
 * source_socket.h
 *		The connector 'socket' without a log.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_SOURCE_SOCKET_H
#define SX_SOURCE_SOCKET_H

#include "source/source.h"

/* durable = off */
extern SxSource *sx_socket_open_direct(SxStream *stream, int pipeline, SxPart *parts,
									   int nparts);

#endif							/* SX_SOURCE_SOCKET_H */
