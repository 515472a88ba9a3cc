/*-------------------------------------------------------------------------
 *
 * wake.c
 *		Waking processes when a transaction commits.
 *
 * A statement only remembers whom to wake.  Setting latches before the commit
 * would be too early, as the one who is woken could not see the change yet; the
 * callback at XACT_EVENT_COMMIT runs when others see the transaction as committed.
 * Nothing there may fail.
 *
 * A savepoint that is rolled back leaves its wishes behind: a wake-up too many is
 * harmless.  PREPARE TRANSACTION forgets them, since COMMIT PREPARED may happen in
 * any session: the processes find out by themselves, some seconds later.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "utils/memutils.h"

#include "worker/process.h"

static bool wake_scheduler = false;
static bool mark_database = false;
static bool wake_sender = false;
static Bitmapset *wake_pipelines = NULL;	/* in TopTransactionContext */

static void
forget(void)
{
	wake_scheduler = false;
	mark_database = false;
	wake_sender = false;
	wake_pipelines = NULL;
}

static void
wake_now(void)
{
	int			pipeline = -1;

	if (mark_database)
		(void) sx_mark_add(MyDatabaseId);
	if (wake_scheduler)
	{
		sx_slots_wake(SX_PROCESS_NONE, MyDatabaseId, 0, true);
		sx_launcher_wake(true);
	}
	if (wake_sender)
		sx_sender_wake(MyDatabaseId);
	while ((pipeline = bms_next_member(wake_pipelines, pipeline)) >= 0)
		sx_slots_wake(SX_PROCESS_WORKER, MyDatabaseId, pipeline, false);
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			wake_now();
			forget();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			forget();
			break;
		default:
			break;
	}
}

void
sx_wake_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
}

void
sx_wake_scheduler_at_commit(void)
{
	if (sx_shared)
		wake_scheduler = true;
}

void
sx_wake_sender_at_commit(void)
{
	if (sx_shared)
		wake_sender = true;
}

/* Also makes the database known to the launcher. */
void
sx_mark_at_commit(void)
{
	if (sx_shared)
		mark_database = wake_scheduler = true;
}

void
sx_wake_pipeline_at_commit(int pipeline)
{
	MemoryContext old;

	if (sx_shared == NULL || bms_is_member(pipeline, wake_pipelines))
		return;
	old = MemoryContextSwitchTo(TopTransactionContext);
	wake_pipelines = bms_add_member(wake_pipelines, pipeline);
	MemoryContextSwitchTo(old);
}
