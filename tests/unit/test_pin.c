/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/pin.h"
#include "common/xalloc.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char rules[] =
    "{\"session\":{\"model\":\"gpt-realtime\","
    "\"instructions\":\"Be kind.\","
    "\"tools\":[{\"type\":\"function\",\"name\":\"look_up\"}],"
    "\"tool_choice\":{\"type\":\"function\",\"name\":\"look_up\"},"
    "\"max_output_tokens\":1024,"
    "\"audio\":{\"output\":{\"voice\":\"marin\"},"
    "\"input\":{\"turn_detection\":{\"type\":\"server_vad\","
    "\"threshold\":0.5}}}},"
    "\"allow\":[\"output_modalities\",\"audio.input\","
    "\"audio.output.speed\",\"conversation\",\"input\",\"metadata\"]}";

static json_t *
parse(const char *text)
{
	json_t *value = NULL;

	if (json_parse(text, strlen(text), &value, NULL) != ERR_OK)
		fail_msg("no JSON: %s", text);
	return value;
}

static struct pin *
make(const char *text)
{
	json_t *value = parse(text);
	struct pin *pin = NULL;

	assert_int_equal(pin_new(value, &pin, NULL), ERR_OK);
	json_decref(value);
	return pin;
}

static enum err
check(const struct pin *pin, const char *text, struct pin_refusal *ret)
{
	json_t *event = parse(text);
	enum err err;

	memset(ret, 'x', sizeof(*ret));
	err = pin_check(pin, event, ret);
	json_decref(event);
	if (err != ERR_OK) {
		assert_int_equal(err, ERR_DENIED);
		assert_true(strlen(ret->param) <= PIN_PARAM_BYTES);
		assert_true(strlen(ret->code) > 0);
		assert_true(strlen(ret->message) > 0);
	}
	return err;
}

static void
refuses_rules_that_are_none(void **state)
{
	static const char *const cases[] = {
		"[]",
		"{}",
		"null",
		"{\"session\":{}}",
		"{\"allow\":[]}",
		"{\"session\":[],\"allow\":[]}",
		"{\"session\":{},\"allow\":{}}",
		"{\"session\":{},\"allow\":[],\"deny\":[]}",
		"{\"session\":{},\"allow\":[1]}",
		"{\"session\":{},\"allow\":[\"\"]}",
		"{\"session\":{},\"allow\":[\".a\"]}",
		"{\"session\":{},\"allow\":[\"a.\"]}",
		"{\"session\":{},\"allow\":[\"a..b\"]}",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct diag diag = { "" };
		struct pin *pin = NULL;
		json_t *value = parse(cases[i]);

		if (pin_new(value, &pin, &diag) != ERR_PROTO)
			fail_msg("%s was taken", cases[i]);
		assert_null(pin);
		assert_string_not_equal(diag.text, "");
		json_decref(value);
	}
	pin_free(NULL);
}

static void
knows_what_has_to_be_seen_of_each_event(void **state)
{
	static const struct {
		const char *type;
		enum pin_need need, need_without_items;
	} cases[] = {
		{ "session.update", PIN_ALL, PIN_ALL },
		{ "response.create", PIN_ALL, PIN_ALL },
		{ "conversation.item.create", PIN_ALL, PIN_TYPE },
		{ "conversation.item.retrieve", PIN_TYPE, PIN_TYPE },
		{ "conversation.item.truncate", PIN_TYPE, PIN_TYPE },
		{ "conversation.item.delete", PIN_TYPE, PIN_TYPE },
		{ "input_audio_buffer.append", PIN_TYPE, PIN_TYPE },
		{ "input_audio_buffer.commit", PIN_TYPE, PIN_TYPE },
		{ "input_audio_buffer.clear", PIN_TYPE, PIN_TYPE },
		{ "output_audio_buffer.clear", PIN_TYPE, PIN_TYPE },
		{ "response.cancel", PIN_TYPE, PIN_TYPE },
		{ "transcription_session.update", PIN_NONE, PIN_NONE },
		{ "session.Update", PIN_NONE, PIN_NONE },
		{ "session.update ", PIN_NONE, PIN_NONE },
		{ "session.create", PIN_NONE, PIN_NONE },
		{ "response.done", PIN_NONE, PIN_NONE },
		{ "", PIN_NONE, PIN_NONE },
	};
	struct pin *pin = make(rules);
	struct pin *voice =
	    make("{\"session\":{\"audio\":{\"output\":{\"voice\":\"ash\"}}},"
		 "\"allow\":[\"instructions\"]}");

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(pin_needs(pin, cases[i].type), cases[i].need);
		assert_int_equal(pin_needs(voice, cases[i].type),
		    cases[i].need_without_items);
	}
	pin_free(pin);
	pin_free(voice);
}

