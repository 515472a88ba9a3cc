/*-------------------------------------------------------------------------
 *
 * source_kafka.h
 *		What the files of the Kafka source share.
 *
 * A partition's life:
 *
 *		NEW ── RESOLVE sent ──> RESOLVING ── answered ──> FOUND ── committed ──>
 *		READY ── ASSIGN sent ──> ASSIGNED
 *
 * A partition whose position is in the catalog begins at READY.  FOUND waits until
 * its first position is committed, so that a restart begins at the same record
 * however the topic has changed by then.  A new helper takes ASSIGNED back to READY
 * and RESOLVING back to NEW.  FOREIGN: the catalog knows it, the options of the
 * stream no longer ask for it.
 *
 * Loss of data with on_data_loss = continue takes ASSIGNED back to NEW, with the gap to
 * be written down; then the way is the same, and a new helper begins behind the gap.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_SOURCE_KAFKA_H
#define SX_SOURCE_KAFKA_H

#include "kafka/client.h"
#include "kafka/config.h"
#include "nodes/bitmapset.h"
#include "source/source.h"

#define SX_RESOLVE_RETRY_US	INT64CONST(1000000)
#define SX_NO_TOPIC		PG_INT32_MAX	/* KafkaPart.topic of FOREIGN ones; sorts last */

typedef enum KafkaPartState
{
	KAFKA_PART_NEW,
	KAFKA_PART_RESOLVING,
	KAFKA_PART_FOUND,
	KAFKA_PART_READY,
	KAFKA_PART_ASSIGNED,
	KAFKA_PART_FOREIGN
} KafkaPartState;

/* The last record before a position, and whose log it is. */
typedef struct KafkaAnchor
{
	int64		offset;			/* -1: none */
	int64		time;			/* -1: it has none */
	bool		hashed;
	uint64		hash;
	const char *cluster;		/* NULL: not known */
} KafkaAnchor;

/* What belongs to SxSource.parts[i]. */
typedef struct KafkaPart
{
	KafkaPartState state;
	int			topic;			/* index into KafkaSource.topics */
	int32		partition;
	int64		start;			/* NEW: time in ms, or SX_OFFSET_… */
	int64		next;			/* behind what was taken from the ring; -1: unknown */
	int64		committed;		/* -1: none yet */
	int64		low;			/* oldest and newest offset as far as known, -1 */
	int64		high;
	int64		target;			/* end at the time of asking, -1: not known */
	int64		relief_end;		/* … as the relief has seen it, -1: not yet */
	TimestampTz ended_at;		/* read to its end since; 0: it is not */

	/* records taken from the ring, in [first, last) */
	SxRecord  **queue;
	int64	   *upto;			/* bytes of all records so far, each with those before
								 * it: a prefix is found without a look at its records */
	int64		bytes;			/* … the last one */
	int			first;
	int			last;
	int			room;
	int64		queue_bytes;
	int			cut;			/* of them, in the batch */
	int64		cut_next;		/* position behind the batch */
	int64		cut_bytes;

	int64		limit;			/* of a lane: no record from here on; -1: none at all */

	int64		error_code;		/* of a SX_RECORD_ERROR; error NULL: none */
	char	   *error;

	/* source_kafka_loss.c */
	KafkaAnchor anchor;			/* of the position behind the batch */
	KafkaAnchor committed_anchor;
	const char *lost;			/* reason of a gap to be committed, or NULL */
	int64		gap_from;
} KafkaPart;

typedef struct KafkaTopic
{
	char	   *name;
	int			partitions;		/* -1: not known, or it does not exist */
	char		problem[128];	/* "" or why it has no partitions */
} KafkaTopic;

typedef enum KafkaEnds
{
	KAFKA_ENDS_NONE,
	KAFKA_ENDS_ASKED,
	KAFKA_ENDS_KNOWN			/* KafkaPart.target is set */
} KafkaEnds;

typedef struct KafkaSource
{
	SxSource	base;
	KafkaPart  *parts;			/* base.nparts of them */
	int			parts_room;
	int		   *order;			/* parts in arrival order: topic, partition */
	KafkaTopic *topics;
	int			ntopics;
	int			topics_room;
	bool		slash;			/* parts are named topic/number */
	const char *pattern;		/* option topic_pattern, or NULL */
	bool		names_known;	/* with a pattern: all topics were looked at */
	bool		met;			/* this helper has told of topics and cluster */
	bool		met_ever;		/* a helper of this process has */
	char	   *cluster;		/* id, NULL: not known */
	bool		continues;		/* on_data_loss = continue */
	bool		renew;			/* a new helper is wanted, at the same positions or behind a
								 * gap */
	bool		fresh;			/* new pipeline: option start counts */
	const char *start;
	Bitmapset  *wanted;			/* option partitions; NULL: all */
	int64		idle_timeout;	/* microseconds */

	SxKafkaClient *client;
	SxHeaders	headers;		/* what the next helper is told */
	StringInfoData config[SX_HELPER_RESTING + 1];	/* by kind */
	uint64		ring_bytes;
	bool		careful;		/* a careful helper is the one to have */
	int			deaths;			/* of helpers, without progress in between */
	int64		progress;		/* records taken in all */
	int64		progress_at_start;	/* … when the helper was started */
	TimestampTz restart_at;

	/* source_kafka_rest.c */
	bool		may_rest;
	bool		resting;		/* client is a helper that rests while nothing comes */
	SxKafkaClient *relief;		/* shall take client's place soon, if it is started */
	bool		relief_met;		/* it has been given its partitions */
	int			rest_wait;		/* ms: how long a Fetch of one that rests waits */
	TimestampTz relief_at;		/* its start */
	int64		relief_progress;	/* progress at that time */
	TimestampTz record_at;		/* of the last record, or of the first look … */
	int64		record_progress;	/* … and progress then */
	TimestampTz woken_at;		/* of the first record of this helper, 0: none */
	TimestampTz rest_not_before;

	TimestampTz resolve_at;		/* not before this time */

	bool		connected;
	bool		lost;			/* the helper gave up its connection and ended */
	TimestampTz started_at;		/* the helper */
	TimestampTz down_since;		/* 0: it is not */
	char		trouble[256];	/* last error of the connection, or "" */
	TimestampTz trouble_at;
	char		status[320];

	int64		max_rows;		/* of the last poll */
	int64		max_bytes;
	int64		queued;			/* records in all queues */
	int64		queued_bytes;
	bool		loaded;			/* records[] is the batch, until committed */
	int			records_room;
	TimestampTz saved_at;		/* last commit of a position */
	KafkaEnds	ends;
	bool		ends_first;		/* assign nothing before the ends are known */

	bool		limit_unknown;	/* of a lane: the limit is in a partition not found yet */
	int64		progress_seen;	/* … and when the queues were found clogged */
	TimestampTz clogged_at;

	/* peek: records are copied into chunks */
	bool		peeking;
	char	   *chunk;
	Size		chunk_left;
	int64		chunk_bytes;	/* in all chunks */
} KafkaSource;

