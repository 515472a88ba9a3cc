/*-------------------------------------------------------------------------
 *
 * nexmark_produce.c
 *		Makes the events of Nexmark: persons, auctions and bids.
 *
 * usage: nexmark_produce --topic NAME --brokers HOST:PORT [options]
 *        nexmark_produce --file PATH|- [options]      JSON lines instead
 *
 *		--count N			events (default 1000000)
 *		--seed N			the same seed makes the same events (default 1)
 *		--event-rate N		events per second of event time (default 10000)
 *		--start MS			event time of the first one (default 1700000000000)
 *		--shuffle MS		an event comes less than so much event time too late (default 0)
 *		--partitions N		round robin over so many (default: as the topic has)
 *
 * Proportions, hot keys, prices and sizes are those of the usual generator: of 50 events
 * one is a person, three are auctions and 46 are bids.  Event n depends on the seed and n
 * alone.  All three kinds are flat JSON objects told apart by event_type (0, 1, 2).
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
#include <time.h>

#include "output.h"

#define TOTAL			50		/* one person, three auctions, 46 bids */
#define PERSONS			1
#define AUCTIONS		3
#define FIRST_ID		1000
#define FIRST_CATEGORY	10
#define CATEGORIES		5
#define LEAD			10		/* ids that are named before they exist */
#define ACTIVE_PERSONS	1000
#define IN_FLIGHT		100		/* auctions open at a time */
#define HOT_GROUP		100
#define CHANNELS		10000
#define EVENT_SIZE		2048

typedef struct Options
{
	OutputTarget to;
	int64_t		count;
	uint64_t	seed;
	double		event_rate;
	int64_t		start_ms;
	int64_t		shuffle_ms;
} Options;

/* Where an event stands after shuffling. */
typedef struct Place
{
	int64_t		at;				/* microseconds */
	int64_t		n;
} Place;

typedef struct Random
{
	uint64_t	state;
} Random;

/* ---------- random numbers ---------- */

static uint64_t
next(Random *r)
{
	r->state += MIX_STEP;
	return stir(r->state);
}

static Random
random_of(const Options *o, int64_t n, uint64_t purpose)
{
	Random		r = {stir(o->seed * UINT64_C(0x100000001b3) + purpose) ^ stir((uint64_t) n)};

	return r;
}

/* 0 … n - 1 */
static int64_t
below(Random *r, int64_t n)
{
	return (int64_t) (next(r) % (uint64_t) n);
}

static double
unit(Random *r)
{
	return (double) (next(r) >> 11) / 9007199254740992.0;
}

static int64_t
price(Random *r)
{
	return (int64_t) llround(pow(10.0, unit(r) * 6.0) * 100.0);
}

/* Letters, and a space or an underscore now and then; none at the ends. */
static char *
letters(Random *r, char *to, int64_t length)
{
	char		special = (next(r) & 1) ? ' ' : '_';

	for (int64_t i = 0; i < length; i++)
		to[i] = below(r, 13) == 0 && i > 0 && i < length - 1 ? special : (char) ('a' + below(r, 26));
	to[length] = '\0';
	return to;
}

static char *
text(Random *r, char *to, int64_t most)
{
	return letters(r, to, 3 + below(r, most - 3));
}

/* What brings a record to about the wanted size. */
static char *
extra(Random *r, char *to, int64_t current, int64_t wanted)
{
	int64_t		missing = wanted - current;
	int64_t		from = missing * 8 / 10;

	if (missing <= 0)
	{
		to[0] = '\0';
		return to;
	}
	return letters(r, to, from + below(r, missing * 4 / 10 + 1));
}

/* ---------- times and ids ---------- */

static int64_t
event_ms(const Options *o, int64_t n)
{
	return o->start_ms + (int64_t) ((double) n * 1000.0 / o->event_rate);
}

static void
format_ms(char *to, size_t size, int64_t ms)
{
	time_t		sec = (time_t) (ms / 1000);
	struct tm	tm;
	char		day[32];

	gmtime_r(&sec, &tm);
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(to, size, "%s.%03d", day, (int) (ms % 1000));
}

static int64_t
last_person(int64_t n)
{
	return n / TOTAL;
}

static int64_t
last_auction(int64_t n)
{
	int64_t		epoch = n / TOTAL;
	int64_t		offset = n % TOTAL;

	if (offset < PERSONS)
	{
		epoch--;
		offset = AUCTIONS - 1;
	}
	else if (offset >= PERSONS + AUCTIONS)
		offset = AUCTIONS - 1;
	else
		offset -= PERSONS;
	return epoch * AUCTIONS + offset;
}

static int64_t
any_person(Random *r, int64_t n)
{
	int64_t		persons = last_person(n) + 1;
	int64_t		active = persons < ACTIVE_PERSONS ? persons : ACTIVE_PERSONS;

	return persons - active + below(r, active + LEAD);
}

