/*-------------------------------------------------------------------------
 *
 * json_shape.cpp
 *		Documents that look like one read before.
 *
 * The records of a topic mostly have the same keys in the same order.  Then there is
 * no need to walk through each of them: where a value stands in simdjson's list of
 * structural characters follows from where it stood the last time.
 *
 * The shape of a document is the list of its structural characters (brackets, braces,
 * colons, commas, and the first character of each value, of which it only counts
 * whether it is a quote), with the keys up to the last value that is wanted, byte for
 * byte.  The reader's walk depends on nothing else: whether the braces match, which key is
 * the first of its name, where a value begins and ends.  So what a walk through one
 * document has found and accepted, it would find and accept in every other of its
 * shape.  Values themselves are looked at by the reader, each time.
 *
 * Some shapes are kept, the one that fitted last first.  When documents keep having
 * new ones, as when keys are data, looking for them is given up for a while.
 *
 * Nothing of this is used by a strict reader, and no document with a backslash in it
 * is remembered, as its keys may be others than they look.
 *
 *-------------------------------------------------------------------------
 */
#define SIMDJSON_EXCEPTIONS 0
#define SIMDJSON_DEVELOPMENT_CHECKS 0

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include <simdjson.h>

#include "format/json_shape.h"

using namespace simdjson;

static const int MAX_SHAPES = 8;
static const size_t MAX_LEN = 64 * 1024;	/* of a document with a shape */
static const uint32_t MAX_STRUCTURALS = 8192;
static const uint32_t MAX_PAUSE = 1024; /* documents not looked at */

/* A key: its text with the closing quote. */
struct ShapeKey
{
	uint32_t	at;				/* which structural character */
	uint32_t	len;
	const char *text;			/* padded to a multiple of 8 bytes */
	uint64_t	mask;			/* of the last 8 bytes */
};

struct ShapeField
{
	int64_t		at;				/* which structural character, -1: not there */
	int64_t		end;			/* of a container: its last one, else -1 */
};

struct JsonShape
{
	uint32_t	n;				/* structural characters */
	uint32_t	nkeys;
	uint8_t    *classes;		/* one block with all the rest */
	ShapeKey   *keys;
	ShapeField *fields;
};

struct JsonShapes
{
	std::unique_ptr<internal::dom_parser_implementation> index;
	size_t		capacity = 0;
	int			nfields = 0;
	int			nshapes = 0;
	JsonShape  *shapes[MAX_SHAPES] = {};
	bool		indexed = false;	/* index is of the document at hand */
	uint32_t	pause = 0;		/* how long the last one was */
	uint32_t	paused = 0;		/* documents still not to look at */
};

/* ---------- classes of characters ---------- */

struct ClassTable
{
	uint8_t		of[256] = {};

	constexpr ClassTable()
	{
		of[static_cast<uint8_t>('{')] = 1;
		of[static_cast<uint8_t>('}')] = 2;
		of[static_cast<uint8_t>('[')] = 3;
		of[static_cast<uint8_t>(']')] = 4;
		of[static_cast<uint8_t>(':')] = 5;
		of[static_cast<uint8_t>(',')] = 6;
		of[static_cast<uint8_t>('"')] = 7;
	}
};

static constexpr ClassTable CLASSES;

static inline uint8_t
class_of(char c)
{
	return CLASSES.of[static_cast<uint8_t>(c)];
}

