/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "broker/tunnels/control_peer.h"
#include "common/clock.h"
#include "common/crypt.h"
#include "common/log.h"
#include "common/wire.h"
#include "common/ws_frame.h"
#include "tunnel/intake.h"
#include "tunnel/session.h"

#define GIVE_UP_MS 10000
#define ANSWER_MS  5000 /* as broker_link has it */
#define REST                                         \
	"Host: a.example\r\nConnection: Upgrade\r\n" \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define UPGRADE	   "Upgrade: websocket\r\n"
#define VERSION_13 "Sec-WebSocket-Version: 13\r\n"
#define REQUEST	   "GET /echo?a=b HTTP/1.1\r\n" REST UPGRADE VERSION_13 "\r\n"
#define CLOSE	   "{\"v\":1,\"type\":\"close\",\"code\":4001,\"reason\":\"r\"}"
#define DENY_(x)   "{\"v\":1,\"type\":\"deny\"," x "}"

/* The test is the client, the broker and the vendor. */
struct fixture {
	char dir[32];
	struct sockaddr_un addr;
	struct loop *loop;
	struct loop_timer *timer;
	struct session_env env;
	struct session *session;
	int session_fd; /* the session's: only looked at */
	int client, broker_listener, broker, vendor_listener, vendor;
	uint16_t port;
	const char *behind;   /* sent in one with the request; NULL: nothing */
	const char *messages; /* of the grant, as its last member; NULL: none */
	int done;
	bool timed_out;
	char answer[4096]; /* what the client got */
	json_t *body;
};

/* In place of common/clock.c: a test can let time pass without waiting. */
static int64_t clock_skipped_ms;

int64_t
clock_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return clock_skipped_ms + (int64_t)now.tv_sec * 1000 +
	    now.tv_nsec / 1000000;
}

int64_t
clock_unix(void)
{
	return (int64_t)time(NULL);
}

static void
on_done(void *arg, struct session *session)
{
	struct fixture *fix = arg;

	assert_ptr_equal(session, fix->session);
	session_free(session);
	fix->session = NULL;
	fix->done++;
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
on_readable(void *arg, bool readable, bool writable)
{
	struct fixture *fix = arg;

	(void)readable;
	(void)writable;
	loop_stop(fix->loop);
}

static int
listen_at(const void *addr, socklen_t len, int family, int type)
{
	int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_int_not_equal(fd, -1);
	assert_int_equal(bind(fd, addr, len), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

static void
listen_for_all(struct fixture *fix)
{
	struct sockaddr_in vendor = { .sin_family = AF_INET };
	socklen_t len = sizeof(vendor);

	vendor.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fix->vendor_listener =
	    listen_at(&vendor, sizeof(vendor), AF_INET, SOCK_STREAM);
	assert_int_equal(getsockname(fix->vendor_listener, (void *)&vendor,
			     &len),
	    0);
	fix->port = ntohs(vendor.sin_port);
	fix->addr.sun_family = AF_UNIX;
	(void)snprintf(fix->addr.sun_path, sizeof(fix->addr.sun_path),
	    "%s/control", fix->dir);
	fix->broker_listener =
	    listen_at(&fix->addr, sizeof(fix->addr), AF_UNIX, SOCK_SEQPACKET);
}

static int
set_up(void **state)
{
	struct fixture *fix = calloc(1, sizeof(*fix));
	int pair[2];

	assert_non_null(fix);
	(void)strcpy(fix->dir, "/tmp/culvert-test.XXXXXX");
	assert_non_null(mkdtemp(fix->dir));
	fix->broker = fix->vendor = -1;
	listen_for_all(fix);
	assert_int_equal(loop_new(&fix->loop, NULL), ERR_OK);
	assert_int_equal(loop_begin(fix->loop), ERR_OK);
	fix->timer = loop_timer_new(fix->loop, on_time, fix);
	fix->env.loop = fix->loop;
	fix->env.control_path = fix->addr.sun_path;
	assert_int_equal(socketpair(AF_UNIX,
			     SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
			     pair),
	    0);
	clock_skipped_ms = 0;
	fix->client = pair[1];
	fix->session_fd = pair[0];
	fix->session = session_start(&fix->env, pair[0], on_done, fix);
	*state = fix;
	return 0;
}

static void
hang_up(int *fd)
{
	if (*fd != -1)
		(void)close(*fd);
	*fd = -1;
}

static int
tear_down(void **state)
{
	struct fixture *fix = *state;

	session_free(fix->session);
	loop_timer_free(fix->timer);
	loop_free(fix->loop);
	hang_up(&fix->client);
	hang_up(&fix->broker);
	hang_up(&fix->broker_listener);
	hang_up(&fix->vendor);
	hang_up(&fix->vendor_listener);
	json_decref(fix->body);
	(void)unlink(fix->addr.sun_path);
	(void)rmdir(fix->dir);
	free(fix);
	return 0;
}

/* A fresh start within a test. */
static struct fixture *
again(void **state)
{
	(void)tear_down(state);
	(void)set_up(state);
	return *state;
}

/* ---- letting things happen ---------------------------------------------- */

/* Run until someone stops the loop, or for so long: whether someone did. */
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
wait_for(struct fixture *fix, int fd)
{
	struct loop_watch *watch =
	    loop_watch_new(fix->loop, fd, on_readable, fix);

	loop_watch_set(watch, true, false);
	assert_true(run(fix, GIVE_UP_MS));
	loop_watch_free(watch);
}

/* What can happen without anybody's doing has happened. */
static void
settle(struct fixture *fix)
{
	for (int i = 0; i < 10; i++)
		(void)run(fix, 0);
}

static void
expect_done(struct fixture *fix)
{
	if (fix->done == 0)
		assert_true(run(fix, GIVE_UP_MS));
	assert_int_equal(fix->done, 1);
}

static void
say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL),
	    strlen(text));
}

