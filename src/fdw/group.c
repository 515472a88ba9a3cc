/*-------------------------------------------------------------------------
 *
 * group.c
 *		Groups made by the scan of a stream.
 *
 * The node above the scan of a stream does by itself what HashAggregate would do with the
 * scan's rows: it takes record by record from the scan, asks the scan's filter, computes the
 * keys, finds the group and advances its aggregates.  Nothing is copied but the keys of a
 * group, and no row goes from node to node.  group_plan.c says for which queries.
 *
 * Groups are given in the order of their first records.
 *
 * The memory is bounded as HashAggregate's is, by work_mem and hash_mem_multiplier.  When
 * there is no room for another group, the records of those that have none are remembered by
 * number, and make the groups of a next pass; records are in memory anyway.  A group belongs
 * to one pass, as it has a place either from its first record on or not at all.
 *
 * Keys whose equal values have equal bits are compared and hashed as such, all others by the
 * functions of their type.  Four transition functions, those of count and of sums of small
 * integers, are done here; others are called.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "executor/nodeHash.h"
#include "fdw/group.h"
#include "fdw/ordinal.h"
#include "fdw/scan.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "compat.h"

#define FIRST_BUCKETS	1024	/* a power of two */
#define CHUNK_GROUPS	256		/* of groups, a power of two */
#define NONE			PG_UINT32_MAX

/* A column of the record, or what is computed of it. */
typedef struct Value
{
	int			column;			/* attno - 1; -1: expr */
	ExprState  *expr;
} Value;

typedef struct Key
{
	Value		value;
	bool		bits;			/* equal values have equal bits */
	bool		byval;
	int16		typlen;
	Oid			collation;
	FmgrInfo	equal;
	FmgrInfo	hash;
	int			position;		/* in the row that is given */
} Key;

typedef enum AggKind
{
	AGG_COUNT_ALL,
	AGG_COUNT,
	AGG_SUM_INT4,
	AGG_SUM_INT2,
	AGG_CALL					/* a strict function */
} AggKind;

typedef struct Aggregate
{
	AggKind		kind;
	Value		value;			/* not of AGG_COUNT_ALL */
	ExprState  *filter;
	FmgrInfo	transition;
	Oid			collation;
	Datum		initial;
	bool		initial_null;
	int			position;
} Aggregate;

typedef struct Bucket
{
	uint32		hash;
	uint32		group;			/* NONE: free */
} Bucket;

/* Is followed by: Datum keys and states, bool nulls of both. */
typedef struct GroupRow
{
	uint32		hash;
} GroupRow;

typedef struct Groups
{
	ForeignScanState *scan;		/* what is scanned */
	Key		   *keys;
	int			nkeys;
	Aggregate  *aggs;
	int			naggs;
	Size		group_size;
	Datum	   *key_values;		/* of the record at hand */
	bool	   *key_nulls;

	MemoryContext context;		/* of the groups of a pass */
	bool		filled;			/* there are some, or none is left */
	Bucket	   *buckets;
	uint32		mask;
	char	  **chunks;
	int			nchunks;
	uint32		ngroups;
	uint32		given;
	Size		limit;
	bool		full;			/* no group is added any more */

	MemoryContext later_context;
	int		   *later;			/* records for the next pass, in their order */
	int			nlater;
	int			later_room;
} Groups;

/* ---------- the parts of a group ---------- */

static inline GroupRow *
group_at(const Groups *groups, uint32 i)
{
	return (GroupRow *) (groups->chunks[i / CHUNK_GROUPS] +
					  (i % CHUNK_GROUPS) * groups->group_size);
}

static inline Datum *
group_values(const GroupRow *group)
{
	return (Datum *) ((char *) group + MAXALIGN(sizeof(GroupRow)));
}

static inline bool *
group_nulls(const Groups *groups, const GroupRow *group)
{
	return (bool *) (group_values(group) + groups->nkeys + groups->naggs);
}

/* ---------- begin ---------- */

