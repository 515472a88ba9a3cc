/*-------------------------------------------------------------------------
 *
 * join_sql.c
 *		The statements that keep a join, one batch after the other.
 *
 * "New" are the rows that this batch has put into a node, "old" those that were there.
 * For l LEFT JOIN r each batch runs
 *
 *		INSERT pairs of new l with all r
 *		INSERT pairs of new r with old l
 *		DELETE rows without a match, of old l that new r match
 *		INSERT rows without a match, of new l that no r matches
 *
 * so that each pair comes once, whichever side was first.  RIGHT and FULL do the last two
 * for r as well.  A semi join adds l at its first match, an anti join is the last two
 * statements.
 *
 * Each statement starts from the few new rows and looks up their partners one by one, by
 * the index on their key.  So that no plan made for empty tables turns that round later,
 * the partners are a LATERAL subquery that the planner does not pull up (OFFSET 0):
 *
 *		FROM (new l) l, LATERAL (SELECT … FROM r WHERE key and condition OFFSET 0) r
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "plan/join.h"

/* bigint = bigint, in pg_operator */
#define INT8_EQUAL		410

#define HASH_COLUMN		"sx_hash"
#define CLOSES_COLUMN	"sx_closes"

typedef enum RowSet
{
	ROWS_ALL,
	ROWS_OLD,
	ROWS_NEW
} RowSet;

/* ---------- the rows of a side ---------- */

static int
column_count(const SxJoin *join, int side)
{
	return list_length(join->side[side].rte->subquery->targetList);
}

/* Columns of a node, then its key's number and when the row closes. */
static char *
side_sql(const SxJoin *join, int i, RowSet rows)
{
	const SxJoinSide *side = &join->side[i];
	const char *table = sx_qualified_name(side->state);
	const char *closes = sx_join_closes_sql(join, i, "c");
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int n = 1; n <= column_count(join, i); n++)
		appendStringInfo(&sql, "c.%s, ", quote_identifier(get_attname(side->view, n, false)));
	appendStringInfo(&sql, "%s AS " HASH_COLUMN ", %s AS " CLOSES_COLUMN,
					 side->key == NIL ? "0::bigint" : sx_node_key_sql(side->view, side->key, "c"),
					 closes == NULL ? "NULL::timestamptz" : closes);
	if (rows == ROWS_NEW)
		appendStringInfo(&sql, " FROM streamext.new_rows(NULL::%s) c", table);
	else
		appendStringInfo(&sql, " FROM %s c", table);
	if (rows == ROWS_OLD)
		appendStringInfoString(&sql, " WHERE c." SX_JOIN_ARRIVAL " <= $1");
	return sql.data;
}

static Query *
side_query(const SxJoin *join, int side, RowSet rows)
{
	Oid			types[] = {INT8OID};
	char	   *sql = side_sql(join, side, rows);
	int			nestlevel = sx_pin_settings();
	Query	   *query = parse_analyze_fixedparams(linitial_node(RawStmt, pg_parse_query(sql)), sql,
												  types, 1, NULL);

	AtEOXact_GUC(true, nestlevel);
	return query;
}

static RangeTblEntry *
side_entry(const SxJoin *join, int side, Query *query)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	rte->eref = makeAlias(join->side[side].rte->eref->aliasname, NIL);
	sx_rte_show(rte, query);
	return rte;
}

static Var *
side_column(const SxJoin *join, int side, AttrNumber attno, Oid type)
{
	return makeVar(side + 1, attno, type, -1, InvalidOid, 0);
}

static Var *
arrival_of(const SxJoin *join, int side)
{
	return side_column(join, side, column_count(join, side), INT8OID);
}

static Var *
hash_of(const SxJoin *join, int side)
{
	return side_column(join, side, column_count(join, side) + 1, INT8OID);
}

static Var *
closes_of(const SxJoin *join, int side)
{
	return side_column(join, side, column_count(join, side) + 2, TIMESTAMPTZOID);
}

/* ---------- partners ---------- */

typedef struct InnerContext
{
	Index		partner;		/* whose columns become those of the subquery */
	Query	   *subquery;
} InnerContext;

/* The condition as one inside the partner's subquery: the other side is one level up. */
static Node *
inner_mutator(Node *node, InnerContext *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;
		Var		   *outer;

		if (var->varno == context->partner)
			return copyObject((Node *) list_nth_node(TargetEntry, context->subquery->targetList,
													 var->varattno - 1)->expr);
		outer = copyObject(var);
		outer->varlevelsup = 1;
		return (Node *) outer;
	}
	return expression_tree_mutator(node, inner_mutator, context);
}

