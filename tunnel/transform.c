/* SPDX-License-Identifier: MIT */
#include "tunnel/transform.h"

#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/pin.h"
#include "common/xalloc.h"
#include "tunnel/dialect.h"
#include "tunnel/flow.h"
#include "tunnel/held.h"
#include "tunnel/json_peek.h"
#include "tunnel/text_chat.h"
#include "tunnel/vendor_event.h"

#define TYPE_BYTES    128
#define SESSION_EVENT "culvert_session"
#define APPEND	      "input_audio_buffer.append"
#define CREATE	      "response.create"

/* Of a message in JSON: how much a value may grow when it is written anew. */
#define GROWTH 6

enum log {
	LOG_NONE,
	LOG_METADATA,
	LOG_FULL,
};

enum form {
	FORM_VENDOR, /* the client speaks as the vendor does */
	FORM_BETA,
	FORM_TEXT,
};

/* What is known to be done with the message under way. */
enum course {
	COURSE_HOLD,   /* it is gathered until it is decided */
	COURSE_STREAM, /* it goes on as it comes */
	COURSE_SKIP,   /* it is refused: the rest of it is dropped */
};

/* A message under way. */
struct message {
	enum ws_opcode opcode;
	uint64_t bytes;
	struct held copy; /* for a log that is full */
	/* where it is to be replaced */
	enum course course;
	bool begun; /* a frame of it has gone out */
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
	[CLIENT_TYPE] = { "type", TYPE_BYTES },
	[CLIENT_EVENT_ID] = { "event_id", GATE_EVENT_ID_BYTES },
};

struct transform {
	const struct wire_messages *messages;
	enum form form;
	enum log log;
	struct pin *pin;
	struct text_chat *chat;
	struct message client, upstream;
	size_t client_max, upstream_max;
	struct json_peek *peek;	    /* of the client's message */
	struct vendor_event *event; /* of the vendor's */
	enum transform_state state;
	char refused_param[VENDOR_EVENT_ID_BYTES];
	uint64_t input_bytes; /* of the client, without audio */
	uint64_t usages;      /* events so far */
	struct gate *gate;    /* NULL: there is neither budget nor chat */
};

/* ---- making one -------------------------------------------------------- */

static bool
is_read(const struct wire_messages *messages)
{
	return messages->form != NULL || messages->session != NULL ||
	    messages->pin != NULL || messages->usage ||
	    messages->budget != NULL || messages->log != NULL;
}

static enum log
log_of(const struct wire_messages *messages)
{
	if (messages->log == NULL)
		return LOG_NONE;
	return strcmp(messages->log, "full") == 0 ? LOG_FULL : LOG_METADATA;
}

static enum form
form_of(const struct wire_messages *messages)
{
	if (messages->form == NULL)
		return FORM_VENDOR;
	return strcmp(messages->form, "text") == 0 ? FORM_TEXT : FORM_BETA;
}

static size_t
at_most(uint64_t n, size_t max)
{
	return n < max ? (size_t)n : max;
}

enum err
transform_new(const struct wire_messages *messages, uint64_t upstream_max,
    struct transform **ret, struct diag *diag)
{
	struct transform *transform;
	struct pin *pin = NULL;
	enum err err;

	*ret = NULL;
	if (!is_read(messages))
		return ERR_OK;
	if (messages->pin != NULL) {
		err = pin_new(messages->pin, &pin, diag);
		if (err != ERR_OK)
			return err;
	}
	transform = xcalloc(1, sizeof(*transform));
	transform->messages = messages;
	transform->form = form_of(messages);
	transform->log = log_of(messages);
	transform->pin = pin;
	transform->client_max =
	    at_most(messages->inspect_bytes, TRANSFORM_UPSTREAM_BYTES);
	transform->upstream_max = upstream_max > 0
	    ? at_most(upstream_max, TRANSFORM_UPSTREAM_BYTES)
	    : TRANSFORM_UPSTREAM_BYTES;
	transform->peek = json_peek_new(client_paths, CLIENT_MEMBERS);
	transform->event = vendor_event_new();
	if (transform->form == FORM_TEXT)
		transform->chat = text_chat_new(transform->client_max);
	if (messages->budget != NULL || transform->chat != NULL)
		transform->gate = gate_new(messages->budget, transform->chat);
	*ret = transform;
	return ERR_OK;
}

