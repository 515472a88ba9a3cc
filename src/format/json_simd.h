/*-------------------------------------------------------------------------
 *
 * json_simd.h
 *		C interface of the JSON reader, which is written in C++.
 *
 * This header is the border between PostgreSQL and simdjson.  It includes
 * nothing of either.  Nothing behind it calls back, throws, or longjmps, so no
 * ereport() can happen while a C++ frame is on the stack.
 *
 * The caller owns the tree of wanted values (SxJsonNode) and the result array;
 * the reader owns the parser's buffers.  Result texts point into the record or
 * into the reader's buffers and are valid until the next call.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_JSON_SIMD_H
#define SX_JSON_SIMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SX_JSON_MAX_DEPTH	512
#define SX_JSON_MAX_LEN		((size_t) 64 * 1024 * 1024)

/*
 * The wanted values of a document as a tree: the root stands for the top-level
 * object, its children for members or elements on the way to a wanted value.
 */
typedef struct SxJsonNode
{
	const char *key;			/* member of an object, in UTF-8 … */
	size_t		key_len;
	int64_t		index;			/* … or, when key is NULL, array element */
	int			field;			/* index into the results, -1: only on the way */
	int			nchildren;
	struct SxJsonNode **children;
	uint64_t	seen;			/* the reader's: last document that had it */
} SxJsonNode;

typedef enum SxJsonKind
{
	SX_JSON_MISSING = 0,
	SX_JSON_NULL,
	SX_JSON_BOOL,
	SX_JSON_NUMBER,
	SX_JSON_STRING,
	SX_JSON_CONTAINER			/* an object or array; only its brackets were
								 * checked */
} SxJsonKind;

typedef struct SxJsonValue
{
	SxJsonKind	kind;
	bool		unescaped;		/* text had escapes: may hold a zero byte */
	const char *text;			/* a string without quotes and escapes, else raw */
	size_t		len;
	const char *raw;			/* the token as it stands in the document */
	size_t		raw_len;
} SxJsonValue;

typedef enum SxJsonStatus
{
	SX_JSON_OK = 0,
	SX_JSON_SYNTAX,
	SX_JSON_ENCODING,			/* not UTF-8 */
	SX_JSON_NOT_OBJECT,
	SX_JSON_TRAILING,			/* something behind the object */
	SX_JSON_DUPLICATE,			/* strict: a wanted key twice */
	SX_JSON_TOO_DEEP,
	SX_JSON_TOO_LONG,
	SX_JSON_OUT_OF_MEMORY
} SxJsonStatus;

typedef struct SxJsonReader SxJsonReader;

#ifdef __cplusplus
extern "C"
{
#endif

/* NULL: out of memory.  The tree must outlive the reader. */
extern SxJsonReader *sx_json_reader_create(SxJsonNode *root, int nfields,
										   bool strict);
extern void sx_json_reader_destroy(SxJsonReader *reader);

/*
 * Reads one document of len bytes, behind which SX_RECORD_SLACK more must be
 * readable.  values has nfields entries.  *detail is set unless OK.
 */
extern SxJsonStatus sx_json_read(SxJsonReader *reader, const char *buf, size_t len,
								 SxJsonValue *values, const char **detail);

#ifdef __cplusplus
}
#endif

#endif							/* SX_JSON_SIMD_H */
