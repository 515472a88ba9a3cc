/*-------------------------------------------------------------------------
 *
 * sink_columns.c
 *		Columns of a sink's query, and those of the target table that they go into.
 *
 * Columns go into the target by position; those behind may have defaults.  Option key
 * marks those by which rows are put and deleted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_attribute.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "plan/plan_internal.h"
#include "plan/sink_columns.h"
#include "plan/sink_delete.h"

/* Does the query have a column that says whether a row deletes? */
bool
sx_sink_deletes(Query *query)
{
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (!tle->resjunk && strcmp(tle->resname, SX_DELETE_COLUMN) == 0)
			return true;
	}
	return false;
}

List *
sx_sink_columns(Query *query)
{
	List	   *columns = NIL;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		SxSinkColumn *column;

		if (tle->resjunk || strcmp(tle->resname, SX_DELETE_COLUMN) == 0)
			continue;
		column = palloc0(sizeof(SxSinkColumn));
		column->name = column->target = tle->resname;
		column->type = column->target_type = exprType((Node *) tle->expr);
		column->typmod = exprTypmod((Node *) tle->expr);
		column->may_be_null = true;
		columns = lappend(columns, column);
	}
	return columns;
}

SxSinkColumn *
sx_sink_column(List *columns, const char *name)
{
	ListCell   *lc;

	foreach(lc, columns)
	{
		SxSinkColumn *column = lfirst(lc);

		if (strcmp(column->name, name) == 0)
			return column;
	}
	return NULL;
}

/* Marks the columns of option key; false when there is none. */
bool
sx_sink_mark_keys(List *columns, List *options)
{
	const char *key = sx_option(options, "key");
	List	   *names;
	ListCell   *lc;

	if (key == NULL)
		return false;
	if (!SplitIdentifierString(pstrdup(key), ',', &names) || names == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"key\" is not a list of columns: \"%s\"", key),
				 errhint("Write key = 'a' or key = 'a, b'.")));
	foreach(lc, names)
	{
		SxSinkColumn *column = sx_sink_column(columns, lfirst(lc));

		if (column == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("key column \"%s\" is not in the query's output", (char *) lfirst(lc)),
					 errhint("Name columns of the sink.")));
		column->is_key = true;
	}
	return true;
}

/* Such a column takes no value but DEFAULT. */
static void
refuse_computed(Form_pg_attribute att, Oid target)
{
	if (att->attgenerated == '\0' && att->attidentity != ATTRIBUTE_IDENTITY_ALWAYS)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_GENERATED_ALWAYS),
			 errmsg("column \"%s\" of table %s is generated always, and cannot be written",
					NameStr(att->attname), sx_qualified_name(target)),
			 errhint("Columns are matched by position: let it come behind those that the query fills.")));
}

/* Pairs the columns with those of the target, by position. */
void
sx_sink_match_target(List *columns, Oid target)
{
	Relation	rel = table_open(target, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	int			i = 0;
	ListCell   *lc;

	foreach(lc, columns)
	{
		SxSinkColumn *column = lfirst(lc);
		Form_pg_attribute att;

		while (i < desc->natts && TupleDescAttr(desc, i)->attisdropped)
			i++;
		if (i >= desc->natts)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("table %s has no column for column \"%s\" of the query",
							sx_qualified_name(target), column->name),
					 errhint("Columns are matched by position: list the columns of the query in the order of the table.")));
		att = TupleDescAttr(desc, i++);
		refuse_computed(att, target);
		column->target = pstrdup(NameStr(att->attname));
		column->attno = att->attnum;
		column->target_type = att->atttypid;
		column->may_be_null = !att->attnotnull;
		if (!can_coerce_type(1, &column->type, &att->atttypid, COERCION_ASSIGNMENT) ||
			(column->is_key && column->type != att->atttypid))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of table %s is of type %s, but column \"%s\" of the query is of type %s",
							column->target, sx_qualified_name(target),
							format_type_be(att->atttypid), column->name,
							format_type_be(column->type)),
					 errhint("Columns are matched by position; cast the column, or list the columns in the order of the table.")));
	}
	table_close(rel, NoLock);
}

static List *
names_of(List *columns, bool of_target, bool keys)
{
	List	   *names = NIL;
	ListCell   *lc;

	foreach(lc, columns)
	{
		SxSinkColumn *column = lfirst(lc);

		if (column->is_key || !keys)
			names = lappend(names, of_target ? column->target : column->name);
	}
	return names;
}

char *
sx_sink_names(List *columns, bool of_target, const char *prefix)
{
	return sx_names_sql(names_of(columns, of_target, false), prefix);
}

char *
sx_sink_key_names(List *columns, bool of_target)
{
	return sx_names_sql(names_of(columns, of_target, true), "");
}

bool
sx_is_table_sink(List *options)
{
	return strcmp(sx_option(options, "connector"), "table") == 0;
}
