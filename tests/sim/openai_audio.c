/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "common/crypt.h"
#include "common/xalloc.h"
#include "openai_int.h"

#define APPEND_MAX (15 * 1024 * 1024) /* bytes of sound in one event */
#define COMMIT_MS  100		      /* the least that can be committed */
#define LOUD	   600		      /* amplitude that is speech */

/* ---- committing ---- */

static void
emit_transcript(struct openai *o, const char *id, size_t ms)
{
	const char *transcript = "This is a simulated transcript.";
	json_int_t tokens = (json_int_t)ms / 100 + 1;

	openai_emit(o, "conversation.item.input_audio_transcription.delta",
	    json_pack("{s:s, s:i, s:s}", "item_id", id, "content_index", 0,
		"delta", transcript));
	openai_emit(o, "conversation.item.input_audio_transcription.completed",
	    json_pack("{s:s, s:i, s:s, s:{s:s, s:I, s:I, s:I, s:{s:i, s:I}}}",
		"item_id", id, "content_index", 0, "transcript", transcript,
		"usage", "type", "tokens", "total_tokens", tokens + 8,
		"input_tokens", tokens, "output_tokens", (json_int_t)8,
		"input_token_details", "text_tokens", 0, "audio_tokens",
		tokens));
}

/* The buffer becomes a user's item; id is taken over. */
static void
commit(struct openai *o, char *id)
{
	const json_t *input = openai_session_audio(o, "input");
	size_t ms = tone_ms(openai_session_format(o, "input"), o->audio_bytes);
	size_t count = json_array_size(o->items);
	bool transcribe =
	    json_is_object(json_object_get(input, "transcription"));
	json_t *item = json_pack("{s:s, s:s, s:s, s:s, s:s, s:[{s:s, s:s?}]}",
	    "id", id, "object", "realtime.item", "type", "message", "status",
	    "completed", "role", "user", "content", "type", "input_audio",
	    "transcript",
	    transcribe ? "This is a simulated transcript." : NULL);

	openai_emit(o, "input_audio_buffer.committed",
	    json_pack("{s:s?, s:s}", "previous_item_id",
		count == 0
		    ? NULL
		    : openai_string(json_array_get(o->items, count - 1), "id"),
		"item_id", id));
	openai_item_append(o, item);
	if (transcribe)
		emit_transcript(o, id, ms);
	o->audio_bytes = 0;
	o->speaking = false;
	o->silence_ms = 0;
	free(id);
}

void
openai_audio_commit(struct openai *o, const json_t *event)
{
	size_t ms = tone_ms(openai_session_format(o, "input"), o->audio_bytes);

	(void)event;
	if (ms < COMMIT_MS) {
		openai_fail(o, "input_audio_buffer_commit_empty", NULL,
		    "Error committing input audio buffer: buffer too small. "
		    "Expected at least 100ms of audio, but buffer only has "
		    "%zu.00ms of audio.",
		    ms);
		return;
	}
	commit(o, openai_id("item"));
}

void
openai_audio_clear(struct openai *o, const json_t *event)
{
	(void)event;
	o->audio_bytes = 0;
	o->speaking = false;
	o->silence_ms = 0;
	openai_emit(o, "input_audio_buffer.cleared", json_object());
}

/* ---- turns ---- */

static bool
is_loud(enum tone_format format, const uint8_t *data, size_t len)
{
	if (format != TONE_PCM) { /* both laws: silence is 0x7f/0xff or 0x55 */
		for (size_t i = 0; i < len; i++) {
			uint8_t v = (uint8_t)(data[i] ^
			    (format == TONE_PCMU ? 0xff : 0x55));

			if ((v & 0x7f) >= 0x30)
				return true;
		}
		return false;
	}
	for (size_t i = 0; i + 1 < len; i += 2) {
		int v = (int16_t)(data[i] | data[i + 1] << 8);

		if (v > LOUD || v < -LOUD)
			return true;
	}
	return false;
}

static void
start_speech(struct openai *o, const json_t *detection)
{
	o->speaking = true;
	o->silence_ms = 0;
	free(o->speech_item_id);
	o->speech_item_id = openai_id("item");
	openai_emit(o, "input_audio_buffer.speech_started",
	    json_pack("{s:I, s:s}", "audio_start_ms", (json_int_t)o->audio_ms,
		"item_id", o->speech_item_id));
	if (!json_is_false(json_object_get(detection, "interrupt_response")))
		openai_response_end(o, "turn_detected");
}

static void
stop_speech(struct openai *o, const json_t *detection)
{
	char *id = o->speech_item_id;

	o->speech_item_id = NULL;
	openai_emit(o, "input_audio_buffer.speech_stopped",
	    json_pack("{s:I, s:s}", "audio_end_ms", (json_int_t)o->audio_ms,
		"item_id", id));
	commit(o, id);
	if (o->kind == OPENAI_REALTIME &&
	    !json_is_false(json_object_get(detection, "create_response")))
		openai_response_create(o, NULL);
}

/* As simple as can be: a piece is loud, or it is silent. */
static void
detect_turn(struct openai *o, enum tone_format format, const uint8_t *data,
    size_t len)
{
	const json_t *detection =
	    json_object_get(openai_session_audio(o, "input"), "turn_detection");
	const json_t *wait = json_object_get(detection, "silence_duration_ms");
	size_t wait_ms =
	    json_is_integer(wait) ? (size_t)json_integer_value(wait) : 200;

	if (!json_is_object(detection))
		return;
	if (is_loud(format, data, len)) {
		if (!o->speaking)
			start_speech(o, detection);
		o->silence_ms = 0;
	} else if (o->speaking) {
		o->silence_ms += tone_ms(format, len);
		if (o->silence_ms >= wait_ms)
			stop_speech(o, detection);
	}
}

void
openai_audio_append(struct openai *o, const json_t *event)
{
	enum tone_format format = openai_session_format(o, "input");
	const json_t *audio = json_object_get(event, "audio");
	size_t len = 0, size;
	uint8_t *data;
	enum err err;

	if (!json_is_string(audio)) {
		openai_fail(o, "missing_required_parameter", "audio",
		    "Missing required parameter: 'audio'.");
		return;
	}
	size = json_string_length(audio) / 4 * 3 + 3;
	if (size > APPEND_MAX + 3) {
		openai_fail(o, "string_above_max_length", "audio",
		    "Invalid 'audio': more than 15 MiB in one event.");
		return;
	}
	data = xcalloc(size, 1);
	err = crypt_unbase64(json_string_value(audio),
	    json_string_length(audio), data, size, &len);
	if (err != ERR_OK) {
		openai_fail(o, "invalid_value", "audio",
		    "Invalid 'audio'. Expected base64-encoded audio bytes "
		    "(mono PCM16 at 24kHz) but got an invalid value.");
	} else {
		o->audio_bytes += len;
		o->audio_ms += tone_ms(format, len);
		detect_turn(o, format, data, len);
	}
	free(data);
}
