/* SPDX-License-Identifier: MIT */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/pin.h"
#include "common/xalloc.h"
#include "tunnel/json_peek.h"
#include "tunnel/transform.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * A conversation, a line each message: the vendor's begin with '>', the
 * client's binary ones with '#'.  The byte 1 stands for much audio.  The first
 * byte chooses the form, how the messages are cut, and whether there is a
 * budget, of which every second question is refused.  Whatever is said, the
 * vendor gets only events that the pin lets pass, no response that was not
 * allowed, and only whole frames.
 */
#define RULES                                                      \
	"{\"session\":{\"instructions\":\"Be kind.\"},\"allow\":[" \
	"\"output_modalities\",\"audio.input\"]}"
#define MUCH (40 * 1024)
#define ROOM (4 * MUCH)

struct output {
	const struct pin *pin; /* NULL: all may pass */
	char *text;	       /* of the message to the vendor under way */
	size_t len;
	bool open[2]; /* a message to the client, to the vendor */
	bool budget;
	int64_t asked;	  /* the last question */
	unsigned allowed; /* responses that may still go to the vendor */
};

static void
must(bool it_holds)
{
	if (!it_holds)
		abort();
}

/* An event of which the type alone is looked at is still one JSON object. */
static void
check_type_alone(const struct output *out)
{
	static const struct json_peek_path paths[] = { { "type", 128 } };
	struct json_peek *peek = json_peek_new(paths, 1);
	char type[128];

	must(json_peek_feed(peek, out->text, out->len) == ERR_OK);
	must(json_peek_end(peek) == ERR_OK);
	must(json_peek_state(peek, 0) == JSON_PEEK_FOUND);
	must(json_peek_string(peek, 0, type, sizeof(type)));
	must(pin_needs(out->pin, type) == PIN_TYPE);
	json_peek_free(peek);
}

static void
check_event(const struct output *out)
{
	struct pin_refusal refusal;
	const char *type;
	json_t *event;

	if (out->pin == NULL)
		return;
	event = json_loadb(out->text, out->len, JSON_ALLOW_NUL, NULL);
	type = json_string_value(json_object_get(event, "type"));
	if (event == NULL ||
	    (type != NULL && pin_needs(out->pin, type) == PIN_TYPE)) {
		check_type_alone(out);
	} else {
		must(type != NULL);
		must(pin_needs(out->pin, type) == PIN_ALL);
		must(pin_check(out->pin, event, &refusal) == ERR_OK);
	}
	json_decref(event);
}

/* Whoever reads it, and however, it is no response that was not allowed. */
static void
check_budget(struct output *out)
{
	json_t *event = json_loadb(out->text, out->len,
	    JSON_ALLOW_NUL | JSON_DISABLE_EOF_CHECK, NULL);
	const char *type = json_string_value(json_object_get(event, "type"));

	if (type != NULL && strcmp(type, "response.create") == 0)
		must(out->allowed-- > 0);
	json_decref(event);
}

static void
on_ask(void *arg, int64_t n, bool begun)
{
	struct output *out = arg;

	must(n == 0 ? !begun : n == out->asked + 1);
	out->asked = n > 0 ? n : out->asked;
}

static void
on_frame(void *arg, enum cause_side to, enum ws_opcode opcode, bool fin,
    uint8_t *data, size_t len)
{
	struct output *out = arg;
	bool *open = &out->open[to == SIDE_UPSTREAM];

	must((opcode == WS_CONTINUATION) == *open);
	*open = !fin;
	if (to == SIDE_UPSTREAM) {
		out->text = xreallocarray(out->text, out->len + len + 1, 1);
		if (len > 0)
			memcpy(out->text + out->len, data, len);
		out->len += len;
		if (fin) {
			check_event(out);
			if (out->budget)
				check_budget(out);
			out->len = 0;
		}
	}
	if (len > 0)
		memset(data - WS_HEADER_MAX_BYTES, 0,
		    WS_HEADER_MAX_BYTES + len);
}

static void
on_usage(void *arg, json_t *event)
{
	(void)arg;
	must(json_is_object(json_object_get(event, "usage")));
	json_decref(event);
}

