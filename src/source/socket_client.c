/*-------------------------------------------------------------------------
 *
 * socket_client.c
 *		A TCP client that never blocks, and cuts what it receives into records.
 *
 *		CLOSED ──next_try──▶ CONNECTING ──writable──▶ OPEN
 *		  ▲                      │ refused, timed out      │ end, error, bad frame
 *		  └──────────────────────┴─────────────────────────┘
 *
 * After a failure the next try is BACKOFF_MIN_MS later, doubled with each failure up
 * to BACKOFF_MAX_MS; a connection through which something came begins anew.
 *
 * Only looking up a name may wait: the resolver has no other interface that could be
 * used here.  Addresses are not looked up, and the resolver is told to ask each server
 * once, for a second.
 *
 * Records.
 *	line	ends with LF; a CR before it is cut off.  What stands behind the last LF
 *			when the peer ends the connection in good order is a record too, unless
 *			the peer is told what was received (ack): it then sends an incomplete
 *			line again, so half a line must not count.
 *	length	four bytes, big-endian, then so many bytes.
 * A record that is cut off by a broken connection is thrown away.  One longer than
 * max_record_bytes, which a wrong length looks like too, ends the connection: nothing
 * behind it could be trusted to begin where a record begins.  Both are logged.
 *
 * Memory: the partial record, at most max_record_bytes and a READ_SIZE, and the
 * caller's buffer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "source/allowed_hosts.h"
#include "source/rights.h"
#include "source/socket_client.h"
#include "storage/fd.h"
#include "streamext.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define BACKOFF_MIN_MS	100
#define BACKOFF_MAX_MS	30000
#define CONNECT_MS		10000	/* an address that does not answer */
#define READ_SIZE		65536
#define FRAME_HEADER	4
#define DEFAULT_MAX_RECORD	(1024 * 1024)

/* ------------------------------------------------------------------ options */

void
sx_socket_check(SxStream *stream)
{
	bool		durable = sx_stream_option_bool(stream, "durable", true);

	if (!durable && sx_stream_option_bool(stream, "ack", false))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"ack\" of stream %s needs durable = on", stream->label),
				 errhint("Without a log there is nothing to acknowledge.")));
	if (!durable && sx_stream_option(stream, "max_log_rows", NULL) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"max_log_rows\" of stream %s needs durable = on",
						stream->label),
				 errhint("Leave it out: there is no log.")));
}

SxSocketClient *
sx_socket_create(const SxStream *stream)
{
	SxSocketClient *client = palloc0(sizeof(SxSocketClient));

	client->stream = stream;
	client->context = CurrentMemoryContext;
	client->fd = -1;
	client->host = pstrdup(sx_stream_option(stream, "host", ""));
	client->port = pstrdup(sx_stream_option(stream, "port", ""));
	client->restricted = sx_stream_host_rules(stream) != NULL;
	client->framing = strcmp(sx_stream_option(stream, "framing", "line"), "length") == 0 ?
		SX_FRAMING_LENGTH : SX_FRAMING_LINE;
	client->max_record = sx_stream_option_int(stream, "max_record_bytes", DEFAULT_MAX_RECORD);
	client->ack = sx_stream_option_bool(stream, "ack", false);
	client->acked = -1;
	client->backoff_ms = BACKOFF_MIN_MS;
	client->partial_room = READ_SIZE;
	client->partial = palloc(client->partial_room);
	snprintf(client->status, sizeof(client->status), "socket %s:%s: connecting",
			 client->host, client->port);
	(void) setenv("RES_OPTIONS", "timeout:1 attempts:1", 0);
	return client;
}

/* --------------------------------------------------------------- the states */

static void
free_addresses(SxSocketClient *client)
{
	if (client->all_addresses != NULL)
		freeaddrinfo(client->all_addresses);
	client->all_addresses = client->addresses = NULL;
}

