/*-------------------------------------------------------------------------
 *
 * check.c
 *		What has to be right about a Kafka stream before anybody connects.
 *
 * Some of it is said when the stream is created, so that a mistake shows there: the
 * brokers are named, the pattern of topics is a regular expression, the library can do
 * what is asked of it.  That records and passwords do not cross the network in the
 * clear is checked each time a helper is configured, as options of the server may have
 * changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "mb/pg_wchar.h"
#include "regex/regex.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "compat.h"
#include "kafka/client.h"
#include "kafka/config.h"

#define FEATURES_US		INT64CONST(10000000)

/* ---------- encryption ---------- */

/* The host of "protocol://host:port", in place. */
static char *
host_of_broker(char *broker)
{
	char	   *host = strstr(broker, "://") ? strstr(broker, "://") + 3 : broker;
	char	   *end;

	if (host[0] == '[')
	{
		end = strchr(++host, ']');
		if (end != NULL)
			*end = '\0';
		return host;
	}
	end = strrchr(host, ':');
	if (end != NULL && strchr(host, ':') == end)
		*end = '\0';
	return host;
}

static bool
is_loopback(const char *host)
{
	return strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 ||
		(strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == strlen(host));
}

void
sx_kafka_check_encryption(const SxStream *stream)
{
	const char *brokers = sx_stream_option(stream, "brokers", "");
	const char *protocol = sx_stream_option(stream, "security.protocol", "plaintext");

	if (pg_strcasecmp(protocol, "ssl") == 0 || pg_strcasecmp(protocol, "sasl_ssl") == 0 ||
		sx_stream_option_bool(stream, "allow_plaintext", false))
		return;
	for (char *save = NULL, *broker = strtok_r(pstrdup(brokers), ", \t\n", &save); broker != NULL;
		 broker = strtok_r(NULL, ", \t\n", &save))
	{
		char	   *host = host_of_broker(broker);

		if (!is_loopback(host))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("stream %s would talk to \"%s\" without encryption",
							stream->label, host),
					 errhint("Give \"security.protocol\" = 'sasl_ssl' or 'ssl', or the option allow_plaintext 'on' to the server.")));
	}
}

/* ---------- the pattern of topics ---------- */

/* Does the pattern fit all of the name?  Anchors are put around it. */
bool
sx_kafka_pattern_fits(const char *pattern, const char *name, int len)
{
	text	   *re = cstring_to_text(psprintf("^(?:%s)$", pattern));
	char	   *bytes = pnstrdup(name, len);

	return RE_compile_and_execute(re, bytes, len, REG_ADVANCED | REG_NOSUB,
								  C_COLLATION_OID, 0, NULL);
}

/* ---------- what the library can do ---------- */

typedef struct Features
{
	char		version[64];
	char		list[512];		/* "" when not known */
} Features;

/* One helper process tells, once a session. */
static const Features *
library_features(void)
{
	static Features features;
	SxKafkaClient *client;
	StringInfoData config;
	SxMessageType type;
	SxFrameReader frame;
	TimestampTz until = GetCurrentTimestamp() + FEATURES_US;

	if (features.version[0] != '\0')
		return &features;
	initStringInfo(&config);
	sx_frame_put_u32(&config, SX_ROLE_FEATURES);
	sx_frame_put_i64(&config, 0);
	for (int i = 0; i < 3; i++)	/* lists no topics, does not rest, has no properties */
		sx_frame_put_u32(&config, 0);
	client = sx_kafka_client_create(CurrentMemoryContext);
	sx_kafka_client_start(client, &config, 0);
	while (sx_kafka_client_running(client) && features.version[0] == '\0' &&
		   GetCurrentTimestamp() < until)
	{
		while (sx_kafka_client_receive(client, &type, &frame))
		{
			uint32_t	len;
			const char *text = sx_frame_str(&frame, &len);

			if (type != SX_MSG_FEATURES)
				continue;
			snprintf(features.version, sizeof(features.version), "%.*s", (int) len, text);
			text = sx_frame_str(&frame, &len);
			snprintf(features.list, sizeof(features.list), "%.*s", (int) len, text);
		}
		if (features.version[0] == '\0')
			sx_kafka_client_wait(client, 100);
	}
	sx_kafka_client_stop(client);
	return &features;
}

