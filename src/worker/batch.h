/*-------------------------------------------------------------------------
 *
 * batch.h
 *		A pipeline as a worker or step() holds it, and the batch in progress.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_BATCH_H
#define SX_BATCH_H

#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"
#include "plan/plan.h"
#include "source/source.h"
#include "utils/tuplestore.h"

/* "sqlstate" of a late row: a class of our own, no error has it. */
#define SX_ERRCODE_LATE		MAKE_SQLSTATE('S', 'X', '0', '0', '1')

/*
 * Too many records fail in a step: max_errors, max_errors_per_hour, or all of a batch.
 * The batch is rolled back; sx_blamed_step is the step, InvalidOid: they cannot be decoded.
 */
#define SX_ERRCODE_TOO_MANY_ERRORS	MAKE_SQLSTATE('S', 'X', '0', '0', '2')

/* A record that failed, to become a row of streamext.dead_letter. */
typedef struct SxDeadRecord
{
	int			source;			/* index into SxPipeline.sources */
	int			record;			/* ordinal within the source's batch */
	int			step;			/* index into SxPipeline.steps; -1: all of them */
	int			sqlerrcode;
	char	   *message;
	Bitmapset  *left_out;		/* steps with state that go without it on its account */
} SxDeadRecord;

/*
 * What a step does, by its strategy (step_ops.c).  All but open are called within a
 * batch, and again for each attempt at it: what they remember between batches must
 * be what was committed, so they put it into new_… members of the step, or forget it
 * when an attempt begins (apply).
 */
typedef struct SxPipeline SxPipeline;
typedef struct SxStep SxStep;

typedef struct SxStepOps
{
	/* Once when the pipeline is opened, in a transaction.  May be NULL. */
	void		(*open) (SxPipeline *pl, SxStep *step);

	/*
	 * Puts the batch into the step; sets step->rows.  pl->running_step is this one; SPI
	 * is not connected.  Bisecting calls it in subtransactions that are rolled back.
	 */
	void		(*apply) (SxPipeline *pl, SxStep *step);

	/* When the step has its new_watermark, before anything goes for it.  May be NULL. */
	void		(*close) (SxPipeline *pl, SxStep *step);

	/*
	 * At the end of the batch, when every watermark is known and the step has its
	 * new_watermark: sets new_timer.  May be NULL.
	 */
	void		(*finish) (SxPipeline *pl, SxStep *step);

	/*
	 * Before a scan of the step's rows begins: makes them, where apply has put that off.
	 * May be NULL.
	 */
	void		(*fill) (SxPipeline *pl, SxStep *step);

	/* Called in every batch, also when a windowed stream that it reads does not fire. */
	bool		always;

	/* With batch_interval set, there is a batch each interval, data or not. */
	bool		every_interval;
} SxStepOps;

/* The rows that a stream or sink has in the batch in progress (batch_rows.c). */
typedef struct SxRows
{
	MemoryContext context;		/* of all the rest, in that of the transaction */
	Tuplestorestate *store;		/* NULL: none yet in this attempt */
	TupleDesc	desc;			/* of the relation; as long as the pipeline */
	Bitmapset  *free_pointers;	/* read pointers that no scan uses */
	int			on_behalf;		/* the step whose bad records are left out too; -1 */
	bool		feeding;		/* made for a step that is fed dead letters */
} SxRows;

/* What a batch has changed in the state table of a step (state/changes.c). */
typedef struct SxChanges
{
	MemoryContext context;		/* NULL: nothing so far in this attempt */
	Tuplestorestate *before;
	Tuplestorestate *after;
} SxChanges;

#define SX_JOIN_STATEMENTS	6

/* Statements that only one kind of step has. */
typedef enum SxOwnPlan
{
	SX_OWN_FILL,				/* windows: rows of the window, rows that have left */
	SX_OWN_TRIM,
	SX_OWN_PANE_ADD,			/* panes */
	SX_OWN_PANE_MERGE,
	SX_OWN_PANE_TRIM,
	SX_OWN_PANE_LAST,
	SX_OWN_PANE_FORGET,
	SX_OWN_KEYS,				/* recompute: touched keys, their old rows, new rows */
	SX_OWN_PRUNE,				/* reduce: rows of the node that cannot matter */
	SX_OWN_CHANGED,
	SX_OWN_DELETE,
	SX_OWN_INSERT,
	SX_OWN_STORED,				/* … when they are compared: those stored and computed, */
	SX_OWN_FRESH,
	SX_OWN_DELETE_THESE,		/* those that are not among the others */
	SX_OWN_INSERT_THESE,
	SX_OWN_EVICT,				/* sessions: rows of those that are closed, late rows */
	SX_OWN_FORGET,
	SX_OWN_JOIN,				/* joins: the first of their statements */
	SX_OWN_PLANS = SX_OWN_JOIN + SX_JOIN_STATEMENTS
} SxOwnPlan;