/* Nothing, and it is the end. */
static void
expect_end(struct fixture *fix, int fd)
{
	char c;

	wait_for(fix, fd);
	assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), 0);
}

/* ---- the broker --------------------------------------------------------- */

static struct wire_packet *
receive(struct fixture *fix, enum wire_type type)
{
	static char text[WIRE_MAX_BYTES];
	struct wire_packet *packet = NULL;
	ssize_t len;

	wait_for(fix, fix->broker);
	len = recv(fix->broker, text, sizeof(text), MSG_DONTWAIT);
	assert_true(len > 0);
	assert_int_equal(wire_parse(text, (size_t)len, &packet, NULL), ERR_OK);
	assert_int_equal(packet->type, type);
	return packet;
}

/* The request is in, and the broker has been asked. */
static void
reach_ask(struct fixture *fix)
{
	struct wire_packet *open;
	char request[512];

	(void)snprintf(request, sizeof(request), "%s%s", REQUEST,
	    fix->behind != NULL ? fix->behind : "");
	say(fix->client, request);
	wait_for(fix, fix->broker_listener);
	fix->broker = accept(fix->broker_listener, NULL, NULL);
	assert_int_not_equal(fix->broker, -1);
	open = receive(fix, WIRE_OPEN);
	assert_string_equal(open->open.method, "GET");
	assert_string_equal(open->open.target, "/echo?a=b");
	assert_true(open->open.peer_local);
	assert_null(open->open.peer_address);
	assert_string_equal(wire_headers_find(&open->open.headers, "host"),
	    "a.example");
	wire_packet_free(open);
}

static void
grant(struct fixture *fix)
{
	char text[1024];

	(void)snprintf(text, sizeof(text),
	    "{\"v\":1,\"type\":\"grant\",\"lease\":\"l1\",\"session\":\"s1\","
	    "\"route\":\"/echo\",\"upstream\":{\"tls\":false,"
	    "\"addresses\":[\"127.0.0.1\"],\"port\":%u,\"name\":\"a.example\","
	    "\"host\":\"a.example\",\"target\":\"/\",\"headers\":[],"
	    "\"subprotocols\":[]},\"limits\":{\"client_message_bytes\":0,"
	    "\"upstream_message_bytes\":0,\"client_messages_per_s\":0,"
	    "\"client_bytes_per_s\":0,\"connect_ms\":60000,\"idle_ms\":0,"
	    "\"lifetime_ms\":0,\"ping_ms\":0,\"pong_ms\":60000,"
	    "\"stall_ms\":0,\"usage_ms\":0}%s}",
	    fix->port, fix->messages != NULL ? fix->messages : "");
	say(fix->broker, text);
}

