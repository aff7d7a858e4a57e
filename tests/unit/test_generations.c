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
reserve_for(const struct subjects *subjects, const char *owner, const char *id,
    const char *key, struct generation_slot **ret)
{
	struct diag diag = { "" };
	enum err err =
	    generations_reserve(&chat, owner, id, key, subjects, ret, &diag);

	assert_int_equal(err == ERR_OK, diag.text[0] == '\0');
	return err;
}

static enum err
reserve(const char *owner, const char *id, const char *key,
    struct generation_slot **ret)
{
	static const struct subjects nobody = { .count = 0 };

	return reserve_for(&nobody, owner, id, key, ret);
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
holds_a_plan_to_its_streams(void **state)
{
	static const struct config_plan plan = { .max_streams = 1 };
	struct subjects subjects = { .count = 1 };
	struct generation_slot *first, *again, *none = NULL;

	(void)state;
	(void)strcpy(subjects.items[0].name, "n:192.0.2.1");
	subjects.items[0].plan = &plan;
	assert_int_equal(reserve_for(&subjects, "a", "1", "k", &first), ERR_OK);
	/* another owner of this address */
	assert_int_equal(reserve_for(&subjects, "b", "2", "k", &none),
	    ERR_RATE);
	/* who repeats it makes nothing */
	assert_int_equal(reserve_for(&subjects, "a", "3", "k", &again), ERR_OK);
	generations_release(again);
	assert_int_equal(reserve_for(&subjects, "b", "4", NULL, &none),
	    ERR_RATE);
	generations_release(first);
	assert_int_equal(reserve_for(&subjects, "b", "5", NULL, &first),
	    ERR_OK);
	generations_release(first);
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
		cmocka_unit_test(holds_a_plan_to_its_streams),
		cmocka_unit_test(finds_nothing_that_has_not_begun),
		/* last: there is one table in a process */
		cmocka_unit_test(takes_none_any_more_once_it_is_stopped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
