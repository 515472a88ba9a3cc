/*-------------------------------------------------------------------------
 *
 * queue_search.c
 *		Which rows of a queue's log are new: the first of them, and how many.
 *
 * Rows that a snapshot "done" does not see were inserted by a transaction that was in
 * progress then (done.xip), or that came later (from done.xmax on).  The index on
 * (_sx_xid, _sx_seq) is probed for the former one by one, and for the latter as one
 * range, up to the xmax of the snapshot "target", which has to see them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "catalog/pg_index.h"
#include "compat.h"
#include "miscadmin.h"
#include "source/queue.h"
#include "source/queue_search.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/xid8.h"

typedef struct Search
{
	Relation	log;
	Relation	index;			/* on (xid, seq) */
	Snapshot	snapshot;
	const SxXidSnapshot *target;
	TupleTableSlot *slot;		/* to ask the heap, and stop at the first; or NULL */
	int64		lowest;
	int64		count;
} Search;

void
sx_queue_indexes(Relation log, Oid *seq_index, Oid *xid_index)
{
	List	   *indexes = RelationGetIndexList(log);
	ListCell   *lc;

	*seq_index = *xid_index = InvalidOid;
	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;

		if (form->indisprimary && form->indnkeyatts == 1 &&
			form->indkey.values[0] == SX_QUEUE_SEQ)
			*seq_index = lfirst_oid(lc);
		if (form->indisvalid && form->indnkeyatts == 2 &&
			form->indkey.values[0] == SX_QUEUE_XID &&
			form->indkey.values[1] == SX_QUEUE_SEQ &&
			RelationGetIndexPredicate(index) == NIL)
			*xid_index = lfirst_oid(lc);
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	if (!OidIsValid(*seq_index) || !OidIsValid(*xid_index))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s\" has lost an index", RelationGetRelationName(log)),
				 errhint("Make _sx_seq its primary key again, and create an index on (_sx_xid, _sx_seq).")));
}

/* Moves on to the next index entry; without a slot, whether its row exists or not. */
static bool
next_entry(Search *search, IndexScanDesc scan)
{
	CHECK_FOR_INTERRUPTS();
	if (search->slot != NULL)
		return index_getnext_slot(scan, ForwardScanDirection, search->slot);
	return index_getnext_tid(scan, ForwardScanDirection) != NULL;
}

/* Rows with first <= xid < last that target sees. */
static void
search_range(Search *search, uint64 first, uint64 last)
{
	IndexScanDesc scan;
	ScanKeyData key[2];

	if (first >= last || (search->slot != NULL && search->count > 0))
		return;
	ScanKeyInit(&key[0], 1, BTGreaterEqualStrategyNumber, F_XID8GE,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(first)));
	ScanKeyInit(&key[1], 1, BTLessStrategyNumber, F_XID8LT,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(last)));
	scan = sx_index_beginscan(search->log, search->index, search->snapshot, 2);
	scan->xs_want_itup = true;
	index_rescan(scan, key, 2, NULL, 0);
	while (next_entry(search, scan))
	{
		bool		isnull;
		Datum		xid = index_getattr(scan->xs_itup, 1, scan->xs_itupdesc, &isnull);
		Datum		seq = index_getattr(scan->xs_itup, 2, scan->xs_itupdesc, &isnull);

		if (!sx_xid_snapshot_sees(search->target,
								  U64FromFullTransactionId(DatumGetFullTransactionId(xid))))
			continue;
		search->lowest = Min(search->lowest, DatumGetInt64(seq));
		search->count++;
		if (search->slot != NULL)
			break;
	}
	index_endscan(scan);
}

static void
search_all(Search *search, Oid xid_index, const SxXidSnapshot *done)
{
	search->index = index_open(xid_index, AccessShareLock);
	search->lowest = PG_INT64_MAX;
	for (int i = 0; i < done->nxip; i++)
	{
		if (sx_xid_snapshot_sees(search->target, done->xip[i]))
			search_range(search, done->xip[i], done->xip[i] + 1);
	}
	search_range(search, done->xmax, search->target->xmax);
	index_close(search->index, AccessShareLock);
}

bool
sx_queue_has_new(Relation log, Oid xid_index, Snapshot snapshot,
				 const SxXidSnapshot *done, const SxXidSnapshot *target)
{
	Search		search = {.log = log, .snapshot = snapshot, .target = target};

	search.slot = table_slot_create(log, NULL);
	search_all(&search, xid_index, done);
	ExecDropSingleTupleTableSlot(search.slot);
	return search.count > 0;
}

int64
sx_queue_lowest_new(Relation log, Oid xid_index, Snapshot snapshot,
					const SxXidSnapshot *done, const SxXidSnapshot *target,
					int64 *count)
{
	Search		search = {.log = log, .snapshot = snapshot, .target = target};

	search_all(&search, xid_index, done);
	*count = search.count;
	return search.lowest;
}
