/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/livekit/livekit_token.h"
#include "common/json.h"
#include "common/jwt.h"
#include "common/xalloc.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define NOW 1700000000

static char api_url[] = "wss://x.example";
static char *any_room[] = { (char[]){ "*" } };
static char *some_rooms[] = { (char[]){ "lobby" }, (char[]){ "team-*" } };
static char *some_agents[] = { (char[]){ "helper" }, (char[]){ "guide" } };
static char prefix[] = "user-", fixed[] = "kiosk", fixed_room[] = "hall",
	    api_name[] = "default";

static struct config_livekit livekit = { .url = api_url };

/* A template as the configuration's defaults make it; claims as JSON. */
static struct config_token
template_of(const char *claims)
{
	struct config_token t = {
		.name = api_name,
		.rooms = { any_room, 1 },
		.ttl_s = 600,
		.identity_mode = IDENTITY_RANDOM,
		.identity = prefix,
		.client_name = true,
		.client_metadata = true,
		.client_attributes = true,
	};

	assert_int_equal(json_parse(claims, strlen(claims), &t.claims, NULL),
	    ERR_OK);
	return t;
}

#define JOIN                                                            \
	"{\"video\":{\"roomJoin\":true,\"canPublish\":true,\"canSubscr" \
	"ibe\":true}}"

static enum err
make(const struct config_token *t, const char *text,
    struct livekit_token *token, struct diag *diag)
{
	json_t *body = NULL;
	enum err err;

	assert_int_equal(json_parse(text, strlen(text), &body, NULL), ERR_OK);
	memset(diag, 0, sizeof(*diag));
	err = livekit_token_make(&livekit, t, body, NOW, token, diag);
	assert_int_equal(err == ERR_OK, diag->text[0] == '\0');
	json_decref(body);
	return err;
}

/* Claims for this body, which has to be accepted; json_decref() them. */
static json_t *
claims_of(const struct config_token *t, const char *text)
{
	struct livekit_token token;
	struct diag diag;
	json_t *claims;

	if (make(t, text, &token, &diag) != ERR_OK)
		fail_msg("%s: %s", text, diag.text);
	claims = json_incref(token.claims);
	livekit_token_done(&token);
	return claims;
}

static void
expect(const struct config_token *t, const char *body, enum err expected,
    const char *word)
{
	struct livekit_token token;
	struct diag diag;
	enum err err = make(t, body, &token, &diag);

	if (err != expected)
		fail_msg("%s: %d %s", body, (int)err, diag.text);
	if (word != NULL && strstr(diag.text, word) == NULL)
		fail_msg("%s: %s", body, diag.text);
	if (err == ERR_OK)
		livekit_token_done(&token);
}

/* The member at this path ("a.b") as compact JSON; "" where it is absent. */
static void
expect_claim(const json_t *claims, const char *path, const char *expected)
{
	const char *dot = strchr(path, '.');
	const json_t *value = claims;
	char *text;

	if (dot != NULL) {
		char *first = xstrndup(path, (size_t)(dot - path));

		value = json_object_get(value, first);
		free(first);
		path = dot + 1;
	}
	value = json_object_get(value, path);
	text = value == NULL ? xstrdup("") : json_text(value, NULL);
	if (strcmp(text, expected) != 0)
		fail_msg("%s: %s, not %s", path, text, expected);
	free(text);
}

static int
setup(void **state)
{
	(void)state;
	livekit.api_key = secret_new("APIkey", 6, "test");
	livekit.api_secret = secret_new("secret", 6, "test");
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	secret_free(livekit.api_key);
	secret_free(livekit.api_secret);
	return 0;
}

/* ---- the two forms ---- */

static void
takes_both_forms_and_tells_them_apart(void **state)
{
	static const struct {
		const char *body;
		bool seed;
	} rows[] = {
		{ "{}", false },
		{ "{\"room_name\":\"a\"}", false },
		{ "{\"participant_name\":null}", false },
		{ "{\"room_name\":\"\",\"participant_name\":\"\","
		  "\"participant_identity\":\"\",\"participant_metadata\":\"\","
		  "\"participant_attributes\":{},\"room_config\":{}}",
		    false },
		{ "{\"room_name\":\"a\",\"participant_name\":\"b\","
		  "\"participant_metadata\":\"c\","
		  "\"participant_attributes\":{\"d\":\"e\"}}",
		    false },
		{ "{\"roomName\":\"a\",\"participantName\":\"b\"}", true },
		{ "{\"roomName\":\"a\"}", true },
		{ "{\"participantName\":\"b\"}", true },
		{ "{\"roomName\":null}", true },
	};
	struct config_token t = template_of(JOIN);
	struct livekit_token token;
	struct diag diag;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		assert_int_equal(make(&t, rows[i].body, &token, &diag), ERR_OK);
		assert_int_equal(token.seed, rows[i].seed);
		livekit_token_done(&token);
	}
	json_decref(t.claims);
}

