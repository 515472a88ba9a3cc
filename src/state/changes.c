/*-------------------------------------------------------------------------
 *
 * changes.c
 *		What a batch has changed in a state table.
 *
 * A node of a view's plan that stands on another one starts from what the batch has
 * changed there: rows as they were, and rows as they are.  They are the transition
 * tables of statement triggers on the state table, so that every way of writing to it
 * (INSERT … ON CONFLICT, DELETE, UPDATE) is seen, and PostgreSQL does the work.  The
 * rows are copied into tuplestores of the step, which spill to disk beyond work_mem.
 *
 *		streamext.old_rows(NULL::t)		rows of t that were deleted or changed
 *		streamext.new_rows(NULL::t)		rows of t that were added, and after changes
 *		streamext.changed_rows(NULL::t)	both
 *
 * A row that is changed twice is there twice.  Only what the step itself writes counts:
 * rows that retention takes away at the end of a batch are no changes.
 *
 * Tuplestores belong to the (sub)transaction that made them, as those of batch_rows.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "compat.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"

#include "catalog/sx_catalog.h"
#include "plan/plan_internal.h"
#include "state/changes.h"
#include "worker/batch_internal.h"

#define TRIGGER_PREFIX	"streamext_changes_"

PG_FUNCTION_INFO_V1(sx_capture_changes);
PG_FUNCTION_INFO_V1(sx_old_rows);
PG_FUNCTION_INFO_V1(sx_new_rows);
PG_FUNCTION_INFO_V1(sx_changed_rows);

void
sx_changes_open(SxPipeline *pl)
{
	for (int i = 0; i < pl->nsteps; i++)
	{
		ListCell   *lc;

		pl->steps[i].after_closing = pl->steps[i].plan->closed_views != NIL;
		foreach(lc, pl->steps[i].plan->reads)
		{
			SxStep	   *below = sx_find_step(pl, lfirst_oid(lc));

			if (below == NULL || below->plan->kind != SX_STEP_VIEW)
				continue;
			below->captured = true;
			if (below->after_closing)
				pl->steps[i].after_closing = true;
		}
	}
}

void
sx_changes_end(SxStep *step)
{
	if (step->changes.context != NULL)
	{
		tuplestore_end(step->changes.before);
		tuplestore_end(step->changes.after);
		MemoryContextDelete(step->changes.context);
	}
	sx_changes_forget(step);
}

void
sx_changes_forget(SxStep *step)
{
	memset(&step->changes, 0, sizeof(SxChanges));
}

/* ---------- capturing ---------- */

static void
begin_changes(SxChanges *changes)
{
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext old;

	changes->context = AllocSetContextCreate(CurTransactionContext, "streamext changes",
											 ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(changes->context);
	CurrentResourceOwner = CurTransactionResourceOwner;
	changes->before = tuplestore_begin_heap(false, false, work_mem);
	changes->after = tuplestore_begin_heap(false, false, work_mem);
	tuplestore_set_eflags(changes->before, EXEC_FLAG_REWIND);
	tuplestore_set_eflags(changes->after, EXEC_FLAG_REWIND);
	CurrentResourceOwner = owner;
	MemoryContextSwitchTo(old);
}

/* Copies all rows of a tuplestore to another one; from may be NULL. */
static void
copy_rows(Tuplestorestate *from, Tuplestorestate *to, TupleDesc desc)
{
	TupleTableSlot *slot;
	int			pointer;

	if (from == NULL)
		return;
	slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	pointer = tuplestore_alloc_read_pointer(from, EXEC_FLAG_REWIND);
	tuplestore_select_read_pointer(from, pointer);
	tuplestore_rescan(from);
	while (tuplestore_gettupleslot(from, true, false, slot))
		tuplestore_puttupleslot(to, slot);
	ExecDropSingleTupleTableSlot(slot);
}

SxStep *
sx_step_of_state(Oid state)
{
	for (int i = 0; sx_current != NULL && i < sx_current->nsteps; i++)
	{
		SxStep	   *step = &sx_current->steps[i];

		if (step->plan->kind == SX_STEP_VIEW && step->plan->state == state)
			return step;
	}
	return NULL;
}

/* Trigger on a state table, after each statement. */
Datum
sx_capture_changes(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	SxStep	   *step;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("capture_changes() is a trigger")));
	step = sx_step_of_state(RelationGetRelid(data->tg_relation));
	if (step == NULL || !step->captured || sx_current->running_step != step->index)
		return PointerGetDatum(NULL);
	if (step->changes.context == NULL)
		begin_changes(&step->changes);
	copy_rows(data->tg_oldtable, step->changes.before, RelationGetDescr(data->tg_relation));
	copy_rows(data->tg_newtable, step->changes.after, RelationGetDescr(data->tg_relation));
	return PointerGetDatum(NULL);
}

