/* SPDX-License-Identifier: MIT */
#include "broker/http/route.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "broker/anam/anam.h"
#include "broker/anam/anam_refuse.h"
#include "broker/anam/anam_talk.h"
#include "broker/chat/chat_http.h"
#include "broker/chat/chat_refusal.h"
#include "broker/chat/messages.h"
#include "broker/chat/messages_resume.h"
#include "broker/chat/messages_test.h"
#include "broker/http/access.h"
#include "broker/http/probe.h"
#include "broker/limits/admission.h"
#include "broker/livekit/livekit.h"
#include "broker/openai/openai.h"
#include "broker/openai/openai_ask.h"
#include "broker/openai/openai_call.h"
#include "broker/socketio/engineio.h"
#include "broker/store/store.h"
#include "broker/tickets/tickets.h"
#include "broker/tunnels/endpoint.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"

/* What a page may ask to send; SDKs of vendors have a dozen headers. */
#define CORS_HEADERS_MAX_BYTES 1024
#define PROBE_MS	       1000

/* What a page may read beside the headers that every page may. */
#define CORS_EXPOSE_HEADERS                                               \
	"Idempotent-Replayed, RateLimit, RateLimit-Policy, Retry-After, " \
	"X-Anon-Id"

#define CORS_MAX_AGE_S "600"

struct route {
	const char *method;
	const char *path; /* a "*" in it is one part: all up to the next "/" */
	bool prefix;	  /* and whatever follows path, which ends with "/" */
	/*
	 * In place of path, where that is configured: is it this one?  Its
	 * handler refuses other methods itself, in its protocol's words.
	 */
	bool (*takes)(const char *path);
	bool open; /* without admission, and without CORS */
	/* asks for its limits itself: not all that it takes are requests */
	bool unlimited;
	/* over a limit, where an error will not do */
	void (*refuse)(struct request *req, const struct diag *diag,
	    int64_t retry_after_s);
	request_handler *handler;
	request_error_form *error_form; /* NULL: ours */
};

static atomic_bool ready;

void
route_set_ready(bool value)
{
	atomic_store(&ready, value);
}

static void
reply_ok(struct request *req)
{
	request_reply_json(req, 200, json_pack("{s:s}", "status", "ok"));
}

static void
handle_healthz(struct request *req)
{
	if (probe_takes(req))
		probe_handle(req);
	else
		reply_ok(req);
}

/* Whether the store takes what it is given; it is asked once a second. */
static bool
store_is_there(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static int64_t asked_ms;
	static bool away;
	struct store *store = store_current();
	struct diag why = { "" };
	bool was_away;

	(void)pthread_mutex_lock(&lock);
	was_away = away;
	if (store != NULL && clock_ms() >= asked_ms + PROBE_MS) {
		away = store->ops->probe(store, &why) != ERR_OK;
		asked_ms = clock_ms();
	}
	if (away && !was_away)
		log_error("store.away", "reason=\"%s\"", why.text);
	else if (was_away && !away)
		log_notice("store.back", "%s", "");
	was_away = away;
	(void)pthread_mutex_unlock(&lock);
	return store == NULL || !was_away;
}

static void
handle_readyz(struct request *req)
{
	if (atomic_load(&ready) && store_is_there())
		reply_ok(req);
	else
		request_reply_error(req, ERR_UNAVAIL, NULL);
}

