/* SPDX-License-Identifier: MIT */
#include "chat.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/str.h"
#include "common/xalloc.h"
#include "openai.h"
#include "script.h"

#define NS_PER_S    INT64_C(1000000000)
#define NS_PER_MS   INT64_C(1000000)
#define FOR_EVER_MS INT64_C(86400000)
#define NUMBER_MAX  UINT64_C(1000000000000)
#define BYTES_MAX   UINT64_C(4194304)
#define WHOLE_MAX   UINT64_C(65536) /* deltas of an answer in one piece */

enum phase {
	ROLE,
	DELTAS,
	FINISH,
	USAGE,
	DONE,
	OVER,
};

struct chat {
	struct chat_order order;
	char *model, *id, *head; /* of each chunk, to its choices */
	const char *rest;	 /* of the text */
	uint64_t total, sent;
	bool failed; /* the fault has come */
	enum phase phase;
	int64_t start_ns; /* from where deltas are counted */
	char *out;
};

/* ---- knobs --------------------------------------------------------------- */

struct number {
	const char *name;
	size_t at;
	uint64_t max;
};

struct flag {
	const char *name;
	size_t at;
};

#define AT(member) offsetof(struct chat_knobs, member)

static const struct number numbers[] = {
	{ "count", AT(count), NUMBER_MAX },
	{ "per_s", AT(per_s), NS_PER_S },
	{ "bytes", AT(bytes), BYTES_MAX },
	{ "after", AT(after), NUMBER_MAX },
	{ "ms", AT(ms), FOR_EVER_MS },
	{ "piece", AT(piece), BYTES_MAX },
};

static const struct flag flags[] = {
	{ "stamp", AT(stamp) },
	{ "comments", AT(comments) },
	{ "delay", AT(delay) },
	{ "no-done", AT(no_done) },
	{ "no-finish", AT(no_finish) },
	{ "no-usage", AT(no_usage) },
	{ "reset", AT(reset) },
	{ "cut", AT(cut) },
	{ "silence", AT(silence) },
	{ "error", AT(error) },
	{ "bad-utf8", AT(bad_utf8) },
	{ "bad-json", AT(bad_json) },
};

#define COUNT(list) (sizeof(list) / sizeof(*(list)))

static bool
copy_word(char *to, size_t size, const char *word)
{
	if (!str_is_field_value(word, strlen(word)))
		return false;
	return (size_t)snprintf(to, size, "%s", word) < size;
}

static bool
read_value(struct chat_knobs *knobs, const char *name, const char *value)
{
	if (strcmp(name, "type") == 0)
		return copy_word(knobs->type, sizeof(knobs->type), value);
	if (strcmp(name, "retry_after") == 0)
		return copy_word(knobs->retry_after, sizeof(knobs->retry_after),
		    value);
	for (size_t i = 0; i < COUNT(numbers); i++)
		if (strcmp(name, numbers[i].name) == 0)
			return str_to_u64(value, strlen(value), numbers[i].max,
				   (uint64_t *)(void *)((char *)knobs +
				       numbers[i].at)) == ERR_OK;
	return false;
}

static bool
read_word(struct chat_knobs *knobs, char *word)
{
	char *equals = strchr(word, '=');

	if (equals != NULL) {
		*equals = '\0';
		return read_value(knobs, word, equals + 1);
	}
	if (strcmp(word, "endless") == 0) {
		knobs->count = NUMBER_MAX;
		return true;
	}
	for (size_t i = 0; i < COUNT(flags); i++)
		if (strcmp(word, flags[i].name) == 0) {
			*((bool *)knobs + flags[i].at) = true;
			return true;
		}
	return script_knows(word) &&
	    copy_word(knobs->mode, sizeof(knobs->mode), word);
}

bool
chat_knobs_read(struct chat_knobs *knobs, const char *text, size_t len)
{
	char *copy = xstrndup(text, len), *rest = copy, *word;
	bool ok = true;

	while (ok && (word = strsep(&rest, " \t&")) != NULL)
		ok = *word == '\0' || read_word(knobs, word);
	free(copy);
	return ok;
}

/* ---- the answer ---------------------------------------------------------- */

static uint64_t
count_words(const char *text)
{
	uint64_t n = 0;

	for (const char *p = text; *p != '\0'; n++) {
		p += strcspn(p, " ");
		p += strspn(p, " ");
	}
	return n;
}

