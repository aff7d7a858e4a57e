/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/xalloc.h"
#include "relay_text.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- limits ---- */

struct limit {
	const char *key;
	size_t offset;
	uint64_t scale, min, max, fallback;
};

/* wire.X of the list is limits.X of a relay */
#define wire limits
#define LIMIT(key, member, scale, min, max, fallback)                   \
	{ #key, offsetof(struct config_relay, member), scale, min, max, \
		fallback },
static const struct limit limits_of_a_relay[] = {
#include "broker/config/config_limits.def"
};
#undef wire

static uint64_t
limit_of(const struct config_relay *relay, const struct limit *limit)
{
	uint64_t value;

	memcpy(&value, (const char *)relay + limit->offset, sizeof(value));
	return value;
}

/* A limit of a relay, where it is written in these sections as this. */
static uint64_t
limit_in(const struct limit *limit, const char *tunnel, const char *relay)
{
	char *text = xasprintf("tunnel { %s%s%s }\n"
			       "relay \"/a\" { upstream = \"ws://x\" %s%s%s }",
	    tunnel == NULL ? "" : limit->key, tunnel == NULL ? "" : " = ",
	    tunnel == NULL ? "" : tunnel, relay == NULL ? "" : limit->key,
	    relay == NULL ? "" : " = ", relay == NULL ? "" : relay);
	struct config *config = relay_text_good(text);
	uint64_t value = limit_of(&config->relays[0], limit);

	config_unref(config);
	free(text);
	return value;
}

static void
every_limit_is_its_own_then_tunnels_then_the_default(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(limits_of_a_relay); i++) {
		const struct limit *limit = &limits_of_a_relay[i];
		uint64_t scale = limit->scale;

		if (limit_in(limit, NULL, NULL) != limit->fallback * scale ||
		    limit_in(limit, "3", NULL) != 3 * scale ||
		    limit_in(limit, NULL, "5") != 5 * scale ||
		    limit_in(limit, "3", "5") != 5 * scale ||
		    (limit->min == 0 && limit_in(limit, "3", "0") != 0))
			fail_msg("%s", limit->key);
	}
}

static void
every_limit_ends_where_it_says(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(limits_of_a_relay); i++) {
		const struct limit *limit = &limits_of_a_relay[i];
		char *most = xasprintf("%llu", (unsigned long long)limit->max);
		char *text = xasprintf("tunnel {\n%s = %llu }", limit->key,
		    (unsigned long long)limit->max + 1);
		struct diag diag = { "" };

		assert_int_equal(limit_in(limit, NULL, most),
		    limit->max * limit->scale);
		assert_null(relay_text_build(text, &diag));
		if (strncmp(diag.text, "t:2: tunnel: ", 13) != 0 ||
		    strstr(diag.text, limit->key) == NULL)
			fail_msg("%s", diag.text);
		free(most);
		free(text);
	}
}

static void
openai_takes_the_limits_of_tunnel_too(void **state)
{
	struct config *config =
	    relay_text_good("openai { api_key = \"env:T_KEY\" lifetime = 9 }\n"
			    "tunnel { lifetime = 7 idle_timeout = 6 }\n"
			    "relay \"/a\" { upstream = \"ws://x\" }");

	(void)state;
	assert_int_equal(config->relays[0].limits.lifetime_ms, 9000);
	assert_int_equal(config->relays[0].limits.idle_ms, 6000);
	assert_int_equal(config->relays[1].limits.lifetime_ms, 7000);
	config_unref(config);
}

/* ---- relay ---- */

static void
relays_follow_openai_in_the_order_of_the_file(void **state)
{
	struct config *config = relay_text_good(
	    "relay \"/b\" { upstream = \"ws://x\" also = {\"/c\"} }\n"
	    "relay \"/a\" { upstream = \"ws://x\" }\n"
	    "openai { api_key = \"env:T_KEY\" }");

	(void)state;
	assert_int_equal(config->relay_count, 3);
	assert_string_equal(config->relays[0].name, "openai");
	assert_string_equal(config->relays[1].name, "/b");
	assert_string_equal(config->relays[1].paths.items[0], "/b");
	assert_string_equal(config->relays[1].paths.items[1], "/c");
	assert_string_equal(config->relays[2].name, "/a");
	assert_ptr_equal(config_find_relay(config, "/c"), &config->relays[1]);
	assert_null(config_find_relay(config, "/c/"));
	config_unref(config);
	config = relay_text_good("");
	assert_int_equal(config->relay_count, 0);
	config_unref(config);
}

