/*-------------------------------------------------------------------------
 *
 * layout.c
 *		The columns of a state table, and the view over them.
 *
 * append: the state table has the columns of the query, the view shows them.
 *
 * merge: it has one column per GROUP BY key and what each aggregate needs (see
 * aggregate.c).  The output expressions and HAVING are rewritten over these
 * columns: a key where a key stands, the final value where an aggregate stands.
 * Without GROUP BY there is one row, keyed by a constant, from the start: SELECT
 * count(*) over nothing is 0.
 *
 * The layout follows from the stored query alone, so that it need not be stored.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/attnum.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "compat.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_relation.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/pg_locale.h"
#include "utils/typcache.h"

#include "plan/plan_internal.h"

/* ---------- columns ---------- */

static bool
name_is_taken(List *names, const char *name)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		if (strcmp(lfirst(lc), name) == 0)
			return true;
	}
	return false;
}

static char *
free_name(SxLayoutBuilder *builder, const char *wanted)
{
	char	   *name = makeObjectName(wanted, NULL, NULL);
	int			n = 1;

	while (name_is_taken(builder->names, name))
		name = makeObjectName(wanted, NULL, psprintf("%d", ++n));
	builder->names = lappend(builder->names, name);
	return name;
}

SxStateColumn *
sx_layout_add(SxLayoutBuilder *builder, SxColumnKind kind, const char *name, Expr *expr)
{
	SxStateColumn *column = palloc0(sizeof(SxStateColumn));

	column->kind = kind;
	column->name = free_name(builder, name);
	column->expr = expr;
	column->type = exprType((Node *) expr);
	column->typmod = exprTypmod((Node *) expr);
	column->collation = exprCollation((Node *) expr);
	builder->layout->columns = lappend(builder->layout->columns, column);
	return column;
}

Var *
sx_state_var(SxLayout *layout, SxStateColumn *column)
{
	AttrNumber	attno = 1;
	ListCell   *lc;

	foreach(lc, layout->columns)
	{
		if (lfirst(lc) == column)
			break;
		attno++;
	}
	return makeVar(1, attno, column->type, column->typmod, column->collation, 0);
}

bool
sx_column_is_c(const SxStateColumn *column)
{
	return OidIsValid(column->collation) &&
		(column->type == TEXTOID || column->type == VARCHAROID || column->type == BPCHAROID) &&
		get_collation_isdeterministic(column->collation);
}

bool
sx_is_hashable(Oid type, Oid collation)
{
	return OidIsValid(lookup_type_cache(type, TYPECACHE_HASH_EXTENDED_PROC)->hash_extended_proc) &&
		(!OidIsValid(collation) || get_collation_isdeterministic(collation));
}

/* ---------- keys ---------- */

static void
check_key(SortGroupClause *clause, TargetEntry *tle, const char *name)
{
	SxRefusal	refusal;

	if (OidIsValid(clause->sortop))
		return;
	sx_refuse(&refusal,
			  psprintf("GROUP BY %s: type %s has no order, which a key of a continuous view needs",
					   name, format_type_be(exprType((Node *) tle->expr))),
			  "Group by a cast of it, for example to text.");
	sx_report_refusal(&refusal);
}

static void
add_keys(SxLayoutBuilder *builder, Query *query)
{
	ListCell   *lc;

	foreach(lc, query->groupClause)
	{
		SortGroupClause *clause = lfirst(lc);
		TargetEntry *tle = get_sortgroupclause_tle(clause, query->targetList);
		const char *name = tle->resjunk || tle->resname == NULL ? "key" : tle->resname;
		SxStateColumn *column;

		if (sx_is_session_call((Node *) tle->expr))
		{
			builder->session = (FuncExpr *) tle->expr;
			continue;
		}
		check_key(clause, tle, name);
		column = sx_layout_add(builder, SX_COLUMN_KEY, name, tle->expr);
		column->sortgroupref = clause->tleSortGroupRef;
	}
	if (list_length(query->groupClause) > INDEX_MAX_KEYS)
	{
		SxRefusal	refusal;

		sx_refuse(&refusal,
				  psprintf("GROUP BY with more than %d keys is not supported in a continuous view",
						   INDEX_MAX_KEYS),
				  "Group by a ROW(…) of some of the columns.");
		sx_report_refusal(&refusal);
	}
	if (query->groupClause == NIL)
		(void) sx_layout_add(builder, SX_COLUMN_ONLY, "only_row",
							 (Expr *) makeConst(INT2OID, -1, InvalidOid, sizeof(int16),
												Int16GetDatum(1), false, true));
}

/* ---------- output over state ---------- */

static SxStateColumn *
key_of(SxLayout *layout, Node *node)
{
	ListCell   *lc;

	foreach(lc, layout->columns)
	{
		SxStateColumn *column = lfirst(lc);

		if (column->kind == SX_COLUMN_KEY && equal(column->expr, node))
			return column;
	}
	return NULL;
}

static void
refuse_above_grouping(const char *what, const char *hint)
{
	SxRefusal	refusal;

	sx_refuse(&refusal,
			  psprintf("%s outside of aggregates and GROUP BY is not supported in a continuous view", what),
			  pstrdup(hint));
	sx_report_refusal(&refusal);
}

