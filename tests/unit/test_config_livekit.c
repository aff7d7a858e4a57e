/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/config/config_livekit.h"
#include "common/xalloc.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define LIVEKIT                                                        \
	"livekit { url = \"wss://x.example\" api_key = \"env:T_KEY\" " \
	"api_secret = \"env:T_KEY\"\n"

static struct config *
build(const char *text, struct diag *diag)
{
	struct config *config = config_new();
	struct conf_section *root = NULL;
	enum err err = conf_parse("t", text, strlen(text), &root, diag);

	if (err == ERR_OK)
		err = config_livekit_build(root, config, diag);
	conf_free(root);
	if (err == ERR_OK)
		return config;
	config_unref(config);
	return NULL;
}

/* The configuration of one template, whose content is this. */
static struct config *
build_token(const char *content)
{
	char *text = xasprintf(LIVEKIT "token \"t\" { %s } }", content);
	struct diag diag = { "" };
	struct config *config = build(text, &diag);

	if (config == NULL)
		fail_msg("%s: %s", text, diag.text);
	free(text);
	return config;
}

/* Check the claims that a template's content becomes. */
static void
assert_claims(const char *content, const char *wanted)
{
	struct config *config = build_token(content);
	char *text = json_dumps(config->livekit->tokens[0].claims,
	    JSON_COMPACT | JSON_SORT_KEYS);

	if (strcmp(text, wanted) != 0)
		fail_msg("%s: %s", content, text);
	free(text);
	config_unref(config);
}

/* ---- grants ---- */

static const struct {
	const char *key, *group, *claim;
} grants[] = {
#define GRANT(key, group, claim) { #key, group, claim },
#include "broker/config/config_grants.def"
};

static void
assert_grant(const char *key, const char *word, const char *group,
    const char *claim, const char *value)
{
	char *content = xasprintf("%s = %s", key, word);
	char *wanted = strcmp(group, "video") == 0
	    ? xasprintf("{\"video\":{\"%s\":%s}}", claim, value)
	    : xasprintf("{\"%s\":{\"%s\":%s},\"video\":{}}", group, claim,
		  value);

	assert_claims(content, wanted);
	free(content);
	free(wanted);
}

static void
every_grant_is_absent_false_or_true(void **state)
{
	(void)state;
	assert_claims("", "{\"video\":{}}");
	for (size_t i = 0; i < COUNT(grants); i++) {
		assert_grant(grants[i].key, "true", grants[i].group,
		    grants[i].claim, "true");
		assert_grant(grants[i].key, "off", grants[i].group,
		    grants[i].claim, "false");
	}
}

static void
a_grants_key_is_its_claim_in_snake_case(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(grants); i++) {
		char snake[64];
		size_t n = 0;

		if (strcmp(grants[i].group, "video") != 0)
			n = (size_t)snprintf(snake, sizeof(snake), "%s_",
			    grants[i].group);
		for (const char *p = grants[i].claim; *p != '\0'; p++) {
			if (*p >= 'A' && *p <= 'Z')
				snake[n++] = '_';
			snake[n++] = *p >= 'A' && *p <= 'Z'
			    ? (char)(*p - 'A' + 'a')
			    : *p;
		}
		snake[n] = '\0';
		assert_string_equal(snake, grants[i].key);
	}
}

/* ---- claims ---- */

