/* SPDX-License-Identifier: MIT */
#include "tunnel/transform.h"

#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/xalloc.h"
#include "tunnel/client_side.h"
#include "tunnel/dialect.h"
#include "tunnel/held.h"
#include "tunnel/vendor_event.h"

#define SESSION_EVENT "culvert_session"

/* Of a message in JSON: how much a value may grow when it is written anew. */
#define GROWTH 6

enum log {
	LOG_NONE,
	LOG_METADATA,
	LOG_FULL,
};

/* Of a message under way: what the log needs. */
struct note {
	enum ws_opcode opcode;
	uint64_t bytes;
	struct held copy; /* where the log is full */
};

struct transform {
	const struct wire_messages *messages;
	enum log log;
	struct note client_note, upstream_note;
	struct client_side *client;
	struct vendor_event *event;
	struct sink_message upstream; /* where it is translated */
	struct held held;	      /* of that one */
	size_t upstream_max;
	enum transform_state state;
	char refused_param[VENDOR_EVENT_ID_BYTES];
	int64_t expires_at; /* when the vendor ends it; 0: it did not say */
	uint64_t usages;    /* events so far */
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
	struct client_side *client;
	enum err err;

	*ret = NULL;
	if (!is_read(messages))
		return ERR_OK;
	err = client_side_new(messages,
	    at_most(messages->inspect_bytes, TRANSFORM_UPSTREAM_BYTES), &client,
	    diag);
	if (err != ERR_OK)
		return err;
	transform = xcalloc(1, sizeof(*transform));
	transform->messages = messages;
	transform->log = log_of(messages);
	transform->client = client;
	transform->upstream_max = upstream_max > 0
	    ? at_most(upstream_max, TRANSFORM_UPSTREAM_BYTES)
	    : TRANSFORM_UPSTREAM_BYTES;
	transform->event = vendor_event_new();
	*ret = transform;
	return ERR_OK;
}

void
transform_free(struct transform *transform)
{
	if (transform == NULL)
		return;
	held_drop(&transform->client_note.copy);
	held_drop(&transform->upstream_note.copy);
	held_drop(&transform->held);
	vendor_event_free(transform->event);
	client_side_free(transform->client);
	free(transform);
}

/* ---- what it is -------------------------------------------------------- */

static bool
has_form(const struct transform *transform, enum client_side_form form)
{
	return client_side_form(transform->client) == form;
}

enum transform_mode
transform_mode(const struct transform *transform, enum cause_side from)
{
	if (transform == NULL)
		return TRANSFORM_PASS;
	if (from == SIDE_UPSTREAM) /* it is known where a message ends there */
		return has_form(transform, CLIENT_SIDE_BETA) ? TRANSFORM_REPLACE
							     : TRANSFORM_READ;
	if (client_side_is_replaced(transform->client))
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
	longest =
	    (to == SIDE_CLIENT ? transform->upstream_max
			       : client_side_max_bytes(transform->client)) +
	    2 * CLIENT_SIDE_HOLD_BYTES;
	return GROWTH * longest;
}

