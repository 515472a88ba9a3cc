/*-------------------------------------------------------------------------
 *
 * state_keys.c
 *		The keys that a batch has touched, in the order in which they first came.
 *
 * A hash table over the key columns, with NULL as a value like others.  Equality is
 * that of the type's default operator class, under the column's collation, as it is in
 * the index of the state table.  It holds the keys of one batch and goes with it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "fmgr.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "state/state_keys.h"

typedef struct KeyEntry
{
	SxKey	   *key;
	uint32		hash;
	char		status;
} KeyEntry;

typedef struct KeyColumn
{
	FmgrInfo	equal;
	FmgrInfo	hash;
	Oid			collation;
	bool		byval;
	int16		len;
} KeyColumn;

struct SxKeys
{
	MemoryContext context;
	int			ncolumns;
	KeyColumn  *columns;
	struct keytab_hash *table;
	SxKey	  **list;
	int			n;
	int			room;
};

static bool keys_equal(const SxKeys *keys, const SxKey *a, const SxKey *b);

#define SH_PREFIX keytab
#define SH_ELEMENT_TYPE KeyEntry
#define SH_KEY_TYPE SxKey *
#define SH_KEY key
#define SH_HASH_KEY(tb, k) ((k)->hash)
#define SH_EQUAL(tb, a, b) keys_equal((const SxKeys *) (tb)->private_data, a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, e) ((e)->hash)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static bool
keys_equal(const SxKeys *keys, const SxKey *a, const SxKey *b)
{
	for (int i = 0; i < keys->ncolumns; i++)
	{
		KeyColumn  *column = &keys->columns[i];

		if (a->nulls[i] != b->nulls[i])
			return false;
		if (!a->nulls[i] &&
			!DatumGetBool(FunctionCall2Coll(&column->equal, column->collation,
											a->values[i], b->values[i])))
			return false;
	}
	return true;
}

uint32
sx_keys_hash(const SxKeys *keys, const Datum *values, const bool *nulls)
{
	uint32		hash = 0;

	for (int i = 0; i < keys->ncolumns; i++)
	{
		KeyColumn  *column = &keys->columns[i];
		uint32		one = nulls[i] ? 0 :
			DatumGetUInt32(FunctionCall1Coll(&column->hash, column->collation, values[i]));

		hash = hash_combine(hash, one);
	}
	return murmurhash32(hash);
}

/* NULL: a type has no hash function. */
SxKeys *
sx_keys_create_of(int ncolumns, const Oid *types, const Oid *collations)
{
	SxKeys	   *keys = palloc0(sizeof(SxKeys));

	keys->context = CurrentMemoryContext;
	keys->ncolumns = ncolumns;
	keys->columns = palloc0(sizeof(KeyColumn) * ncolumns);
	for (int i = 0; i < ncolumns; i++)
	{
		TypeCacheEntry *type = lookup_type_cache(types[i],
												 TYPECACHE_EQ_OPR_FINFO |
												 TYPECACHE_HASH_PROC_FINFO);
		KeyColumn  *column = &keys->columns[i];

		if (!OidIsValid(type->eq_opr_finfo.fn_oid) || !OidIsValid(type->hash_proc_finfo.fn_oid))
			return NULL;
		fmgr_info_copy(&column->equal, &type->eq_opr_finfo, keys->context);
		fmgr_info_copy(&column->hash, &type->hash_proc_finfo, keys->context);
		column->collation = collations[i];
		column->byval = type->typbyval;
		column->len = type->typlen;
	}
	keys->table = keytab_create(keys->context, 256, keys);
	keys->room = 256;
	keys->list = palloc(sizeof(SxKey *) * keys->room);
	return keys;
}

SxKeys *
sx_keys_create(const SxStateSpec *spec)
{
	Oid		   *types = palloc(sizeof(Oid) * spec->nkeys);
	Oid		   *collations = palloc(sizeof(Oid) * spec->nkeys);
	SxKeys	   *keys;

	for (int i = 0; i < spec->nkeys; i++)
	{
		ColumnDef  *def = sx_spec_column(spec, spec->keys[i]);

		types[i] = def->typeName->typeOid;
		collations[i] = def->collOid;
	}
	keys = sx_keys_create_of(spec->nkeys, types, collations);
	if (keys == NULL)
		elog(ERROR, "a key of keyed state has no hash function");
	pfree(types);
	pfree(collations);
	return keys;
}

/* Not a pointer into somebody's TOAST table: the key outlives that row. */
static Datum
copy_value(const KeyColumn *column, Datum value)
{
	if (column->len == -1)
		return PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	return datumCopy(value, column->byval, column->len);
}

static SxKey *
make_key(SxKeys *keys, const SxKey *probe)
{
	MemoryContext old = MemoryContextSwitchTo(keys->context);
	SxKey	   *key = palloc0(sizeof(SxKey) +
							  keys->ncolumns * (sizeof(Datum) + sizeof(bool)));

	key->hash = probe->hash;
	key->values = (Datum *) (key + 1);
	key->nulls = (bool *) (key->values + keys->ncolumns);
	key->state_null = true;
	for (int i = 0; i < keys->ncolumns; i++)
	{
		key->nulls[i] = probe->nulls[i];
		if (!key->nulls[i])
			key->values[i] = copy_value(&keys->columns[i], probe->values[i]);
	}
	if (keys->n == keys->room)
	{
		keys->room *= 2;
		keys->list = repalloc_huge(keys->list, sizeof(SxKey *) * keys->room);
	}
	keys->list[keys->n++] = key;
	MemoryContextSwitchTo(old);
	return key;
}

static SxKey
probe_for(uint32 hash, const Datum *values, const bool *nulls)
{
	SxKey		probe = {
		.hash = hash,
		.values = (Datum *) values,
		.nulls = (bool *) nulls
	};

	return probe;
}

bool
sx_keys_equal(const SxKeys *keys, const SxKey *key, const Datum *values, const bool *nulls)
{
	SxKey		other = probe_for(key->hash, values, nulls);

	return keys_equal(keys, key, &other);
}

SxKey *
sx_keys_get(SxKeys *keys, uint32 hash, const Datum *values, const bool *nulls, bool *is_new)
{
	SxKey		probe = probe_for(hash, values, nulls);
	bool		found;
	KeyEntry   *entry = keytab_insert_hash(keys->table, &probe, probe.hash, &found);

	*is_new = !found;
	if (!found)
	{
		/* no error may leave an entry that points to the probe */
		entry->key = NULL;
		entry->key = make_key(keys, &probe);
	}
	return entry->key;
}

SxKey *
sx_keys_find(SxKeys *keys, const Datum *values, const bool *nulls)
{
	SxKey		probe = probe_for(sx_keys_hash(keys, values, nulls), values, nulls);
	KeyEntry   *entry = keytab_lookup_hash(keys->table, &probe, probe.hash);

	return entry == NULL ? NULL : entry->key;
}

int
sx_keys_count(const SxKeys *keys)
{
	return keys->n;
}

SxKey *
sx_keys_nth(const SxKeys *keys, int n)
{
	return keys->list[n];
}
