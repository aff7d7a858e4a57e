/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/hub/hub.h"
#include "broker/hub/jobs.h"

#define THREADS 3
#define LANES	7
#define JOBS	5000

static struct {
	int entered[2], leave[2]; /* pipes */
	atomic_uint works, dones, disorders;
	/* a lane's: by one job at a time, though of several threads */
	unsigned worked[LANES];
	unsigned ended[LANES]; /* the hub's */
} world;

static int
begin(void **state)
{
	struct diag diag;

	(void)state;
	memset(&world, 0, sizeof(world));
	if (pipe(world.entered) == -1 || pipe(world.leave) == -1)
		return -1;
	return hub_start(&diag) == ERR_OK &&
		jobs_start(THREADS, &diag) == ERR_OK
	    ? 0
	    : -1;
}

static int
end(void **state)
{
	(void)state;
	jobs_stop();
	hub_stop();
	for (int i = 0; i < 2; i++) {
		(void)close(world.entered[i]);
		(void)close(world.leave[i]);
	}
	return 0;
}

static void
work(void *arg)
{
	(void)arg;
	if (hub_is_here())
		atomic_fetch_add(&world.disorders, 1);
	atomic_fetch_add(&world.works, 1);
}

static void
done(void *arg)
{
	(void)arg;
	if (!hub_is_here())
		atomic_fetch_add(&world.disorders, 1);
	atomic_fetch_add(&world.dones, 1);
}

/* Tells that it runs, and returns when it may. */
static void
work_waiting(void *arg)
{
	char c = 'x';

	(void)arg;
	(void)!write(world.entered[1], &c, 1);
	(void)!read(world.leave[0], &c, 1);
	atomic_fetch_add(&world.works, 1);
}

static void
wait_for_entry(void)
{
	char c;

	assert_int_equal(read(world.entered[0], &c, 1), 1);
}

static void
let_leave(void)
{
	assert_int_equal(write(world.leave[1], "x", 1), 1);
}

struct numbered {
	unsigned lane, number;
};

static void
work_numbered(void *arg)
{
	struct numbered *numbered = arg;

	if (world.worked[numbered->lane]++ != numbered->number)
		atomic_fetch_add(&world.disorders, 1);
}

static void
done_numbered(void *arg)
{
	struct numbered *numbered = arg;

	if (world.ended[numbered->lane]++ != numbered->number)
		atomic_fetch_add(&world.disorders, 1);
	atomic_fetch_add(&world.dones, 1);
	free(numbered);
}

static void
works_in_a_thread_and_ends_in_the_hub(void **state)
{
	(void)state;
	assert_int_equal(jobs_add(1, work, done, NULL), ERR_OK);
	assert_int_equal(jobs_add(1, work, NULL, NULL), ERR_OK);
	jobs_stop();
	hub_stop();
	assert_int_equal(world.works, 2);
	assert_int_equal(world.dones, 1);
	assert_int_equal(world.disorders, 0);
}

static void
keeps_the_order_of_a_lane(void **state)
{
	(void)state;
	for (unsigned i = 0; i < JOBS; i++)
		for (unsigned lane = 0; lane < LANES; lane++) {
			struct numbered *numbered = malloc(sizeof(*numbered));

			*numbered = (struct numbered){ lane, i };
			/* fewer wait than may, or it has to be asked again */
			while (jobs_add(lane * 1000003UL, work_numbered,
				   done_numbered, numbered) != ERR_OK)
				;
		}
	jobs_stop();
	hub_stop();
	assert_int_equal(world.dones, JOBS * LANES);
	assert_int_equal(world.disorders, 0);
}

static void
runs_other_lanes_while_one_waits(void **state)
{
	(void)state;
	assert_int_equal(jobs_add(1, work_waiting, NULL, NULL), ERR_OK);
	wait_for_entry();
	assert_int_equal(jobs_add(1, work_waiting, NULL, NULL), ERR_OK);
	assert_int_equal(jobs_add(2, work_waiting, NULL, NULL), ERR_OK);
	wait_for_entry(); /* the second lane's: the first is in work */
	assert_int_equal(jobs_add(3, work_waiting, NULL, NULL), ERR_OK);
	wait_for_entry();
	for (int i = 0; i < 3; i++)
		let_leave();
	wait_for_entry(); /* now the first lane's other */
	let_leave();
	jobs_stop();
	assert_int_equal(world.works, 4);
}

static void
refuses_more_than_its_maximum(void **state)
{
	unsigned taken = 0;

	(void)state;
	for (unsigned lane = 0; lane < THREADS; lane++)
		assert_int_equal(jobs_add(lane, work_waiting, NULL, NULL),
		    ERR_OK);
	for (unsigned i = 0; i < THREADS; i++)
		wait_for_entry();
	for (unsigned lane = 0; lane < 9; lane++) {
		while (jobs_add(lane, work, NULL, NULL) == ERR_OK)
			taken++;
		/* another lane has room, until all is taken */
		assert_int_equal(taken, 1000 * (lane + 1));
	}
	while (jobs_add(taken, work, NULL, NULL) == ERR_OK)
		taken++;
	assert_int_equal(taken, 10000);
	for (unsigned i = 0; i < THREADS; i++)
		let_leave();
	jobs_stop();
	assert_int_equal(world.works, 10000 + THREADS);
}

static void
runs_what_waits_before_it_stops(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(jobs_add(i % 5, work, done, NULL), ERR_OK);
	jobs_stop();
	assert_int_equal(world.works, 1000);
	assert_int_equal(jobs_add(1, work, done, NULL), ERR_UNAVAIL);
	hub_stop();
	assert_int_equal(world.dones, 1000);
	assert_int_equal(world.works, 1000);
	jobs_stop(); /* harmless */
}

#define JOBS_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		JOBS_TEST(works_in_a_thread_and_ends_in_the_hub),
		JOBS_TEST(keeps_the_order_of_a_lane),
		JOBS_TEST(runs_other_lanes_while_one_waits),
		JOBS_TEST(refuses_more_than_its_maximum),
		JOBS_TEST(runs_what_waits_before_it_stops),
	};

	return cmocka_run_group_tests_name("jobs", tests, NULL, NULL);
}