size_t
transform_insert_bytes(const struct transform *transform, enum cause_side to)
{
	/* turns of a chat, as the vendor ends them */
	return to == SIDE_UPSTREAM && has_form(transform, CLIENT_SIDE_TEXT)
	    ? GROWTH * client_side_max_bytes(transform->client)
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

/* ---- events of the vendor ---------------------------------------------- */

static const char *
translate(struct transform *transform, const struct piece *piece,
    const struct sink *sink)
{
	struct held *held = &transform->held;
	size_t max = transform->upstream_max;
	json_t *event = NULL;
	struct piece text;

	if (held_exceeds(held, piece->len, max))
		return "a message is too large to be translated";
	if (!piece->last) {
		held_add(held, piece->data, piece->len, max);
		return NULL;
	}
	text = held_complete(held, piece, max);
	if (transform->upstream.opcode != WS_TEXT ||
	    json_parse(text.data, text.len, &event, NULL) != ERR_OK ||
	    !json_is_object(event))
		sink_piece(sink, &transform->upstream, SIDE_CLIENT, &text);
	else if (dialect_to_beta(event))
		sink_json(sink, SIDE_CLIENT, event);
	json_decref(event);
	held_drop(held);
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
	int64_t done, expires_at = vendor_event_expires_at(transform->event);

	if (expires_at != 0)
		transform->expires_at = expires_at;
	vendor_event_error(transform->event, about, param);
	hear_of_session(transform, type, about, param);
	vendor_event_response_id(transform->event, id);
	done = gate_hear(client_side_gate(transform->client), type, id, about,
	    sink);
	tell_usage(transform, done, sink);
	gate_next_turn(client_side_gate(transform->client), sink);
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
	if (has_form(transform, CLIENT_SIDE_BETA))
		why = translate(transform, piece, sink);
	if (why == NULL && piece->last && is_event)
		hear(transform, sink);
	return why;
}

/* ---- both -------------------------------------------------------------- */

uint64_t
transform_input_bytes(const struct transform *transform)
{
	return transform == NULL ? 0
				 : client_side_input_bytes(transform->client);
}

int64_t
transform_expires_at(const struct transform *transform)
{
	return transform == NULL ? 0 : transform->expires_at;
}

struct gate *
transform_gate(struct transform *transform)
{
	return transform != NULL ? client_side_gate(transform->client) : NULL;
}

bool
transform_in_message(const struct transform *transform)
{
	return client_side_in_message(transform->client);
}

bool
transform_speaks_events(const struct transform *transform)
{
	const struct wire_messages *messages;

	if (transform == NULL || has_form(transform, CLIENT_SIDE_TEXT))
		return false;
	messages = transform->messages;
	/* whoever only keeps a log may speak any language */
	return messages->usage || messages->session != NULL ||
	    client_side_is_replaced(transform->client);
}

static struct note *
note_of(struct transform *transform, enum cause_side from)
{
	return from == SIDE_CLIENT ? &transform->client_note
				   : &transform->upstream_note;
}

void
transform_begin(struct transform *transform, enum cause_side from,
    enum ws_opcode opcode)
{
	struct note *note = note_of(transform, from);

	note->opcode = opcode;
	note->bytes = 0;
	if (from == SIDE_CLIENT) {
		client_side_begin(transform->client, opcode);
	} else {
		transform->upstream = (struct sink_message){ .opcode = opcode };
		vendor_event_begin(transform->event);
	}
}

/* Note a piece for the log: before it is written over. */
static void
note_piece(struct transform *transform, struct note *note,
    const struct piece *piece)
{
	size_t room = TRANSFORM_LOG_BYTES - note->copy.len;

	note->bytes += piece->len;
	if (transform->log == LOG_FULL)
		held_add(&note->copy, piece->data,
		    piece->len < room ? piece->len : room, TRANSFORM_LOG_BYTES);
}

static void
tell_log(struct transform *transform, enum cause_side from,
    const struct sink *sink)
{
	struct note *note = note_of(transform, from);
	struct piece copy = held_peek(&note->copy);
	struct message_log_entry entry = { .from_client = from == SIDE_CLIENT,
		.binary = note->opcode == WS_BINARY,
		.bytes = note->bytes };
	char type[CLIENT_SIDE_TYPE_BYTES];

	if (from == SIDE_UPSTREAM)
		entry.type = vendor_event_type(transform->event);
	else if (client_side_get_type(transform->client, type))
		entry.type = type;
	if (entry.type != NULL && entry.type[0] == '\0')
		entry.type = NULL;
	sink->message(sink->arg, &entry, copy.data, copy.len);
	held_drop(&note->copy);
}

const char *
transform_feed(struct transform *transform, enum cause_side from, uint8_t *data,
    size_t len, bool last, const struct sink *sink)
{
	const struct piece piece = { data, len, last };
	const char *why;

	if (transform->log != LOG_NONE)
		note_piece(transform, note_of(transform, from), &piece);
	why = from == SIDE_CLIENT
	    ? client_side_feed(transform->client, &piece, sink)
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
