/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/store/price.h"

static uint64_t
micro(const char *text)
{
	uint64_t value;

	if (price_parse(text, &value) != ERR_OK)
		fail_msg("%s", text);
	return value;
}

static void
reads_decimal_numbers(void **state)
{
	(void)state;
	assert_int_equal(micro("4"), 4000000);
	assert_int_equal(micro("4.00"), 4000000);
	assert_int_equal(micro("0.40"), 400000);
	assert_int_equal(micro("0.000001"), 1);
	assert_int_equal(micro("0"), 0);
	assert_int_equal(micro("32.5"), 32500000);
	assert_int_equal(micro("1000000"), 1000000000000);
	assert_int_equal(micro("1000000.0"), 1000000000000);
}

static void
refuses_what_is_no_price(void **state)
{
	static const char *const texts[] = { "", ".", ".5", "5.", "-1", "+1",
		" 1", "1 ", "1e3", "1,5", "0x1", "1.0000001", "1.2.3", "1.-2",
		"$1", "1000000.000001", "1000001", "99999999999999999999",
		"1.9999999999999999999" };
	uint64_t value = 7;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (price_parse(texts[i], &value) != ERR_PROTO)
			fail_msg("%s", texts[i]);
	assert_int_equal(value, 7);
}

/* gpt-realtime's, as of 2025 */
static struct price
prices(void)
{
	struct price price = { .currency = "USD" };
	static const char *const texts[STORE_TOKENS_COUNT] = { "4.00", "32.00",
		"5.00", "0.40", "0.40", "0.50", "16.00", "64.00" };

	for (int i = 0; i < STORE_TOKENS_COUNT; i++) {
		price.tokens[i] = micro(texts[i]);
		price.has_tokens[i] = true;
	}
	price.minute = micro("0.006");
	price.has_minute = true;
	return price;
}

static void
adds_up_to_the_last_token(void **state)
{
	struct price price = prices();
	struct store_sum sum = { .tokens = { 55, 13, 0, 64, 0, 0, 30, 91 } };
	char text[PRICE_TEXT_BYTES];
	uint64_t pico;

	(void)state;
	assert_int_equal(price_of(&price, &sum, &pico), ERR_OK);
	/* 55*4 + 13*32 + 64*0.4 + 30*16 + 91*64 micro-dollars */
	assert_int_equal(pico, 6965600000);
	assert_string_equal(price_format_pico(pico, text), "0.006966");
	sum = (struct store_sum){ .seconds = 90.5 };
	assert_int_equal(price_of(&price, &sum, &pico), ERR_OK);
	assert_int_equal(pico, 9050000000);
	sum = (struct store_sum){ .events = 3 };
	assert_int_equal(price_of(&price, &sum, &pico), ERR_OK);
	assert_int_equal(pico, 0);
}

static void
does_not_guess_a_price(void **state)
{
	struct price price = prices();
	struct store_sum sum = { .tokens = { 1, 0, 1 } };
	uint64_t pico;

	(void)state;
	price.has_tokens[STORE_INPUT_IMAGE] = false;
	price.has_minute = false;
	assert_int_equal(price_of(&price, &sum, &pico), ERR_NOTFOUND);
	sum.tokens[STORE_INPUT_IMAGE] = 0;
	assert_int_equal(price_of(&price, &sum, &pico), ERR_OK);
	sum.seconds = 1;
	assert_int_equal(price_of(&price, &sum, &pico), ERR_NOTFOUND);
}

static void
stays_at_the_largest_number(void **state)
{
	struct price price = prices();
	struct store_sum sum = { .tokens = { UINT64_MAX, UINT64_MAX } };
	uint64_t pico;

	(void)state;
	assert_int_equal(price_of(&price, &sum, &pico), ERR_OK);
	assert_int_equal(pico, UINT64_MAX);
	sum = (struct store_sum){ .seconds = 1e300 };
	assert_int_equal(price_of(&price, &sum, &pico), ERR_OK);
	assert_int_equal(pico, UINT64_MAX);
	sum = (struct store_sum){ .seconds = 1e15 };
	assert_int_equal(price_of(&price, &sum, &pico), ERR_OK);
	assert_int_equal(pico, UINT64_MAX);
}

static void
shows_money_rounded_to_a_millionth(void **state)
{
	char text[PRICE_TEXT_BYTES];

	(void)state;
	assert_string_equal(price_format_pico(499999, text), "0.000000");
	assert_string_equal(price_format_pico(500000, text), "0.000001");
	assert_string_equal(price_format_pico(12345678901234, text),
	    "12.345679");
	assert_string_equal(price_format_pico(UINT64_MAX, text),
	    "18446744.073710");
	assert_string_equal(price_format_micro(400000, text), "0.400000");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_decimal_numbers),
		cmocka_unit_test(refuses_what_is_no_price),
		cmocka_unit_test(adds_up_to_the_last_token),
		cmocka_unit_test(does_not_guess_a_price),
		cmocka_unit_test(stays_at_the_largest_number),
		cmocka_unit_test(shows_money_rounded_to_a_millionth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
