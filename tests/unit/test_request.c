/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
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

#include "broker/config/config.h"
#include "broker/http/fcgi.h"
#include "broker/http/request.h"
#include "broker/http/route.h"
#include "common/clock.h"
#include "common/service.h"
#include "common/thread.h"
#include "web_server.h"

static struct {
	/* the handler of some tests */
	int entered[2], leave[2]; /* pipes */
} world;

static void
start(const char *requests, request_handler *handler)
{
	assert_int_equal(pipe(world.entered), 0);
	assert_int_equal(pipe(world.leave), 0);
	web_start(requests, "", handler);
}

static void
wait_for_end(enum err expected)
{
	web_wait_for_end(expected);
	for (int i = 0; i < 2; i++) {
		(void)close(world.entered[i]);
		(void)close(world.leave[i]);
	}
}

static void
stop(void)
{
	fcgi_stop();
	wait_for_end(ERR_OK);
}

#define POST_JSON(length)                                 \
	WEB_LOCAL "REQUEST_METHOD=POST\nREQUEST_URI=/x\n" \
		  "CONTENT_TYPE=application/json\nCONTENT_LENGTH=" length "\n"

/* Answers the body it was sent, or why not. */
static void
handle_echo(struct request *req)
{
	const json_t *body;
	struct diag diag = { "" };
	enum err err = request_json(req, &body, &diag);

	if (err != ERR_OK)
		request_reply_error(req, err, diag.text);
	else
		request_reply_json(req, 200, json_deep_copy(body));
}

/* Answers what it was asked, as text of another type. */
static void
handle_raw(struct request *req)
{
	static const char *const types[] = { "application/sdp", "text/x",
		NULL };
	const char *data = "", *type = "", *id = NULL;
	const char *user = request_remote_user(req);
	struct diag diag = { "" };
	char text[256];
	size_t len = 0;
	enum err err = request_query(req, "id", &id, &diag);

	if (err == ERR_OK)
		err = request_body(req, types, 16, &data, &len, &type, &diag);
	if (err == ERR_OK) /* again: the same */
		err = request_body(req, types, 16, &data, &len, &type, &diag);
	if (err != ERR_OK) {
		request_reply_error(req, err, diag.text);
		return;
	}
	(void)snprintf(text, sizeof(text), "%s|%zu|%s|%s|%s|%s", data, len,
	    type, id == NULL ? "-" : id, user == NULL ? "-" : user,
	    request_scheme(req));
	request_reply(req, 201, "application/x-test", text, strlen(text));
}

static json_t *
flat_error(const char *code, const char *message)
{
	return json_pack("{s:s, s:s}", "error", code, "message", message);
}

static void
handle_flat_error(struct request *req)
{
	request_set_error_form(req, flat_error);
	request_reply_error(req, ERR_DENIED, "no");
}

static void
handle_cut_error(struct request *req)
{
	request_set_error_form(req, flat_error);
	request_reply_error(req, ERR_DENIED, "caf\xc3");
}

/* Tells that it was called, and returns when it may. */
static void
handle_waiting(struct request *req)
{
	char c = 'x';

	assert_int_equal(write(world.entered[1], &c, 1), 1);
	assert_int_equal(read(world.leave[0], &c, 1), 1);
	request_reply_empty(req, 204);
}

static void
handle_nothing(struct request *req)
{
	(void)req;
}

static void
handle_hostile_headers(struct request *req)
{
	request_add_header(req, "X-Good", "a b\tc");
	request_add_header(req, "X-Bad", "a\r\nSet-Cookie: b");
	request_add_header(req, "X Bad", "a");
	request_add_header(req, "X-Bad:", "a");
	request_add_header(req, "cache-control", "max-age=1");
	request_reply_status(req, 418, "x", "\xff");
	request_reply_empty(req, 204); /* one too many */
}

