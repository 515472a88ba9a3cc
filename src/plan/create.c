/*-------------------------------------------------------------------------
 *
 * create.c
 *		Making derived streams and continuous views.
 *
 * A continuous view v is four objects:
 *
 *		streamext_state.v_q		a view that holds the query, so that its dependencies
 *								are real and follow renames
 *		streamext_state.v		the state table, with a unique index on the keys (create_state.c)
 *		streamext_state.v_delta	likewise, for emit = interval
 *		v						a plain view over the state table
 *
 * The first three belong to v by internal dependencies, so that DROP VIEW v takes
 * them along, and DROP of anything that the query reads names v.  The visible view
 * also names the streams in its WHERE: that dependency survives a dump, which the
 * internal ones do not.
 *
 * A query that is cut stands on views of the same kind, which are hidden (create_node.c).
 *
 * Objects in streamext_state are made by the extension's owner, as nobody else may
 * create there, and given to the current user.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/tablecmds.h"
#include "commands/view.h"
#include "compat.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parse_relation.h"
#include "streamext.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

#include "catalog/depend.h"
#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "plan/bound.h"
#include "plan/create_internal.h"

/* ---------- pieces, also for sinks ---------- */

/* The statement's query: ours to change, with the column list of the statement. */
Query *
sx_created_query(CreateTableAsStmt *stmt)
{
	Query	   *query = copyObject(castNode(Query, stmt->query));
	ListCell   *name = list_head(stmt->into->colNames);
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (name == NULL)
			break;
		if (tle->resjunk)
			continue;
		tle->resname = pstrdup(strVal(lfirst(name)));
		name = lnext(stmt->into->colNames, name);
	}
	if (name != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("too many column names were specified")));
	if (isQueryUsingTempRelation(query))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("streams and continuous views cannot read temporary tables"),
				 errhint("Make it a table: the worker of the pipeline does not see temporary ones.")));
	sx_check_windows(query);
	sx_check_sessions(query, stmt->objtype == OBJECT_MATVIEW);
	if (stmt->objtype == OBJECT_MATVIEW)
		sx_check_clock(query);
	return sx_rewrite_clock(query);
}

/* CREATE VIEW name AS query, for a query that is analysed already. */
Oid
sx_define_view(RangeVar *name, Query *query)
{
	CreateStmt *create = makeNode(CreateStmt);
	ObjectAddress address;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!tle->resjunk)
			create->tableElts = lappend(create->tableElts,
										makeColumnDef(tle->resname,
													  exprType((Node *) tle->expr),
													  exprTypmod((Node *) tle->expr),
													  exprCollation((Node *) tle->expr)));
	}
	create->relation = copyObject(name);
	create->relation->relpersistence = RELPERSISTENCE_PERMANENT;
	create->oncommit = ONCOMMIT_NOOP;
	address = DefineRelation(create, RELKIND_VIEW, InvalidOid, NULL, NULL);
	CommandCounterIncrement();
	StoreViewQuery(address.objectId, copyObject(query), false);
	CommandCounterIncrement();
	return address.objectId;
}

void
sx_give_to(Oid relid, Oid owner)
{
	ATExecChangeOwner(relid, owner, true, AccessExclusiveLock);
	CommandCounterIncrement();
}

/* The hidden view streamext_state.<base>_q, owned by owner. */
Oid
sx_define_query_view(const char *base, Query *query, Oid owner)
{
	char	   *name = makeObjectName(base, NULL, "q");
	Oid			relid;

	relid = sx_define_view(makeRangeVar(pstrdup(SX_STATE_SCHEMA), name, -1), query);
	sx_give_to(relid, owner);
	return relid;
}

void
sx_belongs_to(Oid relid, Oid owner_relid)
{
	sx_depend(RelationRelationId, relid, RelationRelationId, owner_relid, 0,
			  DEPENDENCY_INTERNAL);
}

static bool
name_is_free(const char *base)
{
	Oid			schema = get_namespace_oid(SX_STATE_SCHEMA, false);

	return !OidIsValid(get_relname_relid(base, schema)) &&
		!OidIsValid(get_relname_relid(makeObjectName(base, NULL, "q"), schema)) &&
		!OidIsValid(get_relname_relid(sx_delta_name(base), schema)) &&
		!OidIsValid(get_relname_relid(makeObjectName(base, NULL, "panes"), schema));
}

