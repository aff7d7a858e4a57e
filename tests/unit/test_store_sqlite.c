/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/store/store_sqlite.h"
#include "common/clock.h"
#include "common/xalloc.h"
#include "store_conformance.h"

#define NOW	  1767225600
#define PROCESSES 6

/* What is written is only read. */
#define TEXT(s) ((char *)(uintptr_t)(s))

#define OPS(store, verb, ...) (store)->ops->verb((store), __VA_ARGS__)

static char dir[64], path[96];
static struct store_pair pair;

static struct store *
open_store(void)
{
	struct store *store;
	struct diag diag = { "" };

	if (store_sqlite_open(path, &store, &diag) != ERR_OK)
		fail_msg("%s", diag.text);
	return store;
}

static void
close_store(struct store **store)
{
	if (*store != NULL)
		(*store)->ops->close(*store);
	*store = NULL;
}

static int
make_dir(void **state)
{
	(void)strcpy(dir, "/tmp/culvert-test.XXXXXX");
	(void)snprintf(path, sizeof(path), "%s/culvert.db",
	    mkdtemp(dir) == NULL ? "" : dir);
	*state = &pair;
	return 0;
}

static int
remove_dir(void **state)
{
	struct dirent *entry;
	DIR *d;

	(void)state;
	close_store(&pair.one);
	close_store(&pair.other);
	d = opendir(dir);
	while ((entry = readdir(d)) != NULL)
		(void)unlinkat(dirfd(d), entry->d_name, 0);
	(void)closedir(d);
	return rmdir(dir);
}

static int
open_pair(void **state)
{
	(void)make_dir(state);
	pair.one = open_store();
	pair.other = open_store();
	return 0;
}

/* Run SQL on the file, past the store. */
static void
sql(const char *text)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s", sqlite3_errmsg(db));
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static enum err
add(struct store *store, int64_t n, const char *raw)
{
	const struct store_usage row = {
		.lease = TEXT("lease"),
		.n = n,
		.session = TEXT("s"),
		.route = TEXT("openai"),
		.event = TEXT("response.done"),
		.at = NOW,
		.raw = TEXT(raw),
	};

	return OPS(store, add_usage, &row, 1, NULL);
}

static uint64_t
count_events(struct store *store)
{
	struct store_sums sums;
	uint64_t count;

	assert_int_equal(OPS(store, sum_usage, 0, INT64_MAX, &sums, NULL),
	    ERR_OK);
	count = sums.count == 0 ? 0 : sums.items[0].events;
	store_sums_done(&sums);
	return count;
}

static unsigned
mode_of(const char *suffix)
{
	char file[128];
	struct stat st;

	(void)snprintf(file, sizeof(file), "%s%s", path, suffix);
	assert_int_equal(stat(file, &st), 0);
	return st.st_mode & 07777;
}

static unsigned
count_files(void)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	while (readdir(d) != NULL)
		n++;
	(void)closedir(d);
	return n - 2; /* . and .. */
}

static void
write_file(const char *text, size_t len, mode_t mode)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

/* ---- the file ---------------------------------------------------------- */

static void
keeps_its_files_to_itself(void **state)
{
	mode_t old = umask(0);

	(void)state;
	pair.one = open_store();
	assert_int_equal(add(pair.one, 1, "{}"), ERR_OK);
	(void)umask(old);
	assert_int_equal(mode_of(""), 0600);
	assert_int_equal(mode_of("-wal"), 0600);
	assert_int_equal(mode_of("-shm"), 0600);
}

static void
closes_a_file_that_others_could_read(void **state)
{
	(void)state;
	write_file("", 0, 0644);
	pair.one = open_store();
	assert_int_equal(mode_of(""), 0600);
}

static void
finds_everything_again_after_a_restart(void **state)
{
	struct store *store = open_store();

	(void)state;
	assert_int_equal(add(store, 1, "{}"), ERR_OK);
	close_store(&store);
	assert_int_equal(count_files(), 1);
	pair.one = open_store();
	assert_int_equal(count_events(pair.one), 1);
}

