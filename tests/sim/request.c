/* SPDX-License-Identifier: MIT */
#include "request.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/str.h"
#include "common/xalloc.h"

#define PAIRS_MAX 200

struct pair {
	char *name, *value;
};

struct pairs {
	struct pair *items;
	size_t count;
};

struct request {
	char *method;
	char *path;
	char *query_string;
	struct pairs query, headers;
};

static enum err
pairs_add(struct pairs *pairs, char *name, char *value)
{
	if (pairs->count == PAIRS_MAX) {
		free(name);
		free(value);
		return ERR_LIMIT;
	}
	pairs->items = xreallocarray(pairs->items, pairs->count + 1,
	    sizeof(*pairs->items));
	pairs->items[pairs->count].name = name;
	pairs->items[pairs->count++].value = value;
	return ERR_OK;
}

static void
pairs_done(struct pairs *pairs)
{
	for (size_t i = 0; i < pairs->count; i++) {
		free(pairs->items[i].name);
		free(pairs->items[i].value);
	}
	free(pairs->items);
}

size_t
request_head_len(const char *data, size_t len)
{
	const char *end = memmem(data, len, "\r\n\r\n", 4);

	return end == NULL ? 0 : (size_t)(end - data) + 4;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decoding; what is no escape stays as it is. */
static char *
decode(const char *s, size_t len)
{
	char *out = xcalloc(len + 1, 1), *p = out;

	for (size_t i = 0; i < len; i++) {
		int high, low;

		if (s[i] == '+') {
			*p++ = ' ';
		} else if (s[i] == '%' && i + 2 < len &&
		    (high = hex_digit(s[i + 1])) >= 0 &&
		    (low = hex_digit(s[i + 2])) >= 0) {
			*p++ = (char)(high << 4 | low);
			i += 2;
		} else {
			*p++ = s[i];
		}
	}
	return out;
}

static enum err
parse_query(struct request *r, const char *p)
{
	while (*p != '\0') {
		size_t len = strcspn(p, "&");
		const char *eq = memchr(p, '=', len);
		size_t name_len = eq == NULL ? len : (size_t)(eq - p);
		enum err err = pairs_add(&r->query, decode(p, name_len),
		    eq == NULL ? xstrdup("")
			       : decode(eq + 1, len - name_len - 1));

		if (err != ERR_OK)
			return err;
		p += len + (p[len] == '&');
	}
	return ERR_OK;
}

static enum err
parse_first_line(struct request *r, const char *line, size_t len)
{
	const char *target = memchr(line, ' ', len);
	const char *end = memrchr(line, ' ', len);
	const char *question;

	if (target == NULL || end == target)
		return ERR_PROTO;
	r->method = xstrndup(line, (size_t)(target - line));
	target++;
	question = memchr(target, '?', (size_t)(end - target));
	if (question == NULL)
		question = end;
	r->path = xstrndup(target, (size_t)(question - target));
	r->query_string = question == end
	    ? xstrdup("")
	    : xstrndup(question + 1, (size_t)(end - question - 1));
	return parse_query(r, r->query_string);
}

static enum err
parse_header(struct request *r, const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len);
	const char *value, *end = line + len;

	if (colon == NULL || colon == line)
		return ERR_PROTO;
	for (value = colon + 1; value < end && strchr(" \t", *value); value++)
		continue;
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	return pairs_add(&r->headers, xstrndup(line, (size_t)(colon - line)),
	    xstrndup(value, (size_t)(end - value)));
}

enum err
request_parse(const char *head, size_t len, struct request **ret)
{
	struct request *r;
	enum err err = ERR_OK;
	const char *p = head, *end = head + len;
	bool first = true;

	if (memchr(head, '\0', len) != NULL)
		return ERR_PROTO;
	r = xcalloc(1, sizeof(*r));
	while (err == ERR_OK && p < end) {
		const char *eol = memmem(p, (size_t)(end - p), "\r\n", 2);

		if (eol == NULL || eol == p)
			break;
		err = first ? parse_first_line(r, p, (size_t)(eol - p))
			    : parse_header(r, p, (size_t)(eol - p));
		first = false;
		p = eol + 2;
	}
	if (err == ERR_OK && first)
		err = ERR_PROTO;
	if (err != ERR_OK) {
		request_free(r);
		return err;
	}
	*ret = r;
	return ERR_OK;
}

