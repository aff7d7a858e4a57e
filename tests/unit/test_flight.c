/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>

#include "broker/anam/anam_flight.h"
#include "common/clock.h"
#include "common/thread.h"

static struct anam_flight *
begin(const char *token_id)
{
	struct anam_flight *flight = NULL;

	assert_int_equal(anam_flight_begin(token_id, 8, clock_ms() + 5000,
			     &flight, NULL),
	    ERR_OK);
	return flight;
}

static void
runs_different_tokens_and_those_without_side_by_side(void **state)
{
	struct anam_flight *flights[4] = { begin("a"), begin("b"), begin(NULL),
		begin(NULL) };

	(void)state;
	for (size_t i = 0; i < 4; i++)
		anam_flight_end(flights[i]);
	anam_flight_end(NULL);
}

static void
gives_up_on_a_token_that_runs_too_long(void **state)
{
	struct anam_flight *first = begin("a"), *second;
	struct diag diag = { "" };
	int64_t now_ms = clock_ms();

	(void)state;
	assert_int_equal(anam_flight_begin("a", 8, now_ms + 100, &second,
			     &diag),
	    ERR_UPSTREAM_TIMEOUT);
	assert_true(clock_ms() >= now_ms + 100);
	assert_string_not_equal(diag.text, "");
	anam_flight_end(first);
	/* and whoever gave up counts no more */
	second = begin("a");
	anam_flight_end(second);
}

static void
bounds_how_many_run_or_wait(void **state)
{
	struct anam_flight *flights[8], *more;

	(void)state;
	for (size_t i = 0; i < 8; i++)
		flights[i] = begin(NULL);
	assert_int_equal(anam_flight_begin("a", 8, clock_ms() + 5000, &more,
			     NULL),
	    ERR_UNAVAIL);
	anam_flight_end(flights[7]);
	more = begin("a");
	anam_flight_end(more);
	for (size_t i = 0; i < 7; i++)
		anam_flight_end(flights[i]);
}

static int running, most, total;

/* Ends itself only when somebody else has had the time to begin, too. */
static void *
fly(void *arg)
{
	pthread_mutex_t *lock = arg;
	struct anam_flight *flight = NULL;

	if (anam_flight_begin("a", 8, clock_ms() + 10000, &flight, NULL) !=
	    ERR_OK)
		return NULL;
	(void)pthread_mutex_lock(lock);
	running++;
	total++;
	most = running > most ? running : most;
	(void)pthread_mutex_unlock(lock);
	(void)sched_yield();
	(void)pthread_mutex_lock(lock);
	running--;
	(void)pthread_mutex_unlock(lock);
	anam_flight_end(flight);
	return NULL;
}

static void
runs_one_token_once_at_a_time(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct anam_flight *first = begin("a");
	pthread_t threads[6];

	(void)state;
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(thread_start(&threads[i], "fly", fly, &lock,
				     NULL),
		    ERR_OK);
	anam_flight_end(first);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(total, 6);
	assert_int_equal(most, 1);
}

static void
counts_what_was_made_of_late(void **state)
{
	(void)state;
	assert_int_equal(anam_flight_count(0, 60, 100, NULL), ERR_OK);
	assert_int_equal(anam_flight_count(2, 60, 100, NULL), ERR_OK);
	assert_int_equal(anam_flight_count(2, 60, 110, NULL), ERR_OK);
	assert_int_equal(anam_flight_count(2, 60, 159, NULL), ERR_RATE);
	assert_int_equal(anam_flight_count(2, 60, 160, NULL), ERR_OK);
	assert_int_equal(anam_flight_count(2, 60, 161, NULL), ERR_RATE);
	/* what was not made after all leaves room, once */
	anam_flight_uncount(160);
	anam_flight_uncount(159);
	assert_int_equal(anam_flight_count(2, 60, 161, NULL), ERR_OK);
	assert_int_equal(anam_flight_count(2, 60, 161, NULL), ERR_RATE);
	/* no limit forgets */
	assert_int_equal(anam_flight_count(0, 60, 162, NULL), ERR_OK);
	assert_int_equal(anam_flight_count(1, 60, 162, NULL), ERR_OK);
	assert_int_equal(anam_flight_count(0, 60, 162, NULL), ERR_OK);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    runs_different_tokens_and_those_without_side_by_side),
		cmocka_unit_test(gives_up_on_a_token_that_runs_too_long),
		cmocka_unit_test(bounds_how_many_run_or_wait),
		cmocka_unit_test(runs_one_token_once_at_a_time),
		cmocka_unit_test(counts_what_was_made_of_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
