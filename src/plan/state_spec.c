/*-------------------------------------------------------------------------
 *
 * state_spec.c
 *		What the options of a stream with keyed state mean for its query.
 *
 * The query's columns are the keys, which the option names, and the values, which are
 * all the others.  See state_spec.h; src/state/README.md describes the state tables.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "pg_config_manual.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "ddl/ddl.h"
#include "fdw/stream.h"
#include "plan/plan_internal.h"
#include "plan/state_spec.h"
#include "plan/stream_def.h"

/* ---------- options that belong together ---------- */

static const struct
{
	const char *option;
	const char *with;
	const char *or_with[2];
}			belongs[] = {
	{"key", "map_with_state", {"update_state", "changes"}},
	{"initial_state", "map_with_state", {"update_state"}},
	{"idle_timeout", "map_with_state"},
	{"event_timer", "map_with_state"},
	{"changed_only", "update_state"},
	{"within", "deduplicate"}
};

void
sx_check_state_options(List *options)
{
	for (int i = 0; i < lengthof(belongs); i++)
	{
		const char *const *or_with = belongs[i].or_with;

		if (sx_option(options, belongs[i].option) == NULL ||
			sx_option(options, belongs[i].with) != NULL ||
			(or_with[0] != NULL && sx_option(options, or_with[0]) != NULL) ||
			(or_with[1] != NULL && sx_option(options, or_with[1]) != NULL))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" of a derived stream needs option \"%s\"%s",
						belongs[i].option, belongs[i].with,
						or_with[0] != NULL ? psprintf(" or \"%s\"", or_with[0]) : ""),
				 strcmp(belongs[i].option, "idle_timeout") == 0 ?
				 errhint("For idle partitions it is an option of the source.") :
				 errhint("Leave it out, or give both.")));
	}
}

/* ---------- keys ---------- */

/* A key is looked up in a unique index, and in a hash table during the batch. */
static void
check_key_type(ColumnDef *column)
{
	Oid			type = column->typeName->typeOid;
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY |
											  TYPECACHE_EQ_OPR | TYPECACHE_CMP_PROC |
											  TYPECACHE_HASH_PROC);
	const char *lacks = NULL;

	if (!OidIsValid(entry->btree_opf) || !OidIsValid(entry->cmp_proc))
		lacks = "order";
	else if (!OidIsValid(entry->eq_opr) || !OidIsValid(entry->hash_proc))
		lacks = "hash function";
	if (lacks != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" cannot be a key: type %s has no %s",
						column->colname, format_type_be(type), lacks),
				 errhint("Use a cast of it, for example to text.")));
}

static void
check_key_name(const SxStateSpec *spec, ColumnDef *column)
{
	static const char *const of_map[] = {SX_STATE_COLUMN, SX_UPDATED_COLUMN, SX_TIMER_COLUMN};
	bool		taken = false;

	if (spec->strategy == SX_STRATEGY_DEDUPLICATE)
		taken = strcmp(column->colname, SX_EXPIRES_COLUMN) == 0;
	else
	{
		for (int i = 0; i < lengthof(of_map); i++)
			taken |= strcmp(column->colname, of_map[i]) == 0;
	}
	if (taken)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_COLUMN),
				 errmsg("key column cannot be named \"%s\": the state table has a column of that name",
						column->colname),
				 errhint("Rename it in the query: SELECT %s AS ….",
						 quote_identifier(column->colname))));
}

static int
place_of(List *columns, ColumnDef *column)
{
	int			place = 0;

	while (list_nth(columns, place) != column)
		place++;
	return place;
}

static void
split_columns(SxStateSpec *spec, List *options, const char *key_option)
{
	List	   *keys = sx_columns_of_option(options, key_option, spec->columns);
	ListCell   *lc;

	if (list_length(keys) > INDEX_MAX_KEYS)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("a key cannot have more than %d columns", INDEX_MAX_KEYS),
				 errhint("Put several of them into one, for example with ROW or jsonb_build_array.")));
	spec->keys = palloc(sizeof(int) * list_length(keys));
	spec->values = palloc(sizeof(int) * list_length(spec->columns));
	foreach(lc, keys)
	{
		ColumnDef  *column = lfirst(lc);

		check_key_type(column);
		check_key_name(spec, column);
		spec->keys[spec->nkeys++] = place_of(spec->columns, column);
	}
	foreach(lc, spec->columns)
	{
		if (!list_member_ptr(keys, lfirst(lc)))
			spec->values[spec->nvalues++] = foreach_current_index(lc);
	}
}

/* ---------- deduplicate ---------- */

static void
require_watermarks(Query *query, List *options, const char *option)
{
	ListCell   *lc;

	foreach(lc, sx_query_reads(query, options).streams)
	{
		SxStream   *stream = sx_stream_load(lfirst_oid(lc));

		if (!stream->has_watermark)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"%s\" needs a watermark, which stream %s does not have",
							option, stream->label),
					 errhint("ALTER STREAM %s OPTIONS (ADD event_time '…', ADD watermark '10 seconds').",
							 stream->label)));
	}
}

