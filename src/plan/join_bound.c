/*-------------------------------------------------------------------------
 *
 * join_bound.c
 *		How long a row of a join can still meet a partner.
 *
 * The conjuncts of the join's condition are searched for what they say of the two event
 * times l and r, which must be unmodified columns:
 *
 *		r <= l + i,  l >= r - i,  r - l <= i, …		r is at most i after l
 *		r >= l - j,  l <= r + j,  …					l is at most j after r
 *		l = r										both, by 0
 *
 * Every row that is accepted later is newer than the watermark.  So when the watermark has
 * reached l + i, nothing that comes can be a partner of l: "reach" of the left side is i,
 * that of the right side j.  What says nothing of one direction leaves that side without
 * an end.  With several conditions the tightest one holds.
 *
 * Equal windows of both event times are a bound too, and then lateness and the end go by
 * the window's end, as in an aggregate by window.
 *
 * A month is taken as 31 days (28 where less is safer), and a day of a timestamptz may be
 * an hour or two longer than 24 hours where the clock is changed: such intervals are taken
 * longer by two hours.  A row is then kept a little longer than it need be.
 *
 * All streams must have a watermark, or there is no bound.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "compat.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteManip.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "fdw/stream.h"
#include "plan/join.h"

#define SLACK	(2 * USECS_PER_HOUR)

/* One side of a comparison: the event time of a side and something between lo and hi. */
typedef struct TimeTerm
{
	int			side;
	Node	   *time;
	int64		lo;
	int64		hi;
} TimeTerm;

/* What is being searched. */
typedef struct Search
{
	SxJoin	   *join;
	Query	   *query;			/* both sides as range table, for tracing columns */
	bool		known[SX_SIDES];
	int64		reach[SX_SIDES];
	Node	   *time[SX_SIDES];
} Search;

/* ---------- intervals ---------- */

/* The least and the most microseconds that an interval can be. */
static bool
interval_range(const Interval *interval, bool zoned, int64 *lo, int64 *hi)
{
	int64		days = interval->day;
	int64		slack = (interval->day != 0 || interval->month != 0) && zoned ? SLACK : 0;
	int64		shortest = (int64) interval->month * (interval->month > 0 ? 28 : 31);
	int64		longest = (int64) interval->month * (interval->month > 0 ? 31 : 28);

	if (INTERVAL_NOT_FINITE(interval))
		return false;
	return !pg_mul_s64_overflow(days + shortest, USECS_PER_DAY, lo) &&
		!pg_add_s64_overflow(*lo, interval->time - slack, lo) &&
		!pg_mul_s64_overflow(days + longest, USECS_PER_DAY, hi) &&
		!pg_add_s64_overflow(*hi, interval->time + slack, hi);
}

static Const *
constant(Node *node)
{
	if (contain_vars_of_level(node, 0) || contain_volatile_functions(node))
		return NULL;
	node = eval_const_expressions(NULL, copyObject(node));
	return IsA(node, Const) && !((Const *) node)->constisnull ? (Const *) node : NULL;
}

/* An interval, or a number of days. */
static bool
constant_range(Node *node, bool zoned, int64 *lo, int64 *hi)
{
	Const	   *value = constant(node);

	if (value == NULL)
		return false;
	if (value->consttype == INTERVALOID)
		return interval_range(DatumGetIntervalP(value->constvalue), zoned, lo, hi);
	if (value->consttype != INT4OID)
		return false;
	*lo = *hi = DatumGetInt32(value->constvalue) * USECS_PER_DAY;
	return true;
}

/* ---------- terms ---------- */

static bool
is_plus(Oid function)
{
	return function == F_TIMESTAMPTZ_PL_INTERVAL || function == F_TIMESTAMP_PL_INTERVAL ||
		function == F_DATE_PL_INTERVAL || function == F_DATE_PLI;
}

static bool
is_plus_turned(Oid function)
{
	return function == F_INTERVAL_PL_TIMESTAMPTZ || function == F_INTERVAL_PL_TIMESTAMP ||
		function == F_INTERVAL_PL_DATE || function == F_INTEGER_PL_DATE;
}

static bool
is_minus(Oid function)
{
	return function == F_TIMESTAMPTZ_MI_INTERVAL || function == F_TIMESTAMP_MI_INTERVAL ||
		function == F_DATE_MI_INTERVAL || function == F_DATE_MII;
}

/* Which side does it belong to?  -1: neither, or both. */
static int
side_of(Node *node)
{
	Bitmapset  *relids = pull_varnos(NULL, node);
	int			varno;

	return bms_get_singleton_member(relids, &varno) ? varno - 1 : -1;
}

