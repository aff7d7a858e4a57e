/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/config/config.h"
#include "common/xalloc.h"

#define CANARY "canary-0123456789-0123456789-0123456789"

/* A livekit section up to where its templates begin. */
#define LIVEKIT                                                        \
	"livekit { url = \"wss://x.example\" api_key = \"env:T_KEY\" " \
	"api_secret = \"env:T_KEY\"\n"

static struct config *
load(const char *text)
{
	struct config *config = NULL;
	struct diag diag = { "" };

	if (config_parse("t.conf", text, strlen(text), &config, &diag) !=
	    ERR_OK)
		fail_msg("%s", diag.text);
	return config;
}

static char *
dump(const struct config *config)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	config_dump(config, f);
	assert_int_equal(fclose(f), 0);
	return text;
}

/* ---- bad files ---- */

struct bad {
	const char *text;
	int line;
	const char *word; /* of the message */
};

static const struct bad bad_syntax[] = {
	{ "acces {}\n", 1, "no such option 'acces'; culvert.conf(5)" },
	{ "# a\n\n# b\naccess {\n\tclient = 1\n}\n", 5, "client" },
	{ "access {\n\tclients = {\"a\n\"}\n}\n", 2, "quote" },
	{ "access {\n\torigins = {'a\n", 2, "quote" },
	{ "\naccess {\n\n", 2, "never closed" },
	{ "access {\n clients = {\"any\"\n}\n", 1, "never closed" },
	{ "access {\n}\n}\n", 3, "closes nothing" },
	{ "{{{{{{{{{\n", 1, "too many" },
	{ "openai { url = \"${HOME}\" }\n", 1, "not expanded" },
	{ "openai { url = ${HOME} }\n", 1, "unexpected character" },
	{ "openai { models = {gpt-*} }\n", 1, "double quotes" },
	{ "openai { url = wss://x }\n", 1, "URL stands in quotes" },
	{ "openai { url = \"\\x00\" }\n", 1, "escape" },
	{ "openai {\n url = \"a\x01\" }\n", 2, "control character" },
	{ "openai { url = 1+2 }\n", 1, "unexpected character" },
	{ "include(\"/etc/passwd\")\n", 1, "unexpected character" },
	{ "tunnel {\n lifetime = 1\n lifetime = 2\n}\n", 3, "in line 2" },
	{ "tunnel {\n lifetime = 1 }\ntunnel { lifetime = 2\n}\n", 3, "twice" },
	{ "access {\n origins = {\"*\"}\n origins = {\"*\"} }\n", 3, "twice" },
	{ "relay \"/a\" {\n}\nrelay \"/a\" {\n}\n", 3, "duplicate" },
	{ LIVEKIT "token \"a\" {}\ntoken \"a\" {}\n}\n", 3, "duplicate" },
	{ "relay { upstream = \"ws://x\" }\n", 1, "title" },
	{ "tunnel = 3\n", 1, "brace" },
};

static const struct bad bad_settings[] = {
	{ "access {\n clients = {\"10.0.0.1/8\"} }\n", 2, "after the prefix" },
	{ "access { clients = {\"10.0.0.0/33\"} }\n", 1, "/32" },
	{ "access { clients = {\"::/129\"} }\n", 1, "/128" },
	{ "access { clients = {\"::ffff:10.0.0.1\"} }\n", 1, "IPv4" },
	{ "access { clients = {\"10.0.0\"} }\n", 1, "loopback, any" },
	{ "access { clients = {\"localhost\"} }\n", 1, "loopback, any" },
	{ "access { clients = {} }\n", 1, "loopback" },
	{ "access { origins = {\"null\"} }\n", 1, "never served" },
	{ "access { origins = {\"https://X.example/\"} }\n", 1,
	    "write https://x.example" },
	{ "access { origins = {\"https://x:443\"} }\n", 1, "write https://x" },
	{ "access { origins = {\"site.example\"} }\n", 1,
	    "write https://site.example" },
	{ "access { missing_origin = maybe }\n", 1, "true or false" },
	{ "control { socket = \"control.sock\" }\n", 1, "from / on" },
	{ "control { mode = \"0999\" }\n", 1, "octal" },
	{ "control { mode = \"1600\" }\n", 1, "octal" },
	{ "control {\n\n users = {\"no such user\"} }\n", 3, "no user" },
	{ "control { max_connections = 0 }\n", 1, "from 1" },
	{ "requests { threads = 1.5 }\n", 1, "whole number" },
	{ "requests { threads = -1 }\n", 1, "whole number" },
	{ "requests { threads = 0x10 }\n", 1, "whole number" },
	{ "requests { timeout = 10s }\n", 1, "whole number" },
	{ "requests { base_path = \"/a/\" }\n", 1, "at the end" },
	{ "requests { base_path = \"a\" }\n", 1, "begins with /" },
	{ "store { path = \"culvert.db\" }\n", 1, "whole path" },
	{ "prices { input_text = \"1\" }\n", 1, "title" },
	{ "prices \"\" { input_text = \"1\" }\n", 1, "matches nothing" },
	{ "prices \"a\" { input_text = \"1e3\" }\n", 1, "write a price" },
	{ "prices \"a\" {\n minute = \"-1\" }\n", 2, "write a price" },
	{ "prices \"a\" { currency = \"Dollar\" }\n", 1, "three letters" },
	{ "prices \"a\" { output_image = \"1\" }\n", 1, "output_image" },
	{ "prices \"a\" {}\nprices \"a\" {}\n", 2, "duplicate" },
	{ "store { file = \"/culvert.db\" }\n", 1, "file" },
	{ "tunnel { connect_timeout = 0 }\n", 1, "from 1" },
	{ "tunnel { pong_timeout = 0 }\n", 1, "from 1" },
	{ "tunnel { client_message_bytes = 18446744073709551616 }\n", 1,
	    "whole number" },
};

