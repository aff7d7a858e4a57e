/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_RELAY_H
#define TUNNEL_RELAY_H

#include <stddef.h>
#include <stdint.h>

#include "common/loop.h"
#include "common/wire.h"
#include "common/ws_frame.h"
#include "tunnel/cause.h"
#include "tunnel/key_mask.h"
#include "tunnel/stream.h"
#include "tunnel/transform.h"

/*
 * relay: two WebSocket connections become one.
 *
 * Frames pass verbatim both ways, checked by two flows, unless there is a
 * transform, which reads and replaces messages.  What is read from one peer is
 * written to the other at once; what a short write leaves is queued, and while
 * a peer has a queue nothing is read from the other.  So a relay holds at most
 * one read's worth of bytes for each side, and none at all while it is idle.
 *
 * It also pings silent peers, keeps the limits, and ends the conversation: the
 * close frame of a peer passes to the other and the answer passes back; a
 * close of our own goes to both.  Of a vendor's close frame the client gets the
 * reason without keys of ours.  Ahead of the end of its time, by the vendor's
 * limit or ours, the client is told, where it understands that.
 */
struct relay;

struct relay_end {
	enum cause cause;
	enum cause_side side;
	int code; /* of the close frame, 0 where there was none */
	/* for the log: what looks like a secret is masked */
	char reason[WS_REASON_MAX_BYTES + 1];
};

struct relay_events {
	/* The totals have changed, and usage_ms have passed. */
	void (*usage)(void *arg);
	/* The vendor told of usage: struct wire_usage, events; the callee's. */
	void (*event)(void *arg, json_t *event);
	/* For the route's log: as sink's. */
	void (*message)(void *arg, struct message_log_entry *entry,
	    const void *text, size_t len);
	/* As sink's: a response is asked for, or is over. */
	void (*ask)(void *arg, int64_t n, bool begun);
	/* The conversation is over; the connections are being closed. */
	void (*ended)(void *arg, const struct relay_end *end);
	/* They are closed: the relay may be freed, in this call too. */
	void (*closed)(void *arg);
};

/* All of it is the relay's from now on. */
struct relay_streams {
	struct stream *client, *upstream;
	struct loop_watch *client_watch, *upstream_watch;
	struct transform *transform; /* NULL: messages are not read */
	struct key_mask *keys;	     /* of the vendor; NULL: none */
};

struct relay *relay_new(struct loop *loop, const struct relay_streams *streams,
    const struct wire_limits *limits, const struct relay_events *events,
    void *arg);

/*
 * Start: send head (our 101) to the client, then relay, beginning with the
 * bytes that have come early from each side; the client's wait where the
 * vendor has to take a session first, and so does the client, for at most
 * connect_ms.  No event comes in this call but event() and message().
 */
void relay_start(struct relay *relay, const void *head, size_t head_len,
    const void *from_client, size_t from_client_len, const void *from_upstream,
    size_t from_upstream_len);

/*
 * End it for a reason of ours, with the code and reason, or, where those are 0
 * and NULL, the cause's own.  The first cause wins.  No event comes in this
 * call.
 */
void relay_close(struct relay *relay, enum cause cause, enum cause_side side,
    int code, const char *reason);

/*
 * An answer of the broker to a question of ask(), or one in its place.  Only
 * ask() and message() may come in this call.
 */
void relay_answer(struct relay *relay, const struct wire_answer *answer);

/* Deadlines move with them, and so does the warning ahead of the end. */
void relay_set_limits(struct relay *relay, const struct wire_limits *limits);

/* What each side has sent so far. */
void relay_get_totals(const struct relay *relay, struct wire_totals *client,
    struct wire_totals *upstream);

/* asked, open and open_count of a report. */
void relay_get_asks(const struct relay *relay, struct wire_usage *usage);

/* As transform's. */
uint64_t relay_input_bytes(const struct relay *relay);

/* NULL is allowed. */
void relay_free(struct relay *relay);

#endif
