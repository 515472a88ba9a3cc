/*-------------------------------------------------------------------------
 *
 * state_compact.c
 *		Rows that go to the front of a state table that has become sparse.
 *
 * A batch that rewrites a row leaves the old version behind, which can be removed when no
 * snapshot sees it.  So a table that every batch rewrites grows to as many times what lives in
 * it as there were batches within the longest snapshot, and stays so: rows are updated within
 * their page, and the pages at its end never get empty.  Against that:
 *
 *	- room: what pruning has freed is put into the free space map at once, and not when
 *	  VACUUM comes by, so that rows which must leave their page need no new one.
 *
 *	- compact: when the table has more pages than its rows need, a batch begins by moving
 *	  some rows from its last pages to where there is room at the front.  The end gets
 *	  empty, and the next VACUUM gives it back.
 *
 *	- lead: in such a table, rows that must leave their page go to the first behind the front
 *	  that has room, and not to any, so that the end stays empty.
 *
 *	  0            front                            tail          end
 *	  | rows  room | rows, left alone until ...      | moved rows  |
 *			  ^------------------------------------------'
 *
 * How many pages are needed is what VACUUM counted as rows, times their width in the last
 * batch, in pages filled as fillfactor says.  If that is wrong, room is looked for in vain;
 * nothing else comes of it.
 *
 * A row is moved by deleting it and inserting it again.  No trigger fires, and it is part of
 * the batch as any other write.  A row that somebody has locked stays; of a table that several
 * workers write, each moves its own rows.  Tables that are published are left alone, as those
 * who subscribe would see a DELETE.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/pg_publication.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/executor.h"
#include "storage/bufmgr.h"
#include "storage/freespace.h"
#include "storage/lock.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "state/state_compact.h"

#define SPARE_PAGES		8		/* more than needed, in any table */
#define LOOKS			32		/* pages at the end, in a batch */
#define VAIN_LOOKS		16		/* pages at the front in a row without room */
#define VAIN_ROWS		4		/* that none was found for, in a batch */
#define LEAD_LOOKS		64		/* pages behind it, in a batch */
#define END_PART		16		/* VACUUM gives back an end of such a part of the pages, … */
#define END_ENOUGH		1000	/* … or of so many */
#define LEAST_MOVES		8		/* rows in a batch, … */
#define MOST_MOVES		4096
#define TOAST_MOVES		32		/* … of which one with values in TOAST is so many */
#define LONGEST_PAUSE	8		/* 2^8 batches */

typedef struct Compaction
{
	SxStateTable *table;
	SxFront    *front;
	const SxPipeline *pl;
	BlockNumber nfront;			/* blocks */
	Size		room;			/* left in front->to */
	int			moves;			/* that may still be made */
	int			vain;			/* rows that found no room */
	bool		moved;			/* any */
	TupleTableSlot *row;
} Compaction;

/* ---------- when ---------- */

/* Those who subscribe to a part of the changes would not see both halves of a move. */
static bool
is_published(Relation rel)
{
	PublicationDesc desc;

	if (!RelationIsLogicallyLogged(rel))
		return false;
	RelationBuildPublicationDesc(rel, &desc);
	return desc.pubactions.pubinsert || desc.pubactions.pubupdate || desc.pubactions.pubdelete;
}

/* Of a row with its line pointer, in bytes, as far as known; else 0. */
static Size
width_of(const SxStateTable *table)
{
	Size		width = table->hints == NULL ? 0 : sx_hints_front(table->hints)->width;

	return width == 0 ? 0 : MAXALIGN(width) + sizeof(ItemIdData);
}

/* Pages; 0: not known.  What VACUUM makes of the pages that it has looked at may be too few rows. */
static double
needed_pages(const SxStateTable *table)
{
	double		rows = table->rel->rd_rel->reltuples;

	if (rows <= 0 || table->hints == NULL)
		return 0;
	rows = Max(rows, (double) sx_hints_front(table->hints)->found);
	return rows * width_of(table) / RelationGetTargetPageUsage(table->rel, HEAP_DEFAULT_FILLFACTOR);
}

static bool
is_sparse(const SxStateTable *table, double needed)
{
	return needed > 0 && table->nblocks > needed * 1.25 + SPARE_PAGES &&
		!is_published(table->rel);
}

/* There may be rows to be moved that were not there when it was last tried. */
static void
resume(SxFront *front)
{
	front->pause = front->vain = 0;
}

/* ---------- room ---------- */

/* Pages that are as full as they should be are not worth noting. */
void
sx_state_note_room(SxStateTable *table, Buffer buffer)
{
	Size		room = PageGetHeapFreeSpace(BufferGetPage(buffer));
	Size		kept = RelationGetTargetPageFreeSpace(table->rel, HEAP_DEFAULT_FILLFACTOR);

	if (room > kept + BLCKSZ / 8)
		RecordPageWithFreeSpace(table->rel, BufferGetBlockNumber(buffer), room);
}

