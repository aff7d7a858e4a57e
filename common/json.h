/* SPDX-License-Identifier: MIT */
#ifndef COMMON_JSON_H
#define COMMON_JSON_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * json: strict reading of JSON from peers, on jansson.
 *
 * jansson's json_t is this project's vocabulary for JSON, in headers too;
 * what peers sent comes in through json_parse() only.  In a program that has
 * this module, all memory that jansson frees is cleared first.
 */

/* Nesting that a peer's JSON may have. */
#define JSON_DEPTH_MAX 32

/* Commas and opening brackets in it: what bounds the memory it takes. */
#define JSON_VALUES_MAX 131072

/*
 * Parse one JSON value (RFC 8259) that fills all of data: no byte-order
 * mark, no trailing bytes, no duplicate member, no NUL in a string, depth
 * of at most JSON_DEPTH_MAX, at most JSON_VALUES_MAX values, no number
 * outside double's or int64's range.  ERR_PROTO with the reason, never with content.  The caller decrefs it.
 */
enum err json_parse(const void *data, size_t len, json_t **ret,
    struct diag *diag) MUST_CHECK;

/*
 * Typed members of an object.  Each answers ERR_NOTFOUND where the member
 * is absent (or null), ERR_PROTO where it has another type, ERR_LIMIT out
 * of range; *ret is untouched then.  A string is borrowed from the object.
 */
enum err json_get_string(const json_t *object, const char *name,
    size_t max_bytes, const char **ret) MUST_CHECK;
enum err json_get_int(const json_t *object, const char *name, int64_t min,
    int64_t max, int64_t *ret) MUST_CHECK;

/* The object that is a member of this one, made where there is none; borrowed.
 */
json_t *json_make_object(json_t *object, const char *name);

/*
 * A value of our own making, from jansson: it is NULL where memory has run out,
 * or a text was not UTF-8, which ours is.  Ends the process then.
 */
json_t *json_made(json_t *value);

/* Compact text of a value, NUL-terminated; the caller frees it. */
char *json_text(const json_t *value, size_t *ret_len);

#endif
