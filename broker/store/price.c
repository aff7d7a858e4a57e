/* SPDX-License-Identifier: MIT */
#include "broker/store/price.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/str.h"

#define MICRO	 1000000
#define DECIMALS 6
#define UNIT_MAX 1000000

const char *const price_token_names[STORE_TOKENS_COUNT] = {
	[STORE_INPUT_TEXT] = "input_text",
	[STORE_INPUT_AUDIO] = "input_audio",
	[STORE_INPUT_IMAGE] = "input_image",
	[STORE_CACHED_TEXT] = "cached_text",
	[STORE_CACHED_AUDIO] = "cached_audio",
	[STORE_CACHED_IMAGE] = "cached_image",
	[STORE_OUTPUT_TEXT] = "output_text",
	[STORE_OUTPUT_AUDIO] = "output_audio",
};

enum err
price_parse(const char *text, uint64_t *ret_micro)
{
	size_t whole_len = strcspn(text, ".");
	const char *decimals = text + whole_len;
	uint64_t whole, part = 0;
	size_t len = 0;

	if (str_to_u64(text, whole_len, UNIT_MAX, &whole) != ERR_OK)
		return ERR_PROTO;
	if (*decimals == '.') {
		len = strlen(++decimals);
		if (len > DECIMALS ||
		    str_to_u64(decimals, len, MICRO, &part) != ERR_OK)
			return ERR_PROTO;
	}
	for (; len < DECIMALS; len++)
		part *= 10;
	if (whole == UNIT_MAX && part > 0)
		return ERR_PROTO;
	*ret_micro = whole * MICRO + part;
	return ERR_OK;
}

static uint64_t
multiply(uint64_t a, uint64_t b)
{
	uint64_t product;

	return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint64_t
add(uint64_t a, uint64_t b)
{
	return b > UINT64_MAX - a ? UINT64_MAX : a + b;
}

/* Seconds come in fractions; a millisecond is as exact as any bill. */
static uint64_t
cost_of_seconds(const struct price *price, double seconds)
{
	double ms = round(seconds * 1000);
	uint64_t micro_ms;

	if (ms >= (double)INT64_MAX)
		return UINT64_MAX;
	micro_ms = multiply((uint64_t)ms, price->minute);
	/* 60000 ms to a minute, a million pico-units to a micro-unit */
	return micro_ms == UINT64_MAX ? micro_ms : multiply(micro_ms / 6, 100);
}

enum err
price_of(const struct price *price, const struct store_sum *sum,
    uint64_t *ret_pico)
{
	uint64_t pico = 0;

	for (int i = 0; i < STORE_TOKENS_COUNT; i++) {
		if (sum->tokens[i] > 0 && !price->has_tokens[i])
			return ERR_NOTFOUND;
		pico = add(pico, multiply(sum->tokens[i], price->tokens[i]));
	}
	if (sum->seconds > 0 && !price->has_minute)
		return ERR_NOTFOUND;
	if (sum->seconds > 0)
		pico = add(pico, cost_of_seconds(price, sum->seconds));
	*ret_pico = pico;
	return ERR_OK;
}

char *
price_format_micro(uint64_t micro, char out[PRICE_TEXT_BYTES])
{
	(void)snprintf(out, PRICE_TEXT_BYTES, "%" PRIu64 ".%06" PRIu64,
	    micro / MICRO, micro % MICRO);
	return out;
}

char *
price_format_pico(uint64_t pico, char out[PRICE_TEXT_BYTES])
{
	return price_format_micro(pico / MICRO + (pico % MICRO >= MICRO / 2),
	    out);
}
