/*-------------------------------------------------------------------------
 *
 * source_kafka_rest.c
 *		Helpers that rest while nothing comes, and how one takes over from another.
 *
 * A helper asks its brokers for records twice a second, and librdkafka's threads wake up
 * once a second each.  For a stream that has been silent for streamext.kafka_rest_after
 * that is too much: it gets a helper that asks every 45 seconds, which costs no latency as
 * brokers answer at once when there is a record, and that stands still in between
 * (kafka/helper_rest.c).  When records come again, a usual helper follows, because a
 * resting one is late to see where partitions end, and whatever it is asked waits for
 * the answer to what it asked before.
 *
 *		usual ── silent for rest_after ──> relief (resting), usual goes on ── ready ──> resting
 *		resting ── records, then AWAKE_US without ──> relief (usual) ── ready ──> usual
 *		resting ── records for BUSY_US, or something to ask ──> a usual one at once (renew)
 *
 * The relief begins at the same positions and anchors as any new helper.  It is ready when
 * it has seen the end of every partition, and no record before it.  Until then the helper
 * at work goes on: only in a later Fetch does the relief ask for partitions that were
 * started after the first was sent, and nobody would see what comes in these.  A record
 * that either of them brings meanwhile, and anything unexpected, ends the relief and
 * nothing else; the next one comes later.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "kafka/config.h"
#include "source/source_kafka.h"
#include "streamext.h"

#define AWAKE_US			INT64CONST(1000000)
#define BUSY_US				INT64CONST(5000000)
#define LOOK_US				INT64CONST(1000000)		/* at the relief, while there is one */
#define RELIEF_LIMIT_US		INT64CONST(60000000)	/* … longer than its Fetches wait */
#define BROKEN_FACTOR		10		/* of rest_after, until one rests after one that broke */

/* ---------- whether ---------- */

/* In microseconds. */
static int64
rest_after(void)
{
	return sx_kafka_rest_after * INT64CONST(1000);
}

/* Does the relief have to have the partition? */
static bool
is_read(const KafkaSource *k, const KafkaPart *part)
{
	return part->state != KAFKA_PART_FOREIGN && !sx_kafka_part_is_gone(k, part);
}

/* Is there nothing to be done with records, and nothing that was asked? */
static bool
is_calm(const KafkaSource *k)
{
	int			read = 0;

	if (!sx_kafka_client_running(k->client) || !k->connected || !k->met || k->careful ||
		k->renew || k->lost || k->loaded || k->queued > 0 || k->base.limited ||
		k->ends != KAFKA_ENDS_NONE)
		return false;
	for (int i = 0; i < k->ntopics; i++)
	{
		if (k->topics[i].partitions < 0)
			return false;
	}
	for (int i = 0; i < k->base.nparts; i++)
	{
		const KafkaPart *part = &k->parts[i];

		if (!is_read(k, part))
			continue;
		if (part->state != KAFKA_PART_ASSIGNED || part->error != NULL || part->lost != NULL ||
			(part->ended_at == 0 && !k->resting))
			return false;
		read++;
	}
	return read > 0;
}

/* Its anchors are those of committed positions. */
static bool
is_committed(const KafkaSource *k)
{
	for (int i = 0; i < k->base.nparts; i++)
	{
		if (is_read(k, &k->parts[i]) && k->parts[i].next != k->parts[i].committed)
			return false;
	}
	return true;
}

/* When a relief is due, if nothing happens before; 0: never. */
static TimestampTz
relief_due(const KafkaSource *k)
{
	if (!is_calm(k) || !is_committed(k))
		return 0;
	if (k->resting)
		return k->progress > k->progress_at_start ? k->record_at + AWAKE_US : 0;
	if (sx_kafka_rest_after == 0 || !k->may_rest)
		return 0;
	return Max(k->record_at + rest_after(), k->rest_not_before);
}

/* ---------- the relief ---------- */

static void
drop_relief(KafkaSource *k)
{
	sx_kafka_client_stop(k->relief);
}

static void
say_rest(const KafkaSource *k, bool rests)
{
	ereport(DEBUG1,
			(errmsg_internal("the Kafka helper of stream %s %s", k->base.stream->label,
							 rests ? "rests" : "rests no more")));
}

/* A helper is about to be started that is nobody's relief. */
void
sx_kafka_end_rest(KafkaSource *k)
{
	drop_relief(k);
	if (k->resting)
	{
		say_rest(k, false);
		if (!k->renew)
			k->rest_not_before = GetCurrentTimestamp() + BROKEN_FACTOR * rest_after();
	}
	k->resting = false;
	k->woken_at = 0;
}

/* It comes to nothing. */
static void
give_up(KafkaSource *k, TimestampTz now, const char *why)
{
	ereport(DEBUG1,
			(errmsg_internal("stream %s keeps its Kafka helper: %s", k->base.stream->label, why)));
	drop_relief(k);
	k->rest_not_before = now + rest_after();
	/* one that rests is not to stay when it is in use */
	k->renew |= k->resting;
}

static void
start_relief(KafkaSource *k, TimestampTz now)
{
	for (int i = 0; i < k->base.nparts; i++)
		k->parts[i].relief_end = -1;
	k->relief_met = false;
	k->relief_at = now;
	k->relief_progress = k->progress;
	sx_kafka_start_client(k, k->relief, k->resting ? SX_HELPER_USUAL : SX_HELPER_RESTING);
}

