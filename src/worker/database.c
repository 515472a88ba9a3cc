/*-------------------------------------------------------------------------
 *
 * database.c
 *		Leaves a database that somebody drops, renames, moves or copies.
 *
 * Those commands refuse a database with other sessions in it, and wait five
 * seconds only for them to go.  So before such a command runs our processes are
 * held back from the database it names, and may come back when it has ended,
 * well or not.  A mark that is held ends by itself after HOLD_MS, in case the
 * session dies in between.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"

#include "worker/process.h"

#define HOLD_MS			30000
#define ASK_MS			300		/* then SIGTERM */
#define GIVE_UP_MS		5000
#define POLL_MS			10

static ProcessUtility_hook_type prev_ProcessUtility = NULL;

static const char *
option_value(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (strcmp(def->defname, name) == 0 && def->arg != NULL)
			return defGetString(def);
	}
	return NULL;
}

/* The database that has to be left for the statement to succeed, or NULL. */
static const char *
database_wanted(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) stmt)->dbname;
		case T_CreatedbStmt:
			return option_value(((CreatedbStmt *) stmt)->options, "template");
		case T_AlterDatabaseStmt:
			if (option_value(((AlterDatabaseStmt *) stmt)->options, "tablespace") == NULL)
				return NULL;
			return ((AlterDatabaseStmt *) stmt)->dbname;
		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType != OBJECT_DATABASE)
				return NULL;
			return ((RenameStmt *) stmt)->subname;
		default:
			return NULL;
	}
}

/* Somebody who may do nothing to the database shall not disturb it either. */
static bool
user_owns(Oid database)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return false;
	owner = ((Form_pg_database) GETSTRUCT(tuple))->datdba;
	ReleaseSysCache(tuple);
	return has_privs_of_role(GetUserId(), owner);
}

static void
leave(Oid database)
{
	sx_mark_hold(database, HOLD_MS);
	sx_slots_wake(SX_PROCESS_NONE, database, 0, false);
	for (int waited = 0; waited < GIVE_UP_MS; waited += POLL_MS)
	{
		if (sx_slots_count(database) == 0)
			break;
		if (waited == ASK_MS)
			sx_slots_terminate(database);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 POLL_MS, SX_WAIT_EVENT("StreamextLeaveDatabase"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* It has ended, well or not: a dropped database needs no mark. */
static void
come_back(Oid database, bool dropped)
{
	if (dropped)
		sx_mark_remove(database);
	else
		sx_mark_hold(database, 0);
	sx_launcher_wake(true);
}

static void
run_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
			ProcessUtilityContext context, ParamListInfo params,
			QueryEnvironment *queryEnv, DestReceiver *dest,
			QueryCompletion *qc)
{
	if (prev_ProcessUtility)
		prev_ProcessUtility(pstmt, queryString, readOnlyTree, context, params,
							queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context,
								params, queryEnv, dest, qc);
}

static void
database_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
				 ProcessUtilityContext context, ParamListInfo params,
				 QueryEnvironment *queryEnv, DestReceiver *dest,
				 QueryCompletion *qc)
{
	const char *name = database_wanted(pstmt->utilityStmt);
	Oid			database = name ? get_database_oid(name, true) : InvalidOid;
	volatile bool dropped = false;

	if (!OidIsValid(database) || !sx_mark_exists(database) ||
		!user_owns(database))
	{
		run_utility(pstmt, queryString, readOnlyTree, context, params,
					queryEnv, dest, qc);
		return;
	}

	PG_TRY();
	{
		leave(database);
		run_utility(pstmt, queryString, readOnlyTree, context, params,
					queryEnv, dest, qc);
		dropped = IsA(pstmt->utilityStmt, DropdbStmt);
	}
	PG_FINALLY();
	{
		come_back(database, dropped);
	}
	PG_END_TRY();
}

void
sx_database_init(void)
{
	prev_ProcessUtility = ProcessUtility_hook;
	ProcessUtility_hook = database_utility;
}
