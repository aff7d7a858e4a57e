/* SPDX-License-Identifier: MIT */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "tunnel/dialect.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

/* What came of it is JSON. */
static void
require_json(const json_t *event)
{
	char *text = json_text(event, NULL);
	/* not json_parse(): what moves into "audio" may lie deeper */
	json_t *again =
	    json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);

	require(json_equal(again, event));
	json_decref(again);
	free(text);
}

/* Once translated it stays as it is. */
static void
require_ga(json_t *event)
{
	static const char *const gone[] = { "modalities", "temperature",
		"voice", "input_audio_format", "output_audio_format",
		"turn_detection", "max_response_output_tokens" };
	const json_t *session = json_object_get(event, "session");
	json_t *copy = json_deep_copy(event);

	for (size_t i = 0; i < COUNT(gone); i++)
		require(json_object_get(session, gone[i]) == NULL);
	require(!json_is_object(session) ||
	    json_object_get(session, "type") != NULL);
	dialect_to_ga(copy);
	require(json_equal(copy, event));
	json_decref(copy);
}

static void
require_beta(const json_t *event)
{
	static const char *const ga_events[] = { "response.output_text.delta",
		"response.output_text.done", "response.output_audio.delta",
		"response.output_audio.done",
		"response.output_audio_transcript.delta",
		"response.output_audio_transcript.done",
		"conversation.item.added", "conversation.item.done" };
	const char *type = json_string_value(json_object_get(event, "type"));
	const json_t *session = json_object_get(event, "session");

	for (size_t i = 0; type != NULL && i < COUNT(ga_events); i++)
		require(strcmp(type, ga_events[i]) != 0);
	require(json_object_get(session, "output_modalities") == NULL);
	require(json_object_get(session, "max_output_tokens") == NULL);
	require(json_object_get(session, "type") == NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *event = NULL, *copy;

	if (json_parse(data, size, &event, NULL) != ERR_OK)
		return 0;
	copy = json_deep_copy(event);
	if (dialect_to_beta(copy)) {
		require_json(copy);
		require_beta(copy);
	}
	json_decref(copy);
	dialect_to_ga(event);
	require_json(event);
	require_ga(event);
	if (dialect_to_beta(event)) {
		require_json(event);
		require_beta(event);
	}
	json_decref(event);
	return 0;
}
