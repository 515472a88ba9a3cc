/*-------------------------------------------------------------------------
 *
 * helper_ring.c
 *		streamext-kafka: records are laid into the ring.
 *
 * What the ring has no room for is tried again later, so each of these functions
 * either lays down all of a record or nothing.  Records are shown to the server in
 * groups of PUBLISH_BYTES, or when there is nothing more at hand.
 *
 *-------------------------------------------------------------------------
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "helper_consume.h"

#define PUBLISH_BYTES		(64 * 1024)
#define KEPT_OF_LARGE		(64 * 1024) /* of key and headers of a record that is too
										 * large: all, or nothing */

void
ring_map(Consumer *c)
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

void
ring_publish(Consumer *c)
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
	rec->oversize = 0;
	rec->part = part;
	rec->value_len = value_len;
	rec->key_len = key_len;
	rec->headers_len = headers_len;
	rec->timestamp = 0;
	c->unpublished += size;
	return rec;
}

bool
ring_put_error(Consumer *c, int32_t part, int code, const char *text)
{
	int32_t		len = (int32_t) strlen(text);
	SxRecord   *rec = reserve(c, SX_RECORD_ERROR, part, len, -1, 0);

	if (rec == NULL)
		return false;
	rec->offset = code;
	memcpy(rec + 1, text, (size_t) len);
	return true;
}

bool
ring_put_end(Consumer *c, int32_t part, int64_t offset)
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

/* Beyond max_message_bytes, or more than the ring can hold. */
static bool
is_too_large(const Consumer *c, uint64_t size)
{
	return size > (uint64_t) c->h->max_message_bytes ||
		size + sizeof(SxRecord) + 8 > sx_ring_max_record(c->ring.capacity);
}

/* The headers that go with a message, in *size bytes; NULL: none. */
static rd_kafka_headers_t *
headers_of(const Consumer *c, const rd_kafka_message_t *m, uint64_t *size)
{
	rd_kafka_headers_t *headers;

	*size = 0;
	if (c->h->headers == SX_HEADERS_NONE ||
		rd_kafka_message_headers(m, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return NULL;
	*size = headers_size(headers);
	if (c->h->headers == SX_HEADERS_IF_ROOM && is_too_large(c, m->len + m->key_len + *size) &&
		!is_too_large(c, m->len + m->key_len))
		*size = 0;
	return headers;
}

/*
 * A record that is too large goes without its value: it can be reported, not decoded.
 */
bool
ring_put_data(Consumer *c, int32_t part, const rd_kafka_message_t *m)
{
	rd_kafka_timestamp_type_t type;
	bool		value = m->payload != NULL;
	bool		key = m->key != NULL;
	uint64_t	hlen;
	rd_kafka_headers_t *headers = headers_of(c, m, &hlen);
	uint64_t	size = m->len + m->key_len + hlen;
	uint16_t	oversize = 0;
	int64_t		timestamp;
	SxRecord   *rec;
	char	   *to;

	if (is_too_large(c, size))
	{
		oversize = (uint16_t) (size / 1024 < UINT16_MAX ? size / 1024 + 1 : UINT16_MAX);
		value = false;
		key = key && m->key_len <= KEPT_OF_LARGE;
		hlen = hlen <= KEPT_OF_LARGE ? hlen : 0;
	}

	rec = reserve(c, SX_RECORD_DATA, part, value ? (int32_t) m->len : -1,
				  key ? (int32_t) m->key_len : -1, (int32_t) hlen);
	if (rec == NULL)
		return false;
	timestamp = rd_kafka_message_timestamp(m, &type);
	rec->has_timestamp = type != RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && timestamp >= 0;
	rec->timestamp = timestamp;
	rec->oversize = oversize;
	rec->offset = m->offset;
	to = (char *) (rec + 1);
	if (value)
		memcpy(to, m->payload, m->len);
	to += value ? m->len : 0;
	if (key)
		memcpy(to, m->key, m->key_len);
	to += key ? m->key_len : 0;
	if (hlen > 0)
		write_headers(to, headers);
	if (c->unpublished >= PUBLISH_BYTES)
		ring_publish(c);
	return true;
}