static bool
has_feature(const Features *features, const char *name)
{
	for (char *save = NULL, *f = strtok_r(pstrdup(features->list), ",", &save); f != NULL;
		 f = strtok_r(NULL, ",", &save))
	{
		if (strcmp(f, name) == 0)
			return true;
	}
	return false;
}

static void
require_feature(const SxStream *stream, const Features *features, const char *name,
				const char *what)
{
	if (!has_feature(features, name))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("librdkafka %s on this server was built without %s, which stream %s asks for",
						features->version, name, stream->label),
				 errhint("Install a librdkafka that has it, or change %s.", what)));
}

/*
 * Before 2.6.1 librdkafka sent a nonce that brokers from 4.0 on do not take: it looks
 * like a wrong password.
 */
static void
warn_of_scram(const SxStream *stream, const Features *features)
{
	const char *mechanism = sx_stream_option(stream, "sasl.mechanism",
											 sx_stream_option(stream, "sasl.mechanisms", ""));
	int			major = 0;
	int			minor = 0;
	int			patch = 0;

	if (pg_strncasecmp(mechanism, "SCRAM", 5) != 0 ||
		sscanf(features->version, "%d.%d.%d", &major, &minor, &patch) != 3 ||
		(major * 100 + minor) * 100 + patch >= 20601)
		return;
	ereport(WARNING,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("librdkafka %s on this server cannot authenticate by SCRAM with brokers of Kafka 4.0 or later",
					features->version),
			 errdetail("They answer that the credentials are invalid."),
			 errhint("Install librdkafka 2.6.1 or later, or use PLAIN over sasl_ssl.")));
}

static void
check_features(const SxStream *stream)
{
	static const char *const codecs[] = {"gzip", "snappy", "lz4", "zstd"};
	const Features *features = library_features();
	const char *protocol = sx_stream_option(stream, "security.protocol", "plaintext");
	const char *codec = sx_stream_option(stream, "compression.type",
										 sx_stream_option(stream, "compression.codec", "none"));
	StringInfoData missing;

	if (features->list[0] == '\0')
		return;
	if (strcasestr(protocol, "ssl") != NULL)
		require_feature(stream, features, "ssl", "\"security.protocol\"");
	if (strcasestr(protocol, "sasl") != NULL)
		require_feature(stream, features, "sasl", "\"security.protocol\"");
	if (pg_strcasecmp(codec, "none") != 0)
		require_feature(stream, features, codec, "\"compression.type\"");

	warn_of_scram(stream, features);
	initStringInfo(&missing);
	for (int i = 0; i < lengthof(codecs); i++)
	{
		if (!has_feature(features, codecs[i]))
			appendStringInfo(&missing, "%s%s", missing.len > 0 ? ", " : "", codecs[i]);
	}
	if (missing.len > 0)
		ereport(WARNING,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("librdkafka %s on this server was built without %s", features->version,
						missing.data),
				 errdetail("Stream %s stops at the first record that is compressed so.",
						   stream->label)));
}

/* ---------- creation ---------- */

void
sx_kafka_check(SxStream *stream)
{
	const char *pattern = sx_stream_option(stream, "topic_pattern", NULL);

	if (sx_stream_option(stream, "brokers", NULL) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("stream %s needs the option \"brokers\"", stream->label),
				 errhint("Give it here or on the server, as in brokers = 'localhost:9092'.")));
	(void) sx_kafka_topics(stream);
	if (pattern != NULL)
		(void) sx_kafka_pattern_fits(pattern, "x", 1);
	sx_kafka_check_encryption(stream);
	check_features(stream);
}
