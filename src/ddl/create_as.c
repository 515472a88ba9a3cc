/*-------------------------------------------------------------------------
 *
 * create_as.c
 *		CREATE STREAM ... AS SELECT, CREATE MATERIALIZED VIEW over streams, and
 *		EXPLAIN of both.
 *
 * The statement arrives parsed as CREATE TABLE AS, or as itself, with its query
 * analysed.  Here it is refused where it says what streams cannot do, its options
 * are checked, and it is handed to the planner (plan/): a sink when there is a
 * connector, else a derived stream; a continuous view when it was a materialized
 * view whose query reads a stream.  Core never executes any of them, not even
 * under EXPLAIN, where it would create a table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/defrem.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "parser/parse_param.h"
#include "storage/lockdefs.h"
#include "tcop/cmdtag.h"
#include "utils/builtins.h"

#include "ddl/ddl_internal.h"
#include "plan/plan.h"

static void
refuse(SxUtilityCall *call, CreateTableAsStmt *stmt, const char *problem,
	   const char *instead)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s %s",
					stmt->objtype == OBJECT_MATVIEW ? "a continuous view" : "a stream",
					problem),
			 errhint("%s", instead),
			 sx_errposition(call, stmt->into->rel->location)));
}

static void
check_query(SxUtilityCall *call, CreateTableAsStmt *stmt)
{
	Query	   *query = castNode(Query, stmt->query);

	if (query->commandType == CMD_UTILITY)
		refuse(call, stmt, "cannot be made AS EXECUTE",
			   "Write out the query of the prepared statement.");
	if (query_contains_extern_params(query))
		refuse(call, stmt, "cannot have parameters or variables in its query",
			   "Build the statement with format() and run it with EXECUTE.");
	if (stmt->into->skipData)
		refuse(call, stmt, "cannot be made WITH NO DATA",
			   "Leave it out; WITH (paused) on the source keeps the pipeline from starting.");
}

static void
check_clauses(SxUtilityCall *call, CreateTableAsStmt *stmt)
{
	IntoClause *into = stmt->into;

	if (into->rel->relpersistence == RELPERSISTENCE_TEMP)
		refuse(call, stmt, "cannot be temporary",
			   "Leave TEMP out, and drop it when it has served.");
	if (into->rel->relpersistence == RELPERSISTENCE_UNLOGGED)
		refuse(call, stmt, "cannot be unlogged",
			   "Leave UNLOGGED out: positions and results commit together.");
	if (into->onCommit != ONCOMMIT_NOOP)
		refuse(call, stmt, "cannot have ON COMMIT", "Leave it out.");
	if (into->tableSpaceName != NULL)
		refuse(call, stmt, "cannot have a TABLESPACE",
			   "Leave it out; the tables that it keeps can be moved by ALTER TABLE.");
	if (into->accessMethod != NULL)
		refuse(call, stmt, "cannot have an access method", "Leave USING out.");
}

/*
 * A private copy of the statement, checked, whose options are DefElems with
 * strings.  The copy may be scribbled on; the original may be a cached plan.
 */
static CreateTableAsStmt *
prepare(SxUtilityCall *call, CreateTableAsStmt *stmt)
{
	CreateTableAsStmt *copy = copyObject(stmt);
	SxOptionTarget target;

	check_query(call, copy);
	check_clauses(call, copy);
	copy->into->options = sx_options_from_with(copy->into->options);

	if (copy->objtype == OBJECT_MATVIEW)
		target = SX_OPT_VIEW;
	else if (sx_option(copy->into->options, "connector") != NULL)
		target = SX_OPT_SINK;
	else
		target = SX_OPT_DERIVED;
	sx_options_validate(copy->into->options, target, NULL);
	return copy;
}

/* IF NOT EXISTS, and there is one of that name. */
static bool
exists_already(CreateTableAsStmt *stmt)
{
	Oid			existing = InvalidOid;

	if (!stmt->if_not_exists)
		return false;
	RangeVarGetAndCheckCreationNamespace(stmt->into->rel, NoLock, &existing);
	if (!OidIsValid(existing))
		return false;
	ereport(NOTICE,
			(errcode(ERRCODE_DUPLICATE_TABLE),
			 errmsg("relation \"%s\" already exists, skipping",
					stmt->into->rel->relname)));
	return true;
}

/* What standard_ProcessUtility checks before it creates something. */
static void
require_writable(Node *stmt)
{
	const char *command = GetCommandTagName(CreateCommandTag(stmt));

	PreventCommandIfReadOnly(command);
	PreventCommandIfParallelMode(command);
	PreventCommandDuringRecovery(command);
}

static void
set_tag(SxUtilityCall *call)
{
	if (call->qc != NULL)
		SetQueryCompletion(call->qc, CMDTAG_SELECT, 0);
}

void
sx_create_stream_as(SxUtilityCall *call, CreateTableAsStmt *stmt)
{
	CreateTableAsStmt *copy = prepare(call, stmt);

	require_writable((Node *) stmt);
	if (!exists_already(copy))
	{
		if (sx_option(copy->into->options, "connector") != NULL)
			sx_plan_create_sink(copy, call->query);
		else
			sx_plan_create_derived(copy, call->query);
	}
	set_tag(call);
}

static bool
is_continuous(CreateTableAsStmt *stmt)
{
	return stmt->objtype == OBJECT_MATVIEW && IsA(stmt->query, Query) &&
		sx_extension_exists() && sx_query_is_continuous((Query *) stmt->query);
}

bool
sx_create_view_over_streams(SxUtilityCall *call, CreateTableAsStmt *stmt)
{
	CreateTableAsStmt *copy;

	if (!is_continuous(stmt))
		return false;

	copy = prepare(call, stmt);
	require_writable((Node *) stmt);
	if (!exists_already(copy) && !sx_plan_create_view(copy, call->query))
		return false;
	set_tag(call);
	return true;
}

/* The plan is text; the other formats have no place for it. */
static void
require_text_format(ExplainStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "format") == 0 &&
			strcmp(defGetString(option), "text") != 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("the maintenance plan of a stream is shown as text only"),
					 errhint("Leave the option FORMAT out.")));
	}
}

bool
sx_explain_create(SxUtilityCall *call, ExplainStmt *stmt, bool says_stream)
{
	Query	   *query = castNode(Query, stmt->query);
	CreateTableAsStmt *create;
	TupOutputState *output;

	if (query->commandType != CMD_UTILITY || !IsA(query->utilityStmt, CreateTableAsStmt))
		return false;
	create = (CreateTableAsStmt *) query->utilityStmt;
	if (!says_stream && !is_continuous(create))
		return false;

	require_text_format(stmt);
	create = prepare(call, create);
	output = begin_tup_output_tupdesc(call->dest, ExplainResultDesc(stmt),
									  &TTSOpsVirtual);
	do_text_output_multiline(output, sx_plan_explain_query(create, call->query));
	end_tup_output(output);
	return true;
}
