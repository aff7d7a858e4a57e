/* SPDX-License-Identifier: MIT */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/http/fcgi.h"
#include "broker/http/parked.h"
#include "broker/http/route.h"
#include "broker/hub/hub.h"
#include "common/clock.h"
#include "common/xalloc.h"
#include "web_server.h"

#define POST(length)                                      \
	WEB_LOCAL "REQUEST_METHOD=POST\nREQUEST_URI=/x\n" \
		  "CONTENT_TYPE=application/json\n"       \
		  "CONTENT_LENGTH=" length "\n"
#define GET  WEB_LOCAL "REQUEST_METHOD=GET\nREQUEST_URI=/x\n"
#define HEAD WEB_LOCAL "REQUEST_METHOD=HEAD\nREQUEST_URI=/x\n"
#define MANY 200

/* Of the hub's thread, after an event was told through the pipe. */
static struct {
	struct parked *parked[MANY];
	unsigned count;
	size_t written; /* of a stream that is as long as there is room */
	bool in_write;
	int peer;      /* our end, where the hub closes it */
	int events[2]; /* a pipe: 'p'arked, 'g'one, 'w'ritable, 'r'efused */
} world;

static void
tell(char event)
{
	assert_int_equal(write(world.events[1], &event, 1), 1);
}

static void
await(char event)
{
	char c = 0;

	assert_int_equal(read(world.events[0], &c, 1), 1);
	assert_int_equal(c, event);
}

static void
on_gone(void *arg)
{
	(void)arg;
	tell(world.in_write ? '!' : 'g');
}

static void
on_writable(void *arg)
{
	(void)arg;
	tell(world.in_write ? '!' : 'w');
}

static const struct parked_events events = {
	.gone = on_gone,
	.writable = on_writable,
};

static void
begin_parked(void *arg)
{
	parked_begin(arg, &events, NULL);
	world.parked[world.count++] = arg;
	tell('p');
}

static json_t *
flat_error(const char *code, const char *message)
{
	return json_pack("{s:s, s:s}", "error", code, "message", message);
}

/* Park it, or say why not. */
static void
finish_park(struct request *req, struct parked *parked, enum err err,
    const char *reason)
{
	if (err != ERR_OK) {
		request_reply_error(req, err, reason);
		tell('r');
	} else if (!hub_post(begin_parked, parked)) {
		parked_drop(parked);
	}
}

static void
park(struct request *req)
{
	struct diag diag = { "" };
	struct parked *parked = NULL;
	enum err err;

	request_add_header(req, "X-Before", "1");
	err = parked_take(req, &parked, &diag);
	finish_park(req, parked, err, diag.text);
}

/* Parks what has a body or none. */
static void
handle(struct request *req)
{
	struct diag diag = { "" };
	const json_t *body;

	if (strcmp(request_path(req), "/healthz") == 0) {
		route_handle(req);
		return;
	}
	if (strcmp(request_method(req), "POST") == 0 &&
	    request_json(req, &body, &diag) != ERR_OK)
		tell('!');
	park(req);
}

static void
handle_with_error_form(struct request *req)
{
	request_set_error_form(req, flat_error);
	park(req);
}

/* Nearly without descriptors, while it is parked. */
static rlim_t descriptors;

static void
handle_at_the_limit(struct request *req)
{
	struct diag diag = { "" };
	struct parked *parked = NULL;
	struct rlimit old, few;
	enum err err;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	few.rlim_cur = descriptors;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	err = parked_take(req, &parked, &diag);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	finish_park(req, parked, err, diag.text);
}

static void
start(const char *requests, request_handler *handler)
{
	struct diag diag;

	memset(&world, 0, sizeof(world));
	assert_int_equal(pipe(world.events), 0);
	assert_int_equal(hub_start(&diag), ERR_OK);
	web_start(requests, "", handler);
}

static void
stop(void)
{
	web_stop();
	parked_stop();
	hub_stop();
	(void)close(world.events[0]);
	(void)close(world.events[1]);
}

