/*-------------------------------------------------------------------------
 *
 * pipeline_row.c
 *		The row of a pipeline as scheduler and worker read and write it.
 *
 * failures and retry_at make the back-off, and are committed before the worker
 * starts: a start counts as a failure until the worker has committed a batch, or
 * has lived for a while in peace.  So a batch that takes the whole server down is
 * not run again and again at full speed after each recovery.
 *
 *		start		failures + 1, retry_at = now + back-off(failures)
 *		works		failures = 0, retry_at and error are cleared
 *		fails		failures stays, retry_at from now on, error is set
 *		leaves		failures - 1: nothing has been proven
 *
 * The back-off is 0.1 seconds, doubled with each failure, up to a minute, with up
 * to a half added at random, so that pipelines that failed together do not come
 * back together.  A lock that somebody else held is tried again within seconds.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/sx_catalog.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "utils/builtins.h"

#include "worker/pipeline_row.h"

/* In terms of the count of failures before this one. */
#define RETRY_AT(failures)	RETRY_WITHIN("60", failures)
#define RETRY_WITHIN(seconds, failures) \
	"clock_timestamp() + interval '1 second' * " \
	"least(" seconds ", 0.1 * 2 ^ least(" failures ", 10) * (1 + random() / 2))"

static void
collect_duty(HeapTuple row, TupleDesc desc, void *arg)
{
	List	  **list = arg;
	SxDuty	   *duty = palloc(sizeof(SxDuty));

	duty->id = (int) sx_row_int(row, desc, 1, 0);
	duty->name = sx_row_text(row, desc, 2);
	duty->owner = sx_row_oid(row, desc, 3);
	duty->owner_name = sx_row_text(row, desc, 4);
	duty->obstacle = sx_row_text(row, desc, 5);
	duty->retry_at = sx_row_time(row, desc, 6);
	duty->slot = (int) sx_row_int(row, desc, 7, 0);
	*list = lappend(*list, duty);
}

/*
 * What InitPostgres would refuse a worker for, asked before one is started.  Limits of
 * connections do not count workers, but sessions of the same role or database can be
 * above a limit that was lowered.
 */
#define OBSTACLE(login_needed) \
	"CASE WHEN " login_needed " AND NOT r.rolcanlogin THEN " \
	" format('role %I is not permitted to log in: run ALTER ROLE %I LOGIN', r.rolname, r.rolname) " \
	"WHEN NOT has_database_privilege(r.oid, d.oid, 'CONNECT') THEN " \
	" format('role %I may not connect to the database: GRANT CONNECT ON DATABASE %I TO %I', r.rolname, d.datname, r.rolname) " \
	"WHEN NOT r.rolsuper AND r.rolconnlimit >= 0 AND r.rolconnlimit < " \
	" (SELECT count(*) FROM pg_stat_get_activity(NULL) a WHERE a.usesysid = r.oid AND a.backend_type = 'client backend') THEN " \
	" format('too many connections of role %I: raise its CONNECTION LIMIT', r.rolname) " \
	"WHEN NOT r.rolsuper AND d.datconnlimit >= 0 AND d.datconnlimit < " \
	" (SELECT count(*) FROM pg_stat_get_activity(NULL) a WHERE a.datid = d.oid AND a.backend_type = 'client backend') THEN " \
	" format('too many connections to database %I: raise its CONNECTION LIMIT', d.datname) END"

#define DUTIES \
	", CASE WHEN g.slot > 0 THEN g.retry_at ELSE p.retry_at END, g.slot " \
	"FROM streamext.pipeline p JOIN streamext.progress g ON g.pipeline = p.id LEFT JOIN pg_roles r ON r.oid = p.owner " \
	"JOIN pg_database d ON d.datname = current_database() " \
	"WHERE p.state = 'running' " \
	"AND EXISTS (SELECT FROM streamext.step s WHERE s.pipeline = p.id) " \
	"ORDER BY p.id, g.slot"

List *
sx_duties(void)
{
	List	   *duties = NIL;

	sx_home_stop_others();
	sx_catalog_rows(SX_OWNER_NEEDS_LOGIN ?
					"SELECT p.id, p.name, p.owner::oid, r.rolname::text, " OBSTACLE("true") DUTIES :
					"SELECT p.id, p.name, p.owner::oid, r.rolname::text, " OBSTACLE("false") DUTIES,
					0, NULL, NULL, NULL, collect_duty, &duties);
	return duties;
}

static void
collect_row(HeapTuple row, TupleDesc desc, void *arg)
{
	SxPipelineRow **result = arg;

	*result = palloc(sizeof(SxPipelineRow));
	(*result)->name = sx_row_text(row, desc, 1);
	(*result)->run_to_end = sx_row_bool(row, desc, 2);
	(*result)->definition = sx_row_text(row, desc, 3);
	(*result)->error_sqlstate = sx_row_text(row, desc, 4);
	(*result)->error_message = sx_row_text(row, desc, 5);
	(*result)->letters = sx_row_bool(row, desc, 6);
}

