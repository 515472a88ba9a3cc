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
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "commands/sequence.h"
#include "compat.h"
#include "executor/executor.h"
#include "nodes/primnodes.h"
#include "rewrite/rewriteHandler.h"
#include "source/queue.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"
#include "worker/worker.h"

#define INSERT_CHUNK	1000	/* rows written at a time */

struct SxQueueInsert
{
	Oid			stream;
	Oid			log_oid;
	AttrNumber *columns;		/* sx_queue_columns() */
	int			natts;			/* of the stream */
	Oid			sequence;
	bool		woken;			/* the readers will be, at commit */

	/* while open */
	Relation	log;
	EState	   *estate;
	ResultRelInfo *rinfo;
	TupleTableSlot **slots;		/* of the log; nslots of them made so far */
	int			nslots;
	int			chunk;			/* room in slots */
};

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
	insert->log_oid = sx_queue_log(stream);
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
	insert->log = table_open(insert->log_oid, RowExclusiveLock);
	insert->estate = CreateExecutorState();
	insert->rinfo = makeNode(ResultRelInfo);
	InitResultRelInfo(insert->rinfo, insert->log, 0, NULL, 0);
	ExecOpenIndices(insert->rinfo, false);
	insert->chunk = Min(max_rows, INSERT_CHUNK);
	insert->slots = palloc0(sizeof(TupleTableSlot *) * insert->chunk);
	insert->nslots = 0;
}

/* The row of the log for a row of the stream. */
static void
fill_slot(const SxQueueInsert *insert, TupleTableSlot *slot, TupleTableSlot *row,
		  FullTransactionId xid, TimestampTz now)
{
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts);
	slot_getallattrs(row);
	for (int i = 0; i < insert->natts; i++)
	{
		AttrNumber	attno = insert->columns[i];

		if (attno == 0)
			continue;
		slot->tts_values[attno - 1] = row->tts_values[i];
		slot->tts_isnull[attno - 1] = row->tts_isnull[i];
	}
	slot->tts_values[SX_QUEUE_SEQ - 1] =
		Int64GetDatum(nextval_internal(insert->sequence, false));
	slot->tts_values[SX_QUEUE_XID - 1] = FullTransactionIdGetDatum(xid);
	slot->tts_values[SX_QUEUE_WRITTEN_AT - 1] = TimestampTzGetDatum(now);
	memset(slot->tts_isnull, false, sizeof(bool) * SX_QUEUE_WRITTEN_AT);
	ExecStoreVirtualTuple(slot);
}

static void
insert_chunk(SxQueueInsert *insert, TupleTableSlot **rows, int n)
{
	FullTransactionId xid = GetTopFullTransactionId();
	TimestampTz now = GetCurrentTimestamp();
	MemoryContext old;

	old = MemoryContextSwitchTo(insert->estate->es_query_cxt);
	while (insert->nslots < n)
		insert->slots[insert->nslots++] = table_slot_create(insert->log, NULL);

	/* table_multi_insert() leaks into the current context. */
	MemoryContextSwitchTo(GetPerTupleMemoryContext(insert->estate));
	for (int i = 0; i < n; i++)
		fill_slot(insert, insert->slots[i], rows[i], xid, now);
	table_multi_insert(insert->log, insert->slots, n, GetCurrentCommandId(true), 0, NULL);
	MemoryContextSwitchTo(old);

	for (int i = 0; i < n; i++)
	{
		list_free(sx_insert_index_tuples(insert->rinfo, insert->slots[i], insert->estate));
		ExecClearTuple(insert->slots[i]);
	}
	ResetPerTupleExprContext(insert->estate);
}

void
sx_queue_insert(SxQueueInsert *insert, TupleTableSlot **slots, int n)
{
	if (!insert->woken)
		wake_readers(insert->stream);
	insert->woken = true;
	for (int done = 0; done < n; done += insert->chunk)
		insert_chunk(insert, slots + done, Min(n - done, insert->chunk));
}

void
sx_queue_insert_close(SxQueueInsert *insert)
{
	for (int i = 0; i < insert->nslots; i++)
		ExecDropSingleTupleTableSlot(insert->slots[i]);
	ExecCloseIndices(insert->rinfo);
	table_close(insert->log, NoLock);
	pfree(insert->slots);
	pfree(insert->rinfo);
	FreeExecutorState(insert->estate);
}
