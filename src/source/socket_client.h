/*-------------------------------------------------------------------------
 *
 * socket_client.h
 *		A TCP client that never blocks, and cuts what it receives into records.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_SOCKET_CLIENT_H
#define SX_SOCKET_CLIENT_H

#include "datatype/timestamp.h"
#include "fdw/stream.h"
#include "source/record_buffer.h"

struct addrinfo;

typedef enum SxFraming
{
	SX_FRAMING_LINE,			/* LF or CRLF */
	SX_FRAMING_LENGTH			/* four bytes, big-endian, then so many */
} SxFraming;

typedef enum SxConnState
{
	SX_CONN_CLOSED,				/* the next try is at next_try */
	SX_CONN_CONNECTING,			/* the descriptor becomes writable */
	SX_CONN_OPEN
} SxConnState;

typedef struct SxSocketClient
{
	/* for readers */
	SxConnState state;
	int			fd;				/* -1: none */
	TimestampTz next_try;		/* CLOSED */
	char		status[256];	/* "" or what is wrong */
	bool		ack;			/* the peer is told what was logged */
	bool		ack_waits;		/* … when the descriptor becomes writable */

	/* private */
	const SxStream *stream;
	MemoryContext context;
	bool		restricted;		/* its owner is not told what answers where */
	char		failure[128];	/* the last one that was logged */
	const char *ended;			/* why we ended the connection before; NULL: forgotten */
	char	   *host;
	char	   *port;
	SxFraming	framing;
	int64		max_record;		/* bytes */
	struct addrinfo *addresses; /* those that are still to be tried */
	struct addrinfo *all_addresses;
	TimestampTz connecting_since;
	int			backoff_ms;
	bool		received;		/* something came through this connection */
	char	   *partial;		/* bytes of a record that is not complete */
	Size		partial_len;
	Size		partial_room;
	Size		scanned;		/* of them, hold no end of line */
	int64		acked;			/* number the peer was told last; -1: none */
	char		ack_line[32];	/* what is left to be sent */
	int			ack_len;
} SxSocketClient;

/* Checks the options that belong together; ERROR with a hint. */
extern void sx_socket_check(SxStream *stream);

/* Not connected yet.  In the current context, which frees memory but not the socket. */
extern SxSocketClient *sx_socket_create(const SxStream *stream);
extern void sx_socket_close(SxSocketClient *client);

/* Connects when it is time to, and goes on with it.  True: open. */
extern bool sx_socket_connect(SxSocketClient *client, TimestampTz now);

/*
 * Reads what is there, until the buffer holds max_rows or max_bytes.  False when
 * nothing more is there now; the connection may have ended then.
 */
extern bool sx_socket_read(SxSocketClient *client, SxRecordBuffer *buffer,
						   int max_rows, int64 max_bytes);

/* Tells the peer the number of the last record that is safe. */
extern void sx_socket_ack(SxSocketClient *client, int64 seq);

/* Milliseconds until the next try, 0: now; -1: no try is due. */
extern long sx_socket_wait(const SxSocketClient *client, TimestampTz now);

#endif							/* SX_SOCKET_CLIENT_H */
