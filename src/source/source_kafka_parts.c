/*-------------------------------------------------------------------------
 *
 * source_kafka_parts.c
 *		Partitions of the Kafka source: which there are, and where they begin.
 *
 * Positions come from the catalog.  Option `start` counts only for a pipeline that
 * has none yet; a partition that appears later begins at its earliest record, since
 * it belongs to a time at which the pipeline was running already.
 *
 * Requests to the helper about partitions are made here.
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
int64
sx_kafka_start_of_partition(KafkaSource *k, const char *name, int64 *offset)
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

/* Can it be asked where the partition ends? */
bool
sx_kafka_has_position(const KafkaSource *k, const KafkaPart *part)
{
	return (part->state == KAFKA_PART_READY || part->state == KAFKA_PART_ASSIGNED) &&
		!sx_kafka_part_is_gone(k, part);
}

/* Makes order[] anew: parts by topic and number, whatever comes of the catalog last. */
void
sx_kafka_sort_parts(KafkaSource *k)
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

KafkaPart *
sx_kafka_add_part(KafkaSource *k, const char *name, int topic, int32 partition)
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
	visible->topic = topic != SX_NO_TOPIC ? k->topics[topic].name : NULL;
	visible->lag = visible->saved_lag = -1;
	visible->max_event_time = DT_NOBEGIN;

	part = &k->parts[i];
	memset(part, 0, sizeof(KafkaPart));
	part->topic = topic;
	part->partition = partition;
	part->next = part->committed = part->low = part->high = part->target = -1;
	part->anchor.offset = part->anchor.time = -1;
	part->committed_anchor = part->anchor;
	part->limit = -1;
	k->base.nparts++;
	return part;
}

KafkaPart *
sx_kafka_find_part(KafkaSource *k, int topic, int32 partition)
{
	for (int i = 0; i < k->base.nparts; i++)
	{
		if (k->parts[i].topic == topic && k->parts[i].partition == partition)
			return &k->parts[i];
	}
	return NULL;
}

