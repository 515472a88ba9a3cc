/*-------------------------------------------------------------------------
 *
 * track.h
 *		Highest event times, and records that failed, of the batch in progress.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_TRACK_H
#define SX_TRACK_H

#include "utils/timestamp.h"
#include "worker/batch.h"

/* Accounts for the event time of record i, whose columns are decoded. */
extern void sx_track_row(SxPipeline *pl, SxInput *input, int i,
						 const Datum *values, const bool *isnull);

/* … and for the records that no scan has passed. */
extern void sx_track_rest(SxPipeline *pl, SxInput *input);

/*
 * A record failed: for one step (its index), or for all (-1).  Later scans leave it
 * out; it becomes a dead letter when the batch commits.  Returns false when that
 * was known.  on_error = 'stop': ERROR that names the record.
 */
extern bool sx_batch_bad_record(SxPipeline *pl, SxInput *input, int i, int step,
								int sqlerrcode, const char *message);

/* Later scans for this step (-1: any) leave the record out. */
extern void sx_leave_out(SxPipeline *pl, SxInput *input, int i, int step);

/* Notes a dead letter without leaving the record out of anything. */
extern void sx_note_dead(SxPipeline *pl, int input, int i, int step,
						 int sqlerrcode, const char *message);

/* Is record i out for this step? */
static inline bool
sx_input_is_bad(const SxInput *input, int i, int step)
{
	return (input->bad != NULL && bms_is_member(i, input->bad)) ||
		(step >= 0 && input->bad_for != NULL && input->bad_for[step] != NULL &&
		 bms_is_member(i, input->bad_for[step]));
}

/* Kafka's timestamp of a record; it must have one. */
static inline TimestampTz
sx_record_time(const SxRecord *rec)
{
	return rec->timestamp * 1000 -
		(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
}

/* The headers of a record as a jsonb object, values as text or null. */
extern Datum sx_headers_jsonb(const SxRecord *rec);

#endif							/* SX_TRACK_H */