/* Rows of the side that are partners of a row of the other one, which is a level up. */
static Query *
partners(const SxJoin *join, int side, RowSet rows)
{
	Query	   *query = side_query(join, side, rows);
	InnerContext context = {side + 1, query};
	Node	   *condition = copyObject(join->on);

	if (join->side[side].key != NIL)
		condition = make_and_qual((Node *) make_opclause(INT8_EQUAL, BOOLOID, false,
														 (Expr *) hash_of(join, side),
														 (Expr *) hash_of(join, 1 - side),
														 InvalidOid, InvalidOid),
								  condition);
	query->jointree->quals = make_and_qual(query->jointree->quals,
										   inner_mutator(condition, &context));
	query->limitOffset = (Node *) makeConst(INT8OID, -1, InvalidOid, sizeof(int64),
											Int64GetDatum(0), false, FLOAT8PASSBYVAL);
	return query;
}

/* ---------- whole queries ---------- */

static Query *
empty_query(const SxJoin *join)
{
	Query	   *query = makeNode(Query);

	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	query->jointree = makeFromExpr(NIL, NULL);
	return query;
}

static void
add_from(Query *query, int side)
{
	RangeTblRef *ref = makeNode(RangeTblRef);

	ref->rtindex = side + 1;
	query->jointree->fromlist = lappend(query->jointree->fromlist, ref);
}

static void
add_target(Query *query, Expr *expr, const char *name)
{
	query->targetList = lappend(query->targetList,
								makeTargetEntry(expr, list_length(query->targetList) + 1,
												pstrdup(name), false));
}

/* Every pair of a row of the driving side with its partners.  Without output. */
static Query *
pairs(const SxJoin *join, int driver, RowSet driving, RowSet partner)
{
	Query	   *query = empty_query(join);
	RangeTblEntry *entry[SX_SIDES];

	entry[driver] = side_entry(join, driver, side_query(join, driver, driving));
	entry[1 - driver] = side_entry(join, 1 - driver, partners(join, 1 - driver, partner));
	entry[1 - driver]->lateral = true;
	query->rtable = list_make2(entry[SX_SIDE_LEFT], entry[SX_SIDE_RIGHT]);
	add_from(query, driver);
	add_from(query, 1 - driver);
	return query;
}

/* Rows of the side that have partners, or have none.  Without output. */
static Query *
alone(const SxJoin *join, int side, RowSet rows, bool matched)
{
	Query	   *query = empty_query(join);
	SubLink    *sublink = makeNode(SubLink);
	RangeTblEntry *entry = side_entry(join, side, side_query(join, side, rows));
	RangeTblEntry *other = makeNode(RangeTblEntry);

	other->rtekind = RTE_RESULT;
	other->eref = makeAlias("*RESULT*", NIL);
	query->rtable = side == SX_SIDE_LEFT ? list_make2(entry, other) : list_make2(other, entry);
	add_from(query, side);
	sublink->subLinkType = EXISTS_SUBLINK;
	sublink->subselect = (Node *) partners(join, 1 - side, ROWS_ALL);
	sublink->location = -1;
	query->jointree->quals = matched ? (Node *) sublink :
		(Node *) makeBoolExpr(NOT_EXPR, list_make1(sublink), -1);
	query->hasSubLinks = true;
	return query;
}

/* ---------- output ---------- */

/* Columns of the side that has no row are NULL. */
static Node *
null_mutator(Node *node, Index *missing)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varno == *missing)
		return (Node *) makeNullConst(((Var *) node)->vartype, ((Var *) node)->vartypmod,
									  ((Var *) node)->varcollid);
	return expression_tree_mutator(node, null_mutator, missing);
}

static Node *
without_side(Node *node, int side)
{
	Index		missing = side + 1;

	return null_mutator(copyObject(node), &missing);
}

static Expr *
null_number(void)
{
	return (Expr *) makeNullConst(INT8OID, -1, InvalidOid);
}

/* The later of both times; unknown as long as one of them is. */
static Expr *
pair_closes(const SxJoin *join)
{
	MinMaxExpr *expr = makeNode(MinMaxExpr);

	expr->minmaxtype = TIMESTAMPTZOID;
	expr->op = IS_GREATEST;
	expr->args = list_make2(closes_of(join, SX_SIDE_LEFT), closes_of(join, SX_SIDE_RIGHT));
	expr->location = -1;
	return (Expr *) expr;
}

