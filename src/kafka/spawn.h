/*-------------------------------------------------------------------------
 *
 * spawn.h
 *		Turning a child of a server process into a Kafka helper.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_KAFKA_SPAWN_H
#define SX_KAFKA_SPAWN_H

/*
 * Starts the program with fds[i] (-1: /dev/null) as its descriptor SX_HELPER_SOCKET
 * + i, and no other open.  Its pid; -1 and errno when there is no child.
 */
extern pid_t sx_kafka_spawn(const char *path, const int *fds, int nfds);

#endif							/* SX_KAFKA_SPAWN_H */
