/*-------------------------------------------------------------------------
 *
 * config.c
 *		From the options of a Kafka stream to the configuration of a helper.
 *
 * Properties are sent in the order defaults, SERVER, stream, USER MAPPING of the
 * stream's owner, fixed ones; librdkafka keeps the last value of each.  The fixed
 * ones are those that exactly once rests on: no stored offsets, no silent jump when
 * an offset is gone, end-of-partition marks.  Which names a user may give was
 * checked when the option was set (ddl/).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_user_mapping.h"
#include "foreign/foreign.h"
#include "nodes/parsenodes.h"
#include "utils/syscache.h"

#include "ddl/ddl.h"
#include "kafka/config.h"
#include "source/allowed_hosts.h"
#include "source/rights.h"
#include "streamext.h"

#define DEFAULT_MAX_MESSAGE_BYTES	(8 * 1024 * 1024)
#define REST_WAIT_MIN_MS			100
#define REST_WAIT_MAX_MS			45000

typedef struct Property
{
	const char *name;
	const char *value;
} Property;

static const Property consumer_defaults[] = {
	{"check.crcs", "true"},
	{"fetch.message.max.bytes", "1048576"},
	{"fetch.wait.max.ms", "500"},
	{"queued.min.messages", "1000000"},
	{"isolation.level", "read_committed"},
};

static const Property consumer_fixed[] = {
	{"enable.auto.commit", "false"},
	{"auto.offset.reset", "error"},
	{"enable.partition.eof", "true"},
	{"allow.auto.create.topics", "false"},
};

/* Brokers send a batch whole, however small the limit is. */
static const Property careful_fixed[] = {
	{"fetch.message.max.bytes", "1"},
};

/* They say when a client asks, or gives up waiting: a user's word counts for more than ours. */
static const char *const restless[] = {
	"fetch.wait.max.ms", "fetch.min.bytes", "socket.timeout.ms", "connections.max.idle.ms",
	"topic.metadata.refresh.interval.ms", "metadata.max.age.ms"
};

static const Property producer_defaults[] = {
	{"linger.ms", "5"},
	/* as the Java clients do, so that keys meet in the same partition */
	{"partitioner", "murmur2_random"},
	{"queue.buffering.max.kbytes", "65536"},
};

static const Property producer_fixed[] = {
	{"enable.idempotence", "true"},
};

static const Property common_defaults[] = {
	{"client.id", "streamext"},
	{"socket.keepalive.enable", "true"},
	{"reconnect.backoff.max.ms", "5000"},
	{"topic.metadata.refresh.interval.ms", "10000"},
	/* a topic that is missing shall be missed soon */
	{"topic.metadata.propagation.max.ms", "1500"},
	{"log.connection.close", "false"},
};

void
sx_frame_put_u32(StringInfo payload, uint32 v)
{
	appendBinaryStringInfo(payload, (char *) &v, sizeof(v));
}

void
sx_frame_put_i64(StringInfo payload, int64 v)
{
	appendBinaryStringInfo(payload, (char *) &v, sizeof(v));
}

void
sx_frame_put_str(StringInfo payload, const char *s)
{
	sx_frame_put_u32(payload, strlen(s));
	appendBinaryStringInfo(payload, s, strlen(s));
}

List *
sx_kafka_topics(const SxStream *stream)
{
	const char *option = sx_stream_option(stream, "topic", NULL);
	bool		pattern = sx_stream_option(stream, "topic_pattern", NULL) != NULL;
	char	   *copy;
	List	   *topics = NIL;

	if (option != NULL && pattern)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stream %s has the options \"topic\" and \"topic_pattern\"", stream->label),
				 errhint("Give one of them.")));
	if (pattern)
		return NIL;
	if (option == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("stream %s has no option \"topic\"", stream->label),
				 errhint("Name the Kafka topic: topic = '…'.")));
	copy = pstrdup(option);
	for (char *save = NULL, *name = strtok_r(copy, ", \t\n", &save); name != NULL;
		 name = strtok_r(NULL, ", \t\n", &save))
	{
		ListCell   *lc;
		bool		known = false;

		foreach(lc, topics)
			known |= strcmp(lfirst(lc), name) == 0;
		if (!known)
			topics = lappend(topics, name);
	}
	if (topics == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"topic\" of stream %s is empty", stream->label),
				 errhint("Name one Kafka topic, or several with commas.")));
	if (list_length(topics) > SX_MAX_TOPICS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("stream %s names more than %d topics", stream->label, SX_MAX_TOPICS)));
	return topics;
}

int64
sx_kafka_max_message_bytes(const SxStream *stream)
{
	int64		bytes = sx_stream_option_int(stream, "max_message_bytes",
											 DEFAULT_MAX_MESSAGE_BYTES);

	/* a record must fit into a frame and into half of the largest ring */
	return Min(Max(bytes, 1024), SX_FRAME_MAX - 4096);
}

/* ---------- properties ---------- */

typedef struct PropertyWriter
{
	StringInfoData pairs;
	uint32		n;
} PropertyWriter;

static void
put_property(PropertyWriter *w, const char *name, const char *value)
{
	sx_frame_put_str(&w->pairs, name);
	sx_frame_put_str(&w->pairs, value);
	w->n++;
}

static void
put_table(PropertyWriter *w, const Property *table, int n)
{
	for (int i = 0; i < n; i++)
		put_property(w, table[i].name, table[i].value);
}

