/*-------------------------------------------------------------------------
 *
 * step_idle.c
 *		Statements of a small batch that have nothing to do.
 *
 * With many views over one stream most of a small batch goes into statements that
 * write nothing: they start an executor, scan the batch, find that no record passes
 * their filter, or that the node they stand on has not changed, and end.  What such a
 * statement would do is known from its plan: it writes nothing when a scan that all of
 * its rows come from is empty.
 *
 *		ModifyTable
 *		  Agg, grouped              nothing in, nothing out
 *		    Foreign Scan on s       empty, if no record passes its filter
 *		      Filter: kind = 2
 *
 * A scan of the batch's records is empty when none passes the leading conditions that
 * are immutable and look at nothing but the record.  That is asked once in a batch for
 * each different filter, however many statements have it.  The columns that the scan
 * would decode are decoded for it, so a record that cannot be is never overlooked: the
 * statement runs then, and finds it.
 *
 * Nothing is left out when there is anything about records to be found out or made up
 * for: bad records, probes, dead letters that are fed.  Only views: a table of the
 * user's, which a sink writes, may have triggers for statements without rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/transam.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "fdw/row_check.h"
#include "format/format.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_func.h"
#include "parser/parsetree.h"
#include "state/changes.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "worker/batch_internal.h"

/* The filter of a scan, and what it said of the batch in progress. */
typedef struct ScanTest
{
	int			input;
	List	   *columns;		/* as in the scan: attribute numbers that are decoded */
	List	   *quals;			/* the scan's, all of them */
	bool	   *needed;
	SxDecoder  *decoder;		/* NULL: the source has rows */
	TupleTableSlot *slot;
	ExprState  *filter;			/* NULL: every record passes */
	ExprContext *econtext;
	uint64		attempt;		/* when it was asked last */
	bool		empty;
} ScanTest;

/* Found by the scan in a kept plan; another plan may have come to lie there since. */
typedef struct ScanEntry
{
	const ForeignScan *scan;	/* hash key */
	ScanTest   *test;
} ScanEntry;

typedef struct SxIdle
{
	HTAB	   *scans;
	List	   *tests;
	MemoryContext rows;			/* what decoding leaves behind, for one test */
	uint64		attempt;
	bool		usable;			/* in this attempt */
	Oid			old_rows;		/* functions that give the changes of a state table */
	Oid			new_rows;
	Oid			changed_rows;
} SxIdle;

static Oid
changes_function(const char *name)
{
	Oid			types[] = {ANYELEMENTOID};

	return LookupFuncName(list_make2(makeString("streamext"), makeString(pstrdup(name))),
						  1, types, false);
}

void
sx_idle_open(SxPipeline *pl)
{
	SxIdle	   *idle = palloc0(sizeof(SxIdle));
	HASHCTL		ctl = {
		.keysize = sizeof(ForeignScan *),
		.entrysize = sizeof(ScanEntry),
		.hcxt = pl->context
	};

	idle->scans = hash_create("streamext scans", 64, &ctl,
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	idle->rows = AllocSetContextCreate(pl->context, "streamext filters", ALLOCSET_SMALL_SIZES);
	idle->old_rows = changes_function("old_rows");
	idle->new_rows = changes_function("new_rows");
	idle->changed_rows = changes_function("changed_rows");
	pl->idle = idle;
}

/* An attempt begins; its records are loaded. */
void
sx_idle_begin(SxPipeline *pl)
{
	pl->idle->attempt++;
	pl->idle->usable = pl->dead == NIL && pl->replay == NULL;
}

/* Does this attempt see all records of the batch, and each of them as good? */
static bool
is_usable(const SxPipeline *pl)
{
	return pl->idle != NULL && pl->idle->usable && !pl->probing && !pl->must_restart &&
		pl->dead == NIL && pl->on_behalf < 0;
}

/* ---------- filters ---------- */

static bool
is_about_record_walker(Node *node, bool *is_about)
{
	if (node == NULL || !*is_about)
		return false;
	if (IsA(node, Var) && ((Var *) node)->varattno <= 0)
		*is_about = false;
	else if (IsA(node, Param) || IsA(node, SubPlan) || IsA(node, AlternativeSubPlan))
		*is_about = false;
	return expression_tree_walker(node, is_about_record_walker, is_about);
}

static bool
is_of_user(Oid function, void *context)
{
	return function >= FirstNormalObjectId;
}

/* A function of the user's may look at settings, which are not those of the step here. */
static bool
calls_users_function(Node *node, void *context)
{
	if (node == NULL)
		return false;
	return check_functions_in_node(node, is_of_user, NULL) ||
		expression_tree_walker(node, calls_users_function, context);
}

/* Is it decided by the decoded columns of the record alone? */
static bool
is_about_record(const SxStream *stream, Node *qual)
{
	bool		is_about = true;
	List	   *vars;
	ListCell   *lc;

	(void) is_about_record_walker(qual, &is_about);
	if (!is_about || contain_mutable_functions(qual) || calls_users_function(qual, NULL))
		return false;
	vars = pull_var_clause(qual, 0);
	foreach(lc, vars)
	{
		int			a = lfirst_node(Var, lc)->varattno - 1;

		if (a >= stream->natts || stream->columns[a].metadata != SX_META_NONE)
			return false;
	}
	return true;
}

/* The conditions that come first: behind another one they might never be asked. */
static List *
leading_quals(const SxStream *stream, List *quals)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, quals)
	{
		if (!is_about_record(stream, lfirst(lc)))
			break;
		result = lappend(result, lfirst(lc));
	}
	return result;
}

