/* SPDX-License-Identifier: MIT */
#include "common/json.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* What jansson frees may have held a key or a token. */
static void
clear_and_free(void *p)
{
	if (p != NULL)
		explicit_bzero(p, malloc_usable_size(p));
	free(p);
}

/* Before main(), while there is one thread: the functions are global. */
__attribute__((constructor)) static void
json_set_up(void)
{
	json_set_alloc_funcs(malloc, clear_and_free);
}

/*
 * What exceeds our limits, or NULL.  jansson's own are 2048 levels of recursion
 * and no number of values, each of which takes some hundred bytes, so this runs
 * before it; strings are skipped, all else is left to the parser.
 */
static const char *
excess(const char *p, size_t len)
{
	unsigned depth = 0, values = 0;
	bool string = false;

	for (size_t i = 0; i < len; i++) {
		if (string) {
			if (p[i] == '\\')
				i++;
			else if (p[i] == '"')
				string = false;
		} else if (p[i] == '"') {
			string = true;
		} else if (p[i] == '[' || p[i] == '{') {
			if (++depth > JSON_DEPTH_MAX)
				return "is nested too deeply";
			values++;
		} else if (p[i] == ',') {
			values++;
		} else if ((p[i] == ']' || p[i] == '}') && depth > 0) {
			depth--;
		}
		if (values > JSON_VALUES_MAX)
			return "has too many values";
	}
	return NULL;
}

enum err
json_parse(const void *data, size_t len, json_t **ret, struct diag *diag)
{
	const char *wrong = excess(data, len);
	json_error_t error;
	json_t *value;

	if (wrong != NULL) {
		diag_set(diag, "the JSON %s", wrong);
		return ERR_PROTO;
	}
	/* jansson passes over a NUL behind a number */
	if (len > 0 && memchr(data, '\0', len) != NULL) {
		diag_set(diag, "not valid JSON (a NUL)");
		return ERR_PROTO;
	}
	value = json_loadb(data, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY,
	    &error);
	if (value == NULL) {
		/* error.text quotes the input: tell the place alone */
		diag_set(diag, "not valid JSON (line %d, column %d)",
		    error.line, error.column);
		return ERR_PROTO;
	}
	*ret = value;
	return ERR_OK;
}

/* The member, or NULL where it is absent or null. */
static const json_t *
member(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	return json_is_null(value) ? NULL : value;
}

enum err
json_get_string(const json_t *object, const char *name, size_t max_bytes,
    const char **ret)
{
	const json_t *value = member(object, name);

	if (value == NULL)
		return ERR_NOTFOUND;
	if (!json_is_string(value))
		return ERR_PROTO;
	if (json_string_length(value) > max_bytes)
		return ERR_LIMIT;
	*ret = json_string_value(value);
	return ERR_OK;
}

enum err
json_get_int(const json_t *object, const char *name, int64_t min, int64_t max,
    int64_t *ret)
{
	const json_t *value = member(object, name);

	if (value == NULL)
		return ERR_NOTFOUND;
	if (!json_is_integer(value))
		return ERR_PROTO;
	if (json_integer_value(value) < min || json_integer_value(value) > max)
		return ERR_LIMIT;
	*ret = json_integer_value(value);
	return ERR_OK;
}

json_t *
json_make_object(json_t *object, const char *name)
{
	json_t *value = json_object_get(object, name);

	if (value == NULL) {
		value = json_object();
		(void)json_object_set_new(object, name, value);
	}
	return value;
}

json_t *
json_made(json_t *value)
{
	if (value == NULL)
		abort();
	return value;
}

char *
json_text(const json_t *value, size_t *ret_len)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

	/* only memory can fail here: what we dump, we or the parser made */
	if (text == NULL)
		abort();
	if (ret_len != NULL)
		*ret_len = strlen(text);
	return text;
}