static Node *
strip(Node *node)
{
	while (node != NULL && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return node;
}

/* Operands of a binary operator, or call of its function. */
static bool
binary(Node *node, Oid *function, Node **left, Node **right)
{
	List	   *args;

	if (IsA(node, OpExpr))
	{
		*function = get_opcode(((OpExpr *) node)->opno);
		args = ((OpExpr *) node)->args;
	}
	else if (IsA(node, FuncExpr))
	{
		*function = ((FuncExpr *) node)->funcid;
		args = ((FuncExpr *) node)->args;
	}
	else
		return false;
	if (list_length(args) != 2)
		return false;
	*left = linitial(args);
	*right = lsecond(args);
	return true;
}

static bool
find_term(Search *search, Node *node, TimeTerm *term)
{
	Oid			function;
	Node	   *left;
	Node	   *right;
	int64		lo;
	int64		hi;

	node = strip(node);
	if (IsA(node, Var))
	{
		if (!sx_trace_event_time_column(search->query, node))
			return false;
		term->side = side_of(node);
		term->time = node;
		term->lo = term->hi = 0;
		return true;
	}
	if (!binary(node, &function, &left, &right))
		return false;
	if (is_plus_turned(function))
	{
		Node	   *turned = left;

		left = right;
		right = turned;
	}
	else if (!is_plus(function) && !is_minus(function))
		return false;
	if (!find_term(search, left, term) ||
		!constant_range(right, exprType(left) == TIMESTAMPTZOID, &lo, &hi))
		return false;
	if (is_minus(function))
	{
		int64		least = lo;

		lo = -hi;
		hi = -least;
	}
	return !pg_add_s64_overflow(term->lo, lo, &term->lo) &&
		!pg_add_s64_overflow(term->hi, hi, &term->hi);
}

/* ---------- conditions ---------- */

/* later's time is at most so far behind earlier's: until then earlier can meet it. */
static void
note_reach(Search *search, const TimeTerm *earlier, const TimeTerm *later, int64 reach)
{
	int			side = earlier->side;

	if (!search->known[side] || reach < search->reach[side])
		search->reach[side] = reach;
	search->known[side] = true;
	search->time[earlier->side] = earlier->time;
	search->time[later->side] = later->time;
}

/* a <= b, where a and b are of different sides: a's time is at most … behind b's. */
static void
note_order(Search *search, const TimeTerm *a, const TimeTerm *b)
{
	int64		reach;

	if (!pg_sub_s64_overflow(b->hi, a->lo, &reach))
		note_reach(search, b, a, reach);
}

static bool
is_difference(Search *search, Node *node, TimeTerm *a, TimeTerm *b)
{
	Oid			function;
	Node	   *left;
	Node	   *right;

	return binary(strip(node), &function, &left, &right) &&
		(function == F_TIMESTAMPTZ_MI || function == F_TIMESTAMP_MI) &&
		find_term(search, left, a) && find_term(search, right, b) && a->side != b->side;
}

/* Both sides of the comparison as times of the two sides of the join. */
static bool
find_terms(Search *search, Node *left, Node *right, TimeTerm *a, TimeTerm *b)
{
	int64		lo;
	int64		hi;

	if (find_term(search, left, a) && find_term(search, right, b))
		return a->side != b->side &&
			exprType(a->time) == exprType(b->time);
	/* a - b <= interval: a <= b + interval, where a day is 24 hours */
	if (is_difference(search, left, a, b) && constant_range(right, false, &lo, &hi))
		return !pg_add_s64_overflow(b->lo, lo, &b->lo) && !pg_add_s64_overflow(b->hi, hi, &b->hi);
	if (is_difference(search, right, b, a) && constant_range(left, false, &lo, &hi))
		return !pg_add_s64_overflow(a->lo, lo, &a->lo) && !pg_add_s64_overflow(a->hi, hi, &a->hi);
	return false;
}

/* Strategy of the comparison among those of times, or of intervals; 0: another operator. */
static int
comparison(OpExpr *op)
{
	static const Oid types[] = {TIMESTAMPTZOID, INTERVALOID};

	for (int i = 0; i < lengthof(types); i++)
	{
		TypeCacheEntry *type = lookup_type_cache(types[i], TYPECACHE_BTREE_OPFAMILY);
		int			strategy = get_op_opfamily_strategy(op->opno, type->btree_opf);

		if (strategy != 0)
			return strategy;
	}
	return 0;
}

static void
note_comparison(Search *search, OpExpr *op)
{
	int			strategy = list_length(op->args) == 2 ? comparison(op) : 0;
	TimeTerm	a;
	TimeTerm	b;

	if (strategy == 0 ||
		!find_terms(search, linitial(op->args), lsecond(op->args), &a, &b))
		return;
	if (strategy <= BTEqualStrategyNumber)
		note_order(search, &a, &b);
	if (strategy >= BTEqualStrategyNumber)
		note_order(search, &b, &a);
}

/* Both the same window of their event times? */
static bool
note_window(Search *search, OpExpr *op)
{
	SxJoin	   *join = search->join;
	SxWindow	a;
	SxWindow	b;
	int			side = side_of(linitial(op->args));

	if (comparison(op) != BTEqualStrategyNumber || side < 0 ||
		side_of(lsecond(op->args)) != 1 - side ||
		!sx_trace_window(search->query, linitial(op->args), 0, &a) ||
		!sx_trace_window(search->query, lsecond(op->args), 0, &b) || !sx_same_window(&a, &b))
		return false;
	join->windowed = true;
	join->window = a;
	search->time[side] = linitial(op->args);
	search->time[1 - side] = lsecond(op->args);
	search->known[SX_SIDE_LEFT] = search->known[SX_SIDE_RIGHT] = true;
	return true;
}

/* ---------- the join ---------- */

static bool
all_have_watermark(const SxJoin *join)
{
	for (int i = 0; i < SX_SIDES; i++)
	{
		ListCell   *lc;

		foreach(lc, sx_relation_streams(join->side[i].view))
		{
			if (!sx_stream_load(lfirst_oid(lc))->has_watermark)
				return false;
		}
	}
	return true;
}

/* The conjuncts, also those within one: x BETWEEN a AND b is such. */
static List *
conjuncts(Node *node)
{
	List	   *result = NIL;
	ListCell   *lc;

	if (node == NULL)
		return NIL;
	if (!is_andclause(node))
		return list_make1(node);
	foreach(lc, ((BoolExpr *) node)->args)
		result = list_concat(result, conjuncts(lfirst(lc)));
	return result;
}

static void
search_conditions(Search *search, List *quals)
{
	ListCell   *lc;

	foreach(lc, quals)
	{
		if (IsA(lfirst(lc), OpExpr) && list_length(((OpExpr *) lfirst(lc))->args) == 2 &&
			note_window(search, lfirst(lc)))
			return;
	}
	foreach(lc, quals)
	{
		if (IsA(lfirst(lc), OpExpr))
			note_comparison(search, lfirst(lc));
	}
}

void
sx_join_find_bound(SxJoin *join)
{
	Search		search = {join, makeNode(Query)};

	if (!all_have_watermark(join))
		return;
	search.query->rtable = list_make2(join->side[SX_SIDE_LEFT].rte, join->side[SX_SIDE_RIGHT].rte);
	search_conditions(&search, conjuncts(join->on));
	if (search.time[SX_SIDE_LEFT] == NULL)
		return;
	for (int i = 0; i < SX_SIDES; i++)
	{
		Node	   *time = copyObject(search.time[i]);

		ChangeVarNodes(time, i + 1, 1, 0);
		join->side[i].time = time;
		join->side[i].ends = search.known[i];
		join->side[i].reach = search.reach[i];
	}
}

/* ---------- SQL ---------- */

static char *
time_sql(const SxJoinSide *side, const char *alias)
{
	return psprintf("(%s)", sx_node_expr_sql(side->view, side->time, alias));
}

/* Times without zone are UTC, as the watermark has it. */
static char *
zoned_sql(const SxJoin *join, const SxJoinSide *side, char *sql)
{
	Oid			type = exprType(side->time);

	if (type == TIMESTAMPTZOID)
		return sql;
	return psprintf("(%s%s AT TIME ZONE 'UTC')", sql,
					type == DATEOID ? "::timestamp" : "");
}

char *
sx_join_closes_sql(const SxJoin *join, int i, const char *alias)
{
	const SxJoinSide *side = &join->side[i];
	char	   *time;

	if (!side->ends)
		return NULL;
	time = time_sql(side, alias);
	if (join->windowed)
		return zoned_sql(join, side, psprintf("(%s)", sx_window_end_sql(&join->window, time)));
	return psprintf("%s + interval '%s'", zoned_sql(join, side, time),
					sx_length_text(side->reach));
}

char *
sx_join_closed_sql(const SxJoin *join, int i)
{
	const SxJoinSide *side = &join->side[i];
	char	   *time;
	const char *bound = side->ends && exprType(side->time) != TIMESTAMPTZOID ?
		"($1 AT TIME ZONE 'UTC')" : "$1";

	if (!side->ends)
		return NULL;
	time = time_sql(side, "s");
	if (join->windowed)
		return sx_window_closed_sql(&join->window, time, "$1");
	return psprintf("%s <= %s - interval '%s' OR %s IS NULL", time, bound,
					sx_length_text(side->reach), time);
}

/* A row without event time meets nobody: it is not late, and a window's is not taken. */
char *
sx_join_late_sql(const SxJoin *join, int i, const char *alias)
{
	char	   *time = time_sql(&join->side[i], alias);

	if (join->windowed)
		return sx_window_end_sql(&join->window, time);
	return psprintf("COALESCE(%s, 'infinity')", zoned_sql(join, &join->side[i], time));
}

static char *
side_text(const SxJoinSide *side)
{
	const char *name = side->rte->eref->aliasname;

	if (!side->ends)
		return psprintf("rows of %s for ever", name);
	if (side->reach == 0)
		return psprintf("rows of %s until the watermark reaches them", name);
	return psprintf("rows of %s until the watermark is %s beyond them", name,
					sx_length_text(side->reach));
}

char *
sx_join_bound_text(const SxJoin *join)
{
	if (!sx_join_has_bound(join))
		return pstrdup("none, every row is accepted and kept for ever");
	if (join->windowed)
		return psprintf("equal windows of %s: rows are kept until their window has ended",
						join->window.calendar != NULL ? join->window.calendar :
						sx_length_text(join->window.length));
	return psprintf("kept are %s, %s", side_text(&join->side[SX_SIDE_LEFT]),
					side_text(&join->side[SX_SIDE_RIGHT]));
}
