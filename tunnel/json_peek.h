/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_JSON_PEEK_H
#define TUNNEL_JSON_PEEK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * json_peek: a few members of a JSON text that comes in pieces.  Pure.
 *
 * It reads an object (RFC 8259) without keeping it: neither memory nor time
 * depends on how it is cut or nested.  Watched members are named by paths of
 * keys, which are compared as they are meant: a key may be written with
 * escapes.  The whole text is checked, so that no two readers could disagree
 * on what they see: the grammar, UTF-8 (an overlong quote), one value and
 * nothing behind it, and in keys no NUL and no half of a surrogate pair.
 */
#define JSON_PEEK_PATHS_MAX 16	 /* watched members */
#define JSON_PEEK_DEPTH_MAX 64	 /* nesting */
#define JSON_PEEK_TEXT_MAX  4096 /* bytes of a value that is kept */

/* A member to watch for. */
struct json_peek_path {
	const char *path; /* ASCII, as "type" or "response.usage" */
	size_t max_bytes; /* of its value as text; over it, it is TOO_LARGE */
};

struct json_peek;

/* The paths are borrowed. */
struct json_peek *json_peek_new(const struct json_peek_path *paths,
    size_t count);
void json_peek_free(struct json_peek *peek); /* NULL is allowed */

/* Begin with another text. */
void json_peek_reset(struct json_peek *peek);

/*
 * Go on with the text.  ERR_PROTO as soon as it is no JSON object, ERR_LIMIT
 * where it is nested too deeply; every later call says the same then.
 */
enum err json_peek_feed(struct json_peek *peek, const void *data,
    size_t len) MUST_CHECK;

/* The text has ended: ERR_PROTO where it may not. */
enum err json_peek_end(struct json_peek *peek) MUST_CHECK;

enum json_peek_state {
	JSON_PEEK_ABSENT,    /* not met yet; after the end: not there */
	JSON_PEEK_FOUND,     /* its value has been read whole */
	JSON_PEEK_TOO_LARGE, /* it is there, and more than was to be kept */
	JSON_PEEK_TWICE,     /* it came again, or what it is in: readers
				would disagree */
};

/* After an error it says nothing. */
enum json_peek_state json_peek_state(const struct json_peek *peek, size_t path);

/*
 * The value of a member in JSON_PEEK_FOUND, as it stands in the text (a string
 * with its quotes and escapes), NUL-terminated; borrowed.
 */
const char *json_peek_value(const struct json_peek *peek, size_t path,
    size_t *ret_len);

/*
 * The same for a string, its escapes resolved, into out; false where it is no
 * string, has more than size - 1 bytes, or holds a NUL or a lone surrogate.
 */
bool json_peek_string(const struct json_peek *peek, size_t path, char *out,
    size_t size);

#endif