static void
expect_last_packet(struct fixture *fix, const char *cause, const char *side)
{
	struct wire_packet *last = receive(fix, WIRE_END);

	assert_string_equal(last->usage.cause, cause);
	assert_string_equal(last->usage.side, side);
	wire_packet_free(last);
	expect_end(fix, fix->broker);
}

/* ---- the vendor --------------------------------------------------------- */

/* Granted, and the vendor has the request; its key goes to key. */
static void
reach_dial(struct fixture *fix, char key[25])
{
	char request[2048], *at;
	ssize_t len;

	reach_ask(fix);
	grant(fix);
	wait_for(fix, fix->vendor_listener);
	fix->vendor = accept(fix->vendor_listener, NULL, NULL);
	assert_int_not_equal(fix->vendor, -1);
	wait_for(fix, fix->vendor);
	len = recv(fix->vendor, request, sizeof(request) - 1, MSG_DONTWAIT);
	assert_true(len > 0);
	request[len] = '\0';
	at = strstr(request, "Sec-WebSocket-Key: ");
	assert_non_null(at);
	memcpy(key, at + 19, 24);
	key[24] = '\0';
}

static void
accept_upgrade(struct fixture *fix, const char *key)
{
	char accept[29], text[256];

	crypt_ws_accept(key, strlen(key), accept);
	(void)snprintf(text, sizeof(text),
	    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
	    "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
	    accept);
	say(fix->vendor, text);
}

/* ---- the client --------------------------------------------------------- */

static void
read_answer(struct fixture *fix)
{
	ssize_t n;

	wait_for(fix, fix->client);
	n = recv(fix->client, fix->answer, sizeof(fix->answer) - 1, 0);
	assert_true(n > 0);
	fix->answer[n] = '\0';
}

static const char *
error_member(const struct fixture *fix, const char *name)
{
	return json_string_value(
	    json_object_get(json_object_get(fix->body, "error"), name));
}

