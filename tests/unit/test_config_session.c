/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/xalloc.h"
#include "relay_text.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define OPENAI	 "openai { api_key = \"env:T_KEY\"\n"

static char folder[] = "/tmp/culvert-session.XXXXXX";

/* `openai' with this in it; NULL and diag where it will not do. */
static struct config *
build(const char *keys, struct diag *diag)
{
	char *text = xasprintf(OPENAI "%s\n}", keys);
	struct config *config = relay_text_build(text, diag);

	free(text);
	return config;
}

static struct config *
build_good(const char *keys)
{
	char *text = xasprintf(OPENAI "%s\n}", keys);
	struct config *config = relay_text_good(text);

	free(text);
	return config;
}

static void
assert_session(const char *keys, const char *wanted)
{
	struct config *config = build_good(keys);
	json_t *json = json_loads(wanted, 0, NULL);

	assert_non_null(json);
	if (!json_equal(config->relays[0].messages.session, json)) {
		char *text = json_dumps(config->relays[0].messages.session, 0);

		fail_msg("%s: %s, not %s", keys, text, wanted);
	}
	json_decref(json);
	config_unref(config);
}

/* A file in the folder of this test; the caller frees its path. */
static char *
write_file(const char *name, const void *data, size_t len)
{
	char *path = xasprintf("%s/%s", folder, name);
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	return path;
}

static void
makes_the_members_of_a_session_update(void **state)
{
	(void)state;
	assert_session("session { }", "{\"type\":\"realtime\"}");
	assert_session("session { model = gpt-realtime\n"
		       "instructions = \"Be \\\"kind\\\".\"\n"
		       "tool_choice = required voice = marin\n"
		       "max_output_tokens = 300\n"
		       "output_modalities = {audio} }",
	    "{\"type\":\"realtime\",\"instructions\":\"Be \\\"kind\\\".\","
	    "\"tool_choice\":\"required\",\"max_output_tokens\":300,"
	    "\"audio\":{\"output\":{\"voice\":\"marin\"}},"
	    "\"output_modalities\":[\"audio\"]}");
	assert_session("session { tool_choice = \"function:find\"\n"
		       "max_output_tokens = inf instructions = \"\" }",
	    "{\"type\":\"realtime\",\"max_output_tokens\":\"inf\","
	    "\"tool_choice\":{\"type\":\"function\",\"name\":\"find\"}}");
}

static void
takes_instructions_and_tools_from_files(void **state)
{
	static const char tools[] =
	    "[{\"type\":\"function\",\"name\":\"find\"}]\n";
	char *i = write_file("i", "Sei n\xc3\xa4tt.\n", 11);
	char *t = write_file("t", tools, sizeof(tools) - 1);
	char *keys = xasprintf("session { instructions_file = \"%s\"\n"
			       "tools_file = \"%s\" }",
	    i, t);

	(void)state;
	assert_session(keys,
	    "{\"type\":\"realtime\",\"instructions\":\"Sei n\xc3\xa4tt.\","
	    "\"tools\":[{\"type\":\"function\",\"name\":\"find\"}]}");
	free(keys);
	free(t);
	free(i);
}

static void
pins_and_leaves_what_is_not_fixed_by_default(void **state)
{
	struct config *config = build_good("session { voice = marin }");
	const struct config_messages *messages = &config->relays[0].messages;

	(void)state;
	assert_true(messages->pinned);
	assert_int_equal(messages->client_may.count, 9);
	config_unref(config);
	config = build_good("session { output_modalities = {text} }");
	messages = &config->relays[0].messages;
	assert_int_equal(messages->client_may.count, 8);
	for (size_t i = 0; i < messages->client_may.count; i++)
		assert_string_not_equal(messages->client_may.items[i],
		    "output_modalities");
	config_unref(config);
	config = build_good("session { pinned = false client_may = {tools} }");
	messages = &config->relays[0].messages;
	assert_false(messages->pinned);
	assert_string_equal(messages->client_may.items[0], "tools");
	config_unref(config);
	config = build_good("");
	assert_false(config->relays[0].messages.pinned);
	assert_null(config->relays[0].messages.session);
	config_unref(config);
}

static void
a_model_is_the_only_one_that_can_be_asked_for(void **state)
{
	struct config *config =
	    build_good("session { model = gpt-realtime-mini }\n"
		       "alias \"old\" { model = \"gpt-realtime\" }\n"
		       "alias \"small\" { model = \"gpt-realtime-mini\" }");
	const struct config_relay *relay = &config->relays[0];

	(void)state;
	/* nor is there another session to be had */
	assert_int_equal(relay->query_count, 1);
	assert_int_equal(relay->queries[0].values.count, 1);
	assert_string_equal(relay->queries[0].values.items[0],
	    "gpt-realtime-mini");
	assert_string_equal(relay->queries[0].fallback, "gpt-realtime-mini");
	assert_int_equal(relay->queries[0].fallback_unless.count, 0);
	assert_int_equal(relay->queries[0].alias_count, 1);
	assert_string_equal(relay->queries[0].aliases[0].from, "small");
	config_unref(config);
}

