/*-------------------------------------------------------------------------
 *
 * merge.c
 *		The batch of a view with one row a key.
 *
 * Its statement (plan/sql.c) aggregates the batch by key and merges the result into
 * the state table by INSERT … ON CONFLICT DO UPDATE.  With many keys most of the time of
 * that is the way to each row: two descents of the index and the locks of a tuple and of
 * its page, a speculative insertion for a new one, and pages in the order of the keys, which
 * is not the order in which they lie.  So the batch runs the aggregation alone, and
 *
 *		keeps what comes out, a row a key, with the key's hash;
 *		looks up where the stored rows are, in what is remembered (state_hints.c);
 *		goes through those in the order of their places: each page once, the next ones
 *			fetched from memory ahead; the row there is checked, merged, replaced;
 *		looks up the others in the index, in its order; what is not there either is
 *			added, many rows at a time.
 *
 * The row merged is computed by the very expressions of the statement (merge_rows.c).
 *
 * The statement itself is taken where something else has to be done for each row: triggers
 * but for our own, a unique index of the owner's, keys without a hash function …
 * (sx_merge_open), and when the rows are collected elsewhere first (emit = interval).  Which
 * of them it is may change from batch to batch; the result is the same.
 *
 * What is remembered is never believed, so an abort needs no care (state_hints.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/sortsupport.h"
#include "utils/timestamp.h"

#include "state/changes.h"
#include "state/merge.h"
#include "worker/batch_internal.h"

#define MOST_MEMORY		(64 * 1024 * 1024)	/* of rows that wait */
#define FIRST_ROWS		256
#define ADD_ROWS		128			/* at a time */
#define AHEAD_HINT		12			/* keys */
#define AHEAD_PAGE		12
#define AHEAD_ROW		5
#define UNKNOWN			PG_UINT64_MAX

/* For as long as the pipeline is open: step->private. */
typedef struct MergeStep
{
	MemoryContext context;
	SxMergeRule *rule;			/* NULL: not looked at yet, or there is none */
	bool		no_rule;
	SxHints    *hints;
	bool		by_hand;		/* what step->apply is: rows_sql, else apply_sql */
} MergeStep;

/* A row of the batch. */
typedef struct Waiting
{
	uint64		place;			/* of the stored row; UNKNOWN */
	MinimalTuple row;
	uint32		hash;
} Waiting;

typedef struct MergeRun
{
	DestReceiver dest;			/* must be first */
	SxStep	   *step;
	const SxMergeRule *rule;
	MemoryContext context;		/* of all the rest */
	MemoryContext rows;			/* of those that wait */
	SxStateTable *table;
	TupleDesc	desc;			/* … its columns */
	SxKeys	   *keys;
	Waiting    *waiting;
	int			nwaiting;
	int			room;
	Datum		touched;		/* the batch's time */

	ExprContext *econtext;
	ProjectionInfo *projection; /* NULL: stored rows stay as they are */
	TupleTableSlot *given;		/* a row of the batch as it came */
	TupleTableSlot *fresh;		/* … as a row of the state table */
	TupleTableSlot *merged;
	TupleTableSlot *to_add[ADD_ROWS];
	uint32		add_hashes[ADD_ROWS];
	int			nadd;
	int64		written;
} MergeRun;

#define ST_SORT sort_by_place
#define ST_ELEMENT_TYPE Waiting
#define ST_COMPARE(a, b) ((a)->place < (b)->place ? -1 : (a)->place > (b)->place)
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

/* ---------- places ---------- */

static inline uint64
place_of(const ItemPointerData *tid)
{
	return ((uint64) ItemPointerGetBlockNumber(tid) << 16) | ItemPointerGetOffsetNumber(tid);
}

static inline ItemPointerData
tid_of(uint64 place)
{
	ItemPointerData tid;

	ItemPointerSet(&tid, (BlockNumber) (place >> 16), (OffsetNumber) (place & 0xffff));
	return tid;
}

static void
locate(MergeRun *run)
{
	SxHints    *hints = run->table->hints;

	for (int i = 0; i < run->nwaiting; i++)
	{
		ItemPointerData tid;

		if (hints != NULL && i + AHEAD_HINT < run->nwaiting)
			sx_hints_prefetch(hints, run->waiting[i + AHEAD_HINT].hash);
		run->waiting[i].place = hints != NULL && sx_hints_get(hints, run->waiting[i].hash, &tid) ?
			place_of(&tid) : UNKNOWN;
	}
}

static void
remember(MergeRun *run, uint32 hash, const ItemPointerData *tid)
{
	if (run->table->hints != NULL)
		sx_hints_put(run->table->hints, hash, tid);
}

/* ---------- a row ---------- */