/* A step with what the pipeline adds to its plan. */
struct SxStep
{
	SxStepPlan *plan;
	const SxStepOps *ops;
	void	   *private;		/* of ops, in the pipeline's context */
	Oid			relid;
	int			index;
	int64		delivery_offset;	/* of a sink: see sx_step_delivery */
	char	   *timezone;		/* settings of the session that created it */
	char	   *datestyle;
	char	   *intervalstyle;
	char	   *search_path;
	SPIPlanPtr	apply;			/* saved plans, prepared at first use */
	int			plan_size;		/* of batches that apply is planned for: plan_size.c */
	int			smaller;		/* batches since that would have another one */
	SPIPlanPtr	emit;
	SPIPlanPtr	emit_clear;
	SPIPlanPtr	expire;
	SPIPlanPtr	late;
	TimestampTz watermark;		/* of the view, at the end of the batch before;
								 * DT_NOBEGIN: none */
	TimestampTz last_emit;		/* SX_EMIT_INTERVAL; a window's last boundary */
	bool		pending;		/* … rows were collected since */
	bool		expired;		/* nothing is left to expire; false: not known */

	/* of the batch in progress */
	TimestampTz new_watermark;	/* become the ones above at commit */
	bool		new_expired;
	TimestampTz new_last_emit;
	bool		new_pending;
	int64		rows;			/* rows that apply wrote */
	int64		late_rows;		/* pairs (row, window) found late */
	int64		null_time_rows;
	int64		runs;			/* of apply, in this process: sessions */
	bool		late_told;		/* letters of late rows are noted */
	int			scans;			/* scans of streams begun by the running statement */
	int64		arrivals;		/* calls of streamext.arrival() */

	/* Failures for max_errors_per_hour: see error_limit.c. */
	TimestampTz errors_from;
	int64		errors_now;
	int64		errors_before;
	TimestampTz new_errors_from;
	int64		new_errors_now;
	int64		new_errors_before;

	/*
	 * A batch is due at this batch time for the step's own sake, data or not; DT_NOEND:
	 * none.  exact: that batch has this time, however late it comes.
	 */
	TimestampTz timer;
	TimestampTz new_timer;		/* becomes the timer at commit */
	bool		exact_timer;

	bool		due;			/* every windowed stream that it reads fires in this
								 * batch (a window itself: it fires) */
	SPIPlanPtr	call;			/* SX_STRATEGY_SINK_FUNCTION */
	SPIPlanPtr	own[SX_OWN_PLANS];
	SPIPlanPtr *then;			/* of then_sql; NULL: none has run */
	int64		panes_upto;		/* panes are complete up to this batch … */
	int64		panes_trimmed;	/* … and gone up to that one; -1: not known */
	SxRows		output;
	bool		after_closing;	/* it stands on closed windows: runs when watermarks are
								 * known */
	bool		captured;		/* another step starts from what this one changes … */
	SxChanges	changes;		/* … in this attempt at the batch */
	bool		applied;		/* in this attempt, or probe */

	/*
	 * A step that knows which record it is at need not be bisected, which would
	 * show its function records without those before them: when it fails at one, the
	 * batch is tried again with "careful" set, and then it sets bad records aside
	 * itself.
	 */
	bool		at_record;
	bool		careful;
};

