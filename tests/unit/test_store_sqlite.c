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

#define PROCESSES 6

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

/* The number that a query of the file, past the store, has as its answer. */
static int64_t
number(const char *text)
{
	sqlite3_stmt *stmt;
	sqlite3 *db;
	int64_t ret;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_prepare_v2(db, text, -1, &stmt, NULL) != SQLITE_OK)
		fail_msg("%s", sqlite3_errmsg(db));
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	ret = sqlite3_column_int64(stmt, 0);
	assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	return ret;
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

/* The schema as it was released first, and each version since. */
static const char *const migrations[] = {
#define MIGRATION(sql) sql,
#include "broker/store/store_sqlite_base.def"
};
#define VERSIONS (sizeof(migrations) / sizeof(migrations[0]))

static void
set_version(size_t version)
{
	char *text = xasprintf("PRAGMA application_id = 0x43554c56;"
			       "PRAGMA user_version = %zu",
	    version);

	sql(text);
	free(text);
}

static void
refuses_a_newer_schema(void **state)
{
	struct store *store = open_store();

	(void)state;
	close_store(&store);
	sql("PRAGMA user_version = 99");
	refuse("a newer version of this program has used this database");
	set_version(VERSIONS);
	pair.one = open_store();
}

static void
takes_over_a_file_of_version_1(void **state)
{
	struct store_anam session;
	char *first = xasprintf("%s"
				"PRAGMA application_id = 0x43554c56;"
				"PRAGMA user_version = 1;"
				"INSERT INTO anam VALUES ('id', 'ann', 'p',"
				"  'jti', '{\"a\":1}', %d, %d);"
				"INSERT INTO usage VALUES ('l', 1, 's', 'r',"
				"  NULL, NULL, 'e', NULL, NULL, %d,"
				"  1, 2, 3, 4, 5, 6, 7, 8, 9, 0.5, '{}')",
	    migrations[0], NOW, NOW + 60, NOW);
	struct diag diag = { "" };

	(void)state;
	sql(first);
	free(first);
	assert_ok(store_sqlite_check(path, &diag), &diag);
	pair.one = open_store();
	assert_ok(OPS(pair.one, get_anam, "id", NOW, &session, &diag), &diag);
	assert_string_equal(session.user, "ann");
	store_anam_done(&session);
	assert_int_equal(count_events(pair.one), 1);
	say(pair.one, NULL, 1, "Hello", "Hi");
	assert_int_equal(number("PRAGMA user_version"), VERSIONS);
}

static void
takes_over_the_tickets_of_version_2(void **state)
{
	struct store_ticket ticket;
	struct diag diag = { "" };
	char *row = xasprintf("INSERT INTO ticket VALUES ('id', 'openai', "
			      "'ann', 'm', '{\"a\":1}', %d, %d)",
	    NOW, NOW + 60);

	(void)state;
	sql(migrations[0]);
	sql(migrations[1]);
	sql(row);
	free(row);
	set_version(2);
	pair.one = open_store();
	assert_ok(OPS(pair.one, get_ticket, "id", NOW, &ticket, &diag), &diag);
	assert_string_equal(ticket.user, "ann");
	assert_null(ticket.plan);
	assert_null(ticket.address);
	assert_null(ticket.origin);
	assert_false(ticket.once);
	assert_false(ticket.spent);
	store_ticket_done(&ticket);
	assert_int_equal(number("PRAGMA user_version"), VERSIONS);
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
never_changes_what_was_booked(void **state)
{
	static const char *const orders[] = {
		"UPDATE usage SET input_text = 0",
		"DELETE FROM usage",
		"UPDATE account_entry SET amount = 0",
		"DELETE FROM account_entry",
		"INSERT INTO account_entry VALUES (1, 'x', 'ann', -501, 0)",
		"INSERT INTO account_entry VALUES (0, 'id', 'ann', 1, 0)",
	};
	struct store_account account;
	sqlite3 *db;

	(void)state;
	pair.one = open_store();
	assert_int_equal(add(pair.one, 1, "{}"), ERR_OK);
	assert_int_equal(OPS(pair.one, top_up,
			     (&(const struct store_top_up){
				 .id = "id",
				 .user = "ann",
				 .amount = 500,
			     }),
			     &account, NULL),
	    ERR_OK);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++)
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
	assert_non_null(strstr(diag.text, "tickets"));
	/* the others go on, and there is room when some have expired */
	assert_int_equal(add(pair.one, 1, "{}"), ERR_OK);
	expire_at(pair.one, NOW + 1);
	assert_int_equal(OPS(pair.one, put_ticket, &in, NULL), ERR_OK);
}

