/*-------------------------------------------------------------------------
 *
 * group_plan.c
 *		When the scan of a stream makes the groups itself.
 *
 * A query like SELECT f(x), count(*), sum(y) FROM stream WHERE … GROUP BY 1 in a batch of
 * many records spends most of its time on handing each row from node to node.  Its plan is
 *
 *		Foreign Scan			makes the groups (group.c)
 *		  Foreign Scan on s		what it scans: its filter and columns are used, it hands
 *								out no row
 *
 * in place of HashAggregate on a Foreign Scan, where all of this holds:
 *
 *		a batch of more than a few records is being planned for, and s is its source;
 *		GROUP BY has plain keys that can be hashed, and there is no HAVING;
 *		the aggregates are built-in ones whose states are plain values and become the
 *			result as they are: count, sum of integers and floats, min, max, bool_and …
 *
 * Everything else is the server's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "fdw/group.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/planmain.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "worker/plan_size.h"

#include "compat.h"

#define FEW_ROWS	100			/* a plan for a small batch */
#define LESS_COST	0.5			/* than that of any other plan */

/* Looks at system columns or the whole row? */
static bool
has_odd_column(Node *node)
{
	List	   *vars = pull_var_clause(node, PVC_INCLUDE_AGGREGATES | PVC_INCLUDE_PLACEHOLDERS);
	ListCell   *lc;

	foreach(lc, vars)
	{
		if (!IsA(lfirst(lc), Var) || lfirst_node(Var, lc)->varattno <= 0)
			return true;
	}
	return false;
}

/* Can it be evaluated on the record, as often as that is looked at? */
static bool
is_plain(Node *node)
{
	return !contain_volatile_functions(node) && !contain_subplans(node) && !has_odd_column(node);
}

static bool
is_plain_transition(Oid function, Oid type)
{
	switch (function)
	{
		case F_INT8INC:
		case F_INT8INC_ANY:
		case F_INT4_SUM:
		case F_INT2_SUM:
			return true;
		default:
			return function < FirstGenbkiObjectId && type != INTERNALOID &&
				get_typbyval(type) && func_strict(function);
	}
}

static bool
is_plain_aggregate(const Aggref *agg)
{
	HeapTuple	tuple;
	Form_pg_aggregate form;
	bool		plain;

	if (agg->aggkind != AGGKIND_NORMAL || agg->aggdistinct != NIL || agg->aggorder != NIL ||
		agg->aggvariadic || agg->aggsplit != AGGSPLIT_SIMPLE || agg->agglevelsup > 0 ||
		agg->aggdirectargs != NIL || list_length(agg->args) > 1 ||
		!is_plain((Node *) agg->args) || !is_plain((Node *) agg->aggfilter))
		return false;
	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(agg->aggfnoid));
	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	plain = !OidIsValid(form->aggfinalfn) && agg->aggtranstype == agg->aggtype &&
		(agg->args == NIL) == (form->aggtransfn == F_INT8INC) &&
		is_plain_transition(form->aggtransfn, agg->aggtranstype);
	ReleaseSysCache(tuple);
	return plain;
}

/* The keys of GROUP BY; false: there is one that cannot be taken. */
static bool
add_keys(PlannerInfo *root, List **tlist, List **operators)
{
	ListCell   *lc;

	foreach(lc, root->parse->groupClause)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, lc);
		TargetEntry *entry = get_sortgroupclause_tle(clause, root->processed_tlist);

		if (!clause->hashable || !is_plain((Node *) entry->expr) ||
			contain_agg_clause((Node *) entry->expr))
			return false;
		if (tlist_member(entry->expr, *tlist) != NULL)
			continue;
		*tlist = lappend(*tlist, makeTargetEntry(copyObject(entry->expr),
												 list_length(*tlist) + 1, NULL, false));
		*operators = lappend_oid(*operators, clause->eqop);
	}
	return *tlist != NIL;
}

/* What the query makes of keys and aggregates is for the node's projection. */
static bool
add_aggregates(const PathTarget *target, List **tlist)
{
	ListCell   *lc;

	foreach(lc, target->exprs)
	{
		List	   *parts;
		ListCell   *part;

		if (tlist_member(lfirst(lc), *tlist) != NULL)
			continue;
		if (contain_volatile_functions(lfirst(lc)) || contain_subplans(lfirst(lc)))
			return false;
		parts = pull_var_clause(lfirst(lc), PVC_INCLUDE_AGGREGATES | PVC_INCLUDE_PLACEHOLDERS);
		foreach(part, parts)
		{
			Expr	   *expr = lfirst(part);

			if (tlist_member(expr, *tlist) != NULL)
				continue;
			if (!IsA(expr, Aggref) || !is_plain_aggregate((Aggref *) expr))
				return false;
			*tlist = lappend(*tlist, makeTargetEntry(copyObject(expr), list_length(*tlist) + 1,
													 NULL, false));
		}
	}
	return true;
}

static bool
is_source_in_batch(PlannerInfo *root, const RelOptInfo *rel)
{
	const RangeTblEntry *rte;

	if (sx_current == NULL || sx_expected_rows() <= FEW_ROWS ||
		rel->reloptkind != RELOPT_BASEREL || rel->rtekind != RTE_RELATION ||
		!bms_is_empty(rel->lateral_relids) || root->hasPseudoConstantQuals)
		return false;
	rte = planner_rt_fetch(rel->relid, root);
	for (int i = 0; i < sx_current->ninputs; i++)
	{
		if (sx_current->inputs[i].source->stream->relid == rte->relid)
			return true;
	}
	return false;
}

void
sx_group_paths(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input_rel,
			   RelOptInfo *output_rel, void *extra)
{
	const Query *parse = root->parse;
	List	   *tlist = NIL;
	List	   *operators = NIL;
	Path	   *scan;
	const Path *other;

	if (stage != UPPERREL_GROUP_AGG || parse->groupClause == NIL || parse->groupingSets != NIL ||
		parse->havingQual != NULL || root->hasHavingQual || parse->hasTargetSRFs ||
		output_rel->pathlist == NIL || !is_source_in_batch(root, input_rel) ||
		!add_keys(root, &tlist, &operators) ||
		!add_aggregates(output_rel->reltarget, &tlist))
		return;

	other = linitial(output_rel->pathlist);
	scan = (Path *) sx_create_foreignscan_path(root, input_rel, input_rel->rows,
											   input_rel->cheapest_total_path->startup_cost,
											   input_rel->cheapest_total_path->total_cost, NULL);
	add_path(output_rel, (Path *)
			 sx_create_foreign_upper_path(root, output_rel, output_rel->reltarget, other->rows,
										  other->startup_cost * LESS_COST,
										  other->total_cost * LESS_COST, scan,
										  list_make2(tlist, operators)));
}

ForeignScan *
sx_group_plan(ForeignPath *path, List *tlist, Plan *outer_plan)
{
	return make_foreignscan(tlist, NIL, 0, NIL, lsecond(path->fdw_private),
							linitial(path->fdw_private), NIL, outer_plan);
}
