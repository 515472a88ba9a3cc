/*-------------------------------------------------------------------------
 *
 * span.h
 *		A length in batches or in time: '3 batches', '30 seconds'.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_SPAN_H
#define SX_SPAN_H

typedef struct SxSpan
{
	bool		batches;		/* else microseconds */
	int64		n;
} SxSpan;

/* The value of an option; ERROR, with the option's name, when it is none above 0. */
extern SxSpan sx_span_option(const char *option, const char *value);

/* "3 batches", "00:00:30": for people */
extern char *sx_span_text(SxSpan span);

#endif							/* SX_SPAN_H */
