/*-------------------------------------------------------------------------
 *
 * group.c
 *		SxGroups made by the scan of a stream: the node.
 *
 * The node above the scan of a stream does by itself what HashAggregate would do with the
 * scan's rows: it takes record by record from the scan, asks the scan's filter, and hands the
 * record to the table of groups (group_rows.c).  No row goes from node to node.
 * group_plan.c says for which queries.
 *
 * SxGroups are given in the order of their first records.
 *
 * The memory is bounded as HashAggregate's is, by work_mem and hash_mem_multiplier.  When
 * there is no room for another group, the records of those that have none are remembered by
 * number, and make the groups of a next pass; records are in memory anyway.  A group belongs
 * to one pass, as it has a place either from its first record on or not at all.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/nodeHash.h"
#include "fdw/group.h"
#include "fdw/group_internal.h"
#include "fdw/ordinal.h"
#include "fdw/scan.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "compat.h"

/* ---------- begin ---------- */

static SxGroupValue
make_value(Expr *expr, PlanState *parent)
{
	SxGroupValue value = {.column = -1};

	if (IsA(expr, Var) && ((Var *) expr)->varattno > 0)
		value.column = ((Var *) expr)->varattno - 1;
	else
		value.expr = ExecInitExpr(expr, parent);
	return value;
}

static bool
has_equal_bits(Oid type)
{
	switch (type)
	{
		case BOOLOID:
		case CHAROID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case DATEOID:
		case TIMEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return true;
		default:
			return false;
	}
}

static void
init_key(SxGroupKey *key, const TargetEntry *entry, Oid operator, PlanState *parent)
{
	Oid			type = exprType((Node *) entry->expr);
	Oid			left;
	Oid			right;

	key->value = make_value(entry->expr, parent);
	key->position = entry->resno - 1;
	key->collation = exprCollation((Node *) entry->expr);
	get_typlenbyval(type, &key->typlen, &key->byval);
	key->bits = has_equal_bits(type);
	if (!get_op_hash_functions(operator, &left, &right))
		elog(ERROR, "no hash function for operator %u", operator);
	fmgr_info(get_opcode(operator), &key->equal);
	fmgr_info(left, &key->hash);
}

static SxGroupAggKind
kind_of(Oid transition)
{
	switch (transition)
	{
		case F_INT8INC:
			return SX_GROUP_COUNT_ALL;
		case F_INT8INC_ANY:
			return SX_GROUP_COUNT;
		case F_INT4_SUM:
			return SX_GROUP_SUM_INT4;
		case F_INT2_SUM:
			return SX_GROUP_SUM_INT2;
		default:
			return SX_GROUP_CALL;
	}
}

/* As the executor has it: who calls it must be allowed to. */
static void
check_rights(Oid aggregate)
{
	AclResult	result = sx_proc_aclcheck(aggregate, GetUserId());

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_AGGREGATE, get_func_name(aggregate));
}

static void
init_aggregate(SxGroupAgg *agg, const TargetEntry *entry, PlanState *parent)
{
	const Aggref *ref = castNode(Aggref, entry->expr);
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(ref->aggfnoid));
	Oid			transition;
	Datum		initial;
	Oid			input;
	Oid			ioparam;

	check_rights(ref->aggfnoid);
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", ref->aggfnoid);
	transition = ((Form_pg_aggregate) GETSTRUCT(tuple))->aggtransfn;
	initial = SysCacheGetAttr(AGGFNOID, tuple, Anum_pg_aggregate_agginitval, &agg->initial_null);
	if (!agg->initial_null)
	{
		getTypeInputInfo(ref->aggtranstype, &input, &ioparam);
		agg->initial = OidInputFunctionCall(input, TextDatumGetCString(initial), ioparam, -1);
	}
	ReleaseSysCache(tuple);

	agg->kind = kind_of(transition);
	agg->position = entry->resno - 1;
	agg->collation = ref->inputcollid;
	fmgr_info(transition, &agg->transition);
	if (ref->args != NIL)
		agg->value = make_value(linitial_node(TargetEntry, ref->args)->expr, parent);
	else if (agg->kind != SX_GROUP_COUNT_ALL)
		elog(ERROR, "aggregate %u has no argument", ref->aggfnoid);
	agg->filter = ExecInitExpr(ref->aggfilter, parent);
}

