/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/signing_key.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/xalloc.h"

#define DAY_S 86400
#define KEY_A "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define KEY_B "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA"
#define ID_A  "00000000000000aa"
#define ID_B  "00000000000000bb"

#define PROCESSES 8

struct world {
	char dir[64], path[96];
};

static int
make_world(void **state)
{
	static struct world world;

	(void)strcpy(world.dir, "/tmp/culvert-test.XXXXXX");
	if (mkdtemp(world.dir) == NULL)
		return -1;
	(void)snprintf(world.path, sizeof(world.path), "%s/ticket-key",
	    world.dir);
	*state = &world;
	return 0;
}

/* The folder is empty again: no file is left but the keys'. */
static int
end_world(void **state)
{
	struct world *world = *state;

	signing_key_done();
	(void)unlink(world->path);
	return rmdir(world->dir);
}

static void
open_keys(const struct world *world, int64_t rotate_s)
{
	struct diag diag = { "" };

	if (signing_key_init(NULL, world->path, rotate_s, &diag) != ERR_OK)
		fail_msg("%s", diag.text);
}

/* A token that is good for a minute; the caller frees it. */
static char *
sign(void)
{
	json_t *claims = json_made(json_pack("{s:s, s:I}", "sub", "ann", "exp",
	    (json_int_t)clock_unix() + 60));
	char *token;

	assert_int_equal(signing_key_sign(claims, "test", &token, NULL),
	    ERR_OK);
	json_decref(claims);
	return token;
}

static enum err
verify(const char *token)
{
	const struct jwt_policy policy = { .typ = "test", .now = clock_unix() };
	json_t *claims;
	enum err err =
	    signing_key_verify(token, strlen(token), &policy, &claims, NULL);

	if (err == ERR_OK)
		json_decref(claims);
	return err;
}

/* The kid of a token; "" where it has none. */
static const char *
kid(const char *token)
{
	static char id[64];
	const char *text = "";
	json_t *header;

	assert_int_equal(jwt_peek_header(token, strlen(token), &header, NULL),
	    ERR_OK);
	(void)!json_get_string(header, "kid", 60, &text);
	(void)strcpy(id, text);
	json_decref(header);
	return id;
}

