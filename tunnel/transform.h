/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_TRANSFORM_H
#define TUNNEL_TRANSFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire.h"
#include "common/ws_frame.h"
#include "tunnel/cause.h"
#include "tunnel/gate.h"
#include "tunnel/sink.h"

/*
 * transform: what is read, and made, of the messages of one tunnel, as its
 * grant says (struct wire_messages).  Pure.
 *
 * A direction is passed (nobody looks), read (its frames pass verbatim, and
 * the transform sees them), or replaced: the other peer gets nothing but the
 * frames that the transform makes.
 *
 * A direction that is replaced is the client's, where it may not say all
 * (a pin, a budget) or speaks otherwise than the vendor (a form), and the
 * vendor's where the client understands another dialect.  A message is held
 * until it is known to be allowed, and most until their end.  What needs to be
 * known of an event by its type alone is held up to CLIENT_SIDE_HOLD_BYTES;
 * what is longer streams from there on, frame by frame, and is read on: if it
 * turns out not to be what it was taken for, it never gets its last frame and
 * the connection ends.  What is refused is answered with an error event in
 * OpenAI's shape, and the session goes on.
 *
 * Where there is a budget, a response.create, or a turn of plain text, waits
 * until the broker has answered, and the client's next message with it; what
 * passes then is what the client sent.  A response that the vendor begins by
 * itself is asked for while it runs, and cancelled where it may not be.
 */
struct transform;

#define TRANSFORM_LOG_BYTES (256 * 1024) /* a record has less */
/* The vendor's longest message where no limit is set. */
#define TRANSFORM_UPSTREAM_BYTES (64 * 1024 * 1024)

enum transform_mode {
	TRANSFORM_PASS,
	TRANSFORM_READ,
	TRANSFORM_REPLACE,
};

/*
 * messages is borrowed for as long as the transform lives; upstream_max is the
 * longest message of the vendor, or 0.  *ret is NULL where nothing is to be
 * read.  ERR_PROTO for rules of a pin that are none.
 */
enum err transform_new(const struct wire_messages *messages,
    uint64_t upstream_max, struct transform **ret,
    struct diag *diag) MUST_CHECK;
void transform_free(struct transform *transform); /* NULL is allowed */

/* What becomes of this peer's messages. */
enum transform_mode transform_mode(const struct transform *transform,
    enum cause_side from);

/* The most that this peer can get beyond what was read of the other at once. */
size_t transform_extra_bytes(const struct transform *transform,
    enum cause_side to);

/* The most that it makes for this peer of what the same peer sends. */
size_t transform_insert_bytes(const struct transform *transform,
    enum cause_side to);

/* Before anything else: what the vendor must get first. */
void transform_start(struct transform *transform, const struct sink *sink);

enum transform_state {
	TRANSFORM_OPEN,
	TRANSFORM_WAITING, /* for the vendor: the client must not be read */
	TRANSFORM_REFUSED, /* it does not take the session */
};

enum transform_state transform_state(const struct transform *transform);

/* Of a vendor that refused: which member of the session it was, or "". */
const char *transform_refused_param(const struct transform *transform);

/* When the vendor ends the session, as it said last, since 1970; 0: it did not.
 */
int64_t transform_expires_at(const struct transform *transform);

/* Of the client's events so far, those with audio left out. */
uint64_t transform_input_bytes(const struct transform *transform);

/* Where the client's responses wait; NULL: they do not. */
struct gate *transform_gate(struct transform *transform);

/* Whether a message to the vendor has begun and has not ended. */
bool transform_in_message(const struct transform *transform);

/* Whether the client understands an event in the manner of OpenAI's. */
bool transform_speaks_events(const struct transform *transform);

/* A data message of this peer begins. */
void transform_begin(struct transform *transform, enum cause_side from,
    enum ws_opcode opcode);

/*
 * A piece of it, unmasked; the last one may be empty.  Where the direction is
 * replaced, data may be written to, and so may the WS_HEADER_MAX_BYTES in front
 * of it, for as long as the call lasts.  Answers why the message must not go
 * on, a static text (close 1008, or as flow.h says), or NULL.
 */
const char *transform_feed(struct transform *transform, enum cause_side from,
    uint8_t *data, size_t len, bool last, const struct sink *sink);

/* Whether the rest of the message of this peer would tell it anything. */
bool transform_wants_more(const struct transform *transform,
    enum cause_side from);

#endif
