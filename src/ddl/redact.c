/*-------------------------------------------------------------------------
 *
 * redact.c
 *		Keeps secrets out of pg_stat_activity and of the log's STATEMENT lines.
 *
 * A statement that gives a secret holds it in its text, which the server shows in
 * pg_stat_activity, to roles like pg_monitor, until the session's next statement, and
 * writes to the log behind an error.  Both have the text from where we can put another
 * one.  What the server logs before it runs a statement (log_statement) or keeps aside
 * for afterwards (log_min_duration_statement) is out of our reach; docs/security.md says
 * what to do about it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/sx_catalog.h"
#include "ddl/ddl_internal.h"
#include "ddl/kafka_property.h"
#include "foreign/foreign.h"
#include "pgstat.h"
#include "streamext.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"

#define REDACTED	"(a statement with secrets, not shown by streamext)"

static bool
is_secret(const char *name)
{
	const SxKafkaProperty *property = sx_kafka_property_find(name);

	return strcmp(name, "password") == 0 || strcmp(name, "user") == 0 ||
		(property != NULL && (property->class == SX_PROPERTY_SECRET ||
							  property->class == SX_PROPERTY_SUPERUSER_SECRET));
}

static bool
holds_secret(const List *options)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		const DefElem *option = lfirst_node(DefElem, lc);
		const char *name = option->defname;

		/* WITH (sasl.password = …) without quotes; see sx_options_from_with() */
		if (option->defnamespace != NULL)
			name = psprintf("%s.%s", option->defnamespace, name);
		if (is_secret(name))
			return true;
	}
	return false;
}

static bool
is_our_server(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, true);

	return server != NULL && server->fdwid == sx_fdw_oid();
}

/* ALTER … OPTIONS (…) of a table, whichever: the names are telling enough. */
static bool
alters_secret(const AlterTableStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		const AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		if (cmd->subtype == AT_GenericOptions && holds_secret((List *) cmd->def))
			return true;
	}
	return false;
}

static bool
gives_secret(const Node *stmt, bool says_stream)
{
	switch (nodeTag(stmt))
	{
		case T_CreateUserMappingStmt:
			{
				const CreateUserMappingStmt *create = (const CreateUserMappingStmt *) stmt;

				return create->options != NIL && is_our_server(create->servername);
			}
		case T_AlterUserMappingStmt:
			{
				const AlterUserMappingStmt *alter = (const AlterUserMappingStmt *) stmt;

				return alter->options != NIL && is_our_server(alter->servername);
			}
		case T_CreateForeignServerStmt:
			{
				const CreateForeignServerStmt *create = (const CreateForeignServerStmt *) stmt;

				return strcmp(create->fdwname, SX_FDW) == 0 && holds_secret(create->options);
			}
		case T_AlterForeignServerStmt:
			{
				const AlterForeignServerStmt *alter = (const AlterForeignServerStmt *) stmt;

				return holds_secret(alter->options) && is_our_server(alter->servername);
			}
		case T_CreateForeignTableStmt:
			return holds_secret(((const CreateForeignTableStmt *) stmt)->options);
		case T_CreateStmt:
			return says_stream && holds_secret(((const CreateStmt *) stmt)->options);
		case T_CreateTableAsStmt:
			return says_stream &&
				holds_secret(((const CreateTableAsStmt *) stmt)->into->options);
		case T_AlterTableStmt:
			return alters_secret((const AlterTableStmt *) stmt);
		default:
			return false;
	}
}

void
sx_redact_statement(const Node *stmt, bool says_stream)
{
	if (!gives_secret(stmt, says_stream))
		return;
	debug_query_string = REDACTED;
	pgstat_report_activity(STATE_RUNNING, REDACTED);
}
