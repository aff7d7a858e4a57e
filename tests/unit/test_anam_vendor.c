/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/anam/anam_vendor.h"
#include "broker/http/http_client.h"
#include "common/clock.h"
#include "common/json.h"
#include "vendor_double.h"

static struct config_anam anam;

static int
open_vendor(void **state)
{
	(void)state;
	if (vendor_open("") != 0)
		return -1;
	anam = (struct config_anam){ .url = vendor.url,
		.api_key = secret_new("the-key", 7, "test"),
		.allow_private = true };
	return 0;
}

static int
close_vendor(void **state)
{
	(void)state;
	secret_free(anam.api_key);
	return vendor_close();
}

#define OK(body) "HTTP/1.1 200 OK\r\n\r\n" body
#define TOKEN	 OK("{\"sessionToken\":\"the-token\"}")

/* Start a session with a vendor that answers so; whether all was asked for. */
static enum err
start(const char *const answers[], json_t **ret, struct anam_refusal *refusal,
    struct diag *diag)
{
	json_t *persona = json_pack("{s:s}", "personaId", "p");
	json_t *body = json_pack("{s:i}", "a", 1);
	enum err err;

	vendor_start(answers);
	err = anam_vendor_start(&anam, persona, body, clock_ms() + 5000, ret,
	    refusal, diag);
	vendor_stop();
	/* and nothing more was asked for */
	assert_false(vendor_was_dialled());
	json_decref(persona);
	json_decref(body);
	return err;
}

static void
asks_with_our_key_and_then_with_the_vendors_token(void **state)
{
	const char *const answers[] = { TOKEN,
		"HTTP/1.1 201 Created\r\n\r\n{\"sessionId\":\"s\"}", NULL };
	struct anam_refusal refusal;
	json_t *session;

	(void)state;
	assert_int_equal(start(answers, &session, &refusal, NULL), ERR_OK);
	assert_string_equal(json_string_value(
				json_object_get(session, "sessionId")),
	    "s");
	json_decref(session);
	assert_ptr_equal(strstr(vendor.requests[0],
			     "POST /v1/auth/session-token HTTP/1.1\r\n"),
	    vendor.requests[0]);
	assert_non_null(strstr(vendor.requests[0],
	    "\r\nAuthorization: Bearer the-key\r\n"));
	assert_non_null(strstr(vendor.requests[0],
	    "\r\n\r\n{\"personaConfig\":{\"personaId\":\"p\"}}"));
	assert_ptr_equal(strstr(vendor.requests[1],
			     "POST /v1/engine/session HTTP/1.1\r\n"),
	    vendor.requests[1]);
	assert_non_null(strstr(vendor.requests[1],
	    "\r\nAuthorization: Bearer the-token\r\n"));
	assert_non_null(strstr(vendor.requests[1], "\r\n\r\n{\"a\":1}"));
	assert_null(strstr(vendor.requests[1], "the-key"));
}

static void
repeats_the_token_call_once_and_nothing_else(void **state)
{
	const char *const twice[] = { "HTTP/1.1 500 Oh\r\n\r\n", TOKEN,
		OK("{}"), NULL };
	const char *const hung_up[] = { "", TOKEN, OK("{}"), NULL };
	const char *const thrice[] = { "HTTP/1.1 502 Oh\r\n\r\n",
		"HTTP/1.1 500 Oh\r\n\r\n", NULL };
	const char *const session[] = { TOKEN, "HTTP/1.1 500 Oh\r\n\r\n",
		NULL };
	const char *const session_hung_up[] = { TOKEN, "", NULL };
	struct anam_refusal refusal;
	json_t *answer;

	(void)state;
	assert_int_equal(start(twice, &answer, &refusal, NULL), ERR_OK);
	json_decref(answer);
	assert_int_equal(start(hung_up, &answer, &refusal, NULL), ERR_OK);
	json_decref(answer);
	assert_int_equal(start(thrice, &answer, &refusal, NULL), ERR_UPSTREAM);
	assert_int_equal(refusal.status, 502);
	/* a session may have been made, and paid for */
	assert_int_equal(start(session, &answer, &refusal, NULL), ERR_UPSTREAM);
	assert_int_equal(start(session_hung_up, &answer, &refusal, NULL),
	    ERR_UPSTREAM);
	assert_int_equal(refusal.status, 502);
}

