/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONFIG_VALUE_H
#define BROKER_CONFIG_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "broker/config/conf_tree.h"
#include "broker/config/config.h"
#include "common/err.h"

/*
 * config_value: from a key's text to a checked value.
 *
 * Every value_get_*() answers ERR_PROTO with "file:line: ..." in diag where
 * the text will not do, and the fallback where the key is absent.
 */

#define VALUE_LIST_MAX 256 /* items of a list */
#define VALUE_ITEM_MAX 256 /* bytes of an item */
#define VALUE_TEXT_MAX 8192

/* What is wrong with a text, or NULL. */
typedef const char *value_check(const char *text);

/* An absolute request path: "/", then segments without escapes or dots. */
value_check value_check_path;
/* An absolute path of a file. */
value_check value_check_file;
/* A pattern of str_match(), or a plain value. */
value_check value_check_word;
/* A token of RFC 9110. */
value_check value_check_token;
/* A header's value. */
value_check value_check_field;

enum err value_get_number(struct conf_section *section, const char *key,
    uint64_t min, uint64_t max, uint64_t fallback, uint64_t *ret,
    struct diag *diag) MUST_CHECK;

enum err value_get_bool(struct conf_section *section, const char *key,
    bool fallback, bool *ret, struct diag *diag) MUST_CHECK;

/* check may be NULL; the fallback, too, and *ret then; the caller frees it. */
enum err value_get_text(struct conf_section *section, const char *key,
    value_check *check, const char *fallback, char **ret,
    struct diag *diag) MUST_CHECK;

/* The same, but "" is as good as absent: *ret is NULL. */
enum err value_get_optional(struct conf_section *section, const char *key,
    value_check *check, char **ret, struct diag *diag) MUST_CHECK;

/* fallback ends with NULL; it may be NULL for an empty list. */
enum err value_get_list(struct conf_section *section, const char *key,
    value_check *check, const char *const *fallback, struct config_strings *ret,
    struct diag *diag) MUST_CHECK;

/* Append copies. */
void value_add(struct config_strings *strings, const char *item);
void value_copy_list(const struct config_strings *from,
    struct config_strings *to);

/* A secret that may stand in a header; NULL for an absent key without fallback.
 */
enum err value_get_secret(struct conf_section *section, const char *key,
    const char *fallback, struct secret **ret, struct diag *diag) MUST_CHECK;

/* `ca_file': a file that can be read; NULL where there is none. */
enum err value_get_ca_file(struct conf_section *section, char **ret,
    struct diag *diag) MUST_CHECK;

/*
 * What the UTF-8 file that the key names holds, of at most max bytes, without
 * its last line ending; *ret_path and *ret_text are not touched where there is
 * none.
 */
enum err value_get_text_file(struct conf_section *section, const char *key,
    size_t max, char **ret_path, char **ret_text,
    struct diag *diag) MUST_CHECK;

/* What tunnel{}, relay{} and openai{} have in common. */
struct relay_limits {
	struct wire_limits wire;
	uint64_t max_connections;
};

/* base is what absent keys are; NULL for our own defaults. */
enum err value_get_limits(struct conf_section *section,
    const struct relay_limits *base, struct relay_limits *ret,
    struct diag *diag) MUST_CHECK;

/* ---- the way back: what was read, as text of a file ---- */

/* A string in quotes. */
void value_put_quoted(FILE *out, const char *text);

/* "KEY = VALUE" on a line of its own, indented; NULL is "". */
void value_put_text(FILE *out, int indent, const char *key, const char *text);
void value_put_number(FILE *out, int indent, const char *key, uint64_t number);
void value_put_bool(FILE *out, int indent, const char *key, bool value);
void value_put_list(FILE *out, int indent, const char *key,
    const struct config_strings *strings);

/* Where the secret comes from, and as a comment how long it is. */
void value_put_secret(FILE *out, int indent, const char *key,
    const struct secret *secret);

void value_put_limits(FILE *out, int indent, const struct relay_limits *values);

#endif
