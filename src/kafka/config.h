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

/* What a helper is to be good at. */
typedef enum SxHelperKind
{
	SX_HELPER_USUAL,
	SX_HELPER_CAREFUL,			/* gets one batch of each partition with an answer */
	SX_HELPER_RESTING			/* stands still while nothing comes; see sx_kafka_may_rest */
} SxHelperKind;

/*
 * Payload of the CONFIG message up to the list of topics, which the caller puts behind
 * it.  Reads the user mapping: needs a transaction.  All but usual ones are consumers.
 */
extern void sx_kafka_config(const SxStream *stream, SxHelperRole role, SxHelperKind kind,
							StringInfo payload);

/* Does nothing that the stream's properties ask for keep its helper from resting? */
extern bool sx_kafka_may_rest(const SxStream *stream);

/* How long a Fetch of a resting helper waits for records, in ms. */
extern int	sx_kafka_rest_wait(void);

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