void
request_free(struct request *r)
{
	if (r == NULL)
		return;
	free(r->method);
	free(r->path);
	free(r->query_string);
	pairs_done(&r->query);
	pairs_done(&r->headers);
	free(r);
}

const char *
request_method(const struct request *r)
{
	return r->method;
}

const char *
request_path(const struct request *r)
{
	return r->path;
}

const char *
request_query(const struct request *r, const char *name)
{
	for (size_t i = 0; i < r->query.count; i++)
		if (strcmp(r->query.items[i].name, name) == 0)
			return r->query.items[i].value;
	return NULL;
}

const char *
request_header(const struct request *r, const char *name)
{
	for (size_t i = 0; i < r->headers.count; i++)
		if (strcasecmp(r->headers.items[i].name, name) == 0)
			return r->headers.items[i].value;
	return NULL;
}

void
request_add_query(struct request *r, const char *text)
{
	(void)parse_query(r, text); /* too many: the rest is not taken */
}

bool
request_is_upgrade(const struct request *r)
{
	const char *upgrade = request_header(r, "Upgrade");

	return upgrade != NULL && strcasecmp(upgrade, "websocket") == 0;
}

uint64_t
request_number(const struct request *r, const char *name, uint64_t fallback)
{
	const char *text = request_query(r, name);
	uint64_t value = fallback;

	if (text != NULL &&
	    str_to_u64(text, strlen(text), INT64_MAX, &value) != ERR_OK)
		value = fallback;
	return value;
}

bool
request_wants(const struct request *r, const char *word)
{
	const char *list = request_query(r, "sim");

	return list != NULL && str_list_has(list, strlen(list), word);
}

const char *
request_key(const struct request *r, size_t *ret_len)
{
	static const char item[] = "openai-insecure-api-key.";
	const char *value = request_header(r, "Authorization");

	if (value != NULL) {
		if (strncasecmp(value, "Bearer ", 7) != 0)
			return NULL;
		*ret_len = strlen(value + 7);
		return *ret_len == 0 ? NULL : value + 7;
	}
	value = request_header(r, "Sec-WebSocket-Protocol");
	value = value == NULL ? NULL : strstr(value, item);
	if (value == NULL)
		return NULL;
	value += sizeof(item) - 1;
	*ret_len = strcspn(value, ", \t");
	return *ret_len == 0 ? NULL : value;
}

/* Header values may be any bytes; the journal shows them as Latin-1. */
static json_t *
text_json(const char *s)
{
	json_t *value = json_string(s);
	char *wide, *p;

	if (value != NULL)
		return value;
	p = wide = xcalloc(strlen(s) * 2 + 1, 1);
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (c < 0x80) {
			*p++ = (char)c;
		} else {
			*p++ = (char)(0xc0 | c >> 6);
			*p++ = (char)(0x80 | (c & 0x3f));
		}
	}
	value = json_string(wide);
	free(wide);
	return value;
}

json_t *
request_json(const struct request *r)
{
	json_t *query = json_object(), *headers = json_array();

	for (size_t i = 0; i < r->query.count; i++)
		json_object_set_new(query, r->query.items[i].name,
		    text_json(r->query.items[i].value));
	for (size_t i = 0; i < r->headers.count; i++)
		json_array_append_new(headers,
		    json_pack("[o, o]", text_json(r->headers.items[i].name),
			text_json(r->headers.items[i].value)));
	return json_pack("{s:o, s:o, s:o, s:o, s:o}", "method",
	    text_json(r->method), "path", text_json(r->path), "query_string",
	    text_json(r->query_string), "query", query, "headers", headers);
}
