/*-------------------------------------------------------------------------
 *
 * load.c
 *		From a registered view or sink to the plan that a batch runs.
 *
 * Everything is derived again from the stored query, under today's names.  The
 * state table was made by the same derivation; a server upgrade can change what it
 * gives (an aggregate becomes combinable, a state type changes), so the table is
 * held against it, and a view whose table no longer fits says so.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "streamext.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "plan/bound.h"
#include "plan/node.h"
#include "plan/plan_internal.h"
#include "plan/stream_def.h"

char *
sx_delta_name(const char *state)
{
	return makeObjectName(state, NULL, "delta");
}

Oid
sx_relation_owner(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	Oid			owner = rel->rd_rel->relowner;

	table_close(rel, NoLock);
	return owner;
}

static SxStepNames *
step_names(Oid relid, Oid query, Oid state)
{
	SxStepNames *names = palloc0(sizeof(SxStepNames));

	names->owner = sx_relation_owner(relid);
	names->step = sx_qualified_name(relid);
	names->query = sx_qualified_name(query);
	if (OidIsValid(state))
	{
		names->state = sx_qualified_name(state);
		names->delta = quote_qualified_identifier(SX_STATE_SCHEMA,
												  sx_delta_name(get_rel_name(state)));
	}
	return names;
}

static void
check_state_table(Oid relid, Oid state, const SxLayout *layout)
{
	ListCell   *lc;

	foreach(lc, layout->columns)
	{
		SxStateColumn *column = lfirst(lc);
		AttrNumber	attno = get_attnum(state, column->name);

		if (attno == InvalidAttrNumber || get_atttype(state, attno) != column->type)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("state table %s does not fit the continuous view %s",
							sx_qualified_name(state), sx_qualified_name(relid)),
					 errdetail("Column \"%s\" of type %s is expected.", column->name,
							   format_type_be(column->type)),
					 errhint("Drop the view and create it again.")));
	}
}

/* Where the step's watermark comes from, and the one that it hands on. */
static void
plan_times(SxStepPlan *plan, Query *query, SxLayout *layout)
{
	SxReads		reads = sx_query_reads(query, NIL);

	plan->time_streams = reads.streams;
	plan->time_views = reads.views;
	plan->closed_views = sx_final_views(query);
	if (plan->emit == SX_EMIT_FINAL && layout->windowed)
		plan->closes = &layout->window;
}

SxLayout *
sx_layout_of(Query *query)
{
	if (sx_is_single_node(query) || sx_session_call(query) != NULL)
		return sx_layout_build(query);
	if (sx_join_find(query) != NULL)
		return sx_join_layout(query);
	if (sx_distinct_sets(query) != NIL)
		return sx_distinct_layout(query);
	if (sx_can_retract(query))
		return sx_retract_layout(query);
	return sx_recompute_layout(query);
}

static void
strategy_sql(SxStepPlan *plan, Query *query, SxLayout *layout, const SxStepNames *names)
{
	switch (plan->strategy)
	{
		case SX_STRATEGY_SESSION:
			sx_session_sql(plan, query, layout, names);
			break;
		case SX_STRATEGY_JOIN:
			sx_join_sql(plan, query, layout, names);
			break;
		case SX_STRATEGY_DISTINCT:
			sx_view_sql(plan, query, layout, names);
			sx_distinct_sql(plan, query, layout, names);
			break;
		case SX_STRATEGY_RETRACT:
			sx_retract_sql(plan, query, layout, names);
			break;
		case SX_STRATEGY_RECOMPUTE:
		case SX_STRATEGY_REDUCE:
			sx_recompute_sql(plan, query, layout, names);
			break;
		default:
			sx_view_sql(plan, query, layout, names);
	}
}

SxStepPlan *
sx_build_view_plan(Query *query, const SxViewOptions *options,
				   const SxStepNames *names, SxLayout **layout)
{
	SxStepPlan *plan = palloc0(sizeof(SxStepPlan));
	SxReads		reads;
	SxStepNames here;

	*layout = sx_layout_of(query);
	(*layout)->on_time = options->on_time;
	plan->name = names->step;
	plan->kind = SX_STEP_VIEW;
	plan->strategy = (*layout)->strategy;
	plan->reason = (*layout)->reason;
	reads = sx_view_reads(query);
	plan->streams = reads.streams;
	plan->reads = reads.derived;
	plan->windowed = (*layout)->windowed;
	plan->emit = options->emit;
	plan->emit_interval = options->emit_interval;
	plan->late = options->late;
	plan->retention = options->retention;
	plan->state_ttl = options->state_ttl;
	plan->only = options->only;
	sx_check_view_options(options, *layout, plan->streams);
	if (plan->strategy == SX_STRATEGY_JOIN)
		sx_join_check_options(options, query);
	plan_times(plan, query, *layout);
	if (plan->closed_views != NIL)
	{
		query = sx_read_closed(query);
		here = *names;
		here.query = psprintf("(\n%s\n)", sx_deparse(query));
		names = &here;
	}
	strategy_sql(plan, query, *layout, names);
	if (options->on_time != NULL)
		plan->windowed = true;
	if (options->evict != NULL)
	{
		plan->windowed = true;
		plan->retention = 0;
		plan->evicts = plan->expire_in_steps = true;
		plan->expire_sql = sx_expire_sql(names->state, options->evict, NULL);
	}
	return plan;
}

