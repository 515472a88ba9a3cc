/*-------------------------------------------------------------------------
 *
 * join.c
 *		Continuous views that are a join of two streams.
 *
 * A query block that joins two leaves and has nothing above it that looks at several rows
 *
 *		SELECT … FROM l [LEFT | RIGHT | FULL] JOIN r ON … [WHERE …]
 *		SELECT … FROM l WHERE [NOT] EXISTS (SELECT FROM r WHERE …)
 *		SELECT … FROM l WHERE x IN (SELECT y FROM r)
 *
 * is not computed again by key: each batch adds what its new rows bring (join_sql.c).  Its
 * leaves are nodes that keep their rows together with a number of arrival, which tells
 * new rows from old ones and by which a row without a match is found again.
 *
 * With a bound in time (join_bound.c) and watermarks, rows that come too late are turned
 * away and rows that can meet no partner any more leave the nodes.  Both is done by the
 * nodes' own steps, to which this file gives the expressions as options; they go by the
 * watermark of the view, the lowest of both streams, as SxStepPlan.clock says.
 *
 * emit = 'final': rows without a match are in the state table from the start, as with
 * 'changes', and the visible view shows them when their time (sx_time) has passed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "streamext.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/sx_catalog.h"
#include "compat.h"
#include "fdw/stream.h"
#include "plan/join.h"
#include "state/changes.h"

/* Range table indexes on the way to 1 and 2. */
#define LEFT_VARNO		10001
#define RIGHT_VARNO		10002

bool
sx_join_preserves(const SxJoin *join, int side)
{
	switch (join->type)
	{
		case JOIN_FULL:
			return true;
		case JOIN_LEFT:
		case JOIN_ANTI:
			return side == SX_SIDE_LEFT;
		case JOIN_RIGHT:
			return side == SX_SIDE_RIGHT;
		default:
			return false;
	}
}

bool
sx_join_has_bound(const SxJoin *join)
{
	return join->side[SX_SIDE_LEFT].time != NULL;
}

/* ---------- before the query is cut ---------- */

static bool
looks_at_rows_alone(const Query *query)
{
	return !query->hasAggs && query->groupClause == NIL && query->groupingSets == NIL &&
		query->havingQual == NULL && query->distinctClause == NIL && !query->hasWindowFuncs &&
		query->limitCount == NULL && query->limitOffset == NULL &&
		query->setOperations == NULL && query->sortClause == NIL && !query->hasTargetSRFs &&
		query->rowMarks == NIL;
}

static int
streams_of(Query *query, Node *from)
{
	SxRefusal	refusal = {NULL, NULL};

	return sx_from_streams(query, from, &refusal);
}

/* EXISTS or IN, or NOT EXISTS; NULL: neither. */
static SubLink *
semi_sublink(Node *qual, bool *anti)
{
	*anti = is_notclause(qual);
	if (*anti)
		qual = (Node *) get_notclausearg((Expr *) qual);
	if (qual == NULL || !IsA(qual, SubLink))
		return NULL;
	if (((SubLink *) qual)->subLinkType == EXISTS_SUBLINK ||
		(((SubLink *) qual)->subLinkType == ANY_SUBLINK && !*anti))
		return (SubLink *) qual;
	return NULL;
}

static bool
is_semi_join(Query *query)
{
	int			found = 0;
	ListCell   *lc;

	foreach(lc, make_ands_implicit((Expr *) query->jointree->quals))
	{
		bool		anti;
		SubLink    *sublink = semi_sublink(lfirst(lc), &anti);
		Query	   *inner = sublink == NULL ? NULL : castNode(Query, sublink->subselect);

		if (inner != NULL && looks_at_rows_alone(inner) &&
			streams_of(inner, (Node *) inner->jointree) == 1)
			found++;
		else if (sx_node_reads_stream(lfirst(lc)))
			return false;
	}
	return found == 1;
}

bool
sx_join_is_candidate(Query *query)
{
	List	   *from = query->jointree->fromlist;

	if (!looks_at_rows_alone(query) || sx_reads_continuous_view((Node *) query))
		return false;
	if (streams_of(query, (Node *) query->jointree) == 1)
		return is_semi_join(query);
	if (list_length(from) == 1 && IsA(linitial(from), JoinExpr))
	{
		JoinExpr   *join = linitial(from);

		return streams_of(query, join->larg) == 1 && streams_of(query, join->rarg) == 1;
	}
	return list_length(from) == 2 && streams_of(query, linitial(from)) == 1 &&
		streams_of(query, lsecond(from)) == 1;
}

