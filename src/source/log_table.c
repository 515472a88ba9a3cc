/*-------------------------------------------------------------------------
 *
 * log_table.c
 *		The table in which a stream keeps records until they are processed.
 *
 * Streams of the connectors queue and socket have one, in the schema streamext_state.
 * It depends on the stream internally, so it goes when the stream goes, and that
 * dependency is also how it is found.  Its owner, the stream's, may read it;
 * catalog/state_guard.c refuses everything else.
 *
 * Queries and DDL on it run as its owner, for all that he may have attached to it
 * (statistics, domains, a partial index) is evaluated by the planner or by ALTER TABLE.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/depend.h"
#include "catalog/sx_catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "source/log_table.h"
#include "streamext.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

static char *
choose_name(const SxStream *stream, Oid schema)
{
	char	   *name = makeObjectName(stream->name, NULL, "log");

	if (!OidIsValid(get_relname_relid(name, schema)))
		return name;
	return ChooseRelationName(stream->schema, stream->name, "log", schema, false);
}

void
sx_log_table_execute(const char *sql)
{
	if (SPI_execute(sql, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not execute: %s", sql);
}

/* Rows come and go: the table is vacuumed by their number, not by its size. */
static void
create_table(const SxStream *stream, const char *table, const char *columns,
			 const char *extra, const char *comment)
{
	char	   *owner = pstrdup(quote_identifier(GetUserNameFromId(stream->owner, false)));

	sx_log_table_execute(psprintf("CREATE TABLE %s (%s) WITH (autovacuum_vacuum_scale_factor = 0, "
								  "autovacuum_vacuum_threshold = 10000, "
								  "autovacuum_vacuum_cost_delay = 0)", table, columns));
	if (extra != NULL)
		sx_log_table_execute(psprintf(extra, table));
	sx_log_table_execute(psprintf("COMMENT ON TABLE %s IS %s", table,
								  quote_literal_cstr(comment)));
	sx_log_table_execute(psprintf("ALTER TABLE %s OWNER TO %s", table, owner));
}

void
sx_log_table_create(const SxStream *stream, const char *columns, const char *extra,
					const char *comment)
{
	Oid			schema = get_namespace_oid(SX_STATE_SCHEMA, false);
	char	   *name = choose_name(stream, schema);
	Datum		values[2];
	SxTrusted	save;

	sx_trusted_begin(&save);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	create_table(stream, quote_qualified_identifier(SX_STATE_SCHEMA, name), columns,
				 extra, comment);
	SPI_finish();
	sx_trusted_end(&save);

	sx_depend(RelationRelationId, get_relname_relid(name, schema),
			  RelationRelationId, stream->relid, 0, DEPENDENCY_INTERNAL);
	values[0] = ObjectIdGetDatum(stream->relid);
	values[1] = ObjectIdGetDatum(get_relname_relid(name, schema));
	sx_catalog_exec("UPDATE streamext.stream SET log = $2 WHERE relation = $1",
					SX_ARGS(REGCLASSOID, REGCLASSOID), values, NULL);
	CommandCounterIncrement();
}

void
sx_log_table_check(Oid log, TupleDesc desc, const Oid *types, int n)
{
	bool		fits = desc->natts >= n;

	for (int i = 0; fits && i < n; i++)
		fits = !TupleDescAttr(desc, i)->attisdropped &&
			TupleDescAttr(desc, i)->atttypid == types[i];
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table %s does not have the columns that streamext gave it",
						sx_relation_label(log)),
				 errhint("Change them back, or drop the stream and create it again.")));
}

static void
collect_ctid(HeapTuple row, TupleDesc desc, void *arg)
{
	List	  **ctids = arg;
	bool		isnull;
	ItemPointer ctid = palloc(sizeof(ItemPointerData));

	*ctid = *(ItemPointer) DatumGetPointer(SPI_getbinval(row, desc, 1, &isnull));
	*ctids = lappend(*ctids, ctid);
}

void
sx_log_table_delete(Oid log, Oid owner, const char *sql, int nargs, const Oid *types,
					const Datum *values)
{
	Relation	rel = table_open(log, RowExclusiveLock);
	List	   *ctids = NIL;
	ListCell   *lc;

	sx_rows_as(owner, sql, nargs, types, values, collect_ctid, &ctids);
	foreach(lc, ctids)
		simple_table_tuple_delete(rel, lfirst(lc), GetActiveSnapshot());
	list_free_deep(ctids);
	table_close(rel, NoLock);
}

Oid
sx_log_table_find(Oid relid)
{
	ListCell   *lc;

	foreach(lc, sx_dependents(RelationRelationId, RelationRelationId, relid,
							  DEPENDENCY_INTERNAL))
	{
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_RELATION)
			return lfirst_oid(lc);
	}
	return InvalidOid;
}

Oid
sx_log_table_of(const SxStream *stream)
{
	Oid			log = sx_log_table_find(stream->relid);

	if (!OidIsValid(log))
	{
		sx_adopt_restored();
		log = sx_log_table_find(stream->relid);
	}
	if (!OidIsValid(log))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("stream %s has no log table", stream->label),
				 errhint("Create the stream anew, in a database where the extension is complete.")));
	return log;
}
