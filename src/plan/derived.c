/*-------------------------------------------------------------------------
 *
 * derived.c
 *		CREATE STREAM … AS SELECT without a connector.
 *
 * A query that is row by row and has no options becomes a view: readers are flattened
 * into one plan with it, and nothing is stored.  Everything else has rows of its own
 * in a batch, the same for all who read it, and becomes a foreign table with a query
 * (stream_def.h).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "streamext.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "catalog/depend.h"
#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "fdw/stream.h"
#include "plan/plan_internal.h"
#include "plan/state_spec.h"
#include "plan/stream_def.h"

static void
define_batch(SxStreamDef *def)
{
}

static const SxStreamKind kind_batch = {
	.name = "batch",
	.strategy = SX_STRATEGY_BATCH,
	.stateless = true,
	.define = define_batch
};

static const SxStreamKind *const kinds[] = {
	&kind_batch,
	&sx_kind_window,
	&sx_kind_update_state,
	&sx_kind_map_with_state,
	&sx_kind_deduplicate,
	&sx_kind_changes
};

/* ---------- what define() needs ---------- */

const SxStreamKind *
sx_stream_kind(List *options)
{
	const SxStreamKind *chosen = NULL;

	sx_check_state_options(options);
	for (int i = 0; i < lengthof(kinds); i++)
	{
		if (kinds[i]->option == NULL || sx_option(options, kinds[i]->option) == NULL)
			continue;
		if (chosen != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("options \"%s\" and \"%s\" cannot be given together",
							chosen->option, kinds[i]->option),
					 errhint("Make two streams, one AS SELECT … FROM the other.")));
		chosen = kinds[i];
	}
	return chosen != NULL ? chosen : &kind_batch;
}

List *
sx_query_column_defs(Query *query)
{
	List	   *columns = NIL;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		Node	   *expr = (Node *) tle->expr;

		if (!tle->resjunk)
			columns = lappend(columns, makeColumnDef(tle->resname, exprType(expr),
													 exprTypmod(expr), exprCollation(expr)));
	}
	return columns;
}

ColumnDef *
sx_find_column_def(List *columns, const char *name)
{
	ListCell   *lc;

	foreach(lc, columns)
	{
		ColumnDef  *column = lfirst_node(ColumnDef, lc);

		if (strcmp(column->colname, name) == 0)
			return column;
	}
	return NULL;
}

static char *
column_names(List *columns)
{
	StringInfoData names;
	ListCell   *lc;

	initStringInfo(&names);
	foreach(lc, columns)
		appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
						 quote_identifier(lfirst_node(ColumnDef, lc)->colname));
	return names.data;
}

List *
sx_columns_of_option(List *options, const char *option, List *columns)
{
	const char *value = sx_option(options, option);
	List	   *names;
	List	   *result = NIL;
	ListCell   *lc;

	if (!SplitIdentifierString(pstrdup(value), ',', &names) || names == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" is not a list of columns: \"%s\"", option, value),
				 errhint("Write %s = 'a' or %s = 'a, b'.", option, option)));
	foreach(lc, names)
	{
		ColumnDef  *column = sx_find_column_def(columns, lfirst(lc));

		if (column == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of option \"%s\" is not in the query's output",
							(char *) lfirst(lc), option),
					 errhint("Its columns are: %s.", column_names(columns))));
		if (list_member_ptr(result, column))
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_COLUMN),
					 errmsg("option \"%s\" names column \"%s\" twice", option,
							column->colname)));
		result = lappend(result, column);
	}
	return result;
}

void
sx_set_option(List *options, const char *name, const char *value)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, name) == 0)
			option->arg = (Node *) makeString(pstrdup(value));
	}
}

/* ---------- creation ---------- */

static void
append_column_defs(StringInfo sql, List *columns)
{
	ListCell   *lc;

	foreach(lc, columns)
	{
		ColumnDef  *column = lfirst_node(ColumnDef, lc);

		appendStringInfo(sql, "%s%s", lc == list_head(columns) ? "" : ", ",
						 sx_column_sql(column->colname, column->typeName->typeOid,
									   column->typeName->typemod, column->collOid));
		if (column->is_not_null)
			appendStringInfoString(sql, " NOT NULL");
	}
}

