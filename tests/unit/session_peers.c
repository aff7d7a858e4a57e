/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock_double.h"
#include "common/crypt.h"
#include "session_peers.h"

#define GIVE_UP_MS 10000

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

int
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

int
set_up(void **state)
{
	static struct log_limit refusals = LOG_LIMIT_A_MINUTE;
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
	fix->env.refusals = &refusals;
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

void
hang_up(int *fd)
{
	if (*fd != -1)
		(void)close(*fd);
	*fd = -1;
}

int
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
struct fixture *
again(void **state)
{
	(void)tear_down(state);
	(void)set_up(state);
	return *state;
}

/* ---- letting things happen ---------------------------------------------- */

/* Run until someone stops the loop, or for so long: whether someone did. */
bool
run(struct fixture *fix, int64_t ms)
{
	fix->timed_out = false;
	loop_timer_set(fix->timer, ms);
	assert_int_equal(loop_run(fix->loop), ERR_OK);
	loop_timer_stop(fix->timer);
	return !fix->timed_out;
}

void
wait_for(struct fixture *fix, int fd)
{
	struct loop_watch *watch =
	    loop_watch_new(fix->loop, fd, on_readable, fix);

	loop_watch_set(watch, true, false);
	assert_true(run(fix, GIVE_UP_MS));
	loop_watch_free(watch);
}

/* What can happen without anybody's doing has happened. */
void
settle(struct fixture *fix)
{
	for (int i = 0; i < 10; i++)
		(void)run(fix, 0);
}

void
expect_done(struct fixture *fix)
{
	if (fix->done == 0)
		assert_true(run(fix, GIVE_UP_MS));
	assert_int_equal(fix->done, 1);
}

void
say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL),
	    strlen(text));
}

/* Nothing, and it is the end. */
void
expect_end(struct fixture *fix, int fd)
{
	char c;

	wait_for(fix, fd);
	assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), 0);
}

/* ---- the broker --------------------------------------------------------- */

struct wire_packet *
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
void
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

void
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

void
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
void
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

void
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

void
read_answer(struct fixture *fix)
{
	ssize_t n;

	wait_for(fix, fix->client);
	n = recv(fix->client, fix->answer, sizeof(fix->answer) - 1, 0);
	assert_true(n > 0);
	fix->answer[n] = '\0';
}

const char *
error_member(const struct fixture *fix, const char *name)
{
	return json_string_value(
	    json_object_get(json_object_get(fix->body, "error"), name));
}

/* A refusal as it has to be, the end after it, and then nothing is left. */
void
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

void
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

void
expect_nobody_was_asked(struct fixture *fix)
{
	assert_int_equal(accept(fix->broker_listener, NULL, NULL), -1);
	assert_int_equal(errno, EAGAIN);
}
