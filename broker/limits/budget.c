/* SPDX-License-Identifier: MIT */
#include "broker/limits/budget.h"

#include <inttypes.h>
#include <stdio.h>

#include "broker/store/price.h"
#include "common/xalloc.h"

#define PICO_PER_MICRO 1000000

/* At most so many bytes of what is written are a token, or nearly so ... */
#define TOKEN_BYTES 2
/* ... and no model takes in more of them. */
#define INPUT_TOKENS_MAX 131072

/* No response lasts longer; one that is not settled by then is forgotten. */
#define EXPIRES_S 900

static int64_t
at_most(int64_t value, int64_t max)
{
	return value < max ? value : max;
}

static int64_t
larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

int64_t
budget_resets_in_s(const struct store_budget_state *state, int64_t now)
{
	/* it may have ended since the store said so */
	return state->resets > now ? state->resets - now : 1;
}

void
budget_format_limit(int64_t resets_in_s, char out[BUDGET_HEADER_SIZE])
{
	(void)snprintf(out, BUDGET_HEADER_SIZE, "\"day\";r=0;t=%" PRId64,
	    resets_in_s);
}

/* ---- money ------------------------------------------------------------- */

static uint64_t
dearest_token(const struct price *price)
{
	uint64_t most = 0;

	for (int i = 0; i < STORE_TOKENS_COUNT; i++)
		if (price->has_tokens[i] && price->tokens[i] > most)
			most = price->tokens[i];
	return most;
}

/* Rounded up, so that nothing is free. */
static int64_t
to_micro(uint64_t pico)
{
	uint64_t micro =
	    pico / PICO_PER_MICRO + (pico % PICO_PER_MICRO > 0 ? 1 : 0);

	return micro < STORE_BALANCE_MAX ? (int64_t)micro : STORE_BALANCE_MAX;
}

int64_t
budget_dearest(const struct config *config, const char *model, int64_t tokens)
{
	const struct price *price =
	    model == NULL ? NULL : config_find_price(config, model);
	uint64_t most = price == NULL ? 0 : dearest_token(price), pico;

	for (size_t i = 0; price == NULL && i < config->price_count; i++) {
		uint64_t other = dearest_token(&config->prices[i].price);

		most = other > most ? other : most;
	}
	if (__builtin_mul_overflow((uint64_t)tokens, most, &pico))
		return STORE_BALANCE_MAX;
	return to_micro(pico);
}

/* What has no price of its own costs what the dearest does. */
static int64_t
cost(const struct config *config, const struct store_usage *usage)
{
	const struct price *price = usage->model == NULL
	    ? NULL
	    : config_find_price(config, usage->model);
	struct store_sum sum = { .seconds = usage->seconds };
	uint64_t pico, counted = 0;
	int64_t rest;

	for (int i = 0; i < STORE_TOKENS_COUNT; i++) {
		sum.tokens[i] = usage->tokens[i];
		counted += usage->tokens[i];
	}
	rest = usage->total_tokens > counted
	    ? (int64_t)(usage->total_tokens - counted)
	    : 0;
	if (price == NULL || price_of(price, &sum, &pico) != ERR_OK)
		return budget_dearest(config, usage->model,
		    at_most((int64_t)(counted + (uint64_t)rest),
			STORE_TOKENS_MAX));
	return at_most(to_micro(pico) +
		budget_dearest(config, usage->model, rest),
	    STORE_BALANCE_MAX);
}

/* ---- reserving --------------------------------------------------------- */

/* Half as large again: the next one has more behind it. */
static int64_t
with_margin(int64_t seen, int64_t max)
{
	return at_most(at_most(seen, max) + at_most(seen, max) / 2, max);
}

/* The largest that a plan expects, and what it may take in beyond that. */
static int64_t
expected(const struct budget_ask *ask)
{
	const struct subjects *subjects = ask->subjects;
	uint64_t input = ask->input_bytes / TOKEN_BYTES;
	int64_t most = 0;

	for (size_t i = 0; i < subjects->count; i++)
		if (subjects->items[i].plan != NULL)
			most = larger(most,
			    subjects->items[i].plan->response_tokens);
	return most +
	    (int64_t)(input < INPUT_TOKENS_MAX ? input : INPUT_TOKENS_MAX);
}

void
budget_estimate(const struct budget_ask *ask, int64_t *ret_tokens,
    int64_t *ret_money)
{
	int64_t tokens = at_most(ask->max_tokens, STORE_TOKENS_MAX);
	int64_t money = at_most(ask->max_money, STORE_BALANCE_MAX);

	if (tokens == 0) {
		tokens = larger(expected(ask),
		    with_margin(ask->seen_tokens, STORE_TOKENS_MAX));
		tokens = at_most(tokens, STORE_TOKENS_MAX);
	}
	if (money == 0)
		money = larger(budget_dearest(ask->config, ask->model, tokens),
		    with_margin(ask->seen_money, STORE_BALANCE_MAX));
	*ret_tokens = tokens;
	*ret_money = money;
}

void
budget_fill_reserve(const struct budget_ask *ask, int64_t expires_s,
    struct store_reserve *ret)
{
	*ret = (struct store_reserve){
		.id = ask->id,
		.now = ask->now,
		.expires = ask->now + expires_s,
		.lost = ask->lost,
	};
	subjects_budgets(ask->subjects, &ret->budgets);
	budget_estimate(ask, &ret->tokens, &ret->money);
}

enum err
budget_reserve(const struct budget_ask *ask, struct store_budget_state *ret,
    struct diag *diag)
{
	struct store *store = store_current();
	struct store_reserve in;

	if (store == NULL) {
		diag_set(diag, "there is no store to count in");
		return ERR_UNAVAIL;
	}
	budget_fill_reserve(ask, EXPIRES_S, &in);
	return store->ops->reserve(store, &in, ret, diag);
}

void
budget_fill_usage(const struct config *config, const struct subjects *subjects,
    const char *reservation, struct store_usage *usage)
{
	size_t count = 0;

	/* who has a plan without a budget may have one with it tomorrow, but
	   who has none is not counted at all */
	for (size_t i = 0; i < subjects->count; i++)
		if (subjects->items[i].plan != NULL)
			usage->subjects[count++] =
			    xstrdup(subjects->items[i].name);
	usage->money = cost(config, usage);
	if (reservation != NULL)
		usage->reservation = xstrdup(reservation);
}
