/*-------------------------------------------------------------------------
 *
 * helper.h
 *		What the files of the program streamext-kafka share.
 *
 * The program has two threads of its own.  The data thread (main) reads control
 * frames, moves records and calls back for errors; the query thread does what
 * may block for seconds: metadata and looking up offsets.  Frames may be sent
 * by both, so sending takes a lock.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_HELPER_H
#define SX_HELPER_H

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "kafka/protocol.h"
#include "kafka/ring.h"

#define SX_HELPER_MAX_TOPICS	1024

typedef struct HelperTopic
{
	char	   *name;
	rd_kafka_topic_t *rkt;
	struct ConsumedPart **part_of;	/* by Kafka partition, may be NULL; of the data
									 * thread */
	int			nparts_of;
} HelperTopic;

/* A growing buffer; the whole program ends when memory does. */
typedef struct HelperBuffer
{
	char	   *data;
	size_t		len;
	size_t		size;
} HelperBuffer;

typedef struct Helper
{
	SxHelperRole role;
	int64_t		max_message_bytes;
	SxHeaders	headers;
	bool		rests;			/* stands still while nothing comes (helper_rest.c) */
	rd_kafka_t *rk;
	HelperTopic *topics;		/* room for SX_HELPER_MAX_TOPICS */
	_Atomic int ntopics;		/* grows in the data thread only */
	bool		list_topics;	/* the server wants to choose */
	int			wake_fd;		/* librdkafka writes: queues are no longer empty */
	_Atomic bool connected;
	_Atomic bool lost;			/* the log may be another one; lost_text is why */
	char		lost_text[256];
	char	   *host_rules;		/* of source/allowed_hosts.h; NULL: any host */
} Helper;

/* helper_main.c */
extern void *helper_alloc(size_t size);
extern void helper_exit(int status) __attribute__((noreturn));
extern int64_t helper_now_ms(void);
extern bool helper_is_due(int64_t *last, int64_t interval_ms);
extern void helper_trim(void);
extern int	helper_event_fd(void);
extern void helper_event_clear(int fd);
extern void helper_event_raise(int fd);

/* helper_control.c */
extern void helper_put(HelperBuffer *b, const void *bytes, size_t n);
extern void helper_put_u32(HelperBuffer *b, uint32_t v);
extern void helper_put_i32(HelperBuffer *b, int32_t v);
extern void helper_put_i64(HelperBuffer *b, int64_t v);
extern void helper_put_str(HelperBuffer *b, const char *s);
extern void helper_send(SxMessageType type, HelperBuffer *b);
extern bool helper_receive(SxMessageType *type, SxFrameReader *frame, bool wait);
extern void helper_fail(const char *text) __attribute__((noreturn));
extern void helper_send_status(Helper *h, bool connected, int code, const char *text);
extern char *helper_get_string(SxFrameReader *frame);

/* helper_config.c */
extern void helper_configure(Helper *h, SxFrameReader *frame);
extern void helper_add_topics(Helper *h, SxFrameReader *frame);
extern long helper_property(Helper *h, const char *name);
extern void helper_lose(Helper *h, const char *text);
extern void helper_features(Helper *h) __attribute__((noreturn));
extern const char *helper_text_for_owner(Helper *h, int err, const char *text);

/* helper_query.c */
extern void helper_query_start(Helper *h);
extern void helper_query_resolve(Helper *h, SxFrameReader *frame);
extern void helper_query_spur(rd_kafka_topic_partition_list_t *parts);
extern void helper_query_soon(void);

/* helper_watch.c */
extern void helper_watch_configure(rd_kafka_conf_t *conf);
extern void helper_watch_not_me(void);
extern void helper_watch_check(void);

/* helper_rest.c */
struct pollfd;
extern void helper_rest_configure(rd_kafka_conf_t *conf);
extern void helper_rest_poll(Helper *h, struct pollfd *fds, int nfds, int timeout_ms);

/* helper_consume.c, helper_produce.c */
extern void helper_consume(Helper *h);
extern void helper_produce(Helper *h);
extern void helper_delivered(rd_kafka_t *rk, const rd_kafka_message_t *msg, void *opaque);

#endif							/* SX_HELPER_H */
