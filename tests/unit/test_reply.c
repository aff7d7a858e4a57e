/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "tunnel/http_head.h"
#include "tunnel/reply.h"

/* Our own parser, which is strict, has to accept what we write. */
static void
parse(const char *text, size_t len, struct http_head *head)
{
	struct diag diag;

	assert_int_equal(http_head_parse_response(text, len, head, &diag),
	    ERR_OK);
}

static void
a_refusal_closes_and_says_why_in_json(void **state)
{
	struct http_head head;
	const char *code, *message;
	struct diag diag;
	json_t *body;
	size_t len;
	char *text;

	(void)state;
	text =
	    reply_refusal(403, "forbidden", "not \"this\"", NULL, NULL, &len);
	parse(text, len, &head);
	assert_int_equal(head.status, 403);
	assert_true(http_head_has(&head, "connection", "close"));
	assert_int_equal(json_parse(text + head.head_len, len - head.head_len,
			     &body, &diag),
	    ERR_OK);
	assert_int_equal(json_get_string(json_object_get(body, "error"), "code",
			     100, &code),
	    ERR_OK);
	assert_int_equal(json_get_string(json_object_get(body, "error"),
			     "message", 100, &message),
	    ERR_OK);
	assert_string_equal(code, "forbidden");
	assert_string_equal(message, "not \"this\"");
	json_decref(body);
	free(text);
}

static void
a_refusal_may_have_a_body_of_its_own(void **state)
{
	json_t *own = json_pack("{s:i}", "code", 1);
	struct http_head head;
	size_t len;
	char *text;

	(void)state;
	text = reply_refusal(400, "bad_request", "no", own, NULL, &len);
	parse(text, len, &head);
	assert_int_equal(head.status, 400);
	assert_string_equal(text + head.head_len, "{\"code\":1}");
	json_decref(own);
	free(text);
}

static void
a_426_says_which_version_is_served(void **state)
{
	struct http_head head;
	struct http_span value;
	size_t len;
	char *text;

	(void)state;
	text = reply_refusal(426, "upgrade_required", "no", NULL, NULL, &len);
	parse(text, len, &head);
	assert_int_equal(http_head_get(&head, "sec-websocket-version", &value),
	    ERR_OK);
	assert_int_equal(value.len, 2);
	assert_memory_equal(value.data, "13", 2);
	free(text);
}

static void
headers_of_a_denial_are_passed_on(void **state)
{
	struct wire_header item = { (char[]){ "Retry-After" }, (char[]){ "3" },
		false };
	const struct wire_headers headers = { &item, 1 };
	struct http_head head;
	struct http_span value;
	size_t len;
	char *text;

	(void)state;
	text = reply_refusal(429, "too_many", "no", NULL, &headers, &len);
	parse(text, len, &head);
	assert_int_equal(http_head_get(&head, "retry-after", &value), ERR_OK);
	assert_memory_equal(value.data, "3", 1);
	free(text);
}

static void
a_101_echoes_only_the_subprotocol_it_is_given(void **state)
{
	static const char accept[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
	char *offered[] = { (char[]){ "realtime" } };
	struct http_span subprotocol;
	struct http_head head;
	struct diag diag;
	size_t len;
	char *text;

	(void)state;
	text = reply_accept(accept, "realtime", &len);
	parse(text, len, &head);
	assert_int_equal(head.head_len, len);
	assert_int_equal(http_head_check_accept(&head, accept, offered, 1,
			     &subprotocol, &diag),
	    ERR_OK);
	assert_int_equal(subprotocol.len, 8);
	free(text);
	text = reply_accept(accept, NULL, &len);
	parse(text, len, &head);
	assert_int_equal(http_head_get(&head, "sec-websocket-protocol",
			     &subprotocol),
	    ERR_NOTFOUND);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_refusal_closes_and_says_why_in_json),
		cmocka_unit_test(a_refusal_may_have_a_body_of_its_own),
		cmocka_unit_test(a_426_says_which_version_is_served),
		cmocka_unit_test(headers_of_a_denial_are_passed_on),
		cmocka_unit_test(a_101_echoes_only_the_subprotocol_it_is_given),
	};

	return cmocka_run_group_tests_name("reply", tests, NULL, NULL);
}
