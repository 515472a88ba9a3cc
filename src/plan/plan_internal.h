/*-------------------------------------------------------------------------
 *
 * plan_internal.h
 *		What the files of plan/ share: how a query is taken apart.
 *
 * analyze.c says whether a query can be kept, event_time.c finds its windows,
 * layout.c lays out the state table, sql.c and sink.c write the maintenance SQL.
 * create.c and load.c run the very same steps, one to make the objects, the other
 * to derive the statements again from what was stored.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_PLAN_INTERNAL_H
#define SX_PLAN_INTERNAL_H

#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "nodes/primnodes.h"
#include "ddl/span.h"
#include "plan/plan.h"

/* ---------- analyze.c ---------- */

/* A query within the queries around it: for CTEs and outer references. */
typedef struct SxLevel
{
	Query	   *query;
	const struct SxLevel *parent;
	bool		of_view;		/* topmost: the query is a continuous view's */
} SxLevel;

/* Why a query cannot be kept; filled by the check that failed. */
typedef struct SxRefusal
{
	char	   *message;
	char	   *hint;
} SxRefusal;

extern void sx_refuse(SxRefusal *refusal, char *message, char *hint);
extern void sx_report_refusal(const SxRefusal *refusal) pg_attribute_noreturn();

/*
 * Row by row over one stream?  ERROR with the reason otherwise; at the top, GROUP
 * BY and aggregates are let pass.
 */
extern void sx_check_view_query(Query *query);

/* … without an error: can the query be kept so, and its aggregates be merged? */
extern bool sx_can_keep_alone(Query *query, SxRefusal *refusal);

/* ERROR when a continuous view would call a volatile function. */
extern void sx_refuse_volatile(Query *query);

/* Streams in a part of FROM: 0, none; 1, one, row by row; -1, neither, and why. */
extern int	sx_from_streams(Query *query, Node *node, SxRefusal *refusal);

/* The view that a call of streamext.kept_in() names: distinct.c.  InvalidOid: no such call. */
extern Oid	sx_kept_in_view(Node *node);

/* Does it read a continuous view that takes rows back?  One with emit = 'final' does not. */
extern bool sx_reads_changing_view(Node *node);

/* A copy of the query behind a view. */
extern Query *sx_view_query(Oid relid);
extern bool sx_is_view(Oid relid);

/* A derived stream that is evaluated per batch, never flattened into a reader. */
extern bool sx_is_barrier(Oid relid);

/* Row by row over one stream, without volatile functions? */
extern bool sx_is_row_wise(Query *query);

/* The CTE that an RTE names, and the level at which it is defined. */
extern CommonTableExpr *sx_find_cte(const SxLevel *level, RangeTblEntry *rte,
									const SxLevel **defined_at);

/* ---------- reads.c ---------- */

extern bool sx_node_reads_stream(Node *node);

/* Option "source": Oids of relations.  ERROR when one is no stream. */
extern List *sx_source_option(List *options);
extern void sx_reads_of_option(List *options, SxReads *reads, bool direct);

/* ---------- slide.c ---------- */

/* In which batches a query has something to read. */
typedef struct SxSlide
{
	bool		every;			/* in each one */
	SxSpan		span;			/* else: at its multiples */
} SxSlide;

/* Of a query that reads these; ERROR when they do not all have the same. */
extern SxSlide sx_reads_slide(const SxReads *reads);
extern void sx_check_slides(const SxReads *reads);

/* Of a stream with these options that reads these. */
extern SxSlide sx_slide_of(List *options, const SxReads *reads);

/* "every 3 batches", for people */
extern char *sx_slide_text(SxSlide slide);

/* ---------- stream_window.c ---------- */

/* The last column of the table that keeps a window's rows. */
#define SX_WINDOW_BATCH		"batch_id"

/* The statements of a window, when its relations are known. */
extern void sx_window_sql(SxStepPlan *plan);

/* The rows of the window that fired last. */
extern char *sx_window_peek_sql(const SxStepPlan *plan);

/* ---------- panes.c ---------- */

