/*-------------------------------------------------------------------------
 *
 * helper_consume.c
 *		streamext-kafka: from librdkafka's queue into the ring.
 *
 * Partitions are started one by one at the offset that the server gives
 * (rd_kafka_consume_start_queue), all feeding one queue: no consumer group, no
 * stored offsets, and a partition can be added while the others go on.  Up to
 * FETCH_MESSAGES are taken at a time; those that do not fit into the ring are
 * kept until there is room, which is what slows the fetching down.
 *
 *		poll(socket, room in the ring, librdkafka) ─> frames ─> records ─> ring
 *
 * Both eventfds are cleared before what they announce is looked at, so nothing is
 * slept over.
 *
 *-------------------------------------------------------------------------
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "helper.h"

#define FETCH_MESSAGES		2000
#define PUBLISH_BYTES		(64 * 1024)
#define ENDS_INTERVAL_MS	250
#define IDLE_POLL_MS		1000

_Static_assert(SX_KAFKA_ERR_OFFSET_GONE == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET &&
			   SX_KAFKA_ERR_TOO_LARGE == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE &&
			   SX_KAFKA_ERR_NOT_ALLOWED == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
			   "protocol.h repeats codes of librdkafka");

typedef struct ConsumedPart
{
	int32_t		part;
	int			topic;
	int32_t		partition;
	int64_t		low;			/* as last reported */
	int64_t		high;
} ConsumedPart;

typedef struct Consumer
{
	Helper	   *h;
	SxRingWriter ring;
	uint64_t	unpublished;	/* bytes */
	rd_kafka_queue_t *queue;
	rd_kafka_message_t *msgs[FETCH_MESSAGES];
	int			nmsgs;
	int			next;			/* first of msgs that is not in the ring yet */
	ConsumedPart *parts;
	int			nparts;
	int64_t		ends_at;		/* ms: when ends were looked at last */
} Consumer;

static int64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---------- the ring ---------- */

static void
map_ring(Consumer *c)
{
	struct stat st;
	SxRing	   *ring;

	if (fstat(SX_HELPER_RING, &st) != 0 || st.st_size < SX_RING_HEADER)
		helper_fail("there is no ring");
	ring = mmap(NULL, (size_t) st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED,
				SX_HELPER_RING, 0);
	if (ring == MAP_FAILED || ring->magic != SX_RING_MAGIC ||
		sx_ring_map_size(ring->capacity) > (size_t) st.st_size)
		helper_fail("could not map the ring");
	sx_ring_writer_init(&c->ring, ring);
}

static void
publish(Consumer *c)
{
	if (sx_ring_publish(&c->ring))
		helper_event_raise(SX_HELPER_DATA_EVENT);
	c->unpublished = 0;
}

/* Lays out a record and returns it with its lengths set, NULL: no room. */
static SxRecord *
reserve(Consumer *c, SxRecordKind kind, int32_t part, int32_t value_len,
		int32_t key_len, int32_t headers_len)
{
	uint32_t	size = sx_record_size(value_len, key_len, headers_len);
	SxRecord   *rec = sx_ring_reserve(&c->ring, size);

	if (rec == NULL)
		return NULL;
	rec->size = size;
	rec->kind = (uint8_t) kind;
	rec->has_timestamp = 0;
	rec->pad = 0;
	rec->part = part;
	rec->value_len = value_len;
	rec->key_len = key_len;
	rec->headers_len = headers_len;
	rec->timestamp = 0;
	c->unpublished += size;
	return rec;
}

static bool
put_error(Consumer *c, int32_t part, int code, const char *text)
{
	int32_t		len = (int32_t) strlen(text);
	SxRecord   *rec = reserve(c, SX_RECORD_ERROR, part, len, -1, 0);

	if (rec == NULL)
		return false;
	rec->offset = code;
	memcpy(rec + 1, text, (size_t) len);
	return true;
}

static bool
put_end(Consumer *c, int32_t part, int64_t offset)
{
	SxRecord   *rec = reserve(c, SX_RECORD_END, part, -1, -1, 0);

	if (rec == NULL)
		return false;
	rec->offset = offset;
	return true;
}

/* Bytes that the headers of a message take in a record. */
static uint64_t
headers_size(const rd_kafka_headers_t *headers)
{
	const char *name;
	const void *value;
	size_t		len;
	uint64_t	size = 0;

	for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &len) == 0; i++)
		size += 8 + strlen(name) + (value ? len : 0);
	return size;
}

