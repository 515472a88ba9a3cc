/*-------------------------------------------------------------------------
 *
 * queue_log.c
 *		The log table behind a stream of connector 'queue'.
 *
 * What is inserted into a queue stream goes into a table streamext_state.<stream>_log
 * until every pipeline that reads the stream has processed it:
 *
 *		_sx_seq			number of the row, in order of insertion
 *		_sx_xid			top-level transaction that inserted it
 *		_sx_written_at	when
 *		…				the stream's columns, by their names
 *
 * Nobody is granted INSERT or DELETE on it (log_table.c): rows come through INSERT into
 * the stream, on which the inserting role has its privilege, and are written here
 * directly; triggers on the log do not fire.
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
#include "catalog/sx_catalog.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "compat.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/primnodes.h"
#include "rewrite/rewriteHandler.h"
#include "source/log_table.h"
#include "source/queue.h"
#include "streamext.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"
#include "worker/worker.h"

#define INSERT_CHUNK	1000	/* rows written at a time */

struct SxQueueInsert
{
	Oid			stream;
	Relation	log;
	EState	   *estate;
	ResultRelInfo *rinfo;
	AttrNumber *columns;
	int			natts;			/* of the stream */
	Oid			sequence;
	TupleTableSlot **slots;		/* of the log; nslots of them made so far */
	int			nslots;
};

/* ----------------------------------------------------------------- creation */

static bool
is_logged(const SxColumn *column)
{
	return !column->dropped && column->metadata == SX_META_NONE;
}

/* Type and collation of a column, as in CREATE TABLE. */
static char *
column_type(const SxStream *stream, const SxColumn *column)
{
	Oid			collation = TupleDescAttr(stream->tupdesc, column->attno - 1)->attcollation;
	char	   *type = format_type_extended(column->type, column->typmod,
											FORMAT_TYPE_TYPEMOD_GIVEN |
											FORMAT_TYPE_FORCE_QUALIFY);

	if (!OidIsValid(collation) || collation == get_typcollation(column->type))
		return type;
	return psprintf("%s COLLATE %s", type, generate_collation_name(collation));
}

/* Constraints are the stream's matter: insert.c checks its NOT NULLs. */
static void
append_columns(StringInfo sql, const SxStream *stream)
{
	for (int i = 0; i < stream->natts; i++)
	{
		const SxColumn *column = &stream->columns[i];

		if (is_logged(column))
			appendStringInfo(sql, ", %s %s", quote_identifier(column->name),
							 column_type(stream, column));
	}
}

void
sx_queue_create_log(SxStream *stream)
{
	StringInfoData columns;

	initStringInfo(&columns);
	appendStringInfoString(&columns,
						   "_sx_seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
						   "_sx_xid xid8 NOT NULL DEFAULT pg_current_xact_id(), "
						   "_sx_written_at timestamptz NOT NULL DEFAULT clock_timestamp()");
	append_columns(&columns, stream);
	sx_log_table_create(stream, columns.data, "CREATE INDEX ON %s (_sx_xid, _sx_seq)",
						psprintf("rows of the queue %s that are not processed yet",
								 stream->label));
}

/* -------------------------------------------------------------------- lookup */

Oid
sx_queue_log(const SxStream *stream)
{
	Oid			log = sx_log_table_find(stream->relid);

	if (!OidIsValid(log))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("queue %s has no log table", stream->label),
				 errhint("Create the stream anew, in a database where the extension is complete.")));
	return log;
}

static AttrNumber
column_of_log(TupleDesc log, const char *name)
{
	for (int i = 0; i < log->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(log, i);

		if (!att->attisdropped && strcmp(NameStr(att->attname), name) == 0)
			return att->attnum;
	}
	return InvalidAttrNumber;
}

/* ------------------------------------------------------------------- altering */

static void
alter_log(const SxStream *stream, const char *actions)
{
	Oid			log = sx_queue_log(stream);
	SxTrusted	save;

	sx_trusted_begin(&save);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	sx_log_table_execute(psprintf("ALTER TABLE %s %s",
					 quote_qualified_identifier(SX_STATE_SCHEMA, get_rel_name(log)),
					 actions));
	SPI_finish();
	sx_trusted_end(&save);
	CommandCounterIncrement();
}

void
sx_queue_rename_column(const SxStream *stream, const char *from, const char *to)
{
	for (int i = 0; i < stream->natts; i++)
	{
		const SxColumn *column = &stream->columns[i];

		if (is_logged(column) && strcmp(column->name, from) == 0)
			alter_log(stream, psprintf("RENAME COLUMN %s TO %s", quote_identifier(from),
									   pstrdup(quote_identifier(to))));
	}
}

