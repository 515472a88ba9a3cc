/*-------------------------------------------------------------------------
 *
 * queue_position.c
 *		Positions in the log of a stream: what of it is processed.
 *
 * Their meaning is told in source_queue.c, which moves them on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "source/queue_position.h"
#include "source/source.h"

void
sx_queue_position_parse(const char *text, SxQueuePosition *pos)
{
	char	   *done = sx_position_field(text, "done");
	char	   *target = sx_position_field(text, "target");

	pos->done = done ? sx_xid_snapshot_parse(done) : sx_xid_snapshot_empty();
	pos->target = target ? sx_xid_snapshot_parse(target) : NULL;
	pos->seq = sx_position_int(text, "seq", 0);
}

char *
sx_queue_position_text(const SxQueuePosition *pos)
{
	if (pos->target == NULL)
		return psprintf("{\"done\": \"%s\", \"target\": null, \"seq\": 0}",
						sx_xid_snapshot_text(pos->done));
	return psprintf("{\"done\": \"%s\", \"target\": \"%s\", \"seq\": " INT64_FORMAT "}",
					sx_xid_snapshot_text(pos->done), sx_xid_snapshot_text(pos->target),
					pos->seq);
}

bool
sx_queue_position_pending(const SxQueuePosition *pos, uint64 xid, int64 seq)
{
	return !sx_xid_snapshot_sees(pos->done, xid) &&
		(pos->target == NULL || seq > pos->seq ||
		 !sx_xid_snapshot_sees(pos->target, xid));
}

/* ---------- on the way to a limit ---------- */

static bool
same(const SxXidSnapshot *a, const SxXidSnapshot *b)
{
	return sx_xid_snapshot_covers(a, b) && sx_xid_snapshot_covers(b, a);
}

/*
 * A limit's done was its target before, and so were those before that: whatever target
 * we are at, the limit is in the middle of the same, or has passed it as a whole.
 */
bool
sx_queue_position_goal(const SxQueuePosition *pos, const SxQueuePosition *limit,
					   SxXidSnapshot **target, int64 *cap)
{
	*cap = PG_INT64_MAX;
	if (pos->target != NULL && limit->target != NULL && same(pos->target, limit->target))
	{
		*target = pos->target;
		*cap = limit->seq;
		return pos->seq < limit->seq;
	}
	if (pos->target != NULL)
	{
		*target = pos->target;
		return sx_xid_snapshot_covers(limit->done, pos->target);
	}
	if (!sx_xid_snapshot_covers(pos->done, limit->done))
	{
		*target = limit->done;
		return sx_xid_snapshot_covers(limit->done, pos->done);
	}
	*target = limit->target;
	*cap = limit->seq;
	return limit->target != NULL && sx_xid_snapshot_covers(limit->done, pos->done);
}

void
sx_queue_position_pass(SxQueuePosition *pos, SxXidSnapshot *target, int64 cap)
{
	pos->target = target;
	pos->seq = cap;
	if (cap < PG_INT64_MAX)
		return;
	pos->done = target;
	pos->target = NULL;
	pos->seq = 0;
}

bool
sx_queue_position_equal(const SxQueuePosition *a, const SxQueuePosition *b)
{
	if (!same(a->done, b->done) || (a->target == NULL) != (b->target == NULL))
		return false;
	return a->target == NULL || (same(a->target, b->target) && a->seq == b->seq);
}
