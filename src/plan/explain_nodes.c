/*-------------------------------------------------------------------------
 *
 * explain_nodes.c
 *		The maintenance plan of a view with the nodes that it stands on.
 *
 * Each node comes behind what reads it, indented below it, once.  Views of the user that it
 * stands on are named, not shown: they have an explain() of their own.
 *
 * EXPLAIN CREATE MATERIALIZED VIEW of a query that needs nodes makes them, in a
 * subtransaction that is rolled back: their keys and indexes are found out from the
 * views, and so what is shown is what would be.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "catalog/sx_catalog.h"
#include "plan/explain_nodes.h"
#include "plan/plan_internal.h"

#define INDENT	4

/* ---------- the tree ---------- */

static Oid
node_of(Oid relid)
{
	Datum		values[] = {ObjectIdGetDatum(relid)};
	bool		isnull;
	Datum		view = sx_catalog_value("SELECT node_of FROM streamext.step WHERE relation = $1",
										SX_ARGS(REGCLASSOID), values, NULL, &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(view);
}

static void
append_indented(StringInfo out, const char *text, int depth)
{
	for (const char *line = text; line != NULL;)
	{
		const char *end = strchr(line, '\n');
		int			length = end != NULL ? end - line : strlen(line);

		if (length > 0)
			appendStringInfoSpaces(out, depth * INDENT);
		appendStringInfo(out, "%.*s\n", length, line);
		line = end != NULL ? end + 1 : NULL;
	}
}

static void
append_size(StringInfo out, Oid relid, int depth)
{
	Oid			state = InvalidOid;
	Datum		values[1];
	bool		isnull;
	int64		bytes;
	int64		rows;

	(void) sx_step_options(relid, NULL, &state);
	if (!OidIsValid(state) || get_rel_relkind(state) != RELKIND_RELATION ||
		sx_relation_kind(relid) == SX_REL_SINK)
		return;
	values[0] = ObjectIdGetDatum(state);
	rows = DatumGetInt64(sx_catalog_value(psprintf("SELECT count(*) FROM %s", sx_qualified_name(state)),
										  0, NULL, NULL, NULL, &isnull));
	bytes = DatumGetInt64(sx_catalog_value("SELECT pg_catalog.pg_total_relation_size($1)",
										   SX_ARGS(REGCLASSOID), values, NULL, &isnull));
	appendStringInfoSpaces(out, depth * INDENT);
	appendStringInfo(out, "State: %lld rows, %lld bytes\n", (long long) rows, (long long) bytes);
}

static void
append_tree(StringInfo out, Oid relid, Oid top, bool sizes, int depth, List **shown)
{
	SxReads		reads;
	ListCell   *lc;

	append_indented(out, sx_plan_explain(relid), depth);
	if (sizes)
		append_size(out, relid, depth);
	reads = sx_relation_reads(relid);
	foreach(lc, sx_relation_kind(relid) == SX_REL_VIEW ? reads.views : NIL)
	{
		Oid			below = lfirst_oid(lc);

		appendStringInfoChar(out, '\n');
		appendStringInfoSpaces(out, (depth + 1) * INDENT);
		if (node_of(below) != top || list_member_oid(*shown, below))
		{
			appendStringInfo(out, "Stands on: %s%s\n", sx_qualified_name(below),
							 node_of(below) == top ? ", shown above" : ", a view of its own");
			continue;
		}
		*shown = lappend_oid(*shown, below);
		appendStringInfoString(out, "Stands on:\n");
		append_tree(out, below, top, sizes, depth + 1, shown);
	}
}

char *
sx_explain_tree(Oid relid, bool sizes)
{
	StringInfoData out;
	List	   *shown = NIL;

	initStringInfo(&out);
	append_tree(&out, relid, relid, sizes, 0, &shown);
	out.data[--out.len] = '\0';
	return out.data;
}

/* ---------- of what would be made ---------- */

/* The text is made in context, which outlives the subtransaction. */
static char *
make_and_explain(CreateTableAsStmt *stmt, const char *query_string, MemoryContext context)
{
	if (!sx_plan_create_view(stmt, query_string))
		elog(ERROR, "\"%s\" would not be a continuous view", stmt->into->rel->relname);
	CommandCounterIncrement();
	MemoryContextSwitchTo(context);
	return sx_explain_tree(RangeVarGetRelid(stmt->into->rel, NoLock, false), false);
}

char *
sx_explain_by_making(CreateTableAsStmt *stmt, const char *query_string)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	char	   *volatile text = NULL;
	ErrorData  *volatile edata = NULL;
	int			nestlevel;

	/* "joins its pipeline when it has caught up" is not for who only asks */
	nestlevel = NewGUCNestLevel();
	if (client_min_messages < WARNING)
		(void) set_config_option("client_min_messages", "warning", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	BeginInternalSubTransaction("streamext_explain");
	PG_TRY();
	{
		text = make_and_explain(stmt, query_string, context);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		edata = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	AtEOXact_GUC(false, nestlevel);
	if (edata != NULL)
		ReThrowError(edata);
	return text;
}