static TupleTableSlot *
make_slot(Oid relid)
{
	Relation	rel = relation_open(relid, AccessShareLock);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(rel)),
													&TTSOpsVirtual);

	relation_close(rel, NoLock);
	return slot;
}

static void
choose_columns(ScanTest *test, const SxStream *stream)
{
	ListCell   *lc;

	test->needed = palloc0(sizeof(bool) * Max(stream->natts, 1));
	foreach(lc, test->columns)
	{
		int			attno = lfirst_int(lc);

		for (int i = 0; i < stream->natts; i++)
		{
			if ((attno == 0 || attno == i + 1) && !stream->columns[i].dropped &&
				stream->columns[i].metadata == SX_META_NONE)
				test->needed[i] = true;
		}
	}
	if (stream->has_watermark && stream->columns[stream->event_time - 1].metadata == SX_META_NONE)
		test->needed[stream->event_time - 1] = true;
}

/* Lives as long as the pipeline. */
static ScanTest *
make_test(SxPipeline *pl, int input, const ForeignScan *scan)
{
	MemoryContext old = MemoryContextSwitchTo(pl->context);
	SxSource   *source = pl->inputs[input].source;
	const SxStream *stream = source->stream;
	ScanTest   *test = palloc0(sizeof(ScanTest));
	List	   *leading;

	test->input = input;
	test->columns = copyObject(scan->fdw_private);
	test->quals = copyObject(scan->scan.plan.qual);
	choose_columns(test, stream);
	if (source->get_row == NULL)
		test->decoder = stream->format->create(stream, test->needed);
	leading = leading_quals(stream, test->quals);
	if (leading != NIL)
	{
		test->slot = make_slot(stream->relid);
		test->econtext = CreateStandaloneExprContext();
		test->filter = ExecInitQual(leading, NULL);
	}
	pl->idle->tests = lappend(pl->idle->tests, test);
	MemoryContextSwitchTo(old);
	return test;
}

static bool
is_test_of(const ScanTest *test, int input, const ForeignScan *scan)
{
	return test->input == input && equal(test->columns, scan->fdw_private) &&
		equal(test->quals, scan->scan.plan.qual);
}

static ScanTest *
find_test(SxPipeline *pl, int input, const ForeignScan *scan)
{
	ScanEntry  *entry;
	bool		found;
	ListCell   *lc;

	entry = hash_search(pl->idle->scans, &scan, HASH_ENTER, &found);
	if (!found)
		entry->test = NULL;
	if (entry->test != NULL && is_test_of(entry->test, input, scan))
		return entry->test;
	entry->test = NULL;
	foreach(lc, pl->idle->tests)
	{
		if (is_test_of(lfirst(lc), input, scan))
			entry->test = lfirst(lc);
	}
	if (entry->test == NULL)
		entry->test = make_test(pl, input, scan);
	return entry->test;
}

