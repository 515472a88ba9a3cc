/*-------------------------------------------------------------------------
 *
 * source_table.c
 *		The connector 'table', on the side of DDL: which tables can be followed,
 *		and the trigger that feeds the log.
 *
 * Reading is the queue's (source_queue.c), and so is the log; a trigger on the table
 * writes to it (table_feed.c).  Everything is bound by dependencies:
 *
 *		log      ── internal ──> stream     goes with the stream
 *		trigger  ── internal ──> stream     goes with the stream, and with nothing else
 *		trigger  ── normal ───> column      a column in use cannot be dropped or change
 *											its type, but it can be renamed: the trigger
 *											knows it by number
 *		stream   ── normal ───> table       the table cannot be dropped without CASCADE
 *
 * The trigger is how table and columns are found later, whatever they are called by
 * then; the option keeps the name that they had.
 *
 * Making the trigger locks the table against writers.  Under that lock start = 'earliest'
 * copies the rows that are there into the log, as a snapshot taken after the lock shows
 * them, whatever the isolation level: so each row is either copied or seen by the trigger.
 *
 * The log is written whoever inserts, so whose rows a stream shows is decided once, when
 * it is created: that takes SELECT and TRIGGER on the table, and no row-level security
 * that would hide rows from the creator.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/depend.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "catalog/state_guard.h"
#include "catalog/sx_catalog.h"
#include "commands/defrem.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "source/log_table.h"
#include "source/queue.h"
#include "source/table.h"
#include "streamext.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/varlena.h"

/* ---------------------------------------------------------------- which table */

static Oid
table_by_name(const SxStream *stream)
{
	const char *option = sx_stream_option(stream, "table", "");
	RangeVar   *name = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(option)));
	Oid			table = RangeVarGetRelid(name, AccessShareLock, true);

	if (!OidIsValid(table))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s\" of stream %s does not exist", option, stream->label),
				 errhint("Create the table first.")));
	return table;
}

/* Of a registered stream with its map, else by the option. */
static Oid
followed_table(const SxStream *stream, AttrNumber **map)
{
	Oid			trigger = sx_table_trigger_of(stream->relid);
	SxTriggerInfo info;

	*map = NULL;
	if (!OidIsValid(trigger) || !sx_table_trigger_info(trigger, &info))
		return table_by_name(stream);
	*map = sx_table_map_parse(stream, info.map ? info.map : "");
	return info.table;
}

/* The reason why the relation cannot be followed, or NULL. */
static const char *
reason_against(Relation rel, const char **hint)
{
	char		relkind = rel->rd_rel->relkind;
	const char *schema = get_namespace_name(RelationGetNamespace(rel));

	*hint = "Name an ordinary or a partitioned table.";
	if (relkind == RELKIND_VIEW || relkind == RELKIND_MATVIEW)
	{
		*hint = "Rows are inserted into tables: follow the table behind the view, and write its query as CREATE STREAM … AS SELECT.";
		return "is a view";
	}
	if (relkind == RELKIND_FOREIGN_TABLE)
	{
		*hint = "A stream is read by its name in a query; other foreign tables are followed on their own server.";
		return "is a foreign table";
	}
	if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE)
		return "is not a table";
	if (IsSystemRelation(rel) || strcmp(schema, "information_schema") == 0)
		return "is a system table";
	if (strcmp(schema, "streamext") == 0 || strcmp(schema, SX_STATE_SCHEMA) == 0)
	{
		*hint = "Name a table of your own; a sink of connector table writes results to one.";
		return "is a table of streamext itself";
	}
	if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
	{
		*hint = "Its rows do not outlive a session or a crash: ALTER TABLE … SET LOGGED, or use a permanent table.";
		return "is temporary or unlogged";
	}
	return NULL;
}

static void
check_table(const SxStream *stream, Relation rel)
{
	const char *hint;
	const char *reason = reason_against(rel, &hint);
	Oid			relid = RelationGetRelid(rel);

	if (reason != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("stream %s cannot follow \"%s\": it %s", stream->label,
						RelationGetRelationName(rel), reason),
				 errhint("%s", hint)));
	if (pg_class_aclmask(relid, GetUserId(), ACL_TRIGGER | ACL_SELECT, ACLMASK_ALL) !=
		(ACL_TRIGGER | ACL_SELECT))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to follow table %s", sx_relation_label(relid)),
				 errhint("It takes the privileges SELECT and TRIGGER on the table.")));
	if (check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("table %s has row-level security that applies to \"%s\"",
						sx_relation_label(relid), GetUserNameFromId(GetUserId(), false)),
				 errhint("A stream holds all new rows: let the owner of the table create it.")));
}

