/*-------------------------------------------------------------------------
 *
 * stream_state.c
 *		Streams with keyed state: map_with_state, update_state, deduplicate.
 *
 * Each keeps a row per key in its state table, found through a unique index on the
 * keys that takes NULL for a value.  Where a time decides when a key leaves, that
 * column has an index, so that a batch looks at the keys that are due and at no other.
 *
 * Text keys are indexed COLLATE "C": what is one key then does not depend on the
 * server's collations.
 *
 * Records come in order of arrival.  Where each row of the query can be traced to its
 * record (arrival.c), the batch's query carries that along, and a record for which the
 * function fails can be named.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"

#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "fdw/stream.h"
#include "plan/plan_internal.h"
#include "plan/state_spec.h"
#include "plan/stream_def.h"

/* ---------- definition ---------- */

static char *
key_index(const SxStateSpec *spec)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; i < spec->nkeys; i++)
	{
		ColumnDef  *column = sx_spec_column(spec, spec->keys[i]);
		SxStateColumn key = {
			.type = getBaseType(column->typeName->typeOid),
			.collation = column->collOid
		};

		appendStringInfo(&sql, "%s%s%s", i > 0 ? ", " : "", quote_identifier(column->colname),
						 sx_column_is_c(&key) ? " COLLATE \"C\"" : "");
	}
	return psprintf("UNIQUE (%s) NULLS NOT DISTINCT", sql.data);
}

static SxStateSpec *
define_state(SxStreamDef *def, SxStrategy strategy)
{
	SxStateSpec *spec = sx_state_spec(strategy, def->query, def->options);

	def->state_columns = sx_state_columns(spec);
	def->state_indexes = list_make1(key_index(spec));
	return spec;
}

static void
index_time(SxStreamDef *def, const char *column, const char *where)
{
	def->state_indexes = lappend(def->state_indexes, psprintf("(%s)%s", column, where));
}

/* What both kinds with a function have in common. */
static SxStateSpec *
define_function(SxStreamDef *def, SxStrategy strategy, const char *option)
{
	SxStateSpec *spec = define_state(def, strategy);
	ObjectAddress *function = palloc(sizeof(ObjectAddress));

	if (sx_proc_aclcheck(spec->function, GetUserId()) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(spec->function));
	sx_set_option(def->options, option,
				  quote_qualified_identifier(get_namespace_name(get_func_namespace(spec->function)),
											 get_func_name(spec->function)));
	sx_initial_state_check(spec, def->options);
	def->columns = sx_state_stream_columns(spec);
	ObjectAddressSet(*function, ProcedureRelationId, spec->function);
	def->depends_on = lappend(def->depends_on, function);
	return spec;
}

static void
define_map_with_state(SxStreamDef *def)
{
	SxStateSpec *spec = define_function(def, SX_STRATEGY_MAP_WITH_STATE, "map_with_state");

	if (spec->idle_timeout >= 0)
		index_time(def, SX_UPDATED_COLUMN, "");
	if (spec->result_timer >= 0)
		index_time(def, SX_TIMER_COLUMN, " WHERE timer IS NOT NULL");
}

static void
define_update_state(SxStreamDef *def)
{
	(void) define_function(def, SX_STRATEGY_UPDATE_STATE, "update_state");
}

static void
define_deduplicate(SxStreamDef *def)
{
	SxStateSpec *spec = define_state(def, SX_STRATEGY_DEDUPLICATE);

	if (spec->within >= 0)
		index_time(def, SX_EXPIRES_COLUMN, "");
	else
		ereport(WARNING,
				(errmsg("stream \"%s\" remembers every key for ever", def->name),
				 errhint("Option within = '…' forgets a key when the watermark has passed the time of its first row by so much.")));
}

static void
copy_initial_state(SxStreamDef *def, Oid state)
{
	sx_initial_state_copy(def->options, state);
}

/* ---------- rows in order of arrival ---------- */

/*
 * Does the query walk the records of one stream from first to last, whatever the
 * planner does?  One table in FROM, at each level.
 */
static bool
is_one_scan(Query *query)
{
	RangeTblEntry *rte;

	if (query->setOperations != NULL || list_length(query->jointree->fromlist) != 1 ||
		!IsA(linitial(query->jointree->fromlist), RangeTblRef))
		return false;
	rte = rt_fetch(linitial_node(RangeTblRef, query->jointree->fromlist)->rtindex, query->rtable);
	if (rte->rtekind == RTE_SUBQUERY)
		return is_one_scan(rte->subquery);
	if (rte->rtekind != RTE_RELATION)
		return false;
	return sx_is_stream_table(rte->relid) ||
		(sx_is_view(rte->relid) && is_one_scan(sx_view_query(rte->relid)));
}