static void
answers_a_request(void **state)
{
	(void)state;
	start("threads = 2", route_handle);
	for (int i = 0; i < 5; i++) {
		int fd = web_dial();

		web_put_request(fd, false, WEB_GET_HEALTH);
		web_put_record(fd, WEB_STDIN, "", 0);
		web_assert_answer(fd,
		    "Status: 200 OK\r\n"
		    "Content-Type: application/json\r\nContent-Length: 15\r\n",
		    "\r\n\r\n{\"status\":\"ok\"}");
	}
	stop();
}

static void
answers_head_without_a_body(void **state)
{
	int fd;

	(void)state;
	start("threads = 1", route_handle);
	fd = web_dial();
	web_put_request(fd, false,
	    "REQUEST_METHOD=HEAD\nREQUEST_URI=/healthz\n");
	web_put_record(fd, WEB_STDIN, "", 0);
	web_assert_answer(fd, "Status: 200", "Content-Length: 15\r\n");
	fd = web_dial();
	web_put_request(fd, false,
	    "REQUEST_METHOD=HEAD\nREQUEST_URI=/healthz\n");
	web_put_record(fd, WEB_STDIN, "", 0);
	web_assert_answer(fd, "Status: 200", "nosniff\r\n\r\n");
	stop();
}

static void
keeps_no_connection_that_would_hold_a_worker(void **state)
{
	(void)state;
	start("threads = 1", route_handle);
	for (int i = 0; i < 3; i++) {
		int fd = web_dial();

		web_put_request(fd, true, WEB_GET_HEALTH);
		web_put_record(fd, WEB_STDIN, "", 0);
		/* which is only there when the connection is closed */
		web_assert_answer(fd, "Status: 200", "ok");
	}
	stop();
}

static void
serves_others_while_a_head_is_slow(void **state)
{
	const uint8_t begin[8] = { 0, 1 };
	int slow[3], fd;

	(void)state;
	start("threads = 4", route_handle);
	slow[0] = web_dial(); /* nothing at all */
	slow[1] = web_dial();
	web_put_record(slow[1], WEB_BEGIN, begin, sizeof(begin));
	slow[2] = web_dial();
	web_put_request(slow[2], false, POST_JSON("5"));
	for (int i = 0; i < 5; i++) {
		fd = web_dial();
		web_put_request(fd, false, WEB_GET_HEALTH);
		web_put_record(fd, WEB_STDIN, "", 0);
		web_assert_answer(fd, "Status: 200", "ok");
	}
	for (int i = 0; i < 3; i++)
		(void)close(slow[i]);
	stop();
}

static void
gives_up_on_a_silent_web_server(void **state)
{
	int64_t began_ms;
	char c;
	int fd;

	(void)state;
	start("threads = 1 timeout = 1", route_handle);
	fd = web_dial();
	began_ms = clock_ms();
	assert_int_equal(recv(fd, &c, 1, 0), 0);
	assert_in_range(clock_ms() - began_ms, 900, 10000);
	(void)close(fd);
	fd = web_dial();
	web_put_request(fd, false, WEB_GET_HEALTH);
	web_put_record(fd, WEB_STDIN, "", 0);
	web_assert_answer(fd, "Status: 200", "ok");
	stop();
}

static void
reads_a_body_in_pieces(void **state)
{
	int fd;

	(void)state;
	start("threads = 1", handle_echo);
	fd = web_dial();
	web_put_request(fd, false, POST_JSON("7"));
	web_put_record(fd, WEB_STDIN, "{\"a", 3);
	web_put_record(fd, WEB_STDIN, "\":", 2);
	web_put_record(fd, WEB_STDIN, "1}", 2);
	web_put_record(fd, WEB_STDIN, "", 0);
	web_assert_answer(fd, "Status: 200", "{\"a\":1}");
	stop();
}

