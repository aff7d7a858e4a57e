/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tunnel/asks.h"

static int
set_up(void **state)
{
	*state = asks_new();
	return 0;
}

static int
tear_down(void **state)
{
	asks_free(*state);
	return 0;
}

/* Those that are open, as "1 2 5", after the number of the last one. */
static void
assert_open(const struct asks *asks, const char *expected)
{
	struct wire_usage usage = { .asked = 0 };
	char text[256];
	int len;

	asks_get(asks, &usage);
	len = snprintf(text, sizeof(text), "%d:", (int)usage.asked);
	for (size_t i = 0; i < usage.open_count; i++)
		len += snprintf(text + len, sizeof(text) - (size_t)len, " %d",
		    (int)usage.open[i]);
	assert_string_equal(text, expected);
}

static void
answer(struct asks *asks, int64_t n, bool allowed, enum asks_kind expected,
    const char *expected_id)
{
	char id[VENDOR_EVENT_ID_BYTES];

	assert_int_equal(asks_answer(asks, n, allowed, id), expected);
	assert_string_equal(id, expected_id);
}

static void
a_create_is_open_from_its_question_to_its_usage(void **state)
{
	struct asks *asks = *state;

	assert_open(asks, "0:");
	assert_int_equal(asks_create(asks, "a"), 1);
	assert_open(asks, "1: 1");
	answer(asks, 1, true, ASKS_CREATE, "");
	assert_open(asks, "1: 1");
	assert_int_equal(asks_created(asks, "resp_1"), 0);
	assert_open(asks, "1: 1");
	assert_int_equal(asks_done(asks, "resp_2"), 0);
	assert_int_equal(asks_done(asks, "resp_1"), 1);
	assert_open(asks, "1:");
	assert_int_equal(asks_done(asks, "resp_1"), 0);
}

static void
a_create_that_is_refused_is_over(void **state)
{
	struct asks *asks = *state;

	assert_int_equal(asks_create(asks, ""), 1);
	answer(asks, 1, false, ASKS_CREATE, "");
	assert_open(asks, "1:");
	answer(asks, 1, true, ASKS_NONE, "");
	assert_int_equal(asks_create(asks, ""), 2);
	answer(asks, 1, true, ASKS_NONE, "");
	answer(asks, 3, true, ASKS_NONE, "");
	assert_open(asks, "2: 2");
}

static void
several_responses_are_told_apart(void **state)
{
	struct asks *asks = *state;

	for (int64_t n = 1; n <= 3; n++) {
		assert_int_equal(asks_create(asks, ""), n);
		answer(asks, n, true, ASKS_CREATE, "");
	}
	assert_int_equal(asks_created(asks, "resp_a"), 0);
	assert_int_equal(asks_created(asks, "resp_b"), 0);
	assert_int_equal(asks_done(asks, "resp_b"), 2);
	assert_open(asks, "3: 1 3");
	assert_int_equal(asks_created(asks, "resp_c"), 0);
	assert_int_equal(asks_done(asks, "resp_a"), 1);
	assert_int_equal(asks_done(asks, "resp_c"), 3);
	assert_open(asks, "3:");
}

static void
what_the_vendor_begins_is_asked_for(void **state)
{
	struct asks *asks = *state;

	assert_int_equal(asks_created(asks, "resp_v"), 1);
	assert_open(asks, "1: 1");
	answer(asks, 1, true, ASKS_BEGUN, "resp_v");
	assert_int_equal(asks_done(asks, "resp_v"), 1);
	assert_int_equal(asks_created(asks, "resp_w"), 2);
	answer(asks, 2, false, ASKS_BEGUN, "resp_w");
	assert_open(asks, "2:");
	assert_int_equal(asks_done(asks, "resp_w"), 0);
}

