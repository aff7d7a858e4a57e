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

#define DAY	86400
#define THREADS 8
#define ROWS	25 /* of each thread */

void
assert_ok(enum err err, const struct diag *diag)
{
	if (err != ERR_OK)
		fail_msg("%s: %s", err_text(err), diag->text);
}

void
expire(struct store *store, const struct store_expiry *in)
{
	struct diag diag = { "" };
	bool more = true;

	while (more)
		assert_ok(OPS(store, expire, in, &more, &diag), &diag);
}

void
expire_at(struct store *store, int64_t now)
{
	expire(store, &(const struct store_expiry){ .now = now });
}

/* ---- Anam sessions ----------------------------------------------------- */

static struct store_anam
anam(const char *id, const char *token_id, int64_t created, int64_t expires)
{
	return (struct store_anam){
		.id = TEXT(id),
		.user = TEXT("ann"),
		.persona = TEXT("persona-1"),
		.token_id = TEXT(token_id),
		.session = json_pack("{ss s[iin] ss}", "sessionId", id, "list",
		    1, 2, "text", "\xc3\xa4 \"'; DROP TABLE anam; --"),
		.created = created,
		.expires = expires,
	};
}

static enum err
put_anam(struct store *store, const char *id, const char *token_id,
    int64_t created, int64_t expires)
{
	struct store_anam in = anam(id, token_id, created, expires);
	struct diag diag = { "" };
	enum err err = OPS(store, put_anam, &in, &diag);

	json_decref(in.session);
	return err;
}

void
keeps_an_anam_session_as_it_was(void **state)
{
	struct store_pair *pair = *state;
	struct store_anam in = anam("secret-id", "jti-1", NOW, NOW + 60), out;
	struct diag diag = { "" };

	assert_ok(OPS(pair->one, put_anam, &in, &diag), &diag);
	assert_ok(OPS(pair->other, get_anam, "secret-id", NOW, &out, &diag),
	    &diag);
	assert_string_equal(out.id, in.id);
	assert_string_equal(out.user, in.user);
	assert_string_equal(out.persona, in.persona);
	assert_string_equal(out.token_id, in.token_id);
	assert_true(json_equal(out.session, in.session));
	assert_int_equal(out.created, NOW);
	assert_int_equal(out.expires, NOW + 60);
	store_anam_done(&out);
	json_decref(in.session);
}

void
finds_an_anam_session_by_its_token(void **state)
{
	struct store_pair *pair = *state;
	struct store_anam out;
	struct diag diag = { "" };

	/* those made without a token do not stand in each other's way */
	assert_int_equal(put_anam(pair->one, "a", NULL, NOW, NOW + 60), ERR_OK);
	assert_int_equal(put_anam(pair->one, "b", NULL, NOW, NOW + 60), ERR_OK);
	assert_int_equal(put_anam(pair->one, "c", "jti", NOW, NOW + 60),
	    ERR_OK);
	assert_ok(OPS(pair->other, get_anam_by_token, "jti", NOW, &out, &diag),
	    &diag);
	assert_string_equal(out.id, "c");
	store_anam_done(&out);
	assert_ok(OPS(pair->other, get_anam, "b", NOW, &out, &diag), &diag);
	assert_null(out.token_id);
	store_anam_done(&out);
	assert_int_equal(OPS(pair->other, get_anam_by_token, "c", NOW, &out,
			     &diag),
	    ERR_NOTFOUND);
}

void
gives_an_id_and_a_token_once(void **state)
{
	struct store_pair *pair = *state;

	assert_int_equal(put_anam(pair->one, "a", "t", NOW, NOW + 60), ERR_OK);
	assert_int_equal(put_anam(pair->other, "a", "t2", NOW + 59, NOW + 90),
	    ERR_DENIED);
	assert_int_equal(put_anam(pair->other, "a2", "t", NOW + 59, NOW + 90),
	    ERR_DENIED);
	/* whether or not expire() ran meanwhile */
	assert_int_equal(put_anam(pair->other, "a2", "t", NOW + 60, NOW + 90),
	    ERR_OK);
	assert_int_equal(put_anam(pair->other, "a", "t2", NOW + 60, NOW + 90),
	    ERR_OK);
}

