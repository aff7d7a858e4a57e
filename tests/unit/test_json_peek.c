/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tunnel/json_peek.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum {
	TYPE,
	USAGE,
	RESPONSE,
	PATHS
};

static const struct json_peek_path paths[PATHS] = {
	{ "type", 64 },
	{ "response.usage", 64 },
	{ "response", 128 },
};

static enum err
read_in_steps(struct json_peek *peek, const char *text, size_t len, size_t step)
{
	json_peek_reset(peek);
	for (size_t at = 0; at < len; at += step) {
		size_t n = len - at < step ? len - at : step;
		/* of its own, so that a sanitizer sees a byte too many */
		char *piece = memcpy(malloc(n), text + at, n);
		enum err err = json_peek_feed(peek, piece, n);

		free(piece);
		if (err != ERR_OK) {
			assert_int_equal(json_peek_feed(peek, "}", 1), err);
			assert_int_equal(json_peek_end(peek), err);
			return err;
		}
	}
	return json_peek_end(peek);
}

/* However it is cut, the answer is the same. */
static enum err
read_all(struct json_peek *peek, const char *text, size_t len)
{
	enum err err = read_in_steps(peek, text, len, 1);

	for (size_t step = 2; step <= len + 1; step++)
		if (read_in_steps(peek, text, len, step) != err)
			fail_msg("%s: differs in steps of %zu", text, step);
	return err;
}

static void
check_value(const struct json_peek *peek, size_t path, const char *value)
{
	size_t len;

	if (value == NULL) {
		assert_int_equal(json_peek_state(peek, path), JSON_PEEK_ABSENT);
		return;
	}
	assert_int_equal(json_peek_state(peek, path), JSON_PEEK_FOUND);
	assert_string_equal(json_peek_value(peek, path, &len), value);
	assert_int_equal(len, strlen(value));
}

static void
finds_what_it_watches(void **state)
{
	static const struct {
		const char *text, *type, *usage;
	} cases[] = {
		{ "{}", NULL, NULL },
		{ "{\"type\":\"a\"}", "\"a\"", NULL },
		{ " {\t\"type\" :\r\n\"a\" } ", "\"a\"", NULL },
		{ "{\"x\":\"type\",\"type\":\"a\"}", "\"a\"", NULL },
		{ "{\"type\":\"a\\\"}\\u0041\"}", "\"a\\\"}\\u0041\"", NULL },
		{ "{\"\\u0074yp\\u0065\":1}", "1", NULL },
		{ "{\"type\":null}", "null", NULL },
		{ "{\"type\":-1.5e+3}", "-1.5e+3", NULL },
		{ "{\"type\":[1,{\"type\":2}] }", "[1,{\"type\":2}]", NULL },
		{ "{\"a\":{\"type\":1},\"type\":2}", "2", NULL },
		{ "{\"a\":[{\"type\":1}],\"type\":2}", "2", NULL },
		{ "{\"types\":1,\"typ\":2,\"TYPE\":3,\"\":4}", NULL, NULL },
		{ "{\"type\xc3\xa9\":1,\"\\u00e9type\":2}", NULL, NULL },
		{ "{\"\\ud83d\\ude00type\":1}", NULL, NULL },
		{ "{\"type\\/\":1}", NULL, NULL },
		{ "{\"response\":{\"usage\":{\"n\":1}}}", NULL, "{\"n\":1}" },
		{ "{\"response\":{\"type\":1,\"usage\":true},\"usage\":2}",
		    NULL, "true" },
		{ "{\"response\":[{\"usage\":1}]}", NULL, NULL },
		{ "{\"response\":[[],{}],\"a\":{\"usage\":1}}", NULL, NULL },
		{ "{\"response\":1,\"usage\":1}", NULL, NULL },
		{ "{\"response.usage\":1}", NULL, NULL },
		{ "{\"a\":{\"response\":{\"usage\":1}}}", NULL, NULL },
		{ "{\"response\":{\"a\":{\"usage\":1},\"usage\":0}}", NULL,
		    "0" },
	};
	struct json_peek *peek = json_peek_new(paths, PATHS);

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		if (read_all(peek, cases[i].text, strlen(cases[i].text)) !=
		    ERR_OK)
			fail_msg("%s was refused", cases[i].text);
		check_value(peek, TYPE, cases[i].type);
		check_value(peek, USAGE, cases[i].usage);
	}
	json_peek_free(peek);
}

static void
keeps_a_value_inside_of_another(void **state)
{
	static const char text[] =
	    "{\"response\": {\"usage\": [1, 2] ,\"a\":0} }";
	struct json_peek *peek = json_peek_new(paths, PATHS);

	(void)state;
	assert_int_equal(read_all(peek, text, strlen(text)), ERR_OK);
	check_value(peek, USAGE, "[1, 2]");
	check_value(peek, RESPONSE, "{\"usage\": [1, 2] ,\"a\":0}");
	json_peek_free(peek);
}

