/*-------------------------------------------------------------------------
 *
 * queue_search.h
 *		Which rows of a queue's log are new: the first of them, and how many.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_QUEUE_SEARCH_H
#define SX_QUEUE_SEARCH_H

#include "source/queue_snapshot.h"
#include "utils/relcache.h"

/* The indexes of the log that reading needs; ERROR when one is missing. */
extern void sx_queue_indexes(Relation log, Oid *seq_index, Oid *xid_index);

/* Is there a row that target sees and done does not? */
extern bool sx_queue_has_new(Relation log, Oid xid_index, Snapshot snapshot,
							 const SxXidSnapshot *done,
							 const SxXidSnapshot *target);

/*
 * A lower bound of the numbers of those rows, PG_INT64_MAX when there are none, and
 * an upper bound of how many they are: rows that were rolled back are counted until
 * the log is vacuumed.
 */
extern int64 sx_queue_lowest_new(Relation log, Oid xid_index, Snapshot snapshot,
								 const SxXidSnapshot *done,
								 const SxXidSnapshot *target, int64 *count);

#endif							/* SX_QUEUE_SEARCH_H */