/* Decodes a record as the scan would; false: it is for the scan to say what is wrong. */
static bool
decode(SxPipeline *pl, ScanTest *test, int i)
{
	SxSource   *source = pl->inputs[test->input].source;
	const SxStream *stream = source->stream;
	const SxRecord *rec = source->records[i];
	TupleTableSlot *slot = test->slot;
	SxDecodeError err;
	SxDecodeResult result = SX_DECODE_OK;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, stream->natts);
	if (rec->oversize > 0)
		return false;
	pl->decoding_input = pl->read_input = test->input;
	pl->decoding_record = pl->read_record = i;
	if (source->get_row == NULL)
		result = stream->format->decode(test->decoder, rec, slot->tts_values, slot->tts_isnull, &err);
	else
	{
		source->get_row(source, i, slot->tts_values, slot->tts_isnull);
		if (source->check_rows)
			result = sx_check_row(stream, test->needed, slot->tts_values, slot->tts_isnull, &err);
	}
	pl->decoding_input = -1;
	ExecStoreVirtualTuple(slot);
	return result == SX_DECODE_OK;
}

/* Does no record of the batch pass the filter? */
static bool
is_empty_for(SxPipeline *pl, ScanTest *test)
{
	int			n = pl->inputs[test->input].source->nrecords;
	bool		empty = true;

	if (n == 0)
		return true;
	if (test->filter == NULL)
		return false;
	for (int i = 0; i < n && empty; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(pl->idle->rows);

		empty = decode(pl, test, i);
		if (empty)
		{
			test->econtext->ecxt_scantuple = test->slot;
			empty = !ExecQual(test->filter, test->econtext);
			ResetExprContext(test->econtext);
		}
		MemoryContextSwitchTo(old);
	}
	if (test->slot != NULL)
		ExecClearTuple(test->slot);
	MemoryContextReset(pl->idle->rows);
	return empty;
}

/* ---------- leaves of a plan ---------- */

static bool
is_empty_source(SxPipeline *pl, int input, const ForeignScan *scan)
{
	ScanTest   *test;

	if (pl->inputs[input].source->nrecords > SX_SMALL_BATCH)
		return false;
	test = find_test(pl, input, scan);
	if (test->attempt != pl->idle->attempt)
	{
		test->empty = is_empty_for(pl, test);
		test->attempt = pl->idle->attempt;
	}
	return test->empty;
}

static bool
is_empty_foreign_scan(SxPipeline *pl, const PlannedStmt *stmt, const ForeignScan *scan)
{
	Oid			relid;
	SxStep	   *step;

	if (scan->operation != CMD_SELECT || scan->scan.scanrelid == 0)
		return false;
	relid = rt_fetch(scan->scan.scanrelid, stmt->rtable)->relid;
	for (int i = 0; i < pl->ninputs; i++)
	{
		if (pl->inputs[i].source->stream->relid == relid)
			return is_empty_source(pl, i, scan);
	}
	step = sx_find_step(pl, relid);
	return step != NULL && step->ops->fill == NULL && step->output.store != NULL &&
		tuplestore_tuple_count(step->output.store) == 0;
}

static bool
has_no_rows(Tuplestorestate *store)
{
	return store == NULL || tuplestore_tuple_count(store) == 0;
}

/* A function scan of what the batch has changed in a node. */
static bool
is_empty_function_scan(SxPipeline *pl, const FunctionScan *scan)
{
	const FuncExpr *call;
	SxStep	   *step;

	if (list_length(scan->functions) != 1 || scan->funcordinality)
		return false;
	call = (const FuncExpr *) linitial_node(RangeTblFunction, scan->functions)->funcexpr;
	if (!IsA(call, FuncExpr))
		return false;
	if (call->funcid != pl->idle->old_rows && call->funcid != pl->idle->new_rows &&
		call->funcid != pl->idle->changed_rows)
		return false;
	step = sx_step_of_state(get_typ_typrelid(call->funcresulttype));
	if (step == NULL || !step->captured)
		return false;
	if (step->changes.context == NULL)
		return true;
	return (call->funcid == pl->idle->new_rows || has_no_rows(step->changes.before)) &&
		(call->funcid == pl->idle->old_rows || has_no_rows(step->changes.after));
}

/* ---------- plans ---------- */

static bool is_empty(SxPipeline *pl, const PlannedStmt *stmt, const Plan *plan);

static bool
are_all_empty(SxPipeline *pl, const PlannedStmt *stmt, List *plans)
{
	ListCell   *lc;

	foreach(lc, plans)
	{
		if (!is_empty(pl, stmt, lfirst(lc)))
			return false;
	}
	return true;
}

