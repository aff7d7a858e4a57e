/* SPDX-License-Identifier: MIT */
#include "tunnel/dialect.h"

#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- what is renamed ---- */

struct name {
	const char *beta, *ga;
};

static const struct name server_events[] = {
	{ "response.text.delta", "response.output_text.delta" },
	{ "response.text.done", "response.output_text.done" },
	{ "response.audio.delta", "response.output_audio.delta" },
	{ "response.audio.done", "response.output_audio.done" },
	{ "response.audio_transcript.delta",
	    "response.output_audio_transcript.delta" },
	{ "response.audio_transcript.done",
	    "response.output_audio_transcript.done" },
	{ "conversation.item.created", "conversation.item.added" },
};

/* The same, of a session that only transcribes. */
static const struct name transcription_events[] = {
	{ "transcription_session.created", "session.created" },
	{ "transcription_session.updated", "session.updated" },
	{ "transcription_session.update", "session.update" },
};

/* Parts of an item that the model has made. */
static const struct name contents[] = {
	{ "text", "output_text" },
	{ "audio", "output_audio" },
};

static const struct name formats[] = {
	{ "pcm16", "audio/pcm" },
	{ "g711_ulaw", "audio/pcmu" },
	{ "g711_alaw", "audio/pcma" },
};

enum value {
	SAME,
	MODALITIES,
	FORMAT,
	TOKENS, /* the beta's responses have GA's name */
};

/* Members of a session or response; in GA some are in "audio". */
static const struct member {
	const char *beta, *side, *ga;
	enum value value;
} members[] = {
	{ "modalities", NULL, "output_modalities", MODALITIES },
	{ "max_response_output_tokens", NULL, "max_output_tokens", TOKENS },
	{ "input_audio_format", "input", "format", FORMAT },
	{ "input_audio_transcription", "input", "transcription", SAME },
	{ "input_audio_noise_reduction", "input", "noise_reduction", SAME },
	{ "turn_detection", "input", "turn_detection", SAME },
	{ "output_audio_format", "output", "format", FORMAT },
	{ "voice", "output", "voice", SAME },
	{ "speed", "output", "speed", SAME },
};

/*
 * What the GA interface has no place for in an update, and would refuse all
 * of it for; the model is the one that the connection was opened with.
 */
static const char *const dropped[] = { "temperature", "model",
	"client_secret" };

static bool
is_text(const json_t *value, const char *text)
{
	return json_is_string(value) &&
	    strcmp(json_string_value(value), text) == 0;
}

/* Rename a string that is in the table; whether it was. */
static bool
rename_value(json_t *object, const char *member, const struct name *names,
    size_t count, bool to_ga)
{
	const json_t *value = json_object_get(object, member);

	for (size_t i = 0; i < count; i++) {
		const char *from = to_ga ? names[i].beta : names[i].ga;
		const char *to = to_ga ? names[i].ga : names[i].beta;

		if (!is_text(value, from))
			continue;
		json_object_set_new(object, member, json_string(to));
		return true;
	}
	return false;
}

/* A member, out of its object; NULL where it is not there. */
static json_t *
take(json_t *object, const char *name)
{
	json_t *value = json_incref(json_object_get(object, name));

	if (value != NULL)
		json_object_del(object, name);
	return value;
}

/* The object that is a member of this one, made where it is none. */
static json_t *
object_in(json_t *object, const char *name)
{
	json_t *value = json_object_get(object, name);

	if (!json_is_object(value)) {
		value = json_object();
		json_object_set_new(object, name, value);
	}
	return value;
}

static void
drop_if_empty(json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	if (json_is_object(value) && json_object_size(value) == 0)
		json_object_del(object, name);
}

/* ---- values ---- */

static bool
has_text(const json_t *list, const char *text)
{
	const json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		if (is_text(item, text))
			return true;
	}
	return false;
}

/* GA has one modality: what is spoken has its text in the transcript. */
static json_t *
modalities(json_t *value, bool to_ga)
{
	json_t *list = NULL;

	if (has_text(value, "audio"))
		list = to_ga ? json_pack("[s]", "audio")
			     : json_pack("[s, s]", "text", "audio");
	if (list == NULL)
		return value;
	json_decref(value);
	return list;
}

