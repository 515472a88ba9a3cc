/*-------------------------------------------------------------------------
 *
 * continuous_view.c
 *		Statements about materialized views that are meant for a continuous view.
 *
 * A continuous view was created as a materialized view, and is a plain view over
 * its state table.  So DROP, ALTER and COMMENT ON MATERIALIZED VIEW become those of
 * a view, CREATE INDEX goes to the state table, and what would change the query or
 * makes no sense for a view that is always current is refused.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "streamext.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "ddl/ddl_internal.h"

/* Oid of the continuous view of this name, else InvalidOid. */
static Oid
find_view(const RangeVar *name)
{
	Oid			relid;

	if (name == NULL)
		return InvalidOid;
	relid = RangeVarGetRelid(name, NoLock, true);
	if (!OidIsValid(relid) || get_rel_relkind(relid) != RELKIND_VIEW ||
		!sx_extension_exists() || sx_relation_kind(relid) != SX_REL_VIEW)
		return InvalidOid;
	return relid;
}

static bool
is_view(const RangeVar *name)
{
	return OidIsValid(find_view(name));
}

static bool
is_view_object(Node *object)
{
	return is_view(makeRangeVarFromNameList(castNode(List, object)));
}

static void
refuse(const char *name, const char *what, const char *instead)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("%s is not possible for the continuous view \"%s\"", what, name),
			 errhint("%s", instead)));
}

static void
refuse_index(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("an index on the state table \"%s\" can have columns only", name),
			 errhint("Leave UNIQUE, expressions and WHERE out.")));
}

/*
 * DROP MATERIALIZED VIEW of a list that may hold both kinds.  True materialized
 * views go first, since they may read continuous ones.
 */
static bool
drop_views(SxUtilityCall *call, DropStmt *stmt)
{
	DropStmt   *drop = copyObject(stmt);
	List	   *views = NIL;
	List	   *others = NIL;
	ListCell   *lc;

	if (stmt->removeType != OBJECT_MATVIEW)
		return false;
	foreach(lc, drop->objects)
	{
		if (is_view_object(lfirst(lc)))
			views = lappend(views, lfirst(lc));
		else
			others = lappend(others, lfirst(lc));
	}
	if (views == NIL)
		return false;

	if (others != NIL)
	{
		drop->objects = others;
		sx_utility_next(call, (Node *) copyObject(drop));
		CommandCounterIncrement();
	}
	drop->objects = views;
	drop->removeType = OBJECT_VIEW;
	sx_utility_next(call, (Node *) drop);
	return true;
}

static bool
alter_view(SxUtilityCall *call, AlterTableStmt *stmt)
{
	AlterTableStmt *alter;
	ListCell   *lc;

	if (stmt->objtype != OBJECT_MATVIEW || !is_view(stmt->relation))
		return false;
	foreach(lc, stmt->cmds)
	{
		if (lfirst_node(AlterTableCmd, lc)->subtype != AT_ChangeOwner)
			refuse(stmt->relation->relname, "this form of ALTER MATERIALIZED VIEW",
				   "It takes OWNER TO, RENAME and SET SCHEMA; for anything else drop it and create it again.");
	}
	alter = copyObject(stmt);
	alter->objtype = OBJECT_VIEW;
	sx_utility_next(call, (Node *) alter);
	return true;
}

static bool
rename_view(SxUtilityCall *call, RenameStmt *stmt)
{
	RenameStmt *alter;

	if ((stmt->renameType != OBJECT_MATVIEW &&
		 !(stmt->renameType == OBJECT_COLUMN && stmt->relationType == OBJECT_MATVIEW)) ||
		!is_view(stmt->relation))
		return false;
	alter = copyObject(stmt);
	if (alter->renameType == OBJECT_MATVIEW)
		alter->renameType = OBJECT_VIEW;
	else
		alter->relationType = OBJECT_VIEW;
	sx_utility_next(call, (Node *) alter);
	return true;
}

