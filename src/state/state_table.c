/*-------------------------------------------------------------------------
 *
 * state_table.c
 *		The state table of a stream within a batch: rows by key and by time.
 *
 * Rows are read and written through the access methods and not by statements: a batch
 * looks up some thousand keys one by one, and a plan for that, made when the table was
 * small, would be the wrong one when it is big.  As the indexes are named here, cost
 * is that of the keys touched, whatever the number of keys.  The tables are heaps.
 *
 * Reads see the table as of the snapshot that was active when it was opened.  A row is written at most once between
 * two calls of sx_state_see_writes(), so no command meets its own rows.  The table has
 * no triggers, and nobody else writes to it: the batch holds the pipeline's progress
 * row.  Indexes that the owner has added are maintained, too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/nbtree.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "compat.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "fdw/stream.h"
#include "state/state_compact.h"
#include "state/state_table.h"

/* ---------- opening ---------- */

static bool
is_key_index(Relation index, int nkeys)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indisvalid || form->indnkeyatts != nkeys ||
		!form->indnullsnotdistinct || !form->indimmediate ||
		RelationGetIndexPredicate(index) != NIL)
		return false;
	for (int i = 0; i < nkeys; i++)
	{
		if (form->indkey.values[i] != i + 1)
			return false;
	}
	return true;
}

/* Indexes are open already, for writing. */
static Relation
key_index(SxStateTable *table)
{
	for (int i = 0; i < table->rinfo->ri_NumIndices; i++)
	{
		Relation	index = table->rinfo->ri_IndexRelationDescs[i];

		if (is_key_index(index, table->nkeys))
			return index;
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("state table %s has no unique index on its keys",
					sx_relation_label(RelationGetRelid(table->rel))),
			 errhint("CREATE UNIQUE INDEX … NULLS NOT DISTINCT on the columns before column \"state\".")));
}

/* Does it have all rows with a time, the lowest first?  The owner's own may not. */
static bool
is_time_index(Relation index, AttrNumber column)
{
	List	   *predicate = RelationGetIndexPredicate(index);

	return index->rd_index->indisvalid && index->rd_rel->relam == BTREE_AM_OID &&
		index->rd_index->indkey.values[0] == column &&
		(index->rd_indoption[0] & INDOPTION_DESC) == 0 &&
		(predicate == NIL ||
		 (list_length(predicate) == 1 && IsA(linitial(predicate), NullTest) &&
		  linitial_node(NullTest, predicate)->nulltesttype == IS_NOT_NULL &&
		  IsA(linitial_node(NullTest, predicate)->arg, Var) &&
		  castNode(Var, linitial_node(NullTest, predicate)->arg)->varattno == column));
}

static Relation
time_index(SxStateTable *table, AttrNumber column)
{
	for (int i = 0; i < table->rinfo->ri_NumIndices; i++)
	{
		Relation	index = table->rinfo->ri_IndexRelationDescs[i];

		if (is_time_index(index, column))
			return index;
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("state table %s has no index on column \"%s\"",
					sx_relation_label(RelationGetRelid(table->rel)),
					NameStr(TupleDescAttr(table->desc, column - 1)->attname)),
			 errhint("CREATE INDEX on it.")));
}

/* "Column i of the index equals …" */
static void
init_key(SxStateTable *table, int i)
{
	Oid			opclass = get_index_column_opclass(RelationGetRelid(table->index), i + 1);
	Oid			type = get_opclass_input_type(opclass);
	Oid			op = get_opfamily_member(get_opclass_family(opclass), type, type,
										 BTEqualStrategyNumber);

	ScanKeyInit(&table->skeys[i], i + 1, BTEqualStrategyNumber, get_opcode(op), (Datum) 0);
	table->skeys[i].sk_collation = table->index->rd_indcollation[i];
}

/* The table is its owner's, who may alter it; values are taken for what they ought to be. */
static bool
has_columns(TupleDesc desc, List *columns)
{
	if (desc->natts != list_length(columns))
		return false;
	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attisdropped ||
			TupleDescAttr(desc, i)->atttypid != list_nth_node(ColumnDef, columns, i)->typeName->typeOid)
			return false;
	}
	return true;
}

