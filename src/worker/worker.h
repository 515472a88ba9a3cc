/*-------------------------------------------------------------------------
 *
 * worker.h
 *		Launcher, scheduler and pipeline workers, and how they are woken.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_WORKER_H
#define SX_WORKER_H

#include "datatype/timestamp.h"

/* From _PG_init, at preload only: shared memory hooks and the launcher. */
extern void sx_worker_init(void);

/*
 * Wakes processes when this transaction commits (nothing happens on abort).
 * May be called often; each is remembered once a transaction.
 *		scheduler	the catalog of pipelines has changed
 *		pipeline	this pipeline has new data (queue), or was changed
 *		sender		there is something in the outbox
 */
extern void sx_wake_scheduler_at_commit(void);
extern void sx_wake_pipeline_at_commit(int pipeline);
extern void sx_wake_sender_at_commit(void);

#define SX_STATUS_SIZE	256

/* What a worker publishes about itself, for streamext.pipelines. */
typedef struct SxWorkerStatus
{
	int			pid;
	TimestampTz started;
	double		rows_per_second;	/* over the last seconds */
	int64		batches;		/* of this worker */
	double		rate_limit;		/* rows per second now allowed, 0: no limit */
	double		target_ms;		/* how long a batch should take, 0: any time */
	char		rate_reason[64];	/* "" or what set the limit */
	char		status[SX_STATUS_SIZE]; /* "" or what is wrong: "disconnected since …" */
} SxWorkerStatus;

extern bool sx_worker_status(int pipeline, int slot, SxWorkerStatus *status);

/* Why no pipeline of this database runs, NULL when nothing stands in the way. */
extern const char *sx_why_nothing_runs(void);

/*
 * What the receiver of a stream says is wrong, "" when nothing is.  False: none runs.
 */
extern bool sx_receiver_status(Oid stream, char *status);

/*
 * Has the worker of this pipeline committed everything that its sources held when it
 * was first asked?  The request is zeroed at first; it remembers whom was asked what.
 */
typedef struct SxEndRequest
{
	int			pid;			/* of the worker that was asked; 0: none yet */
	uint64		number;
} SxEndRequest;

extern bool sx_worker_end_reached(int pipeline, int slot, SxEndRequest *request);

/* Entry points of the background workers. */
extern PGDLLEXPORT void sx_launcher_main(Datum arg);
extern PGDLLEXPORT void sx_scheduler_main(Datum arg);
extern PGDLLEXPORT void sx_pipeline_main(Datum arg);
extern PGDLLEXPORT void sx_receiver_main(Datum arg);

#endif							/* SX_WORKER_H */
