/* SPDX-License-Identifier: MIT */
#ifndef BROKER_BUDGET_H
#define BROKER_BUDGET_H

#include <stdint.h>

#include "broker/limits/subjects.h"
#include "common/err.h"

/*
 * budget: tokens and money of a day: reserve, then settle.
 *
 * What begins reserves what it may come to; what it came to is booked with its
 * row of the ledger (struct store_usage), which ends the reservation.  So all
 * that runs at once is counted before it has cost anything, and the last one
 * that begins is the only one that can go over.
 */
struct budget_ask {
	const char *id; /* of the reservation, unique: "LEASE:n" */
	const struct subjects *subjects;
	const struct config *config; /* for prices */
	const char *model;	     /* NULL: not known */
	/* the largest response of this conversation so far; 0: none yet */
	int64_t seen_tokens, seen_money;
	/* that it may take in and that nothing seen has taken in */
	uint64_t input_bytes;
	/* an upper bound, where one is known; 0: plan and what was seen tell */
	int64_t max_tokens, max_money;
	/* where nobody will tell what it came to; NULL: it is ours to tell */
	const struct store_lost *lost;
	int64_t now;
};

/* What is reserved for it, where as much is left; money in micro-units.  Pure.
 */
void budget_estimate(const struct budget_ask *ask, int64_t *ret_tokens,
    int64_t *ret_money);

/*
 * What a store is asked for it; expires_s from now on it is forgotten.  It
 * borrows of the ask.  Pure.
 */
void budget_fill_reserve(const struct budget_ask *ask, int64_t expires_s,
    struct store_reserve *ret);

/* Waits for the store.  ERR_BUDGET, ERR_AGAIN, ERR_UNAVAIL: store.h. */
enum err budget_reserve(const struct budget_ask *ask,
    struct store_budget_state *ret, struct diag *diag) MUST_CHECK;

/* Seconds until the day ends, and there is a budget again: at least 1.  Pure.
 */
int64_t budget_resets_in_s(const struct store_budget_state *state, int64_t now);

/*
 * The value of RateLimit for a budget that is used up, as buckets.h has it for
 * requests.  Pure.
 */
#define BUDGET_HEADER_SIZE 48
void budget_format_limit(int64_t resets_in_s, char out[BUDGET_HEADER_SIZE]);

/*
 * Most that tokens of a model cost, by its dearest price; the dearest of all
 * where the model is not known.  0 where there are no prices.  Pure.
 */
int64_t budget_dearest(const struct config *config, const char *model,
    int64_t tokens);

/* Fill what the row is counted for: subjects, money, reservation. */
void budget_fill_usage(const struct config *config,
    const struct subjects *subjects, const char *reservation,
    struct store_usage *usage);

#endif
