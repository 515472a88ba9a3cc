/*-------------------------------------------------------------------------
 *
 * statement.c
 *		Does a statement say CREATE, ALTER or DROP STREAM?
 *
 * PostgreSQL's grammar sees TABLE where the user wrote STREAM (keyword.c), so
 * the text of the statement is the only witness.  Two questions are answered
 * here, both by reading the text as the lexer of PostgreSQL does (scan.l):
 *
 *	sx_says_stream			is this a statement about a stream?
 *	sx_is_stream_keyword	is this word, inside a longer text, the STREAM of such
 *							a statement?  Asked while the lexer is at that word, so
 *							nothing behind it is looked at.
 *
 * The second needs the beginning of the statement that holds the word.  A
 * statement begins at the start of the text or after a semicolon that is a token,
 * not a part of a literal, a quoted identifier, a dollar-quoted string or a
 * comment; that is why tokens are skipped properly from the start of the text
 * instead of looking back for a semicolon.  ("ALTER TABLE t -- gone;" on one line
 * and "DROP stream" on the next is one legal statement about a column.)
 *
 * No function reads at or behind its end argument.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ddl/ddl_internal.h"

#define STREAM_WORD		"stream"
#define STREAM_LEN		6

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' ||
		c == '\v';
}

static bool
is_ident_start(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
		IS_HIGHBIT_SET(c);
}

static bool
is_ident_cont(char c)
{
	return is_ident_start(c) || (c >= '0' && c <= '9') || c == '$';
}

static const char *
skip_line_comment(const char *p, const char *end)
{
	while (p < end && *p != '\n' && *p != '\r')
		p++;
	return p;
}

/* p is behind the opening; block comments nest. */
static const char *
skip_block_comment(const char *p, const char *end)
{
	int			depth = 1;

	while (p < end && depth > 0)
	{
		if (end - p >= 2 && p[0] == '/' && p[1] == '*')
		{
			depth++;
			p += 2;
		}
		else if (end - p >= 2 && p[0] == '*' && p[1] == '/')
		{
			depth--;
			p += 2;
		}
		else
			p++;
	}
	return p;
}

/* White space and comments. */
static const char *
skip_space(const char *p, const char *end)
{
	while (p < end)
	{
		if (is_space(*p))
			p++;
		else if (end - p >= 2 && p[0] == '-' && p[1] == '-')
			p = skip_line_comment(p + 2, end);
		else if (end - p >= 2 && p[0] == '/' && p[1] == '*')
			p = skip_block_comment(p + 2, end);
		else
			break;
	}
	return p;
}

static const char *
skip_ident(const char *p, const char *end)
{
	while (p < end && is_ident_cont(*p))
		p++;
	return p;
}

/*
 * A literal goes on after its closing quote when white space that holds a newline
 * and then another quote follow; the rest has the same escapes as the start.
 * Gives the position behind that quote, else NULL.
 */
static const char *
continued_literal(const char *p, const char *end)
{
	bool		newline = false;

	while (p < end)
	{
		if (is_space(*p))
		{
			newline |= (*p == '\n' || *p == '\r');
			p++;
		}
		else if (end - p >= 2 && p[0] == '-' && p[1] == '-')
			p = skip_line_comment(p + 2, end);
		else
			break;
	}
	return (newline && p < end && *p == '\'') ? p + 1 : NULL;
}

/* p is behind the opening quote.  A doubled quote goes on with the literal. */
static const char *
skip_literal(const char *p, const char *end, bool backslashes)
{
	while (p < end)
	{
		const char *next;

		if (*p == '\\' && backslashes)
		{
			p += (end - p >= 2) ? 2 : 1;
			continue;
		}
		if (*p++ != '\'')
			continue;
		if (p < end && *p == '\'')
			p++;
		else if ((next = continued_literal(p, end)) != NULL)
			p = next;
		else
			break;
	}
	return p;
}

/* A doubled quote looks like two identifiers in a row, which ends the same. */
static const char *
skip_quoted_ident(const char *p, const char *end)
{
	while (p < end && *p != '"')
		p++;
	return p < end ? p + 1 : end;
}

/* p is at a dollar: a dollar-quoted string, or only the dollar ($1). */
static const char *
skip_dollar(const char *p, const char *end)
{
	const char *tag = p++;
	size_t		len;

	if (p < end && is_ident_start(*p))
	{
		while (p < end && is_ident_cont(*p) && *p != '$')
			p++;
	}
	if (p >= end || *p != '$')
		return tag + 1;
	len = ++p - tag;

	for (; (size_t) (end - p) >= len; p++)
	{
		if (memcmp(p, tag, len) == 0)
			return p + len;
	}
	return end;
}

