/*-------------------------------------------------------------------------
 *
 * keyed.c
 *		What the streams with keyed state share: one run of a step over a batch.
 *
 * A run belongs to one attempt at the batch.  It opens the state table, takes the rows
 * of the step's query one by one, and writes back each key that was touched, once.
 * Nothing of it outlives the attempt, so an attempt that fails leaves nothing behind
 * but what its transaction rolls back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"

#include "fdw/stream.h"
#include "plan/plan_internal.h"
#include "state/keyed.h"
#include "state/state_compact.h"

#define KEY_SHOWN	100			/* bytes of a key in the context of an error */

/*
 * A function's result may be a type of its own, which ALTER TYPE changes: then it does not
 * give what the stream was made for.
 */
static void
check_output(const SxStep *step, const SxStateSpec *spec)
{
	List	   *columns = sx_state_stream_columns(spec);
	TupleDesc	desc = step->output.desc;
	bool		fits = desc->natts == list_length(columns);

	for (int i = 0; fits && i < desc->natts; i++)
		fits = TupleDescAttr(desc, i)->atttypid ==
			list_nth_node(ColumnDef, columns, i)->typeName->typeOid;
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("function %s does not give the columns of stream %s any more",
						format_procedure(spec->function), step->plan->name),
				 errhint("Change its result type back, or drop the stream and create it again.")));
}

void
sx_keyed_open(SxPipeline *pl, SxStep *step)
{
	SxKeyedStep *keyed = palloc0(sizeof(SxKeyedStep));

	sx_rows_open(step);
	keyed->timers_from = DT_NOBEGIN;
	keyed->spec = sx_state_spec(step->plan->strategy, sx_view_query(step->plan->query),
								step->plan->options);
	if (OidIsValid(keyed->spec->function))
		check_output(step, keyed->spec);
	if (step->plan->strategy != SX_STRATEGY_UPDATE_STATE || keyed->spec->changed_only)
		keyed->hints = sx_hints_create();
	step->private = keyed;
}

/* ---------- context of errors ---------- */

static char *
key_text(const SxKeyedRun *run)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < run->spec->nkeys; i++)
	{
		const char *value = run->called_nulls[i] ? "NULL" :
			OutputFunctionCall(&run->key_out[i], run->called_key[i]);

		appendStringInfo(&text, "%s%.*s", i > 0 ? ", " : "",
						 pg_mbcliplen(value, strlen(value), KEY_SHOWN), value);
	}
	return text.data;
}

static void
error_context(void *arg)
{
	SxKeyedRun *run = arg;
	const Datum *key = run->called_key;

	if (key == NULL)
		return;
	errcontext("function %s, called for key (%s) of stream %s",
			   format_procedure(run->spec->function), key_text(run), run->step->plan->name);
}

static void
push_error_context(SxKeyedRun *run)
{
	run->key_out = palloc(sizeof(FmgrInfo) * run->spec->nkeys);
	for (int i = 0; i < run->spec->nkeys; i++)
	{
		Oid			output;
		bool		is_varlena;

		getTypeOutputInfo(sx_spec_column(run->spec, run->spec->keys[i])->typeName->typeOid,
						  &output, &is_varlena);
		fmgr_info(output, &run->key_out[i]);
	}
	run->callback.callback = error_context;
	run->callback.arg = run;
	run->callback.previous = error_context_stack;
	error_context_stack = &run->callback;
}

/* ---------- a run ---------- */

static void
alloc_rows(SxKeyedRun *run)
{
	int			nstate = run->table->desc->natts;
	int			nout = run->step->output.desc->natts;

	run->key = palloc(sizeof(Datum) * run->spec->nkeys);
	run->key_nulls = palloc(sizeof(bool) * run->spec->nkeys);
	run->row = palloc(sizeof(Datum) * nstate);
	run->row_nulls = palloc(sizeof(bool) * nstate);
	run->out = palloc(sizeof(Datum) * nout);
	run->out_nulls = palloc(sizeof(bool) * nout);
}

void
sx_keyed_begin(SxKeyedRun *run, SxPipeline *pl, SxStep *step)
{
	memset(run, 0, sizeof(SxKeyedRun));
	run->pl = pl;
	run->step = step;
	run->spec = sx_keyed_spec(step);
	step->at_record = false;
	run->nestlevel = sx_step_enter(pl, step);
	run->context = AllocSetContextCreate(CurTransactionContext, "streamext keyed state",
										 ALLOCSET_DEFAULT_SIZES);
	run->scratch = AllocSetContextCreate(run->context, "streamext record",
										 ALLOCSET_DEFAULT_SIZES);
	run->states = run->context;
	run->caller = MemoryContextSwitchTo(run->context);
	run->table = sx_state_open(step->plan->state, run->spec);
	run->keys = sx_keys_create(run->spec);
	sx_state_use_hints(run->table, ((SxKeyedStep *) step->private)->hints, run->keys);
	pl->gives_way |= sx_state_compact(run->table, pl);
	if (OidIsValid(run->spec->function))
		run->function = sx_state_function_open(run->spec);
	alloc_rows(run);
	push_error_context(run);
	sx_rows_begin(pl, step);
}