static const struct route routes[] = {
	{ "GET", "/healthz", .open = true, .handler = handle_healthz },
	{ "GET", "/readyz", .open = true, .handler = handle_readyz },
	{ "POST", "/api/livekit/token", .handler = livekit_token_handle },
	{ "POST", "/api/livekit/token/", .prefix = true,
	    .handler = livekit_token_handle },
	{ "POST", "/api/tickets", .handler = tickets_handle },
	{ "POST", "/v1/realtime/client_secrets",
	    .handler = openai_client_secrets_handle,
	    .error_form = openai_ask_error_form },
	{ "POST", "/v1/realtime/calls", .handler = openai_calls_handle,
	    .error_form = openai_ask_error_form },
	{ "POST", "/v1/realtime/calls/*/hangup",
	    .handler = openai_hangup_handle,
	    .error_form = openai_ask_error_form },
	{ "POST", "/v1/auth/session-token", .handler = anam_token_handle,
	    .error_form = anam_error },
	{ "POST", "/v1/engine/session", .handler = anam_session_handle,
	    .error_form = anam_error },
	{ "POST", "/v1/metrics/client", .handler = anam_metrics_handle,
	    .error_form = anam_error },
	{ "POST", "/talk", .handler = anam_talk_handle,
	    .error_form = anam_error },
	{ "POST", "/b/", .prefix = true, .handler = anam_talk_handle,
	    .error_form = anam_error },
	{ "GET", "/api/v1/chats", .handler = chat_http_chats_handle },
	{ "POST", "/api/v1/chats", .handler = chat_http_chats_handle },
	{ "PATCH", "/api/v1/chats/*", .handler = chat_http_chat_handle },
	{ "DELETE", "/api/v1/chats/*", .handler = chat_http_chat_handle },
	{ "GET", "/api/v1/chats/*/messages", .handler = chat_http_chat_handle },
	{ "GET", "/api/v1/usage", .handler = chat_http_usage_handle },
	{ "POST", "/api/v1/messages/send", .handler = messages_send_handle,
	    .refuse = chat_refusal_reply_limited },
	{ "GET", "/api/v1/messages/send", .handler = messages_stream_handle },
	{ "GET", "/api/v1/messages/stream", .handler = messages_stream_handle },
	{ "POST", "/api/v1/messages/regenerate",
	    .handler = messages_regenerate_handle,
	    .refuse = chat_refusal_reply_limited },
	{ "POST", "/api/v1/messages/stop", .handler = messages_stop_handle },
	{ "GET", "/api/v1/messages/test-sse", .handler = messages_test_handle },
	{ "POST", "/api/v1/messages/test-sse",
	    .handler = messages_test_handle },
	{ "GET", .takes = eio_takes, .unlimited = true, .handler = eio_handle },
	{ "POST", .takes = eio_takes, .unlimited = true,
	    .handler = eio_handle },
};
#define ROUTE_COUNT (sizeof(routes) / sizeof(routes[0]))

static bool
has_path(const struct route *route, const char *path)
{
	const char *p = route->path;

	if (route->takes != NULL)
		return route->takes(path);
	for (; *p != '\0'; p++) {
		if (*p == '*') {
			size_t len = strcspn(path, "/");

			if (len == 0)
				return false;
			path += len;
		} else if (*p != *path++) {
			return false;
		}
	}
	return route->prefix == (*path != '\0');
}

