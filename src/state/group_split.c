/*-------------------------------------------------------------------------
 *
 * group_split.c
 *		Where a column of a query is a piece of a text, leaves the text whole.
 *
 *		SELECT w.word FROM (SELECT string_to_table(line, ' ') AS word FROM lines) w
 *		SELECT w.word FROM lines, string_to_table(line, ' ') AS w(word)
 *
 * become queries for the lines, and whoever groups splits them (split.h).  That is the same
 * when nothing else in the query sees the pieces, and the query has a row for each of
 * them: no row of a query between is left out, counted, sorted or made up for the lack of
 * another.  Nothing in the query may be volatile, which the caller sees to.  A function in FROM becomes a subquery of one row, which the planner does
 * away with.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"

#include "state/group.h"

/* ---------- who sees a column ---------- */

typedef struct Uses
{
	int			varno;
	AttrNumber	attno;
	int			levelsup;
	int			n;
} Uses;

static bool
count_uses(Node *node, void *context)
{
	Uses	   *uses = context;

	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = castNode(Var, node);

		if (var->varlevelsup == uses->levelsup && var->varno == uses->varno &&
			(var->varattno == uses->attno || var->varattno == 0))
			uses->n++;
		return false;
	}
	if (IsA(node, Query))
	{
		uses->levelsup++;
		(void) query_tree_walker(castNode(Query, node), count_uses, context,
								 QTW_IGNORE_JOINALIASES);
		uses->levelsup--;
		return false;
	}
	return expression_tree_walker(node, count_uses, context);
}

static bool
is_used_once(Query *query, const Var *var)
{
	Uses		uses = {.varno = var->varno,.attno = var->varattno};

	(void) query_tree_walker(query, count_uses, &uses, QTW_IGNORE_JOINALIASES);
	return uses.n == 1;
}

/* Is the range table entry there, and on no side of an outer join? */
static bool
is_inner(Node *node, int varno)
{
	ListCell   *lc;

	if (IsA(node, RangeTblRef))
		return castNode(RangeTblRef, node)->rtindex == varno;
	if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = castNode(JoinExpr, node);

		return join->jointype == JOIN_INNER &&
			(is_inner(join->larg, varno) || is_inner(join->rarg, varno));
	}
	if (!IsA(node, FromExpr))
		return false;
	foreach(lc, castNode(FromExpr, node)->fromlist)
	{
		if (is_inner(lfirst(lc), varno))
			return true;
	}
	return false;
}

/* ---------- what it is ---------- */

/* A row for each row that it reads and that passes WHERE? */
static bool
is_plain(const Query *query)
{
	return query->commandType == CMD_SELECT && !query->hasAggs && !query->hasWindowFuncs &&
		query->groupClause == NIL && query->groupingSets == NIL && query->havingQual == NULL &&
		query->distinctClause == NIL && query->sortClause == NIL && query->limitOffset == NULL &&
		query->limitCount == NULL && query->rowMarks == NIL && query->setOperations == NULL &&
		query->cteList == NIL && query->utilityStmt == NULL;
}

/* The call itself, as a column of the query: the only one that gives several rows. */
static SxSplit *
resolve_call(Query *query, Node **column)
{
	Node	   *call = *column;
	Node	  **argument;
	SxSplit    *split = sx_split_of(call, &argument);

	if (split == NULL || expression_returns_set(*argument))
		return NULL;
	*column = *argument;
	if (expression_returns_set((Node *) query->targetList))
	{
		*column = call;
		return NULL;
	}
	query->hasTargetSRFs = false;
	return split;
}

/* FROM lines, string_to_table(line, ' '): FROM lines, LATERAL (SELECT line) */
static SxSplit *
resolve_function(RangeTblEntry *rte)
{
	RangeTblFunction *function = linitial_node(RangeTblFunction, rte->functions);
	Node	  **argument;
	SxSplit    *split;
	Query	   *text;

	if (list_length(rte->functions) != 1 || rte->funcordinality)
		return NULL;
	split = sx_split_of(function->funcexpr, &argument);
	if (split == NULL || expression_returns_set(*argument))
		return NULL;
	IncrementVarSublevelsUp(*argument, 1, 0);
	text = makeNode(Query);
	text->commandType = CMD_SELECT;
	text->canSetTag = true;
	text->jointree = makeFromExpr(NIL, NULL);
	text->hasSubLinks = checkExprHasSubLink(*argument);
	text->targetList = list_make1(makeTargetEntry((Expr *) *argument, 1, pstrdup("line"), false));
	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = text;
	rte->functions = NIL;
	rte->lateral = true;
	return split;
}

static SxSplit *
resolve_subquery(Query *query, AttrNumber attno)
{
	TargetEntry *tle;

	if (!is_plain(query) || attno > list_length(query->targetList))
		return NULL;
	tle = list_nth_node(TargetEntry, query->targetList, attno - 1);
	if (tle->resjunk || tle->resno != attno)
		return NULL;
	return sx_split_resolve(query, (Node **) &tle->expr);
}

/* column stands in the target list of the query; it is only changed with a result. */
SxSplit *
sx_split_resolve(Query *query, Node **column)
{
	Var		   *var = (Var *) *column;
	RangeTblEntry *rte;

	if (!IsA(var, Var))
		return resolve_call(query, column);
	if (var->varlevelsup != 0 || var->varattno <= 0 || !is_used_once(query, var) ||
		!is_inner((Node *) query->jointree, var->varno))
		return NULL;
	rte = rt_fetch(var->varno, query->rtable);
	if (rte->rtekind == RTE_FUNCTION && var->varattno == 1)
		return resolve_function(rte);
	if (rte->rtekind == RTE_SUBQUERY)
		return resolve_subquery(rte->subquery, var->varattno);
	return NULL;
}
