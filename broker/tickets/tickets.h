/* SPDX-License-Identifier: MIT */
#ifndef BROKER_TICKETS_H
#define BROKER_TICKETS_H

#include "broker/http/request.h"

/*
 * tickets: POST /api/tickets: a ticket (broker/tickets/ticket.h) for any route.
 *
 *   {"route", "seconds"?, "bind_address"?, "model"?, "session"?}
 *   -> 200 {"ticket", "expires_at", "route", "once", "url"?}
 *
 * route is a relay's name or path, or "chat", "socket.io", "anam", "livekit",
 * as configured.  A ticket has the user of who asks, and is bound to the
 * request's Origin where it has one.  Nobody who is not known gets one for a
 * route that is not for those either.  url is where a WebSocket goes to, with
 * the ticket in it.
 */
request_handler tickets_handle;

#endif
