/*-------------------------------------------------------------------------
 *
 * source_queue.c
 *		The connectors 'queue' and 'table': rows that sessions insert into the
 *		stream, or into the table that it follows.
 *
 * Rows wait in the log (queue_log.c).  They commit in another order than they were
 * numbered in, so the number alone cannot say what was processed: a row of a long
 * transaction would appear behind it and be skipped.  The position therefore holds
 * snapshots:
 *
 *		{"done": "<pg_snapshot>", "target": null, "seq": 0}
 *				every row that this snapshot sees is processed, and no other
 *		{"done": …, "target": "<pg_snapshot>", "seq": n}
 *				so is every row that target sees, up to number n
 *
 * A batch begins with target := the batch's snapshot.  It takes the rows that target
 * sees and done does not, by number.  If that is all of them, done := target;
 * otherwise target stays for the next batches, until it is exhausted.  The snapshot
 * that a row's inserting transaction belongs to decides, not the row's number, so:
 *
 *	- each row is taken by exactly one target, whatever the order of commits;
 *	- a transaction in progress is in done's xip; its rows, and no others, are taken by
 *	  the first target that sees it;
 *	- rows of aborted transactions and subtransactions are invisible in the table.
 *
 * "Sees" always means two things: the heap says so under the snapshot at hand, and the
 * stored snapshot sees the row's top-level xid.  The first leaves out what was rolled
 * back, the second what is too new, and what our own transaction wrote.
 *
 *		xid 7 inserts row 1           done 7:7:
 *		xid 8 inserts row 2, commits
 *		batch: target 7:9:7           takes row 2; done := 7:9:7
 *		xid 7 commits
 *		batch: target 9:9:            takes row 1, since done does not see 7
 *
 * Finding them: queue_search.c gives the lowest number, and from there the index on
 * _sx_seq is followed, skipping rows that are processed.
 *
 * An idle queue costs next to nothing: poll() compares the server's count of finished
 * transactions with that of its last fruitless look, and looks only when it differs.
 * What such a look saw becomes the base of the next one, as there was no row in it;
 * this is not stored, for it makes no difference.
 *
 * Trimming.  Now and then a batch deletes the rows whose transactions ended before all
 * of the done snapshots of all pipelines that read the stream.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/sx_catalog.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "source/log_table.h"
#include "source/queue.h"
#include "source/source_queue.h"
#include "source/table.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#define POLL_INTERVAL_MS	2500	/* for what nobody wakes us: COMMIT PREPARED */
#define TRIM_ROWS			1000
#define TRIM_BATCHES		100

/* Where this pipeline is, as it is stored or could be. */
void
sx_queue_set_position(QueueSource *qs, const char *text)
{
	MemoryContext old;

	MemoryContextReset(qs->position_context);
	old = MemoryContextSwitchTo(qs->position_context);
	sx_queue_position_parse(text, &qs->at);
	MemoryContextSwitchTo(old);
}

/* After a restore into another cluster, new rows would look processed. */
static void
check_position(const QueueSource *qs)
{
	uint64		next = U64FromFullTransactionId(ReadNextFullTransactionId());

	if (qs->at.done->xmax > next || (qs->at.target && qs->at.target->xmax > next))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the position of stream %s is from another database cluster",
						qs->base.stream->label),
				 errdetail("It names transactions that this cluster has not reached yet."),
				 errhint("SELECT streamext.reset(…) starts the pipeline from the rows that its log holds.")));
}

/* --------------------------------------------------------------------- open */

static void queue_get_row(SxSource *source, int i, Datum *values, bool *isnull);

/* At each use: REINDEX CONCURRENTLY puts others in their place. */
static void
find_indexes(QueueSource *qs, Relation log)
{
	sx_queue_indexes(log, &qs->seq_index, &qs->xid_index);
}