void
sx_group_begin(ForeignScanState *node)
{
	ForeignScan *plan = (ForeignScan *) node->ss.ps.plan;
	SxGroups   *groups = palloc0(sizeof(SxGroups));
	int			ncolumns = list_length(plan->fdw_scan_tlist);
	ListCell   *lc;

	groups->scan = castNode(ForeignScanState, outerPlanState(node));
	groups->keys = palloc0(sizeof(SxGroupKey) * ncolumns);
	groups->aggs = palloc0(sizeof(SxGroupAgg) * ncolumns);
	groups->key_values = palloc0(sizeof(Datum) * ncolumns);
	groups->key_nulls = palloc0(sizeof(bool) * ncolumns);
	foreach(lc, plan->fdw_scan_tlist)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);

		if (IsA(entry->expr, Aggref))
			init_aggregate(&groups->aggs[groups->naggs++], entry, &groups->scan->ss.ps);
		else
		{
			init_key(&groups->keys[groups->nkeys], entry,
					 list_nth_oid(plan->fdw_private, groups->nkeys), &groups->scan->ss.ps);
			groups->nkeys++;
		}
	}
	groups->group_size = MAXALIGN(ncolumns * (sizeof(Datum) + sizeof(bool)));
	groups->limit = get_hash_memory_limit();
	groups->context = AllocSetContextCreate(CurrentMemoryContext, "streamext groups",
											ALLOCSET_DEFAULT_SIZES);
	groups->later_context = AllocSetContextCreate(CurrentMemoryContext, "streamext later records",
												  ALLOCSET_SMALL_SIZES);
	node->fdw_state = groups;
}

void
sx_group_end(ForeignScanState *node)
{
	SxGroups   *groups = node->fdw_state;

	ExecClearTuple(groups->scan->ss.ss_ScanTupleSlot);
	MemoryContextDelete(groups->context);
	MemoryContextDelete(groups->later_context);
}

/* ---------- passes ---------- */

/* All records of the scan. */
static void
first_pass(SxGroups *groups)
{
	ForeignScanState *scan = groups->scan;
	ExprContext *econtext = scan->ss.ps.ps_ExprContext;
	ExprState  *filter = scan->ss.ps.qual;
	TupleTableSlot *slot = scan->ss.ss_ScanTupleSlot;
	MemoryContext old;

	if (scan->ss.ps.chgParam != NULL)
		ExecReScan(&scan->ss.ps);
	ExecClearTuple(slot);
	ExecStoreVirtualTuple(slot);	/* each record is laid into its values */
	slot->tts_tableOid = RelationGetRelid(scan->ss.ss_currentRelation);
	econtext->ecxt_scantuple = slot;
	old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
	ResetExprContext(econtext);
	while (sx_scan_next(scan->fdw_state, slot))
	{
		if (filter == NULL || ExecQual(filter, econtext))
			sx_groups_take(groups, econtext, slot);
		ResetExprContext(econtext);
	}
	ResetExprContext(econtext);
	MemoryContextSwitchTo(old);
}

/* Those that were left. */
static void
next_pass(SxGroups *groups)
{
	ForeignScanState *scan = groups->scan;
	ExprContext *econtext = scan->ss.ps.ps_ExprContext;
	TupleTableSlot *slot = scan->ss.ss_ScanTupleSlot;
	MemoryContext old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
	int			n = groups->nlater;

	groups->nlater = 0;			/* what is left again is laid over what was read */
	for (int i = 0; i < n; i++)
	{
		int			record = groups->later[i];

		CHECK_FOR_INTERRUPTS();
		sx_scan_again(scan->fdw_state, record, slot);
		sx_ordinal_to_tid(record, &slot->tts_tid);
		sx_groups_take(groups, econtext, slot);
		ResetExprContext(econtext);
	}
	MemoryContextSwitchTo(old);
}

static void
fill(SxGroups *groups)
{
	if (groups->filled && groups->nlater == 0)
		return;
	sx_groups_begin(groups);
	if (groups->filled)
		next_pass(groups);
	else
		first_pass(groups);
	groups->filled = true;
}

TupleTableSlot *
sx_group_next(ForeignScanState *node)
{
	SxGroups   *groups = node->fdw_state;
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;
	const Datum *group;
	const bool *nulls;

	ExecClearTuple(slot);
	if (!groups->filled || groups->given == groups->ngroups)
		fill(groups);
	if (groups->given == groups->ngroups)
		return slot;
	group = sx_group_at(groups, groups->given++);
	nulls = sx_group_nulls(groups, group);
	for (int k = 0; k < groups->nkeys; k++)
	{
		slot->tts_values[groups->keys[k].position] = group[k];
		slot->tts_isnull[groups->keys[k].position] = nulls[k];
	}
	for (int a = 0; a < groups->naggs; a++)
	{
		slot->tts_values[groups->aggs[a].position] = group[groups->nkeys + a];
		slot->tts_isnull[groups->aggs[a].position] = nulls[groups->nkeys + a];
	}
	return ExecStoreVirtualTuple(slot);
}

/* What is scanned is rescanned by the executor. */
void
sx_group_rescan(ForeignScanState *node)
{
	SxGroups   *groups = node->fdw_state;

	MemoryContextReset(groups->context);
	groups->filled = false;
	groups->ngroups = groups->given = 0;
	groups->nlater = 0;
}
