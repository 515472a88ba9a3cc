/*-------------------------------------------------------------------------
 *
 * producer.c
 *		INSERT into a Kafka stream: records wait for the end of the transaction.
 *
 * Each stream written to in a transaction has an outbox in TopTransactionContext:
 * the frames for the helper, one after the other, and a stack of marks that says
 * where each level of subtransaction began.  ROLLBACK TO cuts the outbox off at
 * the mark; RELEASE hands the records to the level above.
 *
 * At pre-commit, when little but the commit itself can fail any more, a helper is
 * started for each outbox, fed, and asked to flush; an error there rolls the
 * transaction back.  Between the flush and the commit the server may crash, or a
 * serialization failure may be found: then records are in Kafka of a transaction
 * that did not happen.  So this is at least once, as the documentation says.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "kafka/client.h"
#include "kafka/config.h"
#include "kafka/producer.h"
#include "source/rights.h"

#define OUTBOX_MAX		(512 * 1024 * 1024)
#define SEND_CHUNK		(1024 * 1024)	/* handed to the client at a time */

/* The outbox from `start` on belongs to this level, up to the next mark. */
typedef struct Mark
{
	int			level;
	int			start;
	int64		records;		/* before the mark */
} Mark;

typedef struct Outbox
{
	Oid			relid;
	char	   *label;
	char	   *topic;
	StringInfoData config;
	int64		max_message_bytes;
	StringInfoData frames;		/* payloads of PRODUCE, each behind its uint32
								 * length */
	int64		records;
	List	   *marks;			/* of Mark, the innermost level last */
	SxKafkaClient *client;
} Outbox;

static List *outboxes = NIL;	/* of this transaction, in its context */

/* ---------- collecting ---------- */

static Outbox *
create_outbox(const SxStream *stream)
{
	Outbox	   *outbox = palloc0(sizeof(Outbox));

	List	   *topics = sx_kafka_topics(stream);

	if (list_length(topics) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot insert into stream %s, which reads several topics",
						stream->label),
				 errhint("Create a stream with the one topic to write to.")));
	sx_stream_check_rights(stream);
	outbox->relid = stream->relid;
	outbox->label = pstrdup(stream->label);
	outbox->topic = pstrdup(linitial(topics));
	outbox->max_message_bytes = sx_kafka_max_message_bytes(stream);
	initStringInfo(&outbox->config);
	sx_kafka_config(stream, SX_ROLE_PRODUCER, SX_HELPER_USUAL, &outbox->config);
	sx_frame_put_u32(&outbox->config, 1);
	sx_frame_put_str(&outbox->config, linitial(topics));
	initStringInfo(&outbox->frames);
	return outbox;
}

static Outbox *
find_outbox(const SxStream *stream)
{
	ListCell   *lc;
	Outbox	   *outbox;

	foreach(lc, outboxes)
	{
		outbox = lfirst(lc);
		if (outbox->relid == stream->relid)
			return outbox;
	}
	outbox = create_outbox(stream);
	outboxes = lappend(outboxes, outbox);
	return outbox;
}

static void
set_mark(Outbox *outbox)
{
	int			level = GetCurrentTransactionNestLevel();
	Mark	   *last = outbox->marks != NIL ? llast(outbox->marks) : NULL;
	Mark	   *mark;

	if (last != NULL && last->level == level)
		return;
	mark = palloc(sizeof(Mark));
	mark->level = level;
	mark->start = outbox->frames.len;
	mark->records = outbox->records;
	outbox->marks = lappend(outbox->marks, mark);
}

/* ---------- the end of subtransactions ---------- */

static void
forget_level(Outbox *outbox, int level)
{
	while (outbox->marks != NIL && ((Mark *) llast(outbox->marks))->level >= level)
	{
		Mark	   *mark = llast(outbox->marks);

		outbox->frames.len = mark->start;
		outbox->records = mark->records;
		outbox->marks = list_delete_last(outbox->marks);
	}
}

static void
keep_level(Outbox *outbox, int level)
{
	int			n = list_length(outbox->marks);
	Mark	   *last = n > 0 ? llast(outbox->marks) : NULL;

	if (last == NULL || last->level < level)
		return;
	if (n > 1 && ((Mark *) list_nth(outbox->marks, n - 2))->level == level - 1)
		outbox->marks = list_delete_last(outbox->marks);
	else
		last->level = level - 1;
}

static void
at_subxact(SubXactEvent event, SubTransactionId sub, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();
	ListCell   *lc;

	foreach(lc, outboxes)
	{
		if (event == SUBXACT_EVENT_ABORT_SUB)
			forget_level(lfirst(lc), level);
		else if (event == SUBXACT_EVENT_COMMIT_SUB)
			keep_level(lfirst(lc), level);
	}
}

/* ---------- sending ---------- */

static void
check_helper(Outbox *outbox)
{
	if (!sx_kafka_client_running(outbox->client))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("could not send records of stream %s: the Kafka helper %s",
						outbox->label, sx_kafka_client_death(outbox->client))));
}

/* Waits for the socket to take what was given to it. */
static void
drain_socket(Outbox *outbox)
{
	while (!sx_kafka_client_flush(outbox->client))
	{
		sx_kafka_client_wait(outbox->client, 10);
		check_helper(outbox);
	}
}

