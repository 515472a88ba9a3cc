/*-------------------------------------------------------------------------
 *
 * delivery_row.c
 *		Rows of streamext.outbox and streamext.delivery, as the sender needs them.
 *
 * The rows of a delivery are committed together, by one batch after the other, so what
 * can be seen of a sink is complete and has no gap: whoever reads behind the last
 * number reads everything in order.  Reading begins there even though rows before it
 * are deleted, so that dead index entries are not walked through.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "sink/delivery_row.h"

static void
collect_sink(HeapTuple row, TupleDesc desc, void *arg)
{
	List	  **list = arg;
	SxOutboxSink *sink = palloc(sizeof(SxOutboxSink));

	sink->sink = sx_row_oid(row, desc, 1);
	sink->owner = sx_row_oid(row, desc, 2);
	sink->label = sx_row_text(row, desc, 3);
	sink->options = sx_row_text(row, desc, 4);
	sink->delivered = sx_row_int(row, desc, 5, 0);
	sink->pending = sx_row_bool(row, desc, 6);
	sink->retry_at = sx_row_time(row, desc, 7);
	sink->error_sqlstate = sx_row_text(row, desc, 8);
	sink->error_message = sx_row_text(row, desc, 9);
	*list = lappend(*list, sink);
}

List *
sx_outbox_sinks(void)
{
	List	   *sinks = NIL;

	sx_catalog_rows("SELECT d.sink::oid, c.relowner, format('%I.%I', n.nspname, c.relname), s.options::text, d.delivered, "
					"EXISTS (SELECT FROM streamext.outbox o WHERE o.sink = d.sink AND o.delivery > d.delivered), "
					"d.retry_at, d.error_sqlstate, d.error_message "
					"FROM streamext.delivery d JOIN streamext.step s ON s.relation = d.sink "
					"JOIN pg_class c ON c.oid = d.sink JOIN pg_namespace n ON n.oid = c.relnamespace "
					"ORDER BY s.seq",
					0, NULL, NULL, NULL, collect_sink, &sinks);
	return sinks;
}

static void
collect_chunk(HeapTuple row, TupleDesc desc, void *arg)
{
	List	  **list = arg;
	SxOutboxChunk *chunk = palloc(sizeof(SxOutboxChunk));
	bool		isnull;
	bytea	   *payload = DatumGetByteaPCopy(SPI_getbinval(row, desc, 4, &isnull));

	chunk->delivery = sx_row_int(row, desc, 1, 0);
	chunk->seq = (int) sx_row_int(row, desc, 2, 0);
	chunk->last = sx_row_bool(row, desc, 3);
	chunk->data = VARDATA(payload);
	chunk->len = VARSIZE(payload) - VARHDRSZ;
	*list = lappend(*list, chunk);
}

List *
sx_outbox_chunks(Oid sink, int64 delivery, int seq, int limit)
{
	Oid			types[] = {REGCLASSOID, INT8OID, INT4OID, INT4OID};
	Datum		values[] = {
		ObjectIdGetDatum(sink), Int64GetDatum(delivery), Int32GetDatum(seq),
		Int32GetDatum(limit)
	};
	List	   *chunks = NIL;

	sx_catalog_rows("SELECT o.delivery, o.seq, "
					"NOT EXISTS (SELECT FROM streamext.outbox n WHERE n.sink = o.sink "
					"            AND n.delivery = o.delivery AND n.seq = o.seq + 1), o.payload "
					"FROM streamext.outbox o "
					"WHERE o.sink = $1 AND (o.delivery, o.seq) > ($2, $3) "
					"ORDER BY o.delivery, o.seq LIMIT $4",
					lengthof(types), types, values, NULL, collect_chunk, &chunks);
	return chunks;
}

/*
 * DROP of a sink holds its row until it commits.  The sender, which has other sinks to
 * serve, does not wait for that.
 */
#define UNLOCKED_ROW \
	"WHERE sink = (SELECT sink FROM streamext.delivery WHERE sink = $1 FOR NO KEY UPDATE SKIP LOCKED)"

bool
sx_delivery_done(Oid sink, int64 delivery)
{
	Oid			types[] = {REGCLASSOID, INT8OID};
	Datum		values[] = {ObjectIdGetDatum(sink), Int64GetDatum(delivery)};

	if (sx_catalog_exec("UPDATE streamext.delivery SET delivered = $2, delivered_at = clock_timestamp(), "
						"failures = 0, retry_at = NULL, error_sqlstate = NULL, error_message = NULL, "
						"error_at = NULL " UNLOCKED_ROW,
						2, types, values, NULL) == 0)
		return false;
	sx_catalog_exec("DELETE FROM streamext.outbox WHERE sink = $1 AND delivery <= $2",
					2, types, values, NULL);
	return true;
}

/* 0.1 seconds, doubled with each failure, up to a minute. */
bool
sx_delivery_failed(Oid sink, int sqlerrcode, const char *message, TimestampTz *retry_at)
{
	Oid			types[] = {REGCLASSOID, TEXTOID, TEXTOID};
	Datum		values[] = {
		ObjectIdGetDatum(sink), CStringGetTextDatum(unpack_sql_state(sqlerrcode)),
		CStringGetTextDatum(message)
	};
	bool		isnull;
	Datum		value;

	value = sx_catalog_value("UPDATE streamext.delivery SET failures = failures + 1, "
								"retry_at = clock_timestamp() + interval '1 second' * "
								"  least(60, 0.1 * 2 ^ least(failures, 10)), "
								"error_sqlstate = $2, error_message = $3, error_at = clock_timestamp() "
								UNLOCKED_ROW " RETURNING retry_at",
								3, types, values, NULL, &isnull);
	if (!isnull)
		*retry_at = DatumGetTimestampTz(value);
	return !isnull;
}
