/*-------------------------------------------------------------------------
 *
 * fuzz_ring.c
 *		What a helper program gone mad can do to the process that reads from it.
 *
 * usage: fuzz_ring ROUNDS SEED
 *
 * Fills a ring and a frame with what a helper would write, changes bytes, lengths and
 * positions at random, and reads all of it as a worker does: src/kafka/ring.h and
 * protocol.h are the very code.  Built with AddressSanitizer and UBSan; the memory of the
 * ring is of exactly the size that is mapped, so one byte read beyond it ends the program.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>

#include "kafka/protocol.h"
#include "kafka/ring.h"

#define CAPACITY	(64 * 1024)

static uint64_t state;

static uint32_t
number(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return below == 0 ? 0 : (uint32_t) (state >> 11) % below;
}

static volatile unsigned sum;

static void
touch(const char *p, int64_t len)
{
	for (int64_t i = 0; i < len; i++)
		sum += (unsigned char) p[i];
}

/* ---------- the ring ---------- */

static void
write_headers(char *p, int n)
{
	for (int i = 0; i < n; i++)
	{
		uint32_t	name_len = 2;
		int32_t		value_len = 6;

		memcpy(p, &name_len, 4);
		memcpy(p + 4, &value_len, 4);
		memcpy(p + 8, "namevalue", 8);
		p += 16;
	}
}

static void
fill_ring(SxRingWriter *w)
{
	for (int i = 0; i < 200; i++)
	{
		int32_t		value_len = number(600) - 1;
		int32_t		key_len = number(30) - 1;
		int32_t		headers_len = 16 * number(4);
		uint32_t	size = sx_record_size(value_len, key_len, headers_len);
		SxRecord   *rec = sx_ring_reserve(w, size);

		if (rec == NULL)
			break;
		memset(rec, 'x', size);
		rec->size = size;
		rec->kind = SX_RECORD_DATA;
		rec->part = number(4);
		rec->value_len = value_len;
		rec->key_len = key_len;
		rec->headers_len = headers_len;
		if (headers_len > 0)
			write_headers((char *) sx_record_headers(rec), headers_len / 16);
	}
	(void) sx_ring_publish(w);
}

static void
damage(char *data, size_t len, int times)
{
	static const uint32_t odd[] = {0, 1, 7, 8, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff8, CAPACITY};

	for (int i = 0; i < times; i++)
	{
		size_t		at = number(len - 4);

		if (number(2))
			data[at] ^= 1 << number(8);
		else
			memcpy(data + (at & ~(size_t) 3), &odd[number(sizeof(odd) / 4)], 4);
	}
}

/* Number of records read before the reader gave up, or all. */
static int
read_ring(SxRing *ring)
{
	SxRingReader r;
	SxRecord   *rec;
	int			n = 0;

	sx_ring_reader_init(&r, ring, CAPACITY);
	while ((rec = sx_ring_next(&r)) != NULL)
	{
		const char *p = sx_record_headers(rec);
		SxHeader	header;

		n++;
		touch(sx_record_value(rec), rec->value_len);
		touch(sx_record_key(rec), rec->key_len);
		touch((char *) rec + rec->size, SX_RECORD_SLACK);	/* as the JSON decoder may */
		for (const char *end = p + rec->headers_len; p != NULL && sx_header_next(&p, end, &header);)
		{
			touch(header.name, header.name_len);
			touch(header.value, header.value_len);
		}
		if (number(50) == 0)
			(void) sx_ring_release(&r, sx_ring_position(&r, rec));
	}
	return n;
}

static int
one_ring(void)
{
	SxRing	   *ring = calloc(1, sx_ring_map_size(CAPACITY));
	SxRingWriter w;
	int			n;

	ring->magic = SX_RING_MAGIC;
	ring->capacity = CAPACITY;
	sx_ring_writer_init(&w, ring);
	fill_ring(&w);
	damage(sx_ring_data(ring), CAPACITY / 4, 1 + number(5));
	if (number(10) == 0)
		damage((char *) ring, sizeof(SxRing), 1);
	n = read_ring(ring);
	free(ring);
	return n;
}

/* ---------- frames ---------- */

static void
read_frame(const char *payload, uint32_t length, const char *layout)
{
	SxFrameReader r;
	uint32_t	n;
	uint32_t	len;

	sx_frame_reader_init(&r, payload, length);
	n = sx_frame_u32(&r);
	for (uint32_t i = 0; i < n && !r.failed; i++)
	{
		for (const char *l = layout; *l; l++)
		{
			if (*l == 'i')
				(void) sx_frame_i32(&r);
			else if (*l == 'q')
				(void) sx_frame_i64(&r);
			else
			{
				const char *text = sx_frame_str(&r, &len);

				touch(text, len);
			}
		}
	}
}

static void
one_frame(void)
{
	static const char *const layouts[] = {"is", "iqs", "iqq", "s", "qqis"};
	uint32_t	length = 4 + number(300);
	char	   *payload = malloc(length);
	uint32_t	n = number(8);

	for (uint32_t i = 0; i < length; i++)
		payload[i] = number(8) == 0 ? number(256) : 0;
	if (number(4))
		memcpy(payload, &n, 4);
	read_frame(payload, length, layouts[number(5)]);
	free(payload);
}

int
main(int argc, char **argv)
{
	long		rounds = argc > 1 ? atol(argv[1]) : 1000;
	long		records = 0;

	state = (argc > 2 ? atol(argv[2]) : 1) * UINT64_C(2654435769) + 88172645463325252;
	for (long i = 0; i < rounds; i++)
	{
		records += one_ring();
		one_frame();
	}
	printf("%ld rings and frames, %ld records read\n", rounds, records);
	return 0;
}