/* <name>, or <schema>_<name> when that is taken, or that with a number. */
char *
sx_state_base_name(const char *schema, const char *name)
{
	char	   *base = pstrdup(name);
	int			n = 0;

	while (!name_is_free(base))
	{
		base = makeObjectName(schema, name, n == 0 ? NULL : psprintf("%d", n + 1));
		n++;
	}
	return base;
}

void
sx_future_state_names(SxStepNames *names, const char *base)
{
	names->owner = GetUserId();
	names->query = quote_qualified_identifier(SX_STATE_SCHEMA, makeObjectName(base, NULL, "q"));
	names->state = quote_qualified_identifier(SX_STATE_SCHEMA, base);
	names->delta = quote_qualified_identifier(SX_STATE_SCHEMA, sx_delta_name(base));
}

/* ---------- the visible view ---------- */

/*
 * The frame of the visible view as SQL: its tables and conditions.  The output
 * comes from the layout, as a tree.  The empty subquery keeps the view from being
 * updatable: only batches write to the state table.
 */
static char *
frame_sql(const SxStepPlan *plan, Query *query, const SxLayout *layout,
		  const SxStepNames *names)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT s.* FROM %s s CROSS JOIN (SELECT) read_only",
					 layout->by_slot ? sx_combined_state_sql(layout, names->state) : names->state);
	foreach(lc, plan->streams)
		appendStringInfo(&sql, " %s %s::regclass IS NOT NULL",
						 lc == list_head(plan->streams) ? "WHERE" : "AND",
						 quote_literal_cstr(sx_qualified_name(lfirst_oid(lc))));
	if (plan->state_ttl > 0)
		appendStringInfo(&sql, " AND NOT %s",
						 sx_forgotten_sql(plan->state_ttl,
										  psprintf("streamext.view_time(%s::regclass)",
												   quote_literal_cstr(names->state))));
	if (plan->emit == SX_EMIT_FINAL && plan->strategy == SX_STRATEGY_JOIN)
		appendStringInfoString(&sql, sx_join_visible_sql(query, names->state));
	else if (plan->emit == SX_EMIT_FINAL)
	{
		char	   *start = psprintf("s.%s", quote_identifier(layout->window_column->name));
		char	   *bound = psprintf("streamext.view_watermark(%s::regclass)",
									 quote_literal_cstr(names->state));

		appendStringInfo(&sql, " AND %s", sx_window_closed_sql(&layout->window, start, bound));
	}
	return sql.data;
}

static Query *
visible_query(const SxStepPlan *plan, Query *of, const SxLayout *layout,
			  const SxStepNames *names)
{
	char	   *sql = frame_sql(plan, of, layout, names);
	RawStmt    *raw = linitial_node(RawStmt, pg_parse_query(sql));
	int			nestlevel = sx_pin_settings();
	Query	   *query = parse_analyze_fixedparams(raw, sql, NULL, 0, NULL);

	AtEOXact_GUC(true, nestlevel);
	query->targetList = copyObject(layout->output);
	if (layout->having != NULL)
		query->jointree->quals = make_and_qual(query->jointree->quals,
											   copyObject(layout->having));
	query->hasTargetSRFs = expression_returns_set((Node *) query->targetList);
	return query;
}

/* ---------- continuous views ---------- */

/* Makes everything in streamext_state; gives the hidden view and the tables. */
static void
create_hidden(const char *base, Query *query, const SxStepPlan *plan,
			  const SxLayout *layout, Oid *query_view, Oid *state, Oid *delta)
{
	Oid			owner = GetUserId();
	SxTrusted	trusted;

	sx_trusted_begin(&trusted);
	*query_view = sx_define_query_view(base, query, owner);
	*state = sx_create_state_table(base, layout, plan->expire_sql != NULL, owner);
	*delta = plan->emit == SX_EMIT_INTERVAL ?
		sx_create_state_table(sx_delta_name(base), layout, false, owner) : InvalidOid;
	if (plan->state_ttl > 0)
		sx_add_touched(base);
	else if (layout->window_column != NULL &&
		(plan->expire_sql != NULL || plan->emit == SX_EMIT_FINAL ||
		 (layout->from_rows && layout->windowed)))
		sx_index_window(base, layout);
	sx_trusted_end(&trusted);
	if (plan->start_sql != NULL)
		sx_execute_ddl(plan->start_sql);
}