/* One source with what the batch keeps about it. */
typedef struct SxInput
{
	SxSource   *source;
	SxSource   *live;			/* the source proper, while a batch of dead letters
								 * has another one in its place; else NULL */
	int			index;
	int64		allowed;		/* rows that the next poll may take: see rate.h */
	int64		rows;			/* of the last batch */
	bool		had_less;		/* … than it was allowed, clearly */
	TimestampTz watermark;		/* of the stream, end of the last batch */
	TimestampTz moved_to;		/* divided: what it becomes by the closing in progress */
	bool		divided;		/* … over the partitions of all slots, which slot 0 alone
								 * moves */
	bool		end_reached;	/* since the pipeline was asked for its end */
	int			tracked;		/* records whose event time is accounted for */
	int			nparts;			/* partitions that part_max knows */
	TimestampTz *part_max;		/* by partition: highest event time of this attempt */
	TimestampTz skew_limit;		/* later event times do not move the watermark */
	int64		future_rows;	/* … and are counted here */
	Bitmapset  *bad;			/* undecodable records: no step sees them */
	Bitmapset **bad_for;		/* by step: records this step does not see */
	int			probe_from;		/* bisecting: only records in [from, to) are seen */
	int			probe_to;
	struct SxSharing *sharing;	/* columns that its scans share: fdw/shared.c */
} SxInput;

/* What there is to do after a poll. */
typedef enum SxDue
{
	SX_DUE_NOTHING,
	SX_DUE_BATCH,
	SX_DUE_POSITION,			/* positions only: no batch id is taken */
	SX_DUE_LETTERS				/* a batch of dead letters: see replay.c */
} SxDue;

struct SxPipeline
{
	int			id;
	char	   *name;
	int			lane_of;		/* a lane: the pipeline it is merged into; else 0 */
	List	   *lane_streams;	/* … the streams of that one, for their options */
	bool		merging;		/* this batch is to be the last of the lane */
	bool		gives_way;		/* a state table could be made smaller without us (state_compact.h) */
	bool		merged;			/* it was: the pipeline does not exist any more */
	Oid			owner;
	MemoryContext context;		/* as long as the pipeline is held */
	MemoryContext batch_context;	/* reset when a batch has ended, not by abort */
	SxInput    *inputs;
	int			ninputs;
	SxStep	   *steps;			/* in order of creation, which is topological */
	int			nsteps;
	bool		end_watermark;	/* a step must know the end's watermark in advance */
	bool		every_interval; /* a step wants a batch each batch_interval */

	/* options */
	int64		batch_interval; /* microseconds */
	int64		max_rows;
	int64		max_bytes;
	int			max_files;
	int64		max_errors;		/* of a step in one batch */
	int64		max_errors_hour;	/* … in about an hour */
	int			step_timeout;	/* milliseconds, 0: none */
	bool		async_commit;
	char	   *on_error;		/* dead_letter, skip, stop */

	struct SxRate *rate;		/* of a worker; NULL: no back-pressure (step) */
	SxDue		due;			/* what the last poll found */
	SxSource   *polled;			/* the source that is being polled, or NULL */
	double		last_commit_ms;
	int64		poll_us;		/* of the polls since the last batch */

	/* committed progress */
	int			slot;			/* which worker of the pipeline this is … */
	int			slots;			/* … of how many */
	bool		closing;		/* of slot 0: see slot_close.c */
	bool		closing_held;	/* the last one found its row held by somebody */
	int64		epoch;
	int64		batch_id;		/* of the last batch; 0: none yet */
	TimestampTz batch_time;
	TimestampTz first_batch_time;	/* DT_NOBEGIN: none yet */

	struct SxIdle *idle;		/* statements with nothing to do: step_idle.c */

	/* the batch in progress */
	TimestampTz time;			/* batch_time() */
	Snapshot	snapshot;
	int			conflicts;		/* deadlocks and the like that it has lost: conflict.c */
	int64		arrival_batch;	/* of its rows' numbers of arrival; 0: none was given yet */
	int			running_step;	/* index, -1: none */
	int			applying;		/* the step whose turn it is, also when running_step is
								 * a stream that it reads, or none; -1 */
	int			decoding_input; /* whose record is being decoded, -1: none */
	int			decoding_record;
	int			read_input;		/* the record that a scan has handed out last */
	int			read_record;
	bool		retried;		/* a step that fails as a whole had its second chance */
	int			timeouts;		/* attempts at this batch that took too long */
	bool		letters;		/* there may be dead letters to be fed */
	struct SxReplay *replay;	/* this batch is one of dead letters; else NULL */
	bool		feeding;		/* what is evaluated is read by a step that is fed */
	bool		must_restart;	/* a bad record was seen too late: run it again */
	bool		record_named;	/* on_error = stop: the error tells its record */
	bool		probing;		/* bisecting: what is done is rolled back */
	bool		timing_out;		/* a state function is called for no record */
	int			on_behalf;		/* the step for which a stream is evaluated anew; -1 */
	List	   *dead;			/* of SxDeadRecord */
};

