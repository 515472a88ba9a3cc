/*-------------------------------------------------------------------------
 *
 * options.c
 *		The options of streams, views, servers and user mappings.
 *
 * One table says which options there are, where each may stand, for which
 * connectors, and what values it takes.  Names that hold a dot are properties of
 * librdkafka and have a table of their own (kafka_property.c).  Values are checked
 * here when they are given, so that whoever reads them later (SxStream and the
 * connectors) finds them well-formed; what needs more than the value itself, as
 * the type of the event_time column does, is checked where the stream is loaded.
 *
 * Options of things that are still to come are in the table too: they are refused
 * as "not supported yet", not as unknown.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_user_mapping.h"
#include "catalog/sx_catalog.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "ddl/ddl_internal.h"
#include "ddl/kafka_property.h"
#include "ddl/option_value.h"
#include "fdw/stream.h"

/* Connectors, for the column "connectors" below; 0 is any. */
#define KAFKA	(1 << 0)
#define FILES	(1 << 1)
#define RATE	(1 << 2)
#define QUEUE	(1 << 3)
#define TABLE	(1 << 4)
#define NOTHING	(1 << 5)
#define FUNCTION (1 << 6)
#define PRINT	(1 << 7)
#define NOTIFY	(1 << 8)
#define SOCKET	(1 << 9)

static const struct
{
	const char *name;
	int			bit;
	int			targets;
}			connectors[] =
{
	{"kafka", KAFKA, SX_OPT_SOURCE},
	{"file", FILES, SX_OPT_SOURCE | SX_OPT_SINK},
	{"rate", RATE, SX_OPT_SOURCE},
	{"queue", QUEUE, SX_OPT_SOURCE},
	{"socket", SOCKET, SX_OPT_SOURCE},
	{"table", TABLE, SX_OPT_SOURCE | SX_OPT_SINK},
	{"print", PRINT, SX_OPT_SINK},
	{"notify", NOTIFY, SX_OPT_SINK},
	{"null", NOTHING, SX_OPT_SINK},
	{"function", FUNCTION, SX_OPT_SOURCE | SX_OPT_SINK},
};

/* To come: as source or sink. */
static const char *const later_connectors[] = {
	"postgres", "kafka",
};

#define SRC		SX_OPT_SOURCE
#define SNK		SX_OPT_SINK
#define VIEW	SX_OPT_VIEW
#define DERIVED	SX_OPT_DERIVED
#define COLUMN	SX_OPT_COLUMN
#define SERVER	SX_OPT_SERVER
#define MAPPING	SX_OPT_USER_MAPPING

/* Connectors whose records are bytes. */
#define DECODED	(KAFKA | FILES | SOCKET)

#define FORMATS "json|csv|text|raw"

