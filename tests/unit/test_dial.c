/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tunnel/dial.h"

static void
vendors_refusals_become_statuses_of_a_gateway(void **state)
{
	static const struct {
		int vendor, ours;
	} cases[] = {
		{ 200, 502 },
		{ 204, 502 },
		{ 301, 502 },
		{ 302, 502 },
		{ 400, 502 },
		{ 401, 502 },
		{ 403, 502 },
		{ 404, 502 },
		{ 410, 502 },
		{ 418, 502 },
		{ 429, 429 },
		{ 500, 502 },
		{ 503, 502 },
		{ 504, 502 },
	};
	struct dial_refusal refusal;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		dial_refusal_from_status(cases[i].vendor, NULL, 0, &refusal);
		assert_int_equal(refusal.status, cases[i].ours);
		assert_non_null(refusal.message);
		assert_int_equal(refusal.retry_after_s, 0);
	}
}

static void
a_refused_key_is_told_to_the_operator_only(void **state)
{
	struct dial_refusal refusal;

	(void)state;
	dial_refusal_from_status(401, NULL, 0, &refusal);
	assert_string_equal(refusal.why, "our key was refused");
	assert_null(strstr(refusal.message, "key"));
}

static void
retry_after_passes_only_when_it_is_sane(void **state)
{
	static const struct {
		const char *text;
		unsigned seconds;
	} cases[] = {
		{ "7", 7 },
		{ "86400", 86400 },
		{ "86401", 0 },
		{ "-1", 0 },
		{ "1e3", 0 },
		{ "", 0 },
		{ "99999999999999999999", 0 },
		{ "Fri, 31 Dec 1999 23:59:59 GMT", 0 },
	};
	struct dial_refusal refusal;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		dial_refusal_from_status(429, cases[i].text,
		    strlen(cases[i].text), &refusal);
		assert_int_equal(refusal.retry_after_s, cases[i].seconds);
	}
	/* no other status has one */
	dial_refusal_from_status(503, "7", 1, &refusal);
	assert_int_equal(refusal.retry_after_s, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vendors_refusals_become_statuses_of_a_gateway),
		cmocka_unit_test(a_refused_key_is_told_to_the_operator_only),
		cmocka_unit_test(retry_after_passes_only_when_it_is_sane),
	};

	return cmocka_run_group_tests_name("dial", tests, NULL, NULL);
}
