/*-------------------------------------------------------------------------
 *
 * arrival.c
 *		Carrying the record of a stream's row through a row-wise query.
 *
 * The scan of a stream gives each row the ordinal of its record as ctid
 * (fdw/ordinal.h).  Two things need to know, of a row of the result, which record it
 * comes from: dead letters of late rows, and upserts, where the last record of a key
 * wins.  Here two output columns, stream and record, are added to a copy of the
 * query and to all queries below it down to the stream; views on the way are put in
 * as subqueries, for which they must have the step's owner.
 *
 * Where that cannot be done (a CTE, a barrier, a join with an alias of its own that
 * hides its tables) the answer is NULL and the caller does without.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "fdw/stream.h"
#include "plan/plan_internal.h"

/* The two columns, as expressions over the query's range table. */
typedef struct Arrival
{
	Expr	   *stream;
	Expr	   *record;			/* its ctid */
} Arrival;

static bool expose(Query *query, Oid owner);

/* ---------- finding the stream ---------- */

static bool
rte_reads_stream(RangeTblEntry *rte)
{
	if (rte->rtekind == RTE_RELATION)
		return sx_is_stream_table(rte->relid) ||
			(sx_is_view(rte->relid) && sx_query_reads_stream(sx_view_query(rte->relid)));
	return rte->rtekind == RTE_SUBQUERY && sx_query_reads_stream(rte->subquery);
}

/* Index of the one RTE in FROM that reads a stream, 0 when it is hidden. */
static Index
stream_index(Node *node, Query *query)
{
	ListCell   *lc;

	if (IsA(node, RangeTblRef))
	{
		Index		index = ((RangeTblRef *) node)->rtindex;

		return rte_reads_stream(rt_fetch(index, query->rtable)) ? index : 0;
	}
	if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;
		Index		index = stream_index(join->larg, query);

		if (index == 0)
			index = stream_index(join->rarg, query);
		return join->alias != NULL ? 0 : index;
	}
	foreach(lc, castNode(FromExpr, node)->fromlist)
	{
		Index		index = stream_index(lfirst(lc), query);

		if (index != 0)
			return index;
	}
	return 0;
}

/* ---------- adding the columns ---------- */

static AttrNumber
count_columns(const Query *query)
{
	AttrNumber	n = 0;
	ListCell   *lc;

	foreach(lc, query->targetList)
		n += lfirst_node(TargetEntry, lc)->resjunk ? 0 : 1;
	return n;
}

/* Adds the two behind the visible columns; junk moves up. */
static void
add_targets(Query *query, const Arrival *arrival)
{
	AttrNumber	n = count_columns(query);
	List	   *targets = NIL;
	List	   *junk = NIL;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->resjunk)
			junk = lappend(junk, tle);
		else
			targets = lappend(targets, tle);
	}
	targets = lappend(targets, makeTargetEntry(arrival->stream, n + 1,
											   SX_ARRIVAL_STREAM, false));
	targets = lappend(targets, makeTargetEntry(arrival->record, n + 2,
											   SX_ARRIVAL_RECORD, false));
	foreach(lc, junk)
	{
		lfirst_node(TargetEntry, lc)->resno = list_length(targets) + 1;
		targets = lappend(targets, lfirst(lc));
	}
	query->targetList = targets;
}

/* The two columns that a subquery has got, as Vars of its RTE. */
static Arrival
arrival_vars(RangeTblEntry *rte, Index index)
{
	AttrNumber	n = count_columns(rte->subquery);
	Arrival		arrival;

	arrival.stream = (Expr *) makeVar(index, n - 1, REGCLASSOID, -1, InvalidOid, 0);
	arrival.record = (Expr *) makeVar(index, n, TIDOID, -1, InvalidOid, 0);
	rte->eref->colnames = lappend(rte->eref->colnames, makeString(SX_ARRIVAL_STREAM));
	rte->eref->colnames = lappend(rte->eref->colnames, makeString(SX_ARRIVAL_RECORD));
	return arrival;
}

static Arrival
arrival_of_stream(Oid stream, Index index)
{
	Arrival		arrival;

	arrival.stream = (Expr *) makeConst(REGCLASSOID, -1, InvalidOid, sizeof(Oid),
										ObjectIdGetDatum(stream), false, true);
	arrival.record = (Expr *) makeVar(index, SelfItemPointerAttributeNumber, TIDOID, -1,
									  InvalidOid, 0);
	return arrival;
}

/* Puts a view's query in its place.  The result is deparsed, never executed. */
static bool
inline_view(RangeTblEntry *rte, Oid owner)
{
	if (sx_is_barrier(rte->relid) || sx_relation_owner(rte->relid) != owner)
		return false;
	rte->subquery = sx_view_query(rte->relid);
	rte->rtekind = RTE_SUBQUERY;
	rte->relid = InvalidOid;
	rte->relkind = 0;
	rte->rellockmode = 0;
	rte->inh = false;
	if (rte->alias == NULL)
		rte->alias = makeAlias(rte->eref->aliasname, NIL);
	return true;
}

static bool
expose_from(Query *query, Oid owner)
{
	Index		index = stream_index((Node *) query->jointree, query);
	RangeTblEntry *rte;
	Arrival		arrival;

	if (index == 0)
		return false;
	rte = rt_fetch(index, query->rtable);
	if (rte->rtekind == RTE_RELATION && sx_is_stream_table(rte->relid))
	{
		if (sx_is_barrier(rte->relid))
			return false;
		arrival = arrival_of_stream(rte->relid, index);
	}
	else
	{
		if (rte->rtekind == RTE_RELATION && !inline_view(rte, owner))
			return false;
		if (!expose(rte->subquery, owner))
			return false;
		arrival = arrival_vars(rte, index);
	}
	add_targets(query, &arrival);
	return true;
}

/* Every branch of a UNION ALL; *first gets the Vars of the leftmost one. */
static bool
expose_branches(Node *node, Query *query, Oid owner, Arrival *first)
{
	SetOperationStmt *setop = (SetOperationStmt *) node;
	Arrival		ignored;

	if (IsA(node, RangeTblRef))
	{
		Index		index = ((RangeTblRef *) node)->rtindex;
		RangeTblEntry *rte = rt_fetch(index, query->rtable);

		if (!expose(rte->subquery, owner))
			return false;
		*first = arrival_vars(rte, index);
		return true;
	}
	if (!expose_branches(setop->larg, query, owner, first) ||
		!expose_branches(setop->rarg, query, owner, &ignored))
		return false;
	setop->colTypes = lappend_oid(lappend_oid(setop->colTypes, REGCLASSOID), TIDOID);
	setop->colTypmods = lappend_int(lappend_int(setop->colTypmods, -1), -1);
	setop->colCollations = lappend_oid(lappend_oid(setop->colCollations, InvalidOid),
									   InvalidOid);
	return true;
}

static bool
expose(Query *query, Oid owner)
{
	Arrival		arrival;

	if (query->hasAggs || query->groupClause != NIL || query->hasWindowFuncs ||
		query->distinctClause != NIL)
		return false;
	if (query->setOperations == NULL)
		return expose_from(query, owner);
	if (!expose_branches(query->setOperations, query, owner, &arrival))
		return false;
	add_targets(query, &arrival);
	return true;
}

Query *
sx_query_with_arrival(Query *query, Oid owner)
{
	Query	   *copy = copyObject(query);

	return expose(copy, owner) ? copy : NULL;
}
