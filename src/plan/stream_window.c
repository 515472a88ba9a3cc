/*-------------------------------------------------------------------------
 *
 * stream_window.c
 *		CREATE STREAM w WITH (window = …, slide = …) AS SELECT …
 *
 * Such a stream holds its query's rows of the last batches.  They are kept in
 * streamext_state.<w>, the query's columns and the id of the batch, which anybody may
 * read.  state/arrival_window.c says when a window fires and what is in it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "fdw/stream.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "plan/plan_internal.h"
#include "plan/stream_def.h"

/* ---------- checks ---------- */

static void
refuse_mixed(const char *a, const char *b)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s and %s cannot be mixed", a, b),
			 errhint("Give all of them as a number of batches, or all as an interval.")));
}

static void
require_multiple(const char *option, SxSpan span, SxSpan of, const char *what)
{
	if (span.n % of.n == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" must be a multiple of %s", option, what),
			 errdetail("It is %s, and that is %s.", sx_span_text(span), sx_span_text(of)),
			 errhint("Give %s or a multiple of it.", sx_span_text(of))));
}

/* Sources of the pipelines that read the sources behind a query. */
static List *
sources_of_pipelines(List *streams)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, streams)
	{
		Oid			types[] = {REGCLASSOID};
		Datum		values[] = {ObjectIdGetDatum(lfirst_oid(lc))};

		sx_catalog_rows("SELECT DISTINCT b.stream::oid FROM streamext.source a JOIN streamext.source b "
						"USING (pipeline) WHERE a.stream = $1",
						1, types, values, NULL, sx_collect_oid, &result);
	}
	return list_concat_unique_oid(result, streams);
}

static void
check_batch_interval(const char *option, SxSpan span, List *streams)
{
	ListCell   *lc;

	if (span.batches)
		return;
	foreach(lc, sources_of_pipelines(streams))
	{
		const char *value = sx_stream_option(sx_stream_load(lfirst_oid(lc)),
											 "batch_interval", NULL);
		SxSpan		interval = {false, 0};

		if (value != NULL)
			interval.n = sx_interval_option_usec("batch_interval", value);
		if (interval.n > 0)
			require_multiple(option, span, interval,
							 psprintf("batch_interval of stream %s",
									  sx_qualified_name(lfirst_oid(lc))));
	}
}

void
sx_check_window_options(List *options)
{
	if (sx_option(options, "slide") != NULL && sx_option(options, "window") == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"slide\" needs option \"window\""),
				 errhint("Say how long the window is: WITH (window = '3 batches', slide = '2 batches').")));
}

static void
check_span(const char *option, SxSpan span, SxSlide parent, const SxReads *reads)
{
	if (!parent.every)
	{
		if (span.batches != parent.span.batches)
			refuse_mixed(psprintf("option \"%s\"", option), "the slide of the windowed stream that is read");
		require_multiple(option, span, parent.span, "the slide of the windowed stream that is read");
	}
	check_batch_interval(option, span, reads->streams);
}

static void
check_spans(const SxStreamDef *def)
{
	SxSlide		parent = sx_reads_slide(&def->reads);
	const char *slide = sx_option(def->options, "slide");
	SxSpan		window = sx_span_option("window", sx_option(def->options, "window"));

	check_span("window", window, parent, &def->reads);
	if (slide == NULL)
		return;
	if (window.batches != sx_span_option("slide", slide).batches)
		refuse_mixed("option \"window\"", "option \"slide\"");
	check_span("slide", sx_span_option("slide", slide), parent, &def->reads);
}

/* ---------- definition ---------- */

static void
define_window(SxStreamDef *def)
{
	List	   *columns = sx_query_column_defs(def->query);

	check_spans(def);
	if (sx_find_column_def(columns, SX_WINDOW_BATCH) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_COLUMN),
				 errmsg("a windowed stream cannot have a column \"%s\"", SX_WINDOW_BATCH),
				 errdetail("The table that keeps its rows has a column of this name."),
				 errhint("Give the column another name with AS.")));
	def->state_columns = lappend(columns, makeColumnDef(SX_WINDOW_BATCH, INT8OID, -1, InvalidOid));
	llast_node(ColumnDef, def->state_columns)->is_not_null = true;
	def->state_indexes = list_make1("(" SX_WINDOW_BATCH ")");
	def->state_is_queue = true;
}

