/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

#include "common/xalloc.h"
#include "openai_int.h"

#define TONE_MS	 1000
#define CHUNK_MS 100

/* One response while it is written. */
struct draft {
	struct openai *o;
	const json_t *params; /* of response.create, or NULL */
	char *id, *item_id;
	char *text;
	bool audio;
	const char *tool; /* the function that is called, or NULL */
	const char *arguments;
};

/* ---- tokens ---- */

/* Whatever of the conversation an earlier response read is cached. */
static json_t *
usage(struct openai *o, const json_t *input, const char *text, bool audio)
{
	json_int_t in_text = 8, in_audio = 0, old_text = 0, old_audio = 0;
	json_int_t out_text = (json_int_t)(strlen(text) + 3) / 4;
	json_int_t out_audio = audio ? TONE_MS / 50 : 0;

	openai_items_tokens(input, &in_text, &in_audio);
	if (input == o->items) {
		old_text = MIN(o->seen_text, in_text);
		old_audio = MIN(o->seen_audio, in_audio);
		o->seen_text = in_text;
		o->seen_audio = in_audio;
	}
	return json_pack("{s:I, s:I, s:I,"
			 " s:{s:I, s:I, s:i, s:I, s:{s:I, s:I, s:i}},"
			 " s:{s:I, s:I}}",
	    "total_tokens", in_text + in_audio + out_text + out_audio,
	    "input_tokens", in_text + in_audio, "output_tokens",
	    out_text + out_audio, "input_token_details", "text_tokens", in_text,
	    "audio_tokens", in_audio, "image_tokens", 0, "cached_tokens",
	    old_text + old_audio, "cached_tokens_details", "text_tokens",
	    old_text, "audio_tokens", old_audio, "image_tokens", 0,
	    "output_token_details", "text_tokens", out_text, "audio_tokens",
	    out_audio);
}

/* ---- objects ---- */

static json_t *
param(const struct draft *d, const char *name)
{
	json_t *value = json_object_get(d->params, name);

	return value == NULL || json_is_null(value)
	    ? json_object_get(d->o->session, name)
	    : value;
}

static json_t *
make_item(const struct draft *d, bool done)
{
	json_t *item = json_pack("{s:s, s:s, s:s, s:s}", "id", d->item_id,
	    "object", "realtime.item", "type",
	    d->tool == NULL ? "message" : "function_call", "status",
	    done ? "completed" : "in_progress");
	json_t *content;

	if (d->tool != NULL) {
		char *call_id = xasprintf("call_%s", strchr(d->item_id, '_'));

		json_object_update_new(item,
		    json_pack("{s:s, s:s, s:s}", "call_id", call_id, "name",
			d->tool, "arguments", done ? d->arguments : ""));
		free(call_id);
		return item;
	}
	content = !done ? json_array()
	    : d->audio
	    ? json_pack("[{s:s, s:s}]", "type", "output_audio", "transcript",
		  d->text)
	    : json_pack("[{s:s, s:s}]", "type", "output_text", "text", d->text);
	json_object_set_new(item, "role", json_string("assistant"));
	json_object_set_new(item, "content", content);
	return item;
}

static json_t *
make_response(const struct draft *d, const char *status)
{
	const json_t *audio = openai_session_audio(d->o, "output");
	const json_t *metadata = json_object_get(d->params, "metadata");

	return json_pack("{s:s, s:s, s:s, s:n, s:[], s:s?, s:[s], s:O,"
			 " s:{s:{s:O, s:O}}, s:n, s:O}",
	    "object", "realtime.response", "id", d->id, "status", status,
	    "status_details", "output", "conversation_id",
	    d->o->response_joins ? d->o->conversation_id : NULL,
	    "output_modalities", d->audio ? "audio" : "text",
	    "max_output_tokens", param(d, "max_output_tokens"), "audio",
	    "output", "format", json_object_get(audio, "format"), "voice",
	    json_object_get(audio, "voice"), "usage", "metadata",
	    metadata == NULL ? json_null() : metadata);
}

/* Members that every event of a content part has. */
static json_t *
where(const struct draft *d)
{
	return json_pack("{s:s, s:s, s:i, s:i}", "response_id", d->id,
	    "item_id", d->item_id, "output_index", 0, "content_index", 0);
}

