/*-------------------------------------------------------------------------
 *
 * outbox.c
 *		The outbox: what a batch writes for a sink, to be sent when it has committed.
 *
 * The bytes are final: they are sent as they stand here, however often it takes.  They
 * are cut into chunks of CHUNK bytes, so neither the batch nor the sender ever holds the
 * whole delivery in memory.
 *
 * A sink that cannot send makes its outbox grow, so beyond MAX_PENDING deliveries the
 * pipeline waits.  The worker counts its batches since it last looked, and looks again
 * when they could have filled it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "sink/sink.h"
#include "worker/batch.h"
#include "worker/process.h"
#include "worker/worker.h"

#define CHUNK			(1024 * 1024)
#define MAX_PENDING		1000	/* deliveries of a sink */
#define ASK_MS			100

/* Of the worker in whose process this runs. */
static int	room = 0;			/* batches that surely still fit into each sink */
static int64 counted = 0;		/* the last batch that took a place */
static bool full = false;
static TimestampTz asked_at = 0;
static char full_status[256];

/* ---------- writing ---------- */

static void
put_chunk(SxSinkBatch *batch, const char *data, int len)
{
	Oid			types[] = {REGCLASSOID, INT8OID, INT4OID, TIMESTAMPTZOID, BYTEAOID, INT8OID};
	Datum		values[] = {
		ObjectIdGetDatum(batch->step->relid),
		Int64GetDatum(sx_step_delivery(batch->pl, batch->step)),
		Int32GetDatum(batch->seq), TimestampTzGetDatum(batch->pl->time),
		PointerGetDatum(cstring_to_text_with_len(data, len)),
		Int64GetDatum(batch->pl->batch_id + 1)
	};

	sx_catalog_exec("INSERT INTO streamext.outbox (sink, delivery, seq, batch_id, batch_time, payload) "
					"VALUES ($1, $2, $3, $6, $4, $5)",
					lengthof(types), types, values, NULL);
	pfree(DatumGetPointer(values[4]));
	if (batch->seq++ == 0)
		sx_wake_sender_at_commit();
	if (counted != batch->pl->batch_id + 1)
		room--;
	counted = batch->pl->batch_id + 1;
}

void
sx_outbox_put(SxSinkBatch *batch, bool all)
{
	StringInfo	buf = &batch->buf;
	int			done = 0;

	while (buf->len - done >= CHUNK || (all && done < buf->len))
	{
		int			len = Min(buf->len - done, CHUNK);

		put_chunk(batch, buf->data + done, len);
		done += len;
	}
	if (done == 0)
		return;
	memmove(buf->data, buf->data + done, buf->len - done);
	buf->len -= done;
	buf->data[buf->len] = '\0';
}

/* ---------- the bound ---------- */

typedef struct Fullest
{
	int64		pending;
	char	   *sink;
	char	   *error;
} Fullest;

static void
collect_fullest(HeapTuple row, TupleDesc desc, void *arg)
{
	Fullest    *fullest = arg;

	fullest->pending = sx_row_int(row, desc, 1, 0);
	fullest->sink = sx_row_text(row, desc, 2);
	fullest->error = sx_row_text(row, desc, 3);
}

/* Every delivery has a chunk of number 0. */
static void
ask(const SxPipeline *pl)
{
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(pl->id), Int32GetDatum(MAX_PENDING + 1)};
	MemoryContext caller = CurrentMemoryContext;
	Fullest		fullest = {0, NULL, NULL};

	sx_transaction_begin();
	if (sx_extension_usable())
		sx_catalog_rows("SELECT n.pending, d.sink::text, d.error_message "
						"FROM streamext.delivery d JOIN streamext.step s ON s.relation = d.sink "
						"CROSS JOIN LATERAL (SELECT count(*) AS pending FROM "
						"  (SELECT FROM streamext.outbox o WHERE o.sink = d.sink "
						"   AND o.delivery > d.delivered AND o.seq = 0 LIMIT $2) p) n "
						"WHERE s.pipeline = $1 ORDER BY n.pending DESC LIMIT 1",
						2, types, values, NULL, collect_fullest, &fullest);
	room = MAX_PENDING + 1 - (int) fullest.pending;
	full = room <= 0;
	if (full)
		snprintf(full_status, sizeof(full_status), "sink %s is behind: %s", fullest.sink,
				 fullest.error ? fullest.error :
				 psprintf("more than %d batches are waiting to be sent", MAX_PENDING));
	sx_transaction_end();
	MemoryContextSwitchTo(caller);
	asked_at = GetCurrentTimestamp();
}

static bool
has_outbox(const SxPipeline *pl)
{
	for (int i = 0; i < pl->nsteps; i++)
	{
		if (pl->steps[i].plan->leaves)
			return true;
	}
	return false;
}

bool
sx_outbox_is_full(const SxPipeline *pl, const char **status)
{
	if (room > 0 && !full)
		return false;
	if (!has_outbox(pl))
		return false;
	if (!full || TimestampDifferenceExceeds(asked_at, GetCurrentTimestamp(), ASK_MS))
		ask(pl);
	*status = full_status;
	return full;
}
