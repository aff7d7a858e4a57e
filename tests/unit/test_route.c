/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "broker/anam/anam.h"
#include "broker/anam/anam_refuse.h"
#include "broker/anam/anam_talk.h"
#include "broker/chat/chat_http.h"
#include "broker/chat/chat_refusal.h"
#include "broker/chat/messages.h"
#include "broker/chat/messages_resume.h"
#include "broker/chat/messages_test.h"
#include "broker/http/probe.h"
#include "broker/http/route.h"
#include "broker/limits/buckets.h"
#include "broker/livekit/livekit.h"
#include "broker/openai/openai.h"
#include "broker/openai/openai_ask.h"
#include "broker/openai/openai_call.h"
#include "broker/socketio/engineio.h"
#include "broker/tickets/tickets.h"
#include "broker/tunnels/endpoint.h"
#include "common/json.h"
#include "common/log.h"
#include "config_text.h"
#include "request_double.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- handlers that stand in for the real ones ---- */

static struct config *config;
static bool handled; /* by one of them */
static bool is_probe; /* the request has the id of one */

bool
endpoint_takes(const struct request *req)
{
	return strcmp(req->method, "GET") == 0 &&
	    strcmp(req->path, "/v1/realtime") == 0;
}

void
endpoint_handle(struct request *req)
{
	req->answers++;
	req->status = 426;
}

void
livekit_token_handle(struct request *req)
{
	req->answers++;
	handled = true;
	req->status = 200;
}

bool
probe_takes(const struct request *req)
{
	(void)req;
	return is_probe;
}

void
probe_handle(struct request *req)
{
	livekit_token_handle(req);
}

static void
handle_anam(struct request *req)
{
	/* its errors have to be its clients', before it is asked */
	assert_ptr_equal(req->error_form, anam_error);
	livekit_token_handle(req);
}

void
anam_token_handle(struct request *req)
{
	handle_anam(req);
}

void
anam_session_handle(struct request *req)
{
	handle_anam(req);
}

void
anam_talk_handle(struct request *req)
{
	handle_anam(req);
}

void
anam_metrics_handle(struct request *req)
{
	handle_anam(req);
}

json_t *
anam_error(const char *code, const char *message)
{
	(void)code;
	(void)message;
	return NULL;
}

void
tickets_handle(struct request *req)
{
	livekit_token_handle(req);
}

void
messages_send_handle(struct request *req)
{
	livekit_token_handle(req);
}

void
messages_stream_handle(struct request *req)
{
	livekit_token_handle(req);
}

void
messages_regenerate_handle(struct request *req)
{
	livekit_token_handle(req);
}

void
messages_stop_handle(struct request *req)
{
	livekit_token_handle(req);
}

void
messages_test_handle(struct request *req)
{
	livekit_token_handle(req);
}

bool
eio_takes(const char *path)
{
	return strcmp(path, "/configured/") == 0;
}

void
eio_handle(struct request *req)
{
	livekit_token_handle(req);
}

static void
handle_openai(struct request *req)
{
	assert_ptr_equal(req->error_form, openai_ask_error_form);
	livekit_token_handle(req);
}

void
openai_client_secrets_handle(struct request *req)
{
	handle_openai(req);
}

void
openai_calls_handle(struct request *req)
{
	handle_openai(req);
}

void
openai_hangup_handle(struct request *req)
{
	handle_openai(req);
}

void
chat_refusal_reply_limited(struct request *req, const struct diag *diag,
    int64_t retry_after_s)
{
	(void)snprintf(req->message, sizeof(req->message), "events: %s (%lld)",
	    diag->text, (long long)retry_after_s);
	req->answers++;
	req->status = 429;
}

json_t *
openai_ask_error_form(const char *code, const char *message)
{
	(void)code;
	(void)message;
	return NULL;
}

void
chat_http_chats_handle(struct request *req)
{
	livekit_token_handle(req);
}

void
chat_http_chat_handle(struct request *req)
{
	livekit_token_handle(req);
}

void
chat_http_usage_handle(struct request *req)
{
	livekit_token_handle(req);
}

/* ---- who is answered what ---- */

#define TOKEN "/api/livekit/token"
#define GOOD  "https://a.example"
#define EVIL  "https://evil.example"
#define HERE  "10.1.2.3"

