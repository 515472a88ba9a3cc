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
#include "executor/nodeHash.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "state/changes.h"
#include "state/merge_internal.h"
#include "state/state_compact.h"
#include "worker/batch_internal.h"

#define MOST_MEMORY		(64 * 1024 * 1024)	/* of rows that wait */
#define FIRST_ROWS		256
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
	SxGroupRule *group;			/* likewise */
	bool		no_group;
	SxHints    *hints;
	bool		by_hand;		/* what step->apply is: rows_sql or what is grouped; else apply_sql */
} MergeStep;

#define ST_SORT sort_by_place
#define ST_ELEMENT_TYPE SxWaiting
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
locate(SxMergeRun *run)
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

void
sx_merge_remember(SxMergeRun *run, uint32 hash, const ItemPointerData *tid)
{
	if (run->table->hints != NULL)
		sx_hints_put(run->table->hints, hash, tid);
}

/* ---------- a row ---------- */

static void
given_values(SxMergeRun *run, const SxWaiting *waiting, Datum *values, bool *nulls)
{
	int			n = run->rule->ngiven;

	ExecStoreMinimalTuple(waiting->row.tuple, run->given, false);
	slot_getallattrs(run->given);
	memcpy(values, run->given->tts_values, sizeof(Datum) * n);
	memcpy(nulls, run->given->tts_isnull, sizeof(bool) * n);
}

static void
group_values(SxMergeRun *run, const SxWaiting *waiting, Datum *values, bool *nulls)
{
	const SxGroupRule *rule = run->group_rule;
	Datum		columns[SX_MOST_GROUP_COLUMNS];
	bool		null_columns[SX_MOST_GROUP_COLUMNS];

	sx_group_values(rule, waiting->row.group, columns, null_columns);
	for (int i = 0; i < rule->nresult; i++)
	{
		values[i] = columns[rule->result[i]];
		nulls[i] = null_columns[rule->result[i]];
	}
}

TupleTableSlot *
sx_merge_fill(SxMergeRun *run, const SxWaiting *waiting, TupleTableSlot *slot)
{
	int			n = run->rule->ngiven;

	ExecClearTuple(slot);
	if (run->groups != NULL)
		group_values(run, waiting, slot->tts_values, slot->tts_isnull);
	else
		given_values(run, waiting, slot->tts_values, slot->tts_isnull);
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

void
sx_merge_row(SxMergeRun *run, uint32 hash)
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
	sx_merge_remember(run, hash, &run->merged->tts_tid);
	run->written++;
}

/* ---------- the rows that wait ---------- */

