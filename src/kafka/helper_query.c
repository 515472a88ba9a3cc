/*-------------------------------------------------------------------------
 *
 * helper_query.c
 *		streamext-kafka: the thread for requests that may block.
 *
 * It asks for the topics' metadata at the start, then as often as librdkafka itself
 * does (topic.metadata.refresh.interval.ms), and every second while it gets no answer:
 * that is how we learn of new partitions, and that the brokers are back.  In between it
 * looks up offsets for RESOLVE.  rd_kafka_offsets_for_times takes Kafka's -1 (end) and
 * -2 (beginning) for a time, which spares us rd_kafka_query_watermark_offsets, whose
 * time-out is not enforced in librdkafka 2.0.2.  The end is the last stable offset when
 * isolation.level is read_committed.
 *
 * It also asks when nobody wants to know, so that the threads of the brokers wake up
 * (helper_consume.c, refill): that has to be a request to each leader.  Followers that
 * client.rack makes it fetch from are not asked.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "helper.h"

#define METADATA_TIMEOUT	5000	/* ms */
#define BEHIND_FETCH		15000	/* ms; of a client that rests, longer than a Fetch waits */
#define RESOLVE_TIMEOUT		10000	/* ms */
#define SPUR_TIMEOUT		1000	/* ms; by then they wake up by themselves */

typedef struct ResolvePart
{
	int32_t		part;
	int32_t		topic;
	int32_t		partition;
	int64_t		when;
	int64_t		offset;			/* -1: not known, see err */
	rd_kafka_resp_err_t err;
} ResolvePart;

typedef struct ResolveRequest
{
	struct ResolveRequest *next;
	int			nparts;
	ResolvePart *parts;
} ResolveRequest;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;	/* waits on CLOCK_MONOTONIC, see helper_query_start */
static ResolveRequest *requests;	/* under lock */
static rd_kafka_topic_partition_list_t *spurred;	/* under lock: what to ask leaders for */
static bool soon;				/* under lock: metadata is wanted within a second */
static bool running;			/* under lock: there is a thread; a producer has none */

/* What was last reported of each topic, and of how many; of this thread. */
static int32_t known_partitions[SX_HELPER_MAX_TOPICS];
static int	reported_topics = -1;

/* ---------- metadata ---------- */

static const rd_kafka_metadata_topic_t *
find_topic(const struct rd_kafka_metadata *md, const char *name)
{
	for (int i = 0; i < md->topic_cnt; i++)
	{
		if (strcmp(md->topics[i].topic, name) == 0)
			return &md->topics[i];
	}
	return NULL;
}

/* Partitions of a topic, -1 with text when it has none to offer. */
static int32_t
count_partitions(const rd_kafka_metadata_topic_t *topic, const char **text)
{
	*text = "";
	if (topic == NULL || topic->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
		topic->err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC)
	{
		*text = "topic does not exist";
		return -1;
	}
	if (topic->err != RD_KAFKA_RESP_ERR_NO_ERROR &&
		topic->err != RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)
	{
		*text = rd_kafka_err2str(topic->err);
		return -1;
	}
	if (topic->partition_cnt == 0)
	{
		*text = "topic has no partitions yet";
		return -1;
	}
	return topic->partition_cnt;
}

/*
 * Words for a failed request.  For those that only say "nobody answered" the error
 * callback has said more already.
 */
static const char *
reason_of(rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR__TRANSPORT || err == RD_KAFKA_RESP_ERR__TIMED_OUT ||
		err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN ? "" : rd_kafka_err2str(err);
}

/* Only new or vanished partitions are news; a topic that goes away while it is read, more. */
static bool
note_partitions(Helper *h, int topic, int32_t n)
{
	int32_t		was = known_partitions[topic];
	char		text[256];

	if (n == was)
		return false;
	known_partitions[topic] = n;
	if (was > 0 && n < was)
	{
		snprintf(text, sizeof(text), "topic \"%.150s\" was deleted", h->topics[topic].name);
		helper_lose(h, text);
	}
	return true;
}

/* Who answers: it is known once there has been an answer. */
static void
put_cluster(Helper *h, HelperBuffer *b)
{
	char	   *id = rd_kafka_clusterid(h->rk, METADATA_TIMEOUT);

	helper_put_str(b, id ? id : "");
	if (id != NULL)
		rd_kafka_mem_free(h->rk, id);
}

/* How long metadata may take, in ms. */
static int
metadata_timeout(Helper *h)
{
	return h->rests ? BEHIND_FETCH + (int) helper_property(h, "fetch.wait.max.ms") :
		METADATA_TIMEOUT;
}

/* Partitions of our topics, as the list in METADATA says it; true: some have changed. */
static bool
put_partitions(Helper *h, int ntopics, const struct rd_kafka_metadata *md, HelperBuffer *list)
{
	bool		differs = false;

	for (int i = 0; i < ntopics; i++)
	{
		const char *text;
		int32_t		n = count_partitions(find_topic(md, h->topics[i].name), &text);

		differs |= note_partitions(h, i, n);
		helper_put_i32(list, n);
		helper_put_str(list, text);
	}
	return differs;
}