#define VARY	       "Vary: Origin\n"
#define MAY_AS(origin) VARY "Access-Control-Allow-Origin: " origin "\n"
#define EXPOSE                                                            \
	"Access-Control-Expose-Headers: Idempotent-Replayed, RateLimit, " \
	"RateLimit-Policy, Retry-After, X-Anon-Id\n"
#define MAY	  MAY_AS(GOOD) "Access-Control-Allow-Credentials: true\n" EXPOSE
#define POSTS	  "Allow: POST, OPTIONS\n"
#define GETS	  "Allow: GET, HEAD, OPTIONS\n"
#define METHODS	  MAY POSTS "Access-Control-Allow-Methods: POST, OPTIONS\n"
#define MAX_AGE	  "Access-Control-Max-Age: 600\n"
#define PREFLIGHT METHODS MAX_AGE

struct row {
	const char *method, *path, *origin, *client;
	int status;
	const char *headers;
};

static void
route(struct request *req)
{
	handled = false;
	route_handle(req);
	if (req->reply != NULL)
		assert_string_equal(json_string_value(
					json_object_get(req->reply, "status")),
		    "ok");
	request_double_done(req);
}

static struct request
handle(const struct row *row)
{
	struct request req = { .method = row->method,
		.path = row->path,
		.origin = row->origin,
		.client = row->client,
		.no_client = row->client == NULL,
		.host = "a.example",
		.config = config };

	route(&req);
	return req;
}

static void
check_rows(const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct row *row = &rows[i];
		struct request req = handle(row);

		if (req.answers != 1 || req.status != row->status ||
		    strcmp(req.headers, row->headers) != 0 ||
		    handled !=
			(row->status == 200 &&
			    strcmp(row->path, "/healthz") != 0))
			fail_msg("%s %s of %s from %s: %u answers, %d\n%s",
			    row->method, row->path, row->origin, row->client,
			    req.answers, req.status, req.headers);
	}
}

static void
health_is_for_whomever_asks_and_for_no_page(void **state)
{
	static const struct row rows[] = {
		{ "GET", "/healthz", NULL, HERE, 200, "" },
		{ "HEAD", "/healthz", NULL, HERE, 200, "" },
		{ "GET", "/healthz", GOOD, HERE, 200, "" },
		{ "GET", "/healthz", EVIL, HERE, 200, "" },
		{ "GET", "/healthz", NULL, "192.0.2.1", 200, "" },
		{ "GET", "/healthz", NULL, NULL, 200, "" },
		{ "OPTIONS", "/healthz", NULL, NULL, 204, GETS },
		{ "OPTIONS", "/healthz", EVIL, HERE, 204, GETS },
		{ "POST", "/healthz", GOOD, HERE, 405, GETS },
		{ "get", "/healthz", NULL, HERE, 405, GETS },
		{ "GETS", "/healthz", NULL, HERE, 405, GETS },
		{ "", "/healthz", NULL, HERE, 405, GETS },
		{ "TRACE", "/readyz", NULL, HERE, 405, GETS },
	};

	(void)state;
	check_rows(rows, COUNT(rows));
}

static void
readiness_is_what_was_last_set(void **state)
{
	static const struct row row = { "GET", "/readyz", EVIL, NULL, 0, "" };

	(void)state;
	assert_int_equal(handle(&row).status, 503);
	route_set_ready(true);
	assert_int_equal(handle(&row).status, 200);
	route_set_ready(false);
	assert_int_equal(handle(&row).status, 503);
}

static void
a_token_is_for_admitted_origins_and_clients(void **state)
{
	static const struct row rows[] = {
		{ "POST", TOKEN, GOOD, HERE, 200, MAY },
		{ "POST", TOKEN "/stage", GOOD, HERE, 200, MAY },
		{ "POST", TOKEN "/a/b", GOOD, HERE, 200, MAY },
		{ "POST", TOKEN, GOOD, "::ffff:10.0.0.1", 200, MAY },
		{ "POST", TOKEN, NULL, HERE, 403, VARY },
		{ "POST", TOKEN, "", HERE, 403, VARY },
		{ "POST", TOKEN, "null", HERE, 403, VARY },
		{ "POST", TOKEN, EVIL, HERE, 403, VARY },
		{ "POST", TOKEN, GOOD ".evil.example", HERE, 403, VARY },
		{ "POST", TOKEN, "http://a.example", HERE, 403, VARY },
		{ "POST", TOKEN, GOOD ":8443", HERE, 403, VARY },
		{ "POST", TOKEN, GOOD "/", HERE, 403, VARY },
		{ "POST", TOKEN, GOOD ", " EVIL, HERE, 403, VARY },
		{ "POST", TOKEN, GOOD, "192.0.2.1", 403, VARY },
		{ "POST", TOKEN, GOOD, "::1", 403, VARY },
		{ "POST", TOKEN, GOOD, "", 403, VARY },
		{ "POST", TOKEN, GOOD, "unix:", 403, VARY },
		{ "POST", TOKEN, GOOD, NULL, 403, VARY },
	};

	(void)state;
	check_rows(rows, COUNT(rows));
}

