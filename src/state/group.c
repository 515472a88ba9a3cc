/*-------------------------------------------------------------------------
 *
 * group.c
 *		The batch of a view grouped by hand.
 *
 * Rows of the batch are grouped as HashAggregate does, with less to do for each: keys are
 * bytes, states are integers, nothing is called through the function manager, and the text
 * of a split key (split.h) is never cut into rows.  A key is
 *
 *		the bytes of the value, where there is one key column;
 *		else, in words of eight bytes: which are null, and of each other one the integer,
 *			the bytes, or the varlena with its length word.
 *
 * So a value can be handed out as it lies there (group_table.h).  A state is the count, sum,
 * minimum or maximum so far.  Pieces of a text, and rows whose columns are all by value,
 * are looked up several at a time, as each look-up waits for memory.
 *
 * Memory is that of a hash table of the executor.  When it is full, rows of keys that have a
 * group still find it; the others wait in a tuplestore, and are grouped when the groups so
 * far have been put into the view: each key has one group in one pass, and is merged once
 * in a batch.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "state/group_table.h"

#define AHEAD		48			/* keys that are looked up at a time */
#define AHEAD_BYTES	4096		/* … and all bytes of texts that they are pieces of */

/* One of them. */
typedef struct Ahead
{
	const char *key;
	uint32		len;
	uint32		hash;
	int64		integer;		/* what key points to, of a row by value */
} Ahead;

struct SxGroups
{
	const SxGroupRule *rule;
	MemoryContext context;
	MemoryContext row;			/* what one row needs */
	TupleDesc	input;
	SxGroupTable table;

	char	   *scratch;		/* a key of several columns */
	Size		scratch_room;
	const SxSplit *split;		/* NULL in passes after the first: pieces are rows */
	Tuplestorestate *waiting;	/* rows for the next pass; NULL: none */

	bool		by_value;		/* one key and all columns are */
	bool		only_words;		/* the only column is a text that is split */
	char	   *texts;			/* … the last ones of them */
	int			ntexts;			/* … bytes */
	Ahead		ahead[AHEAD];
	int			nahead;
	Datum	   *values;			/* of AHEAD rows */
	bool	   *nulls;
};

/* ---------- keys ---------- */

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

static inline SxGroup *
group_of_bytes(SxGroups *groups, const char *key, uint32 len)
{
	return sx_group_get(&groups->table, sx_group_hash(&groups->table, key, len), key, len);
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
	return group_of_bytes(groups, groups->scratch, len);
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
		return group_of_bytes(groups, NULL, SX_NULL_KEY);
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
	int64	   *state = sx_group_states(&groups->table, group);

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

/* What the keys ahead need of memory comes while others are asked for. */
static void
fetch_ahead(SxGroups *groups)
{
	for (int i = 0; i < groups->nahead; i++)
	{
		Ahead	   *one = &groups->ahead[i];

		one->hash = sx_group_hash(&groups->table, one->key, one->len);
		sx_group_ahead_place(&groups->table, one->hash);
	}
	for (int i = 0; i < groups->nahead; i++)
		sx_group_ahead(&groups->table, groups->ahead[i].hash);
}

/* Pieces of the text of a row, or of several rows that have no other column. */
static void
take_words_ahead(SxGroups *groups, Datum *values, bool *nulls)
{
	int			column = groups->rule->split_input - 1;
	Datum		whole = values[column];

	fetch_ahead(groups);
	for (int i = 0; i < groups->nahead; i++)
	{
		Ahead	   *one = &groups->ahead[i];
		SxGroup    *group = sx_group_get(&groups->table, one->hash, one->key, one->len);

		if (group != NULL)
			advance(groups, group, values, nulls);
		else
		{
			values[column] = PointerGetDatum(cstring_to_text_with_len(one->key, one->len));
			keep_row(groups, values, nulls);
		}
	}
	values[column] = whole;
	groups->nahead = 0;
}

/* One key, which is a piece of the text. */
static void
take_words(SxGroups *groups, TupleTableSlot *slot, SxPieces *pieces)
{
	const char *piece;
	int			len;

	while (sx_split_next(groups->split, pieces, &piece, &len))
	{
		groups->ahead[groups->nahead].key = piece;
		groups->ahead[groups->nahead].len = len;
		if (++groups->nahead == AHEAD)
			take_words_ahead(groups, slot->tts_values, slot->tts_isnull);
	}
}

static void
take_row(SxGroups *groups, Datum *values, bool *nulls)
{
	SxGroup    *group = group_of(groups, values, nulls);

	if (group != NULL)
		advance(groups, group, values, nulls);
	else
		keep_row(groups, values, nulls);
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
		slot->tts_values[column] = PointerGetDatum(cstring_to_text_with_len(piece, len));
		take_row(groups, slot->tts_values, slot->tts_isnull);
	}
	slot->tts_values[column] = whole;
}