static void
turns_failures_into_what_the_sdk_understands(void **state)
{
#define STATUS(line, body) "HTTP/1.1 " line "\r\nRetry-After: 7\r\n\r\n" body
	static const struct {
		const char *answer;
		int status;
		const char *error;
		bool ours;
		int64_t retry_after_s;
	} cases[] = {
		{ STATUS("429 X",
		      "{\"error\":\"Concurrent session limit reached\","
		      "\"message\":\"SECRET\"}"),
		    429, "Concurrent session limit reached", false, 7 },
		{ STATUS("429 X", "{\"error\":\"Spend cap reached\"}"), 429,
		    "Spend cap reached", false, 7 },
		{ STATUS("429 X", "{\"error\":\"SECRET\"}"), 429,
		    "Usage limit reached", false, 7 },
		{ STATUS("429 X", "{\"error\":{\"a\":1}}"), 429,
		    "Usage limit reached", false, 7 },
		{ STATUS("429 X", "<html>SECRET"), 429, "Usage limit reached",
		    false, 7 },
		{ STATUS("429 X", "[]"), 429, "Usage limit reached", false, 7 },
		{ STATUS("402 X", "{\"error\":\"SECRET\"}"), 402,
		    "Payment Required", false, 7 },
		{ STATUS("503 X", ""), 503, "Service Unavailable", false, 7 },
		{ STATUS("400 X", "SECRET"), 400, "Bad Request", false, 7 },
		{ STATUS("404 X", "SECRET"), 400, "Bad Request", false, 7 },
		{ STATUS("401 X", "SECRET"), 502, "Bad Gateway", true, 7 },
		{ STATUS("403 X", "SECRET"), 502, "Bad Gateway", true, 7 },
		{ "HTTP/1.1 302 X\r\nLocation: /x\r\n\r\n", 502, "Bad Gateway",
		    false, 0 },
		{ "HTTP/1.1 418 X\r\nRetry-After: Mon, 01 Jan\r\n\r\n", 502,
		    "Bad Gateway", false, 0 },
		{ "HTTP/1.1 418 X\r\nRetry-After: "
		  "00000000000000000000000000000000000000007\r\n\r\n",
		    502, "Bad Gateway", false, 7 },
		{ "HTTP/1.1 418 X\r\nRetry-After: 86401\r\n\r\n", 502,
		    "Bad Gateway", false, 0 },
		{ OK("<html>SECRET</html>"), 502, "Bad Gateway", false, 0 },
		{ OK("{\"sessionToken\":\"SECRET"), 502, "Bad Gateway", false,
		    0 },
		{ OK("[]"), 502, "Bad Gateway", false, 0 },
		{ OK(""), 502, "Bad Gateway", false, 0 },
		{ OK("{}"), 502, "Bad Gateway", false, 0 },
		{ OK("{\"sessionToken\":\"\"}"), 502, "Bad Gateway", false, 0 },
		{ OK("{\"sessionToken\":\"a\\r\\nX: y\"}"), 502, "Bad Gateway",
		    false, 0 },
		{ OK("{\"sessionToken\":1}"), 502, "Bad Gateway", false, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *const answers[] = { cases[i].answer, NULL };
		struct anam_refusal refusal;
		struct diag diag = { "" };
		json_t *answer;

		if (start(answers, &answer, &refusal, &diag) == ERR_OK ||
		    refusal.status != cases[i].status ||
		    strcmp(refusal.error, cases[i].error) != 0 ||
		    refusal.ours != cases[i].ours ||
		    refusal.retry_after_s != cases[i].retry_after_s ||
		    diag.text[0] == '\0' || strstr(diag.text, "SECRET") ||
		    strstr(refusal.message, "SECRET"))
			fail_msg("%s: %d %s %s", cases[i].answer,
			    refusal.status, refusal.error, diag.text);
	}
}

static void
keeps_to_the_deadline_of_both_calls(void **state)
{
	json_t *object = json_object(), *answer;
	struct anam_refusal refusal;
	int64_t now_ms = clock_ms();

	(void)state; /* who listens, but does not answer */
	assert_int_equal(anam_vendor_start(&anam, object, object, now_ms + 200,
			     &answer, &refusal, NULL),
	    ERR_UPSTREAM_TIMEOUT);
	assert_int_equal(refusal.status, 504);
	assert_in_range(clock_ms() - now_ms, 190, 4000);
	json_decref(object);
}

/* One talk command, to a vendor that answers so. */
static enum err
talk(const char *answer, struct anam_refusal *refusal)
{
	const char *const answers[] = { answer, NULL };
	char url[128];
	enum err err;

	vendor_start(answers);
	(void)snprintf(url, sizeof(url), "%s/e/talk", vendor.url);
	err = anam_vendor_talk(&anam, url, "the-id", "{\"content\":\"hi\"}", 16,
	    clock_ms() + 5000, refusal, NULL);
	vendor_stop();
	return err;
}

static void
talks_to_the_engine_without_our_key(void **state)
{
	static const struct {
		const char *answer;
		int status;
	} cases[] = {
		{ "HTTP/1.1 404 X\r\n\r\n", 404 },
		{ "HTTP/1.1 403 X\r\n\r\n", 404 },
		{ "HTTP/1.1 400 X\r\n\r\n", 400 },
		{ "HTTP/1.1 500 X\r\n\r\n", 502 },
		{ "HTTP/1.1 429 X\r\n\r\n", 429 },
	};
	struct anam_refusal refusal;

	(void)state;
	assert_int_equal(talk(OK("whatever"), &refusal), ERR_OK);
	assert_ptr_equal(strstr(vendor.requests[0],
			     "POST /e/talk?session_id=the-id HTTP/1.1\r\n"),
	    vendor.requests[0]);
	assert_non_null(
	    strstr(vendor.requests[0], "\r\n\r\n{\"content\":\"hi\"}"));
	assert_null(strstr(vendor.requests[0], "Authorization"));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_not_equal(talk(cases[i].answer, &refusal), ERR_OK);
		assert_int_equal(refusal.status, cases[i].status);
		assert_false(refusal.ours);
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
		TEST(asks_with_our_key_and_then_with_the_vendors_token),
		TEST(repeats_the_token_call_once_and_nothing_else),
		TEST(turns_failures_into_what_the_sdk_understands),
		TEST(keeps_to_the_deadline_of_both_calls),
		TEST(talks_to_the_engine_without_our_key),
#undef TEST
	};

	return cmocka_run_group_tests(tests, init, done);
}