static SxSource *
queue_open(SxStream *stream, int pipeline, SxPart *parts, int nparts)
{
	QueueSource *qs = (QueueSource *)
		sx_source_create(sizeof(QueueSource), stream->source, stream, pipeline,
						 parts, nparts);
	MemoryContext old = CurrentMemoryContext;
	Relation	log;

	qs->log = sx_log_table_of(stream);
	log = table_open(qs->log, AccessShareLock);
	qs->desc = CreateTupleDescCopyConstr(RelationGetDescr(log));
	qs->columns = sx_queue_columns(stream, qs->desc);
	qs->row_values = palloc(sizeof(Datum) * qs->desc->natts);
	qs->row_isnull = palloc(sizeof(bool) * qs->desc->natts);
	find_indexes(qs, log);
	table_close(log, AccessShareLock);

	qs->untrimmed_batches = TRIM_BATCHES;	/* who was here before may not have */
	qs->batch = AllocSetContextCreate(old, "streamext queue batch",
									  ALLOCSET_DEFAULT_SIZES);
	qs->position_context = AllocSetContextCreate(old, "streamext queue position",
												 ALLOCSET_SMALL_SIZES);
	qs->limit_context = AllocSetContextCreate(old, "streamext queue limit",
											  ALLOCSET_SMALL_SIZES);
	sx_queue_set_position(qs, qs->base.parts[0].position);
	check_position(qs);
	qs->remaining = -1;
	qs->base.get_row = queue_get_row;
	qs->base.check_rows = stream->source == &sx_source_table;
	return &qs->base;
}

/* --------------------------------------------------------------------- poll */

/* Is there a row?  If not, what was seen becomes the base of the next look. */
static bool
look(QueueSource *qs)
{
	Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	SxXidSnapshot *seen = sx_xid_snapshot_from(snapshot);
	Relation	log = table_open(qs->log, AccessShareLock);
	bool		found;

	find_indexes(qs, log);
	found = sx_queue_has_new(log, qs->xid_index, snapshot, qs->at.done, seen);
	if (!found)
	{
		MemoryContextReset(qs->position_context);
		qs->at.done = sx_xid_snapshot_copy(qs->position_context, seen);
	}
	table_close(log, AccessShareLock);
	UnregisterSnapshot(snapshot);
	return found;
}

/* Sets the goal of reached_end: what is committed now. */
static bool
remember_goal(QueueSource *qs)
{
	qs->goal = sx_xid_snapshot_copy(qs->base.context,
									sx_xid_snapshot_from(GetTransactionSnapshot()));
	return true;
}

/* In a short transaction of its own, unless there is one (step). */
static bool
in_transaction(QueueSource *qs, bool (*function) (QueueSource *))
{
	bool		own = !IsTransactionState();
	MemoryContext old = CurrentMemoryContext;
	bool		result;

	if (own)
		StartTransactionCommand();
	result = function(qs);
	if (own)
		CommitTransactionCommand();
	MemoryContextSwitchTo(old);
	return result;
}

static SxPollResult
queue_poll(SxSource *source, const SxPollRequest *req)
{
	QueueSource *qs = (QueueSource *) source;
	uint64		finished;

	if (qs->loaded)
		return SX_POLL_DATA;
	qs->req = *req;
	qs->has_rows = true;
	if (source->limited)
	{
		qs->has_rows = in_transaction(qs, sx_queue_look_below_limit);
		return qs->has_rows ? SX_POLL_DATA : SX_POLL_NOTHING;
	}
	if (qs->at.target != NULL)
		return SX_POLL_DATA;

	/* Read before the snapshot: what finishes in between makes us look again. */
	finished = sx_transam_variables->xactCompletionCount;
	if (finished != qs->looked)
	{
		if (in_transaction(qs, look))
			return SX_POLL_DATA;
		qs->looked = finished;
		source->parts[0].lag = 0;
	}
	qs->has_rows = false;
	return SX_POLL_NOTHING;
}

/* --------------------------------------------------------------------- load */