/*
 * Asks for all topics at once, as each answer may have to wait for a Fetch; reports what
 * changed.  False: no answer.
 */
static bool
query_metadata(Helper *h)
{
	HelperBuffer list = {0};
	HelperBuffer b = {0};
	int			ntopics = atomic_load(&h->ntopics);
	bool		differs = ntopics != reported_topics;

	if (ntopics > 0)
	{
		const struct rd_kafka_metadata *md;
		rd_kafka_resp_err_t err = rd_kafka_metadata(h->rk, 0, NULL, &md, metadata_timeout(h));

		if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			helper_send_status(h, false, err, reason_of(err));
			return false;
		}
		differs |= put_partitions(h, ntopics, md, &list);
		rd_kafka_metadata_destroy(md);
	}

	if (!atomic_load(&h->connected))
		helper_send_status(h, true, 0, "");
	if (differs)
	{
		put_cluster(h, &b);
		helper_put_u32(&b, (uint32_t) ntopics);
		helper_put(&b, list.data, list.len);
		helper_send(SX_MSG_METADATA, &b);
		reported_topics = ntopics;
	}
	free(list.data);
	return true;
}

/* Names of all topics that are nobody's but users', when they have changed. */
static bool
query_names(Helper *h)
{
	static uint64_t reported;
	const struct rd_kafka_metadata *md;
	rd_kafka_resp_err_t err = rd_kafka_metadata(h->rk, 1, NULL, &md, metadata_timeout(h));
	HelperBuffer list = {0};
	HelperBuffer b = {0};
	uint64_t	hash;
	uint32_t	n = 0;

	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		helper_send_status(h, false, err, reason_of(err));
		return false;
	}
	for (int i = 0; i < md->topic_cnt; i++)
	{
		if (md->topics[i].err == RD_KAFKA_RESP_ERR_NO_ERROR &&
			strncmp(md->topics[i].topic, "__", 2) != 0)
		{
			helper_put_str(&list, md->topics[i].topic);
			n++;
		}
	}
	rd_kafka_metadata_destroy(md);
	hash = sx_anchor_hash("", 0, list.data ? list.data : "", (int32_t) list.len);
	if (hash != reported)
	{
		helper_put_u32(&b, n);
		helper_put(&b, list.data, list.len);
		helper_send(SX_MSG_TOPICS, &b);
	}
	reported = hash;
	free(list.data);
	return true;
}

/* ---------- offsets ---------- */

/*
 * One look-up for the parts that have no offset yet; those whose time is past the
 * last record are asked for again with the end in its place.
 */
static void
resolve_once(Helper *h, ResolveRequest *r)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(r->nparts);
	rd_kafka_resp_err_t err;

	for (int i = 0; i < r->nparts; i++)
	{
		ResolvePart *p = &r->parts[i];

		if (p->offset < 0)
			rd_kafka_topic_partition_list_add(list, h->topics[p->topic].name,
											  p->partition)->offset = p->when;
	}
	err = rd_kafka_offsets_for_times(h->rk, list, RESOLVE_TIMEOUT);
	for (int i = 0; i < r->nparts; i++)
	{
		ResolvePart *p = &r->parts[i];
		rd_kafka_topic_partition_t *answer;

		if (p->offset >= 0)
			continue;
		answer = rd_kafka_topic_partition_list_find(list, h->topics[p->topic].name,
													p->partition);
		p->err = err != RD_KAFKA_RESP_ERR_NO_ERROR ? err : answer->err;
		if (p->err == RD_KAFKA_RESP_ERR_NO_ERROR && answer->offset >= 0)
			p->offset = answer->offset;
		else
			p->when = SX_OFFSET_LATEST;
	}
	rd_kafka_topic_partition_list_destroy(list);
}

static void
query_resolve(Helper *h, ResolveRequest *r)
{
	HelperBuffer b = {0};
	bool		again = false;

	resolve_once(h, r);
	for (int i = 0; i < r->nparts; i++)
		again |= r->parts[i].offset < 0 && r->parts[i].err == RD_KAFKA_RESP_ERR_NO_ERROR;
	if (again)
		resolve_once(h, r);

	helper_put_u32(&b, (uint32_t) r->nparts);
	for (int i = 0; i < r->nparts; i++)
	{
		ResolvePart *p = &r->parts[i];

		helper_put_i32(&b, p->part);
		helper_put_i64(&b, p->offset);
		helper_put_str(&b, p->offset >= 0 ? "" : rd_kafka_err2str(p->err));
	}
	helper_send(SX_MSG_RESOLVED, &b);
	free(r->parts);
	free(r);
}

