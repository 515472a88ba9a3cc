/*-------------------------------------------------------------------------
 *
 * create.c
 *		Making derived streams and continuous views.
 *
 * A continuous view v is four objects:
 *
 *		streamext_state.v_q		a view that holds the query, so that its dependencies
 *								are real and follow renames
 *		streamext_state.v		the state table, with a unique index on the keys
 *		streamext_state.v_delta	likewise, for emit = interval
 *		v						a plain view over the state table
 *
 * The first three belong to v by internal dependencies, so that DROP VIEW v takes
 * them along, and DROP of anything that the query reads names v.  The visible view
 * also names the streams in its WHERE: that dependency survives a dump, which the
 * internal ones do not.
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
#include "plan/node.h"
#include "plan/plan_internal.h"

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

/* ---------- state tables ---------- */

char *
sx_column_sql(const char *name, Oid type, int32 typmod, Oid collation)
{
	char	   *sql = psprintf("%s %s", quote_identifier(name), sx_type_sql(type, typmod));

	if (!OidIsValid(collation) || collation == get_typcollation(type))
		return sql;
	return psprintf("%s COLLATE %s", sql, generate_collation_name(collation));
}

void
sx_append_column_sql(StringInfo sql, const SxStateColumn *column)
{
	appendStringInfo(sql, "%s\n    %s", sql->data[sql->len - 1] == '(' ? "" : ",",
					 sx_column_sql(column->name, column->type, column->typmod,
								   column->collation));
}

/* Rows that come and go with every batch. */
#define CHURN_OPTIONS	"autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0"

/*
 * Merged rows are updated again and again: half-filled pages keep the updates in
 * their page, and autovacuum comes early.  The key admits NULL, so a publication of all
 * tables needs the full replica identity; without wal_level = logical it costs nothing.
 */
static Oid
create_state_table(const char *name, const SxLayout *layout, bool by_time, Oid owner)
{
	const char *qualified = quote_qualified_identifier(SX_STATE_SCHEMA, name);
	StringInfoData sql;
	ListCell   *lc;
	Oid			relid;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (", qualified);
	foreach(lc, layout->columns)
	{
		SxStateColumn *column = lfirst(lc);

		sx_append_column_sql(&sql, column);
		if (layout->strategy == SX_STRATEGY_DISTINCT && column->start != NULL)
			appendStringInfo(&sql, " DEFAULT %s", quote_literal_cstr(column->start));
	}
	appendStringInfoString(&sql, ")");
	if (sx_layout_is_merged(layout))
		appendStringInfoString(&sql, " WITH (fillfactor = 50, " CHURN_OPTIONS ")");
	else if (layout->strategy != SX_STRATEGY_APPEND)
		appendStringInfoString(&sql, " WITH (" CHURN_OPTIONS ")");
	sx_execute_ddl(sql.data);
	sx_execute_ddl(psprintf("ALTER TABLE %s REPLICA IDENTITY FULL", qualified));
	if (layout->strategy == SX_STRATEGY_JOIN)
		sx_join_index_state(qualified, by_time);
	if (layout->strategy == SX_STRATEGY_RECOMPUTE || layout->strategy == SX_STRATEGY_REDUCE)
		sx_execute_ddl(psprintf("CREATE INDEX ON %s (sx_key)", qualified));
	if (layout->strategy == SX_STRATEGY_RETRACT)
		sx_execute_ddl(psprintf("CREATE INDEX ON %s (sx_rows) WHERE sx_rows = 0", qualified));
	if (layout->strategy == SX_STRATEGY_SESSION)
		sx_execute_ddl(psprintf("CREATE INDEX ON %s (%s)", qualified, sx_session_index_sql(layout)));
	if (sx_layout_is_merged(layout))
		sx_execute_ddl(psprintf("CREATE UNIQUE INDEX ON %s (%s) NULLS NOT DISTINCT",
								qualified, sx_key_order_sql(layout, "")));
	relid = get_relname_relid(name, get_namespace_oid(SX_STATE_SCHEMA, false));
	sx_give_to(relid, owner);
	return relid;
}

/* retention deletes by window, which only a leading key serves. */
static void
index_window(const char *name, const SxLayout *layout)
{
	if (sx_layout_is_merged(layout) &&
		linitial(layout->columns) == layout->window_column)
		return;
	sx_execute_ddl(psprintf("CREATE INDEX ON %s (%s)",
							quote_qualified_identifier(SX_STATE_SCHEMA, name),
							quote_identifier(layout->window_column->name)));
}

/* state_ttl: no statement names the column, but that which finds its group there. */
static void
add_touched(const char *name)
{
	const char *qualified = quote_qualified_identifier(SX_STATE_SCHEMA, name);

	sx_execute_ddl(psprintf("ALTER TABLE %s ADD COLUMN " SX_TOUCHED_COLUMN
							" timestamptz NOT NULL DEFAULT streamext.batch_time()", qualified));
	sx_execute_ddl(psprintf("CREATE INDEX ON %s (" SX_TOUCHED_COLUMN ")", qualified));
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
	*state = create_state_table(base, layout, plan->expire_sql != NULL, owner);
	*delta = plan->emit == SX_EMIT_INTERVAL ?
		create_state_table(sx_delta_name(base), layout, false, owner) : InvalidOid;
	if (plan->state_ttl > 0)
		add_touched(base);
	else if (layout->window_column != NULL &&
		(plan->expire_sql != NULL || plan->emit == SX_EMIT_FINAL ||
		 (layout->from_rows && layout->windowed)))
		index_window(base, layout);
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

/* A view that is to be made, and the step that will keep it. */
typedef struct NewView
{
	RangeVar   *rel;
	const char *base;			/* of the names in streamext_state */
	SxViewOptions *options;
	const char *pipeline;		/* name, or NULL: that of its streams */
	SxReads		reads;
	bool		hidden;			/* a node */
} NewView;

static const char *
strategy_word(SxStrategy strategy)
{
	switch (strategy)
	{
		case SX_STRATEGY_MERGE:
			return "merge";
		case SX_STRATEGY_RECOMPUTE:
			return "recompute";
		case SX_STRATEGY_REDUCE:
			return "reduce";
		case SX_STRATEGY_RETRACT:
			return "retract";
		case SX_STRATEGY_DISTINCT:
			return "distinct";
		case SX_STRATEGY_SESSION:
			return "session";
		case SX_STRATEGY_JOIN:
			return "join";
		default:
			return "append";
	}
}

/* The objects of a view whose query needs no more nodes, and its step. */
static Oid
define_view(NewView *new, Query *query, SxStepPlan **plan, SxLayout **layout)
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
	sx_register_step(view, "view", query_view, state, strategy_word((*plan)->strategy),
					 &new->reads, new->options->backfill, new->pipeline, new->options->json);
	return view;
}

/* ---------- nodes ---------- */

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
	options->json = sx_options_to_json(given);
	return options;
}

