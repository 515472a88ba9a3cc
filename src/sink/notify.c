/*-------------------------------------------------------------------------
 *
 * notify.c
 *		Connector notify: each row becomes a notification of LISTEN/NOTIFY.
 *
 *		{"batch_id":3,"seq":1,"row":{"k":"a","n":1}}
 *
 * There is no outbox: notifications belong to the transaction of the batch, and the
 * server sends them when that has committed.  The number of the row keeps equal rows
 * apart, which the server would send once only.
 *
 * A notification holds MAX_PAYLOAD bytes.  Whether a row fits must not depend on its
 * number, or a record could pass alone and fail in the batch, so room is kept for the
 * largest numbers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/async.h"
#include "ddl/ddl.h"
#include "format/write.h"
#include "utils/builtins.h"

#include "sink/sink.h"
#include "worker/batch.h"

#define MAX_PAYLOAD		7999
#define ENVELOPE		"{\"batch_id\":9223372036854775807,\"seq\":9223372036854775807,\"row\":}"
#define MAX_ROW			(MAX_PAYLOAD - (int) (sizeof(ENVELOPE) - 1))

static void
notify_check(Query *query, List *options)
{
	const char *channel = sx_option(options, "channel");

	if (strlen(channel) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("channel name \"%s\" is too long", channel),
				 errhint("It may have %d bytes.", NAMEDATALEN - 1)));
}

static char *
notify_describe(List *options)
{
	return psprintf("each row becomes a notification on channel %s, sent by the server at the commit",
					quote_identifier(sx_option(options, "channel")));
}

static void
notify_begin(SxSinkBatch *batch)
{
	batch->private = unconstify(char *, sx_option(batch->options, "channel"));
}

static void
notify_row(SxSinkBatch *batch, TupleTableSlot *slot)
{
	char	   *json = sx_row_to_json_line(batch->desc, slot);

	if (strlen(json) > MAX_ROW)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("row of %zu bytes is too long for a notification", strlen(json)),
				 errhint("A row may have %d bytes as JSON: send a key, and let the listener read the row from a table.",
						 MAX_ROW)));
	Async_Notify(batch->private,
				 psprintf("{\"batch_id\":%lld,\"seq\":%lld,\"row\":%s}",
						  (long long) sx_step_delivery(batch->pl, batch->step), (long long) batch->nrows, json));
}

static void
notify_end(SxSinkBatch *batch)
{
}

const SxSinkOps sx_sink_notify = {
	.connector = "notify",
	.strategy = SX_STRATEGY_SINK_NOTIFY,
	.check = notify_check,
	.describe = notify_describe,
	.begin = notify_begin,
	.row = notify_row,
	.end = notify_end
};
