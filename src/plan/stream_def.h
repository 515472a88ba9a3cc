/*-------------------------------------------------------------------------
 *
 * stream_def.h
 *		Kinds of derived streams that have rows of their own in a batch.
 *
 * Such a stream is a foreign table with the columns that it gives, whose options say
 * what kind it is; a hidden view streamext_state.<stream>_q that holds its query; and,
 * when it keeps something between batches, a table streamext_state.<stream>.  One
 * option chooses the kind:
 *
 *		(none)			evaluated once per batch: aggregates, joins of streams, …
 *		window			the rows of the last batches
 *		update_state	a function over every key's state
 *		map_with_state	a function over each record and its key's state
 *		deduplicate		the first row of each key
 *		changes			what a batch changes in a continuous view
 *
 * Adding a kind is one SxStreamKind in derived.c and one SxStepOps in worker/.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_STREAM_DEF_H
#define SX_STREAM_DEF_H

#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "plan/plan.h"

/* A stream being created.  Everything lives in the current memory context. */
typedef struct SxStreamDef
{
	char	   *schema;
	char	   *name;
	Query	   *query;			/* analysed, with column names; not to be changed */
	List	   *options;		/* DefElems with String args; values may be replaced,
								 * to keep names qualified */
	SxReads		reads;

	/* filled by define() */
	List	   *columns;		/* ColumnDefs that the stream gives; NIL: the query's */
	List	   *state_columns;	/* ColumnDefs of the state table; NIL: there is none */
	List	   *state_indexes;	/* char *: "(a, b)" or "UNIQUE (a) NULLS NOT DISTINCT":
								 * what follows CREATE … INDEX ON table */
	bool		state_is_queue; /* its rows come and go, none is updated */
	List	   *depends_on;		/* ObjectAddress *: functions and tables named in options */
} SxStreamDef;

typedef struct SxStreamKind
{
	const char *option;			/* that chooses it; NULL: none does */
	const char *name;			/* in streamext.step.strategy */
	SxStrategy	strategy;
	bool		stateless;		/* keeps nothing between batches */

	/* Checks the options against the query, with hints; fills the definition. */
	void		(*define) (SxStreamDef *def);

	/* Once, when the state table is there: initial state.  May be NULL. */
	void		(*created) (SxStreamDef *def, Oid state);

	/* What is needed of the plan besides the common part.  May be NULL. */
	void		(*plan) (SxStepPlan *plan, Query *query);
} SxStreamKind;

/* The kind that these options choose; ERROR when they choose two. */
extern const SxStreamKind *sx_stream_kind(List *options);

/* The columns of a query as ColumnDefs, with types and collations. */
extern List *sx_query_column_defs(Query *query);

/* A column by name; NULL: there is none. */
extern ColumnDef *sx_find_column_def(List *columns, const char *name);

/*
 * The columns that a list option names ("a, b"), in that order; ERROR, with the names
 * there are, when one is none of the columns.
 */
extern List *sx_columns_of_option(List *options, const char *option, List *columns);

/* Replaces the value of an option. */
extern void sx_set_option(List *options, const char *name, const char *value);

/* Kinds that are defined elsewhere. */
extern const SxStreamKind sx_kind_window;
extern const SxStreamKind sx_kind_update_state;
extern const SxStreamKind sx_kind_map_with_state;
extern const SxStreamKind sx_kind_deduplicate;
extern const SxStreamKind sx_kind_changes;

/* stream_window.c: ERROR where only a window has such options */
extern void sx_check_window_options(List *options);

/* derived.c: the plan of such a stream; names as for a view */
struct SxStepNames;
extern SxStepPlan *sx_build_stream_plan(Query *query, List *options,
										const struct SxStepNames *names);

#endif							/* SX_STREAM_DEF_H */
