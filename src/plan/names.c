/*-------------------------------------------------------------------------
 *
 * names.c
 *		Options that name functions and streams follow a RENAME.
 *
 * The foreign table of a stream depends on the functions and streams that its options
 * name, and a dependency goes by Oid.  So whoever reads such an option gets today's
 * name, whatever was written when the stream was created.  Where the dependency is
 * missing, as right after a restored dump, the option itself has to do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/depend.h"
#include "ddl/ddl.h"
#include "plan/plan_internal.h"
#include "plan/stream_def.h"

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

List *
sx_table_options(Oid relid)
{
	return sx_follow_names(relid, GetForeignTable(relid)->options);
}
