/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/xalloc.h"
#include "tests/sim/chat.h"

#define MS INT64_C(1000000)

/* An answer that is taken as fast as it comes, and what it was. */
struct take {
	char text[16384];
	enum chat_do end;
	int64_t waited_ms;
	uint64_t deltas;
};

static void
take_all(const char *knobs, const char *answer, uint64_t max_tokens,
    struct take *take)
{
	struct chat_order order = { .model = "m",
		.text = xstrdup(answer),
		.prompt_tokens = 7,
		.max_tokens = max_tokens,
		.include_usage = true };
	int64_t now_ns = 5 * MS, wait_ms = 0;
	const char *text = NULL;
	struct chat *chat;
	size_t len = 0;

	memset(take, 0, sizeof(*take));
	assert_true(chat_knobs_read(&order.knobs, knobs, strlen(knobs)));
	chat = chat_new(&order);
	for (;;) {
		take->end = chat_step(chat, now_ns, &text, &len, &wait_ms);
		if (take->end == CHAT_WAIT) {
			take->waited_ms += wait_ms;
			now_ns += wait_ms * MS;
		} else if (take->end == CHAT_SEND) {
			assert_true(
			    strlen(take->text) + len < sizeof(take->text));
			strncat(take->text, text, len);
		} else {
			break;
		}
	}
	take->deltas = chat_deltas(chat);
	chat_free(chat);
}

static unsigned
count(const char *text, const char *word)
{
	unsigned n = 0;

	for (; (text = strstr(text, word)) != NULL; text += strlen(word))
		n++;
	return n;
}

static void
answers_a_word_a_delta(void **state)
{
	struct take t;

	(void)state;
	take_all("", "one two  three", 0, &t);
	assert_int_equal(t.end, CHAT_END);
	assert_int_equal(t.deltas, 3);
	assert_int_equal(count(t.text, "data: {"), 6);
	assert_non_null(strstr(t.text, "{\"content\":\"two  \"}"));
	assert_int_equal(count(t.text, "\"finish_reason\":\"stop\""), 1);
	assert_non_null(strstr(t.text,
	    "\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10"));
	assert_string_equal(t.text + strlen(t.text) - 14, "data: [DONE]\n\n");
}

static void
keeps_the_pace(void **state)
{
	struct take t;

	(void)state;
	take_all("per_s=20 count=40", "x", 0, &t);
	assert_int_equal(t.waited_ms, 2000);
	assert_int_equal(t.deltas, 40);
	assert_non_null(strstr(t.text, "\"content\":\"40 \""));
	take_all("per_s=20&count=2&stamp", "x", 0, &t);
	assert_non_null(strstr(t.text, "\"content\":\"1:55000000 \""));
	assert_non_null(strstr(t.text, "\"content\":\"2:105000000 \""));
}

static void
ends_at_the_limit_of_tokens(void **state)
{
	struct take t;

	(void)state;
	take_all("", "one two three", 2, &t);
	assert_int_equal(t.deltas, 2);
	assert_null(strstr(t.text, "three"));
	assert_non_null(strstr(t.text, "\"finish_reason\":\"length\""));
	take_all("", "one two three", 3, &t);
	assert_non_null(strstr(t.text, "\"finish_reason\":\"stop\""));
}

static void
does_what_it_is_told_to_do_wrong(void **state)
{
	static const struct {
		const char *knobs;
		enum chat_do end;
		unsigned deltas;
		const char *with, *without;
	} cases[] = {
		{ "no-done", CHAT_END, 3, "stop", "[DONE]" },
		{ "no-finish", CHAT_END, 3, "[DONE]", "\"stop\"" },
		{ "no-usage", CHAT_END, 3, "[DONE]", "prompt_tokens" },
		{ "comments", CHAT_END, 3, ": OPENROUTER", NULL },
		{ "reset", CHAT_RESET, 0, "assistant", "one" },
		{ "reset after=2", CHAT_RESET, 2, "two", "three" },
		{ "cut after=1", CHAT_CUT, 1, "one", "two" },
		{ "error after=1", CHAT_END, 1, "server_error", "two" },
		{ "bad-utf8 after=1", CHAT_END, 3, "\xc3(\xff", NULL },
		{ "bad-json after=3", CHAT_END, 3, "\"delta\":SIM", NULL },
		{ "bytes=8", CHAT_END, 3, "\"one abcd\"", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct take t;

		take_all(cases[i].knobs, "one two three", 0, &t);
		assert_int_equal(t.end, cases[i].end);
		assert_int_equal(t.deltas, cases[i].deltas);
		assert_non_null(strstr(t.text, cases[i].with));
		if (cases[i].without != NULL)
			assert_null(strstr(t.text, cases[i].without));
	}
}

static void
is_silent_as_long_as_it_is_told(void **state)
{
	struct take t;

	(void)state;
	take_all("silence after=1 ms=300 per_s=10", "one two three", 0, &t);
	assert_int_equal(t.waited_ms, 600);
	assert_int_equal(t.end, CHAT_END);
	assert_int_equal(t.deltas, 3);
}

static void
refuses_knobs_that_it_does_not_know(void **state)
{
	static const char *const wrong[] = { "what", "count=", "count=-1",
		"count=x", "what=1", "=", "count", "reset=1", "type=a\nb",
		"per_s=99999999999999999999" };
	static const char *const right[] = { "", "  ", "401", "html-200",
		"endless", "type=text/html", "retry_after=7",
		"reset&after=7 count=9" };

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct chat_knobs knobs = { .count = 0 };

		assert_false(
		    chat_knobs_read(&knobs, wrong[i], strlen(wrong[i])));
	}
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
		struct chat_knobs knobs = { .count = 0 };

		assert_true(
		    chat_knobs_read(&knobs, right[i], strlen(right[i])));
	}
}

static void
answers_in_one_piece_too(void **state)
{
	struct chat_order order = { .model = "m",
		.text = xstrdup("one two three"),
		.max_tokens = 2 };
	struct chat *chat = chat_new(&order);
	json_t *whole = chat_whole(chat);
	const char *content = NULL, *reason = NULL;

	(void)state;
	assert_int_equal(json_unpack(whole, "{s:[{s:{s:s}, s:s}]}", "choices",
			     "message", "content", &content, "finish_reason",
			     &reason),
	    0);
	assert_string_equal(content, "one two ");
	assert_string_equal(reason, "length");
	json_decref(whole);
	chat_free(chat);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_a_word_a_delta),
		cmocka_unit_test(keeps_the_pace),
		cmocka_unit_test(ends_at_the_limit_of_tokens),
		cmocka_unit_test(does_what_it_is_told_to_do_wrong),
		cmocka_unit_test(is_silent_as_long_as_it_is_told),
		cmocka_unit_test(refuses_knobs_that_it_does_not_know),
		cmocka_unit_test(answers_in_one_piece_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
