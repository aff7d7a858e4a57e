/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "broker/tunnels/refusals.h"

#define HERE  "192.0.2.1"
#define THERE "192.0.2.2"

static void
refuse(struct refusals *refusals, const char *address, unsigned count,
    int64_t now_ms)
{
	for (unsigned i = 0; i < count; i++)
		refusals_add(refusals, address, now_ms);
}

static void
counts_each_address_by_itself(void **state)
{
	struct refusals *refusals = refusals_new();

	(void)state;
	assert_false(refusals_reached(refusals, HERE, 1000));
	refuse(refusals, HERE, REFUSALS_MAX - 1, 1000);
	assert_false(refusals_reached(refusals, HERE, 1000));
	refuse(refusals, HERE, 1, 2000);
	assert_true(refusals_reached(refusals, HERE, 2000));
	assert_false(refusals_reached(refusals, THERE, 2000));
	refusals_free(refusals);
}

static void
forgets_after_the_window(void **state)
{
	struct refusals *refusals = refusals_new();

	(void)state;
	refuse(refusals, HERE, REFUSALS_MAX, 1000);
	assert_true(
	    refusals_reached(refusals, HERE, 1000 + REFUSALS_WINDOW_MS - 1));
	assert_false(
	    refusals_reached(refusals, HERE, 1000 + REFUSALS_WINDOW_MS));
	/* and begins anew */
	refuse(refusals, HERE, 1, 1000 + REFUSALS_WINDOW_MS);
	assert_false(
	    refusals_reached(refusals, HERE, 1000 + REFUSALS_WINDOW_MS));
	refusals_free(refusals);
}

static void
takes_a_network_of_ipv6_for_one(void **state)
{
	struct refusals *refusals = refusals_new();

	(void)state;
	for (int i = 0; i < REFUSALS_MAX; i++) {
		char address[64];

		(void)snprintf(address, sizeof(address), "2001:db8::%x", i + 1);
		refusals_add(refusals, address, 1000);
	}
	assert_true(refusals_reached(refusals, "2001:db8::ffff", 1000));
	assert_false(refusals_reached(refusals, "2001:db8:0:1::1", 1000));
	refusals_free(refusals);
}

static void
keeps_those_that_still_come_however_many_others_do(void **state)
{
	struct refusals *refusals = refusals_new();
	char address[64];

	(void)state;
	refuse(refusals, HERE, REFUSALS_MAX, 1000);
	for (int i = 0; i < 5000; i++) {
		(void)snprintf(address, sizeof(address), "10.1.%d.%d", i / 250,
		    i % 250 + 1);
		refusals_add(refusals, address, 1001 + i);
		if (i % 100 == 0)
			refusals_add(refusals, HERE, 1001 + i);
	}
	assert_true(refusals_reached(refusals, HERE, 6001));
	/* of those that came once, the first are forgotten */
	refusals_free(refusals);
	refusals_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_each_address_by_itself),
		cmocka_unit_test(forgets_after_the_window),
		cmocka_unit_test(takes_a_network_of_ipv6_for_one),
		cmocka_unit_test(
		    keeps_those_that_still_come_however_many_others_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
