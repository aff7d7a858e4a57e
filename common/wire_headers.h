/* SPDX-License-Identifier: MIT */
#ifndef COMMON_WIRE_HEADERS_H
#define COMMON_WIRE_HEADERS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

/*
 * wire_headers: header fields in the packets of the control socket: of one
 * request, or for one upstream or answer.  As JSON each is [name, value], or
 * [name, value, true] where it is secret.
 */
#define WIRE_HEADERS_MAX 100

struct wire_header {
	char *name;  /* as received; compare without case */
	char *value; /* blanks around it removed */
	bool secret; /* its last word is a key of ours */
};

struct wire_headers {
	struct wire_header *items;
	size_t count;
};

/*
 * Append a copy, without the blanks around the value.  ERR_PROTO for a name
 * that is no token or a value that is no field value in UTF-8; ERR_LIMIT past
 * WIRE_HEADERS_MAX.
 */
enum err wire_headers_add(struct wire_headers *headers, const char *name,
    const char *value) MUST_CHECK;

/* The first header of this name, without case; NULL where there is none. */
const char *wire_headers_find(const struct wire_headers *headers,
    const char *name);

/* Clear (secrets) and free them. */
void wire_headers_done(struct wire_headers *headers);

#endif