/* A refusal as it has to be, the end after it, and then nothing is left. */
static void
expect_refusal(struct fixture *fix, int status, const char *code)
{
	char line[32], length[48];
	const char *body;

	read_answer(fix);
	(void)snprintf(line, sizeof(line), "HTTP/1.1 %d ", status);
	assert_memory_equal(fix->answer, line, strlen(line));
	body = strstr(fix->answer, "\r\n\r\n");
	assert_non_null(body);
	body += 4;
	(void)snprintf(length, sizeof(length), "\r\nContent-Length: %zu\r\n",
	    strlen(body));
	assert_non_null(strstr(fix->answer, length));
	assert_non_null(strstr(fix->answer, "\r\nConnection: close\r\n"));
	fix->body = json_loads(body, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(fix->body);
	assert_string_equal(error_member(fix, "code"), code);
	assert_true(error_member(fix, "message")[0] != '\0');
	expect_end(fix, fix->client);
	assert_int_equal(fix->done, 0);
	hang_up(&fix->client);
	expect_done(fix);
}

static void
expect_unavailable(struct fixture *fix)
{
	const char *retry;
	int seconds;

	expect_refusal(fix, 503, "unavailable");
	retry = strstr(fix->answer, "\r\nRetry-After: ");
	assert_non_null(retry);
	seconds = atoi(retry + 15);
	assert_in_range(seconds, 1, 5);
}

static void
expect_nobody_was_asked(struct fixture *fix)
{
	assert_int_equal(accept(fix->broker_listener, NULL, NULL), -1);
	assert_int_equal(errno, EAGAIN);
}

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

/* ---- what the broker is told of messages --------------------------------- */

#define DONE(id)                                                         \
	"\x81\x3f{\"type\":\"response.done\",\"response\":{\"id\":\"" id \
	"\",\"usage\":{\"a\":1}}}"

/* A relay whose messages are read so. */
static void
reach_reading(struct fixture *fix, const char *messages)
{
	char key[25];

	fix->messages = messages;
	reach_dial(fix, key);
	accept_upgrade(fix, key);
	read_answer(fix);
}

static void
expect_event(const struct wire_packet *packet, size_t at, int n, const char *id)
{
	json_t *event = json_array_get(packet->usage.events, at);

	assert_int_equal(json_integer_value(json_object_get(event, "n")), n);
	assert_string_equal(json_string_value(json_object_get(event, "id")),
	    id);
}

static void
usage_is_told_soon_gathered_and_once(void **state)
{
	struct fixture *fix = *state;
	struct wire_packet *packet;

	reach_reading(fix,
	    ",\"messages\":{\"usage\":true,\"inspect_bytes\":0}");
	say(fix->vendor, DONE("r1") DONE("r2"));
	packet = receive(fix, WIRE_USAGE);
	assert_int_equal(json_array_size(packet->usage.events), 2);
	expect_event(packet, 0, 1, "r1");
	expect_event(packet, 1, 2, "r2");
	assert_int_equal(packet->usage.upstream.messages, 2);
	wire_packet_free(packet);
	say(fix->vendor, DONE("r3") "\x88\x02\x03\xe8");
	assert_int_equal(send(fix->client, "\x88\x82\0\0\0\0\x03\xe8", 8,
			     MSG_NOSIGNAL),
	    8);
	wait_for(fix, fix->vendor);
	(void)shutdown(fix->vendor, SHUT_WR);
	packet = receive(fix, WIRE_END);
	assert_int_equal(json_array_size(packet->usage.events), 1);
	expect_event(packet, 0, 3, "r3");
	wire_packet_free(packet);
}

static void
many_events_become_as_many_packets_as_they_need(void **state)
{
	struct fixture *fix = *state;
	struct wire_packet *packet;
	int n = 0;

	reach_reading(fix,
	    ",\"messages\":{\"usage\":true,\"inspect_bytes\":0}");
	for (int i = 0; i < WIRE_EVENTS_MAX + 1; i++)
		say(fix->vendor, DONE("r1"));
	while (n < WIRE_EVENTS_MAX + 1) {
		packet = receive(fix, WIRE_USAGE);
		for (size_t i = 0; i < json_array_size(packet->usage.events);
		     i++)
			expect_event(packet, i, ++n, "r1");
		wire_packet_free(packet);
	}
}

static void
messages_are_told_of_for_a_log(void **state)
{
	struct fixture *fix = *state;
	struct wire_packet *packet;
	json_t *record;

	reach_reading(fix,
	    ",\"messages\":{\"usage\":false,\"log\":\"full\",\"inspect_bytes\":"
	    "0}");
	say(fix->vendor, "\x81\x0c{\"type\":\"a\"}\x01\x01x\x80\x01y");
	packet = receive(fix, WIRE_LOG);
	assert_int_equal(json_array_size(packet->log.records), 2);
	assert_int_equal(packet->log.dropped, 0);
	record = json_array_get(packet->log.records, 0);
	assert_string_equal(json_string_value(json_object_get(record, "type")),
	    "a");
	assert_string_equal(json_string_value(json_object_get(record, "from")),
	    "upstream");
	assert_true(
	    json_integer_value(json_object_get(record, "at")) > 1000000000000);
	record = json_array_get(packet->log.records, 1);
	assert_string_equal(json_string_value(json_object_get(record, "text")),
	    "xy");
	wire_packet_free(packet);
}

/* ---- a broker that comes back -------------------------------------------- */

#define RESUME	",\"resume\":\"text\""
#define COUNTED ",\"messages\":{\"usage\":true,\"inspect_bytes\":0}" RESUME
#define BUDGET                                                \
	",\"messages\":{\"usage\":true,\"budget\":\"error\"," \
	"\"inspect_bytes\":4096}" RESUME
#define RESUMED                                                    \
	"{\"v\":1,\"type\":\"resumed\",\"limits\":{"               \
	"\"client_message_bytes\":0,\"upstream_message_bytes\":0," \
	"\"client_messages_per_s\":0,\"client_bytes_per_s\":0,"    \
	"\"connect_ms\":60000,\"idle_ms\":0,\"lifetime_ms\":0,"    \
	"\"ping_ms\":0,\"pong_ms\":60000,\"stall_ms\":0,\"usage_ms\":0}}"
#define ACK(n)	  "{\"v\":1,\"type\":\"ack\",\"n\":" #n "}"
#define MINUTE_MS (60 * 1000)

/* Another broker is asked for the lease. */
static void
take_resume(struct fixture *fix)
{
	struct wire_packet *packet;

	wait_for(fix, fix->broker_listener);
	fix->broker = accept(fix->broker_listener, NULL, NULL);
	assert_int_not_equal(fix->broker, -1);
	packet = receive(fix, WIRE_RESUME);
	assert_string_equal(packet->resume.resume, "text");
	wire_packet_free(packet);
}

static void
come_back(struct fixture *fix)
{
	hang_up(&fix->broker);
	take_resume(fix);
	say(fix->broker, RESUMED);
}

/* There is no broker for a while. */
static void
go_away(struct fixture *fix)
{
	hang_up(&fix->broker);
	hang_up(&fix->broker_listener);
	(void)unlink(fix->addr.sun_path);
	settle(fix);
}

static void
listen_again(struct fixture *fix)
{
	fix->broker_listener =
	    listen_at(&fix->addr, sizeof(fix->addr), AF_UNIX, SOCK_SEQPACKET);
}

/* Both peers close, and both connections end. */
static void
end_conversation(struct fixture *fix)
{
	char got[64];

	assert_int_equal(send(fix->client, "\x88\x82\0\0\0\0\x03\xe8", 8,
			     MSG_NOSIGNAL),
	    8);
	wait_for(fix, fix->vendor);
	assert_true(recv(fix->vendor, got, sizeof(got), 0) > 0);
	say(fix->vendor, "\x88\x02\x03\xe8");
	hang_up(&fix->vendor);
	while (recv(fix->client, got, sizeof(got), 0) != 0)
		settle(fix);
	hang_up(&fix->client);
	settle(fix);
}

/* A report of so many events, from this number on. */
static void
expect_usage(struct fixture *fix, enum wire_type type, size_t count, int n)
{
	struct wire_packet *packet = receive(fix, type);

	assert_int_equal(json_array_size(packet->usage.events), count);
	if (count > 0)
		expect_event(packet, 0, n, "r1");
	wire_packet_free(packet);
}

static void
usage_is_told_again_until_it_is_in_the_ledger(void **state)
{
	struct fixture *fix = *state;

	reach_reading(fix, COUNTED);
	say(fix->vendor, DONE("r1"));
	expect_usage(fix, WIRE_USAGE, 1, 1);
	come_back(fix);
	expect_usage(fix, WIRE_USAGE, 1, 1);
	say(fix->vendor, DONE("r1"));
	expect_usage(fix, WIRE_USAGE, 1, 2);
	say(fix->broker, ACK(1));
	settle(fix);
	come_back(fix);
	expect_usage(fix, WIRE_USAGE, 1, 2);
	say(fix->broker, ACK(2));
	settle(fix);
	go_away(fix);
	say(fix->vendor, DONE("r1"));
	settle(fix);
	listen_again(fix);
	come_back(fix);
	expect_usage(fix, WIRE_USAGE, 1, 3);
	/* nobody at either end has noticed */
	say(fix->vendor, "\x81\x02hi");
	wait_for(fix, fix->client);
	assert_int_equal(fix->done, 0);
}

/* One that is not confirmed any more is no reason to forget the others. */
static void
only_what_was_sent_can_be_confirmed(void **state)
{
	struct fixture *fix = *state;

	reach_reading(fix, COUNTED);
	say(fix->vendor, DONE("r1"));
	settle(fix);
	say(fix->broker, ACK(99));
	settle(fix);
	expect_usage(fix, WIRE_USAGE, 1, 1);
	say(fix->broker, ACK(1));
	settle(fix);
	come_back(fix);
	expect_usage(fix, WIRE_USAGE, 0, 0);
}

static void
an_end_is_delivered_when_there_is_a_broker(void **state)
{
	struct fixture *fix = *state;

	reach_reading(fix, COUNTED);
	go_away(fix);
	say(fix->vendor, DONE("r1"));
	settle(fix);
	end_conversation(fix);
	assert_int_equal(fix->done, 0);
	listen_again(fix);
	come_back(fix);
	expect_usage(fix, WIRE_END, 1, 1);
	/* it has been told, and nobody knows whether it was kept */
	settle(fix);
	assert_int_equal(fix->done, 0);
	come_back(fix);
	expect_usage(fix, WIRE_END, 1, 1);
	say(fix->broker, ACK(1));
	expect_end(fix, fix->broker);
	expect_done(fix);
}

static void
an_end_without_usage_is_delivered_at_once(void **state)
{
	struct fixture *fix = *state;

	reach_reading(fix, COUNTED);
	end_conversation(fix);
	expect_usage(fix, WIRE_END, 0, 0);
	expect_end(fix, fix->broker);
	expect_done(fix);
}

static void
an_end_is_given_up_in_the_end(void **state)
{
	struct fixture *fix = *state;

	reach_reading(fix, COUNTED);
	go_away(fix);
	end_conversation(fix);
	clock_skipped_ms += 9 * MINUTE_MS;
	settle(fix);
	assert_int_equal(fix->done, 0);
	clock_skipped_ms += MINUTE_MS;
	expect_done(fix);
	/* who has to stop does not wait for that */
	fix = again(state);
	reach_reading(fix, COUNTED);
	go_away(fix);
	end_conversation(fix);
	session_stop(fix->session);
	settle(fix);
	assert_int_equal(fix->done, 0);
	clock_skipped_ms += 3000;
	expect_done(fix);
}

static void
a_refusal_is_delivered_late_as_well(void **state)
{
	struct fixture *fix = *state;
	char key[25], got[16];

	fix->messages = COUNTED;
	reach_dial(fix, key);
	go_away(fix);
	say(fix->vendor, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
	read_answer(fix);
	while (recv(fix->client, got, sizeof(got), 0) != 0)
		settle(fix);
	hang_up(&fix->client);
	settle(fix);
	assert_int_equal(fix->done, 0);
	listen_again(fix);
	come_back(fix);
	expect_usage(fix, WIRE_END, 0, 0);
	expect_done(fix);
}

static void
expect_close(struct fixture *fix, int code)
{
	uint8_t got[64];

	wait_for(fix, fix->client);
	assert_true(recv(fix->client, got, sizeof(got), 0) > 4);
	assert_int_equal(got[0], 0x88);
	assert_int_equal(got[2] << 8 | got[3], code);
}

static void
a_lease_that_nobody_takes_up_ends(void **state)
{
	struct fixture *fix = *state;

	reach_reading(fix, COUNTED);
	hang_up(&fix->broker);
	take_resume(fix);
	say(fix->broker,
	    DENY_("\"status\":403,\"code\":\"x\",\"message\":\"no\","
		  "\"headers\":[]"));
	expect_close(fix, 1012);
	end_conversation(fix);
	expect_done(fix);
}

static void
a_lease_that_was_revoked_meanwhile_ends(void **state)
{
	struct fixture *fix = *state;

	reach_reading(fix, COUNTED);
	say(fix->vendor, DONE("r1"));
	expect_usage(fix, WIRE_USAGE, 1, 1);
	hang_up(&fix->broker);
	take_resume(fix);
	say(fix->broker, CLOSE);
	wait_for(fix, fix->client);
	(void)recv(fix->client, fix->answer, 65, 0);
	end_conversation(fix);
	expect_usage(fix, WIRE_END, 1, 1);
	say(fix->broker, ACK(1));
	expect_done(fix);
}

/* ---- responses that wait ------------------------------------------------- */

#define CREATE "{\"type\":\"response.create\"}"

static void
say_create(struct fixture *fix)
{
	assert_int_equal(send(fix->client, "\x81\x9a\0\0\0\0" CREATE, 6 + 26,
			     MSG_NOSIGNAL),
	    6 + 26);
}

static void
expect_question(struct fixture *fix, int64_t n)
{
	struct wire_packet *packet = receive(fix, WIRE_ASK);

	assert_int_equal(packet->ask.n, n);
	wire_packet_free(packet);
}

static void
expect_passed(struct fixture *fix)
{
	uint8_t got[64];

	wait_for(fix, fix->vendor);
	assert_int_equal(recv(fix->vendor, got, sizeof(got), 0), 6 + 26);
	ws_mask(got + 6, 26, got + 2, 0);
	assert_memory_equal(got + 6, CREATE, 26);
}

static void
expect_error(struct fixture *fix, const char *code)
{
	read_answer(fix);
	/* behind the header of its frame */
	assert_non_null(strstr(fix->answer + 4, code));
}

static void
a_response_waits_for_the_brokers_answer(void **state)
{
	struct fixture *fix = *state;
	struct wire_packet *packet;

	reach_reading(fix, BUDGET);
	say_create(fix);
	expect_question(fix, 1);
	say(fix->broker,
	    "{\"v\":1,\"type\":\"answer\",\"n\":1,\"allowed\":true}");
	expect_passed(fix);
	say(fix->vendor, DONE("r1"));
	packet = receive(fix, WIRE_USAGE);
	expect_event(packet, 0, 1, "r1");
	assert_int_equal(json_integer_value(json_object_get(
			     json_array_get(packet->usage.events, 0), "ask")),
	    1);
	assert_int_equal(packet->usage.asked, 1);
	assert_int_equal(packet->usage.open_count, 0);
	wire_packet_free(packet);
	(void)recv(fix->client, fix->answer, sizeof(fix->answer), 0);
	say_create(fix);
	expect_question(fix, 2);
	say(fix->broker,
	    "{\"v\":1,\"type\":\"answer\",\"n\":2,\"allowed\":false,"
	    "\"code\":\"budget_spent\",\"message\":\"Nothing left.\"}");
	expect_error(fix, "\"budget_spent\"");
}

static void
a_response_waits_for_a_broker(void **state)
{
	struct fixture *fix = *state;
	struct wire_packet *packet;

	reach_reading(fix, BUDGET);
	say_create(fix);
	expect_question(fix, 1);
	come_back(fix);
	packet = receive(fix, WIRE_USAGE);
	assert_int_equal(packet->usage.asked, 1);
	assert_int_equal(packet->usage.open_count, 1);
	wire_packet_free(packet);
	expect_question(fix, 1);
	say(fix->broker,
	    "{\"v\":1,\"type\":\"answer\",\"n\":1,\"allowed\":true}");
	expect_passed(fix);
}

/* Too late is refused, and the session goes on. */
static void
a_response_does_not_wait_for_ever(void **state)
{
	struct fixture *fix = *state;
	struct wire_packet *packet;

	reach_reading(fix, BUDGET);
	say_create(fix);
	expect_question(fix, 1);
	clock_skipped_ms += 14000;
	settle(fix);
	clock_skipped_ms += 1000;
	expect_error(fix, "\"unavailable\"");
	packet = receive(fix, WIRE_USAGE);
	assert_int_equal(packet->usage.asked, 1);
	assert_int_equal(packet->usage.open_count, 0);
	wire_packet_free(packet);
	/* an answer that comes now is nobody's */
	say(fix->broker,
	    "{\"v\":1,\"type\":\"answer\",\"n\":1,\"allowed\":true}");
	settle(fix);
	go_away(fix);
	say_create(fix);
	settle(fix);
	clock_skipped_ms += 10000;
	expect_error(fix, "\"unavailable\"");
	say_create(fix);
	settle(fix);
	listen_again(fix);
	come_back(fix);
	packet = receive(fix, WIRE_USAGE);
	assert_int_equal(packet->usage.asked, 3);
	wire_packet_free(packet);
	expect_question(fix, 3);
	say(fix->broker,
	    "{\"v\":1,\"type\":\"answer\",\"n\":3,\"allowed\":true}");
	expect_passed(fix);
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
		TEST(usage_is_told_soon_gathered_and_once),
		TEST(many_events_become_as_many_packets_as_they_need),
		TEST(messages_are_told_of_for_a_log),
		TEST(rules_that_are_none_are_an_error_of_ours),
		TEST(usage_is_told_again_until_it_is_in_the_ledger),
		TEST(only_what_was_sent_can_be_confirmed),
		TEST(an_end_is_delivered_when_there_is_a_broker),
		TEST(an_end_without_usage_is_delivered_at_once),
		TEST(an_end_is_given_up_in_the_end),
		TEST(a_refusal_is_delivered_late_as_well),
		TEST(a_lease_that_nobody_takes_up_ends),
		TEST(a_lease_that_was_revoked_meanwhile_ends),
		TEST(a_response_waits_for_the_brokers_answer),
		TEST(a_response_waits_for_a_broker),
		TEST(a_response_does_not_wait_for_ever),
		TEST(stopping_answers_whoever_has_asked),
		TEST(stopping_closes_a_relay_for_both),
	};

	log_init("test_session", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