static const SxOptionDef options[] =
{
	/* where the records come from */
	{"connector", SRC | SNK, 0, SX_VALUE_TEXT},
	{"brokers", SRC | SERVER, KAFKA, SX_VALUE_TEXT},
	{"topic", SRC, KAFKA, SX_VALUE_TEXT},
	{"topic_pattern", SRC, KAFKA, SX_VALUE_TEXT},
	{"allow_plaintext", SERVER, KAFKA, SX_VALUE_BOOL},
	{"partitions", SRC, KAFKA, SX_VALUE_PARTITIONS},
	{"start", SRC, KAFKA, SX_VALUE_START},
	{"isolation_level", SRC | SERVER, KAFKA, SX_VALUE_ENUM, "read_committed|read_uncommitted"},
	{"on_data_loss", SRC, KAFKA | FILES, SX_VALUE_ENUM, "stop|continue"},
	{"max_message_bytes", SRC | SERVER, KAFKA, SX_VALUE_INT, NULL, 1024, 64 * 1024 * 1024},
	{"path", SRC | SNK, FILES, SX_VALUE_TEXT},
	{"max_files_per_batch", SRC, FILES, SX_VALUE_INT, NULL, 1, 1000000},
	{"tail", SRC, FILES, SX_VALUE_BOOL},
	{"clean", SRC, FILES, SX_VALUE_ENUM, "off|delete|archive"},
	{"archive_path", SRC, FILES, SX_VALUE_TEXT},
	{"rows_per_second", SRC, RATE, SX_VALUE_INT, NULL, 1, 100000000},
	{"start", SRC, TABLE, SX_VALUE_ENUM, "latest|earliest"},
	{"poll_interval", SRC, FUNCTION, SX_VALUE_INTERVAL, NULL, 1000},
	{"rows_per_batch", SRC, RATE, SX_VALUE_INT, NULL, 1, 100000000},
	{"host", SRC, SOCKET, SX_VALUE_TEXT},
	{"port", SRC, SOCKET, SX_VALUE_INT, NULL, 1, 65535},
	{"framing", SRC, SOCKET, SX_VALUE_ENUM, "line|length"},
	{"durable", SRC, SOCKET, SX_VALUE_BOOL},
	{"ack", SRC, SOCKET, SX_VALUE_BOOL},
	{"max_record_bytes", SRC, SOCKET, SX_VALUE_INT, NULL, 1, 64 * 1024 * 1024},
	{"max_log_rows", SRC, SOCKET, SX_VALUE_INT, NULL, 1, INT64CONST(1000000000000)},

	/* how they are decoded */
	{"format", SRC | SERVER, DECODED, SX_VALUE_ENUM, FORMATS},
	{"format", SNK, FILES, SX_VALUE_ENUM, "text|csv|json|binary"},
	{"header", SRC | SNK, KAFKA | FILES, SX_VALUE_BOOL},
	{"delimiter", SRC | SNK, DECODED, SX_VALUE_CHAR},
	{"quote", SRC | SNK, DECODED, SX_VALUE_CHAR},
	{"escape", SRC | SNK, DECODED, SX_VALUE_CHAR},
	{"null", SRC | SNK, DECODED, SX_VALUE_TEXT},
	{"encoding", SRC | SNK, DECODED, SX_VALUE_ENCODING},
	{"timestamp_format", SRC, DECODED, SX_VALUE_ENUM, "iso|s|ms|us"},
	{"timezone", SRC, DECODED, SX_VALUE_TIMEZONE},
	{"strict", SRC, DECODED, SX_VALUE_BOOL},
	{"allow_special", SRC, 0, SX_VALUE_BOOL},

	/* time */
	{"event_time", SRC, 0, SX_VALUE_TEXT},
	{"watermark", SRC, 0, SX_VALUE_INTERVAL, NULL, 0},
	{"idle_timeout", SRC, 0, SX_VALUE_INTERVAL, NULL, 0},
	{"max_future_skew", SRC, 0, SX_VALUE_INTERVAL, NULL, 0},

	/* pipeline and batches */
	{"pipeline", SRC | SNK | VIEW, 0, SX_VALUE_TEXT},
	{"paused", SRC, 0, SX_VALUE_BOOL},
	{"batch_interval", SRC, 0, SX_VALUE_INTERVAL, NULL, 0},
	{"max_batch_rows", SRC, 0, SX_VALUE_INT, NULL, 1, 100000000},
	{"max_batch_bytes", SRC, 0, SX_VALUE_INT, NULL, 1, 1 << 30},
	{"backpressure", SRC, 0, SX_VALUE_ENUM, "adaptive|pid|off"},
	{"target_latency", SRC, 0, SX_VALUE_INTERVAL, NULL, 1},
	{"max_rate", SRC, 0, SX_VALUE_INT, NULL, 1, 1000000000},
	{"pid_proportional", SRC, 0, SX_VALUE_FACTOR},
	{"pid_integral", SRC, 0, SX_VALUE_FACTOR},
	{"pid_derived", SRC, 0, SX_VALUE_FACTOR},
	{"pid_min_rate", SRC, 0, SX_VALUE_POSITIVE},
	{"parallelism", SRC, 0, SX_VALUE_PARALLELISM},
	{"on_error", SRC, 0, SX_VALUE_ENUM, "dead_letter|skip|stop"},
	{"max_errors", SRC, 0, SX_VALUE_INT, NULL, 0, INT_MAX},
	{"max_errors_per_hour", SRC, 0, SX_VALUE_INT, NULL, 0, INT_MAX},
	{"step_timeout", SRC, 0, SX_VALUE_INTERVAL, NULL, 0},
	{"synchronous_commit", SRC, 0, SX_VALUE_BOOL},

	/* sinks and views */
	{"table", SRC | SNK, TABLE, SX_VALUE_TEXT},
	{"key", SNK, TABLE, SX_VALUE_TEXT},
	{"delete_when", SNK, TABLE, SX_VALUE_TEXT},
	{"function", SRC | SNK, FUNCTION, SX_VALUE_TEXT},
	{"source", SNK | DERIVED, 0, SX_VALUE_TEXT},
	{"prefix", SNK, FILES, SX_VALUE_TEXT},
	{"suffix", SNK, FILES, SX_VALUE_TEXT},
	{"rows", SNK, PRINT, SX_VALUE_INT, NULL, 0, 1000},
	{"channel", SNK, NOTIFY, SX_VALUE_TEXT},
	{"backfill", SNK | VIEW, 0, SX_VALUE_BOOL},
	{"emit", VIEW, 0, SX_VALUE_EMIT},
	{"late", VIEW, 0, SX_VALUE_ENUM, "update|drop|dead_letter"},
	{"retention", VIEW, 0, SX_VALUE_INTERVAL, NULL, 0},
	{"state_ttl", VIEW, 0, SX_VALUE_INTERVAL, NULL, 1},

	/* derived streams */
	{"window", DERIVED, 0, SX_VALUE_SPAN},
	{"slide", DERIVED, 0, SX_VALUE_SPAN},
	{"map_with_state", DERIVED, 0, SX_VALUE_TEXT},
	{"update_state", DERIVED, 0, SX_VALUE_TEXT},
	{"key", DERIVED, 0, SX_VALUE_TEXT},
	{"initial_state", DERIVED, 0, SX_VALUE_TEXT},
	{"idle_timeout", DERIVED, 0, SX_VALUE_INTERVAL, NULL, 1},
	{"event_timer", DERIVED, 0, SX_VALUE_TEXT},
	{"changed_only", DERIVED, 0, SX_VALUE_BOOL},
	{"changes", DERIVED, 0, SX_VALUE_BOOL},
	{"deduplicate", DERIVED, 0, SX_VALUE_TEXT},
	{"within", DERIVED, 0, SX_VALUE_INTERVAL, NULL, 0},

	/* columns */
	{"path", COLUMN, 0, SX_VALUE_TEXT},
	{"metadata", COLUMN, 0, SX_VALUE_ENUM, "partition|offset|key|timestamp|headers|topic|raw"},

	/* secrets */
	{"user", MAPPING, 0, SX_VALUE_TEXT},
	{"password", MAPPING, 0, SX_VALUE_TEXT},

	/* to come */
};

