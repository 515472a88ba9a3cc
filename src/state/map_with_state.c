/*-------------------------------------------------------------------------
 *
 * map_with_state.c
 *		A function is called for each record with the state of its key.
 *
 * In a batch, one after the other:
 *
 *	1. Each record, in order of arrival: its key is looked up, in what the batch has
 *	   touched so far or else in the state table, and the function is called with the
 *	   key's state.  The state of the row that it gives (of a set, of the last row)
 *	   becomes the key's; NULL removes the key.  The other columns are a row of the
 *	   stream, unless all of them are NULL.  An empty set changes nothing.
 *	2. The keys touched are written.
 *	3. Keys whose timer the watermark has reached (event_timer): the timer is cleared and
 *	   the function called with NULL for the record.  It may set the timer again, which is
 *	   looked at in the next batch.
 *	4. Keys that have been idle for idle_timeout: likewise, and then they are removed.
 *	   Keys of this batch's records are not among them, as writing them has made them
 *	   young; a call for a timer does not.
 *
 * A record for which the function fails becomes a dead letter, and its key's state is
 * as before it.  What a function says of a record depends on those before it, so bad
 * ones cannot be found by bisecting.  Where rows are traced to records (arrival.c), the
 * batch is tried again with each call in a subtransaction of its own.  Calls for no
 * record have none to blame, and stop the pipeline.
 *
 * initial_state: updated_at is NULL until the first batch has ended.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fdw/ordinal.h"
#include "fdw/track.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "state/map_with_state.h"
#include "worker/errors_class.h"

#define WRITES_AHEAD	8			/* keys */

typedef struct MapRun
{
	SxKeyedRun	base;			/* must be first */
	SxInput    *input;			/* of the record at hand, when rows are traced */
	int			record;
	Bitmapset **called;			/* careful: by input, records that had their effect */
	bool		spoilt;			/* careful: a bad record has had some, too */
} MapRun;

/* ---------- what a call gives ---------- */

/* Fills run->out with the columns but the state; false: there is nothing to emit. */
static bool
fill_output(SxKeyedRun *run, const Datum *values, const bool *nulls)
{
	const SxStateSpec *spec = run->spec;
	bool		any = false;
	int			n = 0;

	for (int i = 0; i < spec->result->natts; i++)
	{
		if (i == spec->result_state || TupleDescAttr(spec->result, i)->attisdropped)
			continue;
		run->out[n] = values[i];
		run->out_nulls[n++] = nulls[i];
		any |= !nulls[i] && i != spec->result_timer;
	}
	return any;
}

/* The state is copied: the next call forgets it. */
static void
take_state(SxKeyedRun *run, SxKey *key, Datum value, bool isnull)
{
	Form_pg_attribute att = TupleDescAttr(run->table->desc, sx_spec_state_place(run->spec));
	Datum		old = key->state;
	bool		ours = !att->attbyval && !key->state_null &&
		!(key->stored && old == key->stored_state);

	if (isnull)
		key->state = (Datum) 0;
	else
	{
		MemoryContext context = MemoryContextSwitchTo(run->states);

		key->state = datumCopy(value, att->attbyval, att->attlen);
		MemoryContextSwitchTo(context);
	}
	key->state_null = isnull;
	if (ours)
		pfree(DatumGetPointer(old));
}

static void
take_timer(SxKeyedRun *run, SxKey *key, const Datum *values, const bool *nulls)
{
	int			i = run->spec->result_timer;

	if (i < 0 || (nulls[i] && !key->state_null))
		return;
	key->has_timer = !nulls[i] && !key->state_null;
	key->timer = key->has_timer ? DatumGetTimestampTz(values[i]) : 0;
	key->timer_changed = true;
}

/* Calls the function, whose arguments are set, and takes what it gives. */
void
sx_map_call(SxKeyedRun *run, SxKey *key, bool keep)
{
	int			place = run->spec->result_state;
	Datum	   *values;
	bool	   *nulls;

	run->called_key = run->key;
	run->called_nulls = run->key_nulls;
	sx_state_function_set(run->function, 0, key->state, key->state_null);
	sx_state_function_call(run->function);
	run->called_key = NULL;
	while (sx_state_function_next(run->function, &values, &nulls))
	{
		if (fill_output(run, values, nulls))
			sx_keyed_emit(run);
		if (keep)
		{
			take_state(run, key, values[place], nulls[place]);
			take_timer(run, key, values, nulls);
		}
	}
}

/* ---------- records ---------- */

