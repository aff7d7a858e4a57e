/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tunnel/http_head.h"

#define KEY	   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define ACCEPT	   "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define UPGRADE	   "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define WS_VERSION "Sec-WebSocket-Version: 13\r\n"
#define GOOD	   "GET /x HTTP/1.1\r\nHost: h\r\n" UPGRADE WS_VERSION KEY

static void
parses_a_head_at_its_last_byte_and_not_before(void **state)
{
	static const char text[] = GOOD "Origin:  https://x \t\r\n\r\n\x81\x80";
	size_t head_len = sizeof(text) - 3;
	struct http_head head;
	struct http_span value;

	(void)state;
	for (size_t len = 0; len < head_len; len++)
		assert_int_equal(http_head_parse_request(text, len, &head,
				     NULL),
		    ERR_AGAIN);
	assert_int_equal(http_head_parse_request(text, sizeof(text) - 1, &head,
			     NULL),
	    ERR_OK);
	assert_int_equal(head.head_len, head_len);
	assert_int_equal(head.header_count, 6);
	assert_int_equal(http_head_get(&head, "ORIGIN", &value), ERR_OK);
	assert_int_equal(value.len, 9);
	assert_memory_equal(value.data, "https://x", 9);
	assert_int_equal(http_head_check_upgrade(&head, NULL), ERR_OK);
}

struct head_case {
	const char *text;
	enum err parse, upgrade;
};