PG_FUNCTION_INFO_V1(sx_fdw_validator);

static const char *
target_name(SxOptionTarget target)
{
	switch (target)
	{
		case SX_OPT_SERVER:
			return "a server";
		case SX_OPT_USER_MAPPING:
			return "a user mapping";
		case SX_OPT_SOURCE:
			return "a source stream";
		case SX_OPT_SINK:
			return "a sink";
		case SX_OPT_COLUMN:
			return "a column";
		case SX_OPT_VIEW:
			return "a continuous view";
		case SX_OPT_DERIVED:
			return "a derived stream";
	}
	return "this object";
}

/* Bit of a connector that can be this target, else 0. */
static int
connector_bit(const char *name, SxOptionTarget target)
{
	for (int i = 0; i < lengthof(connectors); i++)
	{
		if ((connectors[i].targets & target) && strcmp(connectors[i].name, name) == 0)
			return connectors[i].bit;
	}
	return 0;
}

/* "a, b, c": the connectors of a target, optionally of a bit mask only. */
static char *
connector_list(SxOptionTarget target, int mask)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < lengthof(connectors); i++)
	{
		if ((connectors[i].targets & target) && (connectors[i].bit & mask))
			appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "",
							 connectors[i].name);
	}
	return list.data;
}

/* ERROR unless the connector can be what is made here; gives its bit. */
static int
check_connector(const char *name, SxOptionTarget target)
{
	int			bit = connector_bit(name, target);
	const char *what = (target == SX_OPT_SINK) ? "sink" : "source";

	if (bit != 0)
		return bit;
	for (int i = 0; i < lengthof(later_connectors); i++)
	{
		if (strcmp(later_connectors[i], name) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("connector \"%s\" is not supported yet as a %s", name, what),
					 errhint("Connectors of a %s are: %s.", what,
							 connector_list(target, ~0))));
	}
	if (connector_bit(name, SX_OPT_SOURCE | SX_OPT_SINK) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("connector \"%s\" cannot be a %s", name, what),
				 target == SX_OPT_SINK ?
				 errhint("Connectors of a sink are: %s.", connector_list(target, ~0)) :
				 errhint("A sink is made by CREATE STREAM ... AS SELECT; connectors of a source are: %s.",
						 connector_list(target, ~0))));
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 errmsg("there is no connector \"%s\"", name),
			 errhint("Connectors of a %s are: %s.", what, connector_list(target, ~0))));
}

