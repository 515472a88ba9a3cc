/*-------------------------------------------------------------------------
 *
 * sink.c
 *		Sinks: those of the connectors table and null; the others are in sink/.
 *
 * A sink is a foreign table with the columns of its query and the options, and a
 * hidden view streamext_state.<sink>_q that holds the query.  In each batch
 *
 *		table			INSERT INTO target SELECT … FROM the hidden view
 *		table, key		the same as an upsert, or a delete (sink_delete.c).  One statement may touch a row only
 *						once, so of several rows of a key the last one by order of
 *						arrival is taken, or by the query's own ORDER BY.
 *		null			the query is evaluated and its rows are thrown away
 *
 * Columns go into the target by position; those behind may have defaults.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_coerce.h"
#include "streamext.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "plan/plan_internal.h"
#include "plan/sink_delete.h"
#include "plan/stream_def.h"
#include "sink/sink.h"

#define SINK_ROW	"sx_row"

/* One column of the query and the column of the target that it goes into. */
typedef struct SinkColumn
{
	char	   *name;			/* of the query */
	char	   *target;
	AttrNumber	attno;			/* of the target; 0: not there yet */
	Oid			type;
	int32		typmod;
	Oid			target_type;
	bool		is_key;
	bool		may_be_null;
} SinkColumn;

/* ---------- columns and keys ---------- */

/* Does the query have a column that says whether a row deletes? */
static bool
deletes(Query *query)
{
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!tle->resjunk && strcmp(tle->resname, SX_DELETE_COLUMN) == 0)
			return true;
	}
	return false;
}

static List *
query_columns(Query *query)
{
	List	   *columns = NIL;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		SinkColumn *column;

		if (tle->resjunk || strcmp(tle->resname, SX_DELETE_COLUMN) == 0)
			continue;
		column = palloc0(sizeof(SinkColumn));
		column->name = column->target = tle->resname;
		column->type = column->target_type = exprType((Node *) tle->expr);
		column->typmod = exprTypmod((Node *) tle->expr);
		column->may_be_null = true;
		columns = lappend(columns, column);
	}
	return columns;
}

static SinkColumn *
column_by_name(List *columns, const char *name)
{
	ListCell   *lc;

	foreach(lc, columns)
	{
		SinkColumn *column = lfirst(lc);

		if (strcmp(column->name, name) == 0)
			return column;
	}
	return NULL;
}

/* Marks the columns of option key; false when there is none. */
static bool
mark_keys(List *columns, List *options)
{
	const char *key = sx_option(options, "key");
	List	   *names;
	ListCell   *lc;

	if (key == NULL)
		return false;
	if (!SplitIdentifierString(pstrdup(key), ',', &names) || names == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"key\" is not a list of columns: \"%s\"", key),
				 errhint("Write key = 'a' or key = 'a, b'.")));
	foreach(lc, names)
	{
		SinkColumn *column = column_by_name(columns, lfirst(lc));

		if (column == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("key column \"%s\" is not in the query's output", (char *) lfirst(lc)),
					 errhint("Name columns of the sink.")));
		column->is_key = true;
	}
	return true;
}

/* Such a column takes no value but DEFAULT. */
static void
refuse_computed(Form_pg_attribute att, Oid target)
{
	if (att->attgenerated == '\0' && att->attidentity != ATTRIBUTE_IDENTITY_ALWAYS)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_GENERATED_ALWAYS),
			 errmsg("column \"%s\" of table %s is generated always, and cannot be written",
					NameStr(att->attname), sx_qualified_name(target)),
			 errhint("Columns are matched by position: let it come behind those that the query fills.")));
}

/* Pairs the columns with those of the target, by position. */
static void
match_target(List *columns, Oid target)
{
	Relation	rel = table_open(target, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	int			i = 0;
	ListCell   *lc;

	foreach(lc, columns)
	{
		SinkColumn *column = lfirst(lc);
		Form_pg_attribute att;

		while (i < desc->natts && TupleDescAttr(desc, i)->attisdropped)
			i++;
		if (i >= desc->natts)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("table %s has no column for column \"%s\" of the query",
							sx_qualified_name(target), column->name),
					 errhint("Columns are matched by position: list the columns of the query in the order of the table.")));
		att = TupleDescAttr(desc, i++);
		refuse_computed(att, target);
		column->target = pstrdup(NameStr(att->attname));
		column->attno = att->attnum;
		column->target_type = att->atttypid;
		column->may_be_null = !att->attnotnull;
		if (!can_coerce_type(1, &column->type, &att->atttypid, COERCION_ASSIGNMENT) ||
			(column->is_key && column->type != att->atttypid))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of table %s is of type %s, but column \"%s\" of the query is of type %s",
							column->target, sx_qualified_name(target),
							format_type_be(att->atttypid), column->name,
							format_type_be(column->type)),
					 errhint("Columns are matched by position; cast the column, or list the columns in the order of the table.")));
	}
	table_close(rel, NoLock);
}

