/*-------------------------------------------------------------------------
 *
 * dead_letter.c
 *		Writes the records that failed to streamext.dead_letter.
 *
 * A letter holds the record byte for byte, and its headers both as jsonb, to be read, and
 * as they came, to be fed again.  What is longer than MAX_BYTES is cut, with the length
 * and a hash of the whole; such a letter can be looked at, not fed again.
 *
 * "steps" says who is owed the record, which is what replay.c feeds:
 *
 *	undecodable		every step that reads the stream
 *	failed			the step it failed in, and the streams with state that went without it
 *					on account of this letter (batch_bisect.c)
 *	late			the view
 *
 * In a batch of dead letters it can only be those among them that saw the record.
 *
 * Messages and names of files may hold bytes that are no text: these are shown as '?'.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/sx_catalog.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "fdw/track.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/batch_internal.h"

#define MAX_BYTES	(1024 * 1024)	/* of the value, the key and the headers each */

enum
{
	PIPELINE, STREAM, STEP, BATCH_ID, TOPIC, PARTITION, OFFSET, RECORD_TIME, KEY, VALUE,
	HEADERS, RAW_HEADERS, SQLSTATE, MESSAGE, CUT, VALUE_SIZE, VALUE_SHA256, STEPS, ATTEMPT,
	NCOLUMNS
};

/* A row of the table in the making. */
typedef struct Letter
{
	Datum		values[NCOLUMNS];
	char		nulls[NCOLUMNS];
	bool		cut;
} Letter;

static void
set(Letter *letter, int column, Datum value)
{
	letter->values[column] = value;
	letter->nulls[column] = ' ';
}

/* Text of the database's encoding, whatever the bytes are. */
static void
set_text(Letter *letter, int column, const char *str)
{
	char	   *copy = pstrdup(str);
	char	   *p = copy;

	while (*p)
	{
		int			len = pg_mblen(p);

		if (strnlen(p, len) < len || !pg_verifymbstr(p, len, true))
			*p++ = '?';
		else
			p += len;
	}
	set(letter, column, CStringGetTextDatum(copy));
}

/* data NULL: the column stays null. */
static void
set_bytes(Letter *letter, int column, const char *data, int len)
{
	if (data == NULL)
		return;
	letter->cut |= len > MAX_BYTES;
	set(letter, column, PointerGetDatum(cstring_to_text_with_len(data, Min(len, MAX_BYTES))));
}

static Datum
sha256(const char *data, int len)
{
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);
	uint8		hash[PG_SHA256_DIGEST_LENGTH];

	if (pg_cryptohash_init(ctx) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) data, len) < 0 ||
		pg_cryptohash_final(ctx, hash, sizeof(hash)) < 0)
		elog(ERROR, "could not compute a hash: %s", pg_cryptohash_error(ctx));
	pg_cryptohash_free(ctx);
	return PointerGetDatum(cstring_to_text_with_len((char *) hash, sizeof(hash)));
}

static void
set_value(Letter *letter, const char *value, int len)
{
	if (value == NULL)
		return;
	set_bytes(letter, VALUE, value, len);
	set(letter, VALUE_SIZE, Int32GetDatum(len));
	if (len > MAX_BYTES)
		set(letter, VALUE_SHA256, sha256(value, len));
}

static void
set_headers(Letter *letter, const SxRecord *rec)
{
	if (rec->headers_len <= 0)
		return;
	set_bytes(letter, RAW_HEADERS, sx_record_headers(rec), rec->headers_len);
	if (rec->headers_len <= MAX_BYTES)
		set(letter, HEADERS, sx_headers_jsonb(rec));
}

/* ---------- who is owed the record ---------- */

static Bitmapset *
readers(const SxPipeline *pl, int input)
{
	Bitmapset  *steps = NULL;

	for (int i = 0; i < pl->nsteps; i++)
	{
		if (sx_step_reads(&pl->steps[i], &pl->inputs[input]))
			steps = bms_add_member(steps, i);
	}
	return steps;
}

static Bitmapset *
owed_to(const SxPipeline *pl, const SxDeadRecord *dead)
{
	Bitmapset  *steps = dead->step < 0 ? readers(pl, dead->source) :
		bms_add_member(bms_copy(dead->left_out), dead->step);

	if (pl->replay != NULL)
		steps = bms_int_members(steps, pl->replay->fed);
	if (bms_is_empty(steps) && dead->step >= 0)
		steps = bms_make_singleton(dead->step);
	return steps;
}