#define RELAY "relay \"/a\" { upstream = \"ws://x\"\n"

static const struct bad bad_relays[] = {
	{ "relay \"a\" {}\n", 1, "begins with /" },
	{ "relay \"/a?b\" {}\n", 1, "query" },
	{ "relay \"/%61\" {}\n", 1, "escape" },
	{ "relay \"/a/../b\" {}\n", 1, ".." },
	{ "relay \"/a//b\" {}\n", 1, "empty segment" },
	{ "relay \"/a\" {\n upstream = \"http://x\" }\n", 2, "wss://" },
	{ "relay \"/a\" { upstream = \"wss://u:pw@x\" }\n", 1, "secret" },
	{ "relay \"/a\" { upstream = \"wss://x/#f\" }\n", 1, "character" },
	{ "relay \"/a\" { upstream = \"wss://x:0\" }\n", 1, "65535" },
	{ "relay \"/a\" { upstream = \"wss://x:99999\" }\n", 1, "URL" },
	{ "relay \"/a\" { upstream = \"wss:///x\" }\n", 1, "scheme://" },
	{ "relay \"/a\" { upstream = \"wss://[::1\" }\n", 1, "URL" },
	{ "relay \"/a\" { upstream = \"wss://a%2eb/\" }\n", 1, "escape" },
	{ RELAY "also = {\"/b\", \"/a\"} }\n", 2, "already" },
	{ RELAY "}\nrelay \"/b\" { also = {\"/a\"}\n}\n", 4, "already" },
	{ RELAY "ca_file = \"/nonexistent.pem\" }\n", 2, "cannot read" },
	{ RELAY "ca_file = \"/dev/null\" }\n", 2, "no certificate" },
	{ RELAY "header \"a b\" { value = \"x\" } }\n", 2, "name" },
	{ RELAY "header \"hOST\" { value = \"x\" } }\n", 2, "handshake" },
	{ RELAY "header \"Sec-WebSocket-Key\" { value = \"x\" } }\n", 2,
	    "handshake" },
	{ RELAY "header \"A\" { value = \"x\" }\n"
		"header \"a\" { value = \"x\" } }\n",
	    3, "already" },
	{ RELAY "header \"A\" {\n} }\n", 3, "either" },
	{ RELAY "header \"A\" { value = \"x\\ny\" } }\n", 2, "control" },
	{ RELAY "header \"A\" { value = \"x\" secret = \"env:T_KEY\" } }\n", 2,
	    "either" },
	{ RELAY "header \"A\" { value = \"x\" prefix = \"y\" } }\n", 2,
	    "prefix" },
	{ RELAY "header \"A\" { secret = \"" CANARY "\" } }\n", 2, "env:NAME" },
	{ RELAY "header \"A\" { secret = \"env:T_NONE\" } }\n", 2, "not set" },
	{ RELAY "header \"A\" { secret = \"env:T_LINES\" } }\n", 2,
	    "one line" },
	{ RELAY "query \"a&b\" {} }\n", 2, "name" },
	{ "relay \"/a\" { upstream = \"ws://x/?a=1&q=2\"\n query \"q\" {} }\n",
	    2, "leave out" },
	{ RELAY "query \"q\" { values = {\"a\"} default = \"b\" } }\n", 2,
	    "none of the values" },
	{ RELAY "query \"q\" { values = {\"a\"}\n"
		"alias \"o\" { to = \"b\" } } }\n",
	    3, "none of the values" },
	{ RELAY "query \"q\" { alias \"o\" {} } }\n", 2, "missing" },
	{ RELAY "subprotocols = {\"a,b\"} }\n", 2, "token" },
	{ RELAY "subprotocol_mode = \"both\" }\n", 2, "answer" },
	{ "openai { api_key = \"env:T_NONE\" }\n", 1, "not set" },
	{ "openai { api_key = \"env:T_BEFORE\" }\n", 1, "blank" },
	{ "openai { api_key = \"env:T_AFTER\" }\n", 1, "blank" },
	{ "openai { api_key = \"env:T_BOM\" }\n", 1, "byte order mark" },
	{ "openai { api_key = \"env:T_KEY\" models = {} }\n", 1, "any" },
	{ "openai { api_key = \"env:T_KEY\" paths = {} }\n", 1, "empty" },
	{ "openai { api_key = \"env:T_KEY\" default_model = \"x\" }\n", 1,
	    "none of the values" },
	{ "openai { api_key = \"env:T_KEY\" }\n"
	  "relay \"/\" { upstream = \"ws://x\"\n}\n",
	    3, "openai already" },
};

