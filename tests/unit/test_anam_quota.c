/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/anam/anam_quota.h"

static void
counts_what_was_made_of_late(void **state)
{
	(void)state;
	assert_int_equal(anam_quota_take(0, 60, 100, NULL), ERR_OK);
	assert_int_equal(anam_quota_take(2, 60, 100, NULL), ERR_OK);
	assert_int_equal(anam_quota_take(2, 60, 110, NULL), ERR_OK);
	assert_int_equal(anam_quota_take(2, 60, 159, NULL), ERR_RATE);
	assert_int_equal(anam_quota_take(2, 60, 160, NULL), ERR_OK);
	assert_int_equal(anam_quota_take(2, 60, 161, NULL), ERR_RATE);
	/* what was not made after all leaves room, once */
	anam_quota_give_back(160);
	anam_quota_give_back(159);
	assert_int_equal(anam_quota_take(2, 60, 161, NULL), ERR_OK);
	assert_int_equal(anam_quota_take(2, 60, 161, NULL), ERR_RATE);
	/* no limit forgets */
	assert_int_equal(anam_quota_take(0, 60, 162, NULL), ERR_OK);
	assert_int_equal(anam_quota_take(1, 60, 162, NULL), ERR_OK);
	assert_int_equal(anam_quota_take(0, 60, 162, NULL), ERR_OK);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_what_was_made_of_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