static void
refuses_bad_bodies(void **state)
{
	static const struct {
		const char *params, *body, *status;
	} cases[] = {
		{ POST_JSON(""), "{}", "Status: 400" },
		{ POST_JSON("-1"), "{}", "Status: 400" },
		{ POST_JSON("2x"), "{}", "Status: 400" },
		{ POST_JSON("9223372036854775808"), "{}", "Status: 400" },
		{ POST_JSON("9223372036854775807"), "{}", "Status: 413" },
		{ POST_JSON("65537"), "{}", "Status: 413" },
		{ POST_JSON("0"), "", "Status: 400" },
		{ POST_JSON("3"), "{}", "Status: 400" },
		{ POST_JSON("2"), "[]", "Status: 400" },
		{ POST_JSON("2"), "{x", "Status: 400" },
		{ POST_JSON("3"), "{}x", "Status: 400" },
		{ WEB_LOCAL "REQUEST_METHOD=POST\nREQUEST_URI=/x\n"
			    "CONTENT_LENGTH=2\n",
		    "{}", "Status: 415" },
		{ WEB_LOCAL "REQUEST_METHOD=POST\nREQUEST_URI=/x\n"
			    "CONTENT_TYPE=text/plain\nCONTENT_LENGTH=2\n",
		    "{}", "Status: 415" },
		{ WEB_LOCAL "REQUEST_METHOD=POST\nREQUEST_URI=/../x\n"
			    "CONTENT_TYPE=application/json\nCONTENT_LENGTH=2\n",
		    "{}", "Status: 400" },
	};

	(void)state;
	start("threads = 1", handle_echo);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = web_dial();

		web_put_request(fd, false, cases[i].params);
		if (*cases[i].body != '\0')
			web_put_record(fd, WEB_STDIN, cases[i].body,
			    strlen(cases[i].body));
		web_put_record(fd, WEB_STDIN, "", 0);
		web_assert_answer(fd, cases[i].status, "{\"error\":{\"code\":");
	}
	stop();
}

static void
reads_a_raw_body_and_the_query(void **state)
{
	static const struct {
		const char *params, *body, *status, *has;
	} cases[] = {
		{ "REQUEST_URI=/x?id=a%2Fb\nCONTENT_TYPE=application/sdp\n"
		  "CONTENT_LENGTH=3\nREMOTE_USER=eve\nHTTPS=on\n",
		    "v=0",
		    "Status: 201 Created\r\nContent-Type: "
		    "application/x-test\r\n",
		    "\r\n\r\nv=0|3|application/sdp|a/b|eve|https" },
		{ "REQUEST_URI=/x\nCONTENT_TYPE=Text/X ; a=b\n"
		  "CONTENT_LENGTH=3\nREMOTE_USER=\nHTTP_REMOTE_USER=eve\n"
		  "HTTPS=off\nHTTP_HTTPS=on\nQUERY_STRING=id=1\n",
		    "abc", "Status: 201", "abc|3|Text/X ; a=b|-|-|http" },
		{ "SCRIPT_NAME=/x\nQUERY_STRING=id=1\nCONTENT_TYPE=text/x\n"
		  "CONTENT_LENGTH=1\nREQUEST_SCHEME=https\n",
		    "a", "Status: 201", "a|1|text/x|1|-|https" },
		{ "REQUEST_URI=/x?id=1&id=2\nCONTENT_TYPE=text/x\n"
		  "CONTENT_LENGTH=1\n",
		    "a", "Status: 400", "given twice" },
		{ "REQUEST_URI=/x?id=%00\nCONTENT_TYPE=text/x\n"
		  "CONTENT_LENGTH=1\n",
		    "a", "Status: 400", "well encoded" },
		{ "REQUEST_URI=/x\nCONTENT_TYPE=text/xy\nCONTENT_LENGTH=1\n",
		    "a", "Status: 415", "application/sdp" },
		{ "REQUEST_URI=/x\nCONTENT_LENGTH=1\n", "a", "Status: 415",
		    "application/sdp" },
		{ "REQUEST_URI=/x\nCONTENT_TYPE=text/x\nCONTENT_LENGTH=17\n",
		    "a", "Status: 413", "16 bytes" },
		{ "REQUEST_URI=/x\nCONTENT_TYPE=text/x\n", "a", "Status: 400",
		    "no body" },
	};

	(void)state;
	start("threads = 1", handle_raw);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char params[1024];
		int fd = web_dial();

		(void)snprintf(params, sizeof(params),
		    WEB_LOCAL "REQUEST_METHOD=POST\n%s", cases[i].params);
		web_put_request(fd, false, params);
		web_put_record(fd, WEB_STDIN, cases[i].body,
		    strlen(cases[i].body));
		web_put_record(fd, WEB_STDIN, "", 0);
		web_assert_answer(fd, cases[i].status, cases[i].has);
	}
	stop();
}

