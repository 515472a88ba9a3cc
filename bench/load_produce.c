/*-------------------------------------------------------------------------
 *
 * load_produce.c
 *		Makes events with keys, or lines of words, into a topic or as lines.
 *
 * usage: load_produce keys|lines --topic NAME --brokers HOST:PORT [options]
 *        load_produce keys|lines --file PATH|- [options]
 *
 *		--count N			events (default 1000000)
 *		--seed N			the same seed makes the same events (default 1)
 *		--keys N			different keys, or words (default 1000000, words 10000)
 *		--zipf S			keys by Zipf's law with this exponent (default 0: uniform)
 *		--partitions N		round robin over so many (default: as the topic has)
 *
 * keys: {"key":123456,"value":789,"id":1000000000}, some 45 bytes.
 * lines: ten words with a space between; word n is "w" and n in base 26.
 * Event i depends on seed and i alone.
 *
 *-------------------------------------------------------------------------
 */
#include <getopt.h>
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_A_LINE	10

typedef struct Options
{
	bool		lines;
	const char *topic;
	const char *brokers;
	const char *file;
	int64_t		count;
	uint64_t	seed;
	int64_t		keys;
	double		zipf;
	int			partitions;
} Options;

static int64_t lost;			/* events that the broker did not take */
static double *cumulated;		/* zipf: of each key and those before it */

static void
fail(const char *text)
{
	fprintf(stderr, "load_produce: %s\n", text);
	exit(1);
}

/* splitmix64: every input gives an independent-looking output. */
static uint64_t
mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static void
prepare_zipf(const Options *o)
{
	double		sum = 0;

	cumulated = malloc(sizeof(double) * (size_t) o->keys);
	if (cumulated == NULL)
		fail("out of memory");
	for (int64_t i = 0; i < o->keys; i++)
		cumulated[i] = sum += pow((double) (i + 1), -o->zipf);
}

