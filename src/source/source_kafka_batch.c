/*-------------------------------------------------------------------------
 *
 * source_kafka_batch.c
 *		Records of the Kafka source: from the ring to the batch.
 *
 * Records stay where the helper wrote them; only pointers move.  The ring gives
 * them in the order of fetching, which mixes partitions.  Draining sorts them into
 * one queue per partition, so a batch is a prefix of each queue, and arrival order
 * (partition, offset) comes from laying the prefixes end to end.
 *
 * What a batch leaves in the queues goes into later ones.  The ring is a FIFO: its
 * space comes back up to the oldest record still held.  That record is the first
 * of its queue, and every queue gives at least one record to each batch unless the
 * batch is smaller than the number of partitions, so the oldest never stays long.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "source/source_kafka.h"

#define PEEK_CHUNK		(8 * 1024 * 1024)
#define PEEK_MAX_BYTES	(INT64CONST(512) * 1024 * 1024)

static int64
record_bytes(const SxRecord *rec)
{
	return Max(rec->value_len, 0) + Max(rec->key_len, 0);
}

static int
queue_length(const KafkaPart *part)
{
	return part->last - part->first;
}

/* ---------- from the ring into the queues ---------- */

/* An array of twice the size, beginning with what is queued. */
static void *
enlarge(KafkaSource *k, const KafkaPart *part, void *array, Size element)
{
	void	   *bigger = MemoryContextAllocHuge(k->base.context, part->room * element);

	if (array != NULL)
	{
		memcpy(bigger, (char *) array + part->first * element, queue_length(part) * element);
		pfree(array);
	}
	return bigger;
}

static void
enlarge_queue(KafkaSource *k, KafkaPart *part)
{
	part->room = Max(part->room * 2, 1024);
	part->queue = enlarge(k, part, part->queue, sizeof(SxRecord *));
	part->upto = enlarge(k, part, part->upto, sizeof(int64));
}

static void
queue_append(KafkaSource *k, KafkaPart *part, SxRecord *rec)
{
	int64		bytes = record_bytes(rec);

	if (part->last == part->room)
	{
		int			n = queue_length(part);

		if (part->first > part->room / 2)
		{
			memmove(part->queue, part->queue + part->first, n * sizeof(SxRecord *));
			memmove(part->upto, part->upto + part->first, n * sizeof(int64));
		}
		else
			enlarge_queue(k, part);
		part->first = 0;
		part->last = n;
	}
	part->bytes += bytes;
	part->queue[part->last] = rec;
	part->upto[part->last++] = part->bytes;
	part->queue_bytes += bytes;
	k->queued++;
	k->queued_bytes += bytes;
}

/* A copy that outlives the ring, for peek. */
static SxRecord *
copy_record(KafkaSource *k, const SxRecord *rec)
{
	SxRecord   *copy;

	if (k->chunk_left < rec->size)
	{
		Size		size = Max(PEEK_CHUNK, rec->size);

		if (k->chunk_bytes + size > PEEK_MAX_BYTES)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("stream %s holds too much to be read at once",
							k->base.stream->label),
					 errdetail("A query outside a batch reads at most " INT64_FORMAT " MB of records.",
							   PEEK_MAX_BYTES / (1024 * 1024)),
					 errhint("Read it batch by batch: with a materialized view over the stream, or with a sink of connector table.")));
		k->chunk = MemoryContextAllocHuge(k->base.context, size + SX_RECORD_SLACK);
		k->chunk_left = size;
		k->chunk_bytes += size;
	}
	copy = (SxRecord *) k->chunk;
	memcpy(copy, rec, rec->size);
	k->chunk += rec->size;
	k->chunk_left -= rec->size;
	return copy;
}

static void
take_data(KafkaSource *k, KafkaPart *part, SxRecord *rec)
{
	part->next = rec->offset + 1;
	part->ended_at = 0;
	k->progress++;
	if (k->peeking)
	{
		/* what came after the scan had begun is not part of it */
		if (part->target >= 0 && rec->offset >= part->target)
			return;
		rec = copy_record(k, rec);
	}
	queue_append(k, part, rec);
}

static void
take_end(KafkaPart *part, const SxRecord *rec)
{
	part->next = Max(part->next, rec->offset);
	part->high = Max(part->high, part->next);
	if (part->ended_at == 0)
		part->ended_at = GetCurrentTimestamp();
}

static void
take_error(KafkaSource *k, KafkaPart *part, const SxRecord *rec)
{
	if (part->error != NULL)
		return;
	part->error_code = rec->offset;
	part->error = MemoryContextAlloc(k->base.context, rec->value_len + 1);
	memcpy(part->error, sx_record_value(rec), rec->value_len);
	part->error[rec->value_len] = '\0';
}

