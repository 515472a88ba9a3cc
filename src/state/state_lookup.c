/*-------------------------------------------------------------------------
 *
 * state_lookup.c
 *		Rows of a state table by what is remembered of their place.
 *
 * A look-up by the index of a big table is some twenty accesses to memory that is in no
 * cache, each waiting for the one before.  Here are two ways around that:
 *
 *	- find: the place is known (state_hints.c), and so is, mostly, the shared buffer that
 *	  its page is in.  The row there is taken if the snapshot sees it and its key is
 *	  the one looked for; else the index has to say.
 *
 *	- ahead: what a find will touch, and the write after it, is asked for while other records
 *	  are worked on: the bucket, then the page, then the row.  Only addresses are made of
 *	  what is read there without a lock; whatever they are, a prefetch of them is harmless.
 *
 * A look-up that the index had to answer gathers the places of all rows of that page, so that a
 * new worker knows the whole table after about as many look-ups as it has pages.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "compat.h"
#include "storage/buf_internals.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"

#include "state/state_compact.h"
#include "state/state_hints.h"
#include "state/state_table.h"

#define LINE			64
#define LINES_OF_POINTERS	5		/* with the page's header */
#define AHEAD_BLOCKS	256		/* smaller tables are in the cache anyway */
#define GATHER_PAGES	64		/* in one batch */

/* ---------- pages ---------- */

/*
 * Pins the page, without the mapping of buffers if it is where it was.  That does not
 * count as a use for the replacement of buffers, so when few are counted it goes
 * the usual way.
 */
Buffer
sx_state_pin_page(SxStateTable *table, BlockNumber block)
{
	Buffer		buffer = table->hints == NULL ? InvalidBuffer : sx_hints_buffer(table->hints, block);

	if (BufferIsValid(buffer))
	{
		uint32		state = pg_atomic_read_u32(&GetBufferDescriptor(buffer - 1)->state);

		if (BUF_STATE_GET_USAGECOUNT(state) > 1 &&
			ReadRecentBuffer(sx_relation_file(table->rel), MAIN_FORKNUM, block, buffer))
			return buffer;
	}
	buffer = ReadBuffer(table->rel, block);
	if (table->hints != NULL)
		sx_hints_put_buffer(table->hints, block, buffer);
	return buffer;
}

/*
 * Pages are pruned as soon as free space is below what fillfactor leaves free, and
 * as fillfactor is low to leave room for updates in the page, that would be for each
 * row looked up.  Here it waits until the page is full, and then removes the versions of
 * many updates at once.
 */
Buffer
sx_state_read_page(SxStateTable *table, BlockNumber block)
{
	Buffer		buffer = sx_state_pin_page(table, block);

	if (PageGetHeapFreeSpace(BufferGetPage(buffer)) < BLCKSZ / 10)
	{
		heap_page_prune_opt(table->rel, buffer);
		sx_state_note_room(table, buffer);
	}
	return buffer;
}

/* The row version at a place of a page that is locked, or no line pointer at all. */
static bool
version_at(Page page, OffsetNumber offset, HeapTuple tuple)
{
	ItemId		lp;

	if (offset < FirstOffsetNumber || offset > PageGetMaxOffsetNumber(page))
		return false;
	lp = PageGetItemId(page, offset);
	if (!ItemIdIsNormal(lp))
		return false;
	tuple->t_data = (HeapTupleHeader) PageGetItem(page, lp);
	tuple->t_len = ItemIdGetLength(lp);
	return true;
}

/* ---------- find ---------- */

static bool
fetch_visible(SxStateTable *table, ItemPointer tid)
{
	HeapTuple	tuple = &((BufferHeapTupleTableSlot *) table->found)->base.tupdata;
	Buffer		buffer = sx_state_read_page(table, ItemPointerGetBlockNumber(tid));
	bool		visible;

	tuple->t_self = *tid;
	tuple->t_tableOid = RelationGetRelid(table->rel);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	visible = version_at(BufferGetPage(buffer), ItemPointerGetOffsetNumber(tid), tuple) &&
		HeapTupleSatisfiesVisibility(tuple, table->estate->es_snapshot, buffer);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (!visible)
	{
		ReleaseBuffer(buffer);
		return false;
	}
	ExecStorePinnedBufferHeapTuple(tuple, table->found, buffer);
	table->found_bytes += tuple->t_len;
	table->nfound++;
	return true;
}

bool
sx_state_find_at(SxStateTable *table, const SxKey *key, ItemPointer tid)
{
	ExecClearTuple(table->found);
	if (ItemPointerGetBlockNumber(tid) >= table->nblocks || !fetch_visible(table, tid))
		return false;
	slot_getsomeattrs(table->found, table->nkeys);
	if (sx_keys_equal(table->keys, key, table->found->tts_values, table->found->tts_isnull))
		return true;
	ExecClearTuple(table->found);
	return false;
}

bool
sx_state_find_by_hint(SxStateTable *table, const SxKey *key)
{
	ItemPointerData tid;

	return table->hints != NULL && sx_hints_get(table->hints, key->hash, &tid) &&
		sx_state_find_at(table, key, &tid);
}