/* The row of the batch as one of the state table, which has a column more with state_ttl. */
static TupleTableSlot *
fill(MergeRun *run, MinimalTuple row, TupleTableSlot *slot)
{
	int			n = run->rule->ngiven;

	ExecClearTuple(slot);
	ExecStoreMinimalTuple(row, run->given, false);
	slot_getallattrs(run->given);
	memcpy(slot->tts_values, run->given->tts_values, sizeof(Datum) * n);
	memcpy(slot->tts_isnull, run->given->tts_isnull, sizeof(bool) * n);
	if (run->rule->touched)
	{
		slot->tts_values[n] = run->touched;
		slot->tts_isnull[n] = false;
	}
	return ExecStoreVirtualTuple(slot);
}

static SxKey
key_of(const TupleTableSlot *slot, uint32 hash)
{
	SxKey		key = {
		.hash = hash,
		.values = slot->tts_values,
		.nulls = slot->tts_isnull
	};

	return key;
}

/* The stored row, table->found, with that of the batch, run->fresh. */
static void
merge_row(MergeRun *run, uint32 hash)
{
	SxStateTable *table = run->table;
	ItemPointerData tid = table->found->tts_tid;
	MemoryContext old;

	if (run->projection == NULL)
		return;
	run->econtext->ecxt_outertuple = table->found;
	run->econtext->ecxt_innertuple = run->fresh;
	(void) ExecProject(run->projection);
	old = MemoryContextSwitchTo(run->econtext->ecxt_per_tuple_memory);
	sx_state_replace(table, &tid, run->merged);
	sx_changes_note(run->step, table->found, run->merged);
	MemoryContextSwitchTo(old);
	remember(run, hash, &run->merged->tts_tid);
	run->written++;
}

static void
add_rows(MergeRun *run)
{
	MemoryContext old = MemoryContextSwitchTo(run->econtext->ecxt_per_tuple_memory);

	if (run->nadd > 0)
		sx_state_add(run->table, run->to_add, run->nadd);
	for (int i = 0; i < run->nadd; i++)
	{
		sx_changes_note(run->step, NULL, run->to_add[i]);
		remember(run, run->add_hashes[i], &run->to_add[i]->tts_tid);
		ExecClearTuple(run->to_add[i]);
	}
	run->written += run->nadd;
	run->nadd = 0;
	MemoryContextSwitchTo(old);
	ResetExprContext(run->econtext);
}

static void
add_row(MergeRun *run, const Waiting *waiting)
{
	if (run->to_add[run->nadd] == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(run->context);

		run->to_add[run->nadd] = MakeSingleTupleTableSlot(run->desc, &TTSOpsVirtual);
		MemoryContextSwitchTo(old);
	}
	(void) fill(run, waiting->row, run->to_add[run->nadd]);
	run->add_hashes[run->nadd++] = waiting->hash;
	if (run->nadd == ADD_ROWS)
		add_rows(run);
}

/* ---------- the rows that wait ---------- */

static void
look_ahead(MergeRun *run, int i)
{
	ItemPointerData tid;

	if (i + AHEAD_PAGE < run->nwaiting && run->waiting[i + AHEAD_PAGE].place != UNKNOWN)
	{
		tid = tid_of(run->waiting[i + AHEAD_PAGE].place);
		__builtin_prefetch(run->waiting[i + AHEAD_PAGE].row);
		sx_state_ahead_write(run->table, run->waiting[i + AHEAD_PAGE].hash, &tid);
	}
	if (i + AHEAD_ROW < run->nwaiting && run->waiting[i + AHEAD_ROW].place != UNKNOWN)
	{
		tid = tid_of(run->waiting[i + AHEAD_ROW].place);
		sx_state_ahead_version(run->table, &tid);
	}
}

/* Those whose place is known come first.  Gives the number of those that are elsewhere. */
static int
merge_where_known(MergeRun *run)
{
	bool		ahead = sx_state_looks_ahead(run->table);
	int			left = 0;

	for (int i = 0; i < run->nwaiting; i++)
	{
		Waiting    *waiting = &run->waiting[i];
		bool		found = false;

		CHECK_FOR_INTERRUPTS();
		if (ahead)
			look_ahead(run, i);
		if (waiting->place != UNKNOWN)
		{
			ItemPointerData tid = tid_of(waiting->place);
			SxKey		key;

			key = key_of(fill(run, waiting->row, run->fresh), waiting->hash);
			found = sx_state_find_at(run->table, &key, &tid);
		}
		if (found)
		{
			merge_row(run, waiting->hash);
			ResetExprContext(run->econtext);
		}
		else
			run->waiting[left++] = *waiting;
	}
	ExecClearTuple(run->table->found);
	return left;
}

/* ---------- rows that are elsewhere, or nowhere ---------- */

typedef struct Missing
{
	const Waiting *waiting;
	Datum	   *values;			/* of its key */
	bool	   *nulls;
} Missing;

