/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "broker/http/http_client.h"
#include "broker/hub/hub.h"
#include "common/clock.h"

#define WAIT_MS 30000
#define HEAD                                                     \
	"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" \
	"Transfer-Encoding: chunked\r\n\r\n"
#define LAST "0\r\n\r\n"

/* The test itself is the vendor; here it listens. */
static int listener;
static char url[64];

/* A stream, and what it has said so far; the hub writes, the test reads. */
struct talk {
	struct http_client_request request;
	/* to do in an event: free this one, or start that one */
	const char *free_in;
	struct talk *frees, *starts;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct http_stream *stream;
	int status;
	char type[64], after[64], body[16384];
	size_t body_len;
	unsigned heads, ends;
	enum err err;
	struct diag diag;
};

/* ---- in the hub ---- */

static void free_stream(void *arg);
static void start_stream(void *arg);

static void
happened(struct talk *t, const char *event)
{
	if (t->free_in != NULL && strcmp(t->free_in, event) == 0) {
		free_stream(t->frees);
		if (t->starts != NULL)
			start_stream(t->starts);
	}
	(void)pthread_cond_signal(&t->changed);
	(void)pthread_mutex_unlock(&t->lock);
}

static void
on_head(void *arg, int status, const char *type, const char *after)
{
	struct talk *t = arg;

	assert_true(hub_is_here());
	(void)pthread_mutex_lock(&t->lock);
	t->heads++;
	t->status = status;
	(void)snprintf(t->type, sizeof(t->type), "%s", type);
	(void)snprintf(t->after, sizeof(t->after), "%s",
	    after == NULL ? "(none)" : after);
	happened(t, "head");
}

static void
on_data(void *arg, const void *data, size_t len)
{
	struct talk *t = arg;

	(void)pthread_mutex_lock(&t->lock);
	assert_int_equal(t->heads, 1);
	assert_int_equal(t->ends, 0);
	assert_true(t->body_len + len < sizeof(t->body));
	memcpy(t->body + t->body_len, data, len);
	t->body_len += len;
	happened(t, "data");
}

static void
on_ended(void *arg, enum err err, const struct diag *diag)
{
	struct talk *t = arg;

	(void)pthread_mutex_lock(&t->lock);
	t->ends++;
	t->err = err;
	t->diag = *diag;
	happened(t, "ended");
}

static void
start_stream(void *arg)
{
	static const struct http_stream_events events = { .head = on_head,
		.data = on_data,
		.ended = on_ended };
	struct talk *t = arg;

	t->stream = http_stream_start(&t->request, &events, t);
	assert_int_equal(t->ends, 0);
}

static void
free_stream(void *arg)
{
	struct talk *t = arg;

	http_stream_free(t->stream);
	t->stream = NULL;
}

/* ---- the test's side ---- */

static void
make(struct talk *t)
{
	memset(t, 0, sizeof(*t));
	(void)pthread_mutex_init(&t->lock, NULL);
	(void)pthread_cond_init(&t->changed, NULL);
	t->request = (struct http_client_request){ .method = "POST",
		.url = url,
		.body = "{\"a\":1}",
		.body_len = 7,
		.allow_private = true,
		.deadline_ms = clock_ms() + WAIT_MS,
		.max_bytes = 8192 };
}

static void
start(struct talk *t)
{
	assert_true(hub_call(start_stream, t));
}

static void
done(struct talk *t)
{
	assert_true(hub_call(free_stream, t));
	(void)pthread_cond_destroy(&t->changed);
	(void)pthread_mutex_destroy(&t->lock);
}

/* Wait until so much of the body has come; or, with WHOLE, the end. */
#define WHOLE SIZE_MAX

static void
wait_for(struct talk *t, size_t body_len)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_MS / 1000;
	(void)pthread_mutex_lock(&t->lock);
	while (t->ends == 0 && (t->heads == 0 || t->body_len < body_len))
		assert_int_equal(pthread_cond_timedwait(&t->changed, &t->lock,
				     &until),
		    0);
	(void)pthread_mutex_unlock(&t->lock);
}

static void
wait_end(struct talk *t, enum err err, const char *why)
{
	wait_for(t, WHOLE);
	assert_int_equal(t->ends, 1);
	if (t->err != err || strstr(t->diag.text, why) == NULL)
		print_message("# %d %s, %d %s\n", t->err, t->diag.text,
		    t->status, t->body);
	assert_int_equal(t->err, err);
	assert_non_null(strstr(t->diag.text, why));
}