/* A foreign table with a query: a sink or a derived stream. */
Oid
sx_create_query_table(const char *schema, const char *name, List *columns, List *options)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE FOREIGN TABLE %s (",
					 quote_qualified_identifier(schema, name));
	append_column_defs(&sql, columns);
	appendStringInfo(&sql, ") SERVER %s OPTIONS (" SX_KIND_OPTION " '%s'", SX_SERVER,
					 sx_option(options, "connector") != NULL ? "sink" : "derived");
	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		appendStringInfo(&sql, ", %s %s", quote_identifier(option->defname),
						 quote_literal_cstr(strVal(option->arg)));
	}
	appendStringInfoChar(&sql, ')');

	/* keeps what watches CREATE FOREIGN TABLE from taking it for a source */
	sx_creating_query_table = true;
	PG_TRY();
	{
		sx_execute_ddl(sql.data);
	}
	PG_FINALLY();
	{
		sx_creating_query_table = false;
	}
	PG_END_TRY();
	return get_relname_relid(name, get_namespace_oid(schema, false));
}

void
sx_depend_on(Oid relid, Oid class, Oid object)
{
	sx_depend(RelationRelationId, relid, class, object, 0, DEPENDENCY_NORMAL);
}

/* Updated again and again, or filled at one end and emptied at the other: as SX_CHURN_OPTIONS. */
static Oid
create_state(const char *base, const SxStreamDef *def)
{
	const char *qualified = quote_qualified_identifier(SX_STATE_SCHEMA, base);
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (", qualified);
	append_column_defs(&sql, def->state_columns);
	appendStringInfo(&sql, ") USING heap WITH (%sautovacuum_vacuum_scale_factor = 0.02, "
					 "autovacuum_vacuum_cost_delay = 0, vacuum_index_cleanup = on)",
					 def->state_is_queue ? "" : "fillfactor = 50, ");
	sx_execute_ddl(sql.data);
	sx_execute_ddl(psprintf("ALTER TABLE %s REPLICA IDENTITY FULL", qualified));
	foreach(lc, def->state_indexes)
	{
		const char *index = lfirst(lc);
		bool		unique = strncmp(index, "UNIQUE ", 7) == 0;

		sx_execute_ddl(psprintf("CREATE %sINDEX ON %s %s", unique ? "UNIQUE " : "",
								qualified, unique ? index + 7 : index));
	}
	return get_relname_relid(base, get_namespace_oid(SX_STATE_SCHEMA, false));
}

/* Names in option "source" are kept qualified. */
void
sx_qualify_source_option(List *options)
{
	StringInfoData names;
	ListCell   *lc;

	if (sx_option(options, "source") == NULL)
		return;
	initStringInfo(&names);
	foreach(lc, sx_source_option(options))
		appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
						 sx_qualified_name(lfirst_oid(lc)));
	sx_set_option(options, "source", names.data);
}

void
sx_depend_on_source_option(Oid relid, List *options)
{
	ListCell   *lc;

	foreach(lc, sx_source_option(options))
		sx_depend_on(relid, RelationRelationId, lfirst_oid(lc));
}

static void
require_stream(const SxReads *reads, const char *name)
{
	if (reads->streams != NIL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
			 errmsg("the query of stream \"%s\" reads no stream", name),
			 errhint("A query over tables alone is a view: CREATE VIEW … AS SELECT.  Where a function reads a stream unseen, name it: WITH (source = '…').")));
}