static bool
takes_method(const struct route *route, const char *method)
{
	return strcmp(route->method, method) == 0 ||
	    (strcmp(route->method, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

/* The methods of a path, for Allow (RFC 9110 10.2.1). */
static void
list_methods(const char *path, char *out, size_t size)
{
	*out = '\0';
	for (size_t i = 0; i < ROUTE_COUNT; i++) {
		const char *method = routes[i].method;
		size_t len = strlen(out);

		if (has_path(&routes[i], path) &&
		    !str_list_has(out, len, method))
			(void)snprintf(out + len, size - len, "%s%s, ", method,
			    strcmp(method, "GET") == 0 ? ", HEAD" : "");
	}
	(void)strncat(out, "OPTIONS", size - strlen(out) - 1);
}

/* The route of this path and method, or any of this path; else NULL. */
static const struct route *
find_route(const char *path, const char *method)
{
	const struct route *found = NULL;

	for (size_t i = 0; i < ROUTE_COUNT; i++) {
		if (!has_path(&routes[i], path))
			continue;
		if (takes_method(&routes[i], method))
			return &routes[i];
		found = &routes[i];
	}
	return found;
}

static void
log_denied(const struct request *req, const struct diag *diag)
{
	static struct log_limit denied = LOG_LIMIT_A_MINUTE;
	const char *client = request_client(req);
	const char *origin = request_header(req, "origin");
	char client_word[64], origin_word[128];

	if (client == NULL)
		client = "-";
	if (origin == NULL)
		origin = "-";
	(void)str_escape(client_word, sizeof(client_word), client,
	    strlen(client));
	(void)str_escape(origin_word, sizeof(origin_word), origin,
	    strlen(origin));
	log_limited(&denied, LOG_LEVEL_INFO, "request.denied",
	    "client=%s origin=%s reason=\"%s\"", client_word, origin_word,
	    diag->text);
}

/*
 * Let a page of this Origin read the answer, where it may be served.  With
 * cookies only if the operator has named it: "*" is any page in the world.
 */
static enum err
admit(struct request *req, struct diag *diag)
{
	const struct config *config = request_config(req);
	struct access_request request = {
		.client = request_client(req),
		.method = request_method(req),
		.origin = request_header(req, "origin"),
		.host = request_header(req, "host"),
		.fetch_site = request_header(req, "sec-fetch-site"),
	};
	enum err err = access_check(config, &request, diag);

	request_add_header(req, "Vary", "Origin");
	if (err != ERR_OK || request.origin == NULL)
		return err;
	request_add_header(req, "Access-Control-Allow-Origin", request.origin);
	if (access_is_named(config, request.origin))
		request_add_header(req, "Access-Control-Allow-Credentials",
		    "true");
	request_add_header(req, "Access-Control-Expose-Headers",
	    CORS_EXPOSE_HEADERS);
	return ERR_OK;
}

/* A list of header names and nothing else, which is not too long. */
static bool
is_header_list(const char *text)
{
	if (strlen(text) > CORS_HEADERS_MAX_BYTES)
		return false;
	for (;; text++) {
		size_t len;

		text += strspn(text, " \t");
		len = strcspn(text, ", \t");
		if (!str_is_token(text, len))
			return false;
		text += len;
		text += strspn(text, " \t");
		if (*text != ',')
			return *text == '\0';
	}
}

/*
 * OPTIONS: a browser's preflight, or anybody's question.  An admitted page may
 * send whatever headers it likes: it is trusted as a program is, which needs no
 * leave for them, and vendors' SDKs add a dozen of their own.
 */
static void
reply_options(struct request *req, const char *methods, bool cors)
{
	const char *wanted =
	    request_header(req, "access-control-request-headers");

	request_add_header(req, "Allow", methods);
	if (cors && request_header(req, "origin") != NULL) {
		request_add_header(req, "Access-Control-Allow-Methods",
		    methods);
		if (wanted != NULL && is_header_list(wanted))
			request_add_header(req, "Access-Control-Allow-Headers",
			    wanted);
		request_add_header(req, "Access-Control-Max-Age",
		    CORS_MAX_AGE_S);
	}
	request_reply_empty(req, 204);
}

/*
 * Have it handled, within the limits of its address.  Only now: what a foreign
 * page has its visitors ask is none of theirs.
 */
static void
handle(struct request *req, const struct route *route)
{
	struct diag diag = { "" };
	int64_t retry_after_s;

	if (route->open || route->unlimited)
		route->handler(req);
	else if (route->refuse != NULL) {
		if (admission_ask_address(req, &retry_after_s, &diag) == ERR_OK)
			route->handler(req);
		else
			route->refuse(req, &diag, retry_after_s);
	} else if (admission_check_address(req, &diag) == ERR_OK) {
		route->handler(req);
	} else {
		request_reply_error(req, ERR_RATE, diag.text);
	}
}

void
route_handle(struct request *req)
{
	static const struct route endpoint = { .method = "GET",
		.handler = endpoint_handle };
	const char *path = request_path(req), *method = request_method(req);
	const struct route *route = find_route(path, method);
	struct diag diag = { "" };
	enum err admission = ERR_OK;
	char methods[128];

	if (route != NULL)
		request_set_error_form(req, route->error_form);
	if (route == NULL || !route->open)
		admission = admit(req, &diag);
	if (route == NULL && admission == ERR_OK && endpoint_takes(req)) {
		handle(req, &endpoint);
		return;
	}
	if (route == NULL) {
		request_reply_error(req, ERR_NOTFOUND, NULL);
		return;
	}
	list_methods(path, methods, sizeof(methods));
	if (route->takes == NULL && !takes_method(route, method) &&
	    strcmp(method, "OPTIONS") != 0) {
		request_add_header(req, "Allow", methods);
		request_reply_error(req, ERR_METHOD, NULL);
	} else if (admission != ERR_OK) {
		log_denied(req, &diag);
		request_reply_error(req, admission, diag.text);
	} else if (strcmp(method, "OPTIONS") == 0) {
		reply_options(req, methods, !route->open);
	} else {
		handle(req, route);
	}
}