void
transform_free(struct transform *transform)
{
	if (transform == NULL)
		return;
	held_drop(&transform->client.held);
	held_drop(&transform->client.copy);
	held_drop(&transform->upstream.held);
	held_drop(&transform->upstream.copy);
	json_peek_free(transform->peek);
	vendor_event_free(transform->event);
	gate_free(transform->gate);
	text_chat_free(transform->chat);
	pin_free(transform->pin);
	free(transform);
}

/* ---- what it is -------------------------------------------------------- */

/* Whether what a client says has to be what it seems to be. */
static bool
is_checked(const struct transform *transform)
{
	return transform->pin != NULL || transform->messages->budget != NULL;
}

enum transform_mode
transform_mode(const struct transform *transform, enum cause_side from)
{
	if (transform == NULL)
		return TRANSFORM_PASS;
	if (from == SIDE_UPSTREAM) /* it is known where a message ends there */
		return transform->form == FORM_BETA ? TRANSFORM_REPLACE
						    : TRANSFORM_READ;
	if (transform->form != FORM_VENDOR || is_checked(transform))
		return TRANSFORM_REPLACE;
	return transform->log != LOG_NONE ? TRANSFORM_READ : TRANSFORM_PASS;
}

size_t
transform_extra_bytes(const struct transform *transform, enum cause_side to)
{
	size_t longest;

	if (transform == NULL)
		return 0;
	/* one that was held, and what one read may hold beside it */
	longest = (to == SIDE_CLIENT ? transform->upstream_max
				     : transform->client_max) +
	    2 * TRANSFORM_HOLD_BYTES;
	return GROWTH * longest;
}

size_t
transform_insert_bytes(const struct transform *transform, enum cause_side to)
{
	/* turns of a chat, as the vendor ends them */
	return to == SIDE_UPSTREAM && transform->chat != NULL
	    ? GROWTH * transform->client_max
	    : 0;
}

enum transform_state
transform_state(const struct transform *transform)
{
	return transform == NULL ? TRANSFORM_OPEN : transform->state;
}

const char *
transform_refused_param(const struct transform *transform)
{
	return transform->refused_param;
}

/* ---- what is sent ------------------------------------------------------ */

/* Let a message go on as it is: one frame more of it. */
static void
emit_piece(struct message *message, const struct sink *sink, enum cause_side to,
    const struct piece *piece)
{
	if (piece->len == 0 && !piece->last)
		return;
	sink->frame(sink->arg, to,
	    message->begun ? WS_CONTINUATION : message->opcode, piece->last,
	    piece->data, piece->len);
	message->begun = !piece->last;
}

void
transform_start(struct transform *transform, const struct sink *sink)
{
	json_t *event;

	if (transform->messages->session == NULL)
		return;
	event = json_pack("{s:s, s:s, s:O}", "type", "session.update",
	    "event_id", SESSION_EVENT, "session", transform->messages->session);
	sink_json(sink, SIDE_UPSTREAM, event);
	json_decref(event);
	transform->state = TRANSFORM_WAITING;
}