/*
 * Can the query be answered from panes of the windowed stream that it reads?  NULL: yes.
 * Else the reason, as a sentence without its end; NULL and no window: it reads none.
 */
extern const char *sx_panes_problem(Query *query, Oid *window);

/* *answer: the query over the panes, as SQL */
extern SxPanes *sx_panes_build(Query *query, Oid table, char **answer);

/* Makes the table where panes can be kept, and tells the step of it; InvalidOid: none. */
extern Oid	sx_panes_create(const char *base, Query *query, Oid owner);
extern void sx_panes_created(Oid relid, Oid table);
extern Oid	sx_panes_of(Oid relid);

/* ---------- clock.c ---------- */

/* Refuses now() and its like where a view's past would change with them. */
extern void sx_check_clock(Query *query);

/* Puts streamext.batch_time() for now() and its like.  Changes query in place. */
extern Query *sx_rewrite_clock(Query *query);

/* Does the expression call batch_id(), batch_time() or watermark()? */
extern bool sx_reads_batch(Node *node);

/* Is it a call of one of them? */
extern bool sx_is_batch_function(Node *node);

/* Oid of streamext.name(argtypes). */
extern Oid	sx_own_function(const char *name, int nargs, const Oid *argtypes);

/* ---------- event_time.c ---------- */

/* A window over the event time: [start, start + length). */
typedef struct SxWindow
{
	Oid			type;			/* of the start: timestamptz or timestamp */
	bool		is_end;			/* its column has the end, not the start */
	int64		length;			/* microseconds; 0: calendar, or a session */
	bool		closed;			/* of a view that gives out closed windows alone */
	int64		slide;			/* between starts; 0: not known, or by the calendar */
	TimestampTz origin;			/* … with slide */
	const char *unit;			/* of date_trunc, or NULL */
	char	   *calendar;		/* interval of a date_trunc window, or NULL */
	char	   *zone;			/* third argument of date_trunc, or NULL */
} SxWindow;

/*
 * Is this a window over an unmodified event time?  expr is an expression of the
 * query; of a set operation, whose columns have none, it is output column attno.
 * Fills *window.
 */
extern bool sx_trace_window(Query *query, Node *expr, AttrNumber attno,
							SxWindow *window);

/* Is this expression of the query an unmodified event time? */
extern bool sx_is_event_time(Query *query, Node *expr);
/* Is this column one? */
extern bool sx_trace_event_time_column(Query *query, Node *column);

extern bool sx_same_window(const SxWindow *a, const SxWindow *b);

/* First output column that is an unmodified event time; 0: none is. */
extern AttrNumber sx_trace_event_time(Query *query);

/* Refuses windows that cannot be: wrong sizes, functions of later versions. */
extern void sx_check_windows(Query *query);

/* SQL for the end of the window that starts at the SQL expression start. */
extern char *sx_window_end_sql(const SxWindow *window, const char *start);

/* SQL for "the window that starts at start has ended by the timestamptz bound". */
extern char *sx_window_closed_sql(const SxWindow *window, const char *start,
								  const char *bound);

/* "10 seconds", for people and for SQL literals */
extern char *sx_length_text(int64 usec);

/* ---------- closed_view.c ---------- */

/* A continuous view with emit = 'final': its rows appear once and stay. */
extern bool sx_is_final_view(Oid relid);

/* Those that the query reads as streams: Oids. */
extern List *sx_final_views(Query *query);

/* A copy that reads, instead of such views, what they give out in the batch. */
extern Query *sx_read_closed(Query *query);

/* ---------- layout.c ---------- */

typedef enum SxColumnKind
{
	SX_COLUMN_OUTPUT,			/* append: a column of the query */
	SX_COLUMN_KEY,				/* merge: a GROUP BY key */
	SX_COLUMN_ONLY,				/* merge without GROUP BY: the constant key */
	SX_COLUMN_PLAIN,			/* an aggregate that is its own state */
	SX_COLUMN_SUM,				/* a sum kept as its result, added with + */
	SX_COLUMN_PARTIAL,			/* a stored state, bytea */
	SX_COLUMN_SESSION,			/* start or end of a session */
	SX_COLUMN_VALUE				/* the value of an aggregate over all rows of a session */
} SxColumnKind;

