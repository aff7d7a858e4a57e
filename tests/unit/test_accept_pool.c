/* SPDX-License-Identifier: MIT */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <fcntl.h>

#include "broker/http/accept_pool.h"
#include "common/log.h"
#include "common/service.h"
#include "common/thread.h"

#define WAIT_MS 30000 /* for what has to come: longer than any load takes */

static struct {
	char dir[64], path[96];
	int listen_fd;
	struct accept_pool_options options;
	pthread_t thread;
	enum err result;
	struct diag diag;
	int entered[2]; /* a pipe: a byte for each connection in work */
	atomic_int now, most, served;
	atomic_bool signals_blocked;
	int saved_stderr, log[2];
} world;

/* ---- the pool, in a thread ---- */

/* In work until the client closes. */
static void
serve(int fd, void *arg)
{
	int now = atomic_fetch_add(&world.now, 1) + 1;
	sigset_t mask;
	char byte = 'e';

	if (arg != &world || pthread_sigmask(SIG_SETMASK, NULL, &mask) != 0 ||
	    sigismember(&mask, SIGTERM) != 1)
		atomic_store(&world.signals_blocked, false);
	if (now > atomic_load(&world.most))
		atomic_store(&world.most, now);
	(void)!write(world.entered[1], &byte, 1);
	(void)!read(fd, &byte, 1);
	atomic_fetch_sub(&world.now, 1);
	atomic_fetch_add(&world.served, 1);
	(void)close(fd);
}

static void *
run(void *arg)
{
	(void)arg;
	world.result =
	    accept_pool_run(world.listen_fd, &world.options, &world.diag);
	return NULL;
}

static void
start(unsigned threads, int64_t stop_ms)
{
	(void)strcpy(world.dir, "/tmp/culvert-pool-XXXXXX");
	assert_non_null(mkdtemp(world.dir));
	(void)snprintf(world.path, sizeof(world.path), "%s/s", world.dir);
	assert_int_equal(service_listen_unix(world.path, SOCK_STREAM, 0600,
			     &world.listen_fd, NULL),
	    ERR_OK);
	assert_int_equal(pipe2(world.entered, O_CLOEXEC), 0);
	atomic_store(&world.most, 0);
	atomic_store(&world.served, 0);
	atomic_store(&world.signals_blocked, true);
	world.diag.text[0] = '\0';
	world.options = (struct accept_pool_options){ .threads = threads,
		.stack_bytes = 256 * 1024,
		.stop_ms = stop_ms,
		.serve = serve,
		.arg = &world };
	assert_int_equal(thread_start(&world.thread, "pool", run, NULL, NULL),
	    ERR_OK);
}

static void
wait_for_end(enum err expected)
{
	assert_int_equal(pthread_join(world.thread, NULL), 0);
	if (world.result != expected)
		fail_msg("%d: %s", world.result, world.diag.text);
	assert_true(atomic_load(&world.signals_blocked));
	(void)close(world.listen_fd);
	(void)unlink(world.path);
	(void)rmdir(world.dir);
}

static void
close_pipe(void)
{
	(void)close(world.entered[0]);
	(void)close(world.entered[1]);
}

/* ---- clients ---- */

static void
connect_client(int fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	(void)strcpy(address.sun_path, world.path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address,
			     sizeof(address)),
	    0);
}

static int
new_client(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_not_equal(fd, -1);
	connect_client(fd);
	return fd;
}

static bool
is_readable(int fd, int timeout_ms)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	return poll(&pollfd, 1, timeout_ms) == 1;
}

static void
wait_until_entered(void)
{
	char byte;

	assert_true(is_readable(world.entered[0], WAIT_MS));
	assert_int_equal(read(world.entered[0], &byte, 1), 1);
}

/* ---- stopping ---- */

static void
stops_while_all_its_threads_wait(void **state)
{
	int client;

	(void)state;
	for (int round = 0; round < 2; round++) {
		start(3, WAIT_MS);
		client = new_client();
		wait_until_entered();
		(void)close(client);
		accept_pool_stop();
		wait_for_end(ERR_OK);
		close_pipe();
	}
}

static void
stopped_before_it_runs_it_returns_at_once_and_only_once(void **state)
{
	(void)state;
	accept_pool_stop();
	accept_pool_stop();
	start(2, WAIT_MS);
	wait_for_end(ERR_OK);
	close_pipe();
	stops_while_all_its_threads_wait(state);
}

static void
stopped_while_it_serves_it_lets_that_end_and_takes_no_more(void **state)
{
	int first, late;

	(void)state;
	start(2, WAIT_MS);
	first = new_client();
	wait_until_entered();
	accept_pool_stop();
	late = new_client(); /* the system's queue takes it, nobody else */
	(void)close(first);
	wait_for_end(ERR_OK);
	assert_int_equal(atomic_load(&world.served), 1);
	assert_int_equal(atomic_load(&world.now), 0);
	(void)close(late);
	close_pipe();
}

/* The last of all: its thread runs on until the end of the process. */
static void
says_how_many_connections_did_not_end_in_time(void **state)
{
	int clients[2];

	(void)state;
	start(3, 1);
	for (int i = 0; i < 2; i++) {
		clients[i] = new_client();
		wait_until_entered();
	}
	accept_pool_stop();
	wait_for_end(ERR_TIMEOUT);
	assert_non_null(strstr(world.diag.text, "did not end in time"));
	assert_true(world.diag.text[0] == '2' || world.diag.text[0] == '3');
	for (int i = 0; i < 2; i++)
		(void)close(clients[i]);
}

