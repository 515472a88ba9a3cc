/*-------------------------------------------------------------------------
 *
 * sink.h
 *		Sinks whose rows leave the database: file, print, notify.
 *
 * A connector has two halves.  The first runs in the batch: rows of the sink's query
 * are encoded and put into the outbox (or, for notify, handed to the server), in the
 * transaction of the batch.  The second runs in the scheduler after that transaction has
 * committed: what stands in the outbox is sent, in order, until it is certain to have
 * arrived.  See README.md.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_SINK_H
#define SX_SINK_H

#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "nodes/parsenodes.h"
#include "plan/plan.h"

struct SxPipeline;
struct SxStep;

/* One batch of a sink, while its rows are encoded. */
typedef struct SxSinkBatch
{
	struct SxPipeline *pl;
	struct SxStep *step;
	List	   *options;		/* DefElems with strings */
	TupleDesc	desc;			/* of the rows, blessed */
	MemoryContext context;		/* of the whole batch */
	StringInfoData buf;			/* encoded, and not yet in the outbox */
	int			seq;			/* chunks in the outbox */
	int64		nrows;			/* rows so far, the one at hand included */
	void	   *private;		/* the connector's */
} SxSinkBatch;

/* One delivery, which is what a batch wrote into a sink, on its way out. */
typedef struct SxDelivery
{
	Oid			sink;
	Oid			owner;
	char	   *label;			/* name of the sink, for messages */
	List	   *options;
	int64		number;			/* the batch's id */
	bool		first;			/* of this process: earlier ones may have left traces */
	MemoryContext context;		/* as long as the sink is known */
	void	   *private;		/* the connector's; NULL while nothing is open */
} SxDelivery;

typedef struct SxSinkOps
{
	const char *connector;
	SxStrategy	strategy;

	/*
	 * At creation: ERROR when the sink could not work.  May replace the values of
	 * options.  describe: where the rows go, for explain().
	 */
	void		(*check) (Query *query, List *options);
	char	   *(*describe) (List *options);

	/* In the batch.  row() is called in a context that is reset after each row. */
	void		(*begin) (SxSinkBatch *batch);
	void		(*row) (SxSinkBatch *batch, TupleTableSlot *slot);
	void		(*end) (SxSinkBatch *batch);

	/*
	 * Sending; NULL where nothing goes through the outbox.  allow() is called in a
	 * transaction, the others outside.  All may throw; then abandon() is called,
	 * which must not.  When close() has returned the delivery has arrived for good.
	 * Sending the same delivery again must do no harm.
	 */
	void		(*allow) (SxDelivery *delivery);
	void		(*open) (SxDelivery *delivery);
	void		(*write) (SxDelivery *delivery, const char *data, size_t len);
	void		(*close) (SxDelivery *delivery);
	void		(*abandon) (SxDelivery *delivery);
} SxSinkOps;

extern const SxSinkOps sx_sink_file;
extern const SxSinkOps sx_sink_print;
extern const SxSinkOps sx_sink_notify;

/* NULL: not one of ours */
extern const SxSinkOps *sx_sink_find(const char *connector);

/* ---------- sink.c: creation and plan ---------- */

/* Checks what CREATE STREAM says; nothing happens for connectors of others. */
extern void sx_sink_check(Query *query, List *options);

/* Fills strategy, reason and SQL; false: not a connector of ours. */
extern bool sx_sink_plan(SxStepPlan *plan, List *options, const char *query_view);

/* Sinks with an outbox get their row of streamext.delivery. */
extern void sx_sink_register(Oid sink, List *options);

/* ---------- sink.c, outbox.c: in a batch ---------- */

/* The rows of this batch go into the sink; sets step->rows. */
extern void sx_sink_apply(struct SxPipeline *pl, struct SxStep *step);

/*
 * Moves what is encoded into the outbox: as many chunks as are full, or all of it.
 */
extern void sx_outbox_put(SxSinkBatch *batch, bool all);

/*
 * Has a sink of this pipeline too much that is not sent yet?  Then status says so.
 * Cheap: asks the catalog, in a transaction of its own, only when there may be too
 * much, and while there is, ten times a second.  For the process of a worker.
 */
extern bool sx_outbox_is_full(const struct SxPipeline *pl, const char **status);

/* ---------- sender.c: in the scheduler ---------- */

/*
 * Sends for a while.  Gives the milliseconds after which it wants to be called again;
 * 0: there is more to send.
 */
extern long sx_sender_run(void);

#endif							/* SX_SINK_H */
