/*-------------------------------------------------------------------------
 *
 * scan.c
 *		Scanning a stream: inside a batch, its records; outside, a peek.
 *
 * The records are in memory when a scan begins: the source has fixed them in
 * load().  A scan walks them in arrival order, skips those that failed, decodes the
 * columns that the query reads and hands them out.
 *
 * Event time.  The first scan to pass a record raises the highest event time of its
 * partition, so a stream with a watermark always decodes that column.  What no scan
 * has passed is made up for at the end of the batch (sx_track_rest).
 *
 * Bad records.  A record that cannot be decoded at all is no step's; one whose column
 * is bad is not this step's.  The scan notes it and goes on.  That is right as long as
 * nobody has seen the record before; otherwise the batch must run once more, knowing
 * about it from the start (pl->must_restart).
 *
 * Every tuple's ctid is the ordinal of its record (sx_ordinal_to_tid), which lets a
 * statement say which records it means.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/sx_catalog.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "fdw/ordinal.h"
#include "fdw/row_check.h"
#include "fdw/scan.h"
#include "fdw/scan_rows.h"
#include "fdw/shared.h"
#include "fdw/stream.h"
#include "fdw/track.h"
#include "format/format.h"
#include "lib/ilist.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "source/rights.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "worker/batch_internal.h"

#define RECORDS_AHEAD	4
#define BYTES_AHEAD		256		/* of a record; the processor goes on by itself */

struct SxScan
{
	MemoryContext context;		/* for a peek: owns the source */
	dlist_node	node;			/* in open_scans, when it is one of a batch */
	bool		cut;			/* what it scans is gone */
	SxPipeline *pl;				/* NULL: a peek */
	SxInput    *input;
	SxInput		peeked;			/* what input points to in a peek */
	SxSource   *source;
	SxStream   *stream;
	SxDecoder  *decoder;		/* NULL: the source has rows, or so far all was shared */
	bool	   *needed;			/* by attno - 1: read, and no metadata */
	SxSharedRows *shared;		/* columns come from there; NULL: decoded here */
	int		   *from_shared;	/* … those that are read */
	int			nfrom_shared;
	AttrNumber *meta;			/* metadata columns that are read */
	int			nmeta;
	int			natts;
	bool		track;			/* raise the highest event time on the way */
	int			next;
	SxRows	   *rows;			/* not NULL: a stream with rows of its own */
	SxRowScan  *row_scan;		/* … in place of all but context */
	bool		peeked_rows;	/* rows are of a peek, and its own */
};

/* Scans within batches. */
static dlist_head open_scans = DLIST_STATIC_INIT(open_scans);

/* ---------- scans that outlive their batch ---------- */

static void
forget_scan(void *arg)
{
	dlist_delete(&((SxScan *) arg)->node);
}

/* EndForeignScan is not called after an error, so it goes from the list with its memory. */
static void
remember_scan(SxScan *scan)
{
	MemoryContextCallback *callback = palloc(sizeof(MemoryContextCallback));

	dlist_push_head(&open_scans, &scan->node);
	callback->func = forget_scan;
	callback->arg = scan;
	MemoryContextRegisterResetCallback(scan->context, callback);
}

void
sx_scans_cut(const SxRows *rows)
{
	dlist_iter	iter;

	dlist_foreach(iter, &open_scans)
	{
		SxScan	   *scan = dlist_container(SxScan, node, iter.cur);

		if (rows == NULL || scan->rows == rows)
			scan->cut = true;
	}
}

static void
require_rows(const SxScan *scan)
{
	if (scan->cut)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the rows that this cursor reads are gone"),
				 errdetail("They were those of a batch, for the step that opened the cursor."),
				 errhint("Close the cursor in the function that opens it.")));
}

/* ---------- what is scanned ---------- */

static SxInput *
batch_input(SxPipeline *pl, Oid relid)
{
	for (int i = 0; i < pl->ninputs; i++)
	{
		if (pl->inputs[i].source->stream->relid == relid)
			return &pl->inputs[i];
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("stream %s is not read by pipeline \"%s\"",
					sx_relation_label(relid), pl->name),
			 errdetail("Inside a batch only the streams of its pipeline can be read."),
			 errhint("Name the stream in the query itself, so that its pipeline reads it.")));
}

static void
close_peek(void *arg)
{
	SxSource   *source = arg;

	source->ops->close(source);
}

