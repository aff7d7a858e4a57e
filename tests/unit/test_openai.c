/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/http/http_client.h"
#include "broker/openai/openai.h"
#include "broker/openai/openai_ask.h"
#include "broker/openai/openai_call.h"
#include "broker/tickets/ticket.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/xalloc.h"
#include "config_text.h"
#include "request_double.h"
#include "ticket_store.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define SDP	 "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\n"

/* ---- a vendor that stands in for the real one ---- */

static struct {
	int status;
	const char *body, *location, *retry_after;
	enum err err;
	struct request *meanwhile; /* another call, while this one waits */
	unsigned asked;
	char url[128], authorization[64], type[128], sent[4096];
} vendor;

enum err
http_client_send(const struct http_client_request *request,
    struct http_client_answer *ret, struct diag *diag)
{
	struct request *meanwhile = vendor.meanwhile;

	vendor.asked++;
	assert_string_equal(request->method, "POST");
	assert_true(request->allow_private); /* the URL has an address */
	(void)snprintf(vendor.url, sizeof(vendor.url), "%s", request->url);
	(void)snprintf(vendor.sent, sizeof(vendor.sent), "%.*s",
	    (int)request->body_len, (const char *)request->body);
	for (size_t i = 0; i < request->header_count; i++) {
		const struct http_client_header *h = &request->headers[i];

		if (strcmp(h->name, "Authorization") == 0)
			(void)snprintf(vendor.authorization,
			    sizeof(vendor.authorization), "%s%s", h->value,
			    secret_peek(h->secret, NULL));
		else if (strcmp(h->name, "Content-Type") == 0)
			(void)snprintf(vendor.type, sizeof(vendor.type), "%s",
			    h->value);
	}
	if (meanwhile != NULL) {
		vendor.meanwhile = NULL;
		openai_calls_handle(meanwhile);
	}
	if (vendor.err != ERR_OK) {
		diag_set(diag, "the vendor's name has no address");
		return vendor.err;
	}
	*ret = (struct http_client_answer){ .status = vendor.status };
	ret->body = xstrdup(vendor.body);
	ret->body_len = strlen(vendor.body);
	ret->location =
	    vendor.location == NULL ? NULL : xstrdup(vendor.location);
	ret->retry_after =
	    vendor.retry_after == NULL ? NULL : xstrdup(vendor.retry_after);
	return ERR_OK;
}

void
http_client_answer_done(struct http_client_answer *answer)
{
	free(answer->body);
	free(answer->location);
	free(answer->retry_after);
}

/* ---- the site ---- */

static const char settings[] =
    "requests { base_path = \"/base\" threads = 2 }\n"
    "openai { api_key = \"env:T_KEY\" url = \"ws://192.0.2.1/v1/realtime\"\n"
    "client_secrets = true calls = true ticket_seconds = 30\n"
    "ticket_seconds_max = 60 alias \"old\" { model = \"gpt-realtime\" } }\n"
    "relay \"/pinned\" { inherit = openai calls = true session {\n"
    "voice = marin instructions = \"The site's own.\" } }\n"
    "relay \"/must\" { inherit = openai require_ticket = true\n"
    "upstream = \"ws://192.0.2.1/v1/realtime?v=1\" }\n"
    "relay \"/none\" { upstream = \"ws://x\" }\n"
    "relay \"/users\" { inherit = openai require_user = true }\n"
    "users { remote_user = true }\n";

static struct config *config;

static int
setup(void **state)
{
	(void)state;
	if (setenv("T_KEY", "sk-1", 1) != 0)
		return -1;
	config = config_text(settings);
	return ticket_store_open();
}

static int
teardown(void **state)
{
	(void)state;
	config_unref(config);
	return ticket_store_close();
}

static int
reset_vendor(void **state)
{
	(void)state;
	memset(&vendor, 0, sizeof(vendor));
	vendor.status = 201;
	vendor.body = SDP;
	return 0;
}

static struct request
handle(request_handler *handler, struct request req)
{
	req.config = config;
	req.error_form = openai_ask_error_form;
	handler(&req);
	assert_int_equal(req.answers, 1);
	return req;
}