static void
refuses_what_is_malformed(void **state)
{
	static const struct {
		const char *body, *word;
	} rows[] = {
		{ "[]", "object" },
		{ "null", "object" },
		{ "\"room\"", "object" },
		{ "{\"roomName\":\"a\",\"room_name\":\"a\"}", "either" },
		{ "{\"roomName\":null,\"participant_name\":\"a\"}", "either" },
		{ "{\"participantName\":\"a\",\"room_config\":{}}", "either" },
		{ "{\"api_base\":\"http://169.254.169.254/\"}", "api_base" },
		{ "{\"base_url\":null}", "base_url" },
		{ "{\"url\":\"\"}", "url" },
		{ "{\"headers\":{}}", "headers" },
		{ "{\"roomAdmin\":true}", "roomAdmin" },
		{ "{\"grants\":{\"roomAdmin\":true}}", "grants" },
		{ "{\"video\":{\"roomAdmin\":true}}", "video" },
		{ "{\"ttl\":1e9}", "ttl" },
		{ "{\"ttl\":-1}", "ttl" },
		{ "{\"identity\":\"admin\"}", "identity" },
		{ "{\"RoomName\":\"a\"}", "RoomName" },
		{ "{\"\":1}", "unknown member" },
		{ "{\"a\\nb\\u00e9\":1}", "a\\x0ab\\xc3\\xa9" },
		{ "{\"roomName\":1}", "roomName" },
		{ "{\"roomName\":{}}", "roomName" },
		{ "{\"roomName\":[\"a\"]}", "roomName" },
		{ "{\"participantName\":true}", "participantName" },
		{ "{\"room_name\":false}", "room_name" },
		{ "{\"participant_identity\":7}", "participant_identity" },
		{ "{\"participant_metadata\":{}}", "participant_metadata" },
		{ "{\"participant_attributes\":\"\"}",
		    "participant_attributes" },
		{ "{\"participant_attributes\":[]}", "participant_attributes" },
		{ "{\"participant_attributes\":{\"a\":1}}",
		    "participant_attributes" },
		{ "{\"participant_attributes\":{\"a\":null}}",
		    "participant_attributes" },
		{ "{\"participant_attributes\":{\"\":\"a\"}}",
		    "participant_attributes" },
		{ "{\"room_config\":\"preset\"}", "room_config" },
		{ "{\"room_config\":[]}", "room_config" },
		{ "{\"room_config\":{\"agents\":{\"a\":1}}}", "agents" },
		{ "{\"room_config\":{\"agents\":\"helper\"}}", "agents" },
		{ "{\"room_config\":{\"agents\":[\"helper\"]}}", "agent" },
		{ "{\"room_config\":{\"agents\":[{}]}}", "agent_name" },
		{ "{\"room_config\":{\"agents\":[{\"agent_name\":\"\"}]}}",
		    "agent_name" },
		{ "{\"room_config\":{\"agents\":[{\"agent_name\":1}]}}",
		    "agent_name" },
		{ "{\"room_config\":{\"agents\":[{\"agent_name\":\"helper\","
		  "\"metadata\":{\"a\":1}}]}}",
		    "metadata" },
		{ "{\"room_config\":{\"agents\":[{\"agent_name\":\"helper\","
		  "\"attributes\":\"a\"}]}}",
		    "attributes" },
		{ "{\"room_name\":\"a\\tb\"}", "control" },
		{ "{\"participantName\":\"a\\u007f\"}", "control" },
	};
	struct config_token t = template_of(JOIN);

	(void)state;
	t.client_agents = true;
	t.agents = (struct config_strings){ some_agents, 2 };
	for (size_t i = 0; i < COUNT(rows); i++)
		expect(&t, rows[i].body, ERR_PROTO, rows[i].word);
	json_decref(t.claims);
}

/* ---- what a client may set ---- */