/* With all its indexes, whatever they are. */
static SxStateTable *
open_table(Oid relid, int nkeys)
{
	SxStateTable *table = palloc0(sizeof(SxStateTable));

	table->context = CurrentMemoryContext;
	table->rel = table_open(relid, RowExclusiveLock);
	table->desc = RelationGetDescr(table->rel);
	table->nkeys = nkeys;
	table->estate = CreateExecutorState();
	table->estate->es_snapshot = GetActiveSnapshot();
	table->rinfo = makeNode(ResultRelInfo);
	InitResultRelInfo(table->rinfo, table->rel, 0, NULL, 0);
	ExecOpenIndices(table->rinfo, false);
	table->found = MakeSingleTupleTableSlot(table->desc, &TTSOpsBufferHeapTuple);
	table->row = MakeSingleTupleTableSlot(table->desc, &TTSOpsVirtual);
	table->target = MakeSingleTupleTableSlot(table->desc, &TTSOpsVirtual);
	return table;
}

static void
use_key_index(SxStateTable *table, Relation index)
{
	table->index = index;
	table->skeys = palloc(sizeof(ScanKeyData) * table->nkeys);
	for (int i = 0; i < table->nkeys; i++)
		init_key(table, i);
}

SxStateTable *
sx_state_open(Oid relid, const SxStateSpec *spec)
{
	SxStateTable *table = open_table(relid, spec->nkeys);

	if (!has_columns(table->desc, sx_state_columns(spec)) || table->rel->rd_rel->relam != HEAP_TABLE_AM_OID)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("state table %s does not have the columns that its stream keeps",
						sx_relation_label(relid)),
				 errhint("Drop the stream and create it again.")));
	use_key_index(table, key_index(table));
	return table;
}

/* Equality in the index is that of the column, or of its bytes. */
static bool
tells_keys_apart(const SxStateTable *table, Relation index)
{
	for (int i = 0; i < table->nkeys; i++)
	{
		Form_pg_attribute att = TupleDescAttr(table->desc, i);
		Oid			collation = index->rd_indcollation[i];

		if (collation != att->attcollation &&
			!(collation == C_COLLATION_OID && get_collation_isdeterministic(att->attcollation)))
			return false;
		if (get_index_column_opclass(RelationGetRelid(index), i + 1) !=
			GetDefaultOpClass(att->atttypid, BTREE_AM_OID))
			return false;
	}
	return true;
}

/* The unique index on the keys; NULL: there is none, or another one that has to be obeyed. */
static Relation
only_key_index(const SxStateTable *table)
{
	Relation	found = NULL;

	for (int i = 0; i < table->rinfo->ri_NumIndices; i++)
	{
		Relation	index = table->rinfo->ri_IndexRelationDescs[i];

		if (!index->rd_index->indisunique && !index->rd_index->indisexclusion)
			continue;
		if (found != NULL || !is_key_index(index, table->nkeys) || !tells_keys_apart(table, index))
			return NULL;
		found = index;
	}
	return found;
}

SxStateTable *
sx_state_try_open(Oid relid, int nkeys)
{
	SxStateTable *table = open_table(relid, nkeys);
	Relation	index = table->rel->rd_rel->relam == HEAP_TABLE_AM_OID ? only_key_index(table) : NULL;

	if (index == NULL)
	{
		sx_state_close(table);
		return NULL;
	}
	use_key_index(table, index);
	return table;
}

/* A serializable transaction wants locks on what was looked at in the index: it goes there. */
void
sx_state_use_hints(SxStateTable *table, SxHints *hints, const SxKeys *keys)
{
	if (hints == NULL || IsolationIsSerializable())
		return;
	table->hints = hints;
	table->keys = keys;
	table->nblocks = RelationGetNumberOfBlocks(table->rel);
	sx_hints_use_file(hints, sx_relation_file_number(table->rel));
}

static void
end_lookups(SxStateTable *table)
{
	ExecClearTuple(table->found);
	if (table->scan != NULL)
		index_endscan(table->scan);
	table->scan = NULL;
}

/* For the next batch. */
static void
note_width(SxStateTable *table)
{
	SxFront    *front;

	if (table->nfound == 0)
		return;
	front = sx_hints_front(table->hints);
	front->width = table->found_bytes / table->nfound;
	front->found = table->nfound;
}

void
sx_state_close(SxStateTable *table)
{
	end_lookups(table);
	note_width(table);
	ExecDropSingleTupleTableSlot(table->found);
	ExecDropSingleTupleTableSlot(table->row);
	ExecDropSingleTupleTableSlot(table->target);
	ExecCloseIndices(table->rinfo);
	FreeExecutorState(table->estate);
	table_close(table->rel, NoLock);
}

void
sx_state_see_writes(SxStateTable *table)
{
	end_lookups(table);
	CommandCounterIncrement();
	Assert(GetActiveSnapshot() == table->estate->es_snapshot);
	UpdateActiveSnapshotCommandId();
}

