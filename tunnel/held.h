/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_HELD_H
#define TUNNEL_HELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * held: the bytes of one message that cannot go on yet, one run of them, with
 * room for a frame's header in front.  Pure.
 *
 * It grows as needed: whoever adds has compared with a maximum.
 */
struct held {
	uint8_t *memory; /* private */
	size_t size;	 /* private */
	size_t len;	 /* bytes held */
};

/* A piece of a message: WS_HEADER_MAX_BYTES before data can be written to. */
struct piece {
	uint8_t *data;
	size_t len;
	bool last;
};

/* Whether more than max bytes would be held then. */
bool held_exceeds(const struct held *held, size_t len, size_t max);

/* Add a copy; there will not be more than max bytes. */
void held_add(struct held *held, const void *data, size_t len, size_t max);

/* All that is held, borrowed; none of it need be. */
struct piece held_peek(const struct held *held);

/*
 * All of a message of which this piece is the last: the piece itself where
 * nothing is held, so that a message that comes whole is not copied.
 */
struct piece held_complete(struct held *held, const struct piece *piece,
    size_t max);

/* Clear and free what is held. */
void held_drop(struct held *held);

#endif