/* "ADD COLUMN …" or "ALTER COLUMN … TYPE …", if the log needs it. */
static void
append_change(StringInfo actions, const SxStream *stream, const SxColumn *column,
			  TupleDesc log)
{
	AttrNumber	attno = column_of_log(log, column->name);
	const char *name = quote_identifier(column->name);

	if (attno == InvalidAttrNumber)
		appendStringInfo(actions, ", ADD COLUMN %s %s", name, column_type(stream, column));
	else if (TupleDescAttr(log, attno - 1)->atttypid != column->type ||
			 TupleDescAttr(log, attno - 1)->atttypmod != column->typmod)
		appendStringInfo(actions, ", ALTER COLUMN %s TYPE %s", name,
						 column_type(stream, column));
}

static bool
has_logged_column(const SxStream *stream, const char *name)
{
	for (int i = 0; i < stream->natts; i++)
	{
		if (is_logged(&stream->columns[i]) && strcmp(stream->columns[i].name, name) == 0)
			return true;
	}
	return false;
}

void
sx_queue_sync_log(const SxStream *stream)
{
	Relation	log = table_open(sx_queue_log(stream), AccessShareLock);
	TupleDesc	desc = CreateTupleDescCopy(RelationGetDescr(log));
	StringInfoData actions;

	table_close(log, NoLock);
	initStringInfo(&actions);
	for (int i = SX_QUEUE_WRITTEN_AT; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && !has_logged_column(stream, NameStr(att->attname)))
			appendStringInfo(&actions, ", DROP COLUMN %s",
							 quote_identifier(NameStr(att->attname)));
	}
	for (int i = 0; i < stream->natts; i++)
	{
		if (is_logged(&stream->columns[i]))
			append_change(&actions, stream, &stream->columns[i], desc);
	}
	if (actions.len > 0)
		alter_log(stream, actions.data + strlen(", "));
}

AttrNumber *
sx_queue_columns(const SxStream *stream, TupleDesc log)
{
	AttrNumber *result = palloc0(sizeof(AttrNumber) * Max(stream->natts, 1));

	for (int i = 0; i < stream->natts; i++)
	{
		const SxColumn *column = &stream->columns[i];

		if (column->dropped || column->metadata != SX_META_NONE)
			continue;
		result[i] = column_of_log(log, column->name);
		if (result[i] == InvalidAttrNumber ||
			TupleDescAttr(log, result[i] - 1)->atttypid != column->type)
		{
			char	   *table = get_rel_name(sx_queue_log(stream));

			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("the log of queue %s has no column \"%s\" of type %s",
							stream->label, column->name,
							format_type_be(column->type)),
					 errhint("Change the table %s.%s as the stream was changed, with ALTER TABLE.",
							 SX_STATE_SCHEMA, quote_identifier(table))));
		}
	}
	return result;
}

void
sx_queue_trim(const SxStream *stream, Oid log)
{
	char	   *table = pstrdup(quote_qualified_identifier(SX_STATE_SCHEMA,
														   get_rel_name(log)));
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(stream->relid)};

	sx_catalog_exec(psprintf("DELETE FROM %s WHERE _sx_seq = ANY (ARRAY("
							 "SELECT _sx_seq FROM %s WHERE _sx_xid < ("
							 "SELECT CASE WHEN bool_and(coalesce(p.position ? 'done', false)) "
							 "THEN min(pg_snapshot_xmin((p.position ->> 'done')::pg_snapshot)) END "
							 "FROM streamext.source s "
							 "LEFT JOIN streamext.partition p USING (pipeline, stream) "
							 "WHERE s.stream = $1) FOR UPDATE SKIP LOCKED))",
							 table, table),
					lengthof(types), types, values, NULL);
}

/* -------------------------------------------------------------------- insert */

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
sx_queue_insert_begin(SxStream *stream)
{
	SxQueueInsert *insert = palloc0(sizeof(SxQueueInsert));
	Node	   *numbers;

	insert->stream = stream->relid;
	insert->log = table_open(sx_queue_log(stream), RowExclusiveLock);
	insert->columns = sx_queue_columns(stream, RelationGetDescr(insert->log));
	insert->natts = stream->natts;
	numbers = build_column_default(insert->log, SX_QUEUE_SEQ);
	if (numbers == NULL || !IsA(numbers, NextValueExpr))
		elog(ERROR, "column _sx_seq of \"%s\" has no sequence",
			 RelationGetRelationName(insert->log));
	insert->sequence = ((NextValueExpr *) numbers)->seqid;

	insert->estate = CreateExecutorState();
	insert->rinfo = makeNode(ResultRelInfo);
	InitResultRelInfo(insert->rinfo, insert->log, 0, NULL, 0);
	ExecOpenIndices(insert->rinfo, false);
	insert->slots = palloc0(sizeof(TupleTableSlot *) * INSERT_CHUNK);
	return insert;
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
	wake_readers(insert->stream);
	for (int done = 0; done < n; done += INSERT_CHUNK)
		insert_chunk(insert, slots + done, Min(n - done, INSERT_CHUNK));
}

void
sx_queue_insert_end(SxQueueInsert *insert)
{
	for (int i = 0; i < insert->nslots; i++)
		ExecDropSingleTupleTableSlot(insert->slots[i]);
	ExecCloseIndices(insert->rinfo);
	table_close(insert->log, NoLock);
	FreeExecutorState(insert->estate);
}