void
knows_no_anam_session_that_has_expired(void **state)
{
	struct store_pair *pair = *state;
	struct store_anam out;

	assert_int_equal(put_anam(pair->one, "a", "t", NOW, NOW + 60), ERR_OK);
	assert_int_equal(OPS(pair->one, get_anam, "a", NOW + 60, &out, NULL),
	    ERR_NOTFOUND);
	assert_int_equal(OPS(pair->one, get_anam_by_token, "t", NOW + 60, &out,
			     NULL),
	    ERR_NOTFOUND);
	assert_int_equal(OPS(pair->one, get_anam, "A", NOW, &out, NULL),
	    ERR_NOTFOUND);
	assert_int_equal(OPS(pair->one, get_anam, "a", NOW + 59, &out, NULL),
	    ERR_OK);
	store_anam_done(&out);
}

/* ---- tickets ----------------------------------------------------------- */

static enum err
put_ticket(struct store *store, const char *id, json_t *session,
    int64_t created)
{
	const struct store_ticket in = {
		.id = TEXT(id),
		.route = TEXT("openai"),
		.model = TEXT("gpt-realtime"),
		.session = session,
		.created = created,
		.expires = created + 60,
	};

	return OPS(store, put_ticket, &in, NULL);
}

void
keeps_a_ticket_as_it_was(void **state)
{
	struct store_pair *pair = *state;
	json_t *session = json_pack("{ss}", "instructions", "be brief");
	struct store_ticket out;
	struct diag diag = { "" };

	assert_int_equal(put_ticket(pair->one, "1", session, NOW), ERR_OK);
	assert_int_equal(put_ticket(pair->one, "2", NULL, NOW), ERR_OK);
	assert_ok(OPS(pair->other, get_ticket, "1", NOW, &out, &diag), &diag);
	assert_string_equal(out.id, "1");
	assert_string_equal(out.route, "openai");
	assert_null(out.user);
	assert_string_equal(out.model, "gpt-realtime");
	assert_true(json_equal(out.session, session));
	assert_int_equal(out.created, NOW);
	assert_int_equal(out.expires, NOW + 60);
	store_ticket_done(&out);
	assert_ok(OPS(pair->other, get_ticket, "2", NOW, &out, &diag), &diag);
	assert_null(out.session);
	assert_null(out.plan);
	assert_null(out.address);
	assert_null(out.origin);
	assert_false(out.once);
	store_ticket_done(&out);
	json_decref(session);
}

void
keeps_what_a_ticket_is_bound_to(void **state)
{
	struct store_pair *pair = *state;
	const struct store_ticket in = {
		.id = TEXT("1"),
		.route = TEXT("/ws"),
		.user = TEXT("ann"),
		.plan = TEXT("free"),
		.address = TEXT("2001:db8::1"),
		.origin = TEXT("https://example.com"),
		.once = true,
		.created = NOW,
		.expires = NOW + 60,
	};
	struct store_ticket out;
	struct diag diag = { "" };

	assert_ok(OPS(pair->one, put_ticket, &in, &diag), &diag);
	assert_ok(OPS(pair->other, get_ticket, "1", NOW, &out, &diag), &diag);
	assert_string_equal(out.user, "ann");
	assert_string_equal(out.plan, "free");
	assert_string_equal(out.address, "2001:db8::1");
	assert_string_equal(out.origin, "https://example.com");
	assert_null(out.model);
	assert_true(out.once);
	assert_false(out.spent);
	store_ticket_done(&out);
}

void
spends_a_ticket_once(void **state)
{
	struct store_pair *pair = *state;
	struct store_ticket out;
	struct diag diag = { "" };

	assert_int_equal(put_ticket(pair->one, "1", NULL, NOW), ERR_OK);
	assert_int_equal(put_ticket(pair->one, "2", NULL, NOW), ERR_OK);
	assert_int_equal(OPS(pair->one, spend_ticket, "3", NOW, NULL),
	    ERR_NOTFOUND);
	assert_int_equal(OPS(pair->one, spend_ticket, "1", NOW + 60, NULL),
	    ERR_NOTFOUND);
	assert_ok(OPS(pair->other, spend_ticket, "1", NOW + 59, &diag), &diag);
	assert_int_equal(OPS(pair->one, spend_ticket, "1", NOW, NULL),
	    ERR_DENIED);
	assert_int_equal(OPS(pair->other, spend_ticket, "1", NOW, NULL),
	    ERR_DENIED);
	assert_int_equal(OPS(pair->one, spend_ticket, "1", NOW + 60, NULL),
	    ERR_NOTFOUND);
	assert_ok(OPS(pair->one, get_ticket, "1", NOW, &out, &diag), &diag);
	assert_true(out.spent);
	store_ticket_done(&out);
	assert_ok(OPS(pair->one, get_ticket, "2", NOW, &out, &diag), &diag);
	assert_false(out.spent);
	store_ticket_done(&out);
}

