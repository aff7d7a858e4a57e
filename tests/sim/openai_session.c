/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "openai_int.h"

enum kind {
	STRING,
	NUMBER,
	LIMIT, /* an integer, or "inf" */
	BOOLEAN,
	LIST,
	OBJECT, /* its members are checked */
	ANY,
};

struct field {
	const char *path;
	enum kind kind;
	bool nullable;
	const char *values; /* of a string, with commas; NULL: any */
};

#define FORMATS "audio/pcm,audio/pcmu,audio/pcma"
#define EFFORTS "minimal,low,medium,high,xhigh"

/* What a session of type realtime has; all else rejects an update. */
static const struct field realtime_fields[] = {
	{ "type", STRING, false, "realtime" },
	{ "model", STRING, false, NULL },
	{ "instructions", STRING, false, NULL },
	{ "output_modalities", LIST, false, NULL },
	{ "max_output_tokens", LIMIT, false, NULL },
	{ "tools", LIST, false, NULL },
	{ "tool_choice", ANY, false, NULL },
	{ "parallel_tool_calls", BOOLEAN, false, NULL },
	{ "include", LIST, true, NULL },
	{ "prompt", ANY, true, NULL },
	{ "tracing", ANY, true, NULL },
	{ "truncation", ANY, true, NULL },
	{ "reasoning", OBJECT, true, NULL },
	{ "reasoning.effort", STRING, true, EFFORTS },
	{ "audio", OBJECT, false, NULL },
	{ "audio.input", OBJECT, false, NULL },
	{ "audio.input.format", OBJECT, false, NULL },
	{ "audio.input.format.type", STRING, false, FORMATS },
	{ "audio.input.format.rate", NUMBER, false, NULL },
	{ "audio.input.noise_reduction", OBJECT, true, NULL },
	{ "audio.input.noise_reduction.type", STRING, false,
	    "near_field,far_field" },
	{ "audio.input.noise_reduction.strength", NUMBER, true, NULL },
	{ "audio.input.transcription", OBJECT, true, NULL },
	{ "audio.input.transcription.model", STRING, false, NULL },
	{ "audio.input.transcription.language", STRING, true, NULL },
	{ "audio.input.transcription.prompt", STRING, true, NULL },
	{ "audio.input.transcription.delay", STRING, true, NULL },
	{ "audio.input.turn_detection", OBJECT, true, NULL },
	{ "audio.input.turn_detection.type", STRING, false,
	    "server_vad,semantic_vad" },
	{ "audio.input.turn_detection.threshold", NUMBER, true, NULL },
	{ "audio.input.turn_detection.prefix_padding_ms", NUMBER, true, NULL },
	{ "audio.input.turn_detection.silence_duration_ms", NUMBER, true,
	    NULL },
	{ "audio.input.turn_detection.idle_timeout_ms", NUMBER, true, NULL },
	{ "audio.input.turn_detection.create_response", BOOLEAN, true, NULL },
	{ "audio.input.turn_detection.interrupt_response", BOOLEAN, true,
	    NULL },
	{ "audio.input.turn_detection.eagerness", STRING, true,
	    "low,medium,high,auto" },
	{ "audio.output", OBJECT, false, NULL },
	{ "audio.output.format", OBJECT, false, NULL },
	{ "audio.output.format.type", STRING, false, FORMATS },
	{ "audio.output.format.rate", NUMBER, false, NULL },
	{ "audio.output.voice", ANY, false, NULL },
	{ "audio.output.speed", NUMBER, false, NULL },
	{ NULL, ANY, false, NULL },
};

static const struct field params_fields[] = {
	{ "instructions", STRING, true, NULL },
	{ "output_modalities", LIST, true, NULL },
	{ "max_output_tokens", LIMIT, true, NULL },
	{ "tools", LIST, true, NULL },
	{ "tool_choice", ANY, true, NULL },
	{ "parallel_tool_calls", BOOLEAN, true, NULL },
	{ "conversation", STRING, true, "auto,none" },
	{ "metadata", ANY, true, NULL },
	{ "prompt", ANY, true, NULL },
	{ "reasoning", ANY, true, NULL },
	{ "input", LIST, true, NULL },
	{ "audio", OBJECT, true, NULL },
	{ "audio.output", OBJECT, true, NULL },
	{ "audio.output.format", OBJECT, true, NULL },
	{ "audio.output.format.type", STRING, false, FORMATS },
	{ "audio.output.format.rate", NUMBER, false, NULL },
	{ "audio.output.voice", ANY, true, NULL },
	{ NULL, ANY, false, NULL },
};

