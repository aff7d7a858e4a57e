/* SPDX-License-Identifier: MIT */
#include "tunnel/message_log.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/json.h"
#include "common/str.h"
#include "common/xalloc.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define MASKED	       "<masked>"
#define KEY_MIN	       8   /* characters of a key behind its prefix */
#define DATA_MIN_BYTES 128 /* base64 from which on it is data, no word */
#define NUMBER_BYTES   32  /* what a number takes at most, with a comma */

/* One record in the making. */
struct draft {
	size_t room; /* bytes that may still be added */
	bool truncated;
	bool data_delta; /* the event's "delta" is sound, or a piece of JSON */
};

/* ---- what has to be masked ---- */

static const char key_characters[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    "-._~+/=";

static const char base64_characters[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    "-_+/=";

/*
 * How many bytes at the beginning of a word are a secret: a vendor's key, one
 * of ours, a bearer token, a JSON Web Token (its header begins with {").
 */
static size_t
secret_length(const char *s)
{
	static const char *const prefixes[] = { "sk-", "sk_", "ek_", "AIza",
		"Bearer ", "eyJ" };

	for (size_t i = 0; i < COUNT(prefixes); i++) {
		size_t prefix = strlen(prefixes[i]), len;

		if (strncasecmp(s, prefixes[i], prefix) != 0)
			continue;
		len = strspn(s + prefix, key_characters);
		if (len >= KEY_MIN)
			return prefix + len;
	}
	return 0;
}

char *
message_log_mask(const char *text)
{
	char *copy = xcalloc(1, strlen(text) + 1), *out = copy;
	bool word = false;

	while (*text != '\0') {
		size_t len = word ? 0 : secret_length(text);

		if (len > 0) {
			memcpy(out, MASKED, strlen(MASKED));
			out += strlen(MASKED);
			text += len;
			continue;
		}
		word = isalnum((unsigned char)*text) != 0;
		*out++ = *text++;
	}
	return copy;
}

static bool
ends_with(const char *s, const char *end)
{
	size_t len = strlen(s), end_len = strlen(end);

	return len >= end_len && strcmp(s + len - end_len, end) == 0;
}

/*
 * By letters and digits alone: X-API-Key, api_key and apiKey are one.  Tokens
 * that are a number are what a response has cost.
 */
static bool
is_secret_name(const char *name, bool number)
{
	static const char *const parts[] = { "authorization", "secret",
		"password", "passwd", "passphrase", "credential", "cookie",
		"signature" };
	static const char *const ends[] = { "token", "key", "jwt", "auth" };
	char plain[64];
	size_t len = 0;

	for (; *name != '\0' && len < sizeof(plain) - 1; name++)
		if (isalnum((unsigned char)*name))
			plain[len++] = (char)tolower((unsigned char)*name);
	if (*name != '\0')
		return true; /* nobody's name is so long */
	if (!number && len > 0 && plain[len - 1] == 's')
		len--;
	plain[len] = '\0';
	for (size_t i = 0; i < COUNT(parts); i++)
		if (strstr(plain, parts[i]) != NULL)
			return true;
	for (size_t i = 0; i < COUNT(ends); i++)
		if (ends_with(plain, ends[i]))
			return true;
	return false;
}

static bool
is_data(const struct draft *draft, const char *name, const char *text)
{
	size_t len = strlen(text);

	return strcmp(name, "audio") == 0 ||
	    strncasecmp(text, "data:", 5) == 0 ||
	    (draft->data_delta && strcmp(name, "delta") == 0) ||
	    (len >= DATA_MIN_BYTES && strspn(text, base64_characters) == len);
}

/* ---- copying, as far as there is room ---- */

/* How many bytes of a text have room, and what they take in JSON. */
static size_t
fitting(const char *text, size_t room, size_t *ret_bytes)
{
	size_t len = 0, bytes = 0;

	while (text[len] != '\0') {
		unsigned char c = (unsigned char)text[len];
		size_t takes = c < 0x20 ? 6 : c == '"' || c == '\\' ? 2 : 1;

		if (takes > room - bytes)
			break;
		bytes += takes;
		len++;
	}
	*ret_bytes = bytes;
	return len;
}

/* Take room for so many bytes; false where there is not so much. */
static bool
take_room(struct draft *draft, size_t bytes)
{
	if (bytes > draft->room) {
		draft->truncated = true;
		return false;
	}
	draft->room -= bytes;
	return true;
}

/* As much of a text as there is room for, not cut inside of a character. */
static json_t *
fit_text(struct draft *draft, const char *text)
{
	size_t bytes, len;

	if (!take_room(draft, 3))
		return NULL;
	len = fitting(text, draft->room, &bytes);
	draft->room -= bytes;
	if (text[len] != '\0') {
		draft->truncated = true;
		while (len > 0 && (text[len] & 0xc0) == 0x80)
			len--;
	}
	return json_stringn(text, len);
}

static json_t *
data_length(struct draft *draft, size_t len)
{
	char text[NUMBER_BYTES];

	snprintf(text, sizeof(text), "<%zu bytes>", len);
	return fit_text(draft, text);
}

static json_t *copy_value(struct draft *draft, const char *name,
    const json_t *value, unsigned depth);

/*
 * A text that is JSON itself, as the arguments of functions are: names in it
 * tell secrets, too.  NULL where it is none.
 */
static char *
mask_json(struct draft *draft, const char *text, unsigned depth)
{
	struct draft inner = *draft;
	json_t *value = NULL, *copy;
	char *masked = NULL;

	if (strchr("{[", text[strspn(text, " \t\r\n")]) == NULL ||
	    json_parse(text, strlen(text), &value, NULL) != ERR_OK)
		return NULL;
	copy = copy_value(&inner, "", value, depth + 1);
	if (copy != NULL)
		masked = json_text(copy, NULL);
	draft->truncated |= inner.truncated;
	json_decref(copy);
	json_decref(value);
	return masked;
}

static json_t *
copy_string(struct draft *draft, const char *name, const char *text,
    unsigned depth)
{
	char *masked;
	json_t *value;

	if (is_data(draft, name, text))
		return data_length(draft, strlen(text));
	masked = mask_json(draft, text, depth);
	if (masked == NULL)
		masked = message_log_mask(text);
	value = fit_text(draft, masked);
	explicit_bzero(masked, strlen(masked));
	free(masked);
	return value;
}

static json_t *
copy_array(struct draft *draft, const char *name, const json_t *array,
    unsigned depth)
{
	json_t *copy = json_array(), *value;
	const json_t *item;
	size_t i;

	json_array_foreach(array, i, item)
	{
		value = copy_value(draft, name, item, depth + 1);
		if (value == NULL)
			break;
		json_array_append_new(copy, value);
	}
	return copy;
}

static json_t *
copy_object(struct draft *draft, const json_t *object, unsigned depth)
{
	json_t *copy = json_object(), *item, *value;
	const char *name;

	json_object_foreach((json_t *)(uintptr_t)object, name, item)
	{
		char *masked = message_log_mask(name);
		size_t bytes;

		value = NULL;
		/* a name is not cut */
		if (masked[fitting(masked, draft->room, &bytes)] != '\0')
			draft->truncated = true;
		else if (take_room(draft, bytes + 3))
			value = copy_value(draft, name, item, depth + 1);
		if (value != NULL)
			json_object_set_new(copy, masked, value);
		free(masked);
		if (value == NULL)
			break;
	}
	return copy;
}

/* A copy, or NULL where there is no room. */
static json_t *
copy_value(struct draft *draft, const char *name, const json_t *value,
    unsigned depth)
{
	if (!json_is_null(value) && is_secret_name(name, json_is_number(value)))
		return fit_text(draft, MASKED);
	if (json_is_string(value))
		return copy_string(draft, name, json_string_value(value),
		    depth);
	if (!json_is_array(value) && !json_is_object(value))
		return take_room(draft, NUMBER_BYTES) ? json_deep_copy(value)
						      : NULL;
	if (depth >= MESSAGE_LOG_MAX_DEPTH) {
		draft->truncated = true;
		return fit_text(draft, "<deeper>");
	}
	if (!take_room(draft, 3))
		return NULL;
	return json_is_array(value) ? copy_array(draft, name, value, depth)
				    : copy_object(draft, value, depth);
}

/* ---- records ---- */

static void
add_type(json_t *record, const char *type)
{
	struct draft draft = { .room = MESSAGE_LOG_MAX_TYPE };
	char *masked = message_log_mask(type);

	json_object_set_new(record, "type", fit_text(&draft, masked));
	free(masked);
}

/* What a message is that is no JSON, or was meant to be and is none. */
static json_t *
plain_text(struct draft *draft, const struct message_log_entry *entry,
    const char *text, size_t len)
{
	const char *first = text;
	json_t *value;
	char *copy;

	while (first < text + len && strchr(" \t\r\n", *first) != NULL &&
	    *first != '\0')
		first++;
	if (memchr(text, '\0', len) != NULL || !str_is_utf8(text, len) ||
	    (first < text + len && (*first == '{' || *first == '[')))
		return data_length(draft, (size_t)entry->bytes);
	copy = xstrndup(text, len);
	value = copy_string(draft, "", copy, 0);
	explicit_bzero(copy, len);
	free(copy);
	return value;
}

static void
add_content(json_t *record, const struct message_log_entry *entry,
    const void *text, size_t len)
{
	const char *type = entry->type;
	struct draft draft = { .room = MESSAGE_LOG_MAX_BYTES };
	json_t *content = NULL;

	if (json_parse(text, len, &content, NULL) == ERR_OK) {
		if (type == NULL)
			type =
			    json_string_value(json_object_get(content, "type"));
		if (type != NULL)
			add_type(record, type);
		draft.data_delta = type != NULL &&
		    (ends_with(type, "audio.delta") ||
			ends_with(type, "arguments.delta"));
		json_object_set_new(record, "content",
		    copy_value(&draft, "", content, 0));
	} else {
		if (type != NULL)
			add_type(record, type);
		json_object_set_new(record, "text",
		    plain_text(&draft, entry, text, len));
	}
	json_decref(content);
	if (draft.truncated)
		json_object_set_new(record, "truncated", json_true());
}

json_t *
message_log_record(const struct message_log_entry *entry, const void *text,
    size_t len)
{
	json_t *record =
	    json_pack("{s:I, s:s, s:s, s:I}", "at", (json_int_t)entry->at_ms,
		"from", entry->from_client ? "client" : "upstream", "kind",
		entry->binary ? "binary" : "text", "bytes",
		(json_int_t)entry->bytes);

	if (text != NULL && !entry->binary)
		add_content(record, entry, text, len);
	else if (entry->type != NULL)
		add_type(record, entry->type);
	return record;
}
