/*-------------------------------------------------------------------------
 *
 * lane_detach.c
 *		Taking steps that fail for themselves out of their pipeline, into a lane.
 *
 * The lane begins at the positions of the pipeline that the step is taken out of, and is
 * stopped with the reason.  What goes with a step F is the least set that can be ahead or
 * behind as a whole:
 *
 *		F, or all readers of F when F keeps nothing and so belongs to no pipeline;
 *		every stream with state that one of them reads: its state cannot be at two
 *		positions at a time;
 *		every continuous view that one of them reads as a table;
 *		every reader of these, and so on.
 *
 * When that is all that the pipeline has, it is the pipeline that must stop; so it is when
 * a source cannot be read twice.  Windows by arrival count the batches of their pipeline,
 * and a lane has other ones: steps with such a window go into a pipeline that is no lane
 * and stays.
 *
 * A worker detaches when the failed batch has been rolled back, in a transaction of its
 * own; then it leaves, and the next worker runs the same batch without the step.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "miscadmin.h"
#include "plan/plan.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "worker/lane.h"
#include "worker/lane_internal.h"
#include "worker/process.h"
#include "worker/worker.h"

/* ---------- what is detached together ---------- */

typedef struct Member
{
	Oid			relid;
	bool		state;			/* a stream with state */
	bool		window;
	bool		moves;
	SxReads		reads;
} Member;

static void
collect_member(HeapTuple row, TupleDesc desc, void *arg)
{
	List	  **members = arg;
	Member	   *member = palloc0(sizeof(Member));

	member->relid = sx_row_oid(row, desc, 1);
	member->state = sx_row_bool(row, desc, 2);
	member->window = sx_row_bool(row, desc, 3);
	*members = lappend(*members, member);
}

static List *
members_of(int pipeline)
{
	Datum		values[] = {Int32GetDatum(pipeline)};
	List	   *members = NIL;
	ListCell   *lc;

	sx_catalog_rows("SELECT relation, kind = 'stream', strategy = 'window' OR panes IS NOT NULL "
					"FROM streamext.step WHERE pipeline = $1 ORDER BY seq",
					SX_ARGS(INT4OID), values, NULL, collect_member, &members);
	foreach(lc, members)
	{
		Member	   *member = lfirst(lc);

		member->reads = sx_relation_reads(member->relid);
	}
	return members;
}

/* Does the one read the other, as a stream or as a table that is part of the batch? */
static bool
depends_on(const Member *member, Oid relid)
{
	return list_member_oid(member->reads.all_derived, relid) ||
		list_member_oid(member->reads.views, relid);
}

static bool
shares_state(const Member *a, const Member *b)
{
	return depends_on(a, b->relid) || depends_on(b, a->relid);
}

/* Marks what has to move with those that are marked; true: there was something. */
static bool
spread(List *members)
{
	bool		any = false;
	ListCell   *a;
	ListCell   *b;

	foreach(a, members)
	{
		foreach(b, members)
		{
			const Member *mover = lfirst(a);
			Member	   *other = lfirst(b);

			if (!mover->moves || other->moves || !shares_state(mover, other))
				continue;
			other->moves = any = true;
		}
	}
	return any;
}

/* The steps to be moved; NIL: all there are, or none. */
static List *
choose(int pipeline, Oid failed, bool *window)
{
	List	   *members = members_of(pipeline);
	List	   *moving = NIL;
	ListCell   *lc;

	foreach(lc, members)
	{
		Member	   *member = lfirst(lc);

		member->moves = member->relid == failed || depends_on(member, failed);
	}
	while (spread(members))
		;
	*window = false;
	foreach(lc, members)
	{
		const Member *member = lfirst(lc);

		if (!member->moves)
			continue;
		moving = lappend_oid(moving, member->relid);
		*window = *window || member->window;
	}
	return list_length(moving) < list_length(members) ? moving : NIL;
}

static List *
streams_of(const List *steps)
{
	List	   *streams = NIL;
	ListCell   *lc;

	foreach(lc, steps)
		streams = list_concat_unique_oid(streams, sx_relation_reads(lfirst_oid(lc)).streams);
	return streams;
}

/* ---------- detaching ---------- */

static void
copy_progress(int pipeline, int lane, const List *streams)
{
	Datum		values[] = {Int32GetDatum(pipeline), Int32GetDatum(lane), sx_lane_oids(streams)};

	sx_catalog_exec("INSERT INTO streamext.progress (pipeline, batch_id, batch_time, first_batch_time) "
					"SELECT $2, batch_id, batch_time, first_batch_time FROM streamext.progress "
					"WHERE pipeline = $1 AND slot = 0",
					SX_ARGS(INT4OID, INT4OID), values, NULL);
	sx_lane_copy_sources(pipeline, lane, streams, true);
	sx_catalog_exec("INSERT INTO streamext.partition (pipeline, stream, partition, position, "
					"max_event_time, anchor, end_position, lag, idle) "
					"SELECT $2, stream, partition, position, max_event_time, anchor, end_position, "
					"lag, idle FROM streamext.partition WHERE pipeline = $1 AND stream::oid = ANY ($3)",
					SX_ARGS(INT4OID, INT4OID, OIDARRAYOID), values, NULL);
	sx_catalog_exec("INSERT INTO streamext.file_taken (pipeline, stream, name, size, mtime, batch_id) "
					"SELECT $2, stream, name, size, mtime, batch_id "
					"FROM streamext.file_taken WHERE pipeline = $1 AND stream::oid = ANY ($3)",
					SX_ARGS(INT4OID, INT4OID, OIDARRAYOID), values, NULL);
}

