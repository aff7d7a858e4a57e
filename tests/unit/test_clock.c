/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "common/clock.h"

static void
counts_milliseconds_that_never_go_back(void **state)
{
	struct timespec ts;
	int64_t last = clock_ms();

	(void)state;
	assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &ts), 0);
	/* the same clock, a little later: in one unit, without overflow */
	assert_true((int64_t)ts.tv_sec * 1000 - last < 60000);
	assert_true((int64_t)ts.tv_sec * 1000 - last > -1000);
	for (int i = 0; i < 100000; i++) {
		int64_t now = clock_ms();

		assert_true(now >= last);
		last = now;
	}
}

static void
tells_the_time_of_day_in_seconds(void **state)
{
	int64_t before = (int64_t)time(NULL), now = clock_unix();

	(void)state;
	/* time() may be a tick behind */
	assert_in_range(now - before, 0, 60);
	assert_in_range(clock_unix_ms() - now * 1000, 0, 60000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_milliseconds_that_never_go_back),
		cmocka_unit_test(tells_the_time_of_day_in_seconds),
	};

	return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