static void
knows_a_value_as_soon_as_it_has_ended(void **state)
{
	struct json_peek *peek = json_peek_new(paths, PATHS);

	(void)state;
	assert_int_equal(json_peek_feed(peek, "{\"type\":\"a", 10), ERR_OK);
	assert_int_equal(json_peek_state(peek, TYPE), JSON_PEEK_ABSENT);
	assert_int_equal(json_peek_feed(peek, "\"", 1), ERR_OK);
	check_value(peek, TYPE, "\"a\"");
	json_peek_free(peek);
}

static void
says_what_came_twice(void **state)
{
	static const struct {
		const char *text;
		size_t path;
	} cases[] = {
		{ "{\"type\":1,\"type\":1}", TYPE },
		{ "{\"type\":1,\"x\":[],\"\\u0074ype\":2,\"type\":3}", TYPE },
		{ "{\"response\":{\"usage\":1,\"usage\":1}}", USAGE },
		{ "{\"response\":{\"usage\":1},\"response\":{\"usage\":2}}",
		    USAGE },
		{ "{\"response\":{\"usage\":1},\"response\":{}}", USAGE },
		{ "{\"response\":{},\"response\":{\"usage\":1}}", USAGE },
		{ "{\"response\":0,\"respons\\u0065\":{\"usage\":1}}", USAGE },
		{ "{\"response\":{},\"response\":{}}", RESPONSE },
	};
	struct json_peek *peek = json_peek_new(paths, PATHS);

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(read_all(peek, cases[i].text,
				     strlen(cases[i].text)),
		    ERR_OK);
		if (json_peek_state(peek, cases[i].path) != JSON_PEEK_TWICE)
			fail_msg("%s", cases[i].text);
	}
	json_peek_free(peek);
}

static void
refuses_what_is_no_json_object(void **state)
{
	static const struct {
		const char *text;
		size_t len;
	} cases[] = {
#define TEXT(text) { text, sizeof(text) - 1 }
		TEXT(""),
		TEXT(" "),
		TEXT("[]"),
		TEXT("\"a\""),
		TEXT("1"),
		TEXT("null"),
		TEXT("\xef\xbb\xbf{}"),
		TEXT("{"),
		TEXT("{}{}"),
		TEXT("{},"),
		TEXT("{} x"),
		TEXT("{}\0"),
		TEXT("{]"),
		TEXT("{\"a\":[}"),
		TEXT("{\"a\":[1}]"),
		TEXT("{\"a\":{]}"),
		TEXT("{\"a\"}"),
		TEXT("{\"a\" 1}"),
		TEXT("{\"a\"::1}"),
		TEXT("{\"a\":}"),
		TEXT("{\"a\":1,}"),
		TEXT("{,\"a\":1}"),
		TEXT("{\"a\":1 \"b\":2}"),
		TEXT("{\"a\":[1,]}"),
		TEXT("{\"a\":[,1]}"),
		TEXT("{\"a\":[1 2]}"),
		TEXT("{a:1}"),
		TEXT("{'a':1}"),
		TEXT("{1:1}"),
		TEXT("{\"a\":1}//"),
		TEXT("{/**/\"a\":1}"),
		TEXT("{\"a\":\v1}"),
		TEXT("{\"a\":\xc2\xa0"
		     "1}"),
		TEXT("{\"a\":tru}"),
		TEXT("{\"a\":True}"),
		TEXT("{\"a\":truee}"),
		TEXT("{\"a\":nul"),
		TEXT("{\"a\":NaN}"),
		TEXT("{\"a\":Infinity}"),
		TEXT("{\"a\":01}"),
		TEXT("{\"a\":-}"),
		TEXT("{\"a\":-01}"),
		TEXT("{\"a\":+1}"),
		TEXT("{\"a\":.5}"),
		TEXT("{\"a\":1.}"),
		TEXT("{\"a\":1.e5}"),
		TEXT("{\"a\":1e}"),
		TEXT("{\"a\":1e+}"),
		TEXT("{\"a\":1e5.5}"),
		TEXT("{\"a\":0x10}"),
		TEXT("{\"a\":1a}"),
		TEXT("{\"a\":1"),
		TEXT("{\"a\":\""),
		TEXT("{\"a\":\"\n\"}"),
		TEXT("{\"a\":\"\x1f\"}"),
		TEXT("{\"a\":\"\0\"}"),
		TEXT("{\"a\":\"\\a\"}"),
		TEXT("{\"a\":\"\\\n\"}"),
		TEXT("{\"a\":\"\\u12g4\"}"),
		TEXT("{\"a\":\"\\u123\"}"),
		TEXT("{\"a\":\"\\U0041\"}"),
		TEXT("{\"a\n\":1}"),
		/* what a careless reader of UTF-8 may take for a quote */
		TEXT("{\"a\":\"\xc0\xa2,\"}"),
		TEXT("{\"a\":\"\xe0\x80\xa2\"}"),
		TEXT("{\"a\":\"\xf0\x80\x80\xa2\"}"),
		TEXT("{\"a\":\"\xc3\"}"),
		TEXT("{\"a\":\"\xc3\\u0041\"}"),
		TEXT("{\"a\":\"\xe2\x82\"}"),
		TEXT("{\"a\":\"\x80\"}"),
		TEXT("{\"a\":\"\xff\"}"),
		TEXT("{\"a\":\"\xed\xa0\x80\"}"),
		TEXT("{\"a\":\"\xf4\x90\x80\x80\"}"),
		TEXT("{\"a\":\"\xf8\x88\x80\x80\x80\"}"),
		TEXT("{\"\xc1\xb4ype\":1}"),
		/* what readers end or leave out of a key */
		TEXT("{\"type\\u0000\":1}"),
		TEXT("{\"ty\\ud800pe\":1}"),
		TEXT("{\"ty\\ud800\\npe\":1}"),
		TEXT("{\"ty\\ud800\xc3\xa9pe\":1}"),
		TEXT("{\"ty\\ud800\\u0070e\":1}"),
		TEXT("{\"ty\\udc00pe\":1}"),
		TEXT("{\"type\\ud800\":1}"),
		TEXT("{\"ty\\ud800\\ud800pe\":1}"),
#undef TEXT
	};
	struct json_peek *peek = json_peek_new(paths, PATHS);

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		if (read_all(peek, cases[i].text, cases[i].len) != ERR_PROTO)
			fail_msg("%s was taken", cases[i].text);
	json_peek_free(peek);
}

