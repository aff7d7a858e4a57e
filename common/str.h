/* SPDX-License-Identifier: MIT */
#ifndef COMMON_STR_H
#define COMMON_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/* str: small pure helpers for strings that peers or operators gave us. */

/*
 * Write a peer's bytes as a printable ASCII word for the log into out, with
 * a terminating NUL; anything else becomes \xNN, and what does not fit is
 * cut and marked "...".  size is at least 8.  Returns out.
 */
char *str_escape(char *out, size_t size, const void *in, size_t len);

/* A token of RFC 9110 5.6.2: 1 to len characters, no separators. */
bool str_is_token(const char *s, size_t len);

/* Only visible ASCII, space, tab and bytes over 0x7f (RFC 9110 5.5). */
bool str_is_field_value(const char *s, size_t len);

/* Well-formed UTF-8 (RFC 3629): no overlong form, surrogate or > 10FFFF. */
bool str_is_utf8(const void *data, size_t len);

/* A numeric IPv4 or IPv6 address, as inet_pton(3) reads it: no zone. */
bool str_is_address(const char *s);

/*
 * Why this is not a path that everybody reads alike: it begins with "/", has
 * only characters that stand for themselves (RFC 3986 3.3, no escapes), no
 * empty segment but the last, and no dot segment.  Static text, for the one
 * who wrote the path; NULL where nothing is wrong.
 */
const char *str_path_fault(const char *s, size_t len);

/*
 * A decimal number without sign, blanks or anything else around it.
 * ERR_PROTO for anything else, ERR_LIMIT above max; *ret untouched then.
 */
enum err str_to_u64(const char *s, size_t len, uint64_t max,
    uint64_t *ret) MUST_CHECK;

/* Glob: '*' is any run of characters, also none; all else, case too, itself. */
bool str_match(const char *pattern, const char *s);

/*
 * Find word in a comma-separated list (RFC 9110 5.6.1), ASCII
 * case-insensitively, blanks around items ignored.
 */
bool str_list_has(const char *list, size_t len, const char *word);

#endif
