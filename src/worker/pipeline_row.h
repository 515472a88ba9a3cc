/*-------------------------------------------------------------------------
 *
 * pipeline_row.h
 *		The row of a pipeline as scheduler and worker read and write it.
 *
 * All functions need a transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_PIPELINE_ROW_H
#define SX_PIPELINE_ROW_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* A pipeline that should be running, as the scheduler sees it. */
typedef struct SxDuty
{
	int			id;
	int			slot;			/* which of its workers: 0, unless parallelism > 1 */
	char	   *name;
	Oid			owner;
	char	   *owner_name;		/* NULL: there is no such role any more */
	char	   *obstacle;		/* why the owner could not connect now, or NULL */
	TimestampTz retry_at;		/* DT_NOBEGIN: at once */
} SxDuty;

/* What the worker of a pipeline goes by. */
typedef struct SxPipelineRow
{
	char	   *name;
	bool		run_to_end;
	char	   *definition;		/* equal as long as nothing was changed that a
								 * worker reads when it begins */
	bool		letters;		/* dead letters are waiting to be fed */
	char	   *error_sqlstate; /* of the failure before, or NULL */
	char	   *error_message;
} SxPipelineRow;

/* List of SxDuty */
extern List *sx_duties(void);

/* NULL: the pipeline is gone, or is not to run. */
extern SxPipelineRow *sx_pipeline_row(int id, int slot);

/* A start counts as a failure until the worker has shown that it works. */
extern bool sx_row_starting(int id, int slot);
extern void sx_row_not_started(int id, int slot);
extern bool sx_row_works(int id, int slot);

extern void sx_row_failed(int id, int slot, bool counted, int sqlerrcode, const char *message);
extern void sx_row_stopped(int id, int sqlerrcode, const char *message);
extern bool sx_row_waiting(int id, int sqlerrcode, const char *message);
extern void sx_row_reached_end(int id);

/*
 * run() of several workers: the slots above 0 say that they have reached the end (false:
 * the slot is not ours any more), and slot 0 asks whether all of them have.
 */
extern bool sx_row_at_end(int id, int slot, int64 epoch);
extern bool sx_row_others_at_end(int id);

#endif							/* SX_PIPELINE_ROW_H */