static const struct bad bad_livekit[] = {
	{ "livekit {\n}\n", 2, "url: is missing" },
	{ "livekit { url = \"wss://x\" }\n", 1, "LIVEKIT_API_KEY" },
	{ "livekit { url = \"wss://x\" api_key = \"env:T_KEY\" }\n", 1,
	    "LIVEKIT_API_SECRET" },
	{ "livekit { url = \"https://x\" }\n", 1, "wss://" },
	{ LIVEKIT "token \"a/b\" {} }\n", 2, "letters" },
	{ LIVEKIT "token \"a\" { ttl = 5 } }\n", 2, "from 10" },
	{ LIVEKIT "token \"a\" { identity = \"mine\" } }\n", 2, "fixed:NAME" },
	{ LIVEKIT "token \"a\" {\n client_may_set = {\"identity\"} } }\n", 3,
	    "write room" },
	{ LIVEKIT "token \"a\" { client_may_set = {\"agents\"} } }\n", 2,
	    "client_agents" },
	{ LIVEKIT "token \"a\" { client_may_set = {} rooms = {\"a\"} } }\n", 2,
	    "leave it out" },
	{ LIVEKIT "token \"a\" { kind = \"Agent\" } }\n", 2, "standard" },
	{ LIVEKIT "token \"a\" { sha256 = \"abcd\" } }\n", 2, "base64" },
	{ LIVEKIT "token \"a\" { can_publish = 1 } }\n", 2, "true or false" },
	{ LIVEKIT "token \"a\" { can_publish_sources = {\"mic\"} } }\n", 2,
	    "microphone" },
	{ LIVEKIT "token \"a\" { attribute \"k\" {} } }\n", 2, "missing" },
	{ LIVEKIT "token \"a\" { room_config { egress { } } } }\n", 2,
	    "no such option" },
	{ LIVEKIT "token \"a\" { room_config { max_participants = -1 } } }\n",
	    2, "whole number" },
};

static void
check_bad(const struct bad *bad, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct config *config = NULL;
		struct diag diag = { "" };
		char *place = xasprintf("t.conf:%d: ", bad[i].line);
		enum err err = config_parse("t.conf", bad[i].text,
		    strlen(bad[i].text), &config, &diag);

		if (err != ERR_PROTO || config != NULL ||
		    strncmp(diag.text, place, strlen(place)) != 0 ||
		    strstr(diag.text, bad[i].word) == NULL ||
		    strstr(diag.text, CANARY) != NULL)
			fail_msg("%s: wanted %s...%s..., got %d: %s",
			    bad[i].text, place, bad[i].word, err, diag.text);
		free(place);
	}
}

#define CHECK_BAD(table) check_bad(table, sizeof(table) / sizeof(table[0]))

static void
names_the_line_of_bad_syntax(void **state)
{
	(void)state;
	CHECK_BAD(bad_syntax);
}

static void
names_the_line_of_a_bad_setting(void **state)
{
	(void)state;
	CHECK_BAD(bad_settings);
}

static void
names_the_line_of_a_bad_relay(void **state)
{
	(void)state;
	CHECK_BAD(bad_relays);
}

static void
names_the_line_of_a_bad_livekit_setting(void **state)
{
	(void)state;
	CHECK_BAD(bad_livekit);
}

static void
refuses_text_that_is_not_utf8_or_too_large(void **state)
{
	struct config *config;
	struct diag diag = { "" };
	char *large = xcalloc(1, 2 * 1024 * 1024);

	(void)state;
	assert_int_equal(config_parse("t", "#\xff\n", 3, &config, &diag),
	    ERR_PROTO);
	assert_int_equal(config_parse("t", "a\0b\n", 4, &config, &diag),
	    ERR_PROTO);
	assert_int_equal(config_parse("t", large, 2 * 1024 * 1024, &config,
			     &diag),
	    ERR_LIMIT);
	free(large);
}

static void
a_bad_file_leaves_nothing_behind_for_the_next(void **state)
{
	struct config *config;
	struct diag diag;

	(void)state;
	/* libconfuse's scanner would stay within the list, the section */
	assert_int_equal(config_parse("t", "access { clients = {\"a\"", 23,
			     &config, &diag),
	    ERR_PROTO);
	config = load("requests { threads = 3 }");
	assert_int_equal(config->requests.threads, 3);
	config_unref(config);
}

/* ---- good files ---- */

static void
an_empty_file_opens_nothing(void **state)
{
	struct config *config = load("");
	const struct config_range *clients = config->access.clients;

	(void)state;
	assert_int_equal(config->access.client_count, 2);
	assert_int_equal(clients[0].family, AF_INET);
	assert_int_equal(clients[0].address[0], 127);
	assert_int_equal(clients[0].prefix_len, 8);
	assert_int_equal(clients[1].family, AF_INET6);
	assert_int_equal(clients[1].prefix_len, 128);
	assert_false(clients[0].any || clients[1].any);
	assert_int_equal(config->access.origins.count, 1);
	assert_string_equal(config->access.origins.items[0], "loopback");
	assert_false(config->access.missing_origin);
	assert_int_equal(config->control.mode, 0600);
	assert_string_equal(config->control.socket,
	    RUNSTATEDIR "/culvert/control.sock");
	assert_int_equal(config->requests.threads, 16);
	assert_int_equal(config->requests.timeout_ms, 10000);
	assert_int_equal(config->requests.waiting, 20000);
	assert_string_equal(config->requests.base_path, "");
	assert_int_equal(config->relay_count, 0);
	assert_null(config->livekit);
	config_unref(config);
}