static void
vendors_paths_are_served_like_the_others(void **state)
{
	static const struct row rows[] = {
		{ "POST", "/v1/engine/session", GOOD, HERE, 200, MAY },
		{ "POST", "/v1/auth/session-token", GOOD, HERE, 200, MAY },
		{ "POST", "/v1/metrics/client", GOOD, HERE, 200, MAY },
		{ "POST", "/api/tickets", GOOD, HERE, 200, MAY },
		{ "POST", "/api/tickets", EVIL, HERE, 403, VARY },
		{ "POST", "/talk", GOOD, HERE, 200, MAY },
		{ "POST", "/b/x/talk", GOOD, HERE, 200, MAY },
		{ "POST", "/v1/realtime/client_secrets", GOOD, HERE, 200, MAY },
		{ "POST", "/v1/realtime/calls", GOOD, HERE, 200, MAY },
		{ "OPTIONS", "/v1/realtime/calls", GOOD, HERE, 204, PREFLIGHT },
		{ "POST", "/v1/realtime/calls", EVIL, HERE, 403, VARY },
		{ "GET", "/v1/realtime/client_secrets", GOOD, HERE, 405,
		    MAY POSTS },
		{ "POST", "/v1/realtime", GOOD, HERE, 404, MAY },
		{ "GET", "/v1/realtime", GOOD, HERE, 426, MAY },
		{ "GET", "/v1/realtime", EVIL, HERE, 404, VARY },
		{ "OPTIONS", "/v1/engine/session", GOOD, HERE, 204, PREFLIGHT },
		{ "OPTIONS", "/b/x/talk", GOOD, HERE, 204, PREFLIGHT },
		{ "POST", "/v1/engine/session", EVIL, HERE, 403, VARY },
		{ "GET", "/v1/engine/session", GOOD, HERE, 405, MAY POSTS },
		{ "POST", "/b/", GOOD, HERE, 404, MAY },
		{ "POST", "/v1/engine", GOOD, HERE, 404, MAY },
	};

	(void)state;
	check_rows(rows, COUNT(rows));
}

static void
chats_are_read_changed_and_taken_away(void **state)
{
	static const char id[] = "/api/v1/chats/0a";
	static const struct row rows[] = {
		{ "GET", "/api/v1/chats", GOOD, HERE, 200, MAY },
		{ "POST", "/api/v1/chats", GOOD, HERE, 200, MAY },
		{ "GET", "/api/v1/chats/0a/messages", GOOD, HERE, 200, MAY },
		{ "PATCH", id, GOOD, HERE, 200, MAY },
		{ "DELETE", id, GOOD, HERE, 200, MAY },
		{ "DELETE", id, EVIL, HERE, 403, VARY },
		{ "GET", "/api/v1/usage", GOOD, HERE, 200, MAY },
		{ "POST", "/api/v1/usage", GOOD, HERE, 405, MAY GETS },
		{ "DELETE", "/api/v1/chats", GOOD, HERE, 405,
		    MAY "Allow: GET, HEAD, POST, OPTIONS\n" },
		{ "PUT", id, GOOD, HERE, 405,
		    MAY "Allow: PATCH, DELETE, OPTIONS\n" },
	};

	(void)state;
	check_rows(rows, COUNT(rows));
}

