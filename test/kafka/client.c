/*-------------------------------------------------------------------------
 *
 * client.c
 *		Topics and records for the tests, without a JVM for each of them.
 *
 * usage: client BROKERS [-X PROPERTY=VALUE …] COMMAND …
 *
 * Each argument is a command; the first that fails ends the program with status 1.
 *
 *		create TOPIC PARTITIONS [KEY=VALUE …]
 *		delete TOPIC			waits until it is gone
 *		grow TOPIC PARTITIONS
 *		trim TOPIC PARTITION OFFSET		deletes the records before OFFSET
 *		put TOPIC PARTITION FIRST COUNT [SIZE [TIMESTAMP]]
 *						records {"id": FIRST + n, "part": PARTITION, "pad": …} of about
 *						SIZE bytes with the id as key
 *		tomb TOPIC PARTITION KEY		a record without value
 *		empty TOPIC PARTITION KEY		a record with an empty value
 *		begin, commit, abort			what is put in between is a transaction; one
 *						that nobody ends stays open when the program has ended
 *		wait			says "waiting" and waits for the end of its input
 *
 *-------------------------------------------------------------------------
 */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT_MS	30000

static rd_kafka_t *plain;
static rd_kafka_t *transactional;
static int	in_transaction;
static int	undelivered;
static const char *brokers;
static char *properties[32];
static int	nproperties;

static void
fail(const char *what, const char *why)
{
	fprintf(stderr, "client: %s: %s\n", what, why);
	_exit(1);
}

static void
set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		error[256];

	if (rd_kafka_conf_set(conf, name, value, error, sizeof(error)) != RD_KAFKA_CONF_OK)
		fail(name, error);
}

static void
delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
	if (m->err)
	{
		fprintf(stderr, "client: not delivered: %s\n", rd_kafka_err2str(m->err));
		undelivered++;
	}
}

static rd_kafka_t *
connect_to(const char *transactional_id)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char		error[256];
	rd_kafka_t *rk;

	set(conf, "bootstrap.servers", brokers);
	set(conf, "log_level", "0");
	set(conf, "linger.ms", "1");
	set(conf, "message.max.bytes", "20000000");
	for (int i = 0; i < nproperties; i++)
	{
		char	   *copy = strdup(properties[i]);
		char	   *value = strchr(copy, '=');

		*value++ = '\0';
		set(conf, copy, value);
	}
	if (transactional_id)
		set(conf, "transactional.id", transactional_id);
	rd_kafka_conf_set_dr_msg_cb(conf, delivered);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	if (rk == NULL)
		fail("connect", error);
	return rk;
}

static rd_kafka_t *
producer(void)
{
	if (in_transaction)
		return transactional;
	if (plain == NULL)
		plain = connect_to(NULL);
	return plain;
}

/* ---------- administration ---------- */

/* The error of one result, of whatever kind. */
static const char *
result_error(rd_kafka_event_t *event)
{
	size_t		n;
	const rd_kafka_topic_result_t **topics = NULL;
	rd_kafka_resp_err_t err = rd_kafka_event_error(event);

	if (err)
		return rd_kafka_event_error_string(event);
	if (rd_kafka_event_CreateTopics_result(event))
		topics = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
	else if (rd_kafka_event_DeleteTopics_result(event))
		topics = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &n);
	else if (rd_kafka_event_CreatePartitions_result(event))
		topics = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event), &n);
	if (topics != NULL && rd_kafka_topic_result_error(topics[0]))
		return rd_kafka_err2str(rd_kafka_topic_result_error(topics[0]));
	return NULL;
}

static void
finish(rd_kafka_queue_t *queue, const char *what)
{
	rd_kafka_event_t *event = rd_kafka_queue_poll(queue, TIMEOUT_MS);
	const char *error = event ? result_error(event) : "no answer";

	if (error)
		fail(what, error);
	rd_kafka_event_destroy(event);
	rd_kafka_queue_destroy(queue);
}

static void
create_topic(char **word, int n)
{
	char		error[256];
	rd_kafka_queue_t *queue = rd_kafka_queue_new(producer());
	rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(word[1], atoi(word[2]), 1, error, sizeof(error));

	for (int i = 3; i < n; i++)
	{
		char	   *value = strchr(word[i], '=');

		*value++ = '\0';
		rd_kafka_NewTopic_set_config(topic, word[i], value);
	}
	rd_kafka_CreateTopics(producer(), &topic, 1, NULL, queue);
	finish(queue, "create");
}

static int
topic_exists(const char *name)
{
	const struct rd_kafka_metadata *md;
	int			found = 0;

	if (rd_kafka_metadata(producer(), 1, NULL, &md, TIMEOUT_MS) != 0)
		fail("metadata", "no answer");
	for (int i = 0; i < md->topic_cnt; i++)
		found |= strcmp(md->topics[i].topic, name) == 0;
	rd_kafka_metadata_destroy(md);
	return found;
}

static void
delete_topic(char **word)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(producer());
	rd_kafka_DeleteTopic_t *topic = rd_kafka_DeleteTopic_new(word[1]);

	rd_kafka_DeleteTopics(producer(), &topic, 1, NULL, queue);
	finish(queue, "delete");
	while (topic_exists(word[1]))
		usleep(20000);
}

