/*-------------------------------------------------------------------------
 *
 * state_hints.c
 *		Where the rows of keys stood when they were last seen.
 *
 * A cache of a step with keyed state, which survives batches: from the hash of a key to
 * the place (tid) of its row, and from a block of the table to the shared buffer that
 * it is in.  With it a look-up need not go down the index, and the memory that it will
 * touch is known some records ahead, so that it can be fetched from DRAM for many
 * records at once instead of for one after the other (state_ahead.c).
 *
 * Nothing in here has to be true.  Whoever follows a hint checks that the row at that
 * place is visible to his snapshot and has the key that he wants; as there is
 * only one such row, it is the right one then, whatever has happened to the table since;
 * and if it is not, he asks the index.  So nothing is ever invalidated: not by
 * an abort, by another session's batch, by VACUUM FULL, nor by two keys of one hash.
 *
 * Memory is that of the keys seen, up to streamext.state_cache.  Entries stand in
 * buckets of a cache line each; a full one forgets an entry for a new one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/mman.h>

#include "storage/off.h"
#include "streamext.h"
#include "utils/memutils.h"

#include "state/state_hints.h"

#define LINE			64
#define SLOTS			6
#define FIRST_BUCKETS	64
#define HUGE_PAGE		((Size) 2 * 1024 * 1024)

/* A free slot has no offset. */
typedef struct Bucket
{
	uint32		hash[SLOTS];
	BlockNumber block[SLOTS];
	OffsetNumber offset[SLOTS];
	uint16		next;			/* the slot that is given up next */
	uint16		unused;
} Bucket;

StaticAssertDecl(sizeof(Bucket) == LINE, "a bucket is a cache line");

typedef struct Block
{
	Buffer		buffer;
	bool		gathered;
} Block;

struct SxHints
{
	MemoryContext context;
	Bucket	   *buckets;
	void	   *memory;			/* … somewhere in here */
	uint32		nbuckets;		/* a power of two */
	uint64		used;			/* slots */
	Oid			file;
	Block	   *blocks;
	BlockNumber nblocks;
	SxFront		front;
};

static Size
limit(void)
{
	return (Size) sx_state_cache * 1024;
}

/*
 * Free buckets.  Many of them are read at random: in pages of the usual size each access
 * would miss the TLB.
 */
static void
make_buckets(SxHints *hints, uint32 n)
{
	Size		size = (Size) n * sizeof(Bucket);
	Size		align = size >= 2 * HUGE_PAGE ? HUGE_PAGE : LINE;

	hints->memory = MemoryContextAllocHuge(hints->context, size + align);
	hints->buckets = (Bucket *) TYPEALIGN(align, hints->memory);
#ifdef MADV_HUGEPAGE
	if (align == HUGE_PAGE)
		(void) madvise(hints->buckets, size, MADV_HUGEPAGE);
#endif
	memset(hints->buckets, 0, size);
	hints->nbuckets = n;
	hints->used = 0;
}

SxHints *
sx_hints_create(void)
{
	SxHints    *hints;

	if (limit() < FIRST_BUCKETS * sizeof(Bucket))
		return NULL;
	hints = palloc0(sizeof(SxHints));
	hints->context = CurrentMemoryContext;
	make_buckets(hints, FIRST_BUCKETS);
	return hints;
}

static inline Bucket *
bucket_of(const SxHints *hints, uint32 hash)
{
	return &hints->buckets[hash & (hints->nbuckets - 1)];
}

void
sx_hints_prefetch(const SxHints *hints, uint32 hash)
{
	__builtin_prefetch(bucket_of(hints, hash));
}

bool
sx_hints_get(const SxHints *hints, uint32 hash, ItemPointer tid)
{
	const Bucket *bucket = bucket_of(hints, hash);

	for (int i = 0; i < SLOTS; i++)
	{
		if (bucket->hash[i] == hash && bucket->offset[i] != InvalidOffsetNumber)
		{
			ItemPointerSet(tid, bucket->block[i], bucket->offset[i]);
			return true;
		}
	}
	return false;
}

/* The slot of the hash, else a free one, else the one whose turn it is. */
static int
slot_for(SxHints *hints, Bucket *bucket, uint32 hash)
{
	int			slot = -1;

	for (int i = 0; i < SLOTS; i++)
	{
		if (bucket->offset[i] == InvalidOffsetNumber)
			slot = i;
		else if (bucket->hash[i] == hash)
			return i;
	}
	if (slot >= 0)
		hints->used++;
	else
		slot = bucket->next++ % SLOTS;
	return slot;
}

static void
put(SxHints *hints, uint32 hash, BlockNumber block, OffsetNumber offset)
{
	Bucket	   *bucket = bucket_of(hints, hash);
	int			i = slot_for(hints, bucket, hash);

	bucket->hash[i] = hash;
	bucket->block[i] = block;
	bucket->offset[i] = offset;
}

static void
grow(SxHints *hints)
{
	void	   *memory = hints->memory;
	Bucket	   *old = hints->buckets;
	uint32		n = hints->nbuckets;

	make_buckets(hints, n * 2);
	for (uint32 b = 0; b < n; b++)
	{
		for (int i = 0; i < SLOTS; i++)
		{
			if (old[b].offset[i] != InvalidOffsetNumber)
				put(hints, old[b].hash[i], old[b].block[i], old[b].offset[i]);
		}
	}
	pfree(memory);
}

void
sx_hints_put(SxHints *hints, uint32 hash, const ItemPointerData *tid)
{
	put(hints, hash, ItemPointerGetBlockNumber(tid), ItemPointerGetOffsetNumber(tid));
	if (hints->used > (uint64) hints->nbuckets * SLOTS / 2 &&
		(Size) hints->nbuckets * 2 * sizeof(Bucket) <= limit())
		grow(hints);
}

/* ---------- blocks ---------- */

Buffer
sx_hints_buffer(const SxHints *hints, BlockNumber block)
{
	return block < hints->nblocks ? hints->blocks[block].buffer : InvalidBuffer;
}

void
sx_hints_use_file(SxHints *hints, Oid file)
{
	if (hints->file != file && hints->nblocks > 0)
		memset(hints->blocks, 0, hints->nblocks * sizeof(Block));
	hints->file = file;
}

/* NULL: there is no room for so many. */
static Block *
block_entry(SxHints *hints, BlockNumber block)
{
	Size		n;

	if (block < hints->nblocks)
		return &hints->blocks[block];
	n = Max((Size) block + block / 4 + 1, 256);
	if (n * sizeof(Block) > limit() / 4)
		return NULL;
	if (hints->blocks == NULL)
		hints->blocks = MemoryContextAllocHuge(hints->context, n * sizeof(Block));
	else
		hints->blocks = repalloc_huge(hints->blocks, n * sizeof(Block));
	memset(hints->blocks + hints->nblocks, 0, (n - hints->nblocks) * sizeof(Block));
	hints->nblocks = n;
	return &hints->blocks[block];
}

void
sx_hints_put_buffer(SxHints *hints, BlockNumber block, Buffer buffer)
{
	Block	   *entry = block_entry(hints, block);

	if (entry != NULL)
		entry->buffer = buffer;
}

bool
sx_hints_gathered(SxHints *hints, BlockNumber block)
{
	Block	   *entry = block_entry(hints, block);
	bool		gathered = entry == NULL || entry->gathered;

	if (entry != NULL)
		entry->gathered = true;
	return gathered;
}

SxFront *
sx_hints_front(SxHints *hints)
{
	return &hints->front;
}
