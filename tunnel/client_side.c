/* SPDX-License-Identifier: MIT */
#include "tunnel/client_side.h"

#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/pin.h"
#include "common/xalloc.h"
#include "tunnel/dialect.h"
#include "tunnel/flow.h"
#include "tunnel/json_peek.h"
#include "tunnel/text_chat.h"

#define APPEND "input_audio_buffer.append"
#define CREATE "response.create"

/* What is known to be done with the message under way. */
enum course {
	COURSE_HOLD,   /* it is gathered until it is decided */
	COURSE_STREAM, /* it goes on as it comes */
	COURSE_SKIP,   /* it is refused: the rest of it is dropped */
};

/* The message under way. */
struct message {
	struct sink_message out;
	enum course course;
	struct held held;
	enum err fault; /* of its JSON, so far */
	struct pin_refusal refusal;
};

enum client_member {
	CLIENT_TYPE,
	CLIENT_EVENT_ID,
	CLIENT_MEMBERS
};

static const struct json_peek_path client_paths[CLIENT_MEMBERS] = {
	[CLIENT_TYPE] = { "type", CLIENT_SIDE_TYPE_BYTES },
	[CLIENT_EVENT_ID] = { "event_id", GATE_EVENT_ID_BYTES },
};

struct client_side {
	const struct wire_messages *messages;
	enum client_side_form form;
	struct pin *pin;
	struct text_chat *chat;
	struct gate *gate; /* NULL: there is neither budget nor chat */
	struct json_peek *peek;
	struct message message;
	size_t max_bytes;
	uint64_t input_bytes; /* without audio */
};

static enum client_side_form
form_of(const struct wire_messages *messages)
{
	if (messages->form == NULL)
		return CLIENT_SIDE_VENDOR;
	return strcmp(messages->form, "text") == 0 ? CLIENT_SIDE_TEXT
						   : CLIENT_SIDE_BETA;
}

enum err
client_side_new(const struct wire_messages *messages, size_t max_bytes,
    struct client_side **ret, struct diag *diag)
{
	struct client_side *side;
	struct pin *pin = NULL;
	enum err err;

	if (messages->pin != NULL) {
		err = pin_new(messages->pin, &pin, diag);
		if (err != ERR_OK)
			return err;
	}
	side = xcalloc(1, sizeof(*side));
	side->messages = messages;
	side->form = form_of(messages);
	side->pin = pin;
	side->max_bytes = max_bytes;
	side->peek = json_peek_new(client_paths, CLIENT_MEMBERS);
	if (side->form == CLIENT_SIDE_TEXT)
		side->chat = text_chat_new(max_bytes);
	if (messages->budget != NULL || side->chat != NULL)
		side->gate = gate_new(messages->budget, side->chat);
	*ret = side;
	return ERR_OK;
}

void
client_side_free(struct client_side *side)
{
	if (side == NULL)
		return;
	held_drop(&side->message.held);
	json_peek_free(side->peek);
	gate_free(side->gate);
	text_chat_free(side->chat);
	pin_free(side->pin);
	free(side);
}

/* ---- what it is -------------------------------------------------------- */

/* Whether what a client says has to be what it seems to be. */
static bool
is_checked(const struct client_side *side)
{
	return side->pin != NULL || side->messages->budget != NULL;
}

bool
client_side_is_replaced(const struct client_side *side)
{
	return side->form != CLIENT_SIDE_VENDOR || is_checked(side);
}

enum client_side_form
client_side_form(const struct client_side *side)
{
	return side->form;
}

size_t
client_side_max_bytes(const struct client_side *side)
{
	return side->max_bytes;
}

uint64_t
client_side_input_bytes(const struct client_side *side)
{
	return side->input_bytes;
}

struct gate *
client_side_gate(struct client_side *side)
{
	return side->gate;
}

bool
client_side_in_message(const struct client_side *side)
{
	return side->message.out.begun;
}

bool
client_side_get_type(const struct client_side *side,
    char type[CLIENT_SIDE_TYPE_BYTES])
{
	return json_peek_string(side->peek, CLIENT_TYPE, type,
	    CLIENT_SIDE_TYPE_BYTES);
}

/* ---- refusals ---------------------------------------------------------- */

static void
refuse(struct message *message, const char *code, const char *text,
    const char *param)
{
	message->course = COURSE_SKIP;
	message->refusal =
	    (struct pin_refusal){ .code = code, .message = text };
	memcpy(message->refusal.param, param, strnlen(param, PIN_PARAM_BYTES));
	held_drop(&message->held);
}

/* The name that the client gave its event, or "". */
static void
get_event_id(const struct client_side *side, char id[GATE_EVENT_ID_BYTES])
{
	if (side->form == CLIENT_SIDE_TEXT ||
	    json_peek_state(side->peek, CLIENT_EVENT_ID) != JSON_PEEK_FOUND ||
	    !json_peek_string(side->peek, CLIENT_EVENT_ID, id,
		GATE_EVENT_ID_BYTES))
		id[0] = '\0';
}

