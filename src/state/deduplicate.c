/*-------------------------------------------------------------------------
 *
 * deduplicate.c
 *		The first row of each key goes on, the others are swallowed.
 *
 * The state table has a row for each key that is remembered.  With option "within" it
 * also has the time from which the key is forgotten, expires_at, the event time of its
 * first row plus within: duplicates do not put that off.  The batch at whose end the
 * watermark reaches it removes the key, so a row of the next batch is a first one again.
 * Rows that are late, and those without a time, are dropped and counted: what has been
 * forgotten could not be told from what was never there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "miscadmin.h"
#include "utils/date.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "state/keyed.h"

/* Event times of all three types in one, as the watermark has them. */
static TimestampTz
time_of(const SxStateSpec *spec, Datum value)
{
	if (spec->event_time_type == DATEOID)
	{
		DateADT		date = DatumGetDateADT(value);

		if (DATE_IS_NOBEGIN(date))
			return DT_NOBEGIN;
		/* dates go on where timestamps have ended, infinity being the last of them */
		if (date >= TIMESTAMP_END_JULIAN - POSTGRES_EPOCH_JDATE)
			return DT_NOEND;
		return (TimestampTz) date * USECS_PER_DAY;
	}
	return DatumGetTimestampTz(value);
}

/* When a key is forgotten that came at a time: never, where there are no such times. */
static TimestampTz
expiry_of(TimestampTz time, int64 within)
{
	TimestampTz expires;

	if (TIMESTAMP_NOT_FINITE(time))
		return time;
	if (pg_add_s64_overflow(time, within, &expires) || expires >= END_TIMESTAMP)
		return DT_NOEND;
	return expires;
}

/* Is the row to be considered at all?  *time: its time. */
static bool
accept(SxKeyedRun *run, TupleTableSlot *slot, TimestampTz *time)
{
	const SxStateSpec *spec = run->spec;
	SxStep	   *step = run->step;

	if (spec->within < 0)
		return true;
	if (slot->tts_isnull[spec->event_time])
	{
		step->null_time_rows++;
		return false;
	}
	*time = time_of(spec, slot->tts_values[spec->event_time]);
	if (step->watermark != DT_NOBEGIN && *time <= step->watermark)
	{
		step->late_rows++;
		return false;
	}
	return true;
}

static void
one_record(SxKeyedRun *run, TupleTableSlot *slot)
{
	TimestampTz time = 0;
	bool		is_new;
	SxKey	   *key;
	int			natts = run->step->output.desc->natts;

	if (!accept(run, slot, &time))
		return;
	key = sx_keys_get(run->keys, run->hash, run->key, run->key_nulls, &is_new);
	if (!is_new)
		return;
	key->stored = sx_state_find(run->table, key);
	if (key->stored)
		return;
	key->expires = expiry_of(time, run->spec->within);
	memcpy(run->out, slot->tts_values, sizeof(Datum) * natts);
	memcpy(run->out_nulls, slot->tts_isnull, sizeof(bool) * natts);
	sx_keyed_emit(run);
}

static void
write_keys(SxKeyedRun *run)
{
	int			expires = sx_spec_expires_place(run->spec);

	for (int i = 0; i < sx_keys_count(run->keys); i++)
	{
		SxKey	   *key = sx_keys_nth(run->keys, i);

		if (key->stored)
			continue;
		MemoryContextReset(run->scratch);
		sx_keyed_put_key(run, key->values, key->nulls, run->row, run->row_nulls);
		if (run->spec->within >= 0)
		{
			run->row[expires] = TimestampTzGetDatum(key->expires);
			run->row_nulls[expires] = false;
		}
		sx_state_insert(run->table, run->row, run->row_nulls);
		sx_state_remember(run->table, key->hash);
	}
}

static void
apply(SxPipeline *pl, SxStep *step)
{
	SxKeyedRun	run;

	sx_keyed_begin(&run, pl, step);
	sx_keyed_records(&run, one_record, true);
	if (!pl->must_restart)
	{
		MemoryContextSwitchTo(run.scratch);
		write_keys(&run);
		MemoryContextSwitchTo(run.context);
	}
	sx_keyed_end(&run);
}

/*
 * The watermark has moved: forgets the keys that it has passed.  None is left from before,
 * and no row above the last watermark expires below it.
 */
static void
finish(SxPipeline *pl, SxStep *step)
{
	const SxStateSpec *spec = sx_keyed_spec(step);
	MemoryContext context;
	SxStateTable *table;
	TupleTableSlot *slot;
	Tuplesortstate *due;
	int			nestlevel;

	if (spec->within < 0 || step->new_watermark == step->watermark)
		return;
	nestlevel = sx_step_enter(pl, step);
	context = MemoryContextSwitchTo(AllocSetContextCreate(CurTransactionContext,
														  "streamext expiry",
														  ALLOCSET_DEFAULT_SIZES));
	table = sx_state_open(step->plan->state, spec);
	due = sx_state_due(table, sx_spec_expires_place(spec) + 1, step->watermark,
					   step->new_watermark, &slot);
	while (tuplesort_gettupleslot(due, true, false, slot, NULL))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		sx_state_delete(table, (ItemPointer) DatumGetPointer(slot->tts_values[table->desc->natts]));
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplesort_end(due);
	sx_state_close(table);
	MemoryContextDelete(MemoryContextSwitchTo(context));
	sx_step_leave(nestlevel);
}

const SxStepOps sx_deduplicate_ops = {
	.open = sx_keyed_open,
	.apply = apply,
	.finish = finish
};
