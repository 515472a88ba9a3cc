/*-------------------------------------------------------------------------
 *
 * batch_bisect.c
 *		Which records make a step fail?
 *
 * The step is run on parts of the batch, in subtransactions that are always rolled back.
 *
 *	suspect		Mostly a step fails while it is at the record that a scan has handed out
 *				last.  That one is tried alone; when it fails, it is found, and the
 *				records behind it are tried: two statements a bad record, and each
 *				record is read about once.
 *	halves		Where the suspect is innocent (the rows were sorted first, say), the part
 *				is halved until the bad ones are alone: O(bad · log n) statements.
 *	one by one	When halving has found many, trying each record costs less.
 *
 * A probe that writes takes a transaction id, so their number is bounded in this way, and
 * by max_errors.
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
#include "fdw/shared.h"
#include "fdw/track.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "worker/batch_internal.h"
#include "worker/errors_class.h"

#define FEW_FAILURES	10		/* beyond this, when many are bad: one by one */
#define MANY			8		/* one in so many */
#define WRONG_SUSPECTS	3		/* no more of them after so many */

typedef struct Search
{
	SxPipeline *pl;
	SxStep	   *step;
	int			found;
	ErrorData  *error;			/* of the last probe that failed */
	int			suspect;		/* … and the record that it was at, -1: none */
	int			wrong;			/* suspects that were innocent */
	int			halved;			/* records found by halving */
} Search;

static void search_range(Search *search, int from, int to);

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

/* The record that a scan has handed out last, as an ordinal of all inputs. */
static int
last_read(const SxPipeline *pl)
{
	int			ordinal = pl->read_record;

	if (pl->read_input < 0)
		return -1;
	for (int i = 0; i < pl->read_input; i++)
		ordinal += pl->inputs[i].source->nrecords;
	return ordinal;
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
	pl->read_input = -1;
	PG_TRY();
	{
		sx_step_arm(pl);
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
	sx_step_disarm();
	pl->probing = pl->timing_out = pl->feeding = false;
	search->suspect = last_read(pl);
	RollbackAndReleaseCurrentSubTransaction();
	sx_rows_forget_all(pl);
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	pl->running_step = pl->decoding_input = -1;

	if (!passed && (pl->record_named ||
					!sx_is_records_fault(pl, search->step->index, search->error)))
		sx_tx_rethrow(search->error);
	return passed;
}

/*
 * Streams that keep state and that the step stands on go without the record too: they
 * cannot be evaluated once with it and once without.  Collects them.
 */
static void
leave_out_of_state(SxPipeline *pl, const SxStep *step, SxInput *input, int record,
				   Bitmapset **left_out)
{
	ListCell   *lc;

	foreach(lc, step->plan->reads)
	{
		SxStep	   *stream = sx_find_step(pl, lfirst_oid(lc));

		if (stream == NULL)
			continue;
		if (!stream->plan->stateless && !sx_input_is_bad(input, record, stream->index))
		{
			MemoryContext old = MemoryContextSwitchTo(pl->batch_context);

			*left_out = bms_add_member(*left_out, stream->index);
			MemoryContextSwitchTo(old);
			sx_leave_out(pl, input, record, stream->index);
		}
		leave_out_of_state(pl, stream, input, record, left_out);
	}
}

static void
blame(Search *search, int ordinal)
{
	SxPipeline *pl = search->pl;
	Bitmapset  *left_out = NULL;
	int			i = 0;

	while (ordinal >= pl->inputs[i].source->nrecords)
		ordinal -= pl->inputs[i++].source->nrecords;
	leave_out_of_state(pl, search->step, &pl->inputs[i], ordinal, &left_out);
	if (!sx_batch_bad_record(pl, &pl->inputs[i], ordinal, search->step->index,
							 search->error->sqlerrcode, search->error->message))
		return;
	((SxDeadRecord *) llast(pl->dead))->left_out = left_out;
	search->found++;
}

static bool
enough(const Search *search)
{
	return search->pl->replay == NULL && search->found > search->pl->max_errors;
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
halve(Search *search, int from, int to)
{
	int			middle = from + (to - from) / 2;
	bool		conflict = violates_constraint(search);

	if (to - from == 1)
	{
		search->halved++;
		blame(search, from);
		return;
	}
	if (search->halved >= FEW_FAILURES && search->halved > from / MANY)
		try_each(search, from, to);
	else
	{
		if (!probe(search, from, middle))
			search_range(search, from, middle);
		if (!enough(search) && !probe(search, middle, to))
			search_range(search, middle, to);
	}
	if (conflict)
		find_conflicts(search, from, to);
}

/* Is the record that the failed probe of [from, to) was at bad by itself? */
static bool
suspect_fails(Search *search, int from, int to)
{
	int			suspect = search->suspect;
	ErrorData  *error = search->error;

	if (suspect < from || suspect >= to || search->wrong >= WRONG_SUSPECTS)
		return false;
	if (to - from == 1 || !probe(search, suspect, suspect + 1))
	{
		search->suspect = suspect;
		return true;
	}
	search->error = error;
	search->wrong += violates_constraint(search) ? 0 : 1;
	return false;
}

/*
 * [from, to) is known to fail, with search->error.  What stands before a suspect that is
 * found to be bad has passed, as far as can be told: if not, the next attempt shows it.
 */
static void
search_range(Search *search, int from, int to)
{
	do
	{
		int			suspect;

		if (!suspect_fails(search, from, to))
		{
			halve(search, from, to);
			return;
		}
		suspect = search->suspect;
		blame(search, suspect);
		from = suspect + 1;
	} while (!enough(search) && from < to && !probe(search, from, to));
}

/*
 * A window or state that a step stands on may make it fail whatever this batch brings: then
 * no record of this batch is to blame.
 */
static bool
fails_without_records(Search *search)
{
	ErrorData  *error = search->error;
	int			suspect = search->suspect;
	bool		passes = true;
	ListCell   *lc;

	foreach(lc, search->step->plan->reads)
	{
		SxStep	   *stream = sx_find_step(search->pl, lfirst_oid(lc));

		if (passes && stream != NULL && !stream->plan->stateless)
			passes = probe(search, 0, 0);
	}
	if (passes && search->error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		passes = probe(search, 0, 0);
	search->error = error;
	search->suspect = suspect;
	return !passes;
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
		search_range(search, 0, n);
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
		sx_step_disarm();
		sx_current = NULL;
		pl->snapshot = NULL;
	}
	PG_END_TRY();

	sx_sharing_end(pl);

	/* Whoever catches the error must find no subtransaction of ours open. */
	sx_tx_abort(&tx);
	if (edata != NULL)
		sx_tx_rethrow(edata);
	return search.found;
}
