/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store_conformance.h"

#define DAY	 86400
#define RACERS	 12
#define RESPONSE 70   /* tokens of each response of a racer */
#define BUDGET	 1000 /* of all of them: no multiple of it */

/* ---- tools ------------------------------------------------------------- */

static const struct store_budget ann = {
	.subject = "u:ann",
	.max_tokens = 1000,
	.max_money = 500,
};

static const struct store_budget route = {
	.subject = "r:openai",
	.max_tokens = 1500,
};

/* Reserve for ann, and for the route where there is one. */
static enum err
reserve(struct store *store, const char *id, int64_t tokens, int64_t money,
    int64_t now, struct store_budget_state *ret)
{
	const struct store_reserve in = {
		.id = id,
		.budgets = { .items = { ann, route }, .count = 2 },
		.tokens = tokens,
		.money = money,
		.now = now,
		.expires = now + 600,
	};
	struct diag diag = { "" };

	return OPS(store, reserve, &in, ret, &diag);
}

static struct store_usage
usage(const char *lease, int64_t n, uint64_t tokens, int64_t money, int64_t at)
{
	return (struct store_usage){
		.lease = TEXT(lease),
		.n = n,
		.session = TEXT("s"),
		.route = TEXT("openai"),
		.event = TEXT("response.done"),
		.at = at,
		.total_tokens = tokens,
		.raw = TEXT("{}"),
		.subjects = { TEXT("u:ann"), TEXT("r:openai") },
		.money = money,
	};
}

static void
settle(struct store *store, const char *id, int64_t n, uint64_t tokens,
    int64_t money, int64_t at)
{
	struct store_usage row = usage("l", n, tokens, money, at);
	struct diag diag = { "" };

	row.reservation = TEXT(id);
	assert_ok(OPS(store, add_usage, &row, 1, &diag), &diag);
}

/* How one budget stands; whether it is used up as well. */
static struct store_budget_state
standing(struct store *store, const struct store_budget *budget, int64_t now,
    enum err expected)
{
	const struct store_budgets budgets = { .items = { *budget },
		.count = 1 };
	struct store_budget_state state;
	struct diag diag = { "" };

	assert_int_equal(OPS(store, check_budgets, &budgets, now, &state,
			     &diag),
	    expected);
	assert_string_equal(state.subject, budget->subject);
	return state;
}

static void
assert_standing(struct store *store, const struct store_budget *budget,
    int64_t tokens, int64_t money, int64_t reserved_tokens,
    int64_t reserved_money)
{
	struct store_budget_state state = standing(store, budget, NOW, ERR_OK);

	assert_int_equal(state.tokens, tokens);
	assert_int_equal(state.money, money);
	assert_int_equal(state.reserved_tokens, reserved_tokens);
	assert_int_equal(state.reserved_money, reserved_money);
}

/* ---- reserving --------------------------------------------------------- */

void
reserves_in_all_budgets_or_in_none(void **state)
{
	struct store_pair *pair = *state;
	struct store_usage row = usage("x", 1, 1400, 0, NOW);
	struct store_budget_state now;

	assert_int_equal(reserve(pair->one, "l:1", 300, 100, NOW, &now),
	    ERR_OK);
	assert_standing(pair->other, &ann, 0, 0, 300, 100);
	assert_standing(pair->other, &route, 0, 0, 300, 0);
	/* others use the route: ann has enough of her own */
	row.subjects[0] = TEXT("u:bob");
	assert_int_equal(OPS(pair->one, add_usage, &row, 1, NULL), ERR_OK);
	assert_int_equal(reserve(pair->other, "l:2", 300, 100, NOW, &now),
	    ERR_AGAIN);
	assert_string_equal(now.subject, "r:openai");
	assert_int_equal(now.tokens, 1400);
	assert_int_equal(now.reserved_tokens, 300);
	assert_int_equal(now.resets, NOW + DAY);
	assert_standing(pair->one, &ann, 0, 0, 300, 100);
	row.n = 2;
	row.total_tokens = 100;
	assert_int_equal(OPS(pair->one, add_usage, &row, 1, NULL), ERR_OK);
	assert_int_equal(reserve(pair->other, "l:3", 300, 100, NOW, &now),
	    ERR_BUDGET);
	assert_string_equal(now.subject, "r:openai");
	assert_standing(pair->one, &ann, 0, 0, 300, 100);
}

