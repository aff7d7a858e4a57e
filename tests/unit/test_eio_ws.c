/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/socketio/eio_ws.h"
#include "common/ws_frame.h"
#include "common/xalloc.h"

#define GIVE_UP_MS  10000
#define MAX_MESSAGE 1000
#define MAX_QUEUE   (1024 * 1024)

/* The peer is the test, at the other end of a socket pair. */
struct fixture {
	struct loop *loop;
	struct loop_timer *timer;
	struct eio_ws *ws;
	int peer;
	/* what came */
	int messages, ends;
	bool binary, error, timed_out;
	char text[MAX_MESSAGE + 1];
	size_t len;
	bool echo;	/* what comes */
	bool close_now; /* in the message's event */
};

static void
on_message(void *arg, bool binary, const void *data, size_t len)
{
	struct fixture *fix = arg;

	assert_true(len <= MAX_MESSAGE);
	fix->messages++;
	fix->binary = binary;
	memcpy(fix->text, data, len);
	fix->text[len] = '\0';
	fix->len = len;
	if (fix->echo)
		assert_true(eio_ws_send(fix->ws, binary, 0, data, len));
	if (fix->close_now) {
		eio_ws_close(fix->ws, 1000);
		fix->ws = NULL;
	}
	loop_stop(fix->loop);
}

static void
on_closed(void *arg, bool error)
{
	struct fixture *fix = arg;

	fix->ends++;
	fix->error = error;
	fix->ws = NULL;
	loop_stop(fix->loop);
}

static const struct eio_ws_events events = {
	.message = on_message,
	.closed = on_closed,
};

static void
on_give_up(void *arg)
{
	struct fixture *fix = arg;

	fix->timed_out = true;
	loop_stop(fix->loop);
}

static int
set_up(void **state)
{
	struct fixture *fix = xcalloc(1, sizeof(*fix));
	int fds[2];

	assert_int_equal(loop_new(&fix->loop, NULL), ERR_OK);
	assert_int_equal(loop_begin(fix->loop), ERR_OK);
	assert_int_equal(socketpair(AF_UNIX,
			     SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
			     fds),
	    0);
	fix->timer = loop_timer_new(fix->loop, on_give_up, fix);
	fix->ws =
	    eio_ws_new(fix->loop, fds[0], MAX_MESSAGE, MAX_QUEUE, &events, fix);
	fix->peer = fds[1];
	*state = fix;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *fix = *state;

	if (fix->ws != NULL)
		eio_ws_close(fix->ws, 0);
	eio_ws_drop_all();
	if (fix->peer != -1)
		(void)close(fix->peer);
	loop_timer_free(fix->timer);
	loop_free(fix->loop);
	free(fix);
	return 0;
}

static struct fixture *
again(void **state)
{
	(void)tear_down(state);
	(void)set_up(state);
	return *state;
}

/* Until something came. */
static void
run(struct fixture *fix)
{
	loop_timer_set(fix->timer, GIVE_UP_MS);
	assert_int_equal(loop_run(fix->loop), ERR_OK);
	loop_timer_stop(fix->timer);
	assert_false(fix->timed_out);
}

/* All that is due, without waiting. */
static void
settle(struct fixture *fix)
{
	loop_timer_set(fix->timer, 0);
	assert_int_equal(loop_run(fix->loop), ERR_OK);
	fix->timed_out = false;
}

static void
say(struct fixture *fix, const void *data, size_t len)
{
	assert_int_equal(send(fix->peer, data, len, MSG_NOSIGNAL), len);
}

/* A client's frame; the first byte says what it is. */
static size_t
put_frame(uint8_t *out, uint8_t first, const void *data, size_t len)
{
	static const uint8_t mask[4] = { 1, 2, 3, 4 };
	size_t n = ws_header_put(out, WS_TEXT, true, mask, len);

	out[0] = first;
	if (len > 0)
		memcpy(out + n, data, len);
	ws_mask(out + n, len, mask, 0);
	return n + len;
}

static void
say_frame(struct fixture *fix, uint8_t first, const void *data, size_t len)
{
	uint8_t frame[MAX_MESSAGE + 100];

	say(fix, frame, put_frame(frame, first, data, len));
}

