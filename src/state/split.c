/*-------------------------------------------------------------------------
 *
 * split.c
 *		Splitting a text as the server's functions do, without a row for each piece.
 *
 * What is known here, over a text argument and a constant:
 *
 *		string_to_table(text, separator)
 *		unnest(string_to_array(text, separator))
 *		regexp_split_to_table(text, pattern)
 *		unnest(regexp_split_to_array(text, pattern))
 *
 * A separator is looked for as bytes, which is right in UTF-8 and in encodings of one
 * byte a character: there no character contains another one.
 *
 * A pattern is known when it is one character, or one of \s \S \w \W \d \D, and a + after
 * it or not.  Which characters it stands for is not assumed, the server's regular
 * expressions are asked, for each ASCII character, under the collation of the call.  For
 * texts with others, of which that may depend on the locale, the server's own function splits,
 * unless the pattern is an ASCII character itself.
 *
 * Nothing is known of calls under a nondeterministic collation: the server refuses some of
 * them, and finds more than equal bytes in others.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/pg_locale.h"

#include "compat.h"
#include "state/split.h"

/* ---------- which calls ---------- */

/* The call with the text and the constant, and whether the latter is a pattern. */
static FuncExpr *
splitting_call(Node *node, bool *pattern)
{
	FuncExpr   *call;
	bool		array;

	if (!IsA(node, FuncExpr))
		return NULL;
	call = castNode(FuncExpr, node);
	array = call->funcid == F_UNNEST_ANYARRAY;
	if (array)
	{
		if (!IsA(linitial(call->args), FuncExpr))
			return NULL;
		call = linitial_node(FuncExpr, call->args);
	}
	*pattern = call->funcid == (array ? F_REGEXP_SPLIT_TO_ARRAY_TEXT_TEXT :
								F_REGEXP_SPLIT_TO_TABLE_TEXT_TEXT);
	if (!*pattern && call->funcid != (array ? F_STRING_TO_ARRAY_TEXT_TEXT :
									  F_STRING_TO_TABLE_TEXT_TEXT))
		return NULL;
	return call;
}

static bool
use_separator(SxSplit *split, const char *separator, int len)
{
	if (len == 0)
		return false;
	if (len == 1)
		split->at[(unsigned char) *separator] = true;
	else
	{
		split->separator = pnstrdup(separator, len);
		split->separator_len = len;
	}
	return true;
}

/* A character without a meaning of its own in regular expressions? */
static bool
is_literal(char c)
{
	return c > 0 && c < 127 && strchr(".[]{}()*+?^$|\\", c) == NULL;
}

/* Asks the server which ASCII characters match. */
static void
ask_for_bytes(SxSplit *split)
{
	for (int c = 1; c < 128; c++)
	{
		char		byte = (char) c;
		text	   *character = cstring_to_text_with_len(&byte, 1);

		split->at[c] = DatumGetBool(DirectFunctionCall2Coll(textregexeq, split->collation,
															PointerGetDatum(character),
															split->pattern));
	}
}

static bool
use_pattern(SxSplit *split, const char *pattern, int len, Datum constant)
{
	int			one = len > 0 && is_literal(pattern[0]) ? 1 :
		len > 1 && pattern[0] == '\\' && strchr("sSwWdD", pattern[1]) != NULL ? 2 : 0;

	split->runs = len == one + 1 && pattern[one] == '+';
	if (one == 0 || len != one + (split->runs ? 1 : 0))
		return false;
	split->pattern = datumCopy(constant, false, -1);
	split->empty_row = true;
	split->ascii_only = one == 2;
	ask_for_bytes(split);
	return true;
}

SxSplit *
sx_split_of(Node *call, Node ***argument)
{
	bool		pattern;
	FuncExpr   *func = splitting_call(call, &pattern);
	SxSplit    *split;
	Const	   *constant;
	text	   *value;

	if (func == NULL || !IsA(lsecond(func->args), Const) ||
		(pg_database_encoding_max_length() > 1 && GetDatabaseEncoding() != PG_UTF8))
		return NULL;
	constant = lsecond_node(Const, func->args);
	if (constant->constisnull || constant->consttype != TEXTOID ||
		!OidIsValid(func->inputcollid) || !get_collation_isdeterministic(func->inputcollid))
		return NULL;
	split = palloc0(sizeof(SxSplit));
	split->collation = func->inputcollid;
	value = DatumGetTextPP(constant->constvalue);
	if (!(pattern ? use_pattern(split, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value),
								PointerGetDatum(value)) :
		  use_separator(split, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value))))
		return NULL;
	*argument = (Node **) &linitial(func->args);
	return split;
}

SxSplit *
sx_split_copy(const SxSplit *split)
{
	SxSplit    *copy = palloc(sizeof(SxSplit));

	*copy = *split;
	if (split->separator != NULL)
		copy->separator = pnstrdup(split->separator, split->separator_len);
	if (split->pattern != 0)
		copy->pattern = datumCopy(split->pattern, false, -1);
	return copy;
}

/* ---------- pieces ---------- */

static bool
is_ascii_text(const char *data, int len)
{
	uint64		high = 0;
	uint64		word;

	for (; len >= (int) sizeof(word); data += sizeof(word), len -= sizeof(word))
	{
		memcpy(&word, data, sizeof(word));
		high |= word;
	}
	for (; len > 0; data++, len--)
		high |= (unsigned char) *data;
	return (high & UINT64CONST(0x8080808080808080)) == 0;
}

/* As the server's function does it. */
static void
split_by_function(const SxSplit *split, const char *data, int len, SxPieces *pieces)
{
	LOCAL_FCINFO(fcinfo, 2);
	FmgrInfo	function;
	Datum		array;

	/* a pattern's match is kept in the call's memory, so it needs a call of its own */
	fmgr_info(F_REGEXP_SPLIT_TO_ARRAY_TEXT_TEXT, &function);
	InitFunctionCallInfoData(*fcinfo, &function, 2, split->collation, NULL, NULL);
	fcinfo->args[0].value = PointerGetDatum(cstring_to_text_with_len(data, len));
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = split->pattern;
	fcinfo->args[1].isnull = false;
	array = FunctionCallInvoke(fcinfo);
	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT,
					  &pieces->given, NULL, &pieces->ngiven);
	if (pieces->ngiven == 0)
		pieces->next = NULL;
}

void
sx_split_begin(const SxSplit *split, const char *data, int len, SxPieces *pieces)
{
	pieces->given = NULL;
	pieces->next = data;
	pieces->end = data + len;
	if (len == 0 && !split->empty_row)
		pieces->next = NULL;
	if (split->ascii_only && !is_ascii_text(data, len))
		split_by_function(split, data, len, pieces);
}

/* Of pieces that are there already, or between separators of several bytes. */
bool
sx_split_next_other(const SxSplit *split, SxPieces *pieces, const char **piece, int *len)
{
	const char *found;

	if (pieces->given != NULL)
	{
		text	   *given = DatumGetTextPP(*pieces->given);

		*piece = VARDATA_ANY(given);
		*len = VARSIZE_ANY_EXHDR(given);
		pieces->given++;
		if (--pieces->ngiven == 0)
			pieces->next = NULL;
		return true;
	}
	*piece = pieces->next;
	found = memmem(pieces->next, pieces->end - pieces->next, split->separator,
				   split->separator_len);
	*len = (int) ((found == NULL ? pieces->end : found) - *piece);
	pieces->next = found == NULL ? NULL : found + split->separator_len;
	return true;
}
