/*-------------------------------------------------------------------------
 *
 * table_feed.c
 *		The trigger that copies new rows of a table into the log of a stream.
 *
 * It is AFTER INSERT FOR EACH ROW, so it sees what was really inserted, with generated
 * columns; not the updates of INSERT … ON CONFLICT DO UPDATE; and it fires for rows
 * that come by COPY, MERGE or logical replication (ENABLE ALWAYS) as well.  It writes
 * within the inserting transaction: the log's row commits or goes with the table's.
 *
 * The trigger belongs to its stream by an internal dependency, and only that says which
 * stream: a trigger that somebody else makes with this function feeds nothing.  On a
 * partitioned table the server clones it to each partition; the clone's columns are found
 * by their names in the partitioned table, as their numbers may differ.
 *
 * What a statement needs is looked up at its first row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/depend.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "catalog/sx_catalog.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "source/queue.h"
#include "source/table.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

typedef struct Feed
{
	Oid			trigger;
	SxQueueInsert *insert;
	int			natts;			/* of the stream */
	AttrNumber *columns;		/* of the table at hand, by attno - 1 of the stream */
	TupleTableSlot *row;		/* of the stream */
} Feed;

PG_FUNCTION_INFO_V1(sx_feed_stream);

/* ------------------------------------------------------------- trigger, stream */

static Oid
first_or_none(List *oids)
{
	return oids == NIL ? InvalidOid : linitial_oid(oids);
}

Oid
sx_table_trigger_of(Oid stream)
{
	return first_or_none(sx_dependents(TriggerRelationId, RelationRelationId, stream,
									   DEPENDENCY_INTERNAL));
}

Oid
sx_table_stream_of(Oid trigger)
{
	return first_or_none(sx_dependencies(TriggerRelationId, trigger, RelationRelationId,
										 DEPENDENCY_INTERNAL));
}

/* Arguments are kept one behind the other, each with its zero byte. */
static void
read_arguments(Relation triggers, HeapTuple tuple, SxTriggerInfo *info)
{
	char	  **fields[] = {&info->map, &info->names, &info->log};
	bool		isnull;
	Datum		args = heap_getattr(tuple, Anum_pg_trigger_tgargs,
									RelationGetDescr(triggers), &isnull);
	int			n = ((Form_pg_trigger) GETSTRUCT(tuple))->tgnargs;
	bytea	   *bytes;
	const char *p;

	info->map = info->names = info->log = NULL;
	if (isnull)
		return;
	bytes = DatumGetByteaPP(args);
	p = VARDATA_ANY(bytes);
	for (int i = 0; i < Min(n, lengthof(fields)); i++)
	{
		*fields[i] = pstrdup(p);
		p += strlen(p) + 1;
	}
}

bool
sx_table_trigger_info(Oid trigger, SxTriggerInfo *info)
{
	Relation	triggers = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(trigger));
	scan = systable_beginscan(triggers, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		info->table = form->tgrelid;
		info->parent = form->tgparentid;
		info->function = form->tgfoid;
		read_arguments(triggers, tuple, info);
	}
	systable_endscan(scan);
	table_close(triggers, AccessShareLock);
	return HeapTupleIsValid(tuple);
}

/* ----------------------------------------------------------------- the mapping */

char *
sx_table_map_text(const SxStream *stream, const AttrNumber *map)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < stream->natts; i++)
	{
		if (map[i] != 0)
			appendStringInfo(&buf, "%s%d:%d", buf.len > 0 ? " " : "", i + 1, map[i]);
	}
	return buf.data;
}

AttrNumber *
sx_table_map_parse(const SxStream *stream, const char *text)
{
	AttrNumber *map = palloc0(sizeof(AttrNumber) * Max(stream->natts, 1));
	const char *p = text;
	int			attno;
	int			from;
	int			len;

	while (sscanf(p, " %d:%d%n", &attno, &from, &len) == 2)
	{
		if (attno > 0 && attno <= stream->natts && !stream->columns[attno - 1].dropped)
			map[attno - 1] = from;
		p += len;
	}
	return map;
}

/* ------------------------------------------------------------------- the trigger */

static void
refuse_trigger(const TriggerData *trigdata)
{
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("trigger \"%s\" of table \"%s\" belongs to no stream",
					trigdata->tg_trigger->tgname,
					RelationGetRelationName(trigdata->tg_relation)),
			 errhint("DROP TRIGGER; CREATE STREAM … WITH (connector = 'table') makes such triggers itself.")));
}

/* Where the root table's columns are in the relation at hand, by name. */
static void
translate_columns(AttrNumber *columns, int n, Oid root, Relation rel)
{
	if (root == RelationGetRelid(rel))
		return;
	for (int i = 0; i < n; i++)
	{
		if (columns[i] != 0)
			columns[i] = get_attnum(RelationGetRelid(rel), get_attname(root, columns[i], false));
	}
}

static Feed *
open_feed(const TriggerData *trigdata)
{
	Feed	   *feed = palloc0(sizeof(Feed));
	Oid			trigger = trigdata->tg_trigger->tgoid;
	SxTriggerInfo info;
	Oid			relid;
	SxStream   *stream;

	if (!sx_table_trigger_info(trigger, &info))
		refuse_trigger(trigdata);
	while (OidIsValid(info.parent))
	{
		trigger = info.parent;
		if (!sx_table_trigger_info(trigger, &info))
			refuse_trigger(trigdata);
	}
	relid = sx_table_stream_of(trigger);
	if (!OidIsValid(relid))
	{
		sx_adopt_restored();
		relid = sx_table_stream_of(trigger);
	}
	if (!OidIsValid(relid) || info.map == NULL)
		refuse_trigger(trigdata);

	stream = sx_stream_load(relid);
	feed->trigger = trigdata->tg_trigger->tgoid;
	feed->natts = stream->natts;
	feed->columns = sx_table_map_parse(stream, info.map);
	translate_columns(feed->columns, feed->natts, info.table, trigdata->tg_relation);
	feed->insert = sx_queue_insert_prepare(stream);
	feed->row = MakeSingleTupleTableSlot(stream->tupdesc, &TTSOpsVirtual);
	return feed;
}

static void
fill_row(Feed *feed, TupleTableSlot *slot)
{
	TupleTableSlot *row = feed->row;

	ExecClearTuple(row);
	slot_getallattrs(slot);
	for (int i = 0; i < feed->natts; i++)
	{
		AttrNumber	attno = feed->columns[i];

		row->tts_isnull[i] = attno == 0 || slot->tts_isnull[attno - 1];
		row->tts_values[i] = row->tts_isnull[i] ? (Datum) 0 : slot->tts_values[attno - 1];
	}
	ExecStoreVirtualTuple(row);
}

Datum
sx_feed_stream(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Feed	   *feed = fcinfo->flinfo->fn_extra;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("this function must be called by a trigger AFTER INSERT FOR EACH ROW")));

	if (feed == NULL || feed->trigger != trigdata->tg_trigger->tgoid)
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		feed = open_feed(trigdata);
		fcinfo->flinfo->fn_extra = feed;
		MemoryContextSwitchTo(old);
	}
	fill_row(feed, trigdata->tg_trigslot);
	sx_queue_insert_open(feed->insert, 1);
	sx_queue_insert(feed->insert, &feed->row, 1);
	sx_queue_insert_close(feed->insert);
	ExecClearTuple(feed->row);
	return PointerGetDatum(NULL);
}
