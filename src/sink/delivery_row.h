/*-------------------------------------------------------------------------
 *
 * delivery_row.h
 *		Rows of streamext.outbox and streamext.delivery, as the sender needs them.
 *
 * All functions need a transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_DELIVERY_ROW_H
#define SX_DELIVERY_ROW_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* A sink with an outbox */
typedef struct SxOutboxSink
{
	Oid			sink;
	Oid			owner;
	char	   *label;
	char	   *options;		/* jsonb text */
	int64		delivered;		/* number of the last delivery that has arrived */
	bool		pending;		/* there are more */
	TimestampTz retry_at;		/* DT_NOBEGIN: at once */
	char	   *error_sqlstate; /* NULL: the last try was a success */
	char	   *error_message;
} SxOutboxSink;

/* A piece of a delivery */
typedef struct SxOutboxChunk
{
	int64		delivery;
	int			seq;
	bool		last;			/* of its delivery */
	char	   *data;
	size_t		len;
} SxOutboxChunk;

/* List of SxOutboxSink */
extern List *sx_outbox_sinks(void);

/* List of SxOutboxChunk behind (delivery, seq), at most limit, in order. */
extern List *sx_outbox_chunks(Oid sink, int64 delivery, int seq, int limit);

/*
 * Everything up to this delivery has arrived.  False: nothing was noted, as the sink
 * is gone, or about to go.
 */
extern bool sx_delivery_done(Oid sink, int64 delivery);

/* Notes an error, and sets the time of the next try.  False as above. */
extern bool sx_delivery_failed(Oid sink, int sqlerrcode, const char *message,
							   TimestampTz *retry_at);

#endif							/* SX_DELIVERY_ROW_H */
