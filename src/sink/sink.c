/*-------------------------------------------------------------------------
 *
 * sink.c
 *		Connectors whose rows leave the database, and their part in a batch.
 *
 * The rows of the sink's query come one by one, through a DestReceiver, so that a
 * batch need not fit into memory.  What a connector makes of them goes into the
 * outbox in chunks (outbox.c).
 *
 * An error in encoding a row is raised while the step runs, so the batch finds out whose
 * fault it was, as with any other step: probes are rolled back, and the outbox rows
 * with them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "funcapi.h"
#include "tcop/dest.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "ddl/ddl.h"
#include "sink/sink.h"
#include "worker/batch_internal.h"

static const SxSinkOps *const connectors[] = {
	&sx_sink_file,
	&sx_sink_print,
	&sx_sink_notify
};

const SxSinkOps *
sx_sink_find(const char *connector)
{
	for (int i = 0; i < lengthof(connectors); i++)
	{
		if (strcmp(connectors[i]->connector, connector) == 0)
			return connectors[i];
	}
	return NULL;
}

static const SxSinkOps *
find_by_strategy(SxStrategy strategy)
{
	for (int i = 0; i < lengthof(connectors); i++)
	{
		if (connectors[i]->strategy == strategy)
			return connectors[i];
	}
	elog(ERROR, "no sink of strategy %d", (int) strategy);
}

/* ---------- creation and plan ---------- */

void
sx_sink_check(Query *query, List *options)
{
	const SxSinkOps *ops = sx_sink_find(sx_option(options, "connector"));

	if (ops != NULL && ops->check != NULL)
		ops->check(query, options);
}

bool
sx_sink_plan(SxStepPlan *plan, List *options, const char *query_view)
{
	const SxSinkOps *ops = sx_sink_find(sx_option(options, "connector"));

	if (ops == NULL)
		return false;
	plan->strategy = ops->strategy;
	plan->leaves = true;
	plan->reason = ops->describe(options);
	plan->apply_sql = psprintf("SELECT d.*\nFROM %s d", query_view);
	return true;
}

void
sx_sink_register(Oid sink, List *options)
{
	const SxSinkOps *ops = sx_sink_find(sx_option(options, "connector"));
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(sink)};

	if (ops != NULL && ops->open != NULL)
		sx_catalog_exec("INSERT INTO streamext.delivery (sink) VALUES ($1)",
						1, types, values, NULL);
}

/* ---------- in a batch ---------- */

typedef struct SinkReceiver
{
	DestReceiver pub;
	const SxSinkOps *ops;
	SxSinkBatch *batch;
	MemoryContext row_context;
} SinkReceiver;

static void
receiver_startup(DestReceiver *self, int operation, TupleDesc desc)
{
	SinkReceiver *receiver = (SinkReceiver *) self;
	SxSinkBatch *batch = receiver->batch;
	MemoryContext old = MemoryContextSwitchTo(batch->context);

	batch->desc = BlessTupleDesc(CreateTupleDescCopy(desc));
	receiver->ops->begin(batch);
	MemoryContextSwitchTo(old);
}

static bool
receiver_row(TupleTableSlot *slot, DestReceiver *self)
{
	SinkReceiver *receiver = (SinkReceiver *) self;
	MemoryContext old = MemoryContextSwitchTo(receiver->row_context);

	receiver->batch->nrows++;
	slot_getallattrs(slot);
	receiver->ops->row(receiver->batch, slot);
	MemoryContextSwitchTo(old);
	MemoryContextReset(receiver->row_context);
	return true;
}

static void
set_locally(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Values are written as text under the settings of the step; those that a step does
 * not keep are what a worker has, also when a session calls step().
 */
static void
run_query(SxSinkBatch *batch, SinkReceiver *receiver)
{
	int			nestlevel = NewGUCNestLevel();

	set_locally("bytea_output", "hex");
	set_locally("extra_float_digits", "1");
	batch->step->rows = sx_step_select(batch->pl, batch->step, &batch->step->apply,
									   batch->step->plan->apply_sql, &receiver->pub);
	AtEOXact_GUC(false, nestlevel);
}

void
sx_sink_apply(SxPipeline *pl, SxStep *step)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "streamext sink",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	SxSinkBatch batch = {
		.pl = pl,
		.step = step,
		.options = step->plan->options,
		.context = context
	};
	SinkReceiver receiver = {
		.ops = find_by_strategy(step->plan->strategy),
		.batch = &batch
	};

	sx_receiver_init(&receiver.pub, receiver_row, receiver_startup, NULL);
	receiver.row_context = AllocSetContextCreate(context, "streamext sink row",
												 ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	initStringInfo(&batch.buf);
	MemoryContextSwitchTo(old);

	run_query(&batch, &receiver);

	MemoryContextSwitchTo(context);
	receiver.ops->end(&batch);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
