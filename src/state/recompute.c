/*-------------------------------------------------------------------------
 *
 * recompute.c
 *		The batch of a view that stands on nodes: rows of the touched keys are deleted
 *		and computed again (plan/recompute.c), or those of them that have become others
 *		(recompute_difference.c); before that, the node may forget the rows
 *		of theirs that cannot matter any more (plan/reduce.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/datum.h"
#include "utils/guc.h"

#include "state/recompute.h"
#include "worker/batch_internal.h"

/* bigint[] in the transaction's memory; false: nothing was touched. */
static bool
touched_keys(SxPipeline *pl, SxStep *step, Datum *keys)
{
	return sx_step_value(pl, step, &step->own[SX_OWN_KEYS], step->plan->recompute->keys_sql,
						 0, NULL, NULL, keys);
}

/*
 * Nobody has analysed the tables when their first batches run, and a condition on a
 * hundred keys looks as if it took half of them: rows of keys are found by the index,
 * always.
 */
static int
prefer_indexes(void)
{
	int			nestlevel = NewGUCNestLevel();

	(void) set_config_option("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return nestlevel;
}

/* The node forgets what cannot matter; a key all of whose new rows went with that is as it was. */
static bool
prune(SxPipeline *pl, SxStep *step, int nargs, Oid *types, Datum *keys)
{
	const SxRecompute *plan = step->plan->recompute;
	Oid			changed_types[] = {INT8ARRAYOID, INT8OID};
	Datum		changed[] = {*keys, Int64GetDatum(sx_last_arrival_before(pl))};

	if (plan->prune_sql == NULL)
		return true;
	(void) sx_step_execute(pl, step, &step->own[SX_OWN_PRUNE], plan->prune_sql, nargs, types, keys);
	return plan->changed_sql == NULL ||
		sx_step_value(pl, step, &step->own[SX_OWN_CHANGED], plan->changed_sql, 2, changed_types,
					  changed, keys);
}

static void
recompute(SxPipeline *pl, SxStep *step, int nargs, Datum keys)
{
	const SxRecompute *plan = step->plan->recompute;
	Oid			types[] = {INT8ARRAYOID};

	if (!prune(pl, step, nargs, types, &keys) ||
		sx_recompute_difference(pl, step, nargs, types, &keys))
		return;
	(void) sx_step_execute(pl, step, &step->own[SX_OWN_DELETE], plan->delete_sql, nargs, types, &keys);
	step->rows = sx_step_execute(pl, step, &step->own[SX_OWN_INSERT], plan->insert_sql, nargs,
								 types, &keys);
}

static void
apply_recompute(SxPipeline *pl, SxStep *step)
{
	Datum		keys;
	int			nestlevel;

	if (sx_nodes_are_unchanged(pl, step))
		return;
	nestlevel = prefer_indexes();
	if (touched_keys(pl, step, &keys))
		recompute(pl, step, step->plan->recompute->keyed ? 1 : 0, keys);
	AtEOXact_GUC(true, nestlevel);
}

static void
open_recompute(SxPipeline *pl, SxStep *step)
{
	step->private = palloc0(sizeof(SxRecomputeStep));
}

const SxStepOps sx_recompute_ops = {
	.open = open_recompute,
	.apply = apply_recompute
};
