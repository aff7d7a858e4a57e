/* SPDX-License-Identifier: MIT */
/* Up to the relay, and how it ends; what the broker is told: test_session. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/tunnels/control_peer.h"
#include "clock_double.h"
#include "common/log.h"
#include "session_peers.h"
#include "tunnel/intake.h"

#define ANSWER_MS 5000 /* as broker_link has it */

/* ---- refusals before the broker ----------------------------------------- */

static void
what_is_no_handshake_is_refused_without_the_broker(void **state)
{
	static const struct {
		const char *request;
		int status;
		const char *code, *header;
	} cases[] = {
		{ "POST /echo HTTP/1.1\r\n" REST UPGRADE VERSION_13 "\r\n", 405,
		    "method_not_allowed", "\r\nAllow: GET\r\n" },
		{ "GET /echo HTTP/1.1\r\n" REST VERSION_13 "\r\n", 426,
		    "upgrade_required", "\r\nUpgrade: websocket\r\n" },
		{ "GET /echo HTTP/1.1\r\n" REST UPGRADE
		  "Sec-WebSocket-Version: 8\r\n\r\n",
		    426, "upgrade_required",
		    "\r\nSec-WebSocket-Version: 13\r\n" },
		{ "GET /echo HTTP/1.1\r\n" REST REST UPGRADE VERSION_13 "\r\n",
		    400, "bad_request", "" },
		{ "GET /echo HTTP/1.1\r\n" UPGRADE VERSION_13 "\r\n", 400,
		    "bad_request", "" },
		{ "\x16\x03\x01\x02\r\n", 400, "bad_request", "" },
		{ "GET / HTTP/1.1\r\nA: b\n", 400, "bad_request", "" },
		{ "GET /echo HTTP/1.1\r\nX: \xff\r\n" REST UPGRADE VERSION_13
		  "\r\n",
		    400, "bad_request", "" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture *fix = again(state);

		say(fix->client, cases[i].request);
		expect_refusal(fix, cases[i].status, cases[i].code);
		assert_non_null(strstr(fix->answer, cases[i].header));
		expect_nobody_was_asked(fix);
	}
}

static void
a_head_without_an_end_is_refused(void **state)
{
	struct fixture *fix = *state;
	char line[1026];

	memset(line, 'x', sizeof(line));
	memcpy(line, "X: ", 3);
	(void)strcpy(line + sizeof(line) - 3, "\r\n");
	say(fix->client, "GET /echo HTTP/1.1\r\n");
	for (int i = 0; i < 16; i++)
		say(fix->client, line);
	expect_refusal(fix, 431, "head_too_large");
	expect_nobody_was_asked(fix);
}

static void
a_slow_head_is_refused_and_an_unused_connection_closed(void **state)
{
	struct fixture *fix = *state;

	clock_skipped_ms += INTAKE_HEAD_MS;
	expect_end(fix, fix->client);
	expect_done(fix);
	fix = again(state);
	say(fix->client, "GET /ec");
	settle(fix);
	clock_skipped_ms += INTAKE_HEAD_MS;
	expect_refusal(fix, 408, "timeout");
	expect_nobody_was_asked(fix);
}

static void
a_head_may_come_in_pieces(void **state)
{
	struct fixture *fix = *state;
	const char *request = REQUEST;
	size_t half = strlen(request) / 2;

	for (size_t i = 0; i < half; i++) {
		assert_int_equal(send(fix->client, request + i, 1, 0), 1);
		(void)run(fix, 0);
	}
	say(fix->client, request + half);
	wait_for(fix, fix->broker_listener);
}

/* ---- refusals by the broker --------------------------------------------- */

static void
a_denial_is_answered_as_the_broker_says(void **state)
{
	struct fixture *fix = *state;

	reach_ask(fix);
	say(fix->broker,
	    DENY_("\"status\":429,\"code\":\"full\",\"message\":\"too many\","
		  "\"headers\":[[\"Retry-After\",\"7\"]]"));
	expect_refusal(fix, 429, "full");
	assert_string_equal(error_member(fix, "message"), "too many");
	assert_non_null(strstr(fix->answer, "\r\nRetry-After: 7\r\n"));
	/* there was no lease: no packet, just the end */
	expect_end(fix, fix->broker);
	fix = again(state);
	reach_ask(fix);
	say(fix->broker,
	    DENY_("\"status\":400,\"code\":\"x\",\"message\":\"y\","
		  "\"body\":{\"code\":1},\"headers\":[]"));
	read_answer(fix);
	assert_memory_equal(fix->answer, "HTTP/1.1 400 ", 13);
	assert_non_null(strstr(fix->answer, "\r\n\r\n{\"code\":1}"));
}

static void
without_a_broker_the_service_is_unavailable(void **state)
{
	struct fixture *fix = *state;

	hang_up(&fix->broker_listener);
	say(fix->client, REQUEST);
	expect_unavailable(fix);
	fix = again(state);
	reach_ask(fix);
	hang_up(&fix->broker);
	expect_unavailable(fix);
	fix = again(state);
	reach_ask(fix);
	say(fix->broker, "garbage");
	expect_unavailable(fix);
	assert_null(strstr(fix->answer, "garbage"));
	fix = again(state);
	reach_ask(fix);
	clock_skipped_ms += ANSWER_MS + 1;
	expect_unavailable(fix);
}

/* ---- refusals after the grant ------------------------------------------- */

static void
a_vendor_that_cannot_be_reached_is_a_bad_gateway(void **state)
{
	struct fixture *fix = *state;

	hang_up(&fix->vendor_listener);
	reach_ask(fix);
	grant(fix);
	expect_refusal(fix, 502, "upstream_error");
	expect_last_packet(fix, "refused", "tunnel");
}

static void
a_vendors_refusal_is_answered_and_told_to_the_broker(void **state)
{
	static const struct {
		const char *answer;
		int status;
		const char *code, *header;
	} cases[] = {
		{ "HTTP/1.1 401 Secret\r\n\r\n", 502, "upstream_error", "" },
		{ "HTTP/1.1 429 Secret\r\nRetry-After: 9\r\n\r\n", 429,
		    "too_many_requests", "\r\nRetry-After: 9\r\n" },
		{ "Secret garbage\r\n\r\n", 502, "upstream_error", "" },
	};
	char key[25];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture *fix = again(state);

		reach_dial(fix, key);
		say(fix->vendor, cases[i].answer);
		expect_refusal(fix, cases[i].status, cases[i].code);
		assert_non_null(strstr(fix->answer, cases[i].header));
		assert_null(strstr(fix->answer, "Secret"));
		expect_last_packet(fix, "refused", "tunnel");
	}
}