static void
a_client_never_chooses_its_identity(void **state)
{
	struct config_token t = template_of(JOIN);
	json_t *claims;
	const char *sub;

	(void)state;
	expect(&t, "{\"participant_identity\":\"admin\"}", ERR_DENIED,
	    "participant_identity");
	claims = claims_of(&t, "{\"participantName\":\"Ann\"}");
	sub = json_string_value(json_object_get(claims, "sub"));
	assert_memory_equal(sub, "user-", 5);
	assert_int_equal(strlen(sub), 21);
	assert_int_equal(strspn(sub + 5, "0123456789abcdef"), 16);
	expect_claim(claims, "name", "\"Ann\"");
	json_decref(claims);

	t.identity_mode = IDENTITY_FIXED;
	t.identity = fixed;
	claims = claims_of(&t, "{\"participantName\":\"Ann\"}");
	expect_claim(claims, "sub", "\"kiosk\"");
	json_decref(claims);
	expect(&t, "{\"participant_identity\":\"other\"}", ERR_DENIED,
	    "participant_identity");
	json_decref(t.claims);
}

static void
two_tokens_are_never_of_one_participant(void **state)
{
	struct config_token t = template_of(JOIN);
	json_t *a = claims_of(&t, "{}"), *b = claims_of(&t, "{}");

	(void)state;
	assert_string_not_equal(json_string_value(json_object_get(a, "sub")),
	    json_string_value(json_object_get(b, "sub")));
	assert_string_not_equal(json_string_value(json_object_get(a, "jti")),
	    json_string_value(json_object_get(b, "jti")));
	json_decref(a);
	json_decref(b);
	json_decref(t.claims);
}

static void
a_template_without_identity_makes_no_token(void **state)
{
	struct config_token t = template_of(JOIN);

	(void)state;
	t.identity_mode = IDENTITY_FIXED;
	t.identity = NULL;
	expect(&t, "{}", ERR_SYS, "identity");
	t.identity = (char[]){ "" };
	expect(&t, "{}", ERR_SYS, "identity");
	json_decref(t.claims);
}

static void
a_client_sets_only_what_the_template_lets_it(void **state)
{
	static const struct {
		const char *body;
		bool name, metadata, attributes;
	} rows[] = {
		{ "{\"participantName\":\"a\"}", true, false, false },
		{ "{\"participant_name\":\"a\"}", true, false, false },
		{ "{\"participant_metadata\":\"a\"}", false, true, false },
		{ "{\"participant_attributes\":{\"a\":\"b\"}}", false, false,
		    true },
	};
	struct config_token t = template_of(JOIN);

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		t.client_name = rows[i].name;
		t.client_metadata = rows[i].metadata;
		t.client_attributes = rows[i].attributes;
		expect(&t, rows[i].body, ERR_OK, NULL);
		t.client_name = !rows[i].name;
		t.client_metadata = !rows[i].metadata;
		t.client_attributes = !rows[i].attributes;
		expect(&t, rows[i].body, ERR_DENIED, "not for the client");
	}
	/* what is empty is not set */
	t.client_name = t.client_metadata = t.client_attributes = false;
	expect(&t,
	    "{\"participant_name\":\"\",\"participant_metadata\":\"\","
	    "\"participant_attributes\":{}}",
	    ERR_OK, NULL);
	json_decref(t.claims);
}

static void
a_client_enters_only_the_rooms_of_the_template(void **state)
{
	static const struct {
		const char *room;
		enum err err;
	} rows[] = {
		{ "lobby", ERR_OK },
		{ "hall", ERR_OK },
		{ "team-", ERR_OK },
		{ "team-a", ERR_OK },
		{ "Lobby", ERR_DENIED },
		{ "lobby2", ERR_DENIED },
		{ "xteam-a", ERR_DENIED },
		{ "*", ERR_DENIED },
		{ "team", ERR_DENIED },
	};
	struct config_token t = template_of(JOIN);
	char *body;

	(void)state;
	t.rooms = (struct config_strings){ some_rooms, 2 };
	t.room = fixed_room;
	for (size_t i = 0; i < COUNT(rows); i++) {
		body = xasprintf("{\"roomName\":\"%s\"}", rows[i].room);
		expect(&t, body, rows[i].err, NULL);
		free(body);
		body = xasprintf("{\"room_name\":\"%s\"}", rows[i].room);
		expect(&t, body, rows[i].err, NULL);
		free(body);
	}
	t.rooms.count = 0;
	expect(&t, "{\"roomName\":\"lobby\"}", ERR_DENIED, "room");
	expect(&t, "{\"roomName\":\"hall\"}", ERR_OK, NULL);
	json_decref(t.claims);
}

