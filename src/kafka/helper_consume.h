/*-------------------------------------------------------------------------
 *
 * helper_consume.h
 *		streamext-kafka: what the files of the consumer share.
 *
 * All of it belongs to the data thread.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_HELPER_CONSUME_H
#define SX_HELPER_CONSUME_H

#include "helper.h"

#define SX_FETCH_MESSAGES	2000

/*
 * A partition begins as CHECKING when the server sent an anchor: it is read from the
 * anchor on, and nothing is handed over before that record has been compared.
 *
 *		CHECKING ── same record, or none any more ──> TRUSTED
 *		   └────── another record, log too short ───> FAILED
 */
typedef enum PartCheck
{
	PART_TRUSTED,
	PART_CHECKING,
	PART_FAILED
} PartCheck;

typedef struct ConsumedPart
{
	int32_t		part;			/* index of the server */
	int			topic;
	int32_t		partition;
	int64_t		start;			/* what the server wants to have first */
	PartCheck	check;
	int64_t		anchor_offset;
	int64_t		anchor_time;	/* -1: none */
	bool		has_hash;
	uint64_t	anchor_hash;
	bool		seen;			/* a record or the end has come */
	int64_t		low;			/* as last reported */
	int64_t		high;
} ConsumedPart;

typedef struct Consumer
{
	Helper	   *h;
	SxRingWriter ring;
	uint64_t	unpublished;	/* bytes */
	rd_kafka_queue_t *queue;
	rd_kafka_message_t *msgs[SX_FETCH_MESSAGES];
	int			nmsgs;
	int			next;			/* first of msgs that is not in the ring yet */
	ConsumedPart **parts;
	int			nparts;
	int64_t		ends_at;		/* ms: when ends were looked at last */

	/* helper_consume.c, refill */
	int			plenty_messages;	/* with so many in the queue, fetching may have stopped … */
	int64_t		plenty_bytes;	/* … or with so many bytes of them */
	int			most;			/* messages in the queue since fetching was last spurred */
} Consumer;

/* helper_ring.c: records are laid into the ring; false: no room */
extern void ring_map(Consumer *c);
extern void ring_publish(Consumer *c);
extern bool ring_put_data(Consumer *c, int32_t part, const rd_kafka_message_t *m);
extern bool ring_put_end(Consumer *c, int32_t part, int64_t offset);
extern bool ring_put_error(Consumer *c, int32_t part, int code, const char *text);

/* helper_parts.c: partitions and what is known of them */
extern void parts_assign(Consumer *c, SxFrameReader *frame);
extern bool parts_message(Consumer *c, const rd_kafka_message_t *m);
extern void parts_report_ends(Consumer *c);
extern rd_kafka_topic_partition_list_t *parts_list(const Consumer *c);
extern bool parts_seen(const Consumer *c);

#endif							/* SX_HELPER_CONSUME_H */