static bool
is_valid_here(const SxOptionDef *def, SxOptionTarget target, int bit)
{
	return (def->targets & target) != 0 &&
		(def->connectors == 0 || bit == 0 || (def->connectors & bit) != 0);
}

static const SxOptionDef *
find_option(const char *name, SxOptionTarget target)
{
	for (int i = 0; i < lengthof(options); i++)
	{
		if ((options[i].targets & target) && strcmp(options[i].name, name) == 0)
			return &options[i];
	}
	return NULL;
}

/* The hint for a wrong name: the nearest valid one, and all of them. */
static char *
valid_options_hint(const char *name, SxOptionTarget target, int bit)
{
	StringInfoData list;
	StringInfoData hint;
	const char *nearest = NULL;
	int			nearest_distance = strlen(name) / 2 + 2;

	initStringInfo(&list);
	for (int i = 0; i < lengthof(options); i++)
	{
		const char *candidate = options[i].name;

		if (!is_valid_here(&options[i], target, bit) ||
			options[i].type == SX_VALUE_LATER)
			continue;
		appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", candidate);
		if (sx_name_is_nearer(name, candidate, &nearest_distance))
			nearest = candidate;
	}

	initStringInfo(&hint);
	if (nearest != NULL)
		appendStringInfo(&hint, "Perhaps you meant \"%s\". ", nearest);
	if (list.len > 0)
		appendStringInfo(&hint, "Valid options of %s are: %s.",
						 target_name(target), list.data);
	else
		appendStringInfo(&hint, "There are no options of %s.", target_name(target));
	if (target == SX_OPT_USER_MAPPING)
		appendStringInfoString(&hint, " Secrets of librdkafka are given by their names, as \"sasl.password\".");
	else if (target == SX_OPT_SERVER || bit == KAFKA)
		appendStringInfoString(&hint, " Properties of librdkafka are given by their names, as \"client.id\".");
	return hint.data;
}

static void
refuse_option(const char *name, SxOptionTarget target, int bit, const char *connector)
{
	const SxOptionDef *def = find_option(name, target);

	if (def != NULL && bit != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("option \"%s\" is not one of connector \"%s\"", name, connector),
				 errhint("It is for %s. %s", connector_list(target, def->connectors),
						 valid_options_hint(name, target, bit))));
	if (target != SX_OPT_USER_MAPPING && find_option(name, SX_OPT_USER_MAPPING) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("option \"%s\" is a secret and cannot be given here", name),
				 errhint("Give it in CREATE USER MAPPING for a server of your own.")));
	if (target & (SX_OPT_SOURCE | SX_OPT_SERVER | SX_OPT_USER_MAPPING))
		sx_kafka_property_refuse_undotted(name);
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("there is no option \"%s\" of %s", name, target_name(target)),
			 errhint("%s", valid_options_hint(name, target, bit))));
}

static void
validate_option(const char *name, const char *value, SxOptionTarget target,
				int bit, const char *connector)
{
	const SxOptionDef *def = NULL;

	if (strchr(name, '.') != NULL)
	{
		if (target == SX_OPT_SOURCE && bit != 0 && bit != KAFKA)
			refuse_option(name, target, bit, connector);
		if (target & (SX_OPT_SOURCE | SX_OPT_SERVER | SX_OPT_USER_MAPPING))
		{
			sx_kafka_property_validate(name, value, target);
			return;
		}
	}
	for (int i = 0; i < lengthof(options) && def == NULL; i++)
	{
		if (is_valid_here(&options[i], target, bit) && strcmp(options[i].name, name) == 0)
			def = &options[i];
	}
	if (def == NULL)
		refuse_option(name, target, bit, connector);
	sx_option_value_check(def, value);
}

static void
require_option(List *given, const char *name, const char *what)
{
	if (sx_option(given, name) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("option \"%s\" is missing", name),
				 errhint("%s", what)));
}

