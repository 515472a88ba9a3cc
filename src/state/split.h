/*-------------------------------------------------------------------------
 *
 * split.h
 *		Splitting a text as the server's functions do, without a row for each piece.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_SPLIT_H
#define SX_SPLIT_H

#include "fmgr.h"
#include "nodes/primnodes.h"

/* A set-returning function that splits a text at constant places. */
typedef struct SxSplit
{
	bool		at[256];		/* bytes that separate; else … */
	const char *separator;		/* … this string, when it is longer than a byte */
	int			separator_len;
	bool		runs;			/* several in a row are one separator */
	bool		empty_row;		/* an empty text is one empty piece, not none */
	bool		ascii_only;		/* what the bytes of other texts are, the function says */
	Oid			collation;
	Datum		pattern;		/* … regexp_split_to_array(text, pattern) */
} SxSplit;

/* One text on its way into pieces. */
typedef struct SxPieces
{
	const char *next;			/* NULL: there are no more */
	const char *end;
	Datum	   *given;			/* pieces that the function has made; NULL: by hand */
	int			ngiven;
} SxPieces;

/*
 * Is that a call that sx_split_begin() can do?  *argument: where its text stands in the
 * call.  The result is in the current context; NULL: no.
 */
extern SxSplit *sx_split_of(Node *call, Node ***argument);

/* In the current context. */
extern SxSplit *sx_split_copy(const SxSplit *split);

/* The pieces of a text, which is not NULL; made in the current context where not by hand. */
extern void sx_split_begin(const SxSplit *split, const char *data, int len, SxPieces *pieces);
extern bool sx_split_next_other(const SxSplit *split, SxPieces *pieces, const char **piece,
								int *len);

/* The next piece; it is part of the text. */
static inline bool
sx_split_next(const SxSplit *split, SxPieces *pieces, const char **piece, int *len)
{
	const char *p = pieces->next;

	if (p == NULL)
		return false;
	if (pieces->given != NULL || split->separator != NULL)
		return sx_split_next_other(split, pieces, piece, len);
	*piece = p;
	while (p < pieces->end && !split->at[(unsigned char) *p])
		p++;
	*len = (int) (p - *piece);
	if (p == pieces->end)
	{
		pieces->next = NULL;
		return true;
	}
	p++;
	if (split->runs)
	{
		while (p < pieces->end && split->at[(unsigned char) *p])
			p++;
	}
	pieces->next = p;
	return true;
}

#endif							/* SX_SPLIT_H */
