/*-------------------------------------------------------------------------
 *
 * analyze.c
 *		Whether a query can be kept row by row.
 *
 * A query is row-wise when its result over old and new rows together is its result
 * over the old ones plus its result over the new ones.  That is what makes it enough
 * to run a view over the batch.  So each query node reads at most one stream through
 * FROM, on the side of a join that is never extended by NULLs, and does nothing that
 * looks at several rows; the only exception is the topmost node of a view, whose
 * aggregates are merged.
 *
 * What one cannot see through: a derived stream that is not row-wise itself (an
 * aggregate, a join of two streams, a volatile function) is evaluated per batch by
 * definition, so to its readers it is a stream like a source.  A plain view is seen
 * through and must be row-wise.
 *
 * The walk answers with a number: 0, no stream is read; 1, one is, row by row; -1,
 * refused, and the refusal says why.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog/sx_catalog.h"
#include "fdw/stream.h"
#include "plan/plan_internal.h"

#define REFUSED (-1)

static int	query_streams(const SxLevel *level, bool top, SxRefusal *refusal);

void
sx_refuse(SxRefusal *refusal, char *message, char *hint)
{
	refusal->message = message;
	refusal->hint = hint;
}

void
sx_report_refusal(const SxRefusal *refusal)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s", refusal->message),
			 errhint("%s", refusal->hint)));
	pg_unreachable();
}

bool
sx_is_view(Oid relid)
{
	return get_rel_relkind(relid) == RELKIND_VIEW;
}

Query *
sx_view_query(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	Query	   *query = copyObject(get_view_query(rel));

	table_close(rel, NoLock);
	return query;
}

/* ---------- row by row ---------- */

CommonTableExpr *
sx_find_cte(const SxLevel *level, RangeTblEntry *rte, const SxLevel **defined_at)
{
	ListCell   *lc;

	for (Index up = 0; up < rte->ctelevelsup && level != NULL; up++)
		level = level->parent;
	foreach(lc, level == NULL ? NIL : level->query->cteList)
	{
		CommonTableExpr *cte = lfirst(lc);

		if (strcmp(cte->ctename, rte->ctename) == 0)
		{
			*defined_at = level;
			return cte;
		}
	}
	elog(ERROR, "could not find CTE \"%s\"", rte->ctename);
}

/* One name per function is enough for the message. */
static bool
volatile_checker(Oid function, void *context)
{
	if (func_volatile(function) != PROVOLATILE_VOLATILE)
		return false;
	*(Oid *) context = function;
	return true;
}

static bool
volatile_walker(Node *node, Oid *function)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, volatile_checker, function))
		return true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, volatile_walker, function, 0);
	return expression_tree_walker(node, volatile_walker, function);
}

static bool
has_volatile(Query *query, SxRefusal *refusal)
{
	Oid			function;

	if (!volatile_walker((Node *) query, &function))
		return false;
	sx_refuse(refusal,
			  psprintf("function %s is volatile, which a continuous view cannot use",
					   get_func_name(function)),
			  psprintf("If it depends on its arguments alone: ALTER FUNCTION %s STABLE.  Otherwise call it in a derived stream (CREATE STREAM … AS SELECT).",
					   get_func_name(function)));
	return true;
}

bool
sx_is_barrier(Oid relid)
{
	return sx_relation_kind(relid) == SX_REL_DERIVED &&
		(!sx_is_view(relid) || !sx_is_row_wise(sx_view_query(relid)));
}

bool
sx_is_row_wise(Query *query)
{
	SxRefusal	refusal;
	SxLevel		level = {query, NULL};

	return !has_volatile(query, &refusal) && query_streams(&level, false, &refusal) == 1;
}

static int
view_streams(Oid relid, SxRefusal *refusal)
{
	SxLevel		level = {sx_view_query(relid), NULL};

	if (!sx_query_reads_stream(level.query))
		return 0;
	if (sx_is_barrier(relid))
		return 1;
	if (sx_relation_kind(relid) != SX_REL_DERIVED && has_volatile(level.query, refusal))
		return REFUSED;
	return query_streams(&level, false, refusal);
}

static bool
is_of_view(const SxLevel *level)
{
	while (level->parent != NULL)
		level = level->parent;
	return level->of_view;
}

static int
relation_streams(const SxLevel *level, RangeTblEntry *rte, SxRefusal *refusal)
{
	if (sx_is_stream_table(rte->relid) || (is_of_view(level) && sx_is_final_view(rte->relid)))
		return 1;
	return sx_is_view(rte->relid) ? view_streams(rte->relid, refusal) : 0;
}

static int
cte_streams(const SxLevel *level, RangeTblEntry *rte, SxRefusal *refusal)
{
	const SxLevel *defined_at;
	CommonTableExpr *cte = sx_find_cte(level, rte, &defined_at);
	SxLevel		inner = {castNode(Query, cte->ctequery), defined_at};

	if (!cte->cterecursive)
		return query_streams(&inner, false, refusal);
	if (!sx_query_reads_stream(inner.query))
		return 0;
	sx_refuse(refusal, "WITH RECURSIVE over a stream is not supported",
			  "A recursive query may read tables; join it to the stream.");
	return REFUSED;
}