void
sx_changes_note(SxStep *step, TupleTableSlot *before, TupleTableSlot *after)
{
	if (!step->captured)
		return;
	if (step->changes.context == NULL)
		begin_changes(&step->changes);
	if (before != NULL)
		tuplestore_puttupleslot(step->changes.before, before);
	if (after != NULL)
		tuplestore_puttupleslot(step->changes.after, after);
}

bool
sx_changes_triggers_only(Relation state)
{
	for (int i = 0; state->trigdesc != NULL && i < state->trigdesc->numtriggers; i++)
	{
		FmgrInfo	function;

		fmgr_info(state->trigdesc->triggers[i].tgfoid, &function);
		if (function.fn_addr != sx_capture_changes)
			return false;
	}
	return true;
}

static bool
has_trigger(Oid state, const char *name)
{
	Relation	rel = relation_open(state, AccessShareLock);
	bool		found = false;

	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
		found = found || strcmp(rel->trigdesc->triggers[i].tgname, name) == 0;
	relation_close(rel, NoLock);
	return found;
}

void
sx_changes_capture(Oid state)
{
	static const char *const events[][2] = {
		{"insert", "NEW TABLE AS after"},
		{"update", "OLD TABLE AS before NEW TABLE AS after"},
		{"delete", "OLD TABLE AS before"}
	};
	SxTrusted	trusted;

	/* The function is for nobody to put on tables of his own. */
	sx_trusted_begin(&trusted);
	for (int i = 0; i < lengthof(events); i++)
	{
		char	   *name = psprintf(TRIGGER_PREFIX "%s", events[i][0]);

		if (!has_trigger(state, name))
			sx_execute_ddl(psprintf("CREATE TRIGGER %s AFTER %s ON %s REFERENCING %s "
									"FOR EACH STATEMENT EXECUTE FUNCTION streamext.capture_changes()",
									name, events[i][0], sx_qualified_name(state), events[i][1]));
	}
	sx_trusted_end(&trusted);
}

/* ---------- reading ---------- */

static Datum
rows_of_batch(FunctionCallInfo fcinfo, bool before, bool after)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			relid = get_typ_typrelid(get_fn_expr_argtype(fcinfo->flinfo, 0));
	SxStep	   *step;

	sx_init_materialized_srf(fcinfo);
	step = sx_step_of_state(relid);
	if (step == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no batch is running that maintains %s",
						OidIsValid(relid) ? sx_qualified_name(relid) : "that type"),
				 errhint("streamext calls this function; use a stream of changes to see them.")));
	if (step->changes.context != NULL && before)
		copy_rows(step->changes.before, rsinfo->setResult, rsinfo->setDesc);
	if (step->changes.context != NULL && after)
		copy_rows(step->changes.after, rsinfo->setResult, rsinfo->setDesc);
	return (Datum) 0;
}

Datum
sx_old_rows(PG_FUNCTION_ARGS)
{
	return rows_of_batch(fcinfo, true, false);
}

Datum
sx_new_rows(PG_FUNCTION_ARGS)
{
	return rows_of_batch(fcinfo, false, true);
}

Datum
sx_changed_rows(PG_FUNCTION_ARGS)
{
	return rows_of_batch(fcinfo, true, true);
}
