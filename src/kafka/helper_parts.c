/*-------------------------------------------------------------------------
 *
 * helper_parts.c
 *		streamext-kafka: partitions, and whether each is still the same log.
 *
 * An offset says nothing about the log that it is an offset of.  A topic that was
 * deleted and made anew, another cluster behind the same address, or a replica that
 * was elected with less than all records: in each of them our offset may exist, and
 * mean another record.  So the server sends with it an anchor, the last record that
 * was read: offset, timestamp, hash of key and value.  The partition is read from
 * the anchor on.  What comes first decides:
 *
 *		the anchor's offset, the same record	  it is the log that we know
 *		the anchor's offset, another record		  error OTHER_RECORD
 *		a later offset							  the anchor was compacted away, has
 *												  expired or was no record: nothing
 *												  can be said, go on with a notice
 *		the end, before the offset to go on at	  error TRUNCATED
 *		the anchor is out of range				  begin at the offset to go on at, which
 *												  has to be in range itself
 *
 * librdkafka 2.0.2 knows no leader epochs (KIP-320) and no topic ids, so there is
 * nothing else to go by.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>

#include "helper_consume.h"

#define ENDS_INTERVAL_MS	250

_Static_assert(SX_KAFKA_ERR_OFFSET_GONE == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET &&
			   SX_KAFKA_ERR_NOT_ALLOWED == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED &&
			   SX_KAFKA_ERR_UNKNOWN_TOPIC == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC &&
			   SX_KAFKA_ERR_NO_SUCH_TOPIC == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
			   "protocol.h repeats codes of librdkafka");

/* ---------- beginning ---------- */

static void
begin_at(Consumer *c, ConsumedPart *p, int64_t offset)
{
	if (rd_kafka_consume_start_queue(c->h->topics[p->topic].rkt, p->partition, offset,
									 c->queue) != 0)
		helper_fail(rd_kafka_err2str(rd_kafka_last_error()));
}

/* Lets messages of a partition find it. */
static void
remember(Consumer *c, ConsumedPart *p)
{
	HelperTopic *t = &c->h->topics[p->topic];

	if (p->partition >= t->nparts_of)
	{
		t->part_of = realloc(t->part_of, (p->partition + 1) * sizeof(t->part_of[0]));
		if (t->part_of == NULL)
			helper_exit(1);
		while (t->nparts_of <= p->partition)
			t->part_of[t->nparts_of++] = NULL;
	}
	t->part_of[p->partition] = p;

	c->parts = realloc(c->parts, (c->nparts + 1) * sizeof(ConsumedPart *));
	if (c->parts == NULL)
		helper_exit(1);
	c->parts[c->nparts++] = p;
}

/* An ASSIGN frame. */
void
parts_assign(Consumer *c, SxFrameReader *frame)
{
	uint32_t	n = sx_frame_u32(frame);

	for (uint32_t i = 0; i < n && !frame->failed; i++)
	{
		ConsumedPart *p = helper_alloc(sizeof(ConsumedPart));

		p->part = sx_frame_i32(frame);
		p->topic = sx_frame_i32(frame);
		p->partition = sx_frame_i32(frame);
		p->start = sx_frame_i64(frame);
		p->anchor_offset = sx_frame_i64(frame);
		p->anchor_time = sx_frame_i64(frame);
		p->has_hash = sx_frame_u32(frame) != 0;
		p->anchor_hash = (uint64_t) sx_frame_i64(frame);
		p->low = p->high = -1;
		if (frame->failed || p->part < 0 || p->topic < 0 || p->topic >= c->h->ntopics ||
			p->partition < 0 || p->partition > 1000000 || p->start < 0)
			helper_fail("an assignment is malformed");
		if (p->anchor_offset >= p->start)
			p->anchor_offset = -1;	/* the server was told to go back */
		p->check = p->anchor_offset >= 0 ? PART_CHECKING : PART_TRUSTED;
		remember(c, p);
		begin_at(c, p, p->check == PART_CHECKING ? p->anchor_offset : p->start);
	}
}