/* ---------- a unique index for the key ---------- */

/* The statement of a sink with a key adds columns of its own to those of the query. */
static void
check_names(List *columns)
{
	static const char *const taken[] = {SINK_ROW, SX_ARRIVAL_STREAM, SX_ARRIVAL_RECORD};

	for (int i = 0; i < lengthof(taken); i++)
	{
		if (column_by_name(columns, taken[i]) != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_COLUMN),
					 errmsg("a sink with a key cannot have a column \"%s\"", taken[i]),
					 errhint("Give the column another name with AS: it goes into the table by its position.")));
	}
}

/*
 * Does column i of the index tell values apart as the collation does?  All that are
 * deterministic do it alike.
 */
static bool
same_equality(HeapTuple index, int i, Oid collation)
{
	bool		isnull;
	Datum		datum = SysCacheGetAttr(INDEXRELID, index, Anum_pg_index_indcollation, &isnull);
	Oid			own = ((oidvector *) DatumGetPointer(datum))->values[i];

	return own == collation ||
		((!OidIsValid(own) || get_collation_isdeterministic(own)) &&
		 (!OidIsValid(collation) || get_collation_isdeterministic(collation)));
}

static bool
index_fits(Relation target, Oid index, List *columns)
{
	HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	Form_pg_index form;
	bool		fits;
	int			nkeys = 0;
	ListCell   *lc;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_index) GETSTRUCT(tuple);
	fits = form->indisunique && form->indimmediate && form->indisvalid &&
		heap_attisnull(tuple, Anum_pg_index_indpred, NULL) &&
		heap_attisnull(tuple, Anum_pg_index_indexprs, NULL);
	foreach(lc, columns)
	{
		SinkColumn *column = lfirst(lc);
		bool		found = false;

		if (!column->is_key)
			continue;
		nkeys++;
		for (int i = 0; i < form->indnkeyatts; i++)
			found |= form->indkey.values[i] == column->attno &&
				same_equality(tuple, i, TupleDescAttr(RelationGetDescr(target),
													  column->attno - 1)->attcollation);
		fits &= found &&
			(form->indnullsnotdistinct ||
			 TupleDescAttr(RelationGetDescr(target), column->attno - 1)->attnotnull);
	}
	fits &= form->indnkeyatts == nkeys;
	ReleaseSysCache(tuple);
	return fits;
}

static char *
key_names(List *columns, bool of_target)
{
	StringInfoData names;
	ListCell   *lc;

	initStringInfo(&names);
	foreach(lc, columns)
	{
		SinkColumn *column = lfirst(lc);

		if (column->is_key)
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
							 quote_identifier(of_target ? column->target : column->name));
	}
	return names.data;
}

static void
require_unique_index(Oid target, List *columns)
{
	Relation	rel = table_open(target, AccessShareLock);
	ListCell   *lc;
	bool		found = false;

	foreach(lc, RelationGetIndexList(rel))
		found |= index_fits(rel, lfirst_oid(lc), columns);
	table_close(rel, NoLock);
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("table %s has no unique index on exactly (%s) that treats NULLs as equal",
						sx_qualified_name(target), key_names(columns, true)),
				 errhint("CREATE UNIQUE INDEX ON %s (%s) NULLS NOT DISTINCT, or a primary key on these columns.",
						 sx_qualified_name(target), key_names(columns, true))));
}

/* ---------- maintenance SQL ---------- */

static char *
list_sql(List *columns, bool of_target, const char *prefix)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	foreach(lc, columns)
	{
		SinkColumn *column = lfirst(lc);

		appendStringInfo(&sql, "%s%s%s", sql.len > 0 ? ", " : "", prefix,
						 quote_identifier(of_target ? column->target : column->name));
	}
	return sql.data;
}

/* The last row of each key. */
static char *
last_rows_sql(Query *query, List *columns, const SxStepNames *names)
{
	Query	   *arrival = query->sortClause != NIL ? NULL :
		sx_query_with_arrival(query, names->owner);
	char	   *keys = key_names(columns, false);

	if (arrival == NULL)
		return psprintf("SELECT DISTINCT ON (%s) r.*\n"
						"FROM (SELECT d.*, pg_catalog.row_number() OVER () AS " SINK_ROW " FROM %s d) r\n"
						"ORDER BY %s, " SINK_ROW " DESC", keys, names->query, keys);
	return psprintf("SELECT DISTINCT ON (%s) r.*\n"
					"FROM (SELECT d.*, pg_catalog.row_number() OVER () AS " SINK_ROW " FROM (\n%s\n) d (%s, %s, %s)) r\n"
					"ORDER BY %s, %s DESC, %s DESC, " SINK_ROW " DESC",
					keys, sx_deparse(arrival),
					psprintf("%s%s", list_sql(columns, false, ""),
							 deletes(query) ? ", " SX_DELETE_COLUMN : ""),
					SX_ARRIVAL_STREAM, SX_ARRIVAL_RECORD, keys,
					SX_ARRIVAL_STREAM, SX_ARRIVAL_RECORD);
}

