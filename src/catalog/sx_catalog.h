/*-------------------------------------------------------------------------
 *
 * sx_catalog.h
 *		Rows of the tables streamext.*: see sql/streamext.sql for the tables.
 *
 * The tables belong to the owner of the extension and nobody else may write to
 * them, so these functions run their statements as that role, with search_path
 * pg_catalog, whoever calls.  They need a transaction; they may throw.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_CATALOG_H
#define SX_CATALOG_H

#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "nodes/pg_list.h"
#include "utils/snapshot.h"

/*
 * Trusted section: become the extension's owner with a fixed search_path.  Pair
 * them; on ERROR the transaction's abort restores both.
 */
typedef struct SxTrusted
{
	Oid			userid;
	int			sec_context;
	int			nestlevel;
} SxTrusted;

extern void sx_trusted_begin(SxTrusted *save);
extern void sx_trusted_end(SxTrusted *save);

/*
 * The opposite, with the same end: become a role that is not trusted, under restrictions
 * and with the same search_path.
 */
extern void sx_become(Oid role, SxTrusted *save);

/*
 * One statement as the trusted role, arguments as Datums (nulls may be NULL).
 * SPI must not be connected by the caller's code in between.  Returns rows
 * processed.  The _value form gives the first column of the first row copied into
 * the caller's context; *isnull is true when there is no row.
 */
extern uint64 sx_catalog_exec(const char *sql, int nargs, const Oid *types,
							  const Datum *values, const char *nulls);
extern Datum sx_catalog_value(const char *sql, int nargs, const Oid *types,
							  const Datum *values, const char *nulls,
							  bool *isnull);

/* One statement as whoever runs it, for what it does.  SPI is not connected. */
extern void sx_execute_ddl(const char *sql);

/*
 * One statement on relations that belong to a role, run as that role under
 * restrictions: what the role has attached to them (triggers, constraints) must not run
 * as anybody else.
 */
extern void sx_exec_as(Oid role, const char *sql);

/*
 * Calls each() for every row of a statement, in the caller's memory context.  SPI
 * is connected meanwhile.  The sx_row_… functions read a column (from 1) of such a
 * row: text copied into the current context (NULL when null); integers of either
 * width; DT_NOBEGIN for a null time.
 */
typedef void (*SxRowFunc) (HeapTuple row, TupleDesc desc, void *arg);

extern void sx_catalog_rows(const char *sql, int nargs, const Oid *types,
							const Datum *values, const char *nulls,
							SxRowFunc each, void *arg);
extern char *sx_row_text(HeapTuple row, TupleDesc desc, int column);
extern int64 sx_row_int(HeapTuple row, TupleDesc desc, int column, int64 dflt);
extern Oid	sx_row_oid(HeapTuple row, TupleDesc desc, int column);
extern TimestampTz sx_row_time(HeapTuple row, TupleDesc desc, int column);
extern bool sx_row_bool(HeapTuple row, TupleDesc desc, int column);

/* SxRowFuncs: append the first column, an Oid or integer, to the List that arg points to. */
extern void sx_collect_oid(HeapTuple row, TupleDesc desc, void *arg);
extern void sx_collect_int(HeapTuple row, TupleDesc desc, void *arg);

/*
 * A query on a relation that belongs to a role, as that role under restrictions: the
 * planner evaluates what the role has attached to it (statistics, predicates of indexes).
 */
extern void sx_rows_as(Oid role, const char *sql, int nargs, const Oid *types,
					   const Datum *values, SxRowFunc each, void *arg);

/* Argument types of the functions above: their number, and they. */
#define SX_ARGS(...) \
	lengthof(((Oid[]) {__VA_ARGS__})), (Oid[]) {__VA_ARGS__}

/* Is the extension created in this database (and not being dropped)? */
extern bool sx_extension_exists(void);

/* Its owner; ERROR when it is of another version than this library, or missing. */
extern Oid	sx_extension_owner(bool missing_ok);

/*
 * The version of its objects in this database when it is not that of this library,
 * else NULL.
 */
extern char *sx_other_version(void);

/* It exists, and is of this library's version: its tables may be looked at. */
extern bool sx_extension_usable(void);

/* Oid of the built-in foreign server / wrapper; InvalidOid when absent. */
extern Oid	sx_fdw_oid(void);

/* Is the relation registered as a stream (source, derived or sink)?  And which? */
typedef enum SxRelKind
{
	SX_REL_NONE,
	SX_REL_SOURCE,				/* foreign table with a source connector */
	SX_REL_DERIVED,				/* view, or foreign table with a query, registered
								 * by CREATE STREAM … AS */
	SX_REL_SINK,				/* foreign table with a query */
	SX_REL_VIEW					/* continuous view */
} SxRelKind;

