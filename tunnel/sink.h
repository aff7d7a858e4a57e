/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_SINK_H
#define TUNNEL_SINK_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ws_frame.h"
#include "tunnel/cause.h"
#include "tunnel/held.h"
#include "tunnel/message_log.h"

/*
 * sink: where a transform puts what it makes of messages, and what is told to
 * it there.  Pure.
 */
struct sink {
	/*
	 * A frame of a data message for this peer.  In front of data there are
	 * WS_HEADER_MAX_BYTES bytes that may be written to, as data itself
	 * may; where len is 0 there is neither.  Nothing of it is kept.
	 */
	void (*frame)(void *arg, enum cause_side to, enum ws_opcode opcode,
	    bool fin, uint8_t *data, size_t len);
	/* An event of struct wire_usage, numbered; the callee's. */
	void (*usage)(void *arg, json_t *event);
	/*
	 * A message of a route that keeps a log, once all of it has come; its
	 * time is the callee's to say.  text is its beginning, up to
	 * TRANSFORM_LOG_BYTES; NULL where the log is not full.
	 */
	void (*message)(void *arg, struct message_log_entry *entry,
	    const void *text, size_t len);
	/*
	 * A response is asked for, by this number, and the vendor makes it
	 * already where it has begun; or, with 0, one of those that were is
	 * over without usage.
	 */
	void (*ask)(void *arg, int64_t n, bool begun);
	void *arg;
};

/* A message that passes piece by piece; begins as { .opcode = ... }. */
struct sink_message {
	enum ws_opcode opcode;
	bool begun; /* a frame of it has gone out, and not the last one */
};

/* One frame more of it, unless the piece says nothing. */
void sink_piece(const struct sink *sink, struct sink_message *message,
    enum cause_side to, const struct piece *piece);

/* A whole text message of ours; text is cleared and freed. */
void sink_text(const struct sink *sink, enum cause_side to, char *text,
    size_t len);
void sink_json(const struct sink *sink, enum cause_side to,
    const json_t *event);

/* An error for the client, in OpenAI's shape. */
struct sink_error {
	const char *type, *code, *message;
	const char *param;    /* the member that is wrong, or "" */
	const char *event_id; /* the client's event that it is about, or "" */
};

void sink_error(const struct sink *sink, const struct sink_error *error);

/*
 * Tell the client that its time ends then, in seconds since 1970, and for whose
 * sake: "vendor" or "site".
 */
void sink_expiring(const struct sink *sink, int64_t expires_at,
    int64_t remaining_s, const char *reason);

/* Long enough for the name of an event of ours, and a name no other has. */
#define SINK_EVENT_ID_BYTES (6 + 2 * 12 + 1)
void sink_event_id(char out[SINK_EVENT_ID_BYTES]);

#endif
