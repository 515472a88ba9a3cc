/*-------------------------------------------------------------------------
 *
 * mock.c
 *		librdkafka's mock cluster as a stand-alone broker, for machines where a
 *		real Kafka can't be had.
 *
 * usage: mock [BROKERS [TOPIC=PARTITIONS …]]
 *
 * Prints the bootstrap servers on one line and serves until the end of its input.
 * Commands on standard input, one a line, each answered with "ok" or an error:
 *
 *		topic NAME PARTITIONS	makes a topic
 *		down BROKER				closes a broker's connections and refuses new ones
 *		up BROKER
 *		rtt BROKER MS			delays its answers
 *		leader TOPIC PARTITION BROKER	-1: leaderless
 *		error API COUNT CODE	the next COUNT answers to requests of this kind (1 fetch,
 *								2 list offsets, 3 metadata) are this error
 *
 * It keeps 5 MiB a partition, shows aborted transactions, and delays an empty fetch
 * by the whole fetch.wait.max.ms, so figures taken on it mean little.
 *
 *-------------------------------------------------------------------------
 */
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
fail(const char *text)
{
	fprintf(stderr, "mock: %s\n", text);
	exit(1);
}

static rd_kafka_resp_err_t
run_command(rd_kafka_mock_cluster_t *cluster, const char *line)
{
	char		topic[256];
	int			a;
	int			b;
	int			c;

	if (sscanf(line, "topic %255s %d", topic, &a) == 2)
		return rd_kafka_mock_topic_create(cluster, topic, a, 1);
	if (sscanf(line, "down %d", &a) == 1)
		return rd_kafka_mock_broker_set_down(cluster, a);
	if (sscanf(line, "up %d", &a) == 1)
		return rd_kafka_mock_broker_set_up(cluster, a);
	if (sscanf(line, "rtt %d %d", &a, &b) == 2)
		return rd_kafka_mock_broker_set_rtt(cluster, a, b);
	if (sscanf(line, "leader %255s %d %d", topic, &a, &b) == 3)
		return rd_kafka_mock_partition_set_leader(cluster, topic, a, b);
	if (sscanf(line, "error %d %d %d", &a, &b, &c) == 3)
	{
		while (b-- > 0)
			rd_kafka_mock_push_request_errors(cluster, (int16_t) a, 1, (rd_kafka_resp_err_t) c);
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	}
	return RD_KAFKA_RESP_ERR__INVALID_ARG;
}

int
main(int argc, char **argv)
{
	char		error[512];
	char		line[1024];
	rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), error, sizeof(error));
	rd_kafka_mock_cluster_t *cluster;

	if (rk == NULL)
		fail(error);
	cluster = rd_kafka_mock_cluster_new(rk, argc > 1 ? atoi(argv[1]) : 1);
	if (cluster == NULL)
		fail("could not start the mock cluster");
	for (int i = 2; i < argc; i++)
	{
		char	   *partitions = strchr(argv[i], '=');

		if (partitions == NULL)
			fail("usage: mock [BROKERS [TOPIC=PARTITIONS …]]");
		*partitions++ = '\0';
		if (rd_kafka_mock_topic_create(cluster, argv[i], atoi(partitions), 1) != 0)
			fail("could not make a topic");
	}

	printf("%s\n", rd_kafka_mock_cluster_bootstraps(cluster));
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL)
	{
		rd_kafka_resp_err_t err = run_command(cluster, line);

		printf("%s\n", err ? rd_kafka_err2str(err) : "ok");
		fflush(stdout);
	}
	rd_kafka_mock_cluster_destroy(cluster);
	rd_kafka_destroy(rk);
	return 0;
}
