/* SPDX-License-Identifier: MIT */
#ifndef BROKER_EIO_SESSION_H
#define BROKER_EIO_SESSION_H

#include <stdbool.h>
#include <stddef.h>

#include "broker/http/parked.h"
#include "broker/socketio/eio_info.h"
#include "broker/socketio/eio_server.h"
#include "common/err.h"

/*
 * eio_session: one connection of Engine.IO 4, in the hub's thread: its
 * transport, its upgrade, its pings and its end.
 * https://socket.io/docs/v4/engine-io-protocol/
 */
struct eio; /* gone after closed() */

struct eio_events { /* in the hub's thread */
	void (*opened)(void *arg, struct eio *eio);
	void (*message)(void *arg, struct eio *eio, bool binary,
	    const void *data, size_t len);
	/*
	 * Once, last.  reason as npm socket.io has it: "transport close",
	 * "transport error", "ping timeout", "parse error", "forced close",
	 * "server shutting down".
	 */
	void (*closed)(void *arg, struct eio *eio, const char *reason);
};

/* ---- for applications ------------------------------------------------------
 */

/* What its handshake said; borrowed. */
const struct eio_info *eio_info(const struct eio *eio);
void eio_set_data(struct eio *eio, void *data);
void *eio_data(const struct eio *eio);

/*
 * Send a message; a copy waits until the transport takes it.  Who does not
 * take what waits (4 times max_payload, at least 1 MiB) is closed.  No event
 * comes in this call.
 */
void eio_send(struct eio *eio, bool binary, const void *data, size_t len);

/*
 * Close it, after what waits has been sent; closed() comes later.  reason is
 * static.
 */
void eio_close(struct eio *eio, const char *reason);

/* ---- for engineio: what comes from a client --------------------------------
 *
 * A `sid' need not be one (any more): then the answer is a refusal.  The
 * strings of info, sockets and parked requests are the callee's.
 */

/* The handshake: of polling, which is answered, or with an open WebSocket. */
void eio_session_open_polling(struct eio_server *server,
    const struct eio_info *info, struct parked *poll);
void eio_session_open_websocket(struct eio_server *server,
    const struct eio_info *info, int fd);

/* A WebSocket that may take a session's polling over. */
void eio_session_probe(struct eio_server *server, const char *sid, int fd);

/* A poll, which waits for something to be sent. */
void eio_session_poll(struct eio_server *server, const char *sid,
    struct parked *poll);

/*
 * The next packets of a payload, which is changed: *ret_used bytes.  Not all
 * at once, so that one client does not keep the others waiting.  ERR_NOTFOUND
 * where nobody polls under this sid, ERR_PROTO where it was bad: the session is
 * gone then.
 */
enum err eio_session_post(struct eio_server *server, const char *sid,
    char *payload, size_t len, size_t *ret_used) MUST_CHECK;

/* A request was so bad that its session ends. */
void eio_session_fail(struct eio_server *server, const char *sid);

/* End them all ("server shutting down"). */
void eio_session_end_all(struct eio_server *server);

#endif
