/*-------------------------------------------------------------------------
 *
 * kafka_property.c
 *		Which properties of librdkafka may be given, by whom and where.
 *
 * A property is an option whose name holds a dot.  The list is one of what is
 * allowed, because options of Kafka clients have been used to run code, to read
 * files and to reach hosts that the user could not: what is not in it cannot be
 * given.  Properties that name files of the server or weaken the encryption are
 * the superuser's; secrets stand in user mappings only, where others cannot read
 * them.  The helper program checks the names again before it starts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"

#include "ddl/ddl_internal.h"
#include "ddl/option_value.h"

typedef enum PropertyClass
{
	PROPERTY_ANYBODY,
	PROPERTY_SUPERUSER,
	PROPERTY_SECRET,
	PROPERTY_NEVER
} PropertyClass;

typedef struct Property
{
	const char *name;			/* a trailing * stands for any rest */
	PropertyClass class;
	SxValueType type;
	const char *choices;		/* or, of PROPERTY_NEVER, the hint */
	int64		min;
	int64		max;
} Property;

#define MB	(INT64CONST(1024) * 1024)

/* The first that fits counts. */
static const Property properties[] =
{
	{"client.id", PROPERTY_ANYBODY, SX_VALUE_TEXT},
	{"client.rack", PROPERTY_ANYBODY, SX_VALUE_TEXT},
	{"security.protocol", PROPERTY_ANYBODY, SX_VALUE_ENUM, "plaintext|ssl|sasl_plaintext|sasl_ssl"},
	{"sasl.mechanism", PROPERTY_ANYBODY, SX_VALUE_ENUM, "PLAIN|SCRAM-SHA-256|SCRAM-SHA-512"},
	{"sasl.mechanisms", PROPERTY_ANYBODY, SX_VALUE_ENUM, "PLAIN|SCRAM-SHA-256|SCRAM-SHA-512"},
	{"ssl.ca.pem", PROPERTY_ANYBODY, SX_VALUE_TEXT},
	{"ssl.certificate.pem", PROPERTY_ANYBODY, SX_VALUE_TEXT},
	{"check.crcs", PROPERTY_ANYBODY, SX_VALUE_BOOL},
	{"fetch.min.bytes", PROPERTY_ANYBODY, SX_VALUE_INT, NULL, 1, 100 * MB},
	{"fetch.max.bytes", PROPERTY_ANYBODY, SX_VALUE_INT, NULL, 1024, 256 * MB},
	{"fetch.message.max.bytes", PROPERTY_ANYBODY, SX_VALUE_INT, NULL, 1024, 64 * MB},
	{"max.partition.fetch.bytes", PROPERTY_ANYBODY, SX_VALUE_INT, NULL, 1024, 64 * MB},
	{"fetch.wait.max.ms", PROPERTY_ANYBODY, SX_VALUE_INT, NULL, 0, 300000},
	{"fetch.error.backoff.ms", PROPERTY_ANYBODY, SX_VALUE_INT, NULL, 0, 300000},
	{"queued.min.messages", PROPERTY_ANYBODY, SX_VALUE_INT, NULL, 1, 10000000},
	{"queued.max.messages.kbytes", PROPERTY_ANYBODY, SX_VALUE_INT, NULL, 1, 256 * 1024},
	{"receive.message.max.bytes", PROPERTY_ANYBODY, SX_VALUE_INT, NULL, 1000, 256 * MB},
	{"message.max.bytes", PROPERTY_ANYBODY, SX_VALUE_INT, NULL, 1000, 64 * MB},
	{"compression.type", PROPERTY_ANYBODY, SX_VALUE_ENUM, "none|gzip|snappy|lz4|zstd"},
	{"compression.codec", PROPERTY_ANYBODY, SX_VALUE_ENUM, "none|gzip|snappy|lz4|zstd"},
	{"linger.ms", PROPERTY_ANYBODY, SX_VALUE_INT, NULL, 0, 900000},
	{"queue.buffering.max.ms", PROPERTY_ANYBODY, SX_VALUE_INT, NULL, 0, 900000},
	{"request.required.acks", PROPERTY_ANYBODY, SX_VALUE_ENUM, "all|-1"},
	{"isolation.level", PROPERTY_ANYBODY, SX_VALUE_ENUM, "read_committed|read_uncommitted"},
	{"session.timeout.ms", PROPERTY_ANYBODY, SX_VALUE_INT, NULL, 1, 3600000},
	{"socket.timeout.ms", PROPERTY_ANYBODY, SX_VALUE_INT, NULL, 10, 300000},
	{"socket.connection.setup.timeout.ms", PROPERTY_ANYBODY, SX_VALUE_INT, NULL, 1000, 300000},
	{"socket.keepalive.enable", PROPERTY_ANYBODY, SX_VALUE_BOOL},
	{"socket.nagle.disable", PROPERTY_ANYBODY, SX_VALUE_BOOL},
	{"connections.max.idle.ms", PROPERTY_ANYBODY, SX_VALUE_INT, NULL, 0, 86400000},
	{"reconnect.backoff.ms", PROPERTY_ANYBODY, SX_VALUE_INT, NULL, 0, 3600000},
	{"reconnect.backoff.max.ms", PROPERTY_ANYBODY, SX_VALUE_INT, NULL, 0, 3600000},
	{"topic.metadata.refresh.interval.ms", PROPERTY_ANYBODY, SX_VALUE_INT, NULL, 100, 3600000},

	{"sasl.username", PROPERTY_SECRET, SX_VALUE_TEXT},
	{"sasl.password", PROPERTY_SECRET, SX_VALUE_TEXT},
	{"ssl.key.pem", PROPERTY_SECRET, SX_VALUE_TEXT},
	{"ssl.key.password", PROPERTY_SECRET, SX_VALUE_TEXT},
	{"ssl.keystore.password", PROPERTY_SECRET, SX_VALUE_TEXT},

	{"ssl.ca.location", PROPERTY_SUPERUSER, SX_VALUE_TEXT},
	{"ssl.certificate.location", PROPERTY_SUPERUSER, SX_VALUE_TEXT},
	{"ssl.key.location", PROPERTY_SUPERUSER, SX_VALUE_TEXT},
	{"ssl.crl.location", PROPERTY_SUPERUSER, SX_VALUE_TEXT},
	{"ssl.keystore.location", PROPERTY_SUPERUSER, SX_VALUE_TEXT},
	{"sasl.kerberos.*", PROPERTY_SUPERUSER, SX_VALUE_TEXT},
	{"sasl.oauthbearer.*", PROPERTY_SUPERUSER, SX_VALUE_TEXT},
	{"enable.ssl.certificate.verification", PROPERTY_SUPERUSER, SX_VALUE_BOOL},
	{"ssl.endpoint.identification.algorithm", PROPERTY_SUPERUSER, SX_VALUE_ENUM, "none|https"},
	{"broker.address.family", PROPERTY_SUPERUSER, SX_VALUE_ENUM, "any|v4|v6"},

	{"bootstrap.servers", PROPERTY_NEVER, SX_VALUE_TEXT, "Use the option \"brokers\"."},
	{"metadata.broker.list", PROPERTY_NEVER, SX_VALUE_TEXT, "Use the option \"brokers\"."},
	{"auto.offset.reset", PROPERTY_NEVER, SX_VALUE_TEXT,
	"Use the options \"start\" and \"on_data_loss\"."},
	{"group.id", PROPERTY_NEVER, SX_VALUE_TEXT,
	"Positions are kept in PostgreSQL, so no consumer group is used."},
	{"enable.auto.*", PROPERTY_NEVER, SX_VALUE_TEXT,
	"Positions are committed with the batch by PostgreSQL."},
	{"transactional.id", PROPERTY_NEVER, SX_VALUE_TEXT,
	"Producing is made exactly-once by streamext itself."},
};

