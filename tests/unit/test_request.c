/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
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
#include "common/xalloc.h"

/*
 * The real request layer and router in a thread, and a web server that speaks
 * FastCGI as it likes: the protocol is written out here, by hand.
 */
#define BEGIN  1
#define END    3
#define PARAMS 4
#define STDIN  5
#define STDOUT 6

static struct {
	char dir[64];
	char socket_path[96];
	int listen_fd;
	pthread_t thread;
	enum err result;
	struct diag diag;
	/* the handler of some tests */
	int entered[2], leave[2]; /* pipes */
} world;

static void
write_config(const char *requests)
{
	char path[128];
	struct config *config;
	struct diag diag = { "" };
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/conf", world.dir);
	f = fopen(path, "w");
	assert_non_null(f);
	(void)fprintf(f,
	    "access { missing_origin = true }\n"
	    "requests { %s }\n",
	    requests);
	assert_int_equal(fclose(f), 0);
	if (config_load(path, &config, &diag) != ERR_OK)
		fail_msg("%s", diag.text);
	config_set_current(config);
	(void)unlink(path);
}

static request_handler *handler;

static void *
serve(void *arg)
{
	(void)arg;
	world.result = fcgi_serve(world.listen_fd, handler, &world.diag);
	return NULL;
}

static void
start(const char *requests, request_handler *with)
{
	(void)strcpy(world.dir, "/tmp/culvert-request-XXXXXX");
	assert_non_null(mkdtemp(world.dir));
	(void)snprintf(world.socket_path, sizeof(world.socket_path), "%s/s",
	    world.dir);
	write_config(requests);
	handler = with;
	assert_int_equal(service_listen_unix(world.socket_path, SOCK_STREAM,
			     0600, &world.listen_fd, NULL),
	    ERR_OK);
	assert_int_equal(pipe(world.entered), 0);
	assert_int_equal(pipe(world.leave), 0);
	assert_int_equal(thread_start(&world.thread, "serve", serve, NULL,
			     NULL),
	    ERR_OK);
}

/* Wait for the end of what was asked to stop, and clean up. */
static void
wait_for_end(enum err expected)
{
	assert_int_equal(pthread_join(world.thread, NULL), 0);
	assert_int_equal(world.result, expected);
	(void)close(world.listen_fd);
	(void)unlink(world.socket_path);
	(void)rmdir(world.dir);
	for (int i = 0; i < 2; i++) {
		(void)close(world.entered[i]);
		(void)close(world.leave[i]);
	}
	config_set_current(NULL);
}

static void
stop(void)
{
	fcgi_stop();
	wait_for_end(ERR_OK);
}

/* ---- a web server ------------------------------------------------------ */

static int
dial(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = 20 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)strcpy(addr.sun_path, world.socket_path);
	assert_int_equal(connect(fd, (void *)&addr, sizeof(addr)), 0);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

static void
put_record(int fd, int type, const void *data, size_t len)
{
	uint8_t head[8] = { 1, (uint8_t)type, 0, 1, (uint8_t)(len >> 8),
		(uint8_t)len };

	assert_int_equal(send(fd, head, 8, MSG_NOSIGNAL), 8);
	if (len > 0)
		assert_int_equal(send(fd, data, len, MSG_NOSIGNAL),
		    (ssize_t)len);
}

/* Begin a request; params is "NAME=value" lines. */
static void
put_request(int fd, bool keep, const char *params)
{
	const uint8_t begin[8] = { 0, 1, keep };
	uint8_t data[8192];
	size_t n = 0;

	put_record(fd, BEGIN, begin, sizeof(begin));
	while (*params != '\0') {
		size_t len = strcspn(params, "\n");
		size_t name = strcspn(params, "="), value = len - name - 1;

		assert_true(n + len + 8 < sizeof(data) && name < 128);
		data[n++] = (uint8_t)name;
		if (value > 127) {
			data[n++] = 0x80;
			data[n++] = 0;
			data[n++] = (uint8_t)(value >> 8);
		}
		data[n++] = (uint8_t)value;
		memcpy(data + n, params, name);
		memcpy(data + n + name, params + name + 1, value);
		n += name + value;
		params += len + (params[len] == '\n');
	}
	put_record(fd, PARAMS, data, n);
	put_record(fd, PARAMS, "", 0);
}