static void
write_file(const char *path, const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

/* Lines of these keys, so many days old; the second one may be NULL. */
static void
write_keys(const struct world *world, int64_t a_days, const char *b,
    int64_t b_days)
{
	long long now = (long long)clock_unix();
	char *text = xasprintf(ID_A " %lld " KEY_A "\n%s", now - a_days * DAY_S,
	    b == NULL ? "" : b);
	char *more = xasprintf(b == NULL ? "%s" : "%s %lld " KEY_B "\n", text,
	    now - b_days * DAY_S);

	write_file(world->path, more, 0600);
	free(text);
	free(more);
}

static size_t
count_lines(const struct world *world)
{
	FILE *f = fopen(world->path, "r");
	size_t lines = 0;
	int c;

	assert_non_null(f);
	while ((c = getc(f)) != EOF)
		lines += c == '\n';
	assert_int_equal(fclose(f), 0);
	return lines;
}

/* ---- one key ---- */

static void
makes_a_key_once(void **state)
{
	struct world *world = *state;
	char *token;
	struct stat st;

	assert_false(signing_key_is_there());
	open_keys(world, DAY_S);
	assert_true(signing_key_is_there());
	token = sign();
	assert_int_equal(strlen(kid(token)), 16);
	assert_int_equal(stat(world->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(count_lines(world), 1);
	open_keys(world, DAY_S);
	assert_int_equal(verify(token), ERR_OK);
	/* who takes it away makes all that it has signed worthless */
	assert_int_equal(unlink(world->path), 0);
	open_keys(world, DAY_S);
	assert_int_equal(verify(token), ERR_UNAUTH);
	free(token);
}

static void
prefers_the_operators_secret(void **state)
{
	struct world *world = *state;
	struct secret *secret =
	    secret_new("0123456789abcdef0123456789abcdef", 32, "test");
	char *token;

	assert_int_equal(signing_key_init(secret, world->path, 1, NULL),
	    ERR_OK);
	secret_free(secret);
	token = sign();
	assert_string_equal(kid(token), "");
	assert_int_equal(verify(token), ERR_OK);
	free(token);
	assert_int_equal(access(world->path, F_OK), -1);
}

static void
refuses_a_short_secret(void **state)
{
	struct world *world = *state;
	struct secret *secret = secret_new("0123456789", 10, "test");

	assert_int_equal(signing_key_init(secret, world->path, 0, NULL),
	    ERR_LIMIT);
	secret_free(secret);
	assert_false(signing_key_is_there());
}

static void
signs_nothing_that_outlives_its_key(void **state)
{
	static const char *const exps[] = { "{}", "{\"exp\":\"1\"}",
		"{\"exp\":1.5}", "{\"exp\":99999999999}" };
	char *token;

	open_keys(*state, DAY_S);
	for (size_t i = 0; i < sizeof(exps) / sizeof(exps[0]); i++) {
		json_t *claims = json_loads(exps[i], 0, NULL);

		assert_int_equal(signing_key_sign(claims, NULL, &token, NULL),
		    ERR_LIMIT);
		json_decref(claims);
	}
}

static void
without_a_key_nothing_is_signed_or_known(void **state)
{
	json_t *claims = json_pack("{s:i}", "exp", 1);
	char *token;

	open_keys(*state, DAY_S);
	token = sign();
	signing_key_done();
	assert_int_equal(verify(token), ERR_UNAVAIL);
	free(token);
	assert_int_equal(signing_key_sign(claims, NULL, &token, NULL),
	    ERR_UNAVAIL);
	json_decref(claims);
}

/* ---- the file ---- */

static void
refuses_a_file_that_will_not_do(void **state)
{
#define A ID_A " 1 " KEY_A "\n"
	static const struct {
		const char *text;
		mode_t mode;
		enum err err;
	} cases[] = {
		{ A, 0640, ERR_DENIED },
		{ A, 0604, ERR_DENIED },
		{ KEY_A, 0644, ERR_DENIED },
		{ "", 0600, ERR_SYS },
		{ "\n", 0600, ERR_SYS },
		{ "0123456789abcdef", 0600, ERR_SYS },
		{ KEY_A "A", 0600, ERR_SYS },
		{ "these are not the keys that you want, not at all", 0600,
		    ERR_SYS },
		/* cut off, in the first and in the last line */
		{ ID_A " 1", 0600, ERR_SYS },
		{ ID_A " 1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 0600, ERR_SYS },
		{ A ID_B, 0600, ERR_SYS },
		{ A ID_B " 2 BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB", 0600,
		    ERR_SYS },
		{ A A, 0600, ERR_SYS },
		{ A "\n\n", 0600, ERR_SYS },
		{ "x" A, 0600, ERR_SYS },
		{ "00000000000000AA 1 " KEY_A "\n", 0600, ERR_SYS },
		{ ID_A "  1 " KEY_A "\n", 0600, ERR_SYS },
		{ ID_A " -1 " KEY_A "\n", 0600, ERR_SYS },
		{ ID_A " 99999999999999999999 " KEY_A "\n", 0600, ERR_SYS },
		{ ID_A " 1 " KEY_A " \n", 0600, ERR_SYS },
		{ ID_A " 1 +" KEY_A "\n", 0600, ERR_SYS },
	};
#undef A
	struct world *world = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct diag diag = { "" };

		write_file(world->path, cases[i].text, cases[i].mode);
		if (signing_key_init(NULL, world->path, DAY_S, &diag) !=
		    cases[i].err)
			fail_msg("%zu: %s", i, diag.text);
		assert_false(signing_key_is_there());
		assert_non_null(strstr(diag.text, world->path));
		/* what it says is for a log */
		assert_null(strstr(diag.text, "AAAAAAAA"));
	}
}

static void
says_where_it_cannot_be_made(void **state)
{
	struct diag diag = { "" };

	(void)state;
	assert_int_equal(signing_key_init(NULL, "/nowhere/at/all", 0, &diag),
	    ERR_SYS);
	assert_non_null(strstr(diag.text, "/nowhere/at/all"));
}

static void
takes_over_a_file_of_the_older_format(void **state)
{
	struct world *world = *state;
	char *old, *new;

	write_file(world->path, KEY_A, 0600);
	open_keys(world, 0);
	old = sign();
	assert_string_equal(kid(old), "");
	/* its age is the file's */
	open_keys(world, DAY_S);
	new = sign();
	assert_string_equal(kid(new), "");
	free(new);
	assert_int_equal(truncate(world->path, 0), 0);
	write_keys(world, 0, NULL, 0);
	write_file(world->path, "- 1 " KEY_A "\n", 0600);
	open_keys(world, DAY_S);
	new = sign();
	assert_int_equal(strlen(kid(new)), 16);
	assert_int_equal(verify(old), ERR_OK);
	assert_int_equal(verify(new), ERR_OK);
	assert_int_equal(count_lines(world), 2);
	free(old);
	free(new);
}

/* ---- rotation ---- */

static void
rotates_with_overlap(void **state)
{
	struct world *world = *state;
	char *old, *new;

	write_keys(world, 0, NULL, 0);
	open_keys(world, DAY_S);
	old = sign();
	assert_string_equal(kid(old), ID_A);
	/* it gets old while the process runs */
	write_keys(world, 1, NULL, 0);
	new = sign();
	assert_string_not_equal(kid(new), ID_A);
	assert_int_equal(strlen(kid(new)), 16);
	assert_int_equal(verify(old), ERR_OK);
	assert_int_equal(verify(new), ERR_OK);
	assert_int_equal(count_lines(world), 2);
	open_keys(world, DAY_S);
	assert_int_equal(verify(old), ERR_OK);
	assert_int_equal(verify(new), ERR_OK);
	free(old);
	free(new);
}

static void
keeps_a_key_until_all_that_it_signed_has_expired(void **state)
{
	struct world *world = *state;
	char *old;

	write_keys(world, 40, NULL, 0);
	open_keys(world, 0);
	old = sign();
	/* replaced 29 days ago, then 31 */
	write_keys(world, 40, ID_B, 29);
	open_keys(world, DAY_S);
	assert_int_equal(verify(old), ERR_OK);
	assert_int_equal(count_lines(world), 3);
	write_keys(world, 40, ID_B, 31);
	open_keys(world, DAY_S);
	assert_int_equal(verify(old), ERR_UNAUTH);
	assert_int_equal(count_lines(world), 2);
	free(old);
}

static void
replaces_a_key_of_a_clock_that_was_wrong(void **state)
{
	struct world *world = *state;
	char *token;

	write_keys(world, -1000, NULL, 0);
	open_keys(world, DAY_S);
	token = sign();
	assert_string_not_equal(kid(token), ID_A);
	free(token);
	token = sign();
	assert_int_equal(count_lines(world), 2);
	free(token);
}

static void
never_rotates_where_it_is_told_not_to(void **state)
{
	struct world *world = *state;
	char *token;

	write_keys(world, 1000, NULL, 0);
	open_keys(world, 0);
	token = sign();
	assert_string_equal(kid(token), ID_A);
	free(token);
}

static void
goes_on_with_its_keys_where_the_file_is_damaged(void **state)
{
	struct world *world = *state;
	char *token;

	write_keys(world, 0, NULL, 0);
	open_keys(world, DAY_S);
	write_file(world->path, "garbage", 0600);
	token = sign();
	assert_string_equal(kid(token), ID_A);
	assert_int_equal(verify(token), ERR_OK);
	free(token);
}

static void
has_no_more_keys_than_its_maximum(void **state)
{
	struct world *world = *state;
	char *text = xstrdup(""), *token;

	for (int i = 0; i < SIGNING_KEYS_MAX; i++) {
		char *more = xasprintf("%s%016x %lld " KEY_A "\n", text, i,
		    (long long)clock_unix() - DAY_S);

		free(text);
		text = more;
	}
	write_file(world->path, text, 0600);
	open_keys(world, 1);
	token = sign();
	assert_string_equal(kid(token), "000000000000003f");
	free(token);
	assert_int_equal(count_lines(world), SIGNING_KEYS_MAX);
	/* one more is one too many */
	token = xasprintf("%s00000000000000ff 1 " KEY_A "\n", text);
	write_file(world->path, token, 0600);
	assert_int_equal(signing_key_init(NULL, world->path, 1, NULL), ERR_SYS);
	free(token);
	free(text);
}

/* ---- several processes ---- */

/* Start at once with others; write a token to fd and end. */
static void
be_a_process(const struct world *world, int start, int fd)
{
	char byte, *token;

	if (read(start, &byte, 1) != 0 ||
	    signing_key_init(NULL, world->path, DAY_S, NULL) != ERR_OK)
		_exit(1);
	token = sign();
	_exit(write(fd, token, strlen(token) + 1) == (ssize_t)strlen(token) + 1
		? 0
		: 1);
}

/* Tokens of processes that have all begun at the same moment. */
static void
race(const struct world *world, char tokens[PROCESSES][512])
{
	int start[2], pipes[PROCESSES][2], status;
	pid_t pids[PROCESSES];

	assert_int_equal(pipe(start), 0);
	for (int i = 0; i < PROCESSES; i++) {
		assert_int_equal(pipe(pipes[i]), 0);
		pids[i] = fork();
		assert_int_not_equal(pids[i], -1);
		if (pids[i] == 0) {
			(void)close(start[1]);
			be_a_process(world, start[0], pipes[i][1]);
		}
	}
	(void)close(start[0]);
	(void)close(start[1]); /* they all see the end of it */
	for (int i = 0; i < PROCESSES; i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
		assert_true(read(pipes[i][0], tokens[i], 512) > 0);
		(void)close(pipes[i][0]);
		(void)close(pipes[i][1]);
	}
}

static void
processes_that_start_together_have_one_key(void **state)
{
	char tokens[PROCESSES][512], first[64];
	struct world *world = *state;

	race(world, tokens);
	open_keys(world, DAY_S);
	(void)strcpy(first, kid(tokens[0]));
	for (int i = 0; i < PROCESSES; i++) {
		assert_int_equal(verify(tokens[i]), ERR_OK);
		assert_string_equal(kid(tokens[i]), first);
	}
	assert_int_equal(count_lines(world), 1);
}

static void
processes_that_rotate_together_add_one_key(void **state)
{
	char tokens[PROCESSES][512];
	struct world *world = *state;
	char *old;

	/* one that is there already, and learns of it */
	write_keys(world, 0, NULL, 0);
	open_keys(world, 0);
	old = sign();
	write_keys(world, 2, NULL, 0);
	race(world, tokens);
	for (int i = 0; i < PROCESSES; i++)
		assert_int_equal(verify(tokens[i]), ERR_OK);
	assert_int_equal(verify(old), ERR_OK);
	assert_int_equal(count_lines(world), 2);
	free(old);
}

#define THREADS 4
#define TOKENS	50 /* of each of them */

static atomic_uint bad, at_work;

static void *
sign_and_verify(void *arg)
{
	char *token;

	(void)arg;
	for (int i = 0; i < TOKENS; i++) {
		token = sign();
		if (verify(token) != ERR_OK)
			atomic_fetch_add(&bad, 1);
		free(token);
	}
	atomic_fetch_sub(&at_work, 1);
	return NULL;
}

/* A file that changes all the time, as where others add their keys. */
static void
threads_go_on_while_the_keys_are_replaced(void **state)
{
	struct world *world = *state;
	pthread_t threads[THREADS];
	struct timespec now[2] = { { .tv_sec = clock_unix() } };

	open_keys(world, DAY_S);
	atomic_store(&at_work, THREADS);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL,
				     sign_and_verify, NULL),
		    0);
	while (atomic_load(&at_work) > 0) {
		now[0].tv_nsec = (now[0].tv_nsec + 1000) % 1000000000;
		now[1] = now[0];
		assert_int_equal(utimensat(AT_FDCWD, world->path, now, 0), 0);
	}
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(atomic_load(&bad), 0);
}

/* The lock of who changes the file; close() gives it back. */
static int
lock_keys(const struct world *world)
{
	int fd = open(world->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_not_equal(fd, -1);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	return fd;
}

/* Whether a process waits for a lock, as the kernel says. */
static bool
waits_for_a_lock(pid_t pid)
{
	char line[256], wanted[32];
	FILE *file = fopen("/proc/locks", "re");
	bool waits = false;

	assert_non_null(file);
	(void)snprintf(wanted, sizeof(wanted), " %d ", (int)pid);
	while (fgets(line, sizeof(line), file) != NULL)
		waits |=
		    strstr(line, "->") != NULL && strstr(line, wanted) != NULL;
	(void)fclose(file);
	return waits;
}

static void
a_start_waits_for_who_makes_the_file(void **state)
{
	struct world *world = *state;
	int fd = lock_keys(world), status;
	pid_t pid = fork();

	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		(void)close(fd); /* it is the parent's alone */
		_exit(signing_key_init(NULL, world->path, DAY_S, NULL) == ERR_OK
			? 0
			: 1);
	}
	while (!waits_for_a_lock(pid))
		assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	write_keys(world, 0, NULL, 0);
	(void)close(fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(count_lines(world), 1);
}

static void
waits_for_no_other_process_while_it_runs(void **state)
{
	struct world *world = *state;
	char *old, *new;
	int fd;

	write_keys(world, 0, NULL, 0);
	open_keys(world, DAY_S);
	fd = lock_keys(world);
	write_keys(world, 1, NULL, 0);
	/* it is due, and somebody else is about it */
	old = sign();
	assert_string_equal(kid(old), ID_A);
	(void)close(fd);
	/* who has died, or changed his mind */
	new = sign();
	assert_string_not_equal(kid(new), ID_A);
	assert_int_equal(verify(old), ERR_OK);
	assert_int_equal(count_lines(world), 2);
	free(old);
	free(new);
}

/* A process that died while it wrote has left half a file behind. */
static void
passes_over_what_a_dead_process_left(void **state)
{
	struct world *world = *state;
	char *left = xasprintf("%s.new", world->path), *token;

	write_file(left, "half", 0600);
	open_keys(world, DAY_S);
	token = sign();
	assert_int_equal(verify(token), ERR_OK);
	assert_int_equal(access(left, F_OK), -1);
	free(token);
	free(left);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_world, end_world)
		TEST(makes_a_key_once),
		TEST(prefers_the_operators_secret),
		TEST(refuses_a_short_secret),
		TEST(signs_nothing_that_outlives_its_key),
		TEST(without_a_key_nothing_is_signed_or_known),
		TEST(refuses_a_file_that_will_not_do),
		TEST(says_where_it_cannot_be_made),
		TEST(takes_over_a_file_of_the_older_format),
		TEST(rotates_with_overlap),
		TEST(keeps_a_key_until_all_that_it_signed_has_expired),
		TEST(replaces_a_key_of_a_clock_that_was_wrong),
		TEST(never_rotates_where_it_is_told_not_to),
		TEST(goes_on_with_its_keys_where_the_file_is_damaged),
		TEST(has_no_more_keys_than_its_maximum),
		TEST(processes_that_start_together_have_one_key),
		TEST(processes_that_rotate_together_add_one_key),
		TEST(threads_go_on_while_the_keys_are_replaced),
		TEST(a_start_waits_for_who_makes_the_file),
		TEST(waits_for_no_other_process_while_it_runs),
		TEST(passes_over_what_a_dead_process_left),
#undef TEST
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