/* Events with such members in them. */
#define UPDATE(members) \
	"{\"type\":\"session.update\",\"session\":{" members "}}"
#define CREATE(members) \
	"{\"type\":\"response.create\",\"response\":{" members "}}"
#define ITEM(members) \
	"{\"type\":\"conversation.item.create\",\"item\":{" members "}}"
#define INPUT(members) \
	CREATE("\"input\":[{" members "}],\"conversation\":\"none\"")

#define USER "\"role\":\"user\",\"content\":[]"

static void
lets_pass_what_is_allowed(void **state)
{
	static const char *const cases[] = {
		UPDATE(""),
		UPDATE("\"type\":\"realtime\""),
		UPDATE("\"instructions\":\"Be kind.\""),
		UPDATE("\"instr\\u0075ctions\":\"\\u0042e kind.\""),
		UPDATE("\"tools\":[{\"name\":\"look_up\",\"type\":"
		       "\"function\"}],\"model\":\"gpt-realtime\""),
		UPDATE("\"max_output_tokens\":1024"),
		UPDATE("\"max_output_tokens\":1"),
		UPDATE("\"output_modalities\":[\"text\"]"),
		UPDATE("\"audio\":{}"),
		UPDATE("\"audio\":{\"output\":{},\"input\":{}}"),
		UPDATE("\"audio\":{\"output\":{\"speed\":1.2,"
		       "\"voice\":\"marin\"},\"input\":{\"transcription\":"
		       "{\"model\":\"whisper-1\"},\"format\":null}}"),
		UPDATE("\"audio\":{\"input\":{\"turn_detection\":"
		       "{\"threshold\":0.5,\"type\":\"server_vad\"}}}"),
		CREATE(""),
		CREATE("\"instructions\":\"Be kind.\""),
		CREATE("\"max_output_tokens\":64,\"metadata\":{\"a\":1}"),
		CREATE("\"input\":[],\"conversation\":\"none\""),
		"{\"event_id\":\"a\",\"type\":\"response.create\"}",
		ITEM("\"type\":\"message\"," USER),
		ITEM("\"type\":\"message\",\"role\":\"assistant\""),
		ITEM("\"type\":\"function_call_output\",\"call_id\":\"a\""),
		INPUT("\"type\":\"message\"," USER),
		INPUT("\"type\":\"item_reference\",\"id\":\"a\""),
		"{\"type\":\"conversation.item.create\","
		"\"previous_item_id\":\"root\",\"event_id\":\"e\","
		"\"item\":{\"type\":\"message\"," USER "}}",
		"{\"type\":\"input_audio_buffer.append\",\"audio\":\"\"}",
	};
	struct pin *pin = make(rules);

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct pin_refusal refusal;

		if (check(pin, cases[i], &refusal) != ERR_OK)
			fail_msg("%s: %s at %s", cases[i], refusal.code,
			    refusal.param);
	}
	pin_free(pin);
}

/* ---- what never passes ---- */