static void
a_path_that_is_configured_is_served_whatever_the_method(void **state)
{
	static const struct row rows[] = {
		{ "GET", "/configured/", GOOD, HERE, 200, MAY },
		{ "POST", "/configured/", GOOD, HERE, 200, MAY },
		{ "POST", "/configured/", EVIL, HERE, 403, VARY },
		{ "PUT", "/configured/", GOOD, HERE, 200, MAY },
		{ "GET", "/configured", GOOD, HERE, 404, MAY },
		{ "GET", "/configured/x", GOOD, HERE, 404, MAY },
	};

	(void)state;
	check_rows(rows, COUNT(rows));
}

static void
a_preflight_is_answered_to_admitted_pages_only(void **state)
{
	static const struct row rows[] = {
		{ "OPTIONS", TOKEN, GOOD, HERE, 204, PREFLIGHT },
		{ "OPTIONS", TOKEN "/stage", GOOD, HERE, 204, PREFLIGHT },
		{ "OPTIONS", TOKEN, EVIL, HERE, 403, VARY },
		{ "OPTIONS", TOKEN, NULL, HERE, 403, VARY },
		{ "OPTIONS", TOKEN, GOOD, "192.0.2.1", 403, VARY },
		{ "OPTIONS", "/nothing", GOOD, HERE, 404, MAY },
		{ "OPTIONS", "*", GOOD, HERE, 404, MAY },
	};

	(void)state;
	check_rows(rows, COUNT(rows));
}

/* What a page asks to send, and whether it may. */
static void
a_preflight_allows_the_headers_that_it_names(void **state)
{
	char long_list[1100];
	struct {
		const char *wanted;
		bool good;
	} cases[] = {
		{ "content-type", true },
		{ "authorization,x-anon-id", true },
		{ "x-stainless-os, openai-beta ,\tidempotency-key", true },
		{ "", false },
		{ ",", false },
		{ "a,", false },
		{ ",a", false },
		{ "a b", false },
		{ "a:b", false },
		{ "a\r\nSet-Cookie: b", false },
		{ "\xc3\xa4", false },
		{ long_list, false },
	};

	(void)state;
	memset(long_list, 'a', sizeof(long_list));
	long_list[1025] = '\0';
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct request req = { .method = "OPTIONS",
			.path = TOKEN,
			.origin = GOOD,
			.client = HERE,
			.host = "a.example",
			.cors_headers = cases[i].wanted,
			.config = config };
		char headers[2048];

		route(&req);
		(void)snprintf(headers, sizeof(headers), "%s%s%s%s" MAX_AGE,
		    METHODS,
		    cases[i].good ? "Access-Control-Allow-Headers: " : "",
		    cases[i].good ? cases[i].wanted : "",
		    cases[i].good ? "\n" : "");
		assert_int_equal(req.status, 204);
		assert_string_equal(req.headers, headers);
	}
}

static void
a_page_that_is_not_named_may_not_use_cookies(void **state)
{
	static const char text[] = "access { clients = {\"any\"}\n"
				   "origins = {\"*\", \"" GOOD "\"} }";
	struct config *old = config, *open;
	struct row row = { "POST", TOKEN, EVIL, HERE, 200,
		MAY_AS(EVIL) EXPOSE };

	(void)state;
	config = open = config_text(text);
	check_rows(&row, 1);
	row.origin = GOOD;
	row.headers = MAY;
	check_rows(&row, 1);
	config = old;
	config_unref(open);
}