/* ---------- the query over nodes, taken apart ---------- */

/* Is the entry a leaf of a join that keeps numbers of arrival?  Fills the side. */
static bool
find_side(SxJoinSide *side, Query *query, Node *from)
{
	const char *name;
	int			columns;

	if (!IsA(from, RangeTblRef))
		return false;
	side->rte = rt_fetch(((RangeTblRef *) from)->rtindex, query->rtable);
	side->view = sx_node_of(side->rte);
	if (!OidIsValid(side->view) ||
		get_rel_namespace(side->view) != get_namespace_oid(SX_STATE_SCHEMA, false))
		return false;
	columns = list_length(side->rte->subquery->targetList);
	name = get_attname(side->view, columns, false);
	return strcmp(name, SX_JOIN_ARRIVAL) == 0 &&
		get_atttype(side->view, columns) == INT8OID &&
		sx_step_options(side->view, NULL, &side->state) != NULL;
}

static Index
index_of(Node *from)
{
	return ((RangeTblRef *) from)->rtindex;
}

static Node *
final_numbers(Node *node)
{
	ChangeVarNodes(node, LEFT_VARNO, 1, 0);
	ChangeVarNodes(node, RIGHT_VARNO, 2, 0);
	return node;
}

static Node *
renumber(Node *node, Index left, Index right)
{
	if (node == NULL)
		return NULL;
	node = copyObject(node);
	ChangeVarNodes(node, left, LEFT_VARNO, 0);
	ChangeVarNodes(node, right, RIGHT_VARNO, 0);
	return final_numbers(node);
}

static bool
find_plain_join(SxJoin *join, Query *query)
{
	List	   *from = query->jointree->fromlist;
	Node	   *quals = query->jointree->quals;
	Node	   *left;
	Node	   *right;

	if (list_length(from) == 2)
	{
		join->type = JOIN_INNER;
		left = linitial(from);
		right = lsecond(from);
		join->on = quals;
	}
	else
	{
		JoinExpr   *expr = linitial(from);

		if (!IsA(expr, JoinExpr))
			return false;
		join->type = expr->jointype;
		left = expr->larg;
		right = expr->rarg;
		join->on = expr->quals;
		if (join->type == JOIN_INNER)
			join->on = make_and_qual(join->on, quals);
		else
			join->where = quals;
	}
	if (!find_side(&join->side[SX_SIDE_LEFT], query, left) ||
		!find_side(&join->side[SX_SIDE_RIGHT], query, right))
		return false;
	join->on = renumber(join->on, index_of(left), index_of(right));
	join->where = renumber(join->where, index_of(left), index_of(right));
	join->targets = (List *) renumber((Node *) query->targetList, index_of(left),
									  index_of(right));
	return true;
}

/* In x IN (SELECT y …) the parameters stand for the subquery's columns. */
static Node *
param_mutator(Node *node, Query *inner)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_SUBLINK)
		return copyObject((Node *) get_tle_by_resno(inner->targetList,
													((Param *) node)->paramid)->expr);
	return expression_tree_mutator(node, param_mutator, inner);
}

/* The condition of [NOT] EXISTS or IN as one over both sides. */
static Node *
semi_condition(SubLink *sublink, Query *inner, Index left, Index right)
{
	Node	   *on;
	Node	   *test;

	ChangeVarNodes((Node *) inner->jointree->quals, right, RIGHT_VARNO, 0);
	ChangeVarNodes((Node *) inner->targetList, right, RIGHT_VARNO, 0);
	on = inner->jointree->quals;
	if (on != NULL)
	{
		ChangeVarNodes(on, left, LEFT_VARNO, 1);
		IncrementVarSublevelsUp(on, -1, 1);
	}
	if (sublink->subLinkType == ANY_SUBLINK)
	{
		ChangeVarNodes((Node *) inner->targetList, left, LEFT_VARNO, 1);
		IncrementVarSublevelsUp((Node *) inner->targetList, -1, 1);
		ChangeVarNodes(sublink->testexpr, left, LEFT_VARNO, 0);
		test = param_mutator(sublink->testexpr, inner);
		on = make_and_qual(on, test);
	}
	return final_numbers(on);
}

