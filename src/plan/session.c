/*-------------------------------------------------------------------------
 *
 * session.c
 *		GROUP BY session(ts, gap): what it means, and what is kept of it.
 *
 * Each row spans [ts, ts + gap).  Rows of one key whose spans overlap or touch are one
 * session, from the earliest start to the latest end.  The key is what else stands in
 * GROUP BY.  The state table has a row for each session:
 *
 *		the key, session_start, session_end, and what its aggregates need
 *
 * Aggregates that can be combined are stored as the strategy merge stores them, and
 * sessions that meet combine them.  When one of them cannot be (array_agg, percentile,
 * count(DISTINCT)), the rows are kept in a node, the state table has the values, and
 * sessions that are touched are computed again from their rows (session_sql.c).
 *
 * session() itself has the type of ts and the value of the session's start.
 * session_start() and session_end() are timestamptz, whatever ts is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "compat.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "plan/node.h"
#include "plan/plan_internal.h"

/* ---------- recognising ---------- */

static bool
calls(Node *node, const char *name)
{
	FuncExpr   *call = (FuncExpr *) node;
	char	   *found;

	if (node == NULL || !IsA(node, FuncExpr) || call->funcid < FirstNormalObjectId)
		return false;
	found = get_func_name(call->funcid);
	return found != NULL && strcmp(found, name) == 0 &&
		getExtensionOfObject(ProcedureRelationId, call->funcid) ==
		get_extension_oid("streamext", true);
}

bool
sx_is_session_call(Node *node)
{
	return calls(node, "session");
}

static bool
is_session_function(Node *node)
{
	return calls(node, "session") || calls(node, "session_start") || calls(node, "session_end");
}

FuncExpr *
sx_session_call(Query *query)
{
	ListCell   *lc;

	if (query->groupClause == NIL)
		return NULL;
	query = copyObject(query);
	sx_flatten_group_exprs(query);
	foreach(lc, query->groupClause)
	{
		Node	   *expr = get_sortgroupclause_expr(lfirst(lc), query->targetList);

		if (sx_is_session_call(expr))
			return (FuncExpr *) expr;
	}
	return NULL;
}

/* ---------- checks ---------- */

static void
refuse(const char *message, const char *hint)
{
	SxRefusal	refusal;

	sx_refuse(&refusal, pstrdup(message), pstrdup(hint));
	sx_report_refusal(&refusal);
}

typedef struct UseContext
{
	FuncExpr   *session;		/* in GROUP BY; NULL: nothing is allowed */
} UseContext;

static bool
misuse_walker(Node *node, UseContext *context)
{
	UseContext	none = {NULL};

	if (node == NULL || IsA(node, Query))
		return false;
	if (context->session != NULL && equal(node, context->session))
		return misuse_walker((Node *) ((FuncExpr *) node)->args, &none);
	if (sx_is_session_call(node))
		refuse("session() stands in GROUP BY, once and by itself",
			   "SELECT key, session_start(), session_end(), count(*) FROM stream GROUP BY key, session(ts, gap).");
	if (is_session_function(node) && context->session == NULL)
		refuse("session_start() and session_end() are columns of a query that groups by session()",
			   "Use them in SELECT or HAVING, not in WHERE, GROUP BY or within an aggregate.");
	return expression_tree_walker(node, misuse_walker,
								  IsA(node, Aggref) ? &none : context);
}

static void
check_query(Query *query)
{
	UseContext	context = {NULL};
	UseContext	none = {NULL};
	int			n = 0;
	ListCell   *lc;

	query = copyObject(query);
	sx_flatten_group_exprs(query);
	foreach(lc, query->groupClause)
	{
		Node	   *expr = get_sortgroupclause_expr(lfirst(lc), query->targetList);

		if (sx_is_session_call(expr))
		{
			context.session = (FuncExpr *) expr;
			n++;
		}
		else
			(void) misuse_walker(expr, &none);
	}
	if (n > 0 && (n > 1 || query->groupingSets != NIL))
		refuse("session() stands in GROUP BY, once and by itself",
			   "Make one continuous view for each grouping; GROUPING SETS have no sessions.");
	if (n > 0 && (query->hasWindowFuncs || query->distinctClause != NIL ||
				  query->limitCount != NULL || query->limitOffset != NULL))
		refuse("window functions, DISTINCT and LIMIT are not supported in a query that groups by session()",
			   "Put the sessions into a subquery: SELECT DISTINCT … FROM (SELECT … GROUP BY key, session(ts, gap)) s.");
	(void) misuse_walker((Node *) query->targetList, &context);
	(void) misuse_walker(query->havingQual, &context);
	(void) misuse_walker((Node *) query->jointree, &none);
}

