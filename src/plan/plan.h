/*-------------------------------------------------------------------------
 *
 * plan.h
 *		From a SELECT over streams to the statements that a batch runs.
 *
 * At creation, sx_plan_create_view() and sx_plan_create_sink() check that the
 * query can be kept exactly (or refuse it with the reason), make the hidden view
 * that holds the query, the state table and the visible view, and register the
 * step.  At run time sx_plan_load() derives the statements anew from the stored
 * query, so renamed tables and columns need no care.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_PLAN_H
#define SX_PLAN_H

#include "datatype/timestamp.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"

typedef enum SxStepKind
{
	SX_STEP_VIEW,
	SX_STEP_SINK,
	SX_STEP_STREAM				/* a derived stream with rows of its own */
} SxStepKind;

typedef enum SxStrategy
{
	SX_STRATEGY_APPEND,
	SX_STRATEGY_MERGE,
	SX_STRATEGY_RECOMPUTE,		/* over nodes: rows of the touched keys, anew */
	SX_STRATEGY_REDUCE,			/* … over one that keeps only rows of the result */
	SX_STRATEGY_RETRACT,		/* over a node: less its old rows, plus its new ones */
	SX_STRATEGY_DISTINCT,		/* merge, with nodes that keep the different values */
	SX_STRATEGY_SESSION,		/* session windows */
	SX_STRATEGY_JOIN,			/* of two nodes: what their new rows bring */
	SX_STRATEGY_SINK_TABLE,
	SX_STRATEGY_SINK_NULL,
	SX_STRATEGY_SINK_FUNCTION,
	SX_STRATEGY_SINK_FILE,
	SX_STRATEGY_SINK_PRINT,
	SX_STRATEGY_SINK_NOTIFY,
	SX_STRATEGY_BATCH,			/* streams: the query's rows of the batch */
	SX_STRATEGY_WINDOW,			/* … of the last batches */
	SX_STRATEGY_UPDATE_STATE,
	SX_STRATEGY_MAP_WITH_STATE,
	SX_STRATEGY_DEDUPLICATE,
	SX_STRATEGY_CHANGES			/* of a continuous view */
} SxStrategy;

typedef enum SxEmit
{
	SX_EMIT_CHANGES,
	SX_EMIT_FINAL,
	SX_EMIT_INTERVAL
} SxEmit;

typedef enum SxLate
{
	SX_LATE_UPDATE,
	SX_LATE_DROP,
	SX_LATE_DEAD_LETTER
} SxLate;

/* A windowed stream: state/arrival_window.c. */
typedef struct SxWindowSpec
{
	bool		batches;		/* lengths are batches, else microseconds */
	int64		length;
	int64		slide;			/* 0, in time only: every batch in which what is read
								 * has rows */
	char	   *fill_sql;		/* its rows; $1, $2: first and last batch */
	char	   *trim_sql;		/* deletes rows; batches after $1, up to $2 */
} SxWindowSpec;

/* A query over a windowed stream that is answered from panes: plan/panes.c. */
typedef struct SxPanes
{
	Oid			table;
	Oid			window;			/* the windowed stream */
	char	   *add_sql;		/* $1, $2: batches after the first, up to the second */
	char	   *merge_sql;		/* $1: level, $2, $3: first and last pane of the one below */
	char	   *trim_sql;		/* $1: level, $2, $3: panes after, up to */
	char	   *last_sql;		/* the last batch that has a pane */
	char	   *forget_sql;		/* $1: larger panes that reach behind this batch */
} SxPanes;

/* A view over nodes: plan/recompute.c. */
typedef struct SxRecompute
{
	bool		keyed;			/* else there is no $1, and all is computed again */
	char	   *key;			/* the key in each node, for explain() */
	char	   *keys_sql;		/* bigint[] of touched keys, NULL: none */
	char	   *feed_sql;		/* SX_STRATEGY_REDUCE: in place of the node's apply_sql, or NULL */
	char	   *prune_sql;		/* SX_STRATEGY_REDUCE: $1: keys, else NULL */
	char	   *changed_sql;	/* … those of the keys in $1 that have got a row by then,
								 * with a number of arrival above $2; NULL: all of them */
	char	   *delete_sql;		/* $1: keys */
	char	   *insert_sql;
	char	   *stored_sql;		/* $1: keys; their rows and the places of these */
	char	   *rows_sql;		/* $1: keys; their rows as they are now */
	char	   *delete_these_sql;	/* $1: tid[] */
	char	   *insert_these_sql;	/* $1: array of rows of the state table */
} SxRecompute;

