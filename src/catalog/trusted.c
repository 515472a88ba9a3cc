/*-------------------------------------------------------------------------
 *
 * trusted.c
 *		Statements on the extension's own tables.
 *
 * The tables streamext.* belong to the owner of the extension, and no role that
 * owns streams may write to them.  So every statement on them runs in a trusted
 * section: current user is that owner, search_path is pg_catalog.  Nothing of a
 * user runs inside such a section: the tables have no triggers, defaults or
 * constraints but our own.
 *
 * The library and its SQL objects can be of different versions: after a package was
 * installed and before ALTER EXTENSION UPDATE, or before the server's restart.  Then no
 * statement on the tables is run.  The update's own script is the exception.
 *
 * Plans are kept for the life of the process, by the text of the statement.  The
 * batch runs the same few statements again and again, so that pays at once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "common/hashfn.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "streamext.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/state_guard.h"
#include "catalog/sx_catalog.h"

typedef struct PlanEntry
{
	const char *sql;			/* hash key: a copy in TopMemoryContext */
	SPIPlanPtr	plan;
} PlanEntry;

static HTAB *plans = NULL;

/* The extension in this database. */
typedef struct Extension
{
	Oid			oid;
	Oid			owner;
	char	   *version;
} Extension;

static bool
find_extension(Extension *extension)
{
	Relation	rel;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found;

	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("streamext"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
	{
		Form_pg_extension form = (Form_pg_extension) GETSTRUCT(tuple);
		bool		isnull;
		Datum		value = heap_getattr(tuple, Anum_pg_extension_extversion,
										 RelationGetDescr(rel), &isnull);

		extension->oid = form->oid;
		extension->owner = form->extowner;
		extension->version = isnull ? pstrdup("") : TextDatumGetCString(value);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* Is it ours, or does its own script run, on the way to another version? */
static bool
is_ours(const Extension *extension)
{
	return strcmp(extension->version, SX_VERSION) == 0 ||
		(creating_extension && CurrentExtensionObject == extension->oid);
}

char *
sx_other_version(void)
{
	Extension	extension;

	return find_extension(&extension) && !is_ours(&extension) ? extension.version : NULL;
}

bool
sx_extension_usable(void)
{
	Extension	extension;

	return find_extension(&extension) && is_ours(&extension);
}

static void
refuse_other_version(const char *version)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the library of streamext is version %s, its objects in this database are version %s",
					SX_VERSION, version),
			 errhint("Run ALTER EXTENSION streamext UPDATE, or restart the server if the newer library has been installed since its start.")));
}

Oid
sx_extension_owner(bool missing_ok)
{
	Extension	extension;

	if (!find_extension(&extension))
	{
		if (missing_ok)
			return InvalidOid;
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"streamext\" does not exist in this database"),
				 errhint("Run CREATE EXTENSION streamext.")));
	}
	if (!is_ours(&extension))
		refuse_other_version(extension.version);
	pfree(extension.version);
	return extension.owner;
}