static void
refuse(const char *reason)
{
	struct store *store = NULL;
	struct diag diag = { "" }, why = { "" };
	enum err err = store_sqlite_open(path, &store, &diag);

	assert_int_equal(err, ERR_SYS);
	assert_null(store);
	if (strstr(diag.text, reason) == NULL)
		fail_msg("%s", diag.text);
	assert_int_equal(store_sqlite_check(path, &why), ERR_SYS);
	if (strstr(why.text, reason) == NULL)
		fail_msg("%s", why.text);
}

static void
refuses_a_newer_schema(void **state)
{
	struct store *store = open_store();

	(void)state;
	close_store(&store);
	sql("PRAGMA user_version = 99");
	refuse("a newer version of this program has used this database");
	sql("PRAGMA user_version = 2");
	pair.one = open_store();
}

static void
refuses_what_is_not_its_own(void **state)
{
	static const char garbage[8192] = "these are not the tables you want";
	struct store *store;

	(void)state;
	write_file(garbage, sizeof(garbage), 0600);
	refuse("file is not a database");
	assert_int_equal(unlink(path), 0);
	sql("CREATE TABLE t (a)");
	refuse("another program's");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(store_sqlite_open(path, &store, NULL), ERR_SYS);
	assert_int_equal(rmdir(path), 0);
}

static void
needs_its_folder(void **state)
{
	struct store *store;
	struct diag diag = { "" };

	(void)state;
	(void)strcat(path, ".d/culvert.db");
	assert_int_equal(store_sqlite_open(path, &store, &diag), ERR_SYS);
	assert_non_null(strstr(diag.text, "No such file or directory"));
	assert_int_equal(store_sqlite_check(path, &diag), ERR_SYS);
	assert_non_null(strstr(diag.text, "there is no such folder"));
}

static void
checks_without_leaving_a_trace(void **state)
{
	struct diag diag = { "" };

	(void)state;
	assert_int_equal(store_sqlite_check(path, &diag), ERR_OK);
	assert_int_equal(count_files(), 0);
	pair.one = open_store();
	assert_int_equal(add(pair.one, 1, "{}"), ERR_OK);
	/* while it is in use, and all of it is in the -wal */
	assert_int_equal(store_sqlite_check(path, &diag), ERR_OK);
	close_store(&pair.one);
	assert_int_equal(count_files(), 1);
	assert_int_equal(store_sqlite_check(path, &diag), ERR_OK);
	assert_int_equal(count_files(), 1);
}

static void
never_changes_a_row_of_the_ledger(void **state)
{
	static const char *const orders[] = {
		"UPDATE usage SET input_text = 0",
		"DELETE FROM usage",
	};
	sqlite3 *db;

	(void)state;
	pair.one = open_store();
	assert_int_equal(add(pair.one, 1, "{}"), ERR_OK);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(sqlite3_exec(db, orders[i], NULL, NULL, NULL),
		    SQLITE_CONSTRAINT);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	assert_int_equal(count_events(pair.one), 1);
}

static void
keeps_no_more_tickets_than_its_maximum(void **state)
{
	const struct store_ticket in = {
		.id = TEXT("x"),
		.route = TEXT("openai"),
		.created = NOW,
		.expires = NOW + 60,
	};
	char *fill =
	    xasprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL "
		      "SELECT i + 1 FROM n WHERE i < %d) "
		      "INSERT INTO ticket (id, route, created, expires)"
		      " SELECT 't' || i, 'openai', %d, %d FROM n",
		STORE_TICKETS_MAX, NOW, NOW + 1);
	struct diag diag = { "" };

	(void)state;
	pair.one = open_store();
	sql(fill);
	free(fill);
	assert_int_equal(OPS(pair.one, put_ticket, &in, &diag), ERR_UNAVAIL);
	assert_non_null(strstr(diag.text, "short-lived keys"));
	/* the others go on, and there is room when some have expired */
	assert_int_equal(add(pair.one, 1, "{}"), ERR_OK);
	assert_int_equal(OPS(pair.one, expire, NOW + 1, NULL), ERR_OK);
	assert_int_equal(OPS(pair.one, put_ticket, &in, NULL), ERR_OK);
}