void
gives_a_ticket_once_until_it_expires(void **state)
{
	struct store_pair *pair = *state;
	struct store_ticket out;

	assert_int_equal(put_ticket(pair->one, "1", NULL, NOW), ERR_OK);
	assert_int_equal(put_ticket(pair->other, "1", NULL, NOW + 59),
	    ERR_DENIED);
	assert_int_equal(OPS(pair->one, get_ticket, "1", NOW + 60, &out, NULL),
	    ERR_NOTFOUND);
	assert_int_equal(put_ticket(pair->other, "1", NULL, NOW + 60), ERR_OK);
}

void
forgets_what_has_expired(void **state)
{
	struct store_pair *pair = *state;
	struct store_anam out;

	assert_int_equal(put_anam(pair->one, "old", "t", NOW, NOW + 60),
	    ERR_OK);
	assert_int_equal(put_anam(pair->one, "new", "u", NOW, NOW + 61),
	    ERR_OK);
	assert_int_equal(put_ticket(pair->one, "1", NULL, NOW), ERR_OK);
	expire_at(pair->other, NOW + 60);
	/* even who looks from before sees nothing there */
	assert_int_equal(OPS(pair->one, get_anam, "old", NOW, &out, NULL),
	    ERR_NOTFOUND);
	assert_int_equal(put_ticket(pair->one, "1", NULL, NOW), ERR_OK);
	assert_int_equal(OPS(pair->one, get_anam, "new", NOW, &out, NULL),
	    ERR_OK);
	store_anam_done(&out);
}

/* ---- the ledger -------------------------------------------------------- */

static struct store_usage
usage(const char *lease, int64_t n)
{
	return (struct store_usage){
		.lease = TEXT(lease),
		.n = n,
		.session = TEXT("s"),
		.route = TEXT("openai"),
		.user = TEXT("ann"),
		.model = TEXT("gpt-realtime"),
		.event = TEXT("response.done"),
		.vendor_id = TEXT("resp_1"),
		.status = TEXT("completed"),
		.at = NOW,
		.tokens = { 1, 2, 3, 4, 5, 6, 7, 8 },
		.total_tokens = 36,
		.seconds = 0.5,
		.raw = TEXT("{}"),
	};
}

static void
add(struct store *store, const struct store_usage *rows, size_t count)
{
	struct diag diag = { "" };

	assert_ok(OPS(store, add_usage, rows, count, &diag), &diag);
}

static struct store_sums
sum(struct store *store, int64_t from, int64_t to)
{
	struct store_sums sums;
	struct diag diag = { "" };

	assert_ok(OPS(store, sum_usage, from, to, &sums, &diag), &diag);
	return sums;
}

static uint64_t
count_events(struct store *store)
{
	struct store_sums sums = sum(store, 0, INT64_MAX);
	uint64_t count = 0;

	for (size_t i = 0; i < sums.count; i++)
		count += sums.items[i].events;
	store_sums_done(&sums);
	return count;
}

void
books_a_row_once(void **state)
{
	struct store_pair *pair = *state;
	struct store_usage rows[] = { usage("a", 1), usage("a", 2),
		usage("a", 3), usage("b", 1) };
	struct store_sums sums;

	add(pair->one, rows, 2);
	/* what comes again may say something else: the first one stands */
	rows[1].tokens[STORE_INPUT_TEXT] = 1000;
	add(pair->other, &rows[1], 3);
	add(pair->one, rows, 4);
	add(pair->one, rows, 0);
	sums = sum(pair->one, 0, INT64_MAX);
	assert_int_equal(sums.count, 1);
	assert_int_equal(sums.items[0].events, 4);
	for (int i = 0; i < STORE_TOKENS_COUNT; i++)
		assert_int_equal(sums.items[0].tokens[i], 4 * (i + 1));
	assert_int_equal(sums.items[0].total_tokens, 4 * 36);
	assert_true(sums.items[0].seconds == 2.0);
	store_sums_done(&sums);
}