/* The whole answer until the connection is closed; *ret_ended: END came. */
static char *
get_answer(int fd, bool *ret_ended)
{
	uint8_t *raw = xcalloc(1, 1 << 20);
	char *text = xcalloc(1, 1 << 20);
	size_t n = 0, len = 0;
	ssize_t got;

	while ((got = recv(fd, raw + n, (1 << 20) - n, 0)) > 0)
		n += (size_t)got;
	*ret_ended = false;
	for (size_t at = 0; at + 8 <= n;) {
		size_t body = (size_t)(raw[at + 4] << 8 | raw[at + 5]);

		if (raw[at + 1] == STDOUT) {
			memcpy(text + len, raw + at + 8, body);
			len += body;
		}
		*ret_ended |= raw[at + 1] == END;
		at += 8 + body + raw[at + 6];
	}
	free(raw);
	(void)close(fd);
	return text;
}

static void
assert_answer(int fd, const char *begins, const char *has)
{
	bool ended;
	char *text = get_answer(fd, &ended);

	if (!ended || strncmp(text, begins, strlen(begins)) != 0 ||
	    strstr(text, has) == NULL)
		fail_msg("not %s .. %s: %s", begins, has, text);
	free(text);
}

#define LOCAL	   "REMOTE_ADDR=127.0.0.1\n"
#define GET_HEALTH "REQUEST_METHOD=GET\nREQUEST_URI=/healthz\n"
#define POST_JSON(length)                             \
	LOCAL "REQUEST_METHOD=POST\nREQUEST_URI=/x\n" \
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
		int fd = dial();

		put_request(fd, false, GET_HEALTH);
		put_record(fd, STDIN, "", 0);
		assert_answer(fd,
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
	fd = dial();
	put_request(fd, false, "REQUEST_METHOD=HEAD\nREQUEST_URI=/healthz\n");
	put_record(fd, STDIN, "", 0);
	assert_answer(fd, "Status: 200", "Content-Length: 15\r\n");
	fd = dial();
	put_request(fd, false, "REQUEST_METHOD=HEAD\nREQUEST_URI=/healthz\n");
	put_record(fd, STDIN, "", 0);
	assert_answer(fd, "Status: 200", "nosniff\r\n\r\n");
	stop();
}

