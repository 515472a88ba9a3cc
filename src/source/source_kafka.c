/*-------------------------------------------------------------------------
 *
 * source_kafka.c
 *		The source `kafka`: records of topics, positions kept in PostgreSQL only.
 *
 * librdkafka lives in a helper program (kafka/client.c); this side tells it which
 * partitions to read from which offsets, and finds records in a ring that both map.
 *
 *		poll	keeps a helper alive, acts on its messages, drains the ring into
 *				queues by partition
 *		load	cuts a batch off the queues; the same again after an abort
 *		committed	gives the batch's space in the ring back
 *
 * The helper may die at any time.  Whole records that it left in the ring are used
 * up first, because a batch may be in progress on them; then a new helper starts
 * behind the last record taken, after RESTART_MIN_US, doubled with each death that
 * came without a record in between.  The third of those is an error: whatever
 * kills it is in the data or the configuration, and another try would not help.
 *
 * librdkafka unpacks all batches of an answer before it hands over the first record.
 * So after a death without progress the next helper fetches one batch at a time: what
 * stands before the batch that kills it is delivered.  When it has got on
 * and lived for CAREFUL_US, it is replaced by one that fetches as usual.
 *
 * Headers are brought along only where somebody reads them: a column of the stream, or a
 * dead letter.  The first record that becomes one makes the batch be read again with them
 * (read_whole), and all after it.
 *
 * A broker that cannot be reached is no error: librdkafka keeps trying, and `status`
 * says so.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "kafka/config.h"
#include "source/source_kafka.h"
#include "streamext.h"

#define MAX_DEATHS			3
#define RESTART_MIN_US		INT64CONST(1000000)
#define RESTART_MAX_US		INT64CONST(10000000)
#define CAREFUL_US			INT64CONST(60000000)
#define SAVE_INTERVAL_US	INT64CONST(1000000)
#define TO_END_US			INT64CONST(5000000)
#define RING_BYTES			(64 * 1024 * 1024)

/* ---------- the helper ---------- */

/* Starts a helper that knows of no partition yet. */
void
sx_kafka_start_client(KafkaSource *k, SxKafkaClient *client, SxHelperKind kind)
{
	const StringInfoData *properties = &k->config[kind];
	StringInfoData config;

	initStringInfo(&config);
	appendBinaryStringInfo(&config, properties->data, properties->len);
	sx_kafka_put_topics(k, 0, &config);
	sx_frame_put_u32(&config, k->headers);
	sx_kafka_client_start(client, &config, k->ring_bytes);
	pfree(config.data);
}

void
sx_kafka_start_helper(KafkaSource *k)
{
	k->progress_at_start = k->progress;
	k->started_at = GetCurrentTimestamp();
	sx_kafka_end_rest(k);
	k->connected = k->lost = k->renew = false;
	sx_kafka_parts_restart(k);
	sx_kafka_start_client(k, k->client, k->careful ? SX_HELPER_CAREFUL : SX_HELPER_USUAL);
}

/*
 * It ended itself rather than read on over a new connection.  Its successor comes at
 * once, but not more often than every second.
 */
static void
replace_helper(KafkaSource *k)
{
	sx_kafka_client_stop(k->client);
	k->connected = false;
	k->deaths = 0;
	k->restart_at = k->started_at + RESTART_MIN_US;
}

/* The helper is dead and its records are used up. */
static void
bury_helper(KafkaSource *k)
{
	char		death[128];
	int64		delay = RESTART_MIN_US;

	strlcpy(death, sx_kafka_client_death(k->client), sizeof(death));
	sx_kafka_client_stop(k->client);
	k->connected = false;
	k->deaths = k->progress > k->progress_at_start ? 1 : k->deaths + 1;
	/* that one rested says nothing of what it was sent */
	k->careful |= k->progress == k->progress_at_start && !k->resting;
	if (k->deaths >= MAX_DEATHS)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("the Kafka helper of stream %s ended %d times at the same position",
						k->base.stream->label, k->deaths),
				 errdetail("The last one %s.", death),
				 errhint("If records expand to more than it may use, raise streamext.helper_memory.")));

	for (int i = 1; i < k->deaths; i++)
		delay *= 2;
	k->restart_at = GetCurrentTimestamp() + Min(delay, RESTART_MAX_US);
	sx_kafka_trouble(k, "the Kafka helper ", death, sizeof(death));
	ereport(LOG,
			(errmsg("the Kafka helper of stream %s %s; starting another one",
					k->base.stream->label, death)));
}

