/*-------------------------------------------------------------------------
 *
 * helper_main.c
 *		streamext-kafka: librdkafka in a process of its own.
 *
 * With the argument --properties it lists what the library can be configured with.
 *
 * Started by client.c with four descriptors (protocol.h) and no arguments of
 * interest.  It owns nothing that matters: it may be killed at any instruction,
 * and the server process starts another one from the positions that it knows.  It
 * ends when its socket does, and the kernel kills it when its server process
 * dies.  Its memory is bounded by RLIMIT_AS, set before exec; running into that,
 * or into an assertion of librdkafka, ends this process and no other.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "helper.h"

#define TIMER_SLACK_NS	2000000
#define TRIM_INTERVAL_MS	60000

static Helper helper;

void *
helper_alloc(size_t size)
{
	void	   *p = calloc(1, size ? size : 1);

	if (p == NULL)
	{
		fprintf(stderr, "streamext-kafka: out of memory\n");
		helper_exit(1);
	}
	return p;
}

/* Milliseconds on a clock that never goes back. */
int64_t
helper_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Has the interval passed since *last, which is now then?  0 is long ago. */
bool
helper_is_due(int64_t *last, int64_t interval_ms)
{
	int64_t		now = helper_now_ms();

	if (now - *last < interval_ms)
		return false;
	*last = now;
	return true;
}

/*
 * Gives memory back that a burst of messages took, once a minute.  Freed by one thread and
 * allocated by another, it would stay with us otherwise.  To be called when there is nothing to do.
 */
void
helper_trim(void)
{
	static int64_t trimmed_at;

	if (helper_is_due(&trimmed_at, TRIM_INTERVAL_MS))
		malloc_trim(0);
}

/* No atexit handlers: closing librdkafka politely may block for long. */
void
helper_exit(int status)
{
	_exit(status);
}

int
helper_event_fd(void)
{
	int			fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		helper_fail("could not create an eventfd");
	return fd;
}

void
helper_event_clear(int fd)
{
	uint64_t	n;

	while (read(fd, &n, sizeof(n)) < 0 && errno == EINTR)
		;
}

void
helper_event_raise(int fd)
{
	uint64_t	one = 1;

	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/*
 * The server's process group gets SIGINT for a cancelled query and SIGTERM or
 * SIGHUP at other times; our end is that of the socket.
 */
static void
ignore_signals(void)
{
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGUSR1, SIG_IGN);
	signal(SIGUSR2, SIG_IGN);
}

/*
 * librdkafka's main thread waits in whole milliseconds for its next timer and turns round
 * for the rest of the last one, once a second.  Timers that may be as late as that (not so
 * what comes from a socket) let it wake up after the timer is due.  Threads made later have it too.
 */
static void
wake_up_late(void)
{
	(void) prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0);
}

int
main(int argc, char **argv)
{
	SxMessageType type;
	SxFrameReader frame;

	if (argc == 2 && strcmp(argv[1], "--properties") == 0)
	{
		rd_kafka_conf_properties_show(stdout);
		return 0;
	}
	ignore_signals();
	wake_up_late();
	/* address space is limited, and each arena of glibc reserves 64 MB of it */
	mallopt(M_ARENA_MAX, 2);

	if (!helper_receive(&type, &frame, true))
	{
		fprintf(stderr, "streamext-kafka: started by streamext, not by hand\n");
		return 2;
	}
	if (type != SX_MSG_CONFIG)
		helper_fail("the first message is no configuration");
	helper_configure(&helper, &frame);

	if (helper.role == SX_ROLE_FEATURES)
		helper_features(&helper);
	if (helper.role == SX_ROLE_CONSUMER)
		helper_consume(&helper);
	else
		helper_produce(&helper);
	helper_exit(0);
}
