/*-------------------------------------------------------------------------
 *
 * group_rows.c
 *		SxGroups made by the scan of a stream: the table of groups.
 *
 * SxGroups lie in chunks in the order in which they came; buckets with their numbers find them
 * by the hash of their keys.  Nothing is copied of a record but the keys of a new group.
 *
 * Keys whose equal values have equal bits are compared and hashed as such, all others by the
 * functions of their type.  Four transition functions, those of count and of sums of small
 * integers, are done here; others are called.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "executor/executor.h"
#include "fdw/group_internal.h"
#include "fdw/ordinal.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#define FIRST_BUCKETS	1024	/* a power of two */
#define FIRST_LATER		1024	/* records */
#define NONE			PG_UINT32_MAX

/* ---------- the table ---------- */

static void
make_buckets(SxGroups *groups, uint32 n)
{
	groups->buckets = MemoryContextAllocHuge(groups->context, sizeof(SxGroupBucket) * n);
	for (uint32 i = 0; i < n; i++)
		groups->buckets[i].group = NONE;
	groups->mask = n - 1;
}

void
sx_groups_begin(SxGroups *groups)
{
	MemoryContextReset(groups->context);
	make_buckets(groups, FIRST_BUCKETS);
	groups->chunks = NULL;
	groups->nchunks = 0;
	groups->ngroups = groups->given = 0;
	groups->full = false;
}

static void
double_buckets(SxGroups *groups)
{
	SxGroupBucket *old = groups->buckets;
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
has_room(SxGroups *groups)
{
	if (!groups->full && groups->ngroups > 0)
		groups->full = MemoryContextMemAllocated(groups->context, false) > groups->limit;
	return !groups->full;
}

static Datum *
add_group(SxGroups *groups)
{
	MemoryContext old = MemoryContextSwitchTo(groups->context);
	uint32		i = groups->ngroups++;
	Datum	   *group;
	bool	   *nulls;

	if (i % SX_GROUP_CHUNK == 0)
	{
		groups->chunks = groups->chunks == NULL ? palloc(sizeof(char *)) :
			repalloc_huge(groups->chunks, sizeof(char *) * (groups->nchunks + 1));
		groups->chunks[groups->nchunks++] = palloc(groups->group_size * SX_GROUP_CHUNK);
	}
	group = sx_group_at(groups, i);
	nulls = sx_group_nulls(groups, group);
	for (int k = 0; k < groups->nkeys; k++)
	{
		const SxGroupKey *key = &groups->keys[k];

		nulls[k] = groups->key_nulls[k];
		group[k] = nulls[k] ? (Datum) 0 :
			datumCopy(groups->key_values[k], key->byval, key->typlen);
	}
	for (int a = 0; a < groups->naggs; a++)
	{
		group[groups->nkeys + a] = groups->aggs[a].initial;
		nulls[groups->nkeys + a] = groups->aggs[a].initial_null;
	}
	MemoryContextSwitchTo(old);
	return group;
}

/* ---------- a record ---------- */

static inline Datum
evaluate(const SxGroupValue *value, ExprContext *econtext, const TupleTableSlot *slot, bool *isnull)
{
	if (value->column < 0)
		return ExecEvalExpr(value->expr, econtext, isnull);
	*isnull = slot->tts_isnull[value->column];
	return slot->tts_values[value->column];
}

static uint32
compute_keys(SxGroups *groups, ExprContext *econtext, const TupleTableSlot *slot)
{
	uint32		hash = 0;

	for (int k = 0; k < groups->nkeys; k++)
	{
		SxGroupKey *key = &groups->keys[k];
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
has_keys(SxGroups *groups, const Datum *group)
{
	const bool *nulls = sx_group_nulls(groups, group);

	for (int k = 0; k < groups->nkeys; k++)
	{
		SxGroupKey *key = &groups->keys[k];

		if (nulls[k] != groups->key_nulls[k])
			return false;
		if (nulls[k])
			continue;
		if (key->bits ? group[k] != groups->key_values[k] :
			!DatumGetBool(FunctionCall2Coll(&key->equal, key->collation, group[k],
											groups->key_values[k])))
			return false;
	}
	return true;
}

/* The group of the keys at hand, added when it is new; NULL: there is no room for it. */
static Datum *
find_group(SxGroups *groups, uint32 hash)
{
	uint32		b = hash & groups->mask;

	for (; groups->buckets[b].group != NONE; b = (b + 1) & groups->mask)
	{
		if (groups->buckets[b].hash == hash)
		{
			Datum	   *group = sx_group_at(groups, groups->buckets[b].group);

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
	return add_group(groups);
}

static void
call_transition(SxGroupAgg *agg, Datum *state, bool *null, Datum value)
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
advance(SxGroups *groups, Datum *group, ExprContext *econtext, const TupleTableSlot *slot)
{
	Datum	   *states = group + groups->nkeys;
	bool	   *nulls = sx_group_nulls(groups, group) + groups->nkeys;

	for (int a = 0; a < groups->naggs; a++)
	{
		SxGroupAgg *agg = &groups->aggs[a];
		Datum		value;
		bool		isnull;

		if (agg->filter != NULL)
		{
			value = ExecEvalExpr(agg->filter, econtext, &isnull);
			if (isnull || !DatumGetBool(value))
				continue;
		}
		if (agg->kind == SX_GROUP_COUNT_ALL)
		{
			states[a] = Int64GetDatum(DatumGetInt64(states[a]) + 1);
			continue;
		}
		value = evaluate(&agg->value, econtext, slot, &isnull);
		if (isnull)
			continue;
		switch (agg->kind)
		{
			case SX_GROUP_COUNT:
				states[a] = Int64GetDatum(DatumGetInt64(states[a]) + 1);
				break;
			case SX_GROUP_SUM_INT4:
				states[a] = Int64GetDatum((nulls[a] ? 0 : DatumGetInt64(states[a])) + DatumGetInt32(value));
				nulls[a] = false;
				break;
			case SX_GROUP_SUM_INT2:
				states[a] = Int64GetDatum((nulls[a] ? 0 : DatumGetInt64(states[a])) + DatumGetInt16(value));
				nulls[a] = false;
				break;
			default:
				call_transition(agg, &states[a], &nulls[a], value);
		}
	}
}

static void
leave_for_later(SxGroups *groups, int record)
{
	if (!groups->told)
		elog(DEBUG1, "no memory for all groups: some are made in another pass");
	groups->told = true;
	if (groups->nlater == groups->later_room)
	{
		groups->later_room = Max(groups->later_room * 2, FIRST_LATER);
		groups->later = groups->later == NULL ?
			MemoryContextAlloc(groups->later_context, sizeof(int) * groups->later_room) :
			repalloc_huge(groups->later, sizeof(int) * groups->later_room);
	}
	groups->later[groups->nlater++] = record;
}

/* The record in slot, which has passed the filter. */
void
sx_groups_take(SxGroups *groups, ExprContext *econtext, TupleTableSlot *slot)
{
	uint32		hash = compute_keys(groups, econtext, slot);
	Datum	   *group = find_group(groups, hash);

	if (group != NULL)
		advance(groups, group, econtext, slot);
	else
		leave_for_later(groups, sx_tid_to_ordinal(&slot->tts_tid));
}
