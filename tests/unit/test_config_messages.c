/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "relay_text.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define OPENAI	 "openai { api_key = \"env:T_KEY\"\n"
#define HEIR	 "}\nrelay \"/b\" { inherit = openai\n"

static void
by_default_nothing_is_read_but_openais_usage(void **state)
{
	struct config *config = relay_text_good(
	    OPENAI HEIR "}\nrelay \"/a\" { upstream = \"ws://x\" }");

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		const struct config_relay *relay = &config->relays[i];

		assert_false(relay->messages.beta);
		assert_false(relay->messages.text);
		assert_null(relay->messages.session);
		assert_int_equal(relay->messages.inspect_bytes, 262144);
		assert_int_equal(relay->messages.usage, i != 2);
		assert_null(relay->message_log.mode);
		assert_null(relay->message_log.file);
		assert_false(relay->require_ticket);
		assert_false(relay->client_secrets);
		assert_int_equal(relay->ticket_s, 600);
		assert_int_equal(relay->ticket_max_s, 7200);
		assert_false(relay->calls);
		assert_string_equal(relay->over_budget, "close");
	}
	config_unref(config);
}

static void
inherits_what_is_not_said(void **state)
{
	struct config *config = relay_text_good(OPENAI
	    "dialect = beta usage = off inspect_bytes = 5000\n"
	    "message_log = full message_log_file = \"/l\"\n"
	    "message_log_bytes = 4096 message_log_keep = 0\n"
	    "over_budget = error\n"
	    "client_secrets = on require_ticket = on ticket_seconds = 60\n"
	    "ticket_seconds_max = 90\n"
	    "session { voice = a client_may = {tools} }" HEIR "}"
	    "relay \"/c\" { inherit = \"/b\" dialect = ga usage = on\n"
	    "message_log = none ticket_seconds = 10 require_ticket = off\n"
	    "session { } over_budget = close }");
	const struct config_relay *relay = &config->relays[1];

	(void)state;
	assert_string_equal(relay->over_budget, "error");
	assert_true(relay->messages.beta);
	assert_false(relay->messages.usage);
	assert_int_equal(relay->messages.inspect_bytes, 5000);
	assert_string_equal(relay->message_log.mode, "full");
	assert_string_equal(relay->message_log.file, "/l");
	assert_int_equal(relay->message_log.max_bytes, 4096);
	assert_int_equal(relay->message_log.keep, 0);
	assert_true(relay->client_secrets);
	assert_true(relay->require_ticket);
	assert_int_equal(relay->ticket_s, 60);
	assert_int_equal(relay->ticket_max_s, 90);
	assert_true(relay->messages.pinned);
	assert_true(json_equal(relay->messages.session,
	    config->relays[0].messages.session));
	assert_string_equal(relay->messages.client_may.items[0], "tools");
	relay = &config->relays[2];
	assert_false(relay->messages.beta);
	assert_true(relay->messages.usage);
	assert_null(relay->message_log.mode);
	assert_int_equal(relay->ticket_s, 10);
	assert_false(relay->require_ticket);
	assert_int_equal(json_object_size(relay->messages.session), 1);
	assert_string_equal(relay->over_budget, "close");
	config_unref(config);
}

static void
clients_that_send_text_are_answered_in_text(void **state)
{
	struct config *config = relay_text_good(
	    OPENAI "session { instructions = \"x\" client_may = "
		   "{output_modalities} }" HEIR "messages = text }"
		   "relay \"/c\" { inherit = openai messages = text\n"
		   "session { output_modalities = {audio} } }"
		   "relay \"/d\" { inherit = \"/b\" messages = events }");
	const json_t *session = config->relays[1].messages.session;

	(void)state;
	assert_true(config->relays[1].messages.text);
	assert_string_equal(json_string_value(
				json_object_get(session, "instructions")),
	    "x");
	assert_string_equal(json_string_value(
				json_array_get(json_object_get(session,
						   "output_modalities"),
				    0)),
	    "text");
	assert_int_equal(config->relays[1].messages.client_may.count, 0);
	session = config->relays[2].messages.session;
	assert_string_equal(json_string_value(
				json_array_get(json_object_get(session,
						   "output_modalities"),
				    0)),
	    "audio");
	/* nothing was changed in what was inherited */
	assert_null(json_object_get(config->relays[0].messages.session,
	    "output_modalities"));
	assert_false(config->relays[3].messages.text);
	config_unref(config);
	config = relay_text_good("relay \"/a\" { upstream = \"ws://x\"\n"
				 "messages = text }");
	session = config->relays[0].messages.session;
	assert_int_equal(json_object_size(session), 2);
	config_unref(config);
}

static void
what_a_section_says_of_dialect_or_text_counts(void **state)
{
	struct config *config =
	    relay_text_good(OPENAI "dialect = beta" HEIR "messages = text }"
				   "relay \"/c\" { inherit = "
				   "\"/b\" dialect = beta }");

	(void)state;
	assert_false(config->relays[1].messages.beta);
	assert_true(config->relays[1].messages.text);
	assert_true(config->relays[2].messages.beta);
	assert_false(config->relays[2].messages.text);
	config_unref(config);
}

