/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/chat/generations.h"

static const struct config_chat chat = {
	.max_streams = 3,
	.max_streams_per_owner = 2,
};

static enum err
reserve(const char *owner, const char *id, const char *key,
    struct generation_slot **ret)
{
	struct diag diag = { "" };
	enum err err = generations_reserve(&chat, owner, id, key, ret, &diag);

	assert_int_equal(err == ERR_OK, diag.text[0] == '\0');
	return err;
}

static void
refuses_more_than_its_maximum(void **state)
{
	struct generation_slot *slots[3], *none = NULL;

	(void)state;
	assert_int_equal(reserve("a", "1", NULL, &slots[0]), ERR_OK);
	assert_int_equal(reserve("a", "2", NULL, &slots[1]), ERR_OK);
	assert_int_equal(reserve("a", "3", NULL, &none), ERR_RATE);
	assert_int_equal(reserve("b", "4", NULL, &slots[2]), ERR_OK);
	assert_int_equal(reserve("b", "5", NULL, &none), ERR_UNAVAIL);
	generations_release(slots[0]);
	assert_int_equal(reserve("a", "6", NULL, &slots[0]), ERR_OK);
	assert_int_equal(reserve("c", "7", NULL, &none), ERR_UNAVAIL);
	assert_null(none);
	for (int i = 0; i < 3; i++)
		generations_release(slots[i]);
	generations_release(NULL);
}

static void
lets_whoever_repeats_a_request_read(void **state)
{
	struct generation_slot *slots[4], *none = NULL;

	(void)state;
	assert_int_equal(reserve("a", "1", "k", &slots[0]), ERR_OK);
	assert_int_equal(reserve("a", "2", "other", &slots[1]), ERR_OK);
	assert_int_equal(reserve("a", "3", "k", &slots[2]), ERR_OK);
	assert_int_equal(reserve("a", "4", "k2", &none), ERR_UNAVAIL);
	/* another's key is another key */
	assert_int_equal(reserve("b", "5", "k", &none), ERR_UNAVAIL);
	assert_int_equal(reserve("a", "6", "other", &slots[3]), ERR_OK);
	for (int i = 0; i < 4; i++)
		generations_release(slots[i]);
}

static void
finds_nothing_that_has_not_begun(void **state)
{
	struct generation_slot *slot;

	(void)state;
	assert_int_equal(reserve("a", "1", NULL, &slot), ERR_OK);
	assert_null(generations_find("a", NULL, NULL));
	/* and nothing is said of what there is not, or is another's */
	assert_int_equal(generations_attach("a", "2", NULL, 0), ERR_NOTFOUND);
	assert_int_equal(generations_attach("b", "1", NULL, 0), ERR_NOTFOUND);
	generations_release(slot);
	assert_int_equal(generations_attach("a", "1", NULL, 0), ERR_NOTFOUND);
}

static void
takes_none_any_more_once_it_is_stopped(void **state)
{
	struct generation_slot *none = NULL;

	(void)state;
	generations_stop_all();
	assert_int_equal(reserve("a", "1", NULL, &none), ERR_UNAVAIL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_more_than_its_maximum),
		cmocka_unit_test(lets_whoever_repeats_a_request_read),
		cmocka_unit_test(finds_nothing_that_has_not_begun),
		/* last: there is one table in a process */
		cmocka_unit_test(takes_none_any_more_once_it_is_stopped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
