/*-------------------------------------------------------------------------
 *
 * dead_letter.c
 *		Writes the records that failed to streamext.dead_letter.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/sx_catalog.h"
#include "catalog/pg_type.h"
#include "fdw/track.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/timestamp.h"
#include "worker/batch_internal.h"

static Datum
bytes_or_null(const char *data, int len, char *null)
{
	*null = data == NULL ? 'n' : ' ';
	return data == NULL ? (Datum) 0 :
		PointerGetDatum(cstring_to_text_with_len(data, len));
}

static void
save_letter(const SxPipeline *pl, const SxDeadRecord *dead)
{
	SxSource   *source = pl->inputs[dead->source].source;
	const SxRecord *rec = source->records[dead->record];
	const SxPart *part = &source->parts[rec->part];
	const char *topic = sx_record_topic(source, dead->record);
	Oid			types[] = {
		INT4OID, REGCLASSOID, REGCLASSOID, INT8OID, TEXTOID, TEXTOID, INT8OID,
		TIMESTAMPTZOID, BYTEAOID, BYTEAOID, JSONBOID, TEXTOID, TEXTOID
	};
	Datum		values[lengthof(types)];
	char		nulls[lengthof(types)];
	const char *value = sx_record_value(rec);
	int			value_len = rec->value_len;

	memset(nulls, ' ', sizeof(nulls));
	if (source->ops->dead_value != NULL)
	{
		StringInfoData buf;

		initStringInfo(&buf);
		source->ops->dead_value(source, dead->record, &buf);
		value = buf.data;
		value_len = buf.len;
	}
	values[0] = Int32GetDatum(pl->id);
	values[1] = ObjectIdGetDatum(source->stream->relid);
	values[2] = ObjectIdGetDatum(dead->step < 0 ? InvalidOid : pl->steps[dead->step].relid);
	nulls[2] = dead->step < 0 ? 'n' : ' ';
	values[3] = Int64GetDatum(pl->batch_id + 1);
	values[4] = topic ? CStringGetTextDatum(topic) : (Datum) 0;
	nulls[4] = topic ? ' ' : 'n';
	values[5] = CStringGetTextDatum(part->name);
	values[6] = Int64GetDatum(rec->offset);
	values[7] = TimestampTzGetDatum(rec->has_timestamp ? sx_record_time(rec) : 0);
	nulls[7] = rec->has_timestamp ? ' ' : 'n';
	values[8] = bytes_or_null(sx_record_key(rec), rec->key_len, &nulls[8]);
	values[9] = bytes_or_null(value, value_len, &nulls[9]);
	nulls[10] = rec->headers_len > 0 ? ' ' : 'n';
	values[10] = rec->headers_len > 0 ? sx_headers_jsonb(rec) : (Datum) 0;
	values[11] = CStringGetTextDatum(unpack_sql_state(dead->sqlerrcode));
	values[12] = CStringGetTextDatum(dead->message);
	sx_catalog_exec("INSERT INTO streamext.dead_letter (pipeline, stream, step, batch_id, topic, "
					"partition, \"offset\", record_time, key, value, headers, sqlstate, message) "
					"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
					lengthof(types), types, values, nulls);
}

/* Letters for late rows are what the view asked for, whatever on_error says. */
bool
sx_becomes_letter(const SxPipeline *pl, const SxDeadRecord *dead)
{
	return dead->sqlerrcode == SX_ERRCODE_LATE || strcmp(pl->on_error, "skip") != 0;
}

int64
sx_save_dead_letters(SxPipeline *pl)
{
	int64		saved = 0;
	ListCell   *lc;

	foreach(lc, pl->dead)
	{
		if (!sx_becomes_letter(pl, lfirst(lc)))
			continue;
		save_letter(pl, lfirst(lc));
		saved++;
	}
	return saved;
}
