/*-------------------------------------------------------------------------
 *
 * names.c
 *		Options that name functions and streams follow a RENAME.
 *
 * The foreign table of a stream depends on the functions and streams that its options
 * name, and a dependency goes by Oid.  So whoever reads such an option gets today's
 * name, whatever was written when the stream was created.  A dump has the options and not
 * the dependencies, so after a rename the options are written anew as well.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"

#include "catalog/depend.h"
#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "fdw/stream.h"
#include "plan/plan_internal.h"
#include "plan/stream_def.h"
#include "source/table.h"

/* Options whose value is one function. */
static const char *const function_options[] = {
	"function", "map_with_state", "update_state"
};

static void
follow_function(Oid relid, List *options, const char *name)
{
	List	   *functions = sx_option(options, name) == NULL ? NIL :
		sx_dependencies(RelationRelationId, relid, ProcedureRelationId, DEPENDENCY_NORMAL);
	Oid			function = functions == NIL ? InvalidOid : linitial_oid(functions);

	if (OidIsValid(function))
		sx_set_option(options, name,
					  quote_qualified_identifier(get_namespace_name(get_func_namespace(function)),
												 get_func_name(function)));
}

/* The sink's target table is among the relations, but it is no stream. */
static void
follow_sources(Oid relid, List *options)
{
	StringInfoData names;
	ListCell   *lc;

	if (sx_option(options, "source") == NULL)
		return;
	initStringInfo(&names);
	foreach(lc, sx_dependencies(RelationRelationId, relid, RelationRelationId,
								DEPENDENCY_NORMAL))
	{
		if (sx_relation_streams(lfirst_oid(lc)) != NIL)
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
							 sx_qualified_name(lfirst_oid(lc)));
	}
	if (names.len > 0)
		sx_set_option(options, "source", names.data);
}

List *
sx_follow_names(Oid relid, List *options)
{
	options = copyObject(options);
	for (int i = 0; i < lengthof(function_options); i++)
		follow_function(relid, options, function_options[i]);
	follow_sources(relid, options);
	return options;
}

/* ---------- what was written when a stream was created, renewed ---------- */

typedef struct Named
{
	Oid			stream;
	Oid			table;			/* of option initial_state */
} Named;

static void
collect_initial_state(HeapTuple row, TupleDesc desc, void *arg)
{
	Named	   *named = palloc(sizeof(Named));
	List	   *names = stringToQualifiedNameList(sx_row_text(row, desc, 2));

	named->stream = sx_row_oid(row, desc, 1);
	named->table = RangeVarGetRelid(makeRangeVarFromNameList(names), NoLock, true);
	if (OidIsValid(named->table))
		*(List **) arg = lappend(*(List **) arg, named);
}

/* Nothing depends on an initial state, which may as well be dropped. */
List *
sx_names_before(void)
{
	List	   *before = NIL;

	sx_catalog_rows("SELECT relation, options->>'initial_state' FROM streamext.step "
					"WHERE options ? 'initial_state'",
					0, NULL, NULL, NULL, collect_initial_state, &before);
	return before;
}

static void
write_option(Oid relid, List *was, List *now, const char *name)
{
	const char *value = sx_option(now, name);

	if (value != NULL && strcmp(value, sx_option(was, name)) != 0)
		sx_stream_set_option(sx_stream_load(relid), name, value);
}

static void
refresh_step(Oid relid, List *before)
{
	Oid			query;
	Oid			state;
	List	   *was = sx_options_from_json(sx_step_options(relid, &query, &state));
	List	   *now = sx_follow_names(relid, was);
	const char *connector = sx_option(was, "connector");
	Datum		values[2];
	ListCell   *lc;

	if (connector != NULL && strcmp(connector, "table") == 0)
		sx_set_option(now, "table", sx_qualified_name(state));
	foreach(lc, before)
	{
		Named	   *named = lfirst(lc);

		if (named->stream == relid && get_rel_name(named->table) != NULL)
			sx_set_option(now, "initial_state", sx_qualified_name(named->table));
	}
	if (equal(was, now))
		return;
	values[0] = ObjectIdGetDatum(relid);
	values[1] = CStringGetTextDatum(sx_options_to_json(now));
	sx_catalog_exec("UPDATE streamext.step SET options = $2::jsonb WHERE relation = $1",
					SX_ARGS(REGCLASSOID, TEXTOID), values, NULL);
	foreach(lc, now)
		write_option(relid, was, now, lfirst_node(DefElem, lc)->defname);
}

static void
refresh_source(Oid relid)
{
	List	   *was = GetForeignTable(relid)->options;
	List	   *now = sx_follow_names(relid, was);
	Oid			table = sx_table_followed(relid);

	if (OidIsValid(table))
		sx_set_option(now, "table", sx_qualified_name(table));
	write_option(relid, was, now, "function");
	write_option(relid, was, now, "table");
}

void
sx_names_refresh(List *before)
{
	List	   *steps = NIL;
	List	   *sources = NIL;
	ListCell   *lc;

	sx_catalog_rows("SELECT relation FROM streamext.step WHERE kind <> 'view' ORDER BY relation::oid",
					0, NULL, NULL, NULL, sx_collect_oid, &steps);
	foreach(lc, steps)
		refresh_step(lfirst_oid(lc), before);
	sx_catalog_rows("SELECT relation FROM streamext.stream WHERE kind = 'source' ORDER BY relation::oid",
					0, NULL, NULL, NULL, sx_collect_oid, &sources);
	foreach(lc, sources)
		refresh_source(lfirst_oid(lc));
}

List *
sx_table_options(Oid relid)
{
	return sx_follow_names(relid, GetForeignTable(relid)->options);
}