static void
tickets_are_for_seconds_and_their_keys_for_days(void **state)
{
	static const struct {
		const char *keys;
		int64_t rotate_s, ttl_s, ttl_max_s;
	} good[] = {
		{ "", 604800, 60, 600 },
		{ "rotate = 0 ttl = 1 ttl_max = 1", 0, 1, 1 },
		{ "rotate = 43200 ttl_max = 30", 43200, 30, 30 },
		{ "rotate = 31622400 ttl = 7200 ttl_max = 7200", 31622400, 7200,
		    7200 },
	};
	static const char *const bad[] = { "rotate = 43199", "rotate = -1",
		"rotate = 31622401", "ttl = 0", "ttl = 601", "ttl_max = 0",
		"ttl_max = 7201", "ttl = 2 ttl_max = 1", "ttl = x" };

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		char *text = xasprintf("tickets { %s }", good[i].keys);
		struct config *config = load(text);

		assert_int_equal(config->tickets.rotate_s, good[i].rotate_s);
		assert_int_equal(config->tickets.ttl_s, good[i].ttl_s);
		assert_int_equal(config->tickets.ttl_max_s, good[i].ttl_max_s);
		config_unref(config);
		free(text);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char *text = xasprintf("tickets { %s }", bad[i]);
		struct config *config = NULL;
		struct diag diag = { "" };

		if (config_parse("t", text, strlen(text), &config, &diag) !=
		    ERR_PROTO)
			fail_msg("%s", bad[i]);
		assert_non_null(strstr(diag.text, "tickets: "));
		free(text);
	}
}

static void
openai_needs_nothing_but_its_key(void **state)
{
	struct config *config = load("openai { api_key = \"env:T_KEY\" }");
	const struct config_relay *relay = config_find_relay(config, "/");

	(void)state;
	assert_non_null(relay);
	assert_ptr_equal(config_find_relay(config, "/v1/realtime"), relay);
	assert_null(config_find_relay(config, "/v1"));
	assert_string_equal(relay->name, "openai");
	assert_true(relay->upstream.tls);
	assert_string_equal(relay->upstream.host, "api.openai.com");
	assert_int_equal(relay->upstream.port, 443);
	assert_string_equal(relay->upstream.authority, "api.openai.com");
	assert_string_equal(relay->upstream.path, "/v1/realtime");
	assert_null(relay->upstream.query);
	assert_int_equal(relay->header_count, 1);
	assert_string_equal(relay->headers[0].name, "Authorization");
	assert_string_equal(relay->headers[0].prefix, "Bearer ");
	assert_string_equal(secret_peek(relay->headers[0].secret, NULL),
	    CANARY);
	assert_int_equal(relay->query_count, 3);
	assert_string_equal(relay->queries[0].name, "model");
	assert_string_equal(relay->queries[0].fallback, "gpt-realtime");
	assert_int_equal(relay->queries[0].values.count, 2);
	assert_int_equal(relay->queries[0].fallback_unless.count, 2);
	assert_string_equal(relay->subprotocols.items[0], "realtime");
	assert_false(relay->subprotocol_pass);
	assert_int_equal(relay->limits.connect_ms, 10000);
	assert_int_equal(relay->limits.upstream_message_bytes, 16777216);
	config_unref(config);
}

static void
a_relay_takes_what_tunnel_says_and_overrides_it(void **state)
{
	struct config *config = load(
	    "tunnel { idle_timeout = 7 max_connections = 3 }\n"
	    "relay \"/e\" { also = {\"/f\"} lifetime = 9\n"
	    "  upstream = \"ws://[::1]:9001/x?a=b\" allow_private = on\n"
	    "  header \"X\" { value = \"y\" }\n"
	    "  header \"A\" { secret = \"env:T_KEY\" }\n"
	    "  query \"m\" { values = {\"a\", \"b-*\"} default = \"b-1\"\n"
	    "    alias \"old\" { to = \"a\" } }\n"
	    "  subprotocols = {\"v1\", \"v2\"} subprotocol_mode = pass }\n");
	const struct config_relay *relay = config_find_relay(config, "/f");

	(void)state;
	assert_non_null(relay);
	assert_string_equal(relay->name, "/e");
	assert_string_equal(relay->paths.items[0], "/e");
	assert_false(relay->upstream.tls);
	assert_string_equal(relay->upstream.host, "::1");
	assert_string_equal(relay->upstream.authority, "[::1]:9001");
	assert_string_equal(relay->upstream.query, "a=b");
	assert_true(relay->allow_private);
	assert_int_equal(relay->limits.idle_ms, 7000);
	assert_int_equal(relay->limits.lifetime_ms, 9000);
	assert_int_equal(relay->max_connections, 3);
	assert_string_equal(relay->headers[0].prefix, "y");
	assert_null(relay->headers[0].secret);
	assert_string_equal(relay->headers[1].prefix, "");
	assert_string_equal(relay->queries[0].aliases[0].from, "old");
	assert_string_equal(relay->queries[0].aliases[0].to, "a");
	assert_int_equal(relay->subprotocols.count, 2);
	assert_true(relay->subprotocol_pass);
	config_unref(config);
}