static int64_t
any_auction(Random *r, int64_t n)
{
	int64_t		last = last_auction(n);
	int64_t		first = last > IN_FLIGHT ? last - IN_FLIGHT : 0;

	return first + below(r, (last > first ? last - first : 0) + 1 + LEAD);
}

/* ---------- the three kinds of events ---------- */

static int
make_person(const Options *o, Random *r, int64_t n, char *to, size_t size)
{
	static const char *const first[] = {"Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate",
		"Julie", "Sarah", "Deiter", "Walter"};
	static const char *const last[] = {"Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton",
		"Smith", "Jones", "Noris"};
	static const char *const city[] = {"Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland",
		"Bend", "Redmond", "Seattle", "Kent", "Cheyenne"};
	static const char *const state[] = {"AZ", "CA", "ID", "OR", "WA", "WY"};
	char		name[32];
	char		mail[32];
	char		card[24];
	char		user[16];
	char		host[16];
	char		when[40];
	char		rest[512];
	const char *town = city[below(r, 10)];
	const char *where = state[below(r, 6)];

	snprintf(name, sizeof(name), "%s %s", first[below(r, 11)], last[below(r, 9)]);
	snprintf(mail, sizeof(mail), "%s@%s.com", text(r, user, 7), text(r, host, 5));
	snprintf(card, sizeof(card), "%04d %04d %04d %04d", (int) below(r, 10000), (int) below(r, 10000),
			 (int) below(r, 10000), (int) below(r, 10000));
	format_ms(when, sizeof(when), event_ms(o, n));
	extra(r, rest, 16 + (int64_t) (strlen(name) + strlen(mail) + strlen(card) + strlen(town) + 2), 200);
	return snprintf(to, size, "{\"event_type\":0,\"id\":%" PRId64 ",\"name\":\"%s\",\"email_address\":\"%s\","
					"\"credit_card\":\"%s\",\"city\":\"%s\",\"state\":\"%s\",\"date_time\":\"%s\",\"extra\":\"%s\"}",
					last_person(n) + FIRST_ID, name, mail, card, town, where, when, rest);
}

static int
make_auction(const Options *o, Random *r, int64_t n, char *to, size_t size)
{
	char		item[32];
	char		description[128];
	char		when[40];
	char		until[40];
	char		rest[768];
	int64_t		now = event_ms(o, n);
	int64_t		horizon = event_ms(o, n + IN_FLIGHT * TOTAL / AUCTIONS) - now;
	int64_t		initial = price(r);
	int64_t		reserve = initial + price(r);
	int64_t		seller = below(r, 4) > 0 ? last_person(n) / HOT_GROUP * HOT_GROUP : any_person(r, n);
	int64_t		category = FIRST_CATEGORY + below(r, CATEGORIES);

	text(r, item, 20);
	text(r, description, 100);
	format_ms(when, sizeof(when), now);
	format_ms(until, sizeof(until), now + 1 + below(r, horizon * 2 > 1 ? horizon * 2 : 1));
	extra(r, rest, 64 + (int64_t) (strlen(item) + strlen(description)), 500);
	return snprintf(to, size, "{\"event_type\":1,\"id\":%" PRId64 ",\"item_name\":\"%s\",\"description\":\"%s\","
					"\"initial_bid\":%" PRId64 ",\"reserve\":%" PRId64 ",\"date_time\":\"%s\",\"expires\":\"%s\","
					"\"seller\":%" PRId64 ",\"category\":%" PRId64 ",\"extra\":\"%s\"}",
					last_auction(n) + FIRST_ID, item, description, initial, reserve, when, until,
					seller + FIRST_ID, category, rest);
}

/* A cold channel's address depends on its number alone. */
static void
channel_url(char *url, size_t size, int channel)
{
	Random		r = {stir((uint64_t) channel + 77)};
	char		part[3][16];
	uint32_t	reversed = 0;
	int			used;

	for (int i = 0; i < 3; i++)
	{
		letters(&r, part[i], 5);
		for (char *c = part[i]; *c; c++)
			*c = *c == ' ' ? '_' : *c;
	}
	for (int i = 0; i < 32; i++)
		reversed |= (((uint32_t) channel >> i) & 1u) << (31 - i);
	used = snprintf(url, size, "https://www.nexmark.com/%s/%s/%s/item.htm?query=1", part[0], part[1], part[2]);
	if (below(&r, 10) > 0)
		snprintf(url + used, size - (size_t) used, "&channel_id=%" PRIu32, reversed & 0x7fffffff);
}