/* ---- faults ------------------------------------------------------------ */

static void
is_unavailable_while_it_is_locked(void **state)
{
	struct store_anam out;
	struct store *store;
	sqlite3 *db;

	(void)state;
	pair.one = open_store();
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL),
	    SQLITE_OK);
	assert_int_equal(add(pair.one, 1, "{}"), ERR_UNAVAIL);
	assert_int_equal(OPS(pair.one, expire, NOW, NULL), ERR_UNAVAIL);
	/* readers do not mind */
	assert_int_equal(OPS(pair.one, get_anam, "a", NOW, &out, NULL),
	    ERR_NOTFOUND);
	assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL),
	    SQLITE_OK);
	assert_int_equal(add(pair.one, 1, "{}"), ERR_OK);
	close_store(&pair.one);
	assert_int_equal(sqlite3_exec(db,
			     "PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE",
			     NULL, NULL, NULL),
	    SQLITE_OK);
	assert_int_equal(store_sqlite_open(path, &store, NULL), ERR_UNAVAIL);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	pair.one = open_store();
	assert_int_equal(count_events(pair.one), 1);
}

static atomic_bool enough;

static void *
add_until_enough(void *arg)
{
	while (!atomic_load(&enough))
		if (add(arg, 1, "{}") != ERR_UNAVAIL)
			return NULL;
	return arg;
}

static void
lets_no_reader_wait_for_a_writer_that_waits(void **state)
{
	int64_t began_ms;
	struct store_anam out;
	pthread_t thread;
	sqlite3 *db;
	void *ok;

	(void)state;
	pair.one = open_store();
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL),
	    SQLITE_OK);
	assert_int_equal(pthread_create(&thread, NULL, add_until_enough,
			     pair.one),
	    0);
	began_ms = clock_ms();
	/* each would wait for up to 250 ms */
	for (int i = 0; i < 200; i++)
		assert_int_equal(OPS(pair.one, get_anam, "a", NOW, &out, NULL),
		    ERR_NOTFOUND);
	assert_true(clock_ms() - began_ms < 10000);
	atomic_store(&enough, true);
	assert_int_equal(pthread_join(thread, &ok), 0);
	assert_non_null(ok);
	assert_int_equal(sqlite3_close_v2(db), SQLITE_OK);
}

static enum err
add_large(struct store *store, int64_t n)
{
	static char raw[65536];

	(void)memset(raw, 'x', sizeof(raw) - 1);
	return add(store, n, raw);
}

/*
 * Add rows until none fits, even where what is in the -wal goes into the file;
 * returns how many did.
 */
static int64_t
fill(struct store *store)
{
	int64_t n = 0;

	for (int failures = 0; failures < 3 && n < 1000;) {
		enum err err = add_large(store, n + 1);

		assert_true(err == ERR_OK || err == ERR_UNAVAIL);
		failures = err == ERR_OK ? 0 : failures + 1;
		n += err == ERR_OK;
	}
	assert_in_range(n, 1, 999);
	return n;
}

static void
heals_when_writing_works_again(void **state)
{
	struct rlimit old, small = { .rlim_cur = 300000 };
	int64_t n;

	(void)state;
	(void)signal(SIGXFSZ, SIG_IGN);
	pair.one = open_store();
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	n = fill(pair.one);
	assert_int_equal(add_large(pair.one, n + 1), ERR_UNAVAIL);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(add_large(pair.one, n + 1), ERR_OK);
	assert_int_equal(count_events(pair.one), n + 1);
}

