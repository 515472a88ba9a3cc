/*-------------------------------------------------------------------------
 *
 * json_simd.cpp
 *		Reads the wanted values of a JSON object with simdjson on-demand.
 *
 * simdjson indexes the document in one vectorised pass, which also proves that
 * it is UTF-8, that its strings are closed and that no control character stands
 * in them.  Then we walk the object once, in the document's order, compare each
 * key with the wanted ones and skip what nobody asked for.  When all were found
 * the rest is skipped by counting brackets, which finds a second document or
 * garbage behind the first, but validates nothing else; a strict reader visits
 * every value instead.
 *
 * The record is never written to: it is decoded again by other scans of the
 * batch, and byte for byte what a dead letter shows.  A string without a
 * backslash, the usual case, is handed out as it stands in the record.  Others
 * are unescaped into "scratch".
 *
 * The first of several equal keys wins, in any mode: the reader may have stopped
 * before it sees the second.  Only a strict one can and does refuse them.
 *
 * A document that has the shape of an earlier one is not walked through
 * (json_shape.cpp).
 *
 * This and the other files json_*.cpp are the only C++ ones.  They use no exceptions, call
 * nothing of PostgreSQL, and all that they allocate is allocated without throwing.
 *
 *-------------------------------------------------------------------------
 */
#define SIMDJSON_EXCEPTIONS 0
#define SIMDJSON_DEVELOPMENT_CHECKS 0

#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

#include <simdjson.h>

#include "format/json_shape.h"
#include "format/json_simd.h"
#include "format/json_token.h"

using namespace simdjson;

/* A parser that has grown beyond this is given back before the next document. */
static const size_t KEEP_CAPACITY = 1024 * 1024;

struct SxJsonReader
{
	ondemand::parser parser{SX_JSON_MAX_LEN};
	SxJsonNode *root;
	int			nfields;
	bool		strict;
	bool		flat;			/* all that is wanted are members of the top level */
	JsonShapes *shapes = nullptr;	/* NULL: a strict reader */
	uint8_t    *scratch = nullptr;	/* of unescaped strings */
	size_t		scratch_size = 0;

	/* of the document at hand */
	uint64_t	generation = 0;
	const char *end;
	bool		escapes;		/* it has a backslash somewhere */
	uint8_t    *out;			/* free part of scratch */
	SxJsonValue *values;
	error_code	error;			/* simdjson's own, for the message */
};

static SxJsonStatus read_value(SxJsonReader *reader, SxJsonNode *node,
							   ondemand::value &value, int depth);

static SxJsonStatus
fail(SxJsonReader *reader, error_code error)
{
	reader->error = error;
	switch (error)
	{
		case UTF8_ERROR:
			return SX_JSON_ENCODING;
		case INCORRECT_TYPE:
			return SX_JSON_NOT_OBJECT;
		case CAPACITY:
			return SX_JSON_TOO_LONG;
		case MEMALLOC:
			return SX_JSON_OUT_OF_MEMORY;
		case DEPTH_ERROR:
			return SX_JSON_TOO_DEEP;
		default:
			return SX_JSON_SYNTAX;
	}
}

/*
 * Unescapes the string whose text begins at raw.  Keeps it when it is a result;
 * else its room is used again.
 */
static SxJsonStatus
unescape(SxJsonReader *reader, ondemand::raw_json_string raw, bool keep,
		 std::string_view *result)
{
	uint8_t    *dst = reader->out;
	error_code	error = reader->parser.unescape(raw, dst).get(*result);

	if (error)
		return fail(reader, error);
	if (keep)
		reader->out = dst;
	return SX_JSON_OK;
}

static void
set_value(SxJsonReader *reader, const SxJsonNode *node, SxJsonKind kind,
		  std::string_view text, std::string_view raw, bool unescaped)
{
	SxJsonValue *value;

	if (node == nullptr || node->field < 0)
		return;
	value = &reader->values[node->field];
	value->kind = kind;
	value->unescaped = unescaped;
	value->text = text.data();
	value->len = text.size();
	value->raw = raw.data();
	value->raw_len = raw.size();
}