void
books_all_rows_or_none(void **state)
{
	struct store_pair *pair = *state;
	struct store_usage rows[] = { usage("a", 1), usage("a", 2) };

	rows[1].route = NULL; /* which no row is without */
	assert_int_not_equal(OPS(pair->one, add_usage, rows, 2, NULL), ERR_OK);
	assert_int_equal(count_events(pair->one), 0);
	rows[1].route = TEXT("openai");
	add(pair->one, rows, 2);
	assert_int_equal(count_events(pair->other), 2);
}

void
refuses_rows_whose_sum_could_overflow(void **state)
{
	struct store_pair *pair = *state;
	struct store_usage rows[] = { usage("a", 1), usage("a", 2) };
	struct store_sums sums;

	rows[1].tokens[STORE_OUTPUT_AUDIO] = STORE_TOKENS_MAX + 1ULL;
	assert_int_equal(OPS(pair->one, add_usage, rows, 2, NULL), ERR_LIMIT);
	rows[1].tokens[STORE_OUTPUT_AUDIO] = STORE_TOKENS_MAX;
	rows[1].total_tokens = UINT64_MAX;
	assert_int_equal(OPS(pair->one, add_usage, rows, 2, NULL), ERR_LIMIT);
	rows[1].total_tokens = 1;
	rows[1].seconds = -1;
	assert_int_equal(OPS(pair->one, add_usage, rows, 2, NULL), ERR_LIMIT);
	rows[1].seconds = 2.0 * STORE_TOKENS_MAX;
	assert_int_equal(OPS(pair->one, add_usage, rows, 2, NULL), ERR_LIMIT);
	assert_int_equal(count_events(pair->one), 0);
	rows[1].seconds = 0;
	add(pair->one, rows, 2);
	sums = sum(pair->one, NOW, NOW + 1);
	assert_int_equal(sums.items[0].tokens[STORE_OUTPUT_AUDIO],
	    STORE_TOKENS_MAX + 8ULL);
	store_sums_done(&sums);
}

void
sums_by_day_route_user_and_model_in_order(void **state)
{
	static const struct {
		int64_t at;
		const char *route, *user, *model;
	} in[] = {
		{ NOW + DAY, "a", "ann", "m1" },
		{ NOW, "b", "ann", "m1" },
		{ NOW + DAY - 1, "a", "zoe", "m2" },
		{ NOW, "a", "zoe", "m1" },
		{ NOW, "a", "ann", "m1" },
		{ NOW, "a", NULL, NULL },
		{ NOW + 1, "a", "ann", "m1" },
	};
	static const struct {
		const char *day, *route, *user, *model;
		uint64_t events;
	} out[] = {
		{ "2026-01-01", "a", "", "", 1 },
		{ "2026-01-01", "a", "ann", "m1", 2 },
		{ "2026-01-01", "a", "zoe", "m1", 1 },
		{ "2026-01-01", "a", "zoe", "m2", 1 },
		{ "2026-01-01", "b", "ann", "m1", 1 },
		{ "2026-01-02", "a", "ann", "m1", 1 },
	};
	struct store_pair *pair = *state;
	struct store_sums sums;

	for (size_t i = 0; i < sizeof(in) / sizeof(in[0]); i++) {
		struct store_usage row = usage("a", (int64_t)i + 1);

		row.at = in[i].at;
		row.route = TEXT(in[i].route);
		row.user = TEXT(in[i].user);
		row.model = TEXT(in[i].model);
		add(pair->one, &row, 1);
	}
	sums = sum(pair->other, NOW, NOW + 2 * DAY);
	assert_int_equal(sums.count, sizeof(out) / sizeof(out[0]));
	for (size_t i = 0; i < sums.count; i++) {
		assert_string_equal(sums.items[i].day, out[i].day);
		assert_string_equal(sums.items[i].route, out[i].route);
		assert_string_equal(sums.items[i].user, out[i].user);
		assert_string_equal(sums.items[i].model, out[i].model);
		assert_int_equal(sums.items[i].events, out[i].events);
	}
	store_sums_done(&sums);
}

