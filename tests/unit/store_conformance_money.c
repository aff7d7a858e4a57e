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

#define NOW_MS (NOW * (int64_t)1000)
#define RACERS 20
#define PRICE  300 /* of each of them */

/* ---- tools ------------------------------------------------------------- */

static enum err
try_top_up(struct store *store, const char *id, const char *user,
    int64_t amount, struct store_account *ret)
{
	const struct store_top_up in = {
		.id = id,
		.user = user,
		.amount = amount,
		.at = NOW,
	};

	return OPS(store, top_up, &in, ret, NULL);
}

static void
top_up(struct store *store, int64_t amount)
{
	static int n;
	struct store_account account;
	char id[32];

	(void)snprintf(id, sizeof(id), "top-up-%d", ++n);
	assert_int_equal(try_top_up(store, id, "ann", amount, &account),
	    ERR_OK);
}

static void
assert_account(struct store *store, const char *user, int64_t balance,
    int64_t reserved)
{
	struct store_account account;
	struct diag diag = { "" };

	assert_ok(OPS(store, get_account, user, &account, &diag), &diag);
	assert_int_equal(account.balance, balance);
	assert_int_equal(account.reserved, reserved);
}

/* Reserves what arg says. */
static int64_t
price(const struct store_messages *history, void *arg)
{
	const int64_t *amount = arg;

	(void)history;
	return *amount;
}

static enum err
begin_paid(struct store *store, int n, int64_t amount)
{
	struct beginning one;

	beginning_init(&one, NULL, n);
	one.in.user = "ann";
	one.in.reserve = price;
	one.in.arg = &amount;
	return try_begin(store, &one.in);
}

static struct store_finished
end_charged(struct store *store, const char *generation, int64_t charge)
{
	struct store_finish in = ending(generation, "Hi");

	in.charge = charge;
	return end(store, &in);
}

/* ---- accounts ---------------------------------------------------------- */

void
has_nothing_for_a_user_never_heard_of(void **state)
{
	struct store_pair *pair = *state;

	assert_account(pair->one, "ann", 0, 0);
	/* what costs nothing needs no account */
	assert_int_equal(begin_paid(pair->one, 1, 0), ERR_OK);
	assert_int_equal(end_charged(pair->one, "g1", 5).charged, 0);
	assert_account(pair->one, "ann", 0, 0);
}

void
books_a_top_up_once_for_its_id(void **state)
{
	struct store_pair *pair = *state;
	struct store_account account;

	for (int i = 0; i < 3; i++) {
		assert_int_equal(try_top_up(i % 2 ? pair->other : pair->one,
				     "id", "ann", 500, &account),
		    ERR_OK);
		assert_int_equal(account.balance, 500);
		assert_int_equal(account.reserved, 0);
	}
	assert_int_equal(try_top_up(pair->one, "id", "ann", 501, &account),
	    ERR_MISMATCH);
	assert_int_equal(try_top_up(pair->one, "id", "bob", 500, &account),
	    ERR_MISMATCH);
	assert_int_equal(try_top_up(pair->one, "id2", "ann", -200, &account),
	    ERR_OK);
	assert_int_equal(account.balance, 300);
	assert_account(pair->other, "ann", 300, 0);
	assert_account(pair->other, "bob", 0, 0);
	assert_account(pair->other, "Ann", 0, 0);
}

void
takes_back_no_more_than_is_free(void **state)
{
	struct store_pair *pair = *state;
	struct store_account account;

	assert_int_equal(try_top_up(pair->one, "1", "ann", -1, &account),
	    ERR_PAYMENT);
	top_up(pair->one, 500);
	assert_int_equal(try_top_up(pair->one, "1", "ann", -501, &account),
	    ERR_PAYMENT);
	assert_int_equal(begin_paid(pair->one, 1, 200), ERR_OK);
	assert_int_equal(try_top_up(pair->one, "1", "ann", -301, &account),
	    ERR_PAYMENT);
	/* the id was not used by what was refused */
	assert_int_equal(try_top_up(pair->one, "1", "ann", -300, &account),
	    ERR_OK);
	assert_int_equal(account.balance, 200);
	assert_int_equal(account.reserved, 200);
}

