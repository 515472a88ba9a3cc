/*-------------------------------------------------------------------------
 *
 * client.h
 *		A server process's end of a Kafka helper program.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_KAFKA_CLIENT_H
#define SX_KAFKA_CLIENT_H

#include "kafka/protocol.h"
#include "kafka/ring.h"
#include "lib/stringinfo.h"

typedef struct SxKafkaClient SxKafkaClient;

/* Lives as long as the context, whose reset ends the helper too. */
extern SxKafkaClient *sx_kafka_client_create(MemoryContext context);

/*
 * Starts a helper and sends it its configuration.  ring_bytes 0: no ring (a
 * producer).  The client must not be running.
 */
extern void sx_kafka_client_start(SxKafkaClient *client, const StringInfoData *config,
								  uint64 ring_bytes);

/* Ends the helper, if any, and forgets the ring: records in it are gone. */
extern void sx_kafka_client_stop(SxKafkaClient *client);

/*
 * Is the helper alive, as far as we have noticed?  After its death the ring can
 * be read to its end until stop; sx_kafka_client_death says what happened.
 */
extern bool sx_kafka_client_running(const SxKafkaClient *client);
extern bool sx_kafka_client_started(const SxKafkaClient *client);
extern const char *sx_kafka_client_death(const SxKafkaClient *client);

/* Gives the helper up for the given reason, as if it had died. */
extern void sx_kafka_client_kill(SxKafkaClient *client, const char *reason);

/* Control messages; neither call blocks.  A received frame is valid until the next. */
extern void sx_kafka_client_send(SxKafkaClient *client, SxMessageType type,
								 const StringInfoData *payload);
extern bool sx_kafka_client_receive(SxKafkaClient *client, SxMessageType *type,
									SxFrameReader *frame);
extern bool sx_kafka_client_flush(SxKafkaClient *client);

/* Records. */
extern SxRingReader *sx_kafka_client_ring(SxKafkaClient *client);
extern void sx_kafka_client_release(SxKafkaClient *client, uint64 position);

/*
 * Waiting: the descriptor is readable when the helper has something to say, after
 * sx_kafka_client_arm returned true (false: there is something now).
 */
extern int	sx_kafka_client_fd(const SxKafkaClient *client);
extern bool sx_kafka_client_arm(SxKafkaClient *client);
extern void sx_kafka_client_wait(SxKafkaClient *client, long timeout_ms);

#endif							/* SX_KAFKA_CLIENT_H */
