/*-------------------------------------------------------------------------
 *
 * helper_control.c
 *		streamext-kafka: frames to and from the server process.
 *
 * Sending blocks when the server does not read; that holds up this program and
 * nobody else.  Receiving is done by the data thread alone.  The end of the
 * socket, or a frame that cannot be right, ends the program.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper.h"

static pthread_mutex_t send_lock = PTHREAD_MUTEX_INITIALIZER;

/* What was received and not yet handed out. */
static char *in_data;
static size_t in_size;
static size_t in_len;
static size_t in_used;			/* of the frame handed out last */

/* ---------- sending ---------- */

void
helper_put(HelperBuffer *b, const void *bytes, size_t n)
{
	if (b->len + n > b->size)
	{
		b->size = (b->len + n) * 2;
		b->data = realloc(b->data, b->size);
		if (b->data == NULL)
			helper_exit(1);
	}
	if (n > 0)
		memcpy(b->data + b->len, bytes, n);
	b->len += n;
}

void
helper_put_u32(HelperBuffer *b, uint32_t v)
{
	helper_put(b, &v, sizeof(v));
}

void
helper_put_i32(HelperBuffer *b, int32_t v)
{
	helper_put(b, &v, sizeof(v));
}

void
helper_put_i64(HelperBuffer *b, int64_t v)
{
	helper_put(b, &v, sizeof(v));
}

void
helper_put_str(HelperBuffer *b, const char *s)
{
	helper_put_u32(b, (uint32_t) strlen(s));
	helper_put(b, s, strlen(s));
}

static void
send_all(const void *bytes, size_t n)
{
	const char *p = bytes;

	while (n > 0)
	{
		ssize_t		done = send(SX_HELPER_SOCKET, p, n, MSG_NOSIGNAL);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			helper_exit(0);
		p += done;
		n -= (size_t) done;
	}
}

/* Sends the buffer as one frame and empties it. */
void
helper_send(SxMessageType type, HelperBuffer *b)
{
	SxFrameHeader header = {(uint32_t) b->len, (uint16_t) type, SX_PROTOCOL_VERSION};

	pthread_mutex_lock(&send_lock);
	send_all(&header, sizeof(header));
	send_all(b->data, b->len);
	pthread_mutex_unlock(&send_lock);
	free(b->data);
	memset(b, 0, sizeof(*b));
}

/* Says why, and ends: the server stops the pipeline with this text. */
void
helper_fail(const char *text)
{
	HelperBuffer b = {0};

	helper_put_str(&b, text);
	helper_send(SX_MSG_FAILED, &b);
	helper_exit(3);
}

void
helper_send_status(Helper *h, bool connected, int code, const char *text)
{
	HelperBuffer b = {0};

	atomic_store(&h->connected, connected);
	helper_put_u32(&b, connected);
	helper_put_i32(&b, code);
	helper_put_str(&b, helper_text_for_owner(h, code, text));
	helper_send(SX_MSG_STATUS, &b);
}

/* ---------- receiving ---------- */

/* Reads more; false when there is nothing and wait is false. */
static bool
receive_more(size_t wanted, bool wait)
{
	ssize_t		n;

	if (in_size < wanted + 65536)
	{
		in_size = wanted + 65536;
		in_data = realloc(in_data, in_size);
		if (in_data == NULL)
			helper_exit(1);
	}
	do
		n = recv(SX_HELPER_SOCKET, in_data + in_len, in_size - in_len,
				 wait ? 0 : MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return false;
	if (n <= 0)
		helper_exit(0);
	in_len += (size_t) n;
	return true;
}

/*
 * The next frame, valid until the next call.  false: none complete yet, or, for
 * the first read of the program, no socket at all.
 */
bool
helper_receive(SxMessageType *type, SxFrameReader *frame, bool wait)
{
	SxFrameHeader header;
	size_t		wanted = sizeof(header);

	if (in_data == NULL)
	{
		struct pollfd p = {SX_HELPER_SOCKET, POLLIN, 0};

		if (poll(&p, 1, wait ? -1 : 0) > 0 && (p.revents & POLLNVAL))
			return false;
	}

	if (in_used > 0)
		memmove(in_data, in_data + in_used, in_len - in_used);
	in_len -= in_used;
	in_used = 0;

	for (;;)
	{
		if (in_len >= sizeof(header))
		{
			memcpy(&header, in_data, sizeof(header));
			if (header.version != SX_PROTOCOL_VERSION || header.length > SX_FRAME_MAX)
				helper_fail("the server and streamext-kafka are of different versions");
			wanted = sizeof(header) + header.length;
			if (in_len >= wanted)
				break;
		}
		if (!receive_more(wanted, wait))
			return false;
	}

	*type = (SxMessageType) header.type;
	sx_frame_reader_init(frame, in_data + sizeof(header), header.length);
	in_used = wanted;
	return true;
}

/* A string field as a terminated copy. */
char *
helper_get_string(SxFrameReader *frame)
{
	uint32_t	len;
	const char *s = sx_frame_str(frame, &len);
	char	   *copy = helper_alloc(len + 1);

	memcpy(copy, s, len);
	return copy;
}