static inline uint64_t
load8(const char *p)
{
	uint64_t	v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* ---------- finding ---------- */

/* Fills the index; false: the reader will say why not. */
static bool
make_index(JsonShapes *shapes, const char *buf, size_t len)
{
	if (shapes->capacity < len)
	{
		size_t		capacity = len < 4096 ? 4096 : MAX_LEN;

		shapes->capacity = 0;
		if (get_active_implementation()->create_dom_parser_implementation(capacity,
																		  SX_JSON_MAX_DEPTH,
																		  shapes->index))
			return false;
		shapes->capacity = capacity;
	}
	return shapes->index->stage1(reinterpret_cast<const uint8_t *>(buf), len,
								 stage1_mode::regular) == SUCCESS;
}

/*
 * Reads up to 7 bytes beyond a key, which are those of the slack at worst.  The
 * colon behind the key's closing quote shows that it lies within the document.
 */
static inline bool
same_key(const ShapeKey *key, const char *buf, const uint32_t *at)
{
	const char *a = buf + at[key->at] + 1;
	const char *b = key->text;
	uint32_t	left = key->len;

	if (at[key->at + 1] < at[key->at] + 1 + key->len)
		return false;
	for (; left > 8; left -= 8, a += 8, b += 8)
	{
		if (load8(a) != load8(b))
			return false;
	}
	return ((load8(a) ^ load8(b)) & key->mask) == 0;
}

static bool
fits(const JsonShape *shape, const JsonShapes *shapes, const char *buf)
{
	const uint32_t *at = shapes->index->structural_indexes.get();

	if (shape->n != shapes->index->n_structural_indexes)
		return false;
	for (uint32_t i = 0; i < shape->n; i++)
	{
		if (class_of(buf[at[i]]) != shape->classes[i])
			return false;
	}
	for (uint32_t i = 0; i < shape->nkeys; i++)
	{
		if (!same_key(&shape->keys[i], buf, at))
			return false;
	}
	return true;
}

const JsonShape *
json_shapes_find(JsonShapes *shapes, const char *buf, size_t len)
{
	shapes->indexed = false;
	if (shapes->paused > 0)
	{
		shapes->paused--;
		return nullptr;
	}
	if (len == 0 || len > MAX_LEN || !make_index(shapes, buf, len))
		return nullptr;
	for (int i = 0; i < shapes->nshapes; i++)
	{
		JsonShape  *shape = shapes->shapes[i];

		if (fits(shape, shapes, buf))
		{
			memmove(shapes->shapes + 1, shapes->shapes, i * sizeof(JsonShape *));
			shapes->shapes[0] = shape;
			shapes->pause = 0;
			return shape;
		}
	}
	shapes->indexed = true;
	return nullptr;
}

bool
json_shapes_token(const JsonShapes *shapes, const JsonShape *shape, int field,
				  const char *buf, const char **token, size_t *len, bool *container)
{
	const uint32_t *at = shapes->index->structural_indexes.get();
	const ShapeField *place = &shape->fields[field];

	if (place->at < 0)
		return false;
	*token = buf + at[place->at];
	*container = place->end >= 0;
	*len = *container ? at[place->end] + 1 - at[place->at] :
		at[place->at + 1] - at[place->at];
	return true;
}

/* ---------- learning ---------- */

/* Which structural character stands at this offset; -1: none. */
static int64_t
find_structural(const JsonShapes *shapes, size_t offset)
{
	const uint32_t *at = shapes->index->structural_indexes.get();
	uint32_t	from = 0;
	uint32_t	to = shapes->index->n_structural_indexes;

	while (from < to)
	{
		uint32_t	middle = from + (to - from) / 2;

		if (at[middle] < offset)
			from = middle + 1;
		else
			to = middle;
	}
	if (from == shapes->index->n_structural_indexes || at[from] != offset)
		return -1;
	return from;
}

/*
 * Where the values stand.  *upto: keys are of interest before this structural
 * character, which is all of them when a value is missing.
 */
static bool
place_fields(JsonShapes *shapes, JsonShape *shape, const char *buf,
			 const SxJsonValue *values, uint32_t *upto)
{
	*upto = 0;
	for (int i = 0; i < shapes->nfields; i++)
	{
		const SxJsonValue *value = &values[i];
		ShapeField *field = &shape->fields[i];

		field->at = field->end = -1;
		if (value->kind == SX_JSON_MISSING)
		{
			*upto = shape->n;
			continue;
		}
		field->at = find_structural(shapes, value->raw - buf);
		if (value->kind == SX_JSON_CONTAINER)
			field->end = find_structural(shapes, value->raw + value->raw_len - 1 - buf);
		if (field->at < 0 || field->at + 1 >= shape->n ||
			(value->kind == SX_JSON_CONTAINER && field->end < 0))
			return false;
		if (*upto < field->at)
			*upto = static_cast<uint32_t>(field->at);
	}
	return true;
}

/* The keys, with text behind them in the shape's block; returns the bytes it takes. */
static size_t
copy_keys(const JsonShapes *shapes, JsonShape *shape, const char *buf, uint32_t upto,
		  char *text)
{
	const uint32_t *at = shapes->index->structural_indexes.get();
	size_t		used = 0;

	shape->nkeys = 0;
	for (uint32_t i = 0; i + 1 < upto; i++)
	{
		const char *from = buf + at[i] + 1;
		const char *quote;
		ShapeKey   *key = &shape->keys[shape->nkeys];
		uint32_t	rest;

		if (buf[at[i]] != '"' || buf[at[i + 1]] != ':')
			continue;
		quote = static_cast<const char *>(memchr(from, '"', at[i + 1] - at[i] - 1));
		if (quote == nullptr)
			continue;
		key->at = i;
		key->len = static_cast<uint32_t>(quote + 1 - from);
		key->text = text + used;
		memcpy(text + used, from, key->len);
		used += (key->len + 7) & ~static_cast<size_t>(7);
		rest = (key->len - 1) % 8 + 1;
		key->mask = rest == 8 ? ~UINT64_C(0) : (UINT64_C(1) << (8 * rest)) - 1;
		shape->nkeys++;
	}
	return used;
}

/*
 * One block of memory: the shape, its fields, keys, their text, classes.  Padding makes
 * a key up to 8 bytes longer, each has at least two structural characters.
 */
static JsonShape *
make_shape(JsonShapes *shapes, const char *buf, size_t len, const SxJsonValue *values)
{
	const uint32_t *at = shapes->index->structural_indexes.get();
	uint32_t	n = shapes->index->n_structural_indexes;
	size_t		fields = shapes->nfields * sizeof(ShapeField);
	size_t		keys = (n / 2 + 1) * sizeof(ShapeKey);
	size_t		text = ((len + 7) & ~static_cast<size_t>(7)) + (n / 2 + 1) * 8;
	char	   *block = static_cast<char *>(calloc(1, sizeof(JsonShape) + fields + keys + text + n));
	JsonShape  *shape = reinterpret_cast<JsonShape *>(block);
	uint32_t	upto;

	if (block == nullptr)
		return nullptr;
	block += sizeof(JsonShape);
	shape->fields = reinterpret_cast<ShapeField *>(block);
	shape->keys = reinterpret_cast<ShapeKey *>(block + fields);
	shape->classes = reinterpret_cast<uint8_t *>(block + fields + keys + text);
	shape->n = n;
	for (uint32_t i = 0; i < n; i++)
		shape->classes[i] = class_of(buf[at[i]]);
	if (!place_fields(shapes, shape, buf, values, &upto))
	{
		free(shape);
		return nullptr;
	}
	copy_keys(shapes, shape, buf, upto, block + fields + keys);
	return shape;
}

void
json_shapes_learn(JsonShapes *shapes, const char *buf, size_t len,
				  const SxJsonValue *values)
{
	JsonShape  *shape;

	if (!shapes->indexed)
		return;
	if (shapes->nshapes == MAX_SHAPES)
	{
		/* none of them fitted: pause the longer the more often in a row */
		shapes->pause = shapes->pause == 0 ? 1 : shapes->pause * 2;
		if (shapes->pause > MAX_PAUSE)
			shapes->pause = MAX_PAUSE;
		shapes->paused = shapes->pause;
	}
	if (shapes->index->n_structural_indexes > MAX_STRUCTURALS ||
		(shape = make_shape(shapes, buf, len, values)) == nullptr)
		return;
	if (shapes->nshapes == MAX_SHAPES)
		free(shapes->shapes[--shapes->nshapes]);
	memmove(shapes->shapes + 1, shapes->shapes, shapes->nshapes * sizeof(JsonShape *));
	shapes->shapes[0] = shape;
	shapes->nshapes++;
}

/* ---------- life ---------- */

JsonShapes *
json_shapes_create(int nfields)
{
	JsonShapes *shapes = new (std::nothrow) JsonShapes;

	if (shapes != nullptr)
		shapes->nfields = nfields;
	return shapes;
}

void
json_shapes_destroy(JsonShapes *shapes)
{
	for (int i = 0; i < shapes->nshapes; i++)
		free(shapes->shapes[i]);
	delete shapes;
}
