/*-------------------------------------------------------------------------
 *
 * home.c
 *		Where a pipeline is at home, and what is done when it has come elsewhere.
 *
 * Each row of streamext.pipeline says in which cluster and database it was made.  One that
 * is found in another, after a restored dump, pg_upgrade or CREATE DATABASE … TEMPLATE, is
 * not started: the original may be running still.  Its rows are all there, but the
 * dependencies that hold its parts together are not, as no dump has them.
 *
 *		pg_restore		the row comes by COPY: the trigger set_home() stops it
 *		pg_upgrade		the row is as it was: the scheduler finds another home, and
 *						stops it
 *		streamext.start_all(), resume(), run(), step(), the first INSERT into a queue
 *						adopt: all dependencies of the database are made again, positions
 *						that name transactions are translated, this becomes the home
 *
 * Whoever adopts holds a lock on streamext.pipeline to the end of its transaction, so it
 * is done once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "catalog/depend.h"
#include "catalog/owner.h"
#include "catalog/sx_catalog.h"
#include "fdw/stream.h"
#include "plan/plan.h"
#include "source/source.h"

#define RESTORED_SQLSTATE	"55000"
#define RESTORED_MESSAGE \
	"came from another database: streamext.start_all() goes on from the positions that it came with"

PG_FUNCTION_INFO_V1(sx_set_home);

static char *
home(void)
{
	return psprintf(UINT64_FORMAT "/%u", GetSystemIdentifier(), MyDatabaseId);
}

/* ---------- a row that comes ---------- */

static HeapTuple
set_column(Relation rel, HeapTuple tuple, const char *name, Datum value, bool isnull)
{
	int			column = SPI_fnumber(RelationGetDescr(rel), name);

	return heap_modify_tuple_by_cols(tuple, RelationGetDescr(rel), 1, &column, &value, &isnull);
}

static HeapTuple
set_text(Relation rel, HeapTuple tuple, const char *name, const char *value)
{
	return set_column(rel, tuple, name, CStringGetTextDatum(value), false);
}

/*
 * BEFORE INSERT on streamext.pipeline.  Our own statements leave the home out, and get it
 * here; where there is one, the row was dumped.
 */
Datum
sx_set_home(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Relation	rel;
	HeapTuple	tuple;
	char	   *state;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigdata->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("this function must be called by a trigger BEFORE INSERT")));
	rel = trigdata->tg_relation;
	tuple = trigdata->tg_trigtuple;
	if (SPI_getvalue(tuple, RelationGetDescr(rel),
					 SPI_fnumber(RelationGetDescr(rel), "home")) == NULL)
		return PointerGetDatum(set_text(rel, tuple, "home", home()));

	state = SPI_getvalue(tuple, RelationGetDescr(rel),
						 SPI_fnumber(RelationGetDescr(rel), "state"));
	tuple = set_text(rel, tuple, "home", "");
	tuple = set_column(rel, tuple, "failures", Int32GetDatum(0), false);
	tuple = set_column(rel, tuple, "retry_at", (Datum) 0, true);
	if (state == NULL || strcmp(state, "running") != 0)
		return PointerGetDatum(tuple);
	tuple = set_text(rel, tuple, "state", "stopped");
	tuple = set_text(rel, tuple, "error_sqlstate", RESTORED_SQLSTATE);
	tuple = set_text(rel, tuple, "error_message", RESTORED_MESSAGE);
	tuple = set_column(rel, tuple, "error_at", TimestampTzGetDatum(GetCurrentTimestamp()), false);
	return PointerGetDatum(tuple);
}

/* A row that somebody has locked is stopped another time. */
void
sx_home_stop_others(void)
{
	Datum		values[] = {
		CStringGetTextDatum(home()), CStringGetTextDatum(RESTORED_SQLSTATE),
		CStringGetTextDatum(RESTORED_MESSAGE)
	};

	sx_catalog_exec("UPDATE streamext.pipeline SET state = 'stopped', failures = 0, retry_at = NULL, "
					"error_sqlstate = $2, error_message = $3, error_at = clock_timestamp() "
					"WHERE id IN (SELECT id FROM streamext.pipeline "
					"             WHERE home <> $1 AND state = 'running' FOR NO KEY UPDATE SKIP LOCKED)",
					SX_ARGS(TEXTOID, TEXTOID, TEXTOID), values, NULL);
}

/* ---------- adoption ---------- */

static bool
any_from_elsewhere(void)
{
	Datum		values[] = {CStringGetTextDatum(home())};
	bool		isnull;

	(void) sx_catalog_value("SELECT true FROM streamext.pipeline WHERE home <> $1 LIMIT 1",
							SX_ARGS(TEXTOID), values, NULL, &isnull);
	return !isnull;
}

static void
adopt_sources(void)
{
	List	   *streams = NIL;
	ListCell   *lc;

	sx_catalog_rows("SELECT relation FROM streamext.stream WHERE kind = 'source' ORDER BY relation::oid",
					0, NULL, NULL, NULL, sx_collect_oid, &streams);
	foreach(lc, streams)
	{
		SxStream   *stream = sx_stream_load(lfirst_oid(lc));
		Datum		values[] = {ObjectIdGetDatum(stream->relid)};
		bool		isnull;
		Oid			log = DatumGetObjectId(sx_catalog_value("SELECT log FROM streamext.stream WHERE relation = $1",
															SX_ARGS(REGCLASSOID), values, NULL, &isnull));

		if (!isnull)
			sx_part_of(log, stream->relid);
		if (stream->source->restored != NULL)
			stream->source->restored(stream);
	}
}

static void
adopt_steps(void)
{
	List	   *steps = NIL;
	ListCell   *lc;

	sx_catalog_rows("SELECT relation FROM streamext.step ORDER BY seq",
					0, NULL, NULL, NULL, sx_collect_oid, &steps);
	foreach(lc, steps)
		sx_plan_relink(lfirst_oid(lc));
}

void
sx_adopt_restored(void)
{
	SxTrusted	save;
	Datum		values[1];

	if (!any_from_elsewhere())
		return;
	sx_catalog_exec("LOCK TABLE streamext.pipeline IN SHARE ROW EXCLUSIVE MODE",
					0, NULL, NULL, NULL);
	if (!any_from_elsewhere())
		return;

	sx_trusted_begin(&save);
	adopt_sources();
	adopt_steps();
	sx_owner_follow(false);
	values[0] = CStringGetTextDatum(home());
	sx_catalog_exec("UPDATE streamext.pipeline SET home = $1 WHERE home <> $1",
					SX_ARGS(TEXTOID), values, NULL);
	sx_trusted_end(&save);
	CommandCounterIncrement();
}