/* Makes sure that there is a helper, now or soon. */
static void
keep_helper(KafkaSource *k)
{
	if (k->careful && sx_kafka_client_running(k->client) &&
		k->progress > k->progress_at_start &&
		GetCurrentTimestamp() >= k->started_at + CAREFUL_US)
	{
		k->careful = false;
		k->renew = true;
	}
	if (sx_kafka_client_running(k->client) && !k->renew)
		return;
	if (sx_kafka_client_started(k->client))
	{
		if (k->queued > 0 || k->loaded)
			return;
		if (k->lost || k->renew)
			replace_helper(k);
		else
			bury_helper(k);
	}
	if (GetCurrentTimestamp() >= k->restart_at)
		sx_kafka_start_helper(k);
}

/* ---------- looking at the partitions ---------- */

/* When the partition becomes idle unless a record comes; 0: not to be foreseen. */
static TimestampTz
idle_at(const KafkaSource *k, const KafkaPart *part)
{
	return part->ended_at != 0 && part->first == part->last && k->connected ?
		part->ended_at + k->idle_timeout : 0;
}

static void
show_parts(KafkaSource *k, TimestampTz now)
{
	for (int i = 0; i < k->base.nparts; i++)
	{
		KafkaPart  *part = &k->parts[i];
		SxPart	   *visible = &k->base.parts[i];
		char		text[32];

		if (part->state == KAFKA_PART_FOREIGN)
			continue;
		/* while the brokers are away, nobody knows: it stays what it was */
		if (part->ended_at == 0 || part->first != part->last)
			visible->idle = false;
		else if (idle_at(k, part) != 0)
			visible->idle = now >= idle_at(k, part);
		if (sx_kafka_part_is_gone(k, part) && part->first == part->last)
			visible->idle = true;
		if (part->high < 0)
			continue;
		visible->lag = Max(part->high - part->committed, 0);
		snprintf(text, sizeof(text), INT64_FORMAT, part->high);
		if (visible->end == NULL || strcmp(visible->end, text) != 0)
			sx_part_set(&k->base, &visible->end, text);
	}
}

/*
 * Is there something to commit, but not at once?  An end mark beyond the last record,
 * which aborted transactions and control records make, or a lag that is not what the
 * catalog shows: it can wait a little for records to come with it.
 */
static bool
small_change(const KafkaSource *k, int i)
{
	const KafkaPart *part = &k->parts[i];
	const SxPart *visible = &k->base.parts[i];

	return part->state == KAFKA_PART_ASSIGNED &&
		(part->next > part->committed || visible->lag != visible->saved_lag);
}

/* Is there a position to commit, though perhaps no record? */
static bool
position_due(const KafkaSource *k, TimestampTz now)
{
	for (int i = 0; i < k->base.nparts; i++)
	{
		if (k->parts[i].state == KAFKA_PART_FOUND ||
			(small_change(k, i) && now >= k->saved_at + SAVE_INTERVAL_US))
			return true;
	}
	return false;
}

/* ---------- operations ---------- */

static bool
reads_headers(const SxStream *stream)
{
	for (int i = 0; i < stream->natts; i++)
	{
		if (stream->columns[i].metadata == SX_META_HEADERS)
			return true;
	}
	return false;
}

static SxSource *
kafka_open(SxStream *stream, int pipeline, SxPart *parts, int nparts)
{
	KafkaSource *k = palloc0(sizeof(KafkaSource));

	k->continues = strcmp(sx_stream_option(stream, "on_data_loss", "stop"), "continue") == 0;
	k->base.ops = &sx_source_kafka;
	k->base.stream = stream;
	k->base.pipeline = pipeline;
	k->base.context = CurrentMemoryContext;
	k->idle_timeout = sx_interval_option_usec("idle_timeout",
											  sx_stream_option(stream, "idle_timeout",
															   "30 seconds"));
	k->headers = reads_headers(stream) ? SX_HEADERS_ALL : SX_HEADERS_NONE;
	k->base.partial = k->headers == SX_HEADERS_NONE;
	sx_kafka_parts_open(k, parts, nparts);
	for (int kind = 0; kind < lengthof(k->config); kind++)
	{
		initStringInfo(&k->config[kind]);
		sx_kafka_config(stream, SX_ROLE_CONSUMER, kind, &k->config[kind]);
	}
	k->rest_wait = sx_kafka_rest_wait();
	k->may_rest = sx_kafka_may_rest(stream) && k->pattern == NULL;
	k->record_at = GetCurrentTimestamp();
	/* the helper maps the ring too, within its bounds */
	k->ring_bytes = Min(RING_BYTES, (uint64) sx_helper_memory * 1024 / 4);
	k->client = sx_kafka_client_create(CurrentMemoryContext);
	k->relief = sx_kafka_client_create(CurrentMemoryContext);
	return &k->base;
}

