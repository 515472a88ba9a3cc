/*-------------------------------------------------------------------------
 *
 * keyed.h
 *		What the streams with keyed state share: one run of a step over a batch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_KEYED_H
#define SX_KEYED_H

#include "state/state_function.h"
#include "state/state_keys.h"
#include "state/state_table.h"
#include "tcop/dest.h"
#include "worker/batch_internal.h"

/* What a step has for as long as its pipeline is open: step->private. */
typedef struct SxKeyedStep
{
	SxStateSpec *spec;
	SxHints    *hints;			/* NULL: none are wanted */

	/*
	 * event_timer: no timer in the table is below timers_from.  next_from is what
	 * that becomes when batch next_batch is committed; 0: nothing is to become of it.
	 * batch_from is that of the attempt in progress, with the timers that it has set.
	 */
	TimestampTz timers_from;
	TimestampTz batch_from;
	TimestampTz next_from;
	int64		next_batch;
} SxKeyedStep;

static inline const SxStateSpec *
sx_keyed_spec(const SxStep *step)
{
	return ((const SxKeyedStep *) step->private)->spec;
}

typedef struct SxKeyedRun SxKeyedRun;

typedef void (*SxRecordFunc) (SxKeyedRun *run, TupleTableSlot *slot);

struct SxKeyedRun
{
	DestReceiver dest;			/* must be first: the query's rows come here */
	SxRecordFunc each;
	SxPipeline *pl;
	SxStep	   *step;
	const SxStateSpec *spec;
	MemoryContext caller;
	MemoryContext context;		/* of all the rest */
	MemoryContext scratch;		/* reset for each record or key */
	int			nestlevel;
	SxStateTable *table;
	SxKeys	   *keys;			/* touched so far */
	SxStateFunction *function;	/* NULL: deduplicate */
	MemoryContext states;		/* where states are kept until they are written */

	Datum	   *key;			/* of the record at hand */
	bool	   *key_nulls;
	uint32		hash;			/* … of it */
	Datum	   *row;			/* of the state table, to be written */
	bool	   *row_nulls;
	Datum	   *out;			/* … of the stream */
	bool	   *out_nulls;
	int64		emitted;

	/* rows that wait while what their keys will touch is fetched */
	TupleTableSlot **waiting;	/* NULL: none ever waits */
	uint32	   *hashes;			/* … of their keys */
	int			nwaiting;

	/* for the context of errors: the key of the call in progress */
	ErrorContextCallback callback;
	const Datum *called_key;	/* NULL: none is */
	const bool *called_nulls;
	FmgrInfo   *key_out;
};

/* Of SxStepOps: makes step->private, and the step's columns known. */
extern void sx_keyed_open(SxPipeline *pl, SxStep *step);

/*
 * Between begin and end the settings of the step are in force, a snapshot is active,
 * and everything lives in run->context, which is the current one.
 */
extern void sx_keyed_begin(SxKeyedRun *run, SxPipeline *pl, SxStep *step);
extern void sx_keyed_end(SxKeyedRun *run);

/*
 * Hands over each row of the query, in order of arrival, with run->key set.  lookups: it
 * looks keys up in the table.  When that is big, rows wait until there are some to look
 * ahead for, so the query may be some rows ahead.
 */
extern void sx_keyed_records(SxKeyedRun *run, SxRecordFunc each, bool lookups);

/* A row of the stream, from run->out. */
extern void sx_keyed_emit(SxKeyedRun *run);

/* The keys, into the first columns of a row. */
extern void sx_keyed_put_key(const SxKeyedRun *run, const Datum *values, const bool *nulls,
							 Datum *row, bool *row_nulls);

/* The key's row was found: from now on it is written as it stands in the table. */
extern void sx_keyed_take_key(const SxKeyedRun *run, SxKey *key);

extern bool sx_keyed_same_state(const SxKeyedRun *run, Datum a, Datum b);

/* map_with_state.c, update_state.c, deduplicate.c */
extern const SxStepOps sx_map_with_state_ops;
extern const SxStepOps sx_update_state_ops;
extern const SxStepOps sx_deduplicate_ops;

#endif							/* SX_KEYED_H */
