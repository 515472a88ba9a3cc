/*-------------------------------------------------------------------------
 *
 * timetable.h
 *		When a worker's next batch is due, and which batch time it gets.
 *
 * Times in microseconds.  Nothing here waits, throws or allocates.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_TIMETABLE_H
#define SX_TIMETABLE_H

#include "datatype/timestamp.h"

typedef struct SxTimetable
{
	int64		interval;		/* batch_interval; 0: as soon as there is data */
	TimestampTz due;			/* no batch before; 0: at once */
	TimestampTz last_batch;		/* without an interval: when the last one was cut */
	TimestampTz last_time;		/* with one: batch time of the last batch */
} SxTimetable;

/* last_time: of the batch that another worker may just have run; DT_NOBEGIN: none. */
extern void sx_timetable_begin(SxTimetable *table, int64 interval,
							   TimestampTz last_time, TimestampTz clock);

/* The batch time at this time of the clock. */
extern TimestampTz sx_timetable_batch_time(const SxTimetable *table, TimestampTz clock);

/* A batch of this batch time has been run. */
extern void sx_timetable_after(SxTimetable *table, TimestampTz batch_time,
							   TimestampTz clock);

/* Nothing was there: with an interval, the next look is at its next multiple. */
extern void sx_timetable_skip(SxTimetable *table, TimestampTz clock);

/* The shorter of two waits; -1 is for ever. */
static inline long
sx_sooner(long a, long b)
{
	return a < 0 ? b : b < 0 ? a : Min(a, b);
}

#endif							/* SX_TIMETABLE_H */