static void
answers_errors_in_the_form_of_its_clients(void **state)
{
	int fd;

	(void)state;
	start("threads = 1", handle_flat_error);
	fd = web_dial();
	web_put_request(fd, false, WEB_GET_HEALTH);
	web_put_record(fd, WEB_STDIN, "", 0);
	web_assert_answer(fd, "Status: 403",
	    "{\"error\":\"forbidden\",\"message\":\"no\"}");
	stop();
}

static void
an_error_without_its_message_where_that_is_no_utf8(void **state)
{
	int fd;

	(void)state;
	start("threads = 1", handle_cut_error);
	fd = web_dial();
	web_put_request(fd, false, WEB_GET_HEALTH);
	web_put_record(fd, WEB_STDIN, "", 0);
	web_assert_answer(fd, "Status: 403",
	    "{\"error\":\"forbidden\",\"message\":\"forbidden\"}");
	stop();
}

static void
lets_a_server_finish_sending_what_it_refused(void **state)
{
	static char piece[32768];
	bool ended;
	char *text;
	int fd;

	(void)state;
	start("threads = 1", handle_echo);
	fd = web_dial();
	web_put_request(fd, false, POST_JSON("4194304"));
	/* far more than a socket holds: it is thrown away, not a reset */
	for (size_t n = 0; n < 4194304; n += sizeof(piece))
		web_put_record(fd, WEB_STDIN, piece, sizeof(piece));
	web_put_record(fd, WEB_STDIN, "", 0);
	text = web_get_answer(fd, &ended);
	assert_true(ended);
	assert_int_equal(strncmp(text, "Status: 413", 11), 0);
	free(text);
	stop();
}

static void
answers_408_to_a_body_that_does_not_come(void **state)
{
	int64_t began_ms = clock_ms();
	int fd;

	(void)state;
	start("threads = 1 timeout = 1", handle_echo);
	fd = web_dial();
	web_put_request(fd, false, POST_JSON("10"));
	web_put_record(fd, WEB_STDIN, "{", 1);
	web_assert_answer(fd, "Status: 408", "timeout");
	assert_in_range(clock_ms() - began_ms, 900, 10000);
	stop();
}

static void
bounds_a_body_that_trickles(void **state)
{
	int64_t began_ms = clock_ms();
	struct pollfd pfd;
	int fd;

	(void)state;
	start("threads = 1 timeout = 1", handle_echo);
	fd = web_dial();
	web_put_request(fd, false, POST_JSON("60000"));
	/* each byte in time, all of them never */
	pfd = (struct pollfd){ .fd = fd, .events = POLLIN };
	for (int i = 0; i < 200 && poll(&pfd, 1, 100) == 0; i++)
		web_put_record(fd, WEB_STDIN, " ", 1);
	assert_in_range(clock_ms() - began_ms, 900, 5000);
	web_put_record(fd, WEB_STDIN, "", 0);
	web_assert_answer(fd, "Status: 408", "timeout");
	stop();
}