static void
look_ahead(SxMergeRun *run, int i)
{
	ItemPointerData tid;

	if (i + AHEAD_PAGE < run->nwaiting && run->waiting[i + AHEAD_PAGE].place != UNKNOWN)
	{
		tid = tid_of(run->waiting[i + AHEAD_PAGE].place);
		sx_merge_prefetch(&run->waiting[i + AHEAD_PAGE]);
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
merge_where_known(SxMergeRun *run)
{
	bool		ahead = sx_state_looks_ahead(run->table);
	int			left = 0;

	for (int i = 0; i < run->nwaiting; i++)
	{
		SxWaiting    *waiting = &run->waiting[i];
		bool		found = false;

		CHECK_FOR_INTERRUPTS();
		if (ahead)
			look_ahead(run, i);
		if (waiting->place != UNKNOWN)
		{
			ItemPointerData tid = tid_of(waiting->place);
			SxKey		key;

			key = key_of(sx_merge_fill(run, waiting, run->fresh), waiting->hash);
			found = sx_state_find_at(run->table, &key, &tid);
		}
		if (found)
		{
			sx_merge_row(run, waiting->hash);
			ResetExprContext(run->econtext);
		}
		else
			run->waiting[left++] = *waiting;
	}
	ExecClearTuple(run->table->found);
	return left;
}

/* Puts what waits into the table. */
static void
work_off(SxMergeRun *run)
{
	MemoryContext old = MemoryContextSwitchTo(run->rows);

	locate(run);
	sort_by_place(run->waiting, run->nwaiting);
	sx_merge_missing(run, merge_where_known(run));
	run->nwaiting = 0;
	if (run->given != NULL)
		ExecClearTuple(run->given);
	ExecClearTuple(run->fresh);
	MemoryContextSwitchTo(old);
	MemoryContextReset(run->rows);
}

/* ---------- the batch's rows ---------- */

static void
check_type(const SxMergeRun *run, int i, Oid type)
{
	if (type != TupleDescAttr(run->table->desc, i)->atttypid)
		elog(ERROR, "column %d of the batch is of another type", i + 1);
}

static void
startup(DestReceiver *self, int operation, TupleDesc desc)
{
	SxMergeRun *run = (SxMergeRun *) self;
	MemoryContext old = MemoryContextSwitchTo(run->context);

	if (desc->natts != run->rule->ngiven)
		elog(ERROR, "the batch has %d columns, not %d", desc->natts, run->rule->ngiven);
	for (int i = 0; i < desc->natts; i++)
		check_type(run, i, TupleDescAttr(desc, i)->atttypid);
	run->given = MakeSingleTupleTableSlot(CreateTupleDescCopy(desc), &TTSOpsMinimalTuple);
	MemoryContextSwitchTo(old);
}

static SxWaiting *
make_waiting(SxMergeRun *run)
{
	MemoryContext old;

	if (run->nwaiting < run->room)
		return &run->waiting[run->nwaiting++];
	old = MemoryContextSwitchTo(run->context);
	run->room = run->room == 0 ? FIRST_ROWS : run->room * 2;
	run->waiting = run->waiting == NULL ? palloc(sizeof(SxWaiting) * run->room) :
		repalloc_huge(run->waiting, sizeof(SxWaiting) * run->room);
	MemoryContextSwitchTo(old);
	return &run->waiting[run->nwaiting++];
}

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
	SxMergeRun *run = (SxMergeRun *) self;
	SxWaiting  *waiting = make_waiting(run);
	MemoryContext old = MemoryContextSwitchTo(run->rows);

	waiting->row.tuple = ExecCopySlotMinimalTuple(slot);
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
	work_off((SxMergeRun *) self);
}

/* ---------- … and grouped by hand ---------- */

static void
startup_groups(DestReceiver *self, int operation, TupleDesc desc)
{
	SxMergeRun *run = (SxMergeRun *) self;
	const SxGroupRule *rule = run->group_rule;
	MemoryContext old = MemoryContextSwitchTo(run->context);
	TupleDesc	columns = CreateTemplateTupleDesc(rule->ncolumns);

	if (desc->natts != rule->ninput || rule->nresult != run->rule->ngiven)
		elog(ERROR, "the batch has %d columns for %d", desc->natts, rule->nresult);
	for (int i = 0; i < rule->nresult; i++)
		check_type(run, i, rule->columns[rule->result[i]].type);
	for (int i = 0; i < rule->ncolumns; i++)
		TupleDescInitEntry(columns, i + 1, NULL, rule->columns[i].type, -1, 0);
	run->group = MakeSingleTupleTableSlot(columns, &TTSOpsVirtual);
	run->groups = sx_groups_create(rule, CreateTupleDescCopy(desc), get_hash_memory_limit());
	if (rule->quals != NIL)
		run->quals = ExecInitQual((List *) expression_planner((Expr *) copyObject(rule->quals)), NULL);
	MemoryContextSwitchTo(old);
}

static bool
receive_grouped(TupleTableSlot *slot, DestReceiver *self)
{
	sx_groups_take(((SxMergeRun *) self)->groups, slot);
	return true;
}

/* A group that passes the query's conditions waits with the others. */
static void
take_group(SxMergeRun *run, const SxGroup *group)
{
	TupleTableSlot *slot = run->group;
	SxWaiting  *waiting;

	ExecClearTuple(slot);
	sx_group_values(run->group_rule, group, slot->tts_values, slot->tts_isnull);
	ExecStoreVirtualTuple(slot);
	run->econtext->ecxt_innertuple = slot;
	if (run->quals != NULL && !ExecQual(run->quals, run->econtext))
		return;
	waiting = make_waiting(run);
	waiting->row.group = group;
	waiting->hash = sx_keys_hash(run->keys, slot->tts_values, slot->tts_isnull);
}

static void
shutdown_groups(DestReceiver *self)
{
	SxMergeRun *run = (SxMergeRun *) self;

	do
	{
		const SxGroup *group = NULL;
		int			n = sx_groups_end_pass(run->groups);

		for (int i = 0; i < n; i++)
		{
			CHECK_FOR_INTERRUPTS();
			group = sx_groups_after(run->groups, group);
			take_group(run, group);
			ResetExprContext(run->econtext);
		}
		work_off(run);
	} while (sx_groups_next_pass(run->groups));
}

/* ---------- the step ---------- */

/* In its context. */
static void
prepare(SxMergeRun *run, SxPipeline *pl)
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
	if (run->group_rule != NULL)
		sx_receiver_init(&run->dest, receive_grouped, startup_groups, shutdown_groups);
	else
		sx_receiver_init(&run->dest, receive, startup, shutdown);
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

static const SxGroupRule *
group_rule_of(SxStep *step)
{
	MergeStep  *merge = step->private;

	if (merge->group == NULL && !merge->no_group)
	{
		merge->group = sx_group_rule(step->plan->rows_sql, merge->context);
		merge->no_group = merge->group == NULL;
		if (merge->group != NULL)
			elog(DEBUG1, "the batch of %s is grouped by hand%s", sx_relation_label(step->relid),
				 merge->group->split != NULL ? ", of texts that are split" : "");
	}
	return merge->group;
}

/* false: the table wants the statement, nothing was done. */
static bool
merge_by_hand(SxPipeline *pl, SxStep *step)
{
	SxMergeRun	run = {.step = step};
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
		run.group_rule = group_rule_of(step);
		sx_state_use_hints(run.table, ((MergeStep *) step->private)->hints, run.keys);
		run.table->keys = run.keys;
		pl->gives_way |= sx_state_compact(run.table, pl);
		prepare(&run, pl);
		(void) sx_step_select(pl, step, &step->apply,
							  run.group_rule != NULL ? run.group_rule->input_sql :
							  step->plan->rows_sql, &run.dest);
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
