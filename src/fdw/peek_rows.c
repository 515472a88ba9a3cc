/*-------------------------------------------------------------------------
 *
 * peek_rows.c
 *		SELECT from a derived stream with rows of its own, outside a batch.
 *
 * A stream that is a view is peeked at as any view is.  One that is a foreign table
 * does the same by hand: its query runs over what the sources hold now, as the owner of
 * the stream, under restrictions as REFRESH MATERIALIZED VIEW has them, and with the
 * settings of the session that created the stream, as in a batch: a function of the owner
 * must not find names in a search_path, or among the temporary tables, of whoever looks.
 * Of streams
 * that keep state, a window shows its rows so far, and update_state its states; what a
 * function of map_with_state gave to a record is not kept.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "fdw/scan_rows.h"
#include "fdw/stream.h"
#include "miscadmin.h"
#include "plan/plan.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"

static void
refuse(Relation rel, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("stream %s cannot be read outside a batch",
					sx_relation_label(RelationGetRelid(rel))),
			 errdetail("%s", detail),
			 errhint("%s", hint)));
}

/* The query that shows what the stream is now. */
static char *
peek_sql(Relation rel, const SxStepPlan *plan)
{
	switch (plan->strategy)
	{
		case SX_STRATEGY_BATCH:
			sx_plan_check_columns(plan->relid, plan->query);
			return plan->apply_sql;
		case SX_STRATEGY_WINDOW:
		case SX_STRATEGY_UPDATE_STATE:
			return sx_plan_peek_sql(plan);
		case SX_STRATEGY_MAP_WITH_STATE:
		case SX_STRATEGY_DEDUPLICATE:
			refuse(rel, "Its rows are made from records and the state of their keys, batch by batch.",
				   "Read its state table, or put its rows into a table: CREATE STREAM … WITH (connector = 'table', table = '…') AS SELECT * FROM the stream.");
			break;
		case SX_STRATEGY_CHANGES:
			refuse(rel, "A view changes in batches.",
				   "Put the changes into a table: CREATE STREAM … WITH (connector = 'table', table = '…') AS SELECT * FROM the stream.");
			break;
		default:
			refuse(rel, "It is a sink, whose rows are for its connector.",
				   "Within a batch, its function reads them.");
	}
	return NULL;
}

static const char *const setting_names[] = {
	"search_path", "TimeZone", "DateStyle", "IntervalStyle"
};

static void
collect_settings(HeapTuple row, TupleDesc desc, void *arg)
{
	char	  **values = arg;

	for (int i = 0; i < lengthof(setting_names); i++)
		values[i] = sx_row_text(row, desc, i + 1);
}

/* Those of the stream, until AtEOXact_GUC().  A path that does not name pg_temp begins with it. */
static void
apply_settings(Oid relid)
{
	Oid			types[] = {REGCLASSOID};
	Datum		arguments[] = {ObjectIdGetDatum(relid)};
	char	   *values[lengthof(setting_names)] = {NULL};

	sx_catalog_rows("SELECT settings->>'search_path', settings->>'TimeZone', "
					"settings->>'DateStyle', settings->>'IntervalStyle' "
					"FROM streamext.step WHERE relation = $1",
					1, types, arguments, NULL, collect_settings, values);
	values[0] = values[0] == NULL || values[0][0] == '\0' ?
		pstrdup("pg_catalog, pg_temp") : psprintf("%s, pg_temp", values[0]);
	for (int i = 0; i < lengthof(setting_names); i++)
	{
		if (values[i] != NULL)
			(void) set_config_option(setting_names[i], values[i], PGC_USERSET,
									 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	}
}

static void
run(SxRows *rows, const char *sql)
{
	SPIExecuteOptions options = {.read_only = false};
	DestReceiver *dest = CreateDestReceiver(DestTuplestore);
	int			rc;

	SetTuplestoreDestReceiverParams(dest, rows->store, rows->context, true, NULL, NULL);
	options.dest = dest;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	rc = SPI_execute_extended(sql, &options);
	if (rc < 0)
		elog(ERROR, "SPI_execute_extended failed: %s", SPI_result_code_string(rc));
	SPI_finish();
	dest->rDestroy(dest);
}

SxRows *
sx_peek_rows(Relation rel)
{
	SxRows	   *rows = palloc0(sizeof(SxRows));
	char	   *sql = peek_sql(rel, sx_plan_load(RelationGetRelid(rel)));
	int			nestlevel = NewGUCNestLevel();
	Oid			userid;
	int			sec_context;
	MemoryContext old;

	rows->desc = CreateTupleDescCopy(RelationGetDescr(rel));
	rows->context = AllocSetContextCreate(CurrentMemoryContext, "streamext peek",
										  ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(rows->context);
	rows->store = tuplestore_begin_heap(false, false, work_mem);
	tuplestore_set_eflags(rows->store, EXEC_FLAG_REWIND);
	rows->free_pointers = bms_make_singleton(0);
	MemoryContextSwitchTo(old);

	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(rel->rd_rel->relowner,
						   sec_context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	apply_settings(RelationGetRelid(rel));
	run(rows, sql);
	AtEOXact_GUC(false, nestlevel);
	SetUserIdAndSecContext(userid, sec_context);
	return rows;
}