/* False: the helper cannot be trusted any more. */
static bool
take_record(KafkaSource *k, SxRecord *rec)
{
	KafkaPart  *part;

	if (rec->part < 0 || rec->part >= k->base.nparts)
		return false;
	part = &k->parts[rec->part];
	if (part->state != KAFKA_PART_ASSIGNED)
		return part->lost != NULL;	/* what came before the loss was noticed */

	/* What stands behind a record that cannot be had must not move the position over it. */
	if (part->error != NULL)
		return rec->kind != SX_RECORD_ERROR || rec->value_len >= 0;

	switch (rec->kind)
	{
		case SX_RECORD_DATA:
			/* must rise, or a record would count twice */
			if (rec->offset < part->next)
				return false;
			take_data(k, part, rec);
			return true;
		case SX_RECORD_END:
			take_end(part, rec);
			return true;
		case SX_RECORD_ERROR:
			if (rec->value_len >= 0)
				take_error(k, part, rec);
			return rec->value_len >= 0;
		default:
			return false;
	}
}

/*
 * Takes what is in the ring, up to about these limits: enough for a fair choice,
 * and not so much that a batch waits for all of it to be looked at.
 */
void
sx_kafka_drain(KafkaSource *k, int64 max_rows, int64 max_bytes)
{
	SxRingReader *ring;

	if (!sx_kafka_client_started(k->client))
		return;
	ring = sx_kafka_client_ring(k->client);
	for (uint32 n = 0;; n++)
	{
		SxRecord   *rec;

		if (k->base.limited ? n % 1024 == 0 && sx_kafka_allowed_total(k) >= max_rows :
			k->queued >= max_rows || k->queued_bytes >= max_bytes)
			break;
		rec = sx_ring_next(ring);
		if (rec == NULL)
			break;
		if (!take_record(k, rec))
			ring->broken = true;
	}
	if (ring->broken)
		sx_kafka_client_kill(k->client, "wrote records that cannot be right");
}

/* ---------- from the queues into a batch ---------- */

/* Adds records of a queue to the batch, up to these totals of that partition. */
static void
take_prefix(const KafkaSource *k, KafkaPart *part, int64 rows, int64 bytes)
{
	const int64 *upto = part->upto + part->first;
	int64		before = part->bytes - part->queue_bytes;
	int			from = part->cut;
	int			to = (int) Min(sx_kafka_allowed(k, part), rows);

	/* the most records whose bytes are not more */
	while (from < to)
	{
		int			middle = from + (to - from + 1) / 2;

		if (upto[middle - 1] - before <= bytes)
			from = middle;
		else
			to = middle - 1;
	}
	part->cut = from;
	part->cut_bytes = from > 0 ? upto[from - 1] - before : 0;
}

/* How many records of a partition are still to come, as far as known. */
static double
backlog(const KafkaPart *part)
{
	return queue_length(part) + (double) Max(part->high - part->next, 0);
}

/*
 * Too much for one batch: shares in proportion to the backlog, then what is left
 * to whoever has records.
 */
static void
share_out(KafkaSource *k)
{
	double		total = 0;
	int64		rows = 0;
	int64		bytes = 0;

	for (int i = 0; i < k->base.nparts; i++)
	{
		if (sx_kafka_allowed(k, &k->parts[i]) > 0)
			total += backlog(&k->parts[i]);
	}
	for (int i = 0; i < k->base.nparts; i++)
	{
		KafkaPart  *part = &k->parts[i];
		double		share = backlog(part) / total;

		if (sx_kafka_allowed(k, part) == 0)
			continue;
		take_prefix(k, part, Max((int64) (k->max_rows * share), 1),
					(int64) (k->max_bytes * share));
		rows += part->cut;
		bytes += part->cut_bytes;
	}
	for (int i = 0; i < k->base.nparts; i++)
	{
		KafkaPart  *part = &k->parts[k->order[i]];
		int64		had_rows = part->cut;
		int64		had_bytes = part->cut_bytes;

		take_prefix(k, part, had_rows + Max(k->max_rows - rows, 0),
					had_bytes + Max(k->max_bytes - bytes, 0));
		/* a record larger than a batch is a batch */
		if (rows == 0 && part->cut == 0 && sx_kafka_allowed(k, part) > 0)
			take_prefix(k, part, 1, PG_INT64_MAX);
		rows += part->cut - had_rows;
		bytes += part->cut_bytes - had_bytes;
	}
}

static void
choose(KafkaSource *k)
{
	for (int i = 0; i < k->base.nparts; i++)
	{
		k->parts[i].cut = 0;
		k->parts[i].cut_bytes = 0;
	}
	if (k->queued > k->max_rows || k->queued_bytes > k->max_bytes || k->base.limited)
	{
		share_out(k);
		return;
	}
	for (int i = 0; i < k->base.nparts; i++)
	{
		k->parts[i].cut = queue_length(&k->parts[i]);
		k->parts[i].cut_bytes = k->parts[i].queue_bytes;
	}
}

