/*-------------------------------------------------------------------------
 *
 * protocol.h
 *		Control messages between a server process and its Kafka helper.
 *
 * Frames on a socketpair: SxFrameHeader, then `length` bytes.  Numbers are in the
 * byte order of the machine, strings are a uint32 length and the bytes.  Both
 * sides come from one build; the version in each frame catches an upgrade of the
 * files under a running server.  Neither side trusts a length: a frame is bounded
 * by SX_FRAME_MAX, and SxFrameReader fails instead of reading past its end.
 *
 * The server says, in this order:
 *
 *		CONFIG		role, properties of librdkafka (secrets travel here and
 *					nowhere else), topics
 *		RESOLVE		(consumer) where do partitions begin, end, pass a time?
 *		ASSIGN		(consumer) read these partitions from these offsets; more may
 *					follow, a partition is assigned once.  With an anchor, the
 *					record that was read last: the partition is read from there
 *					and the record compared, before anything else counts
 *		ADD_TOPICS	(consumer) more topics, numbered on
 *		PRODUCE		(producer) one record
 *		FLUSH		(producer) answer when every record is acknowledged or lost
 *
 * The helper says:
 *
 *		FAILED		the configuration is no good; it ends
 *		FEATURES	(role features) what the library was built with; it ends
 *		TOPICS		names of all topics, when they are asked for and have changed
 *		METADATA	partitions of each topic; when first known, when changed
 *		RESOLVED	answers RESOLVE
 *		ENDS		newest offsets known, a few times a second while they change
 *		STATUS		the connection was lost or is back
 *		LOST		a connection that had been read from broke, or a topic went
 *					away; it ends: nobody knows whether the log is still the same
 *		FLUSHED		answers FLUSH
 *		LOG			a line of librdkafka's log
 *
 * Records do not travel here but through the ring (ring.h).
 *
 * Shared with the helper program: nothing of PostgreSQL here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_PROTOCOL_H
#define SX_PROTOCOL_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define SX_PROTOCOL_VERSION		4
#define SX_FRAME_MAX			(32 * 1024 * 1024)

/* Descriptors that the helper finds open when it starts. */
#define SX_HELPER_SOCKET		3
#define SX_HELPER_RING			4	/* memfd; /dev/null for a producer */
#define SX_HELPER_DATA_EVENT	5	/* helper writes: there are records */
#define SX_HELPER_SPACE_EVENT	6	/* server writes: there is room again */
#define SX_HELPER_LAST_FD		6

/* Its exit code when it finds no end in what a broker has sent (helper_watch.c). */
#define SX_HELPER_STUCK			4

typedef enum SxMessageType
{
	SX_MSG_CONFIG = 1,			/* u32 role, i64 max_message_bytes, u32 list topics?,
								 * u32 does it rest?, u32 n, n × (str name, str
								 * value), u32 n, n × str topic; to a consumer u32
								 * SxHeaders */
	SX_MSG_RESOLVE,				/* u32 n, n × (i32 part, i32 topic, i32 partition,
								 * i64 ms since 1970 or SX_OFFSET_…) */
	SX_MSG_ASSIGN,				/* u32 n, n × (i32 part, i32 topic, i32 partition,
								 * i64 offset, i64 anchor's offset or -1, i64 its
								 * timestamp or -1, u32 has hash, i64 hash) */
	SX_MSG_PRODUCE,				/* i32 key length (-1: NULL), i32 value length (-1:
								 * NULL), key, value; to the first topic */
	SX_MSG_FLUSH,				/* empty */
	SX_MSG_ADD_TOPICS,			/* u32 n, n × str */

	SX_MSG_FAILED = 64,			/* str text */
	SX_MSG_METADATA,			/* str cluster id or "", u32 n, n × (i32 partitions
								 * or -1, str text) */
	SX_MSG_RESOLVED,			/* u32 n, n × (i32 part, i64 offset or -1, str
								 * text) */
	SX_MSG_ENDS,				/* u32 n, n × (i32 part, i64 low, i64 high) */
	SX_MSG_STATUS,				/* u32 connected, i32 code or SX_STATUS_NOTICE, str
								 * text */
	SX_MSG_FLUSHED,				/* i64 delivered, i64 failed, i32 code, str text */
	SX_MSG_LOG,					/* i32 syslog level or SX_LOG_ALWAYS, str text */
	SX_MSG_LOST,				/* str text */
	SX_MSG_TOPICS,				/* u32 n, n × str */
	SX_MSG_FEATURES				/* str version, str features, with commas */
} SxMessageType;