static bool
kafka_divides(const SxStream *stream, const char **why)
{
	return true;
}

/* Everything that can be done without waiting. */
static void
pump(KafkaSource *k)
{
	sx_kafka_messages(k);
	/* twice a batch: enough to choose from; of one that is to go, no more */
	if (!k->renew)
		sx_kafka_drain(k, 2 * k->max_rows, 2 * k->max_bytes);
	sx_kafka_release(k);
	sx_kafka_unclog(k);
	keep_helper(k);
	sx_kafka_requests(k);
	sx_kafka_client_flush(k->client);
}

/* Have the partitions been read up to where they ended when we asked? */
static bool
drained_to_target(const KafkaSource *k)
{
	for (int i = 0; i < k->base.nparts; i++)
	{
		const KafkaPart *part = &k->parts[i];

		if (part->state != KAFKA_PART_FOREIGN && part->error == NULL &&
			!sx_kafka_part_is_gone(k, part) &&
			(part->target < 0 || part->next < part->target))
			return false;
	}
	return true;
}

/*
 * For step(): waits until everything that Kafka holds now, or enough for a batch,
 * is in the queues, or until first positions are there to be committed.
 */
static void
pump_to_end(KafkaSource *k)
{
	TimestampTz give_up = GetCurrentTimestamp() + TO_END_US;

	k->ends = KAFKA_ENDS_NONE;
	k->ends_first = !k->base.limited;
	for (;;)
	{
		pump(k);
		if (sx_kafka_allowed_total(k) >= k->max_rows ||
			(!k->base.limited && k->queued_bytes >= k->max_bytes) ||
			(k->base.limited && sx_kafka_limit_reached(k)) ||
			(k->ends == KAFKA_ENDS_KNOWN && drained_to_target(k)) ||
			position_due(k, 0) || GetCurrentTimestamp() > give_up)
			break;
		if (sx_kafka_client_running(k->client))
			sx_kafka_client_wait(k->client, 100);
		else
			sx_nap(10);
		CHECK_FOR_INTERRUPTS();
	}
	k->ends = KAFKA_ENDS_NONE;
	k->ends_first = false;
}

static SxPollResult
kafka_poll(SxSource *source, const SxPollRequest *req)
{
	KafkaSource *k = (KafkaSource *) source;
	TimestampTz now;

	k->max_rows = Max(req->max_rows, 1);
	k->max_bytes = Max(req->max_bytes, 1);
	if (k->loaded)
		return SX_POLL_DATA;

	if (req->to_end)
		pump_to_end(k);
	else
	{
		pump(k);
		sx_kafka_relieve(k);
	}
	sx_kafka_check_parts(k);
	now = GetCurrentTimestamp();
	show_parts(k, now);
	sx_kafka_show_status(k, now);
	if (sx_kafka_allowed_total(k) > 0)
		return SX_POLL_DATA;
	return position_due(k, now) ? SX_POLL_POSITION : SX_POLL_NOTHING;
}

static void
kafka_load(SxSource *source, Snapshot snapshot)
{
	KafkaSource *k = (KafkaSource *) source;

	if (!k->loaded)
		sx_kafka_cut(k);
	k->loaded = true;
	sx_kafka_save_gaps(k);
}

