/*-------------------------------------------------------------------------
 *
 * bound.c
 *		What keeps the state of a view or stream from growing, and the warning where
 *		nothing does.
 *
 * A row leaves the state of a window when the watermark has closed it (nodes), or when
 * retention has passed as well.  What has no window is kept for as long as the view: a row
 * for each group, or every row that the query may have to look at again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "optimizer/tlist.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "plan/bound.h"
#include "plan/node.h"
#include "plan/plan_internal.h"

/* ---------- in words ---------- */

static char *
bound_of_stream(const SxStepPlan *plan)
{
	const char *idle = sx_option(plan->options, "idle_timeout");
	const char *within = sx_option(plan->options, "within");

	switch (plan->strategy)
	{
		case SX_STRATEGY_WINDOW:
			return psprintf("the window: %s", sx_option(plan->options, "window"));
		case SX_STRATEGY_UPDATE_STATE:
			return "the function, which returns NULL for a key that may go";
		case SX_STRATEGY_MAP_WITH_STATE:
			return idle != NULL ? psprintf("option idle_timeout: a key goes %s after its last record", idle) :
				"the function, which returns NULL for a key that may go";
		case SX_STRATEGY_DEDUPLICATE:
			return within == NULL ? NULL :
				psprintf("option within: a key goes when the watermark is %s beyond its first row", within);
		default:
			return "nothing is kept";
	}
}

static bool
has_one_row(const SxLayout *layout)
{
	return ((SxStateColumn *) linitial(layout->columns))->kind == SX_COLUMN_ONLY;
}

char *
sx_bound(const SxStepPlan *plan, const SxLayout *layout)
{
	if (plan->kind == SX_STEP_SINK)
		return "nothing is kept";
	if (plan->kind == SX_STEP_STREAM)
		return plan->panes != NULL ? "the window that is read" : bound_of_stream(plan);
	if (plan->state_ttl > 0)
		return psprintf("option state_ttl: a group goes %s after the last batch that had rows of it",
						sx_length_text(plan->state_ttl));
	if (plan->evicts)
		return "the watermark: rows go when it has closed their window";
	if (plan->expire_sql != NULL && plan->retention == 0)
		return "the watermark: windows go when it has closed them";
	if (plan->expire_sql != NULL)
		return psprintf("option retention: windows go when the watermark is %s beyond them",
						sx_length_text(plan->retention));
	if (plan->keeps_first)
		return "what reads it: rows that are not among the first ones go";
	if (sx_layout_is_merged(layout) && has_one_row(layout))
		return "there is one row";
	return NULL;
}

/* Are its rows those of the query, computed from what nodes keep? */
static bool
is_computed(const SxLayout *layout)
{
	return layout->strategy == SX_STRATEGY_RECOMPUTE || layout->strategy == SX_STRATEGY_REDUCE;
}

static char *
growth(const SxLayout *layout)
{
	if (layout->windowed)
		return "each window is kept";
	if (sx_layout_is_merged(layout))
		return "a row is kept for each group";
	if (is_computed(layout))
		return "each row of the result is kept";
	return "every row is kept";
}

char *
sx_bound_text(const SxStepPlan *plan, const SxLayout *layout)
{
	char	   *bound = sx_bound(plan, layout);

	if (bound != NULL)
		return bound;
	if (layout == NULL)
		return "nothing, every key is kept: option within forgets them";
	return psprintf("nothing, %s%s", growth(layout),
					layout->windowed ? ": option retention drops old ones" : "");
}

/* ---------- the warning ---------- */

/* The clause for which a query has to keep what it has read; NULL: a join, or none. */
static const char *
clause_of(Query *query)
{
	if (query->setOperations != NULL)
		return ((SetOperationStmt *) query->setOperations)->op == SETOP_INTERSECT ? "INTERSECT" :
			((SetOperationStmt *) query->setOperations)->op == SETOP_EXCEPT ? "EXCEPT" : "UNION";
	if (query->distinctClause != NIL)
		return query->hasDistinctOn ? "DISTINCT ON" : "DISTINCT";
	if (query->hasWindowFuncs)
		return "PARTITION BY";
	if (query->groupClause != NIL || query->groupingSets != NIL)
		return "GROUP BY";
	if (query->hasAggs)
		return "an aggregate";
	if (query->limitCount != NULL)
		return "LIMIT";
	return NULL;
}

