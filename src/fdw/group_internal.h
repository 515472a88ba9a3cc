/*-------------------------------------------------------------------------
 *
 * group_internal.h
 *		What group.c, the node, and group_rows.c, the table of groups, share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_GROUP_INTERNAL_H
#define SX_GROUP_INTERNAL_H

#include "nodes/execnodes.h"

#define SX_GROUP_CHUNK	256		/* of groups, a power of two */

/* A column of the record, or what is computed of it. */
typedef struct SxGroupValue
{
	int			column;			/* attno - 1; -1: expr */
	ExprState  *expr;
} SxGroupValue;

typedef struct SxGroupKey
{
	SxGroupValue value;
	bool		bits;			/* equal values have equal bits */
	bool		byval;
	int16		typlen;
	Oid			collation;
	FmgrInfo	equal;
	FmgrInfo	hash;
	int			position;		/* in the row that is given */
} SxGroupKey;

typedef enum SxGroupAggKind
{
	SX_GROUP_COUNT_ALL,
	SX_GROUP_COUNT,
	SX_GROUP_SUM_INT4,
	SX_GROUP_SUM_INT2,
	SX_GROUP_CALL				/* a strict function */
} SxGroupAggKind;

typedef struct SxGroupAgg
{
	SxGroupAggKind kind;
	SxGroupValue value;			/* not of SX_GROUP_COUNT_ALL */
	ExprState  *filter;
	FmgrInfo	transition;
	Oid			collation;
	Datum		initial;
	bool		initial_null;
	int			position;
} SxGroupAgg;

typedef struct SxGroupBucket
{
	uint32		hash;
	uint32		group;			/* PG_UINT32_MAX: free */
} SxGroupBucket;

typedef struct SxGroups
{
	ForeignScanState *scan;		/* what is scanned */
	SxGroupKey *keys;
	int			nkeys;
	SxGroupAgg  *aggs;
	int			naggs;
	Size		group_size;
	Datum	   *key_values;		/* of the record at hand */
	bool	   *key_nulls;

	MemoryContext context;		/* of the groups of a pass */
	bool		filled;			/* there are some, or none is left */
	SxGroupBucket *buckets;
	uint32		mask;
	char	  **chunks;
	int			nchunks;
	uint32		ngroups;
	uint32		given;
	Size		limit;
	bool		full;			/* no group is added any more */
	bool		told;			/* … and that was logged */

	MemoryContext later_context;
	int		   *later;			/* records for the next pass, in their order */
	int			nlater;
	int			later_room;
} SxGroups;

/* A group: values of the keys and states of the aggregates; behind them, bool nulls of both. */
static inline Datum *
sx_group_at(const SxGroups *groups, uint32 i)
{
	return (Datum *) (groups->chunks[i / SX_GROUP_CHUNK] +
					  (i % SX_GROUP_CHUNK) * groups->group_size);
}

static inline bool *
sx_group_nulls(const SxGroups *groups, const Datum *group)
{
	return (bool *) (group + groups->nkeys + groups->naggs);
}

/* group_rows.c: the table without groups; a record, in slot, that has passed the filter */
extern void sx_groups_begin(SxGroups *groups);
extern void sx_groups_take(SxGroups *groups, ExprContext *econtext, TupleTableSlot *slot);

#endif							/* SX_GROUP_INTERNAL_H */