static void
set_error(int lane, int sqlerrcode, const char *message)
{
	Datum		values[] = {
		Int32GetDatum(lane), CStringGetTextDatum(unpack_sql_state(sqlerrcode)),
		CStringGetTextDatum(message)
	};

	sx_catalog_exec("UPDATE streamext.pipeline SET error_sqlstate = $2, error_message = $3, "
					"error_at = clock_timestamp() WHERE id = $1",
					SX_ARGS(INT4OID, TEXTOID, TEXTOID), values, NULL);
}

static void
move_steps(const List *steps, int lane)
{
	Datum		values[] = {sx_lane_oids(steps), Int32GetDatum(lane)};

	sx_catalog_exec("UPDATE streamext.step SET pipeline = $2 WHERE relation::oid = ANY ($1)",
					SX_ARGS(OIDARRAYOID, INT4OID), values, NULL);
}

/* DDL locks relations before rows of the catalog, and so does everybody here. */
static bool
lock_steps(const List *steps, Oid *busy)
{
	ListCell   *lc;

	foreach(lc, steps)
	{
		*busy = lfirst_oid(lc);
		if (!ConditionalLockRelationOid(*busy, AccessShareLock))
			return false;
	}
	return true;
}

/* The steps to be moved, as they are locked; NIL: why says why not. */
static List *
steps_to_detach(int pipeline, Oid failed, bool *window, const char **why)
{
	List	   *steps = choose(pipeline, failed, window);
	ListCell   *lc;

	*why = NULL;
	if (sx_lane_of(pipeline) != 0)
		*why = "It is in a pipeline of its own already.";
	else if (steps == NIL)
		*why = "All that the pipeline runs depends on it.";
	foreach(lc, *why == NULL ? streams_of(steps) : NIL)
	{
		SxLaneStart start;

		if (!sx_lane_ask_source(pipeline, lfirst_oid(lc), &start))
			*why = start.missing;
	}
	return *why == NULL ? steps : NIL;
}

/* The view that a hidden node is a part of; any other step is itself. */
static Oid
view_of_node(Oid step)
{
	Datum		values[] = {ObjectIdGetDatum(step)};
	bool		isnull;

	return DatumGetObjectId(sx_catalog_value("SELECT coalesce(node_of, relation) FROM streamext.step "
											 "WHERE relation = $1",
											 SX_ARGS(REGCLASSOID), values, NULL, &isnull));
}

static void
detach(int pipeline, const List *steps, Oid failed, bool window, int sqlerrcode,
	   const char *message)
{
	Oid			named = list_member_oid(steps, failed) ? failed : linitial_oid(steps);
	Oid			shown = view_of_node(named);
	int			lane = sx_lane_insert(pipeline, window ? 0 : pipeline,
									  get_namespace_name(get_rel_namespace(shown)),
									  get_rel_name(shown), "detached");

	copy_progress(pipeline, lane, streams_of(steps));
	if (sqlerrcode != 0)
		set_error(lane, sqlerrcode, message);
	move_steps(steps, lane);
	sx_wake_pipeline_at_commit(pipeline);
	sx_wake_scheduler_at_commit();
}

List *
sx_lane_detach(int pipeline, Oid failed, int sqlerrcode, const char *message,
			   const char **why)
{
	bool		window;
	List	   *steps = steps_to_detach(pipeline, failed, &window, why);
	ListCell   *lc;

	if (steps == NIL)
		return NIL;
	foreach(lc, steps)
		LockRelationOid(lfirst_oid(lc), AccessShareLock);
	(void) sx_pipeline_new_epoch(pipeline);
	detach(pipeline, steps, failed, window, sqlerrcode, message);
	return steps;
}

/* ---------- for a worker ---------- */

/* Is the pipeline still ours?  Starts a new epoch. */
static bool
take_progress(int pipeline, int slot, int64 epoch)
{
	Datum		values[] = {
		Int32GetDatum(pipeline), Int32GetDatum(slot), Int64GetDatum(epoch)
	};

	(void) sx_pipeline_new_epoch(pipeline);
	return sx_catalog_exec("SELECT FROM streamext.progress "
						   "WHERE pipeline = $1 AND slot = $2 AND epoch = $3 + 1",
						   SX_ARGS(INT4OID, INT4OID, INT8OID), values, NULL) == 1;
}

/* Who fences us has changed something: whoever runs the pipeline next finds out. */
static bool
detach_failed(int pipeline, int slot, int64 epoch, Oid failed, int sqlerrcode, const char *message)
{
	for (;;)
	{
		Oid			busy = InvalidOid;
		bool		window;
		const char *why;
		List	   *steps;

		sx_transaction_begin();
		steps = steps_to_detach(pipeline, failed, &window, &why);
		if (steps == NIL)
		{
			sx_transaction_end();
			return false;
		}
		if (lock_steps(steps, &busy))
		{
			if (take_progress(pipeline, slot, epoch))
				detach(pipeline, steps, failed, window, sqlerrcode, message);
			sx_transaction_end();
			return true;
		}
		sx_transaction_end();
		sx_transaction_begin();
		LockRelationOid(busy, AccessShareLock);
		sx_transaction_end();
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Called in the handler of the step's error.  What goes wrong in here is logged, and the
 * pipeline stops instead.
 */
bool
sx_lane_detach_failed(int pipeline, int slot, int64 epoch, Oid failed, int sqlerrcode,
					  const char *message)
{
	volatile bool detached = false;

	PG_TRY();
	{
		detached = detach_failed(pipeline, slot, epoch, failed, sqlerrcode, message);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(TopMemoryContext);
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	return detached;
}