static bool
check_walker(Node *node, bool *view)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		check_query((Query *) node);
		return query_tree_walker((Query *) node, check_walker, view, 0);
	}
	if (!*view && is_session_function(node))
		refuse("session windows need a continuous view",
			   "A session goes on from batch to batch: CREATE MATERIALIZED VIEW … AS SELECT … GROUP BY key, session(ts, gap).");
	return expression_tree_walker(node, check_walker, view);
}

void
sx_check_sessions(Query *query, bool view)
{
	(void) check_walker((Node *) query, &view);
}

/* ---------- which aggregates can be combined ---------- */

static bool
needs_rows_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
	{
		const Aggref *agg = (Aggref *) node;
		bool		plain = false;

		return sx_aggregate_problem(agg, &plain) != NULL ||
			(plain && !sx_results_combine(agg->aggfnoid)) ||
			(get_func_namespace(agg->aggfnoid) == PG_CATALOG_NAMESPACE && sx_sees_order(agg));
	}
	return expression_tree_walker(node, needs_rows_walker, context);
}

bool
sx_sessions_combine(Query *query)
{
	return !sx_reads_changing_view((Node *) query) &&
		!needs_rows_walker((Node *) query->targetList, NULL) &&
		!needs_rows_walker(query->havingQual, NULL);
}

/* ---------- layout ---------- */

static SxStateColumn *
add_bound(SxLayoutBuilder *builder, const char *name)
{
	SxStateColumn *column = sx_layout_add(builder, SX_COLUMN_SESSION, name,
										  (Expr *) builder->session);

	column->typmod = -1;
	column->collation = InvalidOid;
	return column;
}

void
sx_session_layout(SxLayoutBuilder *builder, Query *query)
{
	SxLayout   *layout = builder->layout;

	layout->strategy = SX_STRATEGY_SESSION;
	layout->from_rows = !sx_sessions_combine(query);
	layout->reason = layout->from_rows ?
		"session windows with aggregates that cannot be combined: rows of live sessions are kept, touched sessions are computed again" :
		"session windows: what a batch brings is merged with the sessions that it touches";
	layout->session_start = add_bound(builder, "session_start");
	layout->session_end = add_bound(builder, "session_end");
	layout->windowed = sx_is_event_time(query, linitial(builder->session->args));
	memset(&layout->window, 0, sizeof(SxWindow));
	layout->window.type = layout->session_end->type;
	layout->window.is_end = true;
	layout->window_column = layout->session_end;
}

/* A bound as session_start() and session_end() give it. */
static Node *
as_timestamptz(Var *bound)
{
	Const	   *utc;

	if (bound->vartype == TIMESTAMPTZOID)
		return (Node *) bound;
	utc = makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1, CStringGetTextDatum("UTC"), false, false);
	return (Node *) makeFuncExpr(F_TIMEZONE_TEXT_TIMESTAMP, TIMESTAMPTZOID,
								 list_make2(utc, bound), InvalidOid, DEFAULT_COLLATION_OID,
								 COERCE_EXPLICIT_CALL);
}

/* The column of an aggregate's value, shared with an equal one. */
static Var *
value_column(SxLayoutBuilder *builder, Aggref *agg)
{
	SxStateColumn *column;
	ListCell   *lc;

	foreach(lc, builder->layout->columns)
	{
		column = lfirst(lc);
		if (column->kind == SX_COLUMN_VALUE && equal(column->expr, agg))
			return sx_state_var(builder->layout, column);
	}
	column = sx_layout_add(builder, SX_COLUMN_VALUE,
						   builder->exact ? builder->base :
						   psprintf("%s_%s", builder->base, get_func_name(agg->aggfnoid)),
						   (Expr *) agg);
	return sx_state_var(builder->layout, column);
}

Node *
sx_session_to_state(SxLayoutBuilder *builder, Node *node)
{
	SxLayout   *layout = builder->layout;

	if (equal(node, builder->session))
		return (Node *) sx_state_var(layout, layout->session_start);
	if (calls(node, "session_start"))
		return as_timestamptz(sx_state_var(layout, layout->session_start));
	if (calls(node, "session_end"))
		return as_timestamptz(sx_state_var(layout, layout->session_end));
	if (IsA(node, Aggref) && layout->from_rows)
		return (Node *) value_column(builder, (Aggref *) node);
	return NULL;
}
