/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "broker/limits/slots.h"

static const struct config_plan two = { .name = (char[]){ "two" },
	.max_tunnels = 2,
	.max_streams = 1 };
static const struct config_plan three = { .name = (char[]){ "three" },
	.max_tunnels = 3 };

static struct subjects
subjects_of(const char *first, const struct config_plan *plan,
    const char *second, const struct config_plan *second_plan)
{
	struct subjects subjects = { .count = second == NULL ? 1 : 2 };

	(void)strcpy(subjects.items[0].name, first);
	subjects.items[0].plan = plan;
	if (second != NULL)
		(void)strcpy(subjects.items[1].name, second);
	subjects.items[1].plan = second_plan;
	return subjects;
}

static struct slots *
take(enum slots_kind kind, const struct subjects *subjects)
{
	struct slots *slots = NULL;
	struct diag diag = { "" };
	uint64_t max;

	if (slots_take(kind, subjects, false, &slots, &max, &diag) != ERR_OK)
		fail_msg("%s", diag.text);
	return slots;
}

static void
refuse(enum slots_kind kind, const struct subjects *subjects, const char *word)
{
	struct slots *slots = NULL;
	struct diag diag = { "" };
	uint64_t max;

	assert_int_equal(slots_take(kind, subjects, false, &slots, &max, &diag),
	    ERR_RATE);
	assert_null(slots);
	assert_non_null(strstr(diag.text, word));
}

static void
refuses_more_than_its_maximum_until_one_is_given_back(void **state)
{
	struct subjects ann = subjects_of("u:ann", &two, NULL, NULL);
	struct subjects bob = subjects_of("u:bob", &two, NULL, NULL);
	struct slots *first = take(SLOTS_TUNNELS, &ann);
	struct slots *second = take(SLOTS_TUNNELS, &ann);
	struct slots *others = take(SLOTS_TUNNELS, &bob);

	(void)state;
	refuse(SLOTS_TUNNELS, &ann,
	    "2 connections of yours are in use, by plan two");
	slots_release(first);
	first = take(SLOTS_TUNNELS, &ann);
	refuse(SLOTS_TUNNELS, &ann, "2 connections");
	slots_release(first);
	slots_release(second);
	slots_release(others);
}

static void
counts_streams_beside_tunnels(void **state)
{
	struct subjects ann = subjects_of("u:ann", &two, NULL, NULL);
	struct slots *tunnel = take(SLOTS_TUNNELS, &ann);
	struct slots *stream = take(SLOTS_STREAMS, &ann);
	struct slots *second = take(SLOTS_TUNNELS, &ann);

	(void)state;
	refuse(SLOTS_STREAMS, &ann, "the only answer of yours is being made");
	slots_release(tunnel);
	refuse(SLOTS_STREAMS, &ann, "the only answer");
	slots_release(stream);
	slots_release(take(SLOTS_STREAMS, &ann));
	slots_release(second);
}

static void
counts_requests_that_wait_by_themselves(void **state)
{
	static const struct config_plan plan = { .max_parked = 1 };
	struct subjects here = subjects_of("n:192.0.2.1", &plan, NULL, NULL);
	struct slots *waits = take(SLOTS_PARKED, &here);

	(void)state;
	refuse(SLOTS_PARKED, &here, "the only request from this address waits");
	slots_release(take(SLOTS_STREAMS, &here));
	slots_release(take(SLOTS_TUNNELS, &here));
	slots_release(waits);
	slots_release(take(SLOTS_PARKED, &here));
}

