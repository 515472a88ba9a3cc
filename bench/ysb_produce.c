/*-------------------------------------------------------------------------
 *
 * ysb_produce.c
 *		Makes the ad events of the Yahoo Streaming Benchmark.
 *
 * usage: ysb_produce --topic NAME --brokers HOST:PORT [options]
 *        ysb_produce --file PATH|- [options]          JSON lines instead
 *        ysb_produce --ads                            CSV: ad_id,campaign_id
 *
 *		--count N			events (default 1000000)
 *		--seed N			the same seed makes the same events (default 1)
 *		--partitions N		round robin over so many (default: as the topic has)
 *		--rate N			events per second (default 0: as fast as it goes)
 *		--start MS			event time of the first one (default 1700000000000)
 *		--step US			event time between two (default 100 microseconds)
 *		--disorder MS		an event may be this much older than its place
 *		--time ms|iso		how event_time is written (default ms)
 *		--clock				event time is the clock's at sending
 *		--linger MS			of the library (default 20, with a rate 0)
 *		--sent FILE			when each was handed to the library, in microseconds, as text
 *
 * Event i depends on seed and i alone.  1,000 ads belong to 100 campaigns; their
 * ids do not depend on the seed, so one table of ads serves all runs.
 *
 *-------------------------------------------------------------------------
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "output.h"

#define ADS				1000
#define ADS_PER_CAMPAIGN 10

typedef struct Options
{
	OutputTarget to;
	bool		print_ads;
	int64_t		count;
	uint64_t	seed;
	double		rate;
	int64_t		start_ms;
	int64_t		step_us;
	int64_t		disorder_ms;
	bool		iso;
	bool		clock;
	const char *sent;
} Options;

#define AHEAD_US		200		/* it sleeps no shorter than this: sleeping costs more */

static void
format_uuid(char *to, uint64_t a, uint64_t b)
{
	static const char digit[] = "0123456789abcdef";

	for (int i = 0, n = 0; i < 36; i++)
	{
		if (i == 8 || i == 13 || i == 18 || i == 23)
			to[i] = '-';
		else
		{
			uint64_t	word = n < 16 ? a : b;

			to[i] = digit[(word >> (60 - 4 * (n % 16))) & 15];
			n++;
		}
	}
	to[36] = '\0';
}

static void
ad_uuid(char *to, int ad)
{
	format_uuid(to, mix(1000003 + (uint64_t) ad), mix(2000003 + (uint64_t) ad));
}

static void
campaign_uuid(char *to, int ad)
{
	uint64_t	campaign = (uint64_t) (ad / ADS_PER_CAMPAIGN);

	format_uuid(to, mix(3000017 + campaign), mix(4000037 + campaign));
}

static void
print_ads(void)
{
	for (int ad = 0; ad < ADS; ad++)
	{
		char		id[37];
		char		campaign[37];

		ad_uuid(id, ad);
		campaign_uuid(campaign, ad);
		printf("%s,%s\n", id, campaign);
	}
}

