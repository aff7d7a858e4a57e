/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONF_TREE_H
#define BROKER_CONF_TREE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

/*
 * conf_tree: the text of culvert.conf(5) as a tree of sections and keys.
 *
 * The only user of libconfuse.  It knows which keys a section has; what the
 * values mean is for its callers.  Every value is a string here.
 *
 * The text is UTF-8.  A comment goes from # to the end of its line.  A
 * string in quotes ends on its line; in double quotes \" \\ \$ \n and \t
 * are the escapes, and ${ is refused, so that nothing of the environment gets
 * into a setting.  A key is given once in a section.
 *
 * A section that is not in the file is NULL, and everything below takes NULL
 * for a section without any key.
 */
struct conf_section;

#define CONF_MAX_BYTES (1024 * 1024)

/*
 * Parse a text; name is the file's, for messages: "name:line: ...".
 * ERR_PROTO, ERR_LIMIT.  The caller frees the root.  Thread-safe.
 */
enum err conf_parse(const char *name, const char *text, size_t len,
    struct conf_section **ret, struct diag *diag) MUST_CHECK;

/* Free the whole tree by its root; NULL is allowed. */
void conf_free(struct conf_section *root);

/* Whether a key stands in the file, be it an empty list. */
bool conf_given(struct conf_section *section, const char *key);

/* A key's values: how many, and one of them, NULL where there is none. */
size_t conf_count(struct conf_section *section, const char *key);
const char *conf_string(struct conf_section *section, const char *key,
    size_t index);

/* The sections of this name within this one. */
size_t conf_section_count(struct conf_section *section, const char *name);
struct conf_section *conf_section(struct conf_section *section,
    const char *name, size_t index);

/* The section's title; "" where it has none. */
const char *conf_title(struct conf_section *section);

/*
 * Say what is wrong with a key, or, key being NULL, with the whole section:
 * "file:line: name "title": key: ...".  Returns ERR_PROTO.
 */
enum err conf_fail(struct conf_section *section, const char *key,
    struct diag *diag, const char *fmt, ...) PRINTF_LIKE(4, 5);

#endif