/* Rows of one key: in the target t and among the last rows l. */
static char *
same_key_sql(List *columns)
{
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	foreach(lc, columns)
	{
		SinkColumn *column = lfirst(lc);

		if (column->is_key)
			appendStringInfo(&sql, " AND %s",
							 sx_same_value_sql(column->target_type,
											   psprintf("t.%s", quote_identifier(column->target)),
											   psprintf("l.%s", quote_identifier(column->name)),
											   column->may_be_null));
	}
	return sql.data;
}

/* Where the rows to put come from; a key is deleted or put, never both. */
static char *
insert_rows_sql(Query *query, List *columns, const SxStepNames *names)
{
	char	   *last = last_rows_sql(query, columns, names);
	char	   *target = list_sql(columns, true, "");
	char	   *values = list_sql(columns, false, "l.");

	if (!deletes(query))
		return psprintf("INSERT INTO %s (%s)\nSELECT %s\nFROM (\n%s\n) l", names->state, target,
						values, last);
	return psprintf("WITH l AS MATERIALIZED (\n%s\n), gone AS (\n"
					"DELETE FROM %s t USING l WHERE l." SX_DELETE_COLUMN "%s\n)\n"
					"INSERT INTO %s (%s)\nSELECT %s\nFROM l\nWHERE l." SX_DELETE_COLUMN " IS NOT TRUE",
					last, names->state, same_key_sql(columns), names->state, target, values);
}

static char *
upsert_sql(Query *query, List *columns, const SxStepNames *names)
{
	StringInfoData sql;
	bool		first = true;
	ListCell   *lc;

	initStringInfo(&sql);
	appendStringInfo(&sql, "%s\nON CONFLICT (%s) DO ", insert_rows_sql(query, columns, names),
					 key_names(columns, true));
	foreach(lc, columns)
	{
		SinkColumn *column = lfirst(lc);
		const char *name = quote_identifier(column->target);

		if (column->is_key)
			continue;
		appendStringInfo(&sql, "%s\n    %s = excluded.%s", first ? "UPDATE SET" : ",",
						 name, name);
		first = false;
	}
	if (first)
		appendStringInfoString(&sql, "NOTHING");
	return sql.data;
}

static bool
is_table_sink(List *options)
{
	return strcmp(sx_option(options, "connector"), "table") == 0;
}

SxStepPlan *
sx_build_sink_plan(Query *query, List *options, Oid target, const SxStepNames *names)
{
	SxStepPlan *plan = palloc0(sizeof(SxStepPlan));
	List	   *columns = query_columns(query);
	bool		keyed = mark_keys(columns, options);

	SxReads		reads = sx_query_reads(query, options);

	plan->name = names->step;
	plan->kind = SX_STEP_SINK;
	plan->streams = reads.streams;
	plan->reads = reads.derived;
	plan->options = options;
	plan->retention = -1;
	if (strcmp(sx_option(options, "connector"), "function") == 0)
	{
		sx_function_sink_plan(plan, names);
		return plan;
	}
	if (sx_sink_plan(plan, options, names->query))
		return plan;
	if (!is_table_sink(options))
	{
		plan->strategy = SX_STRATEGY_SINK_NULL;
		plan->reason = "rows are computed and thrown away";
		plan->apply_sql = psprintf("SELECT pg_catalog.count(d.*)\nFROM %s d", names->query);
		return plan;
	}
	plan->strategy = SX_STRATEGY_SINK_TABLE;
	if (OidIsValid(target))
		match_target(columns, target);
	if (keyed)
	{
		plan->reason = deletes(query) ?
			psprintf("a key: the last row of each key in the batch replaces the one in the table, or deletes it: %s",
					 sx_option(options, "delete_when")) :
			"a key: the last row of each key in the batch replaces the one in the table";
		plan->apply_sql = upsert_sql(query, columns, names);
	}
	else
	{
		plan->reason = "no key: the rows of each batch are added";
		plan->apply_sql = psprintf("INSERT INTO %s (%s)\nSELECT %s\nFROM %s d", names->state,
								   list_sql(columns, true, ""),
								   list_sql(columns, false, "d."), names->query);
	}
	return plan;
}

/* ---------- creation ---------- */