static void
leaves_room_for_tickets_of_others(void **state)
{
	struct store_ticket in = {
		.id = TEXT("x"),
		.route = TEXT("openai"),
		.created = NOW,
		.expires = NOW + 60,
	};
	static const char *const users[] = { NULL, "ann" };
	struct diag diag = { "" };

	(void)state;
	pair.one = open_store();
	for (int i = 0; i < 2; i++) {
		char *fill = xasprintf(
		    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL "
		    "SELECT i + 1 FROM n WHERE i < %d) "
		    "INSERT INTO ticket (id, route, user, created, expires)"
		    " SELECT '%d-' || i, 'openai', %s, %d, %d FROM n",
		    STORE_TICKETS_MAX / (i == 0 ? 2 : 4) - 1, i,
		    i == 0 ? "NULL" : "'ann'", NOW, NOW + 1);

		sql(fill);
		free(fill);
		/* the last one that he may have, and one more */
		in.user = TEXT(users[i]);
		in.id = i == 0 ? TEXT("a") : TEXT("b");
		assert_int_equal(OPS(pair.one, put_ticket, &in, &diag), ERR_OK);
		in.id = TEXT("x");
		assert_int_equal(OPS(pair.one, put_ticket, &in, &diag),
		    i == 0 ? ERR_UNAVAIL : ERR_RATE);
		assert_non_null(strstr(diag.text, "are there already"));
	}
	in.user = TEXT("bob");
	assert_int_equal(OPS(pair.one, put_ticket, &in, &diag), ERR_OK);
}

static void
forgets_all_of_a_chat_but_what_was_paid(void **state)
{
	struct store_usage usage = {
		.lease = TEXT("g1"),
		.n = 1,
		.session = TEXT("c1"),
		.route = TEXT("chat"),
		.event = TEXT("chat.completion"),
		.at = NOW,
		.raw = TEXT("{}"),
	};
	const struct store_top_up top_up = { "t", "ann", 100, NOW };
	const struct store_piece piece = { "g1", 1, 1, "event\n\n", "Hi" };
	struct store_expiry expiry = { .now = NOW + 9, .user_keep_s = 1 };
	struct store_finish last = ending("g1", "Hi");
	struct store_account account;
	struct beginning one;

	(void)state;
	pair.one = open_store();
	assert_int_equal(OPS(pair.one, top_up, &top_up, &account, NULL),
	    ERR_OK);
	beginning_init(&one, NULL, 1);
	one.in.user = "ann";
	one.in.key = "key";
	one.in.digest = "digest";
	assert_int_equal(try_begin(pair.one, &one.in), ERR_OK);
	assert_int_equal(OPS(pair.one, add_pieces, &piece, 1, NULL), ERR_OK);
	last.usage = &usage;
	last.charge = 30;
	assert_int_equal(end(pair.one, &last).charged, 30);
	expire(pair.one, &expiry);
	assert_int_equal(number("SELECT (SELECT count(*) FROM chat) + "
				"(SELECT count(*) FROM message) + "
				"(SELECT count(*) FROM generation) + "
				"(SELECT count(*) FROM piece)"),
	    0);
	expire_at(pair.one, NOW + 60);
	assert_int_equal(number("SELECT count(*) FROM idempotency"), 0);
	assert_int_equal(number("SELECT count(*) FROM usage"), 1);
	assert_int_equal(number("SELECT count(*) FROM account_entry"), 2);
	assert_int_equal(number("SELECT balance FROM account"), 70);
}

/*
 * Many small chats at a time, and of large ones no more than one: whoever waits
 * for the store does not wait long.
 */
static void
forgets_some_chats_at_a_time(void **state)
{
	const struct store_expiry expiry = { .now = NOW, .user_keep_s = 1 };
	bool more = false;

	(void)state;
	pair.one = open_store();
	sql("INSERT INTO chat (id, owner, title, created, updated, turns) "
	    "SELECT value, 'u:ann', '', 0, value, iif(value < 4, 2000, 2) "
	    "FROM (WITH RECURSIVE n (value) AS (VALUES (1) UNION ALL "
	    "SELECT value + 1 FROM n WHERE value < 100) SELECT value FROM n)");
	for (int left = 99; left >= 97; left--) {
		assert_int_equal(OPS(pair.one, expire, &expiry, &more, NULL),
		    ERR_OK);
		assert_true(more);
		assert_int_equal(number("SELECT count(*) FROM chat"), left);
	}
	assert_int_equal(OPS(pair.one, expire, &expiry, &more, NULL), ERR_OK);
	assert_in_range(number("SELECT count(*) FROM chat"), 10, 90);
	expire(pair.one, &expiry);
	assert_int_equal(number("SELECT count(*) FROM chat"), 0);
}

