/*-------------------------------------------------------------------------
 *
 * owner.c
 *		What follows the owner of a stream, view or sink.
 *
 * The worker of a pipeline connects as the pipeline's owner, so all that a pipeline runs
 * has one owner: its views and sinks, the streams with state, and the source streams that
 * made it (those that are merely read may be somebody else's).
 *
 *		ALTER … OWNER TO of a source stream		takes along all that its pipeline runs, the
 *												pipeline, and derived streams over it
 *		… of a view, sink or stream with state	is refused while the pipeline has something
 *												else; a pipeline without a source stream of
 *												its own is taken along as a whole
 *		… of a derived stream that keeps nothing	changes that stream alone
 *		REASSIGN OWNED							as core does it; the pipelines follow
 *
 * Core changes owners of relations one by one, so what has to follow is found afterwards,
 * by what the catalogs say, whatever the statement was.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/tablecmds.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/depend.h"
#include "catalog/owner.h"
#include "catalog/sx_catalog.h"
#include "fdw/stream.h"
#include "plan/plan.h"
#include "worker/worker.h"

/* Relations that must have the owner of the pipeline that runs or reads them. */
#define OWN_RELATIONS \
	"SELECT s.pipeline, s.relation::oid AS relation FROM streamext.step s WHERE s.pipeline IS NOT NULL AND s.node_of IS NULL " \
	"UNION SELECT min(x.pipeline), x.stream::oid FROM streamext.source x GROUP BY x.stream"

/* ---------- what goes together ---------- */

static List *
own_relations(int pipeline)
{
	Datum		values[] = {Int32GetDatum(pipeline)};
	List	   *result = NIL;

	sx_catalog_rows("SELECT relation FROM (" OWN_RELATIONS ") o WHERE pipeline = $1 ORDER BY relation",
					SX_ARGS(INT4OID), values, NULL, sx_collect_oid, &result);
	return result;
}

static bool
has_source(List *relids)
{
	ListCell   *lc;

	foreach(lc, relids)
	{
		if (sx_relation_kind(lfirst_oid(lc)) == SX_REL_SOURCE)
			return true;
	}
	return false;
}

/* Derived streams in no pipeline that read nothing but sources in the list. */
static List *
derived_over(List *relids)
{
	List	   *all = NIL;
	List	   *result = NIL;
	ListCell   *lc;

	sx_catalog_rows("SELECT relation FROM streamext.stream WHERE kind = 'derived' ORDER BY relation::oid",
					0, NULL, NULL, NULL, sx_collect_oid, &all);
	foreach(lc, all)
	{
		if (sx_pipeline_of_step(lfirst_oid(lc)) == 0 &&
			list_difference_oid(sx_relation_streams(lfirst_oid(lc)), relids) == NIL)
			result = lappend_oid(result, lfirst_oid(lc));
	}
	return result;
}

List *
sx_owner_together(Oid relid)
{
	SxRelKind	kind = sx_relation_kind(relid);
	int			pipeline = kind == SX_REL_SOURCE ? sx_home_pipeline(relid) :
		sx_pipeline_of_step(relid);
	List	   *own;
	List	   *result = NIL;
	ListCell   *lc;

	if (kind == SX_REL_NONE || pipeline == 0)
		return NIL;
	own = own_relations(pipeline);
	if (kind != SX_REL_SOURCE && has_source(own))
		return NIL;
	foreach(lc, list_concat_copy(own, kind == SX_REL_SOURCE ? derived_over(own) : NIL))
	{
		if (lfirst_oid(lc) != relid && sx_relation_owner(lfirst_oid(lc)) == sx_relation_owner(relid))
			result = lappend_oid(result, lfirst_oid(lc));
	}
	return result;
}

void
sx_owner_give(List *relids, Oid relid)
{
	Oid			owner = sx_relation_owner(relid);
	ListCell   *lc;

	foreach(lc, relids)
	{
		ATExecChangeOwner(lfirst_oid(lc), owner, false, AccessExclusiveLock);
		CommandCounterIncrement();
	}
	if (relids != NIL)
		ereport(NOTICE,
				(errmsg_plural("%d more relation of its pipeline now belongs to \"%s\"",
							   "%d more relations of its pipeline now belong to \"%s\"",
							   list_length(relids), list_length(relids),
							   GetUserNameFromId(owner, false))));
}

