/*-------------------------------------------------------------------------
 *
 * depend.h
 *		Rows of pg_depend: making them, and following them either way.
 *
 * Objects are a catalog and an Oid in it.  Nothing is locked beyond pg_depend itself.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_DEPEND_H
#define SX_DEPEND_H

#include "catalog/dependency.h"
#include "nodes/pg_list.h"

/* The object cannot be dropped without CASCADE (normal), or goes along (internal). */
extern void sx_depend(Oid class, Oid object, Oid ref_class, Oid ref_object,
					  AttrNumber ref_column, DependencyType type);

/* The relation goes with another one; made unless it is so already. */
extern void sx_part_of(Oid part, Oid relid);

/* Oids in ref_class that the object as a whole depends on, each once. */
extern List *sx_dependencies(Oid class, Oid object, Oid ref_class, DependencyType type);

/* Oids in class that depend on the object, or on a part of it, each once. */
extern List *sx_dependents(Oid class, Oid ref_class, Oid ref_object, DependencyType type);

#endif							/* SX_DEPEND_H */
