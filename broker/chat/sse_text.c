/* SPDX-License-Identifier: MIT */
#include "broker/chat/sse_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/str.h"
#include "common/xalloc.h"

#define ID_MAX	   96 /* "id: STREAM.N\n" */
#define SIZE_FIRST 2048

void
sse_text_done(struct sse_text *text)
{
	if (text->data != NULL)
		explicit_bzero(text->data, text->size);
	free(text->data);
	*text = (struct sse_text){ .data = NULL };
}

/* Room for len bytes more. */
static char *
reserve(struct sse_text *text, size_t len)
{
	size_t size = text->size == 0 ? SIZE_FIRST : text->size;
	char *data;

	while (size - text->len < len)
		size *= 2;
	if (size == text->size)
		return text->data + text->len;
	/* content is not left behind in memory that is given back */
	data = xcalloc(1, size);
	if (text->len > 0)
		memcpy(data, text->data, text->len);
	if (text->data != NULL)
		explicit_bzero(text->data, text->len);
	free(text->data);
	text->data = data;
	text->size = size;
	return data + text->len;
}

char *
sse_text_take(struct sse_text *text)
{
	char *data;

	*reserve(text, 1) = '\0';
	data = text->data;
	*text = (struct sse_text){ .data = NULL };
	return data;
}

static void
add(struct sse_text *text, const char *data, size_t len)
{
	memcpy(reserve(text, len), data, len);
	text->len += len;
}

static void
add_string(struct sse_text *text, const char *s)
{
	add(text, s, strlen(s));
}

static void
begin(struct sse_text *text, struct sse_id id, const char *event)
{
	char line[ID_MAX];
	int len = 0;

	if (id.stream != NULL && id.n > 0)
		len = snprintf(line, sizeof(line), "id: %s.%" PRId64 "\n",
		    id.stream, id.n);
	else if (id.stream != NULL)
		len = snprintf(line, sizeof(line), "id: %s\n", id.stream);
	add(text, line, (size_t)len);
	add_string(text, "event: ");
	add_string(text, event);
	add_string(text, "\ndata: ");
}

void
sse_text_add(struct sse_text *text, struct sse_id id, const char *event,
    json_t *data)
{
	size_t len;
	char *line = json_text(data, &len);

	begin(text, id, event);
	add(text, line, len);
	add_string(text, "\n\n");
	explicit_bzero(line, len);
	free(line);
	json_decref(data);
}

/* Written at `out', which has room for six bytes; how many it took. */
static size_t
escape(char *out, unsigned char c)
{
	static const char digits[] = "0123456789abcdef";
	static const char from[] = "\"\\\n\r\t", to[] = "\"\\nrt";
	const char *found = memchr(from, c, sizeof(from) - 1);

	if (found != NULL) {
		out[0] = '\\';
		out[1] = to[found - from];
		return 2;
	}
	memcpy(out, "\\u00", 4);
	out[4] = digits[c >> 4];
	out[5] = digits[c & 15];
	return 6;
}

static void
add_escaped(struct sse_text *text, const char *s, size_t len)
{
	char *out = reserve(text, len * 6), *at = out;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c < ' ' || c == '"' || c == '\\')
			at += escape(at, c);
		else
			*at++ = (char)c;
	}
	text->len += (size_t)(at - out);
}

void
sse_text_add_delta(struct sse_text *text, struct sse_id id, const char *delta,
    size_t len, const char *message_id)
{
	begin(text, id, "assistant_delta");
	add_string(text, "{\"delta\":\"");
	add_escaped(text, delta, len);
	add_string(text, "\",\"message_id\":\"");
	add_string(text, message_id);
	add_string(text, "\"}\n\n");
}

int64_t
sse_id_parse(const char *text, char *stream, size_t size)
{
	size_t len = strspn(text,
	    "0123456789abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
	const char *number = text + len + 1;
	uint64_t n;

	if (len == 0 || len >= size || text[len] != '.' ||
	    str_to_u64(number, strlen(number), INT32_MAX, &n) != ERR_OK)
		return 0;
	memcpy(stream, text, len);
	stream[len] = '\0';
	return (int64_t)n;
}
