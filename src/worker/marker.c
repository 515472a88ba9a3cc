/*-------------------------------------------------------------------------
 *
 * marker.c
 *		Which databases the launcher has to care for.
 *
 * The mark is a setting of the database, ALTER DATABASE … SET streamext.enabled =
 * on: users see it (\drds), it is dumped with the database, is not copied by
 * CREATE DATABASE … TEMPLATE and goes with DROP DATABASE.  CREATE EXTENSION makes
 * it.  The scheduler removes it when it finds that the extension is gone.
 *
 * pg_db_role_setting can be read by processes that are connected to a database
 * only, and the launcher is not, so as to be in nobody's way.  So shared memory has
 * a copy of the marks.  The session that makes a mark adds it there at commit; a
 * short-lived process, the scout, finds the others when the server has started and
 * after a reload of the configuration.
 *
 * An extension that is dropped and created anew must not lose its mark to the
 * scheduler of the old one.  Both take lock_marking() until they have committed,
 * and the scheduler looks for the extension after it has got the lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/sx_catalog.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "utils/snapmgr.h"

#include "worker/process.h"

PG_FUNCTION_INFO_V1(sx_mark_database);

static void
lock_marking(void)
{
	LockDatabaseObject(ExtensionRelationId, InvalidOid, 0, ExclusiveLock);
}

static void
alter_database(VariableSetKind kind, List *args)
{
	VariableSetStmt *set = makeNode(VariableSetStmt);
	AlterDatabaseSetStmt *alter = makeNode(AlterDatabaseSetStmt);

	set->kind = kind;
	set->name = pstrdup("streamext.enabled");
	set->args = args;
	alter->dbname = get_database_name(MyDatabaseId);
	alter->setstmt = set;
	(void) AlterDatabaseSet(alter);
}

/* streamext.mark_database(): called by the extension's script. */
Datum
sx_mark_database(PG_FUNCTION_ARGS)
{
	A_Const    *on = makeNode(A_Const);

	on->val.sval.type = T_String;
	on->val.sval.sval = pstrdup("on");
	on->location = -1;

	lock_marking();
	alter_database(VAR_SET_VALUE, list_make1(on));
	sx_mark_at_commit();
	if (sx_shared != NULL && sx_home() == SX_HOME_COPY)
		ereport(WARNING,
				(errmsg("pipelines do not run: this data directory is a copy, or was moved"),
				 errhint(SX_COPY_HINT)));
	PG_RETURN_VOID();
}

/*
 * Removes the mark unless the extension is there after all; true if it was
 * removed.  In a transaction of its own.
 */
bool
sx_unmark_when_dropped(void)
{
	bool		dropped;

	sx_transaction_begin();
	lock_marking();
	dropped = !sx_extension_exists();
	if (dropped)
	{
		alter_database(VAR_RESET, NIL);

		/* Before the lock goes: a session that marks anew adds it after that. */
		sx_mark_remove(MyDatabaseId);
	}
	sx_transaction_end();
	return dropped;
}

static int
read_marks(Oid *databases, int max)
{
	int			n;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute("SELECT d.oid FROM pg_db_role_setting s "
					"JOIN pg_database d ON d.oid = s.setdatabase "
					"WHERE s.setrole = 0 AND d.datallowconn AND NOT d.datistemplate "
					"AND EXISTS (SELECT FROM unnest(s.setconfig) c "
					"            WHERE lower(c) IN ('streamext.enabled=on', "
					"                'streamext.enabled=true', "
					"                'streamext.enabled=yes', "
					"                'streamext.enabled=1')) "
					"ORDER BY d.oid",
					true, max) != SPI_OK_SELECT)
		elog(ERROR, "could not read the marks of databases");
	n = (int) SPI_processed;
	for (int i = 0; i < n; i++)
	{
		bool		isnull;

		databases[i] = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
													  SPI_tuptable->tupdesc,
													  1, &isnull));
	}
	SPI_finish();
	return n;
}

/* The scout: reads the marks once, and is gone. */
void
sx_scout_main(Datum arg)
{
	SxStart		start;
	Oid		   *databases;
	int			n;
	uint64		scan;
	uint64		marks_before;

	sx_process_begin(&start, "streamext scout");

	LWLockAcquire(sx_shared->lock, LW_SHARED);
	scan = sx_shared->scans_wanted;
	marks_before = sx_shared->marks_made;
	LWLockRelease(sx_shared->lock);

	databases = palloc(sx_shared->nmarks * sizeof(Oid));
	sx_transaction_begin();
	n = read_marks(databases, sx_shared->nmarks);
	sx_transaction_end();

	sx_marks_replace(databases, n, marks_before);
	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	sx_shared->scans_done = scan;
	LWLockRelease(sx_shared->lock);
	proc_exit(0);
}
