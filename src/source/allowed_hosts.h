/*-------------------------------------------------------------------------
 *
 * allowed_hosts.h
 *		Which hosts streams of roles that are no superusers may connect to.
 *
 * The rules are the value of streamext.allowed_hosts: a list, separated by commas or
 * white space, of
 *
 *		HOST  or  HOST:PORT  or  HOST:PORT-PORT
 *
 * where HOST is
 *		kafka.example.com	a name, as the user wrote it or a broker advertised it
 *		*.example.com, *	any name with that end, or any at all
 *		10.1.0.0/16			addresses, after the name was looked up
 *		192.0.2.1
 *		[2001:db8::/32]		likewise, in brackets because of the colons
 *
 * No rules at all mean "*".  What a wildcard stands for is not known to whoever wrote it,
 * and somebody else's name server says where such a name leads.  So a wildcard never
 * leads to an inner address: this host, its link (which cloud providers serve metadata
 * and passwords on), or a group of hosts.  Those must be listed, by name or address.
 *
 * Both are asked with the address that is about to be connected to, so it makes no
 * difference where that came from: an option, a name server, or a broker of a cluster
 * that tells where the others are.
 *
 * Shared with the helper program: nothing of PostgreSQL here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_ALLOWED_HOSTS_H
#define SX_ALLOWED_HOSTS_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define SX_HOST_RULE_MAX	300		/* bytes of one rule */
#define SX_HOST_SEPARATORS	", \t\r\n"

/* The name by which the rules are sent to the helper, among its properties. */
#define SX_HOST_PROPERTY	"streamext.allowed_hosts"

/* An address in its shortest form: IPv4 in IPv6 is IPv4. */
typedef struct SxHostAddress
{
	int			bytes;			/* 4 or 16 */
	uint8_t		address[16];
	int			port;
} SxHostAddress;

typedef struct SxHostRule
{
	char		host[SX_HOST_RULE_MAX];
	bool		is_address;
	SxHostAddress net;
	int			bits;
	int			first_port;
	int			last_port;
} SxHostRule;

static inline void
sx_host_shorten(SxHostAddress *a)
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b};

	if (a->bytes == 16 &&
		(memcmp(a->address, mapped, 12) == 0 || memcmp(a->address, nat64, 12) == 0))
	{
		memmove(a->address, a->address + 12, 4);
		a->bytes = 4;
	}
}

/* False for an address that is no internet one. */
static inline bool
sx_host_from_sockaddr(SxHostAddress *a, const struct sockaddr *addr)
{
	if (addr->sa_family == AF_INET)
	{
		const struct sockaddr_in *in = (const struct sockaddr_in *) addr;

		a->bytes = 4;
		a->port = ntohs(in->sin_port);
		memcpy(a->address, &in->sin_addr, 4);
		return true;
	}
	if (addr->sa_family == AF_INET6)
	{
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) addr;

		a->bytes = 16;
		a->port = ntohs(in6->sin6_port);
		memcpy(a->address, &in6->sin6_addr, 16);
		sx_host_shorten(a);
		return true;
	}
	return false;
}

static inline bool
sx_host_is_inner(const SxHostAddress *a)
{
	static const uint8_t zero[15] = {0};

	if (a->bytes == 4)
		return a->address[0] == 0 || a->address[0] == 127 || a->address[0] >= 224 ||
			(a->address[0] == 169 && a->address[1] == 254);
	return (memcmp(a->address, zero, 15) == 0 && a->address[15] <= 1) ||
		(a->address[0] == 0xfe && (a->address[1] & 0xc0) == 0x80) ||
		a->address[0] == 0xff ||
		/* where Amazon serves metadata in IPv6 */
		memcmp(a->address, "\xfd\x00\x0e\xc2", 4) == 0;
}

/* "80" or "80-90"; false: neither. */
static inline bool
sx_host_parse_ports(const char *text, SxHostRule *rule)
{
	char	   *end;
	long		first = strtol(text, &end, 10);
	long		last = first;

	if (end == text || *text < '0' || *text > '9')
		return false;
	if (*end == '-')
	{
		const char *second = end + 1;

		last = strtol(second, &end, 10);
		if (end == second || *second < '0' || *second > '9')
			return false;
	}
	if (*end != '\0' || first < 1 || last > 65535 || first > last)
		return false;
	rule->first_port = (int) first;
	rule->last_port = (int) last;
	return true;
}

