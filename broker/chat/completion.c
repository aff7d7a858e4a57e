/* SPDX-License-Identifier: MIT */
#include "broker/chat/completion.h"

#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/json.h"
#include "common/xalloc.h"

#define WORD_MAX 64 /* of a vendor's code or reason */

struct completion {
	const struct completion_events *events;
	void *arg;
	const char *key;  /* NULL: none */
	struct buf *line; /* that has not ended yet */
	struct buf *data; /* of an event that has not ended yet */
	bool begun;	  /* a first line was read, so no BOM may come */
	bool after_cr;	  /* a LF would be of the same line end */
	bool is_stream;	  /* a field or a comment was seen */
	bool error_event; /* the event is named "error" */
	bool chosen;	  /* there was something of an answer */
	bool finished, done, failed;
	char finish_reason[WORD_MAX + 1]; /* "": none that is known */
	struct completion_usage usage;
	struct diag why;
};

struct completion *
completion_new(const struct completion_events *events, void *arg,
    const char *key)
{
	struct completion *c = xcalloc(1, sizeof(*c));

	c->events = events;
	c->arg = arg;
	c->key = key;
	c->line = buf_new(COMPLETION_EVENT_MAX);
	c->data = buf_new(COMPLETION_EVENT_MAX);
	return c;
}

void
completion_free(struct completion *c)
{
	if (c == NULL)
		return;
	buf_free(c->line);
	buf_free(c->data);
	json_decref(c->usage.raw);
	free(c);
}

static enum err
fail(struct completion *c, const char *why)
{
	diag_set(&c->why, "%s", why);
	c->failed = true;
	return ERR_UPSTREAM;
}

/* ---- what a chunk says --------------------------------------------------- */

/* A word that may stand in a log and in an answer of ours: no key is one. */
static bool
is_word(const json_t *value, const char *key)
{
	const char *s = json_string_value(value);
	size_t len = json_string_length(value);

	return s != NULL && len > 0 && len <= WORD_MAX &&
	    strspn(s,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		"0123456789_-.") == len &&
	    (key == NULL || strstr(s, key) == NULL);
}

/* The message is not told: vendors quote prompts and keys in it. */
static enum err
fail_with_error(struct completion *c, const json_t *error)
{
	const json_t *code = json_object_get(error, "code");

	if (!json_is_integer(code) && !is_word(code, c->key))
		code = json_object_get(error, "type");
	if (json_is_integer(code))
		diag_set(&c->why,
		    "the vendor has sent an error (%" JSON_INTEGER_FORMAT ")",
		    json_integer_value(code));
	else if (is_word(code, c->key))
		diag_set(&c->why, "the vendor has sent an error (%s)",
		    json_string_value(code));
	else
		diag_set(&c->why, "the vendor has sent an error");
	c->failed = true;
	return ERR_UPSTREAM;
}

/* False where it is absent or cannot be right. */
static bool
get_count(const json_t *usage, const char *name, uint64_t *ret)
{
	int64_t count;

	if (json_get_int(usage, name, 0, COMPLETION_TOKENS_MAX, &count) !=
	    ERR_OK)
		return false;
	*ret = (uint64_t)count;
	return true;
}

static void
take_usage(struct completion *c, json_t *raw)
{
	struct completion_usage usage = { .raw = json_incref(raw) };

	usage.known = get_count(raw, "prompt_tokens", &usage.input_tokens) &&
	    get_count(raw, "completion_tokens", &usage.output_tokens);
	if (!get_count(raw, "total_tokens", &usage.total_tokens))
		usage.total_tokens = usage.input_tokens + usage.output_tokens;
	(void)get_count(json_object_get(raw, "prompt_tokens_details"),
	    "cached_tokens", &usage.cached_tokens);
	if (usage.cached_tokens > usage.input_tokens)
		usage.cached_tokens = usage.input_tokens;
	json_decref(c->usage.raw);
	c->usage = usage;
}