static SxJsonStatus
read_string(SxJsonReader *reader, const SxJsonNode *node, std::string_view token)
{
	std::string_view text;

	if (token.size() < 2 || token.back() != '"')
		return fail(reader, TAPE_ERROR);
	text = token.substr(1, token.size() - 2);
	if (reader->escapes && memchr(text.data(), '\\', text.size()) != nullptr)
	{
		ondemand::raw_json_string raw(reinterpret_cast<const uint8_t *>(text.data()));
		bool		keep = node != nullptr && node->field >= 0;
		SxJsonStatus status = unescape(reader, raw, keep, &text);

		if (status != SX_JSON_OK)
			return status;
		set_value(reader, node, SX_JSON_STRING, text, token, true);
	}
	else
		set_value(reader, node, SX_JSON_STRING, text, token, false);
	return SX_JSON_OK;
}

static SxJsonStatus
read_scalar(SxJsonReader *reader, const SxJsonNode *node, std::string_view token)
{
	SxJsonKind	kind;

	switch (token[0])
	{
		case '"':
			return read_string(reader, node, token);
		case 't':
		case 'f':
			if (token != "true" && token != "false")
				return fail(reader, T_ATOM_ERROR);
			kind = SX_JSON_BOOL;
			break;
		case 'n':
			if (token != "null")
				return fail(reader, N_ATOM_ERROR);
			kind = SX_JSON_NULL;
			break;
		default:
			if (!json_is_number(token))
				return fail(reader, NUMBER_ERROR);
			kind = SX_JSON_NUMBER;
			break;
	}
	set_value(reader, node, kind, token, token, false);
	return SX_JSON_OK;
}

/*
 * The child of node that this key leads to, or NULL.  Keys mostly come in the
 * same order, so the search begins behind the child found last.
 */
static SxJsonNode *
match_key(const SxJsonReader *reader, SxJsonNode *node, const char *raw, int *next)
{
	size_t		room = reader->end - raw;
	int			i = *next;

	for (int n = 0; n < node->nchildren; n++)
	{
		SxJsonNode *child = node->children[i];

		if (++i == node->nchildren)
			i = 0;
		if (child->key != nullptr && child->key_len < room &&
			raw[child->key_len] == '"' &&
			memcmp(raw, child->key, child->key_len) == 0)
		{
			*next = i;
			return child;
		}
	}
	return nullptr;
}

/* The same for a key that may contain escapes. */
static SxJsonNode *
match_unescaped_key(SxJsonNode *node, std::string_view key)
{
	for (int i = 0; i < node->nchildren; i++)
	{
		SxJsonNode *child = node->children[i];

		if (child->key != nullptr &&
			key == std::string_view(child->key, child->key_len))
			return child;
	}
	return nullptr;
}

static SxJsonStatus
find_child(SxJsonReader *reader, SxJsonNode *node, const ondemand::field &field,
		   int *next, SxJsonNode **child)
{
	ondemand::raw_json_string raw = field.key();

	*child = nullptr;
	if (reader->escapes)
	{
		std::string_view key;
		SxJsonStatus status = unescape(reader, raw, false, &key);

		if (status == SX_JSON_OK && node != nullptr)
			*child = match_unescaped_key(node, key);
		return status;
	}
	if (node != nullptr)
		*child = match_key(reader, node, raw.raw(), next);
	return SX_JSON_OK;
}

/* Notes that a wanted child is here; a second one is ignored or refused. */
static SxJsonStatus
claim_child(SxJsonReader *reader, SxJsonNode **child, int *remaining)
{
	if (*child == nullptr)
		return SX_JSON_OK;
	if ((*child)->seen == reader->generation)
	{
		*child = nullptr;
		return reader->strict ? SX_JSON_DUPLICATE : SX_JSON_OK;
	}
	(*child)->seen = reader->generation;
	(*remaining)--;
	return SX_JSON_OK;
}

/* node NULL: nothing in here is wanted, a strict reader validates it. */
static SxJsonStatus
read_object(SxJsonReader *reader, SxJsonNode *node, ondemand::object &object,
			int depth)
{
	int			remaining = node != nullptr ? node->nchildren : 0;
	int			next = 0;

	if (remaining == 0 && !reader->strict)
		return SX_JSON_OK;
	for (auto item : object)
	{
		ondemand::field field;
		SxJsonNode *child;
		SxJsonStatus status;
		error_code	error = std::move(item).get(field);

		if (error)
			return fail(reader, error);
		status = find_child(reader, node, field, &next, &child);
		if (status == SX_JSON_OK)
			status = claim_child(reader, &child, &remaining);
		if (status == SX_JSON_OK && (child != nullptr || reader->strict))
			status = read_value(reader, child, field.value(), depth + 1);
		if (status != SX_JSON_OK)
			return status;
		if (remaining == 0 && !reader->strict)
			break;
	}
	return SX_JSON_OK;
}