/* Opens the source outside any pipeline and reads what is there now. */
static void
begin_peek(SxScan *scan, Oid relid)
{
	MemoryContextCallback *callback;
	SxStream   *stream = sx_stream_load(relid);

	if (stream->source == NULL || stream->source->peek == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("stream %s cannot be read", stream->label),
				 errdetail("Its connector \"%s\" only writes.",
						   sx_stream_option(stream, "connector", ""))));
	sx_stream_check_rights(stream);
	scan->source = stream->source->open(stream, 0, NULL, 0);
	callback = palloc(sizeof(MemoryContextCallback));
	callback->func = close_peek;
	callback->arg = scan->source;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	scan->source->ops->peek(scan->source);

	scan->input = &scan->peeked;
	scan->peeked.source = scan->source;
	scan->peeked.probe_to = scan->source->nrecords;
}

/* Splits the columns that are read into decoded ones and metadata. */
static void
choose_columns(SxScan *scan, const Bitmapset *attrs)
{
	SxStream   *stream = scan->stream;
	bool	   *needed = palloc0(sizeof(bool) * Max(stream->natts, 1));

	scan->needed = needed;
	scan->meta = palloc(sizeof(AttrNumber) * Max(stream->natts, 1));
	for (int i = 0; i < stream->natts; i++)
	{
		SxColumn   *column = &stream->columns[i];

		if (column->dropped)
			continue;
		if (!bms_is_member(i + 1, attrs) &&
			!(scan->track && stream->event_time == i + 1))
			continue;
		if (column->metadata != SX_META_NONE)
			scan->meta[scan->nmeta++] = i + 1;
		else
			needed[i] = true;
	}
}

/*
 * A record must be decodable even when the query needs none of its columns, as in
 * count(*): else what counts as a record would depend on the query.
 */
static void
make_decoder(SxScan *scan)
{
	MemoryContext old = MemoryContextSwitchTo(scan->context);

	scan->decoder = scan->stream->format->create(scan->stream, scan->needed);
	MemoryContextSwitchTo(old);
}

/* Columns that others of the batch read too are decoded for all of them at once. */
static void
join_others(SxScan *scan)
{
	int			c = 0;

	if (scan->pl == NULL || scan->source->get_row != NULL)
		return;
	scan->shared = sx_sharing_join(scan->pl, scan->input, scan->needed);
	if (scan->shared == NULL)
		return;
	scan->from_shared = palloc(sizeof(int) * Max(scan->shared->ncolumns, 1));
	for (int i = 0; i < scan->stream->natts; i++)
	{
		if (!scan->needed[i])
			continue;
		while (scan->shared->columns[c].attno != i + 1)
			c++;
		scan->from_shared[scan->nfrom_shared++] = c;
	}
}

/*
 * Rows that the batch has made of a stream or sink; NULL when this is no relation
 * that has such rows.
 */
static SxRows *
batch_rows(SxPipeline *pl, Oid relid)
{
	SxStep	   *step = sx_find_step(pl, relid);

	if (step == NULL || step->output.desc == NULL)
		return NULL;
	if (step->output.store != NULL && step->ops->fill != NULL)
		step->ops->fill(pl, step);
	if (step->output.store == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("stream %s has no rows in this batch", sx_relation_label(relid)),
				 errhint("A function that reads it unseen says so in the stream or sink that calls it: WITH (source = '…').")));
	return &step->output;
}

/* Is this a stream or sink that is a foreign table with a query? */
static bool
has_query(Oid relid)
{
	SxRelKind	kind = sx_relation_kind(relid);

	return kind == SX_REL_DERIVED || kind == SX_REL_SINK;
}

/* Begins a scan of rows that are there already, if it is one. */
static bool
begin_rows(SxScan *scan, Relation rel)
{
	Oid			relid = RelationGetRelid(rel);

	if (sx_current != NULL)
		scan->rows = batch_rows(sx_current, relid);
	else if (has_query(relid))
	{
		scan->rows = sx_peek_rows(rel);
		scan->peeked_rows = true;
	}
	if (scan->rows == NULL)
		return false;
	scan->row_scan = sx_row_scan_begin(scan->rows);
	return true;
}

