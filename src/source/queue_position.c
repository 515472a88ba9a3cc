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
