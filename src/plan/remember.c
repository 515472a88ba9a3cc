/*-------------------------------------------------------------------------
 *
 * remember.c
 *		Calls whose results are remembered (state/remember.c), in the plans of batches.
 *
 * When a statement of a batch is planned, calls of functions that are worth it are
 * replaced, if their arguments come from a stream's record:
 *
 *		substring(url FROM '…')   →   streamext.remember_text(2073, url, '…')
 *
 * This happens to the plan alone.  What is stored, and what explain() shows, are the words of
 * the user.  Arguments from tables are left as they are, as an index of the table may stand on
 * the expression.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"

#include "plan/plan_internal.h"
#include "state/remember.h"
#include "worker/batch.h"

static planner_hook_type next_planner = NULL;

typedef struct Origin
{
	Query	   *query;
	bool		stream;			/* a column of a stream was seen */
} Origin;

static bool from_elsewhere(Node *node, Origin *origin);

/* Does the column come from anything else than a stream? */
static bool
var_from_elsewhere(Var *var, Origin *origin)
{
	RangeTblEntry *rte;
	Origin		below;
	bool		elsewhere;

	if (var->varlevelsup != 0 || var->varattno <= 0)
		return true;
	rte = rt_fetch(var->varno, origin->query->rtable);
	switch (rte->rtekind)
	{
		case RTE_RELATION:
			origin->stream = origin->stream || rte->relkind == RELKIND_FOREIGN_TABLE;
			return rte->relkind != RELKIND_FOREIGN_TABLE;
		case RTE_JOIN:
			return from_elsewhere(list_nth(rte->joinaliasvars, var->varattno - 1), origin);
		case RTE_SUBQUERY:
			if (rte->subquery->setOperations != NULL)
				return true;
			below.query = rte->subquery;
			below.stream = false;
			elsewhere = from_elsewhere((Node *) get_tle_by_resno(rte->subquery->targetList,
																 var->varattno)->expr, &below);
			origin->stream = origin->stream || below.stream;
			return elsewhere;
		default:
			return true;
	}
}

static bool
from_elsewhere(Node *node, Origin *origin)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return var_from_elsewhere((Var *) node, origin);
	if (IsA(node, Query) || IsA(node, SubLink))
		return true;
	return expression_tree_walker(node, from_elsewhere, origin);
}

static bool
is_of_stream(List *args, Query *query)
{
	Origin		origin = {query, false};

	return !from_elsewhere((Node *) args, &origin) && origin.stream;
}

static Expr *
remembering(const SxRemembered *what, List *args, Oid collation, Oid input_collation)
{
	Oid			types[] = {OIDOID, ANYOID};
	Const	   *function = makeConst(OIDOID, -1, InvalidOid, sizeof(Oid),
									 ObjectIdGetDatum(what->function), false, true);

	return (Expr *) makeFuncExpr(sx_own_function(what->caller, 2, types), what->result,
								 lcons(function, args), collation, input_collation,
								 COERCE_EXPLICIT_CALL);
}

static Node *
remember_mutator(Node *node, Query *query)
{
	Oid			function;
	const SxRemembered *what;

	if (node == NULL)
		return NULL;
	if (IsA(node, Query))
		return (Node *) query_tree_mutator((Query *) node, remember_mutator, (Query *) node, 0);
	node = expression_tree_mutator(node, remember_mutator, query);
	if (IsA(node, OpExpr))
		set_opfuncid((OpExpr *) node);
	function = IsA(node, FuncExpr) ? ((FuncExpr *) node)->funcid :
		IsA(node, OpExpr) ? ((OpExpr *) node)->opfuncid : InvalidOid;
	what = OidIsValid(function) ? sx_remembered(function) : NULL;
	if (what == NULL)
		return node;
	if (IsA(node, FuncExpr) && is_of_stream(((FuncExpr *) node)->args, query))
		return (Node *) remembering(what, ((FuncExpr *) node)->args,
									((FuncExpr *) node)->funccollid,
									((FuncExpr *) node)->inputcollid);
	if (IsA(node, OpExpr) && is_of_stream(((OpExpr *) node)->args, query))
		return (Node *) remembering(what, ((OpExpr *) node)->args,
									((OpExpr *) node)->opcollid,
									((OpExpr *) node)->inputcollid);
	return node;
}

static PlannedStmt *
plan_batch(Query *query, const char *text, int cursor_options, ParamListInfo params)
{
	if (sx_current != NULL)
		query = (Query *) remember_mutator((Node *) query, query);
	if (next_planner != NULL)
		return next_planner(query, text, cursor_options, params);
	return standard_planner(query, text, cursor_options, params);
}

void
sx_remember_init(void)
{
	next_planner = planner_hook;
	planner_hook = plan_batch;
}