static bool
move_view(SxUtilityCall *call, AlterObjectSchemaStmt *stmt)
{
	AlterObjectSchemaStmt *alter;

	if (stmt->objectType != OBJECT_MATVIEW || !is_view(stmt->relation))
		return false;
	alter = copyObject(stmt);
	alter->objectType = OBJECT_VIEW;
	sx_utility_next(call, (Node *) alter);
	return true;
}

static bool
comment_on_view(SxUtilityCall *call, CommentStmt *stmt)
{
	CommentStmt *comment;

	if (stmt->objtype != OBJECT_MATVIEW || !is_view_object(stmt->object))
		return false;
	comment = copyObject(stmt);
	comment->objtype = OBJECT_VIEW;
	sx_utility_next(call, (Node *) comment);
	return true;
}

static bool
label_view(SxUtilityCall *call, SecLabelStmt *stmt)
{
	SecLabelStmt *label;

	if (stmt->objtype != OBJECT_MATVIEW || !is_view_object(stmt->object))
		return false;
	label = copyObject(stmt);
	label->objtype = OBJECT_VIEW;
	sx_utility_next(call, (Node *) label);
	return true;
}

/*
 * The column of the state table that a column of the view shows unchanged, or
 * NULL when the view computes it.
 */
static char *
stored_column(Relation view, Oid state, const char *column)
{
	Query	   *query = get_view_query(view);
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);
		Var		   *var = (Var *) entry->expr;

		if (entry->resjunk || entry->resname == NULL ||
			strcmp(entry->resname, column) != 0)
			continue;
		if (!IsA(var, Var) || var->varlevelsup != 0 || var->varattno <= 0 ||
			rt_fetch(var->varno, query->rtable)->relid != state)
			return NULL;
		return get_attname(state, var->varattno, false);
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" does not exist", column)));
}

/* Replaces the view's column names by those of the state table. */
static void
map_index_columns(List *elements, Relation view, Oid state)
{
	const char *name = RelationGetRelationName(view);
	ListCell   *lc;

	foreach(lc, elements)
	{
		IndexElem  *element = lfirst_node(IndexElem, lc);
		char	   *column;

		if (element->name == NULL)
			refuse(name, "an index on an expression", "Index columns that are stored.");
		column = stored_column(view, state, element->name);
		if (column == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("column \"%s\" of the continuous view \"%s\" is computed when it is read",
							element->name, name),
					 errhint("Index a column that is stored as such, as those of GROUP BY are.")));
		element->name = column;
	}
}

