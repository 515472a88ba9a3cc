/*-------------------------------------------------------------------------
 *
 * print.c
 *		Connector print: the first rows of each batch, in the server's log.
 *
 *		LOG:  sink public.shown, batch 3, 2024-02-01 00:00:00+00: 12 rows
 *			{"k":"a","n":1}
 *			…
 *			... 2 more
 *
 * One log entry a batch, also of a batch without rows.  It goes through the outbox, so
 * only what has been committed is printed, in order, and again if the sender is
 * killed in between.  Long rows are cut: a log is for looking.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ddl/ddl.h"
#include "format/write.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "sink/sink.h"
#include "worker/batch.h"

#define DEFAULT_ROWS	10
#define MAX_ROW_LEN		4000	/* bytes */

typedef struct PrintBatch
{
	int			limit;			/* rows that are shown */
	char	   *time;			/* of the batch, in the time zone of the sink */
	StringInfoData lines;
} PrintBatch;

static int
limit_of(List *options)
{
	const char *rows = sx_option(options, "rows");

	return rows == NULL ? DEFAULT_ROWS : pg_strtoint32(rows);
}

static char *
print_describe(List *options)
{
	return psprintf("the first %d rows of each batch go into the server's log, after the commit",
					limit_of(options));
}

/* ---------- in the batch ---------- */

static void
print_begin(SxSinkBatch *batch)
{
	PrintBatch *print = palloc0(sizeof(PrintBatch));

	print->limit = limit_of(batch->options);
	print->time = pstrdup(timestamptz_to_str(batch->pl->time));
	initStringInfo(&print->lines);
	batch->private = print;
}

static void
print_row(SxSinkBatch *batch, TupleTableSlot *slot)
{
	PrintBatch *print = batch->private;
	char	   *json;
	int			len;

	if (batch->nrows > print->limit)
		return;
	json = sx_row_to_json_line(batch->desc, slot);
	len = strlen(json);
	appendStringInfoChar(&print->lines, '\n');
	if (len > MAX_ROW_LEN)
		len = pg_mbcliplen(json, len, MAX_ROW_LEN);
	appendBinaryStringInfo(&print->lines, json, len);
	if (json[len] != '\0')
		appendStringInfoString(&print->lines, "...");
}

static void
print_end(SxSinkBatch *batch)
{
	PrintBatch *print = batch->private;

	appendStringInfo(&batch->buf, "sink %s, batch %lld, %s: %lld row%s%s",
					 batch->step->plan->name, (long long) sx_step_delivery(batch->pl, batch->step),
					 print->time, (long long) batch->nrows, batch->nrows == 1 ? "" : "s",
					 print->lines.data);
	if (batch->nrows > print->limit)
		appendStringInfo(&batch->buf, "\n... %lld more",
						 (long long) batch->nrows - print->limit);
	sx_outbox_put(batch, true);
}

/* ---------- sending ---------- */

static void
print_allow(SxDelivery *delivery)
{
}

static void
print_open(SxDelivery *delivery)
{
	MemoryContext old = MemoryContextSwitchTo(delivery->context);

	delivery->private = makeStringInfo();
	MemoryContextSwitchTo(old);
}

static void
print_write(SxDelivery *delivery, const char *data, size_t len)
{
	appendBinaryStringInfo(delivery->private, data, len);
}

static void
print_abandon(SxDelivery *delivery)
{
	StringInfo	text = delivery->private;

	pfree(text->data);
	pfree(text);
	delivery->private = NULL;
}

static void
print_close(SxDelivery *delivery)
{
	ereport(LOG,
			(errmsg_internal("%s", ((StringInfo) delivery->private)->data)));
	print_abandon(delivery);
}

const SxSinkOps sx_sink_print = {
	.connector = "print",
	.strategy = SX_STRATEGY_SINK_PRINT,
	.describe = print_describe,
	.begin = print_begin,
	.row = print_row,
	.end = print_end,
	.allow = print_allow,
	.open = print_open,
	.write = print_write,
	.close = print_close,
	.abandon = print_abandon
};