static void
a_participant_always_has_a_room(void **state)
{
	struct config_token t = template_of(JOIN);
	json_t *claims, *other;
	const char *room;

	(void)state;
	claims = claims_of(&t, "{\"room_name\":\"mine\"}");
	expect_claim(claims, "video.room", "\"mine\"");
	json_decref(claims);

	/* none asked, none configured: one of its own */
	claims = claims_of(&t, "{}");
	other = claims_of(&t, "{\"roomName\":\"\"}");
	room = json_string_value(
	    json_object_get(json_object_get(claims, "video"), "room"));
	assert_memory_equal(room, "room-", 5);
	assert_int_equal(strlen(room), 21);
	assert_string_not_equal(room,
	    json_string_value(
		json_object_get(json_object_get(other, "video"), "room")));
	json_decref(claims);
	json_decref(other);

	t.room = fixed_room;
	claims = claims_of(&t, "{}");
	expect_claim(claims, "video.room", "\"hall\"");
	json_decref(claims);
	json_decref(t.claims);

	/* a token that joins no room names none */
	t = template_of("{\"video\":{\"roomList\":true},\"sip\":{}}");
	claims = claims_of(&t, "{}");
	expect_claim(claims, "video", "{\"roomList\":true}");
	json_decref(claims);
	json_decref(t.claims);
}

static void
refuses_what_is_too_large(void **state)
{
	static const struct {
		const char *format;
		int max;
	} rows[] = {
		{ "{\"roomName\":\"%s\"}", LIVEKIT_ROOM_MAX_BYTES },
		{ "{\"participantName\":\"%s\"}", LIVEKIT_NAME_MAX_BYTES },
		{ "{\"participant_metadata\":\"%s\"}",
		    LIVEKIT_METADATA_MAX_BYTES },
		{ "{\"participant_attributes\":{\"k\":\"%s\"}}",
		    LIVEKIT_ATTRIBUTES_MAX_BYTES - 1 },
		{ "{\"participant_attributes\":{\"%s\":\"\"}}",
		    LIVEKIT_ATTRIBUTES_MAX_BYTES },
		{ "{\"room_config\":{\"agents\":[{\"agent_name\":\"helper\","
		  "\"metadata\":\"%s\"}]}}",
		    LIVEKIT_METADATA_MAX_BYTES },
		{ "{\"room_config\":{\"agents\":[{\"agent_name\":\"helper\","
		  "\"attributes\":{\"\xc3\xa9\":\"%s\"}}]}}",
		    LIVEKIT_ATTRIBUTES_MAX_BYTES - 2 },
	};
	struct config_token t = template_of(JOIN);
	char *fill = xcalloc(1, 8192), *body;
	const char *at;

	(void)state;
	t.client_agents = true;
	t.agents = (struct config_strings){ some_agents, 2 };
	for (size_t i = 0; i < COUNT(rows); i++) {
		for (int over = 0; over < 2; over++) {
			memset(fill, 'x', 8191);
			fill[rows[i].max + over] = '\0';
			at = strstr(rows[i].format, "%s");
			body = xasprintf("%.*s%s%s", (int)(at - rows[i].format),
			    rows[i].format, fill, at + 2);
			expect(&t, body, over ? ERR_LIMIT : ERR_OK, NULL);
			free(body);
		}
	}
	free(fill);
	json_decref(t.claims);
}

