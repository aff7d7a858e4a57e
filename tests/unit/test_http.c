/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/err.h"
#include "common/http.h"

static void
every_error_has_a_phrase_of_its_status(void **state)
{
	static const int statuses[] = {
#define ERR(name, http, code, text) http,
#include "common/err.def"
	};

	(void)state;
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
		assert_string_not_equal(http_phrase(statuses[i]),
		    http_phrase(-1));
}

static void
phrases_are_those_of_the_standard(void **state)
{
	(void)state;
	assert_string_equal(http_phrase(200), "OK");
	assert_string_equal(http_phrase(402), "Payment Required");
	assert_string_equal(http_phrase(403), "Forbidden");
	assert_string_equal(http_phrase(413), "Content Too Large");
	assert_string_equal(http_phrase(426), "Upgrade Required");
	assert_string_equal(http_phrase(431),
	    "Request Header Fields Too Large");
	assert_string_equal(http_phrase(504), "Gateway Timeout");
}

/* A broker may deny with any status. */
static void
no_status_is_without_a_phrase(void **state)
{
	(void)state;
	for (int status = -1; status <= 1000; status++)
		assert_true(http_phrase(status)[0] != '\0');
}

static const char *
member(json_t *body, const char *name)
{
	return json_string_value(
	    json_object_get(json_object_get(body, "error"), name));
}

static void
an_error_body_has_a_code_and_a_message_and_nothing_else(void **state)
{
	json_t *body = http_error("forbidden", "not \"here\"\n\xc3\xa9");

	(void)state;
	assert_int_equal(json_object_size(body), 1);
	assert_int_equal(json_object_size(json_object_get(body, "error")), 2);
	assert_string_equal(member(body, "code"), "forbidden");
	assert_string_equal(member(body, "message"), "not \"here\"\n\xc3\xa9");
	json_decref(body);
}

static void
a_message_that_is_no_utf_8_gives_way_to_the_code(void **state)
{
	static const char *const messages[] = { "\xff", "cut \xc3",
		"long \xc0\xaf", "half \xed\xa0\x80", "far \xf4\x90\x80\x80" };

	(void)state;
	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		json_t *body = http_error("forbidden", messages[i]);

		assert_string_equal(member(body, "message"), "forbidden");
		json_decref(body);
	}
}

static void
reads_a_retry_after_that_is_sane(void **state)
{
	static const struct {
		const char *text;
		int64_t seconds;
	} cases[] = {
		{ "7", 7 },
		{ "007", 7 },
		{ "86400", 86400 },
		{ "86401", 0 },
		{ "0", 0 },
		{ "-1", 0 },
		{ "1e3", 0 },
		{ " 7", 0 },
		{ "7\r\nA: b", 0 },
		{ "", 0 },
		{ "99999999999999999999", 0 },
		{ "Fri, 31 Dec 1999 23:59:59 GMT", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(http_retry_after_s(cases[i].text,
				     strlen(cases[i].text)),
		    cases[i].seconds);
	assert_int_equal(http_retry_after_s(NULL, 0), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_error_has_a_phrase_of_its_status),
		cmocka_unit_test(phrases_are_those_of_the_standard),
		cmocka_unit_test(no_status_is_without_a_phrase),
		cmocka_unit_test(reads_a_retry_after_that_is_sane),
		cmocka_unit_test(
		    an_error_body_has_a_code_and_a_message_and_nothing_else),
		cmocka_unit_test(
		    a_message_that_is_no_utf_8_gives_way_to_the_code),
	};

	return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
