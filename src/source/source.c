/*-------------------------------------------------------------------------
 *
 * source.c
 *		The connectors that can be read, and what their sources share.
 *
 * Sources without partitions (all but kafka) have one part, named "".  Its
 * position is a small JSON object of the source's own making.  Strings of a part
 * are replaced outside any transaction, so they live in the source's context and
 * are freed one by one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "source/source.h"

static const SxSourceOps *const connectors[] = {
	&sx_source_kafka,
	&sx_source_file,
	&sx_source_rate,
	&sx_source_queue,
	&sx_source_socket,
	&sx_source_table,
	&sx_source_function
};

const SxSourceOps *
sx_source_find(const char *connector)
{
	for (int i = 0; i < lengthof(connectors); i++)
	{
		if (strcmp(connectors[i]->connector, connector) == 0)
			return connectors[i];
	}
	return NULL;
}

SxSource *
sx_source_create(Size size, const SxSourceOps *ops, SxStream *stream, int pipeline,
				 const SxPart *parts, int nparts)
{
	SxSource   *source = palloc0(size);
	SxPart	   *part = palloc0(sizeof(SxPart));

	part->name = pstrdup("");
	part->lag = part->saved_lag = -1;
	part->max_event_time = DT_NOBEGIN;
	if (nparts > 0)
	{
		part->position = parts[0].position ? pstrdup(parts[0].position) : NULL;
		part->anchor = parts[0].anchor ? pstrdup(parts[0].anchor) : NULL;
		part->max_event_time = parts[0].max_event_time;
	}

	source->ops = ops;
	source->stream = stream;
	source->pipeline = pipeline;
	source->context = CurrentMemoryContext;
	source->parts = part;
	source->nparts = 1;
	return source;
}

const char *
sx_record_topic(SxSource *source, int i)
{
	if (source->ops->record_topic != NULL)
		return source->ops->record_topic(source, i);
	return source->parts[source->records[i]->part].topic;
}

void
sx_row_dead_value(SxSource *source, int i, StringInfo buf)
{
	TupleDesc	desc = source->stream->tupdesc;
	Datum	   *values = palloc0(sizeof(Datum) * Max(desc->natts, 1));
	bool	   *isnull = palloc(sizeof(bool) * Max(desc->natts, 1));
	HeapTuple	tuple;
	Datum		row;

	memset(isnull, true, sizeof(bool) * desc->natts);
	source->get_row(source, i, values, isnull);
	tuple = heap_form_tuple(desc, values, isnull);
	row = heap_copy_tuple_as_datum(tuple, desc);
	appendStringInfoString(buf, TextDatumGetCString(DirectFunctionCall1(row_to_json, row)));
}

char *
sx_record_place(SxSource *source, int i)
{
	const SxRecord *rec = source->records[i];
	const char *name = source->parts[rec->part].name;

	/* what counts of a directory is the file */
	if (source->ops->record_topic != NULL && sx_record_topic(source, i) != NULL)
		return psprintf("file \"%s\" offset %lld", sx_record_topic(source, i),
						(long long) rec->offset);
	return psprintf("partition \"%s\" offset %lld", name, (long long) rec->offset);
}

void
sx_part_committed(SxPart *part)
{
	if (part->new_position != NULL)
	{
		if (part->position != NULL)
			pfree(part->position);
		part->position = part->new_position;
		part->new_position = NULL;
	}
	part->rows = 0;
}

void
sx_part_set(SxSource *source, char **field, const char *value)
{
	char	   *old = *field;

	*field = value ? MemoryContextStrdup(source->context, value) : NULL;
	if (old != NULL)
		pfree(old);
}

void
sx_source_show(SxSource *source, const SxRecordBuffer *buffer)
{
	source->records = buffer->records;
	source->nrecords = buffer->nrecords;
	source->nbytes = buffer->nbytes;
}

char *
sx_position_field(const char *position, const char *field)
{
	Jsonb	   *jsonb;
	JsonbValue	buffer;
	JsonbValue *value;

	if (position == NULL)
		return NULL;
	jsonb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(position)));
	if (!JB_ROOT_IS_OBJECT(jsonb))
		return NULL;
	value = getKeyJsonValueFromContainer(&jsonb->root, field, strlen(field), &buffer);
	if (value == NULL)
		return NULL;
	if (value->type == jbvString)
		return pnstrdup(value->val.string.val, value->val.string.len);
	if (value->type == jbvNumeric)
		return DatumGetCString(DirectFunctionCall1(numeric_out,
												   NumericGetDatum(value->val.numeric)));
	return NULL;
}

int64
sx_position_int(const char *position, const char *field, int64 dflt)
{
	char	   *digits = sx_position_field(position, field);

	return digits ? pg_strtoint64(digits) : dflt;
}

/* Rounds down, also before 1970. */
int64
sx_unix_ms(TimestampTz time)
{
	int64		epoch_ms = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) *
		SECS_PER_DAY * 1000;
	int64		ms = time / 1000;

	if (time % 1000 < 0)
		ms--;
	return ms + epoch_ms;
}

void
sx_nap(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
					 SX_WAIT_EVENT("StreamextSource"));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}