/* The connection ends, and no answer came, nor a part of one. */
static void
assert_hung_up(int fd)
{
	char c;

	assert_int_equal(recv(fd, &c, 1, 0), 0);
	(void)close(fd);
}

/* What is done to the request that was parked first. */
static void
do_in_hub(hub_run *run)
{
	assert_true(hub_call(run, world.parked[0]));
}

static void
reply_hello(void *arg)
{
	parked_add_header(arg, "X-After", "2");
	parked_add_header(arg, "X-Bad", "a\r\nb");
	parked_add_header(arg, "cache-control", "max-age=1");
	parked_reply(arg, 201, "text/x", "hello", 5);
}

static void
answers_later_with_all_headers(void **state)
{
	int fd;

	(void)state;
	start("threads = 1", handle);
	fd = web_ask(GET);
	await('p');
	do_in_hub(reply_hello);
	web_assert_answer(fd,
	    "Status: 201 Created\r\nContent-Type: text/x\r\n"
	    "Content-Length: 5\r\nX-Content-Type-Options: nosniff\r\n"
	    "X-Before: 1\r\nX-After: 2\r\ncache-control: max-age=1\r\n"
	    "\r\nhello",
	    "hello");
	stop();
}

static void
answers_after_a_body(void **state)
{
	int fd;

	(void)state;
	start("threads = 1", handle);
	fd = web_dial();
	web_put_request(fd, true, POST("7"));
	web_put_record(fd, WEB_STDIN, "{\"a\"", 4);
	web_put_record(fd, WEB_STDIN, ":1}", 3);
	web_put_record(fd, WEB_STDIN, "", 0);
	await('p');
	do_in_hub(reply_hello);
	web_assert_answer(fd, "Status: 201", "\r\n\r\nhello");
	stop();
}

static void
reply_empty(void *arg)
{
	parked_reply(arg, 204, "text/x", NULL, 0);
}

static void
answers_head_and_204_without_a_body(void **state)
{
	static const struct {
		const char *params;
		hub_run *run;
		const char *begins, *has;
	} cases[] = {
		{ HEAD, reply_hello, "Status: 201", "Content-Length: 5\r\n" },
		{ GET, reply_empty,
		    "Status: 204 No Content\r\nCache-Control: no-store\r\n"
		    "X-Content-Type-Options: nosniff\r\nX-Before: 1\r\n\r\n",
		    "" },
	};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		bool ended;
		char *text;
		int fd;

		start("threads = 1", handle);
		fd = web_ask(cases[i].params);
		await('p');
		do_in_hub(cases[i].run);
		text = web_get_answer(fd, &ended);
		assert_true(ended);
		assert_int_equal(strncmp(text, cases[i].begins,
				     strlen(cases[i].begins)),
		    0);
		assert_non_null(strstr(text, cases[i].has));
		assert_string_equal(strstr(text, "\r\n\r\n"), "\r\n\r\n");
		free(text);
		stop();
	}
}

static void
reply_denied(void *arg)
{
	parked_reply_error(arg, ERR_DENIED, "no");
}

static void
answers_errors_in_the_form_of_its_clients(void **state)
{
	int fd;

	(void)state;
	start("threads = 1", handle);
	fd = web_ask(GET);
	await('p');
	do_in_hub(reply_denied);
	web_assert_answer(fd, "Status: 403",
	    "{\"error\":{\"code\":\"forbidden\",\"message\":\"no\"}}");
	stop();
	start("threads = 1", handle_with_error_form);
	fd = web_ask(GET);
	await('p');
	do_in_hub(reply_denied);
	web_assert_answer(fd, "Status: 403",
	    "{\"error\":\"forbidden\",\"message\":\"no\"}");
	stop();
}

static void
drop_all(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < world.count; i++)
		parked_drop(world.parked[i]);
	world.count = 0;
}

