/*-------------------------------------------------------------------------
 *
 * event_time.c
 *		Windows over the event time of streams.
 *
 * Lateness and closing mean something only for a window over the very column that
 * the watermark is made of.  So a window expression counts when its argument is an
 * unmodified copy of the event_time column: followed down through subqueries, CTEs,
 * joins, views and derived streams, and through every branch of a UNION ALL, to a
 * column of a source that is its event_time.  The window expression itself may
 * stand anywhere on that way, also in FROM (hop as a function, LATERAL).
 *
 * A view with emit = 'final' gives out rows once, when their window closes: to those who
 * read it, the start of that window is an event time (and a window that is closed) as
 * the column of a stream is.  Of windows whose column is their end (cumulate(), sessions) it
 * is the end, and the time one microsecond before it.
 *
 * tumble, hop, cumulate and date_bin have a length in microseconds.  date_trunc has one too up
 * to the hour; from the day on its windows end by the calendar, in the time zone of
 * the step.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "compat.h"
#include "foreign/foreign.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "fdw/stream.h"
#include "plan/node.h"
#include "plan/plan_internal.h"
#include "state/window.h"

typedef enum TraceKind
{
	TRACE_OTHER,
	TRACE_EVENT_TIME,
	TRACE_WINDOW
} TraceKind;

static TraceKind trace(Node *node, const SxLevel *level, SxWindow *window);

/* ---------- recognising window functions ---------- */

typedef enum WindowFunction
{
	WF_NONE,
	WF_TUMBLE,					/* ts, size [, origin] */
	WF_HOP,						/* ts, slide, size [, origin] */
	WF_CUMULATE,				/* ts, step, size [, origin] */
	WF_DATE_BIN,				/* size, ts, origin */
	WF_DATE_TRUNC				/* unit, ts [, zone] */
} WindowFunction;

static WindowFunction
window_function(Oid function)
{
	const char *name;

	if (function == F_DATE_BIN_INTERVAL_TIMESTAMP_TIMESTAMP ||
		function == F_DATE_BIN_INTERVAL_TIMESTAMPTZ_TIMESTAMPTZ)
		return WF_DATE_BIN;
	if (function == F_DATE_TRUNC_TEXT_TIMESTAMP ||
		function == F_DATE_TRUNC_TEXT_TIMESTAMPTZ ||
		function == F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT)
		return WF_DATE_TRUNC;
	if (function < FirstNormalObjectId)
		return WF_NONE;
	name = get_func_name(function);
	if (name == NULL || getExtensionOfObject(ProcedureRelationId, function) !=
		get_extension_oid("streamext", true))
		return WF_NONE;
	return strcmp(name, "tumble") == 0 ? WF_TUMBLE : strcmp(name, "hop") == 0 ? WF_HOP :
		strcmp(name, "cumulate") == 0 ? WF_CUMULATE : WF_NONE;
}

/* The argument as a constant; NULL when it is none, or is NULL itself. */
static Const *
constant_argument(FuncExpr *call, int n)
{
	Node	   *arg = eval_const_expressions(NULL, copyObject(list_nth(call->args, n)));

	if (!IsA(arg, Const) || ((Const *) arg)->constisnull)
		return NULL;
	return (Const *) arg;
}

static int64
constant_length(FuncExpr *call, int n, const char *what)
{
	Const	   *length = constant_argument(call, n);

	if (length == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s of a window must be a constant in a continuous view", what),
				 errhint("Write it as a literal, for example tumble(ts, '1 minute').")));
	return sx_window_usec(DatumGetIntervalP(length->constvalue), what);
}

/* Units of date_trunc, and their length or their calendar interval. */
static const struct
{
	const char *unit;
	int64		length;
	const char *calendar;
}			trunc_units[] = {
	{"microseconds", 1, NULL},
	{"milliseconds", 1000, NULL},
	{"second", USECS_PER_SEC, NULL},
	{"minute", USECS_PER_MINUTE, NULL},
	{"hour", USECS_PER_HOUR, NULL},
	{"day", 0, "1 day"},
	{"week", 0, "7 days"},
	{"month", 0, "1 month"},
	{"quarter", 0, "3 months"},
	{"year", 0, "1 year"},
	{"decade", 0, "10 years"},
	{"century", 0, "100 years"},
	{"millennium", 0, "1000 years"}
};