typedef struct SxStateColumn
{
	SxColumnKind kind;
	char	   *name;
	Oid			type;
	int32		typmod;
	Oid			collation;
	Expr	   *expr;			/* key or Aggref, over the query's tables */
	Index		sortgroupref;	/* of a key */
	Oid			aggregate;		/* of an aggregate column */
	char	   *start;			/* value before the first row, as text, or NULL */
} SxStateColumn;

typedef struct SxLayout
{
	SxStrategy	strategy;
	char	   *reason;
	List	   *columns;		/* of SxStateColumn, in the order of the table */
	List	   *output;			/* TargetEntry over the state table as varno 1 */
	Node	   *having;			/* … likewise, or NULL */
	bool		windowed;
	SxWindow	window;
	SxStateColumn *window_column;
	bool		from_rows;		/* sessions: aggregates are computed from kept rows */
	SxStateColumn *session_start;
	SxStateColumn *session_end;
	const char *on_time;		/* of a node: SX_ON_TIME_OPTION */
	bool		by_slot;		/* several workers merge, each into rows of its own */
} SxLayout;

extern SxLayout *sx_layout_build(Query *query);

/* Is there one row a key, which a batch changes? */
static inline bool
sx_layout_is_merged(const SxLayout *layout)
{
	return layout->strategy == SX_STRATEGY_MERGE || layout->strategy == SX_STRATEGY_DISTINCT ||
		layout->strategy == SX_STRATEGY_RETRACT;
}

/* That of a query whose rows are kept as they are. */
extern SxLayout *sx_append_layout(Query *query);

/* An expression over the view's columns (varno 1) as one over its state table. */
extern Node *sx_replace_by_output(Node *expr, List *output);

/* Is a text key stored and compared COLLATE "C"? */
extern bool sx_column_is_c(const SxStateColumn *column);

/* Have equal values one hash?  It is the type's, whatever the collation. */
extern bool sx_is_hashable(Oid type, Oid collation);

/* aggregate.c: rewrites an aggregate as an expression over state columns. */
typedef struct SxLayoutBuilder
{
	SxLayout   *layout;
	List	   *names;			/* taken column names */
	const char *base;			/* for the name of the next column */
	bool		exact;			/* the output column is the aggregate itself */
	FuncExpr   *session;		/* in GROUP BY */
} SxLayoutBuilder;

extern Node *sx_aggregate_to_state(SxLayoutBuilder *builder, Aggref *agg);
extern SxStateColumn *sx_layout_add(SxLayoutBuilder *builder, SxColumnKind kind,
									const char *name, Expr *expr);
extern Var *sx_state_var(SxLayout *layout, SxStateColumn *column);
/*
 * Why it cannot be combined, as a phrase behind "aggregate f"; NULL: it can.  *plain: its
 * state is its result.
 */
extern const char *sx_aggregate_problem(const Aggref *agg, bool *plain);
extern Aggref *sx_partial_aggref(SxStateColumn *column);

/* Are results of the aggregate combined by itself, or added as bigint?  Else they cannot be. */
extern bool sx_results_combine(Oid aggregate);

/* SQL that combines a column of several rows, named alias, that are grouped. */
extern char *sx_combined_column_sql(const SxStateColumn *column, const char *alias,
									const char *order);
extern Aggref *sx_count_rows(void);

/* ---------- slots.c: steps of a pipeline with several workers ---------- */

/* Marks the query of a view that several workers keep; and is it marked? */
extern Query *sx_mark_by_slot(Query *query);
extern bool sx_is_by_slot(const Query *query);
extern void sx_layout_add_slot(SxLayoutBuilder *builder);

/* Is it the number of the worker, the key that sx_layout_add_slot() adds? */
extern bool sx_is_slot(const Expr *expr);

/* The state table with its slots combined, for FROM. */
extern char *sx_combined_state_sql(const SxLayout *layout, const char *state);

/* ---------- options.c ---------- */