static void
begin_message(struct message *message, enum ws_opcode opcode)
{
	message->opcode = opcode;
	message->bytes = 0;
	message->course = COURSE_HOLD;
	message->begun = false;
	message->fault = ERR_OK;
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
get_event_id(const struct transform *transform, char id[GATE_EVENT_ID_BYTES])
{
	if (transform->form == FORM_TEXT ||
	    json_peek_state(transform->peek, CLIENT_EVENT_ID) !=
		JSON_PEEK_FOUND ||
	    !json_peek_string(transform->peek, CLIENT_EVENT_ID, id,
		GATE_EVENT_ID_BYTES))
		id[0] = '\0';
}

/* The client learns why, in the vendor's own shape. */
static void
answer_refusal(struct transform *transform, const struct sink *sink)
{
	const struct pin_refusal *refusal = &transform->client.refusal;
	char id[GATE_EVENT_ID_BYTES];
	const struct sink_error error = { "invalid_request_error",
		refusal->code, refusal->message, refusal->param, id };

	get_event_id(transform, id);
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
known_of_type(const struct transform *transform, const char *type)
{
	enum pin_need need;

	/* what the pin does not look at may have to be changed even so */
	bool whole = transform->form == FORM_BETA
	    ? strcmp(type, APPEND) != 0
	    : transform->messages->budget != NULL && strcmp(type, CREATE) == 0;

	if (transform->pin == NULL)
		return whole ? KNOWN_ALL : KNOWN_TYPE;
	need = pin_needs(transform->pin, type);
	if (need == PIN_TYPE && whole)
		return KNOWN_ALL;
	return need == PIN_TYPE ? KNOWN_TYPE
	    : need == PIN_ALL	? KNOWN_ALL
				: KNOWN_NEVER;
}

static enum known
look(struct transform *transform, const struct piece *piece)
{
	struct message *message = &transform->client;
	char type[TYPE_BYTES];
	enum json_peek_state state;

	if (message->fault == ERR_OK && message->opcode == WS_TEXT)
		message->fault =
		    json_peek_feed(transform->peek, piece->data, piece->len);
	if (message->fault == ERR_OK && message->opcode == WS_TEXT &&
	    piece->last)
		message->fault = json_peek_end(transform->peek);
	if (message->fault != ERR_OK || message->opcode != WS_TEXT)
		return KNOWN_FAULT;
	state = json_peek_state(transform->peek, CLIENT_TYPE);
	if (state == JSON_PEEK_ABSENT)
		return piece->last ? KNOWN_FAULT : KNOWN_NOTHING;
	if (state == JSON_PEEK_TOO_LARGE)
		return KNOWN_NEVER;
	if (state != JSON_PEEK_FOUND ||
	    !json_peek_string(transform->peek, CLIENT_TYPE, type, sizeof(type)))
		return KNOWN_FAULT;
	return known_of_type(transform, type);
}

static void
refuse_fault(struct message *message)
{
	if (message->opcode == WS_TEXT)
		refuse(message, "invalid_event",
		    "The message is not one JSON object with one type.", "");
	else
		refuse(message, "invalid_event",
		    "Binary messages are not taken here.", "");
}

/* A response.create, as the vendor is to get it. */
static void
hold_create(struct transform *transform, const void *text, size_t len,
    const struct sink *sink)
{
	char id[GATE_EVENT_ID_BYTES];

	get_event_id(transform, id);
	gate_hold(transform->gate, text, len, id, sink);
}

static bool
is_create(const json_t *event)
{
	const char *type = json_string_value(json_object_get(event, "type"));

	return type != NULL && strcmp(type, CREATE) == 0;
}

static void
pass_event(struct transform *transform, const json_t *event,
    const struct sink *sink)
{
	size_t len;
	char *text;

	if (transform->messages->budget == NULL || !is_create(event)) {
		sink_json(sink, SIDE_UPSTREAM, event);
		return;
	}
	text = json_text(event, &len);
	hold_create(transform, text, len, sink);
	explicit_bzero(text, len);
	free(text);
}

/* A whole event: what the vendor reads is what was checked. */
static void
pass_checked(struct transform *transform, struct piece *text,
    const struct sink *sink)
{
	struct message *message = &transform->client;
	struct pin_refusal refusal;
	json_t *event = NULL;
	enum err err;

	if (transform->form == FORM_VENDOR && transform->pin == NULL) {
		hold_create(transform, text->data, text->len, sink);
		return;
	}
	err = json_parse(text->data, text->len, &event, NULL);
	if (err == ERR_OK && !json_is_object(event))
		err = ERR_PROTO;
	if (err != ERR_OK && !is_checked(transform)) {
		/* no event, so nothing to translate: the vendor will say so */
		emit_piece(message, sink, SIDE_UPSTREAM, text);
	} else if (err != ERR_OK) {
		refuse_fault(message);
	} else {
		if (transform->form == FORM_BETA)
			dialect_to_ga(event);
		if (transform->pin != NULL &&
		    pin_check(transform->pin, event, &refusal) != ERR_OK)
			refuse(message, refusal.code, refusal.message,
			    refusal.param);
		else
			pass_event(transform, event, sink);
	}
	json_decref(event);
}

/* Most of a message like this that is held before it streams or is refused. */
static size_t
hold_max(const struct transform *transform, enum known known)
{
	return known == KNOWN_TYPE ? TRANSFORM_HOLD_BYTES
				   : transform->client_max;
}

static void
hold_event(struct transform *transform, const struct piece *piece,
    enum known known, const struct sink *sink)
{
	struct message *message = &transform->client;
	size_t max = hold_max(transform, known);
	struct piece text;

	if (held_exceeds(&message->held, piece->len, max)) {
		if (known != KNOWN_TYPE) {
			refuse_too_large(message);
			return;
		}
		text = held_peek(&message->held);
		emit_piece(message, sink, SIDE_UPSTREAM, &text);
		held_drop(&message->held);
		emit_piece(message, sink, SIDE_UPSTREAM, piece);
		message->course = COURSE_STREAM;
		return;
	}
	if (!piece->last) {
		held_add(&message->held, piece->data, piece->len, max);
		return;
	}
	text = held_complete(&message->held, piece, max);
	if (known == KNOWN_TYPE)
		emit_piece(message, sink, SIDE_UPSTREAM, &text);
	else
		pass_checked(transform, &text, sink);
}

static const char *
feed_event(struct transform *transform, const struct piece *piece,
    const struct sink *sink)
{
	struct message *message = &transform->client;
	enum known known = look(transform, piece);
	bool checked = is_checked(transform);

	if (message->course == COURSE_STREAM) {
		if (checked && known != KNOWN_TYPE)
			return "an event was not what it began as";
		emit_piece(message, sink, SIDE_UPSTREAM, piece);
	} else if (message->course == COURSE_HOLD) {
		if (checked && known == KNOWN_FAULT)
			refuse_fault(message);
		else if (checked && known == KNOWN_NEVER)
			refuse(message, "unknown_event",
			    "Events of this type are not taken here.", "type");
		else
			hold_event(transform, piece, known, sink);
	}
	return NULL;
}

/* ---- plain text of the client ------------------------------------------ */

static const char *
say(struct transform *transform, const struct piece *text,
    const struct sink *sink)
{
	struct message *message = &transform->client;
	enum err err = text_chat_say(transform->chat, text->data, text->len);

	if (err == ERR_TYPE)
		return FLOW_NO_UTF8;
	if (err == ERR_NOTFOUND)
		refuse(message, "empty_message", "The message is empty.", "");
	else if (err != ERR_OK)
		refuse(message, "queue_full",
		    "Too many messages wait for their answers.", "");
	else
		gate_next_turn(transform->gate, sink);
	return NULL;
}

static const char *
feed_text(struct transform *transform, const struct piece *piece,
    const struct sink *sink)
{
	struct message *message = &transform->client;
	size_t max = transform->client_max;
	struct piece text;

	if (message->course != COURSE_HOLD)
		return NULL;
	if (message->opcode != WS_TEXT)
		return FLOW_NO_TEXT;
	if (held_exceeds(&message->held, piece->len, max)) {
		refuse_too_large(message);
	} else if (!piece->last) {
		held_add(&message->held, piece->data, piece->len, max);
	} else {
		text = held_complete(&message->held, piece, max);
		return say(transform, &text, sink);
	}
	return NULL;
}

/* What the vendor may take in with its next response. */
static void
count_input(struct transform *transform, const struct piece *piece)
{
	char type[TYPE_BYTES];

	if (!json_peek_string(transform->peek, CLIENT_TYPE, type, TYPE_BYTES) ||
	    strcmp(type, APPEND) != 0)
		transform->input_bytes += piece->len;
}

static const char *
feed_client(struct transform *transform, const struct piece *piece,
    const struct sink *sink)
{
	struct message *message = &transform->client;
	const char *why = NULL;

	count_input(transform, piece);
	if (transform_mode(transform, SIDE_CLIENT) == TRANSFORM_READ)
		(void)look(transform, piece);
	else if (transform->form == FORM_TEXT)
		why = feed_text(transform, piece, sink);
	else
		why = feed_event(transform, piece, sink);
	if (!piece->last)
		return why;
	if (message->course == COURSE_SKIP)
		answer_refusal(transform, sink);
	held_drop(&message->held);
	return why;
}

/* ---- events of the vendor ---------------------------------------------- */

static const char *
translate(struct transform *transform, const struct piece *piece,
    const struct sink *sink)
{
	struct message *message = &transform->upstream;
	size_t max = transform->upstream_max;
	json_t *event = NULL;
	struct piece text;

	if (held_exceeds(&message->held, piece->len, max))
		return "a message is too large to be translated";
	if (!piece->last) {
		held_add(&message->held, piece->data, piece->len, max);
		return NULL;
	}
	text = held_complete(&message->held, piece, max);
	if (message->opcode != WS_TEXT ||
	    json_parse(text.data, text.len, &event, NULL) != ERR_OK ||
	    !json_is_object(event))
		emit_piece(message, sink, SIDE_CLIENT, &text);
	else if (dialect_to_beta(event))
		sink_json(sink, SIDE_CLIENT, event);
	json_decref(event);
	held_drop(&message->held);
	return NULL;
}

/* Whether the vendor has taken the session, or has not. */
static void
hear_of_session(struct transform *transform, const char *type,
    const char *error_event_id, const char *param)
{
	if (transform->state != TRANSFORM_WAITING)
		return;
	if (strcmp(type, "session.updated") == 0)
		transform->state = TRANSFORM_OPEN;
	if (strcmp(type, "error") == 0 &&
	    strcmp(error_event_id, SESSION_EVENT) == 0) {
		transform->state = TRANSFORM_REFUSED;
		memcpy(transform->refused_param, param, VENDOR_EVENT_ID_BYTES);
	}
}

/* And, if it is not 0, the ask that is over by it. */
static void
tell_usage(struct transform *transform, int64_t done, const struct sink *sink)
{
	json_t *usage = NULL;

	if (transform->messages->usage)
		usage = vendor_event_usage(transform->event);
	if (usage == NULL) {
		if (done > 0)
			sink->ask(sink->arg, 0, false);
		return;
	}
	transform->usages++;
	json_object_set_new(usage, "n",
	    json_integer((json_int_t)transform->usages));
	if (done > 0)
		json_object_set_new(usage, "ask",
		    json_integer((json_int_t)done));
	sink->usage(sink->arg, usage);
}

/* An event of the vendor has passed. */
static void
hear(struct transform *transform, const struct sink *sink)
{
	const char *type = vendor_event_type(transform->event);
	char about[VENDOR_EVENT_ID_BYTES], param[VENDOR_EVENT_ID_BYTES];
	char id[VENDOR_EVENT_ID_BYTES];
	int64_t done;

	vendor_event_error(transform->event, about, param);
	hear_of_session(transform, type, about, param);
	vendor_event_response_id(transform->event, id);
	done = gate_hear(transform->gate, type, id, about, sink);
	tell_usage(transform, done, sink);
	gate_next_turn(transform->gate, sink);
}

static const char *
feed_upstream(struct transform *transform, const struct piece *piece,
    const struct sink *sink)
{
	bool is_event = transform->upstream.opcode == WS_TEXT;
	const char *why = NULL;

	if (is_event)
		vendor_event_feed(transform->event, piece->data, piece->len);
	/* what is translated is written over: it has been read by now */
	if (transform->form == FORM_BETA)
		why = translate(transform, piece, sink);
	if (why == NULL && piece->last && is_event)
		hear(transform, sink);
	return why;
}

/* ---- both -------------------------------------------------------------- */

uint64_t
transform_input_bytes(const struct transform *transform)
{
	return transform == NULL ? 0 : transform->input_bytes;
}

struct gate *
transform_gate(struct transform *transform)
{
	return transform != NULL ? transform->gate : NULL;
}

bool
transform_in_message(const struct transform *transform)
{
	return transform->client.begun;
}

bool
transform_speaks_events(const struct transform *transform)
{
	const struct wire_messages *messages;

	if (transform == NULL || transform->form == FORM_TEXT)
		return false;
	messages = transform->messages;
	/* whoever only keeps a log may speak any language */
	return messages->usage || messages->form != NULL ||
	    messages->session != NULL || is_checked(transform);
}

void
transform_begin(struct transform *transform, enum cause_side from,
    enum ws_opcode opcode)
{
	if (from == SIDE_CLIENT) {
		begin_message(&transform->client, opcode);
		json_peek_reset(transform->peek);
	} else {
		begin_message(&transform->upstream, opcode);
		vendor_event_begin(transform->event);
	}
}

static struct message *
message_of(struct transform *transform, enum cause_side from)
{
	return from == SIDE_CLIENT ? &transform->client : &transform->upstream;
}

/* Note a piece for the log: before it is written over. */
static void
note_piece(struct transform *transform, struct message *message,
    const struct piece *piece)
{
	size_t room = TRANSFORM_LOG_BYTES - message->copy.len;

	message->bytes += piece->len;
	if (transform->log == LOG_FULL)
		held_add(&message->copy, piece->data,
		    piece->len < room ? piece->len : room, TRANSFORM_LOG_BYTES);
}

static void
tell_log(struct transform *transform, enum cause_side from,
    const struct sink *sink)
{
	struct message *message = message_of(transform, from);
	struct piece copy = held_peek(&message->copy);
	struct message_log_entry entry = { .from_client = from == SIDE_CLIENT,
		.binary = message->opcode == WS_BINARY,
		.bytes = message->bytes };
	char type[TYPE_BYTES];

	if (from == SIDE_UPSTREAM)
		entry.type = vendor_event_type(transform->event);
	else if (json_peek_string(transform->peek, CLIENT_TYPE, type,
		     sizeof(type)))
		entry.type = type;
	if (entry.type != NULL && entry.type[0] == '\0')
		entry.type = NULL;
	sink->message(sink->arg, &entry, copy.data, copy.len);
	held_drop(&message->copy);
}

const char *
transform_feed(struct transform *transform, enum cause_side from, uint8_t *data,
    size_t len, bool last, const struct sink *sink)
{
	const struct piece piece = { data, len, last };
	const char *why;

	if (transform->log != LOG_NONE)
		note_piece(transform, message_of(transform, from), &piece);
	why = from == SIDE_CLIENT ? feed_client(transform, &piece, sink)
				  : feed_upstream(transform, &piece, sink);
	if (transform->log != LOG_NONE && last)
		tell_log(transform, from, sink);
	return why;
}

bool
transform_wants_more(const struct transform *transform, enum cause_side from)
{
	return transform->log != LOG_NONE ||
	    (from == SIDE_UPSTREAM &&
		vendor_event_wants_more(transform->event));
}