typedef struct KeyOrder
{
	int			nkeys;
	SortSupport columns;
} KeyOrder;

static int
compare_keys(const void *a, const void *b, void *arg)
{
	const Missing *left = a;
	const Missing *right = b;
	KeyOrder   *order = arg;

	for (int i = 0; i < order->nkeys; i++)
	{
		int			cmp = ApplySortComparator(left->values[i], left->nulls[i], right->values[i],
											  right->nulls[i], &order->columns[i]);

		if (cmp != 0)
			return cmp;
	}
	return 0;
}

/* The order of the index, in which neighbours share its pages. */
static void
sort_missing(MergeRun *run, Missing *missing, int n)
{
	Relation	index = run->table->index;
	int			nkeys = run->table->nkeys;
	KeyOrder	order = {nkeys, palloc0(sizeof(SortSupportData) * nkeys)};

	for (int i = 0; i < nkeys; i++)
	{
		SortSupport column = &order.columns[i];

		column->ssup_cxt = CurrentMemoryContext;
		column->ssup_collation = index->rd_indcollation[i];
		column->ssup_attno = i + 1;
		PrepareSortSupportFromIndexRel(index, BTLessStrategyNumber, column);
	}
	qsort_arg(missing, n, sizeof(Missing), compare_keys, &order);
}

static Missing *
missing_rows(MergeRun *run, int n)
{
	Missing    *missing = MemoryContextAllocHuge(run->rows, sizeof(Missing) * n);
	int			nkeys = run->table->nkeys;

	for (int i = 0; i < n; i++)
	{
		Missing    *one = &missing[i];

		ExecStoreMinimalTuple(run->waiting[i].row, run->given, false);
		slot_getsomeattrs(run->given, nkeys);
		one->waiting = &run->waiting[i];
		one->values = palloc(nkeys * (sizeof(Datum) + sizeof(bool)));
		one->nulls = (bool *) (one->values + nkeys);
		memcpy(one->values, run->given->tts_values, sizeof(Datum) * nkeys);
		memcpy(one->nulls, run->given->tts_isnull, sizeof(bool) * nkeys);
	}
	sort_missing(run, missing, n);
	return missing;
}

/* The index has found it: an index that takes other keys for equal would merge them. */
static void
check_found(MergeRun *run, const SxKey *key)
{
	TupleTableSlot *found = run->table->found;

	slot_getsomeattrs(found, run->table->nkeys);
	if (!sx_keys_equal(run->keys, key, found->tts_values, found->tts_isnull))
		ereport(ERROR,
				(errcode(ERRCODE_INDEX_CORRUPTED),
				 errmsg("index \"%s\" has led to a row of another key",
						RelationGetRelationName(run->table->index)),
				 errhint("REINDEX it.")));
}

/* The first n of those that wait are looked up in the index, and added if they are not there. */
static void
merge_by_index(MergeRun *run, int n)
{
	Missing    *missing;

	if (n == 0)
		return;
	missing = missing_rows(run, n);
	for (int i = 0; i < n; i++)
	{
		const Waiting *waiting = missing[i].waiting;
		SxKey		key = {
			.hash = waiting->hash,.values = missing[i].values,.nulls = missing[i].nulls
		};

		CHECK_FOR_INTERRUPTS();
		if (sx_state_find(run->table, &key))
		{
			check_found(run, &key);
			(void) fill(run, waiting->row, run->fresh);
			merge_row(run, waiting->hash);
			ResetExprContext(run->econtext);
		}
		else
			add_row(run, waiting);
	}
	add_rows(run);
	ExecClearTuple(run->table->found);
}

/* Puts what waits into the table. */
static void
work_off(MergeRun *run)
{
	MemoryContext old = MemoryContextSwitchTo(run->rows);

	locate(run);
	sort_by_place(run->waiting, run->nwaiting);
	merge_by_index(run, merge_where_known(run));
	run->nwaiting = 0;
	ExecClearTuple(run->given);
	ExecClearTuple(run->fresh);
	MemoryContextSwitchTo(old);
	MemoryContextReset(run->rows);
}

/* ---------- the batch's rows ---------- */

static void
startup(DestReceiver *self, int operation, TupleDesc desc)
{
	MergeRun   *run = (MergeRun *) self;
	MemoryContext old = MemoryContextSwitchTo(run->context);

	if (desc->natts != run->rule->ngiven)
		elog(ERROR, "the batch has %d columns, not %d", desc->natts, run->rule->ngiven);
	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->atttypid != TupleDescAttr(run->table->desc, i)->atttypid)
			elog(ERROR, "column %d of the batch is of another type", i + 1);
	}
	run->given = MakeSingleTupleTableSlot(CreateTupleDescCopy(desc), &TTSOpsMinimalTuple);
	MemoryContextSwitchTo(old);
}

