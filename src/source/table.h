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

/*
 * Arguments of the trigger: one, a list "1:3 2:1 …" of pairs (attno of the stream, attno
 * of the table that the trigger was made on).
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
	char	   *map;			/* its first argument, or NULL */
} SxTriggerInfo;

extern bool sx_table_trigger_info(Oid trigger, SxTriggerInfo *info);

#endif							/* SX_TABLE_H */