/* For new rows, which leave free what fillfactor says.  An unlocked look: inserting makes sure. */
static Size
room_in(SxStateTable *table, BlockNumber block)
{
	Buffer		buffer = sx_state_pin_page(table, block);
	Size		kept = RelationGetTargetPageFreeSpace(table->rel, HEAP_DEFAULT_FILLFACTOR);
	Size		room;

	heap_page_prune_opt(table->rel, buffer);
	room = PageGetHeapFreeSpace(BufferGetPage(buffer));
	ReleaseBuffer(buffer);
	return room > kept ? room - kept : 0;
}

/* The next page of the front that has room for so much, from where one was found last. */
static bool
find_room(Compaction *c, Size width)
{
	SxFront    *front = c->front;

	for (int i = 0; c->room < width && i < VAIN_LOOKS; i++)
	{
		front->to = front->to + 1 < c->nfront ? front->to + 1 : 0;
		c->room = room_in(c->table, front->to);
	}
	return c->room >= width;
}

static bool
must_leave(SxStateTable *table, const ItemPointerData *tid, Size width)
{
	Buffer		buffer = sx_state_pin_page(table, ItemPointerGetBlockNumber(tid));
	Size		room = PageGetHeapFreeSpace(BufferGetPage(buffer));

	ReleaseBuffer(buffer);
	return room < width;
}

void
sx_state_lead_on(SxStateTable *table, const ItemPointerData *tid)
{
	Size		width = width_of(table);

	if (tid != NULL && !must_leave(table, tid, width))
		return;
	while (table->lead_room < width && table->lead_looks++ < LEAD_LOOKS &&
		   table->lead + 1 < table->nblocks)
		table->lead_room = room_in(table, ++table->lead);
	table->leads = table->lead_room >= width;
	if (!table->leads)
		return;
	RelationSetTargetBlock(table->rel, table->lead);
	table->lead_room -= width;
	resume(sx_hints_front(table->hints));
}

/* ---------- moving ---------- */

/*
 * false: somebody else is at the row.  Who waits for it to update it gets an error as of a
 * row that has moved to another partition, and does not take it for one that is gone.
 */
static bool
move_row(Compaction *c, HeapTuple tuple, Size width)
{
	SxStateTable *table = c->table;
	TM_FailureData failure;

	if (table_tuple_delete(table->rel, &tuple->t_self, GetCurrentCommandId(true),
						   table->estate->es_snapshot, InvalidSnapshot, false, &failure, true) != TM_Ok)
		return false;
	ExecForceStoreHeapTuple(tuple, c->row, false);
	RelationSetTargetBlock(table->rel, c->front->to);
	table_tuple_insert(table->rel, c->row, GetCurrentCommandId(true), 0, NULL);
	(void) sx_insert_index_tuples(table->rinfo, c->row, table->estate);
	slot_getsomeattrs(c->row, table->nkeys);
	table->written = c->row->tts_tid;
	sx_state_remember(table, sx_keys_hash(table->keys, c->row->tts_values, c->row->tts_isnull));
	c->room = ItemPointerGetBlockNumber(&c->row->tts_tid) == c->front->to ? c->room - width : 0;
	ResetPerTupleExprContext(table->estate);
	return true;
}

/*
 * The last key of a table that several workers write is whose row it is (plan/slots.c).  Those of
 * workers that there are no more are the first one's.
 */
static bool
is_ours(const SxStateTable *table, const SxPipeline *pl, HeapTuple row)
{
	bool		isnull;
	int			slot;

	if (pl->slots <= 1)
		return true;
	if (TupleDescAttr(table->desc, table->nkeys - 1)->atttypid != INT4OID)
		return false;
	slot = DatumGetInt32(heap_getattr(row, table->nkeys, table->desc, &isnull));
	return !isnull && (slot == pl->slot || (pl->slot == 0 && slot >= pl->slots));
}

/* How many rows of a page the snapshot sees; copies of ours.  rows NULL: none of them. */
static int
rows_of(SxStateTable *table, BlockNumber block, const SxPipeline *pl, HeapTuple *rows, int *nours)
{
	Buffer		buffer = sx_state_pin_page(table, block);
	Page		page = BufferGetPage(buffer);
	HeapTupleData tuple = {.t_tableOid = RelationGetRelid(table->rel)};
	int			n = 0;

	heap_page_prune_opt(table->rel, buffer);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	for (OffsetNumber i = FirstOffsetNumber; i <= PageGetMaxOffsetNumber(page); i++)
	{
		ItemId		lp = PageGetItemId(page, i);

		if (!ItemIdIsNormal(lp))
			continue;
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, lp);
		tuple.t_len = ItemIdGetLength(lp);
		ItemPointerSet(&tuple.t_self, block, i);
		if (!HeapTupleSatisfiesVisibility(&tuple, table->estate->es_snapshot, buffer))
			continue;
		n++;
		if (rows != NULL && is_ours(table, pl, &tuple))
			rows[(*nours)++] = heap_copytuple(&tuple);
	}
	UnlockReleaseBuffer(buffer);
	return n;
}

