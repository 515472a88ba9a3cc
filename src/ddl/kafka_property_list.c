/*-------------------------------------------------------------------------
 *
 * kafka_property_list.c
 *		Every property of librdkafka 2.0.2, and who may give it.
 *
 * A test compares the list with what the installed library knows, so that a property
 * of a newer one is refused until somebody has thought about it.  Rules:
 *
 *	anybody		tunes sizes and times within bounds, names this client, or gives
 *				certificates as text
 *	superuser	names files of the server, weakens the encryption, or uses what the
 *				server's own user is entitled to (Kerberos, tokens)
 *	secret		stands in user mappings only
 *	ours		what exactly-once rests on
 *	never		runs programs, loads code, is a hook of the C interface, floods the log,
 *				or has no use without a consumer group
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ddl/kafka_property.h"

#define MB	(INT64CONST(1024) * 1024)

#define ANYBODY(name)	name, SX_PROPERTY_ANYBODY
#define SUPERUSER(name)	name, SX_PROPERTY_SUPERUSER
#define SECRET(name)	{name, SX_PROPERTY_SECRET, SX_VALUE_TEXT}
#define SUPERUSER_SECRET(name)	{name, SX_PROPERTY_SUPERUSER_SECRET, SX_VALUE_TEXT}
#define OURS(name, hint)	{name, SX_PROPERTY_OURS, SX_VALUE_TEXT, hint}
#define NEVER(name, hint)	{name, SX_PROPERTY_NEVER, SX_VALUE_TEXT, hint}

#define CODE	"It runs a program or loads code."
#define HOOK	"It is a hook for programs that use the library."
#define GROUP	"Positions are kept in PostgreSQL, so no consumer group is used."
#define POSITION	"Positions are committed with the batch by PostgreSQL."
#define LOGGING	"What the library logs is decided by streamext."
#define ORDER	"Producing is made exactly-once by streamext itself."
#define OLD		"It has no use with the brokers that streamext supports."
#define DOTTED(name)	"Use the property \"" name "\"."

const SxKafkaProperty sx_kafka_properties[] =
{
	/* who we are, and who they are */
	{ANYBODY("client.id"), SX_VALUE_TEXT},
	{ANYBODY("client.rack"), SX_VALUE_TEXT},
	{ANYBODY("security.protocol"), SX_VALUE_ENUM, "plaintext|ssl|sasl_plaintext|sasl_ssl"},
	{ANYBODY("sasl.mechanism"), SX_VALUE_ENUM, SX_SASL_MECHANISMS},
	{ANYBODY("sasl.mechanisms"), SX_VALUE_ENUM, SX_SASL_MECHANISMS},
	{ANYBODY("ssl.ca.pem"), SX_VALUE_TEXT},
	{ANYBODY("ssl.certificate.pem"), SX_VALUE_TEXT},
	SECRET("sasl.username"),
	SECRET("sasl.password"),
	SECRET("ssl.key.pem"),
	SECRET("ssl.key.password"),
	SECRET("ssl.keystore.password"),
	SUPERUSER_SECRET("sasl.oauthbearer.client.secret"),
	{SUPERUSER("ssl.ca.location"), SX_VALUE_TEXT},
	{SUPERUSER("ssl.certificate.location"), SX_VALUE_TEXT},
	{SUPERUSER("ssl.key.location"), SX_VALUE_TEXT},
	{SUPERUSER("ssl.crl.location"), SX_VALUE_TEXT},
	{SUPERUSER("ssl.keystore.location"), SX_VALUE_TEXT},
	{SUPERUSER("ssl.cipher.suites"), SX_VALUE_TEXT},
	{SUPERUSER("ssl.curves.list"), SX_VALUE_TEXT},
	{SUPERUSER("ssl.sigalgs.list"), SX_VALUE_TEXT},
	{SUPERUSER("enable.ssl.certificate.verification"), SX_VALUE_BOOL},
	{SUPERUSER("ssl.endpoint.identification.algorithm"), SX_VALUE_ENUM, "none|https"},
	{SUPERUSER("sasl.kerberos.service.name"), SX_VALUE_TEXT},
	{SUPERUSER("sasl.kerberos.principal"), SX_VALUE_TEXT},
	{SUPERUSER("sasl.kerberos.keytab"), SX_VALUE_TEXT},
	{SUPERUSER("sasl.kerberos.min.time.before.relogin"), SX_VALUE_INT, NULL, 0, 86400000},
	{SUPERUSER("sasl.oauthbearer.config"), SX_VALUE_TEXT},
	{SUPERUSER("sasl.oauthbearer.method"), SX_VALUE_ENUM, "default|oidc"},
	{SUPERUSER("sasl.oauthbearer.client.id"), SX_VALUE_TEXT},
	{SUPERUSER("sasl.oauthbearer.scope"), SX_VALUE_TEXT},
	{SUPERUSER("sasl.oauthbearer.extensions"), SX_VALUE_TEXT},
	{SUPERUSER("sasl.oauthbearer.token.endpoint.url"), SX_VALUE_TEXT},
	{SUPERUSER("broker.address.family"), SX_VALUE_ENUM, "any|v4|v6"},
	OURS("bootstrap.servers", "Use the option \"brokers\"."),
	OURS("metadata.broker.list", "Use the option \"brokers\"."),
	NEVER("sasl.kerberos.kinit.cmd", CODE),
	NEVER("enable.sasl.oauthbearer.unsecure.jwt", "It accepts tokens that nobody has signed."),
	NEVER("ssl.ca.certificate.stores", "It is for Windows."),
	NEVER("ssl.providers", CODE),
	NEVER("ssl.engine.location", CODE),
	NEVER("ssl.engine.id", CODE),
	NEVER("plugin.library.paths", CODE),
	NEVER("interceptors", CODE),

	/* reading */
	{ANYBODY("check.crcs"), SX_VALUE_BOOL},
	{ANYBODY("fetch.min.bytes"), SX_VALUE_INT, NULL, 1, 100 * MB},
	{ANYBODY("fetch.max.bytes"), SX_VALUE_INT, NULL, 1024, 256 * MB},
	{ANYBODY("fetch.message.max.bytes"), SX_VALUE_INT, NULL, 1024, 64 * MB},
	{ANYBODY("max.partition.fetch.bytes"), SX_VALUE_INT, NULL, 1024, 64 * MB},
	{ANYBODY("fetch.wait.max.ms"), SX_VALUE_INT, NULL, 0, 300000},
	{ANYBODY("fetch.error.backoff.ms"), SX_VALUE_INT, NULL, 0, 300000},
	{ANYBODY("queued.min.messages"), SX_VALUE_INT, NULL, 1, 10000000},
	{ANYBODY("queued.max.messages.kbytes"), SX_VALUE_INT, NULL, 1, 256 * 1024},
	{ANYBODY("receive.message.max.bytes"), SX_VALUE_INT, NULL, 1000, 256 * MB},
	{ANYBODY("isolation.level"), SX_VALUE_ENUM, "read_committed|read_uncommitted"},
	OURS("auto.offset.reset", "Use the options \"start\" and \"on_data_loss\"."),
	OURS("enable.partition.eof", "streamext needs to know the end of each partition."),
	OURS("enable.auto.commit", POSITION),
	OURS("auto.commit.enable", POSITION),
	OURS("auto.commit.interval.ms", POSITION),
	OURS("enable.auto.offset.store", POSITION),
	OURS("offset.store.method", POSITION),
	OURS("offset.store.path", POSITION),
	OURS("offset.store.sync.interval.ms", POSITION),
	OURS("group.id", GROUP),
	OURS("group.instance.id", GROUP),
	OURS("group.protocol.type", GROUP),
	OURS("partition.assignment.strategy", GROUP),
	OURS("heartbeat.interval.ms", GROUP),
	OURS("coordinator.query.interval.ms", GROUP),
	OURS("max.poll.interval.ms", GROUP),
	OURS("allow.auto.create.topics", "Reading a topic must not make it."),
	NEVER("consume.callback.max.messages", HOOK),
	NEVER("topic.blacklist", "Topics are named by the option \"topic\"."),

	/* producing */
	{ANYBODY("message.max.bytes"), SX_VALUE_INT, NULL, 1000, 64 * MB},
	{ANYBODY("compression.type"), SX_VALUE_ENUM, "none|gzip|snappy|lz4|zstd"},
	{ANYBODY("compression.codec"), SX_VALUE_ENUM, "none|gzip|snappy|lz4|zstd"},
	{ANYBODY("compression.level"), SX_VALUE_INT, NULL, -1, 12},
	{ANYBODY("linger.ms"), SX_VALUE_INT, NULL, 0, 900000},
	{ANYBODY("queue.buffering.max.ms"), SX_VALUE_INT, NULL, 0, 900000},
	{ANYBODY("sticky.partitioning.linger.ms"), SX_VALUE_INT, NULL, 0, 900000},
	{ANYBODY("batch.num.messages"), SX_VALUE_INT, NULL, 1, 1000000},
	{ANYBODY("batch.size"), SX_VALUE_INT, NULL, 1, 64 * MB},
	{ANYBODY("request.required.acks"), SX_VALUE_ENUM, "all|-1"},
	{ANYBODY("request.timeout.ms"), SX_VALUE_INT, NULL, 1, 900000},
	{ANYBODY("message.timeout.ms"), SX_VALUE_INT, NULL, 1, 900000},
	{ANYBODY("delivery.timeout.ms"), SX_VALUE_INT, NULL, 1, 900000},
	{ANYBODY("retry.backoff.ms"), SX_VALUE_INT, NULL, 1, 300000},
	OURS("acks", DOTTED("request.required.acks")),
	OURS("transactional.id", ORDER),
	OURS("transaction.timeout.ms", ORDER),
	OURS("enable.idempotence", ORDER),
	OURS("enable.gapless.guarantee", ORDER),
	OURS("max.in.flight", ORDER),
	OURS("max.in.flight.requests.per.connection", ORDER),
	OURS("message.send.max.retries", ORDER),
	OURS("retries", ORDER),
	OURS("queuing.strategy", ORDER),
	OURS("partitioner", "Keys go to the partitions that Java clients give them."),
	OURS("queue.buffering.max.messages", "streamext.helper_memory bounds what waits."),
	OURS("queue.buffering.max.kbytes", "streamext.helper_memory bounds what waits."),
	OURS("queue.buffering.backpressure.threshold", ORDER),
	OURS("message.copy.max.bytes", "streamext decides what is copied."),
	OURS("delivery.report.only.error", "streamext needs every report."),
	OURS("produce.offset.report", "streamext needs every report."),

	/* connections */
	{ANYBODY("session.timeout.ms"), SX_VALUE_INT, NULL, 1, 3600000},
	{ANYBODY("socket.timeout.ms"), SX_VALUE_INT, NULL, 10, 300000},
	{ANYBODY("socket.connection.setup.timeout.ms"), SX_VALUE_INT, NULL, 1000, 300000},
	{ANYBODY("socket.keepalive.enable"), SX_VALUE_BOOL},
	{ANYBODY("socket.nagle.disable"), SX_VALUE_BOOL},
	{ANYBODY("socket.send.buffer.bytes"), SX_VALUE_INT, NULL, 0, 64 * MB},
	{ANYBODY("socket.receive.buffer.bytes"), SX_VALUE_INT, NULL, 0, 64 * MB},
	{ANYBODY("socket.max.fails"), SX_VALUE_INT, NULL, 0, 1000000},
	{ANYBODY("connections.max.idle.ms"), SX_VALUE_INT, NULL, 0, 86400000},
	{ANYBODY("reconnect.backoff.ms"), SX_VALUE_INT, NULL, 0, 3600000},
	{ANYBODY("reconnect.backoff.max.ms"), SX_VALUE_INT, NULL, 0, 3600000},
	{ANYBODY("broker.address.ttl"), SX_VALUE_INT, NULL, 0, 86400000},
	{ANYBODY("topic.metadata.refresh.interval.ms"), SX_VALUE_INT, NULL, 100, 3600000},
	{ANYBODY("metadata.max.age.ms"), SX_VALUE_INT, NULL, 1, 86400000},
	NEVER("topic.metadata.refresh.fast.interval.ms", OLD),
	NEVER("topic.metadata.refresh.fast.cnt", OLD),
	NEVER("topic.metadata.refresh.sparse", OLD),
	NEVER("topic.metadata.propagation.max.ms", OLD),
	NEVER("socket.blocking.max.ms", OLD),
	NEVER("reconnect.backoff.jitter.ms", OLD),
	NEVER("api.version.request", OLD),
	NEVER("api.version.request.timeout.ms", OLD),
	NEVER("api.version.fallback.ms", OLD),
	NEVER("broker.version.fallback", OLD),

	/* the library itself */
	NEVER("builtin.features", "It says what the library was built with."),
	NEVER("debug", LOGGING),
	NEVER("log_level", LOGGING),
	NEVER("log.queue", LOGGING),
	NEVER("log.thread.name", LOGGING),
	NEVER("log.connection.close", LOGGING),
	NEVER("statistics.interval.ms", LOGGING),
	NEVER("enable.random.seed", HOOK),
	NEVER("internal.termination.signal", HOOK),
	NEVER("enabled_events", HOOK),
	NEVER("default_topic_conf", HOOK),
	NEVER("opaque", HOOK),
	NEVER("msg_order_cmp", HOOK),
	NEVER("ssl_key", DOTTED("ssl.key.pem")),
	NEVER("ssl_certificate", DOTTED("ssl.certificate.pem")),
	NEVER("ssl_ca", DOTTED("ssl.ca.pem")),
	NEVER("ssl_engine_callback_data", HOOK),
	NEVER("ssl.certificate.verify_cb", HOOK),
	NEVER("background_event_cb", HOOK),
	NEVER("closesocket_cb", HOOK),
	NEVER("connect_cb", HOOK),
	NEVER("consume_cb", HOOK),
	NEVER("dr_cb", HOOK),
	NEVER("dr_msg_cb", HOOK),
	NEVER("error_cb", HOOK),
	NEVER("log_cb", HOOK),
	NEVER("oauthbearer_token_refresh_cb", HOOK),
	NEVER("offset_commit_cb", HOOK),
	NEVER("open_cb", HOOK),
	NEVER("partitioner_cb", HOOK),
	NEVER("rebalance_cb", HOOK),
	NEVER("resolve_cb", HOOK),
	NEVER("socket_cb", HOOK),
	NEVER("stats_cb", HOOK),
	NEVER("throttle_cb", HOOK),
	NEVER("test.mock.num.brokers", "It makes the library talk to brokers of its own making."),
};

const int	sx_kafka_property_count = lengthof(sx_kafka_properties);