static bool
is_empty_join(SxPipeline *pl, const PlannedStmt *stmt, const Join *join)
{
	const Plan *outer = outerPlan(&join->plan);
	const Plan *inner = innerPlan(&join->plan);

	switch (join->jointype)
	{
		case JOIN_INNER:
		case JOIN_SEMI:
			return is_empty(pl, stmt, outer) || is_empty(pl, stmt, inner);
		case JOIN_LEFT:
		case JOIN_ANTI:
			return is_empty(pl, stmt, outer);
		case JOIN_RIGHT:
			return is_empty(pl, stmt, inner);
		default:
			return is_empty(pl, stmt, outer) && is_empty(pl, stmt, inner);
	}
}

/* Aggregates over no rows give one, without GROUP BY. */
static bool
is_empty_agg(SxPipeline *pl, const PlannedStmt *stmt, const Agg *agg)
{
	return agg->numCols > 0 && agg->groupingSets == NIL && agg->chain == NIL &&
		is_empty(pl, stmt, outerPlan(&agg->plan));
}

/* Is it certain that the plan gives no row?  When in doubt: no. */
static bool
is_empty(SxPipeline *pl, const PlannedStmt *stmt, const Plan *plan)
{
	if (plan == NULL)
		return false;
	switch (nodeTag(plan))
	{
		case T_ForeignScan:
			return is_empty_foreign_scan(pl, stmt, (const ForeignScan *) plan);
		case T_FunctionScan:
			return is_empty_function_scan(pl, (const FunctionScan *) plan);
		case T_CteScan:
			return is_empty(pl, stmt, list_nth(stmt->subplans, ((const CteScan *) plan)->ctePlanId - 1));
		case T_SubqueryScan:
			return is_empty(pl, stmt, ((const SubqueryScan *) plan)->subplan);
		case T_Append:
			return are_all_empty(pl, stmt, ((const Append *) plan)->appendplans);
		case T_MergeAppend:
			return are_all_empty(pl, stmt, ((const MergeAppend *) plan)->mergeplans);
		case T_NestLoop:
		case T_MergeJoin:
		case T_HashJoin:
			return is_empty_join(pl, stmt, (const Join *) plan);
		case T_Agg:
			return is_empty_agg(pl, stmt, (const Agg *) plan);
		case T_ModifyTable:
		case T_Result:
		case T_ProjectSet:
		case T_Sort:
		case T_IncrementalSort:
		case T_Material:
		case T_Memoize:
		case T_Hash:
		case T_Group:
		case T_Unique:
		case T_Limit:
		case T_WindowAgg:
			return is_empty(pl, stmt, outerPlan(plan));
		default:
			return false;
	}
}

/* Parts of WITH that write do so whether they are read or not. */
static bool
writes_nothing(SxPipeline *pl, const PlannedStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->hasModifyingCTE ? stmt->subplans : NIL)
	{
		const Plan *subplan = lfirst(lc);

		if (subplan != NULL && IsA(subplan, ModifyTable) && !is_empty(pl, stmt, subplan))
			return false;
	}
	return is_empty(pl, stmt, stmt->planTree);
}

/*
 * Would this statement, which writes, write nothing in this batch?  Known of statements
 * that have run before and whose plan has been kept.
 */
bool
sx_statement_is_idle(SxPipeline *pl, const SxStep *step, SPIPlanPtr plan)
{
	CachedPlanSource *source;
	List	   *sources;

	if (plan == NULL || step->plan->kind != SX_STEP_VIEW || !is_usable(pl))
		return false;
	sources = SPI_plan_get_plan_sources(plan);
	if (list_length(sources) != 1)
		return false;
	source = linitial(sources);
	if (!source->is_valid || source->gplan == NULL || !source->gplan->is_valid ||
		list_length(source->gplan->stmt_list) != 1)
		return false;
	return writes_nothing(pl, linitial_node(PlannedStmt, source->gplan->stmt_list));
}

/* Has nothing that the step stands on changed in this batch? */
bool
sx_nodes_are_unchanged(SxPipeline *pl, const SxStep *step)
{
	ListCell   *lc;

	if (step->plan->reads == NIL || step->plan->closed_views != NIL || !is_usable(pl))
		return false;
	foreach(lc, step->plan->reads)
	{
		const SxStep *below = sx_find_step(pl, lfirst_oid(lc));

		if (below == NULL || below->plan->kind != SX_STEP_VIEW || !below->captured ||
			below->changes.context != NULL)
			return false;
	}
	return true;
}
