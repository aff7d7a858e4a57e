/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "broker/store/database.h"

static atomic_int waiter; /* its thread's number; 0: it does not wait yet */
static atomic_bool served;

static void *
use_once(void *arg)
{
	struct database *db = arg;

	atomic_store(&waiter, gettid());
	if (database_enter(db, NULL) != ERR_OK)
		return NULL;
	atomic_store(&served, true);
	database_leave(db);
	return db;
}

/* Until the thread sleeps, which is until it stands in the row. */
static void
await_sleep(void)
{
	char path[64], line[64] = "";
	FILE *f;

	while (atomic_load(&waiter) == 0)
		(void)sched_yield();
	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/stat",
	    atomic_load(&waiter));
	while (strstr(line, ") S ") == NULL) {
		(void)sched_yield();
		f = fopen(path, "re");
		assert_non_null(f);
		assert_non_null(fgets(line, sizeof(line), f));
		(void)fclose(f);
	}
}

static void
lets_in_who_waits_before_who_comes_back(void **state)
{
	static const struct database_schema schema = { .application_id = 1 };
	char dir[] = "/tmp/culvert-test.XXXXXX", path[64];
	struct database *db;
	pthread_t thread;
	void *ok;

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/db", dir);
	assert_int_equal(database_open(path, &schema, &db, NULL), ERR_OK);
	assert_int_equal(database_enter(db, NULL), ERR_OK);
	for (int i = 0; i < 20; i++) {
		atomic_store(&waiter, 0);
		atomic_store(&served, false);
		assert_int_equal(pthread_create(&thread, NULL, use_once, db),
		    0);
		await_sleep();
		database_leave(db);
		assert_int_equal(database_enter(db, NULL), ERR_OK);
		assert_true(atomic_load(&served));
		assert_int_equal(pthread_join(thread, &ok), 0);
		assert_non_null(ok);
	}
	database_leave(db);
	database_free(db);
	(void)unlink(path);
	assert_int_equal(rmdir(dir), 0);
}

/* A probe of a file that another has locked, that is full, and then neither. */
static void
a_probe_says_whether_it_can_be_written_to(void **state)
{
	static const struct database_schema schema = { .application_id = 1 };
	const struct rlimit full = { 4096, RLIM_INFINITY };
	const struct rlimit empty = { RLIM_INFINITY, RLIM_INFINITY };
	char dir[] = "/tmp/culvert-test.XXXXXX", path[64];
	struct database *db, *other;
	struct diag why = { "" };

	(void)state;
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/db", dir);
	assert_int_equal(database_open(path, &schema, &db, NULL), ERR_OK);
	assert_int_equal(database_open(path, &schema, &other, NULL), ERR_OK);
	assert_int_equal(database_probe(db, 1 << 30, NULL), ERR_OK);
	assert_int_equal(database_begin(other, NULL), ERR_OK);
	assert_int_equal(database_probe(db, 1 << 30, &why), ERR_UNAVAIL);
	assert_string_not_equal(why.text, "");
	assert_int_equal(database_end(other, ERR_OK, NULL), ERR_OK);
	assert_int_equal(database_probe(db, 1 << 30, NULL), ERR_OK);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
	assert_int_equal(database_probe(db, 1 << 30, NULL), ERR_UNAVAIL);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &empty), 0);
	assert_int_equal(database_probe(db, 1 << 30, NULL), ERR_OK);
	/* and one whose log is too long */
	assert_int_equal(database_probe(db, 100, &why), ERR_UNAVAIL);
	assert_non_null(strstr(why.text, "-wal has"));
	database_free(other);
	database_free(db);
	(void)unlink(path);
	assert_int_equal(rmdir(dir), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lets_in_who_waits_before_who_comes_back),
		cmocka_unit_test(a_probe_says_whether_it_can_be_written_to),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
