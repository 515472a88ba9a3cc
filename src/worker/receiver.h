/*-------------------------------------------------------------------------
 *
 * receiver.h
 *		Receivers: processes that bring what a socket sends into its stream's log.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_WORKER_RECEIVER_H
#define SX_WORKER_RECEIVER_H

#include "nodes/pg_list.h"

/* A stream that should have a receiver. */
typedef struct SxReceiverDuty
{
	Oid			stream;
	char	   *name;
	Oid			owner;
	char	   *owner_name;		/* NULL: there is no such role any more */
	bool		can_login;
	char	   *definition;		/* equal as long as the receiver needs no new start */
} SxReceiverDuty;

/* List of SxReceiverDuty, in the current context.  Needs a transaction. */
extern List *sx_receiver_duties(void);

/* The duty for this stream, or NULL. */
extern SxReceiverDuty *sx_receiver_duty(List *duties, Oid stream);

/*
 * The scheduler's part: starts receivers that are missing, reminds those that are not
 * wanted.  Outside any transaction.  Milliseconds until it has to be called again, at
 * most nap.
 */
extern long sx_receivers_tend(List *duties, long nap);

#endif							/* SX_WORKER_RECEIVER_H */
