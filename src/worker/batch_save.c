/*-------------------------------------------------------------------------
 *
 * batch_save.c
 *		The rows that a batch commits besides its output.
 *
 * A handful of statements whatever the number of partitions and steps: what belongs
 * to many goes as arrays.  Rows that did not change are not written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/sx_catalog.h"
#include "catalog/pg_type.h"
#include "fdw/track.h"
#include "streamext.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "worker/batch_internal.h"

#define PRUNE_EVERY		256		/* batches */

/* A column of rows to be handed over as one array argument. */
typedef struct Column
{
	Datum	   *values;
	bool	   *nulls;
	int			n;
} Column;

static void
column_init(Column *column, int room)
{
	column->values = palloc(sizeof(Datum) * Max(room, 1));
	column->nulls = palloc(sizeof(bool) * Max(room, 1));
	column->n = 0;
}

static void
column_add(Column *column, Datum value, bool isnull)
{
	column->values[column->n] = value;
	column->nulls[column->n++] = isnull;
}

static void
column_add_text(Column *column, const char *value)
{
	column_add(column, value ? CStringGetTextDatum(value) : (Datum) 0, value == NULL);
}

static void
column_add_time(Column *column, TimestampTz value)
{
	column_add(column, TimestampTzGetDatum(value), value == DT_NOBEGIN);
}

static Datum
column_array(const Column *column, Oid type)
{
	int			dims[] = {column->n};
	int			lower[] = {1};
	bool		text = type == TEXTOID;
	bool		byval = !text;
	int16		len = text ? -1 : type == BOOLOID ? 1 : type == OIDOID ? 4 : 8;
	char		align = len == 1 ? TYPALIGN_CHAR : len == 8 ? TYPALIGN_DOUBLE : TYPALIGN_INT;

	return PointerGetDatum(construct_md_array(column->values, column->nulls, 1, dims,
											  lower, type, len, byval, align));
}

/* Does something of this batch leave the database?  It must not before the commit is safe. */
static bool
has_leaving_rows(const SxPipeline *pl)
{
	for (int i = 0; i < pl->nsteps; i++)
	{
		if (pl->steps[i].plan->leaves)
			return true;
	}
	return false;
}