void
sx_trusted_begin(SxTrusted *save)
{
	Oid			owner = sx_extension_owner(false);

	GetUserIdAndSecContext(&save->userid, &save->sec_context);
	save->nestlevel = NewGUCNestLevel();
	SetUserIdAndSecContext(owner,
						   save->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

void
sx_trusted_end(SxTrusted *save)
{
	AtEOXact_GUC(false, save->nestlevel);
	SetUserIdAndSecContext(save->userid, save->sec_context);
}

static uint32
plan_hash(const void *key, Size keysize)
{
	const char *sql = *(const char *const *) key;

	return DatumGetUInt32(hash_any((const unsigned char *) sql, strlen(sql)));
}

static int
plan_match(const void *a, const void *b, Size keysize)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static SPIPlanPtr
kept_plan(const char *sql, int nargs, const Oid *types)
{
	PlanEntry  *entry;
	bool		found;

	if (plans == NULL)
	{
		HASHCTL		ctl = {
			.keysize = sizeof(char *),
			.entrysize = sizeof(PlanEntry),
			.hash = plan_hash,
			.match = plan_match
		};

		plans = hash_create("streamext catalog plans", 64, &ctl,
							HASH_ELEM | HASH_FUNCTION | HASH_COMPARE);
	}

	entry = hash_search(plans, &sql, HASH_FIND, NULL);
	if (entry == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(sql, nargs, (Oid *) types);

		if (plan == NULL)
			elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		sql = MemoryContextStrdup(TopMemoryContext, sql);
		entry = hash_search(plans, &sql, HASH_ENTER, &found);
		entry->plan = plan;
	}
	return entry->plan;
}

/* Runs the statement; SPI is left connected for the caller to read the result. */
static void
run_connected(const char *sql, int nargs, const Oid *types,
			  const Datum *values, const char *nulls)
{
	bool		pushed = !ActiveSnapshotSet();
	int			rc;

	/* SPI takes a snapshot for the statement, but wants one to be there. */
	if (pushed)
		PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	rc = SPI_execute_plan(kept_plan(sql, nargs, types), (Datum *) values, nulls,
						  false, 0);
	if (pushed)
		PopActiveSnapshot();
	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
}

/* Calls each() for every row, in the caller's memory context. */
static void
each_row(const char *sql, int nargs, const Oid *types, const Datum *values,
		 const char *nulls, SxRowFunc each, void *arg)
{
	MemoryContext caller = CurrentMemoryContext;

	run_connected(sql, nargs, types, values, nulls);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(caller);

		each(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, arg);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
}

uint64
sx_catalog_exec(const char *sql, int nargs, const Oid *types,
				const Datum *values, const char *nulls)
{
	SxTrusted	save;
	uint64		processed;

	sx_trusted_begin(&save);
	run_connected(sql, nargs, types, values, nulls);
	processed = SPI_processed;
	SPI_finish();
	sx_trusted_end(&save);
	return processed;
}

void
sx_execute_ddl(const char *sql)
{
	volatile int rc = 0;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	sx_state_writing_begin();
	PG_TRY();
	{
		rc = SPI_execute(sql, false, 0);
	}
	PG_FINALLY();
	{
		sx_state_writing_end();
	}
	PG_END_TRY();
	if (rc < 0)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(rc));
	SPI_finish();
}

void
sx_become(Oid role, SxTrusted *save)
{
	sx_trusted_begin(save);
	SetUserIdAndSecContext(role, save->sec_context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
}

void
sx_exec_as(Oid role, const char *sql)
{
	SxTrusted	save;

	sx_become(role, &save);
	sx_execute_ddl(sql);
	sx_trusted_end(&save);
}

void
sx_rows_as(Oid role, const char *sql, int nargs, const Oid *types, const Datum *values,
		   SxRowFunc each, void *arg)
{
	SxTrusted	save;

	sx_become(role, &save);
	sx_state_writing_begin();
	PG_TRY();
	{
		each_row(sql, nargs, types, values, NULL, each, arg);
	}
	PG_FINALLY();
	{
		sx_state_writing_end();
	}
	PG_END_TRY();
	sx_trusted_end(&save);
}

Datum
sx_catalog_value(const char *sql, int nargs, const Oid *types,
				 const Datum *values, const char *nulls, bool *isnull)
{
	MemoryContext caller = CurrentMemoryContext;
	SxTrusted	save;
	Datum		result = (Datum) 0;

	*isnull = true;
	sx_trusted_begin(&save);
	run_connected(sql, nargs, types, values, nulls);
	if (SPI_processed > 0)
	{
		TupleDesc	desc = SPI_tuptable->tupdesc;
		Form_pg_attribute att = TupleDescAttr(desc, 0);

		result = SPI_getbinval(SPI_tuptable->vals[0], desc, 1, isnull);
		if (!*isnull)
		{
			MemoryContext old = MemoryContextSwitchTo(caller);

			result = datumCopy(result, att->attbyval, att->attlen);
			MemoryContextSwitchTo(old);
		}
	}
	SPI_finish();
	sx_trusted_end(&save);
	return result;
}

void
sx_catalog_rows(const char *sql, int nargs, const Oid *types, const Datum *values,
				const char *nulls, SxRowFunc each, void *arg)
{
	SxTrusted	save;

	sx_trusted_begin(&save);
	each_row(sql, nargs, types, values, nulls, each, arg);
	sx_trusted_end(&save);
}

char *
sx_row_text(HeapTuple row, TupleDesc desc, int column)
{
	return SPI_getvalue(row, desc, column);
}

int64
sx_row_int(HeapTuple row, TupleDesc desc, int column, int64 dflt)
{
	bool		isnull;
	Datum		value = SPI_getbinval(row, desc, column, &isnull);

	if (isnull)
		return dflt;
	return TupleDescAttr(desc, column - 1)->atttypid == INT8OID ?
		DatumGetInt64(value) : (int64) DatumGetInt32(value);
}

Oid
sx_row_oid(HeapTuple row, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(row, desc, column, &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(value);
}

TimestampTz
sx_row_time(HeapTuple row, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(row, desc, column, &isnull);

	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

bool
sx_row_bool(HeapTuple row, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(row, desc, column, &isnull);

	return !isnull && DatumGetBool(value);
}

void
sx_collect_oid(HeapTuple row, TupleDesc desc, void *arg)
{
	List	  **list = arg;

	*list = lappend_oid(*list, sx_row_oid(row, desc, 1));
}

void
sx_collect_int(HeapTuple row, TupleDesc desc, void *arg)
{
	List	  **list = arg;

	*list = lappend_int(*list, (int) sx_row_int(row, desc, 1, 0));
}

bool
sx_extension_exists(void)
{
	return OidIsValid(get_extension_oid("streamext", true));
}

Oid
sx_fdw_oid(void)
{
	return get_foreign_data_wrapper_oid(SX_FDW, true);
}