/* ---------- checking ---------- */

static void
trust_unchecked(Consumer *c, ConsumedPart *p)
{
	char		text[512];

	p->check = PART_TRUSTED;
	snprintf(text, sizeof(text),
			 "topic \"%.200s\" no longer holds the last record that was read of partition %d (offset %lld): "
			 "going on without having compared it",
			 c->h->topics[p->topic].name, p->partition, (long long) p->anchor_offset);
	helper_send_status(c->h, atomic_load(&c->h->connected), SX_STATUS_NOTICE, text);
}

/* Tells the server that this is another log; false: no room for it. */
static bool
distrust(Consumer *c, ConsumedPart *p, int code, const char *text)
{
	if (!ring_put_error(c, p->part, code, text))
		return false;
	p->check = PART_FAILED;
	(void) rd_kafka_consume_stop(c->h->topics[p->topic].rkt, p->partition);
	return true;
}

static bool
is_anchor(const ConsumedPart *p, const rd_kafka_message_t *m)
{
	rd_kafka_timestamp_type_t type;
	int64_t		timestamp = rd_kafka_message_timestamp(m, &type);

	if (type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE || timestamp < 0)
		timestamp = -1;
	return timestamp == p->anchor_time &&
		(!p->has_hash ||
		 p->anchor_hash == sx_anchor_hash(m->key, m->key ? (int32_t) m->key_len : -1,
										  m->payload, m->payload ? (int32_t) m->len : -1));
}

/* A record of a partition that is being checked. */
static bool
check_record(Consumer *c, ConsumedPart *p, const rd_kafka_message_t *m)
{
	char		text[256];

	if (m->offset < p->anchor_offset)
		return true;
	if (m->offset > p->anchor_offset)
	{
		trust_unchecked(c, p);
		return parts_message(c, m);
	}
	if (is_anchor(p, m))
	{
		p->check = PART_TRUSTED;
		return true;
	}
	snprintf(text, sizeof(text), "the record at offset %lld is not the one that was read there before",
			 (long long) m->offset);
	return distrust(c, p, SX_KAFKA_ERR_OTHER_RECORD, text);
}

/* Reads from where the server wants it, as the anchor is of no use. */
static bool
begin_again(Consumer *c, ConsumedPart *p)
{
	trust_unchecked(c, p);
	(void) rd_kafka_consume_stop(c->h->topics[p->topic].rkt, p->partition);
	begin_at(c, p, p->start);
	return true;
}

/*
 * The end of a partition that is being checked.  An end that lies before our offset
 * though the log does not is that of the last stable offset: the stream read
 * uncommitted records before.
 */
static bool
check_end(Consumer *c, ConsumedPart *p, int64_t offset)
{
	char		text[256];
	int64_t		low;
	int64_t		high = -1;

	if (offset >= p->start)
	{
		trust_unchecked(c, p);
		return ring_put_end(c, p->part, offset);
	}
	if (rd_kafka_get_watermark_offsets(c->h->rk, c->h->topics[p->topic].name,
									   p->partition, &low, &high) == 0 && high >= p->start)
		return begin_again(c, p);
	snprintf(text, sizeof(text), "the partition ends at offset %lld", (long long) offset);
	return distrust(c, p, SX_KAFKA_ERR_TRUNCATED, text);
}

/* ---------- messages ---------- */

static ConsumedPart *
part_of_message(Consumer *c, const rd_kafka_message_t *m)
{
	Helper	   *h = c->h;

	for (int i = 0; i < h->ntopics; i++)
	{
		HelperTopic *t = &h->topics[i];

		if (t->rkt == m->rkt)
			return m->partition >= 0 && m->partition < t->nparts_of ?
				t->part_of[m->partition] : NULL;
	}
	return NULL;
}

