/*-------------------------------------------------------------------------
 *
 * create_node.c
 *		Making the hidden continuous views that others stand on: the nodes.
 *
 * A node is made like a view that a user creates, nodes of its own included, but belongs to
 * the extension's schema and to the view that it was made for: DROP of that takes it along.
 * What is said of it after it was made, when the key of the view above is known, goes into
 * the options of its step.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "nodes/makefuncs.h"
#include "streamext.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "plan/create_internal.h"

/* Like those of the view; what they keep is decided when its key is known. */
static SxViewOptions *
node_options(const SxNodeMaker *maker, Query *query)
{
	SxViewOptions *options = palloc0(sizeof(SxViewOptions));
	bool		windowed;
	List	   *given = NIL;

	query = sx_distinct_as_group(query);
	windowed = !maker->arrival &&
		(sx_is_single_node(query) || sx_session_call(query) != NULL ?
		 sx_layout_build(query)->windowed :
		 sx_can_keep_distinct(query) && sx_distinct_layout(query)->windowed);

	options->emit = maker->final ? SX_EMIT_FINAL : SX_EMIT_CHANGES;
	options->late = windowed ? maker->options->late : SX_LATE_UPDATE;
	options->retention = -1;
	options->backfill = maker->options->backfill;
	if (windowed)
		given = list_make1(makeDefElem("late", (Node *) makeString(pstrdup(sx_late_name(options->late))), -1));
	if (maker->final)
	{
		/* who reads it has read it when the batch ends */
		options->retention = 0;
		given = lappend(given, makeDefElem("emit", (Node *) makeString(pstrdup("final")), -1));
		given = lappend(given, makeDefElem("retention", (Node *) makeString(pstrdup("0 seconds")), -1));
	}
	if (maker->rank_condition != NULL)
	{
		options->only = maker->rank_condition;
		given = lappend(given, makeDefElem(SX_ONLY_OPTION,
										   (Node *) makeString(pstrdup(options->only)), -1));
	}
	options->json = sx_options_to_json(given);
	return options;
}

Query *
sx_cut_for(SxNewView *new, Query *query, SxNodeMaker *maker)
{
	if (sx_is_single_node(sx_distinct_as_group(query)))
		query = sx_distinct_as_group(query);
	if (sx_is_single_node(query))
	{
		sx_check_view_query(query);
		return query;
	}
	if (sx_can_keep_distinct(query))
		return sx_mark_distinct(query, maker);
	return sx_cut_query(query, maker);
}

/* What the view's strategy needs of the nodes that it stands on. */
void
sx_prepare_nodes(const SxStepPlan *plan, Query *query, SxLayout *layout,
				 const SxViewOptions *options, bool hidden, List *own_nodes)
{
	if (plan->strategy == SX_STRATEGY_DISTINCT)
		sx_distinct_prepare(query, layout, options, hidden);
	else if (plan->recompute != NULL || plan->strategy == SX_STRATEGY_RETRACT)
		sx_recompute_prepare(query, layout, options, own_nodes);
	if (layout->from_rows)
		sx_session_prepare(query, layout);
}

Oid
sx_make_node(SxNodeMaker *maker, Query *query)
{
	SxNewView	new = {0};
	ListCell   *lc;
	ListCell   *l;
	SxStepPlan *plan;
	SxLayout   *layout;
	Query	   *original = copyObject(query);
	Oid			view;
	List	   *before;
	bool		unshared = maker->unshared;

	maker->unshared = false;
	forboth(lc, maker->queries, l, maker->nodes)
	{
		if (!unshared && equal(lfirst(lc), query))
			return lfirst_oid(l);
	}
	new.hidden = true;
	new.options = node_options(maker, query);
	new.pipeline = maker->pipeline;
	before = list_copy(maker->nodes);
	query = sx_cut_for(&new, query, maker);
	maker->rank_condition = NULL;
	new.reads = sx_view_reads(query);
	new.base = sx_state_base_name(SX_STATE_SCHEMA,
								  makeObjectName(maker->base, NULL,
												 psprintf("%d", list_length(maker->nodes) + 1)));
	new.rel = makeRangeVar(pstrdup(SX_STATE_SCHEMA), makeObjectName(new.base, NULL, "rows"), -1);
	view = sx_define_new_view(&new, query, &plan, &layout);
	sx_prepare_nodes(plan, query, layout, maker->options, true,
					 list_difference_oid(maker->nodes, before));
	maker->nodes = lappend_oid(maker->nodes, view);
	maker->queries = lappend(maker->queries, unshared ? NULL : original);
	return view;
}

void
sx_node_option(Oid view, const char *name, const char *value)
{
	Datum		values[] = {
		ObjectIdGetDatum(view), CStringGetTextDatum(name), CStringGetTextDatum(value)
	};

	sx_catalog_exec("UPDATE streamext.step SET options = options || "
					"jsonb_build_object($2, $3) WHERE relation = $1",
					SX_ARGS(REGCLASSOID, TEXTOID, TEXTOID), values, NULL);
}

/* Late rows are counted, and become dead letters, in the view that has the aggregate. */
void
sx_node_is_set(Oid view)
{
	Oid			state;
	char	   *json = sx_step_options(view, NULL, &state);

	sx_node_option(view, "set", "yes");
	if (sx_view_options(sx_options_from_json(json))->late == SX_LATE_DEAD_LETTER)
		sx_node_option(view, "late", sx_late_name(SX_LATE_DROP));
}

void
sx_node_retain(Oid view, int64 retention)
{
	Oid			state;
	SxLayout   *layout = sx_view_layout(view, &state);
	SxTrusted	trusted;
	ListCell   *lc;

	sx_node_option(view, "retention", sx_length_text(retention));
	sx_trusted_begin(&trusted);
	sx_index_window(get_rel_name(state), layout);
	sx_trusted_end(&trusted);
	foreach(lc, sx_view_sets(view))
		sx_node_retain(lfirst_oid(lc), retention);
}

void
sx_node_keep(Oid view, const char *condition)
{
	Oid			state;
	SxTrusted	trusted;

	(void) sx_step_options(view, NULL, &state);
	sx_node_option(view, SX_KEEP_OPTION, condition);
	sx_trusted_begin(&trusted);
	sx_execute_ddl(psprintf("ALTER TABLE %s SET (" SX_CHURN_OPTIONS ")", sx_qualified_name(state)));
	sx_trusted_end(&trusted);
}

void
sx_node_evict(Oid view, const char *condition)
{
	sx_node_option(view, SX_EVICT_OPTION, condition);
}

/* DROP of the view takes its nodes along; the catalog knows whose they are. */
void
sx_adopt_nodes(const SxNodeMaker *maker, Oid view)
{
	ListCell   *lc;

	foreach(lc, maker->nodes)
	{
		Datum		values[] = {ObjectIdGetDatum(lfirst_oid(lc)), ObjectIdGetDatum(view)};

		sx_belongs_to(lfirst_oid(lc), view);
		sx_catalog_exec("UPDATE streamext.step SET node_of = $2 WHERE relation = $1",
						SX_ARGS(REGCLASSOID, REGCLASSOID), values, NULL);
	}
}