/* Of a session and of a response; a key, and its value. */
static const struct {
	const char *key, *value;
} forbidden[] = {
	{ "instructions", "\"\"" },
	{ "instructions", "\"Be rude.\"" },
	{ "instructions", "\"Be kind. \"" },
	{ "instructions", "null" },
	{ "instructions", "[\"Be kind.\"]" },
	{ "instructions", "{\"text\":\"Be kind.\"}" },
	{ "Instructions", "\"Be kind.\"" },
	{ "instructions ", "\"Be kind.\"" },
	{ "prompt", "{\"id\":\"pmpt_1\"}" },
	{ "prompt", "null" },
	{ "tools", "null" },
	{ "tools", "[]" },
	{ "tools", "[{\"type\":\"function\",\"name\":\"look_up\"},{}]" },
	{ "tools", "[{\"type\":\"function\",\"name\":\"other\"}]" },
	{ "tools",
	    "[{\"type\":\"mcp\",\"server_url\":\"https://a.example\"}]" },
	{ "tools", "{\"0\":{\"type\":\"function\",\"name\":\"look_up\"}}" },
	{ "tool_choice", "\"none\"" },
	{ "tool_choice", "{\"type\":\"function\"}" },
	{ "tool_choice", "{\"type\":\"function\",\"name\":\"other\"}" },
	{ "tool_choice",
	    "{\"type\":\"function\",\"name\":\"look_up\",\"x\":1}" },
	{ "model", "\"gpt-4o\"" },
	{ "model", "null" },
	{ "max_output_tokens", "1025" },
	{ "max_output_tokens", "0" },
	{ "max_output_tokens", "-1" },
	{ "max_output_tokens", "\"inf\"" },
	{ "max_output_tokens", "\"1024\"" },
	{ "max_output_tokens", "1024.0" },
	{ "max_output_tokens", "1e1" },
	{ "max_output_tokens", "0.5" },
	{ "max_output_tokens", "9223372036854775807" },
	{ "max_output_tokens", "null" },
	{ "max_output_tokens", "true" },
	{ "max_output_tokens", "[1]" },
	{ "max_response_output_tokens", "1" },
	{ "audio", "null" },
	{ "audio", "[]" },
	{ "audio", "\"marin\"" },
	{ "audio", "{\"output\":null}" },
	{ "audio", "{\"output\":[]}" },
	{ "audio", "{\"output\":{\"voice\":\"alloy\"}}" },
	{ "audio", "{\"output\":{\"voice\":null}}" },
	{ "audio", "{\"output\":{\"voice\":{\"id\":\"marin\"}}}" },
	{ "audio", "{\"output\":{\"v\\u006fice\":\"alloy\"}}" },
	{ "audio", "{\"output\":{\"speed\":1,\"format\":{}}}" },
	{ "audio", "{\"input\":{},\"output\":{\"voice\":\"alloy\"}}" },
	{ "audio", "{\"voice\":\"marin\"}" },
	{ "audio", "{\"input\":null}" },
	{ "audio", "{\"input\":{\"turn_detection\":null}}" },
	{ "audio",
	    "{\"input\":{\"turn_detection\":{\"type\":\"server_vad\"}}}" },
	{ "audio",
	    "{\"input\":{\"turn_detection\":{\"type\":\"server_vad\","
	    "\"threshold\":0.5,\"create_response\":true}}}" },
	{ "audio", "{\"output.voice\":\"alloy\"}" },
	{ "audio.input", "{}" },
	{ "audio.output.speed", "1" },
	{ "audio.output.voice", "\"alloy\"" },
	{ "session", "{\"instructions\":\"Be rude.\"}" },
	{ "type", "\"transcription\"" },
	{ "type", "\"Realtime\"" },
	{ "type", "[\"realtime\"]" },
	{ "type", "null" },
	{ "tracing", "\"auto\"" },
	{ "include", "[]" },
	{ "truncation", "\"disabled\"" },
	{ "reasoning", "{\"effort\":\"xhigh\"}" },
	{ "parallel_tool_calls", "true" },
	{ "client_secret", "{}" },
	{ "event_id", "\"a\"" },
	/* the beta's names */
	{ "voice", "\"alloy\"" },
	{ "modalities", "[\"text\"]" },
	{ "temperature", "1" },
	{ "turn_detection", "null" },
	{ "input_audio_format", "\"pcm16\"" },
	{ "__proto__", "{\"instructions\":\"Be rude.\"}" },
	{ "", "{}" },
};

