/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/http/http_client.h"
#include "common/clock.h"
#include "vendor_double.h"

static int
open_vendor(void **state)
{
	(void)state;
	return vendor_open("/p");
}

static int
close_vendor(void **state)
{
	(void)state;
	return vendor_close();
}

/* Serve one connection; NULL: say nothing, until the peer is gone. */
static void
start(const char *answer)
{
	const char *const answers[] = { answer == NULL ? vendor_silence
						       : answer,
		NULL };

	vendor_start(answers);
}

static struct http_client_request
request_to(const char *url)
{
	return (struct http_client_request){ .method = "POST",
		.url = url,
		.body = "{\"a\":1}",
		.body_len = 7,
		.allow_private = true,
		.deadline_ms = clock_ms() + 10000,
		.max_bytes = 64 };
}

static void
sends_a_request_and_reads_the_answer(void **state)
{
	struct http_client_request request = request_to(vendor.url);
	struct secret *key = secret_new("sk-1", 4, "test");
	const struct http_client_header headers[] = {
		{ "Authorization", "Bearer ", key },
		{ "Content-Type", "application/json", NULL },
	};
	struct http_client_answer answer;

	(void)state;
	request.headers = headers;
	request.header_count = 2;
	start("HTTP/1.1 429 Slow Down\r\nContent-Type: text/x; a=b\r\n"
	      "Retry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\n"
	      "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
	assert_int_equal(http_client_send(&request, &answer, NULL), ERR_OK);
	vendor_stop();
	assert_int_equal(answer.status, 429);
	assert_string_equal(answer.content_type, "text/x; a=b");
	assert_string_equal(answer.retry_after, "7");
	assert_null(answer.location);
	assert_int_equal(answer.body_len, 5);
	assert_string_equal(answer.body, "abcde");
	http_client_answer_done(&answer);
	assert_int_equal(strncmp(vendor.requests[0], "POST /p HTTP/1.1\r\n",
			     18),
	    0);
	assert_non_null(
	    strstr(vendor.requests[0], "\r\nAuthorization: Bearer sk-1\r\n"));
	assert_non_null(strstr(vendor.requests[0],
	    "\r\nContent-Type: application/json\r\n"));
	assert_non_null(strstr(vendor.requests[0], "\r\n\r\n{\"a\":1}"));
	secret_free(key);
}

static void
sends_a_request_without_a_body(void **state)
{
	struct http_client_request request = request_to(vendor.url);
	struct http_client_answer answer;

	(void)state;
	request.body = NULL;
	request.body_len = 0;
	start("HTTP/1.1 204 No Content\r\n\r\n");
	assert_int_equal(http_client_send(&request, &answer, NULL), ERR_OK);
	vendor_stop();
	assert_int_equal(answer.status, 204);
	assert_string_equal(answer.body, "");
	assert_string_equal(answer.content_type, "");
	http_client_answer_done(&answer);
	assert_non_null(
	    strstr(vendor.requests[0], "\r\nContent-Length: 0\r\n"));
}

static void
follows_no_redirect(void **state)
{
	struct http_client_request request = request_to(vendor.url);
	struct http_client_answer answer;
	char text[256];

	(void)state;
	(void)snprintf(text, sizeof(text),
	    "HTTP/1.1 307 Away\r\nLocation: %s/other\r\n"
	    "Content-Length: 0\r\n\r\n",
	    vendor.url);
	start(text);
	assert_int_equal(http_client_send(&request, &answer, NULL), ERR_OK);
	vendor_stop();
	assert_int_equal(answer.status, 307);
	assert_non_null(answer.location);
	http_client_answer_done(&answer);
	assert_false(vendor_was_dialled());
}

static void
uses_no_proxy_of_the_environment(void **state)
{
	struct http_client_request request = request_to("http://127.0.0.1:1/");
	struct diag diag = { "" };
	struct http_client_answer answer;

	(void)state;
	(void)setenv("http_proxy", vendor.url, 1);
	(void)setenv("ALL_PROXY", vendor.url, 1);
	assert_int_equal(http_client_send(&request, &answer, &diag),
	    ERR_UPSTREAM);
	(void)unsetenv("http_proxy");
	(void)unsetenv("ALL_PROXY");
	assert_false(vendor_was_dialled());
	assert_string_not_equal(diag.text, "");
}

static void
refuses_answers_that_will_not_do(void **state)
{
	static const struct {
		const char *answer;
		enum err err;
	} cases[] = {
		{ "SSH-2.0-x\r\n", ERR_UPSTREAM },
		{ "", ERR_UPSTREAM },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
		    ERR_UPSTREAM },
		{ "HTTP/1.1 200 OK\r\nContent-Le", ERR_UPSTREAM },
		{ "HTTP/1.1 200 OK\r\n", ERR_UPSTREAM },
		{ "HTTP/1.1 103 Hints\r\n\r\n", ERR_UPSTREAM },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n"
		  "0123456789012345678901234567890123456789"
		  "0123456789012345678901234",
		    ERR_LIMIT },
		{ "HTTP/1.1 200 OK\r\n\r\n"
		  "0123456789012345678901234567890123456789"
		  "0123456789012345678901234567890123456789",
		    ERR_LIMIT },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct http_client_request request = request_to(vendor.url);
		struct http_client_answer answer;
		struct diag diag = { "" };

		start(cases[i].answer);
		assert_int_equal(http_client_send(&request, &answer, &diag),
		    cases[i].err);
		vendor_stop();
		assert_string_not_equal(diag.text, "");
		assert_null(strstr(diag.text, "0123"));
	}
}

