/* SPDX-License-Identifier: MIT */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "tunnel/json_peek.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct json_peek_path paths[] = {
	{ "type", 128 },
	{ "response.usage", 512 },
	{ "response", 1024 },
	{ "a.b.c", 64 },
};
#define PATHS (sizeof(paths) / sizeof(paths[0]))

static void
require(bool condition)
{
	if (!condition)
		abort();
}

/* The first byte says how the rest is cut. */
static enum err
run(struct json_peek *peek, const uint8_t *data, size_t size, size_t step)
{
	for (size_t i = 0; i < size; i += step)
		if (json_peek_feed(peek, data + i,
			size - i < step ? size - i : step) != ERR_OK)
			break;
	return json_peek_end(peek);
}

static void
compare_runs(const struct json_peek *a, const struct json_peek *b)
{
	for (size_t i = 0; i < PATHS; i++) {
		size_t a_len, b_len;
		const char *a_text = json_peek_value(a, i, &a_len);
		const char *b_text = json_peek_value(b, i, &b_len);

		require(json_peek_state(a, i) == json_peek_state(b, i));
		if (json_peek_state(a, i) == JSON_PEEK_FOUND)
			require(a_len == b_len &&
			    memcmp(a_text, b_text, a_len + 1) == 0);
	}
}

static const json_t *
look_up(const json_t *value, const char *path)
{
	char key[32];

	while (value != NULL && *path != '\0') {
		size_t len = strcspn(path, ".");

		memcpy(key, path, len);
		key[len] = '\0';
		value = json_object_get(value, key);
		path += len + (path[len] == '.');
	}
	return value;
}

/* What jansson takes is taken, and the same members are seen. */
static void
compare_with_jansson(const struct json_peek *peek, const json_t *object)
{
	for (size_t i = 0; i < PATHS; i++) {
		const json_t *value = look_up(object, paths[i].path);
		enum json_peek_state state = json_peek_state(peek, i);
		json_t *seen = NULL;
		const char *kept;
		char text[256];
		size_t len;

		require((value == NULL) == (state == JSON_PEEK_ABSENT));
		require(state != JSON_PEEK_TWICE);
		if (state != JSON_PEEK_FOUND)
			continue;
		kept = json_peek_value(peek, i, &len);
		require(json_parse(kept, len, &seen, NULL) == ERR_OK);
		require(json_equal(seen, value));
		json_decref(seen);
		if (json_peek_string(peek, i, text, sizeof(text)))
			require(json_is_string(value) &&
			    strcmp(text, json_string_value(value)) == 0);
		else
			require(!json_is_string(value) ||
			    json_string_length(value) >= sizeof(text));
	}
}

/*
 * What is taken, jansson takes, too, but for what it refuses on top: numbers
 * out of range, NUL and half of a pair in values.
 */
static void
require_jansson_takes(const uint8_t *data, size_t size)
{
	json_t *value;

	for (size_t i = 0; i < size; i++)
		if (data[i] == '\\' || (data[i] >= '0' && data[i] <= '9'))
			return;
	value = json_loadb((const char *)data, size, 0, NULL);
	require(json_is_object(value));
	json_decref(value);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct json_peek *whole = json_peek_new(paths, PATHS);
	struct json_peek *cut = json_peek_new(paths, PATHS);
	json_t *value = NULL;
	enum err err;

	if (size > 1) {
		err = run(whole, data + 1, size - 1, size);
		require(run(cut, data + 1, size - 1, 1 + data[0]) == err);
		if (err == ERR_OK) {
			compare_runs(whole, cut);
			require_jansson_takes(data + 1, size - 1);
		}
		if (json_parse(data + 1, size - 1, &value, NULL) == ERR_OK &&
		    json_is_object(value)) {
			require(err == ERR_OK);
			compare_with_jansson(whole, value);
		}
		json_decref(value);
	}
	json_peek_free(whole);
	json_peek_free(cut);
	return 0;
}