static int
make_bid(const Options *o, Random *r, int64_t n, char *to, size_t size)
{
	static const char *const hot[] = {"Google", "Facebook", "Baidu", "Apple"};
	char		channel[32];
	char		url[160];
	char		when[40];
	char		rest[256];
	int64_t		auction = below(r, 2) > 0 ? last_auction(n) / HOT_GROUP * HOT_GROUP : any_auction(r, n);
	int64_t		bidder = below(r, 4) > 0 ? last_person(n) / HOT_GROUP * HOT_GROUP + 1 : any_person(r, n);
	int64_t		offered = price(r);

	if (below(r, 2) > 0)
	{
		int			which = (int) below(r, 4);

		snprintf(channel, sizeof(channel), "%s", hot[which]);
		channel_url(url, sizeof(url), CHANNELS + which);
	}
	else
	{
		int			which = (int) below(r, CHANNELS);

		snprintf(channel, sizeof(channel), "channel-%d", which);
		channel_url(url, sizeof(url), which);
	}
	format_ms(when, sizeof(when), event_ms(o, n));
	extra(r, rest, 32, 100);
	return snprintf(to, size, "{\"event_type\":2,\"auction\":%" PRId64 ",\"bidder\":%" PRId64 ",\"price\":%" PRId64 ","
					"\"channel\":\"%s\",\"url\":\"%s\",\"date_time\":\"%s\",\"extra\":\"%s\"}",
					auction + FIRST_ID, bidder + FIRST_ID, offered, channel, url, when, rest);
}

static size_t
make_event(const Options *o, int64_t n, char *to)
{
	Random		r = random_of(o, n, 1);
	int64_t		kind = n % TOTAL;

	if (kind < PERSONS)
		return (size_t) make_person(o, &r, n, to, EVENT_SIZE);
	if (kind < PERSONS + AUCTIONS)
		return (size_t) make_auction(o, &r, n, to, EVENT_SIZE);
	return (size_t) make_bid(o, &r, n, to, EVENT_SIZE);
}

/* ---------- order ---------- */

static int
by_place(const void *a, const void *b)
{
	const Place *x = a;
	const Place *y = b;

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return x->n < y->n ? -1 : x->n > y->n;
}

/* The events in the order in which they are sent; NULL: their own. */
static Place *
shuffled(const Options *o)
{
	Place	   *places;

	if (o->shuffle_ms <= 0)
		return NULL;
	places = malloc((size_t) o->count * sizeof(Place));
	if (places == NULL)
		fail("out of memory");
	for (int64_t n = 0; n < o->count; n++)
	{
		Random		r = random_of(o, n, 2);

		places[n].n = n;
		places[n].at = event_ms(o, n) * 1000 + below(&r, o->shuffle_ms * 1000);
	}
	qsort(places, (size_t) o->count, sizeof(Place), by_place);
	return places;
}

/* ---------- where they go ---------- */

/* How many of the events were lost. */
static int64_t
produce(const Options *o, const Place *places)
{
	Output	   *out = output_open(&o->to);
	char		event[EVENT_SIZE];

	for (int64_t i = 0; i < o->count; i++)
	{
		size_t		length = make_event(o, places ? places[i].n : i, event);

		output_put(out, event, length);
	}
	return output_close(out);
}

static void
usage(void)
{
	fprintf(stderr, "usage: nexmark_produce --topic NAME --brokers HOST:PORT | --file PATH\n"
			"       [--count N] [--seed N] [--event-rate N] [--start MS] [--shuffle MS] [--partitions N]\n");
	exit(2);
}

static void
parse_options(Options *o, int argc, char **argv)
{
	static const struct option longs[] = {
		{"topic", required_argument, NULL, 't'}, {"brokers", required_argument, NULL, 'b'},
		{"file", required_argument, NULL, 'f'}, {"count", required_argument, NULL, 'n'},
		{"seed", required_argument, NULL, 's'}, {"event-rate", required_argument, NULL, 'r'},
		{"start", required_argument, NULL, 'S'}, {"shuffle", required_argument, NULL, 'd'},
		{"partitions", required_argument, NULL, 'p'}, {0}
	};
	int			c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1)
		switch (c)
		{
			case 't': o->to.topic = optarg; break;
			case 'b': o->to.brokers = optarg; break;
			case 'f': o->to.file = optarg; break;
			case 'n': o->count = atoll(optarg); break;
			case 's': o->seed = strtoull(optarg, NULL, 10); break;
			case 'r': o->event_rate = atof(optarg); break;
			case 'S': o->start_ms = atoll(optarg); break;
			case 'd': o->shuffle_ms = atoll(optarg); break;
			case 'p': o->to.partitions = atoi(optarg); break;
			default: usage();
		}
	if (optind < argc || (!o->to.file && (!o->to.topic || !o->to.brokers)) || o->event_rate <= 0 || o->count < 1)
		usage();
}

int
main(int argc, char **argv)
{
	Options		o = {.count = 1000000, .seed = 1, .event_rate = 10000, .start_ms = INT64_C(1700000000000)};
	Place	   *places;
	int64_t		lost;

	parse_options(&o, argc, argv);
	places = shuffled(&o);
	lost = produce(&o, places);
	free(places);
	return lost > 0;
}