/* The client learns why, in the vendor's own shape. */
static void
answer_refusal(struct client_side *side, const struct sink *sink)
{
	const struct pin_refusal *refusal = &side->message.refusal;
	char id[GATE_EVENT_ID_BYTES];
	const struct sink_error error = { "invalid_request_error",
		refusal->code, refusal->message, refusal->param, id };

	get_event_id(side, id);
	sink_error(sink, &error);
}

static void
refuse_too_large(struct message *message)
{
	refuse(message, "message_too_large",
	    "The message is larger than this route takes.", "");
}

/* ---- events of the client ---------------------------------------------- */

/* What is known of the message by now. */
enum known {
	KNOWN_NOTHING, /* its type has not come yet */
	KNOWN_TYPE,    /* it may stream */
	KNOWN_ALL,     /* it has to be read whole */
	KNOWN_NEVER,   /* it does not pass */
	KNOWN_FAULT,   /* it is no event */
};

static enum known
known_of_type(const struct client_side *side, const char *type)
{
	enum pin_need need;

	/* what the pin does not look at may have to be changed even so */
	bool whole = side->form == CLIENT_SIDE_BETA
	    ? strcmp(type, APPEND) != 0
	    : side->messages->budget != NULL && strcmp(type, CREATE) == 0;

	if (side->pin == NULL)
		return whole ? KNOWN_ALL : KNOWN_TYPE;
	need = pin_needs(side->pin, type);
	if (need == PIN_TYPE && whole)
		return KNOWN_ALL;
	return need == PIN_TYPE ? KNOWN_TYPE
	    : need == PIN_ALL	? KNOWN_ALL
				: KNOWN_NEVER;
}

static enum known
look(struct client_side *side, const struct piece *piece)
{
	struct message *message = &side->message;
	char type[CLIENT_SIDE_TYPE_BYTES];
	enum json_peek_state state;

	if (message->fault == ERR_OK && message->out.opcode == WS_TEXT)
		message->fault =
		    json_peek_feed(side->peek, piece->data, piece->len);
	if (message->fault == ERR_OK && message->out.opcode == WS_TEXT &&
	    piece->last)
		message->fault = json_peek_end(side->peek);
	if (message->fault != ERR_OK || message->out.opcode != WS_TEXT)
		return KNOWN_FAULT;
	state = json_peek_state(side->peek, CLIENT_TYPE);
	if (state == JSON_PEEK_ABSENT)
		return piece->last ? KNOWN_FAULT : KNOWN_NOTHING;
	if (state == JSON_PEEK_TOO_LARGE)
		return KNOWN_NEVER;
	if (state != JSON_PEEK_FOUND ||
	    !json_peek_string(side->peek, CLIENT_TYPE, type, sizeof(type)))
		return KNOWN_FAULT;
	return known_of_type(side, type);
}

static void
refuse_fault(struct message *message)
{
	if (message->out.opcode == WS_TEXT)
		refuse(message, "invalid_event",
		    "The message is not one JSON object with one type.", "");
	else
		refuse(message, "invalid_event",
		    "Binary messages are not taken here.", "");
}

/* A response.create, as the vendor is to get it. */
static void
hold_create(struct client_side *side, const void *text, size_t len,
    const struct sink *sink)
{
	char id[GATE_EVENT_ID_BYTES];

	get_event_id(side, id);
	gate_hold(side->gate, text, len, id, sink);
}

static bool
is_create(const json_t *event)
{
	const char *type = json_string_value(json_object_get(event, "type"));

	return type != NULL && strcmp(type, CREATE) == 0;
}

static void
pass_event(struct client_side *side, const json_t *event,
    const struct sink *sink)
{
	size_t len;
	char *text;

	if (side->messages->budget == NULL || !is_create(event)) {
		sink_json(sink, SIDE_UPSTREAM, event);
		return;
	}
	text = json_text(event, &len);
	hold_create(side, text, len, sink);
	explicit_bzero(text, len);
	free(text);
}

/* A whole event: what the vendor reads is what was checked. */
static void
pass_checked(struct client_side *side, struct piece *text,
    const struct sink *sink)
{
	struct message *message = &side->message;
	struct pin_refusal refusal;
	json_t *event = NULL;
	enum err err;

	if (side->form == CLIENT_SIDE_VENDOR && side->pin == NULL) {
		hold_create(side, text->data, text->len, sink);
		return;
	}
	err = json_parse(text->data, text->len, &event, NULL);
	if (err == ERR_OK && !json_is_object(event))
		err = ERR_PROTO;
	if (err != ERR_OK && !is_checked(side)) {
		/* no event, so nothing to translate: the vendor will say so */
		sink_piece(sink, &message->out, SIDE_UPSTREAM, text);
	} else if (err != ERR_OK) {
		refuse_fault(message);
	} else {
		if (side->form == CLIENT_SIDE_BETA)
			dialect_to_ga(event);
		if (side->pin != NULL &&
		    pin_check(side->pin, event, &refusal) != ERR_OK)
			refuse(message, refusal.code, refusal.message,
			    refusal.param);
		else
			pass_event(side, event, sink);
	}
	json_decref(event);
}

