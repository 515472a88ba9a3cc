/*-------------------------------------------------------------------------
 *
 * source_kafka_parts.c
 *		Partitions of the Kafka source: which there are, and where they begin.
 *
 * Positions come from the catalog.  Option `start` counts only for a pipeline that
 * has none yet; a partition that appears later begins at its earliest record, since
 * it belongs to a time at which the pipeline was running already.
 *
 * Messages of the helper are acted on here, and requests for it are made here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "kafka/config.h"
#include "source/source_kafka.h"

#define RESOLVE_RETRY_US	INT64CONST(1000000)

/* ---------- options ---------- */

/* '0-7,9' as a set. */
static Bitmapset *
parse_partitions(const char *value)
{
	Bitmapset  *set = NULL;
	const char *p = value;

	for (;;)
	{
		char	   *end;
		long		from = strtol(p, &end, 10);
		long		to = from;

		if (end != p && *end == '-')
		{
			p = end + 1;
			to = strtol(p, &end, 10);
		}
		while (*end == ' ')
			end++;
		if (end == p || from < 0 || to < from || to > 1000000 ||
			(*end != ',' && *end != '\0'))
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
					 errmsg("invalid value for option \"partitions\": \"%s\"", value),
					 errhint("Write numbers and ranges, for example '0-7,9'.")));
		set = bms_add_range(set, from, to);
		if (*end == '\0')
			return set;
		p = end + 1;
	}
}

/* The start of a partition of a new pipeline: a time in ms, SX_OFFSET_… , or *offset. */
static int64
start_of_partition(KafkaSource *k, const char *name, int64 *offset)
{
	TimestampTz t;

	*offset = -1;
	if (pg_strcasecmp(k->start, "earliest") == 0)
		return SX_OFFSET_EARLIEST;
	if (pg_strcasecmp(k->start, "latest") == 0)
		return SX_OFFSET_LATEST;
	if (k->start[0] == '{')
	{
		char	   *field = sx_position_field(k->start, name);

		if (field == NULL)
			return SX_OFFSET_EARLIEST;
		/* -1 and -2 mean the ends here too, as in Spark */
		*offset = pg_strtoint64(field);
		if (*offset < SX_OFFSET_EARLIEST)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
					 errmsg("invalid offset in option \"start\": %s", field),
					 errhint("Offsets count from 0; -1 is the end, -2 the beginning.")));
		return *offset;
	}
	t = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(k->start),
												ObjectIdGetDatum(InvalidOid),
												Int32GetDatum(-1)));
	if (TIMESTAMP_NOT_FINITE(t))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("option \"start\" must not be infinite"),
				 errhint("Write earliest or latest.")));
	t = (t + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY + 999) / 1000;
	return Max(t, 0);
}

/* ---------- the list of parts ---------- */

static bool
has_position(const KafkaPart *part)
{
	return part->state == KAFKA_PART_READY || part->state == KAFKA_PART_ASSIGNED;
}

/* Makes order[] anew: parts by topic and number, whatever comes of the catalog last. */
static void
sort_parts(KafkaSource *k)
{
	for (int i = 0; i < k->base.nparts; i++)
	{
		int			at = i;
		const KafkaPart *part = &k->parts[i];

		for (; at > 0; at--)
		{
			const KafkaPart *before = &k->parts[k->order[at - 1]];

			if (before->topic < part->topic ||
				(before->topic == part->topic && before->partition <= part->partition))
				break;
			k->order[at] = k->order[at - 1];
		}
		k->order[at] = i;
	}
}

static KafkaPart *
add_part(KafkaSource *k, const char *name, int topic, int32 partition)
{
	int			i = k->base.nparts;
	SxPart	   *visible;
	KafkaPart  *part;

	if (i == k->parts_room)
	{
		k->parts_room = Max(k->parts_room * 2, 16);
		k->base.parts = repalloc(k->base.parts, k->parts_room * sizeof(SxPart));
		k->parts = repalloc(k->parts, k->parts_room * sizeof(KafkaPart));
		k->order = repalloc(k->order, k->parts_room * sizeof(int));
	}
	visible = &k->base.parts[i];
	memset(visible, 0, sizeof(SxPart));
	visible->name = MemoryContextStrdup(k->base.context, name);
	visible->number = partition;
	visible->topic = topic < k->ntopics ? k->topics[topic].name : NULL;
	visible->lag = visible->saved_lag = -1;
	visible->max_event_time = DT_NOBEGIN;

	part = &k->parts[i];
	memset(part, 0, sizeof(KafkaPart));
	part->topic = topic;
	part->partition = partition;
	part->next = part->committed = part->low = part->high = part->target = -1;
	part->limit = -1;
	k->base.nparts++;
	return part;
}

