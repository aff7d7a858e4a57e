/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/chat/sse_text.h"
#include "common/json.h"
#include "common/xalloc.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct sse_id first = { .stream = "ab12", .n = 1 };

static void
assert_text(const struct sse_text *text, const char *expected)
{
	assert_int_equal(text->len, strlen(expected));
	assert_memory_equal(text->data, expected, text->len);
}

static void
writes_an_event_as_three_lines_and_a_blank(void **state)
{
	struct sse_text text = { .data = NULL };

	(void)state;
	sse_text_add(&text, first, "assistant_typing",
	    json_pack("{s:s}", "chat_id", "c\n1"));
	assert_text(&text,
	    "id: ab12.1\nevent: assistant_typing\n"
	    "data: {\"chat_id\":\"c\\n1\"}\n\n");
	sse_text_done(&text);
}

static void
writes_ids_without_a_number_and_none(void **state)
{
	const struct sse_id lost = { .stream = "lost" };
	const struct sse_id none = { .stream = NULL };
	struct sse_text text = { .data = NULL };

	(void)state;
	sse_text_add(&text, lost, "a", json_object());
	sse_text_add(&text, none, "b", json_object());
	assert_text(&text,
	    "id: lost\nevent: a\ndata: {}\n\nevent: b\ndata: {}\n\n");
	sse_text_done(&text);
}

/* What a delta says is what a reader of JSON gets, on one line. */
static void
assert_delta(const char *delta, size_t len)
{
	static const char head[] = "id: ab12.1\nevent: assistant_delta\ndata: ";
	struct sse_text text = { .data = NULL };
	const size_t head_len = sizeof(head) - 1;
	json_t *value;
	const json_t *said;
	struct diag diag = { "" };

	sse_text_add_delta(&text, first, delta, len, "m1");
	assert_true(text.len > head_len + 2);
	assert_memory_equal(text.data, head, head_len);
	assert_memory_equal(text.data + text.len - 2, "\n\n", 2);
	assert_null(
	    memchr(text.data + head_len, '\n', text.len - head_len - 2));
	assert_null(memchr(text.data, '\r', text.len));
	assert_int_equal(json_parse(text.data + head_len,
			     text.len - head_len - 2, &value, &diag),
	    ERR_OK);
	said = json_object_get(value, "delta");
	assert_int_equal(json_string_length(said), len);
	assert_memory_equal(json_string_value(said), delta, len);
	assert_string_equal(json_string_value(
				json_object_get(value, "message_id")),
	    "m1");
	json_decref(value);
	sse_text_done(&text);
}

static void
escapes_what_could_end_a_line_or_a_text(void **state)
{
	static const char *const deltas[] = { "plain", "\"", "\\", "\\\"", "\n",
		"\r\n", "\n\ndata: x\n\n", "\t\b\f", "\x01\x1f", "\x7f",
		"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xe2\x80\xa8", "nrt",
		"</script>" };
	char all[0x7f];

	(void)state;
	for (size_t i = 0; i < COUNT(deltas); i++)
		assert_delta(deltas[i], strlen(deltas[i]));
	for (int c = 1; c <= 0x7f; c++)
		all[c - 1] = (char)c;
	assert_delta(all, sizeof(all));
}

static void
grows_and_keeps_what_it_has(void **state)
{
	struct sse_text text = { .data = NULL };
	char big[5000];
	char *expected;

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	sse_text_add_delta(&text, first, "a", 1, "m");
	expected = xstrndup(text.data, text.len);
	sse_text_add_delta(&text, first, big, sizeof(big) - 1, "m");
	assert_memory_equal(text.data, expected, strlen(expected));
	assert_true(text.len > sizeof(big));
	free(expected);
	sse_text_done(&text);
	assert_null(text.data);
}

static void
reads_its_own_ids_and_no_others(void **state)
{
	static const struct {
		const char *text;
		int64_t n;
	} table[] = { { "ab12.1", 1 }, { "ab12.2147483647", 2147483647 },
		{ "", 0 }, { ".", 0 }, { "ab12", 0 }, { "ab12.", 0 },
		{ ".1", 0 }, { "ab12.0", 0 }, { "ab12.-1", 0 },
		{ "ab12.+1", 0 }, { "ab12.1 ", 0 }, { " ab12.1", 0 },
		{ "ab12.1.1", 0 }, { "ab-2.1", 0 }, { "ab12.2147483648", 0 },
		{ "ab12.99999999999999999999", 0 }, { "abcdefgh.1", 0 },
		{ "lost", 0 }, { "\xc3\xa4.1", 0 } };
	char stream[8];

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++)
		assert_int_equal(sse_id_parse(table[i].text, stream,
				     sizeof(stream)),
		    table[i].n);
	assert_int_equal(sse_id_parse("ab12.7", stream, sizeof(stream)), 7);
	assert_string_equal(stream, "ab12");
}

/* Whatever its length, and so where it ends in memory that grows in steps. */
static void
gives_a_text_that_ends(void **state)
{
	char delta[4096];

	(void)state;
	memset(delta, 'x', sizeof(delta));
	for (size_t len = 1; len < sizeof(delta); len++) {
		struct sse_text text = { .data = NULL };
		struct sse_id id = { .stream = NULL };
		size_t all;
		char *taken;

		sse_text_add_delta(&text, id, delta, len, "m");
		all = text.len;
		taken = sse_text_take(&text);
		assert_null(text.data);
		assert_int_equal(strnlen(taken, all + 1), all);
		free(taken);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_an_event_as_three_lines_and_a_blank),
		cmocka_unit_test(writes_ids_without_a_number_and_none),
		cmocka_unit_test(escapes_what_could_end_a_line_or_a_text),
		cmocka_unit_test(grows_and_keeps_what_it_has),
		cmocka_unit_test(gives_a_text_that_ends),
		cmocka_unit_test(reads_its_own_ids_and_no_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
