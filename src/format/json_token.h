/*-------------------------------------------------------------------------
 *
 * json_token.h
 *		What the JSON reader says of single tokens, and of errors.  Private to it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_JSON_TOKEN_H
#define SX_JSON_TOKEN_H

#include <string_view>

#include <simdjson.h>

#include "format/json_simd.h"

/* Without white space at its end. */
extern std::string_view json_trim_right(std::string_view token);

/* The grammar of RFC 8259: what simdjson calls a number may be any token. */
extern bool json_is_number(std::string_view token);

/* What is wrong, to follow a colon; NULL: nothing. */
extern const char *json_status_detail(SxJsonStatus status, simdjson::error_code error);

#endif							/* SX_JSON_TOKEN_H */
