/*-------------------------------------------------------------------------
 *
 * node_key.c
 *		By which key a query over nodes can be recomputed in parts.
 *
 * A key is a list of classes of expressions that are equal in every row of the result
 * (node_terms.c): each class has an expression over every node that the query reads.  Then
 * the rows of the nodes that have one value of the key give the rows of the result that
 * have it, and nothing else does.
 *
 * What looks at several rows must not look beyond one value of the key: the key's
 * classes are among the GROUP BY expressions, those of every PARTITION BY and of
 * DISTINCT.  LIMIT looks at all rows, and so there is no key.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_agg.h"
#include "parser/parsetree.h"

#include "plan/node_terms.h"

/* Has the class an expression over every node? */
static bool
is_everywhere(const SxTermSearch *search, int class)
{
	ListCell   *lc;

	foreach(lc, search->refs)
	{
		bool		found = false;
		ListCell   *t;

		foreach(t, search->terms)
		{
			SxTerm	   *term = lfirst(t);

			found = found || (term->class == class && term->ref == lfirst(lc));
		}
		if (!found)
			return false;
	}
	return true;
}

/* The class that an expression of the topmost block is of; -1: none. */
static int
class_of(SxTermSearch *search, SxTermBlock *block, Node *expr)
{
	SxTerm	   *term;

	expr = sx_strip_relabel(expr);
	/* USING of a full join: one of the two sides is not NULL. */
	if (expr != NULL && IsA(expr, CoalesceExpr))
	{
		int			class = -1;
		ListCell   *lc;

		foreach(lc, ((CoalesceExpr *) expr)->args)
		{
			term = sx_find_term(search, block, lfirst(lc));
			if (term == NULL || (class >= 0 && term->class != class))
				return -1;
			class = term->class;
		}
		return class;
	}
	term = sx_find_term(search, block, expr);
	return term == NULL || term->ref->nullable ? -1 : term->class;
}

/* What looks at several rows: the classes of each such clause must hold the key. */
static bool
allowed_by(SxTermSearch *search, SxTermBlock *block, List *clauses, int class)
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
is_allowed(SxTermSearch *search, SxTermBlock *block, int class)
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
add_to_key(SxTermSearch *search, int class)
{
	ListCell   *lc;

	foreach(lc, search->refs)
	{
		SxNodeRef  *ref = lfirst(lc);
		ListCell   *t;

		foreach(t, search->terms)
		{
			SxTerm	   *term = lfirst(t);

			if (term->class != class || term->ref != ref)
				continue;
			ref->key = lappend(ref->key, term->expr);
			break;
		}
	}
}

/* GROUPING SETS leave keys out in some of their sets: the key is what all of them have. */
static bool
in_all_grouping_sets(Query *query, SxTermBlock *block, SxTermSearch *search, int class)
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
note_columns(SxTermSearch *search, SxTermBlock *block)
{
	SxNodeRef  *ref = linitial(search->refs);
	List	   *columns = sx_view_key_columns(ref->view);
	ListCell   *lc;

	foreach(lc, ref->rte->subquery->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (columns == NIL || list_member_int(columns, tle->resno))
			(void) sx_find_term(search, block, (Node *) makeVarFromTargetEntry(ref->varno, tle));
	}
}

List *
sx_node_refs(Query *query)
{
	SxTermSearch search = {NIL, NIL, 0};
	SxTermBlock block = {query, NULL};

	sx_search_terms(&search, &block, true);
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
