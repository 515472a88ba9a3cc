/*-------------------------------------------------------------------------
 *
 * state_hints.h
 *		Where the rows of keys stood when they were last seen.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_STATE_HINTS_H
#define SX_STATE_HINTS_H

#include "datatype/timestamp.h"
#include "storage/buf.h"
#include "storage/itemptr.h"

typedef struct SxHints SxHints;

/* What state_compact.c remembers from batch to batch.  Nothing in it has to be true, either. */
typedef struct SxFront
{
	BlockNumber to;				/* the page that rows were moved to */
	BlockNumber from;			/* the one behind that which was emptied last */
	Size		width;			/* of the rows found in the last batch, bytes; 0: not known */
	uint64		found;			/* … and their number */
	bool		moved;			/* any row, since it was begun at the end */
	int			vain;			/* how often not, in a row */
	int			pause;			/* batches in which nothing is tried */
	TimestampTz second;			/* in which it was asked whether the table is vacuumed */
} SxFront;

/* In the current context; NULL when streamext.state_cache is 0. */
extern SxHints *sx_hints_create(void);

/* The table's file; of another one, other rows have to be gathered. */
extern void sx_hints_use_file(SxHints *hints, Oid file);

/* Where the row of a key of this hash may be; false: not known. */
extern bool sx_hints_get(const SxHints *hints, uint32 hash, ItemPointer tid);
extern void sx_hints_put(SxHints *hints, uint32 hash, const ItemPointerData *tid);

/* The shared buffer that may hold the block; InvalidBuffer: not known. */
extern Buffer sx_hints_buffer(const SxHints *hints, BlockNumber block);
extern void sx_hints_put_buffer(SxHints *hints, BlockNumber block, Buffer buffer);

/* Have the rows of the block been gathered?  Says yes from the second time on. */
extern bool sx_hints_gathered(SxHints *hints, BlockNumber block);

/* Brings nearer what sx_hints_get() will read. */
extern void sx_hints_prefetch(const SxHints *hints, uint32 hash);

extern SxFront *sx_hints_front(SxHints *hints);

#endif							/* SX_STATE_HINTS_H */
