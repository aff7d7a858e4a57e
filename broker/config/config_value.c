/* SPDX-License-Identifier: MIT */
#include "broker/config/config_value.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/str.h"
#include "common/xalloc.h"

/* ---- checks ---- */

const char *
value_check_path(const char *text)
{
	return str_path_fault(text, strlen(text));
}

const char *
value_check_file(const char *text)
{
	return *text == '/' ? NULL : "write the whole path, from / on";
}

const char *
value_check_word(const char *text)
{
	if (*text == '\0')
		return "an empty text matches nothing: leave it out";
	if (!str_is_field_value(text, strlen(text)) ||
	    strchr(text, '\t') != NULL)
		return "it has a control character";
	return NULL;
}

const char *
value_check_token(const char *text)
{
	return str_is_token(text, strlen(text))
	    ? NULL
	    : "it has to be a token: letters, digits and !#$%&'*+-.^_`|~";
}

const char *
value_check_field(const char *text)
{
	return str_is_field_value(text, strlen(text))
	    ? NULL
	    : "a header's value has no control characters";
}

/* ---- scalars ---- */

enum err
value_get_number(struct conf_section *section, const char *key, uint64_t min,
    uint64_t max, uint64_t fallback, uint64_t *ret, struct diag *diag)
{
	const char *text = conf_string(section, key, 0);
	uint64_t value = fallback;

	if (text != NULL &&
	    (str_to_u64(text, strlen(text), max, &value) != ERR_OK ||
		value < min))
		return conf_fail(section, key, diag,
		    "%.40s: write a whole number from %" PRIu64 " to %" PRIu64,
		    text, min, max);
	*ret = value;
	return ERR_OK;
}

enum err
value_get_bool(struct conf_section *section, const char *key, bool fallback,
    bool *ret, struct diag *diag)
{
	static const char *const words[] = { "false", "true", "no", "yes",
		"off", "on" };
	const char *text = conf_string(section, key, 0);

	if (text == NULL) {
		*ret = fallback;
		return ERR_OK;
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcasecmp(text, words[i]) == 0) {
			*ret = i % 2 == 1;
			return ERR_OK;
		}
	return conf_fail(section, key, diag, "%.40s: write true or false",
	    text);
}

enum err
value_get_text(struct conf_section *section, const char *key,
    value_check *check, const char *fallback, char **ret, struct diag *diag)
{
	const char *text = conf_string(section, key, 0);
	const char *wrong;

	if (text == NULL) {
		*ret = fallback == NULL ? NULL : xstrdup(fallback);
		return ERR_OK;
	}
	if (strlen(text) > VALUE_TEXT_MAX)
		return conf_fail(section, key, diag, "longer than %d bytes",
		    VALUE_TEXT_MAX);
	wrong = check == NULL ? NULL : check(text);
	if (wrong != NULL)
		return conf_fail(section, key, diag, "\"%.60s\": %s", text,
		    wrong);
	*ret = xstrdup(text);
	return ERR_OK;
}

enum err
value_get_optional(struct conf_section *section, const char *key,
    value_check *check, char **ret, struct diag *diag)
{
	const char *text = conf_string(section, key, 0);

	if (text != NULL && *text == '\0') {
		*ret = NULL;
		return ERR_OK;
	}
	return value_get_text(section, key, check, NULL, ret, diag);
}

/* ---- lists ---- */

static enum err
check_item(struct conf_section *section, const char *key, value_check *check,
    const char *item, struct diag *diag)
{
	const char *wrong = NULL;

	if (strlen(item) > VALUE_ITEM_MAX)
		wrong = "longer than 256 bytes";
	else if (check != NULL)
		wrong = check(item);
	if (wrong != NULL)
		return conf_fail(section, key, diag, "\"%.60s\": %s", item,
		    wrong);
	return ERR_OK;
}

void
value_add(struct config_strings *strings, const char *item)
{
	strings->items = xreallocarray(strings->items, strings->count + 1,
	    sizeof(strings->items[0]));
	strings->items[strings->count++] = xstrdup(item);
}

