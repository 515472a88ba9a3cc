/*-------------------------------------------------------------------------
 *
 * queue_insert.c
 *		Writing rows into the log of a stream.
 *
 * They come from INSERT and COPY into a queue (fdw/insert.c), where the role has its
 * privilege on the stream, and from the trigger on the table that a stream follows
 * (table_feed.c), where it has its privilege on that table.  None on the log is needed:
 * rows are written directly, and triggers on the log do not fire.
 *
 * What is looked up in the catalogs (prepare) serves a whole statement; what is open
 * (open … close) may have to be closed after each row, as a trigger does not learn of
 * the end of its statement.
 *
 * The readers are woken when the inserting transaction commits (worker.h).  Who reads
 * the stream is looked up once per transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "commands/sequence.h"
#include "nodes/primnodes.h"
#include "rewrite/rewriteHandler.h"
#include "source/log_table.h"
#include "source/log_writer.h"
#include "source/queue.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"
#include "worker/worker.h"

struct SxQueueInsert
{
	Oid			stream;
	Oid			log_oid;
	AttrNumber *columns;		/* sx_queue_columns() */
	int			natts;			/* of the stream */
	Oid			sequence;
	bool		woken;			/* the readers will be, at commit */

	SxLogWriter writer;			/* while open */
};

/* Rows on their way into the log. */
typedef struct InsertRows
{
	const SxQueueInsert *insert;
	TupleTableSlot **rows;		/* of the stream */
	FullTransactionId xid;
	TimestampTz now;
} InsertRows;

static void
wake_reader(HeapTuple row, TupleDesc desc, void *arg)
{
	sx_wake_pipeline_at_commit((int) sx_row_int(row, desc, 1, 0));
}

static void
wake_readers(Oid stream)
{
	static Oid	last_stream = InvalidOid;
	static FullTransactionId last_xid;
	FullTransactionId xid = GetTopFullTransactionId();
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(stream)};

	if (last_stream == stream && FullTransactionIdEquals(last_xid, xid))
		return;
	sx_catalog_rows("SELECT pipeline FROM streamext.source WHERE stream = $1",
					1, types, values, NULL, wake_reader, NULL);
	last_stream = stream;
	last_xid = xid;
}

SxQueueInsert *
sx_queue_insert_prepare(const SxStream *stream)
{
	SxQueueInsert *insert = palloc0(sizeof(SxQueueInsert));
	Relation	log;
	Node	   *numbers;

	insert->stream = stream->relid;
	insert->log_oid = sx_log_table_of(stream);
	log = table_open(insert->log_oid, RowExclusiveLock);
	insert->columns = sx_queue_columns(stream, RelationGetDescr(log));
	insert->natts = stream->natts;
	numbers = build_column_default(log, SX_QUEUE_SEQ);
	if (numbers == NULL || !IsA(numbers, NextValueExpr))
		elog(ERROR, "column _sx_seq of \"%s\" has no sequence",
			 RelationGetRelationName(log));
	insert->sequence = ((NextValueExpr *) numbers)->seqid;
	table_close(log, NoLock);
	return insert;
}

void
sx_queue_insert_open(SxQueueInsert *insert, int max_rows)
{
	sx_log_writer_open(&insert->writer, table_open(insert->log_oid, RowExclusiveLock), max_rows);
}

/* The row of the log for row i of the stream. */
static void
fill_row(TupleTableSlot *slot, int i, void *arg)
{
	const InsertRows *rows = arg;
	const SxQueueInsert *insert = rows->insert;
	TupleTableSlot *row = rows->rows[i];

	memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts);
	slot_getallattrs(row);
	for (int c = 0; c < insert->natts; c++)
	{
		AttrNumber	attno = insert->columns[c];

		if (attno == 0)
			continue;
		slot->tts_values[attno - 1] = row->tts_values[c];
		slot->tts_isnull[attno - 1] = row->tts_isnull[c];
	}
	slot->tts_values[SX_QUEUE_SEQ - 1] =
		Int64GetDatum(nextval_internal(insert->sequence, false));
	slot->tts_values[SX_QUEUE_XID - 1] = FullTransactionIdGetDatum(rows->xid);
	slot->tts_values[SX_QUEUE_WRITTEN_AT - 1] = TimestampTzGetDatum(rows->now);
	memset(slot->tts_isnull, false, sizeof(bool) * SX_QUEUE_WRITTEN_AT);
	ExecStoreVirtualTuple(slot);
}

void
sx_queue_insert(SxQueueInsert *insert, TupleTableSlot **slots, int n)
{
	InsertRows	rows = {insert, slots, GetTopFullTransactionId(), GetCurrentTimestamp()};

	if (!insert->woken)
		wake_readers(insert->stream);
	insert->woken = true;
	sx_log_writer_write(&insert->writer, n, fill_row, &rows);
}

void
sx_queue_insert_close(SxQueueInsert *insert)
{
	sx_log_writer_close(&insert->writer);
	table_close(insert->writer.log, NoLock);
}
