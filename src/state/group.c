/*-------------------------------------------------------------------------
 *
 * group.c
 *		The batch of a view grouped by hand.
 *
 * Rows of the batch are grouped as HashAggregate does, with less to do for each: keys are
 * bytes, states are integers, nothing is called through the function manager, and the text of a split key
 * (split.h) is never cut into rows.  A group is one piece of memory,
 *
 *		states | hash, length, seen | length word | key
 *
 * all of them in one array, which a table of hashes points into.  The key is
 *
 *		the bytes of the value, where there is one key column;
 *		else, in words of eight bytes: which are null, and of each other one the integer,
 *			the bytes, or the varlena with its length word.
 *
 * So a value can be handed out as it lies there.  A state is the count, sum, minimum or maximum so
 * far; "seen" has a bit for each that has had a value.  Keys first.
 *
 * Memory is that of a hash table of the executor.  When it is full, rows of keys that have a
 * group still find it; the others wait in a tuplestore, and are grouped when the groups so
 * far have been put into the view: each key has one group in one pass, and is merged once
 * in a batch.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "state/group.h"

#define FIRST_SLOTS		1024
#define FIRST_BYTES		(32 * 1024)
#define NULL_KEY		PG_UINT32_MAX	/* length, when the only key column is null */

/* A place in the table: "at" counts words of eight bytes in the array; 0: empty. */
typedef struct Slot
{
	uint32		hash;
	uint32		at;
} Slot;

struct SxGroup
{
	uint32		hash;
	uint32		len;
	uint32		seen;
	char		header[VARHDRSZ];
	char		key[FLEXIBLE_ARRAY_MEMBER];
};

struct SxGroups
{
	const SxGroupRule *rule;
	MemoryContext context;
	MemoryContext row;			/* what one row needs */
	TupleDesc	input;
	uint64		seed;
	Size		limit;
	int			nstates;

	Slot	   *slots;
	uint32		mask;
	int			ngroups;
	char	   *array;
	Size		used;			/* bytes of it */
	Size		room;

	char	   *scratch;		/* a key of several columns */
	Size		scratch_room;
	const SxSplit *split;		/* NULL in passes after the first: pieces are rows */
	Tuplestorestate *waiting;	/* rows for the next pass; NULL: none */
};

/* ---------- groups ---------- */

static inline int64 *
states_of(const SxGroups *groups, const SxGroup *group)
{
	return (int64 *) ((char *) group - groups->nstates * sizeof(int64));
}

static inline Size
size_of_key(uint32 len)
{
	return MAXALIGN(offsetof(SxGroup, key) + (len == NULL_KEY ? 0 : len));
}

