/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock_double.h"
#include "tunnel/linger.h"

#define GIVE_UP_MS 10000
#define LINGER_MS  2000 /* as linger has it */
#define BULK_BYTES (1024 * 1024)
#define B(s)	   s, sizeof(s) - 1

/* A connection that is to end, and its peer as the test plays it. */
struct fixture {
	struct loop *loop;
	struct loop_timer *timer;
	struct stream *stream;
	struct loop_watch *watch;
	struct linger *linger;
	int peer;
	int done;
	bool timed_out;
	/* of on_peer_readable() */
	struct loop_watch *peer_watch;
	uint8_t *got;
	size_t len;
};

static void
on_done(void *arg)
{
	struct fixture *fix = arg;

	fix->done++;
	fix->linger = NULL;
	loop_stop(fix->loop);
}

static void
on_time(void *arg)
{
	struct fixture *fix = arg;

	fix->timed_out = true;
	loop_stop(fix->loop);
}

static void
never(void *arg, bool readable, bool writable)
{
	(void)arg;
	(void)readable;
	(void)writable;
	fail_msg("the watch still calls its old owner");
}

static int
set_up(void **state)
{
	struct fixture *fix = calloc(1, sizeof(*fix));
	int pair[2];

	assert_non_null(fix);
	assert_int_equal(loop_new(&fix->loop, NULL), ERR_OK);
	assert_int_equal(loop_begin(fix->loop), ERR_OK);
	fix->timer = loop_timer_new(fix->loop, on_time, fix);
	assert_int_equal(socketpair(AF_UNIX,
			     SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
			     pair),
	    0);
	fix->stream = stream_new(pair[0]);
	fix->watch = loop_watch_new(fix->loop, pair[0], never, NULL);
	fix->peer = pair[1];
	clock_skipped_ms = 0;
	*state = fix;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *fix = *state;

	linger_free(fix->linger);
	loop_watch_free(fix->peer_watch);
	loop_timer_free(fix->timer);
	loop_free(fix->loop);
	if (fix->peer != -1)
		(void)close(fix->peer);
	free(fix->got);
	free(fix);
	return 0;
}

static void
start(struct fixture *fix, enum linger_kind kind, const void *data, size_t len)
{
	fix->linger = linger_start(fix->loop, fix->stream, fix->watch, kind,
	    data, len, on_done, fix);
	assert_int_equal(fix->done, 0);
}

/* Run until it is done, or for so long; whether it is done. */
static bool
run(struct fixture *fix, int64_t ms)
{
	fix->timed_out = false;
	loop_timer_set(fix->timer, ms);
	assert_int_equal(loop_run(fix->loop), ERR_OK);
	loop_timer_stop(fix->timer);
	return !fix->timed_out;
}

static void
expect_done(struct fixture *fix)
{
	assert_true(run(fix, GIVE_UP_MS));
	/* and once only */
	assert_false(run(fix, 0));
	assert_int_equal(fix->done, 1);
}

static void
expect_text(struct fixture *fix, const char *text)
{
	char got[64];

	assert_int_equal(recv(fix->peer, got, sizeof(got), 0), strlen(text));
	assert_memory_equal(got, text, strlen(text));
}

static void
leave(struct fixture *fix)
{
	(void)close(fix->peer);
	fix->peer = -1;
}

static void
a_server_says_its_words_ends_and_waits_for_the_peer(void **state)
{
	struct fixture *fix = *state;
	char words[] = "bye", c;

	start(fix, LINGER_SERVER, B(words));
	memset(words, 'x', sizeof(words)); /* a copy was taken */
	expect_text(fix, "bye");
	assert_int_equal(recv(fix->peer, &c, 1, 0), 0);
	assert_false(run(fix, 0));
	assert_int_equal(fix->done, 0);
	leave(fix);
	expect_done(fix);
}