static void
add_row(QueueSource *qs, TupleTableSlot *slot)
{
	SxSource   *source = &qs->base;
	HeapTuple	tuple = ExecCopySlotHeapTuple(slot);
	SxRecord   *rec = palloc0(sizeof(SxRecord));
	bool		isnull;

	/* Keep nothing that lives in the log's TOAST table. */
	if (HeapTupleHasExternal(tuple))
		tuple = toast_flatten_tuple(tuple, qs->desc);

	if (source->nrecords == qs->capacity)
	{
		qs->capacity = Max(qs->capacity * 2, 64);
		qs->tuples = qs->tuples == NULL ?
			palloc(sizeof(HeapTuple) * qs->capacity) :
			repalloc_huge(qs->tuples, sizeof(HeapTuple) * qs->capacity);
		source->records = source->records == NULL ?
			palloc(sizeof(SxRecord *) * qs->capacity) :
			repalloc_huge(source->records, sizeof(SxRecord *) * qs->capacity);
	}

	rec->size = sizeof(SxRecord);
	rec->kind = SX_RECORD_DATA;
	rec->value_len = -1;
	rec->key_len = -1;
	rec->has_timestamp = true;
	rec->offset = DatumGetInt64(slot_getattr(slot, SX_QUEUE_SEQ, &isnull));
	rec->timestamp = sx_unix_ms(DatumGetTimestampTz(slot_getattr(slot, SX_QUEUE_WRITTEN_AT,
																 &isnull)));
	qs->tuples[source->nrecords] = tuple;
	source->records[source->nrecords++] = rec;
	source->nbytes += tuple->t_len;
}

static bool
batch_is_full(const QueueSource *qs)
{
	return (qs->req.max_rows > 0 && qs->base.nrecords >= qs->req.max_rows) ||
		(qs->req.max_bytes > 0 && qs->base.nbytes >= qs->req.max_bytes);
}

typedef bool (*WantRow) (const QueueSource *qs, uint64 xid, int64 seq, void *arg);

static bool
in_target(const QueueSource *qs, uint64 xid, int64 seq, void *arg)
{
	return !sx_xid_snapshot_sees(qs->behind.done, xid) &&
		sx_xid_snapshot_sees(qs->behind.target, xid) && seq <= qs->cap;
}