json_t *
openai_session_new(enum openai_kind kind, const char *model, int64_t expires_at)
{
	char *id = openai_id("sess");
	json_t *session, *input;

	input = json_pack("{s:{s:s, s:i}, s:n, s:n, s:{s:s, s:f, s:i, s:i,"
			  " s:n, s:b, s:b}}",
	    "format", "type", "audio/pcm", "rate", 24000, "transcription",
	    "noise_reduction", "turn_detection", "type", "server_vad",
	    "threshold", 0.5, "prefix_padding_ms", 300, "silence_duration_ms",
	    200, "idle_timeout_ms", "create_response", 1, "interrupt_response",
	    1);
	if (kind == OPENAI_TRANSCRIPTION)
		session = json_pack("{s:s, s:s, s:s, s:I, s:{s:o}, s:n}",
		    "type", "transcription", "object",
		    "realtime.transcription_session", "id", id, "expires_at",
		    (json_int_t)expires_at, "audio", "input", input, "include");
	else
		session = json_pack(
		    "{s:s, s:s, s:s, s:s, s:[s], s:s, s:[], s:s, s:s, s:n,"
		    " s:s, s:n, s:I, s:{s:o, s:{s:{s:s, s:i}, s:s, s:f}}, s:n}",
		    "type", "realtime", "object", "realtime.session", "id", id,
		    "model", model, "output_modalities", "audio",
		    "instructions", "You are a helpful, simulated AI.", "tools",
		    "tool_choice", "auto", "max_output_tokens", "inf",
		    "tracing", "truncation", "auto", "prompt", "expires_at",
		    (json_int_t)expires_at, "audio", "input", input, "output",
		    "format", "type", "audio/pcm", "rate", 24000, "voice",
		    "marin", "speed", 1.0, "include");
	free(id);
	return session;
}

/* ---- checking ---- */

struct check {
	struct openai *o;
	const struct field *fields;
	const char *root; /* "session" or "response" */
};

static bool
has_kind(const struct field *field, const json_t *value)
{
	if (json_is_null(value))
		return field->nullable || field->kind == ANY;
	switch (field->kind) {
	case STRING:
		return json_is_string(value);
	case NUMBER:
		return json_is_number(value);
	case LIMIT:
		return json_is_integer(value) || json_is_string(value);
	case BOOLEAN:
		return json_is_boolean(value);
	case LIST:
		return json_is_array(value);
	case OBJECT:
		return json_is_object(value);
	case ANY:
		return true;
	}
	return false;
}

static bool
check_value(const struct check *check, const struct field *field,
    const char *param, const json_t *value)
{
	static const char *const names[] = { "a string", "a number",
		"an integer or 'inf'", "a boolean", "an array", "an object",
		"a value" };
	const char *text = json_string_value(value);

	if (!has_kind(field, value)) {
		openai_fail(check->o, "invalid_type", param,
		    "Invalid type for '%s': expected %s.", param,
		    names[field->kind]);
		return false;
	}
	if (text != NULL && field->values != NULL &&
	    !str_list_has(field->values, strlen(field->values), text)) {
		openai_fail(check->o, "invalid_value", param,
		    "Invalid value: '%.100s'. Supported values are: %s.", text,
		    field->values);
		return false;
	}
	return true;
}

static bool
check_object(const struct check *check, const char *path, const json_t *object)
{
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)object, name, value)
	{
		char here[160], param[180];
		const struct field *field = check->fields;

		snprintf(here, sizeof(here), "%s%s%.60s", path,
		    *path == '\0' ? "" : ".", name);
		snprintf(param, sizeof(param), "%s.%s", check->root, here);
		while (field->path != NULL && strcmp(field->path, here) != 0)
			field++;
		if (field->path == NULL) {
			openai_fail(check->o, "unknown_parameter", param,
			    "Unknown parameter: '%s'.", param);
			return false;
		}
		if (!check_value(check, field, param, value))
			return false;
		if (field->kind == OBJECT && json_is_object(value) &&
		    !check_object(check, here, value))
			return false;
	}
	return true;
}