static SxJsonStatus
read_array(SxJsonReader *reader, SxJsonNode *node, ondemand::array &array, int depth)
{
	int			remaining = node != nullptr ? node->nchildren : 0;
	int64_t		index = 0;

	if (remaining == 0 && !reader->strict)
		return SX_JSON_OK;
	for (auto item : array)
	{
		ondemand::value value;
		SxJsonNode *child = nullptr;
		SxJsonStatus status = SX_JSON_OK;
		error_code	error = std::move(item).get(value);

		if (error)
			return fail(reader, error);
		for (int i = 0; node != nullptr && i < node->nchildren; i++)
		{
			if (node->children[i]->key == nullptr && node->children[i]->index == index)
				child = node->children[i];
		}
		if (child != nullptr)
			remaining--;
		if (child != nullptr || reader->strict)
			status = read_value(reader, child, value, depth + 1);
		if (status != SX_JSON_OK)
			return status;
		if (remaining == 0 && !reader->strict)
			break;
		index++;
	}
	return SX_JSON_OK;
}

/* Is anything to be looked at inside the container that node stands for? */
static bool
wants_inside(const SxJsonReader *reader, const SxJsonNode *node)
{
	return reader->strict || (node != nullptr && node->nchildren > 0);
}

/*
 * An object or array: its raw text when it is wanted as a whole, which moves
 * behind it, then from its start again for what is wanted inside.
 */
template <typename Container, typename Reader>
static SxJsonStatus
read_container(SxJsonReader *reader, SxJsonNode *node, Container &container,
			   int depth, Reader read_inside)
{
	if (node != nullptr && node->field >= 0)
	{
		std::string_view raw;
		error_code	error = container.raw_json().get(raw);

		if (error)
			return fail(reader, error);
		raw = json_trim_right(raw);
		/* simdjson lets an object end before what is no key */
		if (raw.back() != (raw.front() == '{' ? '}' : ']'))
			return fail(reader, INCOMPLETE_ARRAY_OR_OBJECT);
		set_value(reader, node, SX_JSON_CONTAINER, raw, raw, false);
		if (!wants_inside(reader, node))
			return SX_JSON_OK;
		error = container.reset().error();
		if (error)
			return fail(reader, error);
	}
	return read_inside(reader, node, container, depth);
}

static SxJsonStatus
read_value(SxJsonReader *reader, SxJsonNode *node, ondemand::value &value, int depth)
{
	std::string_view token = value.raw_json_token();
	error_code	error;

	if (depth > SX_JSON_MAX_DEPTH)
		return fail(reader, DEPTH_ERROR);
	if (token[0] == '{')
	{
		ondemand::object object;

		error = value.get_object().get(object);
		return error ? fail(reader, error) :
			read_container(reader, node, object, depth, read_object);
	}
	if (token[0] == '[')
	{
		ondemand::array array;

		error = value.get_array().get(array);
		return error ? fail(reader, error) :
			read_container(reader, node, array, depth, read_array);
	}
	return read_scalar(reader, node, json_trim_right(token));
}

/*
 * Room for every string of the document: the results, which together are no
 * longer than the document, and one more behind them for a key.
 */
static bool
reserve_scratch(SxJsonReader *reader, size_t len)
{
	size_t		size = 2 * len + 2 * SIMDJSON_PADDING;

	if (reader->scratch_size < size)
	{
		free(reader->scratch);
		reader->scratch = static_cast<uint8_t *>(malloc(size));
		reader->scratch_size = reader->scratch != nullptr ? size : 0;
	}
	reader->out = reader->scratch;
	return reader->scratch != nullptr;
}

/* After an unusually long document: do not hold its memory for ever. */
static void
give_back(SxJsonReader *reader, size_t len)
{
	if (reader->parser.capacity() > KEEP_CAPACITY && len <= KEEP_CAPACITY)
	{
		reader->parser = ondemand::parser(SX_JSON_MAX_LEN);
		free(reader->scratch);
		reader->scratch = nullptr;
		reader->scratch_size = 0;
	}
}