/* Errors that go away by themselves; librdkafka keeps trying. */
static bool
is_transient(rd_kafka_resp_err_t err)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR__TRANSPORT:
		case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
		case RD_KAFKA_RESP_ERR__TIMED_OUT:
		case RD_KAFKA_RESP_ERR__RESOLVE:
		case RD_KAFKA_RESP_ERR__NODE_UPDATE:
		case RD_KAFKA_RESP_ERR__WAIT_COORD:
		case RD_KAFKA_RESP_ERR__AUTHENTICATION:
		case RD_KAFKA_RESP_ERR__SSL:
		case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
		case RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH:
		case RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH:
		case RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR:
		case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
		case RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION:
		case RD_KAFKA_RESP_ERR_UNKNOWN:
			return true;
		default:
			return false;
	}
}

/* Said by metadata, with the same words at every attempt. */
static bool
is_absence(rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
		err == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION ||
		err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
}

/* An error of a partition: into the ring when the server has to act on it. */
static bool
part_error(Consumer *c, ConsumedPart *p, const rd_kafka_message_t *m)
{
	if (is_absence(m->err))
	{
		if (p->seen)
			helper_lose(c->h, "the topic was deleted");
		return true;
	}
	if (is_transient(m->err))
	{
		helper_send_status(c->h, atomic_load(&c->h->connected), m->err,
						   rd_kafka_message_errstr(m));
		return true;
	}
	if (m->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET && p->check == PART_CHECKING)
		return begin_again(c, p);
	return ring_put_error(c, p->part, m->err, rd_kafka_message_errstr(m));
}

/* Puts what the message says into the ring; false: no room, come again. */
bool
parts_message(Consumer *c, const rd_kafka_message_t *m)
{
	ConsumedPart *p = part_of_message(c, m);

	if (p == NULL || p->check == PART_FAILED)
		return true;
	if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR && m->err != RD_KAFKA_RESP_ERR__PARTITION_EOF)
		return part_error(c, p, m);
	p->seen = true;
	if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
		return p->check == PART_CHECKING ? check_end(c, p, m->offset) :
			ring_put_end(c, p->part, m->offset);
	if (p->check == PART_CHECKING)
		return check_record(c, p, m);
	return m->offset < p->start || ring_put_data(c, p->part, m);
}

/* Has anything been read by this process? */
bool
parts_seen(const Consumer *c)
{
	for (int i = 0; i < c->nparts; i++)
	{
		if (c->parts[i]->seen)
			return true;
	}
	return false;
}

/* All partitions, with the end as the offset to look for.  The caller's to destroy. */
rd_kafka_topic_partition_list_t *
parts_list(const Consumer *c)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(c->nparts);

	for (int i = 0; i < c->nparts; i++)
		rd_kafka_topic_partition_list_add(list, c->h->topics[c->parts[i]->topic].name,
										  c->parts[i]->partition)->offset = SX_OFFSET_LATEST;
	return list;
}

/* Tells the server how far the partitions reach, as fetching has shown. */
void
parts_report_ends(Consumer *c)
{
	HelperBuffer b = {0};
	uint32_t	n = 0;

	if (!helper_is_due(&c->ends_at, ENDS_INTERVAL_MS))
		return;
	helper_put_u32(&b, 0);
	for (int i = 0; i < c->nparts; i++)
	{
		ConsumedPart *p = c->parts[i];
		int64_t		low;
		int64_t		high;

		if (rd_kafka_get_watermark_offsets(c->h->rk, c->h->topics[p->topic].name,
										   p->partition, &low, &high) != 0 ||
			high < 0 || (low == p->low && high == p->high))
			continue;
		p->low = low;
		p->high = high;
		helper_put_i32(&b, p->part);
		helper_put_i64(&b, low);
		helper_put_i64(&b, high);
		n++;
	}
	memcpy(b.data, &n, sizeof(n));
	if (n > 0)
		helper_send(SX_MSG_ENDS, &b);
	else
		free(b.data);
}