static json_t *
where_with(const struct draft *d, const char *name, json_t *value)
{
	json_t *members = where(d);

	json_object_set_new(members, name, value);
	return members;
}

/* ---- events ---- */

/* The text in words, each with the blanks after it; a delta each. */
static void
emit_text(const struct draft *d, const char *type)
{
	const char *p = d->text;

	while (*p != '\0') {
		size_t len = strcspn(p, " ");

		len += strspn(p + len, " ");
		openai_emit_paced(d->o, type,
		    where_with(d, "delta", json_stringn(p, len)));
		p += len;
	}
}

static void
emit_tone(const struct draft *d)
{
	enum tone_format format = openai_session_format(d->o, "output");

	for (size_t at = 0; at < TONE_MS; at += CHUNK_MS) {
		char *delta = tone_base64(format, at, CHUNK_MS, TONE_MS);

		openai_emit_paced(d->o, "response.output_audio.delta",
		    where_with(d, "delta", json_string(delta)));
		free(delta);
	}
}

static void
emit_message(const struct draft *d)
{
	const char *type = d->audio ? "audio" : "text";
	const char *name = d->audio ? "transcript" : "text";

	openai_emit_paced(d->o, "response.content_part.added",
	    where_with(d, "part",
		json_pack("{s:s, s:s}", "type", type, name, "")));
	if (d->audio) {
		emit_text(d, "response.output_audio_transcript.delta");
		emit_tone(d);
		openai_emit_paced(d->o, "response.output_audio.done", where(d));
		openai_emit_paced(d->o, "response.output_audio_transcript.done",
		    where_with(d, "transcript", json_string(d->text)));
	} else {
		emit_text(d, "response.output_text.delta");
		openai_emit_paced(d->o, "response.output_text.done",
		    where_with(d, "text", json_string(d->text)));
	}
	openai_emit_paced(d->o, "response.content_part.done",
	    where_with(d, "part",
		json_pack("{s:s, s:s}", "type", type, name, d->text)));
}

static void
emit_call(const struct draft *d, const json_t *item)
{
	json_t *members = where(d);

	json_object_del(members, "content_index");
	json_object_set(members, "call_id", json_object_get(item, "call_id"));
	json_object_set_new(members, "delta", json_string(d->arguments));
	openai_emit_paced(d->o, "response.function_call_arguments.delta",
	    json_copy(members));
	json_object_del(members, "delta");
	json_object_set_new(members, "name", json_string(d->tool));
	json_object_set_new(members, "arguments", json_string(d->arguments));
	openai_emit_paced(d->o, "response.function_call_arguments.done",
	    members);
}

static void
emit_item(const struct draft *d, const char *type, const json_t *item)
{
	openai_emit_paced(d->o, type,
	    json_pack("{s:s, s:i, s:O}", "response_id", d->id, "output_index",
		0, "item", item));
}

static void
emit_joined(const struct draft *d, const char *type, const json_t *item)
{
	size_t count = json_array_size(d->o->items);
	const json_t *last =
	    count == 0 ? NULL : json_array_get(d->o->items, count - 1);

	if (d->o->response_joins)
		openai_emit_paced(d->o, type,
		    json_pack("{s:s?, s:O}", "previous_item_id",
			openai_string(last, "id"), "item", item));
}

static void
emit_response(const struct draft *d, const json_t *input)
{
	struct openai *o = d->o;
	json_t *begun = make_item(d, false), *done = make_item(d, true);
	json_t *response = make_response(d, "completed");

	openai_emit(o, "response.created",
	    json_pack("{s:o}", "response", make_response(d, "in_progress")));
	openai_emit(o, "rate_limits.updated",
	    json_pack("{s:[{s:s, s:i, s:i, s:f}]}", "rate_limits", "name",
		"tokens", "limit", 800000, "remaining", 799000, "reset_seconds",
		0.07));
	emit_item(d, "response.output_item.added", begun);
	emit_joined(d, "conversation.item.added", begun);
	if (d->tool == NULL)
		emit_message(d);
	else
		emit_call(d, done);
	emit_item(d, "response.output_item.done", done);
	emit_joined(d, "conversation.item.done", done);
	json_object_set_new(response, "usage",
	    usage(o, input, d->tool == NULL ? d->text : d->arguments,
		d->audio && d->tool == NULL));
	json_array_append(json_object_get(response, "output"), done);
	openai_emit_paced(o, "response.done",
	    json_pack("{s:O}", "response", response));
	o->response = response;
	o->response_item = done;
	json_decref(begun);
}

