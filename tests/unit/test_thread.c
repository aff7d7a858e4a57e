/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/thread.h"

static void *
give_back(void *arg)
{
	sigset_t mask;

	if (pthread_sigmask(SIG_SETMASK, NULL, &mask) != 0 ||
	    sigismember(&mask, SIGTERM) != 1 || sigismember(&mask, SIGHUP) != 1)
		return NULL;
	return arg;
}

static void
a_thread_takes_no_signals_and_its_starter_still_does(void **state)
{
	struct diag diag = { "" };
	pthread_t thread;
	sigset_t mask;
	void *result;

	(void)state;
	assert_int_equal(thread_start(&thread, "name", give_back, &diag, &diag),
	    ERR_OK);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_ptr_equal(result, &diag);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
	assert_int_equal(sigismember(&mask, SIGTERM), 0);
	assert_string_equal(diag.text, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    a_thread_takes_no_signals_and_its_starter_still_does),
	};

	return cmocka_run_group_tests_name("thread", tests, NULL, NULL);
}
