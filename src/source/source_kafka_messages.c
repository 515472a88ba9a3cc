/*-------------------------------------------------------------------------
 *
 * source_kafka_messages.c
 *		What the helper of a Kafka source says, and what the source says of it.
 *
 * No trouble with the brokers is an error: librdkafka goes on trying, and `status`
 * tells since when and why there is nothing to read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "kafka/config.h"
#include "source/source_kafka.h"

#define TROUBLE_US			INT64CONST(15000000)

/* Remembers the last error; text need not be terminated before len. */
void
sx_kafka_trouble(KafkaSource *k, const char *prefix, const char *text, int len)
{
	snprintf(k->trouble, sizeof(k->trouble), "%s%.*s", prefix, Min(len, 220), text);
	k->trouble_at = GetCurrentTimestamp();
}

/* Takes note of a connection that is there, or is not. */
static void
set_connected(KafkaSource *k, bool connected)
{
	if (connected && !k->connected)
		k->trouble[0] = '\0';
	if (connected)
		k->down_since = 0;
	else if (k->down_since == 0)
		k->down_since = GetCurrentTimestamp();
	k->connected = connected;
}

/* An answer about a partition: its first position, or its end. */
static void
handle_answer(KafkaSource *k, KafkaPart *part, int64 offset, const char *text, int len)
{
	if (part->state == KAFKA_PART_RESOLVING)
	{
		part->state = offset >= 0 ? KAFKA_PART_FOUND : KAFKA_PART_NEW;
		part->next = offset >= 0 || part->lost == NULL ? offset : part->next;
		if (part->start == SX_OFFSET_LATEST)
			part->high = offset;
	}
	else if (offset >= 0)
	{
		part->target = offset;
		part->high = Max(part->high, offset);
	}
	if (offset < 0)
	{
		k->resolve_at = GetCurrentTimestamp() + SX_RESOLVE_RETRY_US;
		sx_kafka_trouble(k, "", text, len);
	}
}

static void
handle_resolved(KafkaSource *k, SxFrameReader *frame)
{
	uint32		n = sx_frame_u32(frame);
	bool		targets = k->ends == KAFKA_ENDS_ASKED;

	for (uint32 i = 0; i < n && !frame->failed; i++)
	{
		int32		part = sx_frame_i32(frame);
		int64		offset = sx_frame_i64(frame);
		uint32_t	len;
		const char *text = sx_frame_str(frame, &len);

		if (frame->failed || part < 0 || part >= k->base.nparts)
			return;
		targets &= offset >= 0;
		handle_answer(k, &k->parts[part], offset, text, len);
	}
	if (k->ends != KAFKA_ENDS_ASKED)
		return;

	/* the answer to another request: ours is still on its way */
	for (int i = 0; i < k->base.nparts && targets; i++)
	{
		if (sx_kafka_has_position(k, &k->parts[i]) && k->parts[i].target < 0)
			return;
	}
	k->ends = targets ? KAFKA_ENDS_KNOWN : KAFKA_ENDS_NONE;
}

/* ENDS: how far the partitions reach. */
void
sx_kafka_handle_ends(KafkaSource *k, SxFrameReader *frame)
{
	uint32		n = sx_frame_u32(frame);

	for (uint32 i = 0; i < n && !frame->failed; i++)
	{
		int32		part = sx_frame_i32(frame);
		int64		low = sx_frame_i64(frame);
		int64		high = sx_frame_i64(frame);

		if (frame->failed || part < 0 || part >= k->base.nparts)
			return;
		k->parts[part].low = low;
		k->parts[part].high = Max(high, k->parts[part].next);
	}
}

/*
 * STATUS.  What belongs into the log is logged, whoever says it; the rest is about the connection
 * of the helper at work.
 */
void
sx_kafka_handle_status(KafkaSource *k, SxFrameReader *frame, bool at_work)
{
	bool		connected = sx_frame_u32(frame) != 0;
	int32		kind = sx_frame_i32(frame);
	uint32_t	len;
	const char *text = sx_frame_str(frame, &len);

	if (frame->failed)
		return;
	if (at_work)
	{
		set_connected(k, connected);
		if (len > 0)
			sx_kafka_trouble(k, "", text, len);
	}
	if (kind == SX_STATUS_NOTICE)
		ereport(LOG,
				(errmsg("stream %s: %.*s", k->base.stream->label, (int) len, text)));
}

/* The helper is about to end because it does not trust its connection any more. */
static void
handle_lost(KafkaSource *k, SxFrameReader *frame)
{
	uint32_t	len;
	const char *text = sx_frame_str(frame, &len);

	k->lost = true;
	set_connected(k, false);
	if (len > 0)
		sx_kafka_trouble(k, "", text, len);
	ereport(DEBUG1,
			(errmsg_internal("stream %s lost its connection to Kafka: %.*s",
							 k->base.stream->label, (int) len, text)));
}

/* Acts on everything that the helper has said. */
void
sx_kafka_messages(KafkaSource *k)
{
	SxMessageType type;
	SxFrameReader frame;

	while (sx_kafka_client_receive(k->client, &type, &frame))
	{
		switch (type)
		{
			case SX_MSG_METADATA:
				sx_kafka_handle_metadata(k, &frame);
				break;
			case SX_MSG_TOPICS:
				sx_kafka_handle_names(k, &frame);
				break;
			case SX_MSG_RESOLVED:
				handle_resolved(k, &frame);
				break;
			case SX_MSG_ENDS:
				sx_kafka_handle_ends(k, &frame);
				break;
			case SX_MSG_STATUS:
				sx_kafka_handle_status(k, &frame, true);
				break;
			case SX_MSG_LOST:
				handle_lost(k, &frame);
				break;
			default:
				frame.failed = true;
				break;
		}
		if (frame.failed)
			sx_kafka_client_kill(k->client, "sent a message that cannot be right");
	}
}

/*
 * What is wrong at the moment.  Errors of a connection that works all the same are
 * forgotten after a while: nothing says that they are over.  A source that has just
 * been started has every right not to be connected yet.
 */
void
sx_kafka_show_status(KafkaSource *k, TimestampTz now)
{
	k->status[0] = '\0';
	if (!k->connected)
	{
		if (k->trouble[0] != '\0' && k->down_since != 0)
			snprintf(k->status, sizeof(k->status), "disconnected since %s: %s",
					 timestamptz_to_str(k->down_since), k->trouble);
		else if (k->trouble[0] != '\0')
			strlcpy(k->status, k->trouble, sizeof(k->status));
	}
	else if (now < k->trouble_at + TROUBLE_US)
		strlcpy(k->status, k->trouble, sizeof(k->status));

	for (int i = 0; i < k->ntopics && k->connected; i++)
	{
		if (k->topics[i].problem[0] != '\0')
			snprintf(k->status, sizeof(k->status), "topic \"%.100s\": %s",
					 k->topics[i].name, k->topics[i].problem);
	}
	k->base.status = k->status[0] != '\0' ? k->status : NULL;
}