#define ASK(...) \
	handle(openai_client_secrets_handle, (struct request){ __VA_ARGS__ })
#define CALL(...) handle(openai_calls_handle, (struct request){ __VA_ARGS__ })
#define ROUTE(r)  .query[0] = { "route", r }
#define MODEL(m)  .query[1] = { "model", m }
#define OFFER	  .type = "application/sdp", .body = SDP

static const char *
error_of(const struct request *req, const char *name)
{
	const char *text = json_string_value(
	    json_object_get(json_object_get(req->reply, "error"), name));

	return text == NULL ? "" : text;
}

static const char *
value_of(const struct request *req)
{
	return json_string_value(json_object_get(req->reply, "value"));
}

/* ---- client_secrets ---- */

static void
check(const struct request *req, const char *route, struct store_ticket *ret)
{
	const struct ticket_use use = { .route = route, .now = clock_unix() };
	const char *text = value_of(req);

	assert_int_equal(ticket_check(text, strlen(text), &use, ret, NULL),
	    ERR_OK);
}

static void
gives_a_key_of_what_was_asked_for(void **state)
{
	struct request req =
	    ASK(.body = "{\"session\":{\"type\":\"realtime\",\"model\":\"old\","
			"\"tools\":[]},\"expires_after\":{\"seconds\":60}}",
		.remote_user = "ann");
	const json_t *session = json_object_get(req.reply, "session");
	struct store_ticket ticket;

	(void)state;
	assert_int_equal(req.status, 200);
	assert_string_equal(json_string_value(
				json_object_get(session, "model")),
	    "gpt-realtime");
	assert_string_equal(json_string_value(
				json_object_get(session, "object")),
	    "realtime.session");
	assert_non_null(json_object_get(session, "tools"));
	check(&req, "openai", &ticket);
	assert_string_equal(ticket.user, "ann");
	assert_string_equal(ticket.model, "old");
	assert_int_equal(ticket.expires,
	    json_integer_value(json_object_get(req.reply, "expires_at")));
	assert_int_equal(ticket.expires - ticket.created, 60);
	assert_null(json_object_get(ticket.session, "model"));
	assert_non_null(json_object_get(ticket.session, "tools"));
	store_ticket_done(&ticket);
	request_double_done(&req);
}

static void
serves_users_alone_where_it_has_to_and_makes_no_key_of_a_key(void **state)
{
	struct request nobody = ASK(.body = "{}", ROUTE("/users"));
	struct request call = CALL(OFFER, ROUTE("/users"));
	struct request key =
	    ASK(.body = "{}", ROUTE("/users"), .remote_user = "ann");
	char *authorization = xasprintf("Bearer %s", value_of(&key));
	struct request again =
	    ASK(.body = "{}", ROUTE("/users"), .authorization = authorization);

	(void)state;
	assert_int_equal(nobody.status, 401);
	assert_int_equal(call.status, 401);
	assert_int_equal(vendor.asked, 0);
	request_double_done(&call);
	assert_int_equal(key.status, 200);
	assert_int_equal(again.status, 403);
	/* the key stands for its user */
	call = CALL(OFFER, ROUTE("/users"), .authorization = authorization);
	assert_int_equal(call.status, 201);
	free(authorization);
	request_double_done(&nobody);
	request_double_done(&call);
	request_double_done(&key);
	request_double_done(&again);
}

static void
gives_a_key_of_nothing(void **state)
{
	static const char *const bodies[] = { "{}", "{\"expires_after\":null}",
		"{\"expires_after\":{\"anchor\":\"created_at\"}}" };

	(void)state;
	for (size_t i = 0; i < COUNT(bodies); i++) {
		struct request req = ASK(.body = bodies[i], ROUTE("/must"));
		struct store_ticket ticket;

		assert_int_equal(req.status, 200);
		check(&req, "/must", &ticket);
		assert_null(ticket.user);
		assert_null(ticket.model);
		assert_null(ticket.session);
		assert_int_equal(ticket.expires - ticket.created, 30);
		store_ticket_done(&ticket);
		request_double_done(&req);
	}
}