static void
grow_topic(char **word)
{
	char		error[256];
	rd_kafka_queue_t *queue = rd_kafka_queue_new(producer());
	rd_kafka_NewPartitions_t *more = rd_kafka_NewPartitions_new(word[1], atoi(word[2]), error, sizeof(error));

	rd_kafka_CreatePartitions(producer(), &more, 1, NULL, queue);
	finish(queue, "grow");
}

static void
trim_topic(char **word)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(producer());
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_DeleteRecords_t *records;

	rd_kafka_topic_partition_list_add(list, word[1], atoi(word[2]))->offset = atoll(word[3]);
	records = rd_kafka_DeleteRecords_new(list);
	rd_kafka_DeleteRecords(producer(), &records, 1, NULL, queue);
	finish(queue, "trim");
}

/* ---------- records ---------- */

static void
produce(const char *topic, int partition, const char *key, const char *value, size_t len,
		int64_t timestamp)
{
	for (;;)
	{
		rd_kafka_resp_err_t err = rd_kafka_producev(producer(), RD_KAFKA_V_TOPIC(topic),
													RD_KAFKA_V_PARTITION(partition),
													RD_KAFKA_V_KEY(key, strlen(key)),
													RD_KAFKA_V_VALUE((void *) value, len),
													RD_KAFKA_V_TIMESTAMP(timestamp),
													RD_KAFKA_V_HEADER("origin", "test", 4),
													RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
													RD_KAFKA_V_END);

		if (!err)
			return;
		if (err != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			fail("put", rd_kafka_err2str(err));
		rd_kafka_poll(producer(), 100);
	}
}

static void
flush(void)
{
	if (rd_kafka_flush(producer(), TIMEOUT_MS) != 0 || undelivered > 0)
		fail("put", "not all was delivered");
}

static void
put(char **word, int n)
{
	int64_t		first = atoll(word[3]);
	int64_t		count = atoll(word[4]);
	int			size = n > 5 ? atoi(word[5]) : 0;
	int64_t		timestamp = n > 6 ? atoll(word[6]) : 0;
	char	   *value = malloc((size_t) size + 200);

	for (int64_t i = first; i < first + count; i++)
	{
		char		key[32];
		int			len = sprintf(value, "{\"id\": %lld, \"part\": %s, \"pad\": \"", (long long) i, word[2]);

		while (len < size - 2)
			value[len++] = 'x';
		len += sprintf(value + len, "\"}");
		sprintf(key, "%lld", (long long) i);
		produce(word[1], atoi(word[2]), key, value, (size_t) len, timestamp);
	}
	flush();
	free(value);
}

static void
check(rd_kafka_error_t *error, const char *what)
{
	if (error)
		fail(what, rd_kafka_error_string(error));
}

static void
begin(void)
{
	char		id[64];

	if (transactional == NULL)
	{
		snprintf(id, sizeof(id), "test-%d", (int) getpid());
		transactional = connect_to(id);
		check(rd_kafka_init_transactions(transactional, TIMEOUT_MS), "begin");
	}
	check(rd_kafka_begin_transaction(transactional), "begin");
	in_transaction = 1;
}

static void
run(char *command)
{
	char	   *word[32] = {0};
	int			n = 0;

	for (char *save, *w = strtok_r(command, " ", &save); w && n < 32; w = strtok_r(NULL, " ", &save))
		word[n++] = w;
	if (n == 0)
		return;
	if (strcmp(word[0], "create") == 0 && n > 2)
		create_topic(word, n);
	else if (strcmp(word[0], "delete") == 0 && n > 1)
		delete_topic(word);
	else if (strcmp(word[0], "grow") == 0 && n > 2)
		grow_topic(word);
	else if (strcmp(word[0], "trim") == 0 && n > 3)
		trim_topic(word);
	else if (strcmp(word[0], "put") == 0 && n > 4)
		put(word, n);
	else if (strcmp(word[0], "tomb") == 0 && n > 3)
		produce(word[1], atoi(word[2]), word[3], NULL, 0, 0), flush();
	else if (strcmp(word[0], "empty") == 0 && n > 3)
		produce(word[1], atoi(word[2]), word[3], "", 0, 0), flush();
	else if (strcmp(word[0], "begin") == 0)
		begin();
	else if (strcmp(word[0], "commit") == 0)
		check(rd_kafka_commit_transaction(transactional, TIMEOUT_MS), "commit"), in_transaction = 0;
	else if (strcmp(word[0], "abort") == 0)
		check(rd_kafka_abort_transaction(transactional, TIMEOUT_MS), "abort"), in_transaction = 0;
	else if (strcmp(word[0], "wait") == 0)
	{
		puts("waiting");
		fflush(stdout);
		while (getchar() != EOF)
			;
	}
	else
		fail("no such command", word[0]);
}

int
main(int argc, char **argv)
{
	int			i = 2;

	if (argc < 3)
		fail("usage", "client BROKERS [-X PROPERTY=VALUE …] COMMAND …");
	brokers = argv[1];
	for (; i + 1 < argc && strcmp(argv[i], "-X") == 0 && nproperties < 32; i += 2)
		properties[nproperties++] = argv[i + 1];
	for (; i < argc; i++)
		run(argv[i]);
	/* no farewell: an open transaction stays open */
	_exit(0);
}
