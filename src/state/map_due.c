/*-------------------------------------------------------------------------
 *
 * map_due.c
 *		Calls of a map_with_state function for no record: timers and time-outs.
 *
 * Both find their keys through an index on a time, of which they look at the part that is
 * due.  Below that there is no row, but there may be any number of entries of rows that
 * are gone, one for each time that a key was refreshed: so the step remembers from
 * where on there are rows, and enters the index there.
 *
 * The error of such a call is no record's.  See the head of map_with_state.c for what
 * happens when.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "state/map_with_state.h"

/* ---------- calls for no record ---------- */

/* A row that is due, as a key of its own. */
static void
key_of_row(SxKeyedRun *run, TupleTableSlot *slot, SxKey *key)
{
	int			state = sx_spec_state_place(run->spec);

	slot_getallattrs(slot);
	memcpy(run->key, slot->tts_values, sizeof(Datum) * run->spec->nkeys);
	memcpy(run->key_nulls, slot->tts_isnull, sizeof(bool) * run->spec->nkeys);
	memset(key, 0, sizeof(SxKey));
	key->stored = true;
	key->tid = *(ItemPointer) DatumGetPointer(slot->tts_values[run->table->desc->natts]);
	key->state = key->stored_state = slot->tts_values[state];
	key->state_null = slot->tts_isnull[state];
}

static void
time_out(SxKeyedRun *run, TupleTableSlot *slot)
{
	SxKey		key;

	key_of_row(run, slot, &key);
	sx_map_set_arguments(run, NULL);
	sx_map_call(run, &key, false);
	sx_state_delete(run->table, &key.tid);
}

static void
fire_timer(SxKeyedRun *run, TupleTableSlot *slot)
{
	int			updated = sx_spec_updated_place(run->spec);
	SxKey		key;

	key_of_row(run, slot, &key);
	sx_map_set_arguments(run, NULL);
	sx_map_call(run, &key, true);
	if (key.state_null)
	{
		sx_state_delete(run->table, &key.tid);
		return;
	}
	if (key.has_timer)
		sx_map_note_timer(run, key.timer);
	sx_keyed_put_key(run, run->key, run->key_nulls, run->row, run->row_nulls);
	sx_map_fill_row(run, key.state, !slot->tts_isnull[updated],
			 DatumGetTimestampTz(slot->tts_values[updated]), key.has_timer, key.timer);
	sx_state_update(run->table, &key.tid, run->row, run->row_nulls);
	sx_state_remember(run->table, sx_keys_hash(run->keys, run->key, run->key_nulls));
}

/*
 * Calls each() for the rows whose time is in [from, upto].  The error of such a call is no
 * record's and no bisecting would find one: it is thrown as that of no step.
 */
static void
for_each_due(SxKeyedRun *run, int place, TimestampTz from, TimestampTz upto,
			 void (*each) (SxKeyedRun *run, TupleTableSlot *slot))
{
	TupleTableSlot *slot;
	Tuplesortstate *sort = sx_state_due(run->table, place + 1, from, upto, &slot);
	MemoryContext old = MemoryContextSwitchTo(run->scratch);
	int64		n = 0;

	run->states = run->scratch;
	run->pl->running_step = -1;
	run->pl->timing_out = true;
	while (tuplesort_gettupleslot(sort, true, false, slot, NULL))
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(run->scratch);
		each(run, slot);
		n++;
	}
	run->pl->timing_out = false;
	run->pl->running_step = run->step->index;
	MemoryContextSwitchTo(old);
	ExecDropSingleTupleTableSlot(slot);
	tuplesort_end(sort);
	if (n > 0)
		sx_state_see_writes(run->table);
}

/*
 * Keys that are due at the end of the batch.  step->timer is when the oldest key that
 * was there before this batch times out; those of its records are no older than it.
 */
void
sx_map_call_due(SxKeyedRun *run)
{
	const SxStateSpec *spec = run->spec;
	const SxKeyedStep *keyed = run->step->private;
	SxPipeline *pl = run->pl;
	TimestampTz watermark = sx_step_new_watermark(pl, run->step);

	if (spec->result_timer >= 0 && watermark >= keyed->batch_from && watermark != DT_NOBEGIN)
		for_each_due(run, sx_spec_timer_place(spec), keyed->batch_from, watermark, fire_timer);
	if (spec->idle_timeout >= 0 && run->step->timer <= pl->time)
		for_each_due(run, sx_spec_updated_place(spec), run->step->timer - spec->idle_timeout,
					 pl->time - spec->idle_timeout, time_out);
}

/* ---------- what is due next ---------- */

/* Keys of the initial state begin to age. */
static void
begin_ageing(SxPipeline *pl, SxStep *step, SxStateTable *table)
{
	const SxStateSpec *spec = sx_keyed_spec(step);
	AttrNumber	updated = sx_spec_updated_place(spec) + 1;
	IndexScanDesc scan;

	if (!sx_state_has_null(table, updated))
		return;
	scan = sx_state_scan_begin(table);
	while (sx_state_scan_next(table, scan))
	{
		ItemPointerData tid = table->found->tts_tid;

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(table->found);
		if (!table->found->tts_isnull[updated - 1])
			continue;
		table->found->tts_values[updated - 1] = TimestampTzGetDatum(pl->time);
		table->found->tts_isnull[updated - 1] = false;
		sx_state_update(table, &tid, table->found->tts_values, table->found->tts_isnull);
	}
	ExecClearTuple(table->found);
	index_endscan(scan);
	sx_state_see_writes(table);
}

TimestampTz
sx_map_next_timeout(SxStateTable *table, const SxStateSpec *spec, TimestampTz from)
{
	TimestampTz lowest = sx_state_lowest(table, sx_spec_updated_place(spec) + 1, from);

	return lowest == DT_NOEND ? DT_NOEND : lowest + spec->idle_timeout;
}

/*
 * When the next key is due.  The indexes are entered where the oldest key, or the
 * lowest timer, was or may be by now, past the entries of rows that are gone.
 */
static void
look_ahead(SxPipeline *pl, SxStep *step, SxStateTable *table)
{
	SxKeyedStep *keyed = step->private;
	const SxStateSpec *spec = keyed->spec;

	if (spec->idle_timeout >= 0)
	{
		TimestampTz oldest = step->timer == DT_NOEND ? DT_NOEND :
			step->timer - spec->idle_timeout;

		begin_ageing(pl, step, table);
		step->new_timer = sx_map_next_timeout(table, spec, Min(oldest, pl->time));
	}
	if (spec->result_timer >= 0)
	{
		keyed->next_from = sx_state_lowest(table, sx_spec_timer_place(spec) + 1, keyed->batch_from);
		keyed->next_batch = pl->batch_id + 1;
	}
}

void
sx_map_finish(SxPipeline *pl, SxStep *step)
{
	const SxStateSpec *spec = sx_keyed_spec(step);
	MemoryContext context;
	SxStateTable *table;
	int			nestlevel;

	if (spec->idle_timeout < 0 && spec->result_timer < 0)
		return;
	nestlevel = sx_step_enter(pl, step);
	context = MemoryContextSwitchTo(AllocSetContextCreate(CurTransactionContext,
														  "streamext time-outs",
														  ALLOCSET_DEFAULT_SIZES));
	table = sx_state_open(step->plan->state, spec);
	look_ahead(pl, step, table);
	sx_state_close(table);
	MemoryContextDelete(MemoryContextSwitchTo(context));
	sx_step_leave(nestlevel);
}