static Node *
to_state(Node *node, SxLayoutBuilder *builder)
{
	SxStateColumn *key;

	Node	   *session;

	if (node == NULL)
		return NULL;
	session = builder->session != NULL ? sx_session_to_state(builder, node) : NULL;
	if (session != NULL)
		return session;
	key = key_of(builder->layout, node);
	if (key != NULL)
		return (Node *) sx_state_var(builder->layout, key);
	if (IsA(node, Aggref))
		return sx_aggregate_to_state(builder, (Aggref *) node);
	if (IsA(node, Var))
		refuse_above_grouping("a column",
							  "Add the column to GROUP BY; that it depends on a key is not used here.");
	if (IsA(node, SubLink))
		refuse_above_grouping("a subquery",
							  "Join the table in FROM, or in a query that reads the view.");
	if (IsA(node, GroupingFunc))
		refuse_above_grouping("GROUPING()", "Make one continuous view for each grouping.");
	builder->exact = false;
	return expression_tree_mutator(node, to_state, builder);
}

static Node *
output_to_state(SxLayoutBuilder *builder, Node *expr, const char *base)
{
	Node	   *result;

	builder->base = base;
	builder->exact = true;
	result = to_state(expr, builder);
	if (sx_reads_batch(result))
		refuse_above_grouping("batch_id(), batch_time() or watermark()",
							  "Aggregate it: for example max(streamext.batch_time()).");
	return result;
}

static void
build_merge(SxLayoutBuilder *builder, Query *query)
{
	SxLayout   *layout = builder->layout;
	ListCell   *lc;
	AttrNumber	resno = 1;

	layout->strategy = SX_STRATEGY_MERGE;
	layout->reason = query->groupClause != NIL ?
		"GROUP BY whose aggregates can be combined: each batch is aggregated alone and merged by key" :
		"aggregates without GROUP BY that can be combined: each batch is merged into the one row";
	add_keys(builder, query);
	if (sx_is_by_slot(query))
		sx_layout_add_slot(builder);
	if (builder->session != NULL)
		sx_session_layout(builder, query);
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);
		Node	   *expr;

		if (tle->resjunk)
			continue;
		expr = output_to_state(builder, (Node *) tle->expr, tle->resname);
		layout->output = lappend(layout->output,
								 makeTargetEntry((Expr *) expr, resno++, tle->resname, false));
	}
	if (query->havingQual != NULL)
		layout->having = output_to_state(builder, query->havingQual, "having");
}

static void
build_append(SxLayoutBuilder *builder, Query *query)
{
	SxLayout   *layout = builder->layout;
	ListCell   *lc;
	AttrNumber	resno = 1;

	layout->strategy = SX_STRATEGY_APPEND;
	layout->reason = "no aggregate: the rows of each batch are added";
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);
		SxStateColumn *column;

		if (tle->resjunk)
			continue;
		if (name_is_taken(builder->names, tle->resname))
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_COLUMN),
					 errmsg("column \"%s\" specified more than once", tle->resname),
					 errhint("Give the columns different names with AS.")));
		column = sx_layout_add(builder, SX_COLUMN_OUTPUT, tle->resname, tle->expr);
		layout->output = lappend(layout->output,
								 makeTargetEntry((Expr *) sx_state_var(layout, column),
												 resno++, tle->resname, false));
	}
}

/* The first key, or column, that is a window over the event time. */
static void
find_window(SxLayout *layout, Query *query)
{
	AttrNumber	attno = 0;
	ListCell   *lc;

	if (layout->strategy == SX_STRATEGY_SESSION)
		return;
	foreach(lc, layout->columns)
	{
		SxStateColumn *column = lfirst(lc);
		Node	   *expr = (Node *) column->expr;

		attno++;
		if (column->kind != SX_COLUMN_KEY && column->kind != SX_COLUMN_OUTPUT)
			continue;
		if (sx_trace_window(query, expr, attno, &layout->window))
		{
			layout->windowed = true;
			layout->window_column = column;
			return;
		}
	}
}

static void
check_has_output(const SxLayout *layout)
{
	if (layout->output == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("a continuous view must have a column")));
}

SxLayout *
sx_append_layout(Query *query)
{
	SxLayoutBuilder builder = {palloc0(sizeof(SxLayout)), NIL, NULL, false};

	query = copyObject(query);
	sx_flatten_group_exprs(query);
	build_append(&builder, query);
	check_has_output(builder.layout);
	find_window(builder.layout, query);
	return builder.layout;
}

SxLayout *
sx_layout_build(Query *query)
{
	SxLayoutBuilder builder = {palloc0(sizeof(SxLayout)), NIL, NULL, false};

	query = copyObject(query);
	sx_flatten_group_exprs(query);
	if (query->hasAggs || query->groupClause != NIL || query->groupingSets != NIL ||
		query->havingQual != NULL)
		build_merge(&builder, query);
	else
		build_append(&builder, query);
	check_has_output(builder.layout);
	find_window(builder.layout, query);
	return builder.layout;
}
