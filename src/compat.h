/*-------------------------------------------------------------------------
 *
 * compat.h
 *		What differs between PostgreSQL 15, 16, 17 and 18.  The rest of the
 *		source has no #if on PG_VERSION_NUM.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_COMPAT_H
#define SX_COMPAT_H

#include "utils/wait_event.h"

/* VARDATA_ANY() and the like left postgres.h in 16. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* Wait events: one for the extension before 17, named ones since. */
#if PG_VERSION_NUM >= 170000
#define SX_WAIT_EVENT(name) \
	({ static uint32 sx_we_ = 0; \
	   if (sx_we_ == 0) sx_we_ = WaitEventExtensionNew(name); \
	   sx_we_; })
#else
#define SX_WAIT_EVENT(name) (PG_WAIT_EXTENSION)
#endif

/* Privileges of a query's relations have a list of their own since 16. */
#if PG_VERSION_NUM >= 160000
#define sx_parse_permissions(pstate, query) ((pstate)->p_rteperminfos = (query)->rteperminfos)
#else
#define sx_parse_permissions(pstate, query) ((void) 0)
#endif

/* expandRTE() can tell old from new rows of RETURNING since 18. */
#if PG_VERSION_NUM >= 180000
#define sx_expand_rte(rte, index, names, vars) \
	expandRTE(rte, index, 0, VAR_RETURNING_DEFAULT, -1, true, names, vars)
#else
#define sx_expand_rte(rte, index, names, vars) \
	expandRTE(rte, index, 0, -1, true, names, vars)
#endif

/* InitMaterializedSRF() was SetSingleFuncCall() in 15. */
#if PG_VERSION_NUM >= 160000
#define sx_init_materialized_srf(fcinfo) InitMaterializedSRF(fcinfo, 0)
#else
#define sx_init_materialized_srf(fcinfo) SetSingleFuncCall(fcinfo, 0)
#endif

/* create_foreignscan_path() got a list of restrictions in 17, a count in 18. */
#if PG_VERSION_NUM >= 180000
#define sx_create_foreignscan_path(root, rel, rows, startup, total, outer) \
	create_foreignscan_path(root, rel, NULL, rows, 0, startup, total, NIL, outer, NULL, NIL, NIL)
#elif PG_VERSION_NUM >= 170000
#define sx_create_foreignscan_path(root, rel, rows, startup, total, outer) \
	create_foreignscan_path(root, rel, NULL, rows, startup, total, NIL, outer, NULL, NIL, NIL)
#else
#define sx_create_foreignscan_path(root, rel, rows, startup, total, outer) \
	create_foreignscan_path(root, rel, NULL, rows, startup, total, NIL, outer, NULL, NIL)
#endif

/* Since 17 a background worker may be of a role that cannot log in. */
#if PG_VERSION_NUM >= 170000
#define SX_BGWORKER_FLAGS	BGWORKER_BYPASS_ROLELOGINCHECK
#define SX_OWNER_NEEDS_LOGIN	false
#else
#define SX_BGWORKER_FLAGS	0
#define SX_OWNER_NEEDS_LOGIN	true
#endif

/* Sets of wait events belong to a resource owner since 17. */
#if PG_VERSION_NUM >= 170000
#define sx_create_wait_event_set(nevents)	CreateWaitEventSet(NULL, nevents)
#else
#define sx_create_wait_event_set(nevents) \
	CreateWaitEventSet(CurrentMemoryContext, nevents)
#endif

/* May the role execute the function?  One check for all objects since 16. */
#if PG_VERSION_NUM >= 160000
#define sx_proc_aclcheck(function, role) \
	object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE)
#else
#define sx_proc_aclcheck(function, role) pg_proc_aclcheck(function, role, ACL_EXECUTE)
#endif

/* May the role use the foreign server?  Likewise. */
#if PG_VERSION_NUM >= 160000
#define sx_server_aclcheck(server, role) \
	object_aclcheck(ForeignServerRelationId, server, role, ACL_USAGE)
#else
#define sx_server_aclcheck(server, role) pg_foreign_server_aclcheck(server, role, ACL_USAGE)
#endif

/* What the executor asks about lies in the range table before 16, in a list of its own since. */
#if PG_VERSION_NUM >= 160000
#define SX_PERMISSIONS_ARGS List *range_table, List *permissions, bool complain
#define SX_PERMISSIONS_PASS range_table, permissions, complain
#define SX_PERMISSIONS	permissions
#define SxPermission	RTEPermissionInfo
#else
#define SX_PERMISSIONS_ARGS List *range_table, bool complain
#define SX_PERMISSIONS_PASS range_table, complain
#define SX_PERMISSIONS	range_table
#define SxPermission	RangeTblEntry
#endif

/* Intervals are always finite before 17. */
#ifndef INTERVAL_NOT_FINITE
#define INTERVAL_NOT_FINITE(i) (false)
#endif

