/*-------------------------------------------------------------------------
 *
 * dead_letters.c
 *		Operating functions on dead letters: feeding them again, deleting them.
 *
 * Which letters is asked of the view streamext.dead_letters, by the caller and with the
 * caller's rights, as the filter is theirs; the table itself is written by trusted code
 * (catalog/sx_catalog.h), which looks at the owner of the pipeline once more.  What replay
 * means is in worker/replay.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "worker/batch.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(sx_replay_dead_letters);
PG_FUNCTION_INFO_V1(sx_delete_dead_letters);

/* Whose letters $2 may order about: those of their pipelines, and of pipelines gone. */
#define MAY_ORDER \
	"(EXISTS (SELECT FROM streamext.pipeline p " \
	"         WHERE pg_has_role($2, p.owner::oid, 'USAGE') " \
	"         AND (p.id = d.pipeline OR p.id IN (SELECT s.pipeline FROM streamext.step s " \
	"                                            WHERE s.relation::oid = ANY (d.steps::oid[])))) " \
	" OR NOT EXISTS (SELECT FROM streamext.pipeline p WHERE p.id = d.pipeline))"

static void
check_call(FunctionCallInfo fcinfo, const char *name)
{
	PreventCommandDuringRecovery(name);
	PreventCommandIfReadOnly(name);
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the name of the stream must not be null")));
	if (sx_current != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s cannot be called inside a batch", name)));
}

/* The stream, view or sink that the letters are about. */
static Oid
relation_argument(FunctionCallInfo fcinfo)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Oid			relid = sx_relation_by_name(name);

	if (!OidIsValid(relid) || sx_relation_kind(relid) == SX_REL_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no stream or view \"%s\"", name),
				 errhint("SELECT DISTINCT stream, view FROM streamext.dead_letters shows who has dead letters.")));
	return relid;
}

static SPIPlanPtr
prepare_filter(const char *filter)
{
	Oid			types[] = {REGCLASSOID};
	StringInfoData sql;
	SPIPlanPtr	plan;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT id FROM streamext.dead_letters "
						   "WHERE (stream OPERATOR(pg_catalog.=) $1 OR view OPERATOR(pg_catalog.=) $1)");
	if (filter != NULL)
		appendStringInfo(&sql, " AND (%s\n)", filter);
	plan = SPI_prepare(sql.data, lengthof(types), types);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	if (list_length(SPI_plan_get_plan_sources(plan)) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("the filter must be a single condition")));
	return plan;
}

/* Ids of the caller's letters, as an array. */
static Datum
choose_letters(FunctionCallInfo fcinfo)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext old;
	Datum		values[] = {ObjectIdGetDatum(relation_argument(fcinfo))};
	Datum	   *ids;
	Datum		result;
	int			rc;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	rc = SPI_execute_plan(prepare_filter(PG_ARGISNULL(1) ? NULL :
										 text_to_cstring(PG_GETARG_TEXT_PP(1))),
						  values, NULL, true, 0);
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
	ids = palloc(sizeof(Datum) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		ids[i] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
	}
	old = MemoryContextSwitchTo(caller);
	result = PointerGetDatum(construct_array(ids, (int) SPI_processed, INT8OID, sizeof(int64),
											 FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	MemoryContextSwitchTo(old);
	SPI_finish();
	return result;
}

static void
wake_pipelines(Datum ids)
{
	List	   *pipelines = NIL;
	ListCell   *lc;

	sx_catalog_rows("SELECT pipeline FROM streamext.dead_letter WHERE id = ANY ($1) AND replay "
					"UNION SELECT s.pipeline FROM streamext.dead_letter d "
					"JOIN streamext.step s ON s.relation::oid = ANY (d.steps::oid[]) "
					"WHERE d.id = ANY ($1) AND d.replay AND s.pipeline IS NOT NULL",
					SX_ARGS(INT8ARRAYOID), &ids, NULL, sx_collect_int, &pipelines);
	foreach(lc, pipelines)
		sx_wake_pipeline_at_commit(lfirst_int(lc));
}

/* Tells of letters that were asked for and cannot be fed. */
static void
tell_of_cut(Datum ids)
{
	int64		n = (int64) sx_catalog_exec("SELECT FROM streamext.dead_letter WHERE id = ANY ($1) "
											"AND (cut OR steps = '{}')",
											SX_ARGS(INT8ARRAYOID), &ids, NULL);

	if (n > 0)
		ereport(NOTICE,
				(errmsg_plural("%lld dead letter cannot be fed again",
							   "%lld dead letters cannot be fed again", n, (long long) n),
				 errdetail("The record was too long to be kept whole, or the view that it failed in is gone.")));
}

Datum
sx_replay_dead_letters(PG_FUNCTION_ARGS)
{
	Datum		values[2];
	int64		marked;

	check_call(fcinfo, "streamext.replay_dead_letters");
	values[0] = choose_letters(fcinfo);
	values[1] = ObjectIdGetDatum(GetUserId());
	marked = (int64) sx_catalog_exec("UPDATE streamext.dead_letter d SET replay = true "
									 "WHERE id = ANY ($1) AND NOT replay AND NOT cut AND steps <> '{}' AND "
									 MAY_ORDER,
									 SX_ARGS(INT8ARRAYOID, OIDOID), values, NULL);
	tell_of_cut(values[0]);
	if (marked > 0)
		wake_pipelines(values[0]);
	PG_RETURN_INT64(marked);
}

Datum
sx_delete_dead_letters(PG_FUNCTION_ARGS)
{
	Datum		values[2];

	check_call(fcinfo, "streamext.delete_dead_letters");
	values[0] = choose_letters(fcinfo);
	values[1] = ObjectIdGetDatum(GetUserId());
	PG_RETURN_INT64((int64) sx_catalog_exec("DELETE FROM streamext.dead_letter d "
											"WHERE id = ANY ($1) AND " MAY_ORDER,
											SX_ARGS(INT8ARRAYOID, OIDOID), values, NULL));
}
