/*-------------------------------------------------------------------------
 *
 * clock.c
 *		now() and its like in the text of streams and views.
 *
 * In a stream's or view's own text the current time means the batch's time, which
 * is the same for all rows of a batch and the same again when a batch is retried.
 * In the conditions of a continuous view it is refused: WHERE ts > now() - '1 hour'
 * would have to take rows out as time goes by.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_func.h"
#include "streamext.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "plan/plan_internal.h"

Oid
sx_own_function(const char *name, int nargs, const Oid *argtypes)
{
	return LookupFuncName(list_make2(makeString(SX_SCHEMA), makeString(pstrdup(name))),
						  nargs, argtypes, false);
}

static bool
is_clock(Node *node)
{
	if (IsA(node, FuncExpr))
	{
		Oid			function = ((FuncExpr *) node)->funcid;

		return function == F_NOW || function == F_TRANSACTION_TIMESTAMP ||
			function == F_STATEMENT_TIMESTAMP;
	}
	if (IsA(node, SQLValueFunction))
	{
		switch (((SQLValueFunction *) node)->op)
		{
			case SVFOP_CURRENT_DATE:
			case SVFOP_CURRENT_TIME:
			case SVFOP_CURRENT_TIME_N:
			case SVFOP_CURRENT_TIMESTAMP:
			case SVFOP_CURRENT_TIMESTAMP_N:
			case SVFOP_LOCALTIME:
			case SVFOP_LOCALTIME_N:
			case SVFOP_LOCALTIMESTAMP:
			case SVFOP_LOCALTIMESTAMP_N:
				return true;
			default:
				return false;
		}
	}
	return false;
}

static Node *
clock_mutator(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (is_clock(node))
	{
		Node	   *time = (Node *) makeFuncExpr(sx_own_function("batch_time", 0, NULL),
												 TIMESTAMPTZOID, NIL, InvalidOid,
												 InvalidOid, COERCE_EXPLICIT_CALL);

		return coerce_to_target_type(NULL, time, TIMESTAMPTZOID, exprType(node),
									 exprTypmod(node), COERCION_EXPLICIT,
									 COERCE_EXPLICIT_CAST, -1);
	}
	if (IsA(node, Query))
		return (Node *) query_tree_mutator((Query *) node, clock_mutator, context, 0);
	return expression_tree_mutator(node, clock_mutator, context);
}

Query *
sx_rewrite_clock(Query *query)
{
	return castNode(Query, clock_mutator((Node *) query, NULL));
}

/* Finds a clock in an expression; subqueries are the business of their own check. */
static bool
clock_walker(Node *node, void *context)
{
	if (node == NULL || IsA(node, Query))
		return false;
	return is_clock(node) || expression_tree_walker(node, clock_walker, context);
}

static void
refuse_clock(const char *clause)
{
	SxRefusal	refusal;

	sx_refuse(&refusal,
			  psprintf("the current time in %s is not supported in a continuous view", clause),
			  "The past of the view would change as time goes by: filter when reading the view, or bound it with retention = '…'.");
	sx_report_refusal(&refusal);
}

static bool
condition_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;

		if (clock_walker((Node *) query->jointree, NULL))
			refuse_clock("WHERE or JOIN");
		if (clock_walker(query->havingQual, NULL))
			refuse_clock("HAVING");
		if (query->groupClause != NIL &&
			clock_walker((Node *) get_sortgrouplist_exprs(query->groupClause,
														  query->targetList), NULL))
			refuse_clock("GROUP BY");
		return query_tree_walker(query, condition_walker, context, 0);
	}
	return expression_tree_walker(node, condition_walker, context);
}

void
sx_check_clock(Query *query)
{
	(void) condition_walker((Node *) query, NULL);
}

static bool
batch_function_checker(Oid function, void *context)
{
	const char *name;

	if (get_func_namespace(function) != *(Oid *) context)
		return false;
	name = get_func_name(function);
	return strcmp(name, "batch_id") == 0 || strcmp(name, "batch_time") == 0 ||
		strcmp(name, "watermark") == 0;
}

bool
sx_is_batch_function(Node *node)
{
	Oid			schema = get_namespace_oid(SX_SCHEMA, false);

	return IsA(node, FuncExpr) && batch_function_checker(((FuncExpr *) node)->funcid, &schema);
}

static bool
batch_function_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	return check_functions_in_node(node, batch_function_checker, context) ||
		expression_tree_walker(node, batch_function_walker, context);
}

bool
sx_reads_batch(Node *node)
{
	Oid			schema = get_namespace_oid(SX_SCHEMA, false);

	return batch_function_walker(node, &schema);
}