/* Ways to write a key: as it is, its last letter escaped, all of it. */
enum {
	KEY_STYLES = 3
};

static char *
write_key(const char *key, int style)
{
	char *text = xcalloc(strlen(key) + 1, 6);

	for (size_t i = 0; key[i] != '\0'; i++) {
		char *end = text + strlen(text);

		if (style == 2 || (style == 1 && key[i + 1] == '\0'))
			sprintf(end, "\\u%04x", (unsigned)key[i]);
		else
			*end = key[i];
	}
	return text;
}

/* Where the member stands among others that are allowed. */
static const char *const neighbours[][2] = {
	{ "", "" },
	{ "\"output_modalities\":[\"audio\"],", "" },
	{ "", ",\"output_modalities\":[\"audio\"]" },
	{ "\"metadata\":{},", ",\"output_modalities\":[\"audio\"]" },
};

/* What is checked, and what stands around its members. */
static const char *const events[][3] = {
	{ "session", "{\"type\":\"session.update\",\"session\":{", "}}" },
	{ "session", "{\"session\":{", "},\"type\":\"session.update\"}" },
	{ "session", "\n{ \"event_id\" : \"e\" ,\t\"session\"\r\n: { ",
	    " } , \"type\" : \"session.update\" }\n" },
	{ "session", "{\"s\\u0065ssion\":{",
	    "},\"t\\u0079pe\":\"session\\u002eupdate\"}" },
	{ "response", "{\"type\":\"response.create\",\"response\":{", "}}" },
	{ "response", "{\"response\":{", "},\"type\":\"response.create\"}" },
	{ "response", " {\t\"response\"\n:{\r",
	    "\r}, \"type\": "
	    "\"respons\\u0065.create\"}" },
};

static char *
write_event(size_t event, size_t between, const char *key, const char *value)
{
	return xasprintf("%s%s\"%s\":%s%s%s", events[event][1],
	    neighbours[between][0], key, value, neighbours[between][1],
	    events[event][2]);
}

static void
try_forbidden(const struct pin *pin, size_t what, const char *key, size_t event,
    size_t between)
{
	char *text = write_event(event, between, key, forbidden[what].value);
	struct pin_refusal refusal;

	if (check(pin, text, &refusal) != ERR_DENIED)
		fail_msg("passed: %s", text);
	if (strncmp(refusal.param, events[event][0],
		strlen(events[event][0])) != 0)
		fail_msg("%s: named %s", text, refusal.param);
	free(text);
}

static void
no_variant_of_a_forbidden_update_passes(void **state)
{
	struct pin *pin = make(rules);
	size_t tried = 0;

	(void)state;
	for (size_t i = 0; i < COUNT(forbidden); i++)
		for (int style = 0; style < KEY_STYLES; style++) {
			char *key = write_key(forbidden[i].key, style);

			for (size_t e = 0; e < COUNT(events); e++)
				for (size_t n = 0; n < COUNT(neighbours);
				     n++, tried++)
					try_forbidden(pin, i, key, e, n);
			free(key);
		}
	assert_true(tried >= 1000);
	pin_free(pin);
}

/* So it is not their form that was refused. */
static void
the_same_variants_pass_with_what_is_allowed(void **state)
{
	struct pin *pin = make(rules);

	(void)state;
	for (int style = 0; style < KEY_STYLES; style++) {
		char *key = write_key("instructions", style);

		for (size_t e = 0; e < COUNT(events); e++)
			for (size_t n = 0; n < COUNT(neighbours); n++) {
				struct pin_refusal refusal;
				char *text =
				    write_event(e, n, key, "\"Be kind.\"");

				if (check(pin, text, &refusal) != ERR_OK)
					fail_msg("%s: %s", text, refusal.param);
				free(text);
			}
		free(key);
	}
	pin_free(pin);
}

