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

/*
 * A position that shall get to where another one is, the limit, and no further: what is
 * next on the way?  The rows that target sees and pos->done does not, up to number cap;
 * PG_INT64_MAX: all.  False: it is there, or it is elsewhere.  target belongs to one of
 * the two.
 */
extern bool sx_queue_position_goal(const SxQueuePosition *pos, const SxQueuePosition *limit,
								   SxXidSnapshot **target, int64 *cap);

/* Those rows are processed. */
extern void sx_queue_position_pass(SxQueuePosition *pos, SxXidSnapshot *target, int64 cap);

extern bool sx_queue_position_equal(const SxQueuePosition *a, const SxQueuePosition *b);

/* Is a row of this transaction and number behind the position? */
extern bool sx_queue_position_pending(const SxQueuePosition *pos, uint64 xid, int64 seq);

#endif							/* SX_QUEUE_POSITION_H */