static KafkaPart *
find_part(KafkaSource *k, int topic, int32 partition)
{
	for (int i = 0; i < k->base.nparts; i++)
	{
		if (k->parts[i].topic == topic && k->parts[i].partition == partition)
			return &k->parts[i];
	}
	return NULL;
}

/* Which partition a name of the catalog means; topic = ntopics: none of ours. */
static void
parse_part_name(KafkaSource *k, const char *name, int *topic, int32 *partition)
{
	const char *slash = strrchr(name, '/');
	char	   *end;

	*topic = k->ntopics;
	*partition = strtol(slash ? slash + 1 : name, &end, 10);
	if (slash == NULL)
	{
		if (k->ntopics > 1)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("stream %s has positions of a single topic, but option \"topic\" lists %d",
							k->base.stream->label, k->ntopics),
					 errhint("Create another stream for the other topics and read both with UNION ALL.")));
		*topic = 0;
		return;
	}
	for (int i = 0; i < k->ntopics; i++)
	{
		if (strlen(k->topics[i].name) == slash - name &&
			strncmp(k->topics[i].name, name, slash - name) == 0)
			*topic = i;
	}
}

static bool
is_wanted(const KafkaSource *k, int topic, int32 partition)
{
	return topic < k->ntopics &&
		(k->wanted == NULL || bms_is_member(partition, k->wanted));
}

static void
open_part(KafkaSource *k, const SxPart *given)
{
	int			topic;
	int32		partition;
	KafkaPart  *part;
	SxPart	   *visible;

	parse_part_name(k, given->name, &topic, &partition);
	part = add_part(k, given->name, topic, partition);
	visible = &k->base.parts[k->base.nparts - 1];
	visible->max_event_time = given->max_event_time;
	if (given->position != NULL)
	{
		visible->position = MemoryContextStrdup(k->base.context, given->position);
		part->next = part->committed = part->cut_next = pg_strtoint64(given->position);
		part->state = KAFKA_PART_READY;
	}
	else
		part->start = SX_OFFSET_EARLIEST;
	if (!is_wanted(k, topic, partition))
	{
		part->state = KAFKA_PART_FOREIGN;
		visible->idle = true;
	}
}

/* Reads the options about topics and partitions, and the catalog's parts. */
void
sx_kafka_parts_open(KafkaSource *k, const SxPart *parts, int nparts)
{
	const SxStream *stream = k->base.stream;
	const char *wanted = sx_stream_option(stream, "partitions", NULL);
	List	   *topics = sx_kafka_topics(stream);

	k->ntopics = list_length(topics);
	k->topics = palloc0(k->ntopics * sizeof(KafkaTopic));
	for (int i = 0; i < k->ntopics; i++)
	{
		k->topics[i].name = list_nth(topics, i);
		k->topics[i].partitions = -1;
	}
	if (wanted != NULL)
		k->wanted = parse_partitions(wanted);
	k->start = sx_stream_option(stream, "start", "earliest");
	k->fresh = nparts == 0;
	if (k->fresh)
	{
		int64		offset;

		/* a mistake shall show now, not when the brokers have answered */
		(void) start_of_partition(k, "0", &offset);
	}
	k->slash = k->ntopics > 1;
	for (int i = 0; i < nparts; i++)
		k->slash |= strchr(parts[i].name, '/') != NULL;

	k->parts_room = Max(nparts, 16);
	k->base.parts = palloc(k->parts_room * sizeof(SxPart));
	k->parts = palloc(k->parts_room * sizeof(KafkaPart));
	k->order = palloc(k->parts_room * sizeof(int));
	for (int i = 0; i < nparts; i++)
		open_part(k, &parts[i]);
	sort_parts(k);
}