/* A text that may outlive its row: its words are looked up with those of the next. */
static const char *
keep_text(SxGroups *groups, TupleTableSlot *slot, const char *data, int len)
{
	char	   *copy;

	if (groups->ntexts + len > AHEAD_BYTES)
	{
		take_words_ahead(groups, slot->tts_values, slot->tts_isnull);
		groups->ntexts = 0;
	}
	copy = groups->texts + groups->ntexts;
	groups->ntexts += len;
	memcpy(copy, data, len);
	return copy;
}

static void
take_text(SxGroups *groups, TupleTableSlot *slot)
{
	int			column = groups->rule->split_input - 1;
	text	   *whole;
	const char *data;
	int			len;
	bool		wait;
	SxPieces	pieces;

	if (slot->tts_isnull[column])
		return;
	whole = DatumGetTextPP(slot->tts_values[column]);
	data = VARDATA_ANY(whole);
	len = VARSIZE_ANY_EXHDR(whole);
	wait = groups->only_words && len <= AHEAD_BYTES / 4;
	if (wait)
		data = keep_text(groups, slot, data, len);
	sx_split_begin(groups->split, data, len, &pieces);
	if (groups->rule->nkeys > 1)
		take_pieces(groups, slot, &pieces);
	else
		take_words(groups, slot, &pieces);
	if (!wait || pieces.given != NULL)
		take_words_ahead(groups, slot->tts_values, slot->tts_isnull);
}

/* Rows by value that wait. */
static void
take_rows_ahead(SxGroups *groups)
{
	int			ninput = groups->input->natts;

	fetch_ahead(groups);
	for (int i = 0; i < groups->nahead; i++)
	{
		Ahead	   *one = &groups->ahead[i];
		SxGroup    *group = sx_group_get(&groups->table, one->hash, one->key, one->len);

		if (group != NULL)
			advance(groups, group, &groups->values[i * ninput], &groups->nulls[i * ninput]);
		else
			keep_row(groups, &groups->values[i * ninput], &groups->nulls[i * ninput]);
	}
	groups->nahead = 0;
}

static void
take_row_later(SxGroups *groups, const Datum *values, const bool *nulls)
{
	const SxGroupColumn *key = &groups->rule->columns[0];
	int			ninput = groups->input->natts;
	Ahead	   *one = &groups->ahead[groups->nahead];

	memcpy(&groups->values[groups->nahead * ninput], values, sizeof(Datum) * ninput);
	memcpy(&groups->nulls[groups->nahead * ninput], nulls, sizeof(bool) * ninput);
	one->integer = nulls[key->input - 1] ? 0 : integer_of(values[key->input - 1], key->size);
	one->key = (char *) &one->integer;
	one->len = nulls[key->input - 1] ? SX_NULL_KEY : sizeof(one->integer);
	if (++groups->nahead == AHEAD)
		take_rows_ahead(groups);
}

void
sx_groups_take(SxGroups *groups, TupleTableSlot *slot)
{
	MemoryContext old;

	slot_getallattrs(slot);
	if (groups->by_value)
	{
		take_row_later(groups, slot->tts_values, slot->tts_isnull);
		return;
	}
	old = MemoryContextSwitchTo(groups->row);
	if (groups->split != NULL)
		take_text(groups, slot);
	else
		take_row(groups, slot->tts_values, slot->tts_isnull);
	MemoryContextSwitchTo(old);
	MemoryContextReset(groups->row);
}

/* ---------- passes ---------- */

static bool
is_by_value(const SxGroupRule *rule, TupleDesc input)
{
	if (rule->split != NULL || rule->nkeys != 1)
		return false;
	for (int i = 0; i < input->natts; i++)
	{
		if (!TupleDescAttr(input, i)->attbyval)
			return false;
	}
	return true;
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
	groups->split = rule->split;
	groups->scratch_room = 256;
	groups->scratch = palloc(groups->scratch_room);
	groups->by_value = is_by_value(rule, input);
	groups->only_words = rule->split != NULL && rule->ninput == 1 && rule->nkeys == 1;
	if (groups->only_words)
		groups->texts = palloc(AHEAD_BYTES);
	groups->values = palloc0(sizeof(Datum) * input->natts * AHEAD);
	groups->nulls = palloc0(sizeof(bool) * input->natts * AHEAD);
	sx_group_table_init(&groups->table, rule->ncolumns - rule->nkeys, memory);
	return groups;
}

int
sx_groups_end_pass(SxGroups *groups)
{
	if (groups->by_value)
		take_rows_ahead(groups);
	else if (groups->only_words && groups->split != NULL)
		take_words_ahead(groups, groups->values, groups->nulls);
	return groups->table.ngroups;
}

SxGroup *
sx_groups_after(const SxGroups *groups, const SxGroup *group)
{
	Size		at = group == NULL ? sizeof(int64) :
		(const char *) group - groups->table.array + sx_group_key_size(group->len);

	return (SxGroup *) (groups->table.array + at + groups->table.nstates * sizeof(int64));
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
	sx_group_table_clear(&groups->table);
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
		nulls[0] = group->len == SX_NULL_KEY;
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
