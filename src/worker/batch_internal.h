/*-------------------------------------------------------------------------
 *
 * batch_internal.h
 *		What the files worker/batch*.c and worker/pipeline.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_BATCH_INTERNAL_H
#define SX_BATCH_INTERNAL_H

#include "portability/instr_time.h"
#include "tcop/dest.h"
#include "worker/batch.h"

static inline int64
sx_elapsed_us(instr_time since)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, since);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/* batch_tx.c: the transaction that a batch is */
typedef struct SxBatchTx
{
	bool		own;			/* a transaction of its own, else a subtransaction */
	MemoryContext caller;
	ResourceOwner owner;
	Oid			userid;			/* step(): who called, to be restored */
	int			sec_context;
} SxBatchTx;

extern void sx_tx_begin(SxBatchTx *tx, const SxPipeline *pl, bool own);
extern void sx_tx_commit(SxBatchTx *tx);
extern void sx_tx_abort(SxBatchTx *tx);
extern void sx_tx_rethrow(ErrorData *edata) pg_attribute_noreturn();

/* batch.c: (re)loads all sources under pl->snapshot and makes them visible */
extern void sx_load_inputs(SxPipeline *pl);

/*
 * batch_wait.c: the batch's transaction with its locks, and the fence; what others hold
 * is waited for with nothing of ours held.
 */
extern void sx_begin_locked(SxBatchTx *tx, const SxPipeline *pl, bool own);
extern bool sx_pass_fence(SxPipeline *pl, bool positions_only, bool own);
extern bool sx_fence_waited(const SxPipeline *pl, int sqlerrcode);

/* batch_sql.c: a statement of the step, prepared at its first use; rows written */
extern int64 sx_step_execute(SxPipeline *pl, SxStep *step, SPIPlanPtr *plan,
							 const char *sql, int nargs, Oid *types, Datum *values);

/* The first column of the first row, in the caller's context; false: NULL, or no row. */
extern bool sx_step_value(SxPipeline *pl, SxStep *step, SPIPlanPtr *plan, const char *sql,
						  int nargs, Oid *types, Datum *values, Datum *value);
extern int64 sx_step_select(SxPipeline *pl, SxStep *step, SPIPlanPtr *plan,
							const char *sql, DestReceiver *dest);
extern int64 sx_step_select_with(SxPipeline *pl, SxStep *step, SPIPlanPtr *plan,
								 const char *sql, int nargs, Oid *types, Datum *values,
								 DestReceiver *dest);

/* What takes the rows of such a SELECT; startup and shutdown may be NULL. */
extern void sx_receiver_init(DestReceiver *dest, bool (*receive) (TupleTableSlot *, DestReceiver *),
							 void (*startup) (DestReceiver *, int, TupleDesc),
							 void (*shutdown) (DestReceiver *));

extern int	sx_step_enter(SxPipeline *pl, const SxStep *step);
extern void sx_step_leave(int nestlevel);
extern void sx_step_late_letters(SxPipeline *pl, SxStep *step);

/*
 * batch_lock.c: locks the relations of all steps.  Without wait: returns the first that
 * somebody else holds, InvalidOid when all are locked.
 */
extern Oid	sx_steps_lock(const SxPipeline *pl, bool wait);

/* batch_steps.c */
extern bool sx_step_reads(const SxStep *step, const SxInput *input);
extern void sx_step_apply(SxPipeline *pl, SxStep *step);

/* … with the streams that it reads before it, which a probe has on other records */
extern void sx_step_apply_alone(SxPipeline *pl, SxStep *step);
extern void sx_step_close(SxPipeline *pl, SxStep *step);
extern void sx_step_finish(SxPipeline *pl, SxStep *step);

/*
 * step_idle.c: would this statement of the step, or all of them that begin with what the
 * nodes below have changed, do nothing in this batch?  When in doubt: no.
 */
extern void sx_idle_open(SxPipeline *pl);
extern void sx_idle_begin(SxPipeline *pl);
extern bool sx_statement_is_idle(SxPipeline *pl, const SxStep *step, SPIPlanPtr plan);
extern bool sx_nodes_are_unchanged(SxPipeline *pl, const SxStep *step);

/* The step of a relation, NULL when the pipeline has none. */
extern SxStep *sx_find_step(SxPipeline *pl, Oid relid);

