/* SPDX-License-Identifier: MIT */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/pin.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char rules[] =
    "{\"session\":{\"instructions\":\"a\",\"tools\":[],\"model\":\"m\","
    "\"max_output_tokens\":9,\"audio\":{\"output\":{\"voice\":\"v\"}}},"
    "\"allow\":[\"output_modalities\",\"audio.input\",\"input\"]}";

static void
require(bool condition)
{
	if (!condition)
		abort();
}

static bool
is_text(const json_t *value, const char *text)
{
	return value == NULL ||
	    (json_is_string(value) &&
		strcmp(json_string_value(value), text) == 0);
}

/* Take a member out; what is left in the end nobody has allowed. */
static json_t *
take(json_t *object, const char *name)
{
	json_t *value = json_incref(json_object_get(object, name));

	if (value != NULL)
		json_object_del(object, name);
	return value;
}

static void
require_audio(json_t *session)
{
	json_t *audio = take(session, "audio");
	json_t *output = json_object_get(audio, "output");
	json_t *voice = take(output, "voice");

	require(audio == NULL || json_is_object(audio));
	require(output == NULL || json_is_object(output));
	require(is_text(voice, "v"));
	require(json_object_size(output) == 0);
	json_object_del(audio, "output");
	json_object_del(audio, "input");
	require(json_object_size(audio) == 0);
	json_decref(voice);
	json_decref(audio);
}

static void
require_item(const json_t *item)
{
	const json_t *role = json_object_get(item, "role");

	require(json_is_string(json_object_get(item, "type")));
	require(is_text(role, "user") || is_text(role, "assistant"));
}

/* The rules above, said once more and in other words. */
static void
require_members(json_t *session)
{
	json_t *tokens = take(session, "max_output_tokens");
	json_t *tools = take(session, "tools");
	json_t *input = take(session, "input");
	json_t *item;
	size_t i;

	require(tokens == NULL ||
	    (json_is_integer(tokens) && json_integer_value(tokens) > 0 &&
		json_integer_value(tokens) <= 9));
	require(tools == NULL ||
	    (json_is_array(tools) && json_array_size(tools) == 0));
	json_array_foreach(input, i, item) require_item(item);
	json_decref(tokens);
	json_decref(tools);
	json_decref(input);
	require(is_text(json_object_get(session, "type"), "realtime"));
	require(is_text(json_object_get(session, "instructions"), "a"));
	require(is_text(json_object_get(session, "model"), "m"));
	json_object_del(session, "type");
	json_object_del(session, "instructions");
	json_object_del(session, "model");
	json_object_del(session, "output_modalities");
	require_audio(session);
	require(json_object_size(session) == 0);
}

static void
check(const struct pin *pin, json_t *event)
{
	const char *type = json_string_value(json_object_get(event, "type"));
	struct pin_refusal refusal;
	enum err err = pin_check(pin, event, &refusal);
	const json_t *item = json_object_get(event, "item");

	if (err != ERR_OK) {
		require(err == ERR_DENIED && refusal.code[0] != '\0');
		require(strlen(refusal.param) <= PIN_PARAM_BYTES);
		return;
	}
	require(type != NULL && pin_needs(pin, type) != PIN_NONE);
	if (pin_needs(pin, type) != PIN_ALL)
		return;
	if (strcmp(type, "conversation.item.create") == 0)
		require_item(item);
	require_members(json_object_get(event, "session"));
	require_members(json_object_get(event, "response"));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pin *pin;
	struct pin_refusal refusal;
	struct pin *made = NULL;
	json_t *value = NULL;

	if (pin == NULL) {
		require(
		    json_parse(rules, strlen(rules), &value, NULL) == ERR_OK);
		require(pin_new(value, &pin, NULL) == ERR_OK);
		json_decref(value);
	}
	if (json_parse(data, size, &value, NULL) != ERR_OK)
		return 0;
	/* it may be rules as well, with which its own session passes */
	if (pin_new(value, &made, NULL) == ERR_OK &&
	    json_object_get(json_object_get(value, "session"), "type") == NULL)
		require(
		    pin_check_session(made, json_object_get(value, "session"),
			&refusal) == ERR_OK);
	pin_free(made);
	check(pin, value);
	json_decref(value);
	return 0;
}