typedef struct SxViewOptions
{
	SxEmit		emit;
	int64		emit_interval;
	SxLate		late;
	bool		late_given;		/* not by default */
	int64		retention;		/* -1: for ever */
	int64		state_ttl;		/* microseconds; 0: none */
	bool		backfill;
	const char *pipeline;
	const char *evict;			/* of a hidden node: sx_node_evict() */
	const char *on_time;		/* … by what its rows are late, over d: sx_node_option() */
	const char *only;			/* … which of its rows are read, over u; NULL: all */
	char	   *json;			/* all of them, as given */
} SxViewOptions;

/* Set by streamext itself: */
#define SX_EVICT_OPTION		"evict_when"
#define SX_KEEP_OPTION		"keep_when"	/* reduce.c */
#define SX_ON_TIME_OPTION	"on_time"
#define SX_ONLY_OPTION		"only_when"

/* With state_ttl: the batch time of the last batch that had rows of a group. */
#define SX_TOUCHED_COLUMN	"sx_touched"

extern SxViewOptions *sx_view_options(List *options);
extern void sx_check_view_options(const SxViewOptions *options,
								  const SxLayout *layout, List *streams);
extern char *sx_options_to_json(List *options);
extern List *sx_options_from_json(const char *json);
extern const char *sx_emit_name(SxEmit emit);
extern const char *sx_late_name(SxLate late);

/* slots.c: ERROR when a view cannot be kept by several workers, or would need nodes. */
extern void sx_check_query_slots(Query *query, const SxViewOptions *options,
								 const char *relname);

/* ---------- sql.c ---------- */

/* The relations of a step, as quoted and qualified names, and its owner. */
typedef struct SxStepNames SxStepNames;
struct SxStepNames
{
	Oid			owner;			/* who runs the step */
	char	   *step;			/* view or sink */
	char	   *query;
	char	   *state;			/* state table, or target of a table sink */
	char	   *delta;			/* for SX_EMIT_INTERVAL */
};

extern char *sx_added_rows_sql(const SxLayout *layout, const char *source);
extern void sx_view_sql(SxStepPlan *plan, Query *query, SxLayout *layout,
						const SxStepNames *names);

/* Merges the query's rows, aggregated, into target; state_ttl: 0, none. */
extern char *sx_merge_sql(Query *query, const SxLayout *layout, const char *target,
						  int64 state_ttl);

/* The row of a view without GROUP BY before the first batch; NULL: it has GROUP BY. */
extern char *sx_start_row_sql(const SxLayout *layout, const char *state);

/* Deletes windows that ended by $1, at most $2 rows. */
extern char *sx_expire_windows_sql(const SxLayout *layout, const char *table);

/* SQL for "a group was touched so long ago that it is forgotten", at the SQL time now. */
extern char *sx_forgotten_sql(int64 state_ttl, const char *now);

/* Deletes rows of a table, as s, at most $2 at a time; order_by: a column, or NULL. */
extern char *sx_expire_sql(const char *table, const char *where, const char *order_by);

/* The query with keys and partial aggregates for its output. */
extern Query *sx_partial_query(Query *query, const SxLayout *layout);
extern int	sx_pin_settings(void);
extern char *sx_deparse(Query *query);
extern char *sx_columns_sql(const List *columns, const char *prefix);

/* "a, b" of names, each behind the prefix */
extern char *sx_names_sql(const List *names, const char *prefix);
extern char *sx_key_order_sql(const SxLayout *layout, const char *prefix);

/* A column as in CREATE TABLE, with its collation where that is not the type's. */
extern char *sx_column_sql(const char *name, Oid type, int32 typmod, Oid collation);
extern char *sx_type_sql(Oid type, int32 typmod);
extern char *sx_qualified_name(Oid relid);

/* ---------- session.c ---------- */

/* The session() by which the query groups; NULL: it does not. */
extern FuncExpr *sx_session_call(Query *query);
extern bool sx_is_session_call(Node *node);

/* Refuses session(), session_start() and session_end() where they mean nothing. */
extern void sx_check_sessions(Query *query, bool view);

/* Can sessions of the query be kept without their rows? */
extern bool sx_sessions_combine(Query *query);