/* Most of a message like this that is held before it streams or is refused. */
static size_t
hold_max(const struct client_side *side, enum known known)
{
	return known == KNOWN_TYPE ? CLIENT_SIDE_HOLD_BYTES : side->max_bytes;
}

static void
hold_event(struct client_side *side, const struct piece *piece,
    enum known known, const struct sink *sink)
{
	struct message *message = &side->message;
	size_t max = hold_max(side, known);
	struct piece text;

	if (held_exceeds(&message->held, piece->len, max)) {
		if (known != KNOWN_TYPE) {
			refuse_too_large(message);
			return;
		}
		text = held_peek(&message->held);
		sink_piece(sink, &message->out, SIDE_UPSTREAM, &text);
		held_drop(&message->held);
		sink_piece(sink, &message->out, SIDE_UPSTREAM, piece);
		message->course = COURSE_STREAM;
		return;
	}
	if (!piece->last) {
		held_add(&message->held, piece->data, piece->len, max);
		return;
	}
	text = held_complete(&message->held, piece, max);
	if (known == KNOWN_TYPE)
		sink_piece(sink, &message->out, SIDE_UPSTREAM, &text);
	else
		pass_checked(side, &text, sink);
}

static const char *
feed_event(struct client_side *side, const struct piece *piece,
    const struct sink *sink)
{
	struct message *message = &side->message;
	enum known known = look(side, piece);
	bool checked = is_checked(side);

	if (message->course == COURSE_STREAM) {
		if (checked && known != KNOWN_TYPE)
			return "an event was not what it began as";
		sink_piece(sink, &message->out, SIDE_UPSTREAM, piece);
	} else if (message->course == COURSE_HOLD) {
		if (checked && known == KNOWN_FAULT)
			refuse_fault(message);
		else if (checked && known == KNOWN_NEVER)
			refuse(message, "unknown_event",
			    "Events of this type are not taken here.", "type");
		else
			hold_event(side, piece, known, sink);
	}
	return NULL;
}

/* ---- plain text of the client ------------------------------------------ */

static const char *
say(struct client_side *side, const struct piece *text, const struct sink *sink)
{
	struct message *message = &side->message;
	enum err err = text_chat_say(side->chat, text->data, text->len);

	if (err == ERR_TYPE)
		return FLOW_NO_UTF8;
	if (err == ERR_NOTFOUND)
		refuse(message, "empty_message", "The message is empty.", "");
	else if (err != ERR_OK)
		refuse(message, "queue_full",
		    "Too many messages wait for their answers.", "");
	else
		gate_next_turn(side->gate, sink);
	return NULL;
}

static const char *
feed_text(struct client_side *side, const struct piece *piece,
    const struct sink *sink)
{
	struct message *message = &side->message;
	size_t max = side->max_bytes;
	struct piece text;

	if (message->course != COURSE_HOLD)
		return NULL;
	if (message->out.opcode != WS_TEXT)
		return FLOW_NO_TEXT;
	if (held_exceeds(&message->held, piece->len, max)) {
		refuse_too_large(message);
	} else if (!piece->last) {
		held_add(&message->held, piece->data, piece->len, max);
	} else {
		text = held_complete(&message->held, piece, max);
		return say(side, &text, sink);
	}
	return NULL;
}

/* ---- all of them ------------------------------------------------------- */

void
client_side_begin(struct client_side *side, enum ws_opcode opcode)
{
	struct message *message = &side->message;

	message->out = (struct sink_message){ .opcode = opcode };
	message->course = COURSE_HOLD;
	message->fault = ERR_OK;
	json_peek_reset(side->peek);
}

/* What the vendor may take in with its next response. */
static void
count_input(struct client_side *side, const struct piece *piece)
{
	char type[CLIENT_SIDE_TYPE_BYTES];

	if (!json_peek_string(side->peek, CLIENT_TYPE, type,
		CLIENT_SIDE_TYPE_BYTES) ||
	    strcmp(type, APPEND) != 0)
		side->input_bytes += piece->len;
}

const char *
client_side_feed(struct client_side *side, const struct piece *piece,
    const struct sink *sink)
{
	struct message *message = &side->message;
	const char *why = NULL;

	count_input(side, piece);
	if (!client_side_is_replaced(side))
		(void)look(side, piece);
	else if (side->form == CLIENT_SIDE_TEXT)
		why = feed_text(side, piece, sink);
	else
		why = feed_event(side, piece, sink);
	if (!piece->last)
		return why;
	if (message->course == COURSE_SKIP)
		answer_refusal(side, sink);
	held_drop(&message->held);
	return why;
}