static void
read_within(SxStateSpec *spec, Query *query, List *options)
{
	const char *within = sx_option(options, "within");
	AttrNumber	attno;

	if (within == NULL)
		return;
	require_watermarks(query, options, "within");
	attno = sx_trace_event_time(query);
	if (attno == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"within\" needs the event time among the columns of the query"),
				 errhint("Select the event_time column of the stream as it is.")));
	spec->within = sx_interval_option_usec("within", within);
	spec->event_time = attno - 1;
	spec->event_time_type =
		getBaseType(sx_spec_column(spec, spec->event_time)->typeName->typeOid);
}

/* ---------- map_with_state, update_state ---------- */

static void
require_key(List *options, const char *option)
{
	if (sx_option(options, "key") == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" needs option \"key\"", option),
				 errhint("Name the columns by which the state is kept: key = 'a' or key = 'a, b'.")));
}

static void
read_timer(SxStateSpec *spec, Query *query, List *options)
{
	const char *name = sx_option(options, "event_timer");
	int			place = -1;

	if (name == NULL)
		return;
	require_watermarks(query, options, "event_timer");
	for (int i = 0; i < spec->result->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(spec->result, i);

		if (i != spec->result_state && !att->attisdropped &&
			strcmp(NameStr(att->attname), name) == 0 && att->atttypid == TIMESTAMPTZOID)
			place = i;
	}
	if (place < 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("option \"event_timer\" names \"%s\", which is no OUT column of type timestamp with time zone",
						name),
				 errhint("Give the function one: OUT %s timestamptz.", quote_identifier(name))));
	spec->result_timer = place;
}

static void
read_map_with_state(SxStateSpec *spec, Query *query, List *options)
{
	const char *idle = sx_option(options, "idle_timeout");

	require_key(options, "map_with_state");
	split_columns(spec, options, "key");
	sx_find_state_function(spec, "map_with_state", sx_option(options, "map_with_state"));
	read_timer(spec, query, options);
	if (idle != NULL)
		spec->idle_timeout = sx_interval_option_usec("idle_timeout", idle);
}

static void
read_update_state(SxStateSpec *spec, List *options)
{
	const char *changed_only = sx_option(options, "changed_only");

	require_key(options, "update_state");
	split_columns(spec, options, "key");
	sx_find_state_function(spec, "update_state", sx_option(options, "update_state"));
	if (changed_only != NULL)
		(void) parse_bool(changed_only, &spec->changed_only);
}

SxStateSpec *
sx_state_spec(SxStrategy strategy, Query *query, List *options)
{
	SxStateSpec *spec = palloc0(sizeof(SxStateSpec));

	spec->strategy = strategy;
	spec->columns = sx_query_column_defs(query);
	spec->idle_timeout = spec->within = -1;
	spec->result_timer = -1;
	switch (strategy)
	{
		case SX_STRATEGY_MAP_WITH_STATE:
			read_map_with_state(spec, query, options);
			break;
		case SX_STRATEGY_UPDATE_STATE:
			read_update_state(spec, options);
			break;
		case SX_STRATEGY_DEDUPLICATE:
			split_columns(spec, options, "deduplicate");
			read_within(spec, query, options);
			break;
		default:
			elog(ERROR, "strategy %d keeps no keyed state", (int) strategy);
	}
	return spec;
}

/* ---------- columns ---------- */

static List *
add_column(List *columns, const char *name, Oid type)
{
	return lappend(columns, makeColumnDef(name, type, -1, get_typcollation(type)));
}

static List *
key_columns(const SxStateSpec *spec)
{
	List	   *columns = NIL;

	for (int i = 0; i < spec->nkeys; i++)
		columns = lappend(columns, sx_spec_column(spec, spec->keys[i]));
	return columns;
}

List *
sx_state_columns(const SxStateSpec *spec)
{
	List	   *columns = key_columns(spec);

	if (spec->strategy == SX_STRATEGY_DEDUPLICATE)
		return spec->within < 0 ? columns :
			add_column(columns, SX_EXPIRES_COLUMN, TIMESTAMPTZOID);
	columns = add_column(columns, SX_STATE_COLUMN, spec->state_type);
	if (spec->strategy == SX_STRATEGY_MAP_WITH_STATE)
		columns = add_column(columns, SX_UPDATED_COLUMN, TIMESTAMPTZOID);
	if (spec->result_timer >= 0)
		columns = add_column(columns, SX_TIMER_COLUMN, TIMESTAMPTZOID);
	return columns;
}

List *
sx_state_stream_columns(const SxStateSpec *spec)
{
	List	   *columns = NIL;

	if (spec->strategy == SX_STRATEGY_UPDATE_STATE)
		return add_column(key_columns(spec), SX_STATE_COLUMN, spec->state_type);
	for (int i = 0; i < spec->result->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(spec->result, i);

		if (i != spec->result_state && !att->attisdropped)
			columns = lappend(columns, makeColumnDef(NameStr(att->attname), att->atttypid,
													 att->atttypmod, att->attcollation));
	}
	return columns;
}