/*
 * The definition covers the pipeline, its steps, and of its streams the options of
 * table, server, columns and user mapping.  It is a digest, made in the query, so no
 * secret leaves it.
 */
SxPipelineRow *
sx_pipeline_row(int id, int slot)
{
	SxPipelineRow *result = NULL;
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(id), Int32GetDatum(slot)};

	sx_catalog_rows("SELECT p.name, p.run_to_end, "
					" md5(concat_ws('|', p.name, p.owner::oid, p.run_to_end, "
					"  (SELECT count(*) FROM streamext.progress g WHERE g.pipeline = p.id), "
					"  (SELECT string_agg(concat_ws(' ', s.relation::oid, s.seq, s.kind, s.query::oid, "
					"                               s.state::oid, s.strategy, s.options, s.settings), ',' ORDER BY s.seq) "
					"   FROM streamext.step s WHERE s.pipeline = p.id), "
					"  (SELECT string_agg(concat_ws(' ', s.stream::oid, s.seq, c.relname, c.relnamespace, c.relowner, "
					"                               f.ftoptions, v.srvoptions, "
					"     (SELECT string_agg(u.umoptions::text, ',' ORDER BY u.umuser) FROM pg_user_mapping u "
					"      WHERE u.umserver = v.oid AND u.umuser IN (c.relowner, 0)), "
					"     (SELECT string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attfdwoptions), ',' "
					"                        ORDER BY a.attnum) "
					"      FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0)), ',' ORDER BY s.seq) "
					"   FROM streamext.source s JOIN pg_class c ON c.oid = s.stream "
					"   JOIN pg_foreign_table f ON f.ftrelid = c.oid "
					"   JOIN pg_foreign_server v ON v.oid = f.ftserver "
					"   WHERE s.pipeline = p.id))), "
					" p.error_sqlstate, p.error_message, "
					" EXISTS (SELECT FROM streamext.dead_letter d WHERE d.replay AND (d.pipeline = p.id "
					"         OR EXISTS (SELECT FROM streamext.step s WHERE s.pipeline = p.id "
					"                    AND s.relation::oid = ANY (d.steps::oid[])))) "
					"FROM streamext.pipeline p WHERE p.id = $1 AND p.state = 'running' "
					"AND EXISTS (SELECT FROM streamext.step s WHERE s.pipeline = p.id) "
					"AND EXISTS (SELECT FROM streamext.progress g WHERE g.pipeline = p.id AND g.slot = $2)",
					2, types, values, NULL, collect_row, &result);
	return result;
}

/*
 * A row that somebody has locked, as pause() does until its commit, is not waited
 * for where the update can as well be made later.
 */
#define UNLOCKED_ROW \
	" WHERE id = (SELECT id FROM streamext.pipeline WHERE id = $1 " \
	"AND state = 'running' FOR NO KEY UPDATE SKIP LOCKED)"

static bool
update_row(const char *sql, int id)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(id)};

	return sx_catalog_exec(sql, 1, types, values, NULL) > 0;
}

static bool
update_row_error(const char *sql, int id, int sqlerrcode, const char *message)
{
	Oid			types[] = {INT4OID, TEXTOID, TEXTOID};
	Datum		values[] = {
		Int32GetDatum(id),
		CStringGetTextDatum(unpack_sql_state(sqlerrcode)),
		CStringGetTextDatum(message)
	};

	return sx_catalog_exec(sql, 3, types, values, NULL) > 0;
}

/*
 * The back-off of a slot above 0 is in its own row; what the error was is in that of the
 * pipeline, whose slot it was.
 */
#define UNLOCKED_SLOT \
	" WHERE pipeline = $1 AND slot = (SELECT g.slot FROM streamext.progress g " \
	"WHERE g.pipeline = $1 AND g.slot = $2 AND EXISTS (SELECT FROM streamext.pipeline p " \
	"WHERE p.id = $1 AND p.state = 'running') FOR NO KEY UPDATE SKIP LOCKED)"

static bool
update_slot(const char *sql, int id, int slot)
{
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(id), Int32GetDatum(slot)};

	return sx_catalog_exec(sql, 2, types, values, NULL) > 0;
}

/* False: not now; the row is locked, or the pipeline is not to run any more. */
bool
sx_row_starting(int id, int slot)
{
	if (slot > 0)
		return update_slot("UPDATE streamext.progress SET failures = failures + 1, "
						   "retry_at = " RETRY_AT("failures") UNLOCKED_SLOT, id, slot);
	return update_row("UPDATE streamext.pipeline SET failures = failures + 1, "
					  "retry_at = " RETRY_AT("failures") UNLOCKED_ROW, id);
}

