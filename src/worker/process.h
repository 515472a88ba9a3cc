/*-------------------------------------------------------------------------
 *
 * process.h
 *		How our background workers are started, and how each of them begins.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_PROCESS_H
#define SX_PROCESS_H

#include "worker/shmem.h"

/* Travels in bgw_extra: all that a process knows when it begins. */
typedef struct SxStart
{
	int			slot;
	uint32		generation;
	Oid			database;
	Oid			owner;			/* InvalidOid: the bootstrap superuser */
	int			pipeline;		/* of a receiver: Oid of its stream */
	int			worker;			/* which slot of the pipeline */
} SxStart;

typedef enum SxStarted
{
	SX_STARTED,
	SX_START_BUSY,				/* such a process is there already */
	SX_START_LIMIT,				/* streamext.max_workers */
	SX_START_NO_PROCESS			/* max_worker_processes */
} SxStarted;

/*
 * Starts a scout or scheduler, in one go; a worker in two steps, so that the
 * scheduler can write down in between that it starts one.
 */
extern SxStarted sx_process_start(SxProcessKind kind, Oid database);
extern SxStarted sx_worker_reserve(Oid database, int pipeline, int worker, SxStart *start);
extern bool sx_worker_start(SxStart *start, Oid owner, const char *name);
extern SxStarted sx_receiver_start(Oid database, Oid stream, Oid owner, const char *name);

/* What every process does first.  Exits when it is not wanted any more. */
extern void sx_process_begin(SxStart *start, const char *application_name);
extern void sx_process_reload(void);

/* Milliseconds after which sessions look for a deadlock: our own look sooner. */
extern int	sx_deadlock_timeout;

/* Once a round of a loop: interrupts, the configuration.  True: it is time to leave. */
extern bool sx_process_breathe(void);

/* Until the latch is set, one of fds is readable, or the time (-1: none) has passed. */
#define SX_MAX_FDS		8
extern void sx_process_wait(const int *fds, int nfds, long timeout);

/* An error that was caught, as the server would have logged it. */
extern void sx_process_log_error(ErrorData *edata);

/* A short transaction with a snapshot. */
extern void sx_transaction_begin(void);
extern void sx_transaction_end(void);

/* The same in the scheduler, with the extension locked; exits when that is gone. */
extern void sx_scheduler_begin(void);

extern PGDLLEXPORT void sx_scout_main(Datum arg);

/* The mark of a database: see marker.c. */
extern void sx_mark_at_commit(void);
extern bool sx_unmark_when_dropped(void);

extern void sx_database_init(void);
extern void sx_wake_init(void);

/* What a worker publishes: see status.c. */
extern void sx_status_rows(int64 rows);
extern void sx_status_text(const char *text);
extern void sx_status_rate(double limit, double target_ms, const char *reason);

/* Slot 0 of this worker's pipeline: another slot has committed something. */
extern void sx_status_tell_first(void);

/* Number of the newest question of wait() that is open, 0: none; and its answer. */
extern uint64 sx_status_end_wanted(void);
extern void sx_status_end_reached(uint64 number);

#endif							/* SX_PROCESS_H */