/* source_kafka_parts.c: the list of partitions, and requests about them */
extern void sx_kafka_parts_open(KafkaSource *k, const SxPart *parts, int nparts);
extern void sx_kafka_parts_restart(KafkaSource *k);
extern KafkaPart *sx_kafka_find_part(KafkaSource *k, int topic, int32 partition);
extern KafkaPart *sx_kafka_add_part(KafkaSource *k, const char *name, int topic,
									int32 partition);
extern void sx_kafka_sort_parts(KafkaSource *k);
extern bool sx_kafka_is_wanted(const KafkaSource *k, int topic, int32 partition);
extern char *sx_kafka_part_name(const KafkaSource *k, int topic, int32 partition);
extern int64 sx_kafka_start_of_partition(KafkaSource *k, const char *name, int64 *offset);
extern void sx_kafka_requests(KafkaSource *k);
extern void sx_kafka_ask_ends(KafkaSource *k);
extern void sx_kafka_assign_relief(KafkaSource *k);
extern bool sx_kafka_positions_known(const KafkaSource *k);
extern bool sx_kafka_has_position(const KafkaSource *k, const KafkaPart *part);

/* source_kafka_topics.c: the list of topics */
extern void sx_kafka_topics_open(KafkaSource *k);
extern int	sx_kafka_add_topic(KafkaSource *k, const char *name, int len);
extern bool sx_kafka_part_is_gone(const KafkaSource *k, const KafkaPart *part);
extern void sx_kafka_handle_metadata(KafkaSource *k, SxFrameReader *frame);
extern void sx_kafka_handle_names(KafkaSource *k, SxFrameReader *frame);
extern void sx_kafka_put_topics(KafkaSource *k, int from, StringInfo payload);

/* source_kafka_messages.c: what the helper says */
extern void sx_kafka_messages(KafkaSource *k);
extern void sx_kafka_handle_ends(KafkaSource *k, SxFrameReader *frame);
extern void sx_kafka_handle_status(KafkaSource *k, SxFrameReader *frame, bool at_work);
extern void sx_kafka_trouble(KafkaSource *k, const char *prefix, const char *text,
							 int len);
extern void sx_kafka_show_status(KafkaSource *k, TimestampTz now);

/* source_kafka_loss.c: anchors, and what is lost */
extern void sx_kafka_anchor_open(KafkaPart *part, const char *anchor);
extern void sx_kafka_anchor_cut(KafkaSource *k, int i);
extern void sx_kafka_anchor_back(KafkaSource *k, int i);
extern void sx_kafka_check_cluster(KafkaSource *k);
extern void sx_kafka_check_parts(KafkaSource *k);
extern void sx_kafka_save_gaps(KafkaSource *k);
extern void sx_kafka_gaps_saved(KafkaSource *k);

/* source_kafka_lane.c: reading as far as another pipeline has */
extern void sx_kafka_limit(SxSource *source, int pipeline, const SxPart *parts, int nparts);
extern bool sx_kafka_at_limit(SxSource *source);
extern bool sx_kafka_lane_start(SxStream *stream, SxLaneStart *start);
extern int	sx_kafka_allowed(const KafkaSource *k, const KafkaPart *part);
extern bool sx_kafka_part_done(const KafkaSource *k, const KafkaPart *part);
extern int64 sx_kafka_allowed_total(const KafkaSource *k);
extern bool sx_kafka_limit_reached(const KafkaSource *k);
extern void sx_kafka_unclog(KafkaSource *k);

/* source_kafka_batch.c: records */
extern void sx_kafka_drain(KafkaSource *k, int64 max_rows, int64 max_bytes);
extern void sx_kafka_cut(KafkaSource *k);
extern void sx_kafka_forget_cut(KafkaSource *k);
extern void sx_kafka_go_back(KafkaSource *k);
extern void sx_kafka_release(KafkaSource *k);

/* source_kafka_peek.c */
extern void sx_kafka_peek(SxSource *source);

/* source_kafka_rest.c */
extern void sx_kafka_relieve(KafkaSource *k);
extern TimestampTz sx_kafka_relieve_at(const KafkaSource *k, TimestampTz now);
extern void sx_kafka_end_rest(KafkaSource *k);

/* source_kafka.c */
extern void sx_kafka_start_helper(KafkaSource *k);
extern void sx_kafka_start_client(KafkaSource *k, SxKafkaClient *client, SxHelperKind kind);

#endif							/* SX_SOURCE_KAFKA_H */
