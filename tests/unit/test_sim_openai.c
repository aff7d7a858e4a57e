/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/crypt.h"
#include "tests/sim/openai.h"

/* A conversation, and the events that it said last. */
struct talk {
	struct openai *openai;
	json_t *said;
};

static void
listen_all(struct talk *t)
{
	while (openai_due(t->openai) != OPENAI_NOTHING)
		json_array_append_new(t->said, openai_next(t->openai));
}

static int
begin(void **state)
{
	struct talk *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->openai = openai_new(OPENAI_REALTIME, "gpt-realtime", 1000);
	t->said = json_array();
	listen_all(t);
	*state = t;
	return 0;
}

static int
end(void **state)
{
	struct talk *t = *state;

	openai_free(t->openai);
	json_decref(t->said);
	free(t);
	return 0;
}

static void
say(struct talk *t, const char *text)
{
	json_array_clear(t->said);
	openai_receive(t->openai, text, strlen(text));
}

static void
ask(struct talk *t, const char *text)
{
	say(t, text);
	listen_all(t);
}

static const char *
text_at(const json_t *value, const char *path)
{
	char name[64];

	while (value != NULL && *path != '\0') {
		size_t len = strcspn(path, ".");

		memcpy(name, path, len);
		name[len] = '\0';
		value = json_is_array(value)
		    ? json_array_get(value, strtoul(name, NULL, 10))
		    : json_object_get(value, name);
		path += len + (path[len] == '.');
	}
	return json_string_value(value);
}

/* The n-th event of this type, or NULL. */
static const json_t *
heard(const struct talk *t, const char *type, size_t n)
{
	json_t *event;
	size_t i;

	json_array_foreach(t->said, i,
	    event) if (strcmp(text_at(event, "type"), type) == 0 &&
	    n-- == 0) return event;
	return NULL;
}

static void
assert_said(const struct talk *t, const char *const types[])
{
	size_t i;

	for (i = 0; types[i] != NULL; i++)
		assert_string_equal(text_at(json_array_get(t->said, i), "type"),
		    types[i]);
	assert_int_equal(json_array_size(t->said), i);
}

static void
assert_error(const struct talk *t, const char *code, const char *param)
{
	const json_t *error = json_array_get(t->said, 0);

	assert_int_equal(json_array_size(t->said), 1);
	assert_string_equal(text_at(error, "type"), "error");
	assert_string_equal(text_at(error, "error.type"),
	    "invalid_request_error");
	assert_string_equal(text_at(error, "error.code"), code);
	if (param != NULL)
		assert_string_equal(text_at(error, "error.param"), param);
}

#define TEXT_ONLY                                                          \
	"{\"type\":\"session.update\",\"session\":{\"type\":\"realtime\"," \
	"\"output_modalities\":[\"text\"]}}"
#define SAY(text)                                                             \
	"{\"type\":\"conversation.item.create\",\"item\":{\"id\":\"item_1\"," \
	"\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":"      \
	"\"input_text\",\"text\":\"" text "\"}]}}"

static void
begins_with_the_session(void **state)
{
	struct talk *t = *state;
	const json_t *created = json_array_get(t->said, 0);

	assert_int_equal(json_array_size(t->said), 1);
	assert_string_equal(text_at(created, "type"), "session.created");
	assert_memory_equal(text_at(created, "event_id"), "event_", 6);
	assert_string_equal(text_at(created, "session.type"), "realtime");
	assert_string_equal(text_at(created, "session.model"), "gpt-realtime");
	assert_string_equal(text_at(created, "session.output_modalities.0"),
	    "audio");
	assert_string_equal(text_at(created, "session.audio.input.format.type"),
	    "audio/pcm");
}

static void
merges_a_session_update(void **state)
{
	struct talk *t = *state;
	const json_t *updated;

	ask(t,
	    "{\"type\":\"session.update\",\"session\":{\"type\":"
	    "\"realtime\",\"audio\":{\"output\":{\"voice\":\"ash\"},"
	    "\"input\":{\"turn_detection\":null}}}}");
	updated = heard(t, "session.updated", 0);
	assert_string_equal(text_at(updated, "session.audio.output.voice"),
	    "ash");
	assert_string_equal(text_at(updated,
				"session.audio.output.format.type"),
	    "audio/pcm");
	ask(t, TEXT_ONLY);
	updated = heard(t, "session.updated", 0);
	assert_string_equal(text_at(updated, "session.audio.output.voice"),
	    "ash");
	assert_string_equal(text_at(updated, "session.output_modalities.0"),
	    "text");
}