void
gives_what_is_left_to_who_is_alone(void **state)
{
	struct store_pair *pair = *state;
	struct store_budget_state now;

	settle(pair->one, NULL, 1, 900, 10, NOW);
	assert_int_equal(reserve(pair->one, "l:2", 300, 600, NOW, &now),
	    ERR_OK);
	assert_string_equal(now.subject, "u:ann");
	assert_int_equal(now.tokens, 900);
	assert_standing(pair->other, &ann, 900, 10, 100, 490);
	settle(pair->one, "l:2", 2, 300, 20, NOW);
	now = standing(pair->other, &ann, NOW, ERR_BUDGET);
	assert_int_equal(now.tokens, 1200);
	assert_int_equal(reserve(pair->one, "l:3", 1, 1, NOW, &now),
	    ERR_BUDGET);
	assert_int_equal(now.tokens, 1200);
}

void
lets_wait_while_others_have_reserved_the_rest(void **state)
{
	struct store_pair *pair = *state;
	struct store_budget_state now;

	assert_int_equal(reserve(pair->one, "l:1", 600, 0, NOW, &now), ERR_OK);
	assert_int_equal(reserve(pair->one, "l:2", 600, 0, NOW, &now),
	    ERR_AGAIN);
	assert_string_equal(now.subject, "u:ann");
	assert_int_equal(now.reserved_tokens, 600);
	/* what fits is not held up */
	assert_int_equal(reserve(pair->other, "l:3", 400, 0, NOW, &now),
	    ERR_OK);
	/* all is reserved and nothing used: wait, too */
	assert_int_equal(reserve(pair->other, "l:4", 1, 0, NOW, &now),
	    ERR_AGAIN);
	settle(pair->one, "l:1", 1, 100, 0, NOW);
	assert_int_equal(OPS(pair->one, release, "l:3", NULL), ERR_OK);
	assert_int_equal(OPS(pair->one, release, "l:3", NULL), ERR_OK);
	assert_int_equal(reserve(pair->other, "l:2", 600, 0, NOW, &now),
	    ERR_OK);
	/* and of money it is the same */
	assert_int_equal(reserve(pair->other, "l:5", 0, 500, NOW, &now),
	    ERR_OK);
	assert_int_equal(reserve(pair->other, "l:6", 0, 1, NOW, &now),
	    ERR_AGAIN);
}

void
reserves_once_for_an_id(void **state)
{
	struct store_pair *pair = *state;
	struct store_budget_state now;

	for (int i = 0; i < 3; i++)
		assert_int_equal(reserve(i % 2 ? pair->other : pair->one, "l:1",
				     600, 10, NOW + i, &now),
		    ERR_OK);
	assert_standing(pair->one, &ann, 0, 0, 600, 10);
}

void
forgets_a_reservation_that_nobody_settles(void **state)
{
	struct store_pair *pair = *state;
	struct store_budget_state now;

	assert_int_equal(reserve(pair->one, "l:1", 600, 0, NOW, &now), ERR_OK);
	assert_int_equal(reserve(pair->one, "l:2", 600, 0, NOW + 599, &now),
	    ERR_AGAIN);
	/* expire() or not */
	assert_int_equal(reserve(pair->one, "l:2", 600, 0, NOW + 600, &now),
	    ERR_OK);
	expire_at(pair->other, NOW + 600);
	assert_int_equal(standing(pair->one, &ann, NOW, ERR_OK).reserved_tokens,
	    600);
	expire_at(pair->other, NOW + 1200);
	assert_int_equal(standing(pair->one, &ann, NOW, ERR_OK).reserved_tokens,
	    0);
}

/* What a tunnel has asked for, which says whose it is. */
static void
reserve_response(struct store *store, const char *id, int64_t ask)
{
	const struct store_lost lost = {
		.lease = "l",
		.session = "s",
		.route = "openai",
		.user = "ann",
		.ask = ask,
	};
	const struct store_reserve in = {
		.id = id,
		.budgets = { .items = { ann, route }, .count = 2 },
		.tokens = 300,
		.money = 50,
		.now = NOW,
		.expires = NOW + 600,
		.lost = &lost,
	};
	struct store_budget_state now;
	struct diag diag = { "" };

	assert_ok(OPS(store, reserve, &in, &now, &diag), &diag);
}

