/*-------------------------------------------------------------------------
 *
 * update_state.c
 *		A function is called for each key with its state and its rows of the batch.
 *
 * The rows of the batch are gathered by key, each value column into an array, in order
 * of arrival and with NULLs kept.  Then the function is called: for every key of the
 * state table, in the order of the keys, with empty arrays where the batch has nothing
 * for it; and for every new key, in order of arrival.  With changed_only, for the keys
 * of the batch alone, in order of arrival.
 *
 * What it returns is the new state; NULL removes the key.  A row is written when its
 * state differs from what it was.  The stream has a row (keys, state) for each key that
 * was called for and has a state.
 *
 * A record for which the function fails is found by bisecting (batch_bisect.c).  A call
 * without rows has no record to blame, and stops the pipeline.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "state/keyed.h"

typedef struct UpdateRun
{
	SxKeyedRun	base;			/* must be first */
	Oid		   *elements;		/* by value column: type of the array's elements */
	Datum	   *empty;			/* … and an empty array */
} UpdateRun;

/* ---------- gathering ---------- */

static void
prepare_arrays(UpdateRun *run)
{
	const SxStateSpec *spec = run->base.spec;

	run->elements = palloc(sizeof(Oid) * spec->nvalues);
	run->empty = palloc(sizeof(Datum) * spec->nvalues);
	for (int i = 0; i < spec->nvalues; i++)
	{
		run->elements[i] = get_element_type(spec->argtypes[1 + spec->nkeys + i]);
		run->empty[i] = PointerGetDatum(construct_empty_array(run->elements[i]));
	}
}

static void
one_record(SxKeyedRun *base, TupleTableSlot *slot)
{
	UpdateRun  *run = (UpdateRun *) base;
	const SxStateSpec *spec = base->spec;
	bool		is_new;
	SxKey	   *key = sx_keys_get(base->keys, base->hash, base->key, base->key_nulls, &is_new);

	if (is_new)
		key->arrays = MemoryContextAllocZero(base->context,
											 sizeof(ArrayBuildState *) * Max(spec->nvalues, 1));
	for (int i = 0; i < spec->nvalues; i++)
	{
		int			place = spec->values[i];

		if (key->arrays[i] == NULL)
			key->arrays[i] = initArrayResult(run->elements[i], base->context, false);
		(void) accumArrayResult(key->arrays[i], slot->tts_values[place], slot->tts_isnull[place],
								run->elements[i], base->context);
	}
}

/* ---------- calling and writing ---------- */

/* values: of the key; rows: its rows in this batch, or NULL. */
static Datum
call(UpdateRun *run, const Datum *values, const bool *nulls, const SxKey *rows,
	 Datum state, bool state_null, bool *isnull)
{
	SxKeyedRun *base = &run->base;
	const SxStateSpec *spec = base->spec;
	Datum		result;
	int			arg = 0;

	sx_state_function_set(base->function, arg++, state, state_null);
	for (int i = 0; i < spec->nkeys; i++)
		sx_state_function_set(base->function, arg++, values[i], nulls[i]);
	for (int i = 0; i < spec->nvalues; i++)
		sx_state_function_set(base->function, arg++,
							  rows == NULL ? run->empty[i] :
							  makeArrayResult(rows->arrays[i], base->scratch), false);

	base->called_key = values;
	base->called_nulls = nulls;
	base->pl->running_step = rows == NULL ? -1 : base->step->index;
	result = sx_state_function_value(base->function, isnull);
	base->pl->running_step = base->step->index;
	base->called_key = NULL;
	return result;
}

/* The key's row becomes what the function said. */
static void
store(SxKeyedRun *run, const Datum *values, const bool *nulls, ItemPointer tid,
	  Datum old, Datum state, bool isnull)
{
	int			place = sx_spec_state_place(run->spec);

	if (isnull)
	{
		if (tid != NULL)
			sx_state_delete(run->table, tid);
		return;
	}
	sx_keyed_put_key(run, values, nulls, run->row, run->row_nulls);
	run->row[place] = state;
	run->row_nulls[place] = false;

	/* the stream has the same columns as the state table */
	memcpy(run->out, run->row, sizeof(Datum) * (place + 1));
	memcpy(run->out_nulls, run->row_nulls, sizeof(bool) * (place + 1));
	sx_keyed_emit(run);
	if (tid == NULL)
		sx_state_insert(run->table, run->row, run->row_nulls);
	else if (!sx_keyed_same_state(run, old, state))
		sx_state_update(run->table, tid, run->row, run->row_nulls);
	else
		return;
	if (run->spec->changed_only)
		sx_state_remember(run->table, sx_keys_hash(run->keys, values, nulls));
}

