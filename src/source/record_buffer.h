/*-------------------------------------------------------------------------
 *
 * record_buffer.h
 *		Records of a batch, for sources that read bytes themselves.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_RECORD_BUFFER_H
#define SX_RECORD_BUFFER_H

#include "nodes/pg_list.h"
#include "source/record.h"

typedef struct SxRecordBuffer
{
	/* for readers */
	SxRecord  **records;
	int			nrecords;
	int64		nbytes;			/* of the values */

	/* private */
	MemoryContext context;
	int			capacity;		/* of records */
	List	   *chunks;			/* of ordinary size; kept by a reset */
	int			current;		/* the chunk being filled */
	Size		used;			/* bytes of it */
	List	   *oversized;		/* chunks of a single record */
} SxRecordBuffer;

/* In the current memory context. */
extern SxRecordBuffer *sx_record_buffer_create(void);

/* Forgets the records; what was allocated is used again. */
extern void sx_record_buffer_reset(SxRecordBuffer *buffer);

/* Appends a record; the value is copied. */
extern SxRecord *sx_record_buffer_add(SxRecordBuffer *buffer, int part,
									  int64 offset, const char *value,
									  int32 value_len);

#endif							/* SX_RECORD_BUFFER_H */