void
books_as_lost_what_nobody_settles(void **state)
{
	struct store_pair *pair = *state;
	struct store_usage row = usage("l", 1, 420, 60, NOW + 700);
	struct store_sums sums;
	struct diag diag = { "" };

	reserve_response(pair->one, "l:7", 7);
	reserve_response(pair->one, "l:8", 8);
	assert_int_equal(OPS(pair->one, release, "l:8", NULL), ERR_OK);
	expire_at(pair->one, NOW + 599);
	assert_standing(pair->one, &ann, 0, 0, 300, 50);
	for (int i = 0; i < 2; i++) {
		expire_at(pair->one, NOW + 600);
		expire_at(pair->other, NOW + 601);
	}
	assert_standing(pair->one, &ann, 300, 50, 0, 0);
	assert_standing(pair->one, &route, 300, 50, 0, 0);
	/* and the tunnel comes back and tells what it was */
	row.lost_n = -7;
	row.reservation = TEXT("l:7");
	for (int i = 0; i < 2; i++)
		assert_ok(OPS(pair->one, add_usage, &row, 1, &diag), &diag);
	assert_standing(pair->one, &ann, 420, 60, 0, 0);
	assert_ok(OPS(pair->one, sum_usage, NOW, NOW + DAY, &sums, &diag),
	    &diag);
	assert_int_equal(sums.count, 2);
	assert_string_equal(sums.items[0].user, "");
	assert_int_equal(sums.items[0].total_tokens, 120);
	assert_string_equal(sums.items[1].route, "openai");
	assert_string_equal(sums.items[1].user, "ann");
	assert_int_equal(sums.items[1].total_tokens, 300);
	store_sums_done(&sums);
}

void
books_no_response_as_lost_twice(void **state)
{
	struct store_pair *pair = *state;
	struct store_usage row = usage("l", -7, 300, 50, NOW);
	struct diag diag = { "" };

	reserve_response(pair->one, "l:7", 7);
	row.status = TEXT("lost");
	row.raw = TEXT("{\"reserved_tokens\":300,\"reserved_money\":50}");
	assert_ok(OPS(pair->one, add_usage, &row, 1, &diag), &diag);
	expire_at(pair->other, NOW + 600);
	assert_standing(pair->one, &ann, 300, 50, 0, 0);
}

void
reserves_nothing_without_a_limit(void **state)
{
	struct store_pair *pair = *state;
	const struct store_reserve none = {
		.id = "l:1",
		.budgets = { .items = { { .subject = "u:ann" } }, .count = 1 },
		.tokens = STORE_TOKENS_MAX,
		.money = STORE_BALANCE_MAX,
		.now = NOW,
		.expires = NOW + 1,
	};
	struct store_budget_state now = { .subject = "x" };

	assert_int_equal(OPS(pair->one, reserve, &none, &now, NULL), ERR_OK);
	assert_string_equal(now.subject, "");
	assert_int_equal(OPS(pair->one, check_budgets, &none.budgets, NOW, &now,
			     NULL),
	    ERR_OK);
	assert_string_equal(now.subject, "");
	assert_standing(pair->one, &ann, 0, 0, 0, 0);
}

void
refuses_amounts_that_could_overflow(void **state)
{
	struct store_pair *pair = *state;
	struct store_usage row = usage("l", 1, 1, STORE_BALANCE_MAX + 1, NOW);
	struct store_budget_state now;

	assert_int_equal(reserve(pair->one, "l:1", STORE_TOKENS_MAX + 1LL, 0,
			     NOW, &now),
	    ERR_LIMIT);
	assert_int_equal(reserve(pair->one, "l:1", -1, 0, NOW, &now),
	    ERR_LIMIT);
	assert_int_equal(reserve(pair->one, "l:1", 0, STORE_BALANCE_MAX + 1,
			     NOW, &now),
	    ERR_LIMIT);
	assert_int_equal(reserve(pair->one, "l:1", 0, -1, NOW, &now),
	    ERR_LIMIT);
	assert_int_equal(OPS(pair->one, add_usage, &row, 1, NULL), ERR_LIMIT);
	row.money = -1;
	assert_int_equal(OPS(pair->one, add_usage, &row, 1, NULL), ERR_LIMIT);
	row.money = STORE_BALANCE_MAX;
	row.total_tokens = STORE_TOKENS_MAX;
	for (row.n = 1; row.n <= 5000; row.n++)
		assert_int_equal(OPS(pair->one, add_usage, &row, 1, NULL),
		    ERR_OK);
	now = standing(pair->one, &ann, NOW, ERR_BUDGET);
	assert_int_equal(now.tokens, 5000LL * STORE_TOKENS_MAX);
	assert_int_equal(now.money, INT64_C(1) << 62);
}

