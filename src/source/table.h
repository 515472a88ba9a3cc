/*-------------------------------------------------------------------------
 *
 * table.h
 *		The connector 'table': a stream of the rows that come into a table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_TABLE_H
#define SX_TABLE_H

#include "fdw/stream.h"

/*
 * ERROR when the stream's columns are not the table's or, before it is registered, when
 * the table cannot be followed or the current role may not.
 */
extern void sx_table_check(SxStream *stream);

/* Makes the log and the trigger that feeds it. */
extern void sx_table_created(SxStream *stream);

/* Gives the trigger the columns that the stream has now. */
extern void sx_table_sync(const SxStream *stream);

/* Finds the trigger again that a stream had before it was dumped. */
extern void sx_table_restored(SxStream *stream);

/* Columns of the table were renamed: the triggers on it know them by name, too. */
extern void sx_table_columns_renamed(Oid table);

/* The table that a stream follows, by its trigger; InvalidOid: none. */
extern Oid	sx_table_followed(Oid stream);

/*
 * Arguments of the trigger.  The first is a list "1:3 2:1 …" of pairs (attno of the
 * stream, attno of the table that the trigger was made on).  The others are for restored
 * dumps, in which columns have other numbers when some had been dropped: the names of the
 * table's columns in the order of the list, and the name of the log, which tells whose
 * trigger it is.
 */
extern char *sx_table_map_text(const SxStream *stream, const AttrNumber *map);
extern AttrNumber *sx_table_map_parse(const SxStream *stream, const char *text);

/* The trigger that belongs to the stream, and the stream that a trigger belongs to. */
extern Oid	sx_table_trigger_of(Oid stream);
extern Oid	sx_table_stream_of(Oid trigger);

/* Name, arguments, … of a trigger; palloc'd copies, false when there is none. */
typedef struct SxTriggerInfo
{
	Oid			table;
	Oid			parent;			/* trigger on the partitioned table, or InvalidOid */
	Oid			function;
	char	   *map;			/* its arguments, or NULL */
	char	   *names;
	char	   *log;
} SxTriggerInfo;

extern bool sx_table_trigger_info(Oid trigger, SxTriggerInfo *info);

#endif							/* SX_TABLE_H */