static void
close_fd(SxSocketClient *client)
{
	if (client->fd < 0)
		return;
	(void) close(client->fd);
	ReleaseExternalFD();
	client->fd = -1;
}

void
sx_socket_close(SxSocketClient *client)
{
	close_fd(client);
	free_addresses(client);
	client->state = SX_CONN_CLOSED;
	client->partial_len = client->scanned = 0;
	client->ack_len = 0;
	client->ack_waits = false;
}

/*
 * What went wrong, for the stream's owner.  Who may not connect everywhere must not
 * learn what answers where: he is told that nothing came of it, and the log has the rest.
 */
static const char *
failure_text(SxSocketClient *client, const char *what)
{
	if (!client->restricted || client->state == SX_CONN_OPEN)
		return what;
	if (strncmp(client->failure, what, sizeof(client->failure) - 1) != 0)
	{
		strlcpy(client->failure, what, sizeof(client->failure));
		ereport(LOG_SERVER_ONLY,
				(errmsg("stream %s could not connect to %s:%s: %s",
						client->stream->label, client->host, client->port, what)));
	}
	return "could not connect (the server's log says why)";
}

/* To CLOSED, with what happened as the status. */
static void
disconnect(SxSocketClient *client, const char *what)
{
	int			delay = client->backoff_ms;

	what = failure_text(client, what);
	sx_socket_close(client);
	if (client->received)
		delay = BACKOFF_MIN_MS;
	client->received = false;
	client->backoff_ms = Min(delay * 2, BACKOFF_MAX_MS);
	client->next_try = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), delay);
	snprintf(client->status, sizeof(client->status), "socket %s:%s: %s, next try in %g s",
			 client->host, client->port, what, delay / 1000.0);
}

/*
 * As disconnect(), when the peer or the network is not to blame alone.  "what" is a constant:
 * it stays in the status until something comes through the next connection.
 */
static void
fail(SxSocketClient *client, const char *what)
{
	ereport(WARNING,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("connection of stream %s to %s:%s was ended: %s",
					client->stream->label, client->host, client->port, what)));
	disconnect(client, what);
	client->ended = what;
}

static bool
look_up(SxSocketClient *client)
{
	struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV
	};
	int			error = getaddrinfo(client->host, client->port, &hints,
									&client->all_addresses);

	if (error == EAI_NONAME)
	{
		hints.ai_flags = AI_NUMERICSERV;
		error = getaddrinfo(client->host, client->port, &hints, &client->all_addresses);
	}
	if (error != 0)
	{
		client->all_addresses = NULL;
		disconnect(client, gai_strerror(error));
		return false;
	}
	client->addresses = client->all_addresses;
	return true;
}

