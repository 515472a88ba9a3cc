/*-------------------------------------------------------------------------
 *
 * json_shape.h
 *		Documents that look like one read before.  Private to the JSON reader.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_JSON_SHAPE_H
#define SX_JSON_SHAPE_H

#include <cstddef>
#include <cstdint>

#include "format/json_simd.h"

struct JsonShapes;				/* those of one reader */
struct JsonShape;

/* NULL: out of memory. */
extern JsonShapes *json_shapes_create(int nfields);
extern void json_shapes_destroy(JsonShapes *shapes);

/*
 * The shape of the document, or NULL: none that is known.  Valid, like what the
 * functions below say, until the next call.
 */
extern const JsonShape *json_shapes_find(JsonShapes *shapes, const char *buf, size_t len);

/*
 * Where the value of a field stands: its first byte, and with a container's last, else
 * up to the next bracket, brace, comma or colon.  False: it is not in the document.
 */
extern bool json_shapes_token(const JsonShapes *shapes, const JsonShape *shape, int field,
							  const char *buf, const char **token, size_t *len,
							  bool *container);

/*
 * The document of the last find(), which found nothing, has been read, with these values:
 * remembers its shape.
 */
extern void json_shapes_learn(JsonShapes *shapes, const char *buf, size_t len,
							  const SxJsonValue *values);

#endif							/* SX_JSON_SHAPE_H */