/* False where the connection would be ended. */
static bool
say(struct transform *transform, const struct sink *sink, enum cause_side from,
    enum ws_opcode opcode, const uint8_t *text, size_t len, size_t step)
{
	static uint8_t piece[WS_HEADER_MAX_BYTES + ROOM];

	transform_begin(transform, from, opcode);
	for (size_t i = 0; i < len; i += step) {
		size_t n = len - i < step ? len - i : step;

		memcpy(piece + WS_HEADER_MAX_BYTES, text + i, n);
		if (transform_feed(transform, from, piece + WS_HEADER_MAX_BYTES,
			n, i + n == len, sink) != NULL)
			return false;
	}
	return len > 0 ||
	    transform_feed(transform, from, NULL, 0, true, sink) == NULL;
}

/* Much audio for its mark, as far as there is room, and time. */
static size_t
expand(const uint8_t *line, size_t len, size_t step, uint8_t out[ROOM])
{
	size_t n = 0;

	for (size_t i = 0; i < len && n < ROOM; i++) {
		size_t much = ROOM - n < MUCH ? ROOM - n : MUCH;

		if (line[i] != 1 || step < 1000) {
			out[n++] = line[i];
			continue;
		}
		memset(out + n, 'A', much);
		n += much;
	}
	return n;
}

/* Answer what is asked; whether the client may go on. */
static bool
answer(struct transform *transform, const struct sink *sink, int64_t n)
{
	static char code[] = "budget_spent", text[] = "No.";
	struct output *out = sink->arg;
	struct gate *gate = transform_gate(transform);
	struct wire_answer answered = { .n = n, .allowed = n % 2 == 1 };

	if (answered.allowed) {
		out->allowed++;
	} else {
		answered.code = code;
		answered.message = text;
	}
	must(!gate_answer(gate, &answered, sink));
	out->allowed = 0;
	return !gate_is_closed(gate);
}

static void
converse(struct transform *transform, const struct sink *sink,
    const uint8_t *data, size_t size, size_t step)
{
	static uint8_t text[ROOM];
	const struct output *out = sink->arg;
	const uint8_t *end = data + size;
	int64_t asked = 0;
	bool goes_on = true;

	while (data < end) {
		const uint8_t *line = data;
		const uint8_t *stop = memchr(line, '\n', (size_t)(end - line));
		bool vendor = *line == '>', binary = *line == '#';
		size_t len;

		stop = stop != NULL ? stop : end;
		data = stop + 1;
		line += vendor || binary ? 1 : 0;
		len = expand(line, (size_t)(stop - line), step, text);
		if (!vendor && !goes_on)
			continue; /* nobody reads it */
		if (!say(transform, sink, vendor ? SIDE_UPSTREAM : SIDE_CLIENT,
			binary ? WS_BINARY : WS_TEXT, text, len, step))
			return;
		while (asked < out->asked)
			goes_on = answer(transform, sink, ++asked);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char beta[] = "beta";
	static char budget[] = "error";
	static char *const forms[] = { NULL, beta, beta, NULL };
	struct wire_messages messages = { .usage = true,
		.inspect_bytes = 1024 };
	struct output out = { .pin = NULL };
	const struct sink sink = { .frame = on_frame,
		.usage = on_usage,
		.ask = on_ask,
		.arg = &out };
	struct transform *transform;
	struct pin *pin;
	json_t *rules = json_loads(RULES, 0, NULL);

	if (size > 1) {
		static const size_t steps[] = { 1, 7, 1000, ROOM };

		must(pin_new(rules, &pin, NULL) == ERR_OK);
		messages.form = forms[data[0] & 3];
		out.budget = (data[0] & 0x10) != 0;
		messages.budget = out.budget ? budget : NULL;
		if ((data[0] & 3) != 2 && (data[0] & 0x13) != 0x13) {
			messages.pin = rules;
			out.pin = pin;
		}
		must(transform_new(&messages, 0, &transform, NULL) == ERR_OK);
		converse(transform, &sink, data + 1, size - 1,
		    steps[data[0] >> 2 & 3]);
		transform_free(transform);
		pin_free(pin);
	}
	json_decref(rules);
	free(out.text);
	return 0;
}