/* What a source or sink cannot do without. */
static void
require_options(List *given, SxOptionTarget target, int bit)
{
	if (bit == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("option \"connector\" is missing"),
				 errhint("Connectors of %s are: %s.", target_name(target),
						 connector_list(target, ~0))));
	if (bit == KAFKA && sx_option(given, "topic_pattern") == NULL)
		require_option(given, "topic", "Name the topic, or several separated by commas; or give a \"topic_pattern\".");
	if (bit == FILES && target == SX_OPT_SINK)
		require_option(given, "path", "Name the directory that the files go into.");
	else if (bit == FILES)
	{
		require_option(given, "path", "Name a directory, a file or a pattern.");
		if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied to read files of the server"),
					 errhint("Ask for GRANT pg_read_server_files.")));
	}
	if (bit == SOCKET)
	{
		require_option(given, "host", "Name the server to connect to, by its address for preference.");
		require_option(given, "port", "Give the TCP port of the server to connect to.");
	}
	if (bit == FUNCTION)
		require_option(given, "function", target == SX_OPT_SOURCE ?
					   "Name the function that gives the rows." :
					   "Name the function to call with each batch.");
	if (bit == NOTIFY)
		require_option(given, "channel", "Name the channel that listeners LISTEN to.");
	if (bit == TABLE)
		require_option(given, "table", target == SX_OPT_SOURCE ?
					   "Name the table whose new rows are the stream's." :
					   "Name the table; it is created with the query's columns when it does not exist.");
}

void
sx_options_validate(List *given, SxOptionTarget target, const char *connector)
{
	int			bit = 0;
	ListCell   *lc;
	ListCell   *other;

	if (connector == NULL && (target & (SX_OPT_SOURCE | SX_OPT_SINK)))
		connector = sx_option(given, "connector");
	if (connector != NULL && (target & (SX_OPT_SOURCE | SX_OPT_SINK)))
		bit = check_connector(connector, target);

	foreach(lc, given)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		for_each_cell(other, given, lnext(given, lc))
		{
			if (strcmp(option->defname, lfirst_node(DefElem, other)->defname) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_SYNTAX_ERROR),
						 errmsg("option \"%s\" is given more than once", option->defname),
						 errhint("Leave one of them.")));
		}
		validate_option(option->defname,
						option->arg == NULL ? "on" : defGetString(option),
						target, bit, connector);
	}
	if (target & (SX_OPT_SOURCE | SX_OPT_SINK))
		require_options(given, target, bit);
}

/*
 * WITH (a.b = c) without quotes is parsed as option b of namespace a, which for us
 * is the name "a.b".
 */
List *
sx_options_from_with(List *with)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, with)
	{
		DefElem    *given = lfirst_node(DefElem, lc);
		char	   *name = given->defname;
		char	   *value = given->arg == NULL ? "on" : defGetString(given);

		if (given->defnamespace != NULL)
			name = psprintf("%s.%s", given->defnamespace, name);
		result = lappend(result, makeDefElem(pstrdup(name),
											 (Node *) makeString(pstrdup(value)),
											 given->location));
	}
	return result;
}

const char *
sx_option(List *given, const char *name)
{
	ListCell   *lc;

	foreach(lc, given)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, name) == 0)
			return option->arg == NULL ? "on" : defGetString(option);
	}
	return NULL;
}

/*
 * A foreign table made with a query is a sink or a derived stream.  Another one is a
 * sink when its connector can be nothing else.
 */
static SxOptionTarget
table_target(List *given)
{
	const char *connector = sx_option(given, "connector");
	const char *kind = sx_option(given, SX_KIND_OPTION);

	if (kind != NULL)
		return strcmp(kind, "sink") == 0 ? SX_OPT_SINK :
			strcmp(kind, "derived") == 0 ? SX_OPT_DERIVED : SX_OPT_SOURCE;
	if (sx_creating_query_table)
		return connector != NULL ? SX_OPT_SINK : SX_OPT_DERIVED;
	if (connector != NULL && connector_bit(connector, SX_OPT_SOURCE) == 0 &&
		connector_bit(connector, SX_OPT_SINK) != 0)
		return SX_OPT_SINK;
	return SX_OPT_SOURCE;
}

/* The options of a foreign table that people can give. */
static List *
without_kind(List *given)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, given)
	{
		if (strcmp(lfirst_node(DefElem, lc)->defname, SX_KIND_OPTION) != 0)
			result = lappend(result, lfirst(lc));
	}
	return result;
}

Datum
sx_fdw_validator(PG_FUNCTION_ARGS)
{
	List	   *given = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);

	if (catalog == ForeignServerRelationId)
		sx_options_validate(given, SX_OPT_SERVER, NULL);
	else if (catalog == UserMappingRelationId)
		sx_options_validate(given, SX_OPT_USER_MAPPING, NULL);
	else if (catalog == ForeignTableRelationId)
		sx_options_validate(without_kind(given), table_target(given), NULL);
	else if (catalog == AttributeRelationId)
		sx_options_validate(given, SX_OPT_COLUMN, NULL);
	else if (given != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("the foreign-data wrapper \"streamext\" has no options"),
				 errhint("Give them to a server or a stream.")));
	PG_RETURN_VOID();
}