static void
keeps_no_connection_that_would_hold_a_worker(void **state)
{
	(void)state;
	start("threads = 1", route_handle);
	for (int i = 0; i < 3; i++) {
		int fd = dial();

		put_request(fd, true, GET_HEALTH);
		put_record(fd, STDIN, "", 0);
		/* which is only there when the connection is closed */
		assert_answer(fd, "Status: 200", "ok");
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
	slow[0] = dial(); /* nothing at all */
	slow[1] = dial();
	put_record(slow[1], BEGIN, begin, sizeof(begin));
	slow[2] = dial();
	put_request(slow[2], false, POST_JSON("5"));
	for (int i = 0; i < 5; i++) {
		fd = dial();
		put_request(fd, false, GET_HEALTH);
		put_record(fd, STDIN, "", 0);
		assert_answer(fd, "Status: 200", "ok");
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
	fd = dial();
	began_ms = clock_ms();
	assert_int_equal(recv(fd, &c, 1, 0), 0);
	assert_in_range(clock_ms() - began_ms, 900, 10000);
	(void)close(fd);
	fd = dial();
	put_request(fd, false, GET_HEALTH);
	put_record(fd, STDIN, "", 0);
	assert_answer(fd, "Status: 200", "ok");
	stop();
}

static void
reads_a_body_in_pieces(void **state)
{
	int fd;

	(void)state;
	start("threads = 1", handle_echo);
	fd = dial();
	put_request(fd, false, POST_JSON("7"));
	put_record(fd, STDIN, "{\"a", 3);
	put_record(fd, STDIN, "\":", 2);
	put_record(fd, STDIN, "1}", 2);
	put_record(fd, STDIN, "", 0);
	assert_answer(fd, "Status: 200", "{\"a\":1}");
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
		{ LOCAL "REQUEST_METHOD=POST\nREQUEST_URI=/x\n"
			"CONTENT_LENGTH=2\n",
		    "{}", "Status: 415" },
		{ LOCAL "REQUEST_METHOD=POST\nREQUEST_URI=/x\n"
			"CONTENT_TYPE=text/plain\nCONTENT_LENGTH=2\n",
		    "{}", "Status: 415" },
		{ LOCAL "REQUEST_METHOD=POST\nREQUEST_URI=/../x\n"
			"CONTENT_TYPE=application/json\nCONTENT_LENGTH=2\n",
		    "{}", "Status: 400" },
	};

	(void)state;
	start("threads = 1", handle_echo);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = dial();

		put_request(fd, false, cases[i].params);
		if (*cases[i].body != '\0')
			put_record(fd, STDIN, cases[i].body,
			    strlen(cases[i].body));
		put_record(fd, STDIN, "", 0);
		assert_answer(fd, cases[i].status, "{\"error\":{\"code\":");
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
		int fd = dial();

		(void)snprintf(params, sizeof(params),
		    LOCAL "REQUEST_METHOD=POST\n%s", cases[i].params);
		put_request(fd, false, params);
		put_record(fd, STDIN, cases[i].body, strlen(cases[i].body));
		put_record(fd, STDIN, "", 0);
		assert_answer(fd, cases[i].status, cases[i].has);
	}
	stop();
}

static void
answers_errors_in_the_form_of_its_clients(void **state)
{
	int fd;

	(void)state;
	start("threads = 1", handle_flat_error);
	fd = dial();
	put_request(fd, false, GET_HEALTH);
	put_record(fd, STDIN, "", 0);
	assert_answer(fd, "Status: 403",
	    "{\"error\":\"forbidden\",\"message\":\"no\"}");
	stop();
}

static void
an_error_without_its_message_where_that_is_no_utf8(void **state)
{
	int fd;

	(void)state;
	start("threads = 1", handle_cut_error);
	fd = dial();
	put_request(fd, false, GET_HEALTH);
	put_record(fd, STDIN, "", 0);
	assert_answer(fd, "Status: 403",
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
	fd = dial();
	put_request(fd, false, POST_JSON("4194304"));
	/* far more than a socket holds: it is thrown away, not a reset */
	for (size_t n = 0; n < 4194304; n += sizeof(piece))
		put_record(fd, STDIN, piece, sizeof(piece));
	put_record(fd, STDIN, "", 0);
	text = get_answer(fd, &ended);
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
	fd = dial();
	put_request(fd, false, POST_JSON("10"));
	put_record(fd, STDIN, "{", 1);
	assert_answer(fd, "Status: 408", "timeout");
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
	fd = dial();
	put_request(fd, false, POST_JSON("60000"));
	/* each byte in time, all of them never */
	pfd = (struct pollfd){ .fd = fd, .events = POLLIN };
	for (int i = 0; i < 200 && poll(&pfd, 1, 100) == 0; i++)
		put_record(fd, STDIN, " ", 1);
	assert_in_range(clock_ms() - began_ms, 900, 5000);
	put_record(fd, STDIN, "", 0);
	assert_answer(fd, "Status: 408", "timeout");
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
		fd = dial();
		assert_true(send(fd, rubbish, sizeof(rubbish), 0) > 0);
		(void)close(fd);
		fd = dial();
		put_request(fd, false, GET_HEALTH);
		(void)close(fd); /* before the answer */
		fd = dial();
		put_record(fd, BEGIN, wrong_role, 8);
		(void)close(fd);
	}
	fd = dial();
	put_record(fd, BEGIN, authorizer, 8);
	put_record(fd, PARAMS, params, sizeof(params) - 1);
	put_record(fd, PARAMS, "", 0);
	put_record(fd, STDIN, "", 0);
	assert_answer(fd, "Status: 500", "error");
	fd = dial();
	put_request(fd, false, GET_HEALTH);
	put_record(fd, STDIN, "", 0);
	assert_answer(fd, "Status: 200", "ok");
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
	fd = dial();
	put_request(fd, false, GET_HEALTH);
	put_record(fd, STDIN, "", 0);
	text = get_answer(fd, &ended);
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
	fd = dial();
	put_request(fd, false, GET_HEALTH);
	put_record(fd, STDIN, "", 0);
	assert_answer(fd, "Status: 500", "internal_error");
	stop();
}

