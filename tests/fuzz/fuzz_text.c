/* SPDX-License-Identifier: MIT */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tunnel/flow.h"
#include "tunnel/transform.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * A conversation in plain text, a line each message; the vendor's begin with
 * '>', the client's binary ones with '#'.  Whatever the client says, the
 * vendor gets items of the user's and wishes for a response, in turns; and
 * whatever the vendor says, a turn that it ends lets the next one go.  What is
 * no text ends it.
 */
#define LINE_MAX 512

struct output {
	size_t items, wishes, answers;
};

static void
must(bool it_holds)
{
	if (!it_holds)
		abort();
}

static const char *
member(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	must(text != NULL);
	return text;
}

static void
on_frame(void *arg, enum cause_side to, enum ws_opcode opcode, bool fin,
    uint8_t *data, size_t len)
{
	struct output *out = arg;
	json_t *event, *item, *part;

	must(opcode == WS_TEXT && fin && len > 0);
	event = json_loadb((char *)data, len,
	    JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
	must(event != NULL);
	if (to == SIDE_CLIENT) {
		must(strcmp(member(event, "type"), "error") == 0);
		out->answers++;
	} else if (strcmp(member(event, "type"), "response.create") == 0) {
		must(json_object_size(event) == 2);
		must(out->items == ++out->wishes);
	} else {
		must(strcmp(member(event, "type"),
			 "conversation.item.create") == 0);
		item = json_object_get(event, "item");
		must(strcmp(member(item, "role"), "user") == 0);
		part = json_array_get(json_object_get(item, "content"), 0);
		must(strcmp(member(part, "type"), "input_text") == 0);
		must(json_string_length(json_object_get(part, "text")) > 0);
		must(++out->items == out->wishes + 1);
	}
	json_decref(event);
}

static void
on_usage(void *arg, json_t *event)
{
	(void)arg;
	(void)event;
	abort(); /* nobody has asked for it */
}

/* False where the connection would be closed for it. */
static bool
say(struct transform *transform, const struct sink *sink,
    enum cause_side from, enum ws_opcode opcode, const uint8_t *text,
    size_t len)
{
	uint8_t piece[WS_HEADER_MAX_BYTES + LINE_MAX];
	size_t half = len / 2;
	const char *why = NULL;

	transform_begin(transform, from, opcode);
	if (half > 0) {
		memcpy(piece + WS_HEADER_MAX_BYTES, text, half);
		why = transform_feed(transform, from,
		    piece + WS_HEADER_MAX_BYTES, half, false, sink);
	}
	if (len > half)
		memcpy(piece + WS_HEADER_MAX_BYTES, text + half, len - half);
	if (why == NULL)
		why = transform_feed(transform, from,
		    len > half ? piece + WS_HEADER_MAX_BYTES : NULL, len - half,
		    true, sink);
	must(why == NULL || from == SIDE_CLIENT);
	must(why == NULL || (why == FLOW_NO_TEXT) == (opcode == WS_BINARY));
	return why == NULL;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t done[] = "{\"type\":\"response.done\"}";
	struct wire_messages messages = { .form = (char[]){ "text" },
		.inspect_bytes = 256 };
	struct output out = { 0, 0, 0 };
	const struct sink sink = { .frame = on_frame,
		.usage = on_usage,
		.arg = &out };
	const uint8_t *end = data + size;
	struct transform *transform;
	size_t said = 0;

	must(transform_new(&messages, 0, &transform, NULL) == ERR_OK);
	while (data < end) {
		const uint8_t *line = data;
		const uint8_t *stop = memchr(line, '\n', (size_t)(end - line));
		bool vendor = *line == '>', binary = *line == '#';
		size_t len;

		stop = stop != NULL ? stop : end;
		data = stop + 1;
		line += vendor || binary ? 1 : 0;
		len = (size_t)(stop - line);
		len = len < LINE_MAX ? len : LINE_MAX;
		if (!say(transform, &sink, vendor ? SIDE_UPSTREAM : SIDE_CLIENT,
			binary ? WS_BINARY : WS_TEXT, line, len))
			break;
		said += vendor ? 0 : 1;
	}
	/* nothing is stuck, nothing is lost: all has been sent or answered */
	for (int i = 0; i < 32; i++)
		must(say(transform, &sink, SIDE_UPSTREAM, WS_TEXT, done,
		    sizeof(done) - 1));
	must(out.wishes == out.items && out.items + out.answers == said);
	transform_free(transform);
	return 0;
}