static void
create_stream_table(SxStreamDef *def, const SxStreamKind *kind)
{
	char	   *base = sx_state_base_name(def->schema, def->name);
	Oid			owner = GetUserId();
	Oid			query_view;
	Oid			state = InvalidOid;
	Oid			panes = InvalidOid;
	Oid			stream;
	SxTrusted	trusted;
	ListCell   *lc;

	kind->define(def);
	if (def->columns == NIL)
		def->columns = sx_query_column_defs(def->query);
	stream = sx_create_query_table(def->schema, def->name, def->columns, def->options);

	sx_trusted_begin(&trusted);
	query_view = sx_define_query_view(base, def->query, owner);
	if (def->state_columns != NIL)
	{
		state = create_state(base, def);
		sx_give_to(state, owner);
	}
	if (kind == &kind_batch)
		panes = sx_panes_create(base, def->query, owner);
	sx_trusted_end(&trusted);

	sx_belongs_to(query_view, stream);
	if (OidIsValid(state))
		sx_belongs_to(state, stream);
	sx_depend_on_source_option(stream, def->options);
	foreach(lc, def->depends_on)
	{
		ObjectAddress *object = lfirst(lc);

		sx_depend_on(stream, object->classId, object->objectId);
	}
	CommandCounterIncrement();
	if (kind->created != NULL)
		kind->created(def, state);
	sx_register_stream(stream, query_view, OidIsValid(panes) ? panes : state, kind->name,
					   &def->reads, kind->stateless && !OidIsValid(panes),
					   sx_options_to_json(def->options));
	sx_panes_created(stream, panes);
}

void
sx_plan_create_derived(CreateTableAsStmt *stmt, const char *query_string)
{
	SxStreamDef def = {
		.schema = get_namespace_name(RangeVarGetCreationNamespace(stmt->into->rel)),
		.name = stmt->into->rel->relname,
		.query = sx_created_query(stmt),
		.options = stmt->into->options
	};

	sx_check_window_options(def.options);
	sx_qualify_source_option(def.options);
	def.reads = sx_option(def.options, "changes") != NULL ? sx_view_reads(def.query) :
		sx_query_reads(def.query, def.options);
	require_stream(&def.reads, def.name);
	sx_check_slides(&def.reads);
	if (def.options == NIL && sx_is_row_wise(def.query))
		sx_register_derived(sx_define_view(stmt->into->rel, def.query));
	else
		create_stream_table(&def, sx_stream_kind(def.options));
}

/* ---------- plan ---------- */

void
sx_report_changed_columns(Oid relid)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the columns of stream %s are not those of its query any more",
					sx_qualified_name(relid)),
			 errhint("Drop the stream and create it again.")));
}

void
sx_plan_check_columns(Oid relid, Oid query)
{
	Relation	table = relation_open(relid, AccessShareLock);
	Relation	view = relation_open(query, AccessShareLock);
	TupleDesc	columns = RelationGetDescr(table);
	TupleDesc	expected = RelationGetDescr(view);
	bool		fits = columns->natts == expected->natts;

	for (int i = 0; fits && i < columns->natts; i++)
		fits = !TupleDescAttr(columns, i)->attisdropped &&
			TupleDescAttr(columns, i)->atttypid == TupleDescAttr(expected, i)->atttypid;
	if (!fits)
		sx_report_changed_columns(relid);
	relation_close(view, NoLock);
	relation_close(table, NoLock);
}

char *
sx_plan_peek_sql(const SxStepPlan *plan)
{
	Relation	rel = relation_open(plan->relid, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	StringInfoData sql;

	if (plan->window != NULL)
	{
		relation_close(rel, NoLock);
		return sx_window_peek_sql(plan);
	}
	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < desc->natts; i++)
		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "",
						 quote_identifier(NameStr(TupleDescAttr(desc, i)->attname)));
	appendStringInfo(&sql, "\nFROM %s", sx_qualified_name(plan->state));
	relation_close(rel, NoLock);
	return sql.data;
}

SxStepPlan *
sx_build_stream_plan(Query *query, List *options, const SxStepNames *names)
{
	const SxStreamKind *kind = sx_stream_kind(options);
	SxStepPlan *plan = palloc0(sizeof(SxStepPlan));
	SxReads		reads = sx_query_reads(query, options);

	plan->name = names->step;
	plan->owner = names->owner;
	plan->kind = SX_STEP_STREAM;
	plan->strategy = kind->strategy;
	plan->stateless = kind->stateless;
	plan->reason = "rows of its own in each batch, evaluated once for all who read them";
	plan->streams = reads.streams;
	plan->reads = reads.derived;
	plan->options = options;
	plan->retention = -1;
	plan->apply_sql = psprintf("SELECT d.*\nFROM %s d", names->query);
	if (kind->plan != NULL)
		kind->plan(plan, query);
	return plan;
}