static void
rejects_what_the_vendor_rejects(void **state)
{
	static const struct {
		const char *event, *code, *param;
	} cases[] = {
		{ "{", "invalid_json", NULL },
		{ "[]", "invalid_json", NULL },
		{ "{}", "missing_required_parameter", "type" },
		{ "{\"type\":\"no.such\"}", "invalid_value", "type" },
		{ "{\"type\":\"session.update\"}", "missing_required_parameter",
		    "session" },
		{ "{\"type\":\"session.update\",\"session\":{}}",
		    "missing_required_parameter", "session.type" },
		{ "{\"type\":\"session.update\",\"session\":{\"type\":"
		  "\"realtime\",\"modalities\":[\"text\"]}}",
		    "unknown_parameter", "session.modalities" },
		{ "{\"type\":\"session.update\",\"session\":{\"type\":"
		  "\"realtime\",\"audio\":{\"input\":{\"voice\":1}}}}",
		    "unknown_parameter", "session.audio.input.voice" },
		{ "{\"type\":\"session.update\",\"session\":{\"type\":"
		  "\"realtime\",\"instructions\":1}}",
		    "invalid_type", "session.instructions" },
		{ "{\"type\":\"session.update\",\"session\":{\"type\":"
		  "\"realtime\",\"output_modalities\":[\"text\",\"audio\"]}}",
		    "invalid_value", "session.output_modalities" },
		{ "{\"type\":\"response.create\",\"response\":{"
		  "\"modalities\":[\"text\"]}}",
		    "unknown_parameter", "response.modalities" },
		{ "{\"type\":\"response.cancel\"}",
		    "response_cancel_not_active", NULL },
		{ "{\"type\":\"input_audio_buffer.commit\"}",
		    "input_audio_buffer_commit_empty", NULL },
		{ "{\"type\":\"input_audio_buffer.append\",\"audio\":\"?\"}",
		    "invalid_value", "audio" },
		{ "{\"type\":\"conversation.item.create\",\"item\":{\"type\":"
		  "\"message\",\"role\":\"user\",\"content\":[{\"type\":"
		  "\"text\",\"text\":\"x\"}]}}",
		    "invalid_value", "item.content[0].type" },
		{ "{\"type\":\"conversation.item.delete\",\"item_id\":\"x\"}",
		    "item_delete_invalid_item_id", "item_id" },
	};
	struct talk *t = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		ask(t, cases[i].event);
		assert_error(t, cases[i].code, cases[i].param);
	}
	/* None of them ended or changed the session. */
	ask(t, TEXT_ONLY);
	assert_non_null(heard(t, "session.updated", 0));
}

static void
names_the_event_that_was_wrong(void **state)
{
	struct talk *t = *state;

	ask(t, "{\"type\":\"no.such\",\"event_id\":\"mine\"}");
	assert_string_equal(text_at(json_array_get(t->said, 0),
				"error.event_id"),
	    "mine");
}

static void
answers_in_text_in_the_vendors_order(void **state)
{
	static const char *const types[] = { "response.created",
		"rate_limits.updated", "response.output_item.added",
		"conversation.item.added", "response.content_part.added",
		"response.output_text.delta", "response.output_text.delta",
		"response.output_text.delta", "response.output_text.done",
		"response.content_part.done", "response.output_item.done",
		"conversation.item.done", "response.done", NULL };
	struct talk *t = *state;
	const json_t *usage;

	ask(t, TEXT_ONLY);
	ask(t, SAY("hi"));
	assert_said(t,
	    (const char *const[]){ "conversation.item.added",
		"conversation.item.done", NULL });
	ask(t, "{\"type\":\"response.create\"}");
	assert_said(t, types);
	assert_string_equal(text_at(heard(t, "response.output_text.done", 0),
				"text"),
	    "You said: hi");
	usage = json_object_get(json_object_get(heard(t, "response.done", 0),
				    "response"),
	    "usage");
	assert_true(
	    json_integer_value(json_object_get(usage, "total_tokens")) > 0);
	assert_int_equal(json_integer_value(
			     json_object_get(usage, "total_tokens")),
	    json_integer_value(json_object_get(usage, "input_tokens")) +
		json_integer_value(json_object_get(usage, "output_tokens")));
}

static json_int_t
tokens(const struct talk *t, const char *group, const char *name)
{
	const json_t *usage = json_object_get(
	    json_object_get(heard(t, "response.done", 0), "response"), "usage");
	const json_t *input = json_object_get(usage, "input_token_details");

	return json_integer_value(json_object_get(
	    group == NULL ? input : json_object_get(input, group), name));
}

