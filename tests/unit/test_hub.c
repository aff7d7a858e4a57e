/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/hub/hub.h"
#include "common/thread.h"

#define POSTERS 4
#define POSTS	20000

/* Touched by the hub's thread alone, and read after hub_stop(). */
static struct {
	unsigned runs, in_hub, disorders;
	unsigned last[POSTERS];
} seen;

static int
begin(void **state)
{
	struct diag diag;

	(void)state;
	memset(&seen, 0, sizeof(seen));
	return hub_start(&diag) == ERR_OK ? 0 : -1;
}

static int
end(void **state)
{
	(void)state;
	hub_stop();
	return 0;
}

static void
count(void *arg)
{
	(void)arg;
	seen.runs++;
	seen.in_hub += hub_is_here();
}

/* Posts itself as often as arg says. */
static void
repeat(void *arg)
{
	unsigned *left = arg;
	unsigned runs = seen.runs;

	seen.runs++;
	if (--*left > 0)
		assert_true(hub_post(repeat, left));
	assert_int_equal(seen.runs, runs + 1); /* not within the call */
}

static void
copy(void *arg)
{
	unsigned **both = arg;

	*both[1] = *both[0];
}

struct numbered {
	unsigned poster, number;
};

static void
note_order(void *arg)
{
	struct numbered *numbered = arg;

	seen.disorders += numbered->number != seen.last[numbered->poster]++;
	seen.runs++;
	free(numbered);
}

static void *
post_many(void *arg)
{
	for (unsigned i = 0; i < POSTS; i++) {
		struct numbered *numbered = malloc(sizeof(*numbered));

		*numbered = (struct numbered){ (unsigned)(uintptr_t)arg, i };
		if (!hub_post(note_order, numbered))
			free(numbered);
	}
	return NULL;
}

static void
runs_what_is_posted_in_its_own_thread(void **state)
{
	(void)state;
	assert_false(hub_is_here());
	assert_true(hub_post(count, NULL));
	assert_true(hub_post(count, NULL));
	hub_stop();
	assert_int_equal(seen.runs, 2);
	assert_int_equal(seen.in_hub, 2);
}

static void
runs_the_posts_of_a_thread_in_their_order(void **state)
{
	pthread_t threads[POSTERS];

	(void)state;
	for (uintptr_t i = 0; i < POSTERS; i++)
		assert_int_equal(thread_start(&threads[i], "poster", post_many,
				     (void *)i, NULL),
		    ERR_OK);
	for (unsigned i = 0; i < POSTERS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	hub_stop();
	assert_int_equal(seen.runs, POSTERS * POSTS);
	assert_int_equal(seen.disorders, 0);
}

static void
takes_posts_of_its_own(void **state)
{
	unsigned left = 100, seen_left = left;
	unsigned *both[] = { &left, &seen_left };

	(void)state;
	assert_true(hub_call(repeat, &left));
	/* the rest comes after what this call began */
	while (seen_left > 0)
		assert_true(hub_call(copy, both));
	hub_stop();
	assert_int_equal(seen.runs, 100);
}

static void
set_true(void *arg)
{
	*(bool *)arg = true;
}

static void
waits_for_what_is_called(void **state)
{
	(void)state;
	for (int i = 0; i < 1000; i++) {
		bool called = false;

		assert_true(hub_call(set_true, &called));
		assert_true(called);
	}
}

static void
takes_nothing_where_there_is_none(void **state)
{
	bool called = false;

	(void)state;
	hub_stop();
	assert_false(hub_post(set_true, &called));
	assert_false(hub_call(set_true, &called));
	assert_false(called);
	hub_stop(); /* harmless */
}

static void
starts_again(void **state)
{
	struct diag diag;
	bool called = false;

	(void)state;
	hub_stop();
	assert_int_equal(hub_start(&diag), ERR_OK);
	assert_true(hub_call(set_true, &called));
	assert_true(called);
}

static void
expire(void *arg)
{
	struct loop_timer **timer = arg;

	seen.runs++;
	loop_timer_free(*timer);
	*timer = NULL;
}

static void
set_timer(void *arg)
{
	struct loop_timer **timer = arg;

	*timer = loop_timer_new(hub_loop(), expire, timer);
	loop_timer_set(*timer, 0);
}

static void
look_whether_gone(void *arg)
{
	struct loop_timer **timer = ((void **)arg)[0];
	bool *gone = ((void **)arg)[1];

	*gone = *timer == NULL;
}

static void
has_a_loop_with_timers(void **state)
{
	struct loop_timer *timer = NULL;
	bool gone = false;
	void *both[] = { &timer, &gone };

	(void)state;
	assert_true(hub_call(set_timer, &timer));
	while (!gone)
		assert_true(hub_call(look_whether_gone, both));
	hub_stop();
	assert_int_equal(seen.runs, 1);
}

#define HUB_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		HUB_TEST(runs_what_is_posted_in_its_own_thread),
		HUB_TEST(runs_the_posts_of_a_thread_in_their_order),
		HUB_TEST(takes_posts_of_its_own),
		HUB_TEST(waits_for_what_is_called),
		HUB_TEST(takes_nothing_where_there_is_none),
		HUB_TEST(starts_again),
		HUB_TEST(has_a_loop_with_timers),
	};

	return cmocka_run_group_tests_name("hub", tests, NULL, NULL);
}
