/*-------------------------------------------------------------------------
 *
 * stream.c
 *		Reads the definition of a stream from the catalogs.
 *
 * Options of the stream come before those of its server, so a server can hold what
 * many streams share.  Options were checked when they were given (ddl/options.c);
 * what depends on several of them, or on the columns, is checked here, at each
 * load, because ALTER can change either.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/sx_catalog.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "ddl/ddl.h"
#include "fdw/stream.h"
#include "foreign/foreign.h"
#include "format/format.h"
#include "format/path.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "source/source.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

bool
sx_is_stream_table(Oid relid)
{
	if (get_rel_relkind(relid) != RELKIND_FOREIGN_TABLE)
		return false;
	return GetForeignServer(GetForeignTable(relid)->serverid)->fdwid == sx_fdw_oid();
}

/*
 * The option is set when a stream is registered, so a foreign table that is created with
 * it comes from a dump, and its rows of streamext.* come with the dump as well.
 */
bool
sx_is_restored_table(Oid relid)
{
	return sx_is_stream_table(relid) &&
		sx_option(GetForeignTable(relid)->options, SX_KIND_OPTION) != NULL &&
		sx_relation_kind(relid) == SX_REL_NONE;
}

char *
sx_relation_label(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		return psprintf("%u", relid);
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  name);
}

static const struct
{
	const char *name;
	SxMetadata	metadata;
	Oid			types[3];
}			metadata_columns[] =
{
	{"partition", SX_META_PARTITION, {INT4OID, INT8OID}},
	{"offset", SX_META_OFFSET, {INT8OID}},
	{"key", SX_META_KEY, {BYTEAOID, TEXTOID, VARCHAROID}},
	{"timestamp", SX_META_TIMESTAMP, {TIMESTAMPTZOID}},
	{"headers", SX_META_HEADERS, {JSONBOID}},
	{"topic", SX_META_TOPIC, {TEXTOID, VARCHAROID}},
	{"raw", SX_META_RAW, {BYTEAOID, TEXTOID, VARCHAROID}}
};

static SxMetadata
column_metadata(const SxStream *stream, const SxColumn *column, const char *name)
{
	for (int i = 0; i < lengthof(metadata_columns); i++)
	{
		if (strcmp(metadata_columns[i].name, name) != 0)
			continue;
		for (int t = 0; t < lengthof(metadata_columns[i].types); t++)
		{
			if (metadata_columns[i].types[t] == column->base_type)
				return metadata_columns[i].metadata;
		}
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of stream %s cannot hold the metadata \"%s\"",
						column->name, stream->label, name),
				 errhint("Declare it as %s.",
						 format_type_be(metadata_columns[i].types[0]))));
	}
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 errmsg("unknown metadata \"%s\" for column \"%s\"", name, column->name),
			 errhint("Metadata are partition, offset, key, timestamp, headers, topic and raw.")));
}

static void
load_columns(SxStream *stream)
{
	stream->columns = palloc0(sizeof(SxColumn) * Max(stream->natts, 1));
	for (int i = 0; i < stream->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(stream->tupdesc, i);
		SxColumn   *column = &stream->columns[i];
		List	   *options;
		const char *metadata;

		column->attno = att->attnum;
		column->name = pstrdup(NameStr(att->attname));
		column->dropped = att->attisdropped;
		if (column->dropped)
			continue;
		column->type = att->atttypid;
		column->typmod = att->atttypmod;
		column->base_type = getBaseType(att->atttypid);
		column->notnull = att->attnotnull;

		options = GetForeignColumnOptions(stream->relid, att->attnum);
		metadata = sx_option(options, "metadata");
		if (metadata != NULL)
			column->metadata = column_metadata(stream, column, metadata);
		if (sx_option(options, "path") != NULL)
		{
			column->path = pstrdup(sx_option(options, "path"));
			if (stream->format == &sx_format_json)
				(void) sx_path_parse(column->path);
		}
	}
}

/* The event_time column, how far behind the newest event we wait, and skew. */
static void
load_event_time(SxStream *stream)
{
	const char *name = sx_stream_option(stream, "event_time", NULL);
	const char *delay = sx_stream_option(stream, "watermark", NULL);

	if (name == NULL)
	{
		if (delay != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"watermark\" of stream %s needs the option \"event_time\"",
							stream->label),
					 errhint("Name the column that holds the time of the event: event_time = '…'.")));
		return;
	}

	for (int i = 0; i < stream->natts; i++)
	{
		SxColumn   *column = &stream->columns[i];

		if (!column->dropped && strcmp(column->name, name) == 0)
		{
			stream->event_time = column->attno;
			stream->event_time_type = column->base_type;
		}
	}
	if (stream->event_time == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" named by option \"event_time\" of stream %s does not exist",
						name, stream->label)));
	if (stream->event_time_type != TIMESTAMPTZOID &&
		stream->event_time_type != TIMESTAMPOID &&
		stream->event_time_type != DATEOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("event_time column \"%s\" of stream %s is of type %s",
						name, stream->label, format_type_be(stream->event_time_type)),
				 errhint("Declare it as timestamptz, timestamp or date.")));

	if (delay != NULL)
	{
		stream->has_watermark = true;
		stream->watermark_delay = sx_interval_option_usec("watermark", delay);
		if (stream->watermark_delay < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"watermark\" must not be negative")));
	}
}

