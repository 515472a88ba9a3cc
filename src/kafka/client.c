/*-------------------------------------------------------------------------
 *
 * client.c
 *		A server process's end of a Kafka helper program.
 *
 * The helper is our child: fork, then exec of streamext-kafka, so that librdkafka
 * never shares an address space with PostgreSQL.  It finds a socket, the memory
 * of the ring and two eventfds open, nothing else; its configuration, secrets
 * included, comes through the socket.
 *
 *		STOPPED ── start ──> RUNNING ── end of file, bad frame ──> DEAD
 *		   ^                    │                                    │
 *		   └────────────────────┴────────────── stop ────────────────┘
 *
 * In DEAD the child is reaped and its descriptors are closed, but the ring stays
 * mapped: the records in it are whole, because the helper shows them only when
 * they are, and some may belong to the batch in progress.
 *
 * Nobody may be left behind, so the helper ends on each of these: stop; reset of
 * the memory context that the client lives in; before_shmem_exit; end of file on
 * its socket; death of this process (PR_SET_PDEATHSIG).  It gets SIGKILL, since it
 * has nothing to save, and only its own pid is waited for.
 *
 * Nothing here blocks longer than a time slice, except to reap a killed child.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "compat.h"
#include "kafka/client.h"
#include "kafka/spawn.h"

#define HELPER_PROGRAM	"streamext-kafka"
#define WAIT_SLICE_MS	1000
#define RECEIVE_CHUNK	(64 * 1024)

typedef enum ClientState
{
	CLIENT_STOPPED,
	CLIENT_RUNNING,
	CLIENT_DEAD
} ClientState;

struct SxKafkaClient
{
	dlist_node	node;			/* in live_clients, unless STOPPED */
	ClientState state;
	pid_t		pid;
	MemoryContext context;
	MemoryContextCallback callback;

	int			sock;			/* these are -1 when not open */
	int			data_event;
	int			space_event;
	int			epoll;
	int			external_fds;	/* told to fd.c */

	SxRing	   *map;			/* NULL: no ring */
	size_t		map_size;
	SxRingReader ring;

	StringInfoData out;			/* not sent yet, from out.cursor on */
	StringInfoData in;			/* received; in.cursor: handed out up to here */
	char		death[128];
};

static dlist_head live_clients = DLIST_STATIC_INIT(live_clients);

/* ---------- ending ---------- */

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void
close_descriptors(SxKafkaClient *client)
{
	close_fd(&client->sock);
	close_fd(&client->data_event);
	close_fd(&client->space_event);
	close_fd(&client->epoll);
	while (client->external_fds > 0)
	{
		ReleaseExternalFD();
		client->external_fds--;
	}
}

/* Kills and reaps the child; its wait status. */
static int
reap_helper(SxKafkaClient *client)
{
	int			status = 0;

	if (client->pid <= 0)
		return 0;
	kill(client->pid, SIGKILL);
	while (waitpid(client->pid, &status, 0) < 0 && errno == EINTR)
		;
	client->pid = 0;
	return status;
}

/* The helper has ended, or said what cannot be: RUNNING → DEAD. */
static void
note_death(SxKafkaClient *client, const char *reason)
{
	int			status;

	Assert(client->state == CLIENT_RUNNING);
	client->state = CLIENT_DEAD;
	status = reap_helper(client);
	close_descriptors(client);
	if (reason != NULL)
		strlcpy(client->death, reason, sizeof(client->death));
	else if (WIFEXITED(status) && WEXITSTATUS(status) == SX_HELPER_STUCK)
		strlcpy(client->death, "found no end in what a broker had sent", sizeof(client->death));
	else if (WIFEXITED(status))
		snprintf(client->death, sizeof(client->death),
				 "exited with code %d", WEXITSTATUS(status));
	else
		snprintf(client->death, sizeof(client->death),
				 "was terminated by signal %d", WTERMSIG(status));
}

void
sx_kafka_client_kill(SxKafkaClient *client, const char *reason)
{
	if (client->state == CLIENT_RUNNING)
		note_death(client, reason);
}

void
sx_kafka_client_stop(SxKafkaClient *client)
{
	if (client->state == CLIENT_STOPPED)
		return;
	client->state = CLIENT_STOPPED;
	dlist_delete(&client->node);
	(void) reap_helper(client);
	close_descriptors(client);
	if (client->map != NULL)
		munmap(client->map, client->map_size);
	client->map = NULL;
}

static void
stop_on_reset(void *arg)
{
	sx_kafka_client_stop(arg);
}

static void
stop_on_exit(int code, Datum arg)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &live_clients)
		(void) reap_helper(dlist_container(SxKafkaClient, node, iter.cur));
}

