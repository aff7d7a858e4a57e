/* SPDX-License-Identifier: MIT */
#ifndef SIM_FRONT_H
#define SIM_FRONT_H

#include "http.h"
#include "routes.h"
#include "ws.h"

/*
 * front: the ports.  It reads each connection's first request head, notes it
 * in the journal, does what has to be done before a handshake (delays and
 * refusals) and hands the connection to libwebsockets, to libmicrohttpd or to
 * the raw vendor.  The first two get the socket with the head still in it, or
 * where it is TLS the end of a local socket pair.
 */
struct front;

enum port {
	PORT_WS,
	PORT_HTTP,
	PORT_RAW,
	PORT_WSS,
	PORT_HTTPS,
	PORT_COUNT,
};

/* Listen and serve, in threads of its own.  The arguments are borrowed. */
enum err front_new(const struct routes *routes, struct ws *ws,
    struct http *http, struct front **ret, struct diag *diag) MUST_CHECK;

/* The port's number; 0 where it is not open. */
int front_port(const struct front *front, enum port port);

/* Stop listening and end the connections that were not handed over. */
void front_free(struct front *front);

#endif