/* Adds the wanted rows above seq, in order; false: full, and there is one more. */
static bool
read_rows(QueueSource *qs, Relation log, Snapshot snapshot, int64 seq,
		  WantRow want, void *arg)
{
	Relation	index = index_open(qs->seq_index, AccessShareLock);
	IndexScanDesc scan = sx_index_beginscan(log, index, snapshot, 1);
	TupleTableSlot *slot = table_slot_create(log, NULL);
	bool		more = false;
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(seq));
	index_rescan(scan, &key, 1, NULL, 0);
	while (!more && index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		Datum		xid = slot_getattr(slot, SX_QUEUE_XID, &isnull);
		int64		row_seq = DatumGetInt64(slot_getattr(slot, SX_QUEUE_SEQ, &isnull));

		CHECK_FOR_INTERRUPTS();
		if (!want(qs, U64FromFullTransactionId(DatumGetFullTransactionId(xid)),
				  row_seq, arg))
			continue;
		if (batch_is_full(qs))
			more = true;
		else
			add_row(qs, slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	index_endscan(scan);
	index_close(index, AccessShareLock);
	return !more;
}

void
sx_queue_set_target(QueueSource *qs, Relation log, Snapshot snapshot, SxXidSnapshot *target)
{
	qs->behind.target = target;
	qs->behind.seq = sx_queue_lowest_new(log, qs->xid_index, snapshot, qs->behind.done,
										 target, &qs->remaining) - 1;
}

static void
forget_batch(QueueSource *qs)
{
	MemoryContextReset(qs->batch);
	qs->tuples = NULL;
	qs->capacity = 0;
	qs->base.records = NULL;
	qs->base.nrecords = 0;
	qs->base.nbytes = 0;
}

/* From behind to the end of its target, or of the batch; true: to that of the target. */
bool
sx_queue_read_target(QueueSource *qs, Relation log, Snapshot snapshot)
{
	SxSource   *source = &qs->base;
	int			before = source->nrecords;
	bool		all = read_rows(qs, log, snapshot, qs->behind.seq, in_target, NULL);
	int			added = source->nrecords - before;

	if (!all && added > 0)
		qs->behind.seq = source->records[source->nrecords - 1]->offset;
	if (qs->remaining > 0)
		qs->remaining = Max(qs->remaining - added, all ? 0 : 1);
	return all;
}

static void
read_batch(QueueSource *qs, Snapshot snapshot)
{
	Relation	log = table_open(qs->log, AccessShareLock);

	find_indexes(qs, log);
	qs->behind = qs->at;
	qs->cap = PG_INT64_MAX;
	if (qs->base.limited)
		sx_queue_read_below_limit(qs, log, snapshot);
	else
	{
		if (qs->behind.target == NULL)
			sx_queue_set_target(qs, log, snapshot, sx_xid_snapshot_from(snapshot));
		if (sx_queue_read_target(qs, log, snapshot))
		{
			sx_queue_position_pass(&qs->behind, qs->behind.target, PG_INT64_MAX);
			qs->remaining = 0;
		}
	}
	table_close(log, AccessShareLock);
}

static bool
trim_is_due(const QueueSource *qs)
{
	return qs->untrimmed_rows >= TRIM_ROWS || qs->untrimmed_batches >= TRIM_BATCHES;
}

static void
queue_load(SxSource *source, Snapshot snapshot)
{
	QueueSource *qs = (QueueSource *) source;

	MemoryContext old;

	/* Where poll saw nothing there may be rows by now, but no batch for them. */
	if (!qs->loaded && !qs->has_rows)
		return;

	/* A load that failed half-way has left its rows behind. */
	if (!qs->loaded)
		forget_batch(qs);
	old = MemoryContextSwitchTo(qs->batch);
	if (!qs->loaded)
	{
		read_batch(qs, snapshot);
		sx_part_set(source, &source->parts[0].new_position, sx_queue_position_text(&qs->behind));
		/* what came from the limit goes with that */
		sx_queue_position_parse(source->parts[0].new_position, &qs->behind);
		source->parts[0].rows = source->nrecords;
		source->parts[0].lag = qs->remaining;
		qs->loaded = true;
	}
	if (trim_is_due(qs))
		sx_queue_trim(source->stream, qs->log);
	MemoryContextSwitchTo(old);
}

static void
queue_committed(SxSource *source)
{
	QueueSource *qs = (QueueSource *) source;

	if (qs->loaded)
	{
		if (trim_is_due(qs))
			qs->untrimmed_rows = qs->untrimmed_batches = 0;
		qs->untrimmed_rows += source->nrecords;
		qs->untrimmed_batches++;
		sx_queue_set_position(qs, source->parts[0].new_position);
	}
	qs->loaded = false;
	forget_batch(qs);
	sx_part_committed(&source->parts[0]);
}

/* ------------------------------------------------------------- the other ops */

/* Relations are open only within a call; the rest is memory. */
static void
queue_close(SxSource *source)
{
}

static long
queue_wait(SxSource *source, int *fd)
{
	QueueSource *qs = (QueueSource *) source;

	*fd = -1;
	return qs->loaded || (qs->at.target != NULL && !source->limited) ? 0 : POLL_INTERVAL_MS;
}

/* Has all been processed that was committed at the first call? */
static bool
queue_reached_end(SxSource *source)
{
	QueueSource *qs = (QueueSource *) source;

	if (qs->loaded)
		return false;
	if (qs->goal == NULL)
		(void) in_transaction(qs, remember_goal);
	if (qs->at.target == NULL &&
		(sx_xid_snapshot_covers(qs->at.done, qs->goal) || !in_transaction(qs, look)))
	{
		pfree(qs->goal);
		qs->goal = NULL;
		return true;
	}
	return false;
}

/* Positions of the pipelines that read the stream. */
typedef struct Readers
{
	int			n;
	SxQueuePosition at[FLEXIBLE_ARRAY_MEMBER];
} Readers;

static void
collect_reader(HeapTuple row, TupleDesc desc, void *arg)
{
	Readers   **readers = arg;
	char	   *position = sx_row_text(row, desc, 1);

	*readers = repalloc(*readers, offsetof(Readers, at) +
						sizeof(SxQueuePosition) * ((*readers)->n + 1));
	sx_queue_position_parse(position, &(*readers)->at[(*readers)->n++]);
}

static bool
pending_for_any(const QueueSource *qs, uint64 xid, int64 seq, void *arg)
{
	const Readers *readers = arg;

	for (int i = 0; i < readers->n; i++)
	{
		if (sx_queue_position_pending(&readers->at[i], xid, seq))
			return true;
	}
	return readers->n == 0;
}

/* The rows that some pipeline has not processed yet. */
static void
queue_peek(SxSource *source)
{
	QueueSource *qs = (QueueSource *) source;
	MemoryContext old = MemoryContextSwitchTo(qs->batch);
	Readers    *readers = palloc0(offsetof(Readers, at));
	Relation	log = table_open(qs->log, AccessShareLock);
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(source->stream->relid)};

	sx_catalog_rows("SELECT p.position::text FROM streamext.source s "
					"LEFT JOIN streamext.partition p USING (pipeline, stream) "
					"WHERE s.stream = $1", 1, types, values, NULL,
					collect_reader, &readers);
	read_rows(qs, log, GetActiveSnapshot(), PG_INT64_MIN, pending_for_any, readers);
	table_close(log, AccessShareLock);
	MemoryContextSwitchTo(old);
}