static void
every_other_key_becomes_its_claim(void **state)
{
	static const char *const rows[][2] = {
		{ "name = \"N\"", "{\"name\":\"N\",\"video\":{}}" },
		{ "name = \"\"", "{\"video\":{}}" },
		{ "kind = standard", "{\"kind\":\"standard\",\"video\":{}}" },
		{ "kind = bridge", "{\"kind\":\"bridge\",\"video\":{}}" },
		{ "metadata = \"{\\\"a\\\":1}\"",
		    "{\"metadata\":\"{\\\"a\\\":1}\",\"video\":{}}" },
		{ "room_preset = p", "{\"roomPreset\":\"p\",\"video\":{}}" },
		{ "destination_room = d",
		    "{\"video\":{\"destinationRoom\":\"d\"}}" },
		{ "can_publish_sources = {}",
		    "{\"video\":{\"canPublishSources\":[]}}" },
		{ "can_publish_sources = {camera, microphone, screen_share, "
		  "screen_share_audio}",
		    "{\"video\":{\"canPublishSources\":[\"camera\","
		    "\"microphone\",\"screen_share\","
		    "\"screen_share_audio\"]}}" },
		{ "attribute \"b\" { value = \"\" } attribute \"a\" "
		  "{ value = \"x\" }",
		    "{\"attributes\":{\"a\":\"x\",\"b\":\"\"},\"video\":{}}" },
		{ "room_config {}", "{\"roomConfig\":{},\"video\":{}}" },
		{ "room_config { max_participants = 0 }",
		    "{\"roomConfig\":{\"maxParticipants\":0},\"video\":{}}" },
		{ "room_config { empty_timeout = 4294967295 }",
		    "{\"roomConfig\":{\"emptyTimeout\":4294967295},"
		    "\"video\":{}}" },
		{ "room_config { sync_streams = on }",
		    "{\"roomConfig\":{\"syncStreams\":true},\"video\":{}}" },
		{ "room_config { agent \"b\" {} agent \"a\" "
		  "{ deployment = d } }",
		    "{\"roomConfig\":{\"agents\":[{\"agentName\":\"b\"},"
		    "{\"agentName\":\"a\",\"deployment\":\"d\"}]},"
		    "\"video\":{}}" },
		{ "room_config { tag \"a\" { value = b } }",
		    "{\"roomConfig\":{\"tags\":{\"a\":\"b\"}},\"video\":{}}" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++)
		assert_claims(rows[i][0], rows[i][1]);
}

/* ---- what is not a claim ---- */

static void
a_client_may_set_what_the_list_names(void **state)
{
	static const struct {
		const char *content;
		bool room, name, metadata, attributes, agents;
	} rows[] = {
		{ "", true, true, true, true, false },
		{ "client_may_set = {}", false, false, false, false, false },
		{ "client_may_set = {room}", true, false, false, false, false },
		{ "client_may_set = {name}", false, true, false, false, false },
		{ "client_may_set = {metadata}", false, false, true, false,
		    false },
		{ "client_may_set = {attributes, name}", false, true, false,
		    true, false },
		{ "client_may_set = {agents} client_agents = {a}", false, false,
		    false, false, true },
		{ "client_agents = {a}", true, true, true, true, false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct config *config = build_token(rows[i].content);
		const struct config_token *token = &config->livekit->tokens[0];

		if ((token->rooms.count > 0) != rows[i].room ||
		    token->client_name != rows[i].name ||
		    token->client_metadata != rows[i].metadata ||
		    token->client_attributes != rows[i].attributes ||
		    token->client_agents != rows[i].agents)
			fail_msg("%s", rows[i].content);
		config_unref(config);
	}
}

static void
identity_room_and_ttl_are_read_as_written(void **state)
{
	struct config *config =
	    build_token("identity = random identity_prefix = \"p-\" ttl = 10\n"
			"rooms = {\"a-*\", b} room = \"a-1\"");
	const struct config_token *token = &config->livekit->tokens[0];

	(void)state;
	assert_int_equal(token->identity_mode, IDENTITY_RANDOM);
	assert_string_equal(token->identity, "p-");
	assert_int_equal(token->ttl_s, 10);
	assert_int_equal(token->rooms.count, 2);
	assert_string_equal(token->room, "a-1");
	config_unref(config);
	config = build_token("identity = \"fixed:a b\" ttl = 604800");
	token = &config->livekit->tokens[0];
	assert_int_equal(token->identity_mode, IDENTITY_FIXED);
	assert_string_equal(token->identity, "a b");
	assert_int_equal(token->ttl_s, 604800);
	config_unref(config);
	config = build_token("identity_prefix = \"\"");
	assert_string_equal(config->livekit->tokens[0].identity, "");
	config_unref(config);
}

static void
without_a_section_there_is_no_livekit(void **state)
{
	struct diag diag = { "" };
	struct config *config = build("", &diag);

	(void)state;
	assert_non_null(config);
	assert_null(config->livekit);
	config_unref(config);
}

/* ---- errors ---- */

#define TOKEN LIVEKIT "token \"t\" {\n"
#define ROOM  TOKEN "room_config {\n"

static const struct {
	const char *text, *wanted, *word;
} bad[] = {
	{ "livekit {\nurl = \"https://x\" }", "t:2: livekit: url: ", "wss://" },
	{ "livekit { url = \"wss://x\"\napi_key = \"env:T_LATIN1\"\n"
	  "api_secret = \"env:T_KEY\" }",
	    "t:2: livekit: api_key: ", "UTF-8" },
	{ "livekit { url = \"wss://x\"\napi_key = \"canary\" }",
	    "t:2: livekit: api_key: ", "env:NAME" },
	{ LIVEKIT "token \"\" {} }", "t:2: token", "1 to 64" },
	{ LIVEKIT "token \"a.b\" {} }", "t:2: token \"a.b\"", "1 to 64" },
	{ LIVEKIT "token \"12345678901234567890123456789012345678901234567890"
		  "123456789012345\" {} }",
	    "t:2: token", "1 to 64" },
	{ TOKEN "ttl = 9 } }", "t:3: token \"t\": ttl: ", "from 10 to 604800" },
	{ TOKEN "ttl = 604801 } }", "t:3: token \"t\": ttl: ", "604800" },
	{ TOKEN "identity = \"fixed:\" } }",
	    "t:3: token \"t\": identity: ", "fixed:NAME" },
	{ TOKEN "identity = \"Random\" } }",
	    "t:3: token \"t\": identity: ", "fixed:NAME" },
	{ TOKEN "identity = \"fixed:a\"\nidentity_prefix = b } }",
	    "t:4: token \"t\": identity_prefix: ", "leave it out" },
	{ TOKEN "client_may_set = {name, Room} } }",
	    "t:3: token \"t\": client_may_set: ", "Room" },
	{ TOKEN "rooms = {\"\"} } }", "t:3: token \"t\": rooms: ", "empty" },
	{ TOKEN "client_may_set = {name}\nrooms = {\"*\"} } }",
	    "t:4: token \"t\": rooms: ", "leave it out" },
	{ TOKEN "client_agents = {\"\"} } }", "t:3: token \"t\": client_agents",
	    "empty" },
	{ TOKEN "room = \"a\\nb\" } }", "t:3: token \"t\": room: ", "control" },
	{ TOKEN "hidden = 2 } }", "t:3: token \"t\": hidden: ", "true or" },
	{ TOKEN "sip_call = \"\" } }",
	    "t:3: token \"t\": sip_call: ", "true or" },
	{ TOKEN "can_publish_sources = {camera, SCREEN} } }",
	    "t:3: token \"t\": can_publish_sources: ", "screen_share" },
	{ TOKEN "kind = user } }", "t:3: token \"t\": kind: ", "standard" },
	{ TOKEN "sha256 = \"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuA==\" } }",
	    "t:3: token \"t\": sha256: ", "base64" },
	{ TOKEN "sha256 = \"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU\" } }",
	    "t:3: token \"t\": sha256: ", "base64" },
	{ TOKEN "attribute \"k\" {\n} } }",
	    "t:4: attribute \"k\": value: ", "missing" },
	{ ROOM "max_participants = 4294967296 } } }",
	    "t:4: room_config: max_participants: ", "4294967295" },
	{ ROOM "empty_timeout = \"\" } } }", "t:4: room_config: empty_timeout",
	    "whole number" },
	{ ROOM "sync_streams = 1 } } }",
	    "t:4: room_config: sync_streams: ", "true or false" },
	{ ROOM "tag \"k\" {\n} } } }", "t:5: tag \"k\": value: ", "missing" },
	{ ROOM "agent \"a\" { attribute \"k\" {\n} } } } }",
	    "t:5: attribute \"k\": value: ", "missing" },
	{ LIVEKIT "token \"a\" {}\ntoken \"b\" { ttl = 1 } }",
	    "t:3: token \"b\": ttl: ", "from 10" },
};

static void
says_in_which_line_what_is_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct diag diag = { "" };
		struct config *config = build(bad[i].text, &diag);

		if (config != NULL ||
		    strncmp(diag.text, bad[i].wanted, strlen(bad[i].wanted)) !=
			0 ||
		    strstr(diag.text, bad[i].word) == NULL ||
		    strstr(diag.text, "canary") != NULL)
			fail_msg("%s: wanted %s...%s, got %s", bad[i].text,
			    bad[i].wanted, bad[i].word, diag.text);
	}
}

