/*-------------------------------------------------------------------------
 *
 * merge_missing.c
 *		Rows of a merge that are not where they are remembered to stand.
 *
 * They are looked up in the index, in its order; what is not there either is added, many
 * rows at a time (merge.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/sortsupport.h"

#include "state/changes.h"
#include "state/merge_internal.h"

/* ---------- adding ---------- */

static void
add_rows(SxMergeRun *run)
{
	MemoryContext old = MemoryContextSwitchTo(run->econtext->ecxt_per_tuple_memory);

	if (run->nadd > 0)
		sx_state_add(run->table, run->to_add, run->nadd);
	for (int i = 0; i < run->nadd; i++)
	{
		sx_changes_note(run->step, NULL, run->to_add[i]);
		sx_merge_remember(run, run->add_hashes[i], &run->to_add[i]->tts_tid);
		ExecClearTuple(run->to_add[i]);
	}
	run->written += run->nadd;
	run->nadd = 0;
	MemoryContextSwitchTo(old);
	ResetExprContext(run->econtext);
}

static void
add_row(SxMergeRun *run, const SxWaiting *waiting)
{
	if (run->to_add[run->nadd] == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(run->context);

		run->to_add[run->nadd] = MakeSingleTupleTableSlot(run->desc, &TTSOpsVirtual);
		MemoryContextSwitchTo(old);
	}
	(void) sx_merge_fill(run, waiting, run->to_add[run->nadd]);
	run->add_hashes[run->nadd++] = waiting->hash;
	if (run->nadd == SX_MERGE_ADD_ROWS)
		add_rows(run);
}

/* ---------- looking up ---------- */

typedef struct Missing
{
	const SxWaiting *waiting;
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
sort_missing(SxMergeRun *run, Missing *missing, int n)
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
missing_rows(SxMergeRun *run, int n)
{
	Missing    *missing = MemoryContextAllocHuge(run->rows, sizeof(Missing) * n);
	int			nkeys = run->table->nkeys;

	for (int i = 0; i < n; i++)
	{
		Missing    *one = &missing[i];

		(void) sx_merge_fill(run, &run->waiting[i], run->fresh);
		one->waiting = &run->waiting[i];
		one->values = palloc(nkeys * (sizeof(Datum) + sizeof(bool)));
		one->nulls = (bool *) (one->values + nkeys);
		memcpy(one->values, run->fresh->tts_values, sizeof(Datum) * nkeys);
		memcpy(one->nulls, run->fresh->tts_isnull, sizeof(bool) * nkeys);
	}
	sort_missing(run, missing, n);
	return missing;
}

/* The index has found it: an index that takes other keys for equal would merge them. */
static void
check_found(SxMergeRun *run, const SxKey *key)
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

void
sx_merge_missing(SxMergeRun *run, int n)
{
	Missing    *missing;

	if (n == 0)
		return;
	missing = missing_rows(run, n);
	for (int i = 0; i < n; i++)
	{
		const SxWaiting *waiting = missing[i].waiting;
		SxKey		key = {
			.hash = waiting->hash,.values = missing[i].values,.nulls = missing[i].nulls
		};

		CHECK_FOR_INTERRUPTS();
		if (sx_state_find(run->table, &key))
		{
			check_found(run, &key);
			(void) sx_merge_fill(run, waiting, run->fresh);
			sx_merge_row(run, waiting->hash);
			ResetExprContext(run->econtext);
		}
		else
			add_row(run, waiting);
	}
	add_rows(run);
	ExecClearTuple(run->table->found);
}
