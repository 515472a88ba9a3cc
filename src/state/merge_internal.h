/*-------------------------------------------------------------------------
 *
 * merge_internal.h
 *		What the files of a merge share: one run over a batch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_MERGE_INTERNAL_H
#define SX_MERGE_INTERNAL_H

#include "executor/executor.h"
#include "state/group.h"
#include "state/merge.h"

#define SX_MERGE_ADD_ROWS	128			/* at a time */

/* A row of the batch, one a key. */
typedef struct SxWaiting
{
	uint64		place;			/* of the stored row */
	union
	{
		MinimalTuple tuple;
		const SxGroup *group;	/* when they are grouped by hand */
	}			row;
	uint32		hash;
} SxWaiting;

typedef struct SxMergeRun
{
	DestReceiver dest;			/* must be first */
	SxStep	   *step;
	const SxMergeRule *rule;
	MemoryContext context;		/* of all the rest */
	MemoryContext rows;			/* of those that wait */
	SxStateTable *table;
	TupleDesc	desc;			/* … its columns */
	SxKeys	   *keys;
	SxWaiting  *waiting;
	int			nwaiting;
	int			room;
	Datum		touched;		/* the batch's time */

	/* when they are grouped by hand */
	const SxGroupRule *group_rule;
	SxGroups   *groups;
	TupleTableSlot *group;		/* a group with all its columns */
	ExprState  *quals;			/* over it */

	ExprContext *econtext;
	ProjectionInfo *projection; /* NULL: stored rows stay as they are */
	TupleTableSlot *given;		/* a row of the batch as it came */
	TupleTableSlot *fresh;		/* … as a row of the state table */
	TupleTableSlot *merged;
	TupleTableSlot *to_add[SX_MERGE_ADD_ROWS];
	uint32		add_hashes[SX_MERGE_ADD_ROWS];
	int			nadd;
	int64		written;
} SxMergeRun;

/* merge.c: the row as one of the state table, which has a column more with state_ttl */
extern TupleTableSlot *sx_merge_fill(SxMergeRun *run, const SxWaiting *waiting,
									 TupleTableSlot *slot);

/* … and the stored one, table->found, with that of the batch, run->fresh */
extern void sx_merge_row(SxMergeRun *run, uint32 hash);

/* … notes where a row of that hash stands now */
extern void sx_merge_remember(SxMergeRun *run, uint32 hash, const ItemPointerData *tid);

/* A group begins with its states, before the place that is pointed to. */
static inline void
sx_merge_prefetch(const SxWaiting *waiting)
{
	__builtin_prefetch(waiting->row.tuple);
	__builtin_prefetch((const char *) waiting->row.tuple - 2 * sizeof(int64));
}

/* merge_missing.c: the first n of those that wait are looked up in the index, and added if not there */
extern void sx_merge_missing(SxMergeRun *run, int n);

#endif							/* SX_MERGE_INTERNAL_H */