static int64_t
now_us(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void
format_time(char *to, size_t size, int64_t us, bool iso)
{
	time_t		sec = (time_t) (us / 1000000);
	struct tm	tm;
	char		day[32];

	if (!iso)
	{
		snprintf(to, size, "%" PRId64, us / 1000);
		return;
	}
	gmtime_r(&sec, &tm);
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(to, size, "\"%s.%03dZ\"", day, (int) (us / 1000 % 1000));
}

/* Event i as JSON; its length. */
static size_t
make_event(const Options *o, int64_t i, char *to, size_t size)
{
	static const char *const ad_types[] = {"banner", "modal", "sponsored-search", "mail", "mobile"};
	static const char *const event_types[] = {"view", "click", "purchase"};
	uint64_t	r = mix(o->seed * UINT64_C(0x100000001b3) + (uint64_t) i);
	uint64_t	q = mix(r);
	int64_t		us = o->clock ? now_us(CLOCK_REALTIME) : o->start_ms * 1000 + i * o->step_us;
	char		user[37];
	char		page[37];
	char		ad[37];
	char		when[64];

	if (o->disorder_ms > 0)
		us -= (int64_t) (mix(q) % (uint64_t) (o->disorder_ms * 1000 + 1));
	format_uuid(user, mix(r % 100000), r % 100000);
	format_uuid(page, mix(q % 10000), q % 10000);
	ad_uuid(ad, (int) ((r >> 20) % ADS));
	format_time(when, sizeof(when), us, o->iso);
	return (size_t) snprintf(to, size,
							 "{\"user_id\":\"%s\",\"page_id\":\"%s\",\"ad_id\":\"%s\","
							 "\"ad_type\":\"%s\",\"event_type\":\"%s\","
							 "\"event_time\":%s,\"ip_address\":\"%d.%d.%d.%d\"}",
							 user, page, ad, ad_types[(r >> 40) % 5],
							 event_types[(q >> 40) % 3], when,
							 (int) (q & 255), (int) (q >> 8 & 255),
							 (int) (q >> 16 & 255), (int) (q >> 24 & 255));
}

/* Sleeps until event i is due. */
static void
pace(const Options *o, int64_t began_us, int64_t i)
{
	int64_t		due;
	int64_t		now;

	if (o->rate <= 0)
		return;
	due = began_us + (int64_t) ((double) i * 1e6 / o->rate);
	now = now_us(CLOCK_MONOTONIC);
	if (due > now + AHEAD_US)
	{
		struct timespec t = {(due - now) / 1000000, (due - now) % 1000000 * 1000};

		nanosleep(&t, NULL);
	}
}

/* One line an event, in order: event i is in partition i % partitions. */
static void
write_sent(const char *path, const int64_t *sent, int64_t n)
{
	FILE	   *f = fopen(path, "w");

	for (int64_t i = 0; f != NULL && i < n; i++)
		fprintf(f, "%" PRId64 "\n", sent[i]);
	if (f == NULL || fclose(f) != 0)
	{
		perror(path);
		exit(1);
	}
}

/* How many of the events were lost. */
static int64_t
produce(const Options *o)
{
	Output	   *out = output_open(&o->to);
	int64_t		began = now_us(CLOCK_MONOTONIC);
	int64_t    *sent = o->sent ? malloc((size_t) o->count * sizeof(int64_t)) : NULL;
	char		event[1024];
	double		seconds;
	int64_t		lost;

	for (int64_t i = 0; i < o->count; i++)
	{
		size_t		n;

		pace(o, began, i);
		n = make_event(o, i, event, sizeof(event));
		if (sent != NULL)
			sent[i] = now_us(CLOCK_REALTIME);
		output_put(out, event, n);
	}
	lost = output_close(out);
	seconds = (double) (now_us(CLOCK_MONOTONIC) - began) / 1e6;
	if (o->to.file == NULL)
		fprintf(stderr, "produced %" PRId64 " events in %.2f s (%.0f/s), lost %" PRId64 "\n",
				o->count, seconds, (double) o->count / seconds, lost);
	if (sent != NULL)
		write_sent(o->sent, sent, o->count);
	free(sent);
	return lost;
}

static void
usage(void)
{
	fprintf(stderr, "usage: ysb_produce --topic NAME --brokers HOST:PORT | --file PATH | --ads\n"
			"       [--count N] [--seed N] [--partitions N] [--rate N] [--start MS]\n"
			"       [--step US] [--disorder MS] [--time ms|iso] [--clock] [--linger MS] [--sent FILE]\n");
	exit(2);
}

static void
parse_options(Options *o, int argc, char **argv)
{
	static const struct option longs[] = {
		{"topic", required_argument, NULL, 't'}, {"brokers", required_argument, NULL, 'b'},
		{"file", required_argument, NULL, 'f'}, {"ads", no_argument, NULL, 'a'},
		{"count", required_argument, NULL, 'n'}, {"seed", required_argument, NULL, 's'},
		{"partitions", required_argument, NULL, 'p'}, {"rate", required_argument, NULL, 'r'},
		{"start", required_argument, NULL, 'S'}, {"step", required_argument, NULL, 'u'},
		{"disorder", required_argument, NULL, 'd'}, {"time", required_argument, NULL, 'T'},
		{"clock", no_argument, NULL, 'c'},
		{"sent", required_argument, NULL, 'w'}, {"linger", required_argument, NULL, 'l'}, {0}
	};
	int			c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1)
		switch (c)
		{
			case 't': o->to.topic = optarg; break;
			case 'b': o->to.brokers = optarg; break;
			case 'f': o->to.file = optarg; break;
			case 'a': o->print_ads = true; break;
			case 'n': o->count = atoll(optarg); break;
			case 's': o->seed = strtoull(optarg, NULL, 10); break;
			case 'p': o->to.partitions = atoi(optarg); break;
			case 'r': o->rate = atof(optarg); break;
			case 'S': o->start_ms = atoll(optarg); break;
			case 'u': o->step_us = atoll(optarg); break;
			case 'd': o->disorder_ms = atoll(optarg); break;
			case 'T': o->iso = strcmp(optarg, "iso") == 0; break;
			case 'c': o->clock = true; break;
			case 'l': o->to.linger = optarg; break;
			case 'w': o->sent = optarg; break;
			default: usage();
		}
	if (optind < argc || (!o->print_ads && !o->to.file && (!o->to.topic || !o->to.brokers)))
		usage();
	if (o->to.linger == NULL && o->rate > 0)
		o->to.linger = "0";
}

int
main(int argc, char **argv)
{
	Options		o = {.count = 1000000, .seed = 1, .start_ms = INT64_C(1700000000000), .step_us = 100};

	parse_options(&o, argc, argv);
	if (!o.print_ads)
		return produce(&o) > 0;
	print_ads();
	return 0;
}