/* From the data thread: a RESOLVE frame. */
void
helper_query_resolve(Helper *h, SxFrameReader *frame)
{
	ResolveRequest *r = helper_alloc(sizeof(ResolveRequest));
	ResolveRequest **last;
	uint32_t	n = sx_frame_u32(frame);

	/* each takes 20 bytes of the frame */
	if (n > (uint64_t) (frame->end - frame->next) / 20)
		helper_fail("a request for offsets is malformed");
	r->nparts = (int) n;
	r->parts = helper_alloc(n * sizeof(ResolvePart));
	for (uint32_t i = 0; i < n; i++)
	{
		ResolvePart *p = &r->parts[i];

		p->part = sx_frame_i32(frame);
		p->topic = sx_frame_i32(frame);
		p->partition = sx_frame_i32(frame);
		p->when = sx_frame_i64(frame);
		p->offset = -1;
		if (frame->failed || p->topic < 0 || p->topic >= h->ntopics)
			helper_fail("a request for offsets is malformed");
	}

	pthread_mutex_lock(&lock);
	for (last = &requests; *last != NULL; last = &(*last)->next)
		;
	*last = r;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
}

/* Puts a list in the place of the one that waits, which is the caller's then; both may be NULL. */
static rd_kafka_topic_partition_list_t *
exchange_spurred(rd_kafka_topic_partition_list_t *parts)
{
	rd_kafka_topic_partition_list_t *before;

	pthread_mutex_lock(&lock);
	before = spurred;
	spurred = parts;
	if (parts != NULL)
		pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
	return before;
}

/*
 * From the data thread: wakes the threads of the leaders of these partitions.  The list is
 * ours from now on.
 */
void
helper_query_spur(rd_kafka_topic_partition_list_t *parts)
{
	rd_kafka_topic_partition_list_t *forgotten = exchange_spurred(parts);

	if (forgotten != NULL)
		rd_kafka_topic_partition_list_destroy(forgotten);
}

static void
query_spurred(Helper *h)
{
	rd_kafka_topic_partition_list_t *parts = exchange_spurred(NULL);

	if (parts == NULL)
		return;
	(void) rd_kafka_offsets_for_times(h->rk, parts, SPUR_TIMEOUT);
	rd_kafka_topic_partition_list_destroy(parts);
}

/* From the data thread: the brokers went away, watch for their return. */
void
helper_query_soon(void)
{
	pthread_mutex_lock(&lock);
	soon = true;
	if (running)
		pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
}

/* ---------- the thread ---------- */

/* The time in so many seconds. */
static struct timespec
seconds_from_now(time_t seconds)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += seconds;
	return t;
}

static bool
is_before(struct timespec a, struct timespec b)
{
	return a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec < b.tv_nsec);
}

/* Sleeps until there is a request (returned), or leaders to spur or the time has come (NULL). */
static ResolveRequest *
next_request(struct timespec *metadata_at)
{
	ResolveRequest *r;

	pthread_mutex_lock(&lock);
	for (;;)
	{
		if (soon && is_before(seconds_from_now(1), *metadata_at))
			*metadata_at = seconds_from_now(1);
		soon = false;
		if (requests != NULL || spurred != NULL || !is_before(seconds_from_now(0), *metadata_at))
			break;
		pthread_cond_timedwait(&changed, &lock, metadata_at);
	}
	r = requests;
	if (r != NULL)
		requests = r->next;
	pthread_mutex_unlock(&lock);
	return r;
}

/* In seconds. */
static time_t
metadata_interval(Helper *h)
{
	long		ms = helper_property(h, "topic.metadata.refresh.interval.ms");

	return ms < 1000 ? 1 : ms / 1000;
}

static bool
query_all(Helper *h)
{
	/* those who ask may stand still (helper_rest.c) */
	helper_event_raise(h->wake_fd);
	return (!h->list_topics || query_names(h)) && query_metadata(h);
}

static void *
query_main(void *arg)
{
	Helper	   *h = arg;
	time_t		interval = metadata_interval(h);
	struct timespec metadata_at = {0};

	helper_watch_not_me();
	for (;;)
	{
		ResolveRequest *r = next_request(&metadata_at);

		query_spurred(h);
		if (r != NULL)
			query_resolve(h, r);
		else if (!is_before(seconds_from_now(0), metadata_at))
			metadata_at = seconds_from_now(query_all(h) ? interval : 1);
	}
	return NULL;
}

void
helper_query_start(Helper *h)
{
	pthread_t	thread;
	pthread_condattr_t attributes;

	if (pthread_condattr_init(&attributes) != 0 ||
		pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) != 0 ||
		pthread_cond_init(&changed, &attributes) != 0)
		helper_fail("could not make a condition variable");
	pthread_mutex_lock(&lock);
	running = true;
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < SX_HELPER_MAX_TOPICS; i++)
		known_partitions[i] = INT32_MIN;
	if (pthread_create(&thread, NULL, query_main, h) != 0)
		helper_fail("could not start a thread");
}
