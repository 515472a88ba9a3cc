/*-------------------------------------------------------------------------
 *
 * insert.c
 *		INSERT and COPY into a stream: into the log of a queue, or to Kafka.
 *
 * Rows of a queue go through in bulk.  Records for Kafka are handed to the producer
 * as they come; it sends them when the transaction is about to commit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "fdw/row_check.h"
#include "fdw/scan.h"
#include "fdw/stream.h"
#include "format/format.h"
#include "kafka/producer.h"
#include "nodes/nodes.h"
#include "parser/parsetree.h"
#include "source/queue.h"
#include "source/source.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#define QUEUE_BATCH		1000	/* rows that the executor collects for us */

typedef struct InsertState
{
	SxStream   *stream;
	SxQueueInsert *queue;		/* NULL: kafka */
	AttrNumber	key;			/* column with metadata 'key'; 0: none */
} InsertState;

int
sx_is_updatable(Relation rel)
{
	SxStream   *stream = sx_stream_load(RelationGetRelid(rel));

	return stream->source == &sx_source_queue || stream->source == &sx_source_kafka ?
		(1 << CMD_INSERT) : 0;
}

/*
 * Tells what takes inserts, where core would only say that this does not.  Streams that
 * are no sources it refuses itself.
 */
static void
check_connector(const SxStream *stream)
{
	if (stream->source != NULL && stream->source != &sx_source_queue &&
		stream->source != &sx_source_kafka)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot insert into stream %s", stream->label),
				 errdetail("Its connector \"%s\" only reads.",
						   sx_stream_option(stream, "connector", "")),
				 errhint("Use a stream of connector queue or kafka.")));
}

List *
sx_plan_insert(PlannerInfo *root, ModifyTable *plan, Index result_relation,
			   int subplan_index)
{
	if (plan->operation == CMD_INSERT)
		check_connector(sx_stream_load(planner_rt_fetch(result_relation, root)->relid));
	if (plan->returningLists != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("INSERT … RETURNING is not supported on a stream")));
	if (plan->onConflictAction != ONCONFLICT_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("INSERT … ON CONFLICT is not supported on a stream")));
	return NIL;
}

void
sx_begin_copy(ModifyTableState *mtstate, ResultRelInfo *rinfo)
{
	InsertState *state = palloc0(sizeof(InsertState));

	state->stream = sx_stream_load(RelationGetRelid(rinfo->ri_RelationDesc));
	check_connector(state->stream);
	if (state->stream->source == &sx_source_queue)
	{
		state->queue = sx_queue_insert_prepare(state->stream);
		sx_queue_insert_open(state->queue, QUEUE_BATCH);
	}
	for (int i = 0; i < state->stream->natts; i++)
	{
		if (state->stream->columns[i].metadata == SX_META_KEY)
			state->key = i + 1;
	}
	rinfo->ri_FdwState = state;
}

void
sx_begin_insert(ModifyTableState *mtstate, ResultRelInfo *rinfo, List *fdw_private,
				int subplan_index, int eflags)
{
	if ((eflags & EXEC_FLAG_EXPLAIN_ONLY) == 0)
		sx_begin_copy(mtstate, rinfo);
}

/*
 * NOT NULL is checked by nobody else for a foreign table.  What a source that decodes
 * would refuse is refused here too, where somebody can still do something about it.
 */
static void
check_row(const InsertState *state, TupleTableSlot *slot)
{
	const SxStream *stream = state->stream;

	for (int i = 0; i < stream->natts; i++)
	{
		const SxColumn *column = &stream->columns[i];

		if (column->dropped || column->metadata != SX_META_NONE)
			continue;
		if (slot->tts_isnull[i])
		{
			if (column->notnull)
				ereport(ERROR,
						(errcode(ERRCODE_NOT_NULL_VIOLATION),
						 errmsg("null value in column \"%s\" of stream %s violates not-null constraint",
								column->name, stream->label)));
		}
		else if (!stream->allow_special &&
				 sx_value_is_special(column->base_type, slot->tts_values[i]))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("column \"%s\" of stream %s takes no infinity and no NaN",
							column->name, stream->label),
					 errhint("ALTER STREAM %s OPTIONS (ADD allow_special 'on') allows them.",
							 stream->label)));
	}
}

static void
produce(InsertState *state, TupleTableSlot *slot)
{
	bytea	   *value = sx_format_encode(state->stream, slot->tts_tupleDescriptor,
										 slot->tts_values, slot->tts_isnull);
	text	   *key = NULL;

	if (state->key > 0 && !slot->tts_isnull[state->key - 1])
		key = DatumGetTextPP(slot->tts_values[state->key - 1]);
	sx_kafka_produce(state->stream,
					 key ? VARDATA_ANY(key) : NULL,
					 key ? (int) VARSIZE_ANY_EXHDR(key) : -1,
					 value ? VARDATA_ANY(value) : NULL,
					 value ? (int) VARSIZE_ANY_EXHDR(value) : -1);
}

TupleTableSlot **
sx_insert_many(EState *estate, ResultRelInfo *rinfo, TupleTableSlot **slots,
			   TupleTableSlot **plan_slots, int *nslots)
{
	InsertState *state = rinfo->ri_FdwState;

	for (int i = 0; i < *nslots; i++)
	{
		slot_getallattrs(slots[i]);
		check_row(state, slots[i]);
		if (state->queue == NULL)
			produce(state, slots[i]);
	}
	if (state->queue != NULL)
		sx_queue_insert(state->queue, slots, *nslots);
	return slots;
}

TupleTableSlot *
sx_insert(EState *estate, ResultRelInfo *rinfo, TupleTableSlot *slot,
		  TupleTableSlot *plan_slot)
{
	int			one = 1;

	return *sx_insert_many(estate, rinfo, &slot, &plan_slot, &one);
}

int
sx_insert_batch_size(ResultRelInfo *rinfo)
{
	/* Row triggers must see each row inserted before the next one comes. */
	if (rinfo->ri_TrigDesc != NULL &&
		(rinfo->ri_TrigDesc->trig_insert_before_row ||
		 rinfo->ri_TrigDesc->trig_insert_after_row))
		return 1;
	return QUEUE_BATCH;
}

void
sx_end_insert(EState *estate, ResultRelInfo *rinfo)
{
	InsertState *state = rinfo->ri_FdwState;

	if (state != NULL && state->queue != NULL)
		sx_queue_insert_close(state->queue);
	rinfo->ri_FdwState = NULL;
}
