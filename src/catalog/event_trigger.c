/*-------------------------------------------------------------------------
 *
 * event_trigger.c
 *		Event triggers: rows of streamext.* come and go with their relations.
 *
 * They fire with and without the preloaded library, for every way in which a
 * relation can come (CREATE FOREIGN TABLE, a restored dump) and go (DROP … CASCADE,
 * DROP OWNED, DROP SCHEMA).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/sx_catalog.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "executor/spi.h"
#include "fdw/stream.h"
#include "fmgr.h"
#include "worker/batch.h"
#include "worker/worker.h"

bool		sx_creating_query_table = false;

PG_FUNCTION_INFO_V1(sx_on_ddl_end);
PG_FUNCTION_INFO_V1(sx_on_drop);

static void
require_event(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("this function can be called by an event trigger only")));
}

/* ddl_command_end of CREATE FOREIGN TABLE: a stream of ours is registered. */
Datum
sx_on_ddl_end(PG_FUNCTION_ARGS)
{
	List	   *tables = NIL;
	ListCell   *lc;

	require_event(fcinfo);
	sx_catalog_rows("SELECT objid FROM pg_event_trigger_ddl_commands() "
					"WHERE classid = 'pg_class'::regclass AND object_type = 'foreign table'",
					0, NULL, NULL, NULL, sx_collect_oid, &tables);
	foreach(lc, tables)
	{
		Oid			relid = lfirst_oid(lc);

		if (sx_is_stream_table(relid) && !sx_creating_query_table &&
			sx_relation_kind(relid) == SX_REL_NONE && !sx_is_restored_table(relid))
			sx_register_source(relid);
	}
	PG_RETURN_NULL();
}

static void
wake_pipeline(HeapTuple row, TupleDesc desc, void *arg)
{
	if (sx_current != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("streams, views and sinks cannot be dropped inside a batch"),
				 errhint("Drop them from another session.")));
	sx_wake_pipeline_at_commit((int) sx_row_int(row, desc, 1, 0));
}

/* The order of locks is that of the sender: see sink/README.md. */
static void
drop_outboxes(void)
{
	if (sx_catalog_exec("DELETE FROM streamext.delivery WHERE sink::oid IN "
						"(SELECT objid FROM pg_event_trigger_dropped_objects() "
						" WHERE classid = 'pg_class'::regclass AND objsubid = 0)",
						0, NULL, NULL, NULL) > 0)
		sx_catalog_exec("DELETE FROM streamext.outbox o WHERE NOT EXISTS "
						"(SELECT FROM streamext.delivery d WHERE d.sink = o.sink)",
						0, NULL, NULL, NULL);
}

/*
 * While the extension is of another version than this library its tables must not be
 * touched.  Other people's drops go on; what may be a stream or view of ours stays.
 */
static bool
nothing_of_ours_dropped(void)
{
	bool		nothing;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute("SELECT FROM pg_catalog.pg_event_trigger_dropped_objects() "
					"WHERE object_type OPERATOR(pg_catalog.=) ANY ('{foreign table,view}') LIMIT 1",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read what was dropped");
	nothing = SPI_processed == 0;
	SPI_finish();
	return nothing;
}

/* sql_drop: forget what was dropped, and pipelines that have nothing left. */
Datum
sx_on_drop(PG_FUNCTION_ARGS)
{
	require_event(fcinfo);
	if (!sx_extension_exists() ||
		(sx_other_version() != NULL && nothing_of_ours_dropped()))
		PG_RETURN_NULL();

	drop_outboxes();
	sx_catalog_rows("WITH gone AS (SELECT objid FROM pg_event_trigger_dropped_objects() "
					"              WHERE classid = 'pg_class'::regclass AND objsubid = 0), "
					"steps AS (DELETE FROM streamext.step WHERE relation::oid IN (SELECT objid FROM gone) "
					"          RETURNING pipeline), "
					"counters AS (DELETE FROM streamext.step_progress WHERE relation::oid IN (SELECT objid FROM gone)), "
					"windows AS (DELETE FROM streamext.window_batch WHERE relation::oid IN (SELECT objid FROM gone)), "
					"sources AS (DELETE FROM streamext.source WHERE stream::oid IN (SELECT objid FROM gone) "
					"            RETURNING pipeline), "
					"streams AS (DELETE FROM streamext.stream WHERE relation::oid IN (SELECT objid FROM gone)), "
					"letters AS (DELETE FROM streamext.dead_letter WHERE stream::oid IN (SELECT objid FROM gone)), "
					"orphans AS (UPDATE streamext.dead_letter "
					"            SET step = CASE WHEN step::oid IN (SELECT objid FROM gone) THEN NULL ELSE step END, "
					"            steps = ARRAY (SELECT s FROM unnest(steps) s WHERE s::oid NOT IN (SELECT objid FROM gone)), "
					"            replay = replay AND NOT steps::oid[] <@ ARRAY (SELECT objid FROM gone) "
					"            WHERE stream::oid NOT IN (SELECT objid FROM gone) AND "
					"            (step::oid IN (SELECT objid FROM gone) OR steps::oid[] && ARRAY (SELECT objid FROM gone))), "
					"touched AS (SELECT pipeline FROM steps UNION SELECT pipeline FROM sources) "
					"UPDATE streamext.progress p SET epoch = epoch + 1 "
					"FROM touched WHERE p.pipeline = touched.pipeline RETURNING p.pipeline",
					0, NULL, NULL, NULL, wake_pipeline, NULL);
	sx_catalog_exec("DELETE FROM streamext.pipeline p "
					"WHERE (lane_for IS NOT NULL OR "
					"       NOT EXISTS (SELECT FROM streamext.source s WHERE s.pipeline = p.id)) "
					"AND NOT EXISTS (SELECT FROM streamext.step s WHERE s.pipeline = p.id)",
					0, NULL, NULL, NULL);
	sx_wake_scheduler_at_commit();
	PG_RETURN_NULL();
}