static bool
has_rows(SxStateTable *table, BlockNumber block)
{
	return rows_of(table, block, NULL, NULL, NULL) > 0;
}

static void
try_row(Compaction *c, HeapTuple row)
{
	Size		width = MAXALIGN(row->t_len) + sizeof(ItemIdData);

	if (!find_room(c, width))
		c->vain++;
	else if (move_row(c, row, width))
	{
		c->moves -= HeapTupleHasExternal(row) ? TOAST_MOVES : 1;
		c->moved = true;
	}
}

/* false: no more can be moved now. */
static bool
empty_page(Compaction *c, BlockNumber block)
{
	HeapTuple	rows[MaxHeapTuplesPerPage];
	int			n = 0;

	(void) rows_of(c->table, block, c->pl, rows, &n);
	for (int i = 0; i < n; i++)
	{
		if (c->moves > 0 && c->vain < VAIN_ROWS)
			try_row(c, rows[i]);
		heap_freetuple(rows[i]);
	}
	return c->moves > 0 && c->vain < VAIN_ROWS;
}

/* From the end, in this batch and those that follow.  true: it has come to an end. */
static bool
empty_pages(Compaction *c)
{
	BlockNumber *from = &c->front->from;

	if (*from <= c->nfront || *from > c->table->nblocks)
		*from = c->table->nblocks;
	for (int i = 0; i < LOOKS && *from > c->nfront && empty_page(c, *from - 1); i++)
		(*from)--;
	return *from <= c->nfront || c->vain >= VAIN_ROWS;
}

/* Where nothing could be moved on the way, the next one comes later and later. */
static void
plan_next(SxFront *front)
{
	front->vain = front->moved ? 0 : Min(front->vain + 1, LONGEST_PAUSE);
	front->pause = front->moved ? 0 : 1 << front->vain;
	front->moved = false;
}

static void
compact(SxStateTable *table, const SxPipeline *pl, BlockNumber nfront)
{
	SxFront    *front = sx_hints_front(table->hints);
	Compaction	c = {
		.table = table,
		.front = front,
		.pl = pl,
		.nfront = nfront,
		.moves = Min(Max(front->found / 4, LEAST_MOVES), MOST_MOVES)
	};
	bool		ended;

	if (front->pause > 0)
	{
		front->pause--;
		return;
	}
	c.row = MakeSingleTupleTableSlot(table->desc, &TTSOpsHeapTuple);
	ended = empty_pages(&c);
	ExecDropSingleTupleTableSlot(c.row);
	front->moved |= c.moved;
	if (ended)
		plan_next(front);
	if (c.moved)
		sx_state_see_writes(table);
}

/* As much of the table's end as VACUUM gives back, looked at in two places. */
static bool
has_empty_end(SxStateTable *table)
{
	BlockNumber nend = Min(table->nblocks / END_PART + 1, END_ENOUGH);

	return table->nblocks > SPARE_PAGES && !has_rows(table, table->nblocks - 1) &&
		!has_rows(table, table->nblocks - nend);
}

/* Or analyzed; those who build an index are not told apart, either. */
static bool
is_vacuumed(Relation rel)
{
	LOCKTAG		tag;
	int			n;

	SET_LOCKTAG_RELATION(tag, rel->rd_lockInfo.lockRelId.dbId, rel->rd_lockInfo.lockRelId.relId);
	pfree(GetLockConflicts(&tag, ShareUpdateExclusiveLock, &n));
	return n > 0;
}

/* Once a second, and the workers of a pipeline at the same time. */
static bool
is_time_to_ask(SxFront *front)
{
	TimestampTz second = GetCurrentTimestamp() / USECS_PER_SEC;
	bool		asked = front->second == second;

	front->second = second;
	return !asked;
}

bool
sx_state_compact(SxStateTable *table, const SxPipeline *pl)
{
	double		needed = needed_pages(table);

	if (table->hints == NULL || pl->probing)
		return false;
	if (is_sparse(table, needed))
	{
		BlockNumber nfront = (BlockNumber) (needed * 1.125) + 1;

		compact(table, pl, nfront);
		table->leads = true;
		table->lead = nfront - 1;
	}
	else
		resume(sx_hints_front(table->hints));
	return is_time_to_ask(sx_hints_front(table->hints)) && has_empty_end(table) &&
		is_vacuumed(table->rel);
}
