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

#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "ddl/ddl_internal.h"
#include "ddl/kafka_property.h"

#define MAX_CLIENT_ID	64
#define FILE_MECHANISMS	"GSSAPI|OAUTHBEARER"

PG_FUNCTION_INFO_V1(sx_kafka_properties_list);

const SxKafkaProperty *
sx_kafka_property_find(const char *name)
{
	for (int i = 0; i < sx_kafka_property_count; i++)
	{
		if (strcmp(sx_kafka_properties[i].name, name) == 0)
			return &sx_kafka_properties[i];
	}
	return NULL;
}

static bool
can_be_given(const SxKafkaProperty *property)
{
	return property->class != SX_PROPERTY_OURS && property->class != SX_PROPERTY_NEVER;
}

static bool
is_secret(const SxKafkaProperty *property)
{
	return property->class == SX_PROPERTY_SECRET ||
		property->class == SX_PROPERTY_SUPERUSER_SECRET;
}

/* The nearest property that can be given, for a hint. */
static const char *
nearest_property(const char *name)
{
	const char *nearest = NULL;
	int			nearest_distance = 6;

	for (int i = 0; i < sx_kafka_property_count; i++)
	{
		if (can_be_given(&sx_kafka_properties[i]) &&
			sx_name_is_nearer(name, sx_kafka_properties[i].name, &nearest_distance))
			nearest = sx_kafka_properties[i].name;
	}
	return nearest;
}

static void
refuse_unknown(const char *name)
{
	const char *nearest = nearest_property(name);

	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("property \"%s\" of librdkafka cannot be given", name),
			 nearest != NULL ?
			 errhint("Perhaps you meant \"%s\". streamext.kafka_properties() lists what can be given.",
					 nearest) :
			 errhint("streamext.kafka_properties() lists what can be given.")));
}

static void
refuse_known(const SxKafkaProperty *property)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 property->class == SX_PROPERTY_OURS ?
			 errmsg("property \"%s\" of librdkafka is set by streamext", property->name) :
			 errmsg("property \"%s\" of librdkafka cannot be given", property->name),
			 errhint("%s", property->choices)));
}

void
sx_kafka_property_refuse_undotted(const char *name)
{
	const SxKafkaProperty *property = sx_kafka_property_find(name);

	if (property != NULL && !can_be_given(property))
		refuse_known(property);
}

static void
require_superuser(const char *what, const char *hint)
{
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to %s", what),
				 errhint("%s", hint)));
}

static void
check_place(const SxKafkaProperty *property, SxOptionTarget target)
{
	const char *name = property->name;
	bool		pem_pair = strcmp(name, "ssl.certificate.pem") == 0;

	if (is_secret(property) && target != SX_OPT_USER_MAPPING)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("property \"%s\" is a secret and cannot be given here", name),
				 errhint("Give it in CREATE USER MAPPING for a server of your own.")));
	if (!is_secret(property) && target == SX_OPT_USER_MAPPING && !pem_pair)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("property \"%s\" cannot be given in a user mapping", name),
				 errhint("Give it in the options of the server or of the stream.")));
	if (property->class == SX_PROPERTY_SUPERUSER ||
		property->class == SX_PROPERTY_SUPERUSER_SECRET)
		require_superuser(psprintf("set property \"%s\"", name),
						  "Certificates can be given as text: ssl.ca.pem, ssl.certificate.pem and ssl.key.pem.");
}

static bool
is_mechanism(const char *name)
{
	return strcmp(name, "sasl.mechanism") == 0 || strcmp(name, "sasl.mechanisms") == 0;
}

/* These mechanisms read files, or fetch tokens from where they are told. */
static bool
uses_files(const char *name, const char *value)
{
	return is_mechanism(name) && sx_option_is_choice(FILE_MECHANISMS, value);
}

bool
sx_kafka_property_is_privileged(const char *name, const char *value)
{
	const SxKafkaProperty *property = sx_kafka_property_find(name);

	return property == NULL || property->class == SX_PROPERTY_SUPERUSER ||
		uses_files(name, value);
}

bool
sx_kafka_property_guards_secrets(const char *name)
{
	return strcmp(name, "security.protocol") == 0 ||
		strncmp(name, "sasl.", 5) == 0 || strncmp(name, "ssl.", 4) == 0 ||
		strcmp(name, "enable.ssl.certificate.verification") == 0;
}

void
sx_kafka_property_validate(const char *name, const char *value, SxOptionTarget target)
{
	const SxKafkaProperty *property = sx_kafka_property_find(name);
	SxOptionDef def = {.name = name};

	if (property == NULL)
		refuse_unknown(name);
	if (!can_be_given(property))
		refuse_known(property);
	check_place(property, target);

	if (uses_files(name, value))
	{
		require_superuser(psprintf("use %s \"%s\"", name, value),
						  "Use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.");
		return;
	}
	if (strcmp(name, "client.id") == 0 && strlen(value) > MAX_CLIENT_ID)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("client.id is longer than %d bytes", MAX_CLIENT_ID),
				 errhint("Give a shorter one.")));

	def.type = property->type;
	def.choices = property->choices;
	def.min = property->min;
	def.max = property->max;
	sx_option_value_check(&def, value);
}

/* ---------- streamext.kafka_properties() ---------- */

static const char *
class_name(SxPropertyClass class)
{
	switch (class)
	{
		case SX_PROPERTY_ANYBODY:
			return "anybody";
		case SX_PROPERTY_SUPERUSER:
			return "superuser";
		case SX_PROPERTY_SECRET:
			return "secret";
		case SX_PROPERTY_SUPERUSER_SECRET:
			return "superuser, secret";
		case SX_PROPERTY_OURS:
			return "set by streamext";
		case SX_PROPERTY_NEVER:
			return "never";
	}
	elog(ERROR, "unknown class of property");
}

/* What values it takes, or why it cannot be given. */
static char *
describe(const SxKafkaProperty *property)
{
	switch (property->type)
	{
		case SX_VALUE_BOOL:
			return pstrdup("on or off");
		case SX_VALUE_INT:
			return psprintf(INT64_FORMAT " to " INT64_FORMAT, property->min, property->max);
		default:
			return property->choices != NULL ? pstrdup(property->choices) : pstrdup("text");
	}
}

Datum
sx_kafka_properties_list(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	sx_init_materialized_srf(fcinfo);
	for (int i = 0; i < sx_kafka_property_count; i++)
	{
		const SxKafkaProperty *property = &sx_kafka_properties[i];
		Datum		values[] = {
			CStringGetTextDatum(property->name),
			CStringGetTextDatum(class_name(property->class)),
			CStringGetTextDatum(describe(property))
		};
		bool		nulls[lengthof(values)] = {false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