static void
refuses_too_many_attributes_and_agents(void **state)
{
	struct config_token t = template_of(JOIN);
	json_t *attributes = json_object(), *agents = json_array(), *body;
	struct livekit_token token;
	char name[16];

	(void)state;
	t.client_agents = true;
	t.agents = (struct config_strings){ some_agents, 2 };
	for (int i = 0; i <= LIVEKIT_ATTRIBUTES_MAX; i++) {
		(void)snprintf(name, sizeof(name), "k%d", i);
		json_object_set_new(attributes, name, json_string("v"));
	}
	for (int i = 0; i <= LIVEKIT_AGENTS_MAX; i++)
		json_array_append_new(agents,
		    json_pack("{s:s}", "agent_name", "helper"));
	body = json_pack("{s:O}", "participant_attributes", attributes);
	assert_int_equal(livekit_token_make(&livekit, &t, body, NOW, &token,
			     NULL),
	    ERR_LIMIT);
	json_object_del(attributes, "k0");
	assert_int_equal(livekit_token_make(&livekit, &t, body, NOW, &token,
			     NULL),
	    ERR_OK);
	livekit_token_done(&token);
	json_decref(body);

	body = json_pack("{s:{s:O}}", "room_config", "agents", agents);
	assert_int_equal(livekit_token_make(&livekit, &t, body, NOW, &token,
			     NULL),
	    ERR_LIMIT);
	json_array_remove(agents, 0);
	assert_int_equal(livekit_token_make(&livekit, &t, body, NOW, &token,
			     NULL),
	    ERR_OK);
	/* each agent once */
	expect_claim(token.claims, "roomConfig.agents",
	    "[{\"agentName\":\"helper\"}]");
	livekit_token_done(&token);
	json_decref(body);
	json_decref(attributes);
	json_decref(agents);
	json_decref(t.claims);
}

static void
a_room_config_may_only_dispatch_agents_of_the_list(void **state)
{
#define AGENTS(a) "{\"room_config\":{\"agents\":[" a "]}}"
	static const struct {
		const char *body;
		enum err err;
	} rows[] = {
		{ AGENTS("{\"agent_name\":\"helper\"}"), ERR_OK },
		{ AGENTS("{\"agent_name\":\"helper\",\"metadata\":\"m\","
			 "\"deployment\":\"d\",\"attributes\":{\"a\":\"b\"}}"),
		    ERR_OK },
		{ AGENTS("{\"agent_name\":\"helper\",\"metadata\":null}"),
		    ERR_OK },
		{ AGENTS(""), ERR_OK },
		{ "{\"room_config\":{\"name\":\"\",\"agents\":null}}", ERR_OK },
		{ AGENTS("{\"agent_name\":\"Helper\"}"), ERR_DENIED },
		{ AGENTS("{\"agent_name\":\"hel*\"}"), ERR_DENIED },
		{ AGENTS("{\"agent_name\":\"admin\"}"), ERR_DENIED },
		{ AGENTS("{\"agent_name\":\"helper\"},"
			 "{\"agent_name\":\"x\"}"),
		    ERR_DENIED },
		{ AGENTS("{\"agent_name\":\"helper\",\"url\":\"http://x\"}"),
		    ERR_DENIED },
		{ AGENTS("{\"agentName\":\"helper\"}"), ERR_DENIED },
		{ "{\"room_config\":{\"egress\":{\"room\":{}}}}", ERR_DENIED },
		{ "{\"room_config\":{\"name\":\"x\"}}", ERR_DENIED },
		{ "{\"room_config\":{\"max_participants\":0}}", ERR_DENIED },
		{ "{\"room_config\":{\"metadata\":\"x\"}}", ERR_DENIED },
		{ "{\"room_config\":{\"empty_timeout\":9999}}", ERR_DENIED },
	};
	struct config_token t = template_of(JOIN);

	(void)state;
	t.client_agents = true;
	t.agents = (struct config_strings){ some_agents, 2 };
	for (size_t i = 0; i < COUNT(rows); i++)
		expect(&t, rows[i].body, rows[i].err, NULL);
	t.client_agents = false;
	expect(&t, rows[0].body, ERR_DENIED, "agents");
	expect(&t, AGENTS(""), ERR_OK, NULL);
	json_decref(t.claims);
}

/* ---- what the template sets ---- */