static void
commit_synchronously(void)
{
	if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		(void) set_config_option("synchronous_commit", "on", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

bool
sx_save_begin(SxPipeline *pl, bool positions_only)
{
	Oid			types[] = {INT4OID, INT4OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID};
	Datum		values[] = {
		Int32GetDatum(pl->id), Int32GetDatum(pl->slot), Int64GetDatum(pl->epoch),
		Int64GetDatum(pl->batch_id),
		Int64GetDatum(pl->batch_id + (positions_only ? 0 : 1)),
		TimestampTzGetDatum(pl->time)
	};
	char		nulls[] = {' ', ' ', ' ', ' ', ' ', ' '};

	/* Newly found positions must not be lost with an asynchronous commit, either. */
	if (positions_only || has_leaving_rows(pl))
		commit_synchronously();
	if (positions_only)
		nulls[5] = 'n';
	if (sx_catalog_exec("UPDATE streamext.progress "
						"SET batch_id = $5, batch_time = coalesce($6, batch_time), "
						"first_batch_time = coalesce(first_batch_time, $6) "
						"WHERE pipeline = $1 AND slot = $2 AND epoch = $3 AND batch_id = $4",
						6, types, values, nulls) == 1)
		return true;
	ereport(DEBUG1,
			(errmsg_internal("pipeline \"%s\" has another holder", pl->name)));
	return false;
}

/* ---------- positions ---------- */

static bool
part_changed(const SxInput *input, int p)
{
	const SxPart *part = &input->source->parts[p];

	return part->new_position != NULL || part->lag != part->saved_lag ||
		part->idle != part->saved_idle ||
		input->part_max[p] != part->max_event_time;
}

void
sx_save_watermark(SxPipeline *pl, SxInput *input)
{
	TimestampTz watermark = sx_input_new_watermark(input);
	Oid			types[] = {INT4OID, REGCLASSOID, TIMESTAMPTZOID, INT8OID};
	Datum		values[] = {
		Int32GetDatum(pl->id), ObjectIdGetDatum(input->source->stream->relid),
		TimestampTzGetDatum(watermark), Int64GetDatum(input->future_rows)
	};

	if (watermark == input->watermark && input->future_rows == 0)
		return;
	sx_catalog_exec("UPDATE streamext.source "
					"SET watermark = greatest(watermark, CASE WHEN isfinite($3) THEN $3 END), future_rows = future_rows + $4 "
					"WHERE pipeline = $1 AND stream = $2",
					4, types, values, NULL);
}

void
sx_save_positions(SxPipeline *pl)
{
	enum
	{
		STREAM, NAME, POSITION, TIME, ANCHOR, END, LAG, IDLE, ROWS, NCOLUMNS
	};
	static const Oid element[NCOLUMNS] = {
		OIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, INT8OID, BOOLOID, INT8OID
	};
	Oid			types[] = {
		INT4OID, OIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID,
		TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID, BOOLARRAYOID, INT8ARRAYOID, INT4OID
	};
	Datum		values[NCOLUMNS + 2];
	Column		columns[NCOLUMNS];
	int			room = 0;

	for (int i = 0; i < pl->ninputs; i++)
		room += pl->inputs[i].nparts;
	for (int c = 0; c < NCOLUMNS; c++)
		column_init(&columns[c], room);

	for (int i = 0; i < pl->ninputs; i++)
	{
		SxInput    *input = &pl->inputs[i];

		sx_save_watermark(pl, input);
		for (int p = 0; p < input->nparts; p++)
		{
			SxPart	   *part = &input->source->parts[p];

			if (!part_changed(input, p))
				continue;
			column_add(&columns[STREAM],
					   ObjectIdGetDatum(input->source->stream->relid), false);
			column_add_text(&columns[NAME], part->name);
			column_add_text(&columns[POSITION], part->new_position);
			column_add_time(&columns[TIME], input->part_max[p]);
			column_add_text(&columns[ANCHOR], part->anchor);
			column_add_text(&columns[END], part->end);
			column_add(&columns[LAG], Int64GetDatum(part->lag), part->lag < 0);
			column_add(&columns[IDLE], BoolGetDatum(part->idle), false);
			column_add(&columns[ROWS], Int64GetDatum(part->rows), false);
		}
	}
	if (columns[NAME].n == 0)
		return;

	values[0] = Int32GetDatum(pl->id);
	for (int c = 0; c < NCOLUMNS; c++)
		values[c + 1] = column_array(&columns[c], element[c]);
	values[NCOLUMNS + 1] = Int32GetDatum(pl->slot);
	sx_catalog_exec("INSERT INTO streamext.partition AS p "
					"(pipeline, stream, partition, position, max_event_time, anchor, end_position, lag, idle, rows, slot) "
					"SELECT $1, u.s::regclass, u.n, u.pos::jsonb, u.t, u.a::jsonb, u.e::jsonb, u.l, u.i, u.r, $11 "
					"FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10) u(s, n, pos, t, a, e, l, i, r) "
					"ON CONFLICT (pipeline, stream, partition) DO UPDATE "
					"SET position = coalesce(excluded.position, p.position), "
					"max_event_time = excluded.max_event_time, "
					"anchor = coalesce(excluded.anchor, p.anchor), "
					"end_position = coalesce(excluded.end_position, p.end_position), "
					"lag = excluded.lag, idle = excluded.idle, rows = p.rows + excluded.rows, "
					"slot = excluded.slot",
					NCOLUMNS + 2, types, values, NULL);
}

/* ---------- counters and history ---------- */

/* Counts the records that are out for this step: as letters, or skipped. */
static void
count_failures(const SxPipeline *pl, const SxStep *step, int64 *letters, int64 *skipped)
{
	ListCell   *lc;

	*letters = *skipped = 0;
	foreach(lc, pl->dead)
	{
		const SxDeadRecord *dead = lfirst(lc);

		if (!sx_failed_for(pl, dead, step->index) &&
			!(dead->sqlerrcode == SX_ERRCODE_LATE && dead->step == step->index))
			continue;
		if (sx_becomes_letter(pl, dead))
			(*letters)++;
		else
			(*skipped)++;
	}
}

static void
save_steps(SxPipeline *pl)
{
	enum
	{
		RELATION, WATERMARK, ROWS, LATE, NULLTIME, LETTERS, SKIPPED, EMIT, PENDING,
		ERRORS_FROM, ERRORS_NOW, ERRORS_BEFORE, NCOLUMNS
	};
	static const Oid element[NCOLUMNS] = {
		OIDOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, BOOLOID,
		TIMESTAMPTZOID, INT8OID, INT8OID
	};
	Oid			types[] = {
		OIDARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
		INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, BOOLARRAYOID,
		TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT4OID
	};
	Datum		values[NCOLUMNS + 1];
	Column		columns[NCOLUMNS];

	for (int c = 0; c < NCOLUMNS; c++)
		column_init(&columns[c], pl->nsteps);
	for (int i = 0; i < pl->nsteps; i++)
	{
		SxStep	   *step = &pl->steps[i];
		int64		letters;
		int64		skipped;

		if (step->plan->kind == SX_STEP_STREAM && step->plan->stateless)
			continue;
		count_failures(pl, step, &letters, &skipped);
		if (step->rows == 0 && step->late_rows == 0 && step->null_time_rows == 0 &&
			letters + skipped == 0 && step->new_watermark == step->watermark &&
			step->new_last_emit == step->last_emit && step->new_pending == step->pending)
			continue;
		column_add(&columns[RELATION], ObjectIdGetDatum(step->relid), false);
		column_add_time(&columns[WATERMARK], step->new_watermark);
		column_add(&columns[ROWS], Int64GetDatum(step->rows), false);
		column_add(&columns[LATE], Int64GetDatum(step->late_rows), false);
		column_add(&columns[NULLTIME], Int64GetDatum(step->null_time_rows), false);
		column_add(&columns[LETTERS], Int64GetDatum(letters), false);
		column_add(&columns[SKIPPED], Int64GetDatum(skipped), false);
		column_add_time(&columns[EMIT], step->new_last_emit);
		column_add(&columns[PENDING], BoolGetDatum(step->new_pending), false);
		column_add_time(&columns[ERRORS_FROM], step->new_errors_from);
		column_add(&columns[ERRORS_NOW], Int64GetDatum(step->new_errors_now), false);
		column_add(&columns[ERRORS_BEFORE], Int64GetDatum(step->new_errors_before), false);
	}
	if (columns[RELATION].n == 0)
		return;

	for (int c = 0; c < NCOLUMNS; c++)
		values[c] = column_array(&columns[c], element[c]);
	values[NCOLUMNS] = Int32GetDatum(pl->slot);
	sx_catalog_exec("UPDATE streamext.step_progress p "
					"SET watermark = u.w, rows = p.rows + u.r, late_rows = p.late_rows + u.l, "
					"null_time_rows = p.null_time_rows + u.n, "
					"dead_letters = p.dead_letters + u.d, skipped_rows = p.skipped_rows + u.k, "
					"last_emit = u.e, pending = u.p, "
					"errors_from = u.ef, errors_now = u.en, errors_before = u.eb "
					"FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) "
					"u(s, w, r, l, n, d, k, e, p, ef, en, eb) "
					"WHERE p.relation = u.s::regclass AND p.slot = $13",
					NCOLUMNS + 1, types, values, NULL);
}

static void
prune_history(const SxPipeline *pl)
{
	Oid			types[] = {INT4OID, INT8OID, INT4OID};
	Datum		values[] = {
		Int32GetDatum(pl->id), Int64GetDatum(pl->batch_id + 1 - sx_batch_history),
		Int32GetDatum(pl->slot)
	};

	if ((pl->batch_id + 1) % PRUNE_EVERY == 0)
		sx_catalog_exec("DELETE FROM streamext.batch WHERE pipeline = $1 AND slot = $3 AND batch_id <= $2",
						lengthof(types), types, values, NULL);
}

void
sx_save_batch(SxPipeline *pl, const SxBatchResult *result, TimestampTz started)
{
	Oid			types[] = {
		INT4OID, INT4OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID,
		INT8OID, FLOAT4OID, FLOAT4OID, FLOAT4OID, FLOAT4OID
	};
	Datum		values[] = {
		Int32GetDatum(pl->id), Int32GetDatum(pl->slot), Int64GetDatum(pl->batch_id + 1),
		TimestampTzGetDatum(pl->time), TimestampTzGetDatum(started),
		Int64GetDatum(result->rows), Int64GetDatum(result->bytes),
		Int64GetDatum(result->dead_letters),
		Float4GetDatum(pl->poll_us / 1000.0f), Float4GetDatum(result->load_us / 1000.0f),
		Float4GetDatum(result->steps_us / 1000.0f), Float4GetDatum((float4) pl->last_commit_ms)
	};

	save_steps(pl);
	sx_catalog_exec("INSERT INTO streamext.batch (pipeline, slot, batch_id, batch_time, started_at, "
					"rows, bytes, dead_letters, poll_ms, load_ms, steps_ms, commit_ms) "
					"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
					lengthof(types), types, values, NULL);
	prune_history(pl);
}