void
sums_from_the_first_second_to_before_the_last(void **state)
{
	struct store_pair *pair = *state;
	struct store_usage rows[] = { usage("a", 1), usage("a", 2),
		usage("a", 3), usage("a", 4) };
	struct store_sums sums;

	for (int i = 0; i < 4; i++)
		rows[i].at = NOW + i;
	add(pair->one, rows, 4);
	sums = sum(pair->one, NOW + 1, NOW + 3);
	assert_int_equal(sums.count, 1);
	assert_int_equal(sums.items[0].events, 2);
	store_sums_done(&sums);
}

void
sums_nothing_to_nothing(void **state)
{
	struct store_pair *pair = *state;
	struct store_sums sums = sum(pair->one, 0, INT64_MAX);

	assert_int_equal(sums.count, 0);
	store_sums_done(&sums);
}

/* ---- threads ----------------------------------------------------------- */

void
race(struct store_pair *pair, struct racer *racers, int count,
    void *(*run)(void *))
{
	for (int i = 0; i < count; i++) {
		racers[i].store = i % 2 == 0 ? pair->one : pair->other;
		racers[i].number = i;
		assert_int_equal(pthread_create(&racers[i].thread, NULL, run,
				     &racers[i]),
		    0);
	}
	for (int i = 0; i < count; i++)
		assert_int_equal(pthread_join(racers[i].thread, NULL), 0);
}

/* Busy is no answer to a race: whoever is told so asks again. */
static void *
put_same_token(void *arg)
{
	struct racer *racer = arg;
	char id[32];

	(void)snprintf(id, sizeof(id), "id-%d", racer->number);
	do
		racer->err =
		    put_anam(racer->store, id, "one-token", NOW, NOW + 60);
	while (racer->err == ERR_UNAVAIL);
	return NULL;
}

void
lets_one_of_many_threads_have_a_token(void **state)
{
	struct store_pair *pair = *state;
	struct racer racers[THREADS];
	int winners = 0;

	race(pair, racers, THREADS, put_same_token);
	for (int i = 0; i < THREADS; i++) {
		winners += racers[i].err == ERR_OK;
		assert_true(
		    racers[i].err == ERR_OK || racers[i].err == ERR_DENIED);
	}
	assert_int_equal(winners, 1);
}

/* Each row is reported by two threads, each on a handle of its own. */
static void *
add_rows(void *arg)
{
	struct racer *racer = arg;
	char lease[32];

	(void)snprintf(lease, sizeof(lease), "lease-%d", racer->number / 2);
	for (int i = 1; i <= ROWS; i++) {
		struct store_usage row = usage(lease, i);

		do
			racer->err =
			    OPS(racer->store, add_usage, &row, 1, NULL);
		while (racer->err == ERR_UNAVAIL);
		if (racer->err != ERR_OK)
			return NULL;
	}
	return NULL;
}

void
books_what_many_threads_report(void **state)
{
	struct store_pair *pair = *state;
	struct racer racers[THREADS];

	race(pair, racers, THREADS, add_rows);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(racers[i].err, ERR_OK);
	assert_int_equal(count_events(pair->one), THREADS / 2 * ROWS);
}

/* ---- revocations -------------------------------------------------------- */

static enum err
revoke(struct store *store, const char *kind, const char *value, int64_t before,
    int64_t expires)
{
	const struct store_revocation in = {
		.kind = TEXT(kind),
		.value = TEXT(value),
		.before = before,
		.expires = expires,
	};
	struct diag diag = { "" };

	return OPS(store, revoke, &in, &diag);
}

/* All of them at this time; the caller frees them. */
static struct store_revocations
list_revocations(struct store *store, int64_t now)
{
	struct store_revocations list;
	struct diag diag = { "" };

	assert_ok(OPS(store, list_revocations, now, &list, &diag), &diag);
	return list;
}