static bool
trunc_window(FuncExpr *call, SxWindow *window)
{
	Const	   *unit = constant_argument(call, 0);
	Const	   *zone = list_length(call->args) > 2 ? constant_argument(call, 2) : NULL;
	char	   *name;

	if (unit == NULL || (list_length(call->args) > 2 && zone == NULL))
		return false;
	if (zone != NULL)
		window->zone = TextDatumGetCString(zone->constvalue);
	name = TextDatumGetCString(unit->constvalue);
	for (int i = 0; i < lengthof(trunc_units); i++)
	{
		if (pg_strcasecmp(name, trunc_units[i].unit) == 0)
		{
			window->length = trunc_units[i].length;
			window->unit = trunc_units[i].unit;
			if (window->length == 0)
				window->calendar = pstrdup(trunc_units[i].calendar);
			return true;
		}
	}
	return false;
}

/* How the starts of the windows are aligned, where that is constant. */
static void
set_alignment(FuncExpr *call, SxWindow *window, int slide, int origin)
{
	Const	   *step = constant_argument(call, slide);
	Const	   *given = list_length(call->args) > origin ? constant_argument(call, origin) : NULL;

	if (step == NULL || (list_length(call->args) > origin && given == NULL))
		return;
	window->slide = sx_window_usec(DatumGetIntervalP(step->constvalue), "slide");
	window->origin = given == NULL ? sx_window_default_origin() :
		DatumGetTimestampTz(given->constvalue);
}

/* The time of an event, or of the window that a row of a closed one stands for? */
static bool
is_time(Node *node, const SxLevel *level)
{
	SxWindow	window;
	TraceKind	kind = trace(node, level, &window);

	return kind == TRACE_EVENT_TIME || (kind == TRACE_WINDOW && window.closed);
}

static TraceKind
trace_call(FuncExpr *call, const SxLevel *level, SxWindow *window)
{
	WindowFunction wf = window_function(call->funcid);
	int			time_arg = wf == WF_DATE_BIN || wf == WF_DATE_TRUNC ? 1 : 0;

	if (wf == WF_NONE || !is_time(list_nth(call->args, time_arg), level))
		return TRACE_OTHER;
	memset(window, 0, sizeof(SxWindow));
	window->type = call->funcresulttype;
	switch (wf)
	{
		case WF_TUMBLE:
			window->length = constant_length(call, 1, "size");
			set_alignment(call, window, 1, 2);
			return TRACE_WINDOW;
		case WF_HOP:
			window->length = constant_length(call, 2, "size");
			set_alignment(call, window, 1, 3);
			return TRACE_WINDOW;
		case WF_CUMULATE:
			window->length = constant_length(call, 2, "size");
			window->is_end = true;
			return TRACE_WINDOW;
		case WF_DATE_BIN:
			window->length = constant_length(call, 0, "size");
			set_alignment(call, window, 0, 2);
			return TRACE_WINDOW;
		case WF_DATE_TRUNC:
			return trunc_window(call, window) ? TRACE_WINDOW : TRACE_OTHER;
		case WF_NONE:
			break;
	}
	return TRACE_OTHER;
}

/* ---------- following a column down ---------- */

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

bool
sx_same_window(const SxWindow *a, const SxWindow *b)
{
	return a->type == b->type && a->is_end == b->is_end && a->length == b->length &&
		same_text(a->calendar, b->calendar) && same_text(a->zone, b->zone);
}

/* Column attno of every branch of a set operation must be the same thing. */
static TraceKind
trace_branches(Node *node, const SxLevel *level, AttrNumber attno, SxWindow *window)
{
	SetOperationStmt *setop = (SetOperationStmt *) node;
	SxWindow	other;
	TraceKind	kind;

	if (IsA(node, RangeTblRef))
	{
		RangeTblEntry *rte = rt_fetch(((RangeTblRef *) node)->rtindex,
									  level->query->rtable);
		SxLevel		branch = {rte->subquery, level};
		TargetEntry *tle = get_tle_by_resno(rte->subquery->targetList, attno);

		if (rte->subquery->setOperations != NULL)
			return trace_branches(rte->subquery->setOperations, &branch, attno, window);
		return tle == NULL ? TRACE_OTHER : trace((Node *) tle->expr, &branch, window);
	}
	kind = trace_branches(setop->larg, level, attno, window);
	if (kind == TRACE_OTHER ||
		trace_branches(setop->rarg, level, attno, &other) != kind ||
		(kind == TRACE_WINDOW && !sx_same_window(window, &other)))
		return TRACE_OTHER;
	return kind;
}

static TraceKind
trace_output(Query *query, const SxLevel *parent, AttrNumber attno, SxWindow *window)
{
	SxLevel		level = {query, parent};
	TargetEntry *tle = get_tle_by_resno(query->targetList, attno);

	if (query->setOperations != NULL)
		return trace_branches(query->setOperations, &level, attno, window);
	return tle == NULL ? TRACE_OTHER : trace((Node *) tle->expr, &level, window);
}