static const struct head_case requests[] = {
	{ GOOD "\r\n", ERR_OK, ERR_OK },
	{ GOOD "Content-Length: 0\r\n\r\n", ERR_OK, ERR_OK },
	/* what browsers and proxies send */
	{ "GET /?model=a%20b HTTP/1.1\r\nhost: h\r\n"
	  "connection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n" WS_VERSION
		KEY "\r\n",
	    ERR_OK, ERR_OK },
	/* malformed heads */
	{ "GET /x HTTP/1.1\nHost: h\r\n\r\n", ERR_PROTO, 0 },
	{ "GET /x HTTP/1.1\r\nHost: h\n\r\n", ERR_PROTO, 0 },
	{ "GET /x HTTP/1.1\r\nHost: h\rX: y\r\n\r\n", ERR_PROTO, 0 },
	{ "\r\nGET /x HTTP/1.1\r\n\r\n", ERR_PROTO, 0 },
	{ "GET  /x HTTP/1.1\r\n\r\n", ERR_PROTO, 0 },
	{ "GET /x  HTTP/1.1\r\n\r\n", ERR_PROTO, 0 },
	{ "GET /x\r\n\r\n", ERR_PROTO, 0 },
	{ "GET /x HTTP/2.0\r\n\r\n", ERR_PROTO, 0 },
	{ "GET /x HTTP/1.2\r\n\r\n", ERR_PROTO, 0 },
	{ "GET /x HTTP/1.10\r\n\r\n", ERR_PROTO, 0 },
	{ "GET /\xc3\xa9 HTTP/1.1\r\n\r\n", ERR_PROTO, 0 },
	{ "GET /\t HTTP/1.1\r\n\r\n", ERR_PROTO, 0 },
	{ "G(T /x HTTP/1.1\r\n\r\n", ERR_PROTO, 0 },
	{ "GET /x HTTP/1.1\r\nHost : h\r\n\r\n", ERR_PROTO, 0 },
	{ "GET /x HTTP/1.1\r\nHost\r\n\r\n", ERR_PROTO, 0 },
	{ "GET /x HTTP/1.1\r\n: h\r\n\r\n", ERR_PROTO, 0 },
	{ "GET /x HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n", ERR_PROTO, 0 },
	{ "GET /x HTTP/1.1\r\nA: \x01\r\n\r\n", ERR_PROTO, 0 },
	{ "GET /x HTTP/1.1\r\nA: \x7f\r\n\r\n", ERR_PROTO, 0 },
	/* TLS to a plain port, another protocol */
	{ "\x16\x03\x01\x02\r\n\r\n", ERR_PROTO, 0 },
	{ "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ERR_PROTO, 0 },
	/* well-formed, but no handshake */
	{ "POST /x HTTP/1.1\r\nHost: h\r\n" UPGRADE WS_VERSION KEY "\r\n",
	    ERR_OK, ERR_METHOD },
	{ "get /x HTTP/1.1\r\nHost: h\r\n" UPGRADE WS_VERSION KEY "\r\n",
	    ERR_OK, ERR_METHOD },
	{ "GET /x HTTP/1.0\r\nHost: h\r\n" UPGRADE WS_VERSION KEY "\r\n",
	    ERR_OK, ERR_PROTO },
	{ "GET http://h/x HTTP/1.1\r\nHost: h\r\n" UPGRADE WS_VERSION KEY
	  "\r\n",
	    ERR_OK, ERR_PROTO },
	{ "GET /x#y HTTP/1.1\r\nHost: h\r\n" UPGRADE WS_VERSION KEY "\r\n",
	    ERR_OK, ERR_PROTO },
	{ "GET * HTTP/1.1\r\nHost: h\r\n" UPGRADE WS_VERSION KEY "\r\n", ERR_OK,
	    ERR_PROTO },
	{ "GET /x HTTP/1.1\r\n" UPGRADE WS_VERSION KEY "\r\n", ERR_OK,
	    ERR_PROTO },
	{ "GET /x HTTP/1.1\r\nHost:\r\n" UPGRADE WS_VERSION KEY "\r\n", ERR_OK,
	    ERR_PROTO },
	{ GOOD "Host: h\r\n\r\n", ERR_OK, ERR_PROTO },
	{ GOOD KEY "\r\n", ERR_OK, ERR_PROTO },
	{ GOOD WS_VERSION "\r\n", ERR_OK, ERR_PROTO },
	{ GOOD "Content-Length: 1\r\n\r\n", ERR_OK, ERR_PROTO },
	{ GOOD "Content-Length: 0\r\nContent-Length: 0\r\n\r\n", ERR_OK,
	    ERR_PROTO },
	{ GOOD "Transfer-Encoding: chunked\r\n\r\n", ERR_OK, ERR_PROTO },
	{ GOOD "Transfer-Encoding: identity\r\n\r\n", ERR_OK, ERR_PROTO },
	{ "GET /x HTTP/1.1\r\nHost: h\r\n\r\n", ERR_OK, ERR_UPGRADE },
	{ "GET /x HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\n"
	  "Connection: Upgrade\r\n\r\n",
	    ERR_OK, ERR_UPGRADE },
	{ "GET /x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n" WS_VERSION KEY
	  "\r\n",
	    ERR_OK, ERR_UPGRADE },
	{ "GET /x HTTP/1.1\r\nHost: h\r\n" UPGRADE KEY "\r\n", ERR_OK,
	    ERR_UPGRADE },
	{ "GET /x HTTP/1.1\r\nHost: h\r\n" UPGRADE KEY
	  "Sec-WebSocket-Version: 8\r\n\r\n",
	    ERR_OK, ERR_UPGRADE },
	{ "GET /x HTTP/1.1\r\nHost: h\r\n" UPGRADE KEY
	  "Sec-WebSocket-Version: 013\r\n\r\n",
	    ERR_OK, ERR_UPGRADE },
	{ "GET /x HTTP/1.1\r\nHost: h\r\n" UPGRADE WS_VERSION "\r\n", ERR_OK,
	    ERR_PROTO },
	{ "GET /x HTTP/1.1\r\nHost: h\r\n" UPGRADE WS_VERSION
	  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n\r\n",
	    ERR_OK, ERR_PROTO },
	{ "GET /x HTTP/1.1\r\nHost: h\r\n" UPGRADE WS_VERSION
	  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n\r\n",
	    ERR_OK, ERR_PROTO },
	{ "GET /x HTTP/1.1\r\nHost: h\r\n" UPGRADE WS_VERSION
	  "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n\r\n",
	    ERR_OK, ERR_PROTO },
};

static void
refuses_what_two_readers_could_read_differently(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		const struct head_case *c = &requests[i];
		struct diag diag = { "" };
		struct http_head head;

		print_message("# request %zu\n", i);
		assert_int_equal(http_head_parse_request(c->text,
				     strlen(c->text), &head, &diag),
		    c->parse);
		if (c->parse == ERR_OK)
			assert_int_equal(http_head_check_upgrade(&head, &diag),
			    c->upgrade);
		if (c->parse != ERR_OK || c->upgrade != ERR_OK)
			assert_true(diag.text[0] != '\0');
	}
}

static void
a_nul_byte_is_malformed(void **state)
{
	static const char text[] = "GET /x HTTP/1.1\r\nA: b\0c\r\n\r\n";
	struct http_head head;

	(void)state;
	assert_int_equal(http_head_parse_request(text, sizeof(text) - 1, &head,
			     NULL),
	    ERR_PROTO);
}

static void
what_is_no_text_is_refused_before_its_line_ends(void **state)
{
	static const char hello[] = "\x16\x03\x01\x02\x00\x01";
	struct http_head head;

	(void)state;
	assert_int_equal(http_head_parse_request(hello, sizeof(hello) - 1,
			     &head, NULL),
	    ERR_PROTO);
	assert_int_equal(http_head_parse_request("GET /\x01", 6, &head, NULL),
	    ERR_PROTO);
	/* half of a line end may still become one */
	assert_int_equal(http_head_parse_request("GET / HTTP/1.1\r", 15, &head,
			     NULL),
	    ERR_AGAIN);
}