static bool
name_fits(const char *pattern, const char *name)
{
	size_t		len = strlen(pattern);

	if (pattern[len - 1] == '*')
		return strncmp(pattern, name, len - 1) == 0;
	return strcmp(pattern, name) == 0;
}

static const Property *
find_property(const char *name)
{
	for (int i = 0; i < lengthof(properties); i++)
	{
		if (name_fits(properties[i].name, name))
			return &properties[i];
	}
	return NULL;
}

/* The nearest property that anybody may give, for a hint. */
static const char *
nearest_property(const char *name)
{
	const char *nearest = NULL;
	int			nearest_distance = 6;

	for (int i = 0; i < lengthof(properties); i++)
	{
		if (properties[i].class != PROPERTY_NEVER &&
			sx_name_is_nearer(name, properties[i].name, &nearest_distance))
			nearest = properties[i].name;
	}
	return nearest;
}

static char *
property_list(void)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < lengthof(properties); i++)
	{
		if (properties[i].class != PROPERTY_NEVER)
			appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "",
							 properties[i].name);
	}
	return list.data;
}

static void
refuse_unknown(const char *name)
{
	const char *nearest = nearest_property(name);

	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("property \"%s\" of librdkafka cannot be given", name),
			 nearest != NULL ?
			 errhint("Perhaps you meant \"%s\". Properties that can be given are: %s.",
					 nearest, property_list()) :
			 errhint("Properties that can be given are: %s.", property_list())));
}

static void
check_place(const Property *property, const char *name, SxOptionTarget target)
{
	bool		pem_pair = strcmp(name, "ssl.certificate.pem") == 0;

	if (property->class == PROPERTY_SECRET && target != SX_OPT_USER_MAPPING)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("property \"%s\" is a secret and cannot be given here", name),
				 errhint("Give it in CREATE USER MAPPING for a server of your own.")));
	if (property->class != PROPERTY_SECRET && target == SX_OPT_USER_MAPPING && !pem_pair)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("property \"%s\" cannot be given in a user mapping", name),
				 errhint("Give it in the options of the server or of the stream.")));
	if (property->class == PROPERTY_SUPERUSER && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to set property \"%s\"", name),
				 errhint("Certificates can be given as text: ssl.ca.pem, ssl.certificate.pem and ssl.key.pem.")));
}

void
sx_kafka_property_validate(const char *name, const char *value, SxOptionTarget target)
{
	const Property *property = find_property(name);
	SxOptionDef def = {.name = name};

	if (property == NULL)
		refuse_unknown(name);
	if (property->class == PROPERTY_NEVER)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("property \"%s\" of librdkafka is set by streamext", name),
				 errhint("%s", property->choices)));
	check_place(property, name, target);

	/* these mechanisms read files or fetch tokens from where they are told */
	if ((strcmp(name, "sasl.mechanism") == 0 || strcmp(name, "sasl.mechanisms") == 0) &&
		sx_option_is_choice("GSSAPI|OAUTHBEARER", value))
	{
		if (superuser())
			return;
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to use %s \"%s\"", name, value),
				 errhint("Use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.")));
	}
	if (strcmp(name, "client.id") == 0 && strlen(value) > 64)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("client.id is longer than 64 bytes"),
				 errhint("Give a shorter one.")));

	def.type = property->type;
	def.choices = property->choices;
	def.min = property->min;
	def.max = property->max;
	sx_option_value_check(&def, value);
}