static bool
comes(int fd, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, ms) == 1;
}

static int
accept_one(void)
{
	assert_true(comes(listener, WAIT_MS));
	return accept4(listener, NULL, NULL, SOCK_CLOEXEC);
}

/* One request, to the end of its body. */
static void
read_request(int fd, char *text, size_t size)
{
	size_t n = 0;

	text[0] = '\0';
	while (strstr(text, "\r\n\r\n{\"a\":1}") == NULL) {
		ssize_t got;

		assert_true(comes(fd, WAIT_MS));
		got = recv(fd, text + n, size - 1 - n, 0);
		assert_true(got > 0);
		n += (size_t)got;
		text[n] = '\0';
	}
}

/* The client's first request. */
static int
serve(void)
{
	char text[4096];
	int fd = accept_one();

	read_request(fd, text, sizeof(text));
	return fd;
}

static void
say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL),
	    strlen(text));
}

/* Milliseconds until the peer is gone. */
static int64_t
until_gone(int fd)
{
	int64_t begin = clock_ms();
	char byte;

	assert_true(comes(fd, WAIT_MS));
	assert_true(recv(fd, &byte, 1, 0) <= 0);
	return clock_ms() - begin;
}

/* ---- tests ---- */

static void
hands_on_the_answer_as_it_comes(void **state)
{
	struct secret *key = secret_new("sk-1", 4, "test");
	const struct http_client_header headers[] = {
		{ "Authorization", "Bearer ", key },
	};
	char text[4096], body[] = "{\"a\":1}";
	struct talk t;
	int fd;

	(void)state;
	make(&t);
	t.request.headers = headers;
	t.request.header_count = 1;
	t.request.body = body;
	start(&t);
	memset(body, 'x', 7); /* it was copied */
	secret_free(key);
	fd = accept_one();
	read_request(fd, text, sizeof(text));
	assert_int_equal(strncmp(text, "POST /p HTTP/1.1\r\n", 18), 0);
	assert_non_null(strstr(text, "\r\nAuthorization: Bearer sk-1\r\n"));
	say(fd, "HTTP/1.1 103 Early Hints\r\nContent-Type: no\r\n\r\n");
	say(fd, HEAD);
	wait_for(&t, 0);
	assert_int_equal(t.status, 200);
	assert_string_equal(t.type, "text/event-stream");
	assert_string_equal(t.after, "(none)");
	say(fd, "3\r\nabc\r\n");
	wait_for(&t, 3);
	say(fd, "2\r\nd");
	wait_for(&t, 4);
	say(fd, "e\r\n" LAST);
	wait_end(&t, ERR_OK, "");
	assert_string_equal(t.body, "abcde");
	assert_int_equal(t.heads, 1);
	done(&t);
	(void)close(fd);
}

static void
uses_a_connection_again_where_it_may(void **state)
{
	char text[4096];
	struct talk one, two, three;
	int fd;

	(void)state;
	make(&one);
	start(&one);
	fd = serve();
	say(fd,
	    "HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 2\r\n"
	    "\r\nno");
	wait_end(&one, ERR_OK, "");
	assert_int_equal(one.status, 429);
	assert_string_equal(one.type, "");
	assert_string_equal(one.after, "7");
	done(&one);
	make(&two);
	start(&two);
	read_request(fd, text, sizeof(text));
	say(fd, HEAD LAST);
	wait_end(&two, ERR_OK, "");
	assert_int_equal(two.body_len, 0);
	done(&two);
	/* who may not go to such an address, may not on this way either */
	make(&three);
	three.request.allow_private = false;
	start(&three);
	wait_end(&three, ERR_UPSTREAM, "allow_private");
	done(&three);
	assert_false(comes(listener, 0));
	(void)until_gone(fd);
	(void)close(fd);
}

static void
ends_at_once_when_freed(void **state)
{
	static const char *const said[] = { "", "HTTP/1.1 200 OK\r\nContent",
		HEAD, HEAD "3\r\nab" };

	(void)state;
	for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
		struct talk t;
		int fd;

		make(&t);
		start(&t);
		fd = serve();
		say(fd, said[i]);
		if (i == 3)
			wait_for(&t, 2);
		done(&t);
		assert_in_range(until_gone(fd), 0, WAIT_MS / 3);
		assert_int_equal(t.ends, 0);
		(void)close(fd);
	}
}