/* The allowed value first or last: what is read twice is no JSON here. */
static void
no_repeated_member_is_read(void **state)
{
	static const char *const pairs[] = {
		"\"instructions\":\"Be kind.\",\"instructions\":\"Be rude.\"",
		"\"instructions\":\"Be rude.\",\"instructions\":\"Be kind.\"",
		"\"instructions\":\"Be kind.\",\"instruction\\u0073\":\"\"",
		"\"audio\":{\"output\":{}},\"audi\\u006f\":null",
		"\"audio\":{\"output\":{\"speed\":1,\"speed\":2}}",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(pairs); i++)
		for (size_t e = 0; e < COUNT(events); e++) {
			char *text = xasprintf("%s%s%s", events[e][1], pairs[i],
			    events[e][2]);
			json_t *value = NULL;

			assert_int_equal(json_parse(text, strlen(text), &value,
					     NULL),
			    ERR_PROTO);
			free(text);
		}
}

static void
refuses_events_of_another_form(void **state)
{
	static const struct {
		const char *text, *param, *code;
	} cases[] = {
		{ "{}", "type", "unknown_event" },
		{ "[]", "type", "unknown_event" },
		{ "{\"type\":null}", "type", "unknown_event" },
		{ "{\"type\":[\"response.create\"]}", "type", "unknown_event" },
		{ "{\"type\":\"session.create\"}", "type", "unknown_event" },
		{ "{\"Type\":\"response.create\"}", "type", "unknown_event" },
		{ "{\"type\":\"session.update\"}", "session", "invalid_type" },
		{ "{\"type\":\"session.update\",\"session\":[]}", "session",
		    "invalid_type" },
		{ "{\"type\":\"session.update\",\"session\":null}", "session",
		    "invalid_type" },
		{ "{\"type\":\"session.update\",\"session\":{},"
		  "\"response\":{}}",
		    "", "not_allowed" },
		{ "{\"type\":\"response.create\",\"response\":null}",
		    "response", "invalid_type" },
		{ "{\"type\":\"response.create\",\"instructions\":\"a\"}", "",
		    "not_allowed" },
		{ "{\"type\":\"response.create\",\"response\":{},"
		  "\"session\":{}}",
		    "", "not_allowed" },
		{ "{\"type\":\"response.create\",\"response\":"
		  "{\"type\":\"realtime\"}}",
		    "response.type", "not_allowed" },
	};
	struct pin *pin = make(rules);

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct pin_refusal refusal;

		if (check(pin, cases[i].text, &refusal) != ERR_DENIED)
			fail_msg("passed: %s", cases[i].text);
		assert_string_equal(refusal.param, cases[i].param);
		assert_string_equal(refusal.code, cases[i].code);
	}
	pin_free(pin);
}

static void
names_the_member_that_it_refuses(void **state)
{
	static const struct {
		const char *text, *param, *code;
	} cases[] = {
		{ UPDATE("\"output_modalities\":[],\"audio\":{\"input\":{},"
			 "\"output\":{\"speed\":1,\"voice\":\"alloy\"}}"),
		    "session.audio.output.voice", "pinned" },
		{ UPDATE("\"instructions\":\"\""), "session.instructions",
		    "pinned" },
		{ UPDATE("\"tracing\":\"auto\""), "session.tracing",
		    "not_allowed" },
		{ UPDATE("\"audio\":{\"a b\\n\":1}"), "session.audio",
		    "not_allowed" },
		{ UPDATE("\"Bearer sk-1\":1"), "session", "not_allowed" },
		{ UPDATE("\"a01234567890123456789012345678901234567890123456789"
			 "01234"
			 "56789012345678901234567890123456789012345678901234567"
			 "89012"
			 "34567890\":1"),
		    "session", "not_allowed" },
	};
	struct pin *pin = make(rules);

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct pin_refusal refusal;

		assert_int_equal(check(pin, cases[i].text, &refusal),
		    ERR_DENIED);
		assert_string_equal(refusal.param, cases[i].param);
		assert_string_equal(refusal.code, cases[i].code);
	}
	pin_free(pin);
}

