/*-------------------------------------------------------------------------
 *
 * create_stream.c
 *		CREATE STREAM with a list of columns: a source stream.
 *
 * The statement becomes CREATE FOREIGN TABLE on the built-in server, or on the one
 * that WITH (server = ...) names, with the rest of WITH as its options.  Core makes
 * the foreign table; then it is registered, here or by the extension's event
 * trigger, whichever comes first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"

#include "ddl/ddl_internal.h"
#include "fdw/stream.h"
#include "streamext.h"

static void
refuse(SxUtilityCall *call, int location, const char *what, const char *instead)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("a stream cannot have %s", what),
			 errhint("%s", instead),
			 sx_errposition(call, location)));
}

static void
check_constraint(SxUtilityCall *call, Constraint *constraint)
{
	static const char *const check_hint =
	"Filter the records: CREATE STREAM ... AS SELECT ... WHERE ...; NOT NULL is possible.";
	static const char *const unique_hint =
	"Records of a stream may repeat; GROUP BY in a continuous view or a sink with the option \"key\" makes them unique.";
	static const char *const default_hint =
	"Compute the value in a query: CREATE STREAM ... AS SELECT ..., coalesce(...) ....";

	switch (constraint->contype)
	{
		case CONSTR_NULL:
		case CONSTR_NOTNULL:
			break;
		case CONSTR_DEFAULT:
			refuse(call, constraint->location, "a DEFAULT", default_hint);
			break;
		case CONSTR_IDENTITY:
			refuse(call, constraint->location, "an identity column",
				   "A record is identified by its partition and offset: OPTIONS (metadata 'offset').");
			break;
		case CONSTR_GENERATED:
			refuse(call, constraint->location, "a generated column", default_hint);
			break;
		case CONSTR_CHECK:
			refuse(call, constraint->location, "a CHECK constraint", check_hint);
			break;
		case CONSTR_PRIMARY:
			refuse(call, constraint->location, "a PRIMARY KEY", unique_hint);
			break;
		case CONSTR_UNIQUE:
			refuse(call, constraint->location, "a UNIQUE constraint", unique_hint);
			break;
		case CONSTR_EXCLUSION:
			refuse(call, constraint->location, "an EXCLUDE constraint", unique_hint);
			break;
		case CONSTR_FOREIGN:
			refuse(call, constraint->location, "a foreign key",
				   "Join the table: CREATE STREAM ... AS SELECT ... FROM stream JOIN table ....");
			break;
		default:
			refuse(call, constraint->location, "DEFERRABLE constraints", check_hint);
			break;
	}
}

void
sx_check_stream_column(SxUtilityCall *call, ColumnDef *column)
{
	ListCell   *lc;

	if (column->compression != NULL)
		refuse(call, column->location, "a COMPRESSION method",
			   "Leave it out: a stream is not stored.");
	foreach(lc, column->constraints)
		check_constraint(call, lfirst_node(Constraint, lc));
}

static void
check_elements(SxUtilityCall *call, List *elements)
{
	ListCell   *lc;

	foreach(lc, elements)
	{
		Node	   *element = lfirst(lc);

		if (IsA(element, ColumnDef))
			sx_check_stream_column(call, (ColumnDef *) element);
		else if (IsA(element, TableLikeClause))
			refuse(call, ((TableLikeClause *) element)->relation->location,
				   "LIKE", "Write out the columns with their types.");
		else if (IsA(element, Constraint))
		{
			Constraint *constraint = (Constraint *) element;

			if (constraint->contype == CONSTR_NOTNULL)
				refuse(call, constraint->location, "a table constraint",
					   "Write NOT NULL behind the type of the column.");
			check_constraint(call, constraint);
		}
	}
}

/* The clauses of CREATE TABLE around the list of columns. */
static void
check_clauses(SxUtilityCall *call, CreateStmt *stmt)
{
	int			location = stmt->relation->location;

	if (stmt->relation->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a stream cannot be temporary"),
				 errhint("Write CREATE STREAM, and DROP STREAM when it has served."),
				 sx_errposition(call, location)));
	if (stmt->relation->relpersistence == RELPERSISTENCE_UNLOGGED)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a stream cannot be unlogged"),
				 errhint("Write CREATE STREAM: its records are not stored anyway."),
				 sx_errposition(call, location)));
	if (stmt->partbound != NULL)
		refuse(call, location, "PARTITION OF",
			   "Several topics or files can be one stream: see the options \"topic\" and \"path\".");
	if (stmt->inhRelations != NIL)
		refuse(call, location, "INHERITS",
			   "Write out the columns; streams are united by CREATE STREAM ... AS SELECT ... UNION ALL SELECT ....");
	if (stmt->partspec != NULL)
		refuse(call, stmt->partspec->location, "PARTITION BY",
			   "The partitions of a stream are those of its source.");
	if (stmt->ofTypename != NULL)
		refuse(call, stmt->ofTypename->location, "OF",
			   "Write out the columns with their types.");
	if (stmt->oncommit != ONCOMMIT_NOOP)
		refuse(call, location, "ON COMMIT", "Leave it out: a stream is not stored.");
	if (stmt->tablespacename != NULL)
		refuse(call, location, "a TABLESPACE", "Leave it out: a stream is not stored.");
	if (stmt->accessMethod != NULL)
		refuse(call, location, "an access method",
			   "Leave USING out; where records come from is said by WITH (connector = ...).");
}

/* Takes the option "server" out of the list. */
static char *
take_server(List **given)
{
	ListCell   *lc;

	foreach(lc, *given)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "server") == 0)
		{
			*given = list_delete_cell(*given, lc);
			return strVal(option->arg);
		}
	}
	return pstrdup(SX_SERVER);
}

/* Registers what core has just made, unless the event trigger did. */
static void
register_if_new(const RangeVar *name)
{
	Oid			relid;

	CommandCounterIncrement();
	relid = RangeVarGetRelid(name, NoLock, true);
	if (OidIsValid(relid) && !sx_creating_query_table && sx_is_stream_table(relid) &&
		sx_relation_kind(relid) == SX_REL_NONE && !sx_is_restored_table(relid))
		sx_register_source(relid);
}

void
sx_create_stream(SxUtilityCall *call, CreateStmt *stmt)
{
	CreateForeignTableStmt *create = makeNode(CreateForeignTableStmt);
	List	   *given = sx_options_from_with(stmt->options);

	check_clauses(call, stmt);
	check_elements(call, stmt->tableElts);
	create->servername = take_server(&given);
	sx_options_validate(given, SX_OPT_SOURCE, NULL);

	create->base = *(CreateStmt *) copyObject(stmt);
	create->base.type = T_CreateForeignTableStmt;
	create->base.options = NIL;
	create->options = given;

	sx_utility_next(call, (Node *) create);
	register_if_new(stmt->relation);
}

/* Without the word STREAM: on whatever server, ours or somebody else's. */
void
sx_create_foreign_table(SxUtilityCall *call, CreateForeignTableStmt *stmt)
{
	RangeVar   *name = copyObject(stmt->base.relation);

	sx_utility_next(call, NULL);
	if (sx_extension_exists())
		register_if_new(name);
}