/* Every row comes again with each window that holds it. */
static void
warn_of_windows(const SxReads *reads, const char *name)
{
	ListCell   *lc;

	foreach(lc, reads->all_derived)
	{
		char	   *json = sx_step_options(lfirst_oid(lc), NULL, NULL);

		if (json != NULL && sx_option(sx_options_from_json(json), "window") != NULL)
			ereport(WARNING,
					(errmsg("continuous view \"%s\" takes a row of windowed stream %s once for each window that holds it",
							name, sx_qualified_name(lfirst_oid(lc))),
					 errhint("For the result of each window, use a derived stream (CREATE STREAM … AS SELECT … FROM the windowed stream) and put its rows into a table.")));
	}
}

/* The objects of a view whose query needs no more nodes, and its step. */
Oid
sx_define_new_view(SxNewView *new, Query *query, SxStepPlan **plan, SxLayout **layout)
{
	SxStepNames names = {0};
	SxTrusted	trusted;
	Oid			query_view;
	Oid			state;
	Oid			delta;
	Oid			view;

	names.step = quote_qualified_identifier(new->rel->schemaname != NULL ? new->rel->schemaname :
											get_namespace_name(RangeVarGetCreationNamespace(new->rel)),
											new->rel->relname);
	sx_future_state_names(&names, new->base);
	*plan = sx_build_view_plan(query, new->options, &names, layout);

	create_hidden(new->base, query, *plan, *layout, &query_view, &state, &delta);
	if (new->hidden)
	{
		Oid			owner = GetUserId();

		sx_trusted_begin(&trusted);
		view = sx_define_view(new->rel, visible_query(*plan, query, *layout, &names));
		sx_give_to(view, owner);
		sx_trusted_end(&trusted);
	}
	else
		view = sx_define_view(new->rel, visible_query(*plan, query, *layout, &names));
	sx_belongs_to(query_view, view);
	sx_belongs_to(state, view);
	if (OidIsValid(delta))
		sx_belongs_to(delta, view);
	CommandCounterIncrement();
	sx_register_step(view, "view", query_view, state, sx_strategy_name((*plan)->strategy),
					 &new->reads, new->options->backfill, new->pipeline, new->options->json);
	return view;
}

/* ---------- the statement ---------- */

bool
sx_plan_create_view(CreateTableAsStmt *stmt, const char *query_string)
{
	SxNewView	new = {.rel = stmt->into->rel,.options = sx_view_options(stmt->into->options)};
	SxNodeMaker maker = {.options = new.options};
	Query	   *query = castNode(Query, stmt->query);
	Query	   *original;
	char	   *schema;
	SxStepPlan *plan;
	SxLayout   *layout;
	Oid			view;
	int			slots;

	if (!sx_query_is_continuous(query))
		return false;
	query = sx_created_query(stmt);
	new.reads = sx_view_reads(query);
	slots = sx_slots_for_step(new.reads.streams);
	if (slots > 1)
		sx_check_query_slots(query, new.options, new.rel->relname);
	sx_check_slides(&new.reads);
	warn_of_windows(&new.reads, new.rel->relname);
	schema = get_namespace_name(RangeVarGetCreationNamespace(new.rel));
	new.base = maker.base = sx_state_base_name(schema, new.rel->relname);
	new.pipeline = new.options->pipeline;
	if (!sx_is_single_node(sx_distinct_as_group(query)))
	{
		new.pipeline = maker.pipeline = sx_pipeline_for_view(schema, new.rel->relname, &new.reads,
															 new.options->backfill, new.pipeline);
		/* that has been taken care of, for the nodes and the view together */
		new.options->backfill = false;
	}
	original = copyObject(query);
	maker.arrival = sx_join_is_candidate(query);
	query = sx_cut_for(&new, query, &maker);
	new.reads = sx_view_reads(query);
	if (slots > 1)
		query = sx_mark_by_slot(query);
	view = sx_define_new_view(&new, query, &plan, &layout);
	if (plan->join_sql != NIL)
		sx_join_prepare(query, new.options, new.rel->relname);
	sx_prepare_nodes(plan, query, layout, new.options, false, maker.nodes);
	sx_adopt_nodes(&maker, view);
	sx_warn_of_growth(new.rel->relname, original, plan, layout, maker.nodes);
	return true;
}
