/*-------------------------------------------------------------------------
 *
 * shared.c
 *		Decoded columns that the scans of a batch share.
 *
 * With several views over a stream most of a further view's cost would be decoding the same
 * records again.  So the first scan that comes to a record decodes the columns that any scan
 * wants, and keeps them; the others take them from here.
 *
 *		scan of v1 reads k			record 0 1 2 3 …  k and v are decoded, k handed out
 *		scan of v2 reads k, v		record 0 1 2 3 …  taken from here
 *		scan of v3 reads k, raw		decodes by itself in the first batch; from the next
 *									one on raw is among the columns that are decoded
 *
 * Which columns these are has been seen in the batches before.  A source that is scanned
 * once in a batch is left alone, as keeping its columns would gain nothing.
 *
 * Who fails at a record does not change.  Only columns whose decoding tells its errors, and
 * never raises them, are shared.  A record of which one of the columns is bad is not kept at
 * all: each scan decodes it for itself, and only those that read that column find it bad.
 *
 * Text may be read according to settings of the session that created a view, so only scans
 * with the same settings share.
 *
 * The memory is bounded: records beyond the limit are decoded by each scan.  So are those
 * of probes, which are few and may begin anywhere.  All of it lives for one attempt at a
 * batch.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/nodeHash.h"
#include "fdw/shared.h"
#include "fdw/track.h"
#include "format/format.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "worker/batch_internal.h"

#define MOST_SETS		3			/* of columns of one source in an attempt */
#define LEAST_MEMORY	(16 * 1024 * 1024)
#define CHUNK			(64 * 1024) /* values by reference are laid into these */

/* As long as the pipeline: SxInput.sharing. */
typedef struct SxSharing
{
	int			natts;
	bool	   *can;			/* by attno - 1: the column can be shared */
	bool	   *read;			/* … some scan has read it so far */
	int			scans_before;	/* of the attempt before */
	MemoryContext context;		/* of all that follows; reset with each attempt */
	MemoryContext row;			/* what decoding one record leaves behind */
	List	   *sets;			/* of SxSharedRows */
	int			scans;
	int64		decoded;		/* records, each time */
	Size		used;			/* bytes */
	char	   *chunk;
	Size		chunk_left;
} SxSharing;

