/*-------------------------------------------------------------------------
 *
 * utility.c
 *		The ProcessUtility hook: sends statements about streams where they belong.
 *
 * The hook runs for every utility statement of the server, so it looks at the kind
 * of statement first and asks the catalogs last.  Where the extension is not
 * created in the database it does nothing, but for one thing: a statement that
 * says STREAM was parsed as one about a table, and must not be executed as that.
 *
 * Statements that core itself derives from one of the user's (context
 * PROCESS_UTILITY_SUBCOMMAND) carry the text of that one; they are not looked at.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/state_guard.h"
#include "mb/pg_wchar.h"
#include "tcop/cmdtag.h"

#include "ddl/ddl_internal.h"

static ProcessUtility_hook_type next_hook = NULL;

void
sx_utility_next(SxUtilityCall *call, Node *stmt)
{
	PlannedStmt *pstmt = call->pstmt;
	bool		read_only_tree = call->read_only_tree;
	ProcessUtility_hook_type next = next_hook ? next_hook : standard_ProcessUtility;

	if (stmt != NULL)
	{
		pstmt = makeNode(PlannedStmt);
		*pstmt = *call->pstmt;
		pstmt->utilityStmt = stmt;
		read_only_tree = false;
	}
	next(pstmt, call->query, read_only_tree, call->context, call->params,
		 call->query_env, call->dest, call->qc);

	/* the client is told what the statement became */
	if (stmt != NULL && call->qc != NULL)
		SetQueryCompletion(call->qc, CreateCommandTag(stmt), 0);
}

/* For ereport: the place in the statement's text. */
int
sx_errposition(SxUtilityCall *call, int location)
{
	if (location < 0 || call->query == NULL)
		return 0;
	return errposition(pg_mbstrlen_with_len(call->query, location) + 1);
}

/* Statements that the grammar makes of CREATE, ALTER and DROP STREAM. */
static void
stream_command(SxUtilityCall *call, Node *stmt)
{
	if (!sx_extension_exists())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there are no streams in this database"),
				 errhint("Run CREATE EXTENSION streamext first.")));

	switch (nodeTag(stmt))
	{
		case T_CreateStmt:
			sx_create_stream(call, (CreateStmt *) stmt);
			break;
		case T_CreateTableAsStmt:
			sx_create_stream_as(call, (CreateTableAsStmt *) stmt);
			break;
		case T_ExplainStmt:
			if (!sx_explain_create(call, (ExplainStmt *) stmt, true))
				sx_utility_next(call, NULL);
			break;
		case T_DropStmt:
			sx_drop_stream(call, (DropStmt *) stmt);
			break;
		default:
			sx_alter_stream(call, stmt);
			break;
	}
}

/* ALTER TABLE is good for foreign tables too. */
static bool
is_table(ObjectType type)
{
	return type == OBJECT_TABLE || type == OBJECT_FOREIGN_TABLE;
}

/* Statements that may be about streams without saying so; true: done. */
static bool
other_command(SxUtilityCall *call, Node *stmt)
{
	sx_check_state_tables(stmt);
	switch (nodeTag(stmt))
	{
		case T_CreateTableAsStmt:
			return sx_create_view_over_streams(call, (CreateTableAsStmt *) stmt);
		case T_ExplainStmt:
			return sx_explain_create(call, (ExplainStmt *) stmt, false);
		case T_CreateForeignTableStmt:
			sx_create_foreign_table(call, (CreateForeignTableStmt *) stmt);
			return true;
		case T_AlterTableStmt:
			if (is_table(((AlterTableStmt *) stmt)->objtype) && sx_extension_exists())
				sx_check_alter_foreign_table((AlterTableStmt *) stmt);
			return (is_table(((AlterTableStmt *) stmt)->objtype) &&
					sx_extension_exists() &&
					sx_alter_source(call, (AlterTableStmt *) stmt, NULL)) ||
				sx_continuous_view_command(call, stmt);
		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType == OBJECT_COLUMN &&
				is_table(((RenameStmt *) stmt)->relationType) && sx_extension_exists())
				sx_check_rename_of_column((RenameStmt *) stmt);
			return (((RenameStmt *) stmt)->renameType == OBJECT_COLUMN &&
					is_table(((RenameStmt *) stmt)->relationType) &&
					sx_extension_exists() &&
					sx_rename_source_column(call, (RenameStmt *) stmt, NULL)) ||
				sx_continuous_view_command(call, stmt);
		default:
			return sx_continuous_view_command(call, stmt);
	}
}

/* Can a statement of this kind concern us at all? */
static bool
may_concern_streams(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_CreateStmt:
		case T_CreateTableAsStmt:
		case T_CreateForeignTableStmt:
		case T_ExplainStmt:
		case T_AlterTableStmt:
		case T_AlterTableMoveAllStmt:
		case T_RenameStmt:
		case T_AlterObjectSchemaStmt:
		case T_DropStmt:
		case T_CommentStmt:
		case T_SecLabelStmt:
		case T_ReassignOwnedStmt:
		case T_DropOwnedStmt:
		case T_RefreshMatViewStmt:
		case T_ViewStmt:
		case T_IndexStmt:
		case T_CreateTrigStmt:
		case T_RuleStmt:
		case T_CreatePolicyStmt:
		case T_TruncateStmt:
		case T_CreateUserMappingStmt:
		case T_AlterUserMappingStmt:
		case T_CreateForeignServerStmt:
		case T_AlterForeignServerStmt:
			return true;
		default:
			return false;
	}
}

/* What came with a dump has to be whole to go as a whole. */
static void
adopt_before_drop(void)
{
	if (sx_extension_exists() && sx_other_version() == NULL && !RecoveryInProgress() && !XactReadOnly)
		sx_adopt_restored();
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *query_env, DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *stmt = pstmt->utilityStmt;
	SxUtilityCall call = {
		.pstmt = pstmt,
		.query = query,
		.read_only_tree = read_only_tree,
		.context = context,
		.params = params,
		.query_env = query_env,
		.dest = dest,
		.qc = qc
	};
	bool		says_stream;
	SxFollow	follow;

	sx_keyword_restore();
	if (context == PROCESS_UTILITY_SUBCOMMAND || !may_concern_streams(stmt))
	{
		sx_utility_next(&call, NULL);
		return;
	}
	if (IsA(stmt, DropStmt) || IsA(stmt, DropOwnedStmt))
		adopt_before_drop();
	sx_follow_begin(&follow, stmt);
	says_stream = sx_says_stream(query, pstmt->stmt_location, pstmt->stmt_len);
	sx_redact_statement(stmt, says_stream);
	if (says_stream)
		stream_command(&call, stmt);
	else if (!other_command(&call, stmt))
		sx_utility_next(&call, NULL);
	sx_follow_end(&follow);
}

void
sx_utility_init(void)
{
	next_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
