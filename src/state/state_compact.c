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
 * the batch as any other write.  A row that somebody has locked stays.  Tables are left alone
 * whose updates are published, as those who subscribe would see a DELETE, and those that a
 * foreign key refers to: who is about to lock the row then would find that it is gone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/pg_publication.h"
#include "compat.h"
#include "commands/trigger.h"
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
#define LEAD_LOOKS		256		/* pages behind it, in a batch */
#define END_PART		16		/* VACUUM gives back an end of such a part of the pages, … */
#define END_ENOUGH		1000	/* … or of so many */
#define WAY_WINDOW_US	50000	/* of a second: workers of one pipeline give way together */
#define LEAST_MOVES		8		/* rows in a batch ... */
#define MOST_MOVES		1024

typedef struct Compaction
{
	SxStateTable *table;
	SxFront    *front;
	BlockNumber nfront;			/* blocks */
	Size		width;			/* of a row */
	Size		room;			/* left in front->to */
	int			moves;			/* that may still be made */
	TupleTableSlot *slot;
} Compaction;

/* ---------- when ---------- */

static bool
is_published(Relation rel)
{
	PublicationDesc desc;

	if (!RelationIsLogicallyLogged(rel))
		return false;
	RelationBuildPublicationDesc(rel, &desc);
	return desc.pubactions.pubupdate;
}

static bool
is_referenced(Relation rel)
{
	TriggerDesc *triggers = rel->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		if (RI_FKey_trigger_type(triggers->triggers[i].tgfoid) == RI_TRIGGER_PK)
			return true;
	}
	return false;
}

/* Of a row with its line pointer, in bytes, as far as known; else 0. */
static Size
width_of(const SxStateTable *table)
{
	Size		width = table->hints == NULL ? 0 : sx_hints_front(table->hints)->width;

	return width == 0 ? 0 : MAXALIGN(width) + sizeof(ItemIdData);
}

/* Pages; 0: not known. */
static double
needed_pages(const SxStateTable *table)
{
	double		rows = table->rel->rd_rel->reltuples;

	return rows <= 0 ? 0 : rows * width_of(table) /
		RelationGetTargetPageUsage(table->rel, HEAP_DEFAULT_FILLFACTOR);
}

static bool
is_sparse(const SxStateTable *table, double needed)
{
	return needed > 0 && table->nblocks > needed * 1.25 + SPARE_PAGES &&
		!is_published(table->rel) && !is_referenced(table->rel);
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

/* The next page of the front that has room, from where one was found last. */
static bool
find_room(Compaction *c)
{
	SxFront    *front = c->front;

	for (int i = 0; c->room < c->width && i < VAIN_LOOKS; i++)
	{
		front->to = front->to + 1 < c->nfront ? front->to + 1 : 0;
		c->room = room_in(c->table, front->to);
	}
	return c->room >= c->width;
}

void
sx_state_lead_on(SxStateTable *table, const ItemPointerData *tid)
{
	Buffer		buffer = sx_state_pin_page(table, ItemPointerGetBlockNumber(tid));
	Size		room = PageGetHeapFreeSpace(BufferGetPage(buffer));
	Size		width = width_of(table);

	ReleaseBuffer(buffer);
	if (room >= width)
		return;
	while (table->lead_room < width && table->lead_looks++ < LEAD_LOOKS &&
		   table->lead + 1 < table->nblocks)
		table->lead_room = room_in(table, ++table->lead);
	if (table->lead_room < width)
	{
		table->leads = false;
		return;
	}
	RelationSetTargetBlock(table->rel, table->lead);
	table->lead_room -= width;
}

/* ---------- moving ---------- */

/* false: somebody else is at the row. */
static bool
move_row(Compaction *c, HeapTuple tuple)
{
	SxStateTable *table = c->table;
	TM_FailureData failure;

	if (table_tuple_delete(table->rel, &tuple->t_self, GetCurrentCommandId(true),
						   table->estate->es_snapshot, InvalidSnapshot, false, &failure, false) != TM_Ok)
		return false;
	ExecForceStoreHeapTuple(tuple, c->slot, false);
	RelationSetTargetBlock(table->rel, c->front->to);
	table_tuple_insert(table->rel, c->slot, GetCurrentCommandId(true), 0, NULL);
	(void) sx_insert_index_tuples(table->rinfo, c->slot, table->estate);
	slot_getsomeattrs(c->slot, table->nkeys);
	table->written = c->slot->tts_tid;
	sx_state_remember(table, sx_keys_hash(table->keys, c->slot->tts_values, c->slot->tts_isnull));
	c->room = ItemPointerGetBlockNumber(&c->slot->tts_tid) == c->front->to ?
		c->room - Min(c->room, c->width) : 0;
	ResetPerTupleExprContext(table->estate);
	return true;
}

/* Copies of the rows of a page that the snapshot sees. */
static int
rows_of(SxStateTable *table, BlockNumber block, HeapTuple *rows)
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
		if (HeapTupleSatisfiesVisibility(&tuple, table->estate->es_snapshot, buffer))
			rows[n++] = heap_copytuple(&tuple);
	}
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (n == 0)
		sx_state_note_room(table, buffer);
	ReleaseBuffer(buffer);
	return n;
}

static bool
has_rows(SxStateTable *table, BlockNumber block)
{
	HeapTuple	rows[MaxHeapTuplesPerPage];
	int			n = rows_of(table, block, rows);

	for (int i = 0; i < n; i++)
		heap_freetuple(rows[i]);
	return n > 0;
}

/* false: no more of them can be moved now. */
static bool
empty_page(Compaction *c, BlockNumber block)
{
	HeapTuple	rows[MaxHeapTuplesPerPage];
	int			n = rows_of(c->table, block, rows);
	bool		more = true;

	for (int i = 0; i < n; i++)
	{
		more = more && c->moves > 0 && find_room(c);
		if (more && move_row(c, rows[i]))
			c->moves--;
		heap_freetuple(rows[i]);
	}
	return more;
}

/* From the end, in this batch and those that follow; then from the end again. */
static void
empty_pages(Compaction *c)
{
	BlockNumber end = c->table->nblocks;
	BlockNumber *from = &c->front->from;

	for (int i = 0; i < LOOKS; i++)
	{
		if (*from <= c->nfront || *from > end)
			*from = end;
		if (!empty_page(c, *from - 1))
			return;
		(*from)--;
	}
}

static void
compact(SxStateTable *table, BlockNumber nfront)
{
	SxFront    *front = sx_hints_front(table->hints);
	int			moves = Min(Max(front->found / 8, LEAST_MOVES), MOST_MOVES);
	Compaction	c = {
		.table = table,
		.front = front,
		.nfront = nfront,
		.width = width_of(table),
		.moves = moves,
		.slot = MakeSingleTupleTableSlot(table->desc, &TTSOpsHeapTuple)
	};

	empty_pages(&c);
	ExecDropSingleTupleTableSlot(c.slot);
	if (c.moves < moves)
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

bool
sx_state_compact(SxStateTable *table)
{
	double		needed = needed_pages(table);
	BlockNumber nfront = (BlockNumber) (needed * 1.125) + 1;

	if (table->hints == NULL)
		return false;
	if (is_sparse(table, needed))
	{
		compact(table, nfront);
		table->leads = true;
		table->lead = nfront - 1;
	}
	return GetCurrentTimestamp() % USECS_PER_SEC < WAY_WINDOW_US &&
		has_empty_end(table) && is_vacuumed(table->rel);
}