struct chat *
chat_new(const struct chat_order *order)
{
	struct chat *c = xcalloc(1, sizeof(*c));
	json_t *name = json_made(json_string(order->model));
	char *model = json_text(name, NULL);

	c->order = *order;
	c->model = xstrdup(order->model);
	c->rest = c->order.text;
	c->total =
	    order->knobs.count > 0 ? order->knobs.count : count_words(c->rest);
	c->id = openai_id("chatcmpl");
	c->head =
	    xasprintf("\"id\":\"%s\",\"object\":\"chat.completion.chunk\","
		      "\"created\":%" PRId64 ",\"model\":%s,"
		      "\"service_tier\":\"default\",%s\"choices\":",
		c->id, order->now_s, model,
		order->include_usage ? "\"usage\":null," : "");
	free(model);
	json_decref(name);
	return c;
}

void
chat_free(struct chat *c)
{
	if (c == NULL)
		return;
	free(c->model);
	free(c->order.text);
	free(c->id);
	free(c->head);
	free(c->out);
	free(c);
}

const struct chat_knobs *
chat_peek_knobs(const struct chat *c)
{
	return &c->order.knobs;
}

uint64_t
chat_deltas(const struct chat *c)
{
	return c->sent;
}

static bool
is_limited(const struct chat *c)
{
	return c->order.max_tokens > 0 && c->total > c->order.max_tokens;
}

/* The next word; where there are more deltas than words, a number. */
static char *
next_text(struct chat *c, int64_t now_ns)
{
	const struct chat_knobs *k = &c->order.knobs;
	uint64_t n = c->sent + 1;
	char *text, *padded;
	size_t len;

	if (k->stamp) {
		text = xasprintf("%" PRIu64 ":%" PRId64 " ", n, now_ns);
	} else if (k->count > 0) {
		text = xasprintf("%" PRIu64 " ", n);
	} else {
		len = strcspn(c->rest, " ");
		len += strspn(c->rest + len, " ");
		text = xstrndup(c->rest, len);
		c->rest += len;
	}
	len = strlen(text);
	if (len >= k->bytes)
		return text;
	padded = xcalloc(k->bytes + 1, 1);
	for (size_t i = 0; i < k->bytes; i++)
		padded[i] = i < len ? text[i] : (char)('a' + (i - len) % 26);
	free(text);
	return padded;
}

/* ---- what is sent -------------------------------------------------------- */

static enum chat_do
send_text(struct chat *c, char *text, const char **ret_text, size_t *ret_len)
{
	free(c->out);
	c->out = text;
	*ret_text = text;
	*ret_len = strlen(text);
	return CHAT_SEND;
}

/* delta: its members, as JSON; finish: a JSON value. */
static char *
chunk(const struct chat *c, const char *delta, const char *finish)
{
	return xasprintf("%sdata: {%s[{\"index\":0,\"delta\":{%s},"
			 "\"logprobs\":null,\"finish_reason\":%s}]}\n\n",
	    c->order.knobs.comments ? ": OPENROUTER PROCESSING\n\n" : "",
	    c->head, delta, finish);
}

static char *
next_delta(struct chat *c, int64_t now_ns)
{
	char *text = next_text(c, now_ns);
	json_t *value = json_made(json_string(text));
	char *quoted = json_text(value, NULL);
	char *delta = xasprintf("\"content\":%s", quoted);
	char *out = chunk(c, delta, "null");

	c->sent++;
	json_decref(value);
	free(text);
	free(quoted);
	free(delta);
	return out;
}

static json_t *
usage_json(const struct chat *c)
{
	return json_pack("{s:I, s:I, s:I, s:{s:i, s:i}, s:{s:i}}",
	    "prompt_tokens", (json_int_t)c->order.prompt_tokens,
	    "completion_tokens", (json_int_t)c->sent, "total_tokens",
	    (json_int_t)(c->order.prompt_tokens + c->sent),
	    "prompt_tokens_details", "cached_tokens", 0, "audio_tokens", 0,
	    "completion_tokens_details", "reasoning_tokens", 0);
}

static char *
usage_chunk(struct chat *c)
{
	json_t *usage = usage_json(c);
	char *text = json_text(usage, NULL), *out;

	/* its own usage comes behind the one that is null */
	out = xasprintf("data: {\"id\":\"%s\",\"object\":"
			"\"chat.completion.chunk\",\"choices\":[],\"usage\":%s}"
			"\n\n",
	    c->id, text);
	json_decref(usage);
	free(text);
	return out;
}

static bool
has_fault(const struct chat_knobs *k)
{
	return k->reset || k->cut || k->silence || k->error || k->bad_utf8 ||
	    k->bad_json;
}

