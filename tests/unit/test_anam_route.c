/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <sys/socket.h>

#include "broker/anam/anam_route.h"
#include "broker/limits/revocations.h"
#include "common/clock.h"
#include "common/xalloc.h"
#include "tunnel_ask.h"

#define S(text) ((char[]){ text })

#define ID     "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
#define OTHER  "11111111-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
#define OLD    "22222222-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
#define WRONG  "33333333-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
#define GATE   "44444444-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
#define ENGINE "/v1/webrtc/engines/anam-engine-1"
#define VENDOR "connect-eu.anam.ai"

#define CREATED 1700000000

/* ---- a store that counts who asks --------------------------------------- */

static unsigned asked;
static const char *owner; /* of all sessions; NULL: nobody */
static enum err store_err;

static enum err
get_anam(struct store *store, const char *id, int64_t now,
    struct store_anam *ret, struct diag *diag)
{
	static const struct anam_front page = { .protocol = "https",
		.host = "chat.example",
		.base_path = "" };
	static const struct anam_front gateway = { .protocol = "https",
		.base_path = "",
		.gateway = true };
	json_t *answer;

	(void)store;
	(void)diag;
	asked++;
	assert_int_equal(now, 0);
	if (store_err != ERR_OK)
		return store_err;
	if (strcmp(id, ID) != 0 && strcmp(id, OLD) != 0 &&
	    strcmp(id, WRONG) != 0 && strcmp(id, GATE) != 0)
		return ERR_NOTFOUND;
	answer = json_pack("{s:s, s:s, s:s, s:s, s:{}}", "sessionId", id,
	    "engineHost",
	    strcmp(id, WRONG) == 0 ? "evil.example" : VENDOR ENGINE,
	    "engineProtocol", "https", "signallingEndpoint", ENGINE "/ws",
	    "clientConfig");
	*ret = (struct store_anam){
		.id = xstrdup(id),
		.session = anam_session_record(answer,
		    strcmp(id, GATE) == 0 ? &gateway : &page),
		.user = owner == NULL ? NULL : xstrdup(owner),
		.created = CREATED,
		.expires = clock_unix() + (strcmp(id, OLD) == 0 ? -1 : 1000),
	};
	json_decref(answer);
	return ERR_OK;
}

static const struct store_ops ops = { .name = "test", .get_anam = get_anam };
static struct store store = { .ops = &ops };

/* ---- a resolver that counts what it is asked ----------------------------- */

static atomic_uint lookups;

static enum err
lookup(const char *name, struct resolver_answer *ret, struct diag *diag)
{
	(void)diag;
	(void)atomic_fetch_add(&lookups, 1);
	assert_string_equal(name, VENDOR);
	*ret = (struct resolver_answer){ .addresses = { "192.0.2.7" },
		.count = 1 };
	return ERR_OK;
}

static char *hosts[] = { S("*.anam.ai") };
static struct config_anam anam = {
	.hosts = { hosts, 1 },
	.ca_file = S("/ca.pem"),
	.max_connections = 3,
	.limits = { .connect_ms = 10000, .pong_ms = 20000, .idle_ms = 7 },
};
static char *relay_paths[] = { S("/ws") };
static struct config_relay relay = {
	.name = S("/ws"),
	.paths = { relay_paths, 1 },
	.upstream = { false, S("192.0.2.1"), 80, S("192.0.2.1"), S("/"), NULL },
	.limits = { .connect_ms = 10000, .pong_ms = 20000 },
};
static struct config_range loopback = { .family = AF_INET,
	.address = { 127 },
	.prefix_len = 8 };
static const struct config settings = {
	.access = { .clients = &loopback,
	    .client_count = 1,
	    .missing_origin = true },
	.relays = &relay,
	.relay_count = 1,
	.anam = &anam,
};
static struct config *config;

static int
setup(void **state)
{
	static struct tunnel_route_context context;

	asked = 0;
	owner = NULL;
	store_err = ERR_OK;
	atomic_store(&lookups, 0);
	store_set_current(&store);
	config = config_new();
	*config = settings;
	context.config = config;
	context.leases = leases_new();
	context.refusals = refusals_new();
	*state = &context;
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
	refusals_free(context->refusals);
	store_set_current(NULL);
	revocations_done();
	/* what it names is not its own */
	*config = (struct config){ .path = NULL };
	config_unref(config);
	return 0;
}

