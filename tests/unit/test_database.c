/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
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
	assert_int_equal(database_probe(db, NULL), ERR_OK);
	assert_int_equal(database_begin(other, NULL), ERR_OK);
	assert_int_equal(database_probe(db, &why), ERR_UNAVAIL);
	assert_string_not_equal(why.text, "");
	assert_int_equal(database_end(other, ERR_OK, NULL), ERR_OK);
	assert_int_equal(database_probe(db, NULL), ERR_OK);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
	assert_int_equal(database_probe(db, NULL), ERR_UNAVAIL);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &empty), 0);
	assert_int_equal(database_probe(db, NULL), ERR_OK);
	database_free(other);
	database_free(db);
	(void)unlink(path);
	assert_int_equal(rmdir(dir), 0);
}

/* ---- a log that only grows ---------------------------------------------- */

#define LOG_BYTES (64 * 1024)

static const char *const log_migrations[] = { "CREATE TABLE t (x TEXT)" };
static const char *const log_statements[] = {
	"INSERT INTO t VALUES (hex(randomblob(4096)))",
	"SELECT count(*) FROM t",
	("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
	 "SELECT sum(x) FROM n"),
};
static const struct database_schema log_schema = {
	.application_id = 1,
	.migrations = log_migrations,
	.migration_count = 1,
	.statements = log_statements,
	.statement_count = 3,
	.log_max_bytes = LOG_BYTES,
	.use_max_ms = 300,
};

/* Another program, which reads from the first byte it gets to the second. */
static void
read_without_end(const char *path, int in, int out)
{
	sqlite3 *sqlite;
	char c;

	if (read(in, &c, 1) != 1 || sqlite3_open(path, &sqlite) != SQLITE_OK ||
	    sqlite3_exec(sqlite, "BEGIN; SELECT * FROM t", NULL, NULL, NULL) !=
		SQLITE_OK ||
	    write(out, &c, 1) != 1 || read(in, &c, 1) != 1)
		_exit(1);
	_exit(sqlite3_close(sqlite) == SQLITE_OK ? 0 : 1);
}

static enum err
insert(struct database *db, struct diag *diag)
{
	enum err err = database_begin(db, diag);

	if (err != ERR_OK)
		return err;
	err = database_use(db, 0, diag);
	if (err == ERR_OK)
		err = database_finish(db, diag);
	return database_end(db, err, diag);
}

static int64_t
size_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

static void
writes_nothing_while_another_program_reads_without_end(void **state)
{
	char dir[] = "/tmp/culvert-test.XXXXXX", path[64], wal[80], c = 0;
	struct database *db;
	struct diag why = { "" };
	int to[2], from[2], status, count = 0;
	int64_t rows;
	pid_t pid;

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/db", dir);
	(void)snprintf(wal, sizeof(wal), "%s-wal", path);
	assert_int_equal(pipe2(to, O_CLOEXEC), 0);
	assert_int_equal(pipe2(from, O_CLOEXEC), 0);
	pid = fork(); /* before there is anything of SQLite's to inherit */
	if (pid == 0)
		read_without_end(path, to[0], from[1]);
	assert_int_equal(database_open(path, &log_schema, &db, NULL), ERR_OK);
	assert_int_equal(insert(db, NULL), ERR_OK);
	assert_int_equal(write(to[1], &c, 1), 1);
	assert_int_equal(read(from[0], &c, 1), 1);

	while (insert(db, &why) == ERR_OK)
		assert_true(++count < 100);
	assert_true(count > 0);
	assert_non_null(strstr(why.text, "-wal has"));
	assert_true(size_of(wal) < 2 * LOG_BYTES);
	assert_int_equal(insert(db, NULL), ERR_UNAVAIL);
	assert_int_equal(database_probe(db, NULL), ERR_UNAVAIL);
	/* what only reads is served */
	assert_int_equal(database_begin_reading(db, NULL), ERR_OK);
	assert_int_equal(database_find(db, 1, NULL, 0, NULL), ERR_OK);
	rows = database_number(db, 0);
	database_release(db);
	assert_int_equal(rows, count + 1);
	assert_int_equal(database_end(db, ERR_OK, NULL), ERR_OK);

	assert_int_equal(write(to[1], &c, 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	while (insert(db, NULL) != ERR_OK)
		(void)sched_yield(); /* it looks every now and then */
	assert_true(size_of(wal) <= LOG_BYTES);
	database_free(db);
	for (int i = 0; i < 2; i++) {
		(void)close(to[i]);
		(void)close(from[i]);
	}
	(void)unlink(path);
	assert_int_equal(rmdir(dir), 0);
}

static void
ends_what_takes_too_long(void **state)
{
	char dir[] = "/tmp/culvert-test.XXXXXX", path[64];
	struct database *db;

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/db", dir);
	assert_int_equal(database_open(path, &log_schema, &db, NULL), ERR_OK);
	assert_int_equal(database_begin_reading(db, NULL), ERR_OK);
	assert_int_equal(database_find(db, 2, NULL, 0, NULL), ERR_UNAVAIL);
	assert_int_equal(database_end(db, ERR_UNAVAIL, NULL), ERR_UNAVAIL);
	/* and is as before */
	assert_int_equal(insert(db, NULL), ERR_OK);
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
		cmocka_unit_test(
		    writes_nothing_while_another_program_reads_without_end),
		cmocka_unit_test(ends_what_takes_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