/* ---- client events ---- */

/* "/call NAME {...}" calls a tool of the session or of the response. */
static char *
find_call(struct draft *d)
{
	static const char prefix[] = "You said: /call ";
	char *copy, *blank;
	json_t *tool;
	size_t i;

	if (strncmp(d->text, prefix, sizeof(prefix) - 1) != 0)
		return NULL;
	copy = xstrdup(d->text + sizeof(prefix) - 1);
	blank = strchr(copy, ' ');
	if (blank != NULL)
		*blank = '\0';
	json_array_foreach(param(d, "tools"), i, tool)
	{
		const char *name = openai_string(tool, "name");

		if (name == NULL || strcmp(name, copy) != 0)
			continue;
		d->tool = copy;
		d->arguments = blank == NULL ? "{}" : blank + 1;
	}
	return copy;
}

void
openai_response_create(struct openai *o, const json_t *event)
{
	const json_t *params = json_object_get(event, "response");
	const char *conversation = openai_string(params, "conversation");
	const json_t *input = json_object_get(params, "input");
	struct draft d = { .o = o, .params = params };
	const char *modality;
	char *call;

	if (o->response != NULL) {
		openai_fail(o, "conversation_already_has_active_response", NULL,
		    "Conversation already has an active response in progress: "
		    "%s. Wait until the response is finished before creating "
		    "a new one.",
		    openai_string(o->response, "id"));
		return;
	}
	if (params != NULL && !openai_params_check(o, params))
		return;
	input = json_is_array(input) ? input : o->items;
	modality = json_string_value(
	    json_array_get(param(&d, "output_modalities"), 0));
	o->response_joins =
	    conversation == NULL || strcmp(conversation, "none") != 0;
	d.audio = modality == NULL || strcmp(modality, "text") != 0;
	d.id = openai_id("resp");
	d.item_id = openai_id("item");
	d.text = openai_items_answer(input);
	call = find_call(&d);
	emit_response(&d, input);
	free(call);
	free(d.id);
	free(d.item_id);
	free(d.text);
}

void
openai_response_taken(struct openai *o)
{
	if (json_array_size(o->paced) > 0 || o->response == NULL)
		return;
	if (o->response_joins)
		json_array_append(o->items, o->response_item);
	json_decref(o->response);
	json_decref(o->response_item);
	o->response = o->response_item = NULL;
}

void
openai_response_end(struct openai *o, const char *reason)
{
	json_t *item, *response;

	if (o->response == NULL)
		return;
	item = json_deep_copy(o->response_item);
	response = json_deep_copy(o->response);
	json_array_clear(o->paced);
	json_object_set_new(item, "status", json_string("incomplete"));
	json_object_set_new(response, "status", json_string("cancelled"));
	json_object_set_new(response, "status_details",
	    json_pack("{s:s, s:s}", "type", "cancelled", "reason", reason));
	json_array_clear(json_object_get(response, "output"));
	json_array_append(json_object_get(response, "output"), item);
	openai_emit(o, "response.output_item.done",
	    json_pack("{s:O, s:i, s:O}", "response_id",
		json_object_get(response, "id"), "output_index", 0, "item",
		item));
	openai_emit(o, "response.done",
	    json_pack("{s:o}", "response", response));
	json_decref(o->response_item);
	o->response_item = item;
	openai_response_taken(o);
}

void
openai_response_cancel(struct openai *o, const json_t *event)
{
	const char *id = openai_string(event, "response_id");

	if (o->response == NULL ||
	    (id != NULL && strcmp(id, openai_string(o->response, "id")) != 0))
		openai_fail(o, "response_cancel_not_active", NULL,
		    "Cancellation failed: no active response found");
	else
		openai_response_end(o, "client_cancelled");
}