/* A stream's rows are its query's, unless a function makes them or a window keeps them. */
static TraceKind
trace_derived(Oid relid, AttrNumber attno, SxWindow *window)
{
	List	   *options = GetForeignTable(relid)->options;
	Oid			query;

	if (sx_option(options, "window") != NULL || sx_option(options, "update_state") != NULL ||
		sx_option(options, "map_with_state") != NULL ||
		sx_step_options(relid, &query, NULL) == NULL)
		return TRACE_OTHER;
	return trace_output(sx_view_query(query), NULL, attno, window);
}

/*
 * Column of a view that gives out closed windows.  Its state says which column has the
 * window; event times that it lets through are not before the start.
 */
static TraceKind
trace_closed(Oid view, AttrNumber attno, SxWindow *window)
{
	Oid			state;
	Oid			query;
	SxLayout   *layout = sx_view_layout(view, &state);
	Node	   *expr;

	if (!layout->windowed)
		return TRACE_OTHER;
	expr = (Node *) list_nth_node(TargetEntry, layout->output, attno - 1)->expr;
	if (equal(expr, sx_state_var(layout, layout->window_column)))
	{
		*window = layout->window;
		window->closed = true;
		return TRACE_WINDOW;
	}
	if (layout->window.is_end || sx_step_options(view, &query, NULL) == NULL)
		return TRACE_OTHER;
	return trace_output(sx_view_query(query), NULL, attno, window) == TRACE_EVENT_TIME ?
		TRACE_EVENT_TIME : TRACE_OTHER;
}

static TraceKind
trace_relation(Oid relid, AttrNumber attno, SxWindow *window)
{
	Oid			query;

	if (sx_is_stream_table(relid) && sx_relation_kind(relid) == SX_REL_DERIVED)
		return trace_derived(relid, attno, window);
	if (sx_is_stream_table(relid))
		return sx_stream_load(relid)->event_time == attno && attno > 0 ?
			TRACE_EVENT_TIME : TRACE_OTHER;
	if (sx_is_final_view(relid))
		return trace_closed(relid, attno, window);
	if (sx_relation_kind(relid) == SX_REL_VIEW && sx_step_options(relid, &query, NULL) != NULL)
		return trace_output(sx_view_query(query), NULL, attno, window);
	if (sx_is_view(relid))
		return trace_output(sx_view_query(relid), NULL, attno, window);
	return TRACE_OTHER;
}

static TraceKind
trace_var(Var *var, const SxLevel *level, SxWindow *window)
{
	RangeTblEntry *rte;
	const SxLevel *defined_at;
	CommonTableExpr *cte;

	for (Index up = 0; up < var->varlevelsup && level != NULL; up++)
		level = level->parent;
	if (level == NULL || var->varattno <= 0)
		return TRACE_OTHER;
	rte = rt_fetch(var->varno, level->query->rtable);
	switch (rte->rtekind)
	{
		case RTE_RELATION:
			return trace_relation(rte->relid, var->varattno, window);
		case RTE_SUBQUERY:
			return trace_output(rte->subquery, level, var->varattno, window);
		case RTE_CTE:
			cte = sx_find_cte(level, rte, &defined_at);
			if (cte->cterecursive)
				return TRACE_OTHER;
			return trace_output(castNode(Query, cte->ctequery), defined_at,
								var->varattno, window);
		case RTE_JOIN:
			return trace(list_nth(rte->joinaliasvars, var->varattno - 1), level, window);
		case RTE_FUNCTION:
			if (list_length(rte->functions) == 1 && var->varattno == 1)
				return trace(linitial_node(RangeTblFunction, rte->functions)->funcexpr,
							 level, window);
			return TRACE_OTHER;
		default:
			return sx_rte_group_expr(rte, var->varattno) == NULL ? TRACE_OTHER :
				trace(sx_rte_group_expr(rte, var->varattno), level, window);
	}
}

/* end - interval '1 microsecond', of a closed window */
static TraceKind
trace_before_end(OpExpr *op, const SxLevel *level, SxWindow *window)
{
	Node	   *by;

	if (op->opfuncid != F_TIMESTAMPTZ_MI_INTERVAL && op->opfuncid != F_TIMESTAMP_MI_INTERVAL)
		return TRACE_OTHER;
	by = eval_const_expressions(NULL, copyObject(lsecond(op->args)));
	if (!IsA(by, Const) || ((Const *) by)->constisnull)
		return TRACE_OTHER;
	else
	{
		Interval   *interval = DatumGetIntervalP(((Const *) by)->constvalue);

		if (interval->month != 0 || interval->day != 0 || interval->time != 1)
			return TRACE_OTHER;
	}
	return trace(linitial(op->args), level, window) == TRACE_WINDOW && window->closed &&
		window->is_end ? TRACE_EVENT_TIME : TRACE_OTHER;
}