/* -------------------------------------------------------------------- columns */

static AttrNumber
find_column(const SxStream *stream, const SxColumn *column, Relation rel, AttrNumber known)
{
	AttrNumber	attno = known != 0 ? known : get_attnum(RelationGetRelid(rel), column->name);
	const char *table = sx_relation_label(RelationGetRelid(rel));
	Form_pg_attribute att;

	if (attno <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("table %s has no column \"%s\" of stream %s", table, column->name,
						stream->label),
				 errhint("The columns of the stream are found in the table by their names.")));
	att = TupleDescAttr(RelationGetDescr(rel), attno - 1);
	if (att->atttypid != column->type ||
		(column->typmod >= 0 && column->typmod != att->atttypmod))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of stream %s is of type %s, but in table %s it is of type %s",
						column->name, stream->label,
						format_type_with_typemod(column->type, column->typmod), table,
						format_type_with_typemod(att->atttypid, att->atttypmod)),
				 errhint("Declare the stream's column as %s.",
						 format_type_with_typemod(att->atttypid, att->atttypmod))));
	if (att->attgenerated != '\0' && att->attgenerated != ATTRIBUTE_GENERATED_STORED)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" of table %s is a virtual generated column",
						column->name, table),
				 errhint("Triggers do not see its value: make it STORED, or compute it in a query over the stream.")));
	return attno;
}

/* The table's column for each of the stream's, by attno - 1. */
static AttrNumber *
map_columns(const SxStream *stream, Relation rel, const AttrNumber *known)
{
	AttrNumber *map = palloc0(sizeof(AttrNumber) * Max(stream->natts, 1));

	for (int i = 0; i < stream->natts; i++)
	{
		const SxColumn *column = &stream->columns[i];

		if (!column->dropped && column->metadata == SX_META_NONE)
			map[i] = find_column(stream, column, rel, known ? known[i] : 0);
	}
	return map;
}

void
sx_table_check(SxStream *stream)
{
	AttrNumber *known;
	Oid			table = followed_table(stream, &known);
	Relation	rel = relation_open(table, AccessShareLock);

	if (known == NULL)
		check_table(stream, rel);
	(void) map_columns(stream, rel, known);
	relation_close(rel, NoLock);
}

/* --------------------------------------------------------------------- trigger */

static char *
trigger_name(const SxStream *stream, Oid table)
{
	char	   *name = makeObjectName("streamext", stream->name, NULL);

	for (int i = 2; OidIsValid(get_trigger_oid(table, name, true)); i++)
		name = makeObjectName("streamext", stream->name, psprintf("%d", i));
	return name;
}

/* Names of the table's columns in the order of the map. */
static char *
column_names(const SxStream *stream, Oid table, const AttrNumber *map)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < stream->natts; i++)
	{
		if (map[i] != 0)
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
							 quote_identifier(get_attname(table, map[i], false)));
	}
	return names.data;
}

/* The trigger goes with the stream, and holds the columns. */
static void
bind_trigger(const SxStream *stream, Oid table, const AttrNumber *map, Oid trigger)
{
	sx_depend(TriggerRelationId, trigger, RelationRelationId, stream->relid, 0,
			  DEPENDENCY_INTERNAL);
	for (int i = 0; i < stream->natts; i++)
	{
		if (map[i] != 0)
			sx_depend(TriggerRelationId, trigger, RelationRelationId, table, map[i],
					  DEPENDENCY_NORMAL);
	}
	CommandCounterIncrement();
}

/* As the extension's owner, who alone may execute the trigger function. */
static void
create_trigger(const SxStream *stream, Oid table, const AttrNumber *map)
{
	CreateTrigStmt *stmt = makeNode(CreateTrigStmt);
	ObjectAddress trigger;
	SxTrusted	save;

	stmt->trigname = trigger_name(stream, table);
	stmt->funcname = list_make2(makeString("streamext"), makeString("feed_stream"));
	stmt->args = list_make3(makeString(sx_table_map_text(stream, map)),
							makeString(column_names(stream, table, map)),
							makeString(get_rel_name(sx_log_table_of(stream))));
	stmt->row = true;
	stmt->timing = TRIGGER_TYPE_AFTER;
	stmt->events = TRIGGER_TYPE_INSERT;

	sx_trusted_begin(&save);
	trigger = CreateTriggerFiringOn(stmt, NULL, table, InvalidOid, InvalidOid, InvalidOid,
									InvalidOid, InvalidOid, NULL, false, false,
									TRIGGER_FIRES_ALWAYS);
	sx_trusted_end(&save);
	bind_trigger(stream, table, map, trigger.objectId);
}