/*
 * Options with a dot in their name are librdkafka's.  The list has the stream's
 * before the server's, so it is walked from its end.
 */
static void
put_options(PropertyWriter *w, List *options)
{
	for (int i = list_length(options) - 1; i >= 0; i--)
	{
		DefElem    *def = list_nth(options, i);

		if (strchr(def->defname, '.') != NULL && def->arg != NULL)
			put_property(w, def->defname, strVal(def->arg));
	}
}

/* The names that other foreign-data wrappers use; those of librdkafka win. */
static void
put_user_and_password(PropertyWriter *w, List *options)
{
	const char *user = sx_option(options, "user");
	const char *password = sx_option(options, "password");

	if (user != NULL)
		put_property(w, "sasl.username", user);
	if (password != NULL)
		put_property(w, "sasl.password", password);
}

/* Secrets of the stream's owner for the stream's server, when there are any. */
static void
put_user_mapping(PropertyWriter *w, const SxStream *stream)
{
	Oid			users[] = {stream->owner, InvalidOid};	/* the latter: PUBLIC */

	for (int i = 0; i < lengthof(users); i++)
	{
		if (!OidIsValid(users[i]) && !sx_stream_may_use_public_secrets(stream))
			return;
		if (SearchSysCacheExists2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(users[i]),
								  ObjectIdGetDatum(stream->serverid)))
		{
			List	   *options = GetUserMapping(stream->owner, stream->serverid)->options;

			put_user_and_password(w, options);
			put_options(w, options);
			return;
		}
	}
}

static void
put_number(PropertyWriter *w, const char *name, int64 value)
{
	char		text[32];

	snprintf(text, sizeof(text), INT64_FORMAT, value);
	put_property(w, name, text);
}

bool
sx_kafka_may_rest(const SxStream *stream)
{
	for (int i = 0; i < lengthof(restless); i++)
	{
		if (sx_stream_option(stream, restless[i], NULL) != NULL)
			return false;
	}
	return true;
}

/*
 * Well below librdkafka's socket.timeout.ms, which is how long requests may wait for the answer
 * to the Fetch before them.  Rest may be turned on after the helper has been configured.
 */
int
sx_kafka_rest_wait(void)
{
	if (sx_kafka_rest_after == 0)
		return REST_WAIT_MAX_MS;
	return Min(Max(sx_kafka_rest_after, REST_WAIT_MIN_MS), REST_WAIT_MAX_MS);
}

/* Nothing is asked for while nothing comes. */
static void
put_resting(PropertyWriter *w)
{
	put_number(w, "fetch.wait.max.ms", sx_kafka_rest_wait());
	put_number(w, "topic.metadata.refresh.interval.ms", Max(2 * sx_kafka_rest_wait(), 10000));
}

static void
put_properties(PropertyWriter *w, const SxStream *stream, SxHelperRole role, SxHelperKind kind)
{
	const char *brokers = sx_stream_option(stream, "brokers", NULL);
	const char *isolation = sx_stream_option(stream, "isolation_level", NULL);
	const char *host_rules = sx_stream_host_rules(stream);

	if (host_rules != NULL)
		put_property(w, SX_HOST_PROPERTY, host_rules);
	if (brokers == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("stream %s has no option \"brokers\"", stream->label),
				 errhint("Give it to the stream or to its server: brokers = 'host:9092'.")));

	put_table(w, common_defaults, lengthof(common_defaults));
	if (role == SX_ROLE_CONSUMER)
	{
		put_table(w, consumer_defaults, lengthof(consumer_defaults));
		/* records that wait in the helper come out of its memory */
		put_number(w, "queued.max.messages.kbytes", Min(sx_helper_memory / 8, 65536));
	}
	else
	{
		put_table(w, producer_defaults, lengthof(producer_defaults));
		put_number(w, "message.timeout.ms", sx_insert_timeout);
		put_number(w, "message.max.bytes", sx_kafka_max_message_bytes(stream) + 4096);
	}

	put_options(w, stream->options);
	if (isolation != NULL && role == SX_ROLE_CONSUMER)
		put_property(w, "isolation.level", isolation);
	put_user_mapping(w, stream);
	put_property(w, "bootstrap.servers", brokers);
	if (role == SX_ROLE_CONSUMER)
		put_table(w, consumer_fixed, lengthof(consumer_fixed));
	else
		put_table(w, producer_fixed, lengthof(producer_fixed));
	if (kind == SX_HELPER_CAREFUL)
		put_table(w, careful_fixed, lengthof(careful_fixed));
	if (kind == SX_HELPER_RESTING)
		put_resting(w);
}

void
sx_kafka_config(const SxStream *stream, SxHelperRole role, SxHelperKind kind,
				StringInfo payload)
{
	PropertyWriter w = {.n = 0};

	sx_kafka_check_encryption(stream);
	initStringInfo(&w.pairs);
	put_properties(&w, stream, role, kind);

	sx_frame_put_u32(payload, role);
	sx_frame_put_i64(payload, sx_kafka_max_message_bytes(stream));
	sx_frame_put_u32(payload, role == SX_ROLE_CONSUMER &&
					 sx_stream_option(stream, "topic_pattern", NULL) != NULL);
	sx_frame_put_u32(payload, kind == SX_HELPER_RESTING);
	sx_frame_put_u32(payload, w.n);
	appendBinaryStringInfo(payload, w.pairs.data, w.pairs.len);
}