static void
every_grant_and_claim_of_the_template_passes_through(void **state)
{
	static const char claims_text[] =
	    "{\"video\":{\"roomCreate\":true,\"roomList\":true,\"roomRecord\":"
	    "true,\"roomAdmin\":true,\"roomJoin\":true,\"canPublish\":false,"
	    "\"canSubscribe\":true,\"canPublishData\":false,"
	    "\"canPublishSources\":[\"camera\",\"screen_share_audio\"],"
	    "\"canUpdateOwnMetadata\":true,\"ingressAdmin\":true,\"hidden\":"
	    "true,\"recorder\":true,\"agent\":true,\"canSubscribeMetrics\":"
	    "false,\"canManageAgentSession\":true,\"destinationRoom\":\"d\","
	    "\"room\":\"hall\"},\"sip\":{\"admin\":true,\"call\":true},"
	    "\"agent\":{\"admin\":true},\"inference\":{\"perform\":true},"
	    "\"observability\":{\"write\":true},\"kind\":\"agent\",\"name\":"
	    "\"N\",\"metadata\":\"M\",\"attributes\":{\"a\":\"b\"},"
	    "\"sha256\":\"S\",\"roomPreset\":\"P\",\"roomConfig\":{"
	    "\"emptyTimeout\":1,\"departureTimeout\":2,\"maxParticipants\":3,"
	    "\"metadata\":\"m\",\"minPlayoutDelay\":4,\"maxPlayoutDelay\":5,"
	    "\"syncStreams\":true,\"agents\":[{\"agentName\":\"x\"}],"
	    "\"tags\":{\"t\":\"v\"}}}";
	struct config_token t = template_of(claims_text);
	json_t *claims, *before = json_deep_copy(t.claims);
	static const char *const ours[] = { "iss", "sub", "iat", "nbf", "exp",
		"jti" };

	(void)state;
	t.room = fixed_room;
	claims = claims_of(&t, "{}");
	expect_claim(claims, "iss", "\"APIkey\"");
	expect_claim(claims, "iat", "1700000000");
	expect_claim(claims, "nbf", "1700000000");
	expect_claim(claims, "exp", "1700000600");
	assert_int_equal(json_string_length(json_object_get(claims, "jti")),
	    32);
	for (size_t i = 0; i < COUNT(ours); i++)
		assert_int_equal(json_object_del(claims, ours[i]), 0);
	assert_true(json_equal(claims, before));
	/* the template serves the next request too */
	assert_true(json_equal(t.claims, before));
	json_decref(claims);
	json_decref(before);
	json_decref(t.claims);
}

static void
false_is_written_out_and_unset_stays_unset(void **state)
{
	static const char *const grants[] = { "canPublish", "canSubscribe",
		"canPublishData", "canUpdateOwnMetadata", "canSubscribeMetrics",
		"canManageAgentSession" };
	static const char *const values[] = { "true", "false", "" };
	struct config_token t;
	json_t *claims;
	char *text, path[64];

	(void)state;
	for (size_t i = 0; i < COUNT(grants); i++) {
		for (size_t v = 0; v < COUNT(values); v++) {
			text = values[v][0] == '\0'
			    ? xstrdup("{\"video\":{\"roomJoin\":true}}")
			    : xasprintf("{\"video\":{\"roomJoin\":true,"
					"\"%s\":%s}}",
				  grants[i], values[v]);
			t = template_of(text);
			claims = claims_of(&t, "{}");
			(void)snprintf(path, sizeof(path), "video.%s",
			    grants[i]);
			expect_claim(claims, path, values[v]);
			json_decref(claims);
			json_decref(t.claims);
			free(text);
		}
	}
}

static void
what_the_template_sets_stands(void **state)
{
	struct config_token t = template_of(
	    "{\"video\":{\"roomJoin\":true},\"name\":\"N\",\"metadata\":\"M\","
	    "\"attributes\":{\"role\":\"guest\"},\"roomConfig\":{"
	    "\"maxParticipants\":2,\"agents\":[{\"agentName\":\"helper\","
	    "\"metadata\":\"ours\"}]}}");
	json_t *claims;

	(void)state;
	t.client_agents = true;
	t.agents = (struct config_strings){ some_agents, 2 };
	claims = claims_of(&t,
	    "{\"participant_name\":\"n\",\"participant_metadata\":\"m\","
	    "\"participant_attributes\":{\"role\":\"admin\",\"lang\":\"vi\"},"
	    "\"room_config\":{\"agents\":[{\"agent_name\":\"helper\","
	    "\"metadata\":\"theirs\"},{\"agent_name\":\"guide\","
	    "\"deployment\":\"d\"}]}}");
	expect_claim(claims, "name", "\"N\"");
	expect_claim(claims, "metadata", "\"M\"");
	expect_claim(claims, "attributes.role", "\"guest\"");
	expect_claim(claims, "attributes.lang", "\"vi\"");
	expect_claim(claims, "roomConfig.maxParticipants", "2");
	expect_claim(claims, "roomConfig.agents",
	    "[{\"agentName\":\"helper\",\"metadata\":\"ours\"},"
	    "{\"agentName\":\"guide\",\"deployment\":\"d\"}]");
	json_decref(claims);
	json_decref(t.claims);
}