static void
refuses_items_that_speak_for_the_site(void **state)
{
	static const char *const items[] = {
		"\"type\":\"message\",\"role\":\"system\"",
		"\"role\":\"syst\\u0065m\",\"type\":\"message\"",
		"\"type\":\"message\",\"role\":\"developer\"",
		"\"type\":\"message\",\"role\":\"System\"",
		"\"type\":\"message\",\"role\":\"user \"",
		"\"type\":\"message\",\"role\":[\"user\"]",
		"\"type\":\"message\",\"role\":null",
		"\"type\":\"message\"",
		"\"role\":\"user\"",
		"\"role\":\"user\",\"type\":null",
		"\"role\":\"user\",\"type\":[\"message\"]",
		"\"role\":\"system\",\"type\":\"function_call_output\"",
		"\"type\":\"Message\",\"role\":\"user\"",
		"\"type\":\"mcp_list_tools\",\"tools\":[]",
		"\"type\":\"mcp_call\",\"output\":\"a\"",
		"\"type\":\"mcp_approval_request\"",
		"\"type\":\"mcp_approval_response\",\"approve\":true",
		"",
	};
	static const char *const forms[][2] = {
		{ "{\"type\":\"conversation.item.create\",\"item\":{", "}}" },
		{ "{\"item\":{", "},\"type\":\"conversation.item.create\"}" },
		{ "{\"type\":\"response.create\",\"response\":{\"input\":[{",
		    "}]}}" },
		{ "{\"type\":\"response.create\",\"response\":{\"input\":["
		  "{\"type\":\"message\",\"role\":\"user\"},{",
		    "}]}}" },
		{ "{\"type\":\"response.create\",\"response\":{\"input\":[{",
		    "},{\"type\":\"message\",\"role\":\"user\"}]}}" },
		{ "{\"type\":\"response.create\",\"response\":{\"input\":[[{",
		    "}]]}}" },
		{ "{\"type\":\"response.create\",\"response\":{\"input\":{",
		    "}}}" },
		{ "{\"type\":\"conversation.item.create\",\"item\":[{", "}]}" },
	};
	struct pin *pin = make(rules);

	(void)state;
	for (size_t i = 0; i < COUNT(items); i++)
		for (size_t k = 0; k < COUNT(forms); k++) {
			char *text = xasprintf("%s%s%s", forms[k][0], items[i],
			    forms[k][1]);
			struct pin_refusal refusal;

			if (check(pin, text, &refusal) != ERR_DENIED)
				fail_msg("passed: %s", text);
			free(text);
		}
	pin_free(pin);
}

static void
leaves_items_alone_where_no_instructions_are_fixed(void **state)
{
	struct pin *pin = make("{\"session\":{\"max_output_tokens\":9},"
			       "\"allow\":[\"input\",\"instructions\"]}");
	struct pin_refusal refusal;

	(void)state;
	assert_int_equal(check(pin,
			     "{\"type\":\"conversation.item.create\",\"item\":"
			     "{\"type\":\"message\",\"role\":\"system\"}}",
			     &refusal),
	    ERR_OK);
	assert_int_equal(check(pin,
			     "{\"type\":\"response.create\",\"response\":"
			     "{\"instructions\":\"a\",\"input\":["
			     "{\"type\":\"message\",\"role\":\"system\"}]}}",
			     &refusal),
	    ERR_OK);
	pin_free(pin);
}

static void
fixed_tools_restrict_the_types_of_items_alone(void **state)
{
	struct pin *pin = make("{\"session\":{\"tools\":[]},"
			       "\"allow\":[\"instructions\"]}");
	struct pin_refusal refusal;

	(void)state;
	assert_int_equal(check(pin,
			     ITEM("\"type\":\"message\",\"role\":\"system\""),
			     &refusal),
	    ERR_OK);
	assert_int_equal(check(pin, ITEM("\"type\":\"mcp_list_tools\""),
			     &refusal),
	    ERR_DENIED);
	assert_string_equal(refusal.param, "item.type");
	pin_free(pin);
}