/* What the peer has got is exactly this. */
static void
hear(struct fixture *fix, const void *data, size_t len)
{
	uint8_t got[MAX_MESSAGE + 100];

	assert_int_equal(recv(fix->peer, got, sizeof(got), 0), len);
	assert_memory_equal(got, data, len);
}

static void
hear_close(struct fixture *fix, int code)
{
	const uint8_t frame[] = { 0x88, 2, (uint8_t)(code >> 8),
		(uint8_t)code };
	char byte;

	hear(fix, frame, sizeof(frame));
	assert_int_equal(recv(fix->peer, &byte, 1, 0), 0);
}

/* ---- tests ------------------------------------------------------------- */

static void
a_message_comes_in_any_pieces(void **state)
{
	struct fixture *fix = *state;
	uint8_t bytes[200];
	size_t len = 0;

	len += put_frame(bytes + len, 0x01, "Gr", 2);
	len += put_frame(bytes + len, 0x89, "ping", 4); /* between fragments */
	len += put_frame(bytes + len, 0x00, "\xc3", 1);
	len += put_frame(bytes + len, 0x00, "", 0);
	len += put_frame(bytes + len, 0x80, "\xbc\xc3\x9f", 3);
	say(fix, bytes, len);
	run(fix);
	assert_int_equal(fix->messages, 1);
	assert_false(fix->binary);
	assert_string_equal(fix->text, "Gr\xc3\xbc\xc3\x9f");
	hear(fix, "\x8a\x04ping", 6);
	for (size_t i = 0; i < len; i++) {
		say(fix, bytes + i, 1);
		settle(fix);
	}
	assert_int_equal(fix->messages, 2);
	assert_string_equal(fix->text, "Gr\xc3\xbc\xc3\x9f");
	hear(fix, "\x8a\x04ping", 6);
}

static void
many_messages_come_at_once(void **state)
{
	struct fixture *fix = *state;
	uint8_t bytes[200];
	size_t len = 0;

	len += put_frame(bytes + len, 0x82, "a\0b", 3);
	len += put_frame(bytes + len, 0x8a, "", 0); /* nobody asked */
	len += put_frame(bytes + len, 0x81, "", 0);
	fix->echo = true;
	say(fix, bytes, len);
	run(fix);
	assert_int_equal(fix->messages, 2);
	hear(fix,
	    "\x82\x03"
	    "a\0b\x81\x00",
	    7);
}

static void
sends_with_a_prefix_and_as_much_as_may_wait(void **state)
{
	struct fixture *fix = *state;
	char *large = xcalloc(1, MAX_QUEUE);
	size_t got = 0;

	assert_true(eio_ws_send(fix->ws, false, '4', "hi", 2));
	hear(fix,
	    "\x81\x03"
	    "4hi",
	    5);
	assert_false(eio_ws_send(fix->ws, true, 0, large, MAX_QUEUE));
	assert_true(eio_ws_send(fix->ws, true, 0, large, MAX_QUEUE - 10));
	/* the socket has taken a part, and another one does not fit */
	assert_false(eio_ws_send(fix->ws, true, 0, large, MAX_QUEUE - 10));
	while (got < MAX_QUEUE) {
		ssize_t n = recv(fix->peer, large, MAX_QUEUE, 0);

		if (n > 0)
			got += (size_t)n;
		else
			settle(fix);
	}
	assert_int_equal(got, MAX_QUEUE);
	assert_true(eio_ws_send(fix->ws, true, 0, large, MAX_QUEUE - 10));
	free(large);
}

static void
the_peers_close_is_echoed(void **state)
{
	struct fixture *fix = *state;

	say_frame(fix, 0x88,
	    "\x03\xe9"
	    "bye",
	    5);
	run(fix);
	assert_int_equal(fix->ends, 1);
	assert_false(fix->error);
	hear_close(fix, 1001);
	fix = again(state);
	say_frame(fix, 0x88, "", 0);
	run(fix);
	hear(fix, "\x88\x00", 2);
}

