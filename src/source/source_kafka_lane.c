/*-------------------------------------------------------------------------
 *
 * source_kafka_lane.c
 *		The Kafka source of a lane: reads each partition as far as another pipeline has.
 *
 * The helper reads ahead without knowing of a limit.  Records from the limit on stay in the
 * queues, where they are when the limit moves; they are not "allowed".  A partition that
 * the other pipeline has not read yet, as it has just been found, is not assigned.
 *
 * Records that are not allowed hold the ring.  When it is full of those of one partition
 * while another one is still below its limit, nothing would move any more: then all
 * queues are dropped and the helper is started again, with the partitions alone that are
 * below their limit (sx_kafka_unclog).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "source/source_kafka.h"

#define CLOGGED_US		(INT64CONST(2) * USECS_PER_SEC)

/* Queued records of a partition that may be handed over. */
int
sx_kafka_allowed(const KafkaSource *k, const KafkaPart *part)
{
	int			low = part->first;
	int			high = part->last;

	if (!k->base.limited)
		return part->last - part->first;
	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (part->queue[middle]->offset < part->limit)
			low = middle + 1;
		else
			high = middle;
	}
	return low - part->first;
}

int64
sx_kafka_allowed_total(const KafkaSource *k)
{
	int64		n = 0;

	if (!k->base.limited)
		return k->queued;
	for (int i = 0; i < k->base.nparts; i++)
		n += sx_kafka_allowed(k, &k->parts[i]);
	return n;
}

/* Is there nothing to be fetched for the partition before its limit moves? */
bool
sx_kafka_part_done(const KafkaSource *k, const KafkaPart *part)
{
	return k->base.limited && part->next >= part->limit;
}

/* Has everything below the limits come from Kafka? */
bool
sx_kafka_limit_reached(const KafkaSource *k)
{
	for (int i = 0; i < k->base.nparts; i++)
	{
		const KafkaPart *part = &k->parts[i];

		if (part->state != KAFKA_PART_FOREIGN && part->error == NULL &&
			(part->next < 0 || !sx_kafka_part_done(k, part)))
			return false;
	}
	return !k->limit_unknown;
}

/* Forgets records that have come too early; they will come again. */
static void
drop_queues(KafkaSource *k)
{
	for (int i = 0; i < k->base.nparts; i++)
	{
		KafkaPart  *part = &k->parts[i];

		part->first = part->last = 0;
		part->queue_bytes = 0;
		part->ended_at = 0;
		if (part->committed >= 0)
			part->next = part->committed;
	}
	k->queued = 0;
	k->queued_bytes = 0;
}

/* Before the helper is looked after: with nothing allowed, records are of no use to it. */
void
sx_kafka_unclog(KafkaSource *k)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		clogged = k->base.limited && k->queued > 0 && !sx_kafka_limit_reached(k) &&
		sx_kafka_allowed_total(k) == 0;

	if (!clogged || k->progress != k->progress_seen)
	{
		k->progress_seen = k->progress;
		k->clogged_at = now;
	}
	if (!clogged)
		return;
	if (sx_kafka_client_running(k->client) && now - k->clogged_at < CLOGGED_US)
		return;
	drop_queues(k);
	if (!sx_kafka_client_running(k->client))
		return;					/* it is buried as usual */
	ereport(DEBUG1,
			(errmsg_internal("stream %s: starting another Kafka helper for the partitions below their limit",
							 k->base.stream->label)));
	sx_kafka_client_stop(k->client);
	sx_kafka_parts_restart(k);
	k->restart_at = now;
}

/* ---------- operations ---------- */

/* The end of the topic at some time is no place that one could come back to. */
bool
sx_kafka_lane_start(SxStream *stream, SxLaneStart *start)
{
	const char *option = sx_stream_option(stream, "start", "earliest");
	bool		latest = pg_strcasecmp(option, "latest") == 0;

	for (const char *p = option[0] == '{' ? option : ""; *p != '\0'; p++)
	{
		if (*p == ':')
			latest = latest || strtol(p + 1, NULL, 10) == -1;
	}
	if (latest)
		start->missing = psprintf("Stream %s begins with the latest records (option \"start\").",
								  stream->label);
	return !latest;
}

static KafkaPart *
find_named(KafkaSource *k, const char *name)
{
	const char *slash = strrchr(name, '/');

	for (int i = 0; i < k->base.nparts; i++)
	{
		if (strcmp(k->base.parts[i].name, name) == 0)
			return &k->parts[i];
	}
	/* a single topic needs no name, but had one once */
	return slash != NULL && !k->slash ? find_named(k, slash + 1) : NULL;
}

void
sx_kafka_limit(SxSource *source, int pipeline, const SxPart *parts, int nparts)
{
	KafkaSource *k = (KafkaSource *) source;

	source->limited = true;
	k->limit_unknown = false;
	for (int i = 0; i < k->base.nparts; i++)
		k->parts[i].limit = -1;
	for (int i = 0; i < nparts; i++)
	{
		KafkaPart  *part = find_named(k, parts[i].name);

		if (part == NULL)
			k->limit_unknown = true;
		else
			part->limit = pg_strtoint64(parts[i].position);
	}
}

bool
sx_kafka_at_limit(SxSource *source)
{
	KafkaSource *k = (KafkaSource *) source;

	for (int i = 0; i < k->base.nparts; i++)
	{
		const KafkaPart *part = &k->parts[i];
		int64		position = k->loaded ? part->cut_next : part->committed;

		if (part->state != KAFKA_PART_FOREIGN && part->limit >= 0 && position != part->limit)
			return false;
	}
	return !k->limit_unknown;
}