static int
rte_streams(const SxLevel *level, RangeTblEntry *rte, SxRefusal *refusal)
{
	if (rte->rtekind == RTE_RELATION)
		return relation_streams(level, rte, refusal);
	if (rte->rtekind == RTE_SUBQUERY)
	{
		SxLevel		inner = {rte->subquery, level};

		return query_streams(&inner, false, refusal);
	}
	if (rte->rtekind == RTE_CTE)
		return cte_streams(level, rte, refusal);
	if (sx_node_reads_stream((Node *) rte->functions))
	{
		sx_refuse(refusal, "a function that reads a stream is not supported in a continuous view",
				  "Call it in a derived stream, which is evaluated per batch: CREATE STREAM … AS SELECT … FROM f().");
		return REFUSED;
	}
	return 0;
}

static int
refuse_stream_join(SxRefusal *refusal)
{
	sx_refuse(refusal, "a join of two streams is not supported yet in a continuous view",
			  "A derived stream joins them within each batch (CREATE STREAM … AS SELECT); UNION ALL brings streams together.");
	return REFUSED;
}

static int	from_streams(const SxLevel *level, Node *node, SxRefusal *refusal);

static int
join_streams(const SxLevel *level, JoinExpr *join, SxRefusal *refusal)
{
	int			left = from_streams(level, join->larg, refusal);
	int			right = left < 0 ? REFUSED : from_streams(level, join->rarg, refusal);

	if (left < 0 || right < 0)
		return REFUSED;
	if (left > 0 && right > 0)
		return refuse_stream_join(refusal);
	if ((join->jointype == JOIN_LEFT && right > 0) ||
		(join->jointype == JOIN_RIGHT && left > 0) ||
		(join->jointype == JOIN_FULL && left + right > 0))
	{
		sx_refuse(refusal, "an outer join that keeps all rows of a table is not supported over a stream",
				  "Rows of the table would come back with every batch: put the stream on the preserved side (stream LEFT JOIN table).");
		return REFUSED;
	}
	return left + right;
}

static int
from_streams(const SxLevel *level, Node *node, SxRefusal *refusal)
{
	int			total = 0;
	ListCell   *lc;

	if (IsA(node, RangeTblRef))
		return rte_streams(level, rt_fetch(((RangeTblRef *) node)->rtindex,
										   level->query->rtable), refusal);
	if (IsA(node, JoinExpr))
		return join_streams(level, (JoinExpr *) node, refusal);

	foreach(lc, castNode(FromExpr, node)->fromlist)
	{
		int			n = from_streams(level, lfirst(lc), refusal);

		if (n < 0)
			return REFUSED;
		total += n;
	}
	return total > 1 ? refuse_stream_join(refusal) : total;
}

/* The branches of a set operation: all read streams, or none does. */
static int
setop_streams(const SxLevel *level, Node *node, SxRefusal *refusal)
{
	SetOperationStmt *setop = (SetOperationStmt *) node;
	int			left;
	int			right;

	if (IsA(node, RangeTblRef))
		return from_streams(level, node, refusal);
	left = setop_streams(level, setop->larg, refusal);
	right = left < 0 ? REFUSED : setop_streams(level, setop->rarg, refusal);
	if (left < 0 || right < 0)
		return REFUSED;
	if (left + right == 0)
		return 0;
	if (setop->op != SETOP_UNION || !setop->all)
	{
		sx_refuse(refusal,
				  psprintf("%s over a stream is not supported yet in a continuous view",
						   setop->op == SETOP_UNION ? "UNION without ALL" :
						   setop->op == SETOP_INTERSECT ? "INTERSECT" : "EXCEPT"),
				  setop->op == SETOP_UNION ?
				  "Use UNION ALL, and GROUP BY all columns where duplicates must go." :
				  "Use WHERE EXISTS or NOT EXISTS over a table.");
		return REFUSED;
	}
	if (left == 0 || right == 0)
	{
		sx_refuse(refusal, "a branch of UNION ALL that reads no stream is not supported in a continuous view",
				  "Its rows would come again with every batch: add them in a view over the continuous view.");
		return REFUSED;
	}
	return 1;
}

typedef struct SublinkContext
{
	const SxLevel *level;
	SxRefusal  *refusal;
} SublinkContext;

/* True when a subquery in an expression reads a stream. */
static bool
sublink_walker(Node *node, SublinkContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
	{
		SubLink    *sublink = (SubLink *) node;
		SxLevel		inner = {castNode(Query, sublink->subselect), context->level};

		if (query_streams(&inner, false, context->refusal) != 0)
		{
			sx_refuse(context->refusal,
					  "a subquery in an expression that reads a stream is not supported",
					  "Subqueries in expressions (EXISTS, IN, scalar) may read tables; two streams meet in a derived stream (CREATE STREAM … AS SELECT).");
			return true;
		}
		return sublink_walker(sublink->testexpr, context);
	}
	return expression_tree_walker(node, sublink_walker, context);
}