static void
a_violation_is_answered_with_its_code(void **state)
{
	static const char large[MAX_MESSAGE + 1];
	static const struct {
		uint8_t first;
		const char *data;
		size_t len;
		int code;
	} cases[] = {
		{ 0x80, "x", 1, 1002 }, /* continues nothing */
		{ 0x83, "x", 1, 1002 }, /* reserved opcode */
		{ 0xc1, "x", 1, 1002 }, /* RSV1 */
		{ 0x09, "x", 1, 1002 }, /* a ping in fragments */
		{ 0x81, "\xff", 1, 1007 }, { 0x82, large, sizeof(large), 1009 },
		{ 0x88, "\x03", 1, 1002 },
		{ 0x88, "\x03\xed", 2, 1002 },	   /* 1005 */
		{ 0x88, "\x03\xe8\xff", 3, 1007 }, /* its reason */
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture *fix = again(state);

		say_frame(fix, cases[i].first, cases[i].data, cases[i].len);
		run(fix);
		assert_int_equal(fix->messages, 0);
		assert_int_equal(fix->ends, 1);
		assert_true(fix->error);
		hear_close(fix, cases[i].code);
	}
}

static void
fragments_are_not_mixed_and_not_larger_than_a_message(void **state)
{
	static const char half[MAX_MESSAGE / 2 + 1];
	struct fixture *fix = *state;

	say_frame(fix, 0x01, "a", 1);
	say_frame(fix, 0x81, "b", 1);
	run(fix);
	hear_close(fix, 1002);
	fix = again(state);
	say_frame(fix, 0x02, half, sizeof(half));
	settle(fix);
	assert_int_equal(fix->ends, 0);
	say_frame(fix, 0x80, half, sizeof(half));
	run(fix);
	hear_close(fix, 1009);
	assert_int_equal(fix->messages, 0);
	/* no mask */
	fix = again(state);
	say(fix, "\x81\x01x", 3);
	run(fix);
	hear_close(fix, 1002);
}

static void
a_peer_that_leaves_is_told_of(void **state)
{
	struct fixture *fix = *state;

	say_frame(fix, 0x81, "last", 4);
	(void)close(fix->peer);
	fix->peer = -1;
	run(fix);
	assert_string_equal(fix->text, "last");
	if (fix->ends == 0)
		run(fix);
	assert_int_equal(fix->ends, 1);
	assert_false(fix->error);
}

static void
closing_says_so_and_hears_no_more(void **state)
{
	struct fixture *fix = *state;
	uint8_t bytes[64];
	size_t len;

	fix->close_now = true;
	len = put_frame(bytes, 0x81, "one", 3);
	len += put_frame(bytes + len, 0x81, "two", 3);
	say(fix, bytes, len);
	run(fix);
	say_frame(fix, 0x81, "three", 5);
	settle(fix);
	assert_int_equal(fix->messages, 1);
	assert_int_equal(fix->ends, 0);
	hear_close(fix, 1000);
}

/* Who pings and never reads does not make us keep its pongs. */
static void
pings_without_end_take_no_memory(void **state)
{
	static const char data[125];
	struct fixture *fix = *state;
	char byte;
	int pings = 0;

	while (pings < 20000) {
		say_frame(fix, 0x89, data, sizeof(data));
		settle(fix);
		pings++;
	}
	assert_int_equal(fix->ends, 0);
	/* it still works for one who reads again */
	while (recv(fix->peer, &byte, 1, 0) == 1)
		continue;
	settle(fix);
	say_frame(fix, 0x81, "a", 1);
	run(fix);
	assert_string_equal(fix->text, "a");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_message_comes_in_any_pieces),
		TEST(many_messages_come_at_once),
		TEST(sends_with_a_prefix_and_as_much_as_may_wait),
		TEST(the_peers_close_is_echoed),
		TEST(a_violation_is_answered_with_its_code),
		TEST(fragments_are_not_mixed_and_not_larger_than_a_message),
		TEST(a_peer_that_leaves_is_told_of),
		TEST(closing_says_so_and_hears_no_more),
		TEST(pings_without_end_take_no_memory),
	};

	return cmocka_run_group_tests_name("eio_ws", tests, NULL, NULL);
}
