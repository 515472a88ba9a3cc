/*-------------------------------------------------------------------------
 *
 * shared.h
 *		Decoded columns that the scans of a batch share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_SHARED_H
#define SX_SHARED_H

#include "worker/batch.h"

/* One decoded column: values by the ordinal of the record. */
typedef struct SxSharedColumn
{
	AttrNumber	attno;
	bool		byval;
	int16		typlen;
	Datum	   *values;
	bool	   *isnull;
} SxSharedColumn;

/* Some columns of the records [0, upto) of a source, in one attempt at a batch. */
typedef struct SxSharedRows
{
	SxInput    *input;
	SxSharedColumn *columns;	/* in the order of their numbers */
	int			ncolumns;
	bool	   *good;			/* by record: its columns are here; else decode it */
	int			upto;
	int			most;			/* there is memory for so many */
	struct SxSharing *sharing;
	struct SxDecoder *decoder;
	Datum	   *row_values;		/* what is decoded, by attno - 1 */
	bool	   *row_isnull;
	int			date_style;		/* settings that decide how text is read */
	int			date_order;
	int			interval_style;
} SxSharedRows;

/* Records of the input are loaded: an attempt begins, or a search. */
extern void sx_sharing_begin(SxPipeline *pl, SxInput *input);

/* … and ends: what was decoded goes. */
extern void sx_sharing_end(SxPipeline *pl);

/*
 * A scan that decodes these columns begins.  NULL: it has nobody to share them with, or they
 * cannot be shared.
 */
extern SxSharedRows *sx_sharing_join(SxPipeline *pl, SxInput *input, const bool *needed);

/* Decodes record i, the first that is not there, or leaves it to who needs it. */
extern void sx_sharing_decode(SxSharedRows *rows, int i);

/* A scan has decoded a record for itself: counted for the message of sx_sharing_end. */
extern void sx_sharing_missed(SxInput *input);

/* Are the columns of record i to be had here? */
static inline bool
sx_sharing_has(SxSharedRows *rows, int i)
{
	if (i >= rows->upto && i < rows->most)
		sx_sharing_decode(rows, i);
	return i < rows->upto && rows->good[i];
}

#endif							/* SX_SHARED_H */
