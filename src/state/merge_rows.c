/*-------------------------------------------------------------------------
 *
 * merge_rows.c
 *		When rows of a batch can be merged into a state table by hand, and by what rule.
 *
 * The rule is taken from the view's own statement, INSERT … ON CONFLICT DO UPDATE SET …:
 * the server's parser makes expressions of what stands behind SET, over the stored row
 * and the one that was to be inserted, with every cast that the columns want.  They are
 * evaluated by the server's executor.  So there is one text that says how states are
 * merged, the one that streamext.explain() shows.
 *
 * The table is its owner's, who may add indexes, and a superuser may add anything.  What
 * the writing of rows (state_write.c) would not do justice to makes the batch take
 * the statement instead: looked at in every batch, under the lock that it has anyway.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "tcop/tcopprot.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "plan/plan_internal.h"
#include "state/changes.h"
#include "state/merge.h"

/* ---------- the rule ---------- */

/* Var of the stored row, or of the row that was to be inserted, as the executor has them. */
static Node *
to_slots(Node *node, void *context)
{
	const Query *query = context;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = copyObject(castNode(Var, node));

		Assert(var->varlevelsup == 0);
		var->varno = var->varno == query->resultRelation ? OUTER_VAR : INNER_VAR;
		return (Node *) var;
	}
	return expression_tree_mutator(node, to_slots, context);
}

static TargetEntry *
entry_for(const List *entries, AttrNumber attno)
{
	ListCell   *lc;

	foreach(lc, entries)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (tle->resno == attno)
			return copyObject(tle);
	}
	return NULL;
}

/* Every column of the merged row: what SET says of it, else as it is stored. */
static List *
merged_columns(Query *query, Oid relid, int ncolumns)
{
	List	   *set = (List *) to_slots((Node *) query->onConflict->onConflictSet, query);
	List	   *result = NIL;

	for (AttrNumber i = 1; i <= ncolumns; i++)
	{
		TargetEntry *tle = entry_for(set, i);
		Oid			type;
		int32		typmod;
		Oid			collation;

		if (tle == NULL)
		{
			get_atttypetypmodcoll(relid, i, &type, &typmod, &collation);
			tle = makeTargetEntry((Expr *) makeVar(OUTER_VAR, i, type, typmod, collation, 0), i,
								  NULL, false);
		}
		tle->resjunk = false;
		result = lappend(result, tle);
	}
	return result;
}

/* Does the statement give values, as they come, to the first columns in their order? */
static bool
gives_first_columns(const Query *query)
{
	AttrNumber	attno = 0;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (tle->resno != ++attno || !IsA(tle->expr, Var))
			return false;
	}
	return true;
}

/* … and are the first of these what tells of a conflict? */
static bool
keys_come_first(const OnConflictExpr *conflict)
{
	AttrNumber	attno = 0;
	ListCell   *lc;

	foreach(lc, conflict->arbiterElems)
	{
		InferenceElem *element = lfirst_node(InferenceElem, lc);

		if (!IsA(element->expr, Var) || ((Var *) element->expr)->varattno != ++attno)
			return false;
	}
	return conflict->arbiterWhere == NULL && conflict->onConflictWhere == NULL;
}

static int
columns_of(Oid relid)
{
	Relation	rel = table_open(relid, NoLock);
	int			n = RelationGetDescr(rel)->natts;

	table_close(rel, NoLock);
	return n;
}

SxMergeRule *
sx_merge_rule(const char *statement, MemoryContext context)
{
	RawStmt    *raw = linitial_node(RawStmt, pg_parse_query(statement));
	Query	   *query = parse_analyze_fixedparams(raw, statement, NULL, 0, NULL);
	SxMergeRule rule = {0};
	Oid			relid;
	MemoryContext old;
	SxMergeRule *result;

	if (query->commandType != CMD_INSERT || query->onConflict == NULL || query->hasSubLinks ||
		!gives_first_columns(query) || !keys_come_first(query->onConflict))
		return NULL;
	relid = rt_fetch(query->resultRelation, query->rtable)->relid;
	rule.ngiven = list_length(query->targetList);
	rule.nkeys = list_length(query->onConflict->arbiterElems);
	rule.ncolumns = columns_of(relid);
	rule.touched = rule.ncolumns == rule.ngiven + 1 &&
		strcmp(get_attname(relid, rule.ncolumns, false), SX_TOUCHED_COLUMN) == 0;
	if (rule.ncolumns != rule.ngiven + (rule.touched ? 1 : 0))
		return NULL;
	if (query->onConflict->action == ONCONFLICT_UPDATE)
		rule.set = merged_columns(query, relid, rule.ncolumns);

	old = MemoryContextSwitchTo(context);
	result = palloc(sizeof(SxMergeRule));
	*result = rule;
	result->set = copyObject(rule.set);
	MemoryContextSwitchTo(old);
	return result;
}

ProjectionInfo *
sx_merge_projection(const SxMergeRule *rule, ExprContext *econtext, TupleTableSlot *merged)
{
	List	   *set = (List *) expression_planner((Expr *) copyObject(rule->set));

	return ExecBuildProjectionInfo(set, econtext, merged, NULL, NULL);
}

/* ---------- the table ---------- */

/* Nothing that a statement would do and we do not. */
static bool
is_plain(Relation rel, const SxMergeRule *rule)
{
	const TupleConstr *constr = RelationGetDescr(rel)->constr;

	if (RelationGetDescr(rel)->natts != rule->ncolumns || rel->rd_rules != NULL ||
		rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relispartition ||
		rel->rd_rel->relhassubclass || rel->rd_rel->relforcerowsecurity ||
		!sx_changes_triggers_only(rel))
		return false;
	if (constr != NULL && (constr->num_check > 0 || constr->has_generated_stored ||
						   constr->num_defval > (rule->touched ? 1 : 0) ||
						   (constr->has_not_null && !rule->touched)))
		return false;
	for (int i = 0; i < rule->ncolumns; i++)
	{
		if (TupleDescAttr(RelationGetDescr(rel), i)->attisdropped)
			return false;
	}
	return true;
}

static SxKeys *
keys_of(TupleDesc desc, int nkeys)
{
	Oid		   *types = palloc(sizeof(Oid) * nkeys);
	Oid		   *collations = palloc(sizeof(Oid) * nkeys);

	for (int i = 0; i < nkeys; i++)
	{
		types[i] = TupleDescAttr(desc, i)->atttypid;
		collations[i] = TupleDescAttr(desc, i)->attcollation;
	}
	return sx_keys_create_of(nkeys, types, collations);
}

SxStateTable *
sx_merge_open(const SxStep *step, const SxMergeRule *rule, SxKeys **keys)
{
	SxStateTable *table;

	if (IsolationIsSerializable())
		return NULL;
	table = sx_state_try_open(step->plan->state, rule->nkeys);
	if (table == NULL)
		return NULL;
	*keys = is_plain(table->rel, rule) ? keys_of(table->desc, rule->nkeys) : NULL;
	if (*keys != NULL)
		return table;
	sx_state_close(table);
	return NULL;
}
