/*-------------------------------------------------------------------------
 *
 * registry.c
 *		Which relation is a stream, a view or a sink, and in which pipeline.
 *
 * A source stream makes its pipeline, or joins the one that its option names.  A
 * view or sink (a "step") joins the pipeline that all its streams share; streams of
 * different pipelines make a new one that reads each of them from its start.  When its
 * pipeline has read some of them already, a step begins in a lane (worker/lane.c).
 *
 * Whatever changes what a pipeline runs starts a new epoch of its progress row.
 * The row lock makes the change wait for the running batch, and the batch that a
 * worker begins before the change has committed finds another epoch and lets go:
 * so a view sees every batch from its first on, and none after it was dropped.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "fdw/stream.h"
#include "miscadmin.h"
#include "plan/plan.h"
#include "source/rights.h"
#include "source/source.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"
#include "worker/lane.h"
#include "worker/rate.h"
#include "worker/worker.h"

static int
create_pipeline(const char *name, Oid owner, bool paused)
{
	Datum		values[] = {
		CStringGetTextDatum(name), ObjectIdGetDatum(owner),
		CStringGetTextDatum(paused ? "paused" : "running")
	};
	bool		isnull;
	int			id = DatumGetInt32(
								   sx_catalog_value("INSERT INTO streamext.pipeline (name, owner, state) "
													"VALUES ($1, $2, $3) RETURNING id",
													SX_ARGS(TEXTOID, REGROLEOID, TEXTOID),
													values, NULL, &isnull));
	Datum		progress[] = {Int32GetDatum(id)};

	sx_catalog_exec("INSERT INTO streamext.progress (pipeline) VALUES ($1)",
					SX_ARGS(INT4OID), progress, NULL);
	return id;
}

/* For a pipeline that nobody asked a name for. */
char *
sx_unused_pipeline_name(const char *schema, const char *relname)
{
	char	   *name = pstrdup(relname);

	if (sx_find_pipeline(name) != 0)
		name = psprintf("%s.%s", schema, relname);
	for (int i = 2; sx_find_pipeline(name) != 0; i++)
		name = psprintf("%s.%s_%d", schema, relname, i);
	return name;
}

/*
 * The named pipeline, made when there is none.  Somebody else's cannot be joined:
 * its worker would run our queries as its owner.
 */
static int
named_pipeline(const char *name, Oid owner, bool paused)
{
	int			id = sx_find_pipeline(name);

	if (id == 0)
		return create_pipeline(name, owner, paused);
	sx_pipeline_check_joins(id, owner);
	if (sx_lane_of(id) != 0 && !sx_lane_is_new(id))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pipeline \"%s\" cannot be joined: it will be merged into another one", name),
				 errhint("Choose another name.")));
	return id;
}

static void
add_source(int pipeline, Oid stream)
{
	Datum		values[] = {Int32GetDatum(pipeline), ObjectIdGetDatum(stream)};

	sx_catalog_exec("INSERT INTO streamext.source (pipeline, stream, seq) "
					"SELECT $1, $2, (SELECT coalesce(max(seq), 0) + 1 FROM streamext.source) "
					"ON CONFLICT DO NOTHING",
					SX_ARGS(INT4OID, REGCLASSOID), values, NULL);
}

