/*-------------------------------------------------------------------------
 *
 * initial_state.c
 *		Option initial_state: what a stream with keyed state begins with.
 *
 * A table, or whatever can be selected from, that has the key columns by their names,
 * and "state", all of the types that they have in the state table.  It is copied when
 * the stream is created, and again by streamext.reset(); in between nothing depends on
 * it.  Rows without a state are left out, as a state that is NULL is none.
 *
 * updated_at stays NULL until the first batch: the keys age from then on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "fdw/stream.h"
#include "plan/plan_internal.h"
#include "plan/state_spec.h"
#include "plan/stream_def.h"

static Oid
initial_relation(const char *name)
{
	List	   *names = textToQualifiedNameList(cstring_to_text(name));

	return RangeVarGetRelid(makeRangeVarFromNameList(names), AccessShareLock, false);
}

static void
check_column(Oid relid, ColumnDef *column)
{
	AttrNumber	attno = get_attnum(relid, column->colname);
	Oid			type = column->typeName->typeOid;

	if (attno <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("%s has no column \"%s\"", sx_qualified_name(relid), column->colname),
				 errhint("An initial state has the key columns by their names, and the state as column \"state\".")));
	if (get_atttype(relid, attno) != type)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of %s is of type %s, and must be of type %s",
						column->colname, sx_qualified_name(relid),
						format_type_be(get_atttype(relid, attno)), format_type_be(type)),
				 errhint("Cast it in a view, and name that.")));
}

void
sx_initial_state_check(const SxStateSpec *spec, List *options)
{
	const char *name = sx_option(options, "initial_state");
	List	   *columns = sx_state_columns(spec);
	Oid			relid;

	if (name == NULL)
		return;
	relid = initial_relation(name);
	if (sx_relation_streams(relid) != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("option \"initial_state\" names a stream: %s", sx_qualified_name(relid)),
				 errhint("Name a table or a view over tables.")));
	for (int i = 0; i <= spec->nkeys; i++)	/* the keys, and the state behind them */
		check_column(relid, list_nth_node(ColumnDef, columns, i));
	sx_set_option(options, "initial_state", sx_qualified_name(relid));
}

/* The key columns of a state table, which are those before column "state". */
static char *
key_names(Oid state, const char *prefix)
{
	Relation	rel = relation_open(state, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < desc->natts; i++)
	{
		const char *name = NameStr(TupleDescAttr(desc, i)->attname);

		if (strcmp(name, SX_STATE_COLUMN) == 0)
			break;
		appendStringInfo(&names, "%s%s%s", i > 0 ? ", " : "", prefix, quote_identifier(name));
	}
	relation_close(rel, NoLock);
	return names.data;
}

/* "(a, b)" of the first row of the running SPI statement. */
static char *
first_row(void)
{
	StringInfoData row;

	initStringInfo(&row);
	for (int i = 1; i <= SPI_tuptable->tupdesc->natts; i++)
	{
		char	   *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i);

		appendStringInfo(&row, "%s%s", i > 1 ? ", " : "", value == NULL ? "NULL" : value);
	}
	return row.data;
}

static void
refuse_duplicates(const char *table, const char *keys)
{
	if (SPI_execute(psprintf("SELECT %s FROM %s i WHERE pg_catalog.num_nonnulls(i.state) = 1 "
							 "GROUP BY %s HAVING pg_catalog.count(*) > 1 LIMIT 1",
							 keys, table, keys), false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read %s", table);
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("the initial state %s has more than one row for key (%s)", table, first_row()),
				 errhint("A key has one state.")));
}

void
sx_initial_state_copy(List *options, Oid state)
{
	const char *table = sx_option(options, "initial_state");
	char	   *keys;

	if (table == NULL)
		return;
	keys = key_names(state, "i.");
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	refuse_duplicates(table, keys);
	SPI_finish();
	sx_execute_ddl(psprintf("INSERT INTO %s (%s, state) SELECT %s, i.state FROM %s i "
							"WHERE pg_catalog.num_nonnulls(i.state) OPERATOR(pg_catalog.=) 1",
							sx_qualified_name(state), key_names(state, ""), keys, table));
}

/*
 * The table of option initial_state is the owner's matter, and may be a view with any
 * function in it: it is read with the rights of the owner, whoever asks.
 */
void
sx_initial_state_again(const SxStepPlan *plan)
{
	int			nestlevel = NewGUCNestLevel();
	Oid			userid;
	int			sec_context;

	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(plan->owner, sec_context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	sx_initial_state_copy(plan->options, plan->state);
	AtEOXact_GUC(false, nestlevel);
	SetUserIdAndSecContext(userid, sec_context);
}
