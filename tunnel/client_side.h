/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_CLIENT_SIDE_H
#define TUNNEL_CLIENT_SIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire.h"
#include "common/ws_frame.h"
#include "tunnel/gate.h"
#include "tunnel/held.h"
#include "tunnel/sink.h"

/*
 * client_side: the client's messages on their way to the vendor, as a transform
 * sees them.  Pure.
 *
 * They are read alone, while they pass, or replaced: where the client may not
 * say all (a pin, a budget) or speaks otherwise than the vendor (a form).  What
 * is replaced is held until it is known to be allowed; of what its type decides
 * CLIENT_SIDE_HOLD_BYTES, of the rest all of it, up to a maximum.
 */
struct client_side;

#define CLIENT_SIDE_HOLD_BYTES (64 * 1024)
#define CLIENT_SIDE_TYPE_BYTES 128 /* with the NUL; longer is no type */

enum client_side_form {
	CLIENT_SIDE_VENDOR, /* it speaks as the vendor does */
	CLIENT_SIDE_BETA,   /* see dialect.h */
	CLIENT_SIDE_TEXT,   /* see text_chat.h */
};

/*
 * messages is borrowed; a message that has to be held whole has at most
 * max_bytes.  ERR_PROTO for rules of a pin that are none.
 */
enum err client_side_new(const struct wire_messages *messages, size_t max_bytes,
    struct client_side **ret, struct diag *diag) MUST_CHECK;
void client_side_free(struct client_side *side); /* NULL is allowed */

/* Whether the vendor gets nothing but what is made here. */
bool client_side_is_replaced(const struct client_side *side);

enum client_side_form client_side_form(const struct client_side *side);

/* As it was made. */
size_t client_side_max_bytes(const struct client_side *side);

/* Of the client's events so far, those with audio left out. */
uint64_t client_side_input_bytes(const struct client_side *side);

/* Where responses wait; NULL: they do not. */
struct gate *client_side_gate(struct client_side *side);

/* Whether a message to the vendor has begun and has not ended. */
bool client_side_in_message(const struct client_side *side);

/* The type of the event under way; false where none is known. */
bool client_side_get_type(const struct client_side *side,
    char type[CLIENT_SIDE_TYPE_BYTES]);

/* A data message begins. */
void client_side_begin(struct client_side *side, enum ws_opcode opcode);

/* A piece of it, as transform_feed() has it, and with the same answer. */
const char *client_side_feed(struct client_side *side,
    const struct piece *piece, const struct sink *sink);

#endif