/* Sets net and bits when host is an address or network; false: it is malformed. */
static inline bool
sx_host_parse_address(SxHostRule *rule, bool bracketed)
{
	char		text[SX_HOST_RULE_MAX];
	char	   *slash;
	int			family = bracketed ? AF_INET6 : AF_INET;

	strcpy(text, rule->host);
	slash = strchr(text, '/');
	if (slash != NULL)
		*slash = '\0';
	rule->is_address = inet_pton(family, text, rule->net.address) == 1;
	if (!rule->is_address)
		return slash == NULL && !bracketed;
	rule->net.bytes = bracketed ? 16 : 4;
	rule->bits = rule->net.bytes * 8;
	if (slash != NULL)
	{
		char	   *end;
		long		bits = strtol(slash + 1, &end, 10);

		if (end == slash + 1 || *end != '\0' || bits < 0 || bits > rule->bits)
			return false;
		rule->bits = (int) bits;
	}
	return true;
}

/* A name has letters, digits and -._; a wildcard is "*" or begins with "*.". */
static inline bool
sx_host_name_is_valid(const char *name)
{
	if (name[0] == '*' && (name[1] == '\0' || name[1] == '.'))
		name++;
	else if (name[0] == '\0')
		return false;
	for (; *name; name++)
	{
		if (!((*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
			  (*name >= '0' && *name <= '9') || strchr("-._", *name) != NULL))
			return false;
	}
	return true;
}

/* One rule of n bytes; false: it is malformed. */
static inline bool
sx_host_parse_rule(const char *text, size_t n, SxHostRule *rule)
{
	char	   *colon;
	bool		bracketed = n > 0 && text[0] == '[';

	memset(rule, 0, sizeof(*rule));
	rule->first_port = 1;
	rule->last_port = 65535;
	if (n == 0 || n >= SX_HOST_RULE_MAX)
		return false;
	if (bracketed)
	{
		const char *end = memchr(text, ']', n);
		char		rest[SX_HOST_RULE_MAX];

		if (end == NULL)
			return false;
		memcpy(rule->host, text + 1, end - text - 1);
		snprintf(rest, sizeof(rest), "%.*s", (int) (text + n - end - 1), end + 1);
		if (rest[0] != '\0' && (rest[0] != ':' || !sx_host_parse_ports(rest + 1, rule)))
			return false;
		return sx_host_parse_address(rule, true);
	}
	memcpy(rule->host, text, n);
	colon = strchr(rule->host, ':');
	if (colon != NULL)
	{
		if (!sx_host_parse_ports(colon + 1, rule))
			return false;
		*colon = '\0';
	}
	return sx_host_parse_address(rule, false) &&
		(rule->is_address || sx_host_name_is_valid(rule->host));
}

static inline bool
sx_host_in_net(const SxHostAddress *a, const SxHostRule *rule)
{
	int			whole = rule->bits / 8;
	int			rest = rule->bits % 8;

	if (a->bytes != rule->net.bytes || memcmp(a->address, rule->net.address, whole) != 0)
		return false;
	return rest == 0 ||
		((a->address[whole] ^ rule->net.address[whole]) & (0xff << (8 - rest)) & 0xff) == 0;
}

static inline bool
sx_host_rule_fits(const SxHostRule *rule, const char *name, const SxHostAddress *a)
{
	if (a->port < rule->first_port || a->port > rule->last_port)
		return false;
	if (rule->is_address)
		return sx_host_in_net(a, rule);
	if (rule->host[0] == '*')
	{
		size_t		n = strlen(name);
		size_t		end = strlen(rule->host) - 1;

		return !sx_host_is_inner(a) &&
			(end == 0 || (n > end && strcasecmp(name + n - end, rule->host + 1) == 0));
	}
	return strcasecmp(name, rule->host) == 0;
}

/* The next rule of a list: its start and length, 0 at the end. */
static inline size_t
sx_host_next_rule(const char **list)
{
	*list += strspn(*list, SX_HOST_SEPARATORS);
	return strcspn(*list, SX_HOST_SEPARATORS);
}

/* Gives the first rule that cannot be understood (as long as its start), or NULL. */
static inline const char *
sx_host_bad_rule(const char *rules)
{
	size_t		n;

	for (const char *at = rules; (n = sx_host_next_rule(&at)) > 0; at += n)
	{
		SxHostRule	rule;

		if (!sx_host_parse_rule(at, n, &rule))
			return at;
	}
	return NULL;
}

/* May a connection be made to addr, which is what name led to? */
static inline bool
sx_host_is_allowed(const char *rules, const char *name, const struct sockaddr *addr)
{
	SxHostAddress a;
	bool		any = false;
	size_t		n;

	if (!sx_host_from_sockaddr(&a, addr))
		return false;
	for (const char *at = rules; (n = sx_host_next_rule(&at)) > 0; at += n)
	{
		SxHostRule	rule;

		any = true;
		if (sx_host_parse_rule(at, n, &rule) && sx_host_rule_fits(&rule, name, &a))
			return true;
	}
	return !any && !sx_host_is_inner(&a);
}

#endif							/* SX_ALLOWED_HOSTS_H */