void
holds_no_more_than_the_maximum(void **state)
{
	static const int64_t too_much[] = { STORE_BALANCE_MAX + 1, INT64_MAX,
		-STORE_BALANCE_MAX - 1, INT64_MIN };
	struct store_pair *pair = *state;
	struct store_account account;

	for (size_t i = 0; i < sizeof(too_much) / sizeof(too_much[0]); i++)
		assert_int_equal(try_top_up(pair->one, "1", "ann", too_much[i],
				     &account),
		    ERR_LIMIT);
	assert_int_equal(try_top_up(pair->one, "1", "ann", STORE_BALANCE_MAX,
			     &account),
	    ERR_OK);
	assert_int_equal(try_top_up(pair->one, "2", "ann", 1, &account),
	    ERR_LIMIT);
	assert_int_equal(begin_paid(pair->one, 1, INT64_MAX), ERR_PAYMENT);
	assert_int_equal(begin_paid(pair->one, 1, STORE_BALANCE_MAX), ERR_OK);
	assert_int_equal(end_charged(pair->one, "g1", INT64_MAX).charged,
	    STORE_BALANCE_MAX);
	assert_account(pair->one, "ann", 0, 0);
}

static int64_t
price_by_message(const struct store_messages *history, void *arg)
{
	int64_t *seen = arg;

	*seen = (int64_t)history->count;
	return 100 * *seen;
}

void
reserves_given_what_will_be_sent(void **state)
{
	struct store_pair *pair = *state;
	struct beginning one;
	struct store_begun begun;
	struct diag diag = { "" };
	int64_t seen = 0;

	top_up(pair->one, 1000);
	say(pair->one, NULL, 1, "one", "two");
	beginning_init(&one, "c1", 2);
	one.in.user = "ann";
	one.in.reserve = price_by_message;
	one.in.arg = &seen;
	one.in.key = "key";
	one.in.digest = "digest";
	assert_ok(OPS(pair->one, begin, &one.in, &begun, &diag), &diag);
	assert_int_equal(seen, 3);
	assert_int_equal(begun.reserved, 300);
	store_begun_done(&begun);
	assert_account(pair->other, "ann", 1000, 300);
	/* a repetition reserves nothing */
	assert_ok(OPS(pair->other, begin, &one.in, &begun, &diag), &diag);
	assert_true(begun.repeated);
	assert_int_equal(begun.reserved, 300);
	store_begun_done(&begun);
	assert_account(pair->other, "ann", 1000, 300);
}

void
begins_nothing_that_cannot_be_paid(void **state)
{
	struct store_pair *pair = *state;
	struct store_chats chats;
	struct diag diag = { "" };

	assert_int_equal(begin_paid(pair->one, 1, 1), ERR_PAYMENT);
	top_up(pair->one, 500);
	assert_int_equal(begin_paid(pair->one, 1, 501), ERR_PAYMENT);
	assert_int_equal(begin_paid(pair->one, 1, 300), ERR_OK);
	assert_int_equal(begin_paid(pair->one, 2, 201), ERR_PAYMENT);
	assert_int_equal(begin_paid(pair->one, 2, 200), ERR_OK);
	assert_account(pair->other, "ann", 500, 500);
	assert_ok(OPS(pair->one, list_chats, "u:ann", 0, 10, &chats, &diag),
	    &diag);
	assert_int_equal(chats.total, 2);
	store_chats_done(&chats);
}

void
charges_what_was_used_and_frees_the_rest(void **state)
{
	struct store_pair *pair = *state;
	struct store_finished finished;

	top_up(pair->one, 500);
	assert_int_equal(begin_paid(pair->one, 1, 300), ERR_OK);
	for (int i = 0; i < 3; i++) {
		/* again and again, with whatever charge */
		finished =
		    end_charged(i % 2 ? pair->other : pair->one, "g1", 120 + i);
		assert_int_equal(finished.was_running, i == 0);
		assert_int_equal(finished.charged, 120);
		assert_int_equal(finished.account.balance, 380);
		assert_int_equal(finished.account.reserved, 0);
	}
	assert_int_equal(begin_paid(pair->one, 2, 300), ERR_OK);
	finished = end_charged(pair->one, "g2", 0);
	assert_true(finished.was_running);
	assert_int_equal(finished.charged, 0);
	assert_account(pair->other, "ann", 380, 0);
}

void
charges_more_only_as_far_as_it_is_free(void **state)
{
	struct store_pair *pair = *state;
	struct store_finished finished;

	top_up(pair->one, 500);
	assert_int_equal(begin_paid(pair->one, 1, 100), ERR_OK);
	assert_int_equal(begin_paid(pair->one, 2, 150), ERR_OK);
	finished = end_charged(pair->one, "g1", 1000);
	assert_int_equal(finished.charged, 350);
	assert_int_equal(finished.account.balance, 150);
	assert_int_equal(finished.account.reserved, 150);
	finished = end_charged(pair->one, "g2", 1000);
	assert_int_equal(finished.charged, 150);
	assert_account(pair->other, "ann", 0, 0);
}

