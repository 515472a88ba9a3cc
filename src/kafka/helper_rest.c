/*-------------------------------------------------------------------------
 *
 * helper_rest.c
 *		streamext-kafka: all threads stand still while nothing comes.
 *
 * Each thread of librdkafka 2.0.2 wakes up once a second to look at its timers, whether
 * there is anything to do or not.  In a client that waits for records and for nothing
 * else, that is all that ever happens.  So the data thread lets them stand still: it
 * sends each a signal whose handler waits on a futex, polls their connections in their
 * place, and lets them go as soon as anything comes over one of them, or from the server.
 *
 *		calm for a while ──> every connection awaits the answer to a Fetch? ──no──> later
 *		      ^                       │ yes
 *		      │                  threads stop ──> poll(server, connections, queue)
 *		      └──── threads go on <──────────────────────┘  answer, message, time
 *
 * A thread may be stopped while it holds any lock.  So the data thread makes system calls
 * and nothing else while they stand still: no malloc, no librdkafka.  The query thread may
 * have to wait for a lock until they go on; it holds none itself that they or the data thread
 * need for that.
 *
 * What a connection awaits is told by interceptors, which run in the thread of its broker.
 * Requests behind a Fetch are answered after it, so they wait with it.  A thread that is
 * stopped with an answer in its hands has not said so yet; but then its connection has
 * received more bytes than when the Fetch was sent.  A partition that moves from one
 * broker to another is in no Fetch for a while: when the sizes of all of them together
 * have changed, nobody stands still for some time.
 *
 * A thread that is interrupted in poll() waits for the rest of its second without it, so a
 * record that comes within a second of a stop may be that late.
 *
 * The client has to be configured for this: with the usual fetch.wait.max.ms there is an
 * answer every half second (kafka/config.c, resting).
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "helper.h"

#define CALM_MIN_MS		300		/* so long that the ends of partitions are reported meanwhile */
#define CALM_MAX_MS		2000
#define SETTLE_MAX_MS	10000	/* after more is fetched than before */
#define STOP_TRIES		200		/* of a millisecond */
#define BEHIND_FETCH_MS	5000	/* longer than a Fetch waits: the answer does not come */
#define MAX_THREADS		256
#define MAX_OWN_FDS		4

#define API_FETCH		1		/* numbers of Kafka's protocol */
#define API_VERSIONS	18

typedef struct LibraryThread
{
	bool		running;		/* under lock */
	pthread_t	id;				/* under lock */
	_Atomic int sock;			/* its connection */
	_Atomic int fetch;			/* bytes of the Fetch that is not answered, 0: none */
	_Atomic uint64_t received;	/* bytes over the connection when that was sent, with the
								 * answers to requests before it */
	_Atomic int others;			/* other requests without an answer */
} LibraryThread;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static LibraryThread threads[MAX_THREADS];
static bool too_many;			/* under lock */
static __thread LibraryThread *mine;

static _Atomic uint32_t order;	/* odd: stand still */
static _Atomic int standing;	/* threads that do */
static int	signal_number;

/* Of the data thread. */
static int	fetch_wait;			/* ms: how long a broker waits for records */
static int64_t stirred_at;		/* ms: when something last happened */

/* What is being fetched when all is as it should be. */
static struct
{
	int			connections;
	int64_t		bytes;			/* of all Fetch requests together */
	int64_t		settles_at;		/* ms: nobody stands still before */
}			fetched;

/* ---------- in the threads of librdkafka ---------- */

/* The signal handler; the signal may come from elsewhere, too. */
static void
stand_still(int sig)
{
	int			save_errno = errno;
	uint32_t	now = atomic_load(&order);

	if (now % 2 != 0 && mine != NULL)
	{
		atomic_fetch_add(&standing, 1);
		while (atomic_load(&order) == now)
			(void) syscall(SYS_futex, &order, FUTEX_WAIT_PRIVATE, now, NULL, NULL, 0);
		atomic_fetch_sub(&standing, 1);
	}
	errno = save_errno;
}

static void
forget_requests(LibraryThread *t)
{
	atomic_store(&t->fetch, 0);
	atomic_store(&t->others, 0);
}