/* ---- booking ----------------------------------------------------------- */

void
ends_a_reservation_with_its_row(void **state)
{
	struct store_pair *pair = *state;
	struct store_budget_state now;

	assert_int_equal(reserve(pair->one, "l:1", 300, 50, NOW, &now), ERR_OK);
	assert_int_equal(reserve(pair->one, "l:2", 300, 50, NOW, &now), ERR_OK);
	settle(pair->other, "l:1", 1, 120, 7, NOW);
	assert_standing(pair->one, &ann, 120, 7, 300, 50);
	assert_standing(pair->one, &route, 120, 7, 300, 0);
	/* a row that was not asked for is counted all the same */
	settle(pair->other, NULL, 2, 30, 3, NOW);
	assert_standing(pair->one, &ann, 150, 10, 300, 50);
}

void
counts_a_row_once_in_its_budgets(void **state)
{
	struct store_pair *pair = *state;
	struct store_budget_state now;

	for (int i = 0; i < 3; i++)
		settle(i % 2 ? pair->other : pair->one, "l:1", 1, 120, 7, NOW);
	assert_standing(pair->one, &ann, 120, 7, 0, 0);
	/* and ends nothing when it is repeated */
	assert_int_equal(reserve(pair->one, "l:1", 300, 50, NOW, &now), ERR_OK);
	settle(pair->one, "l:1", 1, 120, 7, NOW);
	assert_standing(pair->one, &ann, 120, 7, 300, 50);
}

/* What came to `tokens' in the end, and had been given up as 300 and 50. */
static void
book_late(struct store *store, uint64_t tokens, int64_t money)
{
	struct store_usage lost = usage("l", -1, 300, 50, NOW);
	struct store_usage row = usage("l", 1, tokens, money, NOW);
	struct store_budget_state now;
	struct diag diag = { "" };

	assert_int_equal(reserve(store, "l:1", 300, 50, NOW, &now), ERR_OK);
	lost.status = TEXT("lost");
	lost.raw = TEXT("{\"reserved_tokens\":300,\"reserved_money\":50}");
	lost.reservation = row.reservation = TEXT("l:1");
	assert_ok(OPS(store, add_usage, &lost, 1, &diag), &diag);
	row.lost_n = -1;
	row.status = TEXT("completed");
	for (int i = 0; i < 2; i++)
		assert_ok(OPS(store, add_usage, &row, 1, &diag), &diag);
}

static void
assert_sum(struct store *store, uint64_t total)
{
	struct store_sums sums;
	struct diag diag = { "" };

	assert_ok(OPS(store, sum_usage, NOW, NOW + 1, &sums, &diag), &diag);
	assert_int_equal(sums.count, 1);
	assert_int_equal(sums.items[0].total_tokens, total);
	store_sums_done(&sums);
}

void
counts_a_lost_response_that_comes_late_once(void **state)
{
	struct store_pair *pair = *state;

	book_late(pair->one, 120, 7);
	assert_standing(pair->one, &ann, 300, 50, 0, 0);
	assert_sum(pair->one, 300);
}

void
counts_what_is_more_than_was_reserved_for_it(void **state)
{
	struct store_pair *pair = *state;

	book_late(pair->one, 420, 77);
	assert_standing(pair->one, &ann, 420, 77, 0, 0);
	assert_sum(pair->one, 420);
}

