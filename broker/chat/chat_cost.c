/* SPDX-License-Identifier: MIT */
#include "broker/chat/chat_cost.h"

#define PICO_PER_MICRO 1000000
#define TOKEN_BYTES    4

static uint64_t
at_most(uint64_t value, uint64_t max)
{
	return value < max ? value : max;
}

/* Tokens without a price of their own are never free. */
static void
price_cached_as_input(const struct price *price, struct store_sum *sum)
{
	if (price->has_tokens[STORE_CACHED_TEXT])
		return;
	sum->tokens[STORE_INPUT_TEXT] += sum->tokens[STORE_CACHED_TEXT];
	sum->tokens[STORE_CACHED_TEXT] = 0;
}

static int64_t
cost(const struct price *price, const uint64_t tokens[STORE_TOKENS_COUNT])
{
	struct store_sum sum = { .day = NULL };
	uint64_t pico, micro;

	if (price == NULL)
		return 0;
	for (int i = 0; i < STORE_TOKENS_COUNT; i++)
		sum.tokens[i] = tokens[i];
	price_cached_as_input(price, &sum);
	if (price_of(price, &sum, &pico) != ERR_OK)
		return 0; /* the configuration was checked for it */
	micro = pico / PICO_PER_MICRO + (pico % PICO_PER_MICRO > 0);
	return (int64_t)at_most(micro, STORE_BALANCE_MAX);
}

int64_t
chat_cost_bound(const struct price *price, uint64_t input_bytes,
    uint64_t output_tokens)
{
	uint64_t tokens[STORE_TOKENS_COUNT] = {
		[STORE_INPUT_TEXT] = at_most(input_bytes, STORE_TOKENS_MAX),
		[STORE_OUTPUT_TEXT] = at_most(output_tokens, STORE_TOKENS_MAX),
	};

	return cost(price, tokens);
}

static uint64_t
estimate(uint64_t bytes)
{
	return at_most(bytes / TOKEN_BYTES + (bytes % TOKEN_BYTES > 0),
	    STORE_TOKENS_MAX);
}

struct chat_bill
chat_cost_bill(const struct price *price, const struct completion_usage *said,
    uint64_t input_bytes, uint64_t output_bytes)
{
	struct chat_bill bill = { .estimated = said == NULL || !said->known };
	uint64_t cached = 0;

	if (bill.estimated) {
		bill.input_tokens = estimate(input_bytes);
		bill.output_tokens = estimate(output_bytes);
		bill.total_tokens = bill.input_tokens + bill.output_tokens;
	} else {
		bill.input_tokens =
		    at_most(said->input_tokens, STORE_TOKENS_MAX);
		bill.output_tokens =
		    at_most(said->output_tokens, STORE_TOKENS_MAX);
		bill.total_tokens =
		    at_most(said->total_tokens, STORE_TOKENS_MAX);
		cached = at_most(said->cached_tokens, bill.input_tokens);
	}
	bill.tokens[STORE_INPUT_TEXT] = bill.input_tokens - cached;
	bill.tokens[STORE_CACHED_TEXT] = cached;
	bill.tokens[STORE_OUTPUT_TEXT] = bill.output_tokens;
	bill.charge = cost(price, bill.tokens);
	return bill;
}