/* ---- faults ------------------------------------------------------------ */

static void
is_unavailable_while_it_is_locked(void **state)
{
	const struct store_expiry expiry = { .now = NOW };
	struct store_anam out;
	struct store *store;
	sqlite3 *db;
	bool more;

	(void)state;
	pair.one = open_store();
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL),
	    SQLITE_OK);
	assert_int_equal(add(pair.one, 1, "{}"), ERR_UNAVAIL);
	assert_int_equal(OPS(pair.one, expire, &expiry, &more, NULL),
	    ERR_UNAVAIL);
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
	assert_true(clock_ms() - began_ms < 25000);
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

/* Respond until the budget is used up, as one of several brokers would. */
static int
spend_budget(int64_t process, const struct store_budgets *budgets)
{
	struct store_budget_state now;
	char id[32];
	struct store *store = open_store();
	struct store_usage row = {
		.session = TEXT("s"),
		.route = TEXT("openai"),
		.event = TEXT("response.done"),
		.at = NOW,
		.raw = TEXT("{}"),
		.total_tokens = 70,
		.subjects = { TEXT("u:ann") },
	};
	const struct store_reserve in = { .id = id,
		.budgets = *budgets,
		.tokens = 100,
		.now = NOW,
		.expires = NOW + 60 };
	enum err err;

	for (row.n = 1;; row.n++) {
		(void)snprintf(id, sizeof(id), "%d:%d", (int)process,
		    (int)row.n);
		row.lease = row.reservation = id;
		while (
		    (err = OPS(store, reserve, &in, &now, NULL)) == ERR_AGAIN ||
		    err == ERR_UNAVAIL)
			(void)sched_yield();
		if (err != ERR_OK)
			break;
		while (
		    (err = OPS(store, add_usage, &row, 1, NULL)) == ERR_UNAVAIL)
			;
		if (err != ERR_OK)
			break;
	}
	close_store(&store);
	return err == ERR_BUDGET ? 0 : 1;
}

static void
overshoots_a_budget_by_one_for_many_processes(void **state)
{
	const struct store_budgets budgets = {
		.items = { { .subject = "u:ann", .max_tokens = 20000 } },
		.count = 1,
	};
	struct store_budget_state now;
	int status;

	(void)state;
	for (int i = 1; i <= PROCESSES; i++) {
		pid_t pid = fork();

		assert_int_not_equal(pid, -1);
		if (pid == 0)
			_exit(spend_budget(i, &budgets));
	}
	for (int i = 0; i < PROCESSES; i++) {
		assert_int_not_equal(wait(&status), -1);
		assert_int_equal(status, 0);
	}
	pair.one = open_store();
	assert_int_equal(OPS(pair.one, check_budgets, &budgets, NOW, &now,
			     NULL),
	    ERR_BUDGET);
	assert_int_equal(now.tokens, (20000 + 69) / 70 * 70);
	assert_int_equal(now.reserved_tokens, 0);
	assert_int_equal(number("SELECT sum(total_tokens) FROM usage"),
	    now.tokens);
}

/* ---- a chat, and what goes wrong around it ------------------------------ */

/* Whatever happened: each balance is what its entries and answers say. */
static void
assert_books_balance(void)
{
	assert_int_equal(number("SELECT count(*) FROM account AS a WHERE "
				"balance <> (SELECT sum(amount) FROM "
				" account_entry AS e WHERE e.user = a.user) OR "
				"reserved <> (SELECT coalesce(sum(reserved), 0)"
				" FROM generation AS g WHERE g.user = a.user "
				" AND g.state = 0)"),
	    0);
	assert_int_equal(number("SELECT count(*) FROM chat WHERE turns <> "
				"(SELECT count(DISTINCT turn) FROM message "
				" WHERE message.chat = chat.number)"),
	    0);
	assert_int_equal(number("SELECT count(*) FROM generation WHERE number "
				"NOT IN (SELECT generation FROM message "
				" WHERE generation IS NOT NULL)"),
	    0);
}

static int64_t
hundred(const struct store_messages *history, void *arg)
{
	(void)history;
	(void)arg;
	return 100;
}

/* Ann's to pay. */
static void
paid_init(struct beginning *one, const char *chat, int n)
{
	beginning_init(one, chat, n);
	one->in.user = "ann";
	one->in.reserve = hundred;
	one->in.max_chats = INT64_MAX;
}