/* table->found is the row of a key; rows: of the batch, or NULL. */
static void
update_found(UpdateRun *run, const SxKey *rows)
{
	SxKeyedRun *base = &run->base;
	TupleTableSlot *found = base->table->found;
	int			place = sx_spec_state_place(base->spec);
	ItemPointerData tid = found->tts_tid;
	Datum		state;
	bool		isnull;

	slot_getallattrs(found);
	state = call(run, found->tts_values, found->tts_isnull, rows,
				 found->tts_values[place], found->tts_isnull[place], &isnull);
	store(base, found->tts_values, found->tts_isnull, &tid,
		  found->tts_values[place], state, isnull);
}

static void
update_new(UpdateRun *run, const SxKey *key)
{
	bool		isnull;
	Datum		state = call(run, key->values, key->nulls, key, (Datum) 0, true, &isnull);

	store(&run->base, key->values, key->nulls, NULL, (Datum) 0, state, isnull);
}

/* Every row of the state table.  A probe is about records: it leaves out the others. */
static void
update_all(UpdateRun *run)
{
	SxKeyedRun *base = &run->base;
	IndexScanDesc scan = sx_state_scan_begin(base->table);

	while (sx_state_scan_next(base->table, scan))
	{
		SxKey	   *rows;

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(base->scratch);
		slot_getallattrs(base->table->found);
		rows = sx_keys_find(base->keys, base->table->found->tts_values,
							base->table->found->tts_isnull);
		if (rows != NULL)
			rows->stored = true;
		if (rows != NULL || !base->pl->probing)
			update_found(run, rows);
	}
	ExecClearTuple(base->table->found);
	index_endscan(scan);
}

static void
look_ahead(SxKeyedRun *run, int from)
{
	uint32		hashes[SX_STATE_AHEAD];
	int			n = Min(sx_keys_count(run->keys) - from, SX_STATE_AHEAD);

	if (!sx_state_looks_ahead(run->table))
		return;
	for (int i = 0; i < n; i++)
		hashes[i] = sx_keys_nth(run->keys, from + i)->hash;
	sx_state_ahead(run->table, hashes, n);
}

static void
update_touched(UpdateRun *run, bool may_be_stored)
{
	SxKeyedRun *base = &run->base;

	for (int i = 0; i < sx_keys_count(base->keys); i++)
	{
		SxKey	   *key = sx_keys_nth(base->keys, i);

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(base->scratch);
		if (may_be_stored && i % SX_STATE_AHEAD == 0)
			look_ahead(base, i);
		if (may_be_stored && sx_state_find(base->table, key))
			update_found(run, key);
		else if (!key->stored)
			update_new(run, key);
	}
}

static void
apply(SxPipeline *pl, SxStep *step)
{
	UpdateRun	run = {0};
	SxKeyedRun *base = &run.base;

	sx_keyed_begin(base, pl, step);
	prepare_arrays(&run);
	sx_keyed_records(base, one_record, false);
	if (!pl->must_restart)
	{
		MemoryContextSwitchTo(base->scratch);
		if (!base->spec->changed_only)
			update_all(&run);
		update_touched(&run, base->spec->changed_only);
		MemoryContextSwitchTo(base->context);
	}
	sx_keyed_end(base);
}

static void
open_update(SxPipeline *pl, SxStep *step)
{
	const SxStateSpec *spec;

	sx_keyed_open(pl, step);
	spec = sx_keyed_spec(step);
	pl->every_interval |= !spec->changed_only;
}

const SxStepOps sx_update_state_ops = {
	.open = open_update,
	.apply = apply
};