static void
waits_without_a_thread_and_with_little_memory(void **state)
{
	size_t before, used;
	int fds[MANY];

	(void)state;
	start("threads = 1", handle);
	web_assert_answer(web_ask(WEB_GET_HEALTH), "Status: 200", "ok");
	before = mallinfo2().uordblks;
	for (int i = 0; i < MANY; i++) {
		fds[i] = web_ask(GET);
		await('p');
	}
	used = mallinfo2().uordblks - before;
	web_assert_answer(web_ask(WEB_GET_HEALTH), "Status: 200", "ok");
	assert_in_range(used / MANY, 0, 1024);
	assert_true(hub_call(drop_all, NULL));
	for (int i = 0; i < MANY; i++)
		assert_hung_up(fds[i]);
	stop();
}

/* ---- in pieces --------------------------------------------------------- */

static void
start_stream(void *arg)
{
	parked_start(arg, 200, "text/event-stream");
}

static void
write_event(void *arg)
{
	assert_int_equal(parked_write(arg, "data: 1\n\n", 9), 9);
}

static void
end_stream(void *arg)
{
	parked_end(arg);
}

static void
sends_each_piece_as_a_record_of_its_own(void **state)
{
	char data[1024];
	size_t len;
	int fd;

	(void)state;
	start("threads = 1", handle);
	fd = web_ask(GET);
	await('p');
	do_in_hub(start_stream);
	assert_int_equal(web_get_record(fd, data, sizeof(data), &len),
	    WEB_STDOUT);
	assert_string_equal(data,
	    "Status: 200 OK\r\nContent-Type: text/event-stream\r\n"
	    "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
	    "X-Before: 1\r\nX-Accel-Buffering: no\r\n\r\n");
	for (int i = 0; i < 3; i++) {
		do_in_hub(write_event);
		assert_int_equal(web_get_record(fd, data, sizeof(data), &len),
		    WEB_STDOUT);
		assert_string_equal(data, "data: 1\n\n");
	}
	do_in_hub(end_stream);
	assert_int_equal(web_get_record(fd, data, sizeof(data), &len),
	    WEB_STDOUT);
	assert_int_equal(len, 0);
	assert_int_equal(web_get_record(fd, data, sizeof(data), &len), WEB_END);
	assert_int_equal(len, 8);
	assert_memory_equal(data, "\0\0\0\0\0\0\0\0", 8);
	assert_int_equal(web_get_record(fd, data, sizeof(data), &len), 0);
	(void)close(fd);
	stop();
}

static void
sends_a_stream_no_body_to_head(void **state)
{
	int fd;

	(void)state;
	start("threads = 1", handle);
	fd = web_ask(HEAD);
	await('p');
	do_in_hub(start_stream);
	do_in_hub(write_event);
	do_in_hub(end_stream);
	web_assert_answer(fd, "Status: 200", "X-Accel-Buffering: no\r\n\r\n");
	stop();
}

/* Write numbered lines until there is no room; then, until there is less. */
static void
write_until_full(void *arg)
{
	char line[4096];
	size_t taken;

	world.in_write = true;
	do {
		/* a line says where it begins, and takes all of this */
		memset(line, '.', sizeof(line));
		(void)snprintf(line, sizeof(line), "%zu", world.written);
		line[strlen(line)] = ' ';
		line[sizeof(line) - 1] = '\n';
		taken = parked_write(arg, line, sizeof(line));
		assert_true(taken == sizeof(line) || taken == 0);
		world.written += taken;
	} while (taken > 0 && world.written < 64 * 1024 * 1024);
	world.in_write = false;
	tell('f');
}