/* METADATA: does it see the topics that we see? */
static bool
sees_the_same(const KafkaSource *k, SxFrameReader *frame)
{
	const char *known = k->cluster != NULL ? k->cluster : "";
	uint32_t	len;
	const char *cluster = sx_frame_str(frame, &len);
	int			n;

	if (strlen(known) != len || memcmp(known, cluster, len) != 0)
		return false;
	n = (int) sx_frame_u32(frame);
	for (int i = 0; i < n && i < k->ntopics; i++)
	{
		if (sx_frame_i32(frame) != k->topics[i].partitions)
			return false;
		(void) sx_frame_str(frame, &len);
	}
	return !frame->failed && n == k->ntopics;
}

/* What it says, each thing once; NULL or what is wrong. */
static const char *
hear_relief(KafkaSource *k)
{
	SxMessageType type;
	SxFrameReader frame;

	while (sx_kafka_client_receive(k->relief, &type, &frame))
	{
		if (type == SX_MSG_LOST)
			return "its relief lost the connection";
		if (type == SX_MSG_STATUS)
			sx_kafka_handle_status(k, &frame, false);
		if (type == SX_MSG_ENDS)
			sx_kafka_handle_ends(k, &frame);
		if (type != SX_MSG_METADATA)
			continue;
		if (!sees_the_same(k, &frame))
			return "its relief sees other topics";
		if (!k->relief_met)
			sx_kafka_assign_relief(k);
		k->relief_met = true;
	}
	return sx_kafka_client_running(k->relief) ? NULL : "its relief died";
}

/* What it reads; NULL or what is wrong. */
static const char *
read_relief(KafkaSource *k)
{
	SxRingReader *ring = sx_kafka_client_ring(k->relief);
	SxRecord   *rec;

	while ((rec = sx_ring_next(ring)) != NULL)
	{
		if (rec->kind != SX_RECORD_END || rec->part < 0 || rec->part >= k->base.nparts)
			return "its relief has read something else than the end";
		k->parts[rec->part].relief_end = rec->offset;
	}
	return ring->broken ? "its relief wrote nonsense" : NULL;
}

/*
 * Has it seen the end of each partition?  Where that is not our position, there are control
 * records in between.
 */
static bool
is_ready(const KafkaSource *k)
{
	for (int i = 0; i < k->base.nparts; i++)
	{
		const KafkaPart *part = &k->parts[i];

		if (is_read(k, part) && part->relief_end < part->next)
			return false;
	}
	return true;
}

/* What goes on over a partition: there is nothing up to where the relief has seen its end. */
static void
take_over_part(KafkaPart *part, TimestampTz now)
{
	part->next = Max(part->next, part->relief_end);
	part->high = Max(part->high, part->next);
	if (part->ended_at == 0)
		part->ended_at = now;
}

/* Records of the helper that goes which were not taken are in the ring of the other, too. */
static void
take_over(KafkaSource *k, TimestampTz now)
{
	SxKafkaClient *before = k->client;

	k->client = k->relief;
	k->relief = before;
	sx_kafka_client_stop(before);
	k->resting = !k->resting;
	k->started_at = now;
	if (k->progress > k->progress_at_start)
		k->deaths = 0;
	k->progress_at_start = k->progress;
	k->woken_at = 0;
	for (int i = 0; i < k->base.nparts; i++)
	{
		if (is_read(k, &k->parts[i]))
			take_over_part(&k->parts[i], now);
	}
	say_rest(k, k->resting);
}

/* What is wrong with the relief, if anything. */
static const char *
look_at_relief(KafkaSource *k, TimestampTz now)
{
	const char *wrong;

	if (!is_calm(k) || k->progress != k->relief_progress)
		return "something else happens";
	if (now > k->relief_at + 2000 * (int64) k->rest_wait + RELIEF_LIMIT_US)
		return "its relief takes too long";
	wrong = hear_relief(k);
	return wrong != NULL ? wrong : read_relief(k);
}

/*
 * An error of the relief (out of processes or files, a library that does not like its
 * configuration) is nobody's: all of this is system calls and memory of ours, so there is nothing
 * to be rolled back.
 */
static void
tend_relief(KafkaSource *k, TimestampTz now)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext work = AllocSetContextCreate(caller, "streamext relief", ALLOCSET_SMALL_SIZES);

	MemoryContextSwitchTo(work);
	PG_TRY();
	{
		const char *wrong = NULL;

		if (!sx_kafka_client_started(k->relief))
			start_relief(k, now);
		else
			wrong = look_at_relief(k, now);
		(void) sx_kafka_client_flush(k->relief);
		if (wrong != NULL)
			give_up(k, now, wrong);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(work);
		error = CopyErrorData();
		FlushErrorState();
		give_up(k, now, error->message);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(work);
}

/* Takes note of when records come. */
static void
note_records(KafkaSource *k, TimestampTz now)
{
	if (k->progress == k->record_progress)
		return;
	k->record_progress = k->progress;
	k->record_at = now;
	if (k->woken_at == 0)
		k->woken_at = now;
	k->renew |= k->resting && now >= k->woken_at + BUSY_US;
}

/* Starts a relief when it is time, and lets it take over when it is ready. */
void
sx_kafka_relieve(KafkaSource *k)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due;

	note_records(k, now);
	due = relief_due(k);
	if (!sx_kafka_client_started(k->relief) && (due == 0 || now < due))
		return;
	tend_relief(k, now);
	if (sx_kafka_client_running(k->relief) && is_ready(k))
		take_over(k, now);
}

/* When sx_kafka_relieve wants to be called next; 0: when something happens. */
TimestampTz
sx_kafka_relieve_at(const KafkaSource *k, TimestampTz now)
{
	return sx_kafka_client_started(k->relief) ? now + LOOK_US : relief_due(k);
}