#define RELAY "relay \"/a\" { upstream = \"ws://x/?f=1&g&h=\"\n"
#define KEY   "openai { api_key = \"env:T_KEY\"\n"

static const struct {
	const char *text, *wanted, *word;
} bad[] = {
	{ "relay \"/a\" {\n\n ca_file = \"/dev/null\"\nupstream = \"ws://x\" }",
	    "t:3: relay \"/a\": ca_file: ", "wss://" },
	{ KEY "ca_file = \"/dev/null\" url = \"ws://x\" }",
	    "t:2: openai: ca_file: ", "wss://" },
	{ "relay \"/a\" {\n allow_private = 1 }", "t:2: ", "true or false" },
	{ "relay \"/a\" {}", "t:1: relay \"/a\": upstream: ", "missing" },
	{ "relay \"\" {}", "t:1: relay", "title" },
	{ RELAY "header \"\" { value = x } }", "t:2: header", "name" },
	{ RELAY "header \"A\" { value = x } header \"B\" {\n prefix = x } }",
	    "t:3: header \"B\": ", "either" },
	{ RELAY "header \"Keep-alive\" { value = x } }", "t:2: ", "handshake" },
	{ RELAY "header \"te\" { value = x } }", "t:2: ", "handshake" },
	{ RELAY "header \"Trailer\" { value = x } }", "t:2: ", "handshake" },
	{ RELAY "header \"Expect\" { value = x } }", "t:2: ", "handshake" },
	{ RELAY "header \"upgrade\" { value = x } }", "t:2: ", "handshake" },
	{ RELAY "header \"connection\" { value = x } }", "t:2: ", "handshake" },
	{ RELAY "header \"content-length\" { value = x } }",
	    "t:2: ", "handshake" },
	{ RELAY "header \"Transfer-encoding\" { value = x } }",
	    "t:2: ", "handshake" },
	{ RELAY "header \"Proxy-connection\" { value = x } }",
	    "t:2: ", "handshake" },
	{ RELAY "header \"sec-websocket-x\" { value = x } }",
	    "t:2: ", "handshake" },
	{ RELAY "header \"A\" { secret = \"env:T_KEY\" prefix = \"\\n\" } }",
	    "t:2: header \"A\": prefix: ", "control" },
	{ RELAY "query \"\" {} }", "t:2: query", "name" },
	{ RELAY "query \"a b\" {} }", "t:2: query", "name" },
	{ RELAY "query \"f\" {} }", "t:2: query", "leave out" },
	{ RELAY "query \"g\" {} }", "t:2: query", "leave out" },
	{ RELAY "query \"h\" {} }", "t:2: query", "leave out" },
	{ RELAY "query \"q\" { values = {\"\"} } }", "t:2: query \"q\": values",
	    "leave it out" },
	{ RELAY "query \"q\" { default_unless = {\"\"} } }",
	    "t:2: ", "leave it out" },
	{ RELAY "query \"q\" { alias \"a\" { to = \"\" } } }", "t:2: alias",
	    "leave it out" },
	{ RELAY "subprotocols = {\"\"} }", "t:2: relay", "token" },
	{ RELAY "subprotocol_mode = Pass }", "t:2: relay", "pass" },
	{ KEY "organization = \"a\\nb\" }", "t:2: openai: organization",
	    "control" },
	{ KEY "alias \"a\" { model = x } }",
	    "t:2: alias \"a\": model: ", "none of the values" },
	{ KEY "alias \"a\" {} }", "t:2: alias \"a\": model", "missing" },
	{ KEY "paths = {\"/a\", \"/a\"} }", "t:", "already" },
	{ KEY "paths = {\"a\"} }", "t:2: openai: paths", "begins with /" },
	{ KEY "url = \"https://api.openai.com/\" }", "t:2: openai: url",
	    "wss://" },
	{ "relay \"/a\" {\n inherit = openai }",
	    "t:2: relay \"/a\": inherit: ", "before this one" },
	{ "relay \"/a\" {\n inherit = \"/a\" }", "t:2: ", "before this one" },
	{ KEY "ca_file = \"/dev/null\" }\nrelay \"/a\" { inherit = openai\n"
	      "upstream = \"ws://x\" }",
	    "t:", "wss://" },
	{ "relay \"/a\" { upstream = \"ws://x/?model=m\"\n"
	  "session { model = m }\n}",
	    "t:3: relay \"/a\": ", "leave out" },
};