SxScan *
sx_scan_begin(Relation rel, const Bitmapset *attrs)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "streamext scan",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SxScan	   *scan = palloc0(sizeof(SxScan));

	scan->context = context;
	scan->natts = RelationGetDescr(rel)->natts;
	if (sx_current != NULL)
		remember_scan(scan);
	if (begin_rows(scan, rel))
	{
		MemoryContextSwitchTo(old);
		return scan;
	}
	if (sx_current != NULL)
	{
		scan->pl = sx_current;
		scan->input = batch_input(scan->pl, RelationGetRelid(rel));
		scan->source = scan->input->source;
		if (scan->pl->running_step >= 0)
			scan->pl->steps[scan->pl->running_step].scans++;
	}
	else
		begin_peek(scan, RelationGetRelid(rel));
	scan->stream = scan->source->stream;
	scan->track = scan->pl != NULL && scan->stream->has_watermark;
	choose_columns(scan, attrs);
	join_others(scan);
	if (scan->shared == NULL && scan->source->get_row == NULL)
		make_decoder(scan);
	sx_scan_rescan(scan);
	MemoryContextSwitchTo(old);
	return scan;
}

void
sx_scan_rescan(SxScan *scan)
{
	require_rows(scan);
	if (scan->row_scan != NULL)
		sx_row_scan_rescan(scan->row_scan);
	else
		scan->next = scan->input->probe_from;
}

void
sx_scan_end(SxScan *scan)
{
	if (scan->row_scan != NULL && !scan->cut)
		sx_row_scan_end(scan->row_scan);
	if (scan->peeked_rows)
		sx_rows_end(scan->rows);
	MemoryContextDelete(scan->context);
}

static Datum
bytes_datum(Oid type, const char *data, int len)
{
	if (type != BYTEAOID)
		(void) pg_verifymbstr(data, len, false);
	return PointerGetDatum(cstring_to_text_with_len(data, len));
}

/* The value of a metadata column. */
static Datum
metadata_value(const SxScan *scan, const SxColumn *column, int i, bool *isnull)
{
	const SxRecord *rec = scan->source->records[i];
	const SxPart *part = &scan->source->parts[rec->part];
	const char *topic;

	*isnull = false;
	switch (column->metadata)
	{
		case SX_META_PARTITION:
			return column->base_type == INT8OID ?
				Int64GetDatum(part->number) : Int32GetDatum(part->number);
		case SX_META_OFFSET:
			return Int64GetDatum(rec->offset);
		case SX_META_KEY:
			if (rec->key_len >= 0)
				return bytes_datum(column->base_type, sx_record_key(rec), rec->key_len);
			break;
		case SX_META_RAW:
			if (rec->value_len >= 0)
				return bytes_datum(column->base_type, sx_record_value(rec), rec->value_len);
			break;
		case SX_META_TIMESTAMP:
			if (rec->has_timestamp)
				return TimestampTzGetDatum(sx_record_time(rec));
			break;
		case SX_META_TOPIC:
			topic = sx_record_topic(scan->source, i);
			if (topic != NULL)
				return CStringGetTextDatum(topic);
			break;
		case SX_META_HEADERS:
			if (rec->headers_len > 0)
				return sx_headers_jsonb(rec);
			break;
		case SX_META_NONE:
			break;
	}
	*isnull = true;
	return (Datum) 0;
}

/*
 * Asks for the memory of a record that is still some records away.  Nobody of this
 * process has looked at more than its head, so decoding would wait for it.
 */
static void
fetch_ahead(const SxScan *scan, int i)
{
	const char *rec;

	if (scan->source->get_row != NULL || i + RECORDS_AHEAD >= scan->input->probe_to ||
		(scan->shared != NULL && i + RECORDS_AHEAD < scan->shared->upto))
		return;
	rec = (const char *) scan->source->records[i + RECORDS_AHEAD];
	for (int at = 0; at < BYTES_AHEAD; at += PG_CACHE_LINE_SIZE / 2)
		__builtin_prefetch(rec + at);
}

/* The columns that are decoded already. */
static inline void
take_shared(const SxScan *scan, int i, TupleTableSlot *slot)
{
	for (int c = 0; c < scan->nfrom_shared; c++)
	{
		const SxSharedColumn *column = &scan->shared->columns[scan->from_shared[c]];

		slot->tts_values[column->attno - 1] = column->values[i];
		slot->tts_isnull[column->attno - 1] = column->isnull[i];
	}
}

