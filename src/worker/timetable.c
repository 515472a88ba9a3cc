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
 * other is sustained load: batches of MIN_BATCH_US then spare the progress row, whose
 * dead versions cost more the more there are of them.  What comes after a pause is
 * never held up.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "worker/timetable.h"

#define MIN_BATCH_US	5000

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
	bool		sustained = batch_time - table->last_batch < 2 * MIN_BATCH_US;

	if (table->interval <= 0)
	{
		table->last_batch = batch_time;
		table->due = sustained ? batch_time + MIN_BATCH_US : 0;
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
