/*-------------------------------------------------------------------------
 *
 * wide_produce.c
 *		Makes records of 200 columns.
 *
 * usage: wide_produce BROKERS TOPIC COUNT        into a topic, round robin
 *        wide_produce - - COUNT                  JSON lines instead
 *
 * Column c0 … c199 of record i: by number modulo 4 an integer, a text of 8
 * characters, a decimal number, a boolean.  They depend on i and the column alone.
 * c1 has 100 values.
 *
 *-------------------------------------------------------------------------
 */
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 200

static uint64_t
mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static int
make_record(char *to, size_t room, int64_t i)
{
	size_t		n = 0;

	for (int c = 0; c < COLUMNS; c++)
	{
		uint64_t	x = mix((uint64_t) i * COLUMNS + c);

		n += snprintf(to + n, room - n, "%s\"c%d\":", c == 0 ? "{" : ",", c);
		if (c == 1)
			n += snprintf(to + n, room - n, "\"key%05d\"", (int) (x % 100));
		else if (c % 4 == 0)
			n += snprintf(to + n, room - n, "%d", (int) (x % 1000000));
		else if (c % 4 == 1)
			n += snprintf(to + n, room - n, "\"%08x\"", (unsigned) x);
		else if (c % 4 == 2)
			n += snprintf(to + n, room - n, "%d.%02d", (int) (x % 1000), (int) (x >> 32) % 100 & 63);
		else
			n += snprintf(to + n, room - n, "%s", x % 2 ? "true" : "false");
	}
	n += snprintf(to + n, room - n, "}");
	return (int) n;
}

static void
fail(const char *text)
{
	fprintf(stderr, "wide_produce: %s\n", text);
	exit(1);
}

static void
produce(const char *brokers, const char *topic, int64_t count)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	const struct rd_kafka_metadata *md;
	char		error[512];
	char		record[16384];
	rd_kafka_t *rk;
	rd_kafka_topic_t *rkt;
	int			partitions;

	if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, error, sizeof(error)) != RD_KAFKA_CONF_OK ||
		rd_kafka_conf_set(conf, "linger.ms", "20", error, sizeof(error)) != RD_KAFKA_CONF_OK ||
		(rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error))) == NULL)
		fail(error);
	rkt = rd_kafka_topic_new(rk, topic, NULL);
	if (rd_kafka_metadata(rk, 0, rkt, &md, 10000) != 0 || md->topics[0].partition_cnt == 0)
		fail("there is no such topic");
	partitions = md->topics[0].partition_cnt;
	rd_kafka_metadata_destroy(md);
	for (int64_t i = 0; i < count; i++)
	{
		int			len = make_record(record, sizeof(record), i);

		while (rd_kafka_produce(rkt, (int32_t) (i % partitions), RD_KAFKA_MSG_F_COPY,
								record, (size_t) len, NULL, 0, NULL) != 0)
		{
			if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
				fail(rd_kafka_err2str(rd_kafka_last_error()));
			rd_kafka_poll(rk, 100);
		}
		rd_kafka_poll(rk, 0);
	}
	if (rd_kafka_flush(rk, 60000) != 0)
		fail("the broker did not take all of it");
}

int
main(int argc, char **argv)
{
	char		record[16384];

	if (argc != 4)
		fail("usage: wide_produce BROKERS TOPIC COUNT");
	if (strcmp(argv[1], "-") != 0)
		produce(argv[1], argv[2], atoll(argv[3]));
	else
	{
		for (int64_t i = 0; i < atoll(argv[3]); i++)
			printf("%.*s\n", make_record(record, sizeof(record), i), record);
	}
	return 0;
}