static void
add_bookkeeping(Query *query, Expr *left, Expr *right, Expr *time)
{
	add_target(query, left, SX_JOIN_LEFT);
	add_target(query, right, SX_JOIN_RIGHT);
	add_target(query, time, SX_JOIN_TIME);
}

static void
add_output(Query *query, const SxJoin *join, int missing)
{
	ListCell   *lc;
	Node	   *where = missing < 0 ? copyObject(join->where) : without_side(join->where, missing);

	foreach(lc, join->targets)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!tle->resjunk)
			add_target(query, missing < 0 ? copyObject(tle->expr) :
					   (Expr *) without_side((Node *) tle->expr, missing), tle->resname);
	}
	query->jointree->quals = make_and_qual(query->jointree->quals, where);
}

static char *
insert_sql(const SxLayout *layout, const char *state, const char *select)
{
	return psprintf("INSERT INTO %s (%s)\n%s", state, sx_columns_sql(layout->columns, ""), select);
}

/* ---------- statements ---------- */

static char *
pairs_sql(const SxJoin *join, const SxLayout *layout, const char *state, int driver,
		  RowSet partner)
{
	Query	   *query = pairs(join, driver, ROWS_NEW, partner);

	add_output(query, join, -1);
	add_bookkeeping(query, null_number(), null_number(), pair_closes(join));
	return insert_sql(layout, state, sx_deparse(query));
}

static void
add_alone_output(Query *query, const SxJoin *join, int side)
{
	Expr	   *arrival = (Expr *) arrival_of(join, side);

	add_output(query, join, 1 - side);
	add_bookkeeping(query, side == SX_SIDE_LEFT ? arrival : null_number(),
					side == SX_SIDE_RIGHT ? arrival : null_number(),
					(Expr *) closes_of(join, side));
}

/* New rows of the side that have a partner, or have none. */
static char *
alone_sql(const SxJoin *join, const SxLayout *layout, const char *state, int side, bool matched)
{
	Query	   *query = alone(join, side, ROWS_NEW, matched);

	add_alone_output(query, join, side);
	return insert_sql(layout, state, sx_deparse(query));
}

/* What stood there without a match, and now has one. */
static char *
take_back_sql(const SxJoin *join, const char *state, int side)
{
	Query	   *query = pairs(join, 1 - side, ROWS_NEW, ROWS_OLD);

	add_target(query, (Expr *) arrival_of(join, side), SX_JOIN_ARRIVAL);
	return psprintf("DELETE FROM %s\nWHERE %s = ANY (ARRAY(\n%s\n))", state,
					side == SX_SIDE_LEFT ? SX_JOIN_LEFT : SX_JOIN_RIGHT, sx_deparse(query));
}

/* Old rows at their first match. */
static char *
first_match_sql(const SxJoin *join, const SxLayout *layout, const char *state)
{
	Query	   *query = pairs(join, SX_SIDE_RIGHT, ROWS_NEW, ROWS_OLD);

	add_alone_output(query, join, SX_SIDE_LEFT);
	return insert_sql(layout, state,
					  psprintf("SELECT DISTINCT ON (d." SX_JOIN_LEFT ") d.*\nFROM (\n%s\n) d\n"
							   "WHERE NOT EXISTS (SELECT FROM %s s WHERE s." SX_JOIN_LEFT
							   " = d." SX_JOIN_LEFT " OFFSET 0)",
							   sx_deparse(query), state));
}

List *
sx_join_statements(const SxJoin *join, const SxLayout *layout, const char *state)
{
	List	   *result = NIL;

	if (join->type == JOIN_SEMI)
		return list_make2(alone_sql(join, layout, state, SX_SIDE_LEFT, true),
						  first_match_sql(join, layout, state));
	if (join->type != JOIN_ANTI)
	{
		result = lappend(result, pairs_sql(join, layout, state, SX_SIDE_LEFT, ROWS_ALL));
		result = lappend(result, pairs_sql(join, layout, state, SX_SIDE_RIGHT, ROWS_OLD));
	}
	for (int side = 0; side < SX_SIDES; side++)
	{
		if (!sx_join_preserves(join, side))
			continue;
		result = lappend(result, take_back_sql(join, state, side));
		result = lappend(result, alone_sql(join, layout, state, side, false));
	}
	return result;
}
