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

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_proc.h"
#include "foreign/foreign.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "ddl/ddl.h"
#include "plan/plan_internal.h"
#include "plan/stream_def.h"

/* Options whose value is one function. */
static const char *const function_options[] = {
	"function", "map_with_state", "update_state"
};

/* Oids of one catalog that the relation as a whole depends on. */
static List *
dependencies(Oid relid, Oid catalog)
{
	Relation	depend = table_open(DependRelationId, AccessShareLock);
	List	   *result = NIL;
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(depend, DependDependerIndexId, true, NULL, 2, key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		if (form->objsubid == 0 && form->deptype == DEPENDENCY_NORMAL &&
			form->refclassid == catalog)
			result = list_append_unique_oid(result, form->refobjid);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return result;
}

static void
follow_function(Oid relid, List *options, const char *name)
{
	List	   *functions = sx_option(options, name) == NULL ? NIL :
		dependencies(relid, ProcedureRelationId);
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
	foreach(lc, dependencies(relid, RelationRelationId))
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