static void
a_vendor_that_is_silent_is_a_gateway_timeout(void **state)
{
	struct fixture *fix = *state;
	char key[25];

	reach_dial(fix, key);
	clock_skipped_ms += 60000;
	expect_refusal(fix, 504, "upstream_timeout");
	expect_last_packet(fix, "refused", "tunnel");
}

static void
a_grant_that_is_taken_back_is_a_refusal(void **state)
{
	struct fixture *fix = *state;
	char key[25];

	reach_dial(fix, key);
	say(fix->broker, CLOSE);
	expect_refusal(fix, 403, "forbidden");
	expect_last_packet(fix, "refused", "tunnel");
	expect_end(fix, fix->vendor);
}

static void
rules_that_are_none_are_an_error_of_ours(void **state)
{
	struct fixture *fix = *state;

	fix->messages = ",\"messages\":{\"usage\":false,\"pin\":{\"allow\":7},"
			"\"inspect_bytes\":4096}";
	reach_ask(fix);
	grant(fix);
	expect_refusal(fix, 500, "internal_error");
}

/* ---- the client leaves -------------------------------------------------- */

static void
a_client_that_leaves_is_followed_in_every_phase(void **state)
{
	struct fixture *fix = *state;
	char key[25];

	/* unused */
	hang_up(&fix->client);
	expect_done(fix);
	/* in its head */
	fix = again(state);
	say(fix->client, "GET /ec");
	settle(fix);
	hang_up(&fix->client);
	expect_done(fix);
	expect_nobody_was_asked(fix);
	/* while the broker decides */
	fix = again(state);
	reach_ask(fix);
	hang_up(&fix->client);
	expect_done(fix);
	expect_end(fix, fix->broker);
	/* while the vendor is dialled */
	fix = again(state);
	reach_dial(fix, key);
	hang_up(&fix->client);
	expect_done(fix);
	expect_last_packet(fix, "client_gone", "client");
	expect_end(fix, fix->vendor);
	/* while it is being refused */
	fix = again(state);
	say(fix->client, "rubbish\r\n\r\n");
	hang_up(&fix->client);
	expect_done(fix);
}

static void
a_client_that_is_lost_in_the_relay_is_told_of(void **state)
{
	struct fixture *fix = *state;
	char key[25], got[64];

	reach_dial(fix, key);
	accept_upgrade(fix, key);
	read_answer(fix);
	hang_up(&fix->client);
	/* the vendor is told first, and has time to answer */
	wait_for(fix, fix->vendor);
	assert_true(recv(fix->vendor, got, sizeof(got), 0) > 6);
	assert_int_equal((uint8_t)got[0], 0x88);
	hang_up(&fix->vendor);
	expect_last_packet(fix, "client_lost", "client");
	expect_done(fix);
}

/* ---- the relay ---------------------------------------------------------- */

