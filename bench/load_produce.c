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
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

#define WORDS_A_LINE	10

typedef struct Options
{
	bool		lines;
	OutputTarget to;
	int64_t		count;
	uint64_t	seed;
	int64_t		keys;
	double		zipf;
} Options;

static double *cumulated;		/* zipf: of each key and those before it */

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

/* How many of the events were lost. */
static int64_t
produce(const Options *o)
{
	Output	   *out = output_open(&o->to);
	char		event[1024];

	for (int64_t i = 0; i < o->count; i++)
	{
		size_t		n = make_event(o, i, event, sizeof(event));

		output_put(out, event, n);
	}
	return output_close(out);
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
			case 't': o->to.topic = optarg; break;
			case 'b': o->to.brokers = optarg; break;
			case 'f': o->to.file = optarg; break;
			case 'n': o->count = atoll(optarg); break;
			case 's': o->seed = strtoull(optarg, NULL, 10); break;
			case 'k': o->keys = atoll(optarg); break;
			case 'z': o->zipf = atof(optarg); break;
			case 'p': o->to.partitions = atoi(optarg); break;
			default: usage();
		}
	if (optind < argc - 1 || o->keys <= 0 || (!o->to.file && (!o->to.topic || !o->to.brokers)))
		usage();
}

int
main(int argc, char **argv)
{
	Options		o = {.count = 1000000, .seed = 1};

	parse_options(&o, argc, argv);
	if (o.zipf > 0)
		prepare_zipf(&o);
	return produce(&o) > 0;
}