static void
counts_what_it_read_before_as_cached(void **state)
{
	struct talk *t = *state;
	json_int_t first;

	ask(t, TEXT_ONLY);
	ask(t, SAY("a text of some length, so that it counts"));
	ask(t, "{\"type\":\"response.create\"}");
	first = tokens(t, NULL, "text_tokens");
	assert_int_equal(tokens(t, NULL, "cached_tokens"), 0);
	ask(t, SAY("hi"));
	ask(t, "{\"type\":\"response.create\"}");
	assert_int_equal(tokens(t, NULL, "cached_tokens"), first);
	assert_int_equal(tokens(t, "cached_tokens_details", "text_tokens"),
	    first);
	assert_true(tokens(t, NULL, "text_tokens") > first);
}

static void
answers_in_audio_that_is_a_second_long(void **state)
{
	struct talk *t = *state;
	uint8_t sound[16384];
	size_t total = 0, len, n = 0;
	const json_t *delta;
	int loudest = 0;

	ask(t, SAY("hi"));
	ask(t, "{\"type\":\"response.create\"}");
	while ((delta = heard(t, "response.output_audio.delta", n++)) != NULL) {
		const char *text = text_at(delta, "delta");

		assert_int_equal(crypt_unbase64(text, strlen(text), sound,
				     sizeof(sound), &len),
		    ERR_OK);
		total += len;
		for (size_t i = 0; i + 1 < len; i += 2) {
			int v = (int16_t)(sound[i] | sound[i + 1] << 8);

			loudest = v > loudest ? v : loudest;
		}
	}
	assert_int_equal(total, 48000);
	assert_in_range(loudest, 7000, 9000);
	assert_string_equal(
	    text_at(heard(t, "response.output_audio_transcript.done", 0),
		"transcript"),
	    "You said: hi");
}

static void
runs_one_response_at_a_time(void **state)
{
	struct talk *t = *state;

	say(t, "{\"type\":\"response.create\"}");
	openai_receive(t->openai, "{\"type\":\"response.create\"}", 26);
	listen_all(t);
	assert_string_equal(text_at(heard(t, "error", 0), "error.code"),
	    "conversation_already_has_active_response");
	assert_non_null(heard(t, "response.done", 0));
	assert_null(heard(t, "response.done", 1));
	ask(t, "{\"type\":\"response.create\"}");
	assert_non_null(heard(t, "response.done", 0));
}

static void
cancels_a_running_response(void **state)
{
	struct talk *t = *state;

	say(t, "{\"type\":\"response.create\"}");
	for (int i = 0; i < 7; i++)
		json_decref(openai_next(t->openai));
	assert_int_equal(openai_due(t->openai), OPENAI_PACED);
	ask(t, "{\"type\":\"response.cancel\"}");
	assert_said(t,
	    (const char *const[]){ "response.output_item.done", "response.done",
		NULL });
	assert_string_equal(text_at(heard(t, "response.done", 0),
				"response.status"),
	    "cancelled");
	ask(t, "{\"type\":\"response.cancel\"}");
	assert_error(t, "response_cancel_not_active", NULL);
}

static void
calls_a_tool_that_it_was_given(void **state)
{
	struct talk *t = *state;

	ask(t,
	    "{\"type\":\"session.update\",\"session\":{\"type\":"
	    "\"realtime\",\"tools\":[{\"type\":\"function\",\"name\":"
	    "\"weather\",\"parameters\":{}}]}}");
	ask(t, SAY("/call weather {}"));
	ask(t, "{\"type\":\"response.create\"}");
	assert_string_equal(
	    text_at(heard(t, "response.function_call_arguments.done", 0),
		"name"),
	    "weather");
	ask(t,
	    "{\"type\":\"conversation.item.create\",\"item\":{\"type\":"
	    "\"function_call_output\",\"call_id\":\"c\",\"output\":"
	    "\"sun\"}}");
	ask(t, "{\"type\":\"response.create\"}");
	assert_string_equal(
	    text_at(heard(t, "response.output_audio_transcript.done", 0),
		"transcript"),
	    "The tool answered: sun");
}

