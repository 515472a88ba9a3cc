/*-------------------------------------------------------------------------
 *
 * relink.c
 *		The dependencies of a view, sink or derived stream, made again.
 *
 * They are what creation makes (create.c, derived.c, sink_create.c), and a dump does not have
 * them.  Those that are there already are left alone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "streamext.h"
#include "utils/lsyscache.h"

#include "catalog/depend.h"
#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "plan/plan_internal.h"
#include "plan/state_spec.h"
#include "plan/stream_def.h"

static void
relink_parts(Oid relid, Oid query, Oid state, bool own_state)
{
	Oid			panes = sx_panes_of(relid);
	Oid			delta;

	sx_part_of(query, relid);
	if (OidIsValid(panes))
		sx_part_of(panes, relid);
	if (!own_state)
		return;
	sx_part_of(state, relid);
	delta = get_relname_relid(sx_delta_name(get_rel_name(state)),
							  get_namespace_oid(SX_STATE_SCHEMA, false));
	if (OidIsValid(delta) && sx_is_view(relid))
		sx_part_of(delta, relid);
}

/* The function that the options name; InvalidOid: none does. */
static Oid
named_function(List *options, Oid query)
{
	const char *connector = sx_option(options, "connector");

	if (connector != NULL)
		return strcmp(connector, "function") == 0 ? sx_function_sink_check(options) : InvalidOid;
	if (sx_option(options, "map_with_state") != NULL)
		return sx_state_spec(SX_STRATEGY_MAP_WITH_STATE, sx_view_query(query), options)->function;
	if (sx_option(options, "update_state") != NULL)
		return sx_state_spec(SX_STRATEGY_UPDATE_STATE, sx_view_query(query), options)->function;
	return InvalidOid;
}

static void
relink_options(Oid relid, List *options, Oid query, Oid target)
{
	List	   *relations = sx_dependencies(RelationRelationId, relid, RelationRelationId,
											DEPENDENCY_NORMAL);
	Oid			function;

	if (relations == NIL)
	{
		if (OidIsValid(target))
			sx_depend_on(relid, RelationRelationId, target);
		sx_depend_on_source_option(relid, options);
	}
	if (sx_dependencies(RelationRelationId, relid, ProcedureRelationId, DEPENDENCY_NORMAL) != NIL)
		return;
	function = named_function(options, query);
	if (OidIsValid(function))
		sx_depend_on(relid, ProcedureRelationId, function);
}

static void
relink_node(Oid relid)
{
	Datum		values[] = {ObjectIdGetDatum(relid)};
	bool		isnull;
	Datum		view = sx_catalog_value("SELECT node_of::oid FROM streamext.step WHERE relation = $1",
										SX_ARGS(REGCLASSOID), values, NULL, &isnull);

	if (!isnull)
		sx_part_of(relid, DatumGetObjectId(view));
}

void
sx_plan_relink(Oid relid)
{
	Oid			query;
	Oid			state;
	char	   *json = sx_step_options(relid, &query, &state);
	bool		is_sink = sx_relation_kind(relid) == SX_REL_SINK;

	relink_node(relid);
	relink_parts(relid, query, state, OidIsValid(state) && !is_sink);
	if (!sx_is_view(relid))
		relink_options(relid, sx_options_from_json(json), query, is_sink ? state : InvalidOid);
	CommandCounterIncrement();
}
