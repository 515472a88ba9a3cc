/*-------------------------------------------------------------------------
 *
 * group_table.h
 *		Groups by the bytes of their keys.
 *
 * A group is one piece of memory,
 *
 *		states | hash, length, seen | length word | key
 *
 * all of them in one array, which a table of hashes points into.  Where the table is larger
 * than the processor's caches most of the time of a look-up is waiting for its place in
 * the table and for the group: whoever has several keys asks for all places first
 * (sx_group_ahead_place), then for all groups (sx_group_ahead), and then looks up.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_GROUP_TABLE_H
#define SX_GROUP_TABLE_H

#include "state/group.h"

#define SX_NULL_KEY		PG_UINT32_MAX	/* length, when the only key column is null */

struct SxGroup
{
	uint32		hash;
	uint32		len;
	uint32		seen;			/* a bit for each column that has had a value */
	char		header[VARHDRSZ];
	char		key[FLEXIBLE_ARRAY_MEMBER];
};

/* A place in the table: "at" counts words of eight bytes in the array; 0: empty. */
typedef struct SxGroupPlace
{
	uint32		hash;
	uint32		at;
} SxGroupPlace;

typedef struct SxGroupTable
{
	MemoryContext context;
	Size		limit;			/* bytes */
	int			nstates;		/* of a group */
	uint64		seed;
	SxGroupPlace *places;
	uint32		mask;
	int			ngroups;
	char	   *array;
	Size		used;			/* bytes of it */
	Size		room;
} SxGroupTable;

/* In the current context. */
extern void sx_group_table_init(SxGroupTable *table, int nstates, Size memory);

/* Forgets all groups. */
extern void sx_group_table_clear(SxGroupTable *table);

/* A new group; NULL: there is no room. */
extern SxGroup *sx_group_add(SxGroupTable *table, uint32 hash, const char *key, uint32 len);

static inline int64 *
sx_group_states(const SxGroupTable *table, const SxGroup *group)
{
	return (int64 *) ((char *) group - table->nstates * sizeof(int64));
}

static inline Size
sx_group_key_size(uint32 len)
{
	return MAXALIGN(offsetof(SxGroup, key) + (len == SX_NULL_KEY ? 0 : len));
}

static inline SxGroup *
sx_group_at(const SxGroupTable *table, uint32 at)
{
	return (SxGroup *) (table->array + (Size) at * sizeof(int64));
}

/* ---------- the first and the last bytes of a key ---------- */

typedef struct SxKeyEnds
{
	uint64		first;
	uint64		last;
} SxKeyEnds;

static inline uint64
sx_load64(const char *p)
{
	uint64		word;

	memcpy(&word, p, sizeof(word));
	return word;
}

static inline uint64
sx_load32(const char *p)
{
	uint32		word;

	memcpy(&word, p, sizeof(word));
	return word;
}

/* All of a key up to 16 bytes; the length is known besides. */
static inline SxKeyEnds
sx_key_ends(const char *key, uint32 len)
{
	SxKeyEnds	ends = {0, 0};

	if (len >= 8)
	{
		ends.first = sx_load64(key);
		ends.last = sx_load64(key + len - 8);
	}
	else if (len >= 4)
	{
		ends.first = sx_load32(key);
		ends.last = sx_load32(key + len - 4);
	}
	else if (len > 0)
		ends.first = ((uint64) (unsigned char) key[0] << 16) |
			((uint64) (unsigned char) key[len / 2] << 8) | (unsigned char) key[len - 1];
	return ends;
}

static inline bool
sx_is_group_of(const SxGroup *group, const char *key, uint32 len)
{
	SxKeyEnds	mine;
	SxKeyEnds	other;

	if (group->len != len || len == SX_NULL_KEY)
		return group->len == len;
	if (len > 16)
		return memcmp(group->key, key, len) == 0;
	mine = sx_key_ends(group->key, len);
	other = sx_key_ends(key, len);
	return mine.first == other.first && mine.last == other.last;
}

/* ---------- looking up ---------- */

static inline uint64
sx_mix(uint64 a, uint64 b)
{
#ifdef HAVE_INT128
	uint128		product = (uint128) a * b;

	return (uint64) product ^ (uint64) (product >> 64);
#else
	a = (a ^ b) * UINT64CONST(0xff51afd7ed558ccd);
	return a ^ (a >> 33);
#endif
}

static inline uint32
sx_group_hash(const SxGroupTable *table, const char *key, uint32 len)
{
	const uint64 odd = UINT64CONST(0x9e3779b97f4a7c15);
	uint64		hash = table->seed ^ len;
	SxKeyEnds	ends = {0, 0};

	if (len != SX_NULL_KEY)
	{
		for (; len > 16; key += 8, len -= 8)
			hash = sx_mix(hash ^ sx_load64(key), odd);
		ends = sx_key_ends(key, len);
	}
	hash = sx_mix(hash ^ ends.first ^ odd, ends.last ^ UINT64CONST(0xe7037ed1a0b428db));
	hash = sx_mix(hash ^ ends.first, odd);
	return (uint32) (hash ^ (hash >> 32));
}

static inline void
sx_group_ahead_place(const SxGroupTable *table, uint32 hash)
{
	__builtin_prefetch(&table->places[hash & table->mask]);
}

static inline void
sx_group_ahead(const SxGroupTable *table, uint32 hash)
{
	uint32		at = table->places[hash & table->mask].at;

	__builtin_prefetch(sx_group_states(table, sx_group_at(table, at)), 1);
	__builtin_prefetch(sx_group_at(table, at)->key, 1);
}

/* The group of a key; NULL: there is none, and no room for it. */
static inline SxGroup *
sx_group_get(SxGroupTable *table, uint32 hash, const char *key, uint32 len)
{
	for (uint32 i = hash & table->mask; table->places[i].at != 0; i = (i + 1) & table->mask)
	{
		SxGroup    *group = sx_group_at(table, table->places[i].at);

		if (table->places[i].hash == hash && sx_is_group_of(group, key, len))
			return group;
	}
	return sx_group_add(table, hash, key, len);
}

#endif							/* SX_GROUP_TABLE_H */