/* Which partition a name of the catalog means; SX_NO_TOPIC: none of ours. */
static void
parse_part_name(KafkaSource *k, const char *name, int *topic, int32 *partition)
{
	const char *slash = strrchr(name, '/');
	char	   *end;

	*topic = SX_NO_TOPIC;
	*partition = strtol(slash ? slash + 1 : name, &end, 10);
	if (slash == NULL)
	{
		if (k->ntopics != 1 || k->pattern != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("stream %s has positions of a single topic, but now it names %s",
							k->base.stream->label, k->pattern ? "a pattern" : "several"),
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
	if (*topic == SX_NO_TOPIC && k->pattern != NULL &&
		sx_kafka_pattern_fits(k->pattern, name, slash - name))
		*topic = sx_kafka_add_topic(k, name, slash - name);
}

bool
sx_kafka_is_wanted(const KafkaSource *k, int topic, int32 partition)
{
	return topic != SX_NO_TOPIC &&
		(k->wanted == NULL || bms_is_member(partition, k->wanted));
}

/* The name of a partition in the catalog. */
char *
sx_kafka_part_name(const KafkaSource *k, int topic, int32 partition)
{
	return k->slash ? psprintf("%s/%d", k->topics[topic].name, partition) :
		psprintf("%d", partition);
}

static void
open_part(KafkaSource *k, const SxPart *given)
{
	int			topic;
	int32		partition;
	KafkaPart  *part;
	SxPart	   *visible;

	parse_part_name(k, given->name, &topic, &partition);
	part = sx_kafka_add_part(k, given->name, topic, partition);
	visible = &k->base.parts[k->base.nparts - 1];
	visible->max_event_time = given->max_event_time;
	if (given->anchor != NULL)
	{
		visible->anchor = MemoryContextStrdup(k->base.context, given->anchor);
		sx_kafka_anchor_open(part, given->anchor);
		part->committed_anchor = part->anchor;
	}
	if (given->position != NULL)
	{
		visible->position = MemoryContextStrdup(k->base.context, given->position);
		part->next = part->committed = part->cut_next = pg_strtoint64(given->position);
		part->state = KAFKA_PART_READY;
	}
	else
		part->start = SX_OFFSET_EARLIEST;
	if (!sx_kafka_is_wanted(k, topic, partition))
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

	sx_kafka_topics_open(k);
	if (wanted != NULL)
		k->wanted = parse_partitions(wanted);
	k->start = sx_stream_option(stream, "start", "earliest");
	k->fresh = nparts == 0;
	if (k->fresh)
	{
		int64		offset;

		/* a mistake shall show now, not when the brokers have answered */
		(void) sx_kafka_start_of_partition(k, "0", &offset);
	}
	k->slash = k->ntopics > 1 || k->pattern != NULL;
	for (int i = 0; i < nparts; i++)
		k->slash |= strchr(parts[i].name, '/') != NULL;

	k->parts_room = Max(nparts, 16);
	k->base.parts = palloc(k->parts_room * sizeof(SxPart));
	k->parts = palloc(k->parts_room * sizeof(KafkaPart));
	k->order = palloc(k->parts_room * sizeof(int));
	for (int i = 0; i < nparts; i++)
		open_part(k, &parts[i]);
	sx_kafka_sort_parts(k);
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
	k->met = k->names_known = false;
}

/* ---------- requests ---------- */

/*
 * Nobody answers for a topic that is gone, but it can be waited for.  A lane does not read
 * what is beyond its limit.
 */
static bool
is_to_be_sent(const KafkaSource *k, const KafkaPart *part, SxMessageType type,
			  KafkaPartState state)
{
	return part->state == state &&
		(type == SX_MSG_ASSIGN ? !sx_kafka_part_done(k, part) : !sx_kafka_part_is_gone(k, part));
}

static uint32
count_to_be_sent(const KafkaSource *k, SxMessageType type, KafkaPartState state)
{
	uint32		n = 0;

	for (int i = 0; i < k->base.nparts; i++)
		n += is_to_be_sent(k, &k->parts[i], type, state);
	return n;
}

static void
put_position(const KafkaSource *k, const KafkaPart *part, StringInfo payload)
{
	sx_frame_put_i64(payload, part->next);
	sx_frame_put_i64(payload, k->peeking ? -1 : part->anchor.offset);
	sx_frame_put_i64(payload, part->anchor.time);
	sx_frame_put_u32(payload, part->anchor.hashed);
	sx_frame_put_i64(payload, (int64) part->anchor.hash);
}

static void
put_part(const KafkaSource *k, int i, SxMessageType type, StringInfo payload)
{
	const KafkaPart *part = &k->parts[i];

	sx_frame_put_u32(payload, i);
	sx_frame_put_u32(payload, part->topic);
	sx_frame_put_u32(payload, part->partition);
	if (type == SX_MSG_ASSIGN)
		put_position(k, part, payload);
	else
		sx_frame_put_i64(payload, part->state == KAFKA_PART_NEW ? part->start : SX_OFFSET_LATEST);
}

/* Sends RESOLVE or ASSIGN for the parts in this state that are to be sent, one at least. */
static void
send_to(KafkaSource *k, SxKafkaClient *client, SxMessageType type, KafkaPartState state)
{
	StringInfoData payload;

	initStringInfo(&payload);
	sx_frame_put_u32(&payload, count_to_be_sent(k, type, state));
	for (int i = 0; i < k->base.nparts; i++)
	{
		if (is_to_be_sent(k, &k->parts[i], type, state))
			put_part(k, i, type, &payload);
	}
	sx_kafka_client_send(client, type, &payload);
	pfree(payload.data);
}

/* Tells the relief to read what the helper at work reads, from the same positions. */
void
sx_kafka_assign_relief(KafkaSource *k)
{
	send_to(k, k->relief, SX_MSG_ASSIGN, KAFKA_PART_ASSIGNED);
}

/*
 * Sends RESOLVE or ASSIGN for the parts in this state, and moves them on to
 * the next one.  A helper that rests is replaced instead, and the next one is asked.
 */
static void
send_parts(KafkaSource *k, SxMessageType type, KafkaPartState from, KafkaPartState to)
{
	if (count_to_be_sent(k, type, from) == 0 || !sx_kafka_client_running(k->client))
		return;
	if (k->resting)
	{
		k->renew = true;
		return;
	}
	send_to(k, k->client, type, from);
	for (int i = 0; i < k->base.nparts; i++)
	{
		if (is_to_be_sent(k, &k->parts[i], type, from))
			k->parts[i].state = to;
	}
}

/* Is it known of all partitions of all topics where they are to be read from? */
bool
sx_kafka_positions_known(const KafkaSource *k)
{
	if (k->pattern != NULL && !k->names_known)
		return false;
	for (int i = 0; i < k->ntopics; i++)
	{
		if (k->topics[i].partitions < 0 && (k->pattern == NULL || !k->met))
			return false;
	}
	for (int i = 0; i < k->base.nparts; i++)
	{
		if (!sx_kafka_has_position(k, &k->parts[i]) &&
			k->parts[i].state != KAFKA_PART_FOREIGN &&
			!sx_kafka_part_is_gone(k, &k->parts[i]))
			return false;
	}
	return true;
}

/* Asks the brokers where the partitions end now. */
void
sx_kafka_ask_ends(KafkaSource *k)
{
	if (!sx_kafka_client_running(k->client) || !k->met ||
		GetCurrentTimestamp() < k->resolve_at)
		return;
	k->ends = KAFKA_ENDS_KNOWN; /* of no partition at all */
	for (int i = 0; i < k->base.nparts; i++)
	{
		k->parts[i].target = -1;
		if (sx_kafka_has_position(k, &k->parts[i]))
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
	/* first of all: is it the cluster that we know? */
	if (!k->met || k->renew)
		return;
	if (GetCurrentTimestamp() >= k->resolve_at)
		send_parts(k, SX_MSG_RESOLVE, KAFKA_PART_NEW, KAFKA_PART_RESOLVING);
	if (k->ends_first && k->ends == KAFKA_ENDS_NONE && sx_kafka_positions_known(k))
		sx_kafka_ask_ends(k);
	if (!k->ends_first || k->ends == KAFKA_ENDS_KNOWN)
		send_parts(k, SX_MSG_ASSIGN, KAFKA_PART_READY, KAFKA_PART_ASSIGNED);
}
