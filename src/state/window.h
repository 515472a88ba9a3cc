/*-------------------------------------------------------------------------
 *
 * window.h
 *		Arithmetic of tumbling, hopping and cumulating windows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_WINDOW_H
#define SX_WINDOW_H

#include "datatype/timestamp.h"

/*
 * Microseconds of a window's size or slide; days count as 24 hours.  ERROR when it
 * has months or is not positive; what names it in the message.
 */
extern int64 sx_window_usec(const Interval *interval, const char *what);

/* Checks the two intervals of hop(): ERROR when the slide is above the size. */
extern void sx_hop_check(int64 slide, int64 size);

/* … and of cumulate(): ERROR when the size is no multiple of the step. */
extern void sx_cumulate_check(int64 step, int64 size);

/* Start of the tumbling window that holds ts. */
extern Timestamp sx_window_start(Timestamp ts, int64 size, Timestamp origin);

/* 1970-01-01 00:00 UTC */
extern TimestampTz sx_window_default_origin(void);

#endif							/* SX_WINDOW_H */
