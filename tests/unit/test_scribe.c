/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "broker/chat/scribe.h"
#include "common/xalloc.h"

/* A store that may be away, and knows what it was asked to write. */
static struct {
	struct store store;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool away;
	int attempts; /* that failed */
	int64_t pieces, last;
	int transactions; /* of pieces */
	bool in_order;
	int ends, given_back; /* written, and not */
} fake = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER,
};

static enum err
fails(struct diag *diag)
{
	if (!fake.away)
		return ERR_OK;
	fake.attempts++;
	(void)pthread_cond_signal(&fake.changed);
	diag_set(diag, "away");
	return ERR_UNAVAIL;
}

static enum err
add_pieces(struct store *store, const struct store_piece *pieces, size_t count,
    struct diag *diag)
{
	enum err err;

	(void)store;
	(void)pthread_mutex_lock(&fake.lock);
	err = fails(diag);
	fake.transactions++;
	for (size_t i = 0; err == ERR_OK && i < count; i++) {
		fake.in_order =
		    fake.in_order && pieces[i].first == fake.last + 1;
		fake.last = pieces[i].last;
		fake.pieces++;
	}
	(void)pthread_cond_signal(&fake.changed);
	(void)pthread_mutex_unlock(&fake.lock);
	return err;
}

static enum err
finish(struct store *store, const struct store_finish *in,
    struct store_finished *ret, struct diag *diag)
{
	enum err err;

	(void)store;
	(void)pthread_mutex_lock(&fake.lock);
	err = fails(diag);
	fake.in_order = fake.in_order && in->last.first == fake.last + 1;
	(void)pthread_mutex_unlock(&fake.lock);
	*ret = (struct store_finished){ .was_running = true };
	return err;
}

static const struct store_ops ops = {
	.add_pieces = add_pieces,
	.finish = finish,
};

static const struct scribe_options options = {
	.max_bytes = 1000,
	.gather_ms = 1,
	.retry_ms = 1,
	.max_retry_ms = 2,
	.flush_ms = 200,
};

static void
on_written(struct scribe_end *end, const struct store_finished *finished)
{
	(void)end;
	(void)pthread_mutex_lock(&fake.lock);
	if (finished == NULL)
		fake.given_back++;
	else
		fake.ends++;
	(void)pthread_cond_signal(&fake.changed);
	(void)pthread_mutex_unlock(&fake.lock);
}

static int
setup(void **state)
{
	(void)state;
	fake.store.ops = &ops;
	fake.away = false;
	fake.attempts = fake.ends = fake.given_back = 0;
	fake.pieces = fake.last = 0;
	fake.transactions = 0;
	fake.in_order = true;
	return scribe_start(&fake.store, &options, NULL) == ERR_OK ? 0 : -1;
}

/* One who waits for more pieces as long as a test may last. */
static int
setup_patient(void **state)
{
	struct scribe_options patient = options;

	(void)setup(state);
	scribe_stop();
	patient.gather_ms = 3600 * 1000;
	return scribe_start(&fake.store, &patient, NULL) == ERR_OK ? 0 : -1;
}

static int
teardown(void **state)
{
	(void)state;
	scribe_stop();
	return 0;
}

static void
set_away(bool away)
{
	(void)pthread_mutex_lock(&fake.lock);
	fake.away = away;
	(void)pthread_mutex_unlock(&fake.lock);
}

#define WAIT_FOR(condition)                                                 \
	do {                                                                \
		(void)pthread_mutex_lock(&fake.lock);                       \
		while (!(condition))                                        \
			(void)pthread_cond_wait(&fake.changed, &fake.lock); \
		(void)pthread_mutex_unlock(&fake.lock);                     \
	} while (0)

static bool
add(int64_t n)
{
	return scribe_add("g", n, n, xstrdup("event"), xstrdup("text"));
}

static void
end(struct scribe_end *out, int64_t n)
{
	*out = (struct scribe_end){
		.finish = { .generation = "g", .last = { .first = n } },
		.written = on_written,
	};
	scribe_end(out);
}

static void
writes_in_order_and_then_the_end(void **state)
{
	struct scribe_end last;

	(void)state;
	for (int64_t n = 1; n <= 5; n++)
		assert_true(add(n));
	end(&last, 6);
	WAIT_FOR(fake.ends == 1);
	assert_int_equal(fake.pieces, 5);
	assert_true(fake.in_order);
}

static void
gathers_pieces_until_an_end_comes(void **state)
{
	struct scribe_end last;

	(void)state;
	for (int64_t n = 1; n <= 5; n++) {
		assert_true(add(n));
		(void)sched_yield();
	}
	end(&last, 6);
	WAIT_FOR(fake.ends == 1);
	assert_int_equal(fake.pieces, 5);
	assert_int_equal(fake.transactions, 1);
	assert_true(fake.in_order);
}

static void
gathers_pieces_until_it_stops(void **state)
{
	(void)state;
	assert_true(add(1));
	assert_true(add(2));
	scribe_stop();
	assert_int_equal(fake.pieces, 2);
	assert_int_equal(fake.transactions, 1);
}

static void
tries_again_until_the_store_is_back(void **state)
{
	struct scribe_end last;

	(void)state;
	set_away(true);
	assert_true(add(1));
	end(&last, 2);
	WAIT_FOR(fake.attempts >= 3);
	assert_int_equal(fake.pieces + fake.ends, 0);
	set_away(false);
	WAIT_FOR(fake.ends == 1);
	assert_int_equal(fake.pieces, 1);
	assert_true(fake.in_order);
}

static void
refuses_more_than_its_maximum(void **state)
{
	int64_t n = 1;

	(void)state;
	set_away(true);
	while (add(n))
		assert_true(n++ < 100);
	assert_true(n > 2);
	set_away(false);
	WAIT_FOR(fake.pieces == n - 1);
	while (!add(n)) /* there is room again, as soon as it is told */
		(void)sched_yield();
	WAIT_FOR(fake.pieces == n);
	assert_true(fake.in_order);
}

static void
writes_what_waits_before_it_stops(void **state)
{
	struct scribe_end last;

	(void)state;
	set_away(true);
	assert_true(add(1));
	end(&last, 2);
	WAIT_FOR(fake.attempts >= 1);
	set_away(false);
	scribe_stop();
	assert_int_equal(fake.pieces, 1);
	assert_int_equal(fake.ends, 1);
	assert_false(add(2));
}

static void
gives_back_what_cannot_be_written(void **state)
{
	struct scribe_end ends[2];

	(void)state;
	set_away(true);
	assert_true(add(1));
	end(&ends[0], 2);
	scribe_stop();
	assert_int_equal(fake.given_back, 1);
	end(&ends[1], 2); /* nobody writes any more */
	assert_int_equal(fake.given_back, 2);
	assert_int_equal(fake.ends, 0);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define PATIENT(name) \
	cmocka_unit_test_setup_teardown(name, setup_patient, teardown)
	const struct CMUnitTest tests[] = {
		TEST(writes_in_order_and_then_the_end),
		PATIENT(gathers_pieces_until_an_end_comes),
		PATIENT(gathers_pieces_until_it_stops),
		TEST(tries_again_until_the_store_is_back),
		TEST(refuses_more_than_its_maximum),
		TEST(writes_what_waits_before_it_stops),
		TEST(gives_back_what_cannot_be_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
