/*-------------------------------------------------------------------------
 *
 * bare_consumer.c
 *		Counts the records of a topic as fast as librdkafka hands them out: the
 *		baseline that streamext's throughput is measured against.
 *
 * usage: bare_consumer BROKERS TOPIC [NAME=VALUE …]
 *        bare_consumer BROKERS TOPIC --arrived FILE COUNT [NAME=VALUE …]
 *
 * Reads every partition from its beginning to its end in batches of 2,000
 * messages, looks at each payload's length only, and prints records, bytes,
 * seconds, records per second and CPU seconds per million records.
 *
 * With --arrived it takes one message after the other as soon as it is there, until
 * it has COUNT, and writes "microseconds,partition,next offset" of each: the
 * baseline of latency.
 *
 *-------------------------------------------------------------------------
 */
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define BATCH 2000

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static double
cpu(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double) (u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
		(double) (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void
fail(const char *text)
{
	fprintf(stderr, "bare_consumer: %s\n", text);
	exit(1);
}

static void
set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		error[512];

	if (rd_kafka_conf_set(conf, name, value, error, sizeof(error)) != RD_KAFKA_CONF_OK)
		fail(error);
}

/* Properties begin at argv[first]. */
static rd_kafka_t *
connect_consumer(int argc, char **argv, int first)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char		error[512];
	rd_kafka_t *rk;

	/* those of the helper program, but for the checksums, as the library has them */
	set(conf, "bootstrap.servers", argv[1]);
	set(conf, "enable.partition.eof", "true");
	set(conf, "check.crcs", "false");
	set(conf, "fetch.message.max.bytes", "1048576");
	set(conf, "fetch.wait.max.ms", "10");
	set(conf, "queued.min.messages", "1000000");
	for (int i = first; i < argc; i++)
	{
		char	   *value = strchr(argv[i], '=');

		if (value == NULL)
			fail("usage: bare_consumer BROKERS TOPIC [NAME=VALUE …]");
		*value++ = '\0';
		set(conf, argv[i], value);
	}
	rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof(error));
	if (rk == NULL)
		fail(error);
	return rk;
}

/* Starts every partition at its beginning; how many there are. */
static int
start_all(rd_kafka_t *rk, rd_kafka_topic_t *rkt, rd_kafka_queue_t *queue)
{
	const struct rd_kafka_metadata *md;
	int			n;

	if (rd_kafka_metadata(rk, 0, rkt, &md, 10000) != 0 || md->topics[0].partition_cnt == 0)
		fail("the topic has no partitions, or the broker is away");
	n = md->topics[0].partition_cnt;
	rd_kafka_metadata_destroy(md);
	for (int p = 0; p < n; p++)
		if (rd_kafka_consume_start_queue(rkt, p, RD_KAFKA_OFFSET_BEGINNING, queue) != 0)
			fail(rd_kafka_err2str(rd_kafka_last_error()));
	return n;
}

static int64_t
clock_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void
write_arrivals(rd_kafka_queue_t *queue, const char *path, int64_t count)
{
	FILE	   *f = fopen(path, "w");

	if (f == NULL)
		fail("the file cannot be written");
	while (count > 0)
	{
		rd_kafka_message_t *m = rd_kafka_consume_queue(queue, 100);

		if (m == NULL)
			continue;
		if (m->err && m->err != RD_KAFKA_RESP_ERR__PARTITION_EOF)
			fail(rd_kafka_message_errstr(m));
		if (!m->err)
		{
			fprintf(f, "%" PRId64 ",%d,%" PRId64 "\n", clock_us(), m->partition, m->offset + 1);
			count--;
		}
		rd_kafka_message_destroy(m);
	}
	if (fclose(f) != 0)
		fail("the file cannot be written");
}

int
main(int argc, char **argv)
{
	static rd_kafka_message_t *msgs[BATCH];
	rd_kafka_t *rk;
	rd_kafka_topic_t *rkt;
	rd_kafka_queue_t *queue;
	int			open;
	int64_t		records = 0;
	int64_t		bytes = 0;
	double		began;
	double		seconds;
	bool		arrivals = argc > 5 && strcmp(argv[3], "--arrived") == 0;

	if (argc < 3)
		fail("usage: bare_consumer BROKERS TOPIC [--arrived FILE COUNT] [NAME=VALUE …]");
	rk = connect_consumer(argc, argv, arrivals ? 6 : 3);
	rkt = rd_kafka_topic_new(rk, argv[2], NULL);
	queue = rd_kafka_queue_new(rk);
	began = now();
	open = start_all(rk, rkt, queue);
	if (arrivals)
	{
		write_arrivals(queue, argv[4], atoll(argv[5]));
		return 0;
	}

	while (open > 0)
	{
		ssize_t		n = rd_kafka_consume_batch_queue(queue, 100, msgs, BATCH);

		for (ssize_t i = 0; i < n; i++)
		{
			if (msgs[i]->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
				open--;
			else if (msgs[i]->err)
				fail(rd_kafka_message_errstr(msgs[i]));
			else
			{
				records++;
				bytes += (int64_t) msgs[i]->len;
			}
			rd_kafka_message_destroy(msgs[i]);
		}
	}
	seconds = now() - began;
	printf("%" PRId64 " records, %" PRId64 " bytes, %.3f s, %.0f records/s, %.3f CPU s per million\n",
		   records, bytes, seconds, (double) records / seconds,
		   records > 0 ? cpu() * 1e6 / (double) records : 0.0);
	return 0;
}
