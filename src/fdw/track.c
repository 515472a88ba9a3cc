/*-------------------------------------------------------------------------
 *
 * track.c
 *		Highest event times, and records that failed, of the batch in progress.
 *
 * Event times are gathered per partition in input->part_max, which starts from the
 * committed value with every attempt at the batch and becomes the partition's own
 * value when the batch commits.  input->tracked is the number of leading records
 * that are accounted for.
 *
 * A record that failed in any step does not move the watermark.  So when a failure
 * shows after the record was accounted for, the attempt is worthless and the batch
 * runs again with the failure known.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/string.h"
#include "fdw/track.h"
#include "format/format.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

/* Microseconds of an event time of any of its three types, taken as UTC. */
static TimestampTz
event_time_value(Oid type, Datum value)
{
	if (type == DATEOID)
	{
		DateADT		date = DatumGetDateADT(value);

		if (DATE_NOT_FINITE(date))
			return DATE_IS_NOBEGIN(date) ? DT_NOBEGIN : DT_NOEND;
		return (TimestampTz) date * USECS_PER_DAY;
	}
	return DatumGetTimestampTz(value);
}

static bool
failed_anywhere(const SxPipeline *pl, const SxInput *input, int i)
{
	if (sx_input_is_bad(input, i, -1))
		return true;
	for (int s = 0; input->bad_for != NULL && s < pl->nsteps; s++)
	{
		if (sx_input_is_bad(input, i, s))
			return true;
	}
	return false;
}

void
sx_track_row(SxPipeline *pl, SxInput *input, int i,
			 const Datum *values, const bool *isnull)
{
	const SxStream *stream = input->source->stream;
	int			a = stream->event_time - 1;
	TimestampTz *highest = &input->part_max[input->source->records[i]->part];
	TimestampTz time;

	input->tracked = i + 1;
	if (isnull[a] || ((input->bad || input->bad_for) && failed_anywhere(pl, input, i)))
		return;
	time = event_time_value(stream->event_time_type, values[a]);
	if (time <= *highest || TIMESTAMP_NOT_FINITE(time))
		return;
	if (stream->max_future_skew >= 0 &&
		time > input->skew_limit)
	{
		input->future_rows++;
		return;
	}
	*highest = time;
}

void
sx_track_rest(SxPipeline *pl, SxInput *input)
{
	SxSource   *source = input->source;
	SxStream   *stream = source->stream;
	MemoryContext row_context;
	MemoryContext old;
	Datum	   *values;
	bool	   *isnull;
	bool	   *needed;
	SxDecoder  *decoder = NULL;

	if (!stream->has_watermark || input->tracked >= source->nrecords)
		return;

	values = palloc0(sizeof(Datum) * stream->natts);
	isnull = palloc0(sizeof(bool) * stream->natts);
	needed = palloc0(sizeof(bool) * stream->natts);
	needed[stream->event_time - 1] = true;
	if (source->get_row == NULL)
		decoder = stream->format->create(stream, needed);
	row_context = AllocSetContextCreate(CurrentMemoryContext, "streamext event times",
										ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(row_context);
	while (input->tracked < source->nrecords)
	{
		int			i = input->tracked;
		SxDecodeError err;

		MemoryContextReset(row_context);
		if (failed_anywhere(pl, input, i))
			input->tracked++;
		else if (source->get_row != NULL)
		{
			source->get_row(source, i, values, isnull);
			sx_track_row(pl, input, i, values, isnull);
		}
		else if (stream->columns[stream->event_time - 1].metadata == SX_META_TIMESTAMP)
		{
			isnull[stream->event_time - 1] = !source->records[i]->has_timestamp;
			values[stream->event_time - 1] =
				TimestampTzGetDatum(sx_record_time(source->records[i]));
			sx_track_row(pl, input, i, values, isnull);
		}
		else if (stream->format->decode(decoder, source->records[i], values, isnull,
										&err) == SX_DECODE_OK)
			sx_track_row(pl, input, i, values, isnull);
		else
			input->tracked++;	/* no step read it, so it failed for none */
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(row_context);
}

void
sx_note_dead(SxPipeline *pl, int input, int i, int step, int sqlerrcode,
			 const char *message)
{
	MemoryContext old = MemoryContextSwitchTo(pl->batch_context);
	SxDeadRecord *dead = palloc(sizeof(SxDeadRecord));

	dead->source = input;
	dead->record = i;
	dead->step = step;
	dead->sqlerrcode = sqlerrcode;
	dead->message = pstrdup(message);
	dead->left_out = NULL;
	pl->dead = lappend(pl->dead, dead);
	MemoryContextSwitchTo(old);
}

void
sx_leave_out(SxPipeline *pl, SxInput *input, int i, int step)
{
	MemoryContext old = MemoryContextSwitchTo(pl->batch_context);

	if (step < 0)
		input->bad = bms_add_member(input->bad, i);
	else
	{
		if (input->bad_for == NULL)
			input->bad_for = palloc0(sizeof(Bitmapset *) * pl->nsteps);
		input->bad_for[step] = bms_add_member(input->bad_for[step], i);
	}
	MemoryContextSwitchTo(old);
}

bool
sx_batch_bad_record(SxPipeline *pl, SxInput *input, int i, int step,
					int sqlerrcode, const char *message)
{
	if (sx_input_is_bad(input, i, step))
		return false;
	if (strcmp(pl->on_error, "stop") == 0 && pl->replay == NULL)
	{
		pl->record_named = true;
		ereport(ERROR,
				(errcode(sqlerrcode),
				 errmsg("record at %s of stream %s failed: %s",
						sx_record_place(input->source, i),
						input->source->stream->label, message)));
	}

	sx_note_dead(pl, input->index, i, step, sqlerrcode, message);
	sx_leave_out(pl, input, i, step);

	/* Has somebody seen it already in this attempt? */
	if (i < input->tracked ||
		(step < 0 && pl->running_step > 0) ||
		(pl->running_step >= 0 && pl->steps[pl->running_step].scans > 1))
		pl->must_restart = true;
	return true;
}

/* A part of a header as a JSON string: its text, or in hexadecimal what is none. */
static void
append_header_text(StringInfo buf, const char *p, int len)
{
	char	   *text = pnstrdup(p, len);

	if (strlen(text) == (size_t) len && pg_verify_mbstr(PG_UTF8, text, len, true) &&
		(GetDatabaseEncoding() == PG_UTF8 || pg_is_ascii(text)))
		escape_json(buf, text);
	else
	{
		bytea	   *raw = (bytea *) cstring_to_text_with_len(p, len);

		escape_json(buf, DatumGetCString(DirectFunctionCall1(byteaout, PointerGetDatum(raw))));
		pfree(raw);
	}
	pfree(text);
}

Datum
sx_headers_jsonb(const SxRecord *rec)
{
	const char *p = sx_record_headers(rec);
	const char *end = p + Max(rec->headers_len, 0);
	SxHeader	header;
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '{');
	while (p != NULL && sx_header_next(&p, end, &header))
	{
		if (buf.len > 1)
			appendStringInfoString(&buf, ", ");
		append_header_text(&buf, header.name, header.name_len);
		appendStringInfoString(&buf, ": ");
		if (header.value == NULL)
			appendStringInfoString(&buf, "null");
		else
			append_header_text(&buf, header.value, header.value_len);
	}
	appendStringInfoChar(&buf, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(buf.data));
}