/* A new helper knows of no partition. */
void
sx_kafka_parts_restart(KafkaSource *k)
{
	for (int i = 0; i < k->base.nparts; i++)
	{
		KafkaPart  *part = &k->parts[i];

		if (part->state == KAFKA_PART_ASSIGNED)
			part->state = KAFKA_PART_READY;
		else if (part->state == KAFKA_PART_RESOLVING)
			part->state = KAFKA_PART_NEW;
	}
	k->ends = KAFKA_ENDS_NONE;
}

/* ---------- messages ---------- */

/* Remembers the last error; text need not be terminated before len. */
void
sx_kafka_trouble(KafkaSource *k, const char *prefix, const char *text, int len)
{
	snprintf(k->trouble, sizeof(k->trouble), "%s%.*s", prefix, Min(len, 150), text);
	k->trouble_at = GetCurrentTimestamp();
}

static void
discover_part(KafkaSource *k, int topic, int32 partition, bool first_sight)
{
	char		name[300];
	KafkaPart  *part;
	int64		offset = -1;
	int64		start = SX_OFFSET_EARLIEST;

	if (k->slash)
		snprintf(name, sizeof(name), "%s/%d", k->topics[topic].name, partition);
	else
		snprintf(name, sizeof(name), "%d", partition);
	if (k->fresh && first_sight)
		start = start_of_partition(k, name, &offset);

	part = add_part(k, name, topic, partition);
	part->start = start;
	part->state = KAFKA_PART_NEW;
	if (offset >= 0)
	{
		part->next = offset;
		part->state = KAFKA_PART_FOUND;
	}
}

static void
handle_topic(KafkaSource *k, int topic, int32 partitions)
{
	KafkaTopic *t = &k->topics[topic];
	bool		first_sight = t->partitions < 0;

	for (int i = 0; i < k->base.nparts; i++)
	{
		if (k->parts[i].topic == topic && k->parts[i].partition >= partitions &&
			k->parts[i].state != KAFKA_PART_FOREIGN)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("topic \"%s\" has %d partitions, stream %s has a position in partition %d",
							t->name, partitions, k->base.stream->label,
							k->parts[i].partition),
					 errdetail("The topic was deleted and created anew."),
					 errhint("Use streamext.reset() to read the new topic from its start.")));
	}
	for (int32 p = 0; p < partitions; p++)
	{
		if (is_wanted(k, topic, p) && find_part(k, topic, p) == NULL)
			discover_part(k, topic, p, first_sight);
	}
	t->partitions = partitions;
	sort_parts(k);
}

static void
handle_metadata(KafkaSource *k, SxFrameReader *frame)
{
	uint32		n = sx_frame_u32(frame);

	for (int i = 0; i < n && i < k->ntopics; i++)
	{
		int32		partitions = sx_frame_i32(frame);
		uint32_t	len;
		const char *text = sx_frame_str(frame, &len);
		KafkaTopic *t = &k->topics[i];

		if (frame->failed)
			return;
		snprintf(t->problem, sizeof(t->problem), "%.*s", (int) Min(len, 100), text);
		if (partitions >= 0)
			handle_topic(k, i, Min(partitions, 1000000));
	}
}

/* An answer about a partition: its first position, or its end. */
static void
handle_answer(KafkaSource *k, KafkaPart *part, int64 offset, const char *text, int len)
{
	if (part->state == KAFKA_PART_RESOLVING)
	{
		part->state = offset >= 0 ? KAFKA_PART_FOUND : KAFKA_PART_NEW;
		part->next = offset;
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
		k->resolve_at = GetCurrentTimestamp() + RESOLVE_RETRY_US;
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
		if (has_position(&k->parts[i]) && k->parts[i].target < 0)
			return;
	}
	k->ends = targets ? KAFKA_ENDS_KNOWN : KAFKA_ENDS_NONE;
}

static void
handle_ends(KafkaSource *k, SxFrameReader *frame)
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

