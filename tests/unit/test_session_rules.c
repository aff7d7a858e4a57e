/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/openai/session_rules.h"
#include "common/xalloc.h"
#include "config_text.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct config *config;
static const struct config_relay *pinned, *settled, *open_relay;

static int
setup(void **state)
{
	static const char text[] =
	    "relay \"/pinned\" { upstream = \"ws://x\" session {\n"
	    "model = m instructions = \"Be kind.\" voice = marin\n"
	    "max_output_tokens = 300 } }\n"
	    "relay \"/settled\" { upstream = \"ws://x\" session {\n"
	    "pinned = false voice = marin } }\n"
	    "relay \"/open\" { upstream = \"ws://x\" }";

	(void)state;
	config = config_text(text);
	pinned = &config->relays[0];
	settled = &config->relays[1];
	open_relay = &config->relays[2];
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	config_unref(config);
	return 0;
}

static json_t *
parse(const char *text)
{
	json_t *json = json_loads(text, 0, NULL);

	assert_non_null(json);
	return json;
}

static void
pins_what_is_fixed_and_the_model_of_the_conversation(void **state)
{
	json_t *rules = session_rules_pin(pinned, "m"), *wanted;

	(void)state;
	wanted =
	    parse("{\"session\":{\"type\":\"realtime\",\"model\":\"m\","
		  "\"instructions\":\"Be kind.\","
		  "\"audio\":{\"output\":{\"voice\":\"marin\"}},"
		  "\"max_output_tokens\":300},\"allow\":["
		  "\"audio.input.format\",\"audio.input.turn_detection\","
		  "\"audio.input.noise_reduction\",\"audio.output.format\","
		  "\"audio.output.speed\",\"output_modalities\","
		  "\"conversation\",\"input\",\"metadata\"]}");
	assert_true(json_equal(rules, wanted));
	json_decref(rules);
	json_decref(wanted);
	/* what was configured has not changed */
	assert_null(json_object_get(pinned->messages.session, "model"));
	assert_null(session_rules_pin(settled, "m"));
	assert_null(session_rules_pin(open_relay, "m"));
}

static const struct {
	const char *session, *param;
	enum err pinned, settled, open;
} cases[] = {
	{ "{\"type\":\"realtime\"}", NULL, ERR_OK, ERR_OK, ERR_OK },
	{ "{\"type\":\"realtime\",\"output_modalities\":[\"text\"],"
	  "\"audio\":{\"input\":{\"turn_detection\":null}}}",
	    NULL, ERR_OK, ERR_OK, ERR_OK },
	{ "{\"type\":\"realtime\",\"model\":\"m\","
	  "\"audio\":{\"output\":{\"voice\":\"marin\"}}}",
	    NULL, ERR_OK, ERR_OK, ERR_OK },
	{ "{\"type\":\"realtime\",\"max_output_tokens\":20}", NULL, ERR_OK,
	    ERR_OK, ERR_OK },
	{ "{\"type\":\"realtime\",\"max_output_tokens\":301}",
	    "session.max_output_tokens", ERR_DENIED, ERR_OK, ERR_OK },
	{ "{\"type\":\"realtime\",\"model\":\"n\"}", "session.model",
	    ERR_DENIED, ERR_OK, ERR_OK },
	{ "{\"type\":\"realtime\",\"instructions\":\"\"}",
	    "session.instructions", ERR_DENIED, ERR_OK, ERR_OK },
	{ "{\"type\":\"realtime\",\"tools\":[]}", "session.tools", ERR_DENIED,
	    ERR_OK, ERR_OK },
	{ "{\"type\":\"realtime\",\"audio\":{\"output\":{\"voice\":\"x\"}}}",
	    "session.audio.output.voice", ERR_DENIED, ERR_OK, ERR_OK },
	{ "{\"type\":\"realtime\",\"audio\":{\"input\":{\"transcription\":"
	  "{\"model\":\"whisper-1\"}}}}",
	    "session.audio.input.transcription", ERR_DENIED, ERR_OK, ERR_OK },
	{ "{\"type\":\"transcription\"}", "session.type", ERR_DENIED,
	    ERR_DENIED, ERR_OK },
	{ "{\"type\":\"other\"}", "session.type", ERR_PROTO, ERR_PROTO,
	    ERR_PROTO },
	{ "{\"type\":1}", "session.type", ERR_PROTO, ERR_PROTO, ERR_PROTO },
	{ "{}", "session.type", ERR_PROTO, ERR_PROTO, ERR_PROTO },
	{ "{\"type\":\"realtime\",\"base_url\":\"http://x\"}", "session.*",
	    ERR_PROTO, ERR_PROTO, ERR_PROTO },
	{ "{\"type\":\"realtime\",\"voice\":\"marin\"}", "session.*", ERR_PROTO,
	    ERR_PROTO, ERR_PROTO },
};