/* Ask for a target, with X-Anam-Target-Url where that is not NULL. */
static struct tunnel_answer
ask(struct tunnel_route_context *context, const char *target,
    const char *header)
{
	char *line =
	    header == NULL ? NULL : xasprintf("X-Anam-Target-Url: %s", header);
	const char *const lines[] = { "X-Forwarded-For: 127.0.0.1", line,
		NULL };
	struct tunnel_answer answer = tunnel_ask(context, "GET", target, lines);

	free(line);
	return answer;
}

#define RAW                                                            \
	"/ws/proxy?engineHost=" VENDOR ENGINE "&engineProtocol=https"  \
	"&signallingEndpoint=%2Fv1%2Fwebrtc%2Fengines%2Fanam-engine-1" \
	"%2Fws&session_id=" ID

static void
dials_the_engine_of_the_session(void **state)
{
	static const struct {
		const char *target, *header, *id;
	} cases[] = {
		/* Flutter, as it is */
		{ RAW, NULL, ID },
		/* its fork encodes all four, a ticket comes first */
		{ "/ws/proxy?ticket=t&engineHost=connect-eu.anam.ai%2Fv1%2F"
		  "webrtc%2Fengines%2Fanam-engine-1&engineProtocol=https"
		  "&signallingEndpoint=%2Fv1%2Fwebrtc%2Fengines%2F"
		  "anam-engine-1%2Fws&session_id=" ID,
		    NULL, ID },
		/* what it was told instead */
		{ "/ws/proxy?engineHost=chat.example/b/" ID
		  "&engineProtocol=https&signallingEndpoint=%2Fb%2F" ID
		  "%2Fws&session_id=" ID,
		    NULL, ID },
		{ "/ws/proxy?session_id=" ID, NULL, ID },
		/* JS, both forms */
		{ "/b/" ID "/ws?session_id=" ID, NULL, ID },
		{ "/b/" ID "/ws", NULL, ID },
		{ "/ws?target_url=wss%3A%2F%2Fengine.invalid%2Fws%3F"
		  "session_id%3D" GATE,
		    NULL, GATE },
		{ "/ws?target_url=wss%3A%2F%2Fengine.invalid%2Fws%3F"
		  "session_id%3D" GATE,
		    "wss://engine.invalid/ws?session_id=" GATE, GATE },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tunnel_answer answer =
		    ask(*state, cases[i].target, cases[i].header);
		const struct wire_grant *grant;
		char target[128], hash[ANAM_HASH_BYTES];
		size_t len;
		char *text;

		if (answer.err != ERR_OK)
			fail_msg("%s: %s", cases[i].target, answer.diag.text);
		grant = &answer.packet->grant;
		(void)snprintf(target, sizeof(target),
		    ENGINE "/ws?session_id=%s", cases[i].id);
		assert_string_equal(grant->upstream.target, target);
		assert_string_equal(grant->upstream.name, VENDOR);
		assert_string_equal(grant->upstream.host, VENDOR);
		assert_string_equal(grant->upstream.addresses[0], "192.0.2.7");
		assert_int_equal(grant->upstream.port, 443);
		assert_true(grant->upstream.tls);
		assert_string_equal(grant->upstream.ca_file, "/ca.pem");
		assert_int_equal(grant->upstream.headers.count, 0);
		assert_string_equal(grant->route, "anam");
		anam_session_hash(cases[i].id, hash);
		assert_string_equal(grant->session, hash);
		assert_int_equal(grant->limits.idle_ms, 7);
		/* no longer than the session */
		assert_in_range(grant->limits.lifetime_ms, 990000, 1000000);
		assert_int_equal(wire_format(answer.packet, &text, &len),
		    ERR_OK);
		wire_text_free(text, len);
		tunnel_answer_free(&answer);
	}
}

