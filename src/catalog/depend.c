/*-------------------------------------------------------------------------
 *
 * depend.c
 *		Rows of pg_depend: making them, and following them either way.
 *
 * What streamext makes for a stream (log, state table, trigger, hidden view) is found
 * again by its dependency, which no rename breaks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/depend.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "utils/fmgroids.h"

void
sx_depend(Oid class, Oid object, Oid ref_class, Oid ref_object, AttrNumber ref_column,
		  DependencyType type)
{
	ObjectAddress dependent;
	ObjectAddress referenced;

	ObjectAddressSet(dependent, class, object);
	ObjectAddressSubSet(referenced, ref_class, ref_object, ref_column);
	recordDependencyOn(&dependent, &referenced, type);
}

void
sx_part_of(Oid part, Oid relid)
{
	if (!list_member_oid(sx_dependencies(RelationRelationId, part, RelationRelationId,
										 DEPENDENCY_INTERNAL), relid))
		sx_depend(RelationRelationId, part, RelationRelationId, relid, 0, DEPENDENCY_INTERNAL);
}

/* Either end of the rows that an index finds for the other end. */
static List *
follow(Oid index, AttrNumber class_column, AttrNumber object_column, Oid class, Oid object,
	   Oid wanted, DependencyType type, bool forward)
{
	Relation	depend = table_open(DependRelationId, AccessShareLock);
	List	   *result = NIL;
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key[0], class_column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(class));
	ScanKeyInit(&key[1], object_column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(object));
	scan = systable_beginscan(depend, index, true, NULL, 2, key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		if (form->objsubid == 0 && form->deptype == type &&
			(forward ? form->refclassid : form->classid) == wanted)
			result = list_append_unique_oid(result, forward ? form->refobjid : form->objid);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return result;
}

List *
sx_dependencies(Oid class, Oid object, Oid ref_class, DependencyType type)
{
	return follow(DependDependerIndexId, Anum_pg_depend_classid, Anum_pg_depend_objid,
				  class, object, ref_class, type, true);
}

List *
sx_dependents(Oid class, Oid ref_class, Oid ref_object, DependencyType type)
{
	return follow(DependReferenceIndexId, Anum_pg_depend_refclassid, Anum_pg_depend_refobjid,
				  ref_class, ref_object, class, type, false);
}
