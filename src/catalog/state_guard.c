/*-------------------------------------------------------------------------
 *
 * state_guard.c
 *		The tables in streamext_state are written by streamext only.
 *
 * They belong to the owner of the stream or view, as the batch writes them with his
 * rights, and so that he can read them.  An UPDATE of his, a trigger or a
 * dropped column would make the view wrong without a trace, so both hooks that see such
 * statements refuse them: of the executor, which is asked about every relation that
 * a query writes (COPY included), and of utility statements.
 *
 * A superuser may do everything, as a dump is restored by one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "compat.h"
#include "ddl/ddl_internal.h"
#include "executor/executor.h"
#include "fdw/stream.h"
#include "miscadmin.h"
#include "streamext.h"
#include "utils/lsyscache.h"
#include "worker/batch.h"

#include "catalog/state_guard.h"

static ExecutorCheckPerms_hook_type next_hook = NULL;
static int	writing = 0;		/* statements of ours that are running */

void
sx_state_writing_begin(void)
{
	writing++;
}

void
sx_state_writing_end(void)
{
	writing--;
}

/* Is it a table of ours, and somebody who may not change it? */
static bool
is_guarded(Oid relid)
{
	Oid			schema;

	if (!OidIsValid(relid) || writing > 0 || sx_current != NULL)
		return false;
	schema = get_namespace_oid(SX_STATE_SCHEMA, true);
	return OidIsValid(schema) && get_rel_namespace(relid) == schema &&
		get_rel_relkind(relid) == RELKIND_RELATION && !superuser();
}

static void
refuse(Oid relid)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("table %s is written by streamext only", sx_relation_label(relid)),
			 errdetail("It holds what a stream or view keeps between batches."),
			 errhint("Read it as you like; streamext.reset() empties it.")));
}

static bool
check_permissions(SX_PERMISSIONS_ARGS)
{
	ListCell   *lc;

	foreach(lc, SX_PERMISSIONS)
	{
		const SxPermission *permission = lfirst(lc);

		if ((permission->requiredPerms & (ACL_INSERT | ACL_UPDATE | ACL_DELETE)) == 0 ||
			!is_guarded(permission->relid))
			continue;
		if (complain)
			refuse(permission->relid);
		return false;
	}
	return next_hook == NULL || next_hook(SX_PERMISSIONS_PASS);
}

/* ---------- utility statements ---------- */

/* What changes how it is stored, but not what it holds. */
static bool
is_harmless(AlterTableType type)
{
	switch (type)
	{
		case AT_SetStatistics:
		case AT_SetOptions:
		case AT_ResetOptions:
		case AT_SetStorage:
		case AT_SetCompression:
		case AT_SetTableSpace:
		case AT_SetRelOptions:
		case AT_ResetRelOptions:
		case AT_ReplaceRelOptions:
		case AT_ClusterOn:
		case AT_DropCluster:
		case AT_ReplicaIdentity:
			return true;
		default:
			return false;
	}
}

static void
check_range_var(const RangeVar *name)
{
	Oid			relid;

	if (name == NULL)
		return;
	relid = RangeVarGetRelid(name, NoLock, true);
	if (is_guarded(relid))
		refuse(relid);
}

/* Foreign keys add triggers to the table that they refer to. */
static void
check_foreign_keys(const List *elements)
{
	ListCell   *lc;

	foreach(lc, elements)
	{
		const Node *element = lfirst(lc);

		if (IsA(element, Constraint) && castNode(Constraint, element)->contype == CONSTR_FOREIGN)
			check_range_var(castNode(Constraint, element)->pktable);
		if (IsA(element, ColumnDef))
			check_foreign_keys(castNode(ColumnDef, element)->constraints);
	}
}

static void
check_alter_table(const AlterTableStmt *stmt)
{
	ListCell   *lc;

	if (stmt->objtype != OBJECT_TABLE)
		return;
	foreach(lc, stmt->cmds)
	{
		const AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		if (!is_harmless(cmd->subtype))
			check_range_var(stmt->relation);
		if (cmd->subtype == AT_AddInherit)
			check_range_var(castNode(RangeVar, cmd->def));
		if (cmd->subtype == AT_AddConstraint)
			check_foreign_keys(list_make1(cmd->def));
	}
}

void
sx_check_state_tables(const Node *stmt)
{
	ListCell   *lc;

	switch (nodeTag(stmt))
	{
		case T_AlterTableStmt:
			check_alter_table((const AlterTableStmt *) stmt);
			break;
		case T_CreateStmt:
			check_foreign_keys(((const CreateStmt *) stmt)->tableElts);
			/* who reads the table reads its children, too */
			foreach(lc, ((const CreateStmt *) stmt)->inhRelations)
				check_range_var(lfirst(lc));
			break;
		case T_RenameStmt:
			check_range_var(((const RenameStmt *) stmt)->relation);
			break;
		case T_AlterObjectSchemaStmt:
			check_range_var(((const AlterObjectSchemaStmt *) stmt)->relation);
			break;
		case T_CreateTrigStmt:
			check_range_var(((const CreateTrigStmt *) stmt)->relation);
			break;
		case T_RuleStmt:
			check_range_var(((const RuleStmt *) stmt)->relation);
			break;
		case T_CreatePolicyStmt:
			check_range_var(((const CreatePolicyStmt *) stmt)->table);
			break;
		case T_TruncateStmt:
			foreach(lc, ((const TruncateStmt *) stmt)->relations)
				check_range_var(lfirst(lc));
			break;
		default:
			break;
	}
}

void
sx_state_guard_init(void)
{
	next_hook = ExecutorCheckPerms_hook;
	ExecutorCheckPerms_hook = check_permissions;
}
