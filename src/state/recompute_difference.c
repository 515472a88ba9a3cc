/*-------------------------------------------------------------------------
 *
 * recompute_difference.c
 *		Rows of touched keys, computed again: only what differs is written.
 *
 * A new row seldom changes all rows of its key: a bid in the middle of a ranking leaves
 * those above it where they are, and most bids leave a filtered ranking as it was.  So
 * the stored rows of the keys and the ones computed again are compared, as bags of
 * rows and by the image of their values; what is in one of them alone is deleted, or
 * inserted.  Views that stand on this one then start from these rows and no others.
 *
 * Both are held in memory.  When they are too many, or when it did not save enough
 * lately, the caller deletes and inserts all of them instead, to the same effect.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "state/recompute.h"
#include "worker/batch_internal.h"

#define MAX_ROWS		8192	/* that are compared, of each kind */
#define FIRST_ROOM		64
#define MISSES			4		/* comparisons in turn that saved little, and … */
#define PAUSE_BATCHES	32		/* … then so many batches without one */

typedef struct Row
{
	HeapTuple	tuple;
	Datum	   *values;
	bool	   *nulls;
	uint32		hash;
	bool		paired;			/* with one of the other kind */
	int			next;			/* stored row of the same bucket, -1: none */
} Row;

/* Receives rows that begin with the columns of the state table. */
typedef struct Rows
{
	DestReceiver dest;			/* must be first */
	MemoryContext context;
	TupleDesc	desc;			/* of the state table */
	bool		named;			/* the columns have the names of the table's */
	Row		   *rows;
	int			n;
	int			room;
	Size		bytes;
	bool		fits;			/* in memory, and has the columns of the table */
} Rows;

/* ---------- rows in memory ---------- */

static uint32
hash_row(const Row *row, TupleDesc desc)
{
	uint32		hash = 0;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		hash = hash_combine(hash, row->nulls[i] ? 0 :
							datum_image_hash(row->values[i], att->attbyval, att->attlen));
	}
	return hash;
}

static bool
rows_are_equal(const Row *a, const Row *b, TupleDesc desc)
{
	if (a->hash != b->hash)
		return false;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (a->nulls[i] != b->nulls[i] ||
			(!a->nulls[i] && !datum_image_eq(a->values[i], b->values[i], att->attbyval, att->attlen)))
			return false;
	}
	return true;
}

/* Would INSERT store the values as they are, in columns of this order? */
static bool
begins_with(TupleDesc given, TupleDesc table, bool named)
{
	if (given->natts < table->natts)
		return false;
	for (int i = 0; i < table->natts; i++)
	{
		Form_pg_attribute a = TupleDescAttr(given, i);
		Form_pg_attribute b = TupleDescAttr(table, i);

		if (b->attisdropped || a->atttypid != b->atttypid || a->atttypmod != b->atttypmod ||
			(named && strcmp(NameStr(a->attname), NameStr(b->attname)) != 0))
			return false;
	}
	return true;
}

static void
startup(DestReceiver *self, int operation, TupleDesc desc)
{
	Rows	   *rows = (Rows *) self;

	rows->fits = begins_with(desc, rows->desc, rows->named);
}

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
	Rows	   *rows = (Rows *) self;
	TupleDesc	desc = slot->tts_tupleDescriptor;
	MemoryContext old;
	Row		   *row;

	rows->fits = rows->fits && rows->n < MAX_ROWS && rows->bytes < (Size) work_mem * 1024;
	if (!rows->fits)
		return false;
	old = MemoryContextSwitchTo(rows->context);
	if (rows->n == rows->room)
	{
		rows->room *= 2;
		rows->rows = repalloc(rows->rows, sizeof(Row) * rows->room);
	}
	row = &rows->rows[rows->n++];
	row->tuple = ExecCopySlotHeapTuple(slot);
	row->values = palloc(sizeof(Datum) * desc->natts);
	row->nulls = palloc(sizeof(bool) * desc->natts);
	heap_deform_tuple(row->tuple, desc, row->values, row->nulls);
	row->hash = hash_row(row, rows->desc);
	row->paired = false;
	rows->bytes += row->tuple->t_len;
	MemoryContextSwitchTo(old);
	return true;
}

static Rows *
rows_create(TupleDesc desc, bool named)
{
	Rows	   *rows = palloc0(sizeof(Rows));

	rows->context = CurrentMemoryContext;
	rows->desc = desc;
	rows->named = named;
	rows->room = FIRST_ROOM;
	rows->rows = palloc(sizeof(Row) * rows->room);
	sx_receiver_init(&rows->dest, receive, startup, NULL);
	return rows;
}

