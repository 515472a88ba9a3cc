/*-------------------------------------------------------------------------
 *
 * alter_drop.c
 *		ALTER STREAM and DROP STREAM.
 *
 * A source stream and a sink are foreign tables, a derived stream is a view or a
 * foreign table; the statement, parsed as one about a table, becomes the matching
 * statement about what the stream is.  Dependencies, privileges and event triggers are core's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "ddl/ddl_internal.h"
#include "fdw/stream.h"
#include "worker/worker.h"

/* What to say in the place of STREAM for a relation that is none. */
static const char *
kind_of_relation(Oid relid, SxRelKind kind)
{
	if (kind == SX_REL_VIEW)
		return "MATERIALIZED VIEW";
	switch (get_rel_relkind(relid))
	{
		case RELKIND_VIEW:
			return "VIEW";
		case RELKIND_MATVIEW:
			return "MATERIALIZED VIEW";
		case RELKIND_FOREIGN_TABLE:
			return "FOREIGN TABLE";
		case RELKIND_INDEX:
		case RELKIND_PARTITIONED_INDEX:
			return "INDEX";
		case RELKIND_SEQUENCE:
			return "SEQUENCE";
		case RELKIND_COMPOSITE_TYPE:
			return "TYPE";
		default:
			return "TABLE";
	}
}

/*
 * Kind of the stream of this name; ERROR when there is another relation of that
 * name.  SX_REL_NONE, with a NOTICE, when there is none and that is allowed.
 */
static SxRelKind
stream_kind(const RangeVar *name, bool missing_ok)
{
	Oid			relid = RangeVarGetRelid(name, NoLock, true);
	SxRelKind	kind;

	if (!OidIsValid(relid))
	{
		ereport(missing_ok ? NOTICE : ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 missing_ok ?
				 errmsg("stream \"%s\" does not exist, skipping", name->relname) :
				 errmsg("stream \"%s\" does not exist", name->relname)));
		return SX_REL_NONE;
	}
	kind = sx_relation_kind(relid);
	if (kind == SX_REL_NONE || kind == SX_REL_VIEW)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a stream", name->relname),
				 errhint("Write %s instead of STREAM.", kind_of_relation(relid, kind))));
	return kind;
}

static ObjectType
object_type(const RangeVar *name)
{
	return get_rel_relkind(RangeVarGetRelid(name, NoLock, false)) == RELKIND_VIEW ?
		OBJECT_VIEW : OBJECT_FOREIGN_TABLE;
}

static void
refuse_alter(const char *name, SxRelKind kind)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("this form of ALTER STREAM is not possible for \"%s\"", name),
			 kind == SX_REL_SOURCE ?
			 errhint("A source stream takes OPTIONS, ADD, DROP and ALTER COLUMN, OWNER TO, RENAME and SET SCHEMA.") :
			 errhint("A stream with a query takes OWNER TO, RENAME and SET SCHEMA; for anything else drop it and create it again.")));
}

/* A stream with a query takes its columns from it and keeps its options. */
static bool
is_possible(AlterTableType subtype, SxRelKind kind)
{
	switch (subtype)
	{
		case AT_ChangeOwner:
			return true;
		case AT_GenericOptions:
		case AT_AddColumn:
		case AT_DropColumn:
		case AT_AlterColumnType:
		case AT_AlterColumnGenericOptions:
		case AT_SetNotNull:
		case AT_DropNotNull:
			return kind == SX_REL_SOURCE;
		default:
			return false;
	}
}

static void
alter_table(SxUtilityCall *call, AlterTableStmt *stmt)
{
	SxRelKind	kind = stream_kind(stmt->relation, stmt->missing_ok);
	AlterTableStmt *alter;
	ListCell   *lc;

	if (kind == SX_REL_NONE)
		return;
	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		if (!is_possible(cmd->subtype, kind))
			refuse_alter(stmt->relation->relname, kind);
		if (cmd->subtype == AT_AddColumn)
			sx_check_stream_column(call, castNode(ColumnDef, cmd->def));
	}

	alter = copyObject(stmt);
	alter->objtype = object_type(stmt->relation);
	if (!sx_alter_source(call, stmt, (Node *) alter))
		sx_utility_next(call, (Node *) alter);
}

/* Is it a foreign table with a query, whose columns are the query's? */
static bool
has_query(const RangeVar *name, SxRelKind *kind)
{
	Oid			relid = RangeVarGetRelid(name, NoLock, true);

	if (!OidIsValid(relid) || !sx_is_stream_table(relid))
		return false;
	*kind = sx_relation_kind(relid);
	return *kind == SX_REL_DERIVED || *kind == SX_REL_SINK;
}

