/*-------------------------------------------------------------------------
 *
 * queue_snapshot.h
 *		Snapshots that outlive their transaction: the positions of a queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_QUEUE_SNAPSHOT_H
#define SX_QUEUE_SNAPSHOT_H

#include "utils/snapshot.h"

/* What a pg_snapshot says; xids are 64 bits wide and of top-level transactions. */
typedef struct SxXidSnapshot
{
	uint64		xmin;			/* all before it had ended */
	uint64		xmax;			/* none from it on had */
	int			nxip;			/* in progress, xmin <= xip < xmax, ascending */
	uint64	   *xip;
} SxXidSnapshot;

/* One that sees nothing. */
extern SxXidSnapshot *sx_xid_snapshot_empty(void);

/* Of an MVCC snapshot; our own transaction counts as in progress. */
extern SxXidSnapshot *sx_xid_snapshot_from(Snapshot snapshot);

/* From and to the text form of pg_snapshot; ERROR when it is not one. */
extern SxXidSnapshot *sx_xid_snapshot_parse(const char *text);
extern char *sx_xid_snapshot_text(const SxXidSnapshot *snapshot);

extern SxXidSnapshot *sx_xid_snapshot_copy(MemoryContext context,
										   const SxXidSnapshot *snapshot);

extern bool sx_xid_snapshot_sees(const SxXidSnapshot *snapshot, uint64 xid);

/* Does it see everything that the other one sees? */
extern bool sx_xid_snapshot_covers(const SxXidSnapshot *snapshot,
								   const SxXidSnapshot *other);

#endif							/* SX_QUEUE_SNAPSHOT_H */