/* Browsers send no Origin then; for all else, they do. */
static void
a_page_of_the_site_may_read_without_an_origin(void **state)
{
	static const struct {
		const char *method, *fetch_site;
		int status;
	} cases[] = {
		{ "GET", "same-origin", 200 },
		{ "HEAD", "same-origin", 200 },
		{ "POST", "same-origin", 403 },
		{ "OPTIONS", "same-origin", 403 },
		{ "GET", "same-site", 403 },
		{ "GET", NULL, 403 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct request req = { .method = cases[i].method,
			.path = "/configured/",
			.client = HERE,
			.host = "a.example",
			.fetch_site = cases[i].fetch_site,
			.config = config };

		route(&req);
		assert_int_equal(req.status, cases[i].status);
		assert_int_equal(handled, cases[i].status == 200);
		assert_string_equal(req.headers, VARY);
	}
}

#define CHATS "/api/v1/chats"

static void
a_path_may_take_several_methods(void **state)
{
	static const struct row rows[] = {
		{ "GET", "/configured/", GOOD, HERE, 200, MAY },
		{ "HEAD", "/configured/", GOOD, HERE, 200, MAY },
		{ "POST", "/configured/", GOOD, HERE, 200, MAY },
		{ "PUT", "/configured/", GOOD, HERE, 200, MAY },
		{ "OPTIONS", CHATS "/x", GOOD, HERE, 204,
		    MAY "Allow: PATCH, DELETE, OPTIONS\n"
			"Access-Control-Allow-Methods: PATCH, DELETE, "
			"OPTIONS\n" MAX_AGE },
	};

	(void)state;
	check_rows(rows, COUNT(rows));
}

static void
a_part_of_a_path_may_be_a_name(void **state)
{
	static const struct row rows[] = {
		{ "GET", CHATS "/x/messages", GOOD, HERE, 200, MAY },
		{ "HEAD", CHATS "/x.y~z/messages", GOOD, HERE, 200, MAY },
		{ "POST", CHATS "/x/messages", GOOD, HERE, 405, MAY GETS },
		{ "GET", CHATS "/x", GOOD, HERE, 405,
		    MAY "Allow: PATCH, DELETE, OPTIONS\n" },
		{ "PATCH", CHATS "/", GOOD, HERE, 404, MAY },
		{ "PATCH", CHATS "/x/", GOOD, HERE, 404, MAY },
		{ "PATCH", CHATS "/x/y", GOOD, HERE, 404, MAY },
		{ "PATCH", CHATS "x", GOOD, HERE, 404, MAY },
		{ "GET", CHATS "/messages", GOOD, HERE, 405,
		    MAY "Allow: PATCH, DELETE, OPTIONS\n" },
		{ "GET", CHATS "//messages", GOOD, HERE, 404, MAY },
		{ "GET", CHATS "/x/y/messages", GOOD, HERE, 404, MAY },
		{ "GET", CHATS "/x/messages/", GOOD, HERE, 404, MAY },
		{ "GET", CHATS "/x/messagesx", GOOD, HERE, 404, MAY },
		{ "GET", CHATS "/x/message", GOOD, HERE, 404, MAY },
	};

	(void)state;
	check_rows(rows, COUNT(rows));
}

static void
other_paths_and_methods_are_refused_in_words_a_page_may_read(void **state)
{
	static const struct row rows[] = {
		{ "GET", TOKEN, GOOD, HERE, 405, MAY POSTS },
		{ "HEAD", TOKEN, GOOD, HERE, 405, MAY POSTS },
		{ "PUT", TOKEN "/stage", GOOD, HERE, 405, MAY POSTS },
		{ "post", TOKEN, GOOD, HERE, 405, MAY POSTS },
		{ "GET", TOKEN, EVIL, HERE, 405, VARY POSTS },
		{ "GET", "/", GOOD, HERE, 404, MAY },
		{ "GET", "/", EVIL, HERE, 404, VARY },
		{ "POST", TOKEN "/", GOOD, HERE, 404, MAY },
		{ "POST", TOKEN "s", GOOD, HERE, 404, MAY },
		{ "POST", "/api/livekit", GOOD, HERE, 404, MAY },
		{ "POST", "/API/livekit/token", GOOD, HERE, 404, MAY },
		{ "GET", "/healthz/", NULL, HERE, 404, VARY },
		{ "GET", "/healthzz", NULL, HERE, 404, VARY },
		{ "GET", "/health", NULL, NULL, 404, VARY },
	};

	(void)state;
	check_rows(rows, COUNT(rows));
}

#define LIMIT(r, t)                             \
	"RateLimit-Policy: \"few\";q=2;w=200\n" \
	"RateLimit: \"few\";r=" r ";t=" t "\n"

static void
an_address_has_so_many_requests(void **state)
{
	static const char text[] =
	    "access { clients = {\"10.0.0.0/8\"} origins = {\"" GOOD "\"} }\n"
	    "plan few { requests_per_second = 0.01 burst = 2 }\n"
	    "limits { address = few }\n";
	static const struct row rows[] = {
		/* neither these nor what is refused before is counted */
		{ "GET", "/healthz", NULL, HERE, 200, "" },
		{ "OPTIONS", TOKEN, GOOD, HERE, 204, PREFLIGHT },
		{ "POST", TOKEN, EVIL, HERE, 403, VARY },
		{ "POST", "/nothing", GOOD, HERE, 404, MAY },
		{ "GET", TOKEN, GOOD, HERE, 405, MAY POSTS },
		{ "GET", "/configured/", GOOD, HERE, 200, MAY },
		{ "POST", TOKEN, GOOD, HERE, 200, MAY LIMIT("1", "100") },
		{ "POST", TOKEN, GOOD, HERE, 200, MAY LIMIT("0", "200") },
		{ "POST", TOKEN, GOOD, HERE, 429,
		    MAY LIMIT("0", "200") "Retry-After: 100\n" },
		{ "POST", "/v1/engine/session", GOOD, HERE, 429,
		    MAY LIMIT("0", "200") "Retry-After: 100\n" },
		/* in the words of its protocol, which has that header */
		{ "POST", "/api/v1/messages/send", GOOD, HERE, 429,
		    MAY LIMIT("0", "200") },
		{ "GET", "/healthz", NULL, HERE, 200, "" },
		{ "OPTIONS", TOKEN, GOOD, HERE, 204, PREFLIGHT },
		{ "POST", TOKEN, GOOD, "10.1.2.4", 200, MAY LIMIT("1", "100") },
	};
	static const struct row send = { "POST", "/api/v1/messages/send", GOOD,
		HERE, 0, "" };
	struct config *old = config, *limited;

	(void)state;
	config = limited = config_text(text);
	check_rows(rows, COUNT(rows));
	assert_string_equal(handle(&send).message,
	    "events: too many requests: try again in 100 seconds (100)");
	config = old;
	config_unref(limited);
	buckets_done();
}

static void
who_is_refused_is_told_why(void **state)
{
	static const struct row origin = { "POST", TOKEN, EVIL, HERE, 0, "" };
	static const struct row client = { "POST", TOKEN, GOOD, NULL, 0, "" };

	(void)state;
	assert_string_not_equal(handle(&origin).message, "");
	assert_string_not_equal(handle(&client).message, "");
	assert_string_not_equal(handle(&origin).message,
	    handle(&client).message);
}

static int
set_up(void **state)
{
	static const char text[] = "access { clients = {\"10.0.0.0/8\"}\n"
				   "origins = {\"https://a.example\"} }";

	(void)state;
	config = config_text(text);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	config_unref(config);
	return 0;
}

static void
a_probe_is_answered_at_healthz_alone(void **state)
{
	static const struct {
		const char *path;
		bool probe, handled;
	} rows[] = {
		{ "/healthz", true, true },
		{ "/healthz", false, false },
		{ "/readyz", true, false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct request req = { .method = "GET",
			.path = rows[i].path,
			.config = config };

		is_probe = rows[i].probe;
		handled = false;
		route_handle(&req);
		assert_int_equal(req.answers, 1);
		assert_int_equal(handled, rows[i].handled);
		request_double_done(&req);
	}
	is_probe = false;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(health_is_for_whomever_asks_and_for_no_page),
		cmocka_unit_test(readiness_is_what_was_last_set),
		cmocka_unit_test(a_probe_is_answered_at_healthz_alone),
		cmocka_unit_test(a_token_is_for_admitted_origins_and_clients),
		cmocka_unit_test(vendors_paths_are_served_like_the_others),
		cmocka_unit_test(chats_are_read_changed_and_taken_away),
		cmocka_unit_test(
		    a_path_that_is_configured_is_served_whatever_the_method),
		cmocka_unit_test(
		    a_preflight_is_answered_to_admitted_pages_only),
		cmocka_unit_test(a_preflight_allows_the_headers_that_it_names),
		cmocka_unit_test(a_page_that_is_not_named_may_not_use_cookies),
		cmocka_unit_test(a_page_of_the_site_may_read_without_an_origin),
		cmocka_unit_test(a_path_may_take_several_methods),
		cmocka_unit_test(a_part_of_a_path_may_be_a_name),
		cmocka_unit_test(
		    other_paths_and_methods_are_refused_in_words_a_page_may_read),
		cmocka_unit_test(an_address_has_so_many_requests),
		cmocka_unit_test(who_is_refused_is_told_why),
	};

	log_init("test_route", LOG_LEVEL_WARNING);
	return cmocka_run_group_tests_name("route", tests, set_up, tear_down);
}
