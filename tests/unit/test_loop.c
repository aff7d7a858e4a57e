/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/loop.h"

/* A loop, a pair of sockets of which one end is watched, and what came. */
struct fixture {
	struct loop *loop;
	int fds[2];
	struct loop_watch *watch;
	struct loop_timer *timer, *other;
	int calls, reads, writes, expired;
	char order[8];
	size_t order_len;
};

static void
count(void *arg, bool readable, bool writable)
{
	struct fixture *f = arg;

	f->calls++;
	f->reads += readable;
	f->writes += writable;
	loop_stop(f->loop);
}

static void
expire(void *arg)
{
	struct fixture *f = arg;

	f->expired++;
	loop_stop(f->loop);
}

static int
set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_int_equal(loop_new(&f->loop, NULL), ERR_OK);
	assert_int_equal(loop_begin(f->loop), ERR_OK);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0,
			     f->fds),
	    0);
	f->watch = loop_watch_new(f->loop, f->fds[0], count, f);
	f->timer = loop_timer_new(f->loop, expire, f);
	*state = f;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;

	loop_watch_free(f->watch);
	loop_timer_free(f->timer);
	loop_timer_free(f->other);
	loop_free(f->loop);
	(void)close(f->fds[0]);
	(void)close(f->fds[1]);
	free(f);
	return 0;
}

static void
calls_back_for_what_is_wanted_only(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(write(f->fds[1], "x", 1), 1);
	loop_watch_set(f->watch, false, true);
	assert_int_equal(loop_run(f->loop), ERR_OK);
	assert_int_equal(f->reads, 0);
	assert_int_equal(f->writes, 1);
	loop_watch_set(f->watch, true, false);
	/* level-triggered: what is not read comes again */
	assert_int_equal(loop_run(f->loop), ERR_OK);
	assert_int_equal(loop_run(f->loop), ERR_OK);
	assert_int_equal(f->reads, 2);
	assert_int_equal(f->writes, 1);
}

static void
a_hang_up_waits_until_something_is_wanted(void **state)
{
	struct fixture *f = *state;
	char c;

	assert_int_equal(write(f->fds[1], "x", 1), 1);
	(void)close(f->fds[1]);
	f->fds[1] = -1;
	loop_watch_set(f->watch, true, false);
	loop_watch_set(f->watch, false, false);
	loop_timer_set(f->timer, 20);
	assert_int_equal(loop_run(f->loop), ERR_OK);
	assert_int_equal(f->expired, 1);
	assert_int_equal(f->reads + f->writes, 0);
	/* nothing is lost: the byte, then the end */
	loop_watch_set(f->watch, true, false);
	assert_int_equal(loop_run(f->loop), ERR_OK);
	assert_int_equal(read(f->fds[0], &c, 1), 1);
	assert_int_equal(loop_run(f->loop), ERR_OK);
	assert_int_equal(read(f->fds[0], &c, 1), 0);
	assert_int_equal(f->reads, 2);
	loop_watch_set(f->watch, false, true);
	assert_int_equal(loop_run(f->loop), ERR_OK);
	assert_int_equal(f->writes, 1);
}

static void
a_hang_up_is_told_once_where_that_is_asked_for(void **state)
{
	struct fixture *f = *state;

	loop_watch_tell_hangup(f->watch);
	loop_watch_set(f->watch, false, false);
	assert_int_equal(write(f->fds[1], "x", 1), 1);
	(void)shutdown(f->fds[1], SHUT_RDWR);
	assert_int_equal(loop_run(f->loop), ERR_OK);
	assert_int_equal(f->calls, 1);
	loop_watch_set(f->watch, false, false);
	loop_timer_set(f->timer, 10);
	assert_int_equal(loop_run(f->loop), ERR_OK);
	assert_int_equal(f->expired, 1);
	assert_int_equal(f->calls, 1);
	assert_int_equal(f->reads + f->writes, 0);
	loop_watch_set(f->watch, true, false);
	assert_int_equal(loop_run(f->loop), ERR_OK);
	assert_int_equal(f->reads, 1);
}