static void
drop_trigger(Oid trigger)
{
	ObjectAddress address;

	deleteDependencyRecordsForClass(TriggerRelationId, trigger, RelationRelationId,
									DEPENDENCY_INTERNAL);
	CommandCounterIncrement();
	ObjectAddressSet(address, TriggerRelationId, trigger);
	performDeletion(&address, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
	CommandCounterIncrement();
}

/* ------------------------------------------------------------------- existing rows */

static char *
copy_sql(const SxStream *stream, Relation rel, const AttrNumber *map)
{
	StringInfoData into;
	StringInfoData from;

	initStringInfo(&into);
	initStringInfo(&from);
	for (int i = 0; i < stream->natts; i++)
	{
		const char *comma = into.len > 0 ? ", " : "";

		if (map[i] == 0)
			continue;
		appendStringInfo(&into, "%s%s", comma, quote_identifier(stream->columns[i].name));
		appendStringInfo(&from, "%s%s", comma,
						 quote_identifier(NameStr(TupleDescAttr(RelationGetDescr(rel),
																map[i] - 1)->attname)));
	}
	return psprintf("INSERT INTO %s (%s) SELECT %s FROM %s%s",
					sx_relation_label(sx_log_table_of(stream)), into.data, from.data,
					rel->rd_rel->relkind == RELKIND_RELATION ? "ONLY " : "",
					sx_relation_label(RelationGetRelid(rel)));
}

/* What foreign partitions hold can change without the trigger seeing it. */
static void
refuse_foreign_partitions(const SxStream *stream, Relation rel)
{
	ListCell   *lc;

	if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return;
	foreach(lc, find_all_inheritors(RelationGetRelid(rel), ShareRowExclusiveLock, NULL))
	{
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_FOREIGN_TABLE)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("stream %s cannot copy the rows of \"%s\": its partition \"%s\" is a foreign table",
							stream->label, RelationGetRelationName(rel),
							get_rel_name(lfirst_oid(lc))),
					 errhint("Leave out start = 'earliest' to follow new rows alone.")));
	}
}

/*
 * All rows that are there now that nobody can write.  As the stream's owner, who may read
 * them: the planner evaluates what belongs to the table, as the predicates of its indexes.
 */
static void
copy_rows(const SxStream *stream, Relation rel, const AttrNumber *map)
{
	char	   *sql = copy_sql(stream, rel, map);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SxTrusted	save;
	SPIPlanPtr	plan;
	volatile int rc = 0;

	sx_become(stream->owner, &save);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	plan = SPI_prepare(sql, 0, NULL);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	sx_state_writing_begin();
	PG_TRY();
	{
		rc = SPI_execute_snapshot(plan, NULL, NULL, snapshot, InvalidSnapshot, false,
								  false, 0);
	}
	PG_FINALLY();
	{
		sx_state_writing_end();
	}
	PG_END_TRY();
	if (rc != SPI_OK_INSERT)
		elog(ERROR, "could not copy rows: %s", SPI_result_code_string(rc));
	SPI_finish();
	sx_trusted_end(&save);
	UnregisterSnapshot(snapshot);
}

/* ------------------------------------------------------------------- the stream */

void
sx_table_created(SxStream *stream)
{
	AttrNumber *known;
	Oid			table = followed_table(stream, &known);
	Relation	rel = table_open(table, ShareRowExclusiveLock);
	AttrNumber *map = map_columns(stream, rel, NULL);

	sx_stream_set_option(stream, "table", sx_relation_label(table));
	sx_queue_create_log(stream->relid);
	create_trigger(stream, table, map);
	sx_depend(RelationRelationId, stream->relid, RelationRelationId, table, 0,
			  DEPENDENCY_NORMAL);
	if (strcmp(sx_stream_option(stream, "start", "latest"), "earliest") == 0)
	{
		refuse_foreign_partitions(stream, rel);
		copy_rows(stream, rel, map);
	}
	table_close(rel, NoLock);
}

