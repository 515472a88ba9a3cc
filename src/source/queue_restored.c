/*-------------------------------------------------------------------------
 *
 * queue_restored.c
 *		Positions in a log that comes from another cluster.
 *
 * A position is a snapshot, and rows of the log carry the transaction that wrote them.
 * Transactions of another cluster mean nothing in this one: its new ones may have the
 * same numbers, and would be taken for processed.
 *
 * So rows and positions are written anew.  Which pipelines have processed a row is all
 * that matters, so the rows fall into a few classes, one for each set of pipelines that
 * still want them.  A class gets the number of a transaction that is over in this
 * cluster, and the position of a pipeline is a snapshot in which the classes that it
 * wants are in progress:
 *
 *		old xids	5001 5002 5003 5004		two pipelines, a has seen up to 5002, b up to 5003
 *		classes		  A    A    B    C		A: nobody wants it, B: a does, C: both do
 *		new xids	 739  739  738  737		with transactions from 740 on in progress
 *		positions	a: 737:740:737,738		b: 737:740:737
 *
 * The log is locked against writers meanwhile, and whoever comes later has a number
 * from 740 on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "compat.h"
#include "miscadmin.h"
#include "source/log_table.h"
#include "source/log_writer.h"
#include "source/queue.h"
#include "source/queue_position.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

#define CHUNK			1000
#define MAX_READERS		64

/* A pipeline that reads the stream. */
typedef struct Reader
{
	int			pipeline;
	SxQueuePosition at;
} Reader;

typedef struct Restored
{
	int			nreaders;
	Reader	   *readers;
	int			nclasses;
	uint64	   *classes;		/* bit i: reader i wants it */
	uint64		horizon;		/* transactions from here on may be in progress */
} Restored;

static void
add_reader(HeapTuple row, TupleDesc desc, void *arg)
{
	Restored   *restored = arg;
	Reader	   *reader;

	if (restored->nreaders == MAX_READERS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a restored stream cannot be read by more than %d pipelines", MAX_READERS)));
	reader = &restored->readers[restored->nreaders++];
	reader->pipeline = (int) sx_row_int(row, desc, 1, 0);
	sx_queue_position_parse(sx_row_text(row, desc, 2), &reader->at);
}

static uint64
class_number(Restored *restored, uint64 xid, int64 seq)
{
	uint64		class = 0;

	for (int i = 0; i < restored->nreaders; i++)
	{
		if (sx_queue_position_pending(&restored->readers[i].at, xid, seq))
			class |= UINT64CONST(1) << i;
	}
	for (int i = 0; i < restored->nclasses; i++)
	{
		if (restored->classes[i] == class)
			return restored->horizon - 1 - i;
	}
	restored->classes = restored->nclasses == 0 ? palloc(sizeof(uint64)) :
		repalloc(restored->classes, sizeof(uint64) * (restored->nclasses + 1));
	restored->classes[restored->nclasses++] = class;
	return restored->horizon - restored->nclasses;
}

/* ---------- the rows ---------- */

typedef struct Rows
{
	HeapTuple	tuples[CHUNK];
	int			n;
} Rows;

static void
fill_row(TupleTableSlot *slot, int i, void *arg)
{
	Rows	   *rows = arg;

	heap_deform_tuple(rows->tuples[i], slot->tts_tupleDescriptor, slot->tts_values,
					  slot->tts_isnull);
	ExecStoreVirtualTuple(slot);
}

static void
flush(SxLogWriter *writer, Rows *rows)
{
	sx_log_writer_write(writer, rows->n, fill_row, rows);
	for (int i = 0; i < rows->n; i++)
		heap_freetuple(rows->tuples[i]);
	rows->n = 0;
	CHECK_FOR_INTERRUPTS();
}

static HeapTuple
with_xid(HeapTuple tuple, TupleDesc desc, uint64 xid)
{
	int			column = SX_QUEUE_XID;
	Datum		value = FullTransactionIdGetDatum(FullTransactionIdFromU64(xid));
	bool		isnull = false;

	if (HeapTupleHasExternal(tuple))
		tuple = toast_flatten_tuple(tuple, desc);
	return heap_modify_tuple_by_cols(tuple, desc, 1, &column, &value, &isnull);
}

/*
 * Deleted and written again, directly: triggers that the owner has put on the log are
 * not for us to run.  The scan does not see what this command writes.
 */
static void
rewrite_rows(Restored *restored, Relation log)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(log, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(log, NULL);
	TupleDesc	desc = RelationGetDescr(log);
	Rows	   *rows = palloc(sizeof(Rows));
	SxLogWriter writer;

	rows->n = 0;
	sx_log_writer_open(&writer, log, CHUNK);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		FullTransactionId xid = DatumGetFullTransactionId(slot_getattr(slot, SX_QUEUE_XID, &isnull));
		int64		seq = DatumGetInt64(slot_getattr(slot, SX_QUEUE_SEQ, &isnull));
		HeapTuple	tuple = ExecCopySlotHeapTuple(slot);

		rows->tuples[rows->n++] =
			with_xid(tuple, desc, class_number(restored, U64FromFullTransactionId(xid), seq));
		heap_freetuple(tuple);
		simple_table_tuple_delete(log, &slot->tts_tid, snapshot);
		if (rows->n == CHUNK)
			flush(&writer, rows);
	}
	flush(&writer, rows);
	sx_log_writer_close(&writer);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	CommandCounterIncrement();
}

/* ---------- the positions ---------- */

static void
write_position(const Restored *restored, int i, Oid stream)
{
	SxQueuePosition at = {sx_xid_snapshot_empty(), NULL, 0};
	Datum		values[3];

	at.done->xmin = at.done->xmax = restored->horizon;
	at.done->xip = palloc(sizeof(uint64) * Max(restored->nclasses, 1));
	for (int c = restored->nclasses - 1; c >= 0; c--)
	{
		if (restored->classes[c] & (UINT64CONST(1) << i))
			at.done->xip[at.done->nxip++] = restored->horizon - 1 - c;
	}
	if (at.done->nxip > 0)
		at.done->xmin = at.done->xip[0];
	values[0] = Int32GetDatum(restored->readers[i].pipeline);
	values[1] = ObjectIdGetDatum(stream);
	values[2] = CStringGetTextDatum(sx_queue_position_text(&at));
	sx_catalog_exec("UPDATE streamext.partition SET position = $3::jsonb "
					"WHERE pipeline = $1 AND stream = $2 AND position IS NOT NULL",
					SX_ARGS(INT4OID, REGCLASSOID, TEXTOID), values, NULL);
}

void
sx_queue_restored(SxStream *stream)
{
	Datum		values[] = {ObjectIdGetDatum(stream->relid)};
	Restored	restored = {0};
	Relation	log = table_open(sx_log_table_of(stream), ShareRowExclusiveLock);
	SxXidSnapshot *now = sx_xid_snapshot_from(GetLatestSnapshot());

	(void) GetTopTransactionId();
	restored.readers = palloc(sizeof(Reader) * MAX_READERS);
	restored.horizon = now->xmin;
	sx_catalog_rows("SELECT s.pipeline, p.position::text FROM streamext.source s "
					"LEFT JOIN streamext.partition p USING (pipeline, stream) "
					"WHERE s.stream = $1 ORDER BY s.pipeline",
					SX_ARGS(REGCLASSOID), values, NULL, add_reader, &restored);
	rewrite_rows(&restored, log);
	for (int i = 0; i < restored.nreaders; i++)
		write_position(&restored, i, stream->relid);
	table_close(log, NoLock);
}