static void
kafka_committed(SxSource *source)
{
	KafkaSource *k = (KafkaSource *) source;

	if (!k->loaded)
		return;
	sx_kafka_gaps_saved(k);
	for (int i = 0; i < source->nparts; i++)
	{
		KafkaPart  *part = &k->parts[i];
		SxPart	   *visible = &source->parts[i];

		if (visible->new_position != NULL)
		{
			part->committed = part->cut_next;
			part->committed_anchor = part->anchor;
			if (part->state == KAFKA_PART_FOUND)
				part->state = KAFKA_PART_READY;
		}
		sx_part_committed(visible);
	}
	k->saved_at = GetCurrentTimestamp();
	k->loaded = false;
	sx_kafka_forget_cut(k);
	sx_kafka_release(k);
}

/* A dead letter has headers, which were left out: from now on they are brought along. */
static void
kafka_read_whole(SxSource *source)
{
	KafkaSource *k = (KafkaSource *) source;

	k->headers = SX_HEADERS_IF_ROOM;
	source->partial = false;
	sx_kafka_go_back(k);
	replace_helper(k);
	k->renew = true;
	k->restart_at = 0;			/* it happens once */
}

static void
kafka_close(SxSource *source)
{
	KafkaSource *k = (KafkaSource *) source;

	sx_kafka_client_stop(k->client);
	sx_kafka_client_stop(k->relief);
}

/* Shortens *ms to the time from now until t. */
static void
wait_until(long *ms, TimestampTz t, TimestampTz now)
{
	long		left = t <= now ? 0 : (long) Min((t - now) / 1000 + 1, 3600 * 1000);

	if (*ms < 0 || left < *ms)
		*ms = left;
}

static long
kafka_wait(SxSource *source, int *fd)
{
	KafkaSource *k = (KafkaSource *) source;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz relieve_at;
	long		ms = -1;

	*fd = -1;
	if (sx_kafka_allowed_total(k) > 0)
		return -1;				/* it is for the pipeline to cut a batch */
	if (!sx_kafka_client_started(k->client))
	{
		wait_until(&ms, k->restart_at, now);
		return ms;
	}
	if (!sx_kafka_client_flush(k->client))
		wait_until(&ms, now + 10000, now);
	if (!sx_kafka_client_arm(k->client))
		return 0;
	*fd = sx_kafka_client_fd(k->client);
	if (k->renew && k->queued == 0 && !k->loaded)
		return 0;

	for (int i = 0; i < source->nparts; i++)
	{
		const KafkaPart *part = &k->parts[i];

		/* requests wait for the helper's first word, which wakes us */
		if (part->state == KAFKA_PART_NEW && k->met && !sx_kafka_part_is_gone(k, part))
			wait_until(&ms, k->resolve_at, now);
		if (part->state == KAFKA_PART_READY && k->met && !sx_kafka_part_done(k, part))
			wait_until(&ms, now, now);
		if (small_change(k, i))
			wait_until(&ms, k->saved_at + SAVE_INTERVAL_US, now);
		if (!source->parts[i].idle && idle_at(k, part) != 0)
			wait_until(&ms, idle_at(k, part), now);
	}
	relieve_at = sx_kafka_relieve_at(k, now);
	if (relieve_at != 0)
		wait_until(&ms, relieve_at, now);
	return ms;
}

/*
 * The first call asks where the partitions end, and the answer is true as soon as
 * that is committed; then the next call asks anew.
 */
static bool
kafka_reached_end(SxSource *source)
{
	KafkaSource *k = (KafkaSource *) source;

	sx_kafka_messages(k);
	if (k->ends == KAFKA_ENDS_NONE && sx_kafka_positions_known(k))
		sx_kafka_ask_ends(k);
	if (k->ends != KAFKA_ENDS_KNOWN || k->queued > 0 || k->loaded ||
		!drained_to_target(k))
		return false;
	k->ends = KAFKA_ENDS_NONE;
	return true;
}

const SxSourceOps sx_source_kafka = {
	.connector = "kafka",
	.check = sx_kafka_check,
	.open = kafka_open,
	.divides = kafka_divides,
	.poll = kafka_poll,
	.load = kafka_load,
	.committed = kafka_committed,
	.read_whole = kafka_read_whole,
	.close = kafka_close,
	.wait = kafka_wait,
	.reached_end = kafka_reached_end,
	.peek = sx_kafka_peek,
	.lane_start = sx_kafka_lane_start,
	.limit = sx_kafka_limit,
	.at_limit = sx_kafka_at_limit
};