static void
write_headers(char *to, const rd_kafka_headers_t *headers)
{
	const char *name;
	const void *value;
	size_t		len;

	for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &len) == 0; i++)
	{
		uint32_t	name_len = (uint32_t) strlen(name);
		int32_t		value_len = value ? (int32_t) len : -1;

		memcpy(to, &name_len, 4);
		memcpy(to + 4, &value_len, 4);
		memcpy(to + 8, name, name_len);
		to += 8 + name_len;
		if (value)
			memcpy(to, value, len);
		to += value ? len : 0;
	}
}

static bool
put_too_large(Consumer *c, int32_t part, const rd_kafka_message_t *m, uint64_t size)
{
	char		text[256];

	snprintf(text, sizeof(text),
			 "the record at offset %lld is %llu bytes, max_message_bytes is %lld",
			 (long long) m->offset, (unsigned long long) size,
			 (long long) c->h->max_message_bytes);
	return put_error(c, part, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, text);
}

static bool
put_data(Consumer *c, int32_t part, const rd_kafka_message_t *m)
{
	rd_kafka_headers_t *headers = NULL;
	rd_kafka_timestamp_type_t type;
	uint64_t	hlen = 0;
	uint64_t	size;
	int64_t		timestamp;
	SxRecord   *rec;
	char	   *to;

	if (rd_kafka_message_headers(m, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR)
		hlen = headers_size(headers);
	size = m->len + m->key_len + hlen;
	if (size > (uint64_t) c->h->max_message_bytes ||
		size + sizeof(SxRecord) + 8 > sx_ring_max_record(c->ring.capacity))
		return put_too_large(c, part, m, size);

	rec = reserve(c, SX_RECORD_DATA, part, m->payload ? (int32_t) m->len : -1,
				  m->key ? (int32_t) m->key_len : -1, (int32_t) hlen);
	if (rec == NULL)
		return false;
	timestamp = rd_kafka_message_timestamp(m, &type);
	rec->has_timestamp = type != RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && timestamp >= 0;
	rec->timestamp = timestamp;
	rec->offset = m->offset;
	to = (char *) (rec + 1);
	if (m->payload)
		memcpy(to, m->payload, m->len);
	to += m->payload ? m->len : 0;
	if (m->key)
		memcpy(to, m->key, m->key_len);
	to += m->key ? m->key_len : 0;
	if (hlen > 0)
		write_headers(to, headers);
	return true;
}

/* ---------- messages ---------- */

static int32_t
part_of_message(Consumer *c, const rd_kafka_message_t *m)
{
	Helper	   *h = c->h;

	for (int i = 0; i < h->ntopics; i++)
	{
		HelperTopic *t = &h->topics[i];

		if (t->rkt == m->rkt)
			return m->partition >= 0 && m->partition < t->nparts_of ?
				t->part_of[m->partition] : -1;
	}
	return -1;
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
		case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
		case RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR:
		case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
			/* said by metadata, with the same words at every attempt */
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
			return true;
		default:
			return false;
	}
}

/* Puts what the message says into the ring; false: no room. */
static bool
put_message(Consumer *c, const rd_kafka_message_t *m)
{
	int32_t		part = part_of_message(c, m);

	if (part < 0)
		return true;
	if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR)
		return put_data(c, part, m);
	if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
		return put_end(c, part, m->offset);
	if (is_transient(m->err))
	{
		helper_send_status(c->h, atomic_load(&c->h->connected), m->err,
						   rd_kafka_message_errstr(m));
		return true;
	}
	return put_error(c, part, m->err, rd_kafka_message_errstr(m));
}

/* Moves the messages at hand into the ring; false: it is full. */
static bool
move_messages(Consumer *c)
{
	bool		room = true;

	while (c->next < c->nmsgs)
	{
		room = put_message(c, c->msgs[c->next]);
		if (!room)
			break;
		rd_kafka_message_destroy(c->msgs[c->next++]);
		if (c->unpublished >= PUBLISH_BYTES)
			publish(c);
	}
	publish(c);
	return room;
}

/* ---------- control ---------- */

