/*-------------------------------------------------------------------------
 *
 * source_queue.h
 *		What the files of the connectors 'queue' and 'table' share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_SOURCE_QUEUE_H
#define SX_SOURCE_QUEUE_H

#include "access/htup.h"
#include "source/queue_position.h"
#include "source/queue_search.h"
#include "source/queue_snapshot.h"
#include "source/source.h"

typedef struct QueueSource
{
	SxSource	base;
	Oid			log;
	Oid			seq_index;
	Oid			xid_index;
	TupleDesc	desc;			/* of the log */
	AttrNumber *columns;		/* sx_queue_columns() */
	Datum	   *row_values;		/* a row of the log, while it is handed out */
	bool	   *row_isnull;

	MemoryContext position_context;
	SxQueuePosition at;			/* committed, or what equals it by now */
	uint64		looked;			/* transactions finished at the last fruitless look */

	/* the batch */
	bool		loaded;
	MemoryContext batch;
	SxQueuePosition behind;		/* position behind it */
	HeapTuple  *tuples;
	int			capacity;
	int64		remaining;		/* rows of target behind the batch; -1: unknown */

	SxPollRequest req;
	bool		has_rows;		/* said the last poll */
	int64		untrimmed_rows; /* processed since the last trim */
	int			untrimmed_batches;
	SxXidSnapshot *goal;		/* of reached_end, NULL: none */

	/* of a lane */
	MemoryContext limit_context;
	SxQueuePosition limit;
	int64		cap;			/* rows above are not for this batch */
} QueueSource;

/* source_queue.c: the position that is taken for committed */
extern void sx_queue_set_position(QueueSource *qs, const char *text);

/* … a batch: begins with the rows that target sees; reads on, true: all of them */
extern void sx_queue_set_target(QueueSource *qs, Relation log, Snapshot snapshot,
								SxXidSnapshot *target);
extern bool sx_queue_read_target(QueueSource *qs, Relation log, Snapshot snapshot);

/* source_queue_lane.c: for SxSourceOps, and reading as far as another pipeline has */
extern void sx_queue_limit(SxSource *source, int pipeline, const SxPart *parts, int nparts);
extern bool sx_queue_at_limit(SxSource *source);
extern bool sx_queue_look_below_limit(QueueSource *qs);
extern void sx_queue_read_below_limit(QueueSource *qs, Relation log, Snapshot snapshot);

#endif							/* SX_SOURCE_QUEUE_H */