/* The streams of the view that a node is a part of. */
static List *
clock_of_node(Oid node)
{
	Datum		values[] = {ObjectIdGetDatum(node)};
	bool		isnull;
	Datum		view = sx_catalog_value("SELECT node_of FROM streamext.step WHERE relation = $1",
										SX_ARGS(REGCLASSOID), values, NULL, &isnull);

	return isnull ? NIL : sx_relation_streams(DatumGetObjectId(view));
}

/* *names is filled; *layout is NULL for a sink. */
static SxStepPlan *
load(Oid relid, SxLayout **layout, SxStepNames **names)
{
	Oid			query_view;
	Oid			state;
	char	   *json = sx_step_options(relid, &query_view, &state);
	Oid			panes_table = sx_panes_of(relid);
	SxPanes    *panes = NULL;
	List	   *options;
	SxStepPlan *plan;
	Query	   *query;

	if (json == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is not a continuous view or sink", sx_qualified_name(relid))));
	options = sx_follow_names(relid, sx_options_from_json(json));
	query = sx_view_query(query_view);
	*names = step_names(relid, query_view, state);
	if (OidIsValid(panes_table))
	{
		char	   *answer;

		panes = sx_panes_build(query, panes_table, &answer);
		(*names)->query = psprintf("(\n%s\n)", answer);
	}
	if (sx_is_view(relid))
	{
		plan = sx_build_view_plan(query, sx_view_options(options),
								  *names, layout);
		check_state_table(relid, state, *layout);
	}
	else if (sx_relation_kind(relid) == SX_REL_DERIVED)
	{
		*layout = NULL;
		plan = sx_build_stream_plan(query, options, *names);
	}
	else
	{
		*layout = NULL;
		plan = sx_build_sink_plan(query, options, state, *names);
	}
	plan->relid = relid;
	plan->query = query_view;
	plan->state = state;
	plan->owner = (*names)->owner;
	plan->keeps_first = sx_option(options, SX_KEEP_OPTION) != NULL;
	if (plan->kind == SX_STEP_VIEW && sx_option(options, SX_ON_TIME_OPTION) != NULL)
		plan->clock = clock_of_node(relid);
	if (plan->window != NULL)
		sx_window_sql(plan);
	plan->panes = panes;
	if (panes != NULL)
		plan->stateless = false;
	(*names)->query = sx_qualified_name(query_view);
	return plan;
}

SxStepPlan *
sx_plan_load(Oid relid)
{
	SxLayout   *layout;
	SxStepNames *names;

	return load(relid, &layout, &names);
}

char *
sx_step_bound(Oid relid)
{
	SxLayout   *layout;
	SxStepNames *names;
	SxStepPlan *plan = load(relid, &layout, &names);

	return sx_bound_text(plan, layout);
}

SxLayout *
sx_view_layout(Oid view, Oid *state)
{
	Oid			query_view;

	if (sx_step_options(view, &query_view, state) == NULL)
		elog(ERROR, "relation %u is not a continuous view", view);
	return sx_layout_of(sx_view_query(query_view));
}

List *
sx_view_key_columns(Oid view)
{
	Oid			state;
	SxLayout   *layout = sx_view_layout(view, &state);
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, sx_layout_is_merged(layout) ? layout->output : NIL)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (IsA(tle->expr, Var) &&
			((SxStateColumn *) list_nth(layout->columns,
										((Var *) tle->expr)->varattno - 1))->kind == SX_COLUMN_KEY)
			result = lappend_int(result, tle->resno);
	}
	return result;
}

/* A derived stream has no step: what can be said is how its readers see it. */
static char *
explain_derived(Oid relid)
{
	return psprintf("Stream: %s\nEvaluated: %s\nReads: %s\nQuery:\n%s",
					sx_qualified_name(relid),
					sx_is_barrier(relid) ? "per batch, for every reader as it is" :
					"as a part of the queries that read it",
					sx_streams_text(sx_relation_streams(relid)),
					sx_deparse(sx_view_query(relid)));
}

char *
sx_plan_explain(Oid relid)
{
	SxLayout   *layout;
	SxStepNames *names;
	SxStepPlan *plan;
	Oid			window;

	if (sx_relation_kind(relid) == SX_REL_DERIVED && sx_is_view(relid))
		return explain_derived(relid);
	plan = load(relid, &layout, &names);
	if (plan->panes == NULL && plan->window == NULL && plan->kind != SX_STEP_VIEW)
		plan->no_panes = sx_panes_problem(sx_view_query(plan->query), &window);
	return sx_explain_plan(plan, layout, names);
}
