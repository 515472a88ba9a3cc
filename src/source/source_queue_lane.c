/*-------------------------------------------------------------------------
 *
 * source_queue_lane.c
 *		The connectors 'queue' and 'table' in a lane: rows that another pipeline has
 *		processed, and no others.
 *
 * Positions are snapshots, so the way from one to the other leads over the limit's own:
 * first the rows that its "done" sees, then those of its "target", up to its number.  That
 * also ends in the middle of what one snapshot sees, where the other pipeline is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "source/source_queue.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/*
 * In a lane: is there a row on the way to the limit?  Ways without rows are gone at once,
 * which need not be stored.
 */
bool
sx_queue_look_below_limit(QueueSource *qs)
{
	Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	Relation	log = table_open(qs->log, AccessShareLock);
	SxXidSnapshot *target;
	int64		cap;
	bool		found = false;

	while (!found && sx_queue_position_goal(&qs->at, &qs->limit, &target, &cap))
	{
		found = qs->at.target != NULL ||
			sx_queue_has_new(log, qs->xid_index, snapshot, qs->at.done, target);
		if (!found)
		{
			SxQueuePosition next = qs->at;

			sx_queue_position_pass(&next, target, cap);
			sx_queue_set_position(qs, sx_queue_position_text(&next));
		}
	}
	table_close(log, AccessShareLock);
	UnregisterSnapshot(snapshot);
	return found;
}

/* A lane's: on the way to its limit. */
void
sx_queue_read_below_limit(QueueSource *qs, Relation log, Snapshot snapshot)
{
	SxXidSnapshot *target;

	while (sx_queue_position_goal(&qs->behind, &qs->limit, &target, &qs->cap))
	{
		if (qs->behind.target == NULL)
			sx_queue_set_target(qs, log, snapshot, target);
		if (!sx_queue_read_target(qs, log, snapshot))
			return;
		sx_queue_position_pass(&qs->behind, target, qs->cap);
	}
	qs->remaining = 0;
}

/* The limit outlives the transaction, and a batch that is loaded does not need it. */
void
sx_queue_limit(SxSource *source, int pipeline, const SxPart *parts, int nparts)
{
	QueueSource *qs = (QueueSource *) source;
	MemoryContext old;

	MemoryContextReset(qs->limit_context);
	old = MemoryContextSwitchTo(qs->limit_context);
	sx_queue_position_parse(nparts > 0 ? parts[0].position : NULL, &qs->limit);
	MemoryContextSwitchTo(old);
	source->limited = true;
}

bool
sx_queue_at_limit(SxSource *source)
{
	QueueSource *qs = (QueueSource *) source;

	return sx_queue_position_equal(qs->loaded ? &qs->behind : &qs->at, &qs->limit);
}
