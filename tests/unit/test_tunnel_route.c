/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <sys/socket.h>

#include "broker/tunnels/tunnel_request.h"
#include "common/xalloc.h"
#include "tunnel_ask.h"

/* A string that can be changed, as those of a configuration can. */
#define S(text) ((char[]){ text })

static char *answer_names[] = { S("realtime"), S("v2") };
static char *answer_paths[] = { S("/v1/realtime"), S("/") };
static char *pass_paths[] = { S("/pass") };
static char *plain_paths[] = { S("/plain") };
static char *named_paths[] = { S("/named") };
static char *model_values[] = { S("gpt-*") };
static struct config_query model = {
	.name = S("model"),
	.values = { model_values, 1 },
	.fallback = S("gpt-realtime"),
};
static struct config_header headers[] = {
	{ .name = S("Authorization"), .prefix = S("Bearer ") },
	{ .name = S("X-Plain"), .prefix = S("text") },
};

#define LIMITS                                                      \
	{                                                           \
		.connect_ms = 10000, .pong_ms = 20000, .idle_ms = 7 \
	}
static struct config_relay relays[] = {
	{
	    .name = S("openai"),
	    .paths = { answer_paths, 2 },
	    .upstream = { true, S("192.0.2.1"), 443, S("192.0.2.1"),
		S("/v1/realtime"), NULL },
	    .ca_file = S("/ca.pem"),
	    .headers = headers,
	    .header_count = 2,
	    .queries = &model,
	    .query_count = 1,
	    .subprotocols = { answer_names, 2 },
	    .max_connections = 2,
	    .limits = LIMITS,
	},
	{
	    .name = S("/pass"),
	    .paths = { pass_paths, 1 },
	    .upstream = { false, S("192.0.2.1"), 9000, S("192.0.2.1:9000"),
		S("/"), NULL },
	    .subprotocols = { answer_names, 2 },
	    .subprotocol_pass = true,
	    .limits = LIMITS,
	},
	{
	    .name = S("/plain"),
	    .paths = { plain_paths, 1 },
	    .upstream = { false, S("192.0.2.1"), 9000, S("192.0.2.1:9000"),
		S("/"), NULL },
	    .limits = LIMITS,
	},
	{
	    .name = S("/named"),
	    .paths = { named_paths, 1 },
	    .upstream = { false, S("private.example"), 80, S("private.example"),
		S("/"), NULL },
	    .limits = LIMITS,
	},
};
static struct config_range loopback = {
	.family = AF_INET,
	.address = { 127 },
	.prefix_len = 8,
};
static char *origins[] = { S("loopback") };
static const struct config settings = {
	.access = {
	    .clients = &loopback,
	    .client_count = 1,
	    .origins = { origins, 1 },
	    .missing_origin = true,
	},
	.control = { .max_connections = 3 },
	.relays = relays,
	.relay_count = 4,
};
static struct config *config;

static enum err
lookup(const char *name, struct resolver_answer *ret, struct diag *diag)
{
	(void)name;
	(void)diag;
	*ret = (struct resolver_answer){
		.addresses = { "10.0.0.1" },
		.count = 1,
	};
	return ERR_OK;
}

static int
setup(void **state)
{
	static struct tunnel_route_context context;

	config = config_new();
	*config = settings;
	context.config = config;
	context.leases = leases_new();
	*state = &context;
	headers[0].secret = secret_new("sk-1", 4, "the test");
	return resolver_new(lookup, 60000, &context.resolver, NULL) == ERR_OK
	    ? 0
	    : -1;
}

static int
teardown(void **state)
{
	struct tunnel_route_context *context = *state;

	resolver_free(context->resolver);
	leases_free(context->leases);
	secret_free(headers[0].secret);
	/* what it names is not its own */
	*config = (struct config){ .path = NULL };
	config_unref(config);
	return 0;
}

