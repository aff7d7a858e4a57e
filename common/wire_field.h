/* SPDX-License-Identifier: MIT */
#ifndef COMMON_WIRE_FIELD_H
#define COMMON_WIRE_FIELD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire_text.h"

/*
 * wire_field: structures as JSON objects and back, by tables.
 *
 * One table of fields says everything about a structure: parsing, formatting
 * and freeing are each one walk over that table.  What is not there is NULL,
 * false or 0, and where that is allowed (`optional') it is not written either.
 */
enum wire_kind {
	WIRE_KIND_TEXT,	   /* char * */
	WIRE_KIND_TEXTS,   /* char *[max], and a size_t count */
	WIRE_KIND_NUMBER,  /* an integer of `size' bytes */
	WIRE_KIND_NUMBERS, /* int64_t[], and a size_t count */
	WIRE_KIND_FLAG,	   /* bool */
	WIRE_KIND_HEADERS, /* struct wire_headers */
	WIRE_KIND_VALUE,   /* json_t * */
	WIRE_KIND_OBJECT,  /* what `table' says, in the structure at `offset' */
};

struct wire_field {
	const char *name;
	enum wire_kind kind;
	bool optional;
	size_t offset;
	size_t size;
	int64_t min, max;	/* a number; how many texts or numbers */
	size_t max_bytes;	/* of a text */
	wire_text_check *check; /* of a text */
	size_t count_offset;	/* of texts, of numbers */
	const struct wire_table *table;
};

struct wire_table {
	const char *name;
	const struct wire_field *fields;
	size_t count;
};

/*
 * Parse the object's members into a structure that is all zero; others are
 * ignored.  ERR_PROTO, ERR_LIMIT, and diag names the member; what was parsed
 * until then is there to be freed.
 */
enum err wire_table_parse(const struct wire_table *table, const json_t *object,
    void *base, struct diag *diag) MUST_CHECK;

/* Add the structure's members.  ERR_PROTO, ERR_LIMIT: it could not be parsed.
 */
enum err wire_table_format(const struct wire_table *table, const void *base,
    json_t *object) MUST_CHECK;

/* Clear (secrets) and free what the structure owns. */
void wire_table_done(const struct wire_table *table, void *base);

#endif
