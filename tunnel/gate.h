/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_GATE_H
#define TUNNEL_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/wire.h"
#include "tunnel/sink.h"
#include "tunnel/text_chat.h"

/*
 * gate: where the client's next response waits until the broker has allowed
 * it, and what becomes of one that it refuses.  Pure.
 *
 * One at a time waits: a response.create, or the next turn of a text_chat.
 * Without a budget the gate is open, and turns go on at once; so it is where it
 * is NULL, which every call allows but gate_hold().
 */
struct gate;

#define GATE_EVENT_ID_BYTES 512 /* of the client's event_id */

/*
 * budget is struct wire_messages', chat the one whose turns go through here;
 * both are borrowed, and either may be NULL.
 */
struct gate *gate_new(const char *budget, struct text_chat *chat);
void gate_free(struct gate *gate);

/*
 * A response.create wants to pass, as the vendor is to get it; event_id is the
 * client's, or "".  The gate is open, and is closed then.
 */
void gate_hold(struct gate *gate, const void *text, size_t len,
    const char *event_id, const struct sink *sink);

/* Whatever may go on now: a turn of the chat, or the question for one. */
void gate_next_turn(struct gate *gate, const struct sink *sink);

/* Whether something waits, so that nothing else of the client may pass. */
bool gate_is_closed(const struct gate *gate);

/*
 * An answer of the broker, or one in its place; what nobody waits for is passed
 * over.  True where the budget is spent and the tunnel has to end by it.
 */
bool gate_answer(struct gate *gate, const struct wire_answer *answer,
    const struct sink *sink) MUST_CHECK;

/*
 * The vendor's event: of a response its id, of an error the event that it is
 * about, or "".  The number of the ask that has come to its end, or 0.
 */
int64_t gate_hear(struct gate *gate, const char *type, const char *response_id,
    const char *error_event_id, const struct sink *sink);

/* asked, open and open_count of a report. */
void gate_get_asks(const struct gate *gate, struct wire_usage *usage);

/* What waits never passes; the gate is open, and lets no response through. */
void gate_end(struct gate *gate);

#endif