#define SX_LOG_ALWAYS			(-1)	/* a line that belongs into the server's log */

typedef enum SxHelperRole
{
	SX_ROLE_CONSUMER = 1,
	SX_ROLE_PRODUCER,
	SX_ROLE_FEATURES			/* connects to nobody */
} SxHelperRole;

/*
 * What becomes of headers.  librdkafka 2.0.2 allocates and parses to answer whether a message
 * has any, at a seventh of what a short message costs in all.
 */
typedef enum SxHeaders
{
	SX_HEADERS_NONE,			/* nobody reads them: left out */
	SX_HEADERS_IF_ROOM,			/* left out where they make a record too large */
	SX_HEADERS_ALL				/* part of the record, and of its size */
} SxHeaders;

/* Instead of a time in RESOLVE; Kafka's own numbers. */
#define SX_OFFSET_EARLIEST		(-2)
#define SX_OFFSET_LATEST		(-1)

/* Codes of librdkafka that the server tells apart (helper_consume.c checks them). */
#define SX_KAFKA_ERR_OFFSET_GONE		(-140)	/* no such offset any more */
#define SX_KAFKA_ERR_TOO_LARGE			10
#define SX_KAFKA_ERR_NOT_ALLOWED		29
#define SX_KAFKA_ERR_UNKNOWN_TOPIC		(-188)
#define SX_KAFKA_ERR_NO_SUCH_TOPIC		3

/* Ours, where librdkafka has none. */
#define SX_KAFKA_ERR_OTHER_RECORD		(-10001)	/* the anchor is another record */
#define SX_KAFKA_ERR_TRUNCATED			(-10002)	/* the log ends before our offset */

/* Code of a STATUS that is no trouble, but worth a line in the log. */
#define SX_STATUS_NOTICE				(-10003)

/*
 * What is remembered of the last record of a partition: of its key and value
 * (NULL with length -1) a hash, FNV-1a, that tells apart, not one that resists.
 */
static inline uint64_t
sx_anchor_bytes(uint64_t hash, const char *bytes, int32_t len)
{
	for (int i = 0; i < 4; i++)
		hash = (hash ^ (((uint32_t) len >> (8 * i)) & 0xff)) * UINT64_C(0x100000001b3);
	for (int32_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char) bytes[i]) * UINT64_C(0x100000001b3);
	return hash;
}

static inline uint64_t
sx_anchor_hash(const char *key, int32_t key_len, const char *value, int32_t value_len)
{
	uint64_t	hash = UINT64_C(0xcbf29ce484222325);

	hash = sx_anchor_bytes(hash, key, key_len);
	return sx_anchor_bytes(hash, value, value_len);
}

typedef struct SxFrameHeader
{
	uint32_t	length;			/* of what follows */
	uint16_t	type;			/* SxMessageType */
	uint16_t	version;		/* SX_PROTOCOL_VERSION */
} SxFrameHeader;

/* Reads the fields of a frame; after any failure everything reads as 0 or "". */
typedef struct SxFrameReader
{
	const char *next;
	const char *end;
	bool		failed;
} SxFrameReader;

static inline void
sx_frame_reader_init(SxFrameReader *r, const char *payload, uint32_t length)
{
	r->next = payload;
	r->end = payload + length;
	r->failed = false;
}

/* n bytes in place, or NULL. */
static inline const char *
sx_frame_bytes(SxFrameReader *r, uint32_t n)
{
	const char *p = r->next;

	if (r->failed || n > (uint64_t) (r->end - r->next))
	{
		r->failed = true;
		return NULL;
	}
	r->next += n;
	return p;
}

static inline uint32_t
sx_frame_u32(SxFrameReader *r)
{
	uint32_t	v = 0;
	const char *p = sx_frame_bytes(r, sizeof(v));

	if (p)
		memcpy(&v, p, sizeof(v));
	return v;
}

static inline int32_t
sx_frame_i32(SxFrameReader *r)
{
	return (int32_t) sx_frame_u32(r);
}

static inline int64_t
sx_frame_i64(SxFrameReader *r)
{
	int64_t		v = 0;
	const char *p = sx_frame_bytes(r, sizeof(v));

	if (p)
		memcpy(&v, p, sizeof(v));
	return v;
}

/* A string in place, not terminated; *len is its length. */
static inline const char *
sx_frame_str(SxFrameReader *r, uint32_t *len)
{
	const char *p;

	*len = sx_frame_u32(r);
	p = sx_frame_bytes(r, *len);
	if (p == NULL)
	{
		*len = 0;
		p = "";
	}
	return p;
}

#endif							/* SX_PROTOCOL_H */