static bool
find_semi_join(SxJoin *join, Query *query)
{
	Node	   *from = linitial(query->jointree->fromlist);
	List	   *quals = make_ands_implicit((Expr *) query->jointree->quals);
	bool		anti;
	SubLink    *sublink;
	Query	   *inner;

	if (list_length(quals) != 1)
		return false;
	sublink = semi_sublink(linitial(quals), &anti);
	if (sublink == NULL)
		return false;
	inner = castNode(Query, sublink->subselect);
	if (!looks_at_rows_alone(inner) || list_length(inner->jointree->fromlist) != 1 ||
		!find_side(&join->side[SX_SIDE_LEFT], query, from) ||
		!find_side(&join->side[SX_SIDE_RIGHT], inner, linitial(inner->jointree->fromlist)))
		return false;
	join->type = anti ? JOIN_ANTI : JOIN_SEMI;
	join->on = semi_condition(sublink, inner, index_of(from),
							  index_of(linitial(inner->jointree->fromlist)));
	join->targets = (List *) renumber((Node *) query->targetList, index_of(from), RIGHT_VARNO);
	return join->on != NULL;
}

/* A key by which partners are found, as a recomputed query over both sides would have it. */
static void
find_keys(SxJoin *join)
{
	Query	   *query = makeNode(Query);
	List	   *refs;

	query->commandType = CMD_SELECT;
	query->rtable = list_make2(copyObject(join->side[SX_SIDE_LEFT].rte),
							   copyObject(join->side[SX_SIDE_RIGHT].rte));
	query->jointree = makeFromExpr(NIL, copyObject(join->on));
	for (int i = 0; i < SX_SIDES; i++)
	{
		RangeTblRef *ref = makeNode(RangeTblRef);

		ref->rtindex = i + 1;
		query->jointree->fromlist = lappend(query->jointree->fromlist, ref);
	}
	refs = sx_node_refs(query);
	join->side[SX_SIDE_LEFT].key = ((SxNodeRef *) linitial(refs))->key;
	join->side[SX_SIDE_RIGHT].key = ((SxNodeRef *) lsecond(refs))->key;
}

SxJoin *
sx_join_find(Query *query)
{
	SxJoin	   *join = palloc0(sizeof(SxJoin));
	int			items = query->jointree == NULL ? 0 : list_length(query->jointree->fromlist);

	query = copyObject(query);
	sx_flatten_group_exprs(query);
	if (!looks_at_rows_alone(query) || items < 1 || items > 2 || query->cteList != NIL)
		return NULL;
	if (!(items == 1 && IsA(linitial(query->jointree->fromlist), RangeTblRef) ?
		  find_semi_join(join, query) : find_plain_join(join, query)))
		return NULL;
	if (checkExprHasSubLink((Node *) join->targets) || checkExprHasSubLink(join->on) ||
		checkExprHasSubLink(join->where) || contain_vars_of_level(join->on, 1))
		return NULL;
	find_keys(join);
	sx_join_find_bound(join);
	return join;
}

/* ---------- the state table ---------- */

static void
refuse_name(const char *name)
{
	if (strcmp(name, SX_JOIN_LEFT) == 0 || strcmp(name, SX_JOIN_RIGHT) == 0 ||
		strcmp(name, SX_JOIN_TIME) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_RESERVED_NAME),
				 errmsg("column name \"%s\" is reserved in a join of streams", name),
				 errhint("Give the column another name with AS.")));
}

SxLayout *
sx_join_layout(Query *query)
{
	SxLayout   *layout = sx_append_layout(query);
	SxLayoutBuilder builder = {layout, NIL, NULL, false};
	Expr	   *number = (Expr *) makeNullConst(INT8OID, -1, InvalidOid);
	Expr	   *time = (Expr *) makeNullConst(TIMESTAMPTZOID, -1, InvalidOid);
	ListCell   *lc;

	foreach(lc, layout->columns)
		refuse_name(((SxStateColumn *) lfirst(lc))->name);
	layout->strategy = SX_STRATEGY_JOIN;
	layout->reason = "a join of two streams: each batch adds the pairs that its new rows make with all rows kept";
	layout->windowed = false;
	layout->window_column = NULL;
	(void) sx_layout_add(&builder, SX_COLUMN_OUTPUT, SX_JOIN_LEFT, number);
	(void) sx_layout_add(&builder, SX_COLUMN_OUTPUT, SX_JOIN_RIGHT, number);
	(void) sx_layout_add(&builder, SX_COLUMN_OUTPUT, SX_JOIN_TIME, time);
	return layout;
}

