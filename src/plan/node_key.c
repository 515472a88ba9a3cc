/*-------------------------------------------------------------------------
 *
 * node_key.c
 *		By which key a query over nodes can be recomputed in parts.
 *
 * A key is a list of classes of expressions that are equal in every row of the result:
 * each class has an expression over every node that the query reads.  Then the rows of
 * the nodes that have one value of the key give the rows of the result that have it, and
 * nothing else does.  Equalities are conditions of the form a = b in WHERE and ON, at
 * the top or in a correlated subquery, and x IN (SELECT y …).
 *
 * What looks at several rows must not look beyond one value of the key: the key's
 * classes are among the GROUP BY expressions, those of every PARTITION BY and of
 * DISTINCT.  LIMIT looks at all rows, and so there is no key.
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
#include "parser/parse_agg.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "compat.h"
#include "plan/node.h"

/* An expression over one node. */
typedef struct Term
{
	SxNodeRef  *ref;
	Node	   *expr;			/* over the view as varno 1 */
	int			class;			/* terms of one class are equal */
} Term;

/* A query within the queries around it. */
typedef struct Block
{
	Query	   *query;
	struct Block *parent;
} Block;

typedef struct Search
{
	List	   *refs;
	List	   *terms;
	int			nclasses;
} Search;

static void search_block(Search *search, Block *block, bool top);

/* ---------- terms ---------- */

static Node *
strip_relabel(Node *node)
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
ref_at(const Search *search, Query *query, Index varno)
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

/* Values that are equal have one hash, whatever the collation. */
static bool
is_hashable(Node *expr)
{
	Oid			collation = exprCollation(expr);
	TypeCacheEntry *type = lookup_type_cache(exprType(expr), TYPECACHE_HASH_EXTENDED_PROC);

	return OidIsValid(type->hash_extended_proc) &&
		(!OidIsValid(collation) || get_collation_isdeterministic(collation));
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
static Term *
find_term(Search *search, Block *block, Node *expr)
{
	OneVar		one = {NULL, false};
	SxNodeRef  *ref;
	Term	   *term;
	ListCell   *lc;

	expr = strip_relabel(expr);
	(void) one_var_walker(expr, &one);
	if (one.var == NULL || one.several || !is_hashable(expr))
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
	term = palloc(sizeof(Term));
	term->ref = ref;
	term->expr = expr;
	term->class = search->nclasses++;
	search->terms = lappend(search->terms, term);
	return term;
}

static void
make_equal(Search *search, Term *a, Term *b)
{
	int			gone;
	ListCell   *lc;

	if (a == NULL || b == NULL || hash_family(a->expr) != hash_family(b->expr))
		return;
	gone = b->class;
	foreach(lc, search->terms)
	{
		Term	   *term = lfirst(lc);

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
note_condition(Search *search, Block *block, Node *node)
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
		make_equal(search, find_term(search, block, linitial(((OpExpr *) node)->args)),
				   find_term(search, block, lsecond(((OpExpr *) node)->args)));
}

static void
note_from(Search *search, Block *block, Node *node)
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
note_any(Search *search, Block *outer, SubLink *sublink, Node *test)
{
	Block		inner = {castNode(Query, sublink->subselect), outer};
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
	param = (Param *) strip_relabel(lsecond(op->args));
	if (!IsA(param, Param) || param->paramkind != PARAM_SUBLINK)
		return;
	tle = get_tle_by_resno(inner.query->targetList, param->paramid);
	if (tle != NULL && output_is_transparent(inner.query, tle))
		make_equal(search, find_term(search, outer, linitial(op->args)),
				   find_term(search, &inner, (Node *) tle->expr));
}

static void
note_conjuncts(Search *search, Block *block, Node *node)
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
add_ref(Search *search, Block *block, Index varno, bool top, bool nullable)
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
		Block		inner = {rte->subquery, block};

		search_block(search, &inner, false);
	}
}

static void
add_refs(Search *search, Block *block, Node *node, bool top, bool nullable)
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
	Search	   *search;
	Block	   *block;
} SublinkContext;

static bool
sublink_walker(Node *node, SublinkContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
	{
		Block		inner = {castNode(Query, ((SubLink *) node)->subselect), context->block};

		search_block(context->search, &inner, false);
		return sublink_walker(((SubLink *) node)->testexpr, context);
	}
	return expression_tree_walker(node, sublink_walker, context);
}

/* Column i of every branch of a set operation is one thing. */
static void
note_branches(Search *search)
{
	SxNodeRef  *first = linitial(search->refs);
	ListCell   *column;

	foreach(column, first->rte->subquery->targetList)
	{
		AttrNumber	attno = lfirst_node(TargetEntry, column)->resno;
		Term	   *term = NULL;
		ListCell   *lc;

		foreach(lc, search->refs)
		{
			SxNodeRef  *ref = lfirst(lc);
			Block		block = {ref->query, NULL};
			TargetEntry *tle = get_tle_by_resno(ref->rte->subquery->targetList, attno);
			Term	   *other = find_term(search, &block,
										  (Node *) makeVarFromTargetEntry(ref->varno, tle));

			if (term == NULL)
				term = other;
			else
				make_equal(search, term, other);
		}
	}
}