void
sx_row_not_started(int id, int slot)
{
	if (slot > 0)
		(void) update_slot("UPDATE streamext.progress SET failures = greatest(failures - 1, 0), "
						   "retry_at = NULL" UNLOCKED_SLOT, id, slot);
	else
		(void) update_row("UPDATE streamext.pipeline SET failures = greatest(failures - 1, 0), "
						  "retry_at = NULL" UNLOCKED_ROW, id);
}

/* False: the row is locked; try again later. */
bool
sx_row_works(int id, int slot)
{
	if (slot > 0)
	{
		if (!update_slot("UPDATE streamext.progress SET failures = 0, retry_at = NULL"
						 UNLOCKED_SLOT, id, slot))
			return false;
		(void) update_row("UPDATE streamext.pipeline SET "
						  "error_sqlstate = NULL, error_message = NULL, error_at = NULL"
						  UNLOCKED_ROW " AND error_sqlstate IS NOT NULL", id);
		return true;
	}
	return update_row("UPDATE streamext.pipeline SET failures = 0, retry_at = NULL, "
					  "error_sqlstate = NULL, error_message = NULL, error_at = NULL"
					  UNLOCKED_ROW, id);
}

#define RETRY_AFTER_ERROR \
	"CASE WHEN $2 = '55P03' OR $2 LIKE '40%' THEN " RETRY_WITHIN("3", "failures - 1") \
	" ELSE " RETRY_AT("failures - 1") " END"

static void
slot_failed(int id, int slot, int sqlerrcode)
{
	Oid			types[] = {INT4OID, TEXTOID, INT4OID};
	Datum		values[] = {
		Int32GetDatum(id), CStringGetTextDatum(unpack_sql_state(sqlerrcode)), Int32GetDatum(slot)
	};

	sx_catalog_exec("UPDATE streamext.progress SET retry_at = " RETRY_AFTER_ERROR
					" WHERE pipeline = $1 AND slot = $3",
					lengthof(types), types, values, NULL);
}

/* counted: the failure is in the row already, by the start. */
void
sx_row_failed(int id, int slot, bool counted, int sqlerrcode, const char *message)
{
	if (!counted)
		(void) sx_row_starting(id, slot);
	if (slot > 0)
		slot_failed(id, slot, sqlerrcode);
	(void) update_row_error(slot > 0 ?
							"UPDATE streamext.pipeline SET error_sqlstate = $2, error_message = $3, "
							"error_at = clock_timestamp()" UNLOCKED_ROW :
							"UPDATE streamext.pipeline SET retry_at = " RETRY_AFTER_ERROR ", "
							"error_sqlstate = $2, error_message = $3, "
							"error_at = clock_timestamp()" UNLOCKED_ROW,
							id, sqlerrcode, message);
}

void
sx_row_stopped(int id, int sqlerrcode, const char *message)
{
	(void) update_row_error("UPDATE streamext.pipeline SET state = 'stopped', retry_at = NULL, "
					 "error_sqlstate = $2, error_message = $3, "
					 "error_at = clock_timestamp() WHERE id = $1 AND state = 'running'",
					 id, sqlerrcode, message);
}

/*
 * It cannot be started now, for the reason given; that is no failure of its own.  True
 * when the row did not say so before.
 */
bool
sx_row_waiting(int id, int sqlerrcode, const char *message)
{
	return update_row_error("UPDATE streamext.pipeline SET error_sqlstate = $2, "
							"error_message = $3, error_at = clock_timestamp() "
							"WHERE id = $1 AND error_message IS DISTINCT FROM $3",
							id, sqlerrcode, message);
}

void
sx_row_reached_end(int id)
{
	(void) update_row("UPDATE streamext.pipeline SET state = 'paused', "
					  "failures = 0, retry_at = NULL, "
					  "error_sqlstate = NULL, error_message = NULL, error_at = NULL "
					  "WHERE id = $1 AND state = 'running' AND run_to_end", id);
}

bool
sx_row_at_end(int id, int slot, int64 epoch)
{
	Oid			types[] = {INT4OID, INT4OID, INT8OID};
	Datum		values[] = {Int32GetDatum(id), Int32GetDatum(slot), Int64GetDatum(epoch)};
	bool		isnull;
	Datum		ended = sx_catalog_value("SELECT at_end FROM streamext.progress "
										 "WHERE pipeline = $1 AND slot = $2 AND epoch = $3",
										 lengthof(types), types, values, NULL, &isnull);

	if (isnull || DatumGetBool(ended))
		return !isnull;
	return sx_catalog_exec("UPDATE streamext.progress SET at_end = true "
						   "WHERE pipeline = $1 AND slot = $2 AND epoch = $3",
						   lengthof(types), types, values, NULL) == 1;
}

bool
sx_row_others_at_end(int id)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(id)};
	bool		isnull;

	return DatumGetBool(sx_catalog_value("SELECT coalesce(bool_and(at_end), true) FROM streamext.progress "
										 "WHERE pipeline = $1 AND slot > 0",
										 lengthof(types), types, values, NULL, &isnull));
}