static void
append_columns(StringInfo sql, List *columns)
{
	ListCell   *lc;

	foreach(lc, columns)
	{
		SinkColumn *column = lfirst(lc);

		appendStringInfo(sql, "%s%s %s", lc == list_head(columns) ? "" : ", ",
						 quote_identifier(column->name),
						 sx_type_sql(column->type, column->typmod));
	}
}

static void
create_target(const char *qualified, List *columns, bool keyed)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (", qualified);
	append_columns(&sql, columns);
	appendStringInfoChar(&sql, ')');
	sx_execute_ddl(sql.data);
	if (keyed)
		sx_execute_ddl(psprintf("CREATE UNIQUE INDEX ON %s (%s) NULLS NOT DISTINCT",
								qualified, key_names(columns, false)));
}

static void
check_target(Oid target, bool keyed, bool deleting)
{
	AclMode		needed = ACL_INSERT | (keyed ? ACL_UPDATE | ACL_SELECT : 0) |
		(deleting ? ACL_DELETE : 0);
	char		relkind = get_rel_relkind(target);

	if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is not a table", sx_qualified_name(target)),
				 errhint("The target of a sink must be an ordinary or a partitioned table.")));
	if (get_rel_persistence(target) != RELPERSISTENCE_PERMANENT)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table %s is unlogged or temporary", sx_qualified_name(target)),
				 errhint("Rows would be lost after a crash that keeps the position: ALTER TABLE … SET LOGGED.")));
	if (pg_class_aclmask(target, GetUserId(), needed, ACLMASK_ALL) != needed)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(target));
}

/* Finds or makes the target; the option keeps its qualified name. */
static Oid
prepare_target(List *options, Query *query)
{
	List	   *columns = query_columns(query);
	bool		keyed = mark_keys(columns, options);
	RangeVar   *name;
	Oid			target;
	ListCell   *lc;

	name = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(sx_option(options, "table"))));
	target = RangeVarGetRelid(name, AccessShareLock, true);
	if (!OidIsValid(target))
	{
		Oid			schema = RangeVarGetCreationNamespace(name);

		create_target(quote_qualified_identifier(get_namespace_name(schema), name->relname),
					  columns, keyed);
		target = get_relname_relid(name->relname, schema);
	}
	check_target(target, keyed, sx_option(options, "delete_when") != NULL);
	match_target(columns, target);
	if (keyed)
	{
		check_names(columns);
		require_unique_index(target, columns);
	}
	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "table") == 0)
			option->arg = (Node *) makeString(sx_qualified_name(target));
	}
	return target;
}

void
sx_plan_create_sink(CreateTableAsStmt *stmt, const char *query_string)
{
	RangeVar   *rel = stmt->into->rel;
	List	   *options = stmt->into->options;
	Query	   *query = sx_created_query(stmt);
	SxReads		reads = sx_query_reads(query, options);
	SxViewOptions *common = sx_view_options(options);
	const char *connector = sx_option(options, "connector");
	Query	   *stored;
	Oid			target = InvalidOid;
	Oid			function = InvalidOid;
	Oid			panes;
	Oid			query_view;
	Oid			sink;
	Oid			owner = GetUserId();
	char	   *schema;
	char	   *base;
	SxTrusted	trusted;

	if (reads.streams == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("the query of sink \"%s\" reads no stream", rel->relname),
				 errhint("A sink writes what each batch brings: name a stream in its FROM.")));
	sx_check_slides(&reads);
	schema = get_namespace_name(RangeVarGetCreationNamespace(rel));
	if (is_table_sink(options))
		options = sx_sink_delete_options(query, options);
	stored = sx_sink_delete_query(query, options);
	if (is_table_sink(options))
		target = prepare_target(options, query);
	else if (strcmp(connector, "function") == 0)
		function = sx_function_sink_check(options);
	sx_sink_check(query, options);
	sx_qualify_source_option(options);
	sink = sx_create_query_table(schema, rel->relname, sx_query_column_defs(query), options);

	sx_trusted_begin(&trusted);
	base = sx_state_base_name(schema, rel->relname);
	query_view = sx_define_query_view(base, stored, owner);
	panes = sx_panes_create(base, query, owner);
	sx_trusted_end(&trusted);
	sx_belongs_to(query_view, sink);
	if (OidIsValid(target))
		sx_depend_on(sink, RelationRelationId, target);
	if (OidIsValid(function))
		sx_depend_on(sink, ProcedureRelationId, function);
	sx_depend_on_source_option(sink, options);
	CommandCounterIncrement();
	sx_register_step(sink, "sink", query_view, target,
					 connector, &reads,
					 common->backfill, common->pipeline, sx_options_to_json(options));
	sx_panes_created(sink, panes);
	sx_sink_register(sink, options);
}
