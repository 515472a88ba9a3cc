/*-------------------------------------------------------------------------
 *
 * source_kafka_topics.c
 *		Topics of the Kafka source: named one by one, or by a pattern.
 *
 * Both sides number topics alike: those that the source knows go to a new helper in
 * its configuration, those that come later are added on both sides in one order.
 *
 * With option topic_pattern the helper lists the names of all topics, now and then,
 * and this side chooses: a regular expression of PostgreSQL's, which has to match the
 * whole name.  A topic that was chosen once stays, since it has positions; when it is
 * deleted its partitions are idle, and the status says so.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "regex/regex.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "kafka/config.h"
#include "source/source_kafka.h"

/* Adds a topic to the list; its number. */
int
sx_kafka_add_topic(KafkaSource *k, const char *name, int len)
{
	MemoryContext old = MemoryContextSwitchTo(k->base.context);
	KafkaTopic *t;

	if (k->ntopics >= SX_MAX_TOPICS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("stream %s would read more than %d topics",
						k->base.stream->label, SX_MAX_TOPICS),
				 errhint("Write a \"topic_pattern\" that fits fewer of them.")));
	if (k->ntopics == k->topics_room)
	{
		k->topics_room = Max(k->topics_room * 2, 8);
		k->topics = k->topics == NULL ? palloc(k->topics_room * sizeof(KafkaTopic)) :
			repalloc(k->topics, k->topics_room * sizeof(KafkaTopic));
	}
	t = &k->topics[k->ntopics];
	memset(t, 0, sizeof(KafkaTopic));
	t->name = pnstrdup(name, len);
	t->partitions = -1;
	MemoryContextSwitchTo(old);
	return k->ntopics++;
}

void
sx_kafka_topics_open(KafkaSource *k)
{
	ListCell   *lc;

	k->pattern = sx_stream_option(k->base.stream, "topic_pattern", NULL);
	foreach(lc, sx_kafka_topics(k->base.stream))
		(void) sx_kafka_add_topic(k, lfirst(lc), strlen(lfirst(lc)));
}

/* The topics from this number on, as a message wants them. */
void
sx_kafka_put_topics(KafkaSource *k, int from, StringInfo payload)
{
	sx_frame_put_u32(payload, k->ntopics - from);
	for (int i = from; i < k->ntopics; i++)
		sx_frame_put_str(payload, k->topics[i].name);
}

/* A topic of the pattern's that is there no more. */
bool
sx_kafka_part_is_gone(const KafkaSource *k, const KafkaPart *part)
{
	return k->pattern != NULL && part->topic != SX_NO_TOPIC && k->met &&
		k->topics[part->topic].partitions < 0;
}

/* ---------- the pattern ---------- */

static bool
is_known(const KafkaSource *k, const char *name, int len)
{
	for (int i = 0; i < k->ntopics; i++)
	{
		if (strlen(k->topics[i].name) == len && memcmp(k->topics[i].name, name, len) == 0)
			return true;
	}
	return false;
}

/* TOPICS: those that the pattern fits and that are new are asked for. */
void
sx_kafka_handle_names(KafkaSource *k, SxFrameReader *frame)
{
	uint32		n = sx_frame_u32(frame);
	int			before = k->ntopics;
	StringInfoData payload;

	for (uint32 i = 0; i < n && !frame->failed; i++)
	{
		uint32_t	len;
		const char *name = sx_frame_str(frame, &len);

		if (frame->failed || k->pattern == NULL)
			return;
		/* Kafka's own limit; letters, digits, and no more than . _ - */
		if (len <= 249 && !is_known(k, name, len) &&
			sx_kafka_pattern_fits(k->pattern, name, len))
			(void) sx_kafka_add_topic(k, name, len);
	}
	k->names_known = k->ntopics == before;
	if (k->names_known)
		return;
	initStringInfo(&payload);
	sx_kafka_put_topics(k, before, &payload);
	sx_kafka_client_send(k->client, SX_MSG_ADD_TOPICS, &payload);
	pfree(payload.data);
}

/* ---------- metadata ---------- */

/*
 * A partition that is seen for the first time.  Option start is for what was there when
 * the pipeline began: of what came later nothing has been missed yet, and offsets that
 * were given are meant as they are.
 */
static void
discover_part(KafkaSource *k, const char *name, int topic, int32 partition,
			  bool from_the_beginning)
{
	KafkaPart  *part;
	int64		offset = -1;
	int64		start = SX_OFFSET_EARLIEST;

	if (k->fresh && (from_the_beginning || k->start[0] == '{'))
		start = sx_kafka_start_of_partition(k, name, &offset);

	part = sx_kafka_add_part(k, name, topic, partition);
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
		char	   *name;

		if (!sx_kafka_is_wanted(k, topic, p))
			continue;
		k->base.all_parts++;
		name = sx_kafka_part_name(k, topic, p);
		if (sx_slot_reads(k->base.stream, name) && sx_kafka_find_part(k, topic, p) == NULL)
			discover_part(k, name, topic, p, !k->met_ever);
		pfree(name);
	}
	t->partitions = partitions;
	sx_kafka_sort_parts(k);
}

/* Anchors point to the id, so one that is replaced is not freed. */
static void
note_cluster(KafkaSource *k, const char *id, uint32 len)
{
	MemoryContext old;

	if (len == 0 || len > 200 ||
		(k->cluster != NULL && strlen(k->cluster) == len && memcmp(k->cluster, id, len) == 0))
		return;
	old = MemoryContextSwitchTo(k->base.context);
	k->cluster = pnstrdup(id, len);
	MemoryContextSwitchTo(old);
}

/* METADATA: who answers, and which partitions there are. */
void
sx_kafka_handle_metadata(KafkaSource *k, SxFrameReader *frame)
{
	uint32_t	len;
	const char *cluster = sx_frame_str(frame, &len);
	uint32		n = sx_frame_u32(frame);

	note_cluster(k, cluster, len);
	sx_kafka_check_cluster(k);

	k->base.all_parts = 0;
	for (int i = 0; i < n && i < k->ntopics; i++)
	{
		int32		partitions = sx_frame_i32(frame);
		const char *text = sx_frame_str(frame, &len);
		KafkaTopic *t = &k->topics[i];

		if (frame->failed)
			return;
		snprintf(t->problem, sizeof(t->problem), "%.*s", (int) Min(len, 100), text);
		if (partitions >= 0)
			handle_topic(k, i, Min(partitions, 1000000));
		else if (k->pattern != NULL)
			t->partitions = -1;
	}
	k->met = true;
	/* with a pattern, what was added by a list of names is known now */
	k->names_known |= n == k->ntopics && n > 0;
	k->met_ever |= k->pattern == NULL || k->names_known;
}
