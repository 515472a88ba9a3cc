/*-------------------------------------------------------------------------
 *
 * helper_consume.c
 *		streamext-kafka: from librdkafka's queue into the ring.
 *
 * Partitions are started one by one at the offset that the server gives
 * (rd_kafka_consume_start_queue), all feeding one queue: no consumer group, no
 * stored offsets, and a partition can be added while the others go on.  Up to
 * SX_FETCH_MESSAGES are taken at a time; those that do not fit into the ring are
 * kept until there is room, which is what slows the fetching down.
 *
 *		poll(socket, room in the ring, librdkafka) ─> frames ─> records ─> ring
 *
 * Both eventfds are cleared before what they announce is looked at, so nothing is
 * slept over.
 *
 * librdkafka stops fetching while its queue holds enough, and looks at the queue again
 * when the thread of the broker wakes up: with an answer, or after a second.  A fast
 * worker has used it all up long before, so "refill" wakes that thread by asking it
 * something.
 *
 * A connection that breaks ends the program, once something has been read over it:
 * whoever answers next may hold another log, and comparing (helper_parts.c) is what a
 * new process begins with.  librdkafka's own errors are looked at before and after
 * messages are taken, so that none gets through that was fetched behind the break.
 *
 *-------------------------------------------------------------------------
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "helper_consume.h"

/* Everything of interest wakes us; this is for helper_watch_check. */
#define IDLE_POLL_MS		5000

/* Moves the messages at hand into the ring; false: it is full. */
static bool
move_messages(Consumer *c)
{
	bool		room = true;

	while (c->next < c->nmsgs)
	{
		room = parts_message(c, c->msgs[c->next]);
		if (!room)
			break;
		rd_kafka_message_destroy(c->msgs[c->next++]);
	}
	ring_publish(c);
	return room;
}

/* ---------- control ---------- */

static void
serve_control(Consumer *c)
{
	SxMessageType type;
	SxFrameReader frame;

	while (helper_receive(&type, &frame, false))
	{
		if (type == SX_MSG_RESOLVE)
			helper_query_resolve(c->h, &frame);
		else if (type == SX_MSG_ASSIGN)
			parts_assign(c, &frame);
		else if (type == SX_MSG_ADD_TOPICS)
		{
			helper_add_topics(c->h, &frame);
			helper_query_soon();
		}
		else
			helper_fail("a consumer was sent a message that it does not know");
	}
}

/* Ends the program when what it reads may no longer be what it was. */
static void
check_lost(Consumer *c)
{
	HelperBuffer b = {0};

	if (!atomic_load(&c->h->lost))
		return;
	if (!parts_seen(c))
	{
		atomic_store(&c->h->lost, false);	/* nothing depends on it */
		return;
	}
	helper_put_str(&b, c->h->lost_text);
	helper_send(SX_MSG_LOST, &b);
	helper_exit(0);
}

/* Half of what makes librdkafka stop fetching. */
static void
know_plenty(Consumer *c)
{
	c->plenty_messages = (int) (helper_property(c->h, "queued.min.messages") / 2);
	c->plenty_bytes = helper_property(c->h, "queued.max.messages.kbytes") * 512;
}

/*
 * Has fetching stopped because there was plenty, and has a part of that been taken?  How many
 * bytes wait is told from the messages that were taken last.
 */
static void
refill(Consumer *c)
{
	int			waiting = (int) rd_kafka_queue_length(c->queue);
	int64_t		bytes = 0;

	if (waiting >= c->most)
	{
		c->most = waiting;
		return;
	}
	if (waiting > c->most / 4 * 3)
		return;
	for (int i = 0; i < c->nmsgs; i++)
		bytes += c->msgs[i]->len + c->msgs[i]->key_len;
	if (c->most >= c->plenty_messages || bytes / c->nmsgs * c->most >= c->plenty_bytes)
		helper_query_spur(parts_list(c));
	c->most = waiting;
}

/* Takes messages; true: there were some. */
static bool
take_messages(Consumer *c)
{
	ssize_t		n = rd_kafka_consume_batch_queue(c->queue, 0, c->msgs, SX_FETCH_MESSAGES);

	c->next = 0;
	c->nmsgs = n > 0 ? (int) n : 0;
	if (n > 0)
		refill(c);
	rd_kafka_poll(c->h->rk, 0);
	check_lost(c);
	return n > 0;
}

/* ---------- the loop ---------- */

/* Sleeps until there may be something to do. */
static void
wait_for_work(Consumer *c, bool full)
{
	struct pollfd fds[3] = {
		{SX_HELPER_SOCKET, POLLIN, 0},
		{SX_HELPER_SPACE_EVENT, POLLIN, 0},
		{c->h->wake_fd, POLLIN, 0},
	};

	if (full)
	{
		uint64_t	tail = c->ring.tail;

		/* the consumer wakes us only when it sees this flag */
		atomic_store(&c->ring.ring->producer_waits, 1);
		if (atomic_load(&c->ring.ring->tail) != tail)
			return;
	}
	/* with a full ring, more records are no reason to wake up */
	if (full)
		poll(fds, 2, IDLE_POLL_MS);
	else
		helper_rest_poll(c->h, fds, 3, IDLE_POLL_MS);
	if (fds[1].revents)
		helper_event_clear(SX_HELPER_SPACE_EVENT);
	if (fds[2].revents)
		helper_event_clear(c->h->wake_fd);
}

void
helper_consume(Helper *h)
{
	static Consumer consumer;
	static const uint64_t one = 1;
	Consumer   *c = &consumer;
	rd_kafka_queue_t *events = rd_kafka_queue_get_main(h->rk);

	c->h = h;
	ring_map(c);
	c->queue = rd_kafka_queue_new(h->rk);
	know_plenty(c);
	rd_kafka_queue_io_event_enable(c->queue, h->wake_fd, &one, sizeof(one));
	rd_kafka_queue_io_event_enable(events, h->wake_fd, &one, sizeof(one));
	helper_query_start(h);

	for (;;)
	{
		bool		room;

		serve_control(c);
		rd_kafka_poll(h->rk, 0);
		check_lost(c);
		helper_watch_check();
		parts_report_ends(c);
		room = move_messages(c);
		if (room && take_messages(c))
			continue;
		if (room)
			helper_trim();
		wait_for_work(c, !room);
	}
}