#define LOCAL "X-Forwarded-For: 127.0.0.1"
#define ASK(context, target, ...)          \
	tunnel_ask(context, "GET", target, \
	    (const char *const[]){ LOCAL, ##__VA_ARGS__, NULL })

static void
grants_what_the_configuration_says(void **state)
{
	struct tunnel_answer answer =
	    ASK(*state, "/v1/realtime?model=gpt-x&url=ws://e",
		"Authorization: Bearer the client's own", "Cookie: a=b",
		"Origin: http://localhost:8080");
	const struct wire_grant *grant;
	char *text;
	size_t len;

	assert_int_equal(answer.err, ERR_OK);
	grant = &answer.packet->grant;
	assert_string_equal(grant->route, "openai");
	assert_string_equal(grant->lease, lease_peek(answer.lease)->id);
	assert_string_equal(grant->session, lease_peek(answer.lease)->session);
	assert_string_equal(lease_peek(answer.lease)->client, "127.0.0.1");
	assert_true(grant->upstream.tls);
	assert_int_equal(grant->upstream.address_count, 1);
	assert_string_equal(grant->upstream.addresses[0], "192.0.2.1");
	assert_int_equal(grant->upstream.port, 443);
	assert_string_equal(grant->upstream.ca_file, "/ca.pem");
	assert_string_equal(grant->upstream.target, "/v1/realtime?model=gpt-x");
	assert_int_equal(grant->upstream.headers.count, 2);
	assert_string_equal(wire_headers_find(&grant->upstream.headers,
				"authorization"),
	    "Bearer sk-1");
	assert_string_equal(wire_headers_find(&grant->upstream.headers,
				"X-Plain"),
	    "text");
	assert_int_equal(grant->upstream.subprotocol_count, 0);
	assert_null(grant->subprotocol);
	assert_int_equal(grant->limits.idle_ms, 7);
	assert_int_equal(wire_format(answer.packet, &text, &len), ERR_OK);
	wire_text_free(text, len);
	tunnel_answer_free(&answer);
}

static void
refuses_hostile_requests(void **state)
{
	static const struct {
		const char *method, *target;
		enum err err;
	} cases[] = {
		{ "POST", "/plain", ERR_METHOD },
		{ "get", "/plain", ERR_METHOD },
		{ "GET", "/unknown", ERR_NOTFOUND },
		{ "GET", "/plain/", ERR_NOTFOUND },
		{ "GET", "/PLAIN", ERR_NOTFOUND },
		{ "GET", "//plain", ERR_PROTO },
		{ "GET", "/x/../plain", ERR_PROTO },
		{ "GET", "/%70lain", ERR_PROTO },
		{ "GET", "http://evil.example/plain", ERR_PROTO },
		{ "GET", "/v1/realtime?model=gpt-a&model=gpt-b", ERR_PROTO },
		{ "GET", "/v1/realtime?model=%0d%0aX:1", ERR_PROTO },
		{ "GET", "/v1/realtime?model=claude", ERR_DENIED },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tunnel_answer answer =
		    tunnel_ask(*state, cases[i].method, cases[i].target,
			(const char *const[]){ LOCAL, NULL });

		if (answer.err != cases[i].err)
			fail_msg("%s: %s", cases[i].target,
			    err_text(answer.err));
		assert_string_not_equal(answer.diag.text, "");
		assert_null(answer.lease);
	}
}

static void
knows_the_client_by_the_last_forwarded_element(void **state)
{
	static const struct {
		const char *lines[4];
		enum err err;
	} cases[] = {
		{ { "X-Forwarded-For: 127.0.0.1" }, ERR_OK },
		{ { "x-forwarded-for: 203.0.113.9, 127.0.0.1" }, ERR_OK },
		{ { "X-Forwarded-For: 203.0.113.9,\t127.0.0.1" }, ERR_OK },
		{ { "X-Forwarded-For: 203.0.113.9",
		      "X-Forwarded-For: 127.0.0.1" },
		    ERR_OK },
		{ { "X-Forwarded-For: ::ffff:127.0.0.1" }, ERR_OK },
		{ { NULL }, ERR_DENIED },
		{ { "X-Forwarded-For: 203.0.113.9" }, ERR_DENIED },
		{ { "X-Forwarded-For: 127.0.0.1, 203.0.113.9" }, ERR_DENIED },
		{ { "X-Forwarded-For: 127.0.0.1",
		      "X-Forwarded-For: 203.0.113.9" },
		    ERR_DENIED },
		{ { "X-Forwarded-For: " }, ERR_DENIED },
		{ { "X-Forwarded-For: 127.0.0.1," }, ERR_DENIED },
		{ { "X-Forwarded-For: 127.0.0.1:80" }, ERR_DENIED },
		{ { "X-Forwarded-For: localhost" }, ERR_DENIED },
		{ { "X-Forwarded-For: unix:" }, ERR_DENIED },
		{ { "X-Real-IP: 127.0.0.1" }, ERR_DENIED },
		{ { "Forwarded: for=127.0.0.1" }, ERR_DENIED },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tunnel_answer answer =
		    tunnel_ask(*state, "GET", "/plain", cases[i].lines);

		if (answer.err != cases[i].err)
			fail_msg("case %zu: %s", i, err_text(answer.err));
		tunnel_answer_free(&answer);
	}
}

static void
says_what_the_web_server_has_to_send(void **state)
{
	struct tunnel_answer answer =
	    tunnel_ask(*state, "GET", "/plain", (const char *const[]){ NULL });

	assert_int_equal(answer.err, ERR_DENIED);
	assert_non_null(strstr(answer.diag.text, "X-Forwarded-For"));
}

static void
believes_no_header_of_a_peer_over_tcp(void **state)
{
	struct wire_packet *packet = wire_packet_new(WIRE_OPEN);
	char client[INET6_ADDRSTRLEN];

	(void)state;
	packet->open.peer_address = xstrdup("203.0.113.9");
	assert_int_equal(wire_headers_add(&packet->open.headers,
			     "X-Forwarded-For", "127.0.0.1"),
	    ERR_OK);
	assert_int_equal(tunnel_request_client(&packet->open, client, NULL),
	    ERR_OK);
	assert_string_equal(client, "203.0.113.9");
	wire_packet_free(packet);
}

static void
refuses_foreign_and_doubled_origins(void **state)
{
	struct tunnel_answer answer;

	answer = ASK(*state, "/plain", "Origin: https://evil.example");
	assert_int_equal(answer.err, ERR_DENIED);
	answer = ASK(*state, "/plain", "Origin: null");
	assert_int_equal(answer.err, ERR_DENIED);
	answer = ASK(*state, "/plain", "Origin: http://localhost",
	    "Origin: https://evil.example");
	assert_int_equal(answer.err, ERR_PROTO);
}

static void
takes_no_origin_only_from_its_own_pages(void **state)
{
	struct tunnel_answer answer;

	config->access.missing_origin = false;
	answer = ASK(*state, "/plain", "Host: localhost:8080");
	assert_int_equal(answer.err, ERR_DENIED);
	answer = ASK(*state, "/plain", "Host: evil.example",
	    "Sec-Fetch-Site: same-origin");
	assert_int_equal(answer.err, ERR_DENIED);
	answer = ASK(*state, "/plain", "Host: localhost:8080",
	    "Sec-Fetch-Site: same-site", "Sec-Fetch-Site: same-origin");
	assert_int_equal(answer.err, ERR_PROTO);
	answer = ASK(*state, "/plain", "Host: localhost:8080",
	    "Sec-Fetch-Site: same-origin");
	assert_int_equal(answer.err, ERR_OK);
	tunnel_answer_free(&answer);
	config->access.missing_origin = true;
}

/* What became of an offer: the answer's subprotocol, and those offered on. */
struct subprotocol_case {
	const char *target;
	const char *lines[4];
	enum err err;
	const char *answered;
	const char *offered[3];
};

static void
check_subprotocols(struct tunnel_route_context *context,
    const struct subprotocol_case *c)
{
	const char *lines[6] = { LOCAL };
	const struct wire_grant *grant;
	struct tunnel_answer answer;

	for (size_t i = 0; i < 4 && c->lines[i] != NULL; i++)
		lines[i + 1] = c->lines[i];
	answer = tunnel_ask(context, "GET", c->target, lines);
	if (answer.err != c->err)
		fail_msg("%s: %s", c->lines[0], err_text(answer.err));
	if (answer.err != ERR_OK)
		return;
	grant = &answer.packet->grant;
	if (c->answered == NULL)
		assert_null(grant->subprotocol);
	else
		assert_string_equal(grant->subprotocol, c->answered);
	for (size_t i = 0; i < 3; i++) {
		if (i < grant->upstream.subprotocol_count)
			assert_string_equal(grant->upstream.subprotocols[i],
			    c->offered[i]);
		else
			assert_null(c->offered[i]);
	}
	tunnel_answer_free(&answer);
}

#define SP  "Sec-WebSocket-Protocol: "
#define KEY "openai-insecure-api-key.ek_secret"

static void
answers_or_passes_subprotocols_but_never_a_key(void **state)
{
	static const struct subprotocol_case cases[] = {
		{ "/", { SP "realtime" }, ERR_OK, "realtime", { NULL } },
		{ "/", { SP "realtime, " KEY }, ERR_OK, "realtime", { NULL } },
		{ "/", { SP KEY ",realtime" }, ERR_OK, "realtime", { NULL } },
		{ "/", { SP KEY, SP "x ,v2,realtime" }, ERR_OK, "v2",
		    { NULL } },
		{ "/", { SP "realtime,,realtime" }, ERR_OK, "realtime",
		    { NULL } },
		{ "/", { NULL }, ERR_OK, NULL, { NULL } },
		{ "/", { SP }, ERR_OK, NULL, { NULL } },
		{ "/", { SP KEY }, ERR_PROTO, NULL, { NULL } },
		{ "/", { SP "other" }, ERR_PROTO, NULL, { NULL } },
		{ "/", { SP "Realtime" }, ERR_PROTO, NULL, { NULL } },
		{ "/", { SP "real time" }, ERR_PROTO, NULL, { NULL } },
		{ "/", { SP "realtime, a/b" }, ERR_PROTO, NULL, { NULL } },
		{ "/pass", { SP "v2", SP "x, realtime, v2, " KEY }, ERR_OK,
		    NULL, { "v2", "realtime" } },
		{ "/pass", { NULL }, ERR_OK, NULL, { NULL } },
		{ "/pass", { SP "other" }, ERR_PROTO, NULL, { NULL } },
		{ "/plain", { SP "other, " KEY }, ERR_OK, NULL, { NULL } },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		check_subprotocols(*state, &cases[i]);
}

static void
never_offers_a_key_even_if_configured(void **state)
{
	char *old = answer_names[0];
	struct tunnel_answer answer;

	answer_names[0] = S(KEY);
	answer = ASK(*state, "/pass", SP KEY);
	answer_names[0] = old;
	assert_int_equal(answer.err, ERR_PROTO);
}

static void
counts_connections_and_says_when_to_return(void **state)
{
	struct tunnel_answer one = ASK(*state, "/"), two = ASK(*state, "/");
	struct tunnel_answer three = ASK(*state, "/"), four, five;

	assert_int_equal(one.err, ERR_OK);
	assert_int_equal(two.err, ERR_OK);
	assert_int_equal(three.err, ERR_RATE);
	assert_int_equal(err_http_status(three.err), 429);
	assert_in_range(strtol(three.retry_after, NULL, 10), 3, 7);
	four = ASK(*state, "/plain");
	assert_int_equal(four.err, ERR_OK);
	five = ASK(*state, "/plain");
	assert_int_equal(five.err, ERR_UNAVAIL);
	tunnel_answer_free(&one);
	five = ASK(*state, "/");
	assert_int_equal(five.err, ERR_OK);
	tunnel_answer_free(&five);
	tunnel_answer_free(&two);
	tunnel_answer_free(&four);
}

static void
dials_no_name_that_leads_inside(void **state)
{
	struct tunnel_answer answer = ASK(*state, "/named");
	struct wire_packet *deny;

	assert_int_equal(answer.err, ERR_UPSTREAM);
	deny = tunnel_route_deny(answer.err, &answer.diag);
	assert_int_equal(deny->deny.status, 502);
	/* the address is for the log alone */
	assert_null(strstr(deny->deny.message, "10.0.0.1"));
	assert_non_null(strstr(answer.diag.text, "10.0.0.1"));
	wire_packet_free(deny);

	relays[3].allow_private = true;
	answer = ASK(*state, "/named");
	relays[3].allow_private = false;
	assert_int_equal(answer.err, ERR_OK);
	assert_string_equal(answer.packet->grant.upstream.addresses[0],
	    "10.0.0.1");
	assert_string_equal(answer.packet->grant.upstream.name,
	    "private.example");
	tunnel_answer_free(&answer);
}

static void
sends_no_secret_that_would_break_a_header(void **state)
{
	struct secret *old = headers[0].secret;
	struct tunnel_answer answer;

	headers[0].secret = secret_new("a\r\nX: b", 7, "the test");
	answer = ASK(*state, "/");
	secret_free(headers[0].secret);
	headers[0].secret = old;
	assert_int_equal(answer.err, ERR_SYS);
	assert_null(strstr(answer.diag.text, "X: b"));
}

/* Every refusal is a packet that can be sent. */
static void
makes_a_packet_of_every_refusal(void **state)
{
	static const struct diag silent = { "" }, reason = { "a reason" };

	(void)state;
	for (enum err err = ERR_PROTO; err <= ERR_UPSTREAM_TIMEOUT; err++) {
		struct wire_packet *a = tunnel_route_deny(err, &silent);
		struct wire_packet *b = tunnel_route_deny(err, &reason);
		char *text;
		size_t len;

		assert_int_equal(wire_format(a, &text, &len), ERR_OK);
		wire_text_free(text, len);
		assert_string_equal(b->deny.message,
		    err_http_status(err) < 500 ? "a reason" : err_text(err));
		wire_packet_free(a);
		wire_packet_free(b);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(grants_what_the_configuration_says),
		cmocka_unit_test(refuses_hostile_requests),
		cmocka_unit_test(
		    knows_the_client_by_the_last_forwarded_element),
		cmocka_unit_test(says_what_the_web_server_has_to_send),
		cmocka_unit_test(believes_no_header_of_a_peer_over_tcp),
		cmocka_unit_test(refuses_foreign_and_doubled_origins),
		cmocka_unit_test(takes_no_origin_only_from_its_own_pages),
		cmocka_unit_test(
		    answers_or_passes_subprotocols_but_never_a_key),
		cmocka_unit_test(never_offers_a_key_even_if_configured),
		cmocka_unit_test(counts_connections_and_says_when_to_return),
		cmocka_unit_test(dials_no_name_that_leads_inside),
		cmocka_unit_test(sends_no_secret_that_would_break_a_header),
		cmocka_unit_test(makes_a_packet_of_every_refusal),
	};

	return cmocka_run_group_tests_name("tunnel_route", tests, setup,
	    teardown);
}