void
sx_check_alter_foreign_table(const AlterTableStmt *stmt)
{
	SxRelKind	kind;
	ListCell   *lc;

	if (!has_query(stmt->relation, &kind))
		return;
	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		/* what a source could do, but not this one */
		if (is_possible(cmd->subtype, SX_REL_SOURCE) && !is_possible(cmd->subtype, kind))
			refuse_alter(stmt->relation->relname, kind);
	}
}

void
sx_check_rename_of_column(const RenameStmt *stmt)
{
	SxRelKind	kind;

	if (has_query(stmt->relation, &kind))
		refuse_alter(stmt->relation->relname, kind);
}

static void
rename_stream(SxUtilityCall *call, RenameStmt *stmt)
{
	SxRelKind	kind = stream_kind(stmt->relation, stmt->missing_ok);
	RenameStmt *alter = copyObject(stmt);

	if (kind == SX_REL_NONE)
		return;
	if (stmt->renameType == OBJECT_COLUMN)
		sx_check_rename_of_column(stmt);
	if (stmt->renameType == OBJECT_TABLE)
		alter->renameType = object_type(stmt->relation);
	else if (stmt->renameType == OBJECT_COLUMN)
		alter->relationType = object_type(stmt->relation);
	else
		refuse_alter(stmt->relation->relname, kind);
	if (stmt->renameType != OBJECT_COLUMN ||
		!sx_rename_source_column(call, stmt, (Node *) alter))
		sx_utility_next(call, (Node *) alter);
}

static void
move_stream(SxUtilityCall *call, AlterObjectSchemaStmt *stmt)
{
	SxRelKind	kind = stream_kind(stmt->relation, stmt->missing_ok);
	AlterObjectSchemaStmt *alter = copyObject(stmt);

	if (kind == SX_REL_NONE)
		return;
	alter->objectType = object_type(stmt->relation);
	sx_utility_next(call, (Node *) alter);
}

void
sx_alter_stream(SxUtilityCall *call, Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_AlterTableStmt:
			alter_table(call, (AlterTableStmt *) stmt);
			break;
		case T_RenameStmt:
			rename_stream(call, (RenameStmt *) stmt);
			break;
		case T_AlterObjectSchemaStmt:
			move_stream(call, (AlterObjectSchemaStmt *) stmt);
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("this statement is not possible for streams"),
					 errhint("Write CREATE, ALTER or DROP STREAM with the name of one.")));
	}
}

/* DROP of a run of objects of one type. */
static void
drop_objects(SxUtilityCall *call, DropStmt *stmt, List *objects, ObjectType type)
{
	DropStmt   *drop = copyObject(stmt);

	drop->objects = objects;
	drop->removeType = type;
	sx_utility_next(call, (Node *) drop);
	CommandCounterIncrement();
}

/* A stream to be dropped, and when it was made. */
typedef struct Doomed
{
	List	   *name;
	Oid			relid;
	ObjectType	type;
} Doomed;

static int
newest_first(const ListCell *a, const ListCell *b)
{
	Oid			first = ((Doomed *) lfirst(a))->relid;
	Oid			second = ((Doomed *) lfirst(b))->relid;

	return first < second ? 1 : first > second ? -1 : 0;
}

/*
 * The list may hold streams that stand on one another: without CASCADE all of them
 * can go when nothing else stands on them.  What stands on a stream was made after it,
 * so the newest go first.
 */
void
sx_drop_stream(SxUtilityCall *call, DropStmt *stmt)
{
	List	   *doomed = NIL;
	List	   *run = NIL;
	ListCell   *lc;

	foreach(lc, stmt->objects)
	{
		List	   *object = lfirst_node(List, lc);
		RangeVar   *name = makeRangeVarFromNameList(object);
		Doomed	   *entry;

		if (stream_kind(name, stmt->missing_ok) == SX_REL_NONE)
			continue;			/* missing, and that is allowed */
		entry = palloc(sizeof(Doomed));
		entry->name = copyObject(object);
		entry->relid = RangeVarGetRelid(name, NoLock, false);
		entry->type = object_type(name);
		doomed = lappend(doomed, entry);
	}

	list_sort(doomed, newest_first);
	foreach(lc, doomed)
	{
		Doomed	   *entry = lfirst(lc);
		ListCell   *next = lnext(doomed, lc);

		run = lappend(run, entry->name);
		if (next != NULL && ((Doomed *) lfirst(next))->type == entry->type)
			continue;
		drop_objects(call, stmt, run, entry->type);
		run = NIL;
	}
}
