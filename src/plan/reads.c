/*-------------------------------------------------------------------------
 *
 * reads.c
 *		Which streams a query reads.
 *
 * The walk goes through views and through functions with an SQL-standard body, whose
 * queries the catalog holds.  It also goes through derived streams that have rows of
 * their own in a batch (foreign tables with a query): what stands in front of them is
 * read directly, what stands behind them is not, but must be polled all the same.
 *
 * What a function with a string for its body reads cannot be seen.  Option "source"
 * says it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "fdw/stream.h"
#include "plan/plan_internal.h"

typedef struct ReadsContext
{
	SxReads    *reads;
	bool		direct;			/* not behind a stream with rows of its own */
	List	   *seen;			/* views and functions, by Oid */
} ReadsContext;

static bool reads_walker(Node *node, ReadsContext *context);

/* ---------- relations ---------- */

static void
add_source(Oid relid, ReadsContext *context)
{
	context->reads->streams = list_append_unique_oid(context->reads->streams, relid);
	if (context->direct)
		context->reads->sources = list_append_unique_oid(context->reads->sources, relid);
}

/* A sink's rows are for its connector. */
static void
refuse_sink(Oid relid)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("\"%s\" is a sink, which cannot be read", get_rel_name(relid)),
			 errhint("Put its query into a derived stream (CREATE STREAM … AS SELECT), and let both read that.")));
}

/* Is this a stream of changes of a continuous view, by its options? */
static bool
shows_changes(const char *json)
{
	return sx_option(sx_options_from_json(json), "changes") != NULL;
}

/* It reads what the view stands on, and the view is behind it. */
static void
add_reads(SxReads *reads, Oid relid, Query *query)
{
	SxReads		behind = sx_view_reads(query);

	reads->streams = list_concat_unique_oid(reads->streams, behind.streams);
	reads->all_derived = list_concat_unique_oid(reads->all_derived, behind.all_derived);
	reads->all_derived = list_concat_unique_oid(reads->all_derived, behind.derived);
}

/* A derived stream with rows of its own: what it reads is behind it. */
static void
collect_derived(Oid relid, ReadsContext *context)
{
	bool		direct = context->direct;
	Oid			query;
	char	   *json;

	if (direct)
		context->reads->derived = lappend_oid(context->reads->derived, relid);
	context->reads->all_derived = lappend_oid(context->reads->all_derived, relid);
	if ((json = sx_step_options(relid, &query, NULL)) == NULL)
		return;
	if (shows_changes(json))
	{
		add_reads(context->reads, relid, sx_view_query(query));
		return;
	}
	context->direct = false;
	(void) reads_walker((Node *) sx_view_query(query), context);
	sx_reads_of_option(sx_table_options(relid), context->reads, context->direct);
	context->direct = direct;
}

static void
collect_relation(Oid relid, ReadsContext *context)
{
	if (sx_is_stream_table(relid))
	{
		SxRelKind	kind = sx_relation_kind(relid);

		if (kind == SX_REL_SINK)
			refuse_sink(relid);
		if (kind != SX_REL_DERIVED)
			add_source(relid, context);
		else if (!list_member_oid(context->direct ? context->reads->derived :
								  context->reads->all_derived, relid))
			collect_derived(relid, context);
	}
	else if (sx_relation_kind(relid) == SX_REL_VIEW)
		context->reads->views = list_append_unique_oid(context->reads->views, relid);
	else if (sx_is_view(relid) && !list_member_oid(context->seen, relid))
	{
		context->seen = lappend_oid(context->seen, relid);
		if (sx_relation_kind(relid) == SX_REL_VIEW)
			context->reads->views = lappend_oid(context->reads->views, relid);
		(void) reads_walker((Node *) sx_view_query(relid), context);
	}
}

/* ---------- functions ---------- */

static void
collect_function(Oid function, ReadsContext *context)
{
	HeapTuple	tuple;
	Datum		body;
	bool		isnull;

	if (function < FirstNormalObjectId || list_member_oid(context->seen, function))
		return;
	context->seen = lappend_oid(context->seen, function);
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		return;
	body = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosqlbody, &isnull);
	if (!isnull)
		(void) reads_walker(stringToNode(TextDatumGetCString(body)), context);
	ReleaseSysCache(tuple);
}

static bool
function_checker(Oid function, void *context)
{
	collect_function(function, context);
	return false;
}

