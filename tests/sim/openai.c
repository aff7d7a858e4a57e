/* SPDX-License-Identifier: MIT */
#include "openai.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/crypt.h"
#include "common/json.h"
#include "common/xalloc.h"
#include "openai_int.h"

struct verb {
	const char *type;
	void (*run)(struct openai *o, const json_t *event);
};

static const struct verb verbs[] = {
	{ "session.update", openai_session_update },
	{ "input_audio_buffer.append", openai_audio_append },
	{ "input_audio_buffer.commit", openai_audio_commit },
	{ "input_audio_buffer.clear", openai_audio_clear },
	{ "conversation.item.create", openai_item_create },
	{ "conversation.item.retrieve", openai_item_retrieve },
	{ "conversation.item.truncate", openai_item_truncate },
	{ "conversation.item.delete", openai_item_delete },
	{ "response.create", openai_response_create },
	{ "response.cancel", openai_response_cancel },
};

#define VERBS (sizeof(verbs) / sizeof(*verbs))

/* What a transcription session takes. */
static bool
is_for_transcription(const char *type)
{
	return strcmp(type, "session.update") == 0 ||
	    strncmp(type, "input_audio_buffer.", 19) == 0;
}

char *
openai_id(const char *prefix)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				     "abcdefghijklmnopqrstuvwxyz0123456789";
	uint8_t random[21];
	char text[sizeof(random) + 1] = "";

	crypt_random(random, sizeof(random));
	for (size_t i = 0; i < sizeof(random); i++)
		text[i] = digits[random[i] % 62];
	return xasprintf("%s_%s", prefix, text);
}

static json_t *
make_event(const char *type, json_t *members)
{
	char *id = openai_id("event");
	json_t *event = json_pack("{s:s, s:s}", "type", type, "event_id", id);

	free(id);
	json_object_update_missing(event, members);
	json_decref(members);
	return event;
}

void
openai_emit(struct openai *o, const char *type, json_t *members)
{
	json_array_append_new(o->out, make_event(type, members));
}

void
openai_emit_paced(struct openai *o, const char *type, json_t *members)
{
	json_array_append_new(o->paced, make_event(type, members));
}

static json_t *
make_error(const char *type, const char *code, const char *message,
    const char *param, const char *event_id)
{
	json_t *error =
	    json_pack("{s:s, s:s?, s:s, s:s?, s:s?}", "type", type, "code",
		code, "message", message, "param", param, "event_id", event_id);

	return make_event("error", json_pack("{s:o}", "error", error));
}

json_t *
openai_error_event(const char *type, const char *code, const char *message,
    const char *param)
{
	return make_error(type, code, message, param, NULL);
}

void
openai_fail(struct openai *o, const char *code, const char *param,
    const char *fmt, ...)
{
	char message[512];
	va_list ap;
	json_t *event;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	event = make_error("invalid_request_error", code, message, param,
	    o->event_id);
	/* A message that was cut inside of a character is no UTF-8. */
	if (event == NULL || json_object_get(event, "error") == NULL) {
		json_decref(event);
		event = make_error("invalid_request_error", code,
		    "Invalid value.", NULL, NULL);
	}
	json_array_append_new(o->out, event);
}

const char *
openai_string(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

struct openai *
openai_new(enum openai_kind kind, const char *model, int64_t expires_at)
{
	struct openai *o = xcalloc(1, sizeof(*o));

	o->kind = kind;
	o->conversation_id = openai_id("conv");
	o->session = openai_session_new(kind, model, expires_at);
	o->items = json_array();
	o->out = json_array();
	o->paced = json_array();
	openai_emit(o, "session.created",
	    json_pack("{s:o}", "session", json_deep_copy(o->session)));
	return o;
}

void
openai_free(struct openai *o)
{
	if (o == NULL)
		return;
	free(o->conversation_id);
	free(o->speech_item_id);
	json_decref(o->session);
	json_decref(o->items);
	json_decref(o->out);
	json_decref(o->paced);
	json_decref(o->response);
	json_decref(o->response_item);
	free(o);
}

static void
fail_type(struct openai *o, const char *type)
{
	char list[512] = "";
	size_t len = 0;

	for (size_t i = 0; i < VERBS && len < sizeof(list); i++)
		len += (size_t)snprintf(list + len, sizeof(list) - len,
		    "%s'%s'", i == 0 ? "" : ", ", verbs[i].type);
	openai_fail(o, "invalid_value", "type",
	    "Invalid value: '%.100s'. Supported values are: %s.", type, list);
}

static void
run_event(struct openai *o, const json_t *event)
{
	const char *type = openai_string(event, "type");

	if (type == NULL) {
		openai_fail(o, "missing_required_parameter", "type",
		    "Missing required parameter: 'type'.");
		return;
	}
	for (size_t i = 0; i < VERBS; i++) {
		if (strcmp(verbs[i].type, type) != 0)
			continue;
		if (o->kind == OPENAI_TRANSCRIPTION &&
		    !is_for_transcription(type))
			break;
		verbs[i].run(o, event);
		return;
	}
	fail_type(o, type);
}

void
openai_receive(struct openai *o, const void *data, size_t len)
{
	json_t *event = NULL;

	if (json_parse(data, len, &event, NULL) != ERR_OK ||
	    !json_is_object(event)) {
		openai_fail(o, "invalid_json", NULL,
		    "The message is not a JSON object.");
		json_decref(event);
		return;
	}
	o->event_id = openai_string(event, "event_id");
	run_event(o, event);
	o->event_id = NULL;
	json_decref(event);
}

void
openai_receive_binary(struct openai *o)
{
	openai_fail(o, "invalid_message", NULL,
	    "Binary messages are not supported; send JSON as text.");
}

enum openai_due
openai_due(const struct openai *o)
{
	if (json_array_size(o->out) > 0)
		return OPENAI_NOW;
	return json_array_size(o->paced) > 0 ? OPENAI_PACED : OPENAI_NOTHING;
}

json_t *
openai_next(struct openai *o)
{
	bool paced = json_array_size(o->out) == 0;
	json_t *queue = paced ? o->paced : o->out;
	json_t *event = json_incref(json_array_get(queue, 0));

	json_array_remove(queue, 0);
	if (paced)
		openai_response_taken(o);
	return event;
}
