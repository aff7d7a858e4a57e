/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/str.h"

#define B(s) s, sizeof(s) - 1

static void
escapes_what_could_forge_a_log_line(void **state)
{
	char out[64];

	(void)state;
	assert_string_equal(str_escape(out, sizeof(out), B("a-b_1/é")),
	    "a-b_1/\\xc3\\xa9");
	assert_string_equal(str_escape(out, sizeof(out), B("x\ny=1 \"\\")),
	    "x\\x0ay\\x3d1\\x20\\x22\\x5c");
	assert_string_equal(str_escape(out, 8, B("abcdefghij")), "abcd...");
	assert_string_equal(str_escape(out, 8, B("\1\2\3")), "\\x01...");
	assert_string_equal(str_escape(out, 8, "", 0), "");
}

static void
knows_utf8(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		bool good;
	} cases[] = {
		{ B(""), true },
		{ B("aé€😀"), true },
		{ B("\xf4\x8f\xbf\xbf"), true },
		{ B("\xee\x80\x80"), true },
		{ B("\x80"), false },
		{ B("\xc0\x80"), false },
		{ B("\xc1\xbf"), false },
		{ B("\xc3"), false },
		{ B("\xe0\x9f\x80"), false },
		{ B("\xed\xa0\x80"), false },
		{ B("\xe2\x82"), false },
		{ B("\xf0\x8f\x80\x80"), false },
		{ B("\xf4\x90\x80\x80"), false },
		{ B("\xf5\x80\x80\x80"), false },
		{ B("\xff"), false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(str_is_utf8(cases[i].bytes, cases[i].len),
		    cases[i].good);
}

static void
reads_decimal_numbers_and_nothing_else(void **state)
{
	uint64_t value = 7;

	(void)state;
	assert_int_equal(str_to_u64(B("0"), 10, &value), ERR_OK);
	assert_int_equal(value, 0);
	assert_int_equal(str_to_u64(B("18446744073709551615"), UINT64_MAX,
			     &value),
	    ERR_OK);
	assert_true(value == UINT64_MAX);
	value = 7;
	assert_int_equal(str_to_u64(B("18446744073709551616"), UINT64_MAX,
			     &value),
	    ERR_LIMIT);
	assert_int_equal(str_to_u64(B("11"), 10, &value), ERR_LIMIT);
	assert_int_equal(str_to_u64(B(""), 10, &value), ERR_PROTO);
	assert_int_equal(str_to_u64(B("-1"), 10, &value), ERR_PROTO);
	assert_int_equal(str_to_u64(B("+1"), 10, &value), ERR_PROTO);
	assert_int_equal(str_to_u64(B(" 1"), 10, &value), ERR_PROTO);
	assert_int_equal(str_to_u64(B("1x"), 10, &value), ERR_PROTO);
	assert_int_equal(value, 7);
}

static void
matches_patterns_without_backtracking_for_ever(void **state)
{
	static char pattern[65], text[4097];

	(void)state;
	assert_true(str_match("gpt-*", "gpt-realtime"));
	assert_true(str_match("*", ""));
	assert_true(str_match("a*b*c", "aXXbYYbc"));
	assert_true(str_match("abc", "abc"));
	assert_false(str_match("abc", "abcd"));
	assert_false(str_match("abc", "ab"));
	assert_false(str_match("", "a"));
	assert_false(str_match("a*b", "aXc"));
	for (int i = 0; i < 64; i += 2)
		memcpy(pattern + i, "*a", 2);
	memset(text, 'a', 4096);
	text[4095] = 'b';
	assert_false(str_match(pattern, text));
}

static void
finds_words_in_lists(void **state)
{
	(void)state;
	assert_true(str_list_has(B("keep-alive, Upgrade"), "upgrade"));
	assert_true(str_list_has(B(",,\tUPGRADE "), "upgrade"));
	assert_false(str_list_has(B("upgrades"), "upgrade"));
	assert_false(str_list_has(B("up grade"), "upgrade"));
	assert_false(str_list_has(B(""), "upgrade"));
}

static void
knows_tokens(void **state)
{
	(void)state;
	assert_true(str_is_token(B("Sec-WebSocket-Key")));
	assert_true(str_is_token(B("openai-insecure-api-key.ek_1~x")));
	assert_false(str_is_token("", 0));
	assert_false(str_is_token(B("a b")));
	assert_false(str_is_token(B("a\0b")));
	assert_false(str_is_token(B("a:b")));
	assert_false(str_is_token(B("\xc3\xa9")));
}

static void
finds_the_fault_of_a_path(void **state)
{
	static const char *const good[] = { "/", "/a", "/a/", "/a.b/..c/...",
		"/v1/a-b_c~:@!$&'()*+,;=" };
	static const char *const bad[] = { "", "a", "*", "//", "//a", "/a//b",
		"/a//", "/.", "/..", "/./a", "/a/.", "/a/../b", "/%61", "/a b",
		"/a\tb", "/a?b", "/a#b", "/a\\b", "/\xc3\xa9", "/{a}" };

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_null(str_path_fault(good[i], strlen(good[i])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (str_path_fault(bad[i], strlen(bad[i])) == NULL)
			fail_msg("%s", bad[i]);
	assert_non_null(str_path_fault(B("/a\0b")));
}

static void
knows_numeric_addresses(void **state)
{
	(void)state;
	assert_true(str_is_address("192.0.2.1"));
	assert_true(str_is_address("2001:db8::1"));
	assert_true(str_is_address("::ffff:192.0.2.1"));
	assert_false(str_is_address(""));
	assert_false(str_is_address("192.0.2"));
	assert_false(str_is_address("192.0.2.01x"));
	assert_false(str_is_address("[::1]"));
	assert_false(str_is_address("fe80::1%eth0"));
	assert_false(str_is_address("localhost"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_numeric_addresses),
		cmocka_unit_test(escapes_what_could_forge_a_log_line),
		cmocka_unit_test(knows_utf8),
		cmocka_unit_test(reads_decimal_numbers_and_nothing_else),
		cmocka_unit_test(
		    matches_patterns_without_backtracking_for_ever),
		cmocka_unit_test(finds_words_in_lists),
		cmocka_unit_test(knows_tokens),
		cmocka_unit_test(finds_the_fault_of_a_path),
	};

	return cmocka_run_group_tests_name("str", tests, NULL, NULL);
}