static Query *
cut_for(NewView *new, Query *query, SxNodeMaker *maker)
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
static void
prepare_nodes(const SxStepPlan *plan, Query *query, SxLayout *layout,
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
	NewView		new = {0};
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
	query = cut_for(&new, query, maker);
	maker->rank_condition = NULL;
	new.reads = sx_view_reads(query);
	new.base = sx_state_base_name(SX_STATE_SCHEMA,
								  makeObjectName(maker->base, NULL,
												 psprintf("%d", list_length(maker->nodes) + 1)));
	new.rel = makeRangeVar(pstrdup(SX_STATE_SCHEMA), makeObjectName(new.base, NULL, "rows"), -1);
	view = define_view(&new, query, &plan, &layout);
	prepare_nodes(plan, query, layout, maker->options, true,
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
	index_window(get_rel_name(state), layout);
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
	sx_execute_ddl(psprintf("ALTER TABLE %s SET (" CHURN_OPTIONS ")", sx_qualified_name(state)));
	sx_trusted_end(&trusted);
}

void
sx_node_evict(Oid view, const char *condition)
{
	sx_node_option(view, SX_EVICT_OPTION, condition);
}

/* DROP of the view takes its nodes along; the catalog knows whose they are. */
static void
adopt_nodes(const SxNodeMaker *maker, Oid view)
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

/* ---------- the statement ---------- */

bool
sx_plan_create_view(CreateTableAsStmt *stmt, const char *query_string)
{
	NewView		new = {.rel = stmt->into->rel,.options = sx_view_options(stmt->into->options)};
	SxNodeMaker maker = {.options = new.options};
	Query	   *query = castNode(Query, stmt->query);
	Query	   *original;
	char	   *schema;
	SxStepPlan *plan;
	SxLayout   *layout;
	Oid			view;

	if (!sx_query_is_continuous(query))
		return false;
	query = sx_created_query(stmt);
	new.reads = sx_view_reads(query);
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
	query = cut_for(&new, query, &maker);
	new.reads = sx_view_reads(query);
	if (sx_slots_for_step(new.reads.streams) > 1)
		query = sx_mark_by_slot(query);
	view = define_view(&new, query, &plan, &layout);
	if (plan->join_sql != NIL)
		sx_join_prepare(query, new.options, new.rel->relname);
	prepare_nodes(plan, query, layout, new.options, false, maker.nodes);
	adopt_nodes(&maker, view);
	sx_warn_of_growth(new.rel->relname, original, plan, layout, maker.nodes);
	return true;
}