static void
says_in_which_line_what_is_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct diag diag = { "" };
		struct config *config = relay_text_build(bad[i].text, &diag);

		if (config != NULL ||
		    strncmp(diag.text, bad[i].wanted, strlen(bad[i].wanted)) !=
			0 ||
		    strstr(diag.text, bad[i].word) == NULL)
			fail_msg("%s: wanted %s...%s, got %s", bad[i].text,
			    bad[i].wanted, bad[i].word, diag.text);
	}
}

static void
a_parameter_may_resemble_one_of_the_upstream(void **state)
{
	struct config *config = relay_text_good(
	    RELAY "query \"F\" {} query \"ff\" {} query \"1\" {} }");

	(void)state;
	assert_int_equal(config->relays[0].query_count, 3);
	config_unref(config);
}

/* Whether a section with so many of one thing is taken. */
static bool
is_taken(const char *head, const char *each, const char *tail, int count)
{
	struct diag diag = { "" };
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	struct config *config;

	assert_non_null(f);
	(void)fputs(head, f);
	for (int i = 0; i < count; i++)
		(void)fprintf(f, "%s%d%s", each, i, tail);
	(void)fputs("}", f);
	assert_int_equal(fclose(f), 0);
	config = relay_text_build(text, &diag);
	if (config == NULL)
		assert_non_null(strstr(diag.text, "more than"));
	config_unref(config);
	free(text);
	return config != NULL;
}

static void
bounds_how_many_headers_parameters_and_aliases_there_are(void **state)
{
	static const char header[] = " header \"x", query[] = " query \"x",
			  alias[] = " alias \"x", value[] = "\" { value = y }",
			  none[] = "\" {}",
			  model[] = "\" { model = gpt-realtime }";

	(void)state;
	assert_true(is_taken(RELAY, header, value, 32));
	assert_false(is_taken(RELAY, header, value, 33));
	assert_true(is_taken(RELAY, query, none, 32));
	assert_false(is_taken(RELAY, query, none, 33));
	assert_true(is_taken(KEY, alias, model, 256));
	assert_false(is_taken(KEY, alias, model, 257));
}

/* ---- openai ---- */

static void
openai_names_its_customer_in_headers(void **state)
{
	struct config *config =
	    relay_text_good(KEY "organization = \"org\" project = \"proj\" }");
	const struct config_relay *relay = &config->relays[0];

	(void)state;
	assert_int_equal(relay->header_count, 3);
	assert_string_equal(relay->headers[1].name, "OpenAI-Organization");
	assert_string_equal(relay->headers[1].prefix, "org");
	assert_null(relay->headers[1].secret);
	assert_string_equal(relay->headers[2].name, "OpenAI-Project");
	assert_string_equal(relay->headers[2].prefix, "proj");
	config_unref(config);
	config = relay_text_good(KEY "organization = \"\" }");
	assert_int_equal(config->relays[0].header_count, 1);
	config_unref(config);
}

static void
openai_may_have_other_models_or_no_default(void **state)
{
	struct config *config =
	    relay_text_good(KEY "models = {\"m-*\"} default_model = \"m-1\"\n"
				"alias \"old\" { model = \"m-2\" } }");
	const struct config_query *query = &config->relays[0].queries[0];

	(void)state;
	assert_string_equal(query->fallback, "m-1");
	assert_int_equal(query->values.count, 1);
	assert_string_equal(query->aliases[0].from, "old");
	assert_string_equal(query->aliases[0].to, "m-2");
	assert_string_equal(query->fallback_unless.items[0], "call_id");
	assert_string_equal(query->fallback_unless.items[1], "intent");
	config_unref(config);
	config = relay_text_good(KEY "default_model = \"\" }");
	assert_null(config->relays[0].queries[0].fallback);
	config_unref(config);
}

/* ---- inherit ---- */