/* Pairs equal rows, each with one other; returns how many pairs there are. */
static int
pair_rows(Rows *stored, Rows *fresh)
{
	uint32		mask = pg_nextpower2_32(stored->n + 1) - 1;
	int		   *buckets = palloc(sizeof(int) * (mask + 1));
	int			pairs = 0;

	memset(buckets, -1, sizeof(int) * (mask + 1));
	for (int i = 0; i < stored->n; i++)
	{
		stored->rows[i].next = buckets[stored->rows[i].hash & mask];
		buckets[stored->rows[i].hash & mask] = i;
	}
	for (int i = 0; i < fresh->n; i++)
	{
		int			at = buckets[fresh->rows[i].hash & mask];

		while (at >= 0 && (stored->rows[at].paired ||
						   !rows_are_equal(&stored->rows[at], &fresh->rows[i], stored->desc)))
			at = stored->rows[at].next;
		if (at < 0)
			continue;
		stored->rows[at].paired = fresh->rows[i].paired = true;
		pairs++;
	}
	return pairs;
}

/* ---------- the table ---------- */

/* Places of the stored rows that have no pair, which stand behind their columns. */
static void
delete_unpaired(SxPipeline *pl, SxStep *step, const Rows *stored, int n)
{
	Datum	   *places = palloc(sizeof(Datum) * n);
	Oid			types[] = {TIDARRAYOID};
	Datum		array;
	int			next = 0;

	for (int i = 0; i < stored->n; i++)
	{
		if (!stored->rows[i].paired)
			places[next++] = stored->rows[i].values[stored->desc->natts];
	}
	Assert(next == n);
	array = PointerGetDatum(construct_array(places, n, TIDOID, sizeof(ItemPointerData), false,
											TYPALIGN_SHORT));
	(void) sx_step_execute(pl, step, &step->own[SX_OWN_DELETE_THESE],
						   step->plan->recompute->delete_these_sql, 1, types, &array);
}

static void
insert_unpaired(SxPipeline *pl, SxStep *step, const Rows *fresh, int n)
{
	Datum	   *rows = palloc(sizeof(Datum) * n);
	Oid			row_type = fresh->desc->tdtypeid;
	Oid			types[] = {get_array_type(row_type)};
	Datum		array;
	int			next = 0;

	for (int i = 0; i < fresh->n; i++)
	{
		const Row  *row = &fresh->rows[i];

		if (!row->paired)
			rows[next++] = HeapTupleGetDatum(heap_form_tuple(fresh->desc, row->values, row->nulls));
	}
	Assert(next == n);
	array = PointerGetDatum(construct_array(rows, n, row_type, -1, false, TYPALIGN_DOUBLE));
	(void) sx_step_execute(pl, step, &step->own[SX_OWN_INSERT_THESE],
						   step->plan->recompute->insert_these_sql, 1, types, &array);
}

static void
note_success(SxRecomputeStep *kept, bool success)
{
	kept->misses = success ? 0 : kept->misses + 1;
	if (kept->misses >= MISSES)
	{
		kept->pause = PAUSE_BATCHES;
		kept->misses = MISSES - 1;
	}
}

/* In the current context; false: nothing is written. */
static bool
write_difference(SxPipeline *pl, SxStep *step, TupleDesc desc, int nargs, Oid *types, Datum *keys)
{
	const SxRecompute *plan = step->plan->recompute;
	Rows	   *stored = rows_create(desc, true);
	Rows	   *fresh;
	int			pairs;

	(void) sx_step_select_with(pl, step, &step->own[SX_OWN_STORED], plan->stored_sql, nargs, types,
							   keys, &stored->dest);
	if (!stored->fits || stored->n == 0)
		return false;
	fresh = rows_create(desc, false);
	(void) sx_step_select_with(pl, step, &step->own[SX_OWN_FRESH], plan->rows_sql, nargs, types,
							   keys, &fresh->dest);
	if (!fresh->fits)
		return false;

	pairs = pair_rows(stored, fresh);
	if (pairs < stored->n)
		delete_unpaired(pl, step, stored, stored->n - pairs);
	if (pairs < fresh->n)
		insert_unpaired(pl, step, fresh, fresh->n - pairs);
	step->rows = fresh->n - pairs;
	note_success(step->private, pairs * 2 >= stored->n);
	return true;
}

bool
sx_recompute_difference(SxPipeline *pl, SxStep *step, int nargs, Oid *types, Datum *keys)
{
	SxRecomputeStep *kept = step->private;
	MemoryContext context;
	MemoryContext old;
	Relation	rel;
	bool		written;

	if (kept->pause > 0)
	{
		kept->pause--;
		return false;
	}
	rel = relation_open(step->plan->state, AccessShareLock);
	context = AllocSetContextCreate(CurrentMemoryContext, "streamext recompute",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	written = write_difference(pl, step, RelationGetDescr(rel), nargs, types, keys);
	if (!written)
		note_success(kept, false);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	relation_close(rel, NoLock);
	return written;
}