/* The sources as an array of regclass, in order of creation. */
static char *
sources_sql(List *streams)
{
	Oid			types[] = {OIDARRAYOID};
	Datum	   *oids = palloc(sizeof(Datum) * list_length(streams));
	Datum		values[1];
	List	   *ordered = NIL;
	StringInfoData sql;
	ListCell   *lc;

	foreach(lc, streams)
		oids[foreach_current_index(lc)] = ObjectIdGetDatum(lfirst_oid(lc));
	values[0] = PointerGetDatum(construct_array(oids, list_length(streams), OIDOID,
												sizeof(Oid), true, TYPALIGN_INT));
	sx_catalog_rows("SELECT stream FROM streamext.source WHERE stream::oid = ANY ($1) "
					"GROUP BY stream ORDER BY min(seq), stream",
					1, types, values, NULL, sx_collect_oid, &ordered);
	initStringInfo(&sql);
	foreach(lc, ordered)
		appendStringInfo(&sql, "%s%s::regclass", sql.len > 0 ? ", " : "",
						 quote_literal_cstr(sx_qualified_name(lfirst_oid(lc))));
	return psprintf("ARRAY[%s]", sql.data);
}

static char *
column_list(Query *query)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	foreach(lc, query->targetList)
	{
		if (!lfirst_node(TargetEntry, lc)->resjunk)
			appendStringInfo(&sql, "%s%s", sql.len > 0 ? ", " : "",
							 quote_identifier(lfirst_node(TargetEntry, lc)->resname));
	}
	return sql.data;
}

/*
 * Puts the rows in order of arrival; trace: and the record of each behind its columns.
 * Leaves the query as it is where rows cannot be traced to records.
 */
static void
plan_arrival(SxStepPlan *plan, Query *query, bool trace)
{
	bool		ordered = query->sortClause != NIL || is_one_scan(query);
	Query	   *arrival;

	if (ordered && !trace)
		return;
	arrival = sx_query_with_arrival(query, plan->owner);
	if (arrival == NULL)
		return;
	if (ordered)
		plan->apply_sql = sx_deparse(arrival);
	else
		plan->apply_sql =
			psprintf("SELECT r.*\nFROM (SELECT d.*, pg_catalog.row_number() OVER () AS sx_row FROM (\n%s\n) d) r (%s, sx_row)\n"
					 "ORDER BY pg_catalog.array_position(%s, r.%s), r.%s, r.sx_row",
					 sx_deparse(arrival), column_list(arrival), sources_sql(plan->streams),
					 SX_ARRIVAL_STREAM, SX_ARRIVAL_RECORD);
}

/* ---------- plans ---------- */

static void
plan_map_with_state(SxStepPlan *plan, Query *query)
{
	SxStateSpec *spec = sx_state_spec(plan->strategy, query, plan->options);
	StringInfoData reason;

	initStringInfo(&reason);
	appendStringInfo(&reason, "%s is called for each record in order of arrival, with the state of its key (%s); ",
					 format_procedure(spec->function), sx_option(plan->options, "key"));
	appendStringInfoString(&reason, "a key leaves when the function returns NULL for its state");
	if (spec->idle_timeout >= 0)
		appendStringInfo(&reason, ", or when it has been idle for %s",
						 sx_length_text(spec->idle_timeout));
	if (spec->result_timer >= 0)
		appendStringInfo(&reason, "; it is called again when the watermark reaches what %s said",
						 quote_identifier(sx_option(plan->options, "event_timer")));
	plan->reason = reason.data;
	plan->end_watermark = spec->result_timer >= 0;
	plan_arrival(plan, query, true);
}

static void
plan_update_state(SxStepPlan *plan, Query *query)
{
	SxStateSpec *spec = sx_state_spec(plan->strategy, query, plan->options);

	plan->reason = psprintf("%s is called in each batch for %s (%s), with its rows as arrays; a key leaves when the function returns NULL",
							format_procedure(spec->function),
							spec->changed_only ? "every key that has rows in it" : "every key",
							sx_option(plan->options, "key"));
	plan_arrival(plan, query, false);
}

static void
plan_deduplicate(SxStepPlan *plan, Query *query)
{
	SxStateSpec *spec = sx_state_spec(plan->strategy, query, plan->options);

	plan->reason = psprintf("the first row of each key (%s) goes on; a key is remembered %s",
							sx_option(plan->options, "deduplicate"),
							spec->within < 0 ? "for ever" :
							psprintf("until the watermark has passed the time of that row by %s",
									 sx_length_text(spec->within)));
	plan->windowed = spec->within >= 0;
	plan_arrival(plan, query, false);
}

const SxStreamKind sx_kind_map_with_state = {
	.option = "map_with_state",
	.name = "map_with_state",
	.strategy = SX_STRATEGY_MAP_WITH_STATE,
	.define = define_map_with_state,
	.created = copy_initial_state,
	.plan = plan_map_with_state
};

const SxStreamKind sx_kind_update_state = {
	.option = "update_state",
	.name = "update_state",
	.strategy = SX_STRATEGY_UPDATE_STATE,
	.define = define_update_state,
	.created = copy_initial_state,
	.plan = plan_update_state
};

const SxStreamKind sx_kind_deduplicate = {
	.option = "deduplicate",
	.name = "deduplicate",
	.strategy = SX_STRATEGY_DEDUPLICATE,
	.define = define_deduplicate,
	.plan = plan_deduplicate
};
