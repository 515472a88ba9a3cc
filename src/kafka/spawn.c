/*-------------------------------------------------------------------------
 *
 * spawn.c
 *		Turning a child of a server process into a Kafka helper.
 *
 * Between fork and exec the child is a copy of a PostgreSQL process, so it does
 * async-signal-safe things only and ends by _exit, which runs no callback of the
 * server's.  Signals are blocked across the fork: a handler of ours that ran in
 * the child would set the parent's latch.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kafka/protocol.h"
#include "kafka/spawn.h"
#include "streamext.h"

#define HELPER_STACK	(1024 * 1024)	/* of each of its threads */

static void
close_above(int last)
{
	if (syscall(SYS_close_range, last + 1, ~0U, 0) == 0)
		return;
	for (int fd = last + 1; fd < 65536; fd++)
		close(fd);
}

static void
limit(int resource, rlim_t bytes)
{
	struct rlimit r = {bytes, bytes};

	setrlimit(resource, &r);
}

/*
 * Puts the descriptors where the helper looks for them.  They are moved out of the
 * way first, since any of them may be one that another goes to.
 */
static bool
arrange_descriptors(const int *fds, int nfds)
{
	int			moved[SX_HELPER_LAST_FD - SX_HELPER_SOCKET + 1];
	int			null = open("/dev/null", O_RDWR);

	for (int i = 0; i < nfds; i++)
	{
		moved[i] = fcntl(fds[i] >= 0 ? fds[i] : null, F_DUPFD, SX_HELPER_LAST_FD + 1);
		if (moved[i] < 0)
			return false;
	}
	dup2(null, 0);
	dup2(null, 1);
	for (int i = 0; i < nfds; i++)
		dup2(moved[i], SX_HELPER_SOCKET + i);
	close_above(SX_HELPER_LAST_FD);
	return true;
}

static void
become_helper(const char *path, const int *fds, int nfds, pid_t parent)
{
	char	   *argv[] = {"streamext-kafka", NULL};
	sigset_t	none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || !arrange_descriptors(fds, nfds))
		_exit(1);
	setsid();					/* the signals of our process group are not its */

	limit(RLIMIT_CORE, 0);		/* its memory holds passwords */
	limit(RLIMIT_STACK, HELPER_STACK);
#ifndef __SANITIZE_ADDRESS__	/* whose shadow memory is terabytes */
	limit(RLIMIT_AS, (rlim_t) sx_helper_memory * 1024);
#endif
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(path, argv);
	_exit(127);
}

pid_t
sx_kafka_spawn(const char *path, const int *fds, int nfds)
{
	sigset_t	all;
	sigset_t	save;
	pid_t		parent = getpid();
	pid_t		pid;
	int			save_errno;

	Assert(nfds <= SX_HELPER_LAST_FD - SX_HELPER_SOCKET + 1);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &save);
	pid = fork();
	if (pid == 0)
		become_helper(path, fds, nfds, parent);
	save_errno = errno;
	sigprocmask(SIG_SETMASK, &save, NULL);
	errno = save_errno;
	return pid;
}