static void
make_room(KafkaSource *k, int64 n)
{
	if (n <= k->records_room)
		return;
	if (k->base.records != NULL)
		pfree(k->base.records);
	k->records_room = Max(n, 1024);
	k->base.records = MemoryContextAllocHuge(k->base.context,
											 k->records_room * sizeof(SxRecord *));
}

/* The position behind the batch. */
static int64
position_behind(const KafkaSource *k, const KafkaPart *part)
{
	int			allowed = sx_kafka_allowed(k, part);

	/* a lane has got to its limit also where no record is right before it */
	if (k->base.limited && part->committed >= 0 && part->cut == allowed &&
		(part->cut < queue_length(part) || part->next >= part->limit))
		return Max(part->limit, part->committed);
	if (part->cut < queue_length(part))
		return part->cut > 0 ? part->queue[part->first + part->cut - 1]->offset + 1 :
			part->committed;
	return part->next;			/* counts the end mark, too */
}

static void
set_positions(KafkaSource *k)
{
	for (int i = 0; i < k->base.nparts; i++)
	{
		KafkaPart  *part = &k->parts[i];
		SxPart	   *visible = &k->base.parts[i];
		char		text[32];

		visible->rows = part->cut;
		if (part->state != KAFKA_PART_ASSIGNED && part->state != KAFKA_PART_FOUND &&
			part->state != KAFKA_PART_READY)
			continue;
		part->cut_next = position_behind(k, part);
		if (part->high >= 0)
		{
			part->high = Max(part->high, part->cut_next);
			visible->lag = part->high - part->cut_next;
		}
		if (part->cut_next == part->committed && part->lost == NULL)
			continue;
		sx_kafka_anchor_cut(k, i);
		snprintf(text, sizeof(text), INT64_FORMAT, part->cut_next);
		sx_part_set(&k->base, &visible->new_position, text);
	}
}

/* Fixes the batch out of what is queued. */
void
sx_kafka_cut(KafkaSource *k)
{
	int64		n = 0;

	choose(k);
	for (int i = 0; i < k->base.nparts; i++)
		n += k->parts[i].cut;
	make_room(k, n);

	k->base.nrecords = 0;
	k->base.nbytes = 0;
	for (int i = 0; i < k->base.nparts; i++)
	{
		KafkaPart  *part = &k->parts[k->order[i]];

		if (part->cut > 0)
			memcpy(k->base.records + k->base.nrecords, part->queue + part->first,
				   part->cut * sizeof(SxRecord *));
		k->base.nrecords += part->cut;
		k->base.nbytes += part->cut_bytes;
	}
	set_positions(k);
}

/* The batch is done with: takes its records off the queues. */
void
sx_kafka_forget_cut(KafkaSource *k)
{
	for (int i = 0; i < k->base.nparts; i++)
	{
		KafkaPart  *part = &k->parts[i];

		part->first += part->cut;
		part->queue_bytes -= part->cut_bytes;
		k->queued -= part->cut;
		k->queued_bytes -= part->cut_bytes;
		part->cut = 0;
		part->cut_bytes = 0;
		if (part->first == part->last)
			part->first = part->last = 0;
	}
	k->base.nrecords = 0;
	k->base.nbytes = 0;
}

/*
 * Drops the batch, though it is not committed, and all that is queued.  The helper has to be
 * replaced: the next one begins at the committed positions.
 */
void
sx_kafka_go_back(KafkaSource *k)
{
	for (int i = 0; i < k->base.nparts; i++)
	{
		KafkaPart  *part = &k->parts[i];

		part->first = part->last = part->cut = 0;
		part->queue_bytes = part->cut_bytes = 0;
		sx_part_set(&k->base, &k->base.parts[i].new_position, NULL);
		sx_kafka_anchor_back(k, i);
		if (part->state != KAFKA_PART_ASSIGNED)
			continue;
		part->next = part->committed;
		if (part->error != NULL)
			pfree(part->error);
		part->error = NULL;
		part->ended_at = 0;
	}
	k->queued = k->queued_bytes = 0;
	k->base.nrecords = 0;
	k->base.nbytes = 0;
	k->loaded = false;
}

/* Gives back the ring up to the oldest record that is still held. */
void
sx_kafka_release(KafkaSource *k)
{
	SxRingReader *ring;
	uint64		upto;

	if (!sx_kafka_client_started(k->client))
		return;
	ring = sx_kafka_client_ring(k->client);
	upto = ring->read;
	for (int i = 0; i < k->base.nparts && !k->peeking; i++)
	{
		const KafkaPart *part = &k->parts[i];

		if (queue_length(part) > 0)
			upto = Min(upto, sx_ring_position(ring, part->queue[part->first]));
	}
	sx_kafka_client_release(k->client, upto);
}
