/*-------------------------------------------------------------------------
 *
 * queue_log.c
 *		The log table behind a stream of connector 'queue' or 'table'.
 *
 * What is inserted into a queue stream, or into the table that a stream of connector
 * 'table' follows, goes into a table streamext_state.<stream>_log until every pipeline
 * that reads the stream has processed it:
 *
 *		_sx_seq			number of the row, in order of insertion
 *		_sx_xid			top-level transaction that inserted it
 *		_sx_written_at	when
 *		…				the stream's columns, by their names
 *
 * Nobody is granted INSERT or DELETE on it (log_table.c): rows come through
 * queue_insert.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/sx_catalog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "source/log_table.h"
#include "source/queue.h"
#include "source/source.h"
#include "streamext.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

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
sx_queue_create_log(Oid relid)
{
	SxStream   *stream = sx_stream_load(relid);
	StringInfoData columns;

	initStringInfo(&columns);
	appendStringInfoString(&columns,
						   "_sx_seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
						   "_sx_xid xid8 NOT NULL DEFAULT pg_current_xact_id(), "
						   "_sx_written_at timestamptz NOT NULL DEFAULT clock_timestamp()");
	append_columns(&columns, stream);
	sx_log_table_create(stream, columns.data, "CREATE INDEX ON %s (_sx_xid, _sx_seq)",
						psprintf("rows of the stream %s that are not processed yet",
								 stream->label));
}

/* -------------------------------------------------------------------- lookup */

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
	Oid			log = sx_log_table_of(stream);

	sx_exec_as(stream->owner,
			   psprintf("ALTER TABLE %s %s",
						quote_qualified_identifier(SX_STATE_SCHEMA, get_rel_name(log)),
						actions));
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
	Relation	log = table_open(sx_log_table_of(stream), AccessShareLock);
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
	const Oid	types[] = {INT8OID, XID8OID, TIMESTAMPTZOID};

	sx_log_table_check(sx_log_table_of(stream), log, types, lengthof(types));
	for (int i = 0; i < stream->natts; i++)
	{
		const SxColumn *column = &stream->columns[i];

		if (column->dropped || column->metadata != SX_META_NONE)
			continue;
		result[i] = column_of_log(log, column->name);
		if (result[i] == InvalidAttrNumber ||
			TupleDescAttr(log, result[i] - 1)->atttypid != column->type)
		{
			char	   *table = get_rel_name(sx_log_table_of(stream));

			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("the log of stream %s has no column \"%s\" of type %s",
							stream->label, column->name,
							format_type_be(column->type)),
					 errhint("Change the table %s.%s as the stream was changed, with ALTER TABLE.",
							 SX_STATE_SCHEMA, quote_identifier(table))));
		}
	}
	return result;
}

/* What all pipelines have processed: transactions below; false: not known yet. */
static bool
processed_bound(const SxStream *stream, Datum *xmin)
{
	Datum		values[] = {ObjectIdGetDatum(stream->relid)};
	bool		isnull;

	*xmin = sx_catalog_value("SELECT CASE WHEN bool_and(coalesce(p.position ? 'done', false)) "
							 "THEN min(pg_snapshot_xmin((p.position ->> 'done')::pg_snapshot)) END "
							 "FROM streamext.source s "
							 "LEFT JOIN streamext.partition p USING (pipeline, stream) "
							 "WHERE s.stream = $1", SX_ARGS(REGCLASSOID), values, NULL, &isnull);
	return !isnull;
}

void
sx_queue_trim(const SxStream *stream, Oid log)
{
	Datum		values[1];
	char	   *table = pstrdup(quote_qualified_identifier(SX_STATE_SCHEMA,
														   get_rel_name(log)));

	if (processed_bound(stream, &values[0]))
		sx_log_table_delete(log, stream->owner,
							psprintf("SELECT ctid FROM %s WHERE _sx_xid < $1 "
									 "FOR UPDATE SKIP LOCKED", table),
							SX_ARGS(XID8OID), values);
}

/* Numbers are given away in order, and none before the first that is left is coming. */
bool
sx_queue_lane_start(SxStream *stream, SxLaneStart *start)
{
	const char *table = quote_qualified_identifier(SX_STATE_SCHEMA,
												   get_rel_name(sx_log_table_of(stream)));
	bool		empty;
	Datum		first = sx_catalog_value(psprintf("SELECT min(_sx_seq) FROM %s", table),
										 0, NULL, NULL, NULL, &empty);

	if (start->shared == NULL)
		return true;
	if (empty)
		start->missing = psprintf("The log of %s is empty: what was in it was processed and deleted.",
								  stream->label);
	else if (DatumGetInt64(first) > 1)
		start->missing = psprintf("The log of %s begins with row " INT64_FORMAT
								  "; those before it were processed and deleted.",
								  stream->label, DatumGetInt64(first));
	return true;
}