static void
access_and_control_are_read_as_written(void **state)
{
	struct config *config = load(
	    "access { clients = {\"10.0.0.0/8\",  # a comment in a list\n"
	    "  \"2001:db8::/32\", \"any\"}\n"
	    "  origins = {\"https://a.example\", \"http://[::1]:3000\",\n"
	    "    \"capacitor://localhost\", \"*\"} missing_origin = yes }\n"
	    "control { socket = \"/x/c.sock\" mode = \"0660\"\n"
	    "  users = {\"root\", \"12345\"} }\n"
	    "requests { base_path = \"/culvert\" }\n");
	const struct config_range *clients = config->access.clients;

	(void)state;
	assert_int_equal(config->access.client_count, 3);
	assert_int_equal(clients[0].prefix_len, 8);
	assert_int_equal(clients[0].address[0], 10);
	assert_int_equal(clients[1].family, AF_INET6);
	assert_int_equal(clients[1].prefix_len, 32);
	assert_true(clients[2].any);
	assert_int_equal(config->access.origins.count, 4);
	assert_true(config->access.missing_origin);
	assert_string_equal(config->control.socket, "/x/c.sock");
	assert_int_equal(config->control.mode, 0660);
	assert_int_equal(config->control.user_count, 2);
	assert_int_equal(config->control.users[0], 0);
	assert_int_equal(config->control.users[1], 12345);
	assert_string_equal(config->requests.base_path, "/culvert");
	config_unref(config);
}

/* ---- livekit ---- */

static void
assert_claims(const struct config_token *token, const char *wanted)
{
	char *text = json_dumps(token->claims, JSON_COMPACT | JSON_SORT_KEYS);

	assert_string_equal(text, wanted);
	free(text);
}

static void
livekit_without_a_template_lets_clients_join(void **state)
{
	struct config *config = load(LIVEKIT "}");
	const struct config_token *token = config_find_token(config, "default");

	(void)state;
	assert_non_null(token);
	assert_null(config_find_token(config, "other"));
	assert_claims(token,
	    "{\"video\":{\"canPublish\":true,"
	    "\"canSubscribe\":true,\"roomJoin\":true}}");
	assert_int_equal(token->ttl_s, 600);
	assert_string_equal(token->rooms.items[0], "*");
	assert_null(token->room);
	assert_int_equal(token->identity_mode, IDENTITY_RANDOM);
	assert_string_equal(token->identity, "user-");
	assert_true(token->client_name && token->client_metadata &&
	    token->client_attributes);
	assert_false(token->client_agents);
	config_unref(config);
}

static void
a_grant_is_unset_false_or_true(void **state)
{
	struct config *config =
	    load(LIVEKIT "token \"t\" { room_join = true can_publish = false "
			 "can_publish_sources = {} }}");

	(void)state;
	assert_null(config_find_token(config, "default"));
	assert_claims(config_find_token(config, "t"),
	    "{\"video\":{\"canPublish\":false,\"canPublishSources\":[],"
	    "\"roomJoin\":true}}");
	config_unref(config);
}

static const char all_grants[] = LIVEKIT
    "token \"all\" { identity = \"fixed:bob\" client_may_set = {\"agents\"}\n"
    "client_agents = {\"a\"} room = \"r\" ttl = 60\n"
    "name = \"N\" kind = \"agent\" metadata = \"m\" room_preset = \"p\"\n"
    "attribute \"k\" { value = \"v\" }\n"
    "sha256 = \"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"\n"
    "room_create = true room_list = true room_record = true\n"
    "room_admin = true room_join = true can_publish = true\n"
    "can_subscribe = true can_publish_data = true\n"
    "can_publish_sources = {\"camera\", \"screen_share_audio\"}\n"
    "can_update_own_metadata = true ingress_admin = true hidden = true\n"
    "recorder = true agent = true can_subscribe_metrics = true\n"
    "can_manage_agent_session = true destination_room = \"d\"\n"
    "sip_admin = true sip_call = true agent_admin = true\n"
    "inference_perform = true observability_write = true\n"
    "room_config { name = \"rn\" empty_timeout = 1 departure_timeout = 2\n"
    "max_participants = 3 metadata = \"rm\" min_playout_delay = 4\n"
    "max_playout_delay = 5 sync_streams = false\n"
    "tag \"tk\" { value = \"tv\" } agent \"ag\" { metadata = \"am\"\n"
    "deployment = \"ad\" attribute \"ak\" { value = \"av\" } } } } }\n";

