/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "broker/http/answer.h"

static void
assert_head(int status, const char *headers, const char *expected)
{
	size_t len;
	char *head = answer_head(status, NULL, -1, headers, &len);

	assert_string_equal(head, expected);
	assert_int_equal(len, strlen(expected));
	free(head);
}

static void
has_standard_headers(void **state)
{
	(void)state;
	assert_head(204, NULL,
	    "Status: 204 No Content\r\nCache-Control: no-store\r\n"
	    "X-Content-Type-Options: nosniff\r\n\r\n");
	assert_head(401, NULL,
	    "Status: 401 Unauthorized\r\nCache-Control: no-store\r\n"
	    "X-Content-Type-Options: nosniff\r\n"
	    "WWW-Authenticate: Bearer\r\n\r\n");
	assert_head(429, NULL,
	    "Status: 429 Too Many Requests\r\nCache-Control: no-store\r\n"
	    "X-Content-Type-Options: nosniff\r\nRetry-After: 5\r\n\r\n");
	assert_head(503, NULL,
	    "Status: 503 Service Unavailable\r\nCache-Control: no-store\r\n"
	    "X-Content-Type-Options: nosniff\r\nRetry-After: 5\r\n\r\n");
}

static void
leaves_the_headers_of_a_handler(void **state)
{
	static const char own[] = "cache-control: max-age=1\r\n"
				  "Retry-After: 7\r\n";

	(void)state;
	assert_head(503, own,
	    "Status: 503 Service Unavailable\r\n"
	    "X-Content-Type-Options: nosniff\r\n"
	    "cache-control: max-age=1\r\nRetry-After: 7\r\n\r\n");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(has_standard_headers),
		cmocka_unit_test(leaves_the_headers_of_a_handler),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