static void
what_is_fixed_stays_so_within_what_is_allowed(void **state)
{
	struct pin *pin = make("{\"session\":{\"audio\":{\"output\":"
			       "{\"voice\":\"ash\"}},\"tracing\":{\"a\":1}},"
			       "\"allow\":[\"audio\",\"tracing.b\"]}");
	struct pin_refusal refusal;

	(void)state;
	assert_int_equal(check(pin,
			     "{\"type\":\"session.update\",\"session\":"
			     "{\"audio\":{\"input\":null,\"output\":"
			     "{\"speed\":1,\"voice\":\"ash\"}}}}",
			     &refusal),
	    ERR_OK);
	assert_int_equal(check(pin,
			     "{\"type\":\"session.update\",\"session\":"
			     "{\"audio\":{\"output\":{\"voice\":\"b\"}}}}",
			     &refusal),
	    ERR_DENIED);
	assert_int_equal(check(pin,
			     "{\"type\":\"session.update\",\"session\":"
			     "{\"audio\":null}}",
			     &refusal),
	    ERR_DENIED);
	/* the vendor would replace all of it */
	assert_int_equal(check(pin,
			     "{\"type\":\"session.update\",\"session\":"
			     "{\"tracing\":{\"b\":1}}}",
			     &refusal),
	    ERR_DENIED);
	pin_free(pin);
}

static void
a_path_may_go_below_what_the_vendor_replaces(void **state)
{
	struct pin *pin =
	    make("{\"session\":{},\"allow\":[\"a.b.c\",\"a.d\",\"a.d.e\"]}");
	struct pin_refusal refusal;

	(void)state;
	assert_int_equal(check(pin,
			     "{\"type\":\"session.update\",\"session\":"
			     "{\"a\":{\"b\":{\"c\":{\"x\":1}},\"d\":2}}}",
			     &refusal),
	    ERR_OK);
	assert_int_equal(check(pin,
			     "{\"type\":\"session.update\",\"session\":"
			     "{\"a\":{\"b\":1}}}",
			     &refusal),
	    ERR_DENIED);
	assert_string_equal(refusal.param, "session.a.b");
	pin_free(pin);
}

static void
checks_the_session_of_a_request_alike(void **state)
{
	struct pin *pin = make(rules);
	json_t *good = parse("{\"type\":\"realtime\",\"model\":"
			     "\"gpt-realtime\",\"output_modalities\":[]}");
	json_t *bad = parse("{\"type\":\"realtime\",\"prompt\":{}}");
	struct pin_refusal refusal;

	(void)state;
	assert_int_equal(pin_check_session(pin, good, &refusal), ERR_OK);
	assert_int_equal(pin_check_session(pin, bad, &refusal), ERR_DENIED);
	assert_string_equal(refusal.param, "session.prompt");
	assert_int_equal(pin_check_session(pin, NULL, &refusal), ERR_DENIED);
	json_decref(good);
	json_decref(bad);
	pin_free(pin);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_rules_that_are_none),
		cmocka_unit_test(knows_what_has_to_be_seen_of_each_event),
		cmocka_unit_test(lets_pass_what_is_allowed),
		cmocka_unit_test(no_variant_of_a_forbidden_update_passes),
		cmocka_unit_test(the_same_variants_pass_with_what_is_allowed),
		cmocka_unit_test(no_repeated_member_is_read),
		cmocka_unit_test(refuses_events_of_another_form),
		cmocka_unit_test(names_the_member_that_it_refuses),
		cmocka_unit_test(refuses_items_that_speak_for_the_site),
		cmocka_unit_test(
		    leaves_items_alone_where_no_instructions_are_fixed),
		cmocka_unit_test(fixed_tools_restrict_the_types_of_items_alone),
		cmocka_unit_test(what_is_fixed_stays_so_within_what_is_allowed),
		cmocka_unit_test(a_path_may_go_below_what_the_vendor_replaces),
		cmocka_unit_test(checks_the_session_of_a_request_alike),
	};

	return cmocka_run_group_tests_name("pin", tests, NULL, NULL);
}