static void
takes_of_all_or_of_none(void **state)
{
	struct subjects ann = subjects_of("u:ann", &three, "r:/a", &two);
	struct subjects bob = subjects_of("u:bob", &three, "r:/a", &two);
	struct subjects other = subjects_of("u:ann", &three, "r:/b", &two);
	struct slots *first = take(SLOTS_TUNNELS, &ann);
	struct slots *second = take(SLOTS_TUNNELS, &bob);
	struct slots *left[2];

	(void)state;
	/* had the refusals taken ann's, she would have none left */
	for (int i = 0; i < 10; i++)
		refuse(SLOTS_TUNNELS, &ann, "of this route");
	left[0] = take(SLOTS_TUNNELS, &other);
	left[1] = take(SLOTS_TUNNELS, &other);
	refuse(SLOTS_TUNNELS, &other, "of yours");
	slots_release(left[0]);
	slots_release(left[1]);
	slots_release(first);
	slots_release(second);
}

static void
passes_over_the_limits_where_it_is_forced(void **state)
{
	struct subjects ann = subjects_of("n:192.0.2.1", &two, NULL, NULL);
	struct slots *all[4];
	struct diag diag = { "" };
	uint64_t max;

	(void)state;
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(slots_take(SLOTS_TUNNELS, &ann, true, &all[i],
				     &max, &diag),
		    ERR_OK);
	for (size_t i = 0; i < 3; i++) {
		refuse(SLOTS_TUNNELS, &ann, "from this address");
		slots_release(all[i]);
	}
	slots_release(take(SLOTS_TUNNELS, &ann));
	slots_release(all[3]);
}

static void
counts_what_has_no_limit_yet(void **state)
{
	struct subjects before = subjects_of("u:ann", NULL, NULL, NULL);
	struct subjects after = subjects_of("u:ann", &two, NULL, NULL);
	struct slots *first = take(SLOTS_TUNNELS, &before);
	struct slots *second = take(SLOTS_TUNNELS, &before);

	(void)state;
	/* as after a reload */
	refuse(SLOTS_TUNNELS, &after, "2 connections");
	slots_release(first);
	slots_release(take(SLOTS_TUNNELS, &after));
	slots_release(second);
	slots_release(NULL);
}

static void
keeps_nothing_of_who_has_nothing(void **state)
{
	struct subjects subjects = subjects_of("", &two, NULL, NULL);
	size_t before = mallinfo2().uordblks;

	(void)state;
	for (unsigned i = 0; i < 100000; i++) {
		(void)snprintf(subjects.items[0].name,
		    sizeof(subjects.items[0].name), "a:%u", i);
		slots_release(take(SLOTS_TUNNELS, &subjects));
	}
	assert_true(mallinfo2().uordblks <= before + 65536);
}

static atomic_uint open_now, most, taken;

static void *
race(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		struct slots *slots;
		unsigned now, seen;
		uint64_t max;

		if (slots_take(SLOTS_TUNNELS, arg, false, &slots, &max, NULL) !=
		    ERR_OK)
			continue;
		(void)atomic_fetch_add(&taken, 1);
		now = atomic_fetch_add(&open_now, 1) + 1;
		seen = atomic_load(&most);
		while (now > seen &&
		    !atomic_compare_exchange_weak(&most, &seen, now))
			;
		(void)atomic_fetch_sub(&open_now, 1);
		slots_release(slots);
	}
	return NULL;
}

static void
holds_its_maximum_against_many_threads(void **state)
{
	struct subjects ann = subjects_of("u:ann", &two, "r:/a", NULL);
	pthread_t threads[8];

	(void)state;
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, race, &ann),
		    0);
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_true(atomic_load(&taken) > 0);
	assert_in_range(atomic_load(&most), 1, 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    refuses_more_than_its_maximum_until_one_is_given_back),
		cmocka_unit_test(counts_streams_beside_tunnels),
		cmocka_unit_test(counts_requests_that_wait_by_themselves),
		cmocka_unit_test(takes_of_all_or_of_none),
		cmocka_unit_test(passes_over_the_limits_where_it_is_forced),
		cmocka_unit_test(counts_what_has_no_limit_yet),
		cmocka_unit_test(keeps_nothing_of_who_has_nothing),
		cmocka_unit_test(holds_its_maximum_against_many_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