static const SxStepPlan *
reader_of(Oid node, const SxStepPlan *top, List *nodes)
{
	ListCell   *lc;

	foreach(lc, nodes)
	{
		const SxStepPlan *plan = sx_plan_load(lfirst_oid(lc));

		if (list_member_oid(plan->time_views, node))
			return plan;
	}
	return top;
}

static bool
has_key(const SxStepPlan *plan)
{
	return plan->recompute != NULL && plan->recompute->keyed;
}

/* The nodes that nothing bounds, as a list for people; NULL: there are none. */
static char *
growing_nodes(const SxStepPlan *top, List *nodes)
{
	StringInfoData names;
	ListCell   *lc;

	initStringInfo(&names);
	foreach(lc, nodes)
	{
		Oid			state;
		SxLayout   *layout = sx_view_layout(lfirst_oid(lc), &state);
		SxStepPlan *plan = sx_plan_load(lfirst_oid(lc));

		if (plan->keeps_first ? has_key(reader_of(lfirst_oid(lc), top, nodes)) :
			sx_bound(plan, layout) == NULL && !is_computed(layout))
			appendStringInfo(&names, "%s%s (%s)", names.len == 0 ? "" : ", ",
							 sx_qualified_name(state),
							 plan->keeps_first ? "the first rows of each key are kept" : growth(layout));
	}
	return names.len == 0 ? NULL : names.data;
}

static bool
joins(Query *query)
{
	return list_length(query->jointree->fromlist) > 1 ||
		(query->jointree->fromlist != NIL && IsA(linitial(query->jointree->fromlist), JoinExpr));
}

/* The whole query is a join that nothing stands above, and that is not kept as one. */
static void
warn_of_join(const char *name, const char *growing)
{
	ereport(WARNING,
			(errmsg("the state of continuous view \"%s\" can only grow", name),
			 errdetail("The join looks again at what was read before: %s.", growing),
			 errhint("Rows are released by a join of two streams with a bound on their event times, and by any join on equal windows that are among the view's columns, with late = 'drop' or retention.")));
}

void
sx_warn_of_growth(const char *name, Query *query, const SxStepPlan *plan, const SxLayout *layout,
				  List *nodes)
{
	const char *clause = clause_of(query);
	char	   *growing;

	/* What is made of closed windows, or from rows (sessions), has ways of its own to forget. */
	if ((clause == NULL && (layout->strategy != SX_STRATEGY_RECOMPUTE || !joins(query))) ||
		plan->closed_views != NIL || layout->from_rows)
		return;
	if (layout->strategy == SX_STRATEGY_MERGE && !layout->windowed && sx_bound(plan, layout) == NULL)
		ereport(WARNING,
				(errmsg("the state of continuous view \"%s\" can only grow", name),
				 errdetail("%s has no window over the event time: %s.", clause, growth(layout)),
				 errhint("Group by tumble() or hop() of the event time too, and give option retention, or give option state_ttl; few groups need neither.")));
	growing = growing_nodes(plan, nodes);
	if (growing != NULL && clause == NULL)
		warn_of_join(name, growing);
	else if (growing != NULL)
		ereport(WARNING,
				(errmsg("the state of continuous view \"%s\" can only grow", name),
				 errdetail("%s looks again at what was read before: %s.", clause, growing),
				 errhint("With a window over the event time in %s, and late = 'drop' or retention, rows go when their window is closed.%s",
						 strcmp(clause, "LIMIT") == 0 || strcmp(clause, "an aggregate") == 0 ? "GROUP BY" : clause,
						 joins(query) ? " A join with a bound on the event times releases its rows in a view of its own, over which another view can aggregate." : "")));
}
