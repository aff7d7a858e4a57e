/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CHAT_COST_H
#define BROKER_CHAT_COST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/chat/completion.h"
#include "broker/store/price.h"
#include "broker/store/store.h"

/*
 * chat_cost: what an answer of the chat may cost, and has cost.  Pure; in
 * micro-units, rounded up.
 *
 * A token is at least a byte, so bytes bound tokens from above.  Where the
 * vendor says nothing, because it was not let finish, a token is taken to be
 * four bytes.
 */

/* Most that it can cost. */
int64_t chat_cost_bound(const struct price *price, uint64_t input_bytes,
    uint64_t output_tokens);

struct chat_bill {
	bool estimated; /* by us, from bytes */
	uint64_t tokens[STORE_TOKENS_COUNT];
	uint64_t input_tokens, output_tokens, total_tokens;
	int64_t charge;
};

/*
 * What it has cost.  said: the vendor's word, where it is known; NULL is
 * allowed.  price NULL: nobody pays.
 */
struct chat_bill chat_cost_bill(const struct price *price,
    const struct completion_usage *said, uint64_t input_bytes,
    uint64_t output_bytes);

#endif
