/*-------------------------------------------------------------------------
 *
 * helper_produce.c
 *		streamext-kafka: records of an INSERT on their way to a topic.
 *
 * The server sends PRODUCE frames and then FLUSH.  librdkafka's own queue bounds
 * what is in flight; while it is full we do not read the socket, which holds up
 * the sender.
 *
 *-------------------------------------------------------------------------
 */
#include <poll.h>
#include <stdio.h>

#include "helper.h"

#define SLICE_MS	100

/* Outcome of the records since the last FLUSH. */
static int64_t delivered;
static int64_t failed;
static rd_kafka_resp_err_t first_error;

static void
note_failure(rd_kafka_resp_err_t err)
{
	failed++;
	if (first_error == RD_KAFKA_RESP_ERR_NO_ERROR)
		first_error = err;
}

/* Delivery report; called from rd_kafka_poll and rd_kafka_flush. */
void
helper_delivered(rd_kafka_t *rk, const rd_kafka_message_t *msg, void *opaque)
{
	if (msg->err == RD_KAFKA_RESP_ERR_NO_ERROR)
		delivered++;
	else
		note_failure(msg->err);
}

/* Ends the program when the server has gone while we wait for a broker. */
static void
check_server(void)
{
	struct pollfd p = {SX_HELPER_SOCKET, POLLIN | POLLRDHUP, 0};

	if (poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR | POLLRDHUP)))
		helper_exit(0);
}

static void
produce_one(Helper *h, SxFrameReader *frame)
{
	int32_t		key_len = sx_frame_i32(frame);
	int32_t		value_len = sx_frame_i32(frame);
	const char *key = key_len < 0 ? NULL : sx_frame_bytes(frame, (uint32_t) key_len);
	const char *value = value_len < 0 ? NULL : sx_frame_bytes(frame, (uint32_t) value_len);

	if (frame->failed)
		helper_fail("a record to produce is malformed");
	for (;;)
	{
		rd_kafka_resp_err_t err;

		if (rd_kafka_produce(h->topics[0].rkt, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY,
							 (void *) value, value ? (size_t) value_len : 0,
							 key, key ? (size_t) key_len : 0, NULL) == 0)
			return;
		err = rd_kafka_last_error();
		if (err != RD_KAFKA_RESP_ERR__QUEUE_FULL)
		{
			note_failure(err);
			return;
		}
		rd_kafka_poll(h->rk, SLICE_MS);
		check_server();
	}
}

static void
flush_all(Helper *h)
{
	HelperBuffer b = {0};

	while (rd_kafka_outq_len(h->rk) > 0)
	{
		rd_kafka_flush(h->rk, SLICE_MS);
		check_server();
	}
	helper_put_i64(&b, delivered);
	helper_put_i64(&b, failed);
	helper_put_i32(&b, first_error);
	helper_put_str(&b, failed > 0 ? rd_kafka_err2str(first_error) : "");
	helper_send(SX_MSG_FLUSHED, &b);
	delivered = failed = 0;
	first_error = RD_KAFKA_RESP_ERR_NO_ERROR;
}

void
helper_produce(Helper *h)
{
	SxMessageType type;
	SxFrameReader frame;

	for (;;)
	{
		struct pollfd p = {SX_HELPER_SOCKET, POLLIN, 0};

		while (helper_receive(&type, &frame, false))
		{
			if (type == SX_MSG_PRODUCE)
				produce_one(h, &frame);
			else if (type == SX_MSG_FLUSH)
				flush_all(h);
			else
				helper_fail("a producer was sent a message that it does not know");
		}
		rd_kafka_poll(h->rk, 0);
		poll(&p, 1, SLICE_MS);
	}
}