static void
what_the_template_leaves_open_is_the_clients(void **state)
{
	struct config_token t = template_of(JOIN);
	json_t *claims;

	(void)state;
	t.client_agents = true;
	t.agents = (struct config_strings){ some_agents, 2 };
	claims = claims_of(&t,
	    "{\"participant_name\":\"n\",\"participant_metadata\":\"m\","
	    "\"participant_attributes\":{\"lang\":\"vi\",\"e\":\"\"},"
	    "\"room_config\":{\"agents\":[{\"agent_name\":\"helper\","
	    "\"attributes\":{\"a\":\"b\"}}]}}");
	expect_claim(claims, "name", "\"n\"");
	expect_claim(claims, "metadata", "\"m\"");
	expect_claim(claims, "attributes", "{\"lang\":\"vi\",\"e\":\"\"}");
	expect_claim(claims, "roomConfig",
	    "{\"agents\":[{\"agentName\":\"helper\","
	    "\"attributes\":{\"a\":\"b\"}}]}");
	json_decref(claims);
	claims = claims_of(&t, "{}");
	expect_claim(claims, "name", "");
	expect_claim(claims, "metadata", "");
	expect_claim(claims, "attributes", "");
	expect_claim(claims, "roomConfig", "");
	json_decref(claims);
	json_decref(t.claims);
}

/* ---- signing ---- */

static void
the_token_verifies_with_the_api_secret(void **state)
{
	struct jwt_policy policy = { .alg = "HS256",
		.typ = "JWT",
		.issuer = "APIkey",
		.now = NOW };
	struct config_token t = template_of(JOIN);
	struct livekit_token token;
	struct crypt_key *key;
	struct diag diag;
	json_t *claims;
	char *text;

	(void)state;
	assert_int_equal(make(&t, "{\"roomName\":\"r\xc3\xa9\"}", &token,
			     &diag),
	    ERR_OK);
	assert_string_equal(token.room, "r\xc3\xa9");
	assert_int_equal(livekit_token_sign(&livekit, &token, &text, &diag),
	    ERR_OK);
	assert_int_equal(crypt_key_from_short_secret(livekit.api_secret, 6,
			     &key, NULL),
	    ERR_OK);
	assert_int_equal(jwt_verify(text, strlen(text), key, &policy, &claims,
			     NULL),
	    ERR_OK);
	assert_true(json_equal(claims, token.claims));
	json_decref(claims);
	free(text);
	crypt_key_free(key);
	livekit_token_done(&token);
	json_decref(t.claims);
}

static void
a_token_that_would_be_too_large_is_refused(void **state)
{
	struct config_token t = template_of(JOIN);
	struct livekit_token token;
	struct diag diag;
	json_t *body;
	char *fill = xcalloc(1, LIVEKIT_METADATA_MAX_BYTES + 1), *text = NULL;

	(void)state;
	/* each of these is six bytes in JSON */
	memset(fill, 1, LIVEKIT_METADATA_MAX_BYTES);
	body = json_pack("{s:s}", "participant_metadata", fill);
	assert_int_equal(livekit_token_make(&livekit, &t, body, NOW, &token,
			     NULL),
	    ERR_OK);
	assert_int_equal(livekit_token_sign(&livekit, &token, &text, &diag),
	    ERR_LIMIT);
	assert_null(text);
	livekit_token_done(&token);
	json_decref(body);
	free(fill);
	json_decref(t.claims);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(takes_both_forms_and_tells_them_apart),
		TEST(refuses_what_is_malformed),
		TEST(a_client_never_chooses_its_identity),
		TEST(two_tokens_are_never_of_one_participant),
		TEST(a_template_without_identity_makes_no_token),
		TEST(a_client_sets_only_what_the_template_lets_it),
		TEST(a_client_enters_only_the_rooms_of_the_template),
		TEST(a_participant_always_has_a_room),
		TEST(refuses_what_is_too_large),
		TEST(refuses_too_many_attributes_and_agents),
		TEST(a_room_config_may_only_dispatch_agents_of_the_list),
		TEST(every_grant_and_claim_of_the_template_passes_through),
		TEST(false_is_written_out_and_unset_stays_unset),
		TEST(what_the_template_sets_stands),
		TEST(what_the_template_leaves_open_is_the_clients),
		TEST(the_token_verifies_with_the_api_secret),
		TEST(a_token_that_would_be_too_large_is_refused),
	};

	return cmocka_run_group_tests_name("livekit_token", tests, NULL, NULL);
}