static Datum
step_oids(const SxPipeline *pl, Bitmapset *steps)
{
	Datum	   *oids = palloc(sizeof(Datum) * Max(bms_num_members(steps), 1));
	int			n = 0;
	int			i = -1;

	while ((i = bms_next_member(steps, i)) >= 0)
		oids[n++] = ObjectIdGetDatum(pl->steps[i].relid);
	return PointerGetDatum(construct_array(oids, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

/* ---------- letters ---------- */

static void
set_place(Letter *letter, SxSource *source, int record)
{
	const SxRecord *rec = source->records[record];
	const char *topic = sx_record_topic(source, record);

	set(letter, STREAM, ObjectIdGetDatum(source->stream->relid));
	if (topic != NULL)
		set_text(letter, TOPIC, topic);
	set_text(letter, PARTITION, source->parts[rec->part].name);
	set(letter, OFFSET, Int64GetDatum(rec->offset));
	if (rec->has_timestamp)
		set(letter, RECORD_TIME, TimestampTzGetDatum(sx_record_time(rec)));
}

static void
set_content(Letter *letter, SxSource *source, int record)
{
	const SxRecord *rec = source->records[record];

	set_bytes(letter, KEY, sx_record_key(rec), rec->key_len);
	set_headers(letter, rec);
	if (source->ops->dead_value == NULL)
		set_value(letter, sx_record_value(rec), rec->value_len);
	else
	{
		StringInfoData buf;

		initStringInfo(&buf);
		source->ops->dead_value(source, record, &buf);
		set_value(letter, buf.data, buf.len);
	}
}

static void
save_letter(const SxPipeline *pl, const SxDeadRecord *dead)
{
	static const Oid types[NCOLUMNS] = {
		INT4OID, REGCLASSOID, REGCLASSOID, INT8OID, TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID,
		BYTEAOID, BYTEAOID, JSONBOID, BYTEAOID, TEXTOID, TEXTOID, BOOLOID, INT4OID, BYTEAOID,
		OIDARRAYOID, INT4OID
	};
	SxSource   *source = pl->inputs[dead->source].source;
	Letter		letter = {0};

	memset(letter.nulls, 'n', sizeof(letter.nulls));
	set(&letter, PIPELINE, Int32GetDatum(pl->id));
	if (dead->step >= 0)
		set(&letter, STEP, ObjectIdGetDatum(pl->steps[dead->step].relid));
	set(&letter, BATCH_ID, Int64GetDatum(pl->batch_id + 1));
	set(&letter, SQLSTATE, CStringGetTextDatum(unpack_sql_state(dead->sqlerrcode)));
	set_text(&letter, MESSAGE, dead->message);
	set(&letter, STEPS, step_oids(pl, owed_to(pl, dead)));
	set(&letter, ATTEMPT, Int32GetDatum(pl->replay == NULL ? 1 :
										pl->replay->attempts[dead->record] + 1));
	set_place(&letter, source, dead->record);
	set_content(&letter, source, dead->record);
	set(&letter, CUT, BoolGetDatum(letter.cut));
	sx_catalog_exec("INSERT INTO streamext.dead_letter (pipeline, stream, step, batch_id, topic, "
					"partition, \"offset\", record_time, key, value, headers, raw_headers, sqlstate, "
					"message, cut, value_size, value_sha256, steps, attempt) "
					"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, "
					"$17, $18::regclass[], $19)",
					NCOLUMNS, types, letter.values, letter.nulls);
}

/*
 * Letters for late rows are what the view asked for, whatever on_error says; and what was
 * a letter is none less when it fails again.
 */
bool
sx_becomes_letter(const SxPipeline *pl, const SxDeadRecord *dead)
{
	return dead->sqlerrcode == SX_ERRCODE_LATE || pl->replay != NULL ||
		strcmp(pl->on_error, "skip") != 0;
}

int64
sx_save_dead_letters(SxPipeline *pl)
{
	MemoryContext context;
	MemoryContext old;
	int64		saved = 0;
	ListCell   *lc;

	if (pl->dead == NIL)
		return 0;
	context = AllocSetContextCreate(CurrentMemoryContext, "streamext dead letter",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	foreach(lc, pl->dead)
	{
		if (!sx_becomes_letter(pl, lfirst(lc)))
			continue;
		save_letter(pl, lfirst(lc));
		saved++;
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return saved;
}
