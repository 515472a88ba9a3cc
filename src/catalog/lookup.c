/*-------------------------------------------------------------------------
 *
 * lookup.c
 *		Questions to the catalog: what a relation is, and which pipeline runs it.
 *
 * Nothing here writes or locks rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "executor/spi.h"
#include "fdw/stream.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "plan/plan.h"
#include "streamext.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/varlena.h"

/*
 * The relation's kind in streamext.stream or streamext.step, or NULL.  Asked for each
 * relation of each query that is analysed, so it goes straight to the table's index.
 */
static char *
kind_in(const char *table, const char *index, Oid relid)
{
	Oid			schema = get_namespace_oid(SX_SCHEMA, true);
	Oid			table_id = get_relname_relid(table, schema);
	Relation	rel;
	TupleDesc	desc;
	char	   *kind = NULL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	/* gone already, while the extension is dropped */
	if (!OidIsValid(table_id))
		return NULL;
	rel = table_open(table_id, AccessShareLock);
	desc = RelationGetDescr(rel);
	ScanKeyInit(&key, SPI_fnumber(desc, "relation"), BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, get_relname_relid(index, schema), true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		kind = SPI_getvalue(tuple, desc, SPI_fnumber(desc, "kind"));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return kind;
}

/* No stream, view or sink is anything else; one that is being dropped has no kind left. */
static bool
may_be_ours(Oid relid)
{
	char		relkind = get_rel_relkind(relid);

	return relkind == RELKIND_FOREIGN_TABLE || relkind == RELKIND_VIEW || relkind == '\0';
}

SxRelKind
sx_relation_kind(Oid relid)
{
	char	   *kind;

	if (!OidIsValid(relid) || !may_be_ours(relid) || !OidIsValid(sx_extension_owner(true)))
		return SX_REL_NONE;
	kind = kind_in("stream", "stream_pkey", relid);
	if (kind == NULL)
		kind = kind_in("step", "step_pkey", relid);
	if (kind == NULL)
		return SX_REL_NONE;

	switch (kind[1])
	{
		case 'o':
			return SX_REL_SOURCE;
		case 'e':
			return SX_REL_DERIVED;
		case 'i':
			return kind[0] == 's' ? SX_REL_SINK : SX_REL_VIEW;
	}
	elog(ERROR, "unknown kind of stream");
}

/* Id of the pipeline of that name, 0 when there is none. */
int
sx_find_pipeline(const char *name)
{
	Datum		values[] = {CStringGetTextDatum(name)};
	bool		isnull;
	Datum		id = sx_catalog_value("SELECT id FROM streamext.pipeline WHERE name = $1",
									  SX_ARGS(TEXTOID), values, NULL, &isnull);

	return isnull ? 0 : DatumGetInt32(id);
}

static Oid
pipeline_owner(int pipeline)
{
	Datum		values[] = {Int32GetDatum(pipeline)};
	bool		isnull;
	Datum		owner = sx_catalog_value("SELECT owner FROM streamext.pipeline WHERE id = $1",
										 SX_ARGS(INT4OID), values, NULL, &isnull);

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the pipeline does not exist any more")));
	return DatumGetObjectId(owner);
}

/* The owner, whose privileges the caller must have. */
static Oid
check_owner(int pipeline)
{
	Oid			owner = pipeline_owner(pipeline);

	if (!has_privs_of_role(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of the pipeline"),
				 errdetail("It belongs to \"%s\".", GetUserNameFromId(owner, true))));
	return owner;
}

void
sx_pipeline_check_owner(int pipeline)
{
	(void) check_owner(pipeline);
}

void
sx_pipeline_check_joins(int pipeline, Oid role)
{
	Oid			owner = check_owner(pipeline);

	if (owner != role)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the pipeline belongs to \"%s\", who would run what you create",
						GetUserNameFromId(owner, true)),
				 errhint("Write WITH (pipeline = '…') with a new name for a pipeline of your own, or SET ROLE first.")));
}

