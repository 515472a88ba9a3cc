/*-------------------------------------------------------------------------
 *
 * helper_config.c
 *		streamext-kafka: from the CONFIG frame to a librdkafka instance.
 *
 * Which properties a user may give is decided by the server before it starts us.
 * The properties that our promises rest on are set by the server behind the
 * user's, so that they win.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "helper.h"
#include "source/allowed_hosts.h"

#define LOG_LINES_PER_SECOND	10

/* A line for the server's log and nowhere else. */
static void
send_log(int level, const char *line)
{
	HelperBuffer b = {0};

	helper_put_i32(&b, level);
	helper_put_str(&b, line);
	helper_send(SX_MSG_LOG, &b);
}

/*
 * What its owner may know of a failure.  Who may not connect everywhere must not learn
 * what answers where: he is told that nothing came of it, and the log has the rest.
 */
const char *
helper_text_for_owner(Helper *h, int err, const char *text)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static char last[512];

	if (h->host_rules == NULL || text[0] == '\0' ||
		(err != RD_KAFKA_RESP_ERR__TRANSPORT && err != RD_KAFKA_RESP_ERR__RESOLVE &&
		 err != RD_KAFKA_RESP_ERR__SSL && err != RD_KAFKA_RESP_ERR__TIMED_OUT &&
		 err != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN))
		return text;
	pthread_mutex_lock(&lock);
	if (strncmp(last, text, sizeof(last) - 1) != 0)
	{
		snprintf(last, sizeof(last), "%s", text);
		send_log(SX_LOG_ALWAYS, last);
	}
	pthread_mutex_unlock(&lock);
	return "could not connect (the server's log says why)";
}

/*
 * Called by threads of librdkafka.  A broker that is down makes it repeat itself,
 * so lines beyond some a second are dropped.
 */
static void
forward_log(const rd_kafka_t *rk, int level, const char *fac, const char *buf)
{
	static _Atomic long second;
	static _Atomic int lines;
	long		now = (long) time(NULL);
	char		line[1024];

	if (atomic_exchange(&second, now) != now)
		atomic_store(&lines, 0);
	if (atomic_fetch_add(&lines, 1) >= LOG_LINES_PER_SECOND)
		return;
	snprintf(line, sizeof(line), "%s: %s", fac, buf);
	send_log(level, line);
}

/* From any thread: the data thread ends the program if it has read anything. */
void
helper_lose(Helper *h, const char *text)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&lock);
	if (!atomic_load(&h->lost))
		snprintf(h->lost_text, sizeof(h->lost_text), "%s", text);
	atomic_store(&h->lost, true);
	pthread_mutex_unlock(&lock);
	helper_event_raise(h->wake_fd);
}

/* Did a connection break that worked?  The bootstrap's is one that nothing is read from. */
static bool
is_broken_connection(int err, const char *reason)
{
	return (err == RD_KAFKA_RESP_ERR__TRANSPORT || err == RD_KAFKA_RESP_ERR__SSL ||
			err == RD_KAFKA_RESP_ERR__TIMED_OUT) &&
		strstr(reason, "in state UP") != NULL && strstr(reason, "/bootstrap: ") == NULL;
}

/*
 * Errors of the client as a whole; called from rd_kafka_poll in the data thread.
 * Only "all brokers down" means that nothing can be read, the others are told so
 * that status can say why.
 */
static void
note_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
	Helper	   *h = opaque;
	char		text[512];
	char	   *detail;

	if (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
	{
		if (atomic_load(&h->connected))
			helper_send_status(h, false, err, "");
		helper_lose(h, "no broker can be reached");
		helper_query_soon();
		return;
	}
	/* how long it took and how often it was said before is of no interest */
	snprintf(text, sizeof(text), "%s", reason);
	detail = strstr(text, " (after ");
	if (detail != NULL)
		*detail = '\0';
	helper_send_status(h, atomic_load(&h->connected), err, text);
	if (is_broken_connection(err, reason))
		helper_lose(h, text);
}

/*
 * The server has a list of what is allowed.  These run programs or load code, so
 * they are refused here as well, whatever that list may come to hold.
 */