void
sx_state_remember(SxStateTable *table, uint32 hash)
{
	if (table->hints != NULL && ItemPointerIsValid(&table->written))
		sx_hints_put(table->hints, hash, &table->written);
}

/* ---------- gather ---------- */

/*
 * Versions that look current.  Of others it would not be known whether what they
 * have in TOAST is still there.
 */
static int
current_versions(Page page, HeapTupleData *tuples)
{
	int			n = 0;

	for (OffsetNumber i = FirstOffsetNumber; i <= PageGetMaxOffsetNumber(page); i++)
	{
		HeapTuple	tuple = &tuples[n];

		if (!version_at(page, i, tuple))
			continue;
		ItemPointerSetOffsetNumber(&tuple->t_self, i);
		if ((tuple->t_data->t_infomask & HEAP_XMAX_INVALID) && !HeapTupleHasExternal(tuple))
			n++;
	}
	return n;
}

/* The page of table->found, which is pinned.  No hash function is called under its lock. */
static void
gather_page(SxStateTable *table, BlockNumber block)
{
	Buffer		buffer = ((BufferHeapTupleTableSlot *) table->found)->buffer;
	HeapTupleData *tuples = palloc(sizeof(HeapTupleData) * MaxHeapTuplesPerPage);
	Datum	   *values = palloc(sizeof(Datum) * table->desc->natts);
	bool	   *nulls = palloc(sizeof(bool) * table->desc->natts);
	int			n;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	n = current_versions(BufferGetPage(buffer), tuples);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	for (int i = 0; i < n; i++)
	{
		heap_deform_tuple(&tuples[i], table->desc, values, nulls);
		ItemPointerSetBlockNumber(&tuples[i].t_self, block);
		sx_hints_put(table->hints, sx_keys_hash(table->keys, values, nulls), &tuples[i].t_self);
	}
	pfree(tuples);
	pfree(values);
	pfree(nulls);
}

void
sx_state_learn(SxStateTable *table, const SxKey *key)
{
	BlockNumber block = ItemPointerGetBlockNumber(&table->found->tts_tid);

	if (table->hints == NULL)
		return;
	if (table->gathered < GATHER_PAGES && !sx_hints_gathered(table->hints, block))
	{
		gather_page(table, block);
		table->gathered++;
	}
	sx_hints_put(table->hints, key->hash, &table->found->tts_tid);
}

/* ---------- ahead ---------- */

bool
sx_state_looks_ahead(const SxStateTable *table)
{
	return table->hints != NULL && table->nblocks >= AHEAD_BLOCKS;
}

/* Where the page is mapped now, if the hint is right; else some other page. */
static Page
page_of(const SxStateTable *table, const ItemPointerData *tid)
{
	Buffer		buffer = sx_hints_buffer(table->hints, ItemPointerGetBlockNumber(tid));

	return BufferIsValid(buffer) ? BufferGetPage(buffer) : NULL;
}

static void
ahead_page(const SxStateTable *table, const ItemPointerData *tid)
{
	Buffer		buffer = sx_hints_buffer(table->hints, ItemPointerGetBlockNumber(tid));
	Page		page;

	if (!BufferIsValid(buffer))
		return;
	page = BufferGetPage(buffer);
	__builtin_prefetch(GetBufferDescriptor(buffer - 1), 1);
	__builtin_prefetch(page, 1);
	__builtin_prefetch(PageGetItemId(page, ItemPointerGetOffsetNumber(tid)));
}

static void
ahead_row(const SxStateTable *table, const ItemPointerData *tid)
{
	Page		page = page_of(table, tid);
	ItemId		lp;

	if (page == NULL)
		return;
	lp = PageGetItemId(page, ItemPointerGetOffsetNumber(tid));
	__builtin_prefetch((char *) page + ItemIdGetOffset(lp), 1);
	__builtin_prefetch((char *) page + ItemIdGetOffset(lp) + LINE, 1);
}

void
sx_state_ahead(SxStateTable *table, const uint32 *hashes, int n)
{
	ItemPointerData *tids = table->ahead;
	int			known = 0;

	Assert(n <= SX_STATE_AHEAD);
	for (int i = 0; i < n; i++)
		sx_hints_prefetch(table->hints, hashes[i]);
	for (int i = 0; i < n; i++)
	{
		if (!sx_hints_get(table->hints, hashes[i], &tids[known]))
			continue;
		ahead_page(table, &tids[known++]);
	}
	for (int i = 0; i < known; i++)
		ahead_row(table, &tids[i]);
}

/* Much of what the look-up has brought near is far again by the time of the write. */
void
sx_state_ahead_write(const SxStateTable *table, uint32 hash, const ItemPointerData *tid)
{
	sx_hints_prefetch(table->hints, hash);
	ahead_page(table, tid);
}

/* The new version goes below those that are there, its line pointer among or behind theirs. */
void
sx_state_ahead_version(const SxStateTable *table, const ItemPointerData *tid)
{
	Page		page = page_of(table, tid);

	if (page == NULL)
		return;
	ahead_row(table, tid);
	for (int i = 1; i < LINES_OF_POINTERS; i++)
		__builtin_prefetch((char *) page + i * LINE, 1);
	__builtin_prefetch((char *) page + (((PageHeader) page)->pd_upper & (BLCKSZ - 1)) - LINE, 1);
}
