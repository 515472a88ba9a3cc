/*-------------------------------------------------------------------------
 *
 * socket_log.c
 *		The log behind a stream of connector 'socket': what was received and is
 *		not processed yet.
 *
 * What the receiver (worker/receiver.c) has received goes into a table
 * streamext_state.<stream>_log until every pipeline that reads the stream has
 * processed it:
 *
 *		seq				number of the record, in order of arrival
 *		received_at		when
 *		value			its bytes
 *
 * Numbers are contiguous and are committed in their order: whoever appends holds a
 * lock until the end of its transaction and reads the last number under it.  So "seq >
 * n" is all that a reader has to remember; a gap is a loss, and is noticed.  The last
 * record stays in the log for the sake of its number.
 *
 * Rows are written and deleted directly, without SQL: by the receiver, which runs as
 * the stream's owner, while nobody is granted INSERT or DELETE.  Triggers on the log do
 * not fire.
 *
 * Trimming is the receiver's, too.  A position that it can see was committed before,
 * so by the order of the WAL no crash can bring back the position and keep the delete.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/sx_catalog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "plan/plan.h"
#include "source/log_table.h"
#include "source/log_writer.h"
#include "source/socket_log.h"
#include "source/source.h"
#include "storage/lock.h"
#include "streamext.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define LOG_SEQ				1
#define LOG_RECEIVED_AT		2
#define LOG_VALUE			3
#define LOG_NATTS			3

#define WRITER_LOCK			1		/* objsubid of the lock of who appends */

void
sx_socket_log_create(SxStream *stream)
{
	if (!sx_stream_option_bool(stream, "durable", true))
		return;
	sx_log_table_create(stream,
						"seq bigint PRIMARY KEY, "
						"received_at timestamptz NOT NULL, value bytea NOT NULL",
						"ALTER TABLE %s ALTER COLUMN value SET STORAGE EXTERNAL",
						psprintf("records received by the stream %s that are not processed yet",
								 stream->label));
}

/* Every use of the log comes past here. */
static Oid
seq_index(Relation log)
{
	const Oid	types[LOG_NATTS] = {INT8OID, TIMESTAMPTZOID, BYTEAOID};

	sx_log_table_check(RelationGetRelid(log), RelationGetDescr(log), types, LOG_NATTS);
	list_free(RelationGetIndexList(log));
	if (!OidIsValid(log->rd_pkindex))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s\" has lost its primary key", RelationGetRelationName(log)),
				 errhint("Make seq its primary key again.")));
	return log->rd_pkindex;
}

/* ---------------------------------------------------------------- one scan */

typedef struct LogScan
{
	Relation	log;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
} LogScan;

/* Rows with numbers above seq. */
static void
scan_begin(LogScan *ls, Relation log, Snapshot snapshot, int64 seq)
{
	ScanKeyData key;

	ls->log = log;
	ls->index = index_open(seq_index(log), AccessShareLock);
	ls->scan = sx_index_beginscan(log, ls->index, snapshot, 1);
	ls->slot = table_slot_create(log, NULL);
	ScanKeyInit(&key, LOG_SEQ, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(seq));
	index_rescan(ls->scan, &key, 1, NULL, 0);
}

static bool
scan_next(LogScan *ls, ScanDirection direction, int64 *seq)
{
	bool		isnull;

	CHECK_FOR_INTERRUPTS();
	if (!index_getnext_slot(ls->scan, direction, ls->slot))
		return false;
	*seq = DatumGetInt64(slot_getattr(ls->slot, LOG_SEQ, &isnull));
	return true;
}

static void
scan_end(LogScan *ls)
{
	ExecDropSingleTupleTableSlot(ls->slot);
	index_endscan(ls->scan);
	index_close(ls->index, AccessShareLock);
}

static int64
last_seq(Relation log, Snapshot snapshot, int64 floor)
{
	int64		seq = floor;
	LogScan		ls;

	scan_begin(&ls, log, snapshot, floor);
	(void) scan_next(&ls, BackwardScanDirection, &seq);
	scan_end(&ls);
	return seq;
}

int64
sx_socket_log_end(Oid log, Snapshot snapshot, int64 floor)
{
	Relation	rel = table_open(log, AccessShareLock);
	int64		seq = last_seq(rel, snapshot, floor);

	table_close(rel, AccessShareLock);
	return seq;
}

int64
sx_socket_log_start(Oid log, Snapshot snapshot, int64 dflt)
{
	Relation	rel = table_open(log, AccessShareLock);
	int64		seq = dflt;
	LogScan		ls;

	scan_begin(&ls, rel, snapshot, 0);
	(void) scan_next(&ls, ForwardScanDirection, &seq);
	scan_end(&ls);
	table_close(rel, AccessShareLock);
	return seq;
}

/* ------------------------------------------------------------------ reading */

/* Also sets the time of the record. */
static void
add_row(SxRecordBuffer *records, TupleTableSlot *slot, int64 seq)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, LOG_VALUE, &isnull);
	Datum		received_at = slot_getattr(slot, LOG_RECEIVED_AT, &isnull);
	bytea	   *bytes = DatumGetByteaPP(value);
	SxRecord   *rec = sx_record_buffer_add(records, 0, seq, VARDATA_ANY(bytes),
										   VARSIZE_ANY_EXHDR(bytes));

	rec->has_timestamp = true;
	rec->timestamp = sx_unix_ms(DatumGetTimestampTz(received_at));
	if ((Pointer) bytes != DatumGetPointer(value))
		pfree(bytes);
}