static void
heals_when_the_disk_has_room_again(void **state)
{
	static char filler[1 << 16];
	char name[96];
	int64_t n;
	FILE *f;

	(void)state;
	if (unshare(CLONE_NEWNS) == -1 ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == -1 ||
	    mount("none", dir, "tmpfs", 0, "size=2m") == -1) {
		print_message("a small disk needs root: %s\n", strerror(errno));
		return; /* skip() counts as failed */
	}
	(void)snprintf(name, sizeof(name), "%s/filler", dir);
	f = fopen(name, "w");
	assert_non_null(f);
	for (int i = 0; i < 16; i++)
		assert_int_equal(fwrite(filler, sizeof(filler), 1, f), 1);
	assert_int_equal(fclose(f), 0);
	pair.one = open_store();
	n = fill(pair.one);
	assert_int_equal(add_large(pair.one, n + 1), ERR_UNAVAIL);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(add_large(pair.one, n + 1), ERR_OK);
	assert_int_equal(count_events(pair.one), n + 1);
	close_store(&pair.one);
	assert_int_equal(umount2(dir, MNT_DETACH), 0);
}

static void
follows_a_file_that_was_replaced(void **state)
{
	char kept[128];

	(void)state;
	pair.one = open_store();
	assert_int_equal(add(pair.one, 1, "{}"), ERR_OK);
	assert_int_equal(add(pair.one, 2, "{}"), ERR_OK);
	sql("PRAGMA wal_checkpoint(TRUNCATE)");
	(void)snprintf(kept, sizeof(kept), "%s.kept", path);
	assert_int_equal(rename(path, kept), 0);
	assert_int_equal(add(pair.one, 3, "{}"), ERR_OK); /* in a new file */
	assert_int_equal(count_events(pair.one), 1);
	sql("PRAGMA wal_checkpoint(TRUNCATE)");
	assert_int_equal(rename(kept, path), 0);
	assert_int_equal(count_events(pair.one), 2);
	assert_int_equal(add(pair.one, 3, "{}"), ERR_OK);
	assert_int_equal(count_events(pair.one), 3);
}

/* As a plain CGI program: each makes the file, if it is the first. */
static void
is_shared_by_processes_from_the_beginning(void **state)
{
	int gate[2], status;
	char c;

	(void)state;
	assert_int_equal(pipe(gate), 0);
	for (int i = 1; i <= PROCESSES; i++) {
		pid_t pid = fork();
		struct store *store;
		struct diag diag;

		assert_int_not_equal(pid, -1);
		if (pid != 0)
			continue;
		(void)close(gate[1]);
		(void)read(gate[0], &c, 1); /* all at once */
		if (store_sqlite_open(path, &store, &diag) != ERR_OK) {
			print_error("%s\n", diag.text);
			_exit(1);
		}
		while (add(store, i, "{}") == ERR_UNAVAIL)
			;
		store->ops->close(store);
		_exit(0);
	}
	(void)close(gate[0]);
	(void)close(gate[1]);
	for (int i = 0; i < PROCESSES; i++) {
		assert_int_not_equal(wait(&status), -1);
		assert_int_equal(status, 0);
	}
	pair.one = open_store();
	assert_int_equal(count_events(pair.one), PROCESSES);
}

#define CONFORMS(name) \
	cmocka_unit_test_setup_teardown(name, open_pair, remove_dir),
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_CONFORMANCE_LIST(CONFORMS)
		    TEST(keeps_its_files_to_itself),
		TEST(closes_a_file_that_others_could_read),
		TEST(finds_everything_again_after_a_restart),
		TEST(refuses_a_newer_schema),
		TEST(refuses_what_is_not_its_own),
		TEST(needs_its_folder),
		TEST(checks_without_leaving_a_trace),
		TEST(never_changes_a_row_of_the_ledger),
		TEST(keeps_no_more_tickets_than_its_maximum),
		TEST(is_unavailable_while_it_is_locked),
		TEST(lets_no_reader_wait_for_a_writer_that_waits),
		TEST(heals_when_writing_works_again),
		TEST(heals_when_the_disk_has_room_again),
		TEST(follows_a_file_that_was_replaced),
		TEST(is_shared_by_processes_from_the_beginning),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