/* input_audio_buffer.append of so many milliseconds. */
static void
append(struct talk *t, size_t ms, int amplitude)
{
	size_t len = ms * 48;
	uint8_t *sound = calloc(len, 1);
	char *base64;
	json_t *event;
	char *text;

	assert_non_null(sound);
	for (size_t i = 0; i < len; i += 2) {
		int v = i % 96 < 48 ? amplitude : -amplitude;

		sound[i] = (uint8_t)v;
		sound[i + 1] = (uint8_t)(v >> 8);
	}
	base64 = crypt_base64(sound, len);
	event = json_pack("{s:s, s:s}", "type", "input_audio_buffer.append",
	    "audio", base64);
	text = json_dumps(event, 0);
	ask(t, text);
	free(text);
	json_decref(event);
	free(base64);
	free(sound);
}

static void
hears_a_turn_and_answers_it(void **state)
{
	struct talk *t = *state;

	ask(t,
	    "{\"type\":\"session.update\",\"session\":{\"type\":"
	    "\"realtime\",\"audio\":{\"input\":{\"transcription\":"
	    "{\"model\":\"whisper-1\"}}}}}");
	append(t, 300, 5000);
	assert_said(t,
	    (const char *const[]){ "input_audio_buffer.speech_started", NULL });
	append(t, 300, 0);
	assert_non_null(heard(t, "input_audio_buffer.speech_stopped", 0));
	assert_non_null(heard(t, "input_audio_buffer.committed", 0));
	assert_non_null(json_object_get(
	    heard(t, "conversation.item.input_audio_transcription.completed",
		0),
	    "usage"));
	assert_non_null(heard(t, "response.done", 0));
}

static void
commits_audio_when_it_is_told_to(void **state)
{
	struct talk *t = *state;

	append(t, 200, 0);
	assert_int_equal(json_array_size(t->said), 0);
	ask(t, "{\"type\":\"input_audio_buffer.commit\"}");
	assert_said(t,
	    (const char *const[]){ "input_audio_buffer.committed",
		"conversation.item.added", "conversation.item.done", NULL });
	append(t, 200, 0);
	ask(t, "{\"type\":\"input_audio_buffer.clear\"}");
	ask(t, "{\"type\":\"input_audio_buffer.commit\"}");
	assert_error(t, "input_audio_buffer_commit_empty", NULL);
}

static void
retrieves_truncates_and_deletes_items(void **state)
{
	struct talk *t = *state;

	ask(t, SAY("hi"));
	ask(t, SAY("again"));
	assert_error(t, "item_create_duplicate_item_id", "item.id");
	ask(t,
	    "{\"type\":\"conversation.item.retrieve\",\"item_id\":"
	    "\"item_1\"}");
	assert_string_equal(text_at(heard(t, "conversation.item.retrieved", 0),
				"item.content.0.text"),
	    "hi");
	ask(t,
	    "{\"type\":\"conversation.item.truncate\",\"item_id\":"
	    "\"item_1\",\"content_index\":0,\"audio_end_ms\":1}");
	assert_error(t, "invalid_value", "item_id");
	ask(t,
	    "{\"type\":\"conversation.item.delete\",\"item_id\":"
	    "\"item_1\"}");
	assert_non_null(heard(t, "conversation.item.deleted", 0));
	ask(t,
	    "{\"type\":\"conversation.item.retrieve\",\"item_id\":"
	    "\"item_1\"}");
	assert_error(t, "item_retrieve_invalid_item_id", "item_id");
}

static void
keeps_a_transcription_session_apart(void **state)
{
	struct talk t = { openai_new(OPENAI_TRANSCRIPTION, "m", 0),
		json_array() };

	(void)state;
	listen_all(&t);
	assert_string_equal(text_at(json_array_get(t.said, 0), "session.type"),
	    "transcription");
	ask(&t, "{\"type\":\"response.create\"}");
	assert_error(&t, "invalid_value", "type");
	openai_free(t.openai);
	json_decref(t.said);
}

#define TALK(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TALK(begins_with_the_session),
		TALK(merges_a_session_update),
		TALK(rejects_what_the_vendor_rejects),
		TALK(names_the_event_that_was_wrong),
		TALK(answers_in_text_in_the_vendors_order),
		TALK(counts_what_it_read_before_as_cached),
		TALK(answers_in_audio_that_is_a_second_long),
		TALK(runs_one_response_at_a_time),
		TALK(cancels_a_running_response),
		TALK(calls_a_tool_that_it_was_given),
		TALK(hears_a_turn_and_answers_it),
		TALK(commits_audio_when_it_is_told_to),
		TALK(retrieves_truncates_and_deletes_items),
		cmocka_unit_test(keeps_a_transcription_session_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
