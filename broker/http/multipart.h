/* SPDX-License-Identifier: MIT */
#ifndef BROKER_MULTIPART_H
#define BROKER_MULTIPART_H

#include <stddef.h>

#include "common/err.h"

/*
 * multipart: bodies of multipart/form-data (RFC 7578, RFC 2046 5.1), as HTML
 * forms, curl and fetch() write them.  Pure.
 *
 * Read strictly: no text before the first part or after the last, no transfer
 * encoding, no two parts of one name.
 */
#define MULTIPART_PARTS_MAX 8
#define MULTIPART_NAME_MAX  64
#define MULTIPART_HEAD_MAX  1024 /* bytes of one part's headers */

struct multipart_part {
	char name[MULTIPART_NAME_MAX + 1];
	const char *data; /* borrowed from the body */
	size_t len;
};

struct multipart {
	struct multipart_part parts[MULTIPART_PARTS_MAX];
	size_t count;
};

/*
 * Take a body apart.  ERR_TYPE where content_type is none of a form with a
 * boundary, ERR_PROTO, ERR_LIMIT; diag holds nothing of the content.
 */
enum err multipart_parse(const char *content_type, const char *body, size_t len,
    struct multipart *ret, struct diag *diag) MUST_CHECK;

/* The part of this name; NULL where there is none. */
const struct multipart_part *multipart_find(const struct multipart *form,
    const char *name);

/* A part to be written. */
struct multipart_field {
	const char *name; /* a constant of ours */
	const char *type; /* its Content-Type; the same */
	const char *data;
	size_t len;
};

/*
 * Write a body, with a boundary that is made of random bytes, so that it
 * stands nowhere in the data.  The caller frees both, and clears the body where
 * that is needed.
 */
void multipart_format(const struct multipart_field *fields, size_t count,
    char **ret_content_type, char **ret_body, size_t *ret_len);

#endif
