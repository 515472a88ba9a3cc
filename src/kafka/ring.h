/*-------------------------------------------------------------------------
 *
 * ring.h
 *		The ring of records between the helper program and its server process.
 *
 * One memfd is mapped by both: a header page, then `capacity` bytes of records,
 * then SX_RECORD_SLACK bytes that only make reading a little too far harmless.
 * There is one producer (the helper's data thread) and one consumer.  Positions
 * count bytes from the beginning of time; position modulo capacity is the place.
 *
 *		tail ............. read ............. head ............. tail + capacity
 *		  records of the     records not        free: belongs to
 *		  batch in progress  looked at yet      the producer
 *
 * The producer alone moves head, after the bytes before it are written (release);
 * the consumer alone moves tail, after it needs the bytes before it no more.  A
 * record never wraps: where it does not fit before the end of the area a
 * SX_RECORD_PAD fills the rest.  A record of at most half the capacity always fits
 * once the consumer has let go of everything.
 *
 * Waiting: a side that finds nothing to do sets its `waits` flag, looks once more,
 * and sleeps on its eventfd; the other side, having moved its end, takes the flag
 * and writes to the eventfd if it was set.  Sequentially consistent order between
 * "move, then look at the flag" and "set the flag, then look again" is what makes
 * a lost wake-up impossible, so those accesses are not relaxed.
 *
 * The consumer checks every length that it reads: a helper gone mad can at worst
 * hand over wrong bytes.
 *
 * Shared with the helper program: nothing of PostgreSQL here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_RING_H
#define SX_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "source/record.h"

#define SX_RING_MAGIC		0x53585231	/* "SXR1" */
#define SX_RING_HEADER		4096	/* bytes before the first record */
#define SX_RING_MIN_BYTES	(1024 * 1024)

typedef struct SxRing
{
	uint32_t	magic;
	uint32_t	reserved;
	uint64_t	capacity;		/* a multiple of 8 */
	_Alignas(64) _Atomic uint64_t head;
	_Alignas(64) _Atomic uint64_t tail;
	_Alignas(64) _Atomic uint32_t consumer_waits;
	_Alignas(64) _Atomic uint32_t producer_waits;
} SxRing;

_Static_assert(sizeof(SxRing) <= SX_RING_HEADER, "the ring's header is one page");

/* Bytes to map for a ring of this capacity. */
static inline size_t
sx_ring_map_size(uint64_t capacity)
{
	return (size_t) (SX_RING_HEADER + capacity + SX_RECORD_SLACK);
}

static inline char *
sx_ring_data(SxRing *ring)
{
	return (char *) ring + SX_RING_HEADER;
}

/* Largest record that the ring takes. */
static inline uint64_t
sx_ring_max_record(uint64_t capacity)
{
	return (capacity / 2) & ~UINT64_C(7);
}

/* ---------- producer ---------- */

typedef struct SxRingWriter
{
	SxRing	   *ring;
	char	   *data;
	uint64_t	capacity;
	uint64_t	head;			/* ours, ahead of what is published */
	uint64_t	tail;			/* as last seen */
} SxRingWriter;

static inline void
sx_ring_writer_init(SxRingWriter *w, SxRing *ring)
{
	w->ring = ring;
	w->data = sx_ring_data(ring);
	w->capacity = ring->capacity;
	w->head = atomic_load(&ring->head);
	w->tail = atomic_load(&ring->tail);
}

/* Is there room for n bytes?  Looks at the consumer's end only when needed. */
static inline bool
sx_ring_has_room(SxRingWriter *w, uint64_t n)
{
	if (w->capacity - (w->head - w->tail) >= n)
		return true;
	w->tail = atomic_load(&w->ring->tail);
	return w->capacity - (w->head - w->tail) >= n;
}

/*
 * Memory for a record of size bytes (a multiple of 8, at most
 * sx_ring_max_record), or NULL when the ring is too full.
 */
static inline SxRecord *
sx_ring_reserve(SxRingWriter *w, uint32_t size)
{
	uint64_t	place = w->head % w->capacity;
	uint64_t	rest = w->capacity - place;
	SxRecord   *rec;

	if (rest < size)
	{
		SxRecord   *pad = (SxRecord *) (w->data + place);

		if (!sx_ring_has_room(w, rest + size))
			return NULL;
		/* the rest may be shorter than a header: touch size and kind only */
		pad->size = (uint32_t) rest;
		pad->kind = SX_RECORD_PAD;
		w->head += rest;
		place = 0;
	}
	else if (!sx_ring_has_room(w, size))
		return NULL;

	rec = (SxRecord *) (w->data + place);
	w->head += size;
	return rec;
}