int64
sx_socket_log_read(Oid log, Snapshot snapshot, int64 seq, int64 upto, int64 max_rows,
				   int64 max_bytes, SxRecordBuffer *records)
{
	Relation	rel = table_open(log, AccessShareLock);
	int64		last = seq;
	int64		next;
	LogScan		ls;

	scan_begin(&ls, rel, snapshot, seq);
	while ((max_rows <= 0 || records->nrecords < max_rows) &&
		   (max_bytes <= 0 || records->nbytes < max_bytes) &&
		   scan_next(&ls, ForwardScanDirection, &next))
	{
		/* also where the log has a gap that ends behind it */
		if (next > upto)
		{
			last = upto;
			break;
		}
		last = next;
		add_row(records, ls.slot, last);
	}
	scan_end(&ls);
	table_close(rel, AccessShareLock);
	return last;
}

/* ---------------------------------------------------------------- appending */

/* To the end of the transaction. */
static void
lock_for_writing(Oid log)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, RelationRelationId, log, WRITER_LOCK);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/* Records on their way into the log. */
typedef struct LogRows
{
	SxRecord  **records;
	int64		first;			/* number of the first */
	TimestampTz now;
} LogRows;

static void
fill_row(TupleTableSlot *slot, int i, void *arg)
{
	const LogRows *rows = arg;
	const SxRecord *rec = rows->records[i];

	memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts);
	memset(slot->tts_isnull, false, LOG_NATTS);
	slot->tts_values[LOG_SEQ - 1] = Int64GetDatum(rows->first + i);
	slot->tts_values[LOG_RECEIVED_AT - 1] = TimestampTzGetDatum(rows->now);
	slot->tts_values[LOG_VALUE - 1] =
		PointerGetDatum(cstring_to_text_with_len(sx_record_value(rec), rec->value_len));
	ExecStoreVirtualTuple(slot);
}

int64
sx_socket_log_append(Oid log, const SxRecordBuffer *records, int64 floor)
{
	Relation	rel = table_open(log, RowExclusiveLock);
	LogRows		rows = {.records = records->records,.now = GetCurrentTimestamp()};
	Snapshot	latest;
	int64		last;
	SxLogWriter writer;

	/* What was committed before we got the lock must be seen. */
	lock_for_writing(log);
	latest = RegisterSnapshot(GetLatestSnapshot());
	last = last_seq(rel, latest, floor);
	UnregisterSnapshot(latest);

	rows.first = last + 1;
	sx_log_writer_open(&writer, rel, records->nrecords);
	sx_log_writer_write(&writer, records->nrecords, fill_row, &rows);
	sx_log_writer_close(&writer);
	table_close(rel, NoLock);
	return last + records->nrecords;
}

/* ----------------------------------------------------------------- trimming */


typedef struct ReaderRow
{
	int			pipeline;
	char	   *name;
	int64		position;
	Oid			step;			/* InvalidOid: the pipeline has none */
} ReaderRow;

static void
collect_reader(HeapTuple row, TupleDesc desc, void *arg)
{
	List	  **list = arg;
	ReaderRow  *reader = palloc(sizeof(ReaderRow));

	reader->pipeline = (int) sx_row_int(row, desc, 1, 0);
	reader->name = sx_row_text(row, desc, 2);
	reader->position = sx_row_int(row, desc, 3, 0);
	reader->step = sx_row_oid(row, desc, 4);
	*list = lappend(*list, reader);
}

/*
 * A pipeline whose steps read other streams only does not hold anything back, or the
 * log would fill up for nobody.
 */
void
sx_socket_log_readers(const SxStream *stream, SxLogReaders *readers)
{
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(stream->relid)};
	List	   *rows = NIL;
	ListCell   *lc;
	int			counted = 0;

	memset(readers, 0, sizeof(SxLogReaders));
	sx_catalog_rows("SELECT s.pipeline, p.name, (a.position ->> 'seq')::bigint, t.relation::oid "
					"FROM streamext.source s JOIN streamext.pipeline p ON p.id = s.pipeline "
					"LEFT JOIN streamext.partition a ON a.pipeline = s.pipeline AND a.stream = s.stream "
					"LEFT JOIN streamext.step t ON t.pipeline = s.pipeline AND t.kind <> 'stream' "
					"WHERE s.stream = $1 ORDER BY s.pipeline",
					1, types, values, NULL, collect_reader, &rows);
	foreach(lc, rows)
	{
		ReaderRow  *row = lfirst(lc);

		readers->highest = Max(readers->highest, row->position);
		if (row->pipeline == counted || !OidIsValid(row->step) ||
			!list_member_oid(sx_relation_streams(row->step), stream->relid))
			continue;
		counted = row->pipeline;
		readers->pipelines = lappend_int(readers->pipelines, counted);
		if (readers->n++ == 0 || row->position < readers->done)
		{
			readers->done = row->position;
			readers->slowest = row->name;
		}
	}
}

/* Nobody else deletes; what somebody has locked stays for the next time. */
int64
sx_socket_log_trim(Oid log, int64 from, int64 bound, int max)
{
	Relation	rel = table_open(log, RowExclusiveLock);
	int64		left = bound;
	int64		seq;
	LogScan		ls;

	scan_begin(&ls, rel, GetActiveSnapshot(), from - 1);
	while (scan_next(&ls, ForwardScanDirection, &seq) && seq < bound)
	{
		TM_FailureData failure;

		if (max-- <= 0 ||
			table_tuple_delete(rel, &ls.slot->tts_tid, GetCurrentCommandId(true),
							   GetActiveSnapshot(), InvalidSnapshot, false, &failure,
							   false) != TM_Ok)
		{
			left = seq;
			break;
		}
	}
	scan_end(&ls);
	table_close(rel, NoLock);
	return left;
}