static enum err
take_choice(struct completion *c, const json_t *choice)
{
	const json_t *index = json_object_get(choice, "index");
	const json_t *reason = json_object_get(choice, "finish_reason");
	const json_t *content =
	    json_object_get(json_object_get(choice, "delta"), "content");

	if (!json_is_object(choice))
		return fail(c, "a choice is no object");
	if (json_is_integer(index) && json_integer_value(index) != 0)
		return ERR_OK;
	c->chosen = true;
	if (json_string_length(content) > 0) {
		c->usage.known = false; /* without this */
		c->events->delta(c->arg, json_string_value(content),
		    json_string_length(content));
	} else if (content != NULL && !json_is_null(content) &&
	    !json_is_string(content)) {
		return fail(c, "the content is no text");
	}
	if (json_string_length(reason) > 0) {
		c->finished = true;
		c->finish_reason[0] = '\0';
		if (is_word(reason, c->key))
			strcpy(c->finish_reason, json_string_value(reason));
	}
	return ERR_OK;
}

static enum err
take_chunk(struct completion *c, json_t *chunk)
{
	json_t *error = json_object_get(chunk, "error");
	json_t *choices = json_object_get(chunk, "choices");
	json_t *usage = json_object_get(chunk, "usage");
	const char *object =
	    json_string_value(json_object_get(chunk, "object"));
	json_t *choice;
	size_t i;

	if (!json_is_object(chunk))
		return fail(c, "an event is no object");
	if (error != NULL && !json_is_null(error))
		return fail_with_error(c, error);
	if (c->error_event || (object != NULL && strcmp(object, "error") == 0))
		return fail_with_error(c, chunk);
	json_array_foreach(choices, i, choice)
	{
		enum err err = take_choice(c, choice);

		if (err != ERR_OK)
			return err;
	}
	if (json_is_object(usage))
		take_usage(c, usage);
	return ERR_OK;
}

/* ---- events -------------------------------------------------------------- */

/* The code unit of an escape \uXXXX; anything else: -1. */
static long
escaped_unit(const char *p, const char *end)
{
	char hex[5] = "";

	if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
		return -1;
	memcpy(hex, p + 2, 4);
	return strspn(hex, "0123456789abcdefABCDEF") == 4
	    ? strtol(hex, NULL, 16)
	    : -1;
}

/*
 * RFC 8259 8.2: an escape may stand for half a character.  A vendor that cuts
 * its text by UTF-16 sends such, and a model may say a NUL; both are no reason
 * to lose the rest.
 */
static void
mend_escapes(char *p, size_t len)
{
	const char *end = p + len;

	while (
	    (p = memchr(p, '\\', (size_t)(end - p))) != NULL && end - p > 1) {
		long unit = escaped_unit(p, end), next;

		if (unit < 0) {
			p += 2;
			continue;
		}
		next = escaped_unit(p + 6, end);
		if (unit >= 0xd800 && unit < 0xdc00 && next >= 0xdc00 &&
		    next < 0xe000)
			p += 6;
		else if (unit == 0 || (unit >= 0xd800 && unit < 0xe000))
			memcpy(p + 2, "fffd", 4);
		p += 6;
	}
}

/*
 * The data of an event.  What is no JSON is an error only where the event came
 * whole.
 */
static enum err
take_data(struct completion *c, const uint8_t *data, size_t len, bool whole)
{
	char *text = xcalloc(1, len);
	json_t *chunk = NULL;
	enum err err = ERR_OK;

	memcpy(text, data, len);
	mend_escapes(text, len);
	if (json_parse(text, len, &chunk, NULL) == ERR_OK)
		err = take_chunk(c, chunk);
	else if (whole)
		err = fail(c, "an event is not valid JSON");
	json_decref(chunk);
	explicit_bzero(text, len);
	free(text);
	return err;
}

static enum err
take_event(struct completion *c, bool whole)
{
	size_t all, len;
	const uint8_t *data = buf_peek(c->data, &all);
	enum err err = ERR_OK;

	len = all;
	while (len > 0 && (data[len - 1] == ' ' || data[len - 1] == '\n'))
		len--;
	if (len == 6 && memcmp(data, "[DONE]", 6) == 0)
		c->done = true;
	else if (len > 0)
		err = take_data(c, data, len, whole);
	buf_drain(c->data, all);
	c->error_event = false;
	return err;
}

static bool
is_field(const char *name, size_t len, const char *wanted)
{
	return len == strlen(wanted) && memcmp(name, wanted, len) == 0;
}

