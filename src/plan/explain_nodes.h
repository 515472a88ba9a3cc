/*-------------------------------------------------------------------------
 *
 * explain_nodes.h
 *		The maintenance plan of a view with the nodes that it stands on.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_EXPLAIN_NODES_H
#define SX_EXPLAIN_NODES_H

#include "nodes/parsenodes.h"

/* sizes: with rows and bytes of the state tables */
extern char *sx_explain_tree(Oid relid, bool sizes);

/* … of a view that the statement would make of nodes. */
extern char *sx_explain_by_making(CreateTableAsStmt *stmt, const char *query_string);

#endif							/* SX_EXPLAIN_NODES_H */
