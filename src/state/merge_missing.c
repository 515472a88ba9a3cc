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

#define AHEAD		8			/* rows that are fetched from memory ahead */

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
	SxWaiting	waiting;
	Datum		first;			/* of its key; all of it, if that has one column */
	bool		first_null;
	Datum	   *values;			/* … else */
	bool	   *nulls;
} Missing;

typedef struct KeyOrder
{
	int			nkeys;
	SortSupport columns;
	bool		integer;		/* the first one is compared as that */
} KeyOrder;

static inline Datum *
values_of(Missing *one)
{
	return one->values != NULL ? one->values : &one->first;
}

static inline bool *
nulls_of(Missing *one)
{
	return one->values != NULL ? one->nulls : &one->first_null;
}

static int
compare_others(const Missing *a, const Missing *b, const KeyOrder *order)
{
	for (int i = 1; i < order->nkeys; i++)
	{
		int			cmp = ApplySortComparator(a->values[i], a->nulls[i], b->values[i], b->nulls[i],
											  &order->columns[i]);

		if (cmp != 0)
			return cmp;
	}
	return 0;
}

static inline int
compare_keys(const Missing *a, const Missing *b, const KeyOrder *order)
{
	int			cmp;

	if (order->integer && !a->first_null && !b->first_null && a->first != b->first)
		return DatumGetInt64(a->first) < DatumGetInt64(b->first) ? -1 : 1;
	cmp = ApplySortComparator(a->first, a->first_null, b->first, b->first_null,
							  &order->columns[0]);
	return cmp != 0 ? cmp : compare_others(a, b, order);
}

#define ST_SORT sort_by_key
#define ST_ELEMENT_TYPE Missing
#define ST_COMPARE_ARG_TYPE const KeyOrder
#define ST_COMPARE(a, b, order) compare_keys(a, b, order)
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

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
#if SIZEOF_DATUM >= 8
	order.integer = order.columns[0].comparator == ssup_datum_signed_cmp &&
		!order.columns[0].ssup_reverse;
#endif
	sort_by_key(missing, n, &order);
}

static Missing *
missing_rows(SxMergeRun *run, int n)
{
	Missing    *missing = MemoryContextAllocHuge(run->rows, sizeof(Missing) * n);
	int			nkeys = run->table->nkeys;
	Size		size = nkeys * (sizeof(Datum) + sizeof(bool));

	for (int i = 0; i < n; i++)
	{
		Missing    *one = &missing[i];

		(void) sx_merge_fill(run, &run->waiting[i], run->fresh);
		one->waiting = run->waiting[i];
		one->first = run->fresh->tts_values[0];
		one->first_null = run->fresh->tts_isnull[0];
		one->values = NULL;
		if (nkeys == 1)
			continue;
		one->values = palloc(size);
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
		const SxWaiting *waiting = &missing[i].waiting;
		SxKey		key = {
			.hash = waiting->hash,
			.values = values_of(&missing[i]),
			.nulls = nulls_of(&missing[i])
		};

		CHECK_FOR_INTERRUPTS();
		if (i + AHEAD < n)
			sx_merge_prefetch(&missing[i + AHEAD].waiting);
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
