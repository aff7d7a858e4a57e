/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/chat/chat_cost.h"

/* A token of input is 2 micro-units, a cached one 1, one of output 10. */
static const struct price price = {
	.currency = "USD",
	.tokens = {
		[STORE_INPUT_TEXT] = 2000000,
		[STORE_CACHED_TEXT] = 1000000,
		[STORE_OUTPUT_TEXT] = 10000000,
	},
	.has_tokens = {
		[STORE_INPUT_TEXT] = true,
		[STORE_CACHED_TEXT] = true,
		[STORE_OUTPUT_TEXT] = true,
	},
};

static void
bounds_an_answer_from_above(void **state)
{
	(void)state;
	assert_int_equal(chat_cost_bound(&price, 100, 50), 700);
	assert_int_equal(chat_cost_bound(&price, 0, 0), 0);
	assert_int_equal(chat_cost_bound(NULL, 100, 50), 0);
	/* and no number is too large for it */
	assert_int_equal(chat_cost_bound(&price, UINT64_MAX, UINT64_MAX),
	    12000000000);
}

static void
charges_what_the_vendor_says(void **state)
{
	const struct completion_usage said = {
		.known = true,
		.input_tokens = 30,
		.cached_tokens = 10,
		.output_tokens = 5,
		.total_tokens = 35,
	};
	struct chat_bill bill = chat_cost_bill(&price, &said, 1000, 1000);

	(void)state;
	assert_false(bill.estimated);
	assert_int_equal(bill.charge, 20 * 2 + 10 + 5 * 10);
	assert_int_equal(bill.tokens[STORE_INPUT_TEXT], 20);
	assert_int_equal(bill.tokens[STORE_CACHED_TEXT], 10);
	assert_int_equal(bill.input_tokens, 30);
	assert_int_equal(bill.output_tokens, 5);
	assert_int_equal(bill.total_tokens, 35);
}

static void
does_not_give_cached_tokens_away(void **state)
{
	const struct completion_usage said = {
		.known = true,
		.input_tokens = 30,
		.cached_tokens = 10,
	};
	struct price other = price;

	(void)state;
	other.has_tokens[STORE_CACHED_TEXT] = false;
	assert_int_equal(chat_cost_bill(&other, &said, 0, 0).charge, 60);
}

static void
believes_no_impossible_number(void **state)
{
	const struct completion_usage said = {
		.known = true,
		.input_tokens = UINT64_MAX,
		.cached_tokens = UINT64_MAX,
		.output_tokens = UINT64_MAX,
		.total_tokens = UINT64_MAX,
	};
	struct chat_bill bill = chat_cost_bill(&price, &said, 0, 0);

	(void)state;
	assert_int_equal(bill.tokens[STORE_INPUT_TEXT], 0);
	assert_int_equal(bill.tokens[STORE_CACHED_TEXT], STORE_TOKENS_MAX);
	assert_int_equal(bill.tokens[STORE_OUTPUT_TEXT], STORE_TOKENS_MAX);
	assert_true(bill.charge > 0 && bill.charge <= STORE_BALANCE_MAX);
}

static void
estimates_where_the_vendor_says_nothing(void **state)
{
	const struct completion_usage unknown = { .input_tokens = 7 };
	const struct completion_usage *said[] = { NULL, &unknown };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct chat_bill bill = chat_cost_bill(&price, said[i], 9, 4);

		assert_true(bill.estimated);
		assert_int_equal(bill.input_tokens, 3);
		assert_int_equal(bill.output_tokens, 1);
		assert_int_equal(bill.total_tokens, 4);
		assert_int_equal(bill.charge, 3 * 2 + 10);
	}
	assert_int_equal(chat_cost_bill(NULL, NULL, 9, 4).charge, 0);
}

static void
rounds_up(void **state)
{
	struct price cheap = price;

	(void)state;
	cheap.tokens[STORE_INPUT_TEXT] = 1; /* of a million tokens */
	assert_int_equal(chat_cost_bound(&cheap, 1, 0), 1);
	assert_int_equal(chat_cost_bound(&cheap, 1000000, 0), 1);
	assert_int_equal(chat_cost_bound(&cheap, 1000001, 0), 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bounds_an_answer_from_above),
		cmocka_unit_test(charges_what_the_vendor_says),
		cmocka_unit_test(does_not_give_cached_tokens_away),
		cmocka_unit_test(believes_no_impossible_number),
		cmocka_unit_test(estimates_where_the_vendor_says_nothing),
		cmocka_unit_test(rounds_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