static int64_t
make_key(const Options *o, uint64_t random)
{
	int64_t		low = 0;
	int64_t		high = o->keys - 1;
	double		at;

	if (o->zipf <= 0)
		return (int64_t) (random % (uint64_t) o->keys);
	at = (double) (random >> 11) / 9007199254740992.0 * cumulated[high];
	while (low < high)
	{
		int64_t		middle = (low + high) / 2;

		if (cumulated[middle] < at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static size_t
make_line(const Options *o, uint64_t random, char *to)
{
	char	   *end = to;

	for (int i = 0; i < WORDS_A_LINE; i++)
	{
		int64_t		key;

		random = mix(random);
		key = make_key(o, random);
		if (i > 0)
			*end++ = ' ';
		*end++ = 'w';
		do
			*end++ = (char) ('a' + key % 26);
		while ((key /= 26) > 0);
	}
	*end = '\0';
	return (size_t) (end - to);
}

static size_t
make_event(const Options *o, int64_t i, char *to, size_t size)
{
	uint64_t	random = mix(o->seed * UINT64_C(0x100000001b3) + (uint64_t) i);

	if (o->lines)
		return make_line(o, random, to);
	return (size_t) snprintf(to, size, "{\"key\":%" PRId64 ",\"value\":%d,\"id\":%" PRId64 "}",
							 make_key(o, random), (int) (mix(random) % 1000),
							 INT64_C(1000000000) + i);
}

static void
write_file(const Options *o)
{
	FILE	   *f = strcmp(o->file, "-") == 0 ? stdout : fopen(o->file, "w");
	char		event[1024];

	if (f == NULL)
		fail("cannot open the file");
	for (int64_t i = 0; i < o->count; i++)
	{
		size_t		n = make_event(o, i, event, sizeof(event) - 1);

		event[n++] = '\n';
		if (fwrite(event, 1, n, f) != n)
			fail("cannot write");
	}
	if (fclose(f) != 0)
		fail("cannot write");
}

static void
delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
	if (m->err && lost++ == 0)
		fprintf(stderr, "load_produce: %s\n", rd_kafka_err2str(m->err));
}

static rd_kafka_t *
connect_producer(const Options *o)
{
	const char *const properties[][2] = {
		{"bootstrap.servers", o->brokers}, {"enable.idempotence", "true"},
		{"queue.buffering.max.messages", "1000000"}, {"linger.ms", "20"}, {"batch.size", "1000000"}
	};
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char		error[512];
	rd_kafka_t *rk;

	for (size_t i = 0; i < sizeof(properties) / sizeof(properties[0]); i++)
		if (rd_kafka_conf_set(conf, properties[i][0], properties[i][1], error,
							  sizeof(error)) != RD_KAFKA_CONF_OK)
			fail(error);
	rd_kafka_conf_set_dr_msg_cb(conf, delivered);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	if (rk == NULL)
		fail(error);
	return rk;
}

static int
count_partitions(rd_kafka_t *rk, rd_kafka_topic_t *rkt)
{
	const struct rd_kafka_metadata *md;
	int			n = 0;

	if (rd_kafka_metadata(rk, 0, rkt, &md, 10000) == 0)
	{
		n = md->topic_cnt > 0 ? md->topics[0].partition_cnt : 0;
		rd_kafka_metadata_destroy(md);
	}
	if (n == 0)
		fail("the topic has no partitions, or the broker is away");
	return n;
}

static void
produce(const Options *o)
{
	rd_kafka_t *rk = connect_producer(o);
	rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, o->topic, NULL);
	int			partitions = o->partitions ? o->partitions : count_partitions(rk, rkt);
	char		event[1024];

	for (int64_t i = 0; i < o->count; i++)
	{
		size_t		n = make_event(o, i, event, sizeof(event));

		while (rd_kafka_produce(rkt, (int32_t) (i % partitions), RD_KAFKA_MSG_F_COPY,
								event, n, NULL, 0, NULL) != 0)
		{
			if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
				fail(rd_kafka_err2str(rd_kafka_last_error()));
			rd_kafka_poll(rk, 10);
		}
		if (i % 1000 == 0)
			rd_kafka_poll(rk, 0);
	}
	rd_kafka_flush(rk, 120000);
	lost += rd_kafka_outq_len(rk);
	rd_kafka_topic_destroy(rkt);
	rd_kafka_destroy(rk);
}

static void
usage(void)
{
	fprintf(stderr, "usage: load_produce keys|lines --topic NAME --brokers HOST:PORT | --file PATH\n"
			"       [--count N] [--seed N] [--keys N] [--zipf S] [--partitions N]\n");
	exit(2);
}

static void
parse_options(Options *o, int argc, char **argv)
{
	static const struct option longs[] = {
		{"topic", required_argument, NULL, 't'}, {"brokers", required_argument, NULL, 'b'},
		{"file", required_argument, NULL, 'f'}, {"count", required_argument, NULL, 'n'},
		{"seed", required_argument, NULL, 's'}, {"keys", required_argument, NULL, 'k'},
		{"zipf", required_argument, NULL, 'z'}, {"partitions", required_argument, NULL, 'p'}, {0}
	};
	int			c;

	if (argc < 2 || (strcmp(argv[1], "keys") != 0 && strcmp(argv[1], "lines") != 0))
		usage();
	o->lines = strcmp(argv[1], "lines") == 0;
	o->keys = o->lines ? 10000 : 1000000;
	while ((c = getopt_long(argc - 1, argv + 1, "", longs, NULL)) != -1)
		switch (c)
		{
			case 't': o->topic = optarg; break;
			case 'b': o->brokers = optarg; break;
			case 'f': o->file = optarg; break;
			case 'n': o->count = atoll(optarg); break;
			case 's': o->seed = strtoull(optarg, NULL, 10); break;
			case 'k': o->keys = atoll(optarg); break;
			case 'z': o->zipf = atof(optarg); break;
			case 'p': o->partitions = atoi(optarg); break;
			default: usage();
		}
	if (optind < argc - 1 || o->keys <= 0 || (!o->file && (!o->topic || !o->brokers)))
		usage();
}

int
main(int argc, char **argv)
{
	Options		o = {.count = 1000000, .seed = 1};

	parse_options(&o, argc, argv);
	if (o.zipf > 0)
		prepare_zipf(&o);
	if (o.file)
		write_file(&o);
	else
		produce(&o);
	return lost > 0;
}