void
counts_the_usage_of_an_answer_with_its_end(void **state)
{
	struct store_pair *pair = *state;
	struct store_usage row = usage("g1", 1, 120, 7, NOW);
	struct store_finish in = ending("g1", "Hi");
	struct store_budget_state now;
	struct beginning one;

	row.reservation = TEXT("g1");
	in.usage = &row;
	assert_int_equal(reserve(pair->one, "g1", 300, 50, NOW, &now), ERR_OK);
	beginning_init(&one, NULL, 1);
	assert_int_equal(try_begin(pair->one, &one.in), ERR_OK);
	for (int i = 0; i < 3; i++)
		assert_int_equal(end(pair->other, &in).was_running, i == 0);
	assert_standing(pair->one, &ann, 120, 7, 0, 0);
}

/* Fills in what is known when the history is. */
static int64_t
fill_in(const struct store_messages *history, void *arg)
{
	struct store_reserve *budget = arg;

	assert_int_equal(history->count, 1);
	*budget = (struct store_reserve){
		.id = "g1",
		.budgets = { .items = { ann, route }, .count = 2 },
		.tokens = 300,
		.money = 50,
		.now = NOW,
		.expires = NOW + 600,
	};
	return 0;
}

static enum err
begin_answer(struct store *store, struct store_begun *ret)
{
	struct store_reserve budget = { .id = NULL };
	struct beginning one;
	struct diag diag;

	beginning_init(&one, NULL, 1);
	one.in.reserve = fill_in;
	one.in.arg = &budget;
	one.in.budget = &budget;
	return OPS(store, begin, &one.in, ret, &diag);
}

void
begins_no_answer_that_no_budget_has_room_for(void **state)
{
	struct store_pair *pair = *state;
	struct store_budget_state now;
	struct store_begun begun;

	assert_int_equal(reserve(pair->one, "l:1", 800, 0, NOW, &now), ERR_OK);
	assert_int_equal(begin_answer(pair->one, &begun), ERR_AGAIN);
	assert_string_equal(begun.budget.subject, "u:ann");
	assert_int_equal(begun.budget.reserved_tokens, 800);
	settle(pair->one, "l:1", 1, 1000, 0, NOW);
	assert_int_equal(begin_answer(pair->one, &begun), ERR_BUDGET);
	assert_string_equal(begun.budget.subject, "u:ann");
	assert_int_equal(begun.budget.tokens, 1000);
	assert_int_equal(begun.budget.resets, NOW + DAY);
	now = standing(pair->other, &route, NOW, ERR_OK);
	assert_int_equal(now.reserved_tokens, 0);
}

void
counts_an_answer_where_it_was_reserved(void **state)
{
	struct store_pair *pair = *state;
	struct store_usage row = usage("g1", 1, 120, 7, NOW);
	struct store_finish in = ending("g1", "Hi");
	struct store_begun begun;

	assert_int_equal(begin_answer(pair->one, &begun), ERR_OK);
	store_begun_done(&begun);
	assert_standing(pair->other, &ann, 0, 0, 300, 50);
	/* as one who does not know any more for whom it was */
	row.subjects[0] = NULL;
	row.reservation = TEXT("g1");
	in.usage = &row;
	for (int i = 0; i < 2; i++)
		assert_int_equal(end(pair->other, &in).was_running, i == 0);
	assert_standing(pair->one, &ann, 120, 7, 0, 0);
	assert_standing(pair->one, &route, 120, 7, 0, 0);
}

void
frees_what_an_answer_did_not_use(void **state)
{
	struct store_pair *pair = *state;
	struct store_finish in = ending("g1", "");
	struct store_begun begun;

	assert_int_equal(begin_answer(pair->one, &begun), ERR_OK);
	store_begun_done(&begun);
	assert_true(end(pair->other, &in).was_running);
	assert_standing(pair->one, &ann, 0, 0, 0, 0);
}