static void
survives_rubbish_and_early_ends(void **state)
{
	static const char params[] = "\x0e\x03REQUEST_METHODGET"
				     "\x0b\x08REQUEST_URI/healthz";
	static const char rubbish[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
	const uint8_t wrong_role[8] = { 0, 9 }, authorizer[8] = { 0, 2 };
	int fd;

	(void)state;
	start("threads = 2", route_handle);
	for (int i = 0; i < 5; i++) {
		fd = web_dial();
		assert_true(send(fd, rubbish, sizeof(rubbish), 0) > 0);
		(void)close(fd);
		fd = web_dial();
		web_put_request(fd, false, WEB_GET_HEALTH);
		(void)close(fd); /* before the answer */
		fd = web_dial();
		web_put_record(fd, WEB_BEGIN, wrong_role, 8);
		(void)close(fd);
	}
	fd = web_dial();
	web_put_record(fd, WEB_BEGIN, authorizer, 8);
	web_put_record(fd, WEB_PARAMS, params, sizeof(params) - 1);
	web_put_record(fd, WEB_PARAMS, "", 0);
	web_put_record(fd, WEB_STDIN, "", 0);
	web_assert_answer(fd, "Status: 500", "error");
	fd = web_dial();
	web_put_request(fd, false, WEB_GET_HEALTH);
	web_put_record(fd, WEB_STDIN, "", 0);
	web_assert_answer(fd, "Status: 200", "ok");
	stop();
}

static void
writes_no_header_that_could_be_two(void **state)
{
	bool ended;
	char *text;
	int fd;

	(void)state;
	start("threads = 1", handle_hostile_headers);
	fd = web_dial();
	web_put_request(fd, false, WEB_GET_HEALTH);
	web_put_record(fd, WEB_STDIN, "", 0);
	text = web_get_answer(fd, &ended);
	assert_true(ended);
	assert_int_equal(strncmp(text, "Status: 418 ", 12), 0);
	assert_non_null(strstr(text, "X-Good: a b\tc\r\n"));
	assert_null(strstr(text, "Bad"));
	assert_null(strstr(text, "Cookie"));
	assert_null(strstr(text, "no-store"));
	assert_non_null(strstr(text, "{\"error\":{\"code\":\"x\""));
	free(text);
	stop();
}

static void
answers_for_a_handler_that_forgot(void **state)
{
	int fd;

	(void)state;
	start("threads = 1", handle_nothing);
	fd = web_dial();
	web_put_request(fd, false, WEB_GET_HEALTH);
	web_put_record(fd, WEB_STDIN, "", 0);
	web_assert_answer(fd, "Status: 500", "internal_error");
	stop();
}

static void
finishes_running_requests_before_it_stops(void **state)
{
	char c;
	int fd, late;

	(void)state;
	start("threads = 2 stop = 20", handle_waiting);
	fd = web_dial();
	web_put_request(fd, false, WEB_GET_HEALTH);
	web_put_record(fd, WEB_STDIN, "", 0);
	assert_int_equal(read(world.entered[0], &c, 1), 1);
	fcgi_stop();
	late = web_dial(); /* queued, for the next process */
	web_put_request(late, false, WEB_GET_HEALTH);
	assert_int_equal(write(world.leave[1], "x", 1), 1);
	web_assert_answer(fd, "Status: 204 No Content\r\n", "");
	assert_int_equal(recv(late, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	(void)close(late);
	wait_for_end(ERR_OK);
}

static void
stops_in_time_whatever_runs(void **state)
{
	int64_t began_ms;
	char c;
	int fd;

	(void)state;
	start("threads = 2 stop = 1", handle_waiting);
	fd = web_dial();
	web_put_request(fd, false, WEB_GET_HEALTH);
	web_put_record(fd, WEB_STDIN, "", 0);
	assert_int_equal(read(world.entered[0], &c, 1), 1);
	began_ms = clock_ms();
	fcgi_stop();
	web_wait_for_end(ERR_TIMEOUT);
	assert_in_range(clock_ms() - began_ms, 900, 10000);
	/* its thread ends after all, so that nothing of it is left over */
	assert_int_equal(write(world.leave[1], "x", 1), 1);
	web_assert_answer(fd, "Status: 204", "");
}

/* Microseconds of processor time that we used so far. */
static int64_t
used_us(void)
{
	struct rusage usage;

	assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) *
	    (int64_t)1000000 +
	    usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

static void
pauses_without_descriptors_and_does_not_spin(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct rlimit old, none;
	struct pollfd pfd = { .events = POLLIN };
	int64_t before_us;

	(void)state;
	start("threads = 2", route_handle);
	pfd.fd = web_dial(); /* whoever is answered, it begins to serve */
	web_put_request(pfd.fd, false, WEB_GET_HEALTH);
	web_put_record(pfd.fd, WEB_STDIN, "", 0);
	web_assert_answer(pfd.fd, "Status: 200", "ok");
	pfd.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = old;
	none.rlim_cur = (rlim_t)dup(pfd.fd); /* the lowest that is free */
	(void)close((int)none.rlim_cur);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	before_us = used_us();
	(void)strcpy(addr.sun_path, web_socket_path());
	assert_int_equal(connect(pfd.fd, (void *)&addr, sizeof(addr)), 0);
	web_put_request(pfd.fd, false, WEB_GET_HEALTH);
	web_put_record(pfd.fd, WEB_STDIN, "", 0);
	assert_int_equal(poll(&pfd, 1, 500), 0); /* no answer yet */
	assert_in_range(used_us() - before_us, 0, 200000);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	web_assert_answer(pfd.fd, "Status: 200", "ok");
	stop();
}

/* What select(2) cannot take: every tunnel's lease is a descriptor too. */
static void
serves_on_descriptors_above_1023(void **state)
{
	struct rlimit old, more;
	int fds[1100], fd;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	more = old;
	more.rlim_cur = 2048;
	if (old.rlim_max < 2048 || setrlimit(RLIMIT_NOFILE, &more) == -1)
		return; /* skip() would count as failed */
	start("threads = 1", handle_echo);
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		fds[i] = dup(web_listener());
	for (int i = 0; i < 3; i++) {
		fd = web_dial();
		assert_true(fd > 1023);
		web_put_request(fd, false, POST_JSON("2"));
		web_put_record(fd, WEB_STDIN, "{}", 2);
		web_put_record(fd, WEB_STDIN, "", 0);
		web_assert_answer(fd, "Status: 200", "{}");
	}
	fd = web_dial();
	assert_true(send(fd, "rubbish", 7, 0) == 7);
	(void)close(fd);
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		(void)close(fds[i]);
	stop();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_a_request),
		cmocka_unit_test(answers_head_without_a_body),
		cmocka_unit_test(keeps_no_connection_that_would_hold_a_worker),
		cmocka_unit_test(serves_others_while_a_head_is_slow),
		cmocka_unit_test(gives_up_on_a_silent_web_server),
		cmocka_unit_test(reads_a_body_in_pieces),
		cmocka_unit_test(refuses_bad_bodies),
		cmocka_unit_test(reads_a_raw_body_and_the_query),
		cmocka_unit_test(answers_errors_in_the_form_of_its_clients),
		cmocka_unit_test(
		    an_error_without_its_message_where_that_is_no_utf8),
		cmocka_unit_test(lets_a_server_finish_sending_what_it_refused),
		cmocka_unit_test(answers_408_to_a_body_that_does_not_come),
		cmocka_unit_test(bounds_a_body_that_trickles),
		cmocka_unit_test(survives_rubbish_and_early_ends),
		cmocka_unit_test(writes_no_header_that_could_be_two),
		cmocka_unit_test(answers_for_a_handler_that_forgot),
		cmocka_unit_test(finishes_running_requests_before_it_stops),
		cmocka_unit_test(pauses_without_descriptors_and_does_not_spin),
		cmocka_unit_test(serves_on_descriptors_above_1023),
		cmocka_unit_test(stops_in_time_whatever_runs),
	};

	return cmocka_run_group_tests_name("request", tests, NULL, NULL);
}