void
keeps_revocations_until_they_expire(void **state)
{
	struct store_pair *pair = *state;
	struct store_revocations list = list_revocations(pair->one, NOW);

	assert_int_equal(list.count, 0);
	store_revocations_done(&list);
	assert_int_equal(revoke(pair->one, "user", "ann", NOW, NOW + 10),
	    ERR_OK);
	assert_int_equal(revoke(pair->one, "ticket", "ann", NOW, NOW + 20),
	    ERR_OK);
	list = list_revocations(pair->other, NOW + 9);
	assert_int_equal(list.count, 2);
	store_revocations_done(&list);
	list = list_revocations(pair->other, NOW + 10);
	assert_int_equal(list.count, 1);
	assert_string_equal(list.items[0].kind, "ticket");
	assert_string_equal(list.items[0].value, "ann");
	assert_int_equal(list.items[0].before, NOW);
	assert_int_equal(list.items[0].expires, NOW + 20);
	store_revocations_done(&list);
	expire_at(pair->one, NOW + 20);
	list = list_revocations(pair->other, NOW);
	assert_int_equal(list.count, 0);
	store_revocations_done(&list);
}

void
keeps_the_later_moment_of_a_revocation(void **state)
{
	struct store_pair *pair = *state;
	struct store_revocations list;

	assert_int_equal(revoke(pair->one, "route", "/a", NOW, NOW + 90),
	    ERR_OK);
	assert_int_equal(revoke(pair->other, "route", "/a", NOW + 5, NOW + 80),
	    ERR_OK);
	assert_int_equal(revoke(pair->one, "route", "/a", NOW + 2, NOW + 70),
	    ERR_OK);
	list = list_revocations(pair->one, NOW);
	assert_int_equal(list.count, 1);
	assert_int_equal(list.items[0].before, NOW + 5);
	assert_int_equal(list.items[0].expires, NOW + 90);
	store_revocations_done(&list);
}

void
keeps_no_more_revocations_than_the_maximum(void **state)
{
	struct store_pair *pair = *state;
	struct store_revocations list;
	char value[16];

	for (int i = 0; i < STORE_REVOCATIONS_MAX; i++) {
		(void)snprintf(value, sizeof(value), "s%d", i);
		assert_int_equal(revoke(pair->one, "session", value, NOW,
				     NOW + 60),
		    ERR_OK);
	}
	assert_int_equal(revoke(pair->one, "session", "more", NOW, NOW + 60),
	    ERR_LIMIT);
	/* one that is there has its place */
	assert_int_equal(revoke(pair->one, "session", "s7", NOW + 1, NOW + 60),
	    ERR_OK);
	list = list_revocations(pair->one, NOW);
	assert_int_equal(list.count, STORE_REVOCATIONS_MAX);
	store_revocations_done(&list);
	expire_at(pair->one, NOW + 60);
	assert_int_equal(revoke(pair->one, "session", "more", NOW, NOW + 60),
	    ERR_OK);
}

/* ---- leases that are over ---------------------------------------------- */

void
knows_leases_that_are_over_until_they_expire(void **state)
{
	struct store_pair *pair = *state;
	const struct store_lease_end ends[] = {
		{ .lease = "aaaa", .expires = NOW + 10 },
		{ .lease = "bbbb", .expires = NOW + 20 },
	};
	struct store_lease_ends list;
	struct diag diag = { "" };

	for (int i = 0; i < 2; i++)
		assert_ok(OPS(pair->one, end_leases, ends, 2, &diag), &diag);
	assert_ok(OPS(pair->other, list_lease_ends, NOW, &list, &diag), &diag);
	assert_int_equal(list.count, 2);
	assert_string_equal(list.items[0].lease, "bbbb");
	assert_int_equal(list.items[0].expires, NOW + 20);
	assert_string_equal(list.items[1].lease, "aaaa");
	free(list.items);
	assert_ok(OPS(pair->one, list_lease_ends, NOW + 10, &list, &diag),
	    &diag);
	assert_int_equal(list.count, 1);
	free(list.items);
	expire_at(pair->one, NOW + 20);
	assert_ok(OPS(pair->other, list_lease_ends, NOW, &list, &diag), &diag);
	assert_int_equal(list.count, 0);
	free(list.items);
}