/* In order of slots, as everybody who locks several of them. */
static void
lock_slots(int pipeline)
{
	Datum		values[] = {Int32GetDatum(pipeline)};

	if (sx_catalog_exec("SELECT FROM streamext.progress WHERE pipeline = $1 "
						"ORDER BY slot FOR NO KEY UPDATE",
						SX_ARGS(INT4OID), values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the pipeline does not exist any more")));
}

int64
sx_pipeline_new_epoch(int pipeline)
{
	Datum		values[] = {Int32GetDatum(pipeline)};
	bool		isnull;

	lock_slots(pipeline);
	sx_catalog_exec("UPDATE streamext.progress SET epoch = epoch + 1, at_end = false "
					"WHERE pipeline = $1",
					SX_ARGS(INT4OID), values, NULL);
	return DatumGetInt64(sx_catalog_value("SELECT max(batch_id) FROM streamext.progress "
										  "WHERE pipeline = $1",
										  SX_ARGS(INT4OID), values, NULL, &isnull));
}

int64
sx_pipeline_take(int pipeline, int slot)
{
	Datum		values[] = {Int32GetDatum(pipeline), Int32GetDatum(slot)};
	bool		isnull;
	Datum		epoch = sx_catalog_value("UPDATE streamext.progress SET epoch = epoch + 1, at_end = false "
										 "WHERE pipeline = $1 AND slot = $2 RETURNING epoch",
										 SX_ARGS(INT4OID, INT4OID), values, NULL, &isnull);

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the pipeline does not exist any more")));
	return DatumGetInt64(epoch);
}

/* Tells a running worker, and the scheduler, that this pipeline has changed. */
static void
pipeline_changed(int pipeline)
{
	sx_wake_pipeline_at_commit(pipeline);
	sx_wake_scheduler_at_commit();
}

/* SxRateOption: the first of a list of streams that gives it. */
static const char *
option_of_streams(void *arg, const char *name)
{
	ListCell   *lc;

	foreach(lc, (List *) arg)
	{
		const char *value = sx_stream_option(lfirst(lc), name, NULL);

		if (value != NULL)
			return value;
	}
	return NULL;
}

/* Options of a pipeline that two of its sources give must agree. */
static void
check_same_option(const SxStream *added, const SxStream *other, const char *name)
{
	const char *a = sx_stream_option(added, name, NULL);
	const char *b = sx_stream_option(other, name, NULL);

	if (a != NULL && b != NULL && strcmp(a, b) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" of stream %s conflicts with stream %s of the same pipeline",
						name, added->label, other->label),
				 errdetail("It is \"%s\" here and \"%s\" there.", a, b),
				 errhint("Give it on one of the streams, or use another pipeline.")));
}

static void
check_pipeline_options(int pipeline, SxStream *added)
{
	static const char *const shared[] = {
		"batch_interval", "parallelism", "max_batch_rows", "max_batch_bytes",
		"max_files_per_batch", "on_error", "max_errors", "max_errors_per_hour", "step_timeout", "synchronous_commit"
	};
	List	   *others = sx_pipeline_sources(pipeline);
	List	   *streams = list_make1(added);
	ListCell   *lc;

	foreach(lc, others)
	{
		SxStream   *other;

		if (lfirst_oid(lc) == added->relid)
			continue;
		other = sx_stream_load(lfirst_oid(lc));
		for (int i = 0; i < lengthof(shared); i++)
			check_same_option(added, other, shared[i]);
		for (int i = 0; sx_rate_options[i] != NULL; i++)
			check_same_option(added, other, sx_rate_options[i]);
		streams = lappend(streams, other);
	}
	sx_rate_check_options(option_of_streams, streams);
}

static void
insert_stream(Oid relid, const char *kind)
{
	Datum		values[] = {ObjectIdGetDatum(relid), CStringGetTextDatum(kind)};

	sx_catalog_exec("INSERT INTO streamext.stream (relation, kind) VALUES ($1, $2)",
					SX_ARGS(REGCLASSOID, TEXTOID), values, NULL);
}

void
sx_register_source(Oid relid)
{
	SxStream   *stream = sx_stream_load(relid);
	const char *name = sx_stream_option(stream, "pipeline", NULL);
	bool		paused = sx_stream_option_bool(stream, "paused", false);
	int			pipeline;

	if (stream->source == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("connector \"%s\" of stream %s only writes",
						sx_stream_option(stream, "connector", "?"), stream->label),
				 errhint("Give the sink its query: CREATE STREAM … WITH (connector = …) AS SELECT ….")));
	sx_stream_check_rights(stream);
	if (stream->source->check != NULL)
		stream->source->check(stream);

	insert_stream(relid, "source");
	sx_stream_set_option(stream, SX_KIND_OPTION, "source");
	if (name != NULL)
		pipeline = named_pipeline(name, stream->owner, paused);
	else
		pipeline = create_pipeline(sx_unused_pipeline_name(stream->schema, stream->name),
								   stream->owner, paused);
	check_pipeline_options(pipeline, stream);
	add_source(pipeline, relid);
	sx_slots_follow(pipeline);
	if (stream->source->created != NULL)
		stream->source->created(stream);
	(void) sx_pipeline_new_epoch(pipeline);
	pipeline_changed(pipeline);
}