static void
may_be_freed_in_its_events(void **state)
{
	static const char *const events[] = { "head", "data", "ended" };

	(void)state;
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		struct talk t, next;
		char text[4096];
		int fd, other;

		make(&t);
		make(&next);
		t.free_in = events[i];
		t.frees = &t;
		t.starts = &next;
		start(&t);
		fd = serve();
		say(fd, HEAD "3\r\nabc\r\n" LAST);
		if (i < 2) { /* the answer is not over: nor is it waited for */
			other = serve();
			(void)until_gone(fd);
			(void)close(fd);
			assert_int_equal(t.ends, 0);
			assert_int_equal(t.body_len, i == 0 ? 0 : 3);
		} else {
			other = fd;
			read_request(other, text, sizeof(text));
		}
		say(other, HEAD LAST);
		wait_end(&next, ERR_OK, "");
		done(&next);
		done(&t);
		(void)close(other);
	}
}

static void
may_end_another_stream_in_its_events(void **state)
{
	struct talk one, two;
	int first, second;

	(void)state;
	make(&one);
	make(&two);
	start(&two);
	second = serve();
	say(second, HEAD);
	wait_for(&two, 0);
	one.free_in = "data";
	one.frees = &two;
	start(&one);
	first = serve();
	say(first, HEAD "1\r\na\r\n");
	wait_for(&one, 1);
	assert_in_range(until_gone(second), 0, WAIT_MS / 3);
	one.free_in = NULL;
	say(first, LAST);
	wait_end(&one, ERR_OK, "");
	assert_int_equal(two.ends, 0);
	done(&one);
	done(&two);
	(void)close(first);
	(void)close(second);
}

static void
gives_up_at_the_deadline(void **state)
{
	struct talk t;
	int fd;

	(void)state;
	make(&t);
	t.request.deadline_ms = clock_ms() + 300;
	start(&t);
	fd = serve();
	say(fd, HEAD "1\r\na\r\n");
	wait_end(&t, ERR_UPSTREAM_TIMEOUT, "took too long");
	assert_true(clock_ms() >= t.request.deadline_ms);
	assert_int_equal(t.body_len, 1);
	(void)until_gone(fd);
	done(&t);
	(void)close(fd);
	/* and does not begin where there is no time */
	make(&t);
	t.request.deadline_ms = clock_ms();
	start(&t);
	wait_end(&t, ERR_UPSTREAM_TIMEOUT, "no time left");
	done(&t);
	assert_false(comes(listener, 0));
}

static void
refuses_answers_that_will_not_do(void **state)
{
	static const struct {
		const char *answer, *why;
		enum err err;
		bool reset;
	} cases[] = {
		{ "", "", ERR_UPSTREAM, false },
		{ "", "", ERR_UPSTREAM, true },
		{ "SSH-2.0-x\r\n", "", ERR_UPSTREAM, false },
		{ "HTTP/1.1 200 OK\r\nContent-Len", "", ERR_UPSTREAM, false },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "",
		    ERR_UPSTREAM, false },
		{ HEAD "3\r\nab", "", ERR_UPSTREAM, false },
		{ HEAD "3\r\nabc\r\n", "", ERR_UPSTREAM, false },
		{ HEAD "3\r\nabc\r\n", "", ERR_UPSTREAM, true },
		{ HEAD "x\r\nabc\r\n", "", ERR_UPSTREAM, false },
		{ "HTTP/1.1 200 OK\r\n\r\n"
		  "0123456789012345678901234567890123456789"
		  "0123456789012345678901234567890123456789"
		  "0123456789012345678901234567890123456789",
		    "larger than 100 bytes", ERR_LIMIT, false },
		{ "HTTP/1.1 200 OK\r\nX: "
		  "0123456789012345678901234567890123456789"
		  "0123456789012345678901234567890123456789"
		  "0123456789012345678901234567890123456789\r\n\r\n",
		    "larger than 100 bytes", ERR_LIMIT, false },
	};
	const struct linger at_once = { .l_onoff = 1 };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct talk t;
		int fd;

		make(&t);
		t.request.max_bytes = 100;
		start(&t);
		fd = serve();
		say(fd, cases[i].answer);
		if (cases[i].reset)
			(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once,
			    sizeof(at_once));
		(void)close(fd);
		wait_end(&t, cases[i].err, cases[i].why);
		assert_string_not_equal(t.diag.text, "");
		assert_null(strstr(t.diag.text, "0123"));
		done(&t);
	}
}