static void
make_slots(SxGroups *groups, uint32 nslots)
{
	groups->slots = MemoryContextAllocExtended(groups->context, sizeof(Slot) * nslots,
											   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	groups->mask = nslots - 1;
}

static void
grow_slots(SxGroups *groups)
{
	Slot	   *old = groups->slots;
	uint32		nold = groups->mask + 1;

	make_slots(groups, nold * 2);
	for (uint32 i = 0; i < nold; i++)
	{
		uint32		at = old[i].hash & groups->mask;

		if (old[i].at == 0)
			continue;
		while (groups->slots[at].at != 0)
			at = (at + 1) & groups->mask;
		groups->slots[at] = old[i];
	}
	pfree(old);
}

static void
grow_array(SxGroups *groups, Size more)
{
	Size		room = groups->room;

	while (groups->used + more > room)
		room *= 2;
	groups->array = repalloc_huge(groups->array, room);
	groups->room = room;
}

/* Would a group of that size make the groups larger than they may become? */
static bool
is_full(const SxGroups *groups, Size more)
{
	return groups->ngroups > 0 &&
		groups->used + more + (Size) (groups->mask + 1) * sizeof(Slot) > groups->limit;
}

static SxGroup *
add_group(SxGroups *groups, uint32 hash, const char *key, uint32 len)
{
	Size		states = groups->nstates * sizeof(int64);
	Size		size = states + size_of_key(len);
	SxGroup    *group;
	uint32		at;

	if (is_full(groups, size) || (groups->used + size) / sizeof(int64) >= PG_UINT32_MAX)
		return NULL;
	if (groups->used + size > groups->room)
		grow_array(groups, size);
	if (groups->ngroups >= (groups->mask + 1) / 2)
		grow_slots(groups);
	at = hash & groups->mask;
	while (groups->slots[at].at != 0)
		at = (at + 1) & groups->mask;

	group = (SxGroup *) (groups->array + groups->used + states);
	memset(states_of(groups, group), 0, states);
	group->hash = hash;
	group->len = len;
	group->seen = 0;
	if (len != NULL_KEY)
	{
		SET_VARSIZE(group->header, len + VARHDRSZ);
		memcpy(group->key, key, len);
	}
	groups->slots[at].hash = hash;
	groups->slots[at].at = (uint32) ((char *) group - groups->array) / sizeof(int64);
	groups->used += size;
	groups->ngroups++;
	return group;
}

static inline bool
is_key(const SxGroup *group, const char *key, uint32 len)
{
	return group->len == len && (len == NULL_KEY || memcmp(group->key, key, len) == 0);
}

/* The group of a key; NULL: there is none, and no room for it. */
static inline SxGroup *
find_group(SxGroups *groups, uint32 hash, const char *key, uint32 len)
{
	for (uint32 at = hash & groups->mask; groups->slots[at].at != 0; at = (at + 1) & groups->mask)
	{
		SxGroup    *group = (SxGroup *) (groups->array +
										 (Size) groups->slots[at].at * sizeof(int64));

		if (groups->slots[at].hash == hash && is_key(group, key, len))
			return group;
	}
	return add_group(groups, hash, key, len);
}

/* ---------- keys ---------- */

static inline uint64
load64(const char *p)
{
	uint64		word;

	memcpy(&word, p, sizeof(word));
	return word;
}

static inline uint64
load32(const char *p)
{
	uint32		word;

	memcpy(&word, p, sizeof(word));
	return word;
}

static inline uint64
mix(uint64 a, uint64 b)
{
#ifdef HAVE_INT128
	uint128		product = (uint128) a * b;

	return (uint64) product ^ (uint64) (product >> 64);
#else
	a ^= b;
	a *= UINT64CONST(0xff51afd7ed558ccd);
	return a ^ (a >> 33);
#endif
}

/* Short keys are the rule: two words that cover the last bytes, and words before them. */
static inline uint32
hash_key(const SxGroups *groups, const char *key, uint32 len)
{
	const uint64 odd = UINT64CONST(0x9e3779b97f4a7c15);
	uint64		hash = groups->seed ^ len;
	uint64		first = 0;
	uint64		last = 0;

	if (len == NULL_KEY)
		len = 0;
	for (; len > 16; key += 8, len -= 8)
		hash = mix(hash ^ load64(key), odd);
	if (len >= 8)
	{
		first = load64(key);
		last = load64(key + len - 8);
	}
	else if (len >= 4)
	{
		first = load32(key);
		last = load32(key + len - 4);
	}
	else if (len > 0)
		first = ((uint64) (unsigned char) key[0] << 16) |
			((uint64) (unsigned char) key[len / 2] << 8) | (unsigned char) key[len - 1];
	hash = mix(hash ^ first ^ odd, last ^ UINT64CONST(0xe7037ed1a0b428db));
	hash = mix(hash ^ first, odd);
	return (uint32) (hash ^ (hash >> 32));
}

static inline int64
integer_of(Datum value, int size)
{
	switch (size)
	{
		case 1:
			return DatumGetChar(value);
		case 2:
			return DatumGetInt16(value);
		case 4:
			return DatumGetInt32(value);
		default:
			return DatumGetInt64(value);
	}
}

static inline Datum
datum_of(int64 value, int size)
{
	switch (size)
	{
		case 1:
			return CharGetDatum((char) value);
		case 2:
			return Int16GetDatum((int16) value);
		case 4:
			return Int32GetDatum((int32) value);
		default:
			return Int64GetDatum(value);
	}
}

/* Makes room for bytes at the end of the scratch key, filled up to words with zeros. */
static char *
more_scratch(SxGroups *groups, uint32 *len, Size size)
{
	Size		end = *len + MAXALIGN(size);
	char	   *result;

	if (end > MaxAllocSize)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the key of a group is too long")));
	if (end > groups->scratch_room)
	{
		groups->scratch_room = Min(Max(groups->scratch_room * 2, end), MaxAllocSize);
		groups->scratch = repalloc(groups->scratch, groups->scratch_room);
	}
	memset(groups->scratch + end - sizeof(uint64), 0, sizeof(uint64));
	result = groups->scratch + *len;
	*len = (uint32) end;
	return result;
}

/* One column of several, which is not null. */
static void
put_column(SxGroups *groups, const SxGroupColumn *column, Datum value, uint32 *len)
{
	if (column->form == SX_FORM_INTEGER)
	{
		int64		integer = integer_of(value, column->size);

		memcpy(more_scratch(groups, len, sizeof(integer)), &integer, sizeof(integer));
	}
	else if (column->form == SX_FORM_FIXED)
		memcpy(more_scratch(groups, len, column->size), DatumGetPointer(value), column->size);
	else
	{
		struct varlena *packed = PG_DETOAST_DATUM_PACKED(value);
		Size		size = VARSIZE_ANY_EXHDR(packed);
		char	   *to = more_scratch(groups, len, size + VARHDRSZ);

		SET_VARSIZE(to, size + VARHDRSZ);
		memcpy(to + VARHDRSZ, VARDATA_ANY(packed), size);
	}
}

static SxGroup *
group_of_columns(SxGroups *groups, const Datum *values, const bool *nulls)
{
	const SxGroupRule *rule = groups->rule;
	uint64		null_bits = 0;
	uint32		len = 0;

	(void) more_scratch(groups, &len, sizeof(null_bits));
	for (int i = 0; i < rule->nkeys; i++)
	{
		int			input = rule->columns[i].input - 1;

		if (nulls[input])
			null_bits |= UINT64CONST(1) << i;
		else
			put_column(groups, &rule->columns[i], values[input], &len);
	}
	memcpy(groups->scratch, &null_bits, sizeof(null_bits));
	return find_group(groups, hash_key(groups, groups->scratch, len), groups->scratch, len);
}

static inline SxGroup *
group_of_bytes(SxGroups *groups, const char *key, uint32 len)
{
	return find_group(groups, hash_key(groups, key, len), key, len);
}

/* The group of a row; NULL: no room. */
static inline SxGroup *
group_of(SxGroups *groups, const Datum *values, const bool *nulls)
{
	const SxGroupColumn *key = &groups->rule->columns[0];
	Datum		value = values[key->input - 1];
	struct varlena *packed;
	int64		integer;

	if (groups->rule->nkeys > 1)
		return group_of_columns(groups, values, nulls);
	if (nulls[key->input - 1])
		return group_of_bytes(groups, NULL, NULL_KEY);
	switch (key->form)
	{
		case SX_FORM_INTEGER:
			integer = integer_of(value, key->size);
			return group_of_bytes(groups, (char *) &integer, sizeof(integer));
		case SX_FORM_FIXED:
			return group_of_bytes(groups, DatumGetPointer(value), key->size);
		default:
			packed = PG_DETOAST_DATUM_PACKED(value);
			return group_of_bytes(groups, VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
	}
}

/* ---------- states ---------- */

static inline void
advance_value(const SxGroupColumn *column, int64 *state, bool first, int64 value)
{
	if (column->kind == SX_GROUP_SUM)
		*state += value;
	else if (first || (column->kind == SX_GROUP_MIN ? value < *state : value > *state))
		*state = value;
}

/* A row more for the group. */
static inline void
advance(SxGroups *groups, SxGroup *group, const Datum *values, const bool *nulls)
{
	const SxGroupRule *rule = groups->rule;
	int64	   *state = states_of(groups, group);

	for (int i = rule->nkeys; i < rule->ncolumns; i++, state++)
	{
		const SxGroupColumn *column = &rule->columns[i];
		int			input = column->input - 1;

		if (column->filter > 0 && (nulls[column->filter - 1] ||
								   !DatumGetBool(values[column->filter - 1])))
			continue;
		if (input >= 0 && nulls[input])
			continue;
		if (column->kind == SX_GROUP_COUNT)
			(*state)++;
		else
			advance_value(column, state, (group->seen & (1U << i)) == 0,
						  integer_of(values[input], column->size));
		group->seen |= 1U << i;
	}
}

/* ---------- rows ---------- */

/* Until the groups so far are gone. */
static void
keep_row(SxGroups *groups, Datum *values, bool *nulls)
{
	MemoryContext old = MemoryContextSwitchTo(groups->context);

	if (groups->waiting == NULL)
		groups->waiting = tuplestore_begin_heap(false, false, work_mem);
	tuplestore_putvalues(groups->waiting, groups->input, values, nulls);
	MemoryContextSwitchTo(old);
}

static void
keep_piece(SxGroups *groups, TupleTableSlot *slot, const char *piece, int len)
{
	int			column = groups->rule->split_input - 1;
	Datum		whole = slot->tts_values[column];

	slot->tts_values[column] = PointerGetDatum(cstring_to_text_with_len(piece, len));
	keep_row(groups, slot->tts_values, slot->tts_isnull);
	slot->tts_values[column] = whole;
}

/* One key, which is a piece: what most rows are. */
static void
take_words(SxGroups *groups, TupleTableSlot *slot, SxPieces *pieces)
{
	const char *piece;
	int			len;

	while (sx_split_next(groups->split, pieces, &piece, &len))
	{
		SxGroup    *group = group_of_bytes(groups, piece, len);

		if (group != NULL)
			advance(groups, group, slot->tts_values, slot->tts_isnull);
		else
			keep_piece(groups, slot, piece, len);
	}
}

static void
take_pieces(SxGroups *groups, TupleTableSlot *slot, SxPieces *pieces)
{
	int			column = groups->rule->split_input - 1;
	Datum		whole = slot->tts_values[column];
	const char *piece;
	int			len;

	while (sx_split_next(groups->split, pieces, &piece, &len))
	{
		SxGroup    *group;

		slot->tts_values[column] = PointerGetDatum(cstring_to_text_with_len(piece, len));
		group = group_of(groups, slot->tts_values, slot->tts_isnull);
		if (group != NULL)
			advance(groups, group, slot->tts_values, slot->tts_isnull);
		else
			keep_row(groups, slot->tts_values, slot->tts_isnull);
	}
	slot->tts_values[column] = whole;
}

static void
take_text(SxGroups *groups, TupleTableSlot *slot)
{
	int			column = groups->rule->split_input - 1;
	text	   *whole;
	SxPieces	pieces;

	if (slot->tts_isnull[column])
		return;
	whole = DatumGetTextPP(slot->tts_values[column]);
	sx_split_begin(groups->split, VARDATA_ANY(whole), VARSIZE_ANY_EXHDR(whole), &pieces);
	if (groups->rule->nkeys == 1)
		take_words(groups, slot, &pieces);
	else
		take_pieces(groups, slot, &pieces);
}

void
sx_groups_take(SxGroups *groups, TupleTableSlot *slot)
{
	MemoryContext old = MemoryContextSwitchTo(groups->row);

	slot_getallattrs(slot);
	if (groups->split != NULL)
		take_text(groups, slot);
	else
	{
		SxGroup    *group = group_of(groups, slot->tts_values, slot->tts_isnull);

		if (group != NULL)
			advance(groups, group, slot->tts_values, slot->tts_isnull);
		else
			keep_row(groups, slot->tts_values, slot->tts_isnull);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(groups->row);
}

/* ---------- passes ---------- */

static void
begin_pass(SxGroups *groups)
{
	groups->ngroups = 0;
	groups->used = sizeof(int64);	/* at 0 there is no group */
	memset(groups->slots, 0, sizeof(Slot) * (groups->mask + 1));
}

SxGroups *
sx_groups_create(const SxGroupRule *rule, TupleDesc input, Size memory)
{
	SxGroups   *groups = palloc0(sizeof(SxGroups));

	groups->rule = rule;
	groups->context = CurrentMemoryContext;
	groups->row = AllocSetContextCreate(CurrentMemoryContext, "streamext row to be grouped",
										ALLOCSET_DEFAULT_SIZES);
	groups->input = input;
	groups->seed = pg_prng_uint64(&pg_global_prng_state);
	groups->limit = memory;
	groups->nstates = rule->ncolumns - rule->nkeys;
	groups->split = rule->split;
	groups->scratch_room = 1024;
	groups->scratch = palloc(groups->scratch_room);
	groups->room = FIRST_BYTES;
	groups->array = palloc(groups->room);
	make_slots(groups, FIRST_SLOTS);
	begin_pass(groups);
	return groups;
}

int
sx_groups_count(const SxGroups *groups)
{
	return groups->ngroups;
}

SxGroup *
sx_groups_after(const SxGroups *groups, const SxGroup *group)
{
	Size		at = group == NULL ? sizeof(int64) :
		(const char *) group - groups->array + size_of_key(group->len);

	return (SxGroup *) (groups->array + at + groups->nstates * sizeof(int64));
}

bool
sx_groups_next_pass(SxGroups *groups)
{
	Tuplestorestate *rows = groups->waiting;
	TupleTableSlot *slot;

	if (rows == NULL)
		return false;
	groups->waiting = NULL;
	groups->split = NULL;
	begin_pass(groups);
	slot = MakeSingleTupleTableSlot(groups->input, &TTSOpsMinimalTuple);
	while (tuplestore_gettupleslot(rows, true, false, slot))
	{
		CHECK_FOR_INTERRUPTS();
		sx_groups_take(groups, slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(rows);
	return true;
}

/* ---------- results ---------- */

static Datum
stored_key(const SxGroupColumn *column, const char *at, const char **next)
{
	int64		integer;

	if (column->form == SX_FORM_INTEGER)
	{
		*next = at + sizeof(integer);
		memcpy(&integer, at, sizeof(integer));
		return datum_of(integer, column->size);
	}
	*next = at + MAXALIGN(column->form == SX_FORM_FIXED ? column->size : VARSIZE(at));
	return PointerGetDatum(at);
}

static void
key_values(const SxGroupRule *rule, const SxGroup *group, Datum *values, bool *nulls)
{
	const char *at = group->key;
	uint64		null_bits;

	if (rule->nkeys == 1)
	{
		nulls[0] = group->len == NULL_KEY;
		if (!nulls[0])
			values[0] = stored_key(&rule->columns[0], rule->columns[0].form == SX_FORM_VARLENA ?
								   group->header : group->key, &at);
		return;
	}
	memcpy(&null_bits, at, sizeof(null_bits));
	at += sizeof(null_bits);
	for (int i = 0; i < rule->nkeys; i++)
	{
		nulls[i] = (null_bits & (UINT64CONST(1) << i)) != 0;
		if (!nulls[i])
			values[i] = stored_key(&rule->columns[i], at, &at);
	}
}

void
sx_group_values(const SxGroupRule *rule, const SxGroup *group, Datum *values, bool *nulls)
{
	const int64 *state = (const int64 *) group - (rule->ncolumns - rule->nkeys);

	key_values(rule, group, values, nulls);
	for (int i = rule->nkeys; i < rule->ncolumns; i++, state++)
	{
		const SxGroupColumn *column = &rule->columns[i];
		bool		extreme = column->kind == SX_GROUP_MIN || column->kind == SX_GROUP_MAX;

		nulls[i] = column->kind != SX_GROUP_COUNT && (group->seen & (1U << i)) == 0;
		values[i] = datum_of(*state, extreme ? column->size : sizeof(int64));
	}
}