static void
every_claim_of_livekit_can_be_written(void **state)
{
	struct config *config = load(all_grants);
	const struct config_token *token = config_find_token(config, "all");

	(void)state;
	assert_int_equal(token->identity_mode, IDENTITY_FIXED);
	assert_string_equal(token->identity, "bob");
	assert_true(token->client_agents);
	assert_false(token->client_name);
	assert_int_equal(token->rooms.count, 0);
	assert_string_equal(token->room, "r");
	assert_claims(token,
	    "{\"agent\":{\"admin\":true},\"attributes\":{\"k\":\"v\"},"
	    "\"inference\":{\"perform\":true},\"kind\":\"agent\","
	    "\"metadata\":\"m\",\"name\":\"N\","
	    "\"observability\":{\"write\":true},"
	    "\"roomConfig\":{\"agents\":[{\"agentName\":\"ag\","
	    "\"attributes\":{\"ak\":\"av\"},\"deployment\":\"ad\","
	    "\"metadata\":\"am\"}],\"departureTimeout\":2,"
	    "\"emptyTimeout\":1,\"maxParticipants\":3,"
	    "\"maxPlayoutDelay\":5,\"metadata\":\"rm\","
	    "\"minPlayoutDelay\":4,\"name\":\"rn\","
	    "\"syncStreams\":false,\"tags\":{\"tk\":\"tv\"}},"
	    "\"roomPreset\":\"p\","
	    "\"sha256\":\"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\","
	    "\"sip\":{\"admin\":true,\"call\":true},"
	    "\"video\":{\"agent\":true,\"canManageAgentSession\":true,"
	    "\"canPublish\":true,\"canPublishData\":true,"
	    "\"canPublishSources\":[\"camera\",\"screen_share_audio\"],"
	    "\"canSubscribe\":true,\"canSubscribeMetrics\":true,"
	    "\"canUpdateOwnMetadata\":true,\"destinationRoom\":\"d\","
	    "\"hidden\":true,\"ingressAdmin\":true,\"recorder\":true,"
	    "\"roomAdmin\":true,\"roomCreate\":true,\"roomJoin\":true,"
	    "\"roomList\":true,\"roomRecord\":true}}");
	config_unref(config);
}

static void
a_short_secret_of_livekit_is_no_error(void **state)
{
	struct config *config =
	    load("livekit { url = \"ws://127.0.0.1:7880\"\n"
		 "api_key = \"env:T_KEY\" api_secret = \"env:T_SHORT\" }");

	(void)state;
	assert_string_equal(config->livekit->url, "ws://127.0.0.1:7880");
	config_unref(config);
}

/* ---- the store ---- */

