/*-------------------------------------------------------------------------
 *
 * alter_source.c
 *		What an ALTER of a source stream brings with it.
 *
 * The foreign table itself is altered by core, however the statement is spelt (ALTER
 * STREAM, ALTER FOREIGN TABLE, ALTER TABLE).  Around that: options that decide where
 * the stream belongs are refused beforehand; afterwards a stream's log gets the same
 * columns, and so does the trigger that feeds it from a table; the option event_time
 * follows a column that is renamed, the stream is checked as it would be at creation,
 * and every pipeline that reads it starts a new epoch, so that the next batch goes by
 * what the catalogs say now.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"

#include "ddl/ddl_internal.h"
#include "fdw/stream.h"
#include "source/queue.h"
#include "source/rights.h"
#include "source/source.h"
#include "source/table.h"

/* Options that are taken up once, when the stream is created. */
static const struct
{
	const char *name;
	const char *hint;
}			fixed_options[] =
{
	{SX_KIND_OPTION, "It says what streamext made of the table."},
	{"connector", "Drop the stream and create it again."},
	{"pipeline", "A stream stays in its pipeline; WITH (pipeline = '...') of a view puts the view elsewhere."},
	{"tail", "Drop the stream and create it again."},
	{"durable", "Drop the stream and create it again."},
	{"paused", "Use streamext.pause() and streamext.resume()."},
	{"function", "CREATE OR REPLACE FUNCTION changes what it does; to call another one drop the stream and create it again."},
	{"table", "Drop the stream and create it again."},
};

/* The source stream of that name, or InvalidOid. */
static Oid
source_by_name(const RangeVar *name)
{
	Oid			relid = RangeVarGetRelid(name, NoLock, true);

	return OidIsValid(relid) && sx_is_stream_table(relid) &&
		sx_relation_kind(relid) == SX_REL_SOURCE ? relid : InvalidOid;
}

static void
check_options(const RangeVar *name, const AlterTableCmd *cmd)
{
	ListCell   *lc;

	if (cmd->subtype != AT_GenericOptions)
		return;
	foreach(lc, castNode(List, cmd->def))
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		for (int i = 0; i < lengthof(fixed_options); i++)
		{
			if (strcmp(option->defname, fixed_options[i].name) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("option \"%s\" of stream \"%s\" cannot be changed",
								option->defname, name->relname),
						 errhint("%s", fixed_options[i].hint)));
		}
	}
}

static void
finish(Oid relid)
{
	SxStream   *stream;

	CommandCounterIncrement();
	stream = sx_stream_load(relid);
	sx_stream_check_rights(stream);
	if (stream->source->check != NULL)
		stream->source->check(stream);
	if (sx_queue_has_log(stream))
		sx_queue_sync_log(stream);
	if (stream->source == &sx_source_table)
		sx_table_sync(stream);
	sx_source_changed(stream);
}

bool
sx_alter_source(SxUtilityCall *call, const AlterTableStmt *stmt, Node *instead)
{
	RangeVar   *name = copyObject(stmt->relation);
	Oid			relid = source_by_name(name);
	ListCell   *lc;

	if (!OidIsValid(relid))
		return false;
	foreach(lc, stmt->cmds)
		check_options(name, lfirst_node(AlterTableCmd, lc));
	sx_utility_next(call, instead);
	finish(relid);
	return true;
}

/* ALTER FOREIGN TABLE … OPTIONS (SET event_time 'column') */
static void
set_event_time(SxUtilityCall *call, RangeVar *name, const char *column)
{
	AlterTableCmd *cmd = makeNode(AlterTableCmd);
	AlterTableStmt *alter = makeNode(AlterTableStmt);

	cmd->subtype = AT_GenericOptions;
	cmd->def = (Node *) list_make1(makeDefElemExtended(NULL, "event_time",
													   (Node *) makeString(pstrdup(column)),
													   DEFELEM_SET, -1));
	alter->relation = name;
	alter->objtype = OBJECT_FOREIGN_TABLE;
	alter->cmds = list_make1(cmd);
	sx_utility_next(call, (Node *) alter);
}

bool
sx_rename_source_column(SxUtilityCall *call, const RenameStmt *stmt, Node *instead)
{
	RangeVar   *name = copyObject(stmt->relation);
	char	   *from = pstrdup(stmt->subname);
	char	   *to = pstrdup(stmt->newname);
	Oid			relid = source_by_name(name);
	SxStream   *stream;

	if (!OidIsValid(relid))
		return false;
	stream = sx_stream_load(relid);
	sx_utility_next(call, instead);
	CommandCounterIncrement();
	if (strcmp(sx_stream_option(stream, "event_time", ""), from) == 0)
		set_event_time(call, name, to);
	if (sx_queue_has_log(stream))
		sx_queue_rename_column(stream, from, to);
	finish(relid);
	return true;
}