/* The columns start and end, and what else the layout of sessions has of its own. */
extern void sx_session_layout(SxLayoutBuilder *builder, Query *query);

/* What an expression above the grouping is over the state table; NULL: nothing special. */
extern Node *sx_session_to_state(SxLayoutBuilder *builder, Node *node);

extern void sx_session_sql(SxStepPlan *plan, Query *query, SxLayout *layout,
						   const SxStepNames *names);
/* Index of the state table: its columns */
extern char *sx_session_index_sql(const SxLayout *layout);

/* Makes what the node of rows below needs. */
extern void sx_session_prepare(Query *query, SxLayout *layout);

/* ---------- arrival.c ---------- */

/*
 * A copy of a row-wise query with two more columns: the stream and the record
 * (its ordinal as ctid) that each output row comes from.  NULL when that cannot be told.
 */
#define SX_ARRIVAL_STREAM	"sx_stream"
#define SX_ARRIVAL_RECORD	"sx_record"

extern Query *sx_query_with_arrival(Query *query, Oid owner);

/* ---------- sink.c ---------- */

/* target: InvalidOid while it does not exist */
extern SxStepPlan *sx_build_sink_plan(Query *query, List *options, Oid target,
									  const SxStepNames *names);

/* ---------- names.c ---------- */

/* A copy of the options of a stream with a query, with today's names in them. */
extern List *sx_follow_names(Oid relid, List *options);
extern List *sx_table_options(Oid relid);

/* ---------- derived.c ---------- */

/* A foreign table with a query, of ColumnDefs: a sink or a derived stream. */
extern Oid	sx_create_query_table(const char *schema, const char *name, List *columns,
								  List *options);

/* Dropping the object needs CASCADE while the relation is there. */
extern void sx_depend_on(Oid relid, Oid class, Oid object);
extern void sx_depend_on_source_option(Oid relid, List *options);

/* The stream's table is not that of its query: somebody changed one of them. */
extern void sx_report_changed_columns(Oid relid) pg_attribute_noreturn();

/* Makes the names in option "source" qualified ones. */
extern void sx_qualify_source_option(List *options);

/* ---------- sink_function.c ---------- */

/* The function that the options name, which they get by its qualified name. */
extern Oid	sx_function_sink_check(List *options);
extern void sx_function_sink_plan(SxStepPlan *plan, const SxStepNames *names);

/* ---------- load.c, explain.c, create*.c ---------- */

/* *layout gets what the plan was made from */
extern SxStepPlan *sx_build_view_plan(Query *query, const SxViewOptions *options,
									  const SxStepNames *names, SxLayout **layout);
extern char *sx_delta_name(const char *state);
extern const char *sx_strategy_name(SxStrategy strategy);
extern char *sx_explain_plan(const SxStepPlan *plan, const SxLayout *layout,
							 const SxStepNames *names);
extern char *sx_streams_text(List *streams);

/* Names in streamext_state for the relation schema.name: base, base_q, … */
extern char *sx_state_base_name(const char *schema, const char *name);
extern void sx_future_state_names(SxStepNames *names, const char *base);

struct StringInfoData;
extern void sx_append_column_sql(struct StringInfoData *sql, const SxStateColumn *column);
extern Query *sx_created_query(CreateTableAsStmt *stmt);
extern void sx_give_to(Oid relid, Oid owner);
extern Oid	sx_define_view(RangeVar *name, Query *query);
extern Oid	sx_define_query_view(const char *base, Query *query, Oid owner);

/* A hidden node keeps closed windows for no longer than this, in microseconds. */
extern void sx_node_retain(Oid view, int64 retention);

/* … or rows for which the condition holds, over its state table s and the boundary $1. */
extern void sx_node_evict(Oid view, const char *condition);

/* … or anything else that is said of it after it was made. */
extern void sx_node_option(Oid view, const char *name, const char *value);

/* DROP of owner_relid takes relid along. */
extern void sx_belongs_to(Oid relid, Oid owner_relid);

#endif							/* SX_PLAN_INTERNAL_H */