/* Session windows: plan/session.c. */
typedef struct SxSession
{
	/* Where rows are kept, and not for ever; else NULL. */
	char	   *evict_sql;		/* $1, $2 timestamptz: rows of sessions that ended at or
								 * before $1, and behind $2, go */
	char	   *forget_sql;		/* $1: rows of the batch that are in no session that ends
								 * behind it go */
} SxSession;

/* A step of a pipeline: everything that a batch has to know about it. */
typedef struct SxStepPlan
{
	Oid			relid;			/* the continuous view, or the sink's table */
	Oid			query;			/* the hidden view that holds the query */
	Oid			state;			/* state table, or the sink's target table */
	Oid			owner;
	char	   *name;			/* schema-qualified, quoted */
	SxStepKind	kind;
	SxStrategy	strategy;
	char	   *reason;			/* why this strategy, for explain() */
	List	   *streams;		/* Oids of the source streams behind it */
	List	   *reads;			/* Oids of derived streams with rows of their own,
								 * and of continuous views a view stands on, that it
								 * reads directly */
	List	   *time_streams;	/* views: streams whose watermark is the step's … */
	List	   *time_views;		/* … and views that hand one on */
	List	   *closed_views;	/* of these, those whose closed windows are its rows */
	const struct SxWindow *closes;	/* emit = 'final': its windows, for the watermark that
									 * it hands on */
	List	   *options;		/* DefElems, as given; names in them qualified */
	bool		leaves;			/* its rows leave the database: the batch's commit
								 * is flushed */

	bool		stateless;		/* a stream that keeps nothing between batches */
	bool		end_watermark;	/* must know the watermark at the end of the batch
								 * when it runs */
	bool		windowed;		/* knows lateness, so it has a watermark of its own */
	SxEmit		emit;
	SxLate		late;
	int64		emit_interval;	/* microseconds, for SX_EMIT_INTERVAL */
	int64		retention;		/* microseconds, -1: for ever */
	bool		evicts;			/* a node: rows of closed windows go */
	const char *only;			/* a node: its reader wants these rows alone; NULL: all */
	bool		keeps_first;	/* a node: its reader makes others go (reduce.c) */
	int64		state_ttl;		/* microseconds; 0: none */
	SxPanes    *panes;			/* NULL: none */
	const char *no_panes;		/* for explain(): why none, over a windowed stream */
	SxWindowSpec *window;		/* SX_STRATEGY_WINDOW, else NULL */
	Oid			changes_of;		/* SX_STRATEGY_CHANGES: the view */
	bool		closing;		/* … whose rows appear when their window closes */
	SxRecompute *recompute;		/* SX_STRATEGY_RECOMPUTE and _REDUCE, else NULL */
	SxSession  *session;		/* SX_STRATEGY_SESSION, else NULL */
	List	   *join_sql;		/* SX_STRATEGY_JOIN: statements of a batch, in order;
								 * $1 bigint: arrival numbers up to it are old */
	char	   *join_bound;		/* … in words */
	List	   *clock;			/* streams whose watermark it goes by, where these are not
								 * its own: a side of a join has that of the join */

	/*
	 * Statements, ready for SPI_prepare under search_path = pg_catalog, with the
	 * argument types noted.  NULL where the step has no such statement.
	 */
	char	   *apply_sql;		/* once a batch; no arguments.  A SELECT where the
								 * rows go to the step's operations */
	char	   *rows_sql;		/* SX_STRATEGY_MERGE: the rows that apply_sql merges, in no
								 * order; NULL: they are collected elsewhere first */
	List	   *then_sql;		/* … and these, after it; no arguments */
	char	   *emit_sql;		/* SX_EMIT_INTERVAL: publish what was collected */
	char	   *emit_clear_sql; /* … and forget it, run right after */
	char	   *expire_sql;		/* $1 timestamptz: delete windows that ended at or
								 * before it */
	bool		expire_in_steps;	/* … at most $2 bigint rows at a time */
	char	   *call_sql;		/* SX_STRATEGY_SINK_FUNCTION: $1 bigint, $2
								 * timestamptz */
	char	   *start_sql;		/* the row that a view without GROUP BY has from the
								 * start: run once, and again after its state was
								 * emptied */
	char	   *late_sql;		/* SX_LATE_DEAD_LETTER: gives (stream regclass, record
								 * tid) of the rows all of whose windows are late; no
								 * arguments */
} SxStepPlan;