static enum err
take_field(struct completion *c, const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len);
	size_t name = colon == NULL ? len : (size_t)(colon - line);
	size_t at = colon == NULL ? len : name + 1;

	if (at < len && line[at] == ' ')
		at++;
	if (is_field(line, name, "data")) {
		if (buf_add(c->data, line + at, len - at) != ERR_OK ||
		    buf_add(c->data, "\n", 1) != ERR_OK)
			return fail(c, "an event is too large");
	} else if (is_field(line, name, "event")) {
		c->error_event = is_field(line + at, len - at, "error");
	} else if (name > 0 && !is_field(line, name, "id") &&
	    !is_field(line, name, "retry")) {
		/* to be ignored; but not in front of all: that is a page */
		return c->is_stream ? ERR_OK : fail(c, "it is no event stream");
	}
	c->is_stream = true;
	return ERR_OK;
}

/* The line in the buffer has come to its end. */
static enum err
take_line(struct completion *c)
{
	size_t len, skip = 0;
	const uint8_t *line = buf_peek(c->line, &len);
	enum err err;

	if (!c->begun && len >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0)
		skip = 3;
	c->begun = true;
	if (len == skip)
		err = take_event(c, true);
	else
		err = take_field(c, (const char *)line + skip, len - skip);
	buf_drain(c->line, len);
	return err;
}

/* ---- the stream ---------------------------------------------------------- */

static enum err
give_why(const struct completion *c, struct diag *diag)
{
	if (diag != NULL)
		*diag = c->why;
	return ERR_UPSTREAM;
}

static size_t
find_line_end(const char *p, size_t len)
{
	size_t n = 0;

	while (n < len && p[n] != '\r' && p[n] != '\n')
		n++;
	return n;
}

enum err
completion_feed(struct completion *c, const void *data, size_t len,
    struct diag *diag)
{
	const char *p = data, *end = p + len;
	enum err err = ERR_OK;

	while (p < end && err == ERR_OK && !c->done && !c->failed) {
		size_t n = find_line_end(p, (size_t)(end - p));

		if (n == 0 && *p == '\n' && c->after_cr) {
			c->after_cr = false;
			p++;
			continue;
		}
		if (buf_add(c->line, p, n) != ERR_OK)
			err = fail(c, "an event is too large");
		else if (p + n < end)
			err = take_line(c);
		c->after_cr = p + n < end && p[n] == '\r';
		p += n + 1 < (size_t)(end - p) ? n + 1 : (size_t)(end - p);
	}
	return err == ERR_OK ? ERR_OK : give_why(c, diag);
}

/* A last event may lack its empty line; half of one is none. */
static enum err
take_rest(struct completion *c)
{
	enum err err = ERR_OK;
	size_t len;

	(void)buf_peek(c->line, &len);
	if (len > 0)
		err = take_line(c);
	return err == ERR_OK ? take_event(c, false) : err;
}

enum err
completion_end(struct completion *c, struct diag *diag)
{
	if (!c->done && !c->failed)
		(void)take_rest(c);
	if (!c->failed && !c->chosen)
		(void)fail(c, "there was no answer in it");
	else if (!c->failed && !c->done && !c->finished)
		(void)fail(c, "the answer was cut");
	return c->failed ? give_why(c, diag) : ERR_OK;
}

bool
completion_is_done(const struct completion *c)
{
	return c->done;
}

const char *
completion_finish_reason(const struct completion *c)
{
	return *c->finish_reason == '\0' ? NULL : c->finish_reason;
}

static void
take_word(const json_t *error, const char *name, const char *key,
    char ret[COMPLETION_WORD_BYTES])
{
	const json_t *value = json_object_get(error, name);

	if (is_word(value, key) &&
	    json_string_length(value) < COMPLETION_WORD_BYTES)
		(void)strcpy(ret, json_string_value(value));
}

void
completion_read_refusal(const void *body, size_t len, const char *key,
    struct completion_refusal *ret)
{
	const json_t *error;
	json_t *value;

	*ret = (struct completion_refusal){ .code = "-", .param = "-" };
	if (len == 0 || json_parse(body, len, &value, NULL) != ERR_OK)
		return;
	error = json_object_get(value, "error");
	take_word(error, "type", key, ret->code);
	take_word(error, "code", key, ret->code);
	take_word(error, "param", key, ret->param);
	json_decref(value);
}

const struct completion_usage *
completion_usage(const struct completion *c)
{
	return &c->usage;
}
