/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>

#include "broker/http/flight.h"
#include "common/clock.h"
#include "common/thread.h"

#define THREADS 15
#define FLIGHTS 8 /* half of them */

static struct flight *
begin(const char *key)
{
	struct flight *flight = NULL;

	assert_int_equal(flight_begin(key, THREADS, clock_ms() + 5000, &flight,
			     NULL),
	    ERR_OK);
	return flight;
}

static void
runs_different_keys_and_those_without_side_by_side(void **state)
{
	struct flight *flights[4] = { begin("a"), begin("b"), begin(NULL),
		begin(NULL) };

	(void)state;
	for (size_t i = 0; i < 4; i++)
		flight_end(flights[i]);
	flight_end(NULL);
}

static void
gives_up_on_a_key_that_runs_too_long(void **state)
{
	struct flight *first = begin("a"), *second;
	struct diag diag = { "" };
	int64_t now_ms = clock_ms();

	(void)state;
	assert_int_equal(flight_begin("a", THREADS, now_ms + 100, &second,
			     &diag),
	    ERR_UPSTREAM_TIMEOUT);
	assert_true(clock_ms() >= now_ms + 100);
	assert_string_not_equal(diag.text, "");
	flight_end(first);
	/* and whoever gave up counts no more */
	second = begin("a");
	flight_end(second);
}

static void
bounds_how_many_fly_or_wait(void **state)
{
	struct flight *flights[FLIGHTS], *more;

	(void)state;
	for (size_t i = 0; i < FLIGHTS; i++)
		flights[i] = begin(NULL);
	assert_int_equal(flight_begin("a", THREADS, clock_ms() + 5000, &more,
			     NULL),
	    ERR_UNAVAIL);
	flight_end(flights[FLIGHTS - 1]);
	more = begin("a");
	flight_end(more);
	for (size_t i = 0; i < FLIGHTS - 1; i++)
		flight_end(flights[i]);
}

static int running, most, total;

/* Ends itself only when somebody else has had the time to begin, too. */
static void *
fly(void *arg)
{
	pthread_mutex_t *lock = arg;
	struct flight *flight = NULL;

	if (flight_begin("a", THREADS, clock_ms() + 10000, &flight, NULL) !=
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
	flight_end(flight);
	return NULL;
}

static void
runs_one_key_once_at_a_time(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct flight *first = begin("a");
	pthread_t threads[6];

	(void)state;
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(thread_start(&threads[i], "fly", fly, &lock,
				     NULL),
		    ERR_OK);
	flight_end(first);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(total, 6);
	assert_int_equal(most, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    runs_different_keys_and_those_without_side_by_side),
		cmocka_unit_test(gives_up_on_a_key_that_runs_too_long),
		cmocka_unit_test(bounds_how_many_fly_or_wait),
		cmocka_unit_test(runs_one_key_once_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
