/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/limits/budget.h"
#include "config_text.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* What is asked of it. */
static const char text[] =
    "store { path = \"/nonexistent/culvert.db\" }\n"
    "prices \"gpt-realtime\" { input_text = \"4\" input_audio = \"32\""
    " cached_text = \"0.40\" output_text = \"16\" output_audio = \"64\" }\n"
    "prices \"text-*\" { input_text = \"1\" output_text = \"2.5\" }\n"
    "plan free { day_tokens = 1000 response_tokens = 600 }\n"
    "plan all { day_tokens = 9000 day_money = \"1.5\""
    " response_tokens = 800 }\n"
    "plan open { tunnels = 5 }\n";

static struct config *config;
static struct subjects both;

static int
set_up(void **state)
{
	(void)state;
	config = config_text(text);
	both.count = 3;
	(void)strcpy(both.items[0].name, "u:ann");
	both.items[0].plan = config_find_plan(config, "free");
	(void)strcpy(both.items[1].name, "n:192.0.2.1");
	both.items[1].plan = NULL;
	(void)strcpy(both.items[2].name, "r:openai");
	both.items[2].plan = config_find_plan(config, "all");
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	config_unref(config);
	return 0;
}

static void
estimates_by_plan_by_what_was_seen_or_by_what_is_known(void **state)
{
	static const struct {
		int64_t seen_tokens, seen_money, max_tokens, max_money;
		const char *model;
		int64_t tokens, money;
		uint64_t input_bytes;
	} cases[] = {
		/* what it has been given comes on top, up to what any takes */
		{ 0, 0, 0, 0, "text-1", 1800, 4500, 2000 },
		{ 4000, 0, 0, 0, "text-1", 6000, 15000, 2000 },
		{ 1000, 9000, 70, 123, "text-1", 70, 123, 2000 },
		{ 0, 0, 0, 0, "text-1", 131872, 329680, UINT64_MAX },
		/* the larger plan's; audio out is the dearest */
		{ 0, 0, 0, 0, "gpt-realtime", 800, 800 * 64, 0 },
		{ 400, 9000, 0, 0, "gpt-realtime", 800, 800 * 64, 0 },
		{ 1000, 9000, 0, 0, "gpt-realtime", 1500, 1500 * 64, 0 },
		{ 1000, 70000, 0, 0, "gpt-realtime", 1500, 105000, 0 },
		{ 0, 0, 0, 0, "text-1", 800, 2000, 0 },
		/* by the dearest of all where nobody knows the model */
		{ 0, 0, 0, 0, "other", 800, 800 * 64, 0 },
		{ 0, 0, 0, 0, NULL, 800, 800 * 64, 0 },
		{ 1000, 9000, 70, 0, "text-1", 70, 13500, 0 },
		{ 1000, 9000, 70, 123, "text-1", 70, 123, 0 },
		{ INT64_MAX, INT64_MAX, 0, 0, NULL, STORE_TOKENS_MAX,
		    STORE_BALANCE_MAX, 0 },
		{ 0, 0, INT64_MAX, INT64_MAX, NULL, STORE_TOKENS_MAX,
		    STORE_BALANCE_MAX, 0 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		const struct budget_ask ask = {
			.id = "l:1",
			.subjects = &both,
			.config = config,
			.model = cases[i].model,
			.seen_tokens = cases[i].seen_tokens,
			.seen_money = cases[i].seen_money,
			.max_tokens = cases[i].max_tokens,
			.max_money = cases[i].max_money,
			.input_bytes = cases[i].input_bytes,
		};
		int64_t tokens, money;

		budget_estimate(&ask, &tokens, &money);
		assert_int_equal(tokens, cases[i].tokens);
		assert_int_equal(money, cases[i].money);
	}
}

static void
reserves_for_those_who_have_a_limit(void **state)
{
	const struct budget_ask ask = {
		.id = "l:1",
		.subjects = &both,
		.config = config,
		.model = "text-1",
		.now = 1000,
	};
	struct store_reserve in;

	(void)state;
	budget_fill_reserve(&ask, 60, &in);
	assert_string_equal(in.id, "l:1");
	assert_int_equal(in.budgets.count, 2);
	assert_string_equal(in.budgets.items[0].subject, "u:ann");
	assert_int_equal(in.budgets.items[0].max_tokens, 1000);
	assert_int_equal(in.budgets.items[0].max_money, 0);
	assert_string_equal(in.budgets.items[1].subject, "r:openai");
	assert_int_equal(in.budgets.items[1].max_money, 1500000);
	assert_int_equal(in.now, 1000);
	assert_int_equal(in.expires, 1060);
}

static void
needs_a_store(void **state)
{
	const struct budget_ask ask = {
		.id = "l:1",
		.subjects = &both,
		.config = config,
	};
	struct store_budget_state now;
	struct diag diag;

	(void)state;
	assert_int_equal(budget_reserve(&ask, &now, &diag), ERR_UNAVAIL);
}

static void
fills_for_whom_a_row_counts(void **state)
{
	struct store_usage row = { .total_tokens = 1 };

	(void)state;
	budget_fill_usage(config, &both, "l:7", &row);
	assert_string_equal(row.subjects[0], "u:ann");
	assert_string_equal(row.subjects[1], "r:openai");
	assert_null(row.subjects[2]);
	assert_string_equal(row.reservation, "l:7");
	store_usage_done(&row);
	/* one who has a plan is counted, whatever it limits today */
	both.items[1].plan = config_find_plan(config, "open");
	budget_fill_usage(config, &both, NULL, &row);
	assert_string_equal(row.subjects[1], "n:192.0.2.1");
	assert_null(row.reservation);
	store_usage_done(&row);
}

static void
lets_nothing_be_free_for_want_of_a_price(void **state)
{
	static char realtime[] = "gpt-realtime", plain[] = "text-1",
		    other[] = "other";
	const struct {
		char *model;
		uint64_t text, audio, image, total;
		double seconds;
		int64_t money;
	} cases[] = {
		{ realtime, 10, 0, 0, 10, 0, 160 },
		{ realtime, 10, 10, 0, 20, 0, 160 + 640 },
		{ plain, 1, 0, 0, 1, 0, 3 }, /* rounded up */
		/* of these tokens there is no price: the dearest counts */
		{ plain, 10, 10, 0, 20, 0, 50 },
		{ other, 10, 0, 0, 10, 0, 640 },
		{ NULL, 10, 0, 0, 10, 0, 640 },
		/* nor of what the vendor's total has beyond its kinds */
		{ realtime, 10, 0, 0, 15, 0, 160 + 5 * 64 },
		{ realtime, 0, 0, 0, 10, 0, 640 },
		{ realtime, 0, 0, 0, 0, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct store_usage row = {
			.tokens[STORE_OUTPUT_TEXT] = cases[i].text,
			.tokens[STORE_OUTPUT_AUDIO] = cases[i].audio,
			.total_tokens = cases[i].total,
			.seconds = cases[i].seconds,
		};

		row.model = cases[i].model;
		budget_fill_usage(config, &both, NULL, &row);
		row.model = NULL;
		assert_int_equal(row.money, cases[i].money);
		store_usage_done(&row);
	}
}

static void
keeps_money_within_what_can_be_booked(void **state)
{
	struct store_usage row = { .total_tokens = STORE_TOKENS_MAX };

	(void)state;
	for (int i = 0; i < STORE_TOKENS_COUNT; i++)
		row.tokens[i] = STORE_TOKENS_MAX;
	budget_fill_usage(config, &both, NULL, &row);
	assert_in_range(row.money, 1, STORE_BALANCE_MAX);
	store_usage_done(&row);
	assert_int_equal(budget_dearest(config, NULL, INT64_MAX),
	    STORE_BALANCE_MAX);
}

static void
comes_back_at_the_end_of_the_day_in_a_second_at_least(void **state)
{
	static const struct store_budget_state budget = { .resets = 86400 };
	char value[BUDGET_HEADER_SIZE];

	(void)state;
	assert_int_equal(budget_resets_in_s(&budget, 86400 - 3600), 3600);
	/* the day has ended between the store's answer and ours */
	assert_int_equal(budget_resets_in_s(&budget, 86400), 1);
	assert_int_equal(budget_resets_in_s(&budget, 86405), 1);
	budget_format_limit(3600, value);
	assert_string_equal(value, "\"day\";r=0;t=3600");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(estimates_by_plan_by_what_was_seen_or_by_what_is_known),
		TEST(reserves_for_those_who_have_a_limit),
		TEST(needs_a_store),
		TEST(fills_for_whom_a_row_counts),
		TEST(lets_nothing_be_free_for_want_of_a_price),
		TEST(keeps_money_within_what_can_be_booked),
		TEST(comes_back_at_the_end_of_the_day_in_a_second_at_least),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