List *
sx_pipeline_sources(int pipeline)
{
	Datum		values[] = {Int32GetDatum(pipeline)};
	List	   *result = NIL;

	sx_catalog_rows("SELECT stream FROM streamext.source WHERE pipeline = $1 ORDER BY seq",
					SX_ARGS(INT4OID), values, NULL, sx_collect_oid, &result);
	return result;
}

/* The pipeline that a stream's own options put it into. */
int
sx_home_pipeline(Oid stream)
{
	Datum		values[] = {ObjectIdGetDatum(stream)};
	bool		isnull;
	Datum		id = sx_catalog_value("SELECT pipeline FROM streamext.source "
									  "WHERE stream = $1 ORDER BY pipeline LIMIT 1",
									  SX_ARGS(REGCLASSOID), values, NULL, &isnull);

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("stream %s is not registered",
						sx_relation_label(stream)),
				 errhint("Drop it and create it again.")));
	return DatumGetInt32(id);
}

/* The pipeline that runs a view, sink or stream; 0 when it runs in none of its own. */
int
sx_pipeline_of_step(Oid relid)
{
	Datum		values[] = {ObjectIdGetDatum(relid)};
	bool		isnull;
	Datum		id = sx_catalog_value("SELECT pipeline FROM streamext.step WHERE relation = $1",
									  SX_ARGS(REGCLASSOID), values, NULL, &isnull);

	return isnull ? 0 : DatumGetInt32(id);
}

typedef struct StepOptions
{
	char	   *options;
	Oid			query;
	Oid			state;
} StepOptions;

static void
collect_options(HeapTuple row, TupleDesc desc, void *arg)
{
	StepOptions *so = arg;

	so->options = sx_row_text(row, desc, 1);
	so->query = sx_row_oid(row, desc, 2);
	so->state = sx_row_oid(row, desc, 3);
}

char *
sx_step_options(Oid relid, Oid *query, Oid *state)
{
	Datum		values[] = {ObjectIdGetDatum(relid)};
	StepOptions so = {NULL, InvalidOid, InvalidOid};

	sx_catalog_rows("SELECT options::text, query, state FROM streamext.step WHERE relation = $1",
					SX_ARGS(REGCLASSOID), values, NULL, collect_options, &so);
	if (query)
		*query = so.query;
	if (state)
		*state = so.state;
	return so.options;
}

/* The pipeline that a stream, view or sink belongs to; 0 when it is none. */
static int
pipeline_of_relation(Oid relid)
{
	switch (sx_relation_kind(relid))
	{
		case SX_REL_NONE:
			return 0;
		case SX_REL_SOURCE:
			return sx_home_pipeline(relid);
		case SX_REL_DERIVED:
			{
				List	   *streams = sx_relation_streams(relid);
				int			own = sx_pipeline_of_step(relid);

				return own != 0 ? own :
					streams == NIL ? 0 : sx_home_pipeline(linitial_oid(streams));
			}
		case SX_REL_SINK:
		case SX_REL_VIEW:
			return sx_pipeline_of_step(relid);
	}
	return 0;
}

Oid
sx_relation_by_name(const char *name)
{
	List	   *parts;

	if (!SplitIdentifierString(pstrdup(name), '.', &parts) || parts == NIL ||
		list_length(parts) > 2)
		return InvalidOid;
	return RangeVarGetRelid(makeRangeVar(list_length(parts) == 2 ? linitial(parts) : NULL,
										 llast(parts), -1), NoLock, true);
}

int
sx_pipeline_by_name(const char *name, bool missing_ok)
{
	Oid			relid = sx_relation_by_name(name);
	int			pipeline = 0;

	if (OidIsValid(relid))
		pipeline = pipeline_of_relation(relid);
	if (pipeline == 0)
		pipeline = sx_find_pipeline(name);
	if (pipeline == 0 && !missing_ok)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no pipeline, stream or view \"%s\"", name),
				 errhint("SELECT pipeline FROM streamext.pipelines shows the pipelines.")));
	return pipeline;
}