static void
pay_in(struct store *store, int64_t amount)
{
	const struct store_top_up in = {
		.id = "first",
		.user = "ann",
		.amount = amount,
		.at = NOW,
	};
	struct store_account account;
	struct diag diag = { "" };

	assert_ok(OPS(store, top_up, &in, &account, &diag), &diag);
}

static void
goes_on_when_it_is_no_longer_locked(void **state)
{
	const struct store_piece piece = { "g1", 1, 1, "id: 1\n\n", "Hi" };
	struct store_finish in = ending("g1", "Hi");
	struct store_finished finished;
	struct store_chats chats;
	struct beginning one;
	int64_t locked_ms;
	sqlite3 *db;

	(void)state;
	pair.one = open_store();
	pay_in(pair.one, 1000);
	paid_init(&one, NULL, 1);
	assert_int_equal(try_begin(pair.one, &one.in), ERR_OK);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL),
	    SQLITE_OK);
	in.charge = 30;
	paid_init(&one, NULL, 2);
	for (locked_ms = clock_ms(); clock_ms() < locked_ms + 2000;) {
		assert_int_equal(try_begin(pair.one, &one.in), ERR_UNAVAIL);
		assert_int_equal(OPS(pair.one, add_pieces, &piece, 1, NULL),
		    ERR_UNAVAIL);
		assert_int_equal(OPS(pair.one, finish, &in, &finished, NULL),
		    ERR_UNAVAIL);
		/* but it can be read */
		assert_int_equal(OPS(pair.one, list_chats, "u:ann", 0, 1,
				     &chats, NULL),
		    ERR_OK);
		assert_int_equal(chats.total, 1);
		store_chats_done(&chats);
	}
	assert_int_equal(sqlite3_close_v2(db), SQLITE_OK);
	assert_int_equal(OPS(pair.one, add_pieces, &piece, 1, NULL), ERR_OK);
	assert_true(end(pair.one, &in).was_running);
	assert_int_equal(try_begin(pair.one, &one.in), ERR_OK);
	assert_books_balance();
}

static void *
begin_once(void *arg)
{
	struct racer *racer = arg;
	struct beginning one;
	int64_t began_ms = clock_ms();

	beginning_init(&one, NULL, racer->number);
	racer->err = try_begin(racer->store, &one.in);
	racer->number = (int)(clock_ms() - began_ms);
	return NULL;
}

static void
keeps_nobody_long_in_a_row_of_waiters(void **state)
{
	enum {
		WAITERS = 80
	}; /* in a row that is 20 s */
	struct racer racers[WAITERS];
	struct store_pair same;
	sqlite3 *db;

	(void)state;
	pair.one = open_store();
	same = (struct store_pair){ pair.one, pair.one };
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL),
	    SQLITE_OK);
	race(&same, racers, WAITERS, begin_once);
	for (int i = 0; i < WAITERS; i++) {
		assert_int_equal(racers[i].err, ERR_UNAVAIL);
		assert_in_range(racers[i].number, 0, 15000);
	}
	assert_int_equal(sqlite3_close_v2(db), SQLITE_OK);
}

static void
keeps_a_chat_whole_when_the_disk_is_full(void **state)
{
	static char large[65536];
	struct rlimit old, small = { .rlim_cur = 500000 };
	struct store_finish in = ending("g0", large);
	struct store_finished finished;
	struct beginning one;
	int n, failures = 0;

	(void)state;
	(void)memset(large, 'x', sizeof(large) - 1);
	(void)signal(SIGXFSZ, SIG_IGN);
	pair.one = open_store();
	pay_in(pair.one, 1000000);
	paid_init(&one, NULL, 0);
	assert_int_equal(try_begin(pair.one, &one.in), ERR_OK);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (n = 1; failures < 3 && n < 1000; n++) {
		enum err err;

		paid_init(&one, NULL, n);
		one.in.content = large;
		err = try_begin(pair.one, &one.in);
		assert_true(err == ERR_OK || err == ERR_UNAVAIL);
		failures = err == ERR_OK ? 0 : failures + 1;
	}
	assert_int_equal(failures, 3);
	in.charge = 30;
	assert_int_equal(OPS(pair.one, finish, &in, &finished, NULL),
	    ERR_UNAVAIL);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	finished = end(pair.one, &in);
	assert_true(finished.was_running);
	assert_int_equal(finished.charged, 30);
	paid_init(&one, NULL, n);
	assert_int_equal(try_begin(pair.one, &one.in), ERR_OK);
	assert_books_balance();
}