static void
start_partition(Consumer *c, int32_t part, int32_t topic, int32_t partition,
				int64_t offset)
{
	Helper	   *h = c->h;
	HelperTopic *t;
	ConsumedPart *p;

	if (part < 0 || topic < 0 || topic >= h->ntopics || partition < 0 ||
		partition > 1000000 || offset < 0)
		helper_fail("an assignment is malformed");
	t = &h->topics[topic];
	if (partition >= t->nparts_of)
	{
		t->part_of = realloc(t->part_of, (partition + 1) * sizeof(int32_t));
		if (t->part_of == NULL)
			helper_exit(1);
		while (t->nparts_of <= partition)
			t->part_of[t->nparts_of++] = -1;
	}
	t->part_of[partition] = part;

	c->parts = realloc(c->parts, (c->nparts + 1) * sizeof(ConsumedPart));
	if (c->parts == NULL)
		helper_exit(1);
	p = &c->parts[c->nparts++];
	*p = (ConsumedPart) {part, topic, partition, -1, -1};
	if (rd_kafka_consume_start_queue(t->rkt, partition, offset, c->queue) != 0)
		helper_fail(rd_kafka_err2str(rd_kafka_last_error()));
}

static void
serve_control(Consumer *c)
{
	SxMessageType type;
	SxFrameReader frame;

	while (helper_receive(&type, &frame, false))
	{
		if (type == SX_MSG_RESOLVE)
			helper_query_resolve(c->h, &frame);
		else if (type == SX_MSG_ASSIGN)
		{
			uint32_t	n = sx_frame_u32(&frame);

			for (uint32_t i = 0; i < n && !frame.failed; i++)
			{
				int32_t		part = sx_frame_i32(&frame);
				int32_t		topic = sx_frame_i32(&frame);
				int32_t		partition = sx_frame_i32(&frame);

				start_partition(c, part, topic, partition, sx_frame_i64(&frame));
			}
		}
		else
			helper_fail("a consumer was sent a message that it does not know");
	}
}

/* Tells the server how far the partitions reach, as fetching has shown. */
static void
report_ends(Consumer *c)
{
	HelperBuffer b = {0};
	uint32_t	n = 0;
	int64_t		now = now_ms();

	if (now - c->ends_at < ENDS_INTERVAL_MS)
		return;
	c->ends_at = now;
	helper_put_u32(&b, 0);
	for (int i = 0; i < c->nparts; i++)
	{
		ConsumedPart *p = &c->parts[i];
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

/* ---------- the loop ---------- */

/* Sleeps until there may be something to do. */
static void
wait_for_work(Consumer *c, bool full)
{
	struct pollfd fds[3] = {
		{SX_HELPER_SOCKET, POLLIN, 0},
		{SX_HELPER_SPACE_EVENT, POLLIN, 0},
		{c->h->wake_fd, POLLIN, 0},
	};

	if (full)
	{
		uint64_t	tail = c->ring.tail;

		/* the consumer wakes us only when it sees this flag */
		atomic_store(&c->ring.ring->producer_waits, 1);
		if (atomic_load(&c->ring.ring->tail) != tail)
			return;
	}
	/* with a full ring, more records are no reason to wake up */
	poll(fds, full ? 2 : 3, IDLE_POLL_MS);
	if (fds[1].revents)
		helper_event_clear(SX_HELPER_SPACE_EVENT);
	if (fds[2].revents)
		helper_event_clear(c->h->wake_fd);
}

void
helper_consume(Helper *h)
{
	static Consumer consumer;
	static const uint64_t one = 1;
	Consumer   *c = &consumer;
	rd_kafka_queue_t *events = rd_kafka_queue_get_main(h->rk);

	c->h = h;
	map_ring(c);
	c->queue = rd_kafka_queue_new(h->rk);
	rd_kafka_queue_io_event_enable(c->queue, h->wake_fd, &one, sizeof(one));
	rd_kafka_queue_io_event_enable(events, h->wake_fd, &one, sizeof(one));
	helper_query_start(h);

	for (;;)
	{
		bool		room;

		serve_control(c);
		rd_kafka_poll(h->rk, 0);
		report_ends(c);
		room = move_messages(c);
		if (room)
		{
			ssize_t		n = rd_kafka_consume_batch_queue(c->queue, 0, c->msgs,
														 FETCH_MESSAGES);

			c->next = 0;
			c->nmsgs = n > 0 ? (int) n : 0;
			if (n > 0)
				continue;
		}
		wait_for_work(c, !room);
	}
}