static SxJsonStatus
read_document(SxJsonReader *reader, const char *buf, size_t len)
{
	ondemand::document doc;
	ondemand::object object;
	std::string_view raw;
	SxJsonStatus status;
	error_code	error;

	error = reader->parser.iterate(padded_string_view(buf, len, len + SIMDJSON_PADDING)).get(doc);
	if (!error)
		error = doc.get_object().get(object);
	if (error)
		return fail(reader, error);

	status = read_object(reader, reader->root, object, 1);
	if (status != SX_JSON_OK)
		return status == SX_JSON_NOT_OBJECT ? SX_JSON_SYNTAX : status;

	/* To the end of the object, behind which nothing may stand. */
	error = object.raw_json().get(raw);
	if (error)
		return fail(reader, error);
	return doc.current_location().error() == OUT_OF_BOUNDS ? SX_JSON_OK : SX_JSON_TRAILING;
}

/*
 * A value of a document of known shape.  False: it is wrong, or has escapes; the walk
 * will see to it.
 */
static bool
read_token(SxJsonReader *reader, int field, std::string_view token, bool container)
{
	SxJsonNode	node = {};

	node.field = field;
	if (container)
	{
		set_value(reader, &node, SX_JSON_CONTAINER, token, token, false);
		return true;
	}
	token = json_trim_right(token);
	if (token[0] == '"' && memchr(token.data(), '\\', token.size()) != nullptr)
		return false;
	return read_scalar(reader, &node, token) == SX_JSON_OK;
}

/* Reads a document of known shape; false: it has none, or something is wrong with it. */
static bool
read_by_shape(SxJsonReader *reader, const char *buf, size_t len)
{
	const JsonShape *shape = json_shapes_find(reader->shapes, buf, len);

	if (shape == nullptr)
		return false;
	reader->escapes = false;
	for (int i = 0; i < reader->nfields; i++)
	{
		const char *token;
		size_t		token_len;
		bool		container;

		if (json_shapes_token(reader->shapes, shape, i, buf, &token, &token_len, &container) &&
			!read_token(reader, i, std::string_view(token, token_len), container))
			return false;
	}
	return true;
}

/*
 * Remembers the shape of a document that has been walked through.  A missing value in
 * the depth is no good: what stands in its way need not be a container, and then has to
 * be looked at.
 */
static void
learn_shape(SxJsonReader *reader, const char *buf, size_t len)
{
	if (reader->shapes == nullptr || reader->escapes)
		return;
	for (int i = 0; i < reader->nfields; i++)
	{
		if (reader->values[i].kind == SX_JSON_MISSING && !reader->flat)
			return;
	}
	json_shapes_learn(reader->shapes, buf, len, reader->values);
}

extern "C" SxJsonStatus
sx_json_read(SxJsonReader *reader, const char *buf, size_t len,
			 SxJsonValue *values, const char **detail)
{
	SxJsonStatus status;

	memset(values, 0, reader->nfields * sizeof(SxJsonValue));
	give_back(reader, len);
	reader->values = values;
	*detail = nullptr;
	if (reader->shapes != nullptr && read_by_shape(reader, buf, len))
		return SX_JSON_OK;

	memset(values, 0, reader->nfields * sizeof(SxJsonValue));
	reader->generation++;
	reader->end = buf + len;
	reader->error = SUCCESS;
	reader->escapes = memchr(buf, '\\', len) != nullptr;

	if (len > SX_JSON_MAX_LEN)
		status = fail(reader, CAPACITY);
	else if (reader->escapes && !reserve_scratch(reader, len))
		status = fail(reader, MEMALLOC);
	else
		status = read_document(reader, buf, len);
	if (status == SX_JSON_OK)
		learn_shape(reader, buf, len);
	*detail = json_status_detail(status, reader->error);
	return status;
}

static bool
is_flat(const SxJsonNode *root)
{
	for (int i = 0; i < root->nchildren; i++)
	{
		if (root->children[i]->nchildren > 0)
			return false;
	}
	return true;
}

extern "C" SxJsonReader *
sx_json_reader_create(SxJsonNode *root, int nfields, bool strict)
{
	SxJsonReader *reader = new (std::nothrow) SxJsonReader;

	if (reader != nullptr)
	{
		reader->root = root;
		reader->nfields = nfields;
		reader->strict = strict;
		reader->flat = is_flat(root);
		reader->shapes = strict ? nullptr : json_shapes_create(nfields);
		if (!strict && reader->shapes == nullptr)
		{
			delete reader;
			return nullptr;
		}
	}
	return reader;
}

extern "C" void
sx_json_reader_destroy(SxJsonReader *reader)
{
	if (reader->shapes != nullptr)
		json_shapes_destroy(reader->shapes);
	free(reader->scratch);
	delete reader;
}
