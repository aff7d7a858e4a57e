/* SPDX-License-Identifier: MIT */
#include "broker/openai/session_rules.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"

json_t *
session_rules_pin(const struct config_relay *relay, const char *model)
{
	const struct config_messages *messages = &relay->messages;
	json_t *session, *allow;

	if (!messages->pinned)
		return NULL;
	session = json_made(json_deep_copy(messages->session));
	if (model != NULL)
		(void)json_object_set_new(session, "model", json_string(model));
	allow = json_made(json_array());
	for (size_t i = 0; i < messages->client_may.count; i++)
		(void)json_array_append_new(allow,
		    json_string(messages->client_may.items[i]));
	return json_made(
	    json_pack("{s:o, s:o}", "session", session, "allow", allow));
}

static enum err
refuse(struct pin_refusal *ret, enum err err, const char *member,
    const char *code, const char *message)
{
	(void)snprintf(ret->param, sizeof(ret->param), "session.%s", member);
	ret->code = code;
	ret->message = message;
	return err;
}

/* The type, and then no member that the vendor does not know. */
static enum err
check_members(const struct config_relay *relay, const json_t *session,
    struct pin_refusal *ret)
{
	static const char *const known[] = { "type", "model", "instructions",
		"tools", "tool_choice", "max_output_tokens",
		"output_modalities", "audio", "tracing", "prompt", "truncation",
		"include" };
	const char *type = json_string_value(json_object_get(session, "type")),
		   *name;
	json_t *value;

	if (type == NULL)
		return refuse(ret, ERR_PROTO, "type",
		    "missing_required_parameter",
		    "The type of the session is missing.");
	if (strcmp(type, "realtime") != 0 && strcmp(type, "transcription") != 0)
		return refuse(ret, ERR_PROTO, "type", "invalid_value",
		    "The type of a session is realtime or transcription.");
	if (relay->messages.session != NULL && strcmp(type, "realtime") != 0)
		return refuse(ret, ERR_DENIED, "type", "pinned",
		    "This site serves sessions of the type realtime.");
	json_object_foreach((json_t *)(uintptr_t)session, name, value)
	{
		size_t i = 0;

		while (i < sizeof(known) / sizeof(known[0]) &&
		    strcmp(known[i], name) != 0)
			i++;
		/* its name is the client's: it does not go into an answer */
		if (i == sizeof(known) / sizeof(known[0]))
			return refuse(ret, ERR_PROTO, "*", "unknown_parameter",
			    "The session has a member that is not known.");
	}
	return ERR_OK;
}

enum err
session_rules_check(const struct config_relay *relay, const char *model,
    const json_t *session, struct pin_refusal *ret)
{
	json_t *rules;
	struct pin *pin;
	enum err err = check_members(relay, session, ret);

	rules = err == ERR_OK ? session_rules_pin(relay, model) : NULL;
	if (rules == NULL)
		return err;
	err = pin_new(rules, &pin, NULL);
	json_decref(rules);
	if (err != ERR_OK)
		abort(); /* they are made here, of what was checked */
	err = pin_check_session(pin, session, ret);
	pin_free(pin);
	return err;
}

/* Add what `into' does not have; objects on both sides are merged. */
static void
merge(json_t *into, const json_t *from)
{
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)from, name, value)
	{
		json_t *own = json_object_get(into, name);

		if (own == NULL)
			(void)json_object_set_new(into, name,
			    json_made(json_deep_copy(value)));
		else if (json_is_object(own) && json_is_object(value))
			merge(own, value); /* as deep as json_parse() lets */
	}
}

enum err
session_rules_merge(const struct config_relay *relay, const json_t *first,
    const json_t *second, json_t **ret)
{
	const json_t *const from[] = { relay->messages.session, first, second };
	json_t *merged = json_made(json_object());
	size_t len;
	char *text;

	*ret = NULL;
	for (size_t i = 0; i < 3; i++)
		merge(merged, from[i]);
	/* that is the handshake's, or the call's, to say */
	(void)json_object_del(merged, "model");
	text = json_text(merged, &len);
	free(text);
	if (json_object_size(merged) == 0 || len > CONFIG_SESSION_MAX_BYTES) {
		json_decref(merged);
		return len > CONFIG_SESSION_MAX_BYTES ? ERR_LIMIT : ERR_OK;
	}
	*ret = merged;
	return ERR_OK;
}