static inline void
take_metadata(const SxScan *scan, int i, TupleTableSlot *slot)
{
	for (int m = 0; m < scan->nmeta; m++)
	{
		int			a = scan->meta[m] - 1;

		slot->tts_values[a] = metadata_value(scan, &scan->stream->columns[a], i,
											 &slot->tts_isnull[a]);
	}
}

/* What others have not decoded.  Making a decoder is no record's doing. */
static SxDecodeResult
decode_record(SxScan *scan, const SxRecord *rec, TupleTableSlot *slot, SxDecodeError *err)
{
	if (scan->decoder == NULL)
	{
		int			decoding = scan->pl->decoding_input;

		scan->pl->decoding_input = -1;
		make_decoder(scan);
		scan->pl->decoding_input = decoding;
	}
	if (scan->pl != NULL)
		sx_sharing_missed(scan->input);
	return scan->stream->format->decode(scan->decoder, rec, slot->tts_values,
										slot->tts_isnull, err);
}

/* Fills one record's columns; false when it is bad, with err filled. */
static SxDecodeResult
fill_row(SxScan *scan, int i, TupleTableSlot *slot, SxDecodeError *err)
{
	const SxRecord *rec;
	SxDecodeResult result = SX_DECODE_OK;

	if (scan->shared != NULL && sx_sharing_has(scan->shared, i))
	{
		take_shared(scan, i, slot);
		take_metadata(scan, i, slot);
		return SX_DECODE_OK;
	}
	rec = scan->source->records[i];
	if (rec->oversize > 0)
	{
		err->sqlerrcode = ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		snprintf(err->message, sizeof(err->message),
				 "the record is larger than max_message_bytes allows: about %u kB",
				 (unsigned int) rec->oversize);
		return SX_DECODE_BAD_RECORD;
	}
	if (scan->source->get_row == NULL)
		result = decode_record(scan, rec, slot, err);
	else
	{
		scan->source->get_row(scan->source, i, slot->tts_values, slot->tts_isnull);
		if (scan->source->check_rows)
			result = sx_check_row(scan->stream, scan->needed, slot->tts_values,
								  slot->tts_isnull, err);
	}
	if (result == SX_DECODE_OK)
		take_metadata(scan, i, slot);
	return result;
}

/* A record that cannot be read: note it in a batch, say so in a peek. */
static void
bad_record(SxScan *scan, int i, SxDecodeResult result, const SxDecodeError *err)
{
	if (scan->pl == NULL)
	{
		ereport(WARNING,
				(errcode(err->sqlerrcode),
				 errmsg("record at %s of %s left out: %s",
						sx_record_place(scan->source, i), scan->stream->label,
						err->message)));
		return;
	}

	sx_batch_bad_record(scan->pl, scan->input, i,
						result == SX_DECODE_BAD_RECORD ? -1 : scan->pl->running_step,
						err->sqlerrcode, err->message);
}

bool
sx_scan_next(SxScan *scan, TupleTableSlot *slot)
{
	int			step;

	require_rows(scan);
	step = scan->pl != NULL ? scan->pl->running_step : -1;
	if (scan->row_scan != NULL)
		return sx_row_scan_next(scan->row_scan, slot);
	memset(slot->tts_isnull, true, scan->natts);
	if (scan->pl != NULL && !sx_replay_shows(scan->pl))
		return false;
	while (scan->next < scan->input->probe_to)
	{
		int			i = scan->next++;
		SxDecodeError err;
		SxDecodeResult result;

		if ((i & 255) == 0)
			CHECK_FOR_INTERRUPTS();
		fetch_ahead(scan, i);
		if (scan->pl == NULL)
			result = fill_row(scan, i, slot, &err);
		else
		{
			if (sx_input_is_bad(scan->input, i, step) ||
				sx_input_is_bad(scan->input, i, scan->pl->on_behalf))
				continue;
			scan->pl->decoding_input = scan->pl->read_input = scan->input->index;
			scan->pl->decoding_record = scan->pl->read_record = i;
			result = fill_row(scan, i, slot, &err);
			scan->pl->decoding_input = -1;
		}

		if (result == SX_DECODE_OK)
		{
			if (scan->track && i >= scan->input->tracked)
				sx_track_row(scan->pl, scan->input, i, slot->tts_values,
							 slot->tts_isnull);
			sx_ordinal_to_tid(i, &slot->tts_tid);
			return true;
		}
		bad_record(scan, i, result, &err);
	}
	return false;
}
