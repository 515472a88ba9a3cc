/*-------------------------------------------------------------------------
 *
 * receiver_call.c
 *		Calling the function behind a stream of connector 'function'.
 *
 * A call is made as the owner of the pipeline or stream, never with the rights of who
 * happens to step or peek, under security restrictions; with search_path pg_catalog,
 * unless the function sets its own; and with transaction_read_only on.  It may be called
 * again from the same position, after a crash for instance, and has to give the same
 * again; a function that writes down what it gave would not.  All of that is undone by
 * the end of the (sub)transaction when the function raises.
 *
 * It stands in the target list, not in FROM: there, what a SQL function gives is taken
 * row by row, and one in another language puts it into a tuplestore that spills to disk.
 * What it gives beyond max_rows or max_bytes is not fetched.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "source/receiver.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#define FIRST_FETCH		16		/* rows, as nothing is known about their size */
#define MAX_FETCH		1000

typedef struct Call
{
	const SxStream *stream;
	const SxReceiver *receiver;
	const SxReceiveRequest *request;
	SxReceived *result;
	char	   *label;			/* of the function */
	int			capacity;
	MemoryContext target;		/* of what is kept */
} Call;

/* ------------------------------------------------------------------ one row */

static void
refuse_null(const Call *call, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("function %s of stream %s gave a row %s", call->label,
					call->stream->label, what),
			 errhint("Give with each row the position where the next call begins after it.")));
}

/* A copy of the row in the context that keeps it. */
static HeapTuple
copy_row(const Call *call, Datum row)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(row);
	HeapTupleData tuple = {0};
	MemoryContext old;
	HeapTuple	copy;

	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_data = header;

	old = MemoryContextSwitchTo(call->target);
	copy = HeapTupleHasExternal(&tuple) ?
		toast_flatten_tuple(&tuple, call->receiver->desc) : heap_copytuple(&tuple);
	MemoryContextSwitchTo(old);
	return copy;
}

static void
add_row(Call *call, Datum row, bool row_isnull)
{
	SxReceived *result = call->result;
	HeapTuple	tuple;
	bool		isnull;

	if (row_isnull)
		refuse_null(call, "that is null");
	tuple = copy_row(call, row);
	(void) heap_getattr(tuple, call->receiver->position, call->receiver->desc, &isnull);
	if (isnull)
		refuse_null(call, "whose position is null");

	if (result->n == call->capacity)
	{
		call->capacity = Max(call->capacity * 2, 64);
		result->tuples = result->tuples == NULL ?
			MemoryContextAlloc(call->target, sizeof(HeapTuple) * call->capacity) :
			repalloc_huge(result->tuples, sizeof(HeapTuple) * call->capacity);
	}
	result->tuples[result->n++] = tuple;
	result->nbytes += tuple->t_len;
}

/* -------------------------------------------------------------------- fetch */

static bool
is_full(const Call *call)
{
	return call->result->n >= call->request->max_rows ||
		call->result->nbytes >= call->request->max_bytes;
}

/* How many rows to fetch next: what is left of max_bytes, by the rows so far. */
static long
rows_to_fetch(const Call *call)
{
	const SxReceived *result = call->result;
	int64		rows = FIRST_FETCH;

	if (result->n > 0)
		rows = (call->request->max_bytes - result->nbytes) /
			(result->nbytes / result->n + 1) + 1;
	rows = Min(rows, MAX_FETCH);
	return (long) Min(rows, call->request->max_rows - result->n);
}

static void
fetch_rows(Call *call)
{
	const char *position = call->request->position;
	Oid			types[] = {JSONBOID, INT4OID};
	Datum		values[] = {(Datum) 0, Int32GetDatum((int32) Min(call->request->max_rows, INT_MAX))};
	char		nulls[] = {position == NULL ? 'n' : ' ', ' '};
	SPIPlanPtr	plan;
	Portal		portal;

	if (position != NULL)
		values[0] = DirectFunctionCall1(jsonb_in, CStringGetDatum(position));
	plan = SPI_prepare(psprintf("SELECT %s($1, $2)", call->label), lengthof(types), types);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	portal = SPI_cursor_open(NULL, plan, values, nulls, false);
	while (!is_full(call))
	{
		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, rows_to_fetch(call));
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed && !is_full(call); i++)
		{
			bool		isnull;
			Datum		row = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
											1, &isnull);

			add_row(call, row, isnull);
		}
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
}

/* --------------------------------------------------------------------- call */

static void
error_context(void *arg)
{
	const Call *call = arg;

	if (geterrcode() == ERRCODE_READ_ONLY_SQL_TRANSACTION)
		errhint("The function of a stream is called in a read-only transaction: it may be called again from the same position and must give the same rows again.");
	errcontext("function %s of stream %s", call->label, call->stream->label);
}

/*
 * The server itself looks after the time of statements from clients only, and workers
 * run without a limit; so the function's own setting statement_timeout counts here.
 */
static void
fetch_in_time(Call *call)
{
	int			timeout = call->receiver->timeout;
	bool		armed = timeout > 0 && !get_timeout_active(STATEMENT_TIMEOUT);

	if (!armed)
	{
		fetch_rows(call);
		return;
	}
	enable_timeout_after(STATEMENT_TIMEOUT, timeout);
	PG_TRY();
	{
		fetch_rows(call);
	}
	PG_FINALLY();
	{
		disable_timeout(STATEMENT_TIMEOUT, false);
	}
	PG_END_TRY();
}

static void
set_locally(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

static void
keep_position(Call *call)
{
	SxReceived *result = call->result;
	bool		isnull;
	Datum		position;
	Jsonb	   *jsonb;

	if (result->n == 0)
		return;
	position = heap_getattr(result->tuples[result->n - 1], call->receiver->position,
							call->receiver->desc, &isnull);
	jsonb = DatumGetJsonbP(position);
	result->position = MemoryContextStrdup(call->target,
										   JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb)));
}

void
sx_receiver_call(const SxStream *stream, const SxReceiver *receiver,
				 const SxReceiveRequest *request, SxReceived *result)
{
	Call		call = {.stream = stream, .receiver = receiver, .request = request,
	.result = result, .target = CurrentMemoryContext};
	ErrorContextCallback context = {.callback = error_context, .arg = &call};
	bool		pushed = !ActiveSnapshotSet();
	int			nestlevel;
	Oid			userid;
	int			sec_context;

	memset(result, 0, sizeof(SxReceived));
	call.label = sx_receiver_label(receiver->function);
	context.previous = error_context_stack;
	error_context_stack = &context;

	GetUserIdAndSecContext(&userid, &sec_context);
	nestlevel = NewGUCNestLevel();
	SetUserIdAndSecContext(request->user, sec_context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	set_locally("search_path", "pg_catalog, pg_temp");
	set_locally("transaction_read_only", "on");
	if (pushed)
		PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	fetch_in_time(&call);
	keep_position(&call);
	SPI_finish();
	if (pushed)
		PopActiveSnapshot();
	AtEOXact_GUC(false, nestlevel);
	SetUserIdAndSecContext(userid, sec_context);
	error_context_stack = context.previous;
}
