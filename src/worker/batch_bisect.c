/*-------------------------------------------------------------------------
 *
 * batch_bisect.c
 *		Which records make a step fail?
 *
 * The step is run on halves of the batch, each in a subtransaction that is always
 * rolled back, until the bad records are alone: O(bad · log n) statements.  When many
 * are bad, halving costs more than trying each record, so after a few findings the
 * rest of a range is tried one by one.
 *
 * The records of all sources make one row of ordinals.  A range of it that fails
 * although both halves pass is nobody's fault but the step's, with one exception: of
 * two records that no constraint lets in together, as two of one unique key, the later
 * one is to blame, just as if they had come in two batches.
 *
 * Each finding counts for the circuit breaker, and beyond it there is nothing more to
 * find.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fdw/track.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "worker/batch_internal.h"
#include "worker/errors_class.h"

#define FEW_FAILURES	10		/* beyond this: one by one */

typedef struct Search
{
	SxPipeline *pl;
	SxStep	   *step;
	int			found;
	ErrorData  *error;			/* of the last probe that failed */
} Search;

/* Makes only the ordinals [from, to) of all inputs visible. */
static void
show_range(SxPipeline *pl, int from, int to)
{
	int			base = 0;

	for (int i = 0; i < pl->ninputs; i++)
	{
		SxInput    *input = &pl->inputs[i];
		int			n = input->source->nrecords;

		input->probe_from = Min(Max(from - base, 0), n);
		input->probe_to = Min(Max(to - base, 0), n);
		base += n;
	}
}

/* Does the step pass on this range?  Whatever it did is rolled back. */
static bool
probe(Search *search, int from, int to)
{
	SxPipeline *pl = search->pl;
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool passed = true;

	CHECK_FOR_INTERRUPTS();
	show_range(pl, from, to);
	BeginInternalSubTransaction("streamext_probe");
	pl->probing = true;
	PG_TRY();
	{
		sx_step_apply_alone(pl, search->step);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(pl->batch_context);
		search->error = CopyErrorData();
		FlushErrorState();
		passed = false;
	}
	PG_END_TRY();
	pl->probing = pl->timing_out = false;
	RollbackAndReleaseCurrentSubTransaction();
	sx_rows_forget_all(pl);
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	pl->running_step = pl->decoding_input = -1;

	if (!passed && (pl->record_named ||
					sx_error_class(search->error->sqlerrcode) != SX_ERR_RECORD))
		sx_tx_rethrow(search->error);
	return passed;
}

/*
 * Streams that keep state and that the step stands on go without the record too: they
 * cannot be evaluated once with it and once without.
 */
static void
leave_out_of_state(SxPipeline *pl, const SxStep *step, SxInput *input, int record)
{
	ListCell   *lc;

	foreach(lc, step->plan->reads)
	{
		SxStep	   *stream = sx_find_step(pl, lfirst_oid(lc));

		if (stream == NULL)
			continue;
		if (!stream->plan->stateless)
			sx_leave_out(pl, input, record, stream->index);
		leave_out_of_state(pl, stream, input, record);
	}
}

static void
blame(Search *search, int ordinal)
{
	SxPipeline *pl = search->pl;
	int			i = 0;

	while (ordinal >= pl->inputs[i].source->nrecords)
		ordinal -= pl->inputs[i++].source->nrecords;
	leave_out_of_state(pl, search->step, &pl->inputs[i], ordinal);
	if (sx_batch_bad_record(pl, &pl->inputs[i], ordinal, search->step->index,
							search->error->sqlerrcode, search->error->message))
		search->found++;
}

static bool
enough(const Search *search)
{
	return search->found > search->pl->max_errors;
}

static void
try_each(Search *search, int from, int to)
{
	for (int i = from; i < to && !enough(search); i++)
	{
		if (!probe(search, i, i + 1))
			blame(search, i);
	}
}

static bool
violates_constraint(const Search *search)
{
	return ERRCODE_TO_CATEGORY(search->error->sqlerrcode) ==
		ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION;
}

/*
 * [from, to) may still violate a constraint, though no record does so alone: blames
 * each that does not go with those before it.
 */
static void
find_conflicts(Search *search, int from, int to)
{
	int			found = -1;

	while (!enough(search) && search->found > found &&
		   !probe(search, from, to) && violates_constraint(search))
	{
		int			good = from + 1;	/* [from, good) passes */
		int			bad = to;	/* [from, bad) fails */

		while (bad - good > 1)
		{
			int			middle = good + (bad - good) / 2;

			if (probe(search, from, middle))
				good = middle;
			else
				bad = middle;
		}
		found = search->found;
		blame(search, bad - 1);
	}
}

/* [from, to) is known to fail, with search->error. */
static void
bisect(Search *search, int from, int to)
{
	int			middle = from + (to - from) / 2;
	bool		conflict = violates_constraint(search);

	if (enough(search))
		return;
	if (to - from == 1)
	{
		blame(search, from);
		return;
	}
	if (search->found >= FEW_FAILURES)
		try_each(search, from, to);
	else
	{
		if (!probe(search, from, middle))
			bisect(search, from, middle);
		if (!probe(search, middle, to))
			bisect(search, middle, to);
	}
	if (conflict)
		find_conflicts(search, from, to);
}

/*
 * A window or state that a step stands on may make it fail whatever this batch brings: then
 * no record of this batch is to blame.
 */
static bool
fails_without_records(Search *search)
{
	ListCell   *lc;

	foreach(lc, search->step->plan->reads)
	{
		SxStep	   *stream = sx_find_step(search->pl, lfirst_oid(lc));

		if (stream != NULL && !stream->plan->stateless)
			return !probe(search, 0, 0);
	}
	return false;
}

static void
search_batch(Search *search)
{
	SxPipeline *pl = search->pl;
	int			n = 0;

	pl->snapshot = RegisterSnapshot(GetTransactionSnapshot());
	PushActiveSnapshot(pl->snapshot);
	sx_current = pl;
	sx_load_inputs(pl);
	for (int i = 0; i < pl->ninputs; i++)
		n += pl->inputs[i].source->nrecords;
	if (n > 0 && !probe(search, 0, n) && !fails_without_records(search))
		bisect(search, 0, n);
	sx_current = NULL;
	PopActiveSnapshot();
	UnregisterSnapshot(pl->snapshot);
	pl->snapshot = NULL;
}

int
sx_find_bad_records(SxPipeline *pl, int step, bool own_transaction)
{
	Search		search = {.pl = pl,.step = &pl->steps[step]};
	ErrorData  *volatile edata = NULL;
	SxBatchTx	tx;

	sx_tx_begin(&tx, pl, own_transaction);
	PG_TRY();
	{
		search_batch(&search);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(pl->batch_context);
		edata = CopyErrorData();
		FlushErrorState();
		sx_current = NULL;
		pl->snapshot = NULL;
	}
	PG_END_TRY();

	/* Whoever catches the error must find no subtransaction of ours open. */
	sx_tx_abort(&tx);
	if (edata != NULL)
		sx_tx_rethrow(edata);
	return search.found;
}