void
takes_no_charge_below_nothing(void **state)
{
	struct store_pair *pair = *state;
	struct store_finish in = ending("g1", "Hi");
	struct store_finished finished;

	top_up(pair->one, 500);
	assert_int_equal(begin_paid(pair->one, 1, 100), ERR_OK);
	in.charge = -1;
	assert_int_equal(OPS(pair->one, finish, &in, &finished, NULL),
	    ERR_LIMIT);
	assert_account(pair->one, "ann", 500, 100);
}

void
books_the_usage_of_an_answer_with_its_end(void **state)
{
	struct store_pair *pair = *state;
	struct store_usage row = {
		.lease = TEXT("g1"),
		.n = 1,
		.session = TEXT("c1"),
		.route = TEXT("chat"),
		.user = TEXT("ann"),
		.model = TEXT("gpt-test"),
		.event = TEXT("chat.completion"),
		.status = TEXT("complete"),
		.at = NOW,
		.tokens = { [STORE_INPUT_TEXT] = 7 },
		.total_tokens = STORE_TOKENS_MAX + 1ULL,
		.raw = TEXT("{}"),
	};
	struct store_finish in = ending("g1", "Hi");
	struct store_finished finished;
	struct store_sums sums;
	struct diag diag = { "" };

	top_up(pair->one, 500);
	assert_int_equal(begin_paid(pair->one, 1, 100), ERR_OK);
	in.usage = &row;
	in.charge = 50;
	assert_int_equal(OPS(pair->one, finish, &in, &finished, NULL),
	    ERR_LIMIT);
	assert_account(pair->one, "ann", 500, 100);
	row.total_tokens = 7;
	(void)end(pair->one, &in);
	(void)end(pair->other, &in);
	assert_ok(OPS(pair->other, sum_usage, NOW, NOW + 1, &sums, &diag),
	    &diag);
	assert_int_equal(sums.count, 1);
	assert_string_equal(sums.items[0].route, "chat");
	assert_int_equal(sums.items[0].events, 1);
	assert_int_equal(sums.items[0].total_tokens, 7);
	store_sums_done(&sums);
	assert_account(pair->one, "ann", 450, 0);
}

/* ---- allowances -------------------------------------------------------- */

static enum err
begin_anonymous(struct store *store, int n, const char *id, const char *address,
    int64_t now, struct store_allowance_state *ret)
{
	const struct store_allowance allowance = {
		.id = id,
		.address = address,
		.max = 3,
		.window_s = 100,
	};
	struct beginning one;
	struct store_begun begun;
	enum err err;

	beginning_init(&one, NULL, n);
	one.in.owner = "a:visitor";
	one.in.now_ms = now * 1000;
	one.in.allowance = &allowance;
	err = OPS(store, begin, &one.in, &begun, NULL);
	*ret = begun.allowance;
	store_begun_done(&begun);
	return err;
}

static struct store_allowance_state
get_allowance(struct store *store, const char *id, const char *address,
    int64_t now)
{
	const struct store_allowance in = {
		.id = id,
		.address = address,
		.max = 3,
		.window_s = 100,
	};
	struct store_allowance_state ret;
	struct diag diag = { "" };

	assert_ok(OPS(store, get_allowance, &in, now, &ret, &diag), &diag);
	return ret;
}

void
counts_messages_by_id_and_by_address(void **state)
{
	static const struct {
		const char *id, *address;
		int64_t now;
		enum err err;
		int64_t used, resets;
	} cases[] = {
		{ "i:1", "n:1", NOW, ERR_OK, 1, NOW + 100 },
		{ "i:2", "n:1", NOW + 1, ERR_OK, 2, NOW + 100 },
		{ "i:1", "n:2", NOW + 2, ERR_OK, 2, NOW + 100 },
		{ "i:3", "n:1", NOW + 3, ERR_OK, 3, NOW + 100 },
		/* neither a new id nor a new address is a new allowance */
		{ "i:4", "n:1", NOW + 4, ERR_RATE, 3, NOW + 100 },
		{ "i:1", "n:2", NOW + 5, ERR_OK, 3, NOW + 100 },
		{ "i:1", "n:3", NOW + 6, ERR_RATE, 3, NOW + 100 },
		/* but they are no one else's */
		{ "i:4", "n:4", NOW + 7, ERR_OK, 1, NOW + 107 },
		/* the same text as an id and as an address is two things */
		{ "n:1", "i:1", NOW + 8, ERR_RATE, 3, NOW + 100 },
	};
	struct store_pair *pair = *state;
	struct store_allowance_state now;

	now = get_allowance(pair->one, "i:1", "n:1", NOW);
	assert_int_equal(now.used, 0);
	assert_int_equal(now.resets, 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(begin_anonymous(i % 2 ? pair->other
						       : pair->one,
				     (int)i, cases[i].id, cases[i].address,
				     cases[i].now, &now),
		    cases[i].err);
		assert_int_equal(now.used, cases[i].used);
		assert_int_equal(now.resets, cases[i].resets);
		now = get_allowance(pair->one, cases[i].id, cases[i].address,
		    cases[i].now);
		assert_int_equal(now.used, cases[i].used);
		assert_int_equal(now.resets, cases[i].resets);
	}
}

