/* SPDX-License-Identifier: MIT */
#ifndef BROKER_PRICE_H
#define BROKER_PRICE_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/store/store.h"
#include "common/err.h"

/*
 * price: from tokens to money.  Pure, in whole numbers.
 *
 * A price is in micro-units: millionths of a dollar, a euro.  A price of a
 * million tokens in micro-units is that of one token in pico-units, so costs
 * are pico-units, and nothing is rounded before a sum is shown.  What would
 * exceed 64 bits stays at the largest number.
 */
struct price {
	char currency[4];		     /* ISO 4217: "USD" */
	uint64_t tokens[STORE_TOKENS_COUNT]; /* micro-units, of a million */
	bool has_tokens[STORE_TOKENS_COUNT];
	uint64_t minute; /* micro-units, of 60 seconds */
	bool has_minute;
};

/* "input_text", ...: in the configuration and in reports. */
extern const char *const price_token_names[STORE_TOKENS_COUNT];

/*
 * A decimal number as "4", "0.40": at most six decimals, at most a million.
 * ERR_PROTO.
 */
enum err price_parse(const char *text, uint64_t *ret_micro) MUST_CHECK;

/*
 * What a sum costs, in pico-units.  ERR_NOTFOUND where it has something of
 * which there is no price: then the whole of it is not known.
 */
enum err price_of(const struct price *price, const struct store_sum *sum,
    uint64_t *ret_pico) MUST_CHECK;

/* The way back: "4.000000" of micro-units, or of pico-units, rounded. */
#define PRICE_TEXT_BYTES 32
char *price_format_micro(uint64_t micro, char out[PRICE_TEXT_BYTES]);
char *price_format_pico(uint64_t pico, char out[PRICE_TEXT_BYTES]);

#endif