static void
a_handshake_becomes_a_relay(void **state)
{
	struct fixture *fix = *state;
	char key[25], got[16];

	reach_dial(fix, key);
	assert_string_not_equal(key, "dGhlIHNhbXBsZSBub25jZQ==");
	accept_upgrade(fix, key);
	read_answer(fix);
	assert_memory_equal(fix->answer, "HTTP/1.1 101 ", 13);
	/* RFC 6455 1.3 */
	assert_non_null(strstr(fix->answer,
	    "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
	say(fix->vendor, "\x81\x02hi");
	wait_for(fix, fix->client);
	assert_int_equal(recv(fix->client, got, sizeof(got), 0), 4);
	assert_memory_equal(got, "\x81\x02hi", 4);
	say(fix->broker, CLOSE);
	wait_for(fix, fix->client);
	assert_int_equal(recv(fix->client, got, sizeof(got), 0), 5);
	assert_memory_equal(got, "\x88\x03\x0f\xa1r", 5);
}

static void
a_lost_broker_does_not_end_a_relay(void **state)
{
	struct fixture *fix = *state;
	char key[25], got[16];

	reach_dial(fix, key);
	hang_up(&fix->broker);
	settle(fix);
	accept_upgrade(fix, key);
	read_answer(fix);
	assert_memory_equal(fix->answer, "HTTP/1.1 101 ", 13);
	say(fix->vendor, "\x81\x02hi");
	wait_for(fix, fix->client);
	assert_int_equal(recv(fix->client, got, sizeof(got), 0), 4);
	assert_int_equal(fix->done, 0);
}

/* Send what goes; how much of it went. */
static size_t
push(struct fixture *fix, const uint8_t *data, size_t len)
{
	size_t sent = 0;
	ssize_t n;

	for (int i = 0; i < 100 && sent < len; i++) {
		n = send(fix->client, data + sent, len - sent, MSG_NOSIGNAL);
		if (n > 0)
			sent += (size_t)n;
		(void)run(fix, 0);
	}
	settle(fix);
	return sent;
}

static void
early_frames_are_kept_up_to_a_bound_and_none_is_lost(void **state)
{
	enum {
		HEAD = 14,
		BYTES = HEAD + 96 * 1024
	};
	static const uint8_t head[HEAD] = { 0x82, 0xff, 0, 0, 0, 0, 0, 1, 0x80,
		0, 0, 0, 0, 0 };
	static uint8_t frame[BYTES], got[BYTES + 1];
	struct fixture *fix = *state;
	size_t len = 0;
	char key[25];
	int unread;
	ssize_t n;

	for (size_t i = 0; i < BYTES; i++)
		frame[i] = (uint8_t)(i * 2654435761U >> 13);
	memcpy(frame, head, HEAD);
	reach_dial(fix, key);
	assert_int_equal(push(fix, frame, BYTES), BYTES);
	assert_int_equal(ioctl(fix->session_fd, FIONREAD, &unread), 0);
	assert_int_equal(unread, BYTES - INTAKE_EARLY_BYTES);
	/* not before the vendor's 101 */
	assert_int_equal(recv(fix->vendor, got, 1, MSG_DONTWAIT), -1);
	accept_upgrade(fix, key);
	read_answer(fix);
	while (len < BYTES) {
		wait_for(fix, fix->vendor);
		n = recv(fix->vendor, got + len, sizeof(got) - len, 0);
		assert_true(n > 0);
		len += (size_t)n;
	}
	assert_int_equal(len, BYTES);
	assert_memory_equal(got, frame, BYTES);
}

static void
frames_behind_the_request_head_are_early_ones(void **state)
{
	struct fixture *fix = *state;
	/* a text of two bytes, its mask is of ones */
	static const char frame[] = "\x81\x82\x01\x01\x01\x01hi";
	char key[25], got[16];

	fix->behind = frame;
	reach_dial(fix, key);
	accept_upgrade(fix, key);
	wait_for(fix, fix->vendor);
	assert_int_equal(recv(fix->vendor, got, sizeof(got), 0),
	    sizeof(frame) - 1);
	assert_memory_equal(got, frame, sizeof(frame) - 1);
}

/* The broker passes the other end of what it reads itself. */
static void
an_upstream_that_is_passed_is_relayed_to_at_once(void **state)
{
	static const char text[] =
	    "{\"v\":1,\"type\":\"grant\",\"lease\":\"l1\",\"session\":\"s1\","
	    "\"route\":\"socket.io\",\"upstream\":{\"passed\":true,"
	    "\"tls\":false,\"addresses\":[],\"port\":0,\"headers\":[],"
	    "\"subprotocols\":[]},\"limits\":{\"client_message_bytes\":0,"
	    "\"upstream_message_bytes\":0,\"client_messages_per_s\":0,"
	    "\"client_bytes_per_s\":0,\"connect_ms\":60000,\"idle_ms\":0,"
	    "\"lifetime_ms\":0,\"ping_ms\":0,\"pong_ms\":60000,"
	    "\"stall_ms\":0,\"usage_ms\":0}}";
	static const char frame[] = "\x81\x82\x01\x01\x01\x01hi";
	static const char close_frame[] = "\x88\x80\x01\x01\x01\x01";
	struct fixture *fix = *state;
	char got[16];
	int fds[2];

	fix->behind = frame;
	reach_ask(fix);
	assert_int_equal(socketpair(AF_UNIX,
			     SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
			     fds),
	    0);
	assert_true(control_peer_send(fix->broker, text, strlen(text), fds[0]));
	(void)close(fds[0]);
	fix->vendor = fds[1];
	read_answer(fix);
	assert_memory_equal(fix->answer, "HTTP/1.1 101 ", 13);
	wait_for(fix, fix->vendor);
	assert_int_equal(recv(fix->vendor, got, sizeof(got), 0),
	    sizeof(frame) - 1);
	assert_memory_equal(got, frame, sizeof(frame) - 1);
	say(fix->vendor, "\x81\x02yo");
	wait_for(fix, fix->client);
	assert_int_equal(recv(fix->client, got, sizeof(got), 0), 4);
	assert_memory_equal(got, "\x81\x02yo", 4);
	/* its end is the client's, with the same code */
	say(fix->client, close_frame);
	wait_for(fix, fix->vendor);
	assert_true(recv(fix->vendor, got, sizeof(got), 0) > 1);
	assert_memory_equal(got, "\x88\x80", 2);
	hang_up(&fix->vendor);
	expect_last_packet(fix, "client_closed", "client");
}

/* ---- stopping ----------------------------------------------------------- */

static void
stopping_answers_whoever_has_asked(void **state)
{
	struct fixture *fix = *state;
	char key[25];

	/* nobody has */
	session_stop(fix->session);
	expect_end(fix, fix->client);
	expect_done(fix);
	fix = again(state);
	say(fix->client, "GET /ec");
	settle(fix);
	session_stop(fix->session);
	expect_unavailable(fix);
	fix = again(state);
	reach_ask(fix);
	session_stop(fix->session);
	expect_unavailable(fix);
	expect_end(fix, fix->broker);
	fix = again(state);
	reach_dial(fix, key);
	session_stop(fix->session);
	expect_unavailable(fix);
	expect_last_packet(fix, "refused", "tunnel");
	expect_end(fix, fix->vendor);
}

static void
stopping_closes_a_relay_for_both(void **state)
{
	struct fixture *fix = *state;
	char key[25], got[64];

	reach_dial(fix, key);
	accept_upgrade(fix, key);
	read_answer(fix);
	session_stop(fix->session);
	wait_for(fix, fix->client);
	assert_true(recv(fix->client, got, sizeof(got), 0) > 4);
	assert_int_equal((uint8_t)got[0], 0x88);
	assert_memory_equal(got + 2, "\x03\xf4", 2); /* 1012 */
	wait_for(fix, fix->vendor);
	assert_true(recv(fix->vendor, got, sizeof(got), 0) > 4);
	assert_int_equal((uint8_t)got[0], 0x88);
	/* again is allowed */
	session_stop(fix->session);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_no_handshake_is_refused_without_the_broker),
		TEST(a_head_without_an_end_is_refused),
		TEST(a_slow_head_is_refused_and_an_unused_connection_closed),
		TEST(a_head_may_come_in_pieces),
		TEST(a_denial_is_answered_as_the_broker_says),
		TEST(without_a_broker_the_service_is_unavailable),
		TEST(a_vendor_that_cannot_be_reached_is_a_bad_gateway),
		TEST(a_vendors_refusal_is_answered_and_told_to_the_broker),
		TEST(a_vendor_that_is_silent_is_a_gateway_timeout),
		TEST(a_grant_that_is_taken_back_is_a_refusal),
		TEST(a_client_that_leaves_is_followed_in_every_phase),
		TEST(a_client_that_is_lost_in_the_relay_is_told_of),
		TEST(a_handshake_becomes_a_relay),
		TEST(a_lost_broker_does_not_end_a_relay),
		TEST(early_frames_are_kept_up_to_a_bound_and_none_is_lost),
		TEST(frames_behind_the_request_head_are_early_ones),
		TEST(an_upstream_that_is_passed_is_relayed_to_at_once),
		TEST(rules_that_are_none_are_an_error_of_ours),
		TEST(stopping_answers_whoever_has_asked),
		TEST(stopping_closes_a_relay_for_both),
	};

	log_init("test_session_open", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("session_open", tests, NULL, NULL);
}