/* ---------- rows by key ---------- */

/* The row of an index entry, as the heap's own fetch does it, but for when a page is pruned. */
static bool
fetch_row(SxStateTable *table, ItemPointer tid)
{
	BufferHeapTupleTableSlot *slot = (BufferHeapTupleTableSlot *) table->found;
	HeapTuple	tuple = &slot->base.tupdata;
	Buffer		buffer = sx_state_read_page(table, ItemPointerGetBlockNumber(tid));
	bool		all_dead;
	bool		found;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	tuple->t_self = *tid;
	found = heap_hot_search_buffer(&tuple->t_self, table->rel, buffer,
								   table->estate->es_snapshot, tuple, &all_dead, true);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (found)
	{
		tuple->t_tableOid = RelationGetRelid(table->rel);
		ExecStorePinnedBufferHeapTuple(tuple, table->found, buffer);
	}
	else
	{
		table->scan->kill_prior_tuple = all_dead;
		ReleaseBuffer(buffer);
	}
	return found;
}

/* What a scan remembers from row to row must not go with the context of a row. */
static bool
next_row(SxStateTable *table, IndexScanDesc scan)
{
	MemoryContext old = MemoryContextSwitchTo(table->context);
	bool		found = index_getnext_slot(scan, ForwardScanDirection, table->found);

	MemoryContextSwitchTo(old);
	return found;
}

static IndexScanDesc
begin_scan(SxStateTable *table, Relation index, int nkeys)
{
	MemoryContext old = MemoryContextSwitchTo(table->context);
	IndexScanDesc scan = sx_index_beginscan(table->rel, index, table->estate->es_snapshot, nkeys);

	MemoryContextSwitchTo(old);
	return scan;
}

static bool
find_by_index(SxStateTable *table, const Datum *keys, const bool *nulls)
{
	MemoryContext old;
	ItemPointer tid;
	bool		found = false;

	for (int i = 0; i < table->nkeys; i++)
	{
		ScanKey		skey = &table->skeys[i];

		skey->sk_argument = nulls[i] ? (Datum) 0 : keys[i];
		skey->sk_flags = nulls[i] ? SK_ISNULL | SK_SEARCHNULL : 0;
	}
	if (table->scan == NULL)
		table->scan = begin_scan(table, table->index, table->nkeys);
	old = MemoryContextSwitchTo(table->context);
	index_rescan(table->scan, table->skeys, table->nkeys, NULL, 0);
	while (!found && (tid = index_getnext_tid(table->scan, ForwardScanDirection)) != NULL)
		found = fetch_row(table, tid);
	MemoryContextSwitchTo(old);
	return found;
}

bool
sx_state_find(SxStateTable *table, const SxKey *key)
{
	ExecClearTuple(table->found);
	if (sx_state_find_by_hint(table, key))
		return true;
	if (!find_by_index(table, key->values, key->nulls))
		return false;
	sx_state_learn(table, key);
	return true;
}

static void
set_row(SxStateTable *table, const Datum *values, const bool *nulls)
{
	ExecClearTuple(table->row);
	memcpy(table->row->tts_values, values, sizeof(Datum) * table->desc->natts);
	memcpy(table->row->tts_isnull, nulls, sizeof(bool) * table->desc->natts);
	ExecStoreVirtualTuple(table->row);
}

static void
written(SxStateTable *table)
{
	table->written = table->row->tts_tid;
	ExecClearTuple(table->row);
	ResetPerTupleExprContext(table->estate);
}

void
sx_state_insert(SxStateTable *table, const Datum *values, const bool *nulls)
{
	set_row(table, values, nulls);
	sx_state_lead(table, NULL);
	ExecSimpleRelationInsert(table->rinfo, table->estate, table->row);
	written(table);
}

void
sx_state_update(SxStateTable *table, ItemPointer tid, const Datum *values, const bool *nulls)
{
	set_row(table, values, nulls);
	table->target->tts_tid = *tid;
	sx_state_lead(table, tid);
	ExecSimpleRelationUpdate(table->rinfo, table->estate, NULL, table->target, table->row);
	written(table);
}

void
sx_state_delete(SxStateTable *table, ItemPointer tid)
{
	table->target->tts_tid = *tid;
	ExecSimpleRelationDelete(table->rinfo, table->estate, NULL, table->target);
}