/* The heart of it: no name is looked up, and nothing is granted. */
static void
refuses_every_other_place_without_a_look_at_it(void **state)
{
#define PROXY(rest) "/ws/proxy?session_id=" ID "&" rest
#define TARGET(url) "/ws?target_url=" url
	static const struct {
		const char *target, *header;
		enum err err;
	} cases[] = {
		{ PROXY("engineHost=169.254.169.254"), NULL, ERR_DENIED },
		{ PROXY("engineHost=169.254.169.254/latest/meta-data"), NULL,
		    ERR_DENIED },
		{ PROXY("engineHost=evil.example"), NULL, ERR_DENIED },
		{ PROXY("engineHost=other.anam.ai"), NULL, ERR_DENIED },
		{ PROXY("engineHost=connect-eu.anam.ai"), NULL, ERR_DENIED },
		{ PROXY("engineHost=connect-eu.anam.ai" ENGINE "/"), NULL,
		    ERR_DENIED },
		{ PROXY("engineHost=connect-eu.anam.ai:80" ENGINE), NULL,
		    ERR_DENIED },
		{ PROXY("engineHost=a@connect-eu.anam.ai" ENGINE), NULL,
		    ERR_DENIED },
		{ PROXY("engineHost=localhost/b/" ID), NULL, ERR_DENIED },
		{ PROXY("engineHost="), NULL, ERR_DENIED },
		{ PROXY("engineHost"), NULL, ERR_DENIED },
		{ PROXY("signallingEndpoint=/ws"), NULL, ERR_DENIED },
		{ PROXY("signallingEndpoint=@evil.example/ws"), NULL,
		    ERR_DENIED },
		{ PROXY("target_url=wss://evil.example/"), NULL, ERR_DENIED },
		{ PROXY("a=b"), "https://evil.example/", ERR_DENIED },
		{ "/b/" ID "/ws?session_id=" ID "&engineHost=evil.example",
		    NULL, ERR_DENIED },
		{ "/b/" ID "/ws?session_id=" ID, "wss://evil.example/ws",
		    ERR_DENIED },
		{ "/b/" ID "/ws?session_id=" GATE, NULL, ERR_DENIED },
		{ TARGET("wss://evil.example/ws"), NULL, ERR_DENIED },
		{ TARGET("http://169.254.169.254/"), NULL, ERR_DENIED },
		{ TARGET("wss://evil.example/ws?session_id=" GATE), NULL,
		    ERR_DENIED },
		{ TARGET("wss%3A%2F%2Fevil.example%2Fws%3Fsession_id%3D" GATE),
		    NULL, ERR_DENIED },
		{ TARGET("file:///etc/passwd"), NULL, ERR_DENIED },
		{ TARGET(""), NULL, ERR_DENIED },
		{ TARGET("wss://engine.invalid/ws?session_id=" GATE) "&session_"
								     "id=" ID,
		    NULL, ERR_DENIED },
		{ TARGET("wss://engine.invalid/ws?session_id=" ID), NULL,
		    ERR_DENIED },
		{ "/ws/proxy", NULL, ERR_PROTO },
		{ "/ws/proxy?engineHost=evil.example", NULL, ERR_PROTO },
		{ PROXY("session_id=" ID), NULL, ERR_PROTO },
		{ "/ws/proxy?session_id=" OTHER, NULL, ERR_NOTFOUND },
		{ "/ws/proxy?session_id=../../x", NULL, ERR_NOTFOUND },
		{ "/ws/proxy?session_id=", NULL, ERR_NOTFOUND },
		{ "/b/" OTHER "/ws?session_id=" OTHER, NULL, ERR_NOTFOUND },
		{ "/b/" ID, NULL, ERR_NOTFOUND },
		{ "/b/" ID "/talk", NULL, ERR_NOTFOUND },
		{ "/b/" ID "/ws/x", NULL, ERR_NOTFOUND },
		{ "/ws/proxy?session_id=" OLD, NULL, ERR_UNAUTH },
		/* the vendor's host, where the operator allows it no more */
		{ "/ws/proxy?session_id=" WRONG, NULL, ERR_UPSTREAM },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tunnel_route_context *context = *state;
		struct tunnel_answer answer;

		refusals_free(context->refusals);
		context->refusals = refusals_new();
		answer = ask(*state, cases[i].target, cases[i].header);
		if (answer.err != cases[i].err || answer.packet != NULL ||
		    answer.diag.text[0] == '\0')
			fail_msg("%s: %d %s", cases[i].target, (int)answer.err,
			    answer.diag.text);
		/* what the client is told does not repeat it */
		if (err_http_status(answer.err) < 500)
			assert_null(strstr(answer.diag.text, "evil"));
	}
	assert_int_equal(atomic_load(&lookups), 0);
}

static void
leaves_other_requests_to_the_relays(void **state)
{
	struct tunnel_answer answer = ask(*state, "/ws", NULL);

	assert_int_equal(answer.err, ERR_OK);
	assert_string_equal(answer.packet->grant.route, "/ws");
	tunnel_answer_free(&answer);
	answer = ask(*state, "/ws?session_id=" ID, NULL);
	assert_int_equal(answer.err, ERR_OK);
	tunnel_answer_free(&answer);
	config->anam = NULL;
	answer = ask(*state, "/ws/proxy?session_id=" ID, NULL);
	config->anam = &anam;
	assert_int_equal(answer.err, ERR_NOTFOUND);
	assert_int_equal(asked, 0);
}

