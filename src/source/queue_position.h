/*-------------------------------------------------------------------------
 *
 * queue_position.h
 *		Positions in the log of a stream: what of it is processed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_QUEUE_POSITION_H
#define SX_QUEUE_POSITION_H

#include "source/queue_snapshot.h"

/* A position, parsed. */
typedef struct SxQueuePosition
{
	SxXidSnapshot *done;
	SxXidSnapshot *target;		/* NULL: none */
	int64		seq;			/* of target, processed up to here */
} SxQueuePosition;

/* From and to the text of a JSON object; NULL is the position before every row. */
extern void sx_queue_position_parse(const char *text, SxQueuePosition *pos);
extern char *sx_queue_position_text(const SxQueuePosition *pos);

/* Is a row of this transaction and number behind the position? */
extern bool sx_queue_position_pending(const SxQueuePosition *pos, uint64 xid, int64 seq);

#endif							/* SX_QUEUE_POSITION_H */
