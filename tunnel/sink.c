/* SPDX-License-Identifier: MIT */
#include "tunnel/sink.h"

#include <stdlib.h>
#include <string.h>

#include "common/crypt.h"
#include "common/json.h"

void
sink_piece(const struct sink *sink, struct sink_message *message,
    enum cause_side to, const struct piece *piece)
{
	if (piece->len == 0 && !piece->last)
		return;
	sink->frame(sink->arg, to,
	    message->begun ? WS_CONTINUATION : message->opcode, piece->last,
	    piece->data, piece->len);
	message->begun = !piece->last;
}

void
sink_text(const struct sink *sink, enum cause_side to, char *text, size_t len)
{
	struct held held = { NULL, 0, 0 };
	struct piece whole;

	held_add(&held, text, len, len);
	whole = held_peek(&held);
	sink->frame(sink->arg, to, WS_TEXT, true, whole.data, whole.len);
	held_drop(&held);
	explicit_bzero(text, len);
	free(text);
}

void
sink_json(const struct sink *sink, enum cause_side to, const json_t *event)
{
	size_t len;
	char *text = json_text(event, &len);

	sink_text(sink, to, text, len);
}

void
sink_event_id(char out[SINK_EVENT_ID_BYTES])
{
	memcpy(out, "event_", 6);
	crypt_random_hex(out + 6, 12);
}

static json_t *
text_or_null(const char *text)
{
	return text[0] != '\0' ? json_string(text) : json_null();
}

void
sink_error(const struct sink *sink, const struct sink_error *error)
{
	char id[SINK_EVENT_ID_BYTES];
	json_t *event;

	sink_event_id(id);
	event = json_pack("{s:s, s:s, s:{s:s, s:s, s:s, s:o, s:o}}", "type",
	    "error", "event_id", id, "error", "type", error->type, "code",
	    error->code, "message", error->message, "param",
	    text_or_null(error->param), "event_id",
	    text_or_null(error->event_id));
	if (event == NULL)
		return; /* an event_id that is no text */
	sink_json(sink, SIDE_CLIENT, event);
	json_decref(event);
}

void
sink_expiring(const struct sink *sink, int64_t expires_at, int64_t remaining_s,
    const char *reason)
{
	char id[SINK_EVENT_ID_BYTES];
	json_t *event;

	sink_event_id(id);
	event = json_made(json_pack("{s:s, s:s, s:I, s:I, s:s}", "type",
	    "culvert.session.expiring", "event_id", id, "expires_at",
	    (json_int_t)expires_at, "remaining_seconds",
	    (json_int_t)remaining_s, "reason", reason));
	sink_json(sink, SIDE_CLIENT, event);
	json_decref(event);
}