static void
takes_every_kind_of_text(void **state)
{
	static const char *const cases[] = {
		"{\"a\":\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \x7f\"}",
		"{\"a\":\"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\"}",
		"{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\uABcd\"}",
		/* the vendor may cut a character into two deltas */
		"{\"delta\":\"\\ud83d\"}",
		"{\"a\":[0,-0,0.0,10,1E5,1e-5,-1.25e+10,0e0]}",
		"{\"a\":[true,false,null,[],{},[[]],\"\"]}",
		"{\"a\":{\"b\":{}},\"c\":[{\"d\":1},{\"d\":1}]}",
	};
	struct json_peek *peek = json_peek_new(paths, PATHS);

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		if (read_all(peek, cases[i], strlen(cases[i])) != ERR_OK)
			fail_msg("%s was refused", cases[i]);
	json_peek_free(peek);
}

static void
sees_a_bad_byte_anywhere_in_a_long_string(void **state)
{
	static const char bad[] = { '\n', '\x1f', '\x80', '\xff' };
	struct json_peek *peek = json_peek_new(paths, PATHS);
	char text[300];

	(void)state;
	memset(text, 'A', sizeof(text));
	memcpy(text, "{\"a\":\"", 6);
	memcpy(text + sizeof(text) - 2, "\"}", 2);
	assert_int_equal(read_in_steps(peek, text, sizeof(text), 300), ERR_OK);
	for (size_t i = 6; i < sizeof(text) - 2; i++) {
		for (size_t k = 0; k < COUNT(bad); k++) {
			text[i] = bad[k];
			assert_int_equal(read_in_steps(peek, text, sizeof(text),
					     300),
			    ERR_PROTO);
		}
		text[i] = '"';
		assert_int_equal(read_in_steps(peek, text, sizeof(text), 300),
		    ERR_PROTO);
		text[i] = 'A';
	}
	json_peek_free(peek);
}

static void
nests_as_deep_as_it_may_and_no_deeper(void **state)
{
	struct json_peek *peek = json_peek_new(paths, PATHS);
	char text[2 * JSON_PEEK_DEPTH_MAX + 8];

	(void)state;
	for (size_t arrays = JSON_PEEK_DEPTH_MAX - 2;
	     arrays <= JSON_PEEK_DEPTH_MAX; arrays++) {
		memcpy(text, "{\"a\":", 5);
		memset(text + 5, '[', arrays);
		memset(text + 5 + arrays, ']', arrays);
		text[5 + 2 * arrays] = '}';
		assert_int_equal(read_all(peek, text, 6 + 2 * arrays),
		    arrays + 1 > JSON_PEEK_DEPTH_MAX ? ERR_LIMIT : ERR_OK);
	}
	json_peek_free(peek);
}

