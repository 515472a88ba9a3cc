/*-------------------------------------------------------------------------
 *
 * alter_follow.c
 *		What follows a rename, a change of schema or of owner.
 *
 * Dependencies go by Oid, so nearly all follows by itself.  What does not: owners of what
 * belongs to a stream (catalog/owner.c), and names that are kept as text, in options and
 * in arguments of triggers, which count when a dump is restored.
 *
 * begin() notes before the statement what is gone afterwards; end() does the rest in the
 * same transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/owner.h"
#include "catalog/pg_class.h"
#include "compat.h"
#include "ddl/ddl_internal.h"
#include "fdw/stream.h"
#include "miscadmin.h"
#include "plan/plan.h"
#include "source/table.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

/* ALTER … OWNER TO of the relation, or InvalidOid. */
static Oid
relation_given(Node *stmt)
{
	AlterTableStmt *alter = (AlterTableStmt *) stmt;
	ListCell   *lc;

	if (!IsA(stmt, AlterTableStmt))
		return InvalidOid;
	foreach(lc, alter->cmds)
	{
		if (IsA(lfirst(lc), AlterTableCmd) &&
			lfirst_node(AlterTableCmd, lc)->subtype == AT_ChangeOwner)
			return RangeVarGetRelid(alter->relation, NoLock, true);
	}
	return InvalidOid;
}

/* May the statement change a name that an option keeps? */
static bool
changes_names(Node *stmt)
{
	ObjectType	type;

	if (IsA(stmt, RenameStmt))
		type = ((RenameStmt *) stmt)->renameType;
	else if (IsA(stmt, AlterObjectSchemaStmt))
		type = ((AlterObjectSchemaStmt *) stmt)->objectType;
	else
		return false;
	switch (type)
	{
		case OBJECT_TABLE:
		case OBJECT_VIEW:
		case OBJECT_MATVIEW:
		case OBJECT_FOREIGN_TABLE:
		case OBJECT_FUNCTION:
		case OBJECT_ROUTINE:
		case OBJECT_SCHEMA:
			return true;
		default:
			return false;
	}
}

/* The table whose column is renamed, or InvalidOid. */
static Oid
column_renamed(Node *stmt)
{
	RenameStmt *rename = (RenameStmt *) stmt;
	Oid			relid;

	if (!IsA(stmt, RenameStmt) || rename->renameType != OBJECT_COLUMN || rename->relation == NULL)
		return InvalidOid;
	relid = RangeVarGetRelid(rename->relation, NoLock, true);
	if (OidIsValid(relid) && get_rel_relkind(relid) != RELKIND_RELATION &&
		get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return InvalidOid;
	return relid;
}

/*
 * Who inserts into a table that feeds a stream locks the table first and then the stream.
 * What is done to the stream comes to the table as well, as its trigger is altered, and
 * has to take the locks in the same order.
 */
static void
lock_feed(const RangeVar *name, LOCKMODE lockmode)
{
	Oid			relid = name == NULL ? InvalidOid : RangeVarGetRelid(name, NoLock, true);
	Oid			table = OidIsValid(relid) && sx_is_stream_table(relid) &&
		sx_owns_relation(relid, GetUserId()) ? sx_table_followed(relid) : InvalidOid;

	if (OidIsValid(table))
		LockRelationOid(table, lockmode);
}

static void
lock_feeds(Node *stmt)
{
	DropStmt   *drop = (DropStmt *) stmt;
	ListCell   *lc;

	if (IsA(stmt, AlterTableStmt))
		lock_feed(((AlterTableStmt *) stmt)->relation, ShareRowExclusiveLock);
	else if (IsA(stmt, RenameStmt) && ((RenameStmt *) stmt)->renameType == OBJECT_COLUMN)
		lock_feed(((RenameStmt *) stmt)->relation, ShareRowExclusiveLock);
	else if (IsA(stmt, DropStmt) &&
			 (drop->removeType == OBJECT_TABLE || drop->removeType == OBJECT_FOREIGN_TABLE))
	{
		foreach(lc, drop->objects)
			lock_feed(makeRangeVarFromNameList(lfirst_node(List, lc)), AccessExclusiveLock);
	}
}

void
sx_follow_begin(SxFollow *follow, Node *stmt)
{
	memset(follow, 0, sizeof(SxFollow));
	switch (nodeTag(stmt))
	{
		case T_AlterTableStmt:
		case T_RenameStmt:
		case T_AlterObjectSchemaStmt:
		case T_ReassignOwnedStmt:
		case T_DropStmt:
			break;
		default:
			return;
	}
	if (!sx_extension_exists() || sx_other_version() != NULL)
		return;
	lock_feeds(stmt);
	follow->reassign = IsA(stmt, ReassignOwnedStmt);
	follow->given = relation_given(stmt);
	if (OidIsValid(follow->given) && sx_relation_kind(follow->given) == SX_REL_NONE)
		follow->given = InvalidOid;
	if (OidIsValid(follow->given))
		follow->together = sx_owner_together(follow->given);
	follow->names = changes_names(stmt);
	if (follow->names)
		follow->before = sx_names_before();
	follow->columns_of = column_renamed(stmt);
}

void
sx_follow_end(SxFollow *follow)
{
	if (OidIsValid(follow->given) || follow->reassign || follow->names ||
		OidIsValid(follow->columns_of))
		CommandCounterIncrement();
	if (OidIsValid(follow->given))
		sx_owner_give(follow->together, follow->given);
	if (OidIsValid(follow->given) || follow->reassign)
		sx_owner_follow(true);
	if (follow->names)
		sx_names_refresh(follow->before);
	if (OidIsValid(follow->columns_of))
		sx_table_columns_renamed(follow->columns_of);
}