static bool
sublinks_read_stream(const SxLevel *level, SxRefusal *refusal)
{
	SublinkContext context = {level, refusal};

	return query_tree_walker(level->query, sublink_walker, &context,
							 QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES);
}

/* Clauses that look at several rows, where the query reads a stream. */
static bool
has_refused_clause(Query *query, bool top, SxRefusal *refusal)
{
	bool		empty_set = list_length(query->groupingSets) == 1 &&
		linitial_node(GroupingSet, query->groupingSets)->kind == GROUPING_SET_EMPTY;

	if (query->groupingSets != NIL && !empty_set)
		sx_refuse(refusal, "GROUPING SETS, ROLLUP and CUBE over a stream are not supported yet",
				  "Make one continuous view for each grouping.");
	else if (query->hasWindowFuncs)
		sx_refuse(refusal, "window functions over a stream are not supported yet in a continuous view",
				  "A derived stream evaluates them within each batch; or use them in a query that reads the view.");
	else if (query->distinctClause != NIL)
		sx_refuse(refusal, "DISTINCT over a stream is not supported yet in a continuous view",
				  "Use GROUP BY over the same columns.");
	else if (query->limitCount != NULL || query->limitOffset != NULL)
		sx_refuse(refusal, "LIMIT and OFFSET over a stream are not supported in a continuous view",
				  "Limit in the query that reads the view.");
	else if (query->rowMarks != NIL)
		sx_refuse(refusal, "FOR UPDATE and FOR SHARE are not supported over a stream",
				  "Leave the clause out: rows of a stream cannot be locked.");
	else if (top && query->sortClause != NIL)
		sx_refuse(refusal, "ORDER BY is not supported in a continuous view",
				  "Order in the query that reads the view.");
	else if (!top && (query->hasAggs || query->groupClause != NIL ||
					  query->groupingSets != NIL || query->havingQual != NULL))
		sx_refuse(refusal, "an aggregate in a subquery over a stream is not supported yet in a continuous view",
				  "Aggregate in the outermost SELECT; or per batch, in a derived stream (CREATE STREAM … AS SELECT) that the view reads.");
	else
		return false;
	return true;
}

static int
query_streams(const SxLevel *level, bool top, SxRefusal *refusal)
{
	Query	   *query = level->query;
	int			n;

	if (query->setOperations != NULL)
		n = setop_streams(level, query->setOperations, refusal);
	else
		n = from_streams(level, (Node *) query->jointree, refusal);
	if (n < 0)
		return REFUSED;
	if (sublinks_read_stream(level, refusal))
		return REFUSED;
	if (n > 0 && has_refused_clause(query, top, refusal))
		return REFUSED;
	return n;
}

int
sx_from_streams(Query *query, Node *node, SxRefusal *refusal)
{
	SxLevel		level = {query, NULL, true};

	return from_streams(&level, node, refusal);
}

void
sx_refuse_volatile(Query *query)
{
	SxRefusal	refusal = {NULL, NULL};

	if (has_volatile(query, &refusal))
		sx_report_refusal(&refusal);
}

/* What cannot be merged stands in an aggregate, or above the grouping. */
static bool
unmergeable_walker(Node *node, void *context)
{
	bool		plain;

	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
		return sx_aggregate_problem((Aggref *) node, &plain) != NULL;
	if (IsA(node, SubLink) || IsA(node, GroupingFunc))
		return true;
	return expression_tree_walker(node, unmergeable_walker, context);
}

static bool
is_mergeable(Query *query)
{
	return (!query->hasAggs && query->groupClause == NIL && query->havingQual == NULL) ||
		(list_length(query->groupClause) <= INDEX_MAX_KEYS &&
		 !unmergeable_walker((Node *) query->targetList, NULL) &&
		 !unmergeable_walker(query->havingQual, NULL) &&
		 (sx_session_call(query) == NULL || sx_sessions_combine(query)));
}

bool
sx_can_keep_alone(Query *query, SxRefusal *refusal)
{
	SxLevel		level = {query, NULL, true};

	return query_streams(&level, true, refusal) == 1 && is_mergeable(query);
}

void
sx_check_view_query(Query *query)
{
	SxRefusal	refusal = {NULL, NULL};
	SxLevel		level = {query, NULL, true};
	int			n = query_streams(&level, true, &refusal);

	if (n == 0)
		sx_refuse(&refusal, "the query reads a stream, but not in FROM",
				  "Name the stream in FROM; functions that read streams belong into a derived stream.");
	if (n != 1 || has_volatile(query, &refusal))
		sx_report_refusal(&refusal);
}
