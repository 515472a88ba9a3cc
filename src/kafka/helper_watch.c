/*-------------------------------------------------------------------------
 *
 * helper_watch.c
 *		streamext-kafka: a thread that finds no end in what a broker has sent.
 *
 * librdkafka 2.0.2 never comes back from a gzip stream that ends too early
 * (rd_gz_decompress): the thread of that broker turns round for ever, and nothing
 * more is read from it.  No error says so.  What can be seen is the CPU time of the
 * thread: an interceptor, which runs in the threads of brokers, notes it whenever an
 * answer has come in whole and is about to be unpacked.  A thread that has used
 * STUCK_MS and more by the size of our memory since, and has taken no further answer, is
 * stuck: what fits into the memory is unpacked in a fraction of that.  CPU time does not pass while the machine is busy
 * with others, and a thread that waits uses next to none.
 *
 * Then the program ends with SX_HELPER_STUCK, and the server goes on as after any
 * other death.
 *
 *-------------------------------------------------------------------------
 */
#include <sys/resource.h>
#include <time.h>

#include "helper.h"

#define STUCK_MS			3000
#define STUCK_BYTES_PER_MS	200000	/* librdkafka unpacks several times as many */
#define STUCK_UNBOUNDED_MS	60000
#define CHECK_INTERVAL_MS	1000
#define MAX_THREADS			256		/* brokers beyond that are not watched */

typedef struct WatchedThread
{
	clockid_t	clock;			/* CPU time of the thread */
	_Atomic int64_t answered_at;	/* on that clock, in ms */
} WatchedThread;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static WatchedThread watched[MAX_THREADS];
static _Atomic int nwatched;	/* grows under lock */
static __thread bool unwatched;

/* Milliseconds of a clock; -1 when its thread has ended. */
static int64_t
clock_ms(clockid_t clock)
{
	struct timespec t;

	if (clock_gettime(clock, &t) != 0)
		return -1;
	return (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The entry of the thread that asks, or NULL.  Clocks of dead threads are used again. */
static WatchedThread *
watch_this_thread(void)
{
	clockid_t	clock;
	int			i = 0;

	if (pthread_getcpuclockid(pthread_self(), &clock) != 0)
		return NULL;
	pthread_mutex_lock(&lock);
	while (i < nwatched && watched[i].clock != clock)
		i++;
	if (i < MAX_THREADS)
	{
		watched[i].clock = clock;
		atomic_store(&watched[i].answered_at, clock_ms(clock));
		if (i == nwatched)
			atomic_store(&nwatched, i + 1);
	}
	pthread_mutex_unlock(&lock);
	return i < MAX_THREADS ? &watched[i] : NULL;
}

/*
 * For a thread of ours that librdkafka calls back in: it unpacks nothing, and what it does
 * between two answers may add up.
 */
void
helper_watch_not_me(void)
{
	unwatched = true;
}

/* An answer has been received; it is unpacked next, in this thread. */
static rd_kafka_resp_err_t
note_answer(rd_kafka_t *rk, int sock, const char *broker, int32_t broker_id,
			int16_t api_key, int16_t api_version, int32_t correlation, size_t size,
			int64_t rtt, rd_kafka_resp_err_t err, void *opaque)
{
	static __thread WatchedThread *mine;

	if (unwatched)
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	if (mine == NULL)
		mine = watch_this_thread();
	else
		atomic_store(&mine->answered_at, clock_ms(mine->clock));
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t
watch_client(rd_kafka_t *rk, const rd_kafka_conf_t *conf, void *opaque, char *error,
			 size_t error_size)
{
	return rd_kafka_interceptor_add_on_response_received(rk, "watch", note_answer, NULL);
}

/* Before the client is made. */
void
helper_watch_configure(rd_kafka_conf_t *conf)
{
	if (rd_kafka_conf_interceptor_add_on_new(conf, "watch", watch_client, NULL) !=
		RD_KAFKA_RESP_ERR_NO_ERROR)
		helper_fail("could not watch the threads of librdkafka");
}

/* CPU time that nothing takes which fits into our memory. */
static int64_t
stuck_after(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_AS, &r) != 0 || r.rlim_cur == RLIM_INFINITY)
		return STUCK_UNBOUNDED_MS;
	return STUCK_MS + (int64_t) (r.rlim_cur / STUCK_BYTES_PER_MS);
}

/* Ends the program when a thread is stuck.  To be called every few seconds. */
void
helper_watch_check(void)
{
	static int64_t checked_at;
	static int64_t limit;

	if (!helper_is_due(&checked_at, CHECK_INTERVAL_MS))
		return;
	if (limit == 0)
		limit = stuck_after();
	for (int i = 0; i < atomic_load(&nwatched); i++)
	{
		int64_t		answered_at = atomic_load(&watched[i].answered_at);

		if (clock_ms(watched[i].clock) > answered_at + limit)
			helper_exit(SX_HELPER_STUCK);
	}
}