void
sx_table_sync(const SxStream *stream)
{
	Oid			trigger = sx_table_trigger_of(stream->relid);
	SxTriggerInfo info;
	AttrNumber *known;
	AttrNumber *map;
	Relation	rel;

	if (!OidIsValid(trigger) || !sx_table_trigger_info(trigger, &info))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("stream %s has lost its trigger", stream->label),
				 errhint("Drop the stream and create it again.")));
	known = sx_table_map_parse(stream, info.map ? info.map : "");
	rel = table_open(info.table, ShareRowExclusiveLock);
	map = map_columns(stream, rel, known);
	if (info.map == NULL || info.names == NULL ||
		strcmp(sx_table_map_text(stream, map), info.map) != 0 ||
		strcmp(column_names(stream, info.table, map), info.names) != 0)
	{
		drop_trigger(trigger);
		create_trigger(stream, info.table, map);
	}
	table_close(rel, NoLock);
}

/* ------------------------------------------------------------------- after a dump */

Oid
sx_table_followed(Oid stream)
{
	Oid			trigger = sx_table_trigger_of(stream);
	SxTriggerInfo info;

	return OidIsValid(trigger) && sx_table_trigger_info(trigger, &info) ? info.table : InvalidOid;
}

void
sx_table_columns_renamed(Oid table)
{
	Relation	rel = table_open(table, AccessShareLock);
	List	   *streams = NIL;
	ListCell   *lc;

	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		Oid			stream = sx_table_stream_of(rel->trigdesc->triggers[i].tgoid);

		if (OidIsValid(stream))
			streams = lappend_oid(streams, stream);
	}
	table_close(rel, AccessShareLock);
	foreach(lc, streams)
		sx_table_sync(sx_stream_load(lfirst_oid(lc)));
}

/* The trigger with the name of the stream's log that belongs to no stream. */
static Oid
lost_trigger(const SxStream *stream, Relation rel, SxTriggerInfo *info)
{
	const char *log = get_rel_name(sx_log_table_of(stream));

	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		Oid			trigger = rel->trigdesc->triggers[i].tgoid;

		if (sx_table_trigger_info(trigger, info) && info->log != NULL &&
			strcmp(info->log, log) == 0 &&
			strcmp(get_func_name(info->function), "feed_stream") == 0 &&
			!OidIsValid(sx_table_stream_of(trigger)))
			return trigger;
	}
	return InvalidOid;
}

/* Columns of the table by the names that the trigger kept. */
static AttrNumber *
columns_by_name(const SxStream *stream, Relation rel, const char *text)
{
	AttrNumber *map = palloc0(sizeof(AttrNumber) * Max(stream->natts, 1));
	List	   *names;
	int			n = 0;

	if (!SplitIdentifierString(pstrdup(text), ',', &names))
		names = NIL;
	for (int i = 0; i < stream->natts; i++)
	{
		const SxColumn *column = &stream->columns[i];

		if (column->dropped || column->metadata != SX_META_NONE)
			continue;
		if (n < list_length(names))
			map[i] = get_attnum(RelationGetRelid(rel), list_nth(names, n++));
		(void) find_column(stream, column, rel, Max(map[i], 0));
	}
	return map_columns(stream, rel, map);
}

/* Making a trigger anew is not possible while rows are inserted, but binding it is. */
void
sx_table_restored(SxStream *stream)
{
	Relation	rel;
	AttrNumber *map;
	SxTriggerInfo info;
	Oid			trigger;

	sx_queue_restored(stream);
	if (OidIsValid(sx_table_trigger_of(stream->relid)))
		return;
	rel = table_open(table_by_name(stream), ShareRowExclusiveLock);
	trigger = lost_trigger(stream, rel, &info);
	map = OidIsValid(trigger) && info.names != NULL ? columns_by_name(stream, rel, info.names) :
		map_columns(stream, rel, NULL);
	if (OidIsValid(trigger) && strcmp(sx_table_map_text(stream, map), info.map) == 0)
		bind_trigger(stream, RelationGetRelid(rel), map, trigger);
	else
	{
		if (OidIsValid(trigger))
			drop_trigger(trigger);
		create_trigger(stream, RelationGetRelid(rel), map);
	}
	if (sx_dependencies(RelationRelationId, stream->relid, RelationRelationId,
						DEPENDENCY_NORMAL) == NIL)
		sx_depend(RelationRelationId, stream->relid, RelationRelationId, RelationGetRelid(rel), 0,
				  DEPENDENCY_NORMAL);
	table_close(rel, NoLock);
}
