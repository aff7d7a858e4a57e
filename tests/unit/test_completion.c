/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/chat/completion.h"

#define DELTA(text)                                                       \
	"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" text \
	"\"},\"finish_reason\":null}]}\n\n"
#define STOP                                             \
	"data: {\"choices\":[{\"index\":0,\"delta\":{}," \
	"\"finish_reason\":\"stop\"}]}\n\n"
#define DONE "data: [DONE]\n\n"

/* All that was said, and what became of it. */
struct result {
	char text[4096];
	unsigned deltas;
	enum err err;
	struct diag diag;
};

static void
on_delta(void *arg, const char *text, size_t len)
{
	struct result *r = arg;

	assert_true(len > 0);
	assert_true(strlen(r->text) + len < sizeof(r->text));
	assert_null(memchr(text, '\0', len));
	strncat(r->text, text, len);
	r->deltas++;
}

static const struct completion_events events = { .delta = on_delta };

static struct completion *
new_reader(struct result *r)
{
	memset(r, 0, sizeof(*r));
	return completion_new(&events, r, NULL);
}

/* In memory of its own, so that a byte too many is seen. */
static enum err
feed(struct completion *c, struct result *r, const char *text, size_t len)
{
	char *copy = malloc(len + 1);
	enum err err;

	assert_non_null(copy);
	memcpy(copy, text, len);
	err = completion_feed(c, copy, len, &r->diag);
	free(copy);
	return err;
}

/* Read it in pieces of so many bytes. */
static struct completion *
read_in(const char *stream, size_t len, size_t piece, struct result *r)
{
	struct completion *c = new_reader(r);

	for (size_t at = 0; at < len && r->err == ERR_OK; at += piece)
		r->err = feed(c, r, stream + at,
		    len - at < piece ? len - at : piece);
	if (r->err == ERR_OK)
		r->err = completion_end(c, &r->diag);
	return c;
}

static struct completion *
read_all(const char *stream, struct result *r)
{
	return read_in(stream, strlen(stream), strlen(stream) + 1, r);
}

static void
reads_a_stream_as_openai_sends_it(void **state)
{
	static const char stream[] =
	    "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\","
	    "\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":"
	    "{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},"
	    "\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}"
	    "\n\n" DELTA("Hello") DELTA(", you") STOP
	    "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\","
	    "\"choices\":[],\"usage\":{\"prompt_tokens\":9,"
	    "\"completion_tokens\":3,\"total_tokens\":12,"
	    "\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n" DONE;
	const struct completion_usage *usage;
	struct result r;
	struct completion *c = read_all(stream, &r);

	(void)state;
	assert_int_equal(r.err, ERR_OK);
	assert_string_equal(r.text, "Hello, you");
	assert_int_equal(r.deltas, 2);
	assert_true(completion_is_done(c));
	assert_string_equal(completion_finish_reason(c), "stop");
	usage = completion_usage(c);
	assert_true(usage->known);
	assert_int_equal(usage->input_tokens, 9);
	assert_int_equal(usage->cached_tokens, 4);
	assert_int_equal(usage->output_tokens, 3);
	assert_int_equal(usage->total_tokens, 12);
	assert_int_equal(json_object_size(usage->raw), 4);
	completion_free(c);
	completion_free(NULL);
}

