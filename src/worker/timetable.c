/*-------------------------------------------------------------------------
 *
 * timetable.c
 *		When a worker's next batch is due, and which batch time it gets.
 *
 * With an interval, batch times are multiples of it.  Those missed while the worker was
 * busy or away are one batch, and each is behind the batch before, also when the clock
 * was set back.
 *
 * Without one, a batch is due as soon as there is data, except that one hard on the
 * other is sustained load.  Then batches begin MIN_BATCH_US apart, or twice the time
 * that the last one took, up to MAX_BATCH_US: what a batch costs beside its rows takes
 * half of a core at most, and where dead versions of the progress row make batches
 * longer, beside an old snapshot, there are fewer of them.  What comes after a pause is
 * never held up, nor is what a full batch has left over.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "worker/timetable.h"

#define MIN_BATCH_US	2000
#define MAX_BATCH_US	5000

void
sx_timetable_begin(SxTimetable *table, int64 interval, TimestampTz last_time,
				   TimestampTz clock)
{
	memset(table, 0, sizeof(SxTimetable));
	table->interval = interval;
	if (interval <= 0 || last_time > clock)
		return;
	table->last_time = Max(last_time, 0);
	if (table->last_time + interval > clock)
		table->due = table->last_time + interval;
}

TimestampTz
sx_timetable_batch_time(const SxTimetable *table, TimestampTz clock)
{
	if (table->interval <= 0)
		return clock;
	return Max(clock - clock % table->interval, table->last_time + table->interval);
}

/* A timer's batch may have a time that has passed long ago. */
void
sx_timetable_after(SxTimetable *table, TimestampTz batch_time, TimestampTz clock)
{
	if (table->interval <= 0)
	{
		int64		apart = Max(2 * (clock - batch_time), MIN_BATCH_US);
		bool		sustained = batch_time - table->last_batch < 2 * MAX_BATCH_US;

		table->last_batch = batch_time;
		table->due = sustained ? batch_time + Min(apart, MAX_BATCH_US) : 0;
	}
	else
	{
		table->last_time = batch_time;
		table->due = Min(batch_time, clock) + table->interval;
	}
}

void
sx_timetable_skip(SxTimetable *table, TimestampTz clock)
{
	if (table->interval > 0)
		table->due = clock - clock % table->interval + table->interval;
}