typedef struct SxBatchResult
{
	int64		batch_id;
	TimestampTz batch_time;
	int64		rows;
	int64		bytes;
	int64		dead_letters;
	int64		poll_us;
	int64		load_us;
	int64		steps_us;
	int64		commit_us;
} SxBatchResult;

/* Rows with a number of arrival up to this are from batches before this one. */
extern int64 sx_last_arrival_before(SxPipeline *pl);

/* The pipeline whose batch runs in this process, or NULL. */
extern SxPipeline *sx_current;

/*
 * The step whose own doing runs at the moment, from its opening to its part in the end of
 * a batch; InvalidOid: none.  Stays set when that fails, so that the worker knows whom to
 * detach.
 */
extern Oid	sx_blamed_step;

/* Number of what this batch delivers for a sink; never falls, wherever it is moved. */
static inline int64
sx_step_delivery(const SxPipeline *pl, const SxStep *step)
{
	return pl->batch_id + 1 + step->delivery_offset;
}

/*
 * Opens a pipeline: reads its catalog rows, opens its sources.  Lives in a new
 * context under parent.  Needs a transaction.  ERROR when there is none of that
 * id.  take_over: start a new epoch, which fences every earlier holder.
 */
extern SxPipeline *sx_pipeline_open(int id, int slot, MemoryContext parent, bool take_over);
extern void sx_pipeline_close(SxPipeline *pl);

/*
 * Polls every source.  Outside any transaction (within one for step()).  A batch may
 * be due for a timer alone.
 */
extern SxDue sx_pipeline_poll(SxPipeline *pl, TimestampTz now, bool to_end);

/* Did a limit end the last batch of this input, so that more is waiting? */
static inline bool
sx_input_was_full(const SxInput *input)
{
	return input->rows * 10 >= input->allowed * 9;
}

/*
 * A small batch has at most this many records of each source.  It may leave out statements
 * that would do nothing.
 */
#define SX_SMALL_BATCH	64

/*
 * An option of the pipeline: the first source that gives it decides; they were checked
 * to agree.  NULL: none does.
 */
extern const char *sx_pipeline_option(const SxPipeline *pl, const char *name);

/* The time of a batch that is cut now: that of an exact timer, else now. */
extern TimestampTz sx_pipeline_batch_time(const SxPipeline *pl, TimestampTz now);

/* Milliseconds until a poll is worth while, -1 for ever; fds of the sources. */
extern long sx_pipeline_wait(SxPipeline *pl, int *fds, int *nfds);

/*
 * Runs one batch and commits it.  In a worker: in a transaction of its own, which
 * is not open when this is called; in step(): in a subtransaction of the caller's.
 * Bad records are dead-lettered within.  ERROR is thrown for what is not a
 * record's fault; nothing of the batch has happened then and the records are still
 * held, so that the same batch can be tried again.
 */
typedef enum SxBatchOutcome
{
	SX_BATCH_DONE,
	SX_BATCH_NOTHING,			/* no dead letters were there */
	SX_BATCH_AGAIN,				/* nothing has happened: a source reads its records again */
	SX_BATCH_FENCED				/* another holder has taken over: let go */
} SxBatchOutcome;

extern SxBatchOutcome sx_batch_run(SxPipeline *pl, TimestampTz now,
								   bool own_transaction, SxBatchResult *result);

/*
 * Has every source reached what it held when this was first called?  After a "yes"
 * the next call is a first one again.
 */
extern bool sx_pipeline_reached_end(SxPipeline *pl);

/* pipeline_try.c: NULL, without a transaction, when something that it reads is locked */
extern SxPipeline *sx_pipeline_try_open(int id, int slot);

/*
 * slot_close.c: pipelines of several workers.  Slot 0 moves the watermarks, by what all
 * slots have committed, in a transaction of its own.  Nothing: there is none to move.
 */
extern SxBatchOutcome sx_slots_close(SxPipeline *pl, bool own_transaction);

/* Does it have watermarks that slot 0 moves? */
extern bool sx_slots_have_time(const SxPipeline *pl);

#endif							/* SX_BATCH_H */