static void
takes_an_answer_of_its_maximum(void **state)
{
	struct http_client_request request = request_to(vendor.url);
	struct http_client_answer answer;

	(void)state;
	request.max_bytes = 5;
	start("HTTP/1.1 200 OK\r\n\r\nabcde");
	assert_int_equal(http_client_send(&request, &answer, NULL), ERR_OK);
	vendor_stop();
	assert_string_equal(answer.body, "abcde");
	http_client_answer_done(&answer);
}

static void
gives_up_at_the_deadline(void **state)
{
	struct http_client_request request = request_to(vendor.url);
	struct http_client_answer answer;
	int64_t began_ms = clock_ms();

	(void)state;
	request.deadline_ms = began_ms + 300;
	start(NULL);
	assert_int_equal(http_client_send(&request, &answer, NULL),
	    ERR_UPSTREAM_TIMEOUT);
	vendor_stop();
	assert_in_range(clock_ms() - began_ms, 290, 5000);
	/* and does not begin where there is no time */
	assert_int_equal(http_client_send(&request, &answer, NULL),
	    ERR_UPSTREAM_TIMEOUT);
	assert_false(vendor_was_dialled());
}

static void
dials_no_private_address_unless_it_may(void **state)
{
	static const char *const hosts[] = { "127.0.0.1", "localhost",
		"0.0.0.0", "127.1", "[::ffff:127.0.0.1]", "2130706433",
		"0x7f.1" };

	(void)state;
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		struct http_client_request request;
		struct http_client_answer answer;
		struct diag diag = { "" };
		char url[96];

		(void)snprintf(url, sizeof(url), "http://%s%s", hosts[i],
		    strrchr(vendor.url, ':'));
		request = request_to(url);
		request.allow_private = false;
		assert_int_equal(http_client_send(&request, &answer, &diag),
		    ERR_UPSTREAM);
		assert_non_null(strstr(diag.text, "allow_private"));
		assert_false(vendor_was_dialled());
	}
}

static void
speaks_http_alone(void **state)
{
	static const char *const urls[] = { "file:///etc/passwd",
		"ftp://127.0.0.1/", "gopher://127.0.0.1/", "dict://127.0.0.1/",
		"" };

	(void)state;
	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
		struct http_client_request request = request_to(urls[i]);
		struct http_client_answer answer;

		assert_int_equal(http_client_send(&request, &answer, NULL),
		    ERR_UPSTREAM);
	}
}

static int
init(void **state)
{
	(void)state;
	return http_client_init(NULL) == ERR_OK ? 0 : -1;
}

static int
done(void **state)
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
		TEST(sends_a_request_and_reads_the_answer),
		TEST(sends_a_request_without_a_body),
		TEST(follows_no_redirect),
		TEST(uses_no_proxy_of_the_environment),
		TEST(refuses_answers_that_will_not_do),
		TEST(takes_an_answer_of_its_maximum),
		TEST(gives_up_at_the_deadline),
		TEST(dials_no_private_address_unless_it_may),
		TEST(speaks_http_alone),
#undef TEST
	};

	return cmocka_run_group_tests(tests, init, done);
}