static void
load_key(SxKeyedRun *run, SxKey *key)
{
	const SxStateSpec *spec = run->spec;
	int			state = sx_spec_state_place(spec);
	Form_pg_attribute att = TupleDescAttr(run->table->desc, state);
	MemoryContext old;

	if (!sx_state_find(run->table, key))
		return;
	slot_getallattrs(run->table->found);
	old = MemoryContextSwitchTo(run->context);
	sx_keyed_take_key(run, key);
	key->state_null = run->table->found->tts_isnull[state];
	if (!key->state_null)
		key->state = datumCopy(run->table->found->tts_values[state], att->attbyval, att->attlen);
	key->stored_state = key->state;
	if (spec->result_timer >= 0 && !run->table->found->tts_isnull[sx_spec_timer_place(spec)])
	{
		key->has_timer = true;
		key->timer = DatumGetTimestampTz(run->table->found->tts_values[sx_spec_timer_place(spec)]);
	}
	MemoryContextSwitchTo(old);
}

void
sx_map_set_arguments(SxKeyedRun *run, TupleTableSlot *slot)
{
	int			arg = 1;

	for (int i = 0; i < run->spec->nkeys; i++)
		sx_state_function_set(run->function, arg++, run->key[i], run->key_nulls[i]);
	for (int i = 0; i < run->spec->nvalues; i++)
	{
		int			place = run->spec->values[i];

		sx_state_function_set(run->function, arg++,
							  slot == NULL ? (Datum) 0 : slot->tts_values[place],
							  slot == NULL || slot->tts_isnull[place]);
	}
}

/* The record fails: it is out of the step, and a dead letter. */
static void
set_aside(MapRun *run, ErrorData *error)
{
	SxPipeline *pl = run->base.pl;
	int			input = run->input->index;

	sx_state_function_recover(run->base.function);
	if (!sx_is_records_fault(pl, run->base.step->index, error))
		sx_tx_rethrow(error);
	if (pl->probing)
		return;
	(void) sx_batch_bad_record(pl, run->input, run->record, run->base.step->index,
							   error->sqlerrcode, error->message);

	/* An earlier row of the record has changed a state: only a new attempt mends that. */
	if (bms_is_member(run->record, run->called[input]))
		pl->must_restart = run->spoilt = true;
}

static void
call_carefully(MapRun *run, SxKey *key)
{
	SxKeyedRun *base = &run->base;
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction("streamext_record");
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		sx_step_arm(base->pl);
		sx_map_call(base, key, true);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		base->called_key = NULL;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	sx_step_disarm();

	if (error != NULL)
		set_aside(run, error);
	else
	{
		MemoryContextSwitchTo(base->context);
		run->called[run->input->index] = bms_add_member(run->called[run->input->index], run->record);
		MemoryContextSwitchTo(context);
	}
}

/* The record that a row comes from; false when rows are not traced. */
static bool
trace(MapRun *run, TupleTableSlot *slot)
{
	SxPipeline *pl = run->base.pl;
	int			n = list_length(run->base.spec->columns);
	Oid			stream;

	if (slot->tts_tupleDescriptor->natts == n)
		return false;
	stream = DatumGetObjectId(slot->tts_values[n]);
	run->record = sx_tid_to_ordinal((ItemPointer) DatumGetPointer(slot->tts_values[n + 1]));
	for (int i = 0; i < pl->ninputs; i++)
	{
		if (pl->inputs[i].source->stream->relid != stream)
			continue;
		run->input = &pl->inputs[i];
		return true;
	}
	return false;
}

static void
one_record(SxKeyedRun *base, TupleTableSlot *slot)
{
	MapRun	   *run = (MapRun *) base;
	SxPipeline *pl = base->pl;
	SxStep	   *step = base->step;
	bool		traced = trace(run, slot);
	bool		is_new;
	SxKey	   *key;

	if (run->spoilt ||
		(traced && sx_input_is_bad(run->input, run->record, step->index)))
		return;
	key = sx_keys_get(base->keys, base->hash, base->key, base->key_nulls, &is_new);
	if (is_new)
		load_key(base, key);
	sx_map_set_arguments(base, slot);
	if (traced && (step->careful || pl->probing))
		call_carefully(run, key);
	else
	{
		step->at_record = traced;
		sx_map_call(base, key, true);
		step->at_record = false;
	}
}

/* ---------- writing ---------- */

void
sx_map_fill_row(SxKeyedRun *run, Datum state, bool has_updated, TimestampTz updated,
		 bool has_timer, TimestampTz timer)
{
	const SxStateSpec *spec = run->spec;

	run->row[sx_spec_state_place(spec)] = state;
	run->row_nulls[sx_spec_state_place(spec)] = false;
	run->row[sx_spec_updated_place(spec)] = TimestampTzGetDatum(updated);
	run->row_nulls[sx_spec_updated_place(spec)] = !has_updated;
	if (spec->result_timer < 0)
		return;
	run->row[sx_spec_timer_place(spec)] = TimestampTzGetDatum(timer);
	run->row_nulls[sx_spec_timer_place(spec)] = !has_timer;
}

