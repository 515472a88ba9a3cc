/*-------------------------------------------------------------------------
 *
 * ddl_internal.h
 *		What the files of ddl/ share among themselves.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_DDL_INTERNAL_H
#define SX_DDL_INTERNAL_H

#include "catalog/sx_catalog.h"
#include "ddl/ddl.h"
#include "tcop/utility.h"

/* One call of the ProcessUtility hook. */
typedef struct SxUtilityCall
{
	PlannedStmt *pstmt;
	const char *query;
	bool		read_only_tree;
	ProcessUtilityContext context;
	ParamListInfo params;
	QueryEnvironment *query_env;
	DestReceiver *dest;
	QueryCompletion *qc;
} SxUtilityCall;

/* statement.c */
extern bool sx_is_stream_keyword(const char *text, const char *word,
								 bool standard_strings);

/* redact.c: hides the text of a statement that gives a secret. */
extern void sx_redact_statement(const Node *stmt, bool says_stream);

/* keyword.c */
extern void sx_keyword_restore(void);

/* utility.c: runs stmt in place of the statement of the call (NULL: that one). */
extern void sx_utility_next(SxUtilityCall *call, Node *stmt);
extern int	sx_errposition(SxUtilityCall *call, int location);

/* create_stream.c */
extern void sx_create_stream(SxUtilityCall *call, CreateStmt *stmt);
extern void sx_create_foreign_table(SxUtilityCall *call,
									CreateForeignTableStmt *stmt);
extern void sx_check_stream_column(SxUtilityCall *call, ColumnDef *column);

/*
 * create_as.c: the last two give false, having done nothing, when the statement is
 * about no stream.
 */
extern void sx_create_stream_as(SxUtilityCall *call, CreateTableAsStmt *stmt);
extern bool sx_create_view_over_streams(SxUtilityCall *call,
										CreateTableAsStmt *stmt);
extern bool sx_explain_create(SxUtilityCall *call, ExplainStmt *stmt,
							  bool says_stream);

/* alter_drop.c */
extern void sx_alter_stream(SxUtilityCall *call, Node *stmt);

/* ERROR when it would change the columns or options of a stream with a query. */
extern void sx_check_alter_foreign_table(const AlterTableStmt *stmt);
extern void sx_check_rename_of_column(const RenameStmt *stmt);
extern void sx_drop_stream(SxUtilityCall *call, DropStmt *stmt);

/*
 * alter_source.c: runs instead (NULL: the statement of the call) and what it brings
 * with it; false, having done nothing, when the statement is about no source stream.
 */
extern bool sx_alter_source(SxUtilityCall *call, const AlterTableStmt *stmt,
							Node *instead);
extern bool sx_rename_source_column(SxUtilityCall *call, const RenameStmt *stmt,
									Node *instead);

/* alter_follow.c: around a statement, what follows it. */
typedef struct SxFollow
{
	Oid			given;			/* stream or view that gets another owner */
	List	   *together;		/* … and what goes along */
	bool		reassign;
	bool		names;			/* names in options may have changed */
	List	   *before;			/* sx_names_before() */
	Oid			columns_of;		/* table whose column is renamed */
} SxFollow;

extern void sx_follow_begin(SxFollow *follow, Node *stmt);
extern void sx_follow_end(SxFollow *follow);

/*
 * continuous_view.c: does it when the statement is about a continuous view, else
 * gives false.
 */
extern bool sx_continuous_view_command(SxUtilityCall *call, Node *stmt);

#endif							/* SX_DDL_INTERNAL_H */
