/*-------------------------------------------------------------------------
 *
 * replay.c
 *		Batches of dead letters: feeding failed records again.
 *
 *		replay_dead_letters()		marks letters, wakes the pipeline
 *		next batch, if there are any:
 *			load	letters of one kind: of one stream, owed to the same steps
 *			steps	all run, as in any batch; only those that are owed the records, and
 *					what these read for themselves, see them
 *			save	the letters go, in the batch's transaction.  What fails again is a
 *					new letter, with one more attempt
 *		and so on until none is marked any more; then the sources' own records
 *
 * For such a batch each input has a source of this file in the place of its own, which
 * keeps what it has polled.  A record is what it was: partition, offset, time, key and
 * headers.  Sources whose records are rows get them from the JSON of the letter, by name,
 * so that columns added since are NULL.
 *
 * Exactly once: letters are deleted with what was made of them.  The records of an attempt
 * are those of the attempt before; when somebody deletes one meanwhile, the delete finds
 * too few, and the batch begins anew.  Steps may have moved to another pipeline since: each
 * pipeline feeds its own steps and strikes them off the letter.  A stream without state runs
 * in several pipelines, each with letters of its own, so there the pipeline counts.
 *
 * No position and no watermark moves.  The limits of errors do not hold, and on_error does
 * not: these records are known to be bad.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "funcapi.h"
#include "nodes/makefuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/batch_internal.h"

/* A source whose records are letters. */
typedef struct LetterSource
{
	SxSource	base;
	SxSource   *live;
	char	  **topics;			/* by record; NULL: that of the part */
	text	  **rows;			/* by record, for sources with rows: JSON */
	FmgrInfo   *populate;		/* … and what reads it */
} LetterSource;

/* What the first letter that is waiting is about. */
typedef struct Kind
{
	Oid			stream;			/* InvalidOid: none is waiting */
	int			pipeline;
	ArrayType  *steps;
} Kind;

typedef struct Loading
{
	SxReplay   *replay;
	LetterSource *source;
} Loading;

/* ---------- the source ---------- */

static void
do_nothing(SxSource *source)
{
}

static void
keep_records(SxSource *source, Snapshot snapshot)
{
}

static const char *
letter_topic(SxSource *source, int i)
{
	LetterSource *ls = (LetterSource *) source;

	return ls->topics[i] != NULL ? ls->topics[i] : source->parts[source->records[i]->part].topic;
}

/* The row as the letter has it. */
static void
letter_row_text(SxSource *source, int i, StringInfo buf)
{
	text	   *row = ((LetterSource *) source)->rows[i];

	if (row != NULL)
		appendBinaryStringInfo(buf, VARDATA_ANY(row), VARSIZE_ANY_EXHDR(row));
}

static const SxSourceOps bytes_ops = {
	.connector = "dead letters",
	.load = keep_records,
	.committed = do_nothing,
	.close = do_nothing,
	.record_topic = letter_topic
};

static const SxSourceOps rows_ops = {
	.connector = "dead letters",
	.load = keep_records,
	.committed = do_nothing,
	.close = do_nothing,
	.dead_value = letter_row_text,
	.record_topic = letter_topic
};

/* json_populate_record() learns its row type from the expression that calls it. */
static FmgrInfo *
make_populate(Oid stream)
{
	FmgrInfo   *flinfo = palloc(sizeof(FmgrInfo));
	Oid			type = get_rel_type_id(stream);

	fmgr_info(F_JSON_POPULATE_RECORD, flinfo);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_JSON_POPULATE_RECORD, type,
											 list_make3(makeNullConst(type, -1, InvalidOid),
														makeNullConst(JSONOID, -1, InvalidOid),
														makeBoolConst(false, false)),
											 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL),
					   flinfo);
	return flinfo;
}