/* A source stream was altered: every pipeline that reads it goes on with that. */
void
sx_source_changed(SxStream *stream)
{
	Datum		values[] = {ObjectIdGetDatum(stream->relid)};
	List	   *pipelines = NIL;
	ListCell   *lc;

	sx_catalog_rows("SELECT pipeline FROM streamext.source WHERE stream = $1 ORDER BY pipeline",
					SX_ARGS(REGCLASSOID), values, NULL, sx_collect_int, &pipelines);
	foreach(lc, pipelines)
	{
		check_pipeline_options(lfirst_int(lc), stream);
		sx_slots_follow(lfirst_int(lc));
		(void) sx_pipeline_new_epoch(lfirst_int(lc));
		pipeline_changed(lfirst_int(lc));
	}
}

void
sx_register_derived(Oid relid)
{
	insert_stream(relid, "derived");
}

static void
refuse_stateful(Oid stream, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("stream %s keeps state in its own pipeline, %s", sx_relation_label(stream), why),
			 errhint("Put the streams into one pipeline: give their sources the same option \"pipeline\".")));
}

/* The pipeline of the stateful streams behind a step, which can only be one; 0: none. */
static int
stateful_pipeline(const SxReads *reads, const char *name)
{
	int			pipeline = 0;
	ListCell   *lc;

	foreach(lc, list_concat_unique_oid(list_copy(reads->all_derived), reads->derived))
	{
		int			own = sx_pipeline_of_step(lfirst_oid(lc));

		if (own == 0)
			continue;
		if (pipeline != 0 && own != pipeline)
			refuse_stateful(lfirst_oid(lc), "and another one that is read is in another");
		if (name != NULL && own != sx_find_pipeline(name))
			refuse_stateful(lfirst_oid(lc), psprintf("which is not \"%s\"", name));
		pipeline = own;
	}
	return pipeline;
}

static int
pipeline_for_step(const char *schema, const char *relname, const SxReads *reads,
				  const char *name)
{
	List	   *streams = reads->streams;
	int			shared = 0;
	bool		same = true;
	bool		paused = true;
	int			pipeline = stateful_pipeline(reads, name);
	ListCell   *lc;

	if (pipeline != 0)
		sx_pipeline_check_joins(pipeline, GetUserId());
	else if (name != NULL)
		pipeline = named_pipeline(name, GetUserId(), false);
	else
	{
		foreach(lc, streams)
		{
			int			home = sx_home_pipeline(lfirst_oid(lc));

			same = same && (shared == 0 || shared == home);
			shared = home;
			paused = paused && sx_stream_option_bool(sx_stream_load(lfirst_oid(lc)),
													 "paused", false);
		}
		if (same)
		{
			sx_pipeline_check_joins(shared, GetUserId());
			return shared;
		}
		pipeline = create_pipeline(sx_unused_pipeline_name(schema, relname), GetUserId(), paused);
	}

	foreach(lc, streams)
	{
		check_pipeline_options(pipeline, sx_stream_load(lfirst_oid(lc)));
		add_source(pipeline, lfirst_oid(lc));
	}
	sx_slots_follow(pipeline);
	return pipeline;
}

/*
 * A view or sink that is late by so many batches of its pipeline: a lane of it, or 0, when
 * it begins with the next batch.  It says which.
 */
static int
lane_for(int pipeline, int64 batch, const char *schema, const char *relname,
		 bool keeps_state, const SxReads *reads)
{
	if (batch == 0)
		return 0;
	if (!keeps_state && stateful_pipeline(reads, NULL) == 0)
		return sx_lane_for_backfill(pipeline, schema, relname, reads->streams);
	ereport(NOTICE,
			(errmsg("%s begins with the next batch of its pipeline",
					quote_qualified_identifier(schema, relname)),
			 errdetail("What keeps state goes on from where it is, not from the start of its sources.")));
	return 0;
}

/*
 * The statements that maintain a step run under the search_path that its functions want.
 * Their operators are found in pg_catalog first, unless the path says otherwise: then
 * whoever may create in a schema before it could put others in their place.
 */
static void
require_safe_path(const char *path)
{
	List	   *schemas;
	ListCell   *lc;

	if (!SplitIdentifierString(pstrdup(path), ',', &schemas))
		return;
	foreach(lc, schemas)
	{
		if (strcmp(lfirst(lc), "pg_catalog") == 0 && lc != list_head(schemas))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("search_path has pg_catalog behind other schemas"),
					 errdetail("It is stored with the view, sink or stream, and holds while batches run."),
					 errhint("SET search_path without pg_catalog, which then comes first.")));
	}
}