static void
keeps_what_a_slow_reader_has_no_room_for(void **state)
{
	size_t at = 0, lines = 0, len;
	bool ended = false;
	char *data, *line;
	int fd;

	(void)state;
	start("threads = 1", handle);
	fd = web_ask(GET);
	await('p');
	do_in_hub(start_stream);
	do_in_hub(write_until_full);
	await('f');
	assert_in_range(world.written, 1, 8 * 1024 * 1024);
	data = malloc(1 << 20);
	assert_int_equal(web_get_record(fd, data, 1 << 20, &len), WEB_STDOUT);
	/* it reads again: so there is room, and no more is told than that */
	while (at < world.written) {
		int type = web_get_record(fd, data, 1 << 20, &len);
		size_t value;

		assert_int_equal(type, WEB_STDOUT);
		assert_int_equal(len, 4096);
		value = strtoul(data, &line, 10);
		assert_int_equal(value, at);
		assert_int_equal(data[4095], '\n');
		at += len;
		lines++;
	}
	await('w');
	do_in_hub(write_event);
	do_in_hub(end_stream);
	assert_int_equal(web_get_record(fd, data, 1 << 20, &len), WEB_STDOUT);
	assert_string_equal(data, "data: 1\n\n");
	while (!ended) {
		int type = web_get_record(fd, data, 1 << 20, &len);

		assert_int_not_equal(type, 0);
		ended = type == WEB_END;
	}
	free(data);
	(void)close(fd);
	stop();
}

#define BIG_BYTES ((size_t)3 * 1024 * 1024)

static void
reply_big(void *arg)
{
	char *body = malloc(BIG_BYTES);

	memset(body, 'b', BIG_BYTES);
	parked_reply(arg, 200, "text/x", body, BIG_BYTES);
	free(body);
}

static void
sends_an_answer_that_is_larger_than_a_socket(void **state)
{
	char *data = malloc(1 << 20);
	size_t len, sum = 0;
	int fd, type;

	(void)state;
	start("threads = 1", handle);
	fd = web_ask(GET);
	await('p');
	do_in_hub(reply_big);
	assert_int_equal(web_get_record(fd, data, 1 << 20, &len), WEB_STDOUT);
	while ((type = web_get_record(fd, data, 1 << 20, &len)) == WEB_STDOUT)
		sum += len;
	assert_int_equal(type, WEB_END);
	assert_int_equal(sum, BIG_BYTES);
	free(data);
	(void)close(fd);
	stop();
}

/* ---- its end ----------------------------------------------------------- */

static void
drop_first(void *arg)
{
	parked_drop(arg);
}

static void
tells_once_that_the_web_server_has_hung_up(void **state)
{
	int fd;

	(void)state;
	start("threads = 1", handle);
	fd = web_ask(GET); /* while it waits */
	await('p');
	(void)close(fd);
	await('g');
	do_in_hub(drop_first);
	stop();
	start("threads = 1", handle);
	fd = web_ask(GET); /* in a stream */
	await('p');
	do_in_hub(start_stream);
	do_in_hub(write_event);
	(void)close(fd);
	await('g');
	do_in_hub(write_event); /* harmless: it is thrown away */
	do_in_hub(drop_first);
	stop();
	start("threads = 1", handle);
	fd = web_ask(GET); /* who hears of it ends the answer, nevertheless */
	await('p');
	(void)close(fd);
	await('g');
	do_in_hub(reply_hello);
	stop();
}

static void
on_gone_later(void *arg)
{
	(void)arg;
	tell('l');
}

static void
begin_again(void *arg)
{
	static const struct parked_events later = { .gone = on_gone_later };

	parked_begin(arg, &later, NULL);
}

static void
tells_whoever_has_taken_it_over(void **state)
{
	int fd;

	(void)state;
	start("threads = 1", handle);
	fd = web_ask(GET);
	await('p');
	do_in_hub(begin_again);
	(void)close(fd);
	await('l');
	do_in_hub(drop_first);
	stop();
}

static void
write_often(void *arg)
{
	world.in_write = true;
	for (int i = 0; i < 10; i++)
		assert_int_equal(parked_write(arg, "x", 1), 1);
	world.in_write = false;
}

/* What is posted runs before what epoll says of the same moment. */
static void
tells_of_a_failed_write_after_the_call_that_wrote(void **state)
{
	int fd;

	(void)state;
	start("threads = 1", handle);
	fd = web_ask(GET);
	await('p');
	do_in_hub(start_stream);
	assert_true(hub_post(write_often, world.parked[0]));
	(void)close(fd);
	assert_true(hub_post(write_often, world.parked[0]));
	await('g');
	do_in_hub(drop_first);
	stop();
}

