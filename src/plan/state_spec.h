/*-------------------------------------------------------------------------
 *
 * state_spec.h
 *		What the options of a stream with keyed state mean for its query.
 *
 * The same function derives it when the stream is created, where what does not fit is
 * refused, and each time its pipeline is opened.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_STATE_SPEC_H
#define SX_STATE_SPEC_H

#include "access/tupdesc.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "plan/plan.h"

/* Columns of a state table besides the keys. */
#define SX_STATE_COLUMN		"state"
#define SX_UPDATED_COLUMN	"updated_at"
#define SX_TIMER_COLUMN		"timer"
#define SX_EXPIRES_COLUMN	"expires_at"

typedef struct SxStateSpec
{
	SxStrategy	strategy;
	List	   *columns;		/* ColumnDefs of the query's output */
	int			nkeys;
	int		   *keys;			/* by place in the key: place in the output, from 0 */
	int			nvalues;
	int		   *values;			/* the other columns, likewise */

	/* map_with_state and update_state: function(state, keys …, values …) */
	Oid			function;
	int			nargs;
	Oid		   *argtypes;
	Oid			state_type;
	Oid			collation;		/* that it is called with */
	Oid			result_type;
	bool		retset;
	TupleDesc	result;			/* map_with_state: its row */
	int			result_state;	/* place of the state in it, from 0 */
	int			result_timer;	/* place of the timer; -1: none */

	int64		idle_timeout;	/* microseconds; -1: none */
	bool		changed_only;
	int64		within;			/* deduplicate, microseconds; -1: for ever */
	int			event_time;		/* … place of it in the output */
	Oid			event_time_type;
} SxStateSpec;

/* ERROR with a hint when they do not fit. */
extern SxStateSpec *sx_state_spec(SxStrategy strategy, Query *query, List *options);

static inline ColumnDef *
sx_spec_column(const SxStateSpec *spec, int place)
{
	return list_nth_node(ColumnDef, spec->columns, place);
}

/* Columns of the state table, and where those behind the keys stand in it. */
extern List *sx_state_columns(const SxStateSpec *spec);
#define sx_spec_state_place(spec)	((spec)->nkeys)
#define sx_spec_updated_place(spec)	((spec)->nkeys + 1)
#define sx_spec_timer_place(spec)	((spec)->nkeys + 2)
#define sx_spec_expires_place(spec)	((spec)->nkeys)

/* Columns that a stream of map_with_state or update_state gives. */
extern List *sx_state_stream_columns(const SxStateSpec *spec);

/* Options of state that stand without the one that they belong to: ERROR. */
extern void sx_check_state_options(List *options);

/* ---------- state_function_lookup.c ---------- */

/* Fills what the specification says of the function that option names. */
extern void sx_find_state_function(SxStateSpec *spec, const char *option, const char *name);

/* ---------- initial_state.c ---------- */

/* Checks the table of option initial_state, whose name becomes a qualified one. */
extern void sx_initial_state_check(const SxStateSpec *spec, List *options);

/* Copies it into the state table, as the current user. */
extern void sx_initial_state_copy(List *options, Oid state);

/* … once more, when it was emptied: as the stream's owner. */
extern void sx_initial_state_again(const SxStepPlan *plan);

#endif							/* SX_STATE_SPEC_H */