IndexScanDesc
sx_state_scan_begin(SxStateTable *table)
{
	IndexScanDesc scan = begin_scan(table, table->index, 0);

	index_rescan(scan, NULL, 0, NULL, 0);
	return scan;
}

bool
sx_state_scan_next(SxStateTable *table, IndexScanDesc scan)
{
	return next_row(table, scan);
}

/* ---------- rows by time ---------- */

/* The rows whose time is in [from, upto]. */
static IndexScanDesc
begin_time_scan(SxStateTable *table, AttrNumber column, TimestampTz from, TimestampTz upto)
{
	IndexScanDesc scan = begin_scan(table, time_index(table, column), 2);
	ScanKeyData skeys[2];

	ScanKeyInit(&skeys[0], 1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(from));
	ScanKeyInit(&skeys[1], 1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
				TimestampTzGetDatum(upto));
	index_rescan(scan, skeys, 2, NULL, 0);
	return scan;
}

/* By the time and then by the keys, in the order of their index. */
static Tuplesortstate *
begin_sort(SxStateTable *table, AttrNumber column, TupleDesc desc)
{
	int			n = table->nkeys + 1;
	AttrNumber *columns = palloc(sizeof(AttrNumber) * n);
	Oid		   *operators = palloc(sizeof(Oid) * n);
	Oid		   *collations = palloc0(sizeof(Oid) * n);
	bool	   *nulls_first = palloc0(sizeof(bool) * n);

	columns[0] = column;
	operators[0] = lookup_type_cache(TIMESTAMPTZOID, TYPECACHE_LT_OPR)->lt_opr;
	for (int i = 0; i < table->nkeys; i++)
	{
		columns[i + 1] = i + 1;
		operators[i + 1] = lookup_type_cache(TupleDescAttr(table->desc, i)->atttypid,
											 TYPECACHE_LT_OPR)->lt_opr;
		collations[i + 1] = table->index->rd_indcollation[i];
	}
	return tuplesort_begin_heap(desc, n, columns, operators, collations, nulls_first,
								work_mem, NULL, TUPLESORT_NONE);
}

static TupleDesc
desc_with_tid(TupleDesc desc)
{
	TupleDesc	result = CreateTemplateTupleDesc(desc->natts + 1);

	for (int i = 1; i <= desc->natts; i++)
		TupleDescCopyEntry(result, i, desc, i);
	TupleDescInitEntry(result, desc->natts + 1, "tid", TIDOID, -1, 0);
	return result;
}

Tuplesortstate *
sx_state_due(SxStateTable *table, AttrNumber column, TimestampTz from, TimestampTz upto,
			 TupleTableSlot **slot)
{
	TupleDesc	desc = desc_with_tid(table->desc);
	int			natts = table->desc->natts;
	TupleTableSlot *row = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	Tuplesortstate *sort = begin_sort(table, column, desc);
	IndexScanDesc scan = begin_time_scan(table, column, from, upto);

	while (next_row(table, scan))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(table->found);
		ExecClearTuple(row);
		memcpy(row->tts_values, table->found->tts_values, sizeof(Datum) * natts);
		memcpy(row->tts_isnull, table->found->tts_isnull, sizeof(bool) * natts);
		row->tts_values[natts] = PointerGetDatum(&table->found->tts_tid);
		row->tts_isnull[natts] = false;
		ExecStoreVirtualTuple(row);
		tuplesort_puttupleslot(sort, row);
	}
	ExecClearTuple(table->found);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(row);
	tuplesort_performsort(sort);
	*slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	return sort;
}

TimestampTz
sx_state_lowest(SxStateTable *table, AttrNumber column, TimestampTz from)
{
	IndexScanDesc scan = begin_time_scan(table, column, from, DT_NOEND);
	TimestampTz lowest = DT_NOEND;
	bool		isnull;

	if (next_row(table, scan))
		lowest = DatumGetTimestampTz(slot_getattr(table->found, column, &isnull));
	ExecClearTuple(table->found);
	index_endscan(scan);
	return lowest;
}

bool
sx_state_has_null(SxStateTable *table, AttrNumber column)
{
	IndexScanDesc scan = begin_scan(table, time_index(table, column), 1);
	ScanKeyData skey;
	bool		found;

	ScanKeyEntryInitialize(&skey, SK_ISNULL | SK_SEARCHNULL, 1, InvalidStrategy, InvalidOid,
						   InvalidOid, InvalidOid, (Datum) 0);
	index_rescan(scan, &skey, 1, NULL, 0);
	found = next_row(table, scan);
	ExecClearTuple(table->found);
	index_endscan(scan);
	return found;
}