extern SxRelKind sx_relation_kind(Oid relid);

/*
 * Registers a relation: called by the DDL after the relation exists.  A source
 * gets its pipeline (made when new) by its options; a step is put into the
 * pipeline that its streams share.  ERROR when that is not possible, with hints.
 */
extern void sx_register_source(Oid relid);
extern void sx_register_derived(Oid relid);

/* A source stream was altered: checks it against the others of its pipelines. */
struct SxStream;
extern void sx_source_changed(struct SxStream *stream);

/*
 * reads: the streams behind it.  backfill: false when the query said backfill = off, and
 * it shall begin with the pipeline's next batch, else it may begin in a lane.
 * pipeline_name: option, or NULL.  options: jsonb text.  Returns the pipeline's id.
 */
struct SxReads;
extern int	sx_register_step(Oid relid, const char *kind, Oid query, Oid state,
							 const char *strategy, const struct SxReads *reads,
							 bool backfill, const char *pipeline_name,
							 const char *options);

/*
 * Name of the pipeline that a view of several steps with these reads goes into, perhaps a
 * lane; made when there is none.  The steps are registered by this name and without
 * backfill.
 */
extern const char *sx_pipeline_for_view(const char *schema, const char *relname,
										const struct SxReads *reads, bool backfill,
										const char *pipeline_name);

/*
 * A derived stream that is a foreign table with a query.  One that keeps nothing
 * between batches belongs to no pipeline: it runs in each that reads it.
 */
extern void sx_register_stream(Oid relid, Oid query, Oid state, const char *strategy,
							   const struct SxReads *reads, bool stateless,
							   const char *options);

/* Options kept for a view or sink: jsonb text, NULL when it is not a step. */
extern char *sx_step_options(Oid relid, Oid *query, Oid *state);

/* A pipeline by the name of a pipeline, or of a stream, view or sink in it. */
extern int	sx_pipeline_by_name(const char *name, bool missing_ok);

/* A relation by a name that may be qualified; InvalidOid when there is none. */
extern Oid	sx_relation_by_name(const char *name);

/*
 * Ids of pipelines, 0 when there is none: by the pipeline's own name; that which runs a
 * view, sink or stream (0 too for a stream that belongs to none); and that which the
 * options of a source put it into (ERROR when it is not registered).
 */
extern int	sx_find_pipeline(const char *name);
extern char *sx_unused_pipeline_name(const char *schema, const char *relname);
extern int	sx_pipeline_of_step(Oid relid);
extern int	sx_home_pipeline(Oid stream);

/*
 * Starts a new epoch of a pipeline, which fences whoever holds it once this
 * transaction commits, in all of its slots.  Waits for running batches.  Returns the highest
 * batch id so far.
 */
extern int64 sx_pipeline_new_epoch(int pipeline);

/* The same of one slot, for who is about to run that: its epoch. */
extern int64 sx_pipeline_take(int pipeline, int slot);

/*
 * slots.c: how many workers a pipeline has, each of which is a slot of it, with a row of
 * streamext.progress; and how many that of a step will have over these source streams.
 * follow: after a change of its sources or their options, the number that these ask for;
 * ERROR when they, or its steps, cannot be divided.  check_step: likewise, of a new step.
 */
extern int	sx_pipeline_slots(int pipeline);
extern int	sx_slots_for_step(const List *streams);
extern void sx_slots_follow(int pipeline);
extern void sx_slots_check_step(int pipeline, Oid step);

/* Oids of its source streams, in order of creation. */
extern List *sx_pipeline_sources(int pipeline);

/*
 * Set while a foreign table with a query is being created, so that the event trigger
 * does not take it for a source.  Whoever sets it resets it in PG_FINALLY.
 */
extern bool sx_creating_query_table;

/*
 * What role creates joins the pipeline, whose worker runs as the pipeline's owner: that
 * must be the same role, and no member or superuser.  Else ERROR 42501.
 */
extern void sx_pipeline_check_joins(int pipeline, Oid role);

/*
 * home.c: makes whole again what came from another database, by a restored dump or
 * otherwise; nothing when there is no such pipeline.  Stops those that would run.
 */
extern void sx_adopt_restored(void);
extern void sx_home_stop_others(void);

/* Caller must own the pipeline, else ERROR 42501. */
extern void sx_pipeline_check_owner(int pipeline);

#endif							/* SX_CATALOG_H */