static void
send_frames(Outbox *outbox)
{
	int			unsent = 0;

	for (int at = 0; at < outbox->frames.len;)
	{
		StringInfoData payload = {0};
		uint32		len;

		memcpy(&len, outbox->frames.data + at, sizeof(len));
		payload.data = outbox->frames.data + at + sizeof(len);
		payload.len = len;
		sx_kafka_client_send(outbox->client, SX_MSG_PRODUCE, &payload);
		at += sizeof(len) + len;
		unsent += len;
		if (unsent >= SEND_CHUNK)
		{
			drain_socket(outbox);
			unsent = 0;
		}
	}
}

/* What the brokers say about their state, for the detail of an error. */
static void
note_trouble(SxFrameReader *frame, char *trouble, Size size)
{
	uint32_t	len;
	const char *text;

	(void) sx_frame_u32(frame);
	(void) sx_frame_i32(frame);
	text = sx_frame_str(frame, &len);
	if (len > 0)
		snprintf(trouble, size, "%.*s", (int) len, text);
}

/* FLUSHED: ERROR unless every record was acknowledged. */
static void
check_flushed(const Outbox *outbox, SxFrameReader *frame, const char *trouble)
{
	int64		delivered = sx_frame_i64(frame);
	int64		failed = sx_frame_i64(frame);
	int32		code = sx_frame_i32(frame);
	uint32_t	len;
	const char *text = sx_frame_str(frame, &len);

	if (!frame->failed && failed == 0 && delivered == outbox->records)
		return;
	if (code == SX_KAFKA_ERR_UNKNOWN_TOPIC || code == SX_KAFKA_ERR_NO_SUCH_TOPIC)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("topic \"%s\" of stream %s does not exist", outbox->topic, outbox->label),
				 errhint("Create it in Kafka first.")));
	ereport(ERROR,
			(errcode(ERRCODE_FDW_ERROR),
			 errmsg("could not send " INT64_FORMAT " of " INT64_FORMAT " records of stream %s: %.*s",
					outbox->records - delivered, outbox->records,
					outbox->label, (int) len, text),
			 trouble[0] != '\0' ? errdetail_internal("%s", trouble) : 0,
			 errhint("streamext.insert_timeout says how long it is tried.")));
}

/* Waits for the answer to FLUSH. */
static void
await_flush(Outbox *outbox)
{
	char		trouble[256] = "";

	for (;;)
	{
		SxMessageType type;
		SxFrameReader frame;

		while (sx_kafka_client_receive(outbox->client, &type, &frame))
		{
			if (type == SX_MSG_STATUS)
				note_trouble(&frame, trouble, sizeof(trouble));
			else if (type == SX_MSG_FLUSHED)
			{
				check_flushed(outbox, &frame, trouble);
				return;
			}
		}
		check_helper(outbox);
		sx_kafka_client_wait(outbox->client, 1000);
	}
}

static void
send_outbox(Outbox *outbox)
{
	StringInfoData empty = {0};

	if (outbox->records == 0)
		return;
	outbox->client = sx_kafka_client_create(TopTransactionContext);
	sx_kafka_client_start(outbox->client, &outbox->config, 0);
	send_frames(outbox);
	empty.data = "";
	sx_kafka_client_send(outbox->client, SX_MSG_FLUSH, &empty);
	await_flush(outbox);
	sx_kafka_client_stop(outbox->client);
}

static void
at_xact(XactEvent event, void *arg)
{
	ListCell   *lc;

	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			foreach(lc, outboxes)
				send_outbox(lfirst(lc));
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (outboxes != NIL)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has written to a Kafka stream"),
						 errhint("Use COMMIT.")));
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
			outboxes = NIL;		/* the memory goes with the transaction */
			break;
		default:
			break;
	}
}

/* ---------- the interface ---------- */

static void
append_frame(Outbox *outbox, const char *key, int key_len, const char *value,
			 int value_len)
{
	uint32		len = 2 * sizeof(int32) + Max(key_len, 0) + Max(value_len, 0);

	sx_frame_put_u32(&outbox->frames, len);
	sx_frame_put_u32(&outbox->frames, key_len);
	sx_frame_put_u32(&outbox->frames, value_len);
	if (key_len > 0)
		appendBinaryStringInfo(&outbox->frames, key, key_len);
	if (value_len > 0)
		appendBinaryStringInfo(&outbox->frames, value, value_len);
	outbox->records++;
}

void
sx_kafka_produce(SxStream *stream, const char *key, int key_len,
				 const char *value, int value_len)
{
	static bool registered = false;
	MemoryContext old;
	Outbox	   *outbox;
	int64		bytes = (int64) Max(key_len, 0) + Max(value_len, 0);

	if (!registered)
	{
		RegisterXactCallback(at_xact, NULL);
		RegisterSubXactCallback(at_subxact, NULL);
		registered = true;
	}

	old = MemoryContextSwitchTo(TopTransactionContext);
	outbox = find_outbox(stream);
	if (bytes > outbox->max_message_bytes)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("record of " INT64_FORMAT " bytes is too large for stream %s",
						bytes, stream->label),
				 errhint("Raise option \"max_message_bytes\" of the stream.")));
	if (outbox->frames.len + bytes > OUTBOX_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("cannot send more than %d MB to a Kafka stream in one transaction",
						OUTBOX_MAX / (1024 * 1024)),
				 errhint("Insert in several transactions.")));
	set_mark(outbox);
	append_frame(outbox, key, key_len, value, value_len);
	MemoryContextSwitchTo(old);
}