/* step_ops.c */
extern const SxStepOps *sx_step_ops(SxStrategy strategy);

/*
 * batch_rows.c: rows of a step in this batch.  They are gone with the transaction or
 * subtransaction in which they were made: end them before a commit, forget them after
 * an abort.
 */
extern void sx_rows_open(SxStep *step);
extern void sx_rows_begin(SxPipeline *pl, SxStep *step);
extern void sx_rows_put(SxStep *step, Datum *values, bool *isnull);
extern int64 sx_rows_select(SxPipeline *pl, SxStep *step, SPIPlanPtr *plan,
							const char *sql);
extern int64 sx_rows_fill(SxPipeline *pl, SxStep *step, SPIPlanPtr *plan,
						  const char *sql, int nargs, Oid *types, Datum *values);
extern void sx_rows_end(SxRows *rows);
extern void sx_rows_end_all(SxPipeline *pl);
extern void sx_rows_forget_all(SxPipeline *pl);

/* batch_watermark.c: the watermark that an input has now, never below its last */
extern TimestampTz sx_input_new_watermark(const SxInput *input);
extern TimestampTz sx_step_new_watermark(SxPipeline *pl, const SxStep *step);
extern TimestampTz sx_handed_on(SxPipeline *pl, const SxStep *step);

/* conflict.c: true when the batch lost against another transaction and may begin anew */
extern bool sx_lost_conflict(SxPipeline *pl, const ErrorData *edata);

/*
 * slot_close.c: behind the fence, in a pipeline of several workers: no window closes from
 * here to the commit, and lateness is tested by what is closed by now.
 */
extern void sx_slot_enter(SxPipeline *pl);

/* batch_save.c: what is committed with the output; false: fenced */
extern bool sx_save_begin(SxPipeline *pl, bool positions_only);
extern void sx_save_positions(SxPipeline *pl);
extern void sx_save_watermark(SxPipeline *pl, SxInput *input);
extern void sx_save_batch(SxPipeline *pl, const SxBatchResult *result,
						  TimestampTz started);

/* dead_letter.c: number of letters written; else a failed record is only counted */
extern int64 sx_save_dead_letters(SxPipeline *pl);
extern bool sx_becomes_letter(const SxPipeline *pl, const SxDeadRecord *dead);

/* error_limit.c: how many records may fail */
extern void sx_check_errors(SxPipeline *pl);
extern void sx_forget_errors(int pipeline);
extern bool sx_failed_for(const SxPipeline *pl, const SxDeadRecord *dead, int step);

/* step_timeout.c: how long a step may take.  Before the transaction's end: disarm. */
extern void sx_step_arm(SxPipeline *pl);
extern void sx_step_disarm(void);
extern bool sx_step_timed_out(const SxPipeline *pl, int step, ErrorData *edata);

/* Is it about a record, in a probe or the call for one?  Time-outs are, there. */
extern bool sx_is_records_fault(const SxPipeline *pl, int step, ErrorData *edata);

/*
 * replay.c: batches of dead letters.  Between begin and end other sources stand in the
 * place of the inputs' own.  load: false when there are none.
 */
typedef struct SxReplay
{
	MemoryContext context;
	int			input;			/* whose letters they are */
	Bitmapset  *fed;			/* steps that see them */
	int64	   *ids;			/* by record; then those of the failures before */
	int		   *attempts;
	int			n;
} SxReplay;

extern bool sx_replay_waiting(int pipeline);
extern void sx_replay_begin(SxPipeline *pl);
extern bool sx_replay_load(SxPipeline *pl);
extern void sx_replay_save(SxPipeline *pl);
extern void sx_replay_end(SxPipeline *pl);

/* Does the statement that runs see the batch's records? */
static inline bool
sx_replay_shows(const SxPipeline *pl)
{
	return pl->replay == NULL || pl->feeding ||
		(pl->running_step >= 0 && bms_is_member(pl->running_step, pl->replay->fed));
}

/*
 * batch_bisect.c: finds the records that make a step fail.  Returns how many were
 * newly found; 0: it is no record's fault.
 */
extern int	sx_find_bad_records(SxPipeline *pl, int step, bool own_transaction);

#endif							/* SX_BATCH_INTERNAL_H */
