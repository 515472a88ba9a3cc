/*-------------------------------------------------------------------------
 *
 * group_table.c
 *		Groups by the bytes of their keys: how the table grows.
 *
 * Both the places and the array double when they are full, up to the memory that there is.
 * Places are never more than half used, so the next free one is near.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/memutils.h"

#include "compat.h"
#include "state/group_table.h"

#define FIRST_PLACES	256
#define FIRST_BYTES		(8 * 1024 - 64)

static void
make_places(SxGroupTable *table, uint32 n)
{
	table->places = MemoryContextAllocExtended(table->context, sizeof(SxGroupPlace) * n,
											   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	table->mask = n - 1;
}

void
sx_group_table_init(SxGroupTable *table, int nstates, Size memory)
{
	table->context = CurrentMemoryContext;
	table->limit = memory;
	table->nstates = nstates;
	table->seed = pg_prng_uint64(&pg_global_prng_state);
	table->room = FIRST_BYTES;
	table->array = palloc(table->room);
	make_places(table, FIRST_PLACES);
	sx_group_table_clear(table);
}

void
sx_group_table_clear(SxGroupTable *table)
{
	table->ngroups = 0;
	table->used = sizeof(int64);	/* at 0 there is no group */
	memset(table->places, 0, sizeof(SxGroupPlace) * (table->mask + 1));
}

static SxGroupPlace *
free_place(const SxGroupTable *table, uint32 hash)
{
	uint32		i = hash & table->mask;

	while (table->places[i].at != 0)
		i = (i + 1) & table->mask;
	return &table->places[i];
}

static void
grow_places(SxGroupTable *table)
{
	SxGroupPlace *old = table->places;
	uint32		n = table->mask + 1;

	make_places(table, n * 2);
	for (uint32 i = 0; i < n; i++)
	{
		if (old[i].at != 0)
			*free_place(table, old[i].hash) = old[i];
	}
	pfree(old);
}

static void
grow_array(SxGroupTable *table, Size more)
{
	Size		room = table->room;

	while (table->used + more > room)
		room *= 2;
	table->array = repalloc_huge(table->array, room);
	table->room = room;
}

/* One group there may always be, however long its key is. */
static bool
is_full(const SxGroupTable *table, Size more)
{
	if ((table->used + more) / sizeof(int64) >= PG_UINT32_MAX)
		return true;
	return table->ngroups > 0 &&
		table->used + more + (Size) (table->mask + 1) * sizeof(SxGroupPlace) > table->limit;
}

SxGroup *
sx_group_add(SxGroupTable *table, uint32 hash, const char *key, uint32 len)
{
	Size		states = table->nstates * sizeof(int64);
	Size		size = states + sx_group_key_size(len);
	SxGroup    *group;
	SxGroupPlace *place;

	if (is_full(table, size))
		return NULL;
	if (table->used + size > table->room)
		grow_array(table, size);
	if (table->ngroups >= (table->mask + 1) / 2)
		grow_places(table);

	group = (SxGroup *) (table->array + table->used + states);
	memset(sx_group_states(table, group), 0, states);
	group->hash = hash;
	group->len = len;
	group->seen = 0;
	if (len != SX_NULL_KEY)
	{
		SET_VARSIZE(group->header, len + VARHDRSZ);
		memcpy(group->key, key, len);
	}
	place = free_place(table, hash);
	place->hash = hash;
	place->at = (uint32) (((char *) group - table->array) / sizeof(int64));
	table->used += size;
	table->ngroups++;
	return group;
}