/* CREATE INDEX on the view: on its state table, which only streamext may alter. */
static bool
index_view(SxUtilityCall *call, IndexStmt *stmt)
{
	Oid			relid = find_view(stmt->relation);
	Oid			query;
	Oid			state = InvalidOid;
	IndexStmt  *create;
	Relation	view;
	SxTrusted	trusted;

	if (!OidIsValid(relid))
		return false;
	if (!sx_owns_relation(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_VIEW, stmt->relation->relname);
	if (stmt->concurrent)
		refuse(stmt->relation->relname, "CREATE INDEX CONCURRENTLY",
			   "Leave CONCURRENTLY out: the index is there before the next batch.");
	if (stmt->unique)
		refuse(stmt->relation->relname, "a unique index",
			   "Leave UNIQUE out: the keys of the view are unique already.");
	if (stmt->whereClause != NULL)
		refuse(stmt->relation->relname, "a partial index", "Leave WHERE out.");
	if (stmt->tableSpace != NULL)
		refuse(stmt->relation->relname, "an index in a tablespace",
			   "Leave TABLESPACE out, and move it with ALTER INDEX.");
	if (sx_step_options(relid, &query, &state) == NULL || !OidIsValid(state))
		elog(ERROR, "continuous view \"%s\" has no state table", stmt->relation->relname);

	create = copyObject(stmt);
	create->relation = makeRangeVar(get_namespace_name(get_rel_namespace(state)),
									get_rel_name(state), stmt->relation->location);
	view = table_open(relid, AccessShareLock);
	map_index_columns(create->indexParams, view, state);
	map_index_columns(create->indexIncludingParams, view, state);
	table_close(view, NoLock);

	sx_trusted_begin(&trusted);
	sx_utility_next(call, (Node *) create);
	sx_trusted_end(&trusted);
	return true;
}

/*
 * A dump makes the view first as one of NULLs, as its state table belongs to it, and
 * replaces that when the state table is there.
 */
static bool
is_stub(const RangeVar *name)
{
	Relation	view = table_open(find_view(name), AccessShareLock);
	bool		result = get_view_query(view)->jointree->fromlist == NIL;

	table_close(view, NoLock);
	return result;
}

/* Is it a table in which streamext keeps state or records of a stream? */
static bool
is_state(Oid relid)
{
	Datum		values[] = {ObjectIdGetDatum(relid)};
	bool		isnull;

	if (!OidIsValid(relid) || !sx_extension_exists() ||
		get_rel_namespace(relid) != get_namespace_oid(SX_STATE_SCHEMA, true))
		return false;
	(void) sx_catalog_value("SELECT true FROM streamext.step WHERE $1 IN (state, panes) "
							"UNION ALL SELECT true FROM streamext.stream WHERE log = $1 LIMIT 1",
							SX_ARGS(REGCLASSOID), values, NULL, &isnull);
	return !isnull;
}

/*
 * CREATE INDEX on a state table or log by its owner, who may not create in its schema.
 * Expressions would be evaluated as the extension's owner; and a unique index would
 * stop batches.
 */
static bool
index_state(SxUtilityCall *call, IndexStmt *stmt)
{
	Oid			relid = stmt->relation == NULL ? InvalidOid :
		RangeVarGetRelid(stmt->relation, NoLock, true);
	ListCell   *lc;
	SxTrusted	trusted;

	if (!is_state(relid) || superuser() || stmt->concurrent ||
		!sx_owns_relation(relid, GetUserId()))
		return false;
	if (stmt->unique || stmt->whereClause != NULL)
		refuse_index(stmt->relation->relname);
	foreach(lc, list_concat_copy(stmt->indexParams, stmt->indexIncludingParams))
	{
		if (lfirst_node(IndexElem, lc)->name == NULL)
			refuse_index(stmt->relation->relname);
	}
	sx_trusted_begin(&trusted);
	sx_utility_next(call, NULL);
	sx_trusted_end(&trusted);
	return true;
}

/* Dispatch by statement; false: not about a continuous view. */
bool
sx_continuous_view_command(SxUtilityCall *call, Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_DropStmt:
			return drop_views(call, (DropStmt *) stmt);
		case T_AlterTableStmt:
			return alter_view(call, (AlterTableStmt *) stmt);
		case T_RenameStmt:
			return rename_view(call, (RenameStmt *) stmt);
		case T_AlterObjectSchemaStmt:
			return move_view(call, (AlterObjectSchemaStmt *) stmt);
		case T_CommentStmt:
			return comment_on_view(call, (CommentStmt *) stmt);
		case T_SecLabelStmt:
			return label_view(call, (SecLabelStmt *) stmt);
		case T_IndexStmt:
			return index_view(call, (IndexStmt *) stmt) ||
				index_state(call, (IndexStmt *) stmt);
		case T_RefreshMatViewStmt:
			if (is_view(((RefreshMatViewStmt *) stmt)->relation))
				refuse(((RefreshMatViewStmt *) stmt)->relation->relname,
					   "REFRESH MATERIALIZED VIEW",
					   "It is always current; streamext.reset() rebuilds it.");
			return false;
		case T_ViewStmt:
			if (((ViewStmt *) stmt)->replace && is_view(((ViewStmt *) stmt)->view) &&
				!is_stub(((ViewStmt *) stmt)->view))
				refuse(((ViewStmt *) stmt)->view->relname, "CREATE OR REPLACE VIEW",
					   "Drop it with DROP MATERIALIZED VIEW and create it again.");
			return false;
		default:
			return false;
	}
}