static void
bounds_the_size_and_the_number_of_headers(void **state)
{
	static char big[HTTP_HEAD_MAX_BYTES + 1];
	static char many[4096];
	struct http_head head;
	size_t n = 0;

	(void)state;
	memset(big, 'a', sizeof(big));
	memcpy(big, "GET /", 5);
	assert_int_equal(http_head_parse_request(big, HTTP_HEAD_MAX_BYTES - 1,
			     &head, NULL),
	    ERR_AGAIN);
	assert_int_equal(http_head_parse_request(big, sizeof(big), &head, NULL),
	    ERR_HEAD);
	n += (size_t)sprintf(many, "GET / HTTP/1.1\r\n");
	for (int i = 0; i <= HTTP_HEAD_MAX_HEADERS; i++)
		n += (size_t)sprintf(many + n, "a:%d\r\n", i);
	assert_int_equal(http_head_parse_request(many, n, &head, NULL),
	    ERR_HEAD);
}

#define ANSWER	 "HTTP/1.1 101 Switching Protocols\r\n" UPGRADE
#define ACCEPTED ANSWER "Sec-WebSocket-Accept: " ACCEPT "\r\n"

static const struct head_case answers[] = {
	{ ACCEPTED "\r\n", ERR_OK, ERR_OK },
	{ ACCEPTED "Sec-WebSocket-Extensions:\r\n\r\n", ERR_OK, ERR_OK },
	{ ACCEPTED "Sec-WebSocket-Protocol: b\r\n\r\n", ERR_OK, ERR_OK },
	{ "HTTP/1.1 101\r\n" UPGRADE "Sec-WebSocket-Accept: " ACCEPT "\r\n\r\n",
	    ERR_OK, ERR_OK },
	{ "HTTP/1.1 200 OK\r\n" UPGRADE "Sec-WebSocket-Accept: " ACCEPT
	  "\r\n\r\n",
	    ERR_OK, ERR_UPSTREAM },
	{ "HTTP/1.0 101 OK\r\n" UPGRADE "Sec-WebSocket-Accept: " ACCEPT
	  "\r\n\r\n",
	    ERR_OK, ERR_UPSTREAM },
	{ ANSWER "\r\n", ERR_OK, ERR_UPSTREAM },
	{ ANSWER "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
	    ERR_OK, ERR_UPSTREAM },
	{ "HTTP/1.1 101 OK\r\nSec-WebSocket-Accept: " ACCEPT "\r\n\r\n", ERR_OK,
	    ERR_UPSTREAM },
	{ ACCEPTED "Sec-WebSocket-Accept: " ACCEPT "\r\n\r\n", ERR_OK,
	    ERR_UPSTREAM },
	{ ACCEPTED "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
	    ERR_OK, ERR_UPSTREAM },
	{ ACCEPTED "Sec-WebSocket-Protocol: c\r\n\r\n", ERR_OK, ERR_UPSTREAM },
	{ ACCEPTED "Sec-WebSocket-Protocol: B\r\n\r\n", ERR_OK, ERR_UPSTREAM },
	{ ACCEPTED "Sec-WebSocket-Protocol: a, b\r\n\r\n", ERR_OK,
	    ERR_UPSTREAM },
	{ ACCEPTED "Sec-WebSocket-Protocol: a\r\n"
		   "Sec-WebSocket-Protocol: b\r\n\r\n",
	    ERR_OK, ERR_UPSTREAM },
	{ "HTTP/1.1 99 x\r\n\r\n", ERR_PROTO, 0 },
	{ "HTTP/1.1 600 x\r\n\r\n", ERR_PROTO, 0 },
	{ "HTTP/1.1 1010 x\r\n\r\n", ERR_PROTO, 0 },
	{ "HTTP/1.1  101 x\r\n\r\n", ERR_PROTO, 0 },
	{ "HTTP/2 101 x\r\n\r\n", ERR_PROTO, 0 },
	{ "ICY 200 OK\r\n\r\n", ERR_PROTO, 0 },
	{ "<html>\r\n\r\n", ERR_PROTO, 0 },
};

static void
checks_the_upstreams_answer(void **state)
{
	char a[] = "a", b[] = "b", *const offered[] = { a, b };

	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		const struct head_case *c = &answers[i];
		struct http_span subprotocol = { NULL, 0 };
		struct http_head head;

		print_message("# answer %zu\n", i);
		assert_int_equal(http_head_parse_response(c->text,
				     strlen(c->text), &head, NULL),
		    c->parse);
		if (c->parse != ERR_OK)
			continue;
		assert_int_equal(http_head_check_accept(&head, ACCEPT, offered,
				     2, &subprotocol, NULL),
		    c->upgrade);
		if (i == 2)
			assert_memory_equal(subprotocol.data, "b",
			    subprotocol.len);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_a_head_at_its_last_byte_and_not_before),
		cmocka_unit_test(
		    refuses_what_two_readers_could_read_differently),
		cmocka_unit_test(a_nul_byte_is_malformed),
		cmocka_unit_test(
		    what_is_no_text_is_refused_before_its_line_ends),
		cmocka_unit_test(bounds_the_size_and_the_number_of_headers),
		cmocka_unit_test(checks_the_upstreams_answer),
	};

	return cmocka_run_group_tests_name("http_head", tests, NULL, NULL);
}