/* See SxKeyedStep. */
void
sx_map_note_timer(SxKeyedRun *run, TimestampTz timer)
{
	SxKeyedStep *keyed = run->step->private;

	keyed->batch_from = Min(keyed->batch_from, timer);
}

/*
 * A state that is as it was is written for its age alone, where that counts, and then as
 * it stands in the table: what is in TOAST stays there.
 */
static void
write_key(SxKeyedRun *run, SxKey *key)
{
	bool		same;

	MemoryContextReset(run->scratch);
	if (key->state_null)
	{
		if (key->stored)
			sx_state_delete(run->table, &key->tid);
		return;
	}
	same = key->stored && sx_keyed_same_state(run, key->state, key->stored_state);
	if (same && run->spec->idle_timeout < 0 && !key->timer_changed)
		return;
	if (key->has_timer)
		sx_map_note_timer(run, key->timer);
	sx_keyed_put_key(run, key->values, key->nulls, run->row, run->row_nulls);
	sx_map_fill_row(run, same ? key->stored_state : key->state, true, run->pl->time,
			 key->has_timer, key->timer);
	if (key->stored)
		sx_state_update(run->table, &key->tid, run->row, run->row_nulls);
	else
		sx_state_insert(run->table, run->row, run->row_nulls);
	sx_state_remember(run->table, key->hash);
}

/* The key at i is about to be written, the others follow. */
static void
look_ahead(const SxKeyedRun *run, int i)
{
	int			soon = i + WRITES_AHEAD;
	int			later = i + 2 * WRITES_AHEAD;
	const SxKey *key;

	if (soon >= sx_keys_count(run->keys))
		return;
	key = sx_keys_nth(run->keys, soon);
	if (key->stored)
		sx_state_ahead_version(run->table, &key->tid);
	if (later >= sx_keys_count(run->keys))
		return;
	key = sx_keys_nth(run->keys, later);
	if (key->stored)
		sx_state_ahead_write(run->table, key->hash, &key->tid);
}

static void
write_keys(SxKeyedRun *run)
{
	MemoryContext old = MemoryContextSwitchTo(run->scratch);
	bool		ahead = sx_state_looks_ahead(run->table);

	for (int i = 0; i < sx_keys_count(run->keys); i++)
	{
		if (ahead)
			look_ahead(run, i);
		write_key(run, sx_keys_nth(run->keys, i));
	}
	MemoryContextSwitchTo(old);
	if (sx_keys_count(run->keys) > 0)
		sx_state_see_writes(run->table);
}

static void
begin_timers(SxPipeline *pl, SxKeyedStep *keyed)
{
	if (keyed->next_batch != 0 && pl->batch_id >= keyed->next_batch)
		keyed->timers_from = keyed->next_from;
	keyed->next_batch = 0;
	keyed->batch_from = keyed->timers_from;
}

static void
apply(SxPipeline *pl, SxStep *step)
{
	MapRun		run = {0};
	SxKeyedRun *base = &run.base;
	const SxStateSpec *spec = sx_keyed_spec(step);

	sx_keyed_begin(base, pl, step);
	begin_timers(pl, step->private);
	run.called = palloc0(sizeof(Bitmapset *) * Max(pl->ninputs, 1));
	if (step->due)
		sx_keyed_records(base, one_record, true);
	step->due |= spec->idle_timeout >= 0 || spec->result_timer >= 0;
	if (!pl->must_restart)
		write_keys(base);
	if (!pl->must_restart && !pl->probing && !TIMESTAMP_NOT_FINITE(pl->time))
		sx_map_call_due(base);
	sx_keyed_end(base);
}

static void
open_map(SxPipeline *pl, SxStep *step)
{
	const SxStateSpec *spec;
	SxStateTable *table;

	sx_keyed_open(pl, step);
	spec = sx_keyed_spec(step);
	if (spec->idle_timeout < 0)
		return;
	PushActiveSnapshot(GetTransactionSnapshot());
	table = sx_state_open(step->plan->state, spec);
	step->timer = step->new_timer = sx_map_next_timeout(table, spec, DT_NOBEGIN);
	sx_state_close(table);
	PopActiveSnapshot();
}

const SxStepOps sx_map_with_state_ops = {
	.open = open_map,
	.apply = apply,
	.finish = sx_map_finish,
	.always = true
};