static void
keeps_no_more_than_it_may(void **state)
{
	struct json_peek *peek = json_peek_new(paths, PATHS);
	char text[256];

	(void)state;
	for (size_t len = 60; len <= 64; len++) {
		size_t n = (size_t)snprintf(text, sizeof(text),
		    "{\"type\":\"%.*s\",\"response\":{\"usage\":1}}", (int)len,
		    "0123456789012345678901234567890123456789"
		    "0123456789012345678901234567890123456789");

		assert_int_equal(read_all(peek, text, n), ERR_OK);
		assert_int_equal(json_peek_state(peek, TYPE),
		    len + 2 > 64 ? JSON_PEEK_TOO_LARGE : JSON_PEEK_FOUND);
		check_value(peek, USAGE, "1");
	}
	json_peek_free(peek);
}

static void
a_too_large_value_that_comes_again_came_twice(void **state)
{
	static const struct json_peek_path tiny[] = { { "a", 3 } };
	static const char text[] = "{\"a\":12345,\"a\":1}";
	struct json_peek *peek = json_peek_new(tiny, 1);

	(void)state;
	assert_int_equal(read_all(peek, text, strlen(text)), ERR_OK);
	assert_int_equal(json_peek_state(peek, 0), JSON_PEEK_TWICE);
	json_peek_free(peek);
}

static void
resolves_the_escapes_of_a_string(void **state)
{
	static const struct {
		const char *text, *value;
	} cases[] = {
		{ "{\"type\":\"\"}", "" },
		{ "{\"type\":\"1234567\"}", "1234567" },
		{ "{\"type\":\"12345678\"}", NULL },
		{ "{\"type\":\"\\u0031234567\"}", "1234567" },
		{ "{\"type\":\"\\u00312345678\"}", NULL },
		{ "{\"type\":\"\\/\\\"\\n\\u00e9\"}", "/\"\n\xc3\xa9" },
		{ "{\"type\":\"\\ud83d\\ude00\"}", "\xf0\x9f\x98\x80" },
		{ "{\"type\":\"\xc3\xa9\"}", "\xc3\xa9" },
		{ "{\"type\":\"a\\u0000\"}", NULL },
		{ "{\"type\":\"\\ud800\"}", NULL },
		{ "{\"type\":\"\\udc00\"}", NULL },
		{ "{\"type\":12}", NULL },
		{ "{\"type\":null}", NULL },
		{ "{\"type\":[\"a\"]}", NULL },
		{ "{}", NULL },
		{ "{\"type\":\"a\",\"type\":\"a\"}", NULL },
	};
	struct json_peek *peek = json_peek_new(paths, PATHS);
	char out[8];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(read_all(peek, cases[i].text,
				     strlen(cases[i].text)),
		    ERR_OK);
		if (json_peek_string(peek, TYPE, out, sizeof(out)) !=
		    (cases[i].value != NULL))
			fail_msg("%s", cases[i].text);
		if (cases[i].value != NULL)
			assert_string_equal(out, cases[i].value);
	}
	json_peek_free(peek);
}

static void
begins_afresh_after_a_reset(void **state)
{
	struct json_peek *peek = json_peek_new(paths, PATHS);

	(void)state;
	assert_int_equal(json_peek_feed(peek, "{\"type\":\"a\\", 11), ERR_OK);
	json_peek_reset(peek);
	assert_int_equal(json_peek_feed(peek, "{\"response\":{\"usa", 17),
	    ERR_OK);
	assert_int_equal(json_peek_feed(peek, NULL, 0), ERR_OK);
	json_peek_reset(peek);
	assert_int_equal(json_peek_feed(peek, "{}", 2), ERR_OK);
	assert_int_equal(json_peek_end(peek), ERR_OK);
	for (size_t i = 0; i < PATHS; i++)
		check_value(peek, i, NULL);
	json_peek_free(peek);
	json_peek_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_what_it_watches),
		cmocka_unit_test(keeps_a_value_inside_of_another),
		cmocka_unit_test(knows_a_value_as_soon_as_it_has_ended),
		cmocka_unit_test(says_what_came_twice),
		cmocka_unit_test(refuses_what_is_no_json_object),
		cmocka_unit_test(takes_every_kind_of_text),
		cmocka_unit_test(sees_a_bad_byte_anywhere_in_a_long_string),
		cmocka_unit_test(nests_as_deep_as_it_may_and_no_deeper),
		cmocka_unit_test(keeps_no_more_than_it_may),
		cmocka_unit_test(a_too_large_value_that_comes_again_came_twice),
		cmocka_unit_test(resolves_the_escapes_of_a_string),
		cmocka_unit_test(begins_afresh_after_a_reset),
	};

	return cmocka_run_group_tests_name("json_peek", tests, NULL, NULL);
}