static void
plan_window(SxStepPlan *plan, Query *query)
{
	SxReads		reads = sx_query_reads(query, plan->options);
	SxSlide		slide = sx_slide_of(plan->options, &reads);
	SxSpan		window = sx_span_option("window", sx_option(plan->options, "window"));

	plan->window = palloc0(sizeof(SxWindowSpec));
	plan->window->batches = window.batches;
	plan->window->length = window.n;
	plan->window->slide = slide.every || slide.span.batches != window.batches ? 0 : slide.span.n;
	if (window.batches && plan->window->slide == 0)
		plan->window->slide = 1;
	plan->reason = psprintf("the rows of the last %s, %s", sx_span_text(window),
							sx_slide_text(slide));
}

const SxStreamKind sx_kind_window = {
	.option = "window",
	.name = "window",
	.strategy = SX_STRATEGY_WINDOW,
	.define = define_window,
	.plan = plan_window
};

/* ---------- SQL ---------- */

/* The columns of the stream by their names in the state table, which has one more. */
static char *
kept_columns(Oid state)
{
	StringInfoData sql;
	AttrNumber	n = get_attnum(state, SX_WINDOW_BATCH);

	initStringInfo(&sql);
	for (AttrNumber i = 1; i < n; i++)
		appendStringInfo(&sql, "%s%s", i > 1 ? ", " : "",
						 quote_identifier(get_attname(state, i, false)));
	return sql.data;
}

void
sx_window_sql(SxStepPlan *plan)
{
	const char *state = sx_qualified_name(plan->state);

	plan->window->fill_sql = psprintf("SELECT %s\nFROM %s\nWHERE %s BETWEEN $1 AND $2\nORDER BY %s, ctid",
									  kept_columns(plan->state), state, SX_WINDOW_BATCH,
									  SX_WINDOW_BATCH);
	plan->window->trim_sql = psprintf("DELETE FROM %s\nWHERE %s > $1 AND %s <= $2", state,
									  SX_WINDOW_BATCH, SX_WINDOW_BATCH);
	plan->apply_sql = psprintf("INSERT INTO %s\nSELECT d.*, $1\nFROM %s d", state,
							   sx_qualified_name(plan->query));
}

/* ---------- outside a batch ---------- */

static void
collect_range(HeapTuple row, TupleDesc desc, void *arg)
{
	int64	   *range = arg;

	range[0] = sx_row_int(row, desc, 1, 1);
	range[1] = sx_row_int(row, desc, 2, 0);
}

char *
sx_window_peek_sql(const SxStepPlan *plan)
{
	Oid			types[] = {REGCLASSOID, INT8OID, INT8OID};
	Datum		values[] = {
		ObjectIdGetDatum(plan->relid), Int64GetDatum(plan->window->length),
		Int64GetDatum(plan->window->slide)
	};
	int64		range[2] = {1, 0};

	sx_catalog_rows(plan->window->batches ?
					"SELECT l.id - $2 + 1, l.id FROM streamext.step s "
					"JOIN streamext.progress g ON g.pipeline = s.pipeline AND g.slot = 0 "
					"CROSS JOIN LATERAL (SELECT g.batch_id / $3 * $3) l(id) WHERE s.relation = $1" :
					"SELECT min(b.batch_id), max(b.batch_id) FROM streamext.step_progress p "
					"JOIN streamext.window_batch b USING (relation) "
					"WHERE p.relation = $1 AND $3 IS NOT NULL AND b.batch_time <= p.last_emit "
					"AND b.batch_time > p.last_emit - $2 * interval '1 microsecond'",
					3, types, values, NULL, collect_range, range);
	return psprintf("SELECT %s\nFROM %s\nWHERE %s BETWEEN " INT64_FORMAT " AND " INT64_FORMAT
					"\nORDER BY %s, ctid",
					kept_columns(plan->state), sx_qualified_name(plan->state),
					SX_WINDOW_BATCH, range[0], range[1], SX_WINDOW_BATCH);
}
