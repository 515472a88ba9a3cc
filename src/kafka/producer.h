/*-------------------------------------------------------------------------
 *
 * producer.h
 *		INSERT into a Kafka stream.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_KAFKA_PRODUCER_H
#define SX_KAFKA_PRODUCER_H

#include "fdw/stream.h"

/*
 * Keeps a record until the transaction is about to commit, and sends it then; a
 * length of -1 is a NULL key or value.  After a ROLLBACK, also to a savepoint,
 * nothing is sent.
 */
extern void sx_kafka_produce(SxStream *stream, const char *key, int key_len,
							 const char *value, int value_len);

#endif							/* SX_KAFKA_PRODUCER_H */
