/*-------------------------------------------------------------------------
 *
 * sink_create.c
 *		CREATE of a sink, and the target table of one of connector table.
 *
 * A target that is not there is made, with a unique index when there is a key.  One that is
 * there must take the query's columns, be logged, and have such an index: one statement
 * puts or deletes the rows of a batch by their key, and NULL is a key like any other.
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
#include "plan/sink_columns.h"
#include "plan/sink_delete.h"
#include "plan/stream_def.h"
#include "sink/sink.h"

/* ---------- a unique index for the key ---------- */

/* The statement of a sink with a key adds columns of its own to those of the query. */
static void
check_names(List *columns)
{
	static const char *const taken[] = {SX_SINK_ROW, SX_ARRIVAL_STREAM, SX_ARRIVAL_RECORD};

	for (int i = 0; i < lengthof(taken); i++)
	{
		if (sx_sink_column(columns, taken[i]) != NULL)
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
		SxSinkColumn *column = lfirst(lc);
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
						sx_qualified_name(target), sx_sink_key_names(columns, true)),
				 errhint("CREATE UNIQUE INDEX ON %s (%s) NULLS NOT DISTINCT, or a primary key on these columns.",
						 sx_qualified_name(target), sx_sink_key_names(columns, true))));
}

/* ---------- creation ---------- */

static void
append_columns(StringInfo sql, List *columns)
{
	ListCell   *lc;

	foreach(lc, columns)
	{
		SxSinkColumn *column = lfirst(lc);

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
								qualified, sx_sink_key_names(columns, false)));
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
	List	   *columns = sx_sink_columns(query);
	bool		keyed = sx_sink_mark_keys(columns, options);
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
	sx_sink_match_target(columns, target);
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
	if (sx_is_table_sink(options))
		options = sx_sink_delete_options(query, options);
	stored = sx_sink_delete_query(query, options);
	if (sx_is_table_sink(options))
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