/* So that the failed write and epoll tell of it in the same round. */
static void
hang_up_and_write(void *arg)
{
	(void)close(world.peer);
	write_often(arg);
}

static void
tells_whoever_has_taken_it_over_once(void **state)
{
	(void)state;
	start("threads = 1", handle);
	world.peer = web_ask(GET);
	await('p');
	do_in_hub(begin_again);
	do_in_hub(start_stream);
	do_in_hub(hang_up_and_write);
	await('l');
	do_in_hub(drop_first);
	tell('n'); /* nothing came before */
	await('n');
	stop();
}

static void
takes_a_peer_that_reads_nothing_for_gone(void **state)
{
	int64_t began_ms;
	int fd;

	(void)state;
	start("threads = 1 timeout = 1", handle);
	fd = web_ask(GET);
	await('p');
	do_in_hub(start_stream);
	do_in_hub(write_until_full);
	await('f');
	began_ms = clock_ms();
	await('g');
	assert_in_range(clock_ms() - began_ms, 500, 10000);
	do_in_hub(write_until_full); /* is thrown away */
	await('f');
	do_in_hub(end_stream);
	(void)close(fd);
	stop();
}

static void
gives_up_an_answer_that_nobody_takes(void **state)
{
	char *data = malloc(1 << 20);
	size_t len;
	int fd, type;

	(void)state;
	start("threads = 1 timeout = 1", handle);
	fd = web_ask(GET);
	await('p');
	do_in_hub(reply_big);
	/* the timer of the other is set later, and is as long */
	(void)web_ask(GET);
	await('p');
	assert_true(hub_call(start_stream, world.parked[1]));
	assert_true(hub_call(write_until_full, world.parked[1]));
	await('f');
	await('g');
	assert_true(hub_call(drop_first, world.parked[1]));
	do
		type = web_get_record(fd, data, 1 << 20, &len);
	while (type == WEB_STDOUT);
	assert_int_equal(type, 0); /* not WEB_END */
	free(data);
	(void)close(fd);
	stop();
}

static void
hangs_up_on_what_is_dropped(void **state)
{
	bool ended;
	char *text;
	int fd;

	(void)state;
	start("threads = 1", handle);
	fd = web_ask(GET);
	await('p');
	do_in_hub(start_stream);
	do_in_hub(drop_first);
	text = web_get_answer(fd, &ended);
	assert_false(ended);
	assert_int_equal(strncmp(text, "Status: 200", 11), 0);
	free(text);
	stop();
}

static void
hangs_up_on_unfinished_answers_at_the_stop(void **state)
{
	char *data = malloc(1 << 20);
	size_t len;
	int fd, type;

	(void)state;
	start("threads = 1", handle);
	fd = web_ask(GET);
	await('p');
	do_in_hub(reply_big);
	stop();
	do
		type = web_get_record(fd, data, 1 << 20, &len);
	while (type == WEB_STDOUT);
	assert_int_equal(type, 0);
	free(data);
	(void)close(fd);
}

static void
drops_what_comes_when_there_is_no_hub(void **state)
{
	(void)state;
	start("threads = 1", handle);
	hub_stop();
	assert_hung_up(web_ask(GET));
	stop();
}

static void
refuses_more_than_descriptors_allow(void **state)
{
	int fds[3];

	(void)state;
	descriptors = 4;
	start("threads = 1", handle_at_the_limit);
	for (int i = 0; i < 3; i++) {
		fds[i] = web_ask(GET);
		await('p');
	}
	for (int i = 0; i < 2; i++) {
		web_assert_answer(web_ask(GET), "Status: 503",
		    "too many requests wait");
		await('r');
	}
	do_in_hub(reply_hello);
	web_assert_answer(fds[0], "Status: 201", "hello");
	fds[0] = web_ask(GET);
	await('p'); /* there is room again */
	for (int i = 1; i < 4; i++)
		assert_true(hub_call(reply_hello, world.parked[i]));
	for (int i = 0; i < 3; i++)
		web_assert_answer(fds[i], "Status: 201", "hello");
	stop();
}