SxKafkaClient *
sx_kafka_client_create(MemoryContext context)
{
	static bool exit_registered = false;
	SxKafkaClient *client = MemoryContextAllocZero(context, sizeof(SxKafkaClient));
	MemoryContext old = MemoryContextSwitchTo(context);

	client->context = context;
	client->sock = client->data_event = client->space_event = client->epoll = -1;
	initStringInfo(&client->out);
	initStringInfo(&client->in);
	MemoryContextSwitchTo(old);

	client->callback.func = stop_on_reset;
	client->callback.arg = client;
	MemoryContextRegisterResetCallback(context, &client->callback);
	if (!exit_registered)
	{
		before_shmem_exit(stop_on_exit, (Datum) 0);
		exit_registered = true;
	}
	return client;
}

/* ---------- starting ---------- */

/* Passes a system call's result on; ERROR for -1, after stopping the client. */
static int
checked(SxKafkaClient *client, int result, const char *what)
{
	if (result < 0)
	{
		int			save = errno;

		sx_kafka_client_stop(client);
		errno = save;
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not start the Kafka helper: %s: %m", what)));
	}
	return result;
}

/* Counts a descriptor that fd.c does not know of. */
static void
acquire_fd(SxKafkaClient *client)
{
	if (!AcquireExternalFD())
	{
		sx_kafka_client_stop(client);
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not start the Kafka helper: too many open files"),
				 errhint("Raise max_files_per_process.")));
	}
	client->external_fds++;
}

/*
 * Makes the memory of the ring and maps it; returns its descriptor.  Sealed, so
 * that the helper cannot shrink it under us.
 */
static int
create_ring(SxKafkaClient *client, uint64 ring_bytes)
{
	int			fd = checked(client,
							 memfd_create("streamext", MFD_CLOEXEC | MFD_ALLOW_SEALING),
							 "memfd_create");
	void	   *map;

	ring_bytes = Max(ring_bytes, SX_RING_MIN_BYTES) & ~UINT64CONST(4095);
	client->map_size = sx_ring_map_size(ring_bytes);
	if (ftruncate(fd, client->map_size) != 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0 ||
		(map = mmap(NULL, client->map_size, PROT_READ | PROT_WRITE, MAP_SHARED,
					fd, 0)) == MAP_FAILED)
	{
		int			save = errno;

		close(fd);
		errno = save;
		checked(client, -1, "shared memory");
		return -1;
	}
	client->map = map;
	client->map->magic = SX_RING_MAGIC;
	client->map->capacity = ring_bytes;
	sx_ring_reader_init(&client->ring, client->map, ring_bytes);
	return fd;
}

