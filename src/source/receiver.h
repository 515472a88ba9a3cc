/*-------------------------------------------------------------------------
 *
 * receiver.h
 *		The function behind a stream of connector 'function': which one it is,
 *		whether it keeps the contract, and calling it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_RECEIVER_H
#define SX_RECEIVER_H

#include "fdw/stream.h"
#include "utils/palloc.h"

/* What the function gives and where the stream's columns are in it. */
typedef struct SxReceiver
{
	Oid			function;
	int			timeout;		/* of a call in milliseconds, 0: none */
	TupleDesc	desc;
	AttrNumber	position;		/* the result column of that meaning */
	AttrNumber *columns;		/* by attno - 1 of the stream; 0: not from there */
} SxReceiver;

/* What one call gave. */
typedef struct SxReceived
{
	HeapTuple  *tuples;			/* of the receiver's desc */
	int			n;
	int64		nbytes;
	char	   *position;		/* of the last one, jsonb text */
} SxReceived;

typedef struct SxReceiveRequest
{
	Oid			user;			/* who calls */
	const char *position;		/* jsonb text, NULL: from the beginning */
	int64		max_rows;
	int64		max_bytes;
} SxReceiveRequest;

/*
 * Finds the function: the one that the stream depends on, or before it is registered
 * the one that its option names.  ERROR, with a hint, when it does not keep the
 * contract.
 */
extern SxReceiver *sx_receiver_find(const SxStream *stream);

/* Name of the function, qualified and quoted, without arguments. */
extern char *sx_receiver_label(Oid function);

/* Binds a stream that is being created to its function. */
extern void sx_receiver_bind(SxStream *stream);

/* The same for a stream that came with a dump. */
extern void sx_receiver_bind_again(SxStream *stream);

/*
 * Calls it, in a transaction, read-only.  Everything that is given back is in the
 * current context; the rows are whole, with nothing left in a TOAST table.
 */
extern void sx_receiver_call(const SxStream *stream, const SxReceiver *receiver,
							 const SxReceiveRequest *request, SxReceived *result);

#endif							/* SX_RECEIVER_H */