/*
 * Since 18 a grouped query names its keys through an RTE of their own.  This puts
 * the expressions back, which is what everything before 18 has.  q must be a copy.
 */
#if PG_VERSION_NUM >= 180000
#define sx_flatten_group_exprs(q) \
	do { \
		if ((q)->hasGroupRTE) \
		{ \
			(q)->targetList = (List *) flatten_group_exprs(NULL, (q), (Node *) (q)->targetList); \
			(q)->havingQual = flatten_group_exprs(NULL, (q), (q)->havingQual); \
			(q)->hasGroupRTE = false; \
		} \
	} while (0)
#define sx_forget_group_exprs(q) \
	do { \
		ListCell   *lc_; \
		foreach(lc_, (q)->rtable) \
		{ \
			if (lfirst_node(RangeTblEntry, lc_)->rtekind == RTE_GROUP) \
				lfirst_node(RangeTblEntry, lc_)->groupexprs = NIL; \
		} \
	} while (0)
#define sx_rte_group_expr(rte, attno) \
	((rte)->rtekind == RTE_GROUP ? (Node *) list_nth((rte)->groupexprs, (attno) - 1) : NULL)
#else
#define sx_flatten_group_exprs(q) ((void) 0)
#define sx_forget_group_exprs(q) ((void) 0)
#define sx_rte_group_expr(rte, attno) ((Node *) NULL)
#endif

/* Since 18 a sort clause says itself whether it is by a "greater than". */
#if PG_VERSION_NUM >= 180000
#define sx_set_reverse(clause, reverse) ((clause)->reverse_sort = (reverse))
#else
#define sx_set_reverse(clause, reverse) ((void) (reverse))
#endif

/* Join aliases are replaced with the help of a planner's root, which may be NULL, since 16. */
#if PG_VERSION_NUM >= 160000
#define sx_flatten_join_alias_vars(q, node) flatten_join_alias_vars(NULL, (q), (node))
#else
#define sx_flatten_join_alias_vars(q, node) flatten_join_alias_vars((q), (node))
#endif

/* Permissions of a query's relations stand beside its range table since 16. */
#if PG_VERSION_NUM >= 160000
#define sx_copy_perminfos(to, from) ((to)->rteperminfos = copyObject((from)->rteperminfos))
#else
#define sx_copy_perminfos(to, from) ((void) 0)
#endif

/* ExecInsertIndexTuples() learned about summarizing indexes in 16. */
#if PG_VERSION_NUM >= 160000
#define sx_insert_index_tuples(rinfo, slot, estate) \
	ExecInsertIndexTuples(rinfo, slot, estate, false, false, NULL, NIL, false)
#else
#define sx_insert_index_tuples(rinfo, slot, estate) \
	ExecInsertIndexTuples(rinfo, slot, estate, false, false, NULL, NIL)
#endif

/* Which indexes an update concerns: since 16 it may be summarizing ones alone. */
#if PG_VERSION_NUM >= 160000
#define SxUpdateIndexes		TU_UpdateIndexes
#define sx_update_concerns(which)	((which) != TU_None)
#define sx_update_index_tuples(rinfo, slot, estate, which) \
	ExecInsertIndexTuples(rinfo, slot, estate, true, false, NULL, NIL, (which) == TU_Summarizing)
#else
#define SxUpdateIndexes		bool
#define sx_update_concerns(which)	(which)
#define sx_update_index_tuples(rinfo, slot, estate, which) \
	ExecInsertIndexTuples(rinfo, slot, estate, true, false, NULL, NIL)
#endif

/* index_beginscan() got room for instrumentation in 18. */
#if PG_VERSION_NUM >= 180000
#define sx_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, NULL, nkeys, 0)
#else
#define sx_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan(heap, index, snapshot, nkeys, 0)
#endif

/* The shared state of transaction ids was renamed in 17. */
#if PG_VERSION_NUM >= 170000
#define sx_transam_variables	TransamVariables
#else
#define sx_transam_variables	ShmemVariableCache
#endif

/* Ownership checks became one function for all catalogs in 16. */
#if PG_VERSION_NUM >= 160000
#define sx_owns_relation(relid, roleid) \
	object_ownercheck(RelationRelationId, (relid), (roleid))
#else
#define sx_owns_relation(relid, roleid)	pg_class_ownercheck((relid), (roleid))
#endif

/* A relation's file was renamed in 16. */
#if PG_VERSION_NUM >= 160000
#define sx_relation_file(rel)	((rel)->rd_locator)
#define sx_relation_file_number(rel)	((rel)->rd_locator.relNumber)
#else
#define sx_relation_file(rel)	((rel)->rd_node)
#define sx_relation_file_number(rel)	((rel)->rd_node.relNode)
#endif

#endif							/* SX_COMPAT_H */