static Value
make_value(Expr *expr, PlanState *parent)
{
	Value		value = {.column = -1};

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
init_key(Key *key, const TargetEntry *entry, Oid operator, PlanState *parent)
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

static AggKind
kind_of(Oid transition)
{
	switch (transition)
	{
		case F_INT8INC:
			return AGG_COUNT_ALL;
		case F_INT8INC_ANY:
			return AGG_COUNT;
		case F_INT4_SUM:
			return AGG_SUM_INT4;
		case F_INT2_SUM:
			return AGG_SUM_INT2;
		default:
			return AGG_CALL;
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
init_aggregate(Aggregate *agg, const TargetEntry *entry, PlanState *parent)
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
	else if (agg->kind != AGG_COUNT_ALL)
		elog(ERROR, "aggregate %u has no argument", ref->aggfnoid);
	agg->filter = ExecInitExpr(ref->aggfilter, parent);
}

void
sx_group_begin(ForeignScanState *node)
{
	ForeignScan *plan = (ForeignScan *) node->ss.ps.plan;
	Groups	   *groups = palloc0(sizeof(Groups));
	int			ncolumns = list_length(plan->fdw_scan_tlist);
	ListCell   *lc;

	groups->scan = castNode(ForeignScanState, outerPlanState(node));
	groups->keys = palloc0(sizeof(Key) * ncolumns);
	groups->aggs = palloc0(sizeof(Aggregate) * ncolumns);
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
	groups->group_size = MAXALIGN(MAXALIGN(sizeof(GroupRow)) +
								  ncolumns * (sizeof(Datum) + sizeof(bool)));
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
	Groups	   *groups = node->fdw_state;

	ExecClearTuple(groups->scan->ss.ss_ScanTupleSlot);
	MemoryContextDelete(groups->context);
	MemoryContextDelete(groups->later_context);
}

/* ---------- the table ---------- */

static void
make_buckets(Groups *groups, uint32 n)
{
	groups->buckets = MemoryContextAllocHuge(groups->context, sizeof(Bucket) * n);
	for (uint32 i = 0; i < n; i++)
		groups->buckets[i].group = NONE;
	groups->mask = n - 1;
}

static void
begin_pass(Groups *groups)
{
	MemoryContextReset(groups->context);
	make_buckets(groups, FIRST_BUCKETS);
	groups->chunks = NULL;
	groups->nchunks = 0;
	groups->ngroups = groups->given = 0;
	groups->full = false;
}

static void
double_buckets(Groups *groups)
{
	Bucket	   *old = groups->buckets;
	uint32		n = groups->mask + 1;

	make_buckets(groups, n * 2);
	for (uint32 i = 0; i < n; i++)
	{
		uint32		b = old[i].hash & groups->mask;

		if (old[i].group == NONE)
			continue;
		while (groups->buckets[b].group != NONE)
			b = (b + 1) & groups->mask;
		groups->buckets[b] = old[i];
	}
	pfree(old);
}

static bool
has_room(Groups *groups)
{
	if (!groups->full && groups->ngroups > 0)
		groups->full = MemoryContextMemAllocated(groups->context, false) > groups->limit;
	return !groups->full;
}

static GroupRow *
add_group(Groups *groups, uint32 hash)
{
	MemoryContext old = MemoryContextSwitchTo(groups->context);
	uint32		i = groups->ngroups++;
	GroupRow	   *group;
	Datum	   *values;
	bool	   *nulls;

	if (i % CHUNK_GROUPS == 0)
	{
		groups->chunks = groups->chunks == NULL ? palloc(sizeof(char *)) :
			repalloc_huge(groups->chunks, sizeof(char *) * (groups->nchunks + 1));
		groups->chunks[groups->nchunks++] = palloc(groups->group_size * CHUNK_GROUPS);
	}
	group = group_at(groups, i);
	group->hash = hash;
	values = group_values(group);
	nulls = group_nulls(groups, group);
	for (int k = 0; k < groups->nkeys; k++)
	{
		const Key  *key = &groups->keys[k];

		nulls[k] = groups->key_nulls[k];
		values[k] = nulls[k] ? (Datum) 0 :
			datumCopy(groups->key_values[k], key->byval, key->typlen);
	}
	for (int a = 0; a < groups->naggs; a++)
	{
		values[groups->nkeys + a] = groups->aggs[a].initial;
		nulls[groups->nkeys + a] = groups->aggs[a].initial_null;
	}
	MemoryContextSwitchTo(old);
	return group;
}

/* ---------- a record ---------- */

static inline Datum
evaluate(const Value *value, ExprContext *econtext, const TupleTableSlot *slot, bool *isnull)
{
	if (value->column < 0)
		return ExecEvalExpr(value->expr, econtext, isnull);
	*isnull = slot->tts_isnull[value->column];
	return slot->tts_values[value->column];
}

static uint32
compute_keys(Groups *groups, ExprContext *econtext, const TupleTableSlot *slot)
{
	uint32		hash = 0;

	for (int k = 0; k < groups->nkeys; k++)
	{
		Key		   *key = &groups->keys[k];
		Datum		value = evaluate(&key->value, econtext, slot, &groups->key_nulls[k]);

		groups->key_values[k] = value;
		hash = pg_rotate_left32(hash, 1);
		if (groups->key_nulls[k])
			continue;
		if (key->bits)
			hash ^= murmurhash32((uint32) value ^ murmurhash32((uint32) (value >> 32)));
		else
			hash ^= murmurhash32(DatumGetUInt32(FunctionCall1Coll(&key->hash, key->collation, value)));
	}
	return hash;
}

static bool
has_keys(Groups *groups, const GroupRow *group)
{
	const Datum *values = group_values(group);
	const bool *nulls = group_nulls(groups, group);

	for (int k = 0; k < groups->nkeys; k++)
	{
		Key		   *key = &groups->keys[k];

		if (nulls[k] != groups->key_nulls[k])
			return false;
		if (nulls[k])
			continue;
		if (key->bits ? values[k] != groups->key_values[k] :
			!DatumGetBool(FunctionCall2Coll(&key->equal, key->collation, values[k],
											groups->key_values[k])))
			return false;
	}
	return true;
}

/* The group of the keys at hand, added when it is new; NULL: there is no room for it. */
static GroupRow *
find_group(Groups *groups, uint32 hash)
{
	uint32		b = hash & groups->mask;

	for (; groups->buckets[b].group != NONE; b = (b + 1) & groups->mask)
	{
		if (groups->buckets[b].hash == hash)
		{
			GroupRow	   *group = group_at(groups, groups->buckets[b].group);

			if (has_keys(groups, group))
				return group;
		}
	}
	if (!has_room(groups))
		return NULL;
	groups->buckets[b].hash = hash;
	groups->buckets[b].group = groups->ngroups;
	if (groups->ngroups > groups->mask / 2)
		double_buckets(groups);
	return add_group(groups, hash);
}

static void
call_transition(Aggregate *agg, Datum *state, bool *null, Datum value)
{
	LOCAL_FCINFO(fcinfo, 2);

	if (*null)
	{
		*state = value;
		*null = false;
		return;
	}
	InitFunctionCallInfoData(*fcinfo, &agg->transition, 2, agg->collation, NULL, NULL);
	fcinfo->args[0].value = *state;
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = value;
	fcinfo->args[1].isnull = false;
	*state = FunctionCallInvoke(fcinfo);
	*null = fcinfo->isnull;
}

static void
advance(Groups *groups, GroupRow *group, ExprContext *econtext, const TupleTableSlot *slot)
{
	Datum	   *states = group_values(group) + groups->nkeys;
	bool	   *nulls = group_nulls(groups, group) + groups->nkeys;

	for (int a = 0; a < groups->naggs; a++)
	{
		Aggregate  *agg = &groups->aggs[a];
		Datum		value;
		bool		isnull;

		if (agg->filter != NULL)
		{
			value = ExecEvalExpr(agg->filter, econtext, &isnull);
			if (isnull || !DatumGetBool(value))
				continue;
		}
		if (agg->kind == AGG_COUNT_ALL)
		{
			states[a] = Int64GetDatum(DatumGetInt64(states[a]) + 1);
			continue;
		}
		value = evaluate(&agg->value, econtext, slot, &isnull);
		if (isnull)
			continue;
		switch (agg->kind)
		{
			case AGG_COUNT:
				states[a] = Int64GetDatum(DatumGetInt64(states[a]) + 1);
				break;
			case AGG_SUM_INT4:
				states[a] = Int64GetDatum((nulls[a] ? 0 : DatumGetInt64(states[a])) + DatumGetInt32(value));
				nulls[a] = false;
				break;
			case AGG_SUM_INT2:
				states[a] = Int64GetDatum((nulls[a] ? 0 : DatumGetInt64(states[a])) + DatumGetInt16(value));
				nulls[a] = false;
				break;
			default:
				call_transition(agg, &states[a], &nulls[a], value);
		}
	}
}

static void
leave_for_later(Groups *groups, int record)
{
	if (groups->nlater == groups->later_room)
	{
		groups->later_room = Max(groups->later_room * 2, 1024);
		groups->later = groups->later == NULL ?
			MemoryContextAlloc(groups->later_context, sizeof(int) * groups->later_room) :
			repalloc_huge(groups->later, sizeof(int) * groups->later_room);
	}
	groups->later[groups->nlater++] = record;
}

/* The record in slot, which has passed the filter. */
static inline void
take_record(Groups *groups, ExprContext *econtext, TupleTableSlot *slot)
{
	uint32		hash = compute_keys(groups, econtext, slot);
	GroupRow	   *group = find_group(groups, hash);

	if (group != NULL)
		advance(groups, group, econtext, slot);
	else
		leave_for_later(groups, sx_tid_to_ordinal(&slot->tts_tid));
}

/* ---------- passes ---------- */

/* All records of the scan. */
static void
first_pass(Groups *groups)
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
			take_record(groups, econtext, slot);
		ResetExprContext(econtext);
	}
	ResetExprContext(econtext);
	MemoryContextSwitchTo(old);
}

