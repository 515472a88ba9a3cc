/*-------------------------------------------------------------------------
 *
 * rights.c
 *		What the owner of a source stream may do, and where it may connect to.
 *
 * PostgreSQL asks for USAGE on the server when a foreign table is made, and our validator
 * for what else an option needs, but both ask then only.  A worker runs for years, so the
 * same is asked here when a source is opened.
 *
 * A server can hold what its streams share: the addresses of the brokers, how they are
 * spoken to, and in a user mapping for PUBLIC a password that the users of the server are
 * not meant to know.  Whoever may use the server but does not own it must not be able to
 * send that password elsewhere.  So such a stream takes the brokers and everything about
 * encryption and authentication from a server that names brokers, and where the stream
 * names the brokers, the mapping for PUBLIC does not count.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_foreign_server.h"
#include "commands/defrem.h"
#include "compat.h"
#include "ddl/kafka_property.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "source/allowed_hosts.h"
#include "source/file_options.h"
#include "source/rights.h"
#include "source/source.h"
#include "streamext.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inet.h"

PG_FUNCTION_INFO_V1(sx_host_allowed);

/* ---------- options ---------- */

static bool
owns_server(const SxStream *stream, const ForeignServer *server)
{
	return has_privs_of_role(stream->owner, server->owner);
}

static void
check_usage(const SxStream *stream, const ForeignServer *server)
{
	if (sx_server_aclcheck(server->serverid, stream->owner) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("owner of stream %s has no right to use server \"%s\"",
						stream->label, server->servername),
				 errhint("GRANT USAGE ON FOREIGN SERVER %s TO %s.",
						 quote_identifier(server->servername),
						 quote_identifier(GetUserNameFromId(stream->owner, false)))));
}

/* What only superusers may give must have been given by one who still is. */
static void
check_privileged(const SxStream *stream, List *options, Oid giver)
{
	ListCell   *lc;

	if (superuser_arg(giver))
		return;
	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strchr(option->defname, '.') != NULL &&
			sx_kafka_property_is_privileged(option->defname, defGetString(option)))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("property \"%s\" of stream %s needs an owner who is superuser",
							option->defname, stream->label),
					 errhint("Let a superuser give it to a server, and grant USAGE on that.")));
	}
}

static void
check_overrides(const SxStream *stream, const ForeignServer *server, List *options)
{
	ListCell   *lc;

	if (sx_option(server->options, "brokers") == NULL || owns_server(stream, server))
		return;
	foreach(lc, options)
	{
		const char *name = lfirst_node(DefElem, lc)->defname;

		if (strcmp(name, "brokers") == 0 || sx_kafka_property_guards_secrets(name))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("option \"%s\" of stream %s is decided by server \"%s\"",
							name, stream->label, server->servername),
					 errhint("Leave it out, or use a server that names no brokers.")));
	}
}

void
sx_stream_check_rights(const SxStream *stream)
{
	ForeignTable *table = GetForeignTable(stream->relid);
	ForeignServer *server = GetForeignServer(table->serverid);

	check_usage(stream, server);
	if (stream->source == &sx_source_file)
		sx_file_check_rights(stream);
	if (stream->source != &sx_source_kafka)
		return;
	check_privileged(stream, table->options, stream->owner);
	check_privileged(stream, server->options, server->owner);
	check_overrides(stream, server, table->options);
}

bool
sx_stream_may_use_public_secrets(const SxStream *stream)
{
	ForeignTable *table = GetForeignTable(stream->relid);
	ForeignServer *server = GetForeignServer(table->serverid);

	return sx_option(table->options, "brokers") == NULL || owns_server(stream, server);
}

/* ---------- hosts ---------- */

const char *
sx_stream_host_rules(const SxStream *stream)
{
	return stream->owner_is_superuser ? NULL : sx_allowed_hosts;
}

bool
sx_check_allowed_hosts(char **newval, void **extra, GucSource source)
{
	const char *bad = *newval == NULL ? NULL : sx_host_bad_rule(*newval);

	if (bad == NULL)
		return true;
	GUC_check_errdetail("\"%.*s\" is no host.", (int) strcspn(bad, SX_HOST_SEPARATORS), bad);
	GUC_check_errhint("Write host:port, *.domain, 10.0.0.0/8 or [2001:db8::/32], each with a port or without.");
	return false;
}

/* host_allowed(rules, name, address, port): to try rules out */
Datum
sx_host_allowed(PG_FUNCTION_ARGS)
{
	char	   *rules = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	inet	   *address = PG_GETARG_INET_PP(2);
	int			port = PG_GETARG_INT32(3);
	const char *bad = sx_host_bad_rule(rules);
	struct sockaddr_in in = {.sin_family = AF_INET,.sin_port = htons(port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6,.sin6_port = htons(port)};

	if (bad != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%.*s\" is no host", (int) strcspn(bad, SX_HOST_SEPARATORS), bad),
				 errhint("Write host:port, *.domain, 10.0.0.0/8 or [2001:db8::/32], each with a port or without.")));
	memcpy(&in.sin_addr, ip_addr(address), 4);
	memcpy(&in6.sin6_addr, ip_addr(address), ip_addrsize(address));
	PG_RETURN_BOOL(sx_host_is_allowed(rules, name, ip_family(address) == PGSQL_AF_INET ?
									  (struct sockaddr *) &in : (struct sockaddr *) &in6));
}