/* ["text"] or ["audio"]; the vendor takes no both in GA. */
static bool
check_modalities(const struct check *check, const json_t *object)
{
	const json_t *list = json_object_get(object, "output_modalities");
	const char *only = json_string_value(json_array_get(list, 0));

	if (list == NULL || json_is_null(list))
		return true;
	if (json_array_size(list) == 1 && only != NULL &&
	    (strcmp(only, "text") == 0 || strcmp(only, "audio") == 0))
		return true;
	openai_fail(check->o, "invalid_value",
	    strcmp(check->root, "session") == 0 ? "session.output_modalities"
						: "response.output_modalities",
	    "Invalid modalities. Supported combinations are: ['text'] and "
	    "['audio'].");
	return false;
}

bool
openai_params_check(struct openai *o, const json_t *params)
{
	struct check check = { o, params_fields, "response" };

	return check_object(&check, "", params) &&
	    check_modalities(&check, params);
}

bool
openai_session_check(struct openai *o, const json_t *session)
{
	struct check check = { o, realtime_fields, "session" };
	const char *type = openai_string(session, "type");

	if (type == NULL) {
		openai_fail(o, "missing_required_parameter", "session.type",
		    "Missing required parameter: 'session.type'.");
		return false;
	}
	if (o->kind == OPENAI_TRANSCRIPTION) {
		if (strcmp(type, "transcription") == 0)
			return true;
		openai_fail(o, "invalid_value", "session.type",
		    "Invalid value: '%.100s'. Supported values are: "
		    "'transcription'.",
		    type);
		return false;
	}
	return check_object(&check, "", session) &&
	    check_modalities(&check, session);
}

/* ---- changing ---- */

/*
 * Members replace members; an object is merged into an object, but one of
 * another type (turn_detection, format) takes its place.
 */
static void
merge(json_t *into, const json_t *from)
{
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)from, name, value)
	{
		json_t *old = json_object_get(into, name);
		const char *old_type = openai_string(old, "type");
		const char *type = openai_string(value, "type");
		bool same = old_type == NULL || type == NULL ||
		    strcmp(old_type, type) == 0;

		if (json_is_object(old) && json_is_object(value) && same)
			merge(old, value);
		else
			json_object_set_new(into, name, json_deep_copy(value));
	}
}

void
openai_session_update(struct openai *o, const json_t *event)
{
	const json_t *session = json_object_get(event, "session");

	if (!json_is_object(session)) {
		openai_fail(o, "missing_required_parameter", "session",
		    "Missing required parameter: 'session'.");
		return;
	}
	if (!openai_session_check(o, session))
		return;
	merge(o->session, session);
	/* A copy: later updates must not change what is still queued. */
	openai_emit(o, "session.updated",
	    json_pack("{s:o}", "session", json_deep_copy(o->session)));
}

json_t *
openai_session_make(const json_t *wanted, int64_t now, json_t **ret_error)
{
	const char *type = openai_string(wanted, "type");
	bool transcription = type != NULL && strcmp(type, "transcription") == 0;
	struct openai *o =
	    openai_new(transcription ? OPENAI_TRANSCRIPTION : OPENAI_REALTIME,
		"gpt-realtime", now + OPENAI_SESSION_S);
	json_t *session = NULL;

	json_array_clear(o->out);
	if (wanted == NULL || openai_session_check(o, wanted)) {
		merge(o->session, wanted);
		session = json_incref(o->session);
	} else {
		*ret_error = json_incref(
		    json_object_get(json_array_get(o->out, 0), "error"));
		json_object_del(*ret_error, "event_id");
	}
	openai_free(o);
	return session;
}

json_t *
openai_session_audio(const struct openai *o, const char *side)
{
	return json_object_get(json_object_get(o->session, "audio"), side);
}

enum tone_format
openai_session_format(const struct openai *o, const char *side)
{
	return tone_format_parse(openai_string(
	    json_object_get(openai_session_audio(o, side), "format"), "type"));
}