void
begins_each_day_with_nothing_used(void **state)
{
	struct store_pair *pair = *state;
	struct store_budget_state now;

	settle(pair->one, NULL, 1, 1000, 0, NOW + DAY - 1);
	assert_int_equal(reserve(pair->one, "l:1", 1, 0, NOW + DAY - 1, &now),
	    ERR_BUDGET);
	assert_int_equal(now.resets, NOW + DAY);
	assert_int_equal(reserve(pair->one, "l:1", 700, 0, NOW + DAY, &now),
	    ERR_OK);
	assert_int_equal(now.tokens, 0);
	assert_int_equal(now.resets, NOW + 2 * DAY);
	/* what is booked late is counted where it belongs */
	settle(pair->one, NULL, 2, 50, 0, NOW + DAY - 1);
	now = standing(pair->one, &ann, NOW + DAY, ERR_OK);
	assert_int_equal(now.tokens, 0);
	assert_int_equal(now.reserved_tokens, 700);
	now = standing(pair->one, &ann, NOW, ERR_BUDGET);
	assert_int_equal(now.tokens, 1050);
}

void
forgets_counters_of_old_days(void **state)
{
	struct store_pair *pair = *state;

	settle(pair->one, NULL, 1, 10, 1, NOW);
	settle(pair->one, NULL, 2, 20, 2, NOW + DAY);
	expire_at(pair->one, NOW + 2 * DAY - 1);
	assert_standing(pair->one, &ann, 10, 1, 0, 0);
	expire_at(pair->one, NOW + 2 * DAY);
	assert_standing(pair->one, &ann, 0, 0, 0, 0);
	assert_int_equal(standing(pair->one, &ann, NOW + DAY, ERR_OK).tokens,
	    20);
}

void
books_what_is_new_of_a_connections_seconds(void **state)
{
	static const struct store_budget hour = { .subject = "u:ann",
		.max_seconds = 3600 };
	struct store_pair *pair = *state;
	struct store_seconds rows[] = {
		{ .lease = "a", .subjects = { "u:ann" }, .now = NOW },
		{ .lease = "b", .subjects = { "u:ann" }, .now = NOW },
	};
	static const struct {
		int64_t a, b, sum;
	} steps[] = { { 10, 0, 10 }, { 10, 5, 15 }, { 60, 55, 115 },
		{ 40, 56, 116 }, { 3544, 56, 3600 } };
	struct diag diag = { "" };

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct store_budget_state now;

		rows[0].total = steps[i].a;
		rows[1].total = steps[i].b;
		assert_ok(OPS(i % 2 ? pair->other : pair->one, add_seconds,
			      rows, 2, &diag),
		    &diag);
		now = standing(pair->one, &hour, NOW,
		    steps[i].sum < 3600 ? ERR_OK : ERR_BUDGET);
		assert_int_equal(now.seconds, steps[i].sum);
	}
	/* those of the next day are the next day's */
	rows[0].now = NOW + DAY;
	rows[0].total = 3600;
	assert_ok(OPS(pair->one, add_seconds, rows, 1, &diag), &diag);
	assert_int_equal(standing(pair->one, &hour, NOW + DAY, ERR_OK).seconds,
	    56);
}

void
tells_which_budget_has_least_left(void **state)
{
	struct store_pair *pair = *state;
	const struct store_budgets budgets = {
		.items = { ann, { .subject = "n:::1" }, route },
		.count = 3,
	};
	struct store_usage row = usage("x", 1, 1000, 0, NOW);
	struct store_budget_state now;
	struct diag diag = { "" };

	settle(pair->one, NULL, 1, 10, 0, NOW);
	assert_ok(OPS(pair->one, check_budgets, &budgets, NOW, &now, &diag),
	    &diag);
	assert_string_equal(now.subject, "u:ann"); /* 10 of 1000 */
	row.subjects[0] = TEXT("u:bob");
	assert_int_equal(OPS(pair->one, add_usage, &row, 1, NULL), ERR_OK);
	assert_ok(OPS(pair->one, check_budgets, &budgets, NOW, &now, &diag),
	    &diag);
	assert_string_equal(now.subject, "r:openai"); /* 1010 of 1500 */
	settle(pair->one, NULL, 2, 0, 500, NOW);
	assert_int_equal(OPS(pair->one, check_budgets, &budgets, NOW, &now,
			     &diag),
	    ERR_BUDGET);
	assert_string_equal(now.subject, "u:ann");
	assert_int_equal(now.money, 500);
}