void
opens_a_new_window_when_the_old_one_is_over(void **state)
{
	struct store_pair *pair = *state;
	struct store_allowance_state now;

	for (int i = 0; i < 3; i++)
		assert_int_equal(begin_anonymous(pair->one, i, "i:1", "n:1",
				     NOW + 10 * i, &now),
		    ERR_OK);
	/* expire() or not */
	expire_at(pair->one, NOW + 99);
	assert_int_equal(begin_anonymous(pair->one, 3, "i:1", "n:1", NOW + 99,
			     &now),
	    ERR_RATE);
	now = get_allowance(pair->one, "i:1", "n:1", NOW + 100);
	assert_int_equal(now.used, 0);
	assert_int_equal(now.resets, 0);
	assert_int_equal(begin_anonymous(pair->other, 3, "i:1", "n:1",
			     NOW + 100, &now),
	    ERR_OK);
	assert_int_equal(now.used, 1);
	assert_int_equal(now.resets, NOW + 200);
	expire_at(pair->one, NOW + 200);
	now = get_allowance(pair->one, "i:1", "n:1", NOW + 100);
	assert_int_equal(now.used, 0);
}

void
counts_nothing_that_did_not_begin(void **state)
{
	const struct store_allowance allowance = {
		.id = "i:1",
		.address = "n:1",
		.max = 3,
		.window_s = 100,
	};
	struct store_pair *pair = *state;
	struct store_begun begun;
	struct beginning one;
	int64_t amount = 1;

	beginning_init(&one, NULL, 1);
	one.in.allowance = &allowance;
	one.in.user = "ann";
	one.in.reserve = price;
	one.in.arg = &amount;
	assert_int_equal(OPS(pair->one, begin, &one.in, &begun, NULL),
	    ERR_PAYMENT);
	assert_int_equal(begun.allowance.used, 0);
	one.in.chat = "c9";
	assert_int_equal(try_begin(pair->one, &one.in), ERR_NOTFOUND);
	one.in.chat = NULL;
	one.in.max_turns = 1;
	assert_int_equal(try_begin(pair->one, &one.in), ERR_LIMIT);
	assert_int_equal(get_allowance(pair->one, "i:1", "n:1", NOW).used, 0);
	one.in.max_turns = 2;
	one.in.user = NULL;
	one.in.key = "key";
	one.in.digest = "digest";
	for (int i = 0; i < 5; i++) /* nor what is repeated */
		assert_int_equal(try_begin(pair->one, &one.in), ERR_OK);
	assert_int_equal(get_allowance(pair->one, "i:1", "n:1", NOW).used, 1);
	one.in.key = NULL;
	one.in.chat = "c1";
	assert_int_equal(try_begin(pair->one, &one.in), ERR_CONFLICT);
	assert_int_equal(get_allowance(pair->one, "i:1", "n:1", NOW).used, 1);
}

/* ---- threads ----------------------------------------------------------- */

static void *
spend(void *arg)
{
	struct racer *racer = arg;

	do
		racer->err = begin_paid(racer->store, racer->number + 1, PRICE);
	while (racer->err == ERR_UNAVAIL);
	return NULL;
}

void
never_spends_a_balance_twice(void **state)
{
	enum {
		PAYS = 7
	};
	struct store_pair *pair = *state;
	struct racer racers[RACERS];
	int winners = 0;

	top_up(pair->one, PRICE * PAYS + PRICE - 1);
	race(pair, racers, RACERS, spend);
	for (int i = 0; i < RACERS; i++) {
		char id[16];

		winners += racers[i].err == ERR_OK;
		assert_true(
		    racers[i].err == ERR_OK || racers[i].err == ERR_PAYMENT);
		if (racers[i].err != ERR_OK)
			continue;
		(void)snprintf(id, sizeof(id), "g%d", i + 1);
		assert_int_equal(end_charged(pair->one, id, PRICE).charged,
		    PRICE);
	}
	assert_int_equal(winners, PAYS);
	assert_account(pair->other, "ann", PRICE - 1, 0);
}