static void
check(const struct config_relay *relay, size_t i, enum err wanted)
{
	json_t *session = parse(cases[i].session);
	struct pin_refusal refusal = { .code = NULL };
	enum err err = session_rules_check(relay, "m", session, &refusal);

	if (err != wanted ||
	    (err != ERR_OK &&
		(strcmp(refusal.param, cases[i].param) != 0 ||
		    refusal.code == NULL || refusal.message == NULL)))
		fail_msg("%s: %s: %d, %s", relay->name, cases[i].session, err,
		    err == ERR_OK ? "" : refusal.param);
	json_decref(session);
}

static void
lets_clients_begin_with_what_the_relay_leaves_open(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		check(pinned, i, cases[i].pinned);
		check(settled, i, cases[i].settled);
		check(open_relay, i, cases[i].open);
	}
}

static void
the_relay_wins_over_the_first_and_that_over_the_second(void **state)
{
	json_t *first = parse(
	    "{\"type\":\"realtime\",\"audio\":{\"output\":{\"voice\":\"a\","
	    "\"speed\":1.5}},\"tools\":[1],\"model\":\"m\"}");
	json_t *second =
	    parse("{\"audio\":{\"output\":{\"speed\":2},\"input\":{\"x\":1}},"
		  "\"tools\":[2],\"tool_choice\":\"none\"}");
	json_t *wanted = parse(
	    "{\"type\":\"realtime\",\"audio\":{\"output\":{\"voice\":\"marin\","
	    "\"speed\":1.5},\"input\":{\"x\":1}},\"tools\":[1],"
	    "\"tool_choice\":\"none\"}");
	json_t *merged;

	(void)state;
	assert_int_equal(session_rules_merge(settled, first, second, &merged),
	    ERR_OK);
	assert_true(json_equal(merged, wanted));
	json_decref(merged);
	assert_int_equal(session_rules_merge(open_relay, NULL, second, &merged),
	    ERR_OK);
	assert_true(json_equal(merged, second));
	json_decref(merged);
	assert_int_equal(session_rules_merge(open_relay, NULL, NULL, &merged),
	    ERR_OK);
	assert_null(merged);
	json_decref(first);
	json_decref(second);
	json_decref(wanted);
}

static void
refuses_more_than_a_grant_can_carry(void **state)
{
	char *text = xcalloc(1, CONFIG_SESSION_MAX_BYTES + 1);
	json_t *session, *merged;

	(void)state;
	/* {"i":"..."} */
	memset(text, 'x', CONFIG_SESSION_MAX_BYTES - 8);
	session = json_pack("{s:s}", "i", text);
	assert_int_equal(session_rules_merge(open_relay, session, NULL,
			     &merged),
	    ERR_OK);
	json_decref(merged);
	assert_int_equal(session_rules_merge(settled, session, NULL, &merged),
	    ERR_LIMIT);
	assert_null(merged);
	json_decref(session);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    pins_what_is_fixed_and_the_model_of_the_conversation),
		cmocka_unit_test(
		    lets_clients_begin_with_what_the_relay_leaves_open),
		cmocka_unit_test(
		    the_relay_wins_over_the_first_and_that_over_the_second),
		cmocka_unit_test(refuses_more_than_a_grant_can_carry),
	};

	return cmocka_run_group_tests_name("session_rules", tests, setup,
	    teardown);
}