static void
make_room(MergeRun *run)
{
	MemoryContext old = MemoryContextSwitchTo(run->context);

	run->room = run->room == 0 ? FIRST_ROWS : run->room * 2;
	run->waiting = run->waiting == NULL ? palloc(sizeof(Waiting) * run->room) :
		repalloc_huge(run->waiting, sizeof(Waiting) * run->room);
	MemoryContextSwitchTo(old);
}

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
	MergeRun   *run = (MergeRun *) self;
	MemoryContext old;
	Waiting    *waiting;

	if (run->nwaiting == run->room)
		make_room(run);
	old = MemoryContextSwitchTo(run->rows);
	waiting = &run->waiting[run->nwaiting++];
	waiting->row = ExecCopySlotMinimalTuple(slot);
	MemoryContextSwitchTo(old);
	slot_getsomeattrs(slot, run->rule->nkeys);
	waiting->hash = sx_keys_hash(run->keys, slot->tts_values, slot->tts_isnull);
	if (MemoryContextMemAllocated(run->rows, false) > MOST_MEMORY)
		work_off(run);
	return true;
}

static void
shutdown(DestReceiver *self)
{
	work_off((MergeRun *) self);
}

static void
destroy(DestReceiver *self)
{
}

/* ---------- the step ---------- */

/* In its context. */
static void
prepare(MergeRun *run, SxPipeline *pl)
{
	run->rows = AllocSetContextCreate(run->context, "streamext rows to be merged",
									  ALLOCSET_DEFAULT_SIZES);
	run->touched = TimestampTzGetDatum(pl->time);
	run->econtext = CreateExprContext(run->table->estate);
	run->desc = CreateTupleDescCopy(run->table->desc);	/* not counted, so slots need no end */
	run->fresh = MakeSingleTupleTableSlot(run->desc, &TTSOpsVirtual);
	run->merged = MakeSingleTupleTableSlot(run->desc, &TTSOpsVirtual);
	if (run->rule->set != NIL)
		run->projection = sx_merge_projection(run->rule, run->econtext, run->merged);
	run->dest.receiveSlot = receive;
	run->dest.rStartup = startup;
	run->dest.rShutdown = shutdown;
	run->dest.rDestroy = destroy;
	run->dest.mydest = DestNone;
}

/* What step->apply is prepared from. */
static void
use_statement(SxStep *step, bool by_hand)
{
	MergeStep  *merge = step->private;

	if (step->apply != NULL && merge->by_hand != by_hand)
	{
		SPI_freeplan(step->apply);
		step->apply = NULL;
	}
	merge->by_hand = by_hand;
}

static const SxMergeRule *
rule_of(SxStep *step)
{
	MergeStep  *merge = step->private;

	if (merge->rule == NULL && !merge->no_rule)
	{
		merge->rule = sx_merge_rule(step->plan->apply_sql, merge->context);
		merge->no_rule = merge->rule == NULL;
	}
	return merge->rule;
}

/* false: the table wants the statement, nothing was done. */
static bool
merge_by_hand(SxPipeline *pl, SxStep *step)
{
	MergeRun	run = {.step = step};
	int			nestlevel = sx_step_enter(pl, step);
	MemoryContext caller;

	run.context = AllocSetContextCreate(CurTransactionContext, "streamext merge",
										ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(run.context);
	run.rule = rule_of(step);
	if (run.rule != NULL)
		run.table = sx_merge_open(step, run.rule, &run.keys);
	if (run.table != NULL)
	{
		use_statement(step, true);
		sx_state_use_hints(run.table, ((MergeStep *) step->private)->hints, run.keys);
		run.table->keys = run.keys;
		prepare(&run, pl);
		(void) sx_step_select(pl, step, &step->apply, step->plan->rows_sql, &run.dest);
		step->rows = run.written;
		sx_state_close(run.table);
	}
	sx_step_leave(nestlevel);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(run.context);
	return run.table != NULL;
}

static void
apply_merge(SxPipeline *pl, SxStep *step)
{
	if (sx_statement_is_idle(pl, step, step->apply))
		return;
	if (step->plan->rows_sql != NULL && merge_by_hand(pl, step))
		return;
	use_statement(step, false);
	step->rows = sx_step_execute(pl, step, &step->apply, step->plan->apply_sql, 0, NULL, NULL);
}

static void
open_merge(SxPipeline *pl, SxStep *step)
{
	MergeStep  *merge = palloc0(sizeof(MergeStep));

	merge->context = CurrentMemoryContext;
	if (step->plan->rows_sql != NULL)
		merge->hints = sx_hints_create();
	step->private = merge;
}

const SxStepOps sx_merge_ops = {
	.open = open_merge,
	.apply = apply_merge
};