static void
follows_no_redirect_and_reads_to_the_end_of_tcp(void **state)
{
	char text[256];
	struct talk t;
	int fd;

	(void)state;
	make(&t);
	start(&t);
	fd = serve();
	(void)snprintf(text, sizeof(text),
	    "HTTP/1.1 307 Away\r\nLocation: %s/other\r\n\r\nabc", url);
	say(fd, text);
	(void)close(fd);
	wait_end(&t, ERR_OK, "");
	assert_int_equal(t.status, 307);
	assert_string_equal(t.body, "abc");
	done(&t);
	assert_false(comes(listener, 0));
}

static void
dials_nothing_that_it_may_not(void **state)
{
	static const struct {
		const char *host, *why;
	} cases[] = {
		{ "http://127.0.0.1", "allow_private" },
		{ "http://localhost", "allow_private" },
		{ "http://[::ffff:127.0.0.1]", "allow_private" },
		{ "http://0x7f.1", "allow_private" },
		{ "file:///etc", "" },
		{ "gopher://127.0.0.1", "" },
		{ "http://no such host", "" },
		{ "", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[96];
		struct talk t;

		make(&t);
		(void)snprintf(text, sizeof(text), "%s%s", cases[i].host,
		    *cases[i].host == '\0' ? "" : strrchr(url, ':'));
		t.request.url = text;
		t.request.allow_private = false;
		start(&t);
		wait_end(&t, ERR_UPSTREAM, cases[i].why);
		done(&t);
		assert_false(comes(listener, 0));
	}
}

static void
tells_where_nobody_listens(void **state)
{
	struct talk t;

	(void)state;
	make(&t);
	t.request.url = "http://127.0.0.1:1/";
	start(&t);
	wait_end(&t, ERR_UPSTREAM, "connect");
	assert_int_equal(t.heads, 0);
	done(&t);
}

/* What is written is read in no more memory than a piece takes. */
static void
carries_many_streams_at_once(void **state)
{
	static struct talk talks[100];
	int fds[100];

	(void)state;
	for (int i = 0; i < 100; i++) {
		make(&talks[i]);
		start(&talks[i]);
		fds[i] = serve();
		say(fds[i], HEAD);
	}
	for (int round = 0; round < 20; round++)
		for (int i = 0; i < 100; i++)
			say(fds[i], "4\r\nabcd\r\n");
	for (int i = 0; i < 100; i++)
		say(fds[i], LAST);
	for (int i = 0; i < 100; i++) {
		wait_end(&talks[i], ERR_OK, "");
		assert_int_equal(talks[i].body_len, 80);
		done(&talks[i]);
		(void)close(fds[i]);
	}
}

/* ---- the hub, the listener ---- */

static int
open_vendor(void **state)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);

	(void)state;
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (void *)&addr, len) == -1 ||
	    listen(listener, 128) == -1 ||
	    getsockname(listener, (void *)&addr, &len) == -1)
		return -1;
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/p",
	    ntohs(addr.sin_port));
	return hub_start(NULL) == ERR_OK ? 0 : -1;
}

static int
close_vendor(void **state)
{
	bool ok = hub_call(http_stream_done, NULL);

	(void)state;
	hub_stop();
	(void)close(listener);
	return ok ? 0 : -1;
}

static int
init(void **state)
{
	(void)state;
	return http_client_init(NULL) == ERR_OK ? 0 : -1;
}

static int
clean_up(void **state)
{
	(void)state;
	http_client_done();
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, open_vendor, close_vendor)
		TEST(hands_on_the_answer_as_it_comes),
		TEST(uses_a_connection_again_where_it_may),
		TEST(ends_at_once_when_freed),
		TEST(may_be_freed_in_its_events),
		TEST(may_end_another_stream_in_its_events),
		TEST(gives_up_at_the_deadline),
		TEST(refuses_answers_that_will_not_do),
		TEST(follows_no_redirect_and_reads_to_the_end_of_tcp),
		TEST(dials_nothing_that_it_may_not),
		TEST(tells_where_nobody_listens),
		TEST(carries_many_streams_at_once),
#undef TEST
	};

	return cmocka_run_group_tests(tests, init, clean_up);
}
