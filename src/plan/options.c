/*-------------------------------------------------------------------------
 *
 * options.c
 *		What stands in the WITH of a continuous view, and which of it fits.
 *
 * Names and values were checked when the statement was read (ddl/options.c); here
 * they get their meaning, and are held against the query: lateness, closing and
 * retention are known to windows over the event time only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#include "ddl/ddl.h"
#include "fdw/stream.h"
#include "plan/plan_internal.h"

/* ---------- as jsonb, in streamext.step.options ---------- */

char *
sx_options_to_json(List *options)
{
	StringInfoData json;
	ListCell   *lc;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (json.len > 1)
			appendStringInfoString(&json, ", ");
		escape_json(&json, option->defname);
		appendStringInfoString(&json, ": ");
		escape_json(&json, strVal(option->arg));
	}
	appendStringInfoChar(&json, '}');
	return json.data;
}

List *
sx_options_from_json(const char *json)
{
	Jsonb	   *jb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
	JsonbIterator *it = JsonbIteratorInit(&jb->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *name = NULL;
	List	   *options = NIL;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE && value.type == jbvString)
			options = lappend(options,
							  makeDefElem(name,
										  (Node *) makeString(pnstrdup(value.val.string.val,
																	   value.val.string.len)),
										  -1));
	}
	return options;
}

/* ---------- meaning ---------- */

const char *
sx_emit_name(SxEmit emit)
{
	switch (emit)
	{
		case SX_EMIT_CHANGES:
			return "changes";
		case SX_EMIT_FINAL:
			return "final";
		case SX_EMIT_INTERVAL:
			return "interval";
	}
	return NULL;
}

const char *
sx_late_name(SxLate late)
{
	switch (late)
	{
		case SX_LATE_UPDATE:
			return "update";
		case SX_LATE_DROP:
			return "drop";
		case SX_LATE_DEAD_LETTER:
			return "dead_letter";
	}
	return NULL;
}

static void
read_emit(SxViewOptions *result, const char *emit)
{
	if (emit == NULL || strcmp(emit, "changes") == 0)
		result->emit = SX_EMIT_CHANGES;
	else if (strcmp(emit, "final") == 0)
		result->emit = SX_EMIT_FINAL;
	else
	{
		result->emit = SX_EMIT_INTERVAL;
		result->emit_interval = sx_interval_option_usec("emit", emit);
	}
}

static void
read_late(SxViewOptions *result, const char *late)
{
	if (late == NULL)
		result->late = result->emit == SX_EMIT_FINAL ? SX_LATE_DROP : SX_LATE_UPDATE;
	else if (strcmp(late, "drop") == 0)
		result->late = SX_LATE_DROP;
	else if (strcmp(late, "dead_letter") == 0)
		result->late = SX_LATE_DEAD_LETTER;
	else
		result->late = SX_LATE_UPDATE;
}

SxViewOptions *
sx_view_options(List *options)
{
	SxViewOptions *result = palloc0(sizeof(SxViewOptions));
	const char *retention = sx_option(options, "retention");
	const char *ttl = sx_option(options, "state_ttl");
	const char *backfill = sx_option(options, "backfill");

	read_emit(result, sx_option(options, "emit"));
	result->late_given = sx_option(options, "late") != NULL;
	read_late(result, sx_option(options, "late"));
	result->retention = retention == NULL ? -1 :
		sx_interval_option_usec("retention", retention);
	result->state_ttl = ttl == NULL ? 0 : sx_interval_option_usec("state_ttl", ttl);
	result->backfill = true;
	if (backfill != NULL)
		(void) parse_bool(backfill, &result->backfill);
	result->pipeline = sx_option(options, "pipeline");
	result->evict = sx_option(options, SX_EVICT_OPTION);
	result->on_time = sx_option(options, SX_ON_TIME_OPTION);
	result->only = sx_option(options, SX_ONLY_OPTION);
	result->json = sx_options_to_json(options);
	return result;
}

/* ---------- against the query ---------- */

static bool
all_have_watermark(List *streams)
{
	ListCell   *lc;

	foreach(lc, streams)
	{
		if (!sx_stream_load(lfirst_oid(lc))->has_watermark)
			return false;
	}
	return true;
}

static void
refuse_option(const char *option, const char *problem, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s %s", option, problem),
			 errhint("%s", hint)));
}

/* What it forgets, a query over nodes could not know; a window has retention. */
static void
check_ttl(const SxViewOptions *options, const SxLayout *layout)
{
	if (options->state_ttl == 0)
		return;
	if (layout->strategy != SX_STRATEGY_MERGE ||
		((SxStateColumn *) linitial(layout->columns))->kind == SX_COLUMN_ONLY)
		refuse_option("option \"state_ttl\"", "needs GROUP BY with aggregates that are merged",
					  "Group by the key that shall be forgotten; for other queries a window over the event time bounds what is kept.");
	if (layout->windowed)
		refuse_option("option \"state_ttl\"", "is not for groups by a window over the event time",
					  "Use option retention: it goes by the watermark.");
	if (options->emit != SX_EMIT_CHANGES)
		refuse_option("option \"state_ttl\"", "cannot be combined with emit = interval",
					  "Leave emit out.");
}

void
sx_check_view_options(const SxViewOptions *options, const SxLayout *layout, List *streams)
{
	const char *option = options->emit == SX_EMIT_FINAL ? "emit = 'final'" :
		options->retention >= 0 ? "option \"retention\"" :
		options->late_given && options->late != SX_LATE_UPDATE ? "option \"late\"" : NULL;

	if (options->emit == SX_EMIT_INTERVAL && layout->strategy != SX_STRATEGY_APPEND &&
		layout->strategy != SX_STRATEGY_MERGE && layout->strategy != SX_STRATEGY_DISTINCT)
		refuse_option("emit", "cannot be an interval for this query, which is not kept by merging",
					  "Use emit = 'changes'.");
	if (option != NULL && !layout->windowed && layout->strategy != SX_STRATEGY_JOIN &&
		options->on_time == NULL)
		refuse_option(option, "needs a window over the event time",
					  "Group by tumble(), hop(), date_bin() or date_trunc() of the unchanged column that the stream names in event_time.");
	if (option != NULL && !all_have_watermark(streams))
		refuse_option(option, "needs a watermark on every stream that the view reads",
					  "Say how long to wait for late events: ALTER STREAM … OPTIONS (ADD watermark '10 seconds').");
	check_ttl(options, layout);
	if (options->emit == SX_EMIT_FINAL && options->late == SX_LATE_UPDATE)
		refuse_option("late = 'update'", "cannot be combined with emit = 'final'",
					  "A window that was given out does not change: use late = 'drop' or 'dead_letter', or emit = 'changes'.");
}