static enum chat_do
fail(struct chat *c, const char **ret_text, size_t *ret_len,
    int64_t *ret_wait_ms)
{
	const struct chat_knobs *k = &c->order.knobs;

	c->failed = true;
	if (k->silence) {
		*ret_wait_ms = k->ms > 0 ? (int64_t)k->ms : FOR_EVER_MS;
		c->start_ns += *ret_wait_ms * NS_PER_MS;
		return CHAT_WAIT;
	}
	if (k->reset || k->cut)
		return k->reset ? CHAT_RESET : CHAT_CUT;
	if (k->bad_utf8)
		return send_text(c,
		    chunk(c, "\"content\":\"SIM-MARKER \xc3\x28\xff\"", "null"),
		    ret_text, ret_len);
	if (k->bad_json)
		return send_text(c,
		    xstrdup("data: {\"choices\":[{\"delta\":SIM-MARKER\n\n"),
		    ret_text, ret_len);
	c->phase = OVER;
	return send_text(c,
	    xstrdup("data: {\"error\":{\"message\":\"SIM-MARKER The server "
		    "had an error.\",\"type\":\"server_error\",\"param\":null,"
		    "\"code\":\"server_error\"}}\n\n"),
	    ret_text, ret_len);
}

/* False: all have been sent, and nothing is left to do. */
static bool
step_deltas(struct chat *c, int64_t now_ns, const char **ret_text,
    size_t *ret_len, int64_t *ret_wait_ms, enum chat_do *ret)
{
	const struct chat_knobs *k = &c->order.knobs;
	uint64_t total = is_limited(c) ? c->order.max_tokens : c->total;
	int64_t due;

	if (has_fault(k) && !c->failed && c->sent >= k->after) {
		*ret = fail(c, ret_text, ret_len, ret_wait_ms);
		return true;
	}
	if (c->sent >= total)
		return false;
	due = k->per_s == 0 ? 0
			    : c->start_ns +
		(int64_t)((double)(c->sent + 1) / (double)k->per_s *
		    (double)NS_PER_S);
	if (now_ns < due) {
		*ret_wait_ms = (due - now_ns + NS_PER_MS - 1) / NS_PER_MS;
		*ret = CHAT_WAIT;
		return true;
	}
	*ret = send_text(c, next_delta(c, now_ns), ret_text, ret_len);
	return true;
}

enum chat_do
chat_step(struct chat *c, int64_t now_ns, const char **ret_text,
    size_t *ret_len, int64_t *ret_wait_ms)
{
	const struct chat_knobs *k = &c->order.knobs;
	enum chat_do what;

	if (c->phase == ROLE) {
		c->start_ns = now_ns;
		c->phase = DELTAS;
		return send_text(c,
		    chunk(c,
			"\"role\":\"assistant\",\"content\":\"\","
			"\"refusal\":null",
			"null"),
		    ret_text, ret_len);
	}
	if (c->phase == DELTAS) {
		if (step_deltas(c, now_ns, ret_text, ret_len, ret_wait_ms,
			&what))
			return what;
		c->phase = FINISH;
	}
	if (c->phase == FINISH) {
		c->phase = USAGE;
		if (!k->no_finish)
			return send_text(c,
			    chunk(c, "",
				is_limited(c) ? "\"length\"" : "\"stop\""),
			    ret_text, ret_len);
	}
	if (c->phase == USAGE) {
		c->phase = DONE;
		if (c->order.include_usage && !k->no_usage)
			return send_text(c, usage_chunk(c), ret_text, ret_len);
	}
	if (c->phase == DONE && !k->no_done) {
		c->phase = OVER;
		return send_text(c, xstrdup("data: [DONE]\n\n"), ret_text,
		    ret_len);
	}
	return CHAT_END;
}

json_t *
chat_whole(struct chat *c)
{
	uint64_t total = is_limited(c) ? c->order.max_tokens : c->total;
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	json_t *value;

	if (f == NULL)
		abort();
	while (c->sent < total && c->sent < WHOLE_MAX) {
		char *word = next_text(c, 0);

		(void)fputs(word, f);
		free(word);
		c->sent++;
	}
	(void)fclose(f);
	value = json_pack("{s:s, s:s, s:I, s:s, s:s,"
			  " s:[{s:i, s:{s:s, s:s, s:n}, s:n, s:s}], s:o}",
	    "id", c->id, "object", "chat.completion", "created",
	    (json_int_t)c->order.now_s, "model", c->model, "service_tier",
	    "default", "choices", "index", 0, "message", "role", "assistant",
	    "content", text, "refusal", "logprobs", "finish_reason",
	    is_limited(c) ? "length" : "stop", "usage", usage_json(c));
	free(text);
	return json_made(value);
}