/* ---- serving ---- */

static void
serves_as_many_at_once_as_it_has_threads(void **state)
{
	int clients[9];

	(void)state;
	start(3, WAIT_MS);
	for (int i = 0; i < 9; i++)
		clients[i] = new_client();
	for (int i = 0; i < 3; i++)
		wait_until_entered();
	assert_int_equal(atomic_load(&world.now), 3);
	for (int i = 0; i < 9; i++) {
		(void)close(clients[i]);
		if (i < 6)
			wait_until_entered();
	}
	accept_pool_stop();
	wait_for_end(ERR_OK);
	assert_int_equal(atomic_load(&world.most), 3);
	assert_int_equal(atomic_load(&world.served), 9);
	close_pipe();
}

static void
a_client_that_has_gone_again_stops_nobody(void **state)
{
	int client;

	(void)state;
	start(1, WAIT_MS);
	for (int i = 0; i < 20; i++)
		(void)close(new_client());
	client = new_client();
	for (int i = 0; i < 21; i++)
		wait_until_entered();
	(void)close(client);
	accept_pool_stop();
	wait_for_end(ERR_OK);
	close_pipe();
}

/* ---- without descriptors ---- */

/* Let the process have no descriptor more than it has; returns the old. */
static struct rlimit
use_up_descriptors(void)
{
	struct rlimit old, none;
	int next = dup(STDERR_FILENO);

	assert_int_not_equal(next, -1);
	(void)close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = old;
	none.rlim_cur = (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	return old;
}

static void
capture_log(void)
{
	assert_int_equal(pipe2(world.log, O_CLOEXEC | O_NONBLOCK), 0);
	world.saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	assert_int_not_equal(dup2(world.log[1], STDERR_FILENO), -1);
}

static void
restore_log(void)
{
	(void)dup2(world.saved_stderr, STDERR_FILENO);
	(void)close(world.saved_stderr);
	(void)close(world.log[0]);
	(void)close(world.log[1]);
}

static void
assert_logs(const char *event)
{
	char text[4096];
	ssize_t n;

	assert_true(is_readable(world.log[0], WAIT_MS));
	n = read(world.log[0], text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	assert_non_null(strstr(text, event));
}

static void
without_descriptors_it_pauses_and_then_serves_who_waited(void **state)
{
	int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), first;
	struct rlimit old;

	(void)state;
	capture_log();
	start(2, WAIT_MS);
	first = new_client();
	wait_until_entered();
	old = use_up_descriptors();
	connect_client(client);
	assert_logs("accept.paused");
	/* it says so once, however often it tries: for two pauses at least */
	assert_false(is_readable(world.log[0], 250));
	assert_int_equal(atomic_load(&world.most), 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	wait_until_entered();
	assert_logs("accept.resumed");
	(void)close(client);
	(void)close(first);
	accept_pool_stop();
	wait_for_end(ERR_OK);
	close_pipe();
	restore_log();
}

static void
stops_while_it_pauses(void **state)
{
	int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), first;
	struct rlimit old;

	(void)state;
	capture_log();
	start(2, WAIT_MS);
	first = new_client();
	wait_until_entered();
	old = use_up_descriptors();
	connect_client(client);
	assert_logs("accept.paused");
	accept_pool_stop();
	(void)close(first); /* only now: it gives a descriptor back */
	wait_for_end(ERR_OK);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	(void)close(client);
	close_pipe();
	restore_log();
}

static void
what_cannot_begin_is_the_systems_error(void **state)
{
	struct accept_pool_options options = { .threads = 1,
		.stack_bytes = 256 * 1024,
		.serve = serve };
	struct diag diag = { "" };
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(accept_pool_run(-1, &options, &diag), ERR_SYS);
	assert_non_null(strstr(diag.text, "cannot listen"));
	/* no system has room for such a stack */
	options.stack_bytes = (size_t)1 << 60;
	assert_int_equal(accept_pool_run(fds[0], &options, &diag), ERR_SYS);
	assert_non_null(strstr(diag.text, "cannot start a thread"));
	(void)close(fds[0]);
	(void)close(fds[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stops_while_all_its_threads_wait),
		cmocka_unit_test(
		    stopped_before_it_runs_it_returns_at_once_and_only_once),
		cmocka_unit_test(
		    stopped_while_it_serves_it_lets_that_end_and_takes_no_more),
		cmocka_unit_test(serves_as_many_at_once_as_it_has_threads),
		cmocka_unit_test(a_client_that_has_gone_again_stops_nobody),
		cmocka_unit_test(
		    without_descriptors_it_pauses_and_then_serves_who_waited),
		cmocka_unit_test(stops_while_it_pauses),
		cmocka_unit_test(what_cannot_begin_is_the_systems_error),
		cmocka_unit_test(says_how_many_connections_did_not_end_in_time),
	};

	log_init("test_accept_pool", LOG_LEVEL_INFO);
	return cmocka_run_group_tests_name("accept_pool", tests, NULL, NULL);
}
