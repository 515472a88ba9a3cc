/*-------------------------------------------------------------------------
 *
 * sender.c
 *		Sends what stands in the outbox.  Runs in the scheduler, a slice at a time.
 *
 *		tell	which sinks have something to send; when woken, and every few seconds
 *		send	each sink in turn: some chunks are read in a short transaction, and
 *				handed to the connector when that has ended
 *		note	what has arrived is deleted from the outbox, and the number of the last
 *				delivery is written down, in one transaction
 *
 * A slice ends after SLICE_MS, in the middle of a delivery if need be: the file stays open
 * until the next one.  Nothing that was sent is left un-noted at the end of a slice.
 *
 * If the process dies between "send" and "note" the delivery is sent again, so a
 * connector must be able to take the same one twice.  A delivery that was begun is always
 * begun anew, never continued, by another process or after an error.
 *
 * An error belongs to one sink: it is tried again after a while that grows, by the
 * row of streamext.delivery, so also by the next process; the others go on.  It is logged
 * when it is not the same as the one before.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "ddl/ddl.h"
#include "miscadmin.h"
#include "plan/plan.h"
#include "plan/plan_internal.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "sink/delivery_row.h"
#include "sink/sink.h"
#include "worker/process.h"

#define SLICE_MS		100
#define TELL_MS			5000
#define HOLD_MS			500
#define CHUNKS			8		/* read at a time, of up to a megabyte each */

typedef struct Sending
{
	SxDelivery	delivery;
	const SxSinkOps *ops;
	bool		known;			/* found by the last "tell" */
	bool		pending;
	bool		open;			/* delivery.number is half-way out */
	int64		at_delivery;	/* the last chunk that was handed over */
	int			at_seq;
	int64		sent;			/* the last delivery that has arrived … */
	int64		noted;			/* … and that is noted */
	TimestampTz retry_at;		/* DT_NOBEGIN: at once */
	TimestampTz held_until;		/* its row is locked by somebody */
	char	   *sqlstate;		/* of the error that it waits for, or NULL */
	char	   *message;
} Sending;

static List *sendings = NIL;	/* in TopMemoryContext, each in a context of its own */
static MemoryContext slice_context = NULL;
static TimestampTz told_at = 0;

/* ---------- which sinks there are ---------- */

static void
abandon(Sending *sending)
{
	if (sending->delivery.private != NULL)
		sending->ops->abandon(&sending->delivery);
	sending->open = false;
	sending->at_delivery = sending->sent;
	sending->at_seq = PG_INT32_MAX;
}

static void
forget(Sending *sending)
{
	abandon(sending);
	MemoryContextDelete(sending->delivery.context);
}

static void
replace_string(Sending *sending, char **field, const char *value)
{
	if (*field != NULL)
		pfree(*field);
	*field = value == NULL ? NULL : MemoryContextStrdup(sending->delivery.context, value);
}

static Sending *
find_sending(Oid sink)
{
	ListCell   *lc;

	foreach(lc, sendings)
	{
		Sending    *sending = lfirst(lc);

		if (sending->delivery.sink == sink)
			return sending;
	}
	return NULL;
}

static Sending *
new_sending(const SxOutboxSink *row)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "streamext sending",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Sending    *sending = palloc0(sizeof(Sending));

	sending->delivery.sink = row->sink;
	sending->delivery.context = context;
	sending->delivery.options = sx_options_from_json(row->options);
	sending->delivery.first = true;
	sending->ops = sx_sink_find(sx_option(sending->delivery.options, "connector"));
	sending->sent = sending->noted = sending->at_delivery = row->delivered;
	sending->at_seq = PG_INT32_MAX;
	MemoryContextSwitchTo(TopMemoryContext);
	sendings = lappend(sendings, sending);
	MemoryContextSwitchTo(old);
	return sending;
}

static void
tell(void)
{
	List	   *rows;
	ListCell   *lc;

	sx_scheduler_begin();
	MemoryContextSwitchTo(slice_context);
	rows = sx_outbox_sinks();
	sx_transaction_end();
	MemoryContextSwitchTo(slice_context);

	foreach(lc, sendings)
		((Sending *) lfirst(lc))->known = false;
	foreach(lc, rows)
	{
		SxOutboxSink *row = lfirst(lc);
		Sending    *sending = find_sending(row->sink);

		if (sending == NULL)
			sending = new_sending(row);
		sending->known = true;
		sending->pending = row->pending;
		sending->retry_at = row->retry_at;
		sending->delivery.owner = row->owner;
		replace_string(sending, &sending->delivery.label, row->label);
		replace_string(sending, &sending->sqlstate, row->error_sqlstate);
		replace_string(sending, &sending->message, row->error_message);
	}
	foreach(lc, sendings)
	{
		Sending    *sending = lfirst(lc);

		if (!sending->known)
		{
			sendings = foreach_delete_current(sendings, lc);
			forget(sending);
		}
	}
	told_at = GetCurrentTimestamp();
}

/* ---------- sending ---------- */

static void
hand_over(Sending *sending, const SxOutboxChunk *chunk)
{
	SxDelivery *delivery = &sending->delivery;

	if (!sending->open)
	{
		delivery->number = chunk->delivery;
		sending->open = true;
		sending->ops->open(delivery);
		delivery->first = false;
	}
	sending->ops->write(delivery, chunk->data, chunk->len);
	if (chunk->last)
	{
		sending->ops->close(delivery);
		sending->open = false;
		sending->sent = chunk->delivery;
	}
	sending->at_delivery = chunk->delivery;
	sending->at_seq = chunk->seq;
}

