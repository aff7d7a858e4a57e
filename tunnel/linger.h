/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_LINGER_H
#define TUNNEL_LINGER_H

#include <stddef.h>

#include "common/loop.h"
#include "tunnel/stream.h"

/*
 * linger: the end of a connection.
 *
 * Sends what is left to be sent, and reads and discards until the peer has
 * closed too, for two seconds at most: closing a socket that still has bytes
 * to be read resets the connection, and the peer could lose our last words.
 */
enum linger_kind {
	LINGER_SERVER, /* we close first (RFC 6455 7.1.1) */
	LINGER_CLIENT, /* the peer is the server and closes first */
};

struct linger;
typedef void (*linger_done)(void *arg);

/*
 * Take the stream and its watch, and a copy of data.  done comes once, never
 * inside this call; the linger has been freed then.
 */
struct linger *linger_start(struct loop *loop, struct stream *stream,
    struct loop_watch *watch, enum linger_kind kind, const void *data,
    size_t len, linger_done done, void *arg);

/* Give up; done is not called.  NULL is allowed. */
void linger_free(struct linger *linger);

#endif
