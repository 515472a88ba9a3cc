/*-------------------------------------------------------------------------
 *
 * record_buffer.c
 *		Records of a batch, for sources that read bytes themselves.
 *
 * Records are laid one behind the other into chunks.  Each chunk has
 * SX_RECORD_SLACK bytes more than its records may take, because decoders read a
 * little past the end of a value.  Chunks survive a reset: a batch is as large as
 * the one before it more often than not, and fresh memory costs a page fault per
 * page.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "source/record_buffer.h"
#include "utils/memutils.h"

#define CHUNK_SIZE		((Size) 1024 * 1024)
#define OVERSIZED		(CHUNK_SIZE / 4)	/* records from here get their own
											 * chunk */
#define INITIAL_RECORDS	1024

SxRecordBuffer *
sx_record_buffer_create(void)
{
	SxRecordBuffer *buffer = palloc0(sizeof(SxRecordBuffer));

	buffer->context = CurrentMemoryContext;
	buffer->capacity = INITIAL_RECORDS;
	buffer->records = palloc(sizeof(SxRecord *) * buffer->capacity);
	buffer->current = -1;
	return buffer;
}

void
sx_record_buffer_reset(SxRecordBuffer *buffer)
{
	list_free_deep(buffer->oversized);
	buffer->oversized = NIL;
	buffer->nrecords = 0;
	buffer->nbytes = 0;
	buffer->current = -1;
	buffer->used = 0;
}

/* Room for a record of ordinary size. */
static char *
from_chunk(SxRecordBuffer *buffer, Size size)
{
	char	   *room;

	if (buffer->current < 0 || buffer->used + size > CHUNK_SIZE)
	{
		if (buffer->current + 1 == list_length(buffer->chunks))
			buffer->chunks = lappend(buffer->chunks,
									 palloc(CHUNK_SIZE + SX_RECORD_SLACK));
		buffer->current++;
		buffer->used = 0;
	}
	room = (char *) list_nth(buffer->chunks, buffer->current) + buffer->used;
	buffer->used += size;
	return room;
}

static SxRecord *
allocate(SxRecordBuffer *buffer, Size size)
{
	MemoryContext old = MemoryContextSwitchTo(buffer->context);
	SxRecord   *rec;

	if (buffer->nrecords == buffer->capacity)
	{
		buffer->capacity *= 2;
		buffer->records = repalloc_huge(buffer->records,
										sizeof(SxRecord *) * buffer->capacity);
	}
	if (size < OVERSIZED)
		rec = (SxRecord *) from_chunk(buffer, size);
	else
	{
		rec = palloc_extended(size + SX_RECORD_SLACK, MCXT_ALLOC_HUGE);
		buffer->oversized = lappend(buffer->oversized, rec);
	}
	buffer->records[buffer->nrecords++] = rec;
	MemoryContextSwitchTo(old);
	return rec;
}

SxRecord *
sx_record_buffer_add(SxRecordBuffer *buffer, int part, int64 offset,
					 const char *value, int32 value_len)
{
	uint32		size = sx_record_size(value_len, -1, 0);
	SxRecord   *rec = allocate(buffer, size);

	memset(rec, 0, sizeof(SxRecord));
	rec->size = size;
	rec->kind = SX_RECORD_DATA;
	rec->part = part;
	rec->value_len = value_len;
	rec->key_len = -1;
	rec->offset = offset;
	memcpy(rec + 1, value, value_len);
	buffer->nbytes += value_len;
	return rec;
}
