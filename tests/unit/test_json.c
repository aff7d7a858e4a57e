/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/http.h"
#include "common/json.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void
reads_one_value_of_any_kind(void **state)
{
	static const char *const cases[] = { "{}", "[]", "\"\"", "0", "-1.5e3",
		"true", "null", " {\"a\":[1,{\"b\":\"\\u00e9\"}]}\n",
		"9223372036854775807" };

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct diag diag = { "" };
		json_t *value = NULL;

		if (json_parse(cases[i], strlen(cases[i]), &value, &diag) !=
		    ERR_OK)
			fail_msg("%s: %s", cases[i], diag.text);
		json_decref(value);
	}
}

static void
refuses_what_is_not_strictly_json(void **state)
{
	static const struct {
		const char *text;
		size_t len;
	} cases[] = {
#define TEXT(text) { text, sizeof(text) - 1 }
		TEXT(""),
		TEXT(" "),
		TEXT("{"),
		TEXT("{}{}"),
		TEXT("{} x"),
		TEXT("\xef\xbb\xbf{}"),
		TEXT("{\"a\":1,\"a\":2}"),
		TEXT("{\"a\":1,}"),
		TEXT("{'a':1}"),
		TEXT("[01]"),
		TEXT("[NaN]"),
		TEXT("[1e999]"),
		TEXT("[9223372036854775808]"),
		TEXT("[\"\xff\"]"),
		TEXT("[\"\\ud800\"]"),
		TEXT("[\"\\u0000\"]"),
		TEXT("[\"a\nb\"]"),
		TEXT("[]\0"),
		TEXT("[1\0]"),
		TEXT("[1\0,2]"),
#undef TEXT
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct diag diag = { "" };
		json_t *value = NULL;

		if (json_parse(cases[i].text, cases[i].len, &value, &diag) !=
		    ERR_PROTO)
			fail_msg("%s was taken", cases[i].text);
		assert_null(value);
		assert_string_not_equal(diag.text, "");
	}
}

/* "[0,0,...]" of so many values; the caller frees it. */
static char *
make_list(size_t values, size_t *ret_len)
{
	char *text = calloc(1, 2 * values + 2);

	text[0] = '[';
	for (size_t i = 0; i < values; i++)
		memcpy(text + 1 + 2 * i, "0,", 2);
	text[2 * values] = ']';
	*ret_len = 2 * values + 1;
	return text;
}

/* A few megabytes of "{}," would take hundreds in memory. */
static void
takes_so_many_values_and_no_more(void **state)
{
	struct diag diag = { "" };
	json_t *value = NULL;
	size_t len;
	char *text;

	(void)state;
	text = make_list(JSON_VALUES_MAX, &len);
	assert_int_equal(json_parse(text, len, &value, &diag), ERR_OK);
	assert_int_equal(json_array_size(value), JSON_VALUES_MAX);
	json_decref(value);
	free(text);
	text = make_list(JSON_VALUES_MAX + 1, &len);
	assert_int_equal(json_parse(text, len, &value, &diag), ERR_PROTO);
	assert_non_null(strstr(diag.text, "too many values"));
	/* within a string they are no values */
	text[0] = text[len - 1] = '"';
	assert_int_equal(json_parse(text, len, &value, &diag), ERR_OK);
	json_decref(value);
	free(text);
}

static void
nests_as_deep_as_it_may_and_no_deeper(void **state)
{
	char text[2 * (JSON_DEPTH_MAX + 1)];
	json_t *value = NULL;
	size_t n;

	(void)state;
	for (size_t depth = 1; depth <= JSON_DEPTH_MAX + 1; depth++) {
		n = 2 * depth;
		memset(text, '[', depth);
		memset(text + depth, ']', depth);
		if (depth <= JSON_DEPTH_MAX) {
			assert_int_equal(json_parse(text, n, &value, NULL),
			    ERR_OK);
			json_decref(value);
		} else {
			assert_int_equal(json_parse(text, n, &value, NULL),
			    ERR_PROTO);
		}
	}
}

