/*-------------------------------------------------------------------------
 *
 * forget.c
 *		What belongs to a pipeline goes with it.
 *
 * That would be foreign keys with ON DELETE CASCADE.  But pg_restore with several jobs
 * loads the tables of an extension in any order, and a key that is checked then fails.
 * So rows are deleted by a trigger, and that they have something to belong to is for
 * those who write them: they hold the row of streamext.progress.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/rel.h"

#include "catalog/sx_catalog.h"

/* Tables with a column "pipeline"; those of the second kind have "stream" as well. */
static const char *const of_pipeline[] = {
	"DELETE FROM streamext.progress WHERE pipeline = $1",
	"DELETE FROM streamext.source WHERE pipeline = $1",
	"DELETE FROM streamext.batch WHERE pipeline = $1"
};
static const char *const of_source[] = {
	"DELETE FROM streamext.partition WHERE pipeline = $1 AND stream = $2",
	"DELETE FROM streamext.file_taken WHERE pipeline = $1 AND stream = $2",
	"DELETE FROM streamext.gap WHERE pipeline = $1 AND stream = $2"
};

PG_FUNCTION_INFO_V1(sx_forget);

static Datum
value_of(const TriggerData *trigdata, const char *column)
{
	TupleDesc	desc = RelationGetDescr(trigdata->tg_relation);
	bool		isnull;

	return SPI_getbinval(trigdata->tg_trigtuple, desc, SPI_fnumber(desc, column), &isnull);
}

Datum
sx_forget(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Datum		values[2];

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		!TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("this function must be called by a trigger AFTER DELETE")));
	if (strcmp(RelationGetRelationName(trigdata->tg_relation), "pipeline") == 0)
	{
		values[0] = value_of(trigdata, "id");
		for (int i = 0; i < lengthof(of_pipeline); i++)
			sx_catalog_exec(of_pipeline[i], SX_ARGS(INT4OID), values, NULL);
	}
	else
	{
		values[0] = value_of(trigdata, "pipeline");
		values[1] = value_of(trigdata, "stream");
		for (int i = 0; i < lengthof(of_source); i++)
			sx_catalog_exec(of_source[i], SX_ARGS(INT4OID, REGCLASSOID), values, NULL);
	}
	return PointerGetDatum(NULL);
}