static bool
is_forbidden(const char *name)
{
	static const char *const prefixes[] = {
		"plugin.", "ssl.engine", "ssl.providers", "interceptors", "test.mock",
		"sasl.kerberos.kinit.cmd"
	};

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

static void
set_property(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		error[512];
	char		text[1024];

	if (!is_forbidden(name) &&
		rd_kafka_conf_set(conf, name, value, error, sizeof(error)) == RD_KAFKA_CONF_OK)
		return;
	/* the message of librdkafka repeats the value, which may be a secret */
	snprintf(text, sizeof(text), "property \"%s\" is not valid in librdkafka %s",
			 name, rd_kafka_version_str());
	helper_fail(text);
}

/* What a property is set to that is a number. */
long
helper_property(Helper *h, const char *name)
{
	char		value[32] = "";
	size_t		size = sizeof(value);

	(void) rd_kafka_conf_get(rd_kafka_conf(h->rk), name, value, &size);
	return atol(value);
}

/*
 * Connects to a broker, as the library would, if that is allowed.  It is called with
 * every address, those that other brokers have told us included.  The name of the broker
 * is [protocol://]host:port/id.  Called by threads of librdkafka.
 */
static int
connect_if_allowed(int sock, const struct sockaddr *addr, int len, const char *broker,
				   void *opaque)
{
	const Helper *h = opaque;
	const char *start = strstr(broker, "://");
	char		name[256];
	char	   *end;

	snprintf(name, sizeof(name), "%s", start != NULL ? start + 3 : broker);
	if ((end = strchr(name, '/')) != NULL)
		*end = '\0';
	if ((end = strrchr(name, ':')) != NULL)
		*end = '\0';
	if (!sx_host_is_allowed(h->host_rules, name, addr))
		return EACCES;
	if (connect(sock, addr, (socklen_t) len) == 0 || errno == EINPROGRESS)
		return 0;
	return errno;
}

static void
add_topic(Helper *h, char *name)
{
	HelperTopic *t = &h->topics[h->ntopics];

	t->name = name;
	t->rkt = rd_kafka_topic_new(h->rk, name, NULL);
	if (t->rkt == NULL)
		helper_fail(rd_kafka_err2str(rd_kafka_last_error()));
	h->ntopics++;
}

/* The list of topics of a frame; in the data thread, or before there is another. */
void
helper_add_topics(Helper *h, SxFrameReader *frame)
{
	uint32_t	n = sx_frame_u32(frame);

	if (frame->failed || h->ntopics + (uint64_t) n > SX_HELPER_MAX_TOPICS)
		helper_fail("too many topics");
	for (uint32_t i = 0; i < n; i++)
		add_topic(h, helper_get_string(frame));
	if (frame->failed)
		helper_fail("the list of topics is malformed");
}

/* Tells what the library can do, and ends. */
void
helper_features(Helper *h)
{
	HelperBuffer b = {0};
	char		features[512] = "";
	size_t		size = sizeof(features);
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	(void) rd_kafka_conf_get(conf, "builtin.features", features, &size);
	helper_put_str(&b, rd_kafka_version_str());
	helper_put_str(&b, features);
	helper_send(SX_MSG_FEATURES, &b);
	helper_exit(0);
}

void
helper_configure(Helper *h, SxFrameReader *frame)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char		error[512];
	uint32_t	n;

	h->role = (SxHelperRole) sx_frame_u32(frame);
	h->max_message_bytes = sx_frame_i64(frame);
	h->list_topics = sx_frame_u32(frame) != 0;
	h->rests = sx_frame_u32(frame) != 0;
	n = sx_frame_u32(frame);
	for (uint32_t i = 0; i < n && !frame->failed; i++)
	{
		char	   *name = helper_get_string(frame);
		char	   *value = helper_get_string(frame);

		if (strcmp(name, SX_HOST_PROPERTY) == 0)
			h->host_rules = value;
		else
		{
			set_property(conf, name, value);
			free(value);
		}
		free(name);
	}
	if (frame->failed || h->role < SX_ROLE_CONSUMER || h->role > SX_ROLE_FEATURES)
		helper_fail("the configuration is malformed");
	h->topics = helper_alloc(SX_HELPER_MAX_TOPICS * sizeof(HelperTopic));
	if (h->role == SX_ROLE_FEATURES)
		return;

	rd_kafka_conf_set_opaque(conf, h);
	rd_kafka_conf_set_log_cb(conf, forward_log);
	rd_kafka_conf_set_error_cb(conf, note_error);
	helper_watch_configure(conf);
	if (h->rests)
		helper_rest_configure(conf);
	if (h->host_rules != NULL)
		rd_kafka_conf_set_connect_cb(conf, connect_if_allowed);
	if (h->role == SX_ROLE_PRODUCER)
		rd_kafka_conf_set_dr_msg_cb(conf, helper_delivered);

	h->wake_fd = helper_event_fd();
	h->rk = rd_kafka_new(h->role == SX_ROLE_CONSUMER ? RD_KAFKA_CONSUMER : RD_KAFKA_PRODUCER,
						 conf, error, sizeof(error));
	if (h->rk == NULL)
		helper_fail(error);
	helper_add_topics(h, frame);
	if (h->role == SX_ROLE_CONSUMER)
		h->headers = (SxHeaders) sx_frame_u32(frame);
	if (frame->failed)
		helper_fail("the configuration is malformed");
}