static void
reads_what_odd_vendors_send(void **state)
{
	static const struct {
		const char *stream, *text, *reason;
		bool done;
	} cases[] = {
		/* no [DONE]; no finish_reason */
		{ DELTA("a") STOP, "a", "stop", false },
		{ DELTA("a") DONE, "a", NULL, true },
		/* no last empty line, no last line end */
		{ DELTA("a") "data: [DONE]\n", "a", NULL, true },
		{ DELTA("a") "data: [DONE]", "a", NULL, true },
		{ STOP "data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}",
		    "b", "stop", false },
		/* half an event behind the end, and what is behind [DONE] */
		{ DELTA("a") STOP "data: {\"usage\":{\"prompt", "a", "stop",
		    false },
		{ DELTA("a") STOP DONE "data: {\n\n<html>", "a", "stop", true },
		/* comments, other fields, no blank behind the colon */
		{ ": OPENROUTER PROCESSING\n\n:\n\n" DELTA(
		      "a") ": x\n" STOP DONE,
		    "a", "stop", true },
		{ "event: message\nid: 1\nretry: 5\nother: x\nlone\n" DELTA("a")
			STOP,
		    "a", "stop", false },
		{ "data:{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"
		  "data:[DONE]\n\n",
		    "a", NULL, true },
		/* data in several lines; data that is blank */
		{ "data: {\"choices\":[{\"delta\":\ndata: {\"content\":\n"
		  "data: \"a\"}}]}\n\n" STOP,
		    "a", "stop", false },
		{ "data:\n\ndata\n\ndata:  \ndata:\n\n" DELTA("a") STOP, "a",
		    "stop", false },
		/* line ends */
		{ "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},"
		  "\"finish_reason\":\"stop\"}]}\r\n\r\ndata: [DONE]\r\n\r\n",
		    "a", "stop", true },
		{ "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},"
		  "\"finish_reason\":\"stop\"}]}\r\rdata: [DONE]\r\r",
		    "a", "stop", true },
		{ "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},"
		  "\"finish_reason\":\"stop\"}]}\n\r\ndata: [DONE]\r\n\n",
		    "a", "stop", true },
		/* a byte-order mark */
		{ "\xef\xbb\xbf" DELTA("a") STOP, "a", "stop", false },
		{ "\xef\xbb\xbf\n" DELTA("a") STOP, "a", "stop", false },
		/* contents that are none */
		{ "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":"
		  "null}}]}\n\n" DELTA("a") STOP,
		    "a", "stop", false },
		{ "data: {\"choices\":[{\"delta\":null}]}\n\n" DELTA("") STOP,
		    "", "stop", false },
		{ "data: {\"choices\":[{\"index\":0,\"delta\":{"
		  "\"reasoning_content\":\"no\",\"reasoning\":\"no\","
		  "\"tool_calls\":[{\"function\":{\"arguments\":\"no\"}}]}}]}"
		  "\n\n" DELTA("a") STOP,
		    "a", "stop", false },
		/* the first choice alone */
		{ "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":"
		  "\"no\"},\"finish_reason\":\"length\"},{\"index\":0,"
		  "\"delta\":{\"content\":\"a\"}}]}\n\n" DONE,
		    "a", NULL, true },
		/* chunks that say nothing */
		{ "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n"
		  "data: {}\n\ndata: {\"choices\":null,\"error\":null}\n\n"
		  "data: {\"type\":\"ping\"}\n\n" DELTA("a") STOP,
		    "a", "stop", false },
		/* reasons */
		{ "data: {\"choices\":[{\"finish_reason\":\"\"}]}\n\n"
		  "data: {\"choices\":[{\"finish_reason\":\"content_filter\"}]}"
		  "\n\n",
		    "", "content_filter", false },
		{ "data: {\"choices\":[{\"finish_reason\":\"<b>\\n\"}]}\n\n",
		    "", NULL, false },
		{ "data: {\"choices\":[{\"finish_reason\":"
		  "\"12345678901234567890123456789012345678901234567890"
		  "123456789012345\"}]}\n\n",
		    "", NULL, false },
		/* an answer without text, as for a tool */
		{ STOP DONE, "", "stop", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct result r;
		struct completion *c = read_all(cases[i].stream, &r);

		if (r.err != ERR_OK)
			print_message("# %s: %s\n", cases[i].stream,
			    r.diag.text);
		assert_int_equal(r.err, ERR_OK);
		assert_string_equal(r.text, cases[i].text);
		assert_int_equal(completion_is_done(c), cases[i].done);
		if (cases[i].reason == NULL)
			assert_null(completion_finish_reason(c));
		else
			assert_string_equal(completion_finish_reason(c),
			    cases[i].reason);
		completion_free(c);
	}
}

static void
refuses_what_is_no_stream_of_answers(void **state)
{
	static const struct {
		const char *stream, *why, *text;
	} cases[] = {
		/* nothing */
		{ "", "no answer", "" },
		{ "\n\n\n", "no answer", "" },
		{ ": only\n\n: comments\n\n", "no answer", "" },
		{ DONE, "no answer", "" },
		{ "data: {}\n\n" DONE, "no answer", "" },
		{ "data: {\"choices\":[{\"index\":1,\"delta\":{},"
		  "\"finish_reason\":\"stop\"}]}\n\n" DONE,
		    "no answer", "" },
		/* other documents */
		{ "<!DOCTYPE html>\n<html>SECRET</html>\n", "no event stream",
		    "" },
		{ "\n\n<html><body style=\"data: x\">SECRET", "no event stream",
		    "" },
		{ "{\"error\":{\"message\":\"SECRET\"}}", "no event stream",
		    "" },
		{ "{\n\"choices\":[]}", "no event stream", "" },
		{ "SECRET", "no event stream", "" },
		{ " data: {}\n\n", "no event stream", "" },
		/* cut */
		{ DELTA("a"), "was cut", "a" },
		{ DELTA("a") "data: {\"choices\":[{\"delta\":{\"content\":\"b",
		    "was cut", "a" },
		{ DELTA("a") "data: {\"choices\":[{\"delta\":{}}]}", "was cut",
		    "a" },
		{ DELTA("a") "data: [DON", "was cut", "a" },
		{ DELTA("a") "<html>502 SECRET</html>\n", "was cut", "a" },
		/* no JSON */
		{ DELTA("a") "data: SECRET\n\n" STOP, "not valid JSON", "a" },
		{ DELTA("a") "data: {\"choices\":[}\n\n", "not valid JSON",
		    "a" },
		{ "data: {\"a\":1,\"a\":2}\n\n", "not valid JSON", "" },
		{ "data: {}{}\n\n", "not valid JSON", "" },
		{ "data: [DONE]x\n\n", "not valid JSON", "" },
		{ DELTA("\xff"), "not valid JSON", "" },
		{ DELTA("\xc3"), "not valid JSON", "" },
		{ DELTA("\xed\xa0\x80"), "not valid JSON", "" },
		{ "data: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n\n",
		    "not valid JSON", "" },
		/* JSON of another shape */
		{ "data: []\n\n", "no object", "" },
		{ "data: \"SECRET\"\n\n", "no object", "" },
		{ "data: null\n\n", "no object", "" },
		{ "data: {\"choices\":[1]}\n\n", "no object", "" },
		{ "data: {\"choices\":[null]}\n\n", "no object", "" },
		{ "data: {\"choices\":[{\"delta\":{\"content\":[\"a\"]}}]}\n\n",
		    "no text", "" },
		{ "data: {\"choices\":[{\"delta\":{\"content\":1}}]}\n\n",
		    "no text", "" },
		/* errors */
		{ DELTA(
		      "a") "data: {\"error\":{\"message\":\"SECRET\",\"type\":"
			   "\"server_error\",\"code\":null}}\n\n" STOP,
		    "sent an error (server_error)", "a" },
		{ "data: {\"error\":{\"message\":\"SECRET\",\"type\":\"t\","
		  "\"code\":\"rate_limit_exceeded\"}}\n\n",
		    "sent an error (rate_limit_exceeded)", "" },
		{ "data: {\"error\":{\"message\":\"SECRET\",\"code\":502},"
		  "\"choices\":[{\"delta\":{\"content\":\"no\"}}]}\n\n",
		    "sent an error (502)", "" },
		{ "data: {\"error\":\"SECRET\"}\n\n", "sent an error", "" },
		{ "data: {\"error\":{\"code\":\"a SECRET\"}}\n\n",
		    "sent an error", "" },
		{ "data: {\"object\":\"error\",\"message\":\"SECRET\","
		  "\"code\":40303}\n\n",
		    "sent an error (40303)", "" },
		{ "event: error\ndata: {\"message\":\"SECRET\"}\n\n",
		    "sent an error", "" },
		{ DELTA("a") "data: {\"error\":{\"code\":\"x\"}}",
		    "sent an error (x)", "a" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct result r;
		struct completion *c = read_all(cases[i].stream, &r);

		if (strstr(r.diag.text, cases[i].why) == NULL)
			print_message("# %s: %s\n", cases[i].stream,
			    r.diag.text);
		assert_int_equal(r.err, ERR_UPSTREAM);
		assert_non_null(strstr(r.diag.text, cases[i].why));
		assert_null(strstr(r.diag.text, "SECRET"));
		assert_string_equal(r.text, cases[i].text);
		completion_free(c);
	}
}

static void
reads_the_same_however_the_bytes_are_cut(void **state)
{
	static const char stream[] =
	    "\xef\xbb\xbf: hello\r\n\r\n"
	    "data: {\"choices\":[{\"delta\":{\"content\":"
	    "\"\xc3\xa4\xf0\x9f\x98\x80\"}}]}\r\n\r\n"
	    "data: {\"choices\":[{\"delta\":\rdata: {\"content\":"
	    "\"\\ud83d\\ude00\"}}]}\r\r" DELTA("b") STOP
	    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,"
	    "\"completion_tokens\":2}}\n\n" DONE;

	(void)state;
	for (size_t piece = 1; piece <= sizeof(stream); piece++) {
		struct result r;
		struct completion *c =
		    read_in(stream, sizeof(stream) - 1, piece, &r);

		assert_int_equal(r.err, ERR_OK);
		assert_int_equal(r.deltas, 3);
		assert_string_equal(r.text,
		    "\xc3\xa4\xf0\x9f\x98\x80\xf0\x9f\x98\x80"
		    "b");
		assert_true(completion_is_done(c));
		assert_true(completion_usage(c)->known);
		assert_int_equal(completion_usage(c)->total_tokens, 3);
		completion_free(c);
	}
}

static void
mends_escapes_of_what_is_no_character(void **state)
{
	static const struct {
		const char *content, *text;
	} cases[] = {
		{ "a\\ud83d", "a\xef\xbf\xbd" },
		{ "\\ude00b",
		    "\xef\xbf\xbd"
		    "b" },
		{ "\\ud83d\\ud83d\\ude00", "\xef\xbf\xbd\xf0\x9f\x98\x80" },
		{ "\\uD83D\\uDE00", "\xf0\x9f\x98\x80" },
		{ "\\ud83d\\n", "\xef\xbf\xbd\n" },
		{ "a\\u0000b",
		    "a\xef\xbf\xbd"
		    "b" },
		/* no escapes */
		{ "\\\\ud83d", "\\ud83d" },
		{ "\\\\\\ud83d", "\\\xef\xbf\xbd" },
		{ "\\u00e4", "\xc3\xa4" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct completion *c;
		struct result r;
		char stream[256];

		(void)snprintf(stream, sizeof(stream), DELTA("%s") STOP,
		    cases[i].content);
		c = read_all(stream, &r);
		assert_int_equal(r.err, ERR_OK);
		assert_string_equal(r.text, cases[i].text);
		completion_free(c);
	}
}

static void
believes_no_usage_that_cannot_be_right(void **state)
{
	static const struct {
		const char *usage;
		bool known, raw;
		uint64_t input, cached, output, total;
	} cases[] = {
		{ "{\"prompt_tokens\":5,\"completion_tokens\":2,"
		  "\"total_tokens\":7}",
		    true, true, 5, 0, 2, 7 },
		{ "{\"prompt_tokens\":5,\"completion_tokens\":2}", true, true,
		    5, 0, 2, 7 },
		{ "{\"prompt_tokens\":0,\"completion_tokens\":0}", true, true,
		    0, 0, 0, 0 },
		{ "{\"prompt_tokens\":5,\"completion_tokens\":2,"
		  "\"total_tokens\":-1}",
		    true, true, 5, 0, 2, 7 },
		{ "{\"prompt_tokens\":1000000000,"
		  "\"completion_tokens\":1000000000}",
		    true, true, 1000000000, 0, 1000000000, 2000000000 },
		/* not more cached than there is; odd details are none */
		{ "{\"prompt_tokens\":5,\"completion_tokens\":2,"
		  "\"prompt_tokens_details\":{\"cached_tokens\":6}}",
		    true, true, 5, 5, 2, 7 },
		{ "{\"prompt_tokens\":5,\"completion_tokens\":2,"
		  "\"prompt_tokens_details\":{\"cached_tokens\":-6}}",
		    true, true, 5, 0, 2, 7 },
		{ "{\"prompt_tokens\":5,\"completion_tokens\":2,"
		  "\"prompt_tokens_details\":[1]}",
		    true, true, 5, 0, 2, 7 },
		/* counts that are none */
		{ "{}", false, true, 0, 0, 0, 0 },
		{ "{\"prompt_tokens\":5}", false, true, 5, 0, 0, 5 },
		{ "{\"prompt_tokens\":-1,\"completion_tokens\":2}", false, true,
		    0, 0, 0, 0 },
		{ "{\"prompt_tokens\":1.5,\"completion_tokens\":2}", false,
		    true, 0, 0, 0, 0 },
		{ "{\"prompt_tokens\":\"5\",\"completion_tokens\":2}", false,
		    true, 0, 0, 0, 0 },
		{ "{\"prompt_tokens\":1000000001,\"completion_tokens\":2}",
		    false, true, 0, 0, 0, 0 },
		{ "{\"prompt_tokens\":9223372036854775807,"
		  "\"completion_tokens\":2}",
		    false, true, 0, 0, 0, 0 },
		/* no usage at all */
		{ "null", false, false, 0, 0, 0, 0 },
		{ "[]", false, false, 0, 0, 0, 0 },
		{ "7", false, false, 0, 0, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct completion_usage *usage;
		struct completion *c;
		struct result r;
		char stream[512];

		(void)snprintf(stream, sizeof(stream),
		    DELTA("a") STOP
		    "data: {\"choices\":[],\"usage\":%s}\n\n" DONE,
		    cases[i].usage);
		c = read_all(stream, &r);
		usage = completion_usage(c);
		assert_int_equal(r.err, ERR_OK);
		assert_int_equal(usage->known, cases[i].known);
		assert_int_equal(usage->raw != NULL, cases[i].raw);
		assert_int_equal(usage->input_tokens, cases[i].input);
		assert_int_equal(usage->cached_tokens, cases[i].cached);
		assert_int_equal(usage->output_tokens, cases[i].output);
		assert_int_equal(usage->total_tokens, cases[i].total);
		completion_free(c);
	}
}

/* A client that stops such an answer would get it for nothing. */
static void
believes_no_usage_that_more_text_follows(void **state)
{
	static const char usage[] =
	    "data: {\"choices\":[{\"delta\":{\"content\":\"\"}}],\"usage\":"
	    "{\"prompt_tokens\":5,\"completion_tokens\":0}}\n\n";
	struct result r;
	char stream[512];
	struct completion *c;

	(void)state;
	(void)snprintf(stream, sizeof(stream), "%s%s", DELTA("a"), usage);
	c = read_all(stream, &r);
	assert_true(completion_usage(c)->known);
	completion_free(c);
	(void)snprintf(stream, sizeof(stream), "%s%s", usage, DELTA("a"));
	c = read_all(stream, &r);
	assert_false(completion_usage(c)->known);
	completion_free(c);
}

/* Some vendors count up with each chunk. */
static void
takes_the_last_usage(void **state)
{
	struct result r;
	struct completion *c = read_all(
	    "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":"
	    "{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n"
	    "data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}],\"usage\":"
	    "{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n"
	    "data: {\"choices\":[],\"usage\":null}\n\n" DONE,
	    &r);

	(void)state;
	assert_int_equal(r.err, ERR_OK);
	assert_true(completion_usage(c)->known);
	assert_int_equal(completion_usage(c)->output_tokens, 2);
	completion_free(c);
}

static void
refuses_an_event_that_is_too_large(void **state)
{
	static const struct {
		const char *begin, *again;
	} cases[] = {
		{ "data: {\"choices\":[{\"delta\":{\"content\":\"",
		    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		    "a" },
		{ "",
		    "data: \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n" },
		{ "", "data:\n" },
		{ ": ", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" },
		{ "", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *again = cases[i].again;
		size_t fed = 0;
		struct result r;
		struct completion *c = new_reader(&r);

		assert_int_equal(feed(c, &r, cases[i].begin,
				     strlen(cases[i].begin)),
		    ERR_OK);
		while (r.err == ERR_OK) {
			assert_true(fed <= 8 * COMPLETION_EVENT_MAX);
			r.err = feed(c, &r, again, strlen(again));
			fed += strlen(again);
		}
		assert_int_equal(r.err, ERR_UPSTREAM);
		assert_non_null(strstr(r.diag.text, "too large"));
		completion_free(c);
	}
}

static void
takes_a_large_event_and_any_number_of_small_ones(void **state)
{
	const size_t len = COMPLETION_EVENT_MAX - 64;
	struct result r;
	struct completion *c = new_reader(&r);
	char *large = malloc(len);

	(void)state;
	assert_non_null(large);
	memset(large, ' ', len);
	memcpy(large, "data: {}", 8);
	memcpy(large + len - 2, "\n\n", 2);
	for (int i = 0; i < 4; i++)
		assert_int_equal(feed(c, &r, large, len), ERR_OK);
	free(large);
	for (int i = 0; i < COMPLETION_EVENT_MAX / 8; i++)
		assert_int_equal(feed(c, &r, ": comment\n\ndata: {}\n\n", 21),
		    ERR_OK);
	assert_int_equal(feed(c, &r, DELTA("a") STOP, strlen(DELTA("a") STOP)),
	    ERR_OK);
	assert_int_equal(completion_end(c, NULL), ERR_OK);
	assert_string_equal(r.text, "a");
	completion_free(c);
}

static void
ignores_what_follows_an_error_and_says_it_again_at_the_end(void **state)
{
	static const char wrong[] = "data: {\"error\":{\"code\":\"x\"}}\n\n";
	struct result r;
	struct completion *c = new_reader(&r);

	(void)state;
	assert_int_equal(feed(c, &r, wrong, strlen(wrong)), ERR_UPSTREAM);
	assert_int_equal(feed(c, &r, DELTA("a") DONE, strlen(DELTA("a") DONE)),
	    ERR_OK);
	assert_int_equal(r.deltas, 0);
	assert_false(completion_is_done(c));
	memset(&r.diag, 0, sizeof(r.diag));
	assert_int_equal(completion_end(c, &r.diag), ERR_UPSTREAM);
	assert_non_null(strstr(r.diag.text, "(x)"));
	assert_int_equal(completion_end(c, NULL), ERR_UPSTREAM);
	completion_free(c);
}

static void
takes_words_of_a_refusal_and_no_more(void **state)
{
	static const struct {
		const char *body, *code, *param;
	} table[] = {
		{ "", "-", "-" },
		{ "<html>", "-", "-" },
		{ "[]", "-", "-" },
		{ "{\"error\":\"model not found\"}", "-", "-" },
		{ "{\"error\":{\"message\":\"m\",\"type\":\"t\",\"param\":"
		  "\"max_"
		  "tokens\",\"code\":\"unsupported_parameter\"}}",
		    "unsupported_parameter", "max_tokens" },
		{ "{\"error\":{\"type\":\"overloaded_error\",\"code\":null}}",
		    "overloaded_error", "-" },
		{ "{\"error\":{\"type\":7,\"code\":\"a "
		  "b\",\"param\":\"a\\nb\"}}",
		    "-", "-" },
		{ "{\"error\":{\"code\":"
		  "\"12345678901234567890123456789012345678"
		  "901234567890123456789012345\"}}",
		    "-", "-" },
	};
	struct completion_refusal said;

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		completion_read_refusal(table[i].body, strlen(table[i].body),
		    NULL, &said);
		assert_string_equal(said.code, table[i].code);
		assert_string_equal(said.param, table[i].param);
	}
}

static void
takes_no_word_with_the_key_in_it(void **state)
{
	static const char refusal[] = "{\"error\":{\"code\":\"bad_key-01\","
				      "\"param\":\"key-02\"}}";
	static const char stream[] =
	    "data: {\"error\":{\"code\":\"bad_key-01\"}}\n\n";
	static const struct completion_events none = { .delta = NULL };
	struct completion_refusal said;
	struct diag diag = { "" };
	struct completion *c = completion_new(&none, NULL, "key-01");

	(void)state;
	completion_read_refusal(refusal, strlen(refusal), "key-01", &said);
	assert_string_equal(said.code, "-");
	assert_string_equal(said.param, "key-02");
	assert_int_equal(completion_feed(c, stream, strlen(stream), &diag),
	    ERR_UPSTREAM);
	assert_string_equal(diag.text, "the vendor has sent an error");
	completion_free(c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_a_stream_as_openai_sends_it),
		cmocka_unit_test(reads_what_odd_vendors_send),
		cmocka_unit_test(takes_no_word_with_the_key_in_it),
		cmocka_unit_test(refuses_what_is_no_stream_of_answers),
		cmocka_unit_test(reads_the_same_however_the_bytes_are_cut),
		cmocka_unit_test(mends_escapes_of_what_is_no_character),
		cmocka_unit_test(believes_no_usage_that_cannot_be_right),
		cmocka_unit_test(believes_no_usage_that_more_text_follows),
		cmocka_unit_test(takes_the_last_usage),
		cmocka_unit_test(refuses_an_event_that_is_too_large),
		cmocka_unit_test(takes_words_of_a_refusal_and_no_more),
		cmocka_unit_test(
		    takes_a_large_event_and_any_number_of_small_ones),
		cmocka_unit_test(
		    ignores_what_follows_an_error_and_says_it_again_at_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