/* p is at something that is neither white space nor a comment. */
static const char *
skip_token(const char *p, const char *end, bool standard_strings)
{
	const char *start = p;

	if (*p == '\'')
		return skip_literal(p + 1, end, !standard_strings);
	if (*p == '"')
		return skip_quoted_ident(p + 1, end);
	if (*p == '$')
		return skip_dollar(p, end);
	if (!is_ident_cont(*p))
		return p + 1;

	/* a word or a number; E'' takes backslashes, B'' and X'' are plain */
	p = skip_ident(p, end);
	if (p < end && *p == '\'' && p - start == 1)
	{
		if (*start == 'e' || *start == 'E')
			return skip_literal(p + 1, end, true);
		if (strchr("bBxX", *start) != NULL)
			return skip_literal(p + 1, end, false);
	}
	return p;
}

/* Is [p, word_end) this (lower-case) keyword? */
static bool
is_word(const char *p, const char *word_end, const char *keyword)
{
	size_t		len = strlen(keyword);

	return (size_t) (word_end - p) == len && pg_strncasecmp(p, keyword, len) == 0;
}

static bool
is_any_word(const char *p, const char *word_end, const char *const *keywords)
{
	for (; *keywords != NULL; keywords++)
	{
		if (is_word(p, word_end, *keywords))
			return true;
	}
	return false;
}

/* Skips one parenthesised list, as the options of EXPLAIN are. */
static const char *
skip_parenthesis(const char *p, const char *end)
{
	int			depth = 0;

	while ((p = skip_space(p, end)) < end)
	{
		if (*p == '(')
			depth++;
		else if (*p == ')')
			depth--;
		p = skip_token(p, end, true);
		if (depth == 0)
			break;
	}
	return p;
}

/* p is behind the word EXPLAIN: gives the start of what is explained. */
static const char *
skip_explain(const char *p, const char *end)
{
	static const char *const flags[] = {"analyze", "analyse", "verbose", NULL};

	p = skip_space(p, end);
	if (p < end && *p == '(')
		return skip_space(skip_parenthesis(p, end), end);
	for (;;)
	{
		const char *word_end = skip_ident(p, end);

		if (!is_any_word(p, word_end, flags))
			return p;
		p = skip_space(word_end, end);
	}
}

/*
 * The word STREAM of the statement that begins at p, or NULL.  TEMP, UNLOGGED and
 * so on may stand before it, so that they can be refused by name.
 */
static const char *
find_stream_word(const char *p, const char *end)
{
	static const char *const verbs[] = {"create", "alter", "drop", NULL};
	static const char *const modifiers[] =
	{"temp", "temporary", "local", "global", "unlogged", NULL};
	const char *word_end;
	bool		create;

	p = skip_space(p, end);
	word_end = skip_ident(p, end);
	if (is_word(p, word_end, "explain"))
	{
		p = skip_explain(word_end, end);
		word_end = skip_ident(p, end);
	}
	if (!is_any_word(p, word_end, verbs))
		return NULL;
	create = is_word(p, word_end, "create");

	do
	{
		p = skip_space(word_end, end);
		word_end = skip_ident(p, end);
	} while (create && is_any_word(p, word_end, modifiers));

	return is_word(p, word_end, STREAM_WORD) ? p : NULL;
}

/*
 * Does the statement at [location, location + len) of text speak of a stream?
 * A negative location means the start of the text, len 0 its end.
 */
bool
sx_says_stream(const char *text, int location, int len)
{
	const char *start;
	const char *end;

	if (text == NULL)
		return false;
	start = text + Max(location, 0);
	end = len > 0 ? start + len : start + strlen(start);
	return find_stream_word(start, end) != NULL;
}

/*
 * word points into text and is known to be "stream": does it stand right behind
 * the verb that begins its statement?
 */
bool
sx_is_stream_keyword(const char *text, const char *word, bool standard_strings)
{
	const char *start = text;
	const char *p = text;

	while ((p = skip_space(p, word)) < word)
	{
		bool		separator = (*p == ';');

		p = skip_token(p, word, standard_strings);
		if (separator)
			start = p;
	}
	return find_stream_word(start, word + STREAM_LEN) == word;
}