static bool
reads_walker(Node *node, ReadsContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_RELATION)
			collect_relation(rte->relid, context);
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, reads_walker, context,
								 QTW_EXAMINE_RTES_BEFORE);
	if (IsA(node, FuncExpr) && OidIsValid(sx_kept_in_view(node)))
	{
		collect_relation(sx_kept_in_view(node), context);
		return false;
	}
	(void) check_functions_in_node(node, function_checker, context);
	return expression_tree_walker(node, reads_walker, context);
}

static ReadsContext
new_context(SxReads *reads)
{
	ReadsContext context = {reads, true, NIL};

	return context;
}

/* ---------- option "source" ---------- */

/* At the commas that are not within double quotes. */
static List *
split_names(const char *value)
{
	List	   *names = NIL;
	const char *begin = value;
	bool		quoted = false;

	for (const char *p = value;; p++)
	{
		if (*p == '"')
			quoted = !quoted;
		if (*p == '\0' || (*p == ',' && !quoted))
		{
			names = lappend(names, pnstrdup(begin, p - begin));
			begin = p + 1;
		}
		if (*p == '\0')
			return names;
	}
}

List *
sx_source_option(List *options)
{
	const char *value = sx_option(options, "source");
	List	   *result = NIL;
	ListCell   *lc;

	if (value == NULL)
		return NIL;
	foreach(lc, split_names(value))
	{
		Oid			relid = RangeVarGetRelid(makeRangeVarFromNameList(stringToQualifiedNameList(lfirst(lc))),
											 AccessShareLock, false);

		if (sx_relation_streams(relid) == NIL)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("\"%s\" in option \"source\" is not a stream", (char *) lfirst(lc)),
					 errhint("streamext.streams lists the streams.")));
		result = list_append_unique_oid(result, relid);
	}
	return result;
}

void
sx_reads_of_option(List *options, SxReads *reads, bool direct)
{
	ReadsContext context = new_context(reads);
	ListCell   *lc;

	context.direct = direct;
	foreach(lc, sx_source_option(options))
		collect_relation(lfirst_oid(lc), &context);
}

/* ---------- for the others ---------- */

SxReads
sx_query_reads(Query *query, List *options)
{
	SxReads		reads = {NIL};
	ReadsContext context = new_context(&reads);

	(void) reads_walker((Node *) query, &context);
	sx_reads_of_option(options, &reads, true);
	return reads;
}

SxReads
sx_view_reads(Query *query)
{
	SxReads		reads = sx_query_reads(query, NIL);
	ListCell   *lc;

	foreach(lc, reads.views)
	{
		SxReads		below = sx_relation_reads(lfirst_oid(lc));

		reads.streams = list_concat_unique_oid(reads.streams, below.streams);
		reads.all_derived = list_concat_unique_oid(reads.all_derived, below.all_derived);
		reads.derived = list_append_unique_oid(reads.derived, lfirst_oid(lc));
	}
	return reads;
}

bool
sx_node_reads_stream(Node *node)
{
	SxReads		reads = {NIL};
	ReadsContext context = new_context(&reads);

	(void) reads_walker(node, &context);
	return reads.streams != NIL;
}

bool
sx_query_reads_stream(Query *query)
{
	return sx_node_reads_stream((Node *) query);
}

bool
sx_query_is_continuous(Query *query)
{
	return sx_query_reads_stream(query) || sx_reads_continuous_view((Node *) query);
}

List *
sx_query_streams(Query *query)
{
	return sx_query_reads(query, NIL).streams;
}

SxReads
sx_relation_reads(Oid relid)
{
	SxRelKind	kind = sx_relation_kind(relid);
	bool		is_table = sx_is_stream_table(relid);
	SxReads		reads = {NIL};
	ReadsContext context = new_context(&reads);
	Oid			query;

	if (kind == SX_REL_VIEW)
	{
		if (sx_step_options(relid, &query, NULL) != NULL)
			return sx_view_reads(sx_view_query(query));
	}
	else if ((is_table && (kind == SX_REL_SINK || kind == SX_REL_DERIVED)))
	{
		char	   *json = sx_step_options(relid, &query, NULL);

		if (json != NULL && shows_changes(json))
			return sx_view_reads(sx_view_query(query));
		if (json != NULL)
			(void) reads_walker((Node *) sx_view_query(query), &context);
		if (is_table)
			sx_reads_of_option(sx_table_options(relid), &reads, true);
	}
	else
		collect_relation(relid, &context);
	return reads;
}

List *
sx_relation_streams(Oid relid)
{
	return sx_relation_reads(relid).streams;
}