static void
queue_get_row(SxSource *source, int i, Datum *values, bool *isnull)
{
	QueueSource *qs = (QueueSource *) source;
	int			natts = source->stream->natts;

	heap_deform_tuple(qs->tuples[i], qs->desc, qs->row_values, qs->row_isnull);
	for (int a = 0; a < natts; a++)
	{
		if (qs->columns[a] == 0)
			continue;
		values[a] = qs->row_values[qs->columns[a] - 1];
		isnull[a] = qs->row_isnull[qs->columns[a] - 1];
	}
}

bool
sx_queue_has_log(const SxStream *stream)
{
	return stream->source == &sx_source_queue || stream->source == &sx_source_table;
}

static void
queue_created(SxStream *stream)
{
	sx_queue_create_log(stream->relid);
}

const SxSourceOps sx_source_queue = {
	.connector = "queue",
	.open = queue_open,
	.poll = queue_poll,
	.load = queue_load,
	.committed = queue_committed,
	.close = queue_close,
	.wait = queue_wait,
	.reached_end = queue_reached_end,
	.peek = queue_peek,
	.dead_value = sx_row_dead_value,
	.created = queue_created,
	.lane_start = sx_queue_lane_start,
	.limit = sx_queue_limit,
	.at_limit = sx_queue_at_limit,
	.restored = sx_queue_restored
};

const SxSourceOps sx_source_table = {
	.connector = "table",
	.open = queue_open,
	.poll = queue_poll,
	.load = queue_load,
	.committed = queue_committed,
	.close = queue_close,
	.wait = queue_wait,
	.reached_end = queue_reached_end,
	.peek = queue_peek,
	.check = sx_table_check,
	.dead_value = sx_row_dead_value,
	.created = sx_table_created,
	.lane_start = sx_queue_lane_start,
	.limit = sx_queue_limit,
	.at_limit = sx_queue_at_limit,
	.restored = sx_table_restored
};