/* ---------- what follows ---------- */

/* A node of a view is a view with parts of its own. */
static void
parts_follow(Oid relid, Oid owner)
{
	ListCell   *lc;

	foreach(lc, sx_dependents(RelationRelationId, RelationRelationId, relid, DEPENDENCY_INTERNAL))
	{
		if (sx_relation_owner(lfirst_oid(lc)) != owner)
		{
			ATExecChangeOwner(lfirst_oid(lc), owner, true, AccessExclusiveLock);
			CommandCounterIncrement();
		}
		parts_follow(lfirst_oid(lc), owner);
	}
}

typedef struct PipelineOwner
{
	int			pipeline;
	char	   *name;
	Oid			owner;
	Oid			first;
	Oid			last;
	char	   *source;
} PipelineOwner;

static void
collect_pipeline(HeapTuple row, TupleDesc desc, void *arg)
{
	List	  **list = arg;
	PipelineOwner *entry = palloc(sizeof(PipelineOwner));

	entry->pipeline = (int) sx_row_int(row, desc, 1, 0);
	entry->name = sx_row_text(row, desc, 2);
	entry->owner = sx_row_oid(row, desc, 3);
	entry->first = sx_row_oid(row, desc, 4);
	entry->last = sx_row_oid(row, desc, 5);
	entry->source = sx_row_text(row, desc, 6);
	*list = lappend(*list, entry);
}

static void
refuse(const PipelineOwner *entry)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("pipeline \"%s\" would run what belongs to \"%s\" and to \"%s\"", entry->name,
					GetUserNameFromId(entry->first, true), GetUserNameFromId(entry->last, true)),
			 errdetail("The worker of a pipeline connects as its owner."),
			 entry->source != NULL ?
			 errhint("ALTER STREAM %s OWNER TO … takes along all that the pipeline runs.", entry->source) :
			 errhint("REASSIGN OWNED gives all of them to another role.")));
}

static void
pipeline_follows(const PipelineOwner *entry)
{
	Datum		values[] = {Int32GetDatum(entry->pipeline), ObjectIdGetDatum(entry->first)};

	sx_catalog_exec("UPDATE streamext.pipeline SET owner = $2::regrole WHERE id = $1",
					SX_ARGS(INT4OID, OIDOID), values, NULL);
	(void) sx_pipeline_new_epoch(entry->pipeline);
	sx_wake_pipeline_at_commit(entry->pipeline);
	sx_wake_scheduler_at_commit();
}

void
sx_owner_follow(bool check)
{
	List	   *relations = NIL;
	List	   *pipelines = NIL;
	ListCell   *lc;

	sx_catalog_rows("SELECT relation FROM (SELECT relation::oid FROM streamext.stream "
					"UNION SELECT relation::oid FROM streamext.step WHERE node_of IS NULL) r ORDER BY relation",
					0, NULL, NULL, NULL, sx_collect_oid, &relations);
	foreach(lc, relations)
		parts_follow(lfirst_oid(lc), sx_relation_owner(lfirst_oid(lc)));

	sx_catalog_rows("SELECT p.id, p.name, p.owner::oid, min(c.relowner::oid), max(c.relowner::oid), "
					" min(CASE WHEN c.relkind = 'f' AND EXISTS (SELECT FROM streamext.source x WHERE x.stream = c.oid) "
					"     THEN c.oid::regclass::text END) "
					"FROM (" OWN_RELATIONS ") o JOIN streamext.pipeline p ON p.id = o.pipeline "
					"JOIN pg_class c ON c.oid = o.relation GROUP BY p.id ORDER BY p.id",
					0, NULL, NULL, NULL, collect_pipeline, &pipelines);
	foreach(lc, pipelines)
	{
		PipelineOwner *entry = lfirst(lc);

		if (entry->first != entry->last)
		{
			if (check)
				refuse(entry);
			continue;
		}
		if (entry->first != entry->owner)
			pipeline_follows(entry);
	}
}