static void
serves_its_paths_under_the_base_path(void **state)
{
	struct tunnel_answer answer;

	config->requests.base_path = S("/culvert");
	answer = ask(*state, "/culvert/ws/proxy?session_id=" ID, NULL);
	assert_int_equal(answer.err, ERR_OK);
	tunnel_answer_free(&answer);
	answer = ask(*state, "/ws/proxy?session_id=" ID, NULL);
	assert_int_equal(answer.err, ERR_NOTFOUND);
	config->requests.base_path = NULL;
}

static void
asks_the_store_no_more_for_whom_it_refused_often(void **state)
{
	struct tunnel_answer answer;

	for (int i = 0; i < REFUSALS_MAX; i++)
		assert_int_equal(
		    ask(*state, "/ws/proxy?session_id=" OTHER, NULL).err,
		    ERR_NOTFOUND);
	assert_int_equal(asked, REFUSALS_MAX);
	answer = ask(*state, "/ws/proxy?session_id=" ID, NULL);
	assert_int_equal(answer.err, ERR_RATE);
	assert_int_equal(asked, REFUSALS_MAX);
	/* other routes are not its business */
	answer = ask(*state, "/ws", NULL);
	assert_int_equal(answer.err, ERR_OK);
	tunnel_answer_free(&answer);
}

static void
holds_to_the_maximum_of_connections(void **state)
{
	struct tunnel_answer answers[4];

	for (int i = 0; i < 4; i++)
		answers[i] = ask(*state, "/ws/proxy?session_id=" ID, NULL);
	assert_int_equal(answers[2].err, ERR_OK);
	assert_int_equal(answers[3].err, ERR_RATE);
	for (int i = 0; i < 3; i++)
		tunnel_answer_free(&answers[i]);
}

static void
says_so_where_the_store_fails(void **state)
{
	store_err = ERR_UNAVAIL;
	assert_int_equal(ask(*state, "/ws/proxy?session_id=" ID, NULL).err,
	    ERR_UNAVAIL);
	store_set_current(NULL);
	assert_int_equal(ask(*state, "/ws/proxy?session_id=" ID, NULL).err,
	    ERR_UNAVAIL);
}

/* Who has the id of a session is whoever it was made for. */
static void
opens_a_session_for_whose_it_is(void **state)
{
	struct tunnel_route_context *context = *state;
	int64_t later = clock_unix() + 60;
	struct tunnel_answer answer;

	owner = "ann";
	answer = ask(context, "/ws/proxy?session_id=" ID, NULL);
	assert_int_equal(answer.err, ERR_OK);
	assert_string_equal(lease_peek(answer.lease)->user, "ann");
	assert_int_equal(lease_peek(answer.lease)->issued, CREATED);
	tunnel_answer_free(&answer);

	store_set_current(NULL);
	assert_int_equal(revocations_add("user", "ann", CREATED, later, NULL),
	    ERR_OK);
	store_set_current(&store);
	assert_int_equal(ask(context, "/ws/proxy?session_id=" ID, NULL).err,
	    ERR_UNAUTH);
	owner = "bob";
	answer = ask(context, "/ws/proxy?session_id=" ID, NULL);
	assert_int_equal(answer.err, ERR_OK);
	tunnel_answer_free(&answer);
}

static void
serves_users_alone_where_it_is_told_to(void **state)
{
	struct tunnel_answer answer;

	anam.require_user = true;
	assert_int_equal(ask(*state, "/ws/proxy?session_id=" ID, NULL).err,
	    ERR_UNAUTH);
	owner = "ann";
	answer = ask(*state, "/ws/proxy?session_id=" ID, NULL);
	anam.require_user = false;
	assert_int_equal(answer.err, ERR_OK);
	tunnel_answer_free(&answer);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(dials_the_engine_of_the_session),
		TEST(refuses_every_other_place_without_a_look_at_it),
		TEST(leaves_other_requests_to_the_relays),
		TEST(serves_its_paths_under_the_base_path),
		TEST(asks_the_store_no_more_for_whom_it_refused_often),
		TEST(holds_to_the_maximum_of_connections),
		TEST(says_so_where_the_store_fails),
		TEST(opens_a_session_for_whose_it_is),
		TEST(serves_users_alone_where_it_is_told_to),
#undef TEST
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