/* The lowest event time that a view with these windows can give out behind a watermark. */
extern TimestampTz sx_output_watermark(const struct SxWindow *window, TimestampTz watermark);

/* In the current context.  Needs a transaction and a snapshot. */
extern SxStepPlan *sx_plan_load(Oid relid);

/*
 * ERROR when a foreign table's columns are not those of its hidden view any more:
 * without the preloaded library, ALTER FOREIGN TABLE cannot be refused.
 */
extern void sx_plan_check_columns(Oid relid, Oid query);

/* SQL that shows what a stream holds between batches: a window, or states. */
extern char *sx_plan_peek_sql(const SxStepPlan *plan);

/* relink.c: dependencies that a dump does not have. */
extern void sx_plan_relink(Oid relid);

/*
 * names.c: after a rename, the options of all streams get today's names.  Some are known
 * by name alone: what those meant has to be remembered before.
 */
extern List *sx_names_before(void);
extern void sx_names_refresh(List *before);

/* load.c */
extern Oid	sx_relation_owner(Oid relid);

/* The maintenance plan of a view, sink or derived stream, for people. */
extern char *sx_plan_explain(Oid relid);

/* … and of what a statement would create. */
extern char *sx_plan_explain_query(CreateTableAsStmt *stmt,
								   const char *query_string);

/*
 * CREATE MATERIALIZED VIEW over streams.  stmt->query is the analysed Query.
 * Returns false, having done nothing, when the query reads no stream.
 */
extern bool sx_plan_create_view(CreateTableAsStmt *stmt, const char *query_string);

/*
 * CREATE STREAM … AS SELECT without a connector: a registered view when it is row by
 * row, else a foreign table with a query.
 */
extern void sx_plan_create_derived(CreateTableAsStmt *stmt,
								   const char *query_string);

/* CREATE STREAM … WITH (connector = …) AS SELECT: a sink. */
extern void sx_plan_create_sink(CreateTableAsStmt *stmt,
								const char *query_string);

/*
 * The streams behind a query or relation, as Oids.  A derived stream that has rows of
 * its own in a batch is a foreign table with a query; others are views, through which
 * one sees.
 */
typedef struct SxReads
{
	List	   *streams;		/* every source, at whatever depth */
	List	   *sources;		/* those that are read directly */
	List	   *derived;		/* derived streams with rows of their own, likewise */
	List	   *all_derived;	/* … at whatever depth */
	List	   *views;			/* continuous views: to a stream or sink, tables */
} SxReads;

/* options: of the stream or sink, for "source"; may be NIL. */
extern SxReads sx_query_reads(Query *query, List *options);
extern SxReads sx_relation_reads(Oid relid);

/*
 * … of a continuous view: those of the continuous views that it stands on are its streams,
 * too, and those views are among what it reads directly.
 */
extern SxReads sx_view_reads(Query *query);

/* ERROR when a step cannot run in a pipeline with several workers (slots.c). */
extern void sx_check_slots(Oid relid);

/* Does this analysed query read a stream, directly or through views? */
extern bool sx_query_reads_stream(Query *query);

/* … or a continuous view, likewise? */
extern bool sx_reads_continuous_view(Node *node);

/* … either of them?  Then CREATE MATERIALIZED VIEW makes a continuous one. */
extern bool sx_query_is_continuous(Query *query);

/* Only the sources, at whatever depth. */
extern List *sx_query_streams(Query *query);
extern List *sx_relation_streams(Oid relid);

#endif							/* SX_PLAN_H */