static const struct {
	const char *keys, *wanted, *word;
} bad[] = {
	{ "session { instructions = a\ninstructions_file = \"/a\" }",
	    "t:2: session: instructions: ", "leave out" },
	{ "session { instructions_file = a }", "t:2: session", "from / on" },
	{ "session { instructions_file = \"/nonexistent\" }", "t:2: session",
	    "cannot read /nonexistent" },
	{ "session { instructions_file = \"/\" }", "t:2: session", "cannot" },
	{ "session { tool_choice = all }",
	    "t:2: session: tool_choice: ", "required" },
	{ "session { tool_choice = \"function:\" }", "t:2: ", "token" },
	{ "session { voice = \"a\\nb\" }", "t:2: session: voice", "control" },
	{ "session { output_modalities = {video} }", "t:2: ", "text or audio" },
	{ "session { max_output_tokens = 0 }", "t:2: ", "from 1 to" },
	{ "session { max_output_tokens = 65537 }", "t:2: ", "from 1 to" },
	{ "session { max_output_tokens = infinite }", "t:2: ", "from 1 to" },
	{ "session { model = \"gpt-*\" }", "t:2: session: model", "without *" },
	{ "session { model = gpt-4 }", "t:3: openai: session", "none of" },
	{ "session { pinned = maybe }", "t:2: session: pinned", "true" },
	{ "session { client_may = {\"audio..input\"} }", "t:2: ", "members" },
	{ "session { client_may = {\".audio\"} }", "t:2: ", "members" },
	{ "session { client_may = {\"audio.\"} }", "t:2: ", "members" },
	{ "session { client_may = {\"*\"} }", "t:2: ", "members" },
	{ "session { client_may = {\"\"} }", "t:2: ", "members" },
	{ "session { voice = a client_may = {\"audio.output\"} }",
	    "t:2: ", "fixed" },
	{ "session { voice = a client_may = {\"audio.output.voice.id\"} }",
	    "t:2: ", "fixed" },
	{ "session { client_may = {\"type\"} }", "t:2: ", "fixed" },
	{ "session { model = gpt-realtime client_may = {model} }",
	    "t:2: ", "fixed" },
};

static void
says_what_is_wrong_with_a_session(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct diag diag = { "" };

		if (build(bad[i].keys, &diag) != NULL ||
		    strncmp(diag.text, bad[i].wanted, strlen(bad[i].wanted)) !=
			0 ||
		    strstr(diag.text, bad[i].word) == NULL)
			fail_msg("%s: wanted %s...%s, got %s", bad[i].keys,
			    bad[i].wanted, bad[i].word, diag.text);
	}
}

static void
refuses_files_that_hold_something_else(void **state)
{
	static const struct {
		const char *key, *data;
		size_t len;
		const char *word;
	} files[] = {
		{ "instructions_file", "a\xff", 2, "UTF-8" },
		{ "instructions_file", "a\0b", 3, "UTF-8" },
		{ "tools_file", "{}", 2, "no JSON array" },
		{ "tools_file", "[1,]", 4, "no JSON array" },
		{ "tools_file", "", 0, "no JSON array" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(files); i++) {
		char *path = write_file("bad", files[i].data, files[i].len);
		char *keys =
		    xasprintf("session { %s = \"%s\" }", files[i].key, path);
		struct diag diag = { "" };

		if (build(keys, &diag) != NULL ||
		    strstr(diag.text, files[i].word) == NULL)
			fail_msg("%zu: %s", i, diag.text);
		free(keys);
		free(path);
	}
}

/* As JSON, in which a quote takes two bytes: so much of them fits. */
static bool
is_taken(size_t quotes)
{
	char *data = xcalloc(1, quotes + 1), *path, *keys;
	struct diag diag = { "" };
	struct config *config;

	memset(data, '"', quotes);
	path = write_file("large", data, quotes);
	keys = xasprintf("session { instructions_file = \"%s\" }", path);
	config = build(keys, &diag);
	if (config == NULL)
		assert_non_null(strstr(diag.text, "24576"));
	config_unref(config);
	free(keys);
	free(path);
	free(data);
	return config != NULL;
}

static void
refuses_more_than_a_grant_can_carry(void **state)
{
	(void)state;
	assert_true(is_taken(12000));
	assert_false(is_taken(12288));
	assert_false(is_taken(30000));
}

static void
dumps_what_can_be_read_again_but_no_instructions(void **state)
{
	char *path = write_file("i", "canary-file\n", 12);
	char *keys = xasprintf("session { model = gpt-realtime\n"
			       "instructions_file = \"%s\"\n"
			       "tool_choice = \"function:find\" voice = x\n"
			       "max_output_tokens = inf\n"
			       "client_may = {tools} }",
	    path);
	struct config *config = build_good(keys);
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	assert_non_null(f);
	config_relay_dump(&config->relays[0], f);
	config_unref(config);
	config = build_good("session { instructions = \"canary-text\" }");
	config_relay_dump(&config->relays[0], f);
	config_unref(config);
	assert_int_equal(fclose(f), 0);
	assert_null(strstr(text, "canary"));
	assert_non_null(strstr(text, "# instructions: 11 bytes"));
	assert_non_null(strstr(text, path));
	free(text);
	free(keys);
	free(path);
}

static int
setup(void **state)
{
	(void)state;
	return setenv("T_KEY", "key", 1) != 0 || mkdtemp(folder) == NULL;
}

static int
teardown(void **state)
{
	static const char *const names[] = { "i", "t", "bad", "large" };

	(void)state;
	for (size_t i = 0; i < COUNT(names); i++) {
		char *path = xasprintf("%s/%s", folder, names[i]);

		(void)unlink(path);
		free(path);
	}
	return rmdir(folder);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(makes_the_members_of_a_session_update),
		cmocka_unit_test(takes_instructions_and_tools_from_files),
		cmocka_unit_test(pins_and_leaves_what_is_not_fixed_by_default),
		cmocka_unit_test(a_model_is_the_only_one_that_can_be_asked_for),
		cmocka_unit_test(says_what_is_wrong_with_a_session),
		cmocka_unit_test(refuses_files_that_hold_something_else),
		cmocka_unit_test(refuses_more_than_a_grant_can_carry),
		cmocka_unit_test(
		    dumps_what_can_be_read_again_but_no_instructions),
	};

	return cmocka_run_group_tests_name("config_session", tests, setup,
	    teardown);
}