const char *
sx_pipeline_for_view(const char *schema, const char *relname, const SxReads *reads,
					 bool backfill, const char *pipeline_name)
{
	int			pipeline = pipeline_for_step(schema, relname, reads, pipeline_name);
	int			lane = !backfill ? 0 :
		lane_for(pipeline, sx_pipeline_new_epoch(pipeline), schema, relname, false, reads);
	Datum		values[] = {Int32GetDatum(lane != 0 ? lane : pipeline)};
	bool		isnull;

	return TextDatumGetCString(sx_catalog_value("SELECT name FROM streamext.pipeline WHERE id = $1",
												SX_ARGS(INT4OID), values, NULL, &isnull));
}

/* What decides how text is read and shown, as it is in the session that creates. */
static char *
session_settings(void)
{
	static const char *const names[] = {
		"TimeZone", "DateStyle", "IntervalStyle", "search_path"
	};
	StringInfoData buf;

	require_safe_path(GetConfigOption("search_path", false, false));
	initStringInfo(&buf);
	for (int i = 0; i < lengthof(names); i++)
	{
		appendStringInfo(&buf, "%c\"%s\": ", i == 0 ? '{' : ',', names[i]);
		escape_json(&buf, GetConfigOption(names[i], false, false));
	}
	appendStringInfoChar(&buf, '}');
	return buf.data;
}

int
sx_register_step(Oid relid, const char *kind, Oid query, Oid state,
				 const char *strategy, const SxReads *reads, bool backfill,
				 const char *pipeline_name, const char *options)
{
	int			pipeline = pipeline_for_step(get_namespace_name(get_rel_namespace(relid)),
											 get_rel_name(relid), reads, pipeline_name);
	int64		batch = sx_pipeline_new_epoch(pipeline);
	int			lane = 0;
	Datum		values[] = {
		ObjectIdGetDatum(relid), Int32GetDatum(pipeline),
		CStringGetTextDatum(kind), ObjectIdGetDatum(query),
		ObjectIdGetDatum(state), CStringGetTextDatum(strategy),
		CStringGetTextDatum(options ? options : "{}"),
		CStringGetTextDatum(session_settings()), Int64GetDatum(batch + 1)
	};

	if (backfill)
		lane = lane_for(pipeline, batch, get_namespace_name(get_rel_namespace(relid)),
						get_rel_name(relid), strcmp(kind, "stream") == 0, reads);
	if (lane != 0)
	{
		pipeline = lane;
		values[1] = Int32GetDatum(lane);
		values[8] = Int64GetDatum(1);
	}

	sx_catalog_exec("INSERT INTO streamext.step "
					"(relation, pipeline, kind, query, state, strategy, options, settings, first_batch) "
					"VALUES ($1, $2, $3, $4, nullif($5::oid, 0), $6, $7::jsonb, $8::jsonb, $9)",
					SX_ARGS(REGCLASSOID, INT4OID, TEXTOID, REGCLASSOID, OIDOID, TEXTOID,
						 TEXTOID, TEXTOID, INT8OID), values, NULL);
	sx_catalog_exec("INSERT INTO streamext.step_progress (relation) VALUES ($1)",
					SX_ARGS(REGCLASSOID), values, NULL);
	sx_slots_check_step(pipeline, relid);
	pipeline_changed(pipeline);
	return pipeline;
}

void
sx_register_stream(Oid relid, Oid query, Oid state, const char *strategy,
				   const SxReads *reads, bool stateless, const char *options)
{
	Datum		values[] = {
		ObjectIdGetDatum(relid), ObjectIdGetDatum(query), CStringGetTextDatum(strategy),
		CStringGetTextDatum(options), CStringGetTextDatum(session_settings())
	};

	sx_register_derived(relid);
	if (!stateless)
		(void) sx_register_step(relid, "stream", query, state, strategy, reads, true,
								NULL, options);
	else
		sx_catalog_exec("INSERT INTO streamext.step (relation, kind, query, strategy, options, settings) "
						"VALUES ($1, 'stream', $2, $3, $4::jsonb, $5::jsonb)",
						SX_ARGS(REGCLASSOID, REGCLASSOID, TEXTOID, TEXTOID, TEXTOID), values, NULL);
}