/* ---- the way back ---- */

static char *
dump(const struct config *config)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	config_livekit_dump(config->livekit, f);
	assert_int_equal(fclose(f), 0);
	return text;
}

/* Dump it, read that, and compare both what is there and its text. */
static void
check_dump(struct config *config)
{
	struct diag diag = { "" };
	char *first = dump(config), *second;
	struct config *again = build(first, &diag);

	if (again == NULL)
		fail_msg("%s: %s", first, diag.text);
	assert_null(strstr(first, "canary"));
	assert_true(json_equal(config->livekit->tokens[0].claims,
	    again->livekit->tokens[0].claims));
	second = dump(again);
	assert_string_equal(first, second);
	free(first);
	free(second);
	config_unref(again);
	config_unref(config);
}

static void
what_is_written_reads_as_the_same(void **state)
{
	struct diag diag = { "" };

	(void)state;
	for (size_t i = 0; i < COUNT(grants); i++) {
		char *content = xasprintf("%s = false", grants[i].key);

		check_dump(build_token(content));
		free(content);
	}
	check_dump(build_token(""));
	check_dump(build_token("client_may_set = {}"));
	check_dump(build_token("room_config {}"));
	check_dump(build_token("identity_prefix = \"\""));
	check_dump(build_token("can_publish_sources = {}"));
	check_dump(
	    build_token("attribute \"\\${'a\\\"\" { value = \"\\${\" }"));
	check_dump(build_token("room_config { agent \"\" {} }"));
	check_dump(build(LIVEKIT "}", &diag));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_grant_is_absent_false_or_true),
		cmocka_unit_test(a_grants_key_is_its_claim_in_snake_case),
		cmocka_unit_test(every_other_key_becomes_its_claim),
		cmocka_unit_test(a_client_may_set_what_the_list_names),
		cmocka_unit_test(identity_room_and_ttl_are_read_as_written),
		cmocka_unit_test(without_a_section_there_is_no_livekit),
		cmocka_unit_test(says_in_which_line_what_is_wrong),
		cmocka_unit_test(what_is_written_reads_as_the_same),
	};

	if (setenv("T_KEY", "canary", 1) != 0 ||
	    setenv("T_LATIN1", "k\xe9y", 1) != 0)
		return 1;
	return cmocka_run_group_tests_name("config_livekit", tests, NULL, NULL);
}
