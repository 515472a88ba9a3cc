/*-------------------------------------------------------------------------
 *
 * window.h
 *		Arithmetic of tumbling and hopping windows.
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

#endif							/* SX_WINDOW_H */