static void
gives_one_address_no_more_than_a_quarter(void **state)
{
	static const char get[] = "REQUEST_METHOD=GET\nREQUEST_URI=/x\n";
	static const char *const addresses[] = { "2001:db8::1", "2001:db8::2",
		"2001:db8::3", "2001:db8:0:1::1", "127.0.0.1" };
	char *params;
	int fds[6];

	(void)state;
	descriptors = 16; /* of which twelve are for these */
	start("threads = 1", handle_at_the_limit);
	for (size_t i = 0; i < 5; i++) {
		params = xasprintf("REMOTE_ADDR=%s\n%s", addresses[i], get);
		fds[i] = web_ask(params);
		await('p');
		free(params);
	}
	params = xasprintf("REMOTE_ADDR=2001:db8::4\n%s", get);
	web_assert_answer(web_ask(params), "Status: 429",
	    "too many requests of this address wait");
	await('r');
	do_in_hub(reply_hello);
	web_assert_answer(fds[0], "Status: 201", "hello");
	fds[5] = web_ask(params);
	await('p');
	free(params);
	for (unsigned i = 1; i < 6; i++) {
		assert_true(hub_call(reply_hello, world.parked[i]));
		web_assert_answer(fds[i], "Status: 201", "hello");
	}
	stop();
}

/* What a CGI program is: it cannot give its connection away. */
static enum err
write_text(void *arg, int64_t deadline_ms, const char *data, size_t len)
{
	(void)deadline_ms;
	(void)strncat(arg, data, len);
	return ERR_OK;
}

static enum err
end_text(void *arg)
{
	(void)arg;
	return ERR_OK;
}

static void
refuses_where_there_is_no_fastcgi(void **state)
{
	static const struct request_io io = {
		.write = write_text,
		.end = end_text,
	};
	static char method[] = "REQUEST_METHOD=GET", uri[] = "REQUEST_URI=/x";
	static char *const envp[] = { method, uri, NULL };
	char text[1024] = "";
	struct request_source source = {
		.io = &io,
		.io_arg = text,
		.envp = envp,
		.started_ms = clock_ms(),
	};

	(void)state;
	start("threads = 1", handle);
	source.config = config_current();
	request_run(&source, handle);
	await('r');
	assert_int_equal(strncmp(text, "Status: 503", 11), 0);
	assert_non_null(strstr(text, "\"unavailable\""));
	config_unref((struct config *)(uintptr_t)source.config);
	stop();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_later_with_all_headers),
		cmocka_unit_test(answers_after_a_body),
		cmocka_unit_test(answers_head_and_204_without_a_body),
		cmocka_unit_test(answers_errors_in_the_form_of_its_clients),
		cmocka_unit_test(waits_without_a_thread_and_with_little_memory),
		cmocka_unit_test(sends_each_piece_as_a_record_of_its_own),
		cmocka_unit_test(sends_a_stream_no_body_to_head),
		cmocka_unit_test(keeps_what_a_slow_reader_has_no_room_for),
		cmocka_unit_test(sends_an_answer_that_is_larger_than_a_socket),
		cmocka_unit_test(tells_once_that_the_web_server_has_hung_up),
		cmocka_unit_test(
		    tells_of_a_failed_write_after_the_call_that_wrote),
		cmocka_unit_test(tells_whoever_has_taken_it_over),
		cmocka_unit_test(tells_whoever_has_taken_it_over_once),
		cmocka_unit_test(takes_a_peer_that_reads_nothing_for_gone),
		cmocka_unit_test(gives_up_an_answer_that_nobody_takes),
		cmocka_unit_test(hangs_up_on_what_is_dropped),
		cmocka_unit_test(hangs_up_on_unfinished_answers_at_the_stop),
		cmocka_unit_test(drops_what_comes_when_there_is_no_hub),
		cmocka_unit_test(refuses_more_than_descriptors_allow),
		cmocka_unit_test(gives_one_address_no_more_than_a_quarter),
		cmocka_unit_test(refuses_where_there_is_no_fastcgi),
	};

	return cmocka_run_group_tests_name("parked", tests, NULL, NULL);
}