static void
brackets_in_strings_are_no_depth(void **state)
{
	static const char text[] =
	    "[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[\"]";
	json_t *value = NULL;

	(void)state;
	assert_int_equal(json_parse(text, sizeof(text) - 1, &value, NULL),
	    ERR_OK);
	json_decref(value);
}

static void
does_not_repeat_what_it_refuses(void **state)
{
	static const char text[] = "{\"key\": sk-secret}";
	struct diag diag = { "" };
	json_t *value = NULL;

	(void)state;
	assert_int_equal(json_parse(text, sizeof(text) - 1, &value, &diag),
	    ERR_PROTO);
	assert_null(strstr(diag.text, "secret"));
}

static void
members_are_absent_mistyped_out_of_range_or_read(void **state)
{
	static const char text[] =
	    "{\"s\":\"four\",\"i\":7,\"n\":null,\"r\":1.0}";
	const char *string = "untouched";
	json_t *object = NULL;
	int64_t number = -1;

	(void)state;
	assert_int_equal(json_parse(text, sizeof(text) - 1, &object, NULL),
	    ERR_OK);
	assert_int_equal(json_get_string(object, "x", 9, &string),
	    ERR_NOTFOUND);
	assert_int_equal(json_get_string(object, "n", 9, &string),
	    ERR_NOTFOUND);
	assert_int_equal(json_get_string(object, "i", 9, &string), ERR_PROTO);
	assert_int_equal(json_get_string(object, "s", 3, &string), ERR_LIMIT);
	assert_string_equal(string, "untouched");
	assert_int_equal(json_get_string(object, "s", 4, &string), ERR_OK);
	assert_string_equal(string, "four");
	assert_int_equal(json_get_int(object, "x", 0, 9, &number),
	    ERR_NOTFOUND);
	assert_int_equal(json_get_int(object, "s", 0, 9, &number), ERR_PROTO);
	assert_int_equal(json_get_int(object, "r", 0, 9, &number), ERR_PROTO);
	assert_int_equal(json_get_int(object, "i", 8, 9, &number), ERR_LIMIT);
	assert_int_equal(json_get_int(object, "i", 0, 6, &number), ERR_LIMIT);
	assert_int_equal(number, -1);
	assert_int_equal(json_get_int(object, "i", 7, 7, &number), ERR_OK);
	assert_int_equal(number, 7);
	json_decref(object);
}

static void
an_object_in_an_object_is_made_once(void **state)
{
	json_t *object = json_object();
	json_t *inner = json_make_object(object, "inner");

	(void)state;
	assert_true(json_is_object(inner));
	assert_ptr_equal(json_make_object(object, "inner"), inner);
	assert_ptr_equal(json_object_get(object, "inner"), inner);
	json_decref(object);
}

static void
errors_have_one_form_whatever_the_message(void **state)
{
	json_t *error = http_error("bad_request", "say \"it\"");
	size_t len;
	char *text = json_text(error, &len);

	(void)state;
	assert_string_equal(text,
	    "{\"error\":{\"code\":\"bad_request\","
	    "\"message\":\"say \\\"it\\\"\"}}");
	assert_int_equal(len, strlen(text));
	free(text);
	json_decref(error);
	error = http_error("bad_request", "\xff");
	text = json_text(error, NULL);
	assert_string_equal(text,
	    "{\"error\":{\"code\":\"bad_request\","
	    "\"message\":\"bad_request\"}}");
	free(text);
	json_decref(error);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_one_value_of_any_kind),
		cmocka_unit_test(refuses_what_is_not_strictly_json),
		cmocka_unit_test(nests_as_deep_as_it_may_and_no_deeper),
		cmocka_unit_test(takes_so_many_values_and_no_more),
		cmocka_unit_test(brackets_in_strings_are_no_depth),
		cmocka_unit_test(does_not_repeat_what_it_refuses),
		cmocka_unit_test(
		    members_are_absent_mistyped_out_of_range_or_read),
		cmocka_unit_test(an_object_in_an_object_is_made_once),
		cmocka_unit_test(errors_have_one_form_whatever_the_message),
	};

	return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
