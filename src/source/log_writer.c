/*-------------------------------------------------------------------------
 *
 * log_writer.c
 *		Writing rows straight into a stream's log, by the thousand.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "compat.h"
#include "source/log_writer.h"

#define CHUNK	1000

void
sx_log_writer_open(SxLogWriter *writer, Relation log, int max_rows)
{
	writer->log = log;
	writer->chunk = Min(max_rows, CHUNK);
	writer->estate = CreateExecutorState();
	writer->rinfo = makeNode(ResultRelInfo);
	InitResultRelInfo(writer->rinfo, log, 0, NULL, 0);
	ExecOpenIndices(writer->rinfo, false);
	writer->slots = palloc0(sizeof(TupleTableSlot *) * Max(writer->chunk, 1));
	writer->nslots = 0;
}

void
sx_log_writer_close(SxLogWriter *writer)
{
	for (int i = 0; i < writer->nslots; i++)
		ExecDropSingleTupleTableSlot(writer->slots[i]);
	ExecCloseIndices(writer->rinfo);
	pfree(writer->slots);
	pfree(writer->rinfo);
	FreeExecutorState(writer->estate);
}

static void
write_chunk(SxLogWriter *writer, int first, int n, SxFillLogRow fill, void *arg)
{
	MemoryContext old = MemoryContextSwitchTo(writer->estate->es_query_cxt);

	while (writer->nslots < n)
		writer->slots[writer->nslots++] = table_slot_create(writer->log, NULL);

	/* The values, and what table_multi_insert() leaks. */
	MemoryContextSwitchTo(GetPerTupleMemoryContext(writer->estate));
	for (int i = 0; i < n; i++)
	{
		ExecClearTuple(writer->slots[i]);
		fill(writer->slots[i], first + i, arg);
	}
	table_multi_insert(writer->log, writer->slots, n, GetCurrentCommandId(true), 0, NULL);
	MemoryContextSwitchTo(old);

	for (int i = 0; i < n; i++)
	{
		list_free(sx_insert_index_tuples(writer->rinfo, writer->slots[i], writer->estate));
		ExecClearTuple(writer->slots[i]);
	}
	ResetPerTupleExprContext(writer->estate);
}

void
sx_log_writer_write(SxLogWriter *writer, int n, SxFillLogRow fill, void *arg)
{
	for (int done = 0; done < n; done += writer->chunk)
		write_chunk(writer, done, Min(n - done, writer->chunk), fill, arg);
}