enum err
value_get_list(struct conf_section *section, const char *key,
    value_check *check, const char *const *fallback, struct config_strings *ret,
    struct diag *diag)
{
	size_t count = conf_count(section, key);

	if (!conf_given(section, key)) {
		for (size_t i = 0; fallback != NULL && fallback[i] != NULL; i++)
			value_add(ret, fallback[i]);
		return ERR_OK;
	}
	if (count > VALUE_LIST_MAX)
		return conf_fail(section, key, diag, "more than %d items",
		    VALUE_LIST_MAX);
	for (size_t i = 0; i < count; i++) {
		const char *item = conf_string(section, key, i);

		if (check_item(section, key, check, item, diag) != ERR_OK)
			return ERR_PROTO;
		/* config_unref() frees it, come what may */
		value_add(ret, item);
	}
	return ERR_OK;
}

void
value_copy_list(const struct config_strings *from, struct config_strings *to)
{
	for (size_t i = 0; i < from->count; i++)
		value_add(to, from->items[i]);
}

/* ---- files ---- */

/*
 * What is wrong with a key, or NULL.  What editors and copying leave around
 * one would make the vendor refuse it, and nobody could see why.
 */
static const char *
key_fault(const char *key, size_t len)
{
	static const char bom[] = "\xef\xbb\xbf";

	if (!str_is_field_value(key, len) || strlen(key) != len)
		return "a key is one line without control characters";
	if (strchr(" \t", key[0]) != NULL ||
	    strchr(" \t", key[len - 1]) != NULL)
		return "a key has no blank at its beginning or end";
	if (strncmp(key, bom, sizeof(bom) - 1) == 0)
		return "the file begins with a byte order mark, which is no "
		       "part of the key: save it without";
	return NULL;
}

enum err
value_get_secret(struct conf_section *section, const char *key,
    const char *fallback, struct secret **ret, struct diag *diag)
{
	const char *spec = conf_string(section, key, 0), *wrong;
	struct diag why;
	size_t len;

	if (spec == NULL)
		spec = fallback;
	if (spec == NULL) {
		*ret = NULL;
		return ERR_OK;
	}
	if (secret_load(spec, ret, &why) != ERR_OK)
		return conf_fail(section, key, diag, "%s", why.text);
	spec = secret_peek(*ret, &len);
	wrong = key_fault(spec, len);
	if (wrong != NULL) {
		(void)conf_fail(section, key, diag, "%s: %s",
		    secret_describe(*ret), wrong);
		secret_free(*ret);
		*ret = NULL;
		return ERR_PROTO;
	}
	return ERR_OK;
}

enum err
value_get_ca_file(struct conf_section *section, char **ret, struct diag *diag)
{
	enum err err =
	    value_get_optional(section, "ca_file", value_check_file, ret, diag);
	int fd;

	if (err != ERR_OK || *ret == NULL)
		return err;
	fd = open(*ret, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd == -1)
		return conf_fail(section, "ca_file", diag,
		    "cannot read %.100s: %s", *ret, strerror(errno));
	(void)close(fd);
	return ERR_OK;
}

/* A text file, without its last line ending; the caller frees it. */
static enum err
read_text(struct conf_section *section, const char *key, const char *path,
    size_t max, char **ret, struct diag *diag)
{
	size_t size = max + 1; /* one more: is seen */
	char *text;
	size_t len;
	FILE *f = fopen(path, "re");
	bool failed;

	if (f == NULL)
		return conf_fail(section, key, diag, "cannot read %.100s: %s",
		    path, strerror(errno));
	text = xcalloc(1, size + 1);
	len = fread(text, 1, size, f);
	failed = ferror(f) != 0;
	(void)fclose(f);
	if (!failed && len < size && str_is_utf8(text, len) &&
	    strlen(text) == len) {
		if (len > 0 && text[len - 1] == '\n')
			text[len - 1] = '\0';
		*ret = text;
		return ERR_OK;
	}
	free(text);
	if (failed)
		return conf_fail(section, key, diag, "cannot read %.100s",
		    path);
	return conf_fail(section, key, diag,
	    "%.100s is no UTF-8 text of at most %zu bytes", path, max);
}

