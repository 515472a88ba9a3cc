/*-------------------------------------------------------------------------
 *
 * json_token.cpp
 *		What the JSON reader says of single tokens, and of errors.
 *
 *-------------------------------------------------------------------------
 */
#define SIMDJSON_EXCEPTIONS 0
#define SIMDJSON_DEVELOPMENT_CHECKS 0

#include "format/json_token.h"

using namespace simdjson;

std::string_view
json_trim_right(std::string_view token)
{
	size_t		len = token.size();

	while (len > 0 && (token[len - 1] == ' ' || token[len - 1] == '\n' ||
					   token[len - 1] == '\r' || token[len - 1] == '\t'))
		len--;
	return token.substr(0, len);
}

static size_t
skip_digits(std::string_view token, size_t i)
{
	while (i < token.size() && token[i] >= '0' && token[i] <= '9')
		i++;
	return i;
}

bool
json_is_number(std::string_view token)
{
	size_t		start = (token.size() > 0 && token[0] == '-') ? 1 : 0;
	size_t		i = skip_digits(token, start);

	if (i == start || (token[start] == '0' && i > start + 1))
		return false;
	if (i < token.size() && token[i] == '.')
	{
		start = i + 1;
		i = skip_digits(token, start);
		if (i == start)
			return false;
	}
	if (i < token.size() && (token[i] == 'e' || token[i] == 'E'))
	{
		start = i + 1;
		if (start < token.size() && (token[start] == '+' || token[start] == '-'))
			start++;
		i = skip_digits(token, start);
		if (i == start)
			return false;
	}
	return i == token.size();
}

/* simdjson's own messages are sentences; ours follow a colon. */
static const char *
syntax_detail(error_code error)
{
	switch (error)
	{
		case EMPTY:
			return "it is empty";
		case INCOMPLETE_ARRAY_OR_OBJECT:
			return "it does not end with the brace that closes it";
		case UNCLOSED_STRING:
			return "a string is not closed";
		case STRING_ERROR:
			return "a string has a wrong escape";
		case UNESCAPED_CHARS:
			return "a string has a control character";
		case NUMBER_ERROR:
			return "a value is missing or no number";
		case T_ATOM_ERROR:
		case N_ATOM_ERROR:
			return "a word is neither true, false nor null";
		default:
			return "quotes, commas, colons or braces are missing or too many";
	}
}

const char *
json_status_detail(SxJsonStatus status, error_code error)
{
	switch (status)
	{
		case SX_JSON_OK:
			return nullptr;
		case SX_JSON_NOT_OBJECT:
			return "the top level is not an object";
		case SX_JSON_TRAILING:
			return "there is something behind the end of the object";
		case SX_JSON_DUPLICATE:
			return "a key that is read occurs twice";
		case SX_JSON_TOO_DEEP:
			return "objects and arrays are nested too deeply";
		case SX_JSON_TOO_LONG:
			return "the document is too long";
		case SX_JSON_ENCODING:
			return "it is not UTF-8";
		default:
			return syntax_detail(error);
	}
}