static void
handle_status(KafkaSource *k, SxFrameReader *frame)
{
	bool		connected = sx_frame_u32(frame) != 0;
	uint32_t	len;
	const char *text;

	(void) sx_frame_i32(frame);
	text = sx_frame_str(frame, &len);
	if (frame->failed)
		return;
	if (connected && !k->connected)
		k->trouble[0] = '\0';
	if (len > 0)
		sx_kafka_trouble(k, "", text, len);
	k->connected = connected;
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
				handle_metadata(k, &frame);
				break;
			case SX_MSG_RESOLVED:
				handle_resolved(k, &frame);
				break;
			case SX_MSG_ENDS:
				handle_ends(k, &frame);
				break;
			case SX_MSG_STATUS:
				handle_status(k, &frame);
				break;
			default:
				frame.failed = true;
				break;
		}
		if (frame.failed)
			sx_kafka_client_kill(k->client, "sent a message that cannot be right");
	}
}

/* ---------- requests ---------- */

/* A lane does not read what is beyond its limit. */
static bool
is_to_be_sent(const KafkaSource *k, const KafkaPart *part, SxMessageType type,
			  KafkaPartState from)
{
	return part->state == from && !(type == SX_MSG_ASSIGN && sx_kafka_part_done(k, part));
}

/*
 * Sends RESOLVE or ASSIGN for the parts in this state, and moves them on to
 * the next one.
 */
static void
send_parts(KafkaSource *k, SxMessageType type, KafkaPartState from, KafkaPartState to)
{
	StringInfoData payload;
	uint32		n = 0;

	for (int i = 0; i < k->base.nparts; i++)
		n += is_to_be_sent(k, &k->parts[i], type, from);
	if (n == 0 || !sx_kafka_client_running(k->client))
		return;

	initStringInfo(&payload);
	sx_frame_put_u32(&payload, n);
	for (int i = 0; i < k->base.nparts; i++)
	{
		KafkaPart  *part = &k->parts[i];

		if (!is_to_be_sent(k, part, type, from))
			continue;
		sx_frame_put_u32(&payload, i);
		sx_frame_put_u32(&payload, part->topic);
		sx_frame_put_u32(&payload, part->partition);
		if (type == SX_MSG_ASSIGN)
			sx_frame_put_i64(&payload, part->next);
		else
			sx_frame_put_i64(&payload, from == KAFKA_PART_NEW ? part->start :
							 SX_OFFSET_LATEST);
		part->state = to;
	}
	sx_kafka_client_send(k->client, type, &payload);
	pfree(payload.data);
}

/* Is it known of all partitions of all topics where they are to be read from? */
bool
sx_kafka_positions_known(const KafkaSource *k)
{
	for (int i = 0; i < k->ntopics; i++)
	{
		if (k->topics[i].partitions < 0)
			return false;
	}
	for (int i = 0; i < k->base.nparts; i++)
	{
		if (!has_position(&k->parts[i]) && k->parts[i].state != KAFKA_PART_FOREIGN)
			return false;
	}
	return true;
}

/* Asks the brokers where the partitions end now. */
void
sx_kafka_ask_ends(KafkaSource *k)
{
	if (!sx_kafka_client_running(k->client) ||
		GetCurrentTimestamp() < k->resolve_at)
		return;
	k->ends = KAFKA_ENDS_KNOWN; /* of no partition at all */
	for (int i = 0; i < k->base.nparts; i++)
	{
		k->parts[i].target = -1;
		if (has_position(&k->parts[i]))
			k->ends = KAFKA_ENDS_ASKED;
	}
	send_parts(k, SX_MSG_RESOLVE, KAFKA_PART_READY, KAFKA_PART_READY);
	send_parts(k, SX_MSG_RESOLVE, KAFKA_PART_ASSIGNED, KAFKA_PART_ASSIGNED);
}

/*
 * Asks for what is missing.  A broker answers in order, and an empty fetch takes
 * its time, so who is in a hurry to know the ends asks before reading.
 */
void
sx_kafka_requests(KafkaSource *k)
{
	if (GetCurrentTimestamp() >= k->resolve_at)
		send_parts(k, SX_MSG_RESOLVE, KAFKA_PART_NEW, KAFKA_PART_RESOLVING);
	if (k->ends_first && k->ends == KAFKA_ENDS_NONE && sx_kafka_positions_known(k))
		sx_kafka_ask_ends(k);
	if (!k->ends_first || k->ends == KAFKA_ENDS_KNOWN)
		send_parts(k, SX_MSG_ASSIGN, KAFKA_PART_READY, KAFKA_PART_ASSIGNED);
}