enum err
value_get_text_file(struct conf_section *section, const char *key, size_t max,
    char **ret_path, char **ret_text, struct diag *diag)
{
	enum err err =
	    value_get_optional(section, key, value_check_file, ret_path, diag);

	if (err == ERR_OK && *ret_path != NULL)
		err = read_text(section, key, *ret_path, max, ret_text, diag);
	return err;
}

/* ---- limits ---- */

struct limit {
	const char *key;
	size_t offset; /* in struct relay_limits; all are 64 bits wide */
	uint64_t scale, min, max, fallback;
};

#define LIMIT(key, member, scale, min, max, fallback)                   \
	{ #key, offsetof(struct relay_limits, member), scale, min, max, \
		fallback },

static const struct limit limits[] = {
#include "broker/config/config_limits.def"
};

enum err
value_get_limits(struct conf_section *section, const struct relay_limits *base,
    struct relay_limits *ret, struct diag *diag)
{
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		const struct limit *limit = &limits[i];
		uint64_t value = limit->fallback * limit->scale;

		if (base != NULL)
			memcpy(&value, (const char *)base + limit->offset,
			    sizeof(value));
		if (conf_given(section, limit->key)) {
			if (value_get_number(section, limit->key, limit->min,
				limit->max, 0, &value, diag) != ERR_OK)
				return ERR_PROTO;
			value *= limit->scale;
		}
		memcpy((char *)ret + limit->offset, &value, sizeof(value));
	}
	return ERR_OK;
}

void
value_put_limits(FILE *out, int indent, const struct relay_limits *values)
{
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		uint64_t value;

		memcpy(&value, (const char *)values + limits[i].offset,
		    sizeof(value));
		value_put_number(out, indent, limits[i].key,
		    value / limits[i].scale);
	}
}

/* ---- the way back ---- */

static void
put_key(FILE *out, int indent, const char *key)
{
	for (int i = 0; i < indent; i++)
		(void)fputc('\t', out);
	(void)fprintf(out, "%s = ", key);
}

void
value_put_quoted(FILE *out, const char *text)
{
	(void)fputc('"', out);
	for (; *text != '\0'; text++) {
		if (strchr("\"\\$\n\t", *text) != NULL)
			(void)fputc('\\', out);
		(void)fputc(*text == '\n' ? 'n'
			: *text == '\t'	  ? 't'
					  : *text,
		    out);
	}
	(void)fputc('"', out);
}

void
value_put_text(FILE *out, int indent, const char *key, const char *text)
{
	put_key(out, indent, key);
	value_put_quoted(out, text == NULL ? "" : text);
	(void)fputc('\n', out);
}

void
value_put_number(FILE *out, int indent, const char *key, uint64_t number)
{
	put_key(out, indent, key);
	(void)fprintf(out, "%" PRIu64 "\n", number);
}

void
value_put_bool(FILE *out, int indent, const char *key, bool value)
{
	put_key(out, indent, key);
	(void)fprintf(out, "%s\n", value ? "true" : "false");
}

void
value_put_list(FILE *out, int indent, const char *key,
    const struct config_strings *strings)
{
	put_key(out, indent, key);
	(void)fputc('{', out);
	for (size_t i = 0; i < strings->count; i++) {
		(void)fputs(i == 0 ? "" : ", ", out);
		value_put_quoted(out, strings->items[i]);
	}
	(void)fputs("}\n", out);
}

void
value_put_secret(FILE *out, int indent, const char *key,
    const struct secret *secret)
{
	size_t len;

	(void)secret_peek(secret, &len);
	put_key(out, indent, key);
	value_put_quoted(out, secret_source(secret));
	(void)fprintf(out, " # %zu bytes\n", len);
}