static void
finishes_running_requests_before_it_stops(void **state)
{
	char c;
	int fd, late;

	(void)state;
	start("threads = 2 stop = 20", handle_waiting);
	fd = dial();
	put_request(fd, false, GET_HEALTH);
	put_record(fd, STDIN, "", 0);
	assert_int_equal(read(world.entered[0], &c, 1), 1);
	fcgi_stop();
	late = dial(); /* queued, for the next process */
	put_request(late, false, GET_HEALTH);
	assert_int_equal(write(world.leave[1], "x", 1), 1);
	assert_answer(fd, "Status: 204 No Content\r\n", "");
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
	fd = dial();
	put_request(fd, false, GET_HEALTH);
	put_record(fd, STDIN, "", 0);
	assert_int_equal(read(world.entered[0], &c, 1), 1);
	began_ms = clock_ms();
	fcgi_stop();
	assert_int_equal(pthread_join(world.thread, NULL), 0);
	assert_int_equal(world.result, ERR_TIMEOUT);
	assert_in_range(clock_ms() - began_ms, 900, 10000);
	/* its thread ends after all, so that nothing of it is left over */
	assert_int_equal(write(world.leave[1], "x", 1), 1);
	assert_answer(fd, "Status: 204", "");
	(void)close(world.listen_fd);
	(void)unlink(world.socket_path);
	(void)rmdir(world.dir);
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
	pfd.fd = dial(); /* whoever is answered, it begins to serve */
	put_request(pfd.fd, false, GET_HEALTH);
	put_record(pfd.fd, STDIN, "", 0);
	assert_answer(pfd.fd, "Status: 200", "ok");
	pfd.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = old;
	none.rlim_cur = (rlim_t)dup(pfd.fd); /* the lowest that is free */
	(void)close((int)none.rlim_cur);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	before_us = used_us();
	(void)strcpy(addr.sun_path, world.socket_path);
	assert_int_equal(connect(pfd.fd, (void *)&addr, sizeof(addr)), 0);
	put_request(pfd.fd, false, GET_HEALTH);
	put_record(pfd.fd, STDIN, "", 0);
	assert_int_equal(poll(&pfd, 1, 500), 0); /* no answer yet */
	assert_in_range(used_us() - before_us, 0, 200000);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_answer(pfd.fd, "Status: 200", "ok");
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
		fds[i] = dup(world.listen_fd);
	for (int i = 0; i < 3; i++) {
		fd = dial();
		assert_true(fd > 1023);
		put_request(fd, false, POST_JSON("2"));
		put_record(fd, STDIN, "{}", 2);
		put_record(fd, STDIN, "", 0);
		assert_answer(fd, "Status: 200", "{}");
	}
	fd = dial();
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