static void
keeps_its_store_where_it_is_told(void **state)
{
	static const struct {
		const char *folders; /* STATE_DIRECTORY */
		const char *text;
		const char *path;
	} rows[] = {
		{ NULL, "", NULL },
		{ NULL, "store {}", NULL },
		{ NULL, "store { path = \"/x/y.db\" }", "/x/y.db" },
		{ "/var/lib/culvert", "", "/var/lib/culvert/culvert.db" },
		{ "/var/lib/a:/var/lib/b", "", "/var/lib/a/culvert.db" },
		{ "/var/lib/culvert", "store { path = \"/x\" }", "/x" },
		{ "/var/lib/culvert", "store { path = \"\" }", NULL },
		{ "relative", "", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct config *config;

		if (rows[i].folders != NULL)
			(void)setenv("STATE_DIRECTORY", rows[i].folders, 1);
		else
			(void)unsetenv("STATE_DIRECTORY");
		config = load(rows[i].text);
		if (rows[i].path == NULL)
			assert_null(config->store.path);
		else
			assert_string_equal(config->store.path, rows[i].path);
		config_unref(config);
	}
	(void)unsetenv("STATE_DIRECTORY");
}

/* ---- prices ---- */

static void
finds_the_first_price_that_matches(void **state)
{
	struct config *config =
	    load("prices \"gpt-realtime-mini*\" { input_text = 0.60 }\n"
		 "prices \"gpt-realtime*\" {\n"
		 "	currency = EUR\n"
		 "	input_text = \"4.00\"\n"
		 "	input_audio = \"32\"\n"
		 "	cached_audio = \"0.4\"\n"
		 "	minute = \"0.006\"\n"
		 "}\n");
	const struct price *price;

	(void)state;
	price = config_find_price(config, "gpt-realtime-mini-2025-10-06");
	assert_string_equal(price->currency, "USD");
	assert_int_equal(price->tokens[STORE_INPUT_TEXT], 600000);
	assert_false(price->has_tokens[STORE_OUTPUT_TEXT]);
	assert_false(price->has_minute);
	price = config_find_price(config, "gpt-realtime");
	assert_string_equal(price->currency, "EUR");
	assert_int_equal(price->tokens[STORE_INPUT_AUDIO], 32000000);
	assert_int_equal(price->tokens[STORE_CACHED_AUDIO], 400000);
	/* a cached one that has no price costs what the others do */
	assert_true(price->has_tokens[STORE_CACHED_TEXT]);
	assert_int_equal(price->tokens[STORE_CACHED_TEXT], 4000000);
	assert_false(price->has_tokens[STORE_CACHED_IMAGE]);
	assert_int_equal(price->minute, 6000);
	assert_null(config_find_price(config, "other"));
	assert_null(config_find_price(config, ""));
	config_unref(config);
}

/* ---- dump, reload ---- */

static void
a_dump_holds_no_secret_and_loads_again(void **state)
{
	char *text = xasprintf("%s%s", all_grants,
	    "relay \"/e\" { also = {\"/f\"} upstream = \"wss://x:1/y?z=1\"\n"
	    "header \"A\" { prefix = \"Token \" secret = \"env:T_KEY\" }\n"
	    "header \"B\" { value = \"\\\"\\\\ \\${x}\\t\" }\n"
	    "query \"m\" { values = {\"a*\"} default = \"a\"\n"
	    "default_unless = {\"x\"}\n"
	    "alias \"o\" { to = \"ab\" } } subprotocols = {\"p\"}\n"
	    "subprotocol_mode = \"pass\" lifetime = 0 }\n"
	    "access { clients = {\"any\", \"fe80::/10\", \"10.1.2.3\"} }\n"
	    "control { users = {\"4321\"} }\n"
	    "store { path = \"/x/y.db\" }\n"
	    "prices \"m-*\" { input_text = 0.000001 minute = 12 }\n");
	struct config *config = load(text);
	char *first = dump(config), *second;

	(void)state;
	assert_null(strstr(first, "canary"));
	assert_non_null(strstr(first, "\"env:T_KEY\" # 39 bytes"));
	assert_non_null(strstr(first, "\"10.1.2.3/32\""));
	config_unref(config);
	config = load(first);
	second = dump(config);
	assert_string_equal(first, second);
	config_unref(config);
	free(text);
	free(first);
	free(second);
}

static void
who_holds_a_configuration_keeps_it_over_a_reload(void **state)
{
	struct config *held;

	(void)state;
	assert_null(config_current());
	config_set_current(load("openai { api_key = \"env:T_KEY\" }"));
	held = config_current();
	config_set_current(load("requests { threads = 2 }"));
	assert_non_null(config_find_relay(held, "/"));
	config_unref(config_ref(held));
	config_unref(held);
	held = config_current();
	assert_int_equal(held->requests.threads, 2);
	config_unref(held);
	config_set_current(NULL);
	config_unref(NULL);
}

/* ---- files ---- */

static char *
read_source(const char *name)
{
	const char *top = getenv("top_srcdir");
	char *path = xasprintf("%s/%s", top == NULL ? "." : top, name);
	FILE *f = fopen(path, "r");
	char *text = xcalloc(1, 1 << 20);

	if (f == NULL)
		fail_msg("cannot read %s", path);
	(void)fread(text, 1, (1 << 20) - 1, f);
	(void)fclose(f);
	free(path);
	return text;
}

/* Call with the NAME of every "PREFIX:NAME" in a text. */
static void
for_each_secret(const char *text, const char *prefix,
    void (*call)(const char *name))
{
	size_t len = strlen(prefix);

	while ((text = strstr(text, prefix)) != NULL) {
		char *name = xstrndup(text + len, strcspn(text + len, "\""));

		call(name);
		free(name);
		text += len;
	}
}

/* No two are the same. */
static void
set_variable(const char *name)
{
	char *value = xasprintf(CANARY "-%s", name);

	assert_int_equal(setenv(name, value, 1), 0);
	free(value);
}

static char *
credential_path(const char *name)
{
	return xasprintf("%s/%s", getenv("CREDENTIALS_DIRECTORY"), name);
}

static void
write_credential(const char *name)
{
	char *path = credential_path(name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	(void)fprintf(f, CANARY "-%s\n", name);
	assert_int_equal(fclose(f), 0);
	free(path);
}

static void
remove_credential(const char *name)
{
	char *path = credential_path(name);

	(void)unlink(path);
	free(path);
}

/* Load a text for which all the secrets exist that it names. */
static struct config *
load_with_secrets(const char *text)
{
	char dir[] = "/tmp/test_config.XXXXXX";
	struct config *config;

	assert_non_null(mkdtemp(dir));
	assert_int_equal(setenv("CREDENTIALS_DIRECTORY", dir, 1), 0);
	for_each_secret(text, "\"env:", set_variable);
	for_each_secret(text, "\"credential:", write_credential);
	config = load(text);
	for_each_secret(text, "\"credential:", remove_credential);
	assert_int_equal(rmdir(dir), 0);
	return config;
}

static void
a_file_that_is_not_there_is_the_systems_error(void **state)
{
	struct config *config;
	struct diag diag = { "" };

	(void)state;
	assert_int_equal(config_load("/nonexistent/x", &config, &diag),
	    ERR_SYS);
	assert_non_null(strstr(diag.text, "/nonexistent/x"));
	assert_int_equal(config_load("/", &config, &diag), ERR_SYS);
}

static void
the_sample_loads_and_opens_nothing(void **state)
{
	char *text = read_source("deploy/culvert.conf.sample");
	struct config *config = load(text);

	(void)state;
	assert_int_equal(config->relay_count, 0);
	assert_null(config->livekit);
	assert_null(config->chat);
	assert_null(config->socketio);
	assert_int_equal(config->access.client_count, 2);
	config_unref(config);
	free(text);
}

static void
the_samples_suggestions_load_when_they_are_uncommented(void **state)
{
	char *text = read_source("deploy/culvert.conf.sample");
	struct config *config;

	(void)state;
	/* "#openai {" is a setting, "# text" a comment */
	for (char *p = text; p != NULL && *p != '\0';
	     p = strchr(p, '\n') == NULL ? NULL : strchr(p, '\n') + 1)
		if (p[0] == '#' && p[1] != ' ' && p[1] != '\n')
			p[0] = ' ';
	config = load_with_secrets(text);
	assert_int_not_equal(config->relay_count, 0);
	assert_non_null(config->livekit);
	assert_non_null(config->chat);
	assert_true(config->chat->balance);
	config_unref(config);
	free(text);
}

/* The text of an mdoc literal display as it is printed. */
static char *
unescape(const char *from, const char *to)
{
	char *text = xcalloc(1, (size_t)(to - from) + 1), *out = text;

	while (from < to) {
		if (strncmp(from, "\\e", 2) == 0) {
			*out++ = '\\';
			from += 2;
		} else if (strncmp(from, "\\&", 2) == 0 ||
		    strncmp(from, "\\\n", 2) == 0) {
			from += 2;
		} else {
			*out++ = *from++;
		}
	}
	return text;
}

/* Whether a text begins with a section, as `relay "/path" {'. */
static bool
is_configuration(const char *text)
{
	static const char *const sections[] = { "access", "anam", "chat",
		"control", "limits", "livekit", "openai", "plan", "prices",
		"relay", "requests", "socketio", "store", "tickets", "tunnel",
		"users" };
	size_t len;

	text += strspn(text, " \t\n");
	len = strspn(text, "abcdefghijklmnopqrstuvwxyz");
	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++)
		if (strlen(sections[i]) == len &&
		    strncmp(text, sections[i], len) == 0)
			return memchr(text, '{', strcspn(text, "\n")) != NULL;
	return false;
}

/* Replace each `from' by `to', which is no longer. */
static void
replace(char *text, const char *from, const char *to)
{
	size_t len = strlen(from), to_len = strlen(to);

	while ((text = strstr(text, from)) != NULL) {
		memcpy(text, to, to_len);
		memmove(text + to_len, text + len, strlen(text + len) + 1);
		text += to_len;
	}
}

/*
 * Load the examples of a file between lines that begin with `begins' and with
 * `ends', and that are configurations; how many they were.
 */
static int
load_examples(const char *path, const char *begins, const char *ends)
{
	char *whole = read_source(path), *p = whole;
	char persona[] = "/tmp/guide.XXXXXX";
	int count = 0, fd = mkstemp(persona);

	assert_int_not_equal(fd, -1);
	assert_int_equal(write(fd, "{\"name\":\"Guide\"}", 16), 16);
	(void)close(fd);

	while ((p = strstr(p, begins)) != NULL) {
		char *from = strchr(p, '\n') + 1, *to = strstr(from, ends);
		char *text = unescape(from, to);

		if (is_configuration(text)) {
			/* files that are read at once */
			replace(text, "/etc/culvert/prompt.txt", persona);
			replace(text, "/etc/culvert/guide.json", persona);
			print_message("# %s: %.40s\n", path, text);
			config_unref(load_with_secrets(text));
			count++;
		}
		free(text);
		p = to + strlen(ends);
	}
	free(whole);
	(void)unlink(persona);
	return count;
}

static void
every_example_of_the_manual_loads(void **state)
{
	(void)state;
	assert_int_equal(setenv("OPENAI_API_KEY", "test", 1), 0);
	assert_true(
	    load_examples("man/culvert.conf.5", ".Bd -literal", ".Ed") >= 12);
	assert_true(
	    load_examples("man/culvert-broker.8", ".Bd -literal", ".Ed") >= 1);
	(void)load_examples("man/culvert-tunnel.8", ".Bd -literal", ".Ed");
}

static void
every_example_of_the_other_documents_loads(void **state)
{
	(void)state;
	assert_true(load_examples("README.md", "```", "```") >= 7);
	assert_true(load_examples("docs/chat.md", "```", "```") >= 1);
	(void)load_examples("docs/architecture.md", "```", "```");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_the_line_of_bad_syntax),
		cmocka_unit_test(names_the_line_of_a_bad_setting),
		cmocka_unit_test(names_the_line_of_a_bad_relay),
		cmocka_unit_test(names_the_line_of_a_bad_livekit_setting),
		cmocka_unit_test(refuses_text_that_is_not_utf8_or_too_large),
		cmocka_unit_test(a_bad_file_leaves_nothing_behind_for_the_next),
		cmocka_unit_test(an_empty_file_opens_nothing),
		cmocka_unit_test(
		    tickets_are_for_seconds_and_their_keys_for_days),
		cmocka_unit_test(openai_needs_nothing_but_its_key),
		cmocka_unit_test(
		    a_relay_takes_what_tunnel_says_and_overrides_it),
		cmocka_unit_test(access_and_control_are_read_as_written),
		cmocka_unit_test(livekit_without_a_template_lets_clients_join),
		cmocka_unit_test(a_grant_is_unset_false_or_true),
		cmocka_unit_test(every_claim_of_livekit_can_be_written),
		cmocka_unit_test(a_short_secret_of_livekit_is_no_error),
		cmocka_unit_test(keeps_its_store_where_it_is_told),
		cmocka_unit_test(finds_the_first_price_that_matches),
		cmocka_unit_test(a_dump_holds_no_secret_and_loads_again),
		cmocka_unit_test(
		    who_holds_a_configuration_keeps_it_over_a_reload),
		cmocka_unit_test(a_file_that_is_not_there_is_the_systems_error),
		cmocka_unit_test(the_sample_loads_and_opens_nothing),
		cmocka_unit_test(
		    the_samples_suggestions_load_when_they_are_uncommented),
		cmocka_unit_test(every_example_of_the_manual_loads),
		cmocka_unit_test(every_example_of_the_other_documents_loads),
	};

	if (setenv("T_KEY", CANARY, 1) != 0 ||
	    setenv("T_LINES", "a\nb", 1) != 0 ||
	    setenv("T_BEFORE", " " CANARY, 1) != 0 ||
	    setenv("T_AFTER", CANARY "\t", 1) != 0 ||
	    setenv("T_BOM", "\xef\xbb\xbf" CANARY, 1) != 0 ||
	    setenv("T_SHORT", "secret", 1) != 0 || unsetenv("T_NONE") != 0)
		return 1;
	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
