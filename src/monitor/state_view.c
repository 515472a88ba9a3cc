/*-------------------------------------------------------------------------
 *
 * state_view.c
 *		What streamext.state says of a state table besides its size.
 *
 *		state_bound(step)		what keeps it from growing
 *		state_oldest(step)		its oldest window, or the oldest change of a key
 *		state_rows(table)		exactly how many rows it has
 *
 * Each answers NULL to whom it does not belong, but for members of pg_monitor.  A view that
 * cannot be planned any more must not hide the others, so an error becomes the answer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "catalog/sx_catalog.h"
#include "plan/bound.h"
#include "plan/node.h"
#include "plan/state_spec.h"
#include "streamext.h"

PG_FUNCTION_INFO_V1(sx_state_bound);
PG_FUNCTION_INFO_V1(sx_state_oldest);
PG_FUNCTION_INFO_V1(sx_state_rows);

static bool
may_see(Oid relid)
{
	return get_rel_relkind(relid) != '\0' &&
		(has_privs_of_role(GetUserId(), sx_relation_owner(relid)) ||
		 has_privs_of_role(GetUserId(), ROLE_PG_MONITOR));
}

Datum
sx_state_bound(PG_FUNCTION_ARGS)
{
	Oid			step = PG_GETARG_OID(0);
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	char	   *volatile text = NULL;

	if (!may_see(step))
		PG_RETURN_NULL();
	BeginInternalSubTransaction("streamext_bound");
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		text = sx_step_bound(step);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(context);
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		text = psprintf("not known: %s", edata->message);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	PG_RETURN_TEXT_P(cstring_to_text(text));
}

/* The column of its state table that tells how old a row is, as SQL; NULL: none does. */
static char *
age_column(Oid step, Oid state)
{
	const char *name = quote_identifier(SX_UPDATED_COLUMN);
	SxLayout   *layout;

	if (sx_relation_kind(step) != SX_REL_VIEW)
		return get_attnum(state, SX_UPDATED_COLUMN) != InvalidAttrNumber ? pstrdup(name) : NULL;
	layout = sx_view_layout(step, NULL);
	if (!layout->windowed || get_attnum(state, layout->window_column->name) == InvalidAttrNumber)
		return NULL;
	name = quote_identifier(layout->window_column->name);
	return layout->window.type == TIMESTAMPTZOID ? pstrdup(name) :
		psprintf("pg_catalog.timezone('UTC', %s)", name);
}

Datum
sx_state_oldest(PG_FUNCTION_ARGS)
{
	Oid			step = PG_GETARG_OID(0);
	Oid			state = InvalidOid;
	char	   *column;
	bool		isnull;
	Datum		oldest;

	if (!may_see(step) || sx_relation_kind(step) == SX_REL_SINK ||
		sx_step_options(step, NULL, &state) == NULL || !OidIsValid(state) ||
		(column = age_column(step, state)) == NULL)
		PG_RETURN_NULL();
	oldest = sx_catalog_value(psprintf("SELECT min(%s)::timestamptz FROM %s", column,
									   sx_qualified_name(state)), 0, NULL, NULL, NULL, &isnull);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(oldest);
}

Datum
sx_state_rows(PG_FUNCTION_ARGS)
{
	Oid			table = PG_GETARG_OID(0);
	bool		isnull;

	if (!may_see(table) || get_rel_relkind(table) != RELKIND_RELATION ||
		strcmp(get_namespace_name(get_rel_namespace(table)), SX_STATE_SCHEMA) != 0)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(sx_catalog_value(psprintf("SELECT count(*) FROM %s", sx_qualified_name(table)),
									 0, NULL, NULL, NULL, &isnull));
}
