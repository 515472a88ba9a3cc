/*-------------------------------------------------------------------------
 *
 * state_keys.h
 *		The keys that a batch has touched, in the order in which they first came.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_STATE_KEYS_H
#define SX_STATE_KEYS_H

#include "datatype/timestamp.h"
#include "plan/state_spec.h"
#include "storage/itemptr.h"
#include "utils/array.h"

/* One key, with what the batch knows of its state. */
typedef struct SxKey
{
	uint32		hash;
	Datum	   *values;
	bool	   *nulls;

	/* its row in the state table */
	bool		stored;
	ItemPointerData tid;
	Datum		stored_state;
	bool		has_timer;
	TimestampTz timer;

	/* what becomes of it */
	Datum		state;
	bool		state_null;
	bool		timer_changed;

	ArrayBuildState **arrays;	/* update_state: by value column */
	TimestampTz expires;		/* deduplicate */
} SxKey;

typedef struct SxKeys SxKeys;

/* In the current context, as are all keys. */
extern SxKeys *sx_keys_create(const SxStateSpec *spec);

/* … of columns of these types; NULL: one of them cannot be hashed. */
extern SxKeys *sx_keys_create_of(int ncolumns, const Oid *types, const Oid *collations);

/* The hash of a key, the same in each batch; SxKey.hash. */
extern uint32 sx_keys_hash(const SxKeys *keys, const Datum *values, const bool *nulls);

/* Is that the key of these values? */
extern bool sx_keys_equal(const SxKeys *keys, const SxKey *key, const Datum *values,
						  const bool *nulls);

/* The key of these values; *is_new: it was not there, and is its values only. */
extern SxKey *sx_keys_get(SxKeys *keys, uint32 hash, const Datum *values, const bool *nulls,
						  bool *is_new);

/* NULL: not there. */
extern SxKey *sx_keys_find(SxKeys *keys, const Datum *values, const bool *nulls);

extern int	sx_keys_count(const SxKeys *keys);
extern SxKey *sx_keys_nth(const SxKeys *keys, int n);

#endif							/* SX_STATE_KEYS_H */