/* Its usage settles the question, whose answer is still on its way. */
static void
a_response_may_end_before_its_answer(void **state)
{
	struct asks *asks = *state;

	assert_int_equal(asks_created(asks, "resp_v"), 1);
	assert_int_equal(asks_done(asks, "resp_v"), 1);
	assert_open(asks, "1:");
	answer(asks, 1, false, ASKS_ENDED, "");
	answer(asks, 1, false, ASKS_NONE, "");
	assert_int_equal(asks_created(asks, "resp_v"), 2);
	assert_int_equal(asks_done(asks, "resp_v"), 2);
	answer(asks, 2, true, ASKS_ENDED, "");
	assert_open(asks, "2:");
}

static void
a_vendor_that_does_not_say_what_begins_is_served(void **state)
{
	struct asks *asks = *state;

	assert_int_equal(asks_create(asks, ""), 1);
	answer(asks, 1, true, ASKS_CREATE, "");
	assert_int_equal(asks_done(asks, "resp_1"), 1);
	assert_open(asks, "1:");
}

static void
an_error_ends_the_create_that_it_is_about(void **state)
{
	static const struct {
		const char *name, *about;
		bool ends;
	} cases[] = {
		{ "a", "a", true },
		{ "a", "b", false },
		{ "a", "", false },
		{ "", "", true },
		{ "", "b", false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct asks *asks = *state;

		(void)tear_down(state);
		(void)set_up(state);
		asks = *state;
		assert_int_equal(asks_create(asks, cases[i].name), 1);
		/* nothing has gone out that it could be about */
		assert_false(asks_error(asks, cases[i].about));
		answer(asks, 1, true, ASKS_CREATE, "");
		assert_int_equal(asks_error(asks, cases[i].about),
		    cases[i].ends);
		assert_open(asks, cases[i].ends ? "1:" : "1: 1");
		/* a wrong guess costs a question */
		assert_int_equal(asks_created(asks, "resp_1"),
		    cases[i].ends ? 2 : 0);
	}
}

static void
an_error_does_not_end_what_has_begun(void **state)
{
	struct asks *asks = *state;

	assert_int_equal(asks_create(asks, "a"), 1);
	answer(asks, 1, true, ASKS_CREATE, "");
	assert_int_equal(asks_created(asks, "a"), 0);
	assert_false(asks_error(asks, "a"));
	assert_int_equal(asks_done(asks, "a"), 1);
}

static void
refuses_more_than_its_maximum(void **state)
{
	struct asks *asks = *state;

	for (int64_t n = 1; n <= WIRE_ASKS_MAX; n++)
		assert_int_equal(asks_create(asks, ""), n);
	assert_int_equal(asks_create(asks, ""), 0);
	assert_int_equal(asks_created(asks, "resp_v"), -1);
	answer(asks, 7, false, ASKS_CREATE, "");
	assert_int_equal(asks_created(asks, "resp_v"), WIRE_ASKS_MAX + 1);
	assert_open(asks, "17: 1 2 3 4 5 6 8 9 10 11 12 13 14 15 16 17");
}

static void
at_the_end_only_what_went_out_is_open(void **state)
{
	struct asks *asks = *state;

	assert_int_equal(asks_create(asks, ""), 1);
	answer(asks, 1, true, ASKS_CREATE, "");
	assert_int_equal(asks_create(asks, ""), 2);
	assert_int_equal(asks_create(asks, ""), 3);
	asks_end(asks);
	assert_open(asks, "3: 1");
	answer(asks, 2, true, ASKS_NONE, "");
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(a_create_is_open_from_its_question_to_its_usage),
		T(a_create_that_is_refused_is_over),
		T(several_responses_are_told_apart),
		T(what_the_vendor_begins_is_asked_for),
		T(a_response_may_end_before_its_answer),
		T(a_vendor_that_does_not_say_what_begins_is_served),
		T(an_error_ends_the_create_that_it_is_about),
		T(an_error_does_not_end_what_has_begun),
		T(refuses_more_than_its_maximum),
		T(at_the_end_only_what_went_out_is_open),
	};

	return cmocka_run_group_tests_name("asks", tests, NULL, NULL);
}