/* Rows without a match are found by their number; retention deletes by time. */
void
sx_join_index_state(const char *table, bool by_time)
{
	sx_execute_ddl(psprintf("CREATE INDEX ON %s (" SX_JOIN_LEFT ") WHERE " SX_JOIN_LEFT " IS NOT NULL",
							table));
	sx_execute_ddl(psprintf("CREATE INDEX ON %s (" SX_JOIN_RIGHT ") WHERE " SX_JOIN_RIGHT " IS NOT NULL",
							table));
	if (by_time)
		sx_execute_ddl(psprintf("CREATE INDEX ON %s (" SX_JOIN_TIME ")", table));
}

/* emit = 'final': rows without a match are shown when none can come any more. */
char *
sx_join_visible_sql(Query *query, const char *state)
{
	SxJoin	   *join = sx_join_find(query);

	if (!sx_join_preserves(join, SX_SIDE_LEFT) && !sx_join_preserves(join, SX_SIDE_RIGHT))
		return pstrdup("");
	return psprintf(" AND ((s." SX_JOIN_LEFT " IS NULL AND s." SX_JOIN_RIGHT " IS NULL)"
					" OR s." SX_JOIN_TIME " IS NULL"
					" OR s." SX_JOIN_TIME " <= streamext.view_watermark(%s::regclass))",
					quote_literal_cstr(state));
}

/* ---------- the step ---------- */

void
sx_join_sql(SxStepPlan *plan, Query *query, const SxLayout *layout, const SxStepNames *names)
{
	SxJoin	   *join = sx_join_find(query);

	plan->join_sql = sx_join_statements(join, layout, names->state);
	plan->join_bound = sx_join_bound_text(join);
	plan->windowed = sx_join_has_bound(join);
	if (plan->retention >= 0)
		plan->expire_sql = psprintf("DELETE FROM %s\nWHERE " SX_JOIN_TIME " <= $1", names->state);
}

static void
refuse_option(const char *option, const char *problem, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s %s", option, problem),
			 errhint("%s", hint)));
}

/* Those of the two sides that are never given up. */
static bool
is_kept_for_ever(const SxJoin *join, int side)
{
	return !join->side[side].ends;
}

void
sx_join_check_options(const SxViewOptions *options, Query *query)
{
	static const char *const bound_hint =
		"Bound the time between the rows in the join's condition, for example r.ts BETWEEN l.ts AND l.ts + interval '1 hour', over columns that the streams name in event_time and for which they have a watermark.";
	SxJoin	   *join = sx_join_find(query);
	bool		final = options->emit == SX_EMIT_FINAL;

	if (options->late_given && options->late == SX_LATE_UPDATE)
		refuse_option("late = 'update'", "is not possible for a join of streams",
					  "What a late row would meet may be gone: use late = 'drop' or 'dead_letter', and a longer watermark.");
	for (int i = 0; i < SX_SIDES; i++)
	{
		if (final && sx_join_preserves(join, i) && is_kept_for_ever(join, i))
			refuse_option("emit = 'final'", "needs a time bound for the rows without a match", bound_hint);
		if (options->retention >= 0 && is_kept_for_ever(join, i))
			refuse_option("option \"retention\"", "needs a time bound for both sides of the join",
						  bound_hint);
	}
	if ((final || options->late_given) && !sx_join_has_bound(join))
		refuse_option(final ? "emit = 'final'" : "option \"late\"", "needs a join with a time bound",
					  bound_hint);
}

/*
 * What a view with emit = 'final' shows changes with the watermark alone, which no trigger
 * sees: a view over it would miss its rows without a match.
 */
