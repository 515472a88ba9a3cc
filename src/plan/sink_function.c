/*-------------------------------------------------------------------------
 *
 * sink_function.c
 *		Sinks of connector function: foreachBatch.
 *
 * In each batch in which the sink is due, with rows or without, its query is
 * evaluated, and f(batch_id bigint, batch_time timestamptz) is called, which reads the
 * rows by selecting from the sink.  All it does is part of the batch's transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"

#include "ddl/ddl.h"
#include "plan/plan_internal.h"
#include "plan/stream_def.h"

static const Oid argument_types[] = {INT8OID, TIMESTAMPTZOID};

Oid
sx_function_sink_check(List *options)
{
	const char *name = sx_option(options, "function");
	Oid			function = LookupFuncName(stringToQualifiedNameList(name),
										  lengthof(argument_types), argument_types, true);

	if (!OidIsValid(function) || get_func_prokind(function) != PROKIND_FUNCTION)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s(bigint, timestamp with time zone) does not exist", name),
				 errdetail("It is called with the id and the time of each batch."),
				 errhint("Create it first, for instance in PL/pgSQL, which looks up the sink when it runs; it reads the rows of the batch by selecting from the sink.")));
	if (sx_proc_aclcheck(function, GetUserId()) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(function));
	sx_set_option(options, "function",
				  quote_qualified_identifier(get_namespace_name(get_func_namespace(function)),
											 get_func_name(function)));
	return function;
}

void
sx_function_sink_plan(SxStepPlan *plan, const SxStepNames *names)
{
	plan->strategy = SX_STRATEGY_SINK_FUNCTION;
	plan->reason = "a function is called with each batch, and reads its rows from the sink";
	plan->apply_sql = psprintf("SELECT d.*\nFROM %s d", names->query);
	plan->call_sql = psprintf("SELECT %s($1, $2)", sx_option(plan->options, "function"));
}