/* "pcm16" and {"type":"audio/pcm","rate":24000}. */
static json_t *
format(json_t *value, bool to_ga)
{
	json_t *box =
	    to_ga ? json_pack("{s:O}", "type", value) : json_incref(value);
	bool known = rename_value(box, "type", formats, COUNT(formats), to_ga);

	if (!known) {
		json_decref(box);
		return value;
	}
	json_decref(value);
	if (!to_ga) {
		value = json_incref(json_object_get(box, "type"));
		json_decref(box);
		return value;
	}
	if (is_text(json_object_get(box, "type"), "audio/pcm"))
		json_object_set_new(box, "rate", json_integer(24000));
	return box;
}

static json_t *
translate(json_t *value, enum value kind, bool to_ga)
{
	if (kind == MODALITIES)
		return modalities(value, to_ga);
	return kind == FORMAT ? format(value, to_ga) : value;
}

/* ---- sessions, responses, items ---- */

static void
members_to_ga(json_t *object)
{
	for (size_t i = 0; i < COUNT(dropped); i++)
		json_object_del(object, dropped[i]);
	for (size_t i = 0; i < COUNT(members); i++) {
		const struct member *member = &members[i];
		json_t *value = take(object, member->beta), *in = object;

		if (value == NULL)
			continue;
		if (member->side != NULL)
			in =
			    object_in(object_in(object, "audio"), member->side);
		json_object_set_new(in, member->ga,
		    translate(value, member->value, true));
	}
}

static void
members_to_beta(json_t *object, bool response)
{
	json_t *audio = json_object_get(object, "audio");

	for (size_t i = 0; i < COUNT(members); i++) {
		const struct member *member = &members[i];
		json_t *in = member->side == NULL
		    ? object
		    : json_object_get(audio, member->side);
		json_t *value = response && member->value == TOKENS
		    ? NULL
		    : take(in, member->ga);

		if (value != NULL)
			json_object_set_new(object, member->beta,
			    translate(value, member->value, false));
	}
	drop_if_empty(audio, "input");
	drop_if_empty(audio, "output");
	drop_if_empty(object, "audio");
}

static void
item_translate(json_t *item, bool to_ga)
{
	json_t *part;
	size_t i;

	/* what a user says has the same names in both */
	if (to_ga && !is_text(json_object_get(item, "role"), "assistant"))
		return;
	json_array_foreach(json_object_get(item, "content"), i, part)
	    rename_value(part, "type", contents, COUNT(contents), to_ga);
}

static void
items_translate(json_t *items, bool to_ga)
{
	json_t *item;
	size_t i;

	json_array_foreach(items, i, item) item_translate(item, to_ga);
}

/* ---- events ---- */

static void
session_to_ga(json_t *event, json_t *session)
{
	bool transcribes = rename_value(event, "type", transcription_events,
	    COUNT(transcription_events), true);

	if (!json_is_object(session))
		return;
	if (transcribes)
		json_object_del(session, "modalities");
	members_to_ga(session);
	if (json_object_get(session, "type") == NULL)
		json_object_set_new(session, "type",
		    json_string(transcribes ? "transcription" : "realtime"));
}

void
dialect_to_ga(json_t *event)
{
	json_t *response = json_object_get(event, "response");

	session_to_ga(event, json_object_get(event, "session"));
	if (json_is_object(response)) {
		members_to_ga(response);
		items_translate(json_object_get(response, "input"), true);
	}
	item_translate(json_object_get(event, "item"), true);
}

static void
session_to_beta(json_t *event, json_t *session)
{
	json_t *type = take(session, "type");

	if (is_text(type, "transcription"))
		rename_value(event, "type", transcription_events,
		    COUNT(transcription_events), false);
	json_decref(type);
	if (json_is_object(session))
		members_to_beta(session, false);
}

bool
dialect_to_beta(json_t *event)
{
	json_t *response = json_object_get(event, "response");

	/* it follows conversation.item.added, the beta's .created */
	if (is_text(json_object_get(event, "type"), "conversation.item.done"))
		return false;
	rename_value(event, "type", server_events, COUNT(server_events), false);
	session_to_beta(event, json_object_get(event, "session"));
	if (json_is_object(response)) {
		members_to_beta(response, true);
		items_translate(json_object_get(response, "output"), false);
	}
	item_translate(json_object_get(event, "item"), false);
	rename_value(json_object_get(event, "part"), "type", contents,
	    COUNT(contents), false);
	return true;
}
