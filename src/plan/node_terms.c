/*-------------------------------------------------------------------------
 *
 * node_terms.c
 *		Where a query reads nodes, and which expressions over them are equal.
 *
 * A term is an expression over one node that an index on its state table can have.  Terms
 * that are equal in every row of the result are of one class.  The search goes through the
 * query's blocks from the top: FROM says where nodes are read, and conditions of the form
 * a = b in WHERE and ON, at the top or in a correlated subquery, and x IN (SELECT y …),
 * put two classes together.
 *
 * Two expressions are equal as their types' hash function has it (state/key_hash.c),
 * so both types must be of one hash family.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "compat.h"
#include "plan/node_terms.h"

/* ---------- terms ---------- */

Node *
sx_strip_relabel(Node *node)
{
	while (node != NULL && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return node;
}

typedef struct OneVar
{
	Var		   *var;
	bool		several;
} OneVar;

/* Which range table entry do all the columns belong to? */
static bool
one_var_walker(Node *node, OneVar *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (context->var == NULL)
			context->var = var;
		else if (context->var->varno != var->varno ||
				 context->var->varlevelsup != var->varlevelsup)
			context->several = true;
		return false;
	}
	if (IsA(node, SubLink) || IsA(node, Param) || IsA(node, Aggref) || IsA(node, WindowFunc))
		context->several = true;
	return expression_tree_walker(node, one_var_walker, context);
}

static SxNodeRef *
ref_at(const SxTermSearch *search, Query *query, Index varno)
{
	ListCell   *lc;

	foreach(lc, search->refs)
	{
		SxNodeRef  *ref = lfirst(lc);

		if (ref->query == query && ref->varno == varno)
			return ref;
	}
	return NULL;
}

static Oid
hash_family(Node *expr)
{
	return lookup_type_cache(exprType(expr), TYPECACHE_HASH_OPFAMILY)->hash_opf;
}

/* Has the expression over the view one value for each row of its state table, for ever? */
static bool
can_be_indexed(SxNodeRef *ref, Node *expr)
{
	Oid			state;

	if (ref->output == NIL)
		ref->output = sx_view_layout(ref->view, &state)->output;
	return !contain_mutable_functions(sx_replace_by_output(expr, ref->output));
}

/*
 * The term of an expression in the block; NULL: it is over none or several nodes, or has
 * no one value for an index.
 */
SxTerm *
sx_find_term(SxTermSearch *search, SxTermBlock *block, Node *expr)
{
	OneVar		one = {NULL, false};
	SxNodeRef  *ref;
	SxTerm	   *term;
	ListCell   *lc;

	expr = sx_strip_relabel(expr);
	(void) one_var_walker(expr, &one);
	if (one.var == NULL || one.several || !sx_is_hashable(exprType(expr), exprCollation(expr)))
		return NULL;
	for (Index up = 0; up < one.var->varlevelsup && block != NULL; up++)
		block = block->parent;
	ref = block == NULL ? NULL : ref_at(search, block->query, one.var->varno);
	if (ref == NULL)
		return NULL;

	expr = copyObject(expr);
	if (one.var->varlevelsup > 0)
		IncrementVarSublevelsUp(expr, -(int) one.var->varlevelsup, one.var->varlevelsup);
	ChangeVarNodes(expr, one.var->varno, 1, 0);
	foreach(lc, search->terms)
	{
		term = lfirst(lc);
		if (term->ref == ref && equal(term->expr, expr))
			return term;
	}
	if (!can_be_indexed(ref, expr))
		return NULL;
	term = palloc(sizeof(SxTerm));
	term->ref = ref;
	term->expr = expr;
	term->class = search->nclasses++;
	search->terms = lappend(search->terms, term);
	return term;
}

static void
make_equal(SxTermSearch *search, SxTerm *a, SxTerm *b)
{
	int			gone;
	ListCell   *lc;

	if (a == NULL || b == NULL || hash_family(a->expr) != hash_family(b->expr))
		return;
	gone = b->class;
	foreach(lc, search->terms)
	{
		SxTerm	   *term = lfirst(lc);

		if (term->class == gone)
			term->class = a->class;
	}
}

/* ---------- equalities ---------- */

static bool
is_equality(Node *node)
{
	OpExpr	   *op = (OpExpr *) node;

	return IsA(node, OpExpr) && list_length(op->args) == 2 &&
		op_hashjoinable(op->opno, exprType(linitial(op->args)));
}

static void
note_condition(SxTermSearch *search, SxTermBlock *block, Node *node)
{
	if (node == NULL)
		return;
	if (is_andclause(node))
	{
		ListCell   *lc;

		foreach(lc, ((BoolExpr *) node)->args)
			note_condition(search, block, lfirst(lc));
	}
	else if (is_equality(node))
		make_equal(search, sx_find_term(search, block, linitial(((OpExpr *) node)->args)),
				   sx_find_term(search, block, lsecond(((OpExpr *) node)->args)));
}

static void
note_from(SxTermSearch *search, SxTermBlock *block, Node *node)
{
	if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;

		note_from(search, block, join->larg);
		note_from(search, block, join->rarg);
		note_condition(search, block, join->quals);
	}
	else if (IsA(node, FromExpr))
	{
		FromExpr   *from = (FromExpr *) node;
		ListCell   *lc;

		foreach(lc, from->fromlist)
			note_from(search, block, lfirst(lc));
		note_condition(search, block, from->quals);
	}
}