static void
search_block(Search *search, Block *block, bool top)
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

/* ---------- choosing the key ---------- */

/* Has the class an expression over every node? */
static bool
is_everywhere(const Search *search, int class)
{
	ListCell   *lc;

	foreach(lc, search->refs)
	{
		bool		found = false;
		ListCell   *t;

		foreach(t, search->terms)
		{
			Term	   *term = lfirst(t);

			found = found || (term->class == class && term->ref == lfirst(lc));
		}
		if (!found)
			return false;
	}
	return true;
}

/* The class that an expression of the topmost block is of; -1: none. */
static int
class_of(Search *search, Block *block, Node *expr)
{
	Term	   *term;

	expr = strip_relabel(expr);
	/* USING of a full join: one of the two sides is not NULL. */
	if (expr != NULL && IsA(expr, CoalesceExpr))
	{
		int			class = -1;
		ListCell   *lc;

		foreach(lc, ((CoalesceExpr *) expr)->args)
		{
			term = find_term(search, block, lfirst(lc));
			if (term == NULL || (class >= 0 && term->class != class))
				return -1;
			class = term->class;
		}
		return class;
	}
	term = find_term(search, block, expr);
	return term == NULL || term->ref->nullable ? -1 : term->class;
}

/* What looks at several rows: the classes of each such clause must hold the key. */
static bool
allowed_by(Search *search, Block *block, List *clauses, int class)
{
	ListCell   *lc;

	foreach(lc, clauses)
	{
		if (class_of(search, block,
					 get_sortgroupclause_expr(lfirst(lc), block->query->targetList)) == class)
			return true;
	}
	return false;
}

static bool
is_allowed(Search *search, Block *block, int class)
{
	Query	   *query = block->query;
	ListCell   *lc;

	if (query->setOperations != NULL)
		return true;
	if ((query->hasAggs || query->groupClause != NIL || query->havingQual != NULL) &&
		!allowed_by(search, block, query->groupClause, class))
		return false;
	if (query->distinctClause != NIL &&
		!allowed_by(search, block, query->distinctClause, class))
		return false;
	foreach(lc, query->hasWindowFuncs ? query->windowClause : NIL)
	{
		if (!allowed_by(search, block, lfirst_node(WindowClause, lc)->partitionClause, class))
			return false;
	}
	return true;
}

static void
add_to_key(Search *search, int class)
{
	ListCell   *lc;

	foreach(lc, search->refs)
	{
		SxNodeRef  *ref = lfirst(lc);
		ListCell   *t;

		foreach(t, search->terms)
		{
			Term	   *term = lfirst(t);

			if (term->class != class || term->ref != ref)
				continue;
			ref->key = lappend(ref->key, term->expr);
			break;
		}
	}
}

/* GROUPING SETS leave keys out in some of their sets: the key is what all of them have. */
static bool
in_all_grouping_sets(Query *query, Block *block, Search *search, int class)
{
	List	   *sets;
	ListCell   *lc;

	if (query->groupingSets == NIL)
		return true;
	sets = expand_grouping_sets(query->groupingSets, false, -1);
	foreach(lc, sets)
	{
		bool		found = false;
		ListCell   *l;

		foreach(l, (List *) lfirst(lc))
		{
			TargetEntry *tle = get_sortgroupref_tle(lfirst_int(l), query->targetList);

			found = found || class_of(search, block, (Node *) tle->expr) == class;
		}
		if (!found)
			return false;
	}
	return true;
}

static bool
looks_at_several_rows(const Query *query)
{
	return query->hasAggs || query->groupClause != NIL || query->havingQual != NULL ||
		query->distinctClause != NIL || query->hasWindowFuncs || query->setOperations != NULL;
}

/* Row by row over one node: any columns will do, best those that do not change. */
static void
note_columns(Search *search, Block *block)
{
	SxNodeRef  *ref = linitial(search->refs);
	List	   *columns = sx_view_key_columns(ref->view);
	ListCell   *lc;

	foreach(lc, ref->rte->subquery->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (columns == NIL || list_member_int(columns, tle->resno))
			(void) find_term(search, block, (Node *) makeVarFromTargetEntry(ref->varno, tle));
	}
}

List *
sx_node_refs(Query *query)
{
	Search		search = {NIL, NIL, 0};
	Block		block = {query, NULL};

	search_block(&search, &block, true);
	if (query->limitCount != NULL || query->limitOffset != NULL)
		return search.refs;
	if (list_length(search.refs) == 1 && !looks_at_several_rows(query))
		note_columns(&search, &block);

	/* What is grouped by is a class, though no condition may name it. */
	(void) is_allowed(&search, &block, -1);
	for (int class = 0; class < search.nclasses; class++)
	{
		if (is_everywhere(&search, class) && is_allowed(&search, &block, class) &&
			in_all_grouping_sets(query, &block, &search, class))
			add_to_key(&search, class);
	}
	return search.refs;
}