static int64_t
die(const struct store_messages *history, void *arg)
{
	(void)history;
	(void)arg;
	(void)raise(SIGKILL);
	return 0;
}

static void
report(int fd, char what)
{
	if (write(fd, &what, 1) != 1)
		_exit(1);
}

/*
 * A broker that says what is committed: B for a beginning, P for a piece, E for
 * an end; and that begins one last thing, to die in the middle of it.
 */
static void
work_and_die(int fd, int rounds)
{
	struct store *store;
	struct beginning one;

	if (store_sqlite_open(path, &store, NULL) != ERR_OK)
		_exit(1);
	for (int i = 1;; i++) {
		struct store_piece piece = { NULL, 1, 1, "id: 1\n\n", "Hi" };
		struct store_finish in;
		struct store_finished finished;

		paid_init(&one, NULL, i);
		if (i == rounds)
			one.in.reserve = die;
		if (try_begin(store, &one.in) != ERR_OK)
			_exit(1);
		report(fd, 'B');
		piece.generation = one.generation;
		if (OPS(store, add_pieces, &piece, 1, NULL) != ERR_OK)
			_exit(1);
		report(fd, 'P');
		in = ending(one.generation, "Hi you");
		in.charge = 7;
		if (OPS(store, finish, &in, &finished, NULL) != ERR_OK)
			_exit(1);
		report(fd, 'E');
	}
}

/* Kill it after so many reports, or let it die by itself in round `rounds'. */
static void
kill_one(int rounds, int reports)
{
	int64_t counts[256] = { 0 }, ended;
	int channel[2], status;
	unsigned char what;
	pid_t pid;

	assert_int_equal(pipe(channel), 0);
	pid = fork();
	assert_int_not_equal(pid, -1);
	if (pid == 0)
		work_and_die(channel[1], rounds);
	(void)close(channel[1]);
	for (int n = 0; read(channel[0], &what, 1) == 1; n++) {
		counts[what]++;
		if (n == reports)
			(void)kill(pid, SIGKILL);
	}
	(void)close(channel[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	if (rounds > 0)
		assert_int_equal(counts['B'], rounds - 1);
	pair.one = open_store();
	assert_books_balance();
	/* what was said to be there is; at most one more was not said yet */
	assert_in_range(number("SELECT count(*) FROM generation"), counts['B'],
	    counts['B'] + 1);
	assert_in_range(number("SELECT count(*) FROM piece"), counts['P'],
	    counts['P'] + 1);
	ended = number("SELECT count(*) FROM message WHERE content = 'Hi you'");
	assert_in_range(ended, counts['E'], counts['E'] + 1);
	assert_int_equal(number("SELECT balance FROM account"),
	    1000000 - 7 * ended);
	assert_int_equal(number("SELECT integrity_check = 'ok' "
				"FROM pragma_integrity_check"),
	    1);
}

static void
loses_nothing_committed_when_killed(void **state)
{
	for (int i = 0; i < 24; i++) {
		struct store *store = open_store();

		pay_in(store, 1000000);
		close_store(&store);
		if (i < 4)
			kill_one(i * 3 + 1, INT32_MAX);
		else
			kill_one(0, i * 7 % 50);
		(void)remove_dir(state);
		(void)make_dir(state);
	}
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
		TEST(takes_over_a_file_of_version_1),
		TEST(takes_over_the_tickets_of_version_2),
		TEST(refuses_what_is_not_its_own),
		TEST(needs_its_folder),
		TEST(checks_without_leaving_a_trace),
		TEST(never_changes_what_was_booked),
		TEST(keeps_no_more_tickets_than_its_maximum),
		TEST(leaves_room_for_tickets_of_others),
		TEST(forgets_all_of_a_chat_but_what_was_paid),
		TEST(forgets_some_chats_at_a_time),
		TEST(is_unavailable_while_it_is_locked),
		TEST(lets_no_reader_wait_for_a_writer_that_waits),
		TEST(heals_when_writing_works_again),
		TEST(heals_when_the_disk_has_room_again),
		TEST(follows_a_file_that_was_replaced),
		TEST(is_shared_by_processes_from_the_beginning),
		TEST(overshoots_a_budget_by_one_for_many_processes),
		TEST(goes_on_when_it_is_no_longer_locked),
		TEST(keeps_nobody_long_in_a_row_of_waiters),
		TEST(keeps_a_chat_whole_when_the_disk_is_full),
		TEST(loses_nothing_committed_when_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
