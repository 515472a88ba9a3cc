/*-------------------------------------------------------------------------
 *
 * queue_snapshot.c
 *		Snapshots that outlive their transaction: the positions of a queue.
 *
 * This is the type pg_snapshot, whose struct is private to the server.  Two things
 * differ from pg_current_snapshot():
 *
 * Our own transaction counts as in progress.  An MVCC snapshot leaves it out of its
 * list, and a pg_snapshot made of that would call it finished.  Rows that the batch
 * itself writes to a queue, or that the caller of step() wrote before, would then be
 * taken for processed, and never be read.
 *
 * It is made of the batch's snapshot, not of the active one.
 *
 * Only xids of top-level transactions are in a snapshot's xip; subtransactions are
 * apart from it, complete or not.  Rows of the log carry the top-level xid, so nothing
 * else matters.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "lib/stringinfo.h"
#include "source/queue_snapshot.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

static SxXidSnapshot *
make_snapshot(uint64 xmin, uint64 xmax, int max_xip)
{
	SxXidSnapshot *result = palloc0(sizeof(SxXidSnapshot));

	result->xmin = xmin;
	result->xmax = xmax;
	result->xip = palloc(sizeof(uint64) * Max(max_xip, 1));
	return result;
}

SxXidSnapshot *
sx_xid_snapshot_empty(void)
{
	return make_snapshot(FirstNormalTransactionId, FirstNormalTransactionId, 0);
}

/* The 64-bit form of an xid that is not newer than next. */
static uint64
widen(TransactionId xid, FullTransactionId next)
{
	uint64		epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return (epoch << 32) | xid;
}

static int
compare_xids(const void *a, const void *b)
{
	uint64		xa = *(const uint64 *) a;
	uint64		xb = *(const uint64 *) b;

	return xa < xb ? -1 : xa > xb;
}

SxXidSnapshot *
sx_xid_snapshot_from(Snapshot snapshot)
{
	FullTransactionId next = ReadNextFullTransactionId();
	TransactionId own = GetTopTransactionIdIfAny();
	SxXidSnapshot *result;

	Assert(IsMVCCSnapshot(snapshot));
	if (snapshot->takenDuringRecovery)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a queue cannot be processed during recovery")));

	result = make_snapshot(widen(snapshot->xmin, next), widen(snapshot->xmax, next),
						   snapshot->xcnt + 1);
	for (int i = 0; i < snapshot->xcnt; i++)
		result->xip[result->nxip++] = widen(snapshot->xip[i], next);
	if (TransactionIdIsValid(own) && widen(own, next) < result->xmax)
		result->xip[result->nxip++] = widen(own, next);
	qsort(result->xip, result->nxip, sizeof(uint64), compare_xids);
	if (result->nxip > 0)
		result->xmin = Min(result->xmin, result->xip[0]);
	return result;
}

static uint64
parse_xid(const char **text)
{
	char	   *end;
	uint64		xid = strtou64(*text, &end, 10);

	*text = end;
	return xid;
}

SxXidSnapshot *
sx_xid_snapshot_parse(const char *text)
{
	const char *p = text;
	uint64		xmin = parse_xid(&p);
	uint64		xmax = *p == ':' ? (p++, parse_xid(&p)) : 0;
	SxXidSnapshot *result = make_snapshot(xmin, xmax, strlen(text) / 2 + 1);

	if (*p == ':')
		p++;
	else
		xmin = 0;
	while (xmin > 0 && *p >= '0' && *p <= '9')
	{
		result->xip[result->nxip++] = parse_xid(&p);
		if (*p == ',')
			p++;
	}
	if (xmin == 0 || xmax < xmin || *p != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("invalid snapshot \"%s\" in the position of a queue", text)));
	return result;
}

char *
sx_xid_snapshot_text(const SxXidSnapshot *snapshot)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, UINT64_FORMAT ":" UINT64_FORMAT ":",
					 snapshot->xmin, snapshot->xmax);
	for (int i = 0; i < snapshot->nxip; i++)
		appendStringInfo(&buf, "%s" UINT64_FORMAT, i > 0 ? "," : "", snapshot->xip[i]);
	return buf.data;
}

/* One piece of memory, so that pfree() frees it. */
SxXidSnapshot *
sx_xid_snapshot_copy(MemoryContext context, const SxXidSnapshot *snapshot)
{
	Size		size = sizeof(uint64) * snapshot->nxip;
	SxXidSnapshot *result = MemoryContextAlloc(context, sizeof(SxXidSnapshot) + size);

	*result = *snapshot;
	result->xip = (uint64 *) (result + 1);
	memcpy(result->xip, snapshot->xip, size);
	return result;
}

bool
sx_xid_snapshot_sees(const SxXidSnapshot *snapshot, uint64 xid)
{
	if (xid < snapshot->xmin)
		return true;
	if (xid >= snapshot->xmax)
		return false;
	return bsearch(&xid, snapshot->xip, snapshot->nxip, sizeof(uint64),
				   compare_xids) == NULL;
}

bool
sx_xid_snapshot_covers(const SxXidSnapshot *snapshot, const SxXidSnapshot *other)
{
	if (snapshot->xmax < other->xmax)
		return false;
	for (int i = 0; i < snapshot->nxip; i++)
	{
		if (sx_xid_snapshot_sees(other, snapshot->xip[i]))
			return false;
	}
	return true;
}
