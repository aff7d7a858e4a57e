/* SPDX-License-Identifier: MIT */
#include "tunnel/gate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/xalloc.h"
#include "tunnel/asks.h"
#include "tunnel/held.h"

enum gate_state {
	GATE_OPEN,
	GATE_FULL,  /* what waits waits for room to ask for it */
	GATE_ASKED, /* it waits for the broker's answer */
	GATE_ENDED,
};

struct gate {
	struct asks *asks; /* NULL: nobody is asked */
	struct text_chat *chat;
	bool closes; /* a budget that is spent ends the tunnel */
	enum gate_state state;
	struct held create; /* what waits, but for a turn */
	char event_id[GATE_EVENT_ID_BYTES];
};

struct gate *
gate_new(const char *budget, struct text_chat *chat)
{
	struct gate *gate = xcalloc(1, sizeof(*gate));

	gate->chat = chat;
	if (budget != NULL) {
		gate->asks = asks_new();
		gate->closes = strcmp(budget, "close") == 0;
	}
	return gate;
}

void
gate_free(struct gate *gate)
{
	if (gate == NULL)
		return;
	asks_free(gate->asks);
	held_drop(&gate->create);
	free(gate);
}

/* ---- the question ------------------------------------------------------ */

/* Ask for what waits, if there is room for the question. */
static void
ask(struct gate *gate, const struct sink *sink)
{
	int64_t n;

	if (gate == NULL || gate->state != GATE_FULL)
		return;
	n = asks_create(gate->asks, gate->event_id);
	if (n == 0)
		return;
	gate->state = GATE_ASKED;
	sink->ask(sink->arg, n, false);
}

void
gate_hold(struct gate *gate, const void *text, size_t len, const char *event_id,
    const struct sink *sink)
{
	if (gate->state != GATE_OPEN)
		return;
	held_add(&gate->create, text, len, len);
	(void)snprintf(gate->event_id, sizeof(gate->event_id), "%s", event_id);
	gate->state = GATE_FULL;
	ask(gate, sink);
}

static void
send_turn(struct gate *gate, const struct sink *sink)
{
	size_t len;
	char *text;

	while ((text = text_chat_next(gate->chat, &len)) != NULL)
		sink_text(sink, SIDE_UPSTREAM, text, len);
}

void
gate_next_turn(struct gate *gate, const struct sink *sink)
{
	if (gate != NULL && gate->chat != NULL && gate->state == GATE_OPEN) {
		if (gate->asks == NULL || !text_chat_has_turn(gate->chat))
			send_turn(gate, sink);
		else
			gate->state = GATE_FULL;
	}
	ask(gate, sink);
}

bool
gate_is_closed(const struct gate *gate)
{
	return gate != NULL &&
	    (gate->state == GATE_FULL || gate->state == GATE_ASKED);
}

/* ---- the answer -------------------------------------------------------- */

static void
let_through(struct gate *gate, const struct sink *sink)
{
	struct piece text = held_peek(&gate->create);

	if (gate->chat != NULL)
		send_turn(gate, sink);
	else
		sink->frame(sink->arg, SIDE_UPSTREAM, WS_TEXT, true, text.data,
		    text.len);
	held_drop(&gate->create);
}

/* The vendor makes a response that may not be. */
static void
cancel(const char *response_id, const struct sink *sink)
{
	char id[SINK_EVENT_ID_BYTES];
	json_t *event;

	sink_event_id(id);
	event = json_pack("{s:s, s:s, s:s}", "type", "response.cancel",
	    "event_id", id, "response_id", response_id);
	if (event == NULL)
		return; /* a name that is no text */
	sink_json(sink, SIDE_UPSTREAM, event);
	json_decref(event);
}

static bool
is_spent(const struct wire_answer *answer)
{
	return !answer->allowed &&
	    strcmp(answer->code, err_code(ERR_BUDGET)) == 0;
}

static void
refuse(struct gate *gate, enum asks_kind kind, const char *response_id,
    const struct wire_answer *answer, const struct sink *sink)
{
	const struct sink_error error = { is_spent(answer)
		    ? "insufficient_quota"
		    : "rate_limit_error",
		answer->code, answer->message, "",
		kind == ASKS_CREATE ? gate->event_id : "" };

	if (kind == ASKS_CREATE && gate->chat != NULL)
		text_chat_skip_turn(gate->chat);
	if (kind == ASKS_CREATE)
		held_drop(&gate->create);
	if (kind == ASKS_BEGUN)
		cancel(response_id, sink);
	/* of what is done already, nobody need hear that it had to wait */
	if (kind != ASKS_ENDED || is_spent(answer))
		sink_error(sink, &error);
}

bool
gate_answer(struct gate *gate, const struct wire_answer *answer,
    const struct sink *sink)
{
	char id[VENDOR_EVENT_ID_BYTES];
	enum asks_kind kind;

	if (gate == NULL || gate->asks == NULL || gate->state == GATE_ENDED)
		return false;
	kind = asks_answer(gate->asks, answer->n, answer->allowed, id);
	if (kind == ASKS_NONE)
		return false;
	if (is_spent(answer) && gate->closes)
		return true;
	if (kind == ASKS_CREATE)
		gate->state = GATE_OPEN;
	if (!answer->allowed)
		refuse(gate, kind, id, answer, sink);
	else if (kind == ASKS_CREATE)
		let_through(gate, sink);
	gate_next_turn(gate, sink);
	return false;
}

/* ---- the vendor -------------------------------------------------------- */

/* A response begins.  Where it is the vendor's own, the broker is asked. */
static void
hear_created(struct gate *gate, const char *id, const struct sink *sink)
{
	static char code[] = "too_many_responses";
	static char text[] = "Too many responses are being made at once.";
	const struct wire_answer refused = { .code = code, .message = text };
	int64_t n = asks_created(gate->asks, id);

	if (n > 0)
		sink->ask(sink->arg, n, true);
	else if (n < 0)
		refuse(gate, ASKS_BEGUN, id, &refused, sink);
}

int64_t
gate_hear(struct gate *gate, const char *type, const char *response_id,
    const char *error_event_id, const struct sink *sink)
{
	bool error = strcmp(type, "error") == 0;

	if (gate == NULL)
		return 0;
	/* the chat knows which errors are about its turn */
	if (gate->chat != NULL) {
		error = text_chat_hear(gate->chat, type, error_event_id);
		error_event_id = "";
	}
	if (gate->asks == NULL)
		return 0;
	if (strcmp(type, "response.created") == 0 && gate->state != GATE_ENDED)
		hear_created(gate, response_id, sink);
	else if (strcmp(type, "response.done") == 0)
		return asks_done(gate->asks, response_id);
	else if (error && asks_error(gate->asks, error_event_id))
		sink->ask(sink->arg, 0, false);
	return 0;
}

void
gate_get_asks(const struct gate *gate, struct wire_usage *usage)
{
	if (gate != NULL && gate->asks != NULL)
		asks_get(gate->asks, usage);
}

void
gate_end(struct gate *gate)
{
	if (gate == NULL)
		return;
	if (gate->asks != NULL)
		asks_end(gate->asks);
	held_drop(&gate->create);
	gate->state = GATE_ENDED;
}