/* Shows the consumer what was written; true: it sleeps, wake it. */
static inline bool
sx_ring_publish(SxRingWriter *w)
{
	if (atomic_load_explicit(&w->ring->head, memory_order_relaxed) == w->head)
		return false;
	atomic_store(&w->ring->head, w->head);
	return atomic_load(&w->ring->consumer_waits) != 0 &&
		atomic_exchange(&w->ring->consumer_waits, 0) != 0;
}

/* ---------- consumer ---------- */

typedef struct SxRingReader
{
	SxRing	   *ring;
	char	   *data;
	uint64_t	capacity;		/* our own copy: the shared one is not trusted */
	uint64_t	tail;			/* given back up to here */
	uint64_t	read;			/* looked at up to here */
	uint64_t	head;			/* as last seen */
	bool		broken;			/* something in there cannot be right */
} SxRingReader;

#define SX_RING_AHEAD		4	/* records, if they are all of one size */

static inline void
sx_ring_reader_init(SxRingReader *r, SxRing *ring, uint64_t capacity)
{
	r->ring = ring;
	r->data = sx_ring_data(ring);
	r->capacity = capacity;
	r->tail = r->read = r->head = 0;
	r->broken = false;
}

/* Are the lengths of a record consistent with the size that it claims? */
static inline bool
sx_record_is_sane(const SxRecord *rec, uint32_t size)
{
	int64_t		bytes = sizeof(SxRecord);

	if (rec->value_len < -1 || rec->key_len < -1 || rec->headers_len < 0)
		return false;
	bytes += rec->value_len < 0 ? 0 : rec->value_len;
	bytes += rec->key_len < 0 ? 0 : rec->key_len;
	bytes += rec->headers_len;
	return bytes <= size;
}

/* The next record (no PAD), or NULL when there is none or the ring is broken. */
static inline SxRecord *
sx_ring_next(SxRingReader *r)
{
	while (!r->broken)
	{
		uint64_t	place = r->read % r->capacity;
		SxRecord   *rec = (SxRecord *) (r->data + place);
		uint64_t	avail;
		uint32_t	size;

		if (r->read == r->head)
		{
			uint64_t	head = atomic_load(&r->ring->head);

			if (head < r->head || head - r->tail > r->capacity || head % 8 != 0)
				r->broken = true;
			r->head = head;
			if (r->broken || r->read == r->head)
				return NULL;
		}

		avail = r->head - r->read;
		if (avail > r->capacity - place)
			avail = r->capacity - place;
		size = rec->size;
		if (size < 8 || size % 8 != 0 || size > avail)
			r->broken = true;
		else if (rec->kind == SX_RECORD_PAD)
			r->read += size;
		else if (size < sizeof(SxRecord) || !sx_record_is_sane(rec, size))
			r->broken = true;
		else
		{
			/*
			 * Where the next record is, the processor knows only when it has read this
			 * one's size.  It would wait for memory each time: guess.
			 */
			__builtin_prefetch((char *) rec + SX_RING_AHEAD * size);
			__builtin_prefetch((char *) rec + SX_RING_AHEAD * size + 64);
			r->read += size;
			return rec;
		}
	}
	return NULL;
}

/* The position of a record that lies between tail and read. */
static inline uint64_t
sx_ring_position(const SxRingReader *r, const SxRecord *rec)
{
	uint64_t	place = (uint64_t) ((const char *) rec - r->data);
	uint64_t	tail_place = r->tail % r->capacity;

	return r->tail + (place >= tail_place ? place - tail_place :
					  place + r->capacity - tail_place);
}

/* Gives back everything before position; true: the producer sleeps, wake it. */
static inline bool
sx_ring_release(SxRingReader *r, uint64_t position)
{
	if (position == r->tail)
		return false;
	r->tail = position;
	atomic_store(&r->ring->tail, position);
	return atomic_load(&r->ring->producer_waits) != 0 &&
		atomic_exchange(&r->ring->producer_waits, 0) != 0;
}

/* About to sleep: true when there is something to read after all. */
static inline bool
sx_ring_consumer_waits(SxRingReader *r)
{
	if (r->read != r->head)
		return true;
	atomic_store(&r->ring->consumer_waits, 1);
	return atomic_load(&r->ring->head) != r->read;
}

#endif							/* SX_RING_H */