void
sx_keyed_end(SxKeyedRun *run)
{
	error_context_stack = run->callback.previous;
	if (run->function != NULL)
		sx_state_function_close(run->function);
	sx_state_close(run->table);
	run->step->rows = run->emitted;
	sx_step_leave(run->nestlevel);
	MemoryContextSwitchTo(run->caller);
	MemoryContextDelete(run->context);
}

/* ---------- the query's rows ---------- */

/* Its key is that of the record at hand. */
static void
take_row(SxKeyedRun *run, TupleTableSlot *slot)
{
	slot_getallattrs(slot);
	for (int i = 0; i < run->spec->nkeys; i++)
	{
		run->key[i] = slot->tts_values[run->spec->keys[i]];
		run->key_nulls[i] = slot->tts_isnull[run->spec->keys[i]];
	}
}

static void
work_on(SxKeyedRun *run, TupleTableSlot *slot, uint32 hash)
{
	CHECK_FOR_INTERRUPTS();
	MemoryContextReset(run->scratch);
	run->hash = hash;
	run->each(run, slot);
}

/* The rows that wait, in their order. */
static void
work_off(SxKeyedRun *run)
{
	MemoryContext old = MemoryContextSwitchTo(run->scratch);

	sx_state_ahead(run->table, run->hashes, run->nwaiting);
	for (int i = 0; i < run->nwaiting; i++)
	{
		take_row(run, run->waiting[i]);
		work_on(run, run->waiting[i], run->hashes[i]);
		ExecClearTuple(run->waiting[i]);
	}
	run->nwaiting = 0;
	MemoryContextSwitchTo(old);
}

static void
let_wait(SxKeyedRun *run, TupleTableSlot *slot, uint32 hash)
{
	MemoryContext old;
	int			i = run->nwaiting;

	if (run->waiting[i] == NULL)
	{
		old = MemoryContextSwitchTo(run->context);
		run->waiting[i] = MakeSingleTupleTableSlot(CreateTupleDescCopy(slot->tts_tupleDescriptor),
												   &TTSOpsVirtual);
		MemoryContextSwitchTo(old);
	}
	ExecCopySlot(run->waiting[i], slot);
	run->hashes[i] = hash;
	run->nwaiting++;
	if (run->nwaiting == SX_STATE_AHEAD)
		work_off(run);
}

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
	SxKeyedRun *run = (SxKeyedRun *) self;
	MemoryContext old = MemoryContextSwitchTo(run->scratch);
	uint32		hash;

	take_row(run, slot);
	hash = sx_keys_hash(run->keys, run->key, run->key_nulls);
	if (run->waiting != NULL)
		let_wait(run, slot, hash);
	else
		work_on(run, slot, hash);
	MemoryContextSwitchTo(old);
	return true;
}

static void
shutdown(DestReceiver *self)
{
	SxKeyedRun *run = (SxKeyedRun *) self;

	if (run->nwaiting > 0)
		work_off(run);
}

void
sx_keyed_records(SxKeyedRun *run, SxRecordFunc each, bool lookups)
{
	run->each = each;
	sx_receiver_init(&run->dest, receive, NULL, shutdown);
	if (lookups && sx_state_looks_ahead(run->table))
	{
		run->waiting = palloc0(sizeof(TupleTableSlot *) * SX_STATE_AHEAD);
		run->hashes = palloc(sizeof(uint32) * SX_STATE_AHEAD);
	}
	(void) sx_step_select(run->pl, run->step, &run->step->apply, run->step->plan->apply_sql,
						  &run->dest);
	for (int i = 0; run->waiting != NULL && i < SX_STATE_AHEAD; i++)
	{
		if (run->waiting[i] != NULL)
			ExecDropSingleTupleTableSlot(run->waiting[i]);
	}
}

void
sx_keyed_emit(SxKeyedRun *run)
{
	sx_rows_put(run->step, run->out, run->out_nulls);
	run->emitted++;
}

void
sx_keyed_put_key(const SxKeyedRun *run, const Datum *values, const bool *nulls,
				 Datum *row, bool *row_nulls)
{
	memcpy(row, values, sizeof(Datum) * run->spec->nkeys);
	memcpy(row_nulls, nulls, sizeof(bool) * run->spec->nkeys);
}

/* In the context of the key. */
void
sx_keyed_take_key(const SxKeyedRun *run, SxKey *key)
{
	TupleTableSlot *found = run->table->found;

	slot_getallattrs(found);
	key->stored = true;
	key->tid = found->tts_tid;
	for (int i = 0; i < run->spec->nkeys; i++)
	{
		Form_pg_attribute att = TupleDescAttr(run->table->desc, i);

		if (!key->nulls[i] && !datum_image_eq(key->values[i], found->tts_values[i],
											  att->attbyval, att->attlen))
			key->values[i] = datumCopy(found->tts_values[i], att->attbyval, att->attlen);
	}
}

bool
sx_keyed_same_state(const SxKeyedRun *run, Datum a, Datum b)
{
	Form_pg_attribute att = TupleDescAttr(run->table->desc, sx_spec_state_place(run->spec));

	return datum_image_eq(a, b, att->attbyval, att->attlen);
}