static SxSharing *
make_sharing(SxPipeline *pl, const SxInput *input)
{
	const SxStream *stream = input->source->stream;
	MemoryContext old = MemoryContextSwitchTo(pl->context);
	SxSharing  *sharing = palloc0(sizeof(SxSharing));

	sharing->natts = stream->natts;
	sharing->can = palloc0(sizeof(bool) * Max(stream->natts, 1));
	sharing->read = palloc0(sizeof(bool) * Max(stream->natts, 1));
	for (int i = 0; i < stream->natts; i++)
		sharing->can[i] = sx_column_is_soft(&stream->columns[i]);
	for (int i = 0; i < pl->nsteps; i++)
		sharing->scans_before += sx_step_reads(&pl->steps[i], input);
	sharing->context = AllocSetContextCreate(pl->context, "streamext shared columns",
											 ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(old);
	return sharing;
}

void
sx_sharing_begin(SxPipeline *pl, SxInput *input)
{
	SxSharing  *sharing = input->sharing;

	if (input->source->get_row != NULL)
		return;
	if (sharing == NULL)
		sharing = input->sharing = make_sharing(pl, input);
	else if (sharing->scans > 0)
		sharing->scans_before = sharing->scans;
	MemoryContextReset(sharing->context);
	sharing->row = NULL;
	sharing->sets = NIL;
	sharing->scans = 0;
	sharing->decoded = 0;
	sharing->used = sharing->chunk_left = 0;
}

void
sx_sharing_end(SxPipeline *pl)
{
	for (int i = 0; i < pl->ninputs; i++)
	{
		SxInput    *input = &pl->inputs[i];
		SxSharing  *sharing = input->sharing;

		if (sharing == NULL)
			continue;
		if (sharing->scans > 0)
			elog(DEBUG1, "stream %s: %d records, decoded " INT64_FORMAT " times for %d scans",
				 input->source->stream->label, input->source->nrecords, sharing->decoded,
				 sharing->scans);
		MemoryContextReset(sharing->context);
		sharing->sets = NIL;
	}
}

void
sx_sharing_missed(SxInput *input)
{
	input->sharing->decoded++;
}

/* ---------- sets of columns ---------- */

static Size
memory_limit(void)
{
	return Max(get_hash_memory_limit(), LEAST_MEMORY);
}

static bool
has_columns(const SxSharedRows *rows, const bool *needed, int natts)
{
	int			c = 0;

	for (int i = 0; i < natts; i++)
	{
		while (c < rows->ncolumns && rows->columns[c].attno < i + 1)
			c++;
		if (needed[i] && (c == rows->ncolumns || rows->columns[c].attno != i + 1))
			return false;
	}
	return true;
}

static bool
has_settings(const SxSharedRows *rows)
{
	return rows->date_style == DateStyle && rows->date_order == DateOrder &&
		rows->interval_style == IntervalStyle;
}

static void *
take(SxSharing *sharing, Size size)
{
	sharing->used += size;
	return MemoryContextAllocHuge(sharing->context, Max(size, 1));
}

static void
add_column(SxSharing *sharing, SxSharedRows *rows, const SxColumn *column)
{
	SxSharedColumn *shared = &rows->columns[rows->ncolumns++];

	shared->attno = column->attno;
	get_typlenbyval(column->type, &shared->typlen, &shared->byval);
	shared->values = take(sharing, sizeof(Datum) * rows->most);
	shared->isnull = take(sharing, sizeof(bool) * rows->most);
}

/* A set of all columns that are read so far, for as many records as there is memory for. */
static SxSharedRows *
make_rows(SxSharing *sharing, SxInput *input)
{
	const SxStream *stream = input->source->stream;
	int			n = input->source->nrecords;
	MemoryContext old = MemoryContextSwitchTo(sharing->context);
	SxSharedRows *rows = palloc0(sizeof(SxSharedRows));
	int			ncolumns = 0;
	Size		record;

	for (int i = 0; i < stream->natts; i++)
		ncolumns += sharing->read[i];
	record = sizeof(bool) + ncolumns * (sizeof(Datum) + sizeof(bool));
	rows->most = Min(n, (memory_limit() - sharing->used) / record);
	rows->input = input;
	rows->sharing = sharing;
	rows->columns = palloc(sizeof(SxSharedColumn) * Max(ncolumns, 1));
	rows->good = take(sharing, sizeof(bool) * rows->most);
	for (int i = 0; i < stream->natts; i++)
	{
		if (sharing->read[i])
			add_column(sharing, rows, &stream->columns[i]);
	}
	rows->row_values = palloc0(sizeof(Datum) * Max(stream->natts, 1));
	rows->row_isnull = palloc0(sizeof(bool) * Max(stream->natts, 1));
	rows->decoder = stream->format->create(stream, sharing->read);
	if (sharing->row == NULL)
		sharing->row = AllocSetContextCreate(sharing->context, "streamext shared record",
											 ALLOCSET_DEFAULT_SIZES);
	rows->date_style = DateStyle;
	rows->date_order = DateOrder;
	rows->interval_style = IntervalStyle;
	sharing->sets = lappend(sharing->sets, rows);
	MemoryContextSwitchTo(old);
	return rows;
}

SxSharedRows *
sx_sharing_join(SxPipeline *pl, SxInput *input, const bool *needed)
{
	SxSharing  *sharing = input->sharing;
	ListCell   *lc;

	if (pl->probing)
		return NULL;
	sharing->scans++;
	for (int i = 0; i < sharing->natts; i++)
	{
		if (needed[i] && !sharing->can[i])
			return NULL;
	}
	for (int i = 0; i < sharing->natts; i++)
		sharing->read[i] |= needed[i];
	if (Max(sharing->scans, sharing->scans_before) < 2)
		return NULL;
	foreach(lc, sharing->sets)
	{
		SxSharedRows *rows = lfirst(lc);

		if (has_settings(rows) && has_columns(rows, needed, sharing->natts))
			return rows;
	}
	if (list_length(sharing->sets) >= MOST_SETS || sharing->used >= memory_limit())
		return NULL;
	return make_rows(sharing, input);
}

/* ---------- records ---------- */

/* A copy that lives as long as the batch. */
static Datum
keep_value(SxSharing *sharing, const SxSharedColumn *column, Datum value)
{
	Size		size = datumGetSize(value, false, column->typlen);
	Size		room = MAXALIGN(size);
	char	   *copy;

	if (room > CHUNK / 4)
		copy = take(sharing, room);
	else
	{
		if (room > sharing->chunk_left)
		{
			sharing->chunk = take(sharing, CHUNK);
			sharing->chunk_left = CHUNK;
		}
		copy = sharing->chunk;
		sharing->chunk += room;
		sharing->chunk_left -= room;
	}
	memcpy(copy, DatumGetPointer(value), size);
	return PointerGetDatum(copy);
}

static bool
decode(SxSharedRows *rows, int i)
{
	SxSource   *source = rows->input->source;
	const SxRecord *rec = source->records[i];
	SxSharing  *sharing = rows->sharing;
	MemoryContext old;
	SxDecodeError err;
	SxDecodeResult result;

	if (rec->oversize > 0 || sx_input_is_bad(rows->input, i, -1))
		return false;
	sharing->decoded++;
	old = MemoryContextSwitchTo(sharing->row);
	result = source->stream->format->decode(rows->decoder, rec, rows->row_values,
											rows->row_isnull, &err);
	MemoryContextSwitchTo(old);
	for (int c = 0; result == SX_DECODE_OK && c < rows->ncolumns; c++)
	{
		SxSharedColumn *column = &rows->columns[c];
		Datum		value = rows->row_values[column->attno - 1];
		bool		isnull = rows->row_isnull[column->attno - 1];

		column->values[i] = isnull || column->byval ? value : keep_value(sharing, column, value);
		column->isnull[i] = isnull;
	}
	MemoryContextReset(sharing->row);
	return result == SX_DECODE_OK;
}

/* Records that the scan has passed over, as they are out for it, are left to the others. */
void
sx_sharing_decode(SxSharedRows *rows, int i)
{
	if (rows->sharing->used >= memory_limit() &&
		rows->sharing->chunk_left < CHUNK / 4)
	{
		rows->most = rows->upto;
		return;
	}
	while (rows->upto < i)
		rows->good[rows->upto++] = false;
	rows->good[i] = decode(rows, i);
	rows->upto++;
}