/* Those that were left. */
static void
next_pass(Groups *groups)
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
		take_record(groups, econtext, slot);
		ResetExprContext(econtext);
	}
	MemoryContextSwitchTo(old);
}

static void
fill(Groups *groups)
{
	if (groups->filled && groups->nlater == 0)
		return;
	begin_pass(groups);
	if (groups->filled)
		next_pass(groups);
	else
		first_pass(groups);
	groups->filled = true;
}

TupleTableSlot *
sx_group_next(ForeignScanState *node)
{
	Groups	   *groups = node->fdw_state;
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;
	const GroupRow *group;
	const Datum *values;
	const bool *nulls;

	ExecClearTuple(slot);
	if (!groups->filled || groups->given == groups->ngroups)
		fill(groups);
	if (groups->given == groups->ngroups)
		return slot;
	group = group_at(groups, groups->given++);
	values = group_values(group);
	nulls = group_nulls(groups, group);
	for (int k = 0; k < groups->nkeys; k++)
	{
		slot->tts_values[groups->keys[k].position] = values[k];
		slot->tts_isnull[groups->keys[k].position] = nulls[k];
	}
	for (int a = 0; a < groups->naggs; a++)
	{
		slot->tts_values[groups->aggs[a].position] = values[groups->nkeys + a];
		slot->tts_isnull[groups->aggs[a].position] = nulls[groups->nkeys + a];
	}
	return ExecStoreVirtualTuple(slot);
}

/* What is scanned is rescanned by the executor. */
void
sx_group_rescan(ForeignScanState *node)
{
	Groups	   *groups = node->fdw_state;

	MemoryContextReset(groups->context);
	groups->filled = false;
	groups->ngroups = groups->given = 0;
	groups->nlater = 0;
}