static void
watch_fd(SxKafkaClient *client, int fd)
{
	struct epoll_event event = {.events = EPOLLIN};

	checked(client, epoll_ctl(client->epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

/* The part of start that makes descriptors; leaves the child's ends in fds. */
static void
create_descriptors(SxKafkaClient *client, uint64 ring_bytes, int *fds)
{
	int			pair[2];

	for (int i = 0; i < 4; i++)
		acquire_fd(client);
	client->epoll = checked(client, epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
	client->data_event = checked(client, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
	client->space_event = checked(client, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
	fds[1] = ring_bytes > 0 ? create_ring(client, ring_bytes) : -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
	{
		close_fd(&fds[1]);
		checked(client, -1, "socketpair");
	}
	client->sock = pair[0];
	fds[0] = pair[1];
	fds[2] = client->data_event;
	fds[3] = client->space_event;
}

void
sx_kafka_client_start(SxKafkaClient *client, const StringInfoData *config,
					  uint64 ring_bytes)
{
	char		path[MAXPGPATH];
	int			fds[4] = {-1, -1, -1, -1};

	Assert(client->state == CLIENT_STOPPED);
	snprintf(path, sizeof(path), "%s/%s", pkglib_path, HELPER_PROGRAM);
	if (access(path, X_OK) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not execute \"%s\": %m", path),
				 errhint("The program is installed together with streamext.")));

	client->state = CLIENT_RUNNING;
	dlist_push_tail(&live_clients, &client->node);
	resetStringInfo(&client->out);
	resetStringInfo(&client->in);
	client->death[0] = '\0';

	create_descriptors(client, ring_bytes, fds);
	client->pid = sx_kafka_spawn(path, fds, lengthof(fds));
	close_fd(&fds[0]);
	close_fd(&fds[1]);
	checked(client, client->pid, "fork");
	watch_fd(client, client->sock);
	watch_fd(client, client->data_event);
	sx_kafka_client_send(client, SX_MSG_CONFIG, config);
}

bool
sx_kafka_client_running(const SxKafkaClient *client)
{
	return client->state == CLIENT_RUNNING;
}

bool
sx_kafka_client_started(const SxKafkaClient *client)
{
	return client->state != CLIENT_STOPPED;
}

const char *
sx_kafka_client_death(const SxKafkaClient *client)
{
	return client->death;
}

/* ---------- control messages ---------- */

/* Sends what the socket takes; true when nothing is left (or nobody is there). */
bool
sx_kafka_client_flush(SxKafkaClient *client)
{
	StringInfo	out = &client->out;

	while (client->state == CLIENT_RUNNING && out->cursor < out->len)
	{
		ssize_t		n = send(client->sock, out->data + out->cursor,
							 out->len - out->cursor, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return false;
		if (n < 0)
			break;				/* receive will see the end of file */
		out->cursor += n;
	}
	resetStringInfo(out);
	return true;
}

void
sx_kafka_client_send(SxKafkaClient *client, SxMessageType type,
					 const StringInfoData *payload)
{
	SxFrameHeader header = {
		.length = payload->len,
		.type = (uint16_t) type,
		.version = SX_PROTOCOL_VERSION
	};

	Assert(payload->len <= SX_FRAME_MAX);
	appendBinaryStringInfo(&client->out, (char *) &header, sizeof(header));
	appendBinaryStringInfo(&client->out, payload->data, payload->len);
	sx_kafka_client_flush(client);
}

/* Reads what is there; false: nothing new. */
static bool
receive_more(SxKafkaClient *client)
{
	StringInfo	in = &client->in;
	ssize_t		n;

	enlargeStringInfo(in, RECEIVE_CHUNK);
	do
		n = recv(client->sock, in->data + in->len, RECEIVE_CHUNK, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return false;
	if (n <= 0)
	{
		note_death(client, NULL);
		return false;
	}
	in->len += n;
	return true;
}

/* What every helper may say, whatever its role; true: it was that. */
static bool
handle_common(SxMessageType type, SxFrameReader *frame)
{
	uint32_t	len;
	const char *text;

	if (type == SX_MSG_LOG)
	{
		bool		wanted = sx_frame_i32(frame) == SX_LOG_ALWAYS || log_min_messages <= DEBUG1;

		text = sx_frame_str(frame, &len);
		/* not to the client: lines tell what answers at an address */
		if (wanted)
			ereport(LOG_SERVER_ONLY, (errmsg_internal("Kafka helper: %.*s", (int) len, text)));
		return true;
	}
	if (type == SX_MSG_FAILED)
	{
		text = sx_frame_str(frame, &len);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("could not set up the Kafka client: %.*s", (int) len, text)));
	}
	return false;
}

bool
sx_kafka_client_receive(SxKafkaClient *client, SxMessageType *type,
						SxFrameReader *frame)
{
	StringInfo	in = &client->in;

	while (client->state == CLIENT_RUNNING)
	{
		SxFrameHeader header;
		int			avail = in->len - in->cursor;

		if (avail >= (int) sizeof(header))
		{
			memcpy(&header, in->data + in->cursor, sizeof(header));
			if (header.version != SX_PROTOCOL_VERSION || header.length > SX_FRAME_MAX)
			{
				note_death(client, "sent a message that cannot be right");
				return false;
			}
			if (avail >= (int) (sizeof(header) + header.length))
			{
				sx_frame_reader_init(frame, in->data + in->cursor + sizeof(header),
									 header.length);
				in->cursor += sizeof(header) + header.length;
				*type = (SxMessageType) header.type;
				if (handle_common(*type, frame))
					continue;
				return true;
			}
		}
		memmove(in->data, in->data + in->cursor, avail);
		in->len = avail;
		in->cursor = 0;
		if (!receive_more(client))
			return false;
	}
	return false;
}

/* ---------- records and waiting ---------- */

SxRingReader *
sx_kafka_client_ring(SxKafkaClient *client)
{
	Assert(client->map != NULL);
	return &client->ring;
}

void
sx_kafka_client_release(SxKafkaClient *client, uint64 position)
{
	uint64		one = 1;

	if (sx_ring_release(&client->ring, position) && client->space_event >= 0 &&
		write(client->space_event, &one, sizeof(one)) != sizeof(one))
		elog(DEBUG1, "could not wake the Kafka helper: %m");
}

int
sx_kafka_client_fd(const SxKafkaClient *client)
{
	return client->epoll;
}

bool
sx_kafka_client_arm(SxKafkaClient *client)
{
	uint64		n;

	if (client->state != CLIENT_RUNNING)
		return false;
	while (read(client->data_event, &n, sizeof(n)) < 0 && errno == EINTR)
		;
	return client->map == NULL || !sx_ring_consumer_waits(&client->ring);
}

/* Waits for the helper to say something, at most timeout_ms. */
void
sx_kafka_client_wait(SxKafkaClient *client, long timeout_ms)
{
	int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;

	CHECK_FOR_INTERRUPTS();
	if (!sx_kafka_client_flush(client))
		timeout_ms = Min(timeout_ms, 10);
	if (!sx_kafka_client_arm(client))
		return;
	if (WaitLatchOrSocket(MyLatch, events | WL_SOCKET_READABLE, client->epoll,
						  Min(timeout_ms, WAIT_SLICE_MS),
						  SX_WAIT_EVENT("StreamextKafka")) & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}