static const struct {
	const char *route, *body;
	int status;
	const char *param;
} refused[] = {
	{ NULL, "{", 400, "" },
	{ NULL, "{\"url\":1}", 400, "" },
	{ NULL, "{\"session\":[]}", 400, "session" },
	{ NULL, "{\"session\":null}", 400, "session" },
	{ NULL, "{\"session\":{\"type\":\"realtime\",\"x\":1}}", 400,
	    "session.*" },
	{ NULL, "{\"session\":{\"type\":\"realtime\",\"model\":\"x\"}}", 403,
	    "session.model" },
	{ NULL, "{\"session\":{\"type\":\"realtime\",\"model\":\"a\\nb\"}}",
	    400, "session.model" },
	{ NULL, "{\"expires_after\":1}", 400, "expires_after" },
	{ NULL, "{\"expires_after\":{\"seconds\":1e3}}", 400,
	    "expires_after.seconds" },
	{ NULL, "{\"expires_after\":{\"seconds\":-1}}", 400,
	    "expires_after.seconds" },
	{ NULL, "{\"expires_after\":{\"anchor\":1}}", 400,
	    "expires_after.anchor" },
	{ "/pinned",
	    "{\"session\":{\"type\":\"realtime\",\"instructions\":\"\"}}", 403,
	    "session.instructions" },
	{ "/none", "{}", 404, "" },
	{ "/nothing", "{}", 404, "" },
};

static void
refuses_what_a_key_cannot_stand_for(void **state)
{
	struct request malformed;

	(void)state;
	for (size_t i = 0; i < COUNT(refused); i++) {
		struct request req =
		    ASK(.body = refused[i].body, ROUTE(refused[i].route));

		if (req.status != refused[i].status ||
		    strcmp(error_of(&req, "param"), refused[i].param) != 0 ||
		    strcmp(error_of(&req, "type"), "invalid_request_error") !=
			0 ||
		    *error_of(&req, "code") == '\0')
			fail_msg("%s: %d, %s", refused[i].body, req.status,
			    error_of(&req, "param"));
		request_double_done(&req);
	}
	malformed = ASK(.body = "{}", .query_err = ERR_PROTO);
	assert_int_equal(malformed.status, 400);
	request_double_done(&malformed);
}

static void
a_store_that_is_away_is_our_trouble(void **state)
{
	struct store *store = store_current();
	struct request req;

	(void)state;
	store_set_current(NULL);
	req = ASK(.body = "{}");
	store_set_current(store);
	assert_int_equal(req.status, 503);
	assert_string_equal(error_of(&req, "type"), "server_error");
	assert_null(strstr(error_of(&req, "message"), "store"));
	request_double_done(&req);
}

/* ---- calls ---- */

static void
sends_an_offer_with_our_key(void **state)
{
	struct request req;

	(void)state;
	vendor.location = "https://api.x/v1/realtime/calls/rtc_a-B_9";
	req = CALL(OFFER, MODEL("old"));
	assert_int_equal(req.status, 201);
	assert_int_equal(req.max_bytes, 65536);
	assert_string_equal(req.text_type, "application/sdp");
	assert_string_equal(req.text, SDP);
	assert_non_null(strstr(req.headers,
	    "Location: /base/v1/realtime/calls/rtc_a-B_9\n"));
	assert_string_equal(vendor.url, "http://192.0.2.1/v1/realtime/calls");
	assert_string_equal(vendor.authorization, "Bearer sk-1");
	assert_memory_equal(vendor.type, "multipart/form-data; boundary=", 30);
	assert_non_null(strstr(vendor.sent, "\r\n\r\n" SDP "\r\n--"));
	assert_non_null(strstr(vendor.sent,
	    "\r\n\r\n{\"type\":\"realtime\",\"model\":\"gpt-realtime\"}\r\n"));
	request_double_done(&req);
}

static void
tells_no_location_that_is_no_calls(void **state)
{
	static const char *const locations[] = { NULL, "", "rtc_x", "/",
		"/calls/rtc x", "/calls/rtc_x?y", "/calls/rtc%20",
		"/calls/rtc_x\r\nA: b" };

	(void)state;
	for (size_t i = 0; i < COUNT(locations); i++) {
		struct request req;

		vendor.location = locations[i];
		req = CALL(OFFER);
		assert_int_equal(req.status, 201);
		assert_string_equal(req.headers, "");
		request_double_done(&req);
	}
}