static void
send_some(Sending *sending)
{
	List	   *chunks;
	ListCell   *lc;

	sx_scheduler_begin();
	MemoryContextSwitchTo(slice_context);
	sending->ops->allow(&sending->delivery);
	chunks = sx_outbox_chunks(sending->delivery.sink, sending->at_delivery,
							  sending->at_seq, CHUNKS);
	sx_transaction_end();
	MemoryContextSwitchTo(slice_context);

	foreach(lc, chunks)
	{
		CHECK_FOR_INTERRUPTS();
		hand_over(sending, lfirst(lc));
	}
	if (list_length(chunks) < CHUNKS)
		sending->pending = false;
	MemoryContextReset(slice_context);
}

/* Somebody has its row, most likely to drop it. */
static void
hold(Sending *sending)
{
	sending->held_until = GetCurrentTimestamp() + HOLD_MS * 1000;
	sending->pending = true;
}

static void
note(Sending *sending)
{
	bool		noted;

	if (sending->sent == sending->noted || sending->held_until > GetCurrentTimestamp())
		return;
	sx_scheduler_begin();
	noted = sx_delivery_done(sending->delivery.sink, sending->sent);
	sx_transaction_end();
	MemoryContextSwitchTo(slice_context);
	if (!noted)
	{
		hold(sending);
		return;
	}
	if (sending->sqlstate != NULL)
		ereport(LOG,
				(errmsg("sink %s is being sent again", sending->delivery.label)));
	sending->noted = sending->sent;
	sending->retry_at = DT_NOBEGIN;
	replace_string(sending, &sending->sqlstate, NULL);
	replace_string(sending, &sending->message, NULL);
}

/* ---------- errors ---------- */

static bool
is_news(const Sending *sending, const ErrorData *edata)
{
	return sending->sqlstate == NULL || sending->message == NULL ||
		strcmp(sending->sqlstate, unpack_sql_state(edata->sqlerrcode)) != 0 ||
		strcmp(sending->message, edata->message) != 0;
}

/* What went well before it is noted first.  An error in here ends the process. */
static void
fail(Sending *sending, ErrorData *edata)
{
	bool		news;
	bool		noted;

	note(sending);
	news = is_news(sending, edata);
	abandon(sending);
	sx_scheduler_begin();
	noted = sx_delivery_failed(sending->delivery.sink, edata->sqlerrcode,
							   edata->message, &sending->retry_at);
	sx_transaction_end();
	MemoryContextSwitchTo(slice_context);
	if (!noted)
	{
		hold(sending);
		return;
	}
	told_at = 0;				/* the owner may be another by now */
	replace_string(sending, &sending->sqlstate, unpack_sql_state(edata->sqlerrcode));
	replace_string(sending, &sending->message, edata->message);
	if (news)
		ereport(LOG,
				(errcode(edata->sqlerrcode),
				 errmsg("could not send batch %lld of sink %s: %s",
						(long long) sending->delivery.number, sending->delivery.label,
						edata->message),
				 edata->hint ? errhint("%s", edata->hint) : 0,
				 errdetail("It is tried again; streamext.outboxes shows when.")));
}

static void
try_to_send(Sending *sending)
{
	ErrorData  *volatile edata = NULL;

	PG_TRY();
	{
		send_some(sending);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(slice_context);
		edata = CopyErrorData();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		MemoryContextSwitchTo(slice_context);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	if (edata != NULL)
		fail(sending, edata);
}

/* ---------- a slice ---------- */

static bool
is_due(const Sending *sending, TimestampTz now)
{
	return sending->pending && sending->held_until <= now &&
		(sending->retry_at == DT_NOBEGIN || sending->retry_at <= now);
}

/* Each sink that is due once; false: none was. */
static bool
round_of_all(void)
{
	bool		sent = false;
	ListCell   *lc;

	foreach(lc, sendings)
	{
		Sending    *sending = lfirst(lc);

		if (!is_due(sending, GetCurrentTimestamp()))
			continue;
		try_to_send(sending);
		sent = true;
	}
	return sent;
}

/* Milliseconds until something is due; 0: now. */
static long
next_wanted(TimestampTz now)
{
	long		wanted = TELL_MS;
	ListCell   *lc;

	foreach(lc, sendings)
	{
		const Sending *sending = lfirst(lc);

		if (is_due(sending, now))
			return 0;
		if (sending->pending)
			wanted = Min(wanted, TimestampDifferenceMilliseconds(now, Max(sending->retry_at,
																		  sending->held_until)) + 1);
	}
	return wanted;
}

long
sx_sender_run(void)
{
	MemoryContext caller = CurrentMemoryContext;
	TimestampTz start = GetCurrentTimestamp();
	ListCell   *lc;

	if (slice_context == NULL)
		slice_context = AllocSetContextCreate(TopMemoryContext, "streamext sender",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(slice_context);
	if (sx_must_send() || told_at == 0 ||
		TimestampDifferenceExceeds(told_at, start, TELL_MS))
		tell();
	while (round_of_all() &&
		   !TimestampDifferenceExceeds(start, GetCurrentTimestamp(), SLICE_MS))
	{
	}
	foreach(lc, sendings)
		note(lfirst(lc));
	MemoryContextSwitchTo(caller);
	MemoryContextReset(slice_context);
	return next_wanted(GetCurrentTimestamp());
}