void
sx_join_check_reader(Oid view)
{
	Oid			query;
	char	   *json = sx_step_options(view, &query, NULL);
	SxJoin	   *join = json == NULL ? NULL : sx_join_find(sx_view_query(query));

	if (join != NULL && sx_view_options(sx_options_from_json(json))->emit == SX_EMIT_FINAL &&
		(sx_join_preserves(join, SX_SIDE_LEFT) || sx_join_preserves(join, SX_SIDE_RIGHT)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a continuous view over %s is not supported yet: it is a join with emit = 'final' that shows rows without a match",
						sx_relation_label(view)),
				 errhint("Use emit = 'changes' there.")));
}

/* ---------- what the nodes are told ---------- */

/* Where partners are looked for, and rows that have none any more. */
static void
index_side(const SxJoin *join, int side)
{
	const SxJoinSide *s = &join->side[side];
	const char *table = sx_qualified_name(s->state);
	bool		plain = s->time != NULL && !contain_mutable_functions(s->time);
	char	   *time = plain ? psprintf("(%s)", sx_node_expr_sql(s->view, s->time, NULL)) : NULL;

	if (s->key != NIL)
		sx_execute_ddl(psprintf("CREATE INDEX ON %s (%s%s%s)", table,
								sx_node_key_sql(s->view, s->key, NULL),
								time != NULL && !join->windowed ? ", " : "",
								time != NULL && !join->windowed ? time : ""));
	if (time != NULL)
		sx_execute_ddl(psprintf("CREATE INDEX ON %s (%s)", table, time));
}

/*
 * One node may be both sides, of a join of a stream with itself.  Rows come and go: dead
 * ones are in the way of every batch, so autovacuum comes early.
 */
static void
tell_node(const SxJoin *join, int side, const SxViewOptions *options)
{
	const SxJoinSide *s = &join->side[side];
	bool		shared = join->side[SX_SIDE_LEFT].view == join->side[SX_SIDE_RIGHT].view;
	char	   *closed = sx_join_closed_sql(join, side);
	SxTrusted	trusted;

	sx_changes_capture(s->state);
	sx_trusted_begin(&trusted);
	sx_execute_ddl(psprintf("ALTER TABLE %s SET (autovacuum_vacuum_scale_factor = 0.05, "
							"autovacuum_vacuum_cost_delay = 0)", sx_qualified_name(s->state)));
	if (!shared || side == SX_SIDE_LEFT || !equal(s->key, join->side[SX_SIDE_LEFT].key))
		index_side(join, side);
	sx_trusted_end(&trusted);
	if (s->time == NULL)
		return;
	sx_node_option(s->view, "late", options->late_given ? sx_late_name(options->late) : "drop");
	sx_node_option(s->view, SX_ON_TIME_OPTION, sx_join_late_sql(join, side, "d"));
	if (shared)
	{
		char	   *other = sx_join_closed_sql(join, 1 - side);

		closed = closed == NULL || other == NULL ? NULL :
			psprintf("(%s) AND (%s)", closed, other);
	}
	if (closed != NULL)
		sx_node_evict(s->view, closed);
}

/* "clicks", or "rows of stream clicks" */
static char *
side_name(const SxJoin *join, int side)
{
	return join->side[side].rte->eref->aliasname;
}

static void
warn_of_growth(const SxJoin *join, const char *view)
{
	bool		left = is_kept_for_ever(join, SX_SIDE_LEFT);
	bool		right = is_kept_for_ever(join, SX_SIDE_RIGHT);

	if (!left && !right)
		return;
	ereport(WARNING,
			(errmsg("continuous view \"%s\" keeps all rows of %s%s%s for ever", view,
					left ? side_name(join, SX_SIDE_LEFT) : "",
					left && right ? " and " : "",
					right ? side_name(join, SX_SIDE_RIGHT) : ""),
			 errdetail("The join's condition does not bound when a row can still meet a new partner."),
			 errhint("Bound the time between the rows, for example r.ts BETWEEN l.ts AND l.ts + interval '1 hour', over columns that the streams name in event_time and for which they have a watermark.")));
}

void
sx_join_prepare(Query *query, const SxViewOptions *options, const char *view)
{
	SxJoin	   *join = sx_join_find(query);

	for (int i = 0; i < SX_SIDES; i++)
	{
		tell_node(join, i, options);
		/* what cannot be is refused now, not by the first batch */
		(void) sx_plan_load(join->side[i].view);
	}
	warn_of_growth(join, view);
}
