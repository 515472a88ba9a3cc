/*-------------------------------------------------------------------------
 *
 * source_kafka_peek.c
 *		SELECT from a Kafka stream outside a batch: what the topics hold now.
 *
 * A helper of its own reads every partition from its oldest record to the end that
 * it had when the scan began; the records are copied, since the ring is smaller
 * than a topic.  Nothing is remembered of it, and no pipeline notices.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "source/source_kafka.h"

#define CONNECT_US	INT64CONST(10000000)

static void
give_up(KafkaSource *k)
{
	for (int i = 0; i < k->ntopics; i++)
	{
		if (k->topics[i].problem[0] != '\0')
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("could not read topic \"%s\" of stream %s: %s",
							k->topics[i].name, k->base.stream->label,
							k->topics[i].problem)));
	}
	ereport(ERROR,
			(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
			 errmsg("could not reach the Kafka brokers of stream %s",
					k->base.stream->label),
			 k->trouble[0] != '\0' ? errdetail_internal("%s", k->trouble) : 0,
			 errhint("Check option \"brokers\", and that they answer from this server.")));
}

/* Waits for the helper; its death ends the scan. */
static void
wait_for_helper(KafkaSource *k, long ms)
{
	sx_kafka_client_wait(k->client, ms);
	sx_kafka_messages(k);
	if (!sx_kafka_client_running(k->client))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("the Kafka helper that read stream %s %s",
						k->base.stream->label, sx_kafka_client_death(k->client))));
}

/* Here no position has to be committed: what was found can be read. */
static void
accept_positions(KafkaSource *k)
{
	for (int i = 0; i < k->base.nparts; i++)
	{
		if (k->parts[i].state == KAFKA_PART_FOUND)
			k->parts[i].state = KAFKA_PART_READY;
	}
}

static bool
topic_has_problem(const KafkaSource *k)
{
	for (int i = 0; i < k->ntopics; i++)
	{
		if (k->topics[i].problem[0] != '\0')
			return true;
	}
	return false;
}

/* Until the bounds of the scan are known. */
static void
find_bounds(KafkaSource *k)
{
	TimestampTz deadline = GetCurrentTimestamp() + CONNECT_US;

	while (k->ends != KAFKA_ENDS_KNOWN)
	{
		if (topic_has_problem(k) || GetCurrentTimestamp() > deadline)
			give_up(k);
		accept_positions(k);
		sx_kafka_requests(k);
		wait_for_helper(k, 100);
	}
}

static bool
all_read(const KafkaSource *k)
{
	for (int i = 0; i < k->base.nparts; i++)
	{
		if (k->parts[i].next < k->parts[i].target)
			return false;
	}
	return true;
}

void
sx_kafka_peek(SxSource *source)
{
	KafkaSource *k = (KafkaSource *) source;

	k->peeking = k->ends_first = true;
	k->start = "earliest";
	k->max_rows = k->max_bytes = PG_INT64_MAX;
	sx_kafka_start_helper(k);
	find_bounds(k);
	sx_kafka_requests(k);
	for (;;)
	{
		sx_kafka_drain(k, PG_INT64_MAX, PG_INT64_MAX);
		sx_kafka_release(k);
		sx_kafka_check_parts(k);
		if (all_read(k))
			break;
		wait_for_helper(k, 1000);
	}
	sx_kafka_client_stop(k->client);
	sx_kafka_cut(k);
	k->loaded = true;
}