#define FORM(session)                                                          \
	.type = "multipart/form-data; boundary=B",                             \
	.body = "--B\r\nContent-Disposition: form-data; name=sdp\r\n"          \
		"\r\n" SDP "\r\n--B\r\n"                                       \
		"Content-Disposition: form-data; name=session\r\n\r\n" session \
		"\r\n--B--\r\n"

static void
a_form_may_bring_a_session(void **state)
{
	struct request req = CALL(FORM("{\"type\":\"realtime\","
				       "\"model\":\"old\","
				       "\"output_modalities\":[\"text\"]}"),
	    ROUTE("/pinned"));

	(void)state;
	assert_int_equal(req.status, 201);
	assert_non_null(strstr(vendor.sent, "\"model\":\"gpt-realtime\""));
	assert_non_null(strstr(vendor.sent, "The site's own."));
	assert_non_null(
	    strstr(vendor.sent, "\"output_modalities\":[\"text\"]"));
	request_double_done(&req);
	req = CALL(FORM("{\"type\":\"realtime\",\"instructions\":\"x\"}"),
	    ROUTE("/pinned"));
	assert_int_equal(req.status, 403);
	assert_string_equal(error_of(&req, "param"), "session.instructions");
	request_double_done(&req);
	req = CALL(FORM("{"));
	assert_int_equal(req.status, 400);
	request_double_done(&req);
	req = CALL(FORM("[]"));
	assert_int_equal(req.status, 400);
	request_double_done(&req);
	assert_int_equal(vendor.asked, 1);
}