static void
a_kick_calls_back_once_without_waiting(void **state)
{
	struct fixture *f = *state;

	loop_watch_set(f->watch, true, false);
	loop_watch_kick(f->watch);
	loop_watch_kick(f->watch);
	assert_int_equal(loop_run(f->loop), ERR_OK);
	loop_timer_set(f->timer, 5);
	assert_int_equal(loop_run(f->loop), ERR_OK);
	assert_int_equal(f->reads, 1);
	assert_int_equal(f->expired, 1);
	/* not where reading is not wanted */
	loop_watch_set(f->watch, false, false);
	loop_watch_kick(f->watch);
	loop_timer_set(f->timer, 5);
	assert_int_equal(loop_run(f->loop), ERR_OK);
	assert_int_equal(f->reads, 1);
}

static void
free_itself(void *arg, bool readable, bool writable)
{
	struct fixture *f = arg;

	count(f, readable, writable);
	loop_watch_free(f->watch);
	f->watch = NULL;
}

static void
may_be_freed_by_its_own_callback(void **state)
{
	struct fixture *f = *state;

	loop_watch_bind(f->watch, free_itself, f);
	loop_watch_set(f->watch, true, true);
	loop_watch_kick(f->watch);
	assert_int_equal(loop_run(f->loop), ERR_OK);
	assert_null(f->watch);
	loop_timer_set(f->timer, 0);
	assert_int_equal(loop_run(f->loop), ERR_OK);
	assert_int_equal(f->reads, 1);
}

static void
on_order(void *arg)
{
	struct fixture *f = ((void **)arg)[0];

	f->order[f->order_len++] = *(const char *)((void **)arg)[1];
	if (f->order_len == 6)
		loop_stop(f->loop);
}

static void
timers_expire_in_the_order_of_their_times(void **state)
{
	static const int times[7] = { 12, 3, 9, 1, 15, 6, 4 };
	static const char names[7] = "abcdefg";
	struct fixture *f = *state;
	struct loop_timer *timers[7];
	const void *args[7][2];

	for (int i = 0; i < 7; i++) {
		args[i][0] = f;
		args[i][1] = &names[i];
		timers[i] = loop_timer_new(f->loop, on_order, args[i]);
		loop_timer_set(timers[i], 1000 + i);
	}
	for (int i = 0; i < 7; i++)
		loop_timer_set(timers[i], times[i]);
	loop_timer_stop(timers[2]);
	assert_int_equal(loop_run(f->loop), ERR_OK);
	assert_memory_equal(f->order, "dbgfae", 6);
	for (int i = 0; i < 7; i++)
		loop_timer_free(timers[i]);
}

static void
rearm(void *arg)
{
	struct fixture *f = arg;

	/* for ever, if it could */
	f->expired++;
	loop_timer_set(f->other, 0);
}

static void
a_timer_that_rearms_itself_starves_nobody(void **state)
{
	struct fixture *f = *state;

	f->other = loop_timer_new(f->loop, rearm, f);
	loop_timer_set(f->other, 0);
	assert_int_equal(write(f->fds[1], "x", 1), 1);
	loop_watch_set(f->watch, true, false);
	assert_int_equal(loop_run(f->loop), ERR_OK);
	assert_int_equal(f->reads, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		TEST(calls_back_for_what_is_wanted_only),
		TEST(a_hang_up_waits_until_something_is_wanted),
		TEST(a_hang_up_is_told_once_where_that_is_asked_for),
		TEST(a_kick_calls_back_once_without_waiting),
		TEST(may_be_freed_by_its_own_callback),
		TEST(timers_expire_in_the_order_of_their_times),
		TEST(a_timer_that_rearms_itself_starves_nobody),
#undef TEST
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
