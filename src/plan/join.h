/*-------------------------------------------------------------------------
 *
 * join.h
 *		A continuous view that is a join of two nodes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_JOIN_H
#define SX_JOIN_H

#include "plan/node.h"

/* The column of a side by which its rows are told apart, and new ones from old ones. */
#define SX_JOIN_ARRIVAL	"sx_arrival"

/* What the state table has besides the view's columns. */
#define SX_JOIN_LEFT	"sx_left"	/* arrival of a row without a match, or shown once */
#define SX_JOIN_RIGHT	"sx_right"
#define SX_JOIN_TIME	"sx_time"	/* the row cannot change any more when this has passed */

enum
{
	SX_SIDE_LEFT,
	SX_SIDE_RIGHT,
	SX_SIDES
};

/* Until when a row of one side can meet a partner. */
typedef struct SxJoinSide
{
	Oid			view;			/* the node */
	Oid			state;			/* … and its table */
	RangeTblEntry *rte;			/* as the query shows it */
	List	   *key;			/* expressions that are equal on both sides, over varno 1 */
	Node	   *time;			/* event time, or start of its window, over varno 1;
								 * NULL: the join has no bound */
	bool		ends;			/* there is such a time */
	int64		reach;			/* … the event time and so many microseconds */
} SxJoinSide;

/* The join, with its sides as varno 1 and 2. */
typedef struct SxJoin
{
	JoinType	type;			/* INNER, LEFT, RIGHT, FULL; SEMI, ANTI of the left side */
	SxJoinSide	side[SX_SIDES];
	List	   *targets;
	Node	   *on;				/* what makes two rows partners; NULL: nothing */
	Node	   *where;			/* of an outer join: on the rows of the result */
	bool		windowed;		/* the bound is that both have the same window … */
	SxWindow	window;			/* … this one */
} SxJoin;

/* ---------- join.c ---------- */

/* Does the side give its rows also without a partner? */
extern bool sx_join_preserves(const SxJoin *join, int side);
extern bool sx_join_has_bound(const SxJoin *join);

/* ---------- join_bound.c ---------- */

/* Fills what is known of times. */
extern void sx_join_find_bound(SxJoin *join);

/* SQL over alias: when the row cannot meet a partner any more, as timestamptz; NULL: never. */
extern char *sx_join_closes_sql(const SxJoin *join, int side, const char *alias);

/* SQL over the side's table s: it cannot meet one when the watermark is $1. */
extern char *sx_join_closed_sql(const SxJoin *join, int side);

/* SQL over alias: the time by which it is late. */
extern char *sx_join_late_sql(const SxJoin *join, int side, const char *alias);

/* The bound, for people. */
extern char *sx_join_bound_text(const SxJoin *join);

/* ---------- join_sql.c ---------- */

/* The statements of a batch, in order; $1: arrival numbers up to it are old. */
extern List *sx_join_statements(const SxJoin *join, const SxLayout *layout, const char *state);

#endif							/* SX_JOIN_H */
