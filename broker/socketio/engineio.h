/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ENGINEIO_H
#define BROKER_ENGINEIO_H

#include <jansson.h>
#include <stdbool.h>

#include "broker/config/config.h"
#include "broker/http/request.h"
#include "broker/socketio/eio_session.h"
#include "broker/tunnels/target.h"
#include "common/err.h"
#include "common/wire.h"

/*
 * engineio: connections of Engine.IO 4 over polling and WebSocket, in the
 * hub's thread.
 *
 * A poll that waits is a parked request.  A WebSocket comes from the tunnel as
 * a connected socket that carries the client's frames as they are: the relay
 * has the broker as its upstream.  A peer's mistake ends its connection.
 */
/*
 * A server for a path ("/socket.io/"); config names its timing.  At most a few
 * in a process, found by their path: NULL where there are too many.  The hub
 * runs.
 */
struct eio_server *eio_server_new(const char *path,
    const struct config_socketio *config, const struct eio_events *events,
    void *arg);

/* Close all of it ("server shutting down") and free; from any thread. */
void eio_server_free(struct eio_server *server);

/* The route: GET and POST of a server's path. */
void eio_handle(struct request *req);

/* ---- for tunnels, in the control server's thread ---------------------------
 */

/* Whether a server has this path. */
bool eio_takes(const char *path);

/*
 * May a WebSocket be opened: protocol and transport are right, and the session,
 * if one is named, is there?  ERR_PROTO otherwise, and *ret_body is
 * {"code","message"} in npm engine.io's words: the caller decrefs it.
 * ERR_UNAVAIL or ERR_RATE where there are as many sessions as may be, of all or
 * of this address.
 */
enum err eio_may_open(const struct target *target, const char *address,
    json_t **ret_body, struct diag *diag) MUST_CHECK;

/*
 * A WebSocket is open: fd, which is the callee's, is a non-blocking stream
 * socket with the client's frames (masked, RFC 6455 5).  What cannot be
 * opened any more is closed.  headers are the request's.
 */
void eio_open(const struct config *config, const struct target *target,
    const struct wire_headers *headers, const char *address, int fd);

#endif