static void
calls_past_a_pin_have_to_be_asked_for(void **state)
{
	struct config *config = relay_text_good(OPENAI
	    "calls = true" HEIR "}"
	    "relay \"/c\" { inherit = openai session { } }"
	    "relay \"/d\" { inherit = openai session { } calls = true }");

	(void)state;
	assert_true(config->relays[1].calls);
	assert_false(config->relays[2].calls);
	assert_true(config->relays[3].calls);
	config_unref(config);
}

static const struct {
	const char *text, *wanted, *word;
} bad[] = {
	{ OPENAI "dialect = old }", "t:2: openai: dialect: ", "\"beta\"" },
	{ OPENAI "messages = json }", "t:2: openai: messages: ", "\"text\"" },
	{ OPENAI "dialect = beta messages = text }", "t:2: openai: dialect",
	    "leave it out" },
	{ OPENAI "usage = 1 }", "t:2: openai: usage: ", "true or false" },
	{ OPENAI "inspect_bytes = 4095 }", "t:2: ", "from 4096" },
	{ OPENAI "message_log = all message_log_file = \"/l\" }",
	    "t:2: ", "\"metadata\"" },
	{ OPENAI "message_log = full }",
	    "t:2: openai: message_log: ", "message_log_file" },
	{ OPENAI "message_log = full message_log_file = l }",
	    "t:2: ", "from / on" },
	{ OPENAI "message_log_bytes = 1 }", "t:2: ", "from 4096" },
	{ OPENAI "message_log_keep = 1001 }", "t:2: ", "to 1000" },
	{ OPENAI "over_budget = refuse }", "t:2: openai: over_budget: ",
	    "write \"close\" or \"error\"" },
	{ OPENAI "ticket_seconds = 9 }", "t:2: ", "from 10" },
	{ OPENAI "ticket_seconds = 31 ticket_seconds_max = 30 }",
	    "t:2: ", "from 10 to 30" },
	{ OPENAI "ticket_seconds_max = 7201 }", "t:2: ", "to 7200" },
	{ OPENAI "ticket_once = maybe }",
	    "t:2: openai: ticket_once: ", "true" },
	{ OPENAI "calls = 1 }", "t:2: openai: calls: ", "true or false" },
};

static void
says_which_key_is_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct diag diag = { "" };

		if (relay_text_build(bad[i].text, &diag) != NULL ||
		    strncmp(diag.text, bad[i].wanted, strlen(bad[i].wanted)) !=
			0 ||
		    strstr(diag.text, bad[i].word) == NULL)
			fail_msg("%s: wanted %s...%s, got %s", bad[i].text,
			    bad[i].wanted, bad[i].word, diag.text);
	}
}

static void
a_shorter_maximum_shortens_the_default(void **state)
{
	struct config *config =
	    relay_text_good(OPENAI "ticket_seconds_max = 30 }");

	(void)state;
	assert_int_equal(config->relays[0].ticket_s, 30);
	config_unref(config);
}

static void
reads_its_dump_as_the_same(void **state)
{
	static const char *const texts[] = {
		"relay \"/a\" { upstream = \"ws://x\" messages = text }",
		"relay \"/a\" { upstream = \"ws://x\" dialect = beta\n"
		"usage = on message_log = metadata message_log_file = \"/l\"\n"
		"client_secrets = on require_ticket = on calls = on }",
		"relay \"/a\" { upstream = \"ws://x\" session { model = m\n"
		"voice = v tool_choice = none max_output_tokens = 3\n"
		"output_modalities = {text} } }",
		"relay \"/a\" { upstream = \"ws://x\" session {\n"
		"pinned = off max_output_tokens = inf\n"
		"tool_choice = \"function:f\" client_may = {} } }",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct config *config = relay_text_good(texts[i]);
		char *first = relay_text_dump(&config->relays[0]), *second;

		config_unref(config);
		config = relay_text_good(first);
		second = relay_text_dump(&config->relays[0]);
		config_unref(config);
		assert_string_equal(first, second);
		free(first);
		free(second);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_default_nothing_is_read_but_openais_usage),
		cmocka_unit_test(inherits_what_is_not_said),
		cmocka_unit_test(clients_that_send_text_are_answered_in_text),
		cmocka_unit_test(what_a_section_says_of_dialect_or_text_counts),
		cmocka_unit_test(calls_past_a_pin_have_to_be_asked_for),
		cmocka_unit_test(says_which_key_is_wrong),
		cmocka_unit_test(a_shorter_maximum_shortens_the_default),
		cmocka_unit_test(reads_its_dump_as_the_same),
	};

	if (setenv("T_KEY", "key", 1) != 0)
		return 1;
	return cmocka_run_group_tests_name("config_messages", tests, NULL,
	    NULL);
}