static rd_kafka_resp_err_t
thread_begins(rd_kafka_t *rk, rd_kafka_thread_type_t type, const char *name, void *opaque)
{
	sigset_t	ours;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < MAX_THREADS && mine == NULL; i++)
	{
		if (!threads[i].running)
			mine = &threads[i];
	}
	if (mine != NULL)
	{
		mine->running = true;
		mine->id = pthread_self();
	}
	else
		too_many = true;
	pthread_mutex_unlock(&lock);

	/* the library blocks all signals */
	sigemptyset(&ours);
	sigaddset(&ours, signal_number);
	(void) pthread_sigmask(SIG_UNBLOCK, &ours, NULL);
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t
thread_ends(rd_kafka_t *rk, rd_kafka_thread_type_t type, const char *name, void *opaque)
{
	if (mine == NULL)
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	pthread_mutex_lock(&lock);
	forget_requests(mine);
	mine->running = false;
	pthread_mutex_unlock(&lock);
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* Bytes that have come over a connection since it was made, whether read or not. */
static uint64_t
bytes_received(int sock)
{
	struct tcp_info info = {0};
	socklen_t	size = sizeof(info);

	(void) getsockopt(sock, IPPROTO_TCP, TCP_INFO, &info, &size);
	return info.tcpi_bytes_received;
}

static rd_kafka_resp_err_t
note_request(rd_kafka_t *rk, int sock, const char *broker, int32_t broker_id,
			 int16_t api_key, int16_t api_version, int32_t correlation, size_t size,
			 void *opaque)
{
	if (mine == NULL)
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	if (api_key == API_VERSIONS)	/* a new connection */
		forget_requests(mine);
	atomic_store(&mine->sock, sock);
	if (api_key == API_FETCH)
	{
		atomic_store(&mine->received, bytes_received(sock));
		atomic_store(&mine->fetch, (int) size);
	}
	else
		atomic_fetch_add(&mine->others, 1);
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* Called for requests that failed, too, some of which were never sent. */
static rd_kafka_resp_err_t
note_answer(rd_kafka_t *rk, int sock, const char *broker, int32_t broker_id,
			int16_t api_key, int16_t api_version, int32_t correlation, size_t size,
			int64_t rtt, rd_kafka_resp_err_t err, void *opaque)
{
	if (mine == NULL)
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	if (api_key == API_FETCH)
		atomic_store(&mine->fetch, 0);
	else if (atomic_load(&mine->others) > 0)
	{
		atomic_fetch_sub(&mine->others, 1);
		/* what has come of an answer to the Fetch by now has not been read */
		if (atomic_load(&mine->fetch) > 0)
			atomic_store(&mine->received, bytes_received(atomic_load(&mine->sock)));
	}
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t
follow_client(rd_kafka_t *rk, const rd_kafka_conf_t *conf, void *opaque, char *error,
			  size_t error_size)
{
	rd_kafka_resp_err_t err = rd_kafka_interceptor_add_on_thread_start(rk, "rest", thread_begins, NULL);

	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		err = rd_kafka_interceptor_add_on_thread_exit(rk, "rest", thread_ends, NULL);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		err = rd_kafka_interceptor_add_on_request_sent(rk, "rest", note_request, NULL);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		err = rd_kafka_interceptor_add_on_response_received(rk, "rest", note_answer, NULL);
	return err;
}

/* Before the client is made. */
void
helper_rest_configure(rd_kafka_conf_t *conf)
{
	struct sigaction action = {.sa_handler = stand_still,.sa_flags = SA_RESTART};

	signal_number = SIGRTMIN;
	sigemptyset(&action.sa_mask);
	if (sigaction(signal_number, &action, NULL) != 0 ||
		rd_kafka_conf_interceptor_add_on_new(conf, "rest", follow_client, NULL) !=
		RD_KAFKA_RESP_ERR_NO_ERROR)
		helper_fail("could not follow the threads of librdkafka");
}

/* ---------- in the data thread ---------- */

/*
 * Does every connection that awaits anything await the answer to a Fetch, of which nothing
 * has come yet?  Returns how many do, and puts them into fds; 0: no, or there is none.
 */
static int
fetching_connections(struct pollfd *fds, int64_t *bytes)
{
	int			n = 0;

	*bytes = 0;
	for (int i = 0; i < MAX_THREADS; i++)
	{
		int			fetch = atomic_load(&threads[i].fetch);
		int			sock = atomic_load(&threads[i].sock);

		if (fetch == 0 && atomic_load(&threads[i].others) > 0)
			return 0;
		if (fetch == 0)
			continue;
		if (bytes_received(sock) != atomic_load(&threads[i].received))
			return 0;
		*bytes += fetch;
		fds[n++] = (struct pollfd){sock, POLLIN, 0};
	}
	return n;
}

/*
 * Is so much fetched as has been for some time?  Where less is, a partition may be between two
 * brokers, or an answer has just come; where more is, other partitions may follow.
 */
static bool
has_settled(int connections, int64_t bytes)
{
	int64_t		now = helper_now_ms();
	bool		less = connections < fetched.connections || bytes < fetched.bytes;
	int			settle = less || fetch_wait < SETTLE_MAX_MS ? fetch_wait : SETTLE_MAX_MS;

	if (connections != fetched.connections || bytes != fetched.bytes)
	{
		fetched.connections = connections;
		fetched.bytes = bytes;
		fetched.settles_at = now + settle;
	}
	return now >= fetched.settles_at;
}

/* Lets all threads of librdkafka stand still; false: not all of them do. */
static bool
stop_threads(void)
{
	int			n = 0;
	bool		complete;

	pthread_mutex_lock(&lock);
	complete = !too_many;
	atomic_fetch_add(&order, 1);
	for (int i = 0; i < MAX_THREADS; i++)
	{
		if (threads[i].running)
		{
			n++;
			complete &= pthread_kill(threads[i].id, signal_number) == 0;
		}
	}
	pthread_mutex_unlock(&lock);
	for (int i = 0; complete && atomic_load(&standing) < n; i++)
	{
		if (i >= STOP_TRIES)
			return false;
		poll(NULL, 0, 1);
	}
	return complete;
}

static void
let_go(void)
{
	atomic_fetch_add(&order, 1);
	(void) syscall(SYS_futex, &order, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Stands still until something happens, at most for timeout_ms; false: it cannot be done now. */
static bool
rest_now(struct pollfd *fds, int nfds, int timeout_ms)
{
	struct pollfd all[MAX_THREADS + MAX_OWN_FDS];
	bool		rested = false;
	int64_t		bytes;
	int			n;

	/* not all have gone on since the last time, or something is under way */
	if (atomic_load(&standing) > 0 || (n = fetching_connections(all, &bytes)) == 0 ||
		!has_settled(n, bytes))
		return false;
	if (stop_threads() && (n = fetching_connections(all, &bytes)) == fetched.connections &&
		bytes == fetched.bytes)
	{
		memcpy(all + n, fds, nfds * sizeof(struct pollfd));
		poll(all, n + nfds, timeout_ms);
		memcpy(fds, all + n, nfds * sizeof(struct pollfd));
		rested = true;
	}
	let_go();
	return rested;
}

/*
 * poll(), in which the whole program stands still if it is that kind of client and has been
 * calm.  nfds is at most MAX_OWN_FDS.
 */
void
helper_rest_poll(Helper *h, struct pollfd *fds, int nfds, int timeout_ms)
{
	int			calm;

	if (!h->rests)
	{
		poll(fds, nfds, timeout_ms);
		return;
	}
	if (fetch_wait == 0)
		fetch_wait = (int) helper_property(h, "fetch.wait.max.ms");
	calm = fetch_wait / 4 < CALM_MIN_MS ? CALM_MIN_MS :
		fetch_wait / 4 > CALM_MAX_MS ? CALM_MAX_MS : fetch_wait / 4;
	if (helper_now_ms() - stirred_at >= calm &&
		rest_now(fds, nfds, fetch_wait + BEHIND_FETCH_MS))
		stirred_at = helper_now_ms();
	else if (poll(fds, nfds, timeout_ms < calm ? timeout_ms : calm) > 0)
		stirred_at = helper_now_ms();
}
