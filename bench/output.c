/*-------------------------------------------------------------------------
 *
 * output.c
 *		Where the benchmarks' generators put their events.
 *
 * Lines of a file, or records of a topic: event i goes to partition i % partitions, so
 * that the same events give the same topic.  The producer is idempotent, keeps the
 * order, and sends large batches; it may hold a million events, and waits for the
 * broker beyond that.  What the broker does not take is counted, and the first reason
 * is said.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

#define POLL_EVERY		1000	/* events between looks at what was delivered */
#define FLUSH_MS		120000
#define METADATA_MS		10000

extern char *program_invocation_short_name;

struct Output
{
	const char *path;			/* a file's, or NULL */
	FILE	   *file;
	rd_kafka_t *producer;
	rd_kafka_topic_t *topic;
	int			partitions;
	int64_t		put;
	int64_t		lost;			/* events that the broker did not take */
};

static void
complain(const char *text)
{
	fprintf(stderr, "%s: %s\n", program_invocation_short_name, text);
}

void
fail(const char *text)
{
	complain(text);
	exit(1);
}

static void
fail_file(const Output *out)
{
	perror(out->path);
	exit(1);
}

static void
delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
	Output	   *out = opaque;

	if (m->err && out->lost++ == 0)
		complain(rd_kafka_err2str(m->err));
}

static void
connect_producer(Output *out, const OutputTarget *target)
{
	const char *const properties[][2] = {
		{"bootstrap.servers", target->brokers},
		{"enable.idempotence", "true"},
		{"queue.buffering.max.messages", "1000000"},
		{"linger.ms", target->linger ? target->linger : "20"},
		{"batch.size", "1000000"},
	};
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char		error[512];

	for (size_t i = 0; i < sizeof(properties) / sizeof(properties[0]); i++)
		if (rd_kafka_conf_set(conf, properties[i][0], properties[i][1], error,
							  sizeof(error)) != RD_KAFKA_CONF_OK)
			fail(error);
	rd_kafka_conf_set_dr_msg_cb(conf, delivered);
	rd_kafka_conf_set_opaque(conf, out);
	out->producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	if (out->producer == NULL)
		fail(error);
	out->topic = rd_kafka_topic_new(out->producer, target->topic, NULL);
}

static int
count_partitions(Output *out)
{
	const struct rd_kafka_metadata *md;
	int			n = 0;

	if (rd_kafka_metadata(out->producer, 0, out->topic, &md, METADATA_MS) == 0)
	{
		n = md->topic_cnt > 0 ? md->topics[0].partition_cnt : 0;
		rd_kafka_metadata_destroy(md);
	}
	if (n == 0)
		fail("the topic has no partitions, or the broker is away");
	return n;
}

Output *
output_open(const OutputTarget *target)
{
	Output	   *out = calloc(1, sizeof(Output));

	if (out == NULL)
		fail("out of memory");
	if (target->file != NULL)
	{
		out->path = target->file;
		out->file = strcmp(target->file, "-") == 0 ? stdout : fopen(target->file, "w");
		if (out->file == NULL)
			fail_file(out);
		return out;
	}
	connect_producer(out, target);
	out->partitions = target->partitions ? target->partitions : count_partitions(out);
	return out;
}

static void
send_event(Output *out, const char *event, size_t length)
{
	while (rd_kafka_produce(out->topic, (int32_t) (out->put % out->partitions), RD_KAFKA_MSG_F_COPY,
							(void *) event, length, NULL, 0, NULL) != 0)
	{
		if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			fail(rd_kafka_err2str(rd_kafka_last_error()));
		rd_kafka_poll(out->producer, 10);
	}
	if (out->put % POLL_EVERY == 0)
		rd_kafka_poll(out->producer, 0);
}

void
output_put(Output *out, const char *event, size_t length)
{
	if (out->producer != NULL)
		send_event(out, event, length);
	else if (fwrite(event, 1, length, out->file) != length || putc('\n', out->file) == EOF)
		fail_file(out);
	out->put++;
}

/* Waits until all is delivered; how many events were not. */
int64_t
output_close(Output *out)
{
	int64_t		lost;

	if (out->producer != NULL)
	{
		rd_kafka_flush(out->producer, FLUSH_MS);
		out->lost += rd_kafka_outq_len(out->producer);
		rd_kafka_topic_destroy(out->topic);
		rd_kafka_destroy(out->producer);
	}
	else if (fclose(out->file) != 0)
		fail_file(out);
	lost = out->lost;
	free(out);
	return lost;
}