/* Can one say of a subquery's output that the condition on it reaches its rows? */
static bool
output_is_transparent(Query *query, TargetEntry *tle)
{
	if (query->setOperations != NULL || query->hasWindowFuncs || query->hasDistinctOn ||
		query->limitCount != NULL || query->limitOffset != NULL)
		return false;
	if (query->hasAggs || query->groupClause != NIL || query->groupingSets != NIL)
		return query->groupingSets == NIL && tle->ressortgroupref != 0 &&
			get_sortgroupref_clause_noerr(tle->ressortgroupref, query->groupClause) != NULL;
	return true;
}

/* x IN (SELECT y …): x = y, where the row is kept only when it is so. */
static void
note_any(SxTermSearch *search, SxTermBlock *outer, SubLink *sublink, Node *test)
{
	SxTermBlock inner = {castNode(Query, sublink->subselect), outer};
	OpExpr	   *op = (OpExpr *) test;
	Param	   *param;
	TargetEntry *tle;

	if (is_andclause(test))
	{
		ListCell   *lc;

		foreach(lc, ((BoolExpr *) test)->args)
			note_any(search, outer, sublink, lfirst(lc));
		return;
	}
	if (!is_equality(test))
		return;
	param = (Param *) sx_strip_relabel(lsecond(op->args));
	if (!IsA(param, Param) || param->paramkind != PARAM_SUBLINK)
		return;
	tle = get_tle_by_resno(inner.query->targetList, param->paramid);
	if (tle != NULL && output_is_transparent(inner.query, tle))
		make_equal(search, sx_find_term(search, outer, linitial(op->args)),
				   sx_find_term(search, &inner, (Node *) tle->expr));
}

static void
note_conjuncts(SxTermSearch *search, SxTermBlock *block, Node *node)
{
	if (node == NULL)
		return;
	if (is_andclause(node))
	{
		ListCell   *lc;

		foreach(lc, ((BoolExpr *) node)->args)
			note_conjuncts(search, block, lfirst(lc));
	}
	else if (IsA(node, SubLink) && ((SubLink *) node)->subLinkType == ANY_SUBLINK)
		note_any(search, block, (SubLink *) node, ((SubLink *) node)->testexpr);
}

/* ---------- where nodes are read ---------- */

static void
add_ref(SxTermSearch *search, SxTermBlock *block, Index varno, bool top, bool nullable)
{
	RangeTblEntry *rte = rt_fetch(varno, block->query->rtable);
	Oid			view = sx_node_of(rte);

	if (OidIsValid(view))
	{
		SxNodeRef  *ref = palloc0(sizeof(SxNodeRef));

		ref->rte = rte;
		ref->query = block->query;
		ref->varno = varno;
		ref->view = view;
		ref->top = top;
		ref->nullable = nullable;
		search->refs = lappend(search->refs, ref);
	}
	else if (rte->rtekind == RTE_SUBQUERY)
	{
		SxTermBlock inner = {rte->subquery, block};

		sx_search_terms(search, &inner, false);
	}
}

static void
add_refs(SxTermSearch *search, SxTermBlock *block, Node *node, bool top, bool nullable)
{
	ListCell   *lc;

	if (IsA(node, RangeTblRef))
		add_ref(search, block, ((RangeTblRef *) node)->rtindex, top, nullable);
	else if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;
		JoinType	type = join->jointype;

		add_refs(search, block, join->larg, top,
				 nullable || type == JOIN_RIGHT || type == JOIN_FULL);
		add_refs(search, block, join->rarg, top,
				 nullable || type == JOIN_LEFT || type == JOIN_FULL);
	}
	else if (IsA(node, SetOperationStmt))
	{
		add_refs(search, block, ((SetOperationStmt *) node)->larg, top, false);
		add_refs(search, block, ((SetOperationStmt *) node)->rarg, top, false);
	}
	else
	{
		foreach(lc, castNode(FromExpr, node)->fromlist)
			add_refs(search, block, lfirst(lc), top, nullable);
	}
}

typedef struct SublinkContext
{
	SxTermSearch *search;
	SxTermBlock *block;
} SublinkContext;

static bool
sublink_walker(Node *node, SublinkContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
	{
		SxTermBlock inner = {castNode(Query, ((SubLink *) node)->subselect), context->block};

		sx_search_terms(context->search, &inner, false);
		return sublink_walker(((SubLink *) node)->testexpr, context);
	}
	return expression_tree_walker(node, sublink_walker, context);
}

/* Column i of every branch of a set operation is one thing. */
static void
note_branches(SxTermSearch *search)
{
	SxNodeRef  *first = linitial(search->refs);
	ListCell   *column;

	foreach(column, first->rte->subquery->targetList)
	{
		AttrNumber	attno = lfirst_node(TargetEntry, column)->resno;
		SxTerm	   *term = NULL;
		ListCell   *lc;

		foreach(lc, search->refs)
		{
			SxNodeRef  *ref = lfirst(lc);
			SxTermBlock block = {ref->query, NULL};
			TargetEntry *tle = get_tle_by_resno(ref->rte->subquery->targetList, attno);
			SxTerm	   *other = sx_find_term(search, &block,
											 (Node *) makeVarFromTargetEntry(ref->varno, tle));

			if (term == NULL)
				term = other;
			else
				make_equal(search, term, other);
		}
	}
}

void
sx_search_terms(SxTermSearch *search, SxTermBlock *block, bool top)
{
	Query	   *query = block->query;
	SublinkContext context = {search, block};

	if (query->setOperations != NULL)
	{
		add_refs(search, block, query->setOperations, top, false);
		if (top)
			note_branches(search);
		return;
	}
	add_refs(search, block, (Node *) query->jointree, top, false);
	(void) sublink_walker((Node *) query->targetList, &context);
	(void) sublink_walker(query->havingQual, &context);
	(void) sublink_walker((Node *) query->jointree, &context);
	note_from(search, block, (Node *) query->jointree);
	note_conjuncts(search, block, query->jointree->quals);
}