static TraceKind
trace(Node *node, const SxLevel *level, SxWindow *window)
{
	while (node != NULL && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	if (node == NULL)
		return TRACE_OTHER;
	if (IsA(node, Var))
		return trace_var((Var *) node, level, window);
	if (IsA(node, FuncExpr))
		return trace_call((FuncExpr *) node, level, window);
	if (IsA(node, OpExpr))
		return trace_before_end((OpExpr *) node, level, window);
	return TRACE_OTHER;
}

bool
sx_trace_window(Query *query, Node *expr, AttrNumber attno, SxWindow *window)
{
	SxLevel		level = {query, NULL};

	if (query->setOperations != NULL)
		return trace_branches(query->setOperations, &level, attno, window) == TRACE_WINDOW;
	return trace(expr, &level, window) == TRACE_WINDOW;
}

bool
sx_is_event_time(Query *query, Node *expr)
{
	SxLevel		level = {query, NULL};

	return query->setOperations == NULL && is_time(expr, &level);
}

bool
sx_trace_event_time_column(Query *query, Node *column)
{
	SxLevel		level = {query, NULL};
	SxWindow	ignored;

	return trace(column, &level, &ignored) == TRACE_EVENT_TIME;
}

AttrNumber
sx_trace_event_time(Query *query)
{
	SxWindow	ignored;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!tle->resjunk &&
			trace_output(query, NULL, tle->resno, &ignored) == TRACE_EVENT_TIME)
			return tle->resno;
	}
	return InvalidAttrNumber;
}

/* ---------- checks ---------- */

/* Constant sizes are checked at creation, so that no batch fails for them. */
static bool
windows_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr))
	{
		FuncExpr   *call = (FuncExpr *) node;
		WindowFunction wf = window_function(call->funcid);
		bool		two = wf == WF_HOP || wf == WF_CUMULATE;
		Const	   *first = wf == WF_TUMBLE || two ? constant_argument(call, 1) : NULL;
		Const	   *second = two ? constant_argument(call, 2) : NULL;
		int64		slide = 0;

		if (first != NULL)
			slide = sx_window_usec(DatumGetIntervalP(first->constvalue),
								   wf == WF_HOP ? "slide" : wf == WF_CUMULATE ? "step" : "size");
		if (second != NULL)
		{
			int64		size = sx_window_usec(DatumGetIntervalP(second->constvalue), "size");

			if (first != NULL && wf == WF_HOP)
				sx_hop_check(slide, size);
			if (first != NULL && wf == WF_CUMULATE)
				sx_cumulate_check(slide, size);
		}
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, windows_walker, context, 0);
	return expression_tree_walker(node, windows_walker, context);
}

void
sx_check_windows(Query *query)
{
	(void) windows_walker((Node *) query, NULL);
}

/* ---------- SQL ---------- */

char *
sx_length_text(int64 usec)
{
	static const struct
	{
		int64		length;
		const char *unit;
	}			units[] = {
		{USECS_PER_HOUR, "hour"},
		{USECS_PER_MINUTE, "minute"},
		{USECS_PER_SEC, "second"},
		{1000, "millisecond"}
	};

	for (int i = 0; i < lengthof(units); i++)
	{
		if (usec % units[i].length == 0)
			return psprintf(INT64_FORMAT " %s%s", usec / units[i].length, units[i].unit,
							usec == units[i].length ? "" : "s");
	}
	return psprintf(INT64_FORMAT " microseconds", usec);
}

char *
sx_window_end_sql(const SxWindow *window, const char *start)
{
	const char *length = window->calendar ? window->calendar : sx_length_text(window->length);

	if (window->is_end)
		return pstrdup(start);
	if (window->zone != NULL)
	{
		char	   *zone = quote_literal_cstr(window->zone);

		return psprintf("((%s AT TIME ZONE %s) + interval '%s') AT TIME ZONE %s",
						start, zone, length, zone);
	}
	return psprintf("%s + interval '%s'", start, length);
}

char *
sx_window_closed_sql(const SxWindow *window, const char *start, const char *bound)
{
	if (window->type == TIMESTAMPOID)
		bound = psprintf("(%s AT TIME ZONE 'UTC')", bound);
	if (window->is_end)
		return psprintf("%s <= %s", start, bound);
	/* of a fixed length: the form that an index on the start can serve */
	if (window->calendar == NULL && window->zone == NULL)
		return psprintf("%s <= %s - interval '%s'", start, bound,
						sx_length_text(window->length));
	return psprintf("%s <= %s", sx_window_end_sql(window, start), bound);
}