static void
a_client_says_its_words_and_waits_for_the_server_to_end(void **state)
{
	struct fixture *fix = *state;
	char c;

	start(fix, LINGER_CLIENT, B("bye"));
	expect_text(fix, "bye");
	assert_false(run(fix, 0));
	assert_int_equal(recv(fix->peer, &c, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
	(void)shutdown(fix->peer, SHUT_WR);
	expect_done(fix);
	assert_int_equal(recv(fix->peer, &c, 1, 0), 0);
}

static void
a_server_without_words_just_ends(void **state)
{
	struct fixture *fix = *state;
	char c;

	start(fix, LINGER_SERVER, NULL, 0);
	assert_int_equal(recv(fix->peer, &c, 1, 0), 0);
	leave(fix);
	expect_done(fix);
}

static void
what_the_peer_still_sends_is_discarded(void **state)
{
	static uint8_t data[32 * 1024];
	struct fixture *fix = *state;
	char c;

	/* it came before, and it comes after */
	assert_int_equal(send(fix->peer, data, sizeof(data), 0), sizeof(data));
	start(fix, LINGER_SERVER, B("bye"));
	for (int i = 0; i < 64; i++) {
		assert_int_equal(send(fix->peer, data, sizeof(data), 0),
		    sizeof(data));
		assert_false(run(fix, 0));
	}
	/* so that the connection is not reset, and the words arrive */
	expect_text(fix, "bye");
	assert_int_equal(recv(fix->peer, &c, 1, 0), 0);
	leave(fix);
	expect_done(fix);
}

static void
on_peer_readable(void *arg, bool readable, bool writable)
{
	struct fixture *fix = arg;
	ssize_t n = recv(fix->peer, fix->got + fix->len,
	    BULK_BYTES + 1 - fix->len, MSG_DONTWAIT);

	(void)readable;
	(void)writable;
	assert_true(n >= 0);
	fix->len += (size_t)n;
	if (n == 0) {
		loop_watch_free(fix->peer_watch);
		fix->peer_watch = NULL;
		leave(fix);
	}
}

static void
words_that_do_not_fit_at_once_follow(void **state)
{
	struct fixture *fix = *state;
	uint8_t *data = malloc(BULK_BYTES);

	assert_non_null(data);
	for (size_t i = 0; i < BULK_BYTES; i++)
		data[i] = (uint8_t)(i * 2654435761U >> 13);
	fix->got = malloc(BULK_BYTES + 1);
	assert_non_null(fix->got);
	start(fix, LINGER_SERVER, data, BULK_BYTES);
	fix->peer_watch =
	    loop_watch_new(fix->loop, fix->peer, on_peer_readable, fix);
	loop_watch_set(fix->peer_watch, true, false);
	expect_done(fix);
	assert_int_equal(fix->len, BULK_BYTES);
	assert_memory_equal(fix->got, data, BULK_BYTES);
	free(data);
}

static void
a_peer_that_stays_is_left_after_a_while(void **state)
{
	for (int i = 0; i < 4; i++) {
		struct fixture *fix = *state;
		uint8_t *data = calloc(1, BULK_BYTES);
		char c;

		assert_non_null(data);
		/* one that reads nothing is left just so */
		start(fix, i & 1 ? LINGER_SERVER : LINGER_CLIENT, data,
		    i & 2 ? BULK_BYTES : 3);
		free(data);
		clock_skipped_ms += LINGER_MS / 2;
		assert_false(run(fix, 0));
		/* not even one that goes on talking */
		assert_int_equal(send(fix->peer, "x", 1, 0), 1);
		assert_false(run(fix, 0));
		clock_skipped_ms += LINGER_MS / 2;
		expect_done(fix);
		while (recv(fix->peer, &c, 1, 0) == 1)
			if (i & 2)
				break;
		assert_int_equal(send(fix->peer, "x", 1, MSG_NOSIGNAL), -1);
		if (i == 3)
			break;
		(void)tear_down(state);
		(void)set_up(state);
	}
}

static void
a_connection_that_is_lost_is_done_but_not_at_once(void **state)
{
	struct fixture *fix = *state;

	leave(fix);
	start(fix, LINGER_SERVER, B("bye"));
	expect_done(fix);
}

static void
giving_up_closes_and_calls_nobody(void **state)
{
	struct fixture *fix = *state;
	char c;

	start(fix, LINGER_CLIENT, B("bye"));
	linger_free(fix->linger);
	fix->linger = NULL;
	expect_text(fix, "bye");
	assert_int_equal(recv(fix->peer, &c, 1, 0), 0);
	clock_skipped_ms += 2 * LINGER_MS;
	assert_false(run(fix, 0));
	assert_int_equal(fix->done, 0);
	linger_free(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_server_says_its_words_ends_and_waits_for_the_peer),
		TEST(a_client_says_its_words_and_waits_for_the_server_to_end),
		TEST(a_server_without_words_just_ends),
		TEST(what_the_peer_still_sends_is_discarded),
		TEST(words_that_do_not_fit_at_once_follow),
		TEST(a_peer_that_stays_is_left_after_a_while),
		TEST(a_connection_that_is_lost_is_done_but_not_at_once),
		TEST(giving_up_closes_and_calls_nobody),
	};

	return cmocka_run_group_tests_name("linger", tests, NULL, NULL);
}