SxStream *
sx_stream_load(Oid relid)
{
	SxStream   *stream = palloc0(sizeof(SxStream));
	ForeignTable *table;
	ForeignServer *server;
	Relation	rel;
	const char *format;

	if (!sx_is_stream_table(relid))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is not a stream with a connector", sx_relation_label(relid))));

	table = GetForeignTable(relid);
	server = GetForeignServer(table->serverid);
	rel = relation_open(relid, AccessShareLock);
	stream->relid = relid;
	stream->owner = rel->rd_rel->relowner;
	stream->owner_is_superuser = superuser_arg(stream->owner);
	stream->schema = get_namespace_name(RelationGetNamespace(rel));
	stream->name = pstrdup(RelationGetRelationName(rel));
	stream->label = quote_qualified_identifier(stream->schema, stream->name);
	stream->tupdesc = CreateTupleDescCopyConstr(RelationGetDescr(rel));
	stream->natts = stream->tupdesc->natts;
	relation_close(rel, AccessShareLock);

	stream->serverid = server->serverid;
	stream->options = list_concat_copy(table->options, server->options);
	stream->source = sx_source_find(sx_stream_option(stream, "connector", ""));
	format = sx_stream_option(stream, "format", NULL);

	/* A sink is not read, even where its connector could. */
	if (stream->source != NULL &&
		(sx_relation_kind(relid) == SX_REL_SINK ||
		 strcmp(sx_stream_option(stream, SX_KIND_OPTION, ""), "sink") == 0))
		stream->source = NULL;
	else if (format != NULL)
		stream->format = sx_format_find(format);
	else if (stream->source == &sx_source_kafka || stream->source == &sx_source_file)
		stream->format = &sx_format_json;
	else if (stream->source == &sx_source_socket)
		stream->format = &sx_format_text;
	stream->allow_special = sx_stream_option_bool(stream, "allow_special", false);
	stream->max_future_skew =
		sx_interval_option_usec("max_future_skew",
								sx_stream_option(stream, "max_future_skew", "1 hour"));

	load_columns(stream);
	load_event_time(stream);
	return stream;
}

const char *
sx_stream_option(const SxStream *stream, const char *name, const char *dflt)
{
	const char *value = sx_option(stream->options, name);

	return value != NULL ? value : dflt;
}

bool
sx_stream_option_bool(const SxStream *stream, const char *name, bool dflt)
{
	const char *value = sx_option(stream->options, name);
	bool		result;

	if (value == NULL)
		return dflt;
	if (!parse_bool(value, &result))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" needs on or off, not \"%s\"", name, value)));
	return result;
}

int64
sx_stream_option_int(const SxStream *stream, const char *name, int64 dflt)
{
	const char *value = sx_option(stream->options, name);

	return value == NULL ? dflt :
		DatumGetInt64(DirectFunctionCall1(int8in, CStringGetDatum(value)));
}

void
sx_stream_set_option(const SxStream *stream, const char *name, const char *value)
{
	Relation	tables = table_open(ForeignTableRelationId, RowExclusiveLock);
	HeapTuple	tuple = SearchSysCacheCopy1(FOREIGNTABLEREL, ObjectIdGetDatum(stream->relid));
	bool		given = sx_option(GetForeignTable(stream->relid)->options, name) != NULL;
	DefElem    *option = makeDefElemExtended(NULL, pstrdup(name),
											 (Node *) makeString(pstrdup(value)),
											 given ? DEFELEM_SET : DEFELEM_ADD, -1);
	Datum		values[Natts_pg_foreign_table] = {0};
	bool		nulls[Natts_pg_foreign_table] = {0};
	bool		replace[Natts_pg_foreign_table] = {0};
	Datum		old;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for foreign table %u", stream->relid);
	old = SysCacheGetAttr(FOREIGNTABLEREL, tuple, Anum_pg_foreign_table_ftoptions, &isnull);
	values[Anum_pg_foreign_table_ftoptions - 1] =
		transformGenericOptions(ForeignTableRelationId, isnull ? PointerGetDatum(NULL) : old,
								list_make1(option), InvalidOid);
	replace[Anum_pg_foreign_table_ftoptions - 1] = true;
	tuple = heap_modify_tuple(tuple, RelationGetDescr(tables), values, nulls, replace);
	CatalogTupleUpdate(tables, &tuple->t_self, tuple);
	table_close(tables, RowExclusiveLock);
	CommandCounterIncrement();
}

int64
sx_interval_option_usec(const char *option, const char *value)
{
	Interval   *interval =
	DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(value),
										  ObjectIdGetDatum(InvalidOid),
										  Int32GetDatum(-1)));

	if (interval->month != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" must not be given in months or years", option),
				 errhint("Months differ in length: use days or hours.")));
	return interval->time + interval->day * USECS_PER_DAY;
}

/* ---------- partitions of several workers ---------- */

static uint32
hash_name(const char *name, size_t len)
{
	return DatumGetUInt32(hash_any((const unsigned char *) name, (int) len));
}

/*
 * The number of the partition decides, and where there are several topics, whose numbers
 * all begin at 0, the name of the topic as well.
 */
bool
sx_slot_reads(const SxStream *stream, const char *partition)
{
	const char *slash = strrchr(partition, '/');
	uint32		number = (uint32) strtoul(slash != NULL ? slash + 1 : partition, NULL, 10);

	if (stream->slots <= 1)
		return true;
	if (slash != NULL)
		number += hash_name(partition, slash - partition);
	return number % stream->slots == stream->slot;
}

/* A file by its name, without the folder. */
bool
sx_slot_reads_file(const SxStream *stream, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash != NULL ? slash + 1 : path;

	return stream->slots <= 1 || hash_name(name, strlen(name)) % stream->slots == stream->slot;
}