/* A peer that has gone without a word is noticed within a minute. */
static void
set_socket_options(int fd)
{
	int			on = 1;
	int			idle = 30;
	int			interval = 10;
	int			count = 3;

	(void) setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
#ifdef TCP_KEEPIDLE
	(void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	(void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	(void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
#endif
}

static void
opened(SxSocketClient *client)
{
	free_addresses(client);
	set_socket_options(client->fd);
	client->state = SX_CONN_OPEN;
	client->status[0] = '\0';
	if (client->ended != NULL)
		snprintf(client->status, sizeof(client->status),
				 "socket %s:%s: connected; the connection before was ended: %s",
				 client->host, client->port, client->ended);
	client->failure[0] = '\0';
	client->acked = -1;
}

static bool
may_connect(const SxSocketClient *client, const struct sockaddr *address)
{
	return !client->restricted ||
		sx_host_is_allowed(sx_allowed_hosts, client->host, address);
}

/* Begins to connect to the next address; CLOSED when there is none left. */
static void
try_next_address(SxSocketClient *client, int error)
{
	close_fd(client);
	while (client->addresses != NULL)
	{
		struct addrinfo *address = client->addresses;

		client->addresses = address->ai_next;
		if (!may_connect(client, address->ai_addr))
		{
			error = EACCES;
			continue;
		}
		client->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (client->fd < 0)
		{
			error = errno;
			continue;
		}
		ReserveExternalFD();
		if (connect(client->fd, address->ai_addr, address->ai_addrlen) == 0 ||
			errno == EINPROGRESS)
		{
			client->state = SX_CONN_CONNECTING;
			client->connecting_since = GetCurrentTimestamp();
			return;
		}
		error = errno;
		close_fd(client);
	}
	disconnect(client, strerror(error));
}

/*
 * A port of the kind that is given to clients may be given to us, and we connected to
 * ourselves: there is no server.
 */
static bool
is_own_address(int fd, const struct sockaddr_storage *peer, socklen_t len)
{
	struct sockaddr_storage own;
	socklen_t	own_len = sizeof(own);

	return getsockname(fd, (struct sockaddr *) &own, &own_len) == 0 &&
		own_len == len && memcmp(&own, peer, len) == 0;
}

/* Has the connection come about? */
static void
finish_connecting(SxSocketClient *client, TimestampTz now)
{
	struct sockaddr_storage peer = {0};
	socklen_t	len = sizeof(peer);
	int			error = 0;
	socklen_t	error_len = sizeof(error);

	if (getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &error_len) != 0)
		error = errno;
	if (error != 0)
		try_next_address(client, error);
	else if (getpeername(client->fd, (struct sockaddr *) &peer, &len) == 0)
	{
		if (is_own_address(client->fd, &peer, len))
			try_next_address(client, ECONNREFUSED);
		else
			opened(client);
	}
	else if (TimestampDifferenceExceeds(client->connecting_since, now, CONNECT_MS))
		try_next_address(client, ETIMEDOUT);
}

bool
sx_socket_connect(SxSocketClient *client, TimestampTz now)
{
	if (client->state == SX_CONN_CLOSED && now >= client->next_try && look_up(client))
		try_next_address(client, EHOSTUNREACH);
	if (client->state == SX_CONN_CONNECTING)
		finish_connecting(client, now);
	return client->state == SX_CONN_OPEN;
}

long
sx_socket_wait(const SxSocketClient *client, TimestampTz now)
{
	switch (client->state)
	{
		case SX_CONN_CLOSED:
			return TimestampDifferenceMilliseconds(now, client->next_try);
		case SX_CONN_CONNECTING:
			return Max(0, CONNECT_MS + 1 -
					   TimestampDifferenceMilliseconds(client->connecting_since, now));
		case SX_CONN_OPEN:
			break;
	}
	return -1;
}

/* ------------------------------------------------------------------ records */

static void
add_record(SxRecordBuffer *buffer, const char *data, Size len)
{
	(void) sx_record_buffer_add(buffer, 0, 0, data, (int32) len);
}

/*
 * The record at the start of data: its bytes, and how many to go on behind it; 0: not
 * complete; -1: too long.  scanned: bytes that are known to hold no LF.
 */
static int64
first_record(const SxSocketClient *client, const char *data, Size len, Size scanned,
			 const char **record, Size *record_len)
{
	if (client->framing == SX_FRAMING_LENGTH)
	{
		uint32		size;

		if (len < FRAME_HEADER)
			return 0;
		memcpy(&size, data, FRAME_HEADER);
		size = ntohl(size);
		if (size > client->max_record)
			return -1;
		if (len - FRAME_HEADER < size)
			return 0;
		*record = data + FRAME_HEADER;
		*record_len = size;
		return FRAME_HEADER + (int64) size;
	}
	else
	{
		const char *end = memchr(data + scanned, '\n', len - scanned);
		Size		size = end != NULL ? end - data : len;

		*record = data;
		*record_len = end != NULL && size > 0 && data[size - 1] == '\r' ? size - 1 : size;
		/* the CR of an incomplete line may turn out to be part of its end */
		if ((int64) *record_len > client->max_record + (end == NULL))
			return -1;
		return end != NULL ? (int64) size + 1 : 0;
	}
}

/*
 * Cuts complete records off what was received; the rest moves to the front.  False:
 * the connection had to be ended.
 */
static bool
cut_records(SxSocketClient *client, SxRecordBuffer *buffer)
{
	Size		done = 0;

	while (done < client->partial_len)
	{
		const char *record;
		Size		record_len;
		int64		used = first_record(client, client->partial + done,
										client->partial_len - done, client->scanned,
										&record, &record_len);

		if (used < 0)
		{
			fail(client, "a record is longer than max_record_bytes");
			return false;
		}
		if (used == 0)
			break;
		add_record(buffer, record, record_len);
		done += used;
		client->scanned = 0;
	}
	client->partial_len -= done;
	memmove(client->partial, client->partial + done, client->partial_len);
	client->scanned = client->framing == SX_FRAMING_LINE ? client->partial_len : 0;
	return true;
}

/* The peer has ended the connection in good order. */
static void
end_of_file(SxSocketClient *client, SxRecordBuffer *buffer)
{
	if (client->partial_len > 0 && client->framing == SX_FRAMING_LINE && !client->ack)
	{
		Size		len = client->partial_len;

		if (client->partial[len - 1] == '\r')
			len--;
		if (len <= client->max_record)
		{
			add_record(buffer, client->partial, len);
			client->partial_len = 0;
		}
	}
	if (client->partial_len > 0)
		fail(client, "it ended in the middle of a record");
	else
		disconnect(client, "the peer has ended the connection");
}

/* Doubles, so that a long record is not copied again and again. */
static void
make_room(SxSocketClient *client)
{
	if (client->partial_room - client->partial_len >= READ_SIZE)
		return;
	client->partial_room = Max(client->partial_room * 2, client->partial_len + READ_SIZE);
	client->partial = repalloc_huge(client->partial, client->partial_room);
}

/* A record much longer than usual must not keep its memory for ever. */
static void
give_back_room(SxSocketClient *client)
{
	if (client->partial_room <= READ_SIZE * 4 || client->partial_len > READ_SIZE)
		return;
	client->partial_room = READ_SIZE * 2;
	client->partial = repalloc(client->partial, client->partial_room);
}

/* Records come. */
static void
works(SxSocketClient *client)
{
	if (client->ended != NULL)
		client->status[0] = '\0';
	client->ended = NULL;
	give_back_room(client);
}

bool
sx_socket_read(SxSocketClient *client, SxRecordBuffer *buffer, int max_rows,
			   int64 max_bytes)
{
	while (client->state == SX_CONN_OPEN)
	{
		ssize_t		n;

		if (buffer->nrecords >= max_rows || buffer->nbytes >= max_bytes)
			return true;
		make_room(client);
		n = recv(client->fd, client->partial + client->partial_len, READ_SIZE, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return false;
		if (n < 0)
		{
			if (client->partial_len > 0)
				fail(client, "it broke in the middle of a record");
			else
				disconnect(client, strerror(errno));
		}
		else if (n == 0)
			end_of_file(client, buffer);
		else
		{
			client->received = true;
			client->partial_len += n;
			if (cut_records(client, buffer))
				works(client);
		}
	}
	return false;
}

/* --------------------------------------------------------- acknowledgements */

void
sx_socket_ack(SxSocketClient *client, int64 seq)
{
	if (!client->ack || client->state != SX_CONN_OPEN)
		return;
	if (client->ack_len == 0 && seq > client->acked)
	{
		client->ack_len = snprintf(client->ack_line, sizeof(client->ack_line),
								   INT64_FORMAT "\n", seq);
		client->acked = seq;
	}
	if (client->ack_len > 0)
	{
		ssize_t		n = send(client->fd, client->ack_line, client->ack_len, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
			return;				/* the next read tells */
		if (n > 0)
		{
			client->ack_len -= n;
			memmove(client->ack_line, client->ack_line + n, client->ack_len);
		}
	}
	client->ack_waits = client->ack_len > 0;
}
