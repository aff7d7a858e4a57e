/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include "broker/config/config.h"

#define STORE "store { path = \"/x/y.db\" }\n"
#define KEY   "api_key = \"env:T_ANAM_KEY\"\n"

static char persona_path[] = "/tmp/culvert-test.XXXXXX";

static struct config *
load(const char *body, struct diag *diag)
{
	struct config *config = NULL;
	char text[2048];

	(void)snprintf(text, sizeof(text), STORE "anam {\n%s}\n", body);
	if (config_parse("t", text, strlen(text), &config, diag) != ERR_OK)
		return NULL;
	return config;
}

static void
needs_nothing_but_its_key_and_opens_nothing(void **state)
{
	struct diag diag = { "" };
	struct config *config = load(KEY, &diag);

	(void)state;
	assert_non_null(config);
	assert_string_equal(config->anam->url, "https://api.anam.ai");
	assert_int_equal(config->anam->hosts.count, 1);
	assert_string_equal(config->anam->hosts.items[0], "*.anam.ai");
	assert_int_equal(config->anam->personas.count, 0);
	assert_int_equal(config->anam->kept_count, 0);
	assert_false(config->anam->allow_http);
	assert_false(config->anam->allow_private);
	assert_int_equal(config->anam->session_ttl_s, 3600);
	assert_int_equal(config->anam->token_ttl_s, 3600);
	assert_int_equal(config->anam->limits.connect_ms, 10000);
	assert_null(config_find_persona(config, "x"));
	config_unref(config);
}

static void
reads_what_is_written_and_writes_it_again(void **state)
{
	char body[1024], *text = NULL;
	struct diag diag = { "" };
	struct config *config, *again;
	const struct config_persona *persona;
	size_t len;
	FILE *out;

	(void)state;
	(void)snprintf(body, sizeof(body),
	    KEY "url = \"http://127.0.0.1:9000\" allow_http = true\n"
		"allow_private = true hosts = {\"127.0.0.1\"}\n"
		"personas = {\"a-*\", \"b\"} max_sessions = 7\n"
		"persona \"ours\" { config_file = \"%s\" }\n"
		"public_url = \"https://chat.example\" idle_timeout = 9\n"
		"session_lifetime = 100 max_connections = 5\n",
	    persona_path);
	config = load(body, &diag);
	if (config == NULL)
		fail_msg("%s", diag.text);
	out = open_memstream(&text, &len);
	config_dump(config, out);
	assert_int_equal(fclose(out), 0);
	config_unref(config);
	assert_null(strstr(text, "the-anam-key"));
	assert_null(strstr(text, "You are"));
	assert_int_equal(config_parse("t", text, len, &again, &diag), ERR_OK);
	assert_string_equal(again->anam->url, "http://127.0.0.1:9000");
	assert_true(again->anam->allow_http);
	assert_true(again->anam->allow_private);
	assert_int_equal(again->anam->personas.count, 2);
	assert_int_equal(again->anam->max_sessions, 7);
	assert_int_equal(again->anam->session_ttl_s, 100);
	assert_int_equal(again->anam->token_ttl_s, 100);
	assert_int_equal(again->anam->max_connections, 5);
	assert_int_equal(again->anam->limits.idle_ms, 9000);
	assert_string_equal(again->anam->public_url, "https://chat.example");
	persona = config_find_persona(again, "ours");
	assert_non_null(persona);
	assert_string_equal(json_string_value(json_object_get(persona->value,
				"systemPrompt")),
	    "You are.");
	config_unref(again);
	free(text);
}

static void
says_what_is_wrong(void **state)
{
	static const struct {
		const char *body, *says;
	} cases[] = {
		{ "", "ANAM_API_KEY" },
		{ "api_key = \"sk-1\"", "env:NAME" },
		{ KEY "url = \"api.anam.ai\"", "https://" },
		{ KEY "url = \"wss://api.anam.ai\"", "https://" },
		{ KEY "url = \"https://api.anam.ai/v1\"", "write" },
		{ KEY "url = \"https://u:p@api.anam.ai\"", "user" },
		{ KEY "url = \"http://api.anam.ai\"", "allow_http" },
		{ KEY "public_url = \"chat.example\"", "https://" },
		{ KEY "hosts = {\"*\"}", "any host" },
		{ KEY "hosts = {\"\"}", "host" },
		{ KEY "hosts = {\"x/y\"}", "host" },
		{ KEY "hosts = {\"X.anam.ai\"}", "lower case" },
		{ KEY "personas = {\"\"}", "empty" },
		{ KEY "persona \"x\" { }", "config_file" },
		{ KEY "persona \"\" { config_file = \"/x\" }", "personaId" },
		{ KEY "persona \"x\" { config_file = \"/nowhere\" }",
		    "/nowhere" },
		{ KEY "persona \"x\" { config_file = \"/dev/null\" }",
		    "not JSON" },
		{ KEY "persona \"x\" { config_file = \"/dev/zero\" }",
		    "64 KiB" },
		{ KEY "persona \"x\" { config_file = \"/tmp\" }", "/tmp" },
		{ KEY "session_lifetime = 1", "60" },
		{ KEY "session_lifetime = 60 token_lifetime = 61",
		    "longer than" },
		{ KEY "connect_timeout = 0", "connect_timeout" },
		{ KEY "ca_file = \"/nowhere\"", "/nowhere" },
		{ KEY "nonsense = 1", "nonsense" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct diag diag = { "" };

		if (load(cases[i].body, &diag) != NULL ||
		    strncmp(diag.text, "t:", 2) != 0 ||
		    strstr(diag.text, cases[i].says) == NULL)
			fail_msg("%s: %s", cases[i].body, diag.text);
	}
}

static void
needs_a_store(void **state)
{
	static const char text[] = "anam { " KEY " }\n";
	struct config *config;
	struct diag diag = { "" };

	(void)state;
	assert_int_equal(config_parse("t", text, strlen(text), &config, &diag),
	    ERR_PROTO);
	assert_non_null(strstr(diag.text, "store { path"));
}

static int
init(void **state)
{
	static const char persona[] = "{\"systemPrompt\":\"You are.\"}";
	int fd = mkstemp(persona_path);

	(void)state;
	(void)setenv("T_ANAM_KEY", "the-anam-key", 1);
	return write(fd, persona, strlen(persona)) ==
		    (ssize_t)strlen(persona) &&
		close(fd) == 0
	    ? 0
	    : -1;
}

static int
done(void **state)
{
	(void)state;
	return unlink(persona_path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(needs_nothing_but_its_key_and_opens_nothing),
		cmocka_unit_test(reads_what_is_written_and_writes_it_again),
		cmocka_unit_test(says_what_is_wrong),
		cmocka_unit_test(needs_a_store),
	};

	return cmocka_run_group_tests(tests, init, done);
}