/* May fail, as decoding may: the column's type may have changed since. */
static void
letter_row(SxSource *source, int i, Datum *values, bool *isnull)
{
	LetterSource *ls = (LetterSource *) source;
	TupleDesc	desc = source->stream->tupdesc;
	HeapTupleHeader header;
	HeapTupleData tuple;
	Datum		row;

	LOCAL_FCINFO(fcinfo, 3);

	if (ls->rows[i] == NULL)
	{
		memset(isnull, true, sizeof(bool) * desc->natts);
		return;
	}
	InitFunctionCallInfoData(*fcinfo, ls->populate, 3, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = (Datum) 0;
	fcinfo->args[0].isnull = true;
	fcinfo->args[1].value = PointerGetDatum(ls->rows[i]);
	fcinfo->args[1].isnull = false;
	fcinfo->args[2].value = BoolGetDatum(false);
	fcinfo->args[2].isnull = false;
	row = FunctionCallInvoke(fcinfo);
	if (fcinfo->isnull)
		elog(ERROR, "a dead letter gave no row");
	header = DatumGetHeapTupleHeader(row);
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	heap_deform_tuple(&tuple, desc, values, isnull);
}

static SxSource *
create_source(SxPipeline *pl, SxSource *live)
{
	LetterSource *ls = palloc0(sizeof(LetterSource));

	ls->live = live;
	ls->base.ops = live->get_row != NULL ? &rows_ops : &bytes_ops;
	ls->base.get_row = live->get_row != NULL ? letter_row : NULL;
	ls->base.check_rows = live->check_rows;
	ls->base.stream = live->stream;
	ls->base.pipeline = live->pipeline;
	ls->base.context = CurrentMemoryContext;
	return &ls->base;
}

/* ---------- which letters ---------- */

static void
take_kind(HeapTuple row, TupleDesc desc, void *arg)
{
	Kind	   *kind = arg;
	bool		isnull;

	kind->stream = sx_row_oid(row, desc, 1);
	kind->pipeline = (int) sx_row_int(row, desc, 2, 0);
	kind->steps = DatumGetArrayTypePCopy(SPI_getbinval(row, desc, 3, &isnull));
}

static Datum
oid_array(const Oid *oids, int n)
{
	Datum	   *datums = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		datums[i] = ObjectIdGetDatum(oids[i]);
	return PointerGetDatum(construct_array(datums, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

static Kind
first_kind(const SxPipeline *pl)
{
	Oid		   *streams = palloc(sizeof(Oid) * Max(pl->ninputs, 1));
	Oid		   *mine = palloc(sizeof(Oid) * Max(pl->nsteps, 1));
	Oid		   *shared = palloc(sizeof(Oid) * Max(pl->nsteps, 1));
	int			nmine = 0;
	int			nshared = 0;
	Kind		kind = {InvalidOid};
	Datum		values[4];

	for (int i = 0; i < pl->ninputs; i++)
		streams[i] = pl->inputs[i].source->stream->relid;
	for (int i = 0; i < pl->nsteps; i++)
	{
		if (pl->steps[i].plan->stateless)
			shared[nshared++] = pl->steps[i].relid;
		else
			mine[nmine++] = pl->steps[i].relid;
	}
	values[0] = Int32GetDatum(pl->id);
	values[1] = oid_array(streams, pl->ninputs);
	values[2] = oid_array(mine, nmine);
	values[3] = oid_array(shared, nshared);
	sx_catalog_rows("SELECT stream::oid, pipeline, steps::oid[] FROM streamext.dead_letter "
					"WHERE replay AND stream::oid = ANY ($2) "
					"AND (steps::oid[] && $3 OR pipeline = $1 AND steps::oid[] && $4) "
					"ORDER BY id LIMIT 1",
					SX_ARGS(INT4OID, OIDARRAYOID, OIDARRAYOID, OIDARRAYOID), values, NULL,
					take_kind, &kind);
	return kind;
}

static bool
is_owed(const SxPipeline *pl, const Kind *kind, const SxStep *step)
{
	const Oid  *oids = (const Oid *) ARR_DATA_PTR(kind->steps);
	int			n = ArrayGetNItems(ARR_NDIM(kind->steps), ARR_DIMS(kind->steps));

	for (int i = 0; i < n; i++)
	{
		if (oids[i] == step->relid)
			return !step->plan->stateless || kind->pipeline == pl->id;
	}
	return false;
}

bool
sx_replay_waiting(int pipeline)
{
	Datum		values[] = {Int32GetDatum(pipeline)};

	return sx_catalog_exec("SELECT FROM streamext.dead_letter d WHERE d.replay AND (d.pipeline = $1 "
						   "OR EXISTS (SELECT FROM streamext.step s WHERE s.pipeline = $1 "
						   "           AND s.relation::oid = ANY (d.steps::oid[]))) LIMIT 1",
						   SX_ARGS(INT4OID), values, NULL) > 0;
}

/* ---------- loading ---------- */

/* A column of bytes; NULL with *len -1 when it is null. */
static const char *
row_bytes(HeapTuple row, TupleDesc desc, int column, int *len)
{
	bool		isnull;
	Datum		value = SPI_getbinval(row, desc, column, &isnull);
	bytea	   *bytes;

	*len = -1;
	if (isnull)
		return NULL;
	bytes = DatumGetByteaPP(value);
	*len = VARSIZE_ANY_EXHDR(bytes);
	return VARDATA_ANY(bytes);
}

static char *
put_bytes(char *room, const char *data, int len)
{
	if (len > 0)
		memcpy(room, data, len);
	return room + Max(len, 0);
}

/* The partition of a record: as the source has it, or else as its name says. */
static int
find_part(LetterSource *ls, const char *name, const char *topic)
{
	SxSource   *source = &ls->base;
	const char *slash = strrchr(name, '/');
	SxPart	   *part;

	for (int i = 0; i < source->nparts; i++)
	{
		if (strcmp(source->parts[i].name, name) == 0)
			return i;
	}
	source->parts = source->nparts == 0 ? palloc(sizeof(SxPart)) :
		repalloc(source->parts, sizeof(SxPart) * (source->nparts + 1));
	part = &source->parts[source->nparts];
	memset(part, 0, sizeof(SxPart));
	part->name = pstrdup(name);
	part->topic = topic ? pstrdup(topic) : NULL;
	part->number = atoi(slash != NULL ? slash + 1 : name);
	part->max_event_time = DT_NOBEGIN;
	for (int i = 0; i < ls->live->nparts; i++)
	{
		if (strcmp(ls->live->parts[i].name, name) == 0)
			part->number = ls->live->parts[i].number;
	}
	return source->nparts++;
}

/* Called in the context of the letters. */
static void
take_letter(HeapTuple row, TupleDesc desc, void *arg)
{
	Loading    *loading = arg;
	SxReplay   *replay = loading->replay;
	LetterSource *ls = loading->source;
	int			i = ls->base.nrecords++;
	int			value_len;
	int			key_len;
	int			headers_len;
	const char *value = row_bytes(row, desc, 8, &value_len);
	const char *key = row_bytes(row, desc, 7, &key_len);
	const char *headers = row_bytes(row, desc, 9, &headers_len);
	TimestampTz time = sx_row_time(row, desc, 6);
	char	   *topic = sx_row_text(row, desc, 4);
	SxRecord   *rec;
	char	   *room;

	replay->ids[i] = sx_row_int(row, desc, 1, 0);
	replay->attempts[i] = (int) sx_row_int(row, desc, 2, 1);
	ls->topics[i] = topic;
	ls->rows[i] = NULL;
	if (ls->base.get_row != NULL)
	{
		ls->rows[i] = value == NULL ? NULL : cstring_to_text_with_len(value, value_len);
		value_len = -1;
	}

	rec = palloc0(sx_record_size(value_len, key_len, headers_len) + SX_RECORD_SLACK);
	rec->size = sx_record_size(value_len, key_len, headers_len);
	rec->kind = SX_RECORD_DATA;
	rec->part = find_part(ls, sx_row_text(row, desc, 3), topic);
	rec->offset = sx_row_int(row, desc, 5, 0);
	rec->has_timestamp = time != DT_NOBEGIN;
	rec->timestamp = rec->has_timestamp ? sx_unix_ms(time) : 0;
	rec->value_len = value_len;
	rec->key_len = key_len;
	rec->headers_len = Max(headers_len, 0);
	room = put_bytes((char *) (rec + 1), value, value_len);
	room = put_bytes(room, key, key_len);
	put_bytes(room, headers, headers_len);
	ls->base.records[i] = rec;
	ls->base.nbytes += Max(value_len, 0) + Max(key_len, 0);
}

static void
load_letters(SxPipeline *pl, const Kind *kind)
{
	SxReplay   *replay = pl->replay;
	LetterSource *ls = (LetterSource *) pl->inputs[replay->input].source;
	Loading		loading = {replay, ls};
	int			room = (int) Min(pl->max_rows, 10000);
	Datum		values[] = {
		ObjectIdGetDatum(kind->stream), Int32GetDatum(kind->pipeline),
		PointerGetDatum(kind->steps), Int32GetDatum(room), Int64GetDatum(pl->max_bytes)
	};

	replay->ids = palloc(sizeof(int64) * room);
	replay->attempts = palloc(sizeof(int) * room);
	ls->topics = palloc(sizeof(char *) * room);
	ls->rows = palloc(sizeof(text *) * room);
	ls->base.records = palloc(sizeof(SxRecord *) * room);
	if (ls->base.get_row != NULL)
		ls->populate = make_populate(kind->stream);
	sx_catalog_rows("SELECT id, attempt, partition, topic, \"offset\", record_time, key, value, raw_headers "
					"FROM streamext.dead_letter "
					"WHERE replay AND id IN (SELECT s.id FROM ("
					"  SELECT x.id, x.size, sum(x.size) OVER (ORDER BY x.id) AS upto FROM ("
					"    SELECT d.id, coalesce(octet_length(d.value), 0) + coalesce(octet_length(d.key), 0) AS size "
					"    FROM streamext.dead_letter d "
					"    WHERE d.replay AND d.stream = $1 AND d.pipeline = $2 AND d.steps::oid[] = $3 "
					"    ORDER BY d.id LIMIT $4) x) s "
					"  WHERE s.upto - s.size < $5) "
					"ORDER BY id FOR UPDATE",
					SX_ARGS(REGCLASSOID, INT4OID, OIDARRAYOID, INT4OID, INT8OID), values, NULL,
					take_letter, &loading);
	replay->n = ls->base.nrecords;
}

/* After the first time it is the same letters, which sx_replay_save() makes sure of. */
bool
sx_replay_load(SxPipeline *pl)
{
	SxReplay   *replay = pl->replay;
	MemoryContext old;
	Kind		kind;

	if (replay->n > 0)
		return true;
	old = MemoryContextSwitchTo(replay->context);
	kind = first_kind(pl);
	if (OidIsValid(kind.stream))
	{
		while (pl->inputs[replay->input].source->stream->relid != kind.stream)
			replay->input++;
		for (int i = 0; i < pl->nsteps; i++)
		{
			if (is_owed(pl, &kind, &pl->steps[i]))
				replay->fed = bms_add_member(replay->fed, i);
		}
		load_letters(pl, &kind);
	}
	MemoryContextSwitchTo(old);
	return replay->n > 0;
}

/* ---------- a batch ---------- */

void
sx_replay_begin(SxPipeline *pl)
{
	MemoryContext context = AllocSetContextCreate(pl->context, "streamext dead letters",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SxReplay   *replay = palloc0(sizeof(SxReplay));

	replay->context = context;
	for (int i = 0; i < pl->ninputs; i++)
	{
		SxInput    *input = &pl->inputs[i];
		SxSource   *letters = create_source(pl, input->source);

		input->live = input->source;
		input->source = letters;
	}
	pl->replay = replay;
	MemoryContextSwitchTo(old);
}

void
sx_replay_end(SxPipeline *pl)
{
	MemoryContext context = pl->replay->context;

	for (int i = 0; i < pl->ninputs; i++)
	{
		SxInput    *input = &pl->inputs[i];

		input->source = input->live;
		input->live = NULL;
		input->nparts = 0;
		input->part_max = NULL;
	}
	pl->replay = NULL;
	pl->feeding = false;
	pl->dead = NIL;
	MemoryContextDelete(context);
}

/* The letters were fed: they go, unless another pipeline has steps to feed with them. */
void
sx_replay_save(SxPipeline *pl)
{
	SxReplay   *replay = pl->replay;
	Datum	   *ids = palloc(sizeof(Datum) * replay->n);
	Oid		   *fed = palloc(sizeof(Oid) * Max(pl->nsteps, 1));
	int			nfed = 0;
	int			step = -1;
	Datum		values[2];
	uint64		n;

	for (int i = 0; i < replay->n; i++)
		ids[i] = Int64GetDatum(replay->ids[i]);
	while ((step = bms_next_member(replay->fed, step)) >= 0)
		fed[nfed++] = pl->steps[step].relid;
	values[0] = PointerGetDatum(construct_array(ids, replay->n, INT8OID, sizeof(int64),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[1] = oid_array(fed, nfed);
	n = sx_catalog_exec("DELETE FROM streamext.dead_letter "
						"WHERE replay AND id = ANY ($1) AND steps::oid[] <@ $2",
						SX_ARGS(INT8ARRAYOID, OIDARRAYOID), values, NULL);
	n += sx_catalog_exec("UPDATE streamext.dead_letter "
						 "SET steps = ARRAY (SELECT s::regclass FROM unnest(steps::oid[]) s WHERE s <> ALL ($2)) "
						 "WHERE replay AND id = ANY ($1) AND NOT steps::oid[] <@ $2",
						 SX_ARGS(INT8ARRAYOID, OIDARRAYOID), values, NULL);
	if (n != replay->n)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("dead letters of pipeline \"%s\" were deleted while they were fed", pl->name),
				 errdetail("The others are fed again.")));
}