/* Respond, again and again, until the budget is used up. */
static void *
respond(void *arg)
{
	struct racer *racer = arg;
	struct store_reserve in = {
		.budgets = { .items = { { .subject = "u:ann",
				 .max_tokens = BUDGET } },
		    .count = 1 },
		.tokens = 100,
		.now = NOW,
		.expires = NOW + 600,
	};
	struct store_budget_state state;
	char lease[16], id[32];

	(void)snprintf(lease, sizeof(lease), "l%d", racer->number);
	for (int n = 1;; n++) {
		struct store_usage row = usage(lease, n, RESPONSE, 0, NOW);

		(void)snprintf(id, sizeof(id), "%s:%d", lease, n);
		in.id = row.reservation = id;
		do
			racer->err =
			    OPS(racer->store, reserve, &in, &state, NULL);
		while (racer->err == ERR_AGAIN || racer->err == ERR_UNAVAIL);
		if (racer->err != ERR_OK)
			return NULL;
		do
			racer->err =
			    OPS(racer->store, add_usage, &row, 1, NULL);
		while (racer->err == ERR_UNAVAIL);
	}
}

void
overshoots_by_one_for_many_threads(void **state)
{
	static const struct store_budget budget = { .subject = "u:ann",
		.max_tokens = BUDGET };
	struct store_pair *pair = *state;
	struct racer racers[RACERS];
	struct store_budget_state now;

	race(pair, racers, RACERS, respond);
	for (int i = 0; i < RACERS; i++)
		assert_int_equal(racers[i].err, ERR_BUDGET);
	now = standing(pair->one, &budget, NOW, ERR_BUDGET);
	assert_int_equal(now.tokens,
	    (BUDGET + RESPONSE - 1) / RESPONSE * RESPONSE);
	assert_int_equal(now.reserved_tokens, 0);
}

/* Rows as "subject tokens+reserved money+reserved seconds". */
static void
assert_listed(struct store *store, const char *subject, int64_t now,
    int64_t total, const char *expected)
{
	struct store_budget_list list = { .items = NULL };
	struct diag diag = { "" };
	char text[512] = "";
	size_t len = 0;

	assert_ok(OPS(store, list_budgets, subject, now, &list, &diag), &diag);
	for (size_t i = 0; i < list.count; i++) {
		const struct store_budget_state *state = &list.items[i];

		len += (size_t)snprintf(text + len, sizeof(text) - len,
		    "%s %lld+%lld %lld+%lld %lld\n", state->subject,
		    (long long)state->tokens, (long long)state->reserved_tokens,
		    (long long)state->money, (long long)state->reserved_money,
		    (long long)state->seconds);
		assert_int_equal(state->resets, (now / DAY + 1) * DAY);
	}
	assert_string_equal(text, expected);
	assert_int_equal(list.total, total);
	free(list.items);
}

void
lists_the_budgets_of_today_the_dearest_first(void **state)
{
	static const struct store_seconds lasted = { .lease = "k",
		.subjects = { "n:192.0.2.1" },
		.total = 60,
		.now = NOW };
	struct store_pair *pair = *state;
	struct store_budget_state refused;
	struct diag diag = { "" };

	assert_listed(pair->other, NULL, NOW, 0, "");
	/* what is only reserved is there as well, until it is forgotten */
	assert_int_equal(reserve(pair->one, "l:1", 100, 10, NOW, &refused),
	    ERR_OK);
	assert_listed(pair->other, NULL, NOW, 2,
	    "r:openai 0+100 0+0 0\nu:ann 0+100 0+10 0\n");
	assert_listed(pair->other, NULL, NOW + 600, 0, "");
	settle(pair->one, "l:1", 1, 70, 5, NOW);
	settle(pair->one, "l:2", 2, 7, 1, NOW - DAY);
	assert_ok(OPS(pair->one, add_seconds, &lasted, 1, &diag), &diag);
	assert_int_equal(reserve(pair->one, "l:3", 40, 0, NOW, &refused),
	    ERR_OK);
	assert_listed(pair->other, NULL, NOW, 3,
	    "r:openai 70+40 5+0 0\nu:ann 70+40 5+0 0\n"
	    "n:192.0.2.1 0+0 0+0 60\n");
	assert_listed(pair->other, "u:ann", NOW, 1, "u:ann 70+40 5+0 0\n");
	assert_listed(pair->other, "u:bob", NOW, 0, "");
	assert_listed(pair->other, "u:ann", NOW - DAY, 1, "u:ann 7+40 1+0 0\n");
}
