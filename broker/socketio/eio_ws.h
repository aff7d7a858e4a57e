/* SPDX-License-Identifier: MIT */
#ifndef BROKER_EIO_WS_H
#define BROKER_EIO_WS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/loop.h"

/*
 * eio_ws: our end of a WebSocket (RFC 6455, the server's side), from the first
 * frame on, in a loop.
 *
 * Fragments are put together, texts are UTF-8, pings are answered, and a peer
 * that breaks the protocol is told with which code (7.4.1) and left.
 */
struct eio_ws;

struct eio_ws_events {
	/* A whole message, borrowed.  Every call is allowed in it. */
	void (*message)(void *arg, bool binary, const void *data, size_t len);
	/*
	 * Once, last, and not after eio_ws_close(): the peer has closed or is
	 * lost, or (error) has broken the protocol.  It goes by itself.
	 */
	void (*closed)(void *arg, bool error);
};

/*
 * Serve a non-blocking stream socket, which is the callee's.  max_message:
 * bytes of a message that is taken; max_queue: bytes that may wait.
 */
struct eio_ws *eio_ws_new(struct loop *loop, int fd, size_t max_message,
    size_t max_queue, const struct eio_ws_events *events, void *arg);

/* From now on call these. */
void eio_ws_bind(struct eio_ws *ws, const struct eio_ws_events *events,
    void *arg);

/*
 * Send a message: a copy, with `prefix' in front of it unless it is 0.  False
 * where there is no room in the queue.  No event comes in this call.
 */
bool eio_ws_send(struct eio_ws *ws, bool binary, char prefix, const void *data,
    size_t len) MUST_CHECK;

/*
 * Send what waits and a close frame (code 0: an empty one).  There are no
 * more events; it waits for its peer a few seconds, and frees itself.
 */
void eio_ws_close(struct eio_ws *ws, int code);

/* Close those that still wait for their peers, at once: the loop is to end. */
void eio_ws_drop_all(void);

#endif