static void
inherits_the_key_the_way_and_the_rules(void **state)
{
	struct config *config = relay_text_good(
	    KEY "url = \"wss://x/y?z=1\" organization = org lifetime = 3\n"
		"ca_file = \"/dev/null\" allow_private = true\n"
		"alias \"old\" { model = \"gpt-realtime\" } }\n"
		"relay \"/b\" { inherit = openai also = {\"/c\"} }");
	char *first = relay_text_dump(&config->relays[0]), *second;

	(void)state;
	second = relay_text_dump(&config->relays[1]);
	assert_non_null(strstr(second, "also = {\"/c\"}"));
	assert_string_equal(strstr(first, "\tupstream"),
	    strstr(second, "\tupstream"));
	config_unref(config);
	free(first);
	free(second);
}

static void
what_a_section_says_itself_wins(void **state)
{
	struct config *config = relay_text_good(KEY
	    "organization = org lifetime = 3 ca_file = \"/dev/null\" }\n"
	    "relay \"/b\" { inherit = openai upstream = \"ws://w/?intent=q\"\n"
	    "ca_file = \"\" lifetime = 4\n"
	    "header \"openai-organization\" { value = own }\n"
	    "header \"X-A\" { value = b }\n"
	    "query \"model\" { values = {m} } query \"n\" { }\n"
	    "subprotocols = {\"s\"} subprotocol_mode = pass }\n"
	    "relay \"/c\" { inherit = \"/b\" subprotocols = {}\n"
	    "session { model = m } }");
	const struct config_relay *relay = &config->relays[1];

	(void)state;
	assert_false(relay->upstream.tls);
	assert_null(relay->ca_file);
	assert_int_equal(relay->limits.lifetime_ms, 4000);
	assert_int_equal(relay->header_count, 3);
	assert_string_equal(relay->headers[0].prefix, "own");
	assert_string_equal(relay->headers[2].name, "Authorization");
	assert_string_equal(secret_peek(relay->headers[2].secret, NULL),
	    "canary");
	/* model, n, call_id: intent is in the query of upstream */
	assert_int_equal(relay->query_count, 3);
	assert_string_equal(relay->queries[0].values.items[0], "m");
	assert_string_equal(relay->queries[2].name, "call_id");
	assert_int_equal(relay->subprotocols.count, 1);
	assert_true(relay->subprotocol_pass);
	relay = &config->relays[2];
	assert_int_equal(relay->query_count, 2);
	assert_string_equal(relay->queries[0].fallback, "m");
	assert_int_equal(relay->subprotocols.count, 0);
	assert_true(relay->subprotocol_pass);
	config_unref(config);
}

static void
openai_written_as_a_relay_reads_as_the_same(void **state)
{
	struct config *config = relay_text_good(
	    KEY "organization = \"org\" lifetime = 3 max_connections = 4\n"
		"alias \"old\" { model = \"gpt-realtime\" } }");
	char *first = relay_text_dump(&config->relays[0]), *second, *name;

	(void)state;
	assert_null(strstr(first, "canary"));
	config_unref(config);
	config = relay_text_good(first);
	second = relay_text_dump(&config->relays[0]);
	/* but for its name, which is in a comment */
	name = strstr(first, "# openai\n");
	assert_non_null(name);
	assert_memory_equal(first, second, (size_t)(name - first));
	assert_string_equal(strchr(first, '\n'), strchr(second, '\n'));
	config_unref(config);
	free(first);
	free(second);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    every_limit_is_its_own_then_tunnels_then_the_default),
		cmocka_unit_test(every_limit_ends_where_it_says),
		cmocka_unit_test(openai_takes_the_limits_of_tunnel_too),
		cmocka_unit_test(relays_follow_openai_in_the_order_of_the_file),
		cmocka_unit_test(says_in_which_line_what_is_wrong),
		cmocka_unit_test(a_parameter_may_resemble_one_of_the_upstream),
		cmocka_unit_test(
		    bounds_how_many_headers_parameters_and_aliases_there_are),
		cmocka_unit_test(openai_names_its_customer_in_headers),
		cmocka_unit_test(openai_may_have_other_models_or_no_default),
		cmocka_unit_test(inherits_the_key_the_way_and_the_rules),
		cmocka_unit_test(what_a_section_says_itself_wins),
		cmocka_unit_test(openai_written_as_a_relay_reads_as_the_same),
	};

	if (setenv("T_KEY", "canary", 1) != 0)
		return 1;
	return cmocka_run_group_tests_name("config_relay", tests, NULL, NULL);
}
