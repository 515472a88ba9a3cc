/*-------------------------------------------------------------------------
 *
 * config.h
 *		From the options of a Kafka stream to the configuration of a helper.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_KAFKA_CONFIG_H
#define SX_KAFKA_CONFIG_H

#include "fdw/stream.h"
#include "kafka/protocol.h"
#include "lib/stringinfo.h"

#define SX_MAX_TOPICS	1024	/* of a stream: what a helper takes */

/* Topics of the stream, in the order of the option: List of char *; none with a pattern. */
extern List *sx_kafka_topics(const SxStream *stream);

/* Largest record accepted, option max_message_bytes. */
extern int64 sx_kafka_max_message_bytes(const SxStream *stream);

/*
 * Payload of the CONFIG message up to the list of topics, which the caller puts behind
 * it.  Reads the user mapping: needs a transaction.  A careful consumer gets one batch
 * of each partition with an answer.
 */
extern void sx_kafka_config(const SxStream *stream, SxHelperRole role, bool careful,
							StringInfo payload);

/* check.c: what has to be right; ERROR when it is not. */
extern void sx_kafka_check(SxStream *stream);
extern void sx_kafka_check_encryption(const SxStream *stream);

/* Does option topic_pattern fit the name? */
extern bool sx_kafka_pattern_fits(const char *pattern, const char *name, int len);

/* The fields of a message. */
extern void sx_frame_put_u32(StringInfo payload, uint32 v);
extern void sx_frame_put_i64(StringInfo payload, int64 v);
extern void sx_frame_put_str(StringInfo payload, const char *s);

#endif							/* SX_KAFKA_CONFIG_H */
