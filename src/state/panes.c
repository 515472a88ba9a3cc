/*-------------------------------------------------------------------------
 *
 * panes.c
 *		Panes of an aggregate over a windowed stream: see plan/panes.c.
 *
 * In batch n, the panes of level 0 get the partial aggregates of batch n, and every larger
 * pane that ends with n is merged out of its two halves: one of level 1 in every second
 * batch, one of level 2 in every fourth, …  When the window lets go of batches, panes that
 * begin with one of them go, too: they can never again lie within a window.
 *
 * Panes follow from the rows that the window keeps, so they can be made good at any time.
 * That is done at the first batch of a process, and after each attempt at a batch that was
 * rolled back: what is behind the last pane of level 0 is aggregated again, batch by batch,
 * and larger panes that reach behind it are made anew.  So a consumer that comes late, or
 * did not run for a while, has the whole window.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "compat.h"
#include "state/arrival_window.h"
#include "state/panes.h"

#define MAX_LEVEL	30

PG_FUNCTION_INFO_V1(sx_pane_cover);

/* The largest panes that a window can hold; of windows in time that is not known. */
static int
max_level(const SxWindowSpec *spec)
{
	int			level = 0;

	while (level < MAX_LEVEL && (!spec->batches || INT64CONST(2) << level <= spec->length))
		level++;
	return level;
}

static int64
run(SxPipeline *pl, SxStep *step, SxOwnPlan plan, const char *sql, int nargs, Datum *values)
{
	Oid			types[] = {INT8OID, INT8OID, INT8OID};

	return sx_step_execute(pl, step, &step->own[plan], sql, nargs, types, values);
}

/* Partial aggregates of the batches after one, up to another. */
static void
add(SxPipeline *pl, SxStep *step, int64 after, int64 upto)
{
	Datum		values[] = {Int64GetDatum(after), Int64GetDatum(upto)};

	(void) run(pl, step, SX_OWN_PANE_ADD, step->plan->panes->add_sql, 2, values);
}

/*
 * Panes that end with one of these batches, from level 1 on.  Those that begin with a batch
 * that is gone are of no use.
 */
static void
merge(SxPipeline *pl, SxStep *step, int levels, int64 after, int64 upto)
{
	for (int level = 1; level <= levels; level++)
	{
		int64		gone = step->panes_trimmed < 0 ? -1 : step->panes_trimmed >> level;
		int64		first = Max((after + 1) >> level, gone + 1);
		int64		last = ((upto + 1) >> level) - 1;
		Datum		values[] = {
			Int64GetDatum(level), Int64GetDatum(first * 2), Int64GetDatum(last * 2 + 1)
		};

		if (first > last)
			break;
		(void) run(pl, step, SX_OWN_PANE_MERGE, step->plan->panes->merge_sql, 3, values);
	}
}

/* Panes that begin with a batch up to this one. */
static void
trim(SxPipeline *pl, SxStep *step, int levels, int64 upto)
{
	for (int level = 0; level <= levels; level++)
	{
		int64		before = step->panes_trimmed < 0 ? -1 : step->panes_trimmed >> level;
		Datum		values[] = {
			Int64GetDatum(level), Int64GetDatum(before), Int64GetDatum(upto >> level)
		};

		if (before == upto >> level)
			break;
		(void) run(pl, step, SX_OWN_PANE_TRIM, step->plan->panes->trim_sql, 3, values);
	}
	step->panes_trimmed = upto;
}

/* After what batch must panes be made?  Takes away what would be made twice. */
static int64
make_good(SxPipeline *pl, SxStep *step)
{
	int64		last = sx_step_execute(pl, step, &step->own[SX_OWN_PANE_LAST],
									   step->plan->panes->last_sql, 0, NULL, NULL);
	Datum		values[] = {Int64GetDatum(last)};

	(void) run(pl, step, SX_OWN_PANE_FORGET, step->plan->panes->forget_sql, 1, values);
	step->panes_trimmed = -1;
	return last;
}

void
sx_panes_advance(SxPipeline *pl, SxStep *step)
{
	SxStep	   *window = sx_find_step(pl, step->plan->panes->window);
	int			levels = max_level(window->plan->window);
	int64		id = pl->batch_id + 1;
	int64		gone = sx_window_trimmed(pl, window);
	int			nestlevel = sx_prefer_index();
	int64		after;

	pl->running_step = step->index;
	after = step->panes_upto == id - 1 ? id - 1 : make_good(pl, step);
	if (after < id)
	{
		add(pl, step, after, id);
		merge(pl, step, levels, after, id);
	}
	if (gone > 0)
		trim(pl, step, levels, gone);
	step->panes_upto = id;
	pl->running_step = -1;
	AtEOXact_GUC(false, nestlevel);
}

/*
 * pane_cover(windowed stream): the panes that make up the window which fires in this batch,
 * from the oldest on.
 */
Datum
sx_pane_cover(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	SxStep	   *window = sx_current == NULL ? NULL : sx_find_step(sx_current, PG_GETARG_OID(0));
	int			levels;
	int64		first;
	int64		last;

	if (window == NULL || window->plan->window == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("streamext.pane_cover can be called in a batch only, for a windowed stream")));
	sx_init_materialized_srf(fcinfo);
	if (!sx_window_range(window, &first, &last))
		return (Datum) 0;
	levels = max_level(window->plan->window);
	if (first <= 1)
		first = 0;				/* there is no batch 0, so panes may begin with it */
	while (first <= last)
	{
		int			level = 0;
		Datum		values[2];
		bool		nulls[2] = {false, false};

		while (level < levels && (first & (INT64CONST(1) << level)) == 0 &&
			   first + (INT64CONST(2) << level) - 1 <= last)
			level++;
		values[0] = Int32GetDatum(level);
		values[1] = Int64GetDatum(first >> level);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		first += INT64CONST(1) << level;
	}
	return (Datum) 0;
}