static void
sends_nothing_that_is_no_offer_on(void **state)
{
	static const struct {
		struct request req;
		int status;
	} cases[] = {
		{ { .type = "application/sdp", .body = "v=0" }, 400 },
		{ { .type = "application/sdp", .body = "v=1\r\ns=-\r\n" },
		    400 },
		{ { .type = "application/sdp", .body = "v=0\r\n\xff" }, 400 },
		{ { .type = "text/plain", .body = SDP }, 415 },
		{ { .type = "multipart/form-data", .body = SDP }, 415 },
		{ { .type = "multipart/form-data; boundary=B",
		      .body = "--B--" },
		    400 },
		{ { OFFER, MODEL("gpt-4") }, 403 },
		{ { OFFER, .query_err = ERR_PROTO }, 400 },
		{ { OFFER, ROUTE("/none") }, 404 },
		{ { OFFER, ROUTE("/nothing") }, 404 },
		{ { OFFER, ROUTE("/must") }, 401 },
		{ { OFFER, ROUTE("/must"), .authorization = "Bearer sk-2" },
		    401 },
		{ { OFFER, .authorization = "Bearer ek_a.b.c" }, 401 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct request req = handle(openai_calls_handle, cases[i].req);

		if (req.status != cases[i].status)
			fail_msg("%zu: %d", i, req.status);
		request_double_done(&req);
	}
	assert_int_equal(vendor.asked, 0);
}

/* A vendor that is slow must not take all threads. */
static void
refuses_a_call_where_half_the_threads_wait(void **state)
{
	struct request second = { OFFER, .config = config }, first;

	(void)state;
	vendor.meanwhile = &second;
	first = CALL(OFFER);
	assert_int_equal(vendor.asked, 1);
	assert_int_equal(first.status, 201);
	assert_int_equal(second.status, 503);
	request_double_done(&first);
	request_double_done(&second);
	first = CALL(OFFER);
	assert_int_equal(first.status, 201);
	request_double_done(&first);
}

static void
a_key_says_which_model_and_session(void **state)
{
	struct request key = ASK(.body = "{\"session\":{\"type\":\"realtime\","
					 "\"model\":\"gpt-realtime-mini\","
					 "\"instructions\":\"The key's.\"}}",
	    ROUTE("/must"));
	char *authorization = xasprintf("Bearer %s", value_of(&key));
	struct request req = CALL(FORM("{\"type\":\"realtime\","
				       "\"model\":\"gpt-realtime\","
				       "\"instructions\":\"The client's.\"}"),
	    ROUTE("/must"), .authorization = authorization);

	(void)state;
	assert_int_equal(req.status, 201);
	assert_string_equal(vendor.url,
	    "http://192.0.2.1/v1/realtime/calls?v=1");
	assert_non_null(strstr(vendor.sent, "\"gpt-realtime-mini\""));
	assert_non_null(strstr(vendor.sent, "The key's."));
	assert_null(strstr(vendor.sent, "The client's."));
	assert_null(strstr(vendor.sent, "ek_"));
	request_double_done(&req);
	free(authorization);
	request_double_done(&key);
}

static void
maps_what_the_vendor_answers(void **state)
{
	static const struct {
		int vendor, ours;
		const char *retry_after, *header;
	} cases[] = {
		{ 200, 201, NULL, "" },
		{ 307, 502, NULL, "" },
		{ 400, 400, NULL, "" },
		{ 401, 502, NULL, "" },
		{ 403, 502, NULL, "" },
		{ 404, 502, NULL, "" },
		{ 422, 400, NULL, "" },
		{ 429, 429, "7", "Retry-After: 7\n" },
		{ 429, 429, NULL, "Retry-After: 5\n" },
		{ 429, 429, "Thu, 01 Jan", "Retry-After: 5\n" },
		{ 429, 429, "1\r\nA: b", "Retry-After: 5\n" },
		{ 500, 502, NULL, "" },
		{ 503, 502, "7", "" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct request req;

		vendor.status = cases[i].vendor;
		vendor.retry_after = cases[i].retry_after;
		vendor.body = cases[i].vendor < 300
		    ? SDP
		    : "{\"error\":{\"message\":\"sk-1 is wrong\"}}";
		req = CALL(OFFER);
		if (req.status != cases[i].ours ||
		    strcmp(req.headers, cases[i].header) != 0 ||
		    strstr(error_of(&req, "message"), "sk-1") != NULL)
			fail_msg("%zu: %d, %s", i, req.status, req.headers);
		request_double_done(&req);
	}
}

static void
takes_no_answer_that_is_no_sdp(void **state)
{
	static const char *const bodies[] = { "", "<html>", "v=1\n", "v=0" };
	struct request req;

	(void)state;
	for (size_t i = 0; i < COUNT(bodies); i++) {
		vendor.body = bodies[i];
		req = CALL(OFFER);
		assert_int_equal(req.status, 502);
		request_double_done(&req);
	}
	vendor.err = ERR_LIMIT;
	req = CALL(OFFER);
	assert_int_equal(req.status, 502);
	assert_null(strstr(error_of(&req, "message"), "address"));
	request_double_done(&req);
	vendor.err = ERR_UPSTREAM_TIMEOUT;
	req = CALL(OFFER);
	assert_int_equal(req.status, 504);
	request_double_done(&req);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_a_key_of_what_was_asked_for),
		cmocka_unit_test_setup(
		    serves_users_alone_where_it_has_to_and_makes_no_key_of_a_key,
		    reset_vendor),
		cmocka_unit_test(gives_a_key_of_nothing),
		cmocka_unit_test(refuses_what_a_key_cannot_stand_for),
		cmocka_unit_test(a_store_that_is_away_is_our_trouble),
		cmocka_unit_test_setup(sends_an_offer_with_our_key,
		    reset_vendor),
		cmocka_unit_test_setup(
		    refuses_a_call_where_half_the_threads_wait, reset_vendor),
		cmocka_unit_test_setup(tells_no_location_that_is_no_calls,
		    reset_vendor),
		cmocka_unit_test_setup(a_form_may_bring_a_session,
		    reset_vendor),
		cmocka_unit_test_setup(sends_nothing_that_is_no_offer_on,
		    reset_vendor),
		cmocka_unit_test_setup(a_key_says_which_model_and_session,
		    reset_vendor),
		cmocka_unit_test_setup(maps_what_the_vendor_answers,
		    reset_vendor),
		cmocka_unit_test_setup(takes_no_answer_that_is_no_sdp,
		    reset_vendor),
	};

	return cmocka_run_group_tests_name("openai", tests, setup, teardown);
}
